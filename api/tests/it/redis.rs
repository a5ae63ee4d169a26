//! Caches and maps on a real server of Redis: the same types, the same promises.

use std::{
    collections::BTreeSet,
    sync::{
        Barrier,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use redis::{Commands as _, Connection};
use tierce::{Cache, Error, Loaded, Map, Put, SpaceOptions, Store, Timestamp, Ttl};

use crate::redis_server::RedisServer;

/// A server and a store on it, or the end of the test.
macro_rules! server_or_return {
    () => {
        match RedisServer::start() {
            Some(server) => {
                let store = Store::redis(&server.url(), "test").unwrap();
                (server, store)
            }
            None => return,
        }
    };
}
pub(crate) use server_or_return;

/// A connection that knows nothing of us.
pub(crate) fn foreign(server: &RedisServer) -> Connection {
    redis::Client::open(server.url()).unwrap().get_connection().unwrap()
}

/// The server's name of the entry in whose key `text` stands.
fn name_of(connection: &mut Connection, text: &str) -> Vec<u8> {
    let names: Vec<Vec<u8>> = connection.keys("*").unwrap();
    names.into_iter().find(|name| position(name, text).is_some()).unwrap()
}

fn position(name: &[u8], text: &str) -> Option<usize> {
    name.windows(text.len()).position(|part| part == text.as_bytes())
}

/// Goal: what is put is got back with everything known of it, replaced, counted, listed and removed.
#[test]
fn stores_and_lists() {
    let (_server, store) = server_or_return!();
    assert!(store.engine().is_none());
    let cache: Cache<String, u32> = store.cache("c").unwrap();
    assert_eq!(cache.get("a").unwrap(), None);
    let put = Put::new().ttl(Ttl::seconds(60)).tags(["x", "y"]).pinned();
    cache.insert_with("a", &1, &put).unwrap();
    let entry = cache.entry("a").unwrap().unwrap();
    assert_eq!((entry.value, entry.pinned), (1, true));
    assert_eq!(entry.tags, ["x", "y"]);
    assert!(entry.version.0 > 0 && entry.bytes > 41, "{entry:?}");
    assert!(entry.expires_at.unwrap() > entry.stored_at.unwrap());
    for n in 0..1_500_u32 {
        cache.insert(&format!("key {n}"), &n).unwrap();
    }
    assert_eq!(cache.len().unwrap(), 1_501);
    let keys: BTreeSet<_> = cache.keys().unwrap().into_iter().collect();
    assert_eq!(keys.len(), 1_501);
    let sum: u32 = cache.entries().unwrap().into_iter().map(|(_, value)| value).sum();
    assert_eq!(sum, 1 + (0..1_500).sum::<u32>());
    assert!(cache.remove("a").unwrap() && !cache.remove("a").unwrap());
    assert_eq!(cache.take("key 7").unwrap(), Some(7));
    assert_eq!(cache.get("key 7").unwrap(), None);
    let stats = store.space_stats("c").unwrap().unwrap();
    assert_eq!((stats.entries, stats.expiring), (1_499, 0));
    store.sync().unwrap();
}

/// Goal: an entry is gone when its lifetime is over, the server forgets it by itself, and a moment in the past is at
/// once. Method: time passes for real, and the test waits for the server to say that it did.
#[test]
fn expires() {
    let (server, store) = server_or_return!();
    let cache: Cache<String, u32> = store.cache("c").unwrap();
    let brief = Put::new().ttl(Duration::from_millis(30));
    assert!(cache.insert_with("brief", &1, &brief).unwrap());
    cache.insert_with("long", &2, &Put::new().ttl(Ttl::minutes(1))).unwrap();
    cache.insert_with("ages", &3, &Put::new().ttl(Ttl::Until(Timestamp(u64::MAX)))).unwrap();
    let gone_at = store.now().saturating_add_ms(30);
    while store.now() <= gone_at {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(cache.get("brief").unwrap(), None);
    assert_eq!(cache.len().unwrap(), 2);
    assert!(cache.insert_with("brief", &4, &Put::new().if_absent()).unwrap(), "as absent");
    let mut connection = foreign(&server);
    let name = name_of(&mut connection, "long");
    let left: i64 = connection.pttl(&name).unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
    // What would be over at once is not kept at all, and takes what was there with it.
    let past = Put::new().ttl(Ttl::Until(Timestamp(1)));
    assert!(!cache.insert_with("brief", &5, &past).unwrap());
    assert_eq!(cache.get("brief").unwrap(), None);
    assert_eq!(cache.get("ages").unwrap(), Some(3));
    // One that the server would keep is over all the same for whoever asks, if it says so.
    let expire = |connection: &mut Connection| {
        let _: usize = connection.setrange(&name, 11, &1_u64.to_le_bytes()).unwrap();
        assert!(connection.pttl::<_, i64>(&name).unwrap() > 0);
    };
    expire(&mut connection);
    assert!(cache.insert_with("long", &6, &Put::new().ttl(Ttl::minutes(1)).if_absent()).unwrap());
    expire(&mut connection);
    assert!(!cache.touch("long", Ttl::Never).unwrap());
    assert_eq!(cache.get("long").unwrap(), None);
}

/// Goal: a touch changes the expiry on both sides and nothing else; touching what is gone says so.
#[test]
fn touches() {
    let (server, store) = server_or_return!();
    let cache: Cache<String, String> = store.cache("c").unwrap();
    cache.insert_with("a", &"value".into(), &Put::new().tag("t")).unwrap();
    let before = cache.entry("a").unwrap().unwrap();
    let mut connection = foreign(&server);
    let name = name_of(&mut connection, "a");
    assert_eq!(connection.pttl::<_, i64>(&name).unwrap(), -1);
    assert!(cache.touch("a", Ttl::seconds(50)).unwrap());
    let after = cache.entry("a").unwrap().unwrap();
    assert_eq!((&after.value, &after.tags), (&before.value, &before.tags));
    assert_eq!(after.version, before.version);
    assert!(after.expires_at.is_some());
    assert!(connection.pttl::<_, i64>(&name).unwrap() > 0);
    assert!(cache.touch("a", Ttl::Never).unwrap());
    assert_eq!(cache.ttl("a").unwrap(), Some(None));
    assert_eq!(connection.pttl::<_, i64>(&name).unwrap(), -1);
    assert!(cache.slide("a", Duration::from_secs(20)).unwrap());
    assert!(cache.ttl("a").unwrap().flatten().unwrap() <= Duration::from_secs(20));
    assert!(cache.touch("a", Duration::ZERO).unwrap());
    assert!(!cache.touch("a", Ttl::seconds(50)).unwrap());
    assert!(!cache.slide("a", Duration::from_secs(20)).unwrap());
}

/// Goal: a tag ends what has it and was stored before, at once and for everybody; so does clearing a cache.
#[test]
fn tags_and_cuts() {
    let (server, store) = server_or_return!();
    let cache: Cache<u32, u32> = store.cache("c").unwrap();
    let other: Cache<u32, u32> = store.cache("other").unwrap();
    for n in 0..20 {
        let tag = if n % 2 == 0 { "even" } else { "odd" };
        cache.insert_with(&n, &n, &Put::new().tag(tag)).unwrap();
        other.insert_with(&n, &n, &Put::new().tag(tag)).unwrap();
    }
    assert_eq!(cache.keys_with_tag("odd").unwrap().len(), 10);
    assert_eq!(cache.invalidate_tag("even").unwrap(), 10);
    cache.insert_with(&2, &22, &Put::new().tag("even")).unwrap();
    assert_eq!((cache.get(&0).unwrap(), cache.get(&2).unwrap()), (None, Some(22)));
    assert!(cache.insert_with(&4, &44, &Put::new().if_absent()).unwrap(), "cut is absent");
    assert!(!cache.remove(&6).unwrap(), "cut is absent");
    assert!(!cache.touch(&8, Ttl::seconds(5)).unwrap(), "cut is absent");
    assert_eq!(cache.len().unwrap(), 12);
    assert_eq!(other.len().unwrap(), 20, "tags belong to a cache");
    assert_eq!(cache.clear().unwrap(), 12);
    assert!(cache.is_empty().unwrap());
    cache.insert(&1, &1).unwrap();
    assert_eq!(cache.entries().unwrap().len(), 1);
    // Nobody can see what was cut off, and scanning has taken it away.
    let mut connection = foreign(&server);
    let size: usize = redis::cmd("DBSIZE").query(&mut connection).unwrap();
    assert_eq!(size, 1 + 20 + 3 + 3 + 2, "entries, catalog and its numbers, sequence and cuts");
}

/// Goal: dropping a space ends all in it; a new one of the name is empty, and an open handle refuses writes.
#[test]
fn drops_spaces() {
    let (_server, store) = server_or_return!();
    let old: Map<u32, u32> = store.map("m").unwrap();
    old.insert(&1, &1).unwrap();
    assert!(store.drop_space("m").unwrap() && !store.drop_space("m").unwrap());
    assert_eq!(old.get(&1).unwrap(), None);
    assert_eq!(old.insert(&1, &1).unwrap_err().kind(), "closed");
    let new: Map<u32, String> = store.map("m").unwrap();
    assert!(new.is_empty().unwrap());
    assert_eq!(store.spaces().unwrap().len(), 1);
}

/// Goal: of concurrent updates none is lost, and of many that insert if absent one wins.
#[test]
fn updates_are_atomic() {
    let (_server, store) = server_or_return!();
    let counts: Map<String, u64> = store.map("counts").unwrap();
    let (barrier, wins) = (Barrier::new(8), AtomicU32::new(0));
    thread::scope(|scope| {
        for n in 0..8_u64 {
            let (counts, barrier, wins) = (counts.clone(), &barrier, &wins);
            scope.spawn(move || {
                barrier.wait();
                let won = counts.insert_if_absent("first", &n).unwrap();
                wins.fetch_add(u32::from(won), Ordering::Relaxed);
                for _ in 0..50 {
                    counts.update("runs", |old| Some(old.unwrap_or(0) + 1)).unwrap();
                }
            });
        }
    });
    assert_eq!(wins.into_inner(), 1);
    assert_eq!(counts.get("runs").unwrap(), Some(400));
    assert_eq!(counts.update("runs", |_| None).unwrap(), None);
    assert_eq!(counts.take("first").unwrap().map(|_| ()), Some(()));
    assert!(counts.is_empty().unwrap());
}

/// Goal: a map works: batches, listing, and order, also of what another process wrote.
#[test]
fn maps_and_order() {
    let (server, store) = server_or_return!();
    let options = SpaceOptions::new().ordered(true);
    let map: Map<(String, u32), i64> = store.map_with("m", &options).unwrap();
    let attic = |n: u32| (("attic", n), i64::from(n));
    map.insert_all([attic(2), attic(1), (("hall", 1), -1)]).unwrap();
    assert_eq!(map.len().unwrap(), 3);
    let under = map.entries_under("attic").unwrap();
    assert_eq!(under, [(("attic".to_owned(), 1), 1), (("attic".to_owned(), 2), 2)]);
    // Another name of the same server is another store to this process: it stands for another program.
    let url = server.url().replace("127.0.0.1", "localhost");
    let theirs: Map<(String, u32), i64> =
        Store::redis(&url, "test").unwrap().map_with("m", &options).unwrap();
    theirs.insert(&("attic", 3), &3).unwrap();
    let keys = map.keys().unwrap();
    assert_eq!(keys.iter().map(|key| key.1).collect::<Vec<_>>(), [1, 2, 3, 1]);
    let range = map.range(("attic".to_owned(), 2)..("b".to_owned(), 0)).unwrap();
    assert_eq!(range.into_iter().map(|(_, n)| n).collect::<Vec<_>>(), [2, 3]);
    map.clear().unwrap();
    assert!(theirs.is_empty().unwrap());
}

/// Goal: keys are removed by what they look like, with every byte that means something in a pattern of the server.
#[test]
fn invalidates_by_key() {
    let (_server, store) = server_or_return!();
    let cache: Cache<String, u32> = store.cache("c").unwrap();
    for key in ["plan:gabriel", "leftovers:gabriel", "plan:gabriella", "p*[a-z]?\\^:gabriel"] {
        cache.insert(key, &1).unwrap();
    }
    assert_eq!(cache.invalidate_prefix("p*[a").unwrap(), 1);
    assert_eq!(cache.invalidate_suffix(":gabriel").unwrap(), 2);
    assert_eq!(cache.invalidate_glob("plan:*").unwrap(), 1);
    let pairs: Cache<(String, u32), u32> = store.cache("pairs").unwrap();
    for key in [("[*]", 1), ("[*]", 2), ("x", 3), ("**", 4)] {
        pairs.insert(&key, &key.1).unwrap();
    }
    let map: Map<(String, u32), u32> = store.map("m").unwrap();
    map.insert_all([(("[*]", 1), 1), (("*", 2), 2), (("x*", 3), 3)]).unwrap();
    assert_eq!(map.entries_under("[*]").unwrap().len(), 1);
    assert_eq!(map.entries_under("*").unwrap().len(), 1);
    assert_eq!(pairs.invalidate_under("[*]").unwrap(), 2);
    assert_eq!(pairs.len().unwrap(), 2);
}

/// Goal: of many that miss one key, one loads, and what it brought is on the server.
#[test]
fn loads_once() {
    let (server, store) = server_or_return!();
    let cache: Cache<String, u32> = store.cache("c").unwrap();
    let (barrier, loads) = (Barrier::new(8), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            let (cache, barrier, loads) = (cache.clone(), &barrier, &loads);
            scope.spawn(move || {
                barrier.wait();
                let load = || {
                    loads.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, std::io::Error>(Loaded::new(7).ttl(Ttl::minutes(5)).tag("sevens"))
                };
                assert_eq!(cache.get_or_load("a", load).unwrap(), 7);
            });
        }
    });
    assert_eq!(loads.into_inner(), 1);
    assert_eq!(cache.keys_with_tag("sevens").unwrap(), ["a"]);
    let url = server.url().replace("127.0.0.1", "localhost");
    let theirs: Cache<String, u32> = Store::redis(&url, "test").unwrap().cache("c").unwrap();
    assert_eq!(theirs.get("a").unwrap(), Some(7));
}

/// Goal: spaces keep their types; another program cannot open them as something else.
#[test]
fn types_are_kept() {
    let (server, store) = server_or_return!();
    store.cache::<String, u32>("c").unwrap().insert("a", &1).unwrap();
    let url = server.url().replace("127.0.0.1", "localhost");
    let theirs = Store::redis(&url, "test").unwrap();
    for refused in [
        theirs.cache::<u32, u32>("c").map(drop),
        theirs.cache::<String, String>("c").map(drop),
        theirs.map::<String, u32>("c").map(drop),
    ] {
        assert!(matches!(refused, Err(Error::Type { .. })), "{refused:?}");
    }
    let long = "x".repeat(70_000);
    let error = store.map::<String, u32>("m").unwrap().insert(&long, &1).unwrap_err();
    assert_eq!(error.kind(), "too-large");
    for (url, prefix) in [
        ("http://127.0.0.1/", "a"),
        ("redis://:secret@[", "a"),
        ("redis://127.0.0.1/", ""),
        ("redis://127.0.0.1/", "a:b"),
        ("redis://127.0.0.1/", "a\n"),
    ] {
        let error = Store::redis(url, prefix).unwrap_err();
        assert_eq!(error.kind(), "options");
        assert!(!error.to_string().contains("secret"));
    }
    let secret = Store::redis("redis://:secret@127.0.0.1:1/", "a").unwrap();
    assert!(!format!("{secret:?}").contains("secret"));
}

/// Goal: sequence numbers go on after the server has forgotten the last one, so that an old cut ends nothing new and a
/// new entry is never taken for an old one.
#[test]
fn sequence_goes_on() {
    let (server, store) = server_or_return!();
    let cache: Cache<String, u32> = store.cache("c").unwrap();
    for n in 0..10 {
        cache.insert("a", &n).unwrap();
    }
    cache.cut().unwrap();
    cache.insert("a", &0).unwrap();
    let before = cache.entry("a").unwrap().unwrap().version;
    let mut connection = foreign(&server);
    let removed: usize = connection.del(b"test:\xffseq").unwrap();
    assert_eq!(removed, 1);
    cache.insert("a", &1).unwrap();
    let after = cache.entry("a").unwrap().unwrap().version;
    assert!(after > before, "{after} after {before}");
}

/// Goal: bytes that are no entry are an error, never a value, and can be replaced and removed. So is every entry in
/// which a byte was changed.
#[test]
fn hostile_bytes() {
    let (server, store) = server_or_return!();
    let cache: Cache<String, String> = store.cache("c").unwrap();
    let value = "a value".to_owned();
    let put = Put::new().tags(["x", "y"]).ttl(Ttl::minutes(1));
    cache.insert_with("a", &value, &put).unwrap();
    let mut connection = foreign(&server);
    let name = name_of(&mut connection, "a");
    let good: Vec<u8> = connection.get(&name).unwrap();
    let mut wrong: Vec<Vec<u8>> = vec![
        vec![],
        b"t".to_vec(),
        b"t\x01".to_vec(),
        b"t\x02".repeat(30),
        vec![0xff; 200],
        b"plain text of another program, longer than the head of an entry".to_vec(),
        [b"t\x01", &[0xff; 80][..]].concat(),
    ];
    wrong.extend((0..good.len()).map(|length| good[..length].to_vec()));
    // The sequence number and the expiry are the scripts' to change.
    wrong.extend((19..good.len()).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x41;
        bytes
    }));
    for bytes in &wrong {
        let _: () = connection.set(&name, bytes).unwrap();
        for error in [
            cache.get("a").unwrap_err(),
            cache.entries().unwrap_err(),
            cache.insert_with("a", &value, &Put::new().keep_ttl()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), "backend", "{bytes:?}");
        }
    }
    let _: () = connection.set(&name, "t").unwrap();
    for error in [
        cache.insert_with("a", &value, &Put::new().if_absent()).unwrap_err(),
        cache.touch("a", Ttl::Never).unwrap_err(),
        cache.keys().unwrap_err(),
    ] {
        assert_eq!(error.kind(), "backend");
    }
    cache.insert("a", &value).unwrap();
    assert_eq!(cache.get("a").unwrap(), Some(value.clone()));
    let _: () = connection.del(&name).unwrap();
    let _: () = connection.rpush(&name, "a list").unwrap();
    assert_eq!(cache.get("a").unwrap_err().kind(), "backend");
    cache.insert("a", &value).unwrap();
    assert_eq!(cache.get("a").unwrap(), Some(value));
    let map: Map<String, u32> = store.map("m").unwrap();
    for foreign in [true, false] {
        map.insert("removable", &1).unwrap();
        let name = name_of(&mut connection, "removable");
        if foreign {
            let _: () = connection.del(&name).unwrap();
            let _: () = connection.rpush(&name, "a list").unwrap();
        } else {
            let _: () = connection.set(&name, "text").unwrap();
        }
        assert!(map.remove("removable").unwrap() && !map.remove("removable").unwrap());
    }
    // One that was moved under another key is not its value.
    let mut moved = name.clone();
    moved[position(&name, "a").unwrap()] = b'b';
    let _: () = connection.rename(&name, &moved).unwrap();
    assert_eq!(cache.get("b").unwrap_err().kind(), "backend");
}

