//! What has to follow a write: invalidate, refresh, tell; in this order, for everyone unless said otherwise.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Weak},
};

use super::{
    Coordinator,
    events::{Affected, Event, Events, Filter, Queue},
    executor::Executor,
    runner::{Refresh, discard, guarded, hold},
};
use crate::{
    error::{Error, Result},
    pool::Job,
    sync::Mutex,
};

type Invalidator = Arc<dyn Fn(&Affected) -> Result<u64> + Send + Sync>;

/// The bus that all writes of a program go through, so that nobody looks at what a write made stale.
///
/// A mutation is carried out in this order:
/// 1. the write; if it fails, nothing else happens;
/// 2. every invalidation, one after the other;
/// 3. a fetch of every coordinator, all at once, and all are waited for;
/// 4. the event, with the users whom it concerns, to every listener that wants it.
///
/// What fails in 2 or 3 is reported and holds up nothing: the event is sent all the same. Mutations may run at the same
/// time, from any thread. Handles are cheap: clones are the same bus. Nothing of it survives the process.
///
/// A mutation inside a fetch does not refresh the coordinator whose fetch that is: it is reported as
/// [`Error::LoaderRecursion`], and what the fetch brings may be older than the write. Only the thread of the fetch is
/// known: fetches of two coordinators must not wait for each other from two threads, which two mutating fetches of one
/// bus do. They never end.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use tierce::coordinator::{Affected, Coordinator, FetchError, Mutations, Executor};
/// let server = Arc::new(Mutex::new(vec!["walk"]));
/// let fetch = { let server = Arc::clone(&server); move || Ok::<_, FetchError>(server.lock().unwrap().clone()) };
/// let plan = Coordinator::builder(fetch).build();
///
/// let mutations = Mutations::new(&Executor::shared());
/// mutations.refreshes("plan", &plan);
/// let for_sara = mutations.events_for("sara", 16);
/// let done = mutations
///     .mutation("task_completed")
///     .concerns(|_| Affected::users(["gabriel", "sara"]))
///     .run(|| Ok::<_, tierce::Error>(server.lock().unwrap().clear()))?;
/// assert!(done.failed.is_empty());
/// assert_eq!(plan.data().as_deref(), Some(&vec![]));
/// assert_eq!(for_sara.try_next().unwrap().kind, "task_completed");
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Clone)]
pub struct Mutations(Arc<Bus>);

struct Bus {
    executor: Executor,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    invalidators: Vec<(String, Invalidator)>,
    coordinators: Vec<(String, Arc<dyn Refresh>)>,
    queues: Vec<Weak<Queue>>,
    sequence: u64,
    /// Events on their way, oldest first, and whether a thread is about it.
    outbox: VecDeque<Arc<Event>>,
    delivers: bool,
}

/// Something that should have followed a mutation and did not.
///
/// ```
/// use tierce::coordinator::{Coordinator, FetchError, Mutations, Executor};
/// let plan = Coordinator::builder(|| Err::<(), _>(FetchError::new("down"))).build();
/// let mutations = Mutations::new(&Executor::shared());
/// mutations.refreshes("plan", &plan);
/// let done = mutations.mutation("task_created").run(|| Ok::<_, tierce::Error>(7))?;
/// assert_eq!((done.value, done.failed[0].what.as_str()), (7, "plan"));
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Failed {
    /// The name that the invalidation or the coordinator was given.
    pub what: String,
    /// How it failed.
    pub error: Error,
}

/// What became of a mutation whose write succeeded.
///
/// ```
/// use tierce::coordinator::{Mutations, Executor};
/// let mutations = Mutations::new(&Executor::shared());
/// mutations.invalidates("plans", |_| Ok(3));
/// let done = mutations.mutation("task_created").run(|| Ok::<_, tierce::Error>("id-7"))?;
/// assert_eq!((done.value, done.invalidated, done.refreshed), ("id-7", 3, 0));
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome<R> {
    /// What the write returned.
    pub value: R,
    /// How many entries the invalidations say they ended.
    pub invalidated: u64,
    /// How many coordinators have data from after the write.
    pub refreshed: usize,
    /// What failed after the write.
    pub failed: Vec<Failed>,
    /// What was told.
    pub event: Arc<Event>,
}

impl fmt::Debug for Mutations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = hold(&self.0.state);
        f.debug_struct("Mutations")
            .field("invalidators", &state.invalidators.len())
            .field("coordinators", &state.coordinators.len())
            .field("sequence", &state.sequence)
            .finish_non_exhaustive()
    }
}

impl Mutations {
    /// A bus that refreshes on these threads.
    ///
    /// ```
    /// use tierce::coordinator::{Mutations, Executor};
    /// let _ = Mutations::new(&Executor::shared());
    /// ```
    #[must_use]
    pub fn new(executor: &Executor) -> Self {
        Self(Arc::new(Bus { executor: executor.clone(), state: Mutex::default() }))
    }

