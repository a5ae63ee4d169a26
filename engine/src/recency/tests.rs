//! The clock, renumbering, other policies' epochs, and the ghosts.

use std::thread;

use super::*;
use crate::{
    index::Size,
    types::{Location, Slot},
};

fn add(index: &Index, number: u64, epoch: u16) {
    let location =
        Location { slot: Slot((number >> 20) as u32), offset: 4096 + number % (1 << 20) * 8 };
    let entry = Entry { location, size: Size::of(128), flags: 0, epoch };
    assert!(!index.insert(number.wrapping_mul(0x9e37_79b9_7f4a_7c15), entry, None));
}

/// Epochs by the number of the entry.
fn epochs(index: &Index) -> Vec<u16> {
    let mut epochs = Vec::new();
    for shard in 0..SHARDS {
        index.sweep(shard, &mut |_, entry| epochs.push((entry.location, entry.epoch)));
    }
    epochs.sort_unstable();
    epochs.into_iter().map(|(_, epoch)| epoch).collect()
}

/// Goal: the clock advances after a thousandth of the capacity, and a hit in the same epoch does not count.
#[test]
fn the_clock_counts_promotions() {
    let recency = Recency::new(Evict::Lru);
    recency.set_capacity(4_096);
    for number in 0..40 {
        assert_eq!(recency.access(), Access::Epoch(1 + number / 4));
        recency.hit(recency.epoch());
        if number % 2 == 0 {
            recency.hit(60_000);
        } else {
            assert_eq!(recency.admit(9), 1 + number / 4);
        }
    }
    assert_eq!(recency.readmit(9, recency.epoch()), 11);
    assert_eq!((recency.readmit(9, 3), recency.readmit(9, Entry::EVICTED)), (11, 11));
    assert_eq!((recency.age(1), recency.age(50)), (Some(10), Some(0)));
}

/// Goal: without a limit the clock stands and a hit leaves nothing; policies that do not look at reads never do.
#[test]
fn without_a_limit_nothing_is_stored() {
    for policy in [Evict::Lru, Evict::Fifo, Evict::S3Fifo, Evict::None] {
        let recency = Recency::new(policy);
        let first = recency.admit(1);
        for _ in 0..10_000 {
            assert_eq!(recency.access(), Access::None);
            recency.hit(9);
            assert_eq!(recency.admit(1), first);
        }
        assert!(first > 0 && recency.bytes() == 0);
        recency.set_capacity(100);
        let counts = match policy {
            Evict::Lru => Access::Epoch(1),
            Evict::S3Fifo => Access::Count,
            _ => Access::None,
        };
        assert_eq!(recency.access(), counts, "{policy:?}");
    }
}

/// Goal: with a large capacity threads count apart, and the clock is right all the same.
#[test]
fn threads_count_apart() {
    let recency = Recency::new(Evict::Lru);
    recency.set_capacity(1 << 20);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..100 << 10).for_each(|_| recency.hit(60_000)));
        }
    });
    assert!((400..=401).contains(&recency.epoch()), "{} epochs of 1,024", recency.epoch());
}

/// Goal: renumbering keeps the order, closes gaps, leaves evicted entries alone, and sets the clock above all.
#[test]
fn renumbering_keeps_the_order() {
    let (index, recency) = (Index::new(), Recency::new(Evict::Lru));
    for number in 1..=60_000_u64 {
        // More epochs than are left after it; every hundredth entry is evicted.
        add(&index, number, if number % 100 == 0 { 0 } else { number as u16 });
    }
    recency.restore(&index, Some(Evict::Fifo));
    let after = epochs(&index);
    let living = |number: &usize| !(number + 1).is_multiple_of(100);
    let renumbered: Vec<u16> =
        (0..after.len()).filter(living).map(|number| after[number]).collect();
    assert!(renumbered.is_sorted(), "the order has changed");
    assert!((0..after.len()).all(|number| (after[number] == 0) != living(&number)));
    let mut distinct = renumbered.clone();
    distinct.dedup();
    assert!((7_000..=16_384).contains(&distinct.len()), "{} epochs are left", distinct.len());
    assert_eq!(distinct, (1..=distinct.len() as u16).collect::<Vec<_>>(), "gaps are left");
    assert_eq!(usize::from(recency.epoch()), distinct.len() + 1);
    assert!(!recency.needs_renumbering());

    // Few epochs: none are joined.
    index.remap(0, |_| 60_000);
    recency.renumber(&index);
    let before = epochs(&index);
    recency.renumber(&index);
    assert_eq!(epochs(&index), before);
}

