//! What a byte can be good for: words, letters and marks, the same in every picture. Kinds differ in lightness and in
//! hatching, not by colour alone.

use tierce_engine::CellBytes;

/// One of the kinds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// As the documents have it.
    pub(super) name: &'static str,
    /// For people.
    pub(super) label: &'static str,
    /// What it means, for people.
    pub(super) meaning: &'static str,
    /// On a terminal.
    pub(super) letter: char,
    /// The same in colour: what a terminal is sent before it.
    pub(super) ansi: &'static str,
    /// Whether a cell that has any of it shows it, however little that is.
    pub(super) is_alarming: bool,
    pub(super) of: fn(&CellBytes) -> u64,
}

/// All kinds, in the order of documents and legends; cells are drawn in this order from the ground up.
pub(super) const KINDS: [Kind; 7] = [
    Kind {
        name: "live",
        label: "live",
        meaning: "records that can be read",
        letter: '#',
        ansi: "\x1b[97;44m",
        is_alarming: false,
        of: |cell| cell.live,
    },
    Kind {
        name: "ended",
        label: "ended",
        meaning: "expired, cut off or evicted, not yet compacted",
        letter: 'e',
        ansi: "\x1b[30;43m",
        is_alarming: false,
        of: |cell| cell.ended,
    },
    Kind {
        name: "dead",
        label: "dead",
        meaning: "displaced or deleted; compaction frees it",
        letter: '-',
        ansi: "\x1b[30;47m",
        is_alarming: false,
        of: |cell| cell.dead,
    },
    Kind {
        name: "overhead",
        label: "overhead",
        meaning: "headers and footers",
        letter: 'o',
        ansi: "\x1b[97;100m",
        is_alarming: false,
        of: |cell| cell.overhead,
    },
    Kind {
        name: "free",
        label: "free",
        meaning: "room not written yet",
        letter: '.',
        ansi: "\x1b[39;49m",
        is_alarming: false,
        of: |cell| cell.free,
    },
    Kind {
        name: "torn",
        label: "torn",
        meaning: "an unfinished write; nothing in it was promised",
        letter: '~',
        ansi: "\x1b[97;45m",
        is_alarming: true,
        of: |cell| cell.torn,
    },
    Kind {
        name: "unreadable",
        label: "unreadable",
        meaning: "records whose heads are damaged",
        letter: 'X',
        ansi: "\x1b[97;41m",
        is_alarming: true,
        of: |cell| cell.unreadable,
    },
];

/// The kind that stands for a cell where there is room for one only.
pub(super) fn chief(cell: &CellBytes) -> Kind {
    let alarming = KINDS.into_iter().rev().find(|kind| kind.is_alarming && (kind.of)(cell) > 0);
    // Of equals the first.
    let most = || KINDS.into_iter().rev().max_by_key(|kind| (kind.of)(cell));
    alarming.or_else(most).unwrap_or(KINDS[0])
}

/// The kinds that are there, with their bytes.
pub(super) fn parts(cell: &CellBytes) -> impl Iterator<Item = (Kind, u64)> + '_ {
    KINDS.into_iter().map(|kind| (kind, (kind.of)(cell))).filter(|(_, bytes)| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: kinds can be told apart without colours, and together they are all bytes of a cell.
    #[test]
    fn kinds() {
        let letters: std::collections::BTreeSet<char> =
            KINDS.iter().map(|kind| kind.letter).collect();
        assert_eq!(letters.len(), KINDS.len());
        let mut cell = CellBytes::default();
        (cell.overhead, cell.live, cell.ended, cell.unreadable) = (1, 2, 4, 8);
        (cell.dead, cell.torn, cell.free) = (16, 32, 64);
        assert_eq!(KINDS.iter().map(|kind| (kind.of)(&cell)).sum::<u64>(), cell.sum());
        assert_eq!(chief(&cell).name, "unreadable");
        (cell.unreadable, cell.torn) = (0, 0);
        assert_eq!(chief(&cell).name, "free");
        assert_eq!(chief(&CellBytes::default()).name, "live");
    }
}
