//! What was said about records after they were written, without writing them again: touches and scope cuts.
//!
//! A touch gives one record a new expiry. A scope cut ends every record of a scope that is older than the cut.
//! Both are copied on write, so that a snapshot keeps the ones it was taken with.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    types::{Location, SequenceNumber, Slot, Timestamp, is_live},
};

/// The expiry in force for one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Touch {
    /// `None` = never.
    pub(crate) expires_at: Option<Timestamp>,
    /// The newest touch that stands in the log, or the put itself if there is none.
    pub(crate) sequence: SequenceNumber,
    /// The expiry that the log has: a sliding one may be ahead of it for a while.
    pub(crate) logged: Option<Timestamp>,
}

impl Touch {
    /// What a record in the log says.
    pub(crate) const fn logged(expires_at: Option<Timestamp>, sequence: SequenceNumber) -> Self {
        Self { expires_at, sequence, logged: expires_at }
    }
}

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
pub(crate) type Cuts = HashMap<Box<[u8]>, SequenceNumber>;
/// Touches by the record they belong to.
pub(crate) type Touches = HashMap<Location, Touch>;

/// Touches and scope cuts as they were at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrozenOverrides {
    cuts: Arc<Cuts>,
    touches: Arc<Touches>,
}

impl FrozenOverrides {
    pub(crate) fn touch(&self, at: Location) -> Option<Touch> {
        self.touches.get(&at).copied()
    }

    pub(crate) fn cuts(&self) -> &Cuts {
        &self.cuts
    }

    pub(crate) fn touches(&self) -> &Touches {
        &self.touches
    }

    /// Whether a record with this sequence number and one of these scopes has been cut off.
    pub(crate) fn is_cut<'a>(
        &self,
        sequence: SequenceNumber,
        scopes: impl Iterator<Item = &'a [u8]>,
    ) -> bool {
        is_cut(&self.cuts, sequence, scopes)
    }
}

fn is_cut<'a>(
    cuts: &Cuts,
    sequence: SequenceNumber,
    mut scopes: impl Iterator<Item = &'a [u8]>,
) -> bool {
    scopes.any(|scope| cuts.get(scope).is_some_and(|cut| sequence < *cut))
}

/// Touches and scope cuts of an open store.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    cuts: RwLock<Arc<Cuts>>,
    has_cuts: AtomicBool,
    touches: RwLock<Arc<Touches>>,
}

impl Overrides {
    pub(crate) fn new(cuts: Cuts, touches: Touches) -> Self {
        Self {
            has_cuts: AtomicBool::new(!cuts.is_empty()),
            cuts: RwLock::new(Arc::new(cuts)),
            touches: RwLock::new(Arc::new(touches)),
        }
    }

    pub(crate) fn freeze(&self) -> FrozenOverrides {
        FrozenOverrides {
            cuts: self.cuts.read().unwrap_or_else(PoisonError::into_inner).clone(),
            touches: self.touches.read().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    pub(crate) fn touch(&self, at: Location) -> Option<Touch> {
        self.touches.read().unwrap_or_else(PoisonError::into_inner).get(&at).copied()
    }

    pub(crate) fn set_touch(&self, at: Location, touch: Touch) {
        let mut touches = self.touches.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut touches).insert(at, touch);
    }

    /// The record at `at` is gone or has moved; takes its touch out.
    pub(crate) fn take_touch(&self, at: Location) -> Option<Touch> {
        let mut touches = self.touches.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut touches).remove(&at)
    }

    pub(crate) fn cut(&self, scope: &[u8], sequence: SequenceNumber) {
        let mut cuts = self.cuts.write().unwrap_or_else(PoisonError::into_inner);
        let newest = Arc::make_mut(&mut cuts).entry(scope.into()).or_default();
        *newest = sequence.max(*newest);
        self.has_cuts.store(true, Ordering::Release);
    }

    /// More than they take in a checkpoint.
    pub(crate) fn checkpoint_bytes(&self) -> u64 {
        let cuts = self.cuts.read().unwrap_or_else(PoisonError::into_inner);
        let cuts: usize = cuts.keys().map(|scope| scope.len() + 16).sum();
        let touches = self.touches.read().unwrap_or_else(PoisonError::into_inner).len();
        (cuts + touches * 32) as u64
    }

    /// The newest cut of any scope; 0 if there is none.
    pub(crate) fn newest_of_all_cuts(&self) -> SequenceNumber {
        let cuts = self.cuts.read().unwrap_or_else(PoisonError::into_inner);
        cuts.values().copied().max().unwrap_or_default()
    }

    /// The newest cut of a scope.
    pub(crate) fn newest_cut(&self, scope: &[u8]) -> Option<SequenceNumber> {
        self.cuts.read().unwrap_or_else(PoisonError::into_inner).get(scope).copied()
    }

    /// Forgets the touches of records that are gone.
    pub(crate) fn drop_touches_of(&self, is_gone: impl Fn(Location) -> bool) {
        let mut touches = self.touches.write().unwrap_or_else(PoisonError::into_inner);
        if touches.keys().any(|at| is_gone(*at)) {
            Arc::make_mut(&mut touches).retain(|at, _| !is_gone(*at));
        }
    }

    /// Slots of records that have expired by a touch.
    pub(crate) fn slots_expired(&self, now: Timestamp) -> HashSet<Slot> {
        let touches = self.touches.read().unwrap_or_else(PoisonError::into_inner);
        let is_over =
            |(at, touch): (&Location, &Touch)| (!is_live(touch.expires_at, now)).then_some(at.slot);
        touches.iter().filter_map(is_over).collect()
    }

    /// The first expiry after `now` that a touch gave to a record.
    pub(crate) fn first_expiry_after(&self, now: Timestamp) -> Option<Timestamp> {
        let touches = self.touches.read().unwrap_or_else(PoisonError::into_inner);
        touches.values().filter_map(|touch| touch.expires_at).filter(|at| *at > now).min()
    }

    /// No record is left that this cut ends: forgets it, unless there is a newer one.
    pub(crate) fn forget_cut(&self, scope: &[u8], sequence: SequenceNumber) {
        let mut cuts = self.cuts.write().unwrap_or_else(PoisonError::into_inner);
        if cuts.get(scope) == Some(&sequence) {
            Arc::make_mut(&mut cuts).remove(scope);
        }
    }

    /// Whether any touch is of a record in `slot`, or came from a record with a sequence number in this range.
    pub(crate) fn has_touch_in(
        &self,
        slot: Slot,
        records: std::ops::RangeInclusive<SequenceNumber>,
    ) -> bool {
        let touches = self.touches.read().unwrap_or_else(PoisonError::into_inner);
        touches.iter().any(|(at, touch)| at.slot == slot || records.contains(&touch.sequence))
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
        is_cut(&self.cuts.read().unwrap_or_else(PoisonError::into_inner), sequence, scopes)
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
