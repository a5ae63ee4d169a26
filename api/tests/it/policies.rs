//! When states are saved: policies, their algebra, and the loop around handlers.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tierce::{
    Timestamp,
    engine::{Options, io::MemoryDisk},
    state::{
        AfterBytes, Debounced, EngineStore, Every, MemoryStore, Moment, Object, OnChange, OnDelta,
        OnPublish, OnShutdown, Policy, Reading, Runtime, SavePolicy, State, StateStore, Telemetry,
        What,
    },
    testing::{Harness, ManualClock, ProbeStore, seeded},
};

const SECOND: Duration = Duration::from_secs(1);

fn moment(dirty: bool, published: bool) -> Moment {
    let mut moment = Moment::default();
    (moment.dirty, moment.published, moment.turn) = (dirty, published, true);
    moment
}

fn count(state: &State) -> Reading {
    state.set("count", state.get_or("count", 0)? + 1)?;
    Ok(Some(json!({"count": state.get::<u64>("count")?})))
}

/// The seed's table: what each policy says to each turn.
#[test]
fn when_each_policy_saves() {
    let cases: [(Policy, [bool; 4]); 7] = [
        (OnPublish.into(), [false, false, true, true]),
        (OnChange.into(), [false, true, false, true]),
        (OnShutdown.into(), [false; 4]),
        (OnPublish | OnChange, [false, true, true, true]),
        (OnPublish & OnChange, [false, false, false, true]),
        (!Policy::from(OnPublish), [true, true, false, false]),
        ((OnPublish | OnShutdown) & OnChange, [false, false, false, true]),
    ];
    for (mut policy, wanted) in cases {
        let moments = [(false, false), (true, false), (false, true), (true, true)];
        let said = moments.map(|(dirty, published)| policy.should_save(&moment(dirty, published)));
        assert_eq!(said, wanted, "{policy:?}");
    }
}

#[test]
fn compositions_are_flat_and_readable() {
    let any = OnPublish | OnChange | (OnShutdown | Every::turns(3));
    assert_eq!(any.members().len(), 4);
    assert_eq!(format!("{any:?}"), "OnPublish | OnChange | OnShutdown | Every(3 turns)");
    let all = (OnPublish & OnChange) & (OnShutdown & AfterBytes(9));
    assert_eq!(all.members().len(), 4);
    assert_eq!(format!("{all:?}"), "OnPublish & OnChange & OnShutdown & AfterBytes(9)");
    let mixed = !((OnPublish | OnChange) & Debounced::new(SECOND, 5 * SECOND));
    assert_eq!(format!("{mixed:?}"), "!((OnPublish | OnChange) & Debounced(1s, at most 5s))");
    assert_eq!(format!("{:?}", !!mixed), "!((OnPublish | OnChange) & Debounced(1s, at most 5s))");
    assert_eq!(format!("{:?}", !OnChange), "!OnChange");
}

#[derive(Clone, Debug, Default)]
struct Counts(Arc<AtomicUsize>);

impl SavePolicy for Counts {
    fn should_save(&mut self, _moment: &Moment) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        false
    }
}

/// Goal: a member that counts is asked each time, whatever the others say and wherever it stands.
#[test]
fn every_member_is_asked_every_time() {
    let counts = Counts::default();
    let mine = || Policy::from(counts.clone());
    let policies = [
        OnPublish | mine(),
        mine() | OnPublish,
        OnShutdown & mine(),
        mine() & OnShutdown,
        !(OnShutdown & mine()),
        (OnPublish | OnChange) & (OnShutdown | mine()),
    ];
    let number = policies.len();
    for mut policy in policies {
        for _ in 0..6 {
            policy.should_save(&moment(true, true));
        }
    }
    assert_eq!(counts.0.load(Ordering::Relaxed), 6 * number);
}

/// Goal: each turn of a loop asks once, and policies that count save every so often.
#[test]
fn policies_that_count() {
    let runs: [(Policy, usize); 6] = [
        (Every::turns(3).into(), 3),
        (Every::turns(0).into(), 10),
        (Every::changes(5).into(), 2),
        (Every::changes(0).into(), 10),
        (AfterBytes(4 * 13).into(), 2),
        (OnShutdown & Every::turns(2), 0),
    ];
    for (policy, saves) in runs {
        let name = format!("{policy:?}");
        let mut harness = Harness::new();
        harness.telemetry("sensor", policy, count).unwrap();
        assert_eq!(harness.turns(10).saved, saves, "{name}");
    }
}

