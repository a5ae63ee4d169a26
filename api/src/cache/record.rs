//! What a cache adds to its records, and what follows from it. Decides only.
//!
//! | item | bytes |
//! |---|---|
//! | 20 stored at | 8: milliseconds of store time |
//! | 21 stale window | 8: milliseconds before the expiry from which on the value is stale |
//! | 22 cost | 8: milliseconds that loading it took |
//! | 23 validator | up to 255: what the loader wants back |
//! | 24 failure | up to 255: the loader failed with this; the value is empty |
//! | 26 lifetime | 8: milliseconds that the value is fresh from each load on, if it is to be loaded ahead of time |
//! | 27 weight | 8: what the entry weighs, if not 1 |
//!
//! The stale window is relative to the expiry, so that a touch moves both.

use tierce_engine::{PutOptions, Timestamp, View};

use crate::space::item;

/// Stands between a space's prefix and a tag in the name of a scope, so that no tag's scope is the space's own.
pub(super) const TAG: u8 = b'#';

fn number(view: &View<'_>, kind: u8) -> Option<u64> {
    Some(u64::from_le_bytes(view.item(kind)?.try_into().ok()?))
}

pub(super) fn stored_at(view: &View<'_>) -> Option<Timestamp> {
    number(view, item::STORED_AT).map(Timestamp)
}

/// Milliseconds that loading it took.
pub(super) fn cost_ms(view: &View<'_>) -> u64 {
    number(view, item::COST).unwrap_or(0)
}

/// What it weighs.
pub(super) fn weight_of(view: &View<'_>) -> u64 {
    number(view, item::WEIGHT).unwrap_or(1)
}

/// Milliseconds before the expiry from which on it is stale.
pub(super) fn window_ms(view: &View<'_>) -> u64 {
    number(view, item::STALE_WINDOW).unwrap_or(0)
}

/// Milliseconds that it is fresh from each load on.
pub(super) fn lifetime_ms(view: &View<'_>) -> Option<u64> {
    number(view, item::LIFETIME)
}

/// Options with the scopes of another record that they do not have: its tags, for the space's own they have.
pub(super) fn with_scopes_of(options: PutOptions, view: &View<'_>, own: &[Vec<u8>]) -> PutOptions {
    let more = view.scopes().filter(|scope| !own.iter().any(|own| own == scope));
    more.fold(options, |options, scope| options.scope(scope))
}

/// Options, which have no expiry, with that of another record.
pub(super) fn with_expiry_of(options: PutOptions, view: &View<'_>) -> PutOptions {
    let Some(at) = view.expires_at else { return options };
    let options = options.expires_at(at);
    match view.item(item::STALE_WINDOW) {
        Some(window) => options.item(item::STALE_WINDOW, window),
        None => options,
    }
}

/// Until when a value is fresh; `None` = for ever.
pub(super) fn fresh_until(view: &View<'_>) -> Option<Timestamp> {
    view.expires_at.map(|at| Timestamp(at.0.saturating_sub(window_ms(view))))
}

/// Whether it says that loading failed.
pub(super) fn is_failure(view: &View<'_>) -> bool {
    view.item(item::FAILURE).is_some()
}

/// How an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Fresh,
    /// Only for a loader that allows it.
    Stale,
    /// There is no value: loading it failed.
    Failed,
}

/// How an entry that has not expired stands. The clock is asked only if it matters.
#[inline]
pub(super) fn standing(view: &View<'_>, now: impl FnOnce() -> Timestamp) -> Standing {
    let mut window = None;
    for (kind, bytes) in view.items() {
        match kind {
            item::FAILURE => return Standing::Failed,
            item::STALE_WINDOW => window = Some(bytes),
            _ => {}
        }
    }
    match window {
        Some(_) if fresh_until(view).is_some_and(|until| until <= now()) => Standing::Stale,
        _ => Standing::Fresh,
    }
}

/// The tag of a scope's name, if it is one.
pub(super) fn tag_of(scope: &[u8]) -> Option<String> {
    // A prefix is one byte, or five if the first is the mark of a long one.
    let prefix = crate::space::prefix_bytes(scope)?;
    let tag = scope.get(prefix..)?.strip_prefix(&[TAG])?;
    Some(String::from_utf8_lossy(tag).into_owned())
}
