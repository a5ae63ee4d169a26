//! The server's time, carried on by this machine's monotonic clock between answers.

use std::sync::Arc;

use tierce_engine::{
    Timestamp,
    io::{Clock, OsClock},
};

use crate::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// What the server said of its time, and since when. Never goes back while the process runs.
#[derive(Debug)]
pub(super) struct ServerClock {
    machine: Arc<dyn Clock>,
    /// The server's time in the newest answer, and the monotonic time when it came.
    heard: Mutex<Option<(u64, u64)>>,
    /// The latest moment that was told to anyone.
    told: AtomicU64,
}

impl Default for ServerClock {
    fn default() -> Self {
        Self::new(Arc::new(OsClock))
    }
}

impl ServerClock {
    fn new(machine: Arc<dyn Clock>) -> Self {
        Self { machine, heard: Mutex::new(None), told: AtomicU64::new(0) }
    }

    /// Milliseconds on the monotonic clock.
    pub(super) fn monotonic_ms(&self) -> u64 {
        self.machine.monotonic_ms()
    }

    /// The machine's own opinion, for as long as the server has said nothing. It is not remembered: believing a clock
    /// that is ahead would end entries early.
    pub(super) fn wall(&self) -> Timestamp {
        Timestamp(self.machine.wall_ms())
    }

    /// The server said that it was `ms`. The answer took some time to come, so this clock is late rather than early.
    pub(super) fn hear(&self, ms: u64) {
        let now = self.machine.monotonic_ms();
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some((ms, now));
        self.told.fetch_max(ms, Ordering::AcqRel);
    }

    /// The server's time, if it ever said anything.
    pub(super) fn now(&self) -> Option<Timestamp> {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let (ms, since) = heard?;
        let now = ms.saturating_add(self.machine.monotonic_ms().saturating_sub(since));
        Some(Timestamp(self.told.fetch_max(now, Ordering::AcqRel).max(now)))
    }
}

#[cfg(test)]
mod tests {
    use tierce_kit::clock::TestClock;

    use super::*;

    /// Goal: time goes on without the server, and stands still rather than go back when the server's was set back.
    #[test]
    fn goes_on_and_never_back() {
        let machine = Arc::new(TestClock::new());
        let clock = ServerClock::new(Arc::clone(&machine) as Arc<dyn Clock>);
        assert_eq!(clock.now(), None);
        clock.hear(1_000);
        machine.advance(50);
        assert_eq!(clock.now(), Some(Timestamp(1_050)));
        clock.hear(900);
        assert_eq!(clock.now(), Some(Timestamp(1_050)));
        machine.advance(160);
        assert_eq!(clock.now(), Some(Timestamp(1_060)));
        clock.hear(5_000);
        assert_eq!(clock.now(), Some(Timestamp(5_000)));
    }
}
