//! The figures of a replay, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};
use tierce_engine::Stats;

use super::{Counts, capacity::Room};
use crate::{args::ReplayArgs, exit::Outcome, out::Out};

/// A replay that is over.
pub(super) struct Report<'a> {
    pub(super) args: &'a ReplayArgs,
    pub(super) trace: &'a str,
    pub(super) room: Room,
    pub(super) counts: &'a Counts,
    pub(super) stats: &'a Stats,
    pub(super) took: Duration,
}

impl Report<'_> {
    pub(super) fn print(&self, json: bool, out: &mut Out) -> Outcome<()> {
        if json {
            return out.json(&self.json());
        }
        for (name, value) in self.fields() {
            out.line(format_args!("{name:<20} {value}"))?;
        }
        Ok(())
    }

    fn hit_ratio(&self) -> Option<f64> {
        ratio(self.counts.hits, self.counts.hits + self.counts.misses)
    }

    fn byte_hit_ratio(&self) -> Option<f64> {
        ratio(self.counts.hit_bytes, self.counts.hit_bytes + self.counts.missed_bytes)
    }

    fn write_amplification(&self) -> Option<f64> {
        ratio(self.stats.written_bytes + self.stats.compacted_bytes, self.counts.put_bytes)
    }

    fn per_second(&self) -> Option<f64> {
        let seconds = self.took.as_secs_f64();
        (seconds > 0.0).then(|| self.counts.requests as f64 / seconds)
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let (args, counts, stats) = (self.args, self.counts, self.stats);
        vec![
            ("trace", format!("{} ({})", self.trace, args.format.name())),
            ("limits", self.limits()),
            ("evict", args.evict.name().to_owned()),
            ("requests", format!("{} for {} keys", counts.requests, counts.keys)),
            (
                "hit ratio",
                format!(
                    "{}, {} hits and {} misses",
                    percent(self.hit_ratio()),
                    counts.hits,
                    counts.misses
                ),
            ),
            (
                "byte hit ratio",
                format!(
                    "{}, {} of {} bytes",
                    percent(self.byte_hit_ratio()),
                    counts.hit_bytes,
                    counts.hit_bytes + counts.missed_bytes
                ),
            ),
            ("inserts", format!("{}, refused {}", counts.inserts, counts.refused)),
            ("puts, deletes", format!("{}, {}", counts.puts, counts.deletes)),
            ("evicted, expired", format!("{}, {}", stats.evicted, stats.expired)),
            ("left", format!("{} entries, {} bytes of records", stats.entries, stats.live_bytes)),
            (
                "write amplification",
                format!(
                    "{}, {} written and {} compacted for {} put",
                    plain(self.write_amplification(), 3),
                    stats.written_bytes,
                    stats.compacted_bytes,
                    counts.put_bytes
                ),
            ),
            (
                "throughput",
                format!(
                    "{} requests/s, {:.3} s",
                    plain(self.per_second(), 0),
                    self.took.as_secs_f64()
                ),
            ),
        ]
    }

    fn limits(&self) -> String {
        let limits = [
            self.room.max_entries.map(|entries| format!("{entries} entries")),
            self.room.max_live_bytes.map(|bytes| format!("{bytes} bytes of records")),
            self.args.max_bytes.map(|bytes| format!("{bytes} bytes of files")),
        ];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        if limits.is_empty() { "none".to_owned() } else { limits.join(", ") }
    }

    /// Names are kept once given; new ones may come.
    fn json(&self) -> Value {
        let (args, counts, stats) = (self.args, self.counts, self.stats);
        json!({
            "trace": self.trace,
            "format": args.format.name(),
            "limits": {
                "max_entries": self.room.max_entries,
                "max_live_bytes": self.room.max_live_bytes,
                "max_bytes": args.max_bytes,
                "evict": args.evict.name(),
                "ttl_ms": args.ttl,
                "requests": args.limit,
            },
            "durability": args.durability.name(),
            "requests": counts.requests,
            "unique_keys": counts.keys,
            "hits": counts.hits,
            "misses": counts.misses,
            "hit_ratio": self.hit_ratio(),
            "requested_bytes": counts.hit_bytes + counts.missed_bytes,
            "hit_bytes": counts.hit_bytes,
            "byte_hit_ratio": self.byte_hit_ratio(),
            "inserts": counts.inserts,
            "puts": counts.puts,
            "deletes": counts.deletes,
            "refused": counts.refused,
            "evicted": stats.evicted,
            "expired": stats.expired,
            "entries": stats.entries,
            "live_bytes": stats.live_bytes,
            "put_bytes": counts.put_bytes,
            "written_bytes": stats.written_bytes,
            "compacted_bytes": stats.compacted_bytes,
            "write_amplification": self.write_amplification(),
            "seconds": self.took.as_secs_f64(),
            "requests_per_second": self.per_second(),
        })
    }
}

/// A share from 0 to 1, if there is anything to share.
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "none".to_owned(), |ratio| format!("{:.2} %", ratio * 100.0))
}

fn plain(number: Option<f64>, digits: usize) -> String {
    number.map_or_else(|| "none".to_owned(), |number| format!("{number:.digits$}"))
}
