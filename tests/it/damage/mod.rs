//! Bytes that are not what was written: every kind of file, every kind of damage.
//!
//! The rule: whatever is damaged, a key gives its value, or an error that says what is damaged, or the store is not
//! opened at all. Where a policy allows to go on without what is damaged, the report says so. Never a value that
//! was not stored under the key, never a panic; and `check_store` sees what matters.
//!
//! - `flips`: single bits
//! - `cuts`: truncated, zeroed, missing, exchanged files
//! - `forged`: lengths that cost too much
//! - `older`: what was replaced does not come back
//! - `tails`: the end of the log as a crash, or worse, leaves it
//!
//! That no length in a file sizes an allocation beyond the file is tested where lengths are decoded (`format`, and
//! the fuzz targets): counting allocations here would take an allocator of our own, which takes `unsafe`.

mod cuts;
mod flips;
mod forged;
mod older;
mod tails;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use tierce_engine::{
    Batch, Durability, Engine, Error, PutOptions, ReadMode, RecoveryPolicy, RecoveryReport, Result,
    check::check_store,
    io::{Disk, MemoryDisk},
};
use tierce_kit::{
    clock::TestClock,
    store::{STORE, Setup},
};

use crate::basics::filler;

/// Every policy, from the strictest on.
const POLICIES: [RecoveryPolicy; 3] =
    [RecoveryPolicy::Strict, RecoveryPolicy::SkipRecord, RecoveryPolicy::Salvage];

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The files of a store, and what was stored in it.
struct Fixture {
    name: &'static str,
    files: Files,
    setup: Setup,
    /// What each key has now.
    expected: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Every value that each key ever had.
    history: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// Keys written behind all others: with them goes what says that they had been synced.
    loose: BTreeSet<Vec<u8>>,
    /// What all keys had after each operation.
    states: Vec<BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
}

/// Builds a fixture.
struct Scribe {
    engine: Engine,
    fixture: Fixture,
}

impl Scribe {
    fn note(&mut self, key: &str, value: Option<Vec<u8>>) {
        let key = key.as_bytes().to_vec();
        self.fixture.history.entry(key.clone()).or_default().extend(value.clone());
        self.fixture.expected.insert(key, value);
    }

    /// An operation is done.
    fn mark(&mut self) {
        self.fixture.states.push(self.fixture.expected.clone());
    }

    fn put(&mut self, key: &str, length: usize) {
        let value = filler(self.engine.stats().sequence, length);
        self.engine.put(key, &value).unwrap();
        self.note(key, Some(value));
        self.mark();
    }

    fn delete(&mut self, key: &str) {
        assert!(self.engine.delete(key).unwrap());
        self.note(key, None);
        self.mark();
    }

    /// A bit of everything, over about two segments.
    fn write(&mut self, round: usize) {
        for number in 0..8 {
            self.put(&format!("round {round} key {number}"), 100 + 30 * number);
        }
        self.put("overwritten", 200);
        self.put("comes and goes", 50);
        let value = filler(round as u64, 60);
        for key in ["cut", "expired", "touched"] {
            let options = PutOptions::new().scope("scope").codec(1, 2).item(0x20, "x");
            self.engine.put_with(key, &value, &options).unwrap();
            self.note(key, Some(value.clone()));
            self.mark();
        }
        let (past, future) = (self.engine.now(), self.engine.now().saturating_add_ms(1 << 40));
        assert!(self.engine.touch("expired", Some(past)).unwrap());
        self.note("expired", None);
        self.mark();
        assert!(self.engine.touch("touched", Some(future)).unwrap());
        self.engine.put("touched", &value).unwrap();
        assert!(self.engine.touch("touched", Some(future)).unwrap());
        self.engine.cut_scope("scope").unwrap();
        self.note("cut", None);
        self.mark();
        self.delete("comes and goes");
        let mut batch = Batch::new();
        let value = filler(round as u64 + 100, 90);
        for number in 0..4 {
            batch.put(format!("batch {number}"), value.clone());
            self.note(&format!("batch {number}"), Some(value.clone()));
        }
        self.engine.commit(batch).unwrap();
        self.mark();
        self.put("", round);
    }
}

