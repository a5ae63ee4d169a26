//! The machine without threads: what each input does, and what holds after any few inputs in any order.

use super::*;

const RULES: Rules = Rules {
    interval_ms: Some(1_000),
    cooldown_ms: 100,
    backoff: None,
    always_update: true,
    offset_ms: 0,
};
const OK: Input = Input::Succeeded { changed: true };
const FAILED: Input = Input::Failed { retry_after_ms: None, first: false, random: 0 };

fn failed_with(retry_after_ms: Option<u64>, first: bool, random: u64) -> Input {
    Input::Failed { retry_after_ms, first, random }
}

/// Sends inputs at moments; the actions of the last one.
fn after(machine: &mut Machine, inputs: &[(u64, Input)]) -> Vec<Action> {
    inputs.iter().fold(Vec::new(), |_, (now_ms, input)| machine.on(*input, *now_ms))
}

fn set(rules: Rules) -> Machine {
    let mut machine = Machine::new(rules, None);
    after(&mut machine, &[(0, Input::Subscribed), (0, Input::PollDue), (0, Input::Begun)]);
    machine
}

/// Goal: the first listener schedules, the last one unschedules, those between change nothing.
#[test]
fn polls_are_set_while_somebody_listens() {
    let mut machine = Machine::new(RULES, Some(700));
    assert_eq!(machine.on(Input::Subscribed, 50), [Action::Poll(Some(700))]);
    assert_eq!(machine.on(Input::Subscribed, 60), []);
    assert_eq!(machine.on(Input::Unsubscribed, 70), []);
    assert_eq!(machine.on(Input::Unsubscribed, 80), [Action::Poll(None)]);
    assert_eq!(machine.on(Input::PollDue, 700), [], "it was cancelled");
    assert_eq!(machine.on(Input::Subscribed, 900), [Action::Poll(Some(900))], "overdue");
    assert_eq!(machine.on(Input::PollDue, 899), [], "a replaced timer comes early");
    assert_eq!(machine.on(Input::PollDue, 900), [Action::Fetch]);
    assert_eq!(machine.on(Input::Begun, 901), []);
    assert_eq!(machine.on(OK, 910), [Action::Notify, Action::Poll(Some(1_910))]);
}

/// Goal: without an interval nothing is ever polled, and fetches still work.
#[test]
fn without_an_interval_nothing_is_polled() {
    let mut machine = Machine::new(Rules { interval_ms: None, ..RULES }, None);
    assert_eq!(machine.on(Input::Subscribed, 0), []);
    assert_eq!(after(&mut machine, &[(0, Input::Begun), (5, OK)]), [Action::Notify]);
}

/// Goal: many requests are one fetch now and one at the end; a request during a fetch is exactly one more.
#[test]
fn requests_are_held_back() {
    let mut machine = Machine::new(RULES, None);
    assert_eq!(machine.on(Input::Requested, 0), [Action::Fetch]);
    assert_eq!(machine.on(Input::Requested, 0), [], "the one that was asked for answers it");
    machine.on(Input::Begun, 1);
    assert_eq!(machine.on(OK, 5), [Action::Notify, Action::Cooldown(Some(105))]);
    assert_eq!(after(&mut machine, &[(6, Input::Requested), (7, Input::Requested)]), []);
    assert_eq!(machine.on(Input::CooldownOver, 105), [Action::Fetch]);
    machine.on(Input::Begun, 106);
    assert_eq!(after(&mut machine, &[(107, Input::Requested), (108, Input::Requested)]), []);
    assert_eq!(machine.on(OK, 110), [Action::Notify, Action::Cooldown(Some(210))]);
    assert_eq!(machine.on(Input::CooldownOver, 210), [Action::Fetch]);
    assert_eq!(
        after(&mut machine, &[(211, Input::Begun), (212, OK)])[1],
        Action::Cooldown(Some(312))
    );
    assert_eq!(machine.on(Input::CooldownOver, 312), [], "nobody asked");
    assert_eq!(machine.on(Input::Requested, 313), [Action::Fetch]);
}

/// Goal: a fetch that begins cancels what was scheduled and answers what was wanted.
#[test]
fn a_fetch_cancels_what_was_scheduled() {
    let mut machine = Machine::new(RULES, Some(500));
    let inputs = [
        (0, Input::Requested),
        (0, Input::Begun),
        (0, OK),
        (1, Input::Subscribed),
        (1, Input::Requested),
        (2, Input::Begun),
    ];
    assert_eq!(after(&mut machine, &inputs), [Action::Poll(None), Action::Cooldown(None)]);
    assert_eq!(machine.on(OK, 3), [Action::Notify, Action::Poll(Some(1_003))]);
}

