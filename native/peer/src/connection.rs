//! One str0m session and what hangs on it. Everything here runs under the peer's lock; after every change `drive` drains
//! the session, as str0m demands.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

use greenroom_codecs::video::VideoCodec;
use str0m::config::DtlsCert;
use str0m::format::Codec;
use str0m::media::{Frequency, KeyframeRequestKind, MediaData, MediaKind, MediaTime, Mid, Pt, Rid, Rids};
use str0m::net::{Protocol, Receive};
use str0m::rtp::VideoOrientation;
use str0m::{Candidate, Event as RtcEvent, IceConnectionState, Input, Output, Rtc, RtcConfig, RtcError};

use crate::audio::input::AudioPacket;
use crate::audio::receiver::AudioReceiver;
use crate::data::{DataChannels, MAX_MESSAGE};
use crate::encoded::receiver::{Arrival, EncodedReceiver};
use crate::encoded::timeline::{GroupClock, SenderTime};
use crate::error::PeerError;
use crate::event::{Event, EventQueue, Id};
use crate::negotiate::Negotiation;
use crate::pool::CodecPool;
use crate::sockets::Socket;
use crate::stats::{PeerSnapshot, StatsBook};
use crate::video::input::{VideoInput, VideoPacket};
use crate::video::metadata;
use crate::video::receiver::{CodedFrame, VideoReceiver};

/// More rounds than this at one instant would be a loop.
const MAX_ROUNDS: usize = 200;

/// A video section that sends: who is to be told when the other side needs a key frame.
pub(crate) struct VideoSending {
    pub input: Weak<VideoInput>,
    pub rids: Vec<Option<Rid>>,
    /// One bit per layer; all at first.
    pub keyframes: AtomicU32,
}

impl VideoSending {
    pub fn request(&self, rid: Option<Rid>) {
        let bits = match self.rids.iter().position(|known| rid.is_some() && *known == rid) {
            Some(layer) => 1 << layer,
            None => u32::MAX,
        };
        self.keyframes.fetch_or(bits, Ordering::SeqCst);
        if let Some(input) = self.input.upgrade() {
            input.wake();
        }
    }
}

/// SCTP may hold one message of the largest size and a good window besides.
const SCTP_BUFFER: usize = 1 << 20;

pub(crate) struct Connection {
    pub(crate) rtc: Option<Rtc>,
    pub(crate) id: Id,
    pub(crate) events: Arc<EventQueue>,
    pub(crate) data: DataChannels,
    pub(crate) negotiation: Negotiation,
    stats: StatsBook,
    audio_receivers: HashMap<Mid, Arc<AudioReceiver>>,
    video_receivers: HashMap<Mid, Arc<VideoReceiver>>,
    encoded_receivers: HashMap<Mid, Arc<EncodedReceiver>>,
    /// One for the sections of a participant, while any of them is received encoded.
    group_clocks: HashMap<String, Weak<GroupClock>>,
    video_sending: HashMap<Mid, Arc<VideoSending>>,
    /// What arrives on a section; nothing has arrived on the others.
    codecs: HashMap<Mid, Codec>,
    /// The layer that is shown of a simulcast sent straight to us; a server sends one without a name.
    shown_rids: HashMap<Mid, Rid>,
    payload_types: HashMap<Mid, Pt>,
    malformed: HashMap<Mid, Malformed>,
    connected: bool,
    told_time: bool,
}

/// Frames of a section that could not be put together.
#[derive(Default)]
struct Malformed {
    frames: u64,
    /// The last one is where nothing has arrived since.
    hole: bool,
}

impl Connection {
    pub fn new(id: Id, events: Arc<EventQueue>, cert: &DtlsCert, sockets: &[Socket], now: Instant) -> Self {
        let mut rtc = session_config(cert.clone()).build(now);
        for socket in sockets {
            match Candidate::host(socket.address, "udp") {
                Ok(candidate) => {
                    rtc.add_local_candidate(candidate);
                }
                Err(error) => log::warn!("address {} is no candidate: {error}", socket.address),
            }
        }
        Self {
            rtc: Some(rtc),
            id,
            events,
            data: DataChannels::default(),
            negotiation: Negotiation::default(),
            stats: StatsBook::default(),
            audio_receivers: HashMap::new(),
            video_receivers: HashMap::new(),
            encoded_receivers: HashMap::new(),
            group_clocks: HashMap::new(),
            video_sending: HashMap::new(),
            codecs: HashMap::new(),
            shown_rids: HashMap::new(),
            payload_types: HashMap::new(),
            malformed: HashMap::new(),
            connected: false,
            told_time: false,
        }
    }

