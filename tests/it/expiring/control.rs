//! When compaction works by itself, and how fast.

use std::time::Instant;

use tierce_engine::Compaction;
use tierce_kit::clock::TestClock;

use crate::limits::{Limited, name, value};

/// A store of which most is garbage, with these settings.
fn dirty(compaction: Compaction) -> Limited {
    let store = Limited::new(|options| options.segment_bytes(64 << 10).compaction(compaction));
    for version in 0..6 {
        for key in 0..400 {
            // A few that are not written again keep their segments from being all dead.
            if version == 0 || key % 8 != version {
                store.engine().put(name(key), value(key, version, 500)).unwrap();
            }
        }
    }
    store
}

/// Goal: with `automatic` off nothing is compacted by itself, however much is garbage; a call does.
#[test]
fn not_by_itself() {
    let store = dirty(Compaction { automatic: false, ..Compaction::default() });
    for _ in 0..100 {
        store.clock.advance(10_000);
        store.settle();
    }
    assert_eq!(store.engine().stats().compactions, 0);
    let before = store.disk.total();
    let report = store.engine().compact().unwrap();
    assert!(report.jobs > 0 && report.bytes_reclaimed > 0, "{report:?}");
    assert!(store.disk.total() < before * 7 / 10, "{} of {before}", store.disk.total());
    assert_eq!(store.engine().stats().compactions, report.jobs);
}

/// Goal: paused, nothing is compacted by itself; resumed, it is.
#[test]
fn paused() {
    let store = dirty(Compaction { automatic: true, ..Compaction::default() });
    store.engine().pause_compaction();
    store.engine().pause_compaction();
    assert!(store.engine().is_compaction_paused());
    store.clock.advance(10_000);
    store.settle();
    assert_eq!(store.engine().stats().compactions, 0);
    store.engine().resume_compaction();
    store.settle();
    assert!(store.engine().stats().compactions > 0);
}

/// Goal: in the hours given it works, in the others not; hours that wrap midnight do.
#[test]
fn hours_of_the_day() {
    const HOUR: u64 = 3_600_000;
    for (hours, works) in [
        ((3, 5), vec![3, 4]),
        ((22, 2), vec![22, 23, 0, 1]),
        ((0, 24), (0..24).collect()),
        ((23, 24), vec![23]),
    ] {
        for hour in 0..24 {
            let store = dirty(Compaction { hours: Some(hours), ..Compaction::default() });
            let midnight = TestClock::START_MS / (24 * HOUR) * (24 * HOUR) + 24 * HOUR;
            // Closed and opened, so that the time is believed at once.
            let mut store = store;
            store.close();
            store.clock.set_wall(midnight + hour * HOUR + HOUR / 2);
            store.reopen();
            for key in 0..200 {
                store.engine().put(name(key), value(key, 99, 500)).unwrap();
            }
            store.settle();
            let worked = store.engine().stats().compactions > 0;
            assert_eq!(worked, works.contains(&hour), "{hours:?} at {hour}");
        }
    }
}

/// Goal: garbage up to its percentage is left alone, and what is more is compacted until it is not.
#[test]
fn percentage_of_garbage() {
    let mut left = Vec::new();
    for percent in [10, 50, 80] {
        let store = dirty(Compaction { garbage_percent: percent, ..Compaction::default() });
        store.settle();
        let stats = store.engine().stats();
        let garbage = 100 - stats.live_bytes * 100 / stats.segment_bytes;
        assert!(garbage <= u64::from(percent) + 20, "{garbage} % is garbage, {percent} allowed");
        left.push(stats.segment_bytes);
    }
    assert!(left[0] < left[1] && left[1] <= left[2], "{left:?}");
}

/// Goal: a rate of bytes bounds how fast a job writes: in real time it cannot be faster, on any machine.
#[test]
fn a_rate_of_bytes() {
    const RATE: u64 = 200_000;
    let limited =
        Compaction { bytes_per_second: Some(RATE), automatic: false, ..Compaction::default() };
    let (disk, clock) = (crate::limits::meter::MeteredDisk::new(), tierce_engine::io::OsClock);
    let options = tierce_engine::Options::new().segment_bytes(64 << 10).compaction(limited);
    let engine = options.background(false).disk(disk).clock(clock).open("s").unwrap();
    for version in 0..4 {
        for key in 0..600 {
            if version == 0 || key % 2 != 0 {
                engine.put(name(key), value(key, version, 500)).unwrap();
            }
        }
    }
    let start = Instant::now();
    let report = engine.compact().unwrap();
    let ms = start.elapsed().as_millis() as u64;
    assert!(report.bytes_copied > 100_000, "{report:?}");
    // What is written after the last rest of a job is not waited for: a piece of work at most, for each job.
    let slack = report.jobs * (64 << 10);
    let least = report.bytes_copied.saturating_sub(slack) * 1_000 / RATE;
    assert!(ms >= least, "{} bytes in {ms} ms, not less than {least}", report.bytes_copied);
    assert!(least > 100, "the test tests something: {report:?}");
    engine.close().unwrap();
}
