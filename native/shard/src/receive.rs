//! Receiving in batches: `recvmmsg` over buffers large enough for what the kernel coalesced (`UDP_GRO`). A batch may be
//! left half read and gone on with later, so that one socket cannot keep a shard from everything else.
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

use crate::socket::from_sockaddr;

/// Messages taken in one system call.
const BATCH: usize = 32;
/// A coalesced message is at most one maximal UDP payload.
const BUFFER: usize = 65_536;
/// Room for the segment size and the packet information.
const CONTROL: usize = 128;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// Where one received message came from and how it is cut into datagrams.
pub(crate) struct Received<'a> {
    pub(crate) remote: SocketAddr,
    /// The address of this machine the peer wrote to; on wildcard sockets only.
    pub(crate) local: Option<IpAddr>,
    /// One or more datagrams of `segment` bytes, the last one perhaps shorter.
    pub(crate) bytes: &'a mut [u8],
    pub(crate) segment: usize,
}

// SAFETY: the pointers in the headers are set before each system call and not used after it.
unsafe impl Send for ReceiveBatch {}

/// Buffers and headers of one batch of a socket, reused for the life of a shard. Memory that no message ever filled is
/// not backed by pages.
pub(crate) struct ReceiveBatch {
    buffers: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    filled: usize,
    next: usize,
}

impl ReceiveBatch {
    pub(crate) fn new() -> Self {
        // SAFETY: zero is a valid value of these C structures.
        let (names, vectors, headers) =
            unsafe { (vec![zeroed(); BATCH], vec![zeroed(); BATCH], vec![zeroed(); BATCH]) };
        ReceiveBatch {
            buffers: vec![0; BATCH * BUFFER],
            names,
            controls: vec![Control([0; CONTROL]); BATCH],
            vectors,
            headers,
            filled: 0,
            next: 0,
        }
    }

    /// Stands in while the real one is in use. It has no memory.
    pub(crate) fn vacant() -> Self {
        ReceiveBatch {
            buffers: Vec::new(),
            names: Vec::new(),
            controls: Vec::new(),
            vectors: Vec::new(),
            headers: Vec::new(),
            filled: 0,
            next: 0,
        }
    }

    /// Takes what waits on `socket`, when everything taken earlier was read. Zero messages: the socket is empty.
    pub(crate) fn fill(&mut self, socket: RawFd) -> io::Result<usize> {
        (self.filled, self.next) = (0, 0);
        for index in 0..BATCH {
            self.vectors[index] =
                libc::iovec { iov_base: self.buffers[index * BUFFER..].as_mut_ptr().cast(), iov_len: BUFFER };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.names[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut self.vectors[index];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[index].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
            header.msg_flags = 0;
        }
        // SAFETY: all pointers set above stay valid through the call, with the lengths given.
        let count = unsafe {
            libc::recvmmsg(socket, self.headers.as_mut_ptr(), BATCH as _, libc::MSG_DONTWAIT, std::ptr::null_mut())
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            };
        }
        self.filled = count as usize;
        Ok(self.filled)
    }

    /// The next message of the batch.
    pub(crate) fn next(&mut self) -> Option<Received<'_>> {
        while self.next < self.filled {
            let index = self.next;
            self.next += 1;
            let len = (self.headers[index].msg_len as usize).min(BUFFER);
            let Some(remote) = from_sockaddr(&self.names[index]) else { continue };
            let (segment, local) = read_control(&self.headers[index].msg_hdr);
            let bytes = &mut self.buffers[index * BUFFER..index * BUFFER + len];
            return Some(Received { remote, local, bytes, segment: segment.filter(|s| *s > 0).unwrap_or(len.max(1)) });
        }
        None
    }

    /// Whether the last call got as many messages as a batch holds: more may wait.
    pub(crate) fn was_full(&self) -> bool {
        self.filled == BATCH
    }
}

/// Whether an error of receiving is about a packet, a route or a moment, and not about the socket: ICMP answers to what
/// was sent earlier, a firewall's refusal, memory that is short now (ip(7), udp(7), recv(2)).
pub(crate) fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::ECONNRESET
                | libc::ECONNABORTED
                | libc::EHOSTUNREACH
                | libc::EHOSTDOWN
                | libc::ENETUNREACH
                | libc::ENETDOWN
                | libc::ENETRESET
                | libc::ETIMEDOUT
                | libc::EMSGSIZE
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::EPERM
                | libc::EACCES
                | libc::ENOMEM
                | libc::ENOBUFS
                | libc::EIO
        )
    )
}

fn read_control(header: &libc::msghdr) -> (Option<usize>, Option<IpAddr>) {
    let (mut segment, mut local) = (None, None);
    // SAFETY: the kernel filled the control buffer; the CMSG macros stay inside it.
    unsafe {
        let mut cursor = libc::CMSG_FIRSTHDR(header);
        while !cursor.is_null() {
            let data = libc::CMSG_DATA(cursor);
            match ((*cursor).cmsg_level, (*cursor).cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    segment = Some(data.cast::<libc::c_int>().read_unaligned().max(0) as usize);
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    local = Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    local = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                }
                _ => {}
            }
            cursor = libc::CMSG_NXTHDR(header, cursor);
        }
    }
    (segment, local)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_batch_can_be_left_and_gone_on_with() {
        let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        for n in 0..5u8 {
            peer.send_to(&[n; 10], ours.local_addr().unwrap()).unwrap();
        }
        let mut batch = ReceiveBatch::new();
        assert!(batch.next().is_none());
        assert_eq!(batch.fill(ours.as_raw_fd()).unwrap(), 5);
        assert!(!batch.was_full());
        for n in 0..5u8 {
            let message = batch.next().unwrap();
            assert_eq!((message.remote, &*message.bytes), (peer.local_addr().unwrap(), [n; 10].as_slice()));
        }
        assert!(batch.next().is_none());
        assert_eq!(batch.fill(ours.as_raw_fd()).unwrap(), 0);
    }

    #[test]
    fn what_is_about_the_socket_itself_is_not_passing() {
        for code in [libc::EBADF, libc::ENOTSOCK, libc::EFAULT, libc::EINVAL, libc::ENOTCONN] {
            assert!(!is_passing(&io::Error::from_raw_os_error(code)), "{code}");
        }
        for code in [libc::ENOMEM, libc::ENOBUFS, libc::EPERM, libc::ECONNRESET, libc::EHOSTDOWN, libc::ECONNREFUSED] {
            assert!(is_passing(&io::Error::from_raw_os_error(code)), "{code}");
        }
        let mut batch = ReceiveBatch::new();
        let error = batch.fill(-1).unwrap_err();
        assert_eq!((error.raw_os_error(), is_passing(&error)), (Some(libc::EBADF), false));
    }
}
