//! The crate's threads, all of them: a few workers and one timer. Nothing else starts a thread.
//!
//! A thread knows the queue it serves and never the handle: when the last handle is dropped, the queue is closed and
//! the threads end by themselves. Dropping never waits; `close` does. Jobs are run and dropped with no lock held.

#[path = "pool_all.rs"]
mod all;

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    task::Waker,
    time::Duration,
};

use tierce_engine::io::Clock;
#[cfg(test)]
use tierce_engine::io::OsClock;

use crate::{
    error::{Error, Result},
    room::{PlaceId, Room},
    schedule::{EntryId, Schedule},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        thread::{self, JoinHandle},
    },
    waits::wake_all,
};

use all::All;

pub(crate) use crate::schedule::Job;

/// Workers of a pool that did not ask for another number.
const WORKERS: usize = 4;
/// Between two attempts to start a thread that the system refused.
const RETRY: Duration = Duration::from_millis(100);

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a job. Its panic has been reported by the panic hook, and ends here: the thread is needed for others.
fn run(job: Job) {
    let _ = catch_unwind(AssertUnwindSafe(job));
}

/// A few threads, started when they are first needed, and a bounded queue before them. Clones are the same pool.
#[derive(Clone)]
pub(crate) struct Pool(Arc<PoolOwner>);

/// Closes the queue when the last handle is gone. The threads have no part in it.
struct PoolOwner(Arc<PoolCore>);

struct PoolCore {
    workers_max: usize,
    queue_max: usize,
    idle: Duration,
    state: Mutex<PoolState>,
    /// A job came, or the pool is closed.
    wake: Condvar,
    /// A worker ended.
    ended: Condvar,
}

#[derive(Default)]
struct PoolState {
    queue: VecDeque<Job>,
    /// Futures that wait for room in it.
    room: Room,
    /// Workers that exist.
    workers: usize,
    /// Workers that wait for a job.
    idle: usize,
    /// All that were started and not yet joined.
    threads: Vec<JoinHandle<()>>,
    started: u64,
    closed: bool,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = hold(&self.0.0.state);
        f.debug_struct("Pool")
            .field("workers", &state.workers)
            .field("queued", &state.queue.len())
            .field("closed", &state.closed)
            .finish_non_exhaustive()
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for PoolOwner {
    fn drop(&mut self) {
        drop(self.0.shut());
    }
}

impl Pool {
    /// Jobs that may wait for a worker.
    pub(crate) const QUEUE: usize = 1024;
    /// A thread that had nothing to do for so long ends; it is started again when needed.
    pub(crate) const IDLE: Duration = Duration::from_secs(5);

    /// A pool of up to four workers.
    pub(crate) fn new() -> Self {
        Self::with_limits(WORKERS, Self::QUEUE, Self::IDLE)
    }

    /// A pool without threads: jobs wait until [`Self::run_pending`]. For tests.
    pub(crate) fn manual() -> Self {
        Self::with_limits(0, usize::MAX, Self::IDLE)
    }

    /// A pool of up to `workers_max` workers (0: see [`Self::manual`]), before which `queue_max` jobs may wait.
    pub(crate) fn with_limits(workers_max: usize, queue_max: usize, idle: Duration) -> Self {
        let state = Mutex::default();
        let core = PoolCore {
            workers_max,
            queue_max,
            idle,
            state,
            wake: Condvar::new(),
            ended: Condvar::new(),
        };
        Self(Arc::new(PoolOwner(Arc::new(core))))
    }

    pub(crate) fn is_manual(&self) -> bool {
        self.0.0.workers_max == 0
    }

    /// Has a worker run `job`. When the queue is full the caller runs it, before this returns: nothing is lost, and who
    /// makes too much work pays for it. So call it with no lock held.
    ///
    /// # Errors
    /// [`Error::Closed`]; the job was dropped.
    pub(crate) fn spawn(&self, job: Job) -> Result<()> {
        match self.0.0.push(job, self.0.0.queue_max) {
            Pushed::Queued => Ok(()),
            Pushed::Full(job) => {
                run(job);
                Ok(())
            }
            Pushed::Closed(_job) => Err(Error::Closed("the pool of threads")),
        }
    }

