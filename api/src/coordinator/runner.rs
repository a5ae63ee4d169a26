//! Carries out what the machine decides: fetches, sets timers, tells listeners, keeps the last good value.
//!
//! One lock over the machine and the data. Never held while code of others runs (fetch, listeners, comparison, saving,
//! destructors of values), nor while work is handed to the pool, which may run it at once. Timers are set under it:
//! their jobs hold only weak references.
//!
//! Whoever is the fetcher, or tells listeners, catches the panics of that code, and so stops being it in any case.

use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    time::Duration,
};

use tierce_engine::Timestamp;

use super::{
    executor::Executor,
    last_good::LastGood,
    machine::{Action, Health, Input, Machine, Phase},
    status::{Failure, FetchError, Status, Update},
};
use crate::{
    error::{Error, Result, Shared},
    pool::TimerHandle,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        thread::{self, ThreadId},
    },
    waits::{LoadId, Waiting},
};

pub(super) type Fetch<T> = Box<dyn Fn() -> Result<T, FetchError> + Send + Sync>;
pub(super) type Same<T> = Box<dyn Fn(&T, &T) -> bool + Send + Sync>;
pub(super) type Callback<T> = Arc<dyn Fn(&Update<T>) + Send + Sync>;

const NAME: &str = "the coordinator";

pub(super) fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn to_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What the builder fixed.
pub(super) struct Parts<T> {
    pub(super) fetch: Fetch<T>,
    /// When two values count as the same; `None`: never.
    pub(super) same: Option<Same<T>>,
    pub(super) executor: Executor,
    pub(super) last_good: Option<Box<dyn LastGood<T>>>,
    /// Data older than this is not shown.
    pub(super) stale_max_ms: Option<u64>,
    /// Data older than this is stale.
    pub(super) stale_after_ms: Option<u64>,
}

pub(super) struct Inner<T> {
    pub(super) parts: Parts<T>,
    state: Mutex<State<T>>,
    /// A fetch ended, or the coordinator did.
    ended: Condvar,
    /// The version that was saved last. Held while saving: saves come in order.
    saved: Mutex<u64>,
}

/// A value and when it was good.
pub(super) struct Data<T> {
    value: Arc<T>,
    /// By the clock of the last good value, or the wall.
    at: Timestamp,
    /// Its age when it came here, and when that was by the monotonic clock.
    age_ms: u64,
    since_ms: u64,
    restored: bool,
    /// Counts values.
    version: u64,
}

impl<T> Clone for Data<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), ..*self }
    }
}

impl<T> Data<T> {
    fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.since_ms).saturating_add(self.age_ms)
    }
}

/// What a fetch brought.
struct Fetched<T> {
    value: T,
    at: Timestamp,
    is_change: bool,
}

struct State<T> {
    machine: Machine,
    data: Option<Data<T>>,
    versions: u64,
    last_error: Option<Shared>,
    last_good_error: Option<Shared>,
    /// Fetches that began and that ended; they differ while one runs.
    begun: u64,
    ended: u64,
    outcome: Result<(), Failure>,
    fetcher: Option<(ThreadId, LoadId)>,
    listeners: BTreeMap<u64, Listener<T>>,
    listener_ids: u64,
    poll: Option<TimerHandle>,
    cooldown: Option<TimerHandle>,
    /// What listeners are still to be told, oldest first, and whether a thread is about it.
    outbox: VecDeque<(Update<T>, Vec<Listener<T>>)>,
    delivers: bool,
}

struct Listener<T> {
    callback: Callback<T>,
    /// Off once it was unsubscribed: it is not told any more what was on its way.
    live: Arc<AtomicBool>,
}

impl<T> Clone for Listener<T> {
    fn clone(&self) -> Self {
        Self { callback: Arc::clone(&self.callback), live: Arc::clone(&self.live) }
    }
}

/// What is left to do without the lock.
#[derive(Default)]
#[must_use]
struct Todo {
    fetch: bool,
}

