//! The map of a store: every byte of every segment is in one cell, once, under the right word; where segments came
//! from; what is known of last uses.

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use tierce_engine::{
    CellBytes, Compaction, Durability, Engine, Error, Evict, Follower, Options, PutOptions,
    RecoveryPolicy, SegmentMap, inspect,
    io::{Disk, MemoryDisk},
};
use tierce_kit::{clock::TestClock, rng::Rng, seed::cases, store::STORE};

use crate::basics::filler;

const SEGMENT_BYTES: u64 = 32 << 10;
const RECORDS_AT: usize = 4096;

fn options(disk: &MemoryDisk, clock: &TestClock) -> Options {
    let compaction = Compaction { automatic: false, ..Compaction::default() };
    let options = Options::new().disk(disk.clone()).clock(clock.clone());
    options.segment_bytes(SEGMENT_BYTES).durability(Durability::Os).compaction(compaction)
}

fn reader(disk: &MemoryDisk, clock: &TestClock) -> Follower {
    let options = Options::new().disk(disk.clone()).clock(clock.clone());
    options.recovery(RecoveryPolicy::Salvage).open_reader(STORE).unwrap()
}

fn map(reader: &Follower, cell_bytes: u64) -> Vec<SegmentMap> {
    reader.map(cell_bytes, &mut |_, _| ControlFlow::Continue(())).unwrap().expect("it goes on")
}

/// The files of a disk.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What a test knows of a key: the number of its newest write, and when it expires.
type Model = HashMap<Vec<u8>, (u64, Option<u64>)>;

/// A random history, with sizes from nothing to several cells.
fn work(engine: &Engine, model: &mut Model, rng: &mut Rng, clock: &TestClock) {
    for _ in 0..rng.between(20, 160) {
        let key = format!("key {}", rng.below(60)).into_bytes();
        if rng.one_in(5) {
            engine.delete(&key).unwrap();
            model.remove(&key);
            continue;
        }
        let bytes = usize::try_from(if rng.one_in(6) { rng.below(9_000) } else { rng.below(300) });
        let ttl = rng.one_in(3).then(|| rng.between(1, 40_000));
        let at = ttl.map(|ms| engine.now().saturating_add_ms(ms));
        let mut put = PutOptions::new();
        if let Some(at) = at {
            put = put.expires_at(at);
        }
        let sequence = engine.put_with(&key, filler(rng.below(9), bytes.unwrap()), &put).unwrap();
        model.insert(key, (sequence.0, at.map(|at| at.0)));
        clock.advance(rng.below(500));
    }
}

/// Each byte of a segment's file by its word, told from the records themselves.
fn bytes_of(
    disk: &MemoryDisk,
    segment: &inspect::SegmentSummary,
    model: &Model,
    now: u64,
    torn: (usize, usize),
) -> Vec<char> {
    let length = usize::try_from(segment.bytes).unwrap();
    let mut bytes = vec![if segment.sealed { 'o' } else { 'f' }; length];
    bytes[..RECORDS_AT].fill('o');
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    for record in inspect::records(&disk, Path::new(STORE), segment.id).unwrap() {
        let from = usize::try_from(record.offset).unwrap();
        let to = from + usize::try_from(record.bytes).unwrap();
        let newest = model.get(&record.key).filter(|_| record.kind == Some("put"));
        let word = match newest.filter(|(sequence, _)| *sequence == record.sequence.0) {
            _ if record.kind.is_none() => continue,
            Some((_, Some(at))) if *at <= now => 'e',
            Some(_) => 'l',
            None => 'd',
        };
        bytes[from..to].fill(word);
    }
    bytes[torn.0..torn.1].fill('t');
    bytes
}

fn cells_of(bytes: &[char], cell_bytes: u64) -> Vec<CellBytes> {
    let cell = |cell: &[char]| {
        let count = |word| cell.iter().filter(|byte| **byte == word).count() as u64;
        let mut bytes = CellBytes::default();
        bytes.overhead = count('o');
        bytes.live = count('l');
        bytes.ended = count('e');
        bytes.dead = count('d');
        bytes.torn = count('t');
        bytes.free = count('f');
        bytes
    };
    bytes.chunks(usize::try_from(cell_bytes).unwrap()).map(cell).collect()
}

