//! What a store shows through every one of its ways to read, and whether a [`Model`] can explain it.

use std::collections::BTreeMap;

use tierce_engine::{
    Engine, Entry, Follower, Timestamp,
    format::record::{Draft, Extension, Flags, ITEM_SCOPE, Kind, encode, push_item},
    is_live,
};

use crate::model::{CrashKind, Fit, Model, State, Stored, live};

/// What is known of entries that were evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// They are gone.
    Gone,
    /// They may be back, with what they last were.
    Back,
    /// They may be back, and any other evictable entry may be gone.
    Unknown,
}

/// Everything a store shows at one moment.
pub struct Observation {
    entries: BTreeMap<Vec<u8>, Entry>,
    now: Timestamp,
}

impl Observation {
    /// Iterates, and reads `keys` in every other way: all must agree.
    ///
    /// # Errors
    /// The first disagreement or failed read.
    pub fn of<'a>(
        engine: &Engine,
        keys: impl IntoIterator<Item = &'a Vec<u8>>,
    ) -> Result<Self, String> {
        let failed = |error| format!("a read failed: {error}");
        let mut entries = BTreeMap::new();
        for item in engine.iter().map_err(failed)? {
            let (key, entry) = item.map_err(failed)?;
            let shown = brief(&key);
            if entries.insert(key, entry).is_some() {
                return Err(format!("iteration shows {shown} twice"));
            }
        }
        let keys: Vec<&Vec<u8>> = keys.into_iter().collect();
        let many = engine.get_many(&keys).map_err(failed)?;
        for (key, of_many) in keys.into_iter().zip(many) {
            let iterated = entries.get(key);
            let got = engine.get(key).map_err(failed)?;
            let entry = engine.entry(key).map_err(failed)?;
            let there = engine.contains_key(key).map_err(failed)?;
            let value = iterated.map(|entry| entry.value.as_ref());
            let agree = got.as_ref().map(AsRef::as_ref) == value
                && of_many.as_ref().map(AsRef::as_ref) == value
                && there == value.is_some()
                && entry.as_ref().map(facts) == iterated.map(facts);
            if !agree {
                return Err(format!(
                    "ways to read {} disagree: iteration {:?}, get {:?}, get_many {:?}, entry {:?}, there {there}",
                    brief(key),
                    value.map(brief),
                    got.as_ref().map(|value| brief(value.as_ref())),
                    of_many.as_ref().map(|value| brief(value.as_ref())),
                    entry.as_ref().map(|entry| brief(entry.value.as_ref())),
                ));
            }
        }
        Ok(Self { entries, now: engine.now() })
    }

    /// As [`Self::of`], of a reader beside the store.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn of_follower<'a>(
        follower: &Follower,
        keys: impl IntoIterator<Item = &'a Vec<u8>>,
    ) -> Result<Self, String> {
        let failed = |error| format!("a read of a follower failed: {error}");
        let mut entries = BTreeMap::new();
        for item in follower.iter() {
            let (key, entry) = item.map_err(failed)?;
            entries.insert(key, entry);
        }
        for key in keys {
            let entry = follower.entry(key).map_err(failed)?;
            if entry.as_ref().map(facts) != entries.get(key).map(facts) {
                return Err(format!("ways to read {} in a follower disagree", brief(key)));
            }
        }
        Ok(Self { entries, now: follower.now() })
    }

    /// Highest sequence number of an entry.
    #[must_use]
    pub fn newest_sequence(&self) -> u64 {
        self.entries.values().map(|entry| entry.sequence.0).max().unwrap_or_default()
    }

    /// Whether this is just `state`, at this moment, as far as `evicted` says.
    #[must_use]
    pub fn is(&self, state: &State, evicted: Evicted) -> bool {
        let mut seen = 0;
        let may_be_held = |stored: &Stored| match evicted {
            Evicted::Gone => is_live(stored.expires_at, self.now),
            Evicted::Back | Evicted::Unknown => is_live(stored.expires_at_most(), self.now),
        };
        for (key, stored) in state.iter().filter(|(_, stored)| may_be_held(stored)) {
            let fits = match self.entries.get(key) {
                Some(entry) => {
                    seen += 1;
                    let is_back = evicted != Evicted::Gone;
                    let may_be = !stored.evicted || stored.hidden || is_back;
                    may_be && same(stored, entry, is_back)
                }
                None => {
                    stored.evicted
                        || stored.hidden
                        || (stored.evictable && evicted == Evicted::Unknown)
                        || (evicted != Evicted::Gone && self.may_be_over(stored))
                }
            };
            if !fits {
                return false;
            }
        }
        seen == self.entries.len()
    }

    /// Whether a crash may have taken back so much of its expiry that it is over.
    fn may_be_over(&self, stored: &Stored) -> bool {
        stored.expires_at_least().is_some_and(|at| at <= self.now)
    }

    /// Corrects what `state` says of evictions and of slid expiries by what is seen, for the entries that are asked for.
    fn note_seen(&self, state: &mut State, is_asked: impl Fn(&Stored) -> bool) {
        let now = self.now;
        let is_slid = |stored: &Stored| stored.slid_ms + stored.taken_ms > 0 && is_asked(stored);
        for (key, stored) in state.iter_mut().filter(|(_, stored)| is_slid(stored)) {
            let least = stored.expires_at_least();
            let seen = match self.entries.get(key) {
                Some(entry) => entry.expires_at,
                None if self.may_be_over(stored) && !stored.evicted => least,
                None => continue,
            };
            let (ms, most) =
                (|at: Option<Timestamp>| at.map_or(0, |at| at.0), stored.expires_at_most());
            stored.slid_ms = ms(seen).saturating_sub(ms(least));
            stored.taken_ms = ms(most).saturating_sub(ms(seen));
            stored.expires_at = seen;
        }
        for (key, stored) in state.iter_mut().filter(|(_, stored)| is_asked(stored)) {
            if is_live(stored.expires_at, now) {
                (stored.evicted, stored.hidden) = (!self.entries.contains_key(key), false);
            } else {
                // It cannot be seen: one that was evicted may be back.
                stored.hidden |= stored.evicted;
            }
        }
    }

    /// How this differs from `state`, for people.
    #[must_use]
    pub fn difference(&self, state: &State) -> String {
        let mut lines = Vec::new();
        for (key, stored) in live(state, self.now) {
            match self.entries.get(key) {
                None => lines.push(format!(
                    "{} is missing, expected {}",
                    brief(key),
                    stored_facts(stored)
                )),
                Some(entry) if !same(stored, entry, false) => {
                    let (found, expected) = (entry_facts(entry), stored_facts(stored));
                    lines.push(format!("{} is {found}, expected {expected}", brief(key)));
                }
                Some(_) => {}
            }
        }
        let expected = |key: &Vec<u8>| live(state, self.now).any(|(of, _)| of == key);
        for (key, entry) in self.entries.iter().filter(|(key, _)| !expected(key)) {
            lines.push(format!("{} is {}, expected nothing", brief(key), entry_facts(entry)));
        }
        lines.join("; ")
    }

    /// Bytes of the records that the entries shown stand in.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.entries.iter().map(|(key, entry)| record_bytes(key, entry)).sum()
    }

    /// Count of entries.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.entries.len() as u64
    }
}

