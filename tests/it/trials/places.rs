//! Names that are looked up twice: the working directory changes, the directory of an open store is renamed, emptied or
//! replaced, links stand in the way.

use std::{
    collections::BTreeMap,
    env, fs,
    ops::ControlFlow,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tierce_engine::{
    Damage, Durability, Engine, Error, Health, Options, RecoveryPolicy,
    backup::BackupOptions,
    io::{Access, Disk, LockMode, OsDisk},
    restore,
};
use tierce_kit::{rng::Rng, seed};

use crate::basics::hooks::{Call, HookedDisk};

fn options() -> Options {
    Options::new().segment_bytes(8 << 10).background(false).durability(Durability::Sync)
}

fn fill(engine: &Engine, keys: std::ops::Range<u32>) {
    for key in keys {
        engine.put(key.to_le_bytes(), [7; 600]).unwrap();
    }
}

#[track_caller]
fn assert_holds(engine: &Engine, keys: std::ops::Range<u32>) {
    assert_eq!(engine.iter().unwrap().count(), keys.len());
    for key in keys {
        assert!(engine.get(key.to_le_bytes()).unwrap().is_some(), "{key}");
    }
}

fn names(dir: &Path) -> Vec<String> {
    let listed = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs the rest of the test `name` in a process of its own, in `dir`: its working directory is that of a process.
fn in_a_process(name: &str, dir: &Path) -> bool {
    const ASKED: &str = "TIERCE_TEST_OWN_PROCESS";
    if env::var_os(ASKED).is_some() {
        return true;
    }
    let done = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(ASKED, "1")
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    false
}

/// Goal: a store that was opened by a relative path is the same after the working directory has changed, to a directory
/// without such a store and to one with another: not a file goes there, and everything is found again. Method: over
/// several segments, with a follower, a backup, a closing and an opening.
#[test]
fn the_working_directory_changes() {
    let root = tempfile::tempdir().unwrap();
    for dir in ["a", "b", "c"] {
        fs::create_dir(root.path().join(dir)).unwrap();
    }
    if !in_a_process("trials::places::the_working_directory_changes", &root.path().join("a")) {
        return;
    }
    let root = env::current_dir().unwrap().parent().unwrap().to_owned();
    let other = options().open(root.join("b/store")).unwrap();
    fill(&other, 0..3);
    other.close().unwrap();
    let others = names(&root.join("b/store"));
    let store = options().open("store").unwrap();
    assert_eq!(store.path(), root.join("a/store"));
    fill(&store, 0..20);
    let reader = options().open_reader("store").unwrap();
    for dir in ["b", "c"] {
        env::set_current_dir(root.join(dir)).unwrap();
        let next = u32::try_from(store.stats().entries).unwrap();
        fill(&store, next..next + 60);
        assert_eq!(store.health(), Health::Good);
        assert!(reader.refresh().unwrap());
        assert_eq!(reader.iter().count(), store.iter().unwrap().count());
        store.back_up(format!("backup of {dir}"), &Default::default()).unwrap();
    }
    store.checkpoint().unwrap();
    store.close().unwrap();
    assert_eq!(names(&root.join("b/store")), others);
    assert_eq!(names(&root.join("b")), ["backup of b", "store"]);
    assert_eq!(names(&root.join("c")), ["backup of c"]);
    assert_holds(&options().open(root.join("a/store")).unwrap(), 0..140);
    assert_holds(&options().open("backup of c").unwrap(), 0..140);
    assert_holds(&options().open("../b/store").unwrap(), 0..3);
}

/// Goal: stores that were opened by relative paths hold what was written to each of them, wherever the working directory
/// goes, and nothing else is in any directory. Method: random programs over three directories with a store of one name
/// in each; against a model of each directory.
#[test]
fn random_working_directories() {
    const NAME: &str = "trials::places::random_working_directories";
    let root = tempfile::tempdir().unwrap();
    if !in_a_process(NAME, root.path()) {
        return;
    }
    let root = env::current_dir().unwrap();
    seed::cases(NAME, 2, |seed| {
        let (mut rng, dir) = (Rng::new(seed), root.join(format!("{seed:x}")));
        let dirs: Vec<_> = ["a", "b", "c"].map(|name| dir.join(name)).into();
        dirs.iter().for_each(|dir| fs::create_dir_all(dir).unwrap());
        let mut open: Vec<Option<Engine>> = vec![None, None, None];
        let mut models = vec![BTreeMap::new(); 3];
        let mut here = 0;
        env::set_current_dir(&dirs[here]).unwrap();
        for _ in 0..150 {
            let (which, key) = (rng.below(3) as usize, rng.below(12) as u32);
            match (&open[which], rng.below(8)) {
                (_, 0) => {
                    here = which;
                    env::set_current_dir(&dirs[here]).unwrap();
                }
                (None, _) => {
                    let path = match which == here {
                        true => "store".to_owned(),
                        false => format!("../{}/store", ["a", "b", "c"][which]),
                    };
                    open[which] = Some(options().open(path).unwrap());
                }
                (Some(_), 1) => open[which].take().unwrap().close().unwrap(),
                (Some(store), 2) => store.checkpoint().unwrap(),
                (Some(store), 3) => {
                    models[which].remove(&key);
                    let _ = store.delete(key.to_le_bytes()).unwrap();
                }
                (Some(store), _) => {
                    let value = vec![rng.below(250) as u8; 2_000];
                    store.put(key.to_le_bytes(), &value).unwrap();
                    models[which].insert(key, value);
                }
            }
        }
        open.into_iter().flatten().for_each(|store| store.close().unwrap());
        for (dir, model) in dirs.iter().zip(models) {
            assert!(names(dir).iter().all(|name| name == "store"), "{:?}", names(dir));
            let store = options().open(dir.join("store")).unwrap();
            assert_eq!(store.iter().unwrap().count(), model.len());
            for (key, value) in model {
                assert_eq!(store.get(key.to_le_bytes()).unwrap().as_deref(), Some(&value[..]));
            }
        }
    });
}

/// Goal: a store whose directory is renamed goes on there, whatever takes its name; what opens the old name gets a new
/// store, what opens the new name gets the open one. Method: over several segments, compaction, a checkpoint and a
/// reopening; a directory with a store of its own, and nothing, under the old name.
#[test]
fn the_directory_is_renamed() {
    let root = tempfile::tempdir().unwrap();
    let (old, new) = (root.path().join("old"), root.path().join("new"));
    let store = options().open(&old).unwrap();
    fill(&store, 0..20);
    fs::rename(&old, &new).unwrap();
    let second = options().open(&old).unwrap();
    assert_eq!(second.iter().unwrap().count(), 0);
    fill(&second, 0..5);
    fill(&store, 20..80);
    store.compact().unwrap();
    store.checkpoint().unwrap();
    assert_holds(&second, 0..5);
    let again = options().open(&new).unwrap();
    assert_holds(&again, 0..80);
    drop(again);
    store.close().unwrap();
    second.close().unwrap();
    assert_holds(&options().open(&old).unwrap(), 0..5);
    assert_holds(&options().open(&new).unwrap(), 0..80);
    fs::remove_dir_all(&old).unwrap();
    fs::rename(&new, &old).unwrap();
    assert_holds(&options().open(&old).unwrap(), 0..80);
}

/// Goal: when the files of an open store are taken away, it does not go on as if nothing were: writes are refused with
/// what happened, at the next segment or manifest at the latest and after a second of background work, and what takes
/// the place gets not one file. Method: the directory removed; emptied and used by another process, as it would look.
#[test]
fn the_files_are_taken_away() {
    for is_emptied in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("store");
        let clock = tierce_kit::clock::TestClock::new();
        let store = options().clock(clock.clone()).open(&dir).unwrap();
        fill(&store, 0..20);
        store.step().unwrap();
        let copy = root.path().join("copy");
        store.back_up(&copy, &Default::default()).unwrap();
        if is_emptied {
            for name in names(&dir) {
                fs::remove_file(dir.join(name)).unwrap();
            }
            // What stands there now belongs to another process.
            for name in names(&copy).iter().filter(|name| *name != "BACKUP") {
                fs::copy(copy.join(name), dir.join(name)).unwrap();
            }
            fs::write(dir.join("LOCK"), "1").unwrap();
        } else {
            fs::remove_dir_all(&dir).unwrap();
            fs::create_dir(&dir).unwrap();
        }
        let there = names(&dir);
        let refused = (20..60_u32).find_map(|key| store.put(key.to_le_bytes(), [7; 600]).err());
        let refused = refused.unwrap().to_string();
        assert!(refused.contains("removed or replaced"), "{is_emptied}: {refused}");
        clock.advance(2_000);
        while store.step().unwrap_or(false) {}
        let health = store.health();
        let says = |cause: &str| cause.contains("removed or replaced");
        assert!(matches!(&health, Health::Stopped { cause } if says(cause)), "{health:?}");
        assert!(store.try_recover().is_err());
        assert_eq!(store.get(3_u32.to_le_bytes()).unwrap().as_deref(), Some(&[7; 600][..]));
        assert!(store.close().is_err());
        assert_eq!(names(&dir), there, "{is_emptied}");
        if is_emptied {
            assert_holds(&options().open(&dir).unwrap(), 0..20);
        }
    }
}

/// Goal: where a link stands under the name of a file of a store, nothing is written or read through it.
#[cfg(unix)]
#[test]
fn links_in_the_way() {
    use std::os::unix::fs::symlink;
    let root = tempfile::tempdir().unwrap();
    let (dir, mine) = (root.path().join("store"), root.path().join("mine"));
    let store = options().open(&dir).unwrap();
    fill(&store, 0..20);
    // The names that come next.
    let last = names(&dir).into_iter().rfind(|name| name.ends_with(".seg")).unwrap();
    let last = u64::from_str_radix(last.trim_end_matches(".seg"), 16).unwrap();
    fs::write(&mine, "precious").unwrap();
    for name in [format!("{:016x}.seg", last + 1), "MANIFEST.tmp".to_owned()] {
        symlink(&mine, dir.join(name)).unwrap();
    }
    let mut key = 20;
    let outcomes: Vec<_> = std::iter::from_fn(|| {
        key += 1;
        (key < 60).then(|| store.put(u32::to_le_bytes(key), [7; 600]))
    })
    .collect();
    assert!(outcomes.iter().any(Result::is_ok));
    let entries = store.iter().unwrap().count();
    store.close().unwrap();
    assert_eq!(fs::read(&mine).unwrap(), b"precious");
    assert_eq!(options().open(&dir).unwrap().iter().unwrap().count(), entries);
    // A manifest that is a link is none.
    fs::rename(dir.join("MANIFEST"), root.path().join("elsewhere")).unwrap();
    symlink(root.path().join("elsewhere"), dir.join("MANIFEST")).unwrap();
    let refused = options().open(&dir).map(drop);
    assert!(matches!(refused, Err(Error::Corruption(_) | Error::Io { .. })), "{refused:?}");
    assert_eq!(fs::read(&mine).unwrap(), b"precious");
}

/// Goal: a pipe in the place of a file or a lock is an error at once, by path and in a directory that is held open;
/// nothing waits for a writer. Method: from a thread that may not return.
#[cfg(unix)]
#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let (send, refused) = std::sync::mpsc::channel();
    let dir = tempfile::tempdir().unwrap();
    let (path, pipe) = (dir.path().to_owned(), dir.path().join("pipe"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::thread::spawn(move || {
        let held = OsDisk.hold_dir(&path).unwrap().unwrap();
        for disk in [&OsDisk as &dyn Disk, &*held] {
            for access in [Access::Read, Access::Write] {
                send.send(disk.open(&pipe, access).map(drop).map_err(|e| e.kind())).unwrap();
            }
            let locked = disk.lock(&pipe, LockMode::Shared);
            send.send(locked.map(drop).map_err(|e| e.kind())).unwrap();
        }
    });
    for _ in 0..6 {
        let answer = refused.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
        assert_eq!(answer, Err(std::io::ErrorKind::InvalidInput));
    }
}

/// Goal: a link or a directory in the place of a segment is named as what it is, whatever the policy; nothing is given up
/// for it, and all is there once the file stands in its place again.
#[cfg(unix)]
#[test]
fn a_link_in_place_of_a_segment() {
    let root = tempfile::tempdir().unwrap();
    let (dir, away) = (root.path().join("store"), root.path().join("away.seg"));
    let store = options().open(&dir).unwrap();
    fill(&store, 0..60);
    store.close().unwrap();
    let first = names(&dir).into_iter().find(|name| name.ends_with(".seg")).unwrap();
    let path = dir.join(first);
    fs::rename(&path, &away).unwrap();
    for is_link in [true, false] {
        match is_link {
            true => std::os::unix::fs::symlink(&away, &path).unwrap(),
            false => fs::create_dir(&path).unwrap(),
        }
        for policy in [RecoveryPolicy::Strict, RecoveryPolicy::SkipRecord, RecoveryPolicy::Salvage]
        {
            let refused = options().recovery(policy).open(&dir);
            let is_told = matches!(&refused, Err(Error::Corruption(corruption))
                if corruption.damage == Damage::NoRegularFile && corruption.file == path);
            assert!(is_told, "{policy:?}: {refused:?}");
        }
        if is_link { fs::remove_file(&path).unwrap() } else { fs::remove_dir(&path).unwrap() }
    }
    fs::rename(&away, &path).unwrap();
    assert_holds(&options().open(&dir).unwrap(), 0..60);
}

/// Goal: an opening that stands between its look at a directory and the lock while a restore puts another store in its place
/// opens that one: what it acknowledges is in the place, and not in what was moved aside.
#[test]
fn a_restore_comes_before_the_lock() {
    let root = tempfile::tempdir().unwrap();
    let (dir, backup) = (root.path().join("store"), root.path().join("backup"));
    let store = options().open(&dir).unwrap();
    fill(&store, 0..20);
    store.back_up(&backup, &BackupOptions::new()).unwrap();
    fill(&store, 20..40);
    store.close().unwrap();
    let (place, source) = (dir.clone(), backup);
    let is_first = AtomicBool::new(true);
    let disk = HookedDisk::new(OsDisk, move |call| {
        if call == Call::Lock && is_first.swap(false, Ordering::Relaxed) {
            let disk: Arc<dyn Disk> = Arc::new(OsDisk);
            let go_on = &mut |_, _| ControlFlow::Continue(());
            restore(&disk, &source, &place, true, go_on).unwrap().unwrap();
        }
    });
    let opened = options().disk(disk).open(&dir).unwrap();
    assert_holds(&opened, 0..20);
    opened.put("later", "acknowledged").unwrap();
    opened.close().unwrap();
    assert!(options().open(&dir).unwrap().get("later").unwrap().is_some());
}

/// Goal: an opening that is overtaken at each try ends with an error that names the place.
#[test]
fn an_opening_that_is_overtaken_at_each_try() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    options().open(&dir).unwrap().close().unwrap();
    let (place, tries) = (dir.clone(), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&tries);
    let disk = HookedDisk::new(OsDisk, move |call| {
        if call == Call::Lock {
            let number = count.fetch_add(1, Ordering::Relaxed);
            fs::rename(&place, place.with_extension(number.to_string())).unwrap();
            fs::create_dir(&place).unwrap();
        }
    });
    let refused = options().disk(disk).open(&dir);
    assert!(matches!(&refused, Err(Error::Io { file, .. }) if *file == dir), "{refused:?}");
    assert!(tries.load(Ordering::Relaxed) > 1);
}
