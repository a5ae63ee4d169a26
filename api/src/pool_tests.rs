//! The threads, driven by channels and by a clock that stands still: no test sleeps, none looks at how long a thing
//! took.

use std::sync::{
    Barrier,
    atomic::{AtomicU64, AtomicUsize},
    mpsc,
};

use tierce_kit::clock::TestClock;

use super::*;

const LONG: Duration = Duration::from_secs(600);

fn wait_until(mut done: impl FnMut() -> bool) {
    while !done() {
        thread::yield_now();
    }
}

fn quiet_panic() -> Job {
    // `resume_unwind` does not call the panic hook: nothing is printed.
    Box::new(|| std::panic::resume_unwind(Box::new("planted")))
}

/// Goal: jobs run, on threads with names, and no more of these than were asked for.
#[test]
fn workers_are_few_and_named() {
    let pool = Pool::with_limits(2, 100, LONG);
    let (names, got) = mpsc::channel();
    for _ in 0..50 {
        let names = names.clone();
        pool.spawn(Box::new(move || {
            names.send(thread::current().name().map(str::to_owned)).unwrap();
        }))
        .unwrap();
    }
    let mut names: Vec<_> = got.iter().take(50).map(Option::unwrap).collect();
    names.sort();
    names.dedup();
    assert!(names.iter().all(|name| name == "tierce-1" || name == "tierce-2"), "{names:?}");
    pool.close();
    assert_eq!(hold(&pool.0.0.state).threads.len(), 0);
}

/// Goal: a full queue makes the caller work, refuses where that was asked, and loses nothing.
#[test]
fn a_full_queue_is_paid_for_by_the_caller() {
    let pool = Pool::with_limits(1, 1, LONG);
    let (go, gate) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel();
    pool.spawn(Box::new(move || {
        begun.send(()).unwrap();
        gate.recv().unwrap();
    }))
    .unwrap();
    has_begun.recv().unwrap();
    let (done, got) = mpsc::channel();
    for _ in 0..2 {
        let done = done.clone();
        pool.spawn(Box::new(move || done.send(thread::current().id()).unwrap())).unwrap();
    }
    assert_eq!(got.recv().unwrap(), thread::current().id());
    assert!(!pool.try_spawn(Box::new(|| panic!("there was no room for it"))));
    go.send(()).unwrap();
    assert_ne!(got.recv().unwrap(), thread::current().id());
    pool.close();
}

/// Goal: a panic ends a job and nothing else.
#[test]
fn a_panic_does_not_kill_the_worker() {
    let pool = Pool::with_limits(1, 100, LONG);
    pool.spawn(quiet_panic()).unwrap();
    let (done, got) = mpsc::channel();
    pool.spawn(Box::new(move || done.send(()).unwrap())).unwrap();
    got.recv().unwrap();
    assert_eq!(hold(&pool.0.0.state).started, 1);
    pool.close();
}

/// Goal: closing ends what runs, drops what waits, and refuses the rest.
#[test]
fn close_drops_what_waits() {
    let pool = Pool::with_limits(1, 100, LONG);
    let (go, gate) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel();
    let ended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ended);
    pool.spawn(Box::new(move || {
        begun.send(()).unwrap();
        gate.recv().unwrap();
        flag.store(true, Ordering::Release);
    }))
    .unwrap();
    has_begun.recv().unwrap();
    let waits = Arc::new(());
    let held = Arc::clone(&waits);
    pool.spawn(Box::new(move || drop(held))).unwrap();
    drop(pool.0.0.shut());
    assert_eq!(Arc::strong_count(&waits), 1, "dropped at once");
    go.send(()).unwrap();
    pool.close();
    assert!(ended.load(Ordering::Acquire), "close waits for what runs");
    assert!(matches!(pool.spawn(Box::new(|| {})), Err(Error::Closed(_))));
}

/// Goal: a job may close its own pool, and may hold its last handle.
#[test]
fn a_job_may_end_its_own_pool() {
    let pool = Pool::with_limits(1, 100, LONG);
    let core = Arc::downgrade(&pool.0.0);
    let (done, got) = mpsc::channel();
    let (given, give) = mpsc::channel::<Pool>();
    pool.spawn(Box::new(move || {
        let pool = give.recv().unwrap();
        pool.close();
        drop(pool);
        done.send(()).unwrap();
    }))
    .unwrap();
    given.send(pool).unwrap();
    got.recv().unwrap();
    wait_until(|| core.strong_count() == 0);
}

/// Goal: threads that have nothing to do end, and come back.
#[test]
fn idle_workers_end_and_come_back() {
    let pool = Pool::with_limits(2, 100, Duration::from_millis(1));
    for round in 1..=3 {
        let (done, got) = mpsc::channel();
        pool.spawn(Box::new(move || done.send(()).unwrap())).unwrap();
        got.recv().unwrap();
        wait_until(|| hold(&pool.0.0.state).workers == 0);
        assert_eq!(hold(&pool.0.0.state).started, round);
    }
    assert!(hold(&pool.0.0.state).threads.len() <= 3);
    pool.close();
}

