//! The size of a record in twelve bits: what an entry weighs, without reading it.
//!
//! A class and a step. Each of the 63 classes reaches a quarter further than the one before, the first to 32 bytes; a
//! step is one of the 64 parts of a class, counted from its top. Rounding is up and at most 0.5 %; records up to 2 KiB,
//! whose lengths are multiples of 8, come back exact. Above the last class (30 MiB) only the step counts, and each
//! reaches a quarter further.

/// The class of a record that is larger than every class, or of unknown size.
const CLASS_HUGE: u8 = 63;
const CLASS_FIRST_BYTES: u64 = 32;
const STEPS: u64 = 64;
/// Lengths of records are multiples of this.
const UNIT: u64 = 8;
/// Top of each class.
const TOPS: [u64; CLASS_HUGE as usize] = quarters(CLASS_FIRST_BYTES);
/// Most bytes of a record above every class, by step. Step 0 stands for unknown.
const HUGE: [u64; STEPS as usize] = quarters(TOPS[TOPS.len() - 1]);

const fn quarters<const N: usize>(first: u64) -> [u64; N] {
    let mut tops = [first; N];
    let mut at = 1;
    while at < N {
        tops[at] = tops[at - 1] * 5 / 4;
        at += 1;
    }
    tops
}

/// The size of a record, rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    class: u8,
    step: u8,
}

impl Size {
    /// The smallest size that a record of `record_bytes` fits in.
    #[must_use]
    pub(crate) fn of(record_bytes: u64) -> Self {
        let bytes = record_bytes.checked_next_multiple_of(UNIT).unwrap_or(record_bytes);
        let class = TOPS.partition_point(|&top| top < bytes);
        let step = match TOPS.get(class) {
            // The largest step with `width * step / STEPS <= top - bytes`.
            Some(top) => (STEPS * (top - bytes + 1)).div_ceil(width(class)) - 1,
            None => HUGE.partition_point(|&top| top < bytes) as u64,
        };
        Self { class: class as u8, step: step.min(STEPS - 1) as u8 }
    }

    /// Of six bits each.
    #[inline]
    pub(super) const fn new(class: u8, step: u8) -> Self {
        debug_assert!(class <= CLASS_HUGE && (step as u64) < STEPS);
        Self { class, step }
    }

    #[inline]
    pub(super) const fn class(self) -> u8 {
        self.class
    }

    #[inline]
    pub(super) const fn step(self) -> u8 {
        self.step
    }

    /// The most bytes that such a record has. Of an unknown size this is a guess: the top of the last class.
    #[inline]
    #[must_use]
    pub(crate) fn bytes(self) -> u64 {
        match TOPS.get(usize::from(self.class)) {
            Some(top) => {
                let below = width(usize::from(self.class)) * u64::from(self.step) / STEPS;
                (top - below) / UNIT * UNIT
            }
            None => HUGE[usize::from(self.step)],
        }
    }

    /// How many bytes to read so that the whole record is mostly among them; `None` if that is unknown or too much
    /// to read on a guess.
    #[inline]
    #[must_use]
    pub(crate) fn read_bytes(self) -> Option<u64> {
        (self.class < CLASS_HUGE).then(|| self.bytes())
    }
}

/// What a record of `record_bytes` counts in the accounts: the same number whether it is computed from the record or
/// from its entry, so that what was added is subtracted.
#[inline]
#[must_use]
pub(crate) fn weight(record_bytes: u64) -> u64 {
    Size::of(record_bytes).bytes()
}

#[inline]
fn width(class: usize) -> u64 {
    TOPS[class] - if class == 0 { 0 } else { TOPS[class - 1] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a size is never below the record's, and never more than half a percent (or the unit) above.
    #[test]
    fn a_size_is_at_most_half_a_percent_above() {
        let last = TOPS[TOPS.len() - 1] / UNIT * UNIT;
        let lengths = (0..100_000).chain((100_000..last).step_by(997)).chain([last - 1, last]);
        for bytes in lengths {
            let rounded = bytes.next_multiple_of(UNIT);
            let weight = weight(bytes);
            assert!(weight >= bytes, "{weight} for {bytes}");
            assert!((weight - rounded) * 200 <= rounded, "{weight} for {bytes}");
            assert!(bytes > 2_048 || weight == rounded, "{weight} for {bytes}");
        }
    }

    /// Goal: steps of 0, as checkpoints had them before steps had a meaning, hold every record of their class.
    #[test]
    fn step_zero_is_the_top_of_the_class() {
        for (class, top) in (0..).zip(TOPS) {
            assert_eq!(Size::new(class, 0).bytes(), top / UNIT * UNIT);
            assert_eq!(Size::of(top / UNIT * UNIT).class(), class);
        }
        assert!(TOPS.windows(2).all(|pair| pair[1] == pair[0] * 5 / 4));
        assert_eq!(TOPS[TOPS.len() - 1] >> 20, 30);
    }

    /// Goal: what is larger than every class is told apart by a quarter, up to any length that a record may have.
    #[test]
    fn huge_records_are_counted_too() {
        let last = TOPS[TOPS.len() - 1];
        assert_eq!(Size::new(CLASS_HUGE, 0).bytes(), last, "unknown");
        assert_eq!(Size::of(last + 1), Size::new(CLASS_HUGE, 1));
        for bytes in [last + 1, last * 5 / 4, last * 2, 1 << 30, 1 << 31, 1 << 40] {
            let size = Size::of(bytes);
            assert!(
                (bytes..=bytes.next_multiple_of(8) * 5 / 4 + 1).contains(&size.bytes()),
                "{size:?} for {bytes}"
            );
            assert_eq!(size.read_bytes(), None);
        }
        assert_eq!(Size::of(u64::MAX), Size::new(CLASS_HUGE, 63));
    }

    /// Goal: a size is the size of its own bytes, so that accounts may start from either.
    #[test]
    fn a_size_keeps_its_weight() {
        for bytes in 0..50_000 {
            assert_eq!(weight(weight(bytes)), weight(bytes), "{bytes}");
        }
    }
}
