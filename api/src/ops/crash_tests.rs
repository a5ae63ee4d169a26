//! Crash sweep over the file operations of `ops` and states: the old file or the new one survives, never neither.

use std::{fs, path::Path, sync::Arc};

use serde_json::json;
use tierce_engine::io::OsClock;
use tierce_kit::{
    crash::{Bounds, CrashPlan, sweep},
    image::Image,
    log::Log,
};

use super::{
    BackupOptions, ConfigDocument, Migrator, RotatingLog, StatusDocument, files::notes,
    prepare_backup_with, restore_from_backup,
};
use crate::{
    Version,
    state::{JsonFileStore, Object, StateStore as _},
};

/// What a call promised: after so many steps it had returned.
struct Promise<T> {
    from: usize,
    holds: T,
}

/// Notes what `run` does in a directory with what `prepare` made, and shows what each power cut leaves.
fn each_crash<T>(
    prepare: impl FnOnce(&Path),
    run: impl FnOnce(&Path, &mut dyn FnMut(T)),
    check: impl Fn(&Path, Option<&T>, Option<&T>, &str),
) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    prepare(&root);
    notes::begin(&root);
    let mut promises = Vec::new();
    run(&root, &mut |holds| promises.push(Promise { from: notes::count(), holds }));
    let log = notes::end();
    assert_eq!(last(&log), notes::image_of(&root), "every step is noted");
    let mut count = 0;
    let bounds = Bounds { prefixes: 6, singles: 6, randoms: 6, tears: 2 };
    let visit = |point: usize, plan: &CrashPlan, image: Image| {
        let left = tempfile::tempdir().unwrap();
        image
            .directories
            .iter()
            .for_each(|path| fs::create_dir_all(left.path().join(path)).unwrap());
        for (path, bytes) in &image.files {
            fs::write(left.path().join(path), &**bytes).unwrap();
        }
        let done = promises.iter().rposition(|promise| promise.from <= point);
        let next = promises.get(done.map_or(0, |at| at + 1)).map(|promise| &promise.holds);
        let what = format!("point {point} of {:?}, {plan:?}, {image:?}", log.events);
        check(left.path(), done.map(|at| &promises[at].holds), next, &what);
        count += 1;
        Ok::<(), ()>(())
    };
    sweep(&log, 0, &bounds, 1, visit).unwrap();
    count
}

/// The disk if no power goes.
fn last(log: &Log) -> Image {
    tierce_kit::crash::image(log, log.events.len(), &CrashPlan::Everything)
}

fn one(count: u64) -> Object {
    let serde_json::Value::Object(object) = json!({ "count": count }) else { panic!("no object") };
    object
}

/// Goal: a state that was saved is there; one that was being saved is the old or the new.
#[test]
fn saves_of_states() {
    let run = |root: &Path, promise: &mut dyn FnMut(u64)| {
        let store = JsonFileStore::new(root.join("a/b/state.json"));
        for count in 1..5 {
            store.save("sensor", &one(count)).unwrap();
            promise(count);
        }
    };
    let check = |root: &Path, done: Option<&u64>, next: Option<&u64>, what: &str| {
        let found = JsonFileStore::new(root.join("a/b/state.json")).load("sensor").unwrap();
        let allowed = [done, next].map(|count| count.map(|count| one(*count)));
        assert!(
            allowed.contains(&found) || next.is_none() && found == allowed[0],
            "{found:?}: {what}"
        );
        assert!(found.is_some() || done.is_none(), "{what}");
    };
    assert!(each_crash(|_| (), run, check) > 50);
}

