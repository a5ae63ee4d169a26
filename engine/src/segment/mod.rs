//! One file of records, from its first byte to its removal.
//!
//! ```text
//! active --roll--> closing --seal--> sealed --retire--> retired --last reader gone--> unlinked
//! ```
//!
//! Only an active segment grows. A closing one is complete but has no footer yet. A sealed one never changes
//! (I1), so it is mapped and read without locks. Until a segment is sealed, all its records are also in memory,
//! in its *image*: readers read there, and a failed write can be made good from there.
//!
//! This room sees bytes through `format` and disks through `io`. What a key means today is `index`'s business.

pub(crate) mod append;
mod ballast;
pub(crate) mod batches;
pub(crate) mod catalog;
pub(crate) mod in_place;
pub(crate) mod manifest_file;
pub(crate) mod manifest_state;
pub(crate) mod output;
pub(crate) mod read;
pub(crate) mod retired;
pub(crate) mod rewrite;
pub(crate) mod scan;
pub(crate) mod scanner;
pub(crate) mod seal;
pub(crate) mod tail;
pub(crate) mod transfer;
mod value;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    error::{Error, Result},
    format::{file_name, manifest::AddSegment, segment_header::SEGMENT_HEADER_BYTES},
    io::{Disk, File, Mapping},
    sync::{
        OnceLock, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    types::{SegmentId, SequenceNumber, Slot, Timestamp, mean_death},
};

pub(crate) use ballast::{Ballast, ballast_bytes};
pub use value::Value;

/// Where records begin in every segment.
pub(crate) const RECORDS_AT: u64 = SEGMENT_HEADER_BYTES as u64;

/// More bytes than the file of any segment has: a record begins within the 2 GiB that the index can name, is hardly
/// longer than 2 GiB itself, and the footer is shorter than the records.
pub(crate) const FILE_BYTES_MAX: u64 = 8 << 30;

/// The directory of a store, and the disk it is on.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    /// Of an open store: which file its lock file is.
    lock_file: Option<Arc<str>>,
    /// Of a store that is open for writing: room that it gives up when the disk is full.
    ballast: Option<Arc<Ballast>>,
}

impl Home {
    /// The directory `path`, whatever the working directory becomes: by its absolute path.
    pub(crate) fn absolute(disk: &Arc<dyn Disk>, path: &Path) -> Result<Self> {
        let dir = disk.absolute(path).map_err(|e| Error::io("look at", path, e))?;
        Ok(Self::new(Arc::clone(disk), dir))
    }

