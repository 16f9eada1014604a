//! One peer connection, as the program handles it.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use str0m::Candidate;
use str0m::media::{Direction, MediaKind, Mid};

use crate::audio::input::{AudioInput, AudioPacket, AudioSending, AudioTarget};
use crate::audio::receiver::AudioReceiver;
use crate::audio::sink::{AudioFormat, AudioRing, HARD_LIMIT_MS, SinkFeed};
use crate::connection::Connection;
use crate::engine::EngineShared;
use crate::error::PeerError;
use crate::event::{Event, Id};
use crate::negotiate::NewSection;
use crate::sockets::Socket;
use crate::stats::PeerSnapshot;
use crate::{lock, sdp};

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;

/// What the engine's thread, codec threads and the program share of a peer.
pub(crate) struct PeerShared {
    pub id: Id,
    pub engine: Arc<EngineShared>,
    pub sockets: Vec<Socket>,
    /// When the session wants to be driven, in engine time.
    pub deadline: AtomicU64,
    connection: Mutex<Connection>,
    closed: AtomicBool,
}

impl PeerShared {
    pub fn new(id: Id, engine: Arc<EngineShared>, sockets: Vec<Socket>) -> Self {
        let connection = Connection::new(id, engine.events.clone(), &engine.certificate, &sockets, Instant::now());
        Self {
            id,
            engine,
            sockets,
            deadline: AtomicU64::new(0),
            connection: Mutex::new(connection),
            closed: AtomicBool::new(false),
        }
    }

    /// Change the connection and drain it. A panic in the session is the end of this peer and of nothing else.
    pub fn with<R>(&self, change: impl FnOnce(&mut Connection, Instant) -> Result<R, PeerError>) -> Result<R, PeerError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(PeerError::closed());
        }
        let mut connection = lock(&self.connection);
        if connection.rtc.is_none() {
            return Err(PeerError::closed());
        }
        let now = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(|| {
            let result = change(&mut connection, now);
            (result, connection.drive(now, &self.sockets))
        }));
        let (result, driven) = match done {
            Ok(done) => done,
            Err(_) => (Err(PeerError::state("the session failed internally")), Err("the session failed internally".into())),
        };
        match driven {
            Ok(deadline) => self.set_deadline(deadline),
            Err(reason) => {
                let receivers = connection.take_receivers();
                connection.rtc = None;
                drop(connection);
                self.set_deadline(None);
                self.unregister();
                receivers.iter().for_each(|receiver| receiver.end());
                if !self.closed.load(Ordering::Acquire) {
                    self.engine.events.push(Event::Failed(self.id, reason));
                }
            }
        }
        result
    }

    /// Look without draining.
    fn view<R>(&self, look: impl FnOnce(&mut Connection) -> R) -> R {
        look(&mut lock(&self.connection))
    }

    fn set_deadline(&self, deadline: Option<Instant>) {
        let deadline = deadline.map_or(NEVER, |at| self.engine.micros(at));
        self.deadline.store(deadline, Ordering::SeqCst);
        self.engine.note_deadline(deadline);
    }

    /// Datagrams of one wake-up, read from socket `index` until it is empty or the thread owes others its time.
    pub fn receive(&self, index: usize, buf: &mut [u8]) {
        const BATCH: usize = 32;
        let Some(socket) = self.sockets.get(index) else { return };
        for _ in 0..BATCH {
            let (len, source): (usize, SocketAddr) = match socket.socket.recv_from(buf) {
                Ok(received) => received,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let datagram = &buf[..len];
            if self.with(|connection, now| connection.receive(now, source, socket.address, datagram)).is_err()
                && self.view(|connection| connection.rtc.is_none())
            {
                return;
            }
        }
    }

    fn unregister(&self) {
        for socket in &self.sockets {
            self.engine.unwatch(socket.socket.as_raw_fd());
        }
        self.engine.forget(self.id);
    }

    pub fn close(&self) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let mut receivers = Vec::new();
        // Says goodbye; that it cannot be said does not matter any more.
        let _ = self.with(|connection, _| {
            receivers = connection.take_receivers();
            connection.rtc()?.close().map_err(|error| PeerError::state(error.to_string()))
        });
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.view(|connection| {
            receivers.extend(connection.take_receivers());
            connection.rtc = None;
        });
        self.set_deadline(None);
        self.unregister();
        receivers.iter().for_each(|receiver| receiver.end());
    }
}

