//! Runs a program in a world of its own and judges what came of it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use tierce_engine::{
    Durability, Engine, Health, PutOptions, inspect,
    io::Disk,
    schedule::{Ended, run, settle, thread},
};
use tierce_kit::{
    clock::TestClock,
    crash::{CrashPlan, image},
    recorder::RecordingDisk,
    store::{STORE, soundness},
};

use crate::{
    disk::{Accident, PointDisk},
    linear::{self, After, Event, Kind, Rules},
    program::{Case, KEYS, Op},
    run::{Noted, Notes, Shared, key, options, seen},
};

/// How a run came out.
pub(crate) type Verdict = Result<(), String>;

/// Runs `case`.
pub(crate) fn execute(case: &Case) -> Ended<Verdict> {
    let (order, case) = (case.order.clone(), case.clone());
    run(order, move || whole(case))
}

/// Everything about one run as one result.
pub(crate) fn verdict(ended: &Ended<Verdict>) -> Verdict {
    ended.outcome.clone()?
}

fn open(case: &Case, disk: &PointDisk, clock: &TestClock) -> Result<Engine, String> {
    options(case, disk, clock).open(STORE).map_err(|error| format!("it does not open: {error}"))
}

fn whole(case: Case) -> Verdict {
    let disk = PointDisk::new(RecordingDisk::new());
    if case.config.min_free_bytes > 0 {
        disk.inner.set_capacity(Some(4 << 20));
    }
    let clock = TestClock::new().seeded(case.seed);
    let engine = open(&case, &disk, &clock)?;
    let follows = |op: &Op| matches!(op, Op::Follow);
    let is_followed = case.ops().any(follows);
    // A follower needs a store: one record makes it.
    let follower = is_followed.then(|| {
        let other = PutOptions::new().evictable(true);
        engine.put_with("other", "value", &other).and_then(|_| engine.sync()).ok()?;
        options(&case, &disk, &clock).open_reader(STORE).ok()
    });
    let is_os = |durability: Durability| matches!(durability, Durability::Os | Durability::Sync);
    let all_os = is_os(case.config.durability)
        && case.ops().all(|op| match op {
            Op::Put { put, .. } | Op::Submit { put } => put.durability.is_none_or(is_os),
            Op::Delete { durability, .. } => durability.is_none_or(is_os),
            Op::Batch { first, .. } => first.durability.is_none_or(is_os),
            _ => true,
        });
    let shared = Arc::new(Shared {
        is_faulty: case.accident.is_some() || case.fault.is_some(),
        all_os,
        disk,
        clock,
        engine,
        follower: Mutex::new(follower.flatten()),
        notes: Mutex::new(Notes::default()),
        ids: AtomicU64::new(0),
        case,
    });
    shared.play(&shared.case.before);
    if let Some((calls, accident)) = shared.case.accident {
        shared.disk.arm(calls, accident);
    }
    if let Some(fault) = &shared.case.fault {
        shared.disk.inner.arm(fault.clone());
    }
    let clients: Vec<_> = (0..shared.case.clients.len())
        .map(|number| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.play(&shared.case.clients[number]))
        })
        .collect();
    for client in clients {
        if client.join().is_err() {
            shared.complain("a client panicked".to_owned());
        }
    }
    let Ok(shared) = Arc::try_unwrap(shared).map_err(|_| "a client is left") else {
        return Err("a client is left".to_owned());
    };
    if shared.is_crash() { crashed(shared) } else { finished(shared) }
}

fn rules(shared: &Shared) -> Rules {
    let limits = &shared.case.config;
    let limited = limits.max_entries.or(limits.max_live_bytes).or(limits.max_bytes).is_some();
    Rules { evicts: limited || shared.has(|op| matches!(op, Op::Shrink { .. })) }
}

/// The store's process or machine died: what is there when it is opened again?
fn crashed(shared: Shared) -> Verdict {
    let rules = rules(&shared);
    let before = shared.engine.now().0;
    let was_confirmed = confirmed(&shared.engine);
    shared.disk.inner.power_off();
    let Shared { engine, disk, clock, follower, notes, case, .. } = shared;
    let is_power = case.is_power && matches!(case.accident, Some((_, Accident::Crash)));
    let plan = if is_power { CrashPlan::Random(case.seed) } else { CrashPlan::Everything };
    drop((engine, follower));
    let log = disk.inner.log();
    let disk = PointDisk::new(RecordingDisk::with_image(&image(&log, log.events.len(), &plan)));
    let on_record = time_on_record(&disk)?;
    let engine = open(&case, &disk, &clock)?;
    if on_record > was_confirmed {
        return Err(format!("time {on_record} is on record, which the store had not confirmed"));
    }
    goes_on(&engine, on_record)?;
    let mut after = Vec::new();
    for number in 0..KEYS {
        let entry = engine.entry(key(number)).map_err(|error| format!("reading: {error}"))?;
        after.push(After { seen: entry.as_ref().map(seen), time: engine.now().0, before });
    }
    let notes = notes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    judge(&notes, rules, Some(&after))?;
    engine.close().map_err(|error| format!("closing after a crash: {error}"))?;
    sound(&disk)
}