    pub(crate) const fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir, lock_file: None, ballast: None }
    }

    /// The directory `path` as it was given, for work that begins and ends in one call: held open if it is there.
    pub(crate) fn at(disk: &Arc<dyn Disk>, path: &Path) -> Result<Self> {
        match disk.hold_dir(path) {
            Ok(Some(disk)) => Ok(Self::new(disk, path.to_owned())),
            // What is wrong with it is found out, and reported, by the call that looks into it.
            Ok(None) | Err(_) => Self::absolute(disk, path),
        }
    }

    /// The same directory, held open where the disk can do that: it stays the one that is meant when its name is given
    /// to another.
    pub(crate) fn held(&self) -> Result<Self> {
        let held = self.disk.hold_dir(&self.dir);
        let held = held.map_err(|e| Error::io("open", &self.dir, e))?;
        let disk = held.unwrap_or_else(|| Arc::clone(&self.disk));
        Ok(Self::new(disk, self.dir.clone()))
    }

    /// The same directory, whose lock is held: from now on it is noticed when the lock file is taken away.
    pub(crate) fn locked(mut self) -> Self {
        self.lock_file = self.disk.identity(&self.path(file_name::LOCK)).ok().map(Arc::from);
        self
    }

    /// Fails if the lock file was removed or replaced: others may write to the directory then, and files that are
    /// missing from it are lost.
    pub(crate) fn check_lock(&self) -> Result<()> {
        let Some(known) = &self.lock_file else { return Ok(()) };
        let path = self.path(file_name::LOCK);
        let is_lost = match self.disk.identity(&path) {
            Ok(found) => *found != **known,
            // Whether it is there cannot be said: the call that needs the directory reports why.
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if !is_lost {
            return Ok(());
        }
        let reason = "it was removed or replaced while the store was open; close the store, see what is in its \
                      directory, and open it again";
        Err(Error::io("rely on", path, io::Error::new(io::ErrorKind::NotFound, reason)))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn segment(&self, id: SegmentId) -> PathBuf {
        self.path(&file_name::segment(id))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// A segment of an open store.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) add: AddSegment,
    pub(crate) slot: Slot,
    pub(crate) path: PathBuf,
    /// Records of an unsealed segment; the first byte is the one at [`RECORDS_AT`]. Empty once sealed.
    image: RwLock<Vec<u8>>,
    /// Set once, when sealed; before the image is given up, so that a reader always finds one of the two.
    sealed: OnceLock<Sealed>,
    live_bytes: AtomicU64,
    live_records: AtomicU64,
    /// Mean of the sequence numbers at which records here died lately; 0 = none did in this session. A hint.
    died_at: AtomicU64,
}

/// How a sealed segment is read.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) body: Body,
    pub(crate) records_end: u64,
    pub(crate) file_bytes: u64,
    pub(crate) sequence_max: SequenceNumber,
    /// As the footer's trailer has them.
    pub(crate) expiry_min: Timestamp,
    pub(crate) expiry_max: Timestamp,
    pub(crate) tombstones: u32,
    pub(crate) not_fresh: u32,
    /// Of the footer that counts; 0 = none does, whatever stands at the end of the file.
    pub(crate) trailer_checksum: u32,
    /// Whether the footer's entries were found sound; not set before they were looked at.
    footer_is_sound: OnceLock<bool>,
}

/// The bytes of a sealed segment.
#[derive(Debug)]
pub(crate) enum Body {
    Map(Mapping),
    File(Arc<dyn File>),
}

impl Segment {
    /// A segment without records so far, to be filled through its image.
    pub(crate) fn unsealed(home: &Home, add: AddSegment, slot: Slot) -> Self {
        Self {
            add,
            slot,
            path: home.segment(add.id),
            image: RwLock::default(),
            sealed: OnceLock::new(),
            live_bytes: AtomicU64::new(0),
            live_records: AtomicU64::new(0),
            died_at: AtomicU64::new(0),
        }
    }

    /// A segment that is sealed already.
    pub(crate) fn sealed(home: &Home, add: AddSegment, slot: Slot, sealed: Sealed) -> Self {
        let segment = Self::unsealed(home, add, slot);
        segment.finish(sealed);
        segment
    }

    pub(crate) const fn id(&self) -> SegmentId {
        self.add.id
    }

    /// The mapped bytes of a sealed segment.
    ///
    /// # Panics
    /// If there are none: only views that were made from them ask.
    #[inline]
    pub(crate) fn mapped(&self) -> &[u8] {
        match self.sealed.get() {
            Some(Sealed { body: Body::Map(map), .. }) => map,
            _ => panic!("segment {} is not mapped", self.add.id),
        }
    }

    /// The sealed face, if it has one.
    #[inline]
    pub(crate) fn as_sealed(&self) -> Option<&Sealed> {
        self.sealed.get()
    }

    /// From now on reads go to the file; the image is given up.
    pub(crate) fn finish(&self, sealed: Sealed) {
        let first = self.sealed.set(sealed).is_ok();
        assert!(first, "I1: segment {} is sealed once", self.add.id);
        *self.image.write().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }

    /// The image, for reading.
    pub(crate) fn image(&self) -> RwLockReadGuard<'_, Vec<u8>> {
        self.image.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends to the image.
    pub(crate) fn extend_image(&self, bytes: &[u8]) {
        let mut image = self.image.write().unwrap_or_else(PoisonError::into_inner);
        if image.capacity() - image.len() < bytes.len() {
            // Half as much again instead of twice: the image of a small store stays small.
            let more = bytes.len().max(image.len() / 2).max(4 << 10);
            image.reserve_exact(more);
        }
        image.extend_from_slice(bytes);
    }

    /// Takes the image back to `end` (an offset in the file), after a failed write.
    pub(crate) fn truncate_image(&self, end: u64) {
        let mut image = self.image.write().unwrap_or_else(PoisonError::into_inner);
        image.truncate(usize::try_from(end.saturating_sub(RECORDS_AT)).unwrap_or(usize::MAX));
    }

    /// Bytes of the file, as far as it is in use.
    pub(crate) fn file_bytes(&self) -> u64 {
        match self.as_sealed() {
            Some(sealed) => sealed.file_bytes,
            None => RECORDS_AT + self.image().len() as u64,
        }
    }

    /// Bytes of memory in the image.
    pub(crate) fn image_bytes(&self) -> u64 {
        self.image().capacity() as u64
    }

    pub(crate) fn count_live(&self, bytes: u64) {
        self.live_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.live_records.fetch_add(1, Ordering::Relaxed);
    }

    /// A record here died. Counts come from a checkpoint that may be wrong: they never fall below zero.
    pub(crate) fn count_dead(&self, bytes: u64) {
        let less = |by| move |live: u64| Some(live.saturating_sub(by));
        let _ = self.live_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less(bytes));
        let _ = self.live_records.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less(1));
    }

    /// A record here was displaced by a write with this sequence number.
    pub(crate) fn note_death(&self, at: SequenceNumber) {
        let mean = self.died_at.load(Ordering::Relaxed);
        self.died_at.store(mean_death(mean, at.0), Ordering::Relaxed);
    }

    /// When records here died lately, in sequence numbers; 0 = none did in this session.
    pub(crate) fn died_at(&self) -> u64 {
        self.died_at.load(Ordering::Relaxed)
    }

    pub(crate) fn set_live(&self, bytes: u64, records: u64) {
        self.live_bytes.store(bytes, Ordering::Relaxed);
        self.live_records.store(records, Ordering::Relaxed);
    }

    /// Bytes and count of the records here that the index points to.
    pub(crate) fn live(&self) -> (u64, u64) {
        (self.live_bytes.load(Ordering::Relaxed), self.live_records.load(Ordering::Relaxed))
    }
}
