//! The directory of a cache of python-diskcache: a SQLite file with keys, small values and expiries, and files beside
//! it for great values.
//!
//! Nothing there is written: a database with a write-ahead log is copied first, for to read that means to write beside
//! it. Entries of a cache may be forgotten here, too. Pickles are bytes and are never executed; what `JSONDisk` packed
//! is unpacked. Rows that are damaged, values whose file is missing, and whatever else is left out are counted and
//! listed, and the others are imported.

use std::{
    fs,
    io::{self, Read as _},
    iter,
    path::{Component, Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, Row, types::ValueRef};
use serde::de::IgnoredAny;
use serde_json::json;
use tierce::SpaceImport;
use tierce_engine::Options;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    item::Item,
    sink::{Counts, Sink},
};
use crate::{
    args::ImportDiskcacheArgs,
    escape::{escape, one_line},
    exit::{Code, Fail, Outcome},
    out::Out,
    progress::Progress,
    talk::say,
};

/// What diskcache writes in the column `mode`.
const MODE_NONE: i64 = 0;
const MODE_RAW: i64 = 1;
const MODE_BINARY: i64 = 2;
const MODE_TEXT: i64 = 3;
const MODE_PICKLE: i64 = 4;
/// So many faults are listed; all are counted.
const FAULTS_LISTED: usize = 100;

/// What was found, by kind.
#[derive(Debug, Default)]
struct Kinds {
    rows: u64,
    raw: u64,
    binary: u64,
    text: u64,
    pickled_values: u64,
    pickled_keys: u64,
    /// Values that stood in files of their own, and their bytes.
    files: u64,
    file_bytes: u64,
    tagged: u64,
    /// Rows that JSONDisk packed.
    json: u64,
    faults: u64,
    listed: Vec<String>,
}

impl Kinds {
    fn note(&mut self, fault: String) {
        self.faults += 1;
        if self.listed.len() < FAULTS_LISTED {
            self.listed.push(fault);
        }
    }
}

/// Takes over a cache, or all shards of one.
pub(super) fn import(args: &ImportDiskcacheArgs, json: bool, out: &mut Out) -> Outcome {
    let mut kinds = Kinds::default();
    let shards = shards(&args.source, &mut kinds)?;
    for kind in ["cache", "deque", "index"] {
        note_caches_below(&args.source.join(kind), 0, &mut kinds);
    }
    // Order: every database is looked at before a store is made.
    let sources = shards.into_iter().map(Database::open).collect::<Outcome<Vec<_>>>()?;
    let total = sources.iter().map(Database::rows).sum::<Outcome<u64>>()?;
    let mut sink = Sink::open(&args.dir, &args.storing, SpaceImport::new())?;
    let mut taker = Taker {
        kinds,
        // A key of 128 bits stands for the key: two of a cache never meet by chance.
        seen: std::collections::HashSet::new(),
        progress: Progress::new("import", Some(total), "rows"),
    };
    let fed = sources.iter().try_for_each(|source| taker.take_all(source, &mut sink));
    let (counts, ended) = sink.close(fed);
    if ended.is_err() {
        say(format_args!("tierce: {} before it ended", counts.sentence()));
    }
    ended?;
    taker.progress.finish();
    report(&taker.kinds, counts, json, out)
}

fn report(kinds: &Kinds, counts: Counts, json: bool, out: &mut Out) -> Outcome {
    if json {
        let mut document = counts.document();
        let kinds = json!({
            "rows": kinds.rows, "raw": kinds.raw, "binary": kinds.binary, "text": kinds.text,
            "pickled_values": kinds.pickled_values, "pickled_keys": kinds.pickled_keys, "files": kinds.files,
            "file_bytes": kinds.file_bytes, "tagged": kinds.tagged, "json": kinds.json, "faults": kinds.faults, "listed": kinds.listed,
        });
        document.insert("found".to_owned(), kinds);
        out.json(&document.into())?;
    } else {
        out.line(counts.sentence())?;
        out.line(format_args!(
            "{} rows: {} raw, {} binary, {} text, {} pickled; {} in files of their own with {} bytes; {} with a tag",
            kinds.rows, kinds.raw, kinds.binary, kinds.text, kinds.pickled_values, kinds.files, kinds.file_bytes, kinds.tagged
        ))?;
        if kinds.pickled_values + kinds.pickled_keys > 0 {
            out.line(format_args!(
                "{} values and {} keys are pickles; their bytes are stored as they are",
                kinds.pickled_values, kinds.pickled_keys
            ))?;
        }
        if kinds.json > 0 {
            out.line(format_args!("{} rows are JSON that JSONDisk packed", kinds.json))?;
        }
        for fault in &kinds.listed {
            out.line(format_args!("not taken: {}", one_line(fault)))?;
        }
        if kinds.faults > kinds.listed.len() as u64 {
            out.line(format_args!("not taken: {} more", kinds.faults - kinds.listed.len() as u64))?;
        }
    }
    Ok(if kinds.faults > 0 { Code::Problems } else { Code::Done })
}

