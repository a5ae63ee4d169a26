//! Values to bytes and back. The id of the codec travels with each record.

pub(crate) mod inspect;
#[cfg(feature = "postcard")]
mod postcard;
mod serde_codecs;

use crate::error::BoxError;

#[cfg(feature = "postcard")]
pub use self::postcard::Postcard;
pub use serde_codecs::{Json, MsgPack};

/// Turns values of type `V` into bytes and back.
///
/// Use one as the third parameter of a cache or map; [`MsgPack`] is the default.
pub trait Codec<V>: Send + Sync + 'static {
    /// Travels with each record: 0 raw bytes, 1 MessagePack, 2 JSON, 3 postcard; 64 to 255 are free for your own.
    const ID: u8;
    /// Travels with each record; a record with another one is handed to a migration or refused. 0 = none.
    const SCHEMA: u32 = 0;

    /// Appends the bytes of `value` to `out`. What is appended must decode: the codecs of this crate read back what they
    /// wrote, and refuse a value that they cannot read.
    ///
    /// # Errors
    /// If the value cannot be encoded. What `out` has then is not used.
    fn encode(value: &V, out: &mut Vec<u8>) -> Result<(), BoxError>;

    /// The value of `bytes`, which a record with codec `id` and schema version `schema` holds. Both may differ from
    /// [`Self::ID`] and [`Self::SCHEMA`] when an earlier version of the program wrote the record.
    ///
    /// # Errors
    /// If the bytes are not such a value.
    fn decode(bytes: &[u8], id: u8, schema: u32) -> Result<V, BoxError>;
}

/// The bytes are the value: for `Vec<u8>`, `String`, and whatever else is made from bytes.
///
/// ```
/// use tierce::codec::{Codec, Raw};
/// let mut out = Vec::new();
/// Raw::encode(&String::from("as it is"), &mut out)?;
/// assert_eq!(out, b"as it is");
/// # Ok::<(), tierce::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Raw {}

impl<V> Codec<V> for Raw
where
    V: AsRef<[u8]> + TryFrom<Vec<u8>>,
    <V as TryFrom<Vec<u8>>>::Error: std::fmt::Display,
{
    const ID: u8 = 0;

    fn encode(value: &V, out: &mut Vec<u8>) -> Result<(), BoxError> {
        out.extend_from_slice(value.as_ref());
        Ok(())
    }

    fn decode(bytes: &[u8], id: u8, _schema: u32) -> Result<V, BoxError> {
        if id != 0 {
            return Err(unknown(id));
        }
        // The error of `String` has the bytes in it, which may be secret.
        V::try_from(bytes.to_vec()).map_err(|error| error.to_string().into())
    }
}

/// The record was written with a codec that this one does not know.
pub(crate) fn unknown(id: u8) -> BoxError {
    format!("it was written with codec {id}").into()
}

/// What was written could not be read again, so it is refused.
pub(crate) fn unreadable(error: impl std::fmt::Display) -> BoxError {
    format!("its type cannot read back what it writes in this codec: {error}").into()
}
