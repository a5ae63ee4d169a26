//! The table of one shard: ordered linear probing over cells of two words.
//!
//! An entry's key is the number made of its tag (48 bits) and zeros. Its *home* is `key * homes / 2^64`, which grows
//! with the key, and the entry stands at its home or to the right of it. There is no wrap-around: a tail of cells
//! behind the last home takes what is pushed out of it.
//!
//! 1. Read from left to right, the keys of the table never fall. Equal keys stand next to each other.
//! 2. Between an entry and its home no cell is empty.
//!
//! From these follows the search: begin at the home, stop at an empty cell or a greater key. A miss therefore costs no
//! more than a hit, and at the fullest (0.86) both look at about four cells of 16 bytes, mostly on one cache line.
//! Insertion shifts right up to the next empty cell; removal shifts back, up to the next cell that is empty or at its
//! home; no tombstones. Because the table is sorted, growing and loading are one pass from left to right.
//!
//! 3. Cells are changed only through `&mut Table`, with one exception: a reader may store a new epoch. It writes word 0
//!    with the tag it has read there, so whoever else reads or stores at that moment sees the same tag. No reader
//!    changes whether an entry is evicted.
//! 4. Cells shared with a frozen copy are copied before they are changed, a reader's epochs excepted.
//!
//! Source of the idea: O. Amble and D. E. Knuth, "Ordered hash tables", The Computer Journal 17(2), 1974; the home is
//! D. Lemire's "Fast random integer generation in an interval", 2019 (multiply and shift instead of a division).

use super::Access;
use super::entry::{
    Candidates, Entry, Words, epoch_of_word, key_of_hash, key_of_word, location_of_word,
    pack_location, with_epoch,
};
use crate::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    types::Location,
};
use std::{mem::size_of, sync::Arc};

const HOMES_MIN: usize = 4;
/// The counts that `Arc` keeps before the cells.
const ARC_BYTES: usize = 2 * size_of::<usize>();

/// Room for one entry. Relaxed loads and stores suffice: the shard's lock orders all but the epochs, and an epoch is
/// a hint.
#[derive(Debug, Default)]
#[repr(align(16))]
struct Cell {
    word0: AtomicU64,
    word1: AtomicU64,
}

// What memory per key is counted on: four cells to a cache line, none astride two.
const _: () = assert!(size_of::<Cell>() == 16 && align_of::<Cell>() == 16);

impl Cell {
    #[inline]
    fn load(&self) -> Words {
        [self.word0.load(Relaxed), self.word1.load(Relaxed)]
    }

    #[inline]
    fn store(&mut self, [word0, word1]: Words) {
        *self.word0.get_mut() = word0;
        *self.word1.get_mut() = word1;
    }
}

impl Clone for Cell {
    fn clone(&self) -> Self {
        let [word0, word1] = self.load();
        Self { word0: word0.into(), word1: word1.into() }
    }
}

/// The entries of one shard. A clone shares the cells until either is changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// `homes` cells and the tail. An empty table has neither and allocates nothing.
    cells: Arc<[Cell]>,
    homes: usize,
    len: usize,
}

/// Where an entry stands in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position(usize);

impl Table {
    /// A table of these entries, `None` unless they are sorted by key and none is empty.
    pub(super) fn from_sorted<I>(words: I) -> Option<Self>
    where
        I: ExactSizeIterator<Item = Words> + Clone,
    {
        let sorted = words.clone().map(|[word0, _]| key_of_word(word0)).is_sorted();
        if !sorted || words.clone().any(|[_, word1]| word1 == 0) {
            return None;
        }
        let len = words.len();
        Some(Self::build(words, len, homes_loaded(len)))
    }

    /// A table with so many homes of `len` entries that come sorted.
    fn build(words: impl Iterator<Item = Words> + Clone, len: usize, homes: usize) -> Self {
        if homes == 0 {
            return Self::default();
        }
        let place = |next: usize, [word0, _]: &Words| next.max(home(key_of_word(*word0), homes));
        let end = words.clone().fold(0, |next, words| place(next, &words) + 1).max(homes);
        let mut cells: Arc<[Cell]> = (0..end + tail(homes)).map(|_| Cell::default()).collect();
        let fresh = Arc::make_mut(&mut cells);
        let mut next = 0;
        for words in words {
            let at = place(next, &words);
            fresh[at].store(words);
            next = at + 1;
        }
        Self { cells, homes, len }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes on the heap, also if they are shared.
    pub(super) fn bytes(&self) -> usize {
        match self.cells.len() {
            0 => 0,
            cells => ARC_BYTES + cells * size_of::<Cell>(),
        }
    }

    /// The packed entries, sorted by key.
    pub(super) fn words(&self) -> impl Iterator<Item = Words> + Clone + '_ {
        self.cells.iter().map(Cell::load).filter(|[_, word1]| *word1 != 0)
    }

