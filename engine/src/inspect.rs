//! A deliberate read-only view of a store's files, for tools. Takes no lock, writes nothing, and works on a store
//! that is open, damaged, or on a read-only medium.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    error::{Error, Result},
    format::{
        FORMAT_MAJOR, FORMAT_MINOR,
        file_name::{self, FileName},
        record::{Decoded, Flags, Head, Kind, decode_head, verify_value},
        segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader},
        wire::u64_at,
    },
    io::{Access, Disk, read_file, read_up_to_at},
    segment::{Home, RECORDS_AT, manifest_file::require},
    types::{SegmentId, SequenceNumber, Timestamp},
};

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreInfo {
    /// Major version of its format.
    pub format_major: u16,
    /// Minor version of its format.
    pub format_minor: u16,
    /// The same in every file of the store.
    pub store_id: [u8; 16],
    /// When it was created.
    pub created: Timestamp,
    /// How often its manifest was replaced, counted from a random start.
    pub generation: u64,
    /// Whether it was closed properly.
    pub clean: bool,
    /// Count of segments.
    pub segments: u64,
    /// How many of them are sealed.
    pub sealed: u64,
    /// Bytes of all files of the store.
    pub bytes: u64,
    /// Least sequence number never used, as far as the manifest knows.
    pub next_sequence: SequenceNumber,
    /// Store time was at least this.
    pub high_water: Timestamp,
    /// The number of the valid checkpoint.
    pub checkpoint: Option<u64>,
    /// Files that were set aside because of damage.
    pub quarantined: u64,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentSummary {
    /// Its id.
    pub id: SegmentId,
    /// Its file.
    pub file: PathBuf,
    /// Length of the file; 0 if it is missing.
    pub bytes: u64,
    /// Whether it is sealed.
    pub sealed: bool,
    /// 0 written by users, 1 rewritten by recovery, 2 and up by compaction.
    pub class: u8,
    /// Records with a key, as its seal says; 0 while it is not sealed.
    pub records: u64,
    /// Greatest sequence number in it, as its seal says.
    pub sequence_max: SequenceNumber,
    /// Its horizon.
    pub horizon: SequenceNumber,
}

/// One record, or a range where none could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordSummary {
    /// Byte offset in the file.
    pub offset: u64,
    /// Bytes of the record.
    pub bytes: u64,
    /// put, delete, touch, commit, scope-cut or note; `None` if unknown or unreadable.
    pub kind: Option<&'static str>,
    /// Names of the flags that are set.
    pub flags: Vec<&'static str>,
    /// Order of the write.
    pub sequence: SequenceNumber,
    /// The key; of a scope cut, the scope.
    pub key: Vec<u8>,
    /// Bytes of the value.
    pub value_bytes: u32,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// Its scopes.
    pub scopes: Vec<Vec<u8>>,
    /// Its codec id.
    pub codec: u8,
    /// Its schema version.
    pub schema: u32,
    /// "ok", or what is wrong.
    pub verdict: String,
}

/// What the store at `path` says of itself.
///
/// # Errors
/// [`Error::NotAStore`], [`Error::UnknownFormat`], [`Error::Corruption`] of the manifest, [`Error::Io`].
pub fn info(disk: &Arc<dyn Disk>, path: &Path) -> Result<StoreInfo> {
    let home = Home::at(disk, path)?;
    let loaded = require(&home)?;
    let listed = disk.list(path).map_err(|source| Error::io("list", path, source))?;
    let ours = listed.iter().filter(|entry| FileName::parse(&entry.name).is_some());
    let quarantined = ours
        .clone()
        .filter(|entry| matches!(FileName::parse(&entry.name), Some(FileName::Quarantine(_))));
    let state = &loaded.state;
    Ok(StoreInfo {
        format_major: FORMAT_MAJOR,
        format_minor: FORMAT_MINOR,
        store_id: loaded.header.store_id,
        created: loaded.header.created,
        generation: loaded.header.generation,
        clean: state.clean && loaded.torn.is_none(),
        segments: state.segments.len() as u64,
        sealed: state.segments.values().filter(|s| s.seal.is_some()).count() as u64,
        quarantined: quarantined.count() as u64,
        bytes: ours.map(|entry| entry.bytes).sum(),
        next_sequence: state.next_sequence,
        high_water: state.high_water,
        checkpoint: state.checkpoint.map(|(number, _)| number),
    })
}

