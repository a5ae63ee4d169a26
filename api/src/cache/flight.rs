//! One load at a time for each key, whoever asks, threads and tasks: the others wait for its result.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    hash::BuildHasher as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tierce_engine::Timestamp;

use super::writing::Writing;
use crate::{
    error::{Error, Result, Shared},
    sync::{
        Condvar, Hashing, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    waits::{LoadId, Running, Waiting, wake_all},
};

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a load ended, for everyone who waited.
#[derive(Clone)]
pub(super) enum Landing {
    /// A value of the cache's type.
    Value(Arc<dyn Any + Send + Sync>),
    Failed(Shared),
    Panicked(String),
}

/// One load of one key.
pub(super) struct Flight {
    id: LoadId,
    state: Mutex<FlightState>,
    /// Wakes the threads that wait; tasks have their wakers.
    ended: Condvar,
    /// The ticket, while the load waits for a worker: whoever cannot wait so long takes it.
    parked: Mutex<Option<Ticket>>,
    /// What happened since the load began that makes what it brings old. Held while that is stored.
    fence: Mutex<Fence>,
    /// How many tags the fence has, to be asked without the lock.
    cuts: AtomicUsize,
}

#[derive(Default)]
struct Fence {
    /// The key was written or removed.
    is_outdated: bool,
    /// Tags that were cut: a value with one of them is old.
    tags: Vec<String>,
}

/// Tags that one load remembers (I12): after more of them its value counts as old, whatever tags it has.
const CUTS_MAX: usize = 1024;

#[derive(Default)]
struct FlightState {
    has_ended: bool,
    /// How; none if it was abandoned.
    landing: Option<Landing>,
    /// Which cut of a tag was the first that makes the value old.
    hit: Option<usize>,
    /// Of the tasks that wait, by number.
    wakers: BTreeMap<u64, Waker>,
    wakers_ever: u64,
}

type ByKey = HashMap<Vec<u8>, Arc<Flight>, Hashing>;

/// The loads of one cache that are under way.
#[derive(Default)]
pub(super) struct Flights {
    by_key: Mutex<ByKey>,
    /// How many there are, to be asked without the lock.
    count: AtomicUsize,
    /// When a background load of a key failed last.
    failed: Mutex<HashMap<Vec<u8>, Timestamp>>,
    /// Writes that are going on, by a part of their key's hash.
    writes: [AtomicUsize; SLOTS],
    /// Those that are about all keys.
    writes_of_all: AtomicUsize,
    /// Removals of some entries that are going on.
    removals: AtomicUsize,
    hasher: Hashing,
}

/// Keys of one slot are taken for one: a load may then not be stored for another key's sake.
const SLOTS: usize = 32;

/// A load that waits for a worker. Whoever waits is told even if it is dropped.
pub(crate) struct Parked(Arc<Flight>);

impl Parked {
    /// Who calls this loads; `None` if somebody else does by now.
    pub(crate) fn take_off(&self) -> Option<Ticket> {
        hold(&self.0.parked).take()
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        // Order: taken out first. A ticket that is dropped takes locks under which this one is taken.
        let ticket = hold(&self.0.parked).take();
        drop(ticket);
    }
}

impl std::fmt::Debug for Flights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Flights({})", self.count.load(Ordering::Relaxed))
    }
}

/// Whoever asks for a key that is not there.
pub(super) enum Boarding {
    /// It loads.
    Leader(Ticket),
    /// It waits.
    Passenger(Passage),
}

/// A caller that waits for a load.
pub(super) struct Passage {
    flight: Arc<Flight>,
    /// How many tags had been cut since the load began: a value that one of them makes old is not what it waits for.
    cuts: usize,
}

impl Passage {
    fn of(flight: &Arc<Flight>) -> Self {
        Self { flight: Arc::clone(flight), cuts: flight.cuts.load(Ordering::SeqCst) }
    }
}

/// The right, and the duty, to load a key. If it is dropped before it lands, the load is abandoned: those who wait are
/// told, and the first of them loads.
pub(crate) struct Ticket {
    flights: Arc<Flights>,
    key: Vec<u8>,
    flight: Arc<Flight>,
    landing: Option<Landing>,
    /// The tags of what was loaded.
    tags: Vec<String>,
    /// Whether the load began while entries were being changed: what it finds may be what the change takes away.
    is_amid: bool,
}

