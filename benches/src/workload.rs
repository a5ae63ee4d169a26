//! Which key comes next, and how long it lives: the workloads that compaction is measured with.

use crate::Random;

/// Draws keys from 0 to a count. Key numbers say nothing of when a key was first written: load them shuffled.
#[derive(Clone, Debug)]
pub enum Workload {
    /// Every key as often as every other.
    Uniform,
    /// The key of rank r with a weight of 1 / r^s; sums of the weights.
    Zipf(Vec<f64>),
    /// 90 % of the writes go to 10 % of the keys; those move on by their own number in so many writes (0 = never).
    HotCold {
        /// Writes in which the hot keys become others.
        drift: u64,
    },
}

impl Workload {
    /// Zipf over so many keys.
    #[must_use]
    pub fn zipf(keys: u64, s: f64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=keys).map(|rank| {
            sum += (rank as f64).powf(-s);
            sum
        });
        Self::Zipf(weights.collect())
    }

    /// The key of write number `at`.
    pub fn key(&self, random: &mut Random, keys: u64, at: u64) -> u64 {
        match self {
            Self::Uniform => random.below(keys),
            Self::Zipf(sums) => {
                let goal = random.unit() * sums.last().copied().unwrap_or(0.0);
                (sums.partition_point(|sum| *sum < goal) as u64).min(keys - 1)
            }
            Self::HotCold { drift } => {
                let hot = keys / 10;
                let start = if *drift == 0 { 0 } else { at * hot / drift % keys };
                let is_hot = random.below(10) < 9;
                let inside =
                    if is_hot { random.below(hot) } else { hot + random.below(keys - hot) };
                (start + inside) % keys
            }
        }
    }
}

/// Lifetimes with their weights, which come to 1.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes<'a>(pub &'a [(f64, u64)]);

impl Lifetimes<'_> {
    /// The lifetime of the next entry, in milliseconds.
    pub fn next(&self, random: &mut Random) -> u64 {
        let mut pick = random.unit();
        for (weight, ms) in self.0 {
            if pick < *weight {
                return *ms;
            }
            pick -= weight;
        }
        self.0.last().map_or(0, |last| last.1)
    }

    /// The mean lifetime.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.0.iter().map(|(weight, ms)| weight * *ms as f64).sum()
    }
}
