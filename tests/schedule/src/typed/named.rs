//! Programs of the typed face that found a fault once, in many orders.

use tierce_engine::Durability;

use super::case::{Case, Op, Topic, What};
use crate::{judge::verdict, named::alone, program::order, shrink::Program as _};

const fn op(what: What) -> Op {
    Op { what, key: 0, n: 0 }
}

#[track_caller]
fn holds_in_many_orders(topic: Topic, clients: &[&[What]]) {
    let _alone = alone();
    let ops = |whats: &&[What]| whats.iter().copied().map(op).collect();
    for seed in 0..400 {
        let case = Case {
            seed,
            topic,
            durability: Durability::Os,
            background: false,
            before: Vec::new(),
            clients: clients.iter().map(ops).collect(),
            accident: None,
            is_power: false,
            fault: None,
            order: order(seed),
        };
        if let Err(complaint) = verdict(&case.run()) {
            panic!("order {seed}: {complaint}");
        }
    }
}

/// Goal: a write that meets another one, which has found the load that is under way but not marked it yet, does not end
/// before what is loaded is marked as old.
#[test]
fn two_writes_and_a_load() {
    let gets = [What::Remove, What::Get];
    holds_in_many_orders(Topic::Loads, &[&gets, &gets, &[What::Load, What::Get]]);
    holds_in_many_orders(Topic::Loads, &[&[What::Insert], &[What::Take, What::Get], &[What::Load]]);
}

/// Goal: what is removed although it was stored only while the removal began is told to listeners.
#[test]
fn a_removal_beside_an_insert_is_told() {
    holds_in_many_orders(Topic::Events, &[&[What::Remove], &[What::Insert]]);
}
