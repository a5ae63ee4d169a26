//! What all handles of a store share, from its opening to its closing.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    mem::take,
    sync::Arc,
};

use super::{
    hold,
    place::{Hold, Place},
    upkeep::Upkeep,
};
use crate::{
    background::Background,
    checkpoint::{self, Moment},
    error::{Error, Result},
    evictor::Journal,
    format::{
        file_name::{self, FileName},
        manifest::Edit,
    },
    index::{Entry as IndexEntry, SHARDS},
    io::{ClockDoubt, ForkGuard, StoreClock},
    lookup::{FirstExpiry, Lookup},
    options::{Evict, Options},
    reader::Reader,
    recency::Recency,
    recovery::{Recovered, RecoveryReport, recover},
    segment::{Home, manifest_file::ManifestFile},
    space::{Space, segment_bytes_for},
    stats::{Counters, Tally},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    types::{SegmentId, SequenceNumber, Timestamp},
    writer::{LogStart, Writer},
};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) home: Home,
    pub(super) options: Options,
    pub(super) space: Arc<Space>,
    /// Bytes of a usual segment: what the options say, or less if there is a limit.
    pub(super) segment_bytes: u64,
    pub(super) upkeep: Upkeep,
    pub(super) lookup: Arc<Lookup>,
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) manifest: Arc<Mutex<ManifestFile>>,
    pub(super) report: RecoveryReport,
    pub(super) fork: ForkGuard,
    pub(super) closed: AtomicBool,
    pub(super) handles: AtomicUsize,
    pub(super) background: Mutex<Option<Background>>,
    lock: Mutex<Option<Hold>>,
    pub(super) place: Arc<Place<Self>>,
    pub(super) attached: Attached,
}

/// What layers above keep with the store, by type.
#[derive(Default)]
pub(super) struct Attached(Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attached({})", hold(&self.0).len())
    }
}

impl Attached {
    pub(super) fn get<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut attached = hold(&self.0);
        let found =
            attached.get(&TypeId::of::<T>()).and_then(|any| Arc::clone(any).downcast().ok());
        found.unwrap_or_else(|| {
            let made = Arc::new(make());
            attached.insert(TypeId::of::<T>(), Arc::clone(&made) as Arc<dyn Any + Send + Sync>);
            made
        })
    }
}

impl Shared {
    pub(super) fn open(
        home: Home,
        lock: Option<Hold>,
        options: Options,
        place: Arc<Place<Self>>,
    ) -> Result<Self> {
        let home = if lock.is_some() { home.locked() } else { home };
        super::opening::refuse_unfinished(&home)?;
        let home = if options.read_only { home } else { home.with_ballast(options.max_bytes) };
        let mut recovered = recover(&home, &options)?;
        let (space, segment_bytes) = account(&home, &options)?;
        let (next_sequence, gap_from) = (recovered.next_sequence, recovered.gap_from);
        let manifest = Arc::clone(&recovered.manifest);
        let (unsealed, damaged) = (take(&mut recovered.unsealed), take(&mut recovered.damaged));
        let report = take(&mut recovered.report);
        let lookup = lookup_of(recovered, &options);
        if !options.read_only {
            forget_sight(&manifest, lookup.clock.doubt());
        }
        let start = LogStart {
            home: home.clone(),
            manifest: Arc::clone(&manifest),
            next_sequence,
            gap_from,
            unsealed,
            damaged,
            space: Arc::clone(&space),
            segment_bytes,
        };
        let writer = Writer::new(Arc::clone(&lookup), &options, start);
        if !options.read_only {
            // What was not sealed is written anew before anything else. If that fails (a full disk), the store
            // opens all the same: everything can be read, and writes are refused until it succeeds.
            if let Err(error) = writer.recover_at_open() {
                writer.stop_by(&error);
            }
        }
        writer.charge_others();
        let shared = Self {
            reader: Reader::new(Arc::clone(&lookup)),
            lookup,
            writer,
            space,
            segment_bytes,
            upkeep: Upkeep::default(),
            manifest,
            report,
            fork: ForkGuard::new(),
            closed: AtomicBool::new(false),
            handles: AtomicUsize::new(1),
            background: Mutex::new(None),
            lock: Mutex::new(lock),
            place,
            attached: Attached::default(),
            home,
            options,
        };
        let _ = shared.large_segments();
        shared.space.set_ceiling(u64::MAX);
        Ok(shared)
    }

