//! What is to be done when: a heap of moments. Pure: it is told the time, starts nothing and runs nothing.
//!
//! A job may own what ends a timer (a handle, a whole coordinator), so whatever is taken out is handed to the caller,
//! who drops or runs it after letting go of his lock.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    fmt,
    sync::Arc,
};

use crate::sync::atomic::{AtomicBool, Ordering};

/// Work that is done once.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Names one entry of a schedule; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EntryId(u64);

/// Jobs and the moments when they are due, in milliseconds of whatever clock the caller has.
#[derive(Default)]
pub(crate) struct Schedule {
    /// May hold moments of entries that were cancelled; `entries` decides.
    heap: BinaryHeap<Reverse<(u64, EntryId)>>,
    entries: HashMap<EntryId, Entry>,
    ids: u64,
}

/// A job that waits, or waited.
pub(crate) struct Entry {
    job: Job,
    /// Off once the entry is cancelled: a run that was already handed out then does nothing.
    live: Arc<AtomicBool>,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Schedule {
    /// `job` is due at `due_ms`.
    pub(crate) fn once(&mut self, due_ms: u64, job: Job) -> EntryId {
        self.ids += 1;
        let id = EntryId(self.ids);
        self.entries.insert(id, Entry { job, live: Arc::new(AtomicBool::new(true)) });
        self.heap.push(Reverse((due_ms, id)));
        id
    }

    /// What an entry is told by: it is off once the entry is cancelled.
    pub(crate) fn live(&self, id: EntryId) -> Option<Arc<AtomicBool>> {
        Some(Arc::clone(&self.entries.get(&id)?.live))
    }

    /// Takes an entry out. To be dropped without a lock.
    #[must_use]
    pub(crate) fn cancel(&mut self, id: EntryId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        entry.live.store(false, Ordering::Release);
        // Cancelled moments never outnumber the others by much.
        if self.heap.len() > 2 * self.entries.len() + 16 {
            let entries = &self.entries;
            self.heap.retain(|Reverse((_, id))| entries.contains_key(id));
        }
        Some(entry)
    }

    /// Takes everything out. To be dropped without a lock.
    #[must_use]
    pub(crate) fn clear(&mut self) -> Vec<Entry> {
        self.heap.clear();
        let entries: Vec<_> = self.entries.drain().map(|(_, entry)| entry).collect();
        for entry in &entries {
            entry.live.store(false, Ordering::Release);
        }
        entries
    }

    /// When the next job is due.
    pub(crate) fn next_due_ms(&mut self) -> Option<u64> {
        while let Some(Reverse((due_ms, id))) = self.heap.peek() {
            if self.entries.contains_key(id) {
                return Some(*due_ms);
            }
            self.heap.pop();
        }
        None
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The jobs that are due at `now_ms`, the earliest first; those of one moment in the order they were made.
    #[must_use]
    pub(crate) fn due(&mut self, now_ms: u64) -> Vec<Job> {
        let mut jobs = Vec::new();
        while self.next_due_ms().is_some_and(|due_ms| due_ms <= now_ms)
            && let Some(Reverse((_, id))) = self.heap.pop()
        {
            if let Some(Entry { job, live }) = self.entries.remove(&id) {
                jobs.push(once(job, live));
            }
        }
        jobs
    }
}

fn once(job: Job, live: Arc<AtomicBool>) -> Job {
    Box::new(move || {
        if live.load(Ordering::Acquire) {
            job();
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<&'static str>>>);

    impl Log {
        fn job(&self, name: &'static str) -> Job {
            let log = self.clone();
            Box::new(move || log.0.lock().unwrap().push(name))
        }

        fn run(&self, jobs: Vec<Job>) -> Vec<&'static str> {
            jobs.into_iter().for_each(|job| job());
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    /// Goal: jobs come when they are due, in order of their moments, each once.
    #[test]
    fn due_jobs_come_in_order_and_once() {
        let (log, mut schedule) = (Log::default(), Schedule::default());
        schedule.once(20, log.job("b"));
        schedule.once(10, log.job("a"));
        schedule.once(20, log.job("c"));
        assert_eq!(schedule.next_due_ms(), Some(10));
        assert!(log.run(schedule.due(9)).is_empty());
        assert_eq!(log.run(schedule.due(20)), ["a", "b", "c"]);
        assert!(log.run(schedule.due(u64::MAX)).is_empty());
        assert!(schedule.is_empty() && schedule.next_due_ms().is_none());
    }

    /// Goal: a cancelled job does not run, not even one that was handed out before.
    #[test]
    fn cancelled_jobs_do_not_run() {
        let (log, mut schedule) = (Log::default(), Schedule::default());
        let id = schedule.once(10, log.job("a"));
        assert!(schedule.cancel(id).is_some() && schedule.cancel(id).is_none());
        assert_eq!(schedule.next_due_ms(), None);
        let id = schedule.once(10, log.job("b"));
        let live = schedule.live(id).unwrap();
        let handed_out = schedule.due(10);
        live.store(false, Ordering::Release);
        assert!(log.run(handed_out).is_empty());
    }

    /// Goal: making and cancelling timers for ever holds no memory for those that are gone.
    #[test]
    fn cancelled_moments_do_not_pile_up() {
        let mut schedule = Schedule::default();
        for due_ms in 0..1_000 {
            let id = schedule.once(1_000 + due_ms, Box::new(|| {}));
            drop(schedule.cancel(id));
        }
        assert!(schedule.heap.len() < 32);
    }
}
