//! The end of the log: cut off by a crash, or damaged by the medium.

use std::{collections::BTreeMap, path::PathBuf};

use tierce_engine::{
    Corruption, Damage, Durability, Engine, Error, PutOptions, RecoveryPolicy, io::MemoryDisk,
};
use tierce_kit::{
    clock::TestClock,
    store::{STORE, Setup},
};

use super::{Fixture, POLICIES, has_suffix};

/// A log that was synced up to a point: `synced` records, then `unsynced` ones, in one segment.
struct Log {
    files: BTreeMap<PathBuf, Vec<u8>>,
    path: PathBuf,
    /// Where each record begins.
    starts: Vec<usize>,
    /// Behind the last record.
    end: usize,
}

const VALUE: [u8; 200] = [b'v'; 200];

fn setup() -> Setup {
    Setup { segment_bytes: 256 << 10, ..Setup::new(Durability::Os) }
}

fn open(disk: &MemoryDisk, policy: RecoveryPolicy) -> tierce_engine::Result<Engine> {
    let options = setup().options(std::sync::Arc::new(disk.clone()), &TestClock::new());
    options.recovery(policy).open(STORE)
}

fn key(number: usize) -> String {
    format!("key {number:03}")
}

impl Log {
    fn new(synced: usize, unsynced: usize) -> Self {
        let disk = MemoryDisk::new();
        let engine = open(&disk, RecoveryPolicy::Strict).unwrap();
        for number in 0..synced + unsynced {
            let durability = if number < synced { Durability::Sync } else { Durability::Os };
            let options = PutOptions::new().durability(durability);
            engine.put_with(key(number), VALUE, &options).unwrap();
        }
        let files = disk.files();
        drop(engine);
        let path = files.keys().find(|path| has_suffix(path, ".seg")).unwrap().clone();
        let bytes = &files[&path];
        let start = |number| {
            let text = key(number).into_bytes();
            bytes.windows(7).position(|window| window == text).unwrap() - 24
        };
        let starts: Vec<_> = (0..synced + unsynced).map(start).collect();
        let end = starts.last().unwrap() + 24 + (7 + VALUE.len()).next_multiple_of(8);
        let end = end.next_multiple_of(8);
        Self { files, path, starts, end }
    }

    fn bytes(&mut self) -> &mut Vec<u8> {
        self.files.get_mut(&self.path).unwrap()
    }

    fn open(&self, policy: RecoveryPolicy) -> tierce_engine::Result<Engine> {
        open(&MemoryDisk::with_files(self.files.clone()), policy)
    }

    /// Which keys are there.
    fn keys(&self, engine: &Engine) -> Vec<usize> {
        let there = |number: &usize| {
            let value = engine.get(key(*number)).unwrap();
            assert!(value.as_deref().is_none_or(|value| value == VALUE), "a wrong value");
            value.is_some()
        };
        (0..self.starts.len()).filter(there).collect()
    }

    /// The tail is cut silently under every policy: these first keys are there, the report says where.
    #[track_caller]
    fn assert_torn(&self, what: &str, first: usize) {
        for policy in POLICIES {
            let engine = self.open(policy).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(self.keys(&engine), (0..first).collect::<Vec<_>>(), "{what}, {policy:?}");
            let report = engine.recovery_report();
            assert!(report.damaged.is_empty(), "{what}: {:?}", report.damaged);
            assert!(!report.clean, "{what}");
        }
    }
}

