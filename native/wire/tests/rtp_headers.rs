//! RTP headers: vectors, header extensions in both forms, setters, and what must be refused.

mod common;

use common::{Rng, hex};
use greenroom_wire::ext::{AbsSendTime, AudioLevel, ExtensionKind, parse_sdes, parse_transport_cc};
use greenroom_wire::rtp::{self, HeaderFields, RtpHeader};
use greenroom_wire::{Ssrc, WireError};

#[test]
fn one_byte_extensions() {
    // Ids 1 (audio level), padding, 3 (transport-cc), 4 (mid "0"), then payload ab cd.
    let packet = hex("90ef 1234 00010203 deadbeef bede0003 10b0 00 31 0102 40 30 0000 0000 abcd");
    let h = RtpHeader::parse(&packet).unwrap();
    assert_eq!((h.marker, h.payload_type, h.sequence_number), (true, 111, 0x1234));
    assert_eq!((h.timestamp, h.ssrc, h.header_len), (0x0001_0203, Ssrc(0xdead_beef), 28));
    assert_eq!(h.payload(&packet), Ok(&[0xab, 0xcd][..]));
    let got: Vec<_> = h.extensions(&packet).map(|e| (e.id, e.data.to_vec(), e.offset)).collect();
    assert_eq!(got, [(1, vec![0xb0], 17), (3, vec![1, 2], 20), (4, vec![0x30], 23)]);
    assert_eq!(AudioLevel::parse(h.extension(&packet, 1).unwrap()), Ok(AudioLevel { voice: true, level: 48 }));
    assert_eq!(parse_transport_cc(h.extension(&packet, 3).unwrap()), Ok(0x102));
    assert_eq!(parse_sdes(h.extension(&packet, 4).unwrap()), Ok("0"));
    assert_eq!(h.extension(&packet, 5), None);
}

#[test]
fn two_byte_extensions_may_be_empty_or_long() {
    let long = [7u8; 40];
    let fields = HeaderFields {
        marker: false,
        payload_type: 96,
        sequence_number: 65535,
        timestamp: 1,
        ssrc: Ssrc(2),
        padding: false,
    };
    let mut buf = [0; 128];
    let len = rtp::write_header(&mut buf, &fields, &[(20, &[]), (2, &long)]).unwrap();
    let h = RtpHeader::parse(&buf[..len]).unwrap();
    let got: Vec<_> = h.extensions(&buf).map(|e| (e.id, e.data.len())).collect();
    assert_eq!(got, [(20, 0), (2, 40)]);
}

#[test]
fn id_15_ends_one_byte_elements_and_foreign_profiles_have_none() {
    let packet = hex("9060 0001 00000000 00000001 bede0002 10ff f0 00 20aa 0000");
    let h = RtpHeader::parse(&packet).unwrap();
    assert_eq!(h.extensions(&packet).count(), 1);
    let packet = hex("9060 0001 00000000 00000001 abcd0001 10ff 20aa");
    let h = RtpHeader::parse(&packet).unwrap();
    assert!(h.has_extension_block());
    assert_eq!(h.extensions(&packet).count(), 0);
}

#[test]
fn written_headers_parse_back() {
    let mut rng = Rng(2);
    for _ in 0..2000 {
        let fields = HeaderFields {
            marker: rng.chance(50),
            payload_type: rng.below(128) as u8,
            sequence_number: rng.next() as u16,
            timestamp: rng.next() as u32,
            ssrc: Ssrc(rng.next() as u32),
            padding: rng.chance(10),
        };
        let max_id = if rng.chance(50) { 14 } else { 200 };
        let values: Vec<(u8, Vec<u8>)> = (0..rng.below(6))
            .map(|i| {
                let len = if max_id == 14 { 1 + rng.below(16) } else { rng.below(30) } as usize;
                ((1 + (i + rng.below(2)) % max_id) as u8, rng.bytes(len))
            })
            .collect();
        let exts: Vec<(u8, &[u8])> = values.iter().map(|(id, v)| (*id, &v[..])).collect();
        let mut buf = [0xee; 256];
        let len = rtp::write_header(&mut buf, &fields, &exts).unwrap();
        let h = RtpHeader::parse(&buf[..len]).unwrap();
        assert_eq!(h.header_len, len);
        let got: Vec<(u8, &[u8])> = h.extensions(&buf).map(|e| (e.id, e.data)).collect();
        assert_eq!(got, exts);
        let back = HeaderFields {
            marker: h.marker,
            payload_type: h.payload_type,
            sequence_number: h.sequence_number,
            timestamp: h.timestamp,
            ssrc: h.ssrc,
            padding: h.has_padding,
        };
        assert_eq!(back, fields);
        for short in 0..len {
            assert_eq!(rtp::write_header(&mut buf[..short], &fields, &exts), Err(WireError::NoSpace));
        }
    }
}

