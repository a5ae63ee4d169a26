//! The step that kills: a child writes, its acknowledgements are read here, and then it is gone.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use tierce_engine::{Batch, Durability, Engine, PutOptions, Result};

use super::{report::Finding, steps::PREFIX};
use crate::{
    args::WriterArgs,
    exit::{Code, Fail, Outcome},
    out::Out,
    store::open_or_create,
};

/// The child is killed after so many acknowledgements ...
const ACKNOWLEDGED_ENOUGH: u64 = 300;
/// ... or after this time, whichever comes first.
const WRITING_TIME: Duration = Duration::from_millis(1_500);
/// A child that has not acknowledged anything by then never will.
const PATIENCE: Duration = Duration::from_secs(20);
/// The child stops by itself after so many, should nobody kill it.
const WRITES_MAX: u64 = 1_000_000;

/// What the parent knows when the child is gone.
pub(super) struct Killed {
    pub(super) pid: u32,
    /// Numbers 1 to this were acknowledged.
    pub(super) acknowledged: u64,
}

/// The keys and values of write `number`: odd ones are one put, even ones a batch of two.
fn pairs(run: u64, number: u64) -> Vec<(String, String)> {
    let filler = "#".repeat(usize::try_from(number * 37 % 900).unwrap_or_default());
    let sides: &[&str] = if number.is_multiple_of(2) { &["left", "right"] } else { &["single"] };
    let pair = |side: &&str| {
        (format!("{PREFIX}acknowledged/{number}/{side}"), format!("{run}:{number}:{side}:{filler}"))
    };
    sides.iter().map(pair).collect()
}

/// The child's whole life: write, acknowledge, again.
pub(crate) fn write_until_killed(args: &WriterArgs, out: &mut Out) -> Outcome {
    let engine = open_or_create(&args.dir, Durability::Sync)?;
    for number in 1..=WRITES_MAX {
        match pairs(args.run, number).as_slice() {
            [(key, value)] => {
                let options = PutOptions::new().durability(Durability::Sync);
                engine.put_with(key, value, &options)?;
            }
            pairs => {
                let mut batch = Batch::new();
                batch.durability(Durability::Sync);
                for (key, value) in pairs {
                    batch.put(key.as_str(), value.as_str());
                }
                engine.commit(batch)?;
            }
        }
        out.line(number)?;
        out.flush()?;
    }
    engine.close()?;
    Ok(Code::Done)
}

/// Starts the child, reads its acknowledgements, kills it in the middle of its work.
pub(super) fn kill_a_writer(dir: &Path, run: u64) -> Outcome<Killed> {
    let start = |source| Fail::io("start a writing process", source);
    let program = env::current_exe().map_err(start)?;
    let mut child = Command::new(program)
        .arg("tour-writer")
        .arg(dir)
        .arg(run.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let acknowledgements = listen(&mut child);
    let mut acknowledged = listen_until_enough(&acknowledgements);
    // From here on nothing may return before the child is gone: it would hold the store's lock.
    let killed = child.kill();
    let waited = child.wait();
    killed.and(waited).map_err(|source| Fail::io("kill the writing process", source))?;
    // What it had acknowledged before it died still stands in the pipe, and counts.
    while let Ok(number) = acknowledgements.recv() {
        acknowledged = number;
    }
    Ok(Killed { pid: child.id(), acknowledged })
}

/// Acknowledged numbers, as the child prints them. A line that was cut by the kill is none.
fn listen(child: &mut Child) -> Receiver<u64> {
    let (sender, receiver) = mpsc::channel();
    if let Some(pipe) = child.stdout.take() {
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = String::new();
            while pipe.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                let Some(number) = line.strip_suffix('\n').and_then(|text| text.parse().ok())
                else {
                    break;
                };
                if sender.send(number).is_err() {
                    break;
                }
                line.clear();
            }
        });
    }
    receiver
}

fn listen_until_enough(acknowledgements: &Receiver<u64>) -> u64 {
    let start = Instant::now();
    let mut acknowledged = 0;
    while acknowledged < ACKNOWLEDGED_ENOUGH {
        let limit = if acknowledged == 0 { PATIENCE } else { WRITING_TIME };
        match acknowledgements.recv_timeout(limit.saturating_sub(start.elapsed())) {
            Ok(number) => acknowledged = number,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    acknowledged
}

/// What is in the store of the writes of `run`.
struct Found {
    acknowledged: u64,
    /// Writes that were on their way and arrived whole.
    on_the_way: u64,
    /// Entries of writes that are there in part, or that nobody made.
    wrong: u64,
}

/// Compares the store with what was acknowledged, and tells.
pub(super) fn survived(engine: &Engine, run: u64, killed: &Killed) -> Result<Finding> {
    let Killed { pid, acknowledged } = *killed;
    let found = find(engine, run, acknowledged)?;
    let report = engine.recovery_report();
    let damaged = report.damaged.len();
    // One process, one writer: at most the one write after the last acknowledgement can be there.
    let passed = acknowledged > 0
        && found.acknowledged == acknowledged
        && found.on_the_way <= 1
        && found.wrong == 0
        && damaged == 0
        && !report.clean;
    let torn: u64 = report.torn.iter().map(|torn| torn.bytes).sum();
    let (there, extra, wrong) = (found.acknowledged, found.on_the_way, found.wrong);
    let did = format!(
        "process {pid} acknowledged {acknowledged} synced writes and was killed; reopened: {there} of {acknowledged} \
         are there, {extra} more was on its way, {wrong} wrong; recovery read {} records in {} ms, cut {torn} torn \
         bytes, found {damaged} damages",
        report.records_scanned, report.duration_ms
    );
    Ok(Finding::new(passed, did)
        .with("acknowledged", acknowledged)
        .with("found", there)
        .with("on_the_way", extra)
        .with("wrong", wrong)
        .with("torn_bytes", torn)
        .with("damaged", damaged)
        .with("records_scanned", report.records_scanned))
}

fn find(engine: &Engine, run: u64, acknowledged: u64) -> Result<Found> {
    let mut found = Found { acknowledged: 0, on_the_way: 0, wrong: 0 };
    let mut expected = 0;
    for number in 1..=acknowledged + 1 {
        let pairs = pairs(run, number);
        let mut there = 0;
        for (key, value) in &pairs {
            there +=
                usize::from(engine.get(key)?.is_some_and(|stored| *stored == *value.as_bytes()));
        }
        expected += there as u64;
        match there {
            whole if whole == pairs.len() && number <= acknowledged => found.acknowledged += 1,
            whole if whole == pairs.len() => found.on_the_way += 1,
            0 => {}
            _ => found.wrong += 1,
        }
    }
    // Entries of this run beyond those are writes that nobody made.
    let prefix = format!("{PREFIX}acknowledged/");
    let mark = format!("{run}:");
    let mut present = 0;
    for entry in engine.iter()? {
        let (key, entry) = entry?;
        let ours = key.starts_with(prefix.as_bytes()) && entry.value.starts_with(mark.as_bytes());
        present += u64::from(ours);
    }
    found.wrong += present.saturating_sub(expected);
    Ok(found)
}
