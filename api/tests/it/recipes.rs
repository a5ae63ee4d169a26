//! Recipes: under races, at the instants where they turn, over restarts.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use tierce::{Error, Ttl, recipes::Rate};
use tierce_kit::{rng::Rng, seed::cases};

use crate::home::{Home, threads};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Goal: the alert of seed 000 is sent once, however many handlers see the leak, and not again after a restart.
#[test]
fn one_alert_under_a_race() {
    let home = Home::new();
    let mut store = home.open();
    for round in 1..=3_u64 {
        let sent = AtomicUsize::new(0);
        let alerts = store.cooldown("leak", 4 * HOUR).unwrap();
        threads(16, |_| {
            if alerts.try_acquire("cellar").unwrap().is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!(sent.into_inner(), 1, "round {round}");
        assert!(alerts.try_acquire("attic").unwrap().is_ok(), "each sensor by itself");
        store = home.reopen(store);
        let alerts = store.cooldown("leak", 4 * HOUR).unwrap();
        home.clock.advance(3 * 3_600_000);
        let wait = alerts.try_acquire("cellar").unwrap().unwrap_err();
        assert_eq!((wait.remaining, wait.since), (HOUR, 3 * HOUR));
        assert_eq!(alerts.remaining("cellar").unwrap(), Some(wait));
        home.clock.advance(3_600_000);
        assert_eq!(alerts.remaining("cellar").unwrap(), None, "at its very end it is over");
    }
}

#[test]
fn a_permit_is_given_back() {
    let home = Home::new();
    let store = home.open();
    let alerts = store.cooldown("a", 10 * MS).unwrap();
    let first = alerts.try_acquire(&("room", 1)).unwrap().unwrap();
    assert!(alerts.try_acquire(&("room", 1)).unwrap().is_err());
    first.cancel().unwrap();
    let late = alerts.try_acquire(&("room", 1)).unwrap().unwrap();
    // Another one got it in the same millisecond; what is given back late is not that one's.
    assert!(alerts.reset(&("room", 1)).unwrap());
    let other = alerts.try_acquire(&("room", 1)).unwrap().unwrap();
    late.cancel().unwrap();
    assert!(alerts.try_acquire(&("room", 1)).unwrap().is_err());
    home.clock.advance(10);
    let next = alerts.try_acquire(&("room", 1)).unwrap().unwrap();
    other.cancel().unwrap();
    assert!(alerts.try_acquire(&("room", 1)).unwrap().is_err(), "it is the next one's");
    drop(next);
    assert!(!alerts.reset(&("room", 2)).unwrap());
    let free = store.cooldown("free", Duration::ZERO).unwrap();
    assert!((0..3).all(|_| free.try_acquire("a").unwrap().is_ok()));
}

/// Goal: over any history of takes and pauses a throttle lets through what a bucket of tokens holds.
#[test]
fn a_throttle_against_a_bucket() {
    cases("recipes::a_throttle_against_a_bucket", 40, |seed| {
        let (home, mut rng) = (Home::new(), Rng::new(seed));
        let mut store = home.open();
        let (every, burst) = (rng.between(1, 20), rng.between(1, 6) as u32);
        let rate = Rate::new(1, Duration::from_millis(every)).burst(burst);
        // Tokens in parts of `every`, of which each millisecond brings one.
        let full = u64::from(burst) * every;
        let mut bucket = full;
        for _ in 0..80 {
            let throttle = store.throttle("t", rate).unwrap();
            match rng.below(8) {
                0..=4 => {
                    let count = rng.below(u64::from(burst) + 1);
                    let wait = throttle.try_acquire("k", count as u32).unwrap().err();
                    match (count * every).checked_sub(bucket).filter(|missing| *missing > 0) {
                        Some(missing) => assert_eq!(wait, Some(Duration::from_millis(missing))),
                        None => {
                            assert_eq!(wait, None);
                            bucket -= count * every;
                        }
                    }
                }
                5..=6 => {
                    let ms = rng.below(3 * every);
                    home.clock.advance(ms);
                    bucket = full.min(bucket + ms);
                }
                _ => store = home.reopen(store),
            }
        }
        let throttle = store.throttle("t", rate).unwrap();
        assert_eq!(throttle.try_acquire("k", burst + 1).unwrap_err().kind(), "options");
        home.clock.advance(full + 1);
        let stats = store.space_stats("tierce/throttles/t").unwrap().unwrap();
        assert_eq!(stats.entries, 0, "a full bucket takes no space");
    });
}

#[test]
fn a_throttle_under_a_race() {
    let store = Home::new().open();
    let throttle = store.throttle("t", Rate::new(3, Duration::from_secs(1)).burst(10)).unwrap();
    let passed =
        threads(16, |_| (0..5).filter(|_| throttle.try_acquire("k", 1).unwrap().is_ok()).count());
    assert_eq!(passed.into_iter().sum::<usize>(), 10);
    assert!(throttle.reset("k").unwrap());
    assert!(throttle.try_acquire("k", 10).unwrap().is_ok());
    for rate in [Rate::new(0, HOUR), Rate::new(1, Duration::ZERO), Rate::new(1, HOUR).burst(0)] {
        assert_eq!(store.throttle("bad", rate).unwrap_err().kind(), "options");
    }
}

/// Goal: a job runs once in a period, over restarts; one that failed or panicked did not run.
#[test]
fn jobs_run_once_in_a_while() {
    let home = Home::new();
    let store = home.open();
    let ran = threads(8, |_| store.once_every("job", HOUR, || Ok::<_, Error>(())).unwrap());
    assert_eq!(ran.into_iter().flatten().count(), 1);
    let first = store.last_run("job").unwrap();
    assert_eq!(first, Some(store.now()));
    home.clock.advance(3_600_000);
    let failed = store.once_every("job", HOUR, || Err::<(), _>(Error::Closed("the printer")));
    assert_eq!(failed.unwrap_err().kind(), "closed");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        store.once_every("job", HOUR, || -> Result<(), Error> { panic!("on purpose") })
    }));
    assert!(panicked.is_err());
    assert_eq!(store.last_run("job").unwrap(), first, "the one that was done");
    let store = home.reopen(store);
    assert_eq!(store.once_every("job", HOUR, || Ok::<_, Error>(1)).unwrap(), Some(1));
    home.clock.advance(10 * 3_600_000);
    assert_eq!(store.last_run("job").unwrap().map(|at| store.now().0 - at.0), Some(36_000_000));
    assert_eq!(store.last_run("other").unwrap(), None);
}

