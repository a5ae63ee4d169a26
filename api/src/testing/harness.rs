//! Runs handlers as the runtime does, on a clock that stands still between turns.

use std::{sync::Arc, time::Duration};

use super::{ManualClock, MemoryStore, ProbeStore};
use crate::{
    error::Result,
    state::{Failure, Outcome, Policy, Reading, Runtime, State, StateStore, Telemetry},
};

/// A runtime for tests: a store in memory that counts saves, a clock of its own, and turns on command.
///
/// ```
/// use serde_json::json;
/// use tierce::{state::OnShutdown, testing::{Harness, seeded}};
///
/// let mut harness = Harness::with_store(seeded([("sensor", json!({"count": 99}))]));
/// harness.telemetry("sensor", OnShutdown, |state| {
///     assert_eq!(state.get::<u64>("count")?, Some(99));
///     Ok(None)
/// })?;
/// let run = harness.run(1);
/// assert!(run.failures.is_empty());
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Debug)]
pub struct Harness {
    runtime: Runtime,
    store: Arc<ProbeStore>,
    clock: ManualClock,
}

/// What [`Harness::run`] did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Run {
    /// How many handlers were called.
    pub ran: usize,
    /// How many readings were published.
    pub published: usize,
    /// How many saves there were before the stop.
    pub saved: usize,
    /// What failed, in turns and at the stop.
    pub failures: Vec<Failure>,
}

impl Harness {
    /// How far the clock goes after each turn: the interval of every handler.
    pub const INTERVAL: Duration = Duration::from_secs(10);

    /// One with an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::with_store(Arc::new(MemoryStore::new()))
    }

    /// One with a store of the caller.
    #[must_use]
    pub fn with_store(store: Arc<dyn StateStore>) -> Self {
        let (store, clock) = (Arc::new(ProbeStore::new(store)), ManualClock::new());
        let runtime = Runtime::new(store.clone()).clock(clock.clone());
        Self { runtime, store, clock }
    }

    /// Registers a handler.
    ///
    /// # Errors
    /// As [`Runtime::add`].
    pub fn telemetry(
        &mut self,
        name: impl Into<String>,
        policy: impl Into<Policy>,
        handler: impl FnMut(&State) -> Reading + Send + 'static,
    ) -> Result<()> {
        self.runtime.add(Telemetry::new(name, Self::INTERVAL).policy(policy), handler)
    }

    /// The runtime, for what else there is to register.
    pub const fn runtime(&mut self) -> &mut Runtime {
        &mut self.runtime
    }

    /// The store, with its count of saves.
    #[must_use]
    pub const fn store(&self) -> &Arc<ProbeStore> {
        &self.store
    }

    /// The clock.
    #[must_use]
    pub const fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Calls every handler `turns` times, an interval apart, and does not stop.
    pub fn turns(&mut self, turns: usize) -> Run {
        let mut run = Run::default();
        for _ in 0..turns {
            let Outcome { ran, published, saved, failures } = self.runtime.step();
            run.ran += ran;
            run.published += published;
            run.saved += saved;
            run.failures.extend(failures);
            self.clock.advance(Self::INTERVAL);
        }
        run
    }

    /// Calls every handler `turns` times, an interval apart, and stops gracefully.
    pub fn run(&mut self, turns: usize) -> Run {
        let mut run = self.turns(turns);
        run.failures.extend(self.runtime.shutdown().err().into_iter().flatten());
        run
    }
}

impl Default for Harness {
    fn default() -> Self {
        Self::new()
    }
}
