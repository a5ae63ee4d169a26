//! Files that are too short, too long, partly zero, missing, or another's.

use tierce_engine::{Engine, RecoveryPolicy, io::MemoryDisk};

use super::{Broken, Files, Fixture, data_files, has_suffix};

/// Goal: a file cut at any length is an error, or harmless, or reported; only a log that lost its end cannot know,
/// and is what it was at one moment. Method: every length of manifest and checkpoint and many of the segments,
/// under every policy.
#[test]
fn every_truncation() {
    let mut broken = Broken::default();
    for fixture in Fixture::all() {
        for (path, bytes) in data_files(&fixture) {
            let step = if has_suffix(path, ".seg") { 23 } else { 1 };
            let near_ends = [1, 2, 4, 7, 8, 15, 16, 127, 128, 4_095, 4_096, 4_097, 4_104];
            let from_end = near_ends.iter().filter_map(|n| bytes.len().checked_sub(*n));
            let lengths = (0..bytes.len()).step_by(step).chain(near_ends).chain(from_end);
            for length in lengths.filter(|length| *length < bytes.len()) {
                let mut files = fixture.files.clone();
                files.get_mut(path).unwrap().truncate(length);
                let what = format!("{} cut to {length}", path.display());
                if fixture.is_tail(path) && length >= 4_096 {
                    fixture.judge_prefix(&files, &mut broken, &what);
                } else {
                    fixture.judge_and_check(&files, &mut broken, &what);
                }
            }
        }
    }
}

/// Goal: bytes behind the end of a file are an error or harmless. Method: zeros, noise, and the file again.
#[test]
fn every_file_too_long() {
    let mut broken = Broken::default();
    for fixture in Fixture::all() {
        for (path, bytes) in data_files(&fixture) {
            for more in [vec![0; 1], vec![0; 4_096], vec![0xa5; 8], vec![0xff; 999], bytes.clone()]
            {
                let mut files = fixture.files.clone();
                files.get_mut(path).unwrap().extend(&more);
                let what = format!("{} with {} bytes more", path.display(), more.len());
                fixture.judge_and_check(&files, &mut broken, &what);
            }
        }
    }
}

/// Goal: a block of 512 bytes that reads as zeros, as a device may give, is noticed. Method: every block of every
/// file, under every policy.
#[test]
fn every_zeroed_block() {
    let mut broken = Broken::default();
    for fixture in Fixture::all() {
        for (path, bytes) in data_files(&fixture) {
            for (number, block) in bytes.chunks(512).enumerate() {
                if block.iter().all(|byte| *byte == 0) {
                    continue;
                }
                let (start, length) = (number * 512, block.len());
                let mut files = fixture.files.clone();
                files.get_mut(path).unwrap()[start..start + length].fill(0);
                let what = format!("{} zeroed at {start}", path.display());
                fixture.judge_and_check(&files, &mut broken, &what);
            }
        }
    }
}

/// Goal: a missing file is noticed: a segment is an error that names it, unless the policy salvages; a checkpoint
/// is only a loss of time; without a manifest nothing is served that salvaging would not serve.
#[test]
fn every_file_missing() {
    let mut broken = Broken::default();
    for fixture in Fixture::all() {
        for (path, _) in data_files(&fixture) {
            let mut files = fixture.files.clone();
            files.remove(path);
            let what = format!("{} missing", path.display());
            assert!(Fixture::is_sick(&files), "{}: the check misses {what}", fixture.name);
            let Some([strict, skip, salvage]) = fixture.judge_all(&files, &mut broken, &what)
            else {
                continue;
            };
            if has_suffix(path, ".ckpt") {
                for seen in [&strict, &skip, &salvage] {
                    assert!(seen.is_whole(), "{}, {what}: {seen:?}", fixture.name);
                    assert!(!seen.report.notes.is_empty(), "it is worth a note");
                }
            } else {
                assert!(strict.refused && skip.refused, "{}: {what}", fixture.name);
                assert!(!salvage.report.damaged.is_empty(), "{}: {what}", fixture.name);
            }
            if has_suffix(path, "MANIFEST") && salvage.errors + salvage.wrong.len() > 0 {
                let text = format!("{}: all segments are there, but {salvage:?}", fixture.name);
                broken.note(text);
            }
        }
    }
}

