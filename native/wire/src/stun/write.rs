//! Writing binding requests and responses.

use std::net::SocketAddr;

use super::format::{
    ERROR_CODE, FINGERPRINT, FINGERPRINT_XOR, HEADER_LEN, ICE_CONTROLLED, ICE_CONTROLLING, MAGIC, MESSAGE_INTEGRITY,
    PRIORITY, TransactionId, USE_CANDIDATE, USERNAME, XOR_MAPPED_ADDRESS, integrity_header,
};
use super::{address, crc32};
use crate::WireError;
use crate::bytes::Writer;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

/// Role in ICE with its tie-breaker (RFC 8445 section 16.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IceRole {
    /// Nominates pairs.
    Controlling(u64),
    /// Follows; always the role of an ICE-lite side facing a full one.
    Controlled(u64),
}

/// A connectivity check (RFC 8445 section 7.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingRequest<'a> {
    /// Transaction id, random.
    pub transaction_id: TransactionId,
    /// `remote-ufrag:local-ufrag`.
    pub username: &'a str,
    /// Priority of the peer-reflexive candidate this check may create.
    pub priority: u32,
    /// Role and tie-breaker.
    pub role: IceRole,
    /// Nominate this pair.
    pub use_candidate: bool,
}

/// Writes a connectivity check signed with the remote password; returns its length.
pub fn write_binding_request(
    buf: &mut [u8],
    request: &BindingRequest<'_>,
    key: &[u8],
    hmac: impl Fn(&[u8], &[&[u8]]) -> [u8; 20],
) -> Result<usize, WireError> {
    let mut w = start(buf, BINDING_REQUEST, request.transaction_id)?;
    attribute(&mut w, USERNAME, request.username.as_bytes())?;
    attribute(&mut w, PRIORITY, &request.priority.to_be_bytes())?;
    match request.role {
        IceRole::Controlling(tie_breaker) => attribute(&mut w, ICE_CONTROLLING, &tie_breaker.to_be_bytes())?,
        IceRole::Controlled(tie_breaker) => attribute(&mut w, ICE_CONTROLLED, &tie_breaker.to_be_bytes())?,
    }
    if request.use_candidate {
        attribute(&mut w, USE_CANDIDATE, &[])?;
    }
    finish(w, Some(key), hmac)
}

/// Writes the answer to a check: the source address it came from, signed with the local password; returns its length
/// (64 bytes for IPv4, 76 for IPv6).
pub fn write_binding_success(
    buf: &mut [u8],
    transaction_id: TransactionId,
    source: SocketAddr,
    key: &[u8],
    hmac: impl Fn(&[u8], &[&[u8]]) -> [u8; 20],
) -> Result<usize, WireError> {
    let mut w = start(buf, BINDING_SUCCESS, transaction_id)?;
    let mut value = [0; 20];
    let mut v = Writer::new(&mut value);
    address::write(&mut v, source, &transaction_id)?;
    let len = v.len();
    attribute(&mut w, XOR_MAPPED_ADDRESS, &value[..len])?;
    finish(w, Some(key), hmac)
}

/// Writes an error response; returns its length. `key` is `None` where the request could not be authenticated: such an
/// answer is not signed (RFC 8489 section 9.1.3).
///
/// Errors: `Value` for a code outside 300..=699 or a reason of 128 bytes and more.
pub fn write_binding_error(
    buf: &mut [u8],
    transaction_id: TransactionId,
    code: u16,
    reason: &str,
    key: Option<&[u8]>,
    hmac: impl Fn(&[u8], &[&[u8]]) -> [u8; 20],
) -> Result<usize, WireError> {
    if !(300..700).contains(&code) || reason.len() >= 128 {
        return Err(WireError::Value);
    }
    let mut w = start(buf, BINDING_ERROR, transaction_id)?;
    w.u16(ERROR_CODE)?;
    w.u16(4 + reason.len() as u16)?;
    w.put(&[0, 0, (code / 100) as u8, (code % 100) as u8])?;
    w.put(reason.as_bytes())?;
    w.pad4()?;
    finish(w, key, hmac)
}

fn start(buf: &mut [u8], message_type: u16, id: TransactionId) -> Result<Writer<'_>, WireError> {
    let mut w = Writer::new(buf);
    w.u16(message_type)?;
    w.u16(0)?; // length, known below
    w.u32(MAGIC)?;
    w.put(&id.0)?;
    Ok(w)
}

fn attribute(w: &mut Writer<'_>, kind: u16, value: &[u8]) -> Result<(), WireError> {
    w.u16(kind)?;
    w.u16(u16::try_from(value.len()).map_err(|_| WireError::Value)?)?;
    w.put(value)?;
    w.pad4()
}

/// Appends MESSAGE-INTEGRITY (with a key) and FINGERPRINT.
fn finish(
    mut w: Writer<'_>,
    key: Option<&[u8]>,
    hmac: impl Fn(&[u8], &[&[u8]]) -> [u8; 20],
) -> Result<usize, WireError> {
    if let Some(key) = key {
        let at = w.len();
        let written = w.written();
        let header = integrity_header(written, at);
        let digest = hmac(key, &[&header, &written[4..]]);
        attribute(&mut w, MESSAGE_INTEGRITY, &digest)?;
    }
    // The checksum covers the final length, its own attribute included.
    let len = u16::try_from(w.len() + 8 - HEADER_LEN).map_err(|_| WireError::Value)?;
    w.written()[2..4].copy_from_slice(&len.to_be_bytes());
    let fingerprint = crc32::crc32(w.written()) ^ FINGERPRINT_XOR;
    attribute(&mut w, FINGERPRINT, &fingerprint.to_be_bytes())?;
    Ok(w.len())
}
