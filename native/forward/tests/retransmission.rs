//! Lost packets: asked for upstream, answered downstream, with RTX and without.
use std::time::Duration;

use crate::world::*;
use greenroom_wire::Ssrc;

const FRAME: Duration = Duration::from_micros(33_333);

fn video_call(seed: u64, rtx_ssrc: u32) -> (World, usize, usize, Source) {
    let mut world = World::new(seed);
    let (alice, bob) = (world.join(), world.join());
    world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
    world.subscribe(bob, vec![video_sender(7, "4", 9000, rtx_ssrc)]);
    (world, alice, bob, Source::new(500, 96, &[]))
}

#[test]
fn a_subscriber_gets_rtx_for_what_it_missed() {
    let (mut world, alice, bob, mut source) = video_call(1, 9001);
    for frame in 0..10 {
        source.send_vp8(&mut world.clients[alice], frame == 0, 3);
        world.run(FRAME);
    }
    let media: Vec<_> = world.clients[bob].stream(9000).into_iter().cloned().collect();
    let missed = [&media[4], &media[5], &media[20]];
    let numbers = missed.map(|p| p.header.sequence_number);
    world.clients[bob].send_rtcp(|b| b.nack(Ssrc(1), Ssrc(9000), numbers).map(|_| ()));
    world.run(FRAME);
    let repaired = world.clients[bob].stream(9001);
    assert_eq!(repaired.len(), 3);
    for (repair, original) in repaired.iter().zip(missed) {
        assert_eq!(repair.payload[..2], original.header.sequence_number.to_be_bytes());
        assert_eq!(repair.payload[2..], original.payload);
        assert_eq!((repair.header.payload_type, repair.header.timestamp), (121, original.header.timestamp));
        assert_eq!(repair.header.marker, original.header.marker);
    }
    assert!(repaired.windows(2).all(|w| w[1].index == w[0].index + 1));
    // Asked again at once: the first answer is on its way.
    world.clients[bob].send_rtcp(|b| b.nack(Ssrc(1), Ssrc(9000), numbers).map(|_| ()));
    world.clients[bob].send_rtcp(|b| b.nack(Ssrc(1), Ssrc(9000), numbers).map(|_| ()));
    world.run(FRAME);
    assert_eq!(world.clients[bob].stream(9001).len(), 6);
}

#[test]
fn without_rtx_the_same_bytes_are_sent_again() {
    let (mut world, alice, bob, mut source) = video_call(2, 0);
    world.network.loss = 1000;
    let mut lost = Vec::new();
    source.send_vp8(&mut world.clients[alice], true, 2);
    for bytes in std::mem::take(&mut world.clients[alice].outbox) {
        world.shard.handle_datagram(world.now, path(alice), &mut bytes.clone());
        while world.shard.prepare(world.now) {
            lost.extend(world.shard.outgoing().datagrams().map(|(_, bytes)| bytes.to_vec()));
            world.shard.sent();
        }
    }
    world.run(Duration::from_millis(100));
    let numbers = lost.iter().map(|bytes| u16::from_be_bytes([bytes[2], bytes[3]])).collect::<Vec<_>>();
    world.clients[bob].send_rtcp(|b| b.nack(Ssrc(1), Ssrc(9000), numbers).map(|_| ()));
    let mut again = Vec::new();
    for mut bytes in std::mem::take(&mut world.clients[bob].outbox) {
        world.shard.handle_datagram(world.now, path(bob), &mut bytes);
        while world.shard.prepare(world.now) {
            again.extend(world.shard.outgoing().datagrams().map(|(_, bytes)| bytes.to_vec()));
            world.shard.sent();
        }
    }
    assert_eq!((lost.len(), again), (2, lost), "one SRTP index, one ciphertext");
}

#[test]
fn a_publishers_loss_is_asked_for_and_its_rtx_fills_the_gap() {
    let (mut world, alice, bob, mut source) = video_call(3, 9001);
    source.send_vp8(&mut world.clients[alice], true, 3);
    let (fields, index) = source.next(false);
    let payload = vp8(99, false, true, 700);
    source.send_vp8(&mut world.clients[alice], false, 3);
    world.run(Duration::from_millis(15));
    let asked = world.clients[alice].take_feedback();
    assert!(world.clients[bob].stream(9000).is_empty(), "still on the way");
    world.run(Duration::from_millis(20));
    let asked = [asked, world.clients[alice].take_feedback()].concat();
    assert!(asked.contains(&Rtcp::Nack(500, vec![index as u16])), "{asked:?}");
    let mut rtx = Source::new(501, 97, &[]);
    let (mut repair, rtx_index) = rtx.next(false);
    repair.timestamp = fields.timestamp;
    let body = [&(index as u16).to_be_bytes()[..], &payload].concat();
    world.clients[alice].send_rtp(&repair, rtx_index, &[], &body);
    world.run(Duration::from_millis(25));
    let packets = world.clients[bob].stream(9000);
    assert_eq!(packets.len(), 7);
    assert_eq!(packets[6].payload, payload);
    assert_eq!(packets[6].index, packets[0].index + 3, "in its place");
    assert_eq!(world.shard.counters().recovered_in, 1);
    // Nothing is asked for any more.
    world.clients[alice].take_feedback();
    world.run(Duration::from_secs(1));
    assert!(!world.clients[alice].take_feedback().iter().any(|p| matches!(p, Rtcp::Nack(..))));
}

