//! What mutations tell: whom it concerns, and queues of it that are bounded and never hold a sender up.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use super::runner::hold;

use crate::sync::{Condvar, Mutex, PoisonError};

/// The users whom something concerns. No names at all mean everyone: who does not know tells all.
///
/// ```
/// use tierce::coordinator::Affected;
/// let both = Affected::users(["gabriel", "sara"]);
/// assert!(both.includes("sara") && !both.includes("gabriella"));
/// assert!(Affected::everyone().includes("gabriella"));
/// assert_eq!(Affected::users::<&str>([]), Affected::everyone());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affected(Vec<String>);

impl Affected {
    /// Everyone.
    ///
    /// ```
    /// assert!(tierce::coordinator::Affected::everyone().is_everyone());
    /// ```
    #[must_use]
    pub const fn everyone() -> Self {
        Self(Vec::new())
    }

    /// These; everyone, if there are none. A name counts once.
    ///
    /// ```
    /// use tierce::coordinator::Affected;
    /// assert_eq!(Affected::users(["sara", "gabriel", "sara"]).names(), ["sara", "gabriel"]);
    /// ```
    pub fn users<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        let mut users = Vec::new();
        for name in names.into_iter().map(Into::into) {
            if !users.contains(&name) {
                users.push(name);
            }
        }
        Self(users)
    }

    /// Whether it is everyone.
    ///
    /// ```
    /// assert!(!tierce::coordinator::Affected::users(["sara"]).is_everyone());
    /// ```
    #[must_use]
    pub fn is_everyone(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `user` is among them.
    ///
    /// ```
    /// assert!(tierce::coordinator::Affected::users(["sara"]).includes("sara"));
    /// ```
    #[must_use]
    pub fn includes(&self, user: &str) -> bool {
        self.is_everyone() || self.0.iter().any(|name| name == user)
    }

    /// The names; none if it is everyone.
    ///
    /// ```
    /// assert_eq!(tierce::coordinator::Affected::everyone().names().len(), 0);
    /// ```
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

/// A mutation that was carried out, sent once caches are invalidated and coordinators refreshed.
///
/// ```
/// use tierce::coordinator::{Mutations, Executor};
/// let mutations = Mutations::new(&Executor::shared());
/// let events = mutations.events(16);
/// mutations.mutation("task_completed").run(|| Ok::<_, tierce::Error>(()))?;
/// let event = events.try_next().unwrap();
/// assert_eq!((event.kind.as_str(), event.sequence), ("task_completed", 1));
/// assert!(event.affected.is_everyone());
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Counts the events of one bus, from 1.
    pub sequence: u64,
    /// What happened, as the writer calls it.
    pub kind: String,
    /// Whom it concerns.
    pub affected: Affected,
}

pub(super) type Filter = Box<dyn Fn(&Event) -> bool + Send + Sync>;

/// Events that wait to be looked at. Bounded: when it is full the oldest is forgotten and counted. Ends when dropped.
///
/// ```
/// use tierce::coordinator::{Mutations, Executor};
/// let mutations = Mutations::new(&Executor::shared());
/// let events = mutations.events(2);
/// for kind in ["a", "b", "c"] {
///     mutations.mutation(kind).run(|| Ok::<_, tierce::Error>(()))?;
/// }
/// assert_eq!(events.lost(), 1);
/// assert_eq!(events.try_next().unwrap().kind, "b");
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Debug)]
pub struct Events(pub(super) Arc<Queue>);

pub(super) struct Queue {
    filter: Option<Filter>,
    events_max: usize,
    state: Mutex<Waiting>,
    came: Condvar,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    lost: u64,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = hold(&self.state);
        f.debug_struct("Queue")
            .field("waiting", &state.events.len())
            .field("lost", &state.lost)
            .finish_non_exhaustive()
    }
}

impl Queue {
    pub(super) fn new(events_max: usize, filter: Option<Filter>) -> Arc<Self> {
        let state = Mutex::default();
        Arc::new(Self { filter, events_max: events_max.max(1), state, came: Condvar::new() })
    }

    pub(super) fn offer(&self, event: &Arc<Event>) {
        // A filter that panics does not know: then it concerns the listener.
        let passes = self
            .filter
            .as_ref()
            .is_none_or(|filter| catch_unwind(AssertUnwindSafe(|| filter(event))).unwrap_or(true));
        if !passes {
            return;
        }
        let mut state = hold(&self.state);
        if state.events.len() >= self.events_max {
            state.events.pop_front();
            state.lost += 1;
        }
        state.events.push_back(Arc::clone(event));
        drop(state);
        self.came.notify_one();
    }
}

impl Events {
    /// The oldest event that waits, if any.
    ///
    /// ```
    /// use tierce::coordinator::{Mutations, Executor};
    /// assert!(Mutations::new(&Executor::shared()).events(1).try_next().is_none());
    /// ```
    #[must_use]
    pub fn try_next(&self) -> Option<Arc<Event>> {
        hold(&self.0.state).events.pop_front()
    }

    /// The oldest event that waits; if none does, the first to come within `patience`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tierce::coordinator::{Mutations, Executor};
    /// let events = Mutations::new(&Executor::shared()).events(1);
    /// assert!(events.next_within(Duration::from_millis(1)).is_none());
    /// ```
    #[must_use]
    pub fn next_within(&self, patience: Duration) -> Option<Arc<Event>> {
        let state = hold(&self.0.state);
        let (mut state, _) = self
            .0
            .came
            .wait_timeout_while(state, patience, |state| state.events.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        state.events.pop_front()
    }

    /// How many events were forgotten because nobody took them in time. If it grew, look at everything anew.
    ///
    /// ```
    /// use tierce::coordinator::{Mutations, Executor};
    /// assert_eq!(Mutations::new(&Executor::shared()).events(1).lost(), 0);
    /// ```
    #[must_use]
    pub fn lost(&self) -> u64 {
        hold(&self.0.state).lost
    }
}
