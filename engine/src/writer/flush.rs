//! The write buffer of [`Durability::Periodic`]: what it admits, and how it is flushed.
//!
//! A write is staged only if there is surely room for it beside all that is staged: under the limits on what is live
//! without any eviction, and in the log without the reserve. Any other write goes the ordinary way, which evicts, makes
//! room, refuses, and comes behind what is staged. So nothing is acknowledged that a flush could not write.
//!
//! A flush appends in the order of staging, in batches that fit a segment. What is staged stays visible until the log
//! shows it, and a write that fails keeps no other one from the log.

use std::sync::Weak;

use super::{
    Held, ROOM_ROUNDS_MAX, StagedChange, Writer,
    log::{Log, Wanted},
    request::{Op, Ops, Outcome, Request},
    staging::{Staged, Weight},
    turn::Turn,
};
use crate::{
    error::{Error, Result},
    format::{
        footer::{FOOTER_ENTRY_BYTES, FOOTER_TRAILER_BYTES},
        record::Kind,
    },
    index::weight,
    options::{Durability, PutOptions},
    segment::RECORDS_AT,
    space::{BYTES, Purpose},
    sync::{PoisonError, atomic::Ordering},
    types::{SequenceNumber, is_live},
};

/// A write that may be staged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change<'a> {
    Put(&'a [u8], &'a PutOptions),
    Delete,
}

impl Change<'_> {
    fn weight(self, key: &[u8]) -> Weight {
        match self {
            Self::Put(value, options) => Weight::of_put(key, value, options),
            Self::Delete => Weight::of_delete(key),
        }
    }

    fn to_staged(self) -> StagedChange {
        match self {
            Self::Put(value, options) => StagedChange::Put(value.to_vec(), options.clone()),
            Self::Delete => StagedChange::Delete,
        }
    }
}

/// Near a limit staged keys are looked up one by one if there are at most so many.
const EXACT_KEYS_MAX: usize = 64;
/// A flush that failed is tried again after so long at least.
pub(super) const RETRY_MS: u64 = 250;

impl Writer {
    /// Stages a write if there is surely room for it. `false`: it has to go the ordinary way.
    pub(super) fn stage(&self, key: &[u8], change: Change<'_>) -> Result<bool> {
        let more = change.weight(key);
        if self.home.lacks_ballast() || !self.may_stage(key, more)? {
            return Ok(false);
        }
        if !self.is_bounded() {
            self.staging_begins();
            self.staging.put(key, change.to_staged());
            return Ok(true);
        }
        // Under the turn: no other write is judged between.
        let turn = self.turn();
        let is_admitted = turn.stopped.is_none() && self.fits(&turn, key, more);
        if is_admitted {
            self.staging_begins();
            self.staging.put(key, change.to_staged());
        }
        drop(turn);
        Ok(is_admitted)
    }

    /// Stages a delete; goes the ordinary way if there may be no room for it.
    pub(super) fn stage_delete(&self, key: &[u8]) -> Result<Outcome> {
        let (is_there, may_return) = self.judge_delete(key)?;
        if !is_there && !may_return {
            return Ok(Outcome::Absent);
        }
        let more = Change::Delete.weight(key);
        if self.may_stage(key, more)? {
            let turn = self.turn();
            if turn.stopped.is_none() && (!self.is_bounded() || self.fits(&turn, key, more)) {
                return self.stage_delete_in(&turn, key);
            }
        }
        self.run(Op::end(Kind::Delete, key, self.lookup.hasher), Durability::Periodic)
    }

    /// Judges a delete again and stages it, under the turn and only over what was judged. Otherwise two deletes could
    /// both say that they found the entry, or one that found nothing could end a put that was acknowledged meanwhile.
    fn stage_delete_in(&self, _turn: &Turn, key: &[u8]) -> Result<Outcome> {
        loop {
            let version = self.staging.version(key);
            let (is_there, may_return) = self.judge_delete(key)?;
            if !is_there && !may_return {
                return Ok(Outcome::Absent);
            }
            self.staging_begins();
            if self.staging.put_over(key, version, StagedChange::Delete) {
                let written = Outcome::Written(SequenceNumber(0));
                return Ok(if is_there { written } else { Outcome::Absent });
            }
        }
    }