/// Goal: the first failure and the recovery are told, repeats are not.
#[test]
fn failures_are_told_once() {
    let mut machine = Machine::new(Rules { always_update: false, ..RULES }, None);
    let quiet = Input::Succeeded { changed: false };
    let told = [
        (FAILED, true),
        (FAILED, false),
        (Input::ErrorSet, false),
        (quiet, true),
        (quiet, false),
        (OK, true),
        (Input::ErrorSet, true),
        (FAILED, false),
        (Input::Published { changed: false }, true),
        (Input::Published { changed: false }, false),
        (Input::Published { changed: true }, true),
    ];
    for (at, (input, tells)) in told.into_iter().enumerate() {
        if matches!(input, Input::Succeeded { .. } | Input::Failed { .. }) {
            machine.on(Input::Begun, 0);
        }
        assert_eq!(machine.on(input, 0).contains(&Action::Notify), tells, "{at}: {input:?}");
    }
    assert_eq!((machine.health(), machine.failures()), (Health::Good, 0));
}

/// Goal: the wait that the other side asked for is used once.
#[test]
fn retry_after_is_used_once() {
    let mut machine = set(RULES);
    assert_eq!(machine.on(failed_with(Some(50), false, 0), 10)[1], Action::Poll(Some(60)));
    after(&mut machine, &[(60, Input::PollDue), (60, Input::Begun)]);
    assert_eq!(machine.on(FAILED, 70), [Action::Poll(Some(1_070))]);
}

/// Goal: the backoff doubles up to its cap, stays between half and all, and ends with a success.
#[test]
fn the_backoff_doubles_up_to_its_cap() {
    let mut machine = set(Rules { backoff: Some((100, 500)), ..RULES });
    for (random, wait_ms) in
        [(0, 100), (0, 200), (0, 400), (0, 500), (250, 250), (u64::MAX, 500 - u64::MAX % 251)]
    {
        let now_ms = 10_000;
        let actions = machine.on(failed_with(None, false, random), now_ms);
        assert_eq!(actions.last(), Some(&Action::Poll(Some(now_ms + wait_ms))), "{random}");
        machine.on(Input::Begun, now_ms);
    }
    assert_eq!(machine.on(OK, 0)[1], Action::Poll(Some(1_000)));
    machine.on(Input::Begun, 0);
    assert_eq!(machine.on(FAILED, 0)[1], Action::Poll(Some(100)), "begins anew");
    machine.on(Input::Begun, 0);
    machine.failures = u32::MAX;
    assert_eq!(machine.on(FAILED, 0), [Action::Poll(Some(500))]);
}

/// Goal: a first refresh that fails leaves the cadence alone.
#[test]
fn a_first_refresh_keeps_the_interval() {
    let mut machine = set(Rules { backoff: Some((100, 500)), ..RULES });
    assert_eq!(machine.on(failed_with(Some(50), true, 0), 0)[1], Action::Poll(Some(1_000)));
}

/// Goal: a push resets the timer; a fetch that it overtook is followed by one more and does not count.
#[test]
fn a_push_resets_the_timer() {
    let mut machine = set(RULES);
    machine.on(OK, 0);
    let push = Input::Published { changed: true };
    assert_eq!(machine.on(push, 400), [Action::Notify, Action::Poll(Some(1_400))]);
    machine.on(Input::Begun, 500);
    assert_eq!(machine.on(push, 600), [Action::Notify]);
    assert!(machine.is_overtaken());
    assert_eq!(machine.on(OK, 700), [Action::Cooldown(Some(800)), Action::Poll(Some(1_700))]);
    assert!(!machine.is_overtaken());
    assert_eq!(machine.on(Input::CooldownOver, 800), [Action::Poll(None), Action::Fetch]);
}

/// Goal: the offset is added to one wait and to no other.
#[test]
fn the_offset_is_used_once() {
    let mut machine = set(Rules { offset_ms: 7, ..RULES });
    assert_eq!(machine.on(OK, 0)[1], Action::Poll(Some(1_007)));
    machine.on(Input::Begun, 1_007);
    assert_eq!(machine.on(OK, 1_010)[1], Action::Poll(Some(2_010)));
}

/// What surrounds a machine: timers that fire only if set, and fetches that were asked for.
#[derive(Clone)]
struct World {
    machine: Machine,
    now_ms: u64,
    listeners: usize,
    poll_ms: Option<u64>,
    cooldown_ms: Option<u64>,
    /// Fetches on their way to a thread.
    asked: usize,
    /// A request that no fetch has begun after.
    owed: bool,
    failing: bool,
}

