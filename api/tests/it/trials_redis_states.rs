//! States on a server that refuses, evicts, or is written to by others at the same moment.

use redis::Connection;
use tierce::state::{OnCorrupt, RedisStore, StateStore as _};

use crate::{redis_server::RedisServer, state_stores::one, trials_states::Meddling};

fn raw(server: &RedisServer) -> Connection {
    redis::Client::open(server.url()).unwrap().get_connection().unwrap()
}

fn send(connection: &mut Connection, words: &str) {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    command.arg(words.collect::<Vec<_>>());
    command.exec(connection).unwrap();
}

/// Goal: what is moved aside and written over is what was judged: a good state that another program saved meanwhile stays,
/// or is replaced as a state.
#[test]
fn a_damaged_value_beside_a_save() {
    let Some(server) = RedisServer::start() else { return };
    for is_load in [true, false] {
        let mut raw = raw(&server);
        send(&mut raw, "FLUSHALL");
        send(&mut raw, "SET p:a damaged");
        let other = RedisStore::open(&server.url(), "p:").unwrap();
        let clock = Meddling::new(move || other.save("a", &one(7)).unwrap());
        let store = RedisStore::open(&server.url(), "p:").unwrap().clock(clock);
        if is_load {
            assert_eq!(store.load("a").unwrap(), Some(one(7)));
        } else {
            store.save("a", &one(8)).unwrap();
            assert_eq!(store.load("a").unwrap(), Some(one(8)));
        }
        let aside: Vec<String> = redis::cmd("KEYS").arg("corrupt-*").query(&mut raw).unwrap();
        assert_eq!(aside.len(), 1, "the damaged one, once: {aside:?}");
    }
}

/// Goal: a server that is full, or a replica, refuses with an error, and what was saved before is still there; it goes on
/// when it can.
#[test]
fn a_server_that_refuses() {
    let Some(server) = RedisServer::start() else { return };
    let mut raw = raw(&server);
    let store = RedisStore::open(&server.url(), "p:").unwrap();
    store.save("a", &one(1)).unwrap();
    for (refuse, accept, word) in [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OOM"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "READONLY"),
    ] {
        send(&mut raw, refuse);
        let error = store.save("a", &one(2)).unwrap_err();
        let text = format!("{error} {:?}", std::error::Error::source(&error));
        assert!(error.kind() == "backend" && text.to_uppercase().contains(word), "{text}");
        send(&mut raw, accept);
        assert_eq!(store.load("a").unwrap(), Some(one(1)), "{word}");
    }
    // Damage stays where it is if nothing can take its place.
    send(&mut raw, "SET p:a damaged");
    send(&mut raw, "REPLICAOF 127.0.0.1 1");
    assert!(store.save("a", &one(2)).is_err() && store.load("a").is_err());
    send(&mut raw, "REPLICAOF NO ONE");
    let strict = RedisStore::open(&server.url(), "p:").unwrap().on_corrupt(OnCorrupt::Fail);
    assert_eq!(strict.load("a").unwrap_err().kind(), "decode");
    store.save("a", &one(2)).unwrap();
    assert_eq!(store.load("a").unwrap(), Some(one(2)));
    assert_eq!(store.take_damage().len(), 1);
}

/// Goal: a server that would forget states is refused, unless that is wanted; a state that it forgot is saved again.
#[test]
fn a_server_that_evicts() {
    let Some(server) = RedisServer::start() else { return };
    let mut raw = raw(&server);
    send(&mut raw, "CONFIG SET maxmemory 100mb");
    send(&mut raw, "CONFIG SET maxmemory-policy allkeys-lru");
    let error = RedisStore::open(&server.url(), "p:").unwrap_err();
    assert!(error.to_string().contains("maxmemory-policy"), "{error}");
    let store = RedisStore::new(&server.url(), "p:").unwrap().evicting_server(true);
    store.save("a", &one(1)).unwrap();
    send(&mut raw, "DEL p:a");
    assert_eq!(store.load("a").unwrap(), None);
    store.save("a", &one(2)).unwrap();
    assert_eq!(store.load("a").unwrap(), Some(one(2)));
    send(&mut raw, "CONFIG SET maxmemory-policy volatile-lru");
    assert!(RedisStore::open(&server.url(), "p:").is_ok());
}
