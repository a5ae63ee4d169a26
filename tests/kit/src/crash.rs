//! Crash states: what a disk may hold after power fails at one point of its [`Log`].
//!
//! The rules, POSIX and a little more pessimistic than any one file system:
//! - bytes and length of a file are certain as of its last completed sync. Each write since then survives or
//!   not, page by page, and in any order; its pages may survive while the length does not, and the other way
//!   round, which reads as zeros;
//! - a name created, changed or removed is certain after a sync of its directory. Before that each change
//!   survives or not: in order per directory, or on its own, as the plan says. A rename is atomic;
//! - a write that power interrupts survives up to any byte, or from any sector on;
//! - what stood in the file when a sync of it failed may never reach the device, whatever later syncs say,
//!   unless its page is written again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use crate::{
    image::{Image, parent},
    log::{Event, Inode, Log},
    rng::Rng,
};

/// Bytes of a page: what survives as one.
pub const PAGE_BYTES: u64 = 4096;
/// Bytes of a sector: the least that is written as one.
pub const SECTOR_BYTES: u64 = 512;

/// Which of the effects that no sync covers survive. Numbers count these effects in the order they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPlan {
    /// None.
    Nothing,
    /// All: a crash of the process, not of the machine.
    Everything,
    /// The first so many.
    Prefix(usize),
    /// All but this one.
    DropOne(usize),
    /// This one alone.
    KeepOne(usize),
    /// Some, as the seed decides: names in order per directory for even seeds, any for odd ones.
    Random(u64),
    /// The write that was going on, up to this byte of it, on top of all or nothing of what was before.
    TornHead {
        /// Bytes that survive.
        bytes: usize,
        /// Whether everything unsynced before it survives.
        rest: bool,
    },
    /// The write that was going on, from this byte of it, on top of all or nothing of what was before.
    TornTail {
        /// Bytes that are lost.
        bytes: usize,
        /// Whether everything unsynced before it survives.
        rest: bool,
    },
}

/// How many states to build per crash point at most, by kind of plan.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Prefixes of the unsynced effects.
    pub prefixes: usize,
    /// Single effects dropped, and as many kept alone.
    pub singles: usize,
    /// Random subsets.
    pub randoms: usize,
    /// Places at which the write in flight is torn, each with two states.
    pub tears: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { prefixes: 12, singles: 12, randoms: 10, tears: 8 }
    }
}

/// What is known of the disk at one point of its log.
#[derive(Clone, Debug)]
pub struct Replay<'a> {
    log: &'a Log,
    at: usize,
    names: BTreeMap<PathBuf, Inode>,
    /// The key of each directory by its path, of which the directory above is given by its key.
    directories: BTreeMap<PathBuf, PathBuf>,
    contents: BTreeMap<Inode, Arc<Vec<u8>>>,
    pending: Vec<Effect>,
    lengths: BTreeMap<Inode, u64>,
}

#[derive(Clone, Debug)]
enum Effect {
    Page { inode: Inode, offset: u64, bytes: Arc<[u8]>, from: usize, to: usize, clean: bool },
    Grow { inode: Inode, bytes: u64 },
    Cut { inode: Inode, bytes: u64 },
    CreateDir { path: PathBuf, key: PathBuf },
    RenameDir { from: PathBuf, to: PathBuf, key: PathBuf },
    RemoveDir { path: PathBuf },
    Create { path: PathBuf, inode: Inode },
    Rename { from: PathBuf, to: PathBuf, inode: Inode },
    Remove { path: PathBuf },
}

/// What becomes of one effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Drop,
    Keep,
    /// Of a page, the sectors whose bits are set.
    Sectors(u8),
}

impl Effect {
    /// The file whose sync settles this.
    const fn inode(&self) -> Option<Inode> {
        match self {
            Self::Page { inode, .. } | Self::Grow { inode, .. } | Self::Cut { inode, .. } => {
                Some(*inode)
            }
            _ => None,
        }
    }

