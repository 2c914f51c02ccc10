//! What a run of swath did, as data: counts of tasks by state, and what is made of them.
//!
//! The types here know no actor, no socket and no process: `swath` fills them while it runs, and a program can use this
//! crate alone to read what was saved.

mod counts;
pub mod diagnosis;
mod ended;
pub mod explain;
pub mod log;
mod pace;
pub mod palette;
pub mod picture;
pub mod profile;
pub mod report;
pub mod source;

/// The sources of the types that processes of swath send each other: these processes compare them.
#[doc(hidden)]
pub const SENT: [&[u8]; 2] = [include_bytes!("counts.rs"), include_bytes!("explain/mod.rs")];

pub use counts::{Counts, GroupProgress, Progress, TaskState, Totals};
pub use ended::{ENDED_GRAPHS, EndedGroups, NAMES, OTHER_NAMES};
pub use pace::{Pace, RATE_WINDOW};
