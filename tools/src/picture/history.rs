//! What the files still tell of compaction: which segments it made, when, and from which.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use serde_json::{Value, json};
use tierce_engine::{SegmentId, SegmentMap, Timestamp};

use super::{block::tenth, data::SEGMENTS_MAX, markup::text, survey::Contents};
use crate::{size::human_bytes, text::moment};

/// One segment and where it came from.
#[derive(Debug)]
pub(super) struct Origin<'a> {
    pub(super) map: &'a SegmentMap,
    pub(super) created: Option<Timestamp>,
    pub(super) parents: &'a [SegmentId],
}

/// Segments that were made together: they name the same inputs.
#[derive(Debug)]
pub(super) struct Job<'a> {
    /// Empty if their headers name none.
    pub(super) parents: &'a [SegmentId],
    pub(super) made: Vec<&'a Origin<'a>>,
}

impl Job<'_> {
    pub(super) fn created(&self) -> Option<Timestamp> {
        self.made.iter().filter_map(|origin| origin.created).min()
    }
}

/// All segments of one class.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OfClass {
    pub(super) segments: u64,
    pub(super) bytes: u64,
    pub(super) live: u64,
}

/// Ids in the data of jobs; of older jobs there is only the count.
const IDS_MAX: usize = 10_000;

#[derive(Debug)]
pub(super) struct History<'a> {
    pub(super) origins: Vec<Origin<'a>>,
    pub(super) classes: BTreeMap<u8, OfClass>,
    pub(super) bytes: u64,
    now: Timestamp,
}

