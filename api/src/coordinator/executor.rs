//! Threads and time of coordinators: those of the process, some of their own, or a clock that a test moves.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use tierce_engine::{
    Timestamp,
    io::{Clock, OsClock},
};

use crate::{
    pool::{Pool, Timer},
    sync::{Mutex, PoisonError},
};

/// The threads and the clock that coordinators and mutations run on. A cheap handle: clones are the same.
///
/// At most four worker threads and one timer thread, however many coordinators there are; they are started when first
/// needed, end when nothing was to do for some seconds, and end for good when the last handle is gone. Nothing of it
/// survives the process.
///
/// ```
/// use tierce::coordinator::{Coordinator, FetchError, Executor};
/// let executor = Executor::new();
/// let answer = Coordinator::builder(|| Ok::<_, FetchError>(42)).executor(&executor).build();
/// answer.refresh()?;
/// executor.close();
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone)]
pub struct Executor(Arc<Parts>);

struct Parts {
    pool: Pool,
    timer: Timer,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("pool", &self.0.pool)
            .field("timer", &self.0.timer)
            .finish_non_exhaustive()
    }
}

impl Default for Executor {
    /// As [`Executor::shared`].
    fn default() -> Self {
        Self::shared()
    }
}

impl Executor {
    /// Threads of its own, by the machine's clock.
    ///
    /// ```
    /// let executor = tierce::coordinator::Executor::new();
    /// executor.close();
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::of(Pool::new(), Arc::new(OsClock))
    }

    /// The executor that the whole process shares; what a builder takes that was given none. It lives as long as
    /// somebody uses it. Do not [`close`](Self::close) it.
    ///
    /// ```
    /// let executor = tierce::coordinator::Executor::shared();
    /// assert_eq!(executor.tick(), 0);
    /// ```
    #[must_use]
    pub fn shared() -> Self {
        static SHARED: Mutex<Weak<Parts>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(parts) = shared.upgrade() {
            return Self(parts);
        }
        let executor = Self::new();
        *shared = Arc::downgrade(&executor.0);
        executor
    }

    /// No threads at all: work waits until [`Self::tick`], and time is what `clock` says. For tests.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tierce::{coordinator::Executor, engine::io::OsClock};
    /// let executor = Executor::manual(Arc::new(OsClock));
    /// assert_eq!(executor.tick(), 0);
    /// ```
    #[must_use]
    pub fn manual(clock: Arc<dyn Clock>) -> Self {
        Self::of(Pool::manual(), clock)
    }

    fn of(pool: Pool, clock: Arc<dyn Clock>) -> Self {
        let timer = Timer::with_clock(&pool, Arc::clone(&clock));
        Self(Arc::new(Parts { pool, timer, clock }))
    }

    /// Runs on this thread all that is due by now, and what comes of it; says how many pieces of work that were. Only
    /// with [`Self::manual`]; without effect otherwise.
    ///
    /// ```
    /// assert_eq!(tierce::coordinator::Executor::new().tick(), 0);
    /// ```
    pub fn tick(&self) -> usize {
        self.0.timer.tick()
    }

    /// Ends all threads: fetches that run come to their end, nothing else is begun. Waits for that, unless it is called
    /// from one of these threads. Coordinators on it poll no more; [`refresh`](super::Coordinator::refresh) still
    /// works.
    ///
    /// ```
    /// let executor = tierce::coordinator::Executor::new();
    /// executor.close();
    /// executor.close();
    /// ```
    pub fn close(&self) {
        // First the timer, which gives work to the pool.
        self.0.timer.close();
        self.0.pool.close();
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    pub(super) fn timer(&self) -> &Timer {
        &self.0.timer
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.0.clock.monotonic_ms()
    }

    pub(super) fn wall(&self) -> Timestamp {
        Timestamp(self.0.clock.wall_ms())
    }

    pub(super) fn random(&self) -> u64 {
        self.0.clock.random()
    }
}
