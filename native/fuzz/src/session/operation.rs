//! The operations of a program: four bytes each, every value of which means something, so that any mutation is a program.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Frames of a stream, with time between them.
    Frames {
        slot: u8,
        count: u8,
        packets: u8,
        len: u8,
        key: bool,
        pace_ms: u8,
    },
    /// The next packets of a stream are lost.
    Lose {
        slot: u8,
        count: u8,
    },
    /// A packet of before.
    Late {
        slot: u8,
        distance: u16,
    },
    /// A retransmission of a packet before or after the newest.
    Rtx {
        slot: u8,
        distance: i16,
        how: u8,
    },
    /// Retransmissions of many packets in a row.
    RtxRun {
        slot: u8,
        from: u16,
        count: u8,
    },
    /// A packet with header extensions.
    Extended {
        slot: u8,
        count: u8,
        id: u8,
        len: u8,
        different: bool,
        payload: u8,
    },
    /// Numbers left out.
    Jump {
        slot: u8,
        by: u16,
    },
    /// Another SSRC, by packet or by command.
    Rename {
        slot: u8,
        name: u8,
        by_command: bool,
    },
    /// Sections of the publisher.
    Publish {
        sound: bool,
        pictures: bool,
    },
    /// Whether packets carry their names.
    Named {
        slot: u8,
        named: bool,
    },
    /// What a subscriber wants.
    Wish {
        who: u8,
        video: bool,
        bits: u8,
        ssrc: u8,
    },
    Mute {
        video: bool,
        muted: bool,
    },
    Nack {
        who: u8,
        stream: u8,
        back: u8,
        bits: u8,
        times: u8,
    },
    /// The last hundreds of packets, again and again.
    NackStorm {
        who: u8,
        stream: u8,
        times: u8,
        pause_ms: u8,
    },
    KeyframeRequests {
        who: u8,
        stream: u8,
        times: u8,
        fir: bool,
    },
    /// A receiver report, with a round trip of anything.
    Report {
        who: u8,
        stream: u8,
        last_report: u8,
        delay: u8,
    },
    SenderReport {
        slot: u8,
        hours: u8,
        ticks: u8,
    },
    Time {
        ms: u8,
        tens: u8,
    },
    /// A datagram of any size.
    Large {
        slot: u8,
        len: u16,
    },
    /// A payload of any bytes under one of the negotiated types.
    Noise {
        slot: u8,
        pt: u8,
        seed: u8,
        len: u8,
    },
    /// The publisher changes its codec.
    Codec {
        slot: u8,
        which: u8,
    },
    Padding {
        slot: u8,
        count: u8,
    },
    RequestKeyframe,
    /// A peer that sends media or gets some is not heard for a while.
    Away {
        who: u8,
        seconds: u8,
    },
    /// Only the loudest tracks of the room are forwarded.
    Stage {
        places: Option<u8>,
    },
    RestartIce {
        who: u8,
    },
    /// One frame of everything, as a good publisher sends it.
    Everything {
        count: u8,
        pace_ms: u8,
    },
}

impl Operation {
    pub fn read([code, a, b, c]: [u8; 4]) -> Operation {
        let (slot, wide) = (a % 3, u16::from_le_bytes([b, c]));
        match code % 28 {
            0..=2 => Operation::Frames {
                slot,
                count: 1 + b % 32,
                packets: 1 + (c >> 1) % 4,
                len: c >> 3 & 7,
                key: c & 1 == 1,
                pace_ms: [0, 5, 33, 100][usize::from(c >> 6)],
            },
            3 => Operation::Lose { slot, count: 1 + b % 8 },
            4 => Operation::Late { slot, distance: wide & 0xfff },
            5 | 6 => Operation::Rtx { slot, distance: wide as i16, how: a / 3 },
            7 => Operation::RtxRun { slot, from: wide & 0xfff, count: 1 + (a / 3) % 64 },
            8 => Operation::Extended {
                slot,
                count: 1 + (a / 3) % 8,
                id: b % 16,
                len: c,
                different: b & 0x80 != 0,
                payload: b >> 4 & 7,
            },
            9 => Operation::Jump { slot, by: wide & 0x7fff },
            10 => Operation::Rename { slot, name: b, by_command: c & 1 == 1 },
            11 => Operation::Publish { sound: a & 1 == 0, pictures: a & 2 == 0 },
            12 => Operation::Named { slot, named: b & 1 == 1 },
            13 | 14 => Operation::Wish { who: a, video: a & 2 == 2, bits: b, ssrc: c },
            15 => Operation::Mute { video: a & 1 == 1, muted: b & 1 == 1 },
            16 => Operation::Nack { who: a, stream: a / 2, back: b, bits: c, times: 1 + (a >> 4) % 4 },
            17 => Operation::NackStorm { who: a, stream: a / 2, times: 1 + b % 32, pause_ms: c % 32 },
            18 => Operation::KeyframeRequests { who: a, stream: a / 2, times: 1 + b % 32, fir: c & 1 == 1 },
            19 => Operation::Report { who: a, stream: a / 2, last_report: b, delay: c },
            20 => Operation::SenderReport { slot, hours: b, ticks: c },
            21 => Operation::Time { ms: b, tens: c },
            22 => Operation::Large { slot, len: wide },
            23 => Operation::Noise { slot, pt: a / 3, seed: b, len: c },
            24 => Operation::Codec { slot, which: b },
            25 => Operation::Padding { slot, count: 1 + b % 8 },
            26 => match a % 4 {
                0 => Operation::RequestKeyframe,
                1 => Operation::Away { who: b % 2, seconds: 9 + c % 8 },
                2 => Operation::Stage { places: Some(b % 4).filter(|places| *places < 3) },
                _ => Operation::RestartIce { who: b % 3 },
            },
            _ => Operation::Everything { count: 1 + b % 64, pace_ms: [0, 10, 33, 50][usize::from(c % 4)] },
        }
    }

    /// Whether a publisher that keeps the rules does this.
    pub(super) fn is_honest(self) -> bool {
        use Operation::*;
        !matches!(
            self,
            Lose { .. }
                | Late { .. }
                | Rtx { .. }
                | RtxRun { .. }
                | Jump { .. }
                | Large { .. }
                | Noise { .. }
                | Named { .. }
        )
    }
}
