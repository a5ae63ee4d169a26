//! Shows the pattern for hot values of the document on persistent storage (seed 000): loaded once at the start, read
//! from memory while the program runs, written back at the shutdown. What must not be lost between is stored when it
//! changes.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashMap;

use tierce::{Map, Store};

struct App {
    store: Store,
    stored: Map<String, f64>,
    /// The copy in memory.
    hot: HashMap<String, f64>,
}

impl App {
    fn on_initialize(store: Store) -> tierce::Result<Self> {
        let stored = store.map("thresholds")?;
        let hot = stored.entries()?.into_iter().collect();
        Ok(Self { store, stored, hot })
    }

    fn on_ready(&self) -> f64 {
        self.hot.values().sum()
    }

    /// All values together: a crash in the middle leaves the old ones.
    fn on_shutdown(self) -> tierce::Result<()> {
        self.stored.insert_all(self.hot)?;
        drop(self.stored);
        self.store.close()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    for run in 0..3_u8 {
        let mut app = App::on_initialize(Store::open(dir.path())?)?;
        assert_eq!(app.on_ready(), f64::from(run) * 1.5);
        for _read in 0..1000 {
            *app.hot.entry("kitchen".to_owned()).or_default() += 0.001;
        }
        app.hot.insert("kitchen".to_owned(), f64::from(run + 1));
        app.hot.insert("attic".to_owned(), f64::from(run + 1) / 2.0);
        app.on_shutdown()?;
    }
    println!("three runs, each began where the last one ended");
    Ok(())
}
