//! The sheet of a backup: which files it has, and how to know that they are what was written. Text, one file a line:
//!
//! ```text
//! tierce backup 1
//! store 0f3c... (32 hexadecimal digits)
//! sequence 4711
//! taken 1763730000000
//! file 0000000000000001.seg 67108864 sealed 1b2c3d4e
//! file MANIFEST 4096 whole 00c0ffee
//! file 0000000000000009.ckpt 65536 own
//! checksum 5a5a5a5a
//! ```
//!
//! `sealed` is the checksum of a segment's trailer, which covers all of the segment; `whole` is that of all bytes; `own`
//! says that the file's own checksums are all there is. The last line is the checksum of the lines before it. A backup is
//! complete if its sheet is: it is written last.

use std::{collections::BTreeSet, fmt::Write as _};

use crate::{
    error::{Damage, DecodeError},
    format::{checksum::checksum, file_name::FileName},
    types::{SequenceNumber, Timestamp},
};

/// Name of the sheet in a backup.
pub const SHEET: &str = "BACKUP";
/// A sheet has at most so many bytes: a million files.
pub(super) const SHEET_BYTES_MAX: u64 = 128 << 20;
const TITLE: &str = "tierce backup 1";

/// How the bytes of one file are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// By the checksum of its trailer.
    Sealed(u32),
    /// By the checksum of all its bytes.
    Whole(u32),
    /// By the checksums inside it.
    Own,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) proof: Proof,
}

/// What a backup consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sheet {
    pub(crate) store_id: [u8; 16],
    pub(crate) sequence: SequenceNumber,
    pub(crate) taken: Timestamp,
    pub(crate) files: Vec<Line>,
}

impl Sheet {
    pub(crate) fn encode(&self) -> String {
        let mut text = format!("{TITLE}\nstore ");
        for byte in self.store_id {
            let _ = write!(text, "{byte:02x}");
        }
        let _ = writeln!(text, "\nsequence {}\ntaken {}", self.sequence.0, self.taken.0);
        for Line { name, bytes, proof } in &self.files {
            let _ = match proof {
                Proof::Sealed(sum) => writeln!(text, "file {name} {bytes} sealed {sum:08x}"),
                Proof::Whole(sum) => writeln!(text, "file {name} {bytes} whole {sum:08x}"),
                Proof::Own => writeln!(text, "file {name} {bytes} own"),
            };
        }
        let sum = checksum(text.as_bytes());
        let _ = writeln!(text, "checksum {sum:08x}");
        text
    }

    /// The sheet in `bytes`. Every name is one that a backup has: no path, nothing of anybody else.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let fault = |at: usize, damage| DecodeError::new(at as u64, damage);
        let text = std::str::from_utf8(bytes)
            .map_err(|error| fault(error.valid_up_to(), Damage::Field("text of a backup")))?;
        let end = text.trim_end_matches('\n').rfind('\n').map_or(0, |at| at + 1);
        let (said, last) = text.split_at(end);
        let sum = last.strip_prefix("checksum ").and_then(|sum| sum.strip_suffix('\n'));
        let sum = sum.and_then(parse_sum).ok_or_else(|| fault(end, Damage::Truncated))?;
        if sum != checksum(said.as_bytes()) {
            return Err(fault(end, Damage::Checksum));
        }
        let mut lines = said.lines();
        if lines.next() != Some(TITLE) {
            return Err(fault(0, Damage::Field("title of a backup")));
        }
        let wrong = || fault(0, Damage::Field("head of a backup"));
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let store_id = field("store").and_then(parse_id).ok_or_else(wrong)?;
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).ok_or_else(wrong);
        let sequence = SequenceNumber(number(field("sequence"))?);
        let taken = Timestamp(number(field("taken"))?);
        let (mut files, mut names) = (Vec::new(), BTreeSet::new());
        let mut at = said.len() - lines.clone().map(|line| line.len() + 1).sum::<usize>();
        for text in lines {
            let line = parse_line(text).filter(|line| names.insert(line.name.clone()));
            files.push(line.ok_or_else(|| fault(at, Damage::Field("file of a backup")))?);
            at += text.len() + 1;
        }
        Ok(Self { store_id, sequence, taken, files })
    }
}

