//! `load`: text as entries into a store.

use std::{cell::Cell, fs, path::Path, rc::Rc};

use tierce::SpaceImport;

use super::{
    csv,
    input::{Input, Source},
    item::Item,
    jsonl, lmdb,
    sink::Sink,
};
use crate::{
    args::{LoadArgs, TextFormat},
    exit::{Code, Outcome},
    interrupt,
    out::Out,
    progress::Progress,
    talk::say,
};

/// Loads a text. A file is read to its end first, so that a fault in it leaves the store as it is; standard input is
/// stored up to its first fault.
///
/// Spaces of the library are mapped by their names: their records come first in a dump, so that this works on a stream
/// too; of a file, they may come anywhere.
pub(crate) fn load(args: &LoadArgs, json: bool, out: &mut Out) -> Outcome {
    let mut spaces = SpaceImport::new();
    // A pipe with a name can be read once only.
    let is_file =
        args.file.as_os_str() != "-" && fs::metadata(&args.file).is_ok_and(|file| file.is_file());
    if is_file {
        let mut text = Text::open(&args.file, args.format, "check the text")?;
        while let Some(item) = text.source.next()? {
            interrupt::check()?;
            spaces.survey(&item.key, &item.value)?;
            text.tell();
        }
        text.progress.finish();
    }
    let mut text = Text::open(&args.file, args.format, "load")?;
    // Order: a first entry must have come, so that a text that is none creates no store.
    let mut next = text.source.next()?;
    while !is_file
        && let Some(item) = &next
        && SpaceImport::is_catalog(&item.key)
    {
        interrupt::check()?;
        spaces.survey(&item.key, &item.value)?;
        next = text.source.next()?;
    }
    let mut sink = Sink::open(&args.dir, &args.storing, spaces)?;
    let fed = feed(&mut text, next, &mut sink);
    let (counts, ended) = sink.close(fed);
    if ended.is_err() {
        say(format_args!("tierce: {} before it ended", counts.sentence()));
    }
    ended?;
    text.progress.finish();
    if json {
        out.json(&counts.document().into())?;
    } else {
        out.line(counts.sentence())?;
    }
    Ok(Code::Done)
}

fn feed(text: &mut Text, first: Option<Item>, sink: &mut Sink) -> Outcome<()> {
    let mut next = first;
    while let Some(item) = next {
        sink.take(item)?;
        next = text.source.next()?;
        text.tell();
    }
    Ok(())
}

/// A text that is read, and how far.
struct Text {
    source: Box<dyn Source>,
    read: Rc<Cell<u64>>,
    progress: Progress,
}

impl Text {
    fn open(path: &Path, format: TextFormat, what: &'static str) -> Outcome<Self> {
        let input = Input::open(path)?;
        let (read, total) = (input.counter(), fs::metadata(path).ok().map(|file| file.len()));
        let source: Box<dyn Source> = match format {
            TextFormat::Jsonl => Box::new(jsonl::Reader::new(input)),
            TextFormat::Lmdb => Box::new(lmdb::Reader::new(input)),
            TextFormat::Csv => Box::new(csv::Reader::new(input)),
        };
        Ok(Self { source, read, progress: Progress::new(what, total, "bytes") })
    }

    fn tell(&mut self) {
        self.progress.at(self.read.get());
    }
}
