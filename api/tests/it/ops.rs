//! Operations around a store: files that are whole, directories, room, retention, logs.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use tempfile::tempdir;
use tierce::{
    Error, Timestamp,
    ops::{self, Directories, Level, RotatingLog},
};
use tierce_kit::clock::TestClock;

/// The names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

/// Goal: whatever goes wrong, the old file is whole and no temporary file is left.
#[test]
fn atomic_write_is_all_or_nothing() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("state.json");
    ops::atomic_write(&path, "old").unwrap();

    let failing = |file: &mut dyn io::Write| -> io::Result<()> {
        file.write_all(&[b'x'; 100_000])?;
        Err(io::ErrorKind::StorageFull.into())
    };
    let error = ops::atomic_write_with(&path, failing).unwrap_err();
    assert!(
        matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull),
        "{error}"
    );

    let panicking = |file: &mut dyn io::Write| -> io::Result<()> {
        file.write_all(b"half")?;
        panic!("in the middle");
    };
    catch_unwind(AssertUnwindSafe(|| ops::atomic_write_with(&path, panicking))).unwrap_err();

    assert_eq!((text(&path).as_str(), names(dir.path())), ("old", vec!["state.json".to_owned()]));
    ops::atomic_write(&path, "new").unwrap();
    assert_eq!((text(&path).as_str(), names(dir.path())), ("new", vec!["state.json".to_owned()]));
}

#[test]
fn atomic_write_refuses_what_is_no_file() {
    let dir = tempdir().unwrap();
    let target = dir.path().join("target");
    fs::create_dir(&target).unwrap();
    for path in [
        target.clone(),
        dir.path().join(".."),
        dir.path().join("none/file"),
        Path::new("/").to_owned(),
    ] {
        assert_eq!(ops::atomic_write(&path, "x").unwrap_err().kind(), "io", "{path:?}");
    }
    assert_eq!(names(dir.path()), ["target"]);
    assert!(names(&target).is_empty());
}

/// Goal: the temporary name is not made from the target's, which may have the longest name there is.
#[test]
fn atomic_write_to_the_longest_name() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("n".repeat(255));
    ops::atomic_write(&path, "x").unwrap();
    assert_eq!(text(&path), "x");
}

#[test]
fn atomic_writes_at_once_leave_one_whole_file() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("state.json");
    std::thread::scope(|scope| {
        for writer in 0..4_u8 {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..10 {
                    ops::atomic_write(path, vec![b'a' + writer; 10_000]).unwrap();
                }
            });
        }
    });
    let text = text(&path);
    assert_eq!(text.len(), 10_000);
    assert!(text.bytes().all(|byte| text.as_bytes()[0] == byte));
    assert_eq!(names(dir.path()), ["state.json"]);
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn atomic_write_keeps_the_mode() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("secrets.json");
        fs::write(&path, "old").unwrap();
        for wanted in [0o600, 0o640, 0o666, 0o755] {
            set_mode(&path, wanted);
            // Method: the mode of the temporary file is seen while it is written: nobody else may read it.
            let private = ops::atomic_write_with(&path, |_| {
                let mut entries = fs::read_dir(dir.path())?.map(|entry| entry.unwrap().path());
                let temporary = entries.find(|other| *other != path).unwrap();
                Ok(mode(&temporary))
            });
            assert_eq!(private.unwrap() & 0o077, 0);
            assert_eq!(mode(&path), wanted);
        }
        // A new file has what any new file has: others may read what is exported for them.
        let usual = dir.path().join("usual");
        fs::write(&usual, "").unwrap();
        let new = dir.path().join("new");
        ops::atomic_write(&new, "").unwrap();
        assert_eq!(mode(&new), mode(&usual));
    }

    #[test]
    fn atomic_write_follows_a_link() {
        let dir = tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        fs::write(real.join("config.json"), "old").unwrap();
        let link = dir.path().join("config.json");
        symlink(real.join("config.json"), &link).unwrap();
        ops::atomic_write(&link, "new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(text(real.join("config.json")), "new");
        assert_eq!(names(&real), ["config.json"]);

        // A link to nothing is a place for a file, if its directory is there.
        let dangling = dir.path().join("dangling");
        symlink("nothing", &dangling).unwrap();
        ops::atomic_write(&dangling, "x").unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("nothing")).unwrap(), "x");
        let lost = dir.path().join("lost");
        symlink(dir.path().join("not/there"), &lost).unwrap();
        assert_eq!(ops::atomic_write(&lost, "x").unwrap_err().kind(), "io");
    }

    /// Method: the superuser may write anywhere, so for it only the outcome is looked at.
    #[test]
    fn atomic_write_in_a_read_only_directory() {
        let dir = tempdir().unwrap();
        let closed = dir.path().join("closed");
        fs::create_dir(&closed).unwrap();
        let path = closed.join("state.json");
        fs::write(&path, "old").unwrap();
        set_mode(&closed, 0o555);
        let may_write = fs::write(closed.join("probe"), "").is_ok();
        let result = ops::atomic_write(&path, "new");
        set_mode(&closed, 0o755);
        let _ = fs::remove_file(closed.join("probe"));
        assert_eq!(result.is_ok(), may_write);
        assert_eq!(text(&path), if may_write { "new" } else { "old" });
        assert_eq!(names(&closed), ["state.json"]);
    }

    #[test]
    fn clean_up_leaves_links_alone() {
        let dir = tempdir().unwrap();
        let (cache, other) = (dir.path().join("cache"), dir.path().join("other"));
        for directory in [&cache, &other] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(other.join("precious"), "x").unwrap();
        symlink(&other, cache.join("directory")).unwrap();
        symlink(other.join("precious"), cache.join("file")).unwrap();
        let done = ops::clean_up_tree(&cache, Duration::ZERO, Timestamp(u64::MAX)).unwrap();
        assert!(done.removed.is_empty() && done.failed.is_empty(), "{done:?}");
        assert_eq!(names(&cache), ["directory", "file"]);
        assert_eq!(names(&other), ["precious"]);
    }
}

