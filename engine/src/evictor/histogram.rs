//! How many entries, and how much weight, there is of each age.

/// Entries of one age, and of one count of uses if that matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

impl Sum {
    #[inline]
    pub(super) fn add(&mut self, bytes: u64) {
        self.entries += 1;
        self.bytes += bytes;
    }

    pub(super) const fn plus(self, other: Self) -> Self {
        Self { entries: self.entries + other.entries, bytes: self.bytes + other.bytes }
    }

    /// So many parts out of `all`, entries rounded up.
    pub(super) fn part(self, parts: u64, all: u64) -> Self {
        let part = |of: u64| (u128::from(of) * u128::from(parts)).div_ceil(u128::from(all)) as u64;
        Self { entries: part(self.entries), bytes: part(self.bytes) }
    }
}

/// Sums by age from `floor` to `now`, in `WAYS` columns. What is older counts as of the floor, what is newer as of now.
#[derive(Debug)]
pub(super) struct Histogram<const WAYS: usize> {
    floor: u16,
    rows: Vec<[Sum; WAYS]>,
    /// The newest age there may be is passed: somebody stored an epoch of before a renumbering.
    pub(super) has_future: bool,
}

impl<const WAYS: usize> Histogram<WAYS> {
    pub(super) fn new(floor: u16, now: u16) -> Self {
        let rows = usize::from(now.saturating_sub(floor)) + 1;
        Self { floor, rows: vec![[Sum::default(); WAYS]; rows], has_future: false }
    }

    /// The row of an age.
    #[inline]
    pub(super) fn row(&self, age: u16) -> usize {
        usize::from(age.saturating_sub(self.floor)).min(self.rows.len() - 1)
    }

    /// The age that a row is of.
    pub(super) fn age(&self, row: usize) -> u16 {
        self.floor + row as u16
    }

    #[inline]
    pub(super) fn add(&mut self, age: u16, way: usize, bytes: u64) {
        let row = usize::from(age.saturating_sub(self.floor));
        if let Some(row) = self.rows.get_mut(row) {
            row[way].add(bytes);
        } else {
            self.has_future = true;
            let now = self.rows.len() - 1;
            self.rows[now][way].add(bytes);
        }
    }

    /// The rows, oldest first.
    pub(super) fn rows(&self) -> &[[Sum; WAYS]] {
        &self.rows
    }

    /// The age of the first row that is not empty.
    pub(super) fn oldest(&self) -> u16 {
        let is_used = |row: &[Sum; WAYS]| row.iter().any(|sum| sum.entries > 0);
        self.age(self.rows.iter().position(is_used).unwrap_or(self.rows.len() - 1))
    }

    pub(super) fn sum(&self) -> Sum {
        self.rows.iter().flatten().fold(Sum::default(), |sum, other| sum.plus(*other))
    }
}