/// Goal: stores of one URL and prefix are one, others are none of their business, and closing is for all handles.
#[test]
fn handles_and_prefixes() {
    let (server, store) = server_or_return!();
    let cache: Cache<String, u32> = store.cache("c").unwrap();
    let again = Store::redis(&server.url(), "test").unwrap();
    let same: Cache<String, u32> = again.cache("c").unwrap();
    cache.insert("a", &1).unwrap();
    assert_eq!(same.get("a").unwrap(), Some(1));
    assert_eq!(same.stats().unwrap().hits, cache.stats().unwrap().hits, "shared");
    for prefix in ["tes", "test2", "test*", "te[s]t"] {
        let other = Store::redis(&server.url(), prefix).unwrap();
        assert!(other.spaces().unwrap().is_empty(), "{prefix}");
        let theirs: Cache<String, u32> = other.cache("c").unwrap();
        assert_eq!(theirs.get("a").unwrap(), None);
        theirs.insert("a", &2).unwrap();
        theirs.insert("b", &2).unwrap();
        theirs.clear().unwrap();
    }
    assert_eq!(cache.entries().unwrap().len(), 1);
    let before = store.now();
    assert!(again.now() >= before && before.0 > 1_600_000_000_000);
    store.close().unwrap();
    assert_eq!(same.get("a").unwrap_err().kind(), "closed");
    again.close().unwrap();
    let reopened = Store::redis(&server.url(), "test").unwrap();
    assert_eq!(reopened.cache::<String, u32>("c").unwrap().get("a").unwrap(), Some(1));
}

/// Goal: programs that make one space at the same moment make one space.
#[test]
fn spaces_are_made_once() {
    let (server, _store) = server_or_return!();
    let barrier = Barrier::new(8);
    let ids: BTreeSet<u32> = thread::scope(|scope| {
        let make = |n: u32| {
            let (url, barrier) = (server.url(), &barrier);
            scope.spawn(move || {
                // Stores that know nothing of each other: the number of the database is written differently.
                let zeros = "0".repeat(1 + n as usize);
                let store = Store::redis(&format!("{url}{zeros}"), "test").unwrap();
                store.sync().unwrap();
                barrier.wait();
                let map: Map<u32, u32> = store.map("m").unwrap();
                map.insert(&n, &n).unwrap();
                store.spaces().unwrap()[0].id
            })
        };
        let threads: Vec<_> = (0..8).map(make).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 1);
    let store = Store::redis(&server.url(), "test").unwrap();
    assert_eq!(store.map::<u32, u32>("m").unwrap().len().unwrap(), 8);
}
