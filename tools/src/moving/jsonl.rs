//! Entries as JSON lines: a header with the version of this format, a line for each entry with everything that is kept
//! of it, and a last line with their count and a checksum of all bytes before, so that a cut dump does not pass.
//!
//! Text is text; what is no UTF-8 stands in base64, under the same name with `_b64`. A name that this version does not
//! know is a fault, for what it says would be lost.

use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::Xxh3;

use super::{
    input::{Input, Source, trimmed},
    item::Item,
};
use crate::{
    escape::json_text,
    exit::Outcome,
    text::{base64, parse_base64},
};

/// What the header calls this format.
const FORMAT: &str = "tierce-jsonl";
/// The version that is written, and the newest that is read.
const VERSION: u64 = 1;

/// Writes the lines.
#[derive(Default)]
pub(super) struct Writer {
    hash: Xxh3,
    entries: u64,
}

impl Writer {
    /// The first line.
    pub(super) fn header(&mut self, now_ms: u64, sorted: bool) -> Vec<u8> {
        let header = json!({
            "type": "header", "format": FORMAT, "version": VERSION, "store_time_ms": now_ms, "sorted": sorted,
        });
        self.line(&header)
    }

    /// The line of an entry.
    pub(super) fn entry(&mut self, item: &Item) -> Vec<u8> {
        self.entries += 1;
        self.line(&document(item))
    }

    /// The last line.
    pub(super) fn end(&mut self) -> Vec<u8> {
        let checksum = format!("{:016x}", self.hash.digest());
        self.line(&json!({"type": "end", "entries": self.entries, "xxh3": checksum}))
    }

    /// A line as it stands, for fuzzing: every line but the first is taken for an entry.
    #[cfg(feature = "fuzzing")]
    pub(super) fn copy(&mut self, line: &[u8]) -> Vec<u8> {
        let is_entry = self.hash.digest() != Xxh3::new().digest();
        self.entries += u64::from(is_entry);
        self.hash.update(trimmed(line));
        self.hash.update(b"\n");
        line.to_vec()
    }

    fn line(&mut self, document: &Value) -> Vec<u8> {
        let mut line = json_text(document).into_bytes();
        line.push(b'\n');
        self.hash.update(&line);
        line
    }
}

fn document(item: &Item) -> Value {
    let mut object = Map::new();
    object.insert("type".to_owned(), "entry".into());
    match std::str::from_utf8(&item.key) {
        Ok(text) => drop(object.insert("key".to_owned(), text.into())),
        Err(_) => {
            object.insert("key".to_owned(), String::from_utf8_lossy(&item.key).into());
            object.insert("key_b64".to_owned(), base64(&item.key).into());
        }
    }
    match std::str::from_utf8(&item.value) {
        Ok(text) => object.insert("value".to_owned(), text.into()),
        Err(_) => object.insert("value_b64".to_owned(), base64(&item.value).into()),
    };
    // What an entry does not have is left out: most have nothing.
    if let Some(at) = item.expires_at_ms {
        object.insert("expires_at_ms".to_owned(), at.into());
    }
    if item.evictable {
        object.insert("evictable".to_owned(), true.into());
    }
    if item.codec != 0 {
        object.insert("codec".to_owned(), item.codec.into());
    }
    if item.schema != 0 {
        object.insert("schema".to_owned(), item.schema.into());
    }
    if !item.scopes.is_empty() {
        let scope = |scope: &Vec<u8>| match std::str::from_utf8(scope) {
            Ok(text) => Value::from(text),
            Err(_) => json!({"b64": base64(scope)}),
        };
        object.insert("scopes".to_owned(), item.scopes.iter().map(scope).collect());
    }
    if !item.items.is_empty() {
        let item_of = |(kind, bytes): &(u8, Vec<u8>)| json!([kind, base64(bytes)]);
        object.insert("items".to_owned(), item.items.iter().map(item_of).collect());
    }
    object.into()
}

