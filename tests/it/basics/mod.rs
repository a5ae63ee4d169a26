//! Every operation, its meaning and its limits, through the door.
//!
//! - `plain`: put, get, delete, contains, limits, big values
//! - `options`: what goes with a put, and conditions
//! - `expiry`: expiry by every path, touch
//! - `updates`: read-modify-write, tickets, counters
//! - `scopes`: scope cuts
//! - `batches`: all or nothing
//! - `moments`: iteration and snapshots
//! - `random`: long random lists against a map, with colliding hashes
//! - `hooks`: a disk that tells what it is asked

mod batches;
mod expiry;
pub(crate) mod hooks;
mod moments;
mod options;
mod plain;
mod random;
mod scopes;
mod updates;

use std::path::{Path, PathBuf};

use tierce_engine::{
    Durability, Engine,
    io::{Disk as _, MemoryDisk},
};
use tierce_kit::{
    clock::TestClock,
    store::{STORE, Setup, TestStore},
};

/// Every durability, for what must be the same in all of them.
pub(crate) const DURABILITIES: [Durability; 4] =
    [Durability::Buffered, Durability::Os, Durability::Sync, Durability::Periodic];

/// How a store comes up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It was not closed at all.
    Stay,
    /// Closed and opened: the index comes from the checkpoint.
    Checkpoint,
    /// Closed, the checkpoint lost, and opened: the index comes from the footers.
    Footers,
    /// Synced and cut off: the index comes from a scan.
    Crash,
    /// As before, with a checkpoint from somewhere before the end.
    Replay,
}

/// Every way.
pub(crate) const WAYS: [Way; 5] =
    [Way::Stay, Way::Checkpoint, Way::Footers, Way::Crash, Way::Replay];

/// A store in memory and the disk under it.
pub(crate) struct Bench {
    pub(crate) disk: MemoryDisk,
    pub(crate) clock: TestClock,
    setup: Setup,
    store: TestStore,
}

impl Bench {
    pub(crate) fn new(setup: Setup) -> Self {
        Self::on(MemoryDisk::new(), setup, TestClock::new())
    }

    fn on(disk: MemoryDisk, setup: Setup, clock: TestClock) -> Self {
        let store = TestStore::at(disk.clone(), Path::new(STORE), setup.clone(), &clock);
        Self { disk, clock, setup, store }
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.store.engine()
    }

    /// Does all background work that is due.
    pub(crate) fn settle(&self) {
        self.store.settle();
    }

    /// Paths of the store's files whose names end so.
    pub(crate) fn files(&self, suffix: &str) -> Vec<PathBuf> {
        let ends = |path: &PathBuf| path.to_string_lossy().ends_with(suffix);
        self.disk.files().into_keys().filter(ends).collect()
    }

    /// Goes down and comes up in this way. With [`Way::Replay`], `checkpoint` should have been called before
    /// the last writes.
    pub(crate) fn come_up(&mut self, way: Way) {
        match way {
            Way::Stay => {}
            Way::Checkpoint => {
                self.store.reopen();
                let report = self.engine().recovery_report();
                assert!(report.clean && report.from_checkpoint, "{report:?}");
            }
            Way::Footers => {
                self.store.close();
                for path in self.files(".ckpt") {
                    self.disk.remove(&path).unwrap();
                }
                self.store.open();
                let report = self.engine().recovery_report();
                assert!(!report.from_checkpoint && report.damaged.is_empty(), "{report:?}");
                // The loss is made good, so that the check at the end has nothing to say.
                self.engine().checkpoint().unwrap();
            }
            Way::Crash | Way::Replay => {
                self.engine().sync().unwrap();
                let disk = MemoryDisk::with_files(self.disk.files());
                *self = Self::on(disk, self.setup.clone(), self.clock.clone());
                let report = self.engine().recovery_report();
                assert!(report.damaged.is_empty() && report.torn.is_empty(), "{report:?}");
            }
        }
    }
}

/// The value of a key as a vector.
#[track_caller]
pub(crate) fn value_of(engine: &Engine, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    engine.get(key).unwrap().map(|value| value.to_vec())
}

/// What each path that reads says about whether a key is there.
#[track_caller]
pub(crate) fn seen_by(engine: &Engine, key: &[u8]) -> Vec<(&'static str, bool)> {
    let snapshot = engine.snapshot().unwrap();
    let in_iter = |mut iter: tierce_engine::Iter| iter.any(|item| item.unwrap().0 == key);
    vec![
        ("get", engine.get(key).unwrap().is_some()),
        ("contains_key", engine.contains_key(key).unwrap()),
        ("entry", engine.entry(key).unwrap().is_some()),
        ("get_many", engine.get_many(&[key]).unwrap()[0].is_some()),
        ("iter", in_iter(engine.iter().unwrap())),
        ("snapshot get", snapshot.get(key).unwrap().is_some()),
        ("snapshot iter", in_iter(snapshot.iter())),
    ]
}

/// Fails unless every path says the same.
#[track_caller]
pub(crate) fn assert_seen(engine: &Engine, key: impl AsRef<[u8]>, expected: bool) {
    let seen = seen_by(engine, key.as_ref());
    assert!(seen.iter().all(|(_, there)| *there == expected), "expected {expected}: {seen:?}");
}

/// Bytes that differ from key to key, of any length.
pub(crate) fn filler(seed: u64, length: usize) -> Vec<u8> {
    let mut rng = tierce_kit::rng::Rng::new(seed);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
