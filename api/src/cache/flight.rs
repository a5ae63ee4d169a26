//! One load at a time for each key, whoever asks, threads and tasks: the others wait for its result.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tierce_engine::Timestamp;

use super::waits::{LoadId, Running, Waiting};
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
    id: LoadId,
    state: Mutex<FlightState>,
    /// Wakes the threads that wait; tasks have their wakers.
    ended: Condvar,
    /// Whether the key was written or removed after the load began: what it brings is old. Held while it is stored.
    outdated: Mutex<bool>,
}

#[derive(Default)]
struct FlightState {
    has_ended: bool,
    /// How; none if it was abandoned.
    landing: Option<Landing>,
    /// Of the tasks that wait, by number.
    wakers: BTreeMap<u64, Waker>,
    wakers_ever: u64,
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

/// The right, and the duty, to load a key. If it is dropped before it lands, the load is abandoned: those who wait are
/// told, and the first of them loads.
pub(crate) struct Ticket {
    flights: Arc<Flights>,
    key: Vec<u8>,
    flight: Arc<Flight>,
}

/// Failures that are remembered at most (I12): more of them are forgotten together.
const FAILED_MAX: usize = 4096;

impl Flights {
    pub(super) fn board(self: &Arc<Self>, key: &[u8]) -> Boarding {
        let mut by_key = hold(&self.by_key);
        if let Some(flight) = by_key.get(key) {
            return Boarding::Passenger(Arc::clone(flight));
        }
        let flight = Arc::new(Flight {
            id: LoadId::new(),
            state: Mutex::default(),
            ended: Condvar::new(),
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
        self.flight.end(Some(landing));
    }

    /// For who has it carried out by another thread and waits.
    pub(super) fn flight(&self) -> Arc<Flight> {
        Arc::clone(&self.flight)
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
        // Order: after it is not to be found any more, so that who is told does not find it again.
        self.flight.end(None);
    }
}

impl Flight {
    /// The first end counts.
    fn end(&self, landing: Option<Landing>) {
        let mut state = hold(&self.state);
        if state.has_ended {
            return;
        }
        state.has_ended = true;
        state.landing = landing;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.ended.notify_all();
        wakers.into_values().for_each(Waker::wake);
    }

    /// Holds up this thread until the load ends, or for so long. `None` if it was abandoned: then ask again.
    ///
    /// # Errors
    /// [`Error::LoaderRecursion`] if the load waits for one that this thread runs; [`Error::Timeout`].
    pub(super) fn wait(&self, patience: Option<Duration>) -> Result<Option<Landing>> {
        let _waiting = Waiting::begin(self.id)?;
        let state = hold(&self.state);
        let pending = |state: &mut FlightState| !state.has_ended;
        let state = match patience {
            None => self.ended.wait_while(state, pending).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                self.ended
                    .wait_timeout_while(state, patience, pending)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        if state.has_ended {
            return Ok(state.landing.clone());
        }
        let ms =
            patience.map_or(0, |patience| u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        Err(Error::Timeout { what: "loading a value".to_owned(), ms })
    }

    /// As [`Self::wait`], for a task.
    pub(super) fn landed(self: Arc<Self>) -> Landed {
        Landed { flight: self, waiting: None, waker: None }
    }
}

/// A task waits for a load to end. Dropping it leaves nothing behind.
pub(super) struct Landed {
    flight: Arc<Flight>,
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
            this.waiting = Some(Waiting::begin(this.flight.id)?);
        }
        let mut state = hold(&this.flight.state);
        if state.has_ended {
            return Poll::Ready(Ok(state.landing.clone()));
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
            let waker = hold(&self.flight.state).wakers.remove(&number);
            drop(waker);
        }
    }
}
