//! Three users cached at the same time: the "concurrent operations" of the cache document. A write is a future that
//! owns all it needs, so it may be joined, or spawned, as it is.

use serde::{Deserialize, Serialize};
use tierce::{BoxError, Store, asynchronous::block_on};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
}

fn main() -> Result<(), BoxError> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("cache"))?.asynchronous();
    block_on(async {
        let users = store.cache::<(String, u32), User>("users").await?;
        let cache_user =
            |id: u32, name: &str| users.insert(&("user", id), &User { name: name.to_owned() });
        let (alice, bob, charlie) =
            tokio::join!(cache_user(1, "Alice"), cache_user(2, "Bob"), cache_user(3, "Charlie"));
        alice.and(bob).and(charlie)?;

        assert_eq!(users.len().await?, 3);
        let bob = users.get(&("user", 2)).await?;
        assert_eq!(bob, Some(User { name: "Bob".to_owned() }));
        drop(users);
        store.close().await?;
        Ok(())
    })
}
