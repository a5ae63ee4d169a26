//! What a coordinator does when: inputs in, actions out. Pure: moments come as milliseconds of a monotonic clock,
//! random numbers as values; it fetches nothing, starts nothing and tells nobody.

/// What the builder fixed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Between polls; `None` polls never.
    pub(super) interval_ms: Option<u64>,
    /// Between fetches that were requested.
    pub(super) cooldown_ms: u64,
    /// After failures; `None` keeps to the interval.
    pub(super) backoff: Option<(u64, u64)>,
    /// Whether listeners are told of a success that changed nothing.
    pub(super) always_update: bool,
    /// Added once, to the first regular wait, so that equal coordinators do not poll in step.
    pub(super) offset_ms: u64,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// One listener more.
    Subscribed,
    /// One listener less.
    Unsubscribed,
    /// Somebody would like a fetch soon.
    Requested,
    /// The moment of [`Action::Poll`] came.
    PollDue,
    /// The moment of [`Action::Cooldown`] came.
    CooldownOver,
    /// A fetch begins, whoever started it.
    Begun,
    /// It ended well.
    Succeeded { changed: bool },
    /// It ended badly.
    Failed { retry_after_ms: Option<u64>, first: bool, random: u64 },
    /// A value came from elsewhere.
    Published { changed: bool },
    /// A failure was reported from elsewhere.
    ErrorSet,
    /// There are no threads for the fetch that was asked for.
    FetchRefused,
    /// The end.
    Closed,
}

/// What is to be done now, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Begin a fetch on another thread, unless one has begun by then.
    Fetch,
    /// Send [`Input::PollDue`] at this moment and no other; `None`: at none.
    Poll(Option<u64>),
    /// Send [`Input::CooldownOver`] at this moment and no other; `None`: at none.
    Cooldown(Option<u64>),
    /// Tell the listeners.
    Notify,
}

/// Where the one fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is none.
    Idle,
    /// It was asked for and has not begun.
    Asked,
    /// It runs.
    Fetching,
}

/// How the last attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// There was none.
    Untried,
    Good,
    Bad,
}

/// One coordinator.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    rules: Rules,
    listeners: usize,
    phase: Phase,
    /// The fetch that was asked for, or runs, was requested: a cooldown follows it.
    requested: bool,
    /// One more fetch is wanted after the cooldown.
    again: bool,
    cooling: bool,
    /// The moment of the poll that is set.
    poll_ms: Option<u64>,
    /// When the next poll would be, with or without listeners; `None`: at once.
    next_ms: Option<u64>,
    offset_used: bool,
    /// A value was published since the fetch began.
    overtaken: bool,
    health: Health,
    failures: u32,
    closed: bool,
}

