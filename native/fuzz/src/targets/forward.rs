//! `greenroom-forward`: a whole shard with two connected clients, fed by a stranger on a known address, and by a client
//! that has the keys and no manners; and a shard whose peers are in all stages of connecting.

use std::time::{Duration, Instant};

use crate::session::world::oracle::Rules;
use crate::session::world::{self, Source, World, audio_receiver, audio_sender, path, video_receiver, video_sender};
use crate::session::{publisher_extensions, subscriber_extensions};
use greenroom_forward::{Channel, Command, Path, PeerId};
use greenroom_secure::mac::hmac_sha1;
use greenroom_wire::Ssrc;
use greenroom_wire::rtp::HeaderFields;

use super::target::{Memory, Target, hex_seeds};

const STEP: Duration = Duration::from_millis(5);

pub fn targets(rules: Rules) -> Vec<Target> {
    let mut datagrams = Call::new(1, rules);
    let mut media = Call::new(2, rules);
    let mut reports = Call::new(3, rules);
    vec![
        Target::new(
            "shard datagrams",
            hex_seeds(&["80600001 00000000 000001f4 0102", "000100002112a442 00", "16fefd0000"]),
            move |input| {
                datagrams.world.shard.handle_datagram(datagrams.world.now, path(datagrams.alice), &mut input.to_vec());
                datagrams.settle();
            },
        ),
        Target::new("shard media", media_seeds(), move |input| media.send_media(input)),
        Target::new("shard reports", report_seeds(), move |input| reports.send_report(input)),
        Target::new("shard stages", stage_seeds(), {
            let mut stages = Stages::new();
            move |input| stages.take(input)
        }),
        Target::new("shard chunks", chunk_seeds(), {
            let mut data = Data::new();
            move |input| data.take(input)
        }),
    ]
}

/// A shard and a peer in each stage: expecting a check, checked, in the handshake, connected.
struct Stages {
    world: World,
    now: Instant,
    inputs: u32,
    memory: Memory,
}

const WAITING: usize = 0;
const CHECKED: usize = 1;
const GREETING: usize = 2;
const CONNECTED: usize = 3;

impl Stages {
    fn new() -> Stages {
        let mut world = World::new(4);
        let clients = [WAITING, CHECKED, GREETING].map(|stage| {
            let index = world.add();
            assert_eq!(index, stage);
            index
        });
        assert_eq!(world.join(), CONNECTED);
        for client in &clients[1..] {
            let check = world.clients[*client].check(true);
            world.inject(*client, check);
        }
        // A first flight that ends half-way: its client is not driven any further.
        world.inject(GREETING, client_hello());
        world.publish(CONNECTED, vec![audio_receiver(7, "0", &[(500, 0)])]);
        world.subscribe(WAITING, vec![audio_sender(7, "3", 9000)]);
        let now = world.now;
        Stages { world, now, inputs: 0, memory: Memory::default() }
    }

    /// One byte chooses whose address, one another address for strangers, one whether the rest are the attributes of a
    /// check with a good name and the right integrity.
    fn take(&mut self, input: &[u8]) {
        let Some((&[stage, port, check], rest)) = input.split_first_chunk::<3>() else { return };
        self.inputs += 1;
        if self.inputs.is_multiple_of(2048) {
            // What could fail has failed by now.
            let memory = std::mem::take(&mut self.memory);
            *self = Stages { memory, inputs: self.inputs, ..Stages::new() };
        }
        let stage = usize::from(stage) % 5;
        let from = match stage {
            0..=3 => path(stage),
            _ => Path { local: u16::from(port & 1), remote: ([192, 0, 2, 7], 2000 + u16::from(port)).into() },
        };
        let mut datagram = match check % 3 {
            0 => self.check(usize::from(check / 3) % 4, rest),
            _ => rest.to_vec(),
        };
        self.now += STEP;
        let shard = &mut self.world.shard;
        shard.handle_datagram(self.now, from, &mut datagram);
        shard.handle_timeout(self.now);
        let mut sent = 0;
        while shard.prepare(self.now) {
            sent += shard.outgoing().datagrams().count();
            shard.sent();
        }
        assert!(sent < 64, "{sent} datagrams for one");
        assert!(std::iter::from_fn(|| shard.poll_event()).count() < 64);
        assert_eq!(shard.peer_count(), 4);
        if let Some(at) = shard.poll_timeout() {
            assert!(at > self.now && at < self.now + Duration::from_secs(120), "deadline {:?} away", at - self.now);
        }
        self.memory.count();
    }

