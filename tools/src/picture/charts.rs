//! Histograms as bars.

use std::fmt::Write as _;

use super::{
    block::tenth,
    markup::{count, short, text},
};
use crate::buckets::{Bucket, Buckets};

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 44.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 44.0;

/// How the numbers of an axis are told.
pub(super) struct Axis {
    /// What they count, with the unit.
    pub(super) title: &'static str,
    pub(super) word: fn(u64) -> String,
}

/// Bars, one for each power of two; labels stand at the least number of a bar.
pub(super) fn histogram(name: &str, buckets: &Buckets, axis: &Axis) -> String {
    let used = buckets.used();
    let greatest = used.iter().map(|bucket| bucket.count).max().unwrap_or(0);
    if greatest == 0 {
        return "<p class=\"none\">No entries.</p>".to_owned();
    }
    let top = nice_above(greatest);
    let (right, ground) = (WIDTH - 10.0, HEIGHT - BOTTOM);
    // Few bars do not get as broad as walls.
    let pitch = ((right - LEFT) / used.len() as f64).min(46.0);
    let y = |value: u64| ground - (ground - TOP) * (value as f64 / top as f64);
    let mut out = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        text(name)
    );
    for part in 0..=2 {
        let (value, text_y) = (top / 2 * part, y(top / 2 * part));
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{0}\" y2=\"{0}\"/>\
             <text class=\"tick\" x=\"{1}\" y=\"{2}\" text-anchor=\"end\">{3}</text>",
            tenth(text_y),
            LEFT - 6.0,
            tenth(text_y + 4.0),
            short(value)
        );
    }
    // So that labels do not touch, those of a phone neither: they need some 50 units each.
    let every = (50.0 / pitch).ceil().max(1.0) as usize;
    for (at, bucket) in used.iter().enumerate() {
        let x = LEFT + pitch * at as f64;
        bar(&mut out, bucket, axis, (x, y(bucket.count), pitch));
        if at.is_multiple_of(every) {
            let _ = write!(
                out,
                "<text class=\"tick\" x=\"{}\" y=\"{}\">{}</text>",
                tenth(x + 1.0),
                ground + 15.0,
                text(&(axis.word)(bucket.from))
            );
        }
    }
    let _ = write!(
        out,
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{ground}\" y2=\"{ground}\"/>\
         <text class=\"title\" x=\"{right}\" y=\"{}\" text-anchor=\"end\">{}</text></svg>",
        HEIGHT - 6.0,
        text(axis.title)
    );
    out
}

/// One bar from the ground up to `top`, and its count above it where there is room.
fn bar(out: &mut String, bucket: &Bucket, axis: &Axis, (x, top, pitch): (f64, f64, f64)) {
    const GROUND: f64 = HEIGHT - BOTTOM;
    let Bucket { from, to, count: here } = *bucket;
    // Whoever is there at all is seen.
    let height = if here == 0 { 0.0 } else { (GROUND - top).max(1.5) };
    let range = match from == to {
        true => (axis.word)(from),
        false => format!("{} to {}", (axis.word)(from), (axis.word)(to)),
    };
    let _ = write!(
        out,
        "<rect class=\"bar\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}: {} entries</title></rect>",
        tenth(x + 1.0),
        tenth(GROUND - height),
        tenth(pitch - 2.0),
        tenth(height),
        text(&range),
        count(here)
    );
    if pitch >= 30.0 && here > 0 {
        let _ = write!(
            out,
            "<text class=\"value\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            tenth(x + pitch / 2.0),
            tenth(GROUND - height - 4.0),
            short(here)
        );
    }
}

/// The least of 2, 4, 6, 10 and their tenfolds that is not below `number`: halves of it are whole.
fn nice_above(number: u64) -> u64 {
    let mut unit = 1_u64;
    loop {
        for step in [2, 4, 6, 10] {
            let nice = unit.saturating_mul(step);
            if nice >= number {
                return nice;
            }
        }
        unit = unit.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the top of an axis is above everything, even, and found for any number.
    #[test]
    fn tops() {
        for (number, top) in
            [(0, 2), (1, 2), (3, 4), (7, 10), (11, 20), (61, 100), (u64::MAX, u64::MAX)]
        {
            assert_eq!(nice_above(number), top);
        }
    }

    /// Goal: one entry among many is a bar that is seen; nothing at all is said so.
    #[test]
    fn bars() {
        let axis = Axis { title: "bytes", word: |number| number.to_string() };
        let mut buckets = Buckets::of(&[0, 1, 1_000_000]);
        let drawn = histogram("sizes", &buckets, &axis);
        assert!(drawn.contains("height=\"1.5\"") && drawn.contains("1: 1 entries"), "{drawn}");
        buckets = Buckets::default();
        assert!(histogram("sizes", &buckets, &axis).contains("No entries"));
    }
}
