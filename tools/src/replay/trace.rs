//! A trace as requests, one after the other, in any of the formats that are read.

use std::{ops::Range, path::Path};

use tierce_engine::Options;

use super::source::Source;
use crate::{
    args::TraceFormat,
    escape::{escape, unescape},
    exit::{Fail, Outcome},
    lifetime::{Ttl, parse_lifetime_ms},
    text_start::remove_mark,
};

/// Longest line of a trace, its end included.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Longest key of a store.
const KEY_BYTES_MAX: usize = u16::MAX as usize;
/// Most keys that one line `START COUNT` stands for. No program asks for more at once; a damaged line does.
const RUN_KEYS_MAX: u64 = 1 << 24;
/// Bytes of a record before its key.
const HEADER_BYTES: u64 = 24;
/// Bytes of a record's expiry, if it has one.
const EXPIRY_BYTES: u64 = 8;

/// What a request wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Op {
    /// The value; a miss stores it.
    #[default]
    Get,
    /// To store.
    Put,
    /// To delete.
    Del,
}

/// One request of a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) key: Vec<u8>,
    /// The size that the trace tells, or that of the value if it tells none.
    pub(super) bytes: u64,
    pub(super) value_bytes: u64,
    pub(super) ttl: Ttl,
    pub(super) op: Op,
}

impl Request {
    /// Bytes of the record that a put of this makes.
    pub(super) fn record_bytes(&self, expires: bool) -> u64 {
        let expiry = if expires { EXPIRY_BYTES } else { 0 };
        let bytes = HEADER_BYTES + expiry + self.key.len() as u64 + self.value_bytes;
        bytes.next_multiple_of(8)
    }

    /// The number as a key: its bytes without leading zeros, most significant first.
    fn set_number(&mut self, number: u64) {
        self.key.clear();
        let bytes = u64::BITS.div_ceil(8) - number.leading_zeros() / 8;
        self.key.extend((0..bytes).rev().map(|byte| (number >> (8 * byte)) as u8));
    }

    /// A value that makes the whole record as near `bytes` as a multiple of 8 can be.
    fn set_record_bytes(&mut self, bytes: u64) {
        let record = (bytes + 4) / 8 * 8;
        self.bytes = bytes;
        self.value_bytes = record.saturating_sub(HEADER_BYTES + self.key.len() as u64);
    }
}

/// An open trace.
pub(super) struct Trace {
    source: Source,
    format: TraceFormat,
    value_bytes: u64,
    line: Vec<u8>,
    /// Lines read so far.
    lines: u64,
    /// Bytes of numbers read so far.
    offset: u64,
    /// What is left of a line `START COUNT`.
    run: Range<u64>,
}

impl Trace {
    /// Opens the trace; `value_bytes` is for entries of which it tells no size.
    pub(super) fn open(path: &Path, format: TraceFormat, value_bytes: u64) -> Outcome<Self> {
        let source = Source::open(path)?;
        Ok(Self { source, format, value_bytes, line: Vec::new(), lines: 0, offset: 0, run: 0..0 })
    }

    pub(super) fn name(&self) -> &str {
        &self.source.name
    }

    /// Reads the next request into `request`; false at the end of the trace.
    pub(super) fn next(&mut self, request: &mut Request) -> Outcome<bool> {
        request.bytes = self.value_bytes;
        request.value_bytes = self.value_bytes;
        request.ttl = Ttl::Default;
        request.op = Op::Get;
        match self.format {
            TraceFormat::U32be => self.number(4, request),
            TraceFormat::U64be => self.number(8, request),
            TraceFormat::Arc => self.run_key(request),
            TraceFormat::Lines | TraceFormat::Sized => {
                let found = self.next_line()?;
                if found {
                    let words: Vec<&[u8]> = words(&self.line).collect();
                    let parsed = match self.format {
                        TraceFormat::Sized => sized(&words, request),
                        _ => plain(&words, request),
                    };
                    parsed.map_err(|reason| self.wrong(&reason))?;
                }
                Ok(found)
            }
        }
    }

