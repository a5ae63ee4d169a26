//! Counters, and a snapshot of them. Nothing here decides anything.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Live counters of one open store.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter,)* }

        /// What happened since the store was opened, and what it holds now.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
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
                Stats { $($name: self.$name.get(),)* ..Stats::default() }
            }
        }
    };
}

counters! {
    /// Puts acknowledged.
    puts,
    /// Deletes acknowledged that removed something.
    deletes,
    /// Reads of a key that was there.
    hits,
    /// Reads of a key that was not.
    misses,
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
}

/// One number that many threads add to.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
