//! Commands that look at files and segments: `info`, `segments`, `check`, `records`. None writes a byte.

use std::{ops::ControlFlow, path::Path};

use serde_json::{Map, Value, json};
use tierce_engine::{
    SegmentAccount, SegmentId,
    check::{CheckLevel, CheckReport, Finding, Severity, Verdict},
    inspect::{self, RecordSummary, SegmentSummary, StoreInfo},
};

use crate::{
    args::{DirArgs, RecordsArgs},
    encoding::Face,
    escape::{escape, json_text, one_line},
    exit::{Code, Fail, Outcome},
    interrupt,
    out::Out,
    select::Selection,
    size::human_bytes,
    store::{disk, holder, open_to_read},
    talk::say,
    text::{bytes_object, hex, moment},
};

/// What only a look at the entries tells.
struct Holdings {
    live_bytes: u64,
    dead_bytes: u64,
    entries: u64,
    /// Sequence numbers of the oldest and the newest entry.
    oldest_newest: Option<(u64, u64)>,
}

impl Holdings {
    fn of(dir: &Path) -> Outcome<Self> {
        let reader = open_to_read(dir)?;
        let stats = reader.stats();
        let mut oldest_newest: Option<(u64, u64)> = None;
        Selection::default().walk(&reader.snapshot(), &mut |_, view| {
            let (oldest, newest) = oldest_newest.unwrap_or((u64::MAX, 0));
            oldest_newest = Some((oldest.min(view.sequence.0), newest.max(view.sequence.0)));
        })?;
        let dead_bytes = stats.segment_bytes.saturating_sub(stats.live_bytes);
        Ok(Self { live_bytes: stats.live_bytes, dead_bytes, entries: stats.entries, oldest_newest })
    }
}

