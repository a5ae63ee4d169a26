//! What happens to entries, for whoever wants to know: bounded, and who is too slow is told how much was lost.

use std::{
    collections::VecDeque,
    future::poll_fn,
    marker::PhantomData,
    sync::{Arc, Weak},
    task::{Poll, Waker},
    time::Duration,
};

use tierce_engine::Cause;

use super::{Cache, CacheShared, record::is_failure};
use crate::{
    codec::Codec,
    key::{self, OwnedKey},
    store::Store,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    waits::wake_all,
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
    Stored {
        key: Vec<u8>,
        was_there: bool,
    },
    Removed(Vec<u8>, Removal),
    TagCut(String),
    Cleared,
    /// Changes of this key met: what is there when this is taken is told once more, or why there is nothing.
    Look(Vec<u8>, Removal),
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the entries are that listeners hear of.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) store: &'a Store,
    pub(super) prefix: &'a [u8],
}

impl Place<'_> {
    /// Whether there is a value of `key`; `None` if that cannot be found out.
    fn holds(&self, key: &[u8]) -> Option<bool> {
        let mut holds = false;
        self.store.kv().peek(key, &mut |view| holds = !is_failure(&view)).ok()?;
        Some(holds)
    }
}

/// The listeners of one cache.
///
/// A listener that follows every event ends with what the cache holds, although writes report themselves after they
/// happened and several at once do so in any order. The reporting thread looks once more at the entry, after the event has
/// its place in the queue; if the entry does not say the same, another write has come between, and a look at what is
/// there is queued behind both. The last look is behind the last write.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    all: Mutex<All>,
    /// How many there may be, to be asked without the lock.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct All {
    queues: Vec<Weak<Queue>>,
    /// How many evictions of the store were looked at.
    evictions: u64,
    /// Cuts that go on.
    cuts: Vec<Cut>,
    cuts_ever: u64,
}

/// A cut that goes on: which keys were reported meanwhile, because they may have been stored before it or after it.
#[derive(Debug)]
struct Cut {
    number: u64,
    keys: Vec<Vec<u8>>,
    /// More than are kept.
    lost: u64,
}

/// Keys that are kept for one cut (I12); each further one is an event that is lost.
const CUT_KEYS_MAX: usize = 4096;

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
    /// A task that waits for the next one.
    waker: Option<Waker>,
}

/// Who has to be woken when no lock is held any more.
#[derive(Default)]
struct Woken {
    queues: Vec<Arc<Queue>>,
    wakers: Vec<Waker>,
}

impl Woken {
    fn wake(self) {
        for queue in &self.queues {
            queue.came.notify_all();
        }
        wake_all(self.wakers);
    }
}

impl All {
    /// Adds an event to each queue; `lost` are events that are known no more.
    fn push(&mut self, event: Option<&Raw>, lost: u64) {
        self.queues.retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            let mut state = hold(&queue.state);
            state.lost += lost;
            if let Some(event) = event {
                if state.events.len() == queue.capacity {
                    state.events.pop_front();
                    state.lost += 1;
                }
                state.events.push_back(event.clone());
            }
            true
        });
    }

    /// Takes over what the store evicted meanwhile; says why `own`, which is about to be reported, is among it.
    fn take_evictions(&mut self, place: &Place<'_>, own: Option<&[u8]>) -> Option<Removal> {
        let engine = place.store.engine()?;
        let evicted = engine.evicted_since(self.evictions);
        self.evictions = evicted.next;
        if evicted.lost > 0 {
            self.push(None, evicted.lost);
        }
        let mut why = None;
        for (eviction, key) in evicted.evictions {
            let Some(key) = key.filter(|key| key.starts_with(place.prefix)) else { continue };
            let removal = match eviction.cause {
                Cause::Capacity => Removal::Evicted,
                Cause::Expired => Removal::Expired,
                _ => Removal::Cut,
            };
            let is_own = own == Some(key.as_slice());
            // Stored again, before or after it is reported: the look is behind it in any case.
            let look = (!is_own && place.holds(&key) == Some(true))
                .then(|| Raw::Look(key.clone(), removal));
            if is_own {
                why = Some(removal);
            }
            self.push(Some(&Raw::Removed(key, removal)), 0);
            if let Some(look) = look {
                self.push(Some(&look), 0);
            }
        }
        why
    }

    fn woken(&self) -> Woken {
        let queues: Vec<_> = self.queues.iter().filter_map(Weak::upgrade).collect();
        let has_events = |queue: &&Arc<Queue>| !hold(&queue.state).events.is_empty();
        let wakers = queues.iter().filter(has_events);
        let wakers = wakers.filter_map(|queue| hold(&queue.state).waker.take()).collect();
        Woken { queues, wakers }
    }

    fn note_key(&mut self, key: &[u8]) {
        for cut in &mut self.cuts {
            match cut.keys.len() < CUT_KEYS_MAX {
                true => cut.keys.push(key.to_vec()),
                false => cut.lost += 1,
            }
        }
    }
}

