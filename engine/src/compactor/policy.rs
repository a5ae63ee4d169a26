//! Which segments to compact, and into which output each survivor goes. Pure: facts in, a plan out.
//!
//! **Victims** by minimum declining cost (Lomet and Luo, 2020): what a byte of room costs in copying, `live / dead^2`,
//! times how fast that cost still falls. A segment whose records die quickly is left alone, for it will be cheaper
//! soon; one that has stopped dying is taken. How fast it dies is read from the mean time of its recent deaths
//! (`types::mean_death`), or from its latest expiry if that is nearer.
//!
//! **Placement** by what can be known of the time a survivor has left: with an expiry, that; without, its age
//! (who lived long will live long). Both in classes of powers of four around the time that foreground segments
//! last until they are cleaned, which is learnt (SepBIT, FAST 2022, learns the same).

use std::collections::HashSet;

use crate::types::Slot;

/// Outputs a job may have open at once: streams 1..=STREAMS. Stream 0 is the foreground.
pub(crate) const STREAMS: u8 = 8;
/// Streams of survivors that do not expire, youngest first; what expires soon joins the first of them.
const AGE_CLASSES: u8 = 4;
/// Classes of survivors that expire; all but the soonest have a stream of their own.
const EXPIRY_CLASSES: u8 = 1 + STREAMS - AGE_CLASSES;
/// End of the youngest class, in lifetimes of a foreground segment. Measured; anything from 1 to 3 does.
const AGE_CLASS_LIFETIMES: f64 = 1.5;
/// End of the class that expires soonest, in lifetimes of a foreground segment.
const EXPIRY_CLASS_LIFETIMES: f64 = 0.5;
/// The same while no lifetime is known: a quarter of an hour.
const EXPIRY_CLASS_MS: f64 = 900_000.0;
/// Each class spans so many times the one before.
const CLASS_FACTOR: f64 = 4.0;

/// What the footer adds to a copied record: an entry and a from-address.
const FOOTER_BYTES_PER_RECORD: u64 = 24 + 8;
/// What a segment costs beside its records: header and trailer.
const SEGMENT_OVERHEAD_BYTES: u64 = 4096 + 128;
/// A job that gives back less than a header is not worth its syncs, and a forced one could go on for ever.
const GAIN_BYTES_MIN: u64 = 4096;
/// Victims with more than this left alive are copied only when room is needed at any price.
const LIVE_SHARE_MAX: f64 = 0.95;
/// A job gives back this part of the garbage that is allowed: the more, the fewer and fuller the outputs, and
/// the less garbage there is on average to choose from.
const JOB_SHARE_OF_GARBAGE: f64 = 1.0 / 64.0;
/// So many times the files that full segments would need are allowed before small ones are merged in passing.
const FILES_FACTOR: u64 = 3;
/// So many files never are too many.
const FILES_FEW: u64 = 16;
/// Weight of one segment in the learnt lifetime.
const LEARN_WEIGHT: f64 = 1.0 / 16.0;

/// What is known of a sealed segment. Hints all: a wrong one costs time or room, never a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentFacts {
    pub(crate) slot: Slot,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// Bytes and count of the records the index points to, expired ones included until they are forgotten.
    pub(crate) live_bytes: u64,
    pub(crate) live_records: u64,
    /// Estimate of the `live_bytes` that are past their expiry; 0 if unknown.
    pub(crate) expired_bytes: u64,
    /// Mean sequence number of the recent deaths, kept by `types::mean_death`; 0 if there was none since the store
    /// opened.
    pub(crate) dead_at: u64,
    /// Greatest sequence number of its records.
    pub(crate) sequence_max: u64,
    /// Greatest expiry in milliseconds; `u64::MAX` if some record never expires, 0 if there is no put.
    pub(crate) expiry_max: u64,
    /// 0 if the foreground wrote it, otherwise the output stream.
    pub(crate) stream: u8,
    /// Somebody reads it, so that its space would not come back.
    pub(crate) is_pinned: bool,
}

