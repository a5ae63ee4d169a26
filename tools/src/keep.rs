//! Commands that keep a store small: `compact`, `expire`, `evict`.

use std::{ops::ControlFlow, time::Duration};

use serde_json::{Value, json};
use tierce_engine::{Compaction, CompactionReport, Options, PlannedJob};

use crate::{
    args::{CompactArgs, EvictArgs, ExpireArgs},
    consent::consent,
    exit::{Code, Outcome},
    interrupt,
    out::Out,
    progress::Progress,
    size::human_bytes,
    store::{open, open_to_write},
    talk::say,
};

/// Gives the room of dead records back, or says what that would come to.
pub(crate) fn compact(args: &CompactArgs, json: bool, out: &mut Out) -> Outcome {
    let compaction = Compaction {
        automatic: false,
        garbage_percent: args.min_dead,
        bytes_per_second: args.max_rate,
        hours: None,
    };
    let options = Options::new().create(false).compaction(compaction).read_only(args.dry_run);
    let engine = open(&args.dir, options)?;
    if args.dry_run {
        let jobs = engine.compaction_preview();
        engine.close()?;
        return print_plan(&jobs?, json, out);
    }
    let planned = engine.compaction_preview()?.iter().map(|job| job.copied_bytes).sum();
    let mut progress = Progress::new("compact", Some(planned), "bytes");
    let done = engine.compact_with(None, |report| {
        progress.at(report.bytes_copied);
        if interrupt::is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let closed = engine.close();
    let report = done?;
    closed?;
    progress.finish();
    print_report(&report, json, out)?;
    interrupt::check()?;
    Ok(if report.unreadable.is_empty() { Code::Done } else { Code::Problems })
}

fn print_plan(jobs: &[PlannedJob], json: bool, out: &mut Out) -> Outcome {
    let won: u64 = jobs.iter().map(PlannedJob::won_bytes).sum();
    if json {
        let job = |job: &PlannedJob| {
            let ids: Vec<String> = job.segments.iter().map(ToString::to_string).collect();
            let (bytes, copied, won) = (job.bytes, job.copied_bytes, job.won_bytes());
            json!({"segments": ids, "bytes": bytes, "copied_bytes": copied, "won_bytes": won})
        };
        let jobs: Vec<Value> = jobs.iter().map(job).collect();
        out.json(&json!({"dry_run": true, "jobs": jobs, "won_bytes": won}))?;
        return Ok(Code::Done);
    }
    for job in jobs {
        let ids: Vec<String> = job.segments.iter().map(ToString::to_string).collect();
        let (bytes, won) = (job.bytes, job.won_bytes());
        out.line(format_args!(
            "{} segments of {bytes} bytes would give {won} back: {}",
            ids.len(),
            ids.join(" ")
        ))?;
    }
    out.line(format_args!("{won} bytes ({}) would come back", human_bytes(won)))?;
    Ok(Code::Done)
}

fn print_report(report: &CompactionReport, json: bool, out: &mut Out) -> Outcome<()> {
    let CompactionReport {
        jobs,
        segments,
        outputs,
        records_copied,
        bytes_copied,
        bytes_reclaimed,
        ..
    } = report;
    for corruption in &report.unreadable {
        say(format_args!("tierce: stays as it is: {corruption}"));
    }
    if json {
        let unreadable: Vec<String> = report.unreadable.iter().map(ToString::to_string).collect();
        return out.json(&json!({
            "dry_run": false, "jobs": jobs, "segments": segments, "outputs": outputs, "records_copied": records_copied,
            "bytes_copied": bytes_copied, "bytes_reclaimed": bytes_reclaimed, "cancelled": report.cancelled,
            "unreadable": unreadable,
        }));
    }
    out.line(format_args!(
        "{segments} segments became {outputs}; {bytes_copied} bytes copied, {bytes_reclaimed} bytes ({}) came back",
        human_bytes(*bytes_reclaimed)
    ))
}

/// Removes what has expired.
pub(crate) fn expire(args: &ExpireArgs, json: bool, out: &mut Out) -> Outcome {
    /// How long it does not look at signals.
    const BUDGET: Duration = Duration::from_millis(250);
    let engine = open_to_write(&args.dir)?;
    if args.trust_clock {
        engine.trust_clock();
    } else if engine.clock_doubt().is_some() {
        say(
            "tierce: the clock is far ahead of the store's last use: what expired since is hidden, and removed once the \
             clock is confirmed; if it is right, run again in five minutes or with --trust-clock",
        );
    }
    let (mut entries, mut bytes, mut dropped) = (0, 0, 0);
    let mut progress = Progress::new("expire", None, "entries");
    let swept = loop {
        let swept = interrupt::check().and_then(|()| Ok(engine.sweep(Some(BUDGET))?));
        let Ok(swept) = swept else { break swept.map(drop) };
        entries += swept.entries;
        bytes += swept.bytes;
        dropped += swept.segments_dropped;
        progress.at(entries);
        if !swept.is_cut_short {
            break Ok(());
        }
    };
    let closed = engine.close();
    swept?;
    closed?;
    progress.finish();
    if json {
        out.json(&json!({"entries": entries, "bytes": bytes, "segments_dropped": dropped}))?;
    } else {
        out.line(format_args!(
            "{entries} expired entries of {bytes} bytes removed; {dropped} segments dropped"
        ))?;
    }
    Ok(Code::Done)
}

/// Evicts the coldest entries until the rest is small enough.
pub(crate) fn evict(args: &EvictArgs, json: bool, out: &mut Out) -> Outcome {
    let engine = open_to_write(&args.dir)?;
    let live = engine.stats().live_bytes;
    let question = format!(
        "Evict entries of {} until {} of {} are left?",
        args.dir.display(),
        human_bytes(args.to),
        human_bytes(live)
    );
    let done = consent(args.yes, &question).and_then(|()| Ok(engine.shrink_to(args.to)?));
    let left = engine.stats().live_bytes;
    let closed = engine.close();
    let evicted = done?;
    closed?;
    if json {
        out.json(&json!({"evicted": evicted, "live_bytes_before": live, "live_bytes": left}))?;
    } else {
        out.line(format_args!("{evicted} entries evicted; {left} bytes are live, {live} were"))?;
    }
    if left > args.to {
        say("tierce: what is left may not be evicted");
        return Ok(Code::No);
    }
    Ok(Code::Done)
}
