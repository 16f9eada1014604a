//! The header extensions of a received packet, by kind. A value longer than its kind can be is no value of that kind,
//! and of two elements of one kind the first counts: what is kept for subscribers is bounded by what the kinds allow.
use greenroom_wire::ext::{AudioLevel, ExtensionKind, max_value_len, parse_sdes, parse_transport_cc};
use greenroom_wire::rtp::RtpHeader;

/// Extensions that travel from the publisher to the subscriber.
pub(crate) const FORWARDED: [ExtensionKind; 7] = [
    ExtensionKind::AudioLevel,
    ExtensionKind::AbsCaptureTime,
    ExtensionKind::VideoOrientation,
    ExtensionKind::PlayoutDelay,
    ExtensionKind::DependencyDescriptor,
    ExtensionKind::ColorSpace,
    ExtensionKind::VideoContentType,
];

/// What an element with a negotiated id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Known(ExtensionKind),
    /// Kept for subscribers, at this place of [`FORWARDED`].
    Forwarded(u8),
}

/// By extension id: what it is.
#[derive(Debug, Clone)]
pub(crate) struct Dictionary(Box<[Option<Meaning>; 256]>);

impl Default for Dictionary {
    fn default() -> Self {
        Dictionary(Box::new([None; 256]))
    }
}

impl Dictionary {
    /// All ids anew.
    pub(crate) fn set<'a>(&mut self, pairs: impl Iterator<Item = &'a (u8, ExtensionKind)>) {
        self.0.fill(None);
        for (id, kind) in pairs {
            let meaning = match FORWARDED.iter().position(|forwarded| forwarded == kind) {
                Some(place) => Meaning::Forwarded(place as u8),
                None => Meaning::Known(*kind),
            };
            self.0[usize::from(*id)] = Some(meaning);
        }
    }
}

/// The elements of one packet.
#[derive(Default)]
pub(crate) struct Elements<'a> {
    pub(crate) mid: Option<&'a str>,
    pub(crate) rid: Option<&'a str>,
    pub(crate) repaired_rid: Option<&'a str>,
    pub(crate) transport_cc: Option<u16>,
    pub(crate) level: Option<AudioLevel>,
    forwarded: [Option<&'a [u8]>; FORWARDED.len()],
}

impl<'a> Elements<'a> {
    pub(crate) fn read(header: &RtpHeader, packet: &'a [u8], dictionary: &Dictionary) -> Self {
        let mut elements = Elements::default();
        if !header.has_extension_block() {
            return elements;
        }
        for element in header.extensions(packet) {
            match dictionary.0[usize::from(element.id)] {
                Some(Meaning::Known(kind)) => elements.note(kind, element.data),
                Some(Meaning::Forwarded(place)) => {
                    let kind = FORWARDED[usize::from(place)];
                    let slot = &mut elements.forwarded[usize::from(place)];
                    if slot.is_none() && element.data.len() <= max_value_len(kind) {
                        *slot = Some(element.data);
                        if kind == ExtensionKind::AudioLevel {
                            elements.level = AudioLevel::parse(element.data).ok();
                        }
                    }
                }
                None => {}
            }
        }
        elements
    }

    fn note(&mut self, kind: ExtensionKind, data: &'a [u8]) {
        match kind {
            ExtensionKind::Mid => self.mid = parse_sdes(data).ok(),
            ExtensionKind::RtpStreamId => self.rid = parse_sdes(data).ok(),
            ExtensionKind::RepairedRtpStreamId => self.repaired_rid = parse_sdes(data).ok(),
            ExtensionKind::TransportCc => self.transport_cc = parse_transport_cc(data).ok(),
            _ => {}
        }
    }

    /// What subscribers shall get, each kind at most once.
    pub(crate) fn forwarded(&self) -> impl Iterator<Item = (ExtensionKind, &'a [u8])> {
        FORWARDED.iter().zip(self.forwarded).filter_map(|(kind, value)| Some((*kind, value?)))
    }
}

#[cfg(test)]
mod tests {
    use greenroom_wire::Ssrc;
    use greenroom_wire::rtp::{HeaderFields, write_header};

    use super::*;

    fn read(elements: &[(u8, &[u8])]) -> Vec<(ExtensionKind, usize)> {
        let fields = HeaderFields {
            marker: false,
            payload_type: 111,
            sequence_number: 1,
            timestamp: 1,
            ssrc: Ssrc(1),
            padding: false,
        };
        let mut dictionary = Dictionary::default();
        dictionary.set([(1, ExtensionKind::AudioLevel), (2, ExtensionKind::DependencyDescriptor)].iter());
        let mut packet = [0; 2000];
        let len = write_header(&mut packet, &fields, elements).unwrap();
        let header = RtpHeader::parse(&packet[..len]).unwrap();
        Elements::read(&header, &packet[..len], &dictionary).forwarded().map(|(kind, v)| (kind, v.len())).collect()
    }

    #[test]
    fn a_value_longer_than_its_kind_is_none() {
        assert_eq!(read(&[(1, &[5; 170])]), []);
        assert_eq!(read(&[(1, &[5; 2])]), [(ExtensionKind::AudioLevel, 2)]);
        assert_eq!(read(&[(2, &[5; 255])]), [(ExtensionKind::DependencyDescriptor, 255)]);
    }

    #[test]
    fn of_a_repeated_kind_the_first_counts() {
        assert_eq!(read(&[(1, &[5; 170]), (1, &[5; 1]), (1, &[5; 2])]), [(ExtensionKind::AudioLevel, 1)]);
    }
}
