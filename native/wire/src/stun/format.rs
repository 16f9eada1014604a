//! Numbers of the message format (RFC 8489 sections 5 and 18.3), and what reading and writing share.

/// Length of the fixed header.
pub const HEADER_LEN: usize = 20;
pub(super) const MAGIC: u32 = 0x2112_a442;
pub(super) const FINGERPRINT_XOR: u32 = 0x5354_554e;

pub(super) const USERNAME: u16 = 0x0006;
pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
pub(super) const ERROR_CODE: u16 = 0x0009;
pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
pub(super) const PRIORITY: u16 = 0x0024;
pub(super) const USE_CANDIDATE: u16 = 0x0025;
pub(super) const FINGERPRINT: u16 = 0x8028;
pub(super) const ICE_CONTROLLED: u16 = 0x8029;
pub(super) const ICE_CONTROLLING: u16 = 0x802a;

/// Transaction id: ties a response to its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TransactionId(pub [u8; 12]);

/// Type and length as MESSAGE-INTEGRITY at offset `at` covers them: the length counts up to the end of that attribute.
pub(super) fn integrity_header(raw: &[u8], at: usize) -> [u8; 4] {
    let len = (at + 24 - HEADER_LEN) as u16;
    [raw[0], raw[1], (len >> 8) as u8, len as u8]
}
