//! Where outgoing datagrams are built: one buffer used over and over, and the list of what to send from it.
//!
//! Datagrams of equal size to one destination that follow each other are one [`Send`]: with UDP segmentation offload
//! that is one system call and one walk through the network stack for the whole run.
use crate::Path;

/// The kernel's limit of segments in one send (`UDP_MAX_SEGMENTS` of older kernels).
pub const MAX_SEGMENTS: usize = 64;
/// Most bytes of one send: a segmented send travels the stack as one datagram of at most 65,507 bytes of payload.
pub const MAX_SEND_BYTES: usize = 65_000;

/// A run of datagrams to one destination, back to back in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Send {
    /// Where to.
    pub path: Path,
    /// First byte in [`SendArena::bytes`].
    pub start: usize,
    /// All bytes of the run.
    pub len: usize,
    /// Size of each datagram; the last one may be shorter.
    pub segment: usize,
}

impl Send {
    /// How many datagrams the run holds.
    pub fn segments(&self) -> usize {
        self.len.div_ceil(self.segment.max(1))
    }
}

/// Reusable output buffer. `clear` keeps the memory.
#[derive(Debug, Default)]
pub struct SendArena {
    bytes: Vec<u8>,
    used: usize,
    sends: Vec<Send>,
}

impl SendArena {
    /// An empty arena that holds `capacity` bytes before it grows.
    pub fn with_capacity(capacity: usize) -> Self {
        SendArena { bytes: vec![0; capacity], used: 0, sends: Vec::with_capacity(256) }
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.used = 0;
        self.sends.clear();
    }

    /// What to send, in order.
    pub fn sends(&self) -> &[Send] {
        &self.sends
    }

    /// The datagrams of one send.
    pub fn payload(&self, send: &Send) -> &[u8] {
        &self.bytes[send.start..send.start + send.len]
    }

    /// Bytes built so far.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether nothing was built.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Each datagram by itself, for tests and for senders without segmentation.
    pub fn datagrams(&self) -> impl Iterator<Item = (Path, &[u8])> {
        self.sends
            .iter()
            .flat_map(|send| self.payload(send).chunks(send.segment.max(1)).map(|bytes| (send.path, bytes)))
    }

    /// Space for one datagram of at most `space` bytes; follow with [`SendArena::commit`].
    pub fn reserve(&mut self, space: usize) -> &mut [u8] {
        let end = self.used + space;
        if self.bytes.len() < end {
            self.bytes.resize(end.next_power_of_two(), 0);
        }
        &mut self.bytes[self.used..end]
    }

    /// Takes the first `len` bytes of the reserved space as a datagram to `path`, joining the run before it when the
    /// kernel could send both as one.
    pub fn commit(&mut self, path: Path, len: usize) {
        if len == 0 {
            return;
        }
        let start = self.used;
        self.used += len;
        if let Some(last) = self.sends.last_mut() {
            let ends_full = last.len % last.segment == 0;
            let fits = last.len / last.segment < MAX_SEGMENTS && last.len + len <= MAX_SEND_BYTES;
            if last.path == path && ends_full && len <= last.segment && fits {
                last.len += len;
                return;
            }
        }
        self.sends.push(Send { path, start, len, segment: len });
    }

    /// The segment size of the last run when it goes to `path` and could take another datagram.
    pub(crate) fn open_run(&self, path: Path) -> Option<usize> {
        self.sends.last().filter(|last| last.path == path && last.len % last.segment == 0).map(|last| last.segment)
    }

    /// One whole datagram.
    pub fn push(&mut self, path: Path, datagram: &[u8]) {
        self.reserve(datagram.len()).copy_from_slice(datagram);
        self.commit(path, datagram.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> Path {
        Path { local: 0, remote: ([127, 0, 0, 1], port).into() }
    }

    #[test]
    fn equal_sizes_join_and_a_shorter_one_ends_the_run() {
        let mut arena = SendArena::default();
        for size in [100, 100, 60, 100, 120] {
            arena.push(path(1), &vec![1; size]);
        }
        let runs: Vec<_> = arena.sends().iter().map(|s| (s.len, s.segment)).collect();
        assert_eq!(runs, [(260, 100), (100, 100), (120, 120)]);
        assert_eq!(arena.datagrams().count(), 5);
    }

    #[test]
    fn destinations_and_kernel_limits_split_runs() {
        let mut arena = SendArena::default();
        arena.push(path(1), &[0; 10]);
        arena.push(path(2), &[0; 10]);
        assert_eq!(arena.sends().len(), 2);
        arena.clear();
        for _ in 0..130 {
            arena.push(path(1), &[0; 10]);
        }
        assert_eq!(arena.sends().iter().map(Send::segments).collect::<Vec<_>>(), [64, 64, 2]);
        arena.clear();
        for _ in 0..60 {
            arena.push(path(1), &[0; 1200]);
        }
        assert!(arena.sends().iter().all(|s| s.len <= MAX_SEND_BYTES));
    }
}