    pub fn rtc(&mut self) -> Result<&mut Rtc, PeerError> {
        self.rtc.as_mut().ok_or_else(PeerError::closed)
    }

    /// The session and what is to be negotiated for it.
    pub fn negotiating(&mut self) -> Result<(&mut Rtc, &mut Negotiation), PeerError> {
        Ok((self.rtc.as_mut().ok_or_else(PeerError::closed)?, &mut self.negotiation))
    }

    /// A datagram from the network. What is not for us is dropped.
    pub fn receive(
        &mut self,
        now: Instant,
        source: SocketAddr,
        destination: SocketAddr,
        buf: &[u8],
    ) -> Result<(), PeerError> {
        let rtc = self.rtc()?;
        let Ok(receive) = Receive::new(Protocol::Udp, source, destination, buf) else { return Ok(()) };
        let input = Input::Receive(now, receive);
        if !rtc.accepts(&input) {
            return Ok(());
        }
        rtc.handle_input(input).map_err(|error| PeerError::state(error.to_string()))
    }

    /// Drain the session: send what it wants sent, act on what happened. Returns when it wants to be driven again; an
    /// error is the end of the connection.
    pub fn drive(&mut self, now: Instant, sockets: &[Socket]) -> Result<Option<Instant>, String> {
        for _ in 0..MAX_ROUNDS {
            let deadline = loop {
                let Some(rtc) = self.rtc.as_mut() else { return Ok(None) };
                match rtc.poll_output() {
                    Ok(Output::Timeout(at)) => break at,
                    Ok(Output::Transmit(transmit)) => {
                        send(sockets, transmit.source, transmit.destination, &transmit.contents);
                    }
                    Ok(Output::Event(event)) => self.on_event(event)?,
                    Err(error) => self.survive(error)?,
                }
            };
            let Some(rtc) = self.rtc.as_mut() else { return Ok(None) };
            let drained = self.data.flush(rtc);
            let id = self.id;
            drained.into_iter().for_each(|label| self.events.push(Event::Drained(id, label)));
            if self.data.wrote() {
                continue;
            }
            // The ICE agent has no clock, and so asks for no wake-up, until it was told the time once.
            if deadline > now && self.told_time {
                return Ok(Some(deadline));
            }
            self.told_time = true;
            if let Err(error) = rtc.handle_input(Input::Timeout(now)) {
                self.survive(error)?;
            }
        }
        Ok(Some(now + std::time::Duration::from_millis(1)))
    }

    /// A frame that cannot be put together is its publisher's fault, and a server forwards payloads unread: str0m has dropped
    /// it, the rest goes on. Every other error is the end.
    fn survive(&mut self, error: RtcError) -> Result<(), String> {
        let RtcError::Packet(mid, _, error) = error else { return Err(error.to_string()) };
        log::debug!("dropped a frame of section {mid}: {error}");
        let malformed = self.malformed.entry(mid).or_default();
        malformed.frames += 1;
        malformed.hole = true;
        Ok(())
    }

    fn on_event(&mut self, event: RtcEvent) -> Result<(), String> {
        match event {
            RtcEvent::Connected => self.set_connected(true),
            RtcEvent::IceConnectionStateChange(IceConnectionState::Disconnected) => self.set_connected(false),
            RtcEvent::IceConnectionStateChange(_) if self.rtc.as_ref().is_some_and(Rtc::is_connected) => {
                self.set_connected(true);
            }
            RtcEvent::MediaData(data) => self.on_media(data),
            RtcEvent::ChannelOpen(channel, label) => {
                if let Some(rtc) = self.rtc.as_mut() {
                    self.data.opened(channel, &label, rtc);
                }
                self.events.push(Event::ChannelOpen(self.id, label));
            }
            RtcEvent::ChannelClose(channel) => {
                if let Some(label) = self.data.closed(channel) {
                    self.events.push(Event::ChannelClosed(self.id, label));
                }
            }
            RtcEvent::ChannelData(data) => {
                let Some(label) = self.data.label(data.id).map(str::to_owned) else { return Ok(()) };
                if !self.events.push_data(self.id, label, data.data, data.binary) {
                    return Err("messages arrive and nobody reads them".into());
                }
            }
            RtcEvent::KeyframeRequest(request) => {
                if let Some(sending) = self.video_sending.get(&request.mid) {
                    sending.request(request.rid);
                    if let Some(input) = sending.input.upgrade() {
                        self.events.push(Event::KeyframeRequest(input.id()));
                    }
                }
            }
            RtcEvent::PeerStats(stats) => self.stats.peer(stats),
            RtcEvent::MediaIngressStats(stats) => self.stats.ingress(stats),
            RtcEvent::MediaEgressStats(stats) => self.stats.egress(stats),
            RtcEvent::Closed => return Err("the other side closed the connection".into()),
            _ => {}
        }
        Ok(())
    }

