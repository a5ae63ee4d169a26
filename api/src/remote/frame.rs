//! An entry as bytes under one key of a server. Pure.
//!
//! | offset | bytes | is |
//! |---|---|---|
//! | 0 | 2 | `t` and the version of this form, 1 |
//! | 2 | 8 | sequence number |
//! | 10 | 1 | 1 if it expires, 0 if not |
//! | 11 | 8 | when it expires, in milliseconds of store time |
//! | 19 | 1 | 1 if it is evictable, 0 if not |
//! | 20 | 1 | codec |
//! | 21 | 4 | schema |
//! | 25 | 2 | count of scopes |
//! | 27 | 2 | count of items |
//! | 29 | 4 | length of the value |
//! | 33 | 4 | sum of the key, of bytes 19 to 32, and of scopes and items |
//! | 37 | 4 | sum of the value |
//! | 41 | | scopes: length (1), bytes; items: kind (1), length (1), bytes; the value |
//!
//! Numbers are little-endian. The script that stores an entry fills in its sequence number, and the one that touches it
//! overwrites its expiry: the sums leave both out. Everything else that was changed is noticed, and so is an entry that
//! was moved under another key.

use tierce_engine::{Entry, PutOptions, SequenceNumber, Timestamp};

use crate::error::BoxError;

/// How every frame begins.
const MAGIC: [u8; 2] = *b"t\x01";
/// Where the part begins that a put sends: all that follows the sequence number.
const EXPIRES: usize = 10;
/// Where the part begins that is summed.
const SUMMED: usize = 19;
const SUMS: usize = 33;
const HEAD: usize = 41;

/// A sum that tells accidents apart, not attacks: FNV-1a, folded.
#[derive(Clone, Copy)]
struct Sum(u64);

impl Sum {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(self, bytes: &[u8]) -> Self {
        let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(bytes.iter().fold(self.0, step))
    }

    fn finish(self) -> [u8; 4] {
        let [a, b, c, d, e, f, g, h] = self.0.to_le_bytes();
        [a ^ e, b ^ f, c ^ g, d ^ h]
    }
}

/// The bytes of an expiry as they stand in a frame.
pub(super) fn expiry(at: Option<Timestamp>) -> [u8; 9] {
    let mut bytes = [0; 9];
    bytes[0] = u8::from(at.is_some());
    bytes[1..].copy_from_slice(&at.unwrap_or_default().0.to_le_bytes());
    bytes
}

/// The state of an entry as it stands in a frame, from the sequence number on: both, or the sequence number alone if
/// its expiry was not part of what was read. The scripts compare these bytes.
#[cfg(feature = "redis")]
pub(super) fn version(version: tierce_engine::EntryVersion) -> Vec<u8> {
    let mut bytes = version.sequence().0.to_le_bytes().to_vec();
    bytes.extend(version.expires_at().map(expiry).into_iter().flatten());
    bytes
}

/// All of the frame that follows the sequence number. Scopes, items and value are within the limits of the door.
pub(super) fn encode(key: &[u8], entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + entry.value.len() + 64);
    bytes.extend_from_slice(&expiry(entry.expires_at));
    bytes.extend_from_slice(&[u8::from(entry.evictable), entry.codec]);
    bytes.extend_from_slice(&entry.schema.to_le_bytes());
    let count = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes();
    bytes.extend_from_slice(&count(entry.scopes.len()));
    bytes.extend_from_slice(&count(entry.items.len()));
    bytes.extend_from_slice(&u32::try_from(entry.value.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&[0; HEAD - SUMS]);
    let short = |length: usize| u8::try_from(length).unwrap_or(u8::MAX);
    for scope in &entry.scopes {
        bytes.push(short(scope.len()));
        bytes.extend_from_slice(scope);
    }
    for (kind, item) in &entry.items {
        bytes.extend_from_slice(&[*kind, short(item.len())]);
        bytes.extend_from_slice(item);
    }
    let fixed = &bytes[SUMMED - EXPIRES..SUMS - EXPIRES];
    let sum = Sum::new().add(key).add(fixed).add(&bytes[HEAD - EXPIRES..]).finish();
    bytes[SUMS - EXPIRES..SUMS + 4 - EXPIRES].copy_from_slice(&sum);
    let sum = Sum::new().add(&entry.value).finish();
    bytes[SUMS + 4 - EXPIRES..HEAD - EXPIRES].copy_from_slice(&sum);
    bytes.extend_from_slice(&entry.value);
    bytes
}