/// How a fixture ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Closed.
    Closed,
    /// Closed, and the checkpoint is gone.
    Footers,
    /// Cut off, with a checkpoint from the middle.
    Crashed,
    /// Cut off, without a checkpoint.
    Bare,
}

impl Fixture {
    fn new(name: &'static str, end: End, read_mode: ReadMode) -> Self {
        let setup = Setup { read_mode, ..Setup::new(Durability::Sync) };
        let disk = MemoryDisk::new();
        let engine = setup.options(Arc::new(disk.clone()), &TestClock::new()).open(STORE).unwrap();
        let fixture = Self {
            name,
            files: Files::new(),
            setup,
            expected: BTreeMap::new(),
            history: BTreeMap::new(),
            loose: BTreeSet::new(),
            states: Vec::new(),
        };
        let mut scribe = Scribe { engine, fixture };
        scribe.write(0);
        while scribe.engine.step().unwrap() {}
        if end == End::Crashed {
            scribe.engine.checkpoint().unwrap();
        }
        scribe.write(1);
        while scribe.engine.step().unwrap() {}
        if matches!(end, End::Crashed | End::Bare) {
            scribe.put("round 1 key 0", 77);
            scribe.put("overwritten", 78);
            // The commit marker of each write says that all before it is durable. Whoever loses the last ones
            // cannot know: so what counts here is followed by more markers than any test destroys at once.
            for number in 0..5 {
                let key = format!("loose {number}");
                scribe.fixture.loose.insert(key.clone().into_bytes());
                scribe.put(&key, 150);
            }
        }
        let Scribe { engine, mut fixture } = scribe;
        let crashed = disk.files();
        engine.close().unwrap();
        fixture.files = match end {
            End::Closed => disk.files(),
            End::Footers => {
                // The manifest still names it: the check says so, whatever else it finds.
                let mut files = disk.files();
                files.retain(|path, _| !has_suffix(path, ".ckpt"));
                files
            }
            End::Crashed | End::Bare => crashed,
        };
        let count = |suffix| fixture.files.keys().filter(|p| has_suffix(p, suffix)).count();
        assert!(count(".seg") >= 3, "{:?}", fixture.files.keys());
        assert_eq!(count(".ckpt"), usize::from(matches!(end, End::Closed | End::Crashed)));
        fixture
    }

    /// All ends, in both ways of reading.
    fn all() -> Vec<Self> {
        let (map, positioned) = (ReadMode::Map, ReadMode::Positioned);
        vec![
            Self::new("closed", End::Closed, map),
            Self::new("closed, by position", End::Closed, positioned),
            Self::new("footers", End::Footers, map),
            Self::new("crashed", End::Crashed, map),
            Self::new("crashed, by position", End::Crashed, positioned),
            Self::new("bare", End::Bare, positioned),
        ]
    }

    fn open(&self, disk: &MemoryDisk, policy: RecoveryPolicy) -> Result<Engine> {
        let options = self.setup.options(Arc::new(disk.clone()), &TestClock::new());
        options.recovery(policy).open(STORE)
    }

    /// Opens the damaged files and reads everything. `Err` is a broken rule.
    fn judge(&self, files: &Files, policy: RecoveryPolicy) -> std::result::Result<Seen, String> {
        let judged = catch_unwind(AssertUnwindSafe(|| self.judge_or_panic(files, policy)));
        judged.unwrap_or_else(|_| Err("panic".to_owned()))
    }

