//! The same as `scan`, of a file of any length with a fixed amount of memory. Only reports; forgives nothing.

use std::io;

use super::{
    RECORDS_AT,
    scan::{Gap, Scanned, is_plausible},
};
use crate::{
    format::{
        checksum::{checksum, checksum_from, checksum_joined},
        footer::FooterEntry,
        hash::KeyHasher,
        record::{
            Commit, Decoded, Flags, HEADER_BYTES, Head, Kind, claimed_bytes, claimed_head_bytes,
            decode_head_within, verify_value,
        },
        wire::u64_at,
    },
    io::{File, Window},
    types::{SequenceNumber, Timestamp},
};

/// What is read at a time. Small enough to be in the processor's cache still when it is looked at again.
const WINDOW_BYTES: usize = 256 << 10;
/// Records up to this length are looked at whole.
const WHOLE_BYTES: u64 = 64 << 10;
/// Bytes that tell how long a head is.
const START_BYTES: usize = HEADER_BYTES + 10;

/// What is done with values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// They are read and compared with their checksums.
    Verify,
    /// They are left out, but for those of commit markers. Records count as sound whose heads are.
    Skip,
}

/// A record, with what only its key and head tell.
#[derive(Clone, Debug)]
pub(crate) struct Met {
    pub(crate) record: Scanned,
    /// Of the key, in full.
    pub(crate) hash: u64,
    pub(crate) expires_at: Option<Timestamp>,
}

/// What a scan finds, in order of offset.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    Record(Met),
    Gap(Gap),
}

/// Which records are looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sought {
    /// The records end before this offset.
    pub(crate) end: u64,
    pub(crate) salt: u64,
    /// Behind damage, only greater sequence numbers are believed.
    pub(crate) after: SequenceNumber,
    pub(crate) values: Values,
}

