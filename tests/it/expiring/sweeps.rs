//! What a sweep removes, and what it leaves on disk.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tierce_engine::{Compaction, Health, Options, ReadMode};
use tierce_kit::{
    clock::TestClock,
    fault::{EIO, Fault},
    recorder::RecordingDisk,
    store::{STORE, Setup},
};

use super::{put, there};
use crate::limits::{Limited, meter::MeteredDisk, name, value};

/// Goal: one sweep removes all that has expired, thousands of equal expiry among live ones, and counts them.
#[test]
fn one_sweep_removes_all() {
    let mut store = Limited::new(|options| options.segment_bytes(64 << 10));
    let (soon, late) = (store.engine().now().saturating_add_ms(1_000), u64::MAX / 2);
    for key in 0..6_000 {
        let at = if key % 3 == 0 { tierce_engine::Timestamp(late) } else { soon };
        put(store.engine(), key, 100, at);
    }
    assert_eq!(store.engine().sweep(None).unwrap().entries, 0, "nothing has expired");
    store.clock.advance(1_000);
    let swept = store.engine().sweep(None).unwrap();
    assert_eq!((swept.entries, swept.is_cut_short), (4_000, false), "{swept:?}");
    let stats = store.engine().stats();
    assert_eq!((stats.entries, stats.expired), (2_000, 4_000));
    assert_eq!(store.engine().sweep(None).unwrap().entries, 0);
    store.reopen();
    assert_eq!(store.engine().stats().entries, 2_000);
    assert_eq!(there(store.engine(), 0..6_000).len(), 2_000);
}

/// Goal: a budget that is used up ends a sweep and it says so; going on ends with everything gone.
#[test]
fn a_budget_cuts_short() {
    let store = Limited::new(|options| options);
    let soon = store.engine().now().saturating_add_ms(1_000);
    for key in 0..2_000 {
        // One that lives on in every segment, so that none can be dropped whole.
        if key % 7 == 0 {
            store.engine().put(name(10_000 + key), "stays").unwrap();
        }
        put(store.engine(), key, 200, soon);
    }
    store.clock.advance(1_000);
    let first = store.engine().sweep(Some(Duration::ZERO)).unwrap();
    assert!(first.is_cut_short && first.entries > 0 && first.entries < 2_000, "{first:?}");
    let mut entries = first.entries;
    for _ in 0..2_000 {
        let next = store.engine().sweep(Some(Duration::ZERO)).unwrap();
        entries += next.entries;
        if !next.is_cut_short {
            break;
        }
    }
    entries += store.engine().sweep(None).unwrap().entries;
    assert_eq!((entries, store.engine().stats().entries), (2_000, 286));
}

/// Goal: segments in which everything has expired are dropped, and not a byte of them is read for it.
#[test]
fn whole_segments_go_unread() {
    let mut store = Limited::new(|options| {
        let options = options.segment_bytes(256 << 10);
        options.read_mode(tierce_engine::ReadMode::Positioned)
    });
    let soon = store.engine().now().saturating_add_ms(1_000);
    (0..4_000).for_each(|key| put(store.engine(), key, 1_000, soon));
    store.reopen();
    let (before, read) = (store.disk.total(), store.disk.read());
    assert!(before > 4_000_000);
    store.clock.advance(1_000);
    let swept = store.engine().sweep(None).unwrap();
    assert!(swept.segments_dropped >= 16 && swept.entries == 4_000, "{swept:?}");
    let read = store.disk.read() - read;
    assert!(read < 64 << 10, "{read} bytes were read");
    assert!(store.disk.total() < 1 << 20, "{} bytes are left", store.disk.total());
}

