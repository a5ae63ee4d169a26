//! Random histories in which what is dead leaves the disk: a few keys over many small segments, compacted in any
//! order, with crashes anywhere. What they are after: no entry is lost, none comes back.

use tierce_engine::{Durability, Evict, Knobs};

use crate::{
    crash::CrashPlan,
    op::{BatchPart, Chosen, Loss, Op, PutOp, UpdateKind},
    rng::Rng,
    store::Setup,
};

/// Scopes.
const SCOPES: u64 = 2;

/// What a history is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Operations.
    pub length: usize,
    /// Whether it crashes and loses files; otherwise somebody else crashes it.
    pub crashes: bool,
    /// Whether every write chooses a durability.
    pub mixed: bool,
    /// Whether expiries are moved often: touches and slides, beside checkpoints and openings.
    pub renews: bool,
    /// Whether everything that a store has meets everything else: limits, policies, tickets, snapshots, followers,
    /// staged writes, beside all of the above.
    pub combines: bool,
}

impl History {
    /// Crashes anywhere, reopens in every way.
    #[must_use]
    pub const fn new(length: usize) -> Self {
        Self { length, crashes: true, mixed: true, renews: false, combines: false }
    }

    /// As [`Self::new`], with touches and slides.
    #[must_use]
    pub const fn renewing(length: usize) -> Self {
        let mut history = Self::new(length);
        history.renews = true;
        history
    }

    /// As [`Self::renewing`], with everything that a store has.
    #[must_use]
    pub const fn combining(length: usize) -> Self {
        let mut history = Self::renewing(length);
        history.combines = true;
        history
    }

    /// A store for the history of this seed.
    #[must_use]
    pub fn setup(&self, seed: u64) -> Setup {
        let mut rng = Rng::new(seed ^ 0xc0_1d);
        let durability = rng.weighted(&[
            (4, Durability::Os),
            (3, Durability::Sync),
            (1, Durability::Buffered),
            (1, Durability::Periodic),
        ]);
        let is_staged = durability == Durability::Periodic || self.mixed;
        let mut setup = Setup::varied(durability, seed);
        setup.automatic = rng.one_in(4);
        setup.hash_bits = rng.weighted(&[(4, u64::BITS), (1, 2), (1, 0)]);
        setup.segment_bytes = rng.weighted(&[(5, 8 << 10), (1, 12 << 10)]);
        let limited = rng.one_in(8) && !is_staged;
        setup.max_entries = limited.then(|| rng.between(3, 5));
        // Far more than the keys need: nothing is refused or evicted for it, but files go before others come.
        setup.max_bytes = rng.one_in(6).then_some(1 << 20);
        if self.renews {
            // Long histories fill it, and then it evicts.
            setup.max_bytes = None;
        }
        // The worst values of the test knobs, and now and then those of production.
        if Rng::new(seed ^ 0x6b_6e_6f_62).one_in(4) {
            setup.knobs = Knobs::new();
        }
        if self.combines {
            combine(&mut setup, seed);
        }
        setup
    }

    /// The operations that `seed` determines. The last one opens the store anew.
    #[must_use]
    pub fn ops(&self, seed: u64) -> Vec<Op> {
        let mut rng = Rng::new(seed);
        let mut ops: Vec<_> = (1..self.length).map(|_| self.op(&mut rng)).collect();
        ops.push(if self.crashes { reopening(&mut rng) } else { Op::Settle });
        ops
    }

    /// The operation that one number determines, for histories that are put together from outside.
    #[must_use]
    pub fn op_of(&self, seed: u64) -> Op {
        self.op(&mut Rng::new(seed))
    }

    /// How likely each kind of operation is.
    fn weights(&self) -> [(u32, u8); 27] {
        let restart = if self.crashes { 4 } else { 0 };
        // A weight of 0 draws nothing: the histories of old seeds stay what they were.
        let (touches, slides) = match (self.renews, self.combines) {
            (_, true) => (4, 4),
            (true, _) => (8, 12),
            _ => (0, 0),
        };
        let more = |weight| if self.combines { weight } else { 0 };
        [
            (30, 0),
            (3, 1),
            (10, 2),
            (6, 3),
            (2, 4),
            (3, 5),
            (4, 6),
            (14, 7),
            (3, 8),
            (4, 9),
            (5, 10),
            (2, 11),
            (3, 12),
            (restart, 13),
            (1, 14),
            (touches, 3),
            (slides, 15),
            (more(6), 16),
            (more(4), 17),
            (more(4), 18),
            (more(4), 19),
            (more(4), 20),
            (more(3), 1),
            (more(3), 5),
            (more(2), 11),
            (more(6), 8),
            (more(4), 10),
        ]
    }

