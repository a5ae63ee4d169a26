//! S3-FIFO: strangers queue apart, in a tenth of the room, and only what is used again there comes to the main queue.
//!
//! The queues live in the epochs of the entries (`recency::Place`). A batch is what the one-by-one algorithm would do
//! without insertions in between, computed from sums by order and uses; then one pass collects those that go and
//! another moves those that stay:
//!
//! 1. while the small queue has more than a tenth of all: its oldest moves to the main queue if it was used twice, or
//!    goes, and is remembered as a ghost;
//! 2. then the oldest of the main queue goes if it was not used, or moves to the end with one use less;
//! 3. if that is not enough, the rest of the small queue goes.
//!
//! Source: J. Yang, Y. Zhang, Z. Qiu, Y. Yue, K. V. Rashmi, "FIFO queues are all you need for cache eviction", SOSP
//! 2023.

use super::{
    Need, Victim,
    histogram::{Histogram, Sum},
    may_go,
};
use crate::{
    index::{Entry, Index, SHARDS},
    recency::{Place, Queue, Recency},
    types::Location,
};

/// Share of the small queue: one in so many.
const SMALL_SHARE: u64 = 10;
/// Uses that bring an entry from the small queue to the main queue.
const USES_TO_MAIN: usize = 2;
const USES: usize = 4;

type Ages = Histogram<USES>;

/// What becomes of the entries of one row.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    /// Entries with fewer uses go.
    go_below: usize,
    /// Of those that are left and have fewer uses than this, `quota` go; the others stay where they are.
    some_below: usize,
    quota: Need,
    /// Where the others move; 0 = nowhere.
    moved_to: u16,
}

/// What becomes of every entry.
#[derive(Debug)]
struct Plan {
    small: Vec<Fate>,
    main: Vec<Fate>,
    /// The newest order in either queue to which anything happens.
    reach: [u16; 2],
    /// Count of moves to the main queue.
    moved: u64,
}

pub(super) fn choose(
    index: &Index,
    recency: &Recency,
    need: Need,
    spared: &[Location],
) -> Vec<Victim> {
    let now = [recency.order(Queue::Small), recency.order(Queue::Main)];
    let mut small = Ages::new(recency.floor(Queue::Small), now[0]);
    let mut main = Ages::new(recency.floor(Queue::Main), now[1]);
    for shard in 0..SHARDS {
        index.sweep(shard, &mut |_, entry| {
            if may_go(&entry, spared) {
                let place = Place::unpack(entry.epoch);
                let ages = if place.queue == Queue::Small { &mut small } else { &mut main };
                ages.add(place.order, usize::from(place.uses), entry.size.bytes());
            }
        });
    }
    if small.has_future || main.has_future {
        clamp(index, now);
    }
    recency.raise_floor(Queue::Small, small.oldest());
    recency.raise_floor(Queue::Main, main.oldest());

    let mut plan = Plan::new(&small, &main, need, recency);
    let mut victims = Vec::with_capacity(need.entries.min(1 << 20) as usize);
    let mut strangers = Vec::new();
    for shard in 0..SHARDS {
        index.sweep(shard, &mut |hash, entry| {
            let place = Place::unpack(entry.epoch);
            // Nearly all are younger: asked first.
            if plan.spares(place) || !may_go(&entry, spared) {
                return;
            }
            if plan.fate(&small, &main, place).takes(&entry, place) {
                if place.queue == Queue::Small {
                    strangers.push(hash);
                }
                victims.push(Victim::new(hash, entry));
            }
        });
    }
    recency.remember(strangers.into_iter());
    if plan.moved > 0 {
        for shard in 0..SHARDS {
            index.remap(shard, |entry| {
                let place = Place::unpack(entry.epoch);
                if plan.spares(place) || !may_go(&entry, spared) {
                    return entry.epoch;
                }
                plan.fate(&small, &main, place).moves(place).map_or(entry.epoch, Place::pack)
            });
        }
        recency.moved_to_main(plan.moved);
    }
    victims
}

/// Takes back orders of before a renumbering.
fn clamp(index: &Index, [small, main]: [u16; 2]) {
    for shard in 0..SHARDS {
        index.remap(shard, |entry| {
            let place = Place::unpack(entry.epoch);
            let now = if place.queue == Queue::Small { small } else { main };
            Place { order: place.order.min(now), ..place }.pack()
        });
    }
}

impl Fate {
    /// Whether this entry goes.
    fn takes(&mut self, entry: &Entry, place: Place) -> bool {
        let uses = usize::from(place.uses);
        if uses < self.go_below {
            return true;
        }
        let is_some = uses < self.some_below && !self.quota.is_met();
        if is_some {
            self.quota = self.quota.less(1, entry.size.bytes());
        }
        is_some
    }

