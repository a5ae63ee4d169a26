//! What must be true of a store: the acknowledged writes in their order, and how much of that order a crash may
//! take away.
//!
//! A crash takes a suffix of the order of writes and nothing else. How long it may be follows from what was
//! acknowledged how. Only a write that failed or was going on is outside of that rule: it may be there or not.
//! Writes of [`Durability::Periodic`] are in the order like all others: they reach the log before anything that
//! is acknowledged after them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tierce_engine::{Durability, Timestamp, is_live};

/// What one key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The value.
    pub value: Arc<[u8]>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Whether it may be forgotten.
    pub evictable: bool,
    /// Scopes it belongs to.
    pub scopes: Vec<Vec<u8>>,
    /// Its sequence number, where the store said it.
    pub sequence: Option<u64>,
    /// Whether it was evicted: reads miss it, and a crash may bring it back.
    pub evicted: bool,
    /// Whether it is not known if it is evicted: it could have been while it had expired, and then store time went back.
    pub hidden: bool,
    /// Milliseconds that a crash may take back of its expiry, because it was slid.
    pub slid_ms: u64,
    /// Milliseconds that crashes took back of it: another one may bring them back, with a checkpoint that knows of them.
    pub taken_ms: u64,
}

impl Stored {
    /// The earliest expiry that a crash may leave.
    #[must_use]
    pub fn expires_at_least(&self) -> Option<Timestamp> {
        self.expires_at.map(|at| Timestamp(at.0.saturating_sub(self.slid_ms)))
    }

    /// The latest expiry that a crash may leave.
    #[must_use]
    pub fn expires_at_most(&self) -> Option<Timestamp> {
        self.expires_at.map(|at| at.saturating_add_ms(self.taken_ms))
    }
}

/// What the store holds, expired entries included.
pub type State = BTreeMap<Vec<u8>, Stored>;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The key has this from now on.
    Put(Vec<u8>, Stored),
    /// The key is gone.
    Delete(Vec<u8>),
    /// The key ends then.
    Touch(Vec<u8>, Option<Timestamp>),
    /// The key ends then, a lifetime of so many milliseconds from now; after a crash up to an eighth of that earlier.
    Slide(Vec<u8>, Timestamp, u64),
    /// The entries of a scope are gone.
    Cut(Vec<u8>),
    /// The key was forgotten to make room.
    Evict(Vec<u8>),
    /// The key has expired, and may be forgotten to make room without anyone seeing it.
    Hide(Vec<u8>),
    /// The key was found to be there.
    Show(Vec<u8>),
}

/// Changes that survive together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The changes, in order.
    pub effects: Vec<Effect>,
    /// What its acknowledgement promised.
    pub durability: Durability,
    /// `None` for an acknowledged write; for a failed one, whether reads show it.
    pub failed: Option<bool>,
}

impl Write {
    /// A write to come.
    #[must_use]
    pub const fn new(effects: Vec<Effect>, durability: Durability) -> Self {
        Self { effects, durability, failed: None }
    }

    /// Makes the changes.
    pub fn apply(&self, state: &mut State) {
        for effect in &self.effects {
            match effect {
                Effect::Put(key, stored) => {
                    state.insert(key.clone(), stored.clone());
                }
                Effect::Delete(key) => {
                    state.remove(key);
                }
                Effect::Touch(key, expires_at) => {
                    if let Some(stored) = state.get_mut(key) {
                        // A touch is a change of the entry: it has another number from now on.
                        (stored.expires_at, stored.sequence) = (*expires_at, None);
                        (stored.slid_ms, stored.taken_ms) = (0, 0);
                    }
                }
                Effect::Slide(key, until, lifetime_ms) => {
                    if let Some(stored) = state.get_mut(key) {
                        (stored.expires_at, stored.sequence) = (Some(*until), None);
                        (stored.slid_ms, stored.taken_ms) = (lifetime_ms / 8, 0);
                    }
                }
                Effect::Cut(scope) => state.retain(|_, stored| !stored.scopes.contains(scope)),
                Effect::Evict(key) => {
                    if let Some(stored) = state.get_mut(key) {
                        (stored.evicted, stored.hidden) = (true, false);
                    }
                }
                Effect::Hide(key) => {
                    if let Some(stored) = state.get_mut(key) {
                        stored.hidden = true;
                    }
                }
                Effect::Show(key) => {
                    if let Some(stored) = state.get_mut(key) {
                        (stored.evicted, stored.hidden) = (false, false);
                    }
                }
            }
        }
    }
}

