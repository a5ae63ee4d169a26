//! What only the async face promises: any runtime or none, nothing locked by what was dropped, one load for tasks and
//! threads together.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use tierce::{
    AsyncCache, AsyncMap, AsyncStore, BoxError, Error, LoadPolicy, Loaded, Options, Store, Ttl,
    asynchronous::{AsyncLoading, BoxFuture, Work, block_on},
};
use tierce_engine::io::MemoryDisk;
use tierce_kit::{clock::TestClock, rng::Rng, seed};

type Counts = AsyncCache<String, u32>;
/// A load of a test.
type Task<'a> = Pin<Box<dyn Future<Output = tierce::Result<u32>> + Send + 'a>>;

fn counts() -> (Counts, TestClock) {
    let clock = TestClock::new();
    let options = Options::new().disk(MemoryDisk::new()).clock(clock.clone()).background(false);
    let store = Store::open_with("store", options).unwrap();
    (store.cache("c").unwrap().asynchronous(), clock)
}

/// How often it was woken; wakes its thread, too.
struct Woken(AtomicUsize, Thread);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        self.1.unpark();
    }
}

/// Polls by hand.
struct Hand(Arc<Woken>);

impl Hand {
    fn new() -> Self {
        Self(Arc::new(Woken(AtomicUsize::new(0), thread::current())))
    }

    fn poll<F: Future + Unpin>(&self, future: &mut F) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(&self.0));
        Pin::new(future).poll(&mut Context::from_waker(&waker))
    }

    fn woken(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    /// Waits until it is woken once more than `before`.
    fn wait(&self, before: usize) {
        while self.woken() <= before {
            thread::park();
        }
    }
}

