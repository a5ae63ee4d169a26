//! Programs that found a fault once, in many orders.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tierce_engine::{Durability, Evict, ReadMode};

use crate::{
    disk::Accident,
    judge::{execute, verdict},
    program::{Case, Config, Op, Put, order},
};

const PLAIN: Put =
    Put { key: 0, bytes: 8, ttl: None, evictable: false, scope: None, durability: None };

fn case(durability: Durability, before: &[Op], clients: &[&[Op]]) -> Case {
    Case {
        seed: 1,
        config: Config {
            durability,
            max_entries: None,
            max_live_bytes: None,
            max_bytes: None,
            min_free_bytes: 0,
            evict: Evict::Lru,
            background: false,
            read_mode: ReadMode::Auto,
            hash_bits: u64::BITS,
            automatic: false,
            periodic_bytes_max: 1 << 20,
            all_evictable: false,
            worst_knobs: false,
        },
        before: before.to_vec(),
        clients: clients.iter().map(|ops| ops.to_vec()).collect(),
        again: Vec::new(),
        loses_checkpoints: false,
        accident: None,
        is_power: false,
        fault: None,
        order: order(1),
    }
}

/// One world at a time: the engine's list of open stores is one for the whole process.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[track_caller]
fn holds_in_many_orders(case: &Case) {
    holds_in(250, case);
}

#[track_caller]
fn holds_in(orders: u64, case: &Case) {
    let _alone = alone();
    for seed in 0..orders {
        let case = Case { order: order(seed), ..case.clone() };
        if let Err(complaint) = verdict(&execute(&case)) {
            panic!("order {seed}: {complaint}");
        }
    }
}

/// Goal: of two deletes of one entry that are only staged, one finds it.
#[test]
fn one_staged_delete_finds_the_entry() {
    let delete: &[Op] = &[Op::Delete { key: 0, durability: None }];
    let put = Op::Put { put: PLAIN, absent: false };
    holds_in_many_orders(&case(Durability::Periodic, &[put], &[delete, delete]));
}

/// Goal: a staged delete that found an expired entry does not end a put that was acknowledged after that.
#[test]
fn a_staged_delete_ends_no_later_put() {
    let brief = Op::Put { put: Put { ttl: Some(50), ..PLAIN }, absent: false };
    let before = [brief, Op::Advance { ms: 200 }];
    let delete: &[Op] = &[Op::Delete { key: 0, durability: Some(Durability::Periodic) }];
    let put: &[Op] = &[Op::Put { put: PLAIN, absent: false }, Op::Get { key: 0 }];
    holds_in_many_orders(&case(Durability::Os, &before, &[delete, put]));
}

/// Goal: an update and a delete by condition see a touch that was acknowledged while they judged.
#[test]
fn an_update_sees_a_touch() {
    let before = [Op::Put { put: Put { ttl: Some(50), ..PLAIN }, absent: false }];
    let touch: &[Op] = &[Op::Touch { key: 0, ttl: Some(5_000) }];
    for change in [Op::Append { key: 0 }, Op::DeleteBrief { key: 0 }] {
        holds_in_many_orders(&case(Durability::Os, &before, &[touch, &[change]]));
    }
}

/// Goal: when the background panics half-way through a change of the index, the store goes on saying that it must be
/// opened again, and what was acknowledged is there then.
#[test]
fn a_torn_index_says_that_it_must_be_reopened() {
    let large = Put { bytes: 3_000, ..PLAIN };
    let before = [Op::Submit { put: large }];
    let put: &[Op] = &[Op::Put { put: large, absent: false }];
    let plain = case(Durability::Periodic, &before, &[&[Op::Checkpoint, Op::Checkpoint], put]);
    let config = Config { background: true, read_mode: ReadMode::Map, ..plain.config.clone() };
    for calls in [21, 23, 25, 27] {
        let accident = Some((calls, Accident::Panic));
        holds_in_many_orders(&Case { config: config.clone(), accident, ..plain.clone() });
    }
}

