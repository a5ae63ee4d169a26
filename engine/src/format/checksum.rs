//! The one checksum: CRC-32 (the polynomial of IEEE 802.3), optionally started from a seed.
//!
//! The head of a record is checksummed from a seed made of its segment's salt and its own offset. Bytes that
//! were copied from another segment, left over from an earlier file, or written to the wrong place have the
//! wrong seed and cannot validate. SQLite's WAL salts its frames for the same reason.

/// CRC-32 of `bytes`.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    checksum_from(0, bytes)
}

/// CRC-32 of `bytes`, continued from `seed`.
#[must_use]
pub fn checksum_from(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

/// CRC-32 of bytes of which the checksum `first` covers the beginning and `second`, not seeded, the last `bytes`.
#[must_use]
pub fn checksum_joined(first: u32, second: u32, bytes: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(first);
    hasher.combine(&crc32fast::Hasher::new_with_initial_len(second, bytes));
    hasher.finalize()
}

/// The seed of a record head at `offset` of the segment salted with `salt`.
#[must_use]
pub const fn seed(salt: u64, offset: u64) -> u32 {
    fold(salt ^ (offset >> 3))
}

/// A 64-bit number folded to 32 bits, keeping every bit's influence.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "folding is the point")]
pub const fn fold(wide: u64) -> u32 {
    (wide ^ (wide >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a checksum put together from two parts is that of the whole, wherever it is parted.
    #[test]
    fn parts_make_a_whole() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        for at in [0, 1, 7, 500, 999, 1_000] {
            let (first, second) = bytes.split_at(at);
            let joined =
                checksum_joined(checksum_from(5, first), checksum(second), second.len() as u64);
            assert_eq!(joined, checksum_from(5, &bytes), "parted at {at}");
        }
    }
}