/// Reads the lines.
pub(super) struct Reader {
    input: Input,
    hash: Xxh3,
    entries: u64,
    line: Vec<u8>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    Entries,
    Over,
}

impl Reader {
    pub(super) fn new(input: Input) -> Self {
        Self { input, hash: Xxh3::new(), entries: 0, line: Vec::new(), stage: Stage::Start }
    }

    /// The next line as an object. The checksum takes it in, unless it is the last.
    fn object(&mut self) -> Outcome<Map<String, Value>> {
        self.input.line(&mut self.line)?;
        let at = self.input.line;
        if self.line.is_empty() {
            return Err(self
                .input
                .fault(at, "the dump ends here, without its last line: it was cut"));
        }
        match serde_json::from_slice(trimmed(&self.line)) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(self.input.fault(at, "this is no object")),
            Err(error) => Err(self.input.fault(at, format_args!("this is no JSON: {error}"))),
        }
    }

    fn fault(&self, what: impl std::fmt::Display) -> crate::exit::Fail {
        self.input.fault(self.input.line, what)
    }

    fn header(&mut self) -> Outcome<()> {
        let header = self.object()?;
        if header.get("format").and_then(Value::as_str) != Some(FORMAT) {
            return Err(
                self.fault(format_args!("this is no dump: its first line does not name {FORMAT}"))
            );
        }
        match header.get("version").and_then(Value::as_u64) {
            Some(1..=VERSION) => {}
            version => {
                let version = version.map_or_else(|| "?".to_owned(), |version| version.to_string());
                return Err(self.fault(format_args!(
                    "version {version} is not known; this tool reads {VERSION}"
                )));
            }
        }
        self.sum();
        Ok(())
    }

    /// Takes the line into the checksum with the line end that it was written with: a copy may have those of another
    /// system.
    fn sum(&mut self) {
        self.hash.update(trimmed(&self.line));
        self.hash.update(b"\n");
    }

    fn end(&mut self, end: &Map<String, Value>) -> Outcome<()> {
        if end.get("entries").and_then(Value::as_u64) != Some(self.entries) {
            return Err(self.fault(format_args!(
                "{} entries were read, not what the last line says",
                self.entries
            )));
        }
        let checksum = format!("{:016x}", self.hash.digest());
        if end.get("xxh3").and_then(Value::as_str) != Some(checksum.as_str()) {
            return Err(
                self.fault("the checksum of the lines before is another: they were changed")
            );
        }
        let mut rest = Vec::new();
        self.input.line(&mut rest)?;
        if !rest.is_empty() {
            return Err(self.fault("something follows the last line"));
        }
        Ok(())
    }
}

impl Source for Reader {
    fn next(&mut self) -> Outcome<Option<Item>> {
        match self.stage {
            Stage::Start => self.header()?,
            Stage::Entries => {}
            Stage::Over => return Ok(None),
        }
        self.stage = Stage::Entries;
        let object = self.object()?;
        match object.get("type").and_then(Value::as_str) {
            Some("entry") => {}
            Some("end") => {
                self.end(&object)?;
                self.stage = Stage::Over;
                return Ok(None);
            }
            _ => return Err(self.fault("the type is neither entry nor end")),
        }
        self.sum();
        self.entries += 1;
        parse(object).map(Some).map_err(|what| self.fault(what))
    }
}

