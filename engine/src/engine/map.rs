//! What every byte of the segments' files is good for, cell by cell: for pictures. Facts only, no colours.

use std::{collections::HashMap, ops::ControlFlow};

use super::follower::{Follower, Seen};
use crate::{
    error::{Error, Result},
    format::file_name,
    index::SHARDS,
    options::Evict,
    reader::Standing,
    segment::{FILE_BYTES_MAX, RECORDS_AT, Segment},
    types::{SegmentId, Slot},
};

/// Bytes of one cell of a segment's file by what they are good for. They sum up to the bytes of the cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CellBytes {
    /// Header and footer; of a segment whose footer is gone, all behind its last record.
    pub overhead: u64,
    /// Records that can be read.
    pub live: u64,
    /// Records that expired, were cut off or evicted: compaction takes them out.
    pub ended: u64,
    /// Records that the index points to and whose head is damaged. Values are not looked at: the check does that.
    pub unreadable: u64,
    /// What nothing points to: displaced and deleted records, tombstones, markers.
    pub dead: u64,
    /// An unfinished write at the end of the log.
    pub torn: u64,
    /// Room of an unsealed file behind that: unwritten, or written since the store was read.
    pub free: u64,
}

impl CellBytes {
    /// Bytes of the cell.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        let Self { overhead, live, ended, unreadable, dead, torn, free } = *self;
        overhead + live + ended + unreadable + dead + torn + free
    }

    /// The bytes of this cell and of another.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            overhead: self.overhead + other.overhead,
            live: self.live + other.live,
            ended: self.ended + other.ended,
            unreadable: self.unreadable + other.unreadable,
            dead: self.dead + other.dead,
            torn: self.torn + other.torn,
            free: self.free + other.free,
        }
    }
}

/// The file of one segment in cells. See [`Follower::map`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentMap {
    /// Its id.
    pub id: SegmentId,
    /// 0 written by users, 1 rewritten by recovery, 2 and up by compaction.
    pub class: u8,
    /// Whether it is sealed.
    pub sealed: bool,
    /// Bytes of its file.
    pub bytes: u64,
    /// Its cells in order of offset; all are of one length but the last, which may be shorter.
    pub cells: Vec<CellBytes>,
}

impl SegmentMap {
    /// The bytes of all cells.
    #[must_use]
    pub fn sum(&self) -> CellBytes {
        self.cells.iter().fold(CellBytes::default(), |sum, cell| sum.plus(cell))
    }
}

/// How long ago entries were used, as far as the last checkpoint tells. See [`Follower::last_uses`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastUses {
    /// The policy that kept count. `Lru`: steps since the last use; `Fifo`: since the entry was stored; `S3Fifo`:
    /// since it entered its queue.
    pub policy: Evict,
    /// Entries by steps of the policy's clock before the newest: at 0 those of the newest step, at `n` those of
    /// `2^(n-1)` to `2^n - 1` steps before it. What was written after the last checkpoint counts as of the newest
    /// step.
    pub steps_ago: [u64; 17],
}

impl Follower {
    /// The smallest cell that [`Self::map`] makes, in bytes.
    pub const CELL_BYTES_MIN: u64 = 512;

