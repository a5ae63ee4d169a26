//! What an operation is in the terms of the engine, and in those of the model.

use std::time::Duration;

use tierce_engine::{
    Batch, Change, Durability, Engine, Entry, Error, PutOptions, Snapshot, Timestamp,
};

use crate::{
    model::{Effect, State, Stored, live},
    op::{BatchPart, Op, PutOp, UpdateKind, key, scope, scopes, value},
    run::Trouble,
};

/// Gives a key another expiry; whether it was there.
pub(crate) fn renew(engine: &Engine, op: &Op, now: Timestamp) -> Result<bool, Error> {
    match op {
        Op::Touch { key: number, expires_in_ms } => {
            engine.touch(key(*number), expires_in_ms.map(|ms| now.saturating_add_ms(ms)))
        }
        Op::Slide { key: number, lifetime_ms } => {
            engine.slide(key(*number), Duration::from_millis(*lifetime_ms))
        }
        _ => Ok(false),
    }
}

pub(crate) fn check_get(
    key: &[u8],
    found: Option<&[u8]>,
    state: &State,
    now: Timestamp,
) -> Result<(), String> {
    let expected = live(state, now).find(|(of, _)| *of == key).map(|(_, stored)| &*stored.value);
    if found == expected {
        return Ok(());
    }
    let length = |value: Option<&[u8]>| value.map(<[u8]>::len);
    Err(format!("get gives {:?} bytes, expected {:?}", length(found), length(expected)))
}

pub(crate) fn check_iteration(
    engine: &Engine,
    state: &State,
    now: Timestamp,
) -> Result<(), Trouble> {
    check_shown(&engine.snapshot()?, state, now)
}

/// A snapshot shows just what is live in `state` at `now`.
pub(crate) fn check_shown(
    snapshot: &Snapshot,
    state: &State,
    now: Timestamp,
) -> Result<(), Trouble> {
    let mut count = 0;
    for item in snapshot.iter() {
        let (key, entry) = item?;
        check_get(&key, Some(entry.value.as_ref()), state, now)?;
        count += 1;
    }
    let expected = live(state, now).count();
    if count == expected {
        return Ok(());
    }
    Err(Trouble::Wrong(format!("a snapshot shows {count} entries, expected {expected}")))
}

pub(crate) fn put_effect(put: &PutOp, now: Timestamp) -> Effect {
    let stored = Stored {
        value: value(put.bytes, put.seed).into(),
        expires_at: put.expires_in_ms.map(|ms| now.saturating_add_ms(ms)),
        evictable: put.evictable,
        scopes: scopes(put.scopes).collect(),
        sequence: None,
        evicted: false,
        hidden: false,
        slid_ms: 0,
        taken_ms: 0,
    };
    Effect::Put(key(put.key), stored)
}

pub(crate) fn put_options(put: &PutOp, now: Timestamp) -> PutOptions {
    let mut options = PutOptions::new().evictable(put.evictable);
    if let Some(ms) = put.expires_in_ms {
        options = options.expires_at(now.saturating_add_ms(ms));
    }
    if let Some(durability) = put.durability {
        options = options.durability(durability);
    }
    scopes(put.scopes).fold(options, PutOptions::scope)
}

pub(crate) fn plain(value: &[u8]) -> Stored {
    let (expires_at, evictable, scopes, sequence) = (None, false, Vec::new(), None);
    Stored {
        value: value.into(),
        expires_at,
        evictable,
        scopes,
        sequence,
        evicted: false,
        hidden: false,
        slid_ms: 0,
        taken_ms: 0,
    }
}

/// What an update makes of a value; it starts anew when the value gets long.
pub(crate) fn appended(old: &[u8], seed: u64) -> Vec<u8> {
    let kept = if old.len() > 400 { &old[..0] } else { old };
    [kept, &value(20, seed)].concat()
}

pub(crate) fn changed(found: Option<&Entry>, change: UpdateKind, seed: u64) -> Change {
    match change {
        UpdateKind::Keep => Change::Keep,
        UpdateKind::Delete => Change::Delete,
        UpdateKind::Append => {
            let old = found.map_or(&[][..], |entry| entry.value.as_ref());
            Change::Put(appended(old, seed), PutOptions::new())
        }
    }
}

pub(crate) fn part_effect(part: &BatchPart, now: Timestamp) -> Effect {
    match part {
        BatchPart::Put(put) => put_effect(put, now),
        BatchPart::Delete { key: number } => Effect::Delete(key(*number)),
        BatchPart::CutScope { scope: number } => Effect::Cut(scope(*number)),
    }
}

pub(crate) fn batch(parts: &[BatchPart], durability: Option<Durability>, now: Timestamp) -> Batch {
    let mut batch = Batch::new();
    for part in parts {
        match part {
            BatchPart::Put(put) => {
                batch.put_with(key(put.key), value(put.bytes, put.seed), put_options(put, now));
            }
            BatchPart::Delete { key: number } => {
                batch.delete(key(*number));
            }
            BatchPart::CutScope { scope: number } => {
                batch.cut_scope(scope(*number));
            }
        }
    }
    if let Some(durability) = durability {
        batch.durability(durability);
    }
    batch
}
