//! The life of a coordinator: over restarts, with threads, to its end and what is left then.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tierce::{
    Error, Options, Result, Store, Timestamp,
    coordinator::{Coordinator, Executor, FetchError, LastGood, StoreLastGood},
    engine::io::MemoryDisk,
};
use tierce_kit::clock::TestClock;

use crate::coordinator::{SECOND, Scene};

fn open(disk: &MemoryDisk, clock: &TestClock) -> Store {
    let options = Options::new().disk(disk.clone()).clock(clock.clone()).background(false);
    Store::open_with("store", options).unwrap()
}

/// Goal: after a restart the last good value is there at once, stale, with its age; it is refreshed when its interval
/// is over, not before, and not shown beyond its greatest age.
#[test]
fn the_last_good_value_survives_a_restart() {
    let (disk, scene) = (MemoryDisk::new(), Scene::new());
    let build = |store: &Store| {
        let kept = StoreLastGood::new(store, "last good", "plan").unwrap();
        scene.builder().persist(kept).stale_max(Duration::from_secs(3_600)).build()
    };
    let store = open(&disk, &scene.clock);
    let plan = build(&store);
    assert!(plan.data().is_none() && plan.is_stale());
    plan.refresh().unwrap();
    let success = plan.status().last_success_time.unwrap();
    plan.publish(7);
    drop((plan, store));

    scene.pass(100 * SECOND);
    scene.server.fails(None);
    let store = open(&disk, &scene.clock);
    let plan = build(&store);
    assert_eq!(plan.data().as_deref(), Some(&7));
    assert!(plan.is_stale() && plan.status().is_restored);
    assert_eq!(plan.data_age(), Some(Duration::from_secs(100)));
    assert_eq!(plan.status().last_success_time, Some(success));
    let _listening = plan.subscribe(|_| {});
    scene.pass(79 * SECOND);
    assert_eq!(scene.server.asked(), 1, "a restart is no reason to ask earlier");
    scene.pass(SECOND);
    assert_eq!((scene.server.asked(), plan.data().as_deref()), (2, Some(&7)));
    scene.pass(3_421 * SECOND);
    assert_eq!(plan.data(), None, "too old to be shown");
    scene.server.says(8);
    plan.refresh().unwrap();
    assert_eq!(plan.data().as_deref(), Some(&8));
    assert!(!plan.is_stale() && !plan.status().is_restored);
    drop((plan, store));

    let store = open(&disk, &scene.clock);
    let kept = StoreLastGood::new(&store, "last good", "plan").unwrap();
    kept.save(&"no number".to_owned(), store.now()).unwrap();
    let plan = build(&store);
    assert!(plan.data().is_none());
    assert!(plan.status().last_good_error.unwrap().to_string().contains("cannot be decoded"));
    plan.refresh().unwrap();
    assert!(plan.status().last_good_error.is_none());
    assert_eq!(
        StoreLastGood::<u32>::new(&store, "last good", "plan").unwrap().load().unwrap().unwrap().0,
        8
    );
}

/// Goal: a place that cannot keep the value harms nothing else, and is tried again.
#[test]
fn a_value_that_cannot_be_kept_is_reported() {
    struct Broken;
    impl LastGood<u32> for Broken {
        fn load(&self) -> Result<Option<(u32, Timestamp)>> {
            Ok(None)
        }
        fn save(&self, _value: &u32, _at: Timestamp) -> Result<()> {
            Err(Error::Closed("the shelf"))
        }
        fn now(&self) -> Timestamp {
            Timestamp(5)
        }
    }
    let scene = Scene::new();
    let plan = scene.builder().persist(Broken).build();
    plan.refresh().unwrap();
    let status = plan.status();
    assert!(status.last_update_success && status.last_error.is_none());
    assert_eq!(status.last_good_error.unwrap().to_string(), "the shelf is shut down");
    assert_eq!(status.last_success_time, Some(Timestamp(5)));
}