    /// As [`Self::spawn`], but a job for which there is no room is dropped. Says whether it was taken.
    pub(crate) fn try_spawn(&self, job: Job) -> bool {
        matches!(self.0.0.push(job, self.0.0.queue_max), Pushed::Queued)
    }

    /// As [`Self::spawn`] for a future, which must not hold up its thread: when the queue is full, `waker` is told when
    /// to offer the job again. `place` is the place in that line; who goes away before calls [`Self::leave`]. If the
    /// system gives no thread at all, the caller runs the job.
    pub(crate) fn offer(&self, job: Job, place: &mut Option<PlaceId>, waker: &Waker) -> Offered {
        let core = &self.0.0;
        let mut state = hold(&core.state);
        if state.closed {
            return Offered::Closed;
        }
        let queued = state.queue.len();
        if let Err(replaced) = state.room.claim(place, waker, queued, core.queue_max) {
            drop(state);
            drop(replaced);
            return Offered::Waits(job);
        }
        if let Pushed::Full(job) = core.enqueue(state, job) {
            run(job);
        }
        Offered::Taken
    }

    /// Who held `place` does not offer its job again.
    pub(crate) fn leave(&self, place: PlaceId) {
        let core = &self.0.0;
        let mut state = hold(&core.state);
        let queued = state.queue.len();
        let left = state.room.leave(place, queued, core.queue_max);
        drop(state);
        drop(left.own);
        wake_all(left.next);
    }

