//! A write between the sync and the seal of a store that is about to close.

use std::thread;

use super::*;
use crate::io::MemoryDisk;

/// Goal: a footer vouches only for what is in its file: a write that comes after the sync, before the last segment is
/// sealed, is there when the store is opened again.
/// Method: sealing is held up behind its sync while a buffered put is acknowledged.
#[test]
fn a_write_between_sync_and_seal() -> Result<()> {
    let disk = MemoryDisk::new();
    let options = || Options::new().disk(disk.clone()).background(false);
    let engine = options().durability(crate::Durability::Buffered).open("store")?;
    engine.put("early", "1")?;
    let writer = &engine.shared.writer;
    thread::scope(|scope| {
        let sealing = writer.without_maintenance(|| {
            let sealing = scope.spawn(|| writer.seal_all());
            while !writer.is_all_durable() {
                thread::yield_now();
            }
            engine.put("late", "2").map(|_| sealing)
        });
        sealing.and_then(|sealing| sealing.join().expect("it does not panic"))
    })?;
    let files = disk.files().into_iter().filter(|(path, _)| !path.ends_with("LOCK"));
    std::mem::forget(engine);
    let engine = Options::new().disk(MemoryDisk::with_files(files)).background(false);
    let engine = engine.open("store")?;
    for (key, value) in [("early", b"1"), ("late", b"2")] {
        assert_eq!(engine.get(key)?.as_deref(), Some(&value[..]), "{key}");
    }
    Ok(())
}
