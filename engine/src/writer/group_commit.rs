//! Many callers, one append, one sync.
//!
//! A caller that finds nobody at the log leads: it takes its own request and all that wait, carries them out in
//! one turn, and hands the lead to the first that came meanwhile. A caller that finds a leader waits. While the
//! leader is at the device, the next group gathers: the running flush is the batching window.
//!
//! `waiting` and `leading` change together under one lock. Whoever sets `leading` carries out the queue or hands
//! the lead on; a leader that panics fails everyone who waits rather than leave them hanging.

use std::{collections::VecDeque, sync::Arc};

use super::request::{Outcome, Request};
use crate::{
    error::{Error, Result},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        panicking,
    },
};

/// Bytes of records that one group may take, unless a single request is larger.
const GROUP_BYTES_MAX: u64 = 4 << 20;

/// Where a follower learns its fate.
#[derive(Debug, Default)]
pub(super) struct Seat {
    fate: Mutex<Fate>,
    told: Condvar,
    /// Whether a thread waits here, or leads and will. Changes under the queue's lock only: the lead is never
    /// given to a ticket that nobody looks at.
    attended: AtomicBool,
    is_ticket: bool,
}

#[derive(Debug, Default)]
enum Fate {
    #[default]
    Waiting,
    /// It is this caller's turn to lead.
    Lead,
    Done(Result<Outcome>),
}

impl Seat {
    fn lock(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, fate: Fate) {
        *self.lock() = fate;
        self.told.notify_one();
    }

