//! Data channels between our two roles over a network with loss, on virtual time.

mod support;

use std::time::{Duration, Instant};

use greenroom_secure::dtls::Role;
use greenroom_secure::sctp::{
    Association, ChannelConfig, ChannelId, DataTransport, Reliability, SctpConfig, SctpError, SctpEvent,
};
use support::Link;

const CLIENT: usize = 0;
const SERVER: usize = 1;

struct Pair {
    now: Instant,
    link: Link,
    ends: [Association; 2],
    events: [Vec<SctpEvent>; 2],
}

impl Pair {
    fn new(link: Link) -> Self {
        Self::with_configs(link, SctpConfig::new(Role::Client), SctpConfig::new(Role::Server))
    }

    fn with_configs(link: Link, client: SctpConfig, server: SctpConfig) -> Self {
        let now = Instant::now();
        let ends = [Association::new(client, now), Association::new(server, now)];
        Self { now, link, ends, events: [Vec::new(), Vec::new()] }
    }

    fn drain(&mut self) {
        for at in [CLIENT, SERVER] {
            while let Some(event) = self.ends[at].poll_event() {
                self.events[at].push(event);
            }
            while let Some(packet) = self.ends[at].poll_transmit(self.now) {
                assert!(packet.len() <= 1228, "an SCTP packet of {} bytes", packet.len());
                self.link.send(self.now, 1 - at, &packet);
            }
        }
    }

    /// Runs until `done` or until `limit` of virtual time has passed; whether it was done.
    fn run(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            self.drain();
            if done(self) {
                return true;
            }
            let timeouts = self.ends.each_ref().map(|end| end.poll_timeout());
            let next = timeouts.into_iter().flatten().chain(self.link.next_arrival()).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return false;
            };
            self.now = self.now.max(next);
            while let Some((to, packet)) = self.link.receive(self.now) {
                self.ends[to].handle_packet(self.now, &packet);
            }
            for end in &mut self.ends {
                end.handle_timeout(self.now);
            }
        }
    }

    fn run_for(&mut self, limit: Duration) {
        self.run(limit, |_| false);
    }

    /// Opens a channel at `at` and waits until both ends have it.
    fn open(&mut self, at: usize, config: ChannelConfig) -> ChannelId {
        let id = self.ends[at].open(config).unwrap();
        let open = self.run(Duration::from_secs(60), |pair| (0..2).all(|end| pair.is_open(end, id)));
        assert!(open, "channel {id:?} did not open: {:?}", self.events);
        id
    }

    fn is_open(&self, at: usize, channel: ChannelId) -> bool {
        self.events[at].iter().any(|event| matches!(event, SctpEvent::ChannelOpen { id, .. } if *id == channel))
    }

    fn messages(&self, at: usize, channel: ChannelId) -> Vec<(bool, &[u8])> {
        let of = |event| match event {
            &SctpEvent::Message { id, binary, ref data } if id == channel => Some((binary, &data[..])),
            _ => None,
        };
        self.events[at].iter().filter_map(of).collect()
    }
}

/// 30 ms round trip without loss.
fn clean() -> Link {
    Link::new(1, Duration::from_millis(15), Duration::ZERO, 0)
}

/// A message that says which one it is and whose bytes can be checked.
fn message(number: u32, len: usize) -> Vec<u8> {
    number.to_be_bytes().into_iter().cycle().enumerate().map(|(at, byte)| byte ^ at as u8).take(len).collect()
}

#[test]
fn channels_open_from_either_side_with_ids_of_its_parity() {
    let mut pair = Pair::new(clean());
    let configs = [
        ChannelConfig::reliable("_reliable"),
        ChannelConfig::lossy("_lossy"),
        ChannelConfig {
            label: "timed \u{e9}".into(),
            protocol: "json".into(),
            ordered: false,
            reliability: Reliability::MaxLifetime(250),
        },
    ];
    for at in [CLIENT, SERVER] {
        for (number, config) in configs.iter().enumerate() {
            let id = pair.open(at, config.clone());
            assert_eq!(id, ChannelId(2 * number as u16 + at as u16));
            for end in [CLIENT, SERVER] {
                let expected = SctpEvent::ChannelOpen { id, config: config.clone(), remote: end != at };
                assert!(pair.events[end].contains(&expected), "{:?}", pair.events[end]);
            }
        }
    }
}

