//! The load generator of the benchmarks (`bench/`): many small peers in one native thread.

use std::sync::Mutex;

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use greenroom_codecs::CodecError;
use greenroom_codecs::opus::{Encoder, EncoderSettings};
use greenroom_load::engine::Closed;
use greenroom_load::ice::Credentials;
use greenroom_load::{
    CameraSpec, Codec, Engine, Media, Pace, PeerStats, ReceiveStats, Reception, Remote, SourceSpec, SourceStats,
};

use crate::peer::buffer::Bytes;

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<LoadEngine>()?;
    m.add_function(wrap_pyfunction!(opus_packets, m)?)
}

#[pyclass(module = "greenroom._native", frozen)]
struct LoadEngine {
    engine: Engine,
    /// SSRCs of published streams have to differ within the process; the numbers themselves mean nothing.
    next_ssrc: Mutex<u32>,
}

fn closed(_: Closed) -> PyErr {
    PyRuntimeError::new_err("the load engine is closed")
}

#[pymethods]
impl LoadEngine {
    #[new]
    #[pyo3(signature = (*, coalesce = true))]
    fn new(py: Python<'_>, coalesce: bool) -> PyResult<Self> {
        let engine = py.detach(|| Engine::new(coalesce)).map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Self { engine, next_ssrc: Mutex::new(0x1000_0000) })
    }

    #[getter]
    fn fingerprint(&self) -> String {
        format!("sha-256 {}", self.engine.fingerprint())
    }

    fn new_ssrc(&self) -> u32 {
        let mut next = self.next_ssrc.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *next = next.wrapping_add(0x0001_0001);
        *next
    }

    fn add_peer(&self, py: Python<'_>) -> PyResult<(u64, String, String)> {
        let (id, Credentials { ufrag, pwd }) = py.detach(|| self.engine.add_peer()).map_err(closed)?;
        Ok((id, ufrag, pwd))
    }

    #[pyo3(signature = (peer, address, ufrag, pwd, fingerprint, *, controlling, dtls_client))]
    #[allow(clippy::too_many_arguments, reason = "the seam's keywords")]
    fn connect(
        &self,
        py: Python<'_>,
        peer: u64,
        address: &str,
        ufrag: String,
        pwd: String,
        fingerprint: &str,
        controlling: bool,
        dtls_client: bool,
    ) -> PyResult<()> {
        let address = address.parse().map_err(|_| PyValueError::new_err(format!("{address:?} is not IP:PORT")))?;
        let digits = fingerprint.trim().strip_prefix("sha-256 ").unwrap_or(fingerprint);
        let fingerprint = digits.parse().map_err(|_| PyValueError::new_err("not a SHA-256 fingerprint"))?;
        let credentials = Credentials { ufrag, pwd };
        let remote = Remote { address, credentials, fingerprint, controlling, dtls_client };
        py.detach(|| self.engine.connect(peer, remote))
            .map_err(closed)?
            .map_err(|error| PyOSError::new_err(error.to_string()))
    }

    #[pyo3(signature = (peer, codecs, *, repairs = vec![], twcc_id = None, remb_bps = None))]
    fn set_reception(
        &self,
        py: Python<'_>,
        peer: u64,
        codecs: Vec<(u8, u32, Option<u8>, bool)>,
        repairs: Vec<(u32, u32)>,
        twcc_id: Option<u8>,
        remb_bps: Option<u64>,
    ) -> PyResult<()> {
        let codecs = codecs.into_iter().map(|(pt, clock, apt, nack)| (pt, Codec { clock, apt, nack })).collect();
        let reception = Reception { codecs, repairs, twcc_id, remb_bps };
        py.detach(|| self.engine.set_reception(peer, reception)).map_err(closed)
    }

    #[pyo3(signature = (peer, ssrc, payload_type, payloads, *, level = 30, stamp = false, mid = None, level_id = None, twcc_id = None))]
    #[allow(clippy::too_many_arguments, reason = "the seam's keywords")]
    fn publish_audio(
        &self,
        py: Python<'_>,
        peer: u64,
        ssrc: u32,
        payload_type: u8,
        payloads: Vec<Vec<u8>>,
        level: u8,
        stamp: bool,
        mid: Option<(u8, String)>,
        level_id: Option<u8>,
        twcc_id: Option<u8>,
    ) -> PyResult<()> {
        let media = Media::Audio { payloads, level, stamp };
        self.publish(py, peer, SourceSpec { media, ssrc, payload_type, mid, level_id, twcc_id })
    }

    #[pyo3(signature = (peer, ssrc, payload_type, *, bitrate, frame_rate, packet_len, pace, uplink_bps = 0, mid = None, twcc_id = None))]
    #[allow(clippy::too_many_arguments, reason = "the seam's keywords")]
    fn publish_video(
        &self,
        py: Python<'_>,
        peer: u64,
        ssrc: u32,
        payload_type: u8,
        bitrate: u64,
        frame_rate: u32,
        packet_len: usize,
        pace: &str,
        uplink_bps: u64,
        mid: Option<(u8, String)>,
        twcc_id: Option<u8>,
    ) -> PyResult<()> {
        let pace = match (pace, uplink_bps) {
            ("burst", _) => Pace::Burst,
            ("runs", _) => Pace::Runs,
            ("uplink", 1..) => Pace::Uplink(uplink_bps),
            ("uplink", 0) => return Err(PyValueError::new_err("an uplink needs a rate")),
            _ => return Err(PyValueError::new_err(format!("pace is burst, runs or uplink, not {pace:?}"))),
        };
        let media = Media::Video(CameraSpec { bitrate, frame_rate, packet_len, pace });
        self.publish(py, peer, SourceSpec { media, ssrc, payload_type, mid, level_id: None, twcc_id })
    }

    fn unpublish(&self, py: Python<'_>, peer: u64, ssrc: u32) -> PyResult<()> {
        py.detach(|| self.engine.unpublish(peer, ssrc)).map_err(closed)
    }

    fn remove(&self, py: Python<'_>, peer: u64) -> PyResult<()> {
        py.detach(|| self.engine.remove(peer)).map_err(closed)
    }

    fn mark(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.engine.mark()).map_err(closed)
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = py.detach(|| self.engine.stats()).map_err(closed)?;
        let (dict, peers) = (PyDict::new(py), PyDict::new(py));
        for (id, peer) in &stats.peers {
            peers.set_item(id, peer_dict(py, peer)?)?;
        }
        dict.set_item("peers", peers)?;
        dict.set_item("delay_us", stats.delay_us.map(|[p50, p99, p999]| (p50, p99, p999)))?;
        dict.set_item("frame_delay_us", stats.frame_delay_us.map(|[p50, p99, p999]| (p50, p99, p999)))?;
        dict.set_item("send_failures", stats.send_failures)?;
        dict.set_item("worst_lag_us", stats.worst_lag_us)?;
        Ok(dict)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.engine.close());
    }
}