impl<'a> History<'a> {
    pub(super) fn of(contents: &'a Contents) -> Self {
        let known: HashMap<_, _> =
            contents.origins.iter().map(|origin| (origin.id, origin)).collect();
        let mut classes: BTreeMap<u8, OfClass> = BTreeMap::new();
        let origin = |map: &'a SegmentMap| {
            let class = classes.entry(map.class).or_default();
            class.segments += 1;
            class.bytes += map.bytes;
            class.live += map.sum().live;
            let known = known.get(&map.id);
            Origin {
                map,
                created: known.and_then(|origin| origin.created),
                parents: known.map_or(&[], |origin| &origin.parents[..]),
            }
        };
        let origins: Vec<_> = contents.picture.segments.iter().map(origin).collect();
        let bytes = classes.values().map(|class| class.bytes).sum();
        Self { origins, classes, bytes, now: contents.now }
    }

    /// Bytes of the files that compaction wrote, and of those that recovery wrote anew.
    pub(super) fn rewritten(&self) -> (u64, u64) {
        let of = |wanted: fn(u8) -> bool| {
            let classes = self.classes.iter().filter(|(class, _)| wanted(**class));
            classes.map(|(_, class)| class.bytes).sum()
        };
        (of(|class| class >= 2), of(|class| class == 1))
    }

    /// How often, at the least and on average, the bytes were written that stand in the files now, in hundredths:
    /// what was rewritten was written before. `None` of nothing.
    pub(super) fn written_at_least(&self) -> Option<u64> {
        let (compacted, recovered) = self.rewritten();
        let written = u128::from(self.bytes) + u128::from(compacted) + u128::from(recovered);
        let hundredths = (written * 100).checked_div(u128::from(self.bytes))?;
        u64::try_from(hundredths).ok()
    }

    pub(super) fn json(&self) -> Value {
        let class = |(class, of): (&u8, &OfClass)| {
            json!({
                "class": class, "segments": of.segments, "bytes": of.bytes, "live_bytes": of.live,
            })
        };
        let origin = |origin: &Origin<'_>| {
            json!({
                "id": origin.map.id.to_string(), "class": origin.map.class,
                "created_ms": origin.created.map(|at| at.0),
            })
        };
        let ids = |ids: &mut dyn Iterator<Item = SegmentId>| -> Vec<Value> {
            ids.map(|id| id.to_string().into()).collect()
        };
        let job = |job: &Job<'_>| {
            let parents = ids(&mut job.parents.iter().copied());
            let made = ids(&mut job.made.iter().map(|origin| origin.map.id));
            json!({"created_ms": job.created().map(|at| at.0), "parents": parents, "made": made})
        };
        let (compacted, recovered) = self.rewritten();
        let jobs = self.jobs();
        let mut budget = IDS_MAX;
        let told = jobs.iter().take_while(|job| {
            let ids = job.parents.len() + job.made.len();
            let fits = ids <= budget;
            budget = budget.saturating_sub(ids);
            fits
        });
        let told: Vec<_> = told.map(job).collect();
        json!({
            "classes": self.classes.iter().map(class).collect::<Vec<_>>(),
            "compacted_bytes": compacted, "recovered_bytes": recovered,
            "written_at_least_percent": self.written_at_least(),
            "segments": self.origins.iter().take(SEGMENTS_MAX).map(origin).collect::<Vec<_>>(),
            "jobs_omitted": jobs.len() - told.len(),
            "jobs": told,
        })
    }

    /// What compaction and recovery made, newest first, as far as it is still here.
    pub(super) fn jobs(&self) -> Vec<Job<'_>> {
        let mut jobs: HashMap<&[SegmentId], Vec<&Origin<'_>>> = HashMap::new();
        for origin in self.origins.iter().filter(|origin| origin.map.class > 0) {
            jobs.entry(origin.parents).or_default().push(origin);
        }
        let mut jobs: Vec<_> =
            jobs.into_iter().map(|(parents, made)| Job { parents, made }).collect();
        jobs.sort_by_key(|job| {
            std::cmp::Reverse(job.made.iter().map(|origin| origin.map.id).max())
        });
        jobs
    }

    /// When segments were begun, a lane for each class, with a line to each parent that is still there.
    pub(super) fn drawing(&self) -> Option<String> {
        const WIDTH: f64 = 720.0;
        const LEFT: f64 = 104.0;
        const LANE: f64 = 38.0;
        let told: Vec<_> = self.origins.iter().take(SEGMENTS_MAX).collect();
        let moments = || told.iter().filter_map(|origin| origin.created).map(|at| at.0);
        let (first, last) = (moments().min()?, moments().max()?.max(self.now.0));
        let span = last.saturating_sub(first).max(1) as f64;
        let x = |at: u64| LEFT + (WIDTH - LEFT - 20.0) * (at.saturating_sub(first) as f64 / span);
        let lanes: Vec<u8> = self.classes.keys().copied().collect();
        let y = |class: u8| {
            let lane = lanes.iter().position(|lane| *lane == class).unwrap_or(0);
            LANE * (lane as f64 + 0.5) + 6.0
        };
        let height = LANE * lanes.len() as f64 + 40.0;
        let greatest = told.iter().map(|origin| origin.map.bytes).max().unwrap_or(1).max(1) as f64;
        let mut out = format!(
            "<svg class=\"chart lanes\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-label=\"When segments were begun\">"
        );
        for class in &lanes {
            let (y, name) = (y(*class), class_name(*class));
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>\
                 <text x=\"0\" y=\"{}\">{name}</text>",
                WIDTH - 8.0,
                y + 4.0
            );
        }
        let places: HashMap<_, _> = told
            .iter()
            .filter_map(|one| Some((one.map.id, (x(one.created?.0), y(one.map.class)))))
            .collect();
        for origin in &told {
            let Some((to_x, to_y)) = places.get(&origin.map.id) else { continue };
            for (x, y) in origin.parents.iter().filter_map(|parent| places.get(parent)) {
                let _ = write!(
                    out,
                    "<line class=\"made\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>",
                    tenth(*x),
                    tenth(*y),
                    tenth(*to_x),
                    tenth(*to_y)
                );
            }
        }
        for origin in &told {
            let Some((x, y)) = places.get(&origin.map.id) else { continue };
            let radius = 3.0 + 5.0 * (origin.map.bytes as f64 / greatest).sqrt();
            let _ = write!(
                out,
                "<circle class=\"{}\" cx=\"{}\" cy=\"{}\" r=\"{}\"><title>{}</title></circle>",
                if origin.map.class >= 2 { "dot made-dot" } else { "dot" },
                tenth(*x),
                tenth(*y),
                tenth(radius),
                text(&told_of(origin))
            );
        }
        axis(&mut out, (first, last), (LEFT, WIDTH - 20.0), height - 26.0);
        out.push_str("</svg>");
        Some(out)
    }
}

fn axis(out: &mut String, (first, last): (u64, u64), (left, right): (f64, f64), y: f64) {
    const TICKS: u64 = 3;
    for tick in 0..=TICKS {
        let at = first
            + u64::try_from(u128::from(last - first) * u128::from(tick) / u128::from(TICKS))
                .unwrap_or(0);
        let x = left + (right - left) * tick as f64 / TICKS as f64;
        let anchor = match tick {
            0 => "start",
            TICKS => "end",
            _ => "middle",
        };
        let told = moment(Timestamp(at));
        let (day, time) = (told.get(..10).unwrap_or(&told), told.get(11..19).unwrap_or_default());
        let _ = write!(
            out,
            "<text class=\"tick\" x=\"{}\" y=\"{y}\" text-anchor=\"{anchor}\">{day}</text>\
             <text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{time}</text>",
            tenth(x),
            tenth(x),
            y + 14.0
        );
    }
}

/// Where segments of a class come from.
pub(super) fn class_name(class: u8) -> String {
    match class {
        0 => "written".to_owned(),
        1 => "recovered".to_owned(),
        class => format!("compacted {}", class - 1),
    }
}

fn told_of(origin: &Origin<'_>) -> String {
    let at = origin.created.map(moment).unwrap_or_default();
    let bytes = human_bytes(origin.map.bytes);
    let made = match origin.parents.len() {
        0 => String::new(),
        count => format!(", made from {count}"),
    };
    format!("segment {}, {bytes}, begun {at}{made}", origin.map.id)
}
