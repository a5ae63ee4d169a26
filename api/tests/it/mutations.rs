//! What follows a write: the caches, the coordinators, and those who are told, in this order.

use std::{
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tierce::{
    Error, Store,
    coordinator::{Affected, Coordinator, Executor, FetchError, Mutations},
};
use tierce_kit::clock::TestClock;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn manual() -> Executor {
    Executor::manual(Arc::new(TestClock::new()))
}

fn plan_of(log: &Log, executor: &Executor, user: &'static str) -> Coordinator<&'static str> {
    let log = log.clone();
    let fetch = move || {
        log.add(format!("fetch {user}"));
        if user == "broken" { Err(FetchError::new("the server is down")) } else { Ok(user) }
    };
    Coordinator::builder(fetch).executor(executor).build()
}

/// Goal: the order of the seed's write path: the write, every invalidation, every coordinator, the event.
#[test]
fn the_order_of_the_write_path() {
    let (log, executor) = (Log::default(), manual());
    let mutations = Mutations::new(&executor);
    for name in ["users", "shared"] {
        let log = log.clone();
        mutations.invalidates(name, move |affected: &Affected| {
            assert!(affected.is_everyone(), "unless said otherwise");
            log.add(format!("invalidate {name}"));
            Ok(2)
        });
    }
    let plans = ["gabriel", "sara"].map(|user| plan_of(&log, &executor, user));
    plans.iter().for_each(|plan| mutations.refreshes("plan", plan));
    let seen = log.clone();
    let events = mutations.events_where(8, move |event| {
        seen.add(format!("event {}", event.kind));
        true
    });
    let done = mutations
        .mutation("task_completed")
        .concerns(|value: &i32| {
            log.add("whom");
            assert_eq!(*value, 7);
            Affected::users(plans.iter().map(|plan| *plan.data().unwrap()))
        })
        .run(|| {
            log.add("write");
            Ok::<_, Error>(7)
        })
        .unwrap();
    let order =
        ["write", "invalidate users", "invalidate shared", "fetch gabriel", "fetch sara", "whom"];
    assert_eq!(
        log.take(),
        order
            .map(str::to_owned)
            .into_iter()
            .chain(["event task_completed".into()])
            .collect::<Vec<_>>()
    );
    assert_eq!((done.value, done.invalidated, done.refreshed, done.failed.len()), (7, 4, 2, 0));
    assert_eq!(
        done.event.affected.names(),
        ["gabriel", "sara"],
        "asked once the new data is there"
    );
    assert_eq!(events.try_next(), Some(done.event));
}

/// Goal: a write that fails changes nothing: caches, coordinators and listeners never learn of it.
#[test]
fn a_failed_write_is_followed_by_nothing() {
    let (log, executor) = (Log::default(), manual());
    let mutations = Mutations::new(&executor);
    let cleared = log.clone();
    mutations.invalidates("users", move |_| {
        cleared.add("invalidate");
        Ok(1)
    });
    let plan = plan_of(&log, &executor, "sara");
    mutations.refreshes("plan", &plan);
    let events = mutations.events(8);
    let failed = mutations.mutation::<()>("task_created").run(|| Err("refused"));
    assert_eq!(failed.unwrap_err(), "refused");
    assert!(log.take().is_empty() && events.try_next().is_none());
    let done = mutations.mutation("task_created").run(|| Ok::<_, Error>(())).unwrap();
    assert_eq!(done.event.sequence, 1);
}

/// Goal: what fails after the write is reported and holds up nothing; the event is sent, to everyone if nobody knows.
#[test]
fn failures_after_the_write_are_reported() {
    let (log, executor) = (Log::default(), manual());
    let mutations = Mutations::new(&executor);
    mutations.invalidates("remote", |_| Err(Error::Closed("the remote cache")));
    mutations.invalidates("odd", |_| std::panic::resume_unwind(Box::new("planted")));
    mutations.invalidates("local", |_| Ok(3));
    let (broken, plan) = (plan_of(&log, &executor, "broken"), plan_of(&log, &executor, "sara"));
    mutations.refreshes("broken plan", &broken);
    mutations.refreshes("plan", &plan);
    let events = mutations.events_for("sara", 8);
    let done = mutations
        .mutation("task_completed")
        .concerns(|()| std::panic::resume_unwind(Box::new("planted")))
        .run(|| Ok::<_, Error>(()))
        .unwrap();
    let failed: Vec<_> =
        done.failed.iter().map(|failed| format!("{}: {}", failed.what, failed.error)).collect();
    assert_eq!(
        failed,
        [
            "remote: the remote cache is shut down",
            "odd: the loader failed: it panicked: planted",
            "broken plan: the loader failed: the server is down",
            "the list of the users concerned: the loader failed: it panicked: planted",
        ]
    );
    assert_eq!((done.invalidated, done.refreshed), (3, 1));
    assert!(events.try_next().unwrap().affected.is_everyone());
}

/// Goal: listeners get what concerns them: their own name and no longer one, everything without names, their own
/// filter.
#[test]
fn listeners_get_what_concerns_them() {
    let mutations = Mutations::new(&manual());
    let gabriella = mutations.events_for("gabriella", 8);
    let sara = mutations.events_for("sara", 8);
    let deletions = mutations.events_where(8, |event| event.kind == "task_deleted");
    let odd = mutations.events_where(8, |_| std::panic::resume_unwind(Box::new("planted")));
    let tell = |kind: &str, users: &[&str]| {
        let users = Affected::users(users.iter().copied());
        drop(mutations.mutation(kind).concerns(|()| users).run(|| Ok::<_, Error>(())).unwrap());
    };
    tell("task_completed", &["gabriel", "sara"]);
    tell("task_deleted", &[]);
    let kinds = |events: &tierce::coordinator::Events| {
        std::iter::from_fn(|| events.try_next()).map(|event| event.kind.clone()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&gabriella), ["task_deleted"], "not those of gabriel");
    assert_eq!(kinds(&sara), ["task_completed", "task_deleted"]);
    assert_eq!(kinds(&deletions), ["task_deleted"]);
    assert_eq!(kinds(&odd), ["task_completed", "task_deleted"], "a filter that fails lets through");
}

/// Goal: a listener that does not look holds nobody up and loses the oldest, counted; one that is gone is forgotten.
#[test]
fn listeners_are_bounded() {
    let mutations = Mutations::new(&manual());
    let (slow, gone) = (mutations.events(3), mutations.events(3));
    drop(gone);
    for _ in 0..10 {
        mutations.mutation("task_updated").run(|| Ok::<_, Error>(())).unwrap();
    }
    assert_eq!(slow.lost(), 7);
    let left: Vec<_> = std::iter::from_fn(|| slow.try_next()).map(|event| event.sequence).collect();
    assert_eq!(left, [8, 9, 10]);
}

/// Goal: a cache's entries of one user end with the mutation of one user, and not those of a longer name; shared
/// entries end with each, and are not those of a user called None.
#[test]
fn caches_are_invalidated_for_one_user_or_for_all() {
    let store = Store::in_memory().unwrap();
    let plans = store.cache::<(String, String), String>("plans").unwrap();
    let shared = store.cache::<String, String>("shared").unwrap();
    let fill = || {
        for user in ["gabriel", "gabriella", "None"] {
            plans.insert(&("plan", user), &"walk".to_owned()).unwrap();
        }
        shared.insert("available", &"swim".to_owned()).unwrap();
    };
    let mutations = Mutations::new(&manual());
    let inside = plans.clone();
    mutations.invalidates("plans", move |affected| {
        inside.invalidate_keys(|(_, user)| affected.includes(user))
    });
    // The shared entries hold everybody's tasks: they end each time.
    let inside = shared.clone();
    mutations.invalidates("shared", move |_| inside.clear());
    fill();
    let only = mutations.mutation("task_completed").invalidate(Affected::users(["gabriel"]));
    assert_eq!(only.run(|| Ok::<_, Error>(())).unwrap().invalidated, 2);
    let mut left: Vec<_> = plans.keys().unwrap().into_iter().map(|(_, user)| user).collect();
    left.sort();
    assert_eq!(left, ["None", "gabriella"]);
    assert!(shared.is_empty().unwrap());
    fill();
    let all = mutations.mutation("task_completed").run(|| Ok::<_, Error>(())).unwrap();
    assert_eq!(all.invalidated, 4);
    assert!(plans.is_empty().unwrap() && shared.is_empty().unwrap());
}

/// Goal: all coordinators fetch at the same time, and the mutation waits for all.
///
/// Method: each fetch waits for the others; one after the other they would wait for ever.
#[test]
fn coordinators_are_refreshed_at_once() {
    let executor = Executor::new();
    let mutations = Mutations::new(&executor);
    let (together, ended) = (Arc::new(Barrier::new(4)), Arc::new(AtomicUsize::new(0)));
    let plans: Vec<_> = (0..4)
        .map(|_| {
            let (together, ended) = (Arc::clone(&together), Arc::clone(&ended));
            let fetch = move || {
                together.wait();
                ended.fetch_add(1, Ordering::AcqRel);
                Ok::<_, FetchError>(())
            };
            Coordinator::builder(fetch).executor(&executor).build()
        })
        .collect();
    plans.iter().for_each(|plan| mutations.refreshes("plan", plan));
    let done = mutations.mutation("task_completed").run(|| Ok::<_, Error>(())).unwrap();
    assert_eq!((done.refreshed, ended.load(Ordering::Acquire)), (4, 4));
    executor.close();
}

/// Goal: coordinators that are gone or shut down are left out, and the bus keeps none alive.
#[test]
fn coordinators_that_are_gone_are_left_out() {
    let (log, executor) = (Log::default(), manual());
    let mutations = Mutations::new(&executor);
    let (dropped, shut, stays) = (
        plan_of(&log, &executor, "a"),
        plan_of(&log, &executor, "b"),
        plan_of(&log, &executor, "c"),
    );
    for plan in [&dropped, &shut, &stays] {
        mutations.refreshes("plan", plan);
    }
    drop(dropped);
    shut.shutdown();
    let done = mutations.mutation("task_completed").run(|| Ok::<_, Error>(())).unwrap();
    assert_eq!((done.refreshed, done.failed.len(), log.take()), (1, 0, vec!["fetch c".to_owned()]));
    assert!(format!("{mutations:?}").contains("coordinators: 1"));
}

/// Goal: mutations from many threads are all told, each once, and to every listener in the same order.
#[test]
fn mutations_of_many_threads_are_told_in_one_order() {
    let mutations = Mutations::new(&manual());
    let listeners = [mutations.events(1_000), mutations.events(1_000)];
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    mutations.mutation("task_updated").run(|| Ok::<_, Error>(())).unwrap();
                }
            });
        }
    });
    for listener in listeners {
        let sequence: Vec<_> =
            std::iter::from_fn(|| listener.try_next()).map(|event| event.sequence).collect();
        assert_eq!(sequence, (1..=200).collect::<Vec<_>>());
    }
}

