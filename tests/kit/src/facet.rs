//! Facets of a history: what took place in it, and how often each two of them took place in one history.
//!
//! A facet is set when something happened (a conditional write was refused, an entry was evicted), not when it was
//! drawn. Most faults of a store need two of them in one history; a pair that no history visits hides its faults.

use std::fmt::Write as _;

/// What may take place in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Facet {
    /// A write of `Sync` was acknowledged.
    Sync,
    /// A write of `Os` was acknowledged.
    Os,
    /// A write of `Buffered` was acknowledged.
    Buffered,
    /// A write of `Periodic` was acknowledged.
    Periodic,
    /// The limit of bytes on the disk evicted or refused something.
    LimitBytes,
    /// The limit of entries did.
    LimitEntries,
    /// The limit of live bytes did.
    LimitLiveBytes,
    /// The limit of free space did.
    LimitFreeSpace,
    /// An entry was evicted by the policy LRU.
    Lru,
    /// An entry was evicted by the policy S3-FIFO.
    S3Fifo,
    /// An entry was evicted in the order of writes.
    Fifo,
    /// An entry was evicted for a limit.
    Evicted,
    /// A caller had entries evicted.
    Shrunk,
    /// A write was refused for want of space.
    Refused,
    /// An entry expired.
    Expired,
    /// A sweep removed entries.
    Swept,
    /// An entry got another expiry.
    Touched,
    /// An entry got a sliding expiry.
    Slid,
    /// A scope cut ended entries.
    Cut,
    /// A batch of several changes was committed.
    Batch,
    /// A put under the condition that the key is absent was stored.
    AbsentStored,
    /// One was refused.
    AbsentRefused,
    /// A put under the condition that the entry is unchanged was stored.
    UnchangedStored,
    /// One was refused.
    UnchangedRefused,
    /// An update stored or deleted something.
    Updated,
    /// Several tickets were waited for.
    Tickets,
    /// A snapshot showed what it was taken of after the store had changed.
    Snapshot,
    /// A follower showed entries.
    Follower,
    /// The wall clock was set forward.
    ClockForward,
    /// The wall clock was set back.
    ClockBack,
    /// The wall clock was in doubt while something was done.
    ClockDoubted,
    /// The segments that the store thinks best were compacted.
    CompactedBest,
    /// All segments were compacted.
    CompactedAll,
    /// Some segments were compacted, whether it was worth it or not.
    CompactedSome,
    /// A compaction was cancelled.
    CompactionCancelled,
    /// The store was closed, and opened from its checkpoint.
    OpenedFromCheckpoint,
    /// The store was closed, and opened without a checkpoint.
    OpenedWithout,
    /// The process died.
    ProcessCrash,
    /// The machine lost power.
    PowerCrash,
    /// The store was opened with damaged footers.
    FootersLost,
    /// The knobs had their worst values.
    WorstKnobs,
    /// The knobs had the values of production.
    PlainKnobs,
    /// Hashes of keys collided.
    Colliding,
}

impl Facet {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 43] = [
        Self::Sync,
        Self::Os,
        Self::Buffered,
        Self::Periodic,
        Self::LimitBytes,
        Self::LimitEntries,
        Self::LimitLiveBytes,
        Self::LimitFreeSpace,
        Self::Lru,
        Self::S3Fifo,
        Self::Fifo,
        Self::Evicted,
        Self::Shrunk,
        Self::Refused,
        Self::Expired,
        Self::Swept,
        Self::Touched,
        Self::Slid,
        Self::Cut,
        Self::Batch,
        Self::AbsentStored,
        Self::AbsentRefused,
        Self::UnchangedStored,
        Self::UnchangedRefused,
        Self::Updated,
        Self::Tickets,
        Self::Snapshot,
        Self::Follower,
        Self::ClockForward,
        Self::ClockBack,
        Self::ClockDoubted,
        Self::CompactedBest,
        Self::CompactedAll,
        Self::CompactedSome,
        Self::CompactionCancelled,
        Self::OpenedFromCheckpoint,
        Self::OpenedWithout,
        Self::ProcessCrash,
        Self::PowerCrash,
        Self::FootersLost,
        Self::WorstKnobs,
        Self::PlainKnobs,
        Self::Colliding,
    ];
}

