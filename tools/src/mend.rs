//! Commands that mend a store: `repair`, `salvage`, `rebuild`, `migrate`. The engine decides and does; here it is told.

use std::path::Path;

use serde_json::{Map, Value, json};
use tierce_engine::repair::{
    self, Action, LostRange, LostRecord, Rebuild, RepairPlan, RepairReport, Step,
};

use crate::{
    args::{MigrateArgs, RebuildArgs, RepairArgs, SalvageArgs},
    encoding::Face,
    exit::{Code, Outcome},
    look::finding_line,
    out::Out,
    store::{patiently, settings},
    talk::say,
};

/// Prints the plan of a repair, carries it out, or goes back.
pub(crate) fn repair(args: &RepairArgs, face: Face, out: &mut Out) -> Outcome {
    let outcome = repair_or_go_back(args, face, out);
    if !args.fsck_codes {
        return outcome;
    }
    // The codes of another program: 1 is "corrected" there.
    match outcome {
        Ok(Code::Repaired) => Ok(Code::No),
        Err(fail) => {
            fail.report(face.json);
            Ok(match fail.code() {
                code @ (Code::Done | Code::Problems | Code::Interrupted) => code,
                Code::Usage => Code::FsckUsage,
                _ => Code::Operational,
            })
        }
        done => done,
    }
}

fn repair_or_go_back(args: &RepairArgs, face: Face, out: &mut Out) -> Outcome {
    let options = settings();
    let dir = &args.dir;
    if let Some(undo) = &args.undo_from {
        let report = patiently(dir, || repair::undo(&options, dir, undo))?;
        let (files, redo) = (report.files, report.redo.display().to_string());
        match face.json {
            true => out.json(&json!({"type": "undone", "files": files, "redo": redo}))?,
            false => out.line(format_args!("went back: {files} files put back"))?,
        }
        if !face.json {
            say(format_args!("tierce: {redo} has what was there before"));
        }
        return Ok(Code::Done);
    }
    if !args.apply {
        let plan = patiently(dir, || repair::plan(&options, dir))?;
        print_plan(&plan, face, out)?;
        return verdict_of_plan(&plan, face, out);
    }
    let report = patiently(dir, || repair::repair(&options, dir, args.undo.as_deref()))?;
    print_plan(&report.plan, face, out)?;
    verdict_of_repair(&report, face, out)
}

fn print_plan(plan: &RepairPlan, face: Face, out: &mut Out) -> Outcome<()> {
    for step in &plan.steps {
        match face.json {
            true => out.json(&step_json(step))?,
            false => out.line(step)?,
        }
    }
    print_losses(&plan.lost, &plan.unknown, face, out)?;
    if plan.may_lack_segments && !face.json {
        out.line(LACKS)?;
    }
    Ok(())
}

const LACKS: &str = "lost: edits of the manifest; if a segment is missing, nothing tells, and older values may show";

fn print_losses(
    lost: &[LostRecord],
    unknown: &[LostRange],
    face: Face,
    out: &mut Out,
) -> Outcome<()> {
    for record in lost {
        match face.json {
            true => out.json(&lost_json(record, face))?,
            false => out.line(format_args!("lost: {record}"))?,
        }
    }
    for range in unknown {
        match face.json {
            true => out.json(&range_json(range))?,
            false => out.line(format_args!("lost: {range}"))?,
        }
    }
    Ok(())
}

/// Whether there is something to repair: what a check calls a problem is one, even if the next opening would tidy it up.
fn is_needed(plan: &RepairPlan) -> bool {
    plan.is_needed() || !plan.before.is_healthy() && !plan.steps.is_empty()
}

/// What is lost, in a sentence that says so where nobody can count it.
fn loss(plan: &RepairPlan) -> String {
    let mut sentence = format!("{} records lost", losses(&plan.lost));
    if !plan.unknown.is_empty() {
        let ranges = plan.unknown.len();
        sentence
            .push_str(&format!(", and whatever stood in {ranges} places of which nothing tells"));
    }
    if plan.may_lack_segments {
        sentence.push_str(", and whatever stood in segments that nothing names any more");
    }
    sentence
}

/// 4 if a problem is to be repaired.
fn verdict_of_plan(plan: &RepairPlan, face: Face, out: &mut Out) -> Outcome {
    let (steps, needed) = (plan.steps.len(), is_needed(plan));
    if face.json {
        out.json(&json!({
            "type": "plan", "needed": needed, "steps": steps, "lost": losses(&plan.lost),
            "ranges": plan.unknown.len(), "may_lack_segments": plan.may_lack_segments,
        }))?;
    } else if steps == 0 {
        out.line("nothing to do")?;
    } else {
        let then = if needed {
            "--apply carries them out"
        } else {
            "none is needed: the next opening does the same"
        };
        out.line(format_args!("{steps} steps, {}; {then}", loss(plan)))?;
    }
    Ok(if needed { Code::Problems } else { Code::Done })
}

/// 3 if problems were repaired, 4 if some are left.
fn verdict_of_repair(report: &RepairReport, face: Face, out: &mut Out) -> Outcome {
    let RepairReport { plan, undo, after, .. } = report;
    let is_healthy = after.is_healthy();
    let lost = losses(&plan.lost);
    if face.json {
        let undo = undo.as_ref().map(|undo| undo.display().to_string());
        out.json(&json!({
            "type": "repaired", "healthy": is_healthy, "needed": is_needed(plan),
            "steps": plan.steps.len(), "lost": lost, "ranges": plan.unknown.len(),
            "may_lack_segments": plan.may_lack_segments, "undo": undo, "entries": after.entries,
        }))?;
    } else {
        let left = after.findings.iter().filter(|_| !is_healthy);
        left.map(finding_line).try_for_each(|line| out.line(line))?;
        out.line(match (plan.steps.is_empty(), is_healthy) {
            (true, true) => "nothing to do".to_owned(),
            (false, true) => format!("repaired: {} steps, {}", plan.steps.len(), loss(plan)),
            (_, false) => "problems remain".to_owned(),
        })?;
        if let Some(undo) = undo {
            say(format_args!("tierce: {} has what was there before", undo.display()));
        }
    }
    Ok(match (is_healthy, is_needed(plan)) {
        (false, _) => Code::Problems,
        (true, true) => Code::Repaired,
        (true, false) => Code::Done,
    })
}

