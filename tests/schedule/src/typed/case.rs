//! Programs: a topic, what each client does, and what goes wrong meanwhile.

use tierce_engine::{
    Durability,
    schedule::{Ended, Order},
};
use tierce_kit::{
    fault::Fault,
    rng::{Rng, mix},
};

use super::world::execute;
use crate::{
    disk::Accident,
    judge::Verdict,
    program::{fault, order},
    shrink::Program,
};

/// Keys, names and tags of a program.
pub(crate) const KEYS: u8 = 2;

/// What a program is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// Loads of a cache beside what makes them old.
    Loads,
    /// What listeners of a cache hear.
    Events,
    /// A queue with leases, and a second one for what failed.
    Queue,
    /// Semaphores, leases and throttles.
    Permits,
    /// Sections of a barrier, counters, entries of a map, states of devices.
    Keyed,
}

/// Kinds of deeds. Each topic has its own; what the numbers of an [`Op`] mean is its business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Get,
    Load,
    LoadFails,
    LoadPanics,
    LoadInLoad,
    LoadPatiently,
    Refresh,
    Insert,
    Update,
    Take,
    Remove,
    Tag,
    Cut,
    Clear,
    Hear,
    Push,
    PushTwo,
    Pull,
    Peek,
    Lease,
    Ack,
    Release,
    ReleaseLater,
    Extend,
    Move,
    RemoveItem,
    Count,
    Acquire,
    Renew,
    Drop,
    PanicHolding,
    Hold,
    Throttle,
    Section,
    SectionPanics,
    Add,
    Walk,
    Save,
    Read,
    Forget,
    Damage,
    Advance,
}

use What::*;

impl Topic {
    const ALL: [Self; 5] = [Self::Loads, Self::Events, Self::Queue, Self::Permits, Self::Keyed];

    /// What its clients do, and what is done more often than the rest.
    const fn words(self) -> (&'static [What], &'static [What]) {
        match self {
            Self::Loads => (
                &[
                    Get,
                    LoadFails,
                    LoadPanics,
                    LoadInLoad,
                    LoadPatiently,
                    Refresh,
                    Insert,
                    Update,
                    Take,
                    Remove,
                    Tag,
                    Clear,
                    Cut,
                    Advance,
                ],
                &[Load],
            ),
            Self::Events => (
                &[Update, Take, Remove, Tag, Clear, Cut, Load, LoadFails, Hear, Advance],
                &[Insert],
            ),
            Self::Queue => (
                &[
                    PushTwo,
                    Pull,
                    Peek,
                    Ack,
                    Release,
                    ReleaseLater,
                    Extend,
                    Move,
                    RemoveItem,
                    Count,
                    Clear,
                    Advance,
                ],
                &[Push, Lease],
            ),
            Self::Permits => {
                (&[Release, Renew, Drop, PanicHolding, Throttle, Count, Advance], &[Acquire, Hold])
            }
            Self::Keyed => (
                &[
                    Section,
                    SectionPanics,
                    Add,
                    Insert,
                    Remove,
                    Walk,
                    Clear,
                    Save,
                    Read,
                    Forget,
                    Damage,
                ],
                &[],
            ),
        }
    }

    const fn may_crash(self) -> bool {
        matches!(self, Self::Queue | Self::Keyed)
    }
}

/// One deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) what: What,
    pub(crate) key: u8,
    pub(crate) n: u32,
}

/// A program.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) topic: Topic,
    pub(crate) durability: Durability,
    pub(crate) background: bool,
    pub(crate) before: Vec<Op>,
    pub(crate) clients: Vec<Vec<Op>>,
    pub(crate) accident: Option<(u64, Accident)>,
    pub(crate) is_power: bool,
    pub(crate) fault: Option<Fault>,
    pub(crate) order: Order,
}

impl Case {
    /// The program that `seed` determines.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(mix(seed ^ 0x7_ace5));
        let topic = Topic::ALL[rng.below(Topic::ALL.len() as u64) as usize];
        let (rare, often) = topic.words();
        // Some kinds of deeds are left out: what few do to each other is found sooner.
        let few = rng.between(2, 5);
        let mut words: Vec<What> = (0..few).map(|_| pick(&mut rng, rare)).collect();
        for word in often {
            words.extend([*word; 2]);
        }
        let op = |rng: &mut Rng| Op {
            what: pick(rng, &words),
            key: rng.weighted(&[(3, 0), (1, 1)]),
            n: rng.next_u64() as u32 >> 8,
        };
        let before = (0..rng.below(5)).map(|_| op(&mut rng)).collect();
        let (clients, length) = (rng.between(2, 4), rng.between(2, 6));
        let clients = (0..clients)
            .map(|_| (0..rng.between(1, length)).map(|_| op(&mut rng)).collect())
            .collect();
        let accident = match rng.below(10) {
            0 => Some(Accident::Panic),
            1 | 2 if topic.may_crash() => Some(Accident::Crash),
            _ => None,
        };
        Self {
            seed,
            topic,
            durability: rng.weighted(&[
                (3, Durability::Os),
                (2, Durability::Sync),
                (2, Durability::Periodic),
                (1, Durability::Buffered),
            ]),
            background: rng.one_in(5),
            before,
            clients,
            accident: accident.map(|accident| (rng.below(50), accident)),
            is_power: rng.one_in(2),
            fault: rng.one_in(10).then(|| fault(&mut rng)),
            order: order(seed),
        }
    }

    /// Whether calls may fail: then errors are no complaint.
    pub(crate) const fn is_faulty(&self) -> bool {
        self.accident.is_some() || self.fault.is_some()
    }

    /// Whether the program has this kind of deed.
    pub(crate) fn has(&self, what: What) -> bool {
        self.before.iter().chain(self.clients.iter().flatten()).any(|op| op.what == what)
    }

    /// Whether what was acknowledged outlives the death that it ends with, if any.
    pub(crate) fn outlives(&self) -> bool {
        match self.durability {
            Durability::Sync => true,
            Durability::Os => !self.is_power,
            _ => false,
        }
    }
}

fn pick(rng: &mut Rng, words: &[What]) -> What {
    words[rng.below(words.len() as u64) as usize]
}

impl Program for Case {
    type Op = Op;

    fn run(&self) -> Ended<Verdict> {
        execute(self)
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn order(&mut self) -> &mut Order {
        &mut self.order
    }

    fn frame(&mut self) -> Vec<&mut Vec<Op>> {
        vec![&mut self.before]
    }

    fn clients(&mut self) -> &mut Vec<Vec<Op>> {
        &mut self.clients
    }

    fn simpler(&self) -> Vec<Self> {
        vec![
            Self { accident: None, ..self.clone() },
            Self { fault: None, ..self.clone() },
            Self { background: false, ..self.clone() },
        ]
    }

    fn tell(&self) {
        eprintln!(
            "{:?}, {:?}, background {}, accident {:?}, power {}, fault {:?}",
            self.topic, self.durability, self.background, self.accident, self.is_power, self.fault
        );
        eprintln!("before: {:?}", self.before);
        for (number, ops) in self.clients.iter().enumerate() {
            eprintln!("client {number}: {ops:?}");
        }
        eprintln!("order: {:?}", self.order);
    }
}
