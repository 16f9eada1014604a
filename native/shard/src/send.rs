//! Sending in batches: `sendmmsg`, each message a run of equal datagrams cut by the kernel (`UDP_SEGMENT`), or one
//! message per datagram where the kernel or the network card refuses.
use std::io;
use std::mem::{size_of, zeroed};
use std::net::IpAddr;

use greenroom_forward::{Send, SendArena};

use crate::socket::{Locals, UdpSocket, in_addr, in6_addr, to_sockaddr};

/// Messages given to one system call.
const BATCH: usize = 64;
const CONTROL: usize = 96;
/// How long a full socket buffer is waited for, in milliseconds, and how often in a round, before the rest is dropped.
const FULL_WAIT_MS: libc::c_int = 5;
const FULL_WAITS: u8 = 4;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// What became of the sends, since start.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct SendCounters {
    /// System calls.
    pub(crate) calls: u64,
    /// Messages: runs of datagrams that the kernel takes at once.
    pub(crate) messages: u64,
    /// Datagrams the kernel refused: full buffers, unreachable destinations.
    pub(crate) dropped: u64,
}

// SAFETY: the pointers in the headers are set before each system call and not used after it.
unsafe impl std::marker::Send for SendBatch {}

/// Headers of one batch, reused for the life of a shard.
pub(crate) struct SendBatch {
    names: Vec<libc::sockaddr_in6>,
    controls: Vec<Control>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    /// Datagrams in each message, for the counters.
    datagrams: Vec<u32>,
    filled: usize,
    /// How often a full socket buffer may still be waited for in this round of sends.
    waits_left: u8,
    pub(crate) counters: SendCounters,
}

impl SendBatch {
    pub(crate) fn new() -> Self {
        // SAFETY: zero is a valid value of these C structures.
        let (names, vectors, headers) =
            unsafe { (vec![zeroed(); BATCH], vec![zeroed(); BATCH], vec![zeroed(); BATCH]) };
        SendBatch {
            names,
            controls: vec![Control([0; CONTROL]); BATCH],
            vectors,
            headers,
            datagrams: vec![0; BATCH],
            filled: 0,
            waits_left: FULL_WAITS,
            counters: SendCounters::default(),
        }
    }

    /// A new round of sends begins, of one or more arenas. It waits for full socket buffers for a bounded time.
    pub(crate) fn begin_round(&mut self) {
        self.waits_left = FULL_WAITS;
    }

    /// Forgets what was gathered but not sent: a panic came between.
    pub(crate) fn clear(&mut self) {
        self.filled = 0;
    }

    /// Sends everything in the arena.
    pub(crate) fn send(&mut self, sockets: &mut [UdpSocket], locals: &Locals, arena: &SendArena) {
        let mut current = None;
        for send in arena.sends() {
            let Some((socket, source)) = locals.get(send.path.local) else {
                self.counters.dropped += send.segments() as u64;
                continue;
            };
            if current.is_some_and(|current| current != socket) || self.filled == BATCH {
                self.flush(&mut sockets[current.unwrap_or(socket)]);
            }
            current = Some(socket);
            let bytes = arena.payload(send);
            if sockets[socket].segmentation || send.segments() == 1 {
                self.add(send, bytes, source, send.segments() > 1);
                continue;
            }
            for datagram in bytes.chunks(send.segment) {
                if self.filled == BATCH {
                    self.flush(&mut sockets[socket]);
                }
                self.add(send, datagram, source, false);
            }
        }
        if let Some(socket) = current {
            self.flush(&mut sockets[socket]);
        }
    }

