//! A clock that stands still until a test moves it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tierce_engine::io::{Clock, OsClock};

use crate::rng;

/// The handle of a clock; clones show and move the same time.
#[derive(Clone, Debug)]
pub struct TestClock {
    time: Arc<Mutex<Time>>,
    /// Milliseconds that the machine has slept.
    asleep_ms: Arc<AtomicU64>,
    /// Where its random numbers are, if a seed determines them.
    random: Option<Arc<AtomicU64>>,
}

/// What a [`TestClock`] shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// Milliseconds since the Unix epoch, as the machine believes.
    pub wall_ms: u64,
    /// Milliseconds since the machine was started.
    pub monotonic_ms: u64,
    /// Name of the machine's boot.
    pub boot_id: [u8; 16],
}

impl TestClock {
    /// Where a new clock stands: some day in 2023.
    pub const START_MS: u64 = 1_700_000_000_000;

    /// A clock at [`Self::START_MS`].
    #[must_use]
    pub fn new() -> Self {
        Self::at(Time { wall_ms: Self::START_MS, monotonic_ms: 1_000, boot_id: [1; 16] })
    }

    /// A clock of its own that stands at `time`.
    #[must_use]
    pub fn at(time: Time) -> Self {
        Self { time: Arc::new(Mutex::new(time)), asleep_ms: Arc::default(), random: None }
    }

    /// As this one, with random numbers that `seed` determines: a store made with it has the same hashes each time.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.random = Some(Arc::new(AtomicU64::new(seed)));
        self
    }

    /// What it shows now.
    #[must_use]
    pub fn time(&self) -> Time {
        *self.hold()
    }

    /// Time passes: both clocks go on.
    pub fn advance(&self, ms: u64) {
        let mut time = self.hold();
        time.wall_ms = time.wall_ms.saturating_add(ms);
        time.monotonic_ms = time.monotonic_ms.saturating_add(ms);
    }

    /// The machine sleeps: the wall clock goes on, and the monotonic one stands.
    pub fn sleep(&self, ms: u64) {
        self.asleep_ms.fetch_add(ms, Ordering::Relaxed);
        let mut time = self.hold();
        time.wall_ms = time.wall_ms.saturating_add(ms);
    }

    /// Sets the wall clock and leaves the monotonic one: a jump, in either direction.
    pub fn set_wall(&self, wall_ms: u64) {
        self.hold().wall_ms = wall_ms;
    }

    /// Moves the wall clock alone by so many milliseconds, back if negative.
    pub fn jump_wall(&self, ms: i64) {
        let mut time = self.hold();
        time.wall_ms = time.wall_ms.saturating_add_signed(ms);
    }

    /// The machine is another boot from now on.
    pub fn set_boot_id(&self, boot_id: [u8; 16]) {
        self.hold().boot_id = boot_id;
    }

    /// The machine was restarted: another boot, whose monotonic clock begins anew.
    pub fn reboot(&self) {
        let mut time = self.hold();
        time.boot_id = (u128::from_le_bytes(time.boot_id).wrapping_add(1)).to_le_bytes();
        time.monotonic_ms = 0;
    }

    pub(crate) fn hold(&self) -> MutexGuard<'_, Time> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TestClock {
    fn wall_ms(&self) -> u64 {
        self.hold().wall_ms
    }

    fn monotonic_ms(&self) -> u64 {
        self.hold().monotonic_ms
    }

    fn boot_ms(&self) -> u64 {
        self.monotonic_ms().saturating_add(self.asleep_ms.load(Ordering::Relaxed))
    }

    fn boot_id(&self) -> [u8; 16] {
        self.hold().boot_id
    }

    fn random(&self) -> u64 {
        match &self.random {
            Some(at) => rng::mix(at.fetch_add(0x9e37_79b9, Ordering::Relaxed)),
            None => OsClock.random(),
        }
    }
}
