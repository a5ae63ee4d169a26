//! One sealed segment: its file, its header, its footer, its records, and whether these agree.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Store,
    codes::Code,
    compare::Comparison,
    footer::{self, Footer},
    listing::Listed,
    report::Finding,
};
use crate::{
    format::{
        footer::FooterEntry,
        manifest::{AddSegment, SealSegment},
        segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader},
    },
    io::{Access, File, PathKind, read_up_to_at},
    segment::{
        FILE_BYTES_MAX,
        batches::Batches,
        scanner::{Found, Scanner, Sought, Values},
    },
    types::SequenceNumber,
};

/// Who says what records a segment has, when they are put beside those of other segments.
#[derive(Debug)]
pub(super) enum Said {
    /// Nobody: it was not read.
    Nothing,
    /// Its footer, which is sound and says what the records say: where the entries of each group begin.
    Footer { sequence_min: SequenceNumber, starts: Vec<u32> },
    /// These, which were found sound, in order of hashes.
    Entries(Vec<FooterEntry>),
}

/// What is known of a sealed segment. It never changes (I1), so neither does this.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) add: AddSegment,
    pub(super) seal: SealSegment,
    pub(super) findings: Vec<Finding>,
    /// Sound records with a key.
    pub(super) records: u64,
    /// Bytes read.
    pub(super) bytes: u64,
    pub(super) said: Said,
    /// All bits of the hashes in its footer.
    pub(super) used_bits: u64,
    /// Whether looking again could show something else: the file was not there, or could not be read.
    pub(super) is_passing: bool,
}

impl Facts {
    /// Nothing is known yet.
    pub(super) const fn unseen(add: AddSegment, seal: SealSegment) -> Self {
        Self {
            add,
            seal,
            findings: Vec::new(),
            records: 0,
            bytes: 0,
            said: Said::Nothing,
            used_bits: 0,
            is_passing: true,
        }
    }
}

/// A segment being looked at.
pub(super) struct Sealed<'a> {
    store: &'a Store<'a>,
    path: PathBuf,
    facts: Facts,
}

/// Looks at a sealed segment; `reads`: at its records too.
pub(super) fn check(
    store: &Store<'_>,
    listed: Option<Listed>,
    (add, seal): (AddSegment, SealSegment),
    reads: bool,
) -> Facts {
    let facts = Facts { is_passing: false, ..Facts::unseen(add, seal) };
    let mut sealed = Sealed { store, path: store.home.segment(add.id), facts };
    if let Some(file) = sealed.open(listed)
        && let Err(error) = sealed.look(file.as_ref(), reads)
    {
        sealed.find(Code::Unreadable, None, &error);
        sealed.facts.is_passing = true;
    }
    sealed.facts
}

