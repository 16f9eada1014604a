//! RTCP: byte vectors, compound validation, builder and view round trips.

mod common;

use common::{Rng, hex};
use greenroom_wire::rtcp::{
    self, Builder, DlrrEntry, NtpTime, Packet, ReportBlock, SenderInfo, TwccHeader, XrBlock, twcc_max_len,
};
use greenroom_wire::{Ssrc, WireError};

fn only(bytes: &[u8]) -> Packet<'_> {
    let mut packets = rtcp::parse(bytes).unwrap();
    let first = packets.next().unwrap().unwrap();
    assert!(packets.next().is_none());
    first
}

#[test]
fn sender_report_with_sdes() {
    let block = ReportBlock {
        ssrc: Ssrc(7),
        fraction_lost: 128,
        cumulative_lost: -2,
        highest_sequence: 0x0001_fffe,
        jitter: 33,
        last_sr: 0x1122_3344,
        delay_since_last_sr: 65536,
    };
    let info = SenderInfo {
        ssrc: Ssrc(1),
        ntp: NtpTime(0x0123_4567_89ab_cdef),
        rtp_timestamp: 90_000,
        packets: 10,
        octets: 1000,
    };
    let mut buf = [0; 128];
    let mut b = Builder::new(&mut buf);
    b.sender_report(&info, &[block]).unwrap().sdes_cname(Ssrc(1), "greenroom").unwrap();
    let mut packets = rtcp::parse(b.as_bytes()).unwrap();
    let Some(Ok(Packet::SenderReport(sr))) = packets.next() else { panic!("no SR") };
    assert_eq!(sr.info, info);
    assert_eq!(sr.reports.collect::<Vec<_>>(), [block]);
    let Some(Ok(Packet::Sdes(sdes))) = packets.next() else { panic!("no SDES") };
    let chunk = sdes.chunks().next().unwrap();
    assert_eq!((chunk.ssrc, chunk.cname), (Ssrc(1), Some(&b"greenroom"[..])));
    assert!(packets.next().is_none());
}

#[test]
fn sdes_ends_with_a_zero_whatever_the_length() {
    for len in 0..9 {
        let name = "x".repeat(len);
        let mut buf = [0xff; 64];
        let mut b = Builder::new(&mut buf);
        b.sdes_cname(Ssrc(5), &name).unwrap();
        let Packet::Sdes(sdes) = only(b.as_bytes()) else { panic!("no SDES") };
        assert_eq!(sdes.chunks().next().unwrap().cname, Some(name.as_bytes()));
    }
}

#[test]
fn nack_vector() {
    // PID 10 with bits 0 and 15, then PID 65535 with bit 0: 10, 11, 26, 65535, 0.
    let bytes = hex("81cd0004 00000001 00000002 000a8001 ffff0001");
    let Packet::Nack(nack) = only(&bytes) else { panic!("no NACK") };
    assert_eq!((nack.sender, nack.media), (Ssrc(1), Ssrc(2)));
    assert_eq!(nack.sequence_numbers().collect::<Vec<_>>(), [10, 11, 26, 65535, 0]);
    let mut buf = [0; 64];
    let mut b = Builder::new(&mut buf);
    b.nack(Ssrc(1), Ssrc(2), [10, 11, 26, 65535, 0]).unwrap();
    assert_eq!(b.as_bytes(), bytes);
    assert_eq!(b.nack(Ssrc(1), Ssrc(2), []).err(), Some(WireError::Value));
    assert_eq!(b.as_bytes(), bytes, "a refused packet leaves nothing behind");
}

#[test]
fn picture_requests() {
    let mut buf = [0; 128];
    let mut b = Builder::new(&mut buf);
    b.pli(Ssrc(1), Ssrc(2)).unwrap().fir(Ssrc(1), Ssrc(3), 9).unwrap();
    assert_eq!(b.as_bytes(), hex("81ce0002 00000001 00000002 84ce0004 00000001 00000000 00000003 09000000"));
    let mut packets = rtcp::parse(b.as_bytes()).unwrap();
    let Some(Ok(Packet::Pli(pli))) = packets.next() else { panic!("no PLI") };
    assert_eq!(pli.media, Ssrc(2));
    let Some(Ok(Packet::Fir(fir))) = packets.next() else { panic!("no FIR") };
    assert_eq!(fir.entries().collect::<Vec<_>>(), [(Ssrc(3), 9)]);
}

