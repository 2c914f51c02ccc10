//! The allocator of this process.

/// Has large blocks of memory mapped one by one, so that each goes back to the machine once it is free: those of more than
/// a part of `limit` bytes.
pub(crate) fn return_large(limit: u64) {
    #[cfg(target_env = "gnu")]
    {
        /// The part is one in so many.
        const PART: u64 = 64;
        /// Smaller blocks are used again more cheaply than they are mapped.
        const LEAST: u64 = 1 << 20;
        /// The most that the allocator takes.
        const MOST: u64 = 32 << 20;
        let bytes = (limit / PART).clamp(LEAST, MOST) as nix::libc::c_int;
        // SAFETY: the call sets a number of the allocator, under a lock of its own.
        unsafe { nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, bytes) };
    }
}

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