/// Goal: two files with each other's names are noticed. Method: every pair.
#[test]
fn every_two_files_exchanged() {
    let mut broken = Broken::default();
    for fixture in Fixture::all() {
        let names: Vec<_> = data_files(&fixture).map(|(path, _)| path.clone()).collect();
        for (at, one) in names.iter().enumerate() {
            for other in &names[at + 1..] {
                let mut files = fixture.files.clone();
                files.insert(one.clone(), fixture.files[other].clone());
                files.insert(other.clone(), fixture.files[one].clone());
                let what = format!("{} and {} exchanged", one.display(), other.display());
                fixture.judge_and_check(&files, &mut broken, &what);
                assert!(Fixture::is_sick(&files), "{}: the check misses {what}", fixture.name);
            }
        }
    }
}

/// Goal: a file of another store, or of an earlier life of this one, is noticed. Method: each file from a store
/// that was written alike.
#[test]
fn every_file_of_another_store() {
    let mut broken = Broken::default();
    for (fixture, other) in Fixture::all().into_iter().zip(Fixture::all()) {
        for (path, bytes) in data_files(&fixture) {
            let Some(foreign) = other.files.get(path) else { continue };
            assert!(foreign != bytes, "stores differ");
            let mut files = fixture.files.clone();
            files.insert(path.clone(), foreign.clone());
            let what = format!("{} of another store", path.display());
            fixture.judge_and_check(&files, &mut broken, &what);
            assert!(Fixture::is_sick(&files), "{}: the check misses {what}", fixture.name);
        }
    }
}

/// Goal: what was salvaged once is a store like others: it closes, and opens strictly with what was served.
/// Method: each segment cut in the middle of its records, zeroed there, and missing.
#[test]
fn salvaged_stores_are_stores() {
    let mut broken = Broken::default();
    for fixture in Fixture::all() {
        for (path, _) in data_files(&fixture).filter(|(path, _)| has_suffix(path, ".seg")) {
            for (kind, harm) in ["cut", "zeroed", "missing"].into_iter().enumerate() {
                let mut files = fixture.files.clone();
                let file = files.get_mut(path).unwrap();
                match kind {
                    0 => file.truncate(5_000),
                    1 => file[4_700..5_300].fill(0),
                    _ => drop(files.remove(path)),
                }
                if let Err(error) = salvage_and_reopen(&fixture, files) {
                    broken.note(format!("{}, {} {harm}: {error}", fixture.name, path.display()));
                }
            }
        }
    }
}

fn salvage_and_reopen(fixture: &Fixture, files: Files) -> Result<(), String> {
    let disk = MemoryDisk::with_files(files);
    let salvaged = fixture.open(&disk, RecoveryPolicy::Salvage);
    let engine = salvaged.map_err(|error| format!("salvage: {error}"))?;
    engine.put("new", "v").map_err(|error| format!("put: {error}"))?;
    let read = |engine: &Engine| {
        let get = |key: &Vec<u8>| engine.get(key).ok().map(|v| v.map(|v| v.to_vec()));
        fixture.expected.keys().map(get).collect::<Vec<_>>()
    };
    let served = read(&engine);
    engine.close().map_err(|error| format!("close: {error}"))?;
    let strict = fixture.open(&disk, RecoveryPolicy::Strict);
    let engine = strict.map_err(|error| format!("reopened strictly: {error}"))?;
    let again = read(&engine);
    if again != served {
        let differ = fixture.expected.keys().zip(served.iter().zip(&again));
        let differ = differ.filter(|(_, (one, other))| one != other);
        let keys: Vec<_> = differ.map(|(key, _)| String::from_utf8_lossy(key)).collect();
        return Err(format!("reopened, {keys:?} differ from what was salvaged"));
    }
    match engine.get("new").map_err(|error| error.to_string())?.as_deref() {
        Some(b"v") => Ok(()),
        other => Err(format!("the new key has {other:?}")),
    }
}
