//! Which items of a queue wait and which are leased: what the records say, kept in memory.
//!
//! The records decide. The index only says where to look, so that neither leased nor taken items cost a consumer a
//! look; whoever finds that a record says something else follows the record.

use std::collections::{BTreeMap, BTreeSet};

use super::shared::Shared;

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// What a queue's item has beside its value. Times are in milliseconds of store time, 0 = none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parcel {
    /// How often it was leased. Of all leases of an item each has another one.
    pub(super) deliveries: u32,
    pub(super) leased_until: u64,
    pub(super) expires: u64,
}

impl Parcel {
    pub(super) const BYTES: usize = 20;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (deliveries, times) = bytes.split_at_mut(4);
        let (until, expires) = times.split_at_mut(8);
        deliveries.copy_from_slice(&self.deliveries.to_le_bytes());
        until.copy_from_slice(&self.leased_until.to_le_bytes());
        expires.copy_from_slice(&self.expires.to_le_bytes());
        bytes
    }

    /// What does not look like one is an item that was never delivered.
    pub(super) fn from_bytes(bytes: Option<&[u8]>) -> Self {
        let read = |bytes: &[u8]| {
            let (deliveries, times) = bytes.split_first_chunk()?;
            let (until, expires) = times.split_first_chunk()?;
            Some(Self {
                deliveries: u32::from_le_bytes(*deliveries),
                leased_until: u64::from_le_bytes(*until),
                expires: u64::from_le_bytes(expires.try_into().ok()?),
            })
        };
        bytes.and_then(read).unwrap_or_default()
    }

    pub(super) const fn is_leased(&self, now: u64) -> bool {
        now < self.leased_until
    }

    pub(super) const fn has_expired(&self, now: u64) -> bool {
        self.expires != 0 && self.expires <= now
    }
}

#[derive(Debug, Default)]
pub(super) struct Places {
    /// Items that wait, with their expiry.
    waiting: BTreeMap<u64, u64>,
    /// Those of them that expire, in the order in which they do.
    expiring: BTreeSet<(u64, u64)>,
    /// Leased items, in the order in which their leases end, with their expiry.
    leased: BTreeMap<(u64, u64), u64>,
    /// The last number given to an item.
    pub(super) last: u64,
    /// Numbers up to here are reserved.
    pub(super) reserved: u64,
    /// How often items were removed other than by who had them: one at a time, or all at once.
    pub(super) removals: u64,
}

impl Places {
    /// An item that nobody has.
    pub(super) fn wait(&mut self, id: u64, expires: u64) {
        self.waiting.insert(id, expires);
        if expires != 0 {
            self.expiring.insert((expires, id));
        }
    }

    pub(super) fn lease(&mut self, id: u64, parcel: &Parcel) {
        self.leased.insert((parcel.leased_until, id), parcel.expires);
    }

    /// The lease is over, by whatever happened; the item is nowhere then.
    pub(super) fn end_lease(&mut self, id: u64, until: u64) {
        self.leased.remove(&(until, id));
        // Its time may have been over while the record was changed.
        self.forget_waiting(id);
    }

    fn forget_waiting(&mut self, id: u64) {
        if let Some(expires) = self.waiting.remove(&id) {
            self.expiring.remove(&(expires, id));
        }
    }

    pub(super) fn forget(&mut self, id: u64) {
        self.removals += 1;
        self.forget_waiting(id);
        self.leased.retain(|(_, leased), _| *leased != id);
    }

    pub(super) fn forget_all(&mut self) {
        self.removals += 1;
        self.waiting.clear();
        self.expiring.clear();
        self.leased.clear();
    }

    /// Time has come to `now`: leases that have ended make their items wait again; then expired ones are dropped.
    pub(super) fn go_on(&mut self, now: u64) {
        while let Some(entry) = self.leased.first_entry() {
            let (until, id) = *entry.key();
            if now < until {
                break;
            }
            let expires = entry.remove();
            self.wait(id, expires);
        }
        while let Some((expires, id)) = self.expiring.first().copied() {
            if now < expires {
                break;
            }
            self.expiring.remove(&(expires, id));
            self.waiting.remove(&id);
        }
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|(id, _)| *id)
    }

    pub(super) fn after(&self, id: u64) -> Option<u64> {
        self.waiting.range(id + 1..).next().map(|(id, _)| *id)
    }

    /// Takes the first waiting item out, with its expiry: nobody else in this process tries to get it meanwhile.
    pub(super) fn take_first(&mut self) -> Option<(u64, u64)> {
        let (id, expires) = self.waiting.pop_first()?;
        self.expiring.remove(&(expires, id));
        Some((id, expires))
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn leased(&self) -> usize {
        self.leased.len()
    }
}

/// Shared by all handles of one queue.
#[derive(Debug, Default)]
pub(super) struct QueueIndex(Mutex<Places>);
impl Shared for QueueIndex {}

impl QueueIndex {
    pub(super) const fn new(places: Places) -> Self {
        Self(Mutex::new(places))
    }

    pub(super) fn hold(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parcels_come_back() {
        let parcel = Parcel { deliveries: 7, leased_until: u64::MAX, expires: 3 };
        assert_eq!(Parcel::from_bytes(Some(&parcel.to_bytes())), parcel);
        assert_eq!(Parcel::from_bytes(None), Parcel::default());
        for length in [0, 1, 4, 19, 21] {
            assert_eq!(Parcel::from_bytes(Some(&vec![1; length])), Parcel::default(), "{length}");
        }
    }

    /// Goal: an item that expired while it was leased does not wait again.
    #[test]
    fn leases_end_before_expiry_is_judged() {
        let mut places = Places::default();
        places.lease(1, &Parcel { deliveries: 1, leased_until: 10, expires: 5 });
        places.lease(2, &Parcel { deliveries: 1, leased_until: 10, expires: 11 });
        places.go_on(9);
        assert_eq!((places.waiting(), places.leased()), (0, 2));
        places.go_on(10);
        assert_eq!((places.first(), places.waiting(), places.leased()), (Some(2), 1, 0));
        places.go_on(11);
        assert_eq!(places.first(), None);
    }
}
