//! A few threads that run codec work at given instants, so that neither the I/O thread nor the program waits for it.
//!
//! A task belongs to one thread for its life: its runs never overlap and stay in order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::lock;

pub trait Task: Send + Sync {
    /// Do what is due at `now`; say when to be run next. None: when somebody wakes the task.
    fn run(&self, now: Instant) -> Option<Instant>;
    /// The task panicked; it is not run again.
    fn failed(&self) {}
}

struct Slot {
    task: Weak<dyn Task>,
    /// The instant of the one valid entry in the heap.
    due: Mutex<Option<Instant>>,
}

struct Entry {
    at: Instant,
    order: usize,
    slot: Arc<Slot>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[derive(Default)]
struct Heap {
    entries: BinaryHeap<Reverse<Entry>>,
    next_order: usize,
    stopped: bool,
}

#[derive(Default)]
struct Worker {
    heap: Mutex<Heap>,
    changed: Condvar,
}

/// Wakes one task.
#[derive(Clone)]
pub struct TaskHandle {
    worker: Arc<Worker>,
    slot: Arc<Slot>,
}

impl TaskHandle {
    /// Run the task at `at`, or earlier when it is already due earlier.
    pub fn wake_at(&self, at: Instant) {
        let mut heap = lock(&self.worker.heap);
        let mut due = lock(&self.slot.due);
        if heap.stopped || due.is_some_and(|old| old <= at) {
            return;
        }
        *due = Some(at);
        drop(due);
        let first = heap.entries.peek().is_none_or(|Reverse(entry)| at < entry.at);
        let order = heap.next_order;
        heap.next_order += 1;
        heap.entries.push(Reverse(Entry { at, order, slot: self.slot.clone() }));
        if first {
            self.worker.changed.notify_one();
        }
    }

    pub fn wake(&self) {
        self.wake_at(Instant::now());
    }
}

pub struct CodecPool {
    workers: Vec<Arc<Worker>>,
    next: AtomicUsize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl CodecPool {
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let workers: Vec<Arc<Worker>> = (0..threads.max(1)).map(|_| Arc::default()).collect();
        let pool = Self { workers, next: AtomicUsize::new(0), threads: Mutex::default() };
        for (index, worker) in pool.workers.iter().enumerate() {
            let worker = worker.clone();
            let thread =
                std::thread::Builder::new().name(format!("gr-codec-{index}")).spawn(move || run_worker(&worker))?;
            lock(&pool.threads).push(thread);
        }
        Ok(pool)
    }

    /// Give `task` a thread. The pool does not keep it alive.
    pub fn adopt(&self, task: Weak<dyn Task>) -> TaskHandle {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.workers.len();
        TaskHandle { worker: self.workers[index].clone(), slot: Arc::new(Slot { task, due: Mutex::new(None) }) }
    }

    /// Stop and join the threads. Twice is fine.
    pub fn stop(&self) {
        for worker in &self.workers {
            let mut heap = lock(&worker.heap);
            heap.stopped = true;
            heap.entries.clear();
            worker.changed.notify_all();
        }
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // A codec thread that drops the last handle of an engine must not wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for CodecPool {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run_worker(worker: &Worker) {
    let mut heap = lock(&worker.heap);
    loop {
        if heap.stopped {
            return;
        }
        let now = Instant::now();
        let wait = heap.entries.peek().map(|Reverse(entry)| entry.at.saturating_duration_since(now));
        match wait {
            None => heap = worker.changed.wait(heap).unwrap_or_else(|poisoned| poisoned.into_inner()),
            Some(wait) if !wait.is_zero() => {
                heap = worker.changed.wait_timeout(heap, wait).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            }
            Some(_) => {
                let Some(Reverse(entry)) = heap.entries.pop() else { continue };
                {
                    let mut due = lock(&entry.slot.due);
                    if *due != Some(entry.at) {
                        continue;
                    }
                    *due = None;
                }
                drop(heap);
                run_task(worker, &entry.slot, now);
                heap = lock(&worker.heap);
            }
        }
    }
}

fn run_task(worker: &Worker, slot: &Arc<Slot>, now: Instant) {
    let Some(task) = slot.task.upgrade() else { return };
    match catch_unwind(AssertUnwindSafe(|| task.run(now))) {
        Ok(None) => {}
        Ok(Some(at)) => {
            let mut heap = lock(&worker.heap);
            let mut due = lock(&slot.due);
            if !heap.stopped && due.is_none_or(|old| at < old) {
                *due = Some(at);
                let order = heap.next_order;
                heap.next_order += 1;
                heap.entries.push(Reverse(Entry { at, order, slot: slot.clone() }));
            }
        }
        Err(_) => {
            log::error!("a codec task panicked and is stopped");
            task.failed();
        }
    }
}
