//! Simulcast: recognising layers, following the highest live one, switching at key frames with continuous numbers.
use std::time::Duration;

use crate::world::*;
use greenroom_forward::{Event, TrackId};
use greenroom_wire::Ssrc;
use greenroom_wire::rtcp::{NtpTime, SenderInfo};
use greenroom_wire::vp8::Descriptor;

const FRAME: Duration = Duration::from_micros(33_333);

struct Call {
    world: World,
    alice: usize,
    bob: usize,
    layers: Vec<Source>,
}

/// Alice publishes layers q, h, f that only rid tells; bob follows the highest.
fn call(seed: u64) -> Call {
    let mut world = World::new(seed);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[], &[("q", 0), ("h", 1), ("f", 2)])]);
    world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
    let layers = ["q", "h", "f"]
        .iter()
        .enumerate()
        .map(|(i, rid)| Source::new(500 + i as u32, 96, &[(4, "1"), (10, rid)]))
        .collect();
    Call { world, alice, bob, layers }
}

impl Call {
    /// Frames of these layers; the ones in `keys` begin with a key frame.
    fn frames(&mut self, count: usize, live: &[usize], keys: &[usize]) {
        for frame in 0..count {
            for layer in live {
                let key = frame == 0 && keys.contains(layer);
                self.layers[*layer].send_vp8(&mut self.world.clients[self.alice], key, 2);
            }
            self.world.run(FRAME);
        }
    }

    fn asked(&mut self) -> Vec<u32> {
        self.world.run(Duration::from_millis(30));
        let feedback = self.world.clients[self.alice].take_feedback();
        feedback.into_iter().filter_map(|p| if let Rtcp::Pli(ssrc) = p { Some(ssrc) } else { None }).collect()
    }

    fn received(&self) -> Vec<&ReceivedRtp> {
        self.world.clients[self.bob].stream(9000)
    }

    fn assert_continuous(&self) {
        let packets = self.received();
        for pair in packets.windows(2) {
            assert_eq!(pair[1].index, pair[0].index + 1);
            let step = pair[1].header.timestamp.wrapping_sub(pair[0].header.timestamp);
            let elapsed = ((pair[1].at - pair[0].at).as_micros() * 90 / 1000) as u32;
            assert!(step.abs_diff(elapsed) <= 9_000, "timestamp moves by {step} in {elapsed}");
            let [before, after] = [pair[0], pair[1]].map(|p| Descriptor::parse(&p.payload).unwrap());
            let pictures = after.picture_id.unwrap().value().wrapping_sub(before.picture_id.unwrap().value()) & 0x7fff;
            assert_eq!(pictures, u16::from(step > 0), "picture ids count frames");
        }
    }
}

#[test]
fn layers_are_recognised_by_rid_and_then_by_ssrc() {
    let mut call = call(1);
    call.frames(3, &[0, 1, 2], &[0, 1, 2]);
    for layer in &mut call.layers {
        layer.extensions.clear();
    }
    call.frames(3, &[0, 1, 2], &[]);
    let mut tracks = call.world.take_events();
    tracks.retain(|e| matches!(e, Event::Track { .. }));
    let expected = |layer| Event::Track { track: TrackId(7), layer, ssrc: 500 + u32::from(layer), pt: 96 };
    assert_eq!(tracks, [expected(0), expected(1), expected(2)]);
    assert_eq!(call.world.shard.counters().dropped_ssrc, 0);
    call.assert_continuous();
}

#[test]
fn nothing_is_forwarded_before_a_key_frame() {
    let mut call = call(2);
    call.frames(5, &[0, 1, 2], &[]);
    assert!(call.received().is_empty());
    assert!(!call.asked().is_empty(), "a key frame was asked for");
    call.frames(5, &[0, 1, 2], &[0, 1, 2]);
    let first = call.received()[0];
    assert!(Descriptor::parse(&first.payload).unwrap().keyframe);
}

