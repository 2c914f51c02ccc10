//! How deep values may be nested: `Serialize` and `Deserialize` go as deep into the stack as a value is nested, and a stack
//! that overflows ends its process.
//!
//! Levels are counted where a type can contain itself: options, variants, lists and maps. A few levels always fit; beyond
//! them each one looks how much of the thread's stack is left.

use nix::libc;
use std::cell::Cell;
use std::mem::MaybeUninit;

/// So many levels are not looked at.
const SHALLOW: u32 = 64;
/// As many fit on a stack whose size is not known.
const MODEST: u32 = 1000;
/// Bytes of stack that must be left for another level and what it calls.
const RESERVE: usize = 128 * 1024;

thread_local! {
    /// The addresses between which a thread's stack has room for another level; both 0 until they are looked up.
    static ROOM: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Whether a value may be walked as deep as that.
#[inline]
pub(crate) fn fits(depth: u32) -> bool {
    depth <= SHALLOW || fits_stack(depth)
}

#[cold]
#[inline(never)]
fn fits_stack(depth: u32) -> bool {
    let here = 0_u8;
    let here = &raw const here as usize;
    if ROOM.get() == (0, 0) {
        // Without bounds, no address is between them.
        ROOM.set(room().unwrap_or((1, 0)));
    }
    let (low, high) = ROOM.get();
    // Code may run on a stack of its own, which is no thread's.
    let is_known = high > 0 && (low.saturating_sub(2 * RESERVE)..high).contains(&here);
    if is_known { here >= low } else { depth <= MODEST }
}

/// The part of this thread's stack in which another level may begin.
fn room() -> Option<(usize, usize)> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut start, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the attributes are written before they are read, and destroyed once; the pointers are to variables of this
    // function; the thread is this one, which is alive.
    let got = unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return None;
        }
        let got = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut start, &raw mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        got
    };
    let start = start as usize;
    (got == 0).then(|| (start + RESERVE.min(size / 4), start + size))
}

/// What is said of a value that is nested deeper than it can be walked.
pub(crate) fn too_deep(depth: u32) -> String {
    format!(
        "it is nested deeper than this thread's stack has room for, at level {depth}: hold it flat, for example as a list \
         whose elements name each other by index, or give the thread a larger stack (workers: \
         `worker_env(\"RUST_MIN_STACK\", …)`)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth_on_a_stack_of(bytes: usize) -> u32 {
        fn deeper(depth: u32) -> u32 {
            // So little that the levels that are not looked at fit the smallest stack, also where a sanitizer makes frames larger.
            let ballast = std::hint::black_box([depth; 64]);
            if fits(depth) { deeper(depth + 1).max(ballast[7]) } else { depth }
        }
        std::thread::Builder::new().stack_size(bytes).spawn(|| deeper(0)).expect("starts").join().expect("ends well")
    }

    #[test]
    fn the_depth_is_that_of_the_stack() {
        let (small, usual, large) = (1 << 18, 1 << 21, 1 << 24);
        let [small, usual, large] = [small, usual, large].map(depth_on_a_stack_of);
        assert!(small > SHALLOW && usual > 4 * small && large > 4 * usual, "{small} {usual} {large}");
    }
}
