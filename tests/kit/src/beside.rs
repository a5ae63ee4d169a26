//! What goes on beside the writes of a history: tickets, snapshots that outlive changes, followers, a disk with little
//! space; and notes of what took place.

use std::{path::Path, sync::Arc};

use tierce_engine::{
    Durability, Engine, Error, Evict, Knobs, PutOptions, SequenceNumber, Snapshot, Timestamp,
    is_live,
};

use crate::{
    acts::{check_shown, put_effect, put_options},
    facet::{Facet, Facets},
    model::{CrashKind, State, Write, live},
    observe::Observation,
    op::{Chosen, Op, PutOp, UpdateKind, key, scope, value},
    run::{Answer, Runner, Trouble},
    store::{STORE, Setup},
};

/// A snapshot, and what it has to show.
pub(crate) struct Held {
    snapshot: Snapshot,
    state: State,
}

/// What the settings alone say.
pub(crate) fn of_setup(setup: &Setup) -> Facets {
    let mut facets = Facets::default();
    let is_plain = setup.knobs.resting_slots == Knobs::new().resting_slots;
    facets.note(if is_plain { Facet::PlainKnobs } else { Facet::WorstKnobs });
    facets.note_if(setup.hash_bits < u64::BITS, Facet::Colliding);
    facets
}

/// Whether the store refused a write for want of space.
pub(crate) const fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Full { .. } | Error::TooLarge { .. } | Error::LowSpace { .. })
}

impl Runner {
    /// What the puts of a row of tickets will write.
    pub(crate) fn intend_all(&self, op: &Op, now: Timestamp) -> Option<Vec<Write>> {
        let Op::Tickets { puts } = op else { return None };
        let durability = |put: &PutOp| put.durability.unwrap_or(self.setup.durability);
        let write = |put| Write::new(vec![put_effect(put, now)], durability(put));
        Some(puts.iter().map(write).collect())
    }

    /// Queues all of `puts` before it waits for the first.
    pub(crate) fn tickets(
        &mut self,
        engine: &Engine,
        puts: &[PutOp],
        now: Timestamp,
    ) -> Result<(), Trouble> {
        let submit = |put: &PutOp| {
            engine.submit(key(put.key), value(put.bytes, put.seed), &put_options(put, now))
        };
        let tickets: Vec<_> = puts.iter().map(submit).collect();
        let mut stored = 0;
        for ticket in tickets {
            match ticket.and_then(tierce_engine::Ticket::wait) {
                Ok(sequence) => {
                    self.model.acknowledge(Some(sequence.0))?;
                    stored += 1;
                }
                Err(error) if self.setup.is_limited() && is_refusal(&error) => {
                    self.model.refuse_first();
                    self.note_refusal();
                }
                Err(error) => return Err(error.into()),
            }
            self.mark("between tickets");
        }
        self.facets.note_if(stored > 1, Facet::Tickets);
        Ok(())
    }

    /// Whether the store may evict the entry of its own accord.
    pub(crate) fn may_evict(&self, number: u8) -> bool {
        let state = self.model.current();
        self.setup.is_limited() && state.get(&key(number)).is_some_and(|stored| stored.evictable)
    }

    /// Whether an operation answered as if there were no entry because it evicted it, to make space for itself.
    pub(crate) fn has_evicted(&self, op: &Op, answer: bool) -> bool {
        match op {
            Op::PutIfAbsent(put) => answer && self.may_evict(put.key),
            Op::PutIfUnchanged { put: PutOp { key, .. }, .. }
            | Op::Delete { key, .. }
            | Op::Touch { key, .. }
            | Op::Slide { key, .. } => !answer && self.may_evict(*key),
            _ => false,
        }
    }

    /// Whether the entry has a version that a condition can name: one that is only staged has the number 0 so far.
    pub(crate) fn has_version(&self, number: u8) -> bool {
        let entry = self.engine().entry(key(number));
        entry.is_ok_and(|entry| entry.is_some_and(|entry| entry.sequence.0 > 0))
    }

    /// A put under the condition that the entry is what it was when it was read, or what it never was.
    pub(crate) fn put_if_unchanged(
        &self,
        engine: &Engine,
        put: &PutOp,
        is_stale: bool,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let read = engine.entry(key(put.key))?;
        let options = put_options(put, now);
        let options = match read {
            Some(entry) if !is_stale => options.only_if_unchanged(entry.version()),
            Some(entry) => {
                options.only_if_unchanged(SequenceNumber(entry.sequence.0.saturating_sub(1)))
            }
            None => options.only_if_unchanged(SequenceNumber(1)),
        };
        stored(engine, put, &options)
    }

    /// Checks the snapshot that is held and lets it go.
    pub(crate) fn check_held(&mut self) -> Result<(), Trouble> {
        let Some(held) = self.held.take() else { return Ok(()) };
        check_shown(&held.snapshot, &held.state, held.snapshot.now())?;
        self.facets.note_if(held.state != self.model.current(), Facet::Snapshot);
        Ok(())
    }

    /// Checks the snapshot that is held and takes another one.
    pub(crate) fn hold(&mut self, engine: &Engine, state: &State) -> Result<(), Trouble> {
        self.check_held()?;
        self.held = Some(Held { snapshot: engine.snapshot()?, state: state.clone() });
        Ok(())
    }

