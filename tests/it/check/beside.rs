//! A check while somebody writes, deletes, seals, compacts and checkpoints as fast as it can, in a real directory.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use tierce_engine::{
    Durability, Options, Timestamp,
    check::{CheckLevel, CheckOptions, check_store, check_store_with},
    format::manifest::{Edit, ManifestHeader, encode_frame},
    io::{
        Access, DirectoryEntry, Disk, File, LockMode, LockOutcome, MemoryDisk, OsDisk, PathKind,
        Space,
    },
};
use tierce_kit::{rng::Rng, seed::cases, store::STORE};

use super::shapes::{self, frames, path_of};

/// Writes until told to stop, and counts it.
fn hammer(dir: &Path, seed: u64, stop: &AtomicBool, done: &AtomicU64) {
    let mut options = Options::new().segment_bytes(8 << 10).durability(Durability::Os);
    options.compaction.automatic = true;
    let engine = options.open(dir).unwrap();
    let mut rng = Rng::new(seed);
    let mut writes = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("key {}", rng.below(200));
        match rng.below(20) {
            0..13 => {
                let length = if rng.one_in(50) { 20_000 } else { rng.below(600) as usize };
                engine.put(&key, crate::basics::filler(writes, length)).unwrap();
            }
            13..17 => drop(engine.delete(&key).unwrap()),
            17 => engine.sync().unwrap(),
            18 if rng.one_in(10) => drop(engine.compact().unwrap()),
            19 if rng.one_in(20) => engine.checkpoint().unwrap(),
            _ => drop(engine.get(&key).unwrap()),
        }
        writes += 1;
        done.fetch_add(1, Ordering::Relaxed);
    }
    engine.close().unwrap();
}

/// Goal: whatever moment a check meets, beside a writer nothing is damaged, and no check is in the writer's way: each
/// of hundreds of checks of a store that never stands still calls it healthy. Method: two threads that do nothing
/// else. The store is closed and opened now and then.
#[test]
fn a_running_writer_is_healthy() {
    const CHECKS: usize = 240;
    let name = "check::beside::a_running_writer_is_healthy";
    cases(name, 1, |seed| {
        eprintln!("{name}: seed {seed}");
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        Options::new().open(dir.path()).and_then(|e| e.put("key 0", "").and(e.close())).unwrap();
        let (mut given_up, mut seen, mut writes) = (0, 0, 0);
        for round in 0..4 {
            let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
            let checks = thread::scope(|scope| {
                let writer = scope.spawn(|| hammer(dir.path(), seed + round, &stop, &done));
                let checked = catch_unwind(AssertUnwindSafe(|| {
                    let check = |number: usize| {
                        // Not two checks of one moment.
                        let before = done.load(Ordering::Relaxed);
                        while done.load(Ordering::Relaxed) < before + 10 && !writer.is_finished() {
                            thread::yield_now();
                        }
                        let level = if number.is_multiple_of(5) {
                            CheckLevel::Quick
                        } else {
                            CheckLevel::Full
                        };
                        let options = CheckOptions::new().level(level);
                        check_store_with(&disk, dir.path(), options).unwrap()
                    };
                    (0..CHECKS / 4).map(check).collect::<Vec<_>>()
                }));
                stop.store(true, Ordering::Relaxed);
                writer.join().unwrap();
                writes += done.load(Ordering::Relaxed);
                checked.unwrap()
            });
            for report in checks {
                assert!(report.is_healthy(), "{:#?}", report.findings);
                given_up += report
                    .findings
                    .iter()
                    .filter(|finding| finding.code.as_str() == "C060")
                    .count();
                seen += report.segments;
            }
        }
        eprintln!(
            "{name}: {CHECKS} checks of {seen} segments beside {writes} writes, {given_up} given up"
        );
        assert!(writes > 1_000 && seen > CHECKS as u64);
        assert!(given_up < CHECKS / 4, "a check comes to a verdict");
        let report = check_store_with(&disk, dir.path(), CheckOptions::new()).unwrap();
        assert!(report.is_healthy() && report.findings.is_empty(), "{:#?}", report.findings);
    });
}

/// A disk on which somebody changes the manifest between any two looks, and a segment is never where it was.
#[derive(Debug)]
struct Restless {
    disk: MemoryDisk,
    turns: AtomicU64,
}

impl Restless {
    /// Appends an edit that says nothing new.
    fn stir(&self) -> io::Result<()> {
        let path = path_of("MANIFEST");
        let bytes = self.disk.files()[&path].clone();
        let generation = ManifestHeader::decode(&bytes).unwrap().generation;
        let mut frame = Vec::new();
        let number = frames(&bytes).len() as u64 + 1;
        let edit = Edit::Clock(Timestamp(self.turns.fetch_add(1, Ordering::Relaxed)));
        encode_frame(&[edit], generation, number, bytes.len() as u64, &mut frame);
        self.disk.open(&path, Access::Write)?.write_at(&frame, bytes.len() as u64).map(drop)
    }
}

impl Disk for Restless {
    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        self.disk.kind(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.stir()?;
        self.disk.list(dir)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        self.disk.open(path, access)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<LockOutcome> {
        self.disk.lock(path, mode)
    }
    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.disk.space(dir)
    }
    fn identity(&self, dir: &Path) -> io::Result<String> {
        self.disk.identity(dir)
    }
}

/// Goal: where no two looks are of one moment, doubts are a note, and damage to what never changes is still a problem;
/// once the store stands still, the doubt is the truth.
#[test]
fn c060_a_store_that_never_stands_still() {
    let shape = shapes::all().swap_remove(0);
    let segments: Vec<_> =
        shape.files.keys().filter(|path| path.extension().is_some_and(|e| e == "seg")).collect();
    let mut files = shape.files.clone();
    files.remove(segments[1]);
    let checked = |files: &super::Files| {
        let disk = MemoryDisk::with_files(files.clone());
        let disk: Arc<dyn Disk> = Arc::new(Restless { disk, turns: AtomicU64::new(0) });
        check_store(&disk, Path::new(STORE)).unwrap()
    };
    let report = checked(&files);
    assert!(report.is_healthy() && super::codes_of(&report) == ["C060"], "{report:?}");
    assert_eq!(super::codes_of(&super::check(&files).unwrap()), ["C010"]);
    files.get_mut(segments[0]).unwrap()[30] ^= 1;
    let report = checked(&files);
    assert!(!report.is_healthy() && super::codes_of(&report) == ["C012", "C060"], "{report:?}");
}
