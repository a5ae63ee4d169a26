//! Pairs of what programs are made of: each setting and each kind of operation must have met every other one.

use std::collections::BTreeSet;

use tierce_engine::{Durability, Evict};

use crate::{
    disk::Accident,
    program::{Case, Op},
};

/// Programs after which every pair must have been visited.
pub(crate) const ENOUGH: u64 = 5_000;

/// Everything that is counted. Of one group a program has at most one, but for operations.
const GROUPS: &[&[&str]] = &[
    &["sync", "os", "buffered", "periodic"],
    &["no limit", "entries", "live bytes", "bytes", "free space"],
    &["lru", "s3-fifo"],
    &["thread", "no thread"],
    &["knobs as in production", "worst knobs"],
    &[
        "crash of the process",
        "crash of the machine",
        "panic",
        "opened again",
        "without checkpoint",
    ],
];

/// Operations and qualities that may come together.
const FREE: &[&str] = &[
    "mixed modes",
    "failing call",
    "automatic compaction",
    "expiry",
    "evictable",
    "touch",
    "slide",
    "scope cut",
    "if absent",
    "update",
    "ticket",
    "batch",
    "snapshot",
    "follower",
    "clock jump",
    "sweep",
    "compaction",
    "compaction of some",
    "shrink",
    "checkpoint",
    "sync call",
    "recover call",
];

/// What a program has.
fn tags(case: &Case) -> BTreeSet<&'static str> {
    let config = &case.config;
    let mut tags = BTreeSet::new();
    tags.insert(match config.durability {
        Durability::Sync => "sync",
        Durability::Os => "os",
        Durability::Buffered => "buffered",
        Durability::Periodic => "periodic",
    });
    tags.insert(match (config.max_entries, config.max_live_bytes, config.max_bytes) {
        (Some(_), ..) => "entries",
        (_, Some(_), _) => "live bytes",
        (.., Some(_)) => "bytes",
        _ if config.min_free_bytes > 0 => "free space",
        _ => "no limit",
    });
    tags.insert(if config.evict == Evict::Lru { "lru" } else { "s3-fifo" });
    tags.insert(if config.background { "thread" } else { "no thread" });
    tags.insert(match case.accident {
        Some((_, Accident::Crash)) if case.is_power => "crash of the machine",
        Some((_, Accident::Crash)) => "crash of the process",
        Some((_, Accident::Panic)) => "panic",
        None if case.loses_checkpoints => "without checkpoint",
        None => "opened again",
    });
    tags.insert(if config.worst_knobs { "worst knobs" } else { "knobs as in production" });
    if case.fault.is_some() {
        tags.insert("failing call");
    }
    if config.automatic {
        tags.insert("automatic compaction");
    }
    for op in case.ops() {
        let put = match op {
            Op::Put { put, .. } | Op::Submit { put } | Op::Batch { first: put, .. } => Some(put),
            _ => None,
        };
        if let Some(put) = put {
            tags.extend(put.ttl.map(|_| "expiry"));
            tags.extend(put.evictable.then_some("evictable"));
            tags.extend(put.durability.map(|_| "mixed modes"));
        }
        tags.extend(tag(op));
    }
    tags
}

fn tag(op: &Op) -> Option<&'static str> {
    Some(match op {
        Op::Put { absent: true, .. } => "if absent",
        Op::Submit { .. } => "ticket",
        Op::Touch { .. } => "touch",
        Op::Slide { .. } => "slide",
        Op::Append { .. } | Op::DeleteBrief { .. } => "update",
        Op::Batch { .. } => "batch",
        Op::Cut { .. } => "scope cut",
        Op::Snapshot => "snapshot",
        Op::Follow => "follower",
        Op::Sync => "sync call",
        Op::Sweep => "sweep",
        Op::Compact => "compaction",
        Op::CompactSome { .. } => "compaction of some",
        Op::Shrink { .. } => "shrink",
        Op::Checkpoint => "checkpoint",
        Op::Jump { .. } => "clock jump",
        Op::Recover => "recover call",
        Op::Put { .. }
        | Op::Wait
        | Op::Delete { .. }
        | Op::Get { .. }
        | Op::Step
        | Op::Advance { .. } => return None,
    })
}

/// Pairs that were visited.
#[derive(Debug, Default)]
pub(crate) struct Pairs(BTreeSet<(&'static str, &'static str)>);

impl Pairs {
    /// Notes the pairs of one program.
    pub(crate) fn visit(&mut self, case: &Case) {
        let tags = tags(case);
        for one in &tags {
            let later = tags.iter().filter(|other| *other > one);
            self.0.extend(later.map(|other| (*one, *other)));
        }
    }

    /// Pairs visited so far.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Pairs that can be and were not.
    pub(crate) fn missing(&self) -> Vec<(&'static str, &'static str)> {
        let mut all: Vec<(&str, Option<usize>)> = FREE.iter().map(|tag| (*tag, None)).collect();
        for (group, tags) in GROUPS.iter().enumerate() {
            all.extend(tags.iter().map(|tag| (*tag, Some(group))));
        }
        all.sort_unstable();
        let mut missing = Vec::new();
        for (at, (one, group)) in all.iter().enumerate() {
            for (other, of) in &all[at + 1..] {
                let is_feasible = group.is_none() || group != of;
                if is_feasible && !self.0.contains(&(*one, *other)) {
                    missing.push((*one, *other));
                }
            }
        }
        missing
    }
}
