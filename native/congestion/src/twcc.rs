//! Receive side of transport-wide congestion control: remembers arrivals, decides when feedback is due.

use std::time::{Duration, Instant};

use greenroom_wire::rtcp::{Builder, TwccHeader, twcc_max_len};
use greenroom_wire::seq::Unwrap16;
use greenroom_wire::{Ssrc, WireError};

/// Longest wait between a packet and the feedback on it.
const INTERVAL: Duration = Duration::from_millis(100);
/// Shortest spacing of feedback once a frame is complete (a packet with the marker bit has arrived).
const INTERVAL_AFTER_MARKER: Duration = Duration::from_millis(50);
/// Held packets that make feedback due at once.
const MAX_HELD: usize = 100;
/// Sequence numbers remembered. A packet older than this can no longer be reported.
const WINDOW: usize = 512;
/// Statuses in one feedback packet, so that it fits a datagram whatever the deltas are.
const MAX_STATUSES: usize = 400;

/// Records arrivals of one transport and writes feedback about them.
///
/// Feedback is due 100 ms after the last one, 50 ms after it when a marker arrived since, or as soon as 100 packets are
/// held. A packet that arrives late is reported by feedback that reaches back to it.
#[derive(Debug)]
pub struct TwccRecorder {
    sender: Ssrc,
    media: Ssrc,
    epoch: Option<Instant>,
    unwrap: Unwrap16,
    /// Arrival per sequence number modulo the window. Empty until the first packet: idle transports are many.
    slots: Vec<Slot>,
    /// Lowest sequence number with something new to report.
    start: u64,
    held: usize,
    marker: bool,
    last_feedback: Option<Instant>,
    feedback_count: u8,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Extended sequence number the slot is about; 0 is never assigned, see [`Unwrap16`].
    sequence: u64,
    micros: i64,
}

impl TwccRecorder {
    /// Buffer space that any feedback packet fits in, in bytes.
    pub const MAX_FEEDBACK_LEN: usize = twcc_max_len(MAX_STATUSES);

    /// `sender` is the SSRC feedback is sent with.
    pub fn new(sender: Ssrc) -> Self {
        TwccRecorder {
            sender,
            media: Ssrc(0),
            epoch: None,
            unwrap: Unwrap16::new(),
            slots: Vec::new(),
            start: 0,
            held: 0,
            marker: false,
            last_feedback: None,
            feedback_count: 0,
        }
    }

    /// A packet of stream `media` with this transport sequence number arrived. The first arrival of a number counts.
    pub fn record(&mut self, now: Instant, media: Ssrc, sequence: u16, marker: bool) {
        let epoch = *self.epoch.get_or_insert(now);
        if self.slots.is_empty() {
            self.slots.resize(WINDOW, Slot::default());
        }
        let previous_highest = self.unwrap.highest();
        let sequence = self.unwrap.unwrap(sequence);
        let highest = previous_highest.map_or(sequence, |h| h.max(sequence));
        if sequence + WINDOW as u64 <= highest {
            return; // too old to report
        }
        if self.slots[sequence as usize % WINDOW].sequence == sequence {
            return; // duplicate
        }
        self.forget_below((highest + 1).saturating_sub(WINDOW as u64));
        if self.held == 0 {
            // Numbers between the last report and this packet are losses worth reporting.
            self.start = self.start.max(previous_highest.map_or(sequence, |h| h + 1)).min(sequence);
        }
        self.start = self.start.min(sequence);
        let micros = now.saturating_duration_since(epoch).as_micros() as i64;
        self.slots[sequence as usize % WINDOW] = Slot { sequence, micros };
        self.held += 1;
        self.media = media;
        self.marker |= marker;
        self.last_feedback.get_or_insert(now);
    }

    /// Gives up unreported packets that a jump ahead pushes out of the window.
    fn forget_below(&mut self, oldest: u64) {
        let end = oldest.min(self.start + WINDOW as u64);
        for sequence in self.start..end {
            if self.held > 0 && self.slots[sequence as usize % WINDOW].sequence == sequence {
                self.held -= 1;
            }
        }
        self.start = self.start.max(oldest);
    }

    /// When [`poll_feedback`](Self::poll_feedback) will have something, unless packets arrive before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let last = self.last_feedback.filter(|_| self.held > 0)?;
        Some(match () {
            _ if self.held >= MAX_HELD => last,
            _ if self.marker => last + INTERVAL_AFTER_MARKER,
            _ => last + INTERVAL,
        })
    }

    /// Appends one feedback packet when one is due; call again until it returns `false`.
    ///
    /// Errors: `NoSpace` when fewer than [`MAX_FEEDBACK_LEN`](Self::MAX_FEEDBACK_LEN) bytes are left and the packet does
    /// not fit; nothing is lost, the next call tries again.
    pub fn poll_feedback(&mut self, now: Instant, out: &mut Builder<'_>) -> Result<bool, WireError> {
        match (self.poll_timeout(), self.unwrap.highest()) {
            (Some(due), Some(highest)) if now >= due => self.write(now, highest, out),
            _ => Ok(false),
        }
    }

    fn write(&mut self, now: Instant, highest: u64, out: &mut Builder<'_>) -> Result<bool, WireError> {
        let mut arrivals = [None; MAX_STATUSES];
        let count = MAX_STATUSES.min((highest + 1 - self.start) as usize);
        for (sequence, arrival) in (self.start..).zip(&mut arrivals[..count]) {
            let slot = &self.slots[sequence as usize % WINDOW];
            *arrival = (slot.sequence == sequence).then_some(slot.micros);
        }
        if arrivals[..count].iter().all(Option::is_none) {
            // A stretch of losses longer than a packet can describe: the sender learns of it from the next one.
            self.start += count as u64;
            return self.write_rest(now, highest, out);
        }
        let header = TwccHeader {
            sender: self.sender,
            media: self.media,
            base_sequence: self.start as u16,
            feedback_count: self.feedback_count,
        };
        let covered = out.twcc(&header, &arrivals[..count])?;
        self.feedback_count = self.feedback_count.wrapping_add(1);
        self.start += covered as u64;
        self.settle(now, highest);
        Ok(true)
    }

    fn write_rest(&mut self, now: Instant, highest: u64, out: &mut Builder<'_>) -> Result<bool, WireError> {
        // At most one level deep: the window is smaller than two packets' worth of statuses.
        if self.start > highest {
            self.settle(now, highest);
            return Ok(false);
        }
        self.write(now, highest, out)
    }

    /// Recounts what is still unreported; with nothing left the interval starts anew.
    fn settle(&mut self, now: Instant, highest: u64) {
        let slots = &self.slots;
        self.held = (self.start..=highest).filter(|s| slots[*s as usize % WINDOW].sequence == *s).count();
        if self.held == 0 {
            self.marker = false;
            self.last_feedback = Some(now);
        }
    }
}
