//! One disk call fails, or panics, and everything is looked at afterwards: what was acknowledged is served, the open store
//! and the stored one agree, a check is clean, what was synced is provably so, readers are current, feeds complete.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
};

use tierce_engine::{
    Batch, Durability, Engine, Error, Health, Options, RecoveryPolicy, SequenceNumber,
    io::{Disk, MemoryDisk},
    repair,
};
use tierce_kit::{
    clock::TestClock,
    fault::{CallKind, EIO, EMFILE, Failure, Fault},
    recorder::RecordingDisk,
    rng::Rng,
    seed::cases,
    store::soundness,
};

const HEADER_BYTES: usize = 4096;
const MODES: [Durability; 4] =
    [Durability::Os, Durability::Buffered, Durability::Periodic, Durability::Sync];

type Value = Option<Vec<u8>>;
type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// A store on a disk whose calls fail, with what each key may have.
struct Trial {
    disk: RecordingDisk,
    clock: TestClock,
    mode: Durability,
    engine: Engine,
    /// More than one after a write that was not acknowledged.
    may_be: BTreeMap<Vec<u8>, BTreeSet<Value>>,
    /// Whether compaction may have taken changes out.
    is_compacted: bool,
    /// What a check found first, after the fault and before the end.
    unsound: Option<String>,
}

fn options(disk: impl Disk + 'static, clock: &TestClock) -> Options {
    let options = Options::new().disk(disk).clock(clock.clone()).segment_bytes(8 << 10);
    let mut compaction = options.compaction.clone();
    compaction.automatic = false;
    options.background(false).compaction(compaction)
}

fn contents(engine: &Engine) -> Contents {
    let entries = engine.iter().unwrap().map(Result::unwrap);
    entries.map(|(key, value)| (key, value.value.to_vec())).collect()
}

impl Trial {
    fn new(mode: Durability) -> Self {
        let (disk, clock) = (RecordingDisk::new(), TestClock::new());
        let engine = options(disk.clone(), &clock).durability(mode).open("store").unwrap();
        Self {
            disk,
            clock,
            mode,
            engine,
            may_be: BTreeMap::new(),
            is_compacted: false,
            unsound: None,
        }
    }

    /// Runs `op`; `None` if it panicked.
    fn run<T>(&self, op: impl FnOnce(&Engine) -> T) -> Option<T> {
        catch_unwind(AssertUnwindSafe(|| op(&self.engine))).ok()
    }

    fn write(&mut self, writes: &[(u8, Value)], op: impl FnOnce(&Engine) -> Result<(), Error>) {
        let is_acknowledged = matches!(self.run(op), Some(Ok(())));
        for (key, value) in writes {
            let may_be = self.may_be.entry(vec![*key]).or_insert_with(|| [None].into());
            if is_acknowledged {
                may_be.clear();
            }
            may_be.insert(value.clone());
        }
    }

    /// Puts, deletes, batches, syncs, seals, checkpoints and perhaps compaction, as `seed` says. The store is reopened
    /// by `try_recover` when it stops.
    fn work(&mut self, seed: u64) {
        let mut rng = Rng::new(seed);
        for _ in 0..24 {
            let (key, other) = (rng.below(8) as u8, 8 + rng.below(8) as u8);
            let value = vec![rng.below(250) as u8; rng.below(1_600) as usize];
            match rng.below(12) {
                0..5 => self.write(&[(key, Some(value.clone()))], |e| e.put([key], value)),
                5 => self.write(&[(key, None)], |e| e.delete([key]).map(drop)),
                6..8 => {
                    let both = [(key, Some(value.clone())), (other, Some(vec![7]))];
                    self.write(&both, |engine| {
                        let mut batch = Batch::new();
                        batch.put([key], value).put([other], [7]);
                        engine.commit(batch)
                    });
                }
                8 => drop(self.run(Engine::sync)),
                9 => drop(self.run(Engine::checkpoint)),
                10 if rng.below(3) == 0 => {
                    self.is_compacted = true;
                    let _ = self.run(Engine::compact);
                }
                _ => {
                    self.clock.advance(1_000);
                    (0..4).for_each(|_| drop(self.run(Engine::step)));
                }
            }
            if self.disk.fired() > 0 && self.unsound.is_none() {
                self.unsound = self.soundness_now().err();
            }
            if self.engine.health() != Health::Good {
                let _ = self.run(Engine::try_recover);
            }
        }
    }

    /// What a check finds of what a kill would leave now.
    fn soundness_now(&self) -> Result<(), String> {
        // Until the first segment is begun there is no store.
        if !self.disk.paths().iter().any(|path| path.ends_with("MANIFEST")) {
            return Ok(());
        }
        let now: Arc<dyn Disk> = Arc::new(self.disk.image().memory_disk());
        soundness(&now, "store".as_ref())
    }

