//! Published vectors, and the behaviour every profile shares.

use super::aes_ctr::AesCtr;
use super::cm::CmKey;
use super::gcm::GcmKey;
use super::*;

const PROFILES: [Profile; 3] = [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::Aes128CmSha1_80];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    let bytes = hex(text);
    let mut out = [0; N];
    out[..bytes.len()].copy_from_slice(&bytes);
    out
}

fn master(profile: Profile, fill: u8) -> MasterKey {
    let key: Vec<u8> = (0..profile.key_len() as u8).map(|i| i.wrapping_mul(7) ^ fill).collect();
    let salt: Vec<u8> = (0..profile.salt_len() as u8).map(|i| i.wrapping_mul(13) ^ fill).collect();
    MasterKey::new(profile, &key, &salt).unwrap()
}

/// An RTP packet with one CSRC and a one-byte extension block: 24 bytes of header.
fn rtp(seq: u16, payload: usize) -> (Vec<u8>, usize) {
    let mut packet = vec![0x91, 96];
    packet.extend(seq.to_be_bytes());
    packet.extend(hex("00001234 5501a0b2 00c0ffee bede0001 10aa0000"));
    let header_len = packet.len();
    packet.extend((0..payload).map(|i| i as u8));
    (packet, header_len)
}

/// A sender report without blocks, from `ssrc`.
fn sender_report(ssrc: u32) -> Vec<u8> {
    let mut packet = hex("80c80006");
    packet.extend(ssrc.to_be_bytes());
    packet.extend(hex("4e545031 4e545032 52545020 0000042a 0000e930"));
    packet
}

fn seal(tx: &mut SrtpTx, packet: &[u8], header_len: usize, index: u64) -> Vec<u8> {
    let mut buf = packet.to_vec();
    buf.resize(packet.len() + MAX_OVERHEAD, 0);
    let len = tx.seal_rtp(&mut buf, header_len, packet.len(), index);
    buf.truncate(len);
    buf
}

fn seal_rtcp(tx: &mut SrtpTx, packet: &[u8]) -> Vec<u8> {
    let mut buf = packet.to_vec();
    buf.resize(packet.len() + MAX_OVERHEAD, 0);
    let len = tx.seal_rtcp(&mut buf, packet.len()).unwrap();
    buf.truncate(len);
    buf
}

/// RFC 3711, B.2: the keystream of AES-CM at SSRC 0, index 0.
#[test]
fn counter_mode_matches_rfc_3711() {
    let mut out = [0; 48];
    AesCtr::new(&hex("2B7E151628AED2A6ABF7158809CF4F3C")).apply(array("F0F1F2F3F4F5F6F7F8F9FAFBFCFD0000"), &mut out);
    let expected = "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0";
    assert_eq!(out.to_vec(), hex(expected));
}

