//! Clocks that are wrong at opening, machines that slept, stores that were closed for long.

use std::{collections::BTreeMap, time::Duration};

use tierce_engine::{Durability, Engine, Knobs, Options, PutOptions, Timestamp, io::MemoryDisk};
use tierce_kit::{
    clock::TestClock,
    crash::CrashPlan,
    image::Image,
    op::{Chosen, Op, PutOp},
    recorder::RecordingDisk,
    rng::Rng,
    run::Runner,
    seed::cases,
    store::Setup,
};

const MINUTE_MS: u64 = 60_000;
const MONTH_MS: u64 = 30 * 24 * 3_600_000;
/// New year 2100.
const YEAR_2100_MS: u64 = 4_102_444_800_000;

fn open(disk: &MemoryDisk, clock: &TestClock) -> Engine {
    options(disk, clock).open("store").unwrap()
}

fn options(disk: &MemoryDisk, clock: &TestClock) -> Options {
    let options = Options::new().disk(disk.clone()).clock(clock.clone());
    options.background(false).segment_bytes(8 << 10)
}

/// Goal: the model of the kit takes nothing for lost that a clock in doubt hides: after the wall clock was set back, what
/// a crash had left is served again, and the model says so too. Method: a write that a power cut may take and does not.
#[test]
fn a_crash_while_time_is_in_doubt() {
    let setup = Setup { automatic: false, knobs: Knobs::worst(), ..Setup::new(Durability::Os) };
    let mut runner = Runner::new(RecordingDisk::new(), setup);
    runner.open().unwrap();
    let put = PutOp { key: 4, bytes: 1_300, expires_in_ms: Some(60), ..PutOp::default() };
    let crash = Op::Crash { plan: CrashPlan::Prefix(usize::MAX) };
    runner.run(&[Op::Put(put), Op::AdvanceClock { ms: 1_100 }, crash]).unwrap();
    assert!(runner.engine().clock_doubt().is_some());
    assert_eq!(runner.engine().iter().unwrap().count(), 0);
    let all = Op::Compact { chosen: Chosen::All, cancels: false };
    runner.run(&[Op::JumpClock { ms: -3_000 }, all]).unwrap();
    assert!(runner.engine().clock_doubt().is_none());
    assert_eq!(runner.engine().iter().unwrap().count(), 1);
}

/// Forty entries that live for an hour, in segments of their own and beside others.
fn fill(engine: &Engine) {
    let ends = engine.now().saturating_add_ms(3_600_000);
    let options = PutOptions::new().expires_at(ends);
    for number in 0..40_u8 {
        engine.put_with([number], [number; 600], &options).unwrap();
    }
    for number in 40..60_u8 {
        engine.put([number], [number; 600]).unwrap();
    }
    for number in 40..55_u8 {
        engine.put([number], [number; 500]).unwrap();
    }
}

/// How many of the entries that live for an hour are there.
fn served(engine: &Engine) -> usize {
    (0..40_u8).filter(|number| engine.get([*number]).unwrap().is_some()).count()
}

/// Everything that removes what has expired.
fn tidy(engine: &Engine) {
    for _ in 0..200 {
        if !engine.step().unwrap() {
            break;
        }
    }
    engine.sweep(None).unwrap();
    engine.compact().unwrap();
    engine.checkpoint().unwrap();
}

/// Goal: a wall clock in 2100 at opening removes nothing for good, whatever works meanwhile, until it has stood for five
/// minutes: set right, while the store is open, after a closing and after a crash, everything is served again.
#[test]
fn a_clock_in_2100_at_opening() {
    for way in ["open", "closed", "crashed"] {
        let (disk, clock) = (MemoryDisk::new(), TestClock::new());
        let engine = open(&disk, &clock);
        fill(&engine);
        engine.close().unwrap();
        clock.set_wall(YEAR_2100_MS);
        clock.reboot();
        let engine = open(&disk, &clock);
        assert_eq!((engine.now(), served(&engine)), (Timestamp(YEAR_2100_MS), 0), "{way}");
        for _ in 0..4 {
            clock.advance(MINUTE_MS);
            engine.put("written", "meanwhile").unwrap();
            tidy(&engine);
        }
        assert_eq!(engine.clock_doubt().unwrap().confirmed.0, TestClock::START_MS + 4 * MINUTE_MS);
        let now = TestClock::START_MS + 6 * MINUTE_MS;
        let (engine, disk) = match way {
            "open" => (engine, disk),
            "closed" => {
                engine.close().unwrap();
                clock.set_wall(now);
                (open(&disk, &clock), disk)
            }
            _ => {
                engine.sync().unwrap();
                let left = Image::of_memory_disk(&disk).memory_disk();
                clock.set_wall(now);
                (open(&left, &clock), left)
            }
        };
        clock.set_wall(now);
        assert_eq!(
            (engine.now(), engine.clock_doubt(), served(&engine)),
            (Timestamp(now), None, 40),
            "{way}"
        );
        tidy(&engine);
        assert_eq!(served(&engine), 40, "{way}");
        clock.advance(3_600_000);
        assert_eq!(served(&engine), 0, "{way}");
        drop((engine, disk));
    }
}

