//! UDP sockets with what a media server wants from Linux: large buffers, receive coalescing, segmentation on send and,
//! on a wildcard address, the local address of each packet.
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Socket buffers asked for, in bytes; the kernel may grant less (`net.core.rmem_max`).
const BUFFER_BYTES: libc::c_int = 8 << 20;

/// One bound UDP socket.
#[derive(Debug)]
pub(crate) struct UdpSocket {
    fd: OwnedFd,
    /// The address it is bound to, with the real port.
    pub(crate) address: SocketAddr,
    /// `UDP_SEGMENT` was accepted when probed. Cleared when the kernel refuses a segmented send later.
    pub(crate) segmentation: bool,
}

impl UdpSocket {
    /// Binds without blocking mode. Errors are those of the operating system, such as an address in use.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: plain system call; the descriptor is owned at once.
        let fd = unsafe {
            let fd = libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        if address.is_ipv6() {
            set_option(fd.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        }
        for (forced, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
            // Past the system's limit where we are privileged, up to it where not.
            if set_option(fd.as_raw_fd(), libc::SOL_SOCKET, forced, BUFFER_BYTES).is_err() {
                set_option(fd.as_raw_fd(), libc::SOL_SOCKET, plain, BUFFER_BYTES)?;
            }
        }
        let (name, name_len) = to_sockaddr(address);
        // SAFETY: `name` is a valid socket address of `name_len` bytes.
        if unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), name_len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let address = local_address(fd.as_raw_fd())?;
        if address.ip().is_unspecified() {
            // Replies must come from the address the peer wrote to.
            match address {
                SocketAddr::V4(_) => set_option(fd.as_raw_fd(), libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?,
                SocketAddr::V6(_) => set_option(fd.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?,
            }
        }
        // Both are optimisations: an old kernel refuses them and everything still works.
        let _ = set_option(fd.as_raw_fd(), libc::SOL_UDP, libc::UDP_GRO, 1);
        let segmentation = set_option(fd.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 1200)
            .and_then(|()| set_option(fd.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 0))
            .is_ok();
        Ok(UdpSocket { fd, address, segmentation })
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn set_option(fd: RawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: `value` lives through the call and has the size given.
    let result = unsafe {
        libc::setsockopt(fd, level, name, (&raw const value).cast(), size_of::<libc::c_int>() as libc::socklen_t)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn local_address(fd: RawFd) -> io::Result<SocketAddr> {
    // SAFETY: an all-zero sockaddr_storage is valid, and the length tells the kernel its size.
    unsafe {
        let mut name: libc::sockaddr_storage = zeroed();
        let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        if libc::getsockname(fd, (&raw mut name).cast(), &mut len) < 0 {
            return Err(io::Error::last_os_error());
        }
        from_sockaddr(&name).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }
}

/// The C form of an address and its length. `sockaddr_in6` is the larger of the two forms.
pub(crate) fn to_sockaddr(address: SocketAddr) -> (libc::sockaddr_in6, libc::socklen_t) {
    // SAFETY: sockaddr_in6 is large and aligned enough for both forms; zero is a valid value of each.
    unsafe {
        let mut storage: libc::sockaddr_in6 = zeroed();
        match address {
            SocketAddr::V4(v4) => {
                let name = &mut *(&raw mut storage).cast::<libc::sockaddr_in>();
                name.sin_family = libc::AF_INET as libc::sa_family_t;
                name.sin_port = v4.port().to_be();
                name.sin_addr = in_addr(*v4.ip());
                (storage, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(v6) => {
                let name = &mut storage;
                name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                name.sin6_port = v6.port().to_be();
                name.sin6_flowinfo = v6.flowinfo();
                name.sin6_addr = in6_addr(*v6.ip());
                name.sin6_scope_id = v6.scope_id();
                (storage, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }
}

/// The Rust form of an address; `None` for other families.
pub(crate) fn from_sockaddr(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    // SAFETY: the family says which form the storage holds.
    unsafe {
        match i32::from(storage.ss_family) {
            libc::AF_INET => {
                let name = &*(&raw const *storage).cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
                Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(name.sin_port))))
            }
            libc::AF_INET6 => {
                let name = &*(&raw const *storage).cast::<libc::sockaddr_in6>();
                let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
                let port = u16::from_be(name.sin6_port);
                // The flow label differs per packet and must not tell one peer from another.
                Some(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, name.sin6_scope_id)))
            }
            _ => None,
        }
    }
}

pub(crate) fn in_addr(ip: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from(ip).to_be() }
}

pub(crate) fn in6_addr(ip: Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr { s6_addr: ip.octets() }
}

/// The local ends of the paths of a shard: which socket, and on a wildcard socket which address of the machine.
#[derive(Debug, Default)]
pub(crate) struct Locals {
    entries: Vec<(usize, Option<IpAddr>)>,
}

impl Locals {
    /// Machines have few addresses; past this many, packets to further ones are answered from the kernel's choice.
    const MAX: usize = 256;

    /// The id of a local end, given out on first use.
    pub(crate) fn intern(&mut self, socket: usize, ip: Option<IpAddr>) -> u16 {
        let found = self.entries.iter().position(|entry| *entry == (socket, ip));
        let index = found.unwrap_or_else(|| {
            if self.entries.len() >= Self::MAX {
                return self.entries.iter().position(|entry| entry.0 == socket).unwrap_or(0);
            }
            self.entries.push((socket, ip));
            self.entries.len() - 1
        });
        index as u16
    }

    /// Socket index and source address of a local end.
    pub(crate) fn get(&self, local: u16) -> Option<(usize, Option<IpAddr>)> {
        self.entries.get(usize::from(local)).copied()
    }
}