/// Goal: once everything has expired one sweep leaves less than 1 MiB, even of 100,000 entries and with the large
/// checkpoint of an earlier closing on disk; and the store works on.
#[test]
fn nothing_left_is_small() {
    let mut store = Limited::new(|options| options.segment_bytes(1 << 20));
    let soon = store.engine().now().saturating_add_ms(3_600_000);
    (0..100_000).for_each(|key| put(store.engine(), key, 1_000, soon));
    store.reopen();
    assert!(store.disk.total() > 100 << 20);
    store.clock.advance(3_600_000);
    let swept = store.engine().sweep(None).unwrap();
    assert_eq!((swept.entries, swept.is_cut_short), (100_000, false));
    let left = store.disk.total();
    assert!(left < 1 << 20, "{left} bytes are left");
    put(store.engine(), 1, 100, store.engine().now().saturating_add_ms(9_000));
    store.reopen();
    assert_eq!(there(store.engine(), 0..100_000), [1]);
}

/// Goal: background compaction takes what has expired as garbage: without a sweep the files shrink.
#[test]
fn expired_bytes_are_garbage_for_the_background() {
    let store = Limited::new(|options| {
        let compaction = Compaction { garbage_percent: 20, ..Compaction::default() };
        options.segment_bytes(64 << 10).compaction(compaction)
    });
    let soon = store.engine().now().saturating_add_ms(10_000);
    for key in 0..3_000 {
        match key % 10 {
            0 => store.engine().put(name(key), value(key, 0, 500)).unwrap(),
            _ => put(store.engine(), key, 500, soon),
        }
    }
    store.settle();
    let before = store.disk.total();
    store.clock.advance(10_000);
    for _ in 0..200 {
        store.clock.advance(1_000);
        store.settle();
    }
    let after = store.disk.total();
    assert!(after < before / 2, "{before} before, {after} after");
    assert_eq!(there(store.engine(), 0..3_000).len(), 300);
}

/// Goal: with the thread on and real time, what expires leaves the disk by itself within seconds.
#[test]
fn it_vanishes_by_itself() {
    let disk = MeteredDisk::new();
    let options = Options::new().segment_bytes(64 << 10).disk(disk.clone());
    let engine = options.open("s").unwrap();
    let soon = engine.now().saturating_add_ms(300);
    (0..2_000).for_each(|key| put(&engine, key, 1_000, soon));
    let before = disk.total();
    let start = Instant::now();
    while disk.total() > before / 4 {
        assert!(start.elapsed() < Duration::from_secs(8), "{} of {before} left", disk.total());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(there(&engine, 0..2_000), [0; 0]);
    engine.close().unwrap();
}

/// Goal: a sweep that fails says so in the health and takes nothing that lives; the next one does the work.
/// Method: every disk call of a sweep fails in turn.
#[test]
fn a_sweep_that_fails_says_so() {
    let setup = Setup { automatic: false, read_mode: ReadMode::Positioned, ..Setup::default() };
    let (mut failed, mut passed_over) = (0, 0);
    for nth in 1.. {
        let (disk, clock) = (RecordingDisk::new(), TestClock::new());
        let engine = setup.options(Arc::new(disk.clone()), &clock).open(STORE).unwrap();
        let soon = engine.now().saturating_add_ms(1_000);
        for key in 0..60 {
            let at = if key % 3 == 0 { tierce_engine::Timestamp(u64::MAX) } else { soon };
            put(&engine, key, 400, at);
        }
        while engine.step().unwrap() {}
        clock.advance(1_000);
        let before = disk.fired();
        disk.arm(Fault::nth(nth, EIO));
        let swept = engine.sweep(None);
        disk.disarm();
        let health = engine.health();
        match (&swept, &health) {
            (Ok(_), Health::Good) => {}
            // A segment that could not be read is passed over, which the health says.
            (Ok(_), Health::CompactionFails { .. }) => passed_over += 1,
            (Err(_), Health::CompactionFails { .. } | Health::Stopped { .. }) => failed += 1,
            unexpected => panic!("call {nth}: {unexpected:?}"),
        }
        engine.try_recover().unwrap();
        engine.sweep(None).unwrap();
        assert_eq!((engine.stats().entries, there(&engine, 0..60).len()), (20, 20), "call {nth}");
        if disk.fired() == before {
            assert_eq!(health, Health::Good, "nothing failed");
            break;
        }
    }
    assert!(
        failed > 5 && passed_over > 0,
        "{failed} of them failed, {passed_over} passed something over"
    );
}
