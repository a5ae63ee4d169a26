//! Walks every invariant of a store's files that can be walked. Changes nothing, takes no lock.
//!
//! | code | severity | what |
//! |------|----------|------|
//! | C001 | problem  | the manifest is damaged |
//! | C002 | note     | the manifest ends in an unfinished frame |
//! | C010 | problem  | a segment is missing |
//! | C011 | problem  | a sealed segment has the wrong length |
//! | C012 | problem  | a segment's header is damaged |
//! | C013 | problem  | a segment belongs elsewhere |
//! | C020 | problem  | a footer is damaged |
//! | C021 | problem  | a record is damaged |
//! | C022 | problem  | a footer does not say what the records say |
//! | C030 | note     | the log ends in an unfinished write |
//! | C031 | problem  | records that had been synced are gone |
//! | C040 | note     | a segment that the manifest does not name |
//! | C041 | note     | an unfinished file |
//! | C042 | note     | a file that was set aside because of damage |
//! | C050 | problem  | the checkpoint is missing or damaged |
//! | C051 | problem  | the checkpoint does not say what the records say |

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    checkpoint,
    error::{Corruption, Error, Result},
    format::{
        checksum::checksum,
        file_name::{self, FileName},
        footer::{FOOTER_TRAILER_BYTES, FooterEntries, FooterEntry, Trailer},
        hash::KeyHasher,
        manifest::{AddSegment, SealSegment},
        record::{Decoded, Kind, decode_head},
        segment_header::SegmentHeader,
        wire::u32_at,
    },
    index::Entry as IndexEntry,
    io::{Disk, read_file},
    segment::{
        Home, RECORDS_AT,
        manifest_file::{Loaded, proves_lost_edits, require},
        seal::entries_by_scan,
        tail::{Unsealed, judge},
    },
    types::{Location, SegmentId, SequenceNumber},
};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A healthy store may show it, after a crash for instance.
    Note,
    /// Something that had been stored is damaged or gone.
    Problem,
}

/// One thing that `check_store` noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// A stable code; see the table of this module.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The file it is about.
    pub file: PathBuf,
    /// Where in the file.
    pub offset: Option<u64>,
    /// A sentence for people.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.file.display())?;
        if let Some(offset) = self.offset {
            write!(f, " at {offset}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// Everything noticed.
    pub findings: Vec<Finding>,
    /// Segments read.
    pub segments: u64,
    /// Records with a key that were read and are sound.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Keys whose newest record is a put.
    pub entries: u64,
}

impl CheckReport {
    /// Whether nothing that had been stored is damaged or gone.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity == Severity::Note)
    }

    fn find(
        &mut self,
        code: &'static str,
        file: &Path,
        offset: Option<u64>,
        message: impl fmt::Display,
    ) {
        let severity = match code {
            "C002" | "C030" | "C040" | "C041" | "C042" => Severity::Note,
            _ => Severity::Problem,
        };
        let (file, message) = (file.to_owned(), message.to_string());
        self.findings.push(Finding { code, severity, file, offset, message });
    }
}

/// The newest record seen of each key.
type Newest = HashMap<Vec<u8>, (SequenceNumber, Kind, (SegmentId, u64))>;

struct Check {
    home: Home,
    loaded: Loaded,
    files: BTreeMap<FileName, PathBuf>,
    report: CheckReport,
    newest: Newest,
}

