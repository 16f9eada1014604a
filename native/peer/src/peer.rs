//! One peer connection, as the program handles it.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use greenroom_codecs::video::VideoCodec;
use str0m::Candidate;
use str0m::media::{Direction, MediaKind, Mid, Rid, Simulcast, SimulcastLayer};

use crate::audio::input::{AudioInput, AudioPacket, AudioSending, AudioTarget};
use crate::audio::receiver::AudioReceiver;
use crate::audio::sink::{AudioFormat, AudioRing, HARD_LIMIT_MS, SinkFeed};
use crate::connection::{Connection, Receivers, VideoSending};
use crate::engine::EngineShared;
use crate::error::PeerError;
use crate::event::{Event, Id};
use crate::negotiate::NewSection;
use crate::sockets::Socket;
use crate::stats::PeerSnapshot;
use crate::video::input::{VideoInput, VideoLayer, VideoPacket, VideoTarget};
use crate::video::receiver::{VideoFrame, VideoReceiver, VideoRing};
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
                receivers.end();
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
        let mut receivers = Receivers::default();
        // Says goodbye; that it cannot be said does not matter any more.
        let _ = self.with(|connection, _| {
            receivers = connection.take_receivers();
            connection.rtc()?.close().map_err(|error| PeerError::state(error.to_string()))
        });
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.view(|connection| connection.rtc = None);
            self.set_deadline(None);
            self.unregister();
        }
        receivers.end();
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

/// A section that sends a video input.
struct VideoSection {
    peer: Weak<PeerShared>,
    mid: Mid,
    codec: VideoCodec,
    sending: Arc<VideoSending>,
    muted: AtomicBool,
    removed: AtomicBool,
}

impl VideoTarget for VideoSection {
    fn layers_wanted(&self) -> Option<usize> {
        let peer = self.peer.upgrade()?;
        if self.removed.load(Ordering::Relaxed) || peer.closed.load(Ordering::Acquire) {
            return None;
        }
        if self.muted.load(Ordering::Relaxed) {
            return Some(0);
        }
        Some(peer.view(|connection| connection.video_layers_wanted(self.mid, self.codec, self.sending.rids.len())))
    }

    fn take_keyframe_request(&self, layer: usize) -> bool {
        let bit = 1 << layer;
        self.sending.keyframes.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }

    fn send(&self, packet: VideoPacket) {
        let Some(peer) = self.peer.upgrade() else { return };
        let rid = self.sending.rids.get(packet.layer).copied().flatten();
        // A failed write is a lost frame; a failed peer has said so.
        let _ = peer.with(|connection, now| connection.write_video(self.mid, self.codec, rid, packet, now));
    }
}

/// A sending section as the peer remembers it.
enum Sending {
    Audio(Arc<AudioSection>),
    Video(Arc<VideoSection>),
}

impl Sending {
    fn mid(&self) -> Mid {
        match self {
            Self::Audio(section) => section.mid,
            Self::Video(section) => section.mid,
        }
    }

    fn remove(&self) {
        match self {
            Self::Audio(section) => section.removed.store(true, Ordering::Relaxed),
            Self::Video(section) => section.removed.store(true, Ordering::Relaxed),
        }
    }

