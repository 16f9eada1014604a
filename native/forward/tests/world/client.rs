//! A client made of the parts a real one has: STUN checks, DTLS, SRTP, SCTP.
use std::collections::HashMap;
use std::time::{Duration, Instant};

use greenroom_secure::dtls::{Certificate, DimplDtls, Dtls, DtlsOutput, Fingerprint, Role};
use greenroom_secure::mac::hmac_sha1;
use greenroom_secure::sctp::{Association, DataTransport, SctpConfig, SctpEvent};
use greenroom_secure::srtp::{RxSource, SrtpRx, SrtpTx};
use greenroom_wire::demux::{Kind as Protocol, classify};
use greenroom_wire::rtcp::{Builder, Packet, SenderInfo, parse};
use greenroom_wire::rtp::{HeaderFields, RtpHeader, write_header};
use greenroom_wire::stun::{BindingRequest, IceRole, TransactionId, write_binding_request};
use greenroom_wire::{Ssrc, WireError};

/// One RTP packet that arrived, opened.
#[derive(Debug, Clone)]
pub struct ReceivedRtp {
    pub at: Instant,
    pub header: RtpHeader,
    /// Extended sequence number.
    pub index: u64,
    pub payload: Vec<u8>,
    pub extensions: Vec<(u8, Vec<u8>)>,
}

/// RTCP that arrived, as far as tests ask.
#[derive(Debug, Clone, PartialEq)]
pub enum Rtcp {
    Sender(SenderInfo),
    Receiver(Vec<greenroom_wire::rtcp::ReportBlock>),
    Nack(u32, Vec<u16>),
    Pli(u32),
    /// (transport sequence number, received)
    Twcc(Vec<(u16, bool)>),
    Other,
}

pub struct Client {
    pub ufrag: String,
    pub pwd: String,
    pub fingerprint: Fingerprint,
    pub outbox: Vec<Vec<u8>>,
    pub rtp: Vec<ReceivedRtp>,
    pub rtcp: Vec<(Instant, Rtcp)>,
    pub sctp: Option<Association>,
    /// Ports and verification tag of the association, once it has sent something.
    pub sctp_header: Option<[u8; 12]>,
    pub channels: Vec<SctpEvent>,
    pub stun_answers: usize,
    /// Answer these media SSRCs' NACK, and drop every n-th packet sent (0: none).
    pub sent: HashMap<(u32, u16), Vec<u8>>,
    dtls: DimplDtls,
    dtls_at: Option<Instant>,
    tx: Option<SrtpTx>,
    rx: Option<SrtpRx>,
    /// Opens what the client itself sent.
    echo: Option<SrtpRx>,
    sources: HashMap<u32, RxSource>,
    check_at: Option<Instant>,
    now: Instant,
    checks: u8,
}

impl Client {
    pub fn new(index: usize, now: Instant) -> Client {
        let certificate = Certificate::generate().unwrap();
        Client {
            ufrag: format!("ufrag{index}"),
            pwd: format!("password-of-client-{index}"),
            fingerprint: certificate.fingerprint(),
            outbox: Vec::new(),
            rtp: Vec::new(),
            rtcp: Vec::new(),
            sctp: None,
            sctp_header: None,
            channels: Vec::new(),
            stun_answers: 0,
            sent: HashMap::new(),
            dtls: DimplDtls::new(Role::Client, &certificate, now),
            dtls_at: None,
            tx: None,
            rx: None,
            echo: None,
            sources: HashMap::new(),
            check_at: None,
            now,
            checks: 0,
        }
    }

    /// Waits for a ClientHello instead of sending one, with a new certificate.
    pub fn be_dtls_server(&mut self) {
        let certificate = Certificate::generate().unwrap();
        self.fingerprint = certificate.fingerprint();
        self.dtls = DimplDtls::new(Role::Server, &certificate, self.now);
    }

    /// Begins checks; DTLS follows the first answer.
    pub fn start(&mut self) {
        self.check_at = Some(self.now);
    }

    /// No more consent checks.
    pub fn stop_checks(&mut self) {
        self.check_at = None;
    }

    pub fn start_data(&mut self, now: Instant) {
        self.sctp = Some(Association::new(SctpConfig::new(Role::Client), now));
    }

    pub fn is_connected(&self) -> bool {
        self.tx.is_some()
    }

    /// Opens what comes from the shard.
    pub fn opener(&mut self) -> Option<&mut SrtpRx> {
        self.rx.as_mut()
    }

    /// Opens what the client sent.
    pub fn echo(&mut self) -> Option<&mut SrtpRx> {
        self.echo.as_mut()
    }

