//! The cases by which an older value would come back, one by one; and what may stand in the way of a repair.

use std::path::{Path, PathBuf};

use tierce_engine::{
    Error, PutOptions, RecoveryPolicy,
    check::{Code, check_store},
    io::MemoryDisk,
    repair::{self, Action, Fate, RepairReport},
};
use tierce_kit::store::{STORE, Setup};

use super::{Files, disk_of, has_suffix, options, store_files};
use tierce_engine::Durability;

fn setup() -> Setup {
    Setup { automatic: false, ..Setup::new(Durability::Sync) }
}

/// The files of a closed store, first filled by `older` and then, in another segment, by `newer`; and the paths of
/// these two segments.
fn two_segments(
    older: impl Fn(&tierce_engine::Engine),
    newer: impl Fn(&tierce_engine::Engine),
) -> (Files, PathBuf, PathBuf) {
    let disk = MemoryDisk::new();
    let open = || options(&setup(), &disk).open(STORE).unwrap();
    let engine = open();
    older(&engine);
    engine.close().unwrap();
    let engine = open();
    newer(&engine);
    engine.close().unwrap();
    let files = disk.files();
    let segments: Vec<_> = files.keys().filter(|path| has_suffix(path, ".seg")).cloned().collect();
    let [first, second] = segments.try_into().expect("two segments");
    (files, first, second)
}

fn find(bytes: &[u8], text: &[u8]) -> usize {
    bytes.windows(text.len()).position(|window| window == text).expect("it is there")
}

/// Turns a bit of the byte `before` the first place where `text` stands.
fn flip(files: &mut Files, path: &Path, text: &[u8], before: usize) {
    let bytes = files.get_mut(path).unwrap();
    let at = find(bytes, text) - before;
    bytes[at] ^= 4;
}

fn without_checkpoint(files: &mut Files) {
    files.retain(|path, _| !has_suffix(path, ".ckpt"));
}

fn repaired(files: &Files) -> (RepairReport, MemoryDisk) {
    let disk = disk_of(files);
    let report = repair::repair(&options(&setup(), &disk), Path::new(STORE), None).unwrap();
    assert!(report.after.is_healthy(), "{:#?}", report.after.findings);
    (report, disk)
}

fn get(disk: &MemoryDisk, key: &str) -> Option<Vec<u8>> {
    let engine = options(&setup(), disk).open(STORE).unwrap();
    engine.get(key).unwrap().map(|value| value.to_vec())
}

/// Goal: a put whose head is gone does not uncover the value before it, and the key is named as lost.
#[test]
fn a_lost_put_hides_what_it_replaced() {
    let (mut files, _, second) = two_segments(
        |engine| engine.put("key", "older").unwrap(),
        |engine| engine.put("key", "newer").unwrap(),
    );
    let at = find(&files[&second], b"keynewer") as u64 - 24;
    flip(&mut files, &second, b"keynewer", 0);
    without_checkpoint(&mut files);
    let (report, disk) = repaired(&files);
    let [lost] = report.plan.lost.as_slice() else { panic!("{:?}", report.plan) };
    assert_eq!(
        (lost.kind, lost.key.as_deref(), lost.fate),
        ("put", Some(&b"key"[..]), Fate::Hidden)
    );
    assert_eq!((&lost.file, lost.offset), (&second, at));
    assert!(report.plan.loses() && report.plan.is_needed());
    assert_eq!(get(&disk, "key"), None);
}

/// Goal: the same where only the value is damaged: the head names the key. Where nothing older is left, it is gone.
#[test]
fn a_damaged_value_is_named_by_its_head() {
    let (mut files, _, second) = two_segments(
        |engine| engine.put("key", "older").unwrap(),
        |engine| {
            engine.put("key", "newer").unwrap();
            engine.put("alone", "value").unwrap();
        },
    );
    flip(&mut files, &second, b"newer", 0);
    let bytes = files.get_mut(&second).unwrap();
    let at = find(bytes, b"alonevalue") + 5;
    bytes[at] ^= 1;
    let (report, disk) = repaired(&files);
    let mut fates: Vec<_> =
        report.plan.lost.iter().map(|l| (l.key.clone().unwrap(), l.fate)).collect();
    fates.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(fates, [(b"alone".to_vec(), Fate::Gone), (b"key".to_vec(), Fate::Hidden)]);
    assert_eq!((get(&disk, "key"), get(&disk, "alone")), (None, None));
}

