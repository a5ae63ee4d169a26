//! Shows the weather example of the document on persistent storage (seed 000): a job that runs every minute, and a
//! forecast that is fetched anew only when it is older than thirty minutes. The cache survives the restart of the
//! program.
//!
//! One look-up answers both questions, "is it there" and "is it fresh": there is no moment in between in which the
//! entry could vanish.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::cell::Cell;

use serde::{Deserialize, Serialize};
use tierce::{Cache, Loaded, Options, Store, Ttl, engine::io::MemoryDisk};
use tierce_kit::clock::TestClock;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Forecast {
    temperature: f64,
    text: String,
}

struct WeatherApp {
    cache: Cache<String, Forecast>,
    fetches: Cell<u32>,
}

impl WeatherApp {
    fn new(store: &Store) -> tierce::Result<Self> {
        Ok(Self { cache: store.cache("weather")?, fetches: Cell::new(0) })
    }

    fn weather(&self, location: &str) -> tierce::Result<Forecast> {
        let fetch = || {
            println!("Fetching fresh weather for {location}");
            let forecast = self.fetch(location)?;
            Ok::<_, std::io::Error>(Loaded::new(forecast).ttl(Ttl::minutes(30)))
        };
        self.cache.get_or_load(&format!("weather:{location}"), fetch)
    }

    /// Stands for the call of the weather service.
    fn fetch(&self, location: &str) -> std::io::Result<Forecast> {
        self.fetches.set(self.fetches.get() + 1);
        Ok(Forecast { temperature: 21.5, text: format!("sunny in {location}") })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A program of your own says `Store::open(path)`. Here time is moved by hand.
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let open =
        || Store::open_with("weather", Options::new().disk(disk.clone()).clock(clock.clone()));

    let store = open()?;
    let app = WeatherApp::new(&store)?;
    for _minute in 0..30 {
        assert_eq!(app.weather("New York")?.temperature, 21.5);
        clock.advance(60_000);
    }
    assert_eq!(app.fetches.get(), 1);
    app.weather("New York")?;
    assert_eq!(app.fetches.get(), 2, "thirty minutes are over");
    drop(app);
    store.close()?;

    // The second run of the program.
    clock.advance(10 * 60_000);
    let app = WeatherApp::new(&open()?)?;
    assert_eq!(app.weather("New York")?.text, "sunny in New York");
    assert_eq!(app.fetches.get(), 0, "still fresh from the first run");
    let stats = app.cache.stats()?;
    println!("{} hits, {} misses", stats.hits, stats.misses);
    Ok(())
}
