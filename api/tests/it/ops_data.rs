//! Documents, backups and migrations of a data directory.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use tempfile::tempdir;
use tierce::{
    Error, Timestamp, Version,
    ops::{self, BackupOptions, ConfigDocument, DataStep, Directories, Migrator, StatusDocument},
};
use tierce_kit::clock::TestClock;

use crate::ops::names;

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

fn aside(dir: &Path) -> Vec<String> {
    names(dir).into_iter().filter(|name| name.contains(".corrupt-")).collect()
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Limits {
    low: f64,
    high: Option<u8>,
}

#[test]
fn settings_are_saved_at_once() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("config.json");
    let mut config = ConfigDocument::open(&path).unwrap();
    assert_eq!(config.get_or("interval", 60).unwrap(), 60);
    assert!(!path.exists(), "reading creates nothing");
    config.set("interval", &30).unwrap();
    assert_eq!(text(&path), "{\n  \"interval\": 30\n}\n");
    config.set("limits", &Limits { low: 0.5, high: None }).unwrap();

    let other = ConfigDocument::open(&path).unwrap();
    assert_eq!(other.get::<Limits>("limits").unwrap(), Some(Limits { low: 0.5, high: None }));
    assert_eq!(other.get::<u8>("missing").unwrap(), None);
    assert!(other.damage().is_none());
    assert_eq!(names(dir.path()), ["config.json"]);
}

#[test]
fn settings_keep_unknown_keys_and_null() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("config.json");
    fs::write(&path, "\u{feff}{\"theirs\": {\"a\": [1, null]}, \"nothing\": null}").unwrap();
    let mut config = ConfigDocument::open(&path).unwrap();
    assert_eq!(config.get::<Option<u8>>("nothing").unwrap(), Some(None));
    config.set("ours", "x").unwrap();
    assert!(config.remove("nothing").unwrap());
    let wanted = serde_json::json!({"theirs": {"a": [1, null]}, "ours": "x"});
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text(&path)).unwrap(), wanted);
}

