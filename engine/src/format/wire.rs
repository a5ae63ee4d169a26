//! Little-endian fields in and out of byte slices, without a panic in sight.

use crate::error::{Damage, DecodeError};

/// Reads fields one after another and knows where it stands, so that an error can say so.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    pub(crate) const fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken =
            rest.get(..count).ok_or_else(|| DecodeError::new(self.at as u64, Damage::Truncated))?;
        self.at += count;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The next `count` bytes, which must all be zero: reserved space is checked, so that it can be used later.
    pub(crate) fn zeros(&mut self, count: usize, field: &'static str) -> Result<(), DecodeError> {
        let at = self.at as u64;
        if self.take(count)?.iter().any(|&byte| byte != 0) {
            return Err(DecodeError::new(at, Damage::Field(field)));
        }
        Ok(())
    }

    pub(crate) const fn fault(&self, damage: Damage) -> DecodeError {
        DecodeError::new(self.at as u64, damage)
    }
}

/// The `u32` at `at`, or `None` past the end.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

/// The `u64` at `at`, or `None` past the end.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(field.try_into().ok()?))
}

/// Overwrites `field.len()` bytes at `at`. The caller made room; a miss is our bug.
pub(crate) fn patch(bytes: &mut [u8], at: usize, field: &[u8]) {
    let room = bytes.get_mut(at..at + field.len());
    debug_assert!(room.is_some(), "patch of {} bytes at {at} is outside", field.len());
    if let Some(room) = room {
        room.copy_from_slice(field);
    }
}

/// `bytes` rounded up to the next multiple of 8, the unit of every offset in a segment.
pub(crate) const fn align8(bytes: u64) -> u64 {
    bytes.saturating_add(7) & !7
}