    /// What a kill leaves now, with the newest segment cut: inside its header that is a loss, and a reader of any end
    /// that may be a torn one is current at once.
    fn cut_now(&self, rng: &mut Rng) -> Result<(), String> {
        let files = self.disk.image().memory_disk().files();
        let is_segment = |path: &&PathBuf| path.extension().is_some_and(|e| e == "seg");
        let Some(last) = files.keys().rfind(is_segment).cloned() else { return Ok(()) };
        let cut = |at| {
            let mut files = files.clone();
            files.get_mut(&last).unwrap().truncate(at);
            options(MemoryDisk::with_files(files), &self.clock)
        };
        let salvaged = repair::salvage(&cut(100), "store".as_ref(), "new".as_ref()).unwrap();
        if salvaged.is_whole() {
            return Err("a header is gone, and all is said to be salvaged".to_owned());
        }
        let end = files[&last].iter().rposition(|&byte| byte != 0).unwrap_or(0);
        for _ in 0..8 {
            let at = end.saturating_sub(rng.below(400) as usize).max(HEADER_BYTES);
            // Refused: that is no torn end.
            let Ok(reader) = cut(at).open_reader("store") else { continue };
            if reader.refresh().unwrap() || !reader.staleness().unwrap().is_current {
                return Err(format!("cut at {at} of {end}: a reader is never current"));
            }
        }
        Ok(())
    }

    fn allows(&self, found: &Contents) -> Result<(), String> {
        for (key, may_be) in &self.may_be {
            let value = found.get(key).cloned();
            if !may_be.contains(&value) {
                return Err(format!("{key:?} is {value:?}"));
            }
        }
        Ok(())
    }

    /// Everything after the fault. `Err` says what is wrong.
    fn judge(mut self, rng: &mut Rng) -> Result<(), String> {
        self.disk.disarm();
        let unsound = self.unsound.take().map_or_else(|| self.soundness_now(), Err);
        unsound.map_err(|found| format!("at once: {found}"))?;
        let recovered = self.engine.try_recover();
        let is_for_reopening = matches!(recovered, Err(Error::Stopped { .. }));
        if !is_for_reopening {
            recovered.map_err(|error| format!("try_recover: {error}"))?;
            self.engine.sync().map_err(|error| format!("sync: {error}"))?;
            self.allows(&contents(&self.engine)).map_err(|found| format!("open: {found}"))?;
        }
        let before = if is_for_reopening { None } else { Some(contents(&self.engine)) };
        let left = self.disk.image().memory_disk();
        let engine = std::mem::replace(
            &mut self.engine,
            options(MemoryDisk::new(), &self.clock).open("other").unwrap(),
        );
        std::mem::forget(engine);
        let reopened = |disk, policy| options(disk, &self.clock).recovery(policy).open("store");
        let copy = |disk: &MemoryDisk| MemoryDisk::with_files(disk.files());
        let engine = reopened(copy(&left), RecoveryPolicy::Strict)
            .map_err(|error| format!("reopening: {error}"))?;
        let found = contents(&engine);
        let is_sure = self.mode == Durability::Sync || before.is_some();
        if is_sure {
            self.allows(&found).map_err(|found| format!("reopened: {found}"))?;
        }
        if before.as_ref().is_some_and(|before| *before != found) {
            return Err(format!("open {before:?}, stored {found:?}"));
        }
        let feed = engine.changes_since(SequenceNumber(0), 10_000).map_err(|e| e.to_string())?;
        if !feed.is_complete && !self.is_compacted {
            return Err("the feed is said to lack something".to_owned());
        }
        drop(engine);
        if !left.files().keys().any(|path| path.ends_with("MANIFEST")) {
            return Ok(());
        }
        let reader = options(copy(&left), &self.clock).open_reader("store").unwrap();
        if reader.refresh().unwrap() || !reader.staleness().unwrap().is_current {
            return Err("a reader is never current".to_owned());
        }
        if before.is_some() {
            self.damage(&left, &found, rng)?;
        }
        Ok(())
    }

