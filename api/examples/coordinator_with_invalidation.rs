//! Seed 004, "Aggressive Cache Invalidation", "Multi-User Event Filtering" and "Write Path (Mutation)": Gabriel
//! completes a task that is his and Sara's. Every cache and coordinator is renewed, then the two are told, and nobody
//! else.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tierce::{
    Cache, Store,
    coordinator::{Affected, Coordinator, Events, Executor, FetchError, Mutations},
};

/// The TaskTracker server: tasks and to whom they are assigned.
type Tasks = BTreeMap<&'static str, Vec<&'static str>>;

#[derive(Clone, Default)]
struct Server(Arc<Mutex<Tasks>>);

impl Server {
    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One user's part of the program.
struct User {
    name: &'static str,
    plan: Coordinator<Vec<&'static str>>,
    events: Events,
    renewed: usize,
}

fn user(name: &'static str, server: &Server, mutations: &Mutations, executor: &Executor) -> User {
    let server = server.clone();
    let fetch = move || {
        let tasks = server.tasks();
        let mine = tasks.iter().filter(|(_, users)| users.contains(&name));
        Ok::<_, FetchError>(mine.map(|(task, _)| *task).collect())
    };
    let plan = Coordinator::builder(fetch).executor(executor).build();
    mutations.refreshes(format!("the plan of {name}"), &plan);
    User { name, plan, events: mutations.events_for(name, 64), renewed: 0 }
}

impl User {
    /// The card looks whether something concerns it, and shows the new data only then.
    fn look(&mut self) {
        while let Some(event) = self.events.try_next() {
            assert!(event.affected.includes(self.name));
            self.renewed += 1;
        }
    }
}

fn fill(cache: &Cache<String, String>) -> tierce::Result<()> {
    for key in [
        "daily_plan_encouragement:gabriel",
        "leftovers:gabriel",
        "recommended_tasks:sara",
        "leftovers:gabriella",
        "available_tasks:None",
    ] {
        cache.insert(key, &"costs money".to_owned())?;
    }
    Ok(())
}

/// What a write makes stale: all that is cached, or that of single users and what is shared.
fn invalidates(mutations: &Mutations, cache: &Cache<String, String>) {
    let cache = cache.clone();
    mutations.invalidates("tasktracker", move |affected| {
        if affected.is_everyone() {
            return cache.clear();
        }
        let mut count = cache.invalidate_suffix(":None")?;
        for user in affected.names() {
            count += cache.invalidate_suffix(&format!(":{user}"))?;
        }
        Ok(count)
    });
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path().join("cache"))?;
    let cache = store.cache::<String, String>("tasktracker")?;
    let executor = Executor::new();
    let mutations = Mutations::new(&executor);
    invalidates(&mutations, &cache);
    let server = Server::default();
    server.tasks().insert("dishes", vec!["gabriel", "sara"]);
    server.tasks().insert("homework", vec!["gabriella"]);
    let mut users =
        ["gabriel", "sara", "gabriella"].map(|name| user(name, &server, &mutations, &executor));
    for user in &users {
        user.plan.first_refresh()?;
    }

    // Gabriel completes the dishes. Whom it concerned is in what the write returns.
    fill(&cache)?;
    let done = mutations
        .mutation("tasktracker_task_completed")
        .concerns(|assigned: &Vec<&str>| Affected::users(assigned.iter().copied()))
        .run(|| server.tasks().remove("dishes").ok_or("no such task"))?;
    assert_eq!((done.invalidated, done.refreshed, done.failed.len()), (5, 3, 0));
    assert!(cache.is_empty()?);
    for user in &users {
        let tasks: &[&str] = if user.name == "gabriella" { &["homework"] } else { &[] };
        let plan = user.plan.data();
        assert!(plan.is_some_and(|plan| *plan == tasks), "fresh before anybody is told");
    }
    users.iter_mut().for_each(User::look);
    assert_eq!(users.each_ref().map(|user| user.renewed), [1, 1, 0]);

    // Who does not know whom it concerns names nobody: then everyone looks.
    mutations.mutation("tasktracker_task_created").run(|| {
        server.tasks().insert("walk", vec!["sara"]);
        Ok::<_, tierce::Error>(())
    })?;
    users.iter_mut().for_each(User::look);
    assert_eq!(users.each_ref().map(|user| user.renewed), [2, 2, 1]);

    // A write that fails leaves everything as it is.
    fill(&cache)?;
    let failed = mutations
        .mutation::<Vec<&str>>("tasktracker_task_completed")
        .run(|| server.tasks().remove("dishes").ok_or("no such task"));
    assert_eq!(failed.err(), Some("no such task"));
    assert_eq!(cache.len()?, 5);

    // And if it is known that it concerns Gabriel alone, Sara and Gabriella keep what cost money.
    let only =
        mutations.mutation("tasktracker_task_updated").invalidate(Affected::users(["gabriel"]));
    assert_eq!(only.run(|| Ok::<_, tierce::Error>(()))?.invalidated, 3);
    let mut left = cache.keys()?;
    left.sort();
    assert_eq!(left, ["leftovers:gabriella", "recommended_tasks:sara"]);
    executor.close();
    Ok(())
}
