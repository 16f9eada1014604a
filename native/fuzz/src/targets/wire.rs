//! Parsers of `greenroom-wire`. Each is read to the end: views must keep the promises their `parse` made.

use std::hint::black_box;

use greenroom_wire::av1::{self, DependencyDescriptor};
use greenroom_wire::rtcp::{self, Builder, Packet, ReportBlock, SenderInfo, TwccHeader, XrBlock};
use greenroom_wire::stun::{self, BindingRequest, IceRole, TransactionId};
use greenroom_wire::{Ssrc, annexb, demux, ext, h264, h265, red, rtp, trailer, vp8, vp9};

use super::target::{Target, hex_seeds};

pub fn targets() -> Vec<Target> {
    vec![
        Target::new("rtp", rtp_seeds(), run_rtp),
        Target::new("rtcp", rtcp_seeds(), run_rtcp),
        Target::new("stun", stun_seeds(), run_stun),
        Target::new("red", red_seeds(), run_red),
        Target::new("vp8", hex_seeds(&["b0f0ffff42a501", "10d0c5019d012a8002e04100", "9080050100"]), run_vp8),
        Target::new("vp9", hex_seeds(&["aa81230007380140 00b402800168 01040100", "fd1153030200"]), run_vp9),
        Target::new("h264", hex_seeds(&["7800026742000168", "7c8501", "6742c01f"]), |b| seen(h264::inspect(b))),
        Target::new("h265", hex_seeds(&["6001000242010002 4401", "62019300", "4001"]), |b| {
            seen(h265::inspect(b));
        }),
        Target::new("av1", hex_seeds(&["180a", "200212000a01", "00023200020a01"]), |b| seen(av1::is_keyframe(b))),
        Target::new("dependency-descriptor", descriptor_seeds(), run_descriptor),
        Target::new("trailer", trailer_seeds(), run_trailer),
        Target::new("annexb", annexb_seeds(), run_annexb),
    ]
}

/// Keeps the compiler from removing a call whose result nobody looks at.
fn seen<T>(value: T) {
    black_box(value);
}

/// Stands in for HMAC-SHA1: what matters here is which bytes are handed to it, not what it makes of them.
fn checksum(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let mut out = [0u8; 20];
    for (i, b) in key.iter().chain(parts.iter().copied().flatten()).enumerate() {
        out[i % 20] = out[i % 20].rotate_left(3) ^ b;
    }
    out
}

/// A picture with both numbers, one with user data, and one with fields of tomorrow.
fn trailer_seeds() -> Vec<Vec<u8>> {
    hex_seeds(&[
        "10020009 fef7fffffffff8a432ea fdfbffffffb2 ea4c4b5453",
        "65889988 fcfd9796 f64c4b5453",
        "9d012a f6fcfefdfc fdfbfffffffe fcff ed4c4b5453",
    ])
}

fn run_trailer(bytes: &[u8]) {
    let Some(found) = trailer::Trailer::parse(bytes) else { return };
    assert!((7..=trailer::MAX_LEN.min(bytes.len())).contains(&found.len));
    let data: Vec<u8> = found.user_data().map(Iterator::collect).unwrap_or_default();
    // What was read can be said again, in no more bytes, and reads the same.
    let mut buf = [0; trailer::MAX_LEN];
    let len = trailer::write(found.timestamp_us, found.frame_id, &data, &mut buf).expect("it was there before");
    assert!(len <= found.len);
    if len > 0 {
        let again = trailer::Trailer::parse(&buf[..len]).expect("what was written reads");
        assert_eq!((again.timestamp_us, again.frame_id), (found.timestamp_us, found.frame_id));
        assert!(again.user_data().map(Iterator::collect::<Vec<u8>>).unwrap_or_default() == data);
    }
}

fn annexb_seeds() -> Vec<Vec<u8>> {
    hex_seeds(&[
        "00000001 6742c00d 8c8d40a0f980 00000001 68ce3c80 000001 658884",
        "00000001 6764001f acd9405005bb0110000003001000000303c8f183196000 00000168ebe3cb",
    ])
}

fn run_annexb(bytes: &[u8]) {
    let mut total = 0;
    for unit in annexb::units(bytes) {
        assert!(!unit.is_empty() && !annexb::has_start_code(unit));
        total += unit.len() + 3;
        if let Some((width, height)) = annexb::picture_size(unit) {
            assert!(annexb::kind(unit) == annexb::SPS && width > 0 && height > 0);
        }
    }
    assert!(total <= bytes.len());
    seen((annexb::picture_size(bytes), vp8::picture_size(bytes)));
}

