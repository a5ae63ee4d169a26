//! Operations on a store, and lists of them that a seed determines. Property tests, fuzzers and benches share
//! this one enum.

use tierce_engine::Durability;

use crate::{crash::CrashPlan, rng::Rng};

/// One operation. Keys and scopes are small numbers: see [`key`] and [`scope`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A put.
    Put(PutOp),
    /// A put that is refused if the key is there.
    PutIfAbsent(PutOp),
    /// A put that is refused if the entry is not what it was when it was read.
    PutIfUnchanged {
        /// The put.
        put: PutOp,
        /// Whether another version is given than the one that was read.
        is_stale: bool,
    },
    /// Several puts, all queued before the first is waited for.
    Tickets {
        /// The puts.
        puts: Vec<PutOp>,
    },
    /// The snapshot that is held is compared with what it was taken of, and another one is taken.
    Hold,
    /// A follower reads the files.
    Follow,
    /// The disk gets full to about what the store is to leave free.
    SetSpace {
        /// So many bytes more than 2 KiB less than that; `None` for all the space in the world.
        more: Option<u64>,
    },
    /// A delete.
    Delete {
        /// The key.
        key: u8,
        /// In place of the store's own.
        durability: Option<Durability>,
    },
    /// A new expiry for a key.
    Touch {
        /// The key.
        key: u8,
        /// So many milliseconds from now; `None` for never.
        expires_in_ms: Option<u64>,
    },
    /// A key lives for so long from now on.
    Slide {
        /// The key.
        key: u8,
        /// Its lifetime.
        lifetime_ms: u64,
    },
    /// A change that depends on what is there.
    Update {
        /// The key.
        key: u8,
        /// Which.
        change: UpdateKind,
        /// Seed of the bytes to add.
        seed: u64,
    },
    /// The end of every entry of a scope.
    CutScope {
        /// The scope.
        scope: u8,
    },
    /// Several changes, all or none.
    Batch {
        /// The changes.
        parts: Vec<BatchPart>,
        /// In place of the store's own.
        durability: Option<Durability>,
    },
    /// A read.
    Get {
        /// The key.
        key: u8,
    },
    /// A look at everything through a snapshot.
    Iterate,
    /// A barrier: everything acknowledged is on the device after it.
    Sync,
    /// The index is written down.
    Checkpoint,
    /// One piece of background work.
    Step,
    /// Time passes.
    AdvanceClock {
        /// By so many milliseconds.
        ms: u64,
    },
    /// The store is closed and opened.
    Reopen,
    /// Power fails, and the store is opened again.
    Crash {
        /// What survives.
        plan: CrashPlan,
    },
    /// All background work that is due.
    Settle,
    /// What can be sealed is, and segments are compacted.
    Compact {
        /// Which.
        chosen: Chosen,
        /// Whether it is broken off at once.
        cancels: bool,
    },
    /// Expired entries are removed.
    Sweep,
    /// Entries are evicted until this share of what is live is left.
    Shrink {
        /// In percent.
        percent: u8,
    },
    /// The wall clock is set by so many milliseconds, back if negative.
    JumpClock {
        /// By so many milliseconds.
        ms: i64,
    },
    /// The store is closed, some of its files suffer, and it is opened.
    ReopenAfter {
        /// What files suffer.
        loss: Loss,
    },
    /// The store crashes as it would have some effects on the disk ago, its files suffer, and it is opened again.
    CrashBefore {
        /// So many effects ago.
        effects: usize,
        /// What survives.
        plan: CrashPlan,
        /// What files suffer besides.
        loss: Loss,
    },
}

impl Op {
    /// Whether it moves or removes records, or opens the store.
    #[must_use]
    pub const fn is_upkeep(&self) -> bool {
        matches!(
            self,
            Self::Step
                | Self::Settle
                | Self::Compact { .. }
                | Self::Sweep
                | Self::Shrink { .. }
                | Self::Reopen
                | Self::ReopenAfter { .. }
                | Self::Crash { .. }
                | Self::CrashBefore { .. }
        )
    }
}

/// Which segments to compact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// What the store thinks best.
    Best,
    /// All that are sealed.
    All,
    /// Some of those, as a seed decides.
    Some(u64),
}