#[test]
fn channels_opened_before_the_association_work_once_it_is_there() {
    let mut pair = Pair::new(clean());
    let id = pair.ends[SERVER].open(ChannelConfig::reliable("early")).unwrap();
    assert_eq!(pair.ends[SERVER].send(id, true, b"x"), Err(SctpError::NotConnected));
    assert!(pair.run(Duration::from_secs(1), |pair| pair.is_open(CLIENT, id) && pair.is_open(SERVER, id)));
}

#[test]
fn channels_open_under_loss_whatever_is_lost() {
    for seed in 0..60 {
        let mut pair = Pair::new(Link::new(seed, Duration::from_millis(15), Duration::from_millis(10), 20));
        for at in [CLIENT, SERVER] {
            pair.open(at, ChannelConfig::lossy("_lossy"));
        }
    }
}

#[test]
fn text_binary_and_empty_messages_arrive_as_sent() {
    let mut pair = Pair::new(clean());
    let id = pair.open(CLIENT, ChannelConfig::reliable("chat"));
    let sent: [(bool, &[u8]); 5] =
        [(false, "gr\u{fc}n".as_bytes()), (true, &[0, 1, 255]), (false, b""), (true, b""), (true, &[0])];
    for at in [CLIENT, SERVER] {
        for (binary, data) in sent {
            pair.ends[at].send(id, binary, data).unwrap();
        }
    }
    assert!(pair.run(Duration::from_secs(1), |pair| (0..2).all(|at| pair.messages(at, id).len() == sent.len())));
    for at in [CLIENT, SERVER] {
        assert_eq!(pair.messages(at, id), sent);
    }
}

#[test]
fn negotiated_channels_need_no_opening_message() {
    let mut pair = Pair::new(clean());
    let channels = [
        (ChannelId(100), ChannelConfig::reliable("_reliable")),
        (ChannelId(101), ChannelConfig::lossy("_lossy")),
        (ChannelId(102), ChannelConfig::lossy("_data_track")),
    ];
    for at in [CLIENT, SERVER] {
        for (id, config) in &channels {
            pair.ends[at].open_negotiated(*id, config.clone()).unwrap();
            assert_eq!(pair.ends[at].open_negotiated(*id, config.clone()), Err(SctpError::NoStreamId));
        }
    }
    assert!(
        pair.run(Duration::from_secs(1), |pair| (0..2).all(|at| channels.iter().all(|(id, _)| pair.is_open(at, *id))))
    );
    for (id, _) in &channels {
        pair.ends[CLIENT].send(*id, true, b"up").unwrap();
        pair.ends[SERVER].send(*id, true, b"down").unwrap();
    }
    let arrived = |pair: &mut Pair| {
        channels.iter().all(|(id, _)| pair.messages(SERVER, *id).len() == 1 && pair.messages(CLIENT, *id).len() == 1)
    };
    assert!(pair.run(Duration::from_secs(1), arrived));
}

#[test]
fn ordered_messages_of_15_kb_arrive_complete_and_in_order_at_5_percent_loss() {
    for seed in 0..3 {
        let mut pair = Pair::new(Link::new(seed, Duration::from_millis(15), Duration::from_millis(2), 5));
        let id = pair.open(CLIENT, ChannelConfig::reliable("_reliable"));
        let (count, mut next) = (100u32, 0u32);
        let complete = pair.run(Duration::from_secs(120), |pair| {
            while next < count && pair.ends[CLIENT].send(id, true, &message(next, 15_000)).is_ok() {
                next += 1;
            }
            pair.messages(SERVER, id).len() == count as usize
        });
        assert!(complete, "seed {seed}: {} of {count}", pair.messages(SERVER, id).len());
        for (number, (_, data)) in pair.messages(SERVER, id).iter().enumerate() {
            assert_eq!(*data, message(number as u32, 15_000), "seed {seed}, message {number}");
        }
        pair.run_for(Duration::from_secs(5));
        assert_eq!(pair.ends[CLIENT].buffered_amount(id), 0);
    }
}

