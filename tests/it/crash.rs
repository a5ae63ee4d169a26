//! Power fails at every effect on the disk, in every way the crash states allow; what was promised is there.

use std::path::Path;

use tierce_engine::{Durability, io::Disk as _};
use tierce_kit::{
    crash::{Bounds, CrashPlan, image},
    image::Image,
    model::CrashKind,
    op::{BatchPart, Mode, Op, PutOp},
    recorder::{Lies, RecordingDisk},
    run::{Life, Runner},
    seed::{cases, count},
    store::{STORE, Setup},
    sweep::{Depth, Sweep, Tally, check_state},
};

/// Runs the list of operations that `seed` determines and crashes it everywhere.
fn crash_everywhere(mode: &Mode, depth: Depth, seed: u64) -> Result<Tally, String> {
    let setup = Setup::varied(mode.durability, seed);
    let lives = Runner::record(RecordingDisk::new(), setup.clone(), &mode.ops(seed))?;
    let mut sweep = Sweep::new(&setup, depth, seed);
    for life in &lives {
        sweep.life(life)?;
    }
    Ok(sweep.tally)
}

/// How many lists of operations a sweep makes, and how many different states each must give on average.
struct Size {
    lists: u64,
    states_per_list: u64,
}

impl Size {
    const SYNC: Self = Self { lists: 40, states_per_list: 450 };
    const OS: Self = Self { lists: 40, states_per_list: 650 };
    const BUFFERED: Self = Self { lists: 40, states_per_list: 330 };
    const PERIODIC: Self = Self { lists: 40, states_per_list: 250 };
    const MIXED: Self = Self { lists: 60, states_per_list: 450 };
    const LIVES: Self = Self { lists: 40, states_per_list: 500 };
    const SECOND: Self = Self { lists: 40, states_per_list: 350 };
    const ALL: [Self; 7] = [
        Self::SYNC,
        Self::OS,
        Self::BUFFERED,
        Self::PERIODIC,
        Self::MIXED,
        Self::LIVES,
        Self::SECOND,
    ];
}

// The sweeps that run by default insist on a hundred thousand different states in all.
const _: () = {
    let (mut sum, mut at) = (0, 0);
    while at < Size::ALL.len() {
        sum += Size::ALL[at].lists * Size::ALL[at].states_per_list;
        at += 1;
    }
    assert!(sum >= 100_000);
};

/// Sweeps lists of operations; the states they give must be as many as `size` says.
fn sweep_lists(name: &str, mode: Mode, depth: Depth, size: &Size) {
    let (mut total, mut lists) = (Tally::default(), 0);
    cases(name, size.lists, |seed| {
        let tally = crash_everywhere(&mode, depth, seed)
            .unwrap_or_else(|complaint| panic!("{mode:?}, seed {seed}: {complaint}"));
        total.built += tally.built;
        total.checked += tally.checked;
        total.second += tally.second;
        total.shortened += tally.shortened;
        lists += 1;
    });
    eprintln!("{name}: {total:?} in {lists} lists");
    if lists < size.lists {
        return;
    }
    assert!(total.checked >= size.states_per_list * lists, "{name}: too few states: {total:?}");
    assert!(mode.durability == Durability::Sync || total.shortened > 0, "no crash took anything");
    assert!(depth.second_every == 0 || total.second > 0, "no recovery was crashed");
}

/// Goal: with every write synced, no crash takes an acknowledged write or shows half of anything.
/// Method: crash at every effect of each list, open every state within the bounds, compare with the model.
#[test]
fn sweep_sync() {
    let mode = Mode::of(Durability::Sync);
    sweep_lists("crash::sweep_sync", mode, Depth::default(), &Size::SYNC);
}

/// Goal: with writes handed to the system, a dead process loses nothing, and a power cut a suffix at most.
/// Method: as above.
#[test]
fn sweep_os() {
    let mode = Mode::of(Durability::Os);
    sweep_lists("crash::sweep_os", mode, Depth::default(), &Size::OS);
}

/// Goal: writes that stay in the process are lost as a suffix.
/// Method: as above.
#[test]
fn sweep_buffered() {
    let mode = Mode::of(Durability::Buffered);
    sweep_lists("crash::sweep_buffered", mode, Depth::default(), &Size::BUFFERED);
}

/// Goal: staged writes reach the device as one piece.
/// Method: as above.
#[test]
fn sweep_periodic() {
    let mode = Mode::of(Durability::Periodic);
    sweep_lists("crash::sweep_periodic", mode, Depth::default(), &Size::PERIODIC);
}

/// Goal: one sync covers every write before it, whatever each of them asked for.
/// Method: as above, with a durability per write.
#[test]
fn sweep_mixed() {
    sweep_lists("crash::sweep_mixed", Mode::mixed(), Depth::default(), &Size::MIXED);
}