/// Goal: a setting of the wrong kind is an error that does not show it, and is not replaced by the default.
#[test]
fn settings_of_the_wrong_kind() {
    let dir = tempdir().unwrap();
    let mut config = ConfigDocument::open(dir.path().join("config.json")).unwrap();
    config.set("password", "hunter2").unwrap();
    let error = config.get_or::<u32>("password", 5).unwrap_err();
    assert_eq!(error.kind(), "decode");
    assert!(error.to_string().contains("a text is stored there that is no u32"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

/// Goal: what could not be saved is not shown as set.
#[test]
fn settings_that_cannot_be_saved() {
    let dir = tempdir().unwrap();
    let mut config = ConfigDocument::open(dir.path().join("none/config.json")).unwrap();
    assert_eq!(config.set("a", &1).unwrap_err().kind(), "io");
    assert_eq!(config.get::<u8>("a").unwrap(), None);
    let pairs = std::collections::BTreeMap::from([((1, 2), 3)]);
    assert_eq!(config.set("a", &pairs).unwrap_err().kind(), "encode");
}

/// Goal: damaged bytes are moved aside and never written over; each damage has a name of its own.
#[test]
fn damaged_documents_are_set_aside() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("config.json");
    for (at, damaged) in
        ["", "{\"a\": 1", "[1, 2]", "\0\0\0\0", "{\"token\": hunter2}"].into_iter().enumerate()
    {
        fs::write(&path, damaged).unwrap();
        let error = ConfigDocument::open_strict(&path).unwrap_err();
        assert_eq!((error.kind(), text(&path).as_str()), ("corrupt-file", damaged));

        let mut config = ConfigDocument::open(&path).unwrap();
        let damage = config.damage().unwrap();
        assert!(!damage.to_string().contains("hunter2"));
        let Error::CorruptFile { quarantined: Some(kept), .. } = damage else { panic!("{damage}") };
        assert_eq!(text(kept), damaged);
        assert_eq!(aside(dir.path()).len(), at + 1);
        config.set("a", &2).unwrap();
        assert_eq!(aside(dir.path()).len(), at + 1);
    }
}

/// Goal: a file that cannot be read is not a damaged one: nothing goes on, nothing is written.
#[test]
fn unreadable_documents_are_fatal() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("config.json");
    fs::create_dir(&path).unwrap();
    assert_eq!(ConfigDocument::open(&path).unwrap_err().kind(), "io");
    assert_eq!(StatusDocument::open(&path).unwrap_err().kind(), "io");
    assert_eq!(names(dir.path()), ["config.json"]);
}

#[test]
fn a_status() {
    let (dir, clock) = (tempdir().unwrap(), TestClock::new());
    let path = dir.path().join("state.json");
    let start = Timestamp(TestClock::START_MS);
    let open = || StatusDocument::open_with_clock(&path, Arc::new(clock.clone())).unwrap();
    let mut document = open();
    assert_eq!((document.status(), document.started_at()), (Some("initializing"), Some(start)));
    assert_eq!(document.last_updated(), None);
    assert!(!path.exists());

    clock.advance(1_500);
    document.update("running").unwrap();
    let wanted = "{\n  \"last_updated\": \"2023-11-14T22:13:21.5Z\",\n  \"started_at\": \"2023-11-14T22:13:20Z\",\n  \
                  \"status\": \"running\"\n}\n";
    assert_eq!(text(&path), wanted);

    clock.advance(1_000);
    let mut document = open();
    assert_eq!((document.status(), document.started_at()), (Some("running"), Some(start)));
    document.set("devices", 3).unwrap();
    assert_eq!(document.last_updated(), Some(start.saturating_add_ms(2_500)));
    document.restart().unwrap();
    let document = open();
    assert_eq!(
        (document.status(), document.values()["devices"].as_u64()),
        (Some("initializing"), Some(3))
    );
    assert_eq!(document.started_at(), Some(start.saturating_add_ms(2_500)));

    // Two damages in one moment get two names.
    for _ in 0..2 {
        fs::write(&path, "{").unwrap();
        assert!(open().damage().is_some());
    }
    let name = "state.json.corrupt-20231114T221322500Z";
    assert_eq!(aside(dir.path()), [name.to_owned(), format!("{name}-0002")]);
}

const V0: Version = Version::ZERO;
const V1: Version = Version::new(0, 1, 0);
const V2: Version = Version::new(0, 2, 0);
const V10: Version = Version::new(0, 10, 0);

/// A migrator whose steps leave a line each in a file.
fn migrator(dir: &Path, ends: &[(Version, Version)]) -> Migrator {
    let steps = ends.iter().map(|(from, to)| {
        let line = format!("{from}>{to} ");
        DataStep::new(*from, *to, move |dir: &Path| {
            let done = fs::read_to_string(dir.join("done")).unwrap_or_default();
            Ok(fs::write(dir.join("done"), done + &line)?)
        })
    });
    Migrator::new(dir, steps).unwrap()
}

#[test]
fn migration_by_numbers() {
    let dir = tempdir().unwrap();
    let mut migrator = migrator(dir.path(), &[(V0, V1), (V1, V2), (V2, V10)]);
    assert_eq!(migrator.version().unwrap(), V0);
    assert_eq!(migrator.plan(V10).unwrap(), [(V0, V1), (V1, V2), (V2, V10)]);
    assert!(names(dir.path()).is_empty(), "a dry run changes nothing");
    assert_eq!(migrator.migrate(V2).unwrap(), [(V0, V1), (V1, V2)]);
    assert_eq!(text(dir.path().join("version.txt")), "0.2.0\n");
    assert_eq!(migrator.migrate(V10).unwrap(), [(V2, V10)]);
    assert_eq!(migrator.migrate(V10).unwrap(), []);
    assert_eq!(migrator.migrate(Version::new(1, 0, 0)).unwrap(), []);
    assert_eq!(migrator.version().unwrap(), Version::new(1, 0, 0));
    assert_eq!(text(dir.path().join("done")), "0.0.0>0.1.0 0.1.0>0.2.0 0.2.0>0.10.0 ");
}

#[test]
fn migration_refuses_newer_and_damaged_versions() {
    let dir = tempdir().unwrap();
    let mut migrator = migrator(dir.path(), &[(V0, V1)]);
    for (version, kind) in [("0.10.0", "too-new"), ("", "corrupt-file"), ("one", "corrupt-file")] {
        fs::write(dir.path().join("version.txt"), version).unwrap();
        assert_eq!(migrator.migrate(V2).unwrap_err().kind(), kind);
        assert_eq!(text(dir.path().join("version.txt")), version);
        assert_eq!(names(dir.path()), ["version.txt"]);
    }
    let mut elsewhere = migrator.version_file("other.txt");
    elsewhere.migrate(V1).unwrap();
    assert_eq!(names(dir.path()), ["done", "other.txt", "version.txt"]);
}

/// Goal: after a failure between steps, only what is left is done.
#[test]
fn migration_goes_on_where_it_ended() {
    let dir = tempdir().unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let make = |fails: bool| {
        let first = Arc::clone(&runs);
        let steps = [
            DataStep::new(V0, V1, move |_| {
                first.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }),
            DataStep::new(V1, V2, move |_| if fails { Err("no room".into()) } else { Ok(()) }),
        ];
        Migrator::new(dir.path(), steps).unwrap()
    };
    let error = make(true).migrate(V2).unwrap_err();
    assert!(matches!(&error, Error::Migration { from, .. } if from == "0.1.0"), "{error}");
    assert_eq!(make(true).version().unwrap(), V1);
    assert_eq!(make(false).migrate(V2).unwrap(), [(V1, V2)]);
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() { copy(&from, &to) } else { fs::copy(from, to).map(drop).unwrap() }
    }
}

