//! Each code has a store that shows it; each level looks at what it says; progress can break off.

use std::{ops::ControlFlow, path::PathBuf, sync::Arc};

use tierce_engine::{
    Durability, Error, SequenceNumber,
    check::{CheckLevel, CheckOptions, CheckReport, Code, Severity, Verdict, check_store_with},
    format::{
        checkpoint::{
            CHECKPOINT_HEADER_BYTES, SECTION_BYTES, SECTION_ENTRIES, SectionStart, encode_section,
        },
        file_name,
        footer::{FOOTER_TRAILER_BYTES, FooterDraft, FooterEntries, Trailer, encode_footer},
        manifest::{Edit, MANIFEST_HEADER_BYTES, ManifestHeader, SealSegment, encode_frame},
        segment_header::SEGMENT_HEADER_BYTES,
    },
    io::{Disk, MemoryDisk},
};
use tierce_kit::{
    clock::TestClock,
    store::{STORE, Setup},
};

use super::{
    Files, assert_healthy, check, check_with, codes_of, disk_of,
    shapes::{self, frames, is_sealed, name_of, path_of, records},
};

/// The files of a shape.
fn shape(name: &str) -> Files {
    shapes::all().into_iter().find(|shape| shape.name == name).unwrap().files
}

fn closed() -> Files {
    shape("closed")
}

fn crashed() -> Files {
    shape("crashed behind a checkpoint")
}

/// The sealed, or unsealed, segments among them.
fn segments(files: &Files, sealed: bool) -> Vec<PathBuf> {
    let wanted = |path: &&PathBuf| {
        let is_segment = matches!(name_of(path), Some(file_name::FileName::Segment(_)));
        is_segment && is_sealed(&files[*path]) == sealed
    };
    files.keys().filter(wanted).cloned().collect()
}

fn checkpoint(files: &Files) -> PathBuf {
    let is_checkpoint =
        |path: &&PathBuf| matches!(name_of(path), Some(file_name::FileName::Checkpoint(_)));
    files.keys().find(is_checkpoint).unwrap().clone()
}

#[track_caller]
fn assert_found(files: &Files, code: &str) -> CheckReport {
    let report = check(files).unwrap();
    let found = report.findings.iter().find(|finding| finding.code.as_str() == code);
    let found = found.unwrap_or_else(|| panic!("no {code} in {:#?}", report.findings));
    assert_eq!(found.severity, found.code.severity());
    assert!(found.to_string().starts_with(code) && !found.message.is_empty());
    let is_problem = found.severity == Severity::Problem;
    assert!(!is_problem || report.verdict() == Verdict::Problems, "{code} is a problem");
    report
}

fn edits_of(files: &Files) -> (ManifestHeader, Vec<Edit>) {
    let bytes = &files[&path_of("MANIFEST")];
    let edits = frames(bytes).into_iter().flat_map(|(_, frame)| frame.edits).collect();
    (ManifestHeader::decode(bytes).unwrap(), edits)
}

/// Writes the manifest anew with these edits.
fn rewrite(files: &mut Files, edits: &[Edit]) {
    let (header, _) = edits_of(files);
    let mut bytes = header.encode().to_vec();
    encode_frame(edits, header.generation, 1, MANIFEST_HEADER_BYTES as u64, &mut bytes);
    files.insert(path_of("MANIFEST"), bytes);
}

