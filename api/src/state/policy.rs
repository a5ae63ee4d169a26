//! When a state is saved while it is in use: what a policy sees, and how several become one.

use std::{
    fmt,
    ops::{BitAnd, BitOr, Not},
    time::Duration,
};

use tierce_engine::Timestamp;

/// What a [`SavePolicy`] decides by. All of it is as of now.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Moment {
    /// Whether the state changed since it was saved or loaded.
    pub dirty: bool,
    /// Whether a reading was published in this turn.
    pub published: bool,
    /// Whether a handler's turn just ended; `false` if the policy asked to be asked ([`SavePolicy::wake_at`]).
    pub turn: bool,
    /// A moment of a clock that never goes back. Only differences mean something.
    pub now: Timestamp,
    /// How many changes there were since it was saved or loaded.
    pub changes: u64,
    /// About how many bytes they brought.
    pub bytes: u64,
    /// How long ago it was saved, or else loaded.
    pub since_save: Duration,
}

/// Decides when a state is saved, beyond the save at a graceful stop, which always is. A clean state is not written
/// whatever a policy says.
///
/// ```
/// use tierce::state::{Moment, OnPublish, Policy, SavePolicy};
///
/// #[derive(Debug)]
/// struct AtNight;
///
/// impl SavePolicy for AtNight {
///     fn should_save(&mut self, moment: &Moment) -> bool {
///         moment.now.0 / 3_600_000 % 24 < 6
///     }
/// }
/// let policy = Policy::from(AtNight) & OnPublish;
/// assert_eq!(format!("{policy:?}"), "AtNight & OnPublish");
/// ```
pub trait SavePolicy: fmt::Debug + Send + 'static {
    /// Whether to save now. Asked once after each turn of a handler, failed or not, and whatever the other members of
    /// a composition say, so that one that counts can count.
    fn should_save(&mut self, moment: &Moment) -> bool;

    /// The state was saved: waiting begins anew.
    fn saved(&mut self) {}

    /// When to ask again though no turn ended; in the time of [`Moment::now`].
    fn wake_at(&self) -> Option<Timestamp> {
        None
    }
}

/// A save policy, alone or composed with `|`, `&` and `!`.
///
/// ```
/// use tierce::state::{OnChange, OnPublish, OnShutdown, Policy};
/// let safest = OnPublish | OnChange;
/// assert_eq!(format!("{safest:?}"), "OnPublish | OnChange");
/// assert_eq!(format!("{:?}", (safest | OnShutdown) & OnChange), "(OnPublish | OnChange | OnShutdown) & OnChange");
/// ```
pub struct Policy(Node);

enum Node {
    One(Box<dyn SavePolicy>),
    Not(Box<Policy>),
    /// Two or more; none of them is `Any`.
    Any(Vec<Policy>),
    /// Two or more; none of them is `All`.
    All(Vec<Policy>),
}

impl<P: SavePolicy> From<P> for Policy {
    fn from(policy: P) -> Self {
        Self(Node::One(Box::new(policy)))
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (members, between) = match &self.0 {
            Node::One(policy) => return policy.fmt(f),
            Node::Not(policy) if policy.members().is_empty() => return write!(f, "!{policy:?}"),
            Node::Not(policy) => return write!(f, "!({policy:?})"),
            Node::Any(members) => (members, " | "),
            Node::All(members) => (members, " & "),
        };
        for (at, member) in members.iter().enumerate() {
            if at > 0 {
                f.write_str(between)?;
            }
            if member.members().is_empty() {
                member.fmt(f)?;
            } else {
                write!(f, "({member:?})")?;
            }
        }
        Ok(())
    }
}

impl Policy {
    /// Whether to save now; see [`SavePolicy::should_save`].
    pub fn should_save(&mut self, moment: &Moment) -> bool {
        match &mut self.0 {
            Node::One(policy) => policy.should_save(moment),
            Node::Not(policy) => !policy.should_save(moment),
            // Every member is asked: neither `any` nor `all`, which stop early.
            Node::Any(members) => {
                members.iter_mut().fold(false, |any, member| member.should_save(moment) | any)
            }
            Node::All(members) => {
                members.iter_mut().fold(true, |all, member| member.should_save(moment) & all)
            }
        }
    }

    /// Tells every member that the state was saved.
    pub fn saved(&mut self) {
        match &mut self.0 {
            Node::One(policy) => policy.saved(),
            Node::Not(policy) => policy.saved(),
            Node::Any(members) | Node::All(members) => members.iter_mut().for_each(Self::saved),
        }
    }

    /// The earliest moment that a member wants to be asked at.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        match &self.0 {
            Node::One(policy) => policy.wake_at(),
            Node::Not(policy) => policy.wake_at(),
            Node::Any(members) | Node::All(members) => {
                members.iter().filter_map(Self::wake_at).min()
            }
        }
    }

    /// The members of a composition with `|` or `&`.
    #[must_use]
    pub fn members(&self) -> &[Self] {
        match &self.0 {
            Node::Any(members) | Node::All(members) => members,
            Node::One(_) | Node::Not(_) => &[],
        }
    }
}

impl<R: Into<Policy>> BitOr<R> for Policy {
    type Output = Self;

    fn bitor(self, right: R) -> Self {
        let mut members = Vec::new();
        for side in [self, right.into()] {
            match side.0 {
                Node::Any(inner) => members.extend(inner),
                other => members.push(Self(other)),
            }
        }
        Self(Node::Any(members))
    }
}

impl<R: Into<Policy>> BitAnd<R> for Policy {
    type Output = Self;

    fn bitand(self, right: R) -> Self {
        let mut members = Vec::new();
        for side in [self, right.into()] {
            match side.0 {
                Node::All(inner) => members.extend(inner),
                other => members.push(Self(other)),
            }
        }
        Self(Node::All(members))
    }
}

impl Not for Policy {
    type Output = Self;

    fn not(self) -> Self {
        match self.0 {
            Node::Not(inner) => *inner,
            other => Self(Node::Not(Box::new(Self(other)))),
        }
    }
}
