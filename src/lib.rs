//! Lazy task graphs, run in parallel: in worker processes, on threads, or in the calling thread.

#[cfg(not(target_os = "linux"))]
compile_error!("swath runs on Linux only: it passes shared memory between processes as sealed memfds");

mod client;
mod cluster;
mod delayed;
mod error;
mod graph;
mod ids;
mod ipc;
pub mod local;
mod message;
mod protocol;
mod run;
mod scheduler;
mod task;
mod worker;
mod worker_local;

pub use client::StartMethod;
pub use client::{
    AsCompleted, Awaited, Builder, Client, Computable, Future, MemoryLimit, Mode, Progress, RestartPolicy, Results,
    RunningTask, Status, WaitFor, WorkerInfo, WorkerState,
};
pub use delayed::{Delayed, Fallible, IntoArg, Lazy, Signature, TrySignature, delayed, try_delayed, value};
pub use error::{Cause, DeathCause, DeathRecord, Error, Result, ReturnedError, TaskError};
pub use ipc::buffer::{Buffer, BufferError, BufferMut, Element};
pub use ipc::start::init;
pub use local::{WorkerSize, describe_sizes};
pub use run::context::{TaskInfo, cancelled, current_client, current_task, set_progress};
pub use task::Data;
pub use task::function::{TaskFunction, TryTaskFunction};
pub use worker_local::WorkerLocal;

/// What public traits mention and no user needs.
#[doc(hidden)]
pub mod internal {
    pub use crate::client::output::Output;
    pub use crate::graph::node::{Arg, Node};
    pub use crate::task::function::{Args, Record};
}

/// For the benchmark program of this package; no part of the interface.
#[doc(hidden)]
pub mod bench {
    /// Runs `n` tasks that do nothing through the scheduler alone; gives the number of results.
    pub fn drive_noops(n: u32) -> u64 {
        crate::scheduler::drive_noops(n)
    }
}
