//! The clock of accesses: what is written into the epoch of an entry when it is stored or read.
//!
//! An epoch is 16 bits in an index entry. What they mean depends on the policy, in one of two layouts ([`layout`]):
//! plain epochs that grow with time (LRU: of the last use, FIFO: of the store), or the place in the queues of S3-FIFO.
//! Evicted entries have epoch 0 and are no business of this room.
//!
//! 1. A clock advances after every `step` = 1/1024 of the capacity of entries that were given its epoch, not with time:
//!    so about as many entries have one epoch as another, and what is chosen by epoch is exact to 0.1 % of the
//!    capacity.
//! 2. A hit of an entry that already has the current epoch stores nothing, and without a limit no hit does.
//! 3. Epochs never wrap. Before they run out, [`Recency::renumber`] closes the gaps between them and keeps their order.
//!    Who reads or stores while that goes on may leave an epoch of before: one above the clock counts as the clock's,
//!    and the next choice of victims puts it right.
//! 4. Nothing here is exact under contention, and nothing needs to be: at worst an age is wrong by a few steps.

mod ghost;
mod layout;
#[cfg(test)]
mod tests;

use crate::{
    index::{Access, Entry, Index, SHARDS},
    options::Evict,
    stats::{STRIPES, stripe},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};
use ghost::Ghost;
use layout::{EPOCH_MAX, Map, ORDER_MAX};
pub(crate) use layout::{Layout, Place, Queue};

/// Steps in which a whole capacity of entries is promoted.
const STEPS: u64 = 1024;
/// The small queue of S3-FIFO is a tenth of the capacity, so its clock runs faster.
const SMALL_STEPS: u64 = 4 * STEPS;
/// From here on epochs are renumbered when victims are chosen: what is left is for what happens until then.
const EPOCHS_NEAR: u32 = EPOCH_MAX - (EPOCH_MAX >> 3);
const ORDERS_NEAR: u32 = ORDER_MAX - (ORDER_MAX >> 2);

/// A number that grows by one after so many ticks.
#[derive(Debug)]
struct Clock {
    now: AtomicU32,
    /// All ticks so far.
    ticks: AtomicU64,
    /// Where the oldest evictable entry was found last; what is older counts as this.
    floor: AtomicU32,
}

impl Clock {
    const fn new() -> Self {
        Self { now: AtomicU32::new(1), ticks: AtomicU64::new(0), floor: AtomicU32::new(1) }
    }

    fn set(&self, now: u32) {
        self.now.store(now, Relaxed);
        self.floor.store(1, Relaxed);
    }

    #[inline]
    fn tick(&self, count: u64, step: u64) {
        let before = self.ticks.fetch_add(count, Relaxed);
        let passed = (before + count) / step - before / step;
        if passed > 0 {
            self.now.fetch_add(u32::try_from(passed).unwrap_or(u32::MAX >> 1), Relaxed);
        }
    }
}

/// Ticks of some threads that have not come to the clock yet.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Stripe(AtomicU32);

/// The clock of accesses of one open store.
#[derive(Debug)]
pub(crate) struct Recency {
    policy: Evict,
    /// Entries; 0 = there is no limit.
    capacity: AtomicU64,
    /// Of all entries; with S3-FIFO of the small queue.
    clock: Clock,
    /// Of the main queue of S3-FIFO.
    main: Clock,
    stripes: [Stripe; STRIPES],
    /// Not asked by readers.
    ghost: Mutex<Ghost>,
}

impl Recency {
    /// A clock without a limit, for an index of nothing.
    #[must_use]
    pub(crate) fn new(policy: Evict) -> Self {
        Self {
            policy,
            capacity: AtomicU64::new(0),
            clock: Clock::new(),
            main: Clock::new(),
            stripes: Default::default(),
            ghost: Mutex::default(),
        }
    }

    pub(crate) const fn policy(&self) -> Evict {
        self.policy
    }

    /// What the 16 bits mean.
    pub(crate) const fn layout(&self) -> Layout {
        Layout::of(self.policy)
    }

    /// Says how many entries there is room for; of a limit in bytes, as many as there are when it is reached. 0 = there
    /// is no limit. A change of less than a quarter is cheap; a larger one makes S3-FIFO forget its ghosts.
    pub(crate) fn set_capacity(&self, entries: u64) {
        if self.capacity.swap(entries, Relaxed) != entries && self.policy == Evict::S3Fifo {
            self.ghost().set_capacity(entries);
        }
    }

