//! Stores whose files are each sound and do not agree: made with the format's own encoders.

use std::path::{Path, PathBuf};

use tierce_engine::{
    Durability,
    format::{
        checkpoint::{
            CHECKPOINT_HEADER_BYTES, SECTION_END, SECTION_ENTRIES, decode_sections, encode_section,
        },
        footer::{FOOTER_TRAILER_BYTES, FooterDraft, FooterEntries, Trailer, encode_footer},
        manifest::{Edit, ManifestHeader, decode_frame, encode_frame},
    },
    io::MemoryDisk,
};
use tierce_kit::store::{STORE, Setup};

use super::{Files, has_suffix, options};

pub(super) fn closed() -> (Setup, Files) {
    let setup = Setup { automatic: false, ..Setup::new(Durability::Sync) };
    let disk = MemoryDisk::new();
    let engine = options(&setup, &disk).open(STORE).unwrap();
    engine.put("key", "value").unwrap();
    engine.put("other", "value").unwrap();
    engine.close().unwrap();
    (setup, disk.files())
}

pub(super) fn file(files: &Files, suffix: &str) -> PathBuf {
    files.keys().find(|path| has_suffix(path, suffix)).expect("it is there").clone()
}

/// The footer of the only segment has other flags for its records; its own checksums are right, and the manifest knows
/// them.
pub(super) fn footer_of_other_records() -> (Setup, Files) {
    let (setup, mut files) = closed();
    let path = file(&files, ".seg");
    let bytes = files.get_mut(&path).unwrap();
    let split = bytes.len() - FOOTER_TRAILER_BYTES;
    let trailer = Trailer::decode(&bytes[split..], bytes.len() as u64).unwrap();
    let start = trailer.records_end as usize;
    let mut entries: Vec<_> =
        FooterEntries::decode(&bytes[start..split], &trailer).unwrap().iter().collect();
    for entry in &mut entries {
        entry.flags.0 ^= 1 << 4;
    }
    let (footer, trailer) = encode_footer(FooterDraft { trailer, entries, from: Vec::new() });
    bytes.truncate(start);
    bytes.extend(footer);
    let sum = u32::from_le_bytes(trailer.encode()[124..].try_into().unwrap());
    rewrite_manifest(&mut files, |edit| {
        if let Edit::Seal(seal) = edit {
            seal.trailer_checksum = sum;
        }
    });
    (setup, files)
}

/// An entry of the checkpoint points to a place where no record is; its own checksums are right.
pub(super) fn checkpoint_of_other_records() -> (Setup, Files) {
    /// Where, in a section of entries, the offset of the first one stands: behind shard and count, word 0, and the bits
    /// of word 1 that say how long the record is.
    const OFFSET_AT: usize = 8 + 8 + 2;
    let (setup, mut files) = closed();
    let path = file(&files, ".ckpt");
    let bytes = &files[&path];
    let mut out = bytes[..CHECKPOINT_HEADER_BYTES].to_vec();
    let mut is_changed = false;
    for (kind, content) in decode_sections(&bytes[CHECKPOINT_HEADER_BYTES..]).unwrap() {
        let mut content = content.to_vec();
        if kind == SECTION_ENTRIES && !is_changed {
            content[OFFSET_AT] ^= 1;
            is_changed = true;
        }
        encode_section(kind, &content, &mut out);
    }
    encode_section(SECTION_END, &[], &mut out);
    assert_eq!((out.len(), is_changed), (bytes.len(), true));
    files.insert(path, out);
    (setup, files)
}

/// Decodes every edit of the manifest, lets `change` at it, and writes them again.
pub(super) fn rewrite_manifest(files: &mut Files, change: impl Fn(&mut Edit)) {
    let path = Path::new(STORE).join("MANIFEST");
    let bytes = &files[&path];
    let header = ManifestHeader::decode(bytes).unwrap();
    let mut out = header.encode().to_vec();
    let (mut at, mut number) = (out.len(), 0);
    while at < bytes.len() {
        let mut frame = decode_frame(&bytes[at..], header.generation, at as u64).unwrap();
        frame.edits.iter_mut().for_each(&change);
        number += 1;
        let offset = out.len() as u64;
        encode_frame(&frame.edits, header.generation, number, offset, &mut out);
        at += frame.bytes as usize;
    }
    files.insert(path, out);
}
