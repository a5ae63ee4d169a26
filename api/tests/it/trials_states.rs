//! States whose place another one uses at the same time: what is moved or written over is what was judged.

use std::{
    fmt, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Barrier, Mutex},
    thread,
    time::Duration,
};

use serde_json::json;
use tierce::{
    engine::{
        Options,
        io::{Clock, Disk as _, MemoryDisk, OsClock, OsDisk},
    },
    ops::{ConfigDocument, RotatingLog, StatusDocument},
    state::{EngineStore, JsonFileStore, StateStore},
};

use crate::state_stores::{names_in, object, one};

/// A clock in whose reading something happens once, as it might in another thread or process at this moment.
#[derive(Clone)]
pub(crate) struct Meddling(Arc<Mutex<Option<Meddle>>>);

type Meddle = Box<dyn FnOnce() + Send>;

impl Meddling {
    pub(crate) fn new(meddle: impl FnOnce() + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(meddle)))))
    }
}

impl fmt::Debug for Meddling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meddling")
    }
}

impl Clock for Meddling {
    fn wall_ms(&self) -> u64 {
        let meddle = self.0.lock().unwrap().take();
        if let Some(meddle) = meddle {
            meddle();
        }
        OsClock.wall_ms()
    }

    fn monotonic_ms(&self) -> u64 {
        OsClock.monotonic_ms()
    }
}

/// Goal: a load that found a damaged record does not remove the good state that another thread saved meanwhile.
#[test]
fn a_load_of_a_damaged_record_beside_a_save() {
    for damage in [&b"no state"[..], b""] {
        let engine =
            Options::new().disk(MemoryDisk::new()).background(false).open("store").unwrap();
        engine.put(b"\0Ssensor", damage).unwrap();
        let other = EngineStore::new(engine.clone());
        let saved = other.clone();
        let meddle = Meddling::new(move || saved.save("sensor", &one(7)).unwrap());
        let store = EngineStore::new(engine).clock(meddle);
        assert_eq!(store.load("sensor").unwrap(), Some(one(7)));
        assert_eq!(other.load("sensor").unwrap(), Some(one(7)));
        assert_eq!(other.quarantined().unwrap().len(), 1, "the damaged one is there once");
        assert_eq!(store.take_damage().len() + other.take_damage().len(), 1);
    }
}

/// Goal: of threads that load a damaged record and save a good one at the same moment, the save wins.
#[test]
fn loads_and_saves_of_damaged_records() {
    let engine = Options::new().disk(MemoryDisk::new()).background(false).open("store").unwrap();
    // It takes a moment between judging and acting.
    let store = EngineStore::new(engine.clone()).clock(Dawdling);
    let (start, end) = (Barrier::new(3), Barrier::new(3));
    thread::scope(|scope| {
        for saves in [false, true] {
            let (start, end) = (&start, &end);
            let store = if saves { EngineStore::new(engine.clone()) } else { store.clone() };
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    start.wait();
                    if saves {
                        store.save("sensor", &one(round)).unwrap();
                    } else {
                        store.load("sensor").unwrap();
                    }
                    end.wait();
                }
            });
        }
        for round in 0..ROUNDS {
            engine.put(b"\0Ssensor", format!("damaged {round}")).unwrap();
            start.wait();
            end.wait();
            assert!(
                engine.entry(b"\0Ssensor").unwrap().is_some(),
                "round {round}: the save is gone"
            );
        }
    });
    assert_eq!(store.quarantined().unwrap().len(), usize::try_from(ROUNDS).unwrap());
}

const ROUNDS: u64 = 200;

#[derive(Debug)]
struct Dawdling;

impl Clock for Dawdling {
    fn wall_ms(&self) -> u64 {
        thread::sleep(Duration::from_micros(100));
        OsClock.wall_ms()
    }

    fn monotonic_ms(&self) -> u64 {
        OsClock.monotonic_ms()
    }
}

