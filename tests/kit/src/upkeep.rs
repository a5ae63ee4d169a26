//! Upkeep beside the model: compaction of any segments, sweeps, evictions, and openings after files were lost.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use tierce_engine::{
    Engine, SegmentId,
    format::{
        file_name::FileName,
        footer::{FOOTER_TRAILER_BYTES, Trailer},
    },
    is_live,
};

use crate::{
    clock::TestClock,
    crash::{CrashPlan, image},
    facet::Facet,
    image::Image,
    model::{CrashKind, Effect, Model, Stored, held, live},
    observe::Evicted,
    op::{Chosen, Loss, Op},
    recorder::RecordingDisk,
    rng::Rng,
    run::{Runner, Trouble},
    store::STORE,
    sweep::kind_of,
};

impl Runner {
    pub(crate) fn upkeep(&mut self, op: &Op, engine: &Engine) -> Result<(), Trouble> {
        match op {
            Op::Settle => settle(engine)?,
            Op::Compact { chosen, cancels } => self.compact(engine, *chosen, *cancels)?,
            Op::Sweep => {
                let swept = engine.sweep(None)?;
                self.facets.note_if(swept.entries + swept.segments_dropped > 0, Facet::Swept);
            }
            Op::Shrink { percent } => self.shrink(engine, *percent)?,
            _ => return Err(Trouble::Wrong("this is no upkeep".to_owned())),
        }
        Ok(())
    }

    /// The segments that have files.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentId> {
        let id = |path: &Path| match FileName::parse(path.file_name()?.to_str()?) {
            Some(FileName::Segment(id)) => Some(id),
            _ => None,
        };
        self.disk.paths().iter().filter_map(|path| id(path)).collect()
    }

    fn compact(&mut self, engine: &Engine, chosen: Chosen, cancels: bool) -> Result<(), Trouble> {
        settle(engine)?;
        let before = self.segments();
        let ids = match chosen {
            Chosen::Best => None,
            Chosen::All => Some(before.clone()),
            Chosen::Some(seed) => {
                let mut rng = Rng::new(seed);
                Some(before.iter().copied().filter(|_| rng.one_in(2)).collect())
            }
        };
        let report = engine.compact_with(ids.as_deref(), |_| match cancels {
            true => std::ops::ControlFlow::Break(()),
            false => std::ops::ControlFlow::Continue(()),
        })?;
        self.note_compaction(chosen, report.jobs, report.cancelled);
        if let Some(corruption) = report.unreadable.first() {
            let complaint = format!("compaction cannot read {corruption}");
            if !self.faulty {
                return Err(Trouble::Wrong(complaint));
            }
            // A read that failed once: the segment is passed over.
            self.failures.push(complaint);
        }
        if cancels && report.jobs == 0 && self.segments() != before {
            return Err(Trouble::Wrong("what was cancelled left other segments".to_owned()));
        }
        let temporary = |path: &Path| path.to_string_lossy().ends_with(".tmp");
        // What could not be removed once is removed when the store is opened again.
        let left = self.disk.paths().into_iter().find(|path| temporary(path));
        if let Some(left) = left.filter(|_| self.failures.is_empty()) {
            return Err(Trouble::Wrong(format!("{} was left", left.display())));
        }
        if self.faulty {
            return Ok(());
        }
        if self.setup.is_limited() {
            // What a crash brought back was too much.
            self.learn_evictions(false)?;
        }
        Ok(self.model.check(engine).map(drop)?)
    }

    fn shrink(&mut self, engine: &Engine, percent: u8) -> Result<(), Trouble> {
        if engine.stats().staged > 0 {
            // Otherwise it may evict what a staged write hides, which nobody can see.
            engine.sync()?;
            self.model.synced();
        }
        let most = engine.stats().live_bytes * u64::from(percent) / 100;
        engine.shrink_to(most)?;
        self.learn_evictions(true)?;
        let state = self.model.current();
        let evictable: Vec<_> =
            live(&state, engine.now()).filter(|(_, stored)| stored.evictable).collect();
        let live_bytes = engine.stats().live_bytes;
        // What is staged has no bytes yet that could be given back.
        if live_bytes > most && !evictable.is_empty() && engine.stats().staged == 0 {
            let complaint = format!(
                "{live_bytes} bytes are live, {most} were asked for, and there are {evictable:?}"
            );
            return Err(Trouble::Wrong(complaint));
        }
        Ok(())
    }

    /// Looks what the store has evicted: that is its choice, but state must stay.
    pub(crate) fn learn_evictions(&mut self, is_asked: bool) -> Result<(), String> {
        let state = self.model.current();
        let engine = self.engine().clone();
        let expired = |stored: &Stored| !is_live(stored.expires_at, engine.now());
        for (key, stored) in state.iter().filter(|(_, stored)| expired(stored)) {
            if stored.evictable && !stored.hidden && !stored.evicted {
                self.model.learn(key, Effect::Hide(key.clone()));
            }
        }
        let evicted = self.model.learn_evicted(&engine)?;
        (0..evicted).for_each(|_| self.note_eviction(is_asked));
        Ok(())
    }

    /// Looks for entries of which it was not known whether they were evicted, and that live again because store time went
    /// back.
    pub(crate) fn learn_hidden(&mut self) -> Result<(), String> {
        let state = self.model.current();
        let engine = self.engine().clone();
        for (key, _) in held(&state, engine.now()).filter(|(_, stored)| stored.hidden) {
            let there = engine.contains_key(key).map_err(|error| error.to_string())?;
            let learned = if there { Effect::Show } else { Effect::Evict };
            self.model.learn(key, learned(key.clone()));
        }
        Ok(())
    }

    pub(crate) fn reopen_after(&mut self, loss: Loss) -> Result<(), Trouble> {
        self.check_held()?;
        self.disk.set_capacity(None);
        if let Some(engine) = self.engine.take() {
            engine.close()?;
        }
        self.model.synced();
        self.end_life();
        let mut left = self.disk.image();
        self.facets.note_if(suffer(&mut left, loss), Facet::FootersLost);
        self.disk = RecordingDisk::with_image(&left);
        self.mark("opening after a loss");
        self.open().map_err(|error| format!("it does not open after {loss:?}: {error}"))?;
        self.note_opening();
        let evicted = if loss.checkpoints { Evicted::Back } else { Evicted::Gone };
        Ok(self.settle_as(CrashKind::None, evicted)?)
    }

    pub(crate) fn crash_before(
        &mut self,
        effects: usize,
        plan: &CrashPlan,
        loss: Loss,
    ) -> Result<(), String> {
        self.model.begin(None);
        self.end_life();
        let life = self.lives.last().ok_or("there is a life")?;
        let point = life.log.events.len().saturating_sub(effects);
        let mark = &life.marks[life.mark_at(point)];
        let mut left = image(&life.log, point, plan);
        let has_lost = suffer(&mut left, loss);
        self.model = mark.model.clone();
        self.clock.set(mark.time);
        self.disk = RecordingDisk::with_image(&left);
        let kind = kind_of(plan);
        if kind == CrashKind::Power {
            self.clock.reboot();
            self.model.power_failed();
        }
        let during = mark.op.clone();
        self.facets.note_if(has_lost, Facet::FootersLost);
        self.note_crash(kind);
        self.mark("after a crash");
        self.open().map_err(|error| format!("it does not open after a crash: {error}"))?;
        self.settle(kind).map_err(|complaint| format!("crash during {during}: {complaint}"))
    }
}