    /// Reads the files beside the store: they show what the death of the process would leave.
    pub(crate) fn follow(&mut self) -> Result<(), Trouble> {
        let options = self.setup.options(Arc::new(self.disk.clone()), &self.clock);
        let follower = match options.open_reader(Path::new(STORE)) {
            Ok(follower) => follower,
            // A store that never took a write has no files.
            Err(Error::NotAStore { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let seen = Observation::of_follower(&follower, self.model.keys())?;
        let (kind, evicted) = (CrashKind::Process, self.model.evicted_after(CrashKind::Process));
        if self.model.explain(kind, |state| seen.is(state, evicted)).is_none() {
            let difference = seen.difference(&self.model.current());
            return Err(Trouble::Wrong(format!(
                "no prefix of {:?} writes explains a follower; to the newest state: {difference}",
                self.model.bounds()
            )));
        }
        self.facets.note_if(seen.count() > 0, Facet::Follower);
        Ok(())
    }

    /// The disk of a store that is to leave some space free has plenty, or a little more or less than that.
    pub(crate) fn set_space(&self, more: Option<u64>) {
        if self.setup.min_free_bytes == 0 {
            return;
        }
        let free = |more| self.disk.used() + self.setup.min_free_bytes + more;
        let floor = |more: u64| free(more).saturating_sub(2 << 10);
        self.disk.set_capacity(more.map(floor));
    }

    pub(crate) fn note_refusal(&mut self) {
        self.facets.note(Facet::Refused);
        self.note_limit();
    }

    /// The limit took effect.
    fn note_limit(&mut self) {
        let setup = &self.setup;
        self.facets.note_if(setup.max_bytes.is_some(), Facet::LimitBytes);
        self.facets.note_if(setup.max_entries.is_some(), Facet::LimitEntries);
        self.facets.note_if(setup.max_live_bytes.is_some(), Facet::LimitLiveBytes);
        self.facets.note_if(setup.min_free_bytes > 0, Facet::LimitFreeSpace);
    }

    pub(crate) fn note_eviction(&mut self, is_asked: bool) {
        self.facets.note(match self.setup.evict {
            Evict::S3Fifo => Facet::S3Fifo,
            Evict::Fifo => Facet::Fifo,
            _ => Facet::Lru,
        });
        if is_asked {
            self.facets.note(Facet::Shrunk);
        } else {
            self.facets.note(Facet::Evicted);
            self.note_limit();
        }
    }

    pub(crate) const fn note_compaction(&mut self, chosen: Chosen, jobs: u64, cancelled: bool) {
        self.facets.note_if(cancelled, Facet::CompactionCancelled);
        if jobs > 0 {
            self.facets.note(match chosen {
                Chosen::Best => Facet::CompactedBest,
                Chosen::All => Facet::CompactedAll,
                Chosen::Some(_) => Facet::CompactedSome,
            });
        }
    }

    pub(crate) fn note_opening(&mut self) {
        let is_from_checkpoint = self.engine().recovery_report().from_checkpoint;
        self.facets.note(match is_from_checkpoint {
            true => Facet::OpenedFromCheckpoint,
            false => Facet::OpenedWithout,
        });
    }

    pub(crate) fn note_crash(&mut self, kind: CrashKind) {
        self.facets.note_if(kind == CrashKind::Process, Facet::ProcessCrash);
        self.facets.note_if(kind == CrashKind::Power, Facet::PowerCrash);
    }

    /// Notes what an operation did that was carried out on `state` at `now`.
    pub(crate) fn note_done(&mut self, op: &Op, answer: &Answer, state: &State, now: Timestamp) {
        let said = !matches!(answer, Answer::Is(false));
        let later = self.engine.as_ref().map_or(now, Engine::now);
        let expired = |at: Option<Timestamp>| is_live(at, now) && !is_live(at, later);
        let has_expired =
            state.values().any(|stored| !stored.evicted && expired(stored.expires_at));
        let is_doubted = self.engine.as_ref().is_some_and(|engine| engine.clock_doubt().is_some());
        let facets = &mut self.facets;
        facets.note_if(has_expired, Facet::Expired);
        facets.note_if(is_doubted, Facet::ClockDoubted);
        let of_mode =
            |durability: Option<Durability>| match durability.unwrap_or(self.setup.durability) {
                Durability::Sync => Facet::Sync,
                Durability::Os => Facet::Os,
                Durability::Buffered => Facet::Buffered,
                Durability::Periodic => Facet::Periodic,
            };
        match op {
            Op::Put(put) => facets.note(of_mode(put.durability)),
            Op::PutIfAbsent(put) => {
                facets.note(if said { Facet::AbsentStored } else { Facet::AbsentRefused });
                facets.note_if(said, of_mode(put.durability));
            }
            Op::PutIfUnchanged { put, .. } => {
                facets.note(if said { Facet::UnchangedStored } else { Facet::UnchangedRefused });
                facets.note_if(said, of_mode(put.durability));
            }
            Op::Delete { durability, .. } => facets.note_if(said, of_mode(*durability)),
            Op::Touch { .. } => facets.note_if(said, Facet::Touched),
            Op::Slide { .. } => facets.note_if(said, Facet::Slid),
            Op::Update { change, .. } => {
                facets.note_if(*change != UpdateKind::Keep, Facet::Updated);
            }
            Op::CutScope { scope: number } => {
                let name = scope(*number);
                let ends = live(state, now).any(|(_, stored)| stored.scopes.contains(&name));
                facets.note_if(ends, Facet::Cut);
            }
            Op::Batch { parts, durability } => {
                facets.note_if(parts.len() > 1, Facet::Batch);
                facets.note_if(parts.len() > 1, of_mode(*durability));
            }
            Op::JumpClock { ms } => {
                facets.note(if *ms < 0 { Facet::ClockBack } else { Facet::ClockForward });
            }
            _ => {}
        }
    }
}

/// Whether a conditional put was stored.
pub(crate) fn stored(engine: &Engine, put: &PutOp, options: &PutOptions) -> Result<bool, Error> {
    match engine.put_with(key(put.key), value(put.bytes, put.seed), options) {
        Ok(_) => Ok(true),
        Err(Error::Conflict { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
