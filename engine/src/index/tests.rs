//! The verbs of the index one by one: what they promise besides what the model compares.

use super::*;
use crate::types::Slot;
use proptest::prelude::*;
use std::{
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

/// SplitMix64: a test that fails fails again.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A place that no other number has.
pub(super) fn place(number: u64) -> Location {
    Location { slot: Slot((number >> 20) as u32), offset: 4096 + (number & 0xf_ffff) * 8 }
}

fn entry_at(number: u64) -> Entry {
    Entry { location: place(number), size: Size::of(150), flags: 0, epoch: 1 }
}

pub(super) fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_key(|entry| entry.location);
    entries
}

pub(super) fn found(candidates: &Candidates) -> Vec<Entry> {
    sorted(candidates.iter().collect())
}

/// The packed entries of a shard, sorted by tag.
fn words_of(index: &Index, shard: usize) -> Vec<Words> {
    index.shards[shard].read().words().collect()
}

pub(super) fn check(index: &Index) {
    for shard in &index.shards {
        shard.read().check();
    }
}

/// Goal: a shard that loses its entries gives its memory back, and an empty one has none.
#[test]
fn memory_follows_the_count() {
    let index = Index::new();
    assert_eq!(index.bytes(), 0);
    let mut random = Random(4);
    let hashes: Vec<u64> = (0..20_000).map(|_| random.next()).collect();
    for (number, hash) in (0..).zip(&hashes) {
        assert!(!index.insert(*hash, entry_at(number), None));
    }
    let full = index.bytes();
    for (number, hash) in (0..).zip(&hashes).skip(2_000) {
        assert!(index.remove(*hash, place(number)));
    }
    check(&index);
    assert!(index.bytes() < full / 4, "{} of {full} bytes left", index.bytes());
    for (number, hash) in (0..).zip(&hashes).take(2_000) {
        assert!(index.remove(*hash, place(number)));
    }
    assert_eq!((index.len(), index.bytes()), (0, 0));
    assert!(!index.insert(1, entry_at(1), None));
    index.clear();
    assert_eq!((index.len(), index.bytes()), (0, 0));
}

/// Goal: at most 25 bytes for a key, wherever growth stops.
#[test]
fn a_key_costs_25_bytes() {
    let index = Index::new();
    let mut random = Random(5);
    for number in 1..=1_000_000_u64 {
        assert!(!index.insert(random.next(), entry_at(number), None));
        if number >= 100_000 && number % 20_000 == 0 {
            let each = index.bytes() as f64 / number as f64;
            assert!((18.0..=25.0).contains(&each), "{each} bytes for each of {number} keys");
        }
    }
    check(&index);
}

/// Goal: a lookup leaves its epoch and nothing else, says which was there before, and a peek leaves nothing.
#[test]
fn a_lookup_leaves_its_epoch() {
    let index = Index::new();
    let hash = 0xfedc_ba98_7654_3210;
    let entry = Entry { flags: 0xf, size: Size::of(u64::MAX), epoch: 5, ..entry_at(9) };
    assert!(!index.insert(hash, entry, None));
    let before = words_of(&index, 0xfe)[0];
    assert_eq!(found(&index.peek(hash)), [entry]);
    assert_eq!(words_of(&index, 0xfe), [before]);
    assert_eq!(found(&index.lookup(hash, Access::Epoch(0xffff))), [entry]);
    assert_eq!(found(&index.peek(hash)), [Entry { epoch: 0xffff, ..entry }]);
    assert_eq!(words_of(&index, 0xfe), [[before[0] | 0xffff, before[1]]]);
    assert!(
        found(&index.lookup(hash ^ 1 << 8, Access::Epoch(7))).is_empty(),
        "a neighbour was taken for the key"
    );
    assert_eq!(
        found(&index.lookup(hash ^ 0xff, Access::Epoch(0xffff))).len(),
        1,
        "the lowest 8 bits do not matter"
    );
}

