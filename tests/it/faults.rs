//! Every call to the disk fails once, and for good: nothing acknowledged is lost, nothing is promised falsely,
//! and the store goes on when the cause is gone.

use std::sync::Arc;

use tierce_engine::{Durability, Health, io::Disk};
use tierce_kit::{
    crash::{CrashPlan, image},
    fault::{CallKind, EDQUOT, EFBIG, EIO, EMFILE, ENOSPC, EROFS, Failure, Fault},
    model::{CrashKind, Model},
    op::{Mode, Op, PutOp},
    recorder::RecordingDisk,
    run::Runner,
    seed::cases,
    store::{STORE, Setup, soundness},
    sweep::check_state,
};

/// What is done once the failure is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The open store is told to recover.
    Recover,
    /// The process ends; the store is opened again on the same disk, page cache and all.
    Restart,
}

const EVERY_DURABILITY: [Durability; 4] =
    [Durability::Sync, Durability::Os, Durability::Buffered, Durability::Periodic];

fn sync_put(key: u8, seed: u64) -> Op {
    let durability = Some(Durability::Sync);
    Op::Put(PutOp { key, bytes: 150, seed, durability, ..PutOp::default() })
}

/// Whether power failing now, or the process dying now, would leave what was promised.
fn promises_hold(runner: &Runner, setup: &Setup) -> Result<(), String> {
    let log = runner.disk.log();
    let time = runner.clock.time();
    for (plan, kind) in
        [(CrashPlan::Nothing, CrashKind::Power), (CrashPlan::Everything, CrashKind::Process)]
    {
        let left = image(&log, log.events.len(), &plan);
        check_state(setup, &left, &runner.model, time, kind, |_, _| Ok(()))
            .map_err(|complaint| format!("{plan:?} now: {complaint}"))?;
    }
    Ok(())
}

/// Opens a store, arms `fault`, does `ops`, and checks all that must hold then and after. Says whether any call
/// failed.
fn fail_and_go_on(setup: &Setup, ops: &[Op], fault: &Fault, after: After) -> Result<bool, String> {
    let mut runner = Runner::new(RecordingDisk::new(), setup.clone());
    runner.open().map_err(|error| error.to_string())?;
    runner.faulty = true;
    runner.disk.arm(fault.clone());
    runner.run(ops)?;
    let fired = runner.disk.fired() > 0;
    promises_hold(&runner, setup)?;
    go_on(&mut runner, setup, after)?;
    Ok(fired)
}

/// The cause of the failures goes away; from here on nothing may fail.
fn go_on(runner: &mut Runner, setup: &Setup, after: After) -> Result<(), String> {
    let failures = runner.failures.join("; ");
    let explain = |complaint: String| format!("{complaint} (failures before: {failures})");
    if after == After::Restart {
        runner.restart(CrashKind::Process).map_err(explain)?;
    }
    runner.disk.disarm();
    runner.disk.free();
    runner.faulty = false;
    if let Health::Stopped { cause } = runner.engine().health() {
        let refused = runner.engine().put("refused", "");
        if refused.is_ok() {
            return Err(explain(format!("a stopped store ({cause}) took a write")));
        }
        let recovered = runner.engine().try_recover();
        recovered.map_err(|error| explain(format!("try_recover failed: {error}")))?;
        if let Health::Stopped { cause } = runner.engine().health() {
            return Err(explain(format!("stopped after it recovered: {cause}")));
        }
    }
    let fit = runner.model.check(runner.engine()).map_err(explain)?;
    runner.model.note_shown(&fit);
    let last = [sync_put(3, 91), sync_put(4, 92), Op::Step, Op::Sync, sync_put(3, 93)];
    runner.run(&last).map_err(explain)?;
    promises_hold(runner, setup).map_err(explain)?;
    runner.step(&Op::Reopen).map_err(explain)?;
    let closed = runner.take_engine().map_or(Ok(()), tierce_engine::Engine::close);
    closed.map_err(|error| explain(error.to_string()))?;
    let disk: Arc<dyn Disk> = Arc::new(runner.disk.clone());
    soundness(&disk, STORE.as_ref()).map_err(explain)
}

/// Calls of this kind (or of any) that `ops` take, the opening not counted.
fn calls_of(setup: &Setup, ops: &[Op], kind: Option<CallKind>) -> u64 {
    let mut runner = Runner::new(RecordingDisk::new(), setup.clone());
    let calls = |disk: &RecordingDisk| kind.map_or(disk.call_count(), |kind| disk.calls_of(kind));
    runner.open().expect("nothing fails yet");
    let before = calls(&runner.disk);
    runner.run(ops).expect("nothing fails yet");
    calls(&runner.disk) - before
}

