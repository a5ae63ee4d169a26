//! Backups: what is in one, beside a writer, proofs, and putting one back.
//!
//! - `attacks`: places that are one another, two at once, links that lead away
//! - `taking`: what comes out, in every way of taking it
//! - `restoring`: proofs and swaps

mod attacks;
mod restoring;
mod taking;

use std::{collections::BTreeMap, fs, io, io::Read, ops::ControlFlow, path::Path, sync::Arc};

use tierce_engine::{
    Batch, Engine, Entry, Options, PutOptions, Restore,
    backup::{BackupOptions, BackupReport, BackupTarget, back_up, back_up_to},
    io::{Disk, OsDisk},
};

/// The real disk.
fn disk() -> Arc<dyn Disk> {
    Arc::new(OsDisk)
}

fn options() -> Options {
    Options::new().segment_bytes(8 << 10).background(false)
}

/// Backs up without looking at the clock.
fn take(from: &Path, to: &Path, options: &BackupOptions) -> tierce_engine::Result<BackupReport> {
    back_up(&disk(), from, to, options, &mut |_, _| ControlFlow::Continue(()))
}

/// Some of everything that a store can hold, over several segments.
fn fill(engine: &Engine) {
    let later = engine.now().saturating_add_ms(3_600_000);
    for number in 0..80_u8 {
        engine.put(format!("plain {number}"), vec![number; 300]).unwrap();
    }
    let full = PutOptions::new()
        .expires_at(later)
        .scope("one")
        .scope("two")
        .codec(3, 7)
        .item(0x20, b"item".to_vec())
        .evictable(true);
    for number in 0..20_u8 {
        engine.put_with(format!("full {number}"), vec![number; 100], &full).unwrap();
    }
    engine.put_with("cut", "v", &PutOptions::new().scope("gone")).unwrap();
    engine.cut_scope("gone").unwrap();
    assert!(engine.touch("plain 1", Some(later.saturating_add_ms(1))).unwrap());
    assert!(engine.delete("plain 2").unwrap());
    let mut batch = Batch::new();
    batch.put("batch 1", "a").put("batch 2", "b");
    engine.commit(batch).unwrap();
}

/// Everything that a store says of its entries.
fn entries(engine: &Engine) -> BTreeMap<Vec<u8>, Entry> {
    engine.iter().unwrap().map(Result::unwrap).collect()
}

/// What a store in `dir` holds; the directory is not changed.
fn contents(dir: &Path) -> BTreeMap<Vec<u8>, Entry> {
    entries(&options().read_only(true).open(dir).unwrap())
}

/// The names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let listed = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The files of a stream, in the order in which they came.
#[derive(Default)]
struct Files(Vec<(String, Vec<u8>)>);

impl BackupTarget for Files {
    fn take(&mut self, name: &str, bytes: u64, content: &mut dyn Read) -> io::Result<()> {
        let mut taken = Vec::new();
        content.read_to_end(&mut taken)?;
        assert_eq!(taken.len() as u64, bytes, "{name}");
        self.0.push((name.to_owned(), taken));
        Ok(())
    }
}

impl Files {
    fn of(from: &Path, base: Option<&Path>) -> (Self, BackupReport) {
        let mut files = Self::default();
        let go_on = &mut |_, _| ControlFlow::Continue(());
        let report = back_up_to(&disk(), from, base, &mut files, go_on).unwrap();
        (files, report)
    }

    fn restore(&self, to: &Path, base: Option<&Path>) -> tierce_engine::Result<()> {
        let restore = Restore::begin(&disk(), to, false)?;
        for (name, bytes) in &self.0 {
            restore.take(name, &mut bytes.as_slice())?;
        }
        restore.finish(base).map(drop)
    }
}
