//! Files of lines and records: which there are, how they are split among tasks, and how tasks read and write them.
//!
//! [`Files`] names files, here or in an object store, and says how they are read. It is what the readers of collections
//! take; a path, or a list of paths, is one. [`Files::blocks`] makes small descriptions, [`Block`]s, that can be arguments
//! of any task, which reads the [`Lines`] of its block. [`Output`] says where results are written.
//!
//! ```
//! use swath::files::{Block, FileError, Files};
//! use swath::{Client, Delayed, try_delayed};
//!
//! fn count_words(block: Block) -> Result<usize, FileError> {
//!     let mut words = 0;
//!     block.lines()?.for_each(|line| words += line.split_whitespace().count())?;
//!     Ok(words)
//! }
//!
//! # let dir = tempfile::tempdir()?;
//! # let folder = dir.path().display();
//! std::fs::write(dir.path().join("a.txt"), "to be or\nnot to be\n")?;
//! std::fs::write(dir.path().join("b.txt"), "that is the question\n")?;
//! let blocks = Files::new(format!("{folder}/*.txt")).blocksize(10).blocks()?;
//! assert_eq!(blocks.len(), 5);
//! let counts = try_delayed(count_words).map(blocks);
//! let total = counts.iter().sum::<Delayed<usize>>();
//! assert_eq!(total.compute(&Client::threads(2))?, 10);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod block;
mod codec;
mod delimiter;
mod encoding;
pub(crate) mod formats;
mod lines;
mod local;
mod location;
#[cfg(feature = "object-store")]
mod multipart;
#[cfg(feature = "object-store")]
mod object;
mod output;
mod pattern;
mod source;

pub use crate::error::file::{BadRecord, FileError, FileProblem, Place};
pub use crate::units::Compression;
pub use block::Block;
pub use lines::Lines;
pub(crate) use local::open_file;
pub use output::{Output, OutputFile, Writer};
pub use source::Files;
