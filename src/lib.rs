//! swath
mod error;
mod ids;
mod ipc;
mod protocol;
mod scheduler;
pub use error::{DeathCause, DeathRecord};