    fn mute(&self, muted: bool) {
        match self {
            Self::Audio(section) => section.muted.store(muted, Ordering::Relaxed),
            Self::Video(section) => {
                section.muted.store(muted, Ordering::Relaxed);
                // Whoever sees it again needs a key frame.
                section.sending.request(None);
            }
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

    /// A sendonly video section in the next offer. `layers` largest first; one with an empty rid means no simulcast.
    pub fn send_video(
        &self,
        source: &Arc<VideoInput>,
        cid: &str,
        stream_id: &str,
        codec: VideoCodec,
        layers: &[VideoLayer],
    ) -> Result<String, PeerError> {
        if layers.is_empty() || layers.len() > 4 {
            return Err(PeerError::invalid(format!("{} video layers; 1 to 4 are possible", layers.len())));
        }
        let named = layers.iter().filter(|layer| !layer.rid.is_empty()).count();
        if layers.len() > 1 && named != layers.len() {
            return Err(PeerError::invalid("each of several video layers needs a rid"));
        }
        if layers.iter().any(|layer| layer.rid.len() > 8 || !layer.rid.bytes().all(|b| b.is_ascii_alphanumeric())) {
            return Err(PeerError::invalid("a rid is up to 8 letters and digits"));
        }
        let simulcast = (named > 0).then(|| {
            let mut simulcast = Simulcast::new();
            layers.iter().for_each(|layer| simulcast.add_send_layer(SimulcastLayer::new(&layer.rid)));
            simulcast
        });
        let rids = layers.iter().map(|layer| (!layer.rid.is_empty()).then(|| Rid::from(layer.rid.as_str()))).collect();
        let sending =
            Arc::new(VideoSending { input: Arc::downgrade(source), rids, keyframes: AtomicU32::new(u32::MAX) });
        let mid = self.shared.with(|connection, _| {
            let mid = connection.add_section(NewSection {
                kind: MediaKind::Video,
                direction: Direction::SendOnly,
                stream_id: Some(stream_id.to_owned()),
                track_id: Some(cid.to_owned()),
                simulcast,
            })?;
            connection.negotiation.prefer(mid, if codec == VideoCodec::H264 { "H264" } else { "VP8" });
            connection.set_video_sending(mid, sending.clone());
            Ok(mid)
        })?;
        let section = Arc::new(VideoSection {
            peer: Arc::downgrade(&self.shared),
            mid,
            codec,
            sending,
            muted: AtomicBool::new(false),
            removed: AtomicBool::new(false),
        });
        source.attach(section.clone(), codec, layers);
        lock(&self.sending).push(Sending::Video(section));
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
        section.remove();
        self.shared.with(|connection, _| {
            connection.negotiation.stop(section.mid());
            Ok(())
        })
    }

    pub fn set_send_muted(&self, mid: &str, muted: bool) -> Result<(), PeerError> {
        let sending = lock(&self.sending);
        match sending.iter().find(|section| section.mid().to_string() == mid) {
            Some(section) => section.mute(muted),
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
            check_section(connection, mid, MediaKind::Audio)?;
            Ok(connection.audio_receiver(mid, &engine.pool))
        })?;
        receiver.attach(SinkFeed::new(ring.clone(), format));
        Ok(AudioSink { ring, receiver })
    }

    /// Attach a sink to a receiving video section. `capacity` in frames, the oldest are dropped; 0: what a slow reader
    /// may still want, a third of a second.
    pub fn receive_video(&self, mid: &str, capacity: usize) -> Result<VideoSink, PeerError> {
        let capacity = if capacity == 0 { 10 } else { capacity.min(120) };
        let engine = &self.shared.engine;
        let ring = Arc::new(VideoRing::new(engine.next_id(), capacity, Event::Video, engine.events.clone()));
        let mid = Mid::from(mid);
        let peer = Arc::downgrade(&self.shared);
        let receiver = self.shared.with(|connection, _| {
            check_section(connection, mid, MediaKind::Video)?;
            Ok(connection.video_receiver(mid, || {
                let request = move || {
                    let Some(peer) = peer.upgrade() else { return };
                    // A closed peer needs no key frame.
                    let _ = peer.with(|connection, _| {
                        connection.request_keyframe(mid);
                        Ok(())
                    });
                };
                VideoReceiver::new(&engine.pool, Box::new(request))
            }))
        })?;
        receiver.attach(ring.clone());
        Ok(VideoSink { ring, receiver })
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
        self.shared.view(Connection::snapshot)
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

/// Decoded pictures of one section. Detached when dropped.
pub struct VideoSink {
    ring: Arc<VideoRing>,
    receiver: Arc<VideoReceiver>,
}

impl VideoSink {
    pub fn id(&self) -> Id {
        self.ring.id()
    }

    pub fn read(&self) -> std::collections::VecDeque<VideoFrame> {
        self.ring.read()
    }

    /// No more frames; the sink ends.
    pub fn close(&self) {
        self.receiver.detach(&self.ring);
    }
}

impl Drop for VideoSink {
    fn drop(&mut self) {
        self.close();
    }
}

fn check_section(connection: &mut Connection, mid: Mid, wanted: MediaKind) -> Result<(), PeerError> {
    match connection.rtc()?.media(mid).map(|media| media.kind()) {
        Some(kind) if kind == wanted => Ok(()),
        Some(_) => Err(PeerError::invalid(format!("section {mid} carries the other kind of media"))),
        None if connection.negotiation.knows(mid) => Ok(()),
        None => Err(PeerError::invalid(format!("there is no section {mid}"))),
    }
}
