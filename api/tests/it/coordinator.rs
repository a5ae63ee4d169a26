//! Coordinators by a clock that the test moves; with threads only where threads are the matter.

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tierce::{
    Error, Options, Result, Store, Timestamp,
    coordinator::{
        Backoff, Builder, Coordinator, FetchError, LastGood, Runtime, StoreLastGood, Update,
    },
    engine::io::{Clock as _, MemoryDisk},
};
use tierce_kit::clock::TestClock;

const SECOND: u64 = 1_000;

/// A server whose answer a test sets, and which counts how often it was asked.
#[derive(Clone)]
struct Server(Arc<Mutex<Answer>>);

struct Answer {
    value: Result<u32, Option<Duration>>,
    asked: usize,
}

impl Server {
    fn new(value: u32) -> Self {
        Self(Arc::new(Mutex::new(Answer { value: Ok(value), asked: 0 })))
    }

    fn says(&self, value: u32) {
        self.0.lock().unwrap().value = Ok(value);
    }

    fn fails(&self, retry_after: Option<Duration>) {
        self.0.lock().unwrap().value = Err(retry_after);
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().asked
    }

    fn fetch(&self) -> Result<u32, FetchError> {
        let mut answer = self.0.lock().unwrap();
        answer.asked += 1;
        answer.value.map_err(|retry_after| {
            let error = FetchError::new("the server is down");
            retry_after.map_or_else(
                || FetchError::new("the server is down"),
                |after| error.retry_after(after),
            )
        })
    }
}

struct Scene {
    clock: TestClock,
    runtime: Runtime,
    server: Server,
}

impl Scene {
    fn new() -> Self {
        let clock = TestClock::new().seeded(4);
        let runtime = Runtime::manual(Arc::new(clock.clone()));
        Self { clock, runtime, server: Server::new(1) }
    }

    /// Polls every 180 s, without a random offset.
    fn builder(&self) -> Builder<u32> {
        let server = self.server.clone();
        Coordinator::builder(move || server.fetch()).runtime(&self.runtime).offset(Duration::ZERO)
    }

    fn pass(&self, ms: u64) {
        self.clock.advance(ms);
        self.runtime.tick();
    }
}

/// What a listener was told: the value and whether it was well.
type Told = Arc<Mutex<Vec<(Option<u32>, bool)>>>;

fn listener(told: &Told) -> impl Fn(&Update<u32>) + Send + Sync + 'static {
    let told = Arc::clone(told);
    move |update| {
        told.lock()
            .unwrap()
            .push((update.data.as_deref().copied(), update.status.last_update_success));
    }
}

fn take(told: &Told) -> Vec<(Option<u32>, bool)> {
    std::mem::take(&mut told.lock().unwrap())
}

/// Goal: it polls every 180 seconds while somebody listens, and not otherwise; a manual refresh always works.
#[test]
fn polls_only_while_somebody_listens() {
    let scene = Scene::new();
    let plan = scene.builder().build();
    scene.pass(10_000 * SECOND);
    assert_eq!(scene.server.asked(), 0, "nobody listens");
    plan.refresh().unwrap();
    assert_eq!(plan.status().next_poll_in, None);
    let (first, second) = (plan.subscribe(|_| {}), plan.subscribe(|_| {}));
    assert_eq!(plan.status().next_poll_in, Some(Duration::from_secs(180)));
    scene.pass(180 * SECOND - 1);
    assert_eq!(scene.server.asked(), 1);
    scene.pass(1);
    assert_eq!(scene.server.asked(), 2);
    scene.pass(90 * SECOND);
    drop(first);
    plan.refresh().unwrap();
    scene.pass(179 * SECOND);
    assert_eq!(scene.server.asked(), 3, "a refresh begins the interval anew");
    scene.pass(SECOND);
    assert_eq!(scene.server.asked(), 4);
    drop(second);
    scene.pass(10_000 * SECOND);
    assert_eq!((scene.server.asked(), plan.status().listeners), (4, 0));
    let _third = plan.subscribe(|_| {});
    scene.pass(0);
    assert_eq!(scene.server.asked(), 5, "an interval is over since");
}