/// Takes bytes from the front, if there are so many.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

/// The entry of a frame of `total` bytes. `bytes` is all of it, or only what comes before the value, which is empty
/// then.
pub(super) fn decode(key: &[u8], bytes: &[u8], total: usize) -> Result<Entry, BoxError> {
    match bytes.get(..2) {
        Some(magic) if magic == MAGIC => {}
        Some([b't', version]) => {
            return Err(format!("it has version {version}, and the newest known here is 1").into());
        }
        _ => return Err("another program wrote it".into()),
    }
    parse(key, bytes, total).ok_or_else(|| "it is damaged, or another program wrote it".into())
}

fn parse(key: &[u8], bytes: &[u8], total: usize) -> Option<Entry> {
    let mut cursor = Cursor(bytes.get(MAGIC.len()..)?);
    let sequence = u64::from_le_bytes(cursor.array()?);
    let expires = cursor.flag()?;
    let expires_at = Timestamp(u64::from_le_bytes(cursor.array()?));
    let mut options = PutOptions::new().evictable(cursor.flag()?);
    let codec = cursor.byte()?;
    options = options.codec(codec, u32::from_le_bytes(cursor.array()?));
    if expires {
        options = options.expires_at(expires_at);
    }
    let scopes = u16::from_le_bytes(cursor.array()?);
    let items = u16::from_le_bytes(cursor.array()?);
    let value_bytes = usize::try_from(u32::from_le_bytes(cursor.array()?)).ok()?;
    let (sum, value_sum) = (cursor.array()?, cursor.array()?);
    for _ in 0..scopes {
        let length = cursor.byte()?;
        options = options.scope(cursor.take(usize::from(length))?);
    }
    for _ in 0..items {
        let (kind, length) = (cursor.byte()?, cursor.byte()?);
        options = options.item(kind, cursor.take(usize::from(length))?);
    }
    let head = bytes.len() - cursor.0.len();
    let whole = head.checked_add(value_bytes)?;
    let is_summed = sum
        == Sum::new().add(key).add(bytes.get(SUMMED..SUMS)?).add(bytes.get(HEAD..head)?).finish();
    let value = match cursor.0 {
        [] if bytes.len() < total => &[],
        value if Sum::new().add(value).finish() == value_sum && whole == bytes.len() => value,
        _ => return None,
    };
    if whole != total || !is_summed {
        return None;
    }
    let mut entry = Entry::new(value.to_vec(), options);
    entry.sequence = SequenceNumber(sequence);
    entry.stored = entry.sequence;
    Some(entry)
}

