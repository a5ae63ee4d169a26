//! Every finding of a check, produced and repaired.