#[test]
fn directories() {
    let dir = tempdir().unwrap();
    let base = dir.path().join("deep/data");
    let directories = Directories::new(&base);
    assert_eq!(directories.logs(), base.join("logs"));
    assert!(names(dir.path()).is_empty(), "computing paths creates nothing");
    directories.create().unwrap();
    fs::write(directories.db().join("file"), "x").unwrap();
    directories.create().unwrap();
    assert_eq!(names(&base), ["cache", "config", "db", "logs", "temp"]);
    assert_eq!(names(&directories.db()), ["file"]);

    let blocked = Directories::new(dir.path().join("blocked"));
    fs::create_dir(blocked.base()).unwrap();
    fs::write(blocked.cache(), "a file").unwrap();
    assert_eq!(blocked.create().unwrap_err().kind(), "io");
}

#[test]
fn caches_of_classes() {
    let path = ops::cache_of("/var/lib/hassette", "WeatherApp").unwrap();
    assert_eq!(path, Path::new("/var/lib/hassette/WeatherApp/cache"));
    for name in ["", ".", "..", "a/b", "a\\b", "/etc", "C:", "a\0b", &"n".repeat(256)] {
        assert_eq!(ops::cache_of("/data", name).unwrap_err().kind(), "name", "{name:?}");
    }
}

#[test]
fn room_on_the_disk() {
    let dir = tempdir().unwrap();
    let there = ops::disk_space(dir.path()).unwrap();
    assert!(there.total > 0 && there.used + there.free == there.total);
    assert_eq!(ops::disk_space(dir.path().join("a/b/c")).unwrap().total, there.total);
    ops::ensure_free(dir.path(), 0).unwrap();
    let error = ops::ensure_free(dir.path(), u64::MAX).unwrap_err();
    let Error::Engine(tierce::engine::Error::LowSpace { free, required }) = error else {
        panic!("{error}")
    };
    assert!(free <= there.total && required == u64::MAX);
    assert_eq!(ops::FREE_BYTES_DEFAULT, 100 * 1024 * 1024);
}

fn aged(path: &Path, at: Timestamp) {
    fs::write(path, "data").unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_millis(at.0)).unwrap();
}

