//! Commands about single entries, and about all of them at once: `get`, `put`, `del`, `touch`, `clear`.

use std::{
    io::{self, Read as _},
    ops::ControlFlow,
};

use serde_json::{Map, Value, json};
use tierce_engine::{Batch, Engine, Options, Snapshot};

use crate::{
    args::{ClearArgs, DelArgs, KeyArgs, PutArgs, TouchArgs},
    consent::consent,
    encoding::Face,
    escape::{escape, unescape},
    exit::{Code, Fail, Outcome},
    interrupt,
    lifetime::Ttl,
    out::Out,
    progress::Progress,
    store::{open, open_to_read, open_to_write},
    talk::say,
    text::bytes_object,
};

/// Prints the value of a key.
pub(crate) fn get(args: &KeyArgs, face: Face, out: &mut Out) -> Outcome {
    let key = face.parse_key(&args.key)?;
    let entry = open_to_read(&args.dir)?.entry(&key)?;
    if face.json {
        let mut object = Map::new();
        face.insert_key(&mut object, "key", &key);
        object.insert("found".to_owned(), entry.is_some().into());
        if let Some(entry) = &entry {
            face.insert_value(&mut object, &entry.value)?;
            object.insert("sequence".to_owned(), entry.sequence.0.into());
            object.insert("expires_at_ms".to_owned(), entry.expires_at.map(|at| at.0).into());
            object.insert("evictable".to_owned(), entry.evictable.into());
            object.insert("codec".to_owned(), entry.codec.into());
            object.insert("schema".to_owned(), entry.schema.into());
            let scope = |scope: &Vec<u8>| Value::from(bytes_object("scope", scope));
            object.insert("scopes".to_owned(), entry.scopes.iter().map(scope).collect());
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
    Ok(if entry.is_some() { Code::Done } else { Code::No })
}

/// Stores a value.
pub(crate) fn put(args: &PutArgs, face: Face, out: &mut Out) -> Outcome {
    let key = face.parse_key(&args.key)?;
    let value = match args.value == "-" {
        true => face.parse_value(&standard_input()?, true)?,
        false => face.parse_value(args.value.as_encoded_bytes(), false)?,
    };
    let tags = args.tag.iter().map(|tag| unescape(tag.as_encoded_bytes()).map_err(Fail::Usage));
    let tags = tags.collect::<Outcome<Vec<_>>>()?;
    let engine =
        open(&args.dir, args.limits.apply(Options::new().durability(args.durability.into())))?;
    let ttl = args.ttl.map_or(Ttl::Default, Ttl::Ms);
    let mut options = args.limits.defaults().put_options(engine.now(), ttl);
    for scope in tags {
        options = options.scope(scope);
    }
    if args.if_absent {
        options = options.only_if_absent();
    }
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

/// Deletes keys.
pub(crate) fn del(args: &DelArgs, face: Face, out: &mut Out) -> Outcome {
    let keys = args.key.iter().map(|key| face.parse_key(key)).collect::<Outcome<Vec<_>>>()?;
    let engine = open_to_write(&args.dir)?;
    let delete = |key: &Vec<u8>| interrupt::check().and_then(|()| Ok(engine.delete(key)?));
    let deleted = keys.iter().map(delete).collect::<Outcome<Vec<bool>>>();
    let closed = engine.close();
    let deleted = deleted?;
    closed?;
    let count = deleted.iter().filter(|deleted| **deleted).count();
    if face.json {
        let object = |(key, deleted): (&Vec<u8>, bool)| {
            let mut object = Map::new();
            face.insert_key(&mut object, "key", key);
            object.insert("deleted".to_owned(), deleted.into());
            object
        };
        let mut objects = keys.iter().zip(deleted).map(object);
        let document = match (keys.len(), objects.next()) {
            (1, Some(only)) => only.into(),
            (_, first) => {
                let keys: Vec<Value> = first.into_iter().chain(objects).map(Value::from).collect();
                json!({"deleted": count, "keys": keys})
            }
        };
        out.json(&document)?;
    } else {
        out.line(count)?;
    }
    Ok(if count == keys.len() { Code::Done } else { Code::No })
}

/// Gives an entry another lifetime.
pub(crate) fn touch(args: &TouchArgs, face: Face, out: &mut Out) -> Outcome {
    let key = face.parse_key(&args.key)?;
    let engine = open_to_write(&args.dir)?;
    let expires_at = match args.lifetime {
        Ttl::Ms(ms) => Some(engine.now().saturating_add_ms(ms)),
        Ttl::Never | Ttl::Default => None,
    };
    let touched = engine.touch(&key, expires_at);
    let closed = engine.close();
    let touched = touched?;
    closed?;
    if face.json {
        let mut object = Map::new();
        face.insert_key(&mut object, "key", &key);
        object.insert("touched".to_owned(), touched.into());
        object.insert(
            "expires_at_ms".to_owned(),
            expires_at.map(|at| at.0).filter(|_| touched).into(),
        );
        out.json(&object.into())?;
    } else if !touched {
        say(format_args!("tierce: no entry {}", escape(&key)));
    }
    Ok(if touched { Code::Done } else { Code::No })
}

/// Deletes every entry, in batches.
pub(crate) fn clear(args: &ClearArgs, json: bool, out: &mut Out) -> Outcome {
    let engine = open_to_write(&args.dir)?;
    let question =
        format!("Delete all {} entries of {}?", engine.stats().entries, args.dir.display());
    let deleted = consent(args.yes, &question).and_then(|()| delete_all(&engine));
    let closed = engine.close();
    let deleted = deleted?;
    closed?;
    if json {
        out.json(&json!({ "deleted": deleted }))?;
    } else {
        out.line(deleted)?;
    }
    Ok(Code::Done)
}

fn delete_all(engine: &Engine) -> Outcome<u64> {
    const BATCH_ENTRIES: usize = 1_024;
    let mut progress = Progress::new("clear", Some(engine.stats().entries), "entries");
    let (mut batch, mut deleted) = (Batch::new(), 0);
    let mut ended = Ok(());
    engine.snapshot()?.scan(b"", false, &mut |key, _| {
        batch.delete(key);
        deleted += 1;
        if batch.len() >= BATCH_ENTRIES {
            progress.at(deleted);
            ended =
                interrupt::check().and_then(|()| Ok(engine.commit(std::mem::take(&mut batch))?));
        }
        if ended.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    ended?;
    engine.commit(batch)?;
    progress.finish();
    Ok(deleted)
}

/// The keys that begin with `prefix`, in order of their bytes.
///
/// # Errors
/// The store's; [`Fail::Interrupted`].
pub(crate) fn sorted_keys(snapshot: &Snapshot, prefix: &[u8]) -> Outcome<Vec<Vec<u8>>> {
    let mut keys = Vec::new();
    snapshot.scan(prefix, false, &mut |key, _| {
        keys.push(key.to_vec());
        if interrupt::is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    interrupt::check()?;
    keys.sort_unstable();
    Ok(keys)
}
