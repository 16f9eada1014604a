//! One str0m session and what hangs on it. Everything here runs under the peer's lock; after every change `drive` drains
//! the session, as str0m demands.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use str0m::config::DtlsCert;
use str0m::format::Codec;
use str0m::media::{Frequency, KeyframeRequestKind, MediaData, MediaTime, Mid, Pt, Rid};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event as RtcEvent, IceConnectionState, Input, Output, Rtc, RtcConfig};

use crate::audio::input::AudioPacket;
use crate::audio::receiver::AudioReceiver;
use crate::data::{DataChannels, MAX_MESSAGE};
use crate::error::PeerError;
use crate::event::{Event, EventQueue, Id};
use crate::negotiate::Negotiation;
use crate::pool::CodecPool;
use crate::sockets::Socket;
use crate::stats::StatsBook;

/// More rounds than this at one instant would be a loop.
const MAX_ROUNDS: usize = 200;

/// SCTP may hold one message of the largest size and a good window besides.
const SCTP_BUFFER: usize = 1 << 20;

pub(crate) struct Connection {
    pub(crate) rtc: Option<Rtc>,
    pub(crate) id: Id,
    pub(crate) events: Arc<EventQueue>,
    pub(crate) data: DataChannels,
    pub(crate) negotiation: Negotiation,
    pub(crate) stats: StatsBook,
    audio_receivers: HashMap<Mid, Arc<AudioReceiver>>,
    seen: HashSet<Mid>,
    payload_types: HashMap<Mid, Pt>,
    connected: bool,
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
            seen: HashSet::new(),
            payload_types: HashMap::new(),
            connected: false,
        }
    }

    pub fn rtc(&mut self) -> Result<&mut Rtc, PeerError> {
        self.rtc.as_mut().ok_or_else(PeerError::closed)
    }

    /// A datagram from the network. What is not for us is dropped.
    pub fn receive(&mut self, now: Instant, source: SocketAddr, destination: SocketAddr, buf: &[u8]) -> Result<(), PeerError> {
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
                match rtc.poll_output().map_err(|error| error.to_string())? {
                    Output::Timeout(at) => break at,
                    Output::Transmit(transmit) => send(sockets, transmit.source, transmit.destination, &transmit.contents),
                    Output::Event(event) => self.on_event(event, now)?,
                }
            };
            let Some(rtc) = self.rtc.as_mut() else { return Ok(None) };
            let drained = self.data.flush(rtc);
            let id = self.id;
            drained.into_iter().for_each(|label| self.events.push(Event::Drained(id, label)));
            if self.data.wrote() {
                continue;
            }
            if deadline > now {
                return Ok(Some(deadline));
            }
            rtc.handle_input(Input::Timeout(now)).map_err(|error| error.to_string())?;
        }
        Ok(Some(now + std::time::Duration::from_millis(1)))
    }

    fn on_event(&mut self, event: RtcEvent, now: Instant) -> Result<(), String> {
        match event {
            RtcEvent::Connected => self.set_connected(true),
            RtcEvent::IceConnectionStateChange(IceConnectionState::Disconnected) => self.set_connected(false),
            RtcEvent::IceConnectionStateChange(_) => {
                if self.rtc.as_ref().is_some_and(Rtc::is_connected) {
                    self.set_connected(true);
                }
            }
            RtcEvent::MediaData(data) => self.on_media(data, now),
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
                self.events.push(Event::Data { peer: self.id, label, payload: data.data, binary: data.binary });
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
        }
    }

    fn on_media(&mut self, data: MediaData, _now: Instant) {
        if self.seen.insert(data.mid) {
            self.events.push(Event::Media(self.id, data.mid.to_string()));
        }
        if data.params.spec().codec == Codec::Opus {
            if let Some(receiver) = self.audio_receivers.get(&data.mid) {
                let time = data.time.rebase(Frequency::FORTY_EIGHT_KHZ).numer();
                receiver.packet(**data.seq_range.start(), time, data.network_time, data.data);
            }
        }
    }

    /// The receiver of an audio section, made at the first wish to hear it.
    pub fn audio_receiver(&mut self, mid: Mid, pool: &CodecPool) -> Arc<AudioReceiver> {
        self.audio_receivers.entry(mid).or_insert_with(|| AudioReceiver::new(pool)).clone()
    }

    /// Sinks attached to sections that have ended get their end.
    pub fn take_receivers(&mut self) -> Vec<Arc<AudioReceiver>> {
        self.audio_receivers.drain().map(|(_, receiver)| receiver).collect()
    }

    pub fn audio_receivers(&self) -> &HashMap<Mid, Arc<AudioReceiver>> {
        &self.audio_receivers
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

    pub fn request_keyframe(&mut self, mid: Mid, rid: Option<Rid>) {
        let Some(mut writer) = self.rtc.as_mut().and_then(|rtc| rtc.writer(mid)) else { return };
        // Before the first packet there is no stream to ask; the sender starts with a key frame anyway.
        if let Err(error) = writer.request_keyframe(rid, KeyframeRequestKind::Pli) {
            log::debug!("no key frame request for {mid}: {error}");
        }
    }

    pub fn is_connected(&self) -> bool {
        self.connected
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
    for (pt, rtx, mode_1, profile) in
        [(109, 114, true, 0x42e01f), (115, 116, false, 0x42e01f), (103, 104, true, 0x42001f), (107, 108, false, 0x42001f)]
    {
        config.codec_config().add_h264(pt.into(), Some(rtx.into()), mode_1, profile);
    }
    // A dead path is noticed after about 8 s.
    config.set_max_stun_rto(std::time::Duration::from_millis(1500));
    config.set_max_stun_retransmits(6);
    config
}
