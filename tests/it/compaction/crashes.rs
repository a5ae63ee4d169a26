//! Power fails, and calls fail, at every disk call of a compaction.

use std::sync::Arc;

use tierce_engine::{Health, io::Disk};
use tierce_kit::{
    crash::{Bounds, CrashPlan, image},
    fault::{CallKind, EIO, ENOSPC, Fault},
    history::History,
    model::CrashKind,
    op::{Chosen, Op, PutOp},
    recorder::RecordingDisk,
    run::Runner,
    seed::cases,
    store::{STORE, Setup, soundness},
    sweep::{Depth, Sweep, Tally, check_state},
};

/// Goal: killed at any disk call of a compaction, in any state that a power cut may leave, the store has everything
/// that was acknowledged and nothing that ended; so it has when the recovery is killed, too.
/// Method: histories with compactions, sweeps and evictions, crashed at every effect; every state is opened and
/// compared, some recoveries are crashed again, some states live on and are checked as files.
#[test]
fn killed_at_every_call() {
    let name = "compaction::crashes::killed_at_every_call";
    let mut history = History::new(16);
    history.crashes = false;
    let bounds = Bounds { prefixes: 5, singles: 4, randoms: 4, tears: 2 };
    let second_bounds = Bounds { prefixes: 2, singles: 2, randoms: 1, tears: 1 };
    let depth = Depth { bounds, second_bounds, second_every: 97, ..Depth::default() };
    let (mut total, mut lists) = (Tally::default(), 0);
    cases(name, 100, |seed| {
        let (setup, ops) = (history.setup(seed), history.ops(seed));
        let lives = Runner::record(RecordingDisk::new(), setup.clone(), &ops);
        let lives = lives.unwrap_or_else(|complaint| panic!("seed {seed}: {complaint}"));
        let mut sweep = Sweep::new(&setup, depth, seed);
        let swept = lives.iter().try_for_each(|life| sweep.life(life));
        swept.unwrap_or_else(|complaint| panic!("{setup:?}, seed {seed}: {complaint}"));
        total.built += sweep.tally.built;
        total.checked += sweep.tally.checked;
        total.second += sweep.tally.second;
        lists += 1;
    });
    eprintln!("{name}: {total:?} in {lists} histories");
    assert!(lists < 100 || (total.checked > 20_000 && total.second > 1_000), "too few: {total:?}");
}

fn put(key: u8, seed: u64) -> Op {
    Op::Put(PutOp { key, bytes: 1_300, seed, ..PutOp::default() })
}

/// A store of five segments in which most is dead: overwritten, deleted, expired, touched.
fn worn(setup: &Setup) -> Runner {
    let mut runner = Runner::new(RecordingDisk::new(), setup.clone());
    runner.open().unwrap();
    let expiring = |key, ms| {
        let expires_in_ms = Some(ms);
        Op::Put(PutOp { key, bytes: 1_300, seed: 9, expires_in_ms, ..PutOp::default() })
    };
    let ops = [
        put(1, 11),
        put(2, 12),
        put(3, 13),
        put(1, 14),
        expiring(6, 50),
        Op::Delete { key: 2, durability: None },
        Op::Touch { key: 3, expires_in_ms: Some(1_000_000) },
        put(1, 15),
        put(4, 16),
        Op::CutScope { scope: 0 },
        put(5, 17),
        put(4, 18),
        Op::AdvanceClock { ms: 100 },
        put(1, 19),
        put(0, 20),
        Op::Settle,
        Op::Sync,
    ];
    runner.run(&ops).unwrap();
    runner
}

const COMPACT: Op = Op::Compact { chosen: Chosen::All, cancels: false };

