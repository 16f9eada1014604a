//! Telling apart what shares one 5-tuple (RFC 7983 section 7, RFC 5761 section 4).

/// Protocol of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// STUN, first byte 0..=3.
    Stun,
    /// DTLS record, first byte 20..=63.
    Dtls,
    /// (S)RTP, first byte 128..=191 and a payload type outside 64..=95.
    Rtp,
    /// (S)RTCP, first byte 128..=191 and a second byte 192..=223.
    Rtcp,
    /// TURN channel data, ZRTP, empty or unknown.
    Unknown,
}

/// Classifies a datagram by its first two bytes.
pub fn classify(datagram: &[u8]) -> Kind {
    match datagram {
        [0..=3, ..] => Kind::Stun,
        [20..=63, ..] => Kind::Dtls,
        // RFC 5761: RTCP packet types 192..=223 are what RTP payload types 64..=95 with the marker bit would look like,
        // which is why those payload types are not to be used beside rtcp-mux.
        [128..=191, 192..=223, ..] => Kind::Rtcp,
        [128..=191, _, ..] => Kind::Rtp,
        _ => Kind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_rfc_7983() {
        let table: [(&[u8], Kind); 12] = [
            (&[], Kind::Unknown),
            (&[0, 1], Kind::Stun),
            (&[3, 0], Kind::Stun),
            (&[4, 0], Kind::Unknown),
            (&[19], Kind::Unknown),
            (&[20, 254], Kind::Dtls),
            (&[63, 254], Kind::Dtls),
            (&[64, 0], Kind::Unknown),
            (&[0x80, 111], Kind::Rtp),
            (&[0x90, 0x80 | 96], Kind::Rtp),
            (&[0x81, 200], Kind::Rtcp),
            (&[192, 200], Kind::Unknown),
        ];
        for (bytes, kind) in table {
            assert_eq!(classify(bytes), kind, "{bytes:?}");
        }
    }
}
