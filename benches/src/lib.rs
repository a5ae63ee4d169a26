//! What the benches share: the data they all use, and how a ratio is taken.
//!
//! The data: keys of 16 bytes and values of 100, keys in uniform random order. Absolute times drift on shared
//! machines, so every figure is a ratio of two things measured in turn, round by round; the median is quoted.

mod workload;

use std::time::Instant;

pub use workload::{Lifetimes, Workload};

/// Keys of 16 bytes.
pub const KEY_BYTES: usize = 16;
/// Values of 100 bytes.
pub const VALUE_BYTES: usize = 100;

/// Key number `index`: unlike its neighbours in every byte that matters.
#[must_use]
pub fn key(index: u64) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&mix(index).to_le_bytes());
    key[8..].copy_from_slice(&index.to_le_bytes());
    key
}

/// The value of key number `index`.
#[must_use]
pub fn value(index: u64) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    for (at, byte) in value.iter_mut().enumerate() {
        *byte = mix(index.wrapping_add(at as u64)).to_le_bytes()[0];
    }
    value
}

/// splitmix64's finisher: spreads a number over all bits.
#[must_use]
pub const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A row of random numbers below a bound.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A row that depends on `seed` only.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `bound`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        ((mix(self.0) as u128 * bound as u128) >> 64) as u64
    }

    /// The next number from 0 up to but not including 1.
    pub fn unit(&mut self) -> f64 {
        self.below(1 << 53) as f64 / (1_u64 << 53) as f64
    }
}

/// Numbers 0 to `count`, shuffled.
#[must_use]
pub fn shuffled(count: u64, seed: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..count).collect();
    let mut random = Random::new(seed);
    for at in (1..order.len()).rev() {
        let other = random.below(at as u64 + 1) as usize;
        order.swap(at, other);
    }
    order
}

/// Nanoseconds per operation of `work`, which carries out `count` of them.
pub fn nanos_per(count: u64, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / count as f64
}

/// The median.
///
/// # Panics
/// If there is nothing to take it of.
#[must_use]
pub fn median(mut of: Vec<f64>) -> f64 {
    assert!(!of.is_empty(), "a median needs a sample");
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Two things measured in turn: the median of each, and the median of the ratios round by round.
#[derive(Clone, Copy, Debug)]
pub struct Versus {
    /// Median of ours.
    pub ours: f64,
    /// Median of the other.
    pub other: f64,
    /// Median of ours / other.
    pub ratio: f64,
}

/// Measures `ours` and `other` in turn, `rounds` times, after one round that is not counted.
pub fn versus(
    rounds: usize,
    mut ours: impl FnMut() -> f64,
    mut other: impl FnMut() -> f64,
) -> Versus {
    ours();
    other();
    let pairs: Vec<_> = (0..rounds).map(|_| (ours(), other())).collect();
    Versus {
        ours: median(pairs.iter().map(|pair| pair.0).collect()),
        other: median(pairs.iter().map(|pair| pair.1).collect()),
        ratio: median(pairs.iter().map(|pair| pair.0 / pair.1).collect()),
    }
}
