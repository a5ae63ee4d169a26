//! The only place that starts threads: one per store, which is given a piece of work to repeat and sleeps between.

use std::{sync::Arc, time::Duration};

use crate::sync::{
    Condvar, Mutex, PoisonError,
    thread::{self, JoinHandle},
};

/// What a piece of work came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Something was done: there may be more.
    Done,
    /// Nothing was due.
    Idle,
    /// There will never be anything to do again.
    Over,
}

/// Whether the thread has to end, and the means to wake it for that.
#[derive(Debug, Default)]
struct Stop {
    is_asked: Mutex<bool>,
    asked: Condvar,
}

impl Stop {
    fn ask(&self) {
        *self.is_asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.asked.notify_all();
    }

    fn is_asked(&self) -> bool {
        *self.is_asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for that long, or until asked; says whether it was.
    fn wait(&self, time: Duration) -> bool {
        let is_asked = self.is_asked.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.asked.wait_timeout_while(is_asked, time, |is_asked| !*is_asked);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The thread of a store.
#[derive(Debug)]
pub(crate) struct Background {
    stop: Arc<Stop>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    /// Starts a thread that calls `step` again and again, and sleeps for `idle` when nothing was due. `None` if the
    /// system gives no thread: the store then does its work when it is written to.
    pub(crate) fn start(
        idle: Duration,
        step: impl FnMut() -> Progress + Send + 'static,
    ) -> Option<Self> {
        let stop = Arc::new(Stop::default());
        let stopped = Arc::clone(&stop);
        let work = move || run(&stopped, idle, step);
        let thread = thread::Builder::new().name("tierce".to_owned()).spawn(work).ok()?;
        Some(Self { stop, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the thread and waits for it, unless it is the one that asks.
    pub(crate) fn stop(&self) {
        self.stop.ask();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            // A panic was reported to the store by the work itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.ask();
    }
}

/// Lets this thread rest, so that work keeps to its rate.
pub(crate) fn rest(ms: u64) {
    if ms > 0 {
        thread::sleep(Duration::from_millis(ms));
    }
}

fn run(stop: &Stop, idle: Duration, mut step: impl FnMut() -> Progress) {
    while !stop.wait(idle) {
        loop {
            match step() {
                Progress::Done if !stop.is_asked() => {}
                Progress::Done | Progress::Idle => break,
                Progress::Over => return,
            }
        }
    }
}
