//! [`DataTransport`] on the `sctp-proto` crate.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sctp_proto::{
    AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Ppid, ReliabilityType, ServerConfig, StreamEvent, TransportConfig,
};

use super::dcep::Dcep;
use super::{ChannelConfig, ChannelId, DataTransport, MAX_LABEL_LEN, Reliability, SctpConfig, SctpError, SctpEvent};
use crate::dtls::Role;

/// First and least retransmission timeout in milliseconds, below the 1 s of RFC 9260: that value is for paths nobody
/// has measured, and doubles the throughput lost to a lost packet on the paths calls run on.
const RTO_INITIAL_MS: u64 = 500;
const RTO_MIN_MS: u64 = 400;
/// A call that has been silent for so long is retried at this pace; the RFC's minute would outlast most outages.
const RTO_MAX_MS: u64 = 10_000;
/// Bytes of user data in one packet. With SCTP, DTLS, UDP and IPv6 headers it stays within 1,280 bytes.
const MAX_PAYLOAD: u32 = 1150;
/// Receive buffer over all channels: several of the largest messages, or RFC 9260's window at 30 ms and 200 Mbit/s.
const RECEIVE_BUFFER: u32 = 1024 * 1024;
/// Events that wait to be polled before messages are left in SCTP, whose receive window then slows the peer down.
const MAX_EVENTS: usize = 256;
/// Streams beyond `max_channels` that may exist for a while: refused ones until their reset has ended.
const MAX_SPARE_STREAMS: usize = 256;
/// The reason of [`SctpEvent::Closed`] after a panic.
pub(crate) const BROKEN: &str = "SCTP implementation failed";
/// SCTP has no address of its own inside DTLS; `sctp-proto` wants one.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

/// The chunk type of INIT (RFC 9260, 3.2).
const INIT: u8 = 1;
/// The common header in front of the first chunk (RFC 9260, 3.1).
const COMMON_HEADER_LEN: usize = 12;

/// The type of the first chunk of a packet.
fn first_chunk(packet: &[u8]) -> Option<u8> {
    packet.get(COMMON_HEADER_LEN).copied()
}

/// An SCTP association inside a DTLS connection.
pub struct Association {
    config: SctpConfig,
    endpoint: Endpoint,
    /// `None` until the first INIT (server), and after the end.
    inner: Option<(AssociationHandle, sctp_proto::Association)>,
    phase: Phase,
    channels: BTreeMap<u16, Channel>,
    /// Streams with messages that were not read because too many events wait.
    unread: BTreeSet<u16>,
    events: VecDeque<SctpEvent>,
    transmits: VecDeque<Bytes>,
    /// Something happened since the SCTP implementation was last asked for packets. Asking is expensive: it goes through all
    /// that is unacknowledged.
    untapped: bool,
    now: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Established,
    Closed,
}

struct Channel {
    config: ChannelConfig,
    state: ChannelState,
    low_threshold: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChannelState {
    /// Waits for the association; opens by DCEP.
    WaitingToOpen,
    /// Waits for the association; negotiated in advance.
    WaitingNegotiated,
    /// DATA_CHANNEL_OPEN was sent. Messages may be sent, but must be ordered (RFC 8832, 6).
    Opening,
    Open,
    /// Our reset was sent.
    Closing,
}

impl Association {
    /// A client sends its INIT with the first [`DataTransport::poll_transmit`]; a server waits for one. Make it when
    /// DTLS is connected.
    pub fn new(config: SctpConfig, now: Instant) -> Self {
        let transport = TransportConfig::default()
            .with_rto_initial_ms(RTO_INITIAL_MS)
            .with_rto_min_ms(RTO_MIN_MS)
            .with_rto_max_ms(RTO_MAX_MS)
            .with_max_send_message_size(clamp_u32(config.max_send_message))
            .with_max_receive_message_size(clamp_u32(config.max_receive_message))
            .with_max_receive_buffer_size(RECEIVE_BUFFER.max(clamp_u32(config.max_receive_message)))
            // DTLS and ICE decide when a peer is gone.
            .with_max_init_retransmits(None)
            .with_max_data_retransmits(None);
        let transport = Arc::new(transport);
        let mut endpoint_config = EndpointConfig::new();
        endpoint_config.max_payload_size(MAX_PAYLOAD);
        // A client gets a server configuration too: `Endpoint` expects one when an INIT arrives, wanted or not.
        let mut server_config = ServerConfig::new();
        server_config.transport = transport.clone();
        let mut endpoint = Endpoint::new(Arc::new(endpoint_config), Some(Arc::new(server_config)));
        let inner = match config.role {
            Role::Server => None,
            Role::Client => {
                endpoint.reject_new_associations();
                let mut client_config = ClientConfig::new();
                client_config.transport = transport;
                Some(endpoint.connect(client_config, PEER).expect("a valid address and ports"))
            }
        };
        Self {
            config,
            endpoint,
            inner,
            phase: Phase::Connecting,
            channels: BTreeMap::new(),
            unread: BTreeSet::new(),
            events: VecDeque::new(),
            transmits: VecDeque::new(),
            untapped: true,
            now,
        }
    }

