//! Caches of python-diskcache, made by its schema, and what comes over of them.

use std::io::Write;

use rusqlite::{Connection, params};
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::args::{Mode, StoringArgs};

const SCHEMA: &str = "
    CREATE TABLE Settings (key TEXT NOT NULL UNIQUE, value);
    CREATE TABLE Cache (
        rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, store_time REAL, expire_time REAL, access_time REAL,
        access_count INTEGER DEFAULT 0, tag BLOB, size INTEGER DEFAULT 0, mode INTEGER DEFAULT 0, filename TEXT,
        value BLOB);
    CREATE UNIQUE INDEX Cache_key_raw ON Cache(key, raw);";
const FAR_SECONDS: f64 = 4_102_444_800.25;

fn database(dir: &Path) -> Connection {
    fs::create_dir_all(dir).unwrap();
    let database = Connection::open(dir.join("cache.db")).unwrap();
    database.execute_batch(SCHEMA).unwrap();
    database
}

fn insert(
    database: &Connection,
    key: impl rusqlite::ToSql,
    raw: bool,
    value: impl rusqlite::ToSql,
    mode: i64,
) {
    let sql = "INSERT INTO Cache (key, raw, mode, value) VALUES (?, ?, ?, ?)";
    database.execute(sql, params![key, raw, mode, value]).unwrap();
}

fn insert_file(database: &Connection, key: &str, name: &str, mode: i64) {
    let sql = "INSERT INTO Cache (key, raw, mode, filename) VALUES (?, 1, ?, ?)";
    database.execute(sql, params![key, mode, name]).unwrap();
}

/// Every file below with its bytes.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push((entry.path(), fs::read(entry.path()).unwrap())),
        }
    }
    found.sort();
    found
}

struct Memory(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Imports into a new store; the code, the document, and the store's directory. Checks that nothing of the source
/// changed.
fn import_all(root: &TempDir) -> (Outcome, Value, PathBuf) {
    let (source, dir) = (root.path().join("cache"), root.path().join("store"));
    let before = files(&source);
    let storing = StoringArgs { if_absent: false, replace: false, durability: Mode::Os };
    let args = ImportDiskcacheArgs { source: source.clone(), dir: dir.clone(), storing };
    let written = std::rc::Rc::default();
    let mut out = Out::to(Box::new(Memory(std::rc::Rc::clone(&written))));
    let code = import(&args, true, &mut out);
    out.flush().unwrap();
    drop(out);
    assert!(files(&source) == before, "something changed in the cache's directory");
    let document = serde_json::from_slice(&written.borrow()).unwrap_or_default();
    (code, document, dir)
}

/// Goal: every kind of key and value that diskcache writes comes over, with its expiry and its tag.
#[test]
fn every_kind() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("cache");
    let database = database(&dir);
    insert(&database, "text", true, "value", MODE_RAW);
    insert(&database, 42, true, 1_000_000_007_i64, MODE_RAW);
    insert(&database, 0.5, true, 2.25, MODE_RAW);
    insert(&database, &b"\xff\x00"[..], true, &b"\x00\xfe"[..], MODE_RAW);
    insert(&database, &b"\x80\x04K\x01."[..], false, &b"\x80\x04N."[..], MODE_PICKLE);
    fs::create_dir_all(dir.join("a1/b2")).unwrap();
    for (key, name, mode, bytes) in [
        ("binary", "a1/b2/1.val", MODE_BINARY, &b"\xff\xfe\xfd"[..]),
        ("long text", "a1/b2/2.val", MODE_TEXT, "21 °C".as_bytes()),
        ("long pickle", "a1/b2/3.val", MODE_PICKLE, b"\x80\x04]."),
    ] {
        fs::write(dir.join(name), bytes).unwrap();
        insert_file(&database, key, name, mode);
    }
    let sql = "UPDATE Cache SET expire_time = ?, tag = 'room' WHERE key = 'text'";
    database.execute(sql, params![FAR_SECONDS]).unwrap();
    insert(&database, "long gone", true, "x", MODE_RAW);
    database.execute("UPDATE Cache SET expire_time = 5.0 WHERE key = 'long gone'", []).unwrap();
    drop(database);

    let (code, document, store) = import_all(&root);
    assert_eq!(code.unwrap(), Code::Done);
    for (name, count) in [
        ("rows", 9),
        ("raw", 5),
        ("binary", 1),
        ("text", 1),
        ("pickled_values", 2),
        ("pickled_keys", 1),
        ("files", 3),
        ("tagged", 1),
        ("faults", 0),
        ("file_bytes", 3 + 6 + 4),
    ] {
        assert_eq!(document["found"][name], count, "{name}: {document}");
    }
    assert_eq!((&document["stored"], &document["expired"]), (&8.into(), &1.into()));
    let engine = tierce_engine::Engine::open(&store).unwrap();
    for (key, value) in [
        (&b"text"[..], &b"value"[..]),
        (b"42", b"1000000007"),
        (b"0.5", b"2.25"),
        (b"\xff\x00", b"\x00\xfe"),
        (b"\x80\x04K\x01.", b"\x80\x04N."),
        (b"binary", b"\xff\xfe\xfd"),
        (b"long text", "21 °C".as_bytes()),
        (b"long pickle", b"\x80\x04]."),
    ] {
        assert_eq!(engine.get(key).unwrap().as_deref(), Some(value), "{}", escape(key));
    }
    let entry = engine.entry("text").unwrap().unwrap();
    assert_eq!(entry.expires_at.map(|at| at.0), Some(4_102_444_800_250));
    assert_eq!((entry.scopes, entry.evictable), (vec![b"room".to_vec()], true));
}