/// Writes the footer of a segment anew, changed, and has the manifest say so.
fn refooter(files: &mut Files, path: &PathBuf, change: impl Fn(&mut FooterDraft)) {
    let bytes = &files[path];
    let split = bytes.len() - FOOTER_TRAILER_BYTES;
    let trailer = Trailer::decode(&bytes[split..], bytes.len() as u64).unwrap();
    let start = usize::try_from(trailer.records_end).unwrap();
    let entries = FooterEntries::decode(&bytes[start..split], &trailer).unwrap();
    let mut draft = FooterDraft { trailer, entries: entries.iter().collect(), from: Vec::new() };
    change(&mut draft);
    let (footer, trailer) = encode_footer(draft);
    let mut whole = bytes[..start].to_vec();
    whole.extend_from_slice(&footer);
    let file_bytes = whole.len() as u64;
    files.insert(path.clone(), whole);
    let (_, mut edits) = edits_of(files);
    for edit in &mut edits {
        if let Edit::Seal(seal) = edit
            && seal.id == trailer.id
        {
            *seal = SealSegment {
                file_bytes,
                entries: trailer.entries,
                tombstones: trailer.tombstones,
                not_fresh: trailer.not_fresh,
                expiry_min: trailer.expiry_min,
                expiry_max: trailer.expiry_max,
                trailer_checksum: u32::from_le_bytes(trailer.encode()[124..].try_into().unwrap()),
                ..*seal
            };
        }
    }
    rewrite(files, &edits);
}

/// Writes the checkpoint's sections anew, each changed.
fn resection(files: &mut Files, change: impl Fn(u16, &mut Vec<u8>)) {
    let path = checkpoint(files);
    let bytes = &files[&path];
    let mut out = bytes[..CHECKPOINT_HEADER_BYTES].to_vec();
    let mut at = CHECKPOINT_HEADER_BYTES;
    while at < bytes.len() {
        let start = SectionStart::decode(&bytes[at..]).unwrap();
        let from = at + SECTION_BYTES;
        let length = usize::try_from(start.bytes).unwrap();
        let mut content = bytes[from..from + length].to_vec();
        change(start.kind, &mut content);
        encode_section(start.kind, &content, &mut out);
        at = from + length.next_multiple_of(8);
    }
    files.insert(path, out);
}

#[test]
fn c001_a_damaged_manifest() {
    let mut files = closed();
    files.get_mut(&path_of("MANIFEST")).unwrap()[70] ^= 1;
    assert_found(&files, "C001");
    let mut files = closed();
    files.remove(&path_of("MANIFEST"));
    assert_found(&files, "C001");
    // An id that is never given.
    let mut files = closed();
    let (_, mut edits) = edits_of(&files);
    let Some(Edit::Add(mut add)) = edits.iter().find(|e| matches!(e, Edit::Add(_))).cloned() else {
        panic!("nothing is added")
    };
    add.id.0 = 1 << 60;
    edits.push(Edit::Add(add));
    rewrite(&mut files, &edits);
    assert_found(&files, "C001");
}

#[test]
fn c002_an_unfinished_edit() {
    let mut files = crashed();
    files.get_mut(&path_of("MANIFEST")).unwrap().extend_from_slice(&[7; 12]);
    assert_healthy(&assert_found(&files, "C002"));
}

/// One bit of the last frame is no unfinished write; the end of a write that was cut short is.
#[test]
fn c001_a_bit_of_the_last_frame() {
    let files = crashed();
    let manifest = path_of("MANIFEST");
    let (last, _) = frames(&files[&manifest]).pop().unwrap();
    for (byte, code) in [(last, "C001"), (last + 20, "C001")] {
        let mut files = files.clone();
        files.get_mut(&manifest).unwrap()[byte] ^= 1;
        let report = assert_found(&files, code);
        let found = report.findings.iter().find(|finding| finding.code.as_str() == code).unwrap();
        assert_eq!(found.offset, Some(byte as u64));
    }
    let mut files = files;
    let bytes = files.get_mut(&manifest).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end] = 0;
    assert_healthy(&assert_found(&files, "C002"));
}

#[test]
fn c003_lost_edits() {
    let mut files = crashed();
    let (_, mut edits) = edits_of(&files);
    // The last segment was named in the last of these, with the floor under it.
    let last = edits.iter().rposition(|edit| matches!(edit, Edit::Add(_))).unwrap();
    edits.truncate(last);
    rewrite(&mut files, &edits);
    assert_found(&files, "C003");
}

