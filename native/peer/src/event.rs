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
    Data { peer: Id, label: String, payload: Vec<u8>, binary: bool },
    /// The bytes that wait on the channel fell below the low mark.
    Drained(Id, String),
    /// First media on a receiving section.
    Media(Id, String),
    KeyframeRequest(Id),
    /// Frames wait in the sink; said once until they are read.
    Audio(Id),
    Video(Id),
    /// No more frames will come.
    End(Id),
    /// A full source has room again.
    Room(Id),
    /// A source ran empty.
    Silent(Id),
}

/// Events for one reader. Bounded by what produces them: ready events are coalesced, the rest is control-rate or data,
/// which the sender's congestion window limits.
#[derive(Debug)]
pub struct EventQueue {
    events: Mutex<VecDeque<Event>>,
    fd: OwnedFd,
}

impl EventQueue {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { events: Mutex::new(VecDeque::new()), fd: eventfd()? })
    }

    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    pub fn push(&self, event: Event) {
        let mut events = lock(&self.events);
        events.push_back(event);
        // Only the first event of a batch needs a wake-up; the reader takes all.
        if events.len() == 1 {
            signal(&self.fd);
        }
    }

    pub fn take(&self) -> VecDeque<Event> {
        let mut events = lock(&self.events);
        clear(&self.fd);
        std::mem::take(&mut *events)
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
