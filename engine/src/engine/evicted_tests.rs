//! What an evicted entry means to each operation. Marked here by hand, so that only the meaning is tested.

use super::*;
use crate::{io::MemoryDisk, options::Condition};

/// A store whose hash has so few bits that "gone" shares its hash with others.
fn store(hash_bits: u32) -> Result<Engine> {
    let options = Options::new().disk(MemoryDisk::new()).background(false);
    #[cfg(feature = "testing")]
    let options = options.hash_bits(hash_bits);
    let _ = hash_bits;
    let engine = options.open("store")?;
    for key in ["kept", "other", "gone"] {
        engine.put(key, key)?;
    }
    Ok(engine)
}

fn evict(engine: &Engine, key: &str) -> Result<()> {
    let lookup = &engine.shared.lookup;
    let hash = lookup.hasher.hash(key.as_bytes());
    let found = lookup.current(key.as_bytes(), hash)?.expect("the key is there");
    assert!(lookup.index.evict(hash, found.location, 1));
    Ok(())
}

fn keys(iter: Iter) -> Result<Vec<Vec<u8>>> {
    let mut keys = iter.map(|item| Ok(item?.0)).collect::<Result<Vec<_>>>()?;
    keys.sort_unstable();
    Ok(keys)
}

/// Goal: readers do not see it, older snapshots do, and there is nothing to delete. Also if keys share the hash.
#[test]
fn readers_miss_what_was_evicted() -> Result<()> {
    for hash_bits in [64, 0] {
        let engine = store(hash_bits)?;
        let before = engine.snapshot()?;
        evict(&engine, "gone")?;
        assert_eq!(engine.get("gone")?, None);
        assert_eq!(engine.entry("gone")?, None);
        assert!(!engine.contains_key("gone")?);
        assert_eq!(engine.get_many(&["gone", "kept"])?.iter().flatten().count(), 1);
        assert_eq!(engine.get("kept")?.as_deref(), Some(&b"kept"[..]));
        let after = engine.snapshot()?;
        assert_eq!(before.get("gone")?.as_deref(), Some(&b"gone"[..]));
        assert_eq!(after.get("gone")?, None);
        assert_eq!(after.get("kept")?.as_deref(), Some(&b"kept"[..]));
        assert_eq!(keys(before.iter())?, [&b"gone"[..], b"kept", b"other"]);
        assert_eq!(keys(after.iter())?, [&b"kept"[..], b"other"]);
        assert!(!engine.delete("gone")?);
        assert_eq!(engine.get("gone")?, None);
    }
    Ok(())
}

/// Goal: a put finds it absent, displaces it and can be read.
#[test]
fn a_put_displaces_what_was_evicted() -> Result<()> {
    for hash_bits in [64, 0] {
        let engine = store(hash_bits)?;
        evict(&engine, "gone")?;
        let lookup = &engine.shared.lookup;
        let hash = lookup.hasher.hash(b"gone");
        let found = lookup.current(b"gone", hash)?.expect("its record is in the log");
        assert!(found.is_evicted && !found.is_live);
        assert_eq!(found.epoch, 0);
        let absent = PutOptions { condition: Condition::Absent, ..PutOptions::new() };
        engine.put_with("gone", "again", &absent)?;
        assert_eq!(engine.get("gone")?.as_deref(), Some(&b"again"[..]));
        assert_eq!(lookup.index.len(), 3, "the old entry is still there");
        let found = lookup.current(b"gone", hash)?.expect("it was put");
        assert!(!found.is_evicted && found.is_live && found.epoch > 0);
    }
    Ok(())
}
