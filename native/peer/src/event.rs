//! What the peers tell the program, in one queue announced by one eventfd.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use crate::lock;

/// Identifies a media object (source or sink) or a peer; unique in its engine, never used again.
pub type Id = u64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// ICE and DTLS are up, for the first time or again.
    Connected(Id),
    /// The path is gone; it may come back.
    Disconnected(Id),
    /// The connection is over. The reason is a sentence.
    Failed(Id, String),
    ChannelOpen(Id, String),
    ChannelClosed(Id, String),
    Data {
        peer: Id,
        label: String,
        payload: Vec<u8>,
        binary: bool,
    },
    /// The bytes that wait on the channel fell below the low mark.
    Drained(Id, String),
    /// First media on a receiving section.
    Media(Id, String),
    KeyframeRequest(Id),
    /// Frames wait in the sink; said once until they are read.
    Audio(Id),
    Video(Id),
    Encoded(Id),
    /// No more frames will come.
    End(Id),
    /// A full source has room again.
    Room(Id),
    /// A source ran empty.
    Silent(Id),
}

/// Messages that may wait for the program, in bytes, all peers together.
const MAX_DATA_BYTES: usize = 64 << 20;
/// What a message costs besides its bytes.
const MESSAGE_OVERHEAD: usize = 128;

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    data_bytes: usize,
}

/// Events for one reader. Ready events are coalesced and the rest comes at control rate; only messages need a bound.
#[derive(Debug)]
pub struct EventQueue {
    waiting: Mutex<Waiting>,
    fd: OwnedFd,
}

impl EventQueue {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { waiting: Mutex::default(), fd: eventfd()? })
    }

    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    pub fn push(&self, event: Event) {
        self.add(&mut lock(&self.waiting), event);
    }

    /// A message, unless the program has stopped reading: then false.
    #[must_use]
    pub(crate) fn push_data(&self, peer: Id, label: String, payload: Vec<u8>, binary: bool) -> bool {
        let mut waiting = lock(&self.waiting);
        let bytes = payload.len() + MESSAGE_OVERHEAD;
        if waiting.data_bytes + bytes > MAX_DATA_BYTES {
            return false;
        }
        waiting.data_bytes += bytes;
        self.add(&mut waiting, Event::Data { peer, label, payload, binary });
        true
    }

    fn add(&self, waiting: &mut Waiting, event: Event) {
        waiting.events.push_back(event);
        // Only the first event of a batch needs a wake-up; the reader takes all.
        if waiting.events.len() == 1 {
            signal(&self.fd);
        }
    }

    pub fn take(&self) -> VecDeque<Event> {
        let mut waiting = lock(&self.waiting);
        clear(&self.fd);
        std::mem::take(&mut *waiting).events
    }
}

pub(crate) fn eventfd() -> std::io::Result<OwnedFd> {
    // SAFETY: plain system call; the descriptor is checked and owned from here on.
    let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn signal(fd: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: writes 8 bytes that live on this stack. A full counter (EAGAIN) is as good as signalled.
    let _ = unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), 8) };
}

pub(crate) fn clear(fd: &OwnedFd) {
    let mut value = [0u8; 8];
    // SAFETY: reads 8 bytes into this stack. An empty counter (EAGAIN) is already clear.
    let _ = unsafe { libc::read(fd.as_raw_fd(), value.as_mut_ptr().cast(), 8) };
}
