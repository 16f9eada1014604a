//! A server on real sockets: it answers checks, counts what it drops, and closes cleanly.
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use greenroom_forward::{Command, PeerId, RoomId};
use greenroom_secure::mac::hmac_sha1;
use greenroom_shard::{Server, ServerConfig};
use greenroom_wire::stun::{BindingRequest, Class, IceRole, Message, TransactionId, write_binding_request};

fn start(address: &str, shards: usize) -> Server {
    let addresses = vec![address.parse::<IpAddr>().unwrap()];
    Server::start(&ServerConfig { addresses, shards, ..ServerConfig::default() }).unwrap()
}

fn check(socket: &UdpSocket, port: u16, ufrag: &str, pwd: &str) -> Option<Vec<u8>> {
    let username = format!("{ufrag}:remote");
    let request = BindingRequest {
        transaction_id: TransactionId([7; 12]),
        username: &username,
        priority: 1,
        role: IceRole::Controlling(1),
        use_candidate: true,
    };
    let mut buf = [0; 300];
    let len = write_binding_request(&mut buf, &request, pwd.as_bytes(), hmac_sha1).unwrap();
    socket.send_to(&buf[..len], ("127.0.0.1", port)).unwrap();
    let (len, from) = socket.recv_from(&mut buf).ok()?;
    assert_eq!(from, ([127, 0, 0, 1], port).into(), "the answer comes from where the check went");
    Some(buf[..len].to_vec())
}

fn client() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

fn metric(server: &Server, name: &str) -> u64 {
    server.metrics().into_iter().find(|(n, _)| *n == name).map_or(0, |(_, value)| value)
}

fn until(condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "not within 10 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_shard_answers_for_its_rooms() {
    let server = start("127.0.0.1", 2);
    for room in [1, 2] {
        let (ufrag, pwd) = (format!("user{room}"), "a-password-of-22-chars".to_owned());
        server.send(Command::AddPeer {
            peer: PeerId(room),
            room: RoomId(room),
            ufrag: ufrag.clone(),
            pwd: pwd.clone(),
        });
        let answer = check(&client(), server.port(RoomId(room)), &ufrag, &pwd).expect("an answer");
        assert_eq!(Message::parse(&answer).unwrap().class, Class::Success);
    }
    assert_ne!(server.port(RoomId(1)), server.port(RoomId(2)));
    until(|| metric(&server, "stun_in") == 2 && metric(&server, "peers") == 2);
    server.send(Command::RemovePeer { peer: PeerId(1) });
    until(|| metric(&server, "peers") == 1);
}

#[test]
fn a_wildcard_address_answers_from_the_address_it_was_asked_at() {
    let server = start("0.0.0.0", 1);
    let (ufrag, pwd) = ("user".to_owned(), "a-password-of-22-chars".to_owned());
    server.send(Command::AddPeer { peer: PeerId(1), room: RoomId(1), ufrag: ufrag.clone(), pwd: pwd.clone() });
    assert!(check(&client(), server.port(RoomId(1)), &ufrag, &pwd).is_some());
}

#[test]
fn strangers_get_no_answer() {
    let server = start("127.0.0.1", 1);
    assert!(check(&client(), server.port(RoomId(1)), "nobody", "password").is_none());
    until(|| metric(&server, "dropped_stun_user") == 1);
    for byte in 0..=255u8 {
        client().send_to(&[byte; 100], ("127.0.0.1", server.port(RoomId(1)))).unwrap();
    }
    until(|| metric(&server, "packets_in") == 257);
    assert_eq!(metric(&server, "packets_out"), 0);
}

#[test]
fn a_taken_port_is_an_error_and_closing_frees_it() {
    let first = start("127.0.0.1", 1);
    let port = first.port(RoomId(1));
    let addresses = vec!["127.0.0.1".parse().unwrap()];
    let config = ServerConfig { addresses, port, ..ServerConfig::default() };
    assert_eq!(Server::start(&config).err().unwrap().kind(), std::io::ErrorKind::AddrInUse);
    first.close();
    first.close();
    assert!(Server::start(&config).is_ok());
}