/// The store lives: everything must be well again, and the same when it is opened once more.
fn finished(shared: Shared) -> Verdict {
    let rules = rules(&shared);
    shared.disk.disarm();
    shared.disk.inner.disarm();
    if shared.is_faulty {
        match well_again(&shared) {
            // It says itself that only opening it again helps.
            Err(complaint) if complaint.contains("reopen the store") => return crashed(shared),
            verdict => verdict?,
        }
    }
    settled(&shared)?;
    counted(&shared)?;
    let gone = all_keys(&shared);
    // What is over or cut may be counted for a while.
    let ends = |op: &Op| match op {
        Op::Put { put, .. } | Op::Submit { put } => put.ttl.is_some(),
        Op::Batch { .. } | Op::Cut { .. } | Op::Touch { .. } | Op::Slide { .. } => true,
        _ => false,
    };
    let counts = !rules.evicts && !shared.has(ends);
    let Shared { engine, disk, clock, follower, notes, case, .. } = shared;
    drop(follower);
    let (stats, was_confirmed) = (engine.stats(), confirmed(&engine));
    engine.close().map_err(|error| format!("closing: {error}"))?;
    sound(&disk)?;
    // One whose only write failed has a manifest.
    let is_blank = !is_store(&disk) || stats.sequence == 0;
    if case.loses_checkpoints {
        remove_checkpoints(&disk)?;
    }
    let engine = open(&case, &disk, &clock)?;
    if !is_blank {
        goes_on(&engine, was_confirmed)?;
    }
    if engine.stats().entries != stats.entries && counts {
        let (before, now) = (stats.entries, engine.stats().entries);
        return Err(format!("the index had {before} entries, and has {now} opened again"));
    }
    let notes = notes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let again = Shared {
        engine,
        disk,
        clock,
        case,
        follower: Mutex::new(None),
        notes: Mutex::new(notes),
        ids: AtomicU64::new(1 << 32),
        is_faulty: false,
        all_os: false,
    };
    if again.case.loses_checkpoints {
        for number in 0..KEYS {
            again.note(again.begin(), number, Kind::Forgotten, false, false);
        }
    }
    // A store that never took a write has no time on record: it may begin with an earlier one. What was staged and over
    // before it was written stays away, and only that.
    for number in gone.into_iter().filter(|_| is_blank) {
        again.note(again.begin(), number, Kind::Delete { found: None }, false, false);
    }
    all_keys(&again);
    again.play(&again.case.again);
    all_keys(&again);
    let Shared { engine, notes, .. } = again;
    drop(engine);
    let notes = notes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    judge(&notes, rules, None)
}