    pub fn check(&mut self, nominate: bool) -> Vec<u8> {
        self.checks = self.checks.wrapping_add(1);
        let username = format!("{}:remote", self.ufrag);
        let request = BindingRequest {
            transaction_id: TransactionId([self.checks; 12]),
            username: &username,
            priority: 1,
            role: IceRole::Controlling(1),
            use_candidate: nominate,
        };
        let mut buf = [0; 256];
        let len = write_binding_request(&mut buf, &request, self.pwd.as_bytes(), hmac_sha1).unwrap();
        buf[..len].to_vec()
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let data = self.sctp.as_ref().and_then(|s| s.poll_timeout());
        let dtls = self.dtls_at.filter(|_| self.stun_answers > 0);
        [self.check_at, dtls, data].into_iter().flatten().min()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if self.check_at.is_some_and(|at| at <= now) {
            self.check_at = Some(now + Duration::from_millis(if self.is_connected() { 2500 } else { 50 }));
            let check = self.check(true);
            self.outbox.push(check);
        }
        if self.stun_answers > 0 && self.dtls_at.is_none_or(|at| at <= now) {
            self.dtls.handle_timeout(now);
        }
        if let Some(sctp) = &mut self.sctp
            && sctp.poll_timeout().is_some_and(|at| at <= now)
        {
            sctp.handle_timeout(now);
        }
        self.poll(now);
    }

    pub fn handle(&mut self, now: Instant, bytes: &mut [u8]) {
        self.now = now;
        match classify(bytes) {
            Protocol::Stun => self.stun_answers += 1,
            Protocol::Dtls => {
                self.dtls.handle_timeout(now);
                self.dtls.handle_packet(now, bytes);
            }
            Protocol::Rtp => self.take_rtp(now, bytes),
            Protocol::Rtcp => self.take_rtcp(now, bytes),
            Protocol::Unknown => panic!("the shard sent something odd"),
        }
        self.poll(now);
    }

    pub fn poll(&mut self, now: Instant) {
        if self.stun_answers == 0 {
            return;
        }
        loop {
            match self.dtls.poll(now) {
                DtlsOutput::Packet(packet) => {
                    self.outbox.push(packet.to_vec());
                    continue;
                }
                DtlsOutput::Connected(keys) => {
                    self.tx = Some(SrtpTx::new(&keys.local));
                    self.rx = Some(SrtpRx::new(&keys.remote));
                    self.echo = Some(SrtpRx::new(&keys.local));
                    continue;
                }
                DtlsOutput::Data(packet) => {
                    if let Some(sctp) = &mut self.sctp {
                        sctp.handle_packet(now, packet);
                    }
                    continue;
                }
                DtlsOutput::Timeout(at) => self.dtls_at = at,
                DtlsOutput::Closed | DtlsOutput::Failed(_) => self.dtls_at = None,
            }
            let Some(sctp) = self.sctp.as_mut().filter(|_| self.dtls.is_connected()) else { break };
            while let Some(event) = sctp.poll_event() {
                self.channels.push(event);
            }
            let mut moved = false;
            while let Some(packet) = sctp.poll_transmit(now) {
                self.sctp_header = packet.first_chunk().copied();
                self.dtls.send(now, &packet).unwrap();
                moved = true;
            }
            if !moved {
                break;
            }
        }
    }

    fn take_rtp(&mut self, now: Instant, bytes: &mut [u8]) {
        let rx = self.rx.as_mut().expect("media after the handshake");
        let header = RtpHeader::parse(bytes).unwrap();
        let source = self.sources.entry(header.ssrc.0).or_default();
        // The same packet sent again plainly is a duplicate of one received.
        let Some(index) = source.index_of(header.sequence_number) else { return };
        let len = rx.open_rtp(bytes, header.header_len, index).expect("authentic");
        source.accept(index);
        let packet = &bytes[..len];
        let payload = header.payload(packet).unwrap().to_vec();
        let extensions = header.extensions(packet).map(|e| (e.id, e.data.to_vec())).collect();
        self.rtp.push(ReceivedRtp { at: now, header, index, payload, extensions });
    }

    fn take_rtcp(&mut self, now: Instant, bytes: &mut [u8]) {
        let len = self.rx.as_mut().unwrap().open_rtcp(bytes).expect("authentic");
        for packet in parse(&bytes[..len]).expect("a valid compound") {
            let seen = match packet.expect("a valid packet") {
                Packet::SenderReport(report) => Rtcp::Sender(report.info),
                Packet::ReceiverReport(report) => Rtcp::Receiver(report.reports.collect()),
                Packet::Nack(nack) => Rtcp::Nack(nack.media.0, nack.sequence_numbers().collect()),
                Packet::Pli(pli) => Rtcp::Pli(pli.media.0),
                Packet::Twcc(twcc) => Rtcp::Twcc(twcc.statuses().map(|(seq, delta)| (seq, delta.is_some())).collect()),
                _ => Rtcp::Other,
            };
            self.rtcp.push((now, seen));
        }
    }

    /// Seals and queues one RTP packet.
    pub fn send_rtp(&mut self, fields: &HeaderFields, index: u64, extensions: &[(u8, &[u8])], payload: &[u8]) {
        let bytes = self.seal_rtp(fields, index, extensions, payload);
        self.outbox.push(bytes);
    }

