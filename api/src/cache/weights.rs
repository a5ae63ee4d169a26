//! What the entries of a cache weigh, and a limit of it.
//!
//! The engine counts bytes; weights are the caller's. So the limit is kept here, with a number that is never less than
//! what all entries weigh: it grows before a value is stored, and does not shrink when one is removed or expires. When
//! it reaches the limit, everything is weighed anew, and what was used longest ago is forgotten.

use std::{ops::ControlFlow, time::Duration};

use tierce_engine::{SequenceNumber, Timestamp};

use super::{
    Cache, Removal,
    events::Raw,
    record::{is_failure, stored_at, weight_of},
};
use crate::{
    codec::Codec,
    error::{Error, Result},
    key::OwnedKey,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Entries whose uses are tracked while there is a limit, so that it is known which are cold.
const TRACKED: usize = 65_536;
/// How long a value waits for others that are just being stored, and leave it no room.
const PATIENCE: Duration = Duration::from_secs(10);
/// When entries are forgotten, this part of the limit becomes free, so that not every insert has to weigh them all.
const FREED: u64 = 16;

#[derive(Debug)]
struct Scale {
    limit: u64,
    /// Not less than the weight of everything stored or about to be; `None` = unknown.
    bound: Option<u64>,
    /// What is about to be stored.
    coming: u64,
}

/// The limit of one cache, if there is one.
#[derive(Debug, Default)]
pub(super) struct Weights {
    /// Whether there is a limit; asked without the lock.
    is_limited: AtomicBool,
    scale: Mutex<Option<Scale>>,
    /// Something that was coming has come.
    came: Condvar,
}

/// A value that is about to be stored. Held until it is, or is not.
#[must_use]
pub(super) struct Coming<'a> {
    weights: &'a Weights,
    weight: u64,
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        if self.weight > 0
            && let Some(scale) = &mut *self.weights.hold()
        {
            scale.coming = scale.coming.saturating_sub(self.weight);
            self.weights.came.notify_all();
        }
    }
}

impl Weights {
    fn hold(&self) -> MutexGuard<'_, Option<Scale>> {
        self.scale.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One entry on the scale.
struct Weighed {
    /// When it was used last, as far as that is known, or stored.
    used_at: Timestamp,
    version: SequenceNumber,
    key: Vec<u8>,
    weight: u64,
}

impl<K: OwnedKey, V, C: Codec<V>> Cache<K, V, C> {
    /// Limits what all entries weigh together, for all handles of this cache until the store is closed; `None` = no
    /// limit but the store's. The weight of an entry is what [`Put::weight`](super::Put::weight) said, or 1: so without
    /// weights this limits how many entries there are. Stale entries count, too.
    ///
    /// The limit holds at every moment. Before a value is stored that has no room, those that were used longest ago are
    /// removed, as [`Removal::Evicted`], and counted as [`CacheStats::outweighed`](super::CacheStats::outweighed);
    /// pinned entries stay. Uses are known as far as [`Self::track_uses`] tells, which is on for 65,536 entries while
    /// there is a limit; after a restart, and for entries not used since they were stored, it is the time at which they
    /// were. To find them reads the head of every entry of the store; so that this is rare, a sixteenth of the limit
    /// is freed at once.
    ///
    /// ```
    /// use tierce::Put;
    /// let cache = tierce::Store::in_memory()?.cache::<u32, String>("c")?;
    /// cache.set_max_weight(Some(10))?;
    /// for number in 0..10 {
    ///     cache.insert_with(&number, &"x".to_owned(), &Put::new().weight(4))?;
    /// }
    /// assert_eq!((cache.len()?, cache.stats()?.weight), (2, 8));
    /// # Ok::<(), tierce::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Overweight`] if the pinned entries weigh more; the engine's. The limit holds for what is stored from
    /// then on all the same; a value that another thread is storing while the limit is set may not be counted yet.
    /// [`Error::Unsupported`] in a store that other processes write to.
    pub fn set_max_weight(&self, limit: Option<u64>) -> Result<()> {
        if self.typed.kv().is_shared() {
            return Err(self.store().unsupported("limit weights"));
        }
        let mut scale = self.shared.weights.hold();
        let coming = scale.as_ref().map_or(0, |scale| scale.coming);
        *scale = limit.map(|limit| Scale { limit, bound: None, coming });
        self.shared.weights.is_limited.store(limit.is_some(), Ordering::SeqCst);
        let mut gone = Vec::new();
        let weighed = match &mut *scale {
            Some(scale) => {
                self.shared.uses.track_at_least(TRACKED);
                self.weigh(scale, &[], 0, &mut gone)
            }
            None => Ok(()),
        };
        drop(scale);
        self.tell_outweighed(gone);
        weighed
    }