#[test]
fn c010_to_c013_segments() {
    let files = closed();
    let all = segments(&files, true);
    let mut missing = files.clone();
    missing.remove(&all[1]);
    assert_found(&missing, "C010");
    let mut longer = files.clone();
    longer.get_mut(&all[1]).unwrap().push(0);
    assert_found(&longer, "C011");
    let mut headless = files.clone();
    headless.get_mut(&all[1]).unwrap()[200] ^= 1;
    assert_found(&headless, "C012");
    let mut swapped = files.clone();
    swapped.insert(all[1].clone(), files[&all[0]].clone());
    assert_found(&swapped, "C013");
    // A copy under a name that was never given: no crash leaves that.
    let mut copied = files;
    copied.insert(path_of("00000000000000aa.seg"), copied[&all[0]].clone());
    assert_eq!(codes_of(&assert_found(&copied, "C013")), ["C013", "C040"]);
}

#[test]
fn c020_to_c022_footers_and_records() {
    let files = closed();
    let path = &segments(&files, true)[0];
    let (placed, end) = records(&files[path]);
    let mut footer = files.clone();
    footer.get_mut(path).unwrap()[end + 3] ^= 1;
    assert_found(&footer, "C020");
    let mut record = files.clone();
    record.get_mut(path).unwrap()[placed[2].place.end - 9] ^= 1;
    let report = assert_found(&record, "C021");
    assert_eq!(report.findings[0].offset, Some(placed[2].place.start as u64));
    for change in [
        |draft: &mut FooterDraft| draft.entries.truncate(1),
        |draft: &mut FooterDraft| draft.entries[0].hash ^= 1 << 63,
        |draft: &mut FooterDraft| draft.trailer.sequence_max = SequenceNumber(999),
        |draft: &mut FooterDraft| draft.trailer.records_checksum ^= 1,
        |draft: &mut FooterDraft| draft.trailer.expiring += 1,
    ] {
        let mut files = files.clone();
        refooter(&mut files, path, change);
        assert_found(&files, "C022");
    }
    let mut same = files;
    refooter(&mut same, path, |_| {});
    assert_healthy(&check(&same).unwrap());
}

#[test]
fn c030_and_c031_the_end_of_the_log() {
    let files = crashed();
    let path = segments(&files, false).pop().unwrap();
    let (placed, end) = records(&files[&path]);
    let mut torn = files.clone();
    torn.get_mut(&path).unwrap()[end + 8..end + 80].fill(0x5a);
    assert_healthy(&assert_found(&torn, "C030"));
    let mut gone = files;
    gone.get_mut(&path).unwrap()[placed[0].place.start] ^= 1;
    assert_found(&gone, "C031");
}

#[test]
fn c040_to_c043_what_nobody_needs() {
    let mut files = closed();
    for name in ["00000000000000aa.seg", "00000000000000ab.ckpt", "MANIFEST.tmp", "LOCK.old"] {
        files.insert(path_of(name), b"left".to_vec());
    }
    files.insert(path_of("00000000000000ac.quarantine"), b"aside".to_vec());
    files.insert(path_of("00000000000000AD.seg"), b"not ours".to_vec());
    let report = check(&files).unwrap();
    assert_healthy(&report);
    assert_eq!(codes_of(&report), ["C040", "C041", "C042", "C043"]);
    for code in codes_of(&report) {
        assert_found(&files, code);
    }
}

#[test]
fn c050_and_c051_the_checkpoint() {
    let mut files = closed();
    let path = checkpoint(&files);
    files.remove(&path);
    assert_found(&files, "C050");
    let mut files = closed();
    files.get_mut(&path).unwrap()[100] ^= 1;
    assert_found(&files, "C050");
    // Sound in itself, and one entry points elsewhere: noticed after a crash, too.
    for mut files in [closed(), crashed()] {
        resection(&mut files, |_, _| {});
        assert_healthy(&check(&files).unwrap());
        resection(&mut files, |kind, content| {
            if kind == SECTION_ENTRIES {
                content[8 + 8 + 2] ^= 1;
            }
        });
        assert_found(&files, "C051");
    }
}

