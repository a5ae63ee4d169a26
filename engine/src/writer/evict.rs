//! Limits on what is live: evicts before a group is shown, so that they hold at every moment.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Writer,
    effects::Group,
    request::{Op, Request},
    turn::Turn,
};
use crate::{
    error::{Error, Result},
    evictor::{self, Cause, Eviction, Need, Victim},
    format::record::Kind,
    index::{Entry as IndexEntry, SHARDS, weight},
    lookup::Lookup,
    options::{Evict, Options},
    segment::Segment,
    sync::atomic::Ordering,
    types::{Slot, Touch, is_live},
};

/// Most live entries, and most bytes of their records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveLimits {
    /// Internal entries included.
    pub(super) entries: u64,
    /// Entries of a layer above that the limit does not count.
    internal: u64,
    /// How many those are will be said.
    awaits_internal: bool,
    pub(crate) bytes: u64,
}

impl LiveLimits {
    const NONE: u64 = u64::MAX;

    pub(super) fn new(options: &Options) -> Self {
        Self {
            entries: options.max_entries.unwrap_or(Self::NONE),
            internal: 0,
            awaits_internal: options.internal_entries,
            bytes: options.max_live_bytes.unwrap_or(Self::NONE),
        }
    }

    pub(crate) fn set_entries(&mut self, limit: Option<u64>) {
        self.entries = limit.map_or(Self::NONE, |limit| limit.saturating_add(self.internal));
    }

    pub(crate) fn set_internal(&mut self, internal: u64) {
        let limit = (self.entries != Self::NONE).then(|| self.entries - self.internal);
        self.internal = internal;
        self.awaits_internal = false;
        self.set_entries(limit);
    }

    pub(super) const fn are_none(self) -> bool {
        self.entries == Self::NONE && self.bytes == Self::NONE
    }
}

/// A choice may bring less than was asked for, because entries are used meanwhile: so often it is tried (I12).
const ROUNDS_MAX: usize = 64;

/// What a group brings, less what it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Net {
    pub(super) entries: i64,
    pub(super) bytes: i64,
}

const fn plus(now: u64, net: i64) -> u64 {
    now.saturating_add_signed(net)
}

impl Turn {
    /// Refuses a request for which no eviction can make room.
    pub(super) fn check_limits(&self, ops: &[Op], group: &Group) -> Result<()> {
        let limits = self.limits;
        if limits.are_none() {
            return Ok(());
        }
        for op in ops.iter().filter(|op| op.kind == Kind::Put) {
            let bytes = weight(op.frame.len() as u64);
            if bytes > limits.bytes {
                return Err(Error::TooLarge { what: "record", bytes, limit: limits.bytes });
            }
        }
        let puts = || ops.iter().filter(|op| op.kind == Kind::Put);
        let more =
            (puts().count() as u64, puts().map(|op| weight(op.frame.len() as u64)).sum::<u64>());
        if more.0 == 0 {
            // What only deletes passes, also above a limit that was lowered.
            return Ok(());
        }
        let (net, now) = (group.net(), self.lookup.tally.get());
        let (entries, bytes) = (plus(now.entries, net.entries), plus(now.bytes, net.bytes));
        if entries + more.0 <= limits.entries && bytes + more.1 <= limits.bytes {
            return Ok(());
        }
        // Near the limit it counts key by key. What is displaced is no room that an eviction could make.
        let (change, shielded) = self.change_by(ops, group)?;
        let evictable = match self.lookup.recency.policy() {
            Evict::None => (0, 0),
            _ => (
                now.evictable_entries.saturating_sub(shielded.0),
                now.evictable_bytes.saturating_sub(shielded.1),
            ),
        };
        if plus(entries, change.entries) > limits.entries.saturating_add(evictable.0) {
            return Err(Error::Full {
                what: "entries",
                used: now.entries.saturating_sub(limits.internal),
                limit: limits.entries - limits.internal,
            });
        }
        if plus(bytes, change.bytes) > limits.bytes.saturating_add(evictable.1) {
            return Err(Error::Full { what: "live bytes", used: now.bytes, limit: limits.bytes });
        }
        Ok(())
    }

