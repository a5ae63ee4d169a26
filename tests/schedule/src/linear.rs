//! Linearizability checker: looks for an order of what clients did to one key that explains all they saw.
//!
//! The search is that of Wing and Gong: of the operations that may come first, each is tried in turn, and what was
//! tried is remembered by the set of operations that are done and the state they left. An operation that failed may
//! take effect at any time after it began, or never. Time is part of the state: an entry is live or not as its
//! expiry and the store time of the operation say.

use std::collections::{BTreeSet, HashSet};

/// When an entry ends: a range, since a slide counts from a moment that only the store knows. `None`: never.
pub(crate) type Expiry = Option<(u64, u64)>;

/// What a put stores.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Stored {
    /// Names the value: every put of a run stores another one.
    pub(crate) id: u64,
    /// When it ends.
    pub(crate) expires: Expiry,
    /// Whether the store may evict it.
    pub(crate) evictable: bool,
    /// The scope it belongs to.
    pub(crate) scope: Option<u8>,
    /// Its sequence number, if the store said it.
    pub(crate) sequence: Option<u64>,
    /// Whether its expiry was moved by a slide, which a crash may take back in part.
    pub(crate) slid: bool,
}

/// What a read saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The value.
    pub(crate) id: u64,
    /// When it ends.
    pub(crate) expires: Option<u64>,
    /// Its sequence number; 0 if it is only staged.
    pub(crate) sequence: u64,
}

/// What was done.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A put; conditional on absence if `absent` is set, and then whether it was done.
    Put { stored: Stored, absent: bool, done: bool },
    /// A delete, and whether it found something.
    Delete { found: Option<bool> },
    /// A touch or slide, and whether it found something.
    Touch { expires: Expiry, found: Option<bool>, slides: bool },
    /// An update: what it saw last, and what it stored; `None` deletes.
    Update { saw: Option<Seen>, stored: Option<Stored> },
    /// A read.
    Read { seen: Option<Seen> },
    /// A read of the files beside the store.
    Follow { seen: Option<Seen> },
    /// What a call that failed may have left in the files between its beginning and its end, for readers of the files
    /// only: it is in a file before the sync that fails.
    InFiles(Box<Kind>),
    /// The store was recovered: what it had rolled back is in no file any more.
    Recovered,
    /// The entries of a scope are ended.
    Cut { scope: u8 },
    /// Everything before is on the device.
    Sync,
    /// The store was opened without what it knew of evictions: what was evicted may be back.
    Forgotten,
}

/// Something that a client did to the key.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// When it began and ended, in steps of the scheduler; `u64::MAX` if it failed or never ended.
    pub(crate) start: u64,
    /// See `start`.
    pub(crate) end: u64,
    /// Store time when it began and ended.
    pub(crate) time: (u64, u64),
    /// What.
    pub(crate) kind: Kind,
    /// Whether a crash may not take it.
    pub(crate) durable: bool,
    /// An event that comes before this one although both were going on: tickets are carried out in order.
    pub(crate) after: Option<usize>,
}

/// What the store allows beyond plain keeping.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// Evictable entries may go at any time.
    pub(crate) evicts: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    now: Option<Stored>,
    /// What may be there after a crash.
    survivors: BTreeSet<Option<Stored>>,
    /// What was evicted: that is not on record.
    ghost: Option<Stored>,
    /// What the files show, if it is not what the store shows: a write that failed.
    in_files: Option<Option<Stored>>,
    newest: u64,
}

impl State {
    fn set(&self, now: Option<Stored>, durable: bool) -> Self {
        let mut next = self.clone();
        if let Some(sequence) = now.as_ref().and_then(|stored| stored.sequence) {
            next.newest = next.newest.max(sequence);
        }
        next.now.clone_from(&now);
        next.ghost = None;
        next.in_files = None;
        if durable {
            next.survivors.clear();
        }
        next.survivors.insert(now);
        next
    }

    fn shown_in_files(&self) -> Option<Stored> {
        self.in_files.clone().unwrap_or_else(|| self.now.clone())
    }

    fn evicted(&self) -> Self {
        let mut next = self.clone();
        next.ghost = next.now.take();
        next.survivors.insert(None);
        next
    }

    fn synced(&self) -> Self {
        let mut next = self.clone();
        next.survivors = BTreeSet::from([next.now.clone()]);
        if next.ghost.is_some() {
            next.survivors.insert(next.ghost.clone());
        }
        next
    }
}

fn may_live(stored: &Stored, time: (u64, u64)) -> bool {
    stored.expires.is_none_or(|(_, latest)| latest > time.0)
}

fn may_be_over(stored: &Stored, time: (u64, u64)) -> bool {
    stored.expires.is_some_and(|(earliest, _)| earliest <= time.1)
}