/// Reads what can be read into a new store: 4 if not everything could.
pub(crate) fn salvage(args: &SalvageArgs, face: Face, out: &mut Out) -> Outcome {
    let report = repair::salvage(&settings(), &args.dir, &args.out)?;
    print_losses(&report.lost, &report.unknown, face, out)?;
    for file in &report.left_out {
        let file = file.display().to_string();
        match face.json {
            true => out.json(&json!({"type": "left-out", "file": file}))?,
            false => {
                out.line(format_args!("left out: {file} belongs to no segment of the store"))?
            }
        }
    }
    let is_whole = report.is_whole() && report.after.is_healthy();
    let (records, entries) = (report.records, report.after.entries);
    if face.json {
        out.json(&json!({
            "type": "salvaged", "whole": is_whole, "segments": report.segments, "records": records,
            "entries": entries, "lost": losses(&report.lost), "ranges": report.unknown.len(),
            "may_lack_segments": report.may_lack_segments,
        }))?;
    } else {
        if report.may_lack_segments {
            out.line(LACKS)?;
        }
        let word = if is_whole { "all of it" } else { "not all of it" };
        let segments = report.segments;
        out.line(format_args!(
            "salvaged, {word}: {records} records of {segments} segments; {entries} entries"
        ))?;
    }
    Ok(if is_whole { Code::Done } else { Code::Problems })
}

/// Makes footers and checkpoint anew; both if none is named.
pub(crate) fn rebuild(args: &RebuildArgs, json: bool, out: &mut Out) -> Outcome {
    let both = !args.footers && !args.checkpoint;
    let what = Rebuild { footers: args.footers || both, checkpoint: args.checkpoint || both };
    let options = settings();
    let report = patiently(&args.dir, || repair::rebuild(&options, &args.dir, what))?;
    if json {
        out.json(&json!({"footers": report.footers, "checkpoint": report.checkpoint}))?;
    } else {
        let checkpoint = if report.checkpoint { "a checkpoint" } else { "no checkpoint" };
        out.line(format_args!("rebuilt: {} footers, {checkpoint}", report.footers))?;
    }
    Ok(Code::Done)
}

/// Says of which version a store is: there is one.
pub(crate) fn migrate(args: &MigrateArgs, json: bool, out: &mut Out) -> Outcome {
    let done = repair::migrate(&settings(), &args.dir, args.to)?;
    let word = |(major, minor): (u16, u16)| format!("{major}.{minor}");
    let (from, to) = (word(done.from), word(done.to));
    if json {
        out.json(&json!({
            "from": from, "to": to, "segments": done.segments, "rewritten": done.rewritten,
        }))?;
    } else {
        let segments = done.segments;
        out.line(format_args!(
            "format {from}, which is the newest known: nothing to do in {segments} segments"
        ))?;
    }
    Ok(Code::Done)
}

fn losses(lost: &[LostRecord]) -> usize {
    lost.iter().filter(|lost| lost.fate.is_loss()).count()
}

fn file_json(file: &Path) -> Value {
    file.display().to_string().into()
}

fn step_json(step: &Step) -> Value {
    let codes: Vec<_> = step.codes.iter().map(|code| code.as_str()).collect();
    let mut object = json!({
        "type": "step", "action": step.action.name(), "file": file_json(&step.file),
        "codes": codes, "reason": step.reason, "needed": step.is_needed,
    });
    let more = match &step.action {
        Action::Rewrite { segment, kept, lost, sets_aside } => json!({
            "segment": segment.to_string(), "kept": kept, "lost": lost, "sets_aside": sets_aside,
        }),
        Action::Retire { segment } => json!({"segment": segment.to_string()}),
        Action::WriteEndings { deletes, cuts, touches } => {
            json!({"deletes": deletes, "cuts": cuts, "touches": touches})
        }
        _ => json!({}),
    };
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

fn lost_json(lost: &LostRecord, face: Face) -> Value {
    let mut object = Map::new();
    for (name, value) in [
        ("type", json!("lost")),
        ("file", file_json(&lost.file)),
        ("offset", json!(lost.offset)),
        ("bytes", json!(lost.bytes)),
        ("kind", json!(lost.kind)),
        ("sequence", json!(lost.sequence.0)),
        ("hash", json!(lost.hash.map(|hash| format!("{hash:016x}")))),
        ("fate", json!(lost.fate.name())),
    ] {
        object.insert(name.to_owned(), value);
    }
    match &lost.key {
        Some(key) => face.insert_key(&mut object, "key", key),
        None => drop(object.insert("key".to_owned(), Value::Null)),
    }
    object.into()
}

fn range_json(range: &LostRange) -> Value {
    let (from, to) = range.sequences.unzip();
    json!({
        "type": "range", "file": file_json(&range.file), "offset": range.offset,
        "bytes": range.bytes, "records": range.records,
        "sequence_from": from.map(|from| from.0), "sequence_to": to.map(|to| to.0),
    })
}
