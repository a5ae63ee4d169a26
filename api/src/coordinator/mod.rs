//! A value that is fetched from somewhere else, kept fresh, and shared by all who show it.
//!
//! A [`Coordinator`] polls while somebody listens, keeps its data when a fetch fails, tells listeners of the first
//! failure and of the recovery, holds back floods of requests, and may keep its last good value across restarts
//! ([`LastGood`]). [`Mutations`] does what has to follow a write: caches are invalidated, coordinators refreshed, and
//! whoever is affected is told.
//!
//! ```
//! use std::time::Duration;
//! use tierce::coordinator::{Coordinator, FetchError};
//! let plan = Coordinator::builder(|| Ok::<_, FetchError>(vec!["water the plants"]))
//!     .every(Duration::from_secs(180))
//!     .build();
//! plan.first_refresh()?;
//! assert_eq!(plan.data().unwrap().len(), 1);
//! let _listening = plan.subscribe(|update| drop(update.data.clone()));
//! # Ok::<(), tierce::Error>(())
//! ```
//!
//! Everything here is of one process; only what [`Builder::persist`] was given survives it.

mod builder;
mod events;
mod executor;
mod last_good;
mod machine;
mod mutations;
mod runner;
mod status;

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

pub use builder::{Backoff, Builder};
pub use events::{Affected, Event, Events};
pub use executor::Executor;
pub use last_good::{LastGood, StoreLastGood};
pub use mutations::{Failed, Mutation, Mutations, Outcome};
pub use status::{FetchError, Status, Update};

use crate::{
    error::{BoxError, Result, Shared},
    work::Work,
};
use machine::Input;
use runner::Inner;

/// A shared value with a fetch behind it. A cheap handle: clones are the same coordinator, from any thread.
///
/// Fetches of one coordinator never overlap. When the last handle is dropped it is shut down.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use tierce::coordinator::{Coordinator, FetchError};
/// let count = AtomicU32::new(0);
/// let counter =
///     Coordinator::builder(move || Ok::<_, FetchError>(count.fetch_add(1, Ordering::Relaxed))).build();
/// assert_eq!(counter.data(), None);
/// counter.refresh()?;
/// counter.refresh()?;
/// assert_eq!(counter.data().as_deref(), Some(&1));
/// # Ok::<(), tierce::Error>(())
/// ```
pub struct Coordinator<T: Send + Sync + 'static>(Arc<Owner<T>>);

/// Shuts down when the last handle is gone. Jobs and subscriptions have no part in it.
struct Owner<T: Send + Sync + 'static>(Arc<Inner<T>>);

impl<T: Send + Sync + 'static> Drop for Owner<T> {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