/// The segments of the store at `path`, oldest id first.
///
/// # Errors
/// As [`info`].
pub fn segments(disk: &Arc<dyn Disk>, path: &Path) -> Result<Vec<SegmentSummary>> {
    let home = Home::at(disk, path)?;
    let loaded = require(&home)?;
    let listed = disk.list(path).map_err(|source| Error::io("list", path, source))?;
    let bytes_of = |id| {
        let name = file_name::segment(id);
        listed.iter().find(|entry| entry.name == name).map_or(0, |entry| entry.bytes)
    };
    let summary =
        |(id, state): (&SegmentId, &crate::segment::manifest_state::SegmentState)| SegmentSummary {
            id: *id,
            file: home.segment(*id),
            bytes: bytes_of(*id),
            sealed: state.seal.is_some(),
            class: state.add.class.0,
            records: state.seal.map_or(0, |seal| u64::from(seal.entries)),
            sequence_max: state.seal.map_or(SequenceNumber::default(), |seal| seal.sequence_max),
            horizon: state.add.horizon,
        };
    Ok(loaded.state.segments.iter().map(summary).collect())
}

/// Where a segment came from, as its header says. See [`origins`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentOrigin {
    /// Its id.
    pub id: SegmentId,
    /// 0 written by users, 1 rewritten by recovery, 2 and up by compaction.
    pub class: u8,
    /// Store time when it was begun; `None` if its header cannot be read.
    pub created: Option<Timestamp>,
    /// The segments it was made from, most of which are gone; empty of those that users wrote.
    pub parents: Vec<SegmentId>,
}

/// Where the segments of the store at `path` came from, oldest id first. Costs one read of 4 KiB for each. A header that is
/// damaged or gone is no error: its fields are empty.
///
/// ```
/// use std::{path::Path, sync::Arc};
/// use tierce_engine::{Options, inspect, io::{Disk, MemoryDisk}};
/// let disk = MemoryDisk::new();
/// let engine = Options::new().disk(disk.clone()).open("store")?;
/// engine.put("k", "v")?;
/// let disk: Arc<dyn Disk> = Arc::new(disk);
/// let origins = inspect::origins(&disk, Path::new("store"))?;
/// assert!(origins[0].created.is_some() && origins[0].parents.is_empty());
/// # Ok::<(), tierce_engine::Error>(())
/// ```
///
/// # Errors
/// As [`info`].
pub fn origins(disk: &Arc<dyn Disk>, path: &Path) -> Result<Vec<SegmentOrigin>> {
    let home = Home::at(disk, path)?;
    let loaded = require(&home)?;
    let origin = |(id, state): (&SegmentId, &crate::segment::manifest_state::SegmentState)| {
        let header = read_header(&home, *id).filter(|header| header.id == *id);
        SegmentOrigin {
            id: *id,
            class: state.add.class.0,
            created: header.as_ref().map(|header| header.created),
            parents: header.map(|header| header.parents).unwrap_or_default(),
        }
    };
    Ok(loaded.state.segments.iter().map(origin).collect())
}

fn read_header(home: &Home, id: SegmentId) -> Option<SegmentHeader> {
    let file = home.disk.open(&home.segment(id), Access::Read).ok()?;
    let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
    read_up_to_at(file.as_ref(), &mut bytes, 0).ok()?;
    SegmentHeader::decode(&bytes).ok()
}