/// Goal: only what is older than the limit goes; exactly at it, from the future, directories and what is below stay.
#[test]
fn retention() {
    const DAY_MS: u64 = 86_400_000;
    let (dir, now) = (tempdir().unwrap(), Timestamp(TestClock::START_MS));
    let limit = Timestamp(now.0 - 30 * DAY_MS);
    let cache = dir.path().join("cache");
    fs::create_dir_all(cache.join("below/empty")).unwrap();
    aged(&cache.join("older"), Timestamp(limit.0 - 1));
    aged(&cache.join("exactly"), limit);
    aged(&cache.join("future"), Timestamp(now.0 + DAY_MS));
    aged(&cache.join("below/older"), Timestamp(0));
    let thirty_days = Duration::from_secs(30 * 86_400);

    let done = ops::clean_up(&cache, thirty_days, now).unwrap();
    assert_eq!((done.removed.len(), done.bytes(), done.failed.len()), (1, 4, 0));
    assert_eq!(done.removed[0].path, cache.join("older"));
    assert_eq!(done.removed[0].modified, Timestamp(limit.0 - 1));
    assert_eq!(names(&cache), ["below", "exactly", "future"]);

    let done = ops::clean_up_tree(&cache, thirty_days, now).unwrap();
    assert_eq!(done.removed.len(), 1);
    assert_eq!(names(&cache.join("below")), ["empty"]);

    assert!(ops::clean_up(&cache, Duration::MAX, now).unwrap().removed.is_empty());
    assert!(ops::clean_up(dir.path().join("none"), thirty_days, now).unwrap().removed.is_empty());
    assert_eq!(ops::clean_up(cache.join("exactly"), thirty_days, now).unwrap_err().kind(), "io");
}

fn log(path: &Path, bytes: u64, backups: u32) -> RotatingLog {
    RotatingLog::open_with(path, bytes, backups, Arc::new(TestClock::new())).unwrap()
}

#[test]
fn a_log_rotates() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("addon.log");
    let mut rotating = log(&path, 8, 2);
    for line in ["one", "two", "three", "four", "a line longer than a file", "six"] {
        rotating.append(line).unwrap();
    }
    assert_eq!(names(dir.path()), ["addon.log", "addon.log.1", "addon.log.2"]);
    assert_eq!(text(&path), "six\n");
    assert_eq!(text(dir.path().join("addon.log.1")), "a line longer than a file\n");
    assert_eq!(text(dir.path().join("addon.log.2")), "four\n");

    // A log goes on where it ended, and a line exactly as long as the rest fits.
    let mut rotating = log(&path, 8, 2);
    rotating.append("abc").unwrap();
    assert_eq!(text(&path), "six\nabc\n");
    rotating.append("").unwrap();
    assert_eq!(text(&path), "\n");

    let mut single = log(&dir.path().join("single.log"), 8, 0);
    for line in ["one", "two", "three"] {
        single.append(line).unwrap();
    }
    assert_eq!(text(single.path()), "three\n");
    assert!(!dir.path().join("single.log.1").exists());
    assert_eq!(
        (RotatingLog::FILE_BYTES_MAX_DEFAULT, RotatingLog::BACKUPS_DEFAULT),
        (10 * 1024 * 1024, 5)
    );
}

/// Goal: a line is a line: after a crash in the middle of one, and with ends of lines in the message.
#[test]
fn lines_stay_lines() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("addon.log");
    fs::write(&path, "whole\ncut of").unwrap();
    let mut rotating = log(&path, 1_000, 1);
    rotating.log(Level::Warning, "addon", "a\nb\r\nc").unwrap();
    rotating.sync().unwrap();
    let line = "2023-11-14T22:13:20.000Z - addon - WARNING - a\\nb\\r\\nc\n";
    assert_eq!(text(&path), format!("whole\ncut of\n{line}"));
}

/// Goal: a rotation that the system refuses loses no line.
#[test]
fn a_log_survives_a_failed_rotation() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("addon.log");
    let mut rotating = log(&path, 8, 1);
    rotating.append("one").unwrap();
    fs::create_dir_all(dir.path().join("addon.log.1/x")).unwrap();
    assert_eq!(rotating.append("a longer one").unwrap_err().kind(), "io");
    assert_eq!(text(&path), "one\n");
    fs::remove_dir_all(dir.path().join("addon.log.1")).unwrap();
    rotating.append("a longer one").unwrap();
    assert_eq!(text(&path), "a longer one\n");
    assert_eq!(text(dir.path().join("addon.log.1")), "one\n");
}

#[test]
fn written_piece_by_piece() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("big");
    let lines = ops::atomic_write_with(&path, |file| {
        for number in 0..10_000 {
            writeln!(file, "{number}")?;
        }
        Ok(10_000)
    });
    assert_eq!(text(path).lines().count(), lines.unwrap());
}
