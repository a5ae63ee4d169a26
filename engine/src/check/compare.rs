//! A footer beside the records it speaks of. Pure.

use super::footer::Footer;
use crate::{
    format::{
        footer::FooterEntry,
        record::{Flags, Kind},
    },
    segment::{batches::Batches, scanner::Met},
    types::{SequenceNumber, Timestamp},
};

/// The first difference: where, and what.
pub(super) type Difference = (Option<u64>, String);

/// The records of a segment, shown in order of offset, beside its footer.
#[derive(Debug)]
pub(super) struct Comparison<'a> {
    footer: Option<&'a Footer>,
    /// The entries in order of offset: the offset in units of 8 above the index.
    order: Vec<u64>,
    next: usize,
    mask: u64,
    totals: Totals,
    batches: Batches,
    difference: Option<Difference>,
}

/// What the trailer tells of all records together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Totals {
    sequence_min: SequenceNumber,
    sequence_max: SequenceNumber,
    expiry_min: Timestamp,
    expiry_max: Timestamp,
    tombstones: u32,
    not_fresh: u32,
    expiring: u32,
}

/// The bits of a hash that a store uses. All but in tests, where a store may have been opened with a weakened hash: the
/// highest bit that any of its footers has is then the highest there is.
pub(super) fn hash_mask(used_bits: u64) -> u64 {
    if cfg!(feature = "testing") {
        u64::MAX.checked_shr(used_bits.leading_zeros()).unwrap_or(0)
    } else {
        u64::MAX
    }
}

impl<'a> Comparison<'a> {
    /// With the footer of the segment, if it has a sound one; otherwise nothing is compared.
    pub(super) fn new(footer: Option<&'a Footer>) -> Self {
        let place = |index: usize| {
            let entry = footer.and_then(|footer| footer.entry(index))?;
            Some((entry.offset / 8) << 32 | index as u64)
        };
        let mut order: Vec<_> = (0..footer.map_or(0, Footer::kept)).filter_map(place).collect();
        order.sort_unstable();
        Self {
            footer,
            order,
            next: 0,
            mask: hash_mask(footer.map_or(0, |footer| footer.used_bits)),
            totals: Totals {
                sequence_min: SequenceNumber(u64::MAX),
                sequence_max: SequenceNumber(0),
                expiry_min: Timestamp(u64::MAX),
                expiry_max: Timestamp(0),
                tombstones: 0,
                not_fresh: 0,
                expiring: 0,
            },
            batches: Batches::default(),
            difference: None,
        }
    }

    pub(super) const fn has_footer(&self) -> bool {
        self.footer.is_some()
    }

    /// The next record.
    pub(super) fn show(&mut self, met: &Met) {
        let Some(footer) = self.footer else { return };
        // Offsets stand for counts here: where the batch begins that is not whole.
        let offset = usize::try_from(met.record.offset).unwrap_or(usize::MAX);
        if let Some(first) = self.batches.show(&met.record, offset) {
            self.differ(Some(first as u64), "the batch that begins here is not whole");
        }
        self.totals.sequence_max = self.totals.sequence_max.max(met.record.sequence);
        let Some(entry) = met.entry() else { return };
        self.totals.add(&entry, met.expires_at);
        let entry = FooterEntry { hash: entry.hash & self.mask, ..entry };
        let index = self.order.get(self.next).map(|place| (place & u64::from(u32::MAX)) as usize);
        self.next += 1;
        if index.and_then(|index| footer.entry(index)) != Some(entry) {
            self.differ(
                Some(entry.offset),
                "the footer has another entry for this record, or none",
            );
        }
    }

    fn differ(&mut self, offset: Option<u64>, message: &str) {
        self.difference.get_or_insert_with(|| (offset, message.to_owned()));
    }

    /// All records were shown; `sum` is the checksum over all their bytes. The first difference, if there is one.
    pub(super) fn end(mut self, sum: Option<u32>) -> Option<Difference> {
        let footer = self.footer?;
        if let Some(first) = self.batches.end() {
            self.differ(Some(first as u64), "the batch that begins here has no end");
        }
        if self.next < self.order.len() {
            let offset = self.order.get(self.next).map(|place| (place >> 32) * 8);
            self.differ(offset, "the footer has an entry where no such record stands");
        }
        let trailer = &footer.trailer;
        if self.totals.sequence_min.0 == u64::MAX {
            self.totals.sequence_min = SequenceNumber(0);
        }
        let told = Totals {
            sequence_min: trailer.sequence_min,
            sequence_max: trailer.sequence_max,
            expiry_min: trailer.expiry_min,
            expiry_max: trailer.expiry_max,
            tombstones: trailer.tombstones,
            not_fresh: trailer.not_fresh,
            expiring: trailer.expiring,
        };
        if told != self.totals {
            let message = format!("the trailer tells {told:?}, the records {:?}", self.totals);
            self.differ(None, &message);
        }
        if sum != Some(trailer.records_checksum) {
            self.differ(None, "the footer's checksum of all records is another one");
        }
        self.difference
    }
}

impl Totals {
    fn add(&mut self, entry: &FooterEntry, expires_at: Option<Timestamp>) {
        self.sequence_min = self.sequence_min.min(entry.sequence);
        match entry.kind {
            Kind::Put | Kind::Touch => {
                let last = expires_at.unwrap_or(Timestamp(u64::MAX));
                self.expiry_max = self.expiry_max.max(last);
                self.expiry_min = self.expiry_min.min(expires_at.unwrap_or(self.expiry_min));
                self.expiring += u32::from(expires_at.is_some());
            }
            _ => self.tombstones += 1,
        }
        let may_hide = matches!(entry.kind, Kind::Put | Kind::Delete);
        self.not_fresh += u32::from(may_hide && !entry.flags.has(Flags::FRESH));
    }
}
