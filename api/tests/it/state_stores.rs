//! Every place where states are kept, and what each does with damage.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};
use tierce::{
    Error, Result, Store,
    engine::{Durability, Options, PutOptions, io::MemoryDisk},
    state::{
        Damage, EngineStore, JsonFileStore, MemoryStore, NullStore, Object, OnCorrupt, Runtime,
        State, StateStore, What,
    },
    testing::{ManualClock, ProbeStore, conformance, conformance_reopened},
};

pub(crate) fn object(value: Value) -> Object {
    let Value::Object(object) = value else { panic!("no object") };
    object
}

pub(crate) fn one(count: u64) -> Object {
    object(json!({ "count": count }))
}

fn engine(disk: &MemoryDisk) -> EngineStore {
    let options = Options::new().disk(disk.clone()).background(false);
    EngineStore::new(options.open("store").unwrap())
}

/// Paths in a directory that is gone with it.
struct Paths(tempfile::TempDir, u32);

impl Paths {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), 0)
    }

    fn next(&mut self) -> PathBuf {
        self.1 += 1;
        self.0.path().join(format!("{}/state", self.1))
    }
}

#[test]
fn every_store_keeps_the_contract() {
    let mut paths = Paths::new();
    conformance(|| Arc::new(MemoryStore::new()));
    conformance(|| Arc::new(NullStore));
    conformance(|| Arc::new(ProbeStore::new(Arc::new(MemoryStore::new()))));
    conformance(|| Arc::new(JsonFileStore::new(paths.next())));
    conformance(|| Arc::new(engine(&MemoryDisk::new())));
    conformance(|| Arc::new(EngineStore::in_store(&Store::in_memory().unwrap()).unwrap()));
    #[cfg(feature = "sqlite")]
    conformance(|| Arc::new(tierce::state::SqliteStore::open(paths.next()).unwrap()));
}

#[test]
fn every_durable_store_keeps_what_it_was_given() {
    let mut paths = Paths::new();
    let (json, disk) = (paths.next(), MemoryDisk::new());
    conformance_reopened(|| Arc::new(JsonFileStore::new(&json)));
    conformance_reopened(|| Arc::new(engine(&disk)));
    #[cfg(feature = "sqlite")]
    {
        let sqlite = paths.next();
        conformance_reopened(|| Arc::new(tierce::state::SqliteStore::open(&sqlite).unwrap()));
    }
}

/// Goal: two methods make a store; what it cannot do it says.
#[test]
fn a_store_of_two_methods_is_one() {
    struct Two(MemoryStore);
    impl StateStore for Two {
        fn load(&self, name: &str) -> Result<Option<Object>> {
            self.0.load(name)
        }

        fn save(&self, name: &str, object: &Object) -> Result<()> {
            self.0.save(name, object)
        }
    }
    let make = || Arc::new(Two(MemoryStore::new()));
    conformance(|| make());
    assert_eq!(make().remove("a").unwrap_err().kind(), "unsupported");
    assert_eq!(make().names().unwrap_err().kind(), "unsupported");
}

/// Goal: the suite itself finds stores that do not keep the contract.
#[test]
fn the_suite_finds_bad_stores() {
    #[derive(Clone, Copy, Debug)]
    enum Fault {
        LosesEmpty,
        MixesNames,
        Merges,
        Shallow,
        Forgets,
    }
    struct Bad(MemoryStore, Fault);
    impl StateStore for Bad {
        fn load(&self, name: &str) -> Result<Option<Object>> {
            let found = self.0.load(&name_of(name, self.1))?;
            Ok(match self.1 {
                Fault::LosesEmpty => found.filter(|object| !object.is_empty()),
                _ => found,
            })
        }

        fn save(&self, name: &str, object: &Object) -> Result<()> {
            let mut object = object.clone();
            match self.1 {
                Fault::Merges => {
                    let mut old = self.0.load(name)?.unwrap_or_default();
                    old.append(&mut object);
                    object = old;
                }
                Fault::Forgets if name == "shared" => return Ok(()),
                Fault::Shallow => {
                    object.retain(|_, value| !value.is_array() || !value[0].is_array());
                }
                _ => {}
            }
            self.0.save(&name_of(name, self.1), &object)
        }
    }
    fn name_of(name: &str, fault: Fault) -> String {
        match fault {
            Fault::MixesNames => name.to_lowercase(),
            _ => name.to_owned(),
        }
    }
    use Fault::{Forgets, LosesEmpty, Merges, MixesNames, Shallow};
    for fault in [LosesEmpty, MixesNames, Merges, Shallow, Forgets] {
        let run = || conformance(|| Arc::new(Bad(MemoryStore::new(), fault)));
        assert!(std::panic::catch_unwind(run).is_err(), "{fault:?} is not found");
    }
}