fn rtp_seeds() -> Vec<Vec<u8>> {
    hex_seeds(&[
        "806f1234 00010203 deadbeef f8fffe",
        "90ef1234 00010203 deadbeef bede0003 10b00031 01024030 00000000 abcd",
        "b0601234 00010203 deadbeef 10000002 01020a0b 14000000 aabb0002",
        "836f1234 00010203 deadbeef 00000001 00000002 00000003 ff",
    ])
}

fn run_rtp(bytes: &[u8]) {
    seen(demux::classify(bytes));
    let Ok(header) = rtp::RtpHeader::parse(bytes) else { return };
    assert!(header.header_len <= bytes.len());
    if let Ok(payload) = header.payload(bytes) {
        assert!(payload.len() <= bytes.len() - header.header_len);
    }
    for e in header.extensions(bytes) {
        assert_eq!(&bytes[e.offset..e.offset + e.data.len()], e.data);
        assert!(e.offset + e.data.len() <= header.header_len);
        seen((ext::AudioLevel::parse(e.data), ext::parse_transport_cc(e.data), ext::parse_sdes(e.data)));
        seen(ext::AbsSendTime::parse(e.data));
    }
    let mut copy = bytes.to_vec();
    rtp::set_sequence_number(&mut copy, 1);
    rtp::set_ssrc(&mut copy, Ssrc(3));
    rtp::set_payload_type(&mut copy, 4);
    let changed = rtp::RtpHeader::parse(&copy).expect("setters keep a header valid");
    assert_eq!((changed.sequence_number, changed.header_len), (1, header.header_len));
}

fn rtcp_seeds() -> Vec<Vec<u8>> {
    let build = |write: &dyn Fn(&mut Builder<'_>)| {
        let mut buf = vec![0; 1200];
        let mut builder = Builder::new(&mut buf);
        write(&mut builder);
        builder.as_bytes().to_vec()
    };
    let block = ReportBlock { ssrc: Ssrc(2), highest_sequence: 70_000, ..ReportBlock::default() };
    let arrivals: Vec<Option<i64>> = (0..60).map(|i| (i % 5 != 0).then_some(i * 9000 - i % 3 * 70_000)).collect();
    let twcc = TwccHeader { sender: Ssrc(1), media: Ssrc(2), base_sequence: 65_530, feedback_count: 3 };
    vec![
        build(&|b| {
            b.sender_report(&SenderInfo::default(), &[block]).unwrap().sdes_cname(Ssrc(1), "name").unwrap();
        }),
        build(&|b| {
            b.receiver_report(Ssrc(1), &[block, block]).unwrap().nack(Ssrc(1), Ssrc(2), [1, 2, 9, 900]).unwrap();
        }),
        build(&|b| {
            b.pli(Ssrc(1), Ssrc(2)).unwrap().fir(Ssrc(1), Ssrc(2), 3).unwrap().bye(&[Ssrc(1)]).unwrap();
        }),
        build(&|b| {
            b.remb(Ssrc(1), 1_000_000, &[Ssrc(2)]).unwrap();
            b.xr_dlrr(Ssrc(1), &[Default::default()]).unwrap();
        }),
        build(&|b| {
            b.twcc(&twcc, &arrivals).unwrap();
        }),
        // A receiver's reference time, which we read and never write.
        vec![0x80, 207, 0, 4, 0, 0, 0, 1, 4, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5],
    ]
}

fn run_rtcp(bytes: &[u8]) {
    let Ok(packets) = rtcp::parse(bytes) else { return };
    for packet in packets.flatten() {
        match packet {
            Packet::SenderReport(p) => p.reports.for_each(|r| seen(r.last_sr)),
            Packet::ReceiverReport(p) => seen(p.reports.count()),
            Packet::Sdes(p) => seen(p.chunks().count()),
            Packet::Bye(p) => seen(p.ssrcs().count()),
            Packet::Nack(p) => assert!(p.sequence_numbers().count() <= bytes.len() * 17 / 4),
            Packet::Pli(p) => seen(p),
            Packet::Fir(p) => seen(p.entries().count()),
            Packet::Remb(p) => seen((p.bitrate_bps, p.ssrcs().count())),
            Packet::Twcc(p) => run_twcc(&p),
            Packet::Xr(p) => p.blocks().for_each(|block| match block {
                XrBlock::Rrtr(t) => seen(t.unix_micros()),
                XrBlock::Dlrr(entries) => seen(entries.count()),
                XrBlock::Unknown(_) => {}
            }),
            Packet::Unknown { .. } => {}
        }
    }
}