#[test]
fn time_policies() {
    let run = |policy: Policy, turns: usize| {
        let mut harness = Harness::new();
        harness.telemetry("sensor", policy, count).unwrap();
        harness.turns(turns).saved
    };
    let every = |seconds| Policy::from(Every::duration(seconds * SECOND));
    // Turns are at 0 s, 10 s, ... 90 s.
    assert_eq!(run(every(0), 10), 10);
    assert_eq!(run(every(30), 10), 3);
    assert_eq!(run(every(31), 10), 2);
    let debounced = |delay, max| Policy::from(Debounced::new(delay * SECOND, max * SECOND));
    assert_eq!(run(debounced(0, 100), 10), 10, "a delay of zero is none");
    assert_eq!(run(debounced(11, 30), 9), 2, "it is never quiet: the longest wait counts");
    assert_eq!(run(debounced(11, 1_000), 10), 0);
    assert_eq!(run(debounced(1_000, 20), 9), 3, "the shorter wait wins");
}

/// Goal: a debounced save does not wait for the next turn, and 100 changes are one write of what is there then.
#[test]
fn a_debounced_save_comes_when_it_is_quiet() {
    let (clock, store) = (ManualClock::new(), probe());
    let mut runtime = Runtime::new(store.clone()).clock(clock.clone());
    let policy = Debounced::new(2 * SECOND, 60 * SECOND);
    let mut calls = 0;
    let handler = move |state: &State| {
        calls += 1;
        if calls == 1 {
            for n in 0..100 {
                state.set("n", n)?;
            }
        }
        Ok(None)
    };
    runtime.telemetry("sensor", 3600 * SECOND, policy, handler).unwrap();
    assert_eq!(runtime.next_due(), Some(Duration::ZERO));
    assert_eq!(runtime.step().saved, 0);
    assert_eq!(runtime.next_due(), Some(2 * SECOND));
    clock.advance(SECOND);
    // A change from outside a turn: quiet begins anew, once it is seen.
    runtime.state("sensor").unwrap().set("n", 100).unwrap();
    let outcome = runtime.step();
    assert_eq!((outcome.ran, outcome.saved), (0, 0));
    clock.advance(SECOND);
    assert_eq!(runtime.step().saved, 0, "the change is seen");
    clock.advance(2 * SECOND);
    let outcome = runtime.step();
    assert_eq!((outcome.ran, outcome.saved), (0, 1));
    assert_eq!(store.saves("sensor").len(), 1);
    assert_eq!(store.saves("sensor")[0]["n"], 100);
    assert_eq!(runtime.next_due(), Some(3596 * SECOND), "nothing else waits");
}

fn probe() -> Arc<ProbeStore> {
    Arc::new(ProbeStore::new(Arc::new(MemoryStore::new())))
}

/// Goal: a wish to be woken that the rest of a composition vetoes does not keep the loop busy.
#[test]
fn a_vetoed_wish_is_heard_once() {
    let clock = ManualClock::new();
    let mut runtime = Runtime::new(probe()).clock(clock.clone());
    let policy = Debounced::new(SECOND, SECOND) & OnPublish;
    let handler = |state: &State| state.set("a", 1).map(|()| None).map_err(Into::into);
    runtime.telemetry("sensor", 60 * SECOND, policy, handler).unwrap();
    runtime.step();
    clock.advance(SECOND);
    runtime.step();
    assert_eq!(runtime.next_due(), Some(59 * SECOND));
}