    /// The entries of `hash` with the epochs they had; afterwards they have what `access` makes of them.
    #[inline]
    pub(super) fn candidates(&self, hash: u64, access: Access) -> Candidates {
        let key = key_of_hash(hash);
        let mut found = Candidates::None;
        for cell in &self.cells[self.seek(key)..] {
            let [word0, word1] = cell.load();
            if word1 == 0 || key_of_word(word0) != key {
                break;
            }
            let touched = accessed(word0, access);
            // A store dirties the cache line for every reader of it: most reads of a hot key need none.
            if touched != word0 {
                cell.word0.store(touched, Relaxed);
            }
            found.push(Entry::unpack([word0, word1]));
        }
        found
    }

    /// The entry of `hash` at that location.
    pub(super) fn find(&self, hash: u64, at: Location) -> Option<Position> {
        let (key, location) = (key_of_hash(hash), pack_location(at));
        let from = self.seek(key);
        self.cells[from..]
            .iter()
            .map(Cell::load)
            .take_while(|&[word0, word1]| word1 != 0 && key_of_word(word0) == key)
            .position(|[_, word1]| location_of_word(word1) == location)
            .map(|ahead| Position(from + ahead))
    }

    /// The packed entry at a position.
    pub(super) fn get(&self, at: Position) -> Words {
        self.cells[at.0].load()
    }

    /// Overwrites the entry at a position with one of the same key.
    pub(super) fn set(&mut self, at: Position, words: Words) {
        let cell = &mut Arc::make_mut(&mut self.cells)[at.0];
        debug_assert_eq!(key_of_word(cell.load()[0]), key_of_word(words[0]));
        cell.store(words);
    }

    /// Adds an entry, beside those that have the same key.
    pub(super) fn add(&mut self, words: Words) {
        if is_overfull(self.len + 1, self.homes) {
            self.rebuild((self.homes + self.homes / 4).max(self.homes + HOMES_MIN));
        }
        let key = key_of_word(words[0]);
        let (at, gap) = loop {
            let at = self.seek(key);
            match self.first_empty(at) {
                Some(gap) => break (at, gap),
                // The tail is used up, perhaps by keys that share a home: more homes would not part those.
                None => self.rebuild(self.homes),
            }
        };
        let cells = Arc::make_mut(&mut self.cells);
        cells[at..=gap].rotate_right(1);
        cells[at].store(words);
        self.len += 1;
    }

    /// Takes out the entry at a position.
    pub(super) fn remove(&mut self, at: Position) {
        let (Position(at), homes) = (at, self.homes);
        let cells = Arc::make_mut(&mut self.cells);
        let shifted = cells[at + 1..]
            .iter()
            .zip(at + 1..)
            .take_while(|(cell, index)| {
                let [word0, word1] = cell.load();
                word1 != 0 && home(key_of_word(word0), homes) < *index
            })
            .count();
        cells[at].store([0, 0]);
        cells[at..=at + shifted].rotate_left(1);
        self.len -= 1;
        if let Some(homes) = sparser(self.len, self.homes) {
            self.rebuild(homes);
        }
    }