/// A data directory with a bit of everything.
fn data_dir() -> (tempfile::TempDir, PathBuf) {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let directories = Directories::new(&data);
    directories.create().unwrap();
    for (name, bytes) in [
        ("config.json", "{}"),
        ("db/events.db", "rows"),
        ("db/LOCK", "1"),
        ("db/empty", ""),
        ("logs/addon.log", "lines"),
        ("temp/upload", "half"),
        ("x.tmp", "half"),
        (".tierce-0000000000000000.tmp", "half"),
    ] {
        fs::write(data.join(name), bytes).unwrap();
    }
    (dir, data)
}

#[test]
fn a_backup_lists_what_belongs_to_it() {
    let (_dir, data) = data_dir();
    let options = BackupOptions::new().exclude("logs/*").now(Timestamp(TestClock::START_MS));
    // Twice: the list is not part of itself.
    for _ in 0..2 {
        let manifest = ops::prepare_backup_with(&data, V1, &options, || {
            fs::write(data.join("db/flushed"), "x").unwrap();
            Ok(())
        })
        .unwrap();
        let paths: Vec<_> = manifest.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["config.json", "db/empty", "db/events.db", "db/flushed"]);
        assert_eq!((manifest.version, manifest.timestamp.as_str()), (V1, "2023-11-14T22:13:20Z"));
        assert_eq!((manifest.files[2].size, manifest.files[1].size), (4, 0));
        assert_eq!(manifest.files[1].checksum, "xxh3:2d06800538d394c2");
    }
    let failing = || Err(Error::Closed("the store"));
    assert!(ops::finish_backup(&data).unwrap());
    assert_eq!(ops::prepare_backup(&data, V1, failing).unwrap_err().kind(), "closed");
    assert!(!data.join("backup_metadata.json").exists(), "nothing is written if the flush failed");
    assert!(!ops::finish_backup(&data).unwrap());
}

