//! What a group will change in the index, collected while it is written and shown when it is safe.
//!
//! Of several changes to one key only the last is shown: readers never see a state in the middle of a group.

use std::{collections::HashMap, sync::Arc};

use super::evict::Net;
use crate::{
    index::{Entry as IndexEntry, weight},
    lookup::Lookup,
    segment::Segment,
    types::{Location, SequenceNumber, Timestamp, Touch},
};

/// A key's state as the next op of the group finds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    pub(super) location: Location,
    pub(super) bytes: u64,
    /// Of its put.
    pub(super) sequence: SequenceNumber,
    /// Of its last change: of the put, or of a touch that came later.
    pub(super) version: SequenceNumber,
    /// Whether there may be a touch of it.
    pub(super) touched: bool,
    /// What its expiry comes from, if that is a touch.
    pub(super) touch: Option<Touch>,
    pub(super) live: bool,
    /// Its entry was evicted: the accounts do not have it any more.
    pub(super) evicted: bool,
    pub(super) evictable: bool,
    /// What its entry says of its last use.
    pub(super) epoch: u16,
    /// When it expires, touches counted.
    pub(super) expires_at: Option<Timestamp>,
}

impl Current {
    /// What it weighs in the accounts.
    fn weight(&self) -> u64 {
        weight(self.bytes)
    }

    /// Whether it can be absent now and there again after a crash: an eviction is not on record, and a clock that
    /// was set back makes what had expired live.
    pub(super) const fn may_return(&self) -> bool {
        self.evicted || self.expires_at.is_some()
    }
}

/// One change of what readers see.
#[derive(Debug)]
pub(super) enum Effect {
    Put {
        hash: u64,
        entry: IndexEntry,
        sequence: SequenceNumber,
        displaced: Option<Current>,
    },
    Delete {
        hash: u64,
        sequence: SequenceNumber,
        displaced: Current,
    },
    Touch {
        hash: u64,
        at: Location,
        touch: Touch,
    },
    Cut {
        scope: Vec<u8>,
        sequence: SequenceNumber,
    },
    /// A put (or a delete) that a later one of the same group supersedes.
    Unseen {
        is_put: bool,
    },
}

impl Effect {
    const fn unseen(&self) -> Self {
        Self::Unseen { is_put: matches!(self, Self::Put { .. } | Self::Unseen { is_put: true }) }
    }

    /// The same change, of the state that readers still see.
    fn displacing(self, original: Option<Current>) -> Self {
        match (self, original) {
            (Self::Put { hash, entry, sequence, .. }, displaced) => {
                Self::Put { hash, entry, sequence, displaced }
            }
            (Self::Delete { hash, sequence, .. }, Some(displaced)) => {
                Self::Delete { hash, sequence, displaced }
            }
            (Self::Delete { .. }, None) => Self::Unseen { is_put: false },
            (other, _) => other,
        }
    }
}

#[derive(Debug)]
struct State {
    /// What readers see until the group is shown.
    original: Option<Current>,
    /// What the next op finds.
    current: Option<Current>,
    /// The effects on this key that still count.
    effects: Vec<usize>,
}

/// What the ops of a group so far will have done.
#[derive(Debug)]
pub(super) struct Group {
    effects: Vec<Effect>,
    /// By key; kept only if some op may come behind another.
    states: Option<HashMap<Box<[u8]>, State>>,
}

/// Room for effects that is kept between groups.
const EFFECTS_KEPT: usize = 256;

impl Group {
    /// An empty group that uses the memory of `effects`. `tracks` says whether ops may come behind others.
    pub(super) fn new(effects: Vec<Effect>, tracks: bool) -> Self {
        Self { effects, states: tracks.then(HashMap::new) }
    }

    /// The memory of a group that is done.
    pub(super) fn into_memory(mut self) -> Vec<Effect> {
        self.effects.clear();
        self.effects.shrink_to(EFFECTS_KEPT);
        self.effects
    }

    /// What the ops before left of `key`; `None` if they did not touch it.
    pub(super) fn state(&self, key: &[u8]) -> Option<Option<Current>> {
        Some(self.states.as_ref()?.get(key)?.current)
    }

    /// What readers will see more, less what they will not see any more.
    pub(super) fn net(&self) -> Net {
        let of = |current: &Current| Net {
            entries: i64::from(!current.evicted),
            bytes: if current.evicted { 0 } else { current.weight().cast_signed() },
        };
        let mut net = Net::default();
        for effect in &self.effects {
            let (came, went) = match effect {
                Effect::Put { entry, displaced, .. } => {
                    let came = Net { entries: 1, bytes: entry.size.bytes().cast_signed() };
                    (came, displaced.as_ref().map(of))
                }
                Effect::Delete { displaced, .. } => (Net::default(), Some(of(displaced))),
                _ => continue,
            };
            let went = went.unwrap_or_default();
            net.entries += came.entries - went.entries;
            net.bytes += came.bytes - went.bytes;
        }
        net
    }