/// RFC 3711, B.3.
#[test]
fn key_derivation_matches_rfc_3711() {
    let (key, salt) = (hex("E1F97A0D3E018BE0D64FA32C06DE4139"), hex("0EC675AD498AFEEBB6960B3AABE6"));
    let master = MasterKey::new(Profile::Aes128CmSha1_80, &key, &salt).unwrap();
    assert_eq!(kdf::encryption_key(&master, kdf::RTP)[..16].to_vec(), hex("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(kdf::salt(&master, kdf::RTP).to_vec(), hex("30CBBC08863D8C85D49DB34A9AE1"));
    let authentication = kdf::derive::<94>(&master, 1);
    let expected = "CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE E049646C43D9327AD175578EF7227098
                    6371C10C9A369AC2F94A8C5FBCDDDC25 6D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2";
    assert_eq!(authentication.to_vec(), hex(expected));
}

const RFC_7714_SALT: &str = "517569642070726f2071756f";
const RFC_7714_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// RFC 7714, 16.1.1 to 16.2.2. Its keys are session keys.
#[test]
fn aead_rtp_matches_rfc_7714() {
    let plain =
        hex("8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465
                     73207472 6573");
    for (profile, expected) in [
        (
            Profile::AeadAes128Gcm,
            "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf
             8833899d 7f27beb1 6a9152cf 765ee439 0cce",
        ),
        (
            Profile::AeadAes256Gcm,
            "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f 1ba63799
             b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
        ),
    ] {
        let key = GcmKey::new(profile, &array(RFC_7714_KEY), &array(RFC_7714_SALT));
        let mut buf = plain.clone();
        buf.resize(plain.len() + 16, 0);
        assert_eq!(key.seal_rtp(&mut buf, 12, plain.len(), 0xf17b), buf.len());
        assert_eq!(buf, hex(expected), "{profile}");
        assert_eq!(key.open_rtp(&mut buf, 12, 0xf17b), Ok(plain.len()));
        assert_eq!(buf[..plain.len()], plain);
    }
}

/// RFC 7714, 17.1 and 17.2.
#[test]
fn aead_rtcp_matches_rfc_7714() {
    let plain =
        hex("81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef deadbeef
                     deadbeef deadbeef");
    for (profile, expected) in [
        (
            Profile::AeadAes128Gcm,
            "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46 86303ded
             0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
        ),
        (
            Profile::AeadAes256Gcm,
            "81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50 a2eaa5c1 110555be 8415f658 c61de047
             6f1b6fad 1d1eb30c 4446839f 57ff6f6c b26ac3be 800005d4",
        ),
    ] {
        let key = GcmKey::new(profile, &array(RFC_7714_KEY), &array(RFC_7714_SALT));
        let mut buf = plain.clone();
        buf.resize(plain.len() + 20, 0);
        assert_eq!(key.seal_rtcp(&mut buf, plain.len(), 0x5d4), buf.len());
        assert_eq!(buf, hex(expected), "{profile}");
        let word = key.rtcp_index_word(&buf);
        assert_eq!(key.open_rtcp(&mut buf, word), Ok(plain.len()));
        assert_eq!(buf[..plain.len()], plain);
    }
}

/// No RFC prints a whole AES-CM packet, so this one is built here from its definition: keystream and HMAC by hand.
#[test]
fn counter_mode_packets_match_their_definition() {
    let (key, salt, mac) = ([0x11; 16], [0x22; 14], [0x33; 20]);
    let index = (5 << 16) | 0xf17b_u64;
    let (plain, header_len) = rtp(0xf17b, 100);
    let mut iv = [0; 16];
    iv[..14].copy_from_slice(&salt);
    for (at, byte) in hex("5501a0b2").into_iter().enumerate() {
        iv[4 + at] ^= byte;
    }
    for (at, byte) in index.to_be_bytes()[2..].iter().enumerate() {
        iv[8 + at] ^= byte;
    }
    let mut stream = vec![0; 100];
    AesCtr::new(&key).apply(iv, &mut stream);
    let mut expected = plain.clone();
    for (byte, pad) in expected[header_len..].iter_mut().zip(&stream) {
        *byte ^= pad;
    }
    let tag = crate::mac::hmac_sha1(&mac, &[&expected, &5u32.to_be_bytes()]);
    expected.extend(&tag[..10]);

    let mut buf = plain.clone();
    buf.resize(plain.len() + 10, 0);
    assert_eq!(CmKey::new(&key, &salt, &mac).seal_rtp(&mut buf, header_len, plain.len(), index), buf.len());
    assert_eq!(buf, expected);
}

#[test]
fn rtp_round_trips_at_every_size_and_rollover() {
    for profile in PROFILES {
        let (mut tx, mut rx) = (SrtpTx::new(&master(profile, 1)), SrtpRx::new(&master(profile, 1)));
        for payload in (0..64).chain([100, 150, 1100, 1400]) {
            for roc in [0u64, 1, 0xffff_ffff] {
                let index = roc << 16 | 0xfffe;
                let (plain, header_len) = rtp(0xfffe, payload);
                let mut sealed = seal(&mut tx, &plain, header_len, index);
                assert_eq!(sealed.len(), plain.len() + profile.tag_len());
                assert_eq!(sealed[..header_len], plain[..header_len]);
                let len = rx.open_rtp(&mut sealed, header_len, index).unwrap();
                assert_eq!(sealed[..len], plain, "{profile}, {payload} bytes");
            }
        }
    }
}

#[test]
fn changed_rtp_packets_are_refused() {
    for profile in PROFILES {
        let (mut tx, mut rx) = (SrtpTx::new(&master(profile, 1)), SrtpRx::new(&master(profile, 1)));
        let (plain, header_len) = rtp(7, 40);
        let sealed = seal(&mut tx, &plain, header_len, 7);
        // Every bit, header, payload and tag.
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                rx.open_rtp(&mut changed, header_len, 7),
                Err(SrtpError::Authentication),
                "{profile}, bit {bit}"
            );
        }
        // Another rollover counter, another key, another header boundary.
        assert_eq!(rx.open_rtp(&mut sealed.clone(), header_len, 0x1_0007), Err(SrtpError::Authentication));
        let mut stranger = SrtpRx::new(&master(profile, 2));
        assert_eq!(stranger.open_rtp(&mut sealed.clone(), header_len, 7), Err(SrtpError::Authentication));
        for len in 0..sealed.len() {
            assert!(rx.open_rtp(&mut sealed[..len].to_vec(), header_len, 7).is_err(), "{profile}, {len} bytes");
        }
        assert_eq!(rx.open_rtp(&mut sealed.clone(), sealed.len(), 7), Err(SrtpError::TooShort));
        assert_eq!(rx.open_rtp(&mut sealed.clone(), header_len, 7), Ok(plain.len()));
    }
}

#[test]
fn replayed_rtp_is_recognized_across_a_rollover() {
    let (mut tx, mut rx) =
        (SrtpTx::new(&master(Profile::AeadAes128Gcm, 1)), SrtpRx::new(&master(Profile::AeadAes128Gcm, 1)));
    let mut source = RxSource::default();
    let mut sent = Vec::new();
    for index in 0xfff0u64..0x1_0010 {
        let (plain, header_len) = rtp(index as u16, 20);
        sent.push((index as u16, header_len, seal(&mut tx, &plain, header_len, index)));
    }
    // Neighbours swapped, then everything again.
    for pair in sent.chunks_mut(2) {
        pair.swap(0, 1);
    }
    for (seq, header_len, packet) in &sent {
        let index = source.index_of(*seq).unwrap();
        rx.open_rtp(&mut packet.clone(), *header_len, index).unwrap();
        source.accept(index);
    }
    assert!(sent.iter().all(|(seq, _, _)| source.index_of(*seq).is_none()));
}

#[test]
fn rtcp_round_trips_and_each_index_counts_once() {
    for profile in PROFILES {
        let (mut tx, mut rx) = (SrtpTx::new(&master(profile, 1)), SrtpRx::new(&master(profile, 1)));
        let mut sealed = Vec::new();
        for ssrc in [1, 2, 1, 1, 2, 0xdead_beef] {
            let plain = sender_report(ssrc);
            let packet = seal_rtcp(&mut tx, &plain);
            assert_eq!(packet.len(), plain.len() + profile.rtcp_overhead());
            assert_eq!(packet[..8], plain[..8]);
            let mut opened = packet.clone();
            let len = rx.open_rtcp(&mut opened).unwrap();
            assert_eq!(opened[..len], plain, "{profile}");
            sealed.push(packet);
        }
        for packet in &sealed {
            assert_eq!(rx.open_rtcp(&mut packet.clone()), Err(SrtpError::Replay), "{profile}");
        }
    }
}

#[test]
fn changed_rtcp_packets_are_refused_and_do_not_move_the_replay_window() {
    for profile in PROFILES {
        let (mut tx, mut rx) = (SrtpTx::new(&master(profile, 1)), SrtpRx::new(&master(profile, 1)));
        let plain = sender_report(9);
        let sealed = seal_rtcp(&mut tx, &plain);
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let error = rx.open_rtcp(&mut changed).unwrap_err();
            assert!(
                matches!(error, SrtpError::Authentication | SrtpError::Unencrypted),
                "{profile}, bit {bit}: {error}"
            );
        }
        for len in 0..sealed.len() {
            assert!(rx.open_rtcp(&mut sealed[..len].to_vec()).is_err(), "{profile}, {len} bytes");
        }
        assert_eq!(rx.open_rtcp(&mut sealed.clone()), Ok(plain.len()));
    }
}

#[test]
fn sealing_rtcp_stops_before_an_index_repeats() {
    let mut tx = SrtpTx::new(&master(Profile::AeadAes128Gcm, 1));
    tx.rtcp_index = E_FLAG - 1;
    let mut buf = [0x80; 60];
    assert!(tx.seal_rtcp(&mut buf, 28).is_ok());
    assert_eq!(tx.seal_rtcp(&mut buf, 28), Err(SrtpError::KeyExhausted));
}

#[test]
fn master_keys_must_fit_their_profile() {
    for profile in PROFILES {
        assert!(MasterKey::new(profile, &[0; 15], &[0; 14]).is_err());
        assert!(MasterKey::new(profile, &vec![0; profile.key_len()], &[0; 13]).is_err());
    }
}
