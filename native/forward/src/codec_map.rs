//! Which payload type a publisher's packet gets towards a subscriber. Numbers never agree between clients, names do.
use crate::{Codec, CodecKind};

/// What becomes of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Forwarded as it is.
    Pass,
    /// RED whose blocks carry another payload type for the subscriber.
    RenumberRed(u8),
    /// RED reduced to its primary block, for a subscriber without RED.
    PrimaryOnly,
}

/// One publisher payload type and its translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PayloadRule {
    /// What the publisher sends.
    pub(crate) from: u8,
    /// What the subscriber gets.
    pub(crate) to: u8,
    /// Its retransmission payload type; 0: none.
    pub(crate) rtx: u8,
    pub(crate) treatment: Treatment,
}

impl PayloadRule {
    /// Stands where there is none yet.
    pub(crate) const NONE: PayloadRule = PayloadRule { from: u8::MAX, to: 0, rtx: 0, treatment: Treatment::Pass };
}

/// The rules from one publisher's codecs to what one subscriber takes. Codecs without a rule cannot be forwarded.
pub(crate) fn payload_rules(publisher: &[Codec], subscriber: &[Codec]) -> Vec<PayloadRule> {
    publisher.iter().filter_map(|codec| payload_rule(codec, publisher, subscriber)).collect()
}

fn payload_rule(codec: &Codec, publisher: &[Codec], subscriber: &[Codec]) -> Option<PayloadRule> {
    if codec.kind() == CodecKind::Red {
        return red_rule(codec, publisher, subscriber);
    }
    let best = subscriber.iter().filter_map(|c| Some((likeness(codec, c)?, c))).max_by_key(|(score, _)| *score)?.1;
    Some(PayloadRule { from: codec.pt, to: best.pt, rtx: best.rtx_pt, treatment: Treatment::Pass })
}

fn red_rule(codec: &Codec, publisher: &[Codec], subscriber: &[Codec]) -> Option<PayloadRule> {
    let theirs = publisher.iter().find(|c| c.name == "opus");
    let opus = subscriber.iter().find(|c| c.name == "opus")?;
    Some(match subscriber.iter().find(|c| c.kind() == CodecKind::Red) {
        Some(red) => {
            let renumber = theirs.is_some_and(|c| c.pt != opus.pt);
            let treatment = if renumber { Treatment::RenumberRed(opus.pt) } else { Treatment::Pass };
            PayloadRule { from: codec.pt, to: red.pt, rtx: red.rtx_pt, treatment }
        }
        None => PayloadRule { from: codec.pt, to: opus.pt, rtx: opus.rtx_pt, treatment: Treatment::PrimaryOnly },
    })
}

/// How well a subscriber's codec fits; `None`: it cannot decode that.
fn likeness(publisher: &Codec, subscriber: &Codec) -> Option<u8> {
    if publisher.name != subscriber.name || publisher.clock_rate != subscriber.clock_rate {
        return None;
    }
    match publisher.kind() {
        CodecKind::H264 => {
            // RFC 6184, 8.2.2: the packetization mode must be the same (absent: 0).
            let mode = |c: &Codec| c.parameter("packetization-mode").unwrap_or("0").to_owned();
            if mode(publisher) != mode(subscriber) {
                return None;
            }
            // profile_idc and profile-iop; the level is asymmetric in WebRTC. Another profile is better than nothing:
            // decoders take more than they list.
            let profile = |c: &Codec| c.parameter("profile-level-id").unwrap_or("42e01f").to_ascii_lowercase();
            let (ours, theirs) = (profile(publisher), profile(subscriber));
            Some(if ours.get(..4) == theirs.get(..4) {
                3
            } else if ours.get(..2) == theirs.get(..2) {
                2
            } else {
                1
            })
        }
        CodecKind::Vp9 => {
            let profile = |c: &Codec| c.parameter("profile-id").unwrap_or("0").to_owned();
            (profile(publisher) == profile(subscriber)).then_some(1)
        }
        _ => Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codec(pt: u8, name: &str, fmtp: &str) -> Codec {
        let clock_rate = if matches!(name, "opus" | "red") { 48_000 } else { 90_000 };
        Codec {
            pt,
            name: name.into(),
            clock_rate,
            rtx_pt: if clock_rate == 90_000 { pt + 1 } else { 0 },
            fmtp: fmtp.into(),
        }
    }

    #[test]
    fn numbers_follow_names() {
        let rules = payload_rules(&[codec(96, "vp8", ""), codec(45, "av1", "")], &[codec(120, "vp8", "")]);
        assert_eq!(rules, [PayloadRule { from: 96, to: 120, rtx: 121, treatment: Treatment::Pass }]);
    }

    #[test]
    fn h264_matches_mode_exactly_and_profile_as_well_as_it_can() {
        let subscriber = [
            codec(1, "h264", "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f"),
            codec(3, "h264", "packetization-mode=1; profile-level-id=640032"),
            codec(5, "h264", "packetization-mode=1;profile-level-id=42e034"),
        ];
        let to = |fmtp: &str| payload_rules(&[codec(100, "h264", fmtp)], &subscriber).first().map(|r| r.to);
        assert_eq!(to("packetization-mode=1;profile-level-id=42e01f"), Some(5));
        assert_eq!(to("packetization-mode=1;profile-level-id=42001f"), Some(5));
        assert_eq!(to("packetization-mode=1;profile-level-id=64001f"), Some(3));
        assert_eq!(to("profile-level-id=42e01f"), Some(1));
    }

    #[test]
    fn red_is_passed_renumbered_or_reduced() {
        let publisher = [codec(111, "opus", ""), codec(63, "red", "111/111")];
        let treat =
            |s: &[Codec]| payload_rules(&publisher, s).iter().find(|r| r.from == 63).map(|r| (r.to, r.treatment));
        assert_eq!(treat(&[codec(111, "opus", ""), codec(62, "red", "")]), Some((62, Treatment::Pass)));
        assert_eq!(treat(&[codec(109, "opus", ""), codec(62, "red", "")]), Some((62, Treatment::RenumberRed(109))));
        assert_eq!(treat(&[codec(109, "opus", "")]), Some((109, Treatment::PrimaryOnly)));
        assert_eq!(treat(&[codec(0, "pcmu", "")]), None);
    }
}