    /// Count and weight of the evictable entries that the group takes the place of.
    pub(super) fn shielded(&self) -> (u64, u64) {
        let displaced = |effect: &Effect| match effect {
            Effect::Put { displaced: Some(displaced), .. } | Effect::Delete { displaced, .. } => {
                Some(*displaced)
            }
            _ => None,
        };
        let may_go = |displaced: &Current| displaced.evictable && !displaced.evicted;
        let shielded = self.effects.iter().filter_map(displaced).filter(may_go);
        shielded.fold((0, 0), |sum, displaced| (sum.0 + 1, sum.1 + displaced.weight()))
    }

    /// Where the records stand whose entries the group takes the place of, sorted.
    pub(super) fn displaced(&self) -> Vec<Location> {
        let displaced = |effect: &Effect| match effect {
            Effect::Put { displaced: Some(displaced), .. } | Effect::Delete { displaced, .. } => {
                Some(displaced.location)
            }
            Effect::Touch { at, .. } => Some(*at),
            _ => None,
        };
        let mut all: Vec<_> = self.effects.iter().filter_map(displaced).collect();
        all.sort_unstable();
        all
    }

    pub(super) fn add_cut(&mut self, scope: &[u8], sequence: SequenceNumber) {
        self.effects.push(Effect::Cut { scope: scope.to_vec(), sequence });
    }

    /// An op found `before` and left `after`.
    pub(super) fn add(
        &mut self,
        key: &[u8],
        before: Option<Current>,
        effect: Effect,
        after: Option<Current>,
    ) {
        let this = self.effects.len();
        let Some(states) = &mut self.states else {
            self.effects.push(effect);
            return;
        };
        let Some(state) = states.get_mut(key) else {
            let state = State { original: before, current: after, effects: vec![this] };
            states.insert(key.into(), state);
            self.effects.push(effect);
            return;
        };
        state.current = after;
        if !matches!(effect, Effect::Touch { .. }) {
            for earlier in state.effects.drain(..) {
                self.effects[earlier] = self.effects[earlier].unseen();
            }
        }
        state.effects.push(this);
        let effect = match effect {
            touch @ Effect::Touch { .. } => touch,
            other => other.displacing(state.original),
        };
        self.effects.push(effect);
    }

    /// Lets readers see the group. `active` is the segment that most of its records stand in.
    pub(super) fn show(&mut self, lookup: &Lookup, active: Option<&Arc<Segment>>) {
        let Lookup { index, catalog, overrides, counters, tally, recency, .. } = lookup;
        let displace = |displaced: Current, by: SequenceNumber| {
            if !displaced.evicted {
                let weight = displaced.weight();
                catalog.count_dead(displaced.location.slot, weight, by);
                tally.sub(weight, displaced.evictable);
            }
            if displaced.touched {
                overrides.forget_touch(displaced.location);
            }
        };
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Put { hash, entry, sequence, displaced } => {
                    let weight = entry.size.bytes();
                    match active {
                        Some(active) if active.slot == entry.location.slot => {
                            active.count_live(weight);
                        }
                        _ => catalog.count_live(entry.location.slot, weight),
                    }
                    let epoch = match displaced {
                        Some(displaced) => recency.readmit(hash, displaced.epoch),
                        None => recency.admit(hash),
                    };
                    let entry = IndexEntry { epoch, ..entry };
                    let replaced = index.insert(hash, entry, displaced.map(|d| d.location));
                    debug_assert_eq!(replaced, displaced.is_some(), "what was displaced was there");
                    if let Some(displaced) = displaced {
                        displace(displaced, sequence);
                    }
                    // Order: what went is off the tally first, so that nobody sees more than the limit.
                    tally.add(weight, entry.flags & IndexEntry::EVICTABLE != 0);
                    counters.puts.add_alone(1);
                }
                Effect::Delete { hash, sequence, displaced } => {
                    let removed = index.remove(hash, displaced.location);
                    debug_assert!(removed, "what was deleted was there");
                    displace(displaced, sequence);
                    counters.deletes.add_alone(1);
                }
                Effect::Touch { hash, at, touch } => {
                    // Order: the new expiry is there before the entry says to look for it.
                    overrides.set_touch(at, touch);
                    let marked = index.mark(hash, at, IndexEntry::TOUCHED);
                    debug_assert!(marked, "what was touched was there");
                }
                Effect::Cut { scope, sequence } => overrides.cut(&scope, sequence),
                Effect::Unseen { is_put: true } => counters.puts.add_alone(1),
                Effect::Unseen { is_put: false } => counters.deletes.add_alone(1),
            }
        }
    }
}
