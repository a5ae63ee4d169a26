//! Commands that list entries: `keys`, `scan`.

use serde_json::{Map, Value, json};

use crate::{
    args::{KeysArgs, ScanArgs},
    encoding::Face,
    exit::{Code, Outcome},
    interrupt,
    out::Out,
    select::Selection,
    store::open_to_read,
};

/// Lists keys.
pub(crate) fn keys(args: &KeysArgs, face: Face, out: &mut Out) -> Outcome {
    let selection = Selection::new(&args.select, face)?;
    let snapshot = open_to_read(&args.dir)?.snapshot();
    if args.count {
        let mut count = 0_u64;
        selection.walk(&snapshot, &mut |_, _| count += 1)?;
        if face.json {
            out.json(&json!({ "count": count }))?;
        } else {
            out.line(count)?;
        }
        return Ok(Code::Done);
    }
    let keys = selection.sorted_keys(&snapshot, usize::MAX)?;
    if face.json {
        let object = |key: &Vec<u8>| {
            let mut object = Map::new();
            face.insert_key(&mut object, "key", key);
            Value::from(object)
        };
        let objects: Vec<Value> = keys.iter().map(object).collect();
        out.json(&json!({ "count": keys.len(), "keys": objects }))?;
        return Ok(Code::Done);
    }
    for key in &keys {
        interrupt::check()?;
        if args.null {
            out.bytes(key)?;
            out.bytes(b"\0")?;
        } else {
            out.line(face.key_word(key)?)?;
        }
    }
    Ok(Code::Done)
}

/// Lists keys with their values.
pub(crate) fn scan(args: &ScanArgs, face: Face, out: &mut Out) -> Outcome {
    let selection = Selection::new(&args.select, face)?.between(
        args.from.as_deref(),
        args.to.as_deref(),
        face,
    )?;
    let snapshot = open_to_read(&args.dir)?.snapshot();
    for key in selection.sorted_keys(&snapshot, args.limit.unwrap_or(usize::MAX))? {
        interrupt::check()?;
        // What expires meanwhile does so in its own time: a snapshot stands still.
        let Some(entry) = snapshot.entry(&key)? else { continue };
        if face.json {
            let mut object = Map::new();
            object.insert("type".to_owned(), "entry".into());
            face.insert_key(&mut object, "key", &key);
            face.insert_value(&mut object, &entry.value)?;
            object.insert("sequence".to_owned(), entry.sequence.0.into());
            object.insert("expires_at_ms".to_owned(), entry.expires_at.map(|at| at.0).into());
            out.json(&object.into())?;
            continue;
        }
        out.bytes(face.key_word(&key)?.as_bytes())?;
        if let Some((text, _)) = face.value_text(&entry.value)? {
            out.bytes(b" ")?;
            out.bytes(&text)?;
        }
        out.bytes(b"\n")?;
    }
    Ok(Code::Done)
}
