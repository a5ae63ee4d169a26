//! A store of small segments that is checked whenever a test is done with it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tierce_engine::{
    Durability, Engine, Evict, Knobs, Options, ReadMode,
    check::check_store,
    io::{Disk, MemoryDisk},
};

use crate::{clock::TestClock, rng::Rng};

/// Where stores of tests stand on their disks.
pub const STORE: &str = "disk/store";

/// The settings of a store under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Default durability of writes.
    pub durability: Durability,
    /// Target size of segments.
    pub segment_bytes: u64,
    /// How sealed segments are read.
    pub read_mode: ReadMode,
    /// Bits of the key hash: few make different keys collide.
    pub hash_bits: u32,
    /// Whether compaction begins by itself.
    pub automatic: bool,
    /// Most entries: beyond that it evicts.
    pub max_entries: Option<u64>,
    /// Most bytes of all files.
    pub max_bytes: Option<u64>,
    /// Whether that is little, so that it evicts and refuses.
    pub is_tight: bool,
    /// Most bytes of what is live.
    pub max_live_bytes: Option<u64>,
    /// Bytes that are left free on the disk.
    pub min_free_bytes: u64,
    /// What is evicted first.
    pub evict: Evict,
    /// Test knobs: the worst, unless a test wants the production values.
    pub knobs: Knobs,
}

impl Setup {
    /// The smallest segments.
    #[must_use]
    pub const fn new(durability: Durability) -> Self {
        Self {
            durability,
            segment_bytes: 8 << 10,
            read_mode: ReadMode::Auto,
            hash_bits: u64::BITS,
            automatic: true,
            max_entries: None,
            max_bytes: None,
            is_tight: false,
            max_live_bytes: None,
            min_free_bytes: 0,
            evict: Evict::Lru,
            knobs: Knobs::worst(),
        }
    }

    /// With the rest of the settings as `seed` says.
    #[must_use]
    pub fn varied(durability: Durability, seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5e7);
        Self {
            durability,
            segment_bytes: rng.weighted(&[(3, 8 << 10), (1, 12 << 10), (1, 16 << 10)]),
            read_mode: rng.weighted(&[(1, ReadMode::Map), (1, ReadMode::Positioned)]),
            hash_bits: rng.weighted(&[(3, u64::BITS), (1, 2)]),
            ..Self::new(durability)
        }
    }

    /// As the engine takes it, without background thread.
    #[must_use]
    pub fn options(&self, disk: Arc<dyn Disk>, clock: &TestClock) -> Options {
        let mut options = Options::new()
            .durability(self.durability)
            .segment_bytes(self.segment_bytes)
            .read_mode(self.read_mode)
            .hash_bits(self.hash_bits)
            .knobs(self.knobs)
            .background(false)
            .clock(clock.clone());
        options.disk = disk;
        options.compaction.automatic = self.automatic;
        options.max_entries = self.max_entries;
        options.max_bytes = self.max_bytes;
        options.max_live_bytes = self.max_live_bytes;
        options.min_free_bytes = self.min_free_bytes;
        options.evict = self.evict;
        options
    }

    /// Whether it evicts and refuses by itself.
    #[must_use]
    pub const fn is_limited(&self) -> bool {
        self.max_entries.is_some()
            || self.max_live_bytes.is_some()
            || self.min_free_bytes > 0
            || self.is_tight
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new(Durability::Os)
    }
}

/// An open store. When it is closed or dropped, the files it leaves are checked.
pub struct TestStore {
    engine: Option<Engine>,
    disk: Arc<dyn Disk>,
    clock: TestClock,
    setup: Setup,
    path: PathBuf,
}

impl TestStore {
    /// A new store in memory.
    #[must_use]
    pub fn new() -> Self {
        Self::with(MemoryDisk::new(), Setup::default())
    }