/// Goal: the twenty polls an hour that the seed counts with.
#[test]
fn an_hour_has_twenty_polls() {
    let scene = Scene::new();
    let plan = scene.builder().build();
    plan.first_refresh().unwrap();
    let _listening = plan.subscribe(|_| {});
    (0..3_600).for_each(|_| scene.pass(SECOND));
    assert_eq!(scene.server.asked(), 1 + 20);
}

/// Goal: many requests are one fetch now and one at the end; one during a fetch is exactly one more.
#[test]
fn requests_are_debounced() {
    let scene = Scene::new();
    let slot: Arc<Mutex<Option<Weak<Coordinator<u32>>>>> = Arc::default();
    let (server, inside) = (scene.server.clone(), Arc::clone(&slot));
    let fetch = move || {
        let plan = inside.lock().unwrap().take().and_then(|plan| plan.upgrade());
        if let Some(plan) = plan {
            (0..3).for_each(|_| plan.request_refresh());
        }
        server.fetch()
    };
    let plan = Arc::new(Coordinator::builder(fetch).runtime(&scene.runtime).build());
    (0..5).for_each(|_| plan.request_refresh());
    scene.pass(0);
    assert_eq!(scene.server.asked(), 1, "at once");
    (0..5).for_each(|_| plan.request_refresh());
    scene.pass(10 * SECOND - 1);
    assert_eq!(scene.server.asked(), 1, "the cooldown is ten seconds");
    scene.pass(1);
    assert_eq!(scene.server.asked(), 2, "one for all of them");
    scene.pass(1_000 * SECOND);
    assert_eq!(scene.server.asked(), 2);

    *slot.lock().unwrap() = Some(Arc::downgrade(&plan));
    plan.request_refresh();
    scene.pass(0);
    assert_eq!(scene.server.asked(), 3);
    scene.pass(10 * SECOND);
    assert_eq!(scene.server.asked(), 4, "one more for those made during the fetch");
    scene.pass(1_000 * SECOND);
    assert_eq!(scene.server.asked(), 4);
}

/// Goal: a failure keeps the data and is told once, the recovery too; the status counts; an error is no empty success.
#[test]
fn failures_keep_the_data_and_are_told_once() {
    let scene = Scene::new();
    let plan = scene.builder().build();
    let told = Told::default();
    let _listening = plan.subscribe(listener(&told));
    scene.pass(0);
    let success_ms = scene.clock.wall_ms();
    assert_eq!(take(&told), [(Some(1), true)]);
    scene.server.fails(None);
    (0..3).for_each(|_| scene.pass(180 * SECOND));
    assert_eq!(take(&told), [(Some(1), false)]);
    let status = plan.status();
    assert!(!status.last_update_success && plan.is_stale());
    assert_eq!(status.consecutive_failures, 3);
    assert_eq!(status.last_success_time, Some(Timestamp(success_ms)));
    assert_eq!(status.last_error.unwrap().to_string(), "the server is down");
    assert_eq!(plan.data().as_deref(), Some(&1));
    assert_eq!(plan.data_age(), Some(Duration::from_secs(540)));
    scene.server.says(1);
    (0..2).for_each(|_| scene.pass(180 * SECOND));
    assert_eq!(take(&told), [(Some(1), true), (Some(1), true)]);
    let status = plan.status();
    assert!(status.last_update_success && status.last_error.is_none() && !plan.is_stale());
    assert_eq!(status.consecutive_failures, 0);
}

/// Goal: the time of the last success is that of this success when listeners look.
#[test]
fn the_time_is_set_before_listeners_are_told() {
    let scene = Scene::new();
    let plan = scene.builder().build();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (into, clock) = (Arc::clone(&seen), scene.clock.clone());
    let _listening = plan.subscribe(move |update: &Update<u32>| {
        into.lock()
            .unwrap()
            .push(update.status.last_success_time == Some(Timestamp(clock.wall_ms())));
    });
    scene.pass(0);
    scene.pass(180 * SECOND);
    assert_eq!(*seen.lock().unwrap(), [true, true]);
}