    fn number(&mut self, width: usize, request: &mut Request) -> Outcome<bool> {
        let mut bytes = [0; 8];
        let read = self.source.fill(&mut bytes[..width])?;
        if read != 0 && read != width {
            return Err(Fail::Input(format!(
                "{} ends inside a number: {read} of {width} bytes are left at byte {}",
                self.source.name, self.offset
            )));
        }
        self.offset += read as u64;
        let number = bytes[..width].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        request.set_number(number);
        Ok(read == width)
    }

    fn run_key(&mut self, request: &mut Request) -> Outcome<bool> {
        while self.run.is_empty() {
            if !self.next_line()? {
                return Ok(false);
            }
            let words: Vec<&[u8]> = words(&self.line).collect();
            self.run = run(&words).map_err(|reason| self.wrong(&reason))?;
        }
        request.set_number(self.run.start);
        self.run.start += 1;
        Ok(true)
    }

    /// The next line with anything in it; false at the end of the trace.
    fn next_line(&mut self) -> Outcome<bool> {
        loop {
            self.source.line(LINE_BYTES_MAX, &mut self.line)?;
            self.lines += 1;
            if self.lines == 1 {
                remove_mark(&mut self.line).map_err(|reason| self.wrong(&reason))?;
            }
            if self.line.len() as u64 == LINE_BYTES_MAX && !self.line.ends_with(b"\n") {
                return Err(self.wrong(&format!("it is longer than {LINE_BYTES_MAX} bytes")));
            }
            if self.line.is_empty() {
                return Ok(false);
            }
            if words(&self.line).next().is_some() {
                return Ok(true);
            }
        }
    }

    fn wrong(&self, reason: &str) -> Fail {
        Fail::Input(format!("{} line {}: {reason}", self.source.name, self.lines))
    }
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// `START COUNT ..`: two numbers more may follow, which mean nothing here.
fn run(words: &[&[u8]]) -> Result<Range<u64>, String> {
    let ([start, count] | [start, count, _] | [start, count, _, _]) = words else {
        return Err(format!("{} words are no START COUNT 0 0", words.len()));
    };
    for word in words {
        number("number", word, u64::MAX)?;
    }
    let start = number("start", start, u64::MAX)?;
    let count = number("count", count, RUN_KEYS_MAX)?;
    let end = start.checked_add(count);
    end.map(|end| start..end).ok_or_else(|| "the keys go on beyond 64 bits".to_owned())
}

/// `TIME ID SIZE`.
fn sized(words: &[&[u8]], request: &mut Request) -> Result<(), String> {
    let [_, id, size] = words else {
        return Err(format!("{} words are no TIME ID SIZE", words.len()));
    };
    request.set_number(number("id", id, u64::MAX)?);
    request.set_record_bytes(number("size", size, Options::VALUE_BYTES_MAX)?);
    Ok(())
}

/// `KEY [SIZE [TTL [OP]]]`.
fn plain(words: &[&[u8]], request: &mut Request) -> Result<(), String> {
    let (key, rest) = words.split_first().ok_or("there is no key")?;
    request.key = unescape(key)?;
    if request.key.len() > KEY_BYTES_MAX {
        let bytes = request.key.len();
        return Err(format!("a key of {bytes} bytes is over the limit of {KEY_BYTES_MAX}"));
    }
    if rest.len() > 3 {
        return Err(format!("{} words are no KEY [SIZE [TTL [OP]]]", words.len()));
    }
    if let Some(size) = rest.first() {
        request.value_bytes = number("size", size, Options::VALUE_BYTES_MAX)?;
        request.bytes = request.value_bytes;
    }
    request.ttl = match rest.get(1).copied() {
        None => Ttl::Default,
        Some(b"-") => Ttl::Never,
        Some(word) => Ttl::Ms(parse_lifetime_ms(&shown(word))?),
    };
    request.op = match rest.get(2).copied() {
        None | Some(b"get") => Op::Get,
        Some(b"put") => Op::Put,
        Some(b"del") => Op::Del,
        Some(word) => return Err(format!("{} is none of get, put, del", shown(word))),
    };
    Ok(())
}

fn number(what: &str, word: &[u8], most: u64) -> Result<u64, String> {
    let digits = str::from_utf8(word).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok()).filter(|number| *number <= most);
    number.ok_or_else(|| format!("the {what} {} is no number from 0 to {most}", shown(word)))
}

