//! Seed 004, "Future Enhancements", 5: updates that the server pushes, with polling as the net below.

use std::{sync::mpsc, time::Duration};

use tierce::coordinator::{Coordinator, Executor, FetchError};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let executor = Executor::new();
    let plan = Coordinator::builder(|| Ok::<_, FetchError>(vec!["dishes"]))
        .every(Duration::from_secs(180))
        .always_update(false)
        .executor(&executor)
        .build();
    plan.first_refresh()?;
    let (tell, card) = mpsc::channel();
    let _showing = plan.subscribe(move |update| {
        let _ =
            tell.send((update.data.clone().unwrap_or_default(), update.status.last_update_success));
    });

    // What comes through the connection is as good as what was fetched, and puts the next poll off.
    assert!(plan.publish(vec!["dishes", "walk"]));
    assert_eq!(*card.recv()?.0, ["dishes", "walk"]);
    assert!(plan.status().last_update_success);
    assert!(plan.status().next_poll_in.is_some_and(|wait| wait > Duration::from_secs(120)));

    // The same again is no news.
    assert!(plan.publish(vec!["dishes", "walk"]));
    assert!(card.try_recv().is_err());

    // The connection is lost: cards are told once and keep what they show; polling goes on.
    plan.set_error("the connection was closed");
    plan.set_error("cannot connect");
    let (data, is_well) = card.recv()?;
    assert!(!is_well && *data == ["dishes", "walk"]);
    assert!(card.try_recv().is_err());
    assert!(plan.status().next_poll_in.is_some());

    // It is back.
    assert!(plan.publish(vec!["dishes", "walk"]));
    assert!(card.recv()?.1);
    executor.close();
    Ok(())
}