/// A compaction in which `fault` strikes; then all that must hold. Says whether it struck.
fn fails(setup: &Setup, fault: &Fault) -> Result<bool, String> {
    let mut runner = worn(setup);
    runner.faulty = true;
    runner.disk.arm(fault.clone());
    let before = runner.disk.fired();
    runner.step(&COMPACT)?;
    let fired = runner.disk.fired() > before;
    let failed = runner.failures.join("; ");
    runner.disk.disarm();
    runner.model.check(runner.engine())?;
    let health = runner.engine().health();
    if !failed.is_empty() && health == Health::Good {
        return Err(format!("it failed ({failed}), and says nothing of it"));
    }
    let log = runner.disk.log();
    for (plan, kind) in
        [(CrashPlan::Nothing, CrashKind::Power), (CrashPlan::Everything, CrashKind::Process)]
    {
        let left = image(&log, log.events.len(), &plan);
        check_state(setup, &left, &runner.model, runner.clock.time(), kind, |_, _| Ok(()))
            .map_err(|complaint| format!("{plan:?} now: {complaint}"))?;
    }
    runner.faulty = false;
    if matches!(health, Health::Stopped { .. }) {
        runner.engine().try_recover().map_err(|error| format!("try_recover: {error}"))?;
    }
    runner.run(&[put(2, 21), Op::Settle, COMPACT, put(3, 22), Op::Reopen, COMPACT])?;
    if runner.engine().health() != Health::Good {
        return Err(format!("after all that: {:?}", runner.engine().health()));
    }
    let closed = runner.take_engine().map_or(Ok(()), tierce_engine::Engine::close);
    closed.map_err(|error| error.to_string())?;
    let disk: Arc<dyn Disk> = Arc::new(runner.disk.clone());
    soundness(&disk, STORE.as_ref())?;
    Ok(fired)
}

/// Goal: a disk call that fails during a compaction costs nothing: everything is served, the health says what
/// happened, a later compaction works, nothing is lost when the store is opened again.
/// Method: every call of one fails, once and for good, with errors of the device and of a full disk.
#[test]
fn every_call_fails() {
    for seed in 0..4 {
        let mut setup = Setup::varied(tierce_engine::Durability::Os, seed);
        setup.automatic = false;
        for errno in [EIO, ENOSPC] {
            for is_lasting in [false, true] {
                let mut count = 0;
                for nth in 1.. {
                    let fault = Fault::nth(nth, errno);
                    let fault = if is_lasting { fault.lasting() } else { fault };
                    let struck = fails(&setup, &fault);
                    if !struck.unwrap_or_else(|c| panic!("{setup:?}, {fault:?}: {c}")) {
                        break;
                    }
                    count = nth;
                }
                // What is written is read through the file that is open: outputs are not opened again.
                assert!(count > 20, "only {count} calls");
            }
        }
    }
}

/// The files of segments beside those that the store has, and what is left of others.
fn strays(runner: &Runner) -> Vec<String> {
    let ends = |path: &str, end: &str| path.ends_with(end);
    let paths = runner.disk.paths();
    let names = paths.iter().map(|path| path.to_string_lossy().into_owned());
    let (segments, rest): (Vec<_>, Vec<_>) = names.partition(|path| ends(path, ".seg"));
    let mut strays: Vec<_> = rest.into_iter().filter(|path| ends(path, ".tmp")).collect();
    if segments.len() as u64 != runner.engine().stats().segments {
        strays.extend(segments);
    }
    strays
}

/// A compaction in which the `nth` call fails, and every removal from the given one on; then removing works again. Says
/// whether something was left meanwhile; `None` if there are not so many calls.
fn removes_later(setup: &Setup, nth: u64, removal: u64) -> Option<bool> {
    let when = format!("call {nth}, removal {removal}");
    let mut runner = worn(setup);
    runner.faulty = true;
    let used = |runner: &Runner| runner.engine().usage().used;
    let (before, calls) = (used(&runner), runner.disk.call_count());
    runner.disk.arm(Fault::nth(removal, EIO).of(&[CallKind::Remove]).lasting());
    runner.disk.arm(Fault::nth(nth, EIO));
    runner.step(&COMPACT).unwrap();
    let is_struck = runner.disk.call_count() - calls >= nth;
    let is_left = !strays(&runner).is_empty();
    let (charged, there) = (used(&runner), runner.disk.used());
    assert!(charged >= there, "{when}: {there} bytes are there, {charged} charged");
    runner.disk.disarm();
    if matches!(runner.engine().health(), Health::Stopped { .. }) {
        runner.engine().try_recover().unwrap();
    }
    runner.faulty = false;
    runner.run(&[COMPACT, Op::Settle]).unwrap();
    assert_eq!(strays(&runner), Vec::<String>::new(), "{when}");
    assert!(used(&runner) <= before, "{when}: {} of {before} are used", used(&runner));
    is_struck.then_some(is_left)
}

