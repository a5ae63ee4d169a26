//! Random histories of few keys over many small segments, compacted in any order, crashed anywhere: nothing that was
//! acknowledged is lost, nothing that ended comes back.

use std::sync::Arc;

use tierce_engine::io::Disk;
use tierce_kit::{
    history::History,
    op::Op,
    recorder::RecordingDisk,
    run::Runner,
    seed::cases,
    store::{STORE, soundness},
};

/// Runs the history of `seed`; says how many operations, compactions and openings it had.
fn run(history: &History, seed: u64) -> Result<[u64; 3], String> {
    let (setup, ops) = (history.setup(seed), history.ops(seed));
    let mut runner = Runner::new(RecordingDisk::new(), setup);
    runner.clock = runner.clock.clone().seeded(seed);
    runner.open().map_err(|error| error.to_string())?;
    let is_replay = std::env::var_os("TIERCE_SEED").is_some();
    for (number, op) in ops.iter().enumerate() {
        if is_replay {
            eprintln!(
                "op {number}, {op:?}, at {}\n{}",
                runner.clock.time().wall_ms % 100_000_000,
                runner.layout()
            );
        }
        let stepped = runner.step(op);
        stepped.map_err(|complaint| {
            format!("op {number}, {op:?}: {complaint}\n{:?}", runner.setup())
        })?;
    }
    let is_scarred = |op: &Op| match op {
        Op::ReopenAfter { loss } | Op::CrashBefore { loss, .. } => loss.footers.is_some(),
        _ => false,
    };
    // What was damaged on purpose stays so until it is compacted.
    if seed.is_multiple_of(8) && !ops.iter().any(is_scarred) {
        let closed = runner.take_engine().map_or(Ok(()), tierce_engine::Engine::close);
        closed.map_err(|error| format!("closing: {error}"))?;
        let disk: Arc<dyn Disk> = Arc::new(runner.disk.clone());
        // A store that never took a write has none.
        let has_manifest = runner.disk.paths().iter().any(|path| path.ends_with("MANIFEST"));
        if has_manifest {
            soundness(&disk, STORE.as_ref())?;
        }
    }
    let count = |is: fn(&Op) -> bool| ops.iter().filter(|op| is(op)).count() as u64;
    let compactions = count(|op| matches!(op, Op::Compact { .. }));
    let openings = count(|op| matches!(op, Op::ReopenAfter { .. } | Op::CrashBefore { .. }));
    Ok([ops.len() as u64, compactions, openings])
}

/// Runs `count` histories, or as many as `TIERCE_CASES` says.
fn run_all(name: &str, count: u64, history: &History) {
    let mut sums = [0; 3];
    let started = std::time::Instant::now();
    cases(name, count, |seed| {
        let counts = run(history, seed);
        let counts = counts.unwrap_or_else(|complaint| panic!("seed {seed}: {complaint}"));
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    });
    let ([ops, compactions, openings], took) = (sums, started.elapsed());
    eprintln!("{name}: {ops} operations, {compactions} compactions, {openings} openings, {took:?}");
}

/// Goal: whatever is compacted when, and wherever a crash comes, no acknowledged entry is lost and no ended one
/// comes back: deleted, overwritten, expired, cut, evicted.
/// Method: 60,000 random histories with writes of every durability (and 40,000 below; `TIERCE_CASES=1000000` for a
/// million), each opened at least once with or without checkpoint and with or without sound footers.
#[test]
fn nothing_lost_nothing_revived() {
    let name = "compaction::histories::nothing_lost_nothing_revived";
    run_all(name, 60_000, &History::new(24));
}

/// Goal: the same in stores that evict by themselves, and in those whose writes are all of one durability.
/// Method: as above, with a limit on entries in some.
#[test]
fn nothing_lost_at_a_limit() {
    let name = "compaction::histories::nothing_lost_at_a_limit";
    run_all(name, 40_000, &History { mixed: false, ..History::new(24) });
}

/// Goal: the same in long histories in which expiries are moved often, by touches and slides, beside checkpoints and
/// openings: no entry gets the time of another one, and none lives shorter or longer than it should.
/// Method: the slots of segments are used again at once, and after each step of upkeep the parts of the store are
/// compared with each other.
#[test]
fn nothing_lost_where_expiries_move() {
    let name = "compaction::histories::nothing_lost_where_expiries_move";
    run_all(name, 400, &History::renewing(150));
}

/// Goal: long histories that found a fault once stay right: the touches of a checkpoint outlived the segments that their
/// records stood in, and ended the records of others that got the same slots.
#[test]
fn touches_end_with_their_segments() {
    for seed in [10_981_189_603_648_035_272, 3_640_733_210_356_077_329] {
        run(&History::new(150), seed).unwrap();
    }
}

/// Goal: a history stays right in which an entry expired while it was staged: it is not written, and is not back when a
/// crash sets store time back.
#[test]
fn expired_while_staged_stays_gone() {
    run(&History::new(24), 2_060_653_164_817_771_791).unwrap();
}

/// Goal: an entry that a wall clock in doubt hid is judged with the expiry that it has, when the clock is set back after
/// the store was closed and opened.
#[test]
fn what_a_doubtful_clock_hid_keeps_its_slide() {
    run(&History::renewing(150), 13_856_967_443_214_290_716).unwrap();
}

/// Goal: a history that found a fault once stays right: an old checkpoint, which a later compaction had made useless
/// but for what it says of last uses, evicted an entry a second time that a crash had brought back.
#[test]
fn brought_back_is_not_evicted_again() {
    let history = History { mixed: false, ..History::new(24) };
    run(&history, 2_721_861_486_419_222_717).unwrap();
}
