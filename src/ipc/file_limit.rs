//! How long a file of this process may be.

use nix::sys::resource::{Resource, getrlimit};

/// Bytes that a file of this process may have, by `ulimit -f`. A process that makes one longer is sent a signal that ends
/// it, and whether it is to be ended is not for a library to change: so this is looked at first.
pub(crate) fn longest_file() -> u64 {
    getrlimit(Resource::RLIMIT_FSIZE).map_or(u64::MAX, |(soft, _)| soft)
}
