//! Stores of different shape, and what stands where in their files: told from the undamaged bytes alone.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use tierce_engine::{
    Batch, Durability, Engine, PutOptions, SegmentId,
    format::{
        file_name::FileName,
        footer::{FOOTER_TRAILER_BYTES, Trailer},
        manifest::{Edit, Frame, MANIFEST_HEADER_BYTES, ManifestHeader, decode_frame},
        record::{Commit, Decoded, Kind, decode_head, verify_value},
        segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader},
    },
    io::MemoryDisk,
};
use tierce_kit::{
    clock::TestClock,
    store::{STORE, Setup},
};

use super::Files;
use crate::basics::filler;

/// A store's files, and how they came about.
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) files: Files,
    /// Closed properly.
    pub(super) is_clean: bool,
}

/// What a file is.
pub(super) fn name_of(path: &Path) -> Option<FileName> {
    FileName::parse(path.file_name()?.to_str()?)
}

pub(super) fn path_of(name: &str) -> PathBuf {
    Path::new(STORE).join(name)
}

/// Work of some kind on an open store.
fn work(engine: &Engine, round: u64, bytes: usize) {
    for number in 0..12 {
        engine.put(format!("key {number}"), filler(round * 100 + number, bytes)).unwrap();
        let key = format!("round {round} key {number}");
        let options = PutOptions::new().evictable(true);
        engine.put_with(key, filler(number, bytes / 2), &options).unwrap();
    }
    let expires = engine.now().saturating_add_ms(1 << 30);
    let options = PutOptions::new().scope("scope").expires_at(expires);
    engine.put_with("scoped", filler(round, 40), &options).unwrap();
    engine.touch("key 1", Some(expires)).unwrap();
    engine.delete(format!("round {round} key 3")).unwrap();
    engine.cut_scope("scope").unwrap();
    let mut batch = Batch::new();
    for number in 0..3 {
        batch.put(format!("batch {number}"), filler(number, 70));
    }
    batch.delete("key 11");
    engine.commit(batch).unwrap();
    engine.put("", "the empty key").unwrap();
}

fn settle(engine: &Engine) {
    while engine.step().unwrap() {}
}

/// Builds a store: `fill` may do what it wants; then it is closed or not.
fn build(name: &'static str, setup: &Setup, is_clean: bool, fill: impl Fn(&Engine)) -> Shape {
    let disk = MemoryDisk::new();
    let engine = setup.options(Arc::new(disk.clone()), &TestClock::new()).open(STORE).unwrap();
    fill(&engine);
    let crashed = disk.files();
    engine.close().unwrap();
    let files = if is_clean { disk.files() } else { crashed };
    Shape { name, files, is_clean }
}

/// All of them.
pub(super) fn all() -> Vec<Shape> {
    let sync = Setup { automatic: false, ..Setup::new(Durability::Sync) };
    let evicting = Setup { max_entries: Some(40), ..Setup::new(Durability::Sync) };
    let narrow = Setup { hash_bits: 2, ..sync.clone() };
    let rounds = |engine: &Engine, rounds: Range<u64>| {
        for round in rounds {
            work(engine, round, 200);
            settle(engine);
        }
    };
    vec![
        build("closed", &sync, true, |engine| rounds(engine, 0..3)),
        build("closed, hashes collide", &narrow, true, |engine| rounds(engine, 0..2)),
        build("closed after compaction", &sync, true, |engine| {
            rounds(engine, 0..3);
            engine.compact().unwrap();
            work(engine, 9, 100);
        }),
        build("closed after evictions", &evicting, true, |engine| rounds(engine, 0..3)),
        build("closed, one long value", &sync, true, |engine| {
            work(engine, 0, 100);
            engine.put("long", filler(7, 150_000)).unwrap();
            work(engine, 1, 100);
        }),
        build("crashed", &sync, false, |engine| rounds(engine, 0..3)),
        build("crashed behind a checkpoint", &sync, false, |engine| {
            rounds(engine, 0..2);
            engine.checkpoint().unwrap();
            rounds(engine, 2..4);
            work(engine, 5, 300);
        }),
        build("crashed after compaction", &sync, false, |engine| {
            rounds(engine, 0..3);
            engine.compact().unwrap();
            work(engine, 9, 150);
        }),
    ]
}

/// The manifest's frames: where each begins, and what it says.
pub(super) fn frames(bytes: &[u8]) -> Vec<(usize, Frame)> {
    let header = ManifestHeader::decode(bytes).unwrap();
    let (mut at, mut frames) = (MANIFEST_HEADER_BYTES, Vec::new());
    while at < bytes.len() {
        let frame = decode_frame(&bytes[at..], header.generation, at as u64).unwrap();
        let next = at + usize::try_from(frame.bytes).unwrap();
        frames.push((at, frame));
        at = next;
    }
    frames
}

/// A record of an undamaged segment.
pub(super) struct Placed {
    pub(super) place: Range<usize>,
    pub(super) sequence: u64,
    /// What it says is durable, if it is a marker.
    pub(super) durable: Option<u64>,
}

/// The records of an undamaged segment, and where they end.
pub(super) fn records(bytes: &[u8]) -> (Vec<Placed>, usize) {
    let header = SegmentHeader::decode(bytes).unwrap();
    let mut records = Vec::new();
    let mut at = SEGMENT_HEADER_BYTES;
    while let Ok(Decoded::Head(head)) = decode_head(&bytes[at..], header.salt, at as u64) {
        let value = verify_value(&bytes[at..], &head).unwrap();
        let durable = (head.kind == Some(Kind::Commit))
            .then(|| Commit::decode(value).unwrap().durable_sequence.0);
        let next = at + usize::try_from(head.record_bytes).unwrap();
        records.push(Placed { place: at..next, sequence: head.sequence.0, durable });
        at = next;
    }
    (records, at)
}

/// Whether an undamaged segment ends in a footer.
pub(super) fn is_sealed(bytes: &[u8]) -> bool {
    let split = bytes.len().saturating_sub(FOOTER_TRAILER_BYTES);
    Trailer::decode(&bytes[split..], bytes.len() as u64).is_ok()
}

/// Where the thing begins that this byte is part of: a header, a record, a footer, a frame.
pub(super) fn thing_at(path: &Path, bytes: &[u8], byte: usize) -> Range<usize> {
    match name_of(path) {
        Some(FileName::Segment(_)) if byte < SEGMENT_HEADER_BYTES => 0..SEGMENT_HEADER_BYTES,
        Some(FileName::Segment(_)) => {
            let (records, end) = records(bytes);
            let hit = records.into_iter().map(|record| record.place).find(|p| p.contains(&byte));
            hit.unwrap_or(end..bytes.len())
        }
        Some(FileName::Manifest) if byte >= MANIFEST_HEADER_BYTES => {
            let starts: Vec<_> = frames(bytes).into_iter().map(|(at, _)| at).collect();
            let last = starts.partition_point(|start| *start <= byte) - 1;
            starts[last]..starts.get(last + 1).copied().unwrap_or(bytes.len())
        }
        _ => 0..bytes.len(),
    }
}

/// The segments that a manifest of these edits names.
pub(super) fn named<'a>(edits: impl Iterator<Item = &'a Edit>) -> Vec<SegmentId> {
    let mut named = Vec::new();
    for edit in edits {
        match edit {
            Edit::Add(add) => named.push(add.id),
            Edit::Retire(id) => named.retain(|known| known != id),
            Edit::Replace { inputs, .. } => named.retain(|known| !inputs.contains(known)),
            _ => {}
        }
    }
    named
}