impl World {
    fn inputs(&self) -> Vec<Input> {
        let mut inputs = vec![
            Input::Subscribed,
            Input::Requested,
            Input::Published { changed: false },
            Input::ErrorSet,
            Input::Closed,
        ];
        inputs.extend((self.listeners > 0).then_some(Input::Unsubscribed));
        inputs.extend(self.poll_ms.map(|_| Input::PollDue));
        inputs.extend(self.cooldown_ms.map(|_| Input::CooldownOver));
        inputs.extend((self.asked > 0).then_some(Input::FetchRefused));
        if self.machine.phase() == Phase::Fetching {
            inputs.extend([OK, FAILED, failed_with(Some(5), false, 1)]);
        } else {
            inputs.push(Input::Begun);
        }
        inputs
    }

    fn step(&mut self, input: Input) -> Vec<Action> {
        self.now_ms += 1;
        match input {
            Input::Subscribed => self.listeners += 1,
            Input::Unsubscribed => self.listeners -= 1,
            Input::PollDue => self.now_ms = self.now_ms.max(self.poll_ms.take().unwrap()),
            Input::CooldownOver => self.now_ms = self.now_ms.max(self.cooldown_ms.take().unwrap()),
            Input::Requested => self.owed = true,
            Input::Begun => self.owed = false,
            Input::FetchRefused => {
                self.asked -= 1;
                self.owed = false;
            }
            _ => {}
        }
        let actions = self.machine.on(input, self.now_ms);
        for action in &actions {
            match action {
                Action::Fetch => self.asked += 1,
                Action::Poll(due_ms) => self.poll_ms = *due_ms,
                Action::Cooldown(due_ms) => self.cooldown_ms = *due_ms,
                Action::Notify => {}
            }
        }
        if input == Input::Begun {
            // The job that was asked for finds nothing to do any more.
            self.asked = 0;
        }
        actions
    }

    fn check(&self, path: &[Input], actions: &[Action]) {
        let (machine, input) = (&self.machine, path.last().unwrap());
        if machine.is_closed() {
            assert!(self.poll_ms.is_none() && self.cooldown_ms.is_none(), "{path:?}");
            let ends = [Action::Poll(None), Action::Cooldown(None)];
            assert!(actions.iter().all(|action| ends.contains(action)), "{path:?}");
            return;
        }
        let idle = machine.phase() == Phase::Idle;
        assert_eq!(self.poll_ms.is_some(), idle && self.listeners > 0, "polls: {path:?}");
        assert_eq!(machine.poll_ms(), self.poll_ms, "{path:?}");
        assert!(self.asked <= 1, "one fetch at a time: {path:?}");
        assert_eq!(self.asked == 1, machine.phase() == Phase::Asked, "{path:?}");
        let comes = self.asked == 1
            || machine.again && (machine.phase() == Phase::Fetching || self.cooldown_ms.is_some());
        assert!(!self.owed || comes, "a request is lost: {path:?}");
        assert_eq!(machine.cooling, self.cooldown_ms.is_some(), "{path:?}");
        let fails = matches!(input, Input::Failed { .. } | Input::ErrorSet);
        if fails {
            assert_eq!(actions.contains(&Action::Notify), !self.failing, "told once: {path:?}");
        }
    }

    fn explore(&self, path: &mut Vec<Input>, depth: usize) -> usize {
        if depth == 0
            || self.machine.is_closed() && path.len() > 1 && path[path.len() - 2] == Input::Closed
        {
            return 1;
        }
        let mut count = 0;
        for input in self.inputs() {
            let mut world = self.clone();
            path.push(input);
            let actions = world.step(input);
            world.check(path, &actions);
            match input {
                Input::Failed { .. } | Input::ErrorSet => world.failing = true,
                Input::Succeeded { .. } if !self.machine.is_overtaken() => world.failing = false,
                Input::Published { .. } => world.failing = false,
                _ => {}
            }
            count += world.explore(path, depth - 1);
            path.pop();
        }
        count
    }
}

/// Goal: whatever happens in whatever order, there is one fetch at a time, a poll exactly when one should be set, no
/// request is lost, repeated failures are told once, and nothing happens after the end.
///
/// Method: every sequence of six inputs that the surroundings can produce.
#[test]
fn invariants_hold_after_all_short_histories() {
    let world = World {
        machine: Machine::new(Rules { always_update: false, ..RULES }, None),
        now_ms: 0,
        listeners: 0,
        poll_ms: None,
        cooldown_ms: None,
        asked: 0,
        owed: false,
        failing: false,
    };
    assert!(world.explore(&mut Vec::new(), 6) > 50_000);
}
