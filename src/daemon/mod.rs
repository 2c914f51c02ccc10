//! DOC

pub(crate) mod actor;
pub(crate) mod connect;
pub(crate) mod executable;
pub(crate) mod janitor;
pub(crate) mod paths;
pub(crate) mod session;