/// What was read is written again and must read the same.
fn run_twcc(twcc: &rtcp::Twcc<'_>) {
    assert_eq!(twcc.statuses().count(), twcc.status_count as usize);
    if twcc.status_count > 400 {
        return; // a valid run of 65,535 would only make this slow
    }
    let times: Vec<(u16, i64)> = twcc.arrivals().collect();
    let mut arrivals = vec![None; twcc.status_count as usize];
    for (sequence, micros) in &times {
        arrivals[sequence.wrapping_sub(twcc.base_sequence) as usize] = Some(*micros);
    }
    let header = TwccHeader { base_sequence: twcc.base_sequence, ..TwccHeader::default() };
    let mut buf = vec![0; rtcp::twcc_max_len(arrivals.len())];
    let mut builder = Builder::new(&mut buf);
    // Refused only when nothing had arrived; cut where requantising moves a delta over the edge of 16 bits.
    let Ok(covered) = builder.twcc(&header, &arrivals) else { return assert!(times.is_empty()) };
    let Some(Ok(Packet::Twcc(again))) = rtcp::parse(builder.as_bytes()).expect("own output").next() else {
        panic!("own output is not a feedback packet");
    };
    assert_eq!(again.arrivals().count(), arrivals[..covered].iter().flatten().count());
}

fn stun_seeds() -> Vec<Vec<u8>> {
    let request = BindingRequest {
        transaction_id: TransactionId([5; 12]),
        username: "abcd:efgh",
        priority: 1,
        role: IceRole::Controlling(9),
        use_candidate: true,
    };
    let mut seeds = Vec::new();
    let mut buf = [0; 256];
    let len = stun::write_binding_request(&mut buf, &request, b"key", checksum).unwrap();
    seeds.push(buf[..len].to_vec());
    // Without the FINGERPRINT at its end, which would stop nearly every mutation.
    let mut open = buf[..len - 8].to_vec();
    open[3] -= 8;
    seeds.push(open);
    for address in ["192.0.2.1:5000", "[2001:db8::1]:5000"] {
        let address = address.parse().unwrap();
        let len = stun::write_binding_success(&mut buf, TransactionId([6; 12]), address, b"key", checksum).unwrap();
        seeds.push(buf[..len].to_vec());
    }
    let len = stun::write_binding_error(&mut buf, TransactionId([7; 12]), 487, "Role Conflict", Some(b"key"), checksum);
    seeds.push(buf[..len.unwrap()].to_vec());
    seeds
}

fn run_stun(bytes: &[u8]) {
    let Ok(message) = stun::Message::parse(bytes) else { return };
    seen(message.check_integrity(b"key", checksum));
    assert!(message.username.is_none_or(|u| u.len() <= stun::MAX_USERNAME_LEN));
    assert!(message.error_code.is_none_or(|c| (300..700).contains(&c)));
}

fn red_seeds() -> Vec<Vec<u8>> {
    hex_seeds(&["ef1e0003 ef0f0002 6f aabbcc ddee 112233", "6f0102"])
}

fn run_red(bytes: &[u8]) {
    let Ok(blocks) = red::blocks(bytes) else { return };
    let blocks: Vec<_> = blocks.collect();
    let (primary, redundant) = blocks.split_last().expect("a checked packet has a primary");
    assert_eq!(red::primary(bytes), Ok(*primary));
    // Headers of 4 bytes, one of 1, and the data in order: nothing is left out and nothing read twice.
    let data: Vec<u8> = blocks.iter().flat_map(|block| block.data).copied().collect();
    assert_eq!(data, bytes[4 * redundant.len() + 1..]);
}

fn run_vp8(bytes: &[u8]) {
    let Ok(d) = vp8::Descriptor::parse(bytes) else { return };
    let mut written = [0; 6];
    let len = d.write(&mut written).expect("room for any descriptor");
    let again = [&written[..len], &bytes[d.len..]].concat();
    // X without any field is legal to receive but not written: only the length may differ.
    assert_eq!(vp8::Descriptor::parse(&again), Ok(vp8::Descriptor { len, ..d }));
}

fn run_vp9(bytes: &[u8]) {
    let Ok(d) = vp9::Descriptor::parse(bytes) else { return };
    assert!(d.len <= bytes.len());
    seen((d.keyframe(), d.spatial(), d.temporal()));
}

fn descriptor_seeds() -> Vec<Vec<u8>> {
    // L1T2 with its structure (spelled out in the crate's tests), custom indications, mandatory fields only.
    hex_seeds(&["ca01f481411ebc5141010c09fc059c", "cc01f627", "4c01f5"])
}

fn run_descriptor(bytes: &[u8]) {
    seen(DependencyDescriptor::parse(bytes));
    if let Ok(Some(structure)) = DependencyDescriptor::structure(bytes) {
        assert!(!structure.templates().is_empty() && !structure.decode_targets().is_empty());
        if let Ok(frame) = DependencyDescriptor::frame(bytes, &structure) {
            (0..=255).for_each(|target| seen(frame.indication(target)));
        }
    }
}
