//! Everything that touches another process: frames, sockets, shared segments, control pages.
//!
//! Bytes and descriptors travel over a [`socket`] as [`frame`]s. Bulk data lies in [`segment`]s, whose descriptors ride
//! along; a [`buffer`] is a typed view of one, and [`out_of_band`] is how buffers inside any serde value find their segment.
//! [`disk`] is where results lie that memory has no room for, in the form of segments. A [`page`] is a process's
//! noticeboard that outlives it, and the [`ledger`] on the supervisor's page is the budget
//! all segments are taken from.
pub(crate) mod allocator;
pub(crate) mod batch;
pub(crate) mod buffer;
pub(crate) mod captured;
pub(crate) mod clock;
pub(crate) mod cpu_time;
pub(crate) mod disk;
pub(crate) mod event_loop;
pub(crate) mod file_limit;
pub(crate) mod fork;
pub(crate) mod frame;
pub(crate) mod ledger;
pub(crate) mod out_of_band;
pub(crate) mod page;
pub(crate) mod payload;
pub(crate) mod poll_waker;
pub(crate) mod process_tree;
pub(crate) mod ring;
pub(crate) mod segment;
pub(crate) mod signals;
pub(crate) mod sink;
pub(crate) mod socket;
pub(crate) mod start;

#[cfg(test)]
pub(crate) mod testing {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;
    use std::time::{Duration, Instant};

    const CHILD: &str = "SWATH_TEST_CHILD";

    /// Tries until something is so, for a time that no machine needs.
    pub(crate) fn until(mut done: impl FnMut() -> bool) {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Runs one ignored test of this binary in a process of its own, for tests that change process-wide limits.
    /// `wrapper` is a command line put before it.
    pub(crate) fn run_child(wrapper: &[&str], test: &str) {
        let exe = std::env::current_exe().unwrap();
        let mut argv: Vec<&str> = wrapper.to_vec();
        argv.extend([exe.to_str().unwrap(), "--exact", test, "--ignored", "--test-threads=1"]);
        let out = Command::new(argv[0]).args(&argv[1..]).env(CHILD, "1").output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(
            out.status.success() && text.contains("1 passed"),
            "{test}: {}\n{text}\n{}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        );
    }

    /// Whether this is such a process. A helper test does nothing elsewhere.
    pub(crate) fn is_child() -> bool {
        std::env::var_os(CHILD).is_some()
    }
}
