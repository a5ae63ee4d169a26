//! Clocks that are wrong: at opening, between openings, and in the middle.

use std::path::Path;

use tierce_engine::{Knobs, PutOptions, Timestamp, io::MemoryDisk};
use tierce_kit::{
    clock::{TestClock, Time},
    rng::Rng,
    seed::cases,
    store::{STORE, Setup, TestStore},
};

use crate::basics::{assert_seen, value_of};

const YEAR_MS: u64 = 365 * 24 * 3_600_000;
const TEN_YEARS_MS: i64 = 10 * YEAR_MS as i64;
/// New year 2100.
const YEAR_2100_MS: u64 = 4_102_444_800_000;

fn at(wall_ms: u64) -> TestClock {
    TestClock::at(Time { wall_ms, monotonic_ms: 5, boot_id: [9; 16] })
}

fn store(disk: &MemoryDisk, clock: &TestClock) -> TestStore {
    let setup = Setup { knobs: Knobs::new(), ..Setup::default() };
    TestStore::at(disk.clone(), Path::new(STORE), setup, clock)
}

fn put_for(store: &TestStore, key: &str, ms: u64) {
    let at = store.engine().now().saturating_add_ms(ms);
    store.engine().put_with(key, "v", &PutOptions::new().expires_at(at)).unwrap();
}

/// Goal: a store begun in 1970 works, and goes on in the present: nothing lost, nothing immortal.
#[test]
fn begun_in_1970() {
    let (disk, clock) = (MemoryDisk::new(), at(0));
    let mut store = store(&disk, &clock);
    assert_eq!(store.engine().now(), Timestamp(0));
    store.engine().put("for ever", "v").unwrap();
    put_for(&store, "short", 1_000);
    put_for(&store, "century", 100 * YEAR_MS);
    clock.advance(999);
    assert_seen(store.engine(), "short", true);
    clock.advance(1);
    assert_seen(store.engine(), "short", false);
    put_for(&store, "short", 1_000);
    store.reopen();
    assert_seen(store.engine(), "short", true);
    store.close();
    clock.set_wall(TestClock::START_MS);
    clock.reboot();
    store.open();
    assert_eq!(store.engine().now(), Timestamp(TestClock::START_MS), "believed at opening");
    for (key, there) in [("for ever", true), ("short", false), ("century", true)] {
        assert_seen(store.engine(), key, there);
    }
}

/// Goal: a machine that boots in 1970 goes on where the store left off.
#[test]
fn reopened_in_1970() {
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let mut store = store(&disk, &clock);
    put_for(&store, "gone", 1_000);
    put_for(&store, "short", 5_000);
    store.engine().put("for ever", "v").unwrap();
    clock.advance(1_000);
    let closed_at = store.engine().now();
    store.close();
    clock.set_wall(0);
    clock.reboot();
    store.open();
    assert_eq!(store.engine().now(), closed_at);
    for (key, there) in [("gone", false), ("short", true), ("for ever", true)] {
        assert_seen(store.engine(), key, there);
    }
    clock.advance(4_000);
    assert_seen(store.engine(), "short", false);
    assert_seen(store.engine(), "for ever", true);
}

/// Goal: a store opened in 2100 works; once that time has stood for minutes it never goes back: what had expired stays
/// so. (Before that, see `trials::clocks`.)
#[test]
fn opened_in_2100() {
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let mut store = store(&disk, &clock);
    put_for(&store, "a year", YEAR_MS);
    store.engine().put("for ever", "v").unwrap();
    store.close();
    clock.set_wall(YEAR_2100_MS);
    store.open();
    assert_eq!(store.engine().now(), Timestamp(YEAR_2100_MS));
    assert_seen(store.engine(), "a year", false);
    assert_seen(store.engine(), "for ever", true);
    for _ in 0..4 {
        // It has stood where it is read, not in between.
        assert!(store.engine().clock_doubt().is_some());
        clock.advance(5 * 60_000 / 4);
    }
    assert_eq!(store.engine().clock_doubt(), None);
    put_for(&store, "a minute", 60_000);
    store.close();
    clock.set_wall(TestClock::START_MS);
    store.open();
    assert!(store.engine().now() >= Timestamp(YEAR_2100_MS));
    assert_seen(store.engine(), "a year", false);
    assert_seen(store.engine(), "a minute", true);
    clock.advance(60_000);
    assert_seen(store.engine(), "a minute", false);
    assert_seen(store.engine(), "for ever", true);
}

