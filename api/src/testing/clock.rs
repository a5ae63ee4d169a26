//! A clock that stands still until it is moved.

use std::{sync::Arc, time::Duration};

use tierce_engine::{
    Timestamp,
    io::{Clock, OsClock},
};

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// A clock that stands still until a test moves it. Clones show and move the same time.
///
/// ```
/// use std::time::Duration;
/// use tierce::{engine::{Options, io::MemoryDisk}, testing::ManualClock};
/// let clock = ManualClock::new();
/// let engine = Options::new().disk(MemoryDisk::new()).clock(clock.clone()).open("store")?;
/// let before = engine.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(engine.now().0 - before.0, 60_000);
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<Time>>);

#[derive(Debug)]
struct Time {
    wall_ms: u64,
    monotonic_ms: u64,
    asleep_ms: u64,
}

impl ManualClock {
    /// A clock that stands in November 2023.
    #[must_use]
    pub fn new() -> Self {
        Self::at(Timestamp(1_700_000_000_000))
    }

    /// A clock that stands at `wall`.
    #[must_use]
    pub fn at(wall: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Time { wall_ms: wall.0, monotonic_ms: 1_000, asleep_ms: 0 })))
    }

    fn hold(&self) -> MutexGuard<'_, Time> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time passes; less than a millisecond does not.
    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        let mut time = self.hold();
        time.wall_ms = time.wall_ms.saturating_add(ms);
        time.monotonic_ms = time.monotonic_ms.saturating_add(ms);
    }

    /// The machine sleeps: its wall clock goes on, and its monotonic time stands.
    pub fn sleep(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut time = self.hold();
        time.wall_ms = time.wall_ms.saturating_add(ms);
        time.asleep_ms = time.asleep_ms.saturating_add(ms);
    }

    /// Sets the wall clock, forth or back, as people and time servers do. Monotonic time does not notice.
    pub fn set(&self, wall: Timestamp) {
        self.hold().wall_ms = wall.0;
    }

    /// What the wall clock shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.hold().wall_ms)
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> u64 {
        self.hold().wall_ms
    }

    fn monotonic_ms(&self) -> u64 {
        self.hold().monotonic_ms
    }

    fn boot_ms(&self) -> u64 {
        let time = self.hold();
        time.monotonic_ms.saturating_add(time.asleep_ms)
    }

    fn random(&self) -> u64 {
        OsClock.random()
    }
}
