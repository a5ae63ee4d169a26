//! Sequences of operations on a store in memory, beside the model of the test kit: what was acknowledged is there, what
//! ended stays away, whatever crashes and compactions come between.
//!
//! An input is the number of a setup and then two bytes for each operation, so that a change of the input changes one
//! operation and leaves the others as they are.

use tierce_kit::{history::History, recorder::RecordingDisk, run::Runner};

/// Most operations of an input.
const LENGTH_MAX: usize = 200;

/// Inputs from which others come.
#[must_use]
pub fn inputs() -> Vec<Vec<u8>> {
    let input = |seed: u8| (0..60_u8).map(|at| at.wrapping_mul(37) ^ seed).collect();
    // A crash while the clock is in doubt, which is then set back.
    let doubtful = b"\x00\x25\x41\xb9\xde\x00\x00\x4d\x72\x75\x9a\x9d\xc2\x80\x0c\x81\xa6".to_vec();
    (0..4).map(input).chain([doubtful]).collect()
}

/// Runs the operations that `bytes` determines.
///
/// # Panics
/// If the store and the model disagree.
pub fn operations(bytes: &[u8]) {
    let Some((setup, ops)) = bytes.split_first() else { return };
    let seed = u64::from(*setup);
    let history = History::new(0);
    let mut runner = Runner::new(RecordingDisk::new(), history.setup(seed));
    runner.clock = runner.clock.clone().seeded(seed);
    runner.open().expect("an empty store opens");
    for (number, op) in ops.chunks_exact(2).take(LENGTH_MAX).enumerate() {
        let op = history.op_of(u64::from(u16::from_le_bytes([op[0], op[1]])));
        if let Err(complaint) = runner.step(&op) {
            panic!("operation {number}, {op:?}: {complaint}\n{:?}", runner.setup());
        }
    }
}
