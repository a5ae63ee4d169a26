//! Who waits for room in a bounded queue, without a thread: first come, first served. Decides only: knows no jobs.
//!
//! A place that is granted is kept free for who waited, until that one takes it or goes away; whoever comes later does
//! not get it.

use std::{
    collections::{BTreeMap, BTreeSet},
    task::Waker,
};

/// One place in the line.
pub(crate) type PlaceId = u64;

/// To be taken care of with no lock held.
pub(crate) struct Left {
    /// The waker of who left; it may own a task.
    pub(crate) own: Option<Waker>,
    /// To be woken.
    pub(crate) next: Option<Waker>,
}

/// The line. There is one entry for each future that waits, and it goes when the future does.
#[derive(Debug, Default)]
pub(crate) struct Room {
    next: PlaceId,
    waiting: BTreeMap<PlaceId, Waker>,
    granted: BTreeSet<PlaceId>,
}

impl Room {
    /// Places that are kept free.
    pub(crate) fn granted(&self) -> usize {
        self.granted.len()
    }

    /// Whether another job may be queued now for who holds `place`, which is over then. If not, `waker` is told when,
    /// in the place of the one that is returned: it is to be dropped with no lock held, since it may own a task.
    pub(crate) fn claim(
        &mut self,
        place: &mut Option<PlaceId>,
        waker: &Waker,
        queued: usize,
        max: usize,
    ) -> Result<(), Option<Waker>> {
        match *place {
            Some(id) if self.granted.remove(&id) => {
                *place = None;
                Ok(())
            }
            None if self.waiting.is_empty() && self.has_room(queued, max) => Ok(()),
            _ => {
                let id = *place.get_or_insert(self.next);
                self.next = self.next.max(id + 1);
                Err(self.waiting.insert(id, waker.clone()))
            }
        }
    }

    /// Grants a place to the first in the line if there is room; it is to be woken with no lock held.
    #[must_use = "somebody waits for it"]
    pub(crate) fn grant(&mut self, queued: usize, max: usize) -> Option<Waker> {
        if !self.has_room(queued, max) {
            return None;
        }
        let (id, waker) = self.waiting.pop_first()?;
        self.granted.insert(id);
        Some(waker)
    }

    /// Who held `place` waits no more. A place that was granted goes to the next one, who is to be woken.
    #[must_use = "somebody waits for it"]
    pub(crate) fn leave(&mut self, place: PlaceId, queued: usize, max: usize) -> Left {
        let own = self.waiting.remove(&place);
        let next = if self.granted.remove(&place) { self.grant(queued, max) } else { None };
        Left { own, next }
    }

    /// There will be no room any more: all are to be woken.
    pub(crate) fn close(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }

    fn has_room(&self, queued: usize, max: usize) -> bool {
        queued.saturating_add(self.granted.len()) < max
    }
}

#[cfg(test)]
mod tests {
    use super::Room;
    use std::task::Waker;

    fn claim(room: &mut Room, place: &mut Option<u64>, queued: usize) -> bool {
        room.claim(place, Waker::noop(), queued, 2).is_ok()
    }

    /// Goal: the line is served in order, and nobody passes it.
    #[test]
    fn first_come_first_served() {
        let mut room = Room::default();
        let (mut a, mut b, mut c) = (None, None, None);
        assert!(claim(&mut room, &mut None, 0), "there is room");
        assert!(!claim(&mut room, &mut a, 2) && !claim(&mut room, &mut b, 2));
        assert!(!claim(&mut room, &mut c, 1), "others were here before");
        assert!(room.grant(1, 2).is_some());
        assert!(room.grant(1, 2).is_none(), "the room is promised");
        assert!(!claim(&mut room, &mut b, 1), "it is not the turn of the second");
        assert!(claim(&mut room, &mut a, 1) && a.is_none());
        assert!(room.grant(0, 2).is_some() && claim(&mut room, &mut b, 0));
    }

    /// Goal: who goes away with a place in hand gives it to the next one.
    #[test]
    fn a_place_given_back_is_granted_again() {
        let mut room = Room::default();
        let (mut a, mut b) = (None, None);
        assert!(!claim(&mut room, &mut a, 2) && !claim(&mut room, &mut b, 2));
        assert!(room.grant(1, 2).is_some());
        assert!(room.leave(a.unwrap(), 1, 2).next.is_some(), "the second one is woken");
        assert!(claim(&mut room, &mut b, 1));
        assert_eq!(room.granted(), 0);
        assert!(claim(&mut room, &mut None, 1), "nobody waits");
    }
}