fn json_store(path: &Path) -> JsonFileStore {
    JsonFileStore::new(path).clock(ManualClock::new())
}

pub(crate) fn names_in(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// Goal: one pretty file with a line end, parents created, nothing left over, and its permissions kept.
#[test]
fn json_is_one_file_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/state.json");
    let store = json_store(&path);
    assert_eq!(store.load("sensor").unwrap(), None);
    assert!(!dir.path().join("a").exists(), "a look creates nothing");
    store.save("sensor", &one(1)).unwrap();
    store.save("", &Object::new()).unwrap();
    let text = "{\n  \"\": {},\n  \"sensor\": {\n    \"count\": 1\n  }\n}\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(names_in(path.parent().unwrap()), ["state.json"], "no temporary file is left");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        store.save("sensor", &one(2)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }
    fs::write(&path, "\u{feff}{\"edited\": {\"by\": \"hand\"}}").unwrap();
    assert_eq!(store.load("edited").unwrap().unwrap()["by"], "hand");
    store.save("sensor", &one(3)).unwrap();
    assert_eq!(store.names().unwrap(), ["edited", "sensor"], "the file is the truth");
    assert!(store.remove("edited").unwrap() && !store.remove("edited").unwrap());
    assert_eq!(format!("{store:?}"), format!("JsonFileStore({path:?})"));
    assert_eq!(store.take_damage(), []);
}

/// Goal: a file that a power loss cut short takes no device's state with it: the bytes stay aside, what this process
/// knew of the others is written back, and it is told.
#[test]
fn a_truncated_json_file_loses_no_device() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    for cut in [0, 1, 20] {
        let _ = fs::remove_file(&path);
        let store = json_store(&path);
        store.save("a", &one(1)).unwrap();
        store.save("b", &one(2)).unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..cut]).unwrap();
        store.save("a", &one(3)).unwrap();
        assert_eq!(store.load("a").unwrap(), Some(one(3)), "cut at {cut}");
        assert_eq!(store.load("b").unwrap(), Some(one(2)), "cut at {cut}");
        let [damage] = &store.take_damage()[..] else { panic!("it is told once") };
        assert_eq!(fs::read(damage.kept.as_ref().unwrap()).unwrap(), &bytes[..cut]);
        assert_eq!(damage.name, None);
        assert!(!damage.reason.is_empty() && store.take_damage().is_empty());
    }
    let aside = names_in(dir.path());
    assert_eq!(aside.len(), 4, "each damaged file has a name of its own: {aside:?}");
    assert!(aside[1].starts_with("state.json.corrupt-20231114T221320000Z"), "{aside:?}");
}

/// Goal: what is written back after damage is in the file, not only in the memory of who found it.
#[test]
fn a_truncated_json_file_that_is_only_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let store = json_store(&path);
    store.save("a", &one(1)).unwrap();
    store.save("b", &one(2)).unwrap();
    fs::write(&path, "{").unwrap();
    for _ in 0..2 {
        assert_eq!(store.load("b").unwrap(), Some(one(2)));
        assert_eq!(store.names().unwrap(), ["a", "b"]);
    }
    assert_eq!(store.take_damage().len(), 1);
    drop(store);
    assert_eq!(json_store(&path).load("a").unwrap(), Some(one(1)));
}

/// Goal: after a restart on a damaged file, devices begin anew, the program is told, and saving works again.
#[test]
fn a_damaged_json_file_at_the_start() {
    for bytes in ["", "{\"a\": {\"count\":", "[1, 2]", "null", "\u{0}\u{0}\u{0}"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        fs::write(&path, bytes).unwrap();
        let store = Arc::new(json_store(&path));
        let mut runtime = Runtime::new(store.clone());
        let (a, b) = (runtime.device("a").unwrap(), runtime.device("b").unwrap());
        assert!(a.is_empty() && b.is_empty());
        let failures = runtime.run_cycles(1).failures;
        let [failure] = &failures[..] else { panic!("{bytes:?}: {failures:?}") };
        assert_eq!(failure.what, What::Damage);
        assert!(failure.to_string().contains(".corrupt-"), "{failure}");
        a.set("count", 1).unwrap();
        runtime.shutdown().unwrap();
        assert_eq!(store.load("a").unwrap(), Some(one(1)));
        assert_eq!(names_in(dir.path()).len(), 2);
        let strict = JsonFileStore::new(dir.path().join("other")).on_corrupt(OnCorrupt::Fail);
        fs::write(strict.path(), bytes).unwrap();
        let errors = [strict.load("a").unwrap_err(), strict.save("a", &one(1)).unwrap_err()];
        assert!(errors.iter().all(|error| error.kind() == "corrupt-file"));
        assert_eq!(fs::read(strict.path()).unwrap(), bytes.as_bytes(), "it is untouched");
    }
}