    /// What these ops bring less what they take, of each key the last one; and count and weight of the evictable
    /// entries that they and the group displace.
    fn change_by(&self, ops: &[Op], group: &Group) -> Result<(Net, (u64, u64))> {
        let last: BTreeMap<&[u8], &Op> = ops
            .iter()
            .filter(|op| matches!(op.kind, Kind::Put | Kind::Delete))
            .map(|op| (op.key(), op))
            .collect();
        let (mut change, mut shielded) = (Net::default(), group.shielded());
        for (key, op) in last {
            // A put over a damaged record is written beside it, and displaces nothing.
            let (found, _) = self.look(op, group)?;
            if let Some(current) = found.filter(|current| !current.evicted) {
                let weight = weight(current.bytes);
                change.entries -= 1;
                change.bytes -= weight.cast_signed();
                if current.evictable && group.state(key).is_none() {
                    shielded = (shielded.0 + 1, shielded.1 + weight);
                }
            }
            if op.kind == Kind::Put {
                change.entries += 1;
                change.bytes += weight(op.frame.len() as u64).cast_signed();
            }
        }
        Ok((change, shielded))
    }

    /// Evicts what `group` is too much when it is shown. The group itself is not in the index yet, so nothing that was
    /// just written can be a victim.
    pub(super) fn keep_limits(&self, group: &Group) {
        let limits = self.limits;
        if limits.are_none() {
            return;
        }
        let (net, now) = (group.net(), self.lookup.tally.get());
        let over = |is: u64, limit: u64| is.saturating_sub(limit);
        let need = Need {
            entries: over(plus(now.entries, net.entries), limits.entries),
            bytes: over(plus(now.bytes, net.bytes), limits.bytes),
        };
        if need == Need::default() {
            return;
        }
        let batch = |need: u64, limit: u64| {
            if need == 0 { 0 } else { need.max(limit / evictor::BATCH_PART) }
        };
        let need = Need {
            entries: batch(need.entries, limits.entries),
            bytes: batch(need.bytes, limits.bytes),
        };
        let Lookup { index, recency, .. } = &*self.lookup;
        self.set_capacity();
        // What the group displaces is in the sum already: it must not go twice.
        let spared = group.displaced();
        let mut left = need;
        for _ in 0..ROUNDS_MAX {
            let victims = evictor::choose(index, recency, left, &spared);
            let (entries, bytes) = self.evict(&victims);
            left = left.less(entries, bytes);
            if victims.is_empty() || left == Need::default() {
                break;
            }
        }
    }

    /// Tells the clock of accesses how many entries there is room for.
    pub(super) fn set_capacity(&self) {
        /// So many at least, while a store that is limited in bytes is small.
        const LEAST: u64 = 1024;
        let is_limited = self.log.space.limit().is_some() || self.limits.bytes != LiveLimits::NONE;
        let now = self.lookup.tally.get().entries;
        let entries = match (is_limited, self.limits.entries) {
            (false, LiveLimits::NONE) => 0,
            (false, entries) => entries,
            (true, entries) => entries.min(now.max(LEAST)),
        };
        self.lookup.recency.set_capacity(entries);
    }

    /// Evicts entries that were chosen to make room, as far as they are still there, may go, and were not used since;
    /// says how many, and how much they weighed.
    pub(super) fn evict(&self, victims: &[Victim]) -> (u64, u64) {
        let index = &self.lookup.index;
        let gone = victims.iter().filter_map(|victim| {
            let entry = self.entry_at(victim)?;
            // Its slot may be another segment's by now: what stands there must be one that may go, too.
            let may_go = entry.flags & IndexEntry::EVICTABLE != 0 && !entry.is_evicted();
            (may_go && index.evict(victim.hash, victim.location, victim.epoch))
                .then_some((victim.hash, entry))
        });
        self.count_gone(gone, Cause::Capacity)
    }

