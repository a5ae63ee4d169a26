//! Carries out a plan: reads the victims, drops what no longer counts, copies what does into new segments.
//!
//! A record counts if the index points to it and it is live; a death counts while an older version of its key
//! exists elsewhere (`older`). What is copied is verified first (I13) and keeps its sequence number. Nothing here
//! changes what anyone sees: the writer installs the outcome.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use super::older::{Others, Question};
use crate::{
    error::{Corruption, Error, Result},
    evictor::{Cause, Victim},
    format::{
        footer::FooterEntry,
        record::{Draft, Extension, Flags, Head, ITEM_TOUCHED, Kind, encode, push_item},
        segment_header::{Class, SegmentHeader},
    },
    index::Entry as IndexEntry,
    lookup::Lookup,
    segment::{
        Home, Segment,
        output::{CopiedRecord, Output},
        read::{Depth, RecordBytes},
        seal::entries_by_scan,
        transfer::{Ended, Leftover, Move, Transfer},
    },
    space::{Purpose, Space},
    types::{Location, SegmentId, SequenceNumber, Touch, is_live},
};

/// Ends entries of a segment for a cause.
type EndVictims<'a> = dyn Fn(&Arc<Segment>, &[Victim], Cause) + 'a;

/// What a job needs from the rest of the store.
pub(crate) struct Job<'a> {
    pub(crate) home: &'a Home,
    pub(crate) lookup: &'a Lookup,
    pub(crate) space: &'a Space,
    pub(crate) maps: bool,
    pub(crate) segment_bytes: u64,
    /// Every record that the job's liveness tests can see as displaced is below this.
    pub(crate) horizon: SequenceNumber,
    /// Makes the header of an output.
    pub(crate) header: &'a dyn Fn(Class, SequenceNumber) -> SegmentHeader,
    /// Chooses the stream of a survivor, 1 or more: by its age in sequence numbers, and by what is left of its lifetime
    /// in milliseconds.
    pub(crate) place: &'a dyn Fn(u64, Option<u64>) -> u8,
    /// Removes a file of which nobody knows, and gives back what was taken for it once it is gone.
    pub(crate) abandon: &'a dyn Fn(Leftover),
    /// Ends entries of an input that have expired or are cut off, if that is still so under the writer's turn.
    pub(crate) end: &'a EndVictims<'a>,
    /// Told of bytes read and copied, now and then; says whether to go on.
    pub(crate) go_on: &'a dyn Fn(u64, u64) -> ControlFlow<()>,
}

/// What became of a job.
#[derive(Debug)]
pub(crate) enum Copied {
    /// All of it is copied.
    Done(Transfer),
    /// It was told to stop; nothing is left of it.
    Cancelled,
    /// A victim cannot be read; nothing is left of the job, and the victim must stay.
    Unreadable(Arc<Segment>, Corruption),
}

/// Copies what counts of `inputs`.
pub(crate) fn copy(job: &Job<'_>, inputs: Vec<Arc<Segment>>) -> Result<Copied> {
    let table = job.lookup.catalog.table();
    let is_input = |segment: &&Arc<Segment>| !inputs.iter().any(|input| input.slot == segment.slot);
    let others = Others::new(table.iter().filter(is_input).cloned().collect());
    drop(table);
    let mut copying = Copying {
        job,
        others,
        parents: inputs.iter().map(|input| input.id()).collect(),
        outputs: BTreeMap::new(),
        transfer: Transfer { now: job.lookup.clock.confirmed(), ..Transfer::default() },
        scratch: Vec::new(),
    };
    for input in &inputs {
        match copying.take(&inputs, input) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => {
                copying.undo();
                return Ok(Copied::Cancelled);
            }
            Err(Error::Corruption(corruption)) => {
                copying.undo();
                return Ok(Copied::Unreadable(Arc::clone(input), corruption));
            }
            Err(error) => {
                copying.undo();
                return Err(error);
            }
        }
    }
    copying.finish(inputs).map(Copied::Done)
}

struct Copying<'a> {
    job: &'a Job<'a>,
    others: Others,
    /// Ids of the inputs; every output names all of them.
    parents: Vec<SegmentId>,
    /// By stream.
    outputs: BTreeMap<u8, Output>,
    transfer: Transfer,
    scratch: Vec<u8>,
}