/// A section that sends an audio input.
struct AudioSection {
    peer: Weak<PeerShared>,
    mid: Mid,
    muted: AtomicBool,
    removed: AtomicBool,
}

impl AudioTarget for AudioSection {
    fn send(&self, packet: AudioPacket<'_>) -> bool {
        let Some(peer) = self.peer.upgrade() else { return false };
        if self.removed.load(Ordering::Relaxed) || peer.closed.load(Ordering::Acquire) {
            return false;
        }
        if !self.muted.load(Ordering::Relaxed) {
            // A failed write is a lost packet; a failed peer has said so.
            let _ = peer.with(|connection, _| connection.write_audio(self.mid, packet));
        }
        true
    }
}

/// A sending section as the peer remembers it.
enum Sending {
    Audio(Arc<AudioSection>),
}

impl Sending {
    fn mid(&self) -> Mid {
        match self {
            Self::Audio(section) => section.mid,
        }
    }
}

/// One peer connection. Closed when dropped.
pub struct Peer {
    shared: Arc<PeerShared>,
    sending: Mutex<Vec<Sending>>,
}

impl Peer {
    pub(crate) fn new(shared: Arc<PeerShared>) -> Self {
        Self { shared, sending: Mutex::default() }
    }

    pub fn id(&self) -> Id {
        self.shared.id
    }

    /// Recvonly sections in the next offer. Returns their mids.
    pub fn add_receive(&self, kind: MediaKind, count: usize) -> Result<Vec<String>, PeerError> {
        self.shared.with(|connection, _| {
            let section =
                NewSection { kind, direction: Direction::RecvOnly, stream_id: None, track_id: None, simulcast: None };
            (0..count).map(|_| connection.add_section(section.clone()).map(|mid| mid.to_string())).collect()
        })
    }

    pub fn add_data_channel(&self, label: &str, ordered: bool, max_retransmits: Option<u16>) -> Result<(), PeerError> {
        self.shared.with(|connection, _| {
            connection.negotiation.add_channel(label, ordered, max_retransmits);
            Ok(())
        })
    }

    /// A sendonly Opus section (`a=msid:stream_id cid`) in the next offer. Returns its mid.
    pub fn send_audio(
        &self,
        source: &Arc<AudioInput>,
        cid: &str,
        stream_id: &str,
        bitrate: u32,
        dtx: bool,
        red: bool,
    ) -> Result<String, PeerError> {
        let mid = self.shared.with(|connection, _| {
            let mid = connection.add_section(NewSection {
                kind: MediaKind::Audio,
                direction: Direction::SendOnly,
                stream_id: Some(stream_id.to_owned()),
                track_id: Some(cid.to_owned()),
                simulcast: None,
            })?;
            connection.negotiation.set_red(mid, red);
            Ok(mid)
        })?;
        let section = Arc::new(AudioSection {
            peer: Arc::downgrade(&self.shared),
            mid,
            muted: AtomicBool::new(false),
            removed: AtomicBool::new(false),
        });
        source.attach(section.clone(), AudioSending { bitrate, dtx })?;
        lock(&self.sending).push(Sending::Audio(section));
        Ok(mid.to_string())
    }

    /// Stop a section (inactive in the next offer).
    pub fn remove_send(&self, mid: &str) -> Result<(), PeerError> {
        let mut sending = lock(&self.sending);
        let Some(index) = sending.iter().position(|section| section.mid().to_string() == mid) else {
            return Err(PeerError::invalid(format!("section {mid:?} does not send")));
        };
        let section = sending.swap_remove(index);
        drop(sending);
        match &section {
            Sending::Audio(section) => section.removed.store(true, Ordering::Relaxed),
        }
        self.shared.with(|connection, _| {
            connection.negotiation.stop(section.mid());
            Ok(())
        })
    }

    pub fn set_send_muted(&self, mid: &str, muted: bool) -> Result<(), PeerError> {
        let sending = lock(&self.sending);
        match sending.iter().find(|section| section.mid().to_string() == mid) {
            Some(Sending::Audio(section)) => section.muted.store(muted, Ordering::Relaxed),
            None => return Err(PeerError::invalid(format!("section {mid:?} does not send"))),
        }
        Ok(())
    }