/// A cut goes on, until this is dropped.
pub(super) struct Cutting<'a> {
    listeners: &'a Listeners,
    number: u64,
}

impl Cutting<'_> {
    /// It has happened.
    pub(super) fn tell(self, place: Place<'_>, event: &Raw) {
        let mut all = hold(&self.listeners.all);
        all.take_evictions(&place, None);
        all.push(Some(event), 0);
        let at = all.cuts.iter().position(|cut| cut.number == self.number);
        if let Some(cut) = at.map(|at| all.cuts.swap_remove(at)) {
            for key in cut.keys {
                all.push(Some(&Raw::Look(key, Removal::Cut)), 0);
            }
            if cut.lost > 0 {
                all.push(None, cut.lost);
            }
        }
        let woken = all.woken();
        drop(all);
        woken.wake();
    }
}

impl Drop for Cutting<'_> {
    fn drop(&mut self) {
        hold(&self.listeners.all).cuts.retain(|cut| cut.number != self.number);
    }
}

impl Listeners {
    pub(super) fn are_there(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Reports what happened to one entry. Order: when no lock is held; those that are woken may come back.
    pub(super) fn tell(&self, place: Place<'_>, event: impl FnOnce() -> Raw) {
        if !self.are_there() {
            return;
        }
        let event = event();
        let mut all = hold(&self.all);
        let look = match &event {
            Raw::Stored { key, .. } => {
                let why = all.take_evictions(&place, Some(key));
                all.note_key(key);
                Some((key.clone(), false, why.unwrap_or(Removal::Explicit)))
            }
            Raw::Removed(key, why) => {
                all.take_evictions(&place, Some(key));
                Some((key.clone(), true, *why))
            }
            Raw::TagCut(_) | Raw::Cleared | Raw::Look(..) => None,
        };
        all.push(Some(&event), 0);
        // Order: looked at behind the event, see `Listeners`.
        if let Some((key, odd, why)) = look
            && place.holds(&key) == Some(odd)
        {
            all.push(Some(&Raw::Look(key, why)), 0);
        }
        self.count.store(all.queues.len(), Ordering::Release);
        let woken = all.woken();
        drop(all);
        woken.wake();
    }

    /// A cut begins.
    pub(super) fn begin_cut(&self) -> Cutting<'_> {
        let mut all = hold(&self.all);
        all.cuts_ever += 1;
        let number = all.cuts_ever;
        all.cuts.push(Cut { number, keys: Vec::new(), lost: 0 });
        Cutting { listeners: self, number }
    }

    fn take_evictions(&self, place: &Place<'_>) {
        let mut all = hold(&self.all);
        all.take_evictions(place, None);
        let woken = all.woken();
        drop(all);
        woken.wake();
    }

