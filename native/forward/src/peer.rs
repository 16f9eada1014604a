//! One peer: its connection, what it sends, what it is sent, and when it wants to be called.
use std::time::{Duration, Instant};

use greenroom_wire::Ssrc;

use crate::ice::Credentials;
use crate::link::Link;
use crate::receiving::Receiving;
use crate::sending::Sending;
use crate::{Limits, PeerId, RoomId};

/// What of our streams the peer asked for in an extended report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReferenceTime {
    pub(crate) ssrc: Ssrc,
    pub(crate) middle: u32,
    pub(crate) at: Instant,
}

/// What is due at a peer, and when.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// Reports.
    pub(crate) report: Option<Instant>,
    /// NACK, transport feedback or a delayed key-frame request.
    pub(crate) feedback: Option<Instant>,
    /// A look at which simulcast layers have stopped.
    pub(crate) layers: Option<Instant>,
    /// The earliest timer of this peer in the heap.
    pub(crate) armed: Option<Instant>,
}

impl Schedule {
    /// Asks to be called for feedback at `at`, or earlier.
    pub(crate) fn feedback_by(&mut self, at: Instant) {
        self.feedback = Some(self.feedback.map_or(at, |earlier| earlier.min(at)));
    }
}

pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) room: RoomId,
    /// SSRC of our feedback.
    pub(crate) ssrc: Ssrc,
    pub(crate) link: Link,
    pub(crate) receiving: Receiving,
    pub(crate) sending: Sending,
    pub(crate) schedule: Schedule,
    pub(crate) reports: u32,
    pub(crate) reference: Option<ReferenceTime>,
    rtt: Option<Duration>,
}

impl Peer {
    pub(crate) fn new(
        id: PeerId,
        room: RoomId,
        credentials: Credentials,
        ssrc: Ssrc,
        limits: &Limits,
        now: Instant,
    ) -> Self {
        Peer {
            id,
            room,
            ssrc,
            link: Link::new(id, credentials, now),
            receiving: Receiving::new(ssrc, now),
            sending: Sending::new(limits, now),
            schedule: Schedule::default(),
            reports: 0,
            reference: None,
            rtt: None,
        }
    }

    /// When this peer wants to be called next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let Schedule { report, feedback, layers, .. } = self.schedule;
        [self.link.poll_timeout(), report, feedback, layers].into_iter().flatten().min()
    }

    /// Smoothed round trip; `None` before the first measurement.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Round trip for repetition intervals before anything was measured.
    pub(crate) fn rtt_or_default(&self) -> Duration {
        self.rtt.unwrap_or(Duration::from_millis(70))
    }

    /// A round trip was measured.
    pub(crate) fn note_rtt(&mut self, rtt: Duration) {
        self.rtt = Some(self.rtt.map_or(rtt, |old| (old * 7 + rtt) / 8));
    }
}
