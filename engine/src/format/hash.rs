//! The hash of a key: xxh3, seeded per store so that nobody can choose keys that collide in all stores.
//! It stands on disk in footers and checkpoints. Equal hashes never mean equal keys (I13).

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Hashes the keys of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHasher {
    seed: u64,
    mask: u64,
}

impl KeyHasher {
    /// The hasher of a store with this hash seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, mask: u64::MAX }
    }

    /// The same with all but the lowest `bits` bits of every hash cleared, so that keys collide.
    #[must_use]
    pub const fn weakened(self, bits: u32) -> Self {
        let mask = if bits >= u64::BITS { u64::MAX } else { (1 << bits) - 1 };
        Self { mask, ..self }
    }

    /// The hash of `key`.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.seed) & self.mask
    }
}
