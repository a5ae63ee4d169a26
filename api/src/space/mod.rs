//! Named spaces: who is in them, how their keys begin, and what was agreed when they were made.

pub(crate) mod catalog;
mod ids;
mod import;
pub(crate) mod migrate;
mod options;

use std::{
    any::Any,
    collections::BTreeSet,
    ops::{Bound, ControlFlow},
    sync::Arc,
};

pub use import::{SpaceImport, SpaceMap};
pub use migrate::Migrated;
pub use options::{SpaceInfo, SpaceOptions, SpaceStats};

use crate::{
    error::{Error, Result},
    kv::{Edit, Kv},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// Kinds of extension items that the typed layer adds to records.
pub(crate) mod item {
    /// When the value was stored: 8 bytes, milliseconds of store time.
    pub(crate) const STORED_AT: u8 = 0x20;
    /// Milliseconds before the expiry from which on the value is stale: 8 bytes.
    pub(crate) const STALE_WINDOW: u8 = 0x21;
    /// Milliseconds that loading the value took: 8 bytes.
    pub(crate) const COST: u8 = 0x22;
    /// What the loader wants back.
    pub(crate) const VALIDATOR: u8 = 0x23;
    /// The words with which loading failed; the value is empty.
    pub(crate) const FAILURE: u8 = 0x24;
    /// The version that a migration gave the value, as text.
    pub(crate) const VERSION: u8 = 0x25;
    /// Milliseconds that the value is fresh from each load on: 8 bytes.
    pub(crate) const LIFETIME: u8 = 0x26;
    /// What the entry weighs: 8 bytes.
    pub(crate) const WEIGHT: u8 = 0x27;
}

/// Begins the prefixes of spaces whose id needs more than a byte.
const LONG: u8 = 0xef;

/// What every key of space `id` begins with: one byte for the first 238, five for the others. No space's prefix is the
/// beginning of another's; 0 begins the keys of the catalog.
pub(crate) fn prefix_of(id: u32) -> Vec<u8> {
    match u8::try_from(id) {
        Ok(short) if short < LONG => vec![short],
        _ => [&[LONG][..], &id.to_le_bytes()].concat(),
    }
}

/// How many bytes of `bytes` are a space's prefix.
pub(crate) fn prefix_bytes(bytes: &[u8]) -> Option<usize> {
    Some(if *bytes.first()? == LONG { 5 } else { 1 })
}

/// One open space, as it was agreed when a handle was made.
#[derive(Debug)]
pub(crate) struct SpaceState {
    pub(crate) info: SpaceInfo,
    /// What its keys begin with; also the scope that all its entries belong to.
    pub(crate) prefix: Vec<u8>,
    shared: Arc<SpaceShared>,
}

/// What all handles of a space share, whatever was agreed when each of them was made.
#[derive(Debug, Default)]
struct SpaceShared {
    /// Its keys in order, from the first time on that somebody asked for it: all that are stored, and maybe some that
    /// are gone. Not in a store that others write to.
    order: OnceLock<Mutex<Order>>,
    /// Whether those that were stored before are in it.
    has_order: AtomicBool,
    /// Whether it is being dropped, so that no write begins.
    is_ending: AtomicBool,
    /// Whether it was dropped.
    has_ended: AtomicBool,
    /// Whether a write was over since it began to end.
    is_unclean: AtomicBool,
    /// Writes that are going on.
    writers: AtomicUsize,
    /// What all handles of what the space is share.
    attached: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// The keys of a space in order.
#[derive(Debug, Default)]
struct Order {
    keys: BTreeSet<Vec<u8>>,
    /// Where the last look at some of them ended.
    looked_at: Vec<u8>,
}

/// So many keys are looked at for each new one, to find those that expired or were evicted: at the worst a third of the
/// order is of keys that are gone.
const LOOKS: usize = 4;

impl Order {
    /// Looks at the next few keys, and lets go of those that are gone. One that cannot be looked up stays: it is only a
    /// key too many.
    fn look_on(&mut self, kv: &dyn Kv) {
        let from = (Bound::Excluded(&self.looked_at), Bound::Unbounded);
        let next: Vec<_> = self.keys.range::<Vec<u8>, _>(from).take(LOOKS).cloned().collect();
        self.looked_at = if next.len() < LOOKS { Vec::new() } else { next[LOOKS - 1].clone() };
        for key in next {
            if !kv.contains(&key).unwrap_or(true) {
                self.keys.remove(&key);
            }
        }
    }
}

/// Held while a write goes on.
pub(crate) struct Writing<'a> {
    space: &'a SpaceState,
    kv: &'a dyn Kv,
    is_refused: bool,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if !self.is_refused && self.space.shared.is_ending.load(Ordering::SeqCst) {
            self.space.shared.is_unclean.store(true, Ordering::SeqCst);
        }
        let was_last = self.space.shared.writers.fetch_sub(1, Ordering::SeqCst) == 1;
        if was_last && self.space.shared.has_ended.load(Ordering::SeqCst) {
            self.space.cut_again(self.kv);
        }
    }
}

