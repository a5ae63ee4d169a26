//! Limits on what a store takes: of its directory, of its file system, and of what is live.
//!
//! - `meter`: a disk that knows how much is on it at every moment
//! - `instants`: the limit of bytes holds after every single call
//! - `evictable`: a store that may forget takes every write
//! - `full`: a store that may not forget says so, and works again when there is room
//! - `moved`: limits changed at run time, the least limit, what `usage` says
//! - `counts`: limits on entries and live bytes
//! - `again`: what recovery writes again
//! - `space`: a disk with little room, and with none

mod again;
mod counts;
mod evictable;
mod full;
mod instants;
pub(crate) mod meter;
mod moved;
mod space;

use std::{path::Path, sync::Arc};

use tierce_engine::{Engine, Options, PutOptions, io::Disk};
use tierce_kit::{
    clock::TestClock,
    rng::Rng,
    store::{STORE, soundness},
};

use meter::MeteredDisk;

/// An entry that may go.
pub(crate) fn evictable() -> PutOptions {
    PutOptions::new().evictable(true)
}

/// Small segments, no background thread.
pub(crate) fn options(disk: &MeteredDisk, clock: &TestClock) -> Options {
    Options::new().segment_bytes(8 << 10).background(false).clock(clock.clone()).disk(disk.clone())
}

/// A store on a disk of its own.
pub(crate) struct Limited {
    pub(crate) disk: MeteredDisk,
    pub(crate) clock: TestClock,
    pub(crate) options: Options,
    engine: Option<Engine>,
}

impl Limited {
    pub(crate) fn new(change: impl FnOnce(Options) -> Options) -> Self {
        let (disk, clock) = (MeteredDisk::new(), TestClock::new());
        let options = change(options(&disk, &clock));
        let engine = Some(options.clone().open(STORE).unwrap());
        Self { disk, clock, options, engine }
    }

    #[track_caller]
    pub(crate) fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("the store is open")
    }

    /// Closes the store and checks its files.
    #[track_caller]
    pub(crate) fn close(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.close().unwrap();
            self.check_files();
        }
    }

    #[track_caller]
    pub(crate) fn check_files(&self) {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        soundness(&disk, Path::new(STORE)).unwrap();
    }

    #[track_caller]
    pub(crate) fn reopen(&mut self) {
        self.close();
        self.engine = Some(self.options.clone().open(STORE).unwrap());
    }

    /// The process dies and another one opens the store.
    #[track_caller]
    pub(crate) fn crash(&mut self) {
        let dead = self.engine.take();
        self.disk = self.disk.copy();
        self.options = self.options.clone().disk(self.disk.clone());
        self.engine = Some(self.options.clone().open(STORE).unwrap());
        drop(dead);
    }

    /// All background work that is due; fails if it never ends.
    #[track_caller]
    pub(crate) fn settle(&self) {
        for _ in 0..10_000 {
            if !self.engine().step().unwrap() {
                return;
            }
        }
        panic!("background work does not end");
    }
}

/// Bytes that depend on a key and a version.
pub(crate) fn value(key: u64, version: u64, bytes: usize) -> Vec<u8> {
    let mut rng = Rng::new(key.wrapping_mul(1_000_003) ^ version);
    let mut value = Vec::with_capacity(bytes + 8);
    while value.len() < bytes {
        value.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    value.truncate(bytes);
    value
}

pub(crate) fn name(key: u64) -> Vec<u8> {
    format!("key-{key:06}").into_bytes()
}
