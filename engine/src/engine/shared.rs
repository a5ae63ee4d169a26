//! What all handles of a store share, from its opening to its closing.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::{
    hold,
    place::{Hold, Place, lock},
};
use crate::{
    background::Background,
    checkpoint::{self, Moment},
    error::{Error, Result},
    format::{file_name::FileName, manifest::Edit},
    index::{Entry as IndexEntry, SHARDS},
    io::{ForkGuard, StoreClock},
    lookup::Lookup,
    options::Options,
    reader::Reader,
    recovery::{Recovered, RecoveryReport, recover},
    segment::{Home, manifest_file::ManifestFile},
    space::{Space, segment_bytes_for},
    stats::{Counters, Tally},
    types::{SegmentId, SequenceNumber, Timestamp},
    writer::{LogStart, Writer},
};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) home: Home,
    pub(super) options: Options,
    pub(super) lookup: Arc<Lookup>,
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) manifest: Arc<Mutex<ManifestFile>>,
    pub(super) report: RecoveryReport,
    pub(super) fork: ForkGuard,
    pub(super) closed: AtomicBool,
    pub(super) handles: AtomicUsize,
    pub(super) background: Mutex<Option<Background>>,
    lock: Mutex<Option<Hold>>,
    pub(super) place: Arc<Place<Self>>,
}

impl Shared {
    pub(super) fn open(home: Home, options: Options, place: Arc<Place<Self>>) -> Result<Self> {
        let lock = lock(&home, &options)?;
        let Recovered {
            manifest,
            catalog,
            index,
            overrides,
            hasher,
            next_sequence,
            high_water,
            unsealed,
            damaged,
            report,
        } = recover(&home, &options)?;
        let clock = Arc::new(StoreClock::new(Arc::clone(&options.clock), high_water));
        let segment_bytes = segment_bytes_for(
            options.max_bytes,
            options.segment_bytes,
            Options::SEGMENT_BYTES_MIN,
        );
        let space = Arc::new(Space::new(
            Arc::clone(&home.disk),
            home.dir.clone(),
            options.max_bytes,
            options.min_free_bytes,
            segment_bytes,
        ));
        space.found(segment_files_bytes(&home)?);
        let lookup = Arc::new(Lookup {
            catalog: Arc::new(catalog),
            index: Arc::new(index),
            overrides: Arc::new(overrides),
            clock,
            hasher,
            counters: Arc::new(Counters::default()),
            tally: Tally::default(),
        });
        tally(&lookup);
        let start = LogStart {
            home: home.clone(),
            manifest: Arc::clone(&manifest),
            next_sequence,
            unsealed,
            damaged,
            space: Arc::clone(&space),
            segment_bytes,
        };
        let writer = Writer::new(Arc::clone(&lookup), &options, start);
        if !options.read_only {
            // What was not sealed is written anew before anything else. If that fails (a full disk), the store
            // opens all the same: everything can be read, and writes are refused until it succeeds.
            if let Err(error) = writer.try_recover() {
                writer.say_why(&error.to_string());
            }
        }
        Ok(Self {
            reader: Reader::new(Arc::clone(&lookup)),
            lookup,
            writer,
            manifest,
            report,
            fork: ForkGuard::new(),
            closed: AtomicBool::new(false),
            handles: AtomicUsize::new(1),
            background: Mutex::new(None),
            lock: Mutex::new(lock),
            place,
            home,
            options,
        })
    }

    pub(crate) fn step(&self) -> Result<bool> {
        self.writer.step()
    }

    /// Writes everything out, seals it, writes a checkpoint, and says in the manifest that all is well.
    pub(super) fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) || self.fork.is_in_child() {
            // In a forked child there is no thread to wait for, and the files are the parent's.
            return Ok(());
        }
        if let Some(background) = hold(&self.background).take() {
            background.stop();
        }
        let closed = if self.options.read_only { Ok(()) } else { self.close_log() };
        *hold(&self.lock) = None;
        closed
    }

    fn close_log(&self) -> Result<()> {
        self.writer.seal_all()?;
        let is_clean = hold(&self.manifest).state().clean;
        let (newest, _, next_id) = self.writer.frontier();
        if newest.0 == 0 {
            return Ok(());
        }
        // A checkpoint that was lost is written anew, even by a session that wrote nothing else.
        if is_clean && self.report.from_checkpoint {
            return self.keep_time();
        }
        let number = self.writer.take_id();
        let edits = vec![
            Edit::Clock(self.lookup.clock.now()),
            Edit::Floors { segment: SegmentId(next_id.max(number + 1)), sequence: newest.next() },
            Edit::Clean,
        ];
        let moment = self.moment(newest);
        checkpoint::write(&self.home, &self.manifest, number, &moment, edits)
    }

    /// A session that wrote nothing still showed some entries as expired: the next one must not see them live again,
    /// whatever its clock says (I16).
    fn keep_time(&self) -> Result<()> {
        let now = self.lookup.clock.now();
        let mut manifest = hold(&self.manifest);
        let state = manifest.state();
        let seals = state.segments.values().filter_map(|segment| segment.seal);
        let expires = seals.map(|seal| seal.expiry_min).any(|expiry| expiry < Timestamp(u64::MAX));
        if !expires || now <= state.high_water {
            return Ok(());
        }
        manifest.apply(&[Edit::Clock(now), Edit::Clean])
    }

    pub(super) fn moment(&self, sequence: SequenceNumber) -> Moment {
        Moment {
            index: self.lookup.index.snapshot(),
            accounts: checkpoint::accounts(&self.lookup.catalog.table()),
            overrides: self.lookup.overrides.freeze(),
            sequence,
            now: self.lookup.clock.now(),
        }
    }
}

/// Counts the live entries.
fn tally(lookup: &Lookup) {
    for shard in 0..SHARDS {
        lookup.index.sweep(shard, &mut |_, entry| {
            if !entry.is_evicted() {
                lookup.tally.add(entry.size.bytes(), entry.flags & IndexEntry::EVICTABLE != 0);
            }
        });
    }
}

/// Bytes of the segments in the directory, those that were set aside included.
fn segment_files_bytes(home: &Home) -> Result<u64> {
    let listed = home.disk.list(home.dir()).map_err(|e| Error::io("list", home.dir(), e))?;
    let is_segment = |name: &str| {
        matches!(FileName::parse(name), Some(FileName::Segment(_) | FileName::Quarantine(_)))
    };
    Ok(listed.iter().filter(|entry| is_segment(&entry.name)).map(|entry| entry.bytes).sum())
}
