//! What opening a store found.

use std::path::PathBuf;

use crate::{
    error::{Corruption, Error, Result},
    options::RecoveryPolicy,
};

/// The end of the log as a crash left it: an unfinished write, cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// Where the log was cut.
    pub offset: u64,
    /// Bytes behind the cut that are not empty space. None of them was promised to be durable.
    pub bytes: u64,
}

/// What opening a store found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The store had been closed properly (or is new).
    pub clean: bool,
    /// The index came from a checkpoint.
    pub from_checkpoint: bool,
    /// Segments found.
    pub segments: u64,
    /// Records read because their segment was not sealed.
    pub records_scanned: u64,
    /// Unfinished writes that were cut off; nothing in them was promised.
    pub torn: Vec<TornTail>,
    /// Damage found in what had been stored.
    pub damaged: Vec<Corruption>,
    /// Files set aside because of it.
    pub quarantined: Vec<PathBuf>,
    /// Leftovers of unfinished work that were removed.
    pub orphans_removed: u64,
    /// Segments that were rewritten because they were not sealed.
    pub rewritten: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// Anything else worth knowing, as sentences.
    pub notes: Vec<String>,
}

impl RecoveryReport {
    /// Puts damage on record, or refuses to go on if the policy is stricter than `least` allows.
    pub(super) fn damage(
        &mut self,
        policy: RecoveryPolicy,
        least: RecoveryPolicy,
        corruption: Corruption,
    ) -> Result<()> {
        let rank = |policy| match policy {
            RecoveryPolicy::Strict => 0,
            RecoveryPolicy::SkipRecord => 1,
            RecoveryPolicy::Salvage => 2,
        };
        if rank(policy) < rank(least) {
            return Err(Error::Corruption(corruption));
        }
        self.damaged.push(corruption);
        Ok(())
    }
}
