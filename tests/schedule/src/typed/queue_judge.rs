//! Whether items of queues came to one holder at a time, once for good, and none was lost.

use super::{
    queue::{Delivery, Loss, Notes},
    world::World,
};

/// Whether `later` may have come after `earlier`, of the same item.
fn may_follow(earlier: &Delivery, later: &Delivery) -> bool {
    if later.end < earlier.start {
        return false;
    }
    match earlier.finished {
        Some(_) => false,
        None => earlier.until <= later.time || earlier.given_back <= later.end,
    }
}

/// Complains of items that two had at once, or that came back when they were done.
pub(crate) fn judge(notes: &Notes, world: &World) {
    for (at, one) in notes.deliveries.iter().enumerate() {
        if !notes.pushed.iter().any(|pushed| pushed.value == one.value) {
            world.complain(format!("item {} was delivered, and not pushed", one.value));
        }
        for two in notes.deliveries[at + 1..].iter().filter(|two| two.value == one.value) {
            if !may_follow(one, two) && !may_follow(two, one) {
                world.complain(format!(
                    "item {} was had twice: from {} to {} until time {}, and from {} to {}, time {}",
                    one.value, one.start, one.end, one.until, two.start, two.end, two.time
                ));
            }
        }
    }
}

/// Complains of what is there and should not be, or the other way round, after everything.
pub(crate) fn left(notes: &Notes, world: &World, found: &[Vec<u64>; 2], is_kept: bool) {
    let all: Vec<u64> = found.iter().flatten().copied().collect();
    for pushed in &notes.pushed {
        let value = pushed.value;
        let count = all.iter().filter(|found| **found == value).count();
        let mine = || notes.deliveries.iter().filter(|one| one.value == value);
        let done = mine().filter(|one| one.finished.is_some()).count();
        if count + done > 1 && (is_kept || count > 1) {
            world.complain(format!(
                "item {value} is there {count} times, and was done {done} times"
            ));
        }
        let is_lost = |loss: &Loss| {
            let may_be_in =
                notes.pushed.iter().any(|one| one.value == value && one.queue == loss.queue);
            loss.value == Some(value)
                || (loss.value.is_none() && may_be_in && loss.end > pushed.start)
        };
        if count == 0
            && done == 0
            && pushed.end != u64::MAX
            && is_kept
            && !notes.losses.iter().any(is_lost)
        {
            world.complain(format!("item {value} of queue {} is lost", pushed.queue));
        }
    }
    for value in all {
        if !notes.pushed.iter().any(|pushed| pushed.value == value) {
            world.complain(format!("item {value} is there, and was not pushed"));
        }
        for loss in notes.losses.iter().filter(|_| is_kept) {
            let pushed = notes.pushed.iter().filter(|one| one.value == value);
            let is_before =
                pushed.clone().all(|one| one.queue == loss.queue && one.end < loss.start);
            let is_whole = loss.value == Some(value) || (loss.value.is_none() && is_before);
            if loss.end != u64::MAX && is_whole && pushed.count() == 1 {
                world.complain(format!("item {value} is there, and was removed at {}", loss.end));
            }
        }
    }
}