impl<T: Send + Sync + 'static> Clone for Coordinator<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Coordinator<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Coordinator<T> {
    /// A coordinator of what `fetch` returns, to be given its options. `fetch` may block; it runs on a worker thread,
    /// or on the thread that calls [`Self::refresh`]. A panic of it counts as a failure.
    ///
    /// ```
    /// use tierce::coordinator::{Coordinator, FetchError};
    /// let number = Coordinator::builder(|| Ok::<u32, FetchError>("5".parse()?)).build();
    /// number.refresh()?;
    /// # Ok::<(), tierce::Error>(())
    /// ```
    pub fn builder(
        fetch: impl Fn() -> Result<T, FetchError> + Send + Sync + 'static,
    ) -> Builder<T> {
        Builder::new(Box::new(fetch))
    }

    /// The data at hand; from before, if the last fetch failed, or from before a restart. `None` if there is none, or
    /// it is older than [`Builder::stale_max`]. Never waits for a fetch.
    ///
    /// ```
    /// use tierce::coordinator::{Coordinator, FetchError};
    /// let plan = Coordinator::builder(|| Ok::<_, FetchError>("walk")).build();
    /// assert_eq!(plan.data(), None);
    /// ```
    #[must_use]
    pub fn data(&self) -> Option<Arc<T>> {
        self.0.0.data()
    }

    /// How long ago the data came; counts on across restarts. `None` if there is none.
    ///
    /// ```
    /// use tierce::coordinator::{Coordinator, FetchError};
    /// let plan = Coordinator::builder(|| Ok::<_, FetchError>("walk")).build();
    /// assert_eq!(plan.data_age(), None);
    /// ```
    #[must_use]
    pub fn data_age(&self) -> Option<Duration> {
        self.0.0.age()
    }

    /// Whether the data is not what it should be: there is none, it is from before a restart, the last attempt failed,
    /// or it is older than [`Builder::stale_after`].
    ///
    /// ```
    /// use tierce::coordinator::{Coordinator, FetchError};
    /// let plan = Coordinator::builder(|| Ok::<_, FetchError>("walk")).build();
    /// assert!(plan.is_stale());
    /// plan.refresh()?;
    /// assert!(!plan.is_stale());
    /// # Ok::<(), tierce::Error>(())
    /// ```
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.0.0.is_stale()
    }

    /// The data if it is not stale; else that of a fetch now.
    ///
    /// ```
    /// use tierce::coordinator::{Coordinator, FetchError};
    /// let plan = Coordinator::builder(|| Ok::<_, FetchError>("walk")).build();
    /// assert_eq!(*plan.get_or_refresh()?, "walk");
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::refresh`]; [`Self::data`] may have something older.
    pub fn get_or_refresh(&self) -> Result<Arc<T>> {
        let data = self.data().filter(|_| !self.is_stale());
        if let Some(data) = data {
            return Ok(data);
        }
        self.refresh()?;
        self.data().ok_or_else(|| crate::Error::Loader(Shared::new("what came is too old by now")))
    }

    /// Fetches on this thread and returns when the data is there and has been saved. If a fetch runs already it is
    /// waited for, and then there is another one, which all who wait by then share: what you get was fetched after you
    /// asked. Works with or without listeners; cancels what was scheduled, and schedules anew.
    ///
    /// ```
    /// use tierce::coordinator::{Coordinator, FetchError};
    /// let plan = Coordinator::builder(|| Err::<(), _>(FetchError::new("down"))).build();
    /// assert_eq!(plan.refresh().unwrap_err().to_string(), "the loader failed: down");
    /// ```
    ///
    /// # Errors
    /// [`Error::Loader`](crate::Error::Loader) and [`Error::LoaderPanicked`](crate::Error::LoaderPanicked) if the fetch
    /// failed; the data is as before. [`Error::LoaderRecursion`](crate::Error::LoaderRecursion) if the fetch itself
    /// called this, or waits, over however many others, for the fetch that calls this; [`Error::Closed`](crate::Error::Closed) after, or during, a shutdown.
    pub fn refresh(&self) -> Result<()> {
        self.0.0.refresh(false)
    }

    /// The refresh of a program that starts: as [`Self::refresh`], but the failure of it changes nothing in the
    /// cadence: neither [`FetchError::retry_after`] nor the backoff is heeded, the caller decides when to try again.
    ///
    /// ```
    /// use tierce::coordinator::{Coordinator, FetchError};
    /// let plan = Coordinator::builder(|| Ok::<_, FetchError>("walk")).build();
    /// plan.first_refresh()?;
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::refresh`].
    pub fn first_refresh(&self) -> Result<()> {
        self.0.0.refresh(true)
    }

    /// As [`Self::refresh`], for tasks of any runtime: the fetch runs on a thread of the executor. Nothing happens before
    /// it is polled; dropped while it waits for a thread, it does not happen. With [`Executor::manual`] it waits for
    /// [`Executor::tick`].
    ///
    /// ```
    /// use tierce::{asynchronous::block_on, coordinator::{Coordinator, FetchError}};
    /// let plan = Coordinator::builder(|| Ok::<_, FetchError>("walk")).build();
    /// block_on(plan.refresh_task())?;
    /// assert_eq!(plan.data().as_deref(), Some(&"walk"));
    /// # Ok::<(), tierce::Error>(())
    /// ```
    pub fn refresh_task(&self) -> Work<()> {
        self.task(false)
    }

    /// As [`Self::first_refresh`], for tasks: see [`Self::refresh_task`].
    pub fn first_refresh_task(&self) -> Work<()> {
        self.task(true)
    }

    fn task(&self, is_first: bool) -> Work<()> {
        let this = self.clone();
        Work::new(self.0.0.parts.executor.pool(), move || this.0.0.refresh(is_first))
    }

    /// Asks for a fetch soon, and does not wait for it. The first request is heeded at once; those within the cooldown
    /// after that fetch, however many, are answered by one fetch at its end. So are requests made during a fetch.
    ///
    /// ```
    /// use tierce::coordinator::{Coordinator, FetchError};
    /// let plan = Coordinator::builder(|| Ok::<_, FetchError>("walk")).build();
    /// for _ in 0..100 {
    ///     plan.request_refresh();
    /// }
    /// ```
    pub fn request_refresh(&self) {
        self.0.0.happened(Input::Requested);
    }

    /// Takes a value that came from elsewhere, a push: it counts as a success, listeners are told, and the next poll is
    /// an interval away. If a fetch runs, its value is dropped, since nobody knows which is newer, and one more fetch
    /// follows after the cooldown. Saved like a fetched one. `false` if the coordinator is shut down.
    ///
    /// ```
    /// use tierce::coordinator::{Coordinator, FetchError};
    /// let plan = Coordinator::builder(|| Ok::<_, FetchError>("walk")).build();
    /// assert!(plan.publish("swim"));
    /// assert_eq!(plan.data().as_deref(), Some(&"swim"));
    /// ```
    pub fn publish(&self, value: T) -> bool {
        self.0.0.publish(value)
    }

    /// Takes notice of a failure elsewhere, as of the connection that pushes. The data stays; listeners are told if it
    /// was well before; the cadence goes on.
    ///
    /// ```
    /// use tierce::coordinator::{Coordinator, FetchError};
    /// let plan = Coordinator::builder(|| Ok::<_, FetchError>("walk")).build();
    /// plan.set_error("disconnected");
    /// assert_eq!(plan.status().last_error.unwrap().to_string(), "disconnected");
    /// ```
    pub fn set_error(&self, error: impl Into<BoxError>) {
        self.0.0.set_error(Shared::new(error));
    }

    /// Calls `listener` after each update, as the options say, until the subscription is dropped. The first
    /// subscription starts polling: at once if nothing was ever fetched, else when an interval since then is over. The
    /// end of the last one stops it.
    ///
    /// Listeners are called one after the other, in the order of the updates, on whatever thread brought one, with no
    /// lock held: they may call this coordinator. A listener that holds a handle of the coordinator keeps it alive.
    ///
    /// ```
    /// use tierce::coordinator::{Coordinator, FetchError};
    /// let plan = Coordinator::builder(|| Ok::<_, FetchError>("walk")).build();
    /// let subscription = plan.subscribe(|update| assert!(update.status.last_update_success));
    /// assert_eq!(plan.status().listeners, 1);
    /// drop(subscription);
    /// assert_eq!(plan.status().listeners, 0);
    /// ```
    pub fn subscribe(&self, listener: impl Fn(&Update<T>) + Send + Sync + 'static) -> Subscription {
        let id = self.0.0.subscribe(Arc::new(listener));
        let weak: Weak<Inner<T>> = Arc::downgrade(&self.0.0);
        Subscription {
            end: Box::new(move || {
                if let Some(inner) = weak.upgrade() {
                    inner.unsubscribe(id);
                }
            }),
        }
    }

    /// How it is doing.
    ///
    /// ```
    /// use tierce::coordinator::{Coordinator, FetchError};
    /// let plan = Coordinator::builder(|| Ok::<_, FetchError>("walk")).build();
    /// assert_eq!(plan.status().consecutive_failures, 0);
    /// ```
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.0.status()
    }

    /// Stops for good: nothing is polled or requested any more, what a running fetch brings is dropped, listeners are
    /// let go of. Does not wait for a running fetch. The data can still be read.
    ///
    /// ```
    /// use tierce::{Error, coordinator::{Coordinator, FetchError}};
    /// let plan = Coordinator::builder(|| Ok::<_, FetchError>("walk")).build();
    /// plan.shutdown();
    /// assert!(matches!(plan.refresh(), Err(Error::Closed(_))));
    /// ```
    pub fn shutdown(&self) {
        self.0.0.shutdown();
    }
}

/// Listens until it is dropped. Does not keep the coordinator alive.
///
/// A call of the listener that has begun on another thread may end after the drop; none begins after it.
#[must_use = "dropping the subscription ends it"]
pub struct Subscription {
    end: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        (self.end)();
    }
}