/// What is wanted, and within which bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) now_sequence: u64,
    pub(crate) now_ms: u64,
    /// Part of all bytes that may be garbage before a job is worth it.
    pub(crate) garbage_max_percent: u32,
    /// Room that the outputs may take.
    pub(crate) output_bytes_max: u64,
    /// Length of a full segment.
    pub(crate) segment_bytes: u64,
    /// Room is needed: take the best there is, whatever it costs.
    pub(crate) force: bool,
}

impl Goal {
    /// Streams that a job may have: each may leave an output that is nearly empty, so with little room fewer.
    #[must_use]
    pub(crate) const fn streams(&self) -> u8 {
        let affordable = self.output_bytes_max / (8 * SEGMENT_OVERHEAD_BYTES);
        if affordable >= STREAMS as u64 {
            STREAMS
        } else if affordable <= 1 {
            1
        } else {
            affordable as u8
        }
    }
}

/// What one job does. No inputs: nothing is worth doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In the order to take them.
    pub(crate) inputs: Vec<Slot>,
}

/// A segment, weighed.
#[derive(Clone, Copy)]
struct Candidate {
    slot: Slot,
    bytes: u64,
    /// Bytes and count of what would be copied.
    copied_bytes: u64,
    records: u64,
    /// Less is better.
    cost: f64,
    is_pinned: bool,
}

impl Candidate {
    fn is_dead(&self) -> bool {
        self.copied_bytes == 0
    }

    fn is_worth_copying(&self) -> bool {
        self.copied_bytes as f64 <= LIVE_SHARE_MAX * self.bytes as f64
    }
}

/// Sums over the inputs of a job.
#[derive(Clone, Copy, Default)]
struct Job {
    bytes: u64,
    copied_bytes: u64,
    records: u64,
}

impl Job {
    fn with(self, candidate: &Candidate) -> Self {
        Self {
            bytes: self.bytes.saturating_add(candidate.bytes),
            copied_bytes: self.copied_bytes.saturating_add(candidate.copied_bytes),
            records: self.records.saturating_add(candidate.records),
        }
    }

    /// The most that its outputs can take: each stream may leave one that is not full.
    fn output_bytes(self, goal: &Goal) -> u64 {
        if self.copied_bytes == 0 {
            return 0;
        }
        // What a segment holds is less than its length; never nothing, whatever the length given.
        // At the end of each there is no room for one more record.
        let record = self.copied_bytes / self.records.max(1);
        let content = goal.segment_bytes.saturating_sub(SEGMENT_OVERHEAD_BYTES);
        let content = content.saturating_sub(record / 2).max(record).max(1);
        let outputs = (self.copied_bytes / content).saturating_add(u64::from(goal.streams()));
        let outputs = outputs.min(self.records);
        self.copied_bytes.saturating_add(outputs.saturating_mul(SEGMENT_OVERHEAD_BYTES))
    }

    fn gain_bytes(self, goal: &Goal) -> u64 {
        self.bytes.saturating_sub(self.output_bytes(goal))
    }
}

fn weigh(facts: &SegmentFacts, goal: &Goal, streams: &Streams) -> Candidate {
    let is_over = facts.expiry_max <= goal.now_ms;
    let hinted = facts.live_bytes.min(facts.bytes);
    let live = if is_over { 0 } else { hinted.saturating_sub(facts.expired_bytes) };
    // Expired records are assumed to be as long as the others.
    let records = u128::from(facts.live_records) * u128::from(live) / u128::from(hinted.max(1));
    let records = if live == 0 { 0 } else { (records as u64).max(1) };
    let footer = records.saturating_mul(FOOTER_BYTES_PER_RECORD);
    let copied_bytes = if live == 0 { 0 } else { live.saturating_add(footer).min(facts.bytes) };

    let mut elapsed = goal.now_sequence.saturating_sub(facts.dead_at) as f64;
    if facts.expiry_max < u64::MAX && streams.writes_per_ms > 0.0 {
        // At its latest expiry it is free of charge: near that, it declines fast whatever its deaths say.
        let left_ms = facts.expiry_max.saturating_sub(goal.now_ms);
        elapsed = elapsed.min(left_ms as f64 * streams.writes_per_ms);
    }
    let share = copied_bytes as f64 / facts.bytes.max(1) as f64;
    // Kept above zero, so that a segment all alive has a cost, if a great one.
    let dead = (1.0 - share).max(1e-9);
    let cost = share / (dead * dead) / elapsed.max(1.0);
    let (slot, bytes, is_pinned) = (facts.slot, facts.bytes, facts.is_pinned);
    Candidate { slot, bytes, copied_bytes, records, cost, is_pinned }
}