/// Pairs that no history can have: each two of a row, with the reason.
pub const IMPOSSIBLE: &[(&[Facet], &str)] = &[
    (
        &[Facet::LimitBytes, Facet::LimitEntries, Facet::LimitLiveBytes, Facet::LimitFreeSpace],
        "a store has one limit, so that it is known which one evicted; `trials::combined` has two",
    ),
    (
        &[Facet::LimitFreeSpace, Facet::Evicted],
        "the limit of free space refuses, and evicts nothing",
    ),
    (&[Facet::Lru, Facet::S3Fifo, Facet::Fifo], "a store has one policy"),
    (&[Facet::WorstKnobs, Facet::PlainKnobs], "a store has one set of knobs"),
];

const _: () = {
    let mut at = 0;
    while at < Facet::ALL.len() {
        assert!(Facet::ALL[at] as usize == at);
        at += 1;
    }
};

/// A set of facets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facets(u64);

impl Facets {
    /// Adds one.
    pub const fn note(&mut self, facet: Facet) {
        self.0 |= 1 << facet as u64;
    }

    /// Adds one under a condition.
    pub const fn note_if(&mut self, is_so: bool, facet: Facet) {
        if is_so {
            self.note(facet);
        }
    }

    /// Whether it is in the set.
    #[must_use]
    pub const fn has(self, facet: Facet) -> bool {
        self.0 & (1 << facet as u64) != 0
    }
}

/// How many histories had each two facets.
#[derive(Clone, Debug)]
pub struct Pairs {
    histories: u32,
    /// Of the pair of `one < other` at `one * N + other`, of a facet alone at `one * N + one`.
    counts: Vec<u32>,
}

const N: usize = Facet::ALL.len();

impl Pairs {
    /// None so far.
    #[must_use]
    pub fn new() -> Self {
        Self { histories: 0, counts: vec![0; N * N] }
    }

    /// Counts one history.
    pub fn visit(&mut self, facets: Facets) {
        self.histories += 1;
        for one in Facet::ALL.into_iter().filter(|facet| facets.has(*facet)) {
            for other in
                Facet::ALL.into_iter().skip(one as usize).filter(|other| facets.has(*other))
            {
                self.counts[one as usize * N + other as usize] += 1;
            }
        }
    }

    /// Every possible pair with its count, the rarest first.
    #[must_use]
    pub fn rarest(&self) -> Vec<(Facet, Facet, u32)> {
        let is_possible = |one: Facet, other: Facet| {
            !IMPOSSIBLE.iter().any(|(row, _)| row.contains(&one) && row.contains(&other))
        };
        let mut all = Vec::new();
        for one in Facet::ALL {
            for other in Facet::ALL.into_iter().skip(one as usize + 1) {
                if is_possible(one, other) {
                    all.push((one, other, self.counts[one as usize * N + other as usize]));
                }
            }
        }
        all.sort_by_key(|(_, _, count)| *count);
        all
    }

    /// The possible pairs that fewer histories had.
    #[must_use]
    pub fn rarer_than(&self, visits: u32) -> Vec<(Facet, Facet, u32)> {
        let pairs = self.rarest().into_iter();
        pairs.take_while(|(_, _, count)| *count < visits).collect()
    }

    /// A table of the rarest pairs, and of all facets, for people.
    #[must_use]
    pub fn table(&self, rows: usize) -> String {
        let pairs = self.rarest();
        let mut out = format!("{} histories, {} possible pairs\n", self.histories, pairs.len());
        for (one, other, count) in pairs.into_iter().take(rows) {
            let _ = writeln!(out, "{count:>6}  {one:?} x {other:?}");
        }
        let alone = |facet: Facet| format!("{facet:?} {}", self.counts[facet as usize * (N + 1)]);
        out.push_str(&Facet::ALL.map(alone).join(", "));
        out
    }
}

impl Default for Pairs {
    fn default() -> Self {
        Self::new()
    }
}
