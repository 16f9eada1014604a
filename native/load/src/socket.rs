//! One connected UDP socket per peer, as every client has one. Sending is plain; receiving is coalesced and tells when
//! the kernel received.

use std::io;
use std::mem::zeroed;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::outbox::Outbox;

/// Asked for in bytes; the kernel may grant less. A key frame to a slow reader must fit.
const BUFFER_BYTES: libc::c_int = 1 << 20;

#[repr(C, align(8))]
struct Control([u8; 128]);

/// One message as the kernel hands it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) len: usize,
    /// Length of its datagrams, the last one perhaps shorter.
    pub(crate) segment: usize,
    /// How long it has waited for us.
    pub(crate) age: Duration,
}

#[derive(Debug)]
pub(crate) struct Socket(UdpSocket);

impl Socket {
    /// Binds to any port and talks to `remote` only. `coalesce`: use the kernel's receive offload.
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
        set_option(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        if coalesce {
            // Without the offload everything still works, at a price.
            let _ = set_option(fd, libc::SOL_UDP, libc::UDP_GRO, 1);
        }
        Ok(Socket(socket))
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Takes one message into `buf`. None when nothing waits.
    pub(crate) fn receive(&self, buf: &mut [u8]) -> io::Result<Option<Message>> {
        let mut control = Control([0; 128]);
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
        let mut message = Message { len: len as usize, segment: (len as usize).max(1), age: Duration::ZERO };
        // SAFETY: the kernel filled the control buffer, and the macros stay inside it.
        unsafe {
            let mut cursor = libc::CMSG_FIRSTHDR(&raw const header);
            while !cursor.is_null() {
                let data = libc::CMSG_DATA(cursor);
                match ((*cursor).cmsg_level, (*cursor).cmsg_type) {
                    (libc::SOL_UDP, libc::UDP_GRO) => {
                        message.segment = data.cast::<libc::c_int>().read_unaligned().max(1) as usize;
                    }
                    (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                        let at = data.cast::<libc::timespec>().read_unaligned();
                        let at = UNIX_EPOCH + Duration::new(at.tv_sec.max(0) as u64, at.tv_nsec.max(0) as u32);
                        // A clock that was set back meanwhile makes it zero.
                        message.age = SystemTime::now().duration_since(at).unwrap_or_default();
                    }
                    _ => {}
                }
                cursor = libc::CMSG_NXTHDR(&raw const header, cursor);
            }
        }
        Ok(Some(message))
    }

    /// Sends everything in `out`, one datagram per call as clients do, and returns how many the kernel did not take.
    pub(crate) fn send(&self, out: &Outbox) -> u64 {
        out.datagrams().filter(|datagram| self.0.send(datagram).is_err()).count() as u64
    }
}

fn set_option(fd: RawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: `value` lives through the call and has the size given.
    let result = unsafe {
        libc::setsockopt(fd, level, name, (&raw const value).cast(), size_of::<libc::c_int>() as libc::socklen_t)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_tell_when_they_came() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = Socket::connect(server.local_addr().unwrap(), true).unwrap();
        let mut out = Outbox::default();
        out.push(b"hello");
        assert_eq!(socket.send(&out), 0);
        let (_, client) = server.recv_from(&mut [0; 16]).unwrap();
        let mut buf = [0; 64];
        assert_eq!(socket.receive(&mut buf).unwrap(), None);
        // The kernel begins to note arrivals a moment after it was asked to.
        let noted = (0..100).any(|_| {
            server.send_to(b"hi", client).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            let message = socket.receive(&mut buf).unwrap().unwrap();
            assert_eq!((message.len, &buf[..2]), (2, &b"hi"[..]));
            message.age >= Duration::from_millis(20)
        });
        assert!(noted);
    }
}
