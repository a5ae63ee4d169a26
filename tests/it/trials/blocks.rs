//! Blocks that the device cannot read, and files that are cut under a map.

use std::{
    collections::BTreeMap,
    env, fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use tierce_engine::{
    Engine, Error, Options, ReadMode,
    backup::{BackupOptions, back_up},
    check::check_store,
    io::{Disk, MemoryDisk},
    repair, restore, verify_backup,
};
use tierce_kit::{bad_blocks::BadBlocks, image::Image};

const BLOCK_BYTES: u64 = 4096;

fn options(disk: &Arc<dyn Disk>) -> Options {
    let mut options = Options::new().segment_bytes(32 << 10);
    options.disk = Arc::clone(disk);
    options.background(false).read_mode(ReadMode::Positioned)
}

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn contents(engine: &Engine) -> Contents {
    engine
        .iter()
        .unwrap()
        .map(|entry| entry.map(|(key, entry)| (key, entry.value.to_vec())).unwrap())
        .collect()
}

/// A store of several segments, the last of which is sealed or not, some keys written twice; and what it holds.
fn store(is_closed: bool) -> (MemoryDisk, Contents) {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let engine = options(&disk).open("store").unwrap();
    for round in 0..2_u8 {
        for number in 0..60_u8 {
            engine.put([number], vec![number ^ round; 900]).unwrap();
        }
    }
    engine.sync().unwrap();
    let held = contents(&engine);
    if is_closed {
        engine.close().unwrap();
        return (memory, held);
    }
    (Image::of_memory_disk(&memory).memory_disk(), held)
}

/// The store on a disk of which one block cannot be read, for every block of every file.
fn every_block(memory: &MemoryDisk, mut look: impl FnMut(&Path, u64, Arc<dyn Disk>)) {
    for (path, bytes) in memory.files() {
        if path.ends_with("LOCK") {
            continue;
        }
        for block in 0..(bytes.len() as u64).div_ceil(BLOCK_BYTES) {
            let at = block * BLOCK_BYTES;
            let disk = BadBlocks::new(Image::of_memory_disk(memory).memory_disk());
            disk.break_at(&path, at..at + BLOCK_BYTES);
            look(&path, at, Arc::new(disk));
        }
    }
}

/// Nothing is there that was not stored, and what is missing was named as lost.
fn assert_honest(
    found: &Contents,
    held: &Contents,
    lost: &[repair::LostRecord],
    unknown: usize,
    what: &str,
) {
    for (key, value) in found {
        let is_right = held.get(key) == Some(value);
        assert!(is_right || unknown > 0, "{what}: {key:?} is an older value, and nothing says so");
    }
    let is_named = |key: &Vec<u8>| {
        lost.iter().any(|lost| lost.key.as_ref() == Some(key) || lost.key.is_none())
    };
    for key in held.keys().filter(|key| !found.contains_key(*key)) {
        assert!(unknown > 0 || is_named(key), "{what}: {key:?} is gone, and nothing says so");
    }
}

/// Goal: whatever one block of a store cannot be read, salvage takes everything else and names what is lost, and a repair
/// has a plan and mends it: a sound store is left, with everything else. Nothing is mapped on the way. Method: every
/// block of every file of a closed and of a crashed store.
#[test]
fn salvaged_and_repaired() {
    for is_closed in [true, false] {
        let (memory, held) = store(is_closed);
        every_block(&memory, |path, at, disk| {
            let what = format!("{} at {at}, closed {is_closed}", path.display());
            let (store, out) = (Path::new("store"), Path::new("out"));
            if !path.ends_with("MANIFEST") {
                assert!(check_store(&disk, store).is_ok(), "{what}");
            }
            let done = repair::salvage(&options(&disk), store, out).unwrap();
            let found = contents(&options(&disk).open(out).unwrap());
            // A block holds parts of six records at most.
            assert!(found.len() + 6 >= held.len(), "{what}: {} of {}", found.len(), held.len());
            assert_honest(&found, &held, &done.lost, done.unknown.len(), &what);
            let plan = repair::plan(&options(&disk), store).unwrap();
            assert!(!plan.before.findings.is_empty(), "{what}");
            let rebuilt = repair::rebuild(
                &options(&disk),
                store,
                repair::Rebuild { footers: true, checkpoint: true },
            );
            assert!(matches!(rebuilt, Ok(_) | Err(Error::Corruption(_))), "{what}: {rebuilt:?}");
            let report = repair::repair(&options(&disk), store, None).unwrap();
            assert!(report.after.is_healthy(), "{what}: {:?}", report.after.findings);
            let found = contents(&options(&disk).open(store).unwrap());
            assert!(found.len() + 6 >= held.len(), "{what}: {} of {}", found.len(), held.len());
            assert_honest(&found, &held, &plan.lost, plan.unknown.len(), &what);
        });
    }
}

/// Goal: a store with such a block is served by positioned reads: what is not on it is there, what is comes as an error
/// that names the file, and writes go on; or it is refused with the file's name. Method: every block of every segment.
#[test]
fn served() {
    let (memory, held) = store(true);
    let (mut opened, mut failed) = (0, 0);
    every_block(&memory, |path, at, disk| {
        let what = format!("{} at {at}", path.display());
        let name = path.file_name().unwrap().to_str().unwrap();
        match options(&disk).open("store") {
            Ok(engine) => {
                opened += 1;
                for (key, value) in &held {
                    match engine.get(key) {
                        Ok(found) => assert_eq!(found.as_deref(), Some(value.as_slice()), "{what}"),
                        Err(error) => {
                            failed += 1;
                            assert!(error.to_string().contains(name), "{what}: {error}");
                        }
                    }
                }
                engine.put("more", "value").unwrap();
                assert_eq!(engine.get("more").unwrap().as_deref(), Some(&b"value"[..]));
            }
            Err(error) => assert!(error.to_string().contains(name), "{what}: {error}"),
        }
    });
    assert!(opened > 20 && failed > 20, "{opened} opened, {failed} failed");
}

/// Goal: a restore of a backup with such a block names the backup's file, leaves nothing behind, and what stood in the
/// place stays; a proof says that it cannot be read; a backup of a store with one names the store's file.
#[test]
fn backed_up_and_restored() {
    let (memory, _) = store(true);
    let whole: Arc<dyn Disk> = Arc::new(memory.clone());
    let go_on = &mut |_, _| ControlFlow::Continue(());
    let (from, backup, to) = (Path::new("store"), Path::new("backup"), Path::new("to"));
    back_up(&whole, from, backup, &BackupOptions::new().copies(true), go_on).unwrap();
    let segment = memory
        .files()
        .into_keys()
        .find(|path| path.starts_with(from) && path.extension().is_some_and(|e| e == "seg"))
        .unwrap();
    for at in [0, 2 * BLOCK_BYTES] {
        let disk = BadBlocks::new(memory.clone());
        let bad = backup.join(segment.file_name().unwrap());
        disk.break_at(&bad, at..at + BLOCK_BYTES);
        disk.break_at(&segment, at..at + BLOCK_BYTES);
        let disk: Arc<dyn Disk> = Arc::new(disk);
        assert!(!verify_backup(&disk, backup).unwrap().is_sound());
        let failed = restore(&disk, backup, to, false, go_on).unwrap_err();
        assert!(failed.to_string().contains(bad.to_str().unwrap()), "{failed}");
        let failed =
            back_up(&disk, from, Path::new("other"), &BackupOptions::new().copies(true), go_on)
                .unwrap_err();
        assert!(failed.to_string().contains(segment.to_str().unwrap()), "{failed}");
    }
    assert!(
        memory
            .files()
            .keys()
            .all(|path| !path.starts_with("to") && !path.starts_with("to.restoring"))
    );
}

/// Goal: of a file that is cut while the store is open, positioned reads give an error and go on; a map of it kills the
/// process by a signal, as is documented. Method: a process of its own.
#[cfg(target_os = "linux")]
#[test]
fn cut_while_open() {
    use std::os::unix::process::ExitStatusExt as _;
    const ASKED: &str = "TIERCE_TEST_CUT_WHILE_OPEN";
    const SIGBUS: i32 = 7;
    if let Some(mode) = env::var_os(ASKED) {
        let mode = if mode == "map" { ReadMode::Map } else { ReadMode::Positioned };
        let dir = PathBuf::from(env::var_os("TIERCE_TEST_DIR").unwrap());
        let engine = Options::new().background(false).read_mode(mode).open(&dir).unwrap();
        let first = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let segment =
            first.filter(|path| path.extension().is_some_and(|e| e == "seg")).min().unwrap();
        fs::File::options().write(true).open(segment).unwrap().set_len(4096 + 100).unwrap();
        let failed = (0..60_u8).filter(|number| engine.get([*number]).is_err()).count();
        assert!(failed > 3, "{failed}");
        engine.put("more", "value").unwrap();
        return;
    }
    for (mode, signal) in [("positioned", None), ("map", Some(SIGBUS))] {
        let dir = tempfile::tempdir().unwrap();
        let engine =
            Options::new().background(false).segment_bytes(32 << 10).open(dir.path()).unwrap();
        for number in 0..60_u8 {
            engine.put([number], vec![number; 900]).unwrap();
        }
        engine.close().unwrap();
        let done = Command::new(env::current_exe().unwrap())
            .args(["trials::blocks::cut_while_open", "--exact", "--nocapture"])
            .env(ASKED, mode)
            .env("TIERCE_TEST_DIR", dir.path())
            .output()
            .unwrap();
        assert_eq!(
            done.status.signal(),
            signal,
            "{mode}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        assert!(
            signal.is_some() || done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}
