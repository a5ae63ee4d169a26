//! One turn at the log: judge each request, append what it asks, write and sync once for all, then show it.
//!
//! The order is the promise: bytes in the file (and on the device, if that was asked) before the index shows them
//! (I3), and the index before anyone is told. Nothing is shown of a group whose write failed.

use std::sync::Arc;

use super::{
    effects::{Current, Effect, Group},
    evict::LiveLimits,
    log::{Fault, Log, Mark, Wanted},
    request::{Op, Ops, Outcome, Request},
};
use crate::{
    error::{Error, Result},
    format::{
        checksum::checksum_from,
        record::{Draft, Flags, Kind, encode, flags_of},
    },
    index::{Entry as IndexEntry, Size},
    lookup::Lookup,
    options::{Condition, Durability},
    overrides::must_log,
    space::Purpose,
    types::{SequenceNumber, Timestamp, Touch, is_live},
};

/// What the turn's owner is about, if a panic in it would leave it half done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doing {
    /// Nothing of the kind: what is in memory is as it was.
    Nothing,
    /// Records are appended; the log can be taken back to this point.
    Writing(Mark),
    /// Index, catalog or accounts change: half of that cannot be undone.
    Changing,
}

/// What the turn's owner holds.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) log: Log,
    pub(super) lookup: Arc<Lookup>,
    pub(super) limits: LiveLimits,
    /// Why nothing more may be written, if so.
    pub(super) stopped: Option<String>,
    /// Whether that was a full disk: then it may go on by itself.
    pub(super) is_disk_full: bool,
    /// What a panic would interrupt.
    pub(super) doing: Doing,
    /// Whether a panic left what is in memory half changed: nothing of it is written again.
    pub(super) is_torn: bool,
    /// Kept from group to group for its memory; empty between them.
    effects: Vec<Effect>,
    /// The first expiry in the group that is carried out.
    first_expiry: Option<Timestamp>,
}

impl Turn {
    pub(super) fn new(
        log: Log,
        lookup: Arc<Lookup>,
        limits: LiveLimits,
        stopped: Option<String>,
    ) -> Self {
        Self {
            log,
            lookup,
            limits,
            stopped,
            is_disk_full: false,
            doing: Doing::Nothing,
            is_torn: false,
            effects: Vec::new(),
            first_expiry: None,
        }
    }
}

impl Turn {
    /// Carries out the first of `requests` as one group, sets their outcomes, and says how many they were: the group
    /// ends before a request that finds no room beside those before it, or behind one that finds none at all.
    pub(super) fn process(&mut self, requests: &mut [Request]) -> usize {
        if let Some(cause) = &self.stopped {
            for request in &mut *requests {
                request.outcome = Some(Err(Error::Stopped { cause: cause.clone() }));
            }
            return requests.len();
        }
        let mark = self.log.mark();
        self.doing = Doing::Writing(mark);
        self.first_expiry = None;
        let ops: usize = requests.iter().map(|request| request.ops.as_slice().len()).sum();
        let mut group = Group::new(std::mem::take(&mut self.effects), ops > 1);
        let written = self.append_all(requests, &mut group).and_then(|(count, durability)| {
            let Some(durability) = durability else { return Ok(count) };
            self.make_safe(durability).map(|()| count)
        });
        let count = written.as_ref().copied().unwrap_or(requests.len());
        match written {
            Ok(_) => {
                self.doing = Doing::Changing;
                self.keep_limits(&group);
                group.show(&self.lookup, self.log.active.as_ref().map(|open| &open.segment));
                // Order: after the index shows it. A sweep that walked the index before that found no such entry,
                // and has forgotten what was noted when the record was appended.
                self.lookup.first_expiry.note(self.first_expiry);
            }
            Err(error) => {
                self.log.roll_back(mark);
                self.stop(&error);
                for request in &mut *requests {
                    // All of them: what was absent or refused may have been so because of a write that failed.
                    request.outcome = Some(Err(error.duplicate()));
                }
            }
        }
        self.doing = Doing::Nothing;
        self.effects = group.into_memory();
        let counters = &self.log.counters;
        counters.groups.add_alone(1);
        counters.grouped.add_alone(count as u64);
        count
    }

