//! Cells as a block of columns: each is filled from the ground up by what its bytes are good for.

use std::fmt::Write as _;

use tierce_engine::CellBytes;

use super::kinds::{KINDS, parts};
use crate::size::human_bytes;

/// From one cell to the next, and from one row to the next.
pub(super) const PITCH: (usize, usize) = (10, 16);
const CELL: (f64, f64) = (9.0, 14.0);
/// Cells in a row.
pub(super) const COLUMNS: usize = 32;
/// What may not be overlooked is at least so high.
const SEEN: f64 = 3.0;

/// Width and height of a block of so many cells.
pub(super) fn extent(cells: usize) -> (usize, usize) {
    let columns = cells.clamp(1, COLUMNS);
    let rows = cells.div_ceil(COLUMNS).max(1);
    (columns * PITCH.0 - 1, rows * PITCH.1 - 2)
}

/// Where a cell is drawn in its block.
pub(super) const fn place(cell: usize) -> (usize, usize) {
    (cell % COLUMNS * PITCH.0, cell / COLUMNS * PITCH.1)
}

/// The cells of one segment, as one path for each kind. The last cell is as wide as it is long.
pub(super) fn drawing(cells: &[CellBytes], cell_bytes: u64) -> String {
    let mut paths: [String; KINDS.len()] = Default::default();
    for (at, cell) in cells.iter().enumerate() {
        let (x, y) = place(at);
        let width = (CELL.0 * share(cell.sum(), cell_bytes)).clamp(2.0, CELL.0);
        let mut ground = y as f64 + CELL.1;
        for (path, height) in paths.iter_mut().zip(heights(cell)) {
            if height > 0.0 {
                ground -= height;
                let (width, height) = (tenth(width), tenth(height));
                // Writing to a String cannot fail.
                let _ = write!(path, "M{x} {}h{width}v{height}h-{width}z", tenth(ground));
            }
        }
    }
    let drawn = KINDS.iter().zip(&paths).filter(|(_, path)| !path.is_empty());
    drawn.map(|(kind, path)| format!("<path class=\"k-{}\" d=\"{path}\"/>", kind.name)).collect()
}

/// How high each kind stands in a cell, all together as high as the cell.
fn heights(cell: &CellBytes) -> [f64; KINDS.len()] {
    let all = cell.sum();
    let alarms = KINDS.map(|kind| kind.is_alarming && (kind.of)(cell) > 0);
    let height = |(kind, is_alarm): (&super::kinds::Kind, bool)| {
        let height = CELL.1 * share((kind.of)(cell), all);
        if is_alarm { height.max(SEEN) } else { height }
    };
    let heights: Vec<f64> = KINDS.iter().zip(alarms).map(height).collect();
    let sum: f64 = heights.iter().sum();
    let fit = if sum > CELL.1 { CELL.1 / sum } else { 1.0 };
    std::array::from_fn(|at| heights[at] * fit)
}

fn share(part: u64, of: u64) -> f64 {
    part as f64 / of.max(1) as f64
}

/// With one digit behind the point, and none that says nothing.
pub(super) fn tenth(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// What a cell holds, as a sentence.
pub(super) fn words(cell: &CellBytes) -> String {
    let parts = parts(cell).map(|(kind, bytes)| format!("{} {}", human_bytes(bytes), kind.label));
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a cell is filled to its top, and a damaged byte among many is seen.
    #[test]
    fn filled() {
        let mut cell = CellBytes::default();
        (cell.live, cell.unreadable) = (1 << 30, 1);
        let heights = heights(&cell);
        assert!((heights.iter().sum::<f64>() - CELL.1).abs() < 1e-9, "{heights:?}");
        assert!(heights[6] > 2.0, "{heights:?}");
        assert!(drawing(&[cell], 1 << 30).contains("k-unreadable"));
        assert_eq!(extent(0), (9, 14));
        assert_eq!(extent(33), (319, 30));
    }
}