/// Goal: one entry that is no object is damage of that state alone, and is not overwritten without a copy.
#[test]
fn a_damaged_json_entry() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let text = r#"{"a": 5, "b": {"count": 2}}"#;
    fs::write(&path, text).unwrap();
    let store = json_store(&path);
    assert_eq!(store.load("b").unwrap(), Some(one(2)));
    assert!(store.take_damage().is_empty());
    assert_eq!(store.load("a").unwrap(), None);
    let [Damage { name: Some(name), kept: None, .. }] = &store.take_damage()[..] else {
        panic!("a look moves nothing")
    };
    assert_eq!(name, "a");
    store.save("b", &one(3)).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap()["a"], 5);
    let before = fs::read(&path).unwrap();
    store.save("a", &one(1)).unwrap();
    let damage = store.take_damage();
    assert_eq!(fs::read(damage[0].kept.as_ref().unwrap()).unwrap(), before);
    assert_eq!(store.load("a").unwrap(), Some(one(1)));
    assert_eq!(store.load("b").unwrap(), Some(one(3)));
}

/// Goal: what cannot be read is not damage: nothing is moved, nothing is overwritten.
#[test]
fn an_unreadable_json_file_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    // A directory cannot be read as a file, not even by root.
    let path = dir.path().join("state.json");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("inside"), "kept").unwrap();
    let store: Arc<dyn StateStore> = Arc::new(json_store(&path));
    for error in [
        store.load("a").unwrap_err(),
        store.save("a", &one(1)).unwrap_err(),
        store.remove("a").unwrap_err(),
        store.names().unwrap_err(),
        State::open(Arc::clone(&store), "a").unwrap_err(),
        Runtime::new(Arc::clone(&store)).device("a").unwrap_err(),
    ] {
        assert!(matches!(error, Error::Io { .. }), "{error:?}");
    }
    assert_eq!(names_in(dir.path()), ["state.json"]);
    assert_eq!(fs::read(path.join("inside")).unwrap(), b"kept");
    // A parent that is a file: the write fails, and the state stays dirty.
    let store = Arc::new(JsonFileStore::new(path.join("inside/state.json")));
    let state = State::open(store, "a");
    assert_eq!(state.unwrap_err().kind(), "io");
}

/// Goal: two stores of one file, even by two ways to it, do not undo each other's saves.
#[test]
fn two_stores_of_one_json_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let stores = [json_store(&path), json_store(&dir.path().join("./state.json"))];
    std::thread::scope(|scope| {
        for (number, store) in stores.iter().enumerate() {
            scope.spawn(move || {
                for save in 0..20 {
                    store.save(&format!("{number} {save}"), &one(save)).unwrap();
                }
            });
        }
    });
    assert_eq!(stores[0].names().unwrap().len(), 40);
}

/// Goal: a record that is no state moves to a place of its own, byte for byte; with `Fail` nothing moves.
#[test]
fn a_damaged_engine_record() {
    let disk = MemoryDisk::new();
    let store = engine(&disk).clock(ManualClock::new()).durability(Durability::Os);
    store.save("b", &one(2)).unwrap();
    for (bytes, codec) in [(&b"\xc1"[..], 1), (b"[1]", 2), (b"{}", 9), (b"", 1)] {
        let options = PutOptions::new().codec(codec, 0);
        store.engine().put_with(b"\0Sa", bytes, &options).unwrap();
        let strict = store.clone().on_corrupt(OnCorrupt::Fail);
        assert_eq!(strict.load("a").unwrap_err().kind(), "decode");
        assert_eq!(strict.load("a").unwrap_err().kind(), "decode", "it is still there");
        assert_eq!(store.load("a").unwrap(), None);
        let damage = store.take_damage();
        assert_eq!(damage[0].name.as_deref(), Some("a"));
        let aside = store.quarantined().unwrap();
        let kept = aside.iter().find(|(name, _)| Some(name) == damage[0].kept.as_ref());
        assert_eq!(&*kept.unwrap().1, bytes);
        store.save("a", &one(1)).unwrap();
    }
    assert_eq!(store.quarantined().unwrap().len(), 4, "none covers another");
    assert_eq!(store.names().unwrap(), ["a", "b"]);
    let entry = store.engine().entry(b"\0Sa").unwrap().unwrap();
    assert_eq!((entry.codec, entry.evictable), (1, false));
}

