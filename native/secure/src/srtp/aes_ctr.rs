//! AES in counter mode: the cipher of the CM transform and the pseudo-random function of key derivation.

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;

/// An expanded key. aws-lc-rs wipes it on drop.
pub(super) struct AesCtr(EncryptingKey);

impl AesCtr {
    /// Under a key of 16 or 32 bytes.
    pub(super) fn new(key: &[u8]) -> Self {
        let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
        let key = UnboundCipherKey::new(algorithm, key).and_then(EncryptingKey::ctr);
        Self(key.expect("an AES key of its algorithm's length is valid"))
    }

    /// Encrypts or decrypts: XORs `data` with the keystream that begins at the counter `iv`.
    #[inline]
    pub(super) fn apply(&self, iv: [u8; 16], data: &mut [u8]) {
        let context = EncryptionContext::Iv128(FixedLength::from(iv));
        self.0.less_safe_encrypt(data, context).expect("counter mode takes any length and a 16-byte IV");
    }
}