    fn add(&mut self, send: &Send, bytes: &[u8], source: Option<IpAddr>, segmented: bool) {
        let index = self.filled;
        let (name, name_len) = to_sockaddr(send.path.remote);
        self.names[index] = name;
        self.vectors[index] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        self.datagrams[index] = if segmented { send.segments() as u32 } else { 1 };
        let header = &mut self.headers[index].msg_hdr;
        header.msg_name = (&raw mut self.names[index]).cast();
        header.msg_namelen = name_len;
        header.msg_iov = &raw mut self.vectors[index];
        header.msg_iovlen = 1;
        header.msg_control = self.controls[index].0.as_mut_ptr().cast();
        header.msg_controllen = 0;
        header.msg_flags = 0;
        if segmented {
            put_control(header, libc::SOL_UDP, libc::UDP_SEGMENT, send.segment as u16);
        }
        match source {
            Some(IpAddr::V4(ip)) => {
                let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: in_addr(ip), ipi_addr: in_addr(ip) };
                put_control(header, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            Some(IpAddr::V6(ip)) => {
                let info = libc::in6_pktinfo { ipi6_addr: in6_addr(ip), ipi6_ifindex: 0 };
                put_control(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
            None => {}
        }
        if header.msg_controllen == 0 {
            header.msg_control = std::ptr::null_mut();
        }
        self.filled += 1;
    }

    fn flush(&mut self, socket: &mut UdpSocket) {
        let mut next = 0;
        while next < self.filled {
            // SAFETY: the headers from `next` on were filled by `add`; what they point to lives until this returns.
            let sent = unsafe {
                let first = self.headers.as_mut_ptr().add(next);
                libc::sendmmsg(socket.raw(), first, (self.filled - next) as _, libc::MSG_DONTWAIT)
            };
            self.counters.calls += 1;
            if sent > 0 {
                self.counters.messages += sent as u64;
                next += sent as usize;
                continue;
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN) if self.waits_left > 0 => {
                    self.waits_left -= 1;
                    wait_writable(socket);
                }
                Some(code @ (libc::EIO | libc::EINVAL | libc::EOPNOTSUPP)) if self.datagrams[next] > 1 => {
                    // Some cards and containers announce segmentation and refuse it when it is used. EINVAL is about
                    // this path only: its MTU is smaller than a segment.
                    if code != libc::EINVAL {
                        log::warn!("segmented sending refused ({error}); sending plainly from now on");
                        socket.segmentation = false;
                    }
                    self.send_plainly(socket, next);
                    next += 1;
                }
                _ => {
                    // One unreachable peer must not hold up the others.
                    self.counters.dropped += u64::from(self.datagrams[next]);
                    next += 1;
                }
            }
        }
        self.filled = 0;
    }

    /// Sends message `index` datagram by datagram.
    fn send_plainly(&mut self, socket: &UdpSocket, index: usize) {
        let whole = self.vectors[index];
        let count = self.datagrams[index] as usize;
        let segment = read_segment(&self.headers[index].msg_hdr).unwrap_or(whole.iov_len).max(1);
        let header = &mut self.headers[index].msg_hdr;
        header.msg_control = std::ptr::null_mut();
        header.msg_controllen = 0;
        for part in 0..count {
            let start = part * segment;
            // SAFETY: `start` stays inside the run, whose bytes the arena keeps until the batch is done.
            unsafe {
                self.vectors[index].iov_base = whole.iov_base.cast::<u8>().add(start).cast();
                self.vectors[index].iov_len = segment.min(whole.iov_len - start);
                if libc::sendmsg(socket.raw(), &raw const self.headers[index].msg_hdr, libc::MSG_DONTWAIT) < 0 {
                    self.counters.dropped += 1;
                }
            }
        }
    }
}

#[allow(clippy::unnecessary_cast, reason = "the type of the length differs between C libraries")]
fn put_control<T>(header: &mut libc::msghdr, level: libc::c_int, kind: libc::c_int, value: T) {
    // SAFETY: the control buffer has room for both messages used here (24 + 40 bytes) and is aligned for cmsghdr.
    unsafe {
        let at = header.msg_control.cast::<u8>().add(header.msg_controllen as usize).cast::<libc::cmsghdr>();
        (*at).cmsg_level = level;
        (*at).cmsg_type = kind;
        (*at).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as _;
        libc::CMSG_DATA(at).cast::<T>().write_unaligned(value);
        header.msg_controllen += libc::CMSG_SPACE(size_of::<T>() as u32) as usize;
    }
}

fn read_segment(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the control buffer was written by `put_control`.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(header);
        if first.is_null() || (*first).cmsg_type != libc::UDP_SEGMENT {
            return None;
        }
        Some(usize::from(libc::CMSG_DATA(first).cast::<u16>().read_unaligned()))
    }
}

fn wait_writable(socket: &UdpSocket) {
    let mut poll = libc::pollfd { fd: socket.raw(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one valid pollfd.
    unsafe { libc::poll(&mut poll, 1, FULL_WAIT_MS) };
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket as Peer};
    use std::time::Duration;

    use greenroom_forward::Path;

    use super::*;

    /// A socket of ours, and a peer that waits for at most a second.
    fn pair() -> (UdpSocket, Peer, SocketAddr) {
        let ours = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let peer = Peer::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let address = peer.local_addr().unwrap();
        (ours, peer, address)
    }

    fn exchange(segmentation: bool) {
        let (mut ours, peer, remote) = pair();
        ours.segmentation &= segmentation;
        let mut locals = Locals::default();
        let path = Path { local: locals.intern(0, None), remote };
        let mut arena = SendArena::default();
        let expected: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n; if n % 7 == 6 { 500 } else { 1100 }]).collect();
        expected.iter().for_each(|datagram| arena.push(path, datagram));
        let mut batch = SendBatch::new();
        batch.send(std::slice::from_mut(&mut ours), &locals, &arena);
        let mut buf = [0; 2000];
        for datagram in &expected {
            let (len, from) = peer.recv_from(&mut buf).unwrap();
            assert_eq!((&buf[..len], from), (datagram.as_slice(), ours.address));
        }
        assert_eq!(batch.counters.dropped, 0);
    }

    #[test]
    fn runs_arrive_as_the_datagrams_they_are_made_of() {
        exchange(true);
    }

    #[test]
    fn without_segmentation_too() {
        exchange(false);
    }

    #[test]
    fn a_refused_run_is_sent_plainly() {
        let (ours, peer, remote) = pair();
        let mut arena = SendArena::default();
        let path = Path { local: 0, remote };
        (0..3u8).for_each(|n| arena.push(path, &[n; 100]));
        let mut batch = SendBatch::new();
        let send = arena.sends()[0];
        batch.add(&send, arena.payload(&send), None, true);
        batch.send_plainly(&ours, 0);
        let mut buf = [0; 200];
        for n in 0..3u8 {
            assert_eq!(peer.recv(&mut buf).unwrap(), 100);
            assert_eq!(buf[0], n);
        }
    }

    #[test]
    fn an_unreachable_destination_does_not_stop_the_others() {
        let (ours, peer, remote) = pair();
        let mut locals = Locals::default();
        let local = locals.intern(0, None);
        let mut arena = SendArena::default();
        arena.push(Path { local, remote: "[::1]:9".parse().unwrap() }, b"wrong family");
        arena.push(Path { local, remote }, b"right");
        let mut batch = SendBatch::new();
        batch.send(&mut [ours], &locals, &arena);
        let mut buf = [0; 200];
        assert_eq!(peer.recv(&mut buf).unwrap(), 5);
        assert_eq!(batch.counters.dropped, 1);
    }
}
