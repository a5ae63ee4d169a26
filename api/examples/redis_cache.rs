//! The weather cache of seed 000 ("Caching API Responses"), once on a store on disk and once on a server of Redis: when
//! one machine is not enough any more, the same typed code runs against the server.
//!
//! Starts a server of its own, and ends early, saying so, where none is installed.

#[path = "../tests/it/redis_server.rs"]
mod redis_server;

use std::{
    cell::Cell,
    io::{self, Write as _},
};

use serde::{Deserialize, Serialize};
use tierce::{Cache, Loaded, Store, Ttl};

type Failure = Box<dyn std::error::Error>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Weather {
    temperature: f64,
    sky: String,
}

struct WeatherApp {
    cache: Cache<String, Weather>,
    /// How often the service was asked.
    fetched: Cell<u32>,
}

impl WeatherApp {
    fn new(store: &Store) -> tierce::Result<Self> {
        Ok(Self { cache: store.cache("weather")?, fetched: Cell::new(0) })
    }

    /// From the cache, for half an hour; then from the service.
    fn get_weather(&self, location: &str) -> tierce::Result<Weather> {
        self.cache.get_or_load(location, || {
            let weather = self.fetch_weather_api(location)?;
            Ok::<_, io::Error>(Loaded::new(weather).ttl(Ttl::minutes(30)).tag("forecast"))
        })
    }

    /// Stands for a service that limits how often it may be asked.
    fn fetch_weather_api(&self, location: &str) -> io::Result<Weather> {
        self.fetched.set(self.fetched.get() + 1);
        Ok(Weather { temperature: 20.0 + location.len() as f64, sky: "clear".to_owned() })
    }
}

/// Knows nothing of where the store is.
fn run(store: &Store) -> tierce::Result<()> {
    let app = WeatherApp::new(store)?;
    let first = app.get_weather("New York")?;
    assert_eq!(app.get_weather("New York")?, first);
    assert_eq!(app.fetched.get(), 1, "the second answer came from the cache");
    assert!(app.cache.ttl("New York")?.flatten().is_some());

    // The app is started again: what it knew is still there.
    let app = WeatherApp::new(store)?;
    assert_eq!(app.get_weather("New York")?, first);
    assert_eq!(app.fetched.get(), 0);

    // A new forecast is out.
    assert_eq!(app.cache.invalidate_tag("forecast")?, 1);
    app.get_weather("New York")?;
    assert_eq!(app.fetched.get(), 1);

    let runs = store.map::<String, u64>("runs")?;
    assert_eq!(runs.update("weather", |old| Some(old.unwrap_or(0) + 1))?, Some(1));
    Ok(())
}

fn main() -> Result<(), Failure> {
    let mut out = io::stdout();
    let dir = tempfile::tempdir()?;
    run(&Store::open(dir.path().join("store"))?)?;
    writeln!(out, "on disk: done")?;

    let Some(server) = redis_server::RedisServer::start() else { return Ok(()) };
    run(&Store::redis(&server.url(), "weather-app")?)?;
    writeln!(out, "on a server: done")?;
    Ok(())
}