/// Goal: `retry_after` is heeded once; the backoff doubles, stays under its cap, and is the same for the same seed; a
/// first refresh heeds neither.
#[test]
fn waits_after_failures() {
    let scene = Scene::new();
    let plan = scene.builder().build();
    let _listening = plan.subscribe(|_| {});
    scene.server.fails(Some(Duration::from_secs(600)));
    scene.pass(0);
    assert_eq!(plan.status().next_poll_in, Some(Duration::from_secs(600)));
    scene.server.fails(None);
    scene.pass(600 * SECOND);
    assert_eq!(scene.server.asked(), 2);
    assert_eq!(plan.status().next_poll_in, Some(Duration::from_secs(180)));

    let waits = || {
        let scene = Scene::new();
        let backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(60));
        let plan = scene.builder().backoff(backoff).build();
        scene.server.fails(Some(Duration::from_secs(999)));
        let _listening = plan.subscribe(|_| {});
        plan.first_refresh().unwrap_err();
        let first = plan.status().next_poll_in.unwrap();
        assert_eq!(first, Duration::from_secs(180), "the interval");
        scene.server.fails(None);
        let mut waits = vec![first];
        for _ in 0..6 {
            scene.pass(u64::try_from(waits.last().unwrap().as_millis()).unwrap());
            waits.push(plan.status().next_poll_in.unwrap());
        }
        assert_eq!(scene.server.asked(), 7);
        waits
    };
    let found = waits();
    for (wait, whole) in found[1..].iter().zip([20_u64, 40, 60, 60, 60, 60]) {
        let whole = Duration::from_secs(whole);
        assert!(*wait >= whole / 2 && *wait <= whole, "{wait:?} of {whole:?}");
    }
    assert!(found[3..].windows(2).any(|pair| pair[0] != pair[1]), "there is jitter: {found:?}");
    assert_eq!(found, waits());
}

/// Goal: coordinators made together do not poll together.
#[test]
fn offsets_differ_between_instances() {
    let scene = Scene::new();
    let (first, second) = [(); 2]
        .map(|()| Coordinator::builder(|| Ok::<_, FetchError>(1)).runtime(&scene.runtime).build())
        .into();
    let _listening = (first.subscribe(|_| {}), second.subscribe(|_| {}));
    scene.pass(0);
    let waits = [&first, &second].map(|plan| plan.status().next_poll_in.unwrap());
    assert_ne!(waits[0], waits[1]);
    for wait in waits {
        assert!(wait >= Duration::from_secs(180) && wait <= Duration::from_secs(198), "{wait:?}");
    }
}

/// Goal: a push resets the timer, counts as a success and is told; a reported error is told once.
#[test]
fn pushes() {
    let scene = Scene::new();
    let plan = scene.builder().build();
    let told = Told::default();
    let _listening = plan.subscribe(listener(&told));
    scene.pass(0);
    scene.pass(100 * SECOND);
    assert!(plan.publish(2));
    scene.pass(179 * SECOND);
    assert_eq!(scene.server.asked(), 1, "the push was as good as a fetch");
    assert_eq!(take(&told), [(Some(1), true), (Some(2), true)]);
    plan.set_error("disconnected");
    plan.set_error("still disconnected");
    assert_eq!(take(&told), [(Some(2), false)]);
    assert_eq!(plan.status().consecutive_failures, 2);
    assert_eq!(plan.status().last_error.unwrap().to_string(), "still disconnected");
    assert!(plan.publish(2));
    assert_eq!(take(&told), [(Some(2), true)]);
    assert!(plan.status().last_error.is_none());
}

/// Goal: if asked, only changes are told, whether fetched or pushed, and recoveries.
#[test]
fn only_changes_are_told() {
    let scene = Scene::new();
    let plan = scene.builder().always_update(false).build();
    let told = Told::default();
    let _listening = plan.subscribe(listener(&told));
    scene.pass(0);
    scene.pass(180 * SECOND);
    plan.publish(1);
    assert_eq!(take(&told), [(Some(1), true)]);
    plan.publish(3);
    scene.pass(180 * SECOND);
    assert_eq!(take(&told), [(Some(3), true), (Some(1), true)]);
    scene.server.fails(None);
    plan.refresh().unwrap_err();
    scene.server.says(1);
    plan.refresh().unwrap();
    assert_eq!(take(&told), [(Some(1), false), (Some(1), true)]);
}

