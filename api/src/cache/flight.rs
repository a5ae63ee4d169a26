//! One load at a time for each key, whoever asks: the others wait for its result.

use std::{
    any::Any,
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use tierce_engine::Timestamp;

use crate::error::{Error, Result, Shared};

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
    /// The thread that loads; none while the load waits for a worker.
    leader: Mutex<Option<ThreadId>>,
    /// The ticket, while the load waits for a worker: whoever cannot wait so long takes it.
    parked: Mutex<Option<Ticket>>,
    landing: Mutex<Option<Landing>>,
    landed: Condvar,
    /// Whether the key was written or removed after the load began: what it brings is old. Held while it is stored.
    outdated: Mutex<bool>,
}

type ByKey = HashMap<Vec<u8>, Arc<Flight>>;

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
    hasher: RandomState,
}

/// Keys of one slot are taken for one: a load may then not be stored for another key's sake.
const SLOTS: usize = 32;

/// A write goes on. What is loaded from its beginning to its end is not stored: it might be older than the write.
#[must_use = "the write lasts as long as this"]
pub(super) struct Writing<'a>(&'a AtomicUsize);

impl<'a> Writing<'a> {
    fn begin(writes: &'a AtomicUsize) -> Self {
        writes.fetch_add(1, Ordering::SeqCst);
        Self(writes)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
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
    Passenger(Arc<Flight>),
}

/// The right, and the duty, to load a key. Whoever waits is told even if it is dropped.
pub(super) struct Ticket {
    flights: Arc<Flights>,
    key: Vec<u8>,
    flight: Arc<Flight>,
}

/// Failures that are remembered at most (I12): more of them are forgotten together.
const FAILED_MAX: usize = 4096;

/// Which thread waits for which load.
static WAITS: LazyLock<Mutex<HashMap<ThreadId, Arc<Flight>>>> = LazyLock::new(Mutex::default);

/// A load that waits for a worker. Whoever waits is told even if it is dropped.
pub(super) struct Parked(Arc<Flight>);

impl Parked {
    /// This thread loads; `None` if somebody else does by now.
    pub(super) fn take_off(&self) -> Option<Ticket> {
        self.0.take_parked()
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        // Order: taken out first. A ticket that is dropped takes locks under which this one is taken.
        let ticket = hold(&self.0.parked).take();
        drop(ticket);
    }
}

impl Flights {
    /// A load of `key` by this thread, unless there is one; one that still waits for a worker is taken over.
    pub(super) fn board(self: &Arc<Self>, key: &[u8]) -> Boarding {
        let mut by_key = hold(&self.by_key);
        if let Some(flight) = by_key.get(key) {
            return match flight.take_parked() {
                Some(ticket) => Boarding::Leader(ticket),
                None => Boarding::Passenger(Arc::clone(flight)),
            };
        }
        let ticket = self.ticket(&mut by_key, key);
        *hold(&ticket.flight.leader) = Some(thread::current().id());
        Boarding::Leader(ticket)
    }

    /// The load of `key`; if there was none, it is there now and waits for a worker.
    pub(super) fn park(self: &Arc<Self>, key: &[u8]) -> (Arc<Flight>, Option<Parked>) {
        let mut by_key = hold(&self.by_key);
        if let Some(flight) = by_key.get(key) {
            return (Arc::clone(flight), None);
        }
        let ticket = self.ticket(&mut by_key, key);
        let flight = Arc::clone(&ticket.flight);
        *hold(&flight.parked) = Some(ticket);
        (Arc::clone(&flight), Some(Parked(flight)))
    }

    fn ticket(self: &Arc<Self>, by_key: &mut ByKey, key: &[u8]) -> Ticket {
        let flight = Arc::new(Flight {
            leader: Mutex::default(),
            parked: Mutex::default(),
            landing: Mutex::new(None),
            landed: Condvar::new(),
            outdated: Mutex::new(false),
        });
        by_key.insert(key.to_vec(), Arc::clone(&flight));
        self.count.store(by_key.len(), Ordering::SeqCst);
        // Order: counted before it looks. A writer says so before it looks for loads, so one of the two sees the other.
        let writes = [self.writes_of(key), &self.writes_of_all];
        if writes.iter().any(|writes| writes.load(Ordering::SeqCst) > 0) {
            *hold(&flight.outdated) = true;
        }
        Ticket { flights: Arc::clone(self), key: key.to_vec(), flight }
    }

    fn writes_of(&self, key: &[u8]) -> &AtomicUsize {
        &self.writes[self.hasher.hash_one(key) as usize % SLOTS]
    }

    pub(super) fn is_flying(&self, key: &[u8]) -> bool {
        self.count.load(Ordering::SeqCst) > 0 && hold(&self.by_key).contains_key(key)
    }

    /// The key is about to be written or removed. A load that is under way is not stored any more, and nobody joins it;
    /// nor is one that begins before the write has ended. Waits while its value is being stored: the write that is about
    /// to come is the later one.
    pub(super) fn write(&self, key: &[u8]) -> Writing<'_> {
        let writing = Writing::begin(self.writes_of(key));
        self.outdate(key);
        writing
    }

