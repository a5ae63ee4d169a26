//! The page: one file that needs nothing else, readable by day and by night, on paper and on a phone.

use std::fmt::Write as _;

use tierce_engine::{
    CellBytes, Evict, SegmentMap,
    check::{CheckReport, Finding},
};

use super::{
    Picture,
    block::{drawing as block_drawing, extent, words},
    charts::{Axis, histogram},
    data::{SEGMENTS_MAX, report_json},
    history::History,
    is_problem,
    kinds::KINDS,
    markup::{count, lifetime, percent, script, short, text},
    survey::{Contents, Survey},
    svg::{HATCHES, STYLE, name_in},
    tables,
};
use crate::{
    buckets::Buckets,
    encoding::Face,
    size::human_bytes,
    text::{hex, moment},
};

const PAGE_STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The whole page.
pub(super) fn page(survey: &Survey, face: Face) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <meta name=\"color-scheme\" content=\"light dark\"/><meta name=\"referrer\" content=\"no-referrer\"/>\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'\"/>\n<title>{} · {}</title>\n<style>{STYLE}{PAGE_STYLE}</style></head><body>\n\
         <svg class=\"hatches\" width=\"0\" height=\"0\" aria-hidden=\"true\">{HATCHES}</svg>\n<main>\n",
        text(&survey.dir),
        text(&verdict(survey).1)
    );
    head(&mut out, survey);
    if let Ok(contents) = &survey.contents {
        tiles(&mut out, survey, contents);
        map(&mut out, survey, contents);
    }
    if let Some(check) = &survey.check {
        section(&mut out, "Findings", "", &tables::findings(check));
    }
    if let Ok(contents) = &survey.contents {
        histograms(&mut out, contents);
        section(&mut out, "Greatest entries", "", &tables::greatest(contents, face));
        history(&mut out, contents);
        section(&mut out, "Segments", "", &tables::segments(contents));
    }
    let _ = write!(
        out,
        "</main>\n<div id=\"tip\" role=\"status\" hidden=\"hidden\"></div>\n\
         <script type=\"application/json\" id=\"tierce-data\">{}</script>\n<script>{SCRIPT}</script>\n</body></html>\n",
        script(&report_json(survey, face))
    );
    out
}

/// In one word for the style, and in a sentence.
pub(super) fn verdict(survey: &Survey) -> (&'static str, String) {
    let problems = |check: &CheckReport| {
        let found = check.findings.iter().filter(is_problem).count() as u64 + check.omitted;
        if found == 1 { "1 problem".to_owned() } else { format!("{} problems", count(found)) }
    };
    match (&survey.check, &survey.contents) {
        (Some(check), _) if !check.is_healthy() => ("bad", problems(check)),
        (_, Err(_)) => ("bad", "cannot be read".to_owned()),
        (None, _) => ("none", "not checked".to_owned()),
        (Some(_), _) => ("good", "healthy".to_owned()),
    }
}

fn head(out: &mut String, survey: &Survey) {
    let (class, word) = verdict(survey);
    let sign = match class {
        "good" => "✓",
        "bad" => "✕",
        _ => "–",
    };
    let _ = write!(
        out,
        "<header><p class=\"kicker\">tierce store report</p><h1>{}</h1>\
         <p class=\"verdict {class}\"><span aria-hidden=\"true\">{sign}</span> {}</p>",
        text(&survey.dir),
        text(&word)
    );
    if let Some(info) = &survey.info {
        let now = survey
            .contents
            .as_ref()
            .map_or_else(|_| String::new(), |contents| moment(contents.now));
        let closed = if info.clean { "closed cleanly" } else { "open, or not closed cleanly" };
        let _ = write!(
            out,
            "<p class=\"facts\">{} <span>format {}.{}</span> <span>created {}</span> <span>{closed}</span> \
             <span>id <code>{}</code></span></p>",
            if now.is_empty() { String::new() } else { format!("<span>as of {now}</span>") },
            info.format_major,
            info.format_minor,
            moment(info.created),
            hex(&info.store_id)
        );
    }
    if let Err(reason) = &survey.contents {
        let _ = write!(out, "<p class=\"alarm\">The entries cannot be read: {}</p>", text(reason));
    }
    if let Ok(contents) = &survey.contents {
        for loss in contents.losses.iter().take(20) {
            let _ = write!(out, "<p class=\"alarm\">{}</p>", text(loss));
        }
    }
    out.push_str("</header>\n");
}