impl Model {
    /// Whether the store is what a crash of this kind may have left; says how.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn check_after_crash(&self, engine: &Engine, kind: CrashKind) -> Result<Fit, String> {
        self.check_as(engine, kind, self.evicted_after(kind))
    }

    /// What is known of evicted entries after a crash of this kind.
    pub(crate) const fn evicted_after(&self, kind: CrashKind) -> Evicted {
        match kind {
            CrashKind::None => Evicted::Gone,
            _ if self.evicts() => Evicted::Unknown,
            _ => Evicted::Back,
        }
    }

    /// As [`Self::check_after_crash`], with what is known of evicted entries.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn check_as(
        &self,
        engine: &Engine,
        kind: CrashKind,
        evicted: Evicted,
    ) -> Result<Fit, String> {
        let seen = Observation::of(engine, self.keys())?;
        self.check_seen(engine, kind, evicted, (seen, None))
    }

    /// As [`Self::check_after_crash`] of a store whose time is in doubt: what a clock in doubt hides tells nothing, so
    /// `sure` is the same store without that clock, and the state must explain both.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn check_in_doubt(
        &self,
        engine: &Engine,
        kind: CrashKind,
        evicted: Evicted,
        sure: &Engine,
    ) -> Result<Fit, String> {
        let seen = Observation::of(engine, self.keys())?;
        let sure = Observation::of(sure, self.keys())?;
        self.check_seen(engine, kind, evicted, (seen, Some(sure)))
    }

    fn check_seen(
        &self,
        engine: &Engine,
        kind: CrashKind,
        evicted: Evicted,
        (seen, sure): (Observation, Option<Observation>),
    ) -> Result<Fit, String> {
        let explains = |state: &State| {
            seen.is(state, evicted) && sure.as_ref().is_none_or(|sure| sure.is(state, evicted))
        };
        let mut fit = self.explain(kind, explains).ok_or_else(|| {
            let (durable, length) = self.bounds();
            format!(
                "no prefix of {durable} to {length} writes explains the store after {kind:?}; to the newest state: {}",
                seen.difference(&self.current())
            )
        })?;
        check_accounts(engine, &seen, self.accounts_are_exact())?;
        let is_shown = |stored: &Stored| is_live(stored.expires_at_most(), seen.now);
        seen.note_seen(&mut fit.state, |stored| sure.is_none() || is_shown(stored));
        if let Some(sure) = &sure {
            sure.note_seen(&mut fit.state, |stored| !is_shown(stored));
            // A copy does not know of evictions what the open store knows.
            let hidden = fit.state.values_mut().filter(|stored| !is_shown(stored));
            hidden.for_each(|stored| stored.hidden |= stored.evictable);
        }
        Ok(fit)
    }

    /// Whether the store shows every acknowledged write and nothing else.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn check(&self, engine: &Engine) -> Result<Fit, String> {
        self.check_after_crash(engine, CrashKind::None)
    }
}

