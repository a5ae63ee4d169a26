//! Space back from sealed segments. So far only the policy: which segments, and where the survivors go.
pub(crate) mod policy;
