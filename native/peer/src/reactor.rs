//! What the engine's one I/O thread sleeps on, and how others wake it.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::event::{self, Id};
use crate::lock;

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;
/// Epoll's name for the wake-up descriptor; peers' names are smaller.
pub(crate) const WAKE: u64 = u64::MAX;

pub(crate) struct Reactor {
    epoch: Instant,
    epoll: OwnedFd,
    wake: OwnedFd,
    /// Until when the thread sleeps; it must be woken for anything earlier.
    sleeps_until: AtomicU64,
    /// Peers that are closed and that the engine still holds.
    closed: Mutex<Vec<Id>>,
}

impl Reactor {
    pub fn new() -> std::io::Result<Self> {
        // SAFETY: plain system call; the descriptor is checked and owned from here on.
        let epoll = match unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } {
            fd if fd < 0 => return Err(std::io::Error::last_os_error()),
            // SAFETY: the descriptor is new and nobody else's.
            fd => unsafe { OwnedFd::from_raw_fd(fd) },
        };
        let reactor = Self {
            epoch: Instant::now(),
            epoll,
            wake: event::eventfd()?,
            sleeps_until: AtomicU64::new(NEVER),
            closed: Mutex::default(),
        };
        reactor.watch(reactor.wake.as_raw_fd(), WAKE)?;
        Ok(reactor)
    }

    /// Engine time of an instant in microseconds, rounded up so that a deadline has come when its microsecond has.
    pub fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_nanos().div_ceil(1000).min(u128::from(NEVER - 1)) as u64
    }

    /// Engine time now.
    pub fn now(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    /// Somebody wants to be driven at `deadline`.
    pub fn note_deadline(&self, deadline: u64) {
        if deadline < self.sleeps_until.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    pub fn wake(&self) {
        event::signal(&self.wake);
    }

    pub fn clear_wake(&self) {
        event::clear(&self.wake);
    }

    /// A peer is closed: the engine is to let go of it.
    pub fn note_closed(&self, peer: Id) {
        lock(&self.closed).push(peer);
        self.wake();
    }

    pub fn take_closed(&self) -> Vec<Id> {
        std::mem::take(&mut *lock(&self.closed))
    }

    pub fn watch(&self, fd: RawFd, name: u64) -> std::io::Result<()> {
        let mut interest = libc::epoll_event { events: libc::EPOLLIN as u32, u64: name };
        // SAFETY: both descriptors live; the event is read during the call only.
        let result = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut interest) };
        if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    }

    pub fn unwatch(&self, fd: RawFd) {
        // SAFETY: the descriptor lives. One that is not watched any more is no error worth telling.
        unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// The thread is about to sleep until then: whoever notes an earlier deadline wakes it.
    pub fn set_sleep(&self, until: u64) {
        self.sleeps_until.store(until, Ordering::SeqCst);
    }

    /// Sleeps until a descriptor is readable or the deadline has come; how many of `ready` were filled.
    pub fn wait(&self, deadline: u64, ready: &mut [libc::epoll_event]) -> usize {
        let timeout = if deadline == NEVER {
            -1
        } else {
            let left = Duration::from_micros(deadline).saturating_sub(self.epoch.elapsed());
            left.as_micros().div_ceil(1000).min(60_000) as libc::c_int
        };
        // SAFETY: the array is writable for the count given.
        let count = unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), ready.as_mut_ptr(), ready.len() as libc::c_int, timeout)
        };
        count.max(0) as usize
    }
}