    /// After each write, calls `invalidate` with the users whose entries are to end, those of shared data with them; it
    /// returns how many it ended. Lives as long as the bus. `name` is for reports.
    ///
    /// ```
    /// use tierce::coordinator::{Affected, Mutations, Executor};
    /// let mutations = Mutations::new(&Executor::shared());
    /// mutations.invalidates("plans", |affected: &Affected| {
    ///     if affected.is_everyone() { Ok(10) } else { Ok(affected.names().len() as u64) }
    /// });
    /// ```
    pub fn invalidates(
        &self,
        name: impl Into<String>,
        invalidate: impl Fn(&Affected) -> Result<u64> + Send + Sync + 'static,
    ) {
        hold(&self.0.state).invalidators.push((name.into(), Arc::new(invalidate)));
    }

    /// After each write, refreshes `coordinator`, until it is dropped or shut down. Does not keep it alive. `name` is
    /// for reports.
    ///
    /// ```
    /// use tierce::coordinator::{Coordinator, FetchError, Mutations, Executor};
    /// let plan = Coordinator::builder(|| Ok::<_, FetchError>("walk")).build();
    /// Mutations::new(&Executor::shared()).refreshes("plan", &plan);
    /// ```
    pub fn refreshes<T: Send + Sync + 'static>(
        &self,
        name: impl Into<String>,
        coordinator: &Coordinator<T>,
    ) {
        let weak = Arc::downgrade(&coordinator.0.0);
        hold(&self.0.state).coordinators.push((name.into(), Arc::new(weak)));
    }

    /// Listens to all events; at most `events_max` (at least one) wait.
    ///
    /// ```
    /// use tierce::coordinator::{Mutations, Executor};
    /// let events = Mutations::new(&Executor::shared()).events(16);
    /// assert!(events.try_next().is_none());
    /// ```
    #[must_use]
    pub fn events(&self, events_max: usize) -> Events {
        self.listen(events_max, None)
    }

    /// Listens to the events that concern `user`, those for everyone among them.
    ///
    /// ```
    /// use tierce::coordinator::{Mutations, Executor};
    /// let events = Mutations::new(&Executor::shared()).events_for("sara", 16);
    /// assert!(events.try_next().is_none());
    /// ```
    #[must_use]
    pub fn events_for(&self, user: impl Into<String>, events_max: usize) -> Events {
        let user = user.into();
        self.listen(events_max, Some(Box::new(move |event| event.affected.includes(&user))))
    }

    /// Listens to the events that `filter` lets through. It is called by who mutates, with no lock held.
    ///
    /// ```
    /// use tierce::coordinator::{Mutations, Executor};
    /// let mutations = Mutations::new(&Executor::shared());
    /// let events = mutations.events_where(16, |event| event.kind.starts_with("task_"));
    /// assert!(events.try_next().is_none());
    /// ```
    #[must_use]
    pub fn events_where(
        &self,
        events_max: usize,
        filter: impl Fn(&Event) -> bool + Send + Sync + 'static,
    ) -> Events {
        self.listen(events_max, Some(Box::new(filter)))
    }

    fn listen(&self, events_max: usize, filter: Option<Filter>) -> Events {
        let queue = Queue::new(events_max, filter);
        hold(&self.0.state).queues.push(Arc::downgrade(&queue));
        Events(queue)
    }

    /// A mutation of this kind, to be given its options and then [run](Mutation::run).
    ///
    /// ```
    /// use tierce::coordinator::{Mutations, Executor};
    /// let mutations = Mutations::new(&Executor::shared());
    /// let failed = mutations.mutation("task_deleted").run(|| Err::<(), _>("no such task"));
    /// assert_eq!(failed.unwrap_err(), "no such task");
    /// ```
    pub fn mutation<R>(&self, kind: impl Into<String>) -> Mutation<'_, R> {
        let invalidate = Affected::everyone();
        Mutation { bus: &self.0, kind: kind.into(), invalidate, concerns: None }
    }
}

type Concerns<'a, R> = Box<dyn FnOnce(&R) -> Affected + 'a>;

/// A mutation that is being put together. See [`Mutations::mutation`].
#[must_use = "`run` carries it out"]
pub struct Mutation<'a, R> {
    bus: &'a Bus,
    kind: String,
    invalidate: Affected,
    concerns: Option<Concerns<'a, R>>,
}