    fn op(&self, rng: &mut Rng) -> Op {
        match rng.weighted(&self.weights()) {
            0 => Op::Put(self.put(rng)),
            1 => Op::PutIfAbsent(self.put(rng)),
            2 => Op::Delete { key: key(rng), durability: self.durability(rng) },
            3 => Op::Touch { key: key(rng), expires_in_ms: lifetime(rng, 2) },
            4 => {
                let change = rng.weighted(&[(1, UpdateKind::Delete), (2, UpdateKind::Append)]);
                Op::Update { key: key(rng), change, seed: rng.next_u64() }
            }
            5 => Op::CutScope { scope: rng.below(SCOPES) as u8 },
            6 => self.batch(rng),
            7 => {
                let chosen = match rng.below(8) {
                    0 => Chosen::Best,
                    7 if self.combines => Chosen::Best,
                    1 | 2 => Chosen::All,
                    _ => Chosen::Some(rng.next_u64()),
                };
                Op::Compact { chosen, cancels: rng.one_in(if self.combines { 8 } else { 20 }) }
            }
            8 => Op::Sweep,
            9 => Op::Shrink { percent: rng.weighted(&[(1, 0), (2, 50), (2, 80)]) },
            10 => Op::AdvanceClock { ms: rng.weighted(&[(4, 40), (3, 1_100), (2, 6_000)]) },
            11 => {
                /// A year.
                const YEAR_MS: i64 = 365 * 86_400_000;
                Op::JumpClock { ms: rng.weighted(&[(1, -YEAR_MS), (2, -3_000), (1, 3 * YEAR_MS)]) }
            }
            12 => Op::Checkpoint,
            13 => reopening(rng),
            15 => {
                let lifetime_ms = rng.weighted(&[(2, 60), (4, 2_000), (3, 20_000)]);
                Op::Slide { key: key(rng), lifetime_ms }
            }
            14 => Op::Settle,
            kind => self.op_beside(kind, rng),
        }
    }

    /// What goes on beside plain writes and upkeep.
    fn op_beside(&self, kind: u8, rng: &mut Rng) -> Op {
        match kind {
            16 => Op::PutIfUnchanged { put: self.put(rng), is_stale: rng.one_in(2) },
            17 => {
                let puts = (0..rng.between(2, 3)).map(|_| self.put(rng)).collect();
                Op::Tickets { puts }
            }
            18 => Op::Hold,
            19 => Op::Follow,
            _ => Op::SetSpace { more: rng.one_in(2).then(|| rng.below(8 << 10)) },
        }
    }

    fn put(&self, rng: &mut Rng) -> PutOp {
        PutOp {
            key: key(rng),
            bytes: rng.weighted(&[(1, 0), (2, 40), (6, 1_300), (2, 2_500), (1, 9_000)]),
            seed: rng.next_u64() | 3,
            expires_in_ms: lifetime(rng, 3),
            evictable: rng.one_in(if self.combines { 2 } else { 3 }),
            scopes: if rng.one_in(3) { rng.below(1 << SCOPES) as u8 } else { 0 },
            durability: self.durability(rng),
        }
    }

    fn batch(&self, rng: &mut Rng) -> Op {
        let part = |rng: &mut Rng| match rng.below(7) {
            0 | 1 => BatchPart::Delete { key: key(rng) },
            2 => BatchPart::CutScope { scope: rng.below(SCOPES) as u8 },
            _ => BatchPart::Put(PutOp { durability: None, ..self.put(rng) }),
        };
        let parts = (0..rng.between(1, 3)).map(|_| part(rng)).collect();
        Op::Batch { parts, durability: self.durability(rng) }
    }

    fn durability(&self, rng: &mut Rng) -> Option<Durability> {
        if !self.mixed {
            return None;
        }
        let staged = u32::from(self.combines);
        rng.weighted(&[
            (6, None),
            (2, Some(Durability::Os)),
            (2, Some(Durability::Sync)),
            (1, Some(Durability::Buffered)),
            (staged, Some(Durability::Periodic)),
        ])
    }
}

/// One limit at most, so that it is known which one evicted, and a policy.
fn combine(setup: &mut Setup, seed: u64) {
    let mut rng = Rng::new(seed ^ 0x70_61_69_72);
    (setup.max_entries, setup.max_bytes) = (None, None);
    match rng.below(6) {
        0 => setup.max_entries = Some(rng.between(2, 4)),
        1 => setup.max_live_bytes = Some(rng.between(3_000, 9_000)),
        2 => {
            setup.max_bytes = Some(rng.between(100 << 10, 128 << 10));
            setup.is_tight = true;
        }
        3 => setup.min_free_bytes = 64 << 10,
        _ => {}
    }
    setup.evict = rng.weighted(&[(1, Evict::Lru), (1, Evict::S3Fifo), (1, Evict::Fifo)]);
}

fn key(rng: &mut Rng) -> u8 {
    // The first of the short keys, and one that is long.
    rng.weighted(&[(3, 1), (3, 2), (2, 3), (2, 6), (1, 0), (1, 4)])
}

fn lifetime(rng: &mut Rng, one_in: u64) -> Option<u64> {
    let expires = rng.one_in(one_in);
    expires.then(|| rng.weighted(&[(1, 0), (4, 60), (4, 2_000), (2, 1_000_000)]))
}

/// A restart of any kind.
fn reopening(rng: &mut Rng) -> Op {
    let loss = Loss { checkpoints: rng.one_in(2), footers: rng.one_in(4).then(|| rng.next_u64()) };
    if rng.one_in(3) {
        return Op::ReopenAfter { loss };
    }
    let plan = match rng.below(6) {
        0 => CrashPlan::Nothing,
        1 | 2 => CrashPlan::Everything,
        3 => CrashPlan::Prefix(rng.below(12) as usize),
        _ => CrashPlan::Random(rng.next_u64()),
    };
    let effects = match rng.below(3) {
        0 => 0,
        1 => rng.below(12),
        _ => rng.below(60),
    };
    Op::CrashBefore { effects: effects as usize, plan, loss }
}
