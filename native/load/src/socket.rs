//! One connected UDP socket per peer, as every client has one: coalesced receiving, segmented sending.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use crate::outbox::{Outbox, Run};

/// Asked for in bytes; the kernel may grant less. A key frame to a slow reader must fit.
const BUFFER_BYTES: libc::c_int = 1 << 20;

#[repr(C, align(8))]
struct Control([u8; 64]);

#[derive(Debug)]
pub(crate) struct Socket {
    socket: UdpSocket,
    segmentation: bool,
}

impl Socket {
    /// Binds to any port and talks to `remote` only. `coalesce`: use the kernel's offloads.
    pub(crate) fn connect(remote: SocketAddr, coalesce: bool) -> io::Result<Socket> {
        let any: SocketAddr = match remote {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(remote)?;
        socket.set_nonblocking(true)?;
        let fd = socket.as_raw_fd();
        set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, BUFFER_BYTES)?;
        set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, BUFFER_BYTES)?;
        let mut segmentation = false;
        if coalesce {
            // Without the offloads everything still works, at a price.
            let _ = set_option(fd, libc::SOL_UDP, libc::UDP_GRO, 1);
            segmentation = true;
        }
        Ok(Socket { socket, segmentation })
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Takes one message into `buf`: its length and that of its datagrams. None when nothing waits.
    pub(crate) fn receive(&self, buf: &mut [u8]) -> io::Result<Option<(usize, usize)>> {
        let mut control = Control([0; 64]);
        let mut vector = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
        // SAFETY: all-zero is a valid msghdr; the pointers set live through the call and have the lengths given.
        let (len, header) = unsafe {
            let mut header: libc::msghdr = zeroed();
            header.msg_iov = &raw mut vector;
            header.msg_iovlen = 1;
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = control.0.len() as _;
            (libc::recvmsg(self.raw(), &raw mut header, libc::MSG_DONTWAIT), header)
        };
        if len < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                // The server has gone, or is not there yet: the checks will tell.
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(error),
            };
        }
        let len = len as usize;
        // SAFETY: the kernel filled the control buffer, and the macros stay inside it.
        let segment = unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            if !first.is_null() && (*first).cmsg_level == libc::SOL_UDP && (*first).cmsg_type == libc::UDP_GRO {
                libc::CMSG_DATA(first).cast::<libc::c_int>().read_unaligned() as usize
            } else {
                len
            }
        };
        Ok(Some((len, segment.max(1))))
    }

    /// Sends everything in `out` and returns how many datagrams the kernel did not take.
    pub(crate) fn send(&mut self, out: &Outbox) -> u64 {
        let mut dropped = 0;
        for (run, bytes) in out.runs() {
            if run.datagrams() > 1 && self.segmentation {
                match self.send_segmented(run, bytes) {
                    Ok(()) => continue,
                    Err(error) if matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EOPNOTSUPP)) => {
                        self.segmentation = false;
                    }
                    Err(_) => {
                        dropped += run.datagrams() as u64;
                        continue;
                    }
                }
            }
            dropped += bytes.chunks(run.segment).filter(|datagram| self.socket.send(datagram).is_err()).count() as u64;
        }
        dropped
    }

    fn send_segmented(&self, run: Run, bytes: &[u8]) -> io::Result<()> {
        let mut control = Control([0; 64]);
        let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: as in `receive`; the control buffer has room for one message of two bytes.
        let sent = unsafe {
            let mut header: libc::msghdr = zeroed();
            header.msg_iov = &raw mut vector;
            header.msg_iovlen = 1;
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as _;
            let message = control.0.as_mut_ptr().cast::<libc::cmsghdr>();
            (*message).cmsg_level = libc::SOL_UDP;
            (*message).cmsg_type = libc::UDP_SEGMENT;
            (*message).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
            libc::CMSG_DATA(message).cast::<u16>().write_unaligned(run.segment as u16);
            libc::sendmsg(self.raw(), &raw const header, libc::MSG_DONTWAIT)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn set_option(fd: RawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: `value` lives through the call and has the size given.
    let result = unsafe {
        libc::setsockopt(fd, level, name, (&raw const value).cast(), size_of::<libc::c_int>() as libc::socklen_t)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
