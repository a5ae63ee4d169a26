//! Random histories of staged and other writes under every combination of limits, evictions, full disks and reopening,
//! against a model of what was acknowledged.

use std::collections::BTreeMap;

use tierce_engine::{
    Batch, Durability, Error, Evict, Health, Options, PutOptions, Ticket, Timestamp,
};
use tierce_kit::{rng::Rng, seed::cases};

use crate::limits::{Limited, name, value};

/// What a key has, as far as its writer was told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    value: Vec<u8>,
    expires_at: Option<Timestamp>,
    evictable: bool,
}

/// The limits of one history.
#[derive(Clone, Copy, Debug, Default)]
struct Drawn {
    bytes: Option<u64>,
    entries: Option<u64>,
    live_bytes: Option<u64>,
    min_free: Option<u64>,
    evict: Evict,
    mode: Durability,
    staged_bytes: u64,
    /// Whether entries may be evicted: none, some or all of them.
    evictable: u64,
}

impl Drawn {
    fn new(rng: &mut Rng) -> Self {
        let mut drawn = Self {
            evict: rng.weighted(&[
                (3, Evict::Lru),
                (1, Evict::S3Fifo),
                (1, Evict::Fifo),
                (1, Evict::None),
            ]),
            mode: rng.weighted(&[(4, Durability::Periodic), (1, Durability::Os)]),
            staged_bytes: rng.weighted(&[(1, 1 << 20), (1, 6_000), (1, 40_000)]),
            evictable: rng.below(3),
            ..Self::default()
        };
        for _ in 0..rng.between(1, 2) {
            match rng.below(4) {
                0 => drawn.bytes = Some(rng.between(200 << 10, 500 << 10)),
                1 => drawn.entries = Some(rng.between(3, 60)),
                2 => drawn.live_bytes = Some(rng.between(3_000, 60_000)),
                _ => drawn.min_free = Some(10 << 20),
            }
        }
        drawn
    }

    fn options(self, options: Options) -> Options {
        let mut options = options.durability(self.mode).evict(self.evict);
        (options.max_bytes, options.max_entries) = (self.bytes, self.entries);
        options.max_live_bytes = self.live_bytes;
        options.min_free_bytes = self.min_free.unwrap_or_default();
        options.periodic_bytes_max = self.staged_bytes;
        options
    }
}

struct History {
    store: Limited,
    drawn: Drawn,
    rng: Rng,
    model: BTreeMap<u64, Held>,
    /// Tickets not waited for so far, each with what it asks.
    tickets: Vec<(u64, Held, Ticket)>,
    is_full: bool,
    /// Whether one of these tickets may have been carried out on a full disk, or a low one.
    was_full: bool,
    trace: Vec<String>,
}

const KEYS: u64 = 120;