/// Goal: who waits for an event gets it when it comes.
#[test]
fn a_listener_may_wait() {
    let mutations = Mutations::new(&manual());
    let events = mutations.events(8);
    thread::scope(|scope| {
        let waits = scope.spawn(|| events.next_within(Duration::from_secs(600)));
        mutations.mutation("task_updated").run(|| Ok::<_, Error>(())).unwrap();
        assert_eq!(waits.join().unwrap().unwrap().sequence, 1);
    });
}

/// Goal: nor does another thread that helps with the refreshes of such a mutation.
///
/// Method: three coordinators for three threads. Two of the fetches wait for each other, so that the fetch that mutates
/// falls to any of the threads.
#[test]
fn a_mutation_inside_a_fetch_is_not_waited_for_by_helpers() {
    let executor = Executor::new();
    for _ in 0..20 {
        let mutations = Mutations::new(&executor);
        let (inside, found) = (mutations.clone(), Log::default());
        let log = found.clone();
        let fetch = move || {
            let done = inside.mutation("seen").run(|| Ok::<_, Error>(())).unwrap();
            log.add(format!("{} {}", done.refreshed, done.failed[0].error));
            Ok::<_, FetchError>(())
        };
        let mutating = Coordinator::builder(fetch).executor(&executor).build();
        let together = Arc::new(Barrier::new(2));
        let others = [(); 2].map(|()| {
            let together = Arc::clone(&together);
            let fetch = move || {
                together.wait();
                Ok::<_, FetchError>(())
            };
            Coordinator::builder(fetch).executor(&executor).build()
        });
        others.iter().for_each(|other| mutations.refreshes("other", other));
        mutations.refreshes("mutating", &mutating);
        mutating.refresh().unwrap();
        assert_eq!(found.take(), ["2 a loader asked for the key that it is loading"]);
    }
    executor.close();
}

/// Goal: a mutation inside a fetch does not wait for that very fetch.
#[test]
fn a_mutation_inside_a_fetch_does_not_deadlock() {
    let executor = manual();
    let mutations = Mutations::new(&executor);
    let (inside, found) = (mutations.clone(), Log::default());
    let log = found.clone();
    let fetch = move || {
        let done = inside.mutation("seen").run(|| Ok::<_, Error>(())).unwrap();
        log.add(done.failed[0].error.to_string());
        Ok::<_, FetchError>(())
    };
    let plan = Coordinator::builder(fetch).executor(&executor).build();
    mutations.refreshes("plan", &plan);
    plan.refresh().unwrap();
    assert_eq!(found.take(), ["a loader asked for the key that it is loading"]);
}