    /// The directory whose sync settles this.
    fn dir(&self) -> Option<PathBuf> {
        match self {
            Self::CreateDir { path, .. }
            | Self::RemoveDir { path }
            | Self::Create { path, .. }
            | Self::Remove { path } => Some(parent(path)),
            Self::Rename { to, .. } | Self::RenameDir { to, .. } => Some(parent(to)),
            _ => None,
        }
    }

    fn page(&self) -> Option<u64> {
        match self {
            Self::Page { offset, .. } => Some(offset / PAGE_BYTES),
            _ => None,
        }
    }

    fn apply_name(
        &self,
        names: &mut BTreeMap<PathBuf, Inode>,
        directories: &mut BTreeMap<PathBuf, PathBuf>,
    ) {
        match self {
            Self::CreateDir { path, key } => {
                directories.insert(path.clone(), key.clone());
            }
            Self::RenameDir { from, to, key } => {
                if directories.get(from) == Some(key) {
                    directories.remove(from);
                }
                directories.insert(to.clone(), key.clone());
            }
            Self::RemoveDir { path } => {
                directories.remove(path);
            }
            Self::Create { path, inode } => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename { from, to, inode } => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
            Self::Remove { path } => {
                names.remove(path);
            }
            Self::Page { .. } | Self::Grow { .. } | Self::Cut { .. } => {}
        }
    }
}

/// The bytes of one file while effects are applied: content of any length, and the length that counts.
struct Builder {
    content: Vec<u8>,
    length: u64,
}

impl Builder {
    fn new(content: Vec<u8>) -> Self {
        let length = content.len() as u64;
        Self { content, length }
    }

    fn apply(&mut self, effect: &Effect, fate: Fate) {
        match effect {
            _ if fate == Fate::Drop => {}
            Effect::Page { offset, bytes, from, to, .. } => {
                self.write(*offset, &bytes[*from..*to], fate);
            }
            Effect::Grow { bytes, .. } => self.length = self.length.max(*bytes),
            Effect::Cut { bytes, .. } => {
                self.content.truncate(index(*bytes));
                self.length = *bytes;
            }
            _ => {}
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8], fate: Fate) {
        let start = index(offset);
        if self.content.len() < start + bytes.len() {
            self.content.resize(start + bytes.len(), 0);
        }
        if fate == Fate::Keep {
            self.content[start..start + bytes.len()].copy_from_slice(bytes);
            return;
        }
        for (at, byte) in bytes.iter().enumerate() {
            let sector = (offset + at as u64) % PAGE_BYTES / SECTOR_BYTES;
            let kept = match fate {
                Fate::Keep => true,
                Fate::Drop => false,
                Fate::Sectors(mask) => mask & (1 << sector) != 0,
            };
            if kept {
                self.content[start + at] = *byte;
            }
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.content.resize(index(self.length), 0);
        self.content
    }
}

fn index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("files of a test fit memory")
}

impl<'a> Replay<'a> {
    /// The disk before the first event.
    #[must_use]
    pub fn new(log: &'a Log) -> Self {
        let names = Log::base_names(&log.base);
        let contents: BTreeMap<_, _> = (1..).zip(log.base.files.values().cloned()).collect();
        let directories = log.base.directories.iter().map(|dir| (dir.clone(), dir.clone()));
        let directories = directories.collect();
        let lengths = contents.iter().map(|(inode, bytes)| (*inode, bytes.len() as u64)).collect();
        Self { log, at: 0, names, directories, contents, pending: Vec::new(), lengths }
    }

    /// The disk after the first `point` events.
    #[must_use]
    pub fn at(log: &'a Log, point: usize) -> Self {
        let mut replay = Self::new(log);
        while replay.at < point {
            replay.advance();
        }
        replay
    }

    /// How many effects may be lost here.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Goes on by one event.
    pub fn advance(&mut self) {
        let log = self.log;
        let event = &log.events[self.at];
        self.at += 1;
        match event {
            Event::SyncFile { inode } => self.sync_file(*inode),
            Event::SyncFailed { inode } => self.fail_sync(*inode),
            Event::SyncDir { dir } => self.sync_dir(&dir.clone()),
            other => self.effects(other),
        }
    }

