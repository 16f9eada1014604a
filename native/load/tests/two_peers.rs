//! Two load peers talk to each other on virtual time: one publishes, the other counts.

use std::time::{Duration, Instant};

use greenroom_load::outbox::Outbox;
use greenroom_load::{CameraSpec, Codec, LoadPeer, Media, Pace, PeerStats, Reception, Remote, SourceSpec};
use greenroom_secure::dtls::Certificate;

const VIDEO: u32 = 0x1111;
const AUDIO: u32 = 0x2222;
const TICK: Duration = Duration::from_millis(1);

struct Net {
    now: Instant,
    peers: [LoadPeer; 2],
    /// Drops every n-th datagram longer than a handshake's, 0 for none.
    drop_every: usize,
    seen: usize,
}

impl Net {
    /// Peer 0 publishes and is the DTLS server facing a nominating client, peer 1 receives.
    fn new(drop_every: usize) -> Self {
        let now = Instant::now();
        let mut peers =
            [1, 2].map(|seed| LoadPeer::new(now, 1_700_000_000_000_000, Certificate::generate().unwrap(), seed));
        for at in 0..2 {
            let other = &peers[1 - at];
            let remote = Remote {
                address: "192.0.2.1:5000".parse().unwrap(),
                credentials: other.credentials().clone(),
                fingerprint: other.fingerprint(),
                controlling: at == 1,
                dtls_client: at == 1,
            };
            peers[at].connect(now, remote);
        }
        Self { now, peers, drop_every, seen: 0 }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += TICK;
            let mut outs = [Outbox::default(), Outbox::default()];
            for (peer, out) in self.peers.iter_mut().zip(&mut outs) {
                peer.handle_timeout(self.now, out);
            }
            // What arrives is answered at once; a few rounds empty the exchange.
            for _ in 0..8 {
                let sent = std::mem::take(&mut outs);
                for (from, out) in sent.iter().enumerate() {
                    for datagram in out.datagrams() {
                        if self.loses(datagram) {
                            continue;
                        }
                        let mut bytes = datagram.to_vec();
                        self.peers[1 - from].handle_datagram(self.now, self.now, &mut bytes, &mut outs[1 - from]);
                    }
                }
            }
        }
    }

    fn loses(&mut self, datagram: &[u8]) -> bool {
        if self.drop_every == 0 || datagram.len() < 140 || datagram[0] < 128 {
            return false;
        }
        self.seen += 1;
        self.seen.is_multiple_of(self.drop_every)
    }

    fn stats(&self) -> [PeerStats; 2] {
        [self.peers[0].stats(), self.peers[1].stats()]
    }
}

fn video() -> SourceSpec {
    SourceSpec {
        media: Media::Video(CameraSpec { bitrate: 2_000_000, frame_rate: 30, packet_len: 1100, pace: Pace::Runs }),
        ssrc: VIDEO,
        payload_type: 96,
        mid: Some((4, "1".into())),
        level_id: None,
        twcc_id: Some(3),
    }
}

fn audio() -> SourceSpec {
    SourceSpec {
        media: Media::Audio { payloads: vec![vec![1; 150], vec![2; 150]], level: 30, stamp: false },
        ssrc: AUDIO,
        payload_type: 111,
        mid: None,
        level_id: Some(1),
        twcc_id: None,
    }
}

fn reception() -> Reception {
    let codec = |clock, nack| Codec { clock, apt: None, nack };
    Reception {
        codecs: vec![(96, codec(90_000, true)), (111, codec(48_000, true))],
        twcc_id: Some(3),
        remb_bps: Some(10_000_000),
        ..Reception::default()
    }
}

#[test]
fn published_packets_arrive_and_are_counted() {
    let mut net = Net::new(0);
    net.peers[1].set_reception(reception());
    net.peers[0].publish(net.now, video()).unwrap();
    net.peers[0].publish(net.now, audio()).unwrap();
    net.run(Duration::from_secs(5));

    let [publisher, subscriber] = net.stats();
    for stats in [&publisher, &subscriber] {
        assert!(stats.connected.is_some(), "{stats:?}");
        assert_eq!((stats.dropped, &stats.failure), (0, &None));
    }
    for (sent, received) in [(1, 0), (0, 1)] {
        let (sent, received) = (publisher.sent[1 - sent], subscriber.received[received]);
        assert_eq!(sent.0, received.0);
        assert_eq!(sent.1.packets, received.1.packets);
        assert_eq!(sent.1.bytes, received.1.bytes);
        assert_eq!((received.1.lost, received.1.missing, received.1.duplicates), (0, 0, 0));
    }
    // 30 frames a second of 6 to 10 packets, and one packet every 20 ms.
    let packets: Vec<_> = subscriber.received.iter().map(|(_, stats)| stats.packets).collect();
    assert!((1100..=1400).contains(&packets[0]), "{packets:?}");
    assert!((240..=251).contains(&packets[1]), "{packets:?}");
    assert_eq!(publisher.sent[0].1.keyframes, 1);
    assert!(net.peers[1].delays()[0].quantile(0.99).unwrap() < 2_000.0);
}

#[test]
fn lost_packets_are_asked_for_and_sent_again() {
    let mut net = Net::new(10);
    net.peers[1].set_reception(reception());
    net.peers[0].publish(net.now, video()).unwrap();
    net.run(Duration::from_secs(5));

    let [publisher, subscriber] = net.stats();
    let (sent, received) = (publisher.sent[0].1, subscriber.received[0].1);
    assert!(sent.retransmitted > 80, "{sent:?}");
    assert!(received.late > 80, "{received:?}");
    assert_eq!(received.lost, 0, "{received:?}");
    assert!(received.packets + 30 > sent.packets, "{sent:?} {received:?}");
}

#[test]
fn a_source_starts_when_there_are_keys_and_stops_when_unpublished() {
    let mut net = Net::new(0);
    net.peers[1].set_reception(reception());
    net.run(Duration::from_secs(1));
    net.peers[0].publish(net.now, audio()).unwrap();
    net.run(Duration::from_secs(1));
    net.peers[0].unpublish(AUDIO);
    net.run(Duration::from_secs(1));
    let [publisher, subscriber] = net.stats();
    assert!(publisher.sent.is_empty());
    assert!((48..=51).contains(&subscriber.received[0].1.packets));
}

#[test]
fn a_wrong_certificate_is_refused() {
    let mut net = Net::new(0);
    let mut peers = net.peers;
    peers[1] = LoadPeer::new(net.now, 0, Certificate::generate().unwrap(), 2);
    let remote = Remote {
        address: "192.0.2.1:5000".parse().unwrap(),
        credentials: peers[0].credentials().clone(),
        fingerprint: Certificate::generate().unwrap().fingerprint(),
        controlling: true,
        dtls_client: true,
    };
    peers[1].connect(net.now, remote);
    net.peers = peers;
    net.run(Duration::from_secs(1));
    assert_eq!(net.stats()[1].failure.as_ref().unwrap().to_string(), "the certificate does not match the fingerprint");
    assert_eq!(net.peers[1].next_timeout(), None);
}

#[test]
fn what_cannot_be_published_is_refused() {
    let mut net = Net::new(0);
    for spec in [
        SourceSpec { level_id: Some(15), ..audio() },
        SourceSpec { media: Media::Audio { payloads: vec![], level: 0, stamp: false }, ..audio() },
        SourceSpec {
            media: Media::Video(CameraSpec { bitrate: 0, frame_rate: 30, packet_len: 1100, pace: Pace::Burst }),
            ..video()
        },
    ] {
        assert!(net.peers[0].publish(net.now, spec).is_err());
    }
}
