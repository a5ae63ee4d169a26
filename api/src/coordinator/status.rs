//! What a coordinator says of itself, and what a fetch says when it fails.

use std::{fmt, sync::Arc, time::Duration};

use tierce_engine::Timestamp;

use crate::error::{BoxError, Error, Shared};

/// Why a fetch failed, and how long the other side wants to be left alone.
///
/// Any error becomes one with `?`.
///
/// ```
/// use std::time::Duration;
/// use tierce::coordinator::FetchError;
/// fn fetch(status: u16) -> Result<u32, FetchError> {
///     match status {
///         429 => Err(FetchError::new("too many requests").retry_after(Duration::from_secs(60))),
///         _ => Ok("17".parse()?),
///     }
/// }
/// assert_eq!(fetch(429).unwrap_err().to_string(), "too many requests");
/// assert_eq!(fetch(200).unwrap(), 17);
/// ```
pub struct FetchError {
    pub(super) error: BoxError,
    pub(super) retry_after: Option<Duration>,
}

impl FetchError {
    /// The fetch failed with `error`, which may be a text.
    ///
    /// ```
    /// let error = tierce::coordinator::FetchError::new("no answer");
    /// assert_eq!(error.to_string(), "no answer");
    /// ```
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self { error: error.into(), retry_after: None }
    }

    /// The next poll comes after `delay` instead of the interval or the backoff; the one after it as usual. Not heeded
    /// by a first refresh, and not by refreshes that somebody asks for.
    ///
    /// ```
    /// use std::time::Duration;
    /// let _ = tierce::coordinator::FetchError::new("busy").retry_after(Duration::from_secs(30));
    /// ```
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }
}

impl fmt::Debug for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchError")
            .field("error", &self.error)
            .field("retry_after", &self.retry_after)
            .finish()
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for FetchError {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// How a fetch ended badly, for all who waited for it.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    Failed(Shared),
    Panicked(String),
}

impl Failure {
    pub(super) fn shared(&self) -> Shared {
        match self {
            Self::Failed(error) => error.clone(),
            Self::Panicked(message) => Shared::new(format!("the fetch panicked: {message}")),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Failed(error) => Self::Loader(error),
            Failure::Panicked(message) => Self::LoaderPanicked(message),
        }
    }
}

/// How a coordinator is doing. A picture of one moment.
///
/// ```
/// use tierce::coordinator::{Coordinator, FetchError};
/// let plan = Coordinator::builder(|| Err::<(), _>(FetchError::new("down"))).build();
/// assert!(plan.refresh().is_err());
/// let status = plan.status();
/// assert!(!status.last_update_success && status.last_success_time.is_none());
/// assert_eq!(status.consecutive_failures, 1);
/// assert_eq!(status.last_error.unwrap().to_string(), "down");
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Status {
    /// Whether the last attempt ended well; `false` as long as there was none.
    pub last_update_success: bool,
    /// When data last came, by the wall clock; with a [`LastGood`](super::LastGood), by its clock, and remembered
    /// across restarts.
    pub last_success_time: Option<Timestamp>,
    /// The last error. A success clears it.
    pub last_error: Option<Shared>,
    /// Attempts that failed since the last one that did not.
    pub consecutive_failures: u32,
    /// Whether a fetch runs now.
    pub is_fetching: bool,
    /// Whether the data is from before a restart.
    pub is_restored: bool,
    /// Until when the next poll waits; `None` if none is set.
    pub next_poll_in: Option<Duration>,
    /// How many listen.
    pub listeners: usize,
    /// Why the last good value could not be loaded or saved. Nothing else is affected. A later save clears it.
    pub last_good_error: Option<Shared>,
}

/// What a listener is told.
///
/// ```
/// use std::sync::mpsc;
/// use tierce::coordinator::{Coordinator, FetchError};
/// let plan = Coordinator::builder(|| Ok::<_, FetchError>("walk")).build();
/// let (tell, told) = mpsc::channel();
/// let _listening = plan.subscribe(move |update| drop(tell.send(update.data.as_deref().copied())));
/// plan.publish("swim");
/// // The first poll may report "walk" before it.
/// assert!(told.iter().any(|data| data == Some("swim")));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Update<T> {
    /// The data; after a failure, that from before. `None` if there is none, or only such that is too old.
    pub data: Option<Arc<T>>,
    /// How it is doing.
    pub status: Status,
}

impl<T> Clone for Update<T> {
    fn clone(&self) -> Self {
        Self { data: self.data.clone(), status: self.status.clone() }
    }
}
