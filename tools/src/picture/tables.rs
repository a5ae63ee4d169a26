//! Tables of a page.

use std::{collections::BTreeSet, fmt::Write as _};

use tierce_engine::{
    CellBytes, SegmentId,
    check::{CheckReport, Finding},
};

use super::{
    data::FINDINGS_MAX,
    history::{History, Job, class_name},
    is_problem,
    markup::{count, percent, text},
    survey::Contents,
};
use crate::{encoding::Face, escape::escape, exit::Outcome, size::human_bytes, text::moment};

/// Rows that a table has at most; the figures of the others are in the data.
const ROWS_MAX: usize = 300;

/// A table that scrolls by itself where it is too wide. Columns whose name begins with `#` hold numbers.
fn table(caption: &str, columns: &[&str], rows: &[Vec<String>]) -> String {
    let is_number = |at: usize| columns.get(at).is_some_and(|name| name.starts_with('#'));
    let class = |at| if is_number(at) { " class=\"n\"" } else { "" };
    let mut out =
        format!("<div class=\"scroll\"><table><caption>{}</caption><thead><tr>", text(caption));
    for (at, name) in columns.iter().enumerate() {
        let _ = write!(
            out,
            "<th scope=\"col\"{}>{}</th>",
            class(at),
            text(name.trim_start_matches('#'))
        );
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        out.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let _ = write!(out, "<td{}>{cell}</td>", class(at));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
    out
}

fn left_out(all: usize, shown: usize, what: &str) -> String {
    match all.saturating_sub(shown) {
        0 => String::new(),
        more => {
            format!("<p class=\"note\">{} more {what} are not listed here.</p>", count(more as u64))
        }
    }
}

/// What the check found, problems first.
pub(super) fn findings(check: &CheckReport) -> String {
    if check.findings.is_empty() {
        return "<p class=\"none\">Nothing was found.</p>".to_owned();
    }
    let mut sorted: Vec<&Finding> = check.findings.iter().collect();
    sorted.sort_by_key(|finding| !is_problem(finding));
    let row = |finding: &&Finding| {
        let class = if is_problem(finding) { "bad" } else { "muted" };
        let word = if is_problem(finding) { "problem" } else { "note" };
        let name = finding.file.file_name().unwrap_or(finding.file.as_os_str()).to_string_lossy();
        vec![
            format!("<code>{}</code>", finding.code),
            format!("<span class=\"{class}\">{word}</span>"),
            format!("<code>{}</code>", text(&name)),
            finding.offset.map(count).unwrap_or_default(),
            format!("<span class=\"say\">{}</span>", text(&finding.message)),
        ]
    };
    let rows: Vec<_> = sorted.iter().take(FINDINGS_MAX).map(row).collect();
    let columns = ["Code", "Severity", "File", "#Offset", "What"];
    let omitted = usize::try_from(check.omitted).unwrap_or(usize::MAX);
    let all = sorted.len().saturating_add(omitted);
    table("Findings of the check", &columns, &rows).replacen(
        "<table>",
        "<table class=\"stack\">",
        1,
    ) + &left_out(all, rows.len(), "findings")
}

/// Segments, those with most to give back first if there are too many for all.
pub(super) fn segments(contents: &Contents) -> String {
    let mut sums: Vec<(usize, CellBytes)> =
        contents.picture.segments.iter().map(tierce_engine::SegmentMap::sum).enumerate().collect();
    if sums.len() > ROWS_MAX {
        sums.sort_by_key(|(at, sum)| (u64::MAX - sum.dead - sum.ended, *at));
    }
    let row = |(at, sum): &(usize, CellBytes)| {
        let segment = &contents.picture.segments[*at];
        let account = contents.accounts.iter().find(|account| account.id == segment.id);
        let expires = account.map_or(String::new(), |account| match account.expires_last {
            Some(at) if at <= contents.now => "all over".to_owned(),
            Some(at) => format!("until {}", brief_moment(&moment(at))),
            None => account
                .expires_first
                .map_or_else(String::new, |at| format!("from {}", brief_moment(&moment(at)))),
        });
        vec![
            format!("<code>{:x}</code>", segment.id.0),
            class_name(segment.class),
            if segment.sealed { "sealed" } else { "open" }.to_owned(),
            human_bytes(segment.bytes),
            human_bytes(sum.live),
            text(&percent(sum.live, sum.sum())),
            human_bytes(sum.dead + sum.ended),
            account.map_or_else(String::new, |account| count(account.live_records)),
            account.map_or_else(String::new, |account| count(account.tombstones)),
            text(&expires),
        ]
    };
    let rows: Vec<_> = sums.iter().take(ROWS_MAX).map(row).collect();
    let columns = [
        "Segment",
        "Origin",
        "State",
        "#Size",
        "#Live",
        "#Live share",
        "#To give back",
        "#Records",
        "#Tombstones",
        "Expires",
    ];
    table("Segments", &columns, &rows) + &left_out(sums.len(), rows.len(), "segments")
}

/// `2026-05-03 09:21`.
fn brief_moment(moment: &str) -> String {
    let minute = moment.get(..16).unwrap_or(moment);
    minute.replace('T', " ")
}

/// Which segments were made from which, newest first.
pub(super) fn lineage(history: &History<'_>) -> String {
    let jobs = history.jobs();
    if jobs.is_empty() {
        return "<p class=\"none\">Every segment is as it was first written: none was compacted or recovered.</p>"
            .to_owned();
    }
    let there: BTreeSet<_> = history.origins.iter().map(|origin| origin.map.id).collect();
    let row = |job: &Job<'_>| {
        let bytes = job.made.iter().map(|origin| origin.map.bytes).sum();
        let classes: BTreeSet<_> = job.made.iter().map(|origin| origin.map.class).collect();
        let by = if classes.iter().all(|class| *class == 1) { "recovery" } else { "compaction" };
        let from = match job.parents.is_empty() {
            true => "<span class=\"muted\">not recorded</span>".to_owned(),
            false => named(job.parents, &there),
        };
        let made: Vec<_> = job.made.iter().map(|origin| origin.map.id).collect();
        vec![
            job.created().map_or_else(|| "unknown".to_owned(), |at| brief_moment(&moment(at))),
            by.to_owned(),
            from,
            named(&made, &there),
            human_bytes(bytes),
        ]
    };
    let rows: Vec<_> = jobs.iter().take(ROWS_MAX).map(row).collect();
    let columns = ["Begun (UTC)", "By", "Made from", "Made", "#Size"];
    table("Segments that were made from others", &columns, &rows)
        + &left_out(jobs.len(), rows.len(), "jobs")
}