/// For lists of every durability, for every call of theirs: what `faults` makes of the call's number.
fn fail_every_call(
    name: &str,
    lists: u64,
    kind: Option<CallKind>,
    faults: impl Fn(u64) -> Vec<Fault>,
) {
    let (mut runs, mut fired) = (0, 0);
    cases(name, lists, |seed| {
        let durability = EVERY_DURABILITY[(seed % 4) as usize];
        let mut mode = Mode::of(durability).length(18);
        mode.mixed = seed.is_multiple_of(3);
        let (setup, ops) = (Setup::varied(durability, seed), mode.ops(seed));
        for nth in 1..=calls_of(&setup, &ops, kind) {
            for fault in faults(nth) {
                let after = if nth % 3 == 0 { After::Restart } else { After::Recover };
                runs += 1;
                match fail_and_go_on(&setup, &ops, &fault, after) {
                    Ok(failed) => fired += u64::from(failed),
                    Err(complaint) => {
                        panic!("{setup:?}, seed {seed}, {fault:?}, {after:?}: {complaint}")
                    }
                }
            }
        }
    });
    eprintln!("{name}: {runs} runs, {fired} with a failure");
    assert!(fired * 10 > runs * 8, "{name}: of {runs} runs only {fired} saw a failure");
}

/// Goal: one failed call costs at most the operation it belongs to, or stops the store until it is recovered.
/// Method: for every call of each list, one run per error that a disk gives; then recover or restart, write,
/// lose power, reopen.
#[test]
fn every_call_fails_once() {
    let errors = [EIO, ENOSPC, EDQUOT, EFBIG, EMFILE];
    fail_every_call("faults::every_call_fails_once", 12, None, |nth| {
        errors.iter().map(|errno| Fault::nth(nth, *errno)).collect()
    });
}

/// Goal: the same for a disk that fails from some call on until it is repaired.
/// Method: as above, with failures that last.
#[test]
fn every_call_fails_for_good() {
    fail_every_call("faults::every_call_fails_for_good", 12, None, |nth| {
        [EIO, ENOSPC, EROFS].iter().map(|errno| Fault::nth(nth, *errno).lasting()).collect()
    });
}

/// Goal: a write that is cut short by an error leaves nothing behind that is taken for a record.
/// Method: as above, for writes that do half and then fail.
#[test]
fn every_write_is_torn_by_an_error() {
    let write = CallKind::Write;
    fail_every_call("faults::every_write_is_torn_by_an_error", 24, Some(write), |nth| {
        vec![Fault::nth(nth, 0).of(&[write]).with(Failure::ShortThen(ENOSPC))]
    });
}

/// Goal: after a failed sync nothing counts on what the page cache shows, and no later sync vouches for it.
/// Method: for every sync of a list of synced and unsynced writes: it fails, the process restarts on the same
/// page cache, writes go on, power fails.
#[test]
fn failed_syncs_are_never_trusted() {
    cases("faults::failed_syncs_are_never_trusted", 12, |seed| {
        let setup = Setup::varied(Durability::Os, seed);
        let ops = Mode::mixed().length(20).ops(seed);
        for nth in 1.. {
            let fault = Fault::nth(nth, EIO).of(&[CallKind::Sync, CallKind::SyncDir]);
            for after in [After::Restart, After::Recover] {
                match fail_and_go_on(&setup, &ops, &fault, after) {
                    Ok(true) => {}
                    Ok(false) => return assert!(nth > 3, "no sync failed"),
                    Err(complaint) => panic!("seed {seed}, {fault:?}, {after:?}: {complaint}"),
                }
            }
        }
    });
}

/// Opens the store of `image`, with the `nth` call failing; then without failures. `None` when no call failed.
fn open_twice(disk: &RecordingDisk, setup: &Setup, model: &Model, fault: Fault) -> Option<()> {
    let mut runner = Runner::new(disk.clone(), setup.clone());
    runner.model = model.clone();
    let before = disk.fired();
    disk.arm(fault.clone());
    let opened = runner.open();
    if disk.fired() == before {
        return None;
    }
    if opened.is_ok() {
        let shown = runner.model.check(runner.engine());
        shown.unwrap_or_else(|complaint| panic!("{fault:?}: opened, but {complaint}"));
    }
    drop(runner.take_engine());
    disk.disarm();
    let opened = runner.open();
    opened.unwrap_or_else(|error| panic!("{fault:?}: the second opening failed: {error}"));
    let shown = runner.model.check(runner.engine());
    shown.unwrap_or_else(|complaint| panic!("{fault:?}: opened again, but {complaint}"));
    runner.run(&[sync_put(3, 91), Op::Reopen]).expect("it goes on");
    Some(())
}

/// Goal: an opening that fails changes nothing for the next one: no lock is left, nothing is lost.
/// Method: fail every call of opening a missing store, a closed one and a crashed one; open again.
#[test]
fn every_call_of_opening_fails() {
    let setup = Setup::new(Durability::Os);
    let mut runner = Runner::new(RecordingDisk::new(), setup.clone());
    runner.open().unwrap();
    runner.run(&Mode::of(Durability::Os).length(40).ops(3)).unwrap();
    runner.step(&Op::Sync).unwrap();
    let model = runner.model.clone();
    let crashed = runner.disk.image();
    runner.take_engine().unwrap().close().unwrap();
    let closed = runner.disk.image();
    let missing = RecordingDisk::new().image();
    for (name, start, model) in [
        ("missing", missing, Model::new()),
        ("closed", closed, model.clone()),
        ("crashed", crashed, model),
    ] {
        for errno in [EIO, ENOSPC, EMFILE] {
            let fail = |nth: &u64| {
                let disk = RecordingDisk::with_image(&start);
                open_twice(&disk, &setup, &model, Fault::nth(*nth, errno))
            };
            let failed = (1..).take_while(|nth| fail(nth).is_some()).count();
            assert!(failed > 5, "{name}: only {failed} calls");
        }
    }
}

