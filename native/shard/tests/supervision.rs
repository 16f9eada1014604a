//! What becomes of a server whose shards fail: the failure is reported, the port serves again, and nothing waits for
//! ever. The failures are injected, for there is no honest way to get them.
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use greenroom_forward::{Command, PeerId, RoomId};
use greenroom_secure::mac::hmac_sha1;
use greenroom_shard::{Fault, Server, ServerConfig, ServerEvent};
use greenroom_wire::stun::{BindingRequest, IceRole, TransactionId, write_binding_request};

const PWD: &str = "a-password-of-22-chars";

fn start(shards: usize, stuck_after: Duration) -> Server {
    let addresses = vec!["127.0.0.1".parse().unwrap()];
    Server::start(&ServerConfig { addresses, shards, stuck_after, ..ServerConfig::default() }).unwrap()
}

fn add(server: &Server, peer: u64, room: u64) {
    let (ufrag, pwd) = (format!("user{peer}"), PWD.to_owned());
    server.send(Command::AddPeer { peer: PeerId(peer), room: RoomId(room), ufrag, pwd });
}

/// Sends STUN checks of a peer until one is answered; `false` when none is.
fn answers(server: &Server, peer: u64, room: u64, checks: usize) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let request = BindingRequest {
        transaction_id: TransactionId([7; 12]),
        username: &format!("user{peer}:remote"),
        priority: 1,
        role: IceRole::Controlling(1),
        use_candidate: true,
    };
    let mut buf = [0; 300];
    let len = write_binding_request(&mut buf, &request, PWD.as_bytes(), hmac_sha1).unwrap();
    (0..checks).any(|_| {
        socket.send_to(&buf[..len], ("127.0.0.1", server.port(RoomId(room)))).unwrap();
        socket.recv_from(&mut [0; 300]).is_ok()
    })
}

fn metric(server: &Server, name: &str) -> u64 {
    server.metrics().into_iter().find(|(n, _)| *n == name).map(|(_, value)| value).unwrap()
}

/// Figures follow what they count by a moment.
fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for the next report about a shard.
fn report(server: &Server) -> ServerEvent {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let core = |event: &ServerEvent| matches!(event, ServerEvent::Core(_));
        let mut reports: Vec<ServerEvent> = server.poll_events().into_iter().filter(|event| !core(event)).collect();
        if let Some(report) = reports.pop() {
            assert!(reports.is_empty(), "one at a time: {reports:?}, {report:?}");
            return report;
        }
        assert!(Instant::now() < end, "no report within 20 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn restart_reason(server: &Server, shard: usize) -> String {
    match report(server) {
        ServerEvent::ShardRestarted { shard: restarted, reason } if restarted == shard => reason,
        other => panic!("{other:?}"),
    }
}

const CALM: Duration = Duration::from_secs(30);

#[test]
fn a_panic_costs_an_order_and_not_the_state() {
    let server = start(1, CALM);
    add(&server, 1, 1);
    for _ in 0..5 {
        server.inject(0, Fault::Panic);
    }
    assert!(answers(&server, 1, 1, 20));
    until("five panics", || metric(&server, "panics") == 5);
    assert_eq!(metric(&server, "restarts"), 0);
}

#[test]
fn a_panic_while_sending_costs_what_was_sent_and_happens_once() {
    let server = start(1, CALM);
    add(&server, 1, 1);
    server.inject(0, Fault::PanicInFlush);
    assert!(answers(&server, 1, 1, 20));
    until("the second answer", || metric(&server, "stun_in") >= 2);
    assert_eq!((metric(&server, "panics"), metric(&server, "dropped_send"), metric(&server, "restarts")), (1, 1, 0));
}

#[test]
fn a_panic_outside_every_guard_gives_the_state_up_and_the_port_serves_again() {
    let server = start(2, CALM);
    let port = server.port(RoomId(1));
    add(&server, 1, 1);
    add(&server, 2, 2);
    assert!(answers(&server, 1, 1, 20) && answers(&server, 2, 2, 20));
    until("two answers", || metric(&server, "stun_in") >= 2);
    let answered = metric(&server, "stun_in");
    server.inject(1, Fault::Die);
    let reason = restart_reason(&server, 1);
    assert!(reason.contains("a test wants the shard to die"), "{reason}");
    assert!(!answers(&server, 1, 1, 3), "its peers are gone");
    add(&server, 3, 1);
    assert!(answers(&server, 3, 1, 20));
    assert_eq!(server.port(RoomId(1)), port);
    assert!(answers(&server, 2, 2, 20), "the other shard knows nothing of it");
    until("counters that go on", || metric(&server, "stun_in") > answered);
    assert_eq!(metric(&server, "restarts"), 1);
    server.send(Command::RemovePeer { peer: PeerId(1) });
}

#[test]
fn panics_without_end_give_the_state_up() {
    let server = start(1, CALM);
    for _ in 0..21 {
        server.inject(0, Fault::Panic);
    }
    let reason = restart_reason(&server, 0);
    assert!(reason.contains("more than 20 panics within 10 s"), "{reason}");
    add(&server, 1, 1);
    assert!(answers(&server, 1, 1, 20));
}

#[test]
fn a_system_call_that_fails_for_good_gives_the_state_up() {
    let server = start(1, CALM);
    server.inject(0, Fault::Error);
    let reason = restart_reason(&server, 0);
    assert!(reason.starts_with("recvmmsg: "), "{reason}");
    add(&server, 1, 1);
    assert!(answers(&server, 1, 1, 20));
}

#[test]
fn after_too_many_restarts_a_shard_is_given_up_and_the_others_go_on() {
    let server = start(2, CALM);
    for _ in 0..5 {
        server.inject(0, Fault::Die);
        restart_reason(&server, 0);
    }
    server.inject(0, Fault::Die);
    match report(&server) {
        ServerEvent::ShardFailed { shard: 0, reason } => {
            assert!(reason.ends_with("given up after 5 restarts within 60 s"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    add(&server, 1, 1);
    assert!(answers(&server, 1, 1, 20));
    add(&server, 2, 2);
    assert!(!answers(&server, 2, 2, 2));
    server.close();
}

#[test]
fn a_shard_that_does_not_turn_is_reported_once_and_does_not_hold_up_the_end() {
    let server = start(1, Duration::from_millis(500));
    server.inject(0, Fault::Stall(Duration::from_secs(60)));
    match report(&server) {
        ServerEvent::ShardStuck { shard: 0, reason } => assert_eq!(reason, "no turn for 0.5 s"),
        other => panic!("{other:?}"),
    }
    std::thread::sleep(Duration::from_millis(1500));
    assert!(server.poll_events().is_empty());
    let began = Instant::now();
    server.close();
    assert!(began.elapsed() < Duration::from_secs(10), "a minute was not waited for");
}

#[test]
fn a_shard_that_has_nothing_to_do_is_not_stuck() {
    let server = start(2, Duration::from_secs(2));
    std::thread::sleep(Duration::from_millis(3500));
    assert!(server.poll_events().is_empty());
}
