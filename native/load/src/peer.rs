//! One WebRTC peer: ICE, DTLS, SRTP, SCTP, RTP and RTCP, driven from outside.
//!
//! Run it like this: [`LoadPeer::connect`] once, [`LoadPeer::handle_datagram`] for what arrives,
//! [`LoadPeer::handle_timeout`] at [`LoadPeer::next_timeout`]. Each fills an [`Outbox`] to be sent.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use greenroom_secure::dtls::{Certificate, Connected, DimplDtls, Dtls, DtlsOutput, Fingerprint, Role};
use greenroom_secure::sctp::{Association, DataTransport, SctpConfig, SctpEvent};
use greenroom_secure::srtp::{SrtpRx, SrtpTx};
use greenroom_wire::demux::{Kind, classify};
use greenroom_wire::rtcp::{self, Packet, SenderInfo};
use greenroom_wire::rtp::RtpHeader;
use greenroom_wire::{Ssrc, ext};

use crate::ice::{Credentials, Ice};
use crate::outbox::Outbox;
use crate::random::Random;
use crate::receive::{Codec, Delays, NACK_INTERVAL, ReceiveStats, Receiver};
use crate::report::{self, REPORT_INTERVAL, TwccRecorder};
use crate::source::{Source, SourceSpec, SourceStats};

/// The SSRC a client that sends no media reports with.
const OWN_SSRC: Ssrc = Ssrc(1);
/// Received streams of one peer.
const MAX_RECEIVERS: usize = 4096;
/// Requests for one stream in one packet.
const MAX_NACKS: usize = 64;

/// The other side, as its SDP describes it.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Where it is reached: one UDP host candidate.
    pub address: SocketAddr,
    /// `a=ice-ufrag` and `a=ice-pwd`.
    pub credentials: Credentials,
    /// `a=fingerprint:sha-256`.
    pub fingerprint: Fingerprint,
    /// Whether this side nominates: facing a lite agent, or as the one who offered.
    pub controlling: bool,
    /// Whether this side sends the ClientHello (`a=setup:active` here).
    pub dtls_client: bool,
}

/// How to understand what arrives.
#[derive(Debug, Clone, Default)]
pub struct Reception {
    /// Payload types. Packets of others are dropped and counted.
    pub codecs: Vec<(u8, Codec)>,
    /// Retransmission SSRC and the SSRC it repairs (`a=ssrc-group:FID`).
    pub repairs: Vec<(u32, u32)>,
    /// Id of the transport-wide sequence number extension: sends feedback about it.
    pub twcc_id: Option<u8>,
    /// The bandwidth to claim by REMB once a second, in bits per second.
    pub remb_bps: Option<u64>,
}

/// Why a peer gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The handshake failed.
    Dtls(String),
    /// The certificate is not the one of the SDP.
    Fingerprint,
    /// The other side closed the connection.
    Closed,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Dtls(why) => f.write_str(why),
            Failure::Fingerprint => f.write_str("the certificate does not match the fingerprint"),
            Failure::Closed => f.write_str("closed by the other side"),
        }
    }
}

/// Counts of one peer.
#[derive(Debug, Clone, Default)]
pub struct PeerStats {
    /// From [`LoadPeer::connect`] to keys for media.
    pub connected: Option<Duration>,
    /// Why it ended, if it did.
    pub failure: Option<Failure>,
    /// Received streams by SSRC, retransmission streams left out.
    pub received: Vec<(u32, ReceiveStats)>,
    /// Published streams by SSRC.
    pub sent: Vec<(u32, SourceStats)>,
    /// Packets that could not be authenticated or understood.
    pub dropped: u64,
    /// Packets of retransmission streams.
    pub repairs: u64,
    /// Data channels opened by the other side.
    pub channels: u64,
    /// Messages on them.
    pub messages: u64,
}

struct Keys {
    tx: SrtpTx,
    rx: SrtpRx,
}

