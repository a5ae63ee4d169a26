//! Entries as CSV, as RFC 4180 describes it, with a header. Keys and values that are no text stand in base64, and the
//! columns beside them say so. Scopes, codecs and items have no place here.

use super::{
    input::{Input, Source},
    item::Item,
};
use crate::{
    exit::Outcome,
    text::{base64, parse_base64},
};

/// The columns, in the order in which they are written.
const COLUMNS: [&str; 6] = ["key", "key_enc", "value", "value_enc", "expires_at_ms", "evictable"];
/// How text is called in the columns of encodings, and what is none.
const TEXT: &str = "utf8";
const BASE64: &str = "base64";

/// The first line.
pub(super) fn header() -> Vec<u8> {
    format!("{}\r\n", COLUMNS.join(",")).into_bytes()
}

/// The line, or lines, of an entry.
pub(super) fn entry(item: &Item) -> Vec<u8> {
    let mut line = Vec::with_capacity(item.key.len() + item.value.len() + 48);
    for bytes in [&item.key, &item.value] {
        match std::str::from_utf8(bytes) {
            Ok(text) if is_printable(text) => {
                quote(text, &mut line);
                line.extend_from_slice(format!(",{TEXT},").as_bytes());
            }
            _ => line.extend_from_slice(format!("{},{BASE64},", base64(bytes)).as_bytes()),
        }
    }
    if let Some(at) = item.expires_at_ms {
        line.extend_from_slice(at.to_string().as_bytes());
    }
    line.extend_from_slice(if item.evictable { b",true\r\n" } else { b",false\r\n" });
    line
}

/// RFC 4180 has no place for other control characters.
fn is_printable(text: &str) -> bool {
    text.chars().all(|char| !char.is_control() || matches!(char, '\n' | '\r' | '\t'))
}

fn quote(text: &str, line: &mut Vec<u8>) {
    // A blank at an end is quoted too, for there are readers that trim.
    let is_plain = !text.contains(['"', ',', '\r', '\n']) && text.trim() == text;
    if is_plain {
        line.extend_from_slice(text.as_bytes());
    } else {
        line.extend_from_slice(format!("\"{}\"", text.replace('"', "\"\"")).as_bytes());
    }
}

/// Reads such a text; columns may stand in any order, and all but key and value may be missing.
pub(super) struct Reader {
    input: Input,
    line: Vec<u8>,
    /// What stands in each column: an index into [`COLUMNS`].
    columns: Option<Vec<usize>>,
    record_line: u64,
}

impl Reader {
    pub(super) fn new(input: Input) -> Self {
        Self { input, line: Vec::new(), columns: None, record_line: 0 }
    }

    fn fault(&self, what: impl std::fmt::Display) -> crate::exit::Fail {
        self.input.fault(self.record_line, what)
    }

    /// The fields of the next record; `None` at the end.
    fn record(&mut self) -> Outcome<Option<Vec<String>>> {
        self.input.line(&mut self.line)?;
        self.record_line = self.input.line;
        if self.line.is_empty() {
            return Ok(None);
        }
        let mut text = std::mem::take(&mut self.line);
        // A quote that is open at the end of a line takes in the next: quotes come in pairs.
        let mut quotes = text.iter().filter(|byte| **byte == b'"').count();
        while quotes % 2 == 1 {
            self.input.line(&mut self.line)?;
            if self.line.is_empty() {
                return Err(self.fault("a quote is open to the end of the text"));
            }
            quotes += self.line.iter().filter(|byte| **byte == b'"').count();
            text.extend_from_slice(&self.line);
        }
        let record = std::str::from_utf8(&text).map_err(|_| self.fault("this is no UTF-8"))?;
        let fields = fields(record).map_err(|what| self.fault(what))?;
        self.line = text;
        Ok(Some(fields))
    }

    fn header(&mut self) -> Outcome<Vec<usize>> {
        let Some(names) = self.record()? else { return Err(self.fault("there is no header")) };
        let mut columns = Vec::new();
        for name in &names {
            let known = COLUMNS.iter().position(|column| column == name);
            match known {
                Some(column) if !columns.contains(&column) => columns.push(column),
                Some(_) => return Err(self.fault(format_args!("the column {name} is there twice"))),
                None => {
                    let known = COLUMNS.join(", ");
                    return Err(self.fault(format_args!(
                        "the column {name:?} is not known; these are: {known}"
                    )));
                }
            }
        }
        match columns.contains(&0) && columns.contains(&2) {
            true => Ok(columns),
            false => Err(self.fault("the header must name key and value")),
        }
    }
}

