//! The only place that starts threads: one per store, which calls the engine's `step` and sleeps.

use std::{
    sync::{Mutex, PoisonError, Weak},
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::engine::Shared;

/// The thread of a store.
#[derive(Debug)]
pub(crate) struct Background {
    stop: Sender<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A step that found nothing to do is followed by a sleep of at most this.
const IDLE: Duration = Duration::from_millis(100);

impl Background {
    /// Starts the thread; it holds the store only while it works. `None` if the system gives no thread: the store
    /// then does its work when it is written to.
    pub(crate) fn start(shared: Weak<Shared>, every: Duration) -> Option<Self> {
        let (stop, stopped) = bounded(1);
        let work = move || run(&shared, &stopped, every.min(IDLE));
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
            // A panic in the thread was its own; the store goes on without it.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Weak<Shared>, stopped: &Receiver<()>, idle: Duration) {
    loop {
        match stopped.recv_timeout(idle) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some(shared) = shared.upgrade() else { return };
        // Failures are kept by the store: its health says so, and writers are told.
        while matches!(shared.step(), Ok(true)) {
            if !stopped.is_empty() {
                return;
            }
        }
    }
}
