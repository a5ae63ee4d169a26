//! What a caller asks of the log, encoded outside the turn, and what it is told.

use crate::{
    error::Result,
    format::{
        hash::KeyHasher,
        record::{Draft, Extension, Flags, HEADER_BYTES, ITEM_SCOPE, Kind, encode, push_item},
    },
    options::{Condition, Durability, PutOptions},
    types::{SequenceNumber, Timestamp},
};

/// One change of one key, encoded but for what only the turn knows: sequence number, offset, FRESH.
#[derive(Debug)]
pub(super) struct Op {
    pub(super) kind: Kind,
    pub(super) hash: u64,
    /// The record; for a touch only its key stands in it, the turn encodes the rest.
    pub(super) frame: Vec<u8>,
    pub(super) head_bytes: usize,
    pub(super) key_bytes: usize,
    pub(super) condition: Condition,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) evictable: bool,
    pub(super) scoped: bool,
    /// A touch that need not be written down each time.
    pub(super) is_sliding: bool,
}

impl Op {
    /// The key within the frame.
    pub(super) fn key(&self) -> &[u8] {
        &self.frame[self.head_bytes - self.key_bytes..self.head_bytes]
    }

    /// Most bytes this may add to the log.
    pub(super) fn bytes_max(&self) -> u64 {
        match self.kind {
            Kind::Touch => (HEADER_BYTES + 8 + 8 + 8 + self.key_bytes) as u64,
            _ => self.frame.len() as u64,
        }
    }

    /// A put, encoded into `frame`, which is cleared first.
    pub(super) fn put(
        key: &[u8],
        value: &[u8],
        options: &PutOptions,
        hasher: KeyHasher,
        mut frame: Vec<u8>,
    ) -> Self {
        frame.clear();
        let items = items_of(options);
        let extended = !items.is_empty() || options.codec != 0 || options.schema != 0;
        let extension = Extension { codec: options.codec, schema: options.schema, items: &items };
        let flags = if options.evictable { Flags::EVICTABLE } else { Flags::default() };
        let draft = Draft {
            kind: Kind::Put,
            flags,
            key,
            value,
            expires_at: options.expires_at,
            extension: extended.then_some(extension),
        };
        let head_bytes = encode(&draft, &mut frame);
        Self {
            kind: Kind::Put,
            hash: hasher.hash(key),
            head_bytes,
            key_bytes: key.len(),
            frame,
            condition: options.condition,
            expires_at: options.expires_at,
            evictable: options.evictable,
            scoped: !options.scopes.is_empty(),
            is_sliding: false,
        }
    }

    /// A delete, or a scope cut whose scope is `key`.
    pub(super) fn end(kind: Kind, key: &[u8], hasher: KeyHasher) -> Self {
        Self::bare(kind, key, None, hasher)
    }

    /// A touch. The turn encodes it anew, with the sequence number of the put it is for.
    pub(super) fn touch(key: &[u8], expires_at: Option<Timestamp>, hasher: KeyHasher) -> Self {
        Self::bare(Kind::Touch, key, expires_at, hasher)
    }

    fn bare(kind: Kind, key: &[u8], expires_at: Option<Timestamp>, hasher: KeyHasher) -> Self {
        let mut frame = Vec::new();
        let draft =
            Draft { kind, flags: Flags::default(), key, value: &[], expires_at, extension: None };
        let head_bytes = encode(&draft, &mut frame);
        Self {
            kind,
            hash: hasher.hash(key),
            frame,
            head_bytes,
            key_bytes: key.len(),
            condition: Condition::Always,
            expires_at,
            evictable: false,
            scoped: false,
            is_sliding: false,
        }
    }
}

fn items_of(options: &PutOptions) -> Vec<u8> {
    let mut items = Vec::new();
    for scope in &options.scopes {
        push_item(&mut items, ITEM_SCOPE, scope);
    }
    for (kind, bytes) in &options.items {
        push_item(&mut items, *kind, bytes);
    }
    items
}

/// The ops of a request.
#[derive(Debug)]
pub(super) enum Ops {
    One(Op),
    /// All or nothing.
    Batch(Vec<Op>),
}

impl Ops {
    pub(super) fn as_slice(&self) -> &[Op] {
        match self {
            Self::One(op) => std::slice::from_ref(op),
            Self::Batch(ops) => ops,
        }
    }
}

/// What a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It stands in the log; the sequence number of its last record.
    Written(SequenceNumber),
    /// There was nothing to do: the key is not there.
    Absent,
    /// Its condition did not hold; the key's sequence number, if it is there.
    Refused(Option<SequenceNumber>),
}

/// A caller's wish.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) ops: Ops,
    pub(super) durability: Durability,
    /// It was acknowledged already, and admitted then: no limit is asked again.
    pub(super) is_admitted: bool,
    pub(super) outcome: Option<Result<Outcome>>,
}

impl Request {
    pub(super) const fn new(ops: Ops, durability: Durability) -> Self {
        Self { ops, durability, is_admitted: false, outcome: None }
    }

    /// Whether later requests must not be judged in the same group: a cut changes what is live.
    pub(super) fn ends_group(&self) -> bool {
        self.ops.as_slice().iter().any(|op| op.kind == Kind::ScopeCut)
    }
}