    /// Whether `key` has a live entry, and whether one that is not live could be back after a crash: what is absent
    /// and may return is deleted all the same, see `Op::ends`.
    fn judge_delete(&self, key: &[u8]) -> Result<(bool, bool)> {
        Ok(match self.staging.get(key) {
            Some(StagedChange::Put(_, options)) => {
                let now = self.lookup.clock.now_for(options.expires_at);
                (is_live(options.expires_at, now), options.expires_at.is_some())
            }
            Some(StagedChange::Delete) => (false, false),
            None => match self.lookup.current(key, self.lookup.hasher.hash(key))? {
                Some(found) => (found.is_live, found.is_evicted || found.expires_at.is_some()),
                None => (false, false),
            },
        })
    }

    /// Whether a write of this weight may be staged as far as limits on the staging area go; flushes to make room.
    fn may_stage(&self, key: &[u8], more: Weight) -> Result<bool> {
        if self.stopped.load(Ordering::Acquire) {
            self.check_stopped()?;
        }
        // Order: a put that was submitted before reaches the log before.
        if self.commit.has_tickets() {
            return Ok(false);
        }
        let bytes_max = self.intervals.periodic_bytes;
        let is_too_much = |writer: &Self| {
            let (all, part) = writer.staging.weight(key);
            writer.is_overdue() || all.less(part).plus(more).log_bytes > bytes_max
        };
        if is_too_much(self) {
            if more.log_bytes <= bytes_max {
                // A failure is kept for the health, and the ordinary way meets it again.
                let _ = self.flush_staged();
            }
            if is_too_much(self) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn staging_begins(&self) {
        if self.staging.len() == 0 {
            self.staged_at.store(self.lookup.clock.machine().monotonic_ms(), Ordering::Relaxed);
        }
    }

    /// Whether there is any limit that a write may meet.
    fn is_bounded(&self) -> bool {
        self.space.is_bounded() || self.is_limited.load(Ordering::Acquire)
    }

    /// Whether all that is staged fits with `more` for `key`, which takes the place of what is staged for it.
    fn fits(&self, turn: &Turn, key: &[u8], more: Weight) -> bool {
        let (all, part) = self.staging.weight(key);
        let all = all.less(part).plus(more);
        self.fits_log(turn, all, more) && self.fits_live(turn, key, all)
    }

    fn fits_log(&self, turn: &Turn, all: Weight, more: Weight) -> bool {
        let log = &turn.log;
        if !self.space.is_bounded() {
            return true;
        }
        let wanted = |weight: Weight| Wanted {
            bytes: weight.log_bytes + 2 * Log::MARKER_BYTES,
            records: weight.records + 2,
            purpose: Purpose::Write,
        };
        if log.has_room(wanted(all)) {
            return true;
        }
        if log.capacity_for(wanted(more)) > self.space.largest() {
            return false;
        }
        // Records are not split: of two segments in a row at least one half is used.
        let segments = 2 * all.log_bytes + 2 * log.segment_bytes;
        let beside = log.unsealed_bytes().saturating_sub(2 * log.segment_bytes);
        self.space.has_room(segments.saturating_add(beside))
    }

    fn fits_live(&self, turn: &Turn, key: &[u8], all: Weight) -> bool {
        let limits = turn.limits;
        if limits.are_none() || all.puts == 0 {
            return true;
        }
        let now = self.lookup.tally.get();
        let fits = |less: (u64, u64)| {
            (now.entries + all.puts).saturating_sub(less.0) <= limits.entries
                && now.bytes.saturating_add(all.live_bytes).saturating_sub(less.1) <= limits.bytes
        };
        if fits((0, 0)) {
            return true;
        }
        let mut keys = self.staging.put_keys();
        if keys.len() > EXACT_KEYS_MAX {
            return false;
        }
        keys.retain(|staged| staged != key);
        let mut less = (0, 0);
        for key in keys.iter().map(Vec::as_slice).chain([key]) {
            // A record that cannot be read is not counted out: the failure belongs to the write of that key.
            let found = self.lookup.current(key, self.lookup.hasher.hash(key)).unwrap_or_default();
            if let Some(found) = found.filter(|found| !found.is_evicted) {
                less = (less.0 + 1, less.1 + weight(found.record_bytes));
            }
        }
        fits(less)
    }

    /// Flushes staged writes to the device.
    pub(super) fn flush_staged(&self) -> Result<()> {
        let drained = self.drain_staged();
        let flushed = match self.sync_behind() {
            Err(error) if drained.is_ok() => Err(error),
            _ => drained,
        };
        self.overdue.store(flushed.is_err(), Ordering::Release);
        flushed
    }

    /// Flushes staged writes that could not be flushed in time.
    pub(crate) fn flush_overdue(&self) -> Result<()> {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if self.overdue.load(Ordering::Acquire) { self.flush_staged() } else { Ok(()) }
    }

    /// The store is about to close: everything that is queued or staged goes into the log.
    pub(crate) fn flush_before_close(&self) -> Result<()> {
        self.drain_queue();
        self.drain_staged()
    }

    /// Takes staged writes into the log. Makes room if they need it.
    pub(crate) fn drain_staged(&self) -> Result<()> {
        for _ in 0..ROOM_ROUNDS_MAX {
            let drained = self.drain_once();
            let Err(Error::Full { what: BYTES, .. }) = &drained else { return drained };
            let housekeeper = self.housekeeper.get().and_then(Weak::upgrade);
            let wanted = self.turn().log.segment_bytes;
            if !housekeeper.is_some_and(|keeper| keeper.make_room(wanted).unwrap_or(false)) {
                return drained;
            }
        }
        self.drain_once()
    }

    fn drain_once(&self) -> Result<()> {
        if self.staging.len() == 0 {
            return Ok(());
        }
        let (turn, drained) = self.turn_behind_staged();
        self.note(&turn);
        drained
    }

    /// The turn, with everything that is staged in the log before it. `Err`: some of it is still staged. Seals what has
    /// to be sealed on the way.
    #[inline]
    pub(super) fn turn_behind_staged(&self) -> (Held<'_>, Result<()>) {
        if self.staging.len() == 0 && self.closing.load(Ordering::Acquire) < self.closing_max() {
            let turn = self.turn();
            if self.staging.len() == 0 {
                return (turn, Ok(()));
            }
        }
        self.turn_behind_staged_writes()
    }

    #[inline(never)]
    fn turn_behind_staged_writes(&self) -> (Held<'_>, Result<()>) {
        loop {
            let mut is_sealed = true;
            while is_sealed && self.closing.load(Ordering::Acquire) >= self.closing_max() {
                // A failure here stops the log, and the turn says so.
                is_sealed = matches!(self.seal_oldest(), Ok(true));
            }
            let mut turn = self.turn();
            let drained = self.write_staged(&mut turn, is_sealed);
            if !matches!(drained, Ok(false)) {
                return (turn, drained.map(drop));
            }
            self.note(&turn);
        }
    }

    /// Appends what is staged to the log, and removes it from the write buffer once readers find it in the log. `Err`:
    /// some of it is still staged. `false`: there is more, and segments to be sealed first, if `may_pause`.
    fn write_staged(&self, turn: &mut Turn, may_pause: bool) -> Result<bool> {
        if self.staging.len() == 0 {
            return Ok(true);
        }
        self.owe_periodic(self.staged_at.load(Ordering::Relaxed));
        let order = self.staging.order();
        let mut flush = Flush { writer: self, failed: None, is_single: false, has_no_room: false };
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let (ops, count) = flush.piece(rest, turn.log.segment_bytes);
            let (piece, after) = rest.split_at(count);
            if flush.write(turn, ops, piece)? {
                rest = after;
            }
            let is_pause = turn.log.closing.len() >= self.closing_max() && !rest.is_empty();
            if may_pause && is_pause && flush.failed.is_none() {
                return Ok(false);
            }
        }
        match flush.failed {
            Some(error) => Err(error),
            None => Ok(true),
        }
    }

    /// One request while older writes are still staged that could not be written. It is refused if it has to come
    /// after one of them.
    pub(super) fn process_beside_staged(
        &self,
        turn: &mut Turn,
        requests: &mut [Request],
        failed: &Error,
    ) -> usize {
        let Some(request) = requests.first_mut() else { return 0 };
        // Without limits a write is staged beside the turn: one that is staged from here on came later, and stays.
        let seen = self.staging.newest();
        if self.staging.holds_up(request.ops.as_slice()) {
            request.outcome = Some(Err(failed.duplicate()));
            return 1;
        }
        turn.process(std::slice::from_mut(request));
        if let Some(Ok(outcome)) = &mut request.outcome
            && !matches!(outcome, Outcome::Refused(_))
        {
            let had_put = self.staging.supersede(request.ops.as_slice(), seen);
            if had_put && *outcome == Outcome::Absent {
                // The entry that it deleted was only staged.
                *outcome = Outcome::Written(turn.log.newest());
            }
        }
        1
    }

    /// From this moment (monotonic) on there is a write that has to be on the device within `periodic_ms`.
    pub(super) fn owe_periodic(&self, since: u64) {
        self.owed_since.fetch_min(since, Ordering::Relaxed);
    }

    /// Keeps for the health that a staged write was dropped.
    fn note_lost(&self, key: &[u8], error: &Error) {
        let shown = &key[..key.len().min(64)];
        let cause = format!("the staged write of key {:?} was dropped: {error}", Shown(shown));
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
        self.lookup.counters.refused.add(1);
    }

    /// Which staged write was dropped because it can never be written.
    pub(crate) fn lost(&self) -> Option<String> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A key for people to read.
struct Shown<'a>(&'a [u8]);

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// One flush.
struct Flush<'a> {
    writer: &'a Writer,
    /// The first failure of a write that stays staged.
    failed: Option<Error>,
    /// One write at a time, since a batch failed.
    is_single: bool,
    /// The log could not take a put.
    has_no_room: bool,
}

