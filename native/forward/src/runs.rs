//! Making runs of equal size out of what waits for one subscriber: a run is one send, which is where the cost of a small
//! packet is. Encoders split a frame into packets that differ by one byte, and speakers' packets differ by some.
use std::cmp::Reverse;

use crate::outgoing::{Delivery, Outgoing};

/// Padding spent to make a packet as long as its neighbours, in bytes.
pub(crate) const MAX_PADDING: usize = 16;
/// Nor more than this part of the packet: padding is paid for on the subscriber's link.
const MAX_PADDING_SHARE: usize = 8;
/// Packets that are put in order together. More make a run hardly cheaper.
const WINDOW: usize = 16;

/// Puts packets of different streams in order of their size, the largest first: neighbours need less padding then, and
/// the last one of a run none. Between streams order means nothing; packets of one stream keep theirs.
pub(crate) fn arrange(burst: &mut [Outgoing]) {
    for window in burst.chunks_mut(WINDOW).filter(|window| window.len() > 1) {
        let apart = |at: usize| {
            let (before, item) = (&window[..at], &window[at]);
            item.delivery == Delivery::Original && before.iter().all(|other| other.outbound != item.outbound)
        };
        if (0..window.len()).all(apart) {
            window.sort_unstable_by_key(|item| Reverse(item.size));
        }
    }
}

/// The size that the packets of a run are padded to.
#[derive(Default)]
pub(crate) struct Goal {
    /// Position after the last packet of the burst that belongs to the run.
    until: usize,
}

impl Goal {
    /// Padding for a packet whose sealed length would be `len`. `run`: the segment size of the run it could join.
    pub(crate) fn padding(&mut self, burst: &[Outgoing], position: usize, len: usize, run: Option<usize>) -> usize {
        let allowed = MAX_PADDING.min(len / MAX_PADDING_SHARE);
        if let Some(segment) = run
            && position < self.until
            && segment >= len
        {
            // The last packet of a run may be shorter.
            if position + 1 == self.until {
                return 0;
            }
            if segment - len <= allowed {
                return segment - len;
            }
        }
        // A new run: as long as the longest of the packets that follow and are about as long.
        let first = burst[position].size;
        let alike = |item: &&Outgoing| usize::from(item.size.abs_diff(first)) <= allowed;
        let (mut longest, mut count) = (first, 0);
        for item in burst[position..].iter().take_while(alike) {
            longest = longest.max(item.size);
            count += 1;
        }
        self.until = position + count;
        // One that is much shorter can still be the last.
        if burst.get(self.until).is_some_and(|next| next.size < first) {
            self.until += 1;
            count += 1;
        }
        if count > 1 { usize::from(longest - first) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec_map::PayloadRule;
    use crate::slab::{Key, Slab};

    fn burst(packets: &[(usize, u16)]) -> Vec<Outgoing> {
        let mut slab = Slab::default();
        let keys: Vec<Key> = (0..100).map(|_| slab.insert(())).collect();
        let item = |(number, (stream, size)): (usize, &(usize, u16))| Outgoing {
            outbound: keys[*stream],
            inbound: keys[0],
            seq: number as u64,
            out_seq: number as u64,
            timestamp: 0,
            picture: None,
            size: *size,
            rule: PayloadRule::NONE,
            delivery: Delivery::Original,
        };
        packets.iter().enumerate().map(item).collect()
    }

    fn sizes(burst: &[Outgoing]) -> Vec<u16> {
        burst.iter().map(|item| item.size).collect()
    }

    /// Lengths with padding of the packets of a burst, and how many sends they make.
    fn padded(burst: &[Outgoing]) -> (Vec<usize>, usize) {
        let (mut goal, mut lens, mut sends) = (Goal::default(), Vec::new(), 0);
        // The segment size of the run that is open.
        let mut run = None;
        for position in 0..burst.len() {
            let len = usize::from(burst[position].size);
            let padded = len + goal.padding(burst, position, len, run);
            match run {
                Some(segment) if padded <= segment => run = (padded == segment).then_some(segment),
                _ => {
                    sends += 1;
                    run = Some(padded);
                }
            }
            lens.push(padded);
        }
        (lens, sends)
    }

    #[test]
    fn packets_of_different_streams_are_put_in_order_of_their_size() {
        let mut speakers = burst(&[(0, 110), (1, 140), (2, 130)]);
        arrange(&mut speakers);
        assert_eq!(sizes(&speakers), [140, 130, 110]);
        // 17 is one more than a window.
        let mut many = burst(&(0..17).map(|n| (n, 100 + n as u16)).collect::<Vec<_>>());
        arrange(&mut many);
        assert_eq!((many[0].size, many[15].size, many[16].size), (115, 100, 116));
    }

    #[test]
    fn packets_of_one_stream_and_retransmissions_keep_their_places() {
        let mut twice = burst(&[(0, 110), (1, 120), (0, 130)]);
        arrange(&mut twice);
        assert_eq!(sizes(&twice), [110, 120, 130]);
        let mut again = burst(&[(0, 110), (1, 120)]);
        again[0].delivery = Delivery::Rtx(7);
        arrange(&mut again);
        assert_eq!(sizes(&again), [110, 120]);
    }

    #[test]
    fn a_frame_is_one_send() {
        // The shorter packets come first.
        assert_eq!(padded(&burst(&[(0, 1041), (0, 1041), (0, 1042), (0, 1042)])), (vec![1042; 4], 1));
    }

    #[test]
    fn speakers_are_one_send_with_little_padding_and_the_last_without() {
        assert_eq!(padded(&burst(&[(0, 140), (1, 130), (2, 100)])), (vec![140, 140, 100], 1));
        assert_eq!(padded(&burst(&[(0, 140), (1, 100)])), (vec![140, 100], 1));
        // More than an eighth of the packet is not spent.
        assert_eq!(padded(&burst(&[(0, 140), (1, 100), (2, 95)])), (vec![140, 100, 95], 2));
        // Nor anything for a longer one that follows.
        assert_eq!(padded(&burst(&[(0, 100), (1, 140)])), (vec![100, 140], 2));
    }
}
