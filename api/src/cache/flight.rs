//! One load at a time for each key, whoever asks: the others wait for its result.

use std::{
    any::Any,
    collections::HashMap,
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
    /// The thread that loads; none while it waits for a worker.
    leader: Mutex<Option<ThreadId>>,
    landing: Mutex<Option<Landing>>,
    landed: Condvar,
    /// Whether the key was written or removed after the load began: what it brings is old. Held while it is stored.
    outdated: Mutex<bool>,
}

/// The loads of one cache that are under way.
#[derive(Default)]
pub(super) struct Flights {
    by_key: Mutex<HashMap<Vec<u8>, Arc<Flight>>>,
    /// How many there are, to be asked without the lock.
    count: AtomicUsize,
    /// When a background load of a key failed last.
    failed: Mutex<HashMap<Vec<u8>, Timestamp>>,
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

/// Which thread waits for a load of which other one.
static WAITS: LazyLock<Mutex<HashMap<ThreadId, ThreadId>>> = LazyLock::new(Mutex::default);

impl Flights {
    pub(super) fn board(self: &Arc<Self>, key: &[u8]) -> Boarding {
        let mut by_key = hold(&self.by_key);
        if let Some(flight) = by_key.get(key) {
            return Boarding::Passenger(Arc::clone(flight));
        }
        let flight = Arc::new(Flight {
            leader: Mutex::default(),
            landing: Mutex::new(None),
            landed: Condvar::new(),
            outdated: Mutex::new(false),
        });
        by_key.insert(key.to_vec(), Arc::clone(&flight));
        self.count.store(by_key.len(), Ordering::SeqCst);
        Boarding::Leader(Ticket { flights: Arc::clone(self), key: key.to_vec(), flight })
    }

    pub(super) fn is_flying(&self, key: &[u8]) -> bool {
        self.count.load(Ordering::SeqCst) > 0 && hold(&self.by_key).contains_key(key)
    }

    /// The key is about to be written or removed. A load that is under way is not stored any more, and nobody joins it.
    /// Waits while its value is being stored: the write that is about to come is the later one.
    pub(super) fn outdate(&self, key: &[u8]) {
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

    /// As [`Self::outdate`], for every key.
    pub(super) fn outdate_all(&self) {
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

    /// For who has it carried out by another thread and waits.
    pub(super) fn flight(&self) -> Arc<Flight> {
        Arc::clone(&self.flight)
    }

    /// This thread loads.
    pub(super) fn take_off(&self) {
        *hold(&self.flight.leader) = Some(thread::current().id());
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
    /// The first landing counts.
    fn land(&self, landing: Landing) {
        hold(&self.landing).get_or_insert(landing);
        self.landed.notify_all();
    }

    /// Waits for the load to end, or for so long.
    ///
    /// # Errors
    /// [`Error::LoaderRecursion`] if the load waits for this thread; [`Error::Timeout`].
    pub(super) fn wait(&self, patience: Option<Duration>) -> Result<Landing> {
        let _waiting = Waiting::begin(*hold(&self.leader))?;
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
    fn begin(leader: Option<ThreadId>) -> Result<Self> {
        let me = thread::current().id();
        let mut waits = hold(&WAITS);
        let mut next = leader;
        while let Some(thread) = next {
            if thread == me {
                return Err(Error::LoaderRecursion);
            }
            next = waits.get(&thread).copied();
        }
        if let Some(leader) = leader {
            waits.insert(me, leader);
        }
        Ok(Self)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        hold(&WAITS).remove(&thread::current().id());
    }
}