    /// A store on this disk.
    #[must_use]
    pub fn with(disk: impl Disk + 'static, setup: Setup) -> Self {
        Self::at(disk, Path::new(STORE), setup, &TestClock::new())
    }

    /// A store at this path of this disk.
    ///
    /// # Panics
    /// If it does not open.
    #[must_use]
    pub fn at(disk: impl Disk + 'static, path: &Path, setup: Setup, clock: &TestClock) -> Self {
        let (disk, clock, path) = (Arc::new(disk), clock.clone(), path.to_owned());
        let mut store = Self { engine: None, disk, clock, setup, path };
        store.open();
        store
    }

    /// The engine.
    ///
    /// # Panics
    /// If the store was closed.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("the store is open")
    }

    /// The clock.
    #[must_use]
    pub const fn clock(&self) -> &TestClock {
        &self.clock
    }

    /// Does all background work that is due.
    ///
    /// # Panics
    /// If it fails.
    pub fn settle(&self) {
        while self.engine().step().expect("background work is done") {}
    }

    /// Closes the store, checks its files and opens it again.
    pub fn reopen(&mut self) {
        self.close();
        self.open();
    }

    /// Closes the store and checks its files.
    ///
    /// # Panics
    /// If closing fails or a file is not as it should be.
    pub fn close(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.close().expect("the store is closed");
            assert_sound(&self.disk, &self.path);
        }
    }

    /// Opens the closed store.
    ///
    /// # Panics
    /// If it does not open.
    pub fn open(&mut self) {
        let options = self.setup.options(self.disk.clone(), &self.clock);
        self.engine = Some(options.open(&self.path).expect("the store is opened"));
    }
}

impl Default for TestStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.close();
        }
    }
}

/// Checks the files of a store that nobody has open.
///
/// # Panics
/// If anything in them is not as it should be.
pub fn assert_sound(disk: &Arc<dyn Disk>, path: &Path) {
    if let Err(complaint) = soundness(disk, path) {
        panic!("{complaint}");
    }
}

/// Checks the files of a store.
///
/// # Errors
/// What is not as it should be, for people.
pub fn soundness(disk: &Arc<dyn Disk>, path: &Path) -> Result<(), String> {
    let listed = disk.list(path).map_err(|error| format!("listing failed: {error}"))?;
    let is_data = |name: &str| name == "MANIFEST" || name.ends_with(".seg");
    if !listed.iter().any(|entry| is_data(&entry.name)) {
        // It never took a write.
        return Ok(());
    }
    let report = check_store(disk, path).map_err(|error| format!("the check failed: {error}"))?;
    if report.is_healthy() {
        return Ok(());
    }
    let lines = report.findings.iter().map(|finding| {
        let (code, file, message) = (finding.code, finding.file.display(), &finding.message);
        format!("{code} {file} at {:?}: {message}", finding.offset)
    });
    Err(format!("the check finds: {}", lines.collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Goal: a store under test keeps what it holds when it is reopened, and damage to its files is noticed.
    /// Method: reopen one, then flip one byte of each of its segments in turn.
    #[test]
    fn damage_is_noticed() {
        let disk = MemoryDisk::new();
        let mut store = TestStore::with(disk.clone(), Setup::default());
        for number in 0..100_u8 {
            store.engine().put([number], [number; 100]).unwrap();
        }
        store.reopen();
        assert_eq!(store.engine().get([7]).unwrap().as_deref(), Some(&[7; 100][..]));
        drop(store);
        let files: BTreeMap<_, _> = disk.files();
        let segments = files.keys().filter(|path| path.extension().is_some_and(|e| e == "seg"));
        let segments: Vec<_> = segments.collect();
        assert!(segments.len() > 2, "{segments:?}");
        for path in segments {
            let mut damaged = files.clone();
            damaged.get_mut(path).unwrap()[4_200] ^= 1;
            let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::with_files(damaged));
            soundness(&disk, Path::new(STORE)).expect_err("a flipped byte was not noticed");
        }
    }
}
