//! Queues: what producers and consumers do, and the notes of it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tierce::{Error, Store, collections::Message, collections::Queue};
use tierce_engine::schedule::steps;

use super::{
    case::{Op, What},
    queue_judge::{judge, left},
    world::{Again, Came, Play, World},
};

/// How an item came to somebody, and what became of that.
pub(crate) struct Delivery {
    /// What was pushed; numbers of items differ between queues, these do not.
    pub(crate) value: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Store time at which it was had, at the latest.
    pub(crate) time: u64,
    /// Store time until which nobody else may have it; for ever if it was taken for good.
    pub(crate) until: u64,
    /// When it began to be given back, moved, or removed by its number.
    pub(crate) given_back: u64,
    /// When it was finished for good: begin and end of that.
    pub(crate) finished: Option<(u64, u64)>,
}

/// Something that may take items away, or may have.
pub(crate) struct Loss {
    /// One item, or all of a queue.
    pub(crate) value: Option<u64>,
    pub(crate) queue: usize,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// An item was put at the end of a queue.
pub(crate) struct Pushed {
    pub(crate) value: u64,
    pub(crate) queue: usize,
    pub(crate) start: u64,
    /// The largest number if it failed.
    pub(crate) end: u64,
}

#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) pushed: Vec<Pushed>,
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) losses: Vec<Loss>,
    /// Which item has which number, by queue.
    numbers: BTreeMap<(usize, u64), u64>,
}

pub(crate) struct Queues {
    queues: [Queue<u64>; 2],
    notes: Mutex<Notes>,
}

/// A message that a client has, and the note of its delivery.
type Held = (usize, Message<u64>, usize);

impl Queues {
    pub(crate) fn new(store: &Store) -> tierce::Result<Self> {
        let queues = [store.queue("jobs")?, store.queue("jobs/failed")?];
        Ok(Self { queues, notes: Mutex::default() })
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, world: &World, op: Op) {
        let (start, queue) = (steps(), usize::from(op.key));
        let count = if op.what == What::PushTwo { 2 } else { 1 };
        let values: Vec<u64> = (0..count).map(|_| world.id()).collect();
        let ids = world.plain(&op, || match count {
            1 => self.queues[queue].push(&values[0]).map(|id| id..id + 1),
            _ => self.queues[queue].push_all(values.iter().copied()),
        });
        let end = if ids.is_some() { steps() } else { u64::MAX };
        let mut notes = self.notes();
        for (at, value) in values.into_iter().enumerate() {
            if let Some(ids) = &ids {
                notes.numbers.insert((queue, ids.start + at as u64), value);
            }
            notes.pushed.push(Pushed { value, queue, start, end });
        }
    }

    fn delivered(&self, world: &World, start: u64, value: u64, until: u64) -> usize {
        let now = world.now();
        let finished = (until == u64::MAX).then_some((start, now.step));
        let mut notes = self.notes();
        notes.deliveries.push(Delivery {
            value,
            start,
            end: now.step,
            time: now.time,
            until,
            given_back: u64::MAX,
            finished,
        });
        notes.deliveries.len() - 1
    }

    /// A consumer that failed may have taken one: which one is not known.
    fn perhaps(&self, queue: usize, start: u64) {
        let loss = Loss { value: None, queue, start, end: u64::MAX };
        self.notes().losses.push(loss);
    }

    fn consume(&self, world: &World, op: Op, held: &mut Vec<Held>) {
        let (start, queue) = (steps(), usize::from(op.key));
        if op.what == What::Pull {
            match world.plain(&op, || self.queues[queue].pull()) {
                Some(Some(value)) => drop(self.delivered(world, start, value, u64::MAX)),
                Some(None) => {}
                None => self.perhaps(queue, start),
            }
            return;
        }
        let time = Duration::from_millis([60, 200, 60_000][op.n as usize % 3]);
        if let Some(Some(message)) = world.plain(&op, || self.queues[queue].lease(time)) {
            let (value, until) = (*message, message.leased_until().0);
            let at = self.delivered(world, start, value, until);
            self.notes().numbers.insert((queue, message.id()), value);
            held.push((queue, message, at));
        }
    }

    /// Complains if a lease is said not to be held although nothing ended it.
    fn settled(&self, world: &World, op: Op, at: usize, came: &Came<()>) -> bool {
        match came {
            Came::Back(()) => return true,
            Came::Failed(Error::NotHeld { .. }) => {
                let (now, notes) = (world.now(), self.notes());
                let mine = &notes.deliveries[at];
                let is_lost = |loss: &Loss| {
                    loss.value.is_none_or(|value| value == mine.value) && loss.start <= now.step
                };
                let is_over = mine.until <= now.time || notes.losses.iter().any(is_lost);
                if !is_over && !world.is_faulty() {
                    world.complain(format!("{op:?}: the lease of {} is not held", mine.value));
                }
            }
            Came::Failed(error) => world.expect_failure(&op, error),
            Came::Panicked => {}
        }
        false
    }