/// Whether a read that saw `seen` may have read `stored`; what is known of the entry then.
fn shown(stored: &Stored, seen: &Seen) -> Option<Stored> {
    let fits = match (stored.expires, seen.expires) {
        (None, None) => true,
        (Some((earliest, latest)), Some(at)) => (earliest..=latest).contains(&at),
        _ => false,
    };
    let same = match stored.sequence {
        Some(sequence) if seen.sequence > 0 => sequence == seen.sequence,
        _ => true,
    };
    let expires = seen.expires.map(|at| (at, at));
    (stored.id == seen.id && fits && same).then(|| Stored { expires, ..stored.clone() })
}

/// The states that `event` may leave.
fn outcomes(state: &State, event: &Event, rules: Rules) -> Vec<State> {
    let time = event.time;
    let live = state.now.as_ref().is_some_and(|stored| may_live(stored, time));
    let gone = state
        .now
        .as_ref()
        .is_none_or(|stored| may_be_over(stored, time) || (rules.evicts && stored.evictable));
    let durable = event.durable;
    match &event.kind {
        Kind::Put { stored, absent, done } => {
            if *absent && !done {
                return if live { vec![state.clone()] } else { Vec::new() };
            }
            let in_order = stored.sequence.is_none_or(|sequence| sequence > state.newest);
            if (*absent && !gone) || !in_order {
                return Vec::new();
            }
            vec![state.set(Some(stored.clone()), durable)]
        }
        Kind::Delete { found } => {
            let fits = match found {
                Some(true) => live,
                Some(false) => gone,
                None => true,
            };
            // What finds nothing writes nothing.
            let in_files = state.in_files.clone().filter(|_| *found == Some(false));
            let next = State { in_files, ..state.set(None, durable) };
            if fits { vec![next] } else { Vec::new() }
        }
        Kind::Touch { expires, found, slides } => {
            touched(state, event, (*expires, *slides), *found, rules)
        }
        Kind::Update { saw, stored } => match saw {
            Some(seen) => {
                let fits = state.now.as_ref().filter(|_| live).and_then(|now| shown(now, seen));
                fits.map(|_| vec![state.set(stored.clone(), durable)]).unwrap_or_default()
            }
            None if gone => vec![state.set(stored.clone(), durable && stored.is_some())],
            None => Vec::new(),
        },
        Kind::Read { seen: None } => without(state, time, rules),
        Kind::Read { seen: Some(seen) } => {
            let fits = state.now.as_ref().filter(|_| live).and_then(|now| shown(now, seen));
            fits.map(|now| vec![State { now: Some(now), ..state.clone() }]).unwrap_or_default()
        }
        Kind::Cut { scope } => {
            let hit = state.now.as_ref().is_some_and(|stored| stored.scope == Some(*scope));
            if hit { vec![state.set(None, durable)] } else { vec![state.clone()] }
        }
        Kind::Follow { seen } => followed(state, event, seen.as_ref(), rules),
        Kind::InFiles(write) => left_in_files(state, event, write, rules),
        Kind::Recovered => vec![State { in_files: None, ..state.clone() }],
        Kind::Sync => vec![state.synced()],
        Kind::Forgotten => {
            let mut next = vec![State { now: state.now.clone().map(unslid), ..state.clone() }];
            if let Some(ghost) = &state.ghost {
                next.push(state.set(Some(unslid(ghost.clone())), false));
            }
            next
        }
    }
}

/// The states that a write that fails may leave: the store shows nothing of it, and its files may.
fn left_in_files(state: &State, event: &Event, write: &Kind, rules: Rules) -> Vec<State> {
    let shown = State { now: state.shown_in_files(), ..state.clone() };
    let write = Event { kind: write.clone(), ..event.clone() };
    let left = outcomes(&shown, &write, rules).into_iter();
    let left = left.map(|left| State { in_files: Some(left.now), ..state.clone() });
    left.chain([state.clone()]).collect()
}

/// The states that a reader of the files may leave: it sees what the store shows, or what a write that failed left.
fn followed(state: &State, event: &Event, seen: Option<&Seen>, rules: Rules) -> Vec<State> {
    let read = Event { kind: Kind::Read { seen: seen.cloned() }, ..event.clone() };
    // What is over by the follower's own clock may not be by the store's: reading nothing changes nothing.
    let keeps = |next: State| if seen.is_none() { state.clone() } else { next };
    let mut next: Vec<State> = outcomes(state, &read, rules).into_iter().map(keeps).collect();
    if state.in_files.is_some() {
        let shown = State { now: state.shown_in_files(), ..state.clone() };
        next.extend(outcomes(&shown, &read, rules).first().map(|_| state.clone()));
    }
    next
}

/// Of a slide a part is only in memory and in the checkpoint.
fn unslid(stored: Stored) -> Stored {
    match stored.expires {
        Some((_, latest)) if stored.slid => Stored { expires: Some((0, latest)), ..stored },
        _ => stored,
    }
}

