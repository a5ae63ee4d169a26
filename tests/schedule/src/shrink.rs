//! Makes a failing program smaller: fewer clients, fewer operations, no accident, fewer changes of task.

use tierce_engine::schedule::Order;

use crate::{
    judge::{execute, verdict},
    program::{Case, order},
};

/// Orders that a smaller program is tried with.
const TRIES: u64 = 60;
/// Runs that making smaller may take.
const RUNS_MAX: u64 = 6_000;

/// The kind of a complaint: its first words, without numbers.
fn kind(complaint: &str) -> String {
    let line = complaint.lines().next().unwrap_or_default();
    let text: String = line.chars().filter(|c| !c.is_ascii_digit()).collect();
    text.split(" at ").next().unwrap_or_default().chars().take(40).collect()
}

struct Shrink {
    kind: String,
    runs: u64,
    best: Case,
}

impl Shrink {
    /// Whether `case` fails in the same way, in some order: then it is the best one.
    fn try_case(&mut self, case: &Case) -> bool {
        for attempt in 0..TRIES {
            if self.runs >= RUNS_MAX {
                return false;
            }
            self.runs += 1;
            let order = if attempt == 0 { case.order.clone() } else { order(attempt ^ case.seed) };
            let case = Case { order, ..case.clone() };
            if let Err(complaint) = verdict(&execute(&case))
                && kind(&complaint) == self.kind
            {
                self.best = case;
                return true;
            }
        }
        false
    }

    fn program(&mut self) {
        let mut changed = true;
        while changed && self.runs < RUNS_MAX {
            changed = false;
            for list in 0..self.best.clients.len() + 2 {
                let mut at = 0;
                loop {
                    let mut case = self.best.clone();
                    let Some(ops) = (if list == 0 {
                        Some(&mut case.before)
                    } else if list == 1 {
                        Some(&mut case.again)
                    } else {
                        case.clients.get_mut(list - 2)
                    }) else {
                        break;
                    };
                    if at >= ops.len() {
                        break;
                    }
                    ops.remove(at);
                    if self.try_case(&case) { changed = true } else { at += 1 }
                }
            }
            let mut case = self.best.clone();
            case.clients.retain(|ops| !ops.is_empty());
            if case.clients.len() < self.best.clients.len() {
                changed |= self.try_case(&case);
            }
        }
        for part in 0..4 {
            let mut case = self.best.clone();
            match part {
                0 => case.accident = None,
                1 => case.fault = None,
                2 => case.config.background = false,
                _ => case.config.automatic = false,
            }
            self.try_case(&case);
        }
    }

    /// Takes out changes of task that the failure does not need.
    fn choices(&mut self) {
        let ended = execute(&self.best);
        let atomics = match &self.best.order {
            Order::Random { atomics, .. }
            | Order::Priorities { atomics, .. }
            | Order::Given { atomics, .. } => *atomics,
        };
        let mut choices = ended.choices;
        let fails = |this: &mut Self, choices: &[(u64, u32)]| {
            this.runs += 1;
            let order = Order::Given { choices: choices.to_vec(), atomics };
            let case = Case { order, ..this.best.clone() };
            let fails = verdict(&execute(&case)).is_err_and(|text| kind(&text) == this.kind);
            if fails {
                this.best = case;
            }
            fails
        };
        if !fails(self, &choices) {
            return;
        }
        let mut width = choices.len().div_ceil(2);
        while width > 0 && self.runs < 2 * RUNS_MAX {
            let mut at = 0;
            while at < choices.len() {
                let end = (at + width).min(choices.len());
                let fewer = [&choices[..at], &choices[end..]].concat();
                if fails(self, &fewer) {
                    choices = fewer;
                } else {
                    at = end;
                }
            }
            width /= 2;
        }
    }
}

/// Prints the smallest program found that fails as `case` does.
pub(crate) fn report(case: &Case) {
    let Err(complaint) = verdict(&execute(case)) else {
        eprintln!("it does not fail a second time");
        return;
    };
    let mut shrink = Shrink { kind: kind(&complaint), runs: 0, best: case.clone() };
    shrink.program();
    shrink.choices();
    let best = &shrink.best;
    let complaint = verdict(&execute(best)).err().unwrap_or_default();
    eprintln!(
        "--- made smaller in {} runs, {} operations left: {complaint}",
        shrink.runs,
        best.len()
    );
    eprintln!(
        "{:?}\naccident {:?}, power {}, fault {:?}",
        best.config, best.accident, best.is_power, best.fault
    );
    eprintln!("before: {:?}", best.before);
    for (number, ops) in best.clients.iter().enumerate() {
        eprintln!("client {number}: {ops:?}");
    }
    eprintln!("again, checkpoints lost {}: {:?}", best.loses_checkpoints, best.again);
    eprintln!("order: {:?}", best.order);
}
