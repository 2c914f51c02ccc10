//! DOC

pub(crate) mod sizes;
