//! When frames are to be heard or shown: RTP times of several streams on this machine's monotonic clock.
//!
//! A stream begins at the arrival of its first frame and goes on by its RTP clock. Sender reports say which instant of the
//! sender's clock an RTP time is, so that sound and pictures of one participant can be set against each other. The sender's
//! clock itself is not used: the first report of a participant ties it to the timeline, and later ones, of all its streams,
//! move a stream against that. Moves are gradual, so that neither time nor pictures jump.

use std::sync::{Arc, Mutex};

use crate::lock;

/// A stream further than this from the arrival of its frames began anew, or its clock was set.
const TOO_FAR_US: i64 = 5_000_000;
/// A larger correction is made at once; it would take too long otherwise.
const STEP_US: i64 = 500_000;
/// Corrections take ten times as long as what they correct.
const SLEW: i64 = 10;

/// Of one participant: how far the timeline is ahead of its clock, and since when that holds.
#[derive(Debug, Default)]
pub struct GroupClock(Mutex<Option<Offset>>);

#[derive(Debug, Clone, Copy)]
struct Offset {
    us: i64,
    since_us: i64,
}

/// What a sender report says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderTime {
    pub rtp: u32,
    /// On the sender's clock.
    pub at_us: i64,
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    rtp: u64,
    us: i64,
}

/// Of one stream.
#[derive(Debug)]
pub struct Timeline {
    clock_rate: i64,
    group: Arc<GroupClock>,
    anchor: Option<Anchor>,
    correction_us: i64,
    last_rtp: u64,
    last_us: i64,
    /// The newest report, and the arrival of the first frame that came after it.
    report: Option<(SenderTime, i64)>,
}

/// Where a frame belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    pub us: i64,
    /// What came before has no known distance to it.
    pub anew: bool,
}

impl Timeline {
    pub fn new(clock_rate: u32, group: Arc<GroupClock>) -> Self {
        Self {
            clock_rate: i64::from(clock_rate),
            group,
            anchor: None,
            correction_us: 0,
            last_rtp: 0,
            last_us: i64::MIN,
            report: None,
        }
    }

    /// `rtp` is extended; `arrival_us` is on the timeline. Frames come in their order.
    pub fn place(&mut self, rtp: u64, arrival_us: i64, report: Option<SenderTime>) -> Placed {
        // A frame that was overtaken on the way may know an older report.
        let is_newer =
            |report: &SenderTime| self.report.is_none_or(|(known, since_us)| known != *report && arrival_us > since_us);
        if let Some(report) = report.filter(is_newer) {
            self.report = Some((report, arrival_us));
        }
        let mut anew = false;
        let anchor = match self.anchor {
            Some(anchor) if self.is_near(self.at(anchor, rtp).saturating_add(self.correction_us), arrival_us) => anchor,
            known => {
                anew = known.is_some();
                self.correction_us = 0;
                self.last_rtp = rtp;
                *self.anchor.insert(Anchor { rtp, us: arrival_us })
            }
        };
        let base = self.at(anchor, rtp);
        if let Some(target) = self.by_report(rtp, base + self.correction_us, arrival_us) {
            let missing = target - base - self.correction_us;
            let elapsed = self.at(anchor, rtp) - self.at(anchor, self.last_rtp);
            let most = elapsed.max(0) / SLEW;
            self.correction_us += if missing.abs() > STEP_US { missing } else { missing.clamp(-most, most) };
        }
        self.last_rtp = rtp;
        self.last_us = (base + self.correction_us).max(self.last_us.saturating_add(1));
        Placed { us: self.last_us, anew }
    }

    fn at(&self, anchor: Anchor, rtp: u64) -> i64 {
        let ticks = i128::from(rtp) - i128::from(anchor.rtp);
        let us = ticks * 1_000_000 / i128::from(self.clock_rate);
        anchor.us.saturating_add(i64::try_from(us).unwrap_or(i64::MAX / 4))
    }

    fn is_near(&self, a: i64, b: i64) -> bool {
        a.saturating_sub(b).saturating_abs() <= TOO_FAR_US
    }

