//! Faults that were found once by reading against the code, each kept as a test that failed then.

use std::path::{Path, PathBuf};

use tierce_engine::{
    Batch, Durability, Engine, Error, Health, Options, PutOptions, RecoveryPolicy,
    format::checkpoint::{SECTION_END, SECTION_SEGMENTS, decode_sections, encode_section},
    io::{Disk, MemoryDisk},
};
use tierce_kit::{
    clock::TestClock,
    fault::{CallKind, Fault},
    recorder::RecordingDisk,
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn options(disk: impl Disk + 'static) -> Options {
    Options::new().disk(disk).background(false)
}

fn sync() -> PutOptions {
    PutOptions::new().durability(Durability::Sync)
}

fn has_suffix(path: &Path, suffix: &str) -> bool {
    path.extension().is_some_and(|found| found == suffix)
}

fn value(engine: &Engine, key: &str) -> Option<Vec<u8>> {
    engine.get(key).unwrap().map(|value| value.to_vec())
}

/// The files of `disk` with a bit of the last `text` turned in the newest segment that holds it.
fn damaged(disk: &MemoryDisk, text: &[u8]) -> MemoryDisk {
    let mut files = disk.files();
    let place = |bytes: &[u8]| bytes.windows(text.len()).rposition(|window| window == text);
    let holds = |path: &PathBuf| has_suffix(path, "seg") && place(&files[path]).is_some();
    let path = files.keys().rfind(|path| holds(path)).unwrap().clone();
    let at = place(&files[&path]).unwrap();
    files.get_mut(&path).unwrap()[at] ^= 1;
    MemoryDisk::with_files(files)
}

/// Goal: a segment that was replaced and whose removal a power cut undid does not make the manifest look cut, though
/// its last record, a batch's marker, has a number that its replacement does not have.
#[test]
fn a_replaced_segment_that_comes_back() {
    let disk = RecordingDisk::new();
    let engine = options(disk.clone()).open("store").unwrap();
    let mut batch = Batch::new();
    batch.put("a", "1").put("b", "2");
    engine.commit(batch).unwrap();
    disk.arm(Fault::nth(1, EIO).of(&[CallKind::Write]));
    engine.put("c", "3").unwrap_err();
    disk.disarm();
    // The first removal is of a temporary file that is not there.
    disk.arm(Fault::nth(2, EIO).of(&[CallKind::Remove]).lasting());
    engine.try_recover().unwrap();
    let again = options(disk.image().memory_disk()).open("store").unwrap();
    assert_eq!((value(&again, "a"), value(&again, "c")), (Some(b"1".to_vec()), None));
}

/// Goal: a key whose record is damaged can be written anew, and staged writes to it hold up nobody else's.
#[test]
fn a_damaged_key_is_no_obstacle() {
    let disk = MemoryDisk::new();
    let engine = options(disk.clone()).open("store").unwrap();
    engine.put("damaged key", "old").unwrap();
    engine.close().unwrap();
    let engine = options(damaged(&disk, b"damaged key")).open("store").unwrap();
    assert!(matches!(engine.get("damaged key"), Err(Error::Corruption(_))));
    let periodic = PutOptions::new().durability(Durability::Periodic);
    engine.put_with("innocent", "v", &periodic).unwrap();
    engine.put_with("damaged key", "new", &periodic).unwrap();
    engine.put("unrelated", "v").unwrap();
    assert_eq!(value(&engine, "damaged key"), Some(b"new".to_vec()));
    assert_eq!(value(&engine, "innocent"), Some(b"v".to_vec()));
    engine.close().unwrap();
}

/// Goal: a stray file with the greatest of all ids takes no id away and costs nobody a segment.
#[test]
fn a_stray_name_beyond_all_ids() {
    let disk = MemoryDisk::new();
    options(disk.clone()).open("store").unwrap().put("a", "1").unwrap();
    let mut files = disk.files();
    files.insert(PathBuf::from("store/ffffffffffffffff.seg"), Vec::new());
    let disk = MemoryDisk::with_files(files);
    let engine = options(disk.clone()).segment_bytes(8 << 10).open("store").unwrap();
    engine.put_with("b", "2", &sync()).unwrap();
    engine.put_with("c", vec![0; 9_000], &sync()).unwrap();
    let again = options(MemoryDisk::with_files(disk.files())).open("store").unwrap();
    assert_eq!(value(&again, "b"), Some(b"2".to_vec()));
}

/// Goal: a damaged newest record hides what the checkpoint knew before it, as it does without a checkpoint.
#[test]
fn damage_after_a_checkpoint_hides_older_values() {
    for is_delete in [false, true] {
        let disk = RecordingDisk::new();
        let engine = options(disk.clone()).segment_bytes(8 << 10).open("store").unwrap();
        engine.put("some key", "old").unwrap();
        engine.checkpoint().unwrap();
        if is_delete {
            assert!(engine.delete("some key").unwrap());
        } else {
            engine.put("some key", "new").unwrap();
        }
        for number in 0..20_u8 {
            engine.put([number], vec![7; 600]).unwrap();
        }
        while engine.step().unwrap() {}
        engine.sync().unwrap();
        let disk = damaged(&disk.image().memory_disk(), b"some key");
        let engine = options(disk).recovery(RecoveryPolicy::SkipRecord).open("store").unwrap();
        assert!(!engine.recovery_report().damaged.is_empty());
        let found = engine.get("some key");
        let is_old = matches!(&found, Ok(Some(value)) if &value[..] == b"old");
        assert!(!is_old, "delete {is_delete}: {found:?}");
    }
}

/// Goal: sequence numbers beyond 2^32, which many crashes lead to, do not hide records behind a damaged one.
#[test]
fn damage_far_along_the_sequence() {
    let mut disk = MemoryDisk::new();
    for _ in 0..17 {
        let engine = options(disk.clone()).open("store").unwrap();
        engine.put("c", "x").unwrap();
        disk = MemoryDisk::with_files(disk.files());
    }
    let engine = options(disk.clone()).open("store").unwrap();
    for key in ["first key", "second", "third"] {
        engine.put_with(key, "v", &sync()).unwrap();
    }
    assert!(engine.stats().sequence > 1 << 32);
    let disk = damaged(&MemoryDisk::with_files(disk.files()), b"first key");
    let engine = options(disk).recovery(RecoveryPolicy::SkipRecord).open("store").unwrap();
    assert_eq!(engine.recovery_report().damaged.len(), 1);
    assert_eq!(
        (value(&engine, "second"), value(&engine, "third")),
        (Some(vec![b'v']), Some(vec![b'v']))
    );
}

/// Goal: a checkpoint whose checksums hold and whose slots make no sense is not used.
#[test]
fn a_checkpoint_with_impossible_slots() {
    for slots in [[0, 0], [0, 20_000_000]] {
        let disk = MemoryDisk::new();
        let engine = options(disk.clone()).segment_bytes(8 << 10).open("store").unwrap();
        for number in 0..8_u8 {
            engine.put([number], vec![1; 1_000]).unwrap();
        }
        engine.close().unwrap();
        let mut files = disk.files();
        let path = files.keys().find(|path| has_suffix(path, "ckpt")).unwrap().clone();
        let old = files[&path].clone();
        let mut forged = old[..96].to_vec();
        for (kind, content) in decode_sections(&old[96..]).unwrap() {
            let mut content = content.to_vec();
            if kind == SECTION_SEGMENTS {
                for (row, bytes) in content.chunks_mut(32).enumerate() {
                    bytes[..4].copy_from_slice(&u32::to_le_bytes(slots[row % 2]));
                }
            }
            encode_section(kind, &content, &mut forged);
        }
        encode_section(SECTION_END, &[], &mut forged);
        files.insert(path, forged);
        let engine = options(MemoryDisk::with_files(files)).open("store").unwrap();
        assert!(!engine.recovery_report().from_checkpoint);
        assert!(engine.get([3]).unwrap().is_some());
    }
}

/// Goal: staged writes that cannot be brought to the device in time show in `health`, no more are acknowledged, a
/// refused one has no effect, and all goes on when there is room again.
#[test]
fn overdue_staged_writes_are_not_hidden() {
    let (disk, clock) = (RecordingDisk::new(), TestClock::new());
    let options = options(disk.clone()).clock(clock.clone()).durability(Durability::Periodic);
    let engine = options.open("store").unwrap();
    disk.arm(Fault::nth(1, ENOSPC).of(&[CallKind::Create]).lasting());
    engine.put("in time", "v").unwrap();
    clock.advance(5_000);
    engine.step().unwrap_err();
    assert_eq!(engine.health(), Health::Behind);
    engine.put("too late", "v").unwrap_err();
    assert_eq!(value(&engine, "too late"), None);
    disk.disarm();
    engine.put("again", "v").unwrap();
    assert_eq!(engine.health(), Health::Good);
    let again = self::options(disk.image().memory_disk()).open("store").unwrap();
    assert_eq!(value(&again, "in time"), Some(vec![b'v']));
}
