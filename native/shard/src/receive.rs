//! Receiving in batches: `recvmmsg` over buffers large enough for what the kernel coalesced (`UDP_GRO`).
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

/// Buffers and headers of one batch, reused for the life of a shard.
pub(crate) struct ReceiveBatch {
    buffers: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
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
        }
    }

    /// Takes what waits on `socket` and hands each message to `each`. Returns how many messages there were; fewer than
    /// [`ReceiveBatch::FULL`] means that the socket is empty for now.
    pub(crate) fn receive(&mut self, socket: RawFd, mut each: impl FnMut(Received<'_>)) -> io::Result<usize> {
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
                // An ICMP answer to something sent earlier. It names no packet that waits here.
                io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable => Ok(1),
                _ => Err(error),
            };
        }
        for index in 0..count as usize {
            let len = self.headers[index].msg_len as usize;
            let Some(remote) = from_sockaddr(&self.names[index]) else { continue };
            let (segment, local) = read_control(&self.headers[index].msg_hdr);
            let bytes = &mut self.buffers[index * BUFFER..index * BUFFER + len];
            each(Received { remote, local, bytes, segment: segment.filter(|s| *s > 0).unwrap_or(len.max(1)) });
        }
        Ok(count as usize)
    }

    pub(crate) const FULL: usize = BATCH;
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