fn touched(
    state: &State,
    event: &Event,
    (expires, slides): (Expiry, bool),
    found: Option<bool>,
    rules: Rules,
) -> Vec<State> {
    let mut next = Vec::new();
    let live = state.now.as_ref().is_some_and(|stored| may_live(stored, event.time));
    if live && found != Some(false) {
        // A touch is part of the version: the entry has its sequence number from then on.
        let moved = |stored| Stored { expires, slid: slides, sequence: None, ..stored };
        let now = state.now.clone().map(moved);
        next.push(state.set(now, event.durable && !slides));
    }
    if found != Some(true) {
        next.extend(without(state, event.time, rules));
    }
    next
}

/// The states in which the key was found absent: what stood there is over, or was evicted. What is over stays: if that
/// was by a clock in doubt, it may be served again.
fn without(state: &State, time: (u64, u64), rules: Rules) -> Vec<State> {
    let over = state.now.as_ref().is_none_or(|stored| may_be_over(stored, time));
    let may_go = rules.evicts && state.now.as_ref().is_some_and(|stored| stored.evictable);
    let stays = over.then(|| state.clone());
    stays.into_iter().chain(may_go.then(|| state.evicted())).collect()
}

/// What a crash left of the key.
#[derive(Clone, Debug)]
pub(crate) struct After {
    /// What is read then.
    pub(crate) seen: Option<Seen>,
    /// Store time.
    pub(crate) time: u64,
    /// Store time before the crash: what was over by then may stay away, also if the clock was set back since.
    pub(crate) before: u64,
}

fn survives(state: &State, after: &After, rules: Rules) -> bool {
    let time = (after.time, after.time);
    state.survivors.iter().any(|survivor| match (survivor, &after.seen) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some(stored), None) => {
            let time = (after.time, after.time.max(after.before));
            may_be_over(stored, time) || stored.slid || (rules.evicts && stored.evictable)
        }
        (Some(stored), Some(seen)) => {
            let same = stored.sequence.is_none_or(|sequence| sequence == seen.sequence);
            let slid = stored.slid && stored.id == seen.id && same;
            slid || (may_live(stored, time) && shown(stored, seen).is_some())
        }
    })
}

struct Search<'a> {
    events: &'a [Event],
    rules: Rules,
    after: Option<&'a After>,
    tried: HashSet<(u128, State)>,
    best: u128,
    /// It went beyond [`STATES_MAX`]: whether there is an order stays open.
    gave_up: bool,
}

/// Most states of one search; the memory of a run would have no bound otherwise.
const STATES_MAX: usize = 1_000_000;

impl Search<'_> {
    fn go(&mut self, done: u128, state: &State) -> bool {
        if done.count_ones() > self.best.count_ones() {
            self.best = done;
        }
        let is_open = |at: usize| done & (1 << at) == 0;
        let all = self.events.iter().enumerate().all(|(at, e)| !is_open(at) || e.end == u64::MAX);
        if all && self.after.is_none_or(|after| survives(state, after, self.rules)) {
            return true;
        }
        if !self.tried.insert((done, state.clone())) {
            return false;
        }
        if self.tried.len() >= STATES_MAX {
            self.gave_up = true;
            return true;
        }
        let open = self.events.iter().enumerate().filter(|(at, _)| is_open(*at));
        let first_end = open.map(|(_, event)| event.end).min().unwrap_or(u64::MAX);
        for (at, event) in self.events.iter().enumerate() {
            let waits = event
                .after
                .is_some_and(|before| is_open(before) && self.events[before].end != u64::MAX);
            if !is_open(at) || event.start > first_end || waits {
                continue;
            }
            for next in outcomes(state, event, self.rules) {
                if self.go(done | (1 << at), &next) {
                    return true;
                }
            }
        }
        false
    }
}

