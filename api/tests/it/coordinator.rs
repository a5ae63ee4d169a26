//! Coordinators by a clock that the test moves; with threads only where threads are the matter.

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tierce::{
    Error, Timestamp,
    coordinator::{Backoff, Builder, Coordinator, Executor, FetchError, Update},
    engine::io::Clock as _,
};
use tierce_kit::clock::TestClock;

pub(crate) const SECOND: u64 = 1_000;

/// A server whose answer a test sets, and which counts how often it was asked.
#[derive(Clone)]
pub(crate) struct Server(Arc<Mutex<Answer>>);

struct Answer {
    value: Result<u32, Option<Duration>>,
    asked: usize,
}

impl Server {
    fn new(value: u32) -> Self {
        Self(Arc::new(Mutex::new(Answer { value: Ok(value), asked: 0 })))
    }

    pub(crate) fn says(&self, value: u32) {
        self.0.lock().unwrap().value = Ok(value);
    }

    pub(crate) fn fails(&self, retry_after: Option<Duration>) {
        self.0.lock().unwrap().value = Err(retry_after);
    }

    pub(crate) fn asked(&self) -> usize {
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

pub(crate) struct Scene {
    pub(crate) clock: TestClock,
    pub(crate) executor: Executor,
    pub(crate) server: Server,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let clock = TestClock::new().seeded(4);
        let executor = Executor::manual(Arc::new(clock.clone()));
        Self { clock, executor, server: Server::new(1) }
    }

    /// Polls every 180 s, without a random offset.
    pub(crate) fn builder(&self) -> Builder<u32> {
        let server = self.server.clone();
        Coordinator::builder(move || server.fetch()).executor(&self.executor).offset(Duration::ZERO)
    }

    pub(crate) fn pass(&self, ms: u64) {
        self.clock.advance(ms);
        self.executor.tick();
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
    let plan = Arc::new(Coordinator::builder(fetch).executor(&scene.executor).build());
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
        .map(|()| Coordinator::builder(|| Ok::<_, FetchError>(1)).executor(&scene.executor).build())
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
    let plan = Arc::new(Coordinator::builder(fetch).executor(&scene.executor).build());
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
    let executor = Executor::manual(Arc::new(TestClock::new()));
    let panics = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&panics);
    let fetch = move || {
        if flag.load(Ordering::Acquire) {
            // Without the panic hook: nothing is printed.
            std::panic::resume_unwind(Box::new("planted"));
        }
        Ok::<_, FetchError>(1)
    };
    let plan = Coordinator::builder(fetch).executor(&executor).build();
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
    let executor = Executor::manual(Arc::new(TestClock::new()));
    let slot: Arc<Mutex<Option<Weak<Coordinator<usize>>>>> = Arc::default();
    let (inside, found) = (Arc::clone(&slot), Arc::new(Mutex::new(None)));
    let into = Arc::clone(&found);
    let fetch = move || {
        let plan = inside.lock().unwrap().clone().and_then(|plan| plan.upgrade());
        *into.lock().unwrap() = plan.map(|plan| plan.refresh().unwrap_err().to_string());
        Ok::<_, FetchError>(1)
    };
    let plan = Arc::new(Coordinator::builder(fetch).executor(&executor).build());
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
