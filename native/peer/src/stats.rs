//! The newest figures of a peer, made once a second.

use std::collections::BTreeMap;

use str0m::stats::{MediaEgressStats, MediaIngressStats, PeerStats};

/// Of one section, both layers of a simulcast together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SectionStats {
    pub sending: bool,
    pub packets: u64,
    pub bytes: u64,
    /// Packets; receiving: from the jitter buffer; sending: as the other side reports.
    pub lost: u64,
    pub jitter_ms: f64,
    pub nacks: u64,
    pub plis: u64,
    pub concealed_ms: u64,
    pub codec: String,
    pub ssrc: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct PeerSnapshot {
    pub rtt_ms: Option<f64>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub sections: BTreeMap<String, SectionStats>,
}

#[derive(Default)]
pub(crate) struct StatsBook {
    pub snapshot: PeerSnapshot,
}

impl StatsBook {
    pub fn peer(&mut self, stats: PeerStats) {
        self.snapshot.bytes_in = stats.peer_bytes_rx;
        self.snapshot.bytes_out = stats.peer_bytes_tx;
        let path = stats.selected_candidate_pair.and_then(|pair| pair.current_round_trip_time);
        if let Some(rtt) = stats.rtt.or(path) {
            self.snapshot.rtt_ms = Some(rtt.as_secs_f64() * 1000.0);
        }
    }

    pub fn ingress(&mut self, stats: MediaIngressStats) {
        let section = self.snapshot.sections.entry(stats.mid.to_string()).or_default();
        section.packets = stats.packets;
        section.bytes = stats.bytes;
        section.nacks = stats.nacks;
        section.plis = stats.plis;
        section.jitter_ms = f64::from(stats.jitter);
        if let Some(remote) = stats.remote {
            section.lost = remote.packets.saturating_sub(stats.packets);
        }
    }

    pub fn egress(&mut self, stats: MediaEgressStats) {
        let section = self.snapshot.sections.entry(stats.mid.to_string()).or_default();
        section.sending = true;
        section.packets = stats.packets;
        section.bytes = stats.bytes;
        section.nacks = stats.nacks;
        section.plis = stats.plis;
        if let Some(remote) = stats.remote {
            section.lost = remote.packets_lost;
            section.jitter_ms = f64::from(remote.jitter);
        }
    }
}
