//! What happens to entries, for whoever wants to know: bounded, and who is too slow is told how much was lost.

use std::{
    collections::VecDeque,
    future::poll_fn,
    marker::PhantomData,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use tierce_engine::{Cause, Engine};

use super::Cache;
use crate::{
    codec::Codec,
    key::{self, OwnedKey},
};

/// Why an entry is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Removal {
    /// It was removed or taken by key.
    Explicit,
    /// It was removed by a pattern or a predicate.
    Invalidated,
    /// Its time was over.
    Expired,
    /// It was forgotten to stay under a limit.
    Evicted,
    /// Its tag, or the whole cache, had been cut before; its bytes were found now.
    Cut,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event<K> {
    /// A value was stored where there was none.
    Inserted(K),
    /// A value was stored in the place of another one.
    Updated(K),
    /// An entry is gone.
    Removed(K, Removal),
    /// All entries with this tag are gone; which ones those were is not looked up.
    TagCut(String),
    /// All entries are gone.
    Cleared,
}

/// The same before the key is decoded.
#[derive(Clone, Debug)]
pub(super) enum Raw {
    Stored { key: Vec<u8>, was_there: bool },
    Removed(Vec<u8>, Removal),
    TagCut(String),
    Cleared,
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who listens to one cache.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    all: Mutex<Vec<Weak<Queue>>>,
    /// How many there may be, to be asked without the lock.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Queue {
    capacity: usize,
    state: Mutex<State>,
    came: Condvar,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Raw>,
    lost: u64,
    /// How many evictions of the store were looked at.
    evictions: u64,
    /// A task that waits for the next one.
    waker: Option<Waker>,
}

impl State {
    fn push(&mut self, event: Raw, capacity: usize) {
        if self.events.len() == capacity {
            self.events.pop_front();
            self.lost += 1;
        }
        self.events.push_back(event);
    }
}

impl Listeners {
    pub(super) fn are_there(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Tells all who listen. Waits for nobody.
    pub(super) fn tell(&self, event: impl FnOnce() -> Raw) {
        if !self.are_there() {
            return;
        }
        let event = event();
        let mut all = hold(&self.all);
        all.retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            let mut state = hold(&queue.state);
            state.push(event.clone(), queue.capacity);
            let waker = state.waker.take();
            drop(state);
            queue.came.notify_all();
            if let Some(waker) = waker {
                waker.wake();
            }
            true
        });
        self.count.store(all.len(), Ordering::Release);
    }

    fn add(&self, capacity: usize, evictions: u64) -> Arc<Queue> {
        let state = Mutex::new(State { evictions, ..State::default() });
        let queue = Arc::new(Queue { capacity: capacity.max(1), state, came: Condvar::new() });
        let mut all = hold(&self.all);
        all.push(Arc::downgrade(&queue));
        self.count.store(all.len(), Ordering::Release);
        queue
    }
}

/// Receives what happens to the entries of a cache from [`Cache::subscribe`] on, in the order in which writers reported
/// it. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Events<K> {
    queue: Arc<Queue>,
    engine: Option<Engine>,
    prefix: Vec<u8>,
    keys: PhantomData<fn() -> K>,
}

impl<K: OwnedKey, V, C: Codec<V>> Cache<K, V, C> {
    /// Reports what happens to entries from now on. Up to `capacity` events wait; then each new one displaces the
    /// oldest, and [`Events::lost`] counts it: a listener that is slow or forgotten stops nobody. Nothing is kept over
    /// a restart: for that see `Engine::changes_since`.
    ///
    /// Evictions and expiries are reported when the store notices them, with their key unless they left unread with a
    /// whole segment.
    ///
    /// ```
    /// use tierce::cache::{Event, Removal};
    /// let cache = tierce::Store::in_memory()?.cache::<String, u32>("c")?;
    /// let events = cache.subscribe(16);
    /// cache.insert("a", &1)?;
    /// cache.remove("a")?;
    /// assert_eq!(events.try_next(), Some(Event::Inserted("a".to_owned())));
    /// assert_eq!(events.try_next(), Some(Event::Removed("a".to_owned(), Removal::Explicit)));
    /// assert_eq!(events.try_next(), None);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    #[must_use]
    pub fn subscribe(&self, capacity: usize) -> Events<K> {
        let engine = self.store().engine().cloned();
        let seen = engine.as_ref().map_or(0, |engine| {
            engine.keep_evicted_keys();
            engine.evicted_since(u64::MAX).next
        });
        Events {
            queue: self.shared.listeners.add(capacity, seen),
            engine,
            prefix: self.typed.space().prefix.clone(),
            keys: PhantomData,
        }
    }
}

