//! Options of a coordinator.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Coordinator, Owner,
    executor::Executor,
    last_good::{LastGood, StoreLastGood},
    machine::{Machine, Rules},
    runner::{Fetch, Inner, Parts, Same, to_ms},
};
use crate::{error::Result, store::Store};

/// Between polls, if nothing else was said.
const INTERVAL: Duration = Duration::from_secs(180);
/// Between requested fetches, if nothing else was said.
const COOLDOWN: Duration = Duration::from_secs(10);

/// How long polls wait after failures.
///
/// The wait doubles with each failure in a row, up to the cap; of that, at random, between half and all, so that many
/// clients do not come back in step.
///
/// ```
/// use std::time::Duration;
/// use tierce::coordinator::Backoff;
/// let _ = Backoff::new(Duration::from_secs(5), Duration::from_secs(600));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
}

impl Backoff {
    /// `first` after the first failure, never more than `cap`.
    ///
    /// ```
    /// use std::time::Duration;
    /// let _ = tierce::coordinator::Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    /// ```
    #[must_use]
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap }
    }
}

/// Options of a [`Coordinator`]; see [`Coordinator::builder`].
///
/// ```
/// use std::time::Duration;
/// use tierce::coordinator::{Backoff, Coordinator, FetchError};
/// let plan = Coordinator::builder(|| Ok::<_, FetchError>("walk"))
///     .every(Duration::from_secs(60))
///     .cooldown(Duration::from_secs(5))
///     .backoff(Backoff::new(Duration::from_secs(10), Duration::from_secs(900)))
///     .stale_max(Duration::from_secs(86_400))
///     .always_update(false)
///     .build();
/// assert_eq!(plan.status().listeners, 0);
/// ```
#[must_use = "`build` makes the coordinator"]
pub struct Builder<T> {
    fetch: Fetch<T>,
    interval: Option<Duration>,
    cooldown: Duration,
    backoff: Option<Backoff>,
    offset: Option<Duration>,
    same: Option<Same<T>>,
    executor: Option<Executor>,
    last_good: Option<Box<dyn LastGood<T>>>,
    stale_max: Option<Duration>,
    stale_after: Option<Duration>,
}

impl<T> fmt::Debug for Builder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("interval", &self.interval)
            .field("cooldown", &self.cooldown)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Builder<T> {
    pub(super) fn new(fetch: Fetch<T>) -> Self {
        Self {
            fetch,
            interval: Some(INTERVAL),
            cooldown: COOLDOWN,
            backoff: None,
            offset: None,
            same: None,
            executor: None,
            last_good: None,
            stale_max: None,
            stale_after: None,
        }
    }

    /// Polls so often, counted from the end of a fetch, while somebody listens. 180 seconds unless said; at least a
    /// millisecond.
    pub fn every(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// Never polls: only refreshes and pushes bring data.
    pub fn never_poll(mut self) -> Self {
        self.interval = None;
        self
    }

    /// How long after a requested fetch the next requests wait; see [`Coordinator::request_refresh`]. 10 seconds unless
    /// said.
    pub fn cooldown(mut self, cooldown: Duration) -> Self {
        self.cooldown = cooldown;
        self
    }

    /// Waits differently after failures. Without it, failures do not change the interval.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// Added once, to the first wait, so that coordinators made together do not poll together. Unless said, it is
    /// random: up to a tenth of the interval.
    pub fn offset(mut self, offset: Duration) -> Self {
        self.offset = Some(offset);
        self
    }

    /// With `false`, listeners are told of a success only if the value is another one than before, or the last attempt
    /// had failed. `true` unless said.
    pub fn always_update(mut self, always: bool) -> Self
    where
        T: PartialEq,
    {
        self.same = if always { None } else { Some(Box::new(T::eq)) };
        self
    }

    /// Runs on these threads and by this clock; unless said, on those of the process ([`Executor::shared`]).
    pub fn executor(mut self, executor: &Executor) -> Self {
        self.executor = Some(executor.clone());
        self
    }

    /// Keeps each good value there, and begins with the one that is there: it is served at once, as stale, and polled
    /// anew when it is older than the interval. What is kept survives as the place of it does.
    pub fn persist(mut self, last_good: impl LastGood<T> + 'static) -> Self {
        self.last_good = Some(Box::new(last_good));
        self
    }

    /// As [`Self::persist`], under `key` in a space of `store`: the value is written as MessagePack after each success,
    /// with the store's durability. Holds the store open.
    ///
    /// ```
    /// use tierce::{Store, coordinator::{Coordinator, FetchError}};
    /// let store = Store::in_memory()?;
    /// let build = || {
    ///     Coordinator::builder(|| Ok::<_, FetchError>(7)).persist_in(&store, "last good", "answer")
    /// };
    /// build()?.build().refresh()?;
    /// assert_eq!(build()?.build().data().as_deref(), Some(&7));
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`StoreLastGood::new`].
    pub fn persist_in(self, store: &Store, space: &str, key: impl Into<String>) -> Result<Self>
    where
        T: Serialize + DeserializeOwned,
    {
        Ok(self.persist(StoreLastGood::new(store, space, key)?))
    }

    /// Data older than this is not shown at all. No limit unless said.
    pub fn stale_max(mut self, age: Duration) -> Self {
        self.stale_max = Some(age);
        self
    }

    /// Data older than this is stale; see [`Coordinator::is_stale`]. Unless said, twice the interval.
    pub fn stale_after(mut self, age: Duration) -> Self {
        self.stale_after = Some(age);
        self
    }

    /// The coordinator. Loads the last good value, if one is kept; fetches nothing.
    ///
    /// ```
    /// use tierce::coordinator::{Coordinator, FetchError};
    /// let plan = Coordinator::builder(|| Ok::<_, FetchError>("walk")).never_poll().build();
    /// assert!(plan.data().is_none());
    /// ```
    #[must_use]
    pub fn build(self) -> Coordinator<T> {
        let executor = self.executor.unwrap_or_default();
        let interval_ms = self.interval.map(|interval| to_ms(interval).max(1));
        let offset_ms = match (self.offset, interval_ms) {
            (Some(offset), _) => to_ms(offset),
            (None, Some(interval_ms)) => executor.random() % (interval_ms / 10).saturating_add(1),
            (None, None) => 0,
        };
        let rules = Rules {
            interval_ms,
            cooldown_ms: to_ms(self.cooldown),
            backoff: self
                .backoff
                .map(|backoff| (to_ms(backoff.first).max(1), to_ms(backoff.cap).max(1))),
            always_update: self.same.is_none(),
            offset_ms,
        };
        let now_ms = executor.now_ms();
        let parts = Parts {
            fetch: self.fetch,
            same: self.same,
            executor,
            last_good: self.last_good,
            stale_max_ms: self.stale_max.map(to_ms),
            stale_after_ms: self
                .stale_after
                .map(to_ms)
                .or(interval_ms.map(|ms| ms.saturating_mul(2))),
        };
        let inner = Inner::new(parts, |age_ms| {
            let next_ms = age_ms.zip(interval_ms).map(|(age_ms, interval_ms)| {
                now_ms.saturating_add(interval_ms.saturating_sub(age_ms))
            });
            Machine::new(rules, next_ms)
        });
        Coordinator(Arc::new(Owner(inner)))
    }
}
