//! UDP sockets on every local address.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// Interfaces beyond this many add pairs to check and nothing else.
const MAX_ADDRESSES: usize = 8;

/// Room for a burst of video while the thread is not scheduled.
static BUFFER_BYTES: libc::c_int = 1 << 20;

/// A bound socket and the address it stands for among the ICE candidates.
#[derive(Debug)]
pub struct Socket {
    pub socket: UdpSocket,
    pub address: SocketAddr,
}

/// The addresses of interfaces that are up: IPv4, loopback last because it reaches this machine only.
pub fn local_addresses() -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: getifaddrs fills a list that is only read here and freed below.
    if unsafe { libc::getifaddrs(&mut list) } == 0 {
        let mut entry = list;
        while !entry.is_null() {
            // SAFETY: entry is a node of the list.
            let (flags, address, next) = unsafe { ((*entry).ifa_flags, (*entry).ifa_addr, (*entry).ifa_next) };
            entry = next;
            if address.is_null() || flags & libc::IFF_UP as libc::c_uint == 0 {
                continue;
            }
            // SAFETY: a non-null address starts with its family; AF_INET is a sockaddr_in.
            let ip = unsafe {
                if (*address).sa_family as i32 != libc::AF_INET {
                    continue;
                }
                let v4 = &*address.cast::<libc::sockaddr_in>();
                IpAddr::from(u32::from_be(v4.sin_addr.s_addr).to_be_bytes())
            };
            if !found.contains(&ip) {
                found.push(ip);
            }
        }
        // SAFETY: the list came from getifaddrs.
        unsafe { libc::freeifaddrs(list) };
    }
    found.sort_by_key(|ip| ip.is_loopback());
    if found.is_empty() {
        found.push(IpAddr::from([127, 0, 0, 1]));
    }
    // Loopback stays, however many interfaces there are.
    if found.len() > MAX_ADDRESSES {
        let last = found.pop();
        found.truncate(MAX_ADDRESSES - 1);
        found.extend(last);
    }
    found
}

/// One non-blocking socket on a free port of each address. An address that cannot be bound is left out.
pub fn bind_all(addresses: &[IpAddr]) -> std::io::Result<Vec<Socket>> {
    let mut sockets = Vec::with_capacity(addresses.len());
    let mut last_error = None;
    for ip in addresses {
        match bind(*ip) {
            Ok(socket) => sockets.push(socket),
            Err(error) => last_error = Some(error),
        }
    }
    match last_error {
        Some(error) if sockets.is_empty() => Err(error),
        _ => Ok(sockets),
    }
}

fn bind(ip: IpAddr) -> std::io::Result<Socket> {
    let socket = UdpSocket::bind((ip, 0))?;
    socket.set_nonblocking(true)?;
    for option in [libc::SO_RCVBUF, libc::SO_SNDBUF] {
        // SAFETY: sets an integer option on a socket that lives; a refusal leaves the default, which works too.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const BUFFER_BYTES).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
    }
    let address = socket.local_addr()?;
    Ok(Socket { socket, address })
}