    /// What was synced is provably so: a bit turned, the end cut off, the header gone, the manifest gone.
    fn damage(&self, left: &MemoryDisk, found: &Contents, rng: &mut Rng) -> Result<(), String> {
        let is_segment = |path: &&PathBuf| path.extension().is_some_and(|e| e == "seg");
        let mut files = left.files();
        let Some(last) = files.keys().rfind(is_segment).cloned() else { return Ok(()) };
        let end = files[&last].iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
        if end > HEADER_BYTES {
            let at = HEADER_BYTES + rng.below((end - HEADER_BYTES) as u64) as usize;
            type Damage = Box<dyn Fn(&mut Vec<u8>)>;
            let damages: [(&str, Damage); 3] = [
                ("bit", Box::new(move |bytes| bytes[at] ^= 1)),
                ("cut", Box::new(move |bytes| bytes.truncate(at))),
                ("header", Box::new(|bytes| bytes.truncate(100))),
            ];
            for (what, damage) in damages {
                let mut files = files.clone();
                damage(files.get_mut(&last).unwrap());
                let disk = MemoryDisk::with_files(files);
                let shared: Arc<dyn Disk> = Arc::new(disk.clone());
                let is_silent = soundness(&shared, "store".as_ref()).is_ok();
                // Bytes behind the records that count, as a footer that the manifest does not know, are no loss.
                let is_lost = || {
                    let copy = MemoryDisk::with_files(disk.files());
                    let opened = options(copy, &self.clock).open("store");
                    opened.map_or(true, |engine| contents(&engine) != *found)
                };
                if is_silent && is_lost() {
                    return Err(format!(
                        "{what} at {at} of {end} in {}: no finding",
                        last.display()
                    ));
                }
                let home = options(disk, &self.clock);
                let salvaged = repair::salvage(&home, "store".as_ref(), "new".as_ref()).unwrap();
                let kept = contents(&home.open("new").unwrap());
                if kept != *found && salvaged.is_whole() {
                    return Err(format!("{what} at {at} of {end}: salvaged as if all were there"));
                }
            }
        }
        files.retain(|path, _| path.file_name() != Some("MANIFEST".as_ref()));
        let disk = MemoryDisk::with_files(files);
        let engine = options(disk, &self.clock).recovery(RecoveryPolicy::Salvage).open("store");
        // Without a manifest, records that compaction or an overwrite left behind may be there again; what was newest is.
        let kept = contents(&engine.map_err(|error| format!("no manifest: {error}"))?);
        match found.iter().find(|(key, value)| kept.get(*key) != Some(*value)) {
            Some((key, _)) => Err(format!("no manifest: {key:?} is not what it was")),
            None => Ok(()),
        }
    }
}

/// What fails: how, and at which calls.
/// "Every other": the manifest fails again and again, and the footer of a segment does not.
fn faults() -> Vec<(&'static str, Failure, Vec<CallKind>)> {
    let opening = vec![CallKind::Open, CallKind::Create, CallKind::Map, CallKind::List];
    vec![
        ("error", Failure::Errno(EIO), Vec::new()),
        ("too many files", Failure::Errno(EMFILE), opening),
        ("sync", Failure::Errno(EIO), vec![CallKind::Sync]),
        ("every other sync", Failure::Errno(EIO), vec![CallKind::Sync]),
        ("panic", Failure::Panic, Vec::new()),
    ]
}

/// Goal: whichever call fails, is refused for want of files, or panics: see above. Method: random work on a small store;
/// of each kind of failure one random call, once, and then every one from it on for a while.
#[test]
fn any_call_may_fail() {
    std::panic::set_hook(Box::new(quiet));
    cases("trials::sweep::any_call_may_fail", 16, |seed| {
        let mut rng = Rng::new(seed);
        for mode in MODES {
            let mut whole = Trial::new(mode);
            whole.work(seed);
            let calls = |kinds: &[CallKind]| match kinds {
                [] => whole.disk.call_count(),
                kinds => kinds.iter().map(|kind| whole.disk.calls_of(*kind)).sum(),
            };
            let counts: Vec<_> = faults().iter().map(|(_, _, kinds)| calls(kinds)).collect();
            let mut wrong = Vec::new();
            wrong.extend(whole.cut_now(&mut rng).err());
            wrong.extend(whole.judge(&mut rng).err().map(|found| format!("no fault: {found}")));
            for ((name, failure, kinds), count) in faults().into_iter().zip(counts) {
                let nth = 1 + rng.below(count.max(1));
                let is_lasting = failure != Failure::Panic && rng.below(4) == 0;
                let mut trial = Trial::new(mode);
                let fault = Fault::nth(nth, EIO).of(&kinds).with(failure);
                trial.disk.arm(match is_lasting {
                    _ if name == "every other sync" => fault.every(2),
                    true => fault.lasting(),
                    false => fault,
                });
                trial.work(seed);
                let is_stopped = matches!(trial.engine.health(), Health::Stopped { .. });
                let what = format!("{mode:?}, {name} at {nth} of {count}, lasting {is_lasting}");
                if is_stopped && name == "too many files" {
                    wrong.push(format!("{what}: writes are stopped"));
                }
                wrong.extend(trial.judge(&mut rng).err().map(|found| format!("{what}: {found}")));
            }
            assert!(wrong.is_empty(), "{mode:?}: {}", wrong.join("\n"));
        }
    });
}

/// Panics that were ordered are not worth a line.
fn quiet(info: &std::panic::PanicHookInfo<'_>) {
    let payload = info.payload();
    let literal = payload.downcast_ref::<&str>().copied();
    let message = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    if !message.is_some_and(|text| text.starts_with("the disk panics")) {
        eprintln!("{info}");
    }
}