    /// Runs all jobs, on this thread and on workers that are free, and returns when all have ended. Waits for no job
    /// that has not begun, so it may be called from a job.
    pub(crate) fn run_all(&self, jobs: Vec<Job>) {
        let helpers = jobs.len().saturating_sub(1).min(self.0.0.workers_max);
        let shared = Arc::new(All { left: Mutex::new((jobs.into(), 0)), ended: Condvar::new() });
        for _ in 0..helpers {
            let shared = Arc::clone(&shared);
            self.try_spawn(Box::new(move || shared.help()));
        }
        shared.help();
        let mut left = hold(&shared.left);
        while left.1 > 0 {
            left = shared.ended.wait(left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Runs what waits in a manual pool, and what that makes, on this thread; says how many jobs that were.
    pub(crate) fn run_pending(&self) -> usize {
        let mut count = 0;
        while let Some(job) = self.0.0.take_now() {
            run(job);
            count += 1;
        }
        count
    }

    /// Drops the jobs that wait, lets those that run come to their end, and waits for the threads; not if one of them
    /// is who calls: then they end when it does.
    pub(crate) fn close(&self) {
        let core = &self.0.0;
        drop(core.shut());
        let mut state = hold(&core.state);
        let me = thread::current().id();
        if state.threads.iter().any(|thread| thread.thread().id() == me) {
            return;
        }
        while state.workers > 0 {
            state = core.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let threads = std::mem::take(&mut state.threads);
        drop(state);
        for thread in threads {
            let _ = thread.join();
        }
    }
}

/// What became of a job that was offered.
pub(crate) enum Offered {
    Taken,
    /// To be offered again.
    Waits(Job),
    /// The pool is closed; the job was dropped.
    Closed,
}

enum Pushed {
    Queued,
    Full(Job),
    Closed(Job),
}

impl PoolCore {
    /// Nothing is taken from now on. What waited is to be dropped without a lock.
    fn shut(&self) -> VecDeque<Job> {
        let mut state = hold(&self.state);
        state.closed = true;
        let jobs = std::mem::take(&mut state.queue);
        let wakers = state.room.close();
        drop(state);
        self.wake.notify_all();
        wake_all(wakers);
        jobs
    }

    fn push(self: &Arc<Self>, job: Job, queue_max: usize) -> Pushed {
        let state = hold(&self.state);
        if state.closed {
            return Pushed::Closed(job);
        }
        if state.queue.len().saturating_add(state.room.granted()) >= queue_max {
            return Pushed::Full(job);
        }
        self.enqueue(state, job)
    }

    fn enqueue(self: &Arc<Self>, mut state: MutexGuard<'_, PoolState>, job: Job) -> Pushed {
        if state.queue.len() >= state.idle
            && state.workers < self.workers_max
            && !self.start(&mut state)
            && state.workers == 0
        {
            // The system gives no thread at all.
            return Pushed::Full(job);
        }
        state.queue.push_back(job);
        drop(state);
        self.wake.notify_one();
        Pushed::Queued
    }

    fn start(self: &Arc<Self>, state: &mut PoolState) -> bool {
        state.threads.retain(|thread| !thread.is_finished());
        let core = Arc::clone(self);
        let name = format!("tierce-{}", state.started + 1);
        let Ok(thread) = thread::Builder::new().name(name).spawn(move || core.work()) else {
            return false;
        };
        state.started += 1;
        state.workers += 1;
        state.threads.push(thread);
        true
    }

    fn take_now(&self) -> Option<Job> {
        self.take(hold(&self.state))
    }

    /// The next job; there is room for another one then.
    fn take(&self, mut state: MutexGuard<'_, PoolState>) -> Option<Job> {
        let job = state.queue.pop_front()?;
        let queued = state.queue.len();
        let waker = state.room.grant(queued, self.queue_max);
        drop(state);
        if let Some(waker) = waker {
            // As a job: some wakers run what they wake, and that may panic.
            run(Box::new(move || waker.wake()));
        }
        Some(job)
    }

    /// The life of a worker.
    fn work(&self) {
        let mut state = hold(&self.state);
        loop {
            if !state.queue.is_empty() {
                self.take(state).into_iter().for_each(run);
                state = hold(&self.state);
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let (guard, waited) =
                self.wake.wait_timeout(state, self.idle).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                break;
            }
        }
        // Under the lock under which jobs are queued: who queues the next one sees that a worker is missing.
        state.workers -= 1;
        drop(state);
        self.ended.notify_all();
    }
}

/// Has jobs run on a [`Pool`] at moments of a monotonic clock. One thread, started when first needed. Clones are the
/// same timer. On a manual pool there is no thread: a test moves its clock and calls [`Timer::tick`].
#[derive(Clone)]
pub(crate) struct Timer(Arc<TimerOwner>);

struct TimerOwner(Arc<TimerCore>);

struct TimerCore {
    clock: Arc<dyn Clock>,
    pool: Pool,
    state: Mutex<TimerState>,
    /// The next moment may be another, or the timer is closed.
    wake: Condvar,
}

#[derive(Default)]
struct TimerState {
    schedule: Schedule,
    /// Whether the thread is there and will look at the schedule again.
    runs: bool,
    /// Whether a worker is going to start it.
    retries: bool,
    /// Threads that the system refuses.
    #[cfg(test)]
    refused: u32,
    thread: Option<JoinHandle<()>>,
    closed: bool,
}

/// A job that waits. Dropping this cancels it: it does not begin any more; one that runs comes to its end.
#[must_use = "dropping the handle cancels the job"]
pub(crate) struct TimerHandle {
    timer: Weak<TimerCore>,
    id: EntryId,
    live: Arc<AtomicBool>,
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("state", &hold(&self.0.0.state).schedule).finish()
    }
}

impl fmt::Debug for TimerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerHandle").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for TimerHandle {
    fn drop(&mut self) {
        // First: a job that is already on its way to a worker looks at this.
        self.live.store(false, Ordering::Release);
        if let Some(timer) = self.timer.upgrade() {
            let entry = hold(&timer.state).schedule.cancel(self.id);
            drop(entry);
        }
    }
}

impl Drop for TimerOwner {
    fn drop(&mut self) {
        self.0.shut();
    }
}

impl Timer {
    /// A timer by the machine's clock.
    #[cfg(test)]
    pub(crate) fn new(pool: &Pool) -> Self {
        Self::with_clock(pool, Arc::new(OsClock))
    }

    /// A timer by `clock`, of which only the monotonic time is used. With a thread, it must go as fast as time does.
    pub(crate) fn with_clock(pool: &Pool, clock: Arc<dyn Clock>) -> Self {
        let state = Mutex::default();
        let core = TimerCore { clock, pool: pool.clone(), state, wake: Condvar::new() };
        Self(Arc::new(TimerOwner(Arc::new(core))))
    }

    /// Has `job` run once after `delay`; at once, but on the pool, if that is zero. Never, if the timer is closed.
    pub(crate) fn after(&self, delay: Duration, job: Job) -> TimerHandle {
        self.0.0.add(delay, |schedule, now_ms, delay_ms| {
            schedule.once(now_ms.saturating_add(delay_ms), job)
        })
    }

    /// With a manual pool: runs on this thread what is due, what waits in the pool, and what comes of it; says how many
    /// jobs that were. Without effect otherwise.
    pub(crate) fn tick(&self) -> usize {
        let core = &self.0.0;
        if !core.pool.is_manual() {
            return 0;
        }
        let mut count = 0;
        loop {
            let now_ms = core.clock.monotonic_ms();
            let due = hold(&core.state).schedule.due(now_ms);
            count += due.len();
            let was_due = !due.is_empty();
            due.into_iter().for_each(run);
            let ran = core.pool.run_pending();
            count += ran;
            if !was_due && ran == 0 {
                return count;
            }
        }
    }

    /// How many jobs wait.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        hold(&self.0.0.state).schedule.is_empty()
    }

    /// Cancels everything and waits for the thread, unless that is who calls. Does not close the pool.
    pub(crate) fn close(&self) {
        let core = &self.0.0;
        core.shut();
        let thread = hold(&core.state).thread.take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl TimerCore {
    fn add(
        self: &Arc<Self>,
        delay: Duration,
        add: impl FnOnce(&mut Schedule, u64, u64) -> EntryId,
    ) -> TimerHandle {
        // A part of a millisecond counts as a whole one: never early.
        let delay_ms = u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let now_ms = self.clock.monotonic_ms();
        let mut state = hold(&self.state);
        let id = add(&mut state.schedule, now_ms, delay_ms);
        let live = state.schedule.live(id).unwrap_or_default();
        let cancelled = if state.closed { state.schedule.cancel(id) } else { None };
        self.start(&mut state);
        drop(state);
        drop(cancelled);
        // All: beside the thread a worker may wait, see `retry`.
        self.wake.notify_all();
        TimerHandle { timer: Arc::downgrade(self), id, live }
    }

    /// If the system gives no thread now, the next job that is added tries again, and a worker does meanwhile.
    fn start(self: &Arc<Self>, state: &mut TimerState) {
        if state.runs || state.closed || self.pool.is_manual() {
            return;
        }
        let core = Arc::clone(self);
        let builder = thread::Builder::new().name("tierce-timer".to_owned());
        #[cfg(test)]
        if let Some(refused) = state.refused.checked_sub(1) {
            state.refused = refused;
            return self.retry(state);
        }
        state.thread = builder.spawn(move || core.work()).ok();
        state.runs = state.thread.is_some();
        if !state.runs {
            self.retry(state);
        }
    }

    /// Has a worker start the thread a little later, if there is one. Order of locks: the timer's, then the pool's.
    fn retry(self: &Arc<Self>, state: &mut TimerState) {
        if state.retries {
            return;
        }
        let weak = Arc::downgrade(self);
        let job: Job = Box::new(move || {
            let Some(core) = weak.upgrade() else { return };
            let state = hold(&core.state);
            let waited = core.wake.wait_timeout(state, RETRY);
            let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            state.retries = false;
            core.start(&mut state);
        });
        state.retries = matches!(self.pool.0.0.push(job, usize::MAX), Pushed::Queued);
    }

    fn shut(&self) {
        let mut state = hold(&self.state);
        state.closed = true;
        let entries = state.schedule.clear();
        drop(state);
        self.wake.notify_all();
        drop(entries);
    }

    /// The life of the thread.
    fn work(&self) {
        let mut state = hold(&self.state);
        while !state.closed {
            let now_ms = self.clock.monotonic_ms();
            let due = state.schedule.due(now_ms);
            if !due.is_empty() {
                drop(state);
                // Beyond the bound of the queue: each of them was in memory before, and this thread must not be held
                // up.
                for job in due {
                    match self.pool.0.0.push(job, usize::MAX) {
                        Pushed::Full(job) => run(job),
                        Pushed::Queued | Pushed::Closed(_) => {}
                    }
                }
                state = hold(&self.state);
                continue;
            }
            let next = state.schedule.next_due_ms();
            let pause = next.map_or(Pool::IDLE, |due_ms| Duration::from_millis(due_ms - now_ms));
            let (guard, waited) =
                self.wake.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if waited.timed_out() && state.schedule.is_empty() {
                break;
            }
        }
        state.runs = false;
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
