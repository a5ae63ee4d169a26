//! Seed 001, events and background work: jobs survive a restart, each is done by one worker, and one that a worker did
//! not finish is done by another.

use std::{error::Error, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use tierce::{Options, Store, Ttl};
use tierce_kit::clock::TestClock;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Job {
    Clean { directory: String },
    Notify(String),
}

fn open(dir: &Path, clock: &TestClock) -> tierce::Result<Store> {
    Store::open_with(dir.join("store"), Options::new().clock(clock.clone()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let clock = TestClock::new();
    let store = open(dir.path(), &clock)?;
    let jobs = store.queue::<Job>("jobs")?;
    jobs.push(&Job::Clean { directory: "cache".to_owned() })?;
    jobs.push_for(&Job::Notify("door open".to_owned()), Ttl::minutes(5))?;
    jobs.push(&Job::Notify("backup done".to_owned()))?;

    // A worker takes the first one, and is killed.
    let minute = Duration::from_secs(60);
    let unfinished = jobs.lease(minute)?.ok_or("there are jobs")?;
    let (id, deliveries) = (unfinished.id(), unfinished.deliveries());
    assert_eq!(deliveries, 1);
    drop((unfinished, jobs));
    store.close()?;

    let store = open(dir.path(), &clock)?;
    let jobs = store.queue::<Job>("jobs")?;
    assert_eq!((jobs.len()?, jobs.waiting()?), (3, 2));
    clock.advance(10 * 60_000);
    let again = jobs.lease(minute)?.ok_or("the lease has ended")?;
    assert_eq!((again.id(), again.deliveries()), (id, 2));
    assert_eq!(*again, Job::Clean { directory: "cache".to_owned() });
    again.ack()?;
    // Nobody wants to hear of the door ten minutes later.
    assert_eq!(jobs.pull()?, Some(Job::Notify("backup done".to_owned())));
    assert!(jobs.is_empty()?);
    Ok(())
}