    /// Waits until told; `None` means to lead.
    fn wait(&self) -> Option<Result<Outcome>> {
        let mut fate = self.lock();
        loop {
            match std::mem::take(&mut *fate) {
                Fate::Done(outcome) => return Some(outcome),
                Fate::Lead => return None,
                Fate::Waiting => {}
            }
            fate = self.told.wait(fate).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[derive(Debug)]
struct Waiter {
    seat: Arc<Seat>,
    request: Request,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiter>,
    leading: bool,
}

/// The queue in front of the log.
#[derive(Debug)]
pub(super) struct GroupCommit {
    queue: Mutex<Queue>,
    /// Tickets whose fate is open.
    tickets: AtomicUsize,
    /// Requests that one group may take; keeps a turn short.
    group_max: usize,
}

/// Carries out a group.
pub(super) trait Leader {
    fn lead(&self, requests: &mut [Request]);
}

impl GroupCommit {
    pub(super) fn new(group_max: usize) -> Self {
        Self { queue: Mutex::default(), tickets: AtomicUsize::new(0), group_max }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out `request`, alone or with others, and returns it with its outcome set.
    pub(super) fn commit(&self, leader: &impl Leader, mut request: Request) -> Request {
        {
            let mut queue = self.lock();
            if !queue.leading && queue.waiting.is_empty() {
                queue.leading = true;
                drop(queue);
                let handover = Handover::new(self, None);
                leader.lead(std::slice::from_mut(&mut request));
                drop(handover);
                return request;
            }
            drop(queue);
        }
        let durability = request.durability;
        let seat = self.enqueue(request, false);
        let outcome = self.wait(leader, &seat);
        let ops = super::request::Ops::Batch(Vec::new());
        Request { outcome: Some(outcome), ..Request::new(ops, durability) }
    }

    /// Puts a request into the queue without waiting for it; a ticket is one that its submitter may wait for later.
    pub(super) fn enqueue(&self, request: Request, is_ticket: bool) -> Arc<Seat> {
        let seat = Arc::new(Seat { is_ticket, ..Seat::default() });
        if is_ticket {
            self.tickets.fetch_add(1, Ordering::AcqRel);
        }
        self.lock().waiting.push_back(Waiter { seat: Arc::clone(&seat), request });
        seat
    }

    /// Waits for a request in the queue; leads if nobody does.
    pub(super) fn wait(&self, leader: &impl Leader, seat: &Seat) -> Result<Outcome> {
        if self.attend(seat) {
            self.lead_one_group(leader, Some(seat));
        }
        loop {
            match seat.wait() {
                Some(outcome) => return outcome,
                None => self.lead_one_group(leader, Some(seat)),
            }
        }
    }

    /// Carries out whatever waits, if nobody does; says whether it did anything.
    pub(super) fn drain(&self, leader: &impl Leader) -> bool {
        let mut led = false;
        while !self.lock().waiting.is_empty() && self.take_lead() {
            self.lead_one_group(leader, None);
            led = true;
        }
        led
    }

    /// Whether there are tickets that are not carried out yet.
    pub(super) fn has_tickets(&self) -> bool {
        self.tickets.load(Ordering::Acquire) > 0
    }

    /// Says what became of a request of the queue.
    fn done(&self, seat: &Seat, outcome: Result<Outcome>) {
        if seat.is_ticket {
            self.tickets.fetch_sub(1, Ordering::AcqRel);
        }
        seat.tell(Fate::Done(outcome));
    }

    /// Count of requests that wait.
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// A thread waits at `seat` from now on; says whether it has the lead.
    fn attend(&self, seat: &Seat) -> bool {
        let mut queue = self.lock();
        seat.attended.store(true, Ordering::Relaxed);
        // With nothing in the queue there is nothing to lead: the request is done, or with a leader.
        !queue.waiting.is_empty() && !std::mem::replace(&mut queue.leading, true)
    }

    fn take_lead(&self) -> bool {
        let mut queue = self.lock();
        !std::mem::replace(&mut queue.leading, true)
    }

    /// Carries out the first group of the queue. This thread has the lead and gives it up at the end; `own` is where
    /// it waits itself.
    fn lead_one_group(&self, leader: &impl Leader, own: Option<&Seat>) {
        let handover = Handover::new(self, own);
        let (mut requests, seats) = self.take_group();
        let mut guard = Seats { commit: self, seats };
        leader.lead(&mut requests);
        let seats = std::mem::take(&mut guard.seats);
        for (seat, request) in seats.iter().zip(requests) {
            let outcome = request.outcome.unwrap_or_else(|| Err(unanswered()));
            self.done(seat, outcome);
        }
        drop(handover);
    }

    fn take_group(&self) -> (Vec<Request>, Vec<Arc<Seat>>) {
        let mut queue = self.lock();
        let (mut requests, mut seats, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(next) = queue.waiting.front() {
            let ops = next.request.ops.as_slice();
            let more: u64 = ops.iter().map(super::request::Op::bytes_max).sum();
            let is_full = requests.len() >= self.group_max || bytes + more > GROUP_BYTES_MAX;
            if !requests.is_empty() && is_full {
                break;
            }
            bytes += more;
            let ends = next.request.ends_group();
            if let Some(waiter) = queue.waiting.pop_front() {
                requests.push(waiter.request);
                seats.push(waiter.seat);
            }
            if ends {
                break;
            }
        }
        (requests, seats)
    }
}

fn unanswered() -> Error {
    Error::Stopped { cause: "the thread that wrote for this one failed".to_owned() }
}

/// Gives the lead to the first thread that waits, or to nobody, however the leader ends.
struct Handover<'a> {
    commit: &'a GroupCommit,
    own: Option<&'a Seat>,
    was_panicking: bool,
}

impl<'a> Handover<'a> {
    fn new(commit: &'a GroupCommit, own: Option<&'a Seat>) -> Self {
        Self { commit, own, was_panicking: panicking() }
    }
}

impl Drop for Handover<'_> {
    fn drop(&mut self) {
        let mut queue = self.commit.lock();
        if panicking()
            && !self.was_panicking
            && let Some(own) = self.own
        {
            // This thread waits no longer, though its request may still: the lead would be lost with it.
            own.attended.store(false, Ordering::Relaxed);
        }
        let attended = |waiter: &&Waiter| waiter.seat.attended.load(Ordering::Relaxed);
        match queue.waiting.iter().find(attended) {
            // `leading` stays set: the lead passes from hand to hand.
            Some(next) => next.seat.tell(Fate::Lead),
            None => queue.leading = false,
        }
    }
}

/// Fails everyone of a group if its leader panics.
struct Seats<'a> {
    commit: &'a GroupCommit,
    seats: Vec<Arc<Seat>>,
}

impl Drop for Seats<'_> {
    fn drop(&mut self) {
        for seat in &self.seats {
            self.commit.done(seat, Err(unanswered()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::{
        format::{hash::KeyHasher, record::Kind},
        options::Durability,
        types::SequenceNumber,
        writer::request::{Op, Ops},
    };

    /// Carries requests out, or panics.
    struct Led {
        panics: bool,
    }

    impl Leader for Led {
        fn lead(&self, requests: &mut [Request]) {
            assert!(!self.panics, "on purpose");
            for request in requests {
                request.outcome = Some(Ok(Outcome::Written(SequenceNumber(7))));
            }
        }
    }

    fn request(kind: Kind) -> Request {
        let op = Op::end(kind, b"key", KeyHasher::new(1));
        Request::new(Ops::Batch(vec![op]), Durability::Os)
    }

    /// Goal: a leader that panics in a group without its own request does not take the lead with it: what it waited for
    /// is carried out by the next.
    #[test]
    fn a_leader_that_panics_before_its_own_request() {
        let commit = GroupCommit::new(256);
        // A group of its own: what comes behind a cut is judged after it.
        let _cut = commit.enqueue(request(Kind::ScopeCut), true);
        let seat = commit.enqueue(request(Kind::Delete), false);
        let led = catch_unwind(AssertUnwindSafe(|| commit.wait(&Led { panics: true }, &seat)));
        assert!(led.is_err());
        assert_eq!(commit.waiting(), 1, "its own request was not in the group");
        assert!(commit.drain(&Led { panics: false }), "nobody leads");
        assert_eq!(commit.waiting(), 0);
        let outcome = seat.wait().expect("it is done").expect("it was carried out");
        assert_eq!(outcome, Outcome::Written(SequenceNumber(7)));
    }
}
