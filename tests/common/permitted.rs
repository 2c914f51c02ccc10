//! What not every machine permits its tests.

use std::fmt::Display;
use std::io::Write;
use std::process::{Command, Stdio};

/// Says, whatever is captured, that the calling test tests nothing here. Where `SWATH_TEST_ALL` is set, it fails.
pub fn skip(reason: impl Display) {
    let thread = std::thread::current();
    let words = format!("SKIPPED {}: {reason}", thread.name().unwrap_or("a test"));
    std::io::stderr().write_all(format!("{words}\n").as_bytes()).unwrap();
    assert!(std::env::var_os("SWATH_TEST_ALL").is_none(), "{words}");
}

/// The arguments of `unshare` for a mount namespace of one's own, as oneself or else as root of a user namespace.
pub fn mount_namespace() -> Option<&'static str> {
    let may = |how: &&str| succeeds(Command::new("unshare").args([how, "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]));
    ["-m", "-Urm"].into_iter().find(may)
}

/// A command line before another, which then runs as a user who has no processes.
pub fn as_another_user() -> Option<[&'static str; 4]> {
    let wrapper = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"];
    succeeds(Command::new(wrapper[0]).args(&wrapper[1..]).arg("true")).then_some(wrapper)
}

fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}
