//! The table of floors and the lists of exceptions: what is edited when a module comes, moves or goes.

use super::rules::{Floor, House, floor};

/// The modules of `src/`, from the ground up. A module imports only modules of lower floors. `lib.rs` is above them all.
const FLOORS: &[Floor] = &[
    floor(1, &["bytes", "ids", "units", "version"]),
    floor(2, &["ipc"]),
    floor(3, &["task"]),
    floor(4, &["error"]),
    floor(5, &["files", "memory"]),
    floor(6, &["settings", "status"]),
    floor(7, &["job"]),
    floor(8, &["graph", "scheduler"]),
    floor(9, &["delayed", "events"]),
    floor(10, &["message"]),
    floor(11, &["submission"]),
    floor(12, &["exec", "remote"]),
    floor(13, &["supervisor", "worker"]),
    floor(14, &["daemon"]),
    floor(15, &["start"]),
    floor(16, &["client"]),
    floor(17, &["collection"]),
    floor(18, &["bag"]),
    floor(19, &["array"]),
    floor(20, &["local"]),
    // Modules that go stand on their successor's floor meanwhile. Delete a row with its module.
    floor(3, &["worker_local"]),
    floor(7, &["protocol"]),
    floor(12, &["run"]),
    floor(13, &["cluster"]),
];

/// Modules of the table that do not exist yet. Delete an entry in the commit that makes its module.
const LATER: &[&str] = &[
    "array",
    "collection",
    "daemon",
    "exec",
    "job",
    "remote",
    "settings",
    "start",
    "status",
    "submission",
    "supervisor",
    "units",
];

/// Exceptions: imports of a module on the same floor or above, as (importing module, imported module).
const UPWARD: &[(&str, &str)] = &[
    ("client", "local"),
    ("cluster", "client"),
    ("delayed", "client"),
    ("error", "client"),
    ("error", "files"),
    ("files", "run"),
    ("graph", "client"),
    ("graph", "delayed"),
    ("ipc", "events"),
    ("ipc", "local"),
    ("ipc", "protocol"),
    ("ipc", "worker"),
    ("memory", "client"),
    ("message", "client"),
    ("message", "cluster"),
    ("message", "local"),
    ("run", "client"),
    ("run", "cluster"),
    ("task", "memory"),
    ("task", "protocol"),
    ("worker", "client"),
];

/// Exceptions: files that have too many lines outside their tests.
const LONG_FILES: &[&str] = &["client/mod.rs", "run/threads.rs", "worker/mod.rs"];

/// Exceptions: files with `unsafe` code outside `UNSAFE_MODULES`.
const UNSAFE_FILES: &[&str] = &[];

/// Exceptions: files that use actors where they should not.
const ACTOR_FILES: &[&str] = &["cluster/supervisor/core/lives.rs", "cluster/supervisor/core/mod.rs"];

/// Modules, with all that is in them, that may have `unsafe` code.
const UNSAFE_MODULES: &[&str] = &["ipc", "task"];

/// Files outside `UNSAFE_MODULES` that may have one unsafe attribute.
const UNSAFE_ATTRIBUTE_FILES: &[&str] = &["start.rs"];

/// Modules, with all that is in them, that may use actors. The last two are the supervisor and the daemon of today.
const ACTOR_MODULES: &[&str] = &["supervisor", "daemon", "cluster", "local"];

/// Modules, with all that is in them, that are plain state. They win over `ACTOR_MODULES`.
const PLAIN_MODULES: &[&str] =
    &["supervisor::core", "supervisor::sim", "scheduler", "graph", "cluster::supervisor::core"];

pub const HOUSE: House = House {
    floors: FLOORS,
    later: LATER,
    known_import: Some(("scheduler", "ids")),
    max_lines: 700,
    unsafe_modules: UNSAFE_MODULES,
    unsafe_attribute_files: UNSAFE_ATTRIBUTE_FILES,
    actor_modules: ACTOR_MODULES,
    plain_modules: PLAIN_MODULES,
    upward: UPWARD,
    long_files: LONG_FILES,
    unsafe_files: UNSAFE_FILES,
    actor_files: ACTOR_FILES,
};
