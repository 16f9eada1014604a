//! A bad path: a relay between two participants that loses and delays datagrams as a seed says.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use greenroom_peer::Peer;

/// What happens to datagrams, drawn from `seed` one by one.
#[derive(Clone, Copy)]
pub struct Path {
    pub seed: u64,
    pub loss_percent: u64,
    pub jitter_ms: u64,
    /// Of so many datagrams out of a hundred an altered copy is sent along, and as often nonsense.
    pub garbage_percent: u64,
}

pub struct Relay {
    stop: Arc<AtomicBool>,
    pub lost: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// Negotiate `offerer` with `answerer` over a relay in both directions.
pub fn negotiate_over(path: Path, offerer: &Peer, answerer: &Peer) -> Relay {
    let offer = offerer.create_offer(false).unwrap();
    // Each side talks to its own socket of the relay.
    let sockets: Vec<UdpSocket> = (0..2).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let answer = answerer.accept_offer(&redirect(&offer, sockets[1].local_addr().unwrap())).unwrap();
    offerer.set_answer(&redirect(&answer, sockets[0].local_addr().unwrap())).unwrap();
    let (left, right) = (candidate(&offer), candidate(&answer));
    let stop = Arc::new(AtomicBool::new(false));
    let lost = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    for (index, to) in [right, left].into_iter().enumerate() {
        let (from, out) = (sockets[index].try_clone().unwrap(), sockets[1 - index].try_clone().unwrap());
        let (stop, lost) = (stop.clone(), lost.clone());
        let path = Path { seed: path.seed + index as u64, ..path };
        threads.push(std::thread::spawn(move || carry(path, &from, &out, to, &stop, &lost)));
    }
    Relay { stop, lost, threads }
}

fn carry(path: Path, from: &UdpSocket, out: &UdpSocket, to: SocketAddr, stop: &AtomicBool, lost: &AtomicU64) {
    let mut random = path.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        if below == 0 { 0 } else { random % below }
    };
    let mut waiting: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>> = BinaryHeap::new();
    let mut buf = [0u8; 2048];
    let mut order = 0;
    while !stop.load(Ordering::SeqCst) {
        let now = Instant::now();
        while waiting.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Reverse((_, _, datagram)) = waiting.pop().unwrap();
            let _ = out.send_to(&datagram, to);
        }
        let wait = waiting.peek().map_or(Duration::from_millis(20), |Reverse((at, ..))| *at - now);
        from.set_read_timeout(Some(wait.max(Duration::from_micros(100)))).unwrap();
        let Ok((len, _)) = from.recv_from(&mut buf) else { continue };
        if draw(100) < path.loss_percent {
            lost.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        if draw(100) < path.garbage_percent {
            let mut altered = buf[..len].to_vec();
            for _ in 0..=draw(4) {
                let index = draw(len as u64) as usize;
                altered[index] ^= 1 << draw(8);
            }
            altered.truncate(1 + draw(len as u64) as usize);
            let _ = out.send_to(&altered, to);
            // Every kind of first byte: STUN, DTLS, RTP and RTCP, and what is none of them.
            let nonsense: Vec<u8> = (0..1 + draw(1400)).map(|_| draw(256) as u8).collect();
            let _ = out.send_to(&nonsense, to);
        }
        order += 1;
        let at = Instant::now() + Duration::from_millis(draw(path.jitter_ms + 1));
        waiting.push(Reverse((at, order, buf[..len].to_vec())));
    }
}

fn candidate(sdp: &str) -> SocketAddr {
    let line = sdp.lines().find(|line| line.starts_with("a=candidate:")).expect("a candidate");
    let words: Vec<&str> = line.split(' ').collect();
    format!("{}:{}", words[4], words[5]).parse().unwrap()
}

fn redirect(sdp: &str, to: SocketAddr) -> String {
    let from = candidate(sdp);
    sdp.replace(&format!(" {} {} typ", from.ip(), from.port()), &format!(" {} {} typ", to.ip(), to.port()))
}
