//! Queues: deeds that meet, items that fail, and a model beside random deeds.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use tierce::{
    Error, Options, Store,
    collections::{Message, Queue},
    engine::io::MemoryDisk,
    testing::ManualClock,
};
use tierce_kit::{rng::Rng, seed::cases};

use crate::{
    cache::{seconds, until},
    hooks::{Call, HookedDisk},
};

/// What it answers does not matter.
fn done<T>(_: T) {}

fn store() -> (Store, ManualClock) {
    let clock = ManualClock::new();
    let options = Options::new().disk(MemoryDisk::new()).clock(clock.clone()).background(false);
    (Store::open_with("store", options).unwrap(), clock)
}

/// Goal: an item that always fails does not keep the others waiting: it pauses, goes to the back, or moves to another
/// queue, with the count of its deliveries, and over a restart.
#[test]
fn items_that_fail() {
    let (store, clock) = store();
    let queue = store.queue::<String>("jobs").unwrap();
    queue.push_all(["poison".to_owned(), "good".to_owned()]).unwrap();
    let lease = |queue: &Queue<String>| queue.lease(seconds(60)).unwrap().unwrap();
    let poison = lease(&queue);
    poison.release_after(seconds(10)).unwrap();
    let good = lease(&queue);
    assert_eq!(*good, "good");
    good.release().unwrap();
    clock.advance(seconds(11));
    let poison = lease(&queue);
    assert_eq!((poison.as_str(), poison.deliveries()), ("poison", 2));
    let moved = poison.move_to(&queue).unwrap();
    assert_eq!(lease(&queue).id(), 2);
    let poison = lease(&queue);
    assert_eq!((poison.id(), poison.deliveries()), (moved, 3));
    let dead = store.queue::<String>("jobs/dead").unwrap();
    poison.move_to(&dead).unwrap();
    assert_eq!((queue.len().unwrap(), dead.len().unwrap()), (1, 1));
    drop((queue, dead));
    let dead = store.queue::<String>("jobs/dead").unwrap();
    let poison = lease(&dead);
    assert_eq!((poison.as_str(), poison.deliveries()), ("poison", 4));
    // The lease has ended: another consumer has it.
    clock.advance(seconds(61));
    assert!(matches!(poison.move_to(&store.queue("jobs").unwrap()), Err(Error::NotHeld { .. })));
    assert_eq!(dead.len().unwrap(), 1);
    let elsewhere = self::store().0.queue::<String>("jobs").unwrap();
    assert!(matches!(lease(&dead).move_to(&elsewhere), Err(Error::Unsupported { .. })));
}

/// What a queue is to hold: numbers, and the lease's end of those that are leased.
type Model = BTreeMap<u64, u64>;

/// Goal: a queue does what a list of items does, whatever is done to it, and what it counts is what is there.
#[test]
fn random_deeds() {
    cases("trials_queue::random_deeds", 60, |seed| {
        let mut rng = Rng::new(seed);
        let (store, clock) = store();
        let mut queue = store.queue::<u64>("q").unwrap();
        let mut model = Model::new();
        let mut held: Vec<Message<u64>> = Vec::new();
        for _ in 0..rng.between(20, 120) {
            let now = store.now().0;
            let first = model.iter().find(|(_, until)| **until <= now).map(|(id, _)| *id);
            match rng.below(12) {
                0..=2 => {
                    let id = queue.push(&rng.next_u64()).unwrap();
                    model.insert(id, 0);
                }
                3 => {
                    assert_eq!(queue.pull().unwrap().is_some(), first.is_some());
                    first.and_then(|id| model.remove(&id));
                }
                4 | 5 => {
                    let message = queue.lease(seconds(10)).unwrap();
                    assert_eq!(message.as_ref().map(Message::id), first);
                    if let Some(message) = message {
                        model.insert(message.id(), message.leased_until().0);
                        held.push(message);
                    }
                }
                6 => clock.advance(seconds(rng.between(1, 6))),
                7 => {
                    let id = rng.below(20);
                    assert_eq!(queue.remove(id).unwrap(), model.remove(&id).is_some());
                }
                8 if rng.one_in(4) => {
                    queue.clear().unwrap();
                    model.clear();
                }
                9 if rng.one_in(3) => {
                    held.clear();
                    drop(queue);
                    queue = store.queue("q").unwrap();
                }
                _ => finish(&mut held, &queue, &mut model, &mut rng, now),
            }
            assert_eq!(queue.len().unwrap(), model.len());
            let now = store.now().0;
            let waiting = model.values().filter(|until| **until <= now).count();
            assert_eq!(queue.waiting().unwrap(), waiting);
        }
    });
}

