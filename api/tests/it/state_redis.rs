//! States in a real Redis, which the test starts; without one the tests say so and pass.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tierce::{
    state::{Object, OnCorrupt, RedisStore, State, StateStore},
    testing::{ManualClock, conformance, conformance_reopened},
};

/// A server on a port of its own, killed when dropped.
struct Server {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

fn spawn(port: u16, dir: &Path) -> Option<Child> {
    let port = port.to_string();
    let options = ["--port", &port, "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"];
    let mut command = Command::new("redis-server");
    command.args(options).arg("--dir").arg(dir).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().ok()
}

impl Server {
    fn start() -> Option<Self> {
        // Another program may take the port before the server does: try a few.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let dir = tempfile::tempdir().unwrap();
            let Some(child) = spawn(port, dir.path()) else {
                eprintln!("skipped: there is no redis-server");
                return None;
            };
            let mut server = Self { child, port, dir };
            if server.answers() {
                return Some(server);
            }
        }
        panic!("redis-server does not answer");
    }

    fn answers(&mut self) -> bool {
        for _ in 0..500 {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if RedisStore::open(&self.url(), "").is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    fn store(&self, prefix: &str) -> RedisStore {
        RedisStore::open(&self.url(), prefix).unwrap().clock(ManualClock::new())
    }

    fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.child = spawn(self.port, self.dir.path()).unwrap();
        assert!(self.answers(), "redis-server does not answer again");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn one(count: u64) -> Object {
    let Value::Object(object) = json!({ "count": count }) else { panic!("no object") };
    object
}

fn raw(server: &Server) -> redis::Connection {
    redis::Client::open(server.url()).unwrap().get_connection().unwrap()
}

#[test]
fn redis_keeps_the_contract() {
    let Some(server) = Server::start() else { return };
    let mut number = 0;
    conformance(|| {
        number += 1;
        // One prefix is the beginning of another, but for the end; and it has signs that patterns use.
        Arc::new(server.store(&format!("a*[{number}]:")))
    });
    conformance_reopened(|| Arc::new(server.store("again:")));
    let text: String = redis::cmd("GET").arg("again:a.b").query(&mut raw(&server)).unwrap();
    assert!(text.starts_with("{\"hard\":"), "the value is JSON for everybody");
    assert!(!format!("{:?}", server.store("p:")).contains("127.0.0.1"), "no address in its Debug");
}

/// Goal: a connection that broke is made anew without anybody noticing; a server that is gone is a clear error, the
/// state stays dirty, and it goes on when the server is back.
#[test]
fn redis_goes_and_comes_back() {
    let Some(mut server) = Server::start() else { return };
    let store = Arc::new(server.store("p:").timeout(Duration::from_secs(10)));
    let state = State::open(store.clone(), "sensor").unwrap();
    state.set("count", 1).unwrap();
    assert!(state.save().unwrap());
    let () = redis::cmd("CLIENT")
        .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
        .query(&mut raw(&server))
        .unwrap();
    state.set("count", 2).unwrap();
    assert!(state.save().unwrap(), "a broken connection is made anew");
    assert_eq!(store.load("sensor").unwrap(), Some(one(2)));

    server.stop();
    state.set("count", 3).unwrap();
    let error = state.save().unwrap_err();
    assert_eq!(error.kind(), "backend");
    assert!(error.to_string().starts_with("redis failed to save: "), "{error}");
    assert!(state.is_dirty());
    assert_eq!(store.load("sensor").unwrap_err().kind(), "backend", "gone is not absent");
    assert!(RedisStore::open(&server.url(), "p:").is_err());
    server.start_again();
    assert!(state.save().unwrap() && !state.is_dirty());
    assert_eq!(store.load("sensor").unwrap(), Some(one(3)));
}

#[test]
fn a_damaged_redis_value() {
    let Some(server) = Server::start() else { return };
    let store = server.store("p:");
    let mut raw = raw(&server);
    for bad in ["{", "[]", ""] {
        let () = redis::cmd("SET").arg("p:a").arg(bad).query(&mut raw).unwrap();
        let strict = server.store("p:").on_corrupt(OnCorrupt::Fail);
        assert_eq!(strict.load("a").unwrap_err().kind(), "decode");
        assert_eq!(store.load("a").unwrap(), None);
        let kept = store.take_damage()[0].kept.clone().unwrap();
        let kept: String = redis::cmd("GET").arg(kept).query(&mut raw).unwrap();
        assert_eq!(kept, bad);
        let is_there: bool = redis::cmd("EXISTS").arg("p:a").query(&mut raw).unwrap();
        assert!(!is_there, "it was moved, not copied");
    }
    let aside: Vec<String> = redis::cmd("KEYS").arg("corrupt-*").query(&mut raw).unwrap();
    assert_eq!(aside.len(), 3, "none covers another: {aside:?}");
    let () = redis::cmd("LPUSH").arg("p:list").arg(1).query(&mut raw).unwrap();
    assert_eq!(store.load("list").unwrap_err().kind(), "backend", "a value of another kind");
    store.save("a", &one(1)).unwrap();
    assert_eq!(store.load("a").unwrap(), Some(one(1)));
}

/// Goal: a value that is no state, and that nobody loaded, is moved aside before a save takes its place; one of another
/// kind is not touched.
#[test]
fn a_damaged_redis_value_that_nobody_loaded() {
    let Some(server) = Server::start() else { return };
    let store = server.store("p:");
    let mut raw = raw(&server);
    let () = redis::cmd("SET").arg("p:a").arg("[").query(&mut raw).unwrap();
    let strict = server.store("p:").on_corrupt(OnCorrupt::Fail);
    assert_eq!(strict.save("a", &one(1)).unwrap_err().kind(), "decode");
    store.save("a", &one(1)).unwrap();
    let kept = store.take_damage()[0].kept.clone().unwrap();
    let kept: String = redis::cmd("GET").arg(kept).query(&mut raw).unwrap();
    assert_eq!(kept, "[");
    assert_eq!(store.load("a").unwrap(), Some(one(1)));
    let () = redis::cmd("LPUSH").arg("p:list").arg(1).query(&mut raw).unwrap();
    assert_eq!(store.save("list", &one(1)).unwrap_err().kind(), "backend");
    let length: u32 = redis::cmd("LLEN").arg("p:list").query(&mut raw).unwrap();
    assert_eq!(length, 1);
}