    /// Runs `act` so that a panic in the SCTP implementation ends this association and nothing else, then collects what
    /// came of it.
    fn run(&mut self, act: impl FnOnce(&mut Self)) {
        if self.phase == Phase::Closed {
            return;
        }
        self.untapped = true;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            act(self);
            self.process_events();
        }));
        if outcome.is_err() {
            self.end(BROKEN);
        }
    }

    fn end(&mut self, reason: &str) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Closed;
            self.inner = None;
            self.channels.clear();
            self.unread.clear();
            self.events.push_back(SctpEvent::Closed { reason: reason.to_owned() });
        }
    }

    fn process_events(&mut self) {
        while let Some(event) = self.inner.as_mut().and_then(|(_, inner)| inner.poll()) {
            match event {
                Event::Connected => self.on_connected(),
                Event::HandshakeFailed { reason } | Event::AssociationLost { reason } => {
                    self.flush_transmits();
                    self.end(&reason.to_string());
                }
                Event::Stream(StreamEvent::Opened { id }) => {
                    // The stream is known by its id; what `accept_stream` would hand out must not pile up.
                    if let Some((_, inner)) = &mut self.inner {
                        inner.accept_stream();
                        // Each stream costs memory before a message on it is complete, and nothing else counts them.
                        if inner.stream_ids().len() > self.config.max_channels + MAX_SPARE_STREAMS {
                            return self.end("peer uses too many streams");
                        }
                    }
                    self.unread.insert(id);
                }
                Event::Stream(StreamEvent::Readable { id }) => {
                    self.unread.insert(id);
                }
                Event::Stream(StreamEvent::Finished { id } | StreamEvent::Stopped { id, .. }) => {
                    self.unread.remove(&id);
                    self.on_channel_closed(id);
                }
                Event::Stream(StreamEvent::BufferedAmountLow { id }) if self.channels.contains_key(&id) => {
                    self.events.push_back(SctpEvent::BufferedLow { id: ChannelId(id) });
                }
                _ => {}
            }
        }
        self.read_streams();
    }

    fn on_connected(&mut self) {
        self.phase = Phase::Established;
        self.events.push_back(SctpEvent::Connected);
        let waiting: Vec<u16> = self.channels.keys().copied().collect();
        for id in waiting {
            self.start_channel(id);
        }
    }

    /// Opens the stream of a channel that waited for the association.
    fn start_channel(&mut self, id: u16) {
        let (Some((_, inner)), Some(channel)) = (&mut self.inner, self.channels.get_mut(&id)) else { return };
        let negotiated = match channel.state {
            ChannelState::WaitingNegotiated => true,
            ChannelState::WaitingToOpen => false,
            _ => return,
        };
        // The peer may have used the stream already; then it exists.
        let opened = inner.open_stream(id, Ppid::Binary).is_ok() || inner.stream(id).is_ok();
        let sent = opened && {
            let sent = negotiated || write_dcep(inner, id, &Dcep::Open(channel.config.clone()));
            set_reliability(inner, id, &channel.config, negotiated);
            set_low_threshold(inner, id, channel.low_threshold);
            sent
        };
        if !sent {
            self.on_channel_closed(id);
        } else if negotiated {
            self.on_channel_open(id, false);
        } else {
            channel.state = ChannelState::Opening;
        }
    }

    fn on_channel_open(&mut self, id: u16, remote: bool) {
        let (Some((_, inner)), Some(channel)) = (&mut self.inner, self.channels.get_mut(&id)) else { return };
        channel.state = ChannelState::Open;
        // From now on an unordered channel may really be unordered.
        set_reliability(inner, id, &channel.config, true);
        let config = channel.config.clone();
        self.events.push_back(SctpEvent::ChannelOpen { id: ChannelId(id), config, remote });
    }

    fn on_channel_closed(&mut self, id: u16) {
        if self.channels.remove(&id).is_some() {
            self.events.push_back(SctpEvent::ChannelClosed { id: ChannelId(id) });
        }
    }

    /// Reads what arrived, as far as events have room. Data can arrive before the COOKIE ACK that it overtook; it waits,
    /// because nothing could be answered yet.
    fn read_streams(&mut self) {
        while self.phase == Phase::Established && self.events.len() < MAX_EVENTS {
            let Some(id) = self.unread.first().copied() else { return };
            match self.read_message(id) {
                Some((ppid, data)) => self.on_message(id, ppid, data),
                None => {
                    self.unread.remove(&id);
                }
            }
        }
    }

    fn read_message(&mut self, id: u16) -> Option<(Ppid, Bytes)> {
        let (_, inner) = self.inner.as_mut()?;
        let mut chunks = inner.stream(id).ok()?.read_sctp().ok()??;
        let (ppid, len) = (chunks.ppi, chunks.len());
        // `next` would take an empty message for the end of one.
        let data = if len == 0 { Bytes::new() } else { chunks.next(len)?.bytes };
        Some((ppid, data))
    }

    fn on_message(&mut self, id: u16, ppid: Ppid, data: Bytes) {
        let (binary, data) = match ppid {
            Ppid::Dcep => return self.on_dcep(id, &data),
            Ppid::String => (false, data),
            Ppid::Binary => (true, data),
            // An empty message travels as one byte that means nothing (RFC 8831, 6.6).
            Ppid::StringEmpty => (false, Bytes::new()),
            Ppid::BinaryEmpty => (true, Bytes::new()),
            Ppid::Unknown => return log::debug!("SCTP message with an unknown payload protocol dropped"),
        };
        match self.channels.get(&id).map(|channel| channel.state) {
            // Data on a channel acknowledges its OPEN (RFC 8832, 6).
            Some(ChannelState::Opening) => self.on_channel_open(id, false),
            Some(ChannelState::Open) => {}
            Some(_) => return log::debug!("SCTP message for a channel that is not open dropped"),
            None => {
                log::debug!("SCTP message on stream {id}, which is no channel; stream reset");
                return reset(&mut self.inner, id);
            }
        }
        self.events.push_back(SctpEvent::Message { id: ChannelId(id), binary, data });
    }

    fn on_dcep(&mut self, id: u16, data: &[u8]) {
        let state = self.channels.get(&id).map(|channel| channel.state);
        match (Dcep::parse(data), state) {
            (Some(Dcep::Ack), Some(ChannelState::Opening)) => self.on_channel_open(id, false),
            // Acknowledged twice, or by data before.
            (Some(Dcep::Ack), _) => {}
            // The parity of the id is not checked, as in browsers: refusing it would help nobody.
            (Some(Dcep::Open(config)), None) if self.channels.len() < self.config.max_channels => {
                self.accept_channel(id, config);
            }
            // Both sides chose this id, or it was negotiated: ours stays.
            (Some(Dcep::Open(_)), Some(_)) => log::debug!("DATA_CHANNEL_OPEN for stream {id}, which is in use"),
            // RFC 8832, 6: a channel whose OPEN is not acceptable is closed.
            (Some(Dcep::Open(_)) | None, None) => {
                log::debug!("unacceptable data channel message on stream {id}, stream reset");
                reset(&mut self.inner, id);
            }
            (None, Some(_)) => log::debug!("malformed data channel message on stream {id} dropped"),
        }
    }

    fn accept_channel(&mut self, id: u16, config: ChannelConfig) {
        let Some((_, inner)) = &mut self.inner else { return };
        if write_dcep(inner, id, &Dcep::Ack) {
            self.channels.insert(id, Channel { config, state: ChannelState::Open, low_threshold: 0 });
            self.on_channel_open(id, true);
        }
    }

    /// Takes all packets out of the SCTP implementation. They are bounded by its congestion window.
    fn flush_transmits(&mut self) {
        let Some((_, inner)) = &mut self.inner else { return };
        while let Some(transmit) = inner.poll_transmit(self.now) {
            if let Payload::RawEncode(packets) = transmit.payload {
                self.transmits.extend(packets);
            }
        }
    }

    /// The lowest free id of this side's parity (RFC 8832, 6).
    fn free_id(&mut self) -> Option<u16> {
        let first = match self.config.role {
            Role::Client => 0,
            Role::Server => 1,
        };
        // 65,535 is not a stream (RFC 8831, 6.2).
        (first..u16::MAX).step_by(2).find(|id| {
            let known = self.channels.contains_key(id);
            match &mut self.inner {
                // Opening is the only way to learn that the peer uses the stream, or that its last reset has not ended.
                Some((_, inner)) if !known && self.phase == Phase::Established => {
                    inner.open_stream(*id, Ppid::Binary).is_ok()
                }
                _ => !known,
            }
        })
    }

    fn check_new(&self, config: &ChannelConfig) -> Result<(), SctpError> {
        if self.phase == Phase::Closed {
            Err(SctpError::Closed)
        } else if self.channels.len() >= self.config.max_channels {
            Err(SctpError::TooManyChannels)
        } else if config.label.len() > MAX_LABEL_LEN || config.protocol.len() > MAX_LABEL_LEN {
            Err(SctpError::LabelTooLong)
        } else {
            Ok(())
        }
    }

    fn insert(&mut self, id: u16, config: ChannelConfig, state: ChannelState) {
        self.channels.insert(id, Channel { config, state, low_threshold: 0 });
        if self.phase == Phase::Established {
            self.run(|this| this.start_channel(id));
        }
    }
}