/// What must hold of any bytes under a key: they are an entry or an error; an entry is written and read as the same, and
/// its head alone says the same but for the value. Bytes are also taken as the frame of an entry with sums that are right.
///
/// # Panics
/// If that does not hold.
#[cfg(feature = "testing")]
pub(crate) fn check_frame(key: &[u8], bytes: &[u8]) {
    let check = |bytes: &[u8]| {
        let Ok(entry) = decode(key, bytes, bytes.len()) else { return };
        let sequence = entry.sequence.0.to_le_bytes();
        let again = [&MAGIC[..], &sequence, &encode(key, &entry)].concat();
        assert_eq!(decode(key, &again, again.len()).ok().as_ref(), Some(&entry));
        let head = &bytes[..bytes.len() - entry.value.len()];
        let Ok(peeked) = decode(key, head, bytes.len()) else { panic!("{entry:?} has no head") };
        assert_eq!((peeked.sequence, &peeked.scopes), (entry.sequence, &entry.scopes));
    };
    check(bytes);
    if let Some(head) = head_bytes(bytes) {
        let mut sound = bytes.to_vec();
        let sum = Sum::new().add(key).add(&sound[SUMMED..SUMS]).add(&sound[HEAD..head]).finish();
        sound[SUMS..SUMS + 4].copy_from_slice(&sum);
        let sum = Sum::new().add(&sound[head..]).finish();
        sound[SUMS + 4..HEAD].copy_from_slice(&sum);
        let value = u32::try_from(sound.len() - head).unwrap_or(u32::MAX);
        // The length is summed too, so this changes the sum of the head once more.
        sound[SUMS - 4..SUMS].copy_from_slice(&value.to_le_bytes());
        let sum = Sum::new().add(key).add(&sound[SUMMED..SUMS]).add(&sound[HEAD..head]).finish();
        sound[SUMS..SUMS + 4].copy_from_slice(&sum);
        check(&sound);
    }
}

/// Where the value begins by the counts and lengths in a frame, if they fit into it.
#[cfg(feature = "testing")]
fn head_bytes(bytes: &[u8]) -> Option<usize> {
    let count = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let (scopes, items) = (count(SUMMED + 6)?, count(SUMMED + 8)?);
    let mut at = HEAD;
    for _ in 0..scopes {
        at += 1 + usize::from(*bytes.get(at)?);
    }
    for _ in 0..items {
        at += 2 + usize::from(*bytes.get(at + 1)?);
    }
    (at <= bytes.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> (Entry, Vec<u8>) {
        let options = PutOptions::new().codec(3, 70_000).evictable(true).scope("s").scope([7; 255]);
        let options = options.item(0x20, "stored").item(0x7f, "").expires_at(Timestamp(u64::MAX));
        let mut entry = Entry::new(b"a value".to_vec(), options);
        entry.sequence = SequenceNumber(0x0102_0304_0506_0708);
        entry.stored = entry.sequence;
        let sequence = entry.sequence.0.to_le_bytes();
        let frame = [&MAGIC[..], &sequence, &encode(b"key", &entry)].concat();
        (entry, frame)
    }

    /// Goal: what goes in comes out, with and without the value.
    #[test]
    fn round_trip() {
        let (entry, frame) = some();
        assert_eq!(decode(b"key", &frame, frame.len()).unwrap(), entry);
        let head = &frame[..frame.len() - entry.value.len()];
        let peeked = decode(b"key", head, frame.len()).unwrap();
        assert_eq!((&peeked.scopes, peeked.value.len()), (&entry.scopes, 0));
        let plain = Entry::new(Vec::new(), PutOptions::new());
        let frame = [&MAGIC[..], &[0; 8], &encode(b"", &plain)].concat();
        assert_eq!((frame.len(), decode(b"", &frame, HEAD).unwrap()), (HEAD, plain));
    }

    /// Goal: a frame that is cut short, longer, or moved is an error; so is any changed byte that the scripts leave
    /// alone.
    #[test]
    fn damage_is_an_error() {
        let (entry, frame) = some();
        for length in 0..frame.len() {
            assert!(decode(b"key", &frame[..length], length).is_err(), "cut to {length}");
        }
        let longer = [&frame[..], &[0]].concat();
        assert!(decode(b"key", &longer, longer.len()).is_err());
        assert!(decode(b"other", &frame, frame.len()).is_err());
        for at in (0..2).chain(SUMMED..frame.len()) {
            for bit in 0..8 {
                let mut wrong = frame.clone();
                wrong[at] ^= 1 << bit;
                assert!(decode(b"key", &wrong, wrong.len()).is_err(), "byte {at} bit {bit}");
            }
        }
        let newer = [b"t\x02", &frame[2..]].concat();
        let error = decode(b"key", &newer, newer.len()).unwrap_err();
        assert!(error.to_string().contains("version 2"), "{error}");
        assert_eq!(entry.value.len(), 7);
    }
}
