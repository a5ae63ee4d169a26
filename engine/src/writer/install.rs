//! Makes the outcome of a compaction job true: first on disk, then for readers, and only then the old files go.

use std::sync::Arc;

use super::{TURN_ENTRIES_MAX, Writer, log::Doubtful};
use crate::{
    error::{Error, Result},
    evictor::Cause,
    format::{
        manifest::Edit,
        segment_header::{Class, SegmentHeader},
    },
    index::{Entry as IndexEntry, Relocation, Size},
    lookup::Lookup,
    segment::{
        Segment,
        manifest_file::Unapplied,
        transfer::{Ended, Ending, Leftover, Move, Transfer},
    },
    sync::{PoisonError, atomic::Ordering},
    types::{Location, SegmentId, SequenceNumber, Slot, Timestamp},
};

impl Writer {
    /// Every record written so far is below this.
    pub(crate) fn next_sequence(&self) -> SequenceNumber {
        self.turn().log.next_sequence
    }

    /// A header for an output of compaction.
    pub(crate) fn output_header(&self, class: Class, horizon: SequenceNumber) -> SegmentHeader {
        self.turn().log.header(class, horizon)
    }

    /// Puts the outputs of a job in the place of its inputs. On an error nothing has changed for readers, and the
    /// outputs are what the caller has to see to.
    pub(crate) fn install(&self, transfer: &Transfer) -> Result<(), Unapplied> {
        let _maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        // Order: what made a record garbage is durable before that record is destroyed (I18). Everything that a
        // liveness test can have seen is in the log by now.
        self.sync_to(self.next_sequence()).map_err(Unapplied::Disowned)?;
        self.replace_in_manifest(transfer)?;
        let outputs: Vec<_> =
            transfer.outputs.iter().map(|output| Arc::clone(&output.segment)).collect();
        {
            // Under the turn, as every change of the catalog: a snapshot sees all of it or nothing.
            let _turn = self.turn();
            self.lookup.catalog.change(outputs, &[]);
        }
        for moves in transfer.moves.chunks(TURN_ENTRIES_MAX) {
            let _turn = self.turn();
            moves.iter().for_each(|moved| self.relocate_one(moved));
        }
        for ended in transfer.ended.chunks(TURN_ENTRIES_MAX) {
            let _turn = self.turn();
            ended.iter().for_each(|ended| self.end_one(ended));
        }
        for (scope, sequence) in &transfer.spent_cuts {
            self.lookup.overrides.forget_cut(scope, *sequence);
        }
        self.retire(&transfer.inputs);
        Ok(())
    }

    fn sync_to(&self, next: SequenceNumber) -> Result<()> {
        loop {
            {
                let turn = self.turn();
                if let Some(cause) = &turn.stopped {
                    return Err(Error::Stopped { cause: cause.clone() });
                }
                if turn.log.durable.next() >= next {
                    return Ok(());
                }
            }
            if !self.sync_behind()? {
                // Nothing is owed: what has no record needs no sync.
                return Ok(());
            }
        }
    }

    fn replace_in_manifest(&self, transfer: &Transfer) -> Result<(), Unapplied> {
        let (inputs, newest, next_id) = {
            let turn = self.turn();
            let inputs = transfer.inputs.iter().map(|input| input.id()).collect::<Vec<_>>();
            (inputs, turn.log.newest(), turn.log.next_id)
        };
        let floors = Edit::Floors { segment: SegmentId(next_id), sequence: newest.next() };
        let mut edits = vec![Edit::Clock(transfer.now), floors];
        for output in &transfer.outputs {
            edits.extend([Edit::Add(output.segment.add), Edit::Seal(output.seal)]);
        }
        let outputs = transfer.outputs.iter().map(|output| output.segment.id()).collect();
        edits.push(Edit::Replace { inputs, outputs, at: newest });
        self.apply_or_disown(&edits)
    }

    fn apply_or_disown(&self, edits: &[Edit]) -> Result<(), Unapplied> {
        let manifest = Arc::clone(&self.turn().log.manifest);
        let mut manifest = manifest.lock().unwrap_or_else(PoisonError::into_inner);
        manifest.apply_or_disown(edits)
    }

    /// These files may or may not be named by the manifest on disk: they stay, and stay charged, until it is certain
    /// that they are not.
    pub(crate) fn doubt(&self, transfer: &mut Transfer) {
        let doubtful = transfer.abandon().map(|file| Doubtful { file, may_be_named: true });
        self.turn().log.doubtful.extend(doubtful);
    }

    /// Removes a file that the manifest surely does not name.
    pub(crate) fn abandon(&self, file: Leftover) {
        self.turn().log.abandon(file);
    }

    /// Removes the files that were in doubt, once the manifest surely does not name them. Until then nothing may be
    /// begun that could leave more of them.
    pub(crate) fn settle_doubt(&self) -> Result<()> {
        self.turn().log.settle_doubt()
    }