/// Goal: a store that crashed, was opened, and went on is as safe as one that never crashed.
/// Method: as above, with crashes among the operations; each life in between is swept.
#[test]
fn sweep_lives() {
    let mode = Mode::mixed().crashing();
    sweep_lists("crash::sweep_lives", mode, Depth::default(), &Size::LIVES);
}

/// Goal: a crash during recovery loses nothing, and what an opened store showed stays.
/// Method: short lists; the recovery of many states is recorded and crashed at each of its own effects.
#[test]
fn sweep_second_crash() {
    let bounds = Bounds { prefixes: 2, singles: 2, randoms: 2, tears: 2 };
    let depth = Depth { bounds, second_every: 13, live_on_every: 0, ..Depth::default() };
    let mode = Mode::mixed().length(25);
    sweep_lists("crash::sweep_second_crash", mode, depth, &Size::SECOND);
}

/// Every list of up to `length` of a few telling operations.
fn all_short_lists(length: usize) -> Vec<Vec<Op>> {
    let put = |key, bytes| Op::Put(PutOp { key, bytes, seed: 7, ..PutOp::default() });
    let part = |key| BatchPart::Put(PutOp { key, bytes: 30, seed: 8, ..PutOp::default() });
    let alphabet = [
        put(1, 20),
        put(2, 5_000),
        Op::Delete { key: 1, durability: None },
        Op::Batch { parts: vec![part(1), part(2)], durability: None },
        Op::CutScope { scope: 0 },
        Op::Sync,
        Op::Checkpoint,
        Op::Reopen,
    ];
    let mut lists = vec![Vec::new()];
    let mut last = lists.clone();
    for _ in 0..length {
        let longer = |list: &Vec<Op>| {
            alphabet
                .iter()
                .map(|op| [&list[..], std::slice::from_ref(op)].concat())
                .collect::<Vec<_>>()
        };
        last = last.iter().flat_map(longer).collect();
        lists.extend(last.iter().cloned());
    }
    lists
}

/// Goal: no short history is unsafe: most crash bugs need three operations or fewer.
/// Method: all lists of up to two operations (three with `TIERCE_CASES=3`), all crash points, synced and not.
#[test]
fn all_short_histories() {
    let bounds = Bounds { prefixes: 4, singles: 4, randoms: 2, tears: 3 };
    let depth = Depth { bounds, live_on_every: 100, ..Depth::default() };
    for durability in [Durability::Sync, Durability::Os] {
        let setup = Setup::new(durability);
        for ops in all_short_lists(usize::try_from(count(2)).unwrap().min(4)) {
            let lives = Runner::record(RecordingDisk::new(), setup.clone(), &ops);
            let mut sweep = Sweep::new(&setup, depth, 1);
            let swept = lives.and_then(|lives| lives.iter().try_for_each(|life| sweep.life(life)));
            swept.unwrap_or_else(|complaint| panic!("{durability:?} {ops:?}: {complaint}"));
        }
    }
}

/// A few synced writes on a disk that may lie.
fn synced_writes(lies: Lies) -> (Setup, Vec<Life>) {
    let setup = Setup::new(Durability::Sync);
    let put =
        |key| Op::Put(PutOp { key, bytes: 900, seed: 40 + u64::from(key), ..PutOp::default() });
    let ops: Vec<Op> = (1..12).map(put).collect();
    let lives = Runner::record(RecordingDisk::lying(lies), setup.clone(), &ops);
    (setup, lives.expect("a disk that lies shows everything until it crashes"))
}

fn first_complaint(setup: &Setup, lives: &[Life]) -> Option<String> {
    let mut sweep = Sweep::new(setup, Depth::default(), 5);
    lives.iter().find_map(|life| sweep.life(life).err())
}

/// Goal: the sweep notices a disk that does not sync files, and one that does not sync directories.
/// Method: the same synced writes on an honest disk and on both liars.
#[test]
fn canary_lying_disks() {
    let (setup, lives) = synced_writes(Lies::default());
    assert_eq!(first_complaint(&setup, &lives), None);
    let (setup, lives) = synced_writes(Lies { file_syncs: true, ..Lies::default() });
    assert!(first_complaint(&setup, &lives).is_some(), "missing file syncs were not noticed");
    let (setup, lives) = synced_writes(Lies { directory_syncs: true, ..Lies::default() });
    assert!(first_complaint(&setup, &lives).is_some(), "missing directory syncs were not noticed");
}

/// The image after all of `life`, and the segment in which the bytes `needle` stand last.
fn find_last(life: &Life, needle: &[u8]) -> (Image, std::path::PathBuf, usize) {
    let state = image(&life.log, life.log.events.len(), &CrashPlan::Everything);
    let at = |bytes: &[u8]| bytes.windows(needle.len()).rposition(|window| window == needle);
    let found = state.files.iter().find_map(|(path, bytes)| Some((path.clone(), at(bytes)?)));
    let (path, offset) = found.expect("the last value stands on the disk");
    (state, path, offset)
}

