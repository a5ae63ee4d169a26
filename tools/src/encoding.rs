//! How keys and values are spelled: `--key-enc` and `--value-enc`, on the command line and in what is printed.

use std::ffi::OsStr;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use crate::{
    escape::{escape, unescape},
    exit::{Fail, Outcome},
    text::{base64, hex, insert_bytes, parse_base64, parse_hex},
};

/// The spellings, as every command takes them.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct EncodingArgs {
    /// How keys are spelled. auto: words with \xNN for what would not show.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "ENC")]
    pub(crate) key_enc: KeyEnc,
    /// How values are spelled. auto: as keys; raw: as they are; json: they must be; none: not shown.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "ENC")]
    pub(crate) value_enc: ValueEnc,
}

/// How a key is spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyEnc {
    /// Words in which `\xNN` stands for what would not show.
    #[default]
    Auto,
    /// Text as it is; keys that are no UTF-8 are an error.
    Utf8,
    /// Hexadecimal digits.
    Hex,
    /// RFC 4648.
    Base64,
}

/// How a value is spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ValueEnc {
    /// Words in which `\xNN` stands for what would not show.
    #[default]
    Auto,
    /// The bytes as they are; `get` prints nothing after them.
    Raw,
    /// Hexadecimal digits.
    Hex,
    /// RFC 4648.
    Base64,
    /// JSON text; values that are none are an error.
    Json,
    /// Not shown.
    None,
}

/// How a command answers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Face {
    /// JSON, for programs.
    pub(crate) json: bool,
    /// The spellings.
    pub(crate) encodings: EncodingArgs,
}

impl Face {
    /// The key that a word of the command line stands for.
    ///
    /// # Errors
    /// [`Fail::Usage`], if it is not spelled so.
    pub(crate) fn parse_key(self, word: &OsStr) -> Outcome<Vec<u8>> {
        let bytes = word.as_encoded_bytes();
        match self.encodings.key_enc {
            KeyEnc::Auto => unescape(bytes),
            KeyEnc::Utf8 => match std::str::from_utf8(bytes) {
                Ok(_) => Ok(bytes.to_vec()),
                Err(_) => Err("the key is no UTF-8".to_owned()),
            },
            KeyEnc::Hex => parse_hex(bytes).ok_or_else(|| no_spelling("hexadecimal digits")),
            KeyEnc::Base64 => parse_base64(bytes).ok_or_else(|| no_spelling("base64")),
        }
        .map_err(Fail::Usage)
    }