    /// Points the index at a copy. Under the turn.
    fn relocate_one(&self, moved: &Move) {
        let Lookup { index, overrides, catalog, tally, .. } = &*self.lookup;
        let Move { hash, from, to, bytes, folded } = *moved;
        let touch = overrides.touch(from);
        let is_folded = touch.is_some() && touch == folded;
        if let Some(touch) = touch.filter(|_| !is_folded) {
            // Order: the touch is at the new place before the entry is.
            overrides.set_touch(to, touch);
        }
        let size = Size::of(bytes);
        let relocated = index.relocate_as(hash, from, to, |entry| {
            if !entry.is_evicted() {
                // A touch in its head has made the record longer: the accounts go by what it is now.
                let is_evictable = entry.flags & IndexEntry::EVICTABLE != 0;
                tally.sub(entry.size.bytes(), is_evictable);
                tally.add(size.bytes(), is_evictable);
                catalog.count_live(to.slot, size.bytes());
            }
            entry.size = size;
            if is_folded {
                let expires = touch.is_some_and(|touch| touch.expires_at.is_some());
                entry.flags &= !(IndexEntry::TOUCHED | IndexEntry::EXPIRES);
                entry.flags |= if expires { IndexEntry::EXPIRES } else { 0 };
                entry.flags |= IndexEntry::SCOPED;
            }
        });
        if relocated == Relocation::Overtaken {
            let _ = overrides.take_touch(to);
        }
        if touch.is_some() {
            let _ = overrides.take_touch(from);
        }
    }

    /// Takes out an entry that was not copied. Under the turn.
    fn end_one(&self, ended: &Ended) {
        let Lookup { index, overrides, counters, tally, .. } = &*self.lookup;
        let here = |entry: &IndexEntry| entry.location == ended.at;
        let Some(entry) = index.peek(ended.hash).iter().find(here) else { return };
        if !entry.is_evicted() {
            tally.sub(entry.size.bytes(), entry.flags & IndexEntry::EVICTABLE != 0);
            let cause = match ended.ending {
                Ending::Expired => Some(Cause::Expired),
                Ending::Cut => Some(Cause::Cut),
                Ending::Evicted => None,
            };
            if let Some(cause) = cause {
                self.lookup.note_ended(ended.hash, &entry, cause);
            }
        }
        if index.remove(ended.hash, ended.at) {
            let _ = overrides.take_touch(ended.at);
            match ended.ending {
                Ending::Expired => counters.expired.add(1),
                Ending::Cut => counters.cut.add(1),
                Ending::Evicted => {}
            }
        }
    }

    /// Drops segments unread: nothing in them counts any more.
    pub(crate) fn drop_segments(&self, dropped: &[Arc<Segment>], now: Timestamp) -> Result<u64> {
        let _maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        // Order: as in `install`.
        self.sync_to(self.next_sequence())?;
        let mut edits = vec![Edit::Clock(now)];
        edits.extend(dropped.iter().map(|segment| Edit::Retire(segment.id())));
        self.apply_or_disown(&edits)?;
        let entries = self.purge(&dropped.iter().map(|segment| segment.slot).collect::<Vec<_>>());
        self.retire(dropped);
        Ok(entries)
    }

    /// Takes every entry out that points to one of these slots; says how many.
    fn purge(&self, slots: &[Slot]) -> u64 {
        let slots: std::collections::HashSet<_> = slots.iter().copied().collect();
        let Lookup { index, overrides, tally, .. } = &*self.lookup;
        let mut count = 0;
        for shard in 0..crate::index::SHARDS {
            let _turn = self.turn();
            count += index.retain(shard, |entry| {
                let stays = !slots.contains(&entry.location.slot);
                if !stays && !entry.is_evicted() {
                    tally.sub(entry.size.bytes(), entry.flags & IndexEntry::EVICTABLE != 0);
                }
                stays
            }) as u64;
        }
        overrides.drop_touches_of(|at: Location| slots.contains(&at.slot));
        count
    }

    /// Takes segments out of the catalog; their files go when no reader holds them.
    fn retire(&self, inputs: &[Arc<Segment>]) {
        let slots: Vec<_> = inputs.iter().map(|input| input.slot).collect();
        {
            let turn = self.turn();
            self.lookup.catalog.change(Vec::new(), &slots);
            drop(turn);
        }
        for input in inputs {
            self.retired.add(Arc::clone(input), input.file_bytes());
        }
        self.unlink_retired();
    }

    /// Removes the files of retired segments that nobody reads any more; says how many.
    pub(crate) fn unlink_retired(&self) -> u64 {
        let home = self.turn().log.home.clone();
        let unlinked = self.retired.unlink(&home);
        self.space.give(unlinked.charged);
        self.lookup.counters.reclaimed_bytes.add(unlinked.bytes);
        unlinked.files
    }

    /// Whether the log is stopped because the disk was full.
    pub(crate) fn is_stopped_by_full_disk(&self) -> bool {
        self.is_stopped() && self.turn().is_disk_full
    }

    /// Bytes of files that wait for their last reader.
    pub(crate) fn retired_bytes(&self) -> u64 {
        self.retired.bytes()
    }

    /// Whether the log is stopped, without taking the turn.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}
