//! Queues against a list, with leases, lifetimes and restarts.

use std::{collections::BTreeSet, sync::Barrier, time::Duration};

use tierce::{Error, Store, Ttl, collections::Message};
use tierce_kit::{rng::Rng, seed::cases};

use crate::home::{Home, threads};

/// An item as it should be. Times are in milliseconds, 0 = none.
#[derive(Clone, Copy, Debug)]
struct Item {
    id: u64,
    value: u64,
    expires: u64,
    leased_until: u64,
    deliveries: u32,
}

impl Item {
    /// Whether it is in the queue: not past its lifetime, or leased.
    fn is_there(&self, now: u64) -> bool {
        self.expires == 0 || now < self.expires || now < self.leased_until
    }

    fn waits(&self, now: u64) -> bool {
        now >= self.leased_until && self.is_there(now)
    }
}

struct Run {
    home: Home,
    store: Store,
    rng: Rng,
    model: Vec<Item>,
    held: Vec<Message<u64>>,
    last_id: u64,
}

impl Run {
    fn now(&self) -> u64 {
        self.store.now().0
    }

    fn first_waiting(&self) -> Option<Item> {
        let now = self.now();
        self.model.iter().find(|item| item.waits(now)).copied()
    }

    fn push(&mut self) {
        let queue = self.store.queue::<u64>("q").unwrap();
        let (value, ttl) = (self.rng.next_u64(), self.rng.below(4) * 10);
        let id = match ttl {
            0 => queue.push(&value).unwrap(),
            ms => queue.push_for(&value, Ttl::millis(ms)).unwrap(),
        };
        assert!(id > self.last_id, "numbers rise, over restarts too");
        self.last_id = id;
        let expires = if ttl == 0 { 0 } else { self.now() + ttl };
        self.model.push(Item { id, value, expires, leased_until: 0, deliveries: 0 });
    }

    fn pull(&mut self) {
        let queue = self.store.queue::<u64>("q").unwrap();
        let expected = self.first_waiting();
        assert_eq!(queue.pull().unwrap(), expected.map(|item| item.value));
        self.model.retain(|item| Some(item.id) != expected.map(|item| item.id));
    }

    fn lease(&mut self) {
        let queue = self.store.queue::<u64>("q").unwrap();
        let expected = self.first_waiting();
        let time = 1 + self.rng.below(30);
        let leased = queue.lease(Duration::from_millis(time)).unwrap();
        let seen = leased.as_ref().map(|message| (message.id(), **message, message.deliveries()));
        assert_eq!(seen, expected.map(|item| (item.id, item.value, item.deliveries + 1)));
        let until = self.now() + time;
        if let Some(message) = leased {
            let item = self.model.iter_mut().find(|item| item.id == message.id()).unwrap();
            item.deliveries += 1;
            item.leased_until = until;
            self.held.push(message);
        }
    }

    /// The item of a message, if it is still that message's.
    fn is_held(&self, message: &Message<u64>) -> bool {
        let now = self.now();
        let is_it =
            |item: &&Item| item.id == message.id() && item.deliveries == message.deliveries();
        self.model.iter().find(is_it).is_some_and(|item| now < item.leased_until)
    }

    fn settle(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let at = self.rng.below(self.held.len() as u64) as usize;
        let mut message = self.held.swap_remove(at);
        let (is_held, id, now) = (self.is_held(&message), message.id(), self.now());
        match self.rng.below(3) {
            0 => {
                assert_eq!(was_held(message.ack()), is_held);
                self.model.retain(|item| !is_held || item.id != id);
            }
            1 => {
                assert_eq!(was_held(message.release()), is_held);
                self.model
                    .iter_mut()
                    .filter(|item| is_held && item.id == id)
                    .for_each(|item| item.leased_until = 0);
            }
            _ => {
                let time = 1 + self.rng.below(30);
                assert_eq!(was_held(message.extend(Duration::from_millis(time))), is_held);
                self.model
                    .iter_mut()
                    .filter(|item| is_held && item.id == id)
                    .for_each(|item| item.leased_until = now + time);
                self.held.push(message);
            }
        }
    }

