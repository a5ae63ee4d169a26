//! `changes`: what was written, as JSON lines, from a sequence number on.

use std::time::Duration;

use serde_json::{Map, json};
use tierce_engine::{Changed, SequenceNumber, Wrote};

use crate::{
    args::ChangesArgs,
    encoding::Face,
    exit::{Code, Outcome},
    interrupt,
    out::Out,
    store::open_to_read,
    talk::say,
};

/// So many at once: memory is bounded by it.
const AT_ONCE: usize = 4_096;
/// How often a follower looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Prints the writes after one, and with `--follow` those that come.
pub(crate) fn changes(args: &ChangesArgs, face: Face, out: &mut Out) -> Outcome {
    let reader = open_to_read(&args.dir)?;
    let mut since = SequenceNumber(args.since);
    let mut is_complete = true;
    loop {
        interrupt::check()?;
        let found = reader.changes_since(since, AT_ONCE)?;
        if !found.is_complete && is_complete {
            is_complete = false;
            out.json(&json!({"type": "incomplete", "since": since.0}))?;
            say(format_args!(
                "tierce: compaction has taken out some of the writes after {since}; a copy has to be made anew"
            ));
        }
        for change in &found.changes {
            out.json(&line(change, face).into())?;
        }
        let is_end = found.next == since || found.changes.is_empty();
        since = found.next;
        if !is_end {
            continue;
        }
        if !args.follow {
            out.json(&json!({"type": "end", "next": since.0, "complete": is_complete}))?;
            return Ok(Code::Done);
        }
        out.flush()?;
        interrupt::sleep(LOOK_EVERY)?;
        reader.refresh()?;
    }
}

fn line(change: &Changed, face: Face) -> Map<String, serde_json::Value> {
    let (wrote, name) = match change.wrote {
        Wrote::Put => ("put", "key"),
        Wrote::Delete => ("delete", "key"),
        Wrote::Touch => ("touch", "key"),
        Wrote::ScopeCut => ("scope-cut", "scope"),
        _ => ("other", "key"),
    };
    let mut object = Map::new();
    object.insert("type".to_owned(), "change".into());
    object.insert("sequence".to_owned(), change.sequence.0.into());
    object.insert("wrote".to_owned(), wrote.into());
    face.insert_key(&mut object, name, &change.key);
    if matches!(change.wrote, Wrote::Put | Wrote::Touch) {
        object.insert("expires_at_ms".to_owned(), change.expires_at.map(|at| at.0).into());
    }
    object
}
