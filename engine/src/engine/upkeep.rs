//! Keeping the store small: which job is due, whether it may run now, and what to do when there is no room.
//!
//! One job runs at a time. It holds no lock that readers or writers wait for, but for the short moments in which the
//! writer installs its outcome.

use std::{ops::ControlFlow, sync::Arc};

use super::{Shared, expiry::Seen, hold};
use crate::{
    background,
    compactor::{
        copy::{Copied, Job, copy},
        policy::{Streams, plan},
    },
    error::{Corruption, Damage, Error, Result},
    segment::{Segment, manifest_file::Unapplied, transfer::Transfer},
    space::Purpose,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
        thread_number,
    },
    types::{SegmentId, Slot},
};

/// What one call of `Engine::compact`, or all jobs of a session, came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionReport {
    /// Jobs carried out.
    pub jobs: u64,
    /// Segments read and removed.
    pub segments: u64,
    /// Segments written.
    pub outputs: u64,
    /// Records copied.
    pub records_copied: u64,
    /// Bytes of the records copied.
    pub bytes_copied: u64,
    /// Bytes of the segments read, less those of the segments written.
    pub bytes_reclaimed: u64,
    /// Whether it stopped early because it was told to.
    pub cancelled: bool,
    /// Segments that could not be read: they stay as they are.
    pub unreadable: Vec<Corruption>,
}

/// The state of upkeep.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// Held by the one job that runs.
    job: Mutex<JobState>,
    paused: AtomicBool,
    /// Why the last job failed, until one succeeds.
    failure: Mutex<Option<String>>,
    /// The thread that asks a caller whether a job is to go on, and 1; 0 if none does.
    asks: AtomicU64,
    /// Whether there are segments that could not be read.
    has_unreadable: AtomicBool,
    /// When a log that a full disk stopped is recovered next, on the monotonic clock.
    recover_at: AtomicU64,
    /// Bytes that were free when it failed.
    full_free: AtomicU64,
    /// Jobs that failed in a row because the disk was full.
    full_tries: AtomicU64,
    /// When the next job is tried after a failure, on the monotonic clock.
    retry_at: AtomicU64,
    /// When expired entries are looked for next by a write that finds no room, in store time.
    pub(super) sweep_at: AtomicU64,
    pub(super) seen: Mutex<Seen>,
    /// When expired entries are looked for next by the background, on the monotonic clock.
    mark_at: AtomicU64,
    /// When the directory is looked at next, on the monotonic clock.
    look_at: AtomicU64,
    /// Rest that writers owe to compaction.
    pub(super) owed_ns: AtomicU64,
    /// The next sequence number when a job last gave nothing back.
    vain_at: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct JobState {
    pub(super) streams: Streams,
    /// Segments that are damaged.
    damaged: Vec<SegmentId>,
    /// Segments that the device could not read.
    bad_blocks: Vec<SegmentId>,
}

impl JobState {
    /// Whether a job leaves this segment out because it could not be read.
    pub(super) fn passes_over(&self, id: SegmentId) -> bool {
        self.damaged.contains(&id) || self.bad_blocks.contains(&id)
    }

    const fn passes_over_any(&self) -> bool {
        !self.damaged.is_empty() || !self.bad_blocks.is_empty()
    }
}

/// A job that failed is tried again after so long.
const RETRY_MS: u64 = 1_000;
/// On a full disk the pause doubles so often.
const TRIES_MAX: u64 = 2;
/// `compact` ends after more jobs in a row than these that gave nothing back.
const VAIN_JOBS_MAX: usize = 64;
/// A write that finds no room looks for expired entries this often at most.
pub(super) const SWEEP_EVERY_MS: u64 = 1_000;

impl Upkeep {
    pub(super) fn job(&self) -> MutexGuard<'_, JobState> {
        hold(&self.job)
    }

    /// Whether this thread is within a job: what waits for the job would wait for itself.
    #[inline]
    pub(super) fn is_own_job(&self) -> bool {
        let asks = self.asks.load(Ordering::Relaxed);
        asks != 0 && asks == 1 + thread_number() as u64
    }

    pub(super) fn failure(&self) -> Option<String> {
        hold(&self.failure).clone()
    }

    /// From now on no job begins by itself, and the one that runs ends soon.
    pub(super) fn pause(&self) {
        self.paused.store(true, Ordering::Release);
    }

    pub(super) fn resume(&self) {
        self.paused.store(false, Ordering::Release);
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }
}

