//! Trials by adversaries: what broke once, and everything that could break in the same way.

mod places; // names that mean something else by now: working directories, renamed and emptied directories, links
