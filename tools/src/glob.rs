//! Patterns over the bytes of keys: `*` is any bytes, `?` one byte, `[a-z]` one of these, `[!a-z]` one of the others;
//! a backslash takes the byte after it as it is, and `\xNN` is that byte.
//!
//! Bytes, not characters: a key need not be text. The typed face matches text, by character.

/// A pattern, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Byte(u8),
    One,
    Any,
    Class { is_negated: bool, ranges: Vec<(u8, u8)> },
}

impl Glob {
    /// Takes a pattern apart.
    ///
    /// # Errors
    /// A sentence, if a class or a backslash is not complete.
    pub(crate) fn parse(pattern: &[u8]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = pattern;
        while let Some((&first, after)) = rest.split_first() {
            let (part, after) = match first {
                b'*' => (Part::Any, after),
                b'?' => (Part::One, after),
                b'[' => class(after)?,
                _ => {
                    let (byte, after) = literal(rest)?;
                    (Part::Byte(byte), after)
                }
            };
            // Two in a row mean no more than one, and would be tried in vain.
            if !(part == Part::Any && parts.last() == Some(&Part::Any)) {
                parts.push(part);
            }
            rest = after;
        }
        Ok(Self(parts))
    }

    /// Whether all of `key` matches. Takes at most as many steps as key and pattern have bytes, multiplied.
    pub(crate) fn matches(&self, key: &[u8]) -> bool {
        let (mut at, mut part) = (0, 0);
        // Where to go on if this fails: behind the last `*`, with one byte more given to it.
        let mut retry = None;
        loop {
            match self.0.get(part) {
                Some(Part::Any) => {
                    part += 1;
                    retry = Some((part, at));
                    continue;
                }
                Some(one) if key.get(at).is_some_and(|byte| one.takes(*byte)) => {
                    (at, part) = (at + 1, part + 1);
                    continue;
                }
                None if at == key.len() => return true,
                _ => {}
            }
            let Some((behind, from)) = retry else { return false };
            if from >= key.len() {
                return false;
            }
            retry = Some((behind, from + 1));
            (at, part) = (from + 1, behind);
        }
    }

    /// The bytes that every match begins with.
    pub(crate) fn prefix(&self) -> Vec<u8> {
        let byte = |part: &Part| match part {
            Part::Byte(byte) => Some(*byte),
            _ => None,
        };
        self.0.iter().map_while(byte).collect()
    }
}

impl Part {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(this) => *this == byte,
            Self::One => true,
            Self::Any => false,
            Self::Class { is_negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte)) != *is_negated
            }
        }
    }
}

/// One byte that stands for itself, and what follows.
fn literal(text: &[u8]) -> Result<(u8, &[u8]), String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match text {
        [b'\\', b'x', high, low, after @ ..] if digit(*high).is_some() && digit(*low).is_some() => {
            Ok((digit(*high).unwrap_or(0) << 4 | digit(*low).unwrap_or(0), after))
        }
        [b'\\', byte, after @ ..] => Ok((*byte, after)),
        [b'\\'] => Err("the pattern ends with a backslash".to_owned()),
        [byte, after @ ..] => Ok((*byte, after)),
        [] => Err("the pattern ends within a class".to_owned()),
    }
}

/// A class, its opening bracket taken, and what follows. A `]` that stands first means itself.
fn class(text: &[u8]) -> Result<(Part, &[u8]), String> {
    let (is_negated, mut rest) = match text {
        [b'!' | b'^', after @ ..] => (true, after),
        after => (false, after),
    };
    let mut ranges = Vec::new();
    loop {
        if let [b']', after @ ..] = rest
            && !ranges.is_empty()
        {
            return Ok((Part::Class { is_negated, ranges }, after));
        }
        if rest.is_empty() {
            return Err("a class has no closing bracket".to_owned());
        }
        let (low, after) = literal(rest)?;
        let (high, after) = match after {
            [b'-', end, ..] if *end != b']' => literal(&after[1..])?,
            _ => (low, after),
        };
        if low > high {
            return Err("a range of a class ends before it begins".to_owned());
        }
        ranges.push((low, high));
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each sign means what the head of this file says, over bytes.
    #[test]
    fn matching() {
        for (pattern, matching, others) in [
            ("", &["" as &str][..], &["a"][..]),
            ("*", &["", "a", "\n\0"], &[]),
            ("a*", &["a", "ab"], &["", "ba"]),
            ("*.log", &[".log", "x.log", "x.log.log"], &["x.logs", "log"]),
            ("a*b*c", &["abc", "a-b-b-c", "abbcc"], &["acb", "ab", "abca"]),
            ("?", &["a", "*"], &["", "ab"]),
            ("user:?:*", &["user:7:", "user:7:name"], &["user:70:name"]),
            ("[a-c]x", &["ax", "bx", "cx"], &["dx", "x", "-x"]),
            ("[!a-c]", &["d", "-"], &["a", "c", ""]),
            ("[^a]", &["b"], &["a"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[a-]", &["a", "-"], &["b"]),
            (r"[\]\-]", &["]", "-"], &["\\", "^"]),
            (r"\*\?\[\\", &[r"*?[\"], &["aaaa"]),
            (r"\x41\x2a", &["A*"], &["AB", r"\x41\x2a"]),
            (r"[\x41-\x43]", &["A", "B", "C"], &["D", "x"]),
            ("**a**", &["a", "xax"], &["", "x"]),
            ("a]", &["a]"], &["a"]),
        ] {
            let glob = Glob::parse(pattern.as_bytes()).unwrap();
            for key in matching {
                assert!(glob.matches(key.as_bytes()), "{pattern} {key:?}");
                assert!(key.as_bytes().starts_with(&glob.prefix()), "{pattern} {key:?}");
            }
            for key in others {
                assert!(!glob.matches(key.as_bytes()), "{pattern} {key:?}");
            }
        }
        assert!(Glob::parse(b"[\xf0-\xff]?").unwrap().matches(b"\xfe\x00"));
        for wrong in ["[", "[a", "[]", "[!]", "a\\", "[z-a]", "[\\", "[a-"] {
            assert!(Glob::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    /// Goal: a pattern that looks like work is none.
    #[test]
    fn many_stars() {
        let glob = Glob::parse("*a".repeat(2_000).as_bytes()).unwrap();
        assert!(
            !glob.matches("a".repeat(1_999).as_bytes())
                && glob.matches("a".repeat(2_000).as_bytes())
        );
        assert!(!glob.matches(&[b"a".repeat(20_000), b"b".to_vec()].concat()));
    }
}
