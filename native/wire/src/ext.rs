//! Header extensions: URIs and values.
//!
//! Identifiers are negotiated per media section (`a=extmap`), so this module knows only URIs and value layouts.

use crate::WireError;
use crate::bytes::{u16_at, u24_at};

/// The header extensions Greenroom knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExtensionKind {
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464).
    AudioLevel,
    /// Transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    TransportCc,
    /// `abs-send-time`, 24-bit fixed-point seconds.
    AbsSendTime,
    /// `abs-capture-time`: NTP time of capture.
    AbsCaptureTime,
    /// `urn:3gpp:video-orientation` (3GPP TS 26.114, section 7.4.5).
    VideoOrientation,
    /// `playout-delay`: receiver's minimum and maximum delay.
    PlayoutDelay,
    /// `urn:ietf:params:rtp-hdrext:toffset` (RFC 5450).
    TransmissionOffset,
    /// `urn:ietf:params:rtp-hdrext:sdes:mid` (RFC 9143).
    Mid,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id` (RFC 8852).
    RtpStreamId,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id` (RFC 8852).
    RepairedRtpStreamId,
    /// Dependency descriptor (AV1 RTP specification, appendix A).
    DependencyDescriptor,
    /// `urn:ietf:params:rtp-hdrext:framemarking` (RFC 9626).
    FrameMarking,
    /// `video-content-type`.
    VideoContentType,
    /// `video-timing`.
    VideoTiming,
    /// `color-space`.
    ColorSpace,
    /// `video-layers-allocation00`.
    VideoLayersAllocation,
}

const URIS: [(&str, ExtensionKind); 16] = [
    ("urn:ietf:params:rtp-hdrext:ssrc-audio-level", ExtensionKind::AudioLevel),
    ("http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01", ExtensionKind::TransportCc),
    ("http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", ExtensionKind::AbsSendTime),
    ("http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time", ExtensionKind::AbsCaptureTime),
    ("urn:3gpp:video-orientation", ExtensionKind::VideoOrientation),
    ("http://www.webrtc.org/experiments/rtp-hdrext/playout-delay", ExtensionKind::PlayoutDelay),
    ("urn:ietf:params:rtp-hdrext:toffset", ExtensionKind::TransmissionOffset),
    ("urn:ietf:params:rtp-hdrext:sdes:mid", ExtensionKind::Mid),
    ("urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", ExtensionKind::RtpStreamId),
    ("urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id", ExtensionKind::RepairedRtpStreamId),
    (
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
        ExtensionKind::DependencyDescriptor,
    ),
    ("urn:ietf:params:rtp-hdrext:framemarking", ExtensionKind::FrameMarking),
    ("http://www.webrtc.org/experiments/rtp-hdrext/video-content-type", ExtensionKind::VideoContentType),
    ("http://www.webrtc.org/experiments/rtp-hdrext/video-timing", ExtensionKind::VideoTiming),
    ("http://www.webrtc.org/experiments/rtp-hdrext/color-space", ExtensionKind::ColorSpace),
    ("http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00", ExtensionKind::VideoLayersAllocation),
];

impl ExtensionKind {
    /// The kind named by an `a=extmap` URI.
    pub fn from_uri(uri: &str) -> Option<ExtensionKind> {
        URIS.iter().find(|(u, _)| *u == uri).map(|(_, k)| *k)
    }

    /// The URI as written in SDP.
    pub fn uri(self) -> &'static str {
        URIS.iter().find(|(_, k)| *k == self).map_or("", |(u, _)| u)
    }
}