/// While a caller is asked whether a job is to go on.
struct Asking<'a>(&'a AtomicU64);

impl<'a> Asking<'a> {
    fn new(asks: &'a AtomicU64) -> Self {
        asks.store(1 + thread_number() as u64, Ordering::Relaxed);
        Self(asks)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// What a job may do.
struct Limits<'a> {
    /// Bytes a second.
    rate: Option<u64>,
    /// Asked with the report so far.
    go_on: &'a mut dyn FnMut(&CompactionReport) -> ControlFlow<()>,
}

impl Shared {
    /// One piece of upkeep that is due; `false` if none was.
    pub(super) fn upkeep(&self) -> Result<bool> {
        let done = self.upkeep_due();
        if let Err(error) = &done {
            self.note_failure(error);
            // The files stay as they were; it is tried again later.
            let now = self.lookup.clock.machine().monotonic_ms();
            // On a full disk each try takes what room there is for a while: less and less often.
            self.upkeep.full_free.store(self.space.disk_free(), Ordering::Relaxed);
            let tries = match error.is_disk_full() {
                true => self.upkeep.full_tries.fetch_add(1, Ordering::Relaxed).min(TRIES_MAX),
                false => 0,
            };
            self.upkeep.retry_at.store(now + (RETRY_MS << tries), Ordering::Relaxed);
        } else if matches!(done, Ok(true)) {
            self.upkeep.full_tries.store(0, Ordering::Relaxed);
        }
        done
    }

    /// Keeps why upkeep failed for the health, until a job succeeds.
    pub(super) fn note_failure(&self, cause: &dyn std::fmt::Display) {
        *hold(&self.upkeep.failure) = Some(cause.to_string());
        self.lookup.counters.compaction_failures.add(1);
    }

    /// A job succeeded. A segment that cannot be read stays a failure.
    fn note_success(&self, job: &JobState) {
        self.upkeep.has_unreadable.store(job.passes_over_any(), Ordering::Release);
        self.forget_failure();
    }

    /// Nothing is wrong any more but segments that cannot be read, if there are any.
    fn forget_failure(&self) {
        if !self.upkeep.has_unreadable.load(Ordering::Acquire) {
            *hold(&self.upkeep.failure) = None;
        }
    }

    /// Whether the disk has more room than when a job failed because it was full.
    fn has_more_room(&self) -> bool {
        self.upkeep.full_tries.load(Ordering::Relaxed) > 0 && {
            let before = self.upkeep.full_free.load(Ordering::Relaxed);
            self.space.disk_free() > before.saturating_add(self.segment_bytes)
        }
    }

    fn upkeep_due(&self) -> Result<bool> {
        if self.writer.is_stopped() {
            return self.recover_from_full_disk();
        }
        if self.writer.unlink_retired() > 0 {
            return Ok(true);
        }
        self.free_when_full()?;
        if self.keep_live_limits()? > 0 {
            return Ok(true);
        }
        if self.lookup.recency.needs_renumbering() {
            self.lookup.recency.renumber(&self.lookup.index);
            return Ok(true);
        }
        let now = self.lookup.clock.machine().monotonic_ms();
        if now < self.upkeep.retry_at.load(Ordering::Relaxed) && !self.has_more_room() {
            return Ok(false);
        }
        if self.drop_expired()?.0 > 0 {
            return Ok(true);
        }
        self.mark_ended_in_time(now)?;
        self.look_after_directory(now);
        let compaction = &self.options.compaction;
        let may_run = compaction.automatic && !self.upkeep.is_paused() && self.is_in_hours();
        let is_tight = self.is_tight();
        if !may_run && !is_tight {
            return Ok(false);
        }
        if is_tight {
            let found = self.find_room(self.space_wanted());
            if found.is_ok() {
                self.forget_failure();
            }
            return found.map(|_| false);
        }
        let newest = self.writer.next_sequence().0;
        if self.upkeep.vain_at.load(Ordering::Relaxed) == newest {
            self.forget_failure();
            return Ok(false);
        }
        let mut report = CompactionReport::default();
        let done = self.compact_once(None, false, compaction.bytes_per_second, &mut report)?;
        if done && report.bytes_reclaimed == 0 {
            // It would go on for ever: not again before something was written.
            self.upkeep.vain_at.store(newest, Ordering::Relaxed);
        }
        if !done && !self.upkeep.is_paused() {
            // Nothing is worth a job: whatever failed before is of no use any more.
            self.forget_failure();
        }
        Ok(done)
    }