/// Goal: a value pushed during a fetch is not overwritten by it, and one more fetch follows.
#[test]
fn a_push_overtakes_a_fetch() {
    let scene = Scene::new();
    let slot: Arc<Mutex<Option<Weak<Coordinator<u32>>>>> = Arc::default();
    let (server, inside) = (scene.server.clone(), Arc::clone(&slot));
    let fetch = move || {
        if let Some(plan) = inside.lock().unwrap().take().and_then(|plan| plan.upgrade()) {
            plan.publish(9);
        }
        server.fetch()
    };
    let plan = Arc::new(Coordinator::builder(fetch).runtime(&scene.runtime).build());
    *slot.lock().unwrap() = Some(Arc::downgrade(&plan));
    plan.refresh().unwrap();
    assert_eq!(plan.data().as_deref(), Some(&9));
    scene.pass(10 * SECOND);
    assert_eq!((scene.server.asked(), plan.data().as_deref()), (2, Some(&1)));
}

/// Goal: the first refresh tells its caller why there is no data; reading without data fetches, reading fresh data not.
#[test]
fn the_first_refresh_returns_the_error() {
    let scene = Scene::new();
    let plan = scene.builder().build();
    scene.server.fails(None);
    let error = plan.first_refresh().unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        ("loader", "the loader failed: the server is down")
    );
    assert!(plan.get_or_refresh().is_err() && plan.data().is_none() && plan.data_age().is_none());
    scene.server.says(5);
    assert_eq!(*plan.get_or_refresh().unwrap(), 5);
    scene.server.says(6);
    assert_eq!(*plan.get_or_refresh().unwrap(), 5);
    scene.pass(361 * SECOND);
    assert_eq!(*plan.get_or_refresh().unwrap(), 6, "older than two intervals");
}

/// Goal: a panic of the fetch is a failure like others, and the next fetch works.
#[test]
fn a_fetch_that_panics_fails() {
    let runtime = Runtime::manual(Arc::new(TestClock::new()));
    let panics = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&panics);
    let fetch = move || {
        if flag.load(Ordering::Acquire) {
            // Without the panic hook: nothing is printed.
            std::panic::resume_unwind(Box::new("planted"));
        }
        Ok::<_, FetchError>(1)
    };
    let plan = Coordinator::builder(fetch).runtime(&runtime).build();
    assert!(matches!(plan.refresh(), Err(Error::LoaderPanicked(text)) if text == "planted"));
    assert_eq!(plan.status().last_error.unwrap().to_string(), "the fetch panicked: planted");
    panics.store(false, Ordering::Release);
    plan.refresh().unwrap();
    assert_eq!(plan.data().as_deref(), Some(&1));
}

/// Goal: a fetch that refreshes its own coordinator gets an error, not a deadlock; a listener may do so; one that
/// panics harms nobody.
#[test]
fn calls_from_inside() {
    let runtime = Runtime::manual(Arc::new(TestClock::new()));
    let slot: Arc<Mutex<Option<Weak<Coordinator<usize>>>>> = Arc::default();
    let (inside, found) = (Arc::clone(&slot), Arc::new(Mutex::new(None)));
    let into = Arc::clone(&found);
    let fetch = move || {
        let plan = inside.lock().unwrap().clone().and_then(|plan| plan.upgrade());
        *into.lock().unwrap() = plan.map(|plan| plan.refresh().unwrap_err().to_string());
        Ok::<_, FetchError>(1)
    };
    let plan = Arc::new(Coordinator::builder(fetch).runtime(&runtime).build());
    *slot.lock().unwrap() = Some(Arc::downgrade(&plan));
    plan.refresh().unwrap();
    assert_eq!(
        found.lock().unwrap().as_deref(),
        Some("a loader asked for the key that it is loading")
    );

    let calls = Arc::new(AtomicUsize::new(0));
    let (count, again) = (Arc::clone(&calls), Arc::downgrade(&plan));
    let _panics = plan.subscribe(|_| std::panic::resume_unwind(Box::new("planted")));
    let _refreshes = plan.subscribe(move |_| {
        if count.fetch_add(1, Ordering::AcqRel) == 0 {
            again.upgrade().unwrap().refresh().unwrap();
        }
    });
    plan.refresh().unwrap();
    assert_eq!(calls.load(Ordering::Acquire), 2);
}

