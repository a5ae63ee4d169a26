//! What to do about one segment file: facts in, decision out. Pure, and tested over every combination.
//!
//! | listed as | file            | manifest | decision        |
//! |-----------|-----------------|----------|-----------------|
//! | sealed    | there, right length | any  | use             |
//! | sealed    | there, wrong length | any  | damaged         |
//! | sealed    | missing         | any      | lost            |
//! | open      | there           | any      | scan the tail   |
//! | open      | missing         | any      | lost            |
//! | nothing   | there           | sound    | remove (orphan) |
//! | nothing   | there           | damaged  | adopt           |
//! | nothing   | missing         | any      | nothing         |

/// What the manifest says of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    No,
    Open,
    Sealed { bytes: u64 },
}

/// What the directory says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Missing,
    There { bytes: u64 },
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Serve from it.
    Use,
    /// Its end is where the crash was: scan it.
    ScanTail,
    /// It is not what was sealed: report, and read what can be read if the policy allows.
    Damaged,
    /// It should be there: report, and go on without it if the policy allows.
    Lost,
    /// Left over from something that was never finished: remove.
    RemoveOrphan,
    /// The manifest cannot be trusted to know all segments: read it by its own header.
    Adopt,
    Nothing,
}

pub(super) fn decide(listed: Listed, presence: Presence, manifest_is_sound: bool) -> Decision {
    match (listed, presence) {
        (Listed::Sealed { bytes }, Presence::There { bytes: found }) if bytes == found => {
            Decision::Use
        }
        (Listed::Sealed { .. }, Presence::There { .. }) => Decision::Damaged,
        (Listed::Open, Presence::There { .. }) => Decision::ScanTail,
        (Listed::Sealed { .. } | Listed::Open, Presence::Missing) => Decision::Lost,
        (Listed::No, Presence::There { .. }) if manifest_is_sound => Decision::RemoveOrphan,
        (Listed::No, Presence::There { .. }) => Decision::Adopt,
        (Listed::No, Presence::Missing) => Decision::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the table above is the code. Method: every combination, with the answer spelled out.
    #[test]
    fn every_combination_has_its_decision() {
        let there = |bytes| Presence::There { bytes };
        let sealed = Listed::Sealed { bytes: 10 };
        for (listed, presence, sound, decision) in [
            (sealed, there(10), true, Decision::Use),
            (sealed, there(10), false, Decision::Use),
            (sealed, there(9), true, Decision::Damaged),
            (sealed, there(9), false, Decision::Damaged),
            (sealed, there(11), true, Decision::Damaged),
            (sealed, there(11), false, Decision::Damaged),
            (sealed, Presence::Missing, true, Decision::Lost),
            (sealed, Presence::Missing, false, Decision::Lost),
            (Listed::Open, there(0), true, Decision::ScanTail),
            (Listed::Open, there(0), false, Decision::ScanTail),
            (Listed::Open, Presence::Missing, true, Decision::Lost),
            (Listed::Open, Presence::Missing, false, Decision::Lost),
            (Listed::No, there(5), true, Decision::RemoveOrphan),
            (Listed::No, there(5), false, Decision::Adopt),
            (Listed::No, Presence::Missing, true, Decision::Nothing),
            (Listed::No, Presence::Missing, false, Decision::Nothing),
        ] {
            assert_eq!(
                decide(listed, presence, sound),
                decision,
                "{listed:?} {presence:?} {sound}"
            );
        }
    }
}
