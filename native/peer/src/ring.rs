//! Frames on their way to the program: a bounded queue per sink, whose readiness is announced once until it is read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::event::{Event, EventQueue, Id};
use crate::lock;

struct State<T> {
    frames: VecDeque<T>,
    weight: usize,
    announced: bool,
    ended: bool,
    /// Frames that made room for others: since the last read, and in all.
    unsaid: u64,
    dropped: u64,
}

pub struct FrameRing<T> {
    id: Id,
    capacity: usize,
    weigh: fn(&T) -> usize,
    max_weight: usize,
    ready: fn(Id) -> Event,
    events: Arc<EventQueue>,
    state: Mutex<State<T>>,
}

impl<T> FrameRing<T> {
    pub(crate) fn new(id: Id, capacity: usize, ready: fn(Id) -> Event, events: Arc<EventQueue>) -> Self {
        Self::weighed(id, capacity, |_| 0, usize::MAX, ready, events)
    }

    /// Bounded by what its frames weigh together, too.
    pub(crate) fn weighed(
        id: Id,
        capacity: usize,
        weigh: fn(&T) -> usize,
        max_weight: usize,
        ready: fn(Id) -> Event,
        events: Arc<EventQueue>,
    ) -> Self {
        let state = State { frames: VecDeque::new(), weight: 0, announced: false, ended: false, unsaid: 0, dropped: 0 };
        Self { id, capacity: capacity.max(1), weigh, max_weight, ready, events, state: Mutex::new(state) }
    }

    pub fn id(&self) -> Id {
        self.id
    }

    /// Add a frame; the oldest make room when the ring is full.
    pub(crate) fn push(&self, frame: T) {
        let weight = (self.weigh)(&frame);
        let mut state = lock(&self.state);
        if state.ended {
            return;
        }
        while state.frames.len() >= self.capacity || state.weight.saturating_add(weight) > self.max_weight {
            let Some(oldest) = state.frames.pop_front() else { break };
            state.weight -= (self.weigh)(&oldest);
            state.unsaid += 1;
            state.dropped += 1;
        }
        state.weight += weight;
        state.frames.push_back(frame);
        if !std::mem::replace(&mut state.announced, true) {
            self.events.push((self.ready)(self.id));
        }
    }

    /// Take all frames that wait.
    pub fn read(&self) -> VecDeque<T> {
        self.read_counting().0
    }

    /// All frames that wait, and how many before them made room since the last read.
    pub(crate) fn read_counting(&self) -> (VecDeque<T>, u64) {
        let mut state = lock(&self.state);
        state.announced = false;
        state.weight = 0;
        (std::mem::take(&mut state.frames), std::mem::take(&mut state.unsaid))
    }

    /// Frames that nobody read in time.
    pub fn dropped(&self) -> u64 {
        lock(&self.state).dropped
    }

    /// No more frames: said once, after the frames that still wait.
    pub(crate) fn end(&self) {
        let mut state = lock(&self.state);
        if !std::mem::replace(&mut state.ended, true) {
            self.events.push(Event::End(self.id));
        }
    }
}
