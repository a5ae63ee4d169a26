//! Shows the sessions of the usage guide (seed 002, `session:abc` for an hour) as an application would keep them: they
//! live as long as they are used, a user's sessions end together, and a restart ends none.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tierce::{Cache, Options, Put, Store, engine::io::MemoryDisk};
use tierce_kit::clock::TestClock;

const LIFETIME: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Session {
    user: String,
    basket: Vec<u32>,
}

struct Sessions(Cache<String, Session>);

impl Sessions {
    fn begin(&self, id: &str, user: &str) -> tierce::Result<()> {
        let session = Session { user: user.to_owned(), basket: Vec::new() };
        let put = Put::new().ttl(LIFETIME).tag(format!("user:{user}")).if_absent();
        assert!(self.0.insert_with(&format!("session:{id}"), &session, &put)?, "ids are unique");
        Ok(())
    }

    /// Each use makes it live for another hour; that writes next to nothing.
    fn find(&self, id: &str) -> tierce::Result<Option<Session>> {
        let key = format!("session:{id}");
        self.0.slide(&key, LIFETIME)?;
        self.0.get(&key)
    }

    fn put_in_basket(&self, id: &str, article: u32) -> tierce::Result<Option<Session>> {
        let Some(entry) = self.0.entry(&format!("session:{id}"))? else { return Ok(None) };
        let put = Put::new().tags(entry.tags).keep_ttl();
        self.0.update(&format!("session:{id}"), &put, |session| {
            session.map(|mut session| {
                session.basket.push(article);
                session
            })
        })
    }

    fn log_out_everywhere(&self, user: &str) -> tierce::Result<u64> {
        self.0.invalidate_tag(&format!("user:{user}"))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (disk, clock) = (MemoryDisk::new(), TestClock::new());
    let open =
        || Store::open_with("sessions", Options::new().disk(disk.clone()).clock(clock.clone()));
    let store = open()?;
    let sessions = Sessions(store.cache("sessions")?);
    sessions.begin("abc", "sara")?;
    sessions.begin("def", "sara")?;
    sessions.begin("ghi", "gabriel")?;
    assert_eq!(sessions.put_in_basket("abc", 42)?.map(|session| session.basket), Some(vec![42]));
    for _ in 0..4 {
        clock.advance(45 * 60_000);
        assert!(sessions.find("abc")?.is_some(), "it is used");
    }
    assert_eq!(sessions.find("ghi")?, None, "it is not");
    drop(sessions);
    store.close()?;

    let sessions = Sessions(open()?.cache("sessions")?);
    assert_eq!(sessions.find("abc")?.map(|session| session.basket), Some(vec![42]));
    sessions.begin("jkl", "sara")?;
    assert_eq!(sessions.log_out_everywhere("sara")?, 2);
    assert_eq!(sessions.find("abc")?, None);
    println!("all sessions of sara ended");
    Ok(())
}
