//! What memory is used for, and what is to be done about it.
//!
//! [`thresholds`] are the four shares of a worker's limit as users set them, [`policy`] is the pure state machine that
//! turns samples into decisions, [`process`] reads what the kernel says, [`leak`] tells what stays from what comes and
//! goes, [`overrun`] whether a worker over its limit is to be ended, [`oom`] whether the kernel killed a process for memory, and [`report`] is what users see. The worker
//! (`worker::store`) and the supervisor (`supervisor::core::memory`) carry the decisions out.

pub(crate) mod leak;
pub(crate) mod limit;
pub(crate) mod oom;
pub(crate) mod overrun;
pub(crate) mod policy;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod thresholds;
