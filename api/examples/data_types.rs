//! Shows the types of data that the document on persistent storage (seed 000) lists: text, numbers, booleans, nothing,
//! lists, maps, tuples, sets, times with their zones, and types of one's own. Each comes back as it was, after a
//! restart too.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::Debug,
};

use jiff::{SignedDuration, Span, Timestamp, Zoned, civil, tz::TimeZone};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tierce::{Options, Store, codec::Json, engine::io::MemoryDisk};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct EnergyStats {
    total_kwh: f64,
    peak_usage: f64,
    last_updated: Zoned,
}

/// Stands for the states and events of a framework.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Event {
    Started,
    StateChanged { entity: String, from: Option<bool>, to: bool },
}

/// Stores `value` in a space of its type, opens the store anew, and compares.
fn keep<T>(disk: &MemoryDisk, name: &str, value: &T) -> tierce::Result<()>
where
    T: Debug + PartialEq + Serialize + DeserializeOwned,
{
    let open = || Store::open_with("types", Options::new().disk(disk.clone()));
    let store = open()?;
    store.cache::<String, T>(name)?.insert("key", value)?;
    store
        .map_with::<String, T, Json>(&format!("{name} as json"), &Default::default())?
        .insert("key", value)?;
    store.close()?;
    let store = open()?;
    assert_eq!(store.cache::<String, T>(name)?.get("key")?.as_ref(), Some(value));
    let map = store.map_with::<String, T, Json>(&format!("{name} as json"), &Default::default())?;
    assert_eq!(map.get("key")?.as_ref(), Some(value));
    println!("{name}: {value:?}");
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let disk = MemoryDisk::new();
    keep(&disk, "text", &"21 °C, \"quoted\", \0, 日本".to_owned())?;
    keep(&disk, "integer", &i64::MIN)?;
    keep(&disk, "float", &-0.1_f64)?;
    keep(&disk, "boolean", &true)?;
    keep(&disk, "nothing", &None::<u32>)?;
    keep(&disk, "list", &vec![1, 2, 3])?;
    keep(&disk, "map", &BTreeMap::from([(1, "number keys".to_owned()), (-7, String::new())]))?;
    keep(&disk, "tuple", &(1, "a".to_owned(), 2.5))?;
    keep(&disk, "set", &BTreeSet::from(["a".to_owned(), "b".to_owned()]))?;
    keep(&disk, "hash set", &HashSet::from([(1, true), (2, false)]))?;

    let zone = TimeZone::get("America/New_York").unwrap_or(TimeZone::UTC);
    // The second of the two half past ones of this night: the offset is kept with the zone.
    let zoned = Timestamp::from_second(1_762_065_000)?.to_zoned(zone);
    keep(&disk, "zoned time", &zoned)?;
    keep(&disk, "moment", &zoned.timestamp())?;
    keep(&disk, "plain time", &civil::datetime(2024, 2, 29, 23, 59, 59, 999_999_999))?;
    keep(&disk, "time span", &SignedDuration::from_millis(-1_500))?;
    let span: Span = "P1M2DT3H".parse()?;
    assert_eq!(span.fieldwise(), Span::new().months(1).days(2).hours(3));

    let cache = Store::open_with("types", Options::new().disk(disk.clone()))?
        .cache::<String, Zoned>("zoned time")?;
    let back = cache.get("key")?.expect("stored");
    assert_eq!((back.time_zone(), back.offset()), (zoned.time_zone(), zoned.offset()));
    drop(cache);

    let stats = EnergyStats { total_kwh: 12.5, peak_usage: 3.25, last_updated: zoned };
    keep(&disk, "own type", &stats)?;
    let changed = Event::StateChanged { entity: "light.hall".into(), from: None, to: true };
    keep(&disk, "events", &vec![Event::Started, changed])?;

    // What cannot be turned into bytes is an error when it is stored, and nothing is.
    let store = Store::open_with("types", Options::new().disk(disk))?;
    let odd = store.map_with::<String, BTreeMap<(u8, u8), u8>, Json>("odd", &Default::default())?;
    let error = odd.insert("key", &BTreeMap::from([((1, 2), 3)])).expect_err("keys of two parts");
    assert_eq!(error.kind(), "encode");
    assert!(odd.is_empty()?);
    println!("{error}");
    Ok(())
}
