//! The certificate of this endpoint and the fingerprints that stand for certificates in SDP (RFC 8122).

use std::fmt;
use std::str::FromStr;

use super::error::DtlsError;
use crate::mac::{constant_time_eq, sha256};

/// A self-signed ECDSA P-256 certificate with its key. Make one per process; cloning is cheap next to a handshake.
#[derive(Clone)]
pub struct Certificate {
    pub(super) inner: dimpl::DtlsCertificate,
    fingerprint: Fingerprint,
}

impl Certificate {
    /// Makes a new key and certificate from the system's randomness, valid for a year.
    pub fn generate() -> Result<Self, DtlsError> {
        let inner = dimpl::certificate::generate_self_signed_certificate()
            .map_err(|error| DtlsError::Certificate(error.to_string()))?;
        let fingerprint = Fingerprint::of_certificate(&inner.certificate);
        Ok(Self { inner, fingerprint })
    }

    /// The SHA-256 fingerprint; its `Display` is the value of `a=fingerprint:sha-256 `.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.fingerprint)
    }
}

/// A SHA-256 certificate fingerprint.
///
/// `Display` and `FromStr` use the form of SDP without the name of the hash: 32 pairs of hexadecimal digits with
/// colons between them, upper case when written, either case when read.
#[derive(Clone, Copy)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate in DER form.
    pub fn of_certificate(der: &[u8]) -> Self {
        Self(sha256(der))
    }

    /// The hash itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(&self.0, &other.0)
    }
}

impl Eq for Fingerprint {}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// The text is not a SHA-256 fingerprint in the form of SDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidFingerprint;

impl fmt::Display for InvalidFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a SHA-256 fingerprint: expected 32 pairs of hexadecimal digits separated by colons")
    }
}

impl std::error::Error for InvalidFingerprint {}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let mut out = [0; 32];
        let mut pairs = text.trim().split(':');
        for byte in &mut out {
            let pair = pairs.next().ok_or(InvalidFingerprint)?;
            // from_str_radix alone would accept "+f".
            if pair.len() != 2 || !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(InvalidFingerprint);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidFingerprint)?;
        }
        match pairs.next() {
            None => Ok(Self(out)),
            Some(_) => Err(InvalidFingerprint),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_text_round_trips_in_either_case() {
        let fingerprint = Certificate::generate().unwrap().fingerprint();
        let text = fingerprint.to_string();
        assert_eq!(text.len(), 32 * 3 - 1);
        assert_eq!(text.parse::<Fingerprint>().unwrap(), fingerprint);
        assert_eq!(text.to_lowercase().parse::<Fingerprint>().unwrap(), fingerprint);
    }

    #[test]
    fn malformed_fingerprints_are_refused() {
        let good = Fingerprint::of_certificate(b"x").to_string();
        for bad in ["", "AB", &good[3..], &format!("{good}:00"), &good.replace(':', "-"), &format!("+{}", &good[1..])] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn certificates_differ() {
        assert_ne!(Certificate::generate().unwrap().fingerprint(), Certificate::generate().unwrap().fingerprint());
    }
}
