//! Seed document 003, "Store Backends": states in Redis. The server is that of `TIERCE_REDIS_URL`, or one that this
//! example starts; if there is neither, it says so and ends.

use std::{
    env,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tierce::{
    BoxError,
    state::{RedisStore, State, StateStore},
};

/// A server that ends with the example.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &std::path::Path) -> Result<Option<(Server, String)>, BoxError> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new("redis-server");
    command.args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--port"]);
    command.arg(port.to_string()).arg("--dir").arg(dir);
    let Ok(child) = command.stdout(Stdio::null()).spawn() else { return Ok(None) };
    let (server, url) = (Server(child), format!("redis://127.0.0.1:{port}/"));
    for _ in 0..500 {
        if RedisStore::open(&url, "").is_ok() {
            return Ok(Some((server, url)));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err("redis-server does not answer".into())
}

#[expect(clippy::print_stderr, reason = "somebody who starts it wants to know why nothing happens")]
fn main() -> Result<(), BoxError> {
    let dir = tempfile::tempdir()?;
    let mut server = None;
    let url = match env::var("TIERCE_REDIS_URL") {
        Ok(url) => url,
        Err(_) => match start(dir.path())? {
            Some((started, url)) => {
                server = Some(started);
                url
            }
            None => {
                eprintln!("there is no redis-server here, and no TIERCE_REDIS_URL");
                return Ok(());
            }
        },
    };

    let store = Arc::new(RedisStore::open(&url, "tierce-example:")?);
    let state = State::open(store.clone(), "sensor")?;
    state.set("count", 1)?;
    state.save()?;
    let elsewhere = RedisStore::open(&url, "tierce-example:")?;
    assert_eq!(elsewhere.load("sensor")?.ok_or("not saved")?["count"], 1);
    assert!(store.remove("sensor")?);

    if server.is_some() {
        // The server goes: that is an error, and the state stays dirty.
        drop(server);
        state.set("count", 2)?;
        let error = state.save().err().ok_or("a save to nowhere succeeded")?;
        assert_eq!(error.kind(), "backend");
        assert!(state.is_dirty());
    }
    Ok(())
}