/// Goal: the comparison notices a record that was acknowledged and is not what it was.
/// Method: alter one byte of the newest record on the disk; a model that trusts it must complain.
#[test]
fn canary_trust_the_tail() {
    let (setup, lives) = synced_writes(Lies::default());
    let life = lives.last().unwrap();
    let mark = life.marks.last().unwrap();
    let (mut state, path, offset) = find_last(life, &tierce_kit::op::value(900, 51));
    let check = |state: &Image| {
        check_state(&setup, state, &mark.model, mark.time, CrashKind::Power, |_, _| Ok(()))
    };
    check(&state).expect("the untouched image is fine");
    let mut bytes = state.files[&path].to_vec();
    bytes[offset + 100] ^= 1;
    state.files.insert(path, bytes.into());
    check(&state).expect_err("an altered record was not noticed");
}

/// Goal: the model notices writes that never happened.
/// Method: compare the store with a model that knows one write more.
#[test]
fn canary_invented_write() {
    let (setup, lives) = synced_writes(Lies::default());
    let life = lives.last().unwrap();
    let state = image(&life.log, life.log.events.len(), &CrashPlan::Nothing);
    let (earlier, last) = (&life.marks[life.marks.len() - 3], life.marks.last().unwrap());
    let check =
        |model| check_state(&setup, &state, model, last.time, CrashKind::Power, |_, _| Ok(()));
    check(&last.model).expect("the true model fits");
    check(&earlier.model).expect_err("a write that the model does not know was not noticed");
}

/// Goal: the background work brings everything acknowledged to the device without anyone asking.
/// Method: writes of every durability; time passes, all due steps are done; then everything unsynced vanishes.
#[test]
fn background_work_makes_durable() {
    for durability in [Durability::Buffered, Durability::Os, Durability::Sync, Durability::Periodic]
    {
        let mut runner = Runner::new(RecordingDisk::new(), Setup::new(durability));
        runner.open().unwrap();
        let put =
            |key| Op::Put(PutOp { key, bytes: 300, seed: u64::from(key), ..PutOp::default() });
        runner.run(&(1..10).map(put).collect::<Vec<_>>()).unwrap();
        for _ in 0..10 {
            runner.clock.advance(1_000);
            while runner.engine().step().unwrap() {}
        }
        runner.model.synced();
        let model = runner.model.clone();
        let time = runner.clock.time();
        let lives = runner.finish();
        let log = &lives[0].log;
        // The marks of `finish` come after the engine was dropped; the state before that is what counts.
        let state = image(log, lives[0].marks.last().unwrap().events, &CrashPlan::Nothing);
        let setup = Setup::new(durability);
        check_state(&setup, &state, &model, time, CrashKind::Power, |_, _| Ok(()))
            .unwrap_or_else(|complaint| panic!("{durability:?}: {complaint}"));
    }
}

/// Goal: a checkpoint is of use after a crash: it is durable before it is published.
/// Method: write, checkpoint, write on, lose everything unsynced; the next opening must say that it used it.
#[test]
fn checkpoints_survive() {
    let setup = Setup::new(Durability::Os);
    let put = |key| Op::Put(PutOp { key, bytes: 700, seed: u64::from(key), ..PutOp::default() });
    let ops = [&(0..12).map(put).collect::<Vec<_>>()[..], &[Op::Checkpoint, put(1)]].concat();
    let lives = Runner::record(RecordingDisk::new(), setup.clone(), &ops).unwrap();
    let (log, mark) = (&lives[0].log, lives[0].marks.last().unwrap());
    let state = image(log, mark.events, &CrashPlan::Nothing);
    check_state(&setup, &state, &mark.model, mark.time, CrashKind::Power, |opened, _| {
        let report = opened.engine.recovery_report();
        if report.from_checkpoint { Ok(()) } else { Err(format!("not used: {:?}", report.notes)) }
    })
    .unwrap();
}

/// Goal: a store whose creation was cut short opens, and one whose directory holds only leftovers too.
/// Method: crash the creation at every effect; each state must open empty, take a write, and keep it.
#[test]
fn creation_cut_short() {
    let setup = Setup::new(Durability::Sync);
    let lives = Runner::record(RecordingDisk::new(), setup.clone(), &[]).unwrap();
    let depth = Depth { live_on_every: 1, ..Depth::default() };
    let mut sweep = Sweep::new(&setup, depth, 1);
    sweep.life(&lives[0]).unwrap();
    assert!(sweep.tally.checked > 5, "{:?}", sweep.tally);
    let empty = RecordingDisk::new();
    empty.create_dir_all(Path::new(STORE)).unwrap();
    Runner::record(empty, setup, &Mode::of(Durability::Os).ops(1)).unwrap();
}
