//! Programs: a store with settings, what comes before, what each client does, and what goes wrong meanwhile.
//!
//! Each program leaves most kinds of operations out, and the next one others: what few kinds do to each other is
//! found sooner than what all do at once.

use tierce_engine::{Durability, Evict, ReadMode, schedule::Order};
use tierce_kit::{
    fault::{CallKind, EIO, EMFILE, ENOSPC, Failure, Fault, Repeat},
    rng::{Rng, mix},
};

use crate::disk::Accident;

/// Keys of a program.
pub(crate) const KEYS: u8 = 3;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Put; under the condition that the key is absent if `absent`.
    Put { put: Put, absent: bool },
    /// A put that is queued; the client waits for all its tickets at its end, or at `Wait`.
    Submit { put: Put },
    /// Waits for all tickets.
    Wait,
    /// Delete.
    Delete { key: u8, durability: Option<Durability> },
    /// A new expiry.
    Touch { key: u8, ttl: Option<u32> },
    /// A sliding expiry.
    Slide { key: u8, ttl: u32 },
    /// Stores another value with the expiry that was there.
    Append { key: u8 },
    /// Deletes the entry if it has an expiry.
    DeleteBrief { key: u8 },
    /// Reads.
    Get { key: u8 },
    /// Two keys in one batch; `None` deletes the second.
    Batch { first: Put, second: Option<Put>, key: u8 },
    /// Ends a scope.
    Cut { scope: u8 },
    /// Reads all keys in a snapshot.
    Snapshot,
    /// Looks at the files and reads all keys beside the store.
    Follow,
    /// Sync.
    Sync,
    /// Takes out what is over.
    Sweep,
    /// Compacts everything.
    Compact,
    /// Evicts down to so many bytes.
    Shrink { bytes: u64 },
    /// Background work that is due.
    Step,
    /// Checkpoint.
    Checkpoint,
    /// Time goes on.
    Advance { ms: u64 },
    /// The wall clock alone is set.
    Jump { ms: i64 },
    /// Compacts some segments, whether it is worth it or not.
    CompactSome { seed: u64 },
    /// Takes writes again after a failure.
    Recover,
}

/// A value to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Put {
    /// Key.
    pub(crate) key: u8,
    /// Bytes of the value.
    pub(crate) bytes: u16,
    /// Lifetime.
    pub(crate) ttl: Option<u32>,
    /// Whether it may be evicted.
    pub(crate) evictable: bool,
    /// Its scope.
    pub(crate) scope: Option<u8>,
    /// Its durability.
    pub(crate) durability: Option<Durability>,
}

/// Settings of the store.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) durability: Durability,
    pub(crate) max_entries: Option<u64>,
    pub(crate) max_live_bytes: Option<u64>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) min_free_bytes: u64,
    pub(crate) evict: Evict,
    pub(crate) background: bool,
    pub(crate) read_mode: ReadMode,
    pub(crate) hash_bits: u32,
    pub(crate) automatic: bool,
    pub(crate) periodic_bytes_max: u64,
    /// Whether the constants that make a state rare have their worst values.
    pub(crate) worst_knobs: bool,
    /// Whether everything that is stored may be evicted: then no write may be refused as too much.
    pub(crate) all_evictable: bool,
}

/// A program.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// What it follows from.
    pub(crate) seed: u64,
    /// Settings.
    pub(crate) config: Config,
    /// What is done before the clients begin.
    pub(crate) before: Vec<Op>,
    /// The clients.
    pub(crate) clients: Vec<Vec<Op>>,
    /// What is done when the store is opened again, and whether it is opened without its checkpoints.
    pub(crate) again: Vec<Op>,
    /// See `again`.
    pub(crate) loses_checkpoints: bool,
    /// A panic or the end of the disk, at the call after so many.
    pub(crate) accident: Option<(u64, Accident)>,
    /// Whether the end of the disk is that of the machine.
    pub(crate) is_power: bool,
    /// A failing call.
    pub(crate) fault: Option<Fault>,
    /// Who runs when.
    pub(crate) order: Order,
}

/// Kinds of operations that a program may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Put,
    Absent,
    Submit,
    Delete,
    Touch,
    Slide,
    Append,
    DeleteBrief,
    Get,
    Batch,
    Cut,
    Snapshot,
    Follow,
    Sync,
    Sweep,
    Compact,
    Shrink,
    Step,
    Checkpoint,
    Advance,
    Jump,
    CompactSome,
    Recover,
}