    /// Whether the background thread is missing, although the options ask for one.
    pub(super) fn lacks_background(&self) -> bool {
        let wants_one = self.options.background && !self.options.read_only;
        wants_one && !self.closed.load(Ordering::Acquire) && hold(&self.background).is_none()
    }

    pub(crate) fn step(&self) -> Result<bool> {
        // An idle store looks at the clock as well: a jump that is taken back must be seen to be.
        let _ = self.lookup.clock.now();
        let wrote = self.writer.step();
        if matches!(wrote, Ok(true)) {
            return wrote;
        }
        // Order: upkeep has its turn whatever became of the writes: it makes the room that they want.
        let kept = self.upkeep();
        wrote.and(kept)
    }

    /// Writes everything out, seals it, writes a checkpoint, and says in the manifest that all is well.
    pub(super) fn close(&self) -> Result<()> {
        if !self.options.read_only && !self.fork.is_in_child() {
            // Order: while compaction may still run, so that room can be made. What is left is met again below.
            let _ = self.writer.flush_before_close();
        }
        if self.closed.swap(true, Ordering::AcqRel) || self.fork.is_in_child() {
            // In a forked child there is no thread to wait for, and the files are the parent's.
            return Ok(());
        }
        // Order: the lock is free again before the thread is waited for, which may ask whether there is a thread.
        let background = hold(&self.background).take();
        if let Some(background) = background {
            background.stop();
        }
        let closed = if self.options.read_only { Ok(()) } else { self.close_log() };
        *hold(&self.lock) = None;
        closed
    }

    /// A full disk keeps the next opening from being fast, and nothing else.
    fn close_log(&self) -> Result<()> {
        self.seal_and_mark_clean().or_else(|error| {
            let is_safe = error.is_disk_full() && self.writer.is_all_durable();
            if is_safe { Ok(()) } else { Err(error) }
        })
    }

    fn seal_and_mark_clean(&self) -> Result<()> {
        self.writer.seal_all()?;
        let is_clean = hold(&self.manifest).state().clean;
        let (newest, _, next_id) = self.writer.frontier();
        if newest.0 == 0 {
            return Ok(());
        }
        // A checkpoint that was lost is written anew, even by a session that wrote nothing else. Evictions are not in
        // the log: only a checkpoint keeps them.
        let has_evicted = self.lookup.counters.snapshot().evicted > 0;
        if is_clean && self.report.from_checkpoint && !has_evicted {
            return self.keep_time();
        }
        self.writer.unlink_retired();
        let number = self.writer.take_id();
        let mut edits = vec![
            Edit::Clock(self.lookup.clock.confirmed()),
            Edit::Floors { segment: SegmentId(next_id.max(number + 1)), sequence: newest.next() },
            self.epochs(),
        ];
        edits.extend(self.clock_seen());
        edits.push(Edit::Clean);
        if !self.make_way_for_checkpoint()? {
            return hold(&self.manifest).apply_whole(&edits);
        }
        let moment = self.moment(newest);
        match checkpoint::write(&self.home, &self.manifest, number, &moment, edits.clone()) {
            // Without it the next opening goes by what is there.
            Err(error) if error.is_disk_full() => hold(&self.manifest).apply_whole(&edits),
            written => written,
        }
    }