#[test]
fn remb_rounds_down_to_18_bits() {
    let table = [
        (0, 0),
        (1, 1),
        (0x3_ffff, 0x3_ffff),
        (0x4_0000, 0x4_0000),
        (0x4_0001, 0x4_0000),
        (8_927_168, 8_927_168),
        (u64::MAX, 0x3_ffff << 46),
    ];
    for (bps, expected) in table {
        let mut buf = [0; 64];
        let mut b = Builder::new(&mut buf);
        b.remb(Ssrc(1), bps, &[Ssrc(5), Ssrc(6)]).unwrap();
        let Packet::Remb(remb) = only(b.as_bytes()) else { panic!("no REMB") };
        assert_eq!(remb.bitrate_bps, expected);
        assert_eq!(remb.ssrcs().collect::<Vec<_>>(), [Ssrc(5), Ssrc(6)]);
    }
    // A mantissa shifted out of 64 bits saturates.
    let bytes = hex("8fce0004 00000001 00000000 52454d42 00ffffff");
    let Packet::Remb(remb) = only(&bytes) else { panic!("no REMB") };
    assert_eq!(remb.bitrate_bps, u64::MAX);
}

#[test]
fn extended_reports() {
    let entry = DlrrEntry { ssrc: Ssrc(3), last_rr: 4, delay_since_last_rr: 5 };
    let mut buf = [0; 128];
    let mut b = Builder::new(&mut buf);
    b.xr_dlrr(Ssrc(1), &[entry, entry]).unwrap();
    let bytes = [&hex("80cf 0004 00000001 04000002 00000000 00000063"), b.as_bytes()].concat();
    let mut blocks = 0;
    for packet in rtcp::parse(&bytes).unwrap() {
        let Ok(Packet::Xr(xr)) = packet else { panic!("no XR") };
        for block in xr.blocks() {
            blocks += 1;
            match block {
                XrBlock::Rrtr(ntp) => assert_eq!(ntp, NtpTime(99)),
                XrBlock::Dlrr(entries) => assert_eq!(entries.collect::<Vec<_>>(), [entry, entry]),
                XrBlock::Unknown(kind) => panic!("block {kind}"),
            }
        }
    }
    assert_eq!(blocks, 2);
}

#[test]
fn bye_with_reason_and_unknown_types() {
    let bytes = hex("82cb0004 00000001 00000002 06627265 616b0000 80cc0002 00000001 6e616d65");
    let mut packets = rtcp::parse(&bytes).unwrap();
    let Some(Ok(Packet::Bye(bye))) = packets.next() else { panic!("no BYE") };
    assert_eq!(bye.ssrcs().collect::<Vec<_>>(), [Ssrc(1), Ssrc(2)]);
    assert!(matches!(packets.next(), Some(Ok(Packet::Unknown { packet_type: 204, count: 0 }))));
}

#[test]
fn compound_chain_must_add_up() {
    let table = [
        ("", WireError::Truncated),
        ("80c8", WireError::Truncated),
        ("40c90001 00000001", WireError::Version),
        ("80c90002 00000001", WireError::Length),
        ("80c90001 00000001 80", WireError::Truncated),
        ("a0c90001 00000000", WireError::Length),
        ("a0c90001 00000009", WireError::Length),
    ];
    for (text, error) in table {
        assert_eq!(rtcp::parse(&hex(text)).err(), Some(error), "{text}");
    }
    // A malformed body does not hide the packet after it.
    let bytes = hex("81c90001 00000001 81ce0002 00000001 00000002");
    let packets: Vec<_> = rtcp::parse(&bytes).unwrap().collect();
    assert!(matches!(packets[..], [Err(WireError::Length), Ok(Packet::Pli(_))]));
}

#[test]
fn builder_is_all_or_nothing() {
    let mut buf = [0; 16];
    let mut b = Builder::new(&mut buf);
    b.pli(Ssrc(1), Ssrc(2)).unwrap();
    assert_eq!(b.pli(Ssrc(1), Ssrc(2)).err(), Some(WireError::NoSpace));
    assert_eq!(b.len(), 12);
    assert!(!b.is_empty());
}

