//! Damaged stores that are repaired or salvaged: what is lost is named, what was deleted or replaced stays so, and the
//! way back gives the very bytes.
//!
//! - `codes`: every finding of a check, produced and repaired
//! - `edges`: the way back of a way back, the lock, where a new store may be, numbers that nobody gave
//! - `named`: the cases by which older values would come back, one by one
//! - `random`: any damage to any file, against what was stored
//! - `crashes`: a repair cut short at every call to the disk

mod codes;
mod crashes;
mod edges;
mod forged;
mod named;
mod random;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use tierce_engine::{
    Batch, Durability, Engine, Options, PutOptions,
    io::{Disk as _, MemoryDisk},
    repair::{Fate, LostRange, LostRecord},
};
use tierce_kit::{
    clock::TestClock,
    rng::Rng,
    store::{STORE, Setup},
};

use crate::basics::filler;

pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;
type Values = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// How the life of a store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    /// Cut off, with a checkpoint from before.
    Crashed,
    /// Cut off, and there never was a checkpoint.
    Bare,
}

/// A store as files, and what was stored in it.
pub(crate) struct Lived {
    pub(crate) files: Files,
    pub(crate) setup: Setup,
    /// What each key has.
    pub(crate) expected: Values,
    /// Every value that each key ever had.
    pub(crate) history: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// Keys written last, behind everything that a marker says is durable.
    loose: BTreeSet<Vec<u8>>,
}

fn options(setup: &Setup, disk: &MemoryDisk) -> Options {
    setup.options(Arc::new(disk.clone()), &TestClock::new())
}

struct Writes {
    engine: Engine,
    lived: Lived,
    count: u64,
}

impl Writes {
    fn note(&mut self, key: &str, value: Option<Vec<u8>>) {
        let key = key.as_bytes().to_vec();
        self.lived.history.entry(key.clone()).or_default().extend(value.clone());
        self.lived.expected.insert(key, value);
    }

    fn value(&mut self, rng: &mut Rng) -> Vec<u8> {
        self.count += 1;
        let length = rng.weighted(&[(3, 40), (3, 200), (1, 700)]);
        filler(self.count, length + rng.below(40) as usize)
    }

    fn is_there(&self, key: &str) -> bool {
        self.lived.expected.get(key.as_bytes()).is_some_and(Option::is_some)
    }

    fn any(&mut self, rng: &mut Rng) {
        let key = format!("key {}", rng.below(24));
        match rng.below(12) {
            0..=5 => {
                let value = self.value(rng);
                self.engine.put(&key, &value).unwrap();
                self.note(&key, Some(value));
            }
            6 | 7 => {
                self.engine.delete(&key).unwrap();
                self.note(&key, None);
            }
            8 => {
                let value = self.value(rng);
                let options = PutOptions::new().scope("scope").codec(1, 2).item(0x20, "x");
                let key = format!("scoped {}", rng.below(4));
                self.engine.put_with(&key, &value, &options).unwrap();
                self.note(&key, Some(value));
            }
            9 => {
                self.engine.cut_scope("scope").unwrap();
                for number in 0..4 {
                    self.note(&format!("scoped {number}"), None);
                }
            }
            10 if self.is_there(&key) => {
                let past = self.engine.now();
                self.engine.touch(&key, Some(past)).unwrap();
                self.note(&key, None);
            }
            _ => {
                let mut batch = Batch::new();
                for number in 0..3 {
                    let key = format!("key {}", (rng.below(8) * 3) + number);
                    let value = self.value(rng);
                    batch.put(key.clone(), value.clone());
                    self.note(&key, Some(value));
                }
                self.engine.commit(batch).unwrap();
            }
        }
    }
}