    fn effects(&mut self, event: &Event) {
        match event {
            Event::Write { inode, offset, bytes } => self.write(*inode, *offset, bytes),
            Event::Allocate { inode, bytes } => self.grow(*inode, *bytes),
            Event::SetBytes { inode, bytes } => {
                let length = self.lengths.entry(*inode).or_default();
                let grows = *length <= *bytes;
                *length = *bytes;
                let (inode, bytes) = (*inode, *bytes);
                self.pending.push(if grows {
                    Effect::Grow { inode, bytes }
                } else {
                    Effect::Cut { inode, bytes }
                });
            }
            Event::CreateDir { path, key } => {
                self.pending.push(Effect::CreateDir { path: path.clone(), key: key.clone() });
            }
            Event::RenameDir { from, to, key } => {
                let (from, to) = (from.clone(), to.clone());
                self.pending.push(Effect::RenameDir { from, to, key: key.clone() });
            }
            Event::RemoveDir { path } => {
                self.pending.push(Effect::RemoveDir { path: path.clone() });
            }
            Event::Create { path, inode } => {
                self.pending.push(Effect::Create { path: path.clone(), inode: *inode });
            }
            Event::Rename { from, to, inode } => {
                let (from, to) = (from.clone(), to.clone());
                self.pending.push(Effect::Rename { from, to, inode: *inode });
            }
            Event::Remove { path, .. } => self.pending.push(Effect::Remove { path: path.clone() }),
            Event::SyncFile { .. } | Event::SyncFailed { .. } | Event::SyncDir { .. } => {}
        }
    }

    fn grow(&mut self, inode: Inode, bytes: u64) {
        let length = self.lengths.entry(inode).or_default();
        if *length < bytes {
            *length = bytes;
            self.pending.push(Effect::Grow { inode, bytes });
        }
    }

    fn write(&mut self, inode: Inode, offset: u64, bytes: &Arc<[u8]>) {
        self.grow(inode, offset + bytes.len() as u64);
        let mut from = 0;
        while from < bytes.len() {
            let at = offset + from as u64;
            let to = bytes.len().min(from + index(PAGE_BYTES - at % PAGE_BYTES));
            let bytes = bytes.clone();
            self.pending.push(Effect::Page { inode, offset: at, bytes, from, to, clean: false });
            from = to;
        }
    }

    fn sync_file(&mut self, inode: Inode) {
        let mine = |effect: &Effect| effect.inode() == Some(inode);
        let dirty = |effect: &&Effect| !matches!(effect, Effect::Page { clean: true, .. });
        let written = self.pending.iter().filter(|effect| mine(effect)).filter(dirty);
        let pages: BTreeSet<u64> = written.filter_map(Effect::page).collect();
        let (settled, pending): (Vec<Effect>, _) =
            std::mem::take(&mut self.pending).into_iter().partition(|effect| {
                mine(effect) && effect.page().is_none_or(|page| pages.contains(&page))
            });
        self.pending = pending;
        if settled.is_empty() {
            return;
        }
        let content = self.contents.entry(inode).or_default();
        let mut builder = Builder::new(std::mem::take(Arc::make_mut(content)));
        settled.iter().for_each(|effect| builder.apply(effect, Fate::Keep));
        *content = Arc::new(builder.finish());
    }

    fn fail_sync(&mut self, inode: Inode) {
        for effect in &mut self.pending {
            match effect {
                Effect::Page { inode: of, clean, .. } if *of == inode => *clean = true,
                _ => {}
            }
        }
    }