impl Flush<'_> {
    /// The next ops, and how many staged writes they are of: as many as fit a usual segment, and one at least.
    fn piece(&self, rest: &[Staged], segment_bytes: u64) -> (Vec<Op>, usize) {
        let overhead = RECORDS_AT + FOOTER_TRAILER_BYTES as u64 + 4 * Log::MARKER_BYTES;
        let most = segment_bytes.saturating_sub(overhead);
        let (mut ops, mut count, mut bytes) = (Vec::new(), 0, 0);
        for staged in rest {
            // Order: what was staged at the moment of the flush, even if its key was staged again since. Otherwise a
            // snapshot could show later writes without it.
            let op = self.op(&staged.key, &staged.change);
            let more = op.bytes_max() + FOOTER_ENTRY_BYTES as u64;
            if count > 0 && (self.is_single || bytes + more > most) {
                break;
            }
            ops.push(op);
            count += 1;
            bytes += more;
        }
        (ops, count)
    }

    /// An entry that has expired meanwhile only ends what was there before it. The time that is confirmed decides: a
    /// wall clock in doubt removes nothing for good.
    fn op(&self, key: &[u8], change: &StagedChange) -> Op {
        let lookup = &self.writer.lookup;
        match change {
            StagedChange::Put(value, options)
                if is_live(options.expires_at, lookup.clock.confirmed()) =>
            {
                let op = Op::put(key, value, options, lookup.hasher, Vec::new());
                debug_assert!(
                    op.bytes_max() + FOOTER_ENTRY_BYTES as u64
                        <= Weight::of_put(key, value, options).log_bytes,
                    "what was admitted was as large as this"
                );
                op
            }
            StagedChange::Put(..) | StagedChange::Delete => {
                Op::end(Kind::Delete, key, lookup.hasher)
            }
        }
    }

    /// Writes one piece; `false` if it has to be taken apart. `Err`: nothing more can be written at all.
    fn write(&mut self, turn: &mut Turn, mut ops: Vec<Op>, piece: &[Staged]) -> Result<bool> {
        let is_put = ops.iter().any(|op| op.kind == Kind::Put);
        if self.has_no_room && is_put {
            // There was no room for another: this one waits as well. A delete has room of its own.
            return Ok(true);
        }
        let ops = match ops.len() {
            0 => return Ok(true),
            1 => Ops::One(ops.remove(0)),
            _ => Ops::Batch(ops),
        };
        let mut request =
            [Request { is_admitted: true, ..Request::new(ops, Durability::Buffered) }];
        turn.process(&mut request);
        let [request] = request;
        let Some(Err(error)) = request.outcome else {
            self.writer.staging.remove(piece);
            return Ok(true);
        };
        if turn.stopped.is_some() {
            return Err(error);
        }
        if piece.len() > 1 {
            self.is_single = true;
            return Ok(false);
        }
        match error {
            // However often it is tried, it never will be written.
            Error::TooLarge { .. } | Error::Corruption(_) => {
                for staged in piece {
                    self.writer.note_lost(&staged.key, &error);
                }
                self.writer.staging.remove(piece);
            }
            error => {
                self.is_single = true;
                self.has_no_room |= !matches!(error, Error::Io { operation: "read", .. });
                let _ = self.failed.get_or_insert(error);
            }
        }
        Ok(true)
    }
}