/// What becomes of files that the store can do without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Checkpoints are gone.
    pub checkpoints: bool,
    /// Some footers have a flipped bit, as this seed decides.
    pub footers: Option<u64>,
}

/// What to put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutOp {
    /// The key.
    pub key: u8,
    /// Bytes of the value.
    pub bytes: usize,
    /// Which value: see [`value`].
    pub seed: u64,
    /// Lifetime from now.
    pub expires_in_ms: Option<u64>,
    /// Whether it may be forgotten.
    pub evictable: bool,
    /// Scopes it belongs to, one bit each.
    pub scopes: u8,
    /// In place of the store's own.
    pub durability: Option<Durability>,
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchPart {
    /// A put; its durability does not count.
    Put(PutOp),
    /// A delete.
    Delete {
        /// The key.
        key: u8,
    },
    /// The end of a scope.
    CutScope {
        /// The scope.
        scope: u8,
    },
}

/// What an update does to the value it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateKind {
    /// Nothing.
    Keep,
    /// Deletes the key.
    Delete,
    /// Adds a few bytes, to nothing if the key is absent.
    Append,
}

/// Keys that lists of operations may use.
pub const KEYS: u8 = 14;
/// Scopes that lists of operations may use.
pub const SCOPES: u8 = 3;

/// The key of a number: the empty key, short ones, long ones, keys that begin alike.
#[must_use]
pub fn key(number: u8) -> Vec<u8> {
    match number {
        0 => Vec::new(),
        1 => vec![0],
        2 => vec![0, 0],
        3 => b"TIERCESG".to_vec(),
        4 => vec![b'k'; 200],
        5 => [vec![b'k'; 199], vec![b'l']].concat(),
        other => format!("key-{other:03}{}", "x".repeat(usize::from(other) * 3)).into_bytes(),
    }
}

/// The name of a scope.
#[must_use]
pub fn scope(number: u8) -> Vec<u8> {
    match number {
        0 => b"s".to_vec(),
        1 => b"ss".to_vec(),
        other => format!("scope {other}").into_bytes(),
    }
}

/// The scopes whose bits are set.
pub fn scopes(bits: u8) -> impl Iterator<Item = Vec<u8>> {
    (0..SCOPES).filter(move |number| bits & (1 << number) != 0).map(scope)
}

/// The value of a length and a seed. Some are all zeros, some begin like a file of ours.
#[must_use]
pub fn value(bytes: usize, seed: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 8);
    match seed % 16 {
        0 => out.resize(bytes, 0),
        1 => out.extend_from_slice(b"TIERCEMF"),
        2 => out.resize(bytes, 0xff),
        _ => {}
    }
    let mut rng = Rng::new(seed);
    while out.len() < bytes {
        out.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    out.truncate(bytes);
    out
}

/// What kind of list to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// The store's own durability.
    pub durability: Durability,
    /// Whether writes choose a durability of their own now and then.
    pub mixed: bool,
    /// Whether power fails within the list.
    pub crashes: bool,
    /// Whether entries may expire.
    pub expiry: bool,
    /// How likely a value is larger than a small segment, in a thousand.
    pub large_permille: u64,
    /// How many operations.
    pub length: usize,
}

impl Mode {
    /// Writes of one durability, with everything but crashes within the list.
    #[must_use]
    pub const fn of(durability: Durability) -> Self {
        Self {
            durability,
            mixed: false,
            crashes: false,
            expiry: true,
            large_permille: 15,
            length: 40,
        }
    }

    /// Writes of any durability, each choosing its own.
    #[must_use]
    pub const fn mixed() -> Self {
        let mut mode = Self::of(Durability::Os);
        mode.mixed = true;
        mode
    }

    /// With crashes within the list.
    #[must_use]
    pub const fn crashing(mut self) -> Self {
        self.crashes = true;
        self
    }

    /// With so many operations.
    #[must_use]
    pub const fn length(mut self, length: usize) -> Self {
        self.length = length;
        self
    }

