//! Seed 004, "DataUpdateCoordinator" and "Read Path (Coordinator)": the daily plan of a user, polled every three
//! minutes while a card shows it, read from memory, and kept when the server is down.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use tierce::coordinator::{Backoff, Coordinator, Executor, FetchError};

/// The TaskTracker server.
#[derive(Default)]
struct Server {
    requests: AtomicU32,
    is_down: AtomicBool,
}

impl Server {
    fn daily_plan(&self, user: &str) -> Result<Vec<String>, FetchError> {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        if self.is_down.load(Ordering::Relaxed) {
            return Err(FetchError::new("no answer"));
        }
        Ok(vec![format!("{user}: task {request}")])
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Arc::new(Server::default());
    let executor = Executor::new();
    let asked = Arc::clone(&server);
    let plan = Coordinator::builder(move || asked.daily_plan("gabriel"))
        .every(Duration::from_secs(180))
        .backoff(Backoff::new(Duration::from_secs(30), Duration::from_secs(900)))
        .executor(&executor)
        .build();

    // The program starts: it wants the plan now, or to know why there is none.
    plan.first_refresh()?;

    // Reading is reading memory: no request, whoever shows it.
    for _card in 0..1_000 {
        assert_eq!(plan.get_or_refresh()?[0], "gabriel: task 0");
    }
    assert_eq!(server.requests.load(Ordering::Relaxed), 1);

    // A card is opened: from now on it is polled, and the card is told.
    let (tell, card) = mpsc::channel();
    let showing = plan.subscribe(move |update| {
        let _ = tell.send((update.data.clone(), update.status.last_update_success));
    });
    assert!(plan.status().next_poll_in.is_some_and(|wait| wait > Duration::from_secs(120)));

    // Many cards ask for a refresh at the same time: one request now, and at most one more ten seconds later.
    for _ in 0..100 {
        plan.request_refresh();
    }
    let (data, is_well) = card.recv()?;
    assert!(is_well && data.is_some_and(|plan| plan[0] == "gabriel: task 1"));

    // The server goes down: the data stays, the card is told once.
    server.is_down.store(true, Ordering::Relaxed);
    assert!(plan.refresh().is_err() && plan.refresh().is_err());
    let (data, is_well) = card.recv()?;
    assert!(!is_well && data.is_some_and(|plan| plan[0] == "gabriel: task 1"));
    assert!(card.try_recv().is_err());
    let status = plan.status();
    assert!(!status.last_update_success && status.last_success_time.is_some());
    assert_eq!(status.consecutive_failures, 2);
    // After the first failure it waits for 15 to 30 seconds, now for 30 to 60, and so on up to 15 minutes.
    assert!(status.next_poll_in.is_some_and(|wait| wait <= Duration::from_secs(60)));

    // The card is closed: nobody asks the server any more.
    drop(showing);
    assert_eq!(plan.status().next_poll_in, None);
    plan.shutdown();
    executor.close();
    Ok(())
}
