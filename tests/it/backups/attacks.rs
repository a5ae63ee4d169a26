//! Faults that a review found: places that are one another, two at once, links that lead away.

use std::{fs, ops::ControlFlow};

use tierce_engine::{
    Error, Restore,
    backup::{BackupOptions, back_up},
    io::{Disk as _, LockMode, OsDisk},
    restore, verify_backup,
};

use super::{contents, disk, fill, names, options, take};

/// Goal: what stands where a restore works is never removed unless a restore has put it there.
#[test]
fn the_stage_is_somebody_elses() {
    let root = tempfile::tempdir().unwrap();
    let (store, to) = (root.path().join("store"), root.path().join("to"));
    fill(&options().open(&store).unwrap());
    let stage = root.path().join("to.restoring");
    take(&store, &stage, &BackupOptions::new().copies(true)).unwrap();
    let before = names(&stage);
    let go_on = &mut |_, _| ControlFlow::Continue(());
    let refused = restore(&disk(), &stage, &to, false, go_on);
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
    let refused = Restore::begin(&disk(), &to, false);
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
    assert_eq!(names(&stage), before);
    assert!(verify_backup(&disk(), &stage).unwrap().is_sound());
}

/// Goal: one restore at a time; what a restore that was cut off left is taken over.
#[test]
fn one_restore_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let (store, backup, to) =
        (root.path().join("store"), root.path().join("backup"), root.path().join("to"));
    fill(&options().open(&store).unwrap());
    take(&store, &backup, &BackupOptions::new()).unwrap();
    let first = Restore::begin(&disk(), &to, false).unwrap();
    first.take("MANIFEST", &mut &b"half"[..]).unwrap();
    let second = Restore::begin(&disk(), &to, false);
    assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");
    drop(first);
    let go_on = &mut |_, _| ControlFlow::Continue(());
    restore(&disk(), &backup, &to, false, go_on).unwrap().unwrap();
    assert_eq!(contents(&to), contents(&backup));
    assert!(names(&to).iter().all(|name| name != "RESTORING" && name != "BACKUP"));
}

/// Goal: a backup that meets files which it did not make leaves them alone.
#[test]
fn two_backups_to_one_place() {
    let root = tempfile::tempdir().unwrap();
    let (store, to) = (root.path().join("store"), root.path().join("to"));
    fill(&options().open(&store).unwrap());
    let segments: Vec<_> =
        names(&store).into_iter().filter(|name| name.ends_with(".seg")).collect();
    let mut others = Vec::new();
    let go_on = &mut |_, _| {
        // Another one comes between, and is done before.
        for name in segments.iter().filter(|name| !to.join(name).exists()) {
            fs::copy(store.join(name), to.join(name)).unwrap();
            others.push(name.clone());
        }
        ControlFlow::Continue(())
    };
    let options = BackupOptions::new().copies(true);
    let failed = back_up(&disk(), &store, &to, &options, go_on);
    assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
    assert!(others.len() + 1 == segments.len() && others.len() > 2, "{others:?}");
    assert_eq!(names(&to), others, "what the other one made, and nothing else");
}

/// Goal: who copies gets no damage of an earlier backup; a base that is none is refused.
#[test]
fn a_damaged_base() {
    let root = tempfile::tempdir().unwrap();
    let (store, base) = (root.path().join("store"), root.path().join("base"));
    let engine = options().open(&store).unwrap();
    fill(&engine);
    take(&store, &base, &BackupOptions::new().copies(true)).unwrap();
    let segment = names(&base).into_iter().find(|name| name.ends_with(".seg")).unwrap();
    let mut bytes = fs::read(base.join(&segment)).unwrap();
    bytes[5_000] ^= 1;
    fs::write(base.join(&segment), bytes).unwrap();
    let to = root.path().join("to");
    take(&store, &to, &BackupOptions::new().copies(true).base(&base)).unwrap();
    assert!(verify_backup(&disk(), &to).unwrap().is_sound());
    let none = take(&store, &root.path().join("x"), &BackupOptions::new().base(root.path()));
    assert!(matches!(none, Err(Error::NotAStore { .. })), "{none:?}");
}

/// Goal: a lock file that is a link is refused, and what it names is not touched.
#[cfg(unix)]
#[test]
fn links_lead_nowhere() {
    let root = tempfile::tempdir().unwrap();
    let (store, mine) = (root.path().join("store"), root.path().join("mine"));
    fill(&options().open(&store).unwrap());
    fs::write(&mine, "precious").unwrap();
    fs::remove_file(store.join("LOCK")).unwrap();
    std::os::unix::fs::symlink(&mine, store.join("LOCK")).unwrap();
    assert!(OsDisk.lock(&store.join("LOCK"), LockMode::Exclusive).is_err());
    assert!(options().open(&store).is_err());
    assert_eq!(fs::read(&mine).unwrap(), b"precious");
    let segment = names(&store).into_iter().find(|name| name.ends_with(".seg")).unwrap();
    fs::rename(store.join(&segment), root.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(root.path().join("elsewhere"), store.join(&segment)).unwrap();
    for copies in [true, false] {
        let taken = take(&store, &root.path().join("to"), &BackupOptions::new().copies(copies));
        assert!(matches!(taken, Err(Error::Corruption(_))), "{copies}: {taken:?}");
    }
}
