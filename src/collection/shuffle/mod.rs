//! Elements by key: from the chunks that have them to the chunks that they belong to.

pub(crate) mod store;