impl History {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let drawn = Drawn::new(&mut rng);
        let store = Limited::new(|options| drawn.options(options));
        store.disk.set_available(Some(64 << 20));
        let (model, tickets, trace) = (BTreeMap::new(), Vec::new(), vec![format!("{drawn:?}")]);
        Self { store, drawn, rng, model, tickets, is_full: false, was_full: false, trace }
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        let from = self.trace.len().saturating_sub(40);
        panic!("{what}\n{}\n{}", self.trace[0], self.trace[from..].join("\n"));
    }

    fn held(&mut self) -> (Held, PutOptions) {
        let bytes = self.rng.weighted(&[(6, 400), (2, 1_500), (1, 5_000)]);
        let (version, bytes) = (self.rng.next_u64(), self.rng.below(bytes) as usize);
        let evictable = match self.drawn.evictable {
            0 => false,
            1 => self.rng.one_in(2),
            _ => true,
        };
        let lifetime = self.rng.between(1, 20_000);
        let now = self.store.engine().now().0;
        let expires_at = self.rng.one_in(6).then_some(Timestamp(now + lifetime));
        let mut options = PutOptions::new().evictable(evictable);
        if let Some(at) = expires_at {
            options = options.expires_at(at);
        }
        if self.rng.one_in(4) {
            options = options.durability(self.mode());
        }
        (Held { value: value(version, 0, bytes), expires_at, evictable }, options)
    }

    fn mode(&mut self) -> Durability {
        self.rng.weighted(&[
            (4, Durability::Periodic),
            (1, Durability::Buffered),
            (1, Durability::Os),
            (1, Durability::Sync),
        ])
    }

    /// Whether a write may fail so.
    #[track_caller]
    fn allow(&self, error: &Error, is_delete: bool) {
        let is_full = self.is_full || self.was_full;
        let is_allowed = match error {
            Error::TooLarge { .. } | Error::Full { .. } => !is_delete,
            // On a full disk: what the store kept for that is used up.
            Error::LowSpace { .. } => !is_delete && (self.drawn.min_free.is_some() || is_full),
            Error::Io { source, .. } => is_full && source.kind() == std::io::ErrorKind::StorageFull,
            Error::Stopped { .. } => is_full,
            Error::Conflict { .. } => !is_delete,
            _ => false,
        };
        if !is_allowed {
            self.fail(&format!("{error:?}"));
        }
    }

    #[track_caller]
    fn check_key(&self, key: u64) {
        let read = self.store.engine().get(name(key)).unwrap();
        let now = self.store.engine().now();
        match self.model.get(&key) {
            Some(held) if held.expires_at.is_none_or(|at| at > now) => match &read {
                Some(read) if read[..] == held.value => {}
                None if held.evictable && self.drawn.evict != Evict::None => {}
                _ => self.fail(&format!("key {key}: {:?}", read.map(|read| read.len()))),
            },
            _ if read.is_none() => {}
            held => self.fail(&format!("key {key} is back: {held:?}")),
        }
    }

    #[track_caller]
    fn check_all(&self) {
        (0..KEYS).for_each(|key| self.check_key(key));
    }

    #[track_caller]
    fn check_limits(&self) {
        let stats = self.store.engine().stats();
        if self.drawn.entries.is_some_and(|limit| stats.entries > limit)
            || self.drawn.live_bytes.is_some_and(|limit| stats.live_bytes > limit)
        {
            self.fail(&format!("over a limit: {stats:?}"));
        }
        if let Some(limit) = self.drawn.bytes {
            self.store.disk.assert_peak(limit, &self.trace[0]);
        }
    }

    fn wait(&mut self) {
        for (key, held, ticket) in std::mem::take(&mut self.tickets) {
            match ticket.wait() {
                Ok(_) => {
                    self.model.insert(key, held);
                }
                Err(error) => self.allow(&error, false),
            }
        }
        self.was_full = false;
    }

    /// Whether it was taken.
    fn put(&mut self, key: u64) -> bool {
        let (held, options) = self.held();
        let bytes = held.value.len();
        let put = self.store.engine().put_with(name(key), &held.value, &options);
        self.trace.push(format!("put {key}, {bytes}, {options:?}: {put:?}"));
        match put {
            Ok(_) => {
                self.model.insert(key, held);
                true
            }
            Err(error) => {
                self.allow(&error, false);
                false
            }
        }
    }

    fn delete(&mut self, key: u64) {
        let mode = self.mode();
        let deleted = self.store.engine().delete_with(name(key), mode);
        self.trace.push(format!("delete {key}, {mode:?}: {deleted:?}"));
        match deleted {
            Ok(was_there) => {
                let now = self.store.engine().now();
                let held = self.model.remove(&key);
                let is_sure = held.is_some_and(|held| {
                    !held.evictable && held.expires_at.is_none_or(|at| at > now)
                });
                if is_sure && !was_there {
                    self.fail(&format!("key {key} was not there"));
                }
            }
            Err(error) => self.allow(&error, true),
        }
    }

    fn batch(&mut self, key: u64) {
        let (held, options) = self.held();
        let mut batch = Batch::new();
        batch.put_with(name(key), held.value.clone(), options).delete(name((key + 1) % KEYS));
        let committed = self.store.engine().commit(batch);
        self.trace.push(format!("batch {key}: {committed:?}"));
        match committed {
            Ok(()) => {
                self.model.insert(key, held);
                self.model.remove(&((key + 1) % KEYS));
            }
            Err(error) => self.allow(&error, false),
        }
    }

    fn touch(&mut self, key: u64) {
        let now = self.store.engine().now();
        let until = Some(Timestamp(now.0 + self.rng.between(1_000, 60_000)));
        let touched = self.store.engine().touch(name(key), until);
        self.trace.push(format!("touch {key}: {touched:?}"));
        match touched {
            Ok(true) => match self.model.get_mut(&key) {
                Some(held) => held.expires_at = until,
                None => self.fail("what was deleted was touched"),
            },
            Ok(false) => {}
            Err(error) => self.allow(&error, false),
        }
    }

    fn submit(&mut self, key: u64) {
        let (held, options) = self.held();
        if let Ok(ticket) = self.store.engine().submit(name(key), &held.value, &options) {
            self.trace.push(format!("submit {key}, {}", held.value.len()));
            self.tickets.push((key, held, ticket));
        }
    }

    /// Time passes, and all that is due is done: nothing may be staged or overdue then if there is room.
    fn settle(&mut self) {
        self.wait();
        self.store.clock.advance(6_000);
        for _ in 0..2_000 {
            if matches!(self.store.engine().step(), Ok(false)) {
                break;
            }
        }
        self.trace.push("settle".to_owned());
        let stats = self.store.engine().stats();
        let health = self.store.engine().health();
        if !self.is_full && (stats.staged > 0 || health != Health::Good) {
            self.fail(&format!("{} are staged; {health:?}", stats.staged));
        }
    }

    fn reopen(&mut self) {
        self.wait();
        self.room();
        self.trace.push("reopen".to_owned());
        self.store.reopen();
        self.check_all();
        self.settle();
    }

    fn crash(&mut self) {
        self.settle();
        self.room();
        self.settle();
        self.store.engine().sync().unwrap();
        self.trace.push("crash".to_owned());
        self.store.crash();
        self.store.disk.set_available(Some(64 << 20));
        self.check_all();
        // Evictions are on record from a checkpoint on only: what came back goes soon.
        self.settle();
    }

    /// There is room again.
    fn room(&mut self) {
        self.wait();
        self.store.disk.set_available(Some(64 << 20));
        self.store.disk.set_capacity(None);
        if std::mem::take(&mut self.is_full) {
            self.was_full = !self.tickets.is_empty();
            self.trace.push("room".to_owned());
            self.store.engine().try_recover().unwrap();
        }
    }

    fn fill(&mut self) {
        match self.drawn.min_free {
            Some(free) if self.rng.one_in(2) => {
                self.store.disk.set_available(Some(free - self.rng.below(3)));
                self.trace.push("low".to_owned());
            }
            _ => {
                let more = self.rng.below(30_000);
                self.store.disk.set_capacity(Some(self.store.disk.total() + more));
                self.is_full = true;
                self.trace.push(format!("full after {more}"));
            }
        }
    }

    fn step(&mut self) {
        let key = self.rng.below(KEYS);
        if self.tickets.len() > self.rng.below(8) as usize {
            self.wait();
        }
        match self.rng.below(100) {
            0..55 => {
                // Its tickets come first: the model is told of them first.
                if self.tickets.iter().any(|ticket| ticket.0 == key) && self.rng.one_in(2) {
                    self.wait();
                }
                let is_newer = self.tickets.iter().any(|ticket| ticket.0 == key);
                let is_taken = self.put(key);
                let held = self.model.get(&key).cloned().filter(|_| is_newer && is_taken);
                if is_newer {
                    self.wait();
                }
                if let Some(held) = held {
                    self.model.insert(key, held);
                }
            }
            55..65 => self.submit(key),
            65..75 => {
                self.wait();
                self.delete(key);
            }
            75..80 => {
                self.wait();
                self.batch(key);
            }
            80..84 => {
                self.wait();
                self.touch(key);
            }
            84..88 => self.store.clock.advance(self.rng.below(3_000)),
            88..92 => drop(self.store.engine().step()),
            92..94 => self.settle(),
            94 => self.fill(),
            95..97 => self.room(),
            97 => self.reopen(),
            98 => self.crash(),
            _ => {
                let snapshot = self.store.engine().snapshot();
                if let Err(error) = snapshot {
                    self.allow(&error, true);
                }
            }
        }
        if self.tickets.is_empty() {
            self.check_key(key);
        }
        self.check_limits();
    }
}

/// Goal: whatever is acknowledged in whatever mode is served until it is deleted, expires or is evicted, and is there
/// after its time, a close or a crash; limits hold at every moment; deletes go on without room; nothing is staged for
/// ever. Method: random operations under drawn limits, with full disks, low space, tickets, touches and batches.
#[test]
fn every_mode_under_every_limit() {
    cases("trials::combined::every_mode_under_every_limit", 60, |seed| {
        let mut history = History::new(seed);
        history.put(0);
        history.store.engine().sync().unwrap();
        for _ in 0..300 {
            history.step();
        }
        history.room();
        history.settle();
        history.reopen();
    });
}
