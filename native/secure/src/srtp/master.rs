//! Protection profiles and the master keys made for them.

use std::fmt;

use zeroize::Zeroize;

use super::error::SrtpError;
use super::packet::RTCP_INDEX_LEN;

/// An SRTP protection profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `SRTP_AEAD_AES_128_GCM` (RFC 7714).
    AeadAes128Gcm,
    /// `SRTP_AEAD_AES_256_GCM` (RFC 7714).
    AeadAes256Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80` (RFC 5764), what every WebRTC endpoint must have.
    Aes128CmSha1_80,
}

impl Profile {
    /// Length of the master key in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Profile::AeadAes128Gcm | Profile::Aes128CmSha1_80 => 16,
            Profile::AeadAes256Gcm => 32,
        }
    }

    /// Length of the master salt in bytes.
    pub const fn salt_len(self) -> usize {
        match self {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => 12,
            Profile::Aes128CmSha1_80 => 14,
        }
    }

    /// Length of the authentication tag in bytes: what sealing adds to an RTP packet.
    pub const fn tag_len(self) -> usize {
        match self {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => 16,
            Profile::Aes128CmSha1_80 => 10,
        }
    }

    /// What sealing adds to an RTCP packet, in bytes.
    pub const fn rtcp_overhead(self) -> usize {
        self.tag_len() + RTCP_INDEX_LEN
    }

    /// The name in the registry of DTLS-SRTP protection profiles.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::AeadAes128Gcm => "SRTP_AEAD_AES_128_GCM",
            Profile::AeadAes256Gcm => "SRTP_AEAD_AES_256_GCM",
            Profile::Aes128CmSha1_80 => "SRTP_AES128_CM_HMAC_SHA1_80",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The master key and salt of one direction. Its bytes are wiped when it is dropped, and never printed.
#[derive(Clone)]
pub struct MasterKey {
    profile: Profile,
    key: [u8; 32],
    salt: [u8; 14],
}

impl MasterKey {
    /// Takes a key of [`Profile::key_len`] and a salt of [`Profile::salt_len`] bytes.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Result<Self, SrtpError> {
        if key.len() != profile.key_len() || salt.len() != profile.salt_len() {
            return Err(SrtpError::KeyLength);
        }
        let mut this = Self { profile, key: [0; 32], salt: [0; 14] };
        this.key[..key.len()].copy_from_slice(key);
        this.salt[..salt.len()].copy_from_slice(salt);
        Ok(this)
    }

    /// The profile this key is for.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The salt, filled up with zeros on the right.
    pub(super) fn salt(&self) -> &[u8; 14] {
        &self.salt
    }

    /// The key: [`Profile::key_len`] bytes.
    pub(super) fn key(&self) -> &[u8] {
        &self.key[..self.profile.key_len()]
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.key.zeroize();
        self.salt.zeroize();
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_master_key_leaves_nothing_and_prints_nothing() {
        for profile in [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::Aes128CmSha1_80] {
            let mut key = std::mem::ManuallyDrop::new(
                MasterKey::new(profile, &[0x5a; 32][..profile.key_len()], &[0xa5; 14][..profile.salt_len()]).unwrap(),
            );
            assert!(key.key().iter().any(|b| *b != 0));
            assert_eq!(format!("{:?}", *key), format!("MasterKey({})", profile.name()));
            // SAFETY: dropped once. What is read afterwards are byte arrays in a place that still exists.
            unsafe { std::mem::ManuallyDrop::drop(&mut key) };
            assert_eq!((key.key, key.salt), ([0; 32], [0; 14]));
        }
    }
}
