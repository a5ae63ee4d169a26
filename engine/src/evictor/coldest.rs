//! LRU and FIFO: the lowest epochs go first.

use super::{Need, Victim, histogram::Histogram, may_go};
use crate::{
    index::{Index, SHARDS},
    recency::{Queue, Recency},
    types::Location,
};

pub(super) fn choose(
    index: &Index,
    recency: &Recency,
    need: Need,
    spared: &[Location],
) -> Vec<Victim> {
    let now = recency.epoch();
    let mut ages = Histogram::<1>::new(recency.floor(Queue::Small), now);
    for shard in 0..SHARDS {
        index.sweep(shard, &mut |_, entry| {
            if may_go(&entry, spared) {
                ages.add(entry.epoch, 0, entry.size.bytes());
            }
        });
    }
    if ages.has_future {
        for shard in 0..SHARDS {
            index.remap(shard, |entry| entry.epoch.min(now));
        }
    }
    recency.raise_floor(Queue::Small, ages.oldest());

    // Rows below `last` go as a whole; of `last` as many as are still needed then. If all are too few, all go.
    let (mut last, mut left) = (0, need);
    for (row, [sum]) in ages.rows().iter().enumerate() {
        last = row;
        let rest = left.less(sum.entries, sum.bytes);
        if rest.is_met() || row + 1 == ages.rows().len() {
            break;
        }
        left = rest;
    }
    let last = ages.age(last);
    let mut victims = Vec::with_capacity(need.entries.min(1 << 20) as usize);
    for shard in 0..SHARDS {
        index.sweep(shard, &mut |hash, entry| {
            // Nearly all are younger: asked first.
            if entry.epoch > last || !may_go(&entry, spared) {
                return;
            }
            if entry.epoch == last {
                if left.is_met() {
                    return;
                }
                left = left.less(1, entry.size.bytes());
            }
            victims.push(Victim::new(hash, entry));
        });
    }
    victims
}
