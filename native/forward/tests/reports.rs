//! RTCP by the clock: receiver reports, sender reports on the publisher's clock, transport-wide feedback, speakers.
use std::time::Duration;

use crate::world::*;
use greenroom_forward::{Command, Event, RoomId, TrackId};
use greenroom_wire::Ssrc;
use greenroom_wire::rtcp::{NtpTime, ReportBlock, SenderInfo};

fn call(seed: u64) -> (World, usize, usize, Source) {
    let mut world = World::new(seed);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![audio_receiver(7, "0", &[(500, 0)])]);
    world.subscribe(bob, vec![audio_sender(7, "3", 9000)]);
    (world, alice, bob, Source::new(500, 111, &[]))
}

fn speak(world: &mut World, client: usize, source: &mut Source, packets: usize) {
    for _ in 0..packets {
        source.send(&mut world.clients[client], false, &[1; 80]);
        source.timestamp = source.timestamp.wrapping_add(960);
        world.run(Duration::from_millis(20));
    }
}

#[test]
fn publishers_get_receiver_reports_every_second() {
    let (mut world, alice, _, mut source) = call(1);
    speak(&mut world, alice, &mut source, 25);
    source.index += 25;
    speak(&mut world, alice, &mut source, 25);
    world.run(Duration::from_secs(2));
    let blocks: Vec<ReportBlock> = world.clients[alice]
        .take_feedback()
        .into_iter()
        .filter_map(|p| if let Rtcp::Receiver(blocks) = p { blocks.first().copied() } else { None })
        .collect();
    assert!((2..=4).contains(&blocks.len()), "{blocks:?}");
    let last = blocks.last().unwrap();
    assert_eq!((last.ssrc, last.cumulative_lost), (Ssrc(500), 25));
    assert!(blocks.iter().any(|b| b.fraction_lost > 60));
}

#[test]
fn subscribers_get_sender_reports_on_the_publishers_clock_and_give_the_round_trip() {
    let (mut world, alice, bob, mut source) = call(2);
    speak(&mut world, alice, &mut source, 5);
    let info = SenderInfo {
        ssrc: Ssrc(500),
        ntp: NtpTime(77 << 32),
        rtp_timestamp: source.timestamp,
        packets: 5,
        octets: 400,
    };
    world.clients[alice].send_rtcp(|b| b.sender_report(&info, &[]).map(|_| ()));
    let reported = world.now + Duration::from_millis(10);
    speak(&mut world, alice, &mut source, 200);
    let feedback = std::mem::take(&mut world.clients[bob].rtcp);
    let reports: Vec<_> = feedback
        .iter()
        .filter_map(|(at, p)| if let Rtcp::Sender(info) = p { Some((*at, *info)) } else { None })
        .collect();
    assert!(!reports.is_empty());
    let (at, report) = reports[0];
    assert_eq!(report.ssrc, Ssrc(9000));
    let elapsed = (at - Duration::from_millis(10) - reported).as_secs_f64();
    let wall = (report.ntp.0 - (77 << 32)) as f64 / (1u64 << 32) as f64;
    assert!((wall - elapsed).abs() < 0.002, "{wall} {elapsed}");
    let media = f64::from(report.rtp_timestamp.wrapping_sub(source.timestamp.wrapping_sub(200 * 960))) / 48_000.0;
    assert!((media - elapsed).abs() < 0.002, "{media} {elapsed}");
    let block = ReportBlock {
        ssrc: Ssrc(9000),
        last_sr: report.ntp.middle(),
        delay_since_last_sr: 65_536 / 10,
        ..ReportBlock::default()
    };
    // The report reached bob long ago; say that it was held all the time but for the network.
    let held = world.now - at;
    let block = ReportBlock { delay_since_last_sr: (held.as_micros() as u64 * 65_536 / 1_000_000) as u32, ..block };
    world.clients[bob].send_rtcp(|b| b.receiver_report(Ssrc(1), &[block]).map(|_| ()));
    world.run(Duration::from_secs(2));
    let rtt = world.events.iter().rev().find_map(|e| match e {
        Event::Stats(peer, stats) if peer.0 == bob as u64 => stats.rtt_ms,
        _ => None,
    });
    assert!((rtt.unwrap() - 20.0).abs() < 1.0, "{rtt:?}");
}

#[test]
fn transport_wide_feedback_tells_what_came() {
    let (mut world, alice, _, mut source) = call(3);
    source.transport_cc = true;
    speak(&mut world, alice, &mut source, 20);
    source.index += 1;
    speak(&mut world, alice, &mut source, 20);
    world.run(Duration::from_secs(1));
    let mut seen: Vec<(u16, bool)> = Vec::new();
    for packet in world.clients[alice].take_feedback() {
        if let Rtcp::Twcc(statuses) = packet {
            seen.extend(statuses);
        }
    }
    let expected: Vec<(u16, bool)> = (100..141).map(|n| (n, n != 120)).collect();
    assert_eq!(seen, expected);
}

#[test]
fn speakers_are_told_when_they_change() {
    let (mut world, alice, _, mut source) = call(4);
    let mut say = |world: &mut World, level: u8, packets: usize| {
        source.extensions = vec![(1, vec![level])];
        speak(world, alice, &mut source, packets);
        let events = world.take_events();
        events
            .into_iter()
            .filter_map(|e| if let Event::Speakers { room, changes } = e { Some((room, changes)) } else { None })
            .collect::<Vec<_>>()
    };
    let loud = say(&mut world, 15, 60);
    assert!(
        !loud.is_empty()
            && loud.iter().all(|(room, changes)| *room == RoomId(1) && changes[0].0 == TrackId(7) && changes[0].2)
    );
    assert!(say(&mut world, 15, 60).len() <= 1, "nothing new");
    let quiet = say(&mut world, 120, 100);
    assert!(!quiet.last().unwrap().1[0].2);
}

#[test]
fn delayed_key_frame_requests_of_many_tracks_all_go_out() {
    const TRACKS: u32 = 20;
    let mut world = World::new(9);
    let alice = world.join();
    let mut sources: Vec<Source> = (0..TRACKS).map(|n| Source::new(500 + n, 96, &[])).collect();
    let receivers = (0..TRACKS).map(|n| video_receiver(u64::from(n), &n.to_string(), &[(500 + n, 0)], &[]));
    world.publish(alice, receivers.collect());
    for source in &mut sources {
        source.send_vp8(&mut world.clients[alice], true, 1);
    }
    world.run(Duration::from_millis(50));
    world.clients[alice].take_feedback();
    // The second request comes too soon after the first and is held back.
    for _ in 0..2 {
        for track in 0..TRACKS {
            world.command(Command::RequestKeyframe { track: TrackId(track.into()) });
        }
    }
    world.run(Duration::from_secs(2));
    let feedback = world.clients[alice].take_feedback();
    for ssrc in 500..500 + TRACKS {
        assert_eq!(feedback.iter().filter(|packet| **packet == Rtcp::Pli(ssrc)).count(), 2, "{ssrc}");
    }
}
