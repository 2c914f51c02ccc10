//! The hard limit of what private memory this process may have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::sync::OnceLock;

/// Bytes of address space for a thread's stack and its share of the allocator.
const STACKS: u64 = 8 << 20;
/// What a thread's stack takes beside it.
const BESIDE_STACK: u64 = 256 << 10;

/// The limit, and for how many threads it has room.
static CAP: OnceLock<(u64, usize)> = OnceLock::new();

/// The stack of the first thread that runs tasks, in bytes: what the main thread of a program has.
pub(super) fn main_stack() -> u64 {
    getrlimit(Resource::RLIMIT_STACK).map_or(STACKS, |(soft, _)| soft.clamp(STACKS / 4, 8 * STACKS))
}

/// Makes the memory limit hard: an allocation that goes far beyond it fails, which ends the worker and not the machine.
///
/// The kernel counts private memory that can be written, touched or not, so stacks and the allocator's reserves need
/// room of their own. Shared segments are not counted; they have a budget of their own.
pub(super) fn set(limit: u64, threads: usize) {
    let room = limit / 5 + STACKS * (threads as u64 + 4) + main_stack();
    let cap = limit.saturating_add(room);
    CAP.get_or_init(|| (cap, threads));
    lower_to(cap);
}

/// There may be so many threads that run tasks, or wait in them: their stacks are not what tasks take.
pub(super) fn make_room(threads: usize) {
    let Some((cap, had)) = CAP.get() else { return };
    let stack = std::env::var("RUST_MIN_STACK").ok().and_then(|bytes| bytes.parse().ok()).unwrap_or(STACKS / 4);
    let more = (stack + BESIDE_STACK).saturating_mul(threads.saturating_sub(*had) as u64);
    lower_to(cap.saturating_add(more));
}

/// It stays below what it may be raised to.
fn lower_to(cap: u64) {
    let set =
        getrlimit(Resource::RLIMIT_DATA).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_DATA, cap.min(hard), hard));
    if let Err(e) = set {
        log::warn!("the memory limit cannot be made hard: {e}");
    }
}
