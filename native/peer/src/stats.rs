//! The newest figures of a peer, made once a second.

use std::collections::{BTreeMap, HashMap};

use str0m::media::Rid;
use str0m::stats::{MediaEgressStats, MediaIngressStats, PeerStats};

/// Of one section, the layers of a simulcast together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SectionStats {
    pub sending: bool,
    pub packets: u64,
    pub bytes: u64,
    /// Packets. Receiving sound: as the jitter buffer counts; sending: as the other side reports.
    pub lost: u64,
    /// RFC 3550 interarrival jitter.
    pub jitter_ms: f64,
    pub nacks: u64,
    pub plis: u64,
    pub concealed_ms: u64,
    /// Packets of sound, or frames, that went to a decoder.
    pub decoded: u64,
    /// Frames that were dropped because their packets could not be put together.
    pub malformed: u64,
    pub codec: String,
    pub ssrc: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct PeerSnapshot {
    pub rtt_ms: Option<f64>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// By mid. A section that does both is here with what it sends.
    pub sections: BTreeMap<String, SectionStats>,
    /// What sections that do both receive.
    pub received: BTreeMap<String, SectionStats>,
}

/// What str0m reported last for each stream of a section.
#[derive(Default)]
pub(crate) struct StatsBook {
    rtt_ms: Option<f64>,
    bytes_in: u64,
    bytes_out: u64,
    /// By mid, rid, and whether it is sent.
    streams: HashMap<(String, Option<Rid>, bool), SectionStats>,
}

impl StatsBook {
    pub fn peer(&mut self, stats: PeerStats) {
        self.bytes_in = stats.peer_bytes_rx;
        self.bytes_out = stats.peer_bytes_tx;
        // A STUN check is answered at once; the round trip of reports includes how long they were held.
        let path = stats.selected_candidate_pair.and_then(|pair| pair.current_round_trip_time);
        if let Some(rtt) = path.or(stats.rtt) {
            self.rtt_ms = Some(rtt.as_secs_f64() * 1000.0);
        }
    }

    pub fn ingress(&mut self, stats: MediaIngressStats) {
        let stream = self.streams.entry((stats.mid.to_string(), stats.rid, false)).or_default();
        stream.packets = stats.packets;
        stream.bytes = stats.bytes;
        stream.nacks = stats.nacks;
        stream.plis = stats.plis;
        stream.jitter_ms = f64::from(stats.jitter);
    }

    pub fn egress(&mut self, stats: MediaEgressStats) {
        let stream = self.streams.entry((stats.mid.to_string(), stats.rid, true)).or_default();
        stream.sending = true;
        stream.packets = stats.packets;
        stream.bytes = stats.bytes;
        stream.nacks = stats.nacks;
        stream.plis = stats.plis;
        if let Some(remote) = stats.remote {
            stream.lost = remote.packets_lost;
            stream.jitter_ms = f64::from(remote.jitter);
        }
    }

    /// `clock_rate` tells the RTP clock of a section in Hz.
    pub fn snapshot(&self, clock_rate: impl Fn(&str) -> u32) -> PeerSnapshot {
        let mut sections: BTreeMap<String, SectionStats> = BTreeMap::new();
        let mut received: BTreeMap<String, SectionStats> = BTreeMap::new();
        let sends = |mid: &str| self.streams.keys().any(|(sent, _, sending)| *sending && sent == mid);
        for ((mid, _, sending), stream) in &self.streams {
            let book = if !sending && sends(mid) { &mut received } else { &mut sections };
            let section = book.entry(mid.clone()).or_default();
            section.sending |= stream.sending;
            section.packets += stream.packets;
            section.bytes += stream.bytes;
            section.lost += stream.lost;
            section.nacks += stream.nacks;
            section.plis += stream.plis;
            let jitter_ms = stream.jitter_ms * 1000.0 / f64::from(clock_rate(mid));
            section.jitter_ms = section.jitter_ms.max(jitter_ms);
        }
        PeerSnapshot { rtt_ms: self.rtt_ms, bytes_in: self.bytes_in, bytes_out: self.bytes_out, sections, received }
    }
}