    fn add(&self, place: &Place<'_>, capacity: usize) -> Arc<Queue> {
        let queue = Arc::new(Queue {
            capacity: capacity.max(1),
            state: Mutex::default(),
            came: Condvar::new(),
        });
        let mut all = hold(&self.all);
        if let Some(engine) = place.store.engine() {
            engine.keep_evicted_keys();
            // What was evicted before is for those that listened before.
            match all.queues.is_empty() {
                true => all.evictions = engine.evicted_since(u64::MAX).next,
                false => drop(all.take_evictions(place, None)),
            }
        }
        all.queues.push(Arc::downgrade(&queue));
        self.count.store(all.queues.len(), Ordering::Release);
        queue
    }
}

/// Receives what happens to the entries of a cache from [`Cache::subscribe`] on. Dropping it ends the subscription.
///
/// For each key the last event says what the cache holds: a copy that follows all events has the cache's keys when it
/// has taken the last one, however many threads write, expire and evict, provided that [`Self::lost`] has not grown.
/// While writes of one key meet, its events may be told more than once.
#[derive(Debug)]
pub struct Events<K> {
    queue: Arc<Queue>,
    shared: Arc<CacheShared>,
    store: Store,
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
        Events {
            queue: self.shared.listeners.add(&self.place(), capacity),
            shared: Arc::clone(&self.shared),
            store: self.store().clone(),
            prefix: self.typed.space().prefix.clone(),
            keys: PhantomData,
        }
    }

    pub(super) fn place(&self) -> Place<'_> {
        Place { store: self.store(), prefix: &self.typed.space().prefix }
    }

    pub(super) fn tell(&self, event: impl FnOnce() -> Raw) {
        self.shared.listeners.tell(self.place(), event);
    }
}

impl<K: OwnedKey> Events<K> {
    /// The next event, if there is one.
    #[must_use]
    pub fn try_next(&self) -> Option<Event<K>> {
        self.take_evictions();
        self.take()
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
        loop {
            if let Some(event) = self.try_next() {
                return Some(event);
            }
            if left.is_zero() {
                return None;
            }
            let part = left.min(LOOK_EVERY);
            let is_empty = |state: &mut State| state.events.is_empty();
            let waited =
                self.queue.came.wait_timeout_while(hold(&self.queue.state), part, is_empty);
            let timeout = waited.unwrap_or_else(PoisonError::into_inner).1;
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
            let waker = cx.waker().clone();
            loop {
                if let Some(event) = self.try_next() {
                    return Poll::Ready(event);
                }
                let mut state = hold(&self.queue.state);
                if state.events.is_empty() {
                    let replaced = state.waker.replace(waker);
                    drop(state);
                    // With no lock held: it may own a task.
                    drop(replaced);
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// How many events were lost because they were not taken in time.
    #[must_use]
    pub fn lost(&self) -> u64 {
        hold(&self.queue.state).lost
    }

    fn place(&self) -> Place<'_> {
        Place { store: &self.store, prefix: &self.prefix }
    }

    /// Takes over what the store evicted meanwhile.
    fn take_evictions(&self) {
        self.shared.listeners.take_evictions(&self.place());
    }

    fn take(&self) -> Option<Event<K>> {
        loop {
            let raw = hold(&self.queue.state).events.pop_front()?;
            let key = |bytes: &[u8]| key::decode(bytes.get(self.prefix.len()..)?);
            let event = match raw {
                Raw::Stored { key: bytes, was_there: false } => key(&bytes).map(Event::Inserted),
                Raw::Stored { key: bytes, was_there: true } => key(&bytes).map(Event::Updated),
                Raw::Removed(bytes, removal) => key(&bytes).map(|key| Event::Removed(key, removal)),
                Raw::TagCut(tag) => Some(Event::TagCut(tag)),
                Raw::Cleared => Some(Event::Cleared),
                Raw::Look(bytes, why) => match (key(&bytes), self.place().holds(&bytes)) {
                    (Some(key), Some(true)) => Some(Event::Updated(key)),
                    (Some(key), Some(false)) => Some(Event::Removed(key, why)),
                    (None, _) => None,
                    (_, None) => {
                        // It is not known what is there.
                        hold(&self.queue.state).lost += 1;
                        None
                    }
                },
            };
            if event.is_some() {
                return event;
            }
        }
    }
}
