//! Weather, fetched once for everyone who asks, in tasks of tokio: the example of the cache document whose methods are
//! all async. Stale values are served while a task fetches new ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tierce::{AsyncStore, BoxError, LoadPolicy, Loaded, Ttl};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let directory = tempfile::tempdir()?;
    let store = AsyncStore::open(directory.path().join("cache")).await?;
    let weather = store.cache::<String, f64>("weather").await?;

    let requests = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&requests);
    let policy = LoadPolicy::new()
        .ttl(Ttl::minutes(30))
        .stale_while_revalidate(Duration::from_secs(300))
        .stale_if_error(Duration::from_secs(86_400));
    let weather = weather.loading(policy, move |location: String, _old| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            // Here a client asks the service.
            tokio::task::yield_now().await;
            Ok(Loaded::new(location.len() as f64 + 0.5).tag("weather"))
        }
    })?;

    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let weather = weather.clone();
            tokio::spawn(async move { weather.get(&"London".to_owned()).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await??, 6.5);
    }
    assert_eq!(requests.load(Ordering::SeqCst), 1, "a hundred tasks, one request");

    // A timeout is the runtime's; a load that it ends leaves no key locked.
    let slow = weather.cache().get_or_insert_with("Atlantis", std::future::pending());
    assert!(tokio::time::timeout(Duration::from_millis(5), slow).await.is_err());
    assert_eq!(weather.get(&"Atlantis".to_owned()).await?, 8.5);

    drop(weather);
    store.close().await?;
    Ok(())
}