/// Goal: a full disk fails writes and nothing else, reads go on, and writing goes on when there is room.
/// Method: limits of every size around what a list needs; then room.
#[test]
fn full_disk() {
    cases("faults::full_disk", 16, fill_the_disk);
}

/// Goal: a history stays explained in which a large staged write finds no space and a small one passes it by, after
/// many others were staged and reached the log in their order.
#[test]
fn full_disk_beside_staged_writes() {
    fill_the_disk(2_186_754_743_529_181_731);
}

fn fill_the_disk(seed: u64) {
    let durability = EVERY_DURABILITY[(seed % 4) as usize];
    let (setup, ops) = (Setup::varied(durability, seed), Mode::of(durability).length(30).ops(seed));
    let mut runner = Runner::new(RecordingDisk::new(), setup.clone());
    runner.open().unwrap();
    let least = runner.disk.used();
    runner.run(&ops).unwrap();
    let most = runner.disk.used() + 8_192;
    for step in 0..12 {
        let limit = least + (most - least) * step / 12 + seed % 777;
        let mut runner = Runner::new(RecordingDisk::new(), setup.clone());
        runner.open().unwrap();
        runner.faulty = true;
        runner.disk.set_capacity(Some(limit));
        let complain = |complaint| panic!("seed {seed}, limit {limit}: {complaint}");
        runner.run(&ops).unwrap_or_else(complain);
        promises_hold(&runner, &setup).unwrap_or_else(complain);
        let after = if step % 3 == 0 { After::Restart } else { After::Recover };
        go_on(&mut runner, &setup, after).unwrap_or_else(complain);
    }
}

/// Runs whole lists, with `fault` from the first opening on; no operation may fail.
fn invisible(name: &str, fault: &Fault) {
    let mut fired = 0;
    cases(name, 8, |seed| {
        let durability = EVERY_DURABILITY[(seed % 4) as usize];
        let setup = Setup::varied(durability, seed);
        let mut runner = Runner::new(RecordingDisk::new(), setup.clone());
        runner.disk.arm(fault.clone());
        let opened = runner.open();
        opened.unwrap_or_else(|error| panic!("seed {seed}, {fault:?}: {error}"));
        let ran = runner.run(&Mode::of(durability).ops(seed));
        ran.unwrap_or_else(|complaint| panic!("seed {seed}, {fault:?}: {complaint}"));
        fired += runner.disk.fired();
        promises_hold(&runner, &setup).expect("all promises hold");
    });
    assert!(fired > 5, "{fault:?} hit only {fired} calls");
}

/// Goal: short reads and writes are nobody's business but the io room's.
/// Method: every transfer does half of what it was asked for; then every third one.
#[test]
fn short_transfers_are_invisible() {
    let short = Fault::nth(1, 0).of(&[CallKind::Read, CallKind::Write]).with(Failure::Short);
    for every in [1, 3] {
        invisible("faults::short_transfers_are_invisible", &short.clone().every(every));
    }
}

/// Goal: a signal that interrupts a call is nobody's business but the io room's.
/// Method: every other call that a signal can interrupt is interrupted, kind by kind.
#[test]
fn interruptions_are_invisible() {
    for kind in [CallKind::Read, CallKind::Write, CallKind::Allocate] {
        let interrupted = Failure::Kind(std::io::ErrorKind::Interrupted);
        let fault = Fault::nth(1, 0).of(&[kind]).with(interrupted).every(2);
        invisible("faults::interruptions_are_invisible", &fault);
    }
}

/// Goal: these tests notice a store that acknowledges a write whose sync failed.
/// Method: fail the sync of a write, tell the model that it was acknowledged, let power fail.
#[test]
fn canary_false_durability() {
    let setup = Setup::new(Durability::Sync);
    let mut runner = Runner::new(RecordingDisk::new(), setup.clone());
    runner.open().unwrap();
    runner.run(&[sync_put(3, 1)]).unwrap();
    runner.faulty = true;
    runner.disk.arm(Fault::nth(1, EIO).of(&[CallKind::Sync]).lasting());
    let honest = runner.model.clone();
    runner.run(&[sync_put(3, 2)]).unwrap();
    assert_eq!(runner.failures.len(), 1, "the write failed");
    promises_hold(&runner, &setup).expect("the store itself promised nothing");
    let stored = runner.marks().last().and_then(|mark| mark.model.in_flight()).cloned();
    runner.model = honest;
    runner.model.begin(stored);
    runner.model.acknowledge(None).unwrap();
    promises_hold(&runner, &setup).expect_err("a false promise was not noticed");
}
