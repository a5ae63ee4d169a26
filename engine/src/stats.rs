//! Counters, and a snapshot of them. Nothing here decides anything.

use crate::sync::{
    atomic::{AtomicU64, Ordering},
    thread_number,
};

/// How many copies a thing has that every thread touches all the time.
pub(crate) const STRIPES: usize = 16;

/// This thread's copy: threads take them in turn, so that they do not pull one cache line back and forth.
#[inline]
pub(crate) fn stripe() -> usize {
    thread_number() % STRIPES
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Live counters of one open store.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { pub(crate) reads: ReadCounters, $(pub(crate) $name: Counter,)* }

        /// What happened since the store was opened, and what it holds now.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Reads of a key that was there.
            pub hits: u64,
            /// Reads of a key that was not.
            pub misses: u64,
            /// Entries in the index. May still count entries that have expired or whose scope was cut.
            pub entries: u64,
            /// Bytes of the records that those entries point to.
            pub live_bytes: u64,
            /// Bytes of all segments.
            pub segment_bytes: u64,
            /// Count of segments.
            pub segments: u64,
            /// Bytes of memory in the index.
            pub index_bytes: u64,
            /// Bytes of memory in the images of unsealed segments.
            pub image_bytes: u64,
            /// Writes staged by [`Durability::Periodic`](crate::Durability::Periodic).
            pub staged: u64,
            /// The newest record's sequence number.
            pub sequence: u64,
            /// The newest sequence number that a device sync covers.
            pub durable_sequence: u64,
        }

        impl Counters {
            /// The counters as they are now; the other fields are zero.
            pub(crate) fn snapshot(&self) -> Stats {
                let (hits, misses) = self.reads.sum();
                Stats { hits, misses, $($name: self.$name.get(),)* ..Stats::default() }
            }
        }
    };
}

counters! {
    /// Puts acknowledged.
    puts,
    /// Deletes acknowledged that removed something.
    deletes,
    /// Write calls to segment files.
    writes,
    /// Bytes written to segment files.
    written_bytes,
    /// Device syncs of segment files.
    syncs,
    /// Writes acknowledged per group, summed: divide by `groups`.
    grouped,
    /// Turns at the log.
    groups,
    /// Segments sealed.
    sealed,
    /// Reads that found their segment gone and looked again.
    retries,
    /// Compaction jobs that were carried out.
    compactions,
    /// Records that compaction wrote.
    compacted_records,
    /// Bytes that compaction wrote to segment files, headers and footers included.
    compacted_bytes,
    /// Bytes of files that compaction removed.
    reclaimed_bytes,
    /// Compaction jobs that failed; the files they read stay.
    compaction_failures,
    /// Live entries evicted to stay under a limit.
    evicted,
    /// Expired entries removed.
    expired,
    /// Entries of cut scopes removed.
    cut,
    /// Writes refused for want of room.
    refused,
}

/// One number that many threads add to.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// As [`Self::add`], for counters that only the holder of one lock changes: no need to lock the cache line too.
    #[inline]
    pub(crate) fn add_alone(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Hits and misses, counted apart by each stripe of threads.
#[derive(Debug, Default)]
pub(crate) struct ReadCounters([ReadStripe; STRIPES]);

#[repr(align(128))]
#[derive(Debug, Default)]
struct ReadStripe {
    hits: Counter,
    misses: Counter,
}

impl ReadCounters {
    #[inline]
    pub(crate) fn count(&self, is_hit: bool) {
        let stripe = &self.0[stripe()];
        if is_hit { stripe.hits.add(1) } else { stripe.misses.add(1) }
    }

    fn sum(&self) -> (u64, u64) {
        let hits = self.0.iter().map(|stripe| stripe.hits.get()).sum();
        let misses = self.0.iter().map(|stripe| stripe.misses.get()).sum();
        (hits, misses)
    }
}

/// What the live entries come to, in weights. Changed under the writer's turn only.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    entries: Counter,
    bytes: Counter,
    evictable_entries: Counter,
    evictable_bytes: Counter,
}

/// A tally at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tallied {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) evictable_entries: u64,
    pub(crate) evictable_bytes: u64,
}

impl Counter {
    fn sub_alone(&self, count: u64) {
        self.0.store(self.get().saturating_sub(count), Ordering::Relaxed);
    }
}

impl Tally {
    /// An entry came.
    pub(crate) fn add(&self, weight: u64, is_evictable: bool) {
        self.entries.add_alone(1);
        self.bytes.add_alone(weight);
        if is_evictable {
            self.evictable_entries.add_alone(1);
            self.evictable_bytes.add_alone(weight);
        }
    }

    /// An entry went.
    pub(crate) fn sub(&self, weight: u64, is_evictable: bool) {
        self.entries.sub_alone(1);
        self.bytes.sub_alone(weight);
        if is_evictable {
            self.evictable_entries.sub_alone(1);
            self.evictable_bytes.sub_alone(weight);
        }
    }

    pub(crate) fn get(&self) -> Tallied {
        Tallied {
            entries: self.entries.get(),
            bytes: self.bytes.get(),
            evictable_entries: self.evictable_entries.get(),
            evictable_bytes: self.evictable_bytes.get(),
        }
    }
}