    fn outdate(&self, key: &[u8]) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let flight = {
            let mut by_key = hold(&self.by_key);
            let flight = by_key.remove(key);
            self.count.store(by_key.len(), Ordering::SeqCst);
            flight
        };
        if let Some(flight) = flight {
            *hold(&flight.outdated) = true;
        }
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
        let flights = {
            let mut by_key = hold(&self.by_key);
            self.count.store(0, Ordering::SeqCst);
            std::mem::take(&mut *by_key)
        };
        for flight in flights.into_values() {
            *hold(&flight.outdated) = true;
        }
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
    /// Runs `store` unless the key was written or removed meanwhile.
    pub(super) fn store<T>(&self, store: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        let outdated = hold(&self.flight.outdated);
        if *outdated { Ok(None) } else { store().map(Some) }
    }

    /// Tells everyone who waits.
    pub(super) fn land(self, landing: Landing) {
        self.flight.land(landing);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.flight.land(Landing::Panicked("it did not end".to_owned()));
        let mut by_key = hold(&self.flights.by_key);
        if by_key.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            by_key.remove(&self.key);
        }
        self.flights.count.store(by_key.len(), Ordering::SeqCst);
    }
}

impl Flight {
    /// The ticket, if it waits for a worker; this thread loads then.
    fn take_parked(&self) -> Option<Ticket> {
        let mut parked = hold(&self.parked);
        let ticket = parked.take()?;
        *hold(&self.leader) = Some(thread::current().id());
        Some(ticket)
    }

    /// The first landing counts.
    fn land(&self, landing: Landing) {
        hold(&self.landing).get_or_insert(landing);
        self.landed.notify_all();
    }

    /// The thread that loads, if it still does.
    fn flying_leader(&self) -> Option<ThreadId> {
        let leader = *hold(&self.leader);
        leader.filter(|_| hold(&self.landing).is_none())
    }

    /// Waits for the load to end, or for so long.
    ///
    /// # Errors
    /// [`Error::LoaderRecursion`] if the load waits for this thread; [`Error::Timeout`].
    pub(super) fn wait(self: &Arc<Self>, patience: Option<Duration>) -> Result<Landing> {
        let _waiting = Waiting::begin(self)?;
        let landing = hold(&self.landing);
        let pending = |landing: &mut Option<Landing>| landing.is_none();
        let landing = match patience {
            None => {
                self.landed.wait_while(landing, pending).unwrap_or_else(PoisonError::into_inner)
            }
            Some(patience) => {
                self.landed
                    .wait_timeout_while(landing, patience, pending)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        landing.clone().ok_or_else(|| Error::Timeout {
            what: "loading a value".to_owned(),
            ms: patience
                .map_or(0, |patience| u64::try_from(patience.as_millis()).unwrap_or(u64::MAX)),
        })
    }
}

/// This thread waits for another one's load; on record, so that threads that wait for each other in a circle are found.
struct Waiting;

impl Waiting {
    fn begin(flight: &Arc<Flight>) -> Result<Self> {
        let me = thread::current().id();
        let mut waits = hold(&WAITS);
        // The last of a circle to begin to wait sees all of it: the others lead, and wait already. Who waits for a load
        // that has landed waits no more.
        let mut next = Some(flight);
        while let Some(leader) = next.and_then(|flight| flight.flying_leader()) {
            if leader == me {
                return Err(Error::LoaderRecursion);
            }
            next = waits.get(&leader);
        }
        waits.insert(me, Arc::clone(flight));
        Ok(Self)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        hold(&WAITS).remove(&thread::current().id());
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

    /// Goal: who has been told, and has not woken yet, does not count as waiting: a circle is none then.
    #[test]
    fn who_was_told_waits_no_more() {
        let flights = Arc::new(Flights::default());
        let b = leader(&flights, b"b");
        let loads_b = Arc::clone(&b.flight);
        // It loads a, for which it asks for b; it is told, and sleeps on.
        let (asks, asked) = std::sync::mpsc::channel();
        let wake = std::sync::Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                let a = leader(&flights, b"a");
                let _waiting = Waiting::begin(&loads_b).unwrap();
                asks.send(Arc::clone(&a.flight)).unwrap();
                wake.wait();
            });
            let loads_a = asked.recv().unwrap();
            assert!(matches!(Waiting::begin(&loads_a), Err(Error::LoaderRecursion)));
            b.land(Landing::Panicked(String::new()));
            assert!(Waiting::begin(&loads_a).is_ok());
            wake.wait();
        });
    }

    /// Goal: a circle is found even if a load in it still had no thread when somebody began to wait for it.
    #[test]
    fn a_circle_through_a_load_without_a_thread_is_found() {
        let flights = Arc::new(Flights::default());
        let (queued, parked) = flights.park(b"queued");
        let mine = leader(&flights, b"mine");
        let _waiting = Waiting::begin(&queued).unwrap();
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let _ticket = parked.as_ref().and_then(Parked::take_off).unwrap();
                Waiting::begin(&mine.flight).map(drop)
            });
            assert!(matches!(worker.join().unwrap(), Err(Error::LoaderRecursion)));
        });
    }

    /// Goal: who asks for a key whose load waits for a worker loads it, and the worker then does not; one that is dropped
    /// leaves nobody waiting.
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
        assert!(matches!(flight.wait(None), Ok(Landing::Panicked(_))));
    }
}
