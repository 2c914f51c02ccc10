//! DOC

pub(crate) mod store;
