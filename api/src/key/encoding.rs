//! The bytes of keys. The idea of a self-delimiting tuple encoding is that of FoundationDB's tuple layer; the tags are
//! our own.
//!
//! | first byte | kind | then |
//! |---|---|---|
//! | 02 | bytes | the bytes, 00 written as 00 ff, then 00 |
//! | 03 | string | as bytes |
//! | 05 | unit | |
//! | 06, 07 | false, true | |
//! | 08 | nested tuple | its parts, then 00 |
//! | 0a | float | 8 bytes, most significant first; negative ones inverted, others with the sign bit set |
//! | 0b | uuid | 16 bytes |
//! | 20 to 40 | integer | 30 + n: n bytes, most significant first; 30 - n: the same of a negative one, inverted |

const BYTES: u8 = 0x02;
const STRING: u8 = 0x03;
const UNIT: u8 = 0x05;
const FALSE: u8 = 0x06;
const TRUE: u8 = 0x07;
const TUPLE: u8 = 0x08;
const FLOAT: u8 = 0x0a;
const UUID: u8 = 0x0b;
const ZERO: u8 = 0x30;
const END: u8 = 0x00;
const ESCAPED: u8 = 0xff;
const SIGN: u64 = 1 << 63;

/// Whether a key begins with these parts, and not just with these bytes: a text that goes on with a zero goes on with
/// an escaped end, and no part begins with that.
pub(crate) fn is_under(key: &[u8], parts: &[u8]) -> bool {
    key.starts_with(parts) && key.get(parts.len()) != Some(&ESCAPED)
}

/// Takes the bytes of a key, part by part.
#[derive(Debug)]
pub struct KeyWriter<'a>(&'a mut Vec<u8>);

impl<'a> KeyWriter<'a> {
    /// Appends to `out`.
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        Self(out)
    }

    /// Appends a string.
    pub fn string(&mut self, text: &str) {
        self.0.push(STRING);
        self.escaped(text.as_bytes());
    }

    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.push(BYTES);
        self.escaped(bytes);
    }

    /// Appends what another writer made.
    pub(crate) fn encoded(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn escaped(&mut self, mut bytes: &[u8]) {
        while let Some(zero) = bytes.iter().position(|byte| *byte == END) {
            self.0.extend_from_slice(&bytes[..=zero]);
            self.0.push(ESCAPED);
            bytes = &bytes[zero + 1..];
        }
        self.0.extend_from_slice(bytes);
        self.0.push(END);
    }

    /// Appends an integer of any width.
    pub fn integer(&mut self, value: i128) {
        let size = value.unsigned_abs();
        let bytes = (u128::BITS - size.leading_zeros()).div_ceil(8) as u8;
        self.0.push(if value < 0 { ZERO - bytes } else { ZERO + bytes });
        for byte in (0..bytes).rev() {
            let part = (size >> (8 * byte)) as u8;
            self.0.push(if value < 0 { !part } else { part });
        }
    }

    /// Appends a float; they sort by their total order (IEEE 754), -0.0 before 0.0, NaN at the ends.
    pub fn float(&mut self, value: f64) {
        let bits = value.to_bits();
        self.0.push(FLOAT);
        self.fixed(u128::from(if bits & SIGN == 0 { bits | SIGN } else { !bits }), 8);
    }

    /// Appends a UUID.
    pub fn uuid(&mut self, uuid: uuid::Uuid) {
        self.0.push(UUID);
        self.0.extend_from_slice(uuid.as_bytes());
    }

    /// Appends a boolean.
    pub fn boolean(&mut self, value: bool) {
        self.0.push(if value { TRUE } else { FALSE });
    }

    /// Appends a unit.
    pub fn unit(&mut self) {
        self.0.push(UNIT);
    }

    /// Appends a tuple as one part of another key: `parts` writes its parts.
    pub fn tuple(&mut self, parts: impl FnOnce(&mut KeyWriter<'_>)) {
        self.0.push(TUPLE);
        parts(&mut KeyWriter(self.0));
        self.0.push(END);
    }

    fn fixed(&mut self, value: u128, bytes: u32) {
        self.0.extend((0..bytes).rev().map(|byte| (value >> (8 * byte)) as u8));
    }
}

/// Takes a key apart, part by part. Each method answers `None`, and takes nothing, if another part is next.
#[derive(Clone, Debug)]
pub struct KeyReader<'a>(&'a [u8]);

