//! The compact positional codec, only with a schema version.

use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, inspect, unknown, unreadable};
use crate::error::BoxError;

/// [postcard](https://postcard.jamesmunns.com): small and fast, but positional. A changed type would be read wrongly
/// without notice, so `SCHEMA` is part of the type and travels with each record: raise it with each change.
///
/// It does not describe itself: values with `#[serde(flatten)]`, `tag` or `untagged`, and fields that are skipped, are
/// refused when they are written, since they could not be read again.
///
/// ```
/// use tierce::codec::{Codec, Postcard};
/// let mut out = Vec::new();
/// Postcard::<1>::encode(&(1_u8, "a".to_owned()), &mut out)?;
/// assert!(<Postcard<1> as Codec<(u8, String)>>::decode(&out, 3, 1).is_ok());
/// assert!(<Postcard<2> as Codec<(u8, String)>>::decode(&out, 3, 1).is_err());
/// # Ok::<(), tierce::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Postcard<const SCHEMA: u32> {}

const ID: u8 = 3;

impl<V: Serialize + DeserializeOwned, const SCHEMA: u32> Codec<V> for Postcard<SCHEMA> {
    const ID: u8 = ID;
    const SCHEMA: u32 = SCHEMA;

    fn encode(value: &V, out: &mut Vec<u8>) -> Result<(), BoxError> {
        if inspect::inspect(value).skipped > 0 {
            return Err(unreadable("it leaves out a field, and fields have no names"));
        }
        let start = out.len();
        let bytes = ::postcard::to_extend(value, std::mem::take(out))?;
        *out = bytes;
        let written = out.get(start..).unwrap_or_default();
        let back: V = read(written).map_err(unreadable)?;
        // As long as a map may come in another order, the bytes may differ, and their number does not.
        if ::postcard::experimental::serialized_size(&back)? == written.len() {
            return Ok(());
        }
        Err(unreadable("it is written in another form than it is read in"))
    }

    fn decode(bytes: &[u8], id: u8, schema: u32) -> Result<V, BoxError> {
        if id != ID {
            return Err(unknown(id));
        }
        if schema != SCHEMA {
            return Err(format!("its schema version is {schema}, not {SCHEMA}").into());
        }
        read(bytes)
    }
}

fn read<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, BoxError> {
    let (value, rest) = ::postcard::take_from_bytes(bytes)?;
    if rest.is_empty() { Ok(value) } else { Err("there are bytes behind the value".into()) }
}
