//! The list of spaces, kept in the store itself under keys that no space has.
//!
//! | key | value |
//! |---|---|
//! | `00 's'` name | the space, as JSON |
//!
//! Beside it are the records of ids (`ids`). Ids are never reused, so that what is left of a dropped space cannot come
//! up in another one.

use std::ops::ControlFlow;

use serde::{Serialize, de::DeserializeOwned};
use tierce_engine::{Change, PutOptions, View};

use super::{SpaceInfo, SpaceOptions, SpaceStats, ids, prefix_of};
use crate::{
    codec::{Codec as _, Json},
    error::{Error, Result},
    kv::Kv,
};

const SPACES: &[u8] = &[0, b's'];
/// Longest name of a space in bytes.
const NAME_BYTES_MAX: usize = 200;

pub(super) fn key_of(name: &str) -> Vec<u8> {
    [SPACES, name.as_bytes()].concat()
}

/// What the names of the spaces of recipes and of named collections begin with.
pub(super) const RESERVED: &str = "tierce/";

/// The name of the space in whose record `key` stands.
pub(super) fn name_of(key: &[u8]) -> Option<&str> {
    key.strip_prefix(SPACES).and_then(|name| std::str::from_utf8(name).ok())
}

/// Checks that a name can be one: parts between slashes that are not empty, and no control characters. Only the
/// library's own spaces have reserved ones.
pub(crate) fn check_name(name: &str, is_internal: bool) -> Result<()> {
    let wrong = |reason| Err(Error::Name { name: name.chars().take(80).collect(), reason });
    if name.is_empty() {
        return wrong("it is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return wrong("it is longer than 200 bytes");
    }
    if name.chars().any(char::is_control) {
        return wrong("it has control characters");
    }
    if name.split('/').any(str::is_empty) {
        return wrong("a part between slashes is empty");
    }
    if name.starts_with('$') {
        return wrong("names that begin with `$` are reserved");
    }
    if name.starts_with(RESERVED) && !is_internal {
        return wrong("names that begin with `tierce/` are reserved");
    }
    Ok(())
}

pub(super) fn options() -> PutOptions {
    PutOptions::new().codec(<Json as crate::codec::Codec<()>>::ID, 0)
}

pub(super) fn json<T: Serialize + DeserializeOwned>(value: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Json::encode(value, &mut bytes)
        .map_err(|source| Error::Encode { space: "$spaces".to_owned(), source })?;
    Ok(bytes)
}

pub(super) fn parse<T: Serialize + DeserializeOwned>(key: &[u8], view: View<'_>) -> Result<T> {
    decode(key, view.value, view.codec, view.schema)
}

/// A record that comes from a dump.
pub(super) fn parse_bytes<T: Serialize + DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T> {
    decode(key, value, <Json as crate::codec::Codec<()>>::ID, 0)
}

fn decode<T: Serialize + DeserializeOwned>(
    key: &[u8],
    value: &[u8],
    codec: u8,
    schema: u32,
) -> Result<T> {
    Json::decode(value, codec, schema).map_err(|source| Error::Decode {
        space: "$spaces".to_owned(),
        key: key.escape_ascii().to_string(),
        source,
    })
}

pub(crate) fn find(kv: &dyn Kv, name: &str) -> Result<Option<SpaceInfo>> {
    let key = key_of(name);
    let mut found = None;
    kv.view(&key, &mut |view| found = Some(parse(&key, view)))?;
    found.transpose()
}

/// The space `wanted.name`, created if it is not there.
pub(crate) fn open(kv: &dyn Kv, wanted: &SpaceInfo, options: &SpaceOptions) -> Result<SpaceInfo> {
    loop {
        // Another process may create it, or change it, meanwhile: then it is looked up again.
        if let Some(stored) = find(kv, &wanted.name)? {
            ids::check(kv, &stored)?;
            let info = stored.reconcile(wanted, options)?;
            if info == stored || replace(kv, &stored, &info)? {
                return Ok(info);
            }
        } else if let Some(made) = ids::create(kv, wanted, None)? {
            return Ok(made);
        }
    }
}

/// Writes `info` in the place of `stored`; `false` if that is not what is there any more.
fn replace(kv: &dyn Kv, stored: &SpaceInfo, info: &SpaceInfo) -> Result<bool> {
    let (key, bytes) = (key_of(&info.name), json(info)?);
    let put = kv.update(&key, &mut |view| {
        let found = view.and_then(|view| parse::<SpaceInfo>(&key, view).ok());
        if found.as_ref() == Some(stored) {
            Change::Put(bytes.clone(), options())
        } else {
            Change::Keep
        }
    })?;
    Ok(put.is_some())
}

/// Forgets the type of the values of `name`; `false` if there is no such space.
pub(crate) fn forget_value_type(kv: &dyn Kv, name: &str) -> Result<bool> {
    while let Some(stored) = find(kv, name)? {
        let info = SpaceInfo { values: String::new(), is_named: false, ..stored.clone() };
        if replace(kv, &stored, &info)? {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn write(kv: &dyn Kv, info: &SpaceInfo) -> Result<()> {
    kv.put(&key_of(&info.name), &json(info)?, &options())?;
    Ok(())
}

/// Every space, by name.
pub(crate) fn list(kv: &dyn Kv) -> Result<Vec<SpaceInfo>> {
    let mut spaces = Vec::new();
    let mut failed = None;
    kv.scan(SPACES, true, &mut |key, view| match parse::<SpaceInfo>(key, view) {
        Ok(space) => {
            spaces.push(space);
            ControlFlow::Continue(())
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    spaces.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(spaces)
}

pub(crate) fn stats(kv: &dyn Kv, name: &str) -> Result<Option<SpaceStats>> {
    let Some(info) = find(kv, name)? else { return Ok(None) };
    let mut stats = SpaceStats::default();
    kv.scan(&prefix_of(info.id), false, &mut |_, view| {
        stats.entries += 1;
        stats.bytes += view.record_bytes;
        stats.expiring += u64::from(view.expires_at.is_some());
        ControlFlow::Continue(())
    })?;
    Ok(Some(stats))
}

/// Tells the engine how many records the catalog has, so that a limit on entries does not count them.
pub(crate) fn note_entries(kv: &dyn Kv) {
    ids::note_entries(kv);
}

/// Ends the space and all that is in it, together.
pub(crate) fn end(kv: &dyn Kv, name: &str) -> Result<bool> {
    let Some(info) = find(kv, name)? else { return Ok(false) };
    ids::end(kv, &info)?;
    Ok(true)
}
