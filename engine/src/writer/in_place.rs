//! Recovery on a full disk: seals unsealed segments in place, without space for a copy.

use std::sync::Arc;

use super::{
    Writer,
    turn::{Doing, Turn},
};
use crate::{
    error::Result,
    format::manifest::Edit,
    segment::{in_place::seal_in_place, seal::open_sealed, transfer::Leftover},
    types::SegmentId,
};

impl Writer {
    /// Seals every segment that is not sealed, where it stands; those without a record go. Not for segments that are
    /// damaged, or whose sync failed: what is in their files is not trusted.
    pub(super) fn seal_open_in_place(&self, turn: &mut Turn) -> Result<()> {
        let log = &mut turn.log;
        log.settle_doubt()?;
        let (home, hasher) = (log.home.clone(), log.hasher);
        let floors = Edit::Floors { segment: SegmentId(log.next_id), sequence: log.next_sequence };
        let mut edits = vec![Edit::Clock(log.clock.confirmed()), floors];
        let (mut sealed, mut row) = (Vec::new(), None);
        for open in log.closing.iter_mut().chain(&mut log.active) {
            let segment = &open.segment;
            if segment.image().is_empty() {
                edits.push(Edit::Retire(segment.id()));
                sealed.push(None);
                row = row.or(Some(segment.add.horizon));
                continue;
            }
            let (seal, face) = match open.seal {
                Some(seal) => (seal, open_sealed(&home, &seal, self.maps)?),
                None => seal_in_place(&home, segment, hasher, self.maps)?,
            };
            // Order: from here on the file never changes, whatever becomes of the edit (I1).
            open.seal = Some(seal);
            edits.push(Edit::Seal(seal));
            sealed.push(Some(face));
            row = Some(open.newest.next());
        }
        log.manifest().apply(&edits)?;
        turn.doing = Doing::Changing;
        let log = &mut turn.log;
        log.gap_from = row.or(log.gap_from);
        let open: Vec<_> = log.closing.drain(..).chain(log.active.take()).collect();
        let mut gone = Vec::new();
        for (open, face) in open.into_iter().zip(sealed) {
            let (Some(face), Some(seal)) = (face, open.seal) else {
                gone.push((Arc::clone(&open.segment), open.charged));
                continue;
            };
            open.segment.finish(face);
            if open.charged < seal.file_bytes {
                self.space.found(seal.file_bytes - open.charged);
            }
            self.space.give(open.charged.saturating_sub(seal.file_bytes));
            self.lookup.counters.sealed.add(1);
        }
        let slots: Vec<_> = gone.iter().map(|(segment, _)| segment.slot).collect();
        log.catalog.change(Vec::new(), &slots);
        for (segment, charged) in gone {
            log.abandon(Leftover { path: segment.path.clone(), slot: None, charged });
        }
        turn.doing = Doing::Nothing;
        Ok(())
    }
}
