//! Placeholder until the policy room is merged.
use crate::types::Slot;

#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentFacts {
    pub(crate) slot: Slot,
    pub(crate) bytes: u64,
    pub(crate) live_bytes: u64,
    pub(crate) live_records: u64,
    pub(crate) expired_bytes: u64,
    pub(crate) dead_at: [u64; 2],
    pub(crate) sequence_max: u64,
    pub(crate) expiry_min: u64,
    pub(crate) expiry_max: u64,
    pub(crate) stream: u8,
    pub(crate) is_pinned: bool,
}
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) now_sequence: u64,
    pub(crate) now_ms: u64,
    pub(crate) garbage_max_percent: u32,
    pub(crate) output_bytes_max: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) force: bool,
}
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) inputs: Vec<Slot>,
}
pub(crate) fn plan(facts: &[SegmentFacts], goal: &Goal) -> Plan {
    let total: u64 = facts.iter().map(|f| f.bytes).sum();
    let live: u64 = facts.iter().map(|f| f.live_bytes.min(f.bytes)).sum();
    if !goal.force && (total - live) * 100 <= total.max(1) * u64::from(goal.garbage_max_percent) {
        return Plan::default();
    }
    let mut order: Vec<_> = facts.iter().filter(|f| !f.is_pinned).collect();
    order.sort_by_key(|f| f.live_bytes * 1000 / f.bytes.max(1));
    let mut out = 0;
    let mut inputs = Vec::new();
    for f in order.into_iter().take(8) {
        if f.live_bytes * 100 > f.bytes * 95 || out + f.live_bytes > goal.output_bytes_max {
            break;
        }
        out += f.live_bytes;
        inputs.push(f.slot);
    }
    Plan { inputs }
}
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Streams {
    pub(crate) lifetime: u64,
}
impl Streams {
    pub(crate) fn learn(&mut self, _now: u64, _cleaned: &[SegmentFacts]) {}
    pub(crate) fn place(&self, age: u64, _left: Option<u64>, from: u8) -> u8 {
        1 + u8::from(age > 1000) + u8::from(from > 9)
    }
}
