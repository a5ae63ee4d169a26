//! The operating system says no: no permission, no file descriptors, a medium that cannot be written.

use std::path::Path;

use tierce_engine::{Durability, Engine, Error, Health, RecoveryPolicy, Result};
use tierce_kit::{
    clock::TestClock,
    fault::{CallKind, EMFILE, EROFS, Fault},
    image::Image,
    recorder::RecordingDisk,
    store::{STORE, Setup},
};

use super::{assert_keys, put_keys};

/// Permission denied.
const EACCES: i32 = 13;

fn open(disk: &RecordingDisk, policy: RecoveryPolicy, durability: Durability) -> Result<Engine> {
    let options =
        Setup::new(durability).options(std::sync::Arc::new(disk.clone()), &TestClock::new());
    options.recovery(policy).open(Path::new(STORE))
}

/// A closed store and one as a crash leaves it.
fn images() -> [(&'static str, Image); 2] {
    let disk = RecordingDisk::new();
    let engine = open(&disk, RecoveryPolicy::Strict, Durability::Os).unwrap();
    put_keys(&engine);
    while engine.step().unwrap() {}
    engine.sync().unwrap();
    let crashed = disk.image();
    engine.close().unwrap();
    [("crashed", crashed), ("closed", disk.image())]
}

/// Fails unless this is the system's own error.
#[track_caller]
fn assert_errno<T: std::fmt::Debug>(result: Result<T>, errno: i32) {
    match result {
        Err(Error::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(errno)),
        other => panic!("not error {errno} but {other:?}"),
    }
}

/// Goal: a file that cannot be read just now is neither missing nor damaged: no policy takes it for that, nothing
/// is overwritten or removed because of it, and the next opening has everything.
/// Method: fail each call that opens or reads a file, under every policy.
#[test]
fn an_unreadable_file_is_not_a_damaged_one() {
    let policies = [RecoveryPolicy::Strict, RecoveryPolicy::SkipRecord, RecoveryPolicy::Salvage];
    for (name, image) in images() {
        for policy in policies {
            let mut failed = 0;
            for nth in 1.. {
                let disk = RecordingDisk::with_image(&image);
                let kinds = [CallKind::Open, CallKind::Read, CallKind::Map, CallKind::Length];
                disk.arm(Fault::nth(nth, EACCES).of(&kinds));
                let opened = open(&disk, policy, Durability::Os);
                if disk.fired() == 0 {
                    break;
                }
                match &opened {
                    Ok(engine) => assert_keys(engine),
                    Err(_) => failed += 1,
                }
                if opened.is_err() {
                    assert_errno(opened.map(drop), EACCES);
                } else {
                    drop(opened);
                }
                disk.disarm();
                let engine = open(&disk, RecoveryPolicy::Strict, Durability::Os);
                let engine = engine.unwrap_or_else(|e| panic!("{name} {policy:?} {nth}: {e}"));
                assert_keys(&engine);
            }
            assert!(failed > 2, "{name}, {policy:?}: only {failed} openings failed");
        }
    }
}

/// Goal: a directory that cannot be read, created or locked is the system's error, and a later opening works.
#[test]
fn a_directory_that_refuses() {
    for errno in [EACCES, EROFS] {
        for kind in [CallKind::Kind, CallKind::List, CallKind::CreateDir, CallKind::Lock] {
            let disk = RecordingDisk::new();
            disk.arm(Fault::nth(1, errno).of(&[kind]).lasting());
            assert_errno(open(&disk, RecoveryPolicy::Strict, Durability::Os).map(drop), errno);
            disk.disarm();
            let engine = open(&disk, RecoveryPolicy::Strict, Durability::Os).unwrap();
            put_keys(&engine);
            assert_keys(&engine);
        }
    }
}

/// Goal: on a medium that cannot be written, a store opens and reads, writes are refused with the cause, and
/// nothing is lost. Method: every call that writes fails, for a closed store and a crashed one.
#[test]
fn a_medium_that_cannot_be_written() {
    let writes = [
        CallKind::Create,
        CallKind::Rename,
        CallKind::Remove,
        CallKind::SyncDir,
        CallKind::Write,
        CallKind::SetBytes,
        CallKind::Allocate,
    ];
    for (name, image) in images() {
        let disk = RecordingDisk::with_image(&image);
        disk.arm(Fault::nth(1, EROFS).of(&writes).lasting());
        let engine = open(&disk, RecoveryPolicy::Strict, Durability::Os).unwrap();
        assert_keys(&engine);
        let refused = engine.put("k", "v");
        assert!(matches!(refused, Err(Error::Io { .. } | Error::Stopped { .. })), "{refused:?}");
        if name == "crashed" {
            assert!(matches!(engine.health(), Health::Stopped { .. }), "not recovered yet");
        }
        assert_keys(&engine);
        drop(engine);
        assert_eq!(disk.image().files, image.files, "{name}: no file changed");
        disk.disarm();
        let engine = open(&disk, RecoveryPolicy::Strict, Durability::Os).unwrap();
        assert_keys(&engine);
        engine.put("k", "v").unwrap();
    }
}

/// Goal: no file descriptors left at opening is the system's error, and leaves nothing half open.
#[test]
fn no_descriptors_at_opening() {
    let descriptors = [CallKind::Open, CallKind::Create, CallKind::Lock, CallKind::List];
    for (name, image) in images() {
        for nth in 1..40 {
            let disk = RecordingDisk::with_image(&image);
            disk.arm(Fault::nth(nth, EMFILE).of(&descriptors).lasting());
            match open(&disk, RecoveryPolicy::Strict, Durability::Os) {
                Ok(engine) => assert_keys(&engine),
                refused => assert_errno(refused.map(drop), EMFILE),
            }
            disk.disarm();
            let engine = open(&disk, RecoveryPolicy::Strict, Durability::Os);
            let engine = engine.unwrap_or_else(|error| panic!("{name}, {nth}: {error}"));
            assert_keys(&engine);
            engine.put("k", "v").unwrap();
        }
    }
}

/// Goal: no file descriptors left when a segment is full fails that write and no other: reads go on, and writing
/// goes on when there are descriptors again, in the same process.
#[test]
fn no_descriptors_at_a_full_segment() {
    for durability in [Durability::Buffered, Durability::Os, Durability::Sync] {
        let disk = RecordingDisk::new();
        let engine = open(&disk, RecoveryPolicy::Strict, durability).unwrap();
        put_keys(&engine);
        disk.arm(Fault::nth(1, EMFILE).of(&[CallKind::Open, CallKind::Create]).lasting());
        let mut written = 0;
        let failure = loop {
            match engine.put(format!("more {written}"), [1; 300]) {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 100, "no segment was ever full");
        };
        assert_errno(Err::<(), _>(failure), EMFILE);
        assert_keys(&engine);
        for number in 0..written {
            assert!(engine.contains_key(format!("more {number}")).unwrap());
        }
        assert!(!engine.contains_key(format!("more {written}")).unwrap(), "it was not written");
        disk.disarm();
        engine.try_recover().unwrap();
        assert_eq!(engine.health(), Health::Good);
        engine.put("after", "v").unwrap();
        engine.close().unwrap();
        let engine = open(&disk, RecoveryPolicy::Strict, durability).unwrap();
        assert_keys(&engine);
        assert_eq!(engine.iter().unwrap().count(), 60 + written + 1, "{durability:?}");
    }
}