    /// Ends entries of one segment that were found to have expired or to be cut off; says how many, and how much they
    /// weighed. They were judged outside of the turn. Here the judgement is made again as far as it can be another one
    /// by now: the segment may have left its slot, and an entry may have been touched. What is cut stays cut, and a use
    /// (the epoch) changes no end.
    pub(super) fn end(
        &self,
        segment: &Arc<Segment>,
        victims: &[Victim],
        cause: Cause,
    ) -> (u64, u64) {
        let Lookup { index, catalog, overrides, clock, .. } = &*self.lookup;
        let is_same = |found: &Arc<Segment>| Arc::ptr_eq(found, segment);
        if catalog.with(segment.slot, is_same) != Some(true) {
            return (0, 0);
        }
        let gone = victims.iter().filter_map(|victim| {
            debug_assert_eq!(victim.location.slot, segment.slot, "they were judged in it");
            let entry = self.entry_at(victim)?;
            let touch = overrides.touch_of(&entry);
            let has_time = |touch: Touch| is_live(touch.expires_at, clock.confirmed());
            if cause == Cause::Expired && touch.is_some_and(has_time) {
                return None;
            }
            Some((victim.hash, index.end(victim.hash, victim.location)?))
        });
        self.count_gone(gone, cause)
    }

    fn entry_at(&self, victim: &Victim) -> Option<IndexEntry> {
        let here = |entry: &IndexEntry| entry.location == victim.location;
        self.lookup.index.peek(victim.hash).iter().find(here)
    }

    /// Takes entries that were just marked as evicted out of the accounts, and notes why they went.
    fn count_gone(
        &self,
        gone: impl Iterator<Item = (u64, IndexEntry)>,
        cause: Cause,
    ) -> (u64, u64) {
        let Lookup { catalog, tally, counters, journal, clock, recency, .. } = &*self.lookup;
        let (mut entries, mut sum) = (0, 0);
        let newest = self.log.newest();
        let mut at = None;
        for (hash, entry) in gone {
            // Before it is counted dead: a segment may leave with its last live record.
            let key = journal.keeps_keys().then(|| self.lookup.key_at(entry.location)).flatten();
            let bytes = entry.size.bytes();
            catalog.count_dead(entry.location.slot, bytes, newest);
            tally.sub(bytes, entry.flags & IndexEntry::EVICTABLE != 0);
            let at = *at.get_or_insert_with(|| clock.now());
            let age = recency.age(entry.epoch);
            journal.record([(Eviction { at, cause, hash, age, bytes }, key)]);
            entries += 1;
            sum += bytes;
        }
        match cause {
            Cause::Expired => counters.expired.add(entries),
            Cause::Cut => counters.cut.add(entries),
            Cause::Capacity => counters.evicted.add(entries),
        }
        (entries, sum)
    }
}

impl Writer {
    /// Whether these requests may bring more than the limits on what is live allow.
    pub(super) fn is_near_limits(&self, requests: &[Request]) -> bool {
        if !self.is_limited.load(Ordering::Acquire) {
            return false;
        }
        let limits = self.turn().limits;
        let now = self.lookup.tally.get();
        let ops = || requests.iter().flat_map(|request| request.ops.as_slice());
        let bytes: u64 = ops().map(Op::bytes_max).sum();
        now.entries + ops().count() as u64 > limits.entries || now.bytes + bytes > limits.bytes
    }