    /// Keeps only some entries; how many it took out.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(Entry) -> bool) -> usize {
        let kept: Vec<Words> = self.words().filter(|&words| keep(Entry::unpack(words))).collect();
        let removed = self.len - kept.len();
        if removed > 0 {
            let homes = sparser(kept.len(), self.homes).unwrap_or(self.homes);
            *self = Self::build(kept.iter().copied(), kept.len(), homes);
        }
        removed
    }

    /// Gives entries that are not evicted other epochs, or evicts them. If all stay as they are, shared cells are not
    /// copied.
    pub(super) fn remap(&mut self, mut epoch_of: impl FnMut(Entry) -> u16) {
        let changed = |words: Words| {
            let before = epoch_of_word(words[0]);
            if words[1] == 0 || before == Entry::EVICTED {
                return None;
            }
            let epoch = epoch_of(Entry::unpack(words));
            (epoch != before).then(|| with_epoch(words[0], epoch))
        };
        let changes = self.cells.iter().map(Cell::load).map(changed);
        let mut changes = changes.enumerate().filter_map(|(at, word0)| Some((at, word0?)));
        let Some(first) = changes.next() else { return };
        let rest: Vec<(usize, u64)> = changes.collect();
        let cells = Arc::make_mut(&mut self.cells);
        for (at, word0) in std::iter::once(first).chain(rest) {
            *cells[at].word0.get_mut() = word0;
        }
    }

    /// Gives all entries this epoch.
    pub(super) fn reset_epochs(&mut self, epoch: u16) {
        for cell in Arc::make_mut(&mut self.cells) {
            let [word0, word1] = cell.load();
            if word1 != 0 {
                cell.store([with_epoch(word0, epoch), word1]);
            }
        }
    }

    /// The first cell from the home of `key` on that is empty or has this key or a greater one.
    #[inline]
    fn seek(&self, key: u64) -> usize {
        let start = home(key, self.homes);
        self.cells[start..]
            .iter()
            .position(|cell| {
                let [word0, word1] = cell.load();
                word0 >= key || word1 == 0
            })
            .map_or(self.cells.len(), |ahead| start + ahead)
    }

    fn first_empty(&self, from: usize) -> Option<usize> {
        self.cells[from..].iter().position(|cell| cell.load()[1] == 0).map(|ahead| from + ahead)
    }

    fn rebuild(&mut self, homes: usize) {
        *self = Self::build(self.words(), self.len, homes);
    }

    /// Asserts what the head of this file says.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let keys: Vec<u64> = self.words().map(|[word0, _]| key_of_word(word0)).collect();
        assert!(keys.is_sorted(), "1: keys fall in {keys:x?}");
        assert_eq!(keys.len(), self.len, "the count of entries is wrong");
        for (at, cell) in self.cells.iter().enumerate() {
            let [word0, word1] = cell.load();
            if word1 == 0 {
                assert_eq!(word0, 0, "half an entry in cell {at}");
                continue;
            }
            let home = home(key_of_word(word0), self.homes);
            assert!(home <= at, "the entry in cell {at} is left of its home {home}");
            let gap = self.cells[home..at].iter().position(|cell| cell.load()[1] == 0);
            assert_eq!(gap, None, "2: a gap between home {home} and cell {at}");
        }
        assert!(!is_overfull(self.len, self.homes), "{} in {}", self.len, self.homes);
        assert_eq!(sparser(self.len, self.homes), None, "{} in {}", self.len, self.homes);
    }
}

/// `word0` after an access.
#[inline]
fn accessed(word0: u64, access: Access) -> u64 {
    let before = epoch_of_word(word0);
    match access {
        _ if before == Entry::EVICTED => word0,
        Access::Epoch(epoch) => with_epoch(word0, epoch),
        Access::Count => word0 + u64::from(before & 3 < 3),
        Access::None => word0,
    }
}

/// Where the search for `key` begins. Grows with the key, so that order by home is order by key.
#[inline]
fn home(key: u64, homes: usize) -> usize {
    ((u128::from(key) * homes as u128) >> 64) as usize
}

/// Cells behind the last home. What is pushed out of the homes is longer than this so seldom that it may cost a
/// rebuild.
fn tail(homes: usize) -> usize {
    (homes / 32).min(24) + 2
}

/// Load above 0.86: from here on clusters grow steeply.
fn is_overfull(len: usize, homes: usize) -> bool {
    len * 100 > homes * 86
}

/// Homes for a table that is loaded at once and then grows slowly: load 0.8.
fn homes_loaded(len: usize) -> usize {
    match len {
        0 => 0,
        len => (len + len / 4 + 1).max(HOMES_MIN),
    }
}

/// Fewer homes if the load is below 0.3: as many as make it 0.6, so that neither limit is near.
fn sparser(len: usize, homes: usize) -> Option<usize> {
    let fewer = match len {
        0 => 0,
        len => (len + len * 2 / 3).max(HOMES_MIN),
    };
    (fewer < homes && len * 10 < homes * 3).then_some(fewer)
}
