//! `dump`: the entries of a snapshot as text.

use std::{collections::BTreeSet, ops::ControlFlow};

use tierce::SpaceImport;
use tierce_engine::Snapshot;

use super::{csv, item::Item, jsonl, lmdb};
use crate::{
    args::{DumpArgs, TextFormat},
    entries::sorted_keys,
    exit::{Code, Outcome},
    interrupt,
    out::Out,
    progress::Progress,
    store::open_to_read,
    talk::say,
};

/// Writes every entry to standard output.
pub(crate) fn dump(args: &DumpArgs, out: &mut Out) -> Outcome {
    let engine = open_to_read(&args.dir)?;
    let mut progress = Progress::new("dump", Some(engine.stats().entries), "entries");
    let snapshot = engine.snapshot();
    let mut text = Text::new(args.format);
    out.bytes(&text.header(&snapshot, args.sort)?)?;
    let mut done = 0;
    let mut write = |item: Item| {
        interrupt::check()?;
        done += 1;
        progress.at(done);
        out.bytes(&text.entry(&item))
    };
    // Order: a stream is mapped to the spaces of another store by these, so they come first.
    let first: BTreeSet<Vec<u8>> = SpaceImport::catalog_keys(&snapshot)?.into_iter().collect();
    for key in &first {
        if let Some(entry) = snapshot.entry(key)? {
            write(Item::of(key.clone(), entry))?;
        }
    }
    if args.sort {
        for key in sorted_keys(&snapshot, b"")? {
            if !first.contains(&key)
                && let Some(entry) = snapshot.entry(&key)?
            {
                write(Item::of(key, entry))?;
            }
        }
    } else {
        for entry in snapshot.iter() {
            let (key, entry) = entry?;
            if !first.contains(&key) {
                write(Item::of(key, entry))?;
            }
        }
    }
    out.bytes(&text.end())?;
    // Order: what is in doubt is written before anybody says that all is well.
    out.flush()?;
    progress.finish();
    for sentence in text.sentences() {
        say(format_args!("tierce: {sentence}"));
    }
    Ok(Code::Done)
}

/// One of the formats while it is written, and what it could not say.
struct Text {
    format: TextFormat,
    jsonl: jsonl::Writer,
    /// Entries of which the format left something out.
    lessened: u64,
    /// Entries whose key LMDB does not take.
    unfit: u64,
}

impl Text {
    fn new(format: TextFormat) -> Self {
        Self { format, jsonl: jsonl::Writer::default(), lessened: 0, unfit: 0 }
    }

    fn header(&mut self, snapshot: &Snapshot, sorted: bool) -> Outcome<Vec<u8>> {
        Ok(match self.format {
            TextFormat::Jsonl => self.jsonl.header(snapshot.now().0, sorted),
            TextFormat::Lmdb => lmdb::header(map_bytes(snapshot)?),
            TextFormat::Csv => csv::header(),
        })
    }

    fn entry(&mut self, item: &Item) -> Vec<u8> {
        match self.format {
            TextFormat::Jsonl => self.jsonl.entry(item),
            TextFormat::Lmdb => {
                self.lessened += u64::from(item.has_more_than_value());
                self.unfit +=
                    u64::from(item.key.is_empty() || item.key.len() > lmdb::KEY_BYTES_MAX);
                lmdb::entry(item)
            }
            TextFormat::Csv => {
                let more = Item { expires_at_ms: None, evictable: false, ..item.clone() };
                self.lessened += u64::from(more.has_more_than_value());
                csv::entry(item)
            }
        }
    }

    fn end(&mut self) -> Vec<u8> {
        match self.format {
            TextFormat::Jsonl => self.jsonl.end(),
            TextFormat::Lmdb => lmdb::END.to_vec(),
            TextFormat::Csv => Vec::new(),
        }
    }

    /// What a person should know of this text.
    fn sentences(&self) -> Vec<String> {
        let lessened = (self.lessened > 0).then(|| {
            let count = self.lessened;
            format!("{count} entries have more than this format can say; --format jsonl keeps everything")
        });
        let unfit = (self.unfit > 0).then(|| {
            let (count, limit) = (self.unfit, lmdb::KEY_BYTES_MAX);
            format!(
                "{count} keys are empty or longer than {limit} bytes: mdb_load will refuse them"
            )
        });
        lessened.into_iter().chain(unfit).collect()
    }
}

/// Room that LMDB surely finds enough: a value may take a page of its own, and pages may be half full. Its file does
/// not grow with that.
fn map_bytes(snapshot: &Snapshot) -> Outcome<u64> {
    const LEAST: u64 = 1 << 20;
    const PAGE: u64 = 4096;
    let mut bytes = LEAST;
    snapshot.scan(b"", false, &mut |_, view| {
        bytes = bytes.saturating_add(2 * (view.record_bytes + PAGE));
        if interrupt::is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    interrupt::check()?;
    Ok(bytes)
}
