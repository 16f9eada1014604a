//! When arrival feedback is due and what it covers.

use std::time::{Duration, Instant};

use greenroom_congestion::TwccRecorder;
use greenroom_wire::Ssrc;
use greenroom_wire::rtcp::{self, Builder, Packet};

const MEDIA: Ssrc = Ssrc(2);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Statuses of all feedback due at `now`: (base, received flags, feedback count) per packet.
fn feedback(recorder: &mut TwccRecorder, now: Instant) -> Vec<(u16, Vec<bool>, u8)> {
    let mut all = Vec::new();
    loop {
        let mut buf = [0; TwccRecorder::MAX_FEEDBACK_LEN];
        let mut builder = Builder::new(&mut buf);
        if !recorder.poll_feedback(now, &mut builder).unwrap() {
            return all;
        }
        let Some(Ok(Packet::Twcc(twcc))) = rtcp::parse(builder.as_bytes()).unwrap().next() else { panic!("no TWCC") };
        assert_eq!((twcc.sender, twcc.media), (Ssrc(1), MEDIA));
        let received = twcc.statuses().map(|(_, delta)| delta.is_some()).collect();
        all.push((twcc.base_sequence, received, twcc.feedback_count));
    }
}

#[test]
fn every_100_ms_while_packets_arrive() {
    let t0 = Instant::now();
    let mut r = TwccRecorder::new(Ssrc(1));
    assert_eq!(r.poll_timeout(), None);
    r.record(t0, MEDIA, 5, false);
    r.record(t0 + ms(10), MEDIA, 7, false);
    assert_eq!(r.poll_timeout(), Some(t0 + ms(100)));
    assert!(feedback(&mut r, t0 + ms(99)).is_empty());
    assert_eq!(feedback(&mut r, t0 + ms(100)), [(5, vec![true, false, true], 0)]);
    assert_eq!(r.poll_timeout(), None, "nothing new, nothing due");
    r.record(t0 + ms(130), MEDIA, 9, false);
    assert_eq!(r.poll_timeout(), Some(t0 + ms(200)));
    assert_eq!(feedback(&mut r, t0 + ms(200)), [(8, vec![false, true], 1)], "the loss of 8 is told");
}

#[test]
fn after_50_ms_with_a_marker() {
    let t0 = Instant::now();
    let mut r = TwccRecorder::new(Ssrc(1));
    r.record(t0, MEDIA, 65535, false);
    r.record(t0 + ms(1), MEDIA, 0, true);
    assert_eq!(r.poll_timeout(), Some(t0 + ms(50)));
    assert_eq!(feedback(&mut r, t0 + ms(50)), [(65535, vec![true, true], 0)]);
    r.record(t0 + ms(60), MEDIA, 1, false);
    assert_eq!(r.poll_timeout(), Some(t0 + ms(150)), "the marker counts once");
}

#[test]
fn at_once_with_100_held() {
    let t0 = Instant::now();
    let mut r = TwccRecorder::new(Ssrc(1));
    for n in 0..99 {
        r.record(t0, MEDIA, n, false);
    }
    assert!(feedback(&mut r, t0).is_empty());
    r.record(t0, MEDIA, 99, false);
    assert_eq!(feedback(&mut r, t0), [(0, vec![true; 100], 0)]);
}

#[test]
fn late_packet_is_reported_by_reaching_back() {
    let t0 = Instant::now();
    let mut r = TwccRecorder::new(Ssrc(1));
    for n in [10, 12, 13] {
        r.record(t0, MEDIA, n, false);
    }
    assert_eq!(feedback(&mut r, t0 + ms(100)), [(10, vec![true, false, true, true], 0)]);
    r.record(t0 + ms(120), MEDIA, 11, false);
    r.record(t0 + ms(120), MEDIA, 11, false);
    assert_eq!(feedback(&mut r, t0 + ms(200)), [(11, vec![true, true, true], 1)]);
}

#[test]
fn long_silence_splits_feedback() {
    let t0 = Instant::now();
    let mut r = TwccRecorder::new(Ssrc(1));
    r.record(t0, MEDIA, 1, false);
    // Not polled for 20 s: the step does not fit one packet.
    r.record(t0 + ms(20_000), MEDIA, 2, false);
    assert_eq!(feedback(&mut r, t0 + ms(20_000)), [(1, vec![true], 0), (2, vec![true], 1)]);
}

#[test]
fn jumps_stay_bounded() {
    let t0 = Instant::now();
    let mut r = TwccRecorder::new(Ssrc(1));
    r.record(t0, MEDIA, 0, false);
    r.record(t0, MEDIA, 1, false);
    r.record(t0, MEDIA, 20_000, false);
    let got = feedback(&mut r, t0 + ms(100));
    let last = got.last().unwrap();
    assert_eq!(last.1.last(), Some(&true));
    assert!(got.iter().map(|(_, statuses, _)| statuses.len()).sum::<usize>() <= 512);
    // Far behind: cannot be told any more.
    r.record(t0, MEDIA, 18_000, false);
    assert_eq!(r.poll_timeout(), None);
}

#[test]
fn no_space_loses_nothing() {
    let t0 = Instant::now();
    let mut r = TwccRecorder::new(Ssrc(1));
    r.record(t0, MEDIA, 3, false);
    let mut small = [0; 8];
    assert!(r.poll_feedback(t0 + ms(100), &mut Builder::new(&mut small)).is_err());
    assert_eq!(feedback(&mut r, t0 + ms(100)), [(3, vec![true], 0)]);
}
