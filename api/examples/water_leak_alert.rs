//! Seed 000, "Rate-Limiting Notifications": a water leak is told at most once every four hours, also if the program is
//! restarted meanwhile, and once only if several handlers see it at the same moment.

use std::{
    error::Error,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use tierce::{Options, Store};
use tierce_kit::clock::TestClock;

const FOUR_HOURS: Duration = Duration::from_secs(4 * 3600);

fn open(dir: &Path, clock: &TestClock) -> tierce::Result<Store> {
    Store::open_with(dir.join("store"), Options::new().clock(clock.clone()))
}

/// Sends a notification, or says how long ago the last one was.
fn on_leak_detected(store: &Store, send: impl Fn() -> bool) -> tierce::Result<Option<Duration>> {
    match store.cooldown("leak notification", FOUR_HOURS)?.try_acquire("water leak")? {
        Ok(permit) => {
            if !send() {
                // It did not go out: the next handler tries at once.
                permit.cancel()?;
            }
            Ok(None)
        }
        Err(wait) => Ok(Some(wait.since)),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let clock = TestClock::new();
    let store = open(dir.path(), &clock)?;
    let sent = AtomicU32::new(0);
    let send = || {
        sent.fetch_add(1, Ordering::Relaxed);
        true
    };

    assert_eq!(on_leak_detected(&store, || false)?, None, "the network is down: nothing went out");
    thread::scope(|scope| {
        let handlers: Vec<_> =
            (0..16).map(|_| scope.spawn(|| on_leak_detected(&store, send))).collect();
        handlers.into_iter().try_for_each(|handler| {
            handler.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map(drop)
        })
    })?;
    assert_eq!(sent.load(Ordering::Relaxed), 1);

    store.close()?;
    let store = open(dir.path(), &clock)?;
    clock.advance(3 * 3_600_000);
    let since = on_leak_detected(&store, send)?;
    assert_eq!(since, Some(Duration::from_secs(3 * 3600)));
    clock.advance(3_600_000);
    assert_eq!(on_leak_detected(&store, send)?, None);
    assert_eq!(sent.load(Ordering::Relaxed), 2);
    Ok(())
}