#[test]
fn video_survives_loss_both_ways() {
    for seed in 1..6 {
        let network = Network { delay: Duration::from_millis(20), jitter: Duration::from_millis(30), loss: 50 };
        let mut world = World::with_network(seed, network);
        let (alice, bob) = (world.join(), world.join());
        world.publish(alice, vec![video_receiver(7, "1", &[(500, 501)], &[])]);
        world.subscribe(bob, vec![video_sender(7, "4", 9000, 9001)]);
        let mut alice_end = LossyPublisher::new();
        let mut bob_end = LossySubscriber::default();
        for frame in 0..300 {
            let key = frame == 0 || alice_end.key_wanted;
            alice_end.frame(&mut world, alice, key);
            for _ in 0..4 {
                world.run(FRAME / 4);
                alice_end.answer(&mut world, alice);
                bob_end.ask(&mut world, bob);
            }
        }
        for _ in 0..40 {
            world.run(FRAME);
            alice_end.answer(&mut world, alice);
            bob_end.ask(&mut world, bob);
        }
        let (got, expected) = bob_end.complete();
        assert!(expected > 850, "seed {seed}: {expected} packets");
        assert!(got + 3 >= expected, "seed {seed}: {got} of {expected}");
    }
}

/// Publishes frames of three packets, remembers them, answers NACK by RTX.
struct LossyPublisher {
    source: Source,
    rtx: Source,
    sent: std::collections::HashMap<u16, (u32, bool, Vec<u8>)>,
    key_wanted: bool,
}

impl LossyPublisher {
    fn new() -> Self {
        LossyPublisher {
            source: Source::new(500, 96, &[]),
            rtx: Source::new(501, 97, &[]),
            sent: Default::default(),
            key_wanted: false,
        }
    }

    fn frame(&mut self, world: &mut World, client: usize, key: bool) {
        self.key_wanted = false;
        for packet in 0..3 {
            let payload = vp8(self.source.picture, key, packet == 0, 900);
            self.sent.insert(self.source.index as u16, (self.source.timestamp, packet == 2, payload.clone()));
            self.source.send(&mut world.clients[client], packet == 2, &payload);
        }
        self.source.picture += 1;
        self.source.timestamp = self.source.timestamp.wrapping_add(3000);
    }

    fn answer(&mut self, world: &mut World, client: usize) {
        for packet in world.clients[client].take_feedback() {
            match packet {
                Rtcp::Pli(_) => self.key_wanted = true,
                Rtcp::Nack(_, numbers) => {
                    for number in numbers {
                        let Some((timestamp, marker, payload)) = self.sent.get(&number) else { continue };
                        let (mut fields, index) = self.rtx.next(*marker);
                        fields.timestamp = *timestamp;
                        let body = [&number.to_be_bytes()[..], payload].concat();
                        world.clients[client].send_rtp(&fields, index, &[], &body);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Asks for what is missing, every round.
#[derive(Default)]
struct LossySubscriber {
    have: std::collections::BTreeSet<u64>,
    first: Option<u64>,
    highest: u64,
}

impl LossySubscriber {
    fn ask(&mut self, world: &mut World, client: usize) {
        for packet in std::mem::take(&mut world.clients[client].rtp) {
            match packet.header.ssrc.0 {
                9000 => {
                    self.first.get_or_insert(packet.index);
                    self.highest = self.highest.max(packet.index);
                    self.have.insert(packet.index);
                }
                9001 => {
                    let low = u16::from_be_bytes([packet.payload[0], packet.payload[1]]);
                    self.have.insert(greenroom_wire::seq::extend16(self.highest, low));
                }
                _ => {}
            }
        }
        let Some(first) = self.first else { return };
        let missing: Vec<u16> =
            (first..self.highest).filter(|i| !self.have.contains(i)).map(|i| i as u16).take(100).collect();
        if !missing.is_empty() {
            world.clients[client].send_rtcp(|b| b.nack(Ssrc(1), Ssrc(9000), missing).map(|_| ()));
        }
    }

    fn complete(&self) -> (u64, u64) {
        let first = self.first.unwrap();
        (self.have.range(first..=self.highest).count() as u64, self.highest + 1 - first)
    }
}