impl<R> fmt::Debug for Mutation<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutation").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<'a, R> Mutation<'a, R> {
    /// Whose entries are invalidated: everyone's unless said, for it is hard to know whom a write concerns, and a fetch
    /// too many costs less than a stale view.
    ///
    /// ```
    /// use tierce::coordinator::{Affected, Mutations, Executor};
    /// let mutations = Mutations::new(&Executor::shared());
    /// mutations.invalidates("plans", |affected| Ok(affected.names().len() as u64));
    /// let done = mutations
    ///     .mutation("renamed")
    ///     .invalidate(Affected::users(["sara"]))
    ///     .run(|| Ok::<_, tierce::Error>(()))?;
    /// assert_eq!(done.invalidated, 1);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    pub fn invalidate(mut self, affected: Affected) -> Self {
        self.invalidate = affected;
        self
    }

    /// Whom the event concerns: everyone unless said. Asked after the refreshes, so it may look at the coordinators'
    /// new data; if it panics, everyone.
    ///
    /// ```
    /// use tierce::coordinator::{Affected, Mutations, Executor};
    /// let mutations = Mutations::new(&Executor::shared());
    /// let done = mutations
    ///     .mutation("assigned")
    ///     .concerns(|assignee: &String| Affected::users([assignee]))
    ///     .run(|| Ok::<_, tierce::Error>("sara".to_owned()))?;
    /// assert_eq!(done.event.affected.names(), ["sara"]);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    pub fn concerns(mut self, ask: impl FnOnce(&R) -> Affected + 'a) -> Self {
        self.concerns = Some(Box::new(ask));
        self
    }

    /// Writes, and does what has to follow; returns when all of it is done. See [`Mutations`] for the order.
    ///
    /// ```
    /// use tierce::coordinator::{Mutations, Executor};
    /// let mutations = Mutations::new(&Executor::shared());
    /// let done = mutations.mutation("task_updated").run(|| Ok::<_, tierce::Error>(1))?;
    /// assert_eq!(done.value, 1);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of the write, and only those: then nothing was invalidated, refreshed or told. What fails after the write
    /// is in [`Outcome::failed`].
    pub fn run<E>(self, write: impl FnOnce() -> Result<R, E>) -> Result<Outcome<R>, E> {
        let value = write()?;
        let mut failed = Vec::new();
        let invalidated = self.bus.invalidate(&self.invalidate, &mut failed);
        let refreshed = self.bus.refresh(&mut failed);
        let affected = match self.concerns {
            None => Affected::everyone(),
            Some(ask) => guarded(|| Ok(ask(&value))).unwrap_or_else(|error| {
                failed.push(Failed { what: "the list of the users concerned".to_owned(), error });
                Affected::everyone()
            }),
        };
        let event = self.bus.tell(self.kind, affected);
        Ok(Outcome { value, invalidated, refreshed, failed, event })
    }
}

impl Bus {
    fn invalidate(&self, affected: &Affected, failed: &mut Vec<Failed>) -> u64 {
        let invalidators = hold(&self.state).invalidators.clone();
        let mut count = 0_u64;
        for (what, invalidate) in invalidators {
            match guarded(|| invalidate(affected)) {
                Ok(ended) => count = count.saturating_add(ended),
                Err(error) => failed.push(Failed { what, error }),
            }
        }
        count
    }

    fn refresh(&self, failed: &mut Vec<Failed>) -> usize {
        let mut state = hold(&self.state);
        state.coordinators.retain(|(_, coordinator)| !coordinator.is_gone());
        let coordinators = state.coordinators.clone();
        drop(state);
        // In the order they were registered, however they end.
        let mut outcomes: Vec<_> = coordinators.iter().map(|_| None).collect();
        let mut waited_for = Vec::with_capacity(coordinators.len());
        for (at, (_, coordinator)) in coordinators.iter().enumerate() {
            // Asked here: another thread would wait for the end of a fetch that waits for this mutation.
            if coordinator.is_fetching_here() {
                outcomes[at] = Some(Err(Error::LoaderRecursion));
            } else {
                waited_for.push((at, coordinator));
            }
        }
        let outcomes = Arc::new(Mutex::new(outcomes));
        let jobs = waited_for.into_iter().map(|(at, coordinator)| {
            let (coordinator, outcomes) = (Arc::clone(coordinator), Arc::clone(&outcomes));
            Box::new(move || {
                let outcome = coordinator.refresh();
                hold(&outcomes)[at] = outcome;
            }) as Job
        });
        self.executor.pool().run_all(jobs.collect());
        let outcomes = std::mem::take(&mut *hold(&outcomes));
        let mut refreshed = 0;
        for ((what, _), outcome) in coordinators.into_iter().zip(outcomes) {
            match outcome {
                Some(Ok(())) => refreshed += 1,
                Some(Err(error)) => failed.push(Failed { what, error }),
                None => {}
            }
        }
        refreshed
    }

    fn tell(&self, kind: String, affected: Affected) -> Arc<Event> {
        let mut state = hold(&self.state);
        state.sequence += 1;
        let event = Arc::new(Event { sequence: state.sequence, kind, affected });
        state.outbox.push_back(Arc::clone(&event));
        if !state.delivers {
            state.delivers = true;
            while let Some(event) = state.outbox.pop_front() {
                state.queues.retain(|queue| queue.strong_count() > 0);
                let queues: Vec<_> = state.queues.iter().filter_map(Weak::upgrade).collect();
                drop(state);
                for queue in queues {
                    queue.offer(&event);
                    // A panic of a filter's destructor must not end the telling.
                    discard(queue);
                }
                state = hold(&self.state);
            }
            state.delivers = false;
        }
        drop(state);
        event
    }
}