/// Some ids by name, those that are gone paler.
fn named(ids: &[SegmentId], there: &BTreeSet<SegmentId>) -> String {
    /// Of more, the count.
    const NAMED: usize = 10;
    let name = |id: &SegmentId| {
        let class = if there.contains(id) { "" } else { " class=\"gone\"" };
        format!("<code{class}>{:x}</code>", id.0)
    };
    let mut words: Vec<_> = ids.iter().take(NAMED).map(name).collect();
    if ids.len() > NAMED {
        words.push(format!("and {} more", count((ids.len() - NAMED) as u64)));
    }
    format!("<span class=\"say\">{}</span>", words.join(" "))
}

/// Bytes by class.
pub(super) fn classes(history: &History<'_>) -> String {
    let row = |(class, of): (&u8, &super::history::OfClass)| {
        vec![
            class_name(*class),
            count(of.segments),
            human_bytes(of.bytes),
            text(&percent(of.bytes, history.bytes)),
            text(&percent(of.live, of.bytes)),
        ]
    };
    let rows: Vec<_> = history.classes.iter().map(row).collect();
    table(
        "Bytes by origin",
        &["Origin", "#Segments", "#Size", "#Share of all", "#Live share"],
        &rows,
    )
}

/// The greatest entries.
pub(super) fn greatest(contents: &Contents, face: Face) -> String {
    if contents.entries.greatest.is_empty() {
        return "<p class=\"none\">No entries.</p>".to_owned();
    }
    let row = |entry: &crate::figures::Great| {
        let word: Outcome<String> = face.key_word(&entry.key);
        // A spelling that cannot hold the key gives way to one that can hold any.
        let word = word.unwrap_or_else(|_| escape(&entry.key));
        vec![
            format!("<code class=\"key\">{}</code>", text(&cut(&word))),
            human_bytes(entry.bytes),
            count(entry.age),
            entry.expires_at.map_or_else(|| "never".to_owned(), |at| brief_moment(&moment(at))),
        ]
    };
    let rows: Vec<_> = contents.entries.greatest.iter().map(row).collect();
    table("The greatest entries", &["Key", "#Record", "#Writes ago", "Expires (UTC)"], &rows)
}

/// As much of a long key as a table shows.
fn cut(word: &str) -> String {
    const LETTERS: usize = 120;
    match word.char_indices().nth(LETTERS) {
        Some((at, _)) => format!("{}…", &word[..at]),
        None => word.to_owned(),
    }
}
