//! Lazy task graphs, run in parallel: in worker processes, on threads, or in the calling thread.
//!
//! Describe work with [`delayed`](fn@delayed), open one [`Client`], and compute:
//!
//! ```
//! use swath::{Client, delayed};
//!
//! fn square(x: u64) -> u64 {
//!     x * x
//! }
//!
//! let squares = delayed(square).map(0..10_u64);
//! let total = squares.iter().sum::<swath::Delayed<u64>>();
//!
//! let client = Client::local(2, 1, "512MB")?; // or Client::threads(4), Client::sync()
//! assert_eq!(client.compute(&total)?, 285);
//! # Ok::<(), swath::Error>(())
//! ```
//!
//! * [`delayed`](fn@delayed) and [`try_delayed`] wrap functions; [`Delayed`] has operators and can be an argument of more calls.
//! * [`Client::compute`] waits for values, [`Client::persist`] keeps them with the workers, [`Client::submit`] and
//!   [`Client::map`] give [`Future`]s, which can be waited for in blocking and in async code under any runtime.
//! * [`Bag`] is a sequence in partitions, for text, JSON, logs and records.
//! * [`files`] are read and written by tasks: split, compressed, here or in an object store.
//! * [`Buffer`] is for large arrays of numbers: they cross processes in shared memory, without a copy.
//! * [`WorkerLocal`] is for what is costly to build and wanted once per process.
//! * [`Delayed::visualize`] and [`client::picture`] draw graphs: what would run, and how it ran.
//! * [`current_client`] lets a task submit tasks; [`cancelled`] tells it to stop.
//!
//! # Features
//!
//! | feature | what it gives | what it costs |
//! |---|---|---|
//! | `compression` (default) | compressed [`files`]: gzip, zstd, bzip2, xz | 9 crates, of which three compile C |
//! | `progress` (default) | progress bars: [`Client::progress_bars`] | 5 small crates |
//! | `object-store` | [`files`] at `s3://`, `gs://`, `az://`, `http://`, `https://` | about 85 crates, with a TLS library |
//! | `ndarray` | views of a [`Buffer`] as arrays of `ndarray` | 5 crates |
//! | `picture-png` | pictures of graphs as PNG | about 40 crates, and a font of 59 kB |
//! | `complex` | complex numbers as elements of a [`Buffer`] | 1 crate |
//!
//! Features only add. Types of `serde`, `serde_json` ([`Json`]), and with their features `ndarray` and `num-complex` are part of
//! the interface: a new major version of one of them is a new one of this crate.
//!
//! A worker process is this program started again, so nothing has to be registered or configured. Linux only.
//! `ARCHITECTURE.md` in the repository says how it works.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(target_os = "linux"))]
compile_error!("swath runs on Linux only: it passes shared memory between processes as sealed memfds");

pub mod bag;
mod bytes;
pub mod client;
pub mod collection;
pub mod coordination;
mod coordinator;
mod daemon;
pub mod delayed;
pub mod error;
pub mod events;
mod exec;
mod fairness;
pub mod files;
mod graph;
mod host;
mod ids;
mod ipc;
mod job;
mod lazy_map;
pub mod local;
mod machine;
pub mod memory;
mod message;
mod profile;
mod remote;
mod resources;
mod scheduler;
mod settings;
mod start;
pub mod status;
mod submission;
mod supervisor;
pub mod task;
mod units;
mod version;
mod worker;

pub mod buffer {
    //! Arrays of numbers that cross processes in shared memory.

    pub use crate::ipc::buffer::{Buffer, BufferError, BufferMut, Element};
}

// What nearly every program names. All else is in the modules above; `tests/house.rs` holds the number of names.
#[doc(inline)]
pub use bag::Bag;
#[doc(inline)]
pub use buffer::Buffer;
#[doc(inline)]
pub use client::{Client, Future, current_client};
#[doc(inline)]
pub use delayed::{Delayed, delayed, try_delayed};
#[doc(inline)]
pub use error::{Error, Result};
#[doc(inline)]
pub use task::{Data, cancelled};

