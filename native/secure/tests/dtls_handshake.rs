//! DTLS handshakes between our two roles over a network that loses and reorders, on virtual time.

mod support;

use std::time::{Duration, Instant};

use greenroom_secure::dtls::{Certificate, Connected, DimplDtls, Dtls, DtlsError, DtlsOutput, Fingerprint, Role};
use greenroom_secure::srtp::{MAX_OVERHEAD, Profile, SrtpRx, SrtpTx};
use support::Link;

struct Pair {
    now: Instant,
    link: Link,
    ends: [End; 2],
}

struct End {
    dtls: DimplDtls,
    connected: Option<Connected>,
    data: Vec<Vec<u8>>,
    failure: Option<DtlsError>,
    closed: bool,
    fingerprint: Fingerprint,
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

impl Pair {
    fn new(link: Link) -> Self {
        let now = Instant::now();
        let ends = [Role::Client, Role::Server].map(|role| {
            let certificate = Certificate::generate().unwrap();
            let dtls = DimplDtls::new(role, &certificate, now);
            let fingerprint = certificate.fingerprint();
            End { dtls, connected: None, data: Vec::new(), failure: None, closed: false, fingerprint }
        });
        Self { now, link, ends }
    }

    /// Collects the output of both ends; returns their next deadline.
    fn drain(&mut self) -> Option<Instant> {
        let mut deadline: Option<Instant> = None;
        for (at, end) in self.ends.iter_mut().enumerate() {
            loop {
                match end.dtls.poll(self.now) {
                    DtlsOutput::Packet(packet) => self.link.send(self.now, 1 - at, packet),
                    DtlsOutput::Connected(connected) => {
                        assert!(end.connected.replace(*connected).is_none(), "connected twice");
                    }
                    DtlsOutput::Data(data) => end.data.push(data.to_vec()),
                    DtlsOutput::Closed => end.closed = true,
                    DtlsOutput::Failed(error) => end.failure = Some(error),
                    DtlsOutput::Timeout(next) => {
                        deadline = deadline.into_iter().chain(next).min();
                        break;
                    }
                }
            }
        }
        deadline
    }

    /// Runs until `done` or until `limit` of virtual time has passed; whether it was done.
    fn run(&mut self, limit: Duration, done: impl Fn(&[End; 2]) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            let deadline = self.drain();
            if done(&self.ends) {
                return true;
            }
            let Some(next) = deadline.into_iter().chain(self.link.next_arrival()).min() else { return false };
            if next > end {
                return false;
            }
            self.now = self.now.max(next);
            while let Some((to, datagram)) = self.link.receive(self.now) {
                self.ends[to].dtls.handle_packet(self.now, &datagram);
            }
            for end in &mut self.ends {
                end.dtls.handle_timeout(self.now);
            }
        }
    }

    fn connect(&mut self) {
        let connected = self.run(Duration::from_secs(60), |ends| ends.iter().all(|end| end.connected.is_some()));
        assert!(connected, "no handshake; failures {:?}", self.ends.each_ref().map(|end| end.failure.clone()));
    }
}

fn clean() -> Link {
    Link::new(1, Duration::from_millis(15), Duration::ZERO, 0)
}

#[test]
fn both_roles_agree_on_gcm_and_mirrored_keys() {
    let mut pair = Pair::new(clean());
    let start = pair.now;
    pair.connect();
    // Without a cookie: two round trips until the client knows, at 30 ms each.
    assert!(pair.now - start <= Duration::from_millis(61), "{:?}", pair.now - start);
    let [client, server] = pair.ends.each_ref().map(|end| end.connected.clone().unwrap());
    for connected in [&client, &server] {
        assert_eq!(connected.local.profile(), Profile::AeadAes256Gcm);
    }
    for (from, to) in [(&client, &server), (&server, &client)] {
        let (mut tx, mut rx) = (SrtpTx::new(&from.local), SrtpRx::new(&to.remote));
        let mut packet = [0x80; 40 + MAX_OVERHEAD];
        packet[2..4].copy_from_slice(&[0, 9]);
        let len = tx.seal_rtp(&mut packet, 12, 40, 9);
        assert_eq!(rx.open_rtp(&mut packet[..len], 12, 9), Ok(40));
        // The other direction has other keys.
        let len = tx.seal_rtp(&mut packet, 12, 40, 10 << 16 | 9);
        assert!(SrtpRx::new(&from.remote).open_rtp(&mut packet[..len], 12, 10 << 16 | 9).is_err());
    }
}

#[test]
fn each_side_learns_the_fingerprint_the_other_really_has() {
    let mut pair = Pair::new(clean());
    pair.connect();
    let [client, server] = &pair.ends;
    assert_eq!(client.connected.as_ref().unwrap().remote_fingerprint, server.fingerprint);
    assert_eq!(server.connected.as_ref().unwrap().remote_fingerprint, client.fingerprint);
    // What a man in the middle looks like: the handshake succeeds, the fingerprint is not the signalled one.
    let signalled = Certificate::generate().unwrap().fingerprint();
    assert_ne!(client.connected.as_ref().unwrap().remote_fingerprint, signalled);
}