    /// Order: with the scale free; who is woken by it may come back.
    fn tell_outweighed(&self, gone: Vec<Vec<u8>>) {
        for key in gone {
            self.tell(|| Raw::Removed(key, Removal::Evicted));
        }
    }

    /// Makes room for a value of `key` that is about to be stored.
    pub(super) fn make_room(&self, key: &[u8], weight: u64) -> Result<Coming<'_>> {
        let weights = &self.shared.weights;
        if !weights.is_limited.load(Ordering::SeqCst) {
            return Ok(Coming { weights, weight: 0 });
        }
        let is_crowded = |scale: &mut Option<Scale>| {
            scale.as_ref().is_some_and(|scale| {
                weight <= scale.limit && scale.coming.saturating_add(weight) > scale.limit
            })
        };
        let waited = weights.came.wait_timeout_while(weights.hold(), PATIENCE, is_crowded);
        let mut held = waited.unwrap_or_else(PoisonError::into_inner).0;
        let Some(scale) = &mut *held else { return Ok(Coming { weights, weight: 0 }) };
        let mut gone = Vec::new();
        let weighed = match scale.bound.and_then(|bound| bound.checked_add(weight)) {
            Some(bound) if bound <= scale.limit => {
                scale.bound = Some(bound);
                Ok(())
            }
            _ => self.weigh(scale, key, weight, &mut gone),
        };
        if weighed.is_ok() {
            scale.coming = scale.coming.saturating_add(weight);
        }
        drop(held);
        let coming = weighed.map(|()| Coming { weights, weight });
        self.tell_outweighed(gone);
        coming
    }

    /// Weighs everything, and forgets what was used longest ago until `more` for `key` has room. The keys that are gone
    /// are to be reported when the scale is free.
    fn weigh(
        &self,
        scale: &mut Scale,
        key: &[u8],
        more: u64,
        gone: &mut Vec<Vec<u8>>,
    ) -> Result<()> {
        let (mut sum, mut old, mut cold) = (0_u64, 0, Vec::new());
        self.typed.scan_at(&self.typed.space().prefix, false, &mut |own, view| {
            if is_failure(&view) {
                return ControlFlow::Continue(());
            }
            let weight = weight_of(&view);
            if own == key {
                // It is there until the other takes its place, if that happens.
                old = weight;
                return ControlFlow::Continue(());
            }
            sum = sum.saturating_add(weight);
            if view.evictable {
                let used_at = self.shared.uses.of(own).map(|found| found.accessed_at);
                let used_at = used_at.or_else(|| stored_at(&view)).unwrap_or(Timestamp(0));
                let version = view.stored;
                cold.push(Weighed { used_at, version, key: own.to_vec(), weight });
            }
            ControlFlow::Continue(())
        })?;
        let fixed = scale.coming.saturating_add(more.max(old));
        let pinned = sum - cold.iter().map(|entry| entry.weight).sum::<u64>().min(sum);
        scale.bound = Some(sum.saturating_add(fixed));
        if pinned.saturating_add(scale.coming).saturating_add(more) > scale.limit {
            let space = self.typed.space().info.name.clone();
            return Err(Error::Overweight { space, weight: more, pinned, limit: scale.limit });
        }
        let target = scale.limit - scale.limit / FREED;
        cold.sort_unstable_by_key(|entry| (entry.used_at, entry.version));
        for entry in cold {
            if sum.saturating_add(fixed) <= target {
                break;
            }
            if entry.weight == 0 {
                continue;
            }
            // What was stored meanwhile is newer, and among what is coming.
            if self.typed.delete_if_at(&entry.key, &mut |view| view.stored == entry.version)? {
                self.shared.counters.outweighed.add(1);
                self.shared.uses.forget(&entry.key);
                gone.push(entry.key);
            }
            sum = sum.saturating_sub(entry.weight);
            scale.bound = Some(sum.saturating_add(fixed));
        }
        Ok(())
    }
}