    fn set_connected(&mut self, connected: bool) {
        if std::mem::replace(&mut self.connected, connected) != connected {
            let event = if connected { Event::Connected } else { Event::Disconnected };
            self.events.push(event(self.id));
            if connected {
                // What was pushed before shows now.
                self.video_sending.values().for_each(|sending| sending.request(None));
            }
        }
    }

    fn on_media(&mut self, data: MediaData) {
        if self.codecs.insert(data.mid, data.params.spec().codec).is_none() {
            self.events.push(Event::Media(self.id, data.mid.to_string()));
        }
        let arrival = arrival(&data);
        let encoded = self.encoded_receivers.get(&data.mid);
        let codec = match data.params.spec().codec {
            Codec::Opus => {
                if let Some(receiver) = encoded {
                    receiver.packet(**data.seq_range.start(), arrival, &data.data);
                }
                if let Some(receiver) = self.audio_receivers.get(&data.mid) {
                    let time = data.time.rebase(Frequency::FORTY_EIGHT_KHZ).numer();
                    receiver.packet(**data.seq_range.start(), time, data.network_time, data.data);
                }
                return;
            }
            Codec::Vp8 => VideoCodec::Vp8,
            Codec::H264 => VideoCodec::H264,
            _ => return,
        };
        let decoded = self.video_receivers.get(&data.mid);
        if decoded.is_some() || encoded.is_some() {
            if data.rid.is_some_and(|rid| *self.shown_rids.entry(data.mid).or_insert(rid) != rid) {
                return;
            }
            let hole = self.malformed.get_mut(&data.mid).is_some_and(|malformed| std::mem::take(&mut malformed.hole));
            let (picture_len, metadata) = metadata::split(&data.data);
            let frame = CodedFrame {
                codec,
                contiguous: data.contiguous && !hole,
                key: data.is_keyframe(),
                timestamp_us: data.time.rebase(Frequency::MICROS).numer() as i64,
                rotation: data.ext_vals.video_orientation.map_or(0, |orientation| orientation as u8),
                data: data.data,
                picture_len,
                metadata: metadata.map(Arc::new),
            };
            if let Some(receiver) = encoded {
                receiver.frame(arrival, &frame);
            }
            if let Some(receiver) = decoded {
                receiver.frame(frame);
            }
        }
    }

    /// The receiver of an audio section, made at the first wish to hear it.
    pub fn audio_receiver(&mut self, mid: Mid, pool: &CodecPool) -> Arc<AudioReceiver> {
        self.audio_receivers.entry(mid).or_insert_with(|| AudioReceiver::new(pool)).clone()
    }

    /// The receiver of a video section, made at the first wish to see it by `make`.
    pub fn video_receiver(&mut self, mid: Mid, make: impl FnOnce() -> Arc<VideoReceiver>) -> Arc<VideoReceiver> {
        self.video_receivers.entry(mid).or_insert_with(make).clone()
    }

    /// The receiver of a section's encoded frames, made at the first wish for them by `make`, and the clock of its group.
    pub fn encoded_receiver(
        &mut self,
        mid: Mid,
        group: &str,
        make: impl FnOnce() -> Arc<EncodedReceiver>,
    ) -> (Arc<EncodedReceiver>, Arc<GroupClock>) {
        self.group_clocks.retain(|_, clock| clock.strong_count() > 0);
        let clock = self.group_clocks.get(group).and_then(Weak::upgrade).unwrap_or_default();
        self.group_clocks.insert(group.to_owned(), Arc::downgrade(&clock));
        (self.encoded_receivers.entry(mid).or_insert_with(make).clone(), clock)
    }

