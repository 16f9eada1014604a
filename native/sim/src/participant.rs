//! A participant: a str0m session as `greenroom-peer` sets it up, its sections, and what it saw and heard.
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use greenroom_forward::Kind;
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::config::Fingerprint;
use str0m::format::Codec;
use str0m::ice::IceCreds;
use str0m::media::{Frequency, KeyframeRequestKind, MediaData, MediaKind, MediaTime, Mid, Rid};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

use crate::source::{Camera, Microphone};
use crate::{Listener, Random};

/// A picture, or a packet of sound, as it came out of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// When.
    pub at: Instant,
    /// Extended RTP sequence numbers of its first and last packet.
    pub seq: (u64, u64),
    /// Extended RTP time.
    pub time: u64,
    /// Nothing is missing before it, as str0m sees it.
    pub contiguous: bool,
    /// A decoder can begin here.
    pub key: bool,
    /// The camera's number; `None` if the bytes are not those that were sent, and for sound.
    pub number: Option<u64>,
    /// Bytes.
    pub len: usize,
}

/// A data-channel message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// When.
    pub at: Instant,
    /// The channel.
    pub label: String,
    /// The bytes.
    pub payload: Vec<u8>,
}

struct Publishing {
    mid: Mid,
    next: Instant,
    number: u64,
    what: Media,
}

enum Media {
    Sound(Box<Microphone>),
    Pictures(Vec<Camera>),
}

/// See the module.
pub struct Participant {
    rtc: Rtc,
    /// Its own address.
    pub(crate) inside: SocketAddr,
    /// The address the server sees.
    pub(crate) outside: SocketAddr,
    server: SocketAddr,
    pub(crate) outbox: Vec<Vec<u8>>,
    deadline: Instant,
    publishing: Vec<Publishing>,
    channels: BTreeMap<String, ChannelId>,
    unsent: VecDeque<(String, Vec<u8>)>,
    connected: bool,
    /// What arrived, by mid.
    pub frames: BTreeMap<String, Vec<Frame>>,
    /// What is heard, by mid.
    pub listeners: BTreeMap<String, Listener>,
    /// Messages, in order of arrival.
    pub messages: Vec<Message>,
    /// When the server asked for a key frame, of which layer.
    pub keyframe_requests: Vec<(Instant, Option<String>)>,
    /// Ask for a key frame when a picture is missing, at most twice a second, as our video receiver does.
    pub asks_for_keyframes: bool,
    asked: Option<Instant>,
    started: Instant,
}

impl Participant {
    pub(crate) fn new(now: Instant, index: usize, server: SocketAddr) -> Self {
        let inside: SocketAddr = ([10, 0, 0, 1 + index as u8], 4000).into();
        let mut config = RtcConfig::new()
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .set_reordering_size_audio(0)
            .set_sctp_max_buffered_amount(1 << 20)
            .set_sctp_max_message_size(256 << 10)
            .set_stats_interval(None);
        config.set_max_stun_rto(Duration::from_millis(1500));
        config.set_max_stun_retransmits(6);
        let mut rtc = config.build(now);
        rtc.add_local_candidate(Candidate::host(inside, "udp").expect("a host address"));
        Participant {
            rtc,
            inside,
            outside: inside,
            server,
            outbox: Vec::new(),
            deadline: now,
            publishing: Vec::new(),
            channels: BTreeMap::new(),
            unsent: VecDeque::new(),
            connected: false,
            frames: BTreeMap::new(),
            listeners: BTreeMap::new(),
            messages: Vec::new(),
            keyframe_requests: Vec::new(),
            asks_for_keyframes: true,
            asked: None,
            started: now,
        }
    }

    /// The fingerprint of its certificate.
    pub(crate) fn fingerprint(&mut self) -> [u8; 32] {
        let bytes = self.rtc.direct_api().local_dtls_fingerprint().bytes.clone();
        bytes.try_into().expect("SHA-256")
    }

    /// Everything an answer would tell, then ICE and DTLS begin.
    pub(crate) fn connect(&mut self, now: Instant, ufrag: &str, pass: &str, fingerprint: &[u8; 32]) {
        self.rtc.add_remote_candidate(Candidate::host(self.server, "udp").expect("a host address"));
        let mut api = self.rtc.direct_api();
        api.set_ice_controlling(true);
        api.set_remote_ice_credentials(IceCreds { ufrag: ufrag.into(), pass: pass.into() });
        api.set_remote_fingerprint(Fingerprint { hash_func: "sha-256".into(), bytes: fingerprint.to_vec() });
        api.start_dtls(true).expect("DTLS starts once");
        api.start_sctp(true);
        self.handle_timeout(now);
    }

    pub(crate) fn open_channel(&mut self, label: &str, reliable: bool) {
        let id = self.rtc.direct_api().create_data_channel(ChannelConfig {
            label: label.into(),
            ordered: reliable,
            reliability: if reliable { Reliability::Reliable } else { Reliability::MaxRetransmits { retransmits: 0 } },
            negotiated: None,
            protocol: String::new(),
        });
        self.channels.insert(label.into(), id);
    }

