//! The format of every file: what is written is read back, what was changed is noticed, what is newer is skipped
//! or refused as it says of itself, and no length makes a decoder allocate more than it was given (I10).

mod checkpoints;
mod golden;
mod lengths;
mod manifests;
mod names;
mod records;
mod segments;

/// `bytes` with one bit changed.
fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[bit / 8] ^= 1 << (bit % 8);
    changed
}

/// `bytes` with `field` written over what stands at `at`.
fn patched(bytes: &[u8], at: usize, field: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[at..at + field.len()].copy_from_slice(field);
    changed
}
