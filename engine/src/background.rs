//! The only place that starts threads: one per store, which is given a piece of work to repeat and sleeps between.

use std::{
    sync::{Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

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

/// The thread of a store.
#[derive(Debug)]
pub(crate) struct Background {
    stop: Sender<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    /// Starts a thread that calls `step` again and again, and sleeps for `idle` when nothing was due. `None` if the
    /// system gives no thread: the store then does its work when it is written to.
    pub(crate) fn start(
        idle: Duration,
        step: impl FnMut() -> Progress + Send + 'static,
    ) -> Option<Self> {
        let (stop, stopped) = bounded(1);
        let work = move || run(&stopped, idle, step);
        let thread = std::thread::Builder::new().name("tierce".to_owned()).spawn(work).ok()?;
        Some(Self { stop, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the thread and waits for it, unless it is the one that asks.
    pub(crate) fn stop(&self) {
        let _ = self.stop.try_send(());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic was reported to the store by the work itself.
            let _ = thread.join();
        }
    }
}

/// Lets this thread rest, so that work keeps to its rate.
pub(crate) fn rest(ms: u64) {
    if ms > 0 {
        std::thread::sleep(Duration::from_millis(ms));
    }
}

fn run(stopped: &Receiver<()>, idle: Duration, mut step: impl FnMut() -> Progress) {
    loop {
        match stopped.recv_timeout(idle) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
        loop {
            match step() {
                Progress::Done if stopped.is_empty() => {}
                Progress::Done | Progress::Idle => break,
                Progress::Over => return,
            }
        }
    }
}