    fn step(&mut self) {
        match self.rng.below(20) {
            0..=6 => self.push(),
            7..=8 => self.pull(),
            9..=11 => self.lease(),
            12..=14 => self.settle(),
            15..=16 => self.home.clock.advance(1 + self.rng.below(15)),
            17 => {
                let id = self.rng.between(1, self.last_id + 1);
                let now = self.now();
                let is_there = self.model.iter().any(|item| item.id == id && item.is_there(now));
                assert_eq!(self.store.queue::<u64>("q").unwrap().remove(id).unwrap(), is_there);
                self.model.retain(|item| item.id != id);
            }
            18 if self.rng.one_in(5) => {
                self.store.queue::<u64>("q").unwrap().clear().unwrap();
                self.model.clear();
            }
            18 => {}
            _ => {
                // Who held something is gone with the program.
                self.held.clear();
                let store = std::mem::replace(&mut self.store, Store::in_memory().unwrap());
                self.store = self.home.reopen(store);
            }
        }
        let now = self.now();
        self.model.retain(|item| item.is_there(now));
        let queue = self.store.queue::<u64>("q").unwrap();
        assert_eq!(queue.len().unwrap(), self.model.len());
        assert_eq!(queue.is_empty().unwrap(), self.model.is_empty());
        assert_eq!(
            queue.waiting().unwrap(),
            self.model.iter().filter(|item| item.waits(now)).count()
        );
        assert_eq!(queue.peek().unwrap(), self.first_waiting().map(|item| (item.id, item.value)));
    }
}