/// Whatever the elements and the buffer, writing a header is refused or gives one that parses back, and never touches what
/// lies behind it. Values of 255 bytes and more, id 0 and buffers of any size are drawn on purpose.
#[test]
fn any_elements_in_any_buffer() {
    let mut rng = Rng(7);
    let fields = HeaderFields {
        marker: false,
        payload_type: 96,
        sequence_number: 1,
        timestamp: 2,
        ssrc: Ssrc(3),
        padding: false,
    };
    let (mut written, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let values: Vec<(u8, Vec<u8>)> = (0..rng.below(8))
            .map(|_| {
                let id = if rng.chance(50) { rng.below(16) } else { rng.below(256) };
                let len = match rng.below(4) {
                    0 => rng.below(3),
                    1 => 250 + rng.below(10),
                    _ => rng.below(40),
                };
                (id as u8, rng.bytes(len as usize))
            })
            .collect();
        let exts: Vec<(u8, &[u8])> = values.iter().map(|(id, v)| (*id, &v[..])).collect();
        let valid = exts.iter().all(|(id, v)| *id > 0 && v.len() <= 255);
        let one_byte = exts.iter().all(|(id, v)| *id <= 14 && (1..=16).contains(&v.len()));
        let elements: usize = exts.iter().map(|(_, v)| v.len() + if one_byte { 1 } else { 2 }).sum();
        let needed = if exts.is_empty() { 12 } else { 12 + 4 + elements.next_multiple_of(4) };
        let mut buf = vec![0xee; rng.below(2 * needed as u64 + 2) as usize];
        match rtp::write_header(&mut buf, &fields, &exts) {
            Ok(len) => {
                written += 1;
                assert_eq!(len, needed);
                let h = RtpHeader::parse(&buf[..len]).unwrap();
                let got: Vec<(u8, &[u8])> = h.extensions(&buf).map(|e| (e.id, e.data)).collect();
                assert_eq!(got, exts);
                assert!(buf[len..].iter().all(|b| *b == 0xee));
            }
            Err(WireError::Value) => assert!(!valid),
            Err(error) => {
                refused += 1;
                assert_eq!(error, WireError::NoSpace);
                assert!(buf.len() < needed || !valid);
            }
        }
    }
    assert!(written > 1000 && refused > 1000, "{written} {refused}");
}

/// The block's length field counts at most 65,535 words.
#[test]
fn a_block_too_long_for_its_length_field_is_refused() {
    let fields = HeaderFields {
        marker: false,
        payload_type: 96,
        sequence_number: 1,
        timestamp: 2,
        ssrc: Ssrc(3),
        padding: false,
    };
    let value = [1u8; 255];
    let exts = vec![(1u8, &value[..]); 1025];
    let mut buf = vec![0; 300_000];
    assert_eq!(rtp::write_header(&mut buf, &fields, &exts), Err(WireError::Value));
}

#[test]
fn setters_leave_alone_what_is_no_packet() {
    let mut bytes = [0xff; 11];
    rtp::set_payload_type(&mut bytes, 0);
    rtp::set_sequence_number(&mut bytes, 0);
    rtp::set_ssrc(&mut bytes, Ssrc(0));
    assert_eq!(bytes, [0xff; 11]);
}

#[test]
fn setters_change_only_their_field() {
    let mut packet = hex("806f 1234 00010203 deadbeef ab");
    rtp::set_payload_type(&mut packet, 0xff);
    rtp::set_sequence_number(&mut packet, 7);
    rtp::set_ssrc(&mut packet, Ssrc(9));
    assert_eq!(packet, hex("807f 0007 00010203 00000009 ab"));
    packet[1] = 0x80;
    rtp::set_payload_type(&mut packet, 0xff);
    assert_eq!(packet[1], 0xff);
}

#[test]
fn padding_is_checked() {
    let table = [
        ("a06f 0001 00000000 00000001 aabb 0003", Ok(&[0xaa][..])),
        ("a06f 0001 00000000 00000001 0002", Ok(&[][..])),
        ("a06f 0001 00000000 00000001 aa00", Err(WireError::Length)),
        ("a06f 0001 00000000 00000001 aa03", Err(WireError::Length)),
        ("a06f 0001 00000000 00000001", Err(WireError::Length)),
    ];
    for (text, expected) in table {
        let packet = hex(text);
        assert_eq!(RtpHeader::parse(&packet).unwrap().payload(&packet), expected, "{text}");
    }
}

#[test]
fn malformed_headers() {
    let table = [
        ("", WireError::Truncated),
        ("806f 0001 00000000 000000", WireError::Truncated),
        ("406f 0001 00000000 00000001", WireError::Version),
        ("816f 0001 00000000 00000001", WireError::Truncated),
        ("906f 0001 00000000 00000001 bede", WireError::Truncated),
        ("906f 0001 00000000 00000001 bede0002 00000000", WireError::Truncated),
    ];
    for (text, error) in table {
        assert_eq!(RtpHeader::parse(&hex(text)).err(), Some(error), "{text}");
    }
}

#[test]
fn extension_values_round_trip() {
    for level in 0..=127 {
        let v = AudioLevel { voice: level % 2 == 0, level };
        assert_eq!(AudioLevel::parse(&v.encode()), Ok(v));
    }
    for micros in [0, 1_000_000, 63_999_999, 64_000_000, 65_500_000] {
        let t = AbsSendTime::from_micros(micros);
        assert_eq!(AbsSendTime::parse(&t.encode()), Ok(t));
        assert!((micros % 64_000_000).abs_diff((u64::from(t.0) * 1_000_000) >> 18) <= 4);
    }
    assert_eq!(parse_sdes(b""), Err(WireError::Length));
    assert_eq!(parse_sdes(&[b'a'; 17]), Err(WireError::Length));
    assert_eq!(parse_sdes(b"a b"), Err(WireError::Value));
}

#[test]
fn extension_uris() {
    for uri in [
        "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
        "urn:ietf:params:rtp-hdrext:sdes:mid",
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
    ] {
        assert_eq!(ExtensionKind::from_uri(uri).unwrap().uri(), uri);
    }
    assert_eq!(ExtensionKind::from_uri("urn:example:none"), None);
}