/// Goal: what a job that failed could not remove is charged for until it is gone, and goes as soon as it can.
/// Method: every call of a compaction fails once, and what is to be removed from any moment on stays.
#[test]
fn what_cannot_be_removed_goes_later() {
    let setup = Setup { automatic: false, ..Setup::varied(tierce_engine::Durability::Os, 1) };
    let mut left = 0;
    for removal in 1..10 {
        let struck = (1..).map_while(|nth| removes_later(&setup, nth, removal));
        left += struck.filter(|is_left| *is_left).count();
    }
    assert!(left > 50, "only {left} left something");
}

/// Goal: killed at any disk call while files are settled of which a failed job could not tell whether they count, the
/// store has everything.
/// Method: from some call of a compaction on every call fails; then the store recovers, compacts and writes, and is
/// crashed at every effect of that.
#[test]
fn killed_while_doubt_is_settled() {
    let setup = Setup { automatic: false, ..Setup::varied(tierce_engine::Durability::Os, 2) };
    let bounds = Bounds { prefixes: 3, singles: 3, randoms: 2, tears: 1 };
    let depth = Depth { bounds, ..Depth::default() };
    let (mut doubts, mut total) = (0, 0);
    for nth in 1.. {
        let mut runner = worn(&setup);
        runner.faulty = true;
        let before = runner.disk.fired();
        runner.disk.arm(Fault::nth(nth, EIO).lasting());
        runner.step(&COMPACT).unwrap();
        runner.disk.disarm();
        if runner.disk.fired() == before {
            break;
        }
        if strays(&runner).is_empty() {
            continue;
        }
        doubts += 1;
        let first = runner.disk.event_count();
        runner.faulty = false;
        runner.engine().try_recover().unwrap();
        runner.run(&[COMPACT, put(2, 31), put(3, 32), put(1, 33), Op::Settle]).unwrap();
        let mut sweep = Sweep::new(&setup, depth, nth);
        for life in runner.finish() {
            let swept = sweep.life_from(&life, first);
            swept.unwrap_or_else(|complaint| panic!("failing from call {nth} on: {complaint}"));
        }
        total += sweep.tally.checked;
    }
    assert!(doubts > 5 && total > 1_000, "{doubts} times doubt, {total} states");
}

/// Goal: killed at any disk call while an old checkpoint makes way for a new one, the store has everything.
/// Method: a store with a limit of bytes writes checkpoints and closes; it is crashed at every effect.
#[test]
fn killed_while_a_checkpoint_makes_way() {
    let mut setup = Setup::varied(tierce_engine::Durability::Os, 3);
    setup.max_bytes = Some(160 << 10);
    let mut runner = worn(&setup);
    let rounds = |round: u64| [put(1, round), Op::Checkpoint, put(2, round), COMPACT, Op::Reopen];
    (40..43).for_each(|round| runner.run(&rounds(round)).unwrap());
    let removed = runner.disk.calls_of(CallKind::Remove);
    let mut sweep = Sweep::new(&setup, Depth::default(), 3);
    for life in runner.finish() {
        sweep.life(&life).unwrap_or_else(|complaint| panic!("{complaint}"));
    }
    assert!(removed > 6 && sweep.tally.checked > 2_000, "{removed}, {:?}", sweep.tally);
}