/// Goal: an acknowledged delete whose record is damaged is written again: nothing is lost, and nothing comes back.
#[test]
fn a_lost_delete_is_restored() {
    let (mut files, _, second) = two_segments(
        |engine| engine.put("gone", "older").unwrap(),
        |engine| assert!(engine.delete("gone").unwrap()),
    );
    flip(&mut files, &second, b"gone\0\0\0\0", 0);
    without_checkpoint(&mut files);
    let (report, disk) = repaired(&files);
    assert_eq!(report.plan.lost[0].fate, Fate::Restored);
    assert!(!report.plan.loses());
    assert_eq!(get(&disk, "gone"), None);
}

/// Goal: a scope cut whose record is damaged holds again, for what was older than it and not for what came after.
#[test]
fn a_lost_cut_is_restored() {
    let scoped = || PutOptions::new().scope("scope");
    let (mut files, _, second) = two_segments(
        |engine| {
            engine.put_with("before", "value", &scoped()).unwrap();
        },
        |engine| {
            engine.cut_scope("scope").unwrap();
            engine.put_with("after", "value", &scoped()).unwrap();
        },
    );
    flip(&mut files, &second, b"scope\0\0\0", 0);
    without_checkpoint(&mut files);
    let (report, disk) = repaired(&files);
    assert_eq!((report.plan.lost[0].kind, report.plan.lost[0].fate), ("scope-cut", Fate::Restored));
    assert_eq!((get(&disk, "before"), get(&disk, "after")), (None, Some(b"value".to_vec())));
}

/// Goal: a record that a newer one displaced is no loss, and the newer one stays.
#[test]
fn a_newer_record_stays() {
    let (mut files, first, _) = two_segments(
        |engine| engine.put("key", "older").unwrap(),
        |engine| engine.put("key", "newer").unwrap(),
    );
    flip(&mut files, &first, b"keyolder", 0);
    let (report, disk) = repaired(&files);
    assert_eq!(report.plan.lost[0].fate, Fate::Superseded);
    assert!(!report.plan.loses());
    assert_eq!(get(&disk, "key"), Some(b"newer".to_vec()));
}

/// Goal: where a whole segment is missing, the checkpoint still tells which values it had replaced or deleted; where
/// there is none, the report says that older values may show.
#[test]
fn a_missing_segment() {
    let lives = || {
        two_segments(
            |engine| {
                engine.put("replaced", "older").unwrap();
                engine.put("deleted", "older").unwrap();
                engine.put("kept", "value").unwrap();
            },
            |engine| {
                engine.put("replaced", "newer").unwrap();
                assert!(engine.delete("deleted").unwrap());
            },
        )
    };
    let (mut files, _, second) = lives();
    files.remove(&second);
    let (report, disk) = repaired(&files);
    let mut keys: Vec<_> =
        report.plan.lost.iter().map(|l| (l.key.clone().unwrap(), l.fate)).collect();
    keys.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        keys,
        [(b"deleted".to_vec(), Fate::Outdated), (b"replaced".to_vec(), Fate::Outdated)]
    );
    assert_eq!(report.plan.unknown[0].file, second);
    assert_eq!(report.plan.unknown[0].records, Some(2));
    assert_eq!((get(&disk, "replaced"), get(&disk, "deleted")), (None, None));
    assert_eq!(get(&disk, "kept"), Some(b"value".to_vec()));

    without_checkpoint(&mut files);
    let (report, disk) = repaired(&files);
    assert!(report.plan.lost.is_empty() && report.plan.unknown.len() == 1);
    assert!(report.plan.unknown[0].to_string().contains("older values"));
    assert_eq!(get(&disk, "replaced"), Some(b"older".to_vec()), "nothing can tell");
}