/// Goal: a panic of the clock of the last good value, or of a value's destructor, ends no more than that fetch.
#[test]
fn panics_beside_the_fetch_leave_it_usable() {
    struct Panics(Arc<AtomicUsize>);
    impl LastGood<Fragile> for Panics {
        fn load(&self) -> Result<Option<(Fragile, Timestamp)>> {
            Ok(None)
        }
        fn save(&self, _value: &Fragile, _at: Timestamp) -> Result<()> {
            std::panic::resume_unwind(Box::new("no shelf"))
        }
        fn now(&self) -> Timestamp {
            if self.0.fetch_add(1, Ordering::AcqRel) == 0 {
                std::panic::resume_unwind(Box::new("no clock"));
            }
            Timestamp(5)
        }
    }
    struct Fragile;
    impl Drop for Fragile {
        fn drop(&mut self) {
            if !thread::panicking() {
                std::panic::resume_unwind(Box::new("dropped"));
            }
        }
    }
    let executor = Executor::manual(Arc::new(TestClock::new()));
    let plan = Coordinator::builder(|| Ok::<_, FetchError>(Fragile))
        .executor(&executor)
        .persist(Panics(Arc::default()))
        .build();
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let _listening = plan.subscribe(move |_| {
        count.fetch_add(1, Ordering::AcqRel);
    });
    assert!(matches!(plan.refresh(), Err(Error::LoaderPanicked(_))));
    assert!(!plan.status().is_fetching);
    for _ in 0..3 {
        told.store(0, Ordering::Release);
        plan.refresh().unwrap();
        assert_eq!(told.load(Ordering::Acquire), 1);
        assert!(plan.status().last_good_error.unwrap().to_string().contains("no shelf"));
    }
    // The last one has no coordinator to catch it.
    std::mem::forget(plan.data());
}

/// Goal: fetches never overlap, and all who ask during one share the next.
#[test]
fn refreshes_serialise_and_share() {
    let executor = Executor::new();
    let (begun, has_begun) = mpsc::channel();
    let (go, gate) = mpsc::channel::<()>();
    let (gate, running) = (Mutex::new(gate), AtomicUsize::new(0));
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let fetch = move || {
        assert_eq!(running.fetch_add(1, Ordering::AcqRel), 0, "fetches overlap");
        begun.send(()).unwrap();
        gate.lock().unwrap().recv().unwrap();
        running.fetch_sub(1, Ordering::AcqRel);
        Ok::<_, FetchError>(counter.fetch_add(1, Ordering::AcqRel))
    };
    let plan = Coordinator::builder(fetch).executor(&executor).build();
    thread::scope(|scope| {
        scope.spawn(|| plan.refresh().unwrap());
        has_begun.recv().unwrap();
        for _ in 0..8 {
            scope.spawn(|| {
                plan.refresh().unwrap();
                assert!(
                    plan.data().is_some_and(|number| *number >= 1),
                    "fetched before it was asked for"
                );
            });
        }
        // Whoever comes after the second fetch began makes a third one necessary, and so on: at most one for each.
        for _ in 0..9 {
            go.send(()).unwrap();
        }
    });
    let fetches = count.load(Ordering::Acquire);
    assert!((2..=9).contains(&fetches), "{fetches}");
    executor.close();
}

/// Goal: a shutdown during a fetch drops what it brings, wakes who waits, lets go of listeners, and nothing comes
/// later.
#[test]
fn shutdown_drops_late_results() {
    let executor = Executor::new();
    let (begun, has_begun) = mpsc::channel();
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let fetch = move || {
        begun.send(()).unwrap();
        gate.lock().unwrap().recv().unwrap();
        Ok::<_, FetchError>(1)
    };
    let plan = Coordinator::builder(fetch).executor(&executor).build();
    let held = Arc::new(());
    let inside = Arc::clone(&held);
    let subscription = plan.subscribe(move |_| panic!("told after the end: {inside:?}"));
    has_begun.recv().unwrap();
    thread::scope(|scope| {
        let waits = scope.spawn(|| plan.refresh());
        plan.shutdown();
        assert!(matches!(waits.join().unwrap(), Err(Error::Closed(_))));
    });
    assert_eq!(Arc::strong_count(&held), 1, "the listener is let go of");
    go.send(()).unwrap();
    executor.close();
    assert_eq!(plan.data(), None);
    assert!(matches!(plan.refresh(), Err(Error::Closed(_))));
    assert!(!plan.publish(2));
    plan.request_refresh();
    plan.set_error("late");
    assert!(plan.status().last_error.is_none() && plan.status().next_poll_in.is_none());
    drop((subscription, plan.subscribe(|_| {})));
    assert_eq!(plan.status().listeners, 0);
}