/// The seed's test of a handler, as it is written there.
#[test]
fn the_harness_saves_what_the_handler_counted() {
    let mut harness = Harness::new();
    harness.telemetry("sensor", OnShutdown, count).unwrap();
    let run = harness.run(1);
    assert_eq!((run.ran, run.published, run.saved), (1, 1, 0));
    assert!(run.failures.is_empty());
    let wanted = json!({"count": 1});
    assert_eq!(harness.store().load("sensor").unwrap().as_ref(), wanted.as_object());
    assert_eq!(harness.turns(3).ran, 0, "nothing runs after the stop");

    let mut harness = Harness::with_store(seeded([("sensor", json!({"count": 99}))]));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handler = {
        let seen = Arc::clone(&seen);
        move |state: &State| {
            seen.lock().unwrap().push(state.get::<u64>("count")?);
            count(state)
        }
    };
    harness.telemetry("sensor", OnPublish, handler).unwrap();
    harness.run(2);
    assert_eq!(*seen.lock().unwrap(), [Some(99), Some(100)]);
    assert_eq!(harness.store().loads("sensor"), 1, "loaded once, before the first call");
}

/// Goal: a handler that changes and then fails, or panics, has its change saved under OnChange, not under OnPublish.
#[test]
fn a_failed_handler_does_not_lose_what_it_changed() {
    let fail = |state: &State| {
        count(state)?;
        Err("on purpose".into())
    };
    let panic = |state: &State| {
        count(state)?;
        panic!("on purpose");
    };
    let mut harness = Harness::new();
    harness.telemetry("fails", OnChange, fail).unwrap();
    harness.telemetry("panics", OnChange, panic).unwrap();
    harness.telemetry("publishes", OnPublish, fail).unwrap();
    harness.telemetry("works", OnPublish, count).unwrap();
    let turns = harness.turns(2);
    let told: Vec<_> = turns.failures.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 6, "{told:?}");
    assert_eq!(told[0], "handler of device `fails`: on purpose");
    assert_eq!(told[1], "handler of device `panics`: it panicked: on purpose");
    let saves = |name| harness.store().saves(name).len();
    assert_eq!((saves("fails"), saves("panics"), saves("publishes"), saves("works")), (2, 2, 0, 2));
    assert!(harness.runtime().shutdown().is_ok());
    assert_eq!(harness.store().load("publishes").unwrap().unwrap()["count"], 2);
}

/// Goal: published means that the publisher took it, and that the reading was news.
#[test]
fn a_reading_that_is_not_published_does_not_save() {
    let published = Arc::new(Mutex::new(Vec::new()));
    let publisher = {
        let published = Arc::clone(&published);
        move |name: &str, reading: &Value| {
            if reading["count"] == 2 {
                return Err("the broker is away".into());
            }
            published.lock().unwrap().push((name.to_owned(), reading.clone()));
            Ok(())
        }
    };
    let store = probe();
    let mut runtime = Runtime::new(store.clone()).publisher(publisher);
    let filter = OnDelta::new(2.0).unwrap();
    let telemetry = Telemetry::new("sensor", SECOND).policy(OnPublish).publish_on(filter);
    runtime.add(telemetry, count).unwrap();
    let outcome = runtime.run_cycles(8);
    // 1 is the first; 2 and 3 are too near; 4 is news, and so is 7.
    assert_eq!((outcome.ran, outcome.published, outcome.saved), (8, 3, 3));
    let counts: Vec<_> =
        published.lock().unwrap().iter().map(|(_, it)| it["count"].clone()).collect();
    assert_eq!(counts, [1, 4, 7]);

    let mut runtime = Runtime::new(store.clone()).publisher(|_, _| Err("away".into()));
    runtime.telemetry("other", SECOND, OnPublish, count).unwrap();
    let outcome = runtime.step();
    assert_eq!((outcome.published, outcome.saved), (0, 0));
    assert_eq!(outcome.failures[0].what, What::Publish);
    assert!(store.load("other").unwrap().is_none());
}