/// Goal: what is damaged, missing, or reaches out of the directory is counted and named; the rest comes over.
#[test]
fn faults() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("cache");
    let database = database(&dir);
    fs::write(root.path().join("secret"), "not of the cache").unwrap();
    insert(&database, "good", true, "value", MODE_RAW);
    insert(&database, "good", false, "its pickle has the same bytes", MODE_RAW);
    insert(&database, "strange", true, "x", 9);
    insert_file(&database, "missing", "a/b.val", MODE_BINARY);
    insert_file(&database, "outside", "../secret", MODE_BINARY);
    insert_file(&database, "absolute", root.path().join("secret").to_str().unwrap(), MODE_BINARY);
    insert_file(&database, "directory", ".", MODE_BINARY);
    insert(&database, "nameless", true, "x", MODE_TEXT);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../secret", dir.join("link.val")).unwrap();
        insert_file(&database, "link", "link.val", MODE_BINARY);
    }
    drop(database);
    let (code, document, store) = import_all(&root);
    assert_eq!(code.unwrap(), Code::Problems);
    let rows = document["found"]["rows"].as_u64().unwrap();
    assert_eq!(document["found"]["faults"], rows - 1, "{document}");
    assert_eq!(document["found"]["listed"].as_array().unwrap().len() as u64, rows - 1);
    let engine = tierce_engine::Engine::open(&store).unwrap();
    assert_eq!(engine.iter().unwrap().count(), 1);
}

/// Goal: what stands only in the write-ahead log comes over, and the log stays as it is.
#[test]
fn write_ahead_log() {
    let root = tempfile::tempdir().unwrap();
    let (made, dir) = (root.path().join("made"), root.path().join("cache"));
    let database = database(&made);
    database.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;").unwrap();
    insert(&database, "logged", true, "value", MODE_RAW);
    fs::create_dir(&dir).unwrap();
    for name in ["cache.db", "cache.db-wal"] {
        fs::copy(made.join(name), dir.join(name)).unwrap();
    }
    assert!(fs::metadata(dir.join("cache.db-wal")).unwrap().len() > 0);
    let (code, document, _) = import_all(&root);
    assert_eq!((code.unwrap(), &document["stored"]), (Code::Done, &1.into()));
}

/// Goal: the shards of a FanoutCache are one cache; what is none is refused and makes no store.
#[test]
fn shards_and_strangers() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("cache");
    fs::create_dir(&dir).unwrap();
    assert!(matches!(import_all(&root).0, Err(Fail::Input(_))));
    fs::write(dir.join("cache.db"), "this is no database, and long enough to be looked at as one")
        .unwrap();
    let (code, _, store) = import_all(&root);
    assert!(matches!(code, Err(Fail::Input(_))) && !store.exists());
    fs::remove_file(dir.join("cache.db")).unwrap();
    for shard in ["000", "001"] {
        insert(&database(&dir.join(shard)), shard, true, "value", MODE_RAW);
    }
    let (code, document, _) = import_all(&root);
    assert_eq!((code.unwrap(), &document["stored"]), (Code::Done, &2.into()));
}

/// What JSONDisk writes for JSON text.
fn packed(text: &str) -> Vec<u8> {
    miniz_oxide::deflate::compress_to_vec_zlib(text.as_bytes(), 6)
}

/// Goal: keys and values that JSONDisk packed come over as what they are, in rows and in files; a row that is not
/// packed so is listed.
#[test]
fn json_disk() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("cache");
    let db = database(&cache);
    for (key, value) in [("\"a\"", "1"), ("[1, 2]", "{\"x\": \"\u{b0}\"}"), ("7", "\"text\"")] {
        insert(&db, packed(key), true, packed(value), MODE_RAW);
    }
    for (key, content) in [("\"f\"", packed("\"large\"")), ("\"stream\"", b"as it is".to_vec())] {
        let name = format!("{}.val", key.trim_matches('"'));
        fs::write(cache.join(&name), content).unwrap();
        let sql = "INSERT INTO Cache (key, raw, mode, filename) VALUES (?, 1, ?, ?)";
        db.execute(sql, params![packed(key), MODE_BINARY, name]).unwrap();
    }
    drop(db);
    let (code, document, store) = import_all(&root);
    assert_eq!(code.unwrap(), Code::Done, "{document}");
    assert_eq!((&document["stored"], &document["found"]["json"]), (&5.into(), &5.into()));
    let engine = tierce_engine::Engine::open(&store).unwrap();
    for (key, value) in [
        ("a", "1"),
        ("[1, 2]", "{\"x\": \"\u{b0}\"}"),
        ("7", "text"),
        ("f", "large"),
        ("stream", "as it is"),
    ] {
        let found = engine.get(key).unwrap();
        assert_eq!(found.as_deref(), Some(value.as_bytes()), "{key}");
    }
}

/// Goal: caches that a FanoutCache keeps for others, and shards that are missing, are listed with exit code 4, and the
/// entries of the cache itself come over.
#[test]
fn what_is_left_out() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("cache");
    for shard in ["000", "002"] {
        insert(&database(&cache.join(shard)), shard, true, 1, MODE_RAW);
    }
    for inner in ["cache/inner", "deque/jobs", "index/a/b"] {
        insert(&database(&cache.join(inner)), "x", true, 2, MODE_RAW);
    }
    let (code, document, _) = import_all(&root);
    assert_eq!(code.unwrap(), Code::Problems, "{document}");
    assert_eq!((&document["stored"], &document["found"]["faults"]), (&2.into(), &4.into()));
    let listed = document["found"]["listed"].to_string();
    for name in ["cache/inner", "deque/jobs", "index/a/b", "001"] {
        assert!(listed.contains(name), "{name}: {listed}");
    }
}
