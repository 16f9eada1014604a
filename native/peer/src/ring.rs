//! Frames on their way to the program: a bounded queue per sink, whose readiness is announced once until it is read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::event::{Event, EventQueue, Id};
use crate::lock;

struct State<T> {
    frames: VecDeque<T>,
    announced: bool,
    ended: bool,
}

pub struct FrameRing<T> {
    id: Id,
    capacity: usize,
    ready: fn(Id) -> Event,
    events: Arc<EventQueue>,
    state: Mutex<State<T>>,
}

impl<T> FrameRing<T> {
    pub(crate) fn new(id: Id, capacity: usize, ready: fn(Id) -> Event, events: Arc<EventQueue>) -> Self {
        let state = Mutex::new(State { frames: VecDeque::new(), announced: false, ended: false });
        Self { id, capacity: capacity.max(1), ready, events, state }
    }

    pub fn id(&self) -> Id {
        self.id
    }

    /// Add a frame; the oldest makes room when the ring is full.
    pub(crate) fn push(&self, frame: T) {
        let mut state = lock(&self.state);
        if state.ended {
            return;
        }
        if state.frames.len() >= self.capacity {
            state.frames.pop_front();
        }
        state.frames.push_back(frame);
        if !std::mem::replace(&mut state.announced, true) {
            self.events.push((self.ready)(self.id));
        }
    }

    /// Take all frames that wait.
    pub fn read(&self) -> VecDeque<T> {
        let mut state = lock(&self.state);
        state.announced = false;
        std::mem::take(&mut state.frames)
    }

    /// No more frames: said once, after the frames that still wait.
    pub(crate) fn end(&self) {
        let mut state = lock(&self.state);
        if !std::mem::replace(&mut state.ended, true) {
            self.events.push(Event::End(self.id));
        }
    }
}