/// One peer.
pub struct LoadPeer {
    epoch: Instant,
    epoch_unix_micros: u64,
    random: Random,
    certificate: Certificate,
    credentials: Credentials,
    started: Option<Instant>,
    fingerprint: Option<Fingerprint>,
    role: Role,
    ice: Option<Ice>,
    dtls: Option<DimplDtls>,
    dtls_due: Option<Instant>,
    sctp: Option<Association>,
    keys: Option<Keys>,
    reception: Reception,
    receivers: HashMap<u32, Receiver>,
    waiting: Vec<SourceSpec>,
    sources: Vec<Source>,
    twcc_sequence: u16,
    twcc: TwccRecorder,
    report_due: Option<Instant>,
    nack_due: Option<Instant>,
    /// Of all packets, and of those that end a frame.
    delays: [Delays; 2],
    stats: PeerStats,
}

impl LoadPeer {
    /// A peer that does nothing yet. `epoch` with its time on the wall clock in microseconds since 1970 is what stamps,
    /// reports and arrival times count from; give all peers of a process the same. `seed` makes its numbers its own.
    pub fn new(epoch: Instant, epoch_unix_micros: u64, certificate: Certificate, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let credentials = Credentials { ufrag: random.text(8), pwd: random.text(24) };
        Self {
            epoch,
            epoch_unix_micros,
            random,
            certificate,
            credentials,
            started: None,
            fingerprint: None,
            role: Role::Client,
            ice: None,
            dtls: None,
            dtls_due: None,
            sctp: None,
            keys: None,
            reception: Reception::default(),
            receivers: HashMap::new(),
            waiting: Vec::new(),
            sources: Vec::new(),
            twcc_sequence: 0,
            twcc: TwccRecorder::default(),
            report_due: None,
            nack_due: None,
            delays: Default::default(),
            stats: PeerStats::default(),
        }
    }

    /// There are keys for media.
    pub fn is_connected(&self) -> bool {
        self.keys.is_some()
    }

    /// What belongs into this side's SDP.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The certificate's fingerprint, also for SDP.
    pub fn fingerprint(&self) -> Fingerprint {
        self.certificate.fingerprint()
    }

    /// Starts connecting. Only the first call counts.
    pub fn connect(&mut self, now: Instant, remote: Remote) {
        if self.started.is_some() {
            return;
        }
        self.started = Some(now);
        self.fingerprint = Some(remote.fingerprint);
        self.role = if remote.dtls_client { Role::Client } else { Role::Server };
        let (local, random) = (self.credentials.clone(), &mut self.random);
        self.ice = Some(Ice::new(now, local, remote.credentials, remote.address, remote.controlling, random));
        if self.role == Role::Server {
            self.dtls = Some(DimplDtls::new(Role::Server, &self.certificate, now));
        }
    }

    /// How to understand what arrives from now on.
    pub fn set_reception(&mut self, reception: Reception) {
        self.reception = reception;
    }