/// Goal: prepared, copied, lost, restored: the data is back, migrated, rebuilt, and the list gone.
#[test]
fn a_backup_comes_back() {
    let (dir, data) = data_dir();
    let restored = dir.path().join("restored");
    ops::prepare_backup(&data, V1, || Ok(())).unwrap();
    copy(&data, &restored);
    let rebuilt = Cell::new(0);
    let rebuild = || {
        rebuilt.set(rebuilt.get() + 1);
        Ok(())
    };
    let mut migrator = migrator(&restored, &[(V0, V1), (V1, V2)]);
    let done = ops::restore_from_backup(&restored, &mut migrator, V2, rebuild).unwrap().unwrap();
    assert_eq!((done.migrated.as_slice(), rebuilt.get()), (&[(V1, V2)][..], 1));
    assert_eq!(done.manifest.files.len(), 4);
    assert_eq!(migrator.version().unwrap(), V2);
    assert!(names(&restored).iter().all(|name| !name.starts_with("backup_metadata")));
    // The next start has nothing to do.
    assert_eq!(ops::restore_from_backup(&restored, &mut migrator, V2, rebuild).unwrap(), None);
    assert_eq!(rebuilt.get(), 1);
}

/// Goal: a version file in the backup is believed more than the program's version; one that was there before is not.
#[test]
fn the_version_of_restored_data() {
    let (dir, data) = data_dir();
    let mut before = migrator(&data, &[]);
    before.migrate(V1).unwrap();
    ops::prepare_backup(&data, V2, || Ok(())).unwrap();
    let restored = dir.path().join("restored");
    copy(&data, &restored);
    let ends = [(V0, V1), (V1, V2)];
    let done = ops::restore_from_backup(&restored, &mut migrator(&restored, &ends), V2, || Ok(()))
        .unwrap()
        .unwrap();
    assert_eq!(done.migrated, [(V1, V2)]);

    let (dir, data) = data_dir();
    ops::prepare_backup(&data, V1, || Ok(())).unwrap();
    let restored = dir.path().join("restored");
    copy(&data, &restored);
    fs::write(restored.join("version.txt"), "0.2.0").unwrap();
    let done = ops::restore_from_backup(&restored, &mut migrator(&restored, &ends), V2, || Ok(()))
        .unwrap()
        .unwrap();
    assert_eq!(done.migrated, [(V1, V2)]);
}

/// Goal: all faults are named, and nothing is changed.
#[test]
fn a_damaged_backup_is_refused() {
    let (dir, original) = data_dir();
    ops::prepare_backup(&original, V1, || Ok(())).unwrap();
    let data = dir.path().join("restored");
    copy(&original, &data);
    fs::remove_file(data.join("config.json")).unwrap();
    fs::write(data.join("db/events.db"), "rowz").unwrap();
    fs::write(data.join("logs/addon.log"), "line").unwrap();
    let (before, list) = (names(&data), text(data.join("backup_metadata.json")));
    let mut migrator = migrator(&data, &[(V0, V1), (V1, V2)]);
    let rebuild = || panic!("there is nothing to rebuild from");
    let error = ops::restore_from_backup(&data, &mut migrator, V2, rebuild).unwrap_err();
    let words = "missing: config.json; damaged: db/events.db, logs/addon.log";
    assert!(error.to_string().ends_with(words), "{error}");
    assert_eq!(error.kind(), "backup");
    assert_eq!((names(&data), text(data.join("backup_metadata.json"))), (before, list));
}

