//! Brings the values of a space from one version to another.
//!
//! The space says which version its values have, and, while they are being migrated, which one they are about to have.
//! Each migrated record carries the new version until the space has it, so that a migration that was cut off goes on
//! where it was.

use std::ops::ControlFlow;

use serde::{Serialize, de::DeserializeOwned};
use tierce_engine::{Change, PutOptions, View};

use super::{SpaceInfo, catalog, item, prefix_of};
use crate::{
    codec::{Codec, Json, MsgPack, Raw},
    error::{BoxError, Error, Result},
    key::KeyReader,
    kv::Kv,
    migrations::{Migrations, Plain},
    version::Version,
};

/// What a migration did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migrated {
    /// The steps, from version to version; none if the space was there already.
    pub steps: Vec<(Version, Version)>,
    /// Entries that were, or would be, changed.
    pub entries: u64,
}

/// Which version the values of a space have.
fn version_of(text: Option<&str>) -> Result<Version> {
    let text = text.unwrap_or("0.0.0");
    text.parse().map_err(|_| Error::Options {
        what: "a space".to_owned(),
        complaints: vec![format!("its version `{text}` cannot be read")],
    })
}

impl SpaceInfo {
    /// The newest version that any of its values may have.
    fn newest(&self) -> Result<Version> {
        version_of(self.migrating_to.as_deref().or(self.version.as_deref()))
    }
}

/// Refuses a space that is, even partly, newer than `known`.
pub(super) fn check_version(info: &SpaceInfo, known: Version) -> Result<()> {
    let found = info.newest()?;
    if found <= known {
        return Ok(());
    }
    let what = format!("space `{}`", info.name);
    Err(Error::TooNew { what, found: found.to_string(), known: known.to_string() })
}

/// Brings every value of `info` to version `wanted`: first all of them are tried, then they are stored one by one, then
/// the space has the version. If one fails nothing has changed; after a crash it is called again and goes on.
pub(crate) fn migrate<T: Serialize + DeserializeOwned>(
    kv: &dyn Kv,
    info: &SpaceInfo,
    steps: &mut Migrations<T>,
    wanted: Version,
    is_rehearsal: bool,
) -> Result<Migrated> {
    // Order: before anything is read. What a collection keeps beside its items is no value for a step.
    if let (found, false) = info.kind_of() {
        return Err(Error::Kind { found, wanted: "a map, a cache or counters with a name" });
    }
    check_version(info, wanted)?;
    let found = version_of(info.version.as_deref())?;
    let what = format!("space `{}`", info.name);
    let plan = steps.plan(&what, found, wanted)?;
    if found == wanted {
        return Ok(Migrated::default());
    }
    let prefix = prefix_of(info.id);
    let mut keys = Vec::new();
    kv.scan(&prefix, false, &mut |key, view| {
        // A remembered failure has no value.
        let is_value = view.item(item::FAILURE).is_none();
        if is_value && version_of_record(&view, found) < wanted {
            keys.push(key.to_vec());
        }
        ControlFlow::Continue(())
    })?;
    let done = Migrated { steps: plan, entries: keys.len() as u64 };
    let mut run = |key: &[u8], store: bool| {
        let own = key.get(prefix.len()..).unwrap_or_default();
        let name = || format!("{what}, {}", KeyReader::new(own).readable());
        let mut step = |value, from| steps.run(&name(), value, from, wanted);
        migrate_one(kv, key, (found, wanted), store, &mut step, &name)
    };
    // Order: all are tried before one is stored. What fails, fails with nothing changed.
    keys.iter().try_for_each(|key| run(key, false))?;
    if is_rehearsal {
        return Ok(done);
    }
    // Order: it says what it is becoming before the first value is. A program that does not know that version refuses.
    // Its type is whatever it is opened with next.
    let becoming =
        SpaceInfo { migrating_to: Some(wanted.to_string()), values: String::new(), ..info.clone() };
    catalog::write(kv, &becoming)?;
    keys.iter().try_for_each(|key| run(key, true))?;
    let become_it = SpaceInfo { version: Some(wanted.to_string()), migrating_to: None, ..becoming };
    catalog::write(kv, &become_it)?;
    Ok(done)
}