/// Failures that are remembered at most (I12): more of them are forgotten together.
const FAILED_MAX: usize = 4096;

impl Flights {
    /// The right to load `key`, unless somebody does; a load that still waits for a worker is taken over.
    pub(super) fn board(self: &Arc<Self>, key: &[u8]) -> Boarding {
        let mut by_key = hold(&self.by_key);
        if let Some(flight) = by_key.get(key) {
            return match hold(&flight.parked).take() {
                Some(ticket) => Boarding::Leader(ticket),
                None => Boarding::Passenger(Passage::of(flight)),
            };
        }
        Boarding::Leader(self.ticket(&mut by_key, key))
    }

    /// The load of `key`; if there was none, it is there now and waits for a worker.
    pub(super) fn park(self: &Arc<Self>, key: &[u8]) -> (Passage, Option<Parked>) {
        let mut by_key = hold(&self.by_key);
        if let Some(flight) = by_key.get(key) {
            return (Passage::of(flight), None);
        }
        let ticket = self.ticket(&mut by_key, key);
        let flight = Arc::clone(&ticket.flight);
        *hold(&flight.parked) = Some(ticket);
        (Passage::of(&flight), Some(Parked(flight)))
    }

    fn ticket(self: &Arc<Self>, by_key: &mut ByKey, key: &[u8]) -> Ticket {
        let flight = Arc::new(Flight {
            id: LoadId::new(),
            state: Mutex::default(),
            ended: Condvar::new(),
            parked: Mutex::default(),
            fence: Mutex::default(),
            cuts: AtomicUsize::new(0),
        });
        by_key.insert(key.to_vec(), Arc::clone(&flight));
        self.count.store(by_key.len(), Ordering::SeqCst);
        // Order: counted before it looks. A writer says so before it looks for loads, so one of the two sees the other.
        let go_on = |counts: &[&AtomicUsize]| counts.iter().any(|c| c.load(Ordering::SeqCst) > 0);
        let is_beside_write = go_on(&[self.writes_of(key), &self.writes_of_all]);
        hold(&flight.fence).is_outdated = is_beside_write;
        let is_amid = is_beside_write || go_on(&[&self.removals]);
        let (flights, key) = (Arc::clone(self), key.to_vec());
        Ticket { flights, key, flight, landing: None, tags: Vec::new(), is_amid }
    }

    fn writes_of(&self, key: &[u8]) -> &AtomicUsize {
        &self.writes[self.hasher.hash_one(key) as usize % SLOTS]
    }

    pub(super) fn is_flying(&self, key: &[u8]) -> bool {
        self.count.load(Ordering::SeqCst) > 0 && hold(&self.by_key).contains_key(key)
    }