/// Describes the store. What is damaged has files and a manifest all the same, so those come in any case.
pub(crate) fn info(args: &DirArgs, json: bool, out: &mut Out) -> Outcome {
    let info = inspect::info(&disk(), &args.dir)?;
    let segments = inspect::segments(&disk(), &args.dir)?;
    let holdings = match Holdings::of(&args.dir) {
        Ok(holdings) => Some(holdings),
        Err(Fail::Interrupted) => return Err(Fail::Interrupted),
        Err(fail) => {
            say(format_args!("tierce: the entries cannot be read: {fail}"));
            None
        }
    };
    let holder = holder(&args.dir);
    let disk_free = disk().space(&args.dir).ok().map(|space| space.available);
    if json {
        let mut document = info_json(&info, &segments);
        let number = |of: fn(&Holdings) -> u64| Value::from(holdings.as_ref().map(of));
        document["entries"] = number(|holdings| holdings.entries);
        document["live_bytes"] = number(|holdings| holdings.live_bytes);
        document["dead_bytes"] = number(|holdings| holdings.dead_bytes);
        let ends = holdings.as_ref().and_then(|holdings| holdings.oldest_newest);
        document["oldest_sequence"] = ends.map(|(oldest, _)| oldest).into();
        document["newest_sequence"] = ends.map(|(_, newest)| newest).into();
        document["holder_pid"] = holder.into();
        document["disk_free_bytes"] = disk_free.into();
        out.json(&document)?;
        return Ok(Code::Done);
    }
    let mut fields = info_fields(&info);
    if let Some(holdings) = &holdings {
        fields.push(("entries", holdings.entries.to_string()));
        fields.push((
            "live",
            format!("{} ({})", holdings.live_bytes, human_bytes(holdings.live_bytes)),
        ));
        fields.push((
            "dead",
            format!("{} ({})", holdings.dead_bytes, human_bytes(holdings.dead_bytes)),
        ));
        let ends = holdings
            .oldest_newest
            .map_or_else(|| "none".to_owned(), |(a, b)| format!("sequence {a} to {b}"));
        fields.push(("oldest, newest", ends));
    }
    fields.push((
        "open in",
        holder.map_or_else(|| "no process".to_owned(), |pid| format!("process {pid}")),
    ));
    if let Some(free) = disk_free {
        fields.push(("disk free", human_bytes(free)));
    }
    for (name, value) in fields {
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

/// Lists the segments with what is alive in each.
pub(crate) fn segments(args: &DirArgs, json: bool, out: &mut Out) -> Outcome {
    let reader = open_to_read(&args.dir)?;
    let (accounts, now) = (reader.segments(), reader.now());
    if json {
        let object = |account: &SegmentAccount| {
            json!({
                "id": account.id.to_string(), "bytes": account.bytes, "live_bytes": account.live_bytes,
                "live_records": account.live_records, "sealed": account.sealed, "class": account.class,
                "tombstones": account.tombstones, "sequence_max": account.sequence_max.0,
                "expires_first_ms": account.expires_first.map(|at| at.0),
                "expires_last_ms": account.expires_last.map(|at| at.0),
                "expired": account.expires_last.is_some_and(|at| at <= now),
            })
        };
        let segments: Vec<Value> = accounts.iter().map(object).collect();
        out.json(&json!({ "segments": segments }))?;
        return Ok(Code::Done);
    }
    out.line("segment          state      bytes    live%  records tombstones class expires")?;
    for account in &accounts {
        let state = if account.sealed { "sealed" } else { "open" };
        let percent = u128::from(account.live_bytes) * 100 / u128::from(account.bytes.max(1));
        let expires = match account.expires_last {
            Some(at) if at <= now => "all over".to_owned(),
            Some(at) => format!("until {}", moment(at)),
            None => account
                .expires_first
                .map_or_else(|| "-".to_owned(), |at| format!("from {}", moment(at))),
        };
        out.line(format_args!(
            "{} {state:<6} {:>10} {:>7}% {:>8} {:>10} {:>5} {expires}",
            account.id,
            account.bytes,
            percent.min(100),
            account.live_records,
            account.tombstones,
            account.class
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

/// The last line of a check.
pub(crate) fn verdict(report: &CheckReport) -> String {
    let count =
        |severity| report.findings.iter().filter(|found| found.severity == severity).count();
    let (problems, notes) = (count(Severity::Problem), count(Severity::Note));
    let word = match report.verdict() {
        Verdict::Healthy => "ok",
        Verdict::Unfinished => "not finished",
        _ => "problems remain",
    };
    let CheckReport { segments, records, bytes, entries, omitted, .. } = report;
    let mut line = format!(
        "{word}: {problems} problems and {notes} notes in {segments} segments, {records} records, {bytes} bytes"
    );
    match report.level {
        CheckLevel::Full => line += &format!("; {entries} entries"),
        level => line += &format!("; {level} check"),
    }
    if *omitted > 0 {
        line += &format!("; {omitted} more findings are not listed");
    }
    line
}

/// One finding, code first.
pub(crate) fn finding_line(finding: &Finding) -> String {
    let at = finding.offset.map_or_else(String::new, |offset| format!(" at {offset}"));
    let file = finding.file.display();
    one_line(&format!(
        "{} {} {file}{at}: {}",
        finding.code,
        severity(finding.severity),
        finding.message
    ))
}

pub(crate) const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Problem => "problem",
        _ => "note",
    }
}

pub(crate) fn check_json(report: &CheckReport) -> Value {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "code": finding.code.as_str(),
                "severity": severity(finding.severity),
                "file": finding.file.to_string_lossy(),
                "offset": finding.offset,
                "message": finding.message,
            })
        })
        .collect();
    let verdict = match report.verdict() {
        Verdict::Healthy => "healthy",
        Verdict::Unfinished => "unfinished",
        _ => "problems",
    };
    json!({
        "healthy": report.is_healthy(),
        "verdict": verdict,
        "level": report.level.to_string(),
        "findings": findings,
        "omitted": report.omitted,
        "segments": report.segments,
        "records": report.records,
        "bytes": report.bytes,
        "entries": report.entries,
    })
}

