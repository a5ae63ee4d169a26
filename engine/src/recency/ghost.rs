//! The ghosts of S3-FIFO: fingerprints of what left the small queue lately.
//!
//! Buckets of eight fingerprints of 16 bits, each with 16 bits of the time it came, counted in ghosts. As many ghosts
//! count as the main queue has entries, 0.9 of the capacity; a bucket that is full loses its oldest. Six bytes for an
//! entry of the capacity. A stranger is taken for a ghost once in about ten thousand times.

/// Fingerprints in a bucket.
const WAYS: usize = 8;
/// Units of time in the life of a ghost.
const LIFE: u16 = 256;

/// What was evicted from the small queue lately.
#[derive(Debug, Default)]
pub(super) struct Ghost {
    /// Fingerprint in the upper half, time in the lower; 0 = free.
    slots: Vec<u32>,
    capacity: u64,
    added: u64,
}

impl Ghost {
    /// Makes room for a cache of so many entries. Ghosts stay if the room is about right.
    pub(super) fn set_capacity(&mut self, entries: u64) {
        let is_near = entries <= self.capacity + self.capacity / 4
            && entries >= self.capacity - self.capacity / 4;
        if is_near && entries > 0 {
            return;
        }
        let buckets = usize::try_from(entries * 3 / 2).unwrap_or(usize::MAX).div_ceil(WAYS);
        *self = Self { slots: vec![0; buckets * WAYS], capacity: entries, added: 0 };
    }

    /// Where a hash stands and what it is known by. Of the hash only what the index keeps counts.
    fn find(&self, hash: u64) -> (std::ops::Range<usize>, u32) {
        let mixed = (hash >> 8).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let buckets = self.slots.len() / WAYS;
        let bucket = ((u128::from(mixed) * buckets as u128) >> 64) as usize;
        let fingerprint = (mixed as u32 & 0xffff).max(1);
        (bucket * WAYS..(bucket + 1) * WAYS, fingerprint << 16)
    }

    fn now(&self) -> u16 {
        let unit = (self.capacity * 9 / 10 / u64::from(LIFE)).max(1);
        (self.added / unit) as u16
    }

    /// Units since that ghost came.
    fn age(&self, slot: u32) -> u16 {
        self.now().wrapping_sub(slot as u16)
    }

    fn is_there(&self, slot: u32) -> bool {
        let life = (self.capacity * 9 / 10).min(u64::from(LIFE)) as u16;
        slot != 0 && self.age(slot) <= life
    }

    pub(super) fn add(&mut self, hash: u64) {
        if self.slots.is_empty() {
            return;
        }
        self.added += 1;
        let (bucket, fingerprint) = self.find(hash);
        let is_same = |slot: u32| slot & 0xffff_0000 == fingerprint;
        let worth = |at: &usize| match self.slots[*at] {
            slot if is_same(slot) => (0, 0),
            slot if !self.is_there(slot) => (1, 0),
            slot => (2, u16::MAX - self.age(slot)),
        };
        let at = bucket.min_by_key(worth).unwrap_or_default();
        self.slots[at] = fingerprint | u32::from(self.now());
    }

    /// Whether that hash was here; it no longer is.
    pub(super) fn take(&mut self, hash: u64) -> bool {
        if self.slots.is_empty() {
            return false;
        }
        let (mut bucket, fingerprint) = self.find(hash);
        let is_it = |at: &usize| {
            let slot = self.slots[*at];
            slot & 0xffff_0000 == fingerprint && self.is_there(slot)
        };
        let found = bucket.find(is_it);
        if let Some(at) = found {
            self.slots[at] = 0;
        }
        found.is_some()
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<u32>()
    }
}
