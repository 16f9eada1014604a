//! The thread that notices shard threads which do not turn any more: a loop without end in the core, a system call that
//! does not return. It counts its own ticks and compares turns, so that a machine that slept blames nobody.
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::ServerEvent;
use crate::events::Events;
use crate::link::Status;

/// Ticks without a turn after which a shard is stuck.
const TICKS: u32 = 10;

/// Stops watching when it is dropped.
pub(crate) struct Watchdog {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Reports a shard that has not turned for `stuck_after`, once until it turns again, and one whose thread is gone
    /// without a word.
    pub(crate) fn start(shards: Vec<Arc<Status>>, stuck_after: Duration, events: Arc<Events>) -> io::Result<Watchdog> {
        let (stop, stopped) = bounded(0);
        let tick = (stuck_after / TICKS).max(Duration::from_millis(1));
        let thread = std::thread::Builder::new()
            .name("greenroom-watch".to_owned())
            .spawn(move || watch(&shards, tick, stuck_after, &events, &stopped))?;
        Ok(Watchdog { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the watchdog had panicked");
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Seen {
    turns: u64,
    ticks: u32,
    lost: bool,
}

fn watch(shards: &[Arc<Status>], tick: Duration, stuck_after: Duration, events: &Events, stopped: &Receiver<()>) {
    let mut seen = vec![Seen::default(); shards.len()];
    while stopped.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
        for (shard, (status, seen)) in shards.iter().zip(&mut seen).enumerate() {
            let turns = status.turns();
            if status.has_ended() || seen.lost {
                continue;
            }
            if status.has_died() {
                seen.lost = true;
                events.push(ServerEvent::ShardFailed { shard, reason: "its thread ended".to_owned() });
            } else if turns != seen.turns {
                *seen = Seen { turns, ..Seen::default() };
            } else {
                seen.ticks = seen.ticks.saturating_add(1);
                if seen.ticks == TICKS {
                    let reason = format!("no turn for {} s", stuck_after.as_secs_f32());
                    events.push(ServerEvent::ShardStuck { shard, reason });
                }
            }
        }
    }
}