    /// Where the reports put a frame that is at `now_us` without them.
    fn by_report(&self, rtp: u64, now_us: i64, arrival_us: i64) -> Option<i64> {
        let (report, since_us) = self.report?;
        let ticks = i64::from((rtp as u32).wrapping_sub(report.rtp) as i32);
        let sender_us = report.at_us.checked_add(ticks * 1_000_000 / self.clock_rate)?;
        let mut group = lock(&self.group.0);
        let target = group.and_then(|offset| sender_us.checked_add(offset.us));
        if let Some(target) = target.filter(|target| self.is_near(*target, arrival_us)) {
            return Some(target);
        }
        // The first report of the participant, or its clock was set: this report ties it anew, unless it is the older one.
        if group.is_none_or(|offset| since_us > offset.since_us) {
            *group = Some(Offset { us: now_us.checked_sub(sender_us)?, since_us: arrival_us });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn streams() -> (Timeline, Timeline) {
        let group = Arc::new(GroupClock::default());
        (Timeline::new(48_000, group.clone()), Timeline::new(90_000, group))
    }

    #[test]
    fn by_arrival_and_rtp_clock() {
        let (mut sound, _) = streams();
        assert_eq!(sound.place(1000, 7 * SECOND, None), Placed { us: 7 * SECOND, anew: false });
        // Late by 300 ms, which does not matter.
        assert_eq!(sound.place(1960, 7 * SECOND + 320_000, None).us, 7 * SECOND + 20_000);
        assert_eq!(sound.place(1000 + 48_000, 8 * SECOND, None).us, 8 * SECOND);
    }

    #[test]
    fn reports_bring_streams_together() {
        let (mut sound, mut picture) = streams();
        // Both begin at second 100 of the sender's clock; pictures take 80 ms longer to arrive.
        let spoken = SenderTime { rtp: 5_000, at_us: 100 * SECOND };
        let shown = SenderTime { rtp: u32::MAX - 100, at_us: 100 * SECOND };
        let mut apart = Vec::new();
        for n in 0..150i64 {
            let at = n * SECOND / 50;
            let heard = sound.place(5_000 + n as u64 * 960, at, (n > 20).then_some(spoken)).us;
            let seen = picture.place(0xffff_ff9b + n as u64 * 1800, at + 80_000, (n > 30).then_some(shown)).us;
            assert!(heard >= at && seen >= at);
            apart.push(seen - heard);
        }
        assert_eq!(apart[..30], [80_000; 30]);
        assert!(apart.windows(2).all(|w| w[1] <= w[0] && w[0] - w[1] <= 2_000), "{apart:?}");
        assert_eq!(apart[149], 0);
    }

    #[test]
    fn another_source_begins_at_its_arrival() {
        let (mut sound, _) = streams();
        sound.place(1000, SECOND, Some(SenderTime { rtp: 1000, at_us: 0 }));
        let placed = sound.place(900_000_000, 2 * SECOND, None);
        assert_eq!(placed, Placed { us: 2 * SECOND, anew: true });
        assert!(!sound.place(900_000_960, 2 * SECOND + 20_000, None).anew);
    }

    #[test]
    fn a_sender_that_sets_its_clock() {
        let (mut sound, mut picture) = streams();
        let report =
            |rate: i64, n: i64, ahead: i64| SenderTime { rtp: (n * rate / 50) as u32, at_us: n * SECOND / 50 + ahead };
        let mut last = (0, 0);
        for n in 0..500i64 {
            let at = n * SECOND / 50 + 1;
            // An hour ahead from the third second on; pictures hear of it a second later.
            let heard = sound.place(n as u64 * 960, at, Some(report(48_000, n, 3600 * SECOND * i64::from(n > 150)))).us;
            let seen =
                picture.place(n as u64 * 1800, at, Some(report(90_000, n, 3600 * SECOND * i64::from(n > 200)))).us;
            assert!((heard - at).abs() < 100 && (seen - at).abs() < 100, "{n}: {} {}", heard - at, seen - at);
            assert!(heard > last.0 && seen > last.1);
            last = (heard, seen);
        }
    }

    /// Frames that overtook each other know older and newer reports.
    #[test]
    fn an_older_report_does_not_come_back() {
        let (mut sound, mut picture) = streams();
        picture.place(0, 0, Some(SenderTime { rtp: 0, at_us: 0 }));
        let old = SenderTime { rtp: 0, at_us: 0 };
        let new = SenderTime { rtp: 48_000, at_us: SECOND + 20_000 };
        sound.place(0, 0, Some(old));
        sound.place(960, 40_000, Some(new));
        // The report came before the one and after the other, which was sent later.
        sound.place(1920, 39_000, Some(old));
        assert_eq!(sound.report, Some((new, 40_000)));
    }

    #[test]
    fn nonsense_is_survived() {
        let (mut sound, _) = streams();
        let mut last = i64::MIN;
        for (n, rtp) in [0, u64::MAX, 5, u64::MAX / 2, 1 << 40, 0].into_iter().enumerate() {
            for at_us in [i64::MIN, 0, i64::MAX] {
                let placed = sound.place(rtp, n as i64 * SECOND, Some(SenderTime { rtp: rtp as u32, at_us }));
                assert!(placed.us > last);
                last = placed.us;
            }
        }
    }
}