impl DataTransport for Association {
    fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        self.now = self.now.max(now);
        if self.phase == Phase::Established && first_chunk(packet) == Some(INIT) {
            // Sent again before our answer arrived, and overtaken by the rest of the handshake. RFC 9260, 5.2.2 demands
            // that it changes nothing; `sctp-proto` would end the association over it.
            log::debug!("late INIT dropped");
            return;
        }
        let packet = Bytes::copy_from_slice(packet);
        self.run(|this| {
            let Some((handle, event)) = this.endpoint.handle(this.now, PEER, None, None, packet) else { return };
            match (event, &mut this.inner) {
                (DatagramEvent::NewAssociation(association), None) => {
                    // One association per DTLS connection. Another INIT with a new tag is not let in.
                    this.endpoint.reject_new_associations();
                    this.inner = Some((handle, association));
                }
                (DatagramEvent::AssociationEvent(event), Some((known, inner))) if *known == handle => {
                    inner.handle_event(event);
                }
                _ => log::debug!("SCTP packet of another association dropped"),
            }
        });
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.run(|this| {
            if let Some((_, inner)) = &mut this.inner {
                inner.handle_timeout(this.now);
            }
        });
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.inner.as_ref().and_then(|(_, inner)| inner.poll_timeout())
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        self.now = self.now.max(now);
        if self.transmits.is_empty() && self.untapped {
            self.run(Self::flush_transmits);
            self.untapped = false;
        }
        self.transmits.pop_front()
    }

    fn poll_event(&mut self) -> Option<SctpEvent> {
        if self.events.is_empty() && !self.unread.is_empty() {
            self.run(|_| ());
        }
        self.events.pop_front()
    }

    fn open(&mut self, config: ChannelConfig) -> Result<ChannelId, SctpError> {
        self.check_new(&config)?;
        let id = self.free_id().ok_or(SctpError::NoStreamId)?;
        self.insert(id, config, ChannelState::WaitingToOpen);
        Ok(ChannelId(id))
    }

    fn open_negotiated(&mut self, id: ChannelId, config: ChannelConfig) -> Result<(), SctpError> {
        self.check_new(&config)?;
        if id.0 == u16::MAX || self.channels.contains_key(&id.0) {
            return Err(SctpError::NoStreamId);
        }
        self.insert(id.0, config, ChannelState::WaitingNegotiated);
        Ok(())
    }

    fn send(&mut self, id: ChannelId, binary: bool, data: &[u8]) -> Result<(), SctpError> {
        match self.phase {
            Phase::Connecting => return Err(SctpError::NotConnected),
            Phase::Closed => return Err(SctpError::Closed),
            Phase::Established => {}
        }
        match self.channels.get(&id.0).map(|channel| channel.state) {
            Some(ChannelState::Open | ChannelState::Opening) => {}
            _ => return Err(SctpError::UnknownChannel),
        }
        if data.len() > self.config.max_send_message {
            return Err(SctpError::MessageTooLarge);
        }
        if self.buffered_amount(id) + data.len() > self.config.max_buffered {
            return Err(SctpError::BufferFull);
        }
        // SCTP cannot carry an empty message (RFC 8831, 6.6).
        let (data, ppid) = match (data.is_empty(), binary) {
            (true, true) => (&[0][..], Ppid::BinaryEmpty),
            (true, false) => (&[0][..], Ppid::StringEmpty),
            (false, true) => (data, Ppid::Binary),
            (false, false) => (data, Ppid::String),
        };
        let mut sent = false;
        self.run(|this| {
            if let Some((_, inner)) = &mut this.inner {
                sent = write(inner, id.0, data, ppid);
            }
        });
        if sent { Ok(()) } else { Err(SctpError::UnknownChannel) }
    }

    fn buffered_amount(&mut self, id: ChannelId) -> usize {
        let Some((_, inner)) = &mut self.inner else { return 0 };
        inner.stream(id.0).and_then(|stream| stream.buffered_amount()).unwrap_or(0)
    }

    fn set_buffered_low_threshold(&mut self, id: ChannelId, bytes: usize) -> Result<(), SctpError> {
        let channel = self.channels.get_mut(&id.0).ok_or(SctpError::UnknownChannel)?;
        channel.low_threshold = bytes;
        if let Some((_, inner)) = &mut self.inner {
            set_low_threshold(inner, id.0, bytes);
        }
        Ok(())
    }

    fn close_channel(&mut self, id: ChannelId) -> Result<(), SctpError> {
        let channel = self.channels.get_mut(&id.0).ok_or(SctpError::UnknownChannel)?;
        match channel.state {
            ChannelState::WaitingToOpen | ChannelState::WaitingNegotiated => self.on_channel_closed(id.0),
            ChannelState::Closing => {}
            ChannelState::Opening | ChannelState::Open => {
                channel.state = ChannelState::Closing;
                self.run(|this| reset(&mut this.inner, id.0));
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        self.end("closed by this side");
    }
}

type Inner = sctp_proto::Association;

/// Applies the channel's properties to its stream. Until the peer knows a channel to be unordered, it must not be used
/// so (RFC 8832, 6): `confirmed` says whether it does.
fn set_reliability(inner: &mut Inner, id: u16, config: &ChannelConfig, confirmed: bool) {
    let (kind, value) = match config.reliability {
        Reliability::Reliable => (ReliabilityType::Reliable, 0),
        Reliability::MaxRetransmits(count) => (ReliabilityType::Rexmit, count),
        Reliability::MaxLifetime(ms) => (ReliabilityType::Timed, ms),
    };
    if let Ok(mut stream) = inner.stream(id)
        && let Err(error) = stream.set_reliability_params(confirmed && !config.ordered, kind, value)
    {
        log::debug!("stream {id} kept its reliability: {error}");
    }
}

fn set_low_threshold(inner: &mut Inner, id: u16, bytes: usize) {
    if let Ok(mut stream) = inner.stream(id)
        && let Err(error) = stream.set_buffered_amount_low_threshold(bytes)
    {
        log::debug!("stream {id} kept its threshold: {error}");
    }
}

/// Queues one message on a stream. Whether it was taken.
fn write(inner: &mut Inner, id: u16, data: &[u8], ppid: Ppid) -> bool {
    inner.stream(id).and_then(|mut stream| stream.write_with_ppi(data, ppid)).is_ok()
}

/// Queues a DCEP message, which is reliable and ordered whatever its channel is (RFC 8832, 6). Messages keep the policy
/// they were queued under, so the caller sets that of the channel afterwards.
fn write_dcep(inner: &mut Inner, id: u16, message: &Dcep) -> bool {
    let reliable =
        |mut stream: sctp_proto::Stream<'_>| stream.set_reliability_params(false, ReliabilityType::Reliable, 0);
    inner.stream(id).and_then(reliable).is_ok() && write(inner, id, &message.to_bytes(), Ppid::Dcep)
}

/// Resets both directions of a stream.
fn reset(inner: &mut Option<(AssociationHandle, Inner)>, id: u16) {
    if let Some((_, inner)) = inner
        && let Err(error) = inner.stream(id).and_then(|mut stream| stream.close())
    {
        log::debug!("stream {id} not reset: {error}");
    }
}

fn clamp_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