    fn ghost(&self) -> MutexGuard<'_, Ghost> {
        self.ghost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ticks until the clock advances; `None` without a limit.
    #[inline]
    fn step(&self, steps: u64) -> Option<u64> {
        match self.capacity.load(Relaxed) {
            0 => None,
            capacity => Some((capacity / steps).max(1)),
        }
    }

    /// What a read leaves in the entries it looks up.
    #[inline]
    #[must_use]
    pub(crate) fn access(&self) -> Access {
        match self.policy {
            Evict::Lru | Evict::S3Fifo if self.capacity.load(Relaxed) == 0 => Access::None,
            Evict::Lru => Access::Epoch(self.epoch()),
            Evict::S3Fifo => Access::Count,
            Evict::Fifo | Evict::None => Access::None,
        }
    }

    /// A read hit an entry that had this epoch before.
    #[inline]
    pub(crate) fn hit(&self, before: u16) {
        if self.policy == Evict::Lru && before != self.epoch() {
            self.promoted();
        }
    }

    /// An entry was given the current epoch. Threads come to the clock's cache line only once in a while.
    fn promoted(&self) {
        let Some(step) = self.step(STEPS) else { return };
        let batch = (step / (4 * STRIPES as u64)).clamp(1, 1 << 10);
        // The count may wrap: at most one batch is short then.
        let counted = || self.stripes[stripe()].0.fetch_add(1, Relaxed).wrapping_add(1);
        if batch == 1 || u64::from(counted()).is_multiple_of(batch) {
            self.clock.tick(batch, step);
        }
    }

    /// The epoch of an entry that is stored for the first time, or again after it was evicted.
    #[must_use]
    pub(crate) fn admit(&self, hash: u64) -> u16 {
        if self.policy != Evict::S3Fifo {
            let epoch = self.epoch();
            if self.policy != Evict::None {
                self.promoted();
            }
            return epoch;
        }
        let is_known = self.capacity.load(Relaxed) > 0 && self.ghost().take(hash);
        let (queue, steps) = match is_known {
            true => (Queue::Main, STEPS),
            false => (Queue::Small, SMALL_STEPS),
        };
        let place = Place { queue, order: self.order(queue), uses: 0 };
        if let Some(step) = self.step(steps) {
            self.clock_of(queue).tick(1, step);
        }
        place.pack()
    }

    /// The epoch of an entry that takes the place of one that had this epoch: to store again is to use.
    #[must_use]
    pub(crate) fn readmit(&self, hash: u64, before: u16) -> u16 {
        match self.policy {
            _ if before == Entry::EVICTED => self.admit(hash),
            Evict::S3Fifo => before + u16::from(before & 3 < 3),
            Evict::Lru if before == self.epoch() => before,
            _ => self.admit(hash),
        }
    }

    /// The current epoch, if epochs are plain.
    #[inline]
    pub(crate) fn epoch(&self) -> u16 {
        self.clock.now.load(Relaxed).min(EPOCH_MAX) as u16
    }

    /// Where the next entry of that queue is put.
    #[inline]
    pub(crate) fn order(&self, queue: Queue) -> u16 {
        self.clock_of(queue).now.load(Relaxed).min(ORDER_MAX) as u16
    }

    fn clock_of(&self, queue: Queue) -> &Clock {
        match queue {
            Queue::Small => &self.clock,
            Queue::Main => &self.main,
        }
    }

    /// The oldest epoch that need be told apart; entries below it count as of it. Plain epochs are those of the small
    /// queue.
    pub(crate) fn floor(&self, queue: Queue) -> u16 {
        let clock = self.clock_of(queue);
        clock.floor.load(Relaxed).min(clock.now.load(Relaxed)).min(EPOCH_MAX) as u16
    }

    /// Nothing evictable is older than this.
    pub(crate) fn raise_floor(&self, queue: Queue, floor: u16) {
        self.clock_of(queue).floor.store(u32::from(floor), Relaxed);
    }

    /// The order in the main queue after `moved` entries more, and how to make it so.
    pub(crate) fn main_after(&self, moved: u64) -> u16 {
        let step = self.step(STEPS).unwrap_or(1);
        let passed = (self.main.ticks.load(Relaxed) % step + moved) / step;
        let passed = u32::try_from(passed).unwrap_or(ORDER_MAX).min(ORDER_MAX);
        (self.main.now.load(Relaxed) + passed).min(ORDER_MAX) as u16
    }

