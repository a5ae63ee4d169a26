//! What a compaction job hands to the writer, who installs it: where records are now, and which entries ended.

use std::{path::PathBuf, sync::Arc};

use super::{Segment, output::Finished};
use crate::types::{Location, SequenceNumber, Slot, Timestamp, Touch};

/// A record that was copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) hash: u64,
    pub(crate) from: Location,
    pub(crate) to: Location,
    pub(crate) bytes: u64,
    /// The touch whose expiry the copy carries in its head.
    pub(crate) folded: Option<Touch>,
}

/// An entry that leaves the index with the segment it stands in: it is marked as evicted already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) hash: u64,
    pub(crate) at: Location,
}

/// A file that is of no use any more and still there: nobody may have its room until it is gone.
#[derive(Debug)]
pub(crate) struct Leftover {
    pub(crate) path: PathBuf,
    /// A slot that is kept for it.
    pub(crate) slot: Option<Slot>,
    /// Bytes that are charged for it.
    pub(crate) charged: u64,
}

/// A finished job: its outputs are complete on disk, and the manifest does not name them yet.
#[derive(Debug, Default)]
pub(crate) struct Transfer {
    pub(crate) inputs: Vec<Arc<Segment>>,
    pub(crate) outputs: Vec<Finished>,
    pub(crate) moves: Vec<Move>,
    pub(crate) ended: Vec<Ended>,
    /// Scope cuts that no record is left for.
    pub(crate) spent_cuts: Vec<(Vec<u8>, SequenceNumber)>,
    /// The store time that expiries were compared with.
    pub(crate) now: Timestamp,
    pub(crate) records_copied: u64,
    pub(crate) bytes_copied: u64,
}

impl Transfer {
    /// The files of the outputs, which are not outputs any more.
    pub(crate) fn abandon(&mut self) -> impl Iterator<Item = Leftover> + '_ {
        self.outputs.drain(..).map(|output| Leftover {
            path: output.segment.path.clone(),
            slot: Some(output.segment.slot),
            charged: output.seal.file_bytes,
        })
    }
}
