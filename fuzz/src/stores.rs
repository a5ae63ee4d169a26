//! Whole directories of stores: files of several moments of a store, cut, changed, renamed and mixed, then opened, read,
//! checked and repaired.
//!
//! An input is a list of edits of four bytes, which is applied to the files of a few stores made here. So every change
//! of an input is another way to damage a store, and checksums do not stop it before it has begun.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use tierce_engine::{
    Batch, Engine, Options, PutOptions, RecoveryPolicy,
    check::check_store,
    inspect,
    io::{Disk, MemoryDisk},
    repair,
};

const STORE: &str = "store";

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The files of stores at several moments, and every value that a key ever had.
struct Samples {
    moments: Vec<Files>,
    written: BTreeSet<(Vec<u8>, Vec<u8>)>,
}

fn options(disk: &MemoryDisk) -> Options {
    Options::new().disk(disk.clone()).background(false).segment_bytes(8 << 10)
}

fn samples() -> &'static Samples {
    static SAMPLES: OnceLock<Samples> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let (mut moments, mut written) = (Vec::new(), BTreeSet::new());
        let disk = MemoryDisk::new();
        for round in 0..3_u8 {
            let engine = options(&disk).open(STORE).expect("it opens");
            fill(&engine, round, &mut written);
            moments.push(disk.files());
            engine.close().expect("it closes");
            moments.push(disk.files());
        }
        Samples { moments, written }
    })
}

fn fill(engine: &Engine, round: u8, written: &mut BTreeSet<(Vec<u8>, Vec<u8>)>) {
    let mut put = |key: u8, bytes: usize, options: &PutOptions| {
        let (key, value) = (vec![key], vec![round ^ key; bytes]);
        written.insert((key.clone(), value.clone()));
        engine.put_with(key, value, options).expect("it is stored");
    };
    for key in 0..12 {
        let mut options = PutOptions::new().evictable(key % 3 == 0);
        if key % 4 == 1 {
            options = options.scope([b's', key % 2]);
        }
        put(key, usize::from(key) * 150, &options);
    }
    engine.delete([2]).expect("it is deleted");
    engine.touch([3], None).expect("it is touched");
    engine.cut_scope([b's', 1]).expect("it is cut");
    let mut batch = Batch::new();
    for key in 20..23 {
        written.insert((vec![key], vec![round; 700]));
        batch.put(vec![key], vec![round; 700]);
    }
    engine.commit(batch).expect("it is committed");
    if round == 1 {
        engine.compact().expect("it compacts");
    }
}

/// Sound inputs: no edit at all, on each of the stores, and one edit of each kind.
#[must_use]
pub fn inputs() -> Vec<Vec<u8>> {
    let moments = samples().moments.len() as u8;
    let plain = (0..moments).map(|moment| vec![moment]);
    let edits = (0..EDITS).map(|edit| vec![edit, edit, 1, 40, 9, edit + 1, 3, 2, 200]);
    plain.chain(edits).collect()
}

const EDITS: u8 = 8;

/// Applies the edits of `bytes` to a store, and looks at what comes of it.
///
/// # Panics
/// If a value is read that was never written, or a store that opened or was repaired is not sound.
pub fn store_directory(bytes: &[u8]) {
    let samples = samples();
    let Some((first, edits)) = bytes.split_first() else { return };
    let mut files = samples.moments[usize::from(*first) % samples.moments.len()].clone();
    for edit in edits.chunks_exact(4).take(8) {
        apply([edit[0], edit[1], edit[2], edit[3]], &mut files, samples);
    }
    look(&files);
    read(&files, RecoveryPolicy::Salvage, samples);
    read(&files, RecoveryPolicy::SkipRecord, samples);
    if read(&files, RecoveryPolicy::Strict, samples) {
        write(&files);
    }
    mend(&files, samples);
}