/// Goal: a manifest whose header is damaged and whose edits are sound is written again with everything it said; one
/// that is gone, with its checkpoint, costs the hash seed and no more.
#[test]
fn without_manifest() {
    let (files, ..) = two_segments(
        |engine| engine.put("key", "older").unwrap(),
        |engine| engine.put("key", "newer").unwrap(),
    );
    let manifest = Path::new(STORE).join("MANIFEST");
    let mut damaged = files.clone();
    damaged.get_mut(&manifest).unwrap()[33] ^= 1;
    let (report, disk) = repaired(&damaged);
    assert!(!report.plan.may_lack_segments && !report.plan.loses());
    assert_eq!(get(&disk, "key"), Some(b"newer".to_vec()));

    let mut gone = files;
    gone.remove(&manifest);
    without_checkpoint(&mut gone);
    let (report, disk) = repaired(&gone);
    assert!(report.plan.may_lack_segments);
    assert_eq!(get(&disk, "key"), Some(b"newer".to_vec()));
}

/// Goal: footers whose hashes are of a seed that nobody knows any more are not believed by compaction. Method: a store
/// that lost manifest and checkpoint, opened as it is and compacted.
#[test]
fn footers_of_another_seed_are_not_believed() {
    let (mut files, ..) = two_segments(
        |engine| (0..16).for_each(|n| engine.put(format!("key {n}"), "older").unwrap()),
        |engine| (0..16).for_each(|n| engine.put(format!("key {n}"), [n; 60]).unwrap()),
    );
    files.remove(&Path::new(STORE).join("MANIFEST"));
    without_checkpoint(&mut files);
    let disk = disk_of(&files);
    let open = || options(&setup(), &disk).recovery(RecoveryPolicy::Salvage).open(STORE).unwrap();
    let engine = open();
    let segments = segment_ids(&disk);
    engine.compact_with(Some(&segments), |_| std::ops::ControlFlow::Continue(())).unwrap();
    for n in 0..16 {
        assert_eq!(engine.get(format!("key {n}")).unwrap().as_deref(), Some(&[n; 60][..]), "{n}");
    }
    engine.close().unwrap();
    assert_eq!(open().iter().unwrap().count(), 16);
}

/// The ids of the segments on a disk, by the names of their files.
fn segment_ids(disk: &MemoryDisk) -> Vec<tierce_engine::SegmentId> {
    let id = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.strip_suffix(".seg")?.to_owned();
        Some(tierce_engine::SegmentId(u64::from_str_radix(&name, 16).ok()?))
    };
    disk.files().into_keys().filter_map(id).collect()
}

/// Goal: nothing is planned or repaired while somebody writes, and nothing is touched.
#[test]
fn locked() {
    let disk = MemoryDisk::new();
    let options = options(&setup(), &disk);
    let engine = options.clone().open(STORE).unwrap();
    engine.put("key", "value").unwrap();
    let before = store_files(&disk);
    for refused in [
        repair::plan(&options, Path::new(STORE)).map(drop),
        repair::repair(&options, Path::new(STORE), None).map(drop),
        repair::rebuild(
            &options,
            Path::new(STORE),
            repair::Rebuild { footers: true, checkpoint: true },
        )
        .map(drop),
        repair::undo(&options, Path::new(STORE), Path::new("undo")).map(drop),
    ] {
        assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
    }
    assert_eq!(store_files(&disk), before);
}

/// Goal: a directory for the way back that is not empty is refused before anything is touched; and one that is not of
/// this store, or a store that went on, is refused by the way back.
#[test]
fn refused_ways_back() {
    let (mut files, _, second) = two_segments(
        |engine| engine.put("key", "older").unwrap(),
        |engine| engine.put("key", "newer").unwrap(),
    );
    flip(&mut files, &second, b"keynewer", 0);
    files.insert(PathBuf::from("full/letter"), b"somebody's".to_vec());
    let disk = disk_of(&files);
    let options = options(&setup(), &disk);
    let before = store_files(&disk);
    let refused = repair::repair(&options, Path::new(STORE), Some(Path::new("full")));
    assert!(matches!(refused, Err(Error::InvalidOptions { .. })), "{refused:?}");
    assert_eq!(store_files(&disk), before);

    let undo = Path::new("undo");
    let report = repair::repair(&options, Path::new(STORE), Some(undo)).unwrap();
    assert_eq!(report.undo.as_deref(), Some(undo));
    let after = store_files(&disk);
    assert!(repair::undo(&options, Path::new(STORE), Path::new("full")).is_err());
    assert_eq!(store_files(&disk), after);
    let first = files.keys().find(|path| has_suffix(path, ".seg")).unwrap();
    let kept = disk_of(&disk.files().into_iter().filter(|(path, _)| path != first).collect());
    let options = super::options(&setup(), &kept);
    let refused = repair::undo(&options, Path::new(STORE), undo);
    assert!(matches!(refused, Err(Error::InvalidOptions { .. })), "{refused:?}");
}