    pub fn seal_rtp(
        &mut self,
        fields: &HeaderFields,
        index: u64,
        extensions: &[(u8, &[u8])],
        payload: &[u8],
    ) -> Vec<u8> {
        let values: usize = extensions.iter().map(|(_, value)| 2 + value.len()).sum();
        let mut buf = vec![0; values + payload.len() + 64];
        let header_len = write_header(&mut buf, fields, extensions).unwrap();
        buf[header_len..header_len + payload.len()].copy_from_slice(payload);
        let len = self.tx.as_mut().unwrap().seal_rtp(&mut buf, header_len, header_len + payload.len(), index);
        buf.truncate(len);
        buf
    }

    /// Seals bytes as one RTCP packet, whatever they are.
    pub fn seal_rtcp(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buf = bytes.to_vec();
        buf.resize(bytes.len() + 64, 0);
        let len = self.tx.as_mut().unwrap().seal_rtcp(&mut buf, bytes.len()).unwrap();
        buf.truncate(len);
        buf
    }

    /// Builds, seals and queues one RTCP packet.
    pub fn send_rtcp(&mut self, write: impl FnOnce(&mut Builder<'_>) -> Result<(), WireError>) {
        let mut buf = vec![0; 1500];
        let mut builder = Builder::new(&mut buf[..1400]);
        write(&mut builder).unwrap();
        let len = builder.len();
        let len = self.tx.as_mut().unwrap().seal_rtcp(&mut buf, len).unwrap();
        buf.truncate(len);
        self.outbox.push(buf);
    }

    /// Sends these SCTP chunks as if the association had, whatever they are.
    pub fn send_chunks(&mut self, now: Instant, chunks: &[u8]) {
        let Some(header) = self.sctp_header.filter(|_| self.dtls.is_connected()) else { return };
        let mut packet = [&header, chunks].concat();
        packet[8..12].fill(0);
        // CRC32c (RFC 9260, appendix A).
        let crc = packet.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
        });
        packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
        // Beyond what a record holds there is nothing to send.
        if self.dtls.send(now, &packet).is_ok() {
            self.poll(now);
        }
    }

    /// Packets received on one SSRC, in order of arrival.
    pub fn stream(&self, ssrc: u32) -> Vec<&ReceivedRtp> {
        self.rtp.iter().filter(|p| p.header.ssrc == Ssrc(ssrc)).collect()
    }

    /// RTCP of one kind, taken out.
    pub fn take_feedback(&mut self) -> Vec<Rtcp> {
        self.rtcp.drain(..).map(|(_, packet)| packet).collect()
    }
}

/// A stream the client sends: counts by itself.
pub struct Source {
    pub ssrc: u32,
    pub pt: u8,
    pub index: u64,
    pub timestamp: u32,
    pub picture: u16,
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub transport_cc: bool,
}

impl Source {
    pub fn new(ssrc: u32, pt: u8, extensions: &[(u8, &str)]) -> Source {
        let extensions = extensions.iter().map(|(id, value)| (*id, value.as_bytes().to_vec())).collect();
        Source { ssrc, pt, index: 100, timestamp: ssrc.wrapping_mul(7), picture: 10, extensions, transport_cc: false }
    }

    /// The fields of the next packet; counts on.
    pub fn next(&mut self, marker: bool) -> (HeaderFields, u64) {
        let fields = HeaderFields {
            marker,
            payload_type: self.pt,
            sequence_number: self.index as u16,
            timestamp: self.timestamp,
            ssrc: Ssrc(self.ssrc),
            padding: false,
        };
        self.index += 1;
        (fields, self.index - 1)
    }

    /// Sends one packet.
    pub fn send(&mut self, client: &mut Client, marker: bool, payload: &[u8]) {
        let (fields, index) = self.next(marker);
        let mut extensions: Vec<(u8, &[u8])> =
            self.extensions.iter().map(|(id, value)| (*id, value.as_slice())).collect();
        let number = (index as u16).to_be_bytes();
        if self.transport_cc {
            extensions.push((3, &number));
        }
        client.send_rtp(&fields, index, &extensions, payload);
    }

    /// Sends a VP8 frame of `packets` packets and moves the clock on by a thirtieth of a second.
    pub fn send_vp8(&mut self, client: &mut Client, keyframe: bool, packets: usize) {
        for packet in 0..packets {
            let payload = vp8(self.picture, keyframe, packet == 0, 1000);
            self.send(client, packet + 1 == packets, &payload);
        }
        self.picture = (self.picture + 1) & 0x7fff;
        self.timestamp = self.timestamp.wrapping_add(3000);
    }
}

/// A VP8 payload with a 15-bit picture id, TL0PICIDX and KEYIDX derived from it.
pub fn vp8(picture: u16, keyframe: bool, first: bool, len: usize) -> Vec<u8> {
    let mut payload = vec![0x80 | u8::from(first) << 4, 0xf0];
    payload.extend((picture | 0x8000).to_be_bytes());
    payload.extend([picture as u8, (picture as u8) & 0x1f]);
    payload.push(u8::from(!keyframe));
    payload.resize(len, 0xab);
    payload
}
