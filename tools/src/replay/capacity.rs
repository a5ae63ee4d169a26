//! What a replayed store may hold, as people write it: `500` entries, `10%` of the trace, `64MiB`.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
};

use super::trace::{Request, Trace};
use crate::{
    args::{ReplayArgs, TraceFormat},
    exit::{Fail, Outcome},
    size::parse_limit,
};

/// Parts of a percent that are told apart: `0.0001%`.
const PARTS: u64 = 10_000;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capacity {
    Entries(u64),
    /// In parts of a percent.
    Share(u64),
    Bytes(u64),
}

/// The capacity that `text` stands for.
///
/// # Errors
/// A sentence, if it is none, or one of nothing.
pub(crate) fn parse_capacity(text: &str) -> Result<Capacity, String> {
    if let Some(percent) = text.strip_suffix('%') {
        let share = parse_parts(percent).filter(|parts| (1..=100 * PARTS).contains(parts));
        return share
            .map(Capacity::Share)
            .ok_or_else(|| format!("{text:?} is no share; write 0.0001% to 100%"));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            Ok(0) => Err("a capacity of 0 holds nothing".to_owned()),
            Ok(entries) => Ok(Capacity::Entries(entries)),
            Err(_) => Err(format!("{text:?} is no capacity; write 500 (entries), 10% or 64MiB")),
        };
    }
    parse_limit(text).map(Capacity::Bytes)
}

/// `12.5` as parts; at most four digits after the point.
fn parse_parts(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 4 {
        return None;
    }
    let fraction = format!("{fraction:0<4}").parse::<u64>().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(PARTS)?.checked_add(fraction)
}

/// The limits of the store that come from the capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) max_entries: Option<u64>,
    pub(super) max_live_bytes: Option<u64>,
}

impl Room {
    /// The limits; a share is one of the whole trace, which is read for it.
    pub(super) fn of(args: &ReplayArgs) -> Outcome<Self> {
        let share = match args.capacity {
            None => return Ok(Self::default()),
            Some(Capacity::Entries(entries)) => return Ok(Self::entries(entries)),
            Some(Capacity::Bytes(bytes)) => return Ok(Self::bytes(bytes)),
            Some(Capacity::Share(share)) => share,
        };
        if args.trace.as_os_str() == "-" {
            return Err(Fail::Usage(
                "a share of the trace takes a second pass over it, and standard input has one; \
                 give a file, or a capacity in entries or bytes"
                    .to_owned(),
            ));
        }
        let whole = measure(args)?;
        let part = u128::from(whole) * u128::from(share) / u128::from(100 * PARTS);
        // A part of a u64 is a u64.
        let part = u64::try_from(part).unwrap_or(u64::MAX);
        match (part, args.format) {
            (0, _) => Err(Fail::Input(format!(
                "{}: the share asked for is less than one of its {whole} keys or bytes",
                args.trace.display()
            ))),
            (bytes, TraceFormat::Sized) => Ok(Self::bytes(bytes)),
            (entries, _) => Ok(Self::entries(entries)),
        }
    }

    fn entries(entries: u64) -> Self {
        Self { max_entries: Some(entries), max_live_bytes: None }
    }

    fn bytes(bytes: u64) -> Self {
        Self { max_entries: None, max_live_bytes: Some(bytes) }
    }
}

/// How many different keys the trace has; with sizes, the sum of what each had when it came first.
fn measure(args: &ReplayArgs) -> Outcome<u64> {
    let mut trace = Trace::open(&args.trace, args.format, args.value_bytes)?;
    let (mut request, mut seen, mut sum) = (Request::default(), Seen::default(), 0_u64);
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 && trace.next(&mut request)? {
        left -= 1;
        if seen.insert(&request.key) {
            let weight = if args.format == TraceFormat::Sized { request.bytes } else { 1 };
            sum = sum.saturating_add(weight);
        }
    }
    Ok(sum)
}

/// Which keys there were, by a hash of 64 bits each: the trace may be longer than memory, its keys may not.
#[derive(Default)]
pub(super) struct Seen {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl Seen {
    /// Whether it is new.
    pub(super) fn insert(&mut self, key: &[u8]) -> bool {
        self.hashes.insert(self.hasher.hash_one(key))
    }

    pub(super) fn count(&self) -> u64 {
        self.hashes.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each spelling means what it says.
    #[test]
    fn spellings() {
        for (text, capacity) in [
            ("1", Capacity::Entries(1)),
            ("18688", Capacity::Entries(18_688)),
            ("10%", Capacity::Share(100_000)),
            ("0.5%", Capacity::Share(5_000)),
            ("0.0001%", Capacity::Share(1)),
            ("12.25%", Capacity::Share(122_500)),
            ("100%", Capacity::Share(1_000_000)),
            ("512B", Capacity::Bytes(512)),
            ("64MiB", Capacity::Bytes(64 << 20)),
            ("5kB", Capacity::Bytes(5_000)),
        ] {
            assert_eq!(parse_capacity(text), Ok(capacity), "{text}");
        }
    }

    /// Goal: nothing, less than nothing and more than all are no capacities.
    #[test]
    fn refusals() {
        for text in [
            "",
            "0",
            "0%",
            "0.00001%",
            "0MiB",
            "-1",
            "-1%",
            "%",
            ".5%",
            "5.%",
            "100.0001%",
            "101%",
            "1e3",
            "ten",
            "10 %",
            "18446744073709551616",
            "99999999999999999999%",
        ] {
            assert!(parse_capacity(text).is_err(), "{text}");
        }
    }
}