/// Goal: rebuild makes footers and checkpoint anew and refuses damaged records; migrate knows one version.
#[test]
fn rebuild_and_migrate() {
    let (files, first, second) = two_segments(
        |engine| engine.put("key", "older").unwrap(),
        |engine| engine.put("key", "newer").unwrap(),
    );
    let path = Path::new(STORE);
    let all = repair::Rebuild { footers: true, checkpoint: true };
    let mut damaged = files.clone();
    let bytes = damaged.get_mut(&first).unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    without_checkpoint(&mut damaged);
    let disk = disk_of(&damaged);
    let options = options(&setup(), &disk);
    let only = repair::Rebuild { footers: false, checkpoint: true };
    let report = repair::rebuild(&options, path, only).unwrap();
    assert_eq!((report.footers, report.checkpoint), (0, true));
    let report = repair::rebuild(&options, path, all).unwrap();
    assert_eq!((report.footers, report.checkpoint), (1, true));
    assert!(check_store(&options.disk, path).unwrap().findings.is_empty());
    assert_eq!(get(&disk, "key"), Some(b"newer".to_vec()));

    let mut damaged = files.clone();
    flip(&mut damaged, &second, b"keynewer", 0);
    let disk = disk_of(&damaged);
    let options = super::options(&setup(), &disk);
    let before = store_files(&disk);
    let refused = repair::rebuild(&options, path, all);
    assert!(matches!(refused, Err(Error::Corruption(_))), "{refused:?}");
    assert_eq!(store_files(&disk), before);

    let done = repair::migrate(&options, path, Some((1, 0))).unwrap();
    assert_eq!((done.from, done.segments, done.rewritten), ((1, 0), 2, 0));
    for unknown in [(1, 1), (2, 0), (0, 9)] {
        let refused = repair::migrate(&options, path, Some(unknown));
        assert!(matches!(refused, Err(Error::InvalidOptions { .. })), "{refused:?}");
    }
    let mut newer = files;
    newer.get_mut(&second).unwrap()[8] = 2;
    let options = super::options(&setup(), &disk_of(&newer));
    let refused = repair::migrate(&options, path, None);
    assert!(matches!(refused, Err(Error::UnknownFormat { found: 2, .. })), "{refused:?}");
}

/// Goal: a plan says what it will do, in order, with the file and the codes.
#[test]
fn a_plan_speaks() {
    let (mut files, _, second) = two_segments(
        |engine| engine.put("key", "older").unwrap(),
        |engine| engine.put("key", "newer").unwrap(),
    );
    flip(&mut files, &second, b"keynewer", 0);
    let disk = disk_of(&files);
    let before = disk.files();
    let plan = repair::plan(&options(&setup(), &disk), Path::new(STORE)).unwrap();
    assert_eq!(disk.files(), before, "a plan changes nothing");
    let [rewrite, endings, checkpoint] = plan.steps.as_slice() else { panic!("{:#?}", plan.steps) };
    assert!(matches!(rewrite.action, Action::Rewrite { kept: 0, lost: 1, sets_aside: true, .. }));
    assert_eq!(rewrite.codes, [Code::RecordDamaged]);
    assert_eq!(endings.action, Action::WriteEndings { deletes: 1, cuts: 0, touches: 0 });
    assert_eq!(checkpoint.action, Action::WriteCheckpoint);
    assert!(rewrite.to_string().ends_with("the old file is set aside [C021]"), "{rewrite}");
}

/// Goal: a directory under a segment's name is no missing segment: the repair refuses, and touches nothing.
#[test]
fn no_regular_file() {
    let (mut files, first, _) = two_segments(
        |engine| engine.put("key", "older").unwrap(),
        |engine| engine.put("other", "value").unwrap(),
    );
    files.remove(&first);
    let disk = disk_of(&files);
    tierce_engine::io::Disk::create_dir_all(&disk, &first).unwrap();
    let refused = repair::repair(&options(&setup(), &disk), Path::new(STORE), None);
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
    assert_eq!(store_files(&disk), store_files(&disk_of(&files)));
}