/// Goal: the same in a JSON file, for loads and for saves.
#[test]
fn a_damaged_json_file_beside_a_save() {
    for is_load in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        fs::write(&path, "{\"cut off").unwrap();
        let other = path.clone();
        let meddle =
            Meddling::new(move || JsonFileStore::new(other).save("sensor", &one(7)).unwrap());
        let store = JsonFileStore::new(&path).clock(meddle);
        if is_load {
            assert_eq!(store.load("sensor").unwrap(), Some(one(7)));
        } else {
            store.save("other", &one(8)).unwrap();
        }
        assert_eq!(JsonFileStore::new(&path).load("sensor").unwrap(), Some(one(7)));
        assert_eq!(names_in(dir.path()).len(), 2, "the state and one damaged file");
    }
}

/// Goal: what other devices and programs wrote into a file stays as it is written, with all digits of its numbers.
#[test]
fn numbers_of_others_stay() {
    let others = "\"modem\": {\"iccid\": 89490200001234567890, \"x\": 0.1000000000000000055511151231257827,\n \"e\": 1e400}";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let write =
        || fs::write(&path, format!("{{{others}, \"valve\": {{\"open\": false}}}}")).unwrap();
    let is_kept = || fs::read_to_string(&path).unwrap().contains(others);
    write();
    let store = JsonFileStore::new(&path);
    store.save("valve", &object(json!({"open": true}))).unwrap();
    assert!(is_kept(), "{}", fs::read_to_string(&path).unwrap());
    assert_eq!(store.load("valve").unwrap(), Some(object(json!({"open": true}))));
    store.remove("valve").unwrap();
    assert!(is_kept());
    // The same kind of number where values are held.
    let others = others.replace(",\n \"e\": 1e400", "");
    let write = || fs::write(&path, format!("{{{others}, \"a\": 1}}")).unwrap();
    let is_kept = || fs::read_to_string(&path).unwrap().contains(&others);
    write();
    ConfigDocument::open(&path).unwrap().set("a", &2).unwrap();
    assert!(is_kept(), "{}", fs::read_to_string(&path).unwrap());
    write();
    StatusDocument::open(&path).unwrap().update("running").unwrap();
    assert!(is_kept(), "{}", fs::read_to_string(&path).unwrap());
}

/// Goal: an edit by hand, and what another handle set, survive the next change; a key that is removed elsewhere is not
/// brought back.
#[test]
fn edits_of_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    let mut config = ConfigDocument::open(&path).unwrap();
    config.set("interval_s", &60).unwrap();
    config.set("gone", &1).unwrap();
    fs::write(&path, "{\"interval_s\": 60, \"host\": \"10.0.0.9\"}").unwrap();
    config.set("theme", "dark").unwrap();
    assert_eq!(config.get::<String>("host").unwrap().as_deref(), Some("10.0.0.9"));
    assert_eq!(config.get::<u8>("gone").unwrap(), None);
    let mut other = ConfigDocument::open(&path).unwrap();
    other.set("port", &80).unwrap();
    config.update(|values| drop(values.insert("theme".to_owned(), "light".into()))).unwrap();
    assert_eq!(config.get::<u16>("port").unwrap(), Some(80));
    assert!(config.remove("port").unwrap() && !other.remove("port").unwrap());
    other.set("z", &-0.0).unwrap();
    let values = ConfigDocument::open(&path).unwrap().values().clone();
    let keys: Vec<_> = values.keys().map(String::as_str).collect();
    assert_eq!(keys, ["host", "interval_s", "theme", "z"]);
    // Damaged while it is open: moved aside, and what is known is written.
    fs::write(&path, "{\"cut off").unwrap();
    config.set("theme", "blue").unwrap();
    assert!(config.damage().unwrap().to_string().contains("config.json.corrupt-"));
    assert_eq!(ConfigDocument::open(&path).unwrap().get::<u16>("interval_s").unwrap(), Some(60));
    let mut strict = ConfigDocument::open_strict(&path).unwrap();
    fs::write(&path, "{\"cut off").unwrap();
    assert_eq!(strict.set("theme", "red").unwrap_err().kind(), "corrupt-file");
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"cut off");
}

