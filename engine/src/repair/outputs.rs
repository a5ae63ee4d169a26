//! New segments: records that are kept, with their sequence numbers, and endings in the place of lost ones. Each is
//! complete and durable under its name when it is done; no manifest names it yet.

use super::{
    examine::Kept,
    identity::hasher,
    known::Known,
    survey::{Ending, Visited},
};
use crate::{
    error::{Damage, DecodeError, Result},
    format::{
        file_name,
        hash::KeyHasher,
        manifest::{AddSegment, Edit, ManifestHeader},
        record::{Draft, Flags, Kind, encode},
        segment_header::{Class, SegmentHeader},
    },
    options::Options,
    segment::{
        Home,
        manifest_state::ManifestState,
        rewrite::{Source, rewrite},
    },
    types::{SegmentId, SequenceNumber, Slot, Timestamp},
};

/// Segments that are written here.
pub(super) struct Outputs<'a> {
    options: &'a Options,
    home: Home,
    header: ManifestHeader,
    hasher: KeyHasher,
    next_id: u64,
    next_sequence: SequenceNumber,
    created: Timestamp,
    edits: Vec<Edit>,
    pub(super) records: u64,
}

impl<'a> Outputs<'a> {
    /// Writes into `home`, with ids that are free in `state`.
    pub(super) fn new(
        options: &'a Options,
        home: Home,
        header: ManifestHeader,
        state: &ManifestState,
    ) -> Self {
        Self {
            options,
            home,
            header,
            hasher: hasher(options, header.hash_seed),
            next_id: state.next_id.max(1),
            next_sequence: state.next_sequence,
            created: state.high_water,
            edits: Vec::new(),
            records: 0,
        }
    }

    /// Writes what is kept of a segment into a new one, if anything is.
    pub(super) fn copy(&mut self, known: &Known, visited: &Visited<'_>) -> Result<()> {
        let Some(old) = known.state.segments.get(&visited.id) else { return Ok(()) };
        let source = |kept: &Kept| {
            let start = usize::try_from(kept.offset).ok()?;
            let end = start.checked_add(usize::try_from(kept.bytes).ok()?)?;
            let bytes = visited.bytes.get(start..end)?;
            Some(Source { bytes, head_bytes: kept.head_bytes, sequence: kept.sequence })
        };
        let sources: Vec<_> = visited.examined.kept.iter().filter_map(source).collect();
        self.write(&old.add, &sources)
    }

    fn write(&mut self, old: &AddSegment, sources: &[Source<'_>]) -> Result<()> {
        if sources.is_empty() {
            return Ok(());
        }
        let clock = self.options.clock.as_ref();
        let header = SegmentHeader {
            // No longer in one piece with what the foreground wrote; the streams of compaction stay apart.
            class: if old.class == Class::FOREGROUND { Class::REWRITTEN } else { old.class },
            store_id: self.header.store_id,
            id: SegmentId(self.next_id),
            salt: clock.random(),
            horizon: old.horizon,
            first_sequence: self.next_sequence,
            created: self.created,
            monotonic_ms: clock.monotonic_ms(),
            boot_id: clock.boot_id(),
            parents: Vec::new(),
        };
        self.next_id = self.next_id.checked_add(1).ok_or_else(|| {
            let fault = DecodeError::new(0, Damage::Field("segment id"));
            fault.in_file(self.home.path(file_name::MANIFEST), 0)
        })?;
        let sources_again = sources.iter().copied();
        let written = rewrite(&self.home, &header, Slot(0), (self.hasher, false), sources_again)
            .map_err(|(error, _)| error)?;
        self.edits.push(Edit::Add(written.segment.add));
        self.edits.push(Edit::Seal(written.seal));
        self.records += sources.len() as u64;
        Ok(())
    }

    /// Writes deletes, scope cuts and touches, each with the sequence number of the record in whose place it stands.
    pub(super) fn write_endings(&mut self, endings: &[Ending]) -> Result<()> {
        /// In one segment; their records are small.
        const ENDINGS_MAX: usize = 10_000;
        for endings in endings.chunks(ENDINGS_MAX) {
            let records: Vec<_> = endings.iter().map(encoded).collect();
            let sources: Vec<_> = endings
                .iter()
                .zip(&records)
                .map(|(ending, (bytes, head_bytes))| Source {
                    bytes,
                    head_bytes: *head_bytes,
                    sequence: ending.sequence,
                })
                .collect();
            // Horizon: as low as can be, so that nobody takes the segment for one without old records.
            let old = AddSegment {
                id: SegmentId(0),
                class: Class::REWRITTEN,
                salt: 0,
                horizon: SequenceNumber(0),
                first_sequence: SequenceNumber(0),
            };
            self.write(&old, &sources)?;
        }
        Ok(())
    }

    /// The edits that name them all.
    pub(super) fn finish(self, state: &ManifestState) -> Vec<Edit> {
        let segment = SegmentId(self.next_id);
        let floors = Edit::Floors { segment, sequence: state.next_sequence };
        [floors].into_iter().chain(self.edits).collect()
    }
}

fn encoded(ending: &Ending) -> (Vec<u8>, usize) {
    debug_assert_eq!(ending.kind == Kind::Touch, ending.touch.is_some(), "{ending:?}");
    let target = ending.touch.map(|(target, _)| target.0.to_le_bytes());
    let draft = Draft {
        kind: ending.kind,
        flags: Flags::default(),
        key: &ending.key,
        value: target.as_ref().map_or(&[], |target| target.as_slice()),
        expires_at: ending.touch.and_then(|(_, expires_at)| expires_at),
        extension: None,
    };
    let mut bytes = Vec::new();
    let head_bytes = encode(&draft, &mut bytes);
    (bytes, head_bytes)
}