impl SpaceState {
    pub(crate) fn new(info: SpaceInfo, kv: &dyn Kv) -> Result<Self> {
        Self::with(info, kv, Arc::default())
    }

    /// This space with what is agreed by now.
    pub(crate) fn renewed(&self, info: SpaceInfo, kv: &dyn Kv) -> Result<Self> {
        Self::with(info, kv, Arc::clone(&self.shared))
    }

    fn with(info: SpaceInfo, kv: &dyn Kv, shared: Arc<SpaceShared>) -> Result<Self> {
        let prefix = prefix_of(info.id);
        if info.ordered && !kv.is_shared() && !shared.has_order.load(Ordering::SeqCst) {
            // Order: there before the keys are looked for, so that what is stored meanwhile is noted.
            let order = shared.order.get_or_init(Mutex::default);
            let keys = keys_of(kv, &prefix)?;
            order.lock().unwrap_or_else(PoisonError::into_inner).keys.extend(keys);
            shared.has_order.store(true, Ordering::SeqCst);
        }
        Ok(Self { info, prefix, shared })
    }

    /// What all handles of what the space is share: a space is of one kind, and so is this.
    pub(crate) fn attached<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        let attached = self.shared.attached.get_or_init(|| Arc::new(T::default()));
        Arc::clone(attached).downcast().unwrap_or_default()
    }

    /// What was written after the cut that ended the space could not be reached by anyone any more: it is cut off, too.
    /// If that fails it only takes up space.
    fn cut_again(&self, kv: &dyn Kv) {
        if !self.shared.is_unclean.swap(false, Ordering::SeqCst) {
            return;
        }
        let _ = kv.commit(vec![Edit::Cut(self.prefix.clone())], None);
    }

    /// Runs `end`, which ends the space; no write begins from here on, unless it fails.
    pub(crate) fn end_with(&self, kv: &dyn Kv, end: impl FnOnce() -> Result<bool>) -> Result<bool> {
        self.shared.is_ending.store(true, Ordering::SeqCst);
        let ended = end();
        match ended {
            Ok(_) => self.shared.has_ended.store(true, Ordering::SeqCst),
            // Only a space that surely ended is ever cut again: this one stays as it was.
            Err(_) => self.shared.is_ending.store(false, Ordering::SeqCst),
        }
        // Order: after it has ended. A write that was over before that did not know; one that is not, cuts when it is.
        if ended.is_ok() {
            self.cut_again(kv);
        }
        ended
    }

    /// Begins a write; refuses it if the space was dropped.
    pub(crate) fn writing<'a>(&'a self, kv: &'a dyn Kv) -> Result<Writing<'a>> {
        // Order: counted before it looks. Whoever drops the space says so before the cut, so a write that did not see
        // it is counted, and the last of them cuts again.
        self.shared.writers.fetch_add(1, Ordering::SeqCst);
        let is_refused = self.shared.is_ending.load(Ordering::SeqCst);
        let writing = Writing { space: self, kv, is_refused };
        if is_refused { Err(Error::Closed("the space")) } else { Ok(writing) }
    }

    /// Runs `with` with the keys in order, if the space is ordered: at least all that begin with `prefix`, which begins
    /// with the space's own.
    pub(crate) fn with_order<R>(
        &self,
        kv: &dyn Kv,
        prefix: &[u8],
        with: impl FnOnce(&BTreeSet<Vec<u8>>) -> R,
    ) -> Result<Option<R>> {
        if !self.info.ordered {
            return Ok(None);
        }
        Ok(Some(match self.order() {
            Some(order) => with(&order.keys),
            None => with(&keys_of(kv, prefix)?),
        }))
    }

    /// The keys in order, if any handle keeps them so.
    fn order(&self) -> Option<MutexGuard<'_, Order>> {
        self.shared.order.get().map(|order| order.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it has to be told which keys were stored, and which are gone.
    pub(crate) fn keeps_order(&self) -> bool {
        self.shared.order.get().is_some()
    }

    /// These keys were stored. Order: told after it was stored and before the write is acknowledged.
    pub(crate) fn note_stored<'a>(&self, kv: &dyn Kv, keys: impl IntoIterator<Item = &'a [u8]>) {
        let Some(mut order) = self.order() else { return };
        for key in keys {
            if order.keys.insert(key.to_vec()) {
                order.look_on(kv);
            }
        }
    }

    /// These keys may be gone. Each is looked up with the order held, so that one which was stored again meanwhile
    /// stays, or is noted by whoever stored it afterwards.
    pub(crate) fn note_gone<'a>(
        &self,
        kv: &dyn Kv,
        keys: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<()> {
        let Some(mut order) = self.order() else { return Ok(()) };
        for key in keys {
            if !kv.contains(key)? {
                order.keys.remove(key);
            }
        }
        Ok(())
    }

    /// As [`Self::note_gone`], for every key.
    pub(crate) fn note_all_gone(&self, kv: &dyn Kv) {
        if let Some(mut order) = self.order() {
            // One that cannot be looked up stays: it is only a key too many.
            order.keys.retain(|key| kv.contains(key).unwrap_or(true));
        }
    }
}