fn open(disk: &MemoryDisk, clock: &TestClock) -> Store {
    let options = Options::new().disk(disk.clone()).clock(clock.clone()).background(false);
    Store::open_with("store", options).unwrap()
}

/// Goal: after a restart the last good value is there at once, stale, with its age; it is refreshed when its interval is
/// over, not before, and not shown beyond its greatest age.
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

/// Goal: fetches never overlap, and all who ask during one share the next.
#[test]
fn refreshes_serialise_and_share() {
    let runtime = Runtime::new();
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
    let plan = Coordinator::builder(fetch).runtime(&runtime).build();
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
    runtime.close();
}

/// Goal: a shutdown during a fetch drops what it brings, wakes who waits, lets go of listeners, and nothing comes later.
#[test]
fn shutdown_drops_late_results() {
    let runtime = Runtime::new();
    let (begun, has_begun) = mpsc::channel();
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let fetch = move || {
        begun.send(()).unwrap();
        gate.lock().unwrap().recv().unwrap();
        Ok::<_, FetchError>(1)
    };
    let plan = Coordinator::builder(fetch).runtime(&runtime).build();
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
    runtime.close();
    assert_eq!(plan.data(), None);
    assert!(matches!(plan.refresh(), Err(Error::Closed(_))));
    assert!(!plan.publish(2));
    plan.request_refresh();
    plan.set_error("late");
    assert!(plan.status().last_error.is_none() && plan.status().next_poll_in.is_none());
    drop((subscription, plan.subscribe(|_| {})));
    assert_eq!(plan.status().listeners, 0);
}

/// Goal: the last handle takes everything with it: timers, listeners, the fetch, what it kept; no subscription holds it.
#[test]
fn the_last_handle_leaves_nothing_behind() {
    let scene = Scene::new();
    let (in_fetch, in_listener) = (Arc::new(()), Arc::new(()));
    let (fetch_holds, listener_holds) = (Arc::clone(&in_fetch), Arc::clone(&in_listener));
    let fetch = move || Ok::<_, FetchError>(Arc::strong_count(&fetch_holds));
    let plan = Coordinator::builder(fetch).runtime(&scene.runtime).build();
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
            scene.runtime.tick()
        },
        0,
        "no timer is left"
    );
    drop(subscription);
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

/// Goal: once its runtime is closed a coordinator polls no more, and can still be refreshed by hand.
#[test]
fn a_closed_runtime_leaves_refresh() {
    let scene = Scene::new();
    let plan = scene.builder().build();
    let _listening = plan.subscribe(|_| {});
    scene.runtime.close();
    plan.request_refresh();
    scene.pass(10_000 * SECOND);
    assert_eq!(scene.server.asked(), 0);
    plan.refresh().unwrap();
    assert_eq!(plan.data().as_deref(), Some(&1));
}

/// Goal: with real threads and a real clock it polls as well.
#[test]
fn it_polls_on_threads() {
    let runtime = Runtime::new();
    let plan = Coordinator::builder(|| Ok::<_, FetchError>(()))
        .runtime(&runtime)
        .every(Duration::from_millis(1));
    let plan = plan.offset(Duration::ZERO).build();
    let (tell, told) = mpsc::channel();
    let listening = plan.subscribe(move |_| drop(tell.send(())));
    for _ in 0..5 {
        told.recv().unwrap();
    }
    drop(listening);
    // The channel ends: the listener is let go of.
    told.iter().for_each(drop);
    runtime.close();
}
