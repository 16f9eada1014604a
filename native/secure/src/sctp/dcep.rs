//! The Data Channel Establishment Protocol: the two messages of RFC 8832, section 5.

use super::{ChannelConfig, MAX_LABEL_LEN, Reliability};

const DATA_CHANNEL_ACK: u8 = 0x02;
const DATA_CHANNEL_OPEN: u8 = 0x03;
/// Type, channel type, priority, reliability parameter, label length, protocol length.
const OPEN_HEADER_LEN: usize = 12;

/// Channel types (RFC 8832, 5.1); the top bit means unordered.
const RELIABLE: u8 = 0x00;
const PARTIAL_RELIABLE_REXMIT: u8 = 0x01;
const PARTIAL_RELIABLE_TIMED: u8 = 0x02;
const UNORDERED: u8 = 0x80;

/// "Normal" of RFC 8831, 6.4.
const PRIORITY_NORMAL: u16 = 256;

/// A DCEP message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dcep {
    Open(ChannelConfig),
    Ack,
}

impl Dcep {
    /// Parses a message. `None` for what RFC 8832 does not define, text that is not UTF-8, and labels and protocols
    /// over [`MAX_LABEL_LEN`].
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        match *data.first()? {
            DATA_CHANNEL_ACK => Some(Dcep::Ack),
            DATA_CHANNEL_OPEN => Self::parse_open(data),
            _ => None,
        }
    }

    fn parse_open(data: &[u8]) -> Option<Self> {
        let header: &[u8; OPEN_HEADER_LEN] = data.first_chunk()?;
        let parameter = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let reliability = match header[1] & !UNORDERED {
            RELIABLE => Reliability::Reliable,
            PARTIAL_RELIABLE_REXMIT => Reliability::MaxRetransmits(parameter),
            PARTIAL_RELIABLE_TIMED => Reliability::MaxLifetime(parameter),
            _ => return None,
        };
        let label_len = usize::from(u16::from_be_bytes([header[8], header[9]]));
        let protocol_len = usize::from(u16::from_be_bytes([header[10], header[11]]));
        if label_len > MAX_LABEL_LEN || protocol_len > MAX_LABEL_LEN {
            return None;
        }
        let text = data.get(OPEN_HEADER_LEN..OPEN_HEADER_LEN + label_len + protocol_len)?;
        let (label, protocol) = text.split_at(label_len);
        Some(Dcep::Open(ChannelConfig {
            label: String::from_utf8(label.to_vec()).ok()?,
            protocol: String::from_utf8(protocol.to_vec()).ok()?,
            ordered: header[1] & UNORDERED == 0,
            reliability,
        }))
    }

    /// The bytes of this message. Label and protocol must not exceed [`MAX_LABEL_LEN`].
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let config = match self {
            Dcep::Ack => return vec![DATA_CHANNEL_ACK],
            Dcep::Open(config) => config,
        };
        let (kind, parameter) = match config.reliability {
            Reliability::Reliable => (RELIABLE, 0),
            Reliability::MaxRetransmits(count) => (PARTIAL_RELIABLE_REXMIT, count),
            Reliability::MaxLifetime(ms) => (PARTIAL_RELIABLE_TIMED, ms),
        };
        let unordered = if config.ordered { 0 } else { UNORDERED };
        let mut out = Vec::with_capacity(OPEN_HEADER_LEN + config.label.len() + config.protocol.len());
        out.extend([DATA_CHANNEL_OPEN, kind | unordered]);
        out.extend(PRIORITY_NORMAL.to_be_bytes());
        out.extend(parameter.to_be_bytes());
        out.extend((config.label.len() as u16).to_be_bytes());
        out.extend((config.protocol.len() as u16).to_be_bytes());
        out.extend(config.label.as_bytes());
        out.extend(config.protocol.as_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip() {
        let mut all = vec![Dcep::Ack];
        for ordered in [true, false] {
            for reliability in [Reliability::Reliable, Reliability::MaxRetransmits(3), Reliability::MaxLifetime(70_000)]
            {
                let (label, protocol) = ("_lossy \u{e9}".to_owned(), "json".to_owned());
                all.push(Dcep::Open(ChannelConfig { label, protocol, ordered, reliability }));
            }
        }
        for message in all {
            assert_eq!(Dcep::parse(&message.to_bytes()), Some(message));
        }
    }

    #[test]
    fn open_has_the_layout_of_the_rfc() {
        let bytes = Dcep::Open(ChannelConfig::lossy("ab")).to_bytes();
        assert_eq!(bytes, [3, 0x81, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, b'a', b'b']);
    }

    #[test]
    fn malformed_messages_are_refused() {
        let good = Dcep::Open(ChannelConfig::reliable("label")).to_bytes();
        for len in 0..good.len() {
            assert_eq!(Dcep::parse(&good[..len]), None, "{len} bytes");
        }
        let mut unknown_type = good.clone();
        unknown_type[1] = 0x03;
        assert_eq!(Dcep::parse(&unknown_type), None);
        let mut not_utf8 = good.clone();
        not_utf8[12] = 0xff;
        assert_eq!(Dcep::parse(&not_utf8), None);
        let long = ChannelConfig::reliable(&"x".repeat(MAX_LABEL_LEN + 1));
        assert_eq!(Dcep::parse(&Dcep::Open(long).to_bytes()), None);
        assert_eq!(Dcep::parse(&[0x07]), None);
    }
}