    /// Where an entry moves that neither goes nor stays there. What may have been taken is not moved: it must be found
    /// as it was.
    fn moves(self, place: Place) -> Option<Place> {
        let uses = usize::from(place.uses);
        if self.moved_to == 0 || uses < self.go_below.max(self.some_below) {
            return None;
        }
        let left = match place.queue {
            Queue::Small => 0,
            Queue::Main => uses - self.go_below,
        };
        Some(Place { queue: Queue::Main, order: self.moved_to, uses: left as u16 })
    }
}

impl Plan {
    fn new(small: &Ages, main: &Ages, need: Need, recency: &Recency) -> Self {
        let mut plan = Self {
            small: vec![Fate::default(); small.rows().len()],
            main: vec![Fate::default(); main.rows().len()],
            reach: [0; 2],
            moved: 0,
        };
        let left = plan.shrink_small(small, main, need, recency);
        let left = plan.pass_main(main, left, recency);
        plan.take_rest(small, left);
        plan.reach = [(&plan.small, small), (&plan.main, main)].map(|(fates, ages)| {
            let last = fates.iter().rposition(|fate| fate.go_below + fate.some_below > 0);
            last.map_or(0, |row| ages.age(row))
        });
        plan
    }

    /// Whether nothing happens to entries of this age.
    #[inline]
    fn spares(&self, place: Place) -> bool {
        place.order > self.reach[usize::from(place.queue == Queue::Main)]
    }

    #[inline]
    fn fate(&mut self, small: &Ages, main: &Ages, place: Place) -> &mut Fate {
        match place.queue {
            Queue::Small => &mut self.small[small.row(place.order)],
            Queue::Main => &mut self.main[main.row(place.order)],
        }
    }

    /// The small queue down to its share. Says what is still needed.
    fn shrink_small(&mut self, small: &Ages, main: &Ages, need: Need, recency: &Recency) -> Need {
        // In bytes if bytes are what is short.
        let size = |sum: Sum| if need.bytes > 0 { sum.bytes } else { sum.entries };
        let share = size(small.sum().plus(main.sum())) / SMALL_SHARE;
        let mut excess = size(small.sum()).saturating_sub(share);
        let mut left = need;
        for (fate, row) in self.small.iter_mut().zip(small.rows()) {
            if excess == 0 || left.is_met() {
                break;
            }
            let goes = sum(&row[..USES_TO_MAIN]);
            let stays = sum(&row[USES_TO_MAIN..]);
            if stays.entries > 0 {
                fate.moved_to = recency.main_after(self.moved);
                self.moved += stays.entries;
            }
            // Of the last row only what is above the share.
            let all = size(goes.plus(stays));
            let goes = if all > excess { goes.part(excess, all) } else { goes };
            let after = left.less(goes.entries, goes.bytes);
            if after.is_met() {
                (fate.some_below, fate.quota) = (USES_TO_MAIN, left);
            } else if all > excess {
                let quota = Need { entries: goes.entries, bytes: 0 };
                (fate.some_below, fate.quota) = (USES_TO_MAIN, quota);
            } else {
                fate.go_below = USES_TO_MAIN;
            }
            excess = excess.saturating_sub(all);
            left = after;
        }
        left
    }

    /// Rounds through the main queue: each takes one use from those it passes.
    fn pass_main(&mut self, main: &Ages, need: Need, recency: &Recency) -> Need {
        let mut left = need;
        for round in 0..USES {
            for (fate, row) in self.main.iter_mut().zip(main.rows()) {
                if left.is_met() {
                    return left;
                }
                let after = left.less(row[round].entries, row[round].bytes);
                if after.is_met() {
                    (fate.some_below, fate.quota) = (round + 1, left);
                    return after;
                }
                fate.go_below = round + 1;
                let stays = sum(&row[round + 1..]).entries;
                if stays > 0 {
                    fate.moved_to = recency.main_after(self.moved);
                    self.moved += stays;
                }
                left = after;
            }
        }
        left
    }

    /// Whatever is left of the small queue.
    fn take_rest(&mut self, small: &Ages, need: Need) {
        let mut left = need;
        for (fate, row) in self.small.iter_mut().zip(small.rows()) {
            if left.is_met() {
                return;
            }
            let all = sum(row);
            let after = left.less(all.entries, all.bytes);
            if after.is_met() && fate.some_below == 0 && fate.go_below == 0 {
                (fate.some_below, fate.quota) = (USES, left);
            } else {
                fate.go_below = USES;
            }
            left = after;
        }
    }
}

fn sum(ways: &[Sum]) -> Sum {
    ways.iter().fold(Sum::default(), |sum, next| sum.plus(*next))
}
