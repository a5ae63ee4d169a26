//! One turn at the log: judge each request, append what it asks, write and sync once for all, then show it.
//!
//! The order is the promise: bytes in the file (and on the device, if that was asked) before the index shows them
//! (I3), and the index before anyone is told. Nothing is shown of a group whose write failed.

use std::{collections::HashMap, sync::Arc};

use super::{
    log::{Fault, Log},
    request::{Op, Ops, Outcome, Request},
};
use crate::{
    error::{Error, Result},
    format::{
        checksum::checksum_from,
        record::{Draft, Flags, Kind, encode, flags_of},
    },
    index::{Entry as IndexEntry, size_class},
    lookup::Lookup,
    options::{Condition, Durability},
    overrides::Touch,
    types::{Location, SequenceNumber, is_live},
};

/// What the turn's owner holds.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) log: Log,
    pub(super) lookup: Arc<Lookup>,
    /// Why nothing more may be written, if so.
    pub(super) stopped: Option<String>,
}

/// A key's state as the next op of the group finds it.
#[derive(Clone, Copy, Debug)]
struct Current {
    location: Location,
    bytes: u64,
    sequence: SequenceNumber,
    touched: bool,
    live: bool,
}

/// What to show once the group is as safe as was asked.
#[derive(Debug)]
enum Effect {
    Put { hash: u64, entry: IndexEntry, bytes: u64, displaced: Option<Current> },
    Delete { hash: u64, displaced: Current },
    Touch { hash: u64, at: Location, touch: Touch },
    Cut { scope: Vec<u8>, sequence: SequenceNumber },
}

/// What the ops of a group so far will have done, for the ops behind them.
#[derive(Debug, Default)]
struct Group {
    effects: Vec<Effect>,
    /// State by key; kept only if some op may come behind another.
    states: Option<HashMap<Box<[u8]>, Option<Current>>>,
}

impl Turn {
    /// Carries out `requests` as one group and sets their outcomes.
    pub(super) fn process(&mut self, requests: &mut [Request]) {
        if let Some(cause) = &self.stopped {
            for request in requests {
                request.outcome = Some(Err(Error::Stopped { cause: cause.clone() }));
            }
            return;
        }
        let mark = self.log.mark();
        let ops: usize = requests.iter().map(|request| request.ops.as_slice().len()).sum();
        let mut group =
            Group { effects: Vec::with_capacity(ops), states: (ops > 1).then(HashMap::new) };
        let written = self.append_all(requests, &mut group).and_then(|durability| {
            let Some(durability) = durability else { return Ok(()) };
            self.make_safe(durability)
        });
        match written {
            Ok(()) => self.show(group.effects),
            Err(error) => {
                self.log.roll_back(mark);
                self.stop(&error);
                for request in &mut *requests {
                    // All of them: what was absent or refused may have been so because of a write that failed.
                    request.outcome = Some(Err(error.duplicate()));
                }
            }
        }
        let counters = &self.log.counters;
        counters.groups.add(1);
        counters.grouped.add(requests.len() as u64);
    }

    /// Nothing more is written until `try_recover` (I8).
    pub(super) fn stop(&mut self, error: &Error) {
        self.stopped.get_or_insert_with(|| error.to_string());
    }

    /// Appends what the requests ask; says what the strictest of those that wrote wants. `Err` stops the log.
    fn append_all(
        &mut self,
        requests: &mut [Request],
        group: &mut Group,
    ) -> Result<Option<Durability>> {
        let mut strictest = None;
        for request in requests {
            let outcome = match self.append_request(&mut request.ops, group) {
                Ok(outcome) => Ok(outcome),
                Err(Fault::Refused(error)) => Err(error),
                Err(Fault::Stops(error)) => return Err(error),
            };
            if matches!(outcome, Ok(Outcome::Written(_))) {
                strictest = stricter(strictest, request.durability);
            }
            request.outcome = Some(outcome);
        }
        Ok(strictest)
    }

    fn make_safe(&mut self, durability: Durability) -> Result<()> {
        match durability {
            Durability::Buffered | Durability::Periodic => Ok(()),
            Durability::Os => self.log.write_out(),
            Durability::Sync => self.log.sync(),
        }
    }

    /// Appends one request, or nothing of it.
    fn append_request(&mut self, ops: &mut Ops, group: &mut Group) -> Result<Outcome, Fault> {
        if let Some(refused) = self.judge(ops.as_slice(), group).map_err(Fault::Refused)? {
            return Ok(refused);
        }
        let bytes: u64 = ops.as_slice().iter().map(Op::bytes_max).sum();
        // Order: all the room is there before the first record, so that a batch stands in one segment.
        self.log.make_room(bytes + 2 * Log::MARKER_BYTES)?;
        if self.log.owes_marker() {
            self.log.append_marker(0, 0);
        }
        match ops {
            Ops::One(op) => self
                .append_op(op, group, Flags::default())
                .map_err(Fault::Refused)
                .map(|(outcome, _)| outcome),
            Ops::Batch(ops) => self.append_batch(ops, group),
        }
    }

