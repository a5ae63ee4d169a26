//! Space id registry: each id belongs to one name for good.
//!
//! | key | value |
//! |---|---|
//! | `00 'n'` | the last id given to a space, as JSON |
//! | `00 'i'` | how many spaces there are, as JSON; there once every space has the record below |
//! | `00 'i'` id (4 bytes, little-endian) | the name of the space with this id, as JSON |
//!
//! A space is created by one commit that writes its own record and these three. Records that another program copied
//! into the store may disagree with them: a space whose id is another one's does not open.

use std::collections::BTreeMap;

use serde::{Serialize, de::DeserializeOwned};
use tierce_engine::{PutOptions, SequenceNumber, Snapshot};

use super::{
    SpaceInfo,
    catalog::{self, json, key_of, options, parse, parse_bytes},
    prefix_of,
};
use crate::{
    error::{Error, Result},
    kv::{Edit, Kv},
};

const COUNTER: &[u8] = &[0, b'n'];
const IDS: &[u8] = &[0, b'i'];
/// Edits of one commit while ids are claimed.
const CLAIMED_AT_ONCE: usize = 100;

/// Whether `key` is one of the records above.
pub(super) fn is_record(key: &[u8]) -> bool {
    key == COUNTER || (key.starts_with(IDS) && matches!(key.len(), 2 | 6))
}

/// Whether a store has had spaces.
pub(super) fn has_any(snapshot: &Snapshot) -> Result<bool> {
    Ok(snapshot.get(COUNTER)?.is_some() || snapshot.get(IDS)?.is_some())
}

fn key_of_id(id: u32) -> Vec<u8> {
    [IDS, &id.to_le_bytes()].concat()
}

/// A record, and the write that stored it.
type Stored<T> = Option<(T, SequenceNumber)>;

fn read<T: Serialize + DeserializeOwned>(kv: &dyn Kv, key: &[u8]) -> Result<Stored<T>> {
    let mut found = None;
    kv.view(key, &mut |view| {
        let sequence = view.sequence;
        found = Some(parse(key, view).map(|value| (value, sequence)));
    })?;
    found.transpose()
}

/// A put that happens only if the record is still what was read.
fn replace<T: Serialize + DeserializeOwned, U>(
    key: &[u8],
    value: &T,
    read: &Stored<U>,
) -> Result<Edit> {
    Ok(Edit::Put(
        key.to_vec(),
        json(value)?,
        condition(read.as_ref().map(|(_, sequence)| *sequence)),
    ))
}

fn condition(read: Option<SequenceNumber>) -> PutOptions {
    match read {
        Some(sequence) => options().only_if_unchanged(sequence),
        None => options().only_if_absent(),
    }
}

fn is_conflict<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Engine(tierce_engine::Error::Conflict { .. })))
}

/// Tells the engine how many records the catalog has, so that a limit on entries does not count them.
fn note_count(kv: &dyn Kv, spaces: u32) {
    kv.set_internal_entries(2 * u64::from(spaces) + 2);
}

/// As [`note_count`], with what is on record.
pub(super) fn note_entries(kv: &dyn Kv) {
    // What cannot be read is an error when a space is opened.
    match read::<u32>(kv, IDS).ok().flatten() {
        Some((spaces, _)) => note_count(kv, spaces),
        None => kv.set_internal_entries(0),
    }
}

/// The name that has this id, if one is on record.
pub(super) fn owner(kv: &dyn Kv, id: u32) -> Result<Option<String>> {
    Ok(read(kv, &key_of_id(id))?.map(|(name, _)| name))
}

/// The last id that was given, if `key` is the record of it.
pub(super) fn last_of(key: &[u8], value: &[u8]) -> Result<Option<u32>> {
    if key == COUNTER { parse_bytes(key, value).map(Some) } else { Ok(None) }
}

/// Creates the space; `None` if another one came between: then look again. `wish` is the id that it gets if no space
/// ever had it.
pub(super) fn create(
    kv: &dyn Kv,
    wanted: &SpaceInfo,
    wish: Option<u32>,
) -> Result<Option<SpaceInfo>> {
    let count: Stored<u32> = read(kv, IDS)?;
    let Some((spaces, _)) = count else {
        claim_all(kv)?;
        return Ok(None);
    };
    let counter: Stored<u32> = read(kv, COUNTER)?;
    let given = counter.as_ref().map_or(0, |(last, _)| *last);
    let overflow = || Error::Overflow { what: "the ids of spaces".to_owned() };
    let mut id = given.checked_add(1).ok_or_else(overflow)?;
    id = wish.map_or(id, |wish| wish.max(id));
    // A counter that was set back gives no id twice.
    while owner(kv, id)?.is_some() {
        id = id.checked_add(1).ok_or_else(overflow)?;
    }
    let made = SpaceInfo { id, ..wanted.clone() };
    let more = spaces.saturating_add(1);
    note_count(kv, more);
    let absent = || options().only_if_absent();
    let created = kv.commit(
        vec![
            replace(COUNTER, &id, &counter)?,
            replace(IDS, &more, &count)?,
            Edit::Put(key_of_id(id), json(&made.name)?, absent()),
            Edit::Put(key_of(&made.name), json(&made)?, absent()),
        ],
        None,
    );
    if is_conflict(&created) {
        return Ok(None);
    }
    if created.is_err() {
        note_count(kv, spaces);
    }
    created.map(|_| Some(made))
}

