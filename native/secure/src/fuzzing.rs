//! Entry points for fuzzing: each takes arbitrary bytes and must neither panic nor grow without bound.
//!
//! `fuzz_dtls` and `fuzz_sctp` read their input as datagrams, each after its length in two bytes, so that a fuzzer can
//! find its way into a conversation.

use std::time::{Duration, Instant};

use crate::dtls::{Certificate, DimplDtls, Dtls, DtlsOutput, Fingerprint, Role};
use crate::sctp::{Association, BROKEN, ChannelConfig, ChannelId, DataTransport, SctpConfig, SctpEvent};
use crate::srtp::{MasterKey, Profile, RxSource, SrtpRx};

/// How many outputs one input may cause before it counts as running away.
const MAX_OUTPUTS: usize = 10_000;

fn receivers() -> impl Iterator<Item = SrtpRx> {
    [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::Aes128CmSha1_80].into_iter().filter_map(|profile| {
        let (key, salt) = (vec![1; profile.key_len()], vec![2; profile.salt_len()]);
        Some(SrtpRx::new(&MasterKey::new(profile, &key, &salt).ok()?))
    })
}

/// `SrtpRx::open_rtp`, with a header length and sequence number from the input.
pub fn fuzz_open_rtp(data: &[u8]) {
    let Some((header_len, packet)) = data.split_first() else { return };
    let seq = packet.first_chunk().map_or(0, |start: &[u8; 4]| u16::from_be_bytes([start[2], start[3]]));
    for mut rx in receivers() {
        let index = RxSource::default().index_of(seq).unwrap_or_default();
        if let Ok(len) = rx.open_rtp(&mut packet.to_vec(), usize::from(*header_len), index) {
            assert!(len < packet.len());
        }
    }
}

/// `SrtpRx::open_rtcp`.
pub fn fuzz_open_rtcp(data: &[u8]) {
    for mut rx in receivers() {
        if let Ok(len) = rx.open_rtcp(&mut data.to_vec()) {
            assert!(len < data.len());
        }
    }
}

/// The text of a fingerprint.
pub fn fuzz_fingerprint(data: &[u8]) {
    if let Ok(fingerprint) = String::from_utf8_lossy(data).parse::<Fingerprint>() {
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
    }
}

/// `Dtls::handle_packet` on a fresh endpoint of either role.
pub fn fuzz_dtls(data: &[u8]) {
    static CERTIFICATE: std::sync::OnceLock<Option<Certificate>> = std::sync::OnceLock::new();
    let Some(certificate) = CERTIFICATE.get_or_init(|| Certificate::generate().ok()) else { return };
    for role in [Role::Server, Role::Client] {
        let mut now = Instant::now();
        let mut dtls = DimplDtls::new(role, certificate, now);
        for datagram in datagrams(data) {
            now += Duration::from_millis(1);
            dtls.handle_packet(now, datagram);
            let outputs = std::iter::from_fn(|| match dtls.poll(now) {
                DtlsOutput::Timeout(_) => None,
                // The wrapper turns a panic into this; a fuzzer wants to see it.
                DtlsOutput::Failed(crate::dtls::DtlsError::Internal(why)) => panic!("{why}"),
                _ => Some(()),
            });
            assert!(outputs.take(MAX_OUTPUTS).count() < MAX_OUTPUTS);
        }
    }
}

/// `Association::handle_packet` on a fresh association of either role, with a negotiated channel.
pub fn fuzz_sctp(data: &[u8]) {
    for role in [Role::Server, Role::Client] {
        let mut now = Instant::now();
        let mut association = Association::new(SctpConfig::new(role), now);
        if association.open_negotiated(ChannelId(100), ChannelConfig::reliable("_reliable")).is_err() {
            return;
        }
        for datagram in datagrams(data) {
            now += Duration::from_millis(1);
            association.handle_packet(now, &with_checksum(datagram));
            let events = std::iter::from_fn(|| association.poll_event()).inspect(|event| {
                // The wrapper turns a panic into this; a fuzzer wants to see it.
                assert!(!matches!(event, SctpEvent::Closed { reason } if reason == BROKEN));
            });
            assert!(events.take(MAX_OUTPUTS).count() < MAX_OUTPUTS);
            let packets = std::iter::from_fn(|| association.poll_transmit(now));
            assert!(packets.take(MAX_OUTPUTS).count() < MAX_OUTPUTS);
        }
    }
}

/// Splits `data` at two-byte lengths.
fn datagrams(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = data.split_first_chunk::<2>()?;
        let (datagram, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
        data = rest;
        Some(datagram)
    })
}

/// The packet with the CRC32c that SCTP wants (RFC 9260, appendix A), which no fuzzer guesses.
fn with_checksum(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet.len() >= 12 {
        packet[8..12].fill(0);
        let mut crc = !0u32;
        for byte in &packet {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
            }
        }
        packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A short walk over random input, so that the entry points themselves stay sound; the fuzzers do the work.
    #[test]
    fn random_input_is_survived() {
        let mut state = 7u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        for round in 0..300 {
            let mut data: Vec<u8> = (0..round).map(|_| random()).collect();
            for run in [fuzz_open_rtp, fuzz_open_rtcp, fuzz_fingerprint, fuzz_dtls, fuzz_sctp] {
                run(&data);
            }
            if data.len() > 40 {
                // The starts of a DTLS handshake record and of an SCTP INIT.
                data[..15].copy_from_slice(&[0, 60, 22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 47]);
                data[15..27].copy_from_slice(&[1, 0, 0, 35, 0, 0, 0, 0, 0, 0, 0, 35]);
                fuzz_dtls(&data);
                data[2..14].copy_from_slice(&[19, 136, 19, 136, 0, 0, 0, 0, 0, 0, 0, 0]);
                data[14..18].copy_from_slice(&[1, 0, 0, 20]);
                fuzz_sctp(&data);
            }
        }
    }
}