// Where the rest was before; these names stay for one release.
#[doc(hidden)]
pub use bag::{BagError, BagIter, Counter, Csv, Elements, Json, JsonError, Pluck};
#[doc(hidden)]
pub use buffer::{BufferError, BufferMut, Element};
#[doc(hidden)]
pub use client::note;
#[doc(hidden)]
pub use client::{
    AdaptOptions, Adaptive, AsCompleted, Awaited, Builder, CompletedAhead, Computable, ComputeOptions, Failing,
    MapAhead, RestartPolicy, Results, StartMethod, Status, WaitFor, init,
};
#[doc(hidden)]
#[expect(deprecated, reason = "the old name stays for one release")]
pub use delayed::Lazy;
#[doc(hidden)]
pub use delayed::{
    DelayedFn, Fallible, IntoArg, IntoError, KeepError, Signature, TaskFunction, TrySignature, TryTaskFunction, value,
};
#[doc(hidden)]
pub use error::{Cause, DeathCause, DeathRecord, LogLine, OutputStream, ReturnedError, TaskBacktrace, TaskError};
#[doc(hidden)]
pub use events::label;
#[doc(hidden)]
pub use events::{Event, EventKind, EventLog};
#[doc(hidden)]
pub use local::{WorkerSize, describe_sizes};
#[doc(hidden)]
pub use memory::{MemoryLimit, MemoryReport, WorkerMemory, report_size, size_of_value};
#[doc(hidden)]
pub use status::{Explanation, Mode, Progress, RunningTask, WorkerInfo, WorkerState};
#[doc(hidden)]
pub use task::{TaskInfo, WorkerLocal, current_task, progress, set_progress};

/// For the benchmark program of this workspace; no part of the interface.
#[doc(hidden)]
pub mod bench {
    /// Runs `n` tasks that do nothing through the scheduler alone, with so many workers; gives the number of results.
    #[must_use]
    pub fn drive_noops(n: u32, workers: u32) -> u64 {
        crate::scheduler::drive_noops(n, workers)
    }
}

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

/// So are those of the guide.
#[cfg(doctest)]
#[doc = include_str!("../docs/GUIDE.md")]
pub struct GuidePage;

/// So are those of the page on memory.
#[cfg(doctest)]
#[doc = include_str!("../docs/MEMORY.md")]
pub struct MemoryPage;

/// What users keep in their own types and print there.
#[cfg(test)]
mod traits {
    use super::*;
    use std::fmt::Debug;

    const fn any_thread<T: Send + Sync + Debug>() {}
    const fn one_thread<T: Send + Debug>() {}

    const _: () = {
        any_thread::<Client>();
        any_thread::<Builder>();
        any_thread::<Future<u8>>();
        any_thread::<Delayed<u8>>();
        any_thread::<DelayedFn<fn(), Fallible<fn()>>>();
        any_thread::<Bag<u8>>();
        any_thread::<collection::Chunks<u8>>();
        any_thread::<Buffer<f64>>();
        any_thread::<BufferMut<f64>>();
        any_thread::<WorkerLocal<u8>>();
        any_thread::<files::Files>();
        any_thread::<files::Output>();
        any_thread::<files::Block>();
        any_thread::<Csv>();
        any_thread::<Error>();
        any_thread::<TaskError>();
        any_thread::<ReturnedError>();
        any_thread::<Cause>();
        any_thread::<DeathRecord>();
        any_thread::<BagError>();
        any_thread::<files::FileError>();
        any_thread::<MemoryLimit>();
        any_thread::<MemoryReport>();
        any_thread::<WorkerInfo>();
        any_thread::<client::ProgressOf>();
        any_thread::<client::WatchProgress>();
        any_thread::<WorkerSize>();
        any_thread::<local::ClusterStatus>();
        any_thread::<EventLog>();
        any_thread::<Explanation>();
        any_thread::<client::picture::Picture>();
        any_thread::<LogLine>();
        any_thread::<TaskBacktrace>();
        one_thread::<AsCompleted<u8>>();
        one_thread::<Awaited<u8>>();
        one_thread::<BagIter<u8>>();
        one_thread::<collection::ChunkIter<u8>>();
    };
}
