//! Small logs whose crash states are known by heart.

use std::{collections::BTreeSet, path::Path};

use tierce_engine::io::{Access, Disk as _, File};

use super::*;
use crate::{
    fault::{CallKind, EIO, Fault},
    recorder::RecordingDisk,
};

/// All contents that `path` may have at the end of the log; `None` if it may be missing.
fn outcomes(disk: &RecordingDisk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    let log = disk.log();
    let mut seen = BTreeSet::new();
    let bounds = Bounds { prefixes: 50, singles: 50, randoms: 200, tears: 0 };
    sweep(&log, log.events.len(), &bounds, 7, |_, _, image| {
        seen.insert(image.files.get(Path::new(path)).map(|bytes| bytes.to_vec()));
        Ok::<(), ()>(())
    })
    .unwrap();
    seen
}

fn some(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(bytes.to_vec())
}

fn create(disk: &RecordingDisk, path: &str) -> Arc<dyn File> {
    disk.open(Path::new(path), Access::CreateNew).unwrap()
}

/// Goal: a name is certain only after a sync of its directory, bytes only after a sync of the file.
/// Method: a new file at each stage of its making; every outcome is listed.
#[test]
fn a_new_file_is_certain_in_two_steps() {
    let disk = RecordingDisk::new();
    let file = create(&disk, "a");
    file.write_at(b"xy", 0).unwrap();
    let zeros = some(&[0, 0]);
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from([None, some(b""), some(b"xy"), zeros]));
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from([None, some(b"xy")]));
    disk.sync_dir(Path::new(".")).unwrap();
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from([some(b"xy")]));
}

/// Goal: a rename over a file leaves the old file or the new one, and a new one whose bytes were not synced may
/// be empty.
#[test]
fn a_rename_is_atomic_and_no_sync() {
    for synced in [true, false] {
        let disk = RecordingDisk::new();
        let file = create(&disk, "a");
        file.write_at(b"old", 0).unwrap();
        file.sync().unwrap();
        let file = create(&disk, "t");
        disk.sync_dir(Path::new(".")).unwrap();
        file.write_at(b"new", 0).unwrap();
        if synced {
            file.sync().unwrap();
        }
        disk.rename(Path::new("t"), Path::new("a")).unwrap();
        let mut expected = BTreeSet::from([some(b"old"), some(b"new")]);
        if !synced {
            expected.extend([some(b""), some(&[0; 3])]);
        }
        assert_eq!(outcomes(&disk, "a"), expected);
    }
}

/// Goal: pages of one write survive one by one, and a write in flight survives up to any byte.
#[test]
fn pages_and_tears() {
    let disk = RecordingDisk::new();
    let file = create(&disk, "a");
    file.allocate(8192).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new(".")).unwrap();
    let before = disk.event_count();
    file.write_at(&[1; 8192], 0).unwrap();
    let seen = outcomes(&disk, "a");
    for pages in [[0, 0], [0, 1], [1, 0], [1, 1]] {
        let bytes: Vec<u8> = pages.iter().flat_map(|page| [*page; 4096]).collect();
        assert!(seen.contains(&Some(bytes)), "{pages:?}");
    }
    let log = disk.log();
    let head = image(&log, before, &CrashPlan::TornHead { bytes: 5, rest: false });
    let bytes = &head.files[Path::new("a")];
    assert_eq!((bytes[..5].iter().all(|b| *b == 1), bytes[5]), (true, 0));
    let tail = image(&log, before, &CrashPlan::TornTail { bytes: 512, rest: false });
    let bytes = &tail.files[Path::new("a")];
    assert_eq!((bytes[511], bytes[512], bytes[8191]), (0, 1, 1));
}

/// Goal: what a failed sync left behind is not made durable by a later sync, unless its page is written again.
#[test]
fn a_failed_sync_is_not_repaired_by_the_next() {
    let disk = RecordingDisk::new();
    let file = create(&disk, "a");
    file.allocate(8192).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new(".")).unwrap();
    file.write_at(b"1", 0).unwrap();
    file.write_at(b"2", 4096).unwrap();
    disk.arm(Fault::nth(1, EIO).of(&[CallKind::Sync]));
    file.sync().unwrap_err();
    file.sync().unwrap();
    let first = |at: usize| {
        let contents = outcomes(&disk, "a").into_iter().flatten();
        contents.map(|bytes| bytes[at]).collect::<BTreeSet<u8>>()
    };
    assert_eq!((first(0), first(4096)), ([0, b'1'].into(), [0, b'2'].into()));
    file.write_at(b"3", 1).unwrap();
    file.sync().unwrap();
    assert_eq!((first(0), first(4096)), ([b'1'].into(), [0, b'2'].into()));
}

/// Goal: a directory that was never synced into its parent takes all its files with it.
#[test]
fn files_vanish_with_their_directory() {
    let disk =
        RecordingDisk::lying(crate::recorder::Lies { directory_syncs: true, ..Default::default() });
    disk.create_dir_all(Path::new("d/s")).unwrap();
    create(&disk, "d/s/a").sync().unwrap();
    let bare = image(&disk.log(), disk.event_count(), &CrashPlan::Nothing);
    assert_eq!(bare, Image::default());
    let orphan = image(&disk.log(), disk.event_count(), &CrashPlan::KeepOne(2));
    assert_eq!(orphan, Image::default());
    let all = image(&disk.log(), disk.event_count(), &CrashPlan::Everything);
    assert_eq!(all, disk.image());
}

/// Goal: a removed file stays readable through its handle, and its room is free only when that is dropped.
#[test]
fn removal_under_an_open_handle() {
    let disk = RecordingDisk::new();
    let file = create(&disk, "a");
    disk.set_capacity(Some(10));
    file.write_at(b"0123456789", 0).unwrap();
    disk.remove(Path::new("a")).unwrap();
    let mut buffer = [0; 4];
    assert_eq!((file.read_at(&mut buffer, 3).unwrap(), &buffer), (4, b"3456"));
    let other = create(&disk, "a");
    assert_eq!(other.write_at(b"x", 0).unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    drop(file);
    assert_eq!(other.write_at(b"0123456789abc", 0).unwrap(), 10);
}

/// Goal: the same arguments give the same image.
#[test]
fn images_follow_from_point_and_plan() {
    let disk = RecordingDisk::new();
    let file = create(&disk, "a");
    for page in 0..20 {
        file.write_at(&[1; 4096], page * 4096).unwrap();
    }
    let log = disk.log();
    let mut distinct = BTreeSet::new();
    sweep(&log, 0, &Bounds::default(), 3, |point, plan, state| {
        assert_eq!(state.fingerprint(), image(&log, point, plan).fingerprint());
        distinct.insert((point, state.fingerprint()));
        Ok::<(), ()>(())
    })
    .unwrap();
    assert!(distinct.len() > 300, "{}", distinct.len());
}
