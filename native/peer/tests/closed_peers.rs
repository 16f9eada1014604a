//! What a closed peer leaves behind. Alone in its file, because it counts the descriptors of the whole process.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use greenroom_peer::{Engine, MediaKind};

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[test]
fn closed_peers_give_their_sockets_back_while_the_engine_lives() {
    let engine = Engine::with_addresses(1, vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]).unwrap();
    let before = descriptors();
    for round in 0..20 {
        let peer = engine.add_peer().unwrap();
        peer.add_receive(MediaKind::Audio, 1).unwrap();
        assert!(descriptors() > before, "round {round}");
        peer.close();
        assert!(peer.create_offer(false).is_err());
    }
    // The engine's thread lets go of them when it comes round.
    let end = Instant::now() + Duration::from_secs(20);
    while descriptors() > before {
        assert!(Instant::now() < end, "{} descriptors before, {} after", before, descriptors());
        std::thread::sleep(Duration::from_millis(5));
    }
}