impl<T: Send + Sync + 'static> Inner<T> {
    pub(super) fn new(parts: Parts<T>, make: impl FnOnce(Option<u64>) -> Machine) -> Arc<Self> {
        let now_ms = parts.executor.now_ms();
        let (mut data, mut last_good_error) = (None, None);
        if let Some(last_good) = &parts.last_good {
            match last_good.load() {
                Ok(Some((value, at))) => {
                    let age_ms = last_good.now().0.saturating_sub(at.0);
                    let value = Arc::new(value);
                    data = Some(Data {
                        value,
                        at,
                        age_ms,
                        since_ms: now_ms,
                        restored: true,
                        version: 0,
                    });
                }
                Ok(None) => {}
                Err(error) => last_good_error = Some(Shared::new(error)),
            }
        }
        let machine = make(data.as_ref().map(|data| data.age_ms));
        let state = State {
            machine,
            data,
            versions: 0,
            last_error: None,
            last_good_error,
            begun: 0,
            ended: 0,
            outcome: Ok(()),
            fetcher: None,
            listeners: BTreeMap::new(),
            listener_ids: 0,
            poll: None,
            cooldown: None,
            outbox: VecDeque::new(),
            delivers: false,
        };
        let state = Mutex::new(state);
        Arc::new(Self { parts, state, ended: Condvar::new(), saved: Mutex::new(0) })
    }

    /// Tells the machine, and does under the lock what can be done there.
    fn send(self: &Arc<Self>, state: &mut State<T>, input: Input) -> Todo {
        let now_ms = self.parts.executor.now_ms();
        let mut todo = Todo::default();
        for action in state.machine.on(input, now_ms) {
            match action {
                Action::Fetch => todo.fetch = true,
                Action::Poll(due_ms) => state.poll = self.timer(due_ms, now_ms, Input::PollDue),
                Action::Cooldown(due_ms) => {
                    state.cooldown = self.timer(due_ms, now_ms, Input::CooldownOver);
                }
                Action::Notify => {
                    let update = self.update(state, now_ms);
                    let listeners = state.listeners.values().cloned().collect();
                    state.outbox.push_back((update, listeners));
                }
            }
        }
        todo
    }

    fn timer(
        self: &Arc<Self>,
        due_ms: Option<u64>,
        now_ms: u64,
        input: Input,
    ) -> Option<TimerHandle> {
        let delay = Duration::from_millis(due_ms?.saturating_sub(now_ms));
        let weak = Arc::downgrade(self);
        let job = move || {
            if let Some(inner) = weak.upgrade() {
                inner.happened(input);
            }
        };
        Some(self.parts.executor.timer().after(delay, Box::new(job)))
    }

    /// Something happened: everything that follows from it is done, here or on the pool.
    pub(super) fn happened(self: &Arc<Self>, input: Input) {
        let mut state = hold(&self.state);
        let todo = self.send(&mut state, input);
        drop(state);
        self.finish(todo);
    }

    fn finish(self: &Arc<Self>, todo: Todo) {
        if todo.fetch {
            let weak = Arc::downgrade(self);
            let job = move || {
                if let Some(inner) = weak.upgrade() {
                    inner.fetch_asked();
                }
            };
            if self.parts.executor.pool().spawn(Box::new(job)).is_err() {
                self.happened(Input::FetchRefused);
            }
        }
        self.deliver();
    }

    /// Tells listeners what is to be told, in order. If another thread is about it, that one does it.
    fn deliver(&self) {
        let mut state = hold(&self.state);
        if state.delivers {
            return;
        }
        state.delivers = true;
        while let Some((update, listeners)) = state.outbox.pop_front() {
            drop(state);
            for listener in &listeners {
                if listener.live.load(Ordering::Acquire) {
                    // A listener that panics was reported by the panic hook; the others are told all the same.
                    let _ = catch_unwind(AssertUnwindSafe(|| (listener.callback)(&update)));
                }
            }
            discard((update, listeners));
            state = hold(&self.state);
        }
        state.delivers = false;
    }

    /// On the pool: fetches, unless somebody did since it was asked for.
    fn fetch_asked(self: &Arc<Self>) {
        let state = hold(&self.state);
        if state.machine.phase() == Phase::Asked && state.fetcher.is_none() {
            // How it ended is in the status.
            let _ = self.lead(state, false);
        }
    }

    /// Waits for a fetch that begins after this call, or is it.
    pub(super) fn refresh(self: &Arc<Self>, first: bool) -> Result<()> {
        let mut state = hold(&self.state);
        if state.fetcher.is_some_and(|(thread, _)| thread == thread::current().id()) {
            return Err(Error::LoaderRecursion);
        }
        let wanted = state.begun + 1;
        let mut waits = None;
        loop {
            if state.machine.is_closed() {
                return Err(Error::Closed(NAME));
            }
            if state.ended >= wanted {
                return state.outcome.clone().map_err(Into::into);
            }
            let Some((_, fetch)) = state.fetcher else {
                drop(waits);
                return self.lead(state, first);
            };
            // The fetch that this thread runs, if there is one, must not be what that one waits for.
            drop(waits.replace(Waiting::begin(fetch)?));
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Fetches on this thread.
    fn lead(self: &Arc<Self>, mut state: MutexGuard<'_, State<T>>, first: bool) -> Result<()> {
        let todo = self.send(&mut state, Input::Begun);
        state.begun += 1;
        let id = LoadId::new();
        state.fetcher = Some((thread::current().id(), id));
        let old = state.data.clone();
        drop(state);
        self.finish(todo);
        // Nobody waits for a fetch that is just made, so this is no circle.
        let waits = Waiting::begin(id);
        let running = id.run();
        let fetched = catch_unwind(AssertUnwindSafe(|| match (self.parts.fetch)() {
            Ok(value) => Ok(Fetched {
                is_change: self.is_change(old.as_ref(), &value),
                at: self.time(),
                value,
            }),
            Err(error) => Err((Failure::Failed(Shared::new(error.error)), error.retry_after)),
        }));
        drop((running, waits));
        let fetched = fetched.unwrap_or_else(|panic| {
            let message = message_of(&*panic);
            discard(panic);
            Err((Failure::Panicked(message), None))
        });
        discard(old);
        self.end(fetched, first)
    }

    fn end(
        self: &Arc<Self>,
        fetched: Result<Fetched<T>, (Failure, Option<Duration>)>,
        first: bool,
    ) -> Result<()> {
        let random = self.parts.executor.random();
        let mut state = hold(&self.state);
        // Held until the lock is released: errors have destructors too.
        let errors = (state.last_error.clone(), state.outcome.clone());
        state.fetcher = None;
        state.ended = state.begun;
        self.ended.notify_all();
        if state.machine.is_closed() {
            drop(state);
            discard((fetched, errors));
            return Err(Error::Closed(NAME));
        }
        let (mut unused, mut replaced) = (None, None);
        let input = match fetched {
            Ok(Fetched { value, .. }) if state.machine.is_overtaken() => {
                unused = Some(value);
                state.outcome = Ok(());
                Input::Succeeded { changed: false }
            }
            Ok(Fetched { value, at, is_change: changed }) => {
                replaced = self.store(&mut state, value, at);
                state.outcome = Ok(());
                Input::Succeeded { changed }
            }
            Err((failure, retry_after)) => {
                state.last_error = Some(failure.shared());
                state.outcome = Err(failure);
                Input::Failed { retry_after_ms: retry_after.map(to_ms), first, random }
            }
        };
        let outcome = state.outcome.clone();
        let todo = self.send(&mut state, input);
        drop(state);
        discard((unused, replaced, errors));
        self.finish(todo);
        if outcome.is_ok() {
            self.save();
        }
        outcome.map_err(Into::into)
    }

    /// Puts a new value in place; the old one is to be dropped without the lock. Before listeners are told.
    fn store(&self, state: &mut State<T>, value: T, at: Timestamp) -> Option<Data<T>> {
        state.versions += 1;
        state.last_error = None;
        let (since_ms, version) = (self.parts.executor.now_ms(), state.versions);
        let value = Arc::new(value);
        state.data.replace(Data { value, at, age_ms: 0, since_ms, restored: false, version })
    }

    fn is_change(&self, old: Option<&Data<T>>, new: &T) -> bool {
        let (Some(old), Some(same)) = (old, &self.parts.same) else { return true };
        if !self.shown(old, self.parts.executor.now_ms()) {
            return true;
        }
        // A comparison that panics says nothing.
        !catch_unwind(AssertUnwindSafe(|| same(&old.value, new))).unwrap_or(false)
    }

    /// A value from elsewhere. `false` if the coordinator is shut down.
    pub(super) fn publish(self: &Arc<Self>, value: T) -> bool {
        let old = hold(&self.state).data.clone();
        let changed = self.is_change(old.as_ref(), &value);
        let at = self.time();
        let mut state = hold(&self.state);
        if state.machine.is_closed() {
            drop(state);
            return false;
        }
        let error = state.last_error.clone();
        let compared = old.as_ref().map(|data| data.version);
        let changed = changed || state.data.as_ref().map(|data| data.version) != compared;
        let replaced = self.store(&mut state, value, at);
        let todo = self.send(&mut state, Input::Published { changed });
        drop(state);
        discard((old, replaced, error));
        self.finish(todo);
        self.save();
        true
    }

    pub(super) fn set_error(self: &Arc<Self>, error: Shared) {
        let mut state = hold(&self.state);
        if state.machine.is_closed() {
            return;
        }
        let old = state.last_error.replace(error);
        let todo = self.send(&mut state, Input::ErrorSet);
        drop(state);
        discard(old);
        self.finish(todo);
    }

    /// Keeps the newest value, unless that was done.
    fn save(&self) {
        let Some(last_good) = &self.parts.last_good else { return };
        let mut saved = hold(&self.saved);
        let data = hold(&self.state).data.clone();
        let Some(data) = data.filter(|data| data.version > *saved) else { return };
        let error = guarded(|| last_good.save(&data.value, data.at)).err().map(Shared::new);
        if error.is_none() {
            *saved = data.version;
        }
        hold(&self.state).last_good_error = error;
    }

    fn time(&self) -> Timestamp {
        match &self.parts.last_good {
            Some(last_good) => last_good.now(),
            None => self.parts.executor.wall(),
        }
    }

    pub(super) fn subscribe(self: &Arc<Self>, callback: Callback<T>) -> u64 {
        let mut state = hold(&self.state);
        state.listener_ids += 1;
        let id = state.listener_ids;
        if state.machine.is_closed() {
            return id;
        }
        let live = Arc::new(AtomicBool::new(true));
        state.listeners.insert(id, Listener { callback, live });
        let todo = self.send(&mut state, Input::Subscribed);
        drop(state);
        self.finish(todo);
        id
    }

    pub(super) fn unsubscribe(self: &Arc<Self>, id: u64) {
        let mut state = hold(&self.state);
        let Some(listener) = state.listeners.remove(&id) else { return };
        listener.live.store(false, Ordering::Release);
        let todo = self.send(&mut state, Input::Unsubscribed);
        drop(state);
        drop(listener);
        self.finish(todo);
    }

    /// Timers are cancelled, waiters go, listeners are let go of, and what a running fetch brings is dropped.
    pub(super) fn shutdown(self: &Arc<Self>) {
        let mut state = hold(&self.state);
        // Closing asks for no fetch and tells nobody.
        let _todo = self.send(&mut state, Input::Closed);
        let (listeners, outbox) =
            (std::mem::take(&mut state.listeners), std::mem::take(&mut state.outbox));
        for listener in listeners.values() {
            listener.live.store(false, Ordering::Release);
        }
        drop(state);
        self.ended.notify_all();
        drop((listeners, outbox));
    }

    fn shown(&self, data: &Data<T>, now_ms: u64) -> bool {
        self.parts.stale_max_ms.is_none_or(|max_ms| data.age_ms(now_ms) <= max_ms)
    }

    pub(super) fn data(&self) -> Option<Arc<T>> {
        let now_ms = self.parts.executor.now_ms();
        let state = hold(&self.state);
        let data = state.data.as_ref().filter(|data| self.shown(data, now_ms))?;
        Some(Arc::clone(&data.value))
    }

    pub(super) fn age(&self) -> Option<Duration> {
        let now_ms = self.parts.executor.now_ms();
        let state = hold(&self.state);
        Some(Duration::from_millis(state.data.as_ref()?.age_ms(now_ms)))
    }

    pub(super) fn is_stale(&self) -> bool {
        let now_ms = self.parts.executor.now_ms();
        let state = hold(&self.state);
        let Some(data) = &state.data else { return true };
        data.restored
            || state.machine.health() == Health::Bad
            || self.parts.stale_after_ms.is_some_and(|after_ms| data.age_ms(now_ms) > after_ms)
    }

    pub(super) fn status(&self) -> Status {
        let now_ms = self.parts.executor.now_ms();
        self.update(&hold(&self.state), now_ms).status
    }

    fn update(&self, state: &State<T>, now_ms: u64) -> Update<T> {
        let machine = &state.machine;
        let wait = |due_ms: u64| Duration::from_millis(due_ms.saturating_sub(now_ms));
        let status = Status {
            last_update_success: machine.health() == Health::Good,
            last_success_time: state.data.as_ref().map(|data| data.at),
            last_error: state.last_error.clone(),
            consecutive_failures: machine.failures(),
            is_fetching: state.fetcher.is_some(),
            is_restored: state.data.as_ref().is_some_and(|data| data.restored),
            next_poll_in: machine.poll_ms().map(wait),
            listeners: state.listeners.len(),
            last_good_error: state.last_good_error.clone(),
        };
        let shown = state.data.as_ref().filter(|data| self.shown(data, now_ms));
        Update { data: shown.map(|data| Arc::clone(&data.value)), status }
    }
}

/// A coordinator as the mutations know it.
pub(super) trait Refresh: Send + Sync {
    /// `None` if it is gone.
    fn refresh(&self) -> Option<Result<()>>;
    /// Whether the thread that asks is in its fetch.
    fn is_fetching_here(&self) -> bool;
    fn is_gone(&self) -> bool;
}

impl<T: Send + Sync + 'static> Refresh for Weak<Inner<T>> {
    fn refresh(&self) -> Option<Result<()>> {
        match self.upgrade()?.refresh(false) {
            Err(Error::Closed(_)) => None,
            outcome => Some(outcome),
        }
    }

    fn is_fetching_here(&self) -> bool {
        let Some(inner) = self.upgrade() else { return false };
        let fetcher = hold(&inner.state).fetcher;
        fetcher.is_some_and(|(thread, _)| thread == thread::current().id())
    }

    fn is_gone(&self) -> bool {
        self.upgrade().is_none_or(|inner| hold(&inner.state).machine.is_closed())
    }
}

/// Drops what others may have given a destructor. Its panic has been reported by the panic hook, and ends here.
pub(super) fn discard<D>(dropped: D) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(dropped)));
}

/// A panic of somebody else's code becomes an error.
pub(super) fn guarded<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(Error::Loader(Shared::new(format!("it panicked: {}", message_of(&*panic)))))
    })
}

/// The text of a panic, if it has one.
pub(super) fn message_of(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "no message".to_owned(),
    }
}