/// Goal: where a link stands, what it leads to is written, moved aside and rotated; the link stays.
#[cfg(unix)]
#[test]
fn links_stay() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real"), dir.path().join("link"));
    fs::create_dir(&real).unwrap();
    fs::create_dir(&link).unwrap();
    for name in ["config.json", "state.json", "a.log"] {
        fs::write(real.join(name), "{\"cut off").unwrap();
        symlink(real.join(name), link.join(name)).unwrap();
    }
    ConfigDocument::open(link.join("config.json")).unwrap().set("a", &1).unwrap();
    JsonFileStore::new(link.join("state.json")).save("a", &one(1)).unwrap();
    // What stands in the way of a new file is not written through.
    fs::write(real.join("other"), "theirs").unwrap();
    symlink(real.join("other"), real.join("a.log.next")).unwrap();
    let mut log = RotatingLog::open_with(link.join("a.log"), 4, 1, Arc::new(OsClock)).unwrap();
    for line in ["one", "two", "three"] {
        log.append(line).unwrap();
    }
    assert_eq!(fs::read_to_string(real.join("a.log")).unwrap(), "three\n");
    assert_eq!(fs::read_to_string(real.join("other")).unwrap(), "theirs");
    for name in ["config.json", "state.json", "a.log"] {
        let kind = fs::symlink_metadata(link.join(name)).unwrap().file_type();
        assert!(kind.is_symlink(), "{name}");
    }
    let aside = names_in(&real).into_iter().filter(|name| name.contains(".corrupt-")).count();
    assert_eq!((aside, names_in(&link).len()), (2, 3));
}

/// Goal: a directory that cannot be synced (network shares, FUSE) is no failure of what was written into it.
#[cfg(target_os = "linux")]
#[test]
fn a_directory_without_a_sync() {
    let error = fs::File::open("/proc").unwrap().sync_all().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "such a directory is here");
    OsDisk.sync_dir(Path::new("/proc")).unwrap();
    assert!(OsDisk.sync_dir(Path::new("/proc/no such directory")).is_err());
}

/// Goal: a log whose file another program renamed or removed goes on under its name.
#[cfg(unix)]
#[test]
fn a_log_that_another_program_rotates() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let mut log = RotatingLog::open_with(&path, 12, 2, Arc::new(OsClock)).unwrap();
    log.append("one").unwrap();
    fs::rename(&path, dir.path().join("moved")).unwrap();
    log.append("two").unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("moved")).unwrap(), "one\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    fs::remove_file(&path).unwrap();
    log.append("three").unwrap();
    // As logrotate does with `copytruncate`: there is room again.
    fs::write(&path, "").unwrap();
    log.append("four").unwrap();
    log.append("five").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "four\nfive\n");
    assert_eq!(names_in(dir.path()), ["a.log", "moved"]);
}

/// This test program as another process that does one of the things below.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(what: &str, path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "trials_states::process", "--nocapture"])
            .env("TIERCE_TRIAL", what)
            .env("TIERCE_TRIAL_PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    /// Waits until it says so.
    fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "it ended before {word}");
        }
    }

    fn go_on(&mut self) {
        writeln!(self.input, "go on").unwrap();
    }

    fn end(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

fn wait() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn say(word: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{word}").unwrap();
}

/// What the other process does; nothing in an ordinary run.
#[test]
fn process() {
    let Ok(what) = std::env::var("TIERCE_TRIAL") else { return };
    let path = PathBuf::from(std::env::var_os("TIERCE_TRIAL_PATH").unwrap());
    match &*what {
        "chdir" => after_a_change_of_directory(&path),
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            let store = tierce::state::SqliteStore::open(&path).unwrap();
            store.save("before", &one(1)).unwrap();
            say("saved");
            wait();
            store.save("after", &one(2)).unwrap();
            say("saved");
            wait();
        }
        writer => {
            say("ready");
            wait();
            write_many(&path, writer.parse().unwrap());
        }
    }
}

/// Goal: a program that changes its working directory, as daemons do, goes on in the files that it opened.
#[test]
fn relative_paths_stay_where_they_were() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("one")).unwrap();
    fs::create_dir(dir.path().join("two")).unwrap();
    Process::start("chdir", dir.path()).end();
    assert_eq!(names_in(&dir.path().join("two")), [""; 0]);
    assert_eq!(
        names_in(&dir.path().join("one")),
        ["a.log", "a.log.1", "config.json", "data", "direct.txt", "state.json", "status.json"]
    );
}

