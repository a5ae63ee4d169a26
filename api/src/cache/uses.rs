//! Who uses which entry, counted in memory: nothing is written for a read, and nothing is kept over a restart.

use std::collections::HashMap;

use tierce_engine::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use super::Cache;
use crate::{
    codec::Codec,
    key::OwnedKey,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

const SHARDS: usize = 16;

/// What is known of the uses of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) hits: u64,
    pub(super) accessed_at: Timestamp,
}

/// By the hash of the key.
type Shard = HashMap<u64, Use>;

/// The uses of the entries of one cache, as far as they are tracked.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// How many entries may be in one shard; 0 = nothing is tracked.
    entries_max: AtomicUsize,
    shards: [Mutex<Shard>; SHARDS],
}

impl Uses {
    fn track(&self, entries_max: usize) {
        let own = if entries_max == 0 { 0 } else { (entries_max / SHARDS).max(2) };
        self.entries_max.store(own, Ordering::Relaxed);
        if own == 0 {
            self.shards.iter().for_each(|shard| *hold(shard) = Shard::new());
        }
    }

    /// Tracks at least so many.
    pub(super) fn track_at_least(&self, entries: usize) {
        self.entries_max.fetch_max((entries / SHARDS).max(2), Ordering::Relaxed);
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The table inside the shard uses the other bits.
        hold(&self.shards[(hash >> 60) as usize % SHARDS])
    }

    /// A value was found.
    #[inline]
    pub(super) fn note(&self, key: &[u8], now: impl FnOnce() -> Timestamp) {
        let entries_max = self.entries_max.load(Ordering::Relaxed);
        if entries_max > 0 {
            self.count(xxh3_64(key), entries_max, now());
        }
    }

    fn count(&self, hash: u64, entries_max: usize, now: Timestamp) {
        let mut shard = self.shard(hash);
        if let Some(found) = shard.get_mut(&hash) {
            *found = Use { hits: found.hits + 1, accessed_at: found.accessed_at.max(now) };
            return;
        }
        if shard.len() >= entries_max {
            forget_half(&mut shard);
        }
        shard.insert(hash, Use { hits: 1, accessed_at: now });
    }

    /// Another value is stored, or none any more.
    #[inline]
    pub(super) fn forget(&self, key: &[u8]) {
        if self.entries_max.load(Ordering::Relaxed) > 0 {
            let hash = xxh3_64(key);
            self.shard(hash).remove(&hash);
        }
    }

    pub(super) fn of(&self, key: &[u8]) -> Option<Use> {
        if self.entries_max.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let hash = xxh3_64(key);
        self.shard(hash).get(&hash).copied()
    }
}

/// Forgets those that were used longest ago.
fn forget_half(shard: &mut Shard) {
    let mut times: Vec<_> = shard.values().map(|found| found.accessed_at).collect();
    let middle = times.len() / 2;
    if let Some((_, middle, _)) = (middle < times.len()).then(|| times.select_nth_unstable(middle))
    {
        let middle = *middle;
        shard.retain(|_, found| found.accessed_at > middle);
    }
}

fn hold(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: OwnedKey, V, C: Codec<V>> Cache<K, V, C> {
    /// From now on counts, in memory and for all handles of this cache, how often and when each entry was found last:
    /// [`Entry::hits`](super::Entry::hits) and [`Entry::accessed_at`](super::Entry::accessed_at). About 40 bytes an
    /// entry and a lock that is shared by few for each hit, for up to `entries_max` entries; when there are more, the
    /// half of them that was used longest ago is forgotten, and begins at none. 0 ends it. Nothing of it is kept over a
    /// restart, and nothing is written. Not tracked unless asked for.
    ///
    /// ```
    /// let cache = tierce::Store::in_memory()?.cache::<u8, u8>("c")?;
    /// cache.track_uses(10_000);
    /// cache.insert(&1, &1)?;
    /// let _ = (cache.get(&1)?, cache.get(&1)?);
    /// assert_eq!(cache.entry(&1)?.and_then(|entry| entry.hits), Some(2));
    /// # Ok::<(), tierce::Error>(())
    /// ```
    pub fn track_uses(&self, entries_max: usize) {
        self.shared.uses.track(entries_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: however many keys are used, not more are kept than was said, and the last used are among them.
    #[test]
    fn what_is_kept_is_bounded() {
        let uses = Uses::default();
        uses.note(b"before", || Timestamp(0));
        assert_eq!(uses.of(b"before"), None, "nobody asked for it");
        uses.track(160);
        for number in 0..10_000_u64 {
            uses.note(&number.to_le_bytes(), || Timestamp(number));
        }
        let kept: usize = uses.shards.iter().map(|shard| hold(shard).len()).sum();
        assert!(kept <= 160, "{kept}");
        let last = uses.of(&9_999_u64.to_le_bytes());
        assert_eq!(last, Some(Use { hits: 1, accessed_at: Timestamp(9_999) }));
        uses.track(0);
        assert_eq!(uses.of(&9_999_u64.to_le_bytes()), None);
    }
}