/// Goal: one at a time for a key, others beside it; whoever panics lets the next one in.
#[test]
fn barriers() {
    let store = Home::new().open();
    let barrier = store.barrier("b").unwrap();
    let inside = [AtomicUsize::new(0), AtomicUsize::new(0)];
    threads(8, |at| {
        for _ in 0..50 {
            let section = || {
                assert_eq!(inside[at % 2].fetch_add(1, Ordering::SeqCst), 0);
                std::thread::yield_now();
                inside[at % 2].fetch_sub(1, Ordering::SeqCst);
            };
            barrier.run(&(at % 2 == 0), section).unwrap();
        }
    });
    let nested = barrier.run("a", || {
        barrier.run("other", || ()).unwrap();
        store.barrier("c").unwrap().run("a", || ()).unwrap();
        barrier.run("a", || ())
    });
    assert_eq!(nested.unwrap().unwrap_err().kind(), "unsupported");
    let panicked = catch_unwind(AssertUnwindSafe(|| barrier.run("a", || panic!("on purpose"))));
    assert!(panicked.is_err());
    assert_eq!(barrier.run("a", || 1).unwrap(), 1);
}

/// Goal: the history in which a lock of diskcache frees the next owner's.
#[test]
fn a_late_release_leaves_the_next_owners_lease() {
    let home = Home::new();
    let store = home.open();
    let a = store.lease("job", "a", 100 * MS).unwrap().unwrap();
    let held = store.lease("job", "b", 100 * MS).unwrap().unwrap_err();
    assert_eq!((held.owner.as_str(), held.remaining), ("a", 100 * MS));
    home.clock.advance(99);
    assert!(a.is_held().unwrap() && store.lease("job", "a", MS).unwrap().is_err());
    home.clock.advance(1);
    assert!(!a.is_held().unwrap(), "at its very end it is over");
    let b = store.lease("job", "b", 100 * MS).unwrap().unwrap();
    assert!(b.token() > a.token());
    assert!(matches!(a.renew(100 * MS), Err(Error::NotHeld { .. })));
    assert!(matches!(a.release(), Err(Error::NotHeld { .. })));
    assert!(b.is_held().unwrap());
    home.clock.advance(60);
    b.renew(100 * MS).unwrap();
    home.clock.advance(60);
    assert!(b.is_held().unwrap());
    let token = b.token();
    drop(b);
    let c = store.lease("job", "c", 100 * MS).unwrap().unwrap();
    assert!(c.token() > token, "a lease that is dropped is given back");
}