/// A scan that goes on.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    window: Window<'a>,
    sought: Sought,
    hasher: KeyHasher,
    at: u64,
    newest: SequenceNumber,
    /// Checksum over all bytes from the first record up to `summed`; `None` after a gap.
    sum: Option<u32>,
    summed: u64,
    written: u64,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(file: &'a dyn File, sought: Sought, hasher: KeyHasher) -> Self {
        Self {
            window: Window::new(file, WINDOW_BYTES, sought.end),
            sought,
            hasher,
            at: RECORDS_AT,
            newest: sought.after,
            sum: (sought.values == Values::Verify).then_some(0),
            summed: RECORDS_AT,
            written: RECORDS_AT,
        }
    }

    /// How far it has come.
    pub(crate) const fn at(&self) -> u64 {
        self.at
    }

    /// Offset behind the last record or byte that is not zero, of those seen so far.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// The checksum over all bytes of records so far, if there was nothing else among them.
    ///
    /// # Errors
    /// Those of the file.
    pub(crate) fn sum(&mut self) -> io::Result<Option<u32>> {
        self.sum_up();
        Ok(self.sum)
    }

    /// What comes next; `None` at the end.
    ///
    /// # Errors
    /// Those of the file.
    pub(crate) fn next(&mut self) -> io::Result<Option<Found>> {
        if self.at >= self.window.end() {
            return Ok(None);
        }
        if let Some(met) = self.record_at(self.at)? {
            self.newest = self.newest.max(met.record.sequence);
            self.at += met.record.bytes;
            self.written = self.at;
            return Ok(Some(Found::Record(met)));
        }
        if self.at >= self.window.end() {
            return Ok(None);
        }
        self.gap().map(|gap| Some(Found::Gap(gap)))
    }

    /// Counts what is in the window and was passed into the checksum: before it leaves the window.
    fn sum_up(&mut self) {
        let Some(sum) = self.sum.filter(|_| self.summed < self.at) else { return };
        let length = usize::try_from(self.at - self.summed).unwrap_or(usize::MAX);
        debug_assert!(self.window.holds(self.summed, length), "nothing leaves unsummed");
        if let Ok(bytes) = self.window.bytes(self.summed, length) {
            self.sum = Some(checksum_from(sum, bytes.get(..length).unwrap_or(bytes)));
        }
        self.summed = self.at;
    }

    fn bytes(&mut self, at: u64, wanted: usize) -> io::Result<&[u8]> {
        if !self.window.holds(at, wanted) {
            self.sum_up();
        }
        self.window.bytes(at, wanted)
    }

    /// The record at `at`, if its head is sound.
    fn record_at(&mut self, at: u64) -> io::Result<Option<Met>> {
        let room = self.window.end().saturating_sub(at);
        let start = self.bytes(at, START_BYTES)?;
        let (Some(claimed), Some(head_bytes)) = (claimed_bytes(start), claimed_head_bytes(start))
        else {
            return Ok(None);
        };
        if claimed > room || is_zero(start.get(..HEADER_BYTES).unwrap_or(start)) {
            return Ok(None);
        }
        let (is_whole, verifies) = (claimed <= WHOLE_BYTES, self.sought.values == Values::Verify);
        let wanted = if is_whole && verifies { claimed } else { head_bytes };
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let (salt, hasher) = (self.sought.salt, self.hasher);
        let bytes = self.bytes(at, wanted)?;
        let Ok(Decoded::Head(head)) = decode_head_within(bytes, room, salt, at) else {
            return Ok(None);
        };
        let mut met = met(&head, at, hasher);
        if is_whole && verifies {
            let value = verify_value(bytes, &head);
            met.record.sound = value.is_ok();
            if head.kind == Some(Kind::Commit) {
                met.record.commit = value.ok().and_then(|value| Commit::decode(value).ok());
                met.record.sound = met.record.commit.is_some();
            }
            return Ok(Some(met));
        }
        let expected = (head.value_bytes, head.value_checksum);
        if head.kind == Some(Kind::Commit) {
            self.read_marker(&mut met, expected)?;
        } else if verifies {
            self.read_value(&mut met, expected.1)?;
        }
        Ok(Some(met))
    }

    /// A commit marker whose value was not read with its head.
    fn read_marker(&mut self, met: &mut Met, (bytes, sum): (u32, u32)) -> io::Result<()> {
        met.record.sound = false;
        if bytes as usize != Commit::BYTES {
            self.sum = None;
            return Ok(());
        }
        let at = met.record.offset + met.record.head_bytes as u64;
        let length =
            usize::try_from(met.record.bytes).unwrap_or(usize::MAX) - met.record.head_bytes;
        let value = self.bytes(at, length)?;
        let value = value.get(..length).unwrap_or_default();
        if checksum(value) == sum {
            met.record.commit = Commit::decode(value.get(..Commit::BYTES).unwrap_or_default()).ok();
            met.record.sound = met.record.commit.is_some();
        }
        Ok(())
    }

    /// A long value, piece by piece. What it adds to the checksum of all records follows from its own.
    fn read_value(&mut self, met: &mut Met, expected: u32) -> io::Result<()> {
        let record = &met.record;
        let (mut at, end) =
            (record.offset + record.head_bytes as u64, record.offset + record.bytes);
        self.sum_up();
        let head = self.window.bytes(record.offset, record.head_bytes)?;
        let head = head.get(..record.head_bytes).unwrap_or(head);
        self.sum = self.sum.map(|sum| checksum_from(sum, head));
        let (value_at, mut sum) = (at, 0);
        while at < end {
            let piece = self.window.bytes(at, 1)?;
            let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(piece.len());
            if length == 0 {
                // The file ends before it was said to.
                met.record.sound = false;
                self.sum = None;
                return Ok(());
            }
            sum = checksum_from(sum, &piece[..length]);
            at += length as u64;
        }
        met.record.sound = sum == expected;
        self.sum = self.sum.map(|before| checksum_joined(before, sum, end - value_at));
        self.summed = end;
        Ok(())
    }

    /// The bytes up to the next place where a sound head with a plausible sequence number stands, or to the end.
    fn gap(&mut self) -> io::Result<Gap> {
        self.sum = None;
        let offset = self.at;
        let (mut at, mut is_unwritten) = (offset, true);
        loop {
            let bytes = self.window.bytes(at, HEADER_BYTES)?;
            if bytes.is_empty() {
                break;
            }
            let passed = skip_zeros(bytes);
            if passed > 0 {
                at += passed as u64;
                continue;
            }
            let (sequence, length) = (u64_at(bytes, 16), bytes.len().min(8));
            let is_offered = at > offset
                && sequence.is_some_and(|s| is_plausible(s, self.sought.after, self.newest));
            if is_offered && self.head_at(at)? {
                break;
            }
            is_unwritten = false;
            at += length as u64;
            self.written = at;
        }
        self.at = at;
        Ok(Gap { offset, bytes: at - offset, is_unwritten })
    }

    fn head_at(&mut self, at: u64) -> io::Result<bool> {
        let room = self.window.end().saturating_sub(at);
        let start = self.window.bytes(at, START_BYTES)?;
        let Some(head_bytes) = claimed_head_bytes(start) else { return Ok(false) };
        if claimed_bytes(start).is_none_or(|claimed| claimed > room) {
            return Ok(false);
        }
        let wanted = usize::try_from(head_bytes).unwrap_or(usize::MAX);
        let salt = self.sought.salt;
        let bytes = self.window.bytes(at, wanted)?;
        Ok(matches!(decode_head_within(bytes, room, salt, at), Ok(Decoded::Head(_))))
    }
}

impl Met {
    /// Whether it has an entry in a footer.
    pub(crate) const fn is_of_a_key(&self) -> bool {
        matches!(self.record.kind, Some(Kind::Put | Kind::Delete | Kind::Touch | Kind::ScopeCut))
    }