/// What is to happen with one record of a victim.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// The index points to it: it is copied.
    Survives(IndexEntry),
    /// The index points to it, but it has ended: its entry is marked as evicted, for good. If it hides an older version,
    /// a tombstone takes its place.
    Ends(IndexEntry),
    /// A tombstone: copied if it hides an older version.
    Death,
    /// A touch or a scope cut that is in force.
    Stays,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    entry: FooterEntry,
    fate: Fate,
    hides_older: bool,
}

impl Copying<'_> {
    /// Takes one victim through.
    fn take(&mut self, inputs: &[Arc<Segment>], input: &Arc<Segment>) -> Result<ControlFlow<()>> {
        let entries = entries_of(self.job, input)?;
        self.end_what_has_ended(input, &entries)?;
        let mut steps = Vec::new();
        for entry in entries {
            let fate = self.fate(inputs, input, &entry)?;
            steps.extend(fate.map(|fate| Step { entry, fate, hides_older: false }));
        }
        self.ask(&mut steps)?;
        // In the order of the file: neighbours are read together.
        steps.sort_unstable_by_key(|step| step.entry.offset);
        let (mut read, mut copied) = (0, self.transfer.bytes_copied);
        for step in steps {
            self.carry_out(input, &step)?;
            read += step.entry.bytes;
            if read >= REPORT_BYTES {
                if (self.job.go_on)(read, self.transfer.bytes_copied - copied).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                (read, copied) = (0, self.transfer.bytes_copied);
            }
        }
        Ok((self.job.go_on)(read, self.transfer.bytes_copied - copied))
    }

    /// What is to happen with the record of `entry`; `None` if it is dead.
    fn fate(
        &mut self,
        inputs: &[Arc<Segment>],
        input: &Arc<Segment>,
        entry: &FooterEntry,
    ) -> Result<Option<Fate>> {
        let at = Location { slot: input.slot, offset: entry.offset };
        match entry.kind {
            Kind::Put => {
                let found = self.job.lookup.index.peek(entry.hash);
                let here = found.iter().find(|candidate| candidate.location == at);
                // What ended since it was looked at is copied once more.
                Ok(here.map(|here| match here.is_evicted() {
                    true => Fate::Ends(here),
                    false => Fate::Survives(here),
                }))
            }
            Kind::Delete => Ok(Some(Fate::Death)),
            Kind::Touch => {
                let is_in_force = self.touch_target(input, entry)?;
                // Its put is copied by this very job, with the expiry in its head: the touch is spent.
                let is_folded = |at: Location| inputs.iter().any(|input| input.slot == at.slot);
                Ok(is_in_force.filter(|at| !is_folded(*at)).map(|_| Fate::Stays))
            }
            Kind::ScopeCut => self.fate_of_cut(input, entry),
            Kind::Commit | Kind::Note => Ok(None),
        }
    }

    /// Lets the entries of an input that have expired or are cut off be marked as evicted. The decision is the turn's:
    /// one that was given more time meanwhile survives.
    fn end_what_has_ended(&self, input: &Arc<Segment>, entries: &[FooterEntry]) -> Result<()> {
        let (mut expired, mut cut) = (Vec::new(), Vec::new());
        for entry in entries.iter().filter(|entry| entry.kind == Kind::Put) {
            let at = Location { slot: input.slot, offset: entry.offset };
            let found = self.job.lookup.index.peek(entry.hash);
            let Some(here) = found.iter().find(|here| here.location == at) else { continue };
            match self.cause_of_end(input, here)? {
                Some(Cause::Cut) => cut.push(Victim::new(entry.hash, here)),
                Some(_) => expired.push(Victim::new(entry.hash, here)),
                None => {}
            }
        }
        (self.job.end)(input, &expired, Cause::Expired);
        (self.job.end)(input, &cut, Cause::Cut);
        Ok(())
    }

    /// Why the entry that points to a record of this input has ended, if it has and is not evicted.
    fn cause_of_end(&self, input: &Arc<Segment>, here: IndexEntry) -> Result<Option<Cause>> {
        const MAY_END: u8 = IndexEntry::EXPIRES | IndexEntry::TOUCHED | IndexEntry::SCOPED;
        if here.is_evicted() || here.flags & MAY_END == 0 {
            return Ok(None);
        }
        let overrides = &self.job.lookup.overrides;
        let record = read(input, here.location.offset, u64::MAX, Depth::Head)?;
        let head = input.head(record.of(input), here.location.offset)?;
        let touch = overrides.touch_of(&here);
        let expires_at = touch.map_or(head.expires_at, |touch| touch.expires_at);
        let is_cut = head
            .extension
            .is_some_and(|extension| overrides.is_cut(head.sequence, extension.scopes()));
        Ok(if is_cut {
            Some(Cause::Cut)
        } else if !is_live(expires_at, self.transfer.now) {
            Some(Cause::Expired)
        } else {
            None
        })
    }

    /// Where the put stands whose expiry this touch sets, if it does.
    fn touch_target(&self, input: &Arc<Segment>, entry: &FooterEntry) -> Result<Option<Location>> {
        let lookup = self.job.lookup;
        let is_ours = |touch: Touch| touch.sequence == entry.sequence;
        let candidates = lookup.index.peek(entry.hash);
        let target = candidates
            .iter()
            .find(|candidate| lookup.overrides.touch_of(candidate).is_some_and(is_ours))
            .map(|candidate| candidate.location);
        if target.is_some() {
            // It is to be copied: it must be sound.
            read_whole(input, entry)?;
        }
        Ok(target)
    }

    /// A scope cut is spent when a newer one covers it, or when no segment can hold anything older.
    fn fate_of_cut(&mut self, input: &Arc<Segment>, entry: &FooterEntry) -> Result<Option<Fate>> {
        let record = read_whole(input, entry)?;
        let head = input.head(record.of(input), entry.offset)?;
        if self.job.lookup.overrides.newest_cut(head.key) > Some(entry.sequence) {
            return Ok(None);
        }
        if self.others.are_all_newer(entry.sequence) {
            self.transfer.spent_cuts.push((head.key.to_vec(), entry.sequence));
            return Ok(None);
        }
        Ok(Some(Fate::Stays))
    }

    /// Asks for all deaths whether they still hide something.
    fn ask(&self, steps: &mut [Step]) -> Result<()> {
        let asks = |step: &Step| match step.fate {
            // What was put where nothing had been hides nothing that an older tombstone does not hide too.
            Fate::Ends(_) | Fate::Death => {
                !step.entry.flags.has(Flags::FRESH) || step.entry.kind == Kind::Delete
            }
            Fate::Survives(_) | Fate::Stays => false,
        };
        let about: Vec<_> = (0..steps.len()).filter(|at| asks(&steps[*at])).collect();
        let mut questions: Vec<_> = about
            .iter()
            .map(|at| &steps[*at].entry)
            .map(|entry| Question { hash: entry.hash, sequence: entry.sequence, has_older: false })
            .collect();
        self.others.answer(&mut questions);
        for (at, question) in about.into_iter().zip(questions) {
            steps[at].hides_older = question.has_older;
        }
        Ok(())
    }

    fn carry_out(&mut self, input: &Arc<Segment>, step: &Step) -> Result<()> {
        let Step { entry, fate, hides_older } = step;
        match *fate {
            Fate::Survives(here) => self.copy_put(input, entry, here),
            Fate::Ends(here) => {
                if *hides_older {
                    self.bury(input, entry)?;
                }
                self.transfer.ended.push(Ended { hash: entry.hash, at: here.location });
                Ok(())
            }
            Fate::Death if !hides_older => Ok(()),
            Fate::Death | Fate::Stays => {
                let record = read_whole(input, entry)?;
                let bytes = record.of(input);
                let head = input.head(bytes, entry.offset)?;
                self.scratch.clear();
                self.scratch.extend_from_slice(exactly(bytes, &head));
                self.append(DEATHS, &head, head.head_bytes, head.flags, false).map(drop)
            }
        }
    }

    /// Copies a live put; a touch that is in force is folded into its head.
    fn copy_put(
        &mut self,
        input: &Arc<Segment>,
        entry: &FooterEntry,
        here: IndexEntry,
    ) -> Result<()> {
        let from = here.location;
        let record = read_whole(input, entry)?;
        let bytes = record.of(input);
        let head = input.head(bytes, from.offset)?;
        let touch = self.job.lookup.overrides.touch_of(&here);
        self.scratch.clear();
        let (head_bytes, expires_at) = match touch {
            None => {
                self.scratch.extend_from_slice(exactly(bytes, &head));
                (head.head_bytes, head.expires_at)
            }
            Some(touch) => {
                let value = &bytes[head.head_bytes..head.head_bytes + head.value_bytes as usize];
                (fold(&head, value, touch, &mut self.scratch), touch.expires_at)
            }
        };
        let age = self.job.horizon.0.saturating_sub(head.sequence.0);
        let left = expires_at.map(|expiry| expiry.0.saturating_sub(self.transfer.now.0));
        let stream = (self.job.place)(age, left);
        let flags = crate::format::record::flags_of(&self.scratch);
        let seen = Head { expires_at, ..head };
        let bytes = self.scratch.len() as u64;
        let to = self.append(stream, &seen, head_bytes, flags, true)?;
        self.transfer.moves.push(Move { hash: entry.hash, from, to, bytes, folded: touch });
        Ok(())
    }

    /// Puts a tombstone in the place of a put that has ended, with its sequence number.
    fn bury(&mut self, input: &Arc<Segment>, entry: &FooterEntry) -> Result<()> {
        let record = read(input, entry.offset, entry.bytes, Depth::Head)?;
        let head = input.head(record.of(input), entry.offset)?;
        let draft = Draft {
            kind: Kind::Delete,
            flags: Flags::default(),
            key: head.key,
            value: &[],
            expires_at: None,
            extension: None,
        };
        self.scratch.clear();
        let head_bytes = encode(&draft, &mut self.scratch);
        let tombstone = Head {
            kind: Some(Kind::Delete),
            expires_at: None,
            extension: None,
            record_bytes: self.scratch.len() as u64,
            ..head
        };
        self.append(DEATHS, &tombstone, head_bytes, Flags::default(), false).map(drop)
    }

    /// Appends what is in `scratch` to the output of `stream`.
    fn append(
        &mut self,
        stream: u8,
        head: &Head<'_>,
        head_bytes: usize,
        flags: Flags,
        is_live: bool,
    ) -> Result<Location> {
        let bytes = self.scratch.len() as u64;
        let stream = self.open(stream, bytes)?;
        let output = self.outputs.get_mut(&stream).expect("it was opened");
        let sequence = head.sequence;
        let record = CopiedRecord { bytes: &mut self.scratch, head_bytes, sequence, flags };
        let at = output.append(record, head, is_live, self.job.lookup.hasher)?;
        self.transfer.records_copied += 1;
        self.transfer.bytes_copied += bytes;
        Ok(at)
    }

    /// Makes sure that some output takes a record of this length; says which. If there is no room for another
    /// output, one that is open already takes it, whatever its stream.
    fn open(&mut self, stream: u8, bytes: u64) -> Result<u8> {
        if let Some(output) = self.outputs.get(&stream) {
            if output.has_room(bytes) {
                return Ok(stream);
            }
            self.seal(stream)?;
        }
        let alone = Output::bytes_alone(bytes);
        let mut capacity = self.job.segment_bytes.max(alone);
        if self.job.space.take(capacity, Purpose::Compact).is_err() {
            let other = self.outputs.iter().find(|(_, output)| output.has_room(bytes));
            if let Some((other, _)) = other {
                return Ok(*other);
            }
            // What the open outputs do not use comes back when they are sealed.
            let open: Vec<_> = self.outputs.keys().copied().collect();
            open.into_iter().try_for_each(|stream| self.seal(stream))?;
            capacity = self.job.space.room(Purpose::Compact).min(capacity).max(alone);
            self.job.space.take(capacity, Purpose::Compact)?;
        }
        let class = Class(Class::COMPACTED.0 + stream);
        let mut header = (self.job.header)(class, self.job.horizon);
        header.parents.clone_from(&self.parents);
        let slot = self.job.lookup.free_slot();
        match Output::create(self.job.home, header, slot, capacity) {
            Ok(output) => {
                self.outputs.insert(stream, output);
                Ok(stream)
            }
            Err(error) => {
                self.job.lookup.catalog.give_slot_back(slot);
                self.job.space.give(capacity);
                Err(error)
            }
        }
    }

    /// Completes the output of a stream.
    fn seal(&mut self, stream: u8) -> Result<()> {
        let Some(mut output) = self.outputs.remove(&stream) else { return Ok(()) };
        match output.finish(self.job.maps) {
            Ok(finished) => {
                self.job.space.give(output.capacity().saturating_sub(finished.seal.file_bytes));
                self.transfer.outputs.push(finished);
                Ok(())
            }
            Err(error) => {
                (self.job.abandon)(output.into_leftover());
                Err(error)
            }
        }
    }

    fn finish(mut self, inputs: Vec<Arc<Segment>>) -> Result<Transfer> {
        let open: Vec<_> = self.outputs.keys().copied().collect();
        for stream in open {
            if let Err(error) = self.seal(stream) {
                self.undo();
                return Err(error);
            }
        }
        self.transfer.inputs = inputs;
        Ok(self.transfer)
    }

    /// Removes what was written so far: nobody knows it.
    fn undo(&mut self) {
        let open = std::mem::take(&mut self.outputs).into_values().map(Output::into_leftover);
        open.chain(self.transfer.abandon()).for_each(self.job.abandon);
    }
}