    /// A binding request with these attributes, and MESSAGE-INTEGRITY over them (RFC 8489, 14.5).
    fn check(&self, stage: usize, attributes: &[u8]) -> Vec<u8> {
        let client = &self.world.clients[stage];
        let name = format!("{}:x", client.ufrag);
        let mut body = vec![0, 6, 0, name.len() as u8];
        body.extend(name.as_bytes());
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(attributes);
        body.resize(body.len().next_multiple_of(4), 0);
        let len = (body.len() as u16 + 24).to_be_bytes();
        let mut message = [&[0, 1], &len[..], &[0x21, 0x12, 0xa4, 0x42], &[9; 12], &body].concat();
        let mac = hmac_sha1(client.pwd.as_bytes(), &[&message]);
        message.extend([0, 8, 0, 20]);
        message.extend(mac);
        message
    }
}

/// A connected client whose association says anything.
struct Data {
    world: World,
    client: usize,
    inputs: u32,
    memory: Memory,
}

impl Data {
    fn new() -> Data {
        let mut world = World::new(5);
        let client = world.join();
        let channel = Channel { label: "_reliable".into(), ordered: true, max_retransmits: None };
        let now = world.now;
        world.clients[client].start_data(now);
        world.command(Command::SetData { peer: PeerId(client as u64), max_message_size: 0, channels: vec![channel] });
        world.run(Duration::from_millis(200));
        assert!(world.clients[client].sctp_header.is_some());
        Data { world, client, inputs: 0, memory: Memory::default() }
    }

    fn take(&mut self, input: &[u8]) {
        self.inputs += 1;
        if self.inputs.is_multiple_of(64) {
            // An ABORT that got through ends the association for good.
            let memory = std::mem::take(&mut self.memory);
            *self = Data { memory, inputs: self.inputs, ..Data::new() };
        }
        self.world.clients[self.client].send_chunks(self.world.now, &input[..input.len().min(1150)]);
        self.world.run(STEP);
        self.world.events.clear();
        self.world.clients[self.client].channels.clear();
        self.memory.count();
    }
}

fn client_hello() -> Vec<u8> {
    super::secure::client_hello()
}

/// Addresses with PRIORITY, USE-CANDIDATE and roles; then what the other protocols begin with.
fn stage_seeds() -> Vec<Vec<u8>> {
    let mut seeds = hex_seeds(&[
        "000000 00240004 6e0000ff 00250000 802a0008 0102030405060708",
        "040903 00240004 6e0000ff 00250000 802a0008 0102030405060708",
        "040b09 00240004 6e0000ff 80290008 0102030405060708",
        "040001 000100002112a442 010101010101010101010101",
        "030001 806f0001 00000000 000001f4 0102030405060708090a0b0c0d0e0f101112",
        "041101 806f0001 00000000 000001f4 0102030405060708090a0b0c0d0e0f101112",
        "030001 81c90007 00000001 0000238c 01000001 00000010 00000000 00000000 00000000",
        "020001 14fefd 0000 000000000001 0001 01",
        "030001 15fefd 0001 000000000001 0002 0100",
    ]);
    for stage in [CHECKED as u8, GREETING as u8] {
        seeds.push([&[stage, 0, 1], &client_hello()[..]].concat());
    }
    seeds
}

/// DATA with a DCEP OPEN, fragments, SACK with gaps, HEARTBEAT, RE-CONFIG, FORWARD-TSN, SHUTDOWN, ABORT (RFC 9260, 6525,
/// 3758, 8832).
fn chunk_seeds() -> Vec<Vec<u8>> {
    hex_seeds(&[
        "0003001d 00000001 00010000 00000032 0300000000000000 00010000 78 000000",
        "00020014 00000002 00010001 00000035 61626364 00010014 00000003 00010001 00000035 65666768",
        "03000018 00000001 00100000 0002 0000 0002 0003 0005 0006",
        "0400000c 00010008 01020304",
        "82000014 000d0010 00000001 00000002 00000003 0001",
        "c0000010 00000005 00010001 00020002",
        "07000008 00000001",
        "06000004",
        "0a000008 01020304",
        "01000014 00000001 00100000 0400 0400 00000001",
    ])
}

struct Call {
    world: World,
    alice: usize,
    bob: usize,
    index: u64,
}

impl Call {
    fn new(seed: u64, rules: Rules) -> Call {
        let mut world = World::new(seed);
        world.oracle.rules = rules;
        let (alice, bob) = (world.join(), world.join());
        let layers = [("q", 0), ("f", 2)];
        let mut receivers = vec![audio_receiver(7, "0", &[(500, 0)]), video_receiver(8, "1", &[(600, 601)], &layers)];
        let mut senders =
            vec![audio_sender(7, "3", 9000), video_sender(8, "4", 9100, 9101), audio_sender(7, "5", 9200)];
        senders[0].codecs.push(world::codec(62, "red", 0));
        receivers.iter_mut().for_each(|receiver| receiver.extensions = publisher_extensions());
        senders.iter_mut().for_each(|sender| sender.extensions = subscriber_extensions());
        world.publish(alice, receivers);
        world.subscribe(bob, senders);
        let mut call = Call { world, alice, bob, index: 0 };
        // Streams that flow, so that reports have something to be about.
        let mut source = Source::new(600, 96, &[(4, "1"), (10, "q")]);
        for _ in 0..10 {
            source.send_vp8(&mut call.world.clients[alice], true, 2);
            call.settle();
        }
        call
    }