fn after_a_change_of_directory(dir: &Path) {
    use tierce::{Version, ops};
    std::env::set_current_dir(dir.join("one")).unwrap();
    let store = JsonFileStore::new("state.json");
    let mut log = RotatingLog::open_with("a.log", 4, 1, Arc::new(OsClock)).unwrap();
    let mut status = StatusDocument::open("status.json").unwrap();
    let mut config = ConfigDocument::open("config.json").unwrap();
    let migrator = ops::Migrator::new("data", []).unwrap();
    let directories = ops::Directories::new("data");
    #[cfg(feature = "sqlite")]
    let sqlite = tierce::state::SqliteStore::open("data/state.db").unwrap();
    ops::atomic_write_with("direct.txt", |file| {
        std::env::set_current_dir(dir.join("two"))?;
        file.write_all(b"x")
    })
    .unwrap();
    store.save("a", &one(1)).unwrap();
    log.append("one").unwrap();
    log.append("two").unwrap();
    status.update("running").unwrap();
    config.set("a", &1).unwrap();
    directories.create().unwrap();
    migrator.set_version(Version::new(1, 0, 0)).unwrap();
    #[cfg(feature = "sqlite")]
    sqlite.save("a", &one(1)).unwrap();
}

const SAVES: u32 = 4;
/// What another program wrote, as it wrote it.
const OTHERS: &str = "\"zz\": {\"iccid\": 89490200001234567890,\n \"x\": 0.10000000000000001}";

/// Saves states and settings of its own, each with a handle of its own.
fn write_many(dir: &Path, number: u32) {
    let mut config = ConfigDocument::open(dir.join("config.json")).unwrap();
    for n in 0..SAVES {
        let name = format!("{number}-{n}");
        let states = JsonFileStore::new(dir.join("state.json"));
        states.save(&name, &one(u64::from(n))).unwrap();
        config.set(&name, &n).unwrap();
        StatusDocument::open(dir.join("status.json")).unwrap().set(&name, n).unwrap();
        #[cfg(feature = "sqlite")]
        {
            let store = tierce::state::SqliteStore::open(dir.join("state.db")).unwrap();
            store.save(&name, &one(u64::from(n))).unwrap();
        }
    }
}

