//! Each two things that a store has meet in random histories beside a model, and it is counted that they did.

use tierce_kit::{
    crash::Bounds,
    facet::{Facets, Pairs},
    history::History,
    op::Op,
    recorder::RecordingDisk,
    run::Runner,
    seed::cases,
    sweep::{Depth, Sweep},
};

/// Runs the history of `seed`.
pub(crate) fn run(history: &History, seed: u64) -> Result<Runner, String> {
    run_ops(history, seed, &history.ops(seed))
}

fn run_ops(history: &History, seed: u64, ops: &[Op]) -> Result<Runner, String> {
    let mut runner = Runner::new(RecordingDisk::new(), history.setup(seed));
    runner.clock = runner.clock.clone().seeded(seed);
    runner.open().map_err(|error| error.to_string())?;
    let is_replay = std::env::var_os("TIERCE_SEED").is_some();
    for (number, op) in ops.iter().enumerate() {
        if is_replay {
            eprintln!("op {number}, {op:?}\n{}", runner.layout());
        }
        let stepped = runner.step(op);
        stepped.map_err(|complaint| {
            format!("op {number}, {op:?}: {complaint}\n{:?}", runner.setup())
        })?;
    }
    Ok(runner)
}

fn spare_footers(op: &mut Op) {
    if let Op::ReopenAfter { loss } | Op::CrashBefore { loss, .. } = op {
        loss.footers = None;
    }
}

/// Goal: modes, limits, policies, expiry, touches, slides, scopes, conditions, tickets, snapshots, followers, jumps of the
/// clock, compaction of every kind and openings of every kind are right in each other's company.
/// Method: random histories beside the model. What took place in each is noted (a write was refused, an entry evicted),
/// not what was drawn, and each possible pair has to take place in several.
#[test]
fn every_two_meet() {
    const HISTORIES: u64 = 800;
    /// Each possible pair takes place in so many histories at least.
    const VISITS_MIN: u32 = 5;
    let (history, mut pairs, mut count) = (History::combining(60), Pairs::new(), 0);
    cases("trials::pairs::every_two_meet", HISTORIES, |seed| {
        let ran = run(&history, seed);
        pairs.visit(ran.unwrap_or_else(|complaint| panic!("seed {seed}: {complaint}")).facets);
        count += 1;
    });
    eprintln!("{}", pairs.table(20));
    let rare = pairs.rarer_than(VISITS_MIN);
    assert!(count < HISTORIES || rare.is_empty(), "visited less than {VISITS_MIN} times: {rare:?}");
}

/// Crashes the history of `seed` everywhere; says what took place in it, and how many states that gave.
pub(crate) fn sweep(seed: u64) -> Result<(Facets, u64), String> {
    let history = History::combining(30);
    let bounds = Bounds { prefixes: 1, singles: 1, randoms: 1, tears: 1 };
    let depth = Depth { bounds, second_bounds: bounds, second_every: 499, ..Depth::default() };
    // What was damaged on purpose would be found in the files by the check of some of the states.
    let mut ops = history.ops(seed);
    ops.iter_mut().for_each(spare_footers);
    let ran = run_ops(&history, seed, &ops)?;
    let (facets, setup) = (ran.facets, ran.setup().clone());
    let mut sweep = Sweep::new(&setup, depth, seed);
    let swept = ran.finish().iter().try_for_each(|life| sweep.life(life));
    swept.map_err(|complaint| format!("{complaint}\n{setup:?}"))?;
    Ok((facets, sweep.tally.checked))
}

/// Goal: the same, and power fails at every effect on the disk: what was promised is there, and nothing that ended.
/// Method: shorter histories of the same generator, each of whose lives is crashed everywhere.
#[test]
fn every_two_meet_a_crash() {
    const HISTORIES: u64 = 60;
    /// So many of the possible pairs take place in one of these histories.
    const PAIRS_MIN: usize = 750;
    let (mut pairs, mut states, mut count) = (Pairs::new(), 0, 0);
    cases("trials::pairs::every_two_meet_a_crash", HISTORIES, |seed| {
        let swept = sweep(seed);
        let (facets, seen) = swept.unwrap_or_else(|complaint| panic!("seed {seed}: {complaint}"));
        pairs.visit(facets);
        (states, count) = (states + seen, count + 1);
    });
    let visited = pairs.rarest().len() - pairs.rarer_than(1).len();
    eprintln!("{states} states, {visited} pairs in {}", pairs.table(0));
    assert!(count < HISTORIES || visited >= PAIRS_MIN, "{visited} pairs were visited");
}