/// Goal: the last handle takes everything with it: timers, listeners, the fetch, what it kept; no subscription holds
/// it.
#[test]
fn the_last_handle_leaves_nothing_behind() {
    let scene = Scene::new();
    let (in_fetch, in_listener) = (Arc::new(()), Arc::new(()));
    let (fetch_holds, listener_holds) = (Arc::clone(&in_fetch), Arc::clone(&in_listener));
    let fetch = move || Ok::<_, FetchError>(Arc::strong_count(&fetch_holds));
    let plan = Coordinator::builder(fetch).executor(&scene.executor).build();
    let subscription = plan.subscribe(move |_| {
        let _ = &listener_holds;
    });
    let gone = plan.subscribe(|_| {});
    scene.pass(0);
    plan.request_refresh();
    scene.pass(180 * SECOND);
    plan.request_refresh();
    drop(gone);
    let data = Arc::downgrade(&plan.data().unwrap());
    drop((plan.clone(), plan));
    assert_eq!((Arc::strong_count(&in_fetch), Arc::strong_count(&in_listener)), (1, 1));
    assert_eq!(data.strong_count(), 0);
    assert_eq!(
        {
            scene.clock.advance(1_000 * SECOND);
            scene.executor.tick()
        },
        0,
        "no timer is left"
    );
    drop(subscription);
}

/// Goal: the last handle may go while a fetch runs: what that brings is dropped, and who still listens is not told.
#[test]
fn the_last_handle_may_go_during_a_fetch() {
    let executor = Executor::new();
    let (begun, has_begun) = mpsc::channel();
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let fetch = move || {
        begun.send(()).unwrap();
        gate.lock().unwrap().recv().unwrap();
        Ok::<_, FetchError>(1)
    };
    let plan = Coordinator::builder(fetch).executor(&executor).build();
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let _listening = plan.subscribe(move |_| {
        count.fetch_add(1, Ordering::AcqRel);
    });
    has_begun.recv().unwrap();
    drop(plan);
    go.send(()).unwrap();
    executor.close();
    assert_eq!((told.load(Ordering::Acquire), Arc::strong_count(&told)), (0, 1));
}

/// Goal: a subscription made and dropped a thousand times leaves nothing, and polling stays as it was.
#[test]
fn subscriptions_do_not_pile_up() {
    let scene = Scene::new();
    let plan = scene.builder().build();
    let held = Arc::new(());
    for _ in 0..1_000 {
        let inside = Arc::clone(&held);
        drop(plan.subscribe(move |_| drop(Arc::clone(&inside))));
    }
    assert_eq!((Arc::strong_count(&held), plan.status().listeners), (1, 0));
    scene.pass(10_000 * SECOND);
    assert_eq!(scene.server.asked(), 0);
}

/// Goal: once its executor is closed a coordinator polls no more, and can still be refreshed by hand.
#[test]
fn a_closed_executor_leaves_refresh() {
    let scene = Scene::new();
    let plan = scene.builder().build();
    let _listening = plan.subscribe(|_| {});
    scene.executor.close();
    plan.request_refresh();
    scene.pass(10_000 * SECOND);
    assert_eq!(scene.server.asked(), 0);
    plan.refresh().unwrap();
    assert_eq!(plan.data().as_deref(), Some(&1));
}

/// Goal: with real threads and a real clock it polls as well.
#[test]
fn it_polls_on_threads() {
    let executor = Executor::new();
    let plan = Coordinator::builder(|| Ok::<_, FetchError>(()))
        .executor(&executor)
        .every(Duration::from_millis(1));
    let plan = plan.offset(Duration::ZERO).build();
    let (tell, told) = mpsc::channel();
    let listening = plan.subscribe(move |_| {
        let _ = tell.send(());
    });
    for _ in 0..5 {
        told.recv().unwrap();
    }
    drop(listening);
    // The channel ends: the listener is let go of.
    told.iter().for_each(drop);
    executor.close();
}