/// Checks the store at `path`: every checksum, every length, and whether manifest, footers, records and checkpoint
/// agree. Cost: reads every byte of the store once; memory grows with the count of keys.
///
/// # Errors
/// [`Error::NotAStore`], [`Error::UnknownFormat`], [`Error::Io`]. Damage is no error here but a finding.
pub fn check_store(disk: &Arc<dyn Disk>, path: &Path) -> Result<CheckReport> {
    let home = Home { disk: Arc::clone(disk), dir: path.to_owned() };
    let mut report = CheckReport::default();
    let loaded = match require(&home) {
        Ok(loaded) => loaded,
        Err(Error::Corruption(Corruption { file, offset, damage })) => {
            report.find("C001", &file, Some(offset), damage);
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    let listed = disk.list(path).map_err(|source| Error::io("list", path, source))?;
    let name = |entry: &crate::io::DirectoryEntry| {
        Some((FileName::parse(&entry.name)?, home.path(&entry.name)))
    };
    let files = listed.iter().filter_map(name).collect();
    let mut check = Check { home, loaded, files, report, newest: Newest::new() };
    check.manifest();
    check.leftovers();
    check.segments()?;
    check.checkpoint();
    check.report.entries = check.newest.values().filter(|n| n.1 == Kind::Put).count() as u64;
    Ok(check.report)
}

impl Check {
    fn manifest(&mut self) {
        let path = self.home.path(file_name::MANIFEST);
        if let Some(fault) = &self.loaded.damaged {
            self.report.find("C001", &path, Some(fault.at), &fault.damage);
        }
        if let Some((offset, bytes)) = self.loaded.torn {
            let message = format!("{bytes} bytes of an unfinished edit");
            self.report.find("C002", &path, Some(offset), message);
        }
    }

    fn leftovers(&mut self) {
        let Loaded { header, state, .. } = &self.loaded;
        let valid = state.checkpoint.map(|(number, _)| number);
        for (name, path) in &self.files {
            match name {
                FileName::Segment(id) if !state.segments.contains_key(id) => {
                    if proves_lost_edits(&self.home, header, state, *id) {
                        let manifest = self.home.path(file_name::MANIFEST);
                        let message = format!("it must have named {} once", path.display());
                        self.report.find("C001", &manifest, None, message);
                    }
                    self.report.find("C040", path, None, "not named by the manifest");
                }
                FileName::Temporary => self.report.find("C041", path, None, "unfinished"),
                FileName::Checkpoint(number) if Some(*number) != valid => {
                    self.report.find("C041", path, None, "an older or unfinished checkpoint");
                }
                FileName::Quarantine(_) => {
                    self.report.find("C042", path, None, "set aside because of damage");
                }
                _ => {}
            }
        }
    }

    fn segments(&mut self) -> Result<()> {
        let mut unsealed = Vec::new();
        let mut durable = SequenceNumber::default();
        for (id, state) in self.loaded.state.segments.clone() {
            let path = self.home.segment(id);
            let bytes = match read_file(self.home.disk.as_ref(), &path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    self.report.find("C010", &path, None, "missing");
                    continue;
                }
                Err(source) => return Err(Error::io("read", path, source)),
            };
            self.report.segments += 1;
            self.report.bytes += bytes.len() as u64;
            self.header(&bytes, &state.add, &path);
            match state.seal {
                Some(seal) => {
                    durable = durable.max(seal.sequence_max);
                    self.sealed(&bytes, &state.add, &seal, &path);
                }
                None => unsealed.push(Unsealed { add: state.add, path, bytes }),
            }
        }
        self.tail(&unsealed, durable);
        Ok(())
    }

    fn header(&mut self, bytes: &[u8], add: &AddSegment, path: &Path) {
        match SegmentHeader::decode(bytes) {
            Ok(header) => {
                let is_ours = header.id == add.id
                    && header.salt == add.salt
                    && header.store_id == self.loaded.header.store_id;
                if !is_ours {
                    self.report.find("C013", path, Some(0), "it belongs elsewhere");
                }
            }
            Err(fault) => self.report.find("C012", path, Some(fault.at), fault.damage),
        }
    }

    fn hasher(&self) -> KeyHasher {
        KeyHasher::new(self.loaded.header.hash_seed)
    }

    fn sealed(&mut self, bytes: &[u8], add: &AddSegment, seal: &SealSegment, path: &Path) {
        // I2: a sealed segment has exactly the length that the manifest tells.
        if bytes.len() as u64 != seal.file_bytes {
            let message = format!("{} bytes instead of {}", bytes.len(), seal.file_bytes);
            self.report.find("C011", path, None, message);
        }
        let (entries, damaged) = entries_by_scan(bytes, seal.records_end, add.salt, self.hasher());
        for offset in &damaged {
            self.report.find("C021", path, Some(*offset), "no sound record stands here");
        }
        self.count(bytes, add, &entries);
        // A segment that was adopted without its footer says so by a checksum of zero.
        if seal.trailer_checksum == 0 {
            return;
        }
        match footer_of(bytes, seal) {
            Ok((trailer, said)) => {
                let start = usize::try_from(RECORDS_AT).unwrap_or_default();
                let end = usize::try_from(seal.records_end).unwrap_or(usize::MAX);
                let sum = bytes.get(start..end).map(checksum);
                if sum != Some(trailer.records_checksum) && damaged.is_empty() {
                    self.report.find("C021", path, None, "the records are not those of the footer");
                }
                if damaged.is_empty() && !says_the_same(said, entries) {
                    self.report.find(
                        "C022",
                        path,
                        None,
                        "the footer's entries are not the records",
                    );
                }
            }
            Err((offset, message)) => self.report.find("C020", path, Some(offset), message),
        }
    }

    fn count(&mut self, bytes: &[u8], add: &AddSegment, entries: &[FooterEntry]) {
        self.report.records += entries.len() as u64;
        for entry in entries {
            if !matches!(entry.kind, Kind::Put | Kind::Delete) {
                continue;
            }
            let at = usize::try_from(entry.offset).unwrap_or(usize::MAX);
            let rest = bytes.get(at..).unwrap_or_default();
            let Ok(Decoded::Head(head)) = decode_head(rest, add.salt, entry.offset) else {
                continue;
            };
            let this = (entry.sequence, entry.kind, (add.id, entry.offset));
            let newest = self.newest.entry(head.key.to_vec()).or_insert(this);
            if newest.0 < entry.sequence {
                *newest = this;
            }
        }
    }

    fn tail(&mut self, unsealed: &[Unsealed], durable: SequenceNumber) {
        let tail = judge(unsealed, durable);
        for corruption in tail.damaged {
            let Corruption { file, offset, damage } = corruption;
            self.report.find("C031", &file, Some(offset), damage);
        }
        for (found, kept) in unsealed.iter().zip(tail.kept) {
            if let Some((offset, bytes)) = kept.torn {
                let message = format!("{bytes} bytes of an unfinished write");
                self.report.find("C030", &found.path, Some(offset), message);
            }
            let mut file = vec![0; usize::try_from(RECORDS_AT).unwrap_or_default()];
            file.extend_from_slice(&kept.image);
            let (entries, _) =
                entries_by_scan(&file, file.len() as u64, found.add.salt, self.hasher());
            self.count(&file, &found.add, &entries);
        }
    }

    fn checkpoint(&mut self) {
        let Some((number, sequence)) = self.loaded.state.checkpoint else { return };
        let path = self.home.path(&file_name::checkpoint(number));
        let header = self.loaded.header;
        let loaded = match checkpoint::load(&self.home, number, header.store_id, header.hash_seed) {
            Ok(loaded) => loaded,
            Err(reason) => return self.report.find("C050", &path, None, reason),
        };
        let is_whole = self.loaded.state.clean && self.report.is_healthy();
        if !is_whole || loaded.sequence != sequence {
            return;
        }
        let mut puts: BTreeMap<(SegmentId, u64), bool> = self
            .newest
            .values()
            .filter(|newest| newest.1 == Kind::Put)
            .map(|newest| (newest.2, false))
            .collect();
        let id_of: HashMap<_, _> = loaded.segments.iter().map(|row| (row.slot, row.id)).collect();
        for words in loaded.shards().flat_map(|(_, words)| words) {
            let Location { slot, offset } = IndexEntry::unpack(words).location;
            let id = id_of.get(&slot.0).copied().unwrap_or(SegmentId(u64::MAX));
            match puts.get_mut(&(id, offset)) {
                Some(seen) => *seen = true,
                None => {
                    let message = format!(
                        "an entry points to {offset} of segment {id}, where no newest put is"
                    );
                    return self.report.find("C051", &path, None, message);
                }
            }
        }
        if let Some(((id, offset), _)) = puts.iter().find(|(_, seen)| !**seen) {
            let message = format!("the put at {offset} of segment {id} has no entry");
            self.report.find("C051", &path, None, message);
        }
    }
}

/// The footer of a sealed segment's bytes, checked against the manifest's word.
fn footer_of(
    bytes: &[u8],
    seal: &SealSegment,
) -> std::result::Result<(Trailer, Vec<FooterEntry>), (u64, String)> {
    let split = bytes
        .len()
        .checked_sub(FOOTER_TRAILER_BYTES)
        .ok_or_else(|| (0, "the file ends too early".to_owned()))?;
    let fault = |base: u64| {
        move |fault: crate::error::DecodeError| (base + fault.at, fault.damage.to_string())
    };
    let trailer =
        Trailer::decode(&bytes[split..], bytes.len() as u64).map_err(fault(split as u64))?;
    if u32_at(&bytes[split..], 124) != Some(seal.trailer_checksum) {
        return Err((split as u64, "it is not the footer that was sealed".to_owned()));
    }
    let start = usize::try_from(trailer.records_end).unwrap_or(usize::MAX);
    let body = bytes.get(start..split).unwrap_or_default();
    let entries = FooterEntries::decode(body, &trailer).map_err(fault(trailer.records_end))?;
    Ok((trailer, entries.iter().collect()))
}

/// Whether a footer's entries are those of the records. Hashes are compared in the bits that the footer uses: a test
/// may have weakened them.
fn says_the_same(mut said: Vec<FooterEntry>, mut found: Vec<FooterEntry>) -> bool {
    let used = said.iter().fold(0, |bits, entry| bits | entry.hash);
    let mask = u64::MAX.checked_shr(used.leading_zeros()).unwrap_or(0);
    found.iter_mut().for_each(|entry| entry.hash &= mask);
    said.sort_unstable_by_key(|entry| entry.sequence);
    found.sort_unstable_by_key(|entry| entry.sequence);
    said == found
}
