//! Key derivation: RFC 3711, 4.3 with a key derivation rate of 0, and RFC 7714, 11 for the AEAD transforms.

use zeroize::Zeroizing;

use super::aes_ctr::AesCtr;
use super::master::MasterKey;

/// The labels of the three session keys (RFC 3711, 4.3.1 and 4.3.2).
#[derive(Clone, Copy)]
pub(super) struct Labels {
    encryption: u8,
    authentication: u8,
    salt: u8,
}

pub(super) const RTP: Labels = Labels { encryption: 0, authentication: 1, salt: 2 };
pub(super) const RTCP: Labels = Labels { encryption: 3, authentication: 4, salt: 5 };

/// The session encryption key: [`super::master::Profile::key_len`] bytes of the result.
pub(super) fn encryption_key(master: &MasterKey, labels: Labels) -> Zeroizing<[u8; 32]> {
    derive(master, labels.encryption)
}

/// The session authentication key of the HMAC-SHA1 transform.
pub(super) fn authentication_key(master: &MasterKey, labels: Labels) -> Zeroizing<[u8; 20]> {
    derive(master, labels.authentication)
}

/// The session salt: [`super::master::Profile::salt_len`] bytes of the result.
pub(super) fn salt(master: &MasterKey, labels: Labels) -> Zeroizing<[u8; 14]> {
    derive(master, labels.salt)
}

/// `N` bytes of the AES-CM pseudo-random function for `label`.
pub(super) fn derive<const N: usize>(master: &MasterKey, label: u8) -> Zeroizing<[u8; N]> {
    // x = (label << 48) XOR salt as 112-bit numbers, then x * 2^16 is the initial counter. The 12-byte salt of the AEAD
    // profiles is filled up with zeros on the right, as deployed implementations do.
    let mut counter = Zeroizing::new([0; 16]);
    counter[..14].copy_from_slice(master.salt());
    counter[7] ^= label;
    let mut out = Zeroizing::new([0; N]);
    AesCtr::new(master.key()).apply(*counter, &mut *out);
    out
}
