//! Makes a failing program smaller: fewer clients, fewer operations, no accident, fewer changes of task.

use tierce_engine::schedule::{Ended, Order};

use crate::{
    judge::{Verdict, execute, verdict},
    program::{Case, order},
};

/// A program that can be made smaller.
pub(crate) trait Program: Clone {
    /// One of its operations.
    type Op;

    /// Runs it.
    fn run(&self) -> Ended<Verdict>;
    /// What it follows from.
    fn seed(&self) -> u64;
    /// Who runs when.
    fn order(&mut self) -> &mut Order;
    /// What is done besides the clients, before and after.
    fn frame(&mut self) -> Vec<&mut Vec<Self::Op>>;
    /// What the clients do.
    fn clients(&mut self) -> &mut Vec<Vec<Self::Op>>;
    /// The same with less trouble.
    fn simpler(&self) -> Vec<Self>;
    /// Prints it.
    fn tell(&self);
}

impl Program for Case {
    type Op = crate::program::Op;

    fn run(&self) -> Ended<Verdict> {
        execute(self)
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn order(&mut self) -> &mut Order {
        &mut self.order
    }

    fn frame(&mut self) -> Vec<&mut Vec<Self::Op>> {
        vec![&mut self.before, &mut self.again]
    }

    fn clients(&mut self) -> &mut Vec<Vec<Self::Op>> {
        &mut self.clients
    }

    fn simpler(&self) -> Vec<Self> {
        let with = |change: fn(&mut Self)| {
            let mut case = self.clone();
            change(&mut case);
            case
        };
        vec![
            with(|case| case.accident = None),
            with(|case| case.fault = None),
            with(|case| case.config.background = false),
            with(|case| case.config.automatic = false),
        ]
    }

    fn tell(&self) {
        eprintln!(
            "{:?}\naccident {:?}, power {}, fault {:?}",
            self.config, self.accident, self.is_power, self.fault
        );
        eprintln!("before: {:?}", self.before);
        for (number, ops) in self.clients.iter().enumerate() {
            eprintln!("client {number}: {ops:?}");
        }
        eprintln!("again, checkpoints lost {}: {:?}", self.loses_checkpoints, self.again);
        eprintln!("order: {:?}", self.order);
    }
}

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

struct Shrink<P> {
    kind: String,
    runs: u64,
    best: P,
}

/// Takes an operation out of one of its lists: `None` if there is no such list, else whether there was one.
fn remove<P: Program>(program: &mut P, list: usize, at: usize) -> Option<bool> {
    let frame = program.frame().len();
    let ops = match list.checked_sub(frame) {
        None => program.frame().swap_remove(list),
        Some(client) => program.clients().get_mut(client)?,
    };
    let is_there = at < ops.len();
    if is_there {
        ops.remove(at);
    }
    Some(is_there)
}

impl<P: Program> Shrink<P> {
    fn fails(&mut self, program: P) -> bool {
        self.runs += 1;
        let fails = verdict(&program.run()).is_err_and(|text| kind(&text) == self.kind);
        if fails {
            self.best = program;
        }
        fails
    }

    /// Whether it fails in the same way, in some order: then it is the best one.
    fn try_program(&mut self, program: &P) -> bool {
        for attempt in 0..TRIES {
            if self.runs >= RUNS_MAX {
                return false;
            }
            let mut program = program.clone();
            if attempt > 0 {
                *program.order() = order(attempt ^ program.seed());
            }
            if self.fails(program) {
                return true;
            }
        }
        false
    }

    fn operations(&mut self) {
        let mut changed = true;
        while changed && self.runs < RUNS_MAX {
            changed = false;
            let (mut list, mut at) = (0, 0);
            loop {
                let mut program = self.best.clone();
                match remove(&mut program, list, at) {
                    None => break,
                    Some(false) => (list, at) = (list + 1, 0),
                    Some(true) if self.try_program(&program) => changed = true,
                    Some(true) => at += 1,
                }
            }
            let mut program = self.best.clone();
            program.clients().retain(|ops| !ops.is_empty());
            if program.clients().len() < self.best.clients().len() {
                changed |= self.try_program(&program);
            }
        }
        for at in 0..self.best.simpler().len() {
            let program = self.best.simpler().swap_remove(at);
            self.try_program(&program);
        }
    }

    /// Takes out changes of task that the failure does not need.
    fn choices(&mut self) {
        let mut choices = self.best.run().choices;
        let atomics = match self.best.order() {
            Order::Random { atomics, .. }
            | Order::Priorities { atomics, .. }
            | Order::Given { atomics, .. } => *atomics,
        };
        let given = |this: &mut Self, choices: &[(u64, u32)]| {
            let mut program = this.best.clone();
            *program.order() = Order::Given { choices: choices.to_vec(), atomics };
            this.fails(program)
        };
        if !given(self, &choices) {
            return;
        }
        let mut width = choices.len().div_ceil(2);
        while width > 0 && self.runs < 2 * RUNS_MAX {
            let mut at = 0;
            while at < choices.len() {
                let end = (at + width).min(choices.len());
                let fewer = [&choices[..at], &choices[end..]].concat();
                if given(self, &fewer) {
                    choices = fewer;
                } else {
                    at = end;
                }
            }
            width /= 2;
        }
    }
}

/// Prints the smallest program found that fails as `program` does.
pub(crate) fn report<P: Program>(program: &P) {
    let Err(complaint) = verdict(&program.run()) else {
        eprintln!("it does not fail a second time");
        return;
    };
    let mut shrink = Shrink { kind: kind(&complaint), runs: 0, best: program.clone() };
    shrink.operations();
    shrink.choices();
    let mut best = shrink.best;
    let complaint = verdict(&best.run()).err().unwrap_or_default();
    let framed: usize = best.frame().iter().map(|ops| ops.len()).sum();
    let left = framed + best.clients().iter().map(Vec::len).sum::<usize>();
    eprintln!("--- made smaller in {} runs, {left} operations left: {complaint}", shrink.runs);
    best.tell();
}