fn apply([kind, which, a, b]: [u8; 4], files: &mut Files, samples: &Samples) {
    let names: Vec<PathBuf> = files.keys().cloned().collect();
    let Some(name) = names.get(usize::from(which) % names.len().max(1)) else { return };
    let Some(content) = files.get_mut(name) else { return };
    // Most of what is interesting is at the front, at the end and at the first records.
    let at = match a % 4 {
        0 => usize::from(b),
        1 => content.len().saturating_sub(usize::from(b)),
        2 => 4096 + usize::from(b) * 8,
        _ => content.len() * usize::from(b) / 256,
    };
    match kind % EDITS {
        0 => content.truncate(at),
        1 => {
            if let Some(byte) = content.get_mut(at) {
                *byte ^= 1 << (a / 4 % 8);
            }
        }
        2 => drop(files.remove(name)),
        3 => {
            // The same file at another moment.
            let other = &samples.moments[usize::from(a) % samples.moments.len()];
            if let Some(other) = other.get(name) {
                content.clone_from(other);
            }
        }
        4 => {
            let content = content.clone();
            let other = &names[usize::from(a) % names.len()];
            files.insert(other.clone(), content);
        }
        5 => {
            let end = at.saturating_add(64).min(content.len());
            content[at.min(end)..end].fill(0);
        }
        6 => content.extend(std::iter::repeat_n(a, usize::from(b))),
        _ => {
            let content = content.clone();
            let names =
                ["00000000000000ff.seg", "MANIFEST.tmp", "0000000000000009.ckpt", "LOCK", "x"];
            let name = names[usize::from(a) % names.len()];
            files.insert(Path::new(STORE).join(name), content);
        }
    }
}

/// Commands that look end with an answer or an error.
fn look(files: &Files) {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::with_files(files.clone()));
    let _ = check_store(&disk, Path::new(STORE));
    let _ = inspect::info(&disk, Path::new(STORE));
    let _ = inspect::segments(&disk, Path::new(STORE));
    let memory = MemoryDisk::with_files(files.clone());
    let reader = options(&memory).recovery(RecoveryPolicy::Salvage).open_reader(STORE);
    if let Ok(reader) = reader {
        reader.snapshot().iter().for_each(drop);
    }
    assert_eq!(memory.files(), *files, "looking changed a file");
}

/// Opens and reads everything; says whether it opened.
fn read(files: &Files, policy: RecoveryPolicy, samples: &Samples) -> bool {
    let disk = MemoryDisk::with_files(files.clone());
    let Ok(engine) = options(&disk).create(false).recovery(policy).open(STORE) else {
        return false;
    };
    all_written(&engine, samples);
    let _ = engine.close();
    true
}

fn all_written(engine: &Engine, samples: &Samples) {
    let Ok(entries) = engine.iter() else { return };
    for entry in entries.flatten() {
        let pair = (entry.0, entry.1.value.to_vec());
        assert!(samples.written.contains(&pair), "{:?} never had this value", pair.0);
    }
}

/// A store that opened strictly takes a write and opens again.
fn write(files: &Files) {
    let disk = MemoryDisk::with_files(files.clone());
    let open = || options(&disk).create(false).open(STORE);
    let engine = open().expect("it opened before");
    if engine.put("new", "value").is_err() {
        return;
    }
    engine.close().expect("it closes");
    let engine = open().expect("what was closed opens");
    let value = engine.get("new").expect("it reads");
    assert_eq!(value.as_deref(), Some(&b"value"[..]), "a write is gone");
}

/// A repair that is carried out leaves a sound store, or says that it could not.
fn mend(files: &Files, samples: &Samples) {
    let disk = MemoryDisk::with_files(files.clone());
    let options = options(&disk);
    if let Ok(report) = repair::repair(&options, Path::new(STORE), None)
        && report.after.is_healthy()
    {
        let engine = options.clone().create(false).open(STORE).expect("what was repaired opens");
        all_written(&engine, samples);
        drop(engine);
    }
    let disk = MemoryDisk::with_files(files.clone());
    let options = options.disk(disk);
    if repair::salvage(&options, Path::new(STORE), Path::new("salvaged")).is_ok() {
        let engine = options.create(false).open("salvaged").expect("what was salvaged opens");
        all_written(&engine, samples);
    }
}
