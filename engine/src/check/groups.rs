//! Hashes in groups, so that the records of all segments can be put side by side a group at a time.

/// So many groups, by the upper 8 bits of the hash, in order of hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Groups(u32);

/// Records that are looked at together: 32 bytes each, so that they stay in the processor's cache.
const RECORDS: u64 = 64 << 10;
const COUNT_MAX: u64 = 256;

impl Groups {
    /// As many as it takes for so many records.
    pub(super) fn for_records(records: u64) -> Self {
        Self(u32::try_from(records.div_ceil(RECORDS).clamp(1, COUNT_MAX)).unwrap_or(1))
    }

    pub(super) const fn count(self) -> usize {
        self.0 as usize
    }

    /// The group of the hashes whose upper 8 bits are these.
    pub(super) const fn of_shard(self, shard: usize) -> usize {
        shard * self.count() / COUNT_MAX as usize
    }

    pub(super) const fn of_hash(self, hash: u64) -> usize {
        self.of_shard((hash >> 56) as usize)
    }

    /// Entry `index`, in order of hashes, has this hash: notes where each group begins.
    pub(super) fn note(self, starts: &mut Vec<u32>, hash: u64, index: u32) {
        while starts.len() <= self.of_hash(hash) {
            starts.push(index);
        }
    }

    /// There are no more than `count` entries.
    pub(super) fn finish(self, starts: &mut Vec<u32>, count: u32) {
        starts.resize(starts.len().max(self.count() + 1), count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every entry is in exactly one group, that of its hash.
    #[test]
    fn starts_part_the_entries() {
        let hashes: Vec<u64> = (0..300_u64).map(|n| n * (u64::MAX / 300)).collect();
        for records in [0, 1, RECORDS, RECORDS + 1, 7 * RECORDS, u64::MAX] {
            let groups = Groups::for_records(records);
            let mut starts = Vec::new();
            for (index, hash) in (0..).zip(&hashes) {
                groups.note(&mut starts, *hash, index);
            }
            groups.finish(&mut starts, 300);
            assert_eq!(
                (starts.len(), starts[0], starts[groups.count()]),
                (groups.count() + 1, 0, 300)
            );
            for (index, hash) in hashes.iter().enumerate() {
                let of = groups.of_hash(*hash);
                assert!((starts[of] as usize..starts[of + 1] as usize).contains(&index));
            }
        }
    }
}