/// The directories that have a `cache.db`: this one, or those of its shards `000`, `001` and so on. A shard that is
/// missing between two others is noted.
fn shards(source: &Path, kinds: &mut Kinds) -> Outcome<Vec<PathBuf>> {
    /// A FanoutCache has eight unless told otherwise.
    const SHARDS_MAX: usize = 1_000;
    if has_database(source)? {
        return Ok(iter::once(source.to_owned()).collect());
    }
    let mut shards = Vec::new();
    let mut missing: Vec<String> = Vec::new();
    for number in 0..SHARDS_MAX {
        let shard = source.join(format!("{number:03}"));
        if has_database(&shard)? {
            for gap in missing.drain(..) {
                kinds.note(gap);
            }
            shards.push(shard);
        } else {
            missing.push(format!("{}: this shard has no cache.db", shard.display()));
        }
    }
    match shards.is_empty() {
        true => Err(Fail::Input(format!(
            "{} holds no cache.db: it is no cache of diskcache",
            source.display()
        ))),
        false => Ok(shards),
    }
}

/// Whether a directory has a `cache.db`. One that may not be looked at is an error, not an absence.
fn has_database(dir: &Path) -> Outcome<bool> {
    match fs::metadata(dir.join("cache.db")) {
        Ok(found) => Ok(found.is_file()),
        Err(error) if is_absence(&error) => Ok(false),
        Err(source) => Err(Fail::io(format!("look at {}", dir.display()), source)),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Notes the caches that a FanoutCache keeps for others: `cache()`, `deque()` and `index()` of it. Their keys are not
/// those of the cache itself, so each has to be imported by itself.
fn note_caches_below(dir: &Path, depth: usize, kinds: &mut Kinds) {
    /// Names have parts between slashes.
    const DEPTH_MAX: usize = 16;
    let listed = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = match listed {
        Ok(entries) => entries,
        Err(error) if is_absence(&error) => return,
        Err(error) => return kinds.note(format!("{}: {error}", dir.display())),
    };
    if entries.iter().any(|entry| entry.file_name() == "cache.db") && depth > 0 {
        let dir = dir.display();
        return kinds
            .note(format!("{dir} is a cache of its own: import it into a store of its own"));
    }
    let mut below: Vec<PathBuf> = entries
        .iter()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(fs::DirEntry::path)
        .collect();
    below.sort();
    if depth < DEPTH_MAX {
        below.iter().for_each(|dir| note_caches_below(dir, depth + 1, kinds));
    }
}

/// One database, opened so that nothing in its directory changes.
struct Database {
    dir: PathBuf,
    connection: Connection,
    /// Whether JSONDisk wrote it: its keys and values are packed JSON.
    is_json: bool,
    /// Where the copy is, if there had to be one; removed with this.
    _copy: Option<tempfile::TempDir>,
}

impl Database {
    fn open(dir: PathBuf) -> Outcome<Self> {
        let (file, log) = (dir.join("cache.db"), dir.join("cache.db-wal"));
        let has_log = fs::metadata(&log).is_ok_and(|log| log.len() > 0);
        let copy = if has_log { Some(copied(&file, &log)?) } else { None };
        let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = match &copy {
            Some(copy) => Connection::open_with_flags(
                copy.path().join("cache.db"),
                flags | OpenFlags::SQLITE_OPEN_READ_WRITE,
            ),
            None => {
                Connection::open_with_flags(uri(&file), flags | OpenFlags::SQLITE_OPEN_READ_ONLY)
            }
        };
        let connection = connection.map_err(|error| fault(&dir, &error))?;
        let is_json = is_json(&connection);
        Ok(Self { dir, connection, is_json, _copy: copy })
    }

    fn rows(&self) -> Outcome<u64> {
        let count =
            self.connection.query_row("SELECT COUNT(*) FROM Cache", [], |row| row.get::<_, i64>(0));
        count
            .map(|count| u64::try_from(count).unwrap_or(0))
            .map_err(|error| fault(&self.dir, &error))
    }
}

/// Whether the first keys are all packed JSON. The database does not say which class wrote it.
fn is_json(connection: &Connection) -> bool {
    const LOOKED_AT: usize = 100;
    let sql = format!("SELECT key, raw FROM Cache ORDER BY rowid LIMIT {LOOKED_AT}");
    let Ok(mut statement) = connection.prepare(&sql) else { return false };
    let Ok(mut rows) = statement.query([]) else { return false };
    let mut found = 0;
    while let Ok(Some(row)) = rows.next() {
        let is_raw = row.get_ref(1).is_ok_and(|raw| raw.as_i64() == Ok(1));
        let key = row.get_ref(0).ok().and_then(|key| key.as_blob().ok()).and_then(unpack);
        let is_document = |text: Vec<u8>| serde_json::from_slice::<IgnoredAny>(&text).is_ok();
        if !is_raw || !key.is_some_and(is_document) {
            return false;
        }
        found += 1;
    }
    found > 0
}

/// The bytes that zlib packed, if they are no more than a value can have.
fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let limit = usize::try_from(Options::VALUE_BYTES_MAX).unwrap_or(usize::MAX);
    miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(packed, limit).ok()
}

/// Packed JSON as a key or a value: a text as its characters, everything else as its JSON text.
fn unpacked_json(packed: &[u8]) -> Option<Vec<u8>> {
    let text = unpack(packed)?;
    // Python's text can hold halves of surrogate pairs, which no UTF-8 has: that stays JSON.
    Some(serde_json::from_slice::<String>(&text).map_or(text, String::into_bytes))
}

fn copied(file: &Path, log: &Path) -> Outcome<tempfile::TempDir> {
    let copy = || {
        let copy = tempfile::tempdir()?;
        fs::copy(file, copy.path().join("cache.db"))?;
        fs::copy(log, copy.path().join("cache.db-wal"))?;
        io::Result::Ok(copy)
    };
    copy().map_err(|source| Fail::io(format!("copy {}", file.display()), source))
}

/// A name that tells SQLite that nothing changes this file, so that it makes none beside it.
fn uri(file: &Path) -> String {
    use std::fmt::Write as _;
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut uri = "file:".to_owned();
    for byte in absolute.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte))
            }
            // Writing to a String cannot fail.
            _ => drop(write!(uri, "%{byte:02x}")),
        }
    }
    uri + "?immutable=1"
}

