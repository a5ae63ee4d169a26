//! Seed 000, "Persistent Counters": motion events are counted across restarts. Handlers may count at the same time: no
//! event is lost, as it would be between reading a number and writing it back.

use std::{error::Error, path::Path, thread};

use tierce::Store;

/// One run of the program, in which every one of these handlers sees so many events: the count that it found, and
/// the one it left.
fn run(path: &Path, handlers: u32, events: u32) -> tierce::Result<(i64, i64)> {
    let store = Store::open(path)?;
    let motion_count = store.counter("motion_count")?;
    let restored = motion_count.get()?;
    thread::scope(|scope| {
        let count = || (0..events).try_for_each(|_| motion_count.add(1).map(drop));
        let all: Vec<_> = (0..handlers).map(|_| scope.spawn(count)).collect();
        all.into_iter().try_for_each(|handler| {
            handler.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    let total = motion_count.get()?;
    store.close()?;
    Ok((restored, total))
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("store");
    assert_eq!(run(&path, 1, 3)?, (0, 3));
    assert_eq!(run(&path, 16, 50)?, (3, 803));

    // One counter for each sensor, and the end of the day.
    let store = Store::open(&path)?;
    let by_sensor = store.counters::<String>("motion by sensor")?;
    by_sensor.add("hall", 2)?;
    by_sensor.add("attic", 1)?;
    assert_eq!(by_sensor.reset("hall")?, 2);
    assert_eq!(by_sensor.entries()?, [("attic".to_owned(), 1)]);
    Ok(())
}
