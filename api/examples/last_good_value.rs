//! Seed 004, "Coordinator", over a restart: the program starts while the server is not there, and has something to
//! show.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tierce::{
    Store,
    coordinator::{Coordinator, FetchError},
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    user: String,
    tasks: Vec<String>,
}

/// The daily plan, as the program builds it at each start.
fn daily_plan(
    store: &Store,
    server: impl Fn() -> Result<Plan, FetchError> + Send + Sync + 'static,
) -> tierce::Result<Coordinator<Plan>> {
    Ok(Coordinator::builder(server)
        .persist_in(store, "last good", "daily_plan:gabriel")?
        .stale_max(Duration::from_secs(24 * 3_600))
        .build())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("state");
    let plan = Plan { user: "gabriel".to_owned(), tasks: vec!["dishes".to_owned()] };

    let store = Store::open(&path)?;
    let answer = plan.clone();
    let coordinator = daily_plan(&store, move || Ok(answer.clone()))?;
    assert!(coordinator.data().is_none(), "nothing is known yet");
    coordinator.first_refresh()?;
    assert!(!coordinator.is_stale());
    drop(coordinator);
    store.close()?;

    // The next start: the server refuses.
    let store = Store::open(&path)?;
    let coordinator = daily_plan(&store, || Err(FetchError::new("429 too many requests")))?;
    // At once, before anything was asked.
    assert_eq!(coordinator.data().as_deref(), Some(&plan));
    assert!(coordinator.is_stale() && coordinator.status().is_restored);
    assert!(coordinator.data_age().is_some_and(|age| age < Duration::from_secs(60)));
    assert!(coordinator.status().last_success_time.is_some());
    assert!(coordinator.first_refresh().is_err());
    assert_eq!(coordinator.data().as_deref(), Some(&plan), "still better than nothing");
    drop(coordinator);
    store.close()?;
    Ok(())
}
