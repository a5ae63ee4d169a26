//! Opening a store: directories, locks, versions, clocks, and systems that refuse.
//!
//! - `places`: directories, foreign content, permissions, versions
//! - `locks`: many handles, many threads, other processes
//! - `readonly`: not a byte is written
//! - `followers`: readers beside a writer
//! - `clocks`: clocks that are wrong at opening or jump meanwhile
//! - `refusals`: the operating system says no

mod clocks;
mod followers;
mod locks;
mod places;
mod readonly;
mod refusals;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use tierce_engine::Options;

/// Settings for a store on the real disk that changes only when a test says so.
pub(crate) fn options() -> Options {
    Options::new().segment_bytes(8 << 10).background(false)
}

/// Every file below a directory with its bytes and the time it was last changed; directories without.
pub(crate) fn tree(dir: &Path) -> BTreeMap<PathBuf, Option<(Vec<u8>, SystemTime)>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
            found.insert(path, None);
        } else {
            let changed = fs::symlink_metadata(&path).unwrap().modified().unwrap();
            found.insert(path.clone(), Some((fs::read(&path).unwrap(), changed)));
        }
    }
    found
}

/// The names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| name(entry.unwrap().path())).collect();
    names.sort();
    names
}

/// Copies the files of a directory into another, which is created: what a crash would leave of an open store.
pub(crate) fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in names(from) {
        if from.join(&name).is_file() {
            fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }
}

/// A store of several sealed segments in `dir`, closed. Keys are `key 0` to `key 59`.
pub(crate) fn closed_store(dir: &Path) {
    let engine = options().open(dir).unwrap();
    put_keys(&engine);
    engine.close().unwrap();
}

/// A store as a crash leaves it in `dir`: sealed segments, and some that are not, synced.
pub(crate) fn crashed_store(dir: &Path) {
    let elsewhere = tempfile::tempdir().unwrap();
    let engine = options().open(elsewhere.path()).unwrap();
    put_keys(&engine);
    engine.sync().unwrap();
    copy_files(elsewhere.path(), dir);
}

/// Writes garbage behind the last record of a crashed store.
pub(crate) fn tear(dir: &Path) {
    let last = names(dir).into_iter().rfind(|name| name.ends_with(".seg")).unwrap();
    let path = dir.join(last);
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() / 8 * 8 + 16;
    bytes.resize(bytes.len().max(end + 64), 0);
    bytes[end..end + 40].fill(0xa5);
    fs::write(&path, bytes).unwrap();
}

fn put_keys(engine: &tierce_engine::Engine) {
    for number in 0..60_u8 {
        engine.put(format!("key {number}"), vec![number; 300]).unwrap();
    }
}

/// Fails unless all keys of [`closed_store`] are there.
#[track_caller]
pub(crate) fn assert_keys(engine: &tierce_engine::Engine) {
    for number in 0..60_u8 {
        let value = engine.get(format!("key {number}")).unwrap();
        assert_eq!(value.as_deref(), Some(&vec![number; 300][..]), "key {number}");
    }
}
