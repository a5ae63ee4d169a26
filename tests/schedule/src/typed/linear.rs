//! Is there an order of what clients did to one thing that explains every answer?

use std::collections::HashSet;
use std::hash::Hash;

/// One deed, from when to when; `end` is the largest number if it is unknown whether it took effect.
#[derive(Clone, Debug)]
pub(crate) struct Deed<D> {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) what: D,
}

/// States that are looked at before the search is given up: it counts as explained then.
const STATES_MAX: usize = 200_000;

/// Whether deeds, done one after the other from `first` on, give the answers that they had. `step` gives the states that
/// may follow; none if the answer does not fit. Deeds that failed may be left out.
pub(crate) fn is_explained<D, S: Clone + Eq + Hash>(
    deeds: &[Deed<D>],
    first: S,
    step: impl Fn(&S, &D) -> Vec<S>,
) -> bool {
    assert!(deeds.len() <= 64, "a program has few deeds");
    let all = if deeds.len() == 64 { u64::MAX } else { (1 << deeds.len()) - 1 };
    let (mut seen, mut open) = (HashSet::new(), vec![(0_u64, first)]);
    while let Some((done, state)) = open.pop() {
        let left = || (0..deeds.len()).filter(move |at| (done >> at) & 1 == 0);
        if done == all || left().all(|at| deeds[at].end == u64::MAX) {
            return true;
        }
        // What ended first must come before everything that began later.
        let until = left().map(|at| deeds[at].end).min().unwrap_or(u64::MAX);
        for at in left().filter(|at| deeds[*at].start <= until) {
            for next in step(&state, &deeds[at].what) {
                let node = (done | 1 << at, next);
                if seen.insert(node.clone()) {
                    open.push(node);
                }
            }
        }
        if seen.len() > STATES_MAX {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{Deed, is_explained};

    /// Goal: a register is explained by an order within the times of its deeds, and by no other.
    #[test]
    fn a_register() {
        let deed = |start, end, what| Deed { start, end, what };
        // Writes are positive numbers, reads of them negative ones.
        let holds = |deeds: &[Deed<i32>]| {
            is_explained(deeds, 0, |state: &i32, what| match what {
                what if *what > 0 => vec![*what],
                what if -what == *state => vec![*state],
                _ => vec![],
            })
        };
        assert!(holds(&[deed(1, 2, 5), deed(3, 4, -5)]));
        assert!(!holds(&[deed(1, 2, 5), deed(3, 4, 6), deed(5, 6, -5)]));
        assert!(holds(&[deed(1, 9, 5), deed(3, 4, 6), deed(10, 11, -5)]), "they met");
        assert!(holds(&[deed(1, u64::MAX, 5), deed(3, 4, 0)]), "it may not have happened");
        assert!(holds(&[deed(1, u64::MAX, 5), deed(9, 10, -5)]), "or later");
    }
}
