//! Commands that look at the files without opening the store: `info`, `check`, `records`. None writes a byte.

use std::path::Path;

use serde_json::{Value, json};
use tierce_engine::{
    SegmentId,
    check::{CheckReport, Finding, Severity, check_store},
    inspect::{self, RecordSummary, SegmentSummary, StoreInfo},
};

use crate::{
    args::{DirArgs, RecordsArgs},
    escape::escape,
    exit::{Code, Outcome},
    out::Out,
    store::disk,
    talk::say,
    text::{bytes_object, hex, moment},
};

/// Describes the store.
pub(crate) fn info(args: &DirArgs, json: bool, out: &mut Out) -> Outcome {
    let info = inspect::info(&disk(), &args.dir)?;
    let segments = inspect::segments(&disk(), &args.dir)?;
    if json {
        out.json(&info_json(&info, &segments))?;
        return Ok(Code::Done);
    }
    for (name, value) in info_fields(&info) {
        out.line(format_args!("{name:<14} {value}"))?;
    }
    for segment in &segments {
        let state = if segment.sealed { "sealed" } else { "open" };
        out.line(format_args!(
            "segment {} {state:<6} {:>10} bytes {:>8} records, class {}, sequence to {}",
            segment.id, segment.bytes, segment.records, segment.class, segment.sequence_max
        ))?;
    }
    Ok(Code::Done)
}

fn info_fields(info: &StoreInfo) -> Vec<(&'static str, String)> {
    vec![
        ("format", format!("{}.{}", info.format_major, info.format_minor)),
        ("store id", hex(&info.store_id)),
        ("created", moment(info.created)),
        ("high water", moment(info.high_water)),
        ("generation", info.generation.to_string()),
        ("closed", if info.clean { "cleanly" } else { "not yet, or by a crash" }.to_owned()),
        ("bytes", info.bytes.to_string()),
        ("segments", format!("{} ({} sealed)", info.segments, info.sealed)),
        ("next sequence", info.next_sequence.0.to_string()),
        (
            "checkpoint",
            info.checkpoint.map_or_else(|| "none".to_owned(), |number| number.to_string()),
        ),
        ("quarantined", info.quarantined.to_string()),
    ]
}

fn info_json(info: &StoreInfo, segments: &[SegmentSummary]) -> Value {
    let segments: Vec<Value> = segments
        .iter()
        .map(|segment| {
            json!({
                "id": segment.id.to_string(),
                "bytes": segment.bytes,
                "sealed": segment.sealed,
                "class": segment.class,
                "records": segment.records,
                "sequence_max": segment.sequence_max.0,
            })
        })
        .collect();
    json!({
        "format": {"major": info.format_major, "minor": info.format_minor},
        "store_id": hex(&info.store_id),
        "created_ms": info.created.0,
        "high_water_ms": info.high_water.0,
        "generation": info.generation,
        "clean": info.clean,
        "bytes": info.bytes,
        "sealed": info.sealed,
        "next_sequence": info.next_sequence.0,
        "checkpoint": info.checkpoint,
        "quarantined": info.quarantined,
        "segments": segments,
    })
}

/// Checks the store, prints what is wrong, and one verdict.
pub(crate) fn check(args: &DirArgs, json: bool, out: &mut Out) -> Outcome {
    let report = check_store(&disk(), &args.dir)?;
    if json {
        out.json(&check_json(&report))?;
    } else {
        for finding in &report.findings {
            out.line(finding_line(finding))?;
        }
        out.line(verdict(&report))?;
    }
    Ok(if report.is_healthy() { Code::Done } else { Code::Problems })
}

/// The last line of a check.
pub(crate) fn verdict(report: &CheckReport) -> String {
    let count =
        |severity| report.findings.iter().filter(|found| found.severity == severity).count();
    let (problems, notes) = (count(Severity::Problem), count(Severity::Note));
    let word = if report.is_healthy() { "ok" } else { "problems remain" };
    let CheckReport { segments, records, bytes, entries, .. } = report;
    format!(
        "{word}: {problems} problems and {notes} notes in {segments} segments, {records} records, {bytes} bytes; \
         {entries} entries"
    )
}

/// One finding, code first.
pub(crate) fn finding_line(finding: &Finding) -> String {
    let at = finding.offset.map_or_else(String::new, |offset| format!(" at {offset}"));
    let file = finding.file.display();
    format!("{} {} {file}{at}: {}", finding.code, severity(finding.severity), finding.message)
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Problem => "problem",
        _ => "note",
    }
}

fn check_json(report: &CheckReport) -> Value {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "code": finding.code,
                "severity": severity(finding.severity),
                "file": finding.file.to_string_lossy(),
                "offset": finding.offset,
                "message": finding.message,
            })
        })
        .collect();
    json!({
        "healthy": report.is_healthy(),
        "findings": findings,
        "segments": report.segments,
        "records": report.records,
        "bytes": report.bytes,
        "entries": report.entries,
    })
}

/// Lists the records of one segment.
pub(crate) fn records(args: &RecordsArgs, json: bool, out: &mut Out) -> Outcome {
    let id = SegmentId(args.segment);
    if !has_segment(&args.dir, id)? {
        say(format_args!("tierce: no segment {id} here; info lists them"));
        return Ok(Code::No);
    }
    let records = inspect::records(&disk(), &args.dir, id)?;
    if json {
        let records: Vec<Value> = records.iter().map(record_json).collect();
        out.json(&json!({ "segment": id.to_string(), "records": records }))?;
        return Ok(Code::Done);
    }
    out.line(
        "offset bytes kind flags sequence key value_bytes expires codec.schema scopes verdict",
    )?;
    for record in &records {
        out.line(record_line(record))?;
    }
    Ok(Code::Done)
}

fn has_segment(dir: &Path, id: SegmentId) -> Outcome<bool> {
    Ok(inspect::segments(&disk(), dir)?.iter().any(|segment| segment.id == id))
}

/// Words of one record, in the order of the heading; `-` where there is nothing.
fn record_line(record: &RecordSummary) -> String {
    let list = |words: Vec<String>| if words.is_empty() { "-".to_owned() } else { words.join(",") };
    let flags = list(record.flags.iter().map(ToString::to_string).collect());
    let scopes = list(record.scopes.iter().map(|scope| escape(scope)).collect());
    let expires = record.expires_at.map_or_else(|| "-".to_owned(), moment);
    let RecordSummary { offset, bytes, sequence, value_bytes, codec, schema, verdict, .. } = record;
    let (kind, key) = (record.kind.unwrap_or("-"), escape(&record.key));
    format!(
        "{offset} {bytes} {kind} {flags} {sequence} {key} {value_bytes} {expires} {codec}.{schema} {scopes} {verdict}"
    )
}

fn record_json(record: &RecordSummary) -> Value {
    let mut object = bytes_object("key", &record.key);
    let scopes: Vec<Value> =
        record.scopes.iter().map(|scope| bytes_object("scope", scope).into()).collect();
    for (name, value) in [
        ("offset", json!(record.offset)),
        ("bytes", json!(record.bytes)),
        ("kind", json!(record.kind)),
        ("flags", json!(record.flags)),
        ("sequence", json!(record.sequence.0)),
        ("value_bytes", json!(record.value_bytes)),
        ("expires_at_ms", json!(record.expires_at.map(|at| at.0))),
        ("codec", json!(record.codec)),
        ("schema", json!(record.schema)),
        ("scopes", json!(scopes)),
        ("verdict", json!(record.verdict)),
    ] {
        object.insert(name.to_owned(), value);
    }
    object.into()
}
