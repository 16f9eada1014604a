//! `greenroom-forward`: a whole shard with two connected clients, fed by a stranger on a known address, and by a client
//! that has the keys and no manners.

#[path = "../../../forward/tests/world/mod.rs"]
mod world;

use std::time::Duration;

use greenroom_wire::Ssrc;
use greenroom_wire::rtp::HeaderFields;
use world::{Source, World, audio_receiver, audio_sender, path, video_receiver, video_sender};

use super::{Target, hex_seeds};

const STEP: Duration = Duration::from_millis(5);

pub fn targets() -> Vec<Target> {
    let mut datagrams = Call::new(1);
    let mut media = Call::new(2);
    let mut reports = Call::new(3);
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
    ]
}

struct Call {
    world: World,
    alice: usize,
    bob: usize,
    index: u64,
}

impl Call {
    fn new(seed: u64) -> Call {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join(), world.join());
        let layers = [("q", 0), ("f", 2)];
        world.publish(alice, vec![audio_receiver(7, "0", &[(500, 0)]), video_receiver(8, "1", &[(600, 601)], &layers)]);
        let mut red = audio_sender(7, "3", 9000);
        red.codecs.push(world::codec(62, "red", 0));
        world.subscribe(bob, vec![red, video_sender(8, "4", 9100, 9101), audio_sender(7, "5", 9200)]);
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

    /// Four bytes choose payload type, SSRC, flags and the length of extension values; the rest is those and the payload.
    fn send_media(&mut self, input: &[u8]) {
        let Some((&[pt, ssrc, flags, split], rest)) = input.split_first_chunk::<4>() else { return };
        let (values, payload) = rest.split_at(usize::from(split).min(rest.len()));
        let payload = &payload[..payload.len().min(1400)];
        self.index += 1 + u64::from(flags >> 6);
        let fields = HeaderFields {
            marker: flags & 1 != 0,
            payload_type: [96, 97, 111, 63, pt & 0x7f][usize::from(pt) % 5],
            sequence_number: self.index as u16,
            timestamp: u32::from_be_bytes([pt, ssrc, flags, split]),
            ssrc: Ssrc([500, 600, 601, u32::from(ssrc)][usize::from(ssrc) % 4]),
            padding: flags & 2 != 0,
        };
        let ids = [4, 10, 11, 1, 3];
        let extensions: Vec<(u8, &[u8])> = ids.into_iter().zip(values.chunks(1 + usize::from(flags >> 4))).collect();
        let packet = self.world.clients[self.alice].seal_rtp(&fields, self.index, &extensions, payload);
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
    let packet = |head: [u8; 4], payload: &[u8]| [&head[..], payload].concat();
    vec![
        packet([0, 1, 1, 0], &picture),
        packet([3, 0, 1, 0], &red),
        packet([1, 2, 0, 0], &rtx),
        packet([2, 0, 1, 6], b"00qqab0123456789"),
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
