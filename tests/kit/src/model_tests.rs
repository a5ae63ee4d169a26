//! The model alone: what it allows and what it forbids.

use super::*;

fn put(key: &str, value: &str) -> Effect {
    let stored = Stored {
        value: value.as_bytes().into(),
        expires_at: None,
        evictable: false,
        scopes: Vec::new(),
        sequence: None,
        evicted: false,
        hidden: false,
        slid_ms: 0,
        taken_ms: 0,
    };
    Effect::Put(key.as_bytes().to_vec(), stored)
}

fn write(model: &mut Model, effects: Vec<Effect>, durability: Durability) {
    model.begin(Some(Write::new(effects, durability)));
    model.acknowledge(None).unwrap();
}

/// Whether the model allows a store that holds just these.
fn allows(model: &Model, kind: CrashKind, seen: &[(&str, &str)]) -> bool {
    let wanted: BTreeMap<&[u8], &[u8]> =
        seen.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect();
    let fits = |state: &State| {
        wanted == state.iter().map(|(key, stored)| (key.as_slice(), &*stored.value)).collect()
    };
    model.explain(kind, fits).is_some()
}

/// Goal: a crash takes a suffix, never a hole, and never what a later sync covers.
#[test]
fn survivors_are_a_prefix() {
    let mut model = Model::new();
    write(&mut model, vec![put("a", "1")], Durability::Os);
    write(&mut model, vec![put("b", "2")], Durability::Sync);
    write(&mut model, vec![put("c", "3")], Durability::Os);
    write(&mut model, vec![Effect::Delete(b"a".to_vec())], Durability::Buffered);
    let ab = [("a", "1"), ("b", "2")];
    assert!(allows(&model, CrashKind::Power, &ab));
    assert!(!allows(&model, CrashKind::Process, &ab));
    assert!(allows(&model, CrashKind::Process, &[("a", "1"), ("b", "2"), ("c", "3")]));
    assert!(allows(&model, CrashKind::Power, &[("b", "2"), ("c", "3")]));
    assert!(!allows(&model, CrashKind::Power, &[("b", "2")]));
    assert!(!allows(&model, CrashKind::Power, &[("a", "1")]));
    assert!(!allows(&model, CrashKind::None, &ab));
    model.synced();
    assert!(!allows(&model, CrashKind::Power, &ab));
}

/// Goal: a batch is whole or absent, and what was going on may be there or not.
#[test]
fn batches_and_writes_in_flight() {
    let mut model = Model::new();
    write(&mut model, vec![put("a", "1"), put("b", "1")], Durability::Os);
    assert!(!allows(&model, CrashKind::Power, &[("a", "1")]));
    assert!(allows(&model, CrashKind::Power, &[]));
    model.begin(Some(Write::new(vec![put("c", "1")], Durability::Sync)));
    assert!(allows(&model, CrashKind::Power, &[("a", "1"), ("b", "1"), ("c", "1")]));
    assert!(!allows(&model, CrashKind::Power, &[("c", "1")]));
    model.fail();
    write(&mut model, vec![put("d", "1")], Durability::Sync);
    let without = [("a", "1"), ("b", "1"), ("d", "1")];
    assert!(allows(&model, CrashKind::Power, &without));
    assert!(allows(&model, CrashKind::None, &without));
    assert!(allows(&model, CrashKind::Power, &[&without[..], &[("c", "1")]].concat()));
}

/// Goal: staged writes are in the order like all others: a synced write vouches for those before it.
#[test]
fn periodic_writes_are_in_the_order() {
    let mut model = Model::new();
    write(&mut model, vec![put("p", "1")], Durability::Periodic);
    assert!(allows(&model, CrashKind::Process, &[]));
    write(&mut model, vec![put("d", "1")], Durability::Sync);
    write(&mut model, vec![put("q", "1")], Durability::Periodic);
    assert!(!allows(&model, CrashKind::Power, &[("d", "1")]));
    assert!(allows(&model, CrashKind::Power, &[("d", "1"), ("p", "1")]));
    assert!(allows(&model, CrashKind::Power, &[("d", "1"), ("p", "1"), ("q", "1")]));
}

/// Goal: a sequence number that does not grow is noticed.
#[test]
fn sequence_numbers_grow() {
    let mut model = Model::new();
    for (sequence, fine) in [(5, true), (6, true), (6, false)] {
        model.begin(Some(Write::new(vec![put("a", "1")], Durability::Os)));
        assert_eq!(model.acknowledge(Some(sequence)).is_ok(), fine);
    }
}