    pub(crate) fn publish_sound(&mut self, now: Instant, mid: &str, ssrc: u32) {
        let mid = self.declare(mid, Kind::Audio);
        self.rtc.direct_api().declare_stream_tx(ssrc.into(), None, mid, None);
        self.publishing.push(Publishing { mid, next: now, number: 0, what: Media::Sound(Box::new(Microphone::new())) });
    }

    /// `layers`: (rid, bytes per frame), one without rid for no simulcast.
    pub(crate) fn publish_pictures(
        &mut self,
        now: Instant,
        mid: &str,
        ssrcs: &[(u32, u32)],
        layers: &[(Option<&'static str>, usize)],
        random: &mut Random,
    ) {
        let mid = self.declare(mid, Kind::Video);
        let mut cameras = Vec::new();
        for ((ssrc, rtx), (rid, size)) in ssrcs.iter().zip(layers) {
            let mut api = self.rtc.direct_api();
            let stream = api.declare_stream_tx((*ssrc).into(), Some((*rtx).into()), mid, rid.map(Rid::from));
            // As greenroom-peer: no retransmission is refused for its share of the rate.
            stream.set_rtx_cache(2000, Duration::from_secs(3), None);
            cameras.push(Camera::new(random.next(), *rid, *size));
        }
        self.publishing.push(Publishing { mid, next: now, number: 0, what: Media::Pictures(cameras) });
    }

    pub(crate) fn receive(&mut self, now: Instant, mid: &str, kind: Kind, ssrc: u32, rtx: u32) {
        let id = self.declare(mid, kind);
        let rtx = (rtx != 0).then(|| rtx.into());
        self.rtc.direct_api().expect_stream_rx(ssrc.into(), rtx, id, None);
        self.frames.insert(mid.into(), Vec::new());
        if kind == Kind::Audio {
            self.listeners.insert(mid.into(), Listener::new(now));
        }
    }

    fn declare(&mut self, mid: &str, kind: Kind) -> Mid {
        let id = Mid::from(mid);
        let kind = if kind == Kind::Audio { MediaKind::Audio } else { MediaKind::Video };
        self.rtc.direct_api().declare_media(id, kind);
        id
    }

    /// Queues a message.
    pub fn send(&mut self, label: &str, payload: Vec<u8>) {
        self.unsent.push_back((label.into(), payload));
    }

    /// ICE and DTLS are done.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// The cameras of its pictures, lowest layer first.
    pub fn cameras(&mut self) -> &mut [Camera] {
        self.publishing
            .iter_mut()
            .find_map(|publishing| match &mut publishing.what {
                Media::Pictures(cameras) => Some(cameras.as_mut_slice()),
                Media::Sound(_) => None,
            })
            .unwrap_or_default()
    }

    /// Asks for a key frame on a section it receives.
    pub fn request_keyframe(&mut self, mid: &str) {
        if let Some(mut writer) = self.rtc.writer(Mid::from(mid)) {
            // Before the first packet there is no stream to ask.
            let _ = writer.request_keyframe(None, KeyframeRequestKind::Pli);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        let sources = self.publishing.iter().filter(|_| self.connected).map(|p| p.next);
        let listeners = self.listeners.values().filter_map(Listener::due);
        sources.chain(listeners).fold(self.deadline, Instant::min)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.rtc.handle_input(Input::Timeout(now)).expect("time passes");
        self.drain(now);
        if self.connected {
            self.make_media(now);
        }
        self.listeners.values_mut().for_each(|listener| listener.play(now));
        self.flush();
        self.drain(now);
    }

    pub(crate) fn handle_datagram(&mut self, now: Instant, bytes: &[u8]) {
        let Ok(receive) = Receive::new(Protocol::Udp, self.server, self.inside, bytes) else {
            panic!("the shard sent what is no part of WebRTC");
        };
        let input = Input::Receive(now, receive);
        if self.rtc.accepts(&input) {
            self.rtc.handle_input(input).expect("what the shard sends is well-formed");
            self.drain(now);
        }
    }

    fn flush(&mut self) {
        while let Some((label, payload)) = self.unsent.front() {
            let Some(mut channel) = self.channels.get(label).and_then(|id| self.rtc.channel(*id)) else { return };
            match channel.write(true, payload) {
                Ok(true) => self.unsent.pop_front(),
                _ => return,
            };
        }
    }

    fn make_media(&mut self, now: Instant) {
        for index in 0..self.publishing.len() {
            while self.publishing[index].next <= now {
                self.make_one(now, index);
                self.drain(now);
            }
        }
    }

    fn make_one(&mut self, now: Instant, index: usize) {
        let Publishing { mid, next, number, what } = &mut self.publishing[index];
        *number += 1;
        match what {
            Media::Sound(microphone) => {
                *next += Microphone::PACE;
                let (time, data) = microphone.packet();
                let pt = payload_type(&self.rtc, Codec::Opus);
                let writer = self.rtc.writer(*mid).expect("a section that sends").audio_level(Microphone::LEVEL, true);
                writer.write(pt, now, MediaTime::new(time, Frequency::FORTY_EIGHT_KHZ), data).expect("sound is sent");
            }
            Media::Pictures(cameras) => {
                *next += Camera::PACE;
                let pt = payload_type(&self.rtc, Codec::Vp8);
                for camera in cameras.iter_mut().filter(|camera| camera.is_active()) {
                    let mut writer = self.rtc.writer(*mid).expect("a section that sends");
                    if let Some(rid) = camera.rid {
                        writer = writer.rid(rid.into());
                    }
                    let time = MediaTime::new(*number * Camera::TICKS, Frequency::NINETY_KHZ);
                    writer.write(pt, now, time, camera.frame(*number)).expect("a picture is sent");
                    // One frame may be queued at a time.
                    drain_session(&mut self.rtc, &mut self.outbox, &mut self.deadline, now, &mut Vec::new());
                }
            }
        }
    }

    fn drain(&mut self, now: Instant) {
        let mut events = Vec::new();
        drain_session(&mut self.rtc, &mut self.outbox, &mut self.deadline, now, &mut events);
        events.into_iter().for_each(|event| self.on_event(now, event));
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connected => self.connected = true,
            Event::MediaData(data) => self.on_media(now, data),
            Event::ChannelOpen(id, label) => {
                self.channels.insert(label, id);
            }
            Event::ChannelData(data) => {
                let label = self.channels.iter().find(|(_, id)| **id == data.id).map(|(label, _)| label.clone());
                let label = label.expect("a message on an open channel");
                self.messages.push(Message { at: now, label, payload: data.data });
            }
            Event::KeyframeRequest(request) => {
                let rid = request.rid.map(|rid| rid.to_string());
                let publishing = self.publishing.iter_mut().find(|p| p.mid == request.mid);
                if let Some(Publishing { what: Media::Pictures(cameras), .. }) = publishing {
                    for camera in cameras.iter_mut().filter(|camera| rid.is_none() || camera.rid == rid.as_deref()) {
                        camera.key_wanted = true;
                    }
                }
                self.keyframe_requests.push((now, rid));
            }
            _ => {}
        }
    }

    fn on_media(&mut self, now: Instant, data: MediaData) {
        let mid = data.mid.to_string();
        if let Some(listener) = self.listeners.get_mut(&mid) {
            let time = data.time.rebase(Frequency::FORTY_EIGHT_KHZ).numer();
            listener.packet(**data.seq_range.start(), time, data.network_time, data.data.clone());
        }
        let read = Camera::read(&data.data);
        self.frames.entry(mid.clone()).or_default().push(Frame {
            at: now,
            seq: (**data.seq_range.start(), **data.seq_range.end()),
            time: data.time.numer(),
            contiguous: data.contiguous,
            key: read.is_some_and(|(key, _)| key),
            number: read.map(|(_, number)| number),
            len: data.data.len(),
        });
        let missing = !data.contiguous && !self.listeners.contains_key(&mid) && !read.is_some_and(|(key, _)| key);
        if missing && self.asks_for_keyframes && self.asked.is_none_or(|at| now >= at + Duration::from_millis(500)) {
            self.asked = Some(now);
            self.request_keyframe(&mid);
        }
    }

    /// Everything that reached its user, in one number. Times count from its start.
    pub(crate) fn digest(&self) -> u64 {
        let mut text = String::new();
        let nanos = |at: Instant| (at - self.started).as_nanos();
        for (mid, frames) in &self.frames {
            let Some(first) = frames.first() else { continue };
            for f in frames {
                let seq = (f.seq.0 - first.seq.0.min(f.seq.0), f.seq.1 - f.seq.0);
                text += &format!("{mid} {} {seq:?} {} {:?} {}\n", nanos(f.at), f.contiguous, f.number, f.len);
            }
        }
        for message in &self.messages {
            text += &format!("{} {} {}\n", nanos(message.at), message.label, crate::source::checksum(&message.payload));
        }
        for (at, rid) in &self.keyframe_requests {
            text += &format!("{} {rid:?}\n", nanos(*at));
        }
        for (mid, listener) in &self.listeners {
            text += &format!("{mid} {} {:?}\n", listener.digest(), listener.stats());
        }
        crate::source::checksum(text.as_bytes())
    }
}

fn payload_type(rtc: &Rtc, codec: Codec) -> str0m::media::Pt {
    rtc.codec_config().iter().find(|params| params.spec().codec == codec).expect("a codec of the session").pt()
}

/// Polls until the session wants to wait.
fn drain_session(
    rtc: &mut Rtc,
    outbox: &mut Vec<Vec<u8>>,
    deadline: &mut Instant,
    now: Instant,
    events: &mut Vec<Event>,
) {
    for _ in 0..10_000 {
        match rtc.poll_output().expect("the session lives") {
            Output::Timeout(at) if at > now => {
                *deadline = at;
                return;
            }
            Output::Timeout(_) => rtc.handle_input(Input::Timeout(now)).expect("time passes"),
            Output::Transmit(transmit) => outbox.push(transmit.contents.to_vec()),
            Output::Event(event) => events.push(event),
        }
    }
    panic!("the session does not come to rest");
}