/// Goal: the same of both queues, which stay apart, and uses stay.
#[test]
fn renumbering_keeps_queues() {
    let (index, recency) = (Index::new(), Recency::new(Evict::S3Fifo));
    let before = |number: u64| Place {
        queue: if number.is_multiple_of(3) { Queue::Main } else { Queue::Small },
        order: (1_000 + number) as u16,
        uses: (number % 4) as u16,
    };
    (1..=7_000).for_each(|number| add(&index, number, before(number).pack()));
    recency.restore(&index, Some(Evict::S3Fifo));
    let after: Vec<_> = epochs(&index).into_iter().map(Place::unpack).collect();
    for queue in [Queue::Small, Queue::Main] {
        let orders: Vec<_> = after.iter().filter(|p| p.queue == queue).map(|p| p.order).collect();
        assert!(orders.is_sorted() && orders[0] == 1, "{queue:?}");
        assert!(usize::from(*orders.last().expect("one")) <= 2_048, "{queue:?}");
        assert_eq!(recency.order(queue), orders.last().expect("one") + 1);
    }
    for (number, place) in (1..).zip(after) {
        assert_eq!((place.queue, place.uses), (before(number).queue, before(number).uses));
    }
}

/// Goal: another policy takes over the order: what was colder is not warmer.
#[test]
fn another_policy_keeps_the_order() {
    let (index, s3) = (Index::new(), Recency::new(Evict::S3Fifo));
    (1..=5_000).for_each(|number| add(&index, number, 100 + (number * 3) as u16));
    s3.restore(&index, Some(Evict::Lru));
    let places: Vec<_> = epochs(&index).into_iter().map(Place::unpack).collect();
    assert!(places.iter().all(|place| place.queue == Queue::Main && place.uses == 0));
    assert!(places.windows(2).all(|pair| pair[0].order <= pair[1].order));
    assert!(s3.order(Queue::Main) > places[4_999].order && s3.order(Queue::Small) == 1);

    // And back, with strangers beside: each is as deep as it was in its queue.
    for number in 5_001..=5_500 {
        let order = (number - 5_000) as u16;
        add(&index, number, Place { queue: Queue::Small, order, uses: 2 }.pack());
    }
    let lru = Recency::new(Evict::Lru);
    lru.restore(&index, Some(Evict::S3Fifo));
    let after = epochs(&index);
    assert!(after[..5_000].is_sorted() && after[5_000..].is_sorted());
    assert!(after[0] < after[5_250] && after[4_999] > after[5_250], "strangers are apart");
    assert!(lru.epoch() > *after.iter().max().expect("one"));
    assert!(after.iter().all(|epoch| *epoch > 0));
}

/// Goal: epochs that mean nothing become the coldest, those too that look evicted; else the clock stands above all.
#[test]
fn restoring_sets_the_clock() {
    let index = Index::new();
    (1..=100).for_each(|number| add(&index, number, number as u16 % 50));
    let recency = Recency::new(Evict::Lru);
    recency.restore(&index, Some(Evict::Lru));
    assert_eq!(recency.epoch(), 50);
    assert_eq!(epochs(&index).iter().filter(|epoch| **epoch == 0).count(), 2);
    recency.restore(&index, None);
    assert_eq!((recency.epoch(), epochs(&index)), (2, vec![1; 100]));
    recency.restore(&Index::new(), Some(Evict::S3Fifo));
    assert!(recency.epoch() > 0 && recency.policy() == Evict::Lru);
    add(&index, 101, u16::MAX);
    recency.restore(&index, Some(Evict::Lru));
    assert_eq!(recency.epoch(), 3);
}

/// Goal: as many ghosts as the main queue has entries, each once, in six bytes for an entry of the capacity.
#[test]
fn ghosts_are_remembered_for_a_while() {
    const CAPACITY: u64 = 10_000;
    let hash = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let recency = Recency::new(Evict::S3Fifo);
    recency.set_capacity(CAPACITY);
    assert!(recency.bytes() as u64 <= 6 * CAPACITY + 32, "{} bytes", recency.bytes());
    recency.remember((0..3 * CAPACITY).map(hash));
    recency.set_capacity(CAPACITY - CAPACITY / 5);
    let known = |numbers: std::ops::Range<u64>| {
        let count = numbers.end - numbers.start;
        let is_known = |n: &u64| Place::unpack(recency.admit(hash(*n))).queue == Queue::Main;
        numbers.filter(is_known).count() as f64 / count as f64
    };
    assert!(known(5 * CAPACITY..9 * CAPACITY) < 0.001, "strangers are taken for ghosts");
    assert!(known(0..2 * CAPACITY) < 0.01, "old ghosts walk");
    let lately = known(3 * CAPACITY - CAPACITY * 8 / 10..3 * CAPACITY);
    assert!(lately > 0.9, "{lately} of the late ghosts are left");
    assert!(known(3 * CAPACITY - CAPACITY * 8 / 10..3 * CAPACITY) < 0.01, "a ghost came twice");
    let before = Place { queue: Queue::Main, order: 5, uses: 2 };
    let after = [before.pack(), before.pack() + 1].map(|epoch| recency.readmit(7, epoch));
    assert_eq!(after, [before.pack() + 1; 2], "stored again is used");
}
