//! Makes the outcome of a compaction job true: first on disk, then for readers, and only then the old files go.

use std::{collections::HashSet, sync::Arc};

use super::{Writer, log::Doubtful, relocate::relocate};
use crate::{
    error::{Error, Result},
    format::{
        manifest::Edit,
        segment_header::{Class, SegmentHeader},
    },
    index::Entry as IndexEntry,
    lookup::Lookup,
    segment::{
        Segment,
        manifest_file::Unapplied,
        transfer::{Ended, Leftover, Transfer},
    },
    sync::{PoisonError, atomic::Ordering},
    types::{SegmentId, SequenceNumber, Slot, Timestamp, is_live},
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
        for moves in transfer.moves.chunks(self.turn_entries) {
            let _turn = self.turn();
            moves.iter().for_each(|moved| relocate(&self.lookup, moved));
        }
        for ended in transfer.ended.chunks(self.turn_entries) {
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

    /// Takes out an entry that was not copied. Under the turn.
    fn end_one(&self, ended: &Ended) {
        let Lookup { index, overrides, .. } = &*self.lookup;
        let here = |entry: &IndexEntry| entry.location == ended.at;
        let Some(entry) = index.peek(ended.hash).iter().find(here) else { return };
        assert!(entry.is_evicted(), "it left the accounts before its record was left out");
        if index.remove(ended.hash, ended.at) {
            overrides.forget_touch(ended.at);
        }
    }

    /// Drops segments unread: nothing in them counts any more. What made that so is judged again here: a segment of
    /// which an entry was given more time since stays. Says how many went, and how many entries had expired.
    pub(crate) fn drop_segments(
        &self,
        mut dropped: Vec<Arc<Segment>>,
        now: Timestamp,
    ) -> Result<(u64, u64)> {
        let _maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        // Order: no entry of them can be given more time from here on, and then what displaced one is durable before
        // the record goes (I18).
        let (entries, staying) = self.end_all_in(&slots_of(&dropped), now);
        dropped.retain(|segment| !staying.contains(&segment.slot));
        if dropped.is_empty() {
            return Ok((0, entries));
        }
        self.sync_to(self.next_sequence())?;
        let mut edits = vec![Edit::Clock(now)];
        edits.extend(dropped.iter().map(|segment| Edit::Retire(segment.id())));
        self.apply_or_disown(&edits)?;
        self.purge(&slots_of(&dropped));
        self.retire(&dropped);
        Ok((dropped.len() as u64, entries))
    }

    /// Marks every entry that points to one of these slots as expired, unless a touch gives it more time: says how many,
    /// and which slots have such entries. The records themselves expire before `now`.
    fn end_all_in(&self, slots: &HashSet<Slot>, now: Timestamp) -> (u64, HashSet<Slot>) {
        let Lookup { index, overrides, catalog, tally, .. } = &*self.lookup;
        let (mut count, mut staying) = (0, HashSet::new());
        for shard in 0..crate::index::SHARDS {
            let turn = self.turn();
            let newest = turn.log.newest();
            index.end_some(shard, |entry| {
                let slot = entry.location.slot;
                if !slots.contains(&slot) {
                    return false;
                }
                let touch = overrides.touch_of(&entry);
                if touch.is_some_and(|touch| is_live(touch.expires_at, now)) {
                    staying.insert(slot);
                    return false;
                }
                let bytes = entry.size.bytes();
                catalog.count_dead(slot, bytes, newest);
                tally.sub(bytes, entry.flags & IndexEntry::EVICTABLE != 0);
                count += 1;
                true
            });
        }
        (count, staying)
    }

    /// Takes every entry out that points to one of these slots. All of them are marked as evicted.
    fn purge(&self, slots: &HashSet<Slot>) {
        for shard in 0..crate::index::SHARDS {
            let _turn = self.turn();
            self.lookup.index.retain(shard, |entry| !slots.contains(&entry.location.slot));
        }
    }

    /// Takes segments out of the catalog; their files go when no reader holds them.
    fn retire(&self, inputs: &[Arc<Segment>]) {
        let slots: Vec<_> = inputs.iter().map(|input| input.slot).collect();
        {
            let _turn = self.turn();
            self.lookup.retire(&slots);
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

fn slots_of(segments: &[Arc<Segment>]) -> HashSet<Slot> {
    segments.iter().map(|segment| segment.slot).collect()
}
