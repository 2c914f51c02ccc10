//! The process of a local cluster: an actor that lets programs in, and how programs reach it.

pub(crate) mod actor;
mod commands;
pub(crate) mod connect;
pub(crate) mod executable;
mod explain;
pub(crate) mod janitor;
pub(crate) mod paths;
mod recording;
pub(crate) mod serve;
pub(crate) mod session;
