//! One participant attacks a real server over real sockets; the others must not notice.
#[path = "../../forward/tests/world/mod.rs"]
mod world;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use greenroom_forward::{Command, Event, PeerId, RoomId};
use greenroom_secure::sctp::{ChannelConfig, DataTransport, Reliability, SctpEvent};
use greenroom_shard::{Server, ServerConfig, ServerEvent};
use world::{Client, Source, audio_receiver, audio_sender};

const LIMIT: Duration = Duration::from_secs(20);

/// A client behind a socket.
struct Real {
    client: Client,
    socket: UdpSocket,
}

impl Real {
    fn turn(&mut self) {
        let now = Instant::now();
        self.client.handle_timeout(now);
        self.client.poll(now);
        for datagram in self.client.outbox.drain(..) {
            // A full buffer is a lost packet.
            let _ = self.socket.send(&datagram);
        }
        let mut buf = [0u8; 2000];
        while let Ok(len) = self.socket.recv(&mut buf) {
            self.client.handle(Instant::now(), &mut buf[..len]);
        }
    }
}

/// A server with one shard, and connected peers of one room. Their index is their id.
fn call(peers: u64) -> (Server, Vec<Real>) {
    let addresses = vec!["127.0.0.1".parse().unwrap()];
    let server = Server::start(&ServerConfig { addresses, ..ServerConfig::default() }).unwrap();
    let mut reals: Vec<Real> = (0..peers).map(|peer| join(&server, peer)).collect();
    turn_until("all connected", &mut reals, |reals| reals.iter().all(|real| real.client.is_connected()));
    (server, reals)
}

fn join(server: &Server, peer: u64) -> Real {
    let mut client = Client::new(peer as usize, Instant::now());
    let (ufrag, pwd) = (client.ufrag.clone(), client.pwd.clone());
    let fingerprint = *client.fingerprint.as_bytes();
    let peer = PeerId(peer);
    server.send(Command::AddPeer { peer, room: RoomId(1), ufrag, pwd });
    server.send(Command::SetRemote { peer, ufrag: "r".into(), pwd: "r".into(), fingerprint });
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", server.port(RoomId(1)))).unwrap();
    socket.set_nonblocking(true).unwrap();
    client.start();
    Real { client, socket }
}

fn turn_until(what: &str, reals: &mut [Real], mut done: impl FnMut(&mut [Real]) -> bool) {
    let end = Instant::now() + LIMIT;
    while !done(reals) {
        assert!(Instant::now() < end, "not within {LIMIT:?}: {what}");
        reals.iter_mut().for_each(Real::turn);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn metric(server: &Server, name: &str) -> u64 {
    server.metrics().into_iter().find(|(n, _)| *n == name).map(|(_, value)| value).unwrap()
}

fn shard_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim().strip_prefix("greenroom-").is_some_and(|n| n.parse::<u32>().is_ok())).count()
}

#[test]
fn audio_packets_with_extension_values_as_long_as_they_can_be_hurt_nobody() {
    let (server, mut peers) = call(2);
    server.send(Command::SetReceivers { peer: PeerId(0), receivers: vec![audio_receiver(7, "0", &[(500, 0)])] });
    server.send(Command::SetSenders { peer: PeerId(1), senders: vec![audio_sender(7, "3", 9000)] });
    let mut source = Source::new(500, 111, &[]);
    turn_until("audio", &mut peers, |peers| {
        source.send(&mut peers[0].client, false, &[7; 60]);
        !peers[1].client.stream(9000).is_empty()
    });
    let threads = shard_threads();
    assert!(threads >= 1);
    let value = [5u8; 170];
    let before = metric(&server, "rtp_in");
    for _ in 0..1500 {
        let (fields, index) = source.next(false);
        let packet = peers[0].client.seal_rtp(&fields, index, &[(1, &value), (1, &value)], &[7; 60]);
        let _ = peers[0].socket.send(&packet);
        peers[1].turn();
    }
    turn_until("the attack has arrived", &mut peers, |_| metric(&server, "rtp_in") > before);
    let answers = peers[1].client.stun_answers;
    turn_until("an answer to an honest check", &mut peers, |peers| {
        let check = peers[1].client.check(true);
        let _ = peers[1].socket.send(&check);
        peers[1].client.stun_answers > answers
    });
    let heard = peers[1].client.stream(9000).len();
    turn_until("honest audio", &mut peers, |peers| {
        source.send(&mut peers[0].client, false, &[7; 60]);
        peers[1].client.stream(9000).len() > heard
    });
    assert_eq!(shard_threads(), threads);
    assert_eq!((metric(&server, "panics"), metric(&server, "restarts")), (0, 0));
    let reports: Vec<_> = server.poll_events().into_iter().filter(|e| !matches!(e, ServerEvent::Core(_))).collect();
    assert_eq!(reports, []);
}

/// Opens a data channel for each peer and returns its id, the same for all.
fn open_channels(server: &Server, peers: &mut [Real]) -> Vec<greenroom_secure::sctp::ChannelId> {
    for (peer, real) in peers.iter_mut().enumerate() {
        server.send(Command::SetData { peer: PeerId(peer as u64), max_message_size: 65_536, channels: Vec::new() });
        real.client.start_data(Instant::now());
    }
    let mut ids = vec![None; peers.len()];
    turn_until("associations", peers, |peers| {
        for (real, id) in peers.iter_mut().zip(&mut ids) {
            let up = real.client.channels.iter().any(|event| matches!(event, SctpEvent::Connected));
            if up && id.is_none() {
                let config = ChannelConfig {
                    label: "_reliable".to_owned(),
                    protocol: String::new(),
                    ordered: true,
                    reliability: Reliability::Reliable,
                };
                *id = Some(real.client.sctp.as_mut().unwrap().open(config).unwrap());
            }
        }
        ids.iter().all(Option::is_some)
    });
    ids.into_iter().flatten().collect()
}

#[test]
fn a_flood_of_messages_that_nobody_reads_costs_the_flooder_alone() {
    const FLOOD: u64 = 12_000;
    let (server, mut peers) = call(2);
    let ids = open_channels(&server, &mut peers);
    let mut sent = 0;
    let before = metric(&server, "messages_in");
    turn_until("the flood", &mut peers, |peers| {
        let sctp = peers[0].client.sctp.as_mut().unwrap();
        while sent < FLOOD && sctp.buffered_amount(ids[0]) < 256 << 10 && sctp.send(ids[0], true, &[]).is_ok() {
            sent += 1;
        }
        metric(&server, "messages_in") == before + FLOOD
    });
    for n in 0..20u8 {
        peers[1].client.sctp.as_mut().unwrap().send(ids[1], true, &[n; 100]).unwrap();
    }
    turn_until("honest messages", &mut peers, |_| metric(&server, "messages_in") == before + FLOOD + 20);
    let (mut honest, mut flooder, mut told) = (0, 0, 0);
    turn_until("all is read", &mut peers, |_| {
        for event in server.poll_events() {
            match event {
                ServerEvent::Core(Event::Data { peer: PeerId(1), payload, .. }) => {
                    assert_eq!(payload, [honest; 100]);
                    honest += 1;
                }
                ServerEvent::Core(Event::Data { .. }) => flooder += 1,
                ServerEvent::Unread { peer, count } => {
                    assert_eq!(peer, PeerId(0));
                    told += count;
                }
                _ => {}
            }
        }
        honest == 20 && flooder + told >= FLOOD
    });
    assert!(told > 0 && flooder <= 8192, "{flooder} kept, {told} dropped");
    assert_eq!(metric(&server, "dropped_unread"), told);
}