/// Goal: counts stop at 3 and leave the rest of the epoch alone; without access nothing is left.
#[test]
fn a_lookup_counts_to_three() {
    let index = Index::new();
    let entry = Entry { epoch: 0x8ff8, ..entry_at(9) };
    assert!(!index.insert(7, entry, None));
    for before in [0x8ff8, 0x8ff9, 0x8ffa, 0x8ffb, 0x8ffb] {
        assert_eq!(found(&index.lookup(7, Access::Count)), [Entry { epoch: before, ..entry }]);
    }
    assert_eq!(found(&index.lookup(7, Access::None))[0].epoch, 0x8ffb);
    assert_eq!(found(&index.peek(7))[0].epoch, 0x8ffb);
}

/// Goal: an evicted entry is found by everyone but a later snapshot, and stays evicted until it is displaced.
#[test]
fn an_evicted_entry_stays_evicted() {
    let index = Index::new();
    let entry = Entry { epoch: 8, flags: Entry::EVICTABLE, ..entry_at(9) };
    assert!(!index.insert(7, entry, None));
    let before = index.snapshot();
    assert!(!index.evict(7, entry.location, 9), "it was used since");
    assert!(!index.evict(7, place(10), 8), "it has moved since");
    assert!(index.evict(7, entry.location, 8));
    assert!(!index.evict(7, entry.location, 8), "it was evicted twice");
    assert!(!index.evict(7, entry.location, Entry::EVICTED), "it was evicted twice");
    let evicted = Entry { epoch: Entry::EVICTED, ..entry };
    assert!(evicted.is_evicted() && !entry.is_evicted());
    for access in [Access::Epoch(5), Access::Count, Access::None] {
        assert_eq!(found(&index.lookup(7, access)), [evicted], "before {access:?}");
    }
    index.remap(0, |_| panic!("an evicted entry has no epoch to change"));
    assert_eq!(found(&index.peek(7)), [evicted]);
    assert_eq!(index.len(), 1);

    let after = index.snapshot();
    assert_eq!(found(&before.lookup(7)), [entry]);
    assert_eq!(before.shard_entries(0).count(), 1);
    assert!(found(&after.lookup(7)).is_empty());
    assert_eq!(after.shard_entries(0).count(), 0);
    assert_eq!((after.len(), after.shard_words(0).count()), (1, 1), "a checkpoint lacks it");

    assert!(index.insert(7, Entry { location: place(11), ..entry }, Some(entry.location)));
    assert_eq!(found(&index.peek(7)), [Entry { location: place(11), ..entry }]);
}

/// Goal: a snapshot keeps the epochs it was taken with when those of the index are renumbered.
#[test]
fn a_remap_spares_snapshots() {
    let index = Index::new();
    for number in 1..1_000 {
        assert!(!index.insert(number << 8, entry_at(number), None));
    }
    let frozen = index.snapshot();
    index.remap(0, |entry| entry.epoch + (entry.location.offset / 8) as u16 % 5);
    assert!(frozen.shard_entries(0).all(|(_, entry)| entry.epoch == 1));
    index.sweep(0, &mut |_, entry| {
        assert_eq!(entry.epoch, 1 + (entry.location.offset / 8) as u16 % 5);
    });
}

/// Goal: epochs saved before they had a meaning are replaced, all of them.
#[test]
fn epochs_without_meaning_are_replaced() {
    let index = Index::new();
    for number in 1..100 {
        let entry = Entry { epoch: (number % 3) as u16, ..entry_at(number) };
        assert!(!index.insert(number << 8, entry, None));
    }
    index.reset_epochs(0, 1);
    let mut seen = 0;
    index.sweep(0, &mut |hash, entry| {
        seen += 1;
        assert_eq!(entry, entry_at(hash >> 8));
    });
    assert_eq!(seen, 99);
    check(&index);
}