    /// The key is about to be written or removed. A load that is under way is not stored any more, and nobody joins it;
    /// nor is one that begins before the write has ended. Waits while its value is being stored: the write that is
    /// about to come is the later one.
    pub(super) fn write(&self, key: &[u8]) -> Writing<'_> {
        let writing = Writing::begin(self.writes_of(key));
        self.outdate(key);
        writing
    }

    fn outdate(&self, key: &[u8]) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let flight = hold(&self.by_key).get(key).cloned();
        if let Some(flight) = flight {
            self.detach(vec![(key.to_vec(), flight)]);
        }
    }

    /// What these bring is old, and nobody joins them any more. Order: they are marked before they are not to be found
    /// any more. Another writer that finds none may go on at once.
    fn detach(&self, flights: Vec<(Vec<u8>, Arc<Flight>)>) {
        for (_, flight) in &flights {
            hold(&flight.fence).is_outdated = true;
        }
        let mut by_key = hold(&self.by_key);
        for (key, flight) in flights {
            if by_key.get(&key).is_some_and(|found| Arc::ptr_eq(found, &flight)) {
                by_key.remove(&key);
            }
        }
        self.count.store(by_key.len(), Ordering::SeqCst);
    }

    /// As [`Self::write`], for every key.
    pub(super) fn write_all(&self) -> Writing<'_> {
        let writing = Writing::begin(&self.writes_of_all);
        self.outdate_all();
        writing
    }

    fn outdate_all(&self) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let all = |by_key: &ByKey| {
            by_key.iter().map(|(key, flight)| (key.clone(), Arc::clone(flight))).collect()
        };
        let flights = all(&hold(&self.by_key));
        self.detach(flights);
    }

    /// Entries are about to be removed. Loads go on and are stored; what one finds that begins before this ends is handed
    /// to nobody else.
    pub(super) fn remove_some(&self) -> Writing<'_> {
        Writing::begin(&self.removals)
    }

    fn keys(&self) -> Vec<Vec<u8>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        hold(&self.by_key).keys().cloned().collect()
    }

    /// All keys for which `is_it` says so are about to be removed. Loads of them that are under way are not stored any
    /// more, and no caller joins them; one that begins later brings what is there then.
    pub(super) fn outdate_where(&self, is_it: &mut dyn FnMut(&[u8]) -> bool) {
        // Order: asked with no lock held. The answer may come from the cache.
        for key in self.keys() {
            if is_it(&key) {
                self.outdate(&key);
            }
        }
    }

    /// A tag is about to be cut. Loads that are under way are not stored if their value has it, and a caller that asks from
    /// now on does not get it from them. Waits while a value is being stored.
    pub(super) fn cut_tag(&self, tag: &str) -> Writing<'_> {
        let removing = self.remove_some();
        for key in self.keys() {
            let Some(flight) = hold(&self.by_key).get(&key).cloned() else { continue };
            let mut fence = hold(&flight.fence);
            if fence.tags.len() < CUTS_MAX {
                fence.tags.push(tag.to_owned());
                flight.cuts.store(fence.tags.len(), Ordering::SeqCst);
                continue;
            }
            drop(fence);
            self.outdate(&key);
        }
        removing
    }

    /// A background load of `key` failed.
    pub(super) fn note_failure(&self, key: &[u8], now: Timestamp) {
        let mut failed = hold(&self.failed);
        if failed.len() >= FAILED_MAX {
            failed.clear();
        }
        failed.insert(key.to_vec(), now);
    }

    pub(super) fn forget_failure(&self, key: &[u8]) {
        hold(&self.failed).remove(key);
    }

    /// When a background load of `key` failed, if the last one did.
    pub(super) fn failed_at(&self, key: &[u8]) -> Option<Timestamp> {
        hold(&self.failed).get(key).copied()
    }
}

impl Ticket {
    /// Runs `store`, which stores a value with these tags, unless the key was written or removed, or one of the tags
    /// was cut, meanwhile.
    pub(super) fn store<T>(
        &mut self,
        tags: &[String],
        store: impl FnOnce() -> Result<T>,
    ) -> Result<Option<T>> {
        self.tags = tags.to_vec();
        let fence = hold(&self.flight.fence);
        let is_hit = fence.tags.iter().any(|tag| tags.contains(tag));
        if fence.is_outdated || is_hit { Ok(None) } else { store().map(Some) }
    }

    /// Tells everyone who waits.
    pub(super) fn land(mut self, landing: Landing) {
        self.landing = Some(landing);
    }

    /// Tells everyone who waits of what the cache had under these tags when the load began. If it may have been taken away
    /// before somebody came who waits, all of them ask again.
    pub(super) fn land_found(mut self, tags: &[String], landing: Landing) {
        self.tags = tags.to_vec();
        self.landing = Some(landing).filter(|_| !self.is_amid);
    }

    /// The load begins. If it is a part of another one, that one waits for it for as long as the guard lives.
    pub(super) fn take_off(&self) -> Option<Waiting> {
        // Never a circle: this one waits for nothing yet.
        Waiting::begin(self.flight.id).ok().flatten()
    }

