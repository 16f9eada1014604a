//! Two engines in one process, joined over loopback UDP.
#![allow(dead_code, reason = "each test uses its own part")]

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use greenroom_peer::{Engine, Event, Peer};

pub const PATIENCE: Duration = Duration::from_secs(10);

/// An engine and the events that nobody waited for yet.
pub struct Side {
    pub engine: Engine,
    pub seen: VecDeque<Event>,
}

impl Side {
    pub fn new() -> Self {
        let loopback = vec![IpAddr::from([127, 0, 0, 1])];
        Self { engine: Engine::with_addresses(1, loopback).unwrap(), seen: VecDeque::new() }
    }

    /// The first event that `wanted` takes; the others stay for later waits.
    pub fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for index in 0..self.seen.len() {
                if let Some(found) = wanted(&self.seen[index]) {
                    self.seen.remove(index);
                    return found;
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {what} within {PATIENCE:?}; seen: {:?}", self.seen);
            let mut poll = libc::pollfd { fd: self.engine.events().fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd that lives.
            unsafe { libc::poll(&mut poll, 1, left.as_millis() as i32 + 1) };
            self.seen.extend(self.engine.events().take());
        }
    }

    pub fn wait_for(&mut self, event: Event) {
        self.wait(&format!("{event:?}"), |seen| (*seen == event).then_some(()));
    }

    /// Everything that has happened so far.
    pub fn drain(&mut self) -> &mut VecDeque<Event> {
        self.seen.extend(self.engine.events().take());
        &mut self.seen
    }
}

/// One offer and its answer.
pub fn negotiate(offerer: &Peer, answerer: &Peer) -> (String, String) {
    let offer = offerer.create_offer(false).unwrap();
    let answer = answerer.accept_offer(&offer).unwrap();
    offerer.set_answer(&answer).unwrap();
    (offer, answer)
}

/// Sine samples, one channel, amplitude 12000.
pub fn tone(rate: u32, hz: f64, frames: usize) -> Vec<i16> {
    let step = std::f64::consts::TAU * hz / f64::from(rate);
    (0..frames).map(|n| (12_000.0 * (step * n as f64).sin()) as i16).collect()
}

/// The share of the power that lies at `hz`.
pub fn purity(pcm: &[i16], rate: u32, hz: f64) -> f64 {
    let (mut re, mut im, mut all) = (0.0, 0.0, 1e-9);
    for (n, s) in pcm.iter().enumerate() {
        let phase = std::f64::consts::TAU * hz * n as f64 / f64::from(rate);
        re += f64::from(*s) * phase.cos();
        im += f64::from(*s) * phase.sin();
        all += f64::from(*s).powi(2);
    }
    2.0 * (re * re + im * im) / pcm.len() as f64 / all
}