    /// Takes expired entries out of the accounts, so that their bytes count as garbage. The longer it takes, the less
    /// often it is done: a twentieth of the time at most.
    fn mark_ended_in_time(&self, now: u64) -> Result<()> {
        const SHARE: u64 = 20;
        if now < self.upkeep.mark_at.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.mark_ended(&|| false)?;
        let took = self.lookup.clock.machine().monotonic_ms().saturating_sub(now);
        let next = now + (took * SHARE).max(SWEEP_EVERY_MS);
        self.upkeep.mark_at.store(next, Ordering::Relaxed);
        Ok(())
    }

    /// Refuses writes once the files were taken away: they would go to files without a name.
    fn look_after_directory(&self, now: u64) {
        if now < self.upkeep.look_at.load(Ordering::Relaxed) {
            return;
        }
        self.upkeep.look_at.store(now + SWEEP_EVERY_MS, Ordering::Relaxed);
        if let Err(error) = self.home.check_lock() {
            self.writer.say_why(&error.to_string());
        }
    }

    /// A disk that was full stops the log. What is in memory is written again as soon as there is room for it.
    fn recover_from_full_disk(&self) -> Result<bool> {
        let now = self.lookup.clock.machine().monotonic_ms();
        if !self.writer.is_stopped_by_full_disk()
            || now < self.upkeep.recover_at.load(Ordering::Relaxed)
        {
            return Ok(false);
        }
        self.upkeep.recover_at.store(now + RETRY_MS, Ordering::Relaxed);
        Ok(self.try_recover().is_ok())
    }

    /// As [`Writer::try_recover`](crate::writer::Writer::try_recover), with all the room that there is.
    pub(super) fn try_recover(&self) -> Result<()> {
        // Order: a job that runs has what it copied installed or thrown away first. It works with the room that is kept
        // back for writing anew what is not sealed.
        let _job = self.upkeep.job();
        self.writer.unlink_retired();
        self.writer.try_recover()
    }

    /// Whether a limited store is so near its limit that writers will soon wait.
    fn is_tight(&self) -> bool {
        self.space.limit().is_some() && self.space.room(Purpose::Write) < self.space_wanted()
    }

    /// Room that upkeep tries to have in hand for writers.
    pub(super) fn space_wanted(&self) -> u64 {
        2 * self.segment_bytes
    }

    fn is_in_hours(&self) -> bool {
        let Some((from, to)) = self.options.compaction.hours else { return true };
        let hour = (self.lookup.clock.now().0 / 3_600_000 % 24) as u8;
        if from <= to { (from..to).contains(&hour) } else { hour >= from || hour < to }
    }

    /// Runs one job, if one is worth it; `false` if none is. A job that nobody waits for ends when it is paused.
    pub(super) fn compact_once(
        &self,
        only: Option<&[SegmentId]>,
        force: bool,
        rate: Option<u64>,
        report: &mut CompactionReport,
    ) -> Result<bool> {
        let is_awaited = only.is_some() || force;
        let mut go_on = |_: &CompactionReport| match !is_awaited && self.upkeep.is_paused() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        self.run_job(only, force, &mut Limits { rate, go_on: &mut go_on }, report)
    }

    /// Compacts now: the named segments, or whatever is worth it until nothing is. `go_on` is told how far it is.
    pub(super) fn compact(
        &self,
        only: Option<&[SegmentId]>,
        go_on: &mut dyn FnMut(&CompactionReport) -> ControlFlow<()>,
    ) -> Result<CompactionReport> {
        self.compact_all(only, go_on).inspect_err(|error| self.note_failure(error))
    }