#[test]
fn a_lossy_channel_drops_messages_but_does_not_stall() {
    let mut pair = Pair::new(Link::new(3, Duration::from_millis(15), Duration::from_millis(2), 10));
    let id = pair.open(SERVER, ChannelConfig::lossy("_lossy"));
    let mut sent = 0u32;
    let mut arrived = 0;
    // A message every 20 ms for 40 s: in every second, some arrive.
    for second in 0..40 {
        for _ in 0..50 {
            if pair.ends[SERVER].send(id, true, &message(sent, 200)).is_ok() {
                sent += 1;
            }
            pair.run_for(Duration::from_millis(20));
        }
        let now_arrived = pair.messages(CLIENT, id).len();
        assert!(now_arrived > arrived, "nothing arrived in second {second}");
        arrived = now_arrived;
    }
    pair.run_for(Duration::from_secs(5));
    let arrived = pair.messages(CLIENT, id).len();
    assert!(arrived < sent as usize, "10 % loss and nothing dropped");
    assert!(arrived > sent as usize * 8 / 10, "{arrived} of {sent}");
    assert_eq!(pair.ends[SERVER].buffered_amount(id), 0, "dropped messages must leave the buffer");
}

#[test]
fn sending_is_bounded_and_tells_when_there_is_room() {
    let limited = SctpConfig { max_buffered: 100_000, ..SctpConfig::new(Role::Client) };
    let mut pair = Pair::with_configs(clean(), limited, SctpConfig::new(Role::Server));
    let id = pair.open(CLIENT, ChannelConfig::reliable("bulk"));
    // The opening message leaves the buffer when its acknowledgement, which SCTP delays, is here.
    pair.run_for(Duration::from_secs(1));
    pair.events[CLIENT].clear();
    pair.ends[CLIENT].set_buffered_low_threshold(id, 20_000).unwrap();
    let mut accepted = 0;
    while pair.ends[CLIENT].send(id, true, &message(accepted, 10_000)).is_ok() {
        accepted += 1;
    }
    assert_eq!(accepted, 10);
    assert_eq!(pair.ends[CLIENT].buffered_amount(id), 100_000);
    assert_eq!(pair.ends[CLIENT].send(id, true, &[0]), Err(SctpError::BufferFull));
    assert_eq!(pair.ends[CLIENT].send(id, true, &[0; 65_536]), Err(SctpError::MessageTooLarge));
    let low = SctpEvent::BufferedLow { id };
    assert!(pair.run(Duration::from_secs(5), |pair| pair.events[CLIENT].contains(&low)));
    assert!(pair.ends[CLIENT].buffered_amount(id) <= 20_000);
    pair.ends[CLIENT].send(id, true, &[0]).unwrap();
}

#[test]
fn messages_up_to_256_kib_are_accepted() {
    let large = SctpConfig { max_send_message: 256 * 1024, ..SctpConfig::new(Role::Client) };
    let mut pair = Pair::with_configs(clean(), large, SctpConfig::new(Role::Server));
    let id = pair.open(CLIENT, ChannelConfig::reliable("files"));
    pair.ends[CLIENT].send(id, true, &message(1, 256 * 1024)).unwrap();
    assert!(pair.run(Duration::from_secs(20), |pair| pair.messages(SERVER, id).len() == 1));
    assert_eq!(pair.messages(SERVER, id)[0].1, message(1, 256 * 1024));
}

#[test]
fn a_closed_channel_ends_at_both_sides_and_its_id_serves_again() {
    let mut pair = Pair::new(clean());
    for (round, (opener, closer)) in [(CLIENT, CLIENT), (CLIENT, SERVER), (SERVER, CLIENT)].into_iter().enumerate() {
        pair.events = [Vec::new(), Vec::new()];
        let id = pair.open(opener, ChannelConfig::reliable("short"));
        pair.ends[opener].send(id, false, b"bye").unwrap();
        pair.run_for(Duration::from_millis(100));
        pair.ends[closer].close_channel(id).unwrap();
        let closed = SctpEvent::ChannelClosed { id };
        let done = pair.run(Duration::from_secs(5), |pair| pair.events.iter().all(|events| events.contains(&closed)));
        assert!(done, "round {round}: {:?}", pair.events);
        pair.run_for(Duration::from_secs(2));
        for at in [CLIENT, SERVER] {
            assert_eq!(pair.events[at].iter().filter(|event| **event == closed).count(), 1, "round {round}");
            assert_eq!(pair.ends[at].send(id, true, b"late"), Err(SctpError::UnknownChannel));
        }
        assert_eq!(id, ChannelId(opener as u16), "the id is free again");
    }
}