impl Machine {
    /// A coordinator without listeners. `next_ms`: when the first poll is due; `None`: when somebody listens.
    pub(super) fn new(rules: Rules, next_ms: Option<u64>) -> Self {
        Self {
            rules,
            listeners: 0,
            phase: Phase::Idle,
            requested: false,
            again: false,
            cooling: false,
            poll_ms: None,
            next_ms,
            offset_used: false,
            overtaken: false,
            health: Health::Untried,
            failures: 0,
            closed: false,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn health(&self) -> Health {
        self.health
    }

    /// Attempts that failed since the last one that did not.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the value of the fetch that runs is older than the one at hand.
    pub(super) fn is_overtaken(&self) -> bool {
        self.overtaken
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// When the next poll is set, if one is.
    pub(super) fn poll_ms(&self) -> Option<u64> {
        self.poll_ms
    }

    /// What follows from an input.
    pub(super) fn on(&mut self, input: Input, now_ms: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.closed {
            return actions;
        }
        match input {
            Input::Subscribed => {
                self.listeners += 1;
                if self.listeners == 1 {
                    self.set_poll(now_ms, &mut actions);
                }
            }
            Input::Unsubscribed => {
                self.listeners = self.listeners.saturating_sub(1);
                if self.listeners == 0 {
                    self.cancel_poll(&mut actions);
                }
            }
            Input::Requested => self.request(&mut actions),
            Input::PollDue => self.poll_due(now_ms, &mut actions),
            Input::CooldownOver => self.cooldown_over(&mut actions),
            Input::Begun => self.begin(&mut actions),
            Input::Succeeded { changed } => self.succeeded(changed, now_ms, &mut actions),
            Input::Failed { retry_after_ms, first, random } => {
                self.fail(&mut actions);
                let wait_ms =
                    if first { None } else { retry_after_ms.or_else(|| self.backoff(random)) };
                self.end(wait_ms, now_ms, &mut actions);
            }
            Input::Published { changed } => self.publish(changed, now_ms, &mut actions),
            Input::ErrorSet => self.fail(&mut actions),
            Input::FetchRefused if self.phase == Phase::Asked => {
                self.requested = false;
                self.end(None, now_ms, &mut actions);
            }
            Input::FetchRefused => {}
            Input::Closed => {
                self.closed = true;
                self.cancel_poll(&mut actions);
                self.cancel_cooldown(&mut actions);
            }
        }
        actions
    }

    fn ask(&mut self, actions: &mut Vec<Action>) {
        self.phase = Phase::Asked;
        self.cancel_poll(actions);
        actions.push(Action::Fetch);
    }

    fn request(&mut self, actions: &mut Vec<Action>) {
        match self.phase {
            // It begins after the request, so it answers it.
            Phase::Asked => self.requested = true,
            Phase::Idle if !self.cooling => {
                self.requested = true;
                self.ask(actions);
            }
            Phase::Idle | Phase::Fetching => self.again = true,
        }
    }

    fn poll_due(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        // A timer that was replaced may still have been on its way.
        if self.poll_ms.is_none_or(|due_ms| now_ms < due_ms) {
            return;
        }
        self.poll_ms = None;
        if self.phase == Phase::Idle {
            self.ask(actions);
        }
    }

    fn cooldown_over(&mut self, actions: &mut Vec<Action>) {
        if !self.cooling {
            return;
        }
        self.cooling = false;
        match self.phase {
            Phase::Idle if self.again => {
                self.again = false;
                self.requested = true;
                self.ask(actions);
            }
            Phase::Asked => self.requested |= std::mem::take(&mut self.again),
            Phase::Idle | Phase::Fetching => {}
        }
    }

    fn begin(&mut self, actions: &mut Vec<Action>) {
        self.phase = Phase::Fetching;
        self.overtaken = false;
        // Whatever was wanted before is answered by this fetch.
        self.again = false;
        self.cancel_poll(actions);
        self.cancel_cooldown(actions);
    }

    fn succeeded(&mut self, changed: bool, now_ms: u64, actions: &mut Vec<Action>) {
        if self.overtaken {
            // Nobody knows which of the two values is newer: the one at hand stays, and one more fetch decides.
            self.again = true;
        } else {
            self.succeed(changed, actions);
        }
        self.end(None, now_ms, actions);
    }

    fn publish(&mut self, changed: bool, now_ms: u64, actions: &mut Vec<Action>) {
        self.succeed(changed, actions);
        self.next_ms = self.after_interval(now_ms);
        match self.phase {
            Phase::Fetching => self.overtaken = true,
            Phase::Asked => {}
            Phase::Idle => self.set_poll(now_ms, actions),
        }
    }

    /// A fetch is over; `wait_ms` instead of the interval, once.
    fn end(&mut self, wait_ms: Option<u64>, now_ms: u64, actions: &mut Vec<Action>) {
        self.phase = Phase::Idle;
        self.overtaken = false;
        self.next_ms = match wait_ms {
            Some(wait_ms) => Some(now_ms.saturating_add(wait_ms)),
            None => self.after_interval(now_ms),
        };
        if std::mem::take(&mut self.requested) || self.again {
            self.cooling = true;
            actions.push(Action::Cooldown(Some(now_ms.saturating_add(self.rules.cooldown_ms))));
        }
        self.set_poll(now_ms, actions);
    }

    fn succeed(&mut self, changed: bool, actions: &mut Vec<Action>) {
        let recovered = self.health == Health::Bad;
        self.health = Health::Good;
        self.failures = 0;
        if recovered || changed || self.rules.always_update {
            actions.push(Action::Notify);
        }
    }

    fn fail(&mut self, actions: &mut Vec<Action>) {
        self.failures = self.failures.saturating_add(1);
        if self.health != Health::Bad {
            self.health = Health::Bad;
            actions.push(Action::Notify);
        }
    }

    fn after_interval(&mut self, now_ms: u64) -> Option<u64> {
        let interval_ms = self.rules.interval_ms?;
        let offset_ms = if self.offset_used { 0 } else { self.rules.offset_ms };
        self.offset_used = true;
        Some(now_ms.saturating_add(interval_ms).saturating_add(offset_ms))
    }

    /// Twice as long after each failure, up to the cap; of that, between half and all.
    fn backoff(&self, random: u64) -> Option<u64> {
        let (first_ms, cap_ms) = self.rules.backoff?;
        let doublings = self.failures.saturating_sub(1).min(63);
        let whole_ms = first_ms.saturating_mul(1 << doublings).min(cap_ms);
        Some(whole_ms - random % (whole_ms / 2).saturating_add(1))
    }

    fn set_poll(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if self.listeners == 0 || self.phase != Phase::Idle || self.rules.interval_ms.is_none() {
            return;
        }
        let due_ms = self.next_ms.unwrap_or(now_ms).max(now_ms);
        if self.poll_ms != Some(due_ms) {
            self.poll_ms = Some(due_ms);
            actions.push(Action::Poll(self.poll_ms));
        }
    }

    fn cancel_poll(&mut self, actions: &mut Vec<Action>) {
        if self.poll_ms.take().is_some() {
            actions.push(Action::Poll(None));
        }
    }

    fn cancel_cooldown(&mut self, actions: &mut Vec<Action>) {
        if std::mem::take(&mut self.cooling) {
            actions.push(Action::Cooldown(None));
        }
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
