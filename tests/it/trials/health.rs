//! What the store says of its health after a failure is over.

use std::ops::ControlFlow;

use tierce_engine::{Durability, Health, ReadMode};
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
