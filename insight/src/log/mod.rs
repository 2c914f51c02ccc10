//! The saved log: what a run did, in one file.
//!
//! A [`Writer`] writes it, at once or continuously; [`SavedLog`] reads it, also one of format 1, and makes of it a
//! [`Summary`], a trace for Perfetto, JSON lines, and CSV.
//!
//! # Format 2
//!
//! A log is a head and chunks. Numbers are little-endian.
//!
//! | head | bytes |
//! |---|---|
//! | magic: B5, `SWATHLG` | 8 |
//! | major and minor number of the format | 2 + 2 |
//! | length of the JSON | 4 |
//! | JSON: version of swath, build, start by both clocks, machine | |
//! | XXH3 of all that | 8 |
//!
//! | chunk | bytes |
//! |---|---|
//! | mark: AB, `CHK` | 4 |
//! | kind, flags (0) | 2 + 2 |
//! | how many rows, how many bytes of payload | 4 + 4 |
//! | earliest and latest time in it, in nanoseconds since the start | 8 + 8 |
//! | XXH3 of the payload | 8 |
//! | XXH3 of the header, with its place in the file as the seed | 8 |
//! | payload | |
//!
//! A payload is columns: number, packing (0 as it is, 1 deflated), length unpacked and packed, bytes. Runs have a column a
//! field, as differences to what is near; seldom things are JSON objects, a line each. Every chunk has the names that its
//! rows use, so **each stands alone**: a file that is cut off anywhere opens up to its last whole chunk, a flipped bit costs
//! one chunk, a kind that is not known is stepped over. The last chunk of a log that was ended in order says so.
//!
//! There are no values of arguments or results in it, no environment and no command line; what tasks print and note is.

mod chunk;
mod columns;
mod error;
mod event;
mod export;
mod fold;
mod format1;
mod head;
pub(crate) mod nanos;
mod packed;
mod rows;
mod run;
mod run_rows;
mod saved;
mod summary;
mod target;
mod time_use;
mod writer;

#[cfg(test)]
mod tests;

pub use chunk::ChunkKind;
pub use error::LogError;
pub use event::{Event, EventKind};
pub use head::{Head, Machine};
pub use rows::{Folded, Input};
pub use run::{Outcome, Run};
pub(crate) use run::{key, parse_key};
pub use saved::{ChunkInfo, Ending, SavedLog};
pub(crate) use summary::plain;
pub use summary::{Cost, GroupSummary, NameCost, Summary};
pub use target::{Stream, Target};
pub use time_use::{MemorySample, ThreadTime, TimeByUse, Use};
pub use writer::{Writer, WriterState};

/// The newest format that this version reads, and the one that it writes.
pub const FORMAT: u32 = 2;
