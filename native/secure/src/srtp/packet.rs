//! The parts of a packet that stay in clear.

/// Length of the fixed RTP header (RFC 3550, 5.1).
pub(super) const RTP_HEADER_LEN: usize = 12;
/// What SRTCP leaves in clear: the first header word and the sender's SSRC.
pub(super) const RTCP_HEADER_LEN: usize = 8;
/// Length of the E flag and SRTCP index.
pub(super) const RTCP_INDEX_LEN: usize = 4;
/// The E flag: the packet is encrypted.
pub(super) const E_FLAG: u32 = 1 << 31;

/// The big-endian 32-bit word at `at`.
#[inline]
pub(super) fn read_u32(buf: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&buf[at..at + 4]);
    u32::from_be_bytes(word)
}
