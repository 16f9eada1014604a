//! Speaker levels and the keyframe throttle.

use std::time::{Duration, Instant};

use greenroom_congestion::{KeyframeThrottle, SPEAKER_INTERVAL, SpeakerChange, SpeakerLevel};
use greenroom_wire::ext::AudioLevel;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// One interval of 20 ms packets, `loud` of them at `level`, the others silent.
fn interval(s: &mut SpeakerLevel, level: u8, loud: u64) -> Option<SpeakerChange> {
    for n in 0..20 {
        let level = if n < loud { level } else { 127 };
        s.observe(AudioLevel { voice: true, level }, ms(20));
    }
    s.poll()
}

#[test]
fn levels_are_smoothed_and_rounded_up_to_eighths() {
    let mut s = SpeakerLevel::new();
    // -6 dB is 0.501: two thirds of it is 0.334, rounded up to 3/8.
    assert_eq!(interval(&mut s, 6, 20), Some(SpeakerChange { level: 0.375, active: true }));
    // 0.334 + (0.501 - 0.334) * 2/3 = 0.445.
    assert_eq!(interval(&mut s, 6, 20), Some(SpeakerChange { level: 0.5, active: true }));
    assert_eq!(interval(&mut s, 6, 20), None, "0.483 is the same eighth");
    assert_eq!(s.current(), SpeakerChange { level: 0.5, active: true });
}

#[test]
fn silence_ends_it_even_without_packets() {
    let mut s = SpeakerLevel::new();
    interval(&mut s, 0, 20);
    let changes: Vec<_> = (0..8).filter_map(|_| s.poll()).collect();
    assert_eq!(changes.last(), Some(&SpeakerChange { level: 0.0, active: false }));
    assert!(changes.windows(2).all(|w| w[1].level < w[0].level));
}

#[test]
fn short_or_quiet_sounds_do_not_count() {
    for (level, loud) in [(10, 7), (36, 20), (127, 20)] {
        let mut s = SpeakerLevel::new();
        assert_eq!(interval(&mut s, level, loud), None, "level {level}, {loud} packets");
    }
    assert!(interval(&mut SpeakerLevel::new(), 10, 8).is_some(), "40 % of the interval is enough");
    assert_eq!(SPEAKER_INTERVAL, ms(400));
}

#[test]
fn keyframe_requests_are_merged() {
    let t0 = Instant::now();
    let mut k = KeyframeThrottle::new(KeyframeThrottle::LOW);
    assert!(k.request(t0));
    assert_eq!(k.poll_timeout(), None);
    assert!(!k.request(t0 + ms(100)));
    assert!(!k.request(t0 + ms(200)));
    assert_eq!(k.poll_timeout(), Some(t0 + ms(500)));
    assert!(!k.poll_request(t0 + ms(499)));
    assert!(k.poll_request(t0 + ms(500)));
    assert!(!k.poll_request(t0 + ms(2000)), "asked for once");
}

#[test]
fn a_keyframe_answers_those_who_wait() {
    let t0 = Instant::now();
    let mut k = KeyframeThrottle::new(KeyframeThrottle::HIGH);
    assert!(k.request(t0));
    assert!(!k.request(t0 + ms(10)));
    k.keyframe_received();
    assert_eq!(k.poll_timeout(), None);
    assert!(k.request(t0 + ms(1000)));
}
