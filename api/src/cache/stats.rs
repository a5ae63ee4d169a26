//! What a cache counts.

use std::path::PathBuf;

use super::{Cache, record::weight_of};
use crate::{
    codec::Codec,
    error::Result,
    key::OwnedKey,
    sync::atomic::{AtomicU64, Ordering},
};

/// A number that many threads add to. Loses nothing; tells no order.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, more: u64) {
        if more > 0 {
            self.0.fetch_add(more, Ordering::Relaxed);
        }
    }

    fn read(&self, reset: bool) -> u64 {
        if reset { self.0.swap(0, Ordering::Relaxed) } else { self.0.load(Ordering::Relaxed) }
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// Counted since the store was opened, or since the last reset.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Count,)*
        }

        impl Counters {
            fn read(&self, reset: bool, into: CacheStats) -> CacheStats {
                CacheStats { $($name: self.$name.read(reset),)* ..into }
            }
        }

        /// What is in a cache, and what was done with it since the store was opened, or since the last reset.
        ///
        /// What was evicted and what expired is counted for the whole store: see `Engine::stats`, and
        /// `Engine::evictions` for the last of them one by one.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct CacheStats {
            /// Fresh entries now.
            pub entries: u64,
            /// Bytes of their records in the log.
            pub bytes: u64,
            /// What they weigh: see [`Put::weight`](super::Put::weight).
            pub weight: u64,
            /// The directory of the store; `None` if it is a remote one.
            pub directory: Option<PathBuf>,
            /// Why a value that was loaded could not be stored, the last time this happened.
            pub unstored_because: Option<String>,
            $($(#[doc = $doc])+ pub $name: u64,)*
        }
    };
}
counters! {
    /// Gets that found a fresh value.
    hits,
    /// Gets that found none.
    misses,
    /// Values stored.
    inserts,
    /// Entries removed by key.
    removed,
    /// Entries removed by tag, pattern, predicate or with all others, as far as they were counted.
    invalidated,
    /// Entries removed to stay under [`Cache::set_max_weight`].
    outweighed,
    /// Entries found whose value could not be decoded; each is a miss, too.
    undecodable,
    /// Loads that brought a value.
    loads,
    /// Loads that failed.
    load_failures,
    /// Stale values served while a fresh one was loaded, or because loading failed.
    stale_served,
    /// Values that were loaded and served but could not be stored, so that the next caller loads again:
    /// [`CacheStats::unstored_because`] has the last reason.
    unstored,
}

impl Counters {
    #[inline]
    pub(super) fn count(&self, is_hit: bool) {
        if is_hit { &self.hits } else { &self.misses }.add(1);
    }
}

impl CacheStats {
    /// Hits of all gets, 0 to 1; 0 if there were none.
    ///
    /// ```
    /// let cache = tierce::Store::in_memory()?.cache::<u8, u8>("c")?;
    /// cache.insert(&1, &1)?;
    /// let _ = (cache.get(&1)?, cache.get(&2)?);
    /// assert_eq!(cache.stats()?.hit_ratio(), 0.5);
    /// # Ok::<(), tierce::Error>(())
    /// ```
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        let gets = self.hits + self.misses;
        if gets == 0 { 0.0 } else { self.hits as f64 / gets as f64 }
    }
}

impl<K: OwnedKey, V, C: Codec<V>> Cache<K, V, C> {
    /// What is in the cache and was done with it. Counts entries by reading the head of every entry of the store.
    ///
    /// # Errors
    /// The engine's.
    pub fn stats(&self) -> Result<CacheStats> {
        self.read_stats(false)
    }

    /// As [`Self::stats`], and sets what is counted back to zero.
    ///
    /// # Errors
    /// The engine's; then nothing is set back.
    pub fn reset_stats(&self) -> Result<CacheStats> {
        self.read_stats(true)
    }

    fn read_stats(&self, reset: bool) -> Result<CacheStats> {
        let mut stats = CacheStats::default();
        self.scan(false, &mut |_, view| {
            stats.entries += 1;
            stats.bytes += view.record_bytes;
            stats.weight = stats.weight.saturating_add(weight_of(&view));
            std::ops::ControlFlow::Continue(())
        })?;
        stats.unstored_because = self.shared.unstored_because();
        stats.directory = self.store().engine().map(|engine| engine.path().to_owned());
        Ok(self.shared.counters.read(reset, stats))
    }
}
