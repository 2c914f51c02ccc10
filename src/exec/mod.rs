//! Running graphs in this process.

mod attempt;
mod budget;
mod queries;
pub(crate) mod sync;
pub(crate) mod threads;
