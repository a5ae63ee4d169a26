//! Logs against a list of lines, with retention, time and restarts.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tierce::{
    Timestamp,
    collections::{Line, LogOptions},
};
use tierce_kit::{rng::Rng, seed::cases};

use crate::home::{Home, threads};

type Lines = Vec<(u64, u64, String)>;

fn plain(lines: Vec<Line<String>>) -> Lines {
    lines.into_iter().map(|line| (line.id, line.at.0, line.value)).collect()
}

/// Goal: any history of calls, time, limits and restarts shows what a list would.
#[test]
fn any_history() {
    cases("log::any_history", 60, |seed| {
        let (home, mut rng) = (Home::new(), Rng::new(seed));
        let (mut store, mut all, mut last) = (home.open(), Lines::new(), 0);
        // Limits that hold from the beginning to the end, so that the list knows what is gone.
        let (age, count) = (rng.below(2) * 40, rng.below(2) * 7);
        let mut options = LogOptions::new();
        if age > 0 {
            options = options.max_age(Duration::from_millis(age));
        }
        if count > 0 {
            options = options.max_count(count);
        }
        for step in 0..80 {
            let log = store.log_with::<String>("l", &options).unwrap();
            let now = store.now().0;
            match rng.below(10) {
                0..=3 => {
                    let text = "x".repeat(rng.below(20) as usize);
                    last += 1;
                    assert_eq!(log.append(&text).unwrap(), last);
                    all.push((last, now, text));
                }
                4 => {
                    let more: Vec<_> = (0..rng.below(30)).map(|n| n.to_string()).collect();
                    let ids = log.append_all(more.clone()).unwrap();
                    assert_eq!(ids, last + 1..last + 1 + more.len() as u64);
                    all.extend(ids.zip(more).map(|(id, text)| (id, now, text)));
                    last = all.last().map_or(last, |line| line.0.max(last));
                }
                5..=6 => home.clock.advance(rng.below(30)),
                7 => assert!(log.prune().unwrap() <= last),
                8 if rng.one_in(6) => {
                    log.clear().unwrap();
                    all.clear();
                }
                8 => {}
                _ => store = home.reopen(store),
            }
            let log = store.log_with::<String>("l", &options).unwrap();
            let now = store.now().0;
            let kept = plain(log.read(0, usize::MAX).unwrap());
            // Never more than the limits say, never less than they leave, always the end of the list.
            assert!(all.ends_with(&kept), "step {step}: {kept:?}");
            if count > 0 {
                assert!(kept.len() <= count as usize);
            }
            let is_old = |line: &(u64, u64, String)| age > 0 && line.1 + age <= now;
            assert!(!kept.iter().any(is_old), "step {step}");
            let first = kept.first().map_or(last + 1, |line| line.0);
            let forgotten = all.iter().filter(|line| line.0 < first);
            let newest_forgotten = forgotten.clone().next_back().cloned();
            if let Some(line) = newest_forgotten {
                let is_over = count > 0 && all.len() as u64 - forgotten.count() as u64 == count;
                assert!(is_over || is_old(&line), "step {step}: {line:?} need not have gone");
            }
            all = kept;
            check_reads(&log, &all, last, &mut rng);
        }
    });
}

fn check_reads(log: &tierce::collections::Log<String>, all: &Lines, last: u64, rng: &mut Rng) {
    assert_eq!(log.len().unwrap(), all.len() as u64);
    assert_eq!(log.is_empty().unwrap(), all.is_empty());
    assert_eq!(log.next_id().unwrap(), last + 1);
    let count = rng.below(12) as usize;
    assert_eq!(plain(log.tail(count).unwrap()), all[all.len().saturating_sub(count)..]);
    let from = rng.below(last + 3);
    let expected: Lines = all.iter().filter(|line| line.0 >= from).take(count).cloned().collect();
    assert_eq!(plain(log.read(from, count).unwrap()), expected);
    let line = all.iter().find(|line| line.0 == from).cloned();
    assert_eq!(log.get(from).unwrap().map(|line| (line.id, line.at.0, line.value)), line);
    let times = all.iter().map(|line| line.1);
    let (low, high) = (times.clone().min().unwrap_or(0), times.max().unwrap_or(0));
    let time = rng.between(low.saturating_sub(2), high + 2);
    let expected: Lines = all.iter().filter(|line| line.1 >= time).cloned().collect();
    assert_eq!(plain(log.since(Timestamp(time)).unwrap()), expected);
}

