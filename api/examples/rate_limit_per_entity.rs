//! Seed 000, "You can also track notifications per entity": each sensor has its own two hours. Below it, a token
//! bucket: how to stay within what a service allows.

use std::{error::Error, time::Duration};

use tierce::{Options, Store, recipes::Rate};
use tierce_engine::io::MemoryDisk;
use tierce_kit::clock::TestClock;

fn main() -> Result<(), Box<dyn Error>> {
    let clock = TestClock::new();
    let store =
        Store::open_with("store", Options::new().disk(MemoryDisk::new()).clock(clock.clone()))?;

    let alerts = store.cooldown("last notification", Duration::from_secs(2 * 3600))?;
    let mut sent = Vec::new();
    let events = [("door", 0), ("window", 10), ("door", 60), ("window", 120), ("door", 60)];
    for (entity, minutes_later) in events {
        clock.advance(minutes_later * 60_000);
        if alerts.try_acquire(entity)?.is_ok() {
            sent.push(entity);
        }
    }
    assert_eq!(sent, ["door", "window", "window", "door"]);

    // Sixty calls a minute, at most five of them at once.
    let calls =
        store.throttle("weather service", Rate::new(60, Duration::from_secs(60)).burst(5))?;
    let passed = (0..8).filter(|_| matches!(calls.try_acquire("user", 1), Ok(Ok(())))).count();
    assert_eq!(passed, 5);
    let wait = calls.try_acquire("user", 1)?.err();
    assert_eq!(wait, Some(Duration::from_secs(1)));
    clock.advance(1_000);
    assert!(calls.try_acquire("user", 1)?.is_ok());
    Ok(())
}
