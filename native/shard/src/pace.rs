//! When to send. In a quiet shard every packet leaves at once. In a busy one video waits for the end of its frame: a run of
//! packets to one subscriber is one send, sends are where the cost of a packet is (`docs/bench.md` has the figures), and no
//! receiver can do anything with half a frame. What ends a frame leaves at once.
//!
//! Audio never waits, unless an operator prefers capacity to a few milliseconds: then it waits for other speakers.
use std::time::{Duration, Instant};

use greenroom_forward::Waiting;

/// How long the first packets of a frame wait for its last: browsers spread a frame over 13 ms at 30 frames a second,
/// the last of it leaves after 10.
const VIDEO_WAIT: Duration = Duration::from_millis(12);
/// Packets for one subscriber after which more company saves next to nothing, and a slow link begins to feel the burst.
const RUN: usize = 16;
/// Packets sent in a window above which waiting pays: some 3,000 a second.
const BUSY: u64 = 300;
const WINDOW: Duration = Duration::from_millis(100);

/// What should be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// Audio, while video waits on.
    Audio,
    Everything,
}

/// Decides for one shard.
#[derive(Debug)]
pub(crate) struct Pace {
    audio_wait: Duration,
    window_start: Instant,
    sent_before: u64,
    busy: bool,
    audio_since: Option<Instant>,
    video_since: Option<Instant>,
}

impl Pace {
    /// `audio_wait`: how long audio may wait in a busy shard.
    pub(crate) fn new(now: Instant, audio_wait: Duration) -> Self {
        Pace { audio_wait, window_start: now, sent_before: 0, busy: false, audio_since: None, video_since: None }
    }

    /// What of `waiting` should be sent now. `sent`: packets sent so far.
    pub(crate) fn due(&mut self, now: Instant, waiting: Waiting, sent: u64) -> Due {
        self.measure(now, sent);
        self.audio_since = waiting.audio.then(|| self.audio_since.unwrap_or(now));
        self.video_since = waiting.video.then(|| self.video_since.unwrap_or(now));
        let passed = |deadline: Option<Instant>| deadline.is_some_and(|at| now >= at);
        let complete = waiting.repairs || waiting.frame || waiting.longest >= RUN;
        let (audio, video) = (passed(self.audio_deadline()), passed(self.video_deadline()));
        if !self.busy || complete || video || (audio && !waiting.video) {
            (self.audio_since, self.video_since) = (None, None);
            Due::Everything
        } else if audio {
            self.audio_since = None;
            Due::Audio
        } else {
            Due::Nothing
        }
    }

    /// Whether the shard is busy enough for waiting to pay.
    pub(crate) fn holds(&self) -> bool {
        self.busy
    }