    /// What every byte of the segments is good for, in cells of `cell_bytes`, oldest segment first, as the store was
    /// when it was last read. Now and then `go_on` is told how many entries were looked at, and of how many; `None`
    /// if it breaks.
    ///
    /// Costs a look at the head of the record of every entry. Memory: the cells, and 1/256 of the index at a time.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use tierce_engine::{Options, io::MemoryDisk};
    /// let disk = MemoryDisk::new();
    /// let engine = Options::new().disk(disk.clone()).open("store")?;
    /// engine.put("k", "old")?;
    /// engine.put("k", "new")?;
    /// engine.close()?;
    /// let reader = Options::new().disk(disk).open_reader("store")?;
    /// let map = reader.map(4096, &mut |_, _| ControlFlow::Continue(()))?.expect("nobody broke it off");
    /// let sum = map[0].sum();
    /// assert_eq!(sum.sum(), map[0].bytes);
    /// assert!(sum.live > 0 && sum.dead > 0 && sum.free == 0);
    /// # Ok::<(), tierce_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] if a cell is smaller than [`Self::CELL_BYTES_MIN`]; [`Error::Io`]. A damaged record
    /// is no error but [`CellBytes::unreadable`].
    pub fn map(
        &self,
        cell_bytes: u64,
        go_on: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Option<Vec<SegmentMap>>> {
        if cell_bytes < Self::CELL_BYTES_MIN {
            let complaint =
                format!("a cell of {cell_bytes} bytes: at least {}", Self::CELL_BYTES_MIN);
            return Err(Error::InvalidOptions { complaints: vec![complaint] });
        }
        let seen = self.seen();
        let snapshot = seen.reader.snapshot();
        let lengths = self.file_lengths()?;
        let mut grids = HashMap::new();
        for segment in snapshot.table().iter() {
            let length = lengths.get(&file_name::segment(segment.id())).copied();
            grids.insert(segment.slot, Grid::new(segment, &seen, length, cell_bytes));
        }
        let (mut done, total) = (0, seen.lookup.index.len() as u64);
        for shard in 0..SHARDS {
            snapshot.extents(shard, &mut |extent| {
                done += 1;
                if let Some(grid) = grids.get_mut(&extent.at.slot) {
                    grid.point_to(extent.at.offset, extent.bytes, extent.standing);
                }
            })?;
            if go_on(done, total.max(done)).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(in_order(grids)))
    }

    /// How long ago entries were used; `None` if the store does not know, because it keeps no count (a store without
    /// a limit needs none) or has no checkpoint. Of evicted entries nothing is said, of expired ones as of live ones.
    /// One pass over the index.
    #[must_use]
    pub fn last_uses(&self) -> Option<LastUses> {
        let seen = self.seen();
        let policy = seen.written.filter(|policy| *policy != Evict::None)?;
        let steps_ago = seen.lookup.recency.steps_ago(&seen.lookup.index);
        // One step for all says nothing of any.
        let is_told = steps_ago.iter().skip(1).any(|count| *count > 0);
        is_told.then_some(LastUses { policy, steps_ago })
    }

    /// Lengths of the files that are there now, by name.
    fn file_lengths(&self) -> Result<HashMap<String, u64>> {
        let (disk, dir) = (&self.home.disk, self.home.dir());
        let listed = disk.list(dir).map_err(|source| Error::io("list", dir, source))?;
        Ok(listed.into_iter().map(|entry| (entry.name, entry.bytes)).collect())
    }
}

fn in_order(grids: HashMap<Slot, Grid>) -> Vec<SegmentMap> {
    let mut maps: Vec<_> = grids.into_values().map(|grid| grid.map).collect();
    maps.sort_unstable_by_key(|map| map.id);
    maps
}

/// A map in the making. Whatever is shown to it, its cells sum up to the bytes of the file.
struct Grid {
    map: SegmentMap,
    cell_bytes: u64,
}

impl Grid {
    /// All records dead so far. `listed` is the length of the file now; one that was removed meanwhile has the length
    /// it had.
    fn new(segment: &Segment, seen: &Seen, listed: Option<u64>, cell_bytes: u64) -> Self {
        let (records_end, known) = match segment.as_sealed() {
            Some(sealed) => (sealed.records_end, sealed.file_bytes),
            None => (segment.file_bytes(), segment.file_bytes()),
        };
        let sealed = segment.as_sealed().is_some();
        // A length that no file of ours has sizes nothing.
        let grown = listed.filter(|bytes| !sealed && *bytes <= FILE_BYTES_MAX);
        let bytes = known.max(grown.unwrap_or(0));
        let torn = seen.report.torn.iter().filter(|torn| !sealed && torn.file == segment.path);
        let torn: u64 = torn.map(|torn| torn.bytes).sum();
        let cells =
            vec![CellBytes::default(); usize::try_from(bytes.div_ceil(cell_bytes)).unwrap_or(0)];
        let (id, class) = (segment.id(), segment.add.class.0);
        let mut grid = Self { map: SegmentMap { id, class, sealed, bytes, cells }, cell_bytes };
        let records_at = RECORDS_AT.min(bytes);
        let records_end = records_end.clamp(records_at, bytes);
        let torn_end = records_end.saturating_add(torn).min(bytes);
        grid.fill(0, records_at, |cell| &mut cell.overhead);
        grid.fill(records_at, records_end, |cell| &mut cell.dead);
        if sealed {
            grid.fill(records_end, bytes, |cell| &mut cell.overhead);
        } else {
            grid.fill(records_end, torn_end, |cell| &mut cell.torn);
            grid.fill(torn_end, bytes, |cell| &mut cell.free);
        }
        grid
    }

    /// Shows the cells between two offsets, each with how many of these bytes are in it.
    fn each(&mut self, from: u64, to: u64, mut show: impl FnMut(&mut CellBytes, u64)) {
        let (mut at, to) = (from, to.min(self.map.bytes));
        while at < to {
            let index = at / self.cell_bytes;
            let end = (index + 1).saturating_mul(self.cell_bytes).min(to);
            let cell = usize::try_from(index).ok().and_then(|index| self.map.cells.get_mut(index));
            if let Some(cell) = cell {
                show(cell, end - at);
            }
            at = end;
        }
    }

    fn fill(&mut self, from: u64, to: u64, field: impl Fn(&mut CellBytes) -> &mut u64) {
        self.each(from, to, |cell, bytes| *field(cell) += bytes);
    }

    /// A record is not dead but this. Two entries that claim one byte, which only a damaged checkpoint can have, do
    /// not get it twice.
    fn point_to(&mut self, from: u64, bytes: u64, standing: Standing) {
        self.each(from, from.saturating_add(bytes), |cell, bytes| {
            let bytes = bytes.min(cell.dead);
            cell.dead -= bytes;
            *match standing {
                Standing::Live => &mut cell.live,
                Standing::Ended => &mut cell.ended,
                Standing::Unreadable => &mut cell.unreadable,
            } += bytes;
        });
    }
}