    /// What a footer says of it.
    pub(crate) fn entry(&self) -> Option<FooterEntry> {
        let record = &self.record;
        let kind = record.kind.filter(|_| self.is_of_a_key())?;
        let is_cut = kind == Kind::ScopeCut;
        let flags = if is_cut { record.flags.without(Flags::FRESH) } else { record.flags };
        Some(FooterEntry {
            hash: self.hash,
            sequence: record.sequence,
            kind,
            flags,
            offset: record.offset,
            bytes: record.bytes,
        })
    }
}

fn met(head: &Head<'_>, offset: u64, hasher: KeyHasher) -> Met {
    let record = Scanned::of(head, offset);
    Met { record, hash: hasher.hash(head.key), expires_at: head.expires_at }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// How many of the first bytes are zeros, in whole words, and at the end in whole.
fn skip_zeros(bytes: &[u8]) -> usize {
    const LINE: usize = 512;
    let lines = bytes.chunks_exact(LINE).take_while(|line| is_zero(line)).count() * LINE;
    let rest = &bytes[lines..];
    let words = rest.chunks(8).take_while(|word| is_zero(word));
    lines + words.map(<[u8]>::len).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        format::{
            checksum::checksum,
            record::{Draft, Flags, encode, stamp},
        },
        io::{Access, Disk as _, MemoryDisk},
        segment::scan::{Item, scan},
    };

    /// A segment of records of all lengths, with damage in a few places, as `seed` says.
    fn file(seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut below = |bound: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        let mut bytes = vec![0; usize::try_from(RECORDS_AT).expect("small")];
        for sequence in 1..60 {
            let at = bytes.len();
            let long = below(12) == 0;
            let value =
                vec![7; usize::try_from(below(if long { 700_000 } else { 200 })).expect("small")];
            let draft = Draft {
                kind: if below(5) == 0 { Kind::Commit } else { Kind::Put },
                flags: Flags::default(),
                key: &vec![3; usize::try_from(below(40)).expect("small")],
                value: &value,
                expires_at: None,
                extension: None,
            };
            let head_bytes = encode(&draft, &mut bytes);
            let sequence = SequenceNumber(sequence);
            stamp(&mut bytes[at..], head_bytes, sequence, Flags::default(), 5, at as u64);
        }
        bytes.extend_from_slice(&vec![0; usize::try_from(below(5_000)).expect("small")]);
        for _ in 0..below(6) {
            let length = bytes.len() as u64;
            let at = usize::try_from(RECORDS_AT + below(length - RECORDS_AT)).expect("small");
            let to = (at + usize::try_from(below(9_000)).expect("small")).min(bytes.len());
            if below(2) == 0 { bytes[at..to].fill(0) } else { bytes[at] ^= 1 }
        }
        let cut = usize::try_from(below(300)).expect("small");
        bytes.truncate(bytes.len() - if below(3) == 0 { cut } else { 0 });
        bytes
    }

    /// Goal: piece by piece or all at once, whole or damaged, a scan finds the same; and the checksum over all records
    /// is that of their bytes. Method: segments with records longer than the window, damaged at random.
    #[test]
    fn finds_what_a_scan_finds() {
        let (mut gaps, mut sums) = (0, 0);
        for seed in 0..60 {
            let bytes = file(seed);
            let disk = MemoryDisk::with_files([("dir/file".into(), bytes.clone())]);
            let file = disk.open(Path::new("dir/file"), Access::Read).expect("it is there");
            let end = bytes.len() as u64;
            let sought = Sought { end, salt: 5, after: SequenceNumber(0), values: Values::Verify };
            let mut scanner = Scanner::new(file.as_ref(), sought, KeyHasher::new(1));
            let from = usize::try_from(RECORDS_AT).expect("small");
            for item in scan(&bytes, end, 5, SequenceNumber(0)) {
                let found = scanner.next().expect("it can be read").expect("there is more");
                match (item, found) {
                    (Item::Record(a), Found::Record(b)) => {
                        assert_eq!(format!("{a:?}"), format!("{:?}", b.record), "seed {seed}");
                        // Asked now and then: what is asked for is summed up early.
                        let wants = a.sequence.0 % 13 == seed % 13;
                        let sum = if wants { scanner.sum().expect("it can be read") } else { None };
                        if let Some(sum) = sum {
                            let to = usize::try_from(a.offset + a.bytes).expect("small");
                            assert_eq!(sum, checksum(&bytes[from..to]), "seed {seed}");
                            sums += 1;
                        }
                    }
                    (Item::Gap(a), Found::Gap(b)) => {
                        assert_eq!(a, b, "seed {seed}");
                        gaps += 1;
                    }
                    other => panic!("seed {seed}: {other:?}"),
                }
            }
            assert!(scanner.next().expect("it can be read").is_none(), "seed {seed}");
        }
        assert!(gaps > 50 && sums > 3, "{gaps} gaps, {sums} sums");
    }
}