fn section(out: &mut String, title: &str, note: &str, body: &str) {
    let note =
        if note.is_empty() { String::new() } else { format!("<p class=\"note\">{note}</p>") };
    let _ = writeln!(out, "<section><h2>{title}</h2>{note}{body}</section>");
}

fn tiles(out: &mut String, survey: &Survey, contents: &Contents) {
    let sum = sum_of(&contents.picture);
    let bytes = sum.sum();
    let sealed = contents.picture.segments.iter().filter(|segment| segment.sealed).count();
    let open = contents.picture.segments.len() - sealed;
    let entries = &contents.entries;
    let unreadable = match entries.unreadable {
        0 if contents.stats.sequence == 0 => "no write on disk".to_owned(),
        0 => format!("newest write {}", count(contents.stats.sequence)),
        some => format!("and {} unreadable", count(some)),
    };
    let gone = sum.dead + sum.ended;
    let free = survey.disk_free.map_or_else(|| "unknown".to_owned(), human_bytes);
    let on_disk = survey.info.as_ref().map_or(bytes, |info| info.bytes);
    let tiles = [
        ("Entries", count(entries.live), unreadable),
        ("Live", human_bytes(sum.live), format!("{} of the segments", percent(sum.live, bytes))),
        ("To give back", human_bytes(gone), format!("{} dead or ended", percent(gone, bytes))),
        (
            "Segments",
            count(contents.stats.segments),
            format!("{} sealed, {open} open", count(sealed as u64)),
        ),
        ("On disk", human_bytes(on_disk), "all files of the store".to_owned()),
        ("Disk free", free, "on its file system".to_owned()),
    ];
    out.push_str("<section class=\"tiles\" aria-label=\"Key figures\">");
    for (name, value, note) in tiles {
        let _ = write!(
            out,
            "<div class=\"tile\"><p>{name}</p><p class=\"value\">{}</p><p class=\"sub\">{}</p></div>",
            text(&value),
            text(&note)
        );
    }
    out.push_str("</section>\n");
}

fn sum_of(picture: &Picture) -> CellBytes {
    let sums = picture.segments.iter().map(SegmentMap::sum);
    sums.fold(CellBytes::default(), |sum, one| sum.plus(&one))
}

/// Blocks that have their names above them.
const NAMED_MAX: usize = 300;

fn map(out: &mut String, survey: &Survey, contents: &Contents) {
    let picture = &contents.picture;
    let together = picture.segments.len().div_ceil(SEGMENTS_MAX).max(1);
    let note = match together {
        1 => format!(
            "Each block is a segment, oldest first; each cell is {} of its file, filled from below by what its \
             bytes are good for. A frame marks a cell in which the check found a problem.",
            human_bytes(picture.cell_bytes)
        ),
        some => format!("Each cell stands for {some} segments, oldest first."),
    };
    let mut body = composition(&sum_of(picture));
    if picture.segments.is_empty() {
        body.push_str("<p class=\"none\">No segments: nothing is stored.</p>");
    }
    // Many blocks stand close, without names.
    let dense = if picture.segments.len() > NAMED_MAX { " dense" } else { "" };
    let _ = write!(body, "<div class=\"map{dense}\">");
    if together == 1 {
        for (at, segment) in picture.segments.iter().enumerate() {
            body.push_str(&block(at, segment, picture.cell_bytes, survey.check.as_ref()));
        }
    } else {
        picture.segments.chunks(together).for_each(|many| body.push_str(&block_of_many(many)));
    }
    body.push_str("</div>");
    section(out, "Segment map", &note, &body);
}