/// Goal: the same store under each level: a damaged record is seen by those that read it, a damaged header by all.
#[test]
fn levels() {
    let files = closed();
    let all = segments(&files, true);
    let level = |files: &Files, level| check_with(files, CheckOptions::new().level(level));
    let whole = level(&files, CheckLevel::Full);
    assert!(whole.records > 0 && whole.entries > 0 && whole.level == CheckLevel::Full);
    let quick = level(&files, CheckLevel::Quick);
    assert_eq!((quick.records, quick.entries, quick.segments), (0, 0, whole.segments));
    assert!(quick.bytes < whole.bytes && quick.is_healthy());
    let parts = 3;
    let records = |n| level(&files, CheckLevel::Sample { n, t: parts }).records;
    assert_eq!((1..=parts).map(records).sum::<u64>(), whole.records, "the parts are the whole");
    for (place, path) in all.iter().enumerate() {
        let mut files = files.clone();
        files.get_mut(path).unwrap()[SEGMENT_HEADER_BYTES + 30] ^= 1;
        assert!(level(&files, CheckLevel::Quick).is_healthy());
        assert!(!level(&files, CheckLevel::Full).is_healthy());
        for n in 1..=parts {
            let is_read = place as u64 % parts == n - 1;
            assert_eq!(level(&files, CheckLevel::Sample { n, t: parts }).is_healthy(), !is_read);
        }
        files.get_mut(path).unwrap()[30] ^= 1;
        assert!(!level(&files, CheckLevel::Quick).is_healthy());
    }
    for (n, t) in [(0, 3), (4, 3), (1, 0)] {
        let options = CheckOptions::new().level(CheckLevel::Sample { n, t });
        let refused = check_store_with(&disk_of(&files), STORE.as_ref(), options);
        assert!(matches!(refused, Err(Error::InvalidOptions { .. })), "{n}/{t}");
    }
}

/// Goal: progress grows up to the whole, and a check that is broken off says so and calls nothing healthy.
#[test]
fn progress() {
    let disk = MemoryDisk::new();
    let setup = Setup { segment_bytes: 1 << 20, ..Setup::new(Durability::Os) };
    let engine = setup.options(Arc::new(disk.clone()), &TestClock::new()).open(STORE).unwrap();
    for number in 0..9_000_u32 {
        engine.put(number.to_le_bytes(), crate::basics::filler(number.into(), 1_000)).unwrap();
    }
    engine.close().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let mut seen = Vec::new();
    let options = CheckOptions::new().threads(3).progress(|progress| {
        seen.push((progress.bytes, progress.total));
        ControlFlow::Continue(())
    });
    let report = check_store_with(&disk, STORE.as_ref(), options).unwrap();
    assert!(report.is_healthy() && !report.cancelled);
    assert!(seen.len() > 3 && seen.is_sorted(), "{seen:?}");
    assert!(seen.iter().all(|(bytes, total)| bytes <= total));
    assert!(seen.last().unwrap().0 >= 9_000_000);
    let options = CheckOptions::new().progress(|_| ControlFlow::Break(()));
    let report = check_store_with(&disk, STORE.as_ref(), options).unwrap();
    assert!(report.cancelled && report.verdict() == Verdict::Unfinished && !report.is_healthy());
}

/// Goal: no code is without a test that shows it. Method: the text of the tests, where each has its code in quotes.
#[test]
fn every_code_has_a_test() {
    let tests = [include_str!("codes.rs"), include_str!("hostile.rs"), include_str!("beside.rs")];
    for code in Code::ALL {
        let quoted = format!("\"{code}\"");
        assert!(tests.iter().any(|text| text.contains(&quoted)), "no test shows {quoted}");
        assert!(!code.meaning().is_empty() && !code.advice().is_empty());
    }
}