/// Lists the records of one segment, as they are met.
pub(crate) fn records(args: &RecordsArgs, face: Face, out: &mut Out) -> Outcome {
    let id = SegmentId(args.segment);
    if !has_segment(&args.dir, id)? {
        say(format_args!("tierce: no segment {id} here; segments lists them"));
        return Ok(Code::No);
    }
    if face.json {
        // A document that is written while it is read: the list may be long.
        out.bytes(b"{\"records\":[")?;
    } else {
        out.line(
            "offset bytes kind flags sequence key value_bytes expires codec.schema scopes verdict",
        )?;
    }
    let (mut found, mut ended) = (0_u64, Ok(()));
    inspect::each_record(&disk(), &args.dir, id, &mut |record, bytes| {
        if args.at.is_none_or(|at| at == record.offset) {
            ended = interrupt::check()
                .and_then(|()| print_record(&record, bytes, args.hex, found == 0, face, out));
            found += 1;
        }
        let is_over = ended.is_err() || args.at.is_some_and(|at| record.offset >= at);
        if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    ended?;
    if face.json {
        out.line(format_args!("],\"segment\":\"{id}\"}}"))?;
    }
    match args.at {
        Some(at) if found == 0 => {
            say(format_args!("tierce: no record begins at {at}"));
            Ok(Code::No)
        }
        _ => Ok(Code::Done),
    }
}

fn print_record(
    record: &RecordSummary,
    bytes: &[u8],
    with_bytes: bool,
    is_first: bool,
    face: Face,
    out: &mut Out,
) -> Outcome<()> {
    if face.json {
        let mut object = record_json(record, face);
        if with_bytes {
            object.insert("hex".to_owned(), hex(bytes).into());
        }
        let comma = if is_first { "" } else { "," };
        return out.bytes(format!("{comma}{}", json_text(&object.into())).as_bytes());
    }
    out.line(record_line(record, face)?)?;
    if with_bytes {
        for line in hex_dump(record.offset, bytes) {
            out.line(line)?;
        }
    }
    Ok(())
}

/// Lines of sixteen bytes: offset, digits, and what shows as text.
fn hex_dump(offset: u64, bytes: &[u8]) -> impl Iterator<Item = String> + '_ {
    const ROW: usize = 16;
    let shown = |byte: &u8| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '.' };
    (offset..).step_by(ROW).zip(bytes.chunks(ROW)).map(move |(at, row)| {
        let digits: String = row.iter().map(|byte| format!("{byte:02x} ")).collect();
        let text: String = row.iter().map(shown).collect();
        format!("  {at:010x}  {digits:<48} |{text}|")
    })
}

fn has_segment(dir: &Path, id: SegmentId) -> Outcome<bool> {
    Ok(inspect::segments(&disk(), dir)?.iter().any(|segment| segment.id == id))
}

/// Words of one record, in the order of the heading; `-` where there is nothing.
fn record_line(record: &RecordSummary, face: Face) -> Outcome<String> {
    let list = |words: Vec<String>| if words.is_empty() { "-".to_owned() } else { words.join(",") };
    let flags = list(record.flags.iter().map(ToString::to_string).collect());
    let scopes = list(record.scopes.iter().map(|scope| escape(scope)).collect());
    let expires = record.expires_at.map_or_else(|| "-".to_owned(), moment);
    let RecordSummary { offset, bytes, sequence, value_bytes, codec, schema, verdict, .. } = record;
    let (kind, key) = (record.kind.unwrap_or("-"), face.key_word(&record.key)?);
    Ok(format!(
        "{offset} {bytes} {kind} {flags} {sequence} {key} {value_bytes} {expires} {codec}.{schema} {scopes} {verdict}"
    ))
}

fn record_json(record: &RecordSummary, face: Face) -> Map<String, Value> {
    let mut object = Map::new();
    face.insert_key(&mut object, "key", &record.key);
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
    object
}
