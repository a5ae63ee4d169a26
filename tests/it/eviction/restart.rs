//! Times of use survive a restart, a crash up to the last checkpoint, and another policy.

use tierce_engine::{Evict, io::MemoryDisk};
use tierce_kit::{clock::TestClock, rng::Rng, seed::cases, store::STORE};

use super::{get, put, store_of, there};
use crate::limits::Limited;

/// A store of 400 entries with a random history of uses.
fn with_history(seed: u64, evict: Evict) -> Limited {
    let store = store_of(400, evict);
    let mut rng = Rng::new(seed);
    for _ in 0..4_000 {
        let key = rng.below(600).min(rng.below(600));
        if rng.one_in(2) || !get(store.engine(), key) {
            put(store.engine(), key);
        }
    }
    store
}

/// Which keys are left after each of some new ones was stored.
fn victims(store: &Limited) -> Vec<Vec<u64>> {
    let left = |key: u64| {
        put(store.engine(), key);
        there(store.engine(), 0..600)
    };
    (1_000..1_200).map(left).collect()
}

/// Goal: after a clean restart the same entries go, in the same order, as without one. Of S3-FIFO it is looked at only
/// what stays: where its queues have ties, the store's own hash decides, and its ghosts are not kept.
#[test]
fn a_clean_restart_changes_nothing() {
    cases("eviction::restart::a_clean_restart_changes_nothing", 3, |seed| {
        for evict in [Evict::Lru, Evict::Fifo] {
            let stays = with_history(seed, evict);
            let mut restarted = with_history(seed, evict);
            let before = there(restarted.engine(), 0..600);
            assert_eq!(there(stays.engine(), 0..600), before, "{evict:?}: the same history");
            restarted.reopen();
            assert_eq!(there(restarted.engine(), 0..600), before, "{evict:?}: the same entries");
            let (left, right) = (victims(&stays), victims(&restarted));
            let apart = left.iter().zip(&right).position(|(left, right)| left != right);
            assert_eq!(apart, None, "{evict:?}: apart after so many evictions");
        }
        let mut restarted = with_history(seed, Evict::S3Fifo);
        (0..30).for_each(|key| put(restarted.engine(), key));
        (0..90).for_each(|use_of| assert!(get(restarted.engine(), use_of % 30)));
        let before = there(restarted.engine(), 0..600);
        restarted.reopen();
        assert_eq!(there(restarted.engine(), 0..600), before, "the same entries");
        victims(&restarted);
        assert!(there(restarted.engine(), 0..30).len() >= 28, "used again and again before");
    });
}

/// Goal: what was evicted stays gone after a clean restart; the limit holds at once.
#[test]
fn evicted_stays_gone() {
    for evict in [Evict::Lru, Evict::Fifo, Evict::S3Fifo] {
        let mut store = store_of(50, evict);
        (0..500).for_each(|key| put(store.engine(), key));
        let left = there(store.engine(), 0..500);
        assert_eq!(left.len(), 50);
        store.reopen();
        assert_eq!(there(store.engine(), 0..500), left, "{evict:?}");
        assert_eq!(store.engine().stats().entries, 50);
    }
}

/// Goal: after a crash times of use are known up to the last checkpoint: what was used before it stays, what was not
/// goes first; what was written since counts as newer than all.
#[test]
fn a_crash_goes_back_to_the_checkpoint() {
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let options = |disk: MemoryDisk| {
        tierce_engine::Options::new()
            .segment_bytes(8 << 10)
            .background(false)
            .max_entries(400)
            .clock(clock.clone())
            .disk(disk)
    };
    let engine = options(disk.clone()).open(STORE).unwrap();
    (0..300).for_each(|key| put(&engine, key));
    (0..100).for_each(|key| assert!(get(&engine, key)));
    engine.checkpoint().unwrap();
    (300..400).for_each(|key| put(&engine, key));
    engine.sync().unwrap();
    let crashed = MemoryDisk::with_files(disk.files());
    let engine = options(crashed).open(STORE).unwrap();
    assert_eq!(there(&engine, 0..400).len(), 400);
    (1_000..1_190).for_each(|key| put(&engine, key));
    assert!(there(&engine, 100..300).len() <= 10, "not used before the checkpoint");
    assert_eq!(there(&engine, 0..100).len(), 100, "used before the checkpoint");
    assert_eq!(there(&engine, 300..400).len(), 100, "written after the checkpoint");
    engine.close().unwrap();
}

/// Goal: another policy at an opening keeps all entries, then evicts by its own rule, and the limit holds.
#[test]
fn the_policy_changes_at_open() {
    let policies = [Evict::Lru, Evict::S3Fifo, Evict::Fifo, Evict::None];
    for from in policies {
        for to in policies {
            let mut store = store_of(200, from);
            (0..200).for_each(|key| put(store.engine(), key));
            (0..50).for_each(|key| assert!(get(store.engine(), key)));
            store.options.evict = to;
            store.reopen();
            assert_eq!(there(store.engine(), 0..200).len(), 200, "{from:?} to {to:?}");
            for key in 1_000..1_100 {
                let put = crate::limits::name(key);
                let put = store.engine().put_with(put, "x", &crate::limits::evictable());
                assert_eq!(put.is_ok(), to != Evict::None, "{from:?} to {to:?}");
            }
            // Evictions come in batches of a 64th.
            let entries = store.engine().stats().entries;
            assert!((197..=200).contains(&entries), "{from:?} to {to:?}: {entries}");
            let is_kept = from == Evict::Lru && to == Evict::Lru;
            let used = there(store.engine(), 0..50).len();
            assert!(!is_kept || used == 50, "{from:?} to {to:?}: {used}");
        }
    }
}