/// A word as it is shown to a person: no terminal acts upon it, and it does not fill the screen.
fn shown(word: &[u8]) -> String {
    const SHOWN_BYTES: usize = 40;
    match word.get(..SHOWN_BYTES) {
        Some(start) if word.len() > SHOWN_BYTES => format!("{}...", escape(start)),
        _ => escape(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<&[u8]> {
        words(line.as_bytes()).collect()
    }

    /// Goal: different numbers are different keys, each as short as it can be.
    #[test]
    fn keys_of_numbers() {
        for (number, key) in [
            (0, &[][..]),
            (1, &[1]),
            (255, &[255]),
            (256, &[1, 0]),
            (0x0102_0304, &[1, 2, 3, 4]),
            (u64::MAX, &[255; 8]),
        ] {
            let mut request = Request::default();
            request.set_number(number);
            assert_eq!(request.key, key, "{number}");
        }
    }

    /// Goal: the record of an entry is within 4 bytes of its size, from the smallest record on.
    #[test]
    fn sizes_of_records() {
        let mut request = Request::default();
        for id in [0, 1, 300, u64::MAX] {
            request.set_number(id);
            for size in 32..2_000 {
                request.set_record_bytes(size);
                assert!(request.record_bytes(false).abs_diff(size) <= 4, "{id} of {size}");
            }
            for size in 0..20 {
                request.set_record_bytes(size);
                assert_eq!((request.value_bytes, request.bytes), (0, size));
            }
        }
        request.set_record_bytes(100);
        assert_eq!(request.record_bytes(true), request.record_bytes(false) + 8);
    }

    /// Goal: a run is as long as it says, and absurd ones are refused.
    #[test]
    fn runs() {
        assert_eq!(run(&split("5 3 0 0")), Ok(5..8));
        assert_eq!(run(&split("5 0 0 17")), Ok(5..5));
        assert_eq!(run(&split("5 3")), Ok(5..8));
        for line in [
            "5",
            "5 -3 0 0",
            "5 3 0 0 0",
            "a 3 0 0",
            "5 3 0 x",
            "0 16777217 0 0",
            "18446744073709551615 1 0 0",
            "18446744073709551616 1 0 0",
        ] {
            assert!(run(&split(line)).is_err(), "{line}");
        }
    }

    /// Goal: every form of a line is understood, and nothing is half understood.
    #[test]
    fn lines() {
        let parsed = |line: &str| {
            let mut request = Request { bytes: 8, value_bytes: 8, ..Request::default() };
            plain(&split(line), &mut request).map(|()| request)
        };
        let request = |bytes, ttl, op| {
            Ok(Request { key: b"a b".to_vec(), bytes, value_bytes: bytes, ttl, op })
        };
        assert_eq!(parsed(r"a\x20b"), request(8, Ttl::Default, Op::Get));
        assert_eq!(parsed(r"a\x20b 100"), request(100, Ttl::Default, Op::Get));
        assert_eq!(parsed(r"a\x20b 0 30s"), request(0, Ttl::Ms(30_000), Op::Get));
        assert_eq!(parsed(r"a\x20b 1 - put"), request(1, Ttl::Never, Op::Put));
        assert_eq!(parsed(r"a\x20b 1 - del"), request(1, Ttl::Never, Op::Del));
        assert_eq!(parsed(r"a\x20b 1 1d get"), request(1, Ttl::Ms(86_400_000), Op::Get));
        for line in [
            r"a\q",
            "a -1",
            "a 1073741825",
            "a 1 never",
            "a 1 0",
            "a 1 - PUT",
            "a 1 - put more",
            "a b",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
