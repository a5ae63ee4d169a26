//! The bodies, one per format.

use tierce_engine::format::{
    FORMAT_MINOR,
    checkpoint::{
        CHECKPOINT_HEADER_BYTES, CheckpointHeader, CheckpointSegment, CheckpointTouch,
        SECTION_CUTS, SECTION_END, SECTION_SEGMENTS, SECTION_TOUCHES, decode_cuts, decode_sections,
        encode_cut, encode_section,
    },
    checksum::{checksum, checksum_from, seed},
    file_name::{self as names, FileName},
    footer::{
        FOOTER_TRAILER_BYTES, FooterDraft, FooterEntries, FromAddress, Trailer, encode_footer,
    },
    manifest::{
        Edit, FRAME_BYTES, Frame, MANIFEST_HEADER_BYTES, ManifestHeader, decode_frame,
        encode_frame, frame_seed,
    },
    record::{
        Commit, Decoded, Draft, Flags, Head, Kind, claimed_bytes, decode_head, encode, stamp,
        verify_value,
    },
    segment_header::{SEGMENT_HEADER_BYTES, SEGMENT_MAGIC, SegmentHeader, newer_major},
};

use crate::fields::{assert_modest, number, set, span};

/// Where the records of these inputs stand.
const SALT: u64 = 0x5eed;
/// Likewise.
const OFFSET: u64 = 4096;

/// Any bytes at the place of a record.
pub fn decode_record(bytes: &[u8]) {
    record(bytes);
    let Some(claimed) = claimed_bytes(bytes) else {
        return;
    };
    let mut sound = bytes.to_vec();
    let end = usize::try_from(claimed).unwrap_or(usize::MAX).min(sound.len());
    let head_bytes = head_bytes(&sound).min(end);
    let value = checksum(span(&sound, head_bytes, end));
    set(&mut sound, 12, &value.to_le_bytes());
    let head = checksum_from(seed(SALT, OFFSET), span(&sound, 4, head_bytes));
    set(&mut sound, 0, &head.to_le_bytes());
    record(&sound);
}

/// Bytes of the head that `record` claims to have.
fn head_bytes(record: &[u8]) -> usize {
    let flags = Flags(record.get(5).copied().unwrap_or_default());
    let mut bytes = 24;
    if flags.has(Flags::EXPIRES) {
        bytes += 8;
    }
    if flags.has(Flags::EXTENDED) {
        bytes += 8 + number::<2>(record, bytes) as usize;
    }
    bytes + number::<2>(record, 6) as usize
}

fn record(bytes: &[u8]) {
    let Ok(Decoded::Head(head)) = decode_head(bytes, SALT, OFFSET) else {
        return;
    };
    assert!(head.record_bytes <= bytes.len() as u64, "{head:?} is longer than its bytes");
    assert_eq!(head.record_bytes % 8, 0, "{head:?} is not aligned");
    assert_eq!(claimed_bytes(bytes), Some(head.record_bytes), "two answers for one length");
    if let Some(extension) = head.extension {
        let items: usize = extension.items().map(|(_, bytes)| bytes.len() + 2).sum();
        assert_eq!(items, extension.items.len(), "items were lost");
        assert!(extension.scopes().all(|name| !name.is_empty()), "a scope without a name");
        let _ = extension.touched();
    }
    let Ok(value) = verify_value(bytes, &head) else {
        return;
    };
    assert_eq!(value.len(), head.value_bytes as usize);
    if head.kind == Some(Kind::Commit)
        && let Ok(commit) = Commit::decode(value)
    {
        assert_eq!(commit.encode(), value);
    }
    write_again(bytes, &head, value);
}

/// A record of a known kind with zeros for padding is written again byte for byte.
fn write_again(bytes: &[u8], head: &Head<'_>, value: &[u8]) {
    let end = usize::try_from(head.record_bytes).unwrap_or(usize::MAX);
    let padding = span(bytes, head.head_bytes + value.len(), end);
    let Some(kind) = head.kind.filter(|_| padding.iter().all(|&byte| byte == 0)) else {
        return;
    };
    let draft = Draft {
        kind,
        flags: head.flags,
        key: head.key,
        value,
        expires_at: head.expires_at,
        extension: head.extension,
    };
    let mut again = Vec::new();
    let head_bytes = encode(&draft, &mut again);
    assert_eq!(head_bytes, head.head_bytes);
    let head_checksum = stamp(&mut again, head_bytes, head.sequence, head.flags, SALT, OFFSET);
    assert_eq!(head_checksum, head.head_checksum);
    assert_eq!(again, span(bytes, 0, end), "{head:?} changes when written again");
}

/// Any bytes at the start of a segment.
pub fn decode_segment_header(bytes: &[u8]) {
    segment_header(bytes);
    let mut sound = bytes.to_vec();
    sound.resize(SEGMENT_HEADER_BYTES, 0);
    set(&mut sound, 0, &SEGMENT_MAGIC);
    put_checksum(&mut sound, SEGMENT_HEADER_BYTES);
    segment_header(&sound);
}