#[test]
fn channels_are_limited() {
    let mut pair = Pair::with_configs(
        clean(),
        SctpConfig { max_channels: 10, ..SctpConfig::new(Role::Client) },
        SctpConfig { max_channels: 4, ..SctpConfig::new(Role::Server) },
    );
    let long = ChannelConfig::reliable(&"x".repeat(2000));
    assert_eq!(pair.ends[CLIENT].open(long), Err(SctpError::LabelTooLong));
    for _ in 0..10 {
        pair.ends[CLIENT].open(ChannelConfig::reliable("many")).unwrap();
    }
    assert_eq!(pair.ends[CLIENT].open(ChannelConfig::reliable("one more")), Err(SctpError::TooManyChannels));
    pair.run_for(Duration::from_secs(5));
    let count = |pair: &Pair, at: usize, of: fn(&SctpEvent) -> bool| pair.events[at].iter().filter(|e| of(e)).count();
    assert_eq!(count(&pair, SERVER, |event| matches!(event, SctpEvent::ChannelOpen { .. })), 4);
    // The others were reset, which the client learns.
    assert_eq!(count(&pair, CLIENT, |event| matches!(event, SctpEvent::ChannelClosed { .. })), 6);
}

#[test]
fn messages_nobody_polls_are_held_back_not_lost() {
    let mut pair = Pair::new(clean());
    let id = pair.open(CLIENT, ChannelConfig::reliable("flood"));
    for number in 0..2000 {
        pair.ends[CLIENT].send(id, true, &message(number, 100)).unwrap();
    }
    // The server answers, but for ten seconds its application looks at nothing.
    let end = pair.now + Duration::from_secs(10);
    while pair.now < end {
        pair.now += Duration::from_millis(5);
        for at in [CLIENT, SERVER] {
            pair.ends[at].handle_timeout(pair.now);
            while let Some(packet) = pair.ends[at].poll_transmit(pair.now) {
                pair.link.send(pair.now, 1 - at, &packet);
            }
        }
        while let Some((to, packet)) = pair.link.receive(pair.now) {
            pair.ends[to].handle_packet(pair.now, &packet);
        }
    }
    assert!(pair.run(Duration::from_secs(10), |pair| pair.messages(SERVER, id).len() == 2000));
    for (number, (_, data)) in pair.messages(SERVER, id).iter().enumerate() {
        assert_eq!(*data, message(number as u32, 100));
    }
}

#[test]
fn closing_ends_everything_once() {
    let mut pair = Pair::new(clean());
    let id = pair.open(CLIENT, ChannelConfig::reliable("x"));
    pair.ends[CLIENT].close();
    pair.ends[CLIENT].close();
    pair.drain();
    let closed = pair.events[CLIENT].iter().filter(|event| matches!(event, SctpEvent::Closed { .. })).count();
    assert_eq!(closed, 1);
    assert_eq!(pair.ends[CLIENT].send(id, true, b"x"), Err(SctpError::Closed));
    assert_eq!(pair.ends[CLIENT].open(ChannelConfig::reliable("x")), Err(SctpError::Closed));
    assert_eq!(pair.ends[CLIENT].poll_timeout(), None);
    pair.ends[CLIENT].handle_packet(pair.now, &[1, 2, 3]);
    assert_eq!(pair.ends[CLIENT].poll_event(), None);
}

#[test]
fn an_init_that_comes_late_changes_nothing() {
    let mut pair = Pair::new(clean());
    let init = pair.ends[CLIENT].poll_transmit(pair.now).expect("the client begins");
    let now = pair.now;
    pair.ends[SERVER].handle_packet(now, &init);
    let id = pair.open(CLIENT, ChannelConfig::reliable("chat"));
    // The same INIT, sent again by a timer and overtaken by the handshake.
    let now = pair.now;
    pair.ends[SERVER].handle_packet(now, &init);
    pair.ends[CLIENT].send(id, true, b"still here").unwrap();
    pair.run_for(Duration::from_secs(5));
    let arrived = |e: &SctpEvent| matches!(e, SctpEvent::Message { data, .. } if &data[..] == b"still here");
    assert!(pair.events[SERVER].iter().any(arrived));
}
