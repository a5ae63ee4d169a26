//! Typed keys: their bytes sort as the keys do, and two keys that differ have bytes that differ.

mod encoding;
mod impls;

pub(crate) use encoding::is_under;
pub use encoding::{KeyReader, KeyWriter};

/// Something that can be looked up: its bytes are appended to a [`KeyWriter`].
///
/// Implemented for integers, floats, `bool`, strings, bytes, [`uuid::Uuid`], `()`, and tuples of up to six keys. Keys
/// of different kinds never have the same bytes: `1`, `1.0`, `true`, `"1"` and `b"1"` are five keys. Integers of all
/// widths are one kind: `1_u8` and `1_i64` are the same key.
///
/// A key may have 65,535 bytes when it is encoded, with the prefix of its space; errors of the engine count these. A zero
/// byte in a string or in bytes takes two.
///
/// ```
/// use tierce::key::encode;
/// assert!(encode("a") < encode("b"));
/// assert!(encode(&-1) < encode(&0) && encode(&255) < encode(&256));
/// assert_ne!(encode(&("a:b", "c")), encode(&("a", "b:c")));
/// assert_ne!(encode(&1), encode(&1.0));
/// ```
pub trait Key {
    /// Names the kind of key, as it is stored with a space: "string", "(string, integer)".
    fn kind() -> String;
    /// Appends the key.
    fn write(&self, out: &mut KeyWriter<'_>);
    /// Appends the key as a part of another one. Only keys of several parts differ here.
    fn write_nested(&self, out: &mut KeyWriter<'_>) {
        self.write(out);
    }
}

/// A key that can be read back from its bytes.
pub trait OwnedKey: Key + Sized + Send + Sync + 'static {
    /// Takes the key off the front of the bytes; `None` if they are not such a key.
    fn read(from: &mut KeyReader<'_>) -> Option<Self>;
    /// As [`Self::read`], for a part of another key.
    fn read_nested(from: &mut KeyReader<'_>) -> Option<Self> {
        Self::read(from)
    }
}

/// A form in which keys of type `K` can be looked up: `str` for `String`, `(&str, u64)` for `(String, u64)`.
///
/// For a key type of your own implement `Lookup<YourKey> for YourKey`, too.
pub trait Lookup<K>: Key {}

impl<K, Q: Lookup<K> + ?Sized> Lookup<K> for &Q {}

/// A key that was encoded before, to be looked up on another thread.
#[derive(Clone, Debug)]
pub(crate) struct Encoded(Vec<u8>);

impl Encoded {
    pub(crate) fn new<Q: Key + ?Sized>(key: &Q) -> Self {
        Self(encode(key))
    }

    /// As a part of another key.
    pub(crate) fn nested<Q: Key + ?Sized>(key: &Q) -> Self {
        let mut bytes = Vec::new();
        key.write_nested(&mut KeyWriter::new(&mut bytes));
        Self(bytes)
    }
}

impl Key for Encoded {
    fn kind() -> String {
        "encoded".to_owned()
    }

    fn write(&self, out: &mut KeyWriter<'_>) {
        out.encoded(&self.0);
    }
}

impl<K> Lookup<K> for Encoded {}

impl<Q: Key + ?Sized> Key for &Q {
    fn kind() -> String {
        Q::kind()
    }

    fn write(&self, out: &mut KeyWriter<'_>) {
        (**self).write(out);
    }

    fn write_nested(&self, out: &mut KeyWriter<'_>) {
        (**self).write_nested(out);
    }
}

/// The bytes of a key.
///
/// ```
/// assert!(tierce::key::encode(&(1, "a")) < tierce::key::encode(&(1, "b")));
/// ```
#[must_use]
pub fn encode<Q: Key + ?Sized>(key: &Q) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.write(&mut KeyWriter::new(&mut bytes));
    bytes
}

/// The key of some bytes; `None` if they are no such key, or if there are more of them.
///
/// ```
/// use tierce::key::{decode, encode};
/// assert_eq!(decode::<(u32, String)>(&encode(&(7, "a"))), Some((7, "a".to_owned())));
/// assert_eq!(decode::<u8>(&encode(&300)), None);
/// ```
#[must_use]
pub fn decode<K: OwnedKey>(bytes: &[u8]) -> Option<K> {
    let mut reader = KeyReader::new(bytes);
    let key = K::read(&mut reader)?;
    reader.is_empty().then_some(key)
}
