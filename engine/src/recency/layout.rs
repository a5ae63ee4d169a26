//! What the 16 bits of an epoch mean, and how those of one meaning become those of another.
//!
//! | layout | bits   | field | note                                        |
//! |--------|--------|-------|---------------------------------------------|
//! | epochs | 15..0  | epoch | 1 to 65,535, larger = later                 |
//! | queues | 15     | queue | 0 small, 1 main                             |
//! | queues | 14..2  | order | 1 to 8,191, larger = entered the queue later |
//! | queues | 1..0   | uses  | since it entered, at most 3                 |
//!
//! In both, 0 means evicted and is not used. Orders begin at 1; what was loaded with epoch 1, because nothing is known
//! of its use, is the oldest of the small queue.

use crate::options::Evict;

/// The largest epoch.
pub(super) const EPOCH_MAX: u32 = 0xffff;
/// The largest order.
pub(super) const ORDER_MAX: u32 = 0x1fff;
/// Most epochs or orders that are left after renumbering; as many again are no finer than the clock's steps.
const EPOCHS_DENSE: usize = 16 << 10;
const ORDERS_DENSE: usize = 2 << 10;

const MAIN: u16 = 1 << 15;
const ORDER_SHIFT: u32 = 2;
const USES_MASK: u16 = 3;

/// Which of the two meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Plain epochs.
    Epochs,
    /// Places in the queues of S3-FIFO.
    Queues,
}

impl Layout {
    pub(crate) const fn of(policy: Evict) -> Self {
        match policy {
            Evict::Lru | Evict::Fifo | Evict::None => Self::Epochs,
            Evict::S3Fifo => Self::Queues,
        }
    }
}

/// A queue of S3-FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// Strangers.
    Small,
    /// What was used again.
    Main,
}

/// A place in the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) queue: Queue,
    pub(crate) order: u16,
    pub(crate) uses: u16,
}

impl Place {
    #[inline]
    pub(crate) fn pack(self) -> u16 {
        let Self { queue, order, uses } = self;
        debug_assert!(u32::from(order) <= ORDER_MAX && uses <= USES_MASK);
        (if queue == Queue::Main { MAIN } else { 0 }) | order << ORDER_SHIFT | uses
    }

    #[inline]
    pub(crate) const fn unpack(epoch: u16) -> Self {
        let queue = if epoch & MAIN == 0 { Queue::Small } else { Queue::Main };
        Self { queue, order: (epoch & !MAIN) >> ORDER_SHIFT, uses: epoch & USES_MASK }
    }
}

/// A new epoch for each old one.
#[derive(Debug)]
pub(super) struct Map {
    epochs: Vec<u16>,
    /// The highest epoch or order in use afterwards, of the small queue (or of all) and of the main queue.
    pub(super) tops: [u16; 2],
}

impl Map {
    #[inline]
    pub(super) fn of(&self, epoch: u16) -> u16 {
        self.epochs[usize::from(epoch)]
    }

    /// The same order in fewer numbers. `counts` says how many entries have each epoch.
    pub(super) fn dense(counts: &[u32], layout: Layout) -> Self {
        if layout == Layout::Epochs {
            let epochs = ranks(counts, EPOCHS_DENSE);
            let top = epochs.last().copied().unwrap_or(1);
            return Self { epochs, tops: [top, 0] };
        }
        let [small, main] = by_order(counts).map(|orders| ranks(&orders, ORDERS_DENSE));
        let renumbered = |epoch: u16| {
            // Ranks begin at 1, so no place becomes 0.
            let place = Place::unpack(epoch);
            let orders = if place.queue == Queue::Main { &main } else { &small };
            Place { order: orders[usize::from(place.order)], ..place }.pack()
        };
        let top = |orders: &[u16]| orders.last().copied().unwrap_or(1);
        Self { epochs: (0..=u16::MAX).map(renumbered).collect(), tops: [top(&small), top(&main)] }
    }

    /// From the other layout to `to`.
    pub(super) fn converted(counts: &[u32], to: Layout) -> Self {
        match to {
            // All to the main queue, where the coldest goes first as before.
            Layout::Queues => {
                let orders = ranks(counts, ORDERS_DENSE);
                let top = orders.last().copied().unwrap_or(1);
                let place = |order| Place { queue: Queue::Main, order, uses: 0 }.pack();
                Self { epochs: orders.into_iter().map(place).collect(), tops: [0, top] }
            }
            Layout::Epochs => merged(counts),
        }
    }

    /// The highest epochs or orders in use.
    pub(super) fn tops(counts: &[u32], layout: Layout) -> [u16; 2] {
        let top = |counts: &[u32]| counts.iter().rposition(|count| *count > 0).unwrap_or(0) as u16;
        match layout {
            Layout::Epochs => [top(counts), 0],
            Layout::Queues => by_order(counts).map(|orders| top(&orders)),
        }
    }
}

/// Entries by order, of the small queue and of the main queue.
fn by_order(counts: &[u32]) -> [Vec<u32>; 2] {
    let mut orders = [vec![0; ORDER_MAX as usize + 1], vec![0; ORDER_MAX as usize + 1]];
    for (epoch, count) in (0..=u16::MAX).zip(counts).filter(|(_, count)| **count > 0) {
        let place = Place::unpack(epoch);
        orders[usize::from(place.queue == Queue::Main)][usize::from(place.order)] += count;
    }
    orders
}

/// A rank from 1 up for each number, equal only where entries are few or at most `limit` ranks would not suffice.
fn ranks(counts: &[u32], limit: usize) -> Vec<u16> {
    let used = counts.iter().filter(|count| **count > 0).count();
    let sum: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    // Two neighbours that were not joined have more than this together, so there are at most `limit`.
    let joined = if used <= limit { 0 } else { (2 * sum).div_ceil(limit as u64 - 1) };
    let (mut rank, mut in_rank) = (1, 0);
    let next = |count: &u32| {
        let count = u64::from(*count);
        if in_rank > 0 && count > 0 && in_rank + count > joined {
            rank += 1;
            in_rank = 0;
        }
        in_rank += count;
        rank
    };
    counts.iter().map(next).collect()
}

/// Places in the queues as plain epochs: the queues side by side, so that what is a third from the end of its queue
/// comes to stand a third from the end.
fn merged(counts: &[u32]) -> Map {
    let mut places = Vec::new();
    for (queue, orders) in [Queue::Small, Queue::Main].into_iter().zip(by_order(counts)) {
        let sum: u64 = orders.iter().map(|count| u64::from(*count)).sum();
        let mut before = 0;
        for (order, count) in (0..).zip(orders).filter(|(_, count)| *count > 0) {
            before += u64::from(count);
            places.push(((before << 32) / sum, queue, order));
        }
    }
    places.sort_by_key(|(depth, ..)| *depth);
    let mut epochs = vec![1; EPOCH_MAX as usize + 1];
    let mut top = 0;
    for (_, queue, order) in places {
        top += 1;
        for uses in 0..=USES_MASK {
            let order: u16 = order;
            let epoch = if queue == Queue::Main { MAIN } else { 0 } | order << ORDER_SHIFT | uses;
            epochs[usize::from(epoch)] = top;
        }
    }
    Map { epochs, tops: [top, 0] }
}
