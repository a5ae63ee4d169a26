//! The tour: the main job on real input, in seconds, each step judged by a comparison.

mod crash;
mod input;
mod report;
mod steps;

use std::{
    path::Path,
    process,
    time::{SystemTime, UNIX_EPOCH},
};

use tierce_engine::{Durability, Engine, check::check_store};

use crate::{
    args::TourArgs,
    exit::{Fail, Outcome},
    look::{finding_line, verdict},
    out::Out,
    place::Place,
    shell::stats_fields,
    store::{disk, open_or_create, open_to_write},
    talk::say,
};

pub(crate) use crash::write_until_killed;
use input::Input;
use report::{Finding, Report};

/// Bad lines named one by one; the rest is only counted.
const BAD_LINES_NAMED: usize = 5;

/// Runs the tour.
pub(crate) fn run(args: &TourArgs, json: bool, out: &mut Out) -> Outcome {
    let input = match &args.input {
        Some(path) => Input::read(path)?,
        None => Input::generate(),
    };
    tell_bad_lines(&input);
    if args.input.is_none() {
        say("tierce: no --input, so the device states are generated");
    }
    let place = Place::new(args.dir.as_deref(), "tour")?;
    say(format_args!("tierce: the store is in {}", place.dir.display()));
    let engine = open_or_create(&place.dir, Durability::Os)?;
    let mut report = Report::new(out, json);
    let complete = match walk(&place.dir, engine, &input, &mut report) {
        Ok(()) => true,
        Err(Fail::PipeGone) => return Err(Fail::PipeGone),
        Err(fail) => {
            report.step("stopped", Finding::failure(fail))?;
            false
        }
    };
    report.verdict(complete)
}

fn tell_bad_lines(input: &Input) {
    for (number, reason) in input.skipped.iter().take(BAD_LINES_NAMED) {
        say(format_args!("tierce: {} line {number} skipped: {reason}", input.source));
    }
    if let Some(more @ 1..) = input.skipped.len().checked_sub(BAD_LINES_NAMED) {
        say(format_args!("tierce: {}: {more} more bad lines skipped", input.source));
    }
}

fn walk(dir: &Path, engine: Engine, input: &Input, report: &mut Report<'_>) -> Outcome<()> {
    report.step("feed", steps::feed(&engine, input)?)?;
    report.step("read-back", steps::read_back(&engine, input)?)?;
    report.step("expiry", steps::expiry(&engine)?)?;
    report.step("batch", steps::batch(&engine)?)?;
    let engine = counter_step(dir, engine, report)?;
    engine.close()?;

    let run = run_number();
    let killed = crash::kill_a_writer(dir, run)?;
    let engine = open_to_write(dir)?;
    report.step("crash", crash::survived(&engine, run, &killed)?)?;
    report.step("after", steps::read_back(&engine, input)?)?;
    engine.close()?;

    check_step(dir, report)?;
    statistics_step(dir, report)
}

/// A counter goes on where it was, across a restart of the store.
fn counter_step(dir: &Path, engine: Engine, report: &mut Report<'_>) -> Outcome<Engine> {
    let expected = steps::count(&engine, 5)?;
    engine.close()?;
    let engine = open_to_write(dir)?;
    let reopened = steps::read_counter(&engine)?;
    let clean = engine.recovery_report().clean;
    let expected_then = steps::count(&engine, 2)?;
    let then = steps::read_counter(&engine)?;
    let did = format!(
        "counted to {expected}, closed and reopened ({}): {reopened}; counted on: {then}",
        if clean { "a clean start" } else { "recovered" }
    );
    let passed = reopened == expected && then == expected + 2 && then == expected_then && clean;
    report.step("counter", Finding::new(passed, did).with("counter", then))?;
    Ok(engine)
}

fn check_step(dir: &Path, report: &mut Report<'_>) -> Outcome<()> {
    let checked = check_store(&disk(), dir)?;
    for finding in &checked.findings {
        say(format_args!("tierce: {}", finding_line(finding)));
    }
    let finding = Finding::new(checked.is_healthy(), verdict(&checked))
        .with("findings", checked.findings.len())
        .with("records", checked.records)
        .with("entries", checked.entries);
    report.step("check", finding)
}

/// The numbers at the end; compared are the entries before and after one more clean restart.
fn statistics_step(dir: &Path, report: &mut Report<'_>) -> Outcome<()> {
    let engine = open_to_write(dir)?;
    let before = steps::entries(&engine)?;
    engine.close()?;
    let engine = open_to_write(dir)?;
    let after = steps::entries(&engine)?;
    let stats = engine.stats();
    let opened_in_ms = engine.recovery_report().duration_ms;
    engine.close()?;
    let did = format!(
        "{after} entries ({before} before a restart of {opened_in_ms} ms), {} live bytes of {} in {} segments, \
         {} bytes of index",
        stats.live_bytes, stats.segment_bytes, stats.segments, stats.index_bytes
    );
    let mut finding = Finding::new(after == before && after > 0, did).with("entries_walked", after);
    for (name, value) in stats_fields(&stats) {
        finding = finding.with(name, value);
    }
    report.step("statistics", finding)
}

/// Tells this tour's writes from those of an earlier one in the same store.
fn run_number() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX) ^ u64::from(process::id())
}