impl LoadEngine {
    fn publish(&self, py: Python<'_>, peer: u64, spec: SourceSpec) -> PyResult<()> {
        py.detach(|| self.engine.publish(peer, spec)).map_err(closed)?.map_err(PyValueError::new_err)
    }
}

fn peer_dict<'py>(py: Python<'py>, stats: &PeerStats) -> PyResult<Bound<'py, PyDict>> {
    let (dict, received, sent) = (PyDict::new(py), PyDict::new(py), PyDict::new(py));
    for (ssrc, stats) in &stats.received {
        received.set_item(ssrc, received_dict(py, stats)?)?;
    }
    for (ssrc, stats) in &stats.sent {
        sent.set_item(ssrc, sent_dict(py, stats)?)?;
    }
    dict.set_item("connected_ms", stats.connected.map(|time| time.as_secs_f64() * 1000.0))?;
    dict.set_item("failure", stats.failure.as_ref().map(ToString::to_string))?;
    dict.set_item("received", received)?;
    dict.set_item("sent", sent)?;
    dict.set_item("dropped", stats.dropped)?;
    dict.set_item("repairs", stats.repairs)?;
    dict.set_item("channels", stats.channels)?;
    dict.set_item("messages", stats.messages)?;
    Ok(dict)
}

fn received_dict<'py>(py: Python<'py>, stats: &ReceiveStats) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("packets", stats.packets)?;
    dict.set_item("bytes", stats.bytes)?;
    dict.set_item("lost", stats.lost)?;
    dict.set_item("missing", stats.missing)?;
    dict.set_item("late", stats.late)?;
    dict.set_item("duplicates", stats.duplicates)?;
    dict.set_item("nacks", stats.nacks)?;
    dict.set_item("jitter_ms", stats.jitter_ms)?;
    Ok(dict)
}

fn sent_dict<'py>(py: Python<'py>, stats: &SourceStats) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("packets", stats.packets)?;
    dict.set_item("bytes", stats.bytes)?;
    dict.set_item("retransmitted", stats.retransmitted)?;
    dict.set_item("keyframes", stats.keyframes)?;
    dict.set_item("skipped", stats.skipped)?;
    Ok(dict)
}

/// Opus in 20 ms packets, of 48 kHz mono int16 samples; what is left at the end is dropped.
#[pyfunction]
fn opus_packets(py: Python<'_>, pcm: &Bound<'_, PyAny>, bitrate: u32) -> PyResult<Vec<Vec<u8>>> {
    let bytes = Bytes::of(pcm)?;
    let samples = bytes.as_samples()?;
    py.detach(|| encode(&samples, bitrate)).map_err(|error| PyValueError::new_err(error.to_string()))
}

fn encode(samples: &[i16], bitrate: u32) -> Result<Vec<Vec<u8>>, CodecError> {
    let mut encoder = Encoder::new(EncoderSettings { sample_rate: 48_000, channels: 1, bitrate, complexity: 5 })?;
    samples.chunks_exact(encoder.frame_samples()).map(|frame| Ok(encoder.encode(frame)?.to_vec())).collect()
}