    /// `moved` entries were put at the end of the main queue.
    pub(crate) fn moved_to_main(&self, moved: u64) {
        self.main.tick(moved, self.step(STEPS).unwrap_or(1));
    }

    /// An entry leaves the small queue: if it comes again, it is no stranger.
    pub(crate) fn remember(&self, hashes: impl Iterator<Item = u64>) {
        let mut ghost = self.ghost();
        hashes.for_each(|hash| ghost.add(hash));
    }

    /// Whether epochs run out soon. Whoever chooses victims renumbers first; without choices, somebody else must.
    #[must_use]
    pub(crate) fn needs_renumbering(&self) -> bool {
        let now = |clock: &Clock| clock.now.load(Relaxed);
        match self.layout() {
            Layout::Epochs => now(&self.clock) > EPOCHS_NEAR,
            Layout::Queues => now(&self.clock).max(now(&self.main)) > ORDERS_NEAR,
        }
    }

    /// Closes the gaps between epochs and keeps their order. Two passes over the index.
    pub(crate) fn renumber(&self, index: &Index) {
        let counts = count(index);
        self.apply(index, &Map::dense(&counts, self.layout()));
    }

    /// Makes the index's epochs this clock's. `written` is the policy they were written under; `None` if they have no
    /// meaning (older checkpoints): then all count as equally cold, those too that look evicted.
    ///
    /// Entries that come from footers have no epoch: whoever loads them gives them 1, which is the coldest there is.
    pub(crate) fn restore(&self, index: &Index, written: Option<Evict>) {
        let layout = written.map_or(Layout::Epochs, Layout::of);
        if written.is_none() {
            (0..SHARDS).for_each(|shard| index.reset_epochs(shard, 1));
        }
        let counts = count(index);
        if layout != self.layout() {
            self.apply(index, &Map::converted(&counts, self.layout()));
            return;
        }
        self.set_clocks(Map::tops(&counts, layout));
        if self.needs_renumbering() {
            self.apply(index, &Map::dense(&counts, layout));
        }
    }

    /// Order: entries first. A reader that stores the clock's old epoch meanwhile leaves one that is too high, which
    /// counts as new; the other way round it would leave one that counts as old.
    fn apply(&self, index: &Index, map: &Map) {
        for shard in 0..SHARDS {
            index.remap(shard, |entry| map.of(entry.epoch));
        }
        self.set_clocks(map.tops);
    }

    /// Above the highest epochs there are.
    fn set_clocks(&self, [first, main]: [u16; 2]) {
        self.clock.set(u32::from(first) + 1);
        self.main.set(u32::from(main) + 1);
    }

    /// How long an entry with this epoch was not used, in 1/1024 of the capacity; `None` if the policy does not know.
    #[must_use]
    pub(crate) fn age(&self, epoch: u16) -> Option<u16> {
        let is_known = self.policy == Evict::Lru && self.capacity.load(Relaxed) >= STEPS;
        is_known.then(|| self.epoch().saturating_sub(epoch))
    }

    /// How many entries were used last so many steps before the newest, in powers of two: 0; 1; 2 and 3; and so on. With
    /// S3-FIFO the steps count from the newest of the entry's queue, and from when it entered that. One pass over the
    /// index; evicted entries do not count.
    pub(crate) fn steps_ago(&self, index: &Index) -> [u64; 17] {
        let (counts, layout) = (count(index), self.layout());
        let tops = Map::tops(&counts, layout);
        let mut steps = [0; 17];
        for (epoch, count) in (0..=u16::MAX).zip(counts) {
            let ago = match (layout, Place::unpack(epoch)) {
                (Layout::Epochs, _) => tops[0].saturating_sub(epoch),
                (Layout::Queues, Place { queue, order, .. }) => {
                    tops[usize::from(queue == Queue::Main)].saturating_sub(order)
                }
            };
            steps[(u16::BITS - ago.leading_zeros()) as usize] += u64::from(count);
        }
        steps
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.ghost().bytes()
    }
}

/// How many entries that are not evicted have each epoch.
fn count(index: &Index) -> Vec<u32> {
    let mut counts = vec![0; EPOCH_MAX as usize + 1];
    for shard in 0..SHARDS {
        index.sweep(shard, &mut |_, entry| counts[usize::from(entry.epoch)] += 1);
    }
    counts[usize::from(Entry::EVICTED)] = 0;
    counts
}