/// Chooses the inputs of the next job.
///
/// Below the trigger only segments without a live record go, for that is free. Above it, as many victims as bring
/// the total under the trigger again or make a job of sensible size, as far as the outputs have room.
pub(crate) fn plan(facts: &[SegmentFacts], goal: &Goal, streams: &Streams) -> Plan {
    let mut candidates: Vec<_> = facts.iter().map(|facts| weigh(facts, goal, streams)).collect();
    let sum = |of: fn(&Candidate) -> u64| {
        candidates.iter().fold(0, |sum: u64, candidate| sum.saturating_add(of(candidate)))
    };
    let total = sum(|candidate| candidate.bytes);
    let live = sum(|candidate| candidate.copied_bytes);
    let live_percent = 100 - u64::from(goal.garbage_max_percent.min(99));
    let allowed = (u128::from(live) * 100 / u128::from(live_percent)).min(u64::MAX.into()) as u64;
    let excess = total.saturating_sub(allowed);

    // Free ones first, by their cost of zero; then by cost, and by slot so that a plan can be repeated.
    candidates.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(a.slot.cmp(&b.slot)));
    let job_bytes = (allowed.saturating_sub(live) as f64 * JOB_SHARE_OF_GARBAGE) as u64;
    let least = if goal.force { goal.segment_bytes.max(GAIN_BYTES_MIN) } else { GAIN_BYTES_MIN };
    let target = Target {
        gain_bytes: excess.max(job_bytes).max(least),
        is_copying: goal.force || excess > 0,
    };
    let (mut inputs, job) =
        choose(candidates.iter().filter(|candidate| !candidate.is_pinned), goal, target);
    if !inputs.is_empty() || !target.is_copying {
        let files_max = (total / goal.segment_bytes.max(1))
            .saturating_mul(FILES_FACTOR)
            .saturating_add(FILES_FEW);
        if job.copied_bytes > 0 && facts.len() as u64 > files_max {
            merge(&mut inputs, job, candidates, goal);
        }
        return Plan { inputs };
    }
    // Nothing else is left: the space of a pinned segment comes back later, which is better than never.
    let (inputs, _) =
        choose(candidates.iter().filter(|candidate| candidate.is_pinned), goal, target);
    Plan { inputs }
}

/// How much a job should give back, and whether it may copy for it.
#[derive(Clone, Copy)]
struct Target {
    gain_bytes: u64,
    is_copying: bool,
}

/// Takes candidates in their order until the target is met; the dead ones in any case.
fn choose<'a>(
    candidates: impl Iterator<Item = &'a Candidate>,
    goal: &Goal,
    target: Target,
) -> (Vec<Slot>, Job) {
    let mut inputs = Vec::new();
    let mut free = 0;
    let mut job = Job::default();
    for candidate in candidates {
        let is_met = job.gain_bytes(goal) >= target.gain_bytes;
        let is_wanted = target.is_copying && (goal.force || candidate.is_worth_copying());
        let with = job.with(candidate);
        let fits = with.output_bytes(goal) <= goal.output_bytes_max;
        if candidate.is_dead() || (!is_met && is_wanted && fits) {
            job = with;
            inputs.push(candidate.slot);
            free += usize::from(candidate.is_dead());
        }
    }
    // Copying that gains nothing is dropped; what is free goes all the same, and stands first.
    if inputs.len() > free && job.gain_bytes(goal) < GAIN_BYTES_MIN {
        inputs.truncate(free);
        job = Job::default();
    }
    (inputs, job)
}