/// Goal: a store that was closed for months serves nothing that is over, from the first moment, and has removed it soon:
/// after five minutes; at once if the caller says that the clock is right; in the second of two short sessions, which
/// may be a day apart.
#[test]
fn closed_for_months() {
    for way in ["waits", "told", "told at opening", "short sessions"] {
        let (disk, clock) = (MemoryDisk::new(), TestClock::new());
        let engine = open(&disk, &clock);
        fill(&engine);
        engine.close().unwrap();
        clock.advance(5 * MONTH_MS);
        let trusts = way == "told at opening";
        let mut engine = options(&disk, &clock).trust_clock(trusts).open("store").unwrap();
        assert_eq!(served(&engine), 0, "{way}");
        match way {
            "waits" => {
                assert_eq!(engine.sweep(None).unwrap().entries, 0);
                for _ in 0..4 {
                    assert!(engine.clock_doubt().is_some());
                    clock.advance(5 * MINUTE_MS / 4);
                }
            }
            "told" => engine.trust_clock(),
            "short sessions" => {
                engine.close().unwrap();
                clock.advance(24 * 60 * MINUTE_MS);
                clock.reboot();
                engine = open(&disk, &clock);
            }
            _ => {}
        }
        assert_eq!(engine.clock_doubt(), None, "{way}");
        tidy(&engine);
        assert_eq!(engine.stats().entries, 20, "{way}");
        engine.close().unwrap();
        clock.set_wall(TestClock::START_MS);
        assert_eq!(served(&open(&disk, &clock)), 0, "{way}: store time does not go back");
    }
}

/// Goal: a session at the right time, long after, does not vouch for a later one in 2100.
#[test]
fn sessions_that_say_nothing_for_each_other() {
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let engine = open(&disk, &clock);
    fill(&engine);
    let kept = PutOptions::new().expires_at(engine.now().saturating_add_ms(10 * 12 * MONTH_MS));
    engine.put_with("ten years", "v", &kept).unwrap();
    engine.close().unwrap();
    clock.advance(5 * MONTH_MS);
    open(&disk, &clock).close().unwrap();
    clock.set_wall(YEAR_2100_MS);
    for _ in 0..3 {
        let engine = open(&disk, &clock);
        assert!(engine.clock_doubt().is_some());
        tidy(&engine);
        engine.close().unwrap();
        clock.advance(1_000);
    }
    clock.set_wall(TestClock::START_MS + 6 * MONTH_MS);
    let engine = open(&disk, &clock);
    assert!(engine.get("ten years").unwrap().is_some());
    // Cut off, at the right time: what the sessions in 2100 saw is forgotten.
    engine.sync().unwrap();
    let disk = Image::of_memory_disk(&disk).memory_disk();
    clock.set_wall(YEAR_2100_MS + 20 * MINUTE_MS);
    let engine = open(&disk, &clock);
    assert!(engine.clock_doubt().is_some());
    tidy(&engine);
    engine.close().unwrap();
    clock.set_wall(TestClock::START_MS + 6 * MONTH_MS);
    assert!(open(&disk, &clock).get("ten years").unwrap().is_some());
}

/// Goal: time that the machine slept through counts at once; a jump of the wall clock alone does not.
#[test]
fn the_machine_sleeps() {
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let engine = open(&disk, &clock);
    fill(&engine);
    clock.advance(30_000);
    clock.sleep(8 * 3_600_000);
    assert_eq!(served(&engine), 0);
    fill(&engine);
    clock.jump_wall(8 * 3_600_000);
    assert_eq!(served(&engine), 40);
    clock.jump_wall(-8 * 3_600_000);
    clock.sleep(30 * MINUTE_MS);
    assert_eq!(served(&engine), 40, "half of the time is over");
    assert_eq!(engine.sweep(Some(Duration::from_secs(9))).unwrap().entries, 0);
}

/// Goal: whatever wrong times a store is opened at, for a few minutes each, what is not over is served when the clock is
/// right again, and what is over never is. Method: random sessions at the right time and at wrong ones, closed or cut
/// off, with everything that removes what has expired; against the true time.
#[test]
fn random_sessions_at_wrong_times() {
    cases("trials::clocks::random_sessions_at_wrong_times", 12, |seed| {
        let mut rng = Rng::new(seed);
        let (mut disk, clock) = (MemoryDisk::new(), TestClock::new());
        let mut truth = TestClock::START_MS;
        let mut stored: BTreeMap<u64, u64> = BTreeMap::new();
        for session in 0..25 {
            truth += rng.below(3 * MONTH_MS) / rng.between(1, 100_000);
            let is_right = session % 2 == 0;
            clock.set_wall(if is_right { truth } else { truth + rng.below(80 * 12 * MONTH_MS) });
            clock.reboot();
            let engine = open(&disk, &clock);
            for _ in 0..rng.below(12) {
                match rng.below(4) {
                    0 => tidy(&engine),
                    1 => {
                        let ms = rng.below(20_000);
                        clock.advance(ms);
                        truth += ms;
                    }
                    _ if is_right => {
                        let ms = 1_000 + rng.below(6 * MONTH_MS) / rng.between(1, 100_000);
                        let (key, ends) = (rng.below(60), truth + ms);
                        let options = PutOptions::new().expires_at(Timestamp(ends));
                        engine.put_with(key.to_le_bytes(), [7; 500], &options).unwrap();
                        stored.insert(key, ends);
                    }
                    _ => {}
                }
            }
            for (key, ends) in stored.iter().filter(|_| is_right) {
                let is_there = engine.get(key.to_le_bytes()).unwrap().is_some();
                assert_eq!(is_there, *ends > truth, "session {session}: {key}");
            }
            engine.sync().unwrap();
            if rng.one_in(2) {
                engine.close().unwrap();
            } else {
                disk = Image::of_memory_disk(&disk).memory_disk();
            }
        }
    });
}