/// A bar of all bytes, and what its marks mean.
fn composition(sum: &CellBytes) -> String {
    let all = sum.sum().max(1);
    let mut out = String::from(
        "<svg class=\"whole\" width=\"100%\" height=\"22\" role=\"img\" aria-label=\"All bytes\">",
    );
    let mut at = 0.0;
    for kind in KINDS {
        let share = (kind.of)(sum) as f64 / all as f64 * 100.0;
        if share > 0.0 {
            let _ = write!(
                out,
                "<rect class=\"k-{}\" x=\"{at:.3}%\" width=\"{share:.3}%\" height=\"22\"><title>{}: {}</title></rect>",
                kind.name,
                kind.label,
                human_bytes((kind.of)(sum))
            );
        }
        at += share;
    }
    out.push_str("</svg><ul class=\"legend\">");
    for kind in KINDS {
        let bytes = (kind.of)(sum);
        let _ = write!(
            out,
            "<li><svg width=\"14\" height=\"14\" aria-hidden=\"true\"><rect class=\"k-{}\" x=\".5\" y=\".5\" \
             width=\"13\" height=\"13\"/></svg><span><b>{}</b> {} <i>{}</i><br/><small>{}</small></span></li>",
            kind.name,
            kind.label,
            human_bytes(bytes),
            text(&percent(bytes, all)),
            text(kind.meaning)
        );
    }
    out.push_str("</ul>");
    out
}

fn block(at: usize, segment: &SegmentMap, cell_bytes: u64, check: Option<&CheckReport>) -> String {
    let (width, height) = extent(segment.cells.len());
    let state = if segment.sealed { "sealed" } else { "open" };
    let told = format!(
        "segment {} ({state}), {}: {}",
        segment.id,
        human_bytes(segment.bytes),
        words(&segment.sum())
    );
    let name = name_in(width, segment.id.0);
    let name = if name.is_empty() { "&#160;" } else { &name };
    let (told, width, height) = (text(&told), width + 2, height + 2);
    format!(
        "<figure><figcaption>{name}</figcaption><svg viewBox=\"-1 -1 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" data-at=\"{at}\" role=\"img\"><title>{told}</title>{}{}</svg></figure>",
        block_drawing(&segment.cells, cell_bytes),
        marks(segment, cell_bytes, check),
    )
}

/// Frames around the cells in which the check found a problem.
fn marks(segment: &SegmentMap, cell_bytes: u64, check: Option<&CheckReport>) -> String {
    let Some(check) = check else { return String::new() };
    let name = format!("{}.seg", segment.id);
    let is_here =
        |finding: &&Finding| finding.file.file_name().is_some_and(|file| file == name.as_str());
    let found = check.findings.iter().filter(is_problem).filter(is_here);
    let cell =
        |finding: &Finding| usize::try_from(finding.offset.unwrap_or(0) / cell_bytes).unwrap_or(0);
    let cells: std::collections::BTreeSet<_> = found.map(cell).collect();
    let mark = |at: usize| {
        let (x, y) = super::block::place(at.min(segment.cells.len().saturating_sub(1)));
        format!("<rect class=\"mark\" x=\"{x}\" y=\"{y}\" width=\"9\" height=\"14\"/>")
    };
    cells.into_iter().map(mark).collect()
}

/// Many segments as one cell, where there are too many for a block each.
fn block_of_many(segments: &[SegmentMap]) -> String {
    let sum =
        segments.iter().map(SegmentMap::sum).fold(CellBytes::default(), |sum, one| sum.plus(&one));
    let (first, last) = (segments.first(), segments.last());
    let id = |segment: Option<&SegmentMap>| segment.map_or(String::new(), |one| one.id.to_string());
    let told = format!(
        "segments {} to {}, {}: {}",
        id(first),
        id(last),
        human_bytes(sum.sum()),
        words(&sum)
    );
    format!(
        "<figure><svg viewBox=\"-1 -1 11 16\" width=\"11\" height=\"16\"><title>{}</title>{}</svg></figure>",
        text(&told),
        block_drawing(&[sum], sum.sum())
    )
}

