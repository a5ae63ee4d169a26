//! Everything that a page tells, gathered once.

use std::{ops::ControlFlow, path::Path};

use tierce_engine::{
    Error, Follower, LastUses, SegmentAccount, Stats, Timestamp,
    check::{CheckOptions, CheckReport, check_store_with},
    inspect::{self, SegmentOrigin, StoreInfo},
};

use super::{Picture, handy_cell, origins, survey_cells};
use crate::{
    args::BigBy,
    buckets::Buckets,
    exit::{Fail, Outcome},
    figures::{Great, Greatest},
    interrupt,
    progress::Progress,
    store::{disk, losses, open_to_draw},
};

/// What is known of a store. Of one that is damaged, what can be known.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) dir: String,
    /// What the manifest says; `None` if it cannot be read.
    pub(super) info: Option<StoreInfo>,
    /// What a full check found; `None` if none was wanted.
    pub(super) check: Option<CheckReport>,
    /// The entries, or why they cannot be read.
    pub(super) contents: Result<Contents, String>,
    /// Bytes free on the file system.
    pub(super) disk_free: Option<u64>,
}

/// What the entries and segments tell.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) now: Timestamp,
    pub(super) stats: Stats,
    pub(super) picture: Picture,
    pub(super) accounts: Vec<SegmentAccount>,
    pub(super) origins: Vec<SegmentOrigin>,
    pub(super) entries: Entries,
    pub(super) uses: Option<LastUses>,
    /// What recovery would not keep, one sentence each.
    pub(super) losses: Vec<String>,
}

/// What a walk over the entries tells.
#[derive(Debug)]
pub(super) struct Entries {
    pub(super) live: u64,
    pub(super) unreadable: u64,
    pub(super) sizes: Buckets,
    /// Seconds left.
    pub(super) lifetimes: Buckets,
    /// Entries that never expire.
    pub(super) never: u64,
    /// Writes since.
    pub(super) ages: Buckets,
    pub(super) greatest: Vec<Great>,
}

impl Survey {
    /// Whether something is wrong with the store.
    pub(super) fn is_troubled(&self) -> bool {
        self.contents.is_err() || self.check.as_ref().is_some_and(|check| !check.is_healthy())
    }
}

/// Looks at the store in every way.
pub(super) fn survey(dir: &Path, with_check: bool) -> Outcome<Survey> {
    /// More make a page too great for a phone.
    const CELLS: u64 = 2_048;
    let info = match inspect::info(&disk(), dir) {
        Ok(info) => Some(info),
        // What can still be told of a damaged store is worth a page.
        Err(Error::Corruption(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let check = if with_check { Some(check(dir)?) } else { None };
    let contents = match open_to_draw(dir) {
        Ok(reader) => Ok(contents(dir, &reader, CELLS)?),
        Err(Fail::Engine(error @ Error::Corruption(_))) => Err(error.to_string()),
        Err(fail) => return Err(fail),
    };
    let disk_free = disk().space(dir).ok().map(|space| space.available);
    Ok(Survey { dir: dir.to_string_lossy().into_owned(), info, check, contents, disk_free })
}

fn check(dir: &Path) -> Outcome<CheckReport> {
    let mut progress = Progress::new("check", None, "bytes");
    let options = CheckOptions::new().progress(|told| {
        progress.of(told.total);
        progress.at(told.bytes);
        if interrupt::is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let report = check_store_with(&disk(), dir, options)?;
    interrupt::check()?;
    progress.finish();
    Ok(report)
}

fn contents(dir: &Path, reader: &Follower, cells: u64) -> Outcome<Contents> {
    let picture = survey_cells(reader, handy_cell(reader, cells))?;
    Ok(Contents {
        now: reader.now(),
        stats: reader.stats(),
        picture,
        accounts: reader.segments(),
        origins: origins(dir),
        entries: entries(reader)?,
        uses: reader.last_uses(),
        losses: losses(&reader.recovery_report()),
    })
}

fn entries(reader: &Follower) -> Outcome<Entries> {
    /// Told of by name.
    const TOP: usize = 10;
    let (stats, now) = (reader.stats(), reader.now());
    let mut progress = Progress::new("entries", Some(stats.entries), "entries");
    let mut greatest = Greatest::new(BigBy::Bytes, TOP, stats.sequence);
    let mut seen = Entries {
        live: 0,
        unreadable: 0,
        sizes: Buckets::default(),
        lifetimes: Buckets::default(),
        never: 0,
        ages: Buckets::default(),
        greatest: Vec::new(),
    };
    seen.unreadable = reader.snapshot().scan_readable(&mut |key, view| {
        seen.live += 1;
        progress.at(seen.live);
        seen.sizes.add(view.record_bytes);
        seen.ages.add(stats.sequence.saturating_sub(view.sequence.0));
        match view.expires_at {
            Some(at) => seen.lifetimes.add(at.0.saturating_sub(now.0) / 1_000),
            None => seen.never += 1,
        }
        greatest.show(key, &view);
        if interrupt::is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    interrupt::check()?;
    progress.finish();
    seen.greatest = greatest.into_list();
    Ok(seen)
}