/// Goal: settings that were set are there; what was damaged is kept, under its name or another.
#[test]
fn documents_and_what_is_moved_aside() {
    const DAMAGED: &str = "{\"cut off";
    let prepare = |root: &Path| {
        fs::write(root.join("config.json"), DAMAGED).unwrap();
        fs::write(root.join("status.json"), "{\"other\": 1}").unwrap();
    };
    let run = |root: &Path, promise: &mut dyn FnMut(u32)| {
        let mut config = ConfigDocument::open(root.join("config.json")).unwrap();
        let mut status = StatusDocument::open(root.join("status.json")).unwrap();
        for count in 1..4 {
            status.set("count", count).unwrap();
            config.set("count", &count).unwrap();
            promise(count);
        }
    };
    let check = |root: &Path, done: Option<&u32>, next: Option<&u32>, what: &str| {
        let is_damaged = |entry: fs::DirEntry| {
            fs::read_to_string(entry.path()).is_ok_and(|text| text == DAMAGED)
        };
        let mut entries = fs::read_dir(root).unwrap().map(Result::unwrap);
        assert!(entries.any(is_damaged), "the damaged file is gone: {what}");
        let config = ConfigDocument::open(root.join("config.json")).unwrap();
        let found = config.get::<u32>("count").unwrap();
        assert!(found == done.copied() || found == next.copied(), "{found:?}: {what}");
        let status = StatusDocument::open(root.join("status.json")).unwrap();
        assert!(status.damage().is_none() && status.values()["other"] == 1, "{what}");
        let found = status.values().get("count").and_then(serde_json::Value::as_u64);
        assert!(found >= done.map(|count| u64::from(*count)), "{found:?}: {what}");
    };
    assert!(each_crash(prepare, run, check) > 50);
}

/// Goal: lines that were synced are there, whole and in order, but for those of files that were rotated away.
#[test]
fn rotating_logs() {
    let run = |root: &Path, promise: &mut dyn FnMut(u32)| {
        let mut log = RotatingLog::open_with(root.join("a.log"), 16, 2, Arc::new(OsClock)).unwrap();
        for line in 0..10 {
            log.append(&format!("line {line}")).unwrap();
            if line % 3 == 2 {
                log.sync().unwrap();
                promise(line);
            }
        }
    };
    let check = |root: &Path, done: Option<&u32>, _: Option<&u32>, what: &str| {
        let read = |name| fs::read_to_string(root.join(name)).unwrap_or_default();
        let text = [read("a.log.2"), read("a.log.1"), read("a.log")].concat();
        let is_there = |line: &u32| text.contains(&format!("line {line}\n"));
        let Some(done) = done else { return };
        let newest = (0..10).rev().find(is_there);
        assert!(newest >= Some(*done), "the end is gone: {text:?} {what}");
        // Two lines a file; a rotation under way keeps the two newest files.
        let oldest = (newest.unwrap_or(0) / 2 * 2).saturating_sub(2);
        for line in oldest..=*done {
            assert!(is_there(&line), "line {line} is gone: {text:?} {what}");
        }
    };
    assert!(each_crash(|_| (), run, check) > 100);
}

/// Goal: a restore that a power cut broke off is finished by the next start, and the data has its version.
#[test]
fn restores_of_backups() {
    let (old, new) = (Version::new(1, 0, 0), Version::new(2, 0, 0));
    let restore = |root: &Path| {
        let mut migrator =
            Migrator::new(root, [super::DataStep::new(old, new, |_| Ok(()))]).unwrap();
        let restored = restore_from_backup(root, &mut migrator, new, || Ok(())).unwrap();
        (restored.is_some(), migrator.version().unwrap())
    };
    let prepare = |root: &Path| {
        let original = tempfile::tempdir().unwrap();
        fs::write(original.path().join("state.json"), "{}").unwrap();
        prepare_backup_with(original.path(), old, &BackupOptions::new(), || Ok(())).unwrap();
        for name in ["state.json", "backup_metadata.json"] {
            fs::copy(original.path().join(name), root.join(name)).unwrap();
        }
    };
    let run = |root: &Path, promise: &mut dyn FnMut(())| {
        assert_eq!(restore(root), (true, new));
        promise(());
    };
    let check = |root: &Path, done: Option<&()>, _: Option<&()>, what: &str| {
        let (is_restored, version) = restore(root);
        assert_eq!(version, new, "{what}");
        assert!(done.is_none() || !is_restored, "a second time: {what}");
        assert_eq!(restore(root), (false, new), "{what}");
    };
    assert!(each_crash(prepare, run, check) > 20);
}