    /// All or nothing (I14): every key is looked up before the first record is appended, and the marker comes last.
    fn append_batch(&mut self, ops: &mut [Op], group: &mut Group) -> Result<Outcome, Fault> {
        let (mut records, mut sum) = (0, 0);
        for op in ops {
            // Lookups were done by `judge`; one that fails now finds a record that could be read a moment ago
            // damaged. Half a batch without a marker stands in the log then, so the log must not go on.
            let (_, head_checksum) =
                self.append_op(op, group, Flags::BATCH).map_err(Fault::Stops)?;
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
            if op.condition == Condition::Always && !is_end && ops.len() == 1 {
                return Ok(None);
            }
            let current = self.current(op, group)?.filter(|current| current.live);
            writes |= !is_end || current.is_some();
            let found = current.map(|current| current.sequence);
            let holds = match op.condition {
                Condition::Always => true,
                Condition::Absent => found.is_none(),
                Condition::Unchanged(sequence) => found == Some(sequence),
            };
            if !holds {
                return Ok(Some(Outcome::Refused(found)));
            }
        }
        Ok((!writes).then_some(Outcome::Absent))
    }

    /// The key's state as this op finds it.
    fn current(&self, op: &Op, group: &Group) -> Result<Option<Current>> {
        if let Some(state) = group.states.as_ref().and_then(|states| states.get(op.key())) {
            return Ok(*state);
        }
        let found = self.lookup.current(op.key(), op.hash)?;
        Ok(found.map(|found| Current {
            location: found.location,
            bytes: found.record_bytes,
            sequence: found.sequence,
            touched: found.is_touched,
            live: found.is_live,
        }))
    }

    /// Appends one op; says the outcome and the head checksum of its record, if it wrote one.
    fn append_op(
        &mut self,
        op: &mut Op,
        group: &mut Group,
        extra: Flags,
    ) -> Result<(Outcome, Option<u32>)> {
        if op.kind == Kind::ScopeCut {
            let flags = flags_of(&op.frame).with(extra);
            let (_, sequence, sum) = self.log.append(&mut op.frame, op.head_bytes, flags);
            group.effects.push(Effect::Cut { scope: op.key().to_vec(), sequence });
            return Ok((Outcome::Written(sequence), Some(sum)));
        }
        let current = self.current(op, group)?;
        let (effect, state, sequence, sum) = match (op.kind, current) {
            (Kind::Put, current) => self.append_put(op, current, extra),
            (Kind::Delete, Some(current)) if current.live => {
                let flags = flags_of(&op.frame).with(extra);
                let (_, sequence, sum) = self.log.append(&mut op.frame, op.head_bytes, flags);
                let effect = Effect::Delete { hash: op.hash, displaced: current };
                (effect, None, sequence, sum)
            }
            (Kind::Touch, Some(current)) if current.live => self.append_touch(op, current, extra),
            _ => return Ok((Outcome::Absent, None)),
        };
        if let Some(states) = &mut group.states {
            states.insert(op.key().into(), state);
        }
        group.effects.push(effect);
        Ok((Outcome::Written(sequence), Some(sum)))
    }

    fn append_put(
        &mut self,
        op: &mut Op,
        displaced: Option<Current>,
        extra: Flags,
    ) -> (Effect, Option<Current>, SequenceNumber, u32) {
        let fresh = if displaced.is_none() { Flags::FRESH } else { Flags::default() };
        let flags = flags_of(&op.frame).with(fresh).with(extra);
        let (location, sequence, sum) = self.log.append(&mut op.frame, op.head_bytes, flags);
        let bytes = op.frame.len() as u64;
        let state = Current {
            location,
            bytes,
            sequence,
            touched: false,
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
        let entry = IndexEntry { location, size_class: size_class(bytes), flags: marks, epoch: 0 };
        let effect = Effect::Put { hash: op.hash, entry, bytes, displaced };
        (effect, Some(state), sequence, sum)
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
        let touch = Touch { expires_at: op.expires_at, sequence };
        let live = is_live(op.expires_at, self.log.clock.now_for(op.expires_at));
        let state = Current { touched: true, live, ..current };
        (Effect::Touch { hash: op.hash, at: current.location, touch }, Some(state), sequence, sum)
    }

    /// Lets readers see the group, in order.
    fn show(&self, effects: Vec<Effect>) {
        let Lookup { index, catalog, overrides, counters, .. } = &*self.lookup;
        let displace = |displaced: Current| {
            catalog.count_dead(displaced.location.slot, displaced.bytes);
            if displaced.touched {
                overrides.take_touch(displaced.location);
            }
        };
        for effect in effects {
            match effect {
                Effect::Put { hash, entry, bytes, displaced } => {
                    catalog.count_live(entry.location.slot, bytes);
                    let replaced = index.insert(hash, entry, displaced.map(|d| d.location));
                    debug_assert_eq!(replaced, displaced.is_some(), "what was displaced was there");
                    if let Some(displaced) = displaced {
                        displace(displaced);
                    }
                    counters.puts.add(1);
                }
                Effect::Delete { hash, displaced } => {
                    let removed = index.remove(hash, displaced.location);
                    debug_assert!(removed, "what was deleted was there");
                    displace(displaced);
                    counters.deletes.add(1);
                }
                Effect::Touch { hash, at, touch } => {
                    // Order: the new expiry is there before the entry says to look for it.
                    overrides.set_touch(at, touch);
                    let marked = index.mark(hash, at, IndexEntry::TOUCHED);
                    debug_assert!(marked, "what was touched was there");
                }
                Effect::Cut { scope, sequence } => overrides.cut(&scope, sequence),
            }
        }
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
