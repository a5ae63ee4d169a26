//! Counts in powers of two: 0; 1; 2 and 3; 4 to 7; and so on.

use serde_json::{Value, json};

/// How many numbers were how great.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buckets([u64; 65]);

impl Default for Buckets {
    fn default() -> Self {
        Self([0; 65])
    }
}

/// One bucket: its least and its greatest number, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) count: u64,
}

impl Buckets {
    /// Counts by bucket, the first for 0.
    pub(crate) fn of(counts: &[u64]) -> Self {
        let mut buckets = Self::default();
        buckets.0.iter_mut().zip(counts).for_each(|(bucket, count)| *bucket = *count);
        buckets
    }

    pub(crate) const fn add(&mut self, number: u64) {
        self.0[place(number)] += 1;
    }

    /// From the first that is not empty to the last.
    pub(crate) fn used(&self) -> Vec<Bucket> {
        let last = self.0.iter().rposition(|count| *count > 0);
        let first = self.0.iter().position(|count| *count > 0).unwrap_or(0);
        let bucket = |at| {
            let (from, to) = bounds(at);
            Bucket { from, to, count: self.0[at] }
        };
        (first..last.map_or(first, |last| last + 1)).map(bucket).collect()
    }

    /// The same as JSON.
    pub(crate) fn json(&self) -> Vec<Value> {
        let bucket = |bucket: Bucket| {
            let Bucket { from, to, count } = bucket;
            json!({"from": from, "to": to, "count": count})
        };
        self.used().into_iter().map(bucket).collect()
    }
}

const fn place(number: u64) -> usize {
    (u64::BITS - number.leading_zeros()) as usize
}

/// The least and the greatest number of a bucket.
const fn bounds(bucket: usize) -> (u64, u64) {
    match bucket {
        0 => (0, 0),
        64 => (1 << 63, u64::MAX),
        bucket => (1 << (bucket - 1), (1 << bucket) - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every number has one bucket, and the bounds say which.
    #[test]
    fn buckets() {
        for number in [0, 1, 2, 3, 4, 7, 8, 1 << 40, (1 << 63) - 1, 1 << 63, u64::MAX] {
            let mut buckets = Buckets::default();
            buckets.add(number);
            let [Bucket { from, to, count: 1 }] = buckets.used()[..] else { panic!("{number}") };
            assert!((from..=to).contains(&number), "{number}: {from}-{to}");
        }
        assert_eq!(
            (bounds(0), bounds(1), bounds(2), bounds(64)),
            ((0, 0), (1, 1), (2, 3), (1 << 63, u64::MAX))
        );
        assert_eq!(Buckets::default().used(), []);
    }
}
