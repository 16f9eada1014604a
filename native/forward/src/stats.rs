//! Counters of a shard and snapshots of a peer.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Totals since start. All grow only.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Every counter with its name.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counters! {
    /// Datagrams received.
    packets_in,
    /// Their bytes.
    bytes_in,
    /// Datagrams built for sending.
    packets_out,
    /// Their bytes.
    bytes_out,
    /// RTP packets received and authenticated.
    rtp_in,
    /// RTP packets forwarded, retransmissions included.
    rtp_out,
    /// Packets asked for by NACK from subscribers.
    nacks_in,
    /// Packets asked for by NACK from publishers.
    nacks_out,
    /// Retransmissions sent.
    rtx_out,
    /// Lost packets of publishers that came back.
    recovered_in,
    /// Key-frame requests from subscribers.
    plis_in,
    /// Key-frame requests sent to publishers.
    plis_out,
    /// Transport-wide feedback packets sent.
    twcc_out,
    /// STUN binding requests answered.
    stun_in,
    /// Data-channel messages received.
    messages_in,
    /// Data-channel messages sent.
    messages_out,
    /// Neither STUN, DTLS, RTP nor RTCP.
    dropped_unknown,
    /// STUN for a user fragment nobody has.
    dropped_stun_user,
    /// STUN that does not parse or authenticate.
    dropped_stun_bad,
    /// From an address without a valid STUN check.
    dropped_address,
    /// RTP or RTCP before the handshake ended.
    dropped_early,
    /// RTP that does not parse.
    dropped_malformed,
    /// SRTP or SRTCP that does not authenticate.
    dropped_auth,
    /// SRTP or SRTCP seen before.
    dropped_replay,
    /// RTP of a stream that no section claims.
    dropped_ssrc,
    /// RTCP that does not parse.
    dropped_rtcp,
    /// Packets that left the cache before they could be sent.
    dropped_cache,
    /// RTP larger than a datagram needs to be.
    dropped_oversize,
    /// Beyond what one peer may send or ask for.
    dropped_budget,
    /// Retransmissions from publishers that nobody asked for: bandwidth probes, and answers that crossed their packet.
    dropped_unasked,
    /// Retransmissions to subscribers beyond their share.
    dropped_rtx,
    /// Data-channel messages not sent to slow readers.
    dropped_data,
}

/// One stream of a peer, received or sent.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamStats {
    /// The published track.
    pub track: u64,
    /// `true`: received from the peer; `false`: sent to it.
    pub inbound: bool,
    /// Spatial layer received, or forwarded now.
    pub layer: u8,
    /// SSRC on this peer's connection.
    pub ssrc: u32,
    /// Packets so far.
    pub packets: u64,
    /// Payload bytes so far.
    pub bytes: u64,
    /// Packets lost so far, as the receiver counts.
    pub lost: i64,
    /// Interarrival jitter at the receiver, milliseconds.
    pub jitter_ms: f64,
    /// Share lost in the last report interval, 0..1.
    pub fraction_lost: f64,
}

/// A snapshot of one peer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PeerStats {
    /// Round-trip time from receiver reports, milliseconds; `None` before the first.
    pub rtt_ms: Option<f64>,
    /// Streams both ways.
    pub streams: Vec<StreamStats>,
}
