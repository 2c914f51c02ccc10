//! How memory is used and measured: the report of a client's workers, and sizes of values.
//!
//! [`Client::memory`](crate::Client::memory) gives a [`MemoryReport`]. Values say their size themselves: [`size_of_value`] is what
//! they say, and [`report_size`] is how a type says that it holds more than it serialises.

// `thresholds` are the four shares of a worker's limit as users set them, `policy` is the pure state machine that turns
// samples into decisions, `process` reads what the kernel says, `family` that of a worker with what its tasks have started, `leak` tells what stays from what comes and goes, `overrun`
// whether a worker over its limit is to be ended, `oom` whether the kernel killed a process for memory, and `report` is
// what users see. The worker (`worker::store`) and the supervisor (`supervisor::core::memory`) carry the decisions out.
pub(crate) mod family;
pub(crate) mod leak;
pub(crate) mod limit;
pub(crate) mod oom;
pub(crate) mod overrun;
pub(crate) mod policy;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod thresholds;

pub use crate::task::size::{report_size, size_of_value};
pub use limit::MemoryLimit;
pub use report::{MemoryReport, WorkerMemory};