/// Goal: at the end every dirty state is saved, whatever the policy, whatever failed, and one that cannot be does not
/// stop the others.
#[test]
fn a_stop_saves_all_that_can_be() {
    let store = probe();
    let mut runtime = Runtime::new(store.clone());
    let init = Telemetry::new("init fails", SECOND).init(|state| {
        state.set("half", true)?;
        Err("on purpose".into())
    });
    runtime.add(init, |_| panic!("its handler is not called")).unwrap();
    runtime.telemetry("broken", SECOND, OnShutdown, count).unwrap();
    runtime.add(Telemetry::new("plain", SECOND), count).unwrap();
    runtime
        .telemetry("handler fails", SECOND, OnShutdown, |state| {
            count(state)?;
            Err("on purpose".into())
        })
        .unwrap();
    runtime.telemetry("clean", SECOND, OnShutdown, |_| Ok(None)).unwrap();
    let own = runtime.device("own loop").unwrap();
    own.set("last_run", 1).unwrap();
    let outcome = runtime.run_cycles(2);
    let kinds: Vec<_> = outcome.failures.iter().map(|failure| failure.what).collect();
    assert_eq!(kinds, [What::Init, What::Handler, What::Handler]);
    assert_eq!(outcome.ran, 8);
    assert!(store.names().unwrap().is_empty(), "nothing is stored before the stop");

    store.fail_saves("broken", true);
    let failures = runtime.shutdown().unwrap_err();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!((failures[0].device.as_str(), failures[0].what), ("broken", What::Save));
    let names = ["handler fails", "init fails", "own loop", "plain"];
    assert_eq!(store.names().unwrap(), names, "a clean state is not written");
    assert!(runtime.state("broken").unwrap().is_dirty());
    store.fail_saves("broken", false);
    runtime.shutdown().unwrap();
    assert_eq!(store.load("broken").unwrap().unwrap()["count"], 2);
    assert_eq!(store.saves("plain").len(), 1, "what was saved is not saved again");
    assert_eq!(runtime.run_cycles(1).ran + runtime.step().ran, 0);
    assert_eq!(runtime.next_due(), None);
    assert_eq!(runtime.device("late").unwrap_err().kind(), "closed");
}

/// Goal: a device with its own loop saves by hand, and in the end in any case.
#[test]
fn an_own_loop_is_saved_however_it_ends() {
    let store = probe();
    let mut runtime = Runtime::new(store.clone());
    let run = |state: &State| {
        state.set("last_run", 1)?;
        state.save()?;
        state.set("last_run", 2)?;
        Ok(())
    };
    assert_eq!(runtime.run_device("ends", run).unwrap().saved, 1);
    let fails = |state: &State| {
        state.set("last_run", 1)?;
        Err("on purpose".into())
    };
    let outcome = runtime.run_device("fails", fails).unwrap();
    assert_eq!((outcome.saved, outcome.failures.len()), (1, 1));
    let outcome = runtime.run_device("panics", |state: &State| {
        state.set("last_run", 1)?;
        panic!("on purpose");
    });
    assert_eq!(outcome.unwrap().failures[0].what, What::Handler);
    let runs = ["ends", "fails", "panics"].map(|name| store.saves(name).len());
    assert_eq!(runs, [2, 1, 1]);
    assert_eq!(store.saves("ends")[1]["last_run"], 2);
}

#[test]
fn what_cannot_be_registered() {
    let mut runtime = Runtime::without_store();
    let refused = runtime.telemetry("sensor", SECOND, OnChange, count).unwrap_err();
    assert_eq!(refused.kind(), "options");
    assert!(refused.to_string().contains("no store"), "{refused}");
    let disabled = Telemetry::new("sensor", SECOND).policy(OnChange).enabled(false);
    runtime.add(disabled, |_| panic!("it is not enabled")).unwrap();
    runtime.add(Telemetry::new("sensor", SECOND), count).unwrap();
    let outcome = runtime.run_cycles(2);
    assert_eq!((outcome.ran, outcome.failures.len()), (2, 0), "a state in memory does");
    assert_eq!(runtime.state("sensor").unwrap().get("count").unwrap(), Some(2));
    runtime.shutdown().unwrap();

    let mut runtime = Runtime::new(probe());
    runtime.telemetry("sensor", SECOND, OnChange, count).unwrap();
    let refused = runtime.telemetry("sensor", Duration::ZERO, OnChange, count).unwrap_err();
    assert!(refused.to_string().contains("taken") && refused.to_string().contains("zero"));
    runtime.telemetry("", SECOND, OnChange, count).unwrap();
}