    /// Evicts the coldest entries, as much as `need` says or as there is; says how many.
    pub(crate) fn evict(&self, need: Need) -> u64 {
        let Lookup { index, recency, .. } = &*self.lookup;
        let (mut left, mut sum) = (need, 0);
        for _ in 0..ROUNDS_MAX {
            let victims = evictor::choose(index, recency, left, &[]);
            let (entries, bytes) = self.in_turns(&victims, |turn, victims| turn.evict(victims));
            (left, sum) = (left.less(entries, bytes), sum + entries);
            if victims.is_empty() || left == Need::default() {
                break;
            }
        }
        sum
    }

    /// Evicts the entries of one segment that may go, oldest first, until they weigh so much; says how many.
    pub(crate) fn evict_oldest_in(&self, slot: Slot, bytes: u64) -> u64 {
        let Lookup { index, recency, .. } = &*self.lookup;
        if recency.policy() == Evict::None {
            return 0;
        }
        let mut victims = Vec::new();
        for shard in 0..SHARDS {
            index.sweep(shard, &mut |hash, entry| {
                let may_go = entry.flags & IndexEntry::EVICTABLE != 0 && !entry.is_evicted();
                if may_go && entry.location.slot == slot {
                    victims.push(Victim::new(hash, entry));
                }
            });
        }
        victims.sort_unstable_by_key(|victim| victim.location.offset);
        let mut sum = 0;
        let is_needed = |victim: &&Victim| {
            let is_needed = sum < bytes;
            sum += victim.bytes;
            is_needed
        };
        let victims: Vec<_> = victims.iter().take_while(is_needed).copied().collect();
        self.in_turns(&victims, |turn, victims| turn.evict(victims)).0
    }

    /// How much more is live than the limits allow: the store was opened with lower ones, or they were lowered.
    pub(crate) fn excess(&self) -> Need {
        if !self.is_limited.load(Ordering::Acquire) {
            return Need::default();
        }
        let limits = self.turn().limits;
        let now = self.lookup.tally.get();
        let entries = now.entries.saturating_sub(limits.entries);
        Need {
            entries: if limits.awaits_internal { 0 } else { entries },
            bytes: now.bytes.saturating_sub(limits.bytes),
        }
    }

    /// Marks the entry of `key` as expired, if it is and was not marked yet; says whether it did.
    pub(crate) fn expire_key(&self, key: &[u8]) -> Result<bool> {
        let hash = self.lookup.hasher.hash(key);
        let Some(found) = self.lookup.current(key, hash)? else { return Ok(false) };
        let has_expired = found.expires_at.is_some_and(|at| at <= self.lookup.clock.confirmed());
        if found.is_live || found.is_evicted || !has_expired {
            return Ok(false);
        }
        let (location, epoch, bytes) = (found.location, found.epoch, weight(found.record_bytes));
        let victim = Victim { hash, location, epoch, bytes };
        Ok(self.end(&found.segment, &[victim], Cause::Expired).0 > 0)
    }

    /// As [`Turn::end`], a few entries in each turn.
    pub(crate) fn end(
        &self,
        segment: &Arc<Segment>,
        victims: &[Victim],
        cause: Cause,
    ) -> (u64, u64) {
        self.in_turns(victims, |turn, victims| turn.end(segment, victims, cause))
    }

    fn in_turns(
        &self,
        victims: &[Victim],
        act: impl Fn(&Turn, &[Victim]) -> (u64, u64),
    ) -> (u64, u64) {
        let mut sum = (0, 0);
        for victims in victims.chunks(self.turn_entries) {
            let (entries, bytes) = act(&self.turn(), victims);
            sum = (sum.0 + entries, sum.1 + bytes);
        }
        sum
    }

    /// New limits on what is live, kept from the next write on.
    pub(crate) fn set_live_limits(&self, change: impl FnOnce(&mut LiveLimits)) {
        let mut turn = self.turn();
        change(&mut turn.limits);
        self.is_limited.store(!turn.limits.are_none(), Ordering::Release);
    }

    pub(crate) fn charge_others(&self) {
        self.turn().charge_others();
    }
}
