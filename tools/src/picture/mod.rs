//! Pictures of a store: `map` and `report`. What they show, the engine says; here it gets a shape.

mod block;
mod charts;
mod data;
mod file;
mod history;
mod kinds;
mod markup;
mod page;
mod survey;
mod svg;
mod tables;
mod terminal;

use std::{ops::ControlFlow, path::Path};

use serde_json::json;
use tierce_engine::{Follower, SegmentMap, check::Finding, inspect};

use crate::{
    args::{MapArgs, ReportArgs},
    encoding::Face,
    exit::{Code, Fail, Outcome},
    interrupt,
    out::Out,
    progress::Progress,
    store::{disk, open_to_draw},
    talk::say,
};

/// Segments in cells of one length.
#[derive(Debug)]
struct Picture {
    cell_bytes: u64,
    segments: Vec<SegmentMap>,
}

/// The least power of two that makes at most about so many cells of these files, at least 4 KiB.
fn handy_cell(reader: &Follower, cells_max: u64) -> u64 {
    const LEAST: u64 = 4 << 10;
    let segments = reader.segments();
    let cells = |cell: u64| segments.iter().map(|one| one.bytes.div_ceil(cell)).sum::<u64>();
    let most = cells_max.max(segments.len() as u64);
    let mut cell = LEAST;
    while cells(cell) > most && cell < 1 << 40 {
        cell *= 2;
    }
    cell
}

fn survey_cells(reader: &Follower, cell_bytes: u64) -> Outcome<Picture> {
    let mut progress = Progress::new("map", None, "entries");
    let segments = reader.map(cell_bytes, &mut |done, total| {
        progress.of(total);
        progress.at(done);
        if interrupt::is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    progress.finish();
    Ok(Picture { cell_bytes, segments: segments.ok_or(Fail::Interrupted)? })
}

/// Shows the segments, cell by cell.
pub(crate) fn map(args: &MapArgs, json: bool, out: &mut Out) -> Outcome {
    /// As many as a drawing shows well.
    const CELLS_DRAWN: u64 = 4_096;
    /// As many as fit some screens.
    const CELLS_TYPED: u64 = 1_280;
    if json && args.out.as_deref().is_some_and(is_stdout) {
        return Err(Fail::Usage("--json and a drawing do not both go to standard output".into()));
    }
    if let Some(path) = &args.out {
        file::refuse_in_store(path, &args.dir)?;
    }
    let reader = open_to_draw(&args.dir)?;
    let most = if args.out.is_some() { CELLS_DRAWN } else { CELLS_TYPED };
    let cell_bytes = args.cell.unwrap_or_else(|| handy_cell(&reader, most));
    let picture = survey_cells(&reader, cell_bytes)?;
    match &args.out {
        Some(path) if is_stdout(path) => out.bytes(svg::drawing(&picture).as_bytes())?,
        Some(path) => file::replace(path, svg::drawing(&picture).as_bytes())?,
        None if json => {}
        None => terminal::print(&picture, out)?,
    }
    if json {
        out.json(&data::map_json(&picture, usize::MAX))?;
    }
    Ok(Code::Done)
}

/// Draws up the page.
pub(crate) fn report(args: &ReportArgs, face: Face, out: &mut Out) -> Outcome {
    let is_stdout = is_stdout(&args.out);
    if face.json && is_stdout {
        return Err(Fail::Usage("--json and the page do not both go to standard output".into()));
    }
    if !is_stdout {
        file::refuse_in_store(&args.out, &args.dir)?;
    }
    let survey = survey::survey(&args.dir, !args.no_check)?;
    let page = page::page(&survey, face);
    let bytes = page.len();
    match is_stdout {
        true => out.bytes(page.as_bytes())?,
        false => file::replace(&args.out, page.as_bytes())?,
    }
    let problems =
        survey.check.as_ref().map(|check| check.findings.iter().filter(is_problem).count());
    if face.json {
        let healthy = survey.check.as_ref().map(|check| check.is_healthy());
        out.json(&json!({
            "out": args.out.to_string_lossy(), "bytes": bytes, "healthy": healthy, "problems": problems,
        }))?;
    } else if !is_stdout {
        say(format_args!(
            "tierce: {} is drawn up: {}",
            args.out.display(),
            page::verdict(&survey).1
        ));
    }
    Ok(if survey.is_troubled() { Code::Problems } else { Code::Done })
}

fn is_stdout(path: impl AsRef<Path>) -> bool {
    path.as_ref().as_os_str() == "-"
}

fn is_problem(finding: &&Finding) -> bool {
    finding.severity == tierce_engine::check::Severity::Problem
}

/// Where the segments came from; nothing if the manifest cannot be read.
fn origins(dir: &Path) -> Vec<inspect::SegmentOrigin> {
    inspect::origins(&disk(), dir).unwrap_or_default()
}