/// Whether some order explains `events`, and what a crash left if there was one.
///
/// # Errors
/// The events, with a mark at those that the best attempt explained.
pub(crate) fn check(events: &[Event], rules: Rules, after: Option<&After>) -> Result<(), String> {
    assert!(events.len() <= 128, "more events of one key than the search can hold");
    let survivors = BTreeSet::from([None]);
    let state = State { now: None, survivors, ghost: None, in_files: None, newest: 0 };
    let mut search =
        Search { events, rules, after, tried: HashSet::new(), best: 0, gave_up: false };
    if search.go(0, &state) {
        if search.gave_up {
            eprintln!("undecided: {} events of one key, {STATES_MAX} states tried", events.len());
        }
        return Ok(());
    }
    let lines = events.iter().enumerate().map(|(at, event)| {
        let mark = if search.best & (1 << at) == 0 { "??" } else { "ok" };
        let end = if event.end == u64::MAX { "-".to_owned() } else { event.end.to_string() };
        let (from, to) = event.time;
        let durable = if event.durable { " durable" } else { "" };
        format!("  {mark} {}..{end} at {from}..{to} {:?}{durable}", event.start, event.kind)
    });
    let after = after.map(|after| format!("\n  then {after:?}")).unwrap_or_default();
    Err(format!("no order explains\n{}{after}", lines.collect::<Vec<_>>().join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(id: u64) -> Stored {
        Stored { id, expires: None, evictable: false, scope: None, sequence: None, slid: false }
    }

    fn event(start: u64, end: u64, kind: Kind) -> Event {
        Event { start, end, time: (start, end), kind, durable: true, after: None }
    }

    fn put(id: u64) -> Kind {
        Kind::Put { stored: stored(id), absent: false, done: true }
    }

    fn read(id: u64) -> Kind {
        Kind::Read { seen: Some(Seen { id, expires: None, sequence: 0 }) }
    }

    /// Goal: a read that saw an older value after a newer one was acknowledged is found, and one that overlaps the
    /// newer write is not taken for a fault.
    #[test]
    fn a_stale_read_is_found() {
        let two = [event(0, 1, put(1)), event(2, 3, put(2))];
        let with = |start, end, kind| [&two[..], &[event(start, end, kind)]].concat();
        assert!(check(&with(4, 5, read(2)), Rules::default(), None).is_ok());
        assert!(check(&with(4, 5, read(1)), Rules::default(), None).is_err());
        assert!(check(&with(2, 5, read(1)), Rules::default(), None).is_ok());
    }

    /// Goal: an update that did not see an acknowledged touch is found.
    #[test]
    fn a_lost_touch_is_found() {
        let brief = Stored { expires: Some((50, 50)), ..stored(1) };
        let touch = Kind::Touch { expires: Some((900, 900)), found: Some(true), slides: false };
        let saw = Some(Seen { id: 1, expires: Some(50), sequence: 0 });
        let update = Kind::Update { saw, stored: Some(Stored { id: 2, ..brief.clone() }) };
        let first = event(0, 1, Kind::Put { stored: brief, absent: false, done: true });
        let late = Seen { id: 2, expires: Some(50), sequence: 0 };
        let events = [
            first,
            event(2, 5, update),
            event(3, 4, touch),
            event(6, 7, Kind::Read { seen: Some(late) }),
        ];
        assert!(check(&events, Rules::default(), None).is_err());
        assert!(check(&events[..3], Rules::default(), None).is_ok());
    }

    /// Goal: a reader of the files may see a write while it fails and until the store is recovered; not before it began,
    /// not after that, and no other reader sees it.
    #[test]
    fn a_failed_write_shows_in_files_only() {
        let failed = |end| Event { end: u64::MAX, ..event(2, end, put(2)) };
        let in_files = event(2, 5, Kind::InFiles(Box::new(put(2))));
        let follow = |start, end, id| {
            let Kind::Read { seen } = read(id) else { unreachable!() };
            event(start, end, Kind::Follow { seen })
        };
        let holds = |events: &[Event]| {
            let first = [event(0, 1, put(1)), failed(5), in_files.clone()];
            check(&[&first[..], events].concat(), Rules::default(), None).is_ok()
        };
        let later = event(20, 21, read(1));
        assert!(holds(&[follow(3, 4, 2), later.clone()]), "while it fails");
        assert!(holds(&[follow(3, 4, 1), follow(6, 7, 2), later.clone()]), "until a recovery");
        assert!(!holds(&[event(6, 7, read(2)), later.clone()]), "the store itself");
        assert!(
            !holds(&[follow(3, 4, 2), event(6, 7, read(2)), follow(8, 9, 1)]),
            "then it is done"
        );
        let recovered = event(8, 9, Kind::Recovered);
        assert!(holds(&[follow(6, 7, 2), recovered.clone(), follow(10, 11, 1), later.clone()]));
        assert!(!holds(&[recovered, follow(10, 11, 2), later.clone()]), "after a recovery");
        let next = event(12, 13, put(3));
        assert!(!holds(&[next, follow(14, 15, 2), event(20, 21, read(3))]), "after a later write");
    }

    /// Goal: what a crash may not take is asked for.
    #[test]
    fn a_lost_write_is_found() {
        let events = [event(0, 1, put(1)), event(2, 3, put(2))];
        let after =
            |id| After { seen: Some(Seen { id, expires: None, sequence: 0 }), time: 9, before: 9 };
        assert!(check(&events, Rules::default(), Some(&after(2))).is_ok());
        assert!(check(&events, Rules::default(), Some(&after(1))).is_err());
        let loose = [events[0].clone(), Event { durable: false, ..events[1].clone() }];
        assert!(check(&loose, Rules::default(), Some(&after(1))).is_ok());
    }
}
