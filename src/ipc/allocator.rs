//! The allocator of this process.

/// Gives memory that is free back to the machine: what the allocator keeps looks like use from outside.
///
/// Takes up to a tenth of a second for a gigabyte.
pub(crate) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes the allocator's own locks, and touches only memory that nobody has.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