    /// The value that bytes of the command line, or of standard input if `is_stream`, stand for.
    ///
    /// # Errors
    /// [`Fail::Usage`], if it is not spelled so.
    pub(crate) fn parse_value(self, bytes: &[u8], is_stream: bool) -> Outcome<Vec<u8>> {
        match self.encodings.value_enc {
            // A stream is what it is: its bytes need no spelling.
            ValueEnc::Auto if is_stream => Ok(bytes.to_vec()),
            ValueEnc::Auto => unescape(bytes),
            ValueEnc::Raw => Ok(bytes.to_vec()),
            ValueEnc::Hex => {
                parse_hex(bytes.trim_ascii()).ok_or_else(|| no_spelling("hexadecimal digits"))
            }
            ValueEnc::Base64 => {
                parse_base64(bytes.trim_ascii()).ok_or_else(|| no_spelling("base64"))
            }
            ValueEnc::Json => match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
                Ok(_) => Ok(bytes.to_vec()),
                Err(error) => Err(format!("the value is no JSON: {error}")),
            },
            ValueEnc::None => Err("--value-enc none is for what is printed".to_owned()),
        }
        .map_err(Fail::Usage)
    }

    /// The word for a key.
    ///
    /// # Errors
    /// [`Fail::Input`], if it cannot be spelled so.
    pub(crate) fn key_word(self, key: &[u8]) -> Outcome<String> {
        Ok(match self.encodings.key_enc {
            KeyEnc::Auto => escape(key),
            KeyEnc::Utf8 => std::str::from_utf8(key).map(str::to_owned).map_err(|_| {
                Fail::Input(format!(
                    "the key {} is no UTF-8; use --key-enc auto, hex or base64",
                    escape(key)
                ))
            })?,
            KeyEnc::Hex => hex(key),
            KeyEnc::Base64 => base64(key),
        })
    }

    /// The bytes to print for a value, and whether a line end belongs after them. `None`: it is not shown.
    ///
    /// # Errors
    /// [`Fail::Input`], if it cannot be spelled so.
    pub(crate) fn value_text(self, value: &[u8]) -> Outcome<Option<(Vec<u8>, bool)>> {
        Ok(Some(match self.encodings.value_enc {
            ValueEnc::Auto => (escape(value).into_bytes(), true),
            ValueEnc::Raw => (value.to_vec(), false),
            ValueEnc::Hex => (hex(value).into_bytes(), true),
            ValueEnc::Base64 => (base64(value).into_bytes(), true),
            ValueEnc::Json => {
                json_of(value)?;
                (value.to_vec(), true)
            }
            ValueEnc::None => return Ok(None),
        }))
    }

    /// Adds a key under `name`; see [`insert_bytes`]. The exact spelling asked for stands beside it.
    pub(crate) fn insert_key(self, object: &mut Map<String, Value>, name: &str, key: &[u8]) {
        insert_bytes(object, name, key);
        match self.encodings.key_enc {
            KeyEnc::Auto | KeyEnc::Utf8 => {}
            KeyEnc::Hex => drop(object.insert(format!("{name}_hex"), hex(key).into())),
            KeyEnc::Base64 => drop(object.insert(format!("{name}_b64"), base64(key).into())),
        }
    }

    /// Adds a value as `value`, as [`Self::insert_key`]; with `json` as the document it is.
    ///
    /// # Errors
    /// [`Fail::Input`], if it is to be JSON and is none.
    pub(crate) fn insert_value(self, object: &mut Map<String, Value>, value: &[u8]) -> Outcome<()> {
        match self.encodings.value_enc {
            ValueEnc::None => return Ok(()),
            ValueEnc::Json => {
                object.insert("value".to_owned(), json_of(value)?);
                return Ok(());
            }
            _ => insert_bytes(object, "value", value),
        }
        match self.encodings.value_enc {
            ValueEnc::Hex => drop(object.insert("value_hex".to_owned(), hex(value).into())),
            ValueEnc::Base64 => drop(object.insert("value_b64".to_owned(), base64(value).into())),
            _ => {}
        }
        Ok(())
    }
}

fn json_of(value: &[u8]) -> Outcome<Value> {
    serde_json::from_slice(value).map_err(|error| {
        Fail::Input(format!("the value is no JSON: {error}; use --value-enc auto"))
    })
}

fn no_spelling(of: &str) -> String {
    format!("this is not spelled as {of}, as was asked for")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every spelling of a key gives the same bytes back, and what is not spelled so is refused.
    #[test]
    fn keys() {
        let key: Vec<u8> = (0..=255).collect();
        for key_enc in [KeyEnc::Auto, KeyEnc::Hex, KeyEnc::Base64] {
            let face = Face {
                encodings: EncodingArgs { key_enc, ..Default::default() },
                ..Face::default()
            };
            let word = face.key_word(&key).unwrap();
            assert_eq!(face.parse_key(word.as_ref()).unwrap(), key, "{word}");
            assert_eq!(face.parse_key(face.key_word(b"").unwrap().as_ref()).unwrap(), b"");
            assert!(face.parse_key(r"\q".as_ref()).is_err());
        }
        let key_enc = KeyEnc::Utf8;
        let face =
            Face { encodings: EncodingArgs { key_enc, ..Default::default() }, ..Face::default() };
        assert!(face.key_word(&key).is_err());
        assert_eq!(face.parse_key(r"\q".as_ref()).unwrap(), br"\q");
    }

    /// Goal: the same of values.
    #[test]
    fn values() {
        let value: Vec<u8> = (0..=255).collect();
        for value_enc in [ValueEnc::Auto, ValueEnc::Raw, ValueEnc::Hex, ValueEnc::Base64] {
            let encodings = EncodingArgs { value_enc, ..Default::default() };
            let face = Face { encodings, ..Face::default() };
            let (word, _) = face.value_text(&value).unwrap().unwrap();
            assert_eq!(face.parse_value(&word, false).unwrap(), value);
        }
        let encodings = EncodingArgs { value_enc: ValueEnc::Json, ..Default::default() };
        let face = Face { encodings, ..Face::default() };
        assert_eq!(face.value_text(b"[1, 2]").unwrap().unwrap().0, b"[1, 2]");
        assert!(face.value_text(b"on").is_err() && face.parse_value(b"on", false).is_err());
    }
}