#[test]
fn handshakes_survive_loss_and_reordering() {
    for seed in 0..40 {
        let mut pair = Pair::new(Link::new(seed, Duration::from_millis(20), Duration::from_millis(30), 15));
        pair.connect();
    }
}

#[test]
fn data_flows_both_ways_after_the_handshake() {
    let mut pair = Pair::new(clean());
    assert_eq!(pair.ends[SERVER].dtls.send(pair.now, b"early"), Err(DtlsError::NotConnected));
    pair.connect();
    let now = pair.now;
    let large = vec![7; 1400];
    for at in [CLIENT, SERVER] {
        pair.ends[at].dtls.send(now, b"hello").unwrap();
        pair.ends[at].dtls.send(now, &large).unwrap();
        assert_eq!(pair.ends[at].dtls.send(now, &[0; 1401]), Err(DtlsError::TooLarge));
    }
    assert!(pair.run(Duration::from_secs(1), |ends| ends.iter().all(|end| end.data.len() == 2)));
    for end in &pair.ends {
        assert_eq!(end.data, [b"hello".to_vec(), large.clone()]);
    }
}

#[test]
fn a_burst_before_polling_is_not_fatal() {
    let mut pair = Pair::new(clean());
    pair.connect();
    let now = pair.now;
    let mut refused = 0;
    for _ in 0..2000 {
        match pair.ends[CLIENT].dtls.send(now, &[1; 100]) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error, DtlsError::QueueFull);
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
    // All of them arrive at one instant, before the server is polled.
    assert!(pair.run(Duration::from_secs(1), |ends| ends[SERVER].data.len() == 2000 - refused));
    assert!(pair.ends[SERVER].dtls.is_connected());
}

#[test]
fn closing_reaches_the_peer_and_ends_this_side() {
    let mut pair = Pair::new(clean());
    pair.connect();
    pair.ends[SERVER].dtls.close();
    pair.ends[SERVER].dtls.close();
    assert!(pair.run(Duration::from_secs(1), |ends| ends.iter().all(|end| end.closed)));
    let now = pair.now;
    for end in &mut pair.ends {
        assert!(!end.dtls.is_connected());
        assert_eq!(end.dtls.send(now, b"late"), Err(DtlsError::Closed));
        end.dtls.handle_packet(now, b"late");
        end.dtls.handle_timeout(now);
        assert!(matches!(end.dtls.poll(now), DtlsOutput::Timeout(None)));
    }
}

#[test]
fn a_silent_peer_is_given_up() {
    let mut pair = Pair::new(Link::new(1, Duration::from_millis(20), Duration::ZERO, 100));
    let failed = pair.run(Duration::from_secs(60), |ends| ends[CLIENT].failure.is_some());
    assert!(failed);
    assert_eq!(pair.ends[CLIENT].failure, Some(DtlsError::HandshakeTimeout));
}

#[test]
fn garbage_between_the_flights_changes_nothing() {
    let mut pair = Pair::new(clean());
    let garbage: [&[u8]; 6] = [
        &[],
        &[22],
        &[22, 254, 253],
        &[0xff; 200],
        &[20; 64],
        &[23, 254, 253, 0, 1, 0, 0, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4],
    ];
    for _ in 0..100 {
        pair.drain();
        let now = pair.now;
        for end in &mut pair.ends {
            for datagram in garbage {
                end.dtls.handle_packet(now, datagram);
            }
        }
        if pair.run(Duration::from_millis(1), |ends| ends.iter().all(|end| end.connected.is_some())) {
            break;
        }
        pair.now += Duration::from_millis(1);
    }
    pair.connect();
}

#[test]
fn flipped_bits_never_break_the_engine_nor_forge_a_peer() {
    let mut connected = 0;
    for seed in 0..300 {
        let mut link = Link::new(seed, Duration::from_millis(20), Duration::from_millis(5), 0);
        link.corrupt_percent = 15;
        let mut pair = Pair::new(link);
        let over = |end: &End| end.connected.is_some() || end.failure.is_some();
        pair.run(Duration::from_secs(60), |ends| ends.iter().all(over));
        for (at, end) in pair.ends.iter().enumerate() {
            assert!(!matches!(end.failure, Some(DtlsError::Internal(_))), "seed {seed}: {:?}", end.failure);
            if let Some(result) = &end.connected {
                assert_eq!(result.remote_fingerprint, pair.ends[1 - at].fingerprint, "seed {seed}");
                connected += 1;
            }
        }
    }
    assert!(connected > 0);
}
