//! What a store on a server of Redis does when the server, or the way to it, fails.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use redis::Connection;
use tierce::{Cache, Error, Map, RedisOptions, Store};

use crate::{
    redis::{foreign, server_or_return},
    redis_server::RedisServer,
};

/// Stands between a store and its server, and can lose an answer.
struct Proxy {
    url: String,
    /// The answer to the next request in which this stands is lost, and the connection with it.
    lose: Arc<Mutex<Option<&'static [u8]>>>,
}

impl Proxy {
    fn before(server: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}/", listener.local_addr().unwrap());
        let target = server.url().replace("redis://", "").replace('/', "");
        let lose: Arc<Mutex<Option<&[u8]>>> = Arc::default();
        let wanted = Arc::clone(&lose);
        // Ends with the process; nobody connects after the test.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (target, wanted) = (target.clone(), Arc::clone(&wanted));
                thread::spawn(move || pass(client?, TcpStream::connect(target)?, &wanted));
            }
        });
        Self { url, lose }
    }

    fn lose(&self, mark: &'static [u8]) {
        *self.lose.lock().unwrap() = Some(mark);
    }
}

/// Hands requests on in this thread and answers back in another.
fn pass(
    mut client: TcpStream,
    mut server: TcpStream,
    wanted: &Mutex<Option<&'static [u8]>>,
) -> std::io::Result<()> {
    let is_lost = Arc::new(AtomicBool::new(false));
    let (mut from, mut to, is_over) =
        (server.try_clone()?, client.try_clone()?, Arc::clone(&is_lost));
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if is_over.load(Ordering::SeqCst) || to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Both)
    });
    let mut buffer = vec![0; 1 << 16];
    while let length @ 1.. = client.read(&mut buffer)? {
        let request = &buffer[..length];
        let mut wanted = wanted.lock().unwrap();
        if wanted.is_some_and(|mark| request.windows(mark.len()).any(|part| part == mark)) {
            *wanted = None;
            is_lost.store(true, Ordering::SeqCst);
        }
        drop(wanted);
        server.write_all(request)?;
    }
    server.shutdown(Shutdown::Both)
}

/// Goal: a write whose answer is lost is told to have happened perhaps, and is not made again; a read is made again.
#[test]
fn lost_answers() {
    let (server, store) = server_or_return!();
    let proxy = Proxy::before(&server);
    let counts: Map<String, u64> = Store::redis(&proxy.url, "test").unwrap().map("m").unwrap();
    let add = || counts.update("runs", |old| Some(old.unwrap_or(0) + 1));
    assert_eq!(add().unwrap(), Some(1));
    for (mark, expected) in [(b"$1\r\np\r\n", 2), (b"$1\r\np\r\n", 3)] {
        proxy.lose(mark);
        let error = add().unwrap_err();
        assert!(matches!(error, Error::Backend { operation: "update", .. }), "{error}");
        assert!(error.to_string().contains("may have happened"), "{error}");
        let direct: Map<String, u64> = store.map("m").unwrap();
        assert_eq!(direct.get("runs").unwrap(), Some(expected), "it did, and once");
    }
    proxy.lose(b"$1\r\nv\r\n");
    assert_eq!(counts.get("runs").unwrap(), Some(3));
    assert!(proxy.lose.lock().unwrap().is_none(), "an answer was lost");
}

/// Goal: a server that dies is an error of the next call, and nothing has to be opened again when the server is back.
#[test]
fn survives_its_server() {
    let (mut server, store) = server_or_return!();
    let cache: Cache<String, u32> = store.cache("c").unwrap();
    cache.insert("a", &1).unwrap();
    server.kill();
    assert_eq!(cache.insert("a", &2).unwrap_err().kind(), "backend");
    // The connections are known to be broken by now: what follows was never sent.
    for error in [
        cache.insert("a", &2).unwrap_err(),
        cache.get("a").unwrap_err(),
        cache.len().unwrap_err(),
        store.sync().unwrap_err(),
    ] {
        assert!(error.to_string().contains("connect"), "{error}");
        assert_eq!(error.kind(), "backend");
    }
    server.restart();
    // It kept nothing, and its scripts are gone as well.
    assert_eq!(cache.get("a").unwrap(), None);
    cache.insert("a", &3).unwrap();
    assert_eq!(cache.get("a").unwrap(), Some(3));
    // A read over a connection that broke meanwhile is made again.
    server.restart();
    assert_eq!(cache.get("a").unwrap(), None);
}

/// Goal: a server that is full refuses a write as a whole and says so, and still removes.
#[test]
fn full_server() {
    let (server, store) = server_or_return!();
    let map: Map<String, u32> = store.map("m").unwrap();
    map.insert("a", &1).unwrap();
    let mut connection = foreign(&server);
    let limit = |connection: &mut Connection, bytes: u64| {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("maxmemory").arg(bytes).exec(connection).unwrap();
    };
    limit(&mut connection, 1);
    for error in [
        map.insert("a", &2).unwrap_err(),
        map.insert_all([("b", 2), ("c", 3)]).unwrap_err(),
        map.update("a", |_| Some(2)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), "backend");
        assert!(!error.to_string().contains("may have happened"), "{error}");
    }
    assert_eq!(map.entries().unwrap(), [("a".to_owned(), 1)]);
    assert!(map.remove("a").unwrap());
    limit(&mut connection, 0);
    map.insert("a", &3).unwrap();
}

/// Goal: nothing waits for ever for a server that says nothing.
#[test]
fn silence_is_an_error() {
    // The backlog accepts, and nobody ever answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}/", listener.local_addr().unwrap());
    let brief = Duration::from_millis(50);
    let options = RedisOptions::new().connect_timeout(brief).response_timeout(brief);
    let store = Store::redis_with(&url, "test", &options).unwrap();
    let error = store.map::<u32, u32>("m").unwrap_err();
    assert_eq!(error.kind(), "backend");
}
