//! The sample messages of RFC 5769 and what is derived from them.

mod common;

use common::{Rng, hex, hmac_sha1};
use greenroom_wire::WireError;
use greenroom_wire::stun::{
    BindingRequest, Class, IceRole, METHOD_BINDING, Message, TransactionId, write_binding_error, write_binding_request,
    write_binding_success,
};

const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

/// RFC 5769 section 2.1.
const REQUEST: &str = "
    00010058 2112a442 b7e7a701 bc34d686 fa87dfae
    80220010 5354554e 20746573 7420636c 69656e74
    00240004 6e0001ff 80290008 932ff9b1 51263b36
    00060009 6576746a 3a683676 59202020
    00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2
    80280004 e57a3bcf";

/// RFC 5769 section 2.2.
const RESPONSE_V4: &str = "
    0101003c 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200008 0001a147 e112a643
    00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
    80280004 c07d4c96";

/// RFC 5769 section 2.3.
const RESPONSE_V6: &str = "
    01010048 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
    00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41
    80280004 c8fb0b4c";

#[test]
fn sample_request() {
    let bytes = hex(REQUEST);
    let m = Message::parse(&bytes).unwrap();
    assert_eq!((m.class, m.method), (Class::Request, METHOD_BINDING));
    assert_eq!(m.username, Some("evtj:h6vY"));
    assert_eq!(m.priority, Some(0x6e00_01ff));
    assert_eq!(m.ice_controlled, Some(0x932f_f9b1_5126_3b36));
    assert_eq!((m.ice_controlling, m.use_candidate), (None, false));
    assert!(m.has_fingerprint);
    assert!(m.check_integrity(PASSWORD, hmac_sha1));
    assert!(!m.check_integrity(b"another password", hmac_sha1));
}

#[test]
fn sample_responses() {
    for (sample, address) in
        [(RESPONSE_V4, "192.0.2.1:32853"), (RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")]
    {
        let bytes = hex(sample);
        let m = Message::parse(&bytes).unwrap();
        assert_eq!(m.class, Class::Success);
        assert_eq!(m.mapped_address, Some(address.parse().unwrap()));
        assert!(m.check_integrity(PASSWORD, hmac_sha1));
    }
}

#[test]
fn any_changed_bit_is_noticed() {
    let sample = hex(REQUEST);
    for bit in 0..sample.len() * 8 {
        let mut bytes = sample.clone();
        bytes[bit / 8] ^= 0x80 >> (bit % 8);
        let accepted =
            Message::parse(&bytes).is_ok_and(|m| m.has_fingerprint && m.check_integrity(PASSWORD, hmac_sha1));
        assert!(!accepted, "bit {bit}");
    }
}

#[test]
fn truncation_is_an_error() {
    let sample = hex(REQUEST);
    for len in 0..sample.len() {
        assert!(Message::parse(&sample[..len]).is_err(), "{len} bytes");
    }
    assert_eq!(Message::parse(&sample[..19]).err(), Some(WireError::Truncated));
}

#[test]
fn written_messages_parse_back() {
    let mut rng = Rng(1);
    let mut buf = [0; 256];
    for _ in 0..200 {
        let mut id = TransactionId::default();
        id.0.copy_from_slice(&rng.bytes(12));
        let role = if rng.chance(50) { IceRole::Controlling(rng.next()) } else { IceRole::Controlled(rng.next()) };
        let username = format!("{}:{}", "a".repeat(rng.below(20) as usize), rng.next());
        let request = BindingRequest {
            transaction_id: id,
            username: &username,
            priority: rng.next() as u32,
            role,
            use_candidate: rng.chance(50),
        };
        let len = write_binding_request(&mut buf, &request, PASSWORD, hmac_sha1).unwrap();
        let m = Message::parse(&buf[..len]).unwrap();
        assert_eq!(m.transaction_id, id);
        assert_eq!(m.username, Some(&*username));
        assert_eq!(m.priority, Some(request.priority));
        assert_eq!(m.use_candidate, request.use_candidate);
        let got = m.ice_controlling.map(IceRole::Controlling).or(m.ice_controlled.map(IceRole::Controlled));
        assert_eq!(got, Some(role));
        assert!(m.has_fingerprint && m.check_integrity(PASSWORD, hmac_sha1));

        let port = rng.next() as u16;
        let v4 = std::net::SocketAddr::from((rng.next().to_be_bytes()[..4].first_chunk::<4>().copied().unwrap(), port));
        let mut wide = [0u8; 16];
        wide.copy_from_slice(&rng.bytes(16));
        for address in [v4, std::net::SocketAddr::from((wide, port))] {
            let len = write_binding_success(&mut buf, id, address, PASSWORD, hmac_sha1).unwrap();
            assert_eq!(len, if address.is_ipv4() { 64 } else { 76 });
            let m = Message::parse(&buf[..len]).unwrap();
            assert_eq!(m.mapped_address, Some(address));
            assert!(m.check_integrity(PASSWORD, hmac_sha1));
        }
    }
}

#[test]
fn mapped_ipv4_is_written_as_ipv4() {
    let mut buf = [0; 128];
    let dual_stack = "[::ffff:10.1.2.3]:4000".parse().unwrap();
    let len = write_binding_success(&mut buf, TransactionId::default(), dual_stack, PASSWORD, hmac_sha1).unwrap();
    assert_eq!(Message::parse(&buf[..len]).unwrap().mapped_address, Some("10.1.2.3:4000".parse().unwrap()));
}

#[test]
fn errors_are_signed_only_with_a_key() {
    let mut buf = [0; 128];
    let id = TransactionId([7; 12]);
    for (key, code, reason) in [(None, 401, "Unauthenticated"), (Some(PASSWORD), 487, "Role Conflict")] {
        let len = write_binding_error(&mut buf, id, code, reason, key, hmac_sha1).unwrap();
        let m = Message::parse(&buf[..len]).unwrap();
        assert_eq!((m.class, m.error_code), (Class::Error, Some(code)));
        assert_eq!(len > 44 + reason.len(), key.is_some());
        assert_eq!(m.check_integrity(PASSWORD, hmac_sha1), key.is_some());
    }
    assert_eq!(write_binding_error(&mut buf, id, 200, "", None, hmac_sha1), Err(WireError::Value));
    assert_eq!(write_binding_error(&mut [0; 20], id, 400, "", None, hmac_sha1), Err(WireError::NoSpace));
}

#[test]
fn unknown_attributes_are_ignored() {
    // Requests with nothing else in them: comprehension required, and optional.
    for kind in ["0777", "8777"] {
        let bytes = hex(&format!("00010004 2112a442 00000000 00000000 00000000 {kind}0000"));
        assert_eq!(Message::parse(&bytes).map(|m| m.class), Ok(Class::Request));
    }
}