    fn sync_dir(&mut self, dir: &PathBuf) {
        let (settled, pending): (Vec<Effect>, _) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|effect| effect.dir().as_ref() == Some(dir));
        self.pending = pending;
        for effect in settled {
            effect.apply_name(&mut self.names, &mut self.directories);
        }
    }

    /// The disk that `plan` leaves here.
    #[must_use]
    pub fn image(&self, plan: &CrashPlan) -> Image {
        let count = self.pending.len();
        let all = |keep: bool| vec![if keep { Fate::Keep } else { Fate::Drop }; count];
        match *plan {
            CrashPlan::Nothing => self.build(&all(false)),
            CrashPlan::Everything => self.build(&all(true)),
            CrashPlan::Prefix(kept) => {
                let fate = |at| if at < kept { Fate::Keep } else { Fate::Drop };
                self.build(&(0..count).map(fate).collect::<Vec<_>>())
            }
            CrashPlan::DropOne(one) | CrashPlan::KeepOne(one) => {
                let keep = matches!(plan, CrashPlan::KeepOne(_));
                let mut fates = all(!keep);
                if let Some(fate) = fates.get_mut(one) {
                    *fate = if keep { Fate::Keep } else { Fate::Drop };
                }
                self.build(&fates)
            }
            CrashPlan::Random(seed) => self.build(&self.random_fates(seed)),
            CrashPlan::TornHead { bytes, rest } => self.torn(0, bytes, rest),
            CrashPlan::TornTail { bytes, rest } => self.torn(bytes, usize::MAX, rest),
        }
    }

    fn random_fates(&self, seed: u64) -> Vec<Fate> {
        let mut rng = Rng::new(seed);
        let ordered = seed.is_multiple_of(2);
        let mut lost: BTreeSet<PathBuf> = BTreeSet::new();
        let odds = rng.between(2, 5);
        let fate = |effect: &Effect| {
            let dropped = rng.one_in(odds);
            if let Some(dir) = effect.dir().filter(|_| ordered) {
                if dropped {
                    lost.insert(dir.clone());
                }
                return if lost.contains(&dir) { Fate::Drop } else { Fate::Keep };
            }
            match effect {
                _ if dropped => Fate::Drop,
                Effect::Page { .. } if rng.one_in(6) => {
                    Fate::Sectors(rng.next_u64().to_le_bytes()[0])
                }
                _ => Fate::Keep,
            }
        };
        self.pending.iter().map(fate).collect()
    }

    /// The next event is a write of which only bytes `from..to` survive.
    fn torn(&self, from: usize, to: usize, rest: bool) -> Image {
        let mut torn = self.clone();
        if let Some(Event::Write { inode, offset, bytes }) = self.log.events.get(self.at) {
            let to = to.min(bytes.len());
            let from = from.min(to);
            torn.write(*inode, offset + from as u64, &bytes[from..to].into());
        }
        let before = if rest { Fate::Keep } else { Fate::Drop };
        let mut fates = vec![before; self.pending.len()];
        fates.resize(torn.pending.len(), Fate::Keep);
        torn.build(&fates)
    }

    fn build(&self, fates: &[Fate]) -> Image {
        let (mut names, mut directories) = (self.names.clone(), self.directories.clone());
        let mut changed: BTreeMap<Inode, Vec<(&Effect, Fate)>> = BTreeMap::new();
        for (effect, fate) in self.pending.iter().zip(fates) {
            match effect.inode() {
                _ if *fate == Fate::Drop => {}
                Some(inode) => changed.entry(inode).or_default().push((effect, *fate)),
                None => effect.apply_name(&mut names, &mut directories),
            }
        }
        let paths = paths_of(&directories);
        let real = |path: &PathBuf| {
            let dir = paths.get(&parent(path))?;
            Some(dir.join(path.file_name()?))
        };
        let mut image = Image::default();
        for (path, inode) in
            names.into_iter().filter_map(|(path, inode)| Some((real(&path)?, inode)))
        {
            let durable = self.contents.get(&inode).cloned().unwrap_or_default();
            let bytes = match changed.get(&inode) {
                None => durable,
                Some(effects) => {
                    let mut builder = Builder::new(durable.to_vec());
                    effects.iter().for_each(|(effect, fate)| builder.apply(effect, *fate));
                    Arc::new(builder.finish())
                }
            };
            image.files.insert(path, bytes);
        }
        image.directories = paths.into_values().filter(|dir| !dir.as_os_str().is_empty()).collect();
        image
    }

    /// The plans to try here, within `bounds`, chosen by `seed` where not all fit.
    #[must_use]
    pub fn plans(&self, bounds: &Bounds, seed: u64) -> Vec<CrashPlan> {
        let mut rng = Rng::new(seed ^ (self.at as u64) << 32);
        let count = self.pending.len();
        let mut plans = vec![CrashPlan::Nothing, CrashPlan::Everything];
        plans.extend(some_of(1..count, bounds.prefixes, &mut rng).map(CrashPlan::Prefix));
        plans.extend(some_of(0..count, bounds.singles, &mut rng).map(CrashPlan::DropOne));
        plans.extend(some_of(0..count, bounds.singles, &mut rng).map(CrashPlan::KeepOne));
        if count > 1 {
            plans.extend((0..bounds.randoms).map(|_| CrashPlan::Random(rng.next_u64())));
        }
        if let Some(Event::Write { offset, bytes, .. }) = self.log.events.get(self.at) {
            for bytes in tears(*offset, bytes.len(), bounds.tears, &mut rng) {
                for rest in [false, true] {
                    plans.push(CrashPlan::TornHead { bytes, rest });
                    if (offset + bytes as u64).is_multiple_of(SECTOR_BYTES) {
                        plans.push(CrashPlan::TornTail { bytes, rest });
                    }
                }
            }
        }
        plans
    }
}

