//! The server half of the module: `MediaServer`.
use std::net::IpAddr;
use std::time::Duration;

use greenroom_forward::{Channel, Command, PeerId, RoomId, TrackId};
use greenroom_shard::{Fault, Server, ServerConfig};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

mod convert;
#[cfg(test)]
mod tests;

/// Seconds without a turn after which a shard counts as stuck, at most.
const MAX_STUCK_AFTER: f64 = 3600.0;
/// Seconds that audio may be kept back, at most: more is worse for a talk than any saving is worth.
const MAX_AUDIO_WAIT: f64 = 0.005;

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<MediaServer>()
}

/// Shard threads that own the UDP sockets and forward media between peers. See `_native.pyi`.
#[pyclass(frozen, module = "greenroom._native")]
struct MediaServer {
    server: Server,
}

#[pymethods]
impl MediaServer {
    #[new]
    #[pyo3(signature = (*, bind, udp_port, shards = 1, stuck_after = 5.0, audio_wait = 0.0))]
    fn new(
        py: Python<'_>,
        bind: Vec<String>,
        udp_port: u16,
        shards: usize,
        stuck_after: f64,
        audio_wait: f64,
    ) -> PyResult<Self> {
        let parse = |text: &String| {
            text.parse::<IpAddr>().map_err(|_| PyValueError::new_err(format!("not an IP address: {text}")))
        };
        let addresses = bind.iter().map(parse).collect::<PyResult<Vec<_>>>()?;
        if addresses.is_empty() || !(1..=256).contains(&shards) {
            return Err(PyValueError::new_err("bind needs at least one address, shards is 1 to 256"));
        }
        if !(0.01..=MAX_STUCK_AFTER).contains(&stuck_after) {
            return Err(PyValueError::new_err("stuck_after is 0.01 to 3600 seconds"));
        }
        if !(0.0..=MAX_AUDIO_WAIT).contains(&audio_wait) {
            return Err(PyValueError::new_err("audio_wait is 0 to 0.005 seconds"));
        }
        let (stuck_after, audio_wait) = (Duration::from_secs_f64(stuck_after), Duration::from_secs_f64(audio_wait));
        let config = ServerConfig { addresses, port: udp_port, shards, stuck_after, audio_wait };
        let server = py.detach(|| Server::start(&config)).map_err(|error| {
            // With the errno, so that Python raises the subclass of OSError that belongs to it.
            let text = format!("cannot open UDP port {udp_port} on {}: {error}", bind.join(", "));
            PyOSError::new_err((error.raw_os_error().unwrap_or(0), text))
        })?;
        Ok(MediaServer { server })
    }

    #[getter]
    fn fingerprint(&self) -> &str {
        self.server.fingerprint()
    }

    #[getter]
    fn event_fd(&self) -> i32 {
        self.server.event_fd()
    }

    fn port(&self, room: u64) -> u16 {
        self.server.port(RoomId(room))
    }

    fn shard_of(&self, room: u64) -> usize {
        self.server.shard_of(RoomId(room))
    }

    fn poll_events<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for event in self.server.poll_events() {
            list.append(convert::event(py, event)?)?;
        }
        Ok(list)
    }

    fn add_peer(&self, peer: u64, room: u64, ufrag: String, pwd: String) {
        self.server.send(Command::AddPeer { peer: PeerId(peer), room: RoomId(room), ufrag, pwd });
    }

    fn set_remote(&self, peer: u64, ufrag: String, pwd: String, fingerprint: &str) -> PyResult<()> {
        let fingerprint = convert::fingerprint(fingerprint)?;
        self.server.send(Command::SetRemote { peer: PeerId(peer), ufrag, pwd, fingerprint });
        Ok(())
    }

    fn start_dtls(&self, peer: u64) {
        self.server.send(Command::StartDtls { peer: PeerId(peer) });
    }

    fn restart_ice(&self, peer: u64, ufrag: String, pwd: String) {
        self.server.send(Command::RestartIce { peer: PeerId(peer), ufrag, pwd });
    }

    fn set_receivers(&self, peer: u64, receivers: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        let receivers = receivers.iter().map(convert::receiver).collect::<PyResult<_>>()?;
        self.server.send(Command::SetReceivers { peer: PeerId(peer), receivers });
        Ok(())
    }

    fn set_senders(&self, peer: u64, senders: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        let senders = senders.iter().map(convert::sender).collect::<PyResult<_>>()?;
        self.server.send(Command::SetSenders { peer: PeerId(peer), senders });
        Ok(())
    }

    #[pyo3(signature = (peer, max_message_size, channels = Vec::new()))]
    fn set_data(&self, peer: u64, max_message_size: usize, channels: Vec<(String, bool, Option<u16>)>) {
        let channel = |(label, ordered, max_retransmits)| Channel { label, ordered, max_retransmits };
        let channels = channels.into_iter().map(channel).collect();
        self.server.send(Command::SetData { peer: PeerId(peer), max_message_size, channels });
    }

    #[pyo3(signature = (room, *, top_speakers = None))]
    fn set_room(&self, room: u64, top_speakers: Option<usize>) {
        self.server.send(Command::SetRoom { room: RoomId(room), top_speakers });
    }

    fn set_muted(&self, track: u64, muted: bool) {
        self.server.send(Command::SetMuted { track: TrackId(track), muted });
    }

    fn send_data(&self, peers: Vec<u64>, label: &str, payload: &[u8]) {
        let peers = peers.into_iter().map(PeerId).collect();
        self.server.send(Command::SendData { peers, label: label.into(), payload: payload.into() });
    }

    fn remove_peer(&self, peer: u64) {
        self.server.send(Command::RemovePeer { peer: PeerId(peer) });
    }

    fn request_keyframe(&self, track: u64) {
        self.server.send(Command::RequestKeyframe { track: TrackId(track) });
    }

    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, value) in self.server.metrics() {
            dict.set_item(name, value)?;
        }
        Ok(dict)
    }

    fn peer_stats<'py>(&self, py: Python<'py>, peer: u64) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.server.peer_stats(PeerId(peer)).map(|stats| convert::stats(py, &stats)).transpose()
    }

    #[pyo3(signature = (shard, fault, seconds = 0.0))]
    fn _inject_fault(&self, shard: usize, fault: &str, seconds: f64) -> PyResult<()> {
        let fault = match fault {
            "panic" => Fault::Panic,
            "die" => Fault::Die,
            "stall" if (0.0..=MAX_STUCK_AFTER).contains(&seconds) => Fault::Stall(Duration::from_secs_f64(seconds)),
            _ => return Err(PyValueError::new_err(format!("no such fault: {fault} {seconds}"))),
        };
        self.server.inject(shard, fault);
        Ok(())
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.server.close());
    }
}
