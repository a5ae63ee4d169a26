//! `import`: entries of other programs into a store.

use std::{collections::BTreeMap, fmt, path::Path};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use tierce::SpaceImport;

use super::{input::Input, item::Item, sink::Sink};
use crate::{
    args::{ImportArgs, ImportFrom, ImportJsonArgs},
    exit::{Code, Fail, Outcome},
    out::Out,
    progress::Progress,
    talk::say,
};

/// Takes over the entries of another program.
pub(crate) fn import(args: &ImportArgs, json: bool, out: &mut Out) -> Outcome {
    match &args.from {
        #[cfg(feature = "sqlite")]
        ImportFrom::Diskcache(args) => super::diskcache::import(args, json, out),
        ImportFrom::Json(args) => from_json(args, json, out),
    }
}

/// One JSON document. It is read whole, so a fault in it stores nothing.
fn from_json(args: &ImportJsonArgs, json: bool, out: &mut Out) -> Outcome {
    let (pairs, repeated) = last_of_each(pairs(&read_all(&args.source)?)?);
    let mut sink = Sink::open(&args.dir, &args.storing, SpaceImport::new())?;
    let now_ms = sink.now_ms();
    let mut progress = Progress::new("import", Some(pairs.len() as u64), "entries");
    let mut done = 0;
    let fed = pairs.into_iter().try_for_each(|pair| {
        let expires_at_ms = pair.ttl_ms.map(|ms| now_ms.saturating_add(ms));
        sink.take(Item { key: pair.key, value: pair.value, expires_at_ms, ..Item::default() })?;
        done += 1;
        progress.at(done);
        Ok(())
    });
    let (counts, ended) = sink.close(fed);
    if ended.is_err() {
        say(format_args!("tierce: {} before it ended", counts.sentence()));
    }
    ended?;
    progress.finish();
    if json {
        let mut document = counts.document();
        document.insert("repeated".to_owned(), repeated.into());
        out.json(&document.into())?;
    } else {
        out.line(counts.sentence())?;
    }
    if repeated > 0 {
        say(format_args!("tierce: {repeated} values are left out: the same key has a later one"));
    }
    Ok(Code::Done)
}

/// The last pair of each key, and how many others there were.
fn last_of_each(pairs: Vec<Pair>) -> (Vec<Pair>, usize) {
    let all = pairs.len();
    let mut last = BTreeMap::new();
    for pair in pairs {
        last.insert(pair.key.clone(), pair);
    }
    let repeated = all - last.len();
    (last.into_values().collect(), repeated)
}

fn read_all(path: &Path) -> Outcome<Vec<u8>> {
    let mut input = Input::open(path)?;
    let (mut text, mut line) = (Vec::new(), Vec::new());
    loop {
        input.line(&mut line)?;
        if line.is_empty() {
            break;
        }
        text.extend_from_slice(&line);
    }
    Ok(text)
}

/// A key with its value, and how long it lives.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pair {
    key: Vec<u8>,
    value: Vec<u8>,
    ttl_ms: Option<u64>,
}

#[cfg(feature = "fuzzing")]
impl Pair {
    pub(super) fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

/// The members of an object in their order, those with the same name too.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(All)
    }
}

/// An element of an array.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Element {
    key: String,
    value: Box<RawValue>,
    /// In seconds.
    #[serde(default)]
    ttl: Option<f64>,
}

/// The pairs of a document: an object's members, or an array's objects. Values are their JSON text, as it stands.
pub(super) fn pairs(text: &[u8]) -> Outcome<Vec<Pair>> {
    let no_json =
        |error: serde_json::Error| Fail::Input(format!("this is not what was expected: {error}"));
    let text_of = |value: Box<RawValue>| String::from(Box::<str>::from(value)).into_bytes();
    match text.trim_ascii_start().get(..1) {
        Some(b"{") => {
            let Members(members) = serde_json::from_slice(text).map_err(no_json)?;
            let pair = |(key, value): (String, _)| {
                checked(Pair { key: key.into_bytes(), value: text_of(value), ttl_ms: None })
            };
            members.into_iter().map(pair).collect()
        }
        Some(b"[") => {
            let elements: Vec<Element> = serde_json::from_slice(text).map_err(no_json)?;
            let pair = |(at, element): (usize, Element)| {
                let ttl_ms = lifetime_ms(element.ttl)
                    .map_err(|what| Fail::Input(format!("element {at}: {what}")))?;
                checked(Pair {
                    key: element.key.into_bytes(),
                    value: text_of(element.value),
                    ttl_ms,
                })
            };
            elements.into_iter().enumerate().map(pair).collect()
        }
        _ => Err(Fail::Input("this is neither an object nor an array".to_owned())),
    }
}

fn lifetime_ms(seconds: Option<f64>) -> Result<Option<u64>, &'static str> {
    match seconds {
        None => Ok(None),
        // As far as a float goes, so does time.
        Some(seconds) if seconds > 0.0 => Ok(Some((seconds * 1_000.0).ceil() as u64)),
        Some(_) => Err("ttl is no number of seconds above 0"),
    }
}

fn checked(pair: Pair) -> Outcome<Pair> {
    let item = Item { key: pair.key, value: pair.value, ..Item::default() };
    match item.fault() {
        Some(fault) => Err(Fail::Input(fault)),
        None => Ok(Pair { key: item.key, value: item.value, ttl_ms: pair.ttl_ms }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: both forms are understood, values keep their very text, and what they do not mean is refused.
    #[test]
    fn forms() {
        let found = pairs(br#"{"a": 1.10, "b": {"c": [true]}}"#).unwrap();
        assert_eq!(
            (found[0].value.as_slice(), found[1].value.as_slice()),
            (&b"1.10"[..], &br#"{"c": [true]}"#[..])
        );
        let found =
            pairs(br#" [{"key": "k", "value": "v", "ttl": 1.5}, {"key": "", "value": null}]"#)
                .unwrap();
        assert_eq!((found[0].ttl_ms, found[0].value.as_slice()), (Some(1_500), &b"\"v\""[..]));
        assert_eq!((found[1].ttl_ms, found[1].value.as_slice()), (None, &b"null"[..]));
        for wrong in [
            "1",
            "[1]",
            "",
            "{",
            r#"[{"key": 1, "value": 1}]"#,
            r#"[{"key": "k"}]"#,
            r#"[{"key": "k", "value": 1, "ttl": 0}]"#,
            r#"[{"key": "k", "value": 1, "tll": 1}]"#,
        ] {
            assert!(matches!(pairs(wrong.as_bytes()), Err(Fail::Input(_))), "{wrong}");
        }
    }
}