/// Goal: a change of epochs that would evict is a fault of ours, and loud.
#[test]
#[should_panic(expected = "evicts nothing")]
fn a_remap_evicts_nothing() {
    let index = Index::new();
    assert!(!index.insert(7, entry_at(1), None));
    index.remap(0, |_| Entry::EVICTED);
}

/// Goal: whatever happens to the index, a snapshot stays, and it is paid for only by the shards that change.
#[test]
fn a_snapshot_stays_while_the_index_moves_on() {
    let index = Index::new();
    let mut random = Random(6);
    let hashes: Vec<u64> = (0..5_000).map(|_| random.next()).collect();
    for (number, hash) in (0..).zip(&hashes) {
        assert!(!index.insert(*hash, entry_at(number), None));
    }
    let words =
        |index: &Index| (0..SHARDS).flat_map(|shard| words_of(index, shard)).collect::<Vec<_>>();
    let then = words(&index);
    let frozen = index.snapshot();
    for (number, hash) in (0..).zip(&hashes) {
        let at = place(number);
        match number % 6 {
            5 => assert!(index.evict(*hash, at, 1)),
            0 => assert!(index.remove(*hash, at)),
            1 => assert!(index.relocate(*hash, at, place(number + 10_000), |_| {})),
            2 => assert!(index.mark(*hash, at, Entry::TOUCHED)),
            3 => assert!(index.insert(*hash, entry_at(number + 20_000), Some(at))),
            _ => assert!(!index.insert(*hash, entry_at(number + 30_000), None)),
        }
        assert_eq!(found(&frozen.lookup(*hash)), [entry_at(number)]);
    }
    let kept: Vec<_> = (0..SHARDS).flat_map(|shard| frozen.shard_words(shard)).collect();
    assert!(kept == then, "the snapshot has changed");
    assert_eq!(frozen.len(), 5_000);
    index.clear();
    assert_eq!(found(&frozen.lookup(hashes[0])), [entry_at(0)]);
}

/// Goal: what one index gives to a checkpoint, another takes from it; what no index gives, none takes.
#[test]
fn words_load_as_they_were_saved() {
    let (index, copy) = (Index::new(), Index::new());
    let mut random = Random(7);
    for number in 0..30_000 {
        let hash = random.next();
        // Every third has a twin.
        for twin in 0..=u64::from(number % 3 == 0) {
            assert!(!index.insert(hash, entry_at(number * 2 + twin), None));
        }
    }
    for shard in 0..SHARDS {
        assert!(copy.load_words(shard, words_of(&index, shard).into_iter()));
        assert_eq!(words_of(&copy, shard), words_of(&index, shard));
    }
    check(&copy);
    assert_eq!(copy.len(), index.len());

    let sound = words_of(&index, 9);
    let mut swapped = sound.clone();
    swapped.swap(10, 20);
    assert!(!copy.load_words(9, swapped.into_iter()));
    let mut hole = sound.clone();
    hole[10][1] = 0;
    assert!(!copy.load_words(9, hole.into_iter()));
    assert_eq!(words_of(&copy, 9), sound, "a refused load has left something");
    assert!(copy.load_words(9, std::iter::empty()));
    assert!(words_of(&copy, 9).is_empty());
}

/// Goal: a shard loaded from sorted entries is as one that was filled, at load 0.8.
#[test]
fn a_loaded_shard_is_as_a_filled_one() {
    for count in [0, 1, 2, 3, 4, 5, 10, 1_000, 50_000] {
        let (index, filled) = (Index::new(), Index::new());
        let mut random = Random(8);
        let mut entries: Vec<_> =
            (0..count).map(|n| (7 << 56 | random.next() >> 8, entry_at(n))).collect();
        entries.sort_by_key(|(hash, _)| *hash);
        for (hash, entry) in &entries {
            assert!(!filled.insert(*hash, *entry, None));
        }
        index.load_shard(7, entries);
        check(&index);
        assert_eq!(index.len(), count as usize);
        assert_eq!(words_of(&index, 7), words_of(&filled, 7));
        assert!(count < 1_000 || index.bytes() as u64 <= count * 21, "{} bytes", index.bytes());
    }
}

