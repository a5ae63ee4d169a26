//! Whether what was read of a cache may have been read, and whether loaders ran when they had to.

use super::{
    loads::{Notes, Origin, Ran, Read, Removal},
    world::World,
};

impl Origin {
    /// Whether this came wholly before what began at `start`: a load, if it looked at its source before.
    const fn is_before(&self, start: u64) -> bool {
        if self.is_load { self.start < start } else { self.end < start }
    }
}

impl Removal {
    fn meets(&self, origin: &Origin) -> bool {
        self.key.is_none_or(|key| key == origin.key) && self.tag.is_none_or(|tag| tag == origin.tag)
    }
}

/// Why a read value should not have been there any more, if so.
fn stale(notes: &Notes, read: &Read, id: u64) -> Option<String> {
    let Some(origin) = notes.origins.iter().find(|one| one.id == id && one.key == read.key) else {
        return Some("nobody stored or loaded it".to_owned());
    };
    let from = |what: &str| {
        let how = if origin.is_load { "loaded" } else { "stored" };
        format!("{how} from {} to {}, {what}", origin.start, origin.end)
    };
    if origin.until.is_some_and(|until| until <= read.start.time) {
        return Some(from("its time was over"));
    }
    let gone = notes.removals.iter().find(|removal| {
        removal.meets(origin) && removal.end < read.start.step && origin.is_before(removal.start)
    });
    if let Some(gone) = gone {
        return Some(from(&format!("removed from {} to {}", gone.start, gone.end)));
    }
    let other = notes.origins.iter().find(|other| {
        other.key == origin.key
            && !other.is_load
            && other.id != id
            && other.end < read.start.step
            && origin.is_before(other.start)
    });
    other.map(|other| from(&format!("value {} came after it", other.id)))
}

/// The value that had to be there from `start` to `end`, if any: stored before, for ever, and nothing happened since.
fn must_be(notes: &Notes, key: u8, start: u64, end: u64) -> Option<u64> {
    let kept = notes.origins.iter().find(|origin| {
        let is_there =
            origin.key == key && !origin.is_load && !origin.has_lifetime && origin.end < start;
        is_there
            && !notes.removals.iter().any(|removal| {
                removal.meets(origin) && removal.end > origin.start && removal.start < end
            })
            && !notes.origins.iter().any(|other| {
                other.key == key
                    && other.id != origin.id
                    && other.end > origin.start
                    && other.start < end
            })
    });
    kept.map(|origin| origin.id)
}

fn is_excused(notes: &Notes, first: &Ran, second: &Ran) -> bool {
    // Whichever of the two asked first may have begun amid the change, and is joined by nobody after that.
    let asked = first.asked.min(second.asked);
    let meets = |start: u64, end: u64| start <= second.start && end >= asked;
    let by_removal = notes.removals.iter().any(|removal| {
        removal.tag.is_none()
            && removal.key.is_none_or(|key| key == first.key)
            && meets(removal.start, removal.end)
    });
    let by_insert = notes.origins.iter().any(|origin| {
        origin.key == first.key && !origin.is_load && meets(origin.start, origin.end)
    });
    by_removal || by_insert
}

fn loaders(notes: &Notes, world: &World) {
    for (at, one) in notes.ran.iter().enumerate() {
        for two in &notes.ran[at + 1..] {
            let (first, second) = if one.start <= two.start { (one, two) } else { (two, one) };
            let is_twice = first.key == second.key && second.start < first.end;
            if is_twice && !is_excused(notes, first, second) {
                world.complain(format!(
                    "two loaders of key {} at once: at {} and at {}",
                    first.key, first.start, second.start
                ));
            }
        }
        if one.is_forced {
            continue;
        }
        if let Some(id) = must_be(notes, one.key, one.asked, one.start) {
            world.complain(format!("a loader ran at {} although value {id} was there", one.start));
        }
    }
    for (key, start, end) in &notes.failures {
        // Who waits is told after the loader has ended, before its caller goes on.
        let is_told = |ran: &Ran| {
            let origin = notes.origins.iter().find(|origin| origin.id == ran.id);
            let over = origin.map_or(u64::MAX, |origin| origin.end);
            ran.key == *key && ran.failed && ran.start <= *end && over >= *start
        };
        if !notes.ran.iter().any(is_told) {
            world.complain(format!("a failure of key {key} was told at {end}, and there was none"));
        }
    }
}

/// Complains of what may not be.
pub(crate) fn judge(notes: &Notes, world: &World) {
    for read in &notes.reads {
        match read.id {
            Some(id) => {
                if let Some(why) = stale(notes, read, id) {
                    world.complain(format!(
                        "value {id} of key {} was read from {} to {}: {why}",
                        read.key, read.start.step, read.end
                    ));
                }
            }
            None => {
                if let Some(id) = must_be(notes, read.key, read.start.step, read.end) {
                    world.complain(format!(
                        "nothing was read of key {} from {} to {}, although value {id} was there",
                        read.key, read.start.step, read.end
                    ));
                }
            }
        }
    }
    loaders(notes, world);
}