    fn settle(&self, world: &World, op: Op, held: &mut Vec<Held>) {
        if held.is_empty() {
            return;
        }
        let which = op.n as usize % held.len();
        if op.what == What::Extend {
            let (_, message, at) = &mut held[which];
            let came = world.call(|| message.extend(Duration::from_millis(300)));
            if self.settled(world, op, *at, &came) {
                self.notes().deliveries[*at].until = message.leased_until().0;
            } else if world.is_faulty() {
                self.notes().deliveries[*at].given_back = 0;
            }
            return;
        }
        let (queue, message, at) = held.swap_remove(which);
        let (start, value) = (steps(), *message);
        if op.what != What::Ack {
            self.notes().deliveries[at].given_back = start;
        }
        let other = 1 - queue;
        let mut number = None;
        let came = world.call(|| match op.what {
            What::Ack => message.ack(),
            What::Release => message.release(),
            What::ReleaseLater => message.release_after(Duration::from_millis(100)),
            _ => message.move_to(&self.queues[other]).map(|id| number = Some(id)),
        });
        let is_done = self.settled(world, op, at, &came);
        let mut notes = self.notes();
        if let Some(id) = number {
            notes.numbers.insert((other, id), value);
        }
        if op.what == What::Move && (is_done || world.is_faulty()) {
            notes.pushed.push(Pushed { value, queue: other, start, end: u64::MAX });
        }
        if op.what == What::Ack && is_done {
            notes.deliveries[at].finished = Some((start, steps()));
        } else if op.what == What::Ack && world.is_faulty() {
            let loss = Loss { value: Some(value), queue, start, end: u64::MAX };
            notes.losses.push(loss);
        }
    }

    fn remove(&self, world: &World, op: Op) {
        let queue = usize::from(op.key);
        let known: Vec<(u64, u64)> = {
            let notes = self.notes();
            let of = notes.numbers.iter().filter(|((of, _), _)| *of == queue);
            of.map(|((_, id), value)| (*id, *value)).collect()
        };
        let Some((id, value)) = known.get(op.n as usize % known.len().max(1)).copied() else {
            return;
        };
        let at = self.may_lose(Some(value), queue);
        match world.plain(&op, || self.queues[queue].remove(id)) {
            Some(true) => self.notes().losses[at].end = steps(),
            // It was there no more.
            Some(false) => self.notes().losses[at].value = Some(u64::MAX),
            None => {}
        }
    }

    /// Puts on record that an item is about to be taken out, or all of them. Before it happens: who is told meanwhile that
    /// a lease is gone looks here.
    fn may_lose(&self, value: Option<u64>, queue: usize) -> usize {
        let mut notes = self.notes();
        notes.losses.push(Loss { value, queue, start: steps(), end: u64::MAX });
        notes.losses.len() - 1
    }

    fn clear(&self, world: &World, op: Op) {
        let queue = usize::from(op.key);
        let at = self.may_lose(None, queue);
        if world.plain(&op, || self.queues[queue].clear()).is_some() {
            self.notes().losses[at].end = steps();
        }
    }

    fn act(&self, world: &World, op: Op, held: &mut Vec<Held>) {
        let queue = &self.queues[usize::from(op.key)];
        match op.what {
            What::Push | What::PushTwo => self.push(world, op),
            What::Pull | What::Lease => self.consume(world, op, held),
            What::RemoveItem => self.remove(world, op),
            What::Clear => self.clear(world, op),
            What::Peek => drop(world.plain(&op, || queue.peek())),
            What::Count => {
                let _ = world.plain(&op, || Ok((queue.len()?, queue.waiting()?)));
            }
            What::Advance => world.advance(op.n),
            _ => self.settle(world, op, held),
        }
    }

    /// Takes everything out, after all leases: their values by queue.
    fn drain(world: &World, queues: &[Queue<u64>; 2]) -> Option<[Vec<u64>; 2]> {
        let mut all = [Vec::new(), Vec::new()];
        for (queue, found) in queues.iter().zip(&mut all) {
            let what = "taking the rest";
            while let Some(value) = world.plain(&what, || queue.pull())? {
                found.push(value);
            }
        }
        Some(all)
    }
}

impl Play for Queues {
    fn play(&self, world: &World, ops: &[Op]) {
        let mut held = Vec::new();
        for op in ops {
            if world.is_dead() {
                break;
            }
            self.act(world, *op, &mut held);
        }
    }

    fn judge(&self, world: &World) {
        judge(&self.notes(), world);
        // Half of the programs look at the queues as they are, the others when they are opened again.
        if world.case.seed.is_multiple_of(2) && !world.is_faulty() {
            let notes = std::mem::take(&mut *self.notes());
            empty(&self.queues, &notes, world, true);
        }
    }

    fn rest(&self) -> Box<dyn Again> {
        Box::new(Rest(std::mem::take(&mut *self.notes())))
    }
}

/// Takes everything out and judges what that is.
fn empty(queues: &[Queue<u64>; 2], notes: &Notes, world: &World, is_kept: bool) {
    let counted = queues.each_ref().map(|queue| queue.len().unwrap_or(usize::MAX));
    // Longer than every lease.
    for _ in 0..20 {
        world.advance(3);
    }
    let waiting = queues.each_ref().map(|queue| queue.waiting().unwrap_or(usize::MAX));
    let Some(found) = Queues::drain(world, queues) else { return };
    for (queue, found) in found.iter().enumerate() {
        let (said, are) = ((counted[queue], waiting[queue]), found.len());
        if said != (are, are) {
            world.complain(format!("queue {queue} counts {said:?} items, and has {are}"));
        }
    }
    left(notes, world, &found, is_kept);
}

struct Rest(Notes);

impl Again for Rest {
    fn again(&self, world: &World, store: &Store, is_kept: bool) {
        let Ok(queues) = Queues::new(store) else {
            return world.complain("the queues do not open again");
        };
        empty(&queues.queues, &self.0, world, is_kept);
    }
}
