//! A piece of work that is done on the store's threads, as a future.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_channel::oneshot;

use crate::{
    error::{Error, Result},
    pool::{Job, Offered, Pool},
    room::PlaceId,
    sync::thread,
};

/// The answer of a job that came to its end, or panicked.
type Answer<T> = thread::Result<Result<T>>;

/// Something that the store's own threads do: a write, a scan, a sync. A future that owns all it needs, so that it may
/// be spawned as it is, on any runtime.
///
/// - Before it is polled nothing happens: a `Work` that is dropped then was never there.
/// - When it is polled first, it gets in line for one of a few threads. If too many wait already, it waits for a place
///   in that line, without a thread and in order of arrival. Dropped while it waits, it does not happen.
/// - When a thread has begun, it comes to its end, dropped or not. So of a write whose future was polled and dropped it
///   is not known whether it happened; it happened wholly or not at all.
///
/// A panic of a closure that it was given goes on in the task that polls it. If the store was closed meanwhile, the
/// answer is [`Error::Closed`] or the engine's.
///
/// ```
/// use tierce::asynchronous::{AsyncStore, block_on};
/// block_on(async {
///     let cache = AsyncStore::in_memory().await?.cache::<u32, String>("c").await?;
///     let never = cache.insert(&1, &"one".into());
///     drop(never);
///     assert!(!cache.contains_key(&1).await?);
///     cache.insert(&1, &"one".into()).await?;
///     assert!(cache.contains_key(&1).await?);
/// #   Ok::<(), tierce::Error>(())
/// })?;
/// # Ok::<(), tierce::Error>(())
/// ```
#[must_use = "nothing happens until it is polled"]
pub struct Work<T> {
    pool: Option<Pool>,
    /// What was not handed over yet.
    job: Option<Job>,
    place: Option<PlaceId>,
    answer: oneshot::Receiver<Answer<T>>,
}

impl<T> fmt::Debug for Work<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("has_begun", &self.job.is_none()).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Work<T> {
    pub(crate) fn new(pool: &Pool, work: impl FnOnce() -> Result<T> + Send + 'static) -> Self {
        Self::make(pool, true, work)
    }

    /// As [`Self::new`], but once it is in line it is done even if nobody waits for its answer.
    pub(crate) fn surely(pool: &Pool, work: impl FnOnce() -> Result<T> + Send + 'static) -> Self {
        Self::make(pool, false, work)
    }

    fn make(pool: &Pool, cancels: bool, work: impl FnOnce() -> Result<T> + Send + 'static) -> Self {
        let (sender, answer) = oneshot::channel::<Answer<T>>();
        let job: Job = Box::new(move || {
            if cancels && sender.is_canceled() {
                return;
            }
            let done = catch_unwind(AssertUnwindSafe(work));
            // If nobody waits any more, nobody is told.
            let _ = sender.send(done);
        });
        Self { pool: Some(pool.clone()), job: Some(job), place: None, answer }
    }

    /// The work of `make`, unless there is an error before it can begin.
    pub(crate) fn prepared(made: Result<Self>) -> Self {
        made.unwrap_or_else(|error| {
            let (sender, answer) = oneshot::channel();
            let _ = sender.send(Ok(Err(error)));
            Self { pool: None, job: None, place: None, answer }
        })
    }
}

impl<T> Future for Work<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        const CLOSED: Error = Error::Closed("the pool of threads");
        let this = &mut *self;
        if let Some(job) = this.job.take() {
            let Some(pool) = &this.pool else { return Poll::Ready(Err(CLOSED)) };
            match pool.offer(job, &mut this.place, cx.waker()) {
                Offered::Taken => {}
                Offered::Waits(job) => {
                    this.job = Some(job);
                    return Poll::Pending;
                }
                Offered::Closed => return Poll::Ready(Err(CLOSED)),
            }
        }
        Poll::Ready(match ready!(Pin::new(&mut this.answer).poll(cx)) {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(oneshot::Canceled) => Err(CLOSED),
        })
    }
}

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        if let (Some(pool), Some(place)) = (&self.pool, self.place.take()) {
            pool.leave(place);
        }
    }
}

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;
