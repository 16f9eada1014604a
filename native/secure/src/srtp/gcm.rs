//! AES-GCM protection of RTP and RTCP: RFC 7714, sections 8 and 9.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use zeroize::Zeroize;

use super::error::SrtpError;
use super::kdf::{self, Labels};
use super::master::{MasterKey, Profile};
use super::packet::{E_FLAG, RTCP_HEADER_LEN, RTCP_INDEX_LEN, read_u32};

/// Length of a GCM tag in bytes.
const TAG_LEN: usize = 16;

/// A session key. The AEAD context holds the expanded key and the GHASH tables, so a packet costs no key setup. It is
/// wiped by AWS-LC when it is freed.
pub(super) struct GcmKey {
    key: LessSafeKey,
    /// The 12-byte salt as a number, to be combined with SSRC and index in two instructions.
    salt: u128,
}

impl GcmKey {
    pub(super) fn derive(master: &MasterKey, labels: Labels) -> Self {
        let key = kdf::encryption_key(master, labels);
        let salt = kdf::salt(master, labels);
        Self::new(master.profile(), &key, &salt)
    }

    /// From session keys. Bytes beyond what the profile uses are ignored.
    pub(super) fn new(profile: Profile, key: &[u8; 32], salt: &[u8; 14]) -> Self {
        let (algorithm, key) = match profile {
            Profile::AeadAes256Gcm => (&AES_256_GCM, &key[..]),
            _ => (&AES_128_GCM, &key[..16]),
        };
        let key = UnboundKey::new(algorithm, key).expect("an AES key of its algorithm's length is valid");
        let mut number = [0; 16];
        number[4..].copy_from_slice(&salt[..12]);
        Self { key: LessSafeKey::new(key), salt: u128::from_be_bytes(number) }
    }

    /// The IV is 00 00 | SSRC | packet index (48 bits), XOR salt (RFC 7714, 8.1 and 9.1; an SRTCP index is the lower
    /// 31 bits of that number).
    #[inline]
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let iv = (u128::from(ssrc) << 48 | u128::from(index & 0xffff_ffff_ffff)) ^ self.salt;
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&iv.to_be_bytes()[4..]);
        Nonce::assume_unique_for_key(nonce)
    }

    #[inline]
    fn seal(&self, nonce: Nonce, aad: &[u8], payload: &mut [u8], tag_out: &mut [u8]) {
        // Fails only for payloads of 64 GiB and more.
        self.key.seal_in_place_scatter(nonce, Aad::from(aad), payload, &[], tag_out).expect("payload fits AES-GCM");
    }

    #[inline]
    pub(super) fn seal_rtp(&self, buf: &mut [u8], header_len: usize, len: usize, index: u64) -> usize {
        let nonce = self.nonce(read_u32(buf, 8), index);
        let (header, rest) = buf[..len + TAG_LEN].split_at_mut(header_len);
        let (payload, tag) = rest.split_at_mut(len - header_len);
        self.seal(nonce, header, payload, tag);
        len + TAG_LEN
    }

    #[inline]
    pub(super) fn open_rtp(&self, buf: &mut [u8], header_len: usize, index: u64) -> Result<usize, SrtpError> {
        let nonce = self.nonce(read_u32(buf, 8), index);
        let (header, sealed) = buf.split_at_mut(header_len);
        let payload =
            self.key.open_in_place(nonce, Aad::from(&*header), sealed).map_err(|_| SrtpError::Authentication)?;
        Ok(header_len + payload.len())
    }

    /// The E flag and index of an SRTCP packet: its last word.
    pub(super) fn rtcp_index_word(&self, buf: &[u8]) -> u32 {
        read_u32(buf, buf.len() - RTCP_INDEX_LEN)
    }

    pub(super) fn seal_rtcp(&self, buf: &mut [u8], len: usize, index: u32) -> usize {
        let word = index | E_FLAG;
        let nonce = self.nonce(read_u32(buf, 4), u64::from(index));
        let aad = rtcp_aad(buf, word);
        let (payload, tag) = buf[RTCP_HEADER_LEN..len + TAG_LEN].split_at_mut(len - RTCP_HEADER_LEN);
        self.seal(nonce, &aad, payload, tag);
        let end = len + TAG_LEN + RTCP_INDEX_LEN;
        buf[len + TAG_LEN..end].copy_from_slice(&word.to_be_bytes());
        end
    }

    pub(super) fn open_rtcp(&self, buf: &mut [u8], word: u32) -> Result<usize, SrtpError> {
        let nonce = self.nonce(read_u32(buf, 4), u64::from(word & !E_FLAG));
        let aad = rtcp_aad(buf, word);
        let end = buf.len() - RTCP_INDEX_LEN;
        let payload = self
            .key
            .open_in_place(nonce, Aad::from(&aad), &mut buf[RTCP_HEADER_LEN..end])
            .map_err(|_| SrtpError::Authentication)?;
        Ok(RTCP_HEADER_LEN + payload.len())
    }
}

impl Drop for GcmKey {
    fn drop(&mut self) {
        self.salt.zeroize();
    }
}

/// The associated data of an encrypted SRTCP packet: its clear header and its last word (RFC 7714, 9.2).
fn rtcp_aad(buf: &[u8], word: u32) -> [u8; RTCP_HEADER_LEN + RTCP_INDEX_LEN] {
    let mut aad = [0; RTCP_HEADER_LEN + RTCP_INDEX_LEN];
    aad[..RTCP_HEADER_LEN].copy_from_slice(&buf[..RTCP_HEADER_LEN]);
    aad[RTCP_HEADER_LEN..].copy_from_slice(&word.to_be_bytes());
    aad
}
