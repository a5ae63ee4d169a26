//! Semaphores, leases and throttles: never more holders than there are permits, tokens that rise, and no permit lost.

use std::{
    panic::panic_any,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tierce::{
    Error, Store,
    recipes::{Lease, Rate, Semaphore, SemaphorePermit, Throttle},
};
use tierce_engine::schedule::{point, steps};

use super::{
    case::{Op, What},
    world::{Again, Came, Moment, ORDERED, Play, World},
};

const PERMITS: usize = 2;
const BURST: u32 = 3;
const TOKEN_MS: u64 = 100;

/// Somebody holds a permit, or the lease.
struct Holding {
    is_lease: bool,
    token: u64,
    got: Moment,
    /// Begin of the call that got it.
    start: u64,
    /// Store time until which it is held for sure.
    until: u64,
    /// When giving it back began.
    given_back: u64,
}

#[derive(Default)]
struct Notes {
    holdings: Vec<Holding>,
    /// Store time by which tokens were taken: at the earliest and at the latest.
    throttled: Vec<(u64, u64)>,
}

pub(crate) struct Permits {
    semaphore: Semaphore,
    throttle: Throttle,
    notes: Mutex<Notes>,
}

enum Got {
    Permit(SemaphorePermit),
    Lease(Lease),
}

type Held = (Got, usize);

impl Permits {
    pub(crate) fn new(store: &Store) -> tierce::Result<Self> {
        let rate = Rate::new(1, Duration::from_millis(TOKEN_MS)).burst(BURST);
        Ok(Self {
            semaphore: store.semaphore("permits", PERMITS)?,
            throttle: store.throttle("rate", rate)?,
            notes: Mutex::default(),
        })
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acquire(&self, world: &World, op: Op) -> Option<Held> {
        let begun = world.now();
        let ms = [60, 400, 100_000, 100_000][op.n as usize % 4];
        let time = Duration::from_millis(ms);
        let is_lease = op.key == 1;
        let got = if is_lease {
            let lease = world.plain(&op, || world.store().lease("name", "a client", time))?;
            Got::Lease(lease.ok()?)
        } else {
            Got::Permit(world.plain(&op, || self.semaphore.try_acquire(time))?.ok()?)
        };
        let token = if let Got::Lease(lease) = &got { lease.token() } else { 0 };
        let now = world.now();
        let mut notes = self.notes();
        notes.holdings.push(Holding {
            is_lease,
            token,
            start: begun.step,
            got: now,
            until: begun.time + ms,
            given_back: u64::MAX,
        });
        let at = notes.holdings.len() - 1;
        drop(notes);
        Some((got, at))
    }

    fn give_back(&self, world: &World, op: Op, (got, at): Held) {
        let until = {
            let mut notes = self.notes();
            notes.holdings[at].given_back = steps();
            notes.holdings[at].until
        };
        if op.what == What::Drop {
            let _ = world.call(|| {
                drop(got);
                Ok(())
            });
            return;
        }
        let came = world.call(|| match got {
            Got::Permit(permit) => permit.release(),
            Got::Lease(lease) => lease.release(),
        });
        self.expect_held(world, op, until, &came);
    }

    fn expect_held(&self, world: &World, op: Op, until: u64, came: &Came<()>) {
        match came {
            Came::Failed(Error::NotHeld { .. })
                if world.now().time < until && !world.is_faulty() =>
            {
                world.complain(format!("{op:?}: it is not held before its time is over"));
            }
            Came::Failed(Error::NotHeld { .. }) => {}
            Came::Failed(error) => world.expect_failure(&op, error),
            _ => {}
        }
    }

    fn renew(&self, world: &World, op: Op, (got, at): &Held) {
        let (begun, until) = (world.now(), self.notes().holdings[*at].until);
        let time = Duration::from_millis(500);
        // It may be shorter than what is left.
        self.notes().holdings[*at].until = until.min(begun.time + 500);
        let came = world.call(|| match got {
            Got::Permit(permit) => permit.renew(time),
            Got::Lease(lease) => lease.renew(time),
        });
        if matches!(came, Came::Back(())) {
            self.notes().holdings[*at].until = begun.time + 500;
        }
        self.expect_held(world, op, until, &came);
    }

    fn act(&self, world: &World, op: Op, held: &mut Vec<Held>) {
        match op.what {
            What::Acquire => held.extend(self.acquire(world, op)),
            What::Hold | What::PanicHolding => {
                let Some(one) = self.acquire(world, op) else { return };
                let at = one.1;
                // What the client's own code does with it, and how that ends.
                let _: Came<()> = world.call(|| {
                    let _inside = one;
                    point();
                    self.notes().holdings[at].given_back = steps();
                    if op.what == What::PanicHolding {
                        panic_any(ORDERED);
                    }
                    Ok(())
                });
            }
            What::Release | What::Drop if !held.is_empty() => {
                let one = held.swap_remove(op.n as usize % held.len());
                self.give_back(world, op, one);
            }
            What::Renew if !held.is_empty() => {
                self.renew(world, op, &held[op.n as usize % held.len()]);
            }
            What::Throttle => {
                let begun = world.now().time;
                let taken = world.plain(&op, || self.throttle.try_acquire("key", 1));
                if matches!(taken, Some(Ok(()))) {
                    let now = world.now().time;
                    self.notes().throttled.push((begun, now));
                }
            }
            What::Count => {
                let _ = world.plain(&op, || self.semaphore.available());
            }
            What::Advance => world.advance(op.n),
            _ => {}
        }
    }
}

fn judge_holdings(notes: &Notes, world: &World) {
    for one in &notes.holdings {
        let (at, most) = (one.got, if one.is_lease { 1 } else { PERMITS });
        // Those that surely hold at the moment at which this one was got.
        let holds = |other: &&Holding| {
            other.is_lease == one.is_lease
                && other.got.step <= at.step
                && other.given_back > at.step
                && other.until > at.time
        };
        let count = notes.holdings.iter().filter(holds).count();
        if count > most {
            world.complain(format!("{count} hold at {}, and {most} may", at.step));
        }
        let is_older =
            |other: &&Holding| other.is_lease && one.is_lease && other.got.step < one.start;
        if notes.holdings.iter().filter(is_older).any(|older| older.token >= one.token) {
            world.complain(format!("token {} of a lease is not larger than before", one.token));
        }
    }
}

fn judge_rate(notes: &Notes, world: &World) {
    for (from, _) in &notes.throttled {
        for (_, to) in &notes.throttled {
            let inside = |(start, end): &&(u64, u64)| start >= from && end <= to;
            let count = notes.throttled.iter().filter(inside).count() as u64;
            let most = u64::from(BURST) + to.saturating_sub(*from) / TOKEN_MS + 1;
            if to >= from && count > most {
                world.complain(format!("{count} tokens from {from} to {to}, and {most} may be"));
            }
        }
    }
}

impl Play for Permits {
    fn play(&self, world: &World, ops: &[Op]) {
        let mut held = Vec::new();
        for op in ops {
            self.act(world, *op, &mut held);
        }
        for (_, at) in &held {
            self.notes().holdings[*at].given_back = steps();
        }
        // Dropped, each is given back; a call of the disk may panic.
        for one in held {
            let _ = world.call(|| {
                drop(one);
                Ok(())
            });
        }
    }

    fn judge(&self, world: &World) {
        judge_holdings(&self.notes(), world);
        judge_rate(&self.notes(), world);
        let free = world.plain(&"counting", || self.semaphore.available());
        if free.is_some_and(|free| free != PERMITS) && !world.is_faulty() {
            world.complain(format!("{free:?} permits are free when all were given back"));
        }
        let next = world.plain(&"leasing", || {
            world.store().lease("name", "the judge", Duration::from_millis(10))
        });
        if matches!(next, Some(Err(_))) && !world.is_faulty() {
            world.complain("the lease is held when everybody gave it back");
        }
    }

    fn rest(&self) -> Box<dyn Again> {
        Box::new(Last(self.notes().holdings.iter().map(|one| one.token).max().unwrap_or(0)))
    }
}

/// The largest token.
struct Last(u64);

impl Again for Last {
    fn again(&self, world: &World, store: &Store, _is_kept: bool) {
        // Longer than every lease.
        for _ in 0..40 {
            world.advance(3);
        }
        let lease = world.plain(&"leasing again", || {
            store.lease("name", "the judge", Duration::from_millis(10))
        });
        if let Some(Ok(lease)) = lease
            && lease.token() <= self.0
        {
            world.complain(format!("token {} was given again", lease.token()));
        }
    }
}