/// Does something with one of the messages that are held, if it is held still.
fn finish(
    held: &mut Vec<Message<u64>>,
    queue: &Queue<u64>,
    model: &mut Model,
    rng: &mut Rng,
    now: u64,
) {
    if held.is_empty() {
        return;
    }
    let mut message = held.swap_remove(rng.below(held.len() as u64) as usize);
    let (id, until) = (message.id(), message.leased_until().0);
    let is_held = model.get(&id) == Some(&until) && now < until;
    let done = match rng.below(5) {
        0 => message.ack().map(|()| done(model.remove(&id))),
        1 => message.release().map(|()| done(model.insert(id, 0))),
        2 => message.release_after(seconds(3)).map(|()| done(model.insert(id, now + 3_000))),
        3 => message.extend(seconds(20)).map(|()| {
            model.insert(id, message.leased_until().0);
            held.push(message);
        }),
        _ => message.move_to(queue).map(|new| {
            model.remove(&id);
            model.insert(new, 0);
        }),
    };
    assert_eq!(done.is_ok(), is_held, "{done:?}");
}

/// Goal: a queue that threads lease from, release to, extend, clear and take items out of counts what is there in the
/// end: nothing, once it is cleared.
#[test]
fn deeds_that_meet_a_clear() {
    cases("trials_queue::deeds_that_meet_a_clear", 30, |seed| {
        let (store, _) = store();
        let queue = store.queue::<u64>("q").unwrap();
        let running = AtomicU32::new(3);
        thread::scope(|scope| {
            for number in 0..3 {
                let (queue, running) = (&queue, &running);
                scope.spawn(move || {
                    let mut rng = Rng::new(seed.wrapping_add(number));
                    for _ in 0..60 {
                        match queue.lease(Duration::from_secs(3_600)).unwrap() {
                            None => done(queue.push(&1).unwrap()),
                            Some(message) => finish_any(message, queue, &mut rng),
                        }
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                });
            }
            let mut rng = Rng::new(!seed);
            while running.load(Ordering::SeqCst) > 0 {
                match rng.one_in(3) {
                    true => queue.clear().unwrap(),
                    false => done(queue.remove(rng.below(100)).unwrap()),
                }
            }
        });
        let counted = queue.len().unwrap();
        drop(queue);
        assert_eq!(counted, store.queue::<u64>("q").unwrap().len().unwrap());
        store.queue::<u64>("q").unwrap().clear().unwrap();
        assert_eq!(store.queue::<u64>("q").unwrap().len().unwrap(), 0);
    });
}

fn finish_any(mut message: Message<u64>, queue: &Queue<u64>, rng: &mut Rng) {
    let done = match rng.below(5) {
        0 => message.ack(),
        1 => message.release(),
        2 => message.release_after(seconds(60)),
        3 => message.extend(seconds(7_200)),
        _ => message.move_to(queue).map(drop),
    };
    assert!(matches!(done, Ok(()) | Err(Error::NotHeld { .. })), "{done:?}");
}

/// Goal: an item that is leased while the queue is cleared or it is taken out, and one that is released or extended
/// then, is not counted afterwards.
/// Method: the deed's write is held up on the device, and so is its index, until the other one waits for its turn.
#[test]
fn a_lease_beside_a_clear() {
    type Ends = fn(&Queue<u32>) -> bool;
    let ends: [Ends; 2] = [|queue| queue.clear().is_ok(), |queue| queue.remove(1).unwrap()];
    type Deed = fn(&Queue<u32>, Option<Message<u32>>) -> Option<Message<u32>>;
    let lease: Deed = |queue, _| queue.lease(seconds(3_600)).unwrap();
    let deeds: [(bool, Deed); 4] = [
        (false, lease),
        (true, |_, held| {
            held.unwrap().release().unwrap();
            None
        }),
        (true, |_, held| {
            held.unwrap().release_after(seconds(60)).unwrap();
            None
        }),
        (true, |_, held| {
            held.unwrap().extend(seconds(60)).unwrap();
            None
        }),
    ];
    for end in ends {
        for (is_held, deed) in deeds {
            let (armed, entered) =
                (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let disk = {
                let (armed, entered) = (Arc::clone(&armed), Arc::clone(&entered));
                HookedDisk::new(MemoryDisk::new(), move |call| {
                    if call == Call::Sync && armed.swap(false, Ordering::SeqCst) {
                        entered.store(true, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(60));
                    }
                })
            };
            let options = Options::new().disk(disk).background(false);
            let store =
                Store::open_with("store", options.durability(tierce::Durability::Sync)).unwrap();
            let queue = store.queue::<u32>("q").unwrap();
            queue.push(&1).unwrap();
            let held = is_held.then(|| lease(&queue, None).unwrap());
            armed.store(true, Ordering::SeqCst);
            thread::scope(|scope| {
                let deed = scope.spawn(|| deed(&queue, held));
                until("the deed is at the device", || entered.load(Ordering::SeqCst));
                assert!(end(&queue), "it was there");
                if let Some(message) = deed.join().unwrap() {
                    assert!(message.ack().is_err(), "gone after it was leased");
                }
            });
            assert_eq!(queue.len().unwrap(), 0, "nothing is in the queue");
        }
    }
}