/// Goal: one of many gets it; tokens only grow, over restarts and kills.
#[test]
fn leases_under_a_race() {
    let home = Home::new();
    let (mut store, mut last) = (home.open(), 0);
    for _ in 0..4 {
        let leases = threads(16, |at| store.lease("job", &at.to_string(), HOUR).unwrap());
        let leases: Vec<_> = leases.into_iter().filter_map(Result::ok).collect();
        assert_eq!(leases.len(), 1);
        assert!(leases[0].token() > last);
        last = leases[0].token();
        // The program is killed while it holds the lease: nothing can be given back any more.
        store = home.reopen(store);
        drop(leases);
        assert!(store.lease("job", "next", HOUR).unwrap().is_err(), "held until it ends");
        home.clock.advance(3_600_000);
    }
}

#[test]
fn semaphores() {
    let home = Home::new();
    let store = home.open();
    let semaphore = store.semaphore("s", 3).unwrap();
    let permits = threads(16, |_| semaphore.try_acquire(100 * MS).unwrap());
    let permits: Vec<_> = permits.into_iter().filter_map(Result::ok).collect();
    assert_eq!((permits.len(), semaphore.available().unwrap()), (3, 0));
    home.clock.advance(40);
    permits[0].renew(100 * MS).unwrap();
    assert_eq!(semaphore.try_acquire(MS).unwrap().unwrap_err(), 60 * MS);
    home.clock.advance(60);
    assert_eq!(semaphore.available().unwrap(), 2);
    assert!(permits[0].is_held().unwrap() && !permits[1].is_held().unwrap());
    let other = semaphore.try_acquire(HOUR).unwrap().unwrap();
    for (at, permit) in permits.into_iter().enumerate() {
        assert_eq!(permit.release().is_ok(), at == 0, "others are not held any more");
    }
    assert_eq!(semaphore.available().unwrap(), 2);
    let store = home.reopen(store);
    let semaphore = store.semaphore("s", 3).unwrap();
    assert_eq!(semaphore.available().unwrap(), 2, "held by one that is gone, until it ends");
    drop(other);
    home.clock.advance(3_600_000);
    assert_eq!(semaphore.available().unwrap(), 3);
    drop(semaphore.try_acquire(HOUR).unwrap().unwrap());
    assert_eq!(semaphore.available().unwrap(), 3, "a permit that is dropped is given back");
    assert!(store.semaphore("s", 0).is_err());
}