    /// The list that `seed` determines.
    #[must_use]
    pub fn ops(&self, seed: u64) -> Vec<Op> {
        let mut rng = Rng::new(seed);
        (0..self.length).map(|_| self.op(&mut rng)).collect()
    }

    /// The next operation.
    pub fn op(&self, rng: &mut Rng) -> Op {
        let crash = if self.crashes { 2 } else { 0 };
        let kinds = [
            (30, 0),
            (5, 1),
            (9, 2),
            (4, 3),
            (5, 4),
            (3, 5),
            (7, 6),
            (6, 7),
            (1, 8),
            (4, 9),
            (2, 10),
            (7, 11),
            (7, 12),
            (2, 13),
            (crash, 14),
        ];
        let key = |rng: &mut Rng| rng.below(u64::from(KEYS)) as u8;
        match rng.weighted(&kinds) {
            0 => Op::Put(self.put(rng)),
            1 => Op::PutIfAbsent(self.put(rng)),
            2 => Op::Delete { key: key(rng), durability: self.durability(rng) },
            3 => Op::Touch { key: key(rng), expires_in_ms: self.lifetime(rng, 2) },
            4 => {
                let change = rng.weighted(&[
                    (1, UpdateKind::Keep),
                    (1, UpdateKind::Delete),
                    (4, UpdateKind::Append),
                ]);
                Op::Update { key: key(rng), change, seed: rng.next_u64() }
            }
            5 => Op::CutScope { scope: rng.below(u64::from(SCOPES)) as u8 },
            6 => self.batch(rng),
            7 => Op::Get { key: key(rng) },
            8 => Op::Iterate,
            9 => Op::Sync,
            10 => Op::Checkpoint,
            11 => Op::Step,
            12 => {
                Op::AdvanceClock { ms: rng.weighted(&[(4, 40), (3, 400), (2, 1_100), (1, 6_000)]) }
            }
            13 => Op::Reopen,
            _ => Op::Crash { plan: crash_plan(rng) },
        }
    }

    fn put(&self, rng: &mut Rng) -> PutOp {
        let large = rng.below(1000) < self.large_permille;
        let bytes = match rng.below(10) {
            _ if large => rng.between(8_000, 13_000),
            0 => 0,
            1 => rng.between(500, 3_000),
            _ => rng.below(200),
        };
        PutOp {
            key: rng.below(u64::from(KEYS)) as u8,
            bytes: bytes as usize,
            seed: rng.next_u64(),
            expires_in_ms: self.lifetime(rng, 5),
            evictable: rng.one_in(4),
            scopes: if rng.one_in(3) { rng.below(1 << SCOPES) as u8 } else { 0 },
            durability: self.durability(rng),
        }
    }

    fn batch(&self, rng: &mut Rng) -> Op {
        let part = |rng: &mut Rng| match rng.below(8) {
            0 | 1 => BatchPart::Delete { key: rng.below(u64::from(KEYS)) as u8 },
            2 => BatchPart::CutScope { scope: rng.below(u64::from(SCOPES)) as u8 },
            _ => BatchPart::Put(PutOp { durability: None, ..self.put(rng) }),
        };
        let parts = (0..rng.between(0, 5)).map(|_| part(rng)).collect();
        Op::Batch { parts, durability: self.durability(rng) }
    }

    fn lifetime(&self, rng: &mut Rng, one_in: u64) -> Option<u64> {
        let expires = rng.one_in(one_in) && self.expiry;
        expires.then(|| rng.weighted(&[(1, 0), (3, 100), (3, 2_000), (3, 1_000_000)]))
    }

    fn durability(&self, rng: &mut Rng) -> Option<Durability> {
        if !self.mixed {
            return None;
        }
        rng.weighted(&[
            (3, None),
            (2, Some(Durability::Os)),
            (2, Some(Durability::Sync)),
            (2, Some(Durability::Buffered)),
            (2, Some(Durability::Periodic)),
        ])
    }
}

fn crash_plan(rng: &mut Rng) -> CrashPlan {
    match rng.below(5) {
        0 => CrashPlan::Nothing,
        1 => CrashPlan::Everything,
        2 => CrashPlan::Prefix(rng.below(12) as usize),
        _ => CrashPlan::Random(rng.next_u64()),
    }
}