impl Model {
    /// Learns which entries were evicted since it was told; says how many. State may not be.
    pub(crate) fn learn_evicted(&mut self, engine: &Engine) -> Result<usize, String> {
        let (state, mut count) = (self.current(), 0);
        for (key, stored) in live(&state, engine.now()) {
            if engine.contains_key(key).map_err(|error| error.to_string())? {
                continue;
            }
            if !stored.evictable {
                return Err(format!("state was evicted: \"{}\"", key.escape_ascii()));
            }
            self.evicted(key);
            count += 1;
        }
        Ok(count)
    }
}

/// Does all background work that is due.
fn settle(engine: &Engine) -> Result<(), Trouble> {
    /// Far more steps than a small store can need.
    const STEPS_MAX: usize = 300;
    for _ in 0..STEPS_MAX {
        if !engine.step()? {
            return Ok(());
        }
    }
    Err(Trouble::Wrong("background work does not end".to_owned()))
}

/// Does to the files what `loss` says; whether a footer was damaged.
fn suffer(image: &mut Image, loss: Loss) -> bool {
    if loss.checkpoints {
        let is_checkpoint = |path: &Path| path.extension().is_some_and(|end| end == "ckpt");
        image.files.retain(|path, _| !is_checkpoint(path));
    }
    let Some(seed) = loss.footers else { return false };
    let mut has_lost = false;
    let mut rng = Rng::new(seed);
    let segments = |path: &Path| path.extension().is_some_and(|end| end == "seg");
    let files: &mut BTreeMap<_, Arc<Vec<u8>>> = &mut image.files;
    for (_, bytes) in files.iter_mut().filter(|(path, _)| segments(path)) {
        let trailer_at = bytes.len().saturating_sub(FOOTER_TRAILER_BYTES);
        let Ok(trailer) = Trailer::decode(&bytes[trailer_at..], bytes.len() as u64) else {
            continue;
        };
        if rng.one_in(2) {
            let bit = rng.between(8 * trailer.records_end, 8 * bytes.len() as u64 - 1);
            let at = usize::try_from(bit / 8).expect("files of a test fit memory");
            Arc::make_mut(bytes)[at] ^= 1 << (bit % 8);
            has_lost = true;
        }
    }
    has_lost
}

impl TestClock {
    /// Shows this from now on.
    pub(crate) fn set(&self, time: crate::clock::Time) {
        *self.hold() = time;
    }
}

impl Runner {
    /// What stands in which segment, for people.
    #[must_use]
    pub fn layout(&self) -> String {
        use std::fmt::Write as _;
        let disk: Arc<dyn tierce_engine::io::Disk> = Arc::new(self.disk.image().memory_disk());
        let path = Path::new(STORE);
        let mut out = String::new();
        for segment in tierce_engine::inspect::segments(&disk, path).unwrap_or_default() {
            let (id, class, horizon) = (segment.id.0, segment.class, segment.horizon.0);
            let _ =
                write!(out, "  {id:x} class {class} horizon {horizon} sealed {}:", segment.sealed);
            let records = tierce_engine::inspect::records(&disk, path, segment.id);
            for record in records.unwrap_or_default() {
                let (kind, sequence) = (record.kind.unwrap_or("?"), record.sequence.0);
                let key = record.key[..record.key.len().min(9)].escape_ascii();
                let _ = write!(out, " {kind}#{sequence} {key} {:?}", record.flags);
                let _ = record.expires_at.map(|at| write!(out, " until {}", at.0 % 100_000_000));
                let _ = write!(out, ";");
            }
            out.push('\n');
        }
        out
    }
}
