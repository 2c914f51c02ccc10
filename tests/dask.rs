//! Collections and futures against those of Dask: the same operations on the same inputs, there in Python and here in every
//! mode.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod dask {
    pub mod bag;
    pub mod client;
    pub mod coordination;
    pub mod files;
    pub mod published;
    pub mod python;
    pub mod workers;
}