/// Writes what no crash spares behind the last record of the log: into which file, and from where to where.
fn tear(files: &mut Files, rng: &mut Rng) -> (PathBuf, (usize, usize)) {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::with_files(files.clone()));
    let segments = inspect::segments(&disk, Path::new(STORE)).unwrap();
    let open = segments.iter().rfind(|segment| !segment.sealed).expect("it is written to");
    let bytes = files.get_mut(&open.file).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
    let end = end.next_multiple_of(8).max(RECORDS_AT);
    let torn = usize::try_from(rng.between(1, 700)).unwrap();
    bytes.resize(bytes.len().max(end + torn), 0);
    bytes[end..end + torn].fill(0xa5);
    (open.file.clone(), (end, end + torn))
}

/// Goal: cells sum up to the files, and each byte is counted under the word that the records themselves give it, in
/// sealed, compacted and torn segments, with entries of several cells.
#[test]
fn every_byte_is_counted_once() {
    let mut spanning = 0;
    cases("map::every_byte_is_counted_once", 24, |seed| {
        let (mut rng, clock) = (Rng::new(seed), TestClock::new().seeded(seed));
        let (disk, mut model) = (MemoryDisk::new(), Model::new());
        let mut engine = options(&disk, &clock).open(STORE).unwrap();
        for _ in 0..rng.between(1, 4) {
            work(&engine, &mut model, &mut rng, &clock);
            match rng.below(3) {
                0 => drop(engine.compact().unwrap()),
                1 => {
                    engine.close().unwrap();
                    engine = options(&disk, &clock).open(STORE).unwrap();
                }
                _ => {}
            }
        }
        let (mut files, is_torn) = (disk.files(), rng.one_in(2));
        let torn = if is_torn {
            engine.put("the last", "value").map(|()| files = disk.files()).unwrap();
            let (sequence, torn) =
                (engine.entry("the last").unwrap().unwrap().sequence, tear(&mut files, &mut rng));
            model.insert(b"the last".to_vec(), (sequence.0, None));
            Some(torn)
        } else {
            engine.close().unwrap();
            files = disk.files();
            None
        };
        let disk = MemoryDisk::with_files(files);
        let now = reader(&disk, &clock).now().0;
        let disk_too: Arc<dyn Disk> = Arc::new(disk.clone());
        let summaries = inspect::segments(&disk_too, Path::new(STORE)).unwrap();
        for cell_bytes in [512, 4096, 5_000, 1 << 20] {
            let maps = map(&reader(&disk, &clock), cell_bytes);
            assert_eq!(maps.len(), summaries.len());
            for (map, segment) in maps.iter().zip(&summaries) {
                assert_eq!((map.id, map.bytes), (segment.id, segment.bytes));
                assert_eq!(map.sum().sum(), segment.bytes, "segment {}", map.id);
                let torn = torn
                    .as_ref()
                    .filter(|(path, _)| path.ends_with(segment.file.file_name().unwrap()));
                let torn = torn.map_or((0, 0), |(_, torn)| *torn);
                let bytes = bytes_of(&disk, segment, &model, now, torn);
                assert_eq!(
                    map.cells,
                    cells_of(&bytes, cell_bytes),
                    "segment {} by {cell_bytes}",
                    map.id
                );
                spanning += map.cells.iter().filter(|cell| cell.live == cell_bytes).count();
            }
        }
    });
    assert!(spanning > 0 || std::env::var_os("TIERCE_SEED").is_some(), "some entry fills a cell");
}

/// Goal: a record whose head is damaged is not called live or dead, and the sums stay right.
#[test]
fn damaged_heads_are_unreadable() {
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let engine = options(&disk, &clock).open(STORE).unwrap();
    engine.put("one", filler(1, 1_000)).unwrap();
    engine.put("two", filler(2, 1_000)).unwrap();
    engine.close().unwrap();
    let mut files = disk.files();
    let segment =
        files.iter_mut().find(|(path, _)| path.extension().is_some_and(|end| end == "seg"));
    segment.unwrap().1[RECORDS_AT + 9] ^= 1;
    let reader = reader(&MemoryDisk::with_files(files), &clock);
    let mut shown = Vec::new();
    let unreadable = reader.snapshot().scan_readable(&mut |key, _| {
        shown.push(key.to_vec());
        ControlFlow::Continue(())
    });
    assert_eq!((unreadable.unwrap(), shown), (1, vec![b"two".to_vec()]));
    let maps = map(&reader, 512);
    let sum = maps[0].sum();
    assert_eq!(sum.sum(), maps[0].bytes);
    assert!(sum.unreadable >= 1_000 && sum.live >= 1_000, "{sum:?}");
    assert!(sum.dead < 200, "{sum:?}");
}