    pub fn create_offer(&self, ice_restart: bool) -> Result<String, PeerError> {
        self.shared.with(|connection, _| connection.create_offer(ice_restart))
    }

    pub fn set_answer(&self, sdp: &str) -> Result<(), PeerError> {
        self.shared.with(|connection, _| connection.set_answer(sdp))
    }

    pub fn accept_offer(&self, sdp: &str) -> Result<String, PeerError> {
        self.shared.with(|connection, _| connection.accept_offer(sdp))
    }

    /// `candidate:...` as in SDP. What cannot be used (mDNS, TCP) is ignored.
    pub fn add_candidate(&self, candidate: &str) -> Result<(), PeerError> {
        let Some(usable) = sdp::usable_candidate(candidate) else { return Ok(()) };
        let Ok(candidate) = Candidate::from_sdp_string(usable) else { return Ok(()) };
        self.shared.with(|connection, _| {
            connection.rtc()?.add_remote_candidate(candidate);
            Ok(())
        })
    }

    /// Attach a sink to a receiving section. `capacity` in frames, the oldest are dropped when it is full; 0: what 10 s
    /// hold.
    pub fn receive_audio(&self, mid: &str, format: AudioFormat, capacity: usize) -> Result<AudioSink, PeerError> {
        format.check()?;
        let hard_limit = HARD_LIMIT_MS / format.frame_ms as usize;
        let capacity = if capacity == 0 { hard_limit } else { capacity.min(hard_limit) };
        let engine = &self.shared.engine;
        let ring = Arc::new(AudioRing::new(engine.next_id(), capacity, Event::Audio, engine.events.clone()));
        let mid = Mid::from(mid);
        let receiver = self.shared.with(|connection, _| {
            let known = connection.rtc()?.media(mid).map(|media| media.kind());
            match known {
                Some(MediaKind::Audio) => {}
                Some(MediaKind::Video) => return Err(PeerError::invalid(format!("section {mid} is not audio"))),
                None if connection.negotiation.knows(mid) => {}
                None => return Err(PeerError::invalid(format!("there is no section {mid}"))),
            }
            Ok(connection.audio_receiver(mid, &engine.pool))
        })?;
        receiver.attach(SinkFeed::new(ring.clone(), format));
        Ok(AudioSink { ring, receiver })
    }

    /// Queue a binary message. Returns the bytes that wait on the channel after it.
    pub fn send(&self, label: &str, payload: &[u8]) -> Result<usize, PeerError> {
        self.shared.with(|connection, _| {
            let rtc = connection.rtc.as_mut().ok_or_else(PeerError::closed)?;
            connection.data.send(label, payload, rtc)
        })
    }

    pub fn buffered(&self, label: &str) -> usize {
        self.shared.view(|connection| match connection.rtc.as_mut() {
            Some(rtc) => connection.data.buffered(label, rtc),
            None => 0,
        })
    }

    pub fn stats(&self) -> PeerSnapshot {
        self.shared.view(|connection| {
            let mut snapshot = connection.stats.snapshot.clone();
            for (mid, receiver) in connection.audio_receivers() {
                let section = snapshot.sections.entry(mid.to_string()).or_default();
                section.concealed_ms = receiver.concealed_ms();
                section.lost = receiver.jitter_stats().lost;
                section.codec = "opus".into();
            }
            snapshot
        })
    }

    /// Say goodbye and drop everything; sinks end. Twice is fine.
    pub fn close(&self) {
        self.shared.close();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.close();
    }
}

/// Decoded sound of one section. Detached when dropped.
pub struct AudioSink {
    ring: Arc<AudioRing>,
    receiver: Arc<AudioReceiver>,
}

impl AudioSink {
    pub fn id(&self) -> Id {
        self.ring.id()
    }

    pub fn read(&self) -> std::collections::VecDeque<crate::audio::sink::AudioFrame> {
        self.ring.read()
    }

    /// No more frames; the sink ends.
    pub fn close(&self) {
        self.receiver.detach(&self.ring);
    }
}

impl Drop for AudioSink {
    fn drop(&mut self) {
        self.close();
    }
}
