//! Commands about entries: `get`, `put`, `del`, `keys`.

use std::io::{self, Read as _};

use serde_json::{Map, Value, json};
use tierce_engine::{Engine, Options};

use crate::{
    args::{KeyArgs, KeysArgs, PutArgs},
    encoding::Face,
    escape::escape,
    exit::{Code, Fail, Outcome},
    lifetime::Ttl,
    out::Out,
    store::{open, open_to_read, open_to_write},
    talk::say,
};

/// Prints the value of a key.
pub(crate) fn get(args: &KeyArgs, face: Face, out: &mut Out) -> Outcome {
    let key = face.parse_key(&args.key)?;
    let engine = open_to_read(&args.dir)?;
    let entry = engine.entry(&key)?;
    if face.json {
        let mut object = Map::new();
        face.insert_key(&mut object, "key", &key);
        object.insert("found".to_owned(), entry.is_some().into());
        if let Some(entry) = &entry {
            face.insert_value(&mut object, &entry.value)?;
            object.insert("sequence".to_owned(), entry.sequence.0.into());
            object.insert("expires_at_ms".to_owned(), entry.expires_at.map(|at| at.0).into());
        }
        out.json(&object.into())?;
    } else if let Some(entry) = &entry
        && let Some((text, ends_line)) = face.value_text(&entry.value)?
    {
        out.bytes(&text)?;
        if ends_line {
            out.bytes(b"\n")?;
        }
    }
    if entry.is_none() {
        say(format_args!("tierce: no entry {}", escape(&key)));
    }
    let code = if entry.is_some() { Code::Done } else { Code::No };
    drop(entry);
    engine.close()?;
    Ok(code)
}

/// Stores a value.
pub(crate) fn put(args: &PutArgs, face: Face, out: &mut Out) -> Outcome {
    let key = face.parse_key(&args.key)?;
    let value = match args.value == "-" {
        true => face.parse_value(&standard_input()?, true)?,
        false => face.parse_value(args.value.as_encoded_bytes(), false)?,
    };
    let engine =
        open(&args.dir, args.limits.apply(Options::new().durability(args.durability.into())))?;
    let ttl = args.ttl.map_or(Ttl::Default, Ttl::Ms);
    let options = args.limits.defaults().put_options(&engine, ttl);
    let put = engine.put_with(&key, &value, &options);
    // The store is closed properly after a refusal too; the refusal is the news then.
    let closed = engine.close();
    put?;
    closed?;
    if face.json {
        let mut object = Map::new();
        face.insert_key(&mut object, "key", &key);
        object.insert("stored".to_owned(), true.into());
        object.insert("bytes".to_owned(), value.len().into());
        out.json(&object.into())?;
    }
    Ok(Code::Done)
}

/// All of standard input, as long as it can be a value at all.
fn standard_input() -> Outcome<Vec<u8>> {
    let mut value = Vec::new();
    let limit = Options::VALUE_BYTES_MAX + 1;
    io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut value)
        .map_err(|source| Fail::io("read standard input", source))?;
    Ok(value)
}

/// Deletes a key.
pub(crate) fn del(args: &KeyArgs, face: Face, out: &mut Out) -> Outcome {
    let key = face.parse_key(&args.key)?;
    let engine = open_to_write(&args.dir)?;
    let deleted = engine.delete(&key);
    let closed = engine.close();
    let deleted = deleted?;
    closed?;
    if face.json {
        let mut object = Map::new();
        face.insert_key(&mut object, "key", &key);
        object.insert("deleted".to_owned(), deleted.into());
        out.json(&object.into())?;
    } else {
        out.line(u8::from(deleted))?;
    }
    Ok(if deleted { Code::Done } else { Code::No })
}

/// Lists keys.
pub(crate) fn keys(args: &KeysArgs, face: Face, out: &mut Out) -> Outcome {
    let prefix =
        args.prefix.as_deref().map(|word| face.parse_key(word)).transpose()?.unwrap_or_default();
    let engine = open_to_read(&args.dir)?;
    if args.count {
        let count = count_keys(&engine, &prefix)?;
        if face.json {
            out.json(&json!({ "count": count }))?;
        } else {
            out.line(count)?;
        }
    } else {
        print_keys(&sorted_keys(&engine, &prefix)?, args.null, face, out)?;
    }
    engine.close()?;
    Ok(Code::Done)
}

fn print_keys(keys: &[Vec<u8>], null: bool, face: Face, out: &mut Out) -> Outcome<()> {
    if face.json {
        let object = |key: &Vec<u8>| {
            let mut object = Map::new();
            face.insert_key(&mut object, "key", key);
            Value::from(object)
        };
        let objects: Vec<Value> = keys.iter().map(object).collect();
        return out.json(&json!({ "count": keys.len(), "keys": objects }));
    }
    for key in keys {
        if null {
            out.bytes(key)?;
            out.bytes(b"\0")?;
        } else {
            out.line(face.key_word(key)?)?;
        }
    }
    Ok(())
}

fn count_keys(engine: &Engine, prefix: &[u8]) -> Outcome<u64> {
    let mut count = 0;
    for entry in engine.iter()? {
        count += u64::from(entry?.0.starts_with(prefix));
    }
    Ok(count)
}

/// The keys that begin with `prefix`, in order of their bytes.
pub(crate) fn sorted_keys(engine: &Engine, prefix: &[u8]) -> tierce_engine::Result<Vec<Vec<u8>>> {
    let mut keys = Vec::new();
    for entry in engine.iter()? {
        let (key, _) = entry?;
        if key.starts_with(prefix) {
            keys.push(key);
        }
    }
    keys.sort_unstable();
    Ok(keys)
}
