//! The map as characters.

use super::{
    Picture,
    kinds::{KINDS, Kind, chief},
};
use crate::{exit::Outcome, out::Out, settings::has_color, size::human_bytes};

/// Cells in a line.
const WIDTH: usize = 64;

/// Prints one block of lines for each segment, then what the letters mean.
pub(super) fn print(picture: &Picture, out: &mut Out) -> Outcome<()> {
    let color = has_color();
    for segment in &picture.segments {
        let state = if segment.sealed { "sealed" } else { "open" };
        let sum = segment.sum();
        out.line(format_args!(
            "segment {} class {} {state}, {}, {} live",
            segment.id,
            segment.class,
            human_bytes(segment.bytes),
            super::markup::percent(sum.live, sum.sum()),
        ))?;
        for line in segment.cells.chunks(WIDTH) {
            out.line(format_args!("  {}", letters(line.iter().map(chief), color)))?;
        }
    }
    let legend = |kind: &Kind| format!("{} {}", letters([*kind].into_iter(), color), kind.label);
    let legend: Vec<_> = KINDS.iter().map(legend).collect();
    out.line(format_args!("{}; a cell is {}", legend.join("  "), human_bytes(picture.cell_bytes)))
}

/// One letter for each kind. Colours come on top: without them nothing is lost.
fn letters(kinds: impl Iterator<Item = Kind>, color: bool) -> String {
    let mut line = String::new();
    let mut before = "";
    for kind in kinds {
        if color && kind.ansi != before {
            line.push_str(kind.ansi);
            before = kind.ansi;
        }
        line.push(kind.letter);
    }
    if color {
        line.push_str("\x1b[0m");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: colours are sent where they change, taken back at the end, and not at all without being wanted.
    #[test]
    fn colours() {
        let kinds = || [KINDS[0], KINDS[0], KINDS[2]].into_iter();
        assert_eq!(letters(kinds(), false), "##-");
        let (live, dead) = (KINDS[0].ansi, KINDS[2].ansi);
        assert_eq!(letters(kinds(), true), format!("{live}##{dead}-\x1b[0m"));
    }
}