fn parse(object: Map<String, Value>) -> Result<Item, String> {
    let mut item = Item::default();
    let (mut key, mut value) = (None, None);
    let mut has_exact_key = false;
    for (name, content) in object {
        match (name.as_str(), content) {
            ("type", _) => {}
            // The exact spelling wins over the readable one, wherever it stands.
            ("key", Value::String(_)) if has_exact_key => {}
            ("key", Value::String(text)) => key = Some(text.into_bytes()),
            ("key_b64", content) => {
                key = Some(bytes(&content).ok_or("key_b64 is no base64")?);
                has_exact_key = true;
            }
            ("value", Value::String(text)) => value = Some(text.into_bytes()),
            ("value_b64", content) => {
                value = Some(bytes(&content).ok_or("value_b64 is no base64")?)
            }
            ("expires_at_ms", content) => {
                item.expires_at_ms = Some(content.as_u64().ok_or("expires_at_ms is no number")?);
            }
            ("evictable", Value::Bool(evictable)) => item.evictable = evictable,
            ("codec", content) => {
                let codec = content.as_u64().and_then(|codec| u8::try_from(codec).ok());
                item.codec = codec.ok_or("codec is no number up to 255")?;
            }
            ("schema", content) => {
                let schema = content.as_u64().and_then(|schema| u32::try_from(schema).ok());
                item.schema = schema.ok_or("schema is no number of 32 bits")?;
            }
            ("scopes", Value::Array(scopes)) => {
                let scopes: Option<Vec<_>> = scopes.iter().map(scope).collect();
                item.scopes = scopes.ok_or("a scope is text or {\"b64\": ..}")?;
            }
            ("items", Value::Array(items)) => {
                let items: Option<Vec<_>> = items.iter().map(extension_item).collect();
                item.items = items.ok_or("an item is [kind, base64]")?;
            }
            (name, _) => return Err(format!("{name:?} is not known, or not of its type")),
        }
    }
    item.key = key.ok_or("there is no key")?;
    item.value = value.ok_or("there is no value")?;
    item.fault().map_or(Ok(item), Err)
}

fn bytes(content: &Value) -> Option<Vec<u8>> {
    parse_base64(content.as_str()?.as_bytes())
}

fn scope(content: &Value) -> Option<Vec<u8>> {
    match content {
        Value::String(text) => Some(text.clone().into_bytes()),
        content => bytes(content.get("b64")?),
    }
}

fn extension_item(content: &Value) -> Option<(u8, Vec<u8>)> {
    match content.as_array()?.as_slice() {
        [kind, content] => Some((u8::try_from(kind.as_u64()?).ok()?, bytes(content)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Outcome<Vec<Item>> {
        let mut reader =
            Reader::new(Input::of(Box::new(std::io::Cursor::new(text.to_vec())), "text"));
        let mut items = Vec::new();
        while let Some(item) = reader.next()? {
            items.push(item);
        }
        Ok(items)
    }

    fn full() -> Item {
        Item {
            key: (0..=255).collect(),
            value: vec![0xff, 0],
            expires_at_ms: Some(u64::MAX),
            evictable: true,
            codec: 255,
            schema: u32::MAX,
            scopes: vec![b"tag".to_vec(), vec![0xfe]],
            items: vec![(0x20, vec![]), (0x7f, vec![1, 2, 3])],
        }
    }

    fn dump(items: &[Item]) -> Vec<u8> {
        let mut writer = Writer::default();
        let mut text = writer.header(7, false);
        items.iter().for_each(|item| text.extend(writer.entry(item)));
        text.extend(writer.end());
        text
    }

    /// Goal: everything that an entry can have comes back exactly.
    #[test]
    fn round_trip() {
        let items = [
            Item::default(),
            full(),
            Item { key: b"k".to_vec(), value: "°\n".into(), ..Item::default() },
        ];
        assert_eq!(read(&dump(&items)).unwrap(), items);
        assert_eq!(read(&dump(&[])).unwrap(), []);
    }

    /// Goal: a dump that lost any line or byte, or had one changed, does not pass.
    #[test]
    fn damage() {
        let text = dump(&[full(), Item::default()]);
        for cut in 0..text.len() - 1 {
            assert!(read(&text[..cut]).is_err(), "cut to {cut} of {}", text.len());
        }
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert!(
                read(&changed).is_err(),
                "byte {at} changed: {}",
                String::from_utf8_lossy(&changed)
            );
        }
        let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').collect();
        for left_out in 0..lines.len() {
            let mut fewer = lines.clone();
            fewer.remove(left_out);
            assert!(read(&fewer.concat()).is_err(), "without line {left_out}");
        }
        assert!(read(&[&text[..], b"x"].concat()).is_err());
    }
}