/// The records of one segment in order of offset. What cannot be read is a row too, with its verdict.
///
/// # Errors
/// [`Error::Corruption`] if the segment's header is damaged and no manifest knows its salt; [`Error::Io`].
pub fn records(disk: &Arc<dyn Disk>, path: &Path, id: SegmentId) -> Result<Vec<RecordSummary>> {
    let mut rows = Vec::new();
    each_record(disk, path, id, &mut |row, _| {
        rows.push(row);
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

/// As [`records`], one by one with the bytes of each, until `each` breaks. Holds the segment in memory, but no list.
///
/// ```
/// use std::{ops::ControlFlow, path::Path, sync::Arc};
/// use tierce_engine::{Options, inspect, io::{Disk, MemoryDisk}};
/// let disk = MemoryDisk::new();
/// let engine = Options::new().disk(disk.clone()).open("store")?;
/// engine.put("k", "v")?;
/// let disk: Arc<dyn Disk> = Arc::new(disk);
/// let segment = inspect::segments(&disk, Path::new("store"))?[0].id;
/// let mut puts = 0;
/// inspect::each_record(&disk, Path::new("store"), segment, &mut |record, bytes| {
///     puts += u32::from(record.kind == Some("put") && bytes.len() as u64 == record.bytes);
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!(puts, 1);
/// # Ok::<(), tierce_engine::Error>(())
/// ```
///
/// # Errors
/// As [`records`].
pub fn each_record(
    disk: &Arc<dyn Disk>,
    path: &Path,
    id: SegmentId,
    each: &mut dyn FnMut(RecordSummary, &[u8]) -> ControlFlow<()>,
) -> Result<()> {
    let home = Home::at(disk, path)?;
    let loaded = require(&home)?;
    let file = home.segment(id);
    let bytes =
        read_file(disk.as_ref(), &file).map_err(|source| Error::io("read", &file, source))?;
    let known = loaded.state.segments.get(&id);
    let salt = match known {
        Some(state) => state.add.salt,
        None => SegmentHeader::decode(&bytes).map_err(|fault| fault.in_file(&file, 0))?.salt,
    };
    let end =
        known.and_then(|state| state.seal).map_or(bytes.len() as u64, |seal| seal.records_end);
    // Whether it was broken off makes no difference here.
    let _ = rows(&bytes, end, salt, each);
    Ok(())
}

fn rows(
    bytes: &[u8],
    end: u64,
    salt: u64,
    each: &mut dyn FnMut(RecordSummary, &[u8]) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let end = usize::try_from(end).unwrap_or(usize::MAX).min(bytes.len());
    let records = &bytes[..end];
    let mut at = usize::try_from(RECORDS_AT).unwrap_or_default();
    while at < end {
        match decode_head(&records[at..], salt, at as u64) {
            Ok(Decoded::Head(head)) => {
                let verdict = match verify_value(&records[at..], &head) {
                    Ok(_) => "ok".to_owned(),
                    Err(fault) => fault.damage.to_string(),
                };
                let next =
                    usize::try_from(head.record_bytes).unwrap_or(usize::MAX).saturating_add(at);
                each(row(&head, at as u64, verdict), &records[at..next.min(end)])?;
                at = next;
            }
            Ok(Decoded::Unwritten) if records[at..].iter().all(|&byte| byte == 0) => break,
            Ok(Decoded::Unwritten) => {
                let zeros = (at..end).step_by(8).find(|&at| u64_at(records, at) != Some(0));
                let next = zeros.unwrap_or(end);
                let verdict = "unwritten space before a record";
                each(unreadable(at, next - at, verdict), &records[at..next])?;
                at = next;
            }
            Err(fault) => {
                let sound = |at: &usize| {
                    matches!(decode_head(&records[*at..], salt, *at as u64), Ok(Decoded::Head(_)))
                };
                let next = (at + 8..end).step_by(8).find(sound).unwrap_or(end);
                each(unreadable(at, next - at, &fault.damage.to_string()), &records[at..next])?;
                at = next;
            }
        }
    }
    ControlFlow::Continue(())
}

fn unreadable(offset: usize, bytes: usize, verdict: &str) -> RecordSummary {
    RecordSummary {
        offset: offset as u64,
        bytes: bytes as u64,
        kind: None,
        flags: Vec::new(),
        sequence: SequenceNumber::default(),
        key: Vec::new(),
        value_bytes: 0,
        expires_at: None,
        scopes: Vec::new(),
        codec: 0,
        schema: 0,
        verdict: verdict.to_owned(),
    }
}

fn row(head: &Head<'_>, offset: u64, verdict: String) -> RecordSummary {
    let names = [
        (Flags::EXPIRES, "expires"),
        (Flags::BATCH, "batch"),
        (Flags::FRESH, "fresh"),
        (Flags::COMPRESSED, "compressed"),
        (Flags::EVICTABLE, "evictable"),
        (Flags::SKIPPABLE, "skippable"),
        (Flags::EXTENDED, "extended"),
    ];
    let extension = head.extension;
    RecordSummary {
        offset,
        bytes: head.record_bytes,
        kind: head.kind.map(name_of),
        flags: names.iter().filter(|(flag, _)| head.flags.has(*flag)).map(|(_, n)| *n).collect(),
        sequence: head.sequence,
        key: head.key.to_vec(),
        value_bytes: head.value_bytes,
        expires_at: head.expires_at,
        scopes: extension.iter().flat_map(|e| e.scopes()).map(<[u8]>::to_vec).collect(),
        codec: extension.map_or(0, |extension| extension.codec),
        schema: extension.map_or(0, |extension| extension.schema),
        verdict,
    }
}

const fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Put => "put",
        Kind::Delete => "delete",
        Kind::Touch => "touch",
        Kind::Commit => "commit",
        Kind::ScopeCut => "scope-cut",
        Kind::Note => "note",
    }
}