/// How often a job says how far it is.
const REPORT_BYTES: u64 = 256 << 10;
/// The stream of deaths, touches and cuts: they are dropped at other times than values.
const DEATHS: u8 = 0;

/// The bytes of the record alone.
fn exactly<'a>(bytes: &'a [u8], head: &Head<'_>) -> &'a [u8] {
    &bytes[..usize::try_from(head.record_bytes).unwrap_or(usize::MAX)]
}

/// The put again, with the expiry of a touch in its head and the touch's sequence number beside it.
fn fold(head: &Head<'_>, value: &[u8], touch: Touch, out: &mut Vec<u8>) -> usize {
    let mut items = Vec::new();
    let (mut codec, mut schema) = (0, 0);
    if let Some(extension) = head.extension {
        (codec, schema) = (extension.codec, extension.schema);
        for (kind, bytes) in extension.items().filter(|(kind, _)| *kind != ITEM_TOUCHED) {
            push_item(&mut items, kind, bytes);
        }
    }
    push_item(&mut items, ITEM_TOUCHED, &touch.sequence.0.to_le_bytes());
    let draft = Draft {
        kind: Kind::Put,
        flags: head.flags,
        key: head.key,
        value,
        expires_at: touch.expires_at,
        extension: Some(Extension { codec, schema, items: &items }),
    };
    encode(&draft, out)
}