/// Goal: a cell too small is refused, a break is obeyed, and what went on is told to its end.
#[test]
fn limits_and_progress() {
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let engine = options(&disk, &clock).open(STORE).unwrap();
    (0..50).for_each(|key| engine.put(format!("{key}"), "v").unwrap());
    engine.close().unwrap();
    let reader = reader(&disk, &clock);
    let refused = reader.map(511, &mut |_, _| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(Error::InvalidOptions { .. })), "{refused:?}");
    assert_eq!(reader.map(512, &mut |_, _| ControlFlow::Break(())).unwrap(), None);
    let mut told = Vec::new();
    reader
        .map(512, &mut |done, total| {
            told.push((done, total));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(told.last(), Some(&(50, 50)));
    assert!(told.is_sorted());
}

/// Goal: what compaction made names what it was made from and when; what users wrote names nothing; a header that is
/// damaged says nothing, and is no error.
#[test]
fn origins() {
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let engine = options(&disk, &clock).open(STORE).unwrap();
    let mut model = Model::new();
    (0..4).for_each(|seed| work(&engine, &mut model, &mut Rng::new(seed), &clock));
    engine.close().unwrap();
    let of = |files: &MemoryDisk| {
        let disk: Arc<dyn Disk> = Arc::new(files.clone());
        inspect::origins(&disk, Path::new(STORE)).unwrap()
    };
    let before = of(&disk);
    assert!(before.len() > 1 && before.iter().all(|origin| origin.class == 0));
    assert!(before.iter().all(|origin| origin.parents.is_empty()));
    assert_eq!(before[0].created.map(|at| at.0), Some(TestClock::START_MS));
    clock.advance(1_000_000);
    let engine = options(&disk, &clock).trust_clock(true).open(STORE).unwrap();
    engine.compact().unwrap();
    engine.close().unwrap();
    let after = of(&disk);
    let made: Vec<_> = after.iter().filter(|origin| origin.class >= 2).collect();
    assert!(!made.is_empty());
    for origin in made {
        assert!(!origin.parents.is_empty());
        assert!(origin.parents.iter().all(|parent| before.iter().any(|old| old.id == *parent)));
        assert!(origin.created.is_some_and(|at| at.0 >= TestClock::START_MS + 1_000_000));
    }
    let mut files = disk.files();
    for (_, bytes) in
        files.iter_mut().filter(|(path, _)| path.extension().is_some_and(|end| end == "seg"))
    {
        bytes[100] ^= 0xff;
    }
    let damaged = of(&MemoryDisk::with_files(files));
    assert_eq!(damaged.len(), after.len());
    assert!(damaged.iter().all(|origin| origin.created.is_none() && origin.parents.is_empty()));
}

/// Goal: the steps of last uses tell old from new and count each entry once; a store without a limit does not pretend
/// to know.
#[test]
fn last_uses() {
    for evict in [Evict::Lru, Evict::S3Fifo, Evict::Fifo, Evict::None] {
        let (disk, clock) = (MemoryDisk::new(), TestClock::new());
        let limited = || options(&disk, &clock).max_entries(4_096).evict(evict);
        let engine = limited().open(STORE).unwrap();
        let options = PutOptions::new().evictable(true);
        for key in 0..2_000 {
            engine.put_with(format!("{key}"), "v", &options).unwrap();
        }
        for key in 0..500 {
            engine.get(format!("{key}")).unwrap();
        }
        engine.close().unwrap();
        let uses = reader(&disk, &clock).last_uses();
        if evict == Evict::None {
            assert_eq!(uses, None);
            continue;
        }
        let uses = uses.expect("it was counted");
        assert_eq!(uses.policy, evict);
        assert_eq!(uses.steps_ago.iter().sum::<u64>(), 2_000, "{evict:?}: {uses:?}");
        assert!(
            uses.steps_ago.iter().filter(|count| **count > 0).count() > 3,
            "{evict:?}: {uses:?}"
        );
    }
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let engine = options(&disk, &clock).open(STORE).unwrap();
    (0..200).for_each(|key| engine.put(format!("{key}"), "v").unwrap());
    engine.close().unwrap();
    assert_eq!(reader(&disk, &clock).last_uses(), None);
}