impl Sealed<'_> {
    fn find(&mut self, code: Code, offset: Option<u64>, message: &dyn std::fmt::Display) {
        self.facts.findings.push(Finding::new(code, &self.path, offset, message));
    }

    fn open(&mut self, listed: Option<Listed>) -> Option<Arc<dyn File>> {
        match open(self.store, &self.path, listed) {
            Ok(file) => Some(file),
            Err(finding) => {
                self.facts.is_passing = true;
                self.facts.findings.extend(finding);
                None
            }
        }
    }

    fn look(&mut self, file: &dyn File, reads: bool) -> io::Result<()> {
        let (add, seal) = (self.facts.add, self.facts.seal);
        let length = file.bytes()?;
        // I2: a sealed segment has exactly the length that the manifest tells.
        if length != seal.file_bytes {
            let message = format!("{length} bytes instead of {}", seal.file_bytes);
            self.find(Code::SegmentLength, Some(length.min(seal.file_bytes)), &message);
        }
        let findings = header(file, &add, &self.store.loaded.header.store_id, &self.path)?;
        self.facts.findings.extend(findings);
        if length.max(seal.file_bytes) > FILE_BYTES_MAX {
            self.find(Code::SegmentLength, Some(FILE_BYTES_MAX), &"longer than any segment is");
            return Ok(());
        }
        self.count(SEGMENT_HEADER_BYTES as u64);
        let footer = self.footer(file, length, reads)?;
        if reads {
            self.records(file, length, footer.as_ref())?;
        }
        Ok(())
    }

    /// So many bytes of the file were read.
    fn count(&mut self, bytes: u64) {
        self.facts.bytes += bytes;
        self.store.meter.add(bytes);
    }

    /// The footer, if it is sound in itself. A segment that was adopted without one says so by a checksum of zero.
    fn footer(&mut self, file: &dyn File, length: u64, keep: bool) -> io::Result<Option<Footer>> {
        let (add, seal) = (self.facts.add, self.facts.seal);
        if seal.trailer_checksum == 0 {
            return Ok(None);
        }
        if length < seal.file_bytes {
            self.find(Code::FooterDamaged, Some(length), &"the file ends before it, or within it");
            return Ok(None);
        }
        let footer = match footer::read(file, (&add, &seal), keep, self.store.groups)? {
            Ok(footer) => footer,
            Err((offset, message)) => {
                self.find(Code::FooterDamaged, Some(offset), &message);
                return Ok(None);
            }
        };
        self.count(seal.file_bytes - seal.records_end);
        let trailer = &footer.trailer;
        let in_manifest = (seal.entries, seal.tombstones, seal.not_fresh, seal.sequence_max);
        let in_footer =
            (trailer.entries, trailer.tombstones, trailer.not_fresh, trailer.sequence_max);
        let expiries = (seal.expiry_min, seal.expiry_max);
        if in_manifest != in_footer || expiries != (trailer.expiry_min, trailer.expiry_max) {
            self.find(
                Code::FooterWrong,
                None,
                &"the manifest has other counts or limits than the footer",
            );
        }
        self.facts.used_bits = footer.used_bits;
        Ok(Some(footer))
    }

    fn records(&mut self, file: &dyn File, length: u64, footer: Option<&Footer>) -> io::Result<()> {
        let (add, seal) = (self.facts.add, self.facts.seal);
        let sought = Sought {
            end: seal.records_end.min(length),
            salt: add.salt,
            after: SequenceNumber(0),
            values: Values::Verify,
        };
        let mut scanner = Scanner::new(file, sought, self.store.hasher);
        let mut comparison = Comparison::new(footer);
        let mut is_damaged = length < seal.records_end;
        let mut counted = scanner.at();
        while let Some(found) = scanner.next()? {
            is_damaged |= self.record(&found, &mut comparison);
            // In steps, so that counting costs nothing.
            if scanner.at() - counted >= 256 << 10 {
                self.count(scanner.at() - counted);
                counted = scanner.at();
                if self.store.meter.is_stopped() {
                    return Ok(());
                }
            }
        }
        self.count(scanner.at() - counted);
        let sum = scanner.sum()?;
        if let (Some(footer), false) = (footer, is_damaged) {
            match comparison.end(sum) {
                Some((offset, message)) => self.find(Code::FooterWrong, offset, &message),
                None => {
                    let sequence_min = footer.trailer.sequence_min;
                    let starts = footer.starts.clone();
                    self.facts.said = Said::Footer { sequence_min, starts };
                    return Ok(());
                }
            }
        }
        // The footer is no help: what was found sound counts.
        let mut entries =
            sound_entries(file, sought, self.store, self.facts.seal.trailer_checksum != 0)?;
        entries.sort_unstable_by_key(|entry| (entry.hash, entry.sequence));
        self.facts.said = Said::Entries(entries);
        Ok(())
    }

    /// Whether this is damage.
    fn record(&mut self, found: &Found, comparison: &mut Comparison<'_>) -> bool {
        let met = match found {
            Found::Record(met) if met.record.sound => met,
            Found::Record(met) => {
                let message = "the value of this record does not match its checksum";
                self.find(Code::RecordDamaged, Some(met.record.offset), &message);
                return true;
            }
            // In a segment that was adopted without its footer, space that was never written is left.
            Found::Gap(gap) if gap.is_unwritten && !comparison.has_footer() => return false,
            Found::Gap(gap) => {
                let message = format!("no sound record stands in these {} bytes", gap.bytes);
                self.find(Code::RecordDamaged, Some(gap.offset), &message);
                return true;
            }
        };
        self.facts.records += u64::from(met.is_of_a_key());
        comparison.show(met);
        false
    }
}

/// Opens the file of a segment that the manifest names; `Err` is why not.
pub(super) fn open(
    store: &Store<'_>,
    path: &Path,
    listed: Option<Listed>,
) -> Result<Arc<dyn File>, Option<Finding>> {
    let missing = || Finding::new(Code::SegmentMissing, path, None, "missing");
    let Some(listed) = listed else { return Err(Some(missing())) };
    if listed.kind != PathKind::File {
        // Said already, with all names of the directory.
        return Err(None);
    }
    store.home.disk.open(path, Access::Read).map_err(|error| {
        Some(match error.kind() {
            io::ErrorKind::NotFound => missing(),
            _ => Finding::new(Code::Unreadable, path, None, error),
        })
    })
}

/// What is wrong with the header of a segment.
pub(super) fn header(
    file: &dyn File,
    add: &AddSegment,
    store_id: &[u8; 16],
    path: &Path,
) -> io::Result<Option<Finding>> {
    let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
    let read = read_up_to_at(file, &mut bytes, 0)?;
    Ok(match SegmentHeader::decode(&bytes[..read]) {
        Ok(header) if header.store_id != *store_id => Some(Finding::new(
            Code::SegmentMisplaced,
            path,
            Some(16),
            "it belongs to another store",
        )),
        Ok(header) if AddSegment::from(&header) != *add => {
            let message = format!("it is segment {}, or not as the manifest has it", header.id);
            Some(Finding::new(Code::SegmentMisplaced, path, Some(32), message))
        }
        Ok(_) => None,
        Err(fault) => Some(Finding::new(Code::HeaderDamaged, path, Some(fault.at), fault.damage)),
    })
}

/// The entries of the sound records, and where there are none: what a footer would say if it could be read. Unless the
/// segment is known to have been sealed (`is_committed`), records of a batch without its marker do not count.
fn sound_entries(
    file: &dyn File,
    sought: Sought,
    store: &Store<'_>,
    is_committed: bool,
) -> io::Result<Vec<FooterEntry>> {
    let mut scanner = Scanner::new(file, sought, store.hasher);
    let mut entries = Vec::new();
    let mut batches = Batches::default();
    while let Some(found) = scanner.next()? {
        let Found::Record(met) = found else { continue };
        if !met.record.sound {
            continue;
        }
        if let Some(kept) = batches.show(&met.record, entries.len()).filter(|_| !is_committed) {
            entries.truncate(kept);
        }
        entries.extend(met.entry());
    }
    if let Some(kept) = batches.end().filter(|_| !is_committed) {
        entries.truncate(kept);
    }
    Ok(entries)
}