/// Goal: entries out of order are a fault of ours, and loud.
#[test]
#[should_panic(expected = "not sorted")]
fn unsorted_entries_are_refused() {
    Index::new().load_shard(0, vec![(2 << 8, entry_at(1)), (1 << 8, entry_at(2))]);
}

/// Goal: what does not fit sixteen bytes is refused, not cut.
#[test]
fn what_does_not_fit_is_refused() {
    let entry = entry_at(1);
    let at = |slot, offset| Entry { location: Location { slot: Slot(slot), offset }, ..entry };
    let misfits =
        [at(1 << 20, 4096), at(1, 1 << 31), at(1, 4097), at(1, 0), Entry { flags: 16, ..entry }];
    for misfit in misfits {
        assert!(std::panic::catch_unwind(|| misfit.pack(0)).is_err(), "{misfit:?} was packed");
    }
}

proptest! {
    /// Goal: every field of an entry comes back from its words, none leaks into another.
    #[test]
    fn an_entry_packs_and_unpacks(
        slot in 0_u32..1 << 20, eights in 1_u64..1 << 28, size in 0_u64..4 << 30, flags in 0_u8..16,
        epoch: u16, hash: u64,
    ) {
        let location = Location { slot: Slot(slot), offset: eights * 8 };
        let size = Size::of(size);
        let entry = Entry { location, size, flags, epoch };
        let words = entry.pack(entry::key_of_hash(hash));
        prop_assert_eq!(Entry::unpack(words), entry);
        prop_assert_eq!(words[0] >> 16, hash >> 8 & 0xffff_ffff_ffff);
        let how = u64::from(size.class()) << 10 | u64::from(flags) << 6 | u64::from(size.step());
        prop_assert_eq!(words[1], u64::from(slot) << 44 | eights << 16 | how);
    }
}

/// Counts a writer off, also when it panics: else the readers would wait for it for ever.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Goal: readers find every settled key while two writers add, move and take out others in the same shards, and
/// snapshots come and go.
#[test]
fn readers_and_writers_share_the_index() {
    const SETTLED: u64 = 1_000;
    const ROUNDS: u64 = 200_000;
    // Two shards, so that everybody meets.
    let hash_of = |number: u64| Random(number).next() & !(0xfe << 56);
    let (index, writing, start) = (Index::new(), AtomicUsize::new(2), Barrier::new(4));
    for number in 0..SETTLED {
        assert!(!index.insert(hash_of(number), entry_at(number), None));
    }
    let read = |seed| {
        let mut random = Random(seed);
        start.wait();
        while writing.load(Relaxed) > 0 {
            let number = random.below(SETTLED);
            let found =
                index.lookup(hash_of(number), Access::Epoch(random.below(0xffff) as u16 + 1));
            assert!(found.iter().any(|entry| entry.location == place(number)), "lost {number}");
            if random.below(1_000) == 0 {
                assert!(index.snapshot().len() >= SETTLED as usize);
            }
        }
    };
    let write = |seed: u64| {
        let _done = Done(&writing);
        let mut random = Random(seed);
        start.wait();
        for round in seed * ROUNDS..(seed + 1) * ROUNDS {
            let hash = hash_of(seed * 1_000_000 + random.below(500));
            let at = index.peek(hash).iter().next().map(|entry| entry.location);
            match at {
                Some(at) if round % 3 == 0 => assert!(index.remove(hash, at)),
                Some(at) => assert!(index.relocate(hash, at, place(round), |_| {})),
                None => assert!(!index.insert(hash, entry_at(round), None)),
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| read(1));
        scope.spawn(|| read(2));
        scope.spawn(|| write(1));
        scope.spawn(|| write(2));
    });
    check(&index);
    for number in 0..SETTLED {
        assert_eq!(found(&index.peek(hash_of(number)))[0].location, place(number));
    }
}