fn read(input: &Arc<Segment>, offset: u64, hint: u64, depth: Depth) -> Result<RecordBytes> {
    let missing = || {
        let damage = crate::error::Damage::Truncated;
        Error::Corruption(Corruption { file: input.path.clone(), offset, damage })
    };
    let record = input.record(offset, hint.min(64 << 10), depth);
    record.map_err(|error| as_damage(input, offset, error))?.ok_or_else(missing)
}

/// A bad block is damage of its segment: the segment stays as it is, and compaction goes on without it.
fn as_damage(input: &Arc<Segment>, offset: u64, error: Error) -> Error {
    if !error.is_bad_block() {
        return error;
    }
    let damage = crate::error::Damage::Unreadable;
    Error::Corruption(Corruption { file: input.path.clone(), offset, damage })
}

/// The record of `entry`, head and value verified.
fn read_whole(input: &Arc<Segment>, entry: &FooterEntry) -> Result<RecordBytes> {
    let record = read(input, entry.offset, entry.bytes, Depth::Whole)?;
    let bytes = record.of(input);
    let head = input.head(bytes, entry.offset)?;
    input.check_value(bytes, &head, entry.offset)?;
    Ok(record)
}

/// What a victim holds, from its footer or, if that is damaged, from a scan without a gap.
fn entries_of(job: &Job<'_>, input: &Arc<Segment>) -> Result<Vec<FooterEntry>> {
    let Some(sealed) = input.as_sealed() else { return Ok(Vec::new()) };
    if let Some(entries) = sealed.with_entries(|entries| entries.iter().collect::<Vec<_>>()) {
        return Ok(entries);
    }
    let bytes = crate::io::read_file(job.home.disk.as_ref(), &input.path)
        .map_err(|source| as_damage(input, 0, Error::io("read", &input.path, source)))?;
    let (salt, is_committed) = (input.add.salt, sealed.trailer_checksum != 0);
    let found = entries_by_scan(&bytes, sealed.records_end, salt, job.lookup.hasher, is_committed);
    match found.damaged.first() {
        None => Ok(found.entries),
        Some(offset) => Err(Error::Corruption(Corruption {
            file: input.path.clone(),
            offset: *offset,
            damage: crate::error::Damage::Checksum,
        })),
    }
}
