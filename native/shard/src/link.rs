//! What a shard thread has that outlives its state: sockets, queues, and the figures it shows.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenroom_forward::Counters;

use crate::events::{Events, lock};
use crate::orders::OrderReceiver;
use crate::send::SendCounters;
use crate::socket::UdpSocket;

/// Owned by the thread.
pub(crate) struct Link {
    pub(crate) sockets: Vec<UdpSocket>,
    pub(crate) orders: OrderReceiver,
    pub(crate) events: Arc<Events>,
    pub(crate) status: Arc<Status>,
    /// Longest sleep: figures stay fresh, a lost wake-up cannot hang anything, and a turn shows that it lives.
    pub(crate) max_sleep: Duration,
    /// As in [`crate::ServerConfig`].
    pub(crate) audio_wait: Duration,
    /// Totals since the start of the server.
    pub(crate) sends: SendCounters,
    pub(crate) panics: u64,
    pub(crate) receive_errors: u64,
    pub(crate) restarts: u64,
}

impl Link {
    /// Shows the figures of the shard that runs now.
    pub(crate) fn publish(&self, counters: &Counters, peers: usize) {
        let mut figures = lock(&self.status.figures);
        figures.counters = *counters;
        figures.peers = peers;
        self.publish_totals(&mut figures);
    }

    /// The shard is gone: what it counted stays, what it had does not.
    pub(crate) fn retire(&self) {
        let mut figures = lock(&self.status.figures);
        figures.earlier = figures.totals();
        figures.counters = Counters::default();
        figures.peers = 0;
        self.publish_totals(&mut figures);
    }

    fn publish_totals(&self, figures: &mut Figures) {
        figures.sends = self.sends;
        figures.panics = self.panics;
        figures.receive_errors = self.receive_errors;
        figures.restarts = self.restarts;
        figures.segmentation = self.sockets.iter().all(|socket| socket.segmentation);
    }
}

/// What others see of a shard thread.
#[derive(Default)]
pub(crate) struct Status {
    turns: AtomicU64,
    ended: AtomicBool,
    died: AtomicBool,
    pub(crate) figures: Mutex<Figures>,
}

impl Status {
    /// The thread is alive and in its loop.
    pub(crate) fn beat(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// The thread says nothing more: it was stopped, or it has reported its failure.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The thread is gone without a word.
    pub(crate) fn die(&self) {
        self.died.store(true, Ordering::Release);
    }

    pub(crate) fn has_died(&self) -> bool {
        self.died.load(Ordering::Acquire)
    }
}

/// Newest figures of one shard thread.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    counters: Counters,
    /// Counted by shards that were given up.
    earlier: Vec<(&'static str, u64)>,
    pub(crate) sends: SendCounters,
    pub(crate) peers: usize,
    pub(crate) segmentation: bool,
    pub(crate) panics: u64,
    pub(crate) receive_errors: u64,
    pub(crate) restarts: u64,
}

impl Figures {
    /// Every counter of the core since the start of the server, with its name.
    pub(crate) fn totals(&self) -> Vec<(&'static str, u64)> {
        let mut named = self.counters.named();
        for (entry, earlier) in named.iter_mut().zip(&self.earlier) {
            entry.1 += earlier.1;
        }
        named
    }
}
