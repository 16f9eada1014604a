//! Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1).
//!
//! ```text
//! |      base sequence number     |      packet status count      |
//! |                 reference time (64 ms)        | fb pkt. count |
//! |          packet chunk         |         packet chunk ...      |
//! |   recv delta (250 us)  ...                       zero padding |
//! ```

use super::format::feedback_ssrcs;
use crate::bytes::{Writer, u16_at, u24_at};
use crate::{Ssrc, WireError};

/// Microseconds of one delta tick.
pub(crate) const TICK_US: i64 = 250;
/// Ticks in one unit of reference time (64 ms).
const TICKS_PER_REFERENCE: i64 = 256;
/// Longest run a run-length chunk can hold.
const MAX_RUN: usize = 0x1fff;

const NOT_RECEIVED: u8 = 0;
const SMALL_DELTA: u8 = 1;
const LARGE_DELTA: u8 = 2;

/// A feedback packet.
#[derive(Clone, Debug)]
pub struct Twcc<'a> {
    /// Who received.
    pub sender: Ssrc,
    /// Any stream of the transport; the feedback covers all of them.
    pub media: Ssrc,
    /// Transport sequence number of the first status.
    pub base_sequence: u16,
    /// Number of packets the feedback speaks of.
    pub status_count: u16,
    /// Reference time in units of 64 ms, 24 bits signed, of an arbitrary epoch.
    pub reference_time: i32,
    /// Counter of feedback packets, for detecting their loss.
    pub feedback_count: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> Twcc<'a> {
    /// Checks that chunks cover the announced count and that all deltas are present.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let (sender, media) = feedback_ssrcs(body)?;
        let base_sequence = u16_at(body, 8)?;
        let status_count = u16_at(body, 10)?;
        let reference_time = ((u24_at(body, 12)? << 8) as i32) >> 8;
        let feedback_count = *body.get(15).ok_or(WireError::Truncated)?;
        let data = &body[16..];
        let mut symbols = Symbols::new(data);
        let mut delta_len = 0;
        for _ in 0..status_count {
            delta_len += match symbols.next().ok_or(WireError::Truncated)? {
                SMALL_DELTA => 1,
                LARGE_DELTA => 2,
                _ => 0,
            };
        }
        let (chunks, rest) = data.split_at(symbols.at);
        let deltas = rest.get(..delta_len).ok_or(WireError::Length)?;
        Ok(Twcc { sender, media, base_sequence, status_count, reference_time, feedback_count, chunks, deltas })
    }

    /// One item per packet from `base_sequence` on.
    pub fn statuses(&self) -> TwccStatuses<'a> {
        TwccStatuses {
            sequence: self.base_sequence,
            left: self.status_count,
            symbols: Symbols::new(self.chunks),
            deltas: self.deltas,
        }
    }

    /// Received packets with arrival times in microseconds, on the epoch of the reference time.
    pub fn arrivals(&self) -> impl Iterator<Item = (u16, i64)> + use<'a> {
        let mut ticks = self.reference_time as i64 * TICKS_PER_REFERENCE;
        self.statuses().filter_map(move |(sequence, delta)| {
            ticks += delta? as i64;
            Some((sequence, ticks * TICK_US))
        })
    }
}

/// Iterator over (transport sequence number, delta to the previous arrival in 250 us ticks; `None` when not received).
#[derive(Clone, Debug)]
pub struct TwccStatuses<'a> {
    sequence: u16,
    left: u16,
    symbols: Symbols<'a>,
    deltas: &'a [u8],
}

impl Iterator for TwccStatuses<'_> {
    type Item = (u16, Option<i16>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let len = match self.symbols.next()? {
            SMALL_DELTA => 1,
            LARGE_DELTA => 2,
            // Symbol 3 is reserved; without knowing its meaning the packet cannot count as received.
            _ => return Some((sequence, None)),
        };
        let (head, rest) = self.deltas.split_at_checked(len)?;
        self.deltas = rest;
        let delta = if len == 1 { head[0] as i16 } else { i16::from_be_bytes([head[0], head[1]]) };
        Some((sequence, Some(delta)))
    }
}

/// Expands chunks into two-bit symbols. `at` is the offset after the last chunk begun.
#[derive(Clone, Debug)]
struct Symbols<'a> {
    data: &'a [u8],
    at: usize,
    chunk: u16,
    left: usize,
}

impl<'a> Symbols<'a> {
    fn new(data: &'a [u8]) -> Self {
        Symbols { data, at: 0, chunk: 0, left: 0 }
    }

    fn next(&mut self) -> Option<u8> {
        while self.left == 0 {
            self.chunk = u16_at(self.data, self.at).ok()?;
            self.at += 2;
            self.left = match self.chunk >> 14 {
                0 | 1 => (self.chunk & 0x1fff) as usize,
                2 => 14,
                _ => 7,
            };
        }
        self.left -= 1;
        Some(match self.chunk >> 14 {
            0 | 1 => (self.chunk >> 13 & 3) as u8,
            2 => (self.chunk >> self.left & 1) as u8,
            _ => (self.chunk >> (2 * self.left) & 3) as u8,
        })
    }
}