#[test]
fn the_highest_live_layer_is_followed_up_and_down() {
    let mut call = call(3);
    call.frames(10, &[0], &[0]);
    assert_eq!(call.received().len(), 20);
    call.frames(2, &[0, 1], &[]);
    assert!(call.asked().contains(&501), "the new layer's key frame is asked for");
    call.frames(10, &[0, 1], &[1]);
    call.frames(10, &[0, 1, 2], &[2]);
    // The highest layer ends. After a while a key frame of the next one is asked for, and taken.
    call.asked();
    call.frames(90, &[0, 1], &[]);
    assert!(call.asked().contains(&501));
    let before = call.received().len();
    call.frames(10, &[0, 1], &[1]);
    assert!(call.received().len() > before + 15);
    call.assert_continuous();
}

#[test]
fn a_subscriber_gets_no_more_than_it_wants() {
    let mut call = call(4);
    let mut sender = video_sender(7, "4", 9000, 9001);
    sender.max_layer = 1;
    call.world.subscribe(call.bob, vec![sender.clone()]);
    call.frames(10, &[0, 1, 2], &[0, 1, 2]);
    let (h, f) = (call.layers[1].timestamp, call.layers[2].timestamp);
    let newest = call.received().last().unwrap().header.timestamp;
    assert!(h.wrapping_sub(newest) < 10_000 || f.wrapping_sub(newest) > 10_000);
    call.asked();
    sender.max_layer = 2;
    call.world.subscribe(call.bob, vec![sender]);
    assert!(call.asked().contains(&502), "a changed wish is one for a key frame");
    call.frames(5, &[0, 1, 2], &[2]);
    call.assert_continuous();
}

#[test]
fn sender_reports_align_the_clocks_of_layers() {
    let mut call = call(5);
    call.frames(5, &[0, 1], &[0, 1]);
    // Both layers say which of their timestamps belongs to one moment: a second ago.
    let (low, high) = (call.layers[1].timestamp, call.layers[2].timestamp);
    call.layers[2].send_vp8(&mut call.world.clients[call.alice], false, 1);
    call.world.run(FRAME);
    for (ssrc, timestamp) in [(501, low), (502, high)] {
        let info =
            SenderInfo { ssrc: Ssrc(ssrc), ntp: NtpTime(1 << 40), rtp_timestamp: timestamp, packets: 1, octets: 1 };
        call.world.clients[call.alice].send_rtcp(|b| b.sender_report(&info, &[]).map(|_| ()));
    }
    call.world.run(FRAME);
    let shift = call.received().last().unwrap().header.timestamp.wrapping_sub(low.wrapping_sub(3000));
    let expected = call.layers[2].timestamp.wrapping_sub(high).wrapping_add(low).wrapping_add(shift);
    call.frames(1, &[2], &[2]);
    call.world.run(FRAME);
    assert_eq!(call.received().last().unwrap().header.timestamp, expected);
}

#[test]
fn key_frame_requests_are_throttled() {
    let mut call = call(6);
    call.frames(30, &[0, 1, 2], &[0, 1, 2]);
    call.asked();
    for _ in 0..20 {
        call.world.clients[call.bob].send_rtcp(|b| b.pli(Ssrc(1), Ssrc(9000)).map(|_| ()));
        call.world.run(Duration::from_millis(5));
    }
    assert_eq!(call.asked(), [502]);
    assert_eq!(call.world.shard.counters().plis_in, 20);
}

#[test]
fn what_was_lost_before_a_switch_still_finds_its_place() {
    let mut call = call(7);
    call.frames(5, &[0, 1, 2], &[0, 1]);
    let (fields, index) = call.layers[1].next(false);
    let lost = vp8(call.layers[1].picture, false, true, 500);
    // One more than the source's: a frame of the lowest layer came before.
    let picture = call.layers[1].picture;
    call.frames(1, &[0, 1, 2], &[]);
    let before = call.received().len();
    call.frames(3, &[0, 1, 2], &[2]);
    let recovered = call.world.clients[call.alice].seal_rtp(&fields, index, &[(4, b"1"), (10, b"h")], &lost);
    call.world.inject(call.alice, recovered);
    call.world.run(FRAME);
    let packets = call.received();
    assert_eq!(packets.len(), before + 2 + 6 + 1, "two of the old layer, six of the new, and the late one");
    let late = packets[packets.len() - 1];
    assert_eq!(Descriptor::parse(&late.payload).unwrap().picture_id.unwrap().value(), picture + 1);
    let mut numbers: Vec<u64> = packets.iter().map(|p| p.index).collect();
    numbers.sort_unstable();
    assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "every number once, and no hole: {numbers:?}");
}
