//! What was said about records after they were written, without writing them again: touches and scope cuts.
//!
//! A touch gives one record a new expiry. A scope cut ends every record of a scope that is older than the cut.
//! Both tables are persistent: a snapshot keeps the ones it was taken with, and a later change copies little.
//!
//! A touch belongs to an index entry: only [`Overrides::touch_of`] gives one, and only of an entry that says it has one.
//! Slots are used again, so a location alone names no record. What belongs to a slot leaves with its segment
//! ([`Overrides::forget_slot`]).

mod cuts;
mod touches;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use self::{cuts::CutTable, touches::TouchTable};
use crate::{
    index::Entry,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    types::{Location, SequenceNumber, Slot, Timestamp, Touch, is_live},
};

/// Records that one key's sliding expiry writes in one lifetime, at most.
const SLIDES_PER_LIFETIME: u64 = 8;

/// Whether sliding an expiry to `wanted` has to be written down: not while the log is behind by less than an eighth of
/// what is left. A crash then takes that eighth back; it never makes an entry live longer than it should.
pub(crate) fn must_log(logged: Option<Timestamp>, wanted: Timestamp, now: Timestamp) -> bool {
    let Some(logged) = logged else { return true };
    let behind = wanted.0.saturating_sub(logged.0);
    wanted < logged || behind.saturating_mul(SLIDES_PER_LIFETIME) >= wanted.0.saturating_sub(now.0)
}

/// Scope cuts by name: the newest cut of each scope.
pub(crate) type Cuts = BTreeMap<Box<[u8]>, SequenceNumber>;
/// Touches by the record they belong to, as files tell of them.
pub(crate) type Touches = HashMap<Location, Touch>;

const fn says_touched(entry: &Entry) -> bool {
    entry.flags & Entry::TOUCHED != 0
}

/// Touches and scope cuts as they were at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrozenOverrides {
    cuts: Arc<CutTable>,
    touches: Arc<TouchTable>,
}

impl FrozenOverrides {
    /// The touch of the record that an entry of the same moment points to.
    pub(crate) fn touch_of(&self, entry: &Entry) -> Option<Touch> {
        if says_touched(entry) { self.touches.get(entry.location) } else { None }
    }

    pub(crate) fn cuts(&self) -> impl Iterator<Item = (&[u8], SequenceNumber)> + '_ {
        self.cuts.iter()
    }

    pub(crate) fn touches(&self) -> impl Iterator<Item = (Location, Touch)> + '_ {
        self.touches.iter()
    }

    /// Whether a record with this sequence number and one of these scopes has been cut off.
    pub(crate) fn is_cut<'a>(
        &self,
        sequence: SequenceNumber,
        scopes: impl Iterator<Item = &'a [u8]>,
    ) -> bool {
        self.cuts.is_cut(sequence, scopes)
    }
}

/// Touches and scope cuts of an open store.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    cuts: RwLock<Arc<CutTable>>,
    has_cuts: AtomicBool,
    touches: RwLock<Arc<TouchTable>>,
}

impl Overrides {
    pub(crate) fn new(cuts: Cuts, touches: Touches) -> Self {
        Self {
            has_cuts: AtomicBool::new(!cuts.is_empty()),
            cuts: RwLock::new(Arc::new(cuts.into())),
            touches: RwLock::new(Arc::new(touches.into_iter().collect())),
        }
    }

