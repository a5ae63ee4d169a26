//! The device states that the tour works on: from a file of JSON lines, or generated.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    exit::{Fail, Outcome},
    text_start::remove_mark,
};

/// Longest line taken from a file.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// A store's longest key is 65,535 bytes; the tour puts a few before the entity's name.
const ENTITY_BYTES_MAX: usize = 65_000;

/// One state of one device.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DeviceState {
    pub(super) entity: String,
    /// The line it came from: what the store keeps.
    pub(super) line: Vec<u8>,
}

/// A stream of states, oldest first.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// Where they come from, as a phrase.
    pub(super) source: String,
    pub(super) states: Vec<DeviceState>,
    /// Lines that are no states: their number and what is wrong.
    pub(super) skipped: Vec<(u64, String)>,
}

impl Input {
    /// The states in a file.
    pub(super) fn read(path: &Path) -> Outcome<Self> {
        let what = || format!("read {}", path.display());
        let file = fs::File::open(path).map_err(|source| Fail::io(what(), source))?;
        let mut reader = BufReader::new(file);
        let mut input = Self { source: path.display().to_string(), ..Self::default() };
        for number in 1_u64.. {
            let mut line = Vec::new();
            let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            if read.map_err(|source| Fail::io(what(), source))? == 0 {
                break;
            }
            if line.len() as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") {
                reader.skip_until(b'\n').map_err(|source| Fail::io(what(), source))?;
                input.skipped.push((number, format!("longer than {LINE_BYTES_MAX} bytes")));
                continue;
            }
            if number == 1 {
                remove_mark(&mut line)
                    .map_err(|what| Fail::Input(format!("{}: {what}", path.display())))?;
            }
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            match entity(line) {
                Ok(entity) => input.states.push(DeviceState { entity, line: line.to_vec() }),
                Err(reason) => input.skipped.push((number, reason)),
            }
        }
        Ok(input)
    }

    /// States that nobody's house has: the same ones each time.
    pub(super) fn generate() -> Self {
        const KINDS: [&str; 4] = ["temperature", "humidity", "power", "motion"];
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let states = (0..2_000_u64).map(|number| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (kind, room) = (random >> 33 & 3, random >> 40 & 15);
            let name = KINDS[usize::try_from(kind).unwrap_or_default()];
            let entity = format!("sensor.room_{room}_{name}");
            let line = json!({
                "last_updated": 1_700_000_000 + number,
                "entity_id": entity,
                "state": (random >> 50).to_string(),
                "attributes": {"friendly_name": format!("Room {room} {name}")},
            });
            DeviceState { entity, line: line.to_string().into_bytes() }
        });
        Self { source: "a generator".to_owned(), states: states.collect(), skipped: Vec::new() }
    }
}

/// The entity of a line, if the line is a state.
fn entity(line: &[u8]) -> Result<String, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("no JSON: {error}"))?;
    let object = value.as_object().ok_or("no JSON object")?;
    let field = |name: &str| object.get(name).ok_or(format!("no {name}"));
    let entity = field("entity_id")?.as_str().ok_or("entity_id is no text")?;
    if entity.is_empty() || entity.len() > ENTITY_BYTES_MAX {
        return Err(format!("entity_id has {} bytes", entity.len()));
    }
    field("state")?.as_str().ok_or("state is no text")?;
    field("last_updated")?.as_f64().ok_or("last_updated is no number")?;
    field("attributes")?.as_object().ok_or("attributes is no object")?;
    Ok(entity.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a state is taken, and each thing that is none is refused with its reason.
    #[test]
    fn lines() {
        let state =
            br#"{"last_updated": 1.5, "entity_id": "sun.sun", "state": "up", "attributes": {}}"#;
        assert_eq!(entity(state).as_deref(), Ok("sun.sun"));
        for (line, reason) in [
            (r"[1]", "no JSON object"),
            (r#"{"entity_id": "a", "state": "x", "attributes": {}}"#, "no last_updated"),
            (r#"{"last_updated": 1, "state": "x", "attributes": {}}"#, "no entity_id"),
            (
                r#"{"last_updated": 1, "entity_id": "", "state": "x", "attributes": {}}"#,
                "entity_id has 0 bytes",
            ),
            (r#"{"last_updated": 1, "entity_id": "a", "attributes": {}}"#, "no state"),
            (
                r#"{"last_updated": 1, "entity_id": "a", "state": 1, "attributes": {}}"#,
                "state is no text",
            ),
            (r#"{"last_updated": 1, "entity_id": "a", "state": "x"}"#, "no attributes"),
            (
                r#"{"last_updated": "1", "entity_id": "a", "state": "x", "attributes": {}}"#,
                "last_updated is no number",
            ),
        ] {
            assert_eq!(entity(line.as_bytes()), Err(reason.to_owned()), "{line}");
        }
        assert!(entity(b"{").is_err_and(|reason| reason.starts_with("no JSON")));
        assert!(entity(b"\xff").is_err());
    }

    /// Goal: generated states are states, and several belong to one entity.
    #[test]
    fn generated() {
        let input = Input::generate();
        assert!(input.states.iter().all(|state| entity(&state.line).as_ref() == Ok(&state.entity)));
        let entities: std::collections::HashSet<_> =
            input.states.iter().map(|state| &state.entity).collect();
        assert!((10..=64).contains(&entities.len()), "{}", entities.len());
    }
}