fn remove_checkpoints(disk: &PointDisk) -> Verdict {
    let is_checkpoint = |path: &PathBuf| path.extension().is_some_and(|end| end == "ckpt");
    for path in disk.inner.paths().into_iter().filter(is_checkpoint) {
        disk.inner.remove(&path).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Store time by which things are removed.
fn confirmed(engine: &Engine) -> u64 {
    engine.clock_doubt().map_or_else(|| engine.now().0, |doubt| doubt.confirmed.0)
}

/// Store time that the manifest vouches for; 0 without one.
fn time_on_record(disk: &PointDisk) -> Result<u64, String> {
    let files: Arc<dyn Disk> = Arc::new(disk.inner.clone());
    if !is_store(disk) {
        return Ok(0);
    }
    let info = inspect::info(&files, Path::new(STORE));
    info.map(|info| info.high_water.0).map_err(|error| format!("its manifest: {error}"))
}

/// Store time does not go back behind what was on record (I16).
fn goes_on(engine: &Engine, on_record: u64) -> Verdict {
    let now = confirmed(engine);
    if now >= on_record {
        return Ok(());
    }
    Err(format!("store time went back from {on_record} to {now} over a reopening"))
}

/// A store that never took a write has no manifest.
fn is_store(disk: &PointDisk) -> bool {
    disk.inner.paths().iter().any(|path| path.ends_with("MANIFEST"))
}

fn sound(disk: &PointDisk) -> Verdict {
    let files: Arc<dyn Disk> = Arc::new(disk.inner.clone());
    if is_store(disk) { soundness(&files, Path::new(STORE)) } else { Ok(()) }
}

/// Reads every key; which of them are not there?
fn all_keys(shared: &Shared) -> Vec<u8> {
    for number in 0..KEYS {
        shared.read(&Op::Get { key: number }, number);
    }
    let notes = shared.notes();
    let is_gone = |number: &u8| {
        let last = notes.events.iter().rev().find(|noted| noted.key == *number);
        matches!(last.map(|noted| &noted.event.kind), Some(Kind::Read { seen: None }))
    };
    (0..KEYS).filter(is_gone).collect()
}

/// Everything that is due is done, everything is on the device, and the store is well.
fn settled(shared: &Shared) -> Verdict {
    for _ in 0..40 {
        match shared.engine.step() {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return Err(format!("work in the background at the end: {error}")),
        }
    }
    shared.engine.sync().map_err(|error| format!("sync at the end: {error}"))?;
    if matches!(shared.engine.health(), Health::CompactionFails { .. }) && shared.is_faulty {
        // What failed is done again by the next call that asks for it.
        shared.engine.compact().map_err(|error| format!("compaction at the end: {error}"))?;
    }
    match shared.engine.health() {
        Health::Good => {}
        health => return Err(format!("at the end the store says {health:?}")),
    }
    Ok(())
}

/// After a sweep the store counts what it shows, whatever was read or touched meanwhile.
fn counted(shared: &Shared) -> Verdict {
    if shared.engine.clock_doubt().is_some() {
        return Ok(());
    }
    shared.engine.sweep(None).map_err(|error| format!("sweep at the end: {error}"))?;
    let shown = shared.engine.iter().map_err(|error| format!("reading at the end: {error}"))?;
    let (shown, counted) = (shown.count() as u64, shared.engine.stats().entries);
    if shown == counted {
        return Ok(());
    }
    Err(format!("after a sweep {shown} entries are shown and {counted} are counted"))
}

/// After failures whose cause is gone: the store takes writes again, and the background works.
fn well_again(shared: &Shared) -> Verdict {
    // Order: a thread that panicked has said so before the store is asked to recover.
    let mut recovered = Ok(());
    for _ in 0..3 {
        settle();
        recovered = shared.engine.try_recover();
        if recovered.is_ok() {
            break;
        }
    }
    recovered.map_err(|error| format!("it does not recover: {error}"))?;
    if let Health::Stopped { cause } = shared.engine.health() {
        return Err(format!("recovered, but stopped: {cause}"));
    }
    if !shared.case.config.background {
        return Ok(());
    }
    let probe = PutOptions::new().evictable(true).durability(Durability::Periodic);
    // It may be refused; what is staged then is flushed all the same.
    let _ = shared.engine.put_with("other", "probe", &probe);
    if shared.engine.stats().staged == 0 {
        return Ok(());
    }
    for _ in 0..4 {
        shared.clock.advance(10_000);
        settle();
        if shared.engine.stats().staged == 0 || shared.engine.health() != Health::Good {
            return Ok(());
        }
    }
    Err("the store says it is well, and nothing staged is flushed in the background".to_owned())
}

fn judge(notes: &Notes, rules: Rules, after: Option<&[After]>) -> Verdict {
    if let Some(complaint) = notes.complaints.first() {
        return Err(complaint.clone());
    }
    for number in 0..KEYS {
        let after = after.map(|after| &after[usize::from(number)]);
        linear::check(&of_key(notes, number), rules, after)
            .map_err(|text| format!("key {number}: {text}"))?;
    }
    let is_touched = |noted: &Noted| matches!(noted.event.kind, Kind::Touch { .. });
    // A touch gives an entry a later number than its batch has.
    if notes.events.iter().any(is_touched) { Ok(()) } else { moments(notes) }
}

/// What was done to a key.
fn of_key(notes: &Notes, number: u8) -> Vec<Event> {
    // Positions change: what comes after what is told by position.
    let mut places = vec![0; notes.events.len()];
    let mut events: Vec<Event> = Vec::new();
    let of_it = notes.events.iter().enumerate().filter(|(_, noted)| noted.key == number);
    for (at, noted) in of_it {
        places[at] = events.len();
        let before = noted.event.after.map(|before| places[before]);
        events.push(Event { after: before, ..noted.event.clone() });
    }
    events
}

/// A snapshot shows all of a batch or nothing of it.
fn moments(notes: &Notes) -> Verdict {
    for snapshot in &notes.snapshots {
        for batch in &notes.batches {
            let part = |(key, id): &(u8, u64)| {
                snapshot.iter().find(|(of, seen)| of == key && seen.id == *id)
            };
            let Some((_, shown)) = batch.iter().find_map(part) else { continue };
            for (number, id) in batch {
                let old = snapshot.iter().find(|(of, seen)| {
                    of == number && seen.id != *id && seen.sequence < shown.sequence
                });
                if let Some((_, old)) = old {
                    return Err(format!(
                        "a snapshot shows {shown:?} of a batch, and of key {number} the older {old:?}"
                    ));
                }
            }
        }
    }
    Ok(())
}