/// Goal: what a session saw as expired stays so in the next one, even if the session wrote nothing and the clock
/// goes back between the two.
#[test]
fn time_does_not_go_back_over_a_session_without_writes() {
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let mut store = store(&disk, &clock);
    put_for(&store, "short", 1_000);
    store.close();
    clock.advance(5_000);
    store.open();
    assert_seen(store.engine(), "short", false);
    let seen = store.engine().now();
    store.close();
    clock.set_wall(0);
    clock.reboot();
    store.open();
    assert_seen(store.engine(), "short", false);
    assert!(store.engine().now() >= seen, "{} after {seen:?}", store.engine().now().0);
}

/// Goal: ten years back while open stops nothing: what is to expire does, in its time.
#[test]
fn ten_years_back_while_open() {
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let mut store = store(&disk, &clock);
    put_for(&store, "short", 1_000);
    clock.jump_wall(-TEN_YEARS_MS);
    let before = store.engine().now();
    assert_eq!(before, Timestamp(TestClock::START_MS));
    clock.advance(999);
    assert_seen(store.engine(), "short", true);
    put_for(&store, "later", 1_000);
    clock.advance(1);
    assert_seen(store.engine(), "short", false);
    store.reopen();
    assert!(store.engine().now() >= Timestamp(before.0 + 1_000), "over a restart too");
    assert_seen(store.engine(), "short", false);
    assert_seen(store.engine(), "later", true);
    clock.advance(1_000);
    assert_seen(store.engine(), "later", false);
}

/// Goal: ten years ahead while open loses nothing until it has stood for a minute; then it is the time. An hour between
/// two looks, after which it is ten years ahead again, says nothing of what was in between.
#[test]
fn ten_years_ahead_while_open() {
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let store = store(&disk, &clock);
    put_for(&store, "hour", 3_600_000);
    store.engine().put("for ever", "v").unwrap();
    clock.jump_wall(TEN_YEARS_MS);
    assert_seen(store.engine(), "hour", true);
    clock.advance(30_000);
    clock.jump_wall(-TEN_YEARS_MS);
    assert_seen(store.engine(), "hour", true);
    assert_eq!(store.engine().now(), Timestamp(TestClock::START_MS + 30_000));
    clock.jump_wall(TEN_YEARS_MS);
    assert_seen(store.engine(), "hour", true);
    clock.jump_wall(-TEN_YEARS_MS);
    clock.advance(30 * 60_000);
    clock.jump_wall(TEN_YEARS_MS);
    for _ in 0..3 {
        assert_seen(store.engine(), "hour", true);
        clock.advance(15_000);
    }
    // The half hour counted for a quarter of the minute.
    assert_seen(store.engine(), "hour", false);
    assert!(store.engine().now().0 > TestClock::START_MS + 9 * YEAR_MS);
    assert_seen(store.engine(), "for ever", true);
}

/// Goal: whatever the wall clock does, confirmed store time never goes back and follows the monotonic clock at least,
/// what is shown is never before it, and an entry is live exactly until its expiry. Method: random jumps, steps and
/// restarts.
#[test]
fn random_clocks() {
    cases("opening::clocks::random_clocks", 8, |seed| {
        let mut rng = Rng::new(seed);
        let (disk, clock) = (MemoryDisk::new(), TestClock::new());
        let mut store = store(&disk, &clock);
        store.engine().put("for ever", "v").unwrap();
        let mut expiries = Vec::new();
        let confirmed = |store: &TestStore| {
            let doubt = store.engine().clock_doubt();
            doubt.map_or_else(|| store.engine().now(), |doubt| doubt.confirmed)
        };
        let mut last = confirmed(&store);
        for turn in 0..300 {
            let mut least = last.0;
            match rng.below(8) {
                0 => clock.jump_wall(TEN_YEARS_MS),
                1 => clock.jump_wall(-TEN_YEARS_MS),
                2 => clock.set_wall(rng.next_u64() >> rng.between(20, 63)),
                3 => {
                    store.engine().put("something", "written").unwrap();
                    store.close();
                    if rng.one_in(2) {
                        clock.reboot();
                    }
                    store.open();
                }
                4 | 5 => {
                    let ms = rng.below(40_000);
                    clock.advance(ms);
                    least += ms;
                }
                _ => {
                    let at = store.engine().now().saturating_add_ms(rng.below(200_000));
                    let key = format!("key {turn}");
                    let options = PutOptions::new().expires_at(at);
                    store.engine().put_with(&key, "v", &options).unwrap();
                    expiries.push((key, at));
                }
            }
            let now = store.engine().now();
            last = confirmed(&store);
            assert!(last.0 >= least, "turn {turn}: {} after {least}", last.0);
            assert!(now >= last, "turn {turn}: {now:?} before {last:?}");
            for (key, at) in &expiries {
                let there = value_of(store.engine(), key).is_some();
                assert_eq!(there, now < *at, "turn {turn}: {key} at {now:?} until {at:?}");
            }
        }
        assert_seen(store.engine(), "for ever", true);
    });
}
