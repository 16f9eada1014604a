//! `greenroom-secure`: packet protection, handshakes and data channels, through the entry points that crate keeps for
//! fuzzers. DTLS and SCTP draw random numbers of their own, so there a printed input repeats a failure better than a seed.

use greenroom_secure::fuzzing;
use greenroom_secure::srtp::{MasterKey, Profile, SrtpTx};

use super::target::{Target, hex_seeds};

pub fn targets() -> Vec<Target> {
    vec![
        Target::new("srtp", srtp_seeds(), fuzzing::fuzz_open_rtp),
        Target::new("srtcp", srtcp_seeds(), fuzzing::fuzz_open_rtcp),
        Target::new(
            "fingerprint",
            vec![b"sha-256 ".iter().copied().chain(colons()).collect()],
            fuzzing::fuzz_fingerprint,
        ),
        Target::new("dtls", vec![framed(&client_hello())], fuzzing::fuzz_dtls),
        Target::new("sctp", sctp_seeds(), fuzzing::fuzz_sctp),
    ]
}

/// Keys as the entry points derive them, so that seeds decrypt.
fn senders() -> impl Iterator<Item = SrtpTx> {
    [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::Aes128CmSha1_80].into_iter().map(|profile| {
        let (key, salt) = (vec![1; profile.key_len()], vec![2; profile.salt_len()]);
        SrtpTx::new(&MasterKey::new(profile, &key, &salt).expect("lengths are the profile's own"))
    })
}

/// The header length in one byte, then a sealed packet.
fn srtp_seeds() -> Vec<Vec<u8>> {
    let packet = hex_seeds(&["806f0007 00010203 deadbeef f8fffe01020304"]).remove(0);
    senders()
        .map(|mut tx| {
            let mut buf = packet.clone();
            buf.resize(packet.len() + 20, 0);
            let len = tx.seal_rtp(&mut buf, 12, packet.len(), 7);
            buf.truncate(len);
            buf.insert(0, 12);
            buf
        })
        .collect()
}

fn srtcp_seeds() -> Vec<Vec<u8>> {
    let packet = hex_seeds(&["81ce0002 00000001 00000002"]).remove(0);
    senders()
        .filter_map(|mut tx| {
            let mut buf = packet.clone();
            buf.resize(packet.len() + 24, 0);
            let len = tx.seal_rtcp(&mut buf, packet.len()).ok()?;
            buf.truncate(len);
            Some(buf)
        })
        .collect()
}

fn colons() -> impl Iterator<Item = u8> {
    "AB:".repeat(32).into_bytes().into_iter().take(95)
}

/// A datagram after its length in two bytes.
fn framed(datagram: &[u8]) -> Vec<u8> {
    let mut out = (datagram.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(datagram);
    out
}

/// A DTLS 1.2 ClientHello (RFC 6347 section 4.2) with the extensions WebRTC needs.
pub(super) fn client_hello() -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend_from_slice(&[7; 32]); // random
    body.extend_from_slice(&[0, 0]); // no session id, no cookie
    body.extend_from_slice(&[0, 4, 0xc0, 0x2b, 0xc0, 0x2c]); // ECDHE_ECDSA with AES-GCM
    body.extend_from_slice(&[1, 0]); // no compression
    let extensions = hex_seeds(&[
        "000a0006 0004001d0017",   // groups: X25519, P-256
        "000b0002 0100",           // uncompressed points
        "000d0006 000404030503",   // ECDSA with SHA-256 and SHA-384
        "000e0007 00040007000100", // SRTP: AES-128-GCM, AES-CM with SHA1-80
        "00170000",                // extended master secret
        "ff010001 00",             // renegotiation info
    ])
    .concat();
    body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
    body.extend_from_slice(&extensions);

    let len = (body.len() as u32).to_be_bytes();
    let mut handshake = vec![1, len[1], len[2], len[3], 0, 0, 0, 0, 0, len[1], len[2], len[3]];
    handshake.extend_from_slice(&body);
    let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0];
    record.extend_from_slice(&(handshake.len() as u16).to_be_bytes());
    record.extend_from_slice(&handshake);
    record
}

/// An INIT, and an INIT followed by a COOKIE ECHO and DATA with a DCEP OPEN (RFC 9260, RFC 8832).
fn sctp_seeds() -> Vec<Vec<u8>> {
    let packets = hex_seeds(&[
        "13881388 00000000 00000000 01000014 00000001 00100000 0400 0400 00000001",
        "13881388 00000001 00000000 0a000008 01020304",
        "13881388 00000001 00000000 00030022 00000001 0000 0000 00000032 03000000 00000000 00010000 78 000000",
    ]);
    vec![framed(&packets[0]), packets.iter().flat_map(|p| framed(p)).collect()]
}
