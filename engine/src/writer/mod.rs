//! put, delete, touch, cut, batch: limits first, then one turn at the log.
//!
//! ```text
//! caller -> limits -> encode -> group_commit -> turn: judge, append, write, sync, show -> caller
//!                        \-> staging (Periodic) --every few seconds--/
//! ```
//!
//! Lock order: the job of upkeep, maintenance, turn, manifest, catalog, index shard (I11). Only the
//! first four are held across disk I/O, and the ballast's own lock, behind which no other is taken.

mod batch;
mod effects;
mod evict;
mod flush;
mod group_commit;
mod in_place;
mod install;
mod log;
mod maintain;
mod relocate;
mod request;
mod restart;
mod staging;
mod turn;

use std::{
    cell::RefCell,
    collections::VecDeque,
    ops::{Deref, DerefMut},
    sync::{Arc, Weak},
};

use self::{
    batch::{BatchChange, Limits, check_scope},
    flush::Change,
    group_commit::{GroupCommit, Leader, Seat},
    log::{Log, Wanted},
    request::{Op, Ops, Request},
    staging::Staging,
    turn::Turn,
};
use crate::{
    error::{Error, Result},
    format::record::{KEY_BYTES_MAX, Kind},
    lookup::Lookup,
    options::{Condition, Durability, Options, PutOptions},
    segment::{Home, append::OpenSegment, manifest_file::ManifestFile, retired::Retired},
    space::{BYTES, Space},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        panicking,
    },
    types::{SegmentId, SequenceNumber, Timestamp},
};

pub use batch::Batch;
pub(crate) use evict::LiveLimits;
pub(crate) use request::Outcome;
pub(crate) use staging::StagedChange;

/// Makes room when a write finds none.
pub(crate) trait Housekeeper: Send + Sync + std::fmt::Debug {
    /// Tries to make room for a segment of so many bytes; `false` if there is no way. Called without any lock held.
    fn make_room(&self, wanted: u64) -> Result<bool>;
    /// So many bytes were written: lets the writer rest if compaction is behind. Called without any lock held.
    fn pace(&self, bytes: u64);
    /// Entries are about to be evicted: takes those out that have ended, which go first. Called without any lock held.
    fn end_first(&self);
    /// Takes out entries that have expired, if there can be any; says whether there were. Called without any lock held.
    fn end_expired(&self) -> bool;
}

/// Segments that may wait to be sealed before writers seal one themselves; bounds the memory of images (I12).
const CLOSING_MAX: usize = 2;

/// The turn, held by this thread. If it panics meanwhile, the log stops: no write follows what was left half done.
struct Held<'a> {
    turn: MutexGuard<'a, Turn>,
    writer: &'a Writer,
    /// A store that is closed because its thread panics is as sound as any.
    was_panicking: bool,
}

impl Deref for Held<'_> {
    type Target = Turn;

    fn deref(&self) -> &Turn {
        &self.turn
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Turn {
        &mut self.turn
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.was_panicking && panicking() {
            self.turn.panicked();
            self.writer.note(&self.turn);
        }
    }
}

