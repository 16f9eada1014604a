//! Message authentication for STUN MESSAGE-INTEGRITY (RFC 8489, 14.5) and comparison in constant time.

use aws_lc_rs::{constant_time, digest, hmac};

/// Length of an HMAC-SHA1 tag in bytes.
pub const HMAC_SHA1_LEN: usize = 20;

/// HMAC-SHA1 (RFC 2104) of the concatenation of `parts` under `key`.
///
/// The parts are separate because a STUN message is authenticated with its length field rewritten: header start,
/// patched length and rest are then passed without copying the message.
pub fn hmac_sha1(key: &[u8], parts: &[&[u8]]) -> [u8; HMAC_SHA1_LEN] {
    HmacSha1Key::new(key).sign(parts)
}

/// An HMAC-SHA1 key with its two pads hashed in advance.
///
/// An ICE password authenticates every consent check of a session, so deriving the pads once halves the price of
/// the short messages STUN consists of.
#[derive(Clone)]
pub struct HmacSha1Key(hmac::Key);

impl HmacSha1Key {
    /// Prepares `key`, of any length, for signing and verifying.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key))
    }

    /// The tag over the concatenation of `parts`.
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; HMAC_SHA1_LEN] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(part);
        }
        let mut out = [0; HMAC_SHA1_LEN];
        out.copy_from_slice(context.sign().as_ref());
        out
    }

    /// Whether `tag` authenticates the concatenation of `parts`. A tag that is not 20 bytes long never does.
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        constant_time_eq(&self.sign(parts), tag)
    }
}

impl std::fmt::Debug for HmacSha1Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HmacSha1Key(..)")
    }
}

/// Whether `a` equals `b`, in a time that depends on their lengths only.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// SHA-256 of `data`, the hash of certificate fingerprints.
pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2202, section 3, test cases 2 and 6 (a key longer than a block).
    #[test]
    fn matches_the_published_vectors() {
        let expected = [
            0xef, 0xfc, 0xdf, 0x6a, 0xe5, 0xeb, 0x2f, 0xa2, 0xd2, 0x74, 0x16, 0xd5, 0xf1, 0x84, 0xdf, 0x9c, 0x25, 0x9a,
            0x7c, 0x79,
        ];
        assert_eq!(hmac_sha1(b"Jefe", &[b"what do ya want ", b"for nothing?"]), expected);
        let expected = [
            0xaa, 0x4a, 0xe5, 0xe1, 0x52, 0x72, 0xd0, 0x0e, 0x95, 0x70, 0x56, 0x37, 0xce, 0x8a, 0x3b, 0x55, 0xed, 0x40,
            0x21, 0x12,
        ];
        assert_eq!(hmac_sha1(&[0xaa; 80], &[b"Test Using Larger Than Block-Size Key - Hash Key First"]), expected);
    }

    #[test]
    fn verification_needs_the_whole_tag() {
        let key = HmacSha1Key::new(b"password");
        let tag = key.sign(&[b"message"]);
        assert!(key.verify(&[b"mess", b"age"], &tag));
        assert!(!key.verify(&[b"message"], &tag[..19]));
        assert!(!key.verify(&[b"message!"], &tag));
        assert!(!key.verify(&[b"message"], &[]));
    }
}
