//! What the store says of its health after a failure is over.

use std::ops::ControlFlow;

use tierce_engine::{
    Durability, Health, ReadMode, SegmentId,
    io::{Access, Disk},
};
use tierce_kit::{
    clock::TestClock,
    fault::{CallKind, EIO, Fault},
    recorder::RecordingDisk,
    store::{STORE, Setup, TestStore},
};

/// Goal: a job that failed is not reported any more once a compaction finds that nothing is left to do.
/// Method: reads fail while a segment of live entries is compacted on request; then the disk is sound again, and
/// nothing is worth compacting.
#[test]
fn nothing_left_to_do_is_no_failure() {
    let disk = RecordingDisk::new();
    let setup =
        Setup { automatic: false, read_mode: ReadMode::Positioned, ..Setup::new(Durability::Os) };
    let store = TestStore::at(disk.clone(), STORE.as_ref(), setup, &TestClock::new());
    for number in 0..4_u8 {
        store.engine().put([number], [number; 3_000]).unwrap();
    }
    store.settle();
    let first = store.engine().segments()[0].id;
    disk.arm(Fault::nth(1, EIO).of(&[CallKind::Map, CallKind::Read]).lasting());
    let report =
        store.engine().compact_with(Some(&[first]), |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((report.jobs, report.unreadable.len()), (0, 1));
    disk.disarm();
    assert!(matches!(store.engine().health(), Health::CompactionFails { .. }));
    store.engine().compact().unwrap();
    assert_eq!(store.engine().health(), Health::Good);
}

/// A store with two sealed segments of live entries, and their ids.
fn two_segments(disk: &RecordingDisk) -> (TestStore, [SegmentId; 2]) {
    let setup =
        Setup { automatic: false, read_mode: ReadMode::Positioned, ..Setup::new(Durability::Os) };
    let store = TestStore::at(disk.clone(), STORE.as_ref(), setup, &TestClock::new());
    for number in 0..6_u8 {
        store.engine().put([number], [number; 3_000]).unwrap();
    }
    store.settle();
    let ids = [0, 1].map(|at| store.engine().segments()[at].id);
    (store, ids)
}

/// Goal: a compaction of one segment says nothing of another one that could not be read: that stays a failure.
#[test]
fn another_segment_is_still_not_read() {
    let disk = RecordingDisk::new();
    let (store, [first, second]) = two_segments(&disk);
    let compact = |id| store.engine().compact_with(Some(&[id]), |_| ControlFlow::Continue(()));
    disk.arm(Fault::nth(1, EIO).of(&[CallKind::Map, CallKind::Read]).lasting());
    assert_eq!(compact(first).unwrap().unreadable.len(), 1);
    disk.disarm();
    assert_eq!(compact(second).unwrap().jobs, 1);
    assert!(matches!(store.engine().health(), Health::CompactionFails { .. }));
    assert_eq!(compact(first).unwrap().jobs, 1);
    assert_eq!(store.engine().health(), Health::Good);
}

/// Goal: a segment that is damaged stays a failure, although a compaction is asked for and finds nothing worth doing.
#[test]
fn damage_stays_a_failure() {
    let disk = RecordingDisk::new();
    let (store, [first, _]) = two_segments(&disk);
    let path = disk.paths().into_iter().find(|p| p.to_string_lossy().contains(&first.to_string()));
    disk.open(&path.unwrap(), Access::Write).unwrap().write_at(&[0xff; 64], 4_200).unwrap();
    let compact = |ids: Option<&[SegmentId]>| {
        store.engine().compact_with(ids, |_| ControlFlow::Continue(())).unwrap()
    };
    assert_eq!(compact(Some(&[first])).unreadable.len(), 1);
    compact(None);
    assert!(matches!(store.engine().health(), Health::CompactionFails { .. }));
    std::mem::forget(store);
}