    fn judge_or_panic(
        &self,
        files: &Files,
        policy: RecoveryPolicy,
    ) -> std::result::Result<Seen, String> {
        let disk = MemoryDisk::with_files(files.clone());
        let engine = match self.open(&disk, policy) {
            Ok(engine) => engine,
            Err(Error::UnknownFormat { .. }) => return Ok(Seen::refused()),
            Err(Error::Corruption(_)) if policy != RecoveryPolicy::Salvage => {
                return Ok(Seen::refused());
            }
            Err(error) => return Err(format!("not opened: {error}")),
        };
        let mut seen = Seen { report: engine.recovery_report().clone(), ..Seen::default() };
        let mut read = BTreeMap::new();
        for (key, expected) in &self.expected {
            let found = match engine.get(key) {
                Ok(found) => found.map(|value| value.to_vec()),
                Err(Error::Corruption(_)) => {
                    seen.errors += 1;
                    continue;
                }
                Err(error) => return Err(format!("get: {error}")),
            };
            self.compare(key, found.as_ref(), expected.as_ref(), &mut seen)?;
            read.insert(key.clone(), found);
        }
        seen.agree(&engine, &read)?;
        if !seen.wrong.is_empty() {
            let keys: Vec<_> = seen.wrong.iter().map(|key| String::from_utf8_lossy(key)).collect();
            if policy == RecoveryPolicy::Strict {
                return Err(format!("strict, opened, but {keys:?} differ: {:?}", seen.report));
            }
            if seen.report.damaged.is_empty() {
                return Err(format!("{keys:?} differ and no damage is reported"));
            }
        }
        Ok(seen)
    }

    fn compare(
        &self,
        key: &[u8],
        found: Option<&Vec<u8>>,
        expected: Option<&Vec<u8>>,
        seen: &mut Seen,
    ) -> std::result::Result<(), String> {
        if found == expected {
            return Ok(());
        }
        if found.is_some_and(|found| !self.history[key].contains(found)) {
            return Err(format!(
                "{:?} has a value that it never had",
                String::from_utf8_lossy(key)
            ));
        }
        let is_said = !seen.report.torn.is_empty() || !seen.report.damaged.is_empty();
        if self.loose.contains(key) && is_said {
            return Ok(());
        }
        seen.wrong.push(key.to_vec());
        Ok(())
    }

    /// Whether the check finds a problem in these files. An error of the check counts: it says what is wrong.
    fn is_sick(files: &Files) -> bool {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::with_files(files.clone()));
        !check_store(&disk, Path::new(STORE)).is_ok_and(|report| report.is_healthy())
    }

    /// Judges under every policy; what breaks a rule is noted.
    fn judge_all(&self, files: &Files, broken: &mut Broken, what: &str) -> Option<[Seen; 3]> {
        let seen = POLICIES.map(|policy| {
            let seen = self.judge(files, policy);
            seen.map_err(|rule| broken.note(format!("{}, {policy:?}, {what}: {rule}", self.name)))
        });
        match seen {
            [Ok(strict), Ok(skip), Ok(salvage)] => Some([strict, skip, salvage]),
            _ => None,
        }
    }

    /// As [`Self::judge_all`]; and the check must notice whatever somebody could see.
    fn judge_and_check(&self, files: &Files, broken: &mut Broken, what: &str) {
        let Some(seen) = self.judge_all(files, broken, what) else { return };
        if !seen.iter().all(Seen::is_whole) && !Self::is_sick(files) {
            broken.note(format!("{}, {what}: the check misses it", self.name));
        }
    }
}

impl Fixture {
    /// Whether this file is the unsealed end of the log.
    fn is_tail(&self, path: &Path) -> bool {
        let bytes = &self.files[path];
        has_suffix(path, ".seg") && !bytes[bytes.len() - 128..].starts_with(b"TIERCEFT")
    }