/// Puts the checksum of a header of `length` bytes into its last four.
fn put_checksum(bytes: &mut [u8], length: usize) {
    let sum = checksum(span(bytes, 0, length - 4));
    set(bytes, length - 4, &sum.to_le_bytes());
}

fn segment_header(bytes: &[u8]) {
    let _ = newer_major(bytes, SEGMENT_MAGIC);
    let Ok(header) = SegmentHeader::decode(bytes) else {
        return;
    };
    assert_modest(header.parents.capacity() * 8, bytes.len());
    let again = header.encode();
    assert_eq!(SegmentHeader::decode(&again).as_ref(), Ok(&header));
    let unused = span(bytes, 104 + header.parents.len() * 8, SEGMENT_HEADER_BYTES - 4);
    let minor = number::<2>(bytes, 10);
    if minor == u64::from(FORMAT_MINOR) && unused.iter().all(|&byte| byte == 0) {
        assert_eq!(again, span(bytes, 0, SEGMENT_HEADER_BYTES));
    }
}

/// Any bytes at the end of a segment: the body of a footer, then its trailer.
pub fn decode_footer(bytes: &[u8]) {
    footer(bytes);
    let Some(body_bytes) = bytes.len().checked_sub(FOOTER_TRAILER_BYTES) else {
        return;
    };
    let mut sound = bytes.to_vec();
    let body = checksum(span(bytes, 0, body_bytes));
    if let Some(trailer) = sound.get_mut(body_bytes..) {
        set(trailer, 0, b"TIERCEFT\x01\0");
        set(trailer, 88, &body.to_le_bytes());
        put_checksum(trailer, FOOTER_TRAILER_BYTES);
    }
    footer(&sound);
}

fn footer(bytes: &[u8]) {
    let Some(body_bytes) = bytes.len().checked_sub(FOOTER_TRAILER_BYTES) else {
        return;
    };
    let (body, tail) = bytes.split_at(body_bytes);
    let file_bytes = number::<8>(tail, 16).saturating_add(bytes.len() as u64);
    let Ok(trailer) = Trailer::decode(tail, file_bytes) else {
        return;
    };
    assert_eq!(trailer.encode(), tail, "a trailer changes when written again");
    let Ok(view) = FooterEntries::decode(body, &trailer) else {
        return;
    };
    assert_eq!(view.len(), trailer.entries as usize);
    let entries: Vec<_> = view.iter().collect();
    assert_eq!(entries.len(), view.len(), "an entry was checked and cannot be read");
    for entry in &entries {
        assert!(view.lower_bound(entry.hash) <= view.len());
    }
    let from: Vec<FromAddress> = (0..view.len()).filter_map(|at| view.from_address(at)).collect();
    assert_eq!(from.len(), if trailer.has_from { view.len() } else { 0 });
    let is_sorted = entries.is_sorted_by(|a, b| (a.hash, a.sequence) < (b.hash, b.sequence));
    if is_sorted && trailer.extension_bytes == 0 {
        let draft = FooterDraft { trailer, entries, from };
        let (again, completed) = encode_footer(draft);
        // The counts and the least sequence number follow from the entries: only when they are right is the
        // footer one that we would write.
        if completed == trailer {
            assert_eq!(again, bytes, "a footer changes when written again");
        }
    }
}

/// Any bytes in place of a manifest.
pub fn decode_manifest(bytes: &[u8]) {
    manifest(bytes);
    let mut sound = bytes.to_vec();
    set(&mut sound, 0, b"TIERCEMF\x01\0");
    if sound.len() >= MANIFEST_HEADER_BYTES {
        put_checksum(&mut sound, MANIFEST_HEADER_BYTES);
    }
    let generation = number::<8>(&sound, 48);
    let mut at = MANIFEST_HEADER_BYTES;
    while at + FRAME_BYTES <= sound.len() {
        let payload = number::<4>(&sound, at + 4) as usize;
        let end = (at + FRAME_BYTES + payload).next_multiple_of(8).min(sound.len());
        let sum = checksum_from(frame_seed(generation, at as u64), span(&sound, at + 4, end));
        set(&mut sound, at, &sum.to_le_bytes());
        at = end;
    }
    manifest(&sound);
}

fn manifest(bytes: &[u8]) {
    let Ok(header) = ManifestHeader::decode(bytes) else {
        return;
    };
    if number::<2>(bytes, 10) == u64::from(FORMAT_MINOR) {
        assert_eq!(header.encode(), span(bytes, 0, MANIFEST_HEADER_BYTES));
    }
    let mut at = MANIFEST_HEADER_BYTES;
    while let Ok(frame) = decode_frame(span(bytes, at, bytes.len()), header.generation, at as u64) {
        assert!(frame.bytes >= FRAME_BYTES as u64 && frame.bytes % 8 == 0, "{frame:?}");
        let length = usize::try_from(frame.bytes).unwrap_or(usize::MAX);
        assert!(length <= bytes.len() - at, "{frame:?} is longer than its bytes");
        assert_modest(memory_of(&frame), length);
        frame_again(&frame, header.generation, at as u64);
        at += length;
    }
}