fn check_accounts(engine: &Engine, seen: &Observation, exact: bool) -> Result<(), String> {
    let stats = engine.stats();
    if stats.sequence < seen.newest_sequence() && stats.staged == 0 {
        let newest = seen.newest_sequence();
        return Err(format!("stats know sequence {}, an entry has {newest}", stats.sequence));
    }
    let fits = stats.staged > 0
        || (stats.entries == seen.count() && is_weight(stats.live_bytes, seen.live_bytes()))
        || (!exact && stats.entries >= seen.count());
    if fits {
        return Ok(());
    }
    Err(format!(
        "stats count {} entries of {} bytes, iteration shows {} of {}",
        stats.entries,
        stats.live_bytes,
        seen.count(),
        seen.live_bytes()
    ))
}

/// Whether `weight` is what records of `bytes` are counted as: up to half a percent more.
const fn is_weight(weight: u64, bytes: u64) -> bool {
    bytes <= weight && weight <= bytes + bytes / 200
}

fn record_bytes(key: &[u8], entry: &Entry) -> u64 {
    let mut items = Vec::new();
    for scope in &entry.scopes {
        push_item(&mut items, ITEM_SCOPE, scope);
    }
    for (kind, bytes) in &entry.items {
        push_item(&mut items, *kind, bytes);
    }
    let plain = items.is_empty() && entry.codec == 0 && entry.schema == 0;
    let extension = Extension { codec: entry.codec, schema: entry.schema, items: &items };
    let mut record = Vec::new();
    let draft = Draft {
        kind: Kind::Put,
        flags: Flags::default(),
        key,
        value: entry.value.as_ref(),
        expires_at: entry.expires_at,
        extension: (!plain).then_some(extension),
    };
    encode(&draft, &mut record);
    record.len() as u64
}

type Facts<'a> = (&'a [u8], u64, Option<Timestamp>, bool, &'a [Vec<u8>]);

fn facts(entry: &Entry) -> Facts<'_> {
    let Entry { value, sequence, expires_at, evictable, scopes, .. } = entry;
    (value.as_ref(), sequence.0, *expires_at, *evictable, scopes)
}

/// Whether the entry is what is stored; `is_back`: after a crash, which may have taken a part of a slid expiry.
fn same(stored: &Stored, entry: &Entry, is_back: bool) -> bool {
    let slid = stored.expires_at_least()..=stored.expires_at_most();
    *stored.value == *entry.value.as_ref()
        && (stored.expires_at == entry.expires_at || (is_back && slid.contains(&entry.expires_at)))
        && stored.evictable == entry.evictable
        && stored.scopes == entry.scopes
        && stored.sequence.is_none_or(|sequence| sequence == entry.sequence.0)
}

fn entry_facts(entry: &Entry) -> String {
    let (value, sequence, expires_at, evictable, scopes) = facts(entry);
    format!("{} #{sequence} {expires_at:?} evictable={evictable} {scopes:?}", brief(value))
}

fn stored_facts(stored: &Stored) -> String {
    let Stored { value, expires_at, evictable, scopes, sequence, evicted, slid_ms, .. } = stored;
    let sequence = sequence.map_or("?".to_owned(), |sequence| sequence.to_string());
    format!(
        "{} #{sequence} {expires_at:?} -{slid_ms} evictable={evictable} evicted={evicted} {scopes:?}",
        brief(value)
    )
}

/// The first bytes and the length.
fn brief(bytes: &[u8]) -> String {
    let head = bytes[..bytes.len().min(12)].escape_ascii();
    format!("\"{head}\"({})", bytes.len())
}