/// The path of each directory that can be reached, by its key; the root has none.
fn paths_of(directories: &BTreeMap<PathBuf, PathBuf>) -> BTreeMap<PathBuf, PathBuf> {
    let mut paths = BTreeMap::from([(PathBuf::from("."), PathBuf::new())]);
    if directories.contains_key(std::path::Path::new("/")) {
        paths.insert(PathBuf::from("/"), PathBuf::from("/"));
    }
    loop {
        let found: Vec<_> = directories
            .iter()
            .filter(|(_, key)| !paths.contains_key(*key))
            .filter_map(|(path, key)| {
                let above = paths.get(&parent(path))?;
                Some((key.clone(), above.join(path.file_name()?)))
            })
            .collect();
        if found.is_empty() {
            return paths;
        }
        paths.extend(found);
    }
}

/// At most `limit` numbers of `range`: the last ones, where recent effects are, and some others.
fn some_of(
    range: std::ops::Range<usize>,
    limit: usize,
    rng: &mut Rng,
) -> impl Iterator<Item = usize> + use<> {
    let mut chosen = BTreeSet::new();
    if range.len() <= limit {
        chosen.extend(range);
    } else {
        chosen.extend(range.end - limit.div_ceil(2)..range.end);
        while chosen.len() < limit {
            chosen.insert(range.start + index(rng.below(range.len() as u64)));
        }
    }
    chosen.into_iter()
}

/// Places within a write of `length` bytes at `offset` to tear it: ends, middle, a sector's edge, anywhere.
fn tears(offset: u64, length: usize, limit: usize, rng: &mut Rng) -> BTreeSet<usize> {
    let edge = index(offset.next_multiple_of(SECTOR_BYTES) - offset);
    let mut places = BTreeSet::new();
    let mut offers = vec![length.saturating_sub(1), 1, edge, length / 2, edge + 512];
    offers.extend((0..limit).map(|_| index(rng.below(length as u64))));
    for place in offers {
        if places.len() < limit && place > 0 && place < length {
            places.insert(place);
        }
    }
    places
}

/// Visits every state of `log` from `first` on that `bounds` allow: the point, the plan, and the disk. Stops
/// early when `visit` says so by `Err`.
///
/// # Errors
/// The first error of `visit`.
pub fn sweep<E>(
    log: &Log,
    first: usize,
    bounds: &Bounds,
    seed: u64,
    mut visit: impl FnMut(usize, &CrashPlan, Image) -> Result<(), E>,
) -> Result<(), E> {
    let mut replay = Replay::at(log, first);
    loop {
        for plan in replay.plans(bounds, seed) {
            visit(replay.at, &plan, replay.image(&plan))?;
        }
        if replay.at == log.events.len() {
            return Ok(());
        }
        replay.advance();
    }
}

/// The disk after `point` events of `log` and a crash as `plan` says: the same one for the same arguments.
#[must_use]
pub fn image(log: &Log, point: usize, plan: &CrashPlan) -> Image {
    Replay::at(log, point).image(plan)
}

#[cfg(test)]
#[path = "crash_tests.rs"]
mod tests;