    /// Time passes; what the clients got is thrown away.
    fn settle(&mut self) {
        self.world.run(STEP);
        self.world.events.clear();
        for client in &mut self.world.clients {
            client.rtp.clear();
            client.rtcp.clear();
        }
    }

    /// Six bytes choose payload type, SSRC, flags, which header extensions, how long they are, and how far the payload is
    /// filled up; the rest is the payload, and the values.
    fn send_media(&mut self, input: &[u8]) {
        let Some((&[pt, ssrc, flags, kinds, len, fill], payload)) = input.split_first_chunk::<6>() else { return };
        let mut payload = payload.to_vec();
        payload.resize((payload.len() + 256 * usize::from(fill)).min(64_000), pt);
        self.index += 1 + u64::from(flags >> 6);
        let fields = HeaderFields {
            marker: flags & 1 != 0,
            payload_type: [96, 97, 111, 63, pt & 0x7f][usize::from(pt) % 5],
            sequence_number: self.index as u16,
            timestamp: u32::from_be_bytes([pt, ssrc, flags, len]),
            ssrc: Ssrc([500, 600, 601, u32::from(ssrc)][usize::from(ssrc) % 4]),
            padding: flags & 2 != 0,
        };
        let values: Vec<u8> = payload.iter().copied().cycle().take(255).collect();
        let step = usize::from(flags & 4 == 0);
        let ids = (0..usize::from(kinds % 9)).map(|n| 1 + (usize::from(kinds >> 4) + n * step) % 14);
        let value = &values[..usize::from(len).min(values.len())];
        let mut extensions: Vec<(u8, &[u8])> = ids.map(|id| (id as u8, value)).collect();
        if flags & 8 != 0 {
            // The stream names itself, rightly, behind what else there is.
            extensions.extend([(4, &b"1"[..]), (10, b"q")]);
        }
        let packet = self.world.clients[self.alice].seal_rtp(&fields, self.index, &extensions, &payload);
        self.world.inject(self.alice, packet);
        self.settle();
    }

    /// A compound packet as it is, sealed by the subscriber and by the publisher.
    fn send_report(&mut self, input: &[u8]) {
        if !(8..1400).contains(&input.len()) {
            return;
        }
        for client in [self.alice, self.bob] {
            let packet = self.world.clients[client].seal_rtcp(input);
            self.world.inject(client, packet);
        }
        self.settle();
    }
}

fn media_seeds() -> Vec<Vec<u8>> {
    let picture = world::vp8(300, true, true, 60);
    let red = [0xef, 0, 0, 10, 111].into_iter().chain([1; 40]).collect::<Vec<u8>>();
    let rtx = [0, 5].into_iter().chain(picture.clone()).collect::<Vec<u8>>();
    let packet = |head: [u8; 6], payload: &[u8]| [&head[..], payload].concat();
    vec![
        packet([0, 1, 9, 0, 0, 0], &picture),
        packet([3, 0, 1, 1, 1, 0], &red),
        packet([1, 2, 8, 0, 0, 0], &rtx),
        packet([2, 0, 1, 7, 1, 0], b"0123456789"),
        packet([2, 0, 5, 2, 170, 0], b"0123456789"),
        packet([0, 1, 9, 3, 16, 5], &picture),
    ]
}

/// SR, RR with a block, NACK of the video stream, PLI, FIR, REMB, XR with an RRTR.
fn report_seeds() -> Vec<Vec<u8>> {
    hex_seeds(&[
        "80c80006 00000258 e1e2e3e4 00000000 00000100 00000001 00000064",
        "81c90007 00000001 0000238c 01000001 00000010 00000000 00000000 00000000",
        "81cd0003 00000001 0000238c 00010fff",
        "81ce0002 00000001 0000238c",
        "84ce0004 00000001 00000000 0000238c 01000000",
        "8fce0005 00000001 00000000 52454d42 01010000 0000238c",
        "80cf0004 00000001 04000002 e1e2e3e4 00000000",
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_reach_every_stage() {
        let mut stages = Stages::new();
        stage_seeds().iter().for_each(|seed| stages.take(seed));
        let counters = stages.world.shard.counters();
        assert!(counters.stun_in > 5, "{counters:?}");
        assert!(counters.dropped_auth > 0 && counters.dropped_address > 0, "{counters:?}");
    }

    #[test]
    fn chunks_reach_the_association() {
        let mut data = Data::new();
        let before = *data.world.shard.counters();
        // HEARTBEAT is answered (RFC 9260, 8.3).
        data.take(&chunk_seeds()[3]);
        data.world.run(Duration::from_millis(50));
        let after = *data.world.shard.counters();
        assert!(after.packets_in > before.packets_in && after.packets_out > before.packets_out, "{after:?}");
    }
}