/// Goal: a log that is to keep fewer bytes gets there, and its disk with it.
#[test]
fn bytes_are_limited() {
    let home = Home::new();
    let store = home.open();
    let everything = store.log::<String>("l").unwrap();
    everything.append_all((0..300).map(|_| "x".repeat(100))).unwrap();
    let limited = store.log_with::<String>("l", &LogOptions::new().max_bytes(1_020)).unwrap();
    let before = everything.len().unwrap();
    limited.append(&"x".repeat(100)).unwrap();
    let step = before + 1 - limited.len().unwrap();
    assert!((2..=9).contains(&step), "an append forgets little: {step}");
    limited.prune().unwrap();
    assert_eq!(limited.len().unwrap(), 10, "of 102 bytes each");
    assert_eq!(store.space_stats("l").unwrap().unwrap().entries, 11);
    limited.append(&"x".repeat(5_000)).unwrap();
    limited.prune().unwrap();
    assert_eq!(limited.len().unwrap(), 1, "the newest stays, however large it is");
    assert_eq!(limited.prune().unwrap(), 0);
    let store = home.reopen(store);
    let limited = store.log_with::<String>("l", &LogOptions::new().max_bytes(1_020)).unwrap();
    (0..20).try_for_each(|_| limited.append(&"x".repeat(100)).map(drop)).unwrap();
    assert_eq!(limited.len().unwrap(), 10);
    assert_eq!(limited.next_id().unwrap(), 323, "numbers go on");
}

/// Goal: threads get rows of numbers without a gap, and times never go back, also if the wall clock does.
#[test]
fn many_threads_and_a_clock_that_jumps() {
    let home = Home::new();
    let store = home.open();
    let log = store.log::<usize>("l").unwrap();
    let ids = threads(8, |at| {
        (0..25)
            .map(|number| {
                home.clock.jump_wall(if number % 2 == 0 { 50 } else { -70 });
                log.append(&at).unwrap()
            })
            .collect::<Vec<_>>()
    });
    let mut ids: Vec<_> = ids.into_iter().flatten().collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=200).collect::<Vec<_>>());
    let lines = log.read(0, 1_000).unwrap();
    assert_eq!(lines.len(), 200);
    assert!(lines.is_sorted_by_key(|line| line.at));
}

/// Goal: a field that is added later is shown with its default, and old lines are not written again (seed 001).
#[test]
fn a_field_is_added() {
    #[derive(Serialize, Deserialize)]
    struct Event {
        event_type: String,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct EventNow {
        event_type: String,
        #[serde(default)]
        priority: i32,
    }
    let home = Home::new();
    let store = home.open();
    let old = store.log::<Event>("events").unwrap();
    old.append(&Event { event_type: "motion".to_owned() }).unwrap();
    assert_eq!(store.log::<EventNow>("events").unwrap_err().kind(), "type", "unless it is named");
    let named = LogOptions::new().value_type("event");
    store
        .log_with::<Event>("named", &named)
        .unwrap()
        .append(&Event { event_type: "a".to_owned() })
        .unwrap();
    let store = home.reopen(store);
    let new = store.log_with::<EventNow>("named", &named).unwrap();
    new.append(&EventNow { event_type: "b".to_owned(), priority: 3 }).unwrap();
    let seen: Vec<_> =
        new.read(0, 9).unwrap().into_iter().map(|line| (line.id, line.value.priority)).collect();
    assert_eq!(seen, [(1, 0), (2, 3)]);
}