    fn compact_all(
        &self,
        only: Option<&[SegmentId]>,
        go_on: &mut dyn FnMut(&CompactionReport) -> ControlFlow<()>,
    ) -> Result<CompactionReport> {
        let mut report = CompactionReport::default();
        let rate = self.options.compaction.bytes_per_second;
        // What has ended is garbage, once that is known.
        self.mark_ended(&|| false)?;
        self.free_when_full()?;
        // A caller asks for another try: a device that could not read may do so now.
        let is_asked = |id: &SegmentId| only.is_none_or(|ids| ids.contains(id));
        self.upkeep.job().bad_blocks.retain(|id| !is_asked(id));
        let go_on = &mut |report: &CompactionReport| {
            let _asking = Asking::new(&self.upkeep.asks);
            go_on(report)
        };
        let mut vain = 0;
        loop {
            let before = report.bytes_reclaimed;
            let done = self.run_job(only, false, &mut Limits { rate, go_on }, &mut report)?;
            // Order: the files that this job read are gone before the next one asks how much room there is.
            self.writer.unlink_retired();
            // Jobs that give nothing back would be repeated for ever. One may be followed by others that do: deaths that
            // were taken for garbage are known to be needed once they were copied.
            vain = if report.bytes_reclaimed == before { vain + 1 } else { 0 };
            if !done || only.is_some() || report.cancelled || vain > VAIN_JOBS_MAX {
                break;
            }
            if go_on(&report).is_break() {
                report.cancelled = true;
                break;
            }
        }
        self.writer.unlink_retired();
        self.free_when_full()?;
        Ok(report)
    }

    /// Plans a job and carries it out; `false` if there is nothing to do. Adds to `report`.
    fn run_job(
        &self,
        only: Option<&[SegmentId]>,
        force: bool,
        limits: &mut Limits<'_>,
        report: &mut CompactionReport,
    ) -> Result<bool> {
        let mut job = self.upkeep.job();
        self.writer.settle_doubt()?;
        let mut most = usize::MAX;
        // Segments that the disk has no room to copy, and why.
        let (mut too_large, mut full): (Vec<Slot>, _) = (Vec::new(), None);
        loop {
            let (mut facts, goal) = (self.facts(&job), self.goal(force));
            facts.retain(|facts| !too_large.contains(&facts.slot));
            let mut chosen = match only {
                Some(ids) => self.named(ids, &job),
                None => plan(&facts, &goal, &job.streams).inputs,
            };
            chosen.truncate(most);
            if chosen.is_empty() {
                if only.is_none() && full.is_none() {
                    // What failed has gone otherwise: nothing is left to be tried again.
                    self.note_success(&job);
                }
                return full.map_or(Ok(false), Err);
            }
            most = chosen.len() / 2;
            let inputs = self.segments_in(&chosen);
            facts.retain(|facts| chosen.contains(&facts.slot));
            let now = (self.writer.next_sequence().0, self.lookup.clock.confirmed().0);
            job.streams.learn(now.0, now.1, &facts);
            let copied =
                match self.carry_out((&job.streams, goal.streams()), inputs, limits, report) {
                    // It needed more room than was thought: half of it needs less.
                    Err(Error::Full { .. }) if only.is_none() => continue,
                    Err(error) if only.is_none() && error.is_disk_full() => {
                        if most == 0 {
                            // Its deaths were taken for garbage. Others may do with less.
                            too_large.append(&mut chosen);
                            (most, full) = (usize::MAX, Some(error));
                        }
                        continue;
                    }
                    copied => copied?,
                };
            match copied {
                Copied::Done(mut transfer) => {
                    self.install(&mut transfer)?;
                    report.jobs += 1;
                    add_to(report, &transfer);
                    self.note_success(&job);
                    return Ok(true);
                }
                Copied::Cancelled => {
                    if let Some(cause) = self.writer.stopped() {
                        return Err(Error::Stopped { cause });
                    }
                    report.cancelled = true;
                    return Ok(false);
                }
                Copied::Unreadable(segment, corruption) => {
                    most = usize::MAX;
                    self.pass_over(&mut job, &segment, corruption, report);
                }
            }
        }
    }

