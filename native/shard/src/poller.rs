//! Waiting: epoll with a timeout in nanoseconds, and event file descriptors that wake it.
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A counter in the kernel that makes a file descriptor readable.
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<EventFd> {
        // SAFETY: plain system call; the descriptor is owned at once.
        unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(EventFd(OwnedFd::from_raw_fd(fd))) }
        }
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Makes the descriptor readable.
    pub(crate) fn signal(&self) {
        let one: u64 = 1;
        // SAFETY: eight bytes are read from `one`. The only failure is a full counter, which is readable already.
        unsafe { libc::write(self.raw(), (&raw const one).cast(), 8) };
    }

    /// Makes it unreadable again.
    pub(crate) fn clear(&self) {
        let mut count: u64 = 0;
        // SAFETY: eight bytes are written to `count`. The only failure is a counter that is zero already.
        unsafe { libc::read(self.raw(), (&raw mut count).cast(), 8) };
    }
}

/// An event file descriptor that many may signal at the price of one system call, until its reader clears it.
#[derive(Debug)]
pub(crate) struct Waker {
    fd: EventFd,
    signalled: AtomicBool,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        Ok(Waker { fd: EventFd::new()?, signalled: AtomicBool::new(false) })
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.fd.raw()
    }

    /// Wakes the reader. Call it after what it is to find is there.
    pub(crate) fn signal(&self) {
        // Both sides swap: whoever sees `true` here knows that the reader has yet to clear, and the reader that clears
        // sees all that was there before.
        if !self.signalled.swap(true, Ordering::AcqRel) {
            self.fd.signal();
        }
    }

    /// For the reader, before it looks at what is there.
    pub(crate) fn clear(&self) {
        self.fd.clear();
        self.signalled.swap(false, Ordering::AcqRel);
    }
}

/// An epoll instance over a handful of descriptors.
pub(crate) struct Poller {
    fd: OwnedFd,
    /// `epoll_pwait2` is there (Linux 5.11). Without it timeouts are rounded up to milliseconds.
    precise: bool,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Poller> {
        // SAFETY: plain system call; the descriptor is owned at once.
        unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Poller { fd: OwnedFd::from_raw_fd(fd), precise: true })
        }
    }

    /// Watches `fd` for input under `token` (level-triggered).
    pub(crate) fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: `event` is valid through the call.
        let result = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits until a descriptor is readable or `timeout` has passed.
    pub(crate) fn wait(&mut self, timeout: Duration, mut ready: impl FnMut(u64)) -> io::Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
        let count = self.wait_raw(&mut events, timeout);
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        for event in &events[..count as usize] {
            ready(event.u64);
        }
        Ok(())
    }

    fn wait_raw(&mut self, events: &mut [libc::epoll_event], timeout: Duration) -> libc::c_long {
        let fd = self.fd.as_raw_fd();
        if self.precise {
            let spec = libc::timespec {
                tv_sec: timeout.as_secs() as libc::time_t,
                tv_nsec: timeout.subsec_nanos() as libc::c_long,
            };
            // SAFETY: the buffer has the length given, the timespec lives through the call, no signal mask.
            let count = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    fd,
                    events.as_mut_ptr(),
                    events.len() as libc::c_int,
                    &raw const spec,
                    std::ptr::null::<libc::sigset_t>(),
                    size_of::<u64>(),
                )
            };
            if count >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS) {
                return count;
            }
            self.precise = false;
        }
        let millis = timeout.as_nanos().div_ceil(1_000_000).min(60_000) as libc::c_int;
        // SAFETY: as above.
        unsafe { libc::epoll_wait(fd, events.as_mut_ptr(), events.len() as libc::c_int, millis) as libc::c_long }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable(waker: &Waker) -> bool {
        let mut poller = Poller::new().unwrap();
        poller.add(waker.raw(), 1).unwrap();
        let mut ready = false;
        poller.wait(Duration::ZERO, |_| ready = true).unwrap();
        ready
    }

    #[test]
    fn a_waker_is_readable_from_the_first_signal_until_it_is_cleared() {
        let waker = Waker::new().unwrap();
        assert!(!readable(&waker));
        for _ in 0..3 {
            waker.signal();
            waker.signal();
            assert!(readable(&waker));
            waker.clear();
            assert!(!readable(&waker));
        }
    }

    #[test]
    fn no_wake_up_is_lost_between_threads() {
        let waker = std::sync::Arc::new(Waker::new().unwrap());
        let (sender, receiver) = crossbeam_channel::unbounded();
        let other = waker.clone();
        let thread = std::thread::spawn(move || {
            for n in 0..100_000 {
                sender.send(n).unwrap();
                other.signal();
            }
        });
        let mut poller = Poller::new().unwrap();
        poller.add(waker.raw(), 1).unwrap();
        let mut got = 0;
        while got < 100_000 {
            let mut woken = false;
            poller.wait(Duration::from_secs(5), |_| woken = true).unwrap();
            assert!(woken, "after {got}");
            waker.clear();
            got += receiver.try_iter().count();
        }
        thread.join().unwrap();
    }
}