/// The fields of one record, its end included.
fn fields(record: &str) -> Result<Vec<String>, &'static str> {
    let record = record.strip_suffix('\n').unwrap_or(record);
    let record = record.strip_suffix('\r').unwrap_or(record);
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return Err("a quote stands within a field that does not begin with one");
                }
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err("something follows the quote that ends a field"),
        }
    }
}

/// What a field says whose first quote was taken, and what follows its last.
fn quoted_field(text: &str) -> Result<(String, &str), &'static str> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"').ok_or("a quote is open to the end of the record")?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Ok((field, rest)),
        }
    }
}

impl Source for Reader {
    fn next(&mut self) -> Outcome<Option<Item>> {
        let columns = match self.columns.take() {
            Some(columns) => columns,
            None => self.header()?,
        };
        let Some(fields) = self.record()? else {
            self.columns = Some(columns);
            return Ok(None);
        };
        let item = parse(&columns, fields).map_err(|what| self.fault(what))?;
        self.columns = Some(columns);
        Ok(Some(item))
    }
}

fn parse(columns: &[usize], fields: Vec<String>) -> Result<Item, String> {
    if fields.len() != columns.len() {
        return Err(format!(
            "{} fields stand here, and {} in the header",
            fields.len(),
            columns.len()
        ));
    }
    let mut cells: [String; COLUMNS.len()] = Default::default();
    for (column, field) in columns.iter().zip(fields) {
        cells[*column] = field;
    }
    let [key, key_enc, value, value_enc, expires, evictable] = cells;
    let bytes = |text: String, encoding: &str| match encoding {
        TEXT | "" => Ok(text.into_bytes()),
        BASE64 => parse_base64(text.as_bytes()).ok_or_else(|| "this is no base64".to_owned()),
        other => Err(format!("the encoding {other:?} is neither {TEXT} nor {BASE64}")),
    };
    let expires_at_ms = match expires.as_str() {
        "" => None,
        digits => Some(digits.parse().map_err(|_| "expires_at_ms is no number".to_owned())?),
    };
    let evictable = match evictable.as_str() {
        "true" => true,
        "false" | "" => false,
        _ => return Err("evictable is neither true nor false".to_owned()),
    };
    let (key, value) = (bytes(key, &key_enc)?, bytes(value, &value_enc)?);
    let item = Item { key, value, expires_at_ms, evictable, ..Item::default() };
    item.fault().map_or(Ok(item), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the examples of RFC 4180, and what is wrong by it.
    #[test]
    fn records() {
        for (record, expected) in [
            ("aaa,bbb,ccc\r\n", &["aaa", "bbb", "ccc"][..]),
            ("zzz,yyy,xxx", &["zzz", "yyy", "xxx"]),
            ("\"aaa\",\"b\r\nbb\",\"ccc\"\r\n", &["aaa", "b\r\nbb", "ccc"]),
            ("\"aaa\",\"b\"\"bb\",\"ccc\"", &["aaa", "b\"bb", "ccc"]),
            (",\n", &["", ""]),
            ("\"\"\n", &[""]),
        ] {
            assert_eq!(fields(record).unwrap(), expected, "{record:?}");
        }
        for wrong in ["a\"b\"", "\"a\"b", "\"a", "\"a\"\"", "\"\"\""] {
            assert!(fields(wrong).is_err(), "{wrong}");
        }
    }

    /// Goal: any text of key and value comes back.
    #[test]
    fn round_trip() {
        for text in ["", " ", "a,b", "\"", "\r\n", "\n\"\n", "plain", "°", "\u{feff}"] {
            let item = Item {
                key: text.into(),
                value: vec![0xff],
                expires_at_ms: Some(1),
                ..Item::default()
            };
            let line = String::from_utf8(entry(&item)).unwrap();
            let columns: Vec<_> = (0..COLUMNS.len()).collect();
            assert_eq!(parse(&columns, fields(&line).unwrap()).unwrap(), item, "{text:?}");
        }
    }
}
