//! Deques against `VecDeque`.

use std::collections::VecDeque;

use tierce::collections::Deque;
use tierce_kit::{rng::Rng, seed::cases};

use crate::home::{Home, threads};

/// What a deque with a maximum length does.
#[derive(Debug, Default)]
struct Model {
    items: VecDeque<u32>,
    max: Option<usize>,
}

impl Model {
    fn push_back(&mut self, item: u32) {
        self.items.push_back(item);
        while self.max.is_some_and(|max| self.items.len() > max) {
            self.items.pop_front();
        }
    }

    fn push_front(&mut self, item: u32) {
        self.items.push_front(item);
        while self.max.is_some_and(|max| self.items.len() > max) {
            self.items.pop_back();
        }
    }

    fn rotate(&mut self, steps: i64) {
        for _ in 0..steps.abs() {
            let moved = if steps > 0 { self.items.pop_back() } else { self.items.pop_front() };
            match moved {
                Some(item) if steps > 0 => self.items.push_front(item),
                Some(item) => self.items.push_back(item),
                None => {}
            }
        }
    }

    fn at(&self, index: i64) -> Option<u32> {
        let from_first = if index < 0 { index + self.items.len() as i64 } else { index };
        usize::try_from(from_first).ok().and_then(|index| self.items.get(index)).copied()
    }
}

impl Model {
    fn set(&mut self, near: i64, item: u32) {
        let at = if near < 0 { near + self.items.len() as i64 } else { near };
        if let Some(place) = usize::try_from(at).ok().and_then(|at| self.items.get_mut(at)) {
            *place = item;
        }
    }
}

fn is_as_the_model(deque: &Deque<u32>, model: &Model, step: u32, near: i64, item: u32) {
    assert_eq!(model.items, deque.items().unwrap(), "step {step}");
    assert_eq!(deque.len().unwrap(), model.items.len());
    assert_eq!(deque.is_empty().unwrap(), model.items.is_empty());
    assert_eq!(deque.max_len().unwrap(), model.max);
    assert_eq!(deque.get(near).unwrap(), model.at(near));
    assert_eq!(deque.front().unwrap(), model.items.front().copied());
    assert_eq!(deque.back().unwrap(), model.items.back().copied());
    let count = model.items.iter().filter(|one| **one == item).count();
    assert_eq!(deque.count(&item).unwrap(), count);
}

/// Goal: any history of calls and restarts leaves what `VecDeque` holds.
#[test]
fn any_history() {
    cases("deque::any_history", 60, |seed| {
        let (home, mut rng) = (Home::new(), Rng::new(seed));
        let mut model = Model {
            max: [None, Some(3), Some(8), Some(0)][rng.below(4) as usize],
            ..Model::default()
        };
        let mut store = home.open();
        if let Some(max) = model.max {
            store.bounded_deque::<u32>("d", max).unwrap();
        }
        for step in 0..80 {
            let deque = store.deque::<u32>("d").unwrap();
            let item = rng.below(6) as u32;
            let near = rng.below(9) as i64 - 4;
            match rng.below(16) {
                0..=2 => {
                    deque.push_back(&item).unwrap();
                    model.push_back(item);
                }
                3..=4 => {
                    deque.push_front(&item).unwrap();
                    model.push_front(item);
                }
                5 => assert_eq!(deque.pop_back().unwrap(), model.items.pop_back()),
                6 => assert_eq!(deque.pop_front().unwrap(), model.items.pop_front()),
                7 => {
                    let more: Vec<_> = (0..rng.below(12) as u32).collect();
                    deque.extend(more.clone()).unwrap();
                    more.into_iter().for_each(|item| model.push_back(item));
                }
                8..=9 => {
                    deque.rotate(near).unwrap();
                    model.rotate(near);
                }
                10 => {
                    deque.reverse().unwrap();
                    model.items = model.items.iter().rev().copied().collect();
                }
                11..=12 => {
                    let at = model.items.iter().position(|found| *found == item);
                    assert_eq!(deque.remove(&item).unwrap(), at.is_some());
                    at.map(|at| model.items.remove(at));
                }
                13 => {
                    assert_eq!(deque.set(near, &item).unwrap(), model.at(near).is_some());
                    model.set(near, item);
                }
                14 if rng.one_in(4) => {
                    deque.clear().unwrap();
                    model.items.clear();
                }
                14 => {
                    model.max = [None, Some(2), Some(5)][rng.below(3) as usize];
                    deque.set_max_len(model.max).unwrap();
                    while model.max.is_some_and(|max| model.items.len() > max) {
                        model.items.pop_front();
                    }
                }
                _ => store = home.reopen(store),
            }
            is_as_the_model(&store.deque::<u32>("d").unwrap(), &model, step, near, item);
        }
        let stats = store.space_stats("d").unwrap().unwrap();
        assert!(stats.entries <= model.items.len() as u64 + 1, "nothing is left behind");
    });
}

/// Goal: the maximum length is kept, and nobody changes it by opening.
#[test]
fn the_maximum_is_kept() {
    let home = Home::new();
    let store = home.open();
    store.bounded_deque::<u8>("d", 2).unwrap();
    let store = home.reopen(store);
    let deque = store.deque::<u8>("d").unwrap();
    deque.extend([1, 2, 3]).unwrap();
    assert_eq!(deque.items().unwrap(), [2, 3]);
    assert_eq!(store.bounded_deque::<u8>("d", 3).unwrap_err().kind(), "options");
    assert_eq!(store.bounded_deque::<u8>("d", 2).unwrap().items().unwrap(), [2, 3]);
    deque.set_max_len(Some(3)).unwrap();
    let store = home.reopen(store);
    store.bounded_deque::<u8>("d", 3).unwrap();
    assert_eq!(store.deque::<u16>("d").unwrap_err().kind(), "type");
}

/// Goal: what is pushed by many is popped once, and a full list stays as long as it is.
#[test]
fn many_threads() {
    let store = Home::new().open();
    let deque = store.deque::<usize>("d").unwrap();
    let popped = threads(8, |at| {
        let mut popped = Vec::new();
        for number in 0..25 {
            match at % 2 {
                0 => deque.push_back(&(at * 100 + number)).unwrap(),
                _ => deque.push_front(&(at * 100 + number)).unwrap(),
            }
            popped.extend(
                if number % 2 == 0 { deque.pop_front() } else { deque.pop_back() }.unwrap(),
            );
        }
        popped
    });
    let mut all: Vec<_> = popped.into_iter().flatten().chain(deque.items().unwrap()).collect();
    all.sort_unstable();
    let expected: Vec<_> =
        (0..8).flat_map(|at| (0..25).map(move |number| at * 100 + number)).collect();
    assert_eq!(all, expected);

    let ring = store.bounded_deque::<usize>("ring", 5).unwrap();
    threads(8, |at| (0..25).for_each(|number| ring.push_back(&(at * number)).unwrap()));
    assert_eq!((ring.len().unwrap(), ring.items().unwrap().len()), (5, 5));
}

/// Goal: lists of names that begin alike do not meet.
#[test]
fn names_do_not_meet() {
    let store = Home::new().open();
    for name in ["a", "a-5", "a/b", "ab"] {
        store.deque::<String>(name).unwrap().push_back(&name.to_owned()).unwrap();
    }
    for name in ["a", "a-5", "a/b", "ab"] {
        assert_eq!(store.deque::<String>(name).unwrap().items().unwrap(), [name]);
    }
}
