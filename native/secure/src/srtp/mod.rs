//! SRTP and SRTCP (RFC 3711) with the AEAD transforms of RFC 7714: in place, without allocation per packet.
//!
//! One [`SrtpTx`] protects everything sent to one peer, one [`SrtpRx`] opens everything received from it. Both read
//! the SSRC from the packet, so they hold no state per stream: the 48-bit packet index (rollover counter and sequence
//! number) belongs to the caller, who tracks it per SSRC anyway. [`estimate_index`] and [`ReplayWindow`] are the two
//! tools a receiver needs for it; [`RxSource`] combines them.
//!
//! Not supported, because DTLS-SRTP never negotiates them: MKI, key derivation rates, unencrypted SRTCP.

mod aes_ctr;
mod cm;
mod error;
mod gcm;
mod index;
mod kdf;
mod master;
mod packet;
mod replay;
mod rtcp;

pub use error::SrtpError;
pub use index::{RxSource, estimate_index};
pub use master::{MasterKey, Profile};
pub use replay::ReplayWindow;

use cm::CmKey;
use gcm::GcmKey;
use packet::{E_FLAG, RTCP_HEADER_LEN, RTCP_INDEX_LEN, RTP_HEADER_LEN, read_u32};
use rtcp::RtcpSources;

/// The most that sealing adds to a packet, in bytes: an AEAD tag and an SRTCP index.
pub const MAX_OVERHEAD: usize = 16 + RTCP_INDEX_LEN;

/// The session keys for RTP or for RTCP under one master key. The rarer kind is boxed: it is forty times the size of
/// the other, which would have to carry that room four times per peer.
enum Cipher {
    Gcm(GcmKey),
    Cm(Box<CmKey>),
}

impl Cipher {
    fn derive(master: &MasterKey, labels: kdf::Labels) -> Self {
        match master.profile() {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => Cipher::Gcm(GcmKey::derive(master, labels)),
            Profile::Aes128CmSha1_80 => Cipher::Cm(Box::new(CmKey::derive(master, labels))),
        }
    }
}

/// Seals packets to one peer.
pub struct SrtpTx {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    rtcp_index: u32,
}

impl SrtpTx {
    /// Derives the session keys (RFC 3711, 4.3).
    pub fn new(master: &MasterKey) -> Self {
        Self {
            profile: master.profile(),
            rtp: Cipher::derive(master, kdf::RTP),
            rtcp: Cipher::derive(master, kdf::RTCP),
            rtcp_index: 0,
        }
    }

    /// The profile in use.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Encrypts and authenticates the RTP packet `buf[..len]` in place and returns its new length.
    ///
    /// `header_len` counts the fixed header, CSRCs and the extension block: everything that stays in clear. `index`
    /// is the 48-bit packet index, `roc << 16 | seq`; its low 16 bits must be the sequence number in the packet. An
    /// index must not be sealed twice for one SSRC with different content: that would give the keystream away. The
    /// same packet sent again gets the same bytes, which is safe.
    ///
    /// # Panics
    /// When `12 <= header_len <= len` and `len + Profile::tag_len() <= buf.len()` do not hold.
    #[inline]
    pub fn seal_rtp(&mut self, buf: &mut [u8], header_len: usize, len: usize, index: u64) -> usize {
        assert!(header_len >= RTP_HEADER_LEN && header_len <= len, "RTP header does not fit its packet");
        debug_assert_eq!(index as u16, u16::from_be_bytes([buf[2], buf[3]]), "index of another packet");
        match &mut self.rtp {
            Cipher::Gcm(key) => key.seal_rtp(buf, header_len, len, index),
            Cipher::Cm(key) => key.seal_rtp(buf, header_len, len, index),
        }
    }

    /// Encrypts and authenticates the compound RTCP packet `buf[..len]` in place and returns its new length. The
    /// SRTCP index is counted here, over all SSRCs.
    ///
    /// # Panics
    /// When `8 <= len` and `len + Profile::rtcp_overhead() <= buf.len()` do not hold.
    pub fn seal_rtcp(&mut self, buf: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        assert!(len >= RTCP_HEADER_LEN, "RTCP packet shorter than its header");
        if self.rtcp_index >= E_FLAG {
            return Err(SrtpError::KeyExhausted);
        }
        let index = self.rtcp_index;
        self.rtcp_index += 1;
        Ok(match &mut self.rtcp {
            Cipher::Gcm(key) => key.seal_rtcp(buf, len, index),
            Cipher::Cm(key) => key.seal_rtcp(buf, len, index),
        })
    }
}

/// Opens packets from one peer.
pub struct SrtpRx {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    sources: RtcpSources,
}

impl SrtpRx {
    /// Derives the session keys (RFC 3711, 4.3).
    pub fn new(master: &MasterKey) -> Self {
        Self {
            profile: master.profile(),
            rtp: Cipher::derive(master, kdf::RTP),
            rtcp: Cipher::derive(master, kdf::RTCP),
            sources: RtcpSources::default(),
        }
    }

    /// The profile in use.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Authenticates and decrypts the SRTP packet `buf` in place and returns the length of the RTP packet at its
    /// start. After an error the payload is undefined.
    ///
    /// `header_len` counts the fixed header, CSRCs and the extension block. `index` is the packet index estimated from
    /// the sequence number, see [`RxSource`], which also does the replay check: this function does none for RTP.
    #[inline]
    pub fn open_rtp(&mut self, buf: &mut [u8], header_len: usize, index: u64) -> Result<usize, SrtpError> {
        if header_len < RTP_HEADER_LEN || buf.len() < header_len + self.profile.tag_len() {
            return Err(SrtpError::TooShort);
        }
        match &mut self.rtp {
            Cipher::Gcm(key) => key.open_rtp(buf, header_len, index),
            Cipher::Cm(key) => key.open_rtp(buf, header_len, index),
        }
    }

    /// Authenticates and decrypts the SRTCP packet `buf` in place, refuses replays, and returns the length of the
    /// compound RTCP packet at its start. After an error the content is undefined.
    pub fn open_rtcp(&mut self, buf: &mut [u8]) -> Result<usize, SrtpError> {
        if buf.len() < RTCP_HEADER_LEN + self.profile.rtcp_overhead() {
            return Err(SrtpError::TooShort);
        }
        let word = match &self.rtcp {
            Cipher::Gcm(key) => key.rtcp_index_word(buf),
            Cipher::Cm(key) => key.rtcp_index_word(buf),
        };
        if word & E_FLAG == 0 {
            return Err(SrtpError::Unencrypted);
        }
        let (ssrc, index) = (read_u32(buf, 4), word & !E_FLAG);
        if !self.sources.is_fresh(ssrc, index) {
            return Err(SrtpError::Replay);
        }
        let len = match &mut self.rtcp {
            Cipher::Gcm(key) => key.open_rtcp(buf, word)?,
            Cipher::Cm(key) => key.open_rtcp(buf, word)?,
        };
        // Only what is authentic may move the window, or a forger could close it.
        self.sources.accept(ssrc, index);
        Ok(len)
    }
}

#[cfg(test)]
mod tests;
