//! One peer connection, as the program handles it.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use greenroom_codecs::video::VideoCodec;
use str0m::media::{Direction, MediaKind, Mid, Rid, Simulcast, SimulcastLayer};
use str0m::{Candidate, Rtc};

use crate::audio::input::{AudioInput, AudioSending};
use crate::audio::sink::{AudioFormat, AudioRing, HARD_LIMIT_MS, SinkFeed};
use crate::connection::{Connection, VideoSending};
use crate::encoded::frame::{EncodedRing, MAX_WAITING_BYTES};
use crate::encoded::receiver::EncodedReceiver;
use crate::error::PeerError;
use crate::event::{Event, Id};
use crate::negotiate::{Negotiation, NewSection};
use crate::sending::{AudioSection, Sending, VideoSection};
use crate::shared::PeerShared;
use crate::sinks::{AudioSink, EncodedSink, VideoSink};
use crate::stats::PeerSnapshot;
use crate::video::input::{VideoInput, VideoLayer};
use crate::video::receiver::{VideoReceiver, VideoRing};
use crate::{lock, sdp};

/// Where a track goes out.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// A section of its own in the next offer, which may receive too.
    New { receive: bool },
    /// The section of that mid: one that exists and sends nothing, or one that the offer brings which is accepted next.
    At(&'a str),
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

    fn negotiate<R>(
        &self,
        change: impl FnOnce(&mut Negotiation, &mut Rtc) -> Result<R, PeerError>,
    ) -> Result<R, PeerError> {
        self.shared.with(|connection, _| {
            let (rtc, negotiation) = connection.negotiating()?;
            change(negotiation, rtc)
        })
    }

    /// Recvonly sections in the next offer. Returns their mids.
    pub fn add_receive(&self, kind: MediaKind, count: usize) -> Result<Vec<String>, PeerError> {
        self.negotiate(|negotiation, rtc| {
            let section =
                NewSection { kind, direction: Direction::RecvOnly, stream_id: None, track_id: None, simulcast: None };
            (0..count).map(|_| negotiation.add_section(rtc, section.clone()).map(|mid| mid.to_string())).collect()
        })
    }

    /// Opened with the next negotiation, or at once when there has been one with data channels.
    pub fn add_data_channel(&self, label: &str, ordered: bool, max_retransmits: Option<u16>) -> Result<(), PeerError> {
        self.negotiate(|negotiation, rtc| {
            negotiation.add_channel(label, ordered, max_retransmits);
            negotiation.open_channels(rtc);
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
        self.send_audio_at(Place::New { receive: false }, source, cid, stream_id, bitrate, dtx, red)
    }

    /// The same on a section that the program chooses.
    #[allow(clippy::too_many_arguments, reason = "those of send_audio and the place")]
    pub fn send_audio_at(
        &self,
        place: Place<'_>,
        source: &Arc<AudioInput>,
        cid: &str,
        stream_id: &str,
        bitrate: u32,
        dtx: bool,
        red: bool,
    ) -> Result<String, PeerError> {
        let mid = self.negotiate(|negotiation, rtc| {
            let mid = place_section(negotiation, rtc, place, MediaKind::Audio, stream_id, cid, None)?;
            negotiation.set_red(mid, red);
            Ok(mid)
        })?;
        let section = Arc::new(AudioSection::new(&self.shared, mid));
        source.attach(section.clone(), AudioSending { bitrate, dtx })?;
        lock(&self.sending).push(Sending::Audio(section));
        Ok(mid.to_string())
    }

    /// A sendonly video section in the next offer. `layers` largest first; one with an empty rid means no simulcast.
    /// `trailers`: what is said about pictures goes along, which the other side must know of.
    pub fn send_video(
        &self,
        source: &Arc<VideoInput>,
        cid: &str,
        stream_id: &str,
        codec: VideoCodec,
        layers: &[VideoLayer],
        trailers: bool,
    ) -> Result<String, PeerError> {
        self.send_video_at(Place::New { receive: false }, source, cid, stream_id, codec, layers, trailers)
    }

    /// The same on a section that the program chooses. One that exists has one layer.
    #[allow(clippy::too_many_arguments, reason = "those of send_video and the place")]
    pub fn send_video_at(
        &self,
        place: Place<'_>,
        source: &Arc<VideoInput>,
        cid: &str,
        stream_id: &str,
        codec: VideoCodec,
        layers: &[VideoLayer],
        trailers: bool,
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
        if named > 0 && matches!(place, Place::At(_)) {
            return Err(PeerError::invalid("a section that exists takes one video layer, without a rid"));
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
            let (rtc, negotiation) = connection.negotiating()?;
            let mid = place_section(negotiation, rtc, place, MediaKind::Video, stream_id, cid, simulcast)?;
            negotiation.prefer(mid, if codec == VideoCodec::H264 { "H264" } else { "VP8" });
            connection.set_video_sending(mid, sending.clone());
            Ok(mid)
        })?;
        let section = Arc::new(VideoSection::new(&self.shared, mid, codec, sending));
        source.attach(section.clone(), codec, layers, trailers);
        lock(&self.sending).push(Sending::Video(section));
        Ok(mid.to_string())
    }

    /// Whether a section receives is the program's wish from now on: in the next offer, and in answers. A section that
    /// was never mentioned takes what the other side sends.
    pub fn set_receiving(&self, mid: &str, receiving: bool) -> Result<(), PeerError> {
        self.negotiate(|negotiation, rtc| negotiation.set_receiving(rtc, Mid::from(mid), receiving))
    }

    /// Stop sending on a section (in the next offer).
    pub fn remove_send(&self, mid: &str) -> Result<(), PeerError> {
        let mut sending = lock(&self.sending);
        let Some(index) = sending.iter().position(|section| section.mid().to_string() == mid) else {
            return Err(PeerError::invalid(format!("section {mid:?} does not send")));
        };
        let section = sending.swap_remove(index);
        drop(sending);
        section.remove();
        self.negotiate(|negotiation, _| {
            negotiation.stop(section.mid());
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
        self.negotiate(|negotiation, rtc| negotiation.create_offer(rtc, ice_restart))
    }

    /// Take back the offer that waits for its answer; its changes go into the next one. False when none waits.
    pub fn rollback(&self) -> Result<bool, PeerError> {
        self.negotiate(|negotiation, _| Ok(negotiation.rollback()))
    }

    pub fn set_answer(&self, sdp: &str) -> Result<(), PeerError> {
        self.negotiate(|negotiation, rtc| negotiation.set_answer(rtc, sdp))
    }

    pub fn accept_offer(&self, sdp: &str) -> Result<String, PeerError> {
        self.negotiate(|negotiation, rtc| negotiation.accept_offer(rtc, sdp))
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
        let host = &self.shared.host;
        let ring = Arc::new(AudioRing::new(host.next_id(), capacity, Event::Audio, host.events.clone()));
        let mid = Mid::from(mid);
        let receiver = self.shared.with(|connection, _| {
            check_section(connection, mid, MediaKind::Audio)?;
            Ok(connection.audio_receiver(mid, &host.pool))
        })?;
        receiver.attach(SinkFeed::new(ring.clone(), format));
        Ok(AudioSink { ring, receiver })
    }

    /// Attach a sink to a receiving video section. `capacity` in frames, the oldest are dropped; 0: what a slow reader
    /// may still want, a third of a second.
    pub fn receive_video(&self, mid: &str, capacity: usize) -> Result<VideoSink, PeerError> {
        let capacity = if capacity == 0 { 10 } else { capacity.min(120) };
        let host = &self.shared.host;
        let ring = Arc::new(VideoRing::new(host.next_id(), capacity, Event::Video, host.events.clone()));
        let mid = Mid::from(mid);
        let receiver = self.shared.with(|connection, _| {
            check_section(connection, mid, MediaKind::Video)?;
            Ok(connection.video_receiver(mid, || VideoReceiver::new(&host.pool, self.keyframe_request(mid))))
        })?;
        receiver.attach(ring.clone());
        Ok(VideoSink { ring, receiver })
    }

    /// Attach a sink for a receiving section's frames as they come, undecoded. Pictures begin with a key frame, which is
    /// asked for. `group`: sections with the same are one participant's, and their times are made comparable. `capacity` in
    /// frames, the oldest are dropped; 0: about ten seconds. No more than [`MAX_WAITING_BYTES`] wait.
    pub fn receive_encoded(
        &self,
        mid: &str,
        kind: MediaKind,
        group: &str,
        capacity: usize,
    ) -> Result<EncodedSink, PeerError> {
        let is_audio = kind == MediaKind::Audio;
        let capacity = match capacity {
            0 if is_audio => 500,
            0 => 300,
            some => some.min(10_000),
        };
        let host = &self.shared.host;
        let ring = Arc::new(EncodedRing::weighed(
            host.next_id(),
            capacity,
            |frame| frame.data().len(),
            MAX_WAITING_BYTES,
            Event::Encoded,
            host.events.clone(),
        ));
        let mid = Mid::from(mid);
        let (receiver, clock) = self.shared.with(|connection, _| {
            check_section(connection, mid, kind)?;
            let make = || EncodedReceiver::new(&host.pool, self.keyframe_request(mid));
            Ok(connection.encoded_receiver(mid, group, make))
        })?;
        receiver.attach(ring.clone(), is_audio, clock);
        Ok(EncodedSink { ring, receiver, is_audio })
    }

    /// Asks the sender of a section for a key frame, when it is called.
    fn keyframe_request(&self, mid: Mid) -> Box<dyn Fn() + Send + Sync> {
        let peer = Arc::downgrade(&self.shared);
        Box::new(move || {
            let Some(peer) = peer.upgrade() else { return };
            // A closed peer needs no key frame.
            let _ = peer.with(|connection, _| {
                connection.request_keyframe(mid);
                Ok(())
            });
        })
    }

    /// Queue a binary message. Returns the bytes that wait on the channel after it.
    pub fn send(&self, label: &str, payload: &[u8]) -> Result<usize, PeerError> {
        self.send_message(label, payload, true)
    }

    /// Queue a text message. Returns the bytes that wait on the channel after it.
    pub fn send_text(&self, label: &str, text: &str) -> Result<usize, PeerError> {
        self.send_message(label, text.as_bytes(), false)
    }

    fn send_message(&self, label: &str, payload: &[u8], binary: bool) -> Result<usize, PeerError> {
        self.shared.with(|connection, _| {
            let rtc = connection.rtc.as_mut().ok_or_else(PeerError::closed)?;
            connection.data.send(label, payload, binary, rtc)
        })
    }

    /// Close the open data channel of that label. False when there is none.
    pub fn close_channel(&self, label: &str) -> Result<bool, PeerError> {
        self.shared.with(|connection, _| {
            let rtc = connection.rtc.as_mut().ok_or_else(PeerError::closed)?;
            Ok(connection.data.close(label, rtc))
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

fn place_section(
    negotiation: &mut Negotiation,
    rtc: &mut Rtc,
    place: Place<'_>,
    kind: MediaKind,
    stream_id: &str,
    cid: &str,
    simulcast: Option<Simulcast>,
) -> Result<Mid, PeerError> {
    match place {
        Place::New { receive } => {
            let direction = if receive { Direction::SendRecv } else { Direction::SendOnly };
            let (stream_id, track_id) = (Some(stream_id.to_owned()), Some(cid.to_owned()));
            negotiation.add_section(rtc, NewSection { kind, direction, stream_id, track_id, simulcast })
        }
        Place::At(mid) => negotiation.use_section(rtc, Mid::from(mid), kind, stream_id, cid),
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