/// Goal: a task refreshes as a thread does: the same value, the same errors, shared with who refreshes meanwhile;
/// unpolled it does nothing, and it needs no thread of the task's own.
#[test]
fn tasks_refresh_as_threads_do() {
    use tierce::asynchronous::block_on;
    let scene = Scene::new();
    let plan = scene.builder().build();
    drop(plan.refresh_task());
    scene.executor.tick();
    assert_eq!(scene.server.asked(), 0, "it was never polled");

    let own = Executor::new();
    let (fails, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (fail, count) = (Arc::clone(&fails), Arc::clone(&asked));
    let fetch = move || match (fail.load(Ordering::SeqCst), count.fetch_add(1, Ordering::SeqCst)) {
        (0, number) => Ok(number),
        (1, _) => Err(FetchError::new("down")),
        _ => panic!("planned"),
    };
    let plan = Coordinator::builder(fetch).executor(&own).build();
    block_on(plan.first_refresh_task()).unwrap();
    assert_eq!(plan.data().as_deref(), Some(&0));
    for (fail, kind) in [(1, "loader"), (2, "loader")] {
        fails.store(fail, Ordering::SeqCst);
        let errors = [plan.refresh().unwrap_err(), block_on(plan.refresh_task()).unwrap_err()];
        assert_eq!(errors[0].to_string(), errors[1].to_string());
        assert!(errors.iter().all(|error| error.kind() == kind), "{errors:?}");
        assert_eq!(plan.data().as_deref(), Some(&0), "the old value stays");
    }
    fails.store(0, Ordering::SeqCst);
    let before = asked.load(Ordering::SeqCst);
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| block_on(plan.refresh_task()).unwrap());
        }
    });
    assert!(asked.load(Ordering::SeqCst) - before <= 20);
    let late = plan.refresh_task();
    own.close();
    assert_eq!(block_on(late).unwrap_err().kind(), "closed");
}

/// Goal: coordinators whose fetches refresh each other, on threads of their own, are told so in the place of waiting
/// for each other for ever; a third that one of them fetches inside its own fetch makes no difference.
#[test]
fn a_circle_of_fetches_is_refused() {
    use std::sync::{Barrier, OnceLock};
    type Slot = Arc<OnceLock<Coordinator<u32>>>;
    let slots: [Slot; 3] = Default::default();
    let met = Arc::new(Barrier::new(2));
    let fetch_of = |other: &Slot, meets: bool| {
        // Weak, or the three would keep each other alive for ever.
        let (other, met) = (Arc::downgrade(other), Arc::clone(&met));
        let meets = std::sync::atomic::AtomicBool::new(meets);
        move || {
            // Only the first time: what failed may be fetched again by who waited for it.
            if meets.swap(false, Ordering::SeqCst) {
                met.wait();
            }
            let asked = other.upgrade().unwrap().get().unwrap().refresh();
            asked.map(|()| 1).map_err(|error| FetchError::new(error.to_string()))
        }
    };
    // The first fetches the third on its own thread, which waits for the second, which waits for the first.
    let own = Executor::new();
    let build = |other, meets| Coordinator::builder(fetch_of(other, meets)).executor(&own).build();
    assert!(slots[0].set(build(&slots[2], false)).is_ok());
    assert!(slots[1].set(build(&slots[0], true)).is_ok());
    assert!(slots[2].set(build(&slots[1], true)).is_ok());
    let (ended, ends) = mpsc::channel();
    for slot in [0, 1] {
        let (slot, ended) = (Arc::clone(&slots[slot]), ended.clone());
        thread::spawn(move || ended.send(slot.get().unwrap().refresh()));
    }
    for _ in 0..2 {
        let error = ends.recv_timeout(Duration::from_secs(60)).expect("nobody waits for ever");
        let error = error.unwrap_err().to_string();
        assert!(error.ends_with("a loader asked for the key that it is loading"), "{error}");
    }
}
