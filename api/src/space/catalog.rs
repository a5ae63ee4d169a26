//! The list of spaces, kept in the store itself under keys that no space has.
//!
//! | key | value |
//! |---|---|
//! | `00 'n'` | the last id given to a space, as JSON |
//! | `00 's'` name | the space, as JSON |
//!
//! Ids are never reused, so that what is left of a dropped space cannot come up in another one.

use std::ops::ControlFlow;

use serde::{Serialize, de::DeserializeOwned};
use tierce_engine::{Change, PutOptions, View};

use super::{SpaceInfo, SpaceOptions, SpaceStats, prefix_of};
use crate::{
    codec::{Codec as _, Json},
    error::{Error, Result},
    kv::{Edit, Kv},
};

const COUNTER: &[u8] = &[0, b'n'];
const SPACES: &[u8] = &[0, b's'];
/// Longest name of a space in bytes.
const NAME_BYTES_MAX: usize = 200;

fn key_of(name: &str) -> Vec<u8> {
    [SPACES, name.as_bytes()].concat()
}

/// The name, if it can be one: parts between slashes that are not empty, and no control characters.
pub(crate) fn check_name(name: &str) -> Result<()> {
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
    Ok(())
}

fn options() -> PutOptions {
    PutOptions::new().codec(<Json as crate::codec::Codec<()>>::ID, 0)
}

fn json<T: Serialize + DeserializeOwned>(value: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Json::encode(value, &mut bytes)
        .map_err(|source| Error::Encode { space: "$spaces".to_owned(), source })?;
    Ok(bytes)
}

fn parse<T: Serialize + DeserializeOwned>(key: &[u8], view: View<'_>) -> Result<T> {
    Json::decode(view.value, view.codec, view.schema).map_err(|source| Error::Decode {
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

/// The space `wanted.name`, made if it is not there.
pub(crate) fn open(kv: &dyn Kv, wanted: &SpaceInfo, options: &SpaceOptions) -> Result<SpaceInfo> {
    loop {
        if let Some(stored) = find(kv, &wanted.name)? {
            let info = stored.reconcile(wanted, options)?;
            if info == stored || replace(kv, &stored, &info)? {
                return Ok(info);
            }
            // Another process changed it meanwhile.
            continue;
        }
        let made = SpaceInfo { id: next_id(kv)?, ..wanted.clone() };
        // Another process may be making it, too; both are to have the one that was first.
        match put(kv, &made, &self::options().only_if_absent()) {
            Err(Error::Engine(tierce_engine::Error::Conflict { .. })) => {}
            written => return written.map(|()| made),
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

pub(super) fn write(kv: &dyn Kv, info: &SpaceInfo) -> Result<()> {
    put(kv, info, &options())
}

fn put(kv: &dyn Kv, info: &SpaceInfo, options: &PutOptions) -> Result<()> {
    kv.put(&key_of(&info.name), &json(info)?, options)?;
    Ok(())
}

fn next_id(kv: &dyn Kv) -> Result<u32> {
    let mut id = Ok(0);
    kv.update(COUNTER, &mut |view| {
        let next = view
            .map_or(Ok(1), |view| parse::<u32>(COUNTER, view).map(|last| last.saturating_add(1)));
        let bytes = next.and_then(|next| Ok((next, json(&next)?)));
        match bytes {
            Ok((next, bytes)) => {
                id = Ok(next);
                Change::Put(bytes, options())
            }
            Err(error) => {
                id = Err(error);
                Change::Keep
            }
        }
    })?;
    id
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

/// Ends the space and all that is in it, together.
pub(crate) fn end(kv: &dyn Kv, name: &str) -> Result<bool> {
    let Some(info) = find(kv, name)? else { return Ok(false) };
    kv.commit(vec![Edit::Cut(prefix_of(info.id)), Edit::Delete(key_of(name))], None)?;
    Ok(true)
}