impl Lived {
    /// A life of some operations that `seed` determines.
    pub(crate) fn new(seed: u64, end: End) -> Self {
        let mut rng = Rng::new(seed);
        let setup = Setup { automatic: false, ..Setup::new(Durability::Sync) };
        let disk = MemoryDisk::new();
        let lived = Self {
            files: Files::new(),
            setup,
            expected: Values::new(),
            history: BTreeMap::new(),
            loose: BTreeSet::new(),
        };
        let engine = options(&lived.setup, &disk).open(STORE).unwrap();
        let mut writes = Writes { engine, lived, count: seed << 20 };
        let rounds = 40 + rng.below(80);
        let middle = rng.below(rounds);
        for round in 0..rounds {
            writes.any(&mut rng);
            while writes.engine.step().unwrap() {}
            if round == middle && end != End::Bare {
                writes.engine.checkpoint().unwrap();
            }
            if round == middle && rng.below(2) == 0 {
                writes.engine.compact().unwrap();
            }
        }
        if end != End::Closed {
            for number in 0..5 {
                let key = format!("loose {number}");
                let value = writes.value(&mut rng);
                writes.engine.put(&key, &value).unwrap();
                writes.note(&key, Some(value));
                writes.lived.loose.insert(key.into_bytes());
            }
        }
        let Writes { engine, mut lived, .. } = writes;
        let crashed = disk.files();
        engine.close().unwrap();
        lived.files = if end == End::Closed { disk.files() } else { crashed };
        lived
    }

    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        self.files.keys().filter(|path| has_suffix(path, ".seg")).cloned().collect()
    }

    /// Whether this file is the unsealed end of the log.
    fn is_tail(&self, path: &Path) -> bool {
        let bytes = &self.files[path];
        has_suffix(path, ".seg") && !bytes[bytes.len() - 128..].starts_with(b"TIERCEFT")
    }

    /// What every key has.
    fn read(&self, engine: &Engine) -> Values {
        let get = |key: &Vec<u8>| engine.get(key).unwrap().map(|value| value.to_vec());
        self.expected.keys().map(|key| (key.clone(), get(key))).collect()
    }

    /// Reads every key, and says what is wrong: a key that differs and is not covered by what is said to be lost.
    fn judge(&self, engine: &Engine, told: &Told<'_>, is_end_cut: bool) -> Result<(), String> {
        for (key, expected) in &self.expected {
            let found = engine.get(key).map_err(|error| format!("get: {error}"))?;
            let found = found.map(|value| value.to_vec());
            if found == *expected {
                continue;
            }
            let name = String::from_utf8_lossy(key);
            if found.as_ref().is_some_and(|found| !self.history[key].contains(found)) {
                return Err(format!("{name} has a value that it never had"));
            }
            let is_excused = is_end_cut || (self.loose.contains(key) && found.is_none());
            if is_excused || told.covers(key, found.is_some()) {
                continue;
            }
            let what = match (&found, expected) {
                (None, _) => "is gone",
                (Some(_), None) => "is back",
                (Some(_), Some(_)) => "has an older value",
            };
            return Err(format!("{name} {what}, and nobody said so: {told:?}"));
        }
        let listed = engine.iter().map_err(|error| error.to_string())?.count();
        let found = self.expected.keys().filter(|key| engine.get(key).unwrap().is_some()).count();
        if listed == found { Ok(()) } else { Err(format!("{listed} listed, {found} found")) }
    }
}

/// What a report said of losses.
#[derive(Debug)]
struct Told<'a> {
    lost: &'a [LostRecord],
    unknown: &'a [LostRange],
    hash_seed: Option<u64>,
    /// Whether segments may be missing of which nobody knows.
    lacks_segments: bool,
    /// Whether a sound checkpoint knew everything: then nothing old may show, whatever is gone.
    has_witness: bool,
}

impl Told<'_> {
    /// Whether a key may differ: it is named as gone, or its hash is, or there is a range of which nobody knows. That it
    /// shows something is excused by a range, or by a lost touch, alone.
    fn covers(&self, key: &[u8], shows: bool) -> bool {
        let hash =
            self.hash_seed.map(|seed| tierce_engine::format::hash::KeyHasher::new(seed).hash(key));
        let is_its = |lost: &&LostRecord| {
            lost.key.as_deref() == Some(key) || lost.hash.is_some() && lost.hash == hash
        };
        let mut its = self.lost.iter().filter(is_its).filter(|lost| lost.fate.is_loss());
        let is_named = match shows {
            true => its.any(|lost| lost.fate == Fate::OlderExpiry),
            false => its.next().is_some(),
        };
        let has_unknown = !self.unknown.is_empty() || self.lacks_segments;
        is_named || has_unknown && !(shows && self.has_witness)
    }
}

/// The hash seed in a manifest.
fn hash_seed(files: &Files) -> Option<u64> {
    let manifest = files.get(&Path::new(STORE).join("MANIFEST"))?;
    Some(u64::from_le_bytes(manifest.get(32..40)?.try_into().ok()?))
}

fn has_suffix(path: &Path, suffix: &str) -> bool {
    path.to_string_lossy().ends_with(suffix)
}

/// The files of the store itself, without the lock.
fn store_files(disk: &MemoryDisk) -> Files {
    let is_ours =
        |path: &PathBuf| path.parent() == Some(Path::new(STORE)) && !has_suffix(path, "LOCK");
    disk.files().into_iter().filter(|(path, _)| is_ours(path)).collect()
}

/// A disk with these files, and the store's directory even if there are none.
fn disk_of(files: &Files) -> MemoryDisk {
    let disk = MemoryDisk::with_files(files.clone());
    disk.create_dir_all(Path::new(STORE)).unwrap();
    disk
}
