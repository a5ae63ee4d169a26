//! Stores written by each released version of the format open for ever, and hold what was put into them.
//!
//! `tests/fixtures/format-v1.0` has two: one that was closed, and one whose process died. They are written once, by
//! `cargo xtask golden`, and never again for a version that has been released.

use std::{env, fs, path::Path};

use tierce_engine::{
    Batch, Durability, Engine, Entry, Options, PutOptions, Timestamp, check::check_store,
};
use tierce_kit::clock::TestClock;

/// The moment at which the fixtures were written, and a clock that stands at it.
fn clock() -> TestClock {
    let clock = TestClock::new();
    clock.set_wall(WRITTEN.0);
    clock
}

const WRITTEN: Timestamp = Timestamp(1_800_000_000_000);
const LATER: Timestamp = Timestamp(WRITTEN.0 + 1_000_000);

fn options() -> Options {
    Options::new()
        .durability(Durability::Sync)
        .segment_bytes(8 << 10)
        .background(false)
        .clock(clock())
}

/// Puts in everything that the format can say.
fn fill(engine: &Engine) {
    for n in 0..40_u32 {
        engine.put(format!("plain {n}"), vec![n as u8; 200]).unwrap();
    }
    engine.put("", "").unwrap();
    engine.put("overwritten", "old").unwrap();
    engine.put("overwritten", "new").unwrap();
    engine.put("deleted", "value").unwrap();
    assert!(engine.delete("deleted").unwrap());
    let rich = PutOptions::new()
        .expires_at(LATER)
        .evictable(true)
        .scope("kept scope")
        .codec(3, 7)
        .item(0x20, "note");
    engine.put_with("rich", "value", &rich).unwrap();
    engine.put_with("cut", "value", &PutOptions::new().scope("cut scope")).unwrap();
    engine.cut_scope("cut scope").unwrap();
    engine
        .put_with("touched", "value", &PutOptions::new().expires_at(WRITTEN.saturating_add_ms(5)))
        .unwrap();
    assert!(engine.touch("touched", Some(LATER)).unwrap());
    let mut batch = Batch::new();
    batch.put("batch 1", "one").put("batch 2", "two").delete("plain 0");
    engine.commit(batch).unwrap();
    engine.put("large", vec![9; 20 << 10]).unwrap();
}

fn assert_filled(engine: &Engine) {
    let get = |key: &str| engine.get(key).unwrap().map(|value| value.to_vec());
    assert_eq!(get("plain 0"), None);
    for n in 1..40_u32 {
        assert_eq!(get(&format!("plain {n}")), Some(vec![n as u8; 200]));
    }
    for (key, value) in [
        ("", ""),
        ("overwritten", "new"),
        ("touched", "value"),
        ("batch 1", "one"),
        ("batch 2", "two"),
    ] {
        assert_eq!(get(key), Some(value.as_bytes().to_vec()), "{key:?}");
    }
    assert_eq!((get("deleted"), get("cut")), (None, None));
    assert_eq!(get("large"), Some(vec![9; 20 << 10]));
    let Entry { expires_at, evictable, codec, schema, scopes, items, .. } =
        engine.entry("rich").unwrap().unwrap();
    assert_eq!((expires_at, evictable, codec, schema), (Some(LATER), true, 3, 7));
    assert_eq!((scopes, items), (vec![b"kept scope".to_vec()], vec![(0x20, b"note".to_vec())]));
    assert_eq!(engine.entry("touched").unwrap().unwrap().expires_at, Some(LATER));
    assert_eq!(engine.iter().unwrap().filter(|entry| entry.is_ok()).count(), 46);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Writes the fixtures into the directory that `TIERCE_GOLDEN` names.
#[test]
#[ignore = "writes the fixtures; run by `cargo xtask golden`"]
fn write() {
    let Some(to) = env::var_os("TIERCE_GOLDEN") else { return };
    let to = Path::new(&to);
    let work = tempfile::tempdir().unwrap();
    let engine = options().open(work.path().join("closed")).unwrap();
    fill(&engine);
    engine.close().unwrap();
    copy(&work.path().join("closed"), &to.join("closed"));
    let engine = options().open(work.path().join("crashed")).unwrap();
    fill(&engine);
    // What is on disk while the store is open is what a dead process leaves.
    copy(&work.path().join("crashed"), &to.join("crashed"));
    drop(engine);
}

/// Goal: the fixtures of every version open, clean or not, with and without their checkpoint, and hold everything.
#[test]
fn stores_of_every_version_open() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut opened = 0;
    for version in fs::read_dir(&fixtures).unwrap() {
        for (name, is_clean) in [("closed", true), ("crashed", false)] {
            for keeps_checkpoint in [true, false] {
                let work = tempfile::tempdir().unwrap();
                copy(&version.as_ref().unwrap().path().join(name), work.path());
                if !keeps_checkpoint {
                    remove_checkpoints(work.path());
                }
                let engine = options().open(work.path()).unwrap();
                let report = engine.recovery_report();
                assert_eq!(report.clean, is_clean, "{name}");
                assert!(report.damaged.is_empty() && report.torn.is_empty(), "{report:?}");
                assert_eq!(report.from_checkpoint, is_clean && keeps_checkpoint, "{name}");
                assert_filled(&engine);
                engine.put("one more", "still writes").unwrap();
                engine.close().unwrap();
                let disk = std::sync::Arc::new(tierce_engine::io::OsDisk);
                let check = check_store(&(disk as _), work.path()).unwrap();
                assert!(check.is_healthy(), "{:?}", check.findings);
                opened += 1;
            }
        }
    }
    assert!(opened >= 4, "there are fixtures");
}

fn remove_checkpoints(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|suffix| suffix == "ckpt") {
            fs::remove_file(path).unwrap();
        }
    }
}
