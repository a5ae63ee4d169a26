//! What it costs to drop a million entries that expire together.

use tierce_benches::{key, shuffled, value};
use tierce_engine::{Durability, Options, PutOptions, Timestamp};

use crate::{
    Bar, Figure,
    kit::{HandClock, cpu_seconds, open},
    reads::KEYS,
    scratch,
};

const LIFETIME_MS: u64 = 3_600_000;

/// In the session that wrote them, and after another opening.
pub(crate) fn expiry() -> Vec<Figure> {
    const ROUNDS: usize = 5;
    let figure = |reopened| {
        let mut rounds: Vec<_> = (0..ROUNDS).map(|_| dropped(reopened)).collect();
        rounds.sort_by(|a, b| a.found.total_cmp(&b.found));
        rounds.swap_remove(ROUNDS / 2)
    };
    [true, false].into_iter().map(figure).collect()
}

fn dropped(reopened: bool) -> Figure {
    let clock = HandClock::default();
    let dir = scratch("expiry");
    let options = Options::new().durability(Durability::Buffered).clock(clock.clone());
    let mut engine = open(options.clone(), &dir);
    let end = Timestamp(engine.now().0 + LIFETIME_MS);
    let expiring = PutOptions::new().expires_at(end);
    for index in shuffled(KEYS, 9) {
        engine.put_with(key(index), value(index), &expiring).expect("the put succeeds");
    }
    engine.sync().expect("the store syncs");
    crate::kit::settle(&engine);
    if reopened {
        engine.close().expect("the store closes");
        engine = open(options, &dir);
    }
    clock.advance(LIFETIME_MS + 1);
    // No other thread of the store may begin before it is measured: its time counts as well.
    let before = cpu_seconds();
    let swept = engine.sweep(None).expect("the sweep succeeds");
    let took = cpu_seconds() - before;
    let stats = engine.stats();
    let when = if reopened { "all sealed" } else { "the newest not sealed" };
    Figure {
        name: format!("expiry of a million entries, {when}: processor ms"),
        ours: format!(
            "{} entries, {} segments unread, {} jobs",
            swept.entries, swept.segments_dropped, swept.jobs
        ),
        other: format!("{} entries, {} B of segments stay", stats.entries, stats.segment_bytes),
        found: took * 1e3,
        bar: Bar::AtMost(50.0),
    }
}
