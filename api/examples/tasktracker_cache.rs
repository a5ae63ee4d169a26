//! Shows the cache of the tracker of tasks (seed 004): keys `endpoint:user`, shared data under `:None`, five minutes, a
//! forced refresh, a user's entries or everybody's cleared, and statistics with the keys.
//!
//! A key of two parts says the same without text to take apart: nobody is called "None" by accident, and who clears
//! `gabriel` leaves `gabriella` alone.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::cell::RefCell;

use tierce::{BoxError, Cache, Loaded, Options, Store, Ttl, engine::io::MemoryDisk};
use tierce_kit::clock::TestClock;

const CACHE_TTL: Ttl = Ttl::seconds(300);

struct TaskTracker {
    cache: Cache<String, String>,
    /// The same with keys of parts: user first, so that all of a user lie together.
    by_user: Cache<(String, String), String>,
    requests: RefCell<Vec<String>>,
}

impl TaskTracker {
    fn key(endpoint: &str, user: Option<&str>) -> String {
        format!("{endpoint}:{}", user.unwrap_or("None"))
    }

    fn request(&self, key: &str) -> Result<Loaded<String>, BoxError> {
        self.requests.borrow_mut().push(key.to_owned());
        Ok(Loaded::new(format!("answer {}", self.requests.borrow().len())).ttl(CACHE_TTL))
    }

    fn get_cached_or_fetch(
        &self,
        endpoint: &str,
        user: Option<&str>,
        force_refresh: bool,
    ) -> tierce::Result<String> {
        let key = Self::key(endpoint, user);
        match force_refresh {
            true => self.cache.force_refresh(&key, || self.request(&key)),
            false => self.cache.get_or_load(&key, || self.request(&key)),
        }
    }

    fn invalidate_user_cache(&self, user: &str) -> tierce::Result<u64> {
        self.cache.invalidate_suffix(&format!(":{user}"))
    }

    /// After each change: tasks belong to several users, so all of them are asked for again.
    fn invalidate_all_user_caches(&self) -> tierce::Result<u64> {
        self.cache.clear()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = TestClock::new();
    let store =
        Store::open_with("tasks", Options::new().disk(MemoryDisk::new()).clock(clock.clone()))?;
    let tracker = TaskTracker {
        cache: store.cache("tasktracker")?,
        by_user: store.cache("tasktracker/by user")?,
        requests: RefCell::default(),
    };
    let fill = || -> tierce::Result<()> {
        tracker.get_cached_or_fetch("daily_plan_encouragement", Some("gabriel"), false)?;
        tracker.get_cached_or_fetch("leftovers", Some("gabriel"), false)?;
        tracker.get_cached_or_fetch("leftovers", Some("gabriella"), false)?;
        tracker.get_cached_or_fetch("recommended_tasks", Some("sara"), false)?;
        tracker.get_cached_or_fetch("available_tasks", None, false).map(drop)
    };
    fill()?;
    fill()?;
    assert_eq!(tracker.requests.borrow().len(), 5, "the second time all were hits");

    tracker.get_cached_or_fetch("recommended_tasks", Some("sara"), true)?;
    assert_eq!(tracker.requests.borrow().len(), 6, "asked for again, though it was there");

    let (stats, mut keys) = (tracker.cache.stats()?, tracker.cache.keys()?);
    keys.sort();
    println!("size {}, keys {keys:?}", stats.entries);
    assert_eq!((stats.entries, keys[0].as_str()), (5, "available_tasks:None"));

    assert_eq!(tracker.invalidate_user_cache("gabriel")?, 2);
    assert!(tracker.cache.contains_key("leftovers:gabriella")?);
    assert_eq!(tracker.cache.invalidate_suffix(":None")?, 1, "what is shared");
    assert_eq!(tracker.invalidate_all_user_caches()?, 2);

    fill()?;
    clock.advance(300_000);
    assert_eq!(tracker.cache.stats()?.entries, 0, "five minutes are over");

    for (user, endpoint) in [("gabriel", "plan"), ("gabriel", "leftovers"), ("gabriella", "plan")] {
        tracker.by_user.insert(&(user, endpoint), &String::new())?;
    }
    assert_eq!(tracker.by_user.invalidate_under("gabriel")?, 2);
    Ok(())
}
