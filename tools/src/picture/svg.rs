//! The map as a drawing of its own.

use std::fmt::Write as _;

use super::{
    Picture,
    block::{PITCH, drawing as block_drawing, extent, place, words},
    kinds::KINDS,
    markup::{percent, text},
};
use crate::size::human_bytes;

const WIDTH: usize = 1_000;
const MARGIN: usize = 20;
const GAP: usize = 12;
/// Above a block, for its name.
const NAME: usize = 16;
/// Above the first block, for title and legend.
const HEAD: usize = 84;

/// Colours and hatches of the kinds; drawings and pages have the same.
pub(super) const STYLE: &str = include_str!("kinds.css");
/// The hatches themselves.
pub(super) const HATCHES: &str = concat!(
    "<defs>",
    "<pattern id=\"h-ended\" width=\"4\" height=\"4\" patternUnits=\"userSpaceOnUse\">",
    "<rect class=\"f-ended\" width=\"4\" height=\"4\"/>",
    "<circle class=\"i-ended\" cx=\"2\" cy=\"2\" r=\"0.9\"/></pattern>",
    "<pattern id=\"h-dead\" width=\"4\" height=\"4\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">",
    "<rect class=\"f-dead\" width=\"4\" height=\"4\"/><rect class=\"i-dead\" width=\"1.2\" height=\"4\"/></pattern>",
    "<pattern id=\"h-torn\" width=\"4\" height=\"4\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(-45)\">",
    "<rect class=\"f-torn\" width=\"4\" height=\"4\"/><rect class=\"i-torn\" width=\"1.6\" height=\"4\"/></pattern>",
    "<pattern id=\"h-unreadable\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" ",
    "patternTransform=\"rotate(45)\"><rect class=\"f-unreadable\" width=\"5\" height=\"5\"/>",
    "<path class=\"i-unreadable\" d=\"M0 0h5v1.2h-5zM0 0h1.2v5h-1.2z\"/></pattern>",
    "</defs>"
);

/// All segments, one block each, with hover texts for cells.
pub(super) fn drawing(picture: &Picture) -> String {
    let mut body = String::new();
    let (mut x, mut y, mut row) = (MARGIN, HEAD, 0);
    for segment in &picture.segments {
        let (width, height) = extent(segment.cells.len());
        if x > MARGIN && x + width + MARGIN > WIDTH {
            (x, y, row) = (MARGIN, y + row + GAP, 0);
        }
        row = row.max(height + NAME);
        let name = name_in(width, segment.id.0);
        let state = if segment.sealed { "sealed" } else { "open" };
        let _ = write!(
            body,
            "<g transform=\"translate({x} {y})\"><text class=\"name\" y=\"10\">{name}</text>\
             <g transform=\"translate(0 {NAME})\">{}",
            block_drawing(&segment.cells, picture.cell_bytes)
        );
        for (at, cell) in segment.cells.iter().enumerate() {
            let (cell_x, cell_y) = place(at);
            let from = at as u64 * picture.cell_bytes;
            let to = from.saturating_add(cell.sum());
            let told =
                format!("segment {} ({state}), bytes {from} to {to}: {}", segment.id, words(cell));
            let _ = write!(
                body,
                "<rect class=\"hit\" x=\"{cell_x}\" y=\"{cell_y}\" width=\"{}\" height=\"{}\"><title>{}</title></rect>",
                PITCH.0,
                PITCH.1,
                text(&told)
            );
        }
        body.push_str("</g></g>\n");
        x += width + GAP;
    }
    let height = y + row + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <title>Segment map of a tierce store</title>\n<style>{STYLE}{OWN_STYLE}</style>\n{HATCHES}\n\
         <rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n{}{body}</svg>\n",
        head(picture)
    )
}

const OWN_STYLE: &str = "\n.paper{fill:var(--paper)}text{fill:var(--ink)}.name,.note{fill:var(--muted);font-size:11px}\
    .big{font-size:17px;font-weight:600}.hit{fill:transparent}.hit:hover{stroke:var(--ink);stroke-width:1.5}\n";

fn head(picture: &Picture) -> String {
    let bytes: u64 = picture.segments.iter().map(|segment| segment.bytes).sum();
    let segments = picture.segments.len();
    let mut out = format!(
        "<text class=\"big\" x=\"{MARGIN}\" y=\"30\">{segments} segments, {}</text>\
         <text class=\"note\" x=\"{}\" y=\"30\" text-anchor=\"end\">a cell is {}</text>\n",
        human_bytes(bytes),
        WIDTH - MARGIN,
        human_bytes(picture.cell_bytes)
    );
    let sums = picture.segments.iter().map(tierce_engine::SegmentMap::sum);
    let sum = sums.fold(tierce_engine::CellBytes::default(), |sum, one| sum.plus(&one));
    for (at, kind) in KINDS.iter().enumerate() {
        let (x, share) = (MARGIN + at * 138, percent((kind.of)(&sum), bytes));
        let _ = write!(
            out,
            "<g><title>{}</title><rect class=\"k-{}\" x=\"{x}\" y=\"48\" width=\"12\" height=\"14\"/>\
             <text x=\"{}\" y=\"60\">{} <tspan class=\"note\">{}</tspan></text></g>",
            text(kind.meaning),
            kind.name,
            x + 18,
            kind.label,
            text(&share)
        );
    }
    out.push('\n');
    out
}

/// As much of an id as stands above a block; hovering tells all of it.
pub(super) fn name_in(width: usize, id: u64) -> String {
    const LETTER: usize = 7;
    let name = format!("{id:x}");
    if name.len() * LETTER <= width + LETTER { name } else { String::new() }
}