    /// The loader runs on this thread, until the guard is dropped.
    pub(super) fn run(&self) -> Running {
        self.flight.id.run()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        {
            let mut by_key = hold(&self.flights.by_key);
            if by_key.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
                by_key.remove(&self.key);
            }
            self.flights.count.store(by_key.len(), Ordering::SeqCst);
        }
        // Order: after it is not to be found any more, so that who is told does not find it again, and so that every cut
        // that a waiting caller knew of is in the fence.
        let hit = hold(&self.flight.fence).tags.iter().position(|tag| self.tags.contains(tag));
        self.flight.end(self.landing.take(), hit);
    }
}

impl Flight {
    fn end(&self, landing: Option<Landing>, hit: Option<usize>) {
        let mut state = hold(&self.state);
        state.has_ended = true;
        state.landing = landing;
        state.hit = hit;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.ended.notify_all();
        wake_all(wakers.into_values());
    }
}

impl FlightState {
    fn landing(&self, cuts: usize) -> Option<Landing> {
        if self.hit.is_some_and(|hit| hit < cuts) { None } else { self.landing.clone() }
    }
}

impl Passage {
    /// Holds up this thread until the load ends, or for so long. `None` if it was abandoned: then ask again.
    ///
    /// # Errors
    /// [`Error::LoaderRecursion`] if the load waits for one that this thread runs; [`Error::Timeout`].
    pub(super) fn wait(&self, patience: Option<Duration>) -> Result<Option<Landing>> {
        let flight = &self.flight;
        let _waiting = Waiting::begin(flight.id)?;
        let state = hold(&flight.state);
        let pending = |state: &mut FlightState| !state.has_ended;
        let state = match patience {
            None => flight.ended.wait_while(state, pending).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                flight
                    .ended
                    .wait_timeout_while(state, patience, pending)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        if state.has_ended {
            return Ok(state.landing(self.cuts));
        }
        let ms =
            patience.map_or(0, |patience| u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        Err(Error::Timeout { what: "loading a value".to_owned(), ms })
    }

    /// As [`Self::wait`], for a task.
    pub(super) fn landed(self) -> Landed {
        Landed { passage: self, waiting: None, waker: None }
    }
}

/// A task waits for a load to end. Dropping it leaves nothing behind.
pub(super) struct Landed {
    passage: Passage,
    /// Once it has begun to wait: as a part of which load, if of one.
    waiting: Option<Option<Waiting>>,
    /// The number of its waker.
    waker: Option<u64>,
}

impl Future for Landed {
    type Output = Result<Option<Landing>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.waiting.is_none() {
            this.waiting = Some(Waiting::begin(this.passage.flight.id)?);
        }
        let mut state = hold(&this.passage.flight.state);
        if state.has_ended {
            return Poll::Ready(Ok(state.landing(this.passage.cuts)));
        }
        let number = *this.waker.get_or_insert(state.wakers_ever);
        state.wakers_ever = state.wakers_ever.max(number + 1);
        let replaced = state.wakers.insert(number, cx.waker().clone());
        drop(state);
        // With no lock held: it may own a task.
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Landed {
    fn drop(&mut self) {
        if let Some(number) = self.waker {
            let waker = hold(&self.passage.flight.state).wakers.remove(&number);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(flights: &Arc<Flights>, key: &[u8]) -> Ticket {
        match flights.board(key) {
            Boarding::Leader(ticket) => ticket,
            Boarding::Passenger(_) => panic!("there is a load of {key:?}"),
        }
    }

    /// Goal: who asks for a key whose load waits for a worker loads it, and the worker then does not; one that is
    /// dropped leaves nobody waiting.
    #[test]
    fn a_parked_load_is_taken_over() {
        let flights = Arc::new(Flights::default());
        let (_flight, parked) = flights.park(b"k");
        let parked = parked.unwrap();
        let ticket = leader(&flights, b"k");
        assert!(parked.take_off().is_none());
        drop(parked);
        assert!(flights.is_flying(b"k"));
        drop(ticket);
        assert!(!flights.is_flying(b"k"));
        let (flight, parked) = flights.park(b"k");
        drop(parked);
        assert!(!flights.is_flying(b"k"));
        assert!(matches!(flight.wait(None), Ok(None)), "abandoned: who waits asks again");
    }

    /// Goal: what is loaded while a write goes on is not stored, whichever of them began first.
    #[test]
    fn a_load_beside_a_write_is_not_stored() {
        let flights = Arc::new(Flights::default());
        let before = leader(&flights, b"k");
        let writing = flights.write(b"k");
        let beside = leader(&flights, b"k");
        drop(writing);
        for mut ticket in [before, beside] {
            assert!(matches!(ticket.store(&[], || Ok(())), Ok(None)));
        }
        assert!(matches!(leader(&flights, b"k").store(&[], || Ok(())), Ok(Some(()))));
    }

    /// Goal: what a load found that began amid a change is handed to nobody else, and what it fetched is; a removal of some
    /// entries lets it be stored, a write does not.
    #[test]
    fn a_load_that_began_amid_a_change() {
        let flights = Arc::new(Flights::default());
        let changes: [fn(&Flights) -> Writing<'_>; 4] = [
            |flights| flights.write(b"k"),
            Flights::write_all,
            Flights::remove_some,
            |flights| flights.cut_tag("t"),
        ];
        let value = || Landing::Value(Arc::new(7));
        for (at, change) in changes.into_iter().enumerate() {
            let changing = change(&flights);
            let mut amid = leader(&flights, b"k");
            let joined = passenger(&flights, b"k");
            drop(changing);
            let after = passenger(&flights, b"k");
            let is_stored = matches!(amid.store(&[], || Ok(())), Ok(Some(())));
            assert_eq!(is_stored, at >= 2, "change {at}");
            amid.land_found(&[], value());
            assert!(matches!((joined.wait(None), after.wait(None)), (Ok(None), Ok(None))));
            let changing = change(&flights);
            let amid = leader(&flights, b"k");
            drop(changing);
            let after = passenger(&flights, b"k");
            amid.land(value());
            assert!(matches!(after.wait(None), Ok(Some(Landing::Value(_)))), "change {at}");
        }
    }

    /// Goal: a cut of a tag keeps a value that a load found before it from callers that ask after it.
    #[test]
    fn what_is_found_is_fenced_by_its_tags() {
        let flights = Arc::new(Flights::default());
        let ticket = leader(&flights, b"k");
        let before = passenger(&flights, b"k");
        drop(flights.cut_tag("t"));
        let after = passenger(&flights, b"k");
        ticket.land_found(&["t".to_owned()], Landing::Value(Arc::new(7)));
        assert!(matches!(before.wait(None), Ok(Some(Landing::Value(_)))));
        assert!(matches!(after.wait(None), Ok(None)));
    }

    fn passenger(flights: &Arc<Flights>, key: &[u8]) -> Passage {
        match flights.board(key) {
            Boarding::Passenger(passage) => passage,
            Boarding::Leader(_) => panic!("there is no load of {key:?}"),
        }
    }

    /// Goal: a cut of a tag keeps values with this tag from being stored and from callers that ask after it, and no others.
    #[test]
    fn a_load_is_fenced_by_its_own_tags() {
        let flights = Arc::new(Flights::default());
        let (tags, failed) = (["a".to_owned()], || Landing::Panicked(String::new()));
        let mut ticket = leader(&flights, b"k");
        let before = passenger(&flights, b"k");
        drop(flights.cut_tag("b"));
        let between = passenger(&flights, b"k");
        assert!(matches!(ticket.store(&tags, || Ok(())), Ok(Some(()))));
        drop(flights.cut_tag("a"));
        let after = passenger(&flights, b"k");
        ticket.land(failed());
        for (passage, is_told) in [(before, true), (between, true), (after, false)] {
            assert_eq!(passage.wait(None).unwrap().is_some(), is_told);
        }
        let mut ticket = leader(&flights, b"k");
        drop(flights.cut_tag("a"));
        assert!(matches!(ticket.store(&tags, || Ok(())), Ok(None)));
        let mut ticket = leader(&flights, b"other");
        (0..=CUTS_MAX).for_each(|n| drop(flights.cut_tag(&n.to_string())));
        assert!(matches!(ticket.store(&[], || Ok(())), Ok(None)), "bounded");
        assert!(!flights.is_flying(b"other"));
    }
}