/// Refuses a space whose id is another one's, too: each would show and overwrite the entries of the other.
pub(super) fn check(kv: &dyn Kv, info: &SpaceInfo) -> Result<()> {
    if owner(kv, info.id)?.as_ref() != Some(&info.name) {
        // A store from before there were such records, or records that another program put there. A reader and a full
        // store cannot write them: then only the names are compared.
        let _ = claim_all(kv);
        if owner(kv, info.id)?.as_ref() != Some(&info.name) {
            check_names(kv, info)?;
        }
    }
    note_entries(kv);
    Ok(())
}

fn check_names(kv: &dyn Kv, info: &SpaceInfo) -> Result<()> {
    let same = |other: &SpaceInfo| other.id == info.id && other.name != info.name;
    match catalog::list(kv)?.into_iter().find(same) {
        None => Ok(()),
        Some(other) => Err(Error::Catalog(format!(
            "spaces `{}` and `{}` have one id, {}, so neither can be told from the other: drop the name that is wrong, \
             which leaves the entries to the other one",
            info.name, other.name, info.id
        ))),
    }
}

/// Whether another space has the same id.
fn is_shared(kv: &dyn Kv, info: &SpaceInfo) -> Result<bool> {
    if owner(kv, info.id)?.as_ref() == Some(&info.name) {
        return Ok(false);
    }
    let same = |other: &SpaceInfo| other.id == info.id && other.name != info.name;
    Ok(catalog::list(kv)?.iter().any(same))
}

/// Writes the records of all ids that one space has, and their count. Ids that several spaces have stay without.
fn claim_all(kv: &dyn Kv) -> Result<()> {
    loop {
        let (count, counter): (Stored<u32>, Stored<u32>) = (read(kv, IDS)?, read(kv, COUNTER)?);
        let spaces = catalog::list(kv)?;
        let mut by_id: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for space in &spaces {
            by_id.entry(space.id).or_default().push(&space.name);
        }
        let mut claims = Vec::new();
        for (id, names) in &by_id {
            if let [name] = names.as_slice()
                && owner(kv, *id)?.as_deref() != Some(name)
            {
                claims.push(Edit::Put(key_of_id(*id), json(&(*name).to_owned())?, options()));
            }
        }
        let spaces = u32::try_from(spaces.len()).unwrap_or(u32::MAX);
        note_count(kv, spaces);
        for claims in claims.chunks(CLAIMED_AT_ONCE) {
            kv.commit(claims.to_vec(), None)?;
        }
        let given = counter.as_ref().map_or(0, |(last, _)| *last);
        let last = by_id.last_key_value().map_or(given, |(id, _)| given.max(*id));
        let written = kv
            .commit(vec![replace(IDS, &spaces, &count)?, replace(COUNTER, &last, &counter)?], None);
        if !is_conflict(&written) {
            return written.map(drop);
        }
    }
}

/// Raises the last id to `last`, so that none up to it is given.
pub(super) fn raise(kv: &dyn Kv, last: u32) -> Result<()> {
    loop {
        let counter: Stored<u32> = read(kv, COUNTER)?;
        if counter.as_ref().is_some_and(|(given, _)| *given >= last) {
            return Ok(());
        }
        let written = kv.commit(vec![replace(COUNTER, &last, &counter)?], None);
        if !is_conflict(&written) {
            return written.map(drop);
        }
    }
}

/// Ends the space and all that is in it, together. What shares its id with another space only loses its name.
pub(super) fn end(kv: &dyn Kv, info: &SpaceInfo) -> Result<()> {
    let mut ends = vec![Edit::Delete(key_of(&info.name))];
    if !is_shared(kv, info)? {
        ends.extend([Edit::Cut(prefix_of(info.id)), Edit::Delete(key_of_id(info.id))]);
    }
    loop {
        let count: Stored<u32> = read(kv, IDS)?;
        let spaces = count.as_ref().map_or(0, |(spaces, _)| *spaces);
        let fewer = spaces.saturating_sub(1);
        note_count(kv, spaces);
        let counted = replace(IDS, &fewer, &count)?;
        let edits = ends.iter().cloned().chain(count.is_some().then_some(counted)).collect();
        let ended = kv.commit(edits, None);
        if is_conflict(&ended) {
            continue;
        }
        // At a limit a put is refused, and what only deletes is not: the count is then one too high.
        let ended = match ended {
            Err(Error::Engine(tierce_engine::Error::Full { .. })) => kv.commit(ends, None),
            ended => ended,
        };
        ended?;
        note_count(kv, fewer);
        return Ok(());
    }
}