/// Lets others go first, once.
async fn pause() {
    let mut has_paused = false;
    poll_fn(|cx| {
        if has_paused {
            return Poll::Ready(());
        }
        has_paused = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Never ends, and never wakes.
async fn forever() -> u32 {
    std::future::pending().await
}

fn is_shareable<T: Send + Sync + 'static>() {}

fn is_spawnable<T: Send>(future: T) -> T {
    future
}

/// Goal: every handle may go anywhere, and every future onto a runtime of many threads.
#[test]
fn handles_and_futures_may_be_sent() {
    is_shareable::<AsyncStore>();
    is_shareable::<Counts>();
    is_shareable::<AsyncMap<String, u32>>();
    is_shareable::<AsyncLoading<String, u32>>();
    let (c, _) = counts();
    let _: fn(Work<AsyncStore>) = |work| drop(is_spawnable(work));
    drop(is_spawnable(c.get("a")));
    drop(is_spawnable(c.get_many(["a", "b"])));
    drop(is_spawnable(c.entry("a")));
    drop(is_spawnable(c.get_or_insert_with("a", async { 1 })));
    let failing = async { Err::<u32, BoxError>("planned".into()) };
    drop(is_spawnable(c.try_get_or_insert_with("a", failing)));
    drop(is_spawnable(c.force_refresh("a", async { Ok::<_, Error>(1.into()) })));
    let loading = c.loading_with(LoadPolicy::new(), drop, |_, _| async { Ok(1.into()) });
    drop(is_spawnable(loading.get(&"a".into())));
    let owned: Box<dyn Future<Output = tierce::Result<()>> + Send + 'static> =
        Box::new(c.insert("a", &1));
    drop(owned);
}

/// Goal: a read is answered when it is polled first, and wakes nobody.
#[test]
fn reads_are_answered_at_once() {
    let (c, _) = counts();
    block_on(c.insert("a", &1)).unwrap();
    let hand = Hand::new();
    let Poll::Ready(value) = hand.poll(&mut Box::pin(c.get("a"))) else { panic!("it waits") };
    assert_eq!(value.unwrap(), Some(1));
    assert!(hand.poll(&mut Box::pin(c.get("x"))).is_ready());
    assert!(hand.poll(&mut Box::pin(c.contains_key("a"))).is_ready());
    assert!(hand.poll(&mut Box::pin(c.entry("a"))).is_ready());
    assert!(hand.poll(&mut Box::pin(c.ttl("a"))).is_ready());
    assert!(hand.poll(&mut Box::pin(c.get_or_insert_with("a", forever()))).is_ready());
    assert_eq!(hand.woken(), 0);
}

/// Goal: a hundred tasks that ask for one key make one load, without a runtime.
#[test]
fn a_hundred_tasks_make_one_load() {
    let (c, _) = counts();
    let (loads, gate) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut tasks: Vec<Task<'_>> = (0..100)
        .map(|_| -> Task<'_> {
            Box::pin(c.get_or_insert_with("a", async {
                loads.fetch_add(1, Ordering::SeqCst);
                while gate.load(Ordering::SeqCst) == 0 {
                    pause().await;
                }
                7
            }))
        })
        .collect();
    let hand = Hand::new();
    for task in &mut tasks {
        assert!(hand.poll(task).is_pending());
    }
    gate.store(1, Ordering::SeqCst);
    for task in tasks {
        assert_eq!(block_on(task).unwrap(), 7);
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

/// Goal: as [`a_hundred_tasks_make_one_load`], on a runtime with several threads, with threads of the blocking face
/// among them.
#[test]
fn tasks_and_threads_make_one_load() {
    let (c, _) = counts();
    let (loads, asked) = (Arc::new(AtomicUsize::new(0)), 100 + 8);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (c, loads) = (c.clone(), Arc::clone(&loads));
            runtime.spawn(async move {
                let load = async {
                    while c.stats().await.unwrap().misses < asked {
                        tokio::task::yield_now().await;
                    }
                    loads.fetch_add(1, Ordering::SeqCst) as u32
                };
                c.get_or_insert_with("a", load).await
            })
        })
        .collect();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (c, loads) = (c.blocking().clone(), Arc::clone(&loads));
            thread::spawn(move || {
                c.get_or_insert_with("a", || {
                    while c.stats().unwrap().misses < asked {
                        thread::yield_now();
                    }
                    loads.fetch_add(1, Ordering::SeqCst) as u32
                })
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(runtime.block_on(task).unwrap().unwrap(), 0);
    }
    for thread in threads {
        assert_eq!(thread.join().unwrap().unwrap(), 0);
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

/// Goal: a task waits for the load of a thread, and a thread for that of a task.
#[test]
fn each_face_waits_for_the_other() {
    let (c, _) = counts();
    let (begun, has_begun) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let thread = {
        let c = c.blocking().clone();
        thread::spawn(move || {
            c.get_or_insert_with("a", || {
                begun.send(()).unwrap();
                may_go.recv().unwrap();
                1
            })
        })
    };
    has_begun.recv().unwrap();
    let hand = Hand::new();
    let mut task = Box::pin(c.get_or_insert_with("a", forever()));
    assert!(hand.poll(&mut task).is_pending());
    go.send(()).unwrap();
    assert_eq!(block_on(task).unwrap(), 1);
    assert_eq!(thread.join().unwrap().unwrap(), 1);

    let (go, may_go) = tokio::sync::oneshot::channel::<u32>();
    let mut task = Box::pin(c.get_or_insert_with("b", async { may_go.await.unwrap() }));
    assert!(hand.poll(&mut task).is_pending());
    let misses = c.blocking().stats().unwrap().misses;
    let thread = {
        let c = c.blocking().clone();
        thread::spawn(move || c.get_or_insert_with("b", || 0))
    };
    while c.blocking().stats().unwrap().misses == misses {
        thread::yield_now();
    }
    go.send(2).unwrap();
    assert_eq!(block_on(task).unwrap(), 2);
    assert_eq!(thread.join().unwrap().unwrap(), 2);
}

/// Goal: if the one that loads is dropped, the next one loads, a task or a thread, with its own loader.
#[test]
fn a_dropped_leader_is_followed() {
    let (c, _) = counts();
    let hand = Hand::new();
    let mut first = Box::pin(c.get_or_insert_with("a", forever()));
    let mut second = Box::pin(c.get_or_insert_with("a", forever()));
    let mut third = Box::pin(c.get_or_insert_with("a", async { 3 }));
    assert!(hand.poll(&mut first).is_pending() && hand.poll(&mut second).is_pending());
    assert!(hand.poll(&mut third).is_pending());
    let (c, misses) = (c.blocking().clone(), 3);
    let asks = c.clone();
    let thread = thread::spawn(move || asks.get_or_insert_with("a", || 3));
    while c.stats().unwrap().misses == misses {
        thread::yield_now();
    }
    drop(first);
    assert!(hand.woken() >= 2, "all who waited look again");
    // The thread may lead now, or wait for one of the tasks.
    let _ = hand.poll(&mut second);
    drop(second);
    assert_eq!(block_on(third).unwrap(), 3);
    assert_eq!(thread.join().unwrap().unwrap(), 3);
    assert_eq!(c.stats().unwrap().loads, 1);
}

/// Goal: dropped at whatever point, a load leaves no key locked; nor does who waits for it.
/// Method: polls `n` times and drops, for each `n` up to more points than there are: which of them wait for a thread of
/// the store is up to how fast that is. The last one is polled until it ends.
#[test]
fn dropping_at_any_point_locks_nothing() {
    for failing in [false, true] {
        for polls in (0..16).chain([usize::MAX]) {
            let (c, _) = counts();
            let inner = c.clone();
            let load = async {
                pause().await;
                let n = inner
                    .get_or_insert_with("inner", async {
                        pause().await;
                        4
                    })
                    .await?;
                inner.insert("other", &1).await?;
                if failing { Err::<_, BoxError>("planned".into()) } else { Ok(n + 1) }
            };
            let mut task = Box::pin(c.try_get_or_insert_with("a", load));
            let mut waits = Box::pin(c.get_or_insert_with("a", forever()));
            let has_ended = poll_and_drop(polls, &mut task, &mut waits);
            drop(waits);
            drop(task);
            for key in ["a", "inner", "other"] {
                let value = block_on(c.get_or_insert_with(key, async { 9 })).unwrap();
                assert!([1, 4, 5, 9].contains(&value), "{key} after {polls} polls");
                block_on(c.force_refresh(key, async { Ok::<_, Error>(2.into()) })).unwrap();
                assert_eq!(block_on(c.get(key)).unwrap(), Some(2));
            }
            assert!(if polls < 3 { !has_ended } else { has_ended || polls < 16 });
        }
    }
}

/// Polls `task` so often, and `waits` after it; says whether `task` ended.
fn poll_and_drop<F: Future + Unpin, G: Future + Unpin>(
    polls: usize,
    task: &mut F,
    waits: &mut G,
) -> bool {
    let (hand, mut still_waits) = (Hand::new(), true);
    for _ in 0..polls {
        let before = hand.woken();
        if hand.poll(task).is_ready() {
            return true;
        }
        still_waits = still_waits && hand.poll(waits).is_pending();
        hand.wait(before);
    }
    false
}

/// Goal: whatever is polled, dropped, or fails, in whatever order, all who are left get an answer, and no key is
/// locked.
#[test]
fn random_drops_lock_nothing() {
    seed::cases("asynchronous::random_drops_lock_nothing", 40, |seed| {
        let mut rng = Rng::new(seed);
        let (c, _) = counts();
        let keys = ["a", "b", "c"];
        let mut tasks: Vec<Task<'_>> = Vec::new();
        let hand = Hand::new();
        for _ in 0..200 {
            match rng.below(6) {
                0 | 1 => tasks.push(random_load(&c, keys, rng.fork())),
                2 if !tasks.is_empty() => {
                    let at = rng.below(tasks.len() as u64) as usize;
                    drop(tasks.swap_remove(at));
                }
                3 => drop(block_on(c.remove(keys[rng.below(3) as usize])).unwrap()),
                _ if !tasks.is_empty() => {
                    let at = rng.below(tasks.len() as u64) as usize;
                    if hand.poll(&mut tasks[at]).is_ready() {
                        drop(tasks.swap_remove(at));
                    }
                }
                _ => {}
            }
        }
        // Those that are left are polled until they end, as a runtime does.
        while !tasks.is_empty() {
            let before = hand.woken();
            tasks.retain_mut(|task| hand.poll(task).is_pending());
            if !tasks.is_empty() {
                hand.wait(before);
            }
        }
        for key in keys {
            let load = async { Ok::<_, Error>(100.into()) };
            assert_eq!(block_on(c.force_refresh(key, load)).unwrap(), 100);
        }
    });
}

/// A load of one key, which pauses, fails, or loads another key meanwhile.
fn random_load<'a>(c: &'a Counts, keys: [&'a str; 3], mut rng: Rng) -> Task<'a> {
    let key = keys[rng.below(3) as usize];
    let other = keys[rng.below(3) as usize];
    let (pauses, does_nest, fails) = (rng.below(4), rng.one_in(3), rng.one_in(5));
    Box::pin(c.try_get_or_insert_with(key, async move {
        for _ in 0..pauses {
            pause().await;
        }
        if does_nest {
            // Circles are errors here, never a wait without an end.
            c.get_or_insert_with(other, async {
                pause().await;
                1
            })
            .await?;
        }
        if fails { Err::<_, BoxError>("planned".into()) } else { Ok(2) }
    }))
}

/// Goal: two loads that wait for each other in two tasks are found, in whichever order they come to it.
#[test]
fn circles_over_tasks_are_found() {
    let (c, _) = counts();
    let circle = |key, other| {
        let c = c.clone();
        Box::pin(async move {
            let inner = c.clone();
            c.try_get_or_insert_with(key, async move {
                pause().await;
                inner.get_or_insert_with(other, async { 1 }).await
            })
            .await
        })
    };
    let hand = Hand::new();
    let (mut a, mut b) = (circle("a", "b"), circle("b", "a"));
    assert!(hand.poll(&mut a).is_pending() && hand.poll(&mut b).is_pending());
    assert!(hand.poll(&mut a).is_pending(), "it waits for the other");
    let Poll::Ready(Err(error)) = hand.poll(&mut b) else { panic!("it waits for itself") };
    assert!(error.to_string().contains("the key that it is loading"), "{error}");
    let error = block_on(a).unwrap_err();
    assert!(error.to_string().contains("the key that it is loading"), "{error}");
    assert_eq!(block_on(c.get_or_insert_with("a", async { 5 })).unwrap(), 5);
}

/// Goal: two loads of one key in one task are no circle.
#[test]
fn a_task_may_ask_twice() {
    let (c, _) = counts();
    let (one, two) = block_on(async {
        tokio::join!(
            c.get_or_insert_with("a", async {
                pause().await;
                1
            }),
            c.get_or_insert_with("a", async { 2 }),
        )
    });
    assert_eq!((one.unwrap(), two.unwrap()), (1, 1));
}

/// Goal: stale values are served while a task that is spawned replaces them, once; if it is dropped, the next one
/// tries.
#[test]
fn stale_values_are_served_meanwhile() {
    let (c, clock) = counts();
    let (tasks, spawned) = mpsc::channel::<BoxFuture<()>>();
    let loads = Arc::new(AtomicUsize::new(0));
    let policy =
        LoadPolicy::new().ttl(Ttl::seconds(10)).stale_while_revalidate(Duration::from_secs(60));
    let count = Arc::clone(&loads);
    let loading = c.loading_with(
        policy,
        move |task| tasks.send(task).unwrap(),
        move |_, old| {
            let count = Arc::clone(&count);
            async move {
                let number = count.fetch_add(1, Ordering::SeqCst) as u32;
                assert_eq!(old.map(|old| old.value), number.checked_sub(1));
                Ok(Loaded::new(number))
            }
        },
    );
    let get = || block_on(loading.get(&"a".to_owned())).unwrap();
    assert_eq!(get(), 0);
    clock.advance(10_000);
    assert_eq!([get(), get()], [0, 0]);
    drop(spawned.try_recv().unwrap());
    assert!(spawned.try_recv().is_err(), "one for both");
    assert_eq!(get(), 0);
    block_on(spawned.try_recv().unwrap());
    assert_eq!(get(), 1);
    assert_eq!(block_on(loading.refresh(&"a".to_owned())).unwrap(), 2);
    assert_eq!(block_on(c.stats()).unwrap().stale_served, 3);
}

/// Goal: a store is opened, used, closed and opened again by tasks, and a write into what was dropped is an error.
#[test]
fn a_store_comes_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    block_on(async {
        let store = AsyncStore::open(&path).await?;
        let map = store.map::<u32, String>("m").await?;
        map.insert_all([(1, "a".into()), (2, "b".into())]).await?;
        assert_eq!(store.spaces().await?.len(), 1);
        store.sync().await?;
        drop(map);
        store.close().await?;
        let store = AsyncStore::open(&path).await?;
        let map = store.map::<u32, String>("m").await?;
        assert_eq!(map.len().await?, 2);
        assert!(store.drop_space("m").await?);
        assert_eq!(store.space_stats("m").await?, None);
        assert!(map.insert(&3, &"c".into()).await.is_err());
        store.close().await
    })
    .unwrap();
}

/// Runs something on the thread that wakes it.
struct OnWake<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for OnWake<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// Goal: who is told that a load has ended finds it over: another one that is forced then is another one.
#[test]
fn a_load_is_over_when_it_is_told() {
    let (c, _) = counts();
    let mut task = Box::pin(c.get_or_insert_with("a", async {
        pause().await;
        1
    }));
    let mut waits = Box::pin(c.get_or_insert_with("a", forever()));
    assert!(Hand::new().poll(&mut task).is_pending());
    let (refreshed, answer) = mpsc::channel();
    let blocking = c.blocking().clone();
    let waker = Waker::from(Arc::new(OnWake(move || {
        let value = blocking.force_refresh("a", || Ok::<_, Error>(2.into()));
        refreshed.send(value.unwrap()).unwrap();
    })));
    assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(block_on(task).unwrap(), 1);
    assert_eq!(answer.recv().unwrap(), 2);
    assert_eq!(block_on(waits).unwrap(), 1);
}

/// Goal: a timeout of a runtime around a load frees the key.
#[test]
fn a_timeout_frees_the_key() {
    let (c, _) = counts();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let load = c.get_or_insert_with("a", forever());
        assert!(tokio::time::timeout(Duration::from_secs(1), load).await.is_err());
        assert_eq!(c.get_or_insert_with("a", async { 1 }).await.unwrap(), 1);
    });
}