/// Goal: each handler has its own interval and its own state; a late one is called once, not as often as it missed.
#[test]
fn two_devices_are_apart() {
    let (clock, store) = (ManualClock::new(), probe());
    let mut runtime = Runtime::new(store.clone()).clock(clock.clone());
    runtime.telemetry("fast", SECOND, OnChange, count).unwrap();
    runtime.telemetry("slow", 3 * SECOND, OnChange, count).unwrap();
    let mut ran = Vec::new();
    for _ in 0..5 {
        ran.push(runtime.step().ran);
        clock.advance(SECOND);
    }
    assert_eq!(ran, [2, 1, 1, 2, 1]);
    // The wall clock is none of its business.
    clock.set(Timestamp(0));
    clock.advance(60 * SECOND);
    assert_eq!((runtime.step().ran, runtime.step().ran), (2, 0));
    assert_eq!(store.load("fast").unwrap().unwrap()["count"], 6);
    assert_eq!(store.load("slow").unwrap().unwrap()["count"], 3);
}

/// Goal: a failed save is told, and tried again after the next turn.
#[test]
fn a_failed_save_is_tried_again() {
    let mut harness = Harness::new();
    harness.telemetry("sensor", OnChange, count).unwrap();
    harness.store().fail_saves("sensor", true);
    let turns = harness.turns(2);
    assert_eq!(turns.failures.iter().filter(|failure| failure.what == What::Save).count(), 2);
    harness.store().fail_saves("sensor", false);
    let run = harness.run(1);
    assert_eq!((run.saved, run.failures.len()), (1, 0));
    assert_eq!(harness.store().saves("sensor")[0]["count"], 3);
}

/// Goal: a save that failed is owed: it is tried again after the next turn although its policy would wait for the next
/// publish, which a steady reading never brings; and it is paid once.
#[test]
fn a_failed_save_is_tried_again_whatever_the_policy() {
    let mut harness = Harness::new();
    harness
        .telemetry("sensor", OnPublish, |state| {
            let count = state.get_or("count", 0)? + 1;
            state.set("count", count)?;
            Ok((count == 1).then(|| json!(20.0)))
        })
        .unwrap();
    harness.store().fail_saves("sensor", true);
    let failures = harness.turns(2).failures;
    assert_eq!(failures.iter().filter(|failure| failure.what == What::Save).count(), 2);
    harness.store().fail_saves("sensor", false);
    assert_eq!(harness.turns(1).saved, 1);
    assert_eq!(harness.store().saves("sensor")[0]["count"], 3);
    assert_eq!(harness.turns(3).saved, 0);
}

/// The seed's warning. Goal: with OnShutdown nothing is stored in mid-loop; a graceful stop stores all; a crash loses
/// all since the start. With OnChange a crash loses nothing.
/// Method: the crash is what the disk holds at that moment, opened as another disk.
#[test]
fn what_a_crash_loses() {
    let stored = |disk: &MemoryDisk, name: &str| -> Option<Object> {
        let crashed = MemoryDisk::with_files(disk.files());
        let engine = Options::new().disk(crashed).background(false).open("store").unwrap();
        EngineStore::new(engine).load(name).unwrap()
    };
    let disk = MemoryDisk::new();
    let engine = Options::new().disk(disk.clone()).background(false).open("store").unwrap();
    let store = Arc::new(EngineStore::new(engine));
    let mut runtime = Runtime::new(store.clone());
    runtime.telemetry("lazy", SECOND, OnShutdown, count).unwrap();
    runtime.telemetry("careful", SECOND, OnChange, count).unwrap();
    runtime.run_cycles(3);
    assert_eq!(store.load("lazy").unwrap(), None, "nothing is stored in mid-loop");
    assert_eq!(stored(&disk, "lazy"), None, "and a crash loses all of it");
    assert_eq!(stored(&disk, "careful").unwrap()["count"], 3);
    runtime.shutdown().unwrap();
    assert_eq!(stored(&disk, "lazy").unwrap()["count"], 3, "a graceful stop does not");
}

/// Goal: a program that ends without a stop saves, too; a program that is killed does not get here.
#[test]
fn the_last_resort() {
    let store = probe();
    let mut runtime = Runtime::new(store.clone());
    runtime.telemetry("sensor", SECOND, OnShutdown, count).unwrap();
    runtime.step();
    drop(runtime);
    assert_eq!(store.saves("sensor").len(), 1);
}