const WORDS: [Word; 23] = [
    Word::Put,
    Word::Absent,
    Word::Submit,
    Word::Delete,
    Word::Touch,
    Word::Slide,
    Word::Append,
    Word::DeleteBrief,
    Word::Get,
    Word::Batch,
    Word::Cut,
    Word::Snapshot,
    Word::Follow,
    Word::Sync,
    Word::Sweep,
    Word::Compact,
    Word::Shrink,
    Word::Step,
    Word::Checkpoint,
    Word::Advance,
    Word::Jump,
    Word::CompactSome,
    Word::Recover,
];

/// How puts and keys are drawn in one program.
struct Style {
    words: Vec<Word>,
    keys: u8,
    ttl_one_in: u64,
    large_one_in: u64,
    evictable: u64,
    scope_one_in: u64,
    mixed: bool,
}

impl Style {
    fn draw(rng: &mut Rng, config: &Config) -> Self {
        let mut words = vec![Word::Put, Word::Get];
        let one_in = rng.between(2, 4);
        words.extend(WORDS.iter().filter(|_| rng.one_in(one_in)));
        if words.contains(&Word::Touch) || words.contains(&Word::Slide) {
            words.push(Word::Advance);
        }
        Self {
            words,
            keys: rng.between(1, u64::from(KEYS)) as u8,
            ttl_one_in: rng.weighted(&[(2, 1), (2, 2), (2, 1_000_000)]),
            large_one_in: rng.weighted(&[(2, 1), (2, 3), (2, 1_000_000)]),
            evictable: if config.all_evictable {
                1
            } else {
                rng.weighted(&[(1, 2), (2, 1_000_000)])
            },
            scope_one_in: rng.weighted(&[(1, 2), (1, 1_000_000)]),
            mixed: rng.one_in(3),
        }
    }

    fn key(&self, rng: &mut Rng) -> u8 {
        rng.below(u64::from(self.keys)) as u8
    }

    fn durability(&self, rng: &mut Rng) -> Option<Durability> {
        if !self.mixed {
            return None;
        }
        rng.weighted(&[
            (3, None),
            (2, Some(Durability::Sync)),
            (2, Some(Durability::Os)),
            (1, Some(Durability::Buffered)),
            (2, Some(Durability::Periodic)),
        ])
    }

    fn put(&self, rng: &mut Rng) -> Put {
        Put {
            key: self.key(rng),
            bytes: if rng.one_in(self.large_one_in) {
                rng.weighted(&[(2, 1_300), (2, 3_000), (1, 4_200), (1, 9_000)])
            } else {
                rng.weighted(&[(3, 8), (1, 200)])
            },
            ttl: rng.one_in(self.ttl_one_in).then(|| ttl(rng)),
            evictable: rng.one_in(self.evictable),
            scope: rng.one_in(self.scope_one_in).then(|| rng.below(2) as u8),
            durability: self.durability(rng),
        }
    }

    fn op(&self, rng: &mut Rng) -> Op {
        let word = self.words[rng.below(self.words.len() as u64) as usize];
        match word {
            Word::Put => Op::Put { put: self.put(rng), absent: false },
            Word::Absent => Op::Put { put: self.put(rng), absent: true },
            Word::Submit => {
                if rng.one_in(4) {
                    Op::Wait
                } else {
                    Op::Submit { put: self.put(rng) }
                }
            }
            Word::Delete => Op::Delete { key: self.key(rng), durability: self.durability(rng) },
            Word::Touch => {
                let ttl = (!rng.one_in(4)).then(|| ttl(rng) * 4);
                Op::Touch { key: self.key(rng), ttl }
            }
            Word::Slide => Op::Slide { key: self.key(rng), ttl: ttl(rng) },
            Word::Append => Op::Append { key: self.key(rng) },
            Word::DeleteBrief => Op::DeleteBrief { key: self.key(rng) },
            Word::Get => Op::Get { key: self.key(rng) },
            Word::Batch => {
                let first = self.put(rng);
                let second = rng.one_in(2).then(|| self.put(rng));
                let key = (first.key + 1 + self.key(rng) % (KEYS - 1)) % KEYS;
                Op::Batch { first, second: second.map(|put| Put { key, ..put }), key }
            }
            Word::Cut => Op::Cut { scope: rng.below(2) as u8 },
            Word::Snapshot => Op::Snapshot,
            Word::Follow => Op::Follow,
            Word::Sync => Op::Sync,
            Word::Sweep => Op::Sweep,
            Word::Compact => Op::Compact,
            Word::Shrink => Op::Shrink { bytes: rng.weighted(&[(1, 0), (2, 2_000)]) },
            Word::Step => Op::Step,
            Word::Checkpoint => Op::Checkpoint,
            Word::Advance => {
                Op::Advance { ms: rng.weighted(&[(3, 40), (3, 200), (2, 1_100), (1, 6_000)]) }
            }
            Word::Jump => Op::Jump { ms: rng.weighted(&[(1, -3_000), (1, 2_000)]) },
            Word::CompactSome => Op::CompactSome { seed: rng.next_u64() },
            Word::Recover => Op::Recover,
        }
    }
}

