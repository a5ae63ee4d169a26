//! Scope cuts by name, in shards: a change beside a snapshot copies one of them.

use std::sync::Arc;

use super::Cuts;
use crate::types::SequenceNumber;

const SHARDS: usize = 256;

/// The newest cut of each scope, at one moment.
#[derive(Clone, Debug)]
pub(super) struct CutTable {
    shards: Box<[Arc<Cuts>]>,
}

impl Default for CutTable {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Arc::default()).collect() }
    }
}

/// FNV-1a: names differ in their last bytes mostly.
fn shard_of(scope: &[u8]) -> usize {
    let step = |sum: u32, byte: &u8| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let sum = scope.iter().fold(0x811c_9dc5, step);
    (sum ^ (sum >> 16)) as usize % SHARDS
}

impl CutTable {
    pub(super) fn get(&self, scope: &[u8]) -> Option<SequenceNumber> {
        self.shards[shard_of(scope)].get(scope).copied()
    }

    /// Takes note of a cut; of two of one scope the newer one stays.
    pub(super) fn insert(&mut self, scope: &[u8], sequence: SequenceNumber) {
        let shard = Arc::make_mut(&mut self.shards[shard_of(scope)]);
        let newest = shard.entry(scope.into()).or_default();
        *newest = sequence.max(*newest);
    }

    /// Forgets a cut, unless there is a newer one of its scope.
    pub(super) fn remove(&mut self, scope: &[u8], sequence: SequenceNumber) {
        if self.get(scope) == Some(sequence) {
            Arc::make_mut(&mut self.shards[shard_of(scope)]).remove(scope);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], SequenceNumber)> + '_ {
        let all = self.shards.iter().flat_map(|shard| shard.iter());
        all.map(|(scope, sequence)| (&**scope, *sequence))
    }

    /// Whether a record with this sequence number and one of these scopes has been cut off.
    pub(super) fn is_cut<'a>(
        &self,
        sequence: SequenceNumber,
        mut scopes: impl Iterator<Item = &'a [u8]>,
    ) -> bool {
        scopes.any(|scope| self.get(scope).is_some_and(|cut| sequence < cut))
    }
}

impl From<Cuts> for CutTable {
    fn from(cuts: Cuts) -> Self {
        let mut table = Self::default();
        cuts.iter().for_each(|(scope, sequence)| table.insert(scope, *sequence));
        table
    }
}