/// Adds the smallest segments to a job that copies anyway, up to one segment of them: what outputs that were not
/// full leave behind would otherwise grow into more files than the store has use for.
fn merge(inputs: &mut Vec<Slot>, job: Job, mut candidates: Vec<Candidate>, goal: &Goal) {
    candidates.sort_by_key(|candidate| (candidate.bytes, candidate.slot));
    let taken: HashSet<Slot> = inputs.iter().copied().collect();
    let mut with = job;
    let is_open = |candidate: &&Candidate| !candidate.is_pinned && !taken.contains(&candidate.slot);
    for candidate in candidates.iter().filter(is_open) {
        if candidate.bytes > goal.segment_bytes / 2 {
            return;
        }
        let next = with.with(candidate);
        let is_too_much = next.copied_bytes - job.copied_bytes > goal.segment_bytes
            || next.output_bytes(goal) > goal.output_bytes_max
            || next.gain_bytes(goal) < GAIN_BYTES_MIN;
        if is_too_much {
            return;
        }
        with = next;
        inputs.push(candidate.slot);
    }
}

/// What was learnt from the jobs so far, and with it where a survivor goes. Not kept across restarts: a few jobs
/// learn it again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Streams {
    /// How long foreground segments last until they are cleaned, in writes; 0 = not known yet.
    lifetime: f64,
    /// Writes per millisecond, to compare lifetimes with expiries; 0 = not known yet.
    writes_per_ms: f64,
    /// Sequence number and time of the last job.
    last: Option<(u64, u64)>,
}

impl Streams {
    /// Takes note of the inputs of a job. To be called before its first survivor is placed.
    pub(crate) fn learn(&mut self, now_sequence: u64, now_ms: u64, inputs: &[SegmentFacts]) {
        match self.last {
            Some((sequence, ms)) if now_ms > ms => {
                let writes = now_sequence.saturating_sub(sequence) as f64;
                blend(&mut self.writes_per_ms, writes / (now_ms - ms) as f64);
                self.last = Some((now_sequence, now_ms));
            }
            Some(_) => {}
            None => self.last = Some((now_sequence, now_ms)),
        }
        for input in inputs.iter().filter(|input| input.stream == 0) {
            blend(&mut self.lifetime, now_sequence.saturating_sub(input.sequence_max) as f64);
        }
    }

    /// The output stream, 1..=STREAMS, for a record written `age` sequence numbers ago.
    #[must_use]
    pub(crate) fn place(&self, age: u64, expires_in_ms: Option<u64>) -> u8 {
        let Some(ms) = expires_in_ms else {
            let is_known = self.lifetime > 0.0;
            let end = if is_known { self.lifetime * AGE_CLASS_LIFETIMES } else { f64::MAX };
            return 1 + class(age as f64, end, AGE_CLASSES);
        };
        let is_known = self.lifetime > 0.0 && self.writes_per_ms > 0.0;
        let lifetime_ms = self.lifetime / self.writes_per_ms;
        let end = if is_known { lifetime_ms * EXPIRY_CLASS_LIFETIMES } else { EXPIRY_CLASS_MS };
        match class(ms as f64, end, EXPIRY_CLASSES) {
            0 => 1,
            class => AGE_CLASSES + class,
        }
    }
}

/// Moves a learnt value towards what was just seen; the first seen is the value.
fn blend(value: &mut f64, seen: f64) {
    *value = if *value > 0.0 { *value + (seen - *value) * LEARN_WEIGHT } else { seen };
}

/// Which of `classes` a value falls into: the first ends at `end`, each ends at four times the one before.
fn class(value: f64, end: f64, classes: u8) -> u8 {
    let mut end = end;
    let mut class = 0;
    while value >= end && class + 1 < classes {
        end *= CLASS_FACTOR;
        class += 1;
    }
    class
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
