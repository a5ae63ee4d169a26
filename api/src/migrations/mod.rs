//! Steps from one version of data to the next: which are needed is a pure question of versions, what they change is
//! the caller's.

mod plain;

use std::{fmt, ops::Range};

pub use plain::Plain;

use crate::{BoxError, Error, Result, Version};

type Change<T> = Box<dyn FnMut(T) -> Result<T, BoxError> + Send>;

/// One step: what turns data of one version into data of a later one.
pub struct Step<T> {
    from: Version,
    to: Version,
    change: Change<T>,
}

impl<T> Step<T> {
    /// The step that turns data older than `to`, and at least as new as `from`, into data of version `to`.
    ///
    /// ```
    /// use tierce::{Version, migrations::Step};
    ///
    /// let step = Step::new(Version::ZERO, Version::new(0, 1, 0), |text: String| Ok(text + "!"));
    /// assert_eq!(step.to(), Version::new(0, 1, 0));
    /// ```
    pub fn new(
        from: Version,
        to: Version,
        change: impl FnMut(T) -> Result<T, BoxError> + Send + 'static,
    ) -> Self {
        Self { from, to, change: Box::new(change) }
    }

    /// The oldest version it takes.
    #[must_use]
    pub const fn from(&self) -> Version {
        self.from
    }

    /// The version it makes.
    #[must_use]
    pub const fn to(&self) -> Version {
        self.to
    }
}

impl<T> fmt::Debug for Step<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)
    }
}

/// All steps that lead from the oldest version known to the newest.
///
/// Each step begins where the one before it ends. Data between two ends counts as of the older one: version 0.1.7 needs
/// the step from 0.1.0 on. A version may grow without a step.
///
/// ```
/// use tierce::{Migrations, Version, migrations::Step};
///
/// let [old, middle, new] = [Version::ZERO, Version::new(0, 2, 0), Version::new(0, 10, 0)];
/// let mut migrations = Migrations::new([
///     Step::new(old, middle, |text: String| Ok(text + " then")),
///     Step::new(middle, new, |text: String| Ok(text + " now")),
/// ])?;
/// assert_eq!(migrations.plan("a text", old, new)?, [(old, middle), (middle, new)]);
/// assert_eq!(migrations.run("a text", "before".to_owned(), middle, new)?, "before now");
/// // What a newer program wrote is refused.
/// assert_eq!(migrations.plan("a text", new, middle).unwrap_err().kind(), "too-new");
/// # Ok::<(), tierce::Error>(())
/// ```
#[derive(Debug)]
pub struct Migrations<T> {
    /// Sorted; each `from` is the `to` before it.
    steps: Vec<Step<T>>,
}

impl<T> Default for Migrations<T> {
    fn default() -> Self {
        Self { steps: Vec::new() }
    }
}

impl<T> Migrations<T> {
    /// Puts `steps`, given in any order, into theirs.
    ///
    /// # Errors
    /// [`Error::Options`] with everything that is wrong with them: a step that leads backwards or nowhere, two steps
    /// that begin at one version, a gap or an overlap between two steps.
    pub fn new(steps: impl IntoIterator<Item = Step<T>>) -> Result<Self> {
        let mut steps: Vec<Step<T>> = steps.into_iter().collect();
        steps.sort_by_key(|step| (step.from, step.to));
        let ends: Vec<_> = steps.iter().map(|step| (step.from, step.to)).collect();
        let complaints = complaints(&ends);
        if complaints.is_empty() {
            Ok(Self { steps })
        } else {
            Err(Error::Options { what: "migrations".to_owned(), complaints })
        }
    }

    /// Which steps lead from `found` to `wanted`, without doing any. `what` names the data in errors.
    ///
    /// # Errors
    /// [`Error::TooNew`] if `found` is newer than `wanted`; [`Error::Migration`] if it is older than every step.
    pub fn plan(
        &self,
        what: &str,
        found: Version,
        wanted: Version,
    ) -> Result<Vec<(Version, Version)>> {
        let ends: Vec<_> = self.steps.iter().map(|step| (step.from, step.to)).collect();
        let range = range(&ends, what, found, wanted)?;
        Ok(ends.get(range).unwrap_or_default().to_vec())
    }

    /// Brings `value` from version `found` to `wanted`.
    ///
    /// # Errors
    /// Those of [`Self::plan`], before any step is done; [`Error::Migration`] if a step fails. What is stored anywhere
    /// is as it was then.
    pub fn run(&mut self, what: &str, value: T, found: Version, wanted: Version) -> Result<T> {
        self.run_with(what, value, found, wanted, |_, _| Ok(()))
    }

    /// As [`Self::run`], and calls `done` with the value and its version after each step. An error of `done` ends it.
    ///
    /// # Errors
    /// Those of [`Self::run`], and those of `done`.
    pub fn run_with(
        &mut self,
        what: &str,
        mut value: T,
        found: Version,
        wanted: Version,
        mut done: impl FnMut(&T, Version) -> Result<()>,
    ) -> Result<T> {
        let ends: Vec<_> = self.steps.iter().map(|step| (step.from, step.to)).collect();
        let range = range(&ends, what, found, wanted)?;
        for step in self.steps.get_mut(range).unwrap_or_default() {
            value = (step.change)(value).map_err(|source| Error::Migration {
                what: what.to_owned(),
                from: step.from.to_string(),
                to: step.to.to_string(),
                source,
            })?;
            done(&value, step.to)?;
        }
        Ok(value)
    }
}