    /// Publishes a stream, from now or from when there are keys. Errors: an extension id outside 1..=14, no payloads.
    pub fn publish(&mut self, now: Instant, spec: SourceSpec) -> Result<(), &'static str> {
        let ids = [spec.mid.as_ref().map(|(id, _)| *id), spec.level_id, spec.twcc_id];
        if ids.into_iter().flatten().any(|id| !(1..=14).contains(&id)) {
            return Err("extension ids are 1 to 14");
        }
        if matches!(&spec.media, crate::Media::Audio { payloads, .. } if payloads.is_empty()) {
            return Err("audio needs at least one payload");
        }
        if matches!(&spec.media, crate::Media::Video(camera) if camera.bitrate == 0 || camera.frame_rate == 0) {
            return Err("video needs a bitrate and a frame rate");
        }
        if self.keys.is_some() {
            self.sources.push(Source::new(now, self.epoch, spec, &mut self.random));
        } else {
            self.waiting.push(spec);
        }
        Ok(())
    }

    /// Stops publishing a stream; an unknown one is ignored.
    pub fn unpublish(&mut self, ssrc: u32) {
        self.waiting.retain(|spec| spec.ssrc != ssrc);
        self.sources.retain(|source| source.ssrc() != ssrc);
    }

    /// Says goodbye. Send what is in `out`, then forget the peer.
    pub fn close(&mut self, now: Instant, out: &mut Outbox) {
        if let Some(sctp) = &mut self.sctp {
            sctp.close();
        }
        if let Some(dtls) = &mut self.dtls {
            dtls.close();
        }
        self.run_transport(now, out);
    }

    /// Counts so far.
    pub fn stats(&self) -> PeerStats {
        let mut stats = self.stats.clone();
        let media = self.receivers.values().filter(|r| !self.is_repair(r.ssrc()));
        stats.received = media.map(|r| (r.ssrc(), r.stats())).collect();
        stats.received.sort_unstable_by_key(|(ssrc, _)| *ssrc);
        stats.sent = self.sources.iter().map(|s| (s.ssrc(), s.stats())).collect();
        stats
    }

    /// How long stamped packets were under way: all, and those with a marker, which end a video frame.
    pub fn delays(&mut self) -> &mut [Delays; 2] {
        &mut self.delays
    }

    /// When [`LoadPeer::handle_timeout`] is due; None before [`LoadPeer::connect`] and after a failure.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.stats.failure.is_some() {
            return None;
        }
        let sctp = self.sctp.as_ref().and_then(|sctp| sctp.poll_timeout());
        let ice = self.ice.as_ref().map(Ice::next_timeout);
        let sources = self.sources.iter().map(Source::next_timeout).min();
        [ice, self.dtls_due, sctp, sources, self.report_due, self.nack_due, self.twcc.next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        if self.stats.failure.is_some() {
            return;
        }
        if let Some(ice) = &mut self.ice {
            ice.handle_timeout(now, &mut self.random, out);
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let sctp_due = due(self.sctp.as_ref().and_then(|sctp| sctp.poll_timeout()));
        if due(self.dtls_due) || sctp_due {
            if let Some(dtls) = &mut self.dtls {
                dtls.handle_timeout(now);
            }
            if let Some(sctp) = &mut self.sctp {
                sctp.handle_timeout(now);
            }
            self.run_transport(now, out);
        }
        let Some(keys) = &mut self.keys else { return };
        for source in &mut self.sources {
            if source.next_timeout() <= now {
                source.handle_timeout(now, &mut keys.tx, &mut self.twcc_sequence, out);
            }
        }
        self.send_feedback(now, out);
    }

    /// Takes one datagram that `arrived` some time before `now`; its bytes are overwritten by decryption.
    pub fn handle_datagram(&mut self, now: Instant, arrived: Instant, datagram: &mut [u8], out: &mut Outbox) {
        match classify(datagram) {
            Kind::Rtp => self.handle_rtp(arrived, datagram),
            Kind::Rtcp => self.handle_rtcp(now, datagram, out),
            Kind::Stun => {
                let Some(ice) = &mut self.ice else { return };
                ice.handle_stun(datagram, out);
                if ice.is_valid() && self.dtls.is_none() {
                    self.dtls = Some(DimplDtls::new(self.role, &self.certificate, now));
                    self.run_transport(now, out);
                }
            }
            Kind::Dtls => {
                let Some(dtls) = &mut self.dtls else { return };
                dtls.handle_timeout(now);
                dtls.handle_packet(now, datagram);
                self.run_transport(now, out);
            }
            Kind::Unknown => self.stats.dropped += 1,
        }
    }

    /// Moves data between DTLS and SCTP until both are quiet.
    fn run_transport(&mut self, now: Instant, out: &mut Outbox) {
        loop {
            let Some(dtls) = &mut self.dtls else { return };
            let (mut data, mut connected, mut ended) = (Vec::new(), None, None);
            loop {
                match dtls.poll(now) {
                    DtlsOutput::Packet(packet) => out.push(packet),
                    DtlsOutput::Data(packet) => data.push(packet.to_vec()),
                    DtlsOutput::Connected(done) => connected = Some(done),
                    DtlsOutput::Closed => ended = Some(Failure::Closed),
                    DtlsOutput::Failed(error) => ended = Some(Failure::Dtls(error.to_string())),
                    DtlsOutput::Timeout(due) => {
                        self.dtls_due = due;
                        break;
                    }
                }
            }
            if let Some(connected) = connected {
                ended = self.handle_connected(now, &connected).err().or(ended);
            }
            if let Some(failure) = ended {
                self.stats.failure.get_or_insert(failure);
            }
            if !self.run_sctp(now, &data) {
                return;
            }
        }
    }

    /// Whether it sent something, so that DTLS has work again.
    fn run_sctp(&mut self, now: Instant, data: &[Vec<u8>]) -> bool {
        let (Some(sctp), Some(dtls)) = (&mut self.sctp, &mut self.dtls) else { return false };
        data.iter().for_each(|packet| sctp.handle_packet(now, packet));
        while let Some(event) = sctp.poll_event() {
            match event {
                SctpEvent::ChannelOpen { remote: true, .. } => self.stats.channels += 1,
                SctpEvent::Message { .. } => self.stats.messages += 1,
                _ => {}
            }
        }
        let mut sent = false;
        while let Some(packet) = sctp.poll_transmit(now) {
            // A full queue drops a datagram as a network would; SCTP sends it again.
            sent |= dtls.send(now, &packet).is_ok();
        }
        sent
    }

    fn handle_connected(&mut self, now: Instant, connected: &Connected) -> Result<(), Failure> {
        if self.fingerprint.as_ref() != Some(&connected.remote_fingerprint) {
            return Err(Failure::Fingerprint);
        }
        self.keys = Some(Keys { tx: SrtpTx::new(&connected.local), rx: SrtpRx::new(&connected.remote) });
        self.stats.connected = self.started.map(|at| now.saturating_duration_since(at));
        self.sctp = Some(Association::new(SctpConfig::new(self.role), now));
        // Clients do not report in time with each other.
        let phase = Duration::from_micros(self.random.below(REPORT_INTERVAL.as_micros() as u64));
        self.report_due = Some(now + phase);
        for spec in std::mem::take(&mut self.waiting) {
            self.sources.push(Source::new(now, self.epoch, spec, &mut self.random));
        }
        Ok(())
    }

    fn is_repair(&self, ssrc: u32) -> bool {
        self.reception.repairs.iter().any(|(repair, _)| *repair == ssrc)
    }

    fn handle_rtp(&mut self, now: Instant, datagram: &mut [u8]) {
        let Some(len) = self.open_rtp(now, datagram) else {
            self.stats.dropped += 1;
            return;
        };
        let micros = now.saturating_duration_since(self.epoch).as_micros() as u64;
        let [all, frames] = &mut self.delays;
        all.read(&datagram[..len], micros);
        if datagram[1] & 0x80 != 0 {
            frames.read(&datagram[..len], micros);
        }
    }

    /// The length of the plain packet, when it was authentic and of a known payload type.
    fn open_rtp(&mut self, now: Instant, datagram: &mut [u8]) -> Option<usize> {
        let keys = self.keys.as_mut()?;
        let header = RtpHeader::parse(datagram).ok()?;
        let (_, codec) = *self.reception.codecs.iter().find(|(pt, _)| *pt == header.payload_type)?;
        let ssrc = header.ssrc.0;
        if self.receivers.len() >= MAX_RECEIVERS && !self.receivers.contains_key(&ssrc) {
            return None;
        }
        let receiver = self.receivers.entry(ssrc).or_insert_with(|| Receiver::new(ssrc, codec));
        let index = receiver.source.index_of(header.sequence_number)?;
        let len = keys.rx.open_rtp(datagram, header.header_len, index).ok()?;
        receiver.source.accept(index);
        let since_epoch = now.saturating_duration_since(self.epoch);
        if let Some(id) = self.reception.twcc_id
            && let Some(sequence) = header.extension(datagram, id).and_then(|e| ext::parse_transport_cc(e).ok())
        {
            self.twcc.handle_packet(now, sequence, since_epoch);
        }
        if codec.apt.is_some() {
            self.stats.repairs += 1;
            let payload = header.payload(&datagram[..len]).ok()?;
            let repaired = self.reception.repairs.iter().find(|(repair, _)| *repair == ssrc)?.1;
            // Without payload it is padding, a probe of bandwidth.
            if let [high, low, ..] = *payload
                && let Some(original) = self.receivers.get_mut(&repaired)
            {
                original.handle_retransmission(u16::from_be_bytes([high, low]), len - 2);
            }
        } else {
            receiver.handle_packet(now, index, header.timestamp, len, since_epoch);
            if receiver.is_missing() {
                self.nack_due = Some(self.nack_due.map_or(now, |due| due.min(now)));
            }
        }
        Some(len)
    }

    fn handle_rtcp(&mut self, now: Instant, datagram: &mut [u8], out: &mut Outbox) {
        let Some(len) = self.keys.as_mut().and_then(|keys| keys.rx.open_rtcp(datagram).ok()) else {
            self.stats.dropped += 1;
            return;
        };
        let Ok(compound) = rtcp::parse(&datagram[..len]) else {
            self.stats.dropped += 1;
            return;
        };
        for packet in compound.flatten() {
            match packet {
                Packet::SenderReport(report) => {
                    if let Some(receiver) = self.receivers.get_mut(&report.info.ssrc.0) {
                        receiver.handle_sender_report(now, report.info.ntp);
                    }
                }
                Packet::Nack(nack) => {
                    if let Some(source) = self.source(nack.media) {
                        nack.sequence_numbers().take(MAX_NACKS).for_each(|sequence| source.retransmit(sequence, out));
                    }
                }
                Packet::Pli(pli) => {
                    if let Some(source) = self.source(pli.media) {
                        source.request_keyframe(now);
                    }
                }
                Packet::Fir(fir) => {
                    for (ssrc, _) in fir.entries() {
                        if let Some(source) = self.source(ssrc) {
                            source.request_keyframe(now);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn source(&mut self, ssrc: Ssrc) -> Option<&mut Source> {
        self.sources.iter_mut().find(|source| source.ssrc() == ssrc.0)
    }

    fn send_feedback(&mut self, now: Instant, out: &mut Outbox) {
        let Some(keys) = &mut self.keys else { return };
        let tx = &mut keys.tx;
        let mut send = |buf: &mut [u8], len: usize| {
            if let Ok(sealed) = tx.seal_rtcp(buf, len) {
                out.push(&buf[..sealed]);
            }
        };
        let since_epoch = now.saturating_duration_since(self.epoch);
        let media = self.receivers.keys().next().copied().map_or(Ssrc(0), Ssrc);
        self.twcc.handle_timeout(now, OWN_SSRC, media, &mut send);
        if self.nack_due.is_some_and(|due| due <= now) {
            self.nack_due = None;
            for receiver in self.receivers.values_mut() {
                let wanted = receiver.take_nacks(now, MAX_NACKS);
                if !wanted.is_empty() {
                    report::compound(&mut send, |b| {
                        let _ = b.nack(OWN_SSRC, Ssrc(receiver.ssrc()), wanted);
                    });
                }
                if receiver.is_missing() {
                    self.nack_due = Some(now + NACK_INTERVAL);
                }
            }
        }
        if self.report_due.is_some_and(|due| due <= now) {
            self.report_due = Some(now + REPORT_INTERVAL);
            for source in &self.sources {
                let stats = source.stats();
                let info = SenderInfo {
                    ssrc: Ssrc(source.ssrc()),
                    ntp: report::ntp(self.epoch_unix_micros, since_epoch),
                    rtp_timestamp: source.timestamp_at(now),
                    packets: stats.packets as u32,
                    octets: stats.bytes as u32,
                };
                report::sender_report(&mut send, &info);
            }
            let blocks: Vec<_> = self.receivers.values_mut().filter_map(|r| r.report(now)).collect();
            if !blocks.is_empty() || self.sources.is_empty() {
                report::receiver_reports(&mut send, OWN_SSRC, &blocks);
            }
            if let (Some(bps), false) = (self.reception.remb_bps, blocks.is_empty()) {
                let ssrcs: Vec<Ssrc> = blocks.iter().take(200).map(|block| block.ssrc).collect();
                report::compound(&mut send, |b| {
                    let _ = b.remb(OWN_SSRC, bps, &ssrcs);
                });
            }
        }
    }
}