fn fault(dir: &Path, error: &rusqlite::Error) -> Fail {
    Fail::Input(format!("{}: {error}", dir.join("cache.db").display()))
}

struct Taker {
    kinds: Kinds,
    seen: std::collections::HashSet<u128>,
    progress: Progress,
}

impl Taker {
    fn take_all(&mut self, source: &Database, sink: &mut Sink) -> Outcome<()> {
        let sql = "SELECT rowid, key, raw, expire_time, tag, mode, filename, value FROM Cache ORDER BY rowid";
        let mut statement =
            source.connection.prepare(sql).map_err(|error| fault(&source.dir, &error))?;
        let mut rows = statement.query([]).map_err(|error| fault(&source.dir, &error))?;
        loop {
            match rows.next() {
                Ok(Some(row)) => self.take(row, source, sink)?,
                Ok(None) => return Ok(()),
                // Behind a damaged page SQLite goes no further.
                Err(error) => {
                    self.kinds.note(format!("{}: the rest: {error}", source.dir.display()));
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, row: &Row<'_>, source: &Database, sink: &mut Sink) -> Outcome<()> {
        self.kinds.rows += 1;
        self.progress.at(self.kinds.rows);
        let id: i64 = row.get(0).unwrap_or_default();
        let item = match self.item(row, source) {
            Ok(item) => item,
            Err(what) => {
                self.kinds.note(format!("row {id} of {}: {what}", source.dir.display()));
                return Ok(());
            }
        };
        if !self.seen.insert(xxh3_128(&item.key)) {
            // A number and its text are two keys there and one here.
            let key = escape(&item.key);
            self.kinds.note(format!(
                "row {id} of {}: an earlier row has the key {key}",
                source.dir.display()
            ));
            return Ok(());
        }
        sink.take(item).map(drop)
    }

    /// What a row says, or why it cannot be known.
    fn item(&mut self, row: &Row<'_>, source: &Database) -> Result<Item, String> {
        let dir = &source.dir;
        let column = |index: usize| row.get_ref(index).map_err(|error| error.to_string());
        let is_raw_key = column(2)?.as_i64().is_ok_and(|raw| raw != 0);
        let mut key = plain(column(1)?).ok_or("it has no key")?;
        if source.is_json {
            key = unpacked_json(&key).ok_or("its key is not what JSONDisk writes")?;
        }
        let expires_at_ms = match column(3)? {
            ValueRef::Null => None,
            ValueRef::Real(seconds) => Some(milliseconds(seconds)?),
            ValueRef::Integer(seconds) => Some(milliseconds(seconds as f64)?),
            _ => return Err("its expire_time is no number".to_owned()),
        };
        // A scope has a name; a tag may be the empty text.
        let scopes = plain(column(4)?).into_iter().filter(|tag| !tag.is_empty()).collect();
        let mode = column(5)?.as_i64().map_err(|error| error.to_string())?;
        let file = match column(6)? {
            ValueRef::Null => None,
            name => Some(read_value(dir, name.as_str().map_err(|error| error.to_string())?)?),
        };
        let is_in_file = file.is_some();
        let mut value = match (mode, file) {
            (MODE_RAW | MODE_PICKLE | MODE_NONE, None) => {
                plain(column(7)?).ok_or("it has no value")?
            }
            (MODE_BINARY | MODE_TEXT | MODE_PICKLE, Some(bytes)) => bytes,
            (MODE_BINARY | MODE_TEXT, None) => {
                return Err("its mode wants a file and it names none".to_owned());
            }
            (mode, _) => return Err(format!("its mode {mode} is not known here")),
        };
        if source.is_json {
            match unpacked_json(&value) {
                Some(text) => value = text,
                // A file that was stored from a stream is not packed.
                None if is_in_file => {}
                None => return Err("its value is not what JSONDisk writes".to_owned()),
            }
        }
        let item = Item { key, value, expires_at_ms, scopes, evictable: true, ..Item::default() };
        if let Some(what) = item.fault() {
            return Err(what);
        }
        self.count(&item, (mode, source.is_json), is_raw_key, is_in_file);
        Ok(item)
    }

    fn count(
        &mut self,
        item: &Item,
        (mode, is_json): (i64, bool),
        is_raw_key: bool,
        is_in_file: bool,
    ) {
        let kinds = &mut self.kinds;
        kinds.json += u64::from(is_json);
        match mode {
            MODE_BINARY => kinds.binary += 1,
            MODE_TEXT => kinds.text += 1,
            MODE_PICKLE => kinds.pickled_values += 1,
            _ => kinds.raw += 1,
        }
        kinds.pickled_keys += u64::from(!is_raw_key);
        kinds.tagged += u64::from(!item.scopes.is_empty());
        if is_in_file {
            kinds.files += 1;
            kinds.file_bytes += item.value.len() as u64;
        }
    }
}

/// What SQLite holds as bytes: text and blobs as they are, numbers as their text. `None` for nothing.
fn plain(value: ValueRef<'_>) -> Option<Vec<u8>> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string().into_bytes()),
        // As Python writes it in most cases, and always so that it reads back as the same number.
        ValueRef::Real(number) => Some(format!("{number:?}").into_bytes()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes.to_vec()),
    }
}

fn milliseconds(seconds: f64) -> Result<u64, String> {
    match seconds.is_nan() {
        true => Err("its expire_time is no number".to_owned()),
        // Before 1970 is long ago; beyond what is counted is far away.
        false => Ok((seconds * 1_000.0).ceil().max(0.0) as u64),
    }
}

/// The bytes of a value that has a file of its own, which must be in the cache's directory.
fn read_value(dir: &Path, name: &str) -> Result<Vec<u8>, String> {
    let relative = Path::new(name);
    let is_below = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if name.is_empty() || !is_below {
        return Err(format!("its file {name:?} is not in the cache's directory"));
    }
    let path = dir.join(relative);
    let is_file =
        fs::symlink_metadata(&path).map_err(|error| format!("its file {name}: {error}"))?.is_file();
    let root = dir.canonicalize().map_err(|error| format!("{}: {error}", dir.display()))?;
    let real = path.canonicalize().map_err(|error| format!("its file {name}: {error}"))?;
    if !is_file || !real.starts_with(&root) {
        return Err(format!("its file {name} is no plain file in the cache's directory"));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(&real).map_err(|error| format!("its file {name}: {error}"))?;
    file.take(Options::VALUE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("its file {name}: {error}"))?;
    Ok(bytes)
}

#[cfg(test)]
#[path = "diskcache_tests.rs"]
mod tests;