/// How much a crash may have taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CrashKind {
    /// There was none.
    None,
    /// The process died, the machine did not.
    Process,
    /// The machine died.
    Power,
}

/// The writes of one store.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// What is certain to be there.
    base: State,
    /// Writes after that, in order.
    writes: Vec<Write>,
    /// So many of them survive power failures,
    durable: usize,
    /// and so many the death of the process.
    process: usize,
    /// So many of them are known to be in the log, in their order; those after them may be staged.
    logged: usize,
    /// Writes that began and did not end, in the order in which they were queued.
    in_flight: Vec<Write>,
    keys: BTreeSet<Vec<u8>>,
    newest_sequence: u64,
    accounts_are_exact: bool,
    evicts: bool,
}

/// An explanation that fits what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// So many of the writes survived, counted from the last settled state.
    pub prefix: usize,
    /// The state they make.
    pub state: State,
    /// Which failed writes are part of it, by position.
    shown: BTreeSet<usize>,
}

impl Model {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self { accounts_are_exact: true, ..Self::default() }
    }

    /// A store that is known to hold `state`, durably, after this model's past; `newest` is the highest sequence
    /// number in it. Numbers of lost writes count too: none is ever used again.
    #[must_use]
    pub fn settled(&self, state: State, newest: u64) -> Self {
        Self {
            base: state,
            keys: self.keys.clone(),
            newest_sequence: newest.max(self.newest_sequence),
            accounts_are_exact: self.accounts_are_exact,
            evicts: self.evicts,
            ..Self::new()
        }
    }

    /// The store evicts whenever it sees fit: after a crash anything evictable may be gone.
    #[must_use]
    pub const fn evicting(mut self, evicts: bool) -> Self {
        self.evicts = evicts;
        self
    }

    /// Whether the store evicts whenever it sees fit.
    #[must_use]
    pub const fn evicts(&self) -> bool {
        self.evicts
    }

    /// Every key that was ever written or asked for.
    #[must_use]
    pub const fn keys(&self) -> &BTreeSet<Vec<u8>> {
        &self.keys
    }

    /// Whether counters of entries and live bytes must be exact: nothing expires, nothing was cut.
    #[must_use]
    pub const fn accounts_are_exact(&self) -> bool {
        self.accounts_are_exact
    }

    /// How many writes a power failure may not take, and how many there are, since the last settled state.
    #[must_use]
    pub const fn bounds(&self) -> (usize, usize) {
        (self.durable, self.writes.len())
    }

    /// The write that began and did not end.
    #[must_use]
    pub fn in_flight(&self) -> Option<&Write> {
        self.in_flight.first()
    }

    /// What reads show now, failed writes that were seen to be there included.
    #[must_use]
    pub fn current(&self) -> State {
        let mut state = self.base.clone();
        for write in self.writes.iter().filter(|write| write.failed != Some(false)) {
            write.apply(&mut state);
        }
        state
    }

    /// A write begins, or none.
    pub fn begin(&mut self, write: Option<Write>) {
        self.begin_all(write.into_iter().collect());
    }

    /// Several writes begin, each of them with or without the others.
    pub fn begin_all(&mut self, writes: Vec<Write>) {
        for effect in writes.iter().flat_map(|write| &write.effects) {
            match effect {
                Effect::Put(key, stored) => {
                    self.keys.insert(key.clone());
                    self.accounts_are_exact &= stored.expires_at.is_none();
                }
                Effect::Delete(key) => {
                    self.keys.insert(key.clone());
                }
                Effect::Touch(..) | Effect::Slide(..) | Effect::Cut(_) => {
                    self.accounts_are_exact = false;
                }
                Effect::Evict(_) | Effect::Hide(_) | Effect::Show(_) => {}
            }
        }
        self.in_flight = writes;
    }

    /// The write that began is acknowledged, with this sequence number if the store said one.
    ///
    /// # Errors
    /// If the sequence number is not above all before.
    pub fn acknowledge(&mut self, sequence: Option<u64>) -> Result<(), String> {
        if self.in_flight.is_empty() {
            return Ok(());
        }
        let mut write = self.in_flight.remove(0);
        if let Some(sequence) = sequence.filter(|sequence| *sequence > 0) {
            if sequence <= self.newest_sequence {
                let newest = self.newest_sequence;
                return Err(format!("acknowledged as sequence {sequence} after {newest}"));
            }
            self.newest_sequence = sequence;
            if let [Effect::Put(_, stored)] = write.effects.as_mut_slice() {
                stored.sequence = Some(sequence);
            }
        }
        let durability = write.durability;
        self.writes.push(write);
        match durability {
            Durability::Sync => {
                self.durable = self.writes.len();
                self.process = self.writes.len();
            }
            Durability::Os => self.process = self.writes.len(),
            Durability::Buffered | Durability::Periodic => {}
        }
        self.compact();
        Ok(())
    }

    /// Staged writes are still staged, and it is this late: a put among them that has expired will not be written, and is
    /// gone even if a crash sets store time back.
    pub fn expire_staged(&mut self, now: Timestamp) {
        let over = |stored: &Stored| !stored.evicted && !is_live(stored.expires_at, now);
        let state = self.current();
        for (key, _) in state.iter().filter(|(_, stored)| over(stored)) {
            let is_of_key = |effect: &Effect| match effect {
                Effect::Put(of, _) | Effect::Touch(of, _) | Effect::Slide(of, ..) => of == key,
                _ => false,
            };
            let last = self.writes.iter_mut().rev().find(|w| w.effects.iter().any(is_of_key));
            let Some(last) = last.filter(|last| last.durability == Durability::Periodic) else {
                continue;
            };
            if let [Effect::Put(_, stored)] = last.effects.as_mut_slice() {
                stored.evicted = true;
            }
        }
    }

    /// The store has forgotten `key`. That is in no order with writes that are only staged.
    pub fn evicted(&mut self, key: &[u8]) {
        self.learn(key, Effect::Evict(key.to_vec()));
    }

    /// Notes what was learned of whether `key` is forgotten.
    pub fn learn(&mut self, key: &[u8], learned: Effect) {
        let is_staged = |write: &&Write| write.durability == Durability::Periodic;
        let staged = self.writes.iter().rev().take_while(is_staged).count();
        let is_of_key = |effect: &Effect| match effect {
            Effect::Put(of, _) | Effect::Touch(of, _) | Effect::Slide(of, ..) => of == key,
            _ => false,
        };
        let last = self.writes.iter().rposition(|write| write.effects.iter().any(is_of_key));
        let at = (self.writes.len() - staged).max(last.map_or(0, |last| last + 1));
        let write = Write::new(vec![learned], Durability::Buffered);
        self.writes.insert(at, write);
        for bound in [&mut self.durable, &mut self.process, &mut self.logged] {
            *bound += usize::from(at < *bound);
        }
    }

    /// The write that began failed: it may be there or not.
    pub fn fail(&mut self) {
        for mut write in std::mem::take(&mut self.in_flight) {
            write.failed = Some(false);
            self.writes.push(write);
        }
    }

    /// Nothing is staged: every write so far is in the log.
    pub const fn nothing_staged(&mut self) {
        self.logged = self.writes.len();
    }

    /// Staged writes that could not be flushed were overtaken by the write that began: a crash may take any of them.
    pub fn overtaken(&mut self) {
        let first = self.process.max(self.durable).max(self.logged);
        for write in self.writes.iter_mut().skip(first) {
            if write.durability == Durability::Periodic && write.failed.is_none() {
                write.failed = Some(true);
            }
        }
    }

    /// The first of the writes that began was refused before it did anything.
    pub fn refuse_first(&mut self) {
        drop(self.in_flight.drain(..1));
    }

    /// The operation that began was refused before it did anything.
    pub fn refuse(&mut self) {
        self.in_flight.clear();
    }

    /// Everything acknowledged so far is on the device.
    pub fn synced(&mut self) {
        self.durable = self.writes.len();
        self.process = self.writes.len();
        self.compact();
    }

    /// Power failed: what only the process's death could not take may be gone now.
    pub const fn power_failed(&mut self) {
        self.process = self.durable;
    }

    /// Takes note of which failed writes reads show.
    pub fn note_shown(&mut self, fit: &Fit) {
        for (at, write) in self.writes.iter_mut().enumerate() {
            if write.failed.is_some() {
                write.failed = Some(fit.shown.contains(&at));
            }
        }
    }

    /// Folds what is certain into the base.
    fn compact(&mut self) {
        let durable = self.writes.iter().take(self.durable);
        let count = durable.take_while(|write| write.failed.is_none()).count();
        for write in self.writes.drain(..count) {
            write.apply(&mut self.base);
        }
        for bound in [&mut self.durable, &mut self.process, &mut self.logged] {
            *bound = bound.saturating_sub(count);
        }
    }

    /// Looks for an explanation of what was seen among all that `kind` allows. `seen` says whether a state fits.
    pub fn explain(&self, kind: CrashKind, mut seen: impl FnMut(&State) -> bool) -> Option<Fit> {
        let least = match kind {
            CrashKind::None => self.writes.len(),
            CrashKind::Process => self.process.max(self.durable),
            CrashKind::Power => self.durable,
        };
        let in_flight = if kind == CrashKind::None { &[][..] } else { &self.in_flight };
        let doomed = if kind == CrashKind::None { Vec::new() } else { self.evicted_later() };
        let doom = |at: Option<usize>, state: &mut State| {
            for (_, key) in doomed.iter().filter(|(put, _)| *put == at) {
                if let Some(stored) = state.get_mut(key) {
                    stored.evicted = true;
                }
            }
        };
        let ways = if kind == CrashKind::None { vec![BTreeSet::new()] } else { self.replaced() };
        let choices = self.choices();
        for (shown, replaced) in
            ways.iter().flat_map(|way| choices.iter().map(move |shown| (shown, way)))
        {
            let mut state = self.base.clone();
            doom(None, &mut state);
            let mut fit: Option<Fit> = None;
            let counts = |at: usize, write: &Write| {
                let is_there = write.failed.is_none() || shown.contains(&at);
                is_there && !replaced.contains(&at)
            };
            let mut note = |prefix: usize, state: &State| {
                if prefix < least || !seen(state) {
                    return;
                }
                let Some(fit) = &mut fit else {
                    fit = Some(Fit { prefix, state: state.clone(), shown: shown.clone() });
                    return;
                };
                // Nobody can tell which prefix it was: what was evicted in one of them may come back.
                let evicted = state.iter().filter(|(_, stored)| stored.evicted);
                fit.state.extend(evicted.map(|(key, stored)| (key.clone(), stored.clone())));
            };
            for (at, write) in self.writes.iter().enumerate() {
                note(at, &state);
                if counts(at, write) {
                    write.apply(&mut state);
                    doom(Some(at), &mut state);
                }
            }
            // Each write that was going on may be there or not.
            for mask in 0..1_usize << in_flight.len() {
                let mut state = state.clone();
                let is_there = |at: &usize| mask & (1 << at) != 0;
                (0..in_flight.len())
                    .filter(is_there)
                    .for_each(|at| in_flight[at].apply(&mut state));
                note(self.writes.len() + mask.count_ones() as usize, &state);
            }
            if fit.is_some() {
                return fit;
            }
        }
        None
    }

    /// Sets of staged writes that the log may not have got because their keys were staged again: none first, and then
    /// those of each row of writes that one flush may have taken. A flush that is too large for one segment goes in
    /// several batches, so a crash can leave what was staged after such a write without it.
    fn replaced(&self) -> Vec<BTreeSet<usize>> {
        let mut all = vec![BTreeSet::new()];
        for first in 0..self.writes.len() {
            let mut staged: BTreeMap<&Vec<u8>, usize> = BTreeMap::new();
            let mut replaced = BTreeSet::new();
            for (at, write) in self.writes.iter().enumerate().skip(first) {
                match write.effects.as_slice() {
                    [Effect::Put(key, _) | Effect::Delete(key)]
                        if write.durability == Durability::Periodic =>
                    {
                        if let Some(before) = staged.insert(key, at) {
                            replaced.insert(before);
                            all.push(replaced.clone());
                        }
                    }
                    [Effect::Evict(_) | Effect::Hide(_) | Effect::Show(_)] => {}
                    _ => break,
                }
            }
        }
        all
    }

    /// Entries that were evicted, each with the write that stored it (`None`: it is in the base). Compaction may have
    /// made the eviction durable before the writes that came between: then it holds in earlier states too.
    fn evicted_later(&self) -> Vec<(Option<usize>, Vec<u8>)> {
        let mut stored: BTreeMap<&Vec<u8>, usize> = BTreeMap::new();
        let mut doomed = Vec::new();
        for (at, write) in self.writes.iter().enumerate() {
            for effect in &write.effects {
                match effect {
                    Effect::Put(key, _) => drop(stored.insert(key, at)),
                    Effect::Evict(key) => doomed.push((stored.get(key).copied(), key.clone())),
                    Effect::Delete(_)
                    | Effect::Touch(..)
                    | Effect::Slide(..)
                    | Effect::Cut(_)
                    | Effect::Hide(_)
                    | Effect::Show(_) => {}
                }
            }
        }
        doomed
    }

    /// The sets of failed writes that may be there: all sets of a few, and the plain ones of many.
    fn choices(&self) -> Vec<BTreeSet<usize>> {
        let failed = self.writes.iter().enumerate().filter(|(_, write)| write.failed.is_some());
        let failed: Vec<usize> = failed.map(|(at, _)| at).collect();
        let pick = |mask: u64| {
            let bit = |index: usize| mask & (1 << index) != 0;
            failed.iter().enumerate().filter(|(index, _)| bit(*index)).map(|(_, at)| *at).collect()
        };
        if failed.len() <= 6 {
            return (0..1_u64 << failed.len()).map(pick).collect();
        }
        let shown = |at: &&usize| self.writes[**at].failed == Some(true);
        let noted = failed.iter().filter(shown).copied().collect();
        let mut choices = vec![noted, BTreeSet::new(), failed.iter().copied().collect()];
        choices.extend(failed.iter().map(|at| BTreeSet::from([*at])));
        choices
    }
}

/// The entries of a state that reads show at `now`.
pub fn live(state: &State, now: Timestamp) -> impl Iterator<Item = (&Vec<u8>, &Stored)> {
    held(state, now).filter(|(_, stored)| !stored.evicted)
}

/// The entries of a state that have not expired at `now`, evicted ones too.
pub fn held(state: &State, now: Timestamp) -> impl Iterator<Item = (&Vec<u8>, &Stored)> {
    state.iter().filter(move |(_, stored)| is_live(stored.expires_at, now))
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
