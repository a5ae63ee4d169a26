//! A store in memory that can be opened again, under a clock that stands still.

use std::sync::Mutex;

use tierce::{Options, Store};
use tierce_engine::io::MemoryDisk;
use tierce_kit::{clock::TestClock, image::Image};

/// Where a store lives: its disk and its time.
pub(crate) struct Home {
    disk: Mutex<MemoryDisk>,
    pub(crate) clock: TestClock,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { disk: Mutex::new(MemoryDisk::new()), clock: TestClock::new() }
    }

    pub(crate) fn open(&self) -> Store {
        let disk = self.disk.lock().unwrap().clone();
        let options = Options::new().disk(disk).clock(self.clock.clone());
        Store::open_with("store", options.background(false)).unwrap()
    }

    /// The program ends, and another one finds what it left on disk. What is still held of the old store goes on with a
    /// disk that nobody looks at any more: as if it had been killed, if something is.
    pub(crate) fn reopen(&self, store: Store) -> Store {
        store.close().unwrap();
        let mut disk = self.disk.lock().unwrap();
        let left = Image::of_memory_disk(&disk).memory_disk();
        *disk = left;
        drop(disk);
        self.open()
    }
}

/// Runs `work` in `count` threads at once; returns what each returned.
pub(crate) fn threads<R: Send>(count: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let start = std::sync::Barrier::new(count);
    std::thread::scope(|scope| {
        let run = |at| {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                work(at)
            })
        };
        let all: Vec<_> = (0..count).map(run).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    })
}