#[test]
fn lists_that_cannot_be_used() {
    let (_dir, data) = data_dir();
    let list = data.join("backup_metadata.json");
    let mut migrator = migrator(&data, &[(V0, V1)]);
    let file = r#"{"path": "../../etc/passwd", "size": 0, "checksum": "xxh3:2d06800538d394c2"}"#;
    for (text, kind) in [
        ("{\"format\": 1".to_owned(), "corrupt-file"),
        ("{\"format\": 9, \"other\": 1}".to_owned(), "too-new"),
        (
            format!(r#"{{"format":1,"version":"0.1.0","timestamp":"","files":[{file}]}}"#),
            "corrupt-file",
        ),
        (r#"{"format":1,"version":"9.0.0","timestamp":"","files":[]}"#.to_owned(), "too-new"),
    ] {
        fs::write(&list, &text).unwrap();
        let error = ops::restore_from_backup(&data, &mut migrator, V1, || Ok(())).unwrap_err();
        assert_eq!(error.kind(), kind, "{text}: {error}");
        assert_eq!(fs::read_to_string(&list).unwrap(), text);
        assert!(!data.join("version.txt").exists());
    }
}

/// Goal: a failure after the verification is gone on from, although the files have changed since.
#[test]
fn a_restore_goes_on_where_it_ended() {
    let (_dir, data) = data_dir();
    ops::prepare_backup(&data, V0, || Ok(())).unwrap();
    let change = |dir: &Path| Ok(fs::write(dir.join("config.json"), "{\"v\": 1}")?);
    let steps = [DataStep::new(V0, V1, change), DataStep::new(V1, V2, |_| Err("no room".into()))];
    let mut failing = Migrator::new(&data, steps).unwrap();
    let error = ops::restore_from_backup(&data, &mut failing, V2, || Ok(())).unwrap_err();
    assert_eq!(error.kind(), "migration");

    let mut migrator = migrator(&data, &[(V0, V1), (V1, V2)]);
    let rebuild = || Err(Error::Closed("the store"));
    let error = ops::restore_from_backup(&data, &mut migrator, V2, rebuild).unwrap_err();
    assert_eq!((error.kind(), text(data.join("done")).as_str()), ("closed", "0.1.0>0.2.0 "));

    let done = ops::restore_from_backup(&data, &mut migrator, V2, || Ok(())).unwrap().unwrap();
    assert_eq!((done.migrated.len(), done.manifest.version), (0, V0));
    assert_eq!(ops::restore_from_backup(&data, &mut migrator, V2, || Ok(())).unwrap(), None);
}

/// Goal: the version file of a backup is known however the directory is spelled: its version is believed, and the steps
/// from there are done.
#[test]
fn a_version_file_by_another_spelling() {
    let (dir, data) = data_dir();
    migrator(&data, &[]).migrate(V1).unwrap();
    ops::prepare_backup(&data, V2, || Ok(())).unwrap();
    let restored = dir.path().join("restored");
    copy(&data, &restored);
    let spelled = data.join("../restored");
    let mut migrator = migrator(&spelled, &[(V0, V1), (V1, V2)]);
    let done = ops::restore_from_backup(&restored, &mut migrator, V2, || Ok(())).unwrap().unwrap();
    assert_eq!(done.migrated, [(V1, V2)]);
}

/// Goal: nothing is written that the next start could not read, or that would be something else then.
#[test]
fn documents_refuse_what_cannot_be_read_back() {
    fn nested(levels: usize) -> serde_json::Value {
        (1..levels).fold(serde_json::json!([]), |inner, _| serde_json::json!([inner]))
    }
    let dir = tempdir().unwrap();
    let path = dir.path().join("config.json");
    let mut config = ConfigDocument::open(&path).unwrap();
    // With the object around it these are 127 levels, the most that is read.
    config.set("deep", &nested(126)).unwrap();
    let before = text(&path);
    assert_eq!(config.set("deeper", &nested(127)).unwrap_err().kind(), "encode");
    assert_eq!(config.set("number", &f64::NAN).unwrap_err().kind(), "encode");
    assert_eq!(config.set("limits", &[f32::INFINITY]).unwrap_err().kind(), "encode");
    let update = config.update(|values| drop(values.insert("deeper".to_owned(), nested(300))));
    assert_eq!(update.unwrap_err().kind(), "encode");
    assert_eq!((text(&path), config.values().len()), (before, 1));
    let config = ConfigDocument::open(&path).unwrap();
    assert!(config.damage().is_none());
    assert_eq!(config.get("deep").unwrap(), Some(nested(126)));

    let path = dir.path().join("status.json");
    let mut status = StatusDocument::open(&path).unwrap();
    assert_eq!(status.set("deeper", nested(127)).unwrap_err().kind(), "encode");
    assert!(!path.exists());
}
