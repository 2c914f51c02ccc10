//! Runs graphs in this process: the modes sync and threads.

mod attempt;
mod budget;
mod queries;
pub(crate) mod sync;
pub(crate) mod threads;
