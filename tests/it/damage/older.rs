//! What was replaced or deleted does not come back because of damage to what replaced it.

use tierce_engine::{Damage, Durability, Engine, Error, RecoveryPolicy, io::MemoryDisk};
use tierce_kit::{
    clock::TestClock,
    store::{STORE, Setup},
};

use super::{Files, POLICIES, has_suffix};

fn open(disk: &MemoryDisk, policy: RecoveryPolicy) -> tierce_engine::Result<Engine> {
    let setup = Setup::new(Durability::Sync);
    let options = setup.options(std::sync::Arc::new(disk.clone()), &TestClock::new());
    options.recovery(policy).open(STORE)
}

/// A closed store, in which `key` and `gone` were first put in one segment, and replaced and deleted in another.
/// Says too where the newer records' keys stand.
fn replaced(with_checkpoint: bool) -> (Files, [(std::path::PathBuf, usize); 2]) {
    let disk = MemoryDisk::new();
    let engine = open(&disk, RecoveryPolicy::Strict).unwrap();
    engine.put("key", "older").unwrap();
    engine.put("gone", "older").unwrap();
    for number in 0..20 {
        engine.put(format!("filler {number}"), [1; 300]).unwrap();
    }
    engine.put("key", "newer").unwrap();
    assert!(engine.delete("gone").unwrap());
    engine.close().unwrap();
    let mut files = disk.files();
    files.retain(|path, _| with_checkpoint || !has_suffix(path, ".ckpt"));
    let last = files.keys().rfind(|path| has_suffix(path, ".seg")).unwrap().clone();
    let find = |text: &[u8]| {
        let bytes = &files[&last];
        bytes.windows(text.len()).position(|window| window == text).unwrap()
    };
    let places = [(last.clone(), find(b"keynewer")), (last.clone(), find(b"gone\0\0\0\0"))];
    (files, places)
}

/// Goal: a damaged newest record of a key is an error, or its absence is; never the value before it.
/// Method: damage the head of a put and of a delete whose older versions stand in another segment, with and
/// without a checkpoint, under every policy.
#[test]
fn an_older_value_does_not_come_back() {
    for with_checkpoint in [true, false] {
        let (files, places) = replaced(with_checkpoint);
        for (path, at) in places {
            let mut files = files.clone();
            files.get_mut(&path).unwrap()[at] ^= 1;
            for policy in POLICIES {
                let engine = match open(&MemoryDisk::with_files(files.clone()), policy) {
                    Err(Error::Corruption(_)) if policy == RecoveryPolicy::Strict => continue,
                    other => other.unwrap(),
                };
                for key in ["key", "gone"] {
                    let found = engine.get(key);
                    let is_older = matches!(&found, Ok(Some(value)) if &value[..] == b"older");
                    assert!(!is_older, "{policy:?}, {with_checkpoint}, at {at}: {key} is back");
                    assert!(matches!(found, Ok(_) | Err(Error::Corruption(_))), "{found:?}");
                }
            }
        }
    }
}

/// Goal: the last edit of the manifest names the newest segment; damaged, it is no reason to lose what was synced
/// there. Method: a segment that was begun just now, with synced records; turn bits of the edit that adds it, cut it
/// off, and cut all of the manifest behind its first edit off.
#[test]
fn a_damaged_last_edit() {
    let disk = MemoryDisk::new();
    let engine = open(&disk, RecoveryPolicy::Strict).unwrap();
    for number in 0..18 {
        engine.put(format!("key {number}"), [1; 300]).unwrap();
    }
    let files = disk.files();
    drop(engine);
    let segments = files.keys().filter(|path| has_suffix(path, ".seg")).count();
    assert_eq!(segments, 2);
    let manifest = files.keys().find(|path| has_suffix(path, "MANIFEST")).unwrap().clone();
    let last = super::flips::last_frame(&files[&manifest]);
    let length = files[&manifest].len();
    let cuts = [last, last + 1, length - 1];
    let harmed = (last..length).map(|byte| (Some(byte), length)).chain(cuts.map(|cut| (None, cut)));
    for (flipped, cut) in harmed {
        let mut files = files.clone();
        let bytes = files.get_mut(&manifest).unwrap();
        bytes.truncate(cut);
        if let Some(byte) = flipped {
            bytes[byte] ^= 4;
        }
        for policy in POLICIES {
            let disk = MemoryDisk::with_files(files.clone());
            let engine = match open(&disk, policy) {
                Ok(engine) => engine,
                Err(Error::Corruption(corruption)) => {
                    assert_ne!(corruption.damage, Damage::MissingManifest);
                    assert!(disk.files() == files, "a refusal changes nothing");
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            let report = engine.recovery_report();
            let there =
                (0..18).filter(|n| engine.contains_key(format!("key {n}")).unwrap()).count();
            let is_whole = there == 18 || !report.damaged.is_empty();
            assert!(is_whole, "{policy:?}, {flipped:?} of {cut}: {there} of 18 keys: {report:?}");
        }
    }
}