/// Goal: computed once for each arguments, for as long as it lives; failures and zero lifetimes leave nothing.
#[test]
fn memos() {
    let home = Home::new();
    let store = home.open();
    let memo = store.memo::<(String, u32), Option<u32>>("m", 100 * MS).unwrap();
    let computed = AtomicUsize::new(0);
    let compute = || {
        computed.fetch_add(1, Ordering::Relaxed);
        None
    };
    let results = threads(8, |_| memo.call(&("a", 1), compute).unwrap());
    assert!(results.iter().all(Option::is_none));
    assert_eq!(computed.load(Ordering::Relaxed), 1, "nothing is a result, too");
    let store = home.reopen(store);
    let memo = store.memo::<(String, u32), Option<u32>>("m", 100 * MS).unwrap();
    assert_eq!(memo.call(&("a", 1), || unreachable!()).unwrap(), None);
    assert_eq!(memo.call(&("a", 2), || Some(2)).unwrap(), Some(2));
    home.clock.advance(100);
    assert_eq!(memo.call(&("a", 1), || Some(3)).unwrap(), Some(3), "over");
    assert!(memo.forget(&("a", 1)).unwrap() && !memo.forget(&("a", 1)).unwrap());
    let failed = memo.try_call(&("a", 1), || Err::<Option<u32>, _>("no"));
    assert!(matches!(failed, Err(Error::Loader(_))));
    assert!(!memo.knows(&("a", 1)).unwrap());
    let recursive = memo.try_call(&("a", 1), || memo.call(&("a", 1), || None));
    assert!(matches!(recursive, Err(Error::Loader(_) | Error::LoaderRecursion)), "{recursive:?}");
    let looker = store.memo::<(String, u32), Option<u32>>("m", Ttl::For(Duration::ZERO)).unwrap();
    assert_eq!(looker.call(&("b", 1), || Some(1)).unwrap(), Some(1));
    assert!(!looker.knows(&("b", 1)).unwrap(), "looked up, never stored");
    memo.call(&("b", 1), || Some(2)).unwrap();
    assert_eq!(looker.call(&("b", 1), || unreachable!()).unwrap(), Some(2));
}

fn write(path: &Path, content: &str, age: Duration) {
    fs::write(path, content).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

/// Goal: what is made of a file is made once while the file is the same, whichever clock the store has.
#[test]
fn files_that_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let home = Home::new();
    // By a clock of long ago every file is young, by one of the far future none is.
    for (round, jump_ms) in [0, 10_000_000_000_000].into_iter().enumerate() {
        home.clock.advance(jump_ms);
        let mut store = home.open();
        let made = AtomicUsize::new(0);
        let expect = |store: &tierce::Store, text: &str, times: usize| {
            let files = store.file_cache::<String>("f").unwrap();
            let got = files.get_with(&path, |bytes| {
                made.fetch_add(1, Ordering::Relaxed);
                String::from_utf8(bytes.to_vec())
            });
            assert_eq!(got.unwrap(), text, "round {round}");
            assert_eq!(made.load(Ordering::Relaxed), times, "round {round}: {text}");
        };
        write(&path, "", HOUR);
        expect(&store, "", 1);
        expect(&store, "", 1);
        store = home.reopen(store);
        expect(&store, "", 1);
        write(&path, "one", HOUR);
        expect(&store, "one", 2);
        write(&path, "two", HOUR);
        expect(&store, "two", 3);
        write(&path, "two", 2 * HOUR);
        expect(&store, "two", 4);
        fs::write(dir.path().join("g"), "new").unwrap();
        fs::rename(dir.path().join("g"), &path).unwrap();
        expect(&store, "new", 5);

        let files = store.file_cache::<String>("f").unwrap();
        let failed = files.get_with(dir.path().join("h"), |_| Ok::<_, Error>(String::new()));
        assert_eq!(failed.unwrap_err().kind(), "io");
        fs::remove_file(&path).unwrap();
        let space = "tierce/files/f";
        assert_eq!(store.space_stats(space).unwrap().unwrap().entries, 1);
        let gone = files.get_with(&path, |_| Ok::<_, Error>(String::new()));
        assert_eq!(gone.unwrap_err().kind(), "io");
        assert_eq!(
            store.space_stats(space).unwrap().unwrap().entries,
            0,
            "what was made of it is gone"
        );
        fs::write(&path, "x").unwrap();
        let refused = files.get_with(&path, |_| Err::<String, _>("not a setting"));
        assert!(matches!(refused, Err(Error::Loader(_))));
        assert!(!files.forget(&path).unwrap());
        store.close().unwrap();
    }
}

/// Goal: a file that changes within one tick of its file system's clock, and keeps its size, is seen to change.
#[test]
fn a_change_that_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let store = Home::new().open();
    let files = store.file_cache::<String>("f").unwrap();
    let read = |bytes: &[u8]| String::from_utf8(bytes.to_vec());
    for round in 0..200 {
        let content = format!("{:03}", round % 7);
        fs::write(&path, &content).unwrap();
        assert_eq!(files.get_with(&path, read).unwrap(), content);
    }
}