    /// The rule for a log whose end is gone: under every policy it opens with what all keys had at one moment.
    fn judge_prefix(&self, files: &Files, broken: &mut Broken, what: &str) {
        for policy in POLICIES {
            let note = |rule: String| format!("{}, {policy:?}, {what}: {rule}", self.name);
            let disk = MemoryDisk::with_files(files.clone());
            let engine = match self.open(&disk, policy) {
                Ok(engine) => engine,
                // Where a sealed segment or a marker that is left says that more was there.
                Err(Error::Corruption(_)) if policy == RecoveryPolicy::Strict => continue,
                Err(error) => {
                    broken.note(note(error.to_string()));
                    continue;
                }
            };
            let read = |key: &Vec<u8>| engine.get(key).unwrap().map(|value| value.to_vec());
            let found: BTreeMap<_, _> =
                self.expected.keys().map(|key| (key.clone(), read(key))).collect();
            let is_moment = |state: &BTreeMap<Vec<u8>, Option<Vec<u8>>>| {
                found.iter().all(|(key, value)| state.get(key).unwrap_or(&None) == value)
            };
            let is_damaged = !engine.recovery_report().damaged.is_empty();
            if !is_damaged && !self.states.iter().any(is_moment) {
                broken.note(note("it is no moment of the store".to_owned()));
            }
        }
    }
}

/// Every broken rule of a test, so that one run shows all.
#[derive(Default)]
struct Broken {
    count: usize,
    kinds: BTreeSet<String>,
    first: Vec<String>,
}

impl Broken {
    fn note(&mut self, rule: String) {
        self.count += 1;
        // One of each kind: rules that differ in nothing but numbers at their start are of one kind.
        let kind: String = rule.chars().take(80).filter(|c| !c.is_ascii_digit()).collect();
        if self.first.len() < 40 && self.kinds.insert(kind) {
            self.first.push(rule);
        }
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.count == 0, "{} broken:\n{}", self.count, self.first.join("\n"));
        }
    }
}

/// What was seen of a damaged store.
#[derive(Debug, Default)]
struct Seen {
    refused: bool,
    report: RecoveryReport,
    /// Keys whose reading is an error.
    errors: usize,
    /// Keys that are missing or have an older value.
    wrong: Vec<Vec<u8>>,
}

impl Seen {
    fn refused() -> Self {
        Self { refused: true, ..Self::default() }
    }

    /// Whether the damage changed nothing that anybody could see.
    fn is_whole(&self) -> bool {
        !self.refused && self.errors == 0 && self.wrong.is_empty() && self.report.damaged.is_empty()
    }

    /// Iteration says what `get` says.
    fn agree(
        &self,
        engine: &Engine,
        read: &BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    ) -> std::result::Result<(), String> {
        let mut listed = BTreeMap::new();
        let mut errors = 0;
        for item in engine.iter().map_err(|error| error.to_string())? {
            match item {
                Ok((key, entry)) => {
                    if listed.insert(key.clone(), entry.value.to_vec()).is_some() {
                        return Err(format!("{key:?} is listed twice"));
                    }
                }
                Err(Error::Corruption(_)) => errors += 1,
                Err(error) => return Err(format!("iter: {error}")),
            }
        }
        for (key, value) in read {
            if listed.get(key) != value.as_ref() {
                return Err(format!("{:?}: iter and get differ", String::from_utf8_lossy(key)));
            }
        }
        // There may be more: a damaged record that a newer one displaced cannot be told from one that counts.
        if errors == 0 && self.errors > 0 {
            return Err(format!("iter has no errors, get {}", self.errors));
        }
        Ok(())
    }
}

fn has_suffix(path: &Path, suffix: &str) -> bool {
    path.to_string_lossy().ends_with(suffix)
}

/// The files of a fixture that hold data.
fn data_files(fixture: &Fixture) -> impl Iterator<Item = (&PathBuf, &Vec<u8>)> {
    fixture.files.iter().filter(|(path, _)| !has_suffix(path, "LOCK"))
}

/// Goal: the fixtures hold what they should, undamaged, under every policy, and the check has nothing to say but
/// that the checkpoint is gone where it is.
#[test]
fn undamaged() {
    for fixture in Fixture::all() {
        let seen = POLICIES.map(|policy| fixture.judge(&fixture.files, policy).unwrap());
        assert!(seen.iter().all(Seen::is_whole), "{}: {seen:?}", fixture.name);
        assert_eq!(Fixture::is_sick(&fixture.files), fixture.name == "footers");
    }
}
