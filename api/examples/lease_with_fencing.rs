//! Seed 002, "thread-safe via lock", taken further: a lease over restarts, with a token by which a store of something
//! else refuses who is too late.

use std::{error::Error, time::Duration};

use tierce::{Options, Store};
use tierce_engine::io::MemoryDisk;
use tierce_kit::clock::TestClock;

/// Something that is written to under a lease. It remembers the newest token that it has seen.
struct Report {
    store: Store,
}

impl Report {
    /// Writes unless a newer holder has written; says whether it did.
    fn write(&self, token: u64, text: &str) -> tierce::Result<bool> {
        let reports = self.store.map::<String, (u64, String)>("reports")?;
        let mut is_mine = false;
        reports.update("daily", |old| {
            is_mine = old.as_ref().is_none_or(|(seen, _)| *seen <= token);
            if is_mine { Some((token, text.to_owned())) } else { old }
        })?;
        Ok(is_mine)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let clock = TestClock::new();
    let store =
        Store::open_with("store", Options::new().disk(MemoryDisk::new()).clock(clock.clone()))?;
    let report = Report { store: store.clone() };
    let minute = Duration::from_secs(60);

    let slow = store.lease("report", "slow worker", minute)?.map_err(|_| "it is free")?;
    let refused = store.lease("report", "fast worker", minute)?.err().ok_or("it is held")?;
    assert_eq!((refused.owner.as_str(), refused.remaining), ("slow worker", minute));

    // The slow one sleeps for too long.
    clock.advance(61_000);
    let fast = store.lease("report", "fast worker", minute)?.map_err(|_| "it is over")?;
    assert!(fast.token() > slow.token());
    assert!(report.write(fast.token(), "by the fast one")?);

    // It wakes, believes that it still holds it, and is stopped everywhere.
    assert!(!report.write(slow.token(), "by the slow one")?);
    let too_late = slow.release().err();
    assert_eq!(too_late.map(|error| error.kind()), Some("not-held"));
    assert!(fast.is_held()?);
    fast.renew(minute)?;
    fast.release()?;

    // One permit of three, for downloads.
    let downloads = store.semaphore("downloads", 3)?;
    let permit = downloads.try_acquire(minute)?.map_err(|_| "all are free")?;
    assert_eq!(downloads.available()?, 2);
    permit.release()?;
    Ok(())
}