#[test]
fn ntp_time_and_unix_time() {
    for micros in [0, 1, 999_999, 1_700_000_000_123_456] {
        assert_eq!(NtpTime::from_unix_micros(micros).unix_micros(), micros);
    }
    assert_eq!(NtpTime::from_unix_micros(0).0 >> 32, 2_208_988_800);
}

#[test]
fn twcc_vector() {
    // Base 0x0fff, 5 statuses: a run of 2 small, then a one-bit vector: lost, small, lost. Deltas 4, 8, 12 ticks.
    let bytes = hex("8fcd0006 00000001 00000002 0fff0005 00000a07 2002 9000 04080c00");
    let Packet::Twcc(twcc) = only(&bytes) else { panic!("no TWCC") };
    assert_eq!((twcc.base_sequence, twcc.status_count, twcc.reference_time, twcc.feedback_count), (0xfff, 5, 10, 7));
    let got: Vec<_> = twcc.statuses().collect();
    assert_eq!(got, [(0xfff, Some(4)), (0x1000, Some(8)), (0x1001, None), (0x1002, Some(12)), (0x1003, None)]);
    let times: Vec<_> = twcc.arrivals().collect();
    assert_eq!(times, [(0xfff, 641_000), (0x1000, 643_000), (0x1002, 646_000)]);
}

#[test]
fn twcc_round_trip() {
    let mut rng = Rng(3);
    for round in 0..2000 {
        let count = 1 + rng.below(300) as usize;
        let (loss, jump) = (rng.below(100), rng.below(20));
        let mut now = rng.below(1 << 34) as i64;
        let mut arrivals: Vec<Option<i64>> = (0..count)
            .map(|_| {
                let longest = if rng.chance(jump) { 500_000 } else { 3000 };
                now += rng.below(longest) as i64;
                now -= if rng.chance(jump) { rng.below(20_000) as i64 } else { 0 };
                (!rng.chance(loss)).then_some(now)
            })
            .collect();
        if round % 7 == 0 {
            arrivals.fill(Some(now)); // one long run
        }
        if arrivals.iter().all(Option::is_none) {
            continue;
        }
        let header =
            TwccHeader { sender: Ssrc(1), media: Ssrc(2), base_sequence: rng.next() as u16, feedback_count: 9 };
        let mut buf = vec![0; twcc_max_len(count)];
        let mut b = Builder::new(&mut buf);
        assert_eq!(b.twcc(&header, &arrivals), Ok(count), "round {round}");
        let Packet::Twcc(twcc) = only(b.as_bytes()) else { panic!("no TWCC") };
        assert_eq!(twcc.statuses().count(), count);
        // Reference time wraps at 24 bits; compare modulo the wrap.
        let wrap = (1i64 << 24) * 64_000;
        let expected: Vec<_> = arrivals
            .iter()
            .enumerate()
            .filter_map(|(i, a)| a.map(|a| (header.base_sequence.wrapping_add(i as u16), (a / 250 * 250) % wrap)))
            .collect();
        let got: Vec<_> = twcc.arrivals().map(|(s, t)| (s, t.rem_euclid(wrap))).collect();
        assert_eq!(got, expected, "round {round}");
    }
}

#[test]
fn twcc_stops_before_a_step_it_cannot_express() {
    let arrivals = [Some(0), None, Some(1000), Some(9_000_000), Some(9_000_001)];
    let mut buf = [0; 64];
    let header = TwccHeader { sender: Ssrc(1), media: Ssrc(2), base_sequence: 0, feedback_count: 0 };
    assert_eq!(Builder::new(&mut buf).twcc(&header, &arrivals), Ok(3));
    assert_eq!(Builder::new(&mut buf).twcc(&header, &[None, None]), Err(WireError::Value));
}

#[test]
fn twcc_that_does_not_add_up() {
    // Deltas missing; chunks missing.
    for text in
        ["8fcd0005 00000001 00000002 00000005 00000000 2005 0404", "8fcd0004 00000001 00000002 00000005 00000000"]
    {
        let bytes = hex(text);
        assert!(rtcp::parse(&bytes).unwrap().next().unwrap().is_err(), "{text}");
    }
}
