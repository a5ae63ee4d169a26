//! What can be read of a damaged store, into a new one beside it. Of the old one not a byte is changed.

use std::{
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use super::{
    apply::{EPOCHS, raised, replace, write_checkpoint},
    known::learn,
    lost::{LostRange, LostRecord},
    outputs::Outputs,
    read_around,
    survey::{survey, visit},
    undo::make_empty,
    view::View,
};
use crate::{
    check::{CheckReport, check_store},
    error::{Error, Result},
    format::manifest::{Edit, ManifestHeader},
    io::Disk,
    options::Options,
    segment::{
        Home,
        manifest_state::{ManifestState, ROW},
    },
};

/// What was salvaged, and what could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SalvageReport {
    /// Segments that something was read from.
    pub segments: u64,
    /// Records that were copied, those that a newer one displaced included.
    pub records: u64,
    /// Records that cannot be read, and what becomes of their keys.
    pub lost: Vec<LostRecord>,
    /// Ranges of which nobody knows what they held.
    pub unknown: Vec<LostRange>,
    /// No manifest says which segments there were: if one is missing, nothing tells, and older values of keys that were
    /// written in it may show.
    pub may_lack_segments: bool,
    /// Files with a segment's name that belong to no segment of the store, as far as anything tells, and may hold
    /// something.
    pub left_out: Vec<PathBuf>,
    /// What a check finds in the new store.
    pub after: CheckReport,
}

impl SalvageReport {
    /// Whether everything that had been stored is in the new store, as far as anything can tell.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let is_loss = |lost: &LostRecord| lost.fate.is_loss();
        self.unknown.is_empty()
            && self.left_out.is_empty()
            && !self.may_lack_segments
            && !self.lost.iter().any(is_loss)
    }
}

/// Reads whatever can be read of the store at `from` into a new store at `out`, which must be new or empty. `from` may
/// be the directory of a store, with its manifest or without, on a medium that can only be read, or the file of one
/// segment. No lock is taken: nobody may write there meanwhile.
///
/// Sound records keep keys, values, sequence numbers, expiries, scopes, codecs and items; touches and scope cuts hold;
/// what was deleted or replaced stays so, as [`super::repair`] says. The new store has an identity of its own. Records
/// that were displaced are copied too: compaction drops them. A crash leaves an unfinished `out` that is no store.
///
/// Of `options` only disk and clock count. Cost: reads every byte two or three times, writes every sound record once;
/// memory for one segment, for what is lost, and for an opening of the new store.
///
/// # Errors
/// [`Error::NotAStore`] if `from` holds no segment; [`Error::InvalidOptions`] if `out` is not empty, or is in `from`; [`Error::UnknownFormat`]; [`Error::Io`].
///
/// ```
/// use tierce_engine::{Options, io::MemoryDisk, repair};
/// let options = Options::new().disk(MemoryDisk::new());
/// let engine = options.clone().open("store")?;
/// engine.put("key", "value")?;
/// engine.close()?;
/// assert!(repair::salvage(&options, "store".as_ref(), "new".as_ref())?.is_whole());
/// assert_eq!(options.open("new")?.get("key")?.as_deref(), Some(&b"value"[..]));
/// # Ok::<(), tierce_engine::Error>(())
/// ```
pub fn salvage(options: &Options, from: &Path, out: &Path) -> Result<SalvageReport> {
    let (_, disk) = read_around(options, from)?;
    let view = Arc::new(View::of(&(Arc::clone(&disk) as Arc<dyn Disk>), from)?);
    let old = Home::new(Arc::clone(&view) as Arc<dyn Disk>, from.to_owned());
    let known = learn(&old, options, disk)?;
    refuse_inside(options.disk.as_ref(), from, out)?;
    make_empty(options.disk.as_ref(), out)?;
    let mut found = survey(&known)?;
    let new = Home::at(&options.disk, out)?;
    let header = new_header(options, &known.header);
    let mut state = ManifestState {
        next_id: 1,
        next_sequence: raised(&known, &found).next_sequence,
        high_water: known.state.high_water,
        properties: known.state.properties.clone(),
        ..ManifestState::default()
    };
    state.properties.remove(EPOCHS);
    state.properties.remove(ROW);
    let mut outputs = Outputs::new(options, new.clone(), header, &state);
    let mut segments = 0;
    visit(&known, None, &mut |visited| {
        segments += u64::from(!visited.examined.kept.is_empty());
        outputs.copy(&known, &visited)
    })?;
    let records = outputs.records;
    outputs.write_endings(&found.endings)?;
    let mut edits = outputs.finish(&state);
    edits.push(Edit::Clean);
    replace(&new, header, state, &edits)?;
    write_checkpoint(options, &new)?;
    for lost in &mut found.lost {
        lost.file = view.real(&lost.file);
    }
    for range in &mut found.unknown {
        range.file = view.real(&range.file);
    }
    Ok(SalvageReport {
        segments,
        records,
        lost: found.lost,
        unknown: found.unknown,
        may_lack_segments: known.lacks_edits,
        left_out: known
            .strays
            .iter()
            .filter(|stray| !stray.is_needless)
            .map(|stray| view.real(&old.segment(stray.id)))
            .collect(),
        after: check_store(&new.disk, out)?,
    })
}

fn new_header(options: &Options, old: &ManifestHeader) -> ManifestHeader {
    let clock = options.clock.as_ref();
    ManifestHeader {
        store_id: (u128::from(clock.random()) << 64 | u128::from(clock.random())).to_le_bytes(),
        hash_seed: clock.random(),
        created: old.created,
        generation: clock.random() >> 16,
    }
}

/// Makes sure that the new store would not change the directory of the old one. Places are compared, not the ways
/// that lead there.
fn refuse_inside(disk: &dyn Disk, from: &Path, out: &Path) -> Result<()> {
    let place = |path: &Path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        disk.resolve(path).ok()
    };
    let is_there = |path: &Path| {
        path.as_os_str().is_empty() || disk.kind(path).is_ok_and(|kind| kind.is_some())
    };
    let out = without_detours(out, &is_there);
    // What is not there yet has no place; the nearest directory above it does.
    let above = out.ancestors().filter(|path| is_there(path)).find_map(place);
    let is_inside = place(from).zip(above).is_some_and(|(old, above)| above.starts_with(old));
    if is_inside {
        let complaint = format!("{} is in {}", out.display(), from.display());
        return Err(Error::InvalidOptions { complaints: vec![complaint] });
    }
    Ok(())
}

/// `path` with no `..` behind what is not there: such a part is made as a directory, so that `..` takes it back. Behind
/// what is there `..` stays, for it may be a link to elsewhere.
fn without_detours(path: &Path, is_there: &dyn Fn(&Path) -> bool) -> PathBuf {
    let mut place = PathBuf::new();
    for part in path.components() {
        let next = place.join(part);
        if part == Component::ParentDir && !is_there(&next) {
            place.pop();
        } else {
            place = next;
        }
    }
    place
}