    /// Writes a checkpoint of what is there now.
    pub(super) fn write_checkpoint(&self) -> Result<()> {
        self.writer.sync_all()?;
        self.writer.without_maintenance(|| {
            let (moment, is_new) =
                self.writer.at_frontier(|newest| (self.moment(newest), newest.0 > 0))?;
            if !is_new || !self.make_way_for_checkpoint()? {
                return Ok(());
            }
            // Order: everything the frozen index shows is durable before the checkpoint is published (I7).
            self.writer.sync_log()?;
            let number = self.writer.take_id();
            // What it shows as expired stays so, whatever the clock says after a crash (I16).
            let edits = vec![Edit::Clock(moment.now), self.epochs()];
            checkpoint::write(&self.home, &self.manifest, number, &moment, edits)
        })
    }

    /// In a store with a limit there is room for one checkpoint: the old one goes first. `false` if there is not even
    /// that: the next opening then goes by the footers.
    fn make_way_for_checkpoint(&self) -> Result<bool> {
        let Some(limit) = self.space.limit() else { return Ok(true) };
        self.writer.charge_others();
        let old = hold(&self.manifest).state().checkpoint;
        if let Some((number, _)) = old {
            let none = Edit::Checkpoint { number: 0, sequence: SequenceNumber(0) };
            hold(&self.manifest).apply(&[none])?;
            let _ = self.home.disk.remove(&self.home.path(&file_name::checkpoint(number)));
        }
        Ok(self.space.used() <= limit)
    }

    /// What the epochs in a checkpoint mean.
    fn epochs(&self) -> Edit {
        let value = policy_name(self.options.evict).as_bytes().to_vec();
        Edit::Property { name: EPOCHS.to_vec(), value }
    }

    /// A session that wrote nothing still showed some entries as expired: the next one must not see them live again,
    /// whatever its clock says (I16).
    fn keep_time(&self) -> Result<()> {
        let now = self.lookup.clock.confirmed();
        let seen = self.clock_seen();
        let mut manifest = hold(&self.manifest);
        let state = manifest.state();
        let seals = state.segments.values().filter_map(|segment| segment.seal);
        let expires = seals.map(|seal| seal.expiry_min).any(|expiry| expiry < Timestamp(u64::MAX));
        if !expires || (now <= state.high_water && seen.is_none()) {
            return Ok(());
        }
        let edits: Vec<_> =
            [Edit::Clock(now)].into_iter().chain(seen).chain([Edit::Clean]).collect();
        manifest.apply_whole(&edits)
    }

    /// What the wall clock showed when it was first seen far ahead, if it is in doubt and that is not on record yet: the
    /// next session may confirm it.
    fn clock_seen(&self) -> Option<Edit> {
        clock_edit(self.lookup.clock.doubt(), &hold(&self.manifest))
    }

    pub(super) fn moment(&self, sequence: SequenceNumber) -> Moment {
        Moment {
            index: self.lookup.index.snapshot(),
            accounts: checkpoint::accounts(&self.lookup.catalog.table()),
            overrides: self.lookup.overrides.freeze(),
            sequence,
            now: self.lookup.clock.confirmed(),
        }
    }
}

/// Property of the manifest: the policy under which the epochs of the checkpoint were written.
const EPOCHS: &[u8] = b"epochs";
/// Property of the manifest: what a wall clock that was in doubt showed when it was first seen, in milliseconds.
const CLOCK_SEEN: &[u8] = b"clock-seen";

const fn policy_name(policy: Evict) -> &'static str {
    match policy {
        Evict::Lru => "lru",
        Evict::S3Fifo => "s3-fifo",
        Evict::Fifo => "fifo",
        Evict::None => "none",
    }
}

fn policy(name: &[u8]) -> Option<Evict> {
    let all = [Evict::Lru, Evict::S3Fifo, Evict::Fifo, Evict::None];
    all.into_iter().find(|policy| policy_name(*policy).as_bytes() == name)
}

/// The account of the directory, with what is there already, and the size of a usual segment.
fn account(home: &Home, options: &Options) -> Result<(Arc<Space>, u64)> {
    let (limit, wanted) = (options.max_bytes, options.segment_bytes);
    let segment_bytes = segment_bytes_for(limit, wanted, Options::SEGMENT_BYTES_MIN);
    let (disk, dir) = (Arc::clone(&home.disk), home.dir.clone());
    let space = Space::new(disk, dir, limit, options.min_free_bytes, segment_bytes);
    space.found(segment_files_bytes(home)?);
    space.found_ballast(home.ballast_found());
    Ok((Arc::new(space), segment_bytes))
}

