//! What waits to be built: for each kind of media a queue for each peer, and the peers that have something in theirs.
use std::collections::VecDeque;

use crate::Kind;
use crate::outgoing::{Delivery, Outgoing};
use crate::slab::Key;

/// Waiting packets after which the caller should send before it feeds more: caches must not wrap over packets that
/// still wait, and what arrives meanwhile for others should not wait longer than some milliseconds.
const MAX_WAITING: usize = 2048;

/// What waits for [`crate::Shard::prepare`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Audio packets, for their first time.
    pub audio: bool,
    /// Video packets, for their first time.
    pub video: bool,
    /// Some of them end a frame or fill a gap in one: somebody can go on with what waits.
    pub frame: bool,
    /// Packets for the peer that has most of them.
    pub longest: usize,
    /// Packets sent again, and everything that is built already: feedback, answers, data.
    pub repairs: bool,
}

/// Packets of one kind.
#[derive(Debug, Default)]
struct Lane {
    /// By slot of the peer. They keep their memory.
    queues: Vec<Vec<Outgoing>>,
    /// Peers with packets, each once.
    peers: VecDeque<Key>,
    waiting: usize,
}

impl Lane {
    /// Queues a packet for a peer and gives the number of those that wait for it.
    fn push(&mut self, peer: Key, item: Outgoing) -> usize {
        if peer.slot() >= self.queues.len() {
            self.queues.resize_with(peer.slot() + 1, Vec::new);
        }
        let queue = &mut self.queues[peer.slot()];
        if queue.is_empty() {
            self.peers.push_back(peer);
        }
        queue.push(item);
        self.waiting += 1;
        queue.len()
    }

    fn pop(&mut self) -> Option<(Key, Vec<Outgoing>)> {
        let peer = self.peers.pop_front()?;
        let queue = std::mem::take(&mut self.queues[peer.slot()]);
        self.waiting -= queue.len();
        Some((peer, queue))
    }

    fn reuse(&mut self, peer: Key, queue: Vec<Outgoing>) {
        let place = &mut self.queues[peer.slot()];
        if place.is_empty() {
            *place = queue;
        }
    }

    fn remove(&mut self, peer: Key) {
        let Some(queue) = self.queues.get_mut(peer.slot()) else { return };
        self.waiting -= std::mem::take(queue).len();
        self.peers.retain(|other| *other != peer);
    }
}

/// All queues of a shard. Audio has queues of its own: it leaves first, and without the video that waits for the end of
/// its frame.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    audio: Lane,
    video: Lane,
    holds: Waiting,
}

impl Backlog {
    /// Queues a packet for a peer.
    pub(crate) fn push(&mut self, peer: Key, kind: Kind, item: Outgoing) {
        let count = self.lane(kind).push(peer, item);
        self.holds.longest = self.holds.longest.max(count);
        match (item.delivery, kind) {
            (Delivery::Original, Kind::Audio) => self.holds.audio = true,
            (Delivery::Original, Kind::Video) => self.holds.video = true,
            _ => self.holds.repairs = true,
        }
    }

    /// What waits of a frame is worth sending now.
    pub(crate) fn end_frame(&mut self) {
        self.holds.frame |= self.holds.video;
    }

    /// The next peer and all that it waits for of a kind. Give the memory back with [`Backlog::reuse`].
    pub(crate) fn pop(&mut self, kind: Kind) -> Option<(Key, Vec<Outgoing>)> {
        let popped = self.lane(kind).pop();
        if popped.is_none() {
            match kind {
                Kind::Audio => self.holds.audio = false,
                Kind::Video => self.holds = Waiting { audio: self.holds.audio, ..Waiting::default() },
            }
        }
        popped
    }

    /// Takes back what [`Backlog::pop`] gave.
    pub(crate) fn reuse(&mut self, peer: Key, kind: Kind, mut queue: Vec<Outgoing>) {
        queue.clear();
        self.lane(kind).reuse(peer, queue);
    }

    /// Forgets what waits for a peer, and its memory.
    pub(crate) fn remove(&mut self, peer: Key) {
        self.audio.remove(peer);
        self.video.remove(peer);
    }

    /// Whether more should not be added before something is sent.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting() >= MAX_WAITING
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting() == 0
    }

    /// What kinds of packets wait.
    pub(crate) fn holds(&self) -> Waiting {
        if self.is_empty() { Waiting::default() } else { self.holds }
    }

    fn waiting(&self) -> usize {
        self.audio.waiting + self.video.waiting
    }

    fn lane(&mut self, kind: Kind) -> &mut Lane {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec_map::PayloadRule;
    use crate::slab::Slab;

    fn item(delivery: Delivery) -> Outgoing {
        Outgoing {
            outbound: Key::NOWHERE,
            inbound: Key::NOWHERE,
            seq: 0,
            out_seq: 0,
            timestamp: 0,
            picture: None,
            size: 0,
            rule: PayloadRule::NONE,
            delivery,
        }
    }

    #[test]
    fn peers_come_once_each_and_the_count_follows() {
        let mut peers = Slab::default();
        let (alice, bob) = (peers.insert(()), peers.insert(()));
        let mut backlog = Backlog::default();
        assert_eq!(backlog.holds(), Waiting::default());
        for peer in [alice, bob, alice] {
            backlog.push(peer, Kind::Audio, item(Delivery::Original));
        }
        assert_eq!(backlog.holds(), Waiting { audio: true, longest: 2, ..Waiting::default() });
        backlog.push(bob, Kind::Audio, item(Delivery::Rtx(1)));
        assert!(backlog.holds().repairs && !backlog.holds().video);
        backlog.end_frame();
        assert!(!backlog.holds().frame, "no video waits");
        backlog.push(bob, Kind::Video, item(Delivery::Original));
        assert!(backlog.holds().video && !backlog.holds().frame);
        backlog.end_frame();
        assert!(backlog.holds().frame);
        assert_eq!(backlog.pop(Kind::Audio).map(|(peer, queue)| (peer, queue.len())), Some((alice, 2)));
        backlog.remove(bob);
        assert!(backlog.pop(Kind::Audio).is_none() && backlog.pop(Kind::Video).is_none());
        assert_eq!((backlog.waiting(), backlog.holds()), (0, Waiting::default()));
    }

    #[test]
    fn audio_leaves_without_video() {
        let bob = Slab::default().insert(());
        let mut backlog = Backlog::default();
        for (kind, count) in [(Kind::Video, 3), (Kind::Audio, 2)] {
            (0..count).for_each(|_| backlog.push(bob, kind, item(Delivery::Original)));
        }
        assert_eq!(backlog.pop(Kind::Audio).map(|(_, queue)| queue.len()), Some(2));
        assert!(backlog.pop(Kind::Audio).is_none());
        assert_eq!(backlog.holds(), Waiting { video: true, longest: 3, ..Waiting::default() });
        assert_eq!(backlog.pop(Kind::Video).map(|(_, queue)| queue.len()), Some(3));
        assert!(backlog.pop(Kind::Video).is_none());
        assert_eq!(backlog.holds(), Waiting::default());
    }
}