fn ttl(rng: &mut Rng) -> u32 {
    rng.weighted(&[(3, 50), (3, 210), (2, 1_500), (1, 100_000)])
}

impl Config {
    fn draw(rng: &mut Rng) -> Self {
        let limit = rng.below(10);
        Self {
            durability: rng.weighted(&[
                (3, Durability::Sync),
                (4, Durability::Os),
                (1, Durability::Buffered),
                (3, Durability::Periodic),
            ]),
            max_entries: matches!(limit, 0 | 1).then(|| rng.between(2, 4)),
            max_live_bytes: (limit == 2).then(|| rng.between(19_000, 30_000)),
            max_bytes: (limit == 3).then_some(256 << 10),
            min_free_bytes: if limit == 4 { 64 << 10 } else { 0 },
            evict: rng.weighted(&[(2, Evict::Lru), (1, Evict::S3Fifo)]),
            background: rng.one_in(3),
            read_mode: rng.weighted(&[(1, ReadMode::Map), (1, ReadMode::Positioned)]),
            hash_bits: rng.weighted(&[(4, u64::BITS), (1, 0)]),
            automatic: rng.one_in(2),
            periodic_bytes_max: rng.weighted(&[(1, 100), (2, 2_000), (2, 1 << 20)]),
            all_evictable: rng.one_in(2),
            worst_knobs: false,
        }
    }
}

/// A failing call.
pub(crate) fn fault(rng: &mut Rng) -> Fault {
    let kinds: &[CallKind] = match rng.below(8) {
        0 => &[CallKind::Write],
        1 => &[CallKind::Sync],
        2 => &[CallKind::Open, CallKind::Create],
        3 => &[CallKind::Create],
        4 => &[CallKind::Allocate, CallKind::SetBytes],
        5 => &[CallKind::Rename, CallKind::Remove, CallKind::SyncDir],
        6 => &[CallKind::Map, CallKind::Read],
        _ => &[],
    };
    let errno = rng.weighted(&[(3, EIO), (2, ENOSPC), (2, EMFILE)]);
    let failure = rng.weighted(&[
        (5, Failure::Errno(errno)),
        (1, Failure::Short),
        (1, Failure::ShortThen(errno)),
    ]);
    let fault = Fault::nth(rng.between(1, 12), errno).of(kinds).with(failure);
    if rng.one_in(4) { Fault { repeat: Repeat::FromThenOn, ..fault } } else { fault }
}

/// The order that `seed` determines.
pub(crate) fn order(seed: u64) -> Order {
    let mut rng = Rng::new(mix(seed ^ 0x0_5eed));
    let seed = rng.next_u64();
    let atomics = rng.one_in(4);
    if rng.one_in(2) {
        Order::Random { seed, one_in: rng.weighted(&[(1, 2), (2, 5), (2, 20)]), atomics }
    } else {
        Order::Priorities { seed, changes: rng.between(1, 5) as usize, atomics }
    }
}

impl Case {
    /// The program that `seed` determines.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut config = Config::draw(&mut rng);
        config.worst_knobs = Rng::new(mix(seed ^ 0x0_40b5)).one_in(2);
        let style = Style::draw(&mut rng, &config);
        let before = (0..rng.below(8)).map(|_| style.op(&mut rng)).collect();
        let clients = rng.between(2, 4);
        let length = rng.between(2, 7);
        let again = (0..rng.below(4)).map(|_| style.op(&mut rng)).collect();
        let mut client = |_| (0..rng.between(1, length)).map(|_| style.op(&mut rng)).collect();
        let clients = (0..clients).map(&mut client).collect();
        let trouble = rng.below(8);
        let accident = match trouble {
            0 => Some(Accident::Panic),
            1 | 2 => Some(Accident::Crash),
            _ => None,
        };
        Self {
            seed,
            config,
            before,
            clients,
            accident: accident.map(|accident| (rng.below(60), accident)),
            again,
            loses_checkpoints: rng.one_in(3),
            is_power: rng.one_in(2),
            fault: rng.one_in(8).then(|| fault(&mut rng)),
            order: order(seed),
        }
    }

    /// Everything that is done.
    pub(crate) fn ops(&self) -> impl Iterator<Item = &Op> {
        self.before.iter().chain(self.clients.iter().flatten()).chain(&self.again)
    }
}
