//! What the log needs besides writes: flush, sync and seal in time.

use std::sync::Arc;

use super::{
    Writer,
    flush::RETRY_MS,
    turn::{Doing, Turn},
};
use crate::{
    error::{Error, Result},
    format::manifest::Edit,
    segment::{
        RECORDS_AT,
        append::OpenSegment,
        seal::{sealed_through, write_footer},
    },
    sync::{
        PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    types::SequenceNumber,
};

impl Writer {
    /// Copies what others ask of the turn without taking it.
    pub(super) fn note(&self, turn: &Turn) {
        self.closing.store(turn.log.closing.len(), Ordering::Release);
        self.stopped.store(turn.stopped.is_some(), Ordering::Release);
    }

    /// Seals the oldest segment that is complete; `false` if there is none.
    pub(crate) fn seal_oldest(&self) -> Result<bool> {
        let _maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        self.seal_one()
    }

    /// As [`Self::seal_oldest`], by who holds `maintenance`.
    fn seal_one(&self) -> Result<bool> {
        let (segment, file, sealed_before, manifest, now) = {
            let turn = self.turn();
            if turn.stopped.is_some() {
                return Ok(false);
            }
            let Some(oldest) = turn.log.closing.front() else { return Ok(false) };
            (
                Arc::clone(&oldest.segment),
                Arc::clone(&oldest.file),
                oldest.seal,
                Arc::clone(&turn.log.manifest),
                turn.log.clock.confirmed(),
            )
        };
        // The turn is free meanwhile: writers go on in the segment that came after.
        let footer = match sealed_before {
            Some(seal) => Ok(seal),
            None => write_footer(&segment, &file, self.lookup.hasher),
        };
        let sealed = footer.as_ref().map_err(Error::duplicate).and_then(|seal| {
            // Order: footer and length are durable before the manifest says the segment is sealed (I7).
            let mut manifest = manifest.lock().unwrap_or_else(PoisonError::into_inner);
            manifest.apply(&[Edit::Seal(*seal), Edit::Clock(now)])
        });
        let mut turn = self.turn();
        if let Err(error) = &footer {
            turn.stop(error);
        }
        let result = footer.and_then(|seal| {
            if let Err(error) = sealed {
                // The manifest is tried again, and says the same: no second footer is written over this one.
                turn.log.closing.iter_mut().take(1).for_each(|open| open.seal = Some(seal));
                return Err(error);
            }
            turn.doing = Doing::Changing;
            segment.finish(sealed_through(Arc::clone(file.inner()), &seal, self.maps));
            if let Some(open) = turn.log.closing.pop_front() {
                self.space.give(open.charged.saturating_sub(seal.file_bytes));
            }
            // The oldest unsealed segment is durable now, so a longer prefix is, and its seal vouches for it.
            turn.log.durable = turn.log.durable.max(seal.sequence_max);
            turn.log.watermark = turn.log.watermark.max(seal.sequence_max);
            self.lookup.counters.sealed.add(1);
            turn.doing = Doing::Nothing;
            Ok(true)
        });
        self.note(&turn);
        result
    }

    /// Everything acknowledged so far is on the device when this returns, and on record as being there.
    pub(crate) fn sync(&self) -> Result<()> {
        self.sync_all()?;
        self.vouch().map(drop)
    }

    /// Everything acknowledged so far is on the device when this returns; the caller makes sure that something
    /// vouches for it.
    pub(crate) fn sync_all(&self) -> Result<()> {
        self.drain_queue();
        let drained = self.drain_staged();
        let mut turn = self.turn();
        self.sync_turn(&mut turn).and(drained)
    }

    /// Puts on record how much of the log is on the device, so that what is missing of it later is known to be damage;
    /// `false` if that is on record already. Next to nothing while there are writes: their own markers say it.
    fn vouch(&self) -> Result<bool> {
        let (durable, manifest) = {
            let turn = self.turn();
            if turn.stopped.is_some() || !turn.log.owes_marker() {
                return Ok(false);
            }
            (turn.log.durable, Arc::clone(&turn.log.manifest))
        };
        // Order: what the mark vouches for is on the device before the mark may be.
        let marked = {
            let mut manifest = manifest.lock().unwrap_or_else(PoisonError::into_inner);
            // Store time is as durable as what it went by for (I16).
            manifest.apply(&[Edit::Synced(durable), Edit::Clock(self.lookup.clock.confirmed())])
        };
        let mut turn = self.turn();
        match marked {
            Ok(()) => turn.log.watermark = turn.log.watermark.max(durable),
            // Not again before the next window.
            Err(_) => turn.log.durable_at = self.lookup.clock.machine().monotonic_ms(),
        }
        marked.map(|()| true)
    }

    /// [`Self::vouch`] if nothing was written since the last sync, and that is a while ago.
    fn vouch_when_idle(&self, now: u64) -> Result<bool> {
        let is_idle = {
            let log = &self.turn().log;
            let rests = now.saturating_sub(log.durable_at) >= self.intervals.sync_ms;
            rests && log.owes_marker() && !log.owes_sync()
        };
        // What is staged brings a marker with it when it is flushed.
        if is_idle && self.staging.len() == 0 { self.vouch() } else { Ok(false) }
    }

    /// Brings the log to the device, and nothing else: what waits in the queue would need `maintenance`.
    pub(crate) fn sync_log(&self) -> Result<()> {
        let mut turn = self.turn();
        self.sync_turn(&mut turn)
    }

    fn sync_turn(&self, turn: &mut Turn) -> Result<()> {
        if let Some(cause) = &turn.stopped {
            return Err(Error::Stopped { cause: cause.clone() });
        }
        let synced = turn.log.sync();
        if let Err(error) = &synced {
            turn.stop(error);
        }
        self.note(turn);
        synced
    }

    pub(crate) fn drain_queue(&self) -> bool {
        self.commit.drain(self)
    }

    /// Carries out one due piece of work; `false` if nothing was due. Times are those of the monotonic clock.
    pub(crate) fn step(&self) -> Result<bool> {
        let now = self.lookup.clock.machine().monotonic_ms();
        let since = |then: &AtomicU64| now.saturating_sub(then.load(Ordering::Relaxed));
        if self.commit.waiting() > 0 && self.drain_queue() {
            return Ok(true);
        }
        let periodic_ms = self.intervals.periodic_ms;
        let flush_after = if self.is_overdue() { periodic_ms.max(RETRY_MS) } else { periodic_ms };
        if self.staging.len() > 0 && since(&self.staged_at) >= flush_after && !self.is_stopped() {
            let flushed = self.flush_staged();
            self.staged_at.store(now, Ordering::Relaxed);
            if let Err(error) = flushed {
                // Order: a flush that finds no room keeps nothing else from the device.
                let _ = self.step_log(now);
                return Err(error);
            }
            return Ok(true);
        }
        self.step_log(now)
    }

    /// What the log itself needs; `false` if nothing was due.
    fn step_log(&self, now: u64) -> Result<bool> {
        let since = |then: &AtomicU64| now.saturating_sub(then.load(Ordering::Relaxed));
        self.keep_time(now)?;
        if since(&self.owed_since) >= self.intervals.periodic_ms {
            self.owed_since.store(u64::MAX, Ordering::Relaxed);
            if self.sync_behind()? {
                return Ok(true);
            }
        }
        if since(&self.flushed_at) >= self.intervals.flush_ms {
            self.flushed_at.store(now, Ordering::Relaxed);
            if self.flush()? {
                return Ok(true);
            }
        }
        if since(&self.synced_at) >= self.intervals.sync_ms {
            self.synced_at.store(now, Ordering::Relaxed);
            if self.sync_behind()? {
                return Ok(true);
            }
        }
        if self.vouch_when_idle(now)? {
            return Ok(true);
        }
        self.seal_oldest()
    }

    /// Puts store time on record now and then while there are writes, so that a crash takes it back a little at most
    /// (I16). A store that is only read is not written to for it.
    fn keep_time(&self, now: u64) -> Result<()> {
        const EVERY_MS: u64 = 5 * 60 * 1000;
        if now.saturating_sub(self.timed_at.load(Ordering::Relaxed)) < EVERY_MS {
            return Ok(());
        }
        self.timed_at.store(now, Ordering::Relaxed);
        let turn = self.turn();
        let newest = turn.log.newest().0;
        if turn.stopped.is_some() || self.timed_sequence.swap(newest, Ordering::Relaxed) == newest {
            return Ok(());
        }
        let time = turn.log.clock.confirmed();
        turn.log.manifest().apply(&[Edit::Clock(time)])
    }

    /// Hands buffered writes to the operating system; `false` if there were none.
    fn flush(&self) -> Result<bool> {
        let mut turn = self.turn();
        if turn.stopped.is_some() || !turn.log.owes_write() {
            return Ok(false);
        }
        let written = turn.log.write_out();
        if let Err(error) = &written {
            turn.stop(error);
        }
        self.note(&turn);
        written.map(|()| true)
    }

    /// Syncs without holding the turn during the device's work; `false` if everything was durable.
    pub(super) fn sync_behind(&self) -> Result<bool> {
        let (files, newest) = {
            let mut turn = self.turn();
            if turn.stopped.is_some() || !turn.log.owes_sync() {
                return Ok(false);
            }
            let written = turn.log.write_out();
            if let Err(error) = &written {
                turn.stop(error);
                self.note(&turn);
            }
            written?;
            let log = &turn.log;
            let open = log.closing.iter().chain(&log.active);
            let file = |open: &OpenSegment| {
                (open.segment.id(), open.segment.path.clone(), Arc::clone(&open.file), open.written)
            };
            (open.map(file).collect::<Vec<_>>(), log.newest())
        };
        let mut synced = Ok(());
        for (_, path, file, _) in &files {
            self.lookup.counters.syncs.add(1);
            synced = file.sync().map_err(|source| Error::io("sync", path, source));
            if synced.is_err() {
                break;
            }
        }
        let mut turn = self.turn();
        match synced {
            Ok(()) => {
                let log = &mut turn.log;
                for open in log.closing.iter_mut().chain(&mut log.active) {
                    let mark = files.iter().find(|(id, ..)| *id == open.segment.id());
                    open.durable = open.durable.max(mark.map_or(0, |mark| mark.3));
                }
                log.durable = log.durable.max(newest);
                log.durable_at = self.lookup.clock.machine().monotonic_ms();
                Ok(true)
            }
            Err(error) => {
                // A recovery meanwhile has written these records to other files: those are not in doubt.
                let log = &turn.log;
                let is_open =
                    |id| log.closing.iter().chain(&log.active).any(|open| open.segment.id() == id);
                if turn.stopped.is_some() || files.iter().any(|(id, ..)| is_open(*id)) {
                    turn.stop(&error);
                    self.note(&turn);
                }
                Err(error)
            }
        }
    }

    /// Runs `work` while no segment is sealed and no compaction installed: locations stay.
    pub(crate) fn without_maintenance<T>(&self, work: impl FnOnce() -> T) -> T {
        let _maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }

    /// Seals the active segment if most of it is dead, so that compaction may have it; says whether it was.
    pub(crate) fn seal_dead_active(&self) -> Result<bool> {
        self.seal_active_if(|open| {
            let (live, _) = open.segment.live();
            live < (open.end - RECORDS_AT) / 2
        })
    }

    /// Seals the active segment if it is larger than usual, so that recovery never has to write it again.
    pub(super) fn seal_large_active(&self) -> Result<bool> {
        let usual = self.turn().log.segment_bytes;
        self.seal_active_if(|open| open.charged > usual)
    }

    /// Seals the active segment if there is anything in it and it `is_due`, and all that waits to be sealed.
    fn seal_active_if(&self, is_due: impl Fn(&OpenSegment) -> bool) -> Result<bool> {
        {
            let _maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
            let mut turn = self.turn();
            if turn.stopped.is_some() {
                return Ok(false);
            }
            self.close_active_if(&mut turn, is_due)?;
        }
        let mut is_sealed = false;
        while self.seal_oldest()? {
            is_sealed = true;
        }
        Ok(is_sealed)
    }

    /// Lets the active segment wait to be sealed, if there is anything in it and it `is_due`.
    fn close_active_if(
        &self,
        turn: &mut Turn,
        is_due: impl Fn(&OpenSegment) -> bool,
    ) -> Result<()> {
        let log = &mut turn.log;
        if log.active.as_ref().is_some_and(|open| open.end > RECORDS_AT && is_due(open)) {
            // Order: all of it is in the file first, since a footer vouches for that. Until then the log has it: what
            // fails or panics here is written anew from it.
            if let Err(error) = log.write_out() {
                turn.stop(&error);
                self.note(turn);
                return Err(error);
            }
            log.closing.extend(log.active.take());
        }
        self.note(turn);
        Ok(())
    }

    /// Seals everything and makes it durable: the log is complete on disk when this returns.
    pub(crate) fn seal_all(&self) -> Result<()> {
        // What is sealed needs no other mark.
        self.sync_all()?;
        let _maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        // A write may have come since the sync.
        self.close_active_if(&mut self.turn(), |_| true)?;
        while self.seal_one()? {}
        self.check_stopped()
    }

    /// Makes the ballast again that a full disk took; `false` if there is no room.
    pub(crate) fn keep_ballast(&self) -> bool {
        self.turn().log.keep_ballast()
    }

    /// Whether everything that was acknowledged is on the device.
    pub(crate) fn is_all_durable(&self) -> bool {
        self.staging.len() == 0 && self.commit.waiting() == 0 && !self.turn().log.owes_sync()
    }

    /// The newest sequence number, the newest durable one, and the segment id that would come next.
    pub(crate) fn frontier(&self) -> (SequenceNumber, SequenceNumber, u64) {
        let turn = self.turn();
        let next_id = turn.log.next_id.max(turn.log.manifest().state().next_id);
        (turn.log.newest(), turn.log.durable, next_id)
    }

    /// A number for a checkpoint, from the same row as segment ids.
    pub(crate) fn take_id(&self) -> u64 {
        let mut turn = self.turn();
        let next = turn.log.next_id.max(turn.log.manifest().state().next_id).max(1);
        turn.log.next_id = next + 1;
        next
    }
}
