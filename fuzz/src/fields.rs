//! Fields in and out of test inputs, where a miss means zero and nothing is checked.

/// The little-endian number in the `N` bytes at `at`; missing bytes are zero.
pub(crate) fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut wide = [0; 8];
    for (to, from) in wide.iter_mut().zip(bytes.iter().skip(at).take(N)) {
        *to = *from;
    }
    u64::from_le_bytes(wide)
}

/// Overwrites what fits of `field` at `at`.
pub(crate) fn set(bytes: &mut [u8], at: usize, field: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(field) {
        *to = *from;
    }
}

/// The bytes from `from` to before `to`, cut to what is there.
pub(crate) fn span(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    let to = to.min(bytes.len());
    bytes.get(from.min(to)..to).unwrap_or_default()
}

/// Fails if `kept` bytes of memory are out of proportion to `given` bytes of input.
pub(crate) fn assert_modest(kept: usize, given: usize) {
    // The smallest edit of a manifest is 8 bytes on disk and 72 in memory, and vectors double.
    let allowed = given.saturating_mul(24) + 4096;
    assert!(kept <= allowed, "I10: {kept} bytes of memory for {given} bytes of input");
}