/// Goal: a record that is no state, and that nobody loaded, is moved aside before a save takes its place.
#[test]
fn a_damaged_engine_record_that_nobody_loaded() {
    let store = engine(&MemoryDisk::new()).clock(ManualClock::new());
    let options = PutOptions::new().codec(2, 0);
    for _ in 0..2 {
        store.engine().put_with(b"\0Sa", b"[1]", &options).unwrap();
        let strict = store.clone().on_corrupt(OnCorrupt::Fail);
        assert_eq!(strict.save("a", &one(1)).unwrap_err().kind(), "decode");
        assert_eq!(&*store.engine().get(b"\0Sa").unwrap().unwrap(), b"[1]", "it is untouched");
        store.save("a", &one(1)).unwrap();
        assert_eq!(store.load("a").unwrap(), Some(one(1)));
        let [Damage { kept: Some(kept), .. }] = &store.take_damage()[..] else { panic!("told") };
        let aside = store.quarantined().unwrap();
        assert_eq!(&*aside.iter().find(|(name, _)| name == kept).unwrap().1, b"[1]");
    }
    assert_eq!(store.quarantined().unwrap().len(), 2, "none covers another");
}

/// Goal: states and spaces share a store and do not see each other.
#[test]
fn states_beside_spaces() {
    let store = Store::in_memory().unwrap();
    let map = store.map::<String, u64>("counts").unwrap();
    map.insert("S", &1).unwrap();
    let states = EngineStore::in_store(&store).unwrap();
    states.save("counts", &one(2)).unwrap();
    assert_eq!(states.names().unwrap(), ["counts"]);
    assert_eq!(map.get("S").unwrap(), Some(1));
    assert_eq!(map.len().unwrap(), 1);
}

/// Goal: while a full disk keeps the states of a damaged file from being written back, they are not forgotten, and one
/// copy of the damaged file is made, not one a try.
/// Method: this test again in a process of its own, where files may not grow for a while; the signal for that, which
/// would end it, is ignored.
#[test]
#[cfg(target_os = "linux")]
fn states_outlive_a_write_back_that_failed() {
    const CHILD: &str = "TIERCE_TEST_FULL_DISK";
    const NAME: &str = "state_stores::states_outlive_a_write_back_that_failed";
    if std::env::var_os(CHILD).is_none() {
        let run = std::process::Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" --exact \"$1\" --nocapture"])
            .arg(std::env::current_exe().unwrap())
            .arg(NAME)
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        return;
    }
    let limit = |bytes: &str| {
        let (process, limit) = (std::process::id().to_string(), format!("--fsize={bytes}:"));
        let done = std::process::Command::new("prlimit").args(["--pid", &process, &limit]).status();
        assert!(done.unwrap().success());
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let store = json_store(&path);
    let large = object(json!({ "text": "x".repeat(10_000) }));
    store.save("a", &large).unwrap();
    store.save("b", &large).unwrap();
    fs::write(&path, "{\"a\": {\"te").unwrap();
    limit("1000");
    let failed = (0..3).all(|_| store.load("a").is_err());
    limit("unlimited");
    assert!(failed);
    assert_eq!(store.load("a").unwrap().as_ref(), Some(&large));
    assert_eq!(store.load("b").unwrap().as_ref(), Some(&large));
    assert_eq!(store.take_damage().len(), 1);
    let names = names_in(dir.path());
    assert_eq!(names.len(), 2, "{names:?}");
    let aside = names.iter().find(|name| name.contains(".corrupt-")).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join(aside)).unwrap(), "{\"a\": {\"te");
}

/// Goal: one file has one lock, however it is spelled: no save of one store undoes another's.
#[test]
#[cfg(unix)]
fn one_json_file_by_several_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data/state.json");
    // Not there yet, neither the file nor its directory.
    let spelled = json_store(&dir.path().join("data/../data/state.json"));
    let plain = json_store(&path);
    plain.save("first", &one(0)).unwrap();
    std::os::unix::fs::symlink(dir.path().join("data"), dir.path().join("linked")).unwrap();
    std::os::unix::fs::symlink(&path, dir.path().join("link.json")).unwrap();
    let linked = json_store(&dir.path().join("linked/state.json"));
    let link = json_store(&dir.path().join("link.json"));
    std::thread::scope(|scope| {
        for (writer, store) in [&plain, &spelled, &linked, &link].into_iter().enumerate() {
            scope.spawn(move || {
                for count in 0..25 {
                    store.save(&format!("{writer}-{count}"), &one(count)).unwrap();
                }
            });
        }
    });
    assert_eq!(plain.names().unwrap().len(), 101);
}
