//! The life of a shard thread: one shard after another on the same sockets, and a report of each that failed.
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use greenroom_forward::{Shard, ShardConfig};
use greenroom_secure::dtls::Certificate;

use crate::ServerEvent;
use crate::link::{Link, Status};
use crate::recent::Recent;
use crate::worker::{Ended, Worker, panic_text};

/// More restarts than this within the window, and the shard is given up.
const MAX_RESTARTS: usize = 5;
const RESTART_WINDOW: Duration = Duration::from_secs(60);
/// For each shard in a row that lived no longer than this, the next one waits this much more: what fails at once must
/// not fail in a tight circle.
const SHORT_LIFE: Duration = Duration::from_secs(1);
const RESTART_PAUSE: Duration = Duration::from_millis(50);

/// Runs on the shard's thread until it is told to stop, or gives up.
pub(crate) fn supervise(index: usize, mut link: Link, certificate: &Certificate) {
    let status = link.status.clone();
    let _ending = Ending(status);
    let mut restarts = Recent::new(MAX_RESTARTS, RESTART_WINDOW);
    let mut short_lives = 0;
    loop {
        let began = Instant::now();
        let Err(ended) = run_one(&mut link, certificate) else { return };
        link.retire();
        if restarts.add(Instant::now()) {
            let reason =
                format!("{ended}; given up after {MAX_RESTARTS} restarts within {} s", RESTART_WINDOW.as_secs());
            link.events.push(ServerEvent::ShardFailed { shard: index, reason });
            return;
        }
        link.restarts += 1;
        link.events.push(ServerEvent::ShardRestarted { shard: index, reason: ended.to_string() });
        short_lives = if began.elapsed() < SHORT_LIFE { short_lives + 1 } else { 0 };
        link.status.beat();
        std::thread::sleep(RESTART_PAUSE * short_lives);
    }
}

/// Runs one shard to its end. Its state is dropped here, whatever condition it is in.
fn run_one(link: &mut Link, certificate: &Certificate) -> Result<(), Ended> {
    let run = AssertUnwindSafe(|| {
        let config = ShardConfig {
            certificate: certificate.clone(),
            seed: random_seed().map_err(|error| Ended::Io("getrandom", error))?,
            unix_micros: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64),
            pad_runs: link.sockets.iter().any(|socket| socket.segmentation),
        };
        Worker::new(link, Shard::new(config, Instant::now())).run()
    });
    match catch_unwind(run) {
        Ok(result) => result,
        Err(payload) => {
            link.panics += 1;
            Err(Ended::Panic(panic_text(&*payload)))
        }
    }
}

/// Says that the thread is over, however that comes about.
struct Ending(Arc<Status>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.die();
        } else {
            self.0.end();
        }
    }
}

fn random_seed() -> io::Result<u64> {
    let mut seed = [0u8; 8];
    // SAFETY: eight bytes are written to `seed`.
    let got = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
    if got == seed.len() as isize { Ok(u64::from_ne_bytes(seed)) } else { Err(io::Error::last_os_error()) }
}