/// Goal: what was staged and over before anything was written stays away, also if the clock was set back.
#[test]
fn a_store_without_a_write_shows_nothing_again() {
    let put = Op::Put { put: Put { ttl: Some(50), ..PLAIN }, absent: false };
    let later: &[Op] = &[Op::Advance { ms: 200 }];
    let before = [Op::Jump { ms: -3_000 }];
    holds_in_many_orders(&case(Durability::Periodic, &before, &[later, &[put]]));
}

/// Goal: a follower may show a write whose sync fails, until the store is recovered, and nothing else may. The two
/// programs in which random runs met it first, a put and a delete.
#[test]
fn a_follower_shows_a_write_that_fails() {
    let _alone = alone();
    for program in [58_782_145_685_418, 248_935_015_218_481] {
        let case = Case::draw(program);
        let config = Config { worst_knobs: false, ..case.config.clone() };
        let case = Case { config, ..case };
        assert_eq!(verdict(&execute(&case)), Ok(()), "{program}");
    }
}

/// Goal: a change of the index that panics half-way in a store that was stopped already still says that only opening it
/// again helps.
#[test]
fn a_torn_index_says_so_in_a_stopped_store() {
    let _alone = alone();
    assert_eq!(verdict(&execute(&Case::draw(88_570_236_673_758))), Ok(()));
}

/// Goal: what is staged is flushed although a cut panicked, in whatever order the background is given time.
#[test]
fn the_background_flushes_after_a_cut_that_panics() {
    let put = |key, bytes| Put { key, bytes, ttl: Some(210), evictable: true, ..PLAIN };
    let before = [Op::Batch { first: put(0, 1_300), second: Some(put(1, 9_000)), key: 1 }];
    let plain = case(Durability::Buffered, &before, &[&[Op::Cut { scope: 1 }]]);
    let config = Config {
        max_entries: Some(4),
        background: true,
        read_mode: ReadMode::Map,
        all_evictable: true,
        ..plain.config.clone()
    };
    for calls in [11, 13, 15] {
        let accident = Some((calls, Accident::Panic));
        holds_in_many_orders(&Case { config: config.clone(), accident, ..plain.clone() });
    }
}

/// Goal: a segment of which most is dead stays in the log, with what is alive, when its closing panics.
#[test]
fn a_segment_whose_closing_panics_stays() {
    let put = |key, bytes, ttl| Op::Put { put: Put { key, bytes, ttl, ..PLAIN }, absent: false };
    let before = [put(0, 1_300, Some(50)), put(1, 8, None), Op::Advance { ms: 200 }];
    let plain = case(Durability::Buffered, &before, &[&[Op::Sweep], &[Op::Get { key: 1 }]]);
    for calls in 0..8 {
        let accident = Some((calls, Accident::Panic));
        holds_in(20, &Case { accident, ..plain.clone() });
    }
}

/// Goal: the same where the only record has expired: its number is not missed.
#[test]
fn no_number_is_missed_after_a_closing_that_panics() {
    let _alone = alone();
    assert_eq!(verdict(&execute(&Case::draw(126_082_059_547_847))), Ok(()));
}

/// Goal: a sweep that runs while a segment is begun and a cut follows in it does not take the cut for looked at.
#[test]
fn a_cut_in_a_segment_that_a_sweep_did_not_see() {
    let put =
        |key, bytes, scope| Op::Put { put: Put { key, bytes, scope, ..PLAIN }, absent: false };
    let clients: [&[Op]; 2] = [
        &[Op::Cut { scope: 1 }, Op::Sweep, Op::Sweep],
        &[put(1, 6_000, None), put(0, 4_200, Some(0)), Op::Cut { scope: 0 }],
    ];
    holds_in(1_500, &case(Durability::Os, &[], &clients));
}
