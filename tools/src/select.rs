//! Which keys a command is about, and walking over those of a snapshot.

use std::{collections::BTreeSet, ffi::OsStr, ops::ControlFlow};

use tierce_engine::{Snapshot, View};

use crate::{
    args::SelectArgs,
    encoding::Face,
    exit::{Fail, Outcome},
    glob::Glob,
    interrupt,
};

/// Keys that begin with something, match something, and lie between two others.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    prefix: Vec<u8>,
    glob: Option<Glob>,
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
}

impl Selection {
    /// What the options say.
    pub(crate) fn new(args: &SelectArgs, face: Face) -> Outcome<Self> {
        let glob = args.glob.as_deref().map(|pattern| Glob::parse(pattern.as_encoded_bytes()));
        let glob = glob.transpose().map_err(Fail::Usage)?;
        let prefix = match (&args.prefix, &glob) {
            (Some(prefix), _) => face.parse_key(prefix)?,
            (None, Some(glob)) => glob.prefix(),
            (None, None) => Vec::new(),
        };
        Ok(Self { prefix, glob, ..Self::default() })
    }

    /// The same, from one key up to another.
    pub(crate) fn between(
        self,
        from: Option<&OsStr>,
        to: Option<&OsStr>,
        face: Face,
    ) -> Outcome<Self> {
        let key = |word: Option<&OsStr>| word.map(|word| face.parse_key(word)).transpose();
        Ok(Self { from: key(from)?, to: key(to)?, ..self })
    }

    fn has(&self, key: &[u8]) -> bool {
        self.glob.as_ref().is_none_or(|glob| glob.matches(key))
            && self.from.as_deref().is_none_or(|from| key >= from)
            && self.to.as_deref().is_none_or(|to| key < to)
    }

    /// Shows every selected entry, without its value, in no meaningful order.
    pub(crate) fn walk(
        &self,
        snapshot: &Snapshot,
        each: &mut dyn FnMut(&[u8], View<'_>),
    ) -> Outcome<()> {
        snapshot.scan(&self.prefix, false, &mut |key, view| {
            if interrupt::is_asked() {
                return ControlFlow::Break(());
            }
            if self.has(key) {
                each(key, view);
            }
            ControlFlow::Continue(())
        })?;
        interrupt::check()
    }

    /// The first `limit` keys in order of their bytes. Holds them in memory, and no others.
    pub(crate) fn sorted_keys(
        &self,
        snapshot: &Snapshot,
        limit: usize,
    ) -> Outcome<BTreeSet<Vec<u8>>> {
        let mut keys = BTreeSet::new();
        self.walk(snapshot, &mut |key, _| {
            let is_wanted = keys.len() < limit
                || keys.last().is_some_and(|last: &Vec<u8>| key < last.as_slice());
            if is_wanted {
                keys.insert(key.to_vec());
                if keys.len() > limit {
                    keys.pop_last();
                }
            }
        })?;
        Ok(keys)
    }
}