/// The longest value that the specification of `kind` gives a meaning to, in bytes.
///
/// A receiver drops longer values instead of forwarding them: what lies behind the limit is padding at best, and a packet
/// full of them would not leave room for its payload. [`ExtensionKind::DependencyDescriptor`] and
/// [`ExtensionKind::VideoLayersAllocation`] have structures of variable size and may use all of an element (RFC 8285
/// section 4.3 gives its length one byte).
pub const fn max_value_len(kind: ExtensionKind) -> usize {
    match kind {
        // RFC 6464 section 3: one byte; the two-byte form is drawn with a second one of zeros.
        ExtensionKind::AudioLevel => 2,
        // draft-holmer-rmcat-transport-wide-cc-extensions-01 section 2.
        ExtensionKind::TransportCc => 2,
        // webrtc.org/experiments/rtp-hdrext/abs-send-time: 24 bits.
        ExtensionKind::AbsSendTime => 3,
        // webrtc.org/experiments/rtp-hdrext/abs-capture-time: an NTP timestamp, and a clock offset in the extended form.
        ExtensionKind::AbsCaptureTime => 16,
        // 3GPP TS 26.114 section 7.4.5: one byte.
        ExtensionKind::VideoOrientation => 1,
        // webrtc.org/experiments/rtp-hdrext/playout-delay: two 12-bit numbers.
        ExtensionKind::PlayoutDelay => 3,
        // RFC 5450 section 2: 24 bits.
        ExtensionKind::TransmissionOffset => 3,
        ExtensionKind::Mid | ExtensionKind::RtpStreamId | ExtensionKind::RepairedRtpStreamId => MAX_SDES_LEN,
        ExtensionKind::DependencyDescriptor | ExtensionKind::VideoLayersAllocation => 255,
        // RFC 9626 section 3.2: three bytes for scalable streams, one for others.
        ExtensionKind::FrameMarking => 3,
        // webrtc.org/experiments/rtp-hdrext/video-content-type: one byte.
        ExtensionKind::VideoContentType => 1,
        // webrtc.org/experiments/rtp-hdrext/video-timing: flags and six 16-bit deltas.
        ExtensionKind::VideoTiming => 13,
        // webrtc.org/experiments/rtp-hdrext/color-space: 4 bytes, 28 with HDR metadata.
        ExtensionKind::ColorSpace => 28,
    }
}

/// Audio level of one packet (RFC 6464).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLevel {
    /// The sender's own voice activity decision.
    pub voice: bool,
    /// Level in -dBov: 0 is the loudest, 127 is silence.
    pub level: u8,
}

impl AudioLevel {
    /// Reads the first byte; the two-byte form may pad with a second.
    pub fn parse(data: &[u8]) -> Result<AudioLevel, WireError> {
        let &b = data.first().ok_or(WireError::Truncated)?;
        Ok(AudioLevel { voice: b & 0x80 != 0, level: b & 0x7f })
    }

    /// Extension value.
    pub fn encode(self) -> [u8; 1] {
        [self.level & 0x7f | if self.voice { 0x80 } else { 0 }]
    }
}

/// Transport-wide sequence number.
pub fn parse_transport_cc(data: &[u8]) -> Result<u16, WireError> {
    u16_at(data, 0)
}

/// Absolute send time in units of 2^-18 s, modulo 64 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbsSendTime(pub u32);

impl AbsSendTime {
    /// Reads the 24-bit value.
    pub fn parse(data: &[u8]) -> Result<AbsSendTime, WireError> {
        u24_at(data, 0).map(AbsSendTime)
    }

    /// From microseconds of any monotonic clock; wraps each 64 s.
    pub fn from_micros(micros: u64) -> AbsSendTime {
        let wrapped = micros % 64_000_000;
        AbsSendTime(((wrapped << 18) / 1_000_000) as u32 & 0xff_ffff)
    }

    /// Extension value.
    pub fn encode(self) -> [u8; 3] {
        let b = self.0.to_be_bytes();
        [b[1], b[2], b[3]]
    }
}

/// Longest MID or RID taken from the wire; longer ones are refused.
pub const MAX_SDES_LEN: usize = 16;

/// A MID, RID or repaired RID: 1 to 16 printable ASCII characters (RFC 8852 section 3, RFC 8843 section 15.1).
pub fn parse_sdes(data: &[u8]) -> Result<&str, WireError> {
    if data.is_empty() || data.len() > MAX_SDES_LEN {
        return Err(WireError::Length);
    }
    if !data.iter().all(|b| b.is_ascii_graphic()) {
        return Err(WireError::Value);
    }
    std::str::from_utf8(data).map_err(|_| WireError::Value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_uri_and_a_limit_that_an_element_can_hold() {
        for (uri, kind) in URIS {
            assert_eq!((ExtensionKind::from_uri(uri), kind.uri()), (Some(kind), uri));
            assert!((1..=255).contains(&max_value_len(kind)), "{kind:?}");
        }
    }

    /// What this module itself writes fits its own limits, and only the longest identifiers are at them.
    #[test]
    fn limits_hold_what_is_written() {
        assert!(AudioLevel { voice: true, level: 1 }.encode().len() <= max_value_len(ExtensionKind::AudioLevel));
        assert_eq!(AbsSendTime(1).encode().len(), max_value_len(ExtensionKind::AbsSendTime));
        let longest = vec![b'a'; max_value_len(ExtensionKind::Mid)];
        assert!(parse_sdes(&longest).is_ok());
        assert!(parse_sdes(&[&longest[..], b"a"].concat()).is_err());
    }
}
