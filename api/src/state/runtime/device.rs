//! One device: its turn, and the question to its policy after it.

use std::time::Duration;

use serde_json::Value;
use tierce_engine::{Timestamp, io::Clock};

use super::{Handler, Init, Outcome, Publisher, Telemetry, What, failure, guarded};
use crate::{
    error::BoxError,
    state::{Moment, OnDelta, OnShutdown, Policy, State},
};

pub(super) struct Device {
    pub(super) state: State,
    policy: Policy,
    /// `None` if its loop is somewhere else.
    looped: Option<Looped>,
    saved_at: Timestamp,
    /// When the policy was asked last; it is not woken for a moment it has seen.
    asked_at: Option<Timestamp>,
    /// A save failed: it is tried again whenever the policy is asked, whatever the policy says then.
    is_save_owed: bool,
}

struct Looped {
    handler: Handler,
    interval_ms: u64,
    due: Timestamp,
    filter: Option<OnDelta>,
    published: Option<Value>,
    init: Option<Init>,
    is_broken: bool,
}

impl Device {
    pub(super) fn looped(
        state: State,
        telemetry: Telemetry,
        handler: Handler,
        now: Timestamp,
    ) -> Self {
        let interval_ms = u64::try_from(telemetry.interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let looped = Looped {
            handler,
            interval_ms,
            due: now,
            filter: telemetry.filter,
            published: None,
            init: telemetry.init,
            is_broken: false,
        };
        let policy = telemetry.policy.unwrap_or_else(|| OnShutdown.into());
        Self::new(state, policy, Some(looped), now)
    }

    pub(super) fn own_loop(state: State, now: Timestamp) -> Self {
        Self::new(state, OnShutdown.into(), None, now)
    }

    const fn new(state: State, policy: Policy, looped: Option<Looped>, now: Timestamp) -> Self {
        Self { state, policy, looped, saved_at: now, asked_at: None, is_save_owed: false }
    }

    /// When its handler is to be called.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.looped.as_ref().filter(|looped| !looped.is_broken).map(|looped| looped.due)
    }

    /// When its policy wants to be asked.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let wake = self.policy.wake_at()?;
        (self.asked_at < Some(wake)).then_some(wake)
    }

    /// Calls the handler, publishes what it gives, and asks the policy, whatever failed.
    pub(super) fn turn(&mut self, clock: &dyn Clock, publisher: &mut Option<Publisher>) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(looped) = self.looped.as_mut().filter(|looped| !looped.is_broken) else {
            return outcome;
        };
        looped.due = Timestamp(clock.monotonic_ms()).saturating_add_ms(looped.interval_ms);
        let state = &self.state;
        let mut is_published = false;
        if let Some(init) = looped.init.take()
            && let Err(error) = guarded(|| init(state))
        {
            looped.is_broken = true;
            outcome.failures.push(failure(state, What::Init, error));
        } else {
            outcome.ran = 1;
            match guarded(|| (looped.handler)(state)) {
                Ok(Some(reading)) if looped.is_news(&reading) => {
                    match guarded(|| publish(publisher, state.name(), &reading)) {
                        Ok(()) => {
                            is_published = true;
                            looped.published = Some(reading);
                        }
                        Err(error) => outcome.failures.push(failure(state, What::Publish, error)),
                    }
                }
                Ok(_) => {}
                Err(error) => outcome.failures.push(failure(state, What::Handler, error)),
            }
        }
        outcome.published = usize::from(is_published);
        // The handler and the publisher took their time.
        outcome.add(self.ask(Timestamp(clock.monotonic_ms()), true, is_published));
        outcome
    }

    /// Asks the policy, and saves if it says so or the last save failed.
    pub(super) fn ask(&mut self, now: Timestamp, is_turn: bool, is_published: bool) -> Outcome {
        let mut outcome = Outcome::default();
        let unsaved = self.state.unsaved();
        let moment = Moment {
            dirty: unsaved.is_dirty,
            published: is_published,
            turn: is_turn,
            now,
            changes: unsaved.changes,
            bytes: unsaved.bytes,
            since_save: Duration::from_millis(now.0.saturating_sub(self.saved_at.0)),
        };
        self.asked_at = Some(now);
        let (state, policy, is_wanted) = (&self.state, &mut self.policy, &mut self.is_save_owed);
        let saved = guarded(|| {
            // The policy is asked even if it cannot change the answer: some count.
            *is_wanted |= policy.should_save(&moment);
            Ok(*is_wanted && state.save()?)
        });
        // An error leaves it owed.
        self.is_save_owed &= saved.is_err();
        match saved {
            Ok(true) => {
                self.saved_at = now;
                self.policy.saved();
                outcome.saved = 1;
            }
            Ok(false) => {}
            Err(error) => outcome.failures.push(failure(state, What::Save, error)),
        }
        outcome
    }
}

impl Looped {
    fn is_news(&self, reading: &Value) -> bool {
        match (&self.filter, &self.published) {
            (Some(filter), Some(published)) => filter.is_change(published, reading),
            _ => true,
        }
    }
}

fn publish(publisher: &mut Option<Publisher>, name: &str, reading: &Value) -> Result<(), BoxError> {
    publisher.as_mut().map_or(Ok(()), |publish| publish(name, reading))
}