fn keys_of(kv: &dyn Kv, prefix: &[u8]) -> Result<BTreeSet<Vec<u8>>> {
    let mut keys = BTreeSet::new();
    kv.scan(prefix, false, &mut |key, _| {
        keys.insert(key.to_vec());
        ControlFlow::Continue(())
    })?;
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use tierce_engine::{Engine, Options, PutOptions, io::MemoryDisk};

    use super::{SpaceInfo, SpaceOptions, SpaceState, prefix_of};

    /// Goal: keys that are gone without a word leave the order while others are stored, so that it stays within a few
    /// times what is there.
    #[test]
    fn the_order_is_bounded() {
        let engine = Options::new().disk(MemoryDisk::new()).background(false).open("s").unwrap();
        let types = ("text".to_owned(), "u32".to_owned());
        let options = SpaceOptions::new().ordered(true);
        let info = SpaceInfo::wanted("m", "map", types, 1, &options).unwrap();
        let space = SpaceState::new(SpaceInfo { id: 1, ..info }, &engine).unwrap();
        let (live, mut largest) = (100, 0);
        for number in 0..10_000_u32 {
            let key = |number: u32| [&[1][..], &number.to_le_bytes()].concat();
            engine.put_with(key(number), "", &PutOptions::new()).unwrap();
            space.note_stored(&engine, [key(number).as_slice()]);
            if number >= live {
                Engine::delete(&engine, key(number - live)).unwrap();
            }
            largest = largest.max(space.order().unwrap().keys.len());
        }
        assert!((100..=200).contains(&largest), "{largest}");
    }

    /// Goal: no prefix is the beginning of another, and none is the catalog's.
    #[test]
    fn prefixes_do_not_meet() {
        let all: Vec<_> = (1..600).chain([u32::MAX, 0xef00, 0x00ef]).map(prefix_of).collect();
        for (at, one) in all.iter().enumerate() {
            assert!(one[0] != 0);
            for (other_at, other) in all.iter().enumerate() {
                assert!(
                    at == other_at || !other.starts_with(one) || one == other,
                    "{one:?} {other:?}"
                );
            }
        }
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len() - 1, "239 is twice in it");
    }
}