    fn cut_table(&self) -> Arc<CutTable> {
        Arc::clone(&self.cuts.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn touch_table(&self) -> Arc<TouchTable> {
        Arc::clone(&self.touches.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change_touches<T>(&self, change: impl FnOnce(&mut TouchTable) -> T) -> T {
        let mut touches = self.touches.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut touches))
    }

    pub(crate) fn freeze(&self) -> FrozenOverrides {
        FrozenOverrides { cuts: self.cut_table(), touches: self.touch_table() }
    }

    /// The touch of the record that `entry` points to. The entry is one that the index has now: a caller that took it earlier
    /// asks the index again under the turn.
    pub(crate) fn touch_of(&self, entry: &Entry) -> Option<Touch> {
        if !says_touched(entry) {
            return None;
        }
        self.touches.read().unwrap_or_else(PoisonError::into_inner).get(entry.location)
    }

    pub(crate) fn set_touch(&self, at: Location, touch: Touch) {
        self.change_touches(|touches| touches.insert(at, touch));
    }

    /// The record at `at` is gone or has moved: forgets its touch.
    pub(crate) fn forget_touch(&self, at: Location) {
        let mut touches = self.touches.write().unwrap_or_else(PoisonError::into_inner);
        if touches.get(at).is_some() {
            Arc::make_mut(&mut touches).remove(at);
        }
    }

    /// The segment in this slot is gone, or another one gets the slot: forgets everything of it. Whether there was
    /// anything.
    pub(crate) fn forget_slot(&self, slot: Slot) -> bool {
        if !self.has_touch_in(slot) {
            return false;
        }
        self.change_touches(|touches| touches.forget_slot(slot))
    }

    /// A segment gets this slot: nothing was left of the one before.
    pub(crate) fn admit(&self, slot: Slot) {
        let was_left = self.forget_slot(slot);
        debug_assert!(!was_left, "touches in {slot:?} outlived their segment");
    }

    /// Whether a record in `slot` has a touch.
    pub(crate) fn has_touch_in(&self, slot: Slot) -> bool {
        self.touches.read().unwrap_or_else(PoisonError::into_inner).has_slot(slot)
    }

    /// Whether a touch in force came from a record with a sequence number in this range.
    pub(crate) fn has_touch_from(&self, records: std::ops::RangeInclusive<SequenceNumber>) -> bool {
        self.touch_table().iter().any(|(_, touch)| records.contains(&touch.sequence))
    }

    /// Slots of records that have expired by a touch.
    pub(crate) fn slots_expired(&self, now: Timestamp) -> HashSet<Slot> {
        let is_over =
            |(at, touch): (Location, Touch)| (!is_live(touch.expires_at, now)).then_some(at.slot);
        self.touch_table().iter().filter_map(is_over).collect()
    }

    pub(crate) fn cut(&self, scope: &[u8], sequence: SequenceNumber) {
        let mut cuts = self.cuts.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut cuts).insert(scope, sequence);
        self.has_cuts.store(true, Ordering::Release);
    }

    /// The first expiry after `now` that a touch gave to a record.
    pub(crate) fn first_expiry_after(&self, now: Timestamp) -> Option<Timestamp> {
        let touches = self.touch_table();
        touches.iter().filter_map(|(_, touch)| touch.expires_at).filter(|at| *at > now).min()
    }

    /// No record is left that this cut ends: forgets it, unless there is a newer one.
    pub(crate) fn forget_cut(&self, scope: &[u8], sequence: SequenceNumber) {
        let mut cuts = self.cuts.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut cuts).remove(scope, sequence);
    }

    /// More than they take in a checkpoint.
    pub(crate) fn checkpoint_bytes(&self) -> u64 {
        let cuts: usize = self.cut_table().iter().map(|(scope, _)| scope.len() + 16).sum();
        (cuts + self.touch_table().len() * 32) as u64
    }

    /// The newest cut of any scope; 0 if there is none.
    pub(crate) fn newest_of_all_cuts(&self) -> SequenceNumber {
        self.cut_table().iter().map(|(_, sequence)| sequence).max().unwrap_or_default()
    }

    /// The newest cut of a scope.
    pub(crate) fn newest_cut(&self, scope: &[u8]) -> Option<SequenceNumber> {
        self.cuts.read().unwrap_or_else(PoisonError::into_inner).get(scope)
    }

    /// Whether a record with this sequence number and one of these scopes has been cut off.
    #[inline]
    pub(crate) fn is_cut<'a>(
        &self,
        sequence: SequenceNumber,
        scopes: impl Iterator<Item = &'a [u8]>,
    ) -> bool {
        if !self.has_cuts.load(Ordering::Acquire) {
            return false;
        }
        self.cuts.read().unwrap_or_else(PoisonError::into_inner).is_cut(sequence, scopes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a key that is slid every moment writes at most eight records in a lifetime, and the log is never ahead.
    #[test]
    fn sliding_writes_eight_records_a_lifetime() {
        const LIFETIME: u64 = 80_000;
        let (mut logged, mut records) = (LIFETIME, 0);
        for now in 0..10 * LIFETIME {
            let wanted = now + LIFETIME;
            if must_log(Some(Timestamp(logged)), Timestamp(wanted), Timestamp(now)) {
                (logged, records) = (wanted, records + 1);
            }
            assert!(logged <= wanted && wanted - logged <= LIFETIME / 8);
        }
        assert!((70..=80).contains(&records), "{records} in ten lifetimes");
    }

    /// Goal: what takes time away, or gives an end to what had none, is written down.
    #[test]
    fn shortening_is_written() {
        let (now, later) = (Timestamp(1_000), Timestamp(2_000));
        assert!(must_log(Some(Timestamp(2_001)), later, now));
        assert!(must_log(None, later, now));
        assert!(!must_log(Some(later), later, now));
    }
}