fn was_held(settled: tierce::Result<()>) -> bool {
    match settled {
        Ok(()) => true,
        Err(Error::NotHeld { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Goal: any history of calls, time and restarts leaves what a list holds; nothing is left behind on disk.
#[test]
fn any_history() {
    cases("queue::any_history", 60, |seed| {
        let home = Home::new();
        let store = home.open();
        let (rng, model, held) = (Rng::new(seed), Vec::new(), Vec::new());
        let mut run = Run { home, store, rng, model, held, last_id: 0 };
        (0..120).for_each(|_| run.step());
        let stats = run.store.space_stats("q").unwrap().unwrap();
        assert!(stats.entries <= run.model.len() as u64 + 1, "{stats:?}");
    });
}

/// Goal: each item goes to one consumer, and none is lost.
#[test]
fn many_consumers() {
    let home = Home::new();
    let store = home.open();
    let queue = store.queue::<usize>("q").unwrap();
    let got = threads(16, |at| {
        let mut got = Vec::new();
        for number in 0..25 {
            if at % 2 == 0 {
                queue.push(&(at * 100 + number)).unwrap();
            } else if number % 2 == 0 {
                got.extend(queue.pull().unwrap());
            } else if let Some(message) = queue.lease(Duration::from_secs(60)).unwrap() {
                got.push(*message);
                message.ack().unwrap();
            }
        }
        got
    });
    let store = home.reopen(store);
    let queue = store.queue::<usize>("q").unwrap();
    let mut all: Vec<_> = got.into_iter().flatten().collect();
    while let Some(item) = queue.pull().unwrap() {
        all.push(item);
    }
    all.sort_unstable();
    let expected: Vec<_> =
        (0..16).step_by(2).flat_map(|at| (0..25).map(move |n| at * 100 + n)).collect();
    assert_eq!(all, expected);
    assert!(queue.is_empty().unwrap());
}

/// Goal: of all who take an item out at once, one is told that it was there.
#[test]
fn an_item_is_removed_once() {
    let home = Home::new();
    let store = home.open();
    let queue = store.queue::<u32>("q").unwrap();
    for round in 0..50 {
        let id = queue.push(&round).unwrap();
        let together = Barrier::new(4);
        let got = threads(4, |at| {
            together.wait();
            if at == 0 { queue.pull().unwrap().is_some() } else { queue.remove(id).unwrap() }
        });
        assert_eq!(got.into_iter().filter(|got| *got).count(), 1, "round {round}");
        assert!(!queue.remove(id).unwrap());
    }
}

/// Goal: what is pushed while the queue is cleared is there and counted, or neither.
#[test]
fn a_push_beside_a_clear_is_counted() {
    let home = Home::new();
    let store = home.open();
    let queue = store.queue::<u32>("q").unwrap();
    for round in 0..100 {
        let together = Barrier::new(4);
        threads(4, |at| {
            together.wait();
            if at == 0 { queue.clear().unwrap() } else { assert!(queue.push(&round).unwrap() > 0) }
        });
        let count = queue.len().unwrap();
        let there = std::iter::from_fn(|| queue.pull().unwrap()).count();
        assert_eq!(count, there, "round {round}");
    }
}

/// Goal: at the very instant at which a lease ends, it has ended.
#[test]
fn a_late_ack_is_refused() {
    let home = Home::new();
    let store = home.open();
    let queue = store.queue::<String>("q").unwrap();
    let id = queue.push(&"job".to_owned()).unwrap();
    let first = queue.lease(Duration::from_millis(100)).unwrap().unwrap();
    assert!(queue.lease(Duration::from_millis(100)).unwrap().is_none());
    home.clock.advance(100);
    let second = queue.lease(Duration::from_millis(100)).unwrap().unwrap();
    assert_eq!((second.id(), second.deliveries()), (id, 2));
    assert!(matches!(first.ack(), Err(Error::NotHeld { .. })));
    assert!(!queue.is_empty().unwrap(), "it is the second one's");
    second.ack().unwrap();
    assert!(queue.is_empty().unwrap());

    queue.push(&"other".to_owned()).unwrap();
    let message = queue.lease(Duration::from_millis(100)).unwrap().unwrap();
    home.clock.advance(100);
    assert!(matches!(message.ack(), Err(Error::NotHeld { .. })), "nobody took it, and it is over");
    assert_eq!(queue.pull().unwrap().as_deref(), Some("other"));
}

/// Goal: a consumer that is killed keeps nobody from its item for longer than the lease.
#[test]
fn leases_go_on_after_a_restart() {
    let home = Home::new();
    let store = home.open();
    let queue = store.queue::<u8>("q").unwrap();
    queue.push(&7).unwrap();
    let message = queue.lease(Duration::from_millis(100)).unwrap().unwrap();
    assert_eq!(*message, 7);
    let store = home.reopen(store);
    let queue = store.queue::<u8>("q").unwrap();
    home.clock.advance(99);
    assert_eq!((queue.len().unwrap(), queue.pull().unwrap()), (1, None));
    home.clock.advance(1);
    assert_eq!(queue.lease(Duration::ZERO).unwrap().map(|message| message.deliveries()), Some(2));
    assert_eq!(queue.pull().unwrap(), Some(7), "a lease of no time is over at once");
    drop(message);
}

/// Goal: what cannot be decoded is named, blocks nothing for ever, and is not lost unasked.
#[test]
fn an_undecodable_item_stays() {
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    enum Job {
        Old,
        New,
    }
    let home = Home::new();
    let store = home.open();
    let queue = store.queue::<Job>("q").unwrap();
    let id = queue.push(&Job::Old).unwrap();
    queue.push(&Job::New).unwrap();
    // The program forgets what `Old` was: the same bytes with another name.
    let engine = store.engine().unwrap();
    let found: Vec<_> = engine.iter().unwrap().map(Result::unwrap).collect();
    let (key, entry) = found
        .into_iter()
        .find(|(_, entry)| entry.value.windows(3).any(|part| part == b"Old"))
        .unwrap();
    let options = tierce_engine::PutOptions::new().codec(entry.codec, entry.schema);
    engine.put_with(&key, b"\xa3Odd", &options).unwrap();
    for _ in 0..3 {
        let error = queue.pull().unwrap_err();
        assert!(
            matches!(&error, Error::Decode { key, .. } if key.contains(&id.to_string())),
            "{error}"
        );
        assert_eq!(queue.len().unwrap(), 2);
    }
    assert!(queue.remove(id).unwrap());
    let store = home.reopen(store);
    let queue = store.queue::<Job>("q").unwrap();
    assert!(matches!(queue.pull().unwrap(), Some(Job::New)));
    assert!(queue.pull().unwrap().is_none());
}

#[test]
fn names_do_not_meet() {
    let store = Home::new().open();
    let names = ["a", "a-5", "a/b", "ab"];
    for name in names {
        store.queue::<String>(name).unwrap().push(&name.to_owned()).unwrap();
    }
    for name in names {
        let queue = store.queue::<String>(name).unwrap();
        assert_eq!((queue.pull().unwrap().as_deref(), queue.pull().unwrap()), (Some(name), None));
    }
    let store = Home::new().open();
    store.queue::<u8>("a").unwrap();
    assert_eq!(store.queue::<u16>("a").unwrap_err().kind(), "type");
    assert_eq!(store.deque::<u8>("a").unwrap_err().kind(), "type");
}

/// Goal: a dropped queue is gone, and what comes under its name begins anew.
#[test]
fn a_dropped_queue() {
    let store = Home::new().open();
    let old = store.queue::<u8>("q").unwrap();
    old.push_all([1, 2]).unwrap();
    assert!(store.drop_space("q").unwrap());
    assert_eq!(old.push(&3).unwrap_err().kind(), "closed");
    let new = store.queue::<u8>("q").unwrap();
    assert_eq!(new.len().unwrap(), 0);
    new.push(&4).unwrap();
    assert_eq!(old.pull().unwrap_err().kind(), "closed");
    assert_eq!(new.pull().unwrap(), Some(4));
    let distinct: BTreeSet<_> = new.push_all([5, 6]).unwrap().collect();
    assert_eq!(distinct.len(), 2);
}
