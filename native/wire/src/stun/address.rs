//! XOR-MAPPED-ADDRESS (RFC 8489 section 14.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::format::{MAGIC, TransactionId};
use crate::WireError;
use crate::bytes::Writer;

const IPV4: u8 = 1;
const IPV6: u8 = 2;

/// Magic cookie and transaction id: what an IPv6 address is XORed with, and whose front covers IPv4 and the port.
fn mask(id: &TransactionId) -> u128 {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&MAGIC.to_be_bytes());
    bytes[4..].copy_from_slice(&id.0);
    u128::from_be_bytes(bytes)
}

pub(super) fn parse(value: &[u8], id: &TransactionId) -> Result<SocketAddr, WireError> {
    let (&[_, family, p0, p1], host) = value.split_first_chunk::<4>().ok_or(WireError::Value)?;
    let port = u16::from_be_bytes([p0, p1]) ^ (MAGIC >> 16) as u16;
    let ip = match family {
        IPV4 => {
            let bits = u32::from_be_bytes(host.try_into().map_err(|_| WireError::Value)?);
            IpAddr::V4(Ipv4Addr::from(bits ^ MAGIC))
        }
        IPV6 => {
            let bits = u128::from_be_bytes(host.try_into().map_err(|_| WireError::Value)?);
            IpAddr::V6(Ipv6Addr::from(bits ^ mask(id)))
        }
        _ => return Err(WireError::Value),
    };
    Ok(SocketAddr::new(ip, port))
}

/// Writes the value; returns nothing because the length follows from the family.
pub(super) fn write(w: &mut Writer<'_>, addr: SocketAddr, id: &TransactionId) -> Result<(), WireError> {
    let port = addr.port() ^ (MAGIC >> 16) as u16;
    // A dual-stack socket reports IPv4 peers as ::ffff:a.b.c.d; the peer knows itself as IPv4.
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => {
            w.put(&[0, IPV4])?;
            w.u16(port)?;
            w.u32(ip.to_bits() ^ MAGIC)
        }
        IpAddr::V6(ip) => {
            w.put(&[0, IPV6])?;
            w.u16(port)?;
            w.put(&(ip.to_bits() ^ mask(id)).to_be_bytes())
        }
    }
}