/// Goal: what is left of an unfinished last record is cut off, and every record before it is there.
/// Method: the table of endings that other stores stumble over, each behind ten synced records.
#[test]
fn endings() {
    let log = Log::new(10, 1);
    let record: Vec<u8> = log.files[&log.path][log.starts[10]..log.end].to_vec();
    let flipped = |at: usize| {
        let mut bytes = record.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let mut huge_key = record.clone();
    huge_key[6..8].copy_from_slice(&u16::MAX.to_le_bytes());
    let mut huge_value = record.clone();
    huge_value[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut two_gib = record.clone();
    two_gib[8..12].copy_from_slice(&(1_u32 << 31).to_le_bytes());
    let endings = [
        ("nothing", vec![]),
        ("one byte", record[..1].to_vec()),
        ("half a header", record[..12].to_vec()),
        ("a header without its key", record[..24].to_vec()),
        ("half a key", record[..27].to_vec()),
        ("a key without its value", record[..31].to_vec()),
        ("all but the last bytes of the value", record[..record.len() - 16].to_vec()),
        ("a wrong checksum", flipped(0)),
        ("a flipped key", flipped(26)),
        ("a flipped value", flipped(100)),
        ("a huge key", huge_key),
        ("a huge value", huge_value),
        ("a value of 2 GiB", two_gib),
        ("128 zeros", vec![0; 128]),
        ("ones", vec![0xff; 64]),
        ("the record before, again", log.files[&log.path][log.starts[9]..log.starts[10]].to_vec()),
    ];
    for (what, ending) in endings {
        for room in [0, 8, 40 << 10] {
            let mut log = Log::new(10, 1);
            let start = log.starts[10];
            let bytes = log.bytes();
            bytes.truncate(start);
            bytes.extend(&ending);
            bytes.extend(vec![0; room]);
            log.assert_torn(&format!("{what}, then {room} zeros"), 10);
        }
    }
}

/// Goal: a torn record hides what was written behind it, even if that can be read: what survives is a prefix.
#[test]
fn a_torn_record_ends_the_log() {
    for torn in 10..14 {
        let mut log = Log::new(10, 5);
        let at = log.starts[torn];
        log.bytes()[at + 50] ^= 1;
        log.assert_torn("torn before the end", torn);
        let engine = log.open(RecoveryPolicy::Strict).unwrap();
        let report = engine.recovery_report();
        assert_eq!(report.torn.len(), 1, "{report:?}");
        let tail = &report.torn[0];
        let behind = (log.end as u64 - tail.offset, tail.offset <= at as u64);
        assert!(behind.1 && tail.bytes <= behind.0 && tail.bytes > 0, "{tail:?} at {at}");
    }
}

/// Fails unless this is the corruption that says that records are missing; says which.
#[track_caller]
fn missing(corruption: &Corruption) -> std::ops::Range<u64> {
    match corruption.damage {
        Damage::MissingRecords { from, to } => from.0..to.0,
        ref other => panic!("{other:?}"),
    }
}

/// Goal: damage before the last sync is no torn tail: the strict policy refuses, the others leave out exactly what
/// is damaged, say so, and serve what stands behind it. Method: the value, the key, the header or all of one
/// record; zeros over several.
#[test]
fn damage_in_the_synced_part() {
    type Harm = fn(&mut [u8]);
    let harms: [(&str, Harm); 5] = [
        ("value", |record| record[100] ^= 1),
        ("key", |record| record[26] ^= 1),
        ("length", |record| record[8..12].fill(0xff)),
        ("sequence", |record| record[16..24].fill(0x7f)),
        ("zeros", |record| record.fill(0)),
    ];
    for (what, harm) in harms {
        for number in [0, 1, 7, 18] {
            let mut log = Log::new(20, 1);
            let (start, end) = (log.starts[number], log.starts[number] + 232);
            harm(&mut log.bytes()[start..end]);
            let refused = log.open(RecoveryPolicy::Strict).map(drop);
            assert!(matches!(refused, Err(Error::Corruption(_))), "{what}: {refused:?}");
            for policy in [RecoveryPolicy::SkipRecord, RecoveryPolicy::Salvage] {
                let engine = log.open(policy).unwrap();
                let rest: Vec<_> = (0..21).filter(|other| *other != number).collect();
                assert_eq!(log.keys(&engine), rest, "{what} of {number}, {policy:?}");
                let report = engine.recovery_report();
                assert_eq!(report.damaged.len(), 1, "{what}: {report:?}");
                assert_eq!(missing(&report.damaged[0]).count(), 1, "{what}: {report:?}");
                assert_eq!(report.damaged[0].file, log.path);
                assert_eq!(report.damaged[0].offset, start as u64, "{what}");
                assert_eq!(report.quarantined.len(), 1);
            }
        }
    }
}

/// Goal: the damaged file is set aside whole, and the store that remains opens strictly.
#[test]
fn the_damaged_file_is_set_aside() {
    let mut log = Log::new(20, 1);
    let at = log.starts[5] + 60;
    log.bytes()[at] ^= 1;
    let disk = MemoryDisk::with_files(log.files.clone());
    let engine = open(&disk, RecoveryPolicy::SkipRecord).unwrap();
    let aside = engine.recovery_report().quarantined[0].clone();
    assert!(disk.files()[&aside] == log.files[&log.path], "as it was found");
    engine.put(key(5), VALUE).unwrap();
    engine.close().unwrap();
    for _ in 0..2 {
        let engine = open(&disk, RecoveryPolicy::Strict).unwrap();
        assert_eq!(log.keys(&engine), (0..21).collect::<Vec<_>>());
        assert!(engine.recovery_report().damaged.is_empty());
        engine.put("more", "v").unwrap();
        drop(engine);
        assert!(disk.files().contains_key(&aside), "nobody removes it");
    }
    assert!(!Fixture::is_sick(&disk.files()));
}

/// Goal: 40 KiB of zeros in the middle of the log: keys before and behind are there, what is missing is said.
#[test]
fn forty_kib_of_zeros() {
    let mut log = Log::new(500, 1);
    let (from, to) = (log.starts[100] + 8, log.starts[100] + 8 + (40 << 10));
    log.bytes()[from..to].fill(0);
    assert!(log.open(RecoveryPolicy::Strict).is_err());
    let engine = log.open(RecoveryPolicy::SkipRecord).unwrap();
    let last = log.starts.iter().position(|start| *start >= to).unwrap();
    let expected: Vec<_> = (0..100).chain(last..501).collect();
    assert_eq!(log.keys(&engine), expected);
    let report = engine.recovery_report();
    assert_eq!(report.damaged.len(), 1, "{report:?}");
    assert!(missing(&report.damaged[0]).count() >= last - 100);
}

/// Goal: the end of the synced part gone altogether is damage, not a torn tail: an older commit marker cannot say
/// so, but a sealed segment or a marker that is left can. Method: cut the file before the last marker's records.
#[test]
fn a_hole_of_several_records() {
    for (from, to) in [(3, 5), (0, 18), (10, 11), (17, 19)] {
        let mut log = Log::new(20, 1);
        let (start, end) = (log.starts[from], log.starts[to]);
        log.bytes()[start..end].fill(0xee);
        assert!(log.open(RecoveryPolicy::Strict).is_err(), "{from} to {to}");
        let engine = log.open(RecoveryPolicy::SkipRecord).unwrap();
        let rest: Vec<_> = (0..21).filter(|number| !(from..to).contains(number)).collect();
        assert_eq!(log.keys(&engine), rest);
        let report = engine.recovery_report();
        let gone: usize = report.damaged.iter().map(|damage| missing(damage).count()).sum();
        assert!(gone >= to - from, "{report:?}");
    }
}

/// Goal: a second crash right after recovery, and a third, change nothing. Method: recover, take the files as they
/// are without closing, and recover again.
#[test]
fn crashes_after_recovery() {
    let mut log = Log::new(10, 5);
    let at = log.starts[13] + 40;
    log.bytes()[at] ^= 1;
    let mut files = log.files.clone();
    for round in 0..4 {
        let disk = MemoryDisk::with_files(files);
        let engine = open(&disk, RecoveryPolicy::Strict).unwrap();
        assert_eq!(log.keys(&engine), (0..13).collect::<Vec<_>>(), "round {round}");
        files = disk.files();
        drop(engine);
    }
}
