//! The steps of the tour that need one process. Each ends in a comparison with something the store did not tell.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tierce_engine::{Batch, Change, Engine, Error, PutOptions, Result};

use super::{input::Input, report::Finding};
use crate::escape::escape;

/// Everything the tour stores begins with this, so that it does not disturb a store that is in use.
pub(super) const PREFIX: &str = "tour/";
const COUNTER: &str = "tour/counter";
const LIFETIME_MS: u64 = 300;
/// A store clock that stands still is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A key of this many bytes is refused by every store.
const KEY_BYTES_TOO_MANY: usize = 65_536;

fn state_key(entity: &str) -> String {
    format!("{PREFIX}state/{entity}")
}

/// Puts each state under its entity, as it comes.
pub(super) fn feed(engine: &Engine, input: &Input) -> Result<Finding> {
    let start = Instant::now();
    for state in &input.states {
        engine.put(state_key(&state.entity), &state.line)?;
    }
    let (states, skipped) = (input.states.len(), input.skipped.len());
    let bytes: usize = input.states.iter().map(|state| state.line.len()).sum();
    let ms = start.elapsed().as_secs_f64() * 1_000.0;
    let source = &input.source;
    let did = format!(
        "put {states} device states ({bytes} bytes) from {source} in {ms:.1} ms; {skipped} bad lines skipped"
    );
    Ok(Finding::new(states > 0, did)
        .with("source", source.as_str())
        .with("states", states)
        .with("bytes", bytes)
        .with("skipped", skipped))
}

/// Reads every entity's state and compares it, parsed, with the last one in the input.
pub(super) fn read_back(engine: &Engine, input: &Input) -> Result<Finding> {
    let last: BTreeMap<&str, &[u8]> =
        input.states.iter().map(|state| (state.entity.as_str(), state.line.as_slice())).collect();
    let mut equal = 0;
    let mut different = Vec::new();
    for (entity, line) in &last {
        let stored = engine.get(state_key(entity))?;
        let stored = stored.and_then(|value| serde_json::from_slice::<Value>(&value).ok());
        let expected = serde_json::from_slice::<Value>(line).ok();
        if stored.is_some() && stored == expected {
            equal += 1;
        } else {
            different.push(*entity);
        }
    }
    let example = different.first().map_or_else(String::new, |entity| {
        format!("; different: {} ...", escape(entity.as_bytes()))
    });
    let entities = last.len();
    let did = format!(
        "{equal} of {entities} entities read back equal to their last state in the input{example}"
    );
    Ok(Finding::new(entities > 0 && different.is_empty(), did)
        .with("entities", entities)
        .with("equal", equal))
}

/// An entry with a lifetime is there before its end and gone after it.
pub(super) fn expiry(engine: &Engine) -> Result<Finding> {
    let key = format!("{PREFIX}session");
    let lifetime = Duration::from_millis(LIFETIME_MS);
    let start = Instant::now();
    let end = engine.now().saturating_add_ms(LIFETIME_MS);
    engine.put_with(&key, "short-lived", &PutOptions::new().expires_at(end))?;
    let before = engine.get(&key)?.is_some();
    // On a machine that stood still for the whole lifetime the entry may rightly be gone already.
    let before = before || start.elapsed() >= lifetime;
    while (engine.now() < end || start.elapsed() < lifetime) && start.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(5));
    }
    let waited = start.elapsed().as_millis();
    let after = engine.get(&key)?.is_some() || engine.contains_key(&key)?;
    let word = |there| if there { "there" } else { "gone" };
    let did = format!(
        "an entry with a lifetime of {LIFETIME_MS} ms was {} at first and {} after {waited} ms",
        word(before),
        word(after)
    );
    Ok(Finding::new(before && !after, did)
        .with("lifetime_ms", LIFETIME_MS)
        .with("waited_ms", u64::try_from(waited).unwrap_or(u64::MAX)))
}

/// A batch goes in whole; a batch with one member that is refused leaves nothing behind.
pub(super) fn batch(engine: &Engine) -> Result<Finding> {
    let key = |name: &str| format!("{PREFIX}batch/{name}");
    engine.put(key("old"), "to be replaced by the batch")?;
    let mut batch = Batch::new();
    batch.put(key("from"), "90").put(key("to"), "110").delete(key("old"));
    engine.commit(batch)?;
    let is = |name: &str, expected: &[u8]| -> Result<bool> {
        Ok(engine.get(key(name))?.is_some_and(|value| *value == *expected))
    };
    let whole = is("from", b"90")? && is("to", b"110")? && !engine.contains_key(key("old"))?;

    let mut refused = Batch::new();
    refused
        .put(key("from"), "0")
        .put(vec![b'k'; KEY_BYTES_TOO_MANY], "too long a key")
        .delete(key("to"));
    let refusal = engine.commit(refused);
    let untouched = is("from", b"90")? && is("to", b"110")?;
    let refused = matches!(refusal, Err(Error::TooLarge { .. }));
    let did = format!(
        "a batch of two puts and a delete went in {}; one with a member over the limit was {} and changed {}",
        if whole { "whole" } else { "in part" },
        if refused { "refused" } else { "not refused" },
        if untouched { "nothing" } else { "something" }
    );
    Ok(Finding::new(whole && refused && untouched, did))
}

/// Counts a few times; says what the counter must be.
pub(super) fn count(engine: &Engine, times: u64) -> Result<u64> {
    let before = read_counter(engine)?;
    for _ in 0..times {
        engine.update(COUNTER, |entry| {
            let old = entry.map_or(0, |entry| number(&entry.value));
            Change::Put((old + 1).to_string().into_bytes(), PutOptions::new())
        })?;
    }
    Ok(before + times)
}

/// The counter, 0 if it is absent.
pub(super) fn read_counter(engine: &Engine) -> Result<u64> {
    Ok(engine.get(COUNTER)?.map_or(0, |value| number(&value)))
}

fn number(text: &[u8]) -> u64 {
    str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Count of live entries, by walking over them.
pub(super) fn entries(engine: &Engine) -> Result<u64> {
    let mut count = 0;
    for entry in engine.iter()? {
        entry?;
        count += 1;
    }
    Ok(count)
}