/// Writes to one open store.
#[derive(Debug)]
pub(crate) struct Writer {
    lookup: Arc<Lookup>,
    commit: GroupCommit,
    turn: Mutex<Turn>,
    /// Held while segments are sealed or replaced, one at a time.
    maintenance: Mutex<()>,
    home: Home,
    staging: Staging,
    /// What the files take.
    space: Arc<Space>,
    /// Segments that left the store and may still be read.
    retired: Retired,
    housekeeper: OnceLock<Weak<dyn Housekeeper>>,
    /// Whether there are limits on what is live; a copy of the turn's state.
    is_limited: AtomicBool,
    /// Whether staged writes could not be flushed in time.
    overdue: AtomicBool,
    /// Which staged write was dropped last because it can never be written.
    lost: Mutex<Option<String>>,
    /// Since when there is a periodic write in the log that a sync may not cover; the greatest number if there is none.
    owed_since: AtomicU64,
    limits: Limits,
    durability: Durability,
    maps: bool,
    intervals: Intervals,
    /// Segments that wait to be sealed; a copy of the turn's count, to be asked without the turn.
    closing: AtomicUsize,
    /// Entries that are changed in one turn for others than writers, who wait for so many at most.
    turn_entries: usize,
    /// Tickets that may wait before a submitter writes itself (I12).
    queued_tickets: usize,
    /// Whether writes are refused; a copy of the turn's state.
    stopped: AtomicBool,
    /// When things were last done, on the monotonic clock.
    flushed_at: AtomicU64,
    synced_at: AtomicU64,
    staged_at: AtomicU64,
    timed_at: AtomicU64,
    /// The newest sequence number when store time was last put on record.
    timed_sequence: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Intervals {
    flush_ms: u64,
    sync_ms: u64,
    periodic_ms: u64,
    periodic_bytes: u64,
}

/// What recovery hands over.
#[derive(Debug)]
pub(crate) struct LogStart {
    pub(crate) home: Home,
    pub(crate) manifest: Arc<Mutex<ManifestFile>>,
    pub(crate) next_sequence: SequenceNumber,
    /// Numbers from here on were given to no write that is left.
    pub(crate) gap_from: SequenceNumber,
    /// Segments that were found unsealed; nothing is appended to them, they are rewritten.
    pub(crate) unsealed: Vec<OpenSegment>,
    /// Those of them that are damaged: set aside, not removed.
    pub(crate) damaged: Vec<SegmentId>,
    pub(crate) space: Arc<Space>,
    pub(crate) segment_bytes: u64,
}

thread_local! {
    /// This thread's buffer for encoding, so that a put allocates nothing.
    static FRAME: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
/// A buffer larger than this is given back to the allocator.
const FRAME_BYTES_KEPT: usize = 64 << 10;

impl Writer {
    pub(crate) fn new(lookup: Arc<Lookup>, options: &Options, start: LogStart) -> Self {
        let durable = SequenceNumber(start.next_sequence.0 - 1);
        let now = lookup.clock.machine().monotonic_ms();
        let home = start.home.clone();
        let log = Log {
            home: start.home,
            hasher: lookup.hasher,
            catalog: Arc::clone(&lookup.catalog),
            overrides: Arc::clone(&lookup.overrides),
            clock: Arc::clone(&lookup.clock),
            counters: Arc::clone(&lookup.counters),
            manifest: start.manifest,
            segment_bytes: start.segment_bytes,
            active: None,
            closing: VecDeque::from(start.unsealed),
            damaged: start.damaged,
            next_sequence: start.next_sequence,
            durable,
            durable_at: now,
            watermark: durable,
            gap_from: Some(start.gap_from),
            next_id: 0,
            space: Arc::clone(&start.space),
            is_in_reserve: false,
            doubtful: Vec::new(),
        };
        let stopped = (!log.closing.is_empty()).then(|| "recovery is not complete".to_owned());
        let is_stopped = stopped.is_some();
        let live_limits = LiveLimits::new(options);
        Self {
            commit: GroupCommit::new(options.knobs.group_requests),
            turn: Mutex::new(Turn::new(log, Arc::clone(&lookup), live_limits, stopped)),
            lookup,
            maintenance: Mutex::new(()),
            home,
            staging: Staging::default(),
            space: start.space,
            retired: Retired::default(),
            housekeeper: OnceLock::new(),
            is_limited: AtomicBool::new(!live_limits.are_none()),
            overdue: AtomicBool::new(false),
            lost: Mutex::default(),
            owed_since: AtomicU64::new(u64::MAX),
            limits: Limits {
                key_bytes_max: KEY_BYTES_MAX,
                value_bytes_max: options.value_bytes_max,
            },
            durability: options.durability,
            maps: options.maps_segments(),
            intervals: Intervals {
                flush_ms: options.flush_interval_ms,
                sync_ms: options.sync_interval_ms,
                periodic_ms: options.periodic_ms,
                periodic_bytes: options.periodic_bytes_max,
            },
            closing: AtomicUsize::new(0),
            turn_entries: options.knobs.turn_entries,
            queued_tickets: options.knobs.queued_tickets,
            stopped: AtomicBool::new(is_stopped),
            flushed_at: AtomicU64::new(now),
            synced_at: AtomicU64::new(now),
            staged_at: AtomicU64::new(now),
            timed_at: AtomicU64::new(now),
            timed_sequence: AtomicU64::new(durable.0),
        }
    }

    fn turn(&self) -> Held<'_> {
        let was_panicking = panicking();
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        Held { turn, writer: self, was_panicking }
    }

    /// What readers look at before the index.
    pub(crate) const fn staging(&self) -> &Staging {
        &self.staging
    }

    /// Says who makes room. Without one, a write that finds none is refused.
    pub(crate) fn set_housekeeper(&self, housekeeper: Weak<dyn Housekeeper>) {
        let _ = self.housekeeper.set(housekeeper);
    }

    /// Segments that may wait to be sealed. With a limit it is one: what is not sealed is what recovery has to write
    /// again, and there must be room for that.
    fn closing_max(&self) -> usize {
        if self.space.limit().is_some() { 1 } else { CLOSING_MAX }
    }

    fn durability(&self, asked: Option<Durability>) -> Durability {
        asked.unwrap_or(self.durability)
    }

    pub(crate) fn put(&self, key: &[u8], value: &[u8], options: &PutOptions) -> Result<Outcome> {
        self.limits.check(key, value)?;
        options.validate()?;
        let durability = self.durability(options.durability);
        if durability == Durability::Periodic
            && options.condition == Condition::Always
            && self.stage(key, Change::Put(value, options))?
        {
            return Ok(Outcome::Written(SequenceNumber(0)));
        }
        let frame = FRAME.take();
        let op = Op::put(key, value, options, self.lookup.hasher, frame);
        let mut request = self.commit.commit(self, Request::new(Ops::One(op), durability));
        if let Ops::One(op) = &mut request.ops
            && op.frame.capacity() <= FRAME_BYTES_KEPT
        {
            FRAME.set(std::mem::take(&mut op.frame));
        }
        outcome_of(request)
    }

    pub(crate) fn delete(&self, key: &[u8], durability: Option<Durability>) -> Result<Outcome> {
        self.limits.check(key, &[])?;
        let durability = self.durability(durability);
        if durability == Durability::Periodic {
            return self.stage_delete(key);
        }
        self.run(Op::end(Kind::Delete, key, self.lookup.hasher), durability)
    }

    pub(crate) fn touch(&self, key: &[u8], expires_at: Option<Timestamp>) -> Result<Outcome> {
        self.limits.check(key, &[])?;
        self.run(Op::touch(key, expires_at, self.lookup.hasher), self.durability)
    }

    pub(crate) fn slide(&self, key: &[u8], lifetime_ms: u64) -> Result<Outcome> {
        self.limits.check(key, &[])?;
        let until = self.lookup.clock.now().saturating_add_ms(lifetime_ms);
        let op = Op::touch(key, Some(until), self.lookup.hasher);
        self.run(Op { is_sliding: true, ..op }, self.durability)
    }

    pub(crate) fn cut_scope(&self, scope: &[u8]) -> Result<Outcome> {
        check_scope(scope)?;
        self.run(Op::end(Kind::ScopeCut, scope, self.lookup.hasher), self.durability)
    }

    fn run(&self, op: Op, durability: Durability) -> Result<Outcome> {
        outcome_of(self.commit.commit(self, Request::new(Ops::One(op), durability)))
    }

    pub(crate) fn commit_batch(&self, batch: Batch) -> Result<Outcome> {
        batch.validate(&self.limits)?;
        if batch.is_empty() {
            return Ok(Outcome::Absent);
        }
        let durability = self.durability(batch.durability);
        let hasher = self.lookup.hasher;
        let ops = batch.changes.into_iter().map(|change| match change {
            BatchChange::Put(key, value, options) => {
                Op::put(&key, &value, &options, hasher, Vec::new())
            }
            BatchChange::Delete(key) => Op::end(Kind::Delete, &key, hasher),
            BatchChange::CutScope(scope) => Op::end(Kind::ScopeCut, &scope, hasher),
        });
        let request = Request::new(Ops::Batch(ops.collect()), durability);
        outcome_of(self.commit.commit(self, request))
    }

    /// Queues a put without waiting for it. It is carried out by the next writer, by the background, or when its
    /// ticket is waited for, whichever comes first.
    pub(crate) fn submit(&self, key: &[u8], value: &[u8], options: &PutOptions) -> Result<Queued> {
        self.limits.check(key, value)?;
        options.validate()?;
        let durability = self.durability(options.durability);
        let op = Op::put(key, value, options, self.lookup.hasher, Vec::new());
        while self.commit.waiting() >= self.queued_tickets {
            // Someone else leads: the turn is free when that group is done.
            if !self.commit.drain(self) {
                drop(self.turn());
            }
        }
        Ok(Queued(self.commit.enqueue(Request::new(Ops::One(op), durability), true)))
    }

    pub(crate) fn wait(&self, queued: &Queued) -> Result<Outcome> {
        self.commit.wait(self, &queued.0)
    }

    fn check_stopped(&self) -> Result<()> {
        match &self.turn().stopped {
            Some(cause) => Err(Error::Stopped { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Why writes are refused, if they are.
    pub(crate) fn stopped(&self) -> Option<String> {
        if !self.stopped.load(Ordering::Acquire) {
            return None;
        }
        self.turn().stopped.clone()
    }

    /// Deletes `key` if this holds.
    pub(crate) fn delete_if(&self, key: &[u8], condition: Condition) -> Result<Outcome> {
        let op = Op::end(Kind::Delete, key, self.lookup.hasher);
        self.run(Op { condition, ..op }, self.durability)
    }

    /// Takes staged writes into the log, so that a reader of `key` there finds the newest write of it.
    pub(crate) fn settle_staged(&self, key: &[u8]) -> Result<()> {
        self.drain_staged().or_else(|error| match self.staging.get(key) {
            Some(_) => Err(error),
            None => Ok(()),
        })
    }

    /// Runs `look` with the newest sequence number while no write is half in.
    pub(crate) fn at_frontier<T>(&self, look: impl FnOnce(SequenceNumber) -> T) -> Result<T> {
        let turn = self.turn();
        let seen = look(turn.log.newest());
        drop(turn);
        Ok(seen)
    }

    /// The newest sequence number; and where the numbers begin that were given to no write that is left, if they go on
    /// up to it.
    pub(crate) fn end_of_row(&self) -> (SequenceNumber, Option<SequenceNumber>) {
        let turn = self.turn();
        (turn.log.newest(), turn.log.gap_from)
    }

    /// Whether staged writes could not be brought to the device in time.
    pub(crate) fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::Acquire)
    }

    /// Puts on record that recovery failed, so that writes are refused until it succeeds.
    pub(crate) fn stop_by(&self, error: &Error) {
        let mut turn = self.turn();
        // A store that only helps by opening it again goes on saying so.
        if !turn.is_torn {
            turn.stopped = None;
        }
        turn.stop(error);
        self.note(&turn);
    }

    /// Puts on record why writes are refused. A cause that no recovery mends is left in place: it says what to do.
    pub(crate) fn say_why(&self, cause: &str) {
        let mut turn = self.turn();
        if !(turn.is_torn && turn.stopped.is_some()) {
            turn.stopped = Some(cause.to_owned());
        }
        turn.is_disk_full = false;
        self.note(&turn);
    }

    /// Runs `look` while no write is half in: what it sees is one moment of the store. Staged writes are in.
    pub(crate) fn between_turns<T>(&self, look: impl FnOnce() -> T) -> Result<T> {
        self.drain_staged()?;
        // Order: the turn of the flush itself. In another one a flush of another thread may be half done.
        let (turn, drained) = self.turn_behind_staged();
        self.note(&turn);
        let seen = drained.map(|()| look());
        drop(turn);
        seen
    }
}

/// A request in the queue.
#[derive(Debug)]
pub(crate) struct Queued(Arc<Seat>);

fn outcome_of(request: Request) -> Result<Outcome> {
    request.outcome.unwrap_or(Ok(Outcome::Absent))
}

impl Leader for Writer {
    /// One group. Whatever is staged goes first: it was acknowledged before.
    fn lead(&self, requests: &mut [Request]) {
        let housekeeper = || self.housekeeper.get().and_then(Weak::upgrade);
        if self.is_near_limits(requests)
            && let Some(housekeeper) = housekeeper()
        {
            housekeeper.end_first();
        }
        let mut rest = &mut *requests;
        while !rest.is_empty() {
            let count = self.lead_once(rest);
            debug_assert!(count > 0, "the first request of a group is answered");
            if let Some(request) = rest.first_mut()
                && is_full(request)
                && let Some(housekeeper) = housekeeper()
            {
                // Order: before the requests behind it, so that each key gets its writes in the order they came in.
                self.try_again(request, housekeeper.as_ref());
            }
            rest = rest.split_at_mut(count.max(1)).1;
        }
        if self.space.limit().is_some()
            && let Some(housekeeper) = housekeeper()
        {
            let ops = requests.iter().flat_map(|request| request.ops.as_slice());
            housekeeper.pace(ops.map(Op::bytes_max).sum());
        }
    }
}

/// Whether a request was refused because there was no room. It changed nothing then.
fn is_full(request: &Request) -> bool {
    matches!(request.outcome, Some(Err(Error::Full { .. })))
}

/// How often a write tries again after room was made for it and it was taken by others (I12).
const ROOM_ROUNDS_MAX: usize = 16;

impl Writer {
    /// Carries out the first requests, as many as one group may have; says how many.
    fn lead_once(&self, requests: &mut [Request]) -> usize {
        // Order: what was acknowledged first stands first in the log.
        let (mut turn, staged) = self.turn_behind_staged();
        let count = match staged {
            Err(error) if turn.stopped.is_none() => {
                self.process_beside_staged(&mut turn, requests, &error)
            }
            _ => turn.process(requests),
        };
        let is_owed = |request: &Request| {
            request.durability == Durability::Periodic
                && matches!(request.outcome, Some(Ok(Outcome::Written(_))))
        };
        if requests.iter().take(count).any(is_owed) {
            self.owe_periodic(self.lookup.clock.machine().monotonic_ms());
        }
        self.note(&turn);
        count
    }

    /// Makes room for a request that found none, and carries it out.
    fn try_again(&self, request: &mut Request, housekeeper: &dyn Housekeeper) {
        let is_of_bytes = |request: &Request| {
            matches!(request.outcome, Some(Err(Error::Full { what: BYTES, .. })))
        };
        if !is_of_bytes(request) {
            // An entry that has ended takes no place, however lately it ended.
            if housekeeper.end_expired() {
                self.lead_once(std::slice::from_mut(request));
            }
        }
        // Each round some room was made, perhaps for others.
        let mut rounds = 0;
        while is_of_bytes(request) && rounds < ROOM_ROUNDS_MAX {
            rounds += 1;
            // Order: what is sealed needs no room to be written again.
            let _ = self.seal_large_active();
            let wanted = self.turn().log.room_for(Wanted::by(request.ops.as_slice()));
            if !housekeeper.make_room(wanted).unwrap_or(false) {
                break;
            }
            self.lead_once(std::slice::from_mut(request));
        }
        if is_full(request) {
            self.lookup.counters.refused.add(1);
        }
    }
}
