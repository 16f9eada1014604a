//! Datagrams to be sent, kept as runs of equal length so that one system call can send a run.

/// The kernel's limit of segments in one send (`UDP_MAX_SEGMENTS`).
pub const MAX_SEGMENTS: usize = 64;
/// The largest payload one segmented send may carry.
const MAX_RUN_BYTES: usize = 65_000;

/// One or more datagrams of `segment` bytes, the last one perhaps shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    start: usize,
    len: usize,
    /// Length of every datagram but the last, in bytes.
    pub segment: usize,
}

impl Run {
    /// How many datagrams the run holds.
    pub fn datagrams(&self) -> usize {
        self.len.div_ceil(self.segment)
    }

    /// Equal segments so far, and room for one more: a shorter one may follow, but ends the run.
    fn takes(&self, len: usize) -> bool {
        self.len.is_multiple_of(self.segment)
            && len <= self.segment
            && self.datagrams() < MAX_SEGMENTS
            && self.len + len <= MAX_RUN_BYTES
    }
}

/// What a peer wants sent, in order. Buffers are reused.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    runs: Vec<Run>,
}

impl Outbox {
    /// Appends one datagram. Empty ones are ignored.
    pub fn push(&mut self, datagram: &[u8]) {
        if datagram.is_empty() {
            return;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(datagram);
        match self.runs.last_mut() {
            Some(run) if run.takes(datagram.len()) => run.len += datagram.len(),
            _ => self.runs.push(Run { start, len: datagram.len(), segment: datagram.len() }),
        }
    }

    /// The runs with their bytes, in order.
    pub fn runs(&self) -> impl Iterator<Item = (Run, &[u8])> {
        self.runs.iter().map(|run| (*run, &self.bytes[run.start..run.start + run.len]))
    }

    /// Every datagram by itself, in order.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.runs().flat_map(|(run, bytes)| bytes.chunks(run.segment))
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Forgets what was sent.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.runs.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_datagrams_share_a_run_and_a_shorter_one_ends_it() {
        let mut outbox = Outbox::default();
        for len in [100, 100, 60, 60, 100] {
            outbox.push(&vec![len as u8; len]);
        }
        let runs: Vec<_> = outbox.runs().map(|(run, bytes)| (run.segment, bytes.len())).collect();
        assert_eq!(runs, [(100, 260), (60, 60), (100, 100)]);
        assert_eq!(outbox.datagrams().map(<[u8]>::len).collect::<Vec<_>>(), [100, 100, 60, 60, 100]);
    }

    #[test]
    fn a_run_stays_within_what_the_kernel_takes() {
        let mut outbox = Outbox::default();
        (0..130).for_each(|_| outbox.push(&[0; 150]));
        (0..100).for_each(|_| outbox.push(&[0; 1400]));
        assert!(outbox.runs().all(|(run, bytes)| run.datagrams() <= MAX_SEGMENTS && bytes.len() <= MAX_RUN_BYTES));
        assert_eq!(outbox.datagrams().count(), 230);
        outbox.clear();
        assert!(outbox.is_empty());
    }
}
