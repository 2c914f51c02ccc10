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

// How it works:
//
// - **Described by the client, read by tasks.** Patterns are expanded and sizes read when a reader is called;
//   what goes to a task is a `Block`: file, range, size and version as listed, and settings. A task that finds another
//   size or version fails, since the blocks of one file would no longer be parts of one text.
// - **Blocks agree without talking.** A block has the lines that begin in its range. Both ends are found by one rule
//   (the first end of a line that ends at the cut or behind it), so neighbours find the same place. Where a delimiter
//   can overlap itself that rule depends on where one starts, so such files are not split; nor are compressed ones.
// - **Lines are slices of a chunk.** A chunk of whole lines is checked to be UTF-8 at once and handed out in slices.
//   Only where that fails, and in other encodings, lines are decoded one by one, so that the bad one is told with its
//   place and reading goes on behind it. CSV goes through the same lines, and remembers where those of the current
//   record came from.
// - **Quotes are counted in advance.** A quoted field of CSV may hold line ends, so where a record begins depends on all
//   quotes before. One task for each block says what the block does to a quoted field that is or is not open before it,
//   and a chain of tiny ones puts that together, so that each block is read only once it is known, the first at once.
// - **Nobody counts lines in advance.** A block in the middle of a file counts the lines before it when an error needs
//   the number.
// - **A file is there as a whole or not at all.** Writers write to a file that has no name before the end (a hidden
//   one, `.swath-…`, where the file system cannot do that), or to an upload that is completed; a pass that has failed
//   looks to the writer like the end of the elements, so it asks before it finishes. What cannot be replaced, a device, a
//   pipe or a socket, is written through.
// - **Object stores have an event loop of their own**, one thread for each process that uses one: see the head of
//   `files/object.rs`.

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
mod replace;
mod source;

pub use crate::error::file::{BadRecord, FileError, FileProblem, Place};
pub use crate::units::Compression;
pub use block::Block;
pub use lines::Lines;
pub(crate) use local::open_file;
pub use output::{Output, OutputFile, Writer};
pub(crate) use replace::{write_private, write_whole};
pub use source::Files;
