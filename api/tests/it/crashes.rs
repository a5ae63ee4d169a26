//! Collections after a crash at each effect on the disk: every call done or not done, none half, no number twice.

use std::time::Duration;

use tierce::{Durability, Options, Store};
use tierce_kit::{
    clock::TestClock,
    crash::{Bounds, sweep},
    image::Image,
    recorder::RecordingDisk,
    rng::Rng,
    seed::cases,
};

const RING: usize = 3;

fn options(clock: &TestClock) -> Options {
    let options = Options::new().durability(Durability::Sync).segment_bytes(8 << 10);
    options.clock(clock.clone()).background(false)
}

/// What all collections hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    ring: Vec<u64>,
    waiting: Vec<(u64, u64)>,
    lines: Vec<(u64, u64)>,
    next_line: u64,
    count: i64,
}

/// What is there when every lease has ended.
fn see(store: &Store, clock: &TestClock) -> tierce::Result<Seen> {
    clock.advance(2_000);
    let queue = store.queue::<u64>("queue")?;
    let log = store.log::<u64>("log")?;
    let mut waiting = Vec::new();
    let last = queue.len()?;
    // Looks at a queue from the outside: every item by its number.
    while let Some(item) = queue.peek()? {
        waiting.push(item);
        queue.remove(item.0)?;
    }
    assert_eq!(waiting.len(), last);
    Ok(Seen {
        ring: store.deque("ring")?.items()?,
        waiting,
        lines: log.read(0, 1_000)?.into_iter().map(|line| (line.id, line.value)).collect(),
        next_line: log.next_id()?,
        count: store.counter("count")?.get()?,
    })
}

/// One call, and what it leads to.
fn step(store: &Store, rng: &mut Rng, seen: &mut Seen, ids: &mut Vec<u64>) -> tierce::Result<()> {
    let value = rng.next_u64();
    let ring = store.deque::<u64>("ring")?;
    let queue = store.queue::<u64>("queue")?;
    let log = store.log::<u64>("log")?;
    match rng.below(10) {
        0..=1 => {
            ring.push_back(&value)?;
            seen.ring.push(value);
            let len = seen.ring.len();
            seen.ring.drain(..len.saturating_sub(RING));
        }
        2 => {
            ring.rotate(1)?;
            let by = 1.min(seen.ring.len());
            seen.ring.rotate_right(by);
        }
        3 => {
            ring.reverse()?;
            seen.ring.reverse();
        }
        4 => {
            let id = queue.push(&value)?;
            seen.waiting.push((id, value));
        }
        5 => {
            queue.pull()?;
            seen.waiting.drain(..1.min(seen.waiting.len()));
        }
        6 => {
            if let Some(message) = queue.lease(Duration::from_secs(1))? {
                message.release()?;
            }
        }
        7..=8 => {
            let id = log.append(&value)?;
            seen.lines.push((id, value));
            seen.next_line = id + 1;
        }
        _ => {
            seen.count = store.counter("count")?.add(1)?;
            ids.push(store.sequence("ids")?.reserving(2).next_id()?);
        }
    }
    Ok(())
}

/// Goal: after a crash anywhere, what is there is what was there after the last call that returned, or after the one
/// that was under way; and numbers that were given out are not given out again.
#[test]
fn done_or_not_done() {
    cases("crashes::done_or_not_done", 3, |seed| {
        let (clock, disk, mut rng) = (TestClock::new(), RecordingDisk::new(), Rng::new(seed));
        let store = Store::open_with("store", options(&clock).disk(disk.clone())).unwrap();
        store.bounded_deque::<u64>("ring", RING).unwrap();
        store.counter("count").unwrap();
        store.sequence("ids").unwrap();
        let mut seen = Seen { next_line: 1, ..Seen::default() };
        store.queue::<u64>("queue").unwrap();
        store.log::<u64>("log").unwrap();
        let first = disk.event_count();
        let (mut history, mut ids) = (vec![(first, seen.clone(), 0)], Vec::new());
        for _ in 0..25 {
            step(&store, &mut rng, &mut seen, &mut ids).unwrap();
            history.push((disk.event_count(), seen.clone(), ids.len()));
        }
        let log = disk.log();
        drop(store);
        let bounds = Bounds { prefixes: 2, singles: 2, randoms: 2, tears: 2 };
        let visit = |point: usize, plan: &_, image: Image| {
            check(point, &image, &history, &ids, &clock)
                .map_err(|text| format!("{point} {plan:?}: {text}"))
        };
        sweep(&log, first, &bounds, seed, visit).unwrap();
    });
}

fn check(
    point: usize,
    image: &Image,
    history: &[(usize, Seen, usize)],
    ids: &[u64],
    clock: &TestClock,
) -> Result<(), String> {
    let acked = history.iter().rposition(|(at, ..)| *at <= point).unwrap_or(0);
    let may_be: Vec<_> = history.iter().skip(acked).take(2).collect();
    let disk = image.memory_disk();
    let store =
        Store::open_with("store", options(clock).disk(disk)).map_err(|error| error.to_string())?;
    let given = may_be.first().map_or(0, |(.., given)| *given);
    let id =
        store.sequence("ids").and_then(|ids| ids.next_id()).map_err(|error| error.to_string())?;
    if ids.iter().take(given).any(|given| *given >= id) {
        return Err(format!("number {id} again: {ids:?}"));
    }
    let found = see(&store, clock).map_err(|error| error.to_string())?;
    // The counter's step has two halves: one call each.
    if may_be.iter().any(|(_, seen, _)| *seen == found) {
        return Ok(());
    }
    Err(format!("{found:?} is none of {may_be:?}"))
}