/// For fuzzing: what is read as a sheet is written and read as the same, before and after its checksum is put right.
///
/// # Panics
/// If it is not.
#[cfg(feature = "testing")]
pub fn check_sheet(bytes: &[u8]) {
    let check = |bytes: &[u8]| {
        let Ok(sheet) = Sheet::decode(bytes) else { return };
        assert!(sheet.files.iter().all(|line| belongs(&line.name)), "{sheet:?}");
        let written = sheet.encode();
        assert_eq!(Sheet::decode(written.as_bytes()).ok(), Some(sheet), "{written}");
    };
    check(bytes);
    let text = String::from_utf8_lossy(bytes);
    let said = text.rfind("checksum ").map_or(&*text, |at| &text[..at]);
    check(format!("{said}checksum {:08x}\n", checksum(said.as_bytes())).as_bytes());
}

fn parse_line(line: &str) -> Option<Line> {
    let words: Vec<_> = line.strip_prefix("file ")?.split(' ').collect();
    let (name, bytes, proof) = match words.as_slice() {
        [name, bytes, "sealed", sum] => (name, bytes, Proof::Sealed(parse_sum(sum)?)),
        [name, bytes, "whole", sum] => (name, bytes, Proof::Whole(parse_sum(sum)?)),
        [name, bytes, "own"] => (name, bytes, Proof::Own),
        _ => return None,
    };
    belongs(name).then_some(())?;
    Some(Line { name: (*name).to_owned(), bytes: bytes.parse().ok()?, proof })
}

/// Whether a backup may have a file of this name.
pub(super) fn belongs(name: &str) -> bool {
    use FileName::{Checkpoint, Manifest, Segment};
    matches!(FileName::parse(name), Some(Manifest | Segment(_) | Checkpoint(_)))
}

fn parse_sum(text: &str) -> Option<u32> {
    let is_sum = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_sum.then(|| u32::from_str_radix(text, 16).ok())?
}

fn parse_id(text: &str) -> Option<[u8; 16]> {
    let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then_some(())?;
    let mut id = [0; 16];
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Sheet {
        let line = |name: &str, proof| Line { name: name.to_owned(), bytes: 7, proof };
        Sheet {
            store_id: *b"0123456789abcdef",
            sequence: SequenceNumber(9),
            taken: Timestamp(5),
            files: vec![
                line("0000000000000001.seg", Proof::Sealed(0x1b2c)),
                line("MANIFEST", Proof::Whole(u32::MAX)),
                line("000000000000000a.ckpt", Proof::Own),
            ],
        }
    }

    /// Goal: what is written is read, and no single wrong byte, cut or addition is.
    #[test]
    fn round_trip_and_every_fault() {
        let text = sheet().encode();
        assert_eq!(Sheet::decode(text.as_bytes()), Ok(sheet()));
        for at in 0..text.len() {
            assert!(Sheet::decode(&text.as_bytes()[..at]).is_err(), "cut at {at}");
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(Sheet::decode(&bytes).is_err(), "byte {at}");
        }
        for more in ["\n", "x", "file MANIFEST 1 own\n"] {
            assert!(Sheet::decode(format!("{text}{more}").as_bytes()).is_err(), "{more:?}");
        }
    }

    /// Goal: no sheet leads out of its directory, names a file twice, or names one that no store has.
    #[test]
    fn foreign_names() {
        for name in ["../MANIFEST", "/etc/passwd", "LOCK", "MANIFEST.tmp", "", "a b", "BACKUP"] {
            let mut sheet = sheet();
            sheet.files[0].name = name.to_owned();
            assert!(Sheet::decode(sheet.encode().as_bytes()).is_err(), "{name:?}");
        }
        let mut twice = sheet();
        twice.files.push(twice.files[0].clone());
        assert!(Sheet::decode(twice.encode().as_bytes()).is_err());
    }
}