    /// The owner of the turn panicked. Nothing that it was about counts, and nothing is written behind it: what is in
    /// the file may differ from what is in memory.
    pub(super) fn panicked(&mut self) {
        let cause = match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Changing => {
                self.is_torn = true;
                // Whatever stopped the log before this: its cause can be removed, and this one cannot.
                self.stopped = None;
                "a change of the index panicked half-way: reopen the store"
            }
            Doing::Writing(mark) => {
                self.log.roll_back(mark);
                "a write panicked"
            }
            Doing::Nothing => "work at the log panicked",
        };
        self.stopped.get_or_insert_with(|| cause.to_owned());
        self.is_disk_full = false;
    }

    /// Nothing more is written until `try_recover` (I8).
    pub(super) fn stop(&mut self, error: &Error) {
        if self.stopped.is_none() {
            self.stopped = Some(match error {
                Error::Stopped { cause } => cause.clone(),
                other => other.to_string(),
            });
            self.is_disk_full = error.is_disk_full();
        } else {
            // A sync that failed behind a full disk: what is in the files is no longer to be trusted (I8).
            self.is_disk_full &= error.is_disk_full();
        }
    }

    /// Appends what the first requests ask; says how many they are, and what the strictest of those that wrote wants.
    /// `Err` stops the log.
    fn append_all(
        &mut self,
        requests: &mut [Request],
        group: &mut Group,
    ) -> Result<(usize, Option<Durability>)> {
        let (mut strictest, mut count) = (None, 0);
        for request in requests {
            let newest = self.log.newest();
            let outcome = match self.append_request(request, group) {
                Ok(outcome) => Ok(outcome),
                // Those before it are shown first: they may be what has to go for it.
                Err(Fault::Refused(Error::Full { .. })) if count > 0 => break,
                Err(Fault::Refused(error)) => Err(error),
                Err(Fault::Stops(error)) => return Err(error),
            };
            // An answer that rests on what others wrote is as safe as was asked, too: a key that is reported gone
            // must not come back by a crash that this durability survives.
            let promises = matches!(request.durability, Durability::Os | Durability::Sync);
            let rests = promises && outcome.is_ok();
            let wrote = self.log.newest() > newest;
            if rests || wrote || matches!(outcome, Ok(Outcome::Written(_))) {
                strictest = stricter(strictest, request.durability);
            }
            let is_full = matches!(outcome, Err(Error::Full { .. }));
            request.outcome = Some(outcome);
            count += 1;
            if is_full {
                break;
            }
        }
        Ok((count, strictest))
    }

    fn make_safe(&mut self, durability: Durability) -> Result<()> {
        match durability {
            Durability::Buffered | Durability::Periodic => Ok(()),
            Durability::Os => self.log.write_out(),
            Durability::Sync => self.log.sync(),
        }
    }

    /// Appends one request, or nothing of it.
    fn append_request(
        &mut self,
        request: &mut Request,
        group: &mut Group,
    ) -> Result<Outcome, Fault> {
        let Request { ops, is_admitted, .. } = request;
        if let Some(refused) = self.judge(ops.as_slice(), group).map_err(Fault::Refused)? {
            return Ok(refused);
        }
        // Order: all the room is there before the first record, so that a batch stands in one segment.
        let mut wanted = Wanted::by(ops.as_slice());
        if *is_admitted {
            wanted.purpose = wanted.purpose.max(Purpose::Staged);
        } else {
            self.check_limits(ops.as_slice(), group).map_err(Fault::Refused)?;
        }
        if !self.log.has_room(wanted) {
            self.charge_others();
            self.set_capacity();
            self.log.make_room(wanted)?;
        }
        if self.log.owes_marker() {
            self.log.append_marker(0, 0);
        }
        self.log.note_purpose(wanted.purpose);
        match ops {
            Ops::One(op) => {
                let found = self.look(op, group).map_err(Fault::Refused)?;
                Ok(self.append_op(op, group, Flags::default(), found).0)
            }
            Ops::Batch(ops) => self.append_batch(ops, group).map_err(Fault::Refused),
        }
    }

    /// Charges for manifest and checkpoint as they may grow until the next segment begins.
    pub(super) fn charge_others(&self) {
        if self.log.space.limit().is_none() {
            return;
        }
        let manifest = self.log.manifest().bytes_max();
        // Entries that one more segment may bring are counted in.
        let more = self.log.segment_bytes / 2;
        self.log.space.set_others(manifest, self.lookup.checkpoint_bytes() + more);
    }

    /// All or nothing (I14): every key is looked up before the first record is appended, and the marker comes last.
    fn append_batch(&mut self, ops: &mut [Op], group: &mut Group) -> Result<Outcome> {
        let (mut records, mut sum) = (0, 0);
        // Order: a record that cannot be read refuses the batch before half of it stands in the log.
        let found = ops.iter().map(|op| self.look(op, group)).collect::<Result<Vec<_>>>()?;
        for (op, found) in ops.iter_mut().zip(found) {
            // What an op of this batch left of the key is newer than what was looked up.
            let found = group.state(op.key()).map_or(found, |state| (state, true));
            let (_, head_checksum) = self.append_op(op, group, Flags::BATCH, found);
            if let Some(head_checksum) = head_checksum {
                records += 1;
                sum = checksum_from(sum, &head_checksum.to_le_bytes());
            }
        }
        if records > 0 {
            self.log.append_marker(records, sum);
        }
        Ok(Outcome::Written(self.log.newest()))
    }

    /// Checks a request's conditions against the state before it, and whether there is anything to write at all.
    fn judge(&self, ops: &[Op], group: &Group) -> Result<Option<Outcome>> {
        let mut writes = false;
        for op in ops {
            let is_end = matches!(op.kind, Kind::Delete | Kind::Touch);
            if op.condition == Condition::Always && !is_end {
                writes = true;
                continue;
            }
            let current = self.current(op, group)?;
            writes |= !is_end || current.is_some_and(|current| op.ends(&current));
            let current = current.filter(|current| current.live);
            let holds = match op.condition {
                Condition::Always => true,
                Condition::Absent => current.is_none(),
                Condition::Unchanged(version) => {
                    current.is_some_and(|current| version.is(current.version, current.expires_at))
                }
            };
            if !holds {
                return Ok(Some(Outcome::Refused(current.map(|current| current.version))));
            }
        }
        Ok((!writes).then_some(Outcome::Absent))
    }

    /// The key's state as this op finds it.
    pub(super) fn current(&self, op: &Op, group: &Group) -> Result<Option<Current>> {
        if let Some(state) = group.state(op.key()) {
            return Ok(state);
        }
        let found = self.lookup.current(op.key(), op.hash)?;
        Ok(found.map(|found| Current {
            location: found.location,
            bytes: found.record_bytes,
            sequence: found.sequence,
            version: found.version,
            touched: found.is_touched,
            touch: found.touch,
            live: found.is_live,
            evicted: found.is_evicted,
            evictable: found.is_evictable,
            epoch: found.epoch,
            expires_at: found.expires_at,
        }))
    }

    /// What this op finds, and whether that is certain.
    pub(super) fn look(&self, op: &Op, group: &Group) -> Result<(Option<Current>, bool)> {
        if op.kind == Kind::ScopeCut {
            return Ok((None, false));
        }
        match self.current(op, group) {
            // A damaged record may have had this key, or another one: a plain put is written beside it.
            Err(Error::Corruption(_)) if op.kind == Kind::Put => Ok((None, false)),
            current => Ok((current?, true)),
        }
    }

    /// Appends one op that found this; says the outcome and the head checksum of its record, if it wrote one.
    fn append_op(
        &mut self,
        op: &mut Op,
        group: &mut Group,
        extra: Flags,
        (before, is_known): (Option<Current>, bool),
    ) -> (Outcome, Option<u32>) {
        if op.kind == Kind::ScopeCut {
            let flags = flags_of(&op.frame).with(extra);
            let (_, sequence, sum) = self.log.append(&mut op.frame, op.head_bytes, flags);
            group.add_cut(op.key(), sequence);
            return (Outcome::Written(sequence), Some(sum));
        }
        let (effect, after, sequence, sum) = match (op.kind, before) {
            (Kind::Put, before) => self.append_put(op, before, is_known, extra),
            (Kind::Delete, Some(before)) if op.ends(&before) => {
                let flags = flags_of(&op.frame).with(extra);
                let (_, sequence, sum) = self.log.append(&mut op.frame, op.head_bytes, flags);
                let effect = Effect::Delete { hash: op.hash, sequence, displaced: before };
                (effect, None, sequence, sum)
            }
            (Kind::Touch, Some(before)) if op.ends(&before) => {
                if let Some((effect, after)) = self.slide(op, before) {
                    group.add(op.key(), Some(before), effect, Some(after));
                    return (Outcome::Written(self.log.newest()), None);
                }
                self.append_touch(op, before, extra)
            }
            _ => return (Outcome::Absent, None),
        };
        group.add(op.key(), before, effect, after);
        let was_there = before.is_none_or(|before| before.live) || op.kind == Kind::Put;
        let outcome = if was_there { Outcome::Written(sequence) } else { Outcome::Absent };
        (outcome, Some(sum))
    }

    fn append_put(
        &mut self,
        op: &mut Op,
        displaced: Option<Current>,
        is_known: bool,
        extra: Flags,
    ) -> (Effect, Option<Current>, SequenceNumber, u32) {
        self.note_expiry(op.expires_at);
        let fresh = if displaced.is_none() && is_known { Flags::FRESH } else { Flags::default() };
        let flags = flags_of(&op.frame).with(fresh).with(extra);
        let (location, sequence, sum) = self.log.append(&mut op.frame, op.head_bytes, flags);
        let bytes = op.frame.len() as u64;
        let state = Current {
            location,
            bytes,
            sequence,
            version: sequence,
            touched: false,
            touch: None,
            evicted: false,
            evictable: op.evictable,
            epoch: 1,
            expires_at: op.expires_at,
            live: is_live(op.expires_at, self.log.clock.now_for(op.expires_at)),
        };
        let mut marks = 0;
        for (is_set, mark) in [
            (op.expires_at.is_some(), IndexEntry::EXPIRES),
            (op.evictable, IndexEntry::EVICTABLE),
            (op.scoped, IndexEntry::SCOPED),
        ] {
            marks |= if is_set { mark } else { 0 };
        }
        let entry = IndexEntry { location, size: Size::of(bytes), flags: marks, epoch: 1 };
        let effect = Effect::Put { hash: op.hash, entry, sequence, displaced };
        (effect, Some(state), sequence, sum)
    }

    fn note_expiry(&mut self, expires_at: Option<Timestamp>) {
        self.lookup.first_expiry.note(expires_at);
        self.first_expiry = self.first_expiry.into_iter().chain(expires_at).min();
    }

    /// A sliding expiry that need not be written down yet.
    fn slide(&mut self, op: &Op, current: Current) -> Option<(Effect, Current)> {
        self.note_expiry(op.expires_at);
        let wanted = op.expires_at.filter(|_| op.is_sliding)?;
        let logged =
            current.touch.unwrap_or_else(|| Touch::logged(current.expires_at, current.version));
        if must_log(logged.logged, wanted, self.log.clock.now()) {
            return None;
        }
        let touch = Touch { expires_at: Some(wanted), ..logged };
        let after =
            Current { touched: true, touch: Some(touch), expires_at: Some(wanted), ..current };
        Some((Effect::Touch { hash: op.hash, at: current.location, touch }, after))
    }

    fn append_touch(
        &mut self,
        op: &mut Op,
        current: Current,
        extra: Flags,
    ) -> (Effect, Option<Current>, SequenceNumber, u32) {
        let target = current.sequence.0.to_le_bytes();
        let draft = Draft {
            kind: Kind::Touch,
            flags: extra,
            key: op.key(),
            value: &target,
            expires_at: op.expires_at,
            extension: None,
        };
        let mut frame = Vec::new();
        let head_bytes = encode(&draft, &mut frame);
        let flags = flags_of(&frame);
        let (_, sequence, sum) = self.log.append(&mut frame, head_bytes, flags);
        let touch = Touch::logged(op.expires_at, sequence);
        let live = is_live(op.expires_at, self.log.clock.now_for(op.expires_at));
        let state = Current {
            version: sequence,
            touched: true,
            touch: Some(touch),
            live,
            expires_at: op.expires_at,
            ..current
        };
        (Effect::Touch { hash: op.hash, at: current.location, touch }, Some(state), sequence, sum)
    }
}

impl Op {
    /// Whether this delete or touch has anything to do. An entry that is absent because it was evicted or has expired
    /// may come back after a crash: the eviction is not on record, and the clock may be set back. Whoever deletes it
    /// is told that it was absent, and it stays so.
    fn ends(&self, current: &Current) -> bool {
        current.live || (self.kind == Kind::Delete && current.may_return())
    }
}

fn stricter(so_far: Option<Durability>, next: Durability) -> Option<Durability> {
    let rank = |durability| match durability {
        Durability::Buffered | Durability::Periodic => 0,
        Durability::Os => 1,
        Durability::Sync => 2,
    };
    match so_far {
        Some(so_far) if rank(so_far) >= rank(next) => Some(so_far),
        _ => Some(next),
    }
}
