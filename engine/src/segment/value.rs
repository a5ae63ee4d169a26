//! A value that was read: a view into a mapped segment, or bytes of its own.

use std::{fmt, ops::Deref, sync::Arc};

use super::Segment;

/// A value, checked against its checksum. Derefs to `[u8]`.
///
/// A value read from a sealed segment is a view without a copy. It keeps that one segment's file mapped, and so
/// its disk space in use, until it is dropped: copy what you keep for long.
#[derive(Clone)]
pub struct Value(Kind);

#[derive(Clone)]
enum Kind {
    Mapped { segment: Arc<Segment>, start: usize, length: usize },
    Owned(Vec<u8>),
}

impl Value {
    pub(crate) fn mapped(segment: Arc<Segment>, start: usize, length: usize) -> Self {
        debug_assert!(start + length <= segment.mapped().len(), "value beyond its segment");
        Self(Kind::Mapped { segment, start, length })
    }

    pub(crate) const fn owned(bytes: Vec<u8>) -> Self {
        Self(Kind::Owned(bytes))
    }

    /// The bytes as a vector of their own, without a copy if they already are one.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Kind::Owned(bytes) => bytes,
            Kind::Mapped { .. } => self.to_vec(),
        }
    }

    /// Whether this view keeps a segment's file mapped.
    #[must_use]
    pub const fn pins_segment(&self) -> bool {
        matches!(self.0, Kind::Mapped { .. })
    }
}

impl Deref for Value {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kind::Mapped { segment, start, length } => &segment.mapped()[*start..start + length],
            Kind::Owned(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.len())
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Value {}

impl PartialEq<[u8]> for Value {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Value {
    fn eq(&self, other: &&[u8; N]) -> bool {
        **self == other[..]
    }
}
