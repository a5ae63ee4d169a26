//! What the log needs besides writes: flush, sync and seal in time, and a way on after a failure.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use super::{
    StagedChange, Writer,
    request::{Op, Ops, Outcome, Request},
    turn::Turn,
};
use crate::{
    error::{Error, Result},
    format::{
        file_name,
        manifest::Edit,
        record::Kind,
        segment_header::Class,
    },
    index::Relocation,
    lookup::Lookup,
    options::{Condition, Durability},
    segment::{
        RECORDS_AT,
        append::OpenSegment,
        rewrite::{Rewritten, Source, rewrite},
        scan::{Item, Scanned, scan},
        seal::{open_sealed, write_footer},
    },
    types::{Location, SequenceNumber},
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
        let (segment, file, home, manifest, now) = {
            let turn = self.turn();
            if turn.stopped.is_some() {
                return Ok(false);
            }
            let Some(oldest) = turn.log.closing.front() else { return Ok(false) };
            (
                Arc::clone(&oldest.segment),
                Arc::clone(&oldest.file),
                turn.log.home.clone(),
                Arc::clone(&turn.log.manifest),
                turn.log.clock.now(),
            )
        };
        // The turn is free meanwhile: writers go on in the segment that came after.
        let sealed = write_footer(&segment, &file, self.lookup.hasher)
            .and_then(|seal| Ok((seal, open_sealed(&home, &seal, self.maps)?)));
        let mut stop_on = None;
        let sealed = match sealed {
            Ok((seal, sealed)) => {
                // Order: footer and length are durable before the manifest says the segment is sealed (I7).
                let mut manifest = manifest.lock().unwrap_or_else(PoisonError::into_inner);
                manifest.apply(&[Edit::Seal(seal), Edit::Clock(now)]).map(|()| (seal, sealed))
            }
            Err(error) => {
                stop_on = Some(error.duplicate());
                Err(error)
            }
        };
        let mut turn = self.turn();
        if let Some(error) = stop_on {
            turn.stop(&error);
        }
        let result = sealed.map(|(seal, sealed)| {
            segment.finish(sealed);
            turn.log.closing.pop_front();
            // The oldest unsealed segment is durable now, so a longer prefix is.
            turn.log.durable = turn.log.durable.max(seal.sequence_max);
            self.lookup.counters.sealed.add(1);
            true
        });
        self.note(&turn);
        result
    }

    /// Everything acknowledged so far is on the device when this returns.
    pub(crate) fn sync(&self) -> Result<()> {
        self.drain_queue();
        self.drain_staged(Durability::Sync)?;
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

    pub(crate) fn drain_queue(&self) {
        self.commit.drain(self);
    }

    /// Flushes staged writes to the device as one batch.
    pub(super) fn flush_staged(&self) -> Result<()> {
        self.drain_staged(Durability::Sync)
    }

    pub(super) fn drain_staged(&self, durability: Durability) -> Result<()> {
        if self.staging.len() == 0 {
            return Ok(());
        }
        let mut turn = self.turn();
        let written = self.write_staged(&mut turn, durability);
        self.note(&turn);
        written
    }

    /// Writes what is staged as one batch and takes it out of the staging area once readers find it in the log.
    pub(super) fn write_staged(&self, turn: &mut Turn, durability: Durability) -> Result<()> {
        let staged = self.staging.all();
        if staged.is_empty() {
            return Ok(());
        }
        let hasher = self.lookup.hasher;
        let ops = staged.iter().map(|staged| match &staged.change {
            StagedChange::Put(value, options) => {
                Op::put(&staged.key, value, options, hasher, Vec::new())
            }
            StagedChange::Delete => Op::end(Kind::Delete, &staged.key, hasher),
        });
        let ops: Vec<_> = ops.map(|op| Op { condition: Condition::Always, ..op }).collect();
        let mut request = [Request::new(Ops::Batch(ops), durability)];
        turn.process(&mut request);
        let [request] = request;
        match request.outcome {
            Some(Err(error)) => Err(error),
            Some(Ok(Outcome::Written(_) | Outcome::Absent | Outcome::Refused(_))) | None => {
                self.staging.remove(&staged);
                Ok(())
            }
        }
    }

    /// Carries out one due piece of work; `false` if nothing was due. Times are those of the monotonic clock.
    pub(crate) fn step(&self) -> Result<bool> {
        let now = self.lookup.clock.machine().monotonic_ms();
        let since = |then: &std::sync::atomic::AtomicU64| {
            now.saturating_sub(then.load(Ordering::Relaxed))
        };
        if self.commit.waiting() > 0 {
            self.drain_queue();
            return Ok(true);
        }
        if self.staging.len() > 0 && since(&self.staged_at) >= self.intervals.periodic_ms {
            self.staged_at.store(now, Ordering::Relaxed);
            self.flush_staged()?;
            return Ok(true);
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
        self.seal_oldest()
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
    fn sync_behind(&self) -> Result<bool> {
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
                Ok(true)
            }
            Err(error) => {
                turn.stop(&error);
                self.note(&turn);
                Err(error)
            }
        }
    }

    /// Seals everything and makes it durable: the log is complete on disk when this returns.
    pub(crate) fn seal_all(&self) -> Result<()> {
        self.sync()?;
        let _maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut turn = self.turn();
            let closed = turn.log.active.take_if(|open| open.end > RECORDS_AT);
            turn.log.closing.extend(closed);
            self.note(&turn);
        }
        while self.seal_one()? {}
        self.check_stopped()
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

    /// After a failed write or sync: writes everything that is not sealed anew, from memory, into new files. The
    /// files that failed are not trusted again. Does nothing on a healthy store.
    pub(crate) fn try_recover(&self) -> Result<()> {
        let _maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        let mut turn = self.turn();
        if turn.stopped.is_none() {
            return Ok(());
        }
        self.rewrite_open(&mut turn)?;
        turn.stopped = None;
        turn.log.durable = turn.log.newest();
        turn.log.watermark = turn.log.durable;
        self.note(&turn);
        Ok(())
    }

    fn rewrite_open(&self, turn: &mut Turn) -> Result<()> {
        let log = &mut turn.log;
        let open: Vec<_> = log.closing.iter().chain(&log.active).map(|o| Arc::clone(&o.segment)).collect();
        let mut edits = vec![Edit::Clock(log.clock.now())];
        let mut moves = Vec::new();
        for old in &open {
            let image = old.image().clone();
            let records = records_of(&image, old.add.salt);
            if records.is_empty() {
                edits.push(Edit::Retire(old.id()));
                continue;
            }
            let mut header = log.header(Class::REWRITTEN, old.add.horizon);
            header.parents = vec![old.id()];
            let slot = log.catalog.free_slot();
            let sources = records.iter().map(|record| source_of(record, &image));
            let home = log.home.clone();
            let written = rewrite(&home, &header, slot, log.hasher, sources)?;
            edits.push(Edit::Add(written.segment.add));
            edits.push(Edit::Seal(written.seal));
            let (inputs, outputs) = (vec![old.id()], vec![written.segment.id()]);
            edits.push(Edit::Replace { inputs, outputs, at: log.newest() });
            moves.push((Arc::clone(old), records, image, written));
        }
        let known = |edit: &Edit| match edit {
            Edit::Retire(id) => log.manifest().state().segments.contains_key(id),
            _ => true,
        };
        edits.retain(known);
        edits.extend(log.damaged.iter().copied().map(Edit::Quarantine));
        log.manifest().apply(&edits)?;
        for (old, records, image, written) in moves {
            let sealed = open_sealed(&log.home, &written.seal, self.maps)?;
            written.segment.finish(sealed);
            log.catalog.change(vec![Arc::clone(&written.segment)], &[]);
            self.relocate(&old, &records, &image, &written);
        }
        // Order: no entry points to the old segments any more when they leave the catalog.
        let slots: Vec<_> = open.iter().map(|old| old.slot).collect();
        log.catalog.change(Vec::new(), &slots);
        log.closing.clear();
        log.active = None;
        for old in &open {
            // An orphan if this fails: the manifest no longer names it, and the next open removes it.
            let _ = if log.damaged.contains(&old.id()) {
                let aside = log.home.path(&file_name::quarantine(old.id()));
                log.home.disk.rename(&old.path, &aside)
            } else {
                log.home.disk.remove(&old.path)
            };
        }
        Ok(())
    }

    /// Points the index at the copies.
    fn relocate(
        &self,
        old: &crate::segment::Segment,
        records: &[Scanned],
        image: &[u8],
        written: &Rewritten,
    ) {
        let Lookup { index, overrides, hasher, .. } = &*self.lookup;
        for (record, offset) in records.iter().zip(&written.offsets) {
            if record.kind != Some(Kind::Put) {
                continue;
            }
            let from = Location { slot: old.slot, offset: record.offset };
            let to = Location { slot: written.segment.slot, offset: *offset };
            let bytes = source_of(record, image).bytes;
            let Ok(head) = old.head(bytes, record.offset) else { continue };
            let hash = hasher.hash(head.key);
            // Order: the touch is at the new place before the entry is.
            let touch = overrides.touch(from);
            if let Some(touch) = touch {
                overrides.set_touch(to, touch);
            }
            match index.relocate(hash, from, to) {
                Relocation::Moved => written.segment.count_live(record.bytes),
                Relocation::Overtaken => {
                    let _ = overrides.take_touch(to);
                }
            }
            let _ = overrides.take_touch(from);
        }
    }
}



fn source_of<'a>(record: &Scanned, image: &'a [u8]) -> Source<'a> {
    let start = usize::try_from(record.offset - RECORDS_AT).unwrap_or(usize::MAX);
    let end = start + usize::try_from(record.bytes).unwrap_or_default();
    Source { bytes: &image[start..end], head_bytes: record.head_bytes, sequence: record.sequence }
}

/// The records of an image that say something about a key.
fn records_of(image: &[u8], salt: u64) -> Vec<Scanned> {
    // The scanner reads files: it expects the header before the records.
    let mut file = vec![0; usize::try_from(RECORDS_AT).unwrap_or_default()];
    file.extend_from_slice(image);
    let items = scan(&file, file.len() as u64, salt, SequenceNumber(0));
    let records = items.into_iter().filter_map(|item| match item {
        Item::Record(record) => Some(record),
        Item::Gap(_) => None,
    });
    let is_of_a_key = |record: &Scanned| !matches!(record.kind, None | Some(Kind::Commit | Kind::Note));
    records.filter(|record| record.sound && is_of_a_key(record)).collect()
}