impl<'a> KeyReader<'a> {
    /// Reads `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn tag(&self, wanted: u8) -> Option<&'a [u8]> {
        let (tag, rest) = self.0.split_first()?;
        (*tag == wanted).then_some(rest)
    }

    fn fixed<const N: usize>(&mut self, tag: u8) -> Option<[u8; N]> {
        let (bytes, rest) = self.tag(tag)?.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn flag(&mut self, tag: u8) -> Option<()> {
        self.fixed::<0>(tag).map(drop)
    }

    /// Takes a string.
    pub fn string(&mut self) -> Option<String> {
        let mut ahead = self.clone();
        let text = String::from_utf8(ahead.escaped(STRING)?).ok()?;
        *self = ahead;
        Some(text)
    }

    /// Takes bytes.
    pub fn bytes(&mut self) -> Option<Vec<u8>> {
        self.escaped(BYTES)
    }

    fn escaped(&mut self, tag: u8) -> Option<Vec<u8>> {
        let mut rest = self.tag(tag)?;
        let mut bytes = Vec::new();
        loop {
            let zero = rest.iter().position(|byte| *byte == END)?;
            bytes.extend_from_slice(&rest[..zero]);
            rest = &rest[zero + 1..];
            match rest.split_first() {
                Some((&ESCAPED, after)) => {
                    bytes.push(END);
                    rest = after;
                }
                _ => {
                    self.0 = rest;
                    return Some(bytes);
                }
            }
        }
    }

    /// Takes an integer.
    pub fn integer(&mut self) -> Option<i128> {
        let (tag, rest) = self.0.split_first()?;
        let count = usize::from(tag.abs_diff(ZERO));
        if count > 16 {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(count)?;
        let is_negative = *tag < ZERO;
        let part = |byte: &u8| u128::from(if is_negative { !*byte } else { *byte });
        let size = bytes.iter().fold(0_u128, |size, byte| size << 8 | part(byte));
        // Only the shortest form is a key: two forms of one number would be two keys.
        let is_shortest = bytes.first().is_none_or(|first| part(first) != 0);
        let value = match is_negative {
            false => i128::try_from(size).ok(),
            true => 0_i128.checked_sub_unsigned(size),
        };
        let value = value.filter(|_| is_shortest)?;
        self.0 = rest;
        Some(value)
    }

    /// Takes a float.
    pub fn float(&mut self) -> Option<f64> {
        let bytes = self.fixed::<8>(FLOAT)?;
        let bits = bytes.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        Some(f64::from_bits(if bits & SIGN == 0 { !bits } else { bits & !SIGN }))
    }

    /// Takes a UUID.
    pub fn uuid(&mut self) -> Option<uuid::Uuid> {
        self.fixed(UUID).map(uuid::Uuid::from_bytes)
    }

    /// Takes a boolean.
    pub fn boolean(&mut self) -> Option<bool> {
        self.flag(TRUE).map(|()| true).or_else(|| self.flag(FALSE).map(|()| false))
    }

    /// Takes a unit.
    pub fn unit(&mut self) -> Option<()> {
        self.flag(UNIT)
    }

    /// Takes a tuple that is one part of another key: `parts` reads its parts.
    pub fn tuple<T>(&mut self, parts: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let mut ahead = self.clone();
        ahead.flag(TUPLE)?;
        let value = parts(&mut ahead)?;
        ahead.flag(END)?;
        *self = ahead;
        Some(value)
    }

    /// What comes next in a form that can be read, for messages: `("a", 1)`.
    #[must_use]
    pub fn readable(&self) -> String {
        let mut rest = self.clone();
        let mut parts = Vec::new();
        while !rest.is_empty() {
            match rest.part() {
                Some(part) => parts.push(part),
                None => {
                    parts.push(format!("{:02x?}", rest.0));
                    break;
                }
            }
        }
        if parts.len() == 1 { parts.swap_remove(0) } else { format!("({})", parts.join(", ")) }
    }

    fn part(&mut self) -> Option<String> {
        let nested = |inner: &mut Self| {
            let mut parts = Vec::new();
            while inner.tag(END).is_none() {
                parts.push(inner.part()?);
            }
            Some(format!("({})", parts.join(", ")))
        };
        self.string()
            .map(|text| format!("{text:?}"))
            .or_else(|| self.bytes().map(|bytes| format!("b\"{}\"", bytes.escape_ascii())))
            .or_else(|| self.integer().map(|value| value.to_string()))
            .or_else(|| self.float().map(|value| format!("{value:?}")))
            .or_else(|| self.uuid().map(|value| value.to_string()))
            .or_else(|| self.boolean().map(|value| value.to_string()))
            .or_else(|| self.unit().map(|()| "()".to_owned()))
            .or_else(|| self.tuple(nested))
    }
}
