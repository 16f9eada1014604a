//! What sealing and opening an RTP packet costs: one JSON line per profile and packet size.
//!
//! `cargo run --release -p greenroom-secure --example seal`. Each figure is the least of many short runs, because other
//! load only ever adds to it. `ratio` compares with AEAD_AES_128_GCM sealing of the same size.

use std::hint::black_box;
use std::time::Instant;

use greenroom_secure::srtp::{MAX_OVERHEAD, MasterKey, Profile, SrtpRx, SrtpTx};

const HEADER_LEN: usize = 20;
const RUNS: usize = 200;
const PACKETS: u64 = 500;

/// Least nanoseconds per packet of `RUNS` runs.
fn measure(mut run: impl FnMut(u64)) -> f64 {
    let mut least = f64::MAX;
    let mut index = 0;
    for _ in 0..RUNS {
        let start = Instant::now();
        for _ in 0..PACKETS {
            run(index);
            index += 1;
        }
        least = least.min(start.elapsed().as_nanos() as f64 / PACKETS as f64);
    }
    least
}

fn main() {
    for size in [150, 1100] {
        let mut reference = None;
        for profile in [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::Aes128CmSha1_80] {
            let key = MasterKey::new(profile, &vec![1; profile.key_len()], &vec![2; profile.salt_len()])
                .expect("lengths of the profile");
            let (mut tx, mut rx) = (SrtpTx::new(&key), SrtpRx::new(&key));
            let mut buf = vec![0x5a; size + MAX_OVERHEAD];
            buf[0] = 0x90;
            let seal_ns = measure(|index| {
                buf[2..4].copy_from_slice(&(index as u16).to_be_bytes());
                black_box(tx.seal_rtp(black_box(&mut buf), HEADER_LEN, size, index));
            });
            buf[2..4].copy_from_slice(&[0, 1]);
            let len = tx.seal_rtp(&mut buf, HEADER_LEN, size, 1);
            let (sealed, mut scratch) = (buf[..len].to_vec(), vec![0; len]);
            let open_ns = measure(|_| {
                scratch.copy_from_slice(&sealed);
                black_box(rx.open_rtp(black_box(&mut scratch), HEADER_LEN, 1)).expect("an authentic packet");
            });
            let reference = *reference.get_or_insert(seal_ns);
            let ratio = seal_ns / reference;
            println!(
                "{{\"bench\": \"srtp\", \"profile\": \"{profile}\", \"bytes\": {size}, \"seal_ns\": {seal_ns:.0}, \
                 \"open_ns\": {open_ns:.0}, \"ratio\": {ratio:.2}}}"
            );
        }
    }
}
