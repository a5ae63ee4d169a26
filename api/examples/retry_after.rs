//! Seed 004, "Built-in error handling and retry logic": a server that says when it wants to be asked again is asked
//! then, once; one that only fails is asked less and less often.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use tierce::coordinator::{Backoff, Coordinator, Executor, FetchError};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let executor = Executor::new();
    let requests = Arc::new(AtomicU32::new(0));
    let fetch = move || match requests.fetch_add(1, Ordering::Relaxed) {
        0 => Err(FetchError::new("429 too many requests").retry_after(Duration::from_millis(20))),
        1 => Ok("the plan"),
        2 => Err(FetchError::new("429 too many requests").retry_after(Duration::from_secs(600))),
        _ => Err(FetchError::new("503 service unavailable")),
    };
    let plan = Coordinator::builder(fetch)
        .every(Duration::from_secs(180))
        .backoff(Backoff::new(Duration::from_secs(100), Duration::from_secs(300)))
        .executor(&executor)
        .build();
    let (tell, told) = mpsc::channel();
    let _showing = plan.subscribe(move |update| {
        let _ = tell.send(update.status.last_update_success);
    });

    // The first poll is refused; the second comes 20 ms later, not after three minutes.
    assert!(!told.recv()?);
    assert!(told.recv()?);
    assert_eq!(plan.data().as_deref(), Some(&"the plan"));

    // What the server says comes before the backoff, and counts once.
    let wait = |plan: &Coordinator<_>| plan.status().next_poll_in.unwrap_or_default();
    assert!(plan.refresh().is_err());
    assert!(wait(&plan) > Duration::from_secs(500) && wait(&plan) <= Duration::from_secs(600));

    // Then the backoff: 200 seconds after two failures in a row, then the cap; of that between half and all.
    for whole in [200, 300, 300] {
        assert!(plan.refresh().is_err());
        assert!(wait(&plan) > Duration::from_secs(whole / 4));
        assert!(wait(&plan) <= Duration::from_secs(whole));
    }
    assert_eq!(plan.status().consecutive_failures, 4);
    assert_eq!(plan.data().as_deref(), Some(&"the plan"), "kept all the while");
    executor.close();
    Ok(())
}