/// What a frame keeps in memory.
fn memory_of(frame: &Frame) -> usize {
    let inside = |edit: &Edit| match edit {
        Edit::Replace { inputs, outputs, .. } => (inputs.capacity() + outputs.capacity()) * 8,
        Edit::Property { name, value } => name.capacity() + value.capacity(),
        _ => 0,
    };
    frame.edits.capacity() * size_of::<Edit>() + frame.edits.iter().map(inside).sum::<usize>()
}

/// A decoded frame says the same after it was written again, and is then written the one way.
fn frame_again(frame: &Frame, generation: u64, offset: u64) {
    let mut once = Vec::new();
    encode_frame(&frame.edits, generation, frame.number, offset, &mut once);
    let again = decode_frame(&once, generation, offset).expect("a frame of ours decodes");
    assert_eq!((again.number, &again.edits), (frame.number, &frame.edits));
    assert_eq!(again.bytes, once.len() as u64);
    let mut twice = Vec::new();
    encode_frame(&again.edits, generation, again.number, offset, &mut twice);
    assert_eq!(once, twice);
}

/// Any bytes in place of a checkpoint.
pub fn decode_checkpoint(bytes: &[u8]) {
    checkpoint(bytes);
    let mut sound = bytes.to_vec();
    set(&mut sound, 0, b"TIERCECP\x01\0");
    if sound.len() >= CHECKPOINT_HEADER_BYTES {
        put_checksum(&mut sound, CHECKPOINT_HEADER_BYTES);
    }
    let sections = sound.split_off(CHECKPOINT_HEADER_BYTES.min(sound.len()));
    sound.extend(sections_with_checksums(&sections));
    checkpoint(&sound);
}

/// The sections, each with the checksum that its writer would give it, cut where they stop to make sense.
fn sections_with_checksums(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at + 16 <= bytes.len() {
        let kind = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let length = usize::try_from(number::<8>(bytes, at + 8)).unwrap_or(usize::MAX);
        let end = length.min(bytes.len() - at - 16) + at + 16;
        encode_section(kind, span(bytes, at + 16, end), &mut out);
        if kind == SECTION_END {
            return out;
        }
        at = end.next_multiple_of(8);
    }
    encode_section(SECTION_END, &[], &mut out);
    out
}

fn checkpoint(bytes: &[u8]) {
    if let Ok(header) = CheckpointHeader::decode(bytes)
        && number::<2>(bytes, 10) == u64::from(FORMAT_MINOR)
    {
        assert_eq!(header.encode(), span(bytes, 0, CHECKPOINT_HEADER_BYTES));
    }
    let Ok(sections) = decode_sections(span(bytes, CHECKPOINT_HEADER_BYTES, bytes.len())) else {
        return;
    };
    assert_modest(sections.capacity() * size_of::<(u16, &[u8])>(), bytes.len());
    for (kind, content) in sections {
        rows(kind, content);
    }
}

/// The rows of a section that can be read are written again byte for byte.
fn rows(kind: u16, content: &[u8]) {
    let mut again = Vec::new();
    match kind {
        SECTION_SEGMENTS => {
            let Ok(rows) = CheckpointSegment::decode_all(content) else {
                return;
            };
            assert_modest(rows.capacity() * size_of::<CheckpointSegment>(), content.len());
            rows.iter().for_each(|row| row.encode(&mut again));
        }
        SECTION_CUTS => {
            let Ok(rows) = decode_cuts(content) else {
                return;
            };
            assert_modest(rows.capacity() * 24, content.len());
            rows.iter().for_each(|(sequence, name)| encode_cut(*sequence, name, &mut again));
        }
        SECTION_TOUCHES => {
            let Ok(rows) = CheckpointTouch::decode_all(content) else {
                return;
            };
            assert_modest(rows.capacity() * size_of::<CheckpointTouch>(), content.len());
            rows.iter().for_each(|row| row.encode(&mut again));
        }
        _ => return,
    }
    assert_eq!(again, content, "rows of section {kind} change when written again");
}

/// Any text in place of a file's name.
pub fn file_name(bytes: &[u8]) {
    let name = String::from_utf8_lossy(bytes);
    let spelled = match FileName::parse(&name) {
        None => return,
        Some(FileName::Lock) => names::LOCK.to_owned(),
        Some(FileName::Manifest) => names::MANIFEST.to_owned(),
        Some(FileName::Ballast) => names::BALLAST.to_owned(),
        Some(FileName::Segment(id)) => names::segment(id),
        Some(FileName::Checkpoint(number)) => names::checkpoint(number),
        Some(FileName::Quarantine(id)) => names::quarantine(id),
        Some(FileName::Temporary) => {
            assert!(name.ends_with(".tmp"), "{name:?} is not a name of an unfinished file");
            return;
        }
    };
    assert_eq!(spelled, name, "one thing has two names");
}