    /// Everything that has sinks, to be ended outside of the peer's lock.
    pub fn take_receivers(&mut self) -> Receivers {
        Receivers {
            audio: self.audio_receivers.drain().map(|(_, receiver)| receiver).collect(),
            video: self.video_receivers.drain().map(|(_, receiver)| receiver).collect(),
            encoded: self.encoded_receivers.drain().map(|(_, receiver)| receiver).collect(),
        }
    }

    pub fn snapshot(&mut self) -> PeerSnapshot {
        let rtc = self.rtc.as_mut();
        let mut snapshot = self.stats.snapshot(|mid| match rtc.as_ref().and_then(|rtc| rtc.media(Mid::from(mid))) {
            Some(media) if media.kind() == MediaKind::Video => 90_000,
            _ => 48_000,
        });
        for (mid, receiver) in &self.audio_receivers {
            let mid = mid.to_string();
            let section = snapshot.received.get_mut(&mid).or_else(|| snapshot.sections.get_mut(&mid));
            if let Some(section) = section.filter(|section| !section.sending) {
                section.concealed_ms = receiver.concealed_ms();
                section.lost = receiver.jitter_stats().lost;
                section.decoded = receiver.decoded();
            }
        }
        for (mid, receiver) in &self.video_receivers {
            if let Some(section) = snapshot.sections.get_mut(&mid.to_string()) {
                section.decoded = receiver.decoded();
            }
        }
        for (mid, malformed) in &self.malformed {
            let mid = mid.to_string();
            if let Some(section) = snapshot.received.get_mut(&mid).or_else(|| snapshot.sections.get_mut(&mid)) {
                section.malformed = malformed.frames;
            }
        }
        if let Some(rtc) = rtc {
            for (mid, section) in snapshot.sections.iter_mut().chain(&mut snapshot.received) {
                let mid = Mid::from(mid.as_str());
                let (seen, sent) = (self.codecs.get(&mid), self.payload_types.get(&mid));
                let sent =
                    sent.and_then(|pt| rtc.codec_config().iter().find(|p| p.pt() == *pt)).map(|p| p.spec().codec);
                let (first, second) = if section.sending { (sent, seen.copied()) } else { (seen.copied(), sent) };
                section.codec = first.or(second).map_or(String::new(), |codec| codec.to_string().to_lowercase());
                let mut api = rtc.direct_api();
                section.ssrc = match section.sending {
                    true => api.stream_tx_by_mid(mid, None).map(|stream| *stream.ssrc()),
                    false => api.stream_rx_by_mid(mid, None).map(|stream| *stream.ssrc()),
                };
            }
        }
        snapshot
    }

    pub fn write_audio(&mut self, mid: Mid, packet: AudioPacket<'_>) -> Result<(), PeerError> {
        if !self.connected {
            return Ok(());
        }
        let Some(pt) = self.payload_type(mid, Codec::Opus) else { return Ok(()) };
        let rtc = self.rtc()?;
        let Some(writer) = rtc.writer(mid) else { return Ok(()) };
        let time = MediaTime::new(packet.rtp_time, Frequency::FORTY_EIGHT_KHZ);
        writer
            .audio_level(packet.level, packet.voice)
            .start_of_talkspurt(packet.talkspurt)
            .write(pt, packet.at, time, packet.data)
            .map_err(|error| PeerError::state(error.to_string()))
    }

    pub fn set_video_sending(&mut self, mid: Mid, sending: Arc<VideoSending>) {
        self.payload_types.remove(&mid);
        self.video_sending.insert(mid, sending);
    }

    /// How many of the layers, largest first, the other side takes now. Without simulcast in its answer only the first.
    pub fn video_layers_wanted(&mut self, mid: Mid, codec: VideoCodec, layers: usize) -> usize {
        if !self.connected || self.payload_type(mid, rtc_codec(codec)).is_none() {
            return 0;
        }
        let media = self.rtc.as_ref().and_then(|rtc| rtc.media(mid));
        match media.map(|media| media.rids_tx()) {
            None => 0,
            Some(Rids::Specific(rids)) => layers.min(rids.len()),
            Some(_) => 1,
        }
    }

