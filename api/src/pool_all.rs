//! A set of jobs that several threads work off together.

use std::collections::VecDeque;

use super::{Job, hold, run};

use crate::sync::{Condvar, Mutex};

/// Jobs that several threads share among themselves.
pub(super) struct All {
    /// Those not begun, and the number of those that run.
    pub(super) left: Mutex<(VecDeque<Job>, usize)>,
    pub(super) ended: Condvar,
}

impl All {
    pub(super) fn help(&self) {
        let mut left = hold(&self.left);
        while let Some(job) = left.0.pop_front() {
            left.1 += 1;
            drop(left);
            run(job);
            left = hold(&self.left);
            left.1 -= 1;
        }
        drop(left);
        self.ended.notify_all();
    }
}