impl<K: OwnedKey> Events<K> {
    /// The next event, if there is one.
    #[must_use]
    pub fn try_next(&self) -> Option<Event<K>> {
        let mut state = hold(&self.queue.state);
        self.take_evictions(&mut state);
        self.next_of(&mut state)
    }

    /// The next event; waits for one up to `patience`.
    ///
    /// ```
    /// use std::time::Duration;
    /// let cache = tierce::Store::in_memory()?.cache::<u32, u32>("c")?;
    /// let events = cache.subscribe(16);
    /// assert_eq!(events.wait(Duration::from_millis(1)), None);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    #[must_use]
    pub fn wait(&self, patience: Duration) -> Option<Event<K>> {
        /// How often the journal of evictions, which wakes nobody, is looked at.
        const LOOK_EVERY: Duration = Duration::from_millis(100);
        let mut left = patience;
        let mut state = hold(&self.queue.state);
        loop {
            self.take_evictions(&mut state);
            if let Some(event) = self.next_of(&mut state) {
                return Some(event);
            }
            if left.is_zero() {
                return None;
            }
            let part = left.min(LOOK_EVERY);
            let (woken, timeout) =
                self.queue.came.wait_timeout(state, part).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            // Woken early it waits a little longer than it was told to, at most once for each event.
            left = if timeout.timed_out() { left - part } else { left };
        }
    }

    /// The next event, for tasks of any runtime: waits for one, without a thread. Evictions and expiries, of which the
    /// store tells nobody, wake no task: they come before what happens next. Of several tasks that wait the last is
    /// woken; dropped, it has taken nothing.
    ///
    /// ```
    /// use tierce::{asynchronous::block_on, cache::Event};
    /// let cache = tierce::Store::in_memory()?.cache::<u32, u32>("c")?;
    /// let events = cache.subscribe(16);
    /// cache.insert(&1, &1)?;
    /// assert_eq!(block_on(events.next()), Event::Inserted(1));
    /// # Ok::<(), tierce::Error>(())
    /// ```
    pub async fn next(&self) -> Event<K> {
        poll_fn(|cx| {
            let mut state = hold(&self.queue.state);
            self.take_evictions(&mut state);
            if let Some(event) = self.next_of(&mut state) {
                return Poll::Ready(event);
            }
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// How many events were lost because they were not taken in time.
    #[must_use]
    pub fn lost(&self) -> u64 {
        hold(&self.queue.state).lost
    }

    /// Takes over what the store evicted meanwhile.
    fn take_evictions(&self, state: &mut State) {
        let Some(engine) = &self.engine else { return };
        let evicted = engine.evicted_since(state.evictions);
        state.evictions = evicted.next;
        state.lost += evicted.lost;
        for (eviction, key) in evicted.evictions {
            let Some(key) = key.filter(|key| key.starts_with(&self.prefix)) else { continue };
            let removal = match eviction.cause {
                Cause::Capacity => Removal::Evicted,
                Cause::Expired => Removal::Expired,
                _ => Removal::Cut,
            };
            state.push(Raw::Removed(key, removal), self.queue.capacity);
        }
    }

    fn next_of(&self, state: &mut State) -> Option<Event<K>> {
        loop {
            let key = |bytes: &[u8]| key::decode(bytes.get(self.prefix.len()..)?);
            let event = match state.events.pop_front()? {
                Raw::Stored { key: bytes, was_there: false } => key(&bytes).map(Event::Inserted),
                Raw::Stored { key: bytes, was_there: true } => key(&bytes).map(Event::Updated),
                Raw::Removed(bytes, removal) => key(&bytes).map(|key| Event::Removed(key, removal)),
                Raw::TagCut(tag) => Some(Event::TagCut(tag)),
                Raw::Cleared => Some(Event::Cleared),
            };
            if event.is_some() {
                return event;
            }
        }
    }
}