/// What is wrong with sorted steps, given by their ends.
fn complaints(ends: &[(Version, Version)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (from, to) in ends {
        if to <= from {
            complaints
                .push(format!("the step from {from} to {to} does not lead to a later version"));
        }
    }
    for (before, after) in ends.iter().zip(ends.iter().skip(1)) {
        let (from, to) = after;
        if before.0 == *from {
            complaints.push(format!("two steps begin at {from}"));
        } else if before.1 < *from {
            complaints.push(format!("no step leads from {} to {from}", before.1));
        } else if before.1 > *from {
            let (first, last) = before;
            complaints
                .push(format!("the steps from {first} to {last} and from {from} to {to} overlap"));
        }
    }
    complaints
}

/// Which of the steps, sorted and without gaps, lead from `found` to `wanted`: those that end after the one and not
/// after the other.
fn range(
    ends: &[(Version, Version)],
    what: &str,
    found: Version,
    wanted: Version,
) -> Result<Range<usize>> {
    if found > wanted {
        let (found, known) = (found.to_string(), wanted.to_string());
        return Err(Error::TooNew { what: what.to_owned(), found, known });
    }
    let start = ends.partition_point(|(_, to)| *to <= found);
    let end = ends.partition_point(|(_, to)| *to <= wanted);
    match ends.get(start..end).and_then(<[_]>::first) {
        Some((from, _)) if *from > found => Err(Error::Migration {
            what: what.to_owned(),
            from: found.to_string(),
            to: wanted.to_string(),
            source: format!("the oldest version that any step takes is {from}").into(),
        }),
        _ => Ok(start..end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn steps(ends: &[(&str, &str)]) -> Result<Migrations<Vec<String>>> {
        Migrations::new(ends.iter().map(|(from, to)| {
            let name = format!("{from}>{to}");
            Step::new(version(from), version(to), move |mut done: Vec<String>| {
                done.push(name.clone());
                Ok(done)
            })
        }))
    }

    fn ran(found: &str, wanted: &str) -> Vec<String> {
        // Goal: the order in which steps are given does not matter.
        let mut migrations =
            steps(&[("0.2.0", "0.10.0"), ("0.0.0", "0.1.0"), ("0.1.0", "0.2.0")]).unwrap();
        migrations.run("it", Vec::new(), version(found), version(wanted)).unwrap()
    }

    #[test]
    fn runs_what_is_needed() {
        assert_eq!(ran("0.0.0", "0.10.0"), ["0.0.0>0.1.0", "0.1.0>0.2.0", "0.2.0>0.10.0"]);
        assert_eq!(ran("0.2.0", "0.10.0"), ["0.2.0>0.10.0"]);
        assert_eq!(ran("0.1.7", "0.2.0"), ["0.1.0>0.2.0"]);
        assert_eq!(ran("0.1.0", "0.9.9"), ["0.1.0>0.2.0"]);
        assert_eq!(ran("0.10.0", "0.10.0"), [""; 0]);
        assert_eq!(ran("0.10.0", "9.0.0"), [""; 0]);
    }

    #[test]
    fn refuses_steps_that_make_no_row() {
        for (ends, words) in [
            (&[("0.1.0", "0.1.0")][..], "does not lead"),
            (&[("0.2.0", "0.1.0")], "does not lead"),
            (&[("0.0.0", "0.1.0"), ("0.1.0", "0.0.0")], "does not lead"),
            (&[("0.0.0", "0.1.0"), ("0.0.0", "0.2.0")], "two steps begin at 0.0.0"),
            (&[("0.0.0", "0.1.0"), ("0.0.0", "0.1.0")], "two steps begin at 0.0.0"),
            (&[("0.0.0", "0.1.0"), ("0.2.0", "0.3.0")], "no step leads from 0.1.0 to 0.2.0"),
            (&[("0.0.0", "0.3.0"), ("0.2.0", "0.4.0")], "overlap"),
        ] {
            let error = steps(ends).unwrap_err();
            assert_eq!(error.kind(), "options");
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(steps(&[]).is_ok());
    }

    #[test]
    fn refuses_versions_it_cannot_reach() {
        let migrations = steps(&[("0.1.0", "0.2.0")]).unwrap();
        let plan = |found, wanted| migrations.plan("it", version(found), version(wanted));
        assert_eq!(plan("0.3.0", "0.2.0").unwrap_err().kind(), "too-new");
        assert_eq!(plan("0.0.9", "0.2.0").unwrap_err().kind(), "migration");
        assert_eq!(plan("0.0.9", "0.1.9").unwrap(), []);
        assert_eq!(
            Migrations::<()>::default().plan("it", Version::ZERO, version("3")).unwrap(),
            []
        );
    }

    #[test]
    fn a_failing_step_ends_it() {
        let [a, b, c] = ["0", "1", "2"].map(version);
        let mut migrations = Migrations::new([
            Step::new(a, b, |count: u32| Ok(count + 1)),
            Step::new(b, c, |_| Err("no room".into())),
        ])
        .unwrap();
        let mut seen = Vec::new();
        let done = |count: &u32, version| {
            seen.push((*count, version));
            Ok(())
        };
        let error = migrations.run_with("it", 0, a, c, done).unwrap_err();
        assert_eq!(error.to_string(), "the migration of it from 1.0.0 to 2.0.0 failed: no room");
        assert_eq!(seen, [(1, b)]);
    }
}
