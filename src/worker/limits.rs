//! Limits of this process that tasks have lowered and that it needs: raised again where that is allowed.
//!
//! Nobody looks at them until something fails for one: a look after each task would cost more than most tasks do.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::sync::OnceLock;

/// What shared memory, and results that are moved to disk, need.
const NEEDED: [Resource; 2] = [Resource::RLIMIT_NOFILE, Resource::RLIMIT_FSIZE];

/// The soft limits that this process had before it ran any task.
static AT_START: OnceLock<[Option<u64>; 2]> = OnceLock::new();

/// Remembers the limits.
pub(super) fn note() {
    AT_START.get_or_init(|| NEEDED.map(|resource| getrlimit(resource).ok().map(|(soft, _)| soft)));
}

/// Raises the limits to what they were, as far as the hard limits go. False if none is raised.
pub(super) fn restore() -> bool {
    let Some(at_start) = AT_START.get() else { return false };
    let mut raised = false;
    for (resource, wanted) in NEEDED.into_iter().zip(at_start) {
        let (Some(wanted), Ok((soft, hard))) = (wanted, getrlimit(resource)) else { continue };
        let wanted = hard.min(*wanted);
        if soft < wanted && setrlimit(resource, wanted, hard).is_ok() {
            log::warn!("a task has lowered {resource:?} to {soft}; it is {wanted} again");
            raised = true;
        }
    }
    raised
}