/// Goal: the last handle takes the threads with it, also those of the timer.
#[test]
fn dropping_the_last_handle_ends_the_threads() {
    let pool = Pool::with_limits(2, 100, LONG);
    let timer = Timer::new(&pool);
    let (workers, timers) = (Arc::downgrade(&pool.0.0), Arc::downgrade(&timer.0.0));
    let (done, got) = mpsc::channel();
    let _waits = timer.after(LONG, Box::new(|| {}));
    let _soon = timer.after(Duration::ZERO, Box::new(move || done.send(()).unwrap()));
    got.recv().unwrap();
    drop((pool, timer));
    wait_until(|| workers.strong_count() == 0 && timers.strong_count() == 0);
}

/// Goal: all jobs of a set run, several at once, and one that runs on a worker may have a set of its own even if every
/// worker does.
#[test]
fn sets_run_at_once_and_may_be_nested() {
    let pool = Pool::with_limits(2, 100, LONG);
    let together = Arc::new(Barrier::new(2));
    let met: Vec<Job> = (0..2)
        .map(|_| {
            let together = Arc::clone(&together);
            Box::new(move || {
                together.wait();
            }) as Job
        })
        .collect();
    pool.run_all(met);
    let count = Arc::new(AtomicUsize::new(0));
    let outer: Vec<Job> = (0..8)
        .map(|_| {
            let (pool, count) = (pool.clone(), Arc::clone(&count));
            Box::new(move || {
                let inner = (0..8).map(|_| {
                    let count = Arc::clone(&count);
                    Box::new(move || {
                        count.fetch_add(1, Ordering::Relaxed);
                    }) as Job
                });
                let inner = inner.chain([quiet_panic()]).collect();
                pool.run_all(inner);
            }) as Job
        })
        .collect();
    pool.run_all(outer);
    assert_eq!(count.load(Ordering::Relaxed), 64);
    pool.run_all(Vec::new());
    pool.close();
}

/// Goal: without threads, jobs run when the clock was moved and the test says so, and not earlier.
#[test]
fn a_manual_timer_follows_its_clock() {
    let clock = TestClock::new();
    let pool = Pool::manual();
    let timer = Timer::with_clock(&pool, Arc::new(clock.clone()));
    let count = Arc::new(AtomicU64::new(0));
    let add = |n| {
        let count = Arc::clone(&count);
        move || {
            count.fetch_add(n, Ordering::Relaxed);
        }
    };
    let _first = timer.after(Duration::from_millis(10), Box::new(add(1)));
    let _once = timer.after(Duration::from_nanos(14_000_001), Box::new(add(100)));
    let cancelled = timer.after(Duration::from_millis(5), Box::new(add(1_000)));
    drop(cancelled);
    for (step_ms, sum) in [(9, 0), (1, 1), (4, 1), (1, 101), (100, 101)] {
        clock.advance(step_ms);
        timer.tick();
        assert_eq!(count.load(Ordering::Relaxed), sum);
    }
    pool.spawn(Box::new(add(1_000))).unwrap();
    assert_eq!((timer.tick(), timer.tick()), (1, 0));
    assert_eq!(count.load(Ordering::Relaxed), 1_101);
    assert_eq!(hold(&pool.0.0.state).started, 0);
    timer.close();
    let _late = timer.after(Duration::ZERO, Box::new(add(1)));
    assert!(timer.is_empty() && timer.tick() == 0);
}

/// Goal: a timer whose thread the system refuses has it started by the pool, without another job being added.
#[test]
fn a_refused_timer_is_tried_again() {
    let pool = Pool::with_limits(1, 100, LONG);
    let timer = Timer::new(&pool);
    hold(&timer.0.0.state).refused = 3;
    let (done, got) = mpsc::channel();
    let _handle = timer.after(Duration::from_millis(1), Box::new(move || done.send(()).unwrap()));
    got.recv().unwrap();
    assert_eq!(hold(&timer.0.0.state).refused, 0);
    timer.close();
    pool.close();
}

/// Goal: closing a timer cancels what waits and forgets it, and its thread ends; a job may close its own timer.
#[test]
fn a_closed_timer_leaks_nothing() {
    let pool = Pool::with_limits(1, 100, LONG);
    let timer = Timer::new(&pool);
    let held = Arc::new(());
    let once = Arc::clone(&held);
    let _once = timer.after(LONG, Box::new(move || drop(once)));
    timer.close();
    assert_eq!(Arc::strong_count(&held), 1);
    assert!(!hold(&timer.0.0.state).runs);

    let timer = Timer::new(&pool);
    let core = Arc::downgrade(&timer.0.0);
    let (done, got) = mpsc::channel();
    let (inside, again) = (timer.clone(), timer);
    let handle = again.after(
        Duration::ZERO,
        Box::new(move || {
            inside.close();
            done.send(()).unwrap();
        }),
    );
    got.recv().unwrap();
    drop((handle, again));
    wait_until(|| core.strong_count() == 0);
    pool.close();
}