/// The ways to the records of a store as it came up.
pub(super) fn lookup_of(recovered: Recovered, options: &Options) -> Arc<Lookup> {
    let seen = clock_seen(&hold(&recovered.manifest));
    let clock = Arc::clone(&options.clock);
    let clock = StoreClock::with(clock, recovered.high_water, seen, options.knobs);
    if options.trusts_clock {
        clock.trust();
    }
    let lookup = Lookup {
        catalog: Arc::new(recovered.catalog),
        index: Arc::new(recovered.index),
        overrides: Arc::new(recovered.overrides),
        clock: Arc::new(clock),
        hasher: recovered.hasher,
        counters: Arc::new(Counters::default()),
        tally: Tally::default(),
        recency: Recency::new(options.evict),
        journal: Journal::default(),
        first_expiry: FirstExpiry::default(),
    };
    restore(&lookup, &hold(&recovered.manifest));
    Arc::new(lookup)
}

/// Forgets what an earlier session saw of a clock, if this one does not see the same: else a later one at the wrong time
/// would be confirmed by it. Best effort: nothing else depends on it.
fn forget_sight(manifest: &Mutex<ManifestFile>, doubt: Option<ClockDoubt>) {
    let mut manifest = hold(manifest);
    let known = manifest.state().properties.get(CLOCK_SEEN);
    if known.is_some_and(|value| !value.is_empty()) && clock_edit(doubt, &manifest).is_some() {
        let _ = manifest.apply(&[Edit::Property { name: CLOCK_SEEN.to_vec(), value: Vec::new() }]);
    }
}

/// What is to be on record of a clock in doubt, if that is something else. Nothing stays of one that is in doubt no more.
fn clock_edit(doubt: Option<ClockDoubt>, manifest: &ManifestFile) -> Option<Edit> {
    let value = doubt.map(|doubt| doubt.seen.0.to_le_bytes().to_vec()).unwrap_or_default();
    let known = manifest.state().properties.get(CLOCK_SEEN);
    let is_known = known.map_or(&[][..], Vec::as_slice) == value;
    (!is_known).then(|| Edit::Property { name: CLOCK_SEEN.to_vec(), value })
}

/// What an earlier session saw of a clock that was in doubt.
fn clock_seen(manifest: &ManifestFile) -> Option<Timestamp> {
    let value = manifest.state().properties.get(CLOCK_SEEN)?;
    Some(Timestamp(u64::from_le_bytes(value.as_slice().try_into().ok()?)))
}

/// The policy under which the epochs of the checkpoint were written, if that is known.
pub(super) fn written_policy(manifest: &ManifestFile) -> Option<Evict> {
    manifest.state().properties.get(EPOCHS).and_then(|name| policy(name))
}

/// Sets the clock of accesses by the epochs that were found, and counts the live entries.
fn restore(lookup: &Lookup, manifest: &ManifestFile) {
    lookup.recency.restore(&lookup.index, written_policy(manifest));
    for shard in 0..SHARDS {
        lookup.index.sweep(shard, &mut |_, entry| {
            if !entry.is_evicted() {
                lookup.tally.add(entry.size.bytes(), entry.flags & IndexEntry::EVICTABLE != 0);
            }
        });
    }
}

/// Bytes of the segments in the directory, those that were set aside included.
fn segment_files_bytes(home: &Home) -> Result<u64> {
    let listed = home.disk.list(home.dir()).map_err(|e| Error::io("list", home.dir(), e))?;
    let is_segment = |name: &str| {
        matches!(FileName::parse(name), Some(FileName::Segment(_) | FileName::Quarantine(_)))
    };
    Ok(listed.iter().filter(|entry| is_segment(&entry.name)).map(|entry| entry.bytes).sum())
}