/// Goal: processes and threads that start at once over files that are damaged, or not there, and save different names:
/// nothing that was acknowledged is missing, what others wrote is as they wrote it, and what was damaged is kept once.
#[test]
fn processes_that_start_at_once() {
    for is_damaged in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let files = ["state.json", "config.json", "status.json", "state.db"];
        for name in files {
            match is_damaged {
                true => fs::write(dir.path().join(name), "{\"cut off ".repeat(500)).unwrap(),
                false if name.ends_with(".db") => {}
                false => fs::write(dir.path().join(name), format!("{{{OTHERS}}}")).unwrap(),
            }
        }
        let mut others: Vec<_> =
            (1..3).map(|number| Process::start(&number.to_string(), dir.path())).collect();
        others.iter_mut().for_each(|other| other.wait_for("ready"));
        others.iter_mut().for_each(Process::go_on);
        thread::scope(|scope| {
            for number in 3..5 {
                let dir = dir.path();
                scope.spawn(move || write_many(dir, number));
            }
        });
        others.into_iter().for_each(Process::end);
        let states = JsonFileStore::new(dir.path().join("state.json"));
        let config = ConfigDocument::open(dir.path().join("config.json")).unwrap();
        let status = StatusDocument::open(dir.path().join("status.json")).unwrap();
        #[cfg(feature = "sqlite")]
        let sqlite = tierce::state::SqliteStore::open(dir.path().join("state.db")).unwrap();
        for number in 1..5 {
            for n in 0..SAVES {
                let name = format!("{number}-{n}");
                assert_eq!(states.load(&name).unwrap(), Some(one(n.into())), "{name}");
                assert_eq!(config.get(&name).unwrap(), Some(n), "{name}");
                assert_eq!(status.values()[&name], n, "{name}");
                #[cfg(feature = "sqlite")]
                assert_eq!(sqlite.load(&name).unwrap(), Some(one(n.into())), "{name}");
            }
        }
        for name in files.iter().filter(|name| !is_damaged && name.ends_with("json")) {
            let text = fs::read_to_string(dir.path().join(name)).unwrap();
            assert!(text.contains(OTHERS), "{name}: {text}");
        }
        let kept = names_in(dir.path()).into_iter().filter(|name| name.contains(".corrupt-"));
        let count = if is_damaged { 3 + usize::from(cfg!(feature = "sqlite")) } else { 0 };
        assert_eq!(kept.count(), count, "{:?}", names_in(dir.path()));
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use std::{
        io::{Seek as _, SeekFrom},
        os::unix::fs::MetadataExt as _,
    };

    use tierce::state::{OnCorrupt, SqliteStore};

    use super::*;

    /// Goal: of two openings of a damaged file one moves it aside; the other takes the new one, and moves nothing.
    #[test]
    fn two_openings_of_a_damaged_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        fs::write(&path, vec![0x5a; 64 << 10]).unwrap();
        let other = Arc::new(Mutex::new(None));
        let clock = {
            let (path, other) = (path.clone(), Arc::clone(&other));
            Meddling::new(move || {
                let store = SqliteStore::open(&path).unwrap();
                store.save("sensor", &one(7)).unwrap();
                *other.lock().unwrap() = Some(store);
            })
        };
        let first = SqliteStore::open_with(&path, OnCorrupt::Quarantine, clock).unwrap();
        let other = other.lock().unwrap().take().unwrap();
        other.save("later", &one(8)).unwrap();
        drop((first, other));
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.load("sensor").unwrap(), Some(one(7)));
        assert_eq!(store.load("later").unwrap(), Some(one(8)));
        let kept = names_in(dir.path()).into_iter().filter(|name| name.contains(".corrupt-"));
        assert_eq!(kept.count(), 1);
    }

    fn filled(path: &Path) {
        let store = SqliteStore::open(path).unwrap();
        for name in 0..200 {
            store.save(&name.to_string(), &object(json!({"text": "x".repeat(200)}))).unwrap();
        }
    }

    /// Overwrites pages in the middle, or the head.
    fn damage(path: &Path, is_head: bool) {
        let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.seek(SeekFrom::Start(if is_head { 0 } else { 3 * 4096 })).unwrap();
        file.write_all(&[0x5a; 4096]).unwrap();
    }

    /// Goal: a damaged file that another process, or a store of this one, has open stays where it is, and what that one
    /// saves stays with it; when it is closed, the file moves.
    #[test]
    fn a_damaged_file_that_is_open() {
        for (is_head, is_process) in [(false, true), (true, true), (false, false), (true, false)] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state.db");
            filled(&path);
            let number = fs::metadata(&path).unwrap().ino();
            let mut process = is_process.then(|| Process::start("sqlite", &path));
            let store = (!is_process).then(|| SqliteStore::open(&path).unwrap());
            match &mut process {
                Some(process) => process.wait_for("saved"),
                None => store.as_ref().unwrap().save("before", &one(1)).unwrap(),
            }
            damage(&path, is_head);
            let what = format!("head {is_head}, process {is_process}");
            let error = SqliteStore::open(&path).unwrap_err();
            assert_eq!(error.kind(), "corrupt-file", "{what}: {error}");
            assert!(error.to_string().contains("has it open"), "{what}: {error}");
            assert_eq!(fs::metadata(&path).unwrap().ino(), number, "{what}: it was moved");
            if let Some(process) = &mut process {
                process.go_on();
                process.wait_for("saved");
                process.go_on();
            }
            process.into_iter().for_each(Process::end);
            drop(store);
            let store = SqliteStore::open(&path).unwrap();
            store.save("new", &one(3)).unwrap();
            let is_kept = names_in(dir.path()).iter().any(|name| name.contains(".corrupt-"));
            // The last one to close it may have written a good head over the damaged one.
            assert!(is_kept || store.load("before").unwrap().is_some(), "{what}");
        }
    }

    /// Goal: a database behind a link is moved aside where it is, with its log, and the link stays.
    #[test]
    fn a_damaged_file_behind_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real/state.db"), dir.path().join("state.db"));
        fs::create_dir(dir.path().join("real")).unwrap();
        fs::write(&real, "no database".repeat(500)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let store = SqliteStore::open(&link).unwrap();
        store.save("a", &one(1)).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let names = names_in(real.parent().unwrap());
        assert!(names.iter().any(|name| name.contains(".corrupt-")), "{names:?}");
    }
}
