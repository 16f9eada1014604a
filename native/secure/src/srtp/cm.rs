//! AES in counter mode with HMAC-SHA1-80: RFC 3711, sections 4.1.1 and 4.2.1.

use zeroize::Zeroize;

use super::aes_ctr::AesCtr;
use super::error::SrtpError;
use super::kdf::{self, Labels};
use super::master::MasterKey;
use super::packet::{E_FLAG, RTCP_HEADER_LEN, RTCP_INDEX_LEN, read_u32};
use crate::mac::{HmacSha1Key, constant_time_eq};

/// Length of the truncated HMAC-SHA1 tag in bytes.
const TAG_LEN: usize = 10;
/// Length of the rollover counter that the tag of an RTP packet covers.
const ROC_LEN: usize = 4;

/// Session keys: the AES key schedule and both HMAC pads are computed once. All are wiped on drop, the first two by
/// aws-lc-rs.
pub(super) struct CmKey {
    cipher: AesCtr,
    /// The session salt shifted into its place in the initial counter.
    salt: u128,
    mac: HmacSha1Key,
}

impl CmKey {
    pub(super) fn derive(master: &MasterKey, labels: Labels) -> Self {
        let key = kdf::encryption_key(master, labels);
        Self::new(&key[..16], &kdf::salt(master, labels), &kdf::authentication_key(master, labels))
    }

    /// From session keys.
    pub(super) fn new(key: &[u8], salt: &[u8; 14], mac: &[u8; 20]) -> Self {
        let mut number = [0; 16];
        number[..14].copy_from_slice(salt);
        Self { cipher: AesCtr::new(key), salt: u128::from_be_bytes(number), mac: HmacSha1Key::new(mac) }
    }

    /// Encrypts or decrypts: IV = salt * 2^16 XOR SSRC * 2^64 XOR index * 2^16 (RFC 3711, 4.1.1).
    #[inline]
    fn apply(&self, ssrc: u32, index: u64, payload: &mut [u8]) {
        let iv = self.salt ^ (u128::from(ssrc) << 64) ^ (u128::from(index & 0xffff_ffff_ffff) << 16);
        self.cipher.apply(iv.to_be_bytes(), payload);
    }

    #[inline]
    fn tag(&self, message: &[u8]) -> [u8; TAG_LEN] {
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&self.mac.sign(&[message])[..TAG_LEN]);
        tag
    }

    #[inline]
    pub(super) fn seal_rtp(&self, buf: &mut [u8], header_len: usize, len: usize, index: u64) -> usize {
        self.apply(read_u32(buf, 8), index, &mut buf[header_len..len]);
        // The rollover counter goes where the tag will stand, so that the MAC reads one piece of memory.
        buf[len..len + ROC_LEN].copy_from_slice(&rollover_counter(index));
        let tag = self.tag(&buf[..len + ROC_LEN]);
        buf[len..len + TAG_LEN].copy_from_slice(&tag);
        len + TAG_LEN
    }

    #[inline]
    pub(super) fn open_rtp(&self, buf: &mut [u8], header_len: usize, index: u64) -> Result<usize, SrtpError> {
        let len = buf.len() - TAG_LEN;
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&buf[len..]);
        buf[len..len + ROC_LEN].copy_from_slice(&rollover_counter(index));
        if !constant_time_eq(&self.tag(&buf[..len + ROC_LEN]), &tag) {
            return Err(SrtpError::Authentication);
        }
        self.apply(read_u32(buf, 8), index, &mut buf[header_len..len]);
        Ok(len)
    }

    /// The E flag and index of an SRTCP packet: the word before its tag.
    pub(super) fn rtcp_index_word(&self, buf: &[u8]) -> u32 {
        read_u32(buf, buf.len() - TAG_LEN - RTCP_INDEX_LEN)
    }

    pub(super) fn seal_rtcp(&self, buf: &mut [u8], len: usize, index: u32) -> usize {
        self.apply(read_u32(buf, 4), u64::from(index), &mut buf[RTCP_HEADER_LEN..len]);
        let tag_at = len + RTCP_INDEX_LEN;
        buf[len..tag_at].copy_from_slice(&(index | E_FLAG).to_be_bytes());
        let tag = self.tag(&buf[..tag_at]);
        buf[tag_at..tag_at + TAG_LEN].copy_from_slice(&tag);
        tag_at + TAG_LEN
    }

    pub(super) fn open_rtcp(&self, buf: &mut [u8], word: u32) -> Result<usize, SrtpError> {
        let (message, tag) = buf.split_at(buf.len() - TAG_LEN);
        if !constant_time_eq(&self.tag(message), tag) {
            return Err(SrtpError::Authentication);
        }
        let len = message.len() - RTCP_INDEX_LEN;
        self.apply(read_u32(buf, 4), u64::from(word & !E_FLAG), &mut buf[RTCP_HEADER_LEN..len]);
        Ok(len)
    }
}

impl Drop for CmKey {
    fn drop(&mut self) {
        self.salt.zeroize();
    }
}

#[inline]
fn rollover_counter(index: u64) -> [u8; ROC_LEN] {
    ((index >> 16) as u32).to_be_bytes()
}