/// Values a feedback packet opens with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TwccHeader {
    /// Who received.
    pub sender: Ssrc,
    /// Any stream of the transport.
    pub media: Ssrc,
    /// Transport sequence number of the first status.
    pub base_sequence: u16,
    /// Counter of feedback packets.
    pub feedback_count: u8,
}

/// Upper bound of the length of a feedback packet over `statuses` packets, RTCP header included.
pub const fn max_len(statuses: usize) -> usize {
    (20 + 2 * statuses.div_ceil(7) + 2 * statuses).next_multiple_of(4)
}

/// Deltas in ticks, as the receiver will add them up: quantised times are tracked, so errors do not accumulate.
struct Deltas<'a> {
    arrivals: std::slice::Iter<'a, Option<i64>>,
    ticks: i64,
}

impl Iterator for Deltas<'_> {
    /// `Ok(None)`: not received. `Err`: the step does not fit 16 bits.
    type Item = Result<Option<i16>, ()>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(micros) = *self.arrivals.next()? else { return Some(Ok(None)) };
        let step = micros.div_euclid(TICK_US) - self.ticks;
        let Ok(delta) = i16::try_from(step) else { return Some(Err(())) };
        self.ticks += step;
        Some(Ok(Some(delta)))
    }
}

fn symbol(delta: Option<i16>) -> u8 {
    match delta {
        None => NOT_RECEIVED,
        Some(0..=255) => SMALL_DELTA,
        Some(_) => LARGE_DELTA,
    }
}

/// Writes the body after the RTCP header and returns how many statuses it covers: fewer than given when a gap of more
/// than 8 s between arrivals cannot be expressed, in which case the caller continues in another packet.
pub(super) fn write_body(
    w: &mut Writer<'_>,
    header: &TwccHeader,
    arrivals: &[Option<i64>],
) -> Result<usize, WireError> {
    let first = arrivals.iter().flatten().next().ok_or(WireError::Value)?;
    let reference = first.div_euclid(TICK_US * TICKS_PER_REFERENCE);
    let start = reference * TICKS_PER_REFERENCE;
    let deltas = |arrivals| Deltas { arrivals: <[_]>::iter(arrivals), ticks: start };
    let count = deltas(arrivals).take_while(Result::is_ok).count().min(u16::MAX as usize);
    let arrivals = &arrivals[..count];

    w.u32(header.sender.0)?;
    w.u32(header.media.0)?;
    w.u16(header.base_sequence)?;
    w.u16(count as u16)?;
    w.u32((reference as u32) << 8 | header.feedback_count as u32)?;

    // Symbols depend on the running quantised time, so they are produced by a second walk with a window of 14: the
    // longest stretch the choice between chunk forms has to see.
    let mut symbols = deltas(arrivals).map(|d| symbol(d.unwrap_or(None)));
    let mut window = Window::default();
    loop {
        window.fill(&mut symbols);
        if window.is_empty() {
            break;
        }
        let first = window.symbols[0];
        let same = window.run();
        if same == window.len {
            // All alike: extend the run past the window.
            let mut run = window.take(same);
            window.fill(&mut symbols);
            while run < MAX_RUN && !window.is_empty() && window.symbols[0] == first {
                window.take(1);
                run += 1;
                window.fill(&mut symbols);
            }
            w.u16((first as u16) << 13 | run as u16)?;
        } else if window.symbols[..window.len].iter().all(|s| *s != LARGE_DELTA) {
            w.u16(0x8000 | window.pack(14, 1))?;
        } else if same >= 7 {
            window.take(same);
            w.u16((first as u16) << 13 | same as u16)?;
        } else {
            w.u16(0xc000 | window.pack(7, 2))?;
        }
    }
    for delta in deltas(arrivals) {
        match delta.unwrap_or(None) {
            Some(d @ 0..=255) => w.u8(d as u8)?,
            Some(d) => w.u16(d as u16)?,
            None => {}
        }
    }
    w.pad4()?;
    Ok(count)
}

#[derive(Default)]
struct Window {
    symbols: [u8; 14],
    len: usize,
}

impl Window {
    fn fill(&mut self, source: &mut impl Iterator<Item = u8>) {
        while self.len < self.symbols.len() {
            let Some(symbol) = source.next() else { break };
            self.symbols[self.len] = symbol;
            self.len += 1;
        }
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many leading symbols are alike.
    fn run(&self) -> usize {
        self.symbols[..self.len].iter().take_while(|s| **s == self.symbols[0]).count()
    }

    fn take(&mut self, n: usize) -> usize {
        self.symbols.copy_within(n..self.len, 0);
        self.len -= n;
        n
    }

    /// Packs up to `n` symbols of `bits` bits, first in the highest position; absent ones are zero.
    fn pack(&mut self, n: usize, bits: usize) -> u16 {
        let used = n.min(self.len);
        let packed =
            self.symbols[..used].iter().enumerate().fold(0, |acc, (i, s)| acc | (*s as u16) << (bits * (n - 1 - i)));
        self.take(used);
        packed
    }
}