    /// When what is held must go.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.audio_deadline().into_iter().chain(self.video_deadline()).min()
    }

    fn audio_deadline(&self) -> Option<Instant> {
        self.audio_since.map(|since| since + self.audio_wait)
    }

    fn video_deadline(&self) -> Option<Instant> {
        self.video_since.map(|since| since + VIDEO_WAIT)
    }

    /// Learns how busy the shard is.
    fn measure(&mut self, now: Instant, sent: u64) {
        if now < self.window_start + WINDOW {
            return;
        }
        self.busy = sent - self.sent_before >= BUSY;
        self.sent_before = sent;
        self.window_start = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Waiting = Waiting { audio: false, video: false, frame: false, longest: 0, repairs: false };
    const AUDIO: Waiting = Waiting { audio: true, longest: 1, ..NOTHING };
    const VIDEO: Waiting = Waiting { video: true, longest: 1, ..NOTHING };
    const BOTH: Waiting = Waiting { audio: true, ..VIDEO };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A shard that has sent so many packets in a window, at its end.
    fn after(sent: u64, audio_wait: Duration) -> (Pace, Instant) {
        let start = Instant::now();
        let mut pace = Pace::new(start, audio_wait);
        assert_eq!(pace.due(start + WINDOW, NOTHING, sent), Due::Everything);
        (pace, start + WINDOW)
    }

    fn busy(audio_wait: Duration) -> (Pace, Instant) {
        let start = Instant::now();
        let mut pace = Pace::new(start, audio_wait);
        assert_eq!(pace.due(start + WINDOW, NOTHING, BUSY), Due::Nothing);
        assert!(pace.holds());
        (pace, start + WINDOW)
    }

    #[test]
    fn a_quiet_shard_never_waits() {
        let (mut pace, start) = after(BUSY - 1, ms(5));
        assert!(!pace.holds());
        for packet in 0..100u64 {
            let now = start + ms(20 * packet);
            assert_eq!(pace.due(now, if packet % 2 == 0 { AUDIO } else { VIDEO }, BUSY + packet), Due::Everything);
        }
        assert_eq!(pace.deadline(), None);
    }

    #[test]
    fn audio_never_waits_and_takes_no_half_frame_along() {
        let (mut pace, now) = busy(Duration::ZERO);
        assert_eq!(pace.due(now, AUDIO, BUSY), Due::Everything);
        assert_eq!(pace.due(now, VIDEO, BUSY), Due::Nothing);
        assert_eq!(pace.due(now + ms(1), BOTH, BUSY), Due::Audio);
        assert_eq!(pace.deadline(), Some(now + VIDEO_WAIT), "the frame waits on");
        assert_eq!(pace.due(now + ms(10), Waiting { frame: true, ..BOTH }, BUSY), Due::Everything);
        assert_eq!(pace.deadline(), None);
    }

    #[test]
    fn audio_waits_as_long_as_an_operator_allows() {
        let (mut pace, now) = busy(ms(3));
        assert_eq!(pace.due(now, AUDIO, BUSY), Due::Nothing);
        assert_eq!(pace.deadline(), Some(now + ms(3)));
        assert_eq!(pace.due(now + ms(1), AUDIO, BUSY), Due::Nothing, "more audio does not make it longer");
        assert_eq!(pace.deadline(), Some(now + ms(3)));
        assert_eq!(pace.due(now + ms(2), BOTH, BUSY), Due::Nothing);
        assert_eq!(pace.due(now + ms(3), BOTH, BUSY), Due::Audio);
        assert_eq!(pace.deadline(), Some(now + ms(2) + VIDEO_WAIT));
        assert_eq!(pace.due(now + ms(4), BOTH, BUSY), Due::Nothing, "the next one waits anew");
        assert_eq!(pace.deadline(), Some(now + ms(7)));
    }

    #[test]
    fn video_waits_for_the_end_of_its_frame_or_a_bounded_time() {
        let (mut pace, now) = busy(Duration::ZERO);
        assert_eq!(pace.due(now, VIDEO, BUSY), Due::Nothing);
        assert_eq!(pace.deadline(), Some(now + VIDEO_WAIT));
        assert_eq!(pace.due(now + ms(5), VIDEO, BUSY), Due::Nothing);
        assert_eq!(pace.due(now + ms(10), Waiting { frame: true, ..VIDEO }, BUSY), Due::Everything);
        assert_eq!(pace.deadline(), None);
        assert_eq!(pace.due(now + ms(33), VIDEO, BUSY), Due::Nothing);
        assert_eq!(pace.due(now + ms(33) + VIDEO_WAIT, VIDEO, BUSY), Due::Everything);
    }

    #[test]
    fn repairs_and_long_runs_do_not_wait() {
        let (mut pace, now) = busy(ms(5));
        for waiting in [AUDIO, VIDEO] {
            assert_eq!(pace.due(now, Waiting { repairs: true, ..waiting }, BUSY), Due::Everything);
            assert_eq!(pace.due(now, Waiting { longest: RUN, ..waiting }, BUSY), Due::Everything);
            assert_eq!(pace.due(now, Waiting { longest: RUN - 1, ..waiting }, BUSY), Due::Nothing);
        }
    }
}
