//! The RTCP a client sends: reports once a second, estimates of bandwidth, transport-wide feedback, requests.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use greenroom_wire::Ssrc;
use greenroom_wire::rtcp::{Builder, NtpTime, ReportBlock, SenderInfo, TwccHeader};

/// Sender and receiver reports.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Transport-wide feedback.
pub(crate) const TWCC_INTERVAL: Duration = Duration::from_millis(100);
/// Most report blocks in one packet (five bits), and what fits a datagram.
const MAX_BLOCKS: usize = 31;
/// Statuses one feedback packet covers.
const MAX_STATUSES: usize = 400;
/// Room for one compound with its SRTCP trailer.
const BUFFER: usize = 1400;

/// Builds a compound into `send`, with room for sealing left behind it. What does not fit is left out.
pub(crate) fn compound(send: &mut impl FnMut(&mut [u8], usize), build: impl FnOnce(&mut Builder<'_>)) {
    let mut buf = [0; BUFFER];
    let mut builder = Builder::new(&mut buf[..BUFFER - greenroom_secure::srtp::MAX_OVERHEAD]);
    build(&mut builder);
    let len = builder.len();
    if len > 0 {
        send(&mut buf, len);
    }
}

/// Report blocks of all received streams, as many packets as they need, and at least one: the empty report of a client
/// that receives nothing keeps its reporting interval.
pub(crate) fn receiver_reports(send: &mut impl FnMut(&mut [u8], usize), own: Ssrc, blocks: &[ReportBlock]) {
    let mut chunks = blocks.chunks(MAX_BLOCKS);
    let mut chunk = chunks.next().unwrap_or(&[]);
    loop {
        compound(send, |b| {
            // Neither can fail: the buffer is larger than both at their longest.
            let _ = b.receiver_report(own, chunk);
            let _ = b.sdes_cname(own, "load");
        });
        match chunks.next() {
            Some(next) => chunk = next,
            None => return,
        }
    }
}

/// The report of one published stream.
pub(crate) fn sender_report(send: &mut impl FnMut(&mut [u8], usize), info: &SenderInfo) {
    compound(send, |b| {
        let _ = b.sender_report(info, &[]);
        let _ = b.sdes_cname(info.ssrc, "load");
    });
}

/// `now` on the wall clock.
pub(crate) fn ntp(epoch_unix_micros: u64, since_epoch: Duration) -> NtpTime {
    NtpTime::from_unix_micros(epoch_unix_micros + since_epoch.as_micros() as u64)
}

/// Arrival times of packets with transport-wide sequence numbers, until they are reported.
#[derive(Debug, Default)]
pub(crate) struct TwccRecorder {
    unwrap: greenroom_wire::seq::Unwrap16,
    /// Arrivals in microseconds since the epoch.
    arrivals: BTreeMap<u64, i64>,
    next_base: Option<u64>,
    count: u8,
    due: Option<Instant>,
}

impl TwccRecorder {
    pub(crate) fn handle_packet(&mut self, now: Instant, sequence: u16, arrival: Duration) {
        self.arrivals.insert(self.unwrap.unwrap(sequence), arrival.as_micros() as i64);
        self.due.get_or_insert(now + TWCC_INTERVAL);
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Sends feedback about all that arrived since the last time.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        own: Ssrc,
        media: Ssrc,
        send: &mut impl FnMut(&mut [u8], usize),
    ) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = None;
        while let (Some((&first, _)), Some((&last, _))) =
            (self.arrivals.first_key_value(), self.arrivals.last_key_value())
        {
            // Gaps after the last report are part of the story; a very old base is not.
            let base =
                self.next_base.filter(|base| *base <= first && first - base < MAX_STATUSES as u64).unwrap_or(first);
            let end = last.min(base + MAX_STATUSES as u64 - 1);
            let statuses: Vec<Option<i64>> = (base..=end).map(|seq| self.arrivals.get(&seq).copied()).collect();
            let header = TwccHeader { sender: own, media, base_sequence: base as u16, feedback_count: self.count };
            let mut covered = 0;
            compound(send, |b| covered = b.twcc(&header, &statuses).unwrap_or(0));
            if covered == 0 {
                self.arrivals.clear();
                return;
            }
            self.count = self.count.wrapping_add(1);
            self.next_base = Some(base + covered as u64);
            self.arrivals = self.arrivals.split_off(&(base + covered as u64));
        }
    }
}
