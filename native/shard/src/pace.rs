//! When to send. In a quiet shard every packet leaves at once. In a busy one packets wait for company, because a run of
//! packets to one subscriber is one send, and sends are where the cost of a packet is (`docs/bench.md` has the figures).
//!
//! Video waits for the end of its frame: until then no receiver can do anything with it, and what ends a frame leaves at
//! once. Audio waits for other speakers, much shorter.
use std::time::{Duration, Instant};

use greenroom_forward::Waiting;

/// How long the first packets of a frame wait for its last: browsers spread a frame over 13 ms at 30 frames a second,
/// the last of it leaves after 10.
const VIDEO_WAIT: Duration = Duration::from_millis(12);
/// How long audio waits: a tenth of an audio frame, and half as much again where thousands of packets pay for it.
const AUDIO_WAIT: Duration = Duration::from_millis(2);
const AUDIO_WAIT_VERY_BUSY: Duration = Duration::from_millis(3);
/// Packets for one subscriber after which more company saves next to nothing, and a slow link begins to feel the burst.
const RUN: usize = 16;
/// Packets sent in a window above which waiting pays: some 3,000 and 10,000 a second.
const BUSY: u64 = 300;
const VERY_BUSY: u64 = 1000;
const WINDOW: Duration = Duration::from_millis(100);

/// How long each kind may wait.
#[derive(Debug, Clone, Copy)]
struct Patience {
    audio: Duration,
    video: Duration,
}

/// Decides for one shard.
#[derive(Debug)]
pub(crate) struct Pace {
    window_start: Instant,
    sent_before: u64,
    /// `None`: the shard is quiet, and nothing waits.
    patience: Option<Patience>,
    audio_since: Option<Instant>,
    video_since: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Pace { window_start: now, sent_before: 0, patience: None, audio_since: None, video_since: None }
    }

    /// Whether what waits should be sent now. `sent`: packets sent so far.
    pub(crate) fn is_due(&mut self, now: Instant, waiting: Waiting, sent: u64) -> bool {
        self.measure(now, sent);
        self.audio_since = waiting.audio.then(|| self.audio_since.unwrap_or(now));
        self.video_since = waiting.video.then(|| self.video_since.unwrap_or(now));
        let complete = waiting.repairs || waiting.frame || waiting.longest >= RUN;
        // Without a deadline either nothing waits or the shard is quiet.
        let due = complete || self.deadline().is_none_or(|deadline| now >= deadline);
        if due {
            (self.audio_since, self.video_since) = (None, None);
        }
        due
    }

    /// Whether the shard is busy enough for waiting to pay.
    pub(crate) fn holds(&self) -> bool {
        self.patience.is_some()
    }

    /// When what is held must go.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let patience = self.patience?;
        let audio = self.audio_since.map(|since| since + patience.audio);
        let video = self.video_since.map(|since| since + patience.video);
        audio.into_iter().chain(video).min()
    }

    /// Learns how busy the shard is.
    fn measure(&mut self, now: Instant, sent: u64) {
        if now < self.window_start + WINDOW {
            return;
        }
        let audio = match sent - self.sent_before {
            VERY_BUSY.. => Some(AUDIO_WAIT_VERY_BUSY),
            BUSY.. => Some(AUDIO_WAIT),
            _ => None,
        };
        self.patience = audio.map(|audio| Patience { audio, video: VIDEO_WAIT });
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

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A shard that has sent so many packets in a window, at its end.
    fn after(sent: u64) -> (Pace, Instant) {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!(pace.is_due(start + WINDOW, NOTHING, sent));
        (pace, start + WINDOW)
    }

    #[test]
    fn a_quiet_shard_never_waits() {
        let (mut pace, start) = after(BUSY - 1);
        assert!(!pace.holds());
        for packet in 0..100u64 {
            let now = start + ms(20 * packet);
            assert!(pace.is_due(now, if packet % 2 == 0 { AUDIO } else { VIDEO }, BUSY + packet));
        }
        assert_eq!(pace.deadline(), None);
    }

    #[test]
    fn audio_waits_a_bounded_time() {
        for (sent, wait) in [(BUSY, AUDIO_WAIT), (VERY_BUSY, AUDIO_WAIT_VERY_BUSY)] {
            let (mut pace, now) = after(sent);
            assert!(pace.holds());
            assert!(!pace.is_due(now, AUDIO, sent));
            assert_eq!(pace.deadline(), Some(now + wait));
            assert!(!pace.is_due(now + wait / 2, AUDIO, sent), "more audio does not make it longer");
            assert_eq!(pace.deadline(), Some(now + wait));
            assert!(pace.is_due(now + wait, AUDIO, sent));
            assert_eq!(pace.deadline(), None);
            assert!(!pace.is_due(now + wait, AUDIO, sent), "the next one waits anew");
        }
    }

    #[test]
    fn video_waits_for_the_end_of_its_frame_or_a_bounded_time() {
        let (mut pace, now) = after(BUSY);
        assert!(!pace.is_due(now, VIDEO, BUSY));
        assert_eq!(pace.deadline(), Some(now + VIDEO_WAIT));
        assert!(!pace.is_due(now + ms(5), VIDEO, BUSY));
        assert!(pace.is_due(now + ms(10), Waiting { frame: true, ..VIDEO }, BUSY));
        assert_eq!(pace.deadline(), None);
        assert!(!pace.is_due(now + ms(33), VIDEO, BUSY));
        assert!(pace.is_due(now + ms(33) + VIDEO_WAIT, VIDEO, BUSY));
    }

    #[test]
    fn audio_does_not_wait_for_video() {
        let (mut pace, now) = after(BUSY);
        assert!(!pace.is_due(now, VIDEO, BUSY));
        let both = Waiting { audio: true, ..VIDEO };
        assert!(!pace.is_due(now + ms(1), both, BUSY));
        assert_eq!(pace.deadline(), Some(now + ms(1) + AUDIO_WAIT));
        assert!(pace.is_due(now + ms(1) + AUDIO_WAIT, both, BUSY));
        assert!(!pace.is_due(now + ms(11), both, BUSY));
        assert_eq!(pace.deadline(), Some(now + ms(11) + AUDIO_WAIT));
    }

    #[test]
    fn repairs_and_long_runs_do_not_wait() {
        let (mut pace, now) = after(VERY_BUSY);
        for waiting in [AUDIO, VIDEO] {
            assert!(pace.is_due(now, Waiting { repairs: true, ..waiting }, VERY_BUSY));
            assert!(pace.is_due(now, Waiting { longest: RUN, ..waiting }, VERY_BUSY));
            assert!(!pace.is_due(now, Waiting { longest: RUN - 1, ..waiting }, VERY_BUSY));
            assert!(pace.is_due(now, NOTHING, VERY_BUSY), "nothing waits any more");
        }
    }
}