/// The version of a value in a space of version `found`: a migration that was cut off may have brought it further.
fn version_of_record(view: &View<'_>, found: Version) -> Version {
    let own = view.item(item::VERSION).and_then(|text| std::str::from_utf8(text).ok());
    own.and_then(|text| text.parse().ok()).map_or(found, |own: Version| own.max(found))
}

fn migrate_one<T: Serialize + DeserializeOwned>(
    kv: &dyn Kv,
    key: &[u8],
    (found, wanted): (Version, Version),
    store: bool,
    step: &mut dyn FnMut(T, Version) -> Result<T>,
    name: &dyn Fn() -> String,
) -> Result<()> {
    let mut failed = None;
    kv.update(key, &mut |view| {
        let Some(view) = view else { return Change::Keep };
        let from = version_of_record(&view, found);
        if from >= wanted || view.item(item::FAILURE).is_some() {
            return Change::Keep;
        }
        let bytes = parse(&view).map_err(|source| Error::Migration {
            what: name(),
            from: "its bytes".to_owned(),
            to: "a value".to_owned(),
            source,
        });
        match bytes
            .and_then(|value| step(value, from))
            .and_then(|value| print(&value, view.codec, name))
        {
            Ok(bytes) if store => Change::Put(bytes, as_it_was(&view, wanted)),
            Ok(_) => Change::Keep,
            Err(error) => {
                failed = Some(error);
                Change::Keep
            }
        }
    })?;
    failed.map_or(Ok(()), Err)
}

/// The options with which the record was put, and the version it has from now on.
fn as_it_was(view: &View<'_>, version: Version) -> PutOptions {
    let mut options = PutOptions::new()
        .codec(view.codec, view.schema)
        .evictable(view.evictable)
        .item(item::VERSION, version.to_string());
    for scope in view.scopes() {
        options = options.scope(scope);
    }
    for (kind, bytes) in view.items().filter(|(kind, _)| *kind != item::VERSION) {
        options = options.item(kind, bytes);
    }
    view.expires_at.into_iter().fold(options, PutOptions::expires_at)
}

const RAW: u8 = <Raw as Codec<Vec<u8>>>::ID;
const MSGPACK: u8 = <MsgPack as Codec<Plain>>::ID;
const JSON: u8 = <Json as Codec<Plain>>::ID;

fn msgpack<T: Serialize + DeserializeOwned>(value: &T) -> Result<Vec<u8>, BoxError> {
    let mut bytes = Vec::new();
    MsgPack::encode(value, &mut bytes)?;
    Ok(bytes)
}

/// The value of a record as a `T`, if that can hold all of it.
fn parse<T: Serialize + DeserializeOwned>(view: &View<'_>) -> Result<T, BoxError> {
    let stored: Plain = match view.codec {
        RAW => Plain::Bytes(view.value.to_vec()),
        MSGPACK | JSON => MsgPack::decode(view.value, view.codec, view.schema)?,
        other => {
            let error = format!("values with codec {other} do not say what their fields are");
            return Err(error.into());
        }
    };
    let value: T = MsgPack::decode(&msgpack(&stored)?, MSGPACK, 0)?;
    // What came in must come out again: a value is never changed but by the steps.
    let held: Plain = MsgPack::decode(&msgpack(&value)?, MSGPACK, 0)?;
    if stored.is_same(&held) {
        return Ok(value);
    }
    Err("it holds more than the type that the steps take; take `migrations::Plain`".into())
}

fn print<T: Serialize + DeserializeOwned>(
    value: &T,
    codec: u8,
    name: &dyn Fn() -> String,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let printed = match codec {
        MSGPACK => MsgPack::encode(value, &mut bytes),
        JSON => Json::encode(value, &mut bytes),
        _ => msgpack(value).and_then(|value| match MsgPack::decode(&value, MSGPACK, 0)? {
            Plain::Bytes(raw) => Raw::encode(&raw, &mut bytes),
            Plain::Text(text) => Raw::encode(&text, &mut bytes),
            _ => Err("a value of the codec `Raw` stays bytes or a text".into()),
        }),
    };
    printed.map_err(|source| Error::Encode { space: name(), source })?;
    Ok(bytes)
}
