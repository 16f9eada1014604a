//! A side with keys that sends what it likes: RTP payloads as they are given, after a real handshake over UDP.
#![allow(dead_code, reason = "each test uses its own part")]

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use greenroom_peer::Peer;
use str0m::channel::ChannelId;
use str0m::format::Codec;
use str0m::media::{Direction, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpWrite, SeqNo};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

pub struct Hostile {
    rtc: Rtc,
    socket: UdpSocket,
    pub sound: Mid,
    pub pictures: Mid,
    channel: Option<ChannelId>,
    pub keyframe_requests: usize,
    numbers: [u64; 2],
}

impl Hostile {
    /// Join `peer`, offering a section of sound, one of pictures and a data channel.
    pub fn connect(peer: &Peer) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let mut config = RtcConfig::new().set_rtp_mode(true).clear_codecs().enable_opus(true, true).enable_vp8(true);
        config.codec_config().add_h264(109.into(), Some(114.into()), true, 0x42e01f);
        let mut rtc = config.build(Instant::now());
        let address = socket.local_addr().expect("bound");
        rtc.add_local_candidate(Candidate::host(address, "udp").expect("an address of UDP"));
        let mut api = rtc.sdp_api();
        let [sound, pictures] = [MediaKind::Audio, MediaKind::Video]
            .map(|kind| api.add_media(kind, Direction::SendOnly, Some("s".into()), None, None));
        api.add_channel("_reliable".into());
        let (offer, pending) = api.apply().expect("something to offer");
        let answer = peer.accept_offer(&offer.to_sdp_string()).expect("a good offer");
        let answer = str0m::change::SdpAnswer::from_sdp_string(&answer).expect("a good answer");
        rtc.sdp_api().accept_answer(pending, answer).expect("a good answer");
        let mut hostile =
            Self { rtc, socket, sound, pictures, channel: None, keyframe_requests: 0, numbers: [1000; 2] };
        let end = Instant::now() + Duration::from_secs(10);
        while hostile.channel.is_none() {
            assert!(Instant::now() < end, "not connected");
            hostile.run(Duration::from_millis(5));
        }
        hostile
    }

    /// Its payload type; of Opus with and without redundancy.
    pub fn payload_type(&self, codec: Codec, red: bool) -> Pt {
        let params = self.rtc.codec_config().iter().find(|params| params.spec().codec == codec).expect("negotiated");
        if red { params.red().expect("negotiated") } else { params.pt() }
    }

    /// The next packet of a section.
    pub fn write(&mut self, mid: Mid, pt: Pt, time: u32, marker: bool, payload: &[u8]) {
        let number = &mut self.numbers[usize::from(mid == self.pictures)];
        *number += 1;
        let packet = RtpWrite::new(pt, SeqNo::from(*number), time, Instant::now(), payload.to_vec()).marker(marker);
        self.rtc.direct_api().stream_tx_by_mid(mid, None).expect("a section that sends").write_rtp(packet);
        self.drain();
    }

    /// False when the channel is full.
    pub fn say(&mut self, message: &[u8]) -> bool {
        let mut channel = self.rtc.channel(self.channel.expect("connected")).expect("open");
        let taken = channel.write(true, message).expect("connected");
        self.drain();
        taken
    }

    /// Take what comes for so long.
    pub fn run(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut buf = [0; 2048];
        loop {
            let due = self.drain();
            let now = Instant::now();
            if now >= end {
                return;
            }
            let wait = due.min(end).saturating_duration_since(now).max(Duration::from_micros(100));
            self.socket.set_read_timeout(Some(wait)).expect("not zero");
            if let Ok((len, from)) = self.socket.recv_from(&mut buf) {
                let address = self.socket.local_addr().expect("bound");
                if let Ok(receive) = Receive::new(Protocol::Udp, from, address, &buf[..len]) {
                    self.rtc.handle_input(Input::Receive(Instant::now(), receive)).expect("an honest peer");
                }
            }
            self.rtc.handle_input(Input::Timeout(Instant::now())).expect("an honest peer");
        }
    }

    /// Send what is to be sent. Returns when there is more to do.
    fn drain(&mut self) -> Instant {
        loop {
            match self.rtc.poll_output().expect("an honest peer") {
                Output::Timeout(at) if at <= Instant::now() => {
                    self.rtc.handle_input(Input::Timeout(Instant::now())).expect("an honest peer");
                }
                Output::Timeout(at) => return at,
                Output::Transmit(packet) => {
                    self.socket.send_to(&packet.contents, packet.destination).expect("loopback");
                }
                Output::Event(Event::ChannelOpen(id, _)) => self.channel = Some(id),
                Output::Event(Event::KeyframeRequest(_)) => self.keyframe_requests += 1,
                Output::Event(_) => {}
            }
        }
    }
}