    pub fn write_video(
        &mut self,
        mid: Mid,
        codec: VideoCodec,
        rid: Option<Rid>,
        packet: VideoPacket,
        now: Instant,
    ) -> Result<(), PeerError> {
        if !self.connected {
            return Ok(());
        }
        let Some(pt) = self.payload_type(mid, rtc_codec(codec)) else { return Ok(()) };
        let rtc = self.rtc()?;
        let simulcast = matches!(rtc.media(mid).map(|media| media.rids_tx()), Some(Rids::Specific(_)));
        let Some(mut writer) = rtc.writer(mid) else { return Ok(()) };
        if let Some(rid) = rid.filter(|_| simulcast) {
            writer = writer.rid(rid);
        }
        if packet.rotation != 0 {
            writer = writer.video_orientation(VideoOrientation::from(packet.rotation));
        }
        let time = MediaTime::from_micros(packet.timestamp_us.max(0) as u64).rebase(Frequency::NINETY_KHZ);
        writer.write(pt, now, time, packet.data).map_err(|error| PeerError::state(error.to_string()))
    }

    /// The negotiated payload type of `codec` in a section; None while the section is not up.
    fn payload_type(&mut self, mid: Mid, codec: Codec) -> Option<Pt> {
        if let Some(pt) = self.payload_types.get(&mid) {
            return Some(*pt);
        }
        let rtc = self.rtc.as_mut()?;
        if !rtc.media(mid)?.direction().is_sending() {
            return None;
        }
        let writer = rtc.writer(mid)?;
        let pt = writer.payload_params().find(|params| params.spec().codec == codec)?.pt();
        self.payload_types.insert(mid, pt);
        Some(pt)
    }

    pub fn request_keyframe(&mut self, mid: Mid) {
        let rid = self.shown_rids.get(&mid).copied();
        let Some(mut writer) = self.rtc.as_mut().and_then(|rtc| rtc.writer(mid)) else { return };
        // Before the first packet there is no stream to ask; the sender starts with a key frame anyway.
        if let Err(error) = writer.request_keyframe(rid, KeyframeRequestKind::Pli) {
            log::debug!("no key frame request for {mid}: {error}");
        }
    }
}

/// Receivers taken out of a connection.
#[derive(Default)]
pub(crate) struct Receivers {
    audio: Vec<Arc<AudioReceiver>>,
    video: Vec<Arc<VideoReceiver>>,
    encoded: Vec<Arc<EncodedReceiver>>,
}

impl Receivers {
    pub fn end(&self) {
        self.audio.iter().for_each(|receiver| receiver.end());
        self.video.iter().for_each(|receiver| receiver.end());
        self.encoded.iter().for_each(|receiver| receiver.end());
    }
}

fn arrival(data: &MediaData) -> Arrival {
    let report = data.last_sender_info.and_then(|info| {
        let at = info.ntp_time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(SenderTime { rtp: info.rtp_time.numer() as u32, at_us: i64::try_from(at.as_micros()).ok()? })
    });
    Arrival { rtp: data.time.numer(), at: data.network_time, report }
}

fn rtc_codec(codec: VideoCodec) -> Codec {
    match codec {
        VideoCodec::Vp8 => Codec::Vp8,
        VideoCodec::H264 => Codec::H264,
    }
}

fn send(sockets: &[Socket], source: SocketAddr, destination: SocketAddr, contents: &[u8]) {
    let Some(socket) = sockets.iter().find(|socket| socket.address == source) else { return };
    // A full socket buffer or an unreachable address is packet loss, which the protocols above live with.
    if let Err(error) = socket.socket.send_to(contents, destination) {
        log::trace!("{source} to {destination}: {error}");
    }
}

fn session_config(cert: DtlsCert) -> RtcConfig {
    let mut config = RtcConfig::new()
        .set_dtls_cert(cert)
        .clear_codecs()
        .enable_opus(true, true)
        .enable_vp8(true)
        // Our own jitter buffer orders audio: it must see every packet at once, in any order.
        .set_reordering_size_audio(0)
        .set_sctp_max_buffered_amount(SCTP_BUFFER)
        .set_sctp_max_message_size(MAX_MESSAGE as u32)
        .set_stats_interval(Some(std::time::Duration::from_secs(1)));
    // Payload types as the official clients offer them; constrained baseline first, because that is what we encode.
    for (pt, rtx, mode_1, profile) in [
        (109, 114, true, 0x42e01f),
        (115, 116, false, 0x42e01f),
        (103, 104, true, 0x42001f),
        (107, 108, false, 0x42001f),
    ] {
        config.codec_config().add_h264(pt.into(), Some(rtx.into()), mode_1, profile);
    }
    // A dead path is noticed after about 8 s.
    config.set_max_stun_rto(std::time::Duration::from_millis(1500));
    config.set_max_stun_retransmits(6);
    config
}