fn histograms(out: &mut String, contents: &Contents) {
    let entries = &contents.entries;
    let bytes = Axis { title: "bytes of a record", word: short_bytes };
    let left = Axis { title: "time left to live", word: lifetime };
    let writes = Axis { title: "writes since it was stored", word: short };
    let mut body = String::from("<div class=\"charts\">");
    let mut chart = |title: &str, drawn: &str, note: &str| {
        let note = if note.is_empty() {
            String::new()
        } else {
            format!("<p class=\"note\">{}</p>", text(note))
        };
        let _ = write!(body, "<div class=\"card\"><h3>{title}</h3>{drawn}{note}</div>");
    };
    chart("Size", &histogram("Entries by size", &entries.sizes, &bytes), "");
    let never = format!("{} entries never expire.", count(entries.never));
    let expiring = entries.lifetimes.used().iter().any(|bucket| bucket.count > 0);
    if expiring || entries.live == 0 {
        chart("Expiry", &histogram("Entries by time left", &entries.lifetimes, &left), &never);
    } else {
        chart("Expiry", &format!("<p class=\"none\">{never}</p>"), "");
    }
    chart(
        "Age",
        &histogram("Entries by age", &entries.ages, &writes),
        "Records do not tell the time: age counts writes.",
    );
    match &contents.uses {
        Some(uses) => {
            let steps = Axis { title: "steps before the newest", word: short };
            let drawn = histogram("Entries by last use", &Buckets::of(&uses.steps_ago), &steps);
            chart("Recency", &drawn, recency_note(uses.policy));
        }
        None => {
            let unknown = "<p class=\"none\">Not known. Only a store with a limit counts uses, and only a checkpoint \
                           keeps them.</p>";
            chart("Recency", unknown, "");
        }
    }
    body.push_str("</div>");
    section(
        out,
        "Entries",
        "Bars are powers of two; the number at a bar's left edge is its least.",
        &body,
    );
}

const fn recency_note(policy: Evict) -> &'static str {
    match policy {
        Evict::Fifo => {
            "Since it was stored (fifo), in steps of the eviction clock, as of the last checkpoint."
        }
        Evict::S3Fifo => {
            "Since it entered its queue (s3-fifo), in steps of the eviction clock, as of the last checkpoint."
        }
        _ => "Since its last use (lru), in steps of the eviction clock, as of the last checkpoint.",
    }
}

fn short_bytes(bytes: u64) -> String {
    // Powers of two, and one less: whole numbers of a unit, or nearly.
    match (bytes + 1).is_power_of_two() {
        true if bytes >= 1 << 10 => human_bytes(bytes + 1),
        _ => human_bytes(bytes),
    }
    .replace(".0 ", " ")
}

fn history(out: &mut String, contents: &Contents) {
    let history = History::of(contents);
    let (compacted, recovered) = history.rewritten();
    let rewritten = compacted + recovered;
    let mut body = String::new();
    if history.bytes > 0 {
        let at_least = history.written_at_least().unwrap_or(100);
        let _ = write!(
            body,
            "<p class=\"lead\">Compaction wrote <b>{}</b> of the bytes on disk ({}), recovery <b>{}</b>.</p>\
             <p class=\"note\">Write amplification over the life of the store is not recorded in its files. What the \
             files prove: what was rewritten was written before, so the {} that are here now were written at least \
             <b>{}.{:02}</b> times on average{}.</p>",
            text(&percent(compacted, history.bytes)),
            human_bytes(compacted),
            text(&percent(recovered, history.bytes)),
            human_bytes(history.bytes),
            at_least / 100,
            at_least % 100,
            if rewritten == 0 { ", which says nothing of what compaction has removed" } else { "" }
        );
    }
    body.push_str(&tables::classes(&history));
    if let Some(drawn) = history.drawing() {
        let _ = write!(body, "<div class=\"scroll\" tabindex=\"0\">{drawn}</div>");
    }
    body.push_str(&tables::lineage(&history));
    section(out, "Compaction history", "What the files that are still here tell.", &body);
}