    fn carry_out(
        &self,
        (streams, most): (&Streams, u8),
        inputs: Vec<Arc<Segment>>,
        limits: &mut Limits<'_>,
        report: &CompactionReport,
    ) -> Result<Copied> {
        let horizon = self.writer.next_sequence();
        let started = self.lookup.clock.machine().monotonic_ms();
        let copied = std::cell::Cell::new(0);
        let limits = std::cell::RefCell::new(limits);
        let go_on = |_read: u64, written: u64| {
            copied.set(copied.get() + written);
            let mut limits = limits.borrow_mut();
            if let Some(rate) = limits.rate {
                let due = started + copied.get().saturating_mul(1000) / rate.max(1);
                let now = self.lookup.clock.machine().monotonic_ms();
                background::rest(due.saturating_sub(now).min(1_000));
            }
            // What is copied could not be installed any more, and recovery waits.
            if self.closed.load(Ordering::Acquire) || self.writer.is_stopped() {
                return ControlFlow::Break(());
            }
            let so_far = CompactionReport {
                bytes_copied: report.bytes_copied + copied.get(),
                ..report.clone()
            };
            (limits.go_on)(&so_far)
        };
        let place = |age: u64, left: Option<u64>| streams.place(age, left).min(most);
        let job = Job {
            home: &self.home,
            lookup: &self.lookup,
            space: &self.space,
            maps: self.options.maps_segments(),
            segment_bytes: self.segment_bytes,
            horizon,
            header: &|class, horizon| self.writer.output_header(class, horizon),
            place: &place,
            abandon: &|file| self.writer.abandon(file),
            end: &|input, victims, cause| {
                let _ = self.writer.end(input, victims, cause);
            },
            go_on: &go_on,
        };
        copy(&job, inputs)
    }

    fn install(&self, transfer: &mut Transfer) -> Result<()> {
        if let Err(error) = self.writer.install(transfer) {
            match &error {
                Unapplied::Unsure(_) => self.writer.doubt(transfer),
                Unapplied::Disowned(_) => {
                    transfer.abandon().for_each(|output| self.writer.abandon(output));
                }
            }
            return Err(error.into());
        }
        let counters = &self.lookup.counters;
        counters.compactions.add(1);
        counters.compacted_records.add(transfer.records_copied);
        counters.compacted_bytes.add(transfer.outputs.iter().map(|o| o.seal.file_bytes).sum());
        Ok(())
    }

    /// A segment that cannot be read stays. One that is damaged is not tried again in this session, and one on a bad block
    /// not until a caller asks for a compaction of it.
    fn pass_over(
        &self,
        job: &mut JobState,
        segment: &Segment,
        corruption: Corruption,
        report: &mut CompactionReport,
    ) {
        let passed_over = match corruption.damage {
            Damage::Unreadable => &mut job.bad_blocks,
            _ => &mut job.damaged,
        };
        passed_over.push(segment.id());
        self.upkeep.has_unreadable.store(true, Ordering::Release);
        self.note_failure(&corruption);
        report.unreadable.push(corruption);
    }

    fn segments_in(&self, slots: &[Slot]) -> Vec<Arc<Segment>> {
        let table = self.lookup.catalog.table();
        slots.iter().filter_map(|slot| table.get(*slot).cloned()).collect()
    }

    /// The slots of the sealed segments among `ids`.
    fn named(&self, ids: &[SegmentId], job: &JobState) -> Vec<Slot> {
        let table = self.lookup.catalog.table();
        table
            .iter()
            .filter(|segment| segment.as_sealed().is_some() && ids.contains(&segment.id()))
            .filter(|segment| !job.passes_over(segment.id()))
            .map(|segment| segment.slot)
            .collect()
    }
}

fn add_to(report: &mut CompactionReport, transfer: &Transfer) {
    let bytes_in: u64 = transfer.inputs.iter().map(|input| input.file_bytes()).sum();
    let bytes_out: u64 = transfer.outputs.iter().map(|output| output.seal.file_bytes).sum();
    report.segments += transfer.inputs.len() as u64;
    report.outputs += transfer.outputs.len() as u64;
    report.records_copied += transfer.records_copied;
    report.bytes_copied += transfer.bytes_copied;
    report.bytes_reclaimed += bytes_in.saturating_sub(bytes_out);
}
