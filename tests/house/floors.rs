//! The table of floors and the lists of exceptions: what is edited when a module comes, moves or goes.

use super::rules::{Floor, House, floor};

/// The modules of `src/`, from the ground up. A module imports only modules of lower floors. `lib.rs` is above them all.
const FLOORS: &[Floor] = &[
    floor(1, &["bytes", "host", "ids", "lazy_map", "resources", "units", "version"]),
    floor(2, &["ipc", "machine"]),
    floor(3, &["task"]),
    floor(4, &["error"]),
    floor(5, &["files", "memory"]),
    floor(6, &["settings", "status"]),
    floor(7, &["coordinator", "fairness", "job"]),
    floor(8, &["graph", "scheduler"]),
    floor(9, &["delayed", "events", "profile"]),
    floor(10, &["message"]),
    floor(11, &["submission"]),
    floor(12, &["exec", "remote"]),
    floor(13, &["supervisor", "worker"]),
    floor(14, &["daemon"]),
    floor(15, &["start"]),
    floor(16, &["client"]),
    floor(17, &["collection", "coordination"]),
    floor(18, &["bag"]),
    floor(19, &["array"]),
    floor(20, &["local"]),
];

/// Modules of the table that do not exist yet. Delete an entry in the commit that makes its module.
const LATER: &[&str] = &["array"];

/// Exceptions: imports of a module on the same floor or above, as (importing module, imported module).
const UPWARD: &[(&str, &str)] = &[];

/// Exceptions: files that have too many lines outside their tests.
const LONG_FILES: &[&str] = &[];

/// Exceptions: files with `unsafe` code outside `UNSAFE_MODULES`.
const UNSAFE_FILES: &[&str] = &[];

/// Exceptions: files that use actors where they should not.
const ACTOR_FILES: &[&str] = &[];

/// Modules, with all that is in them, that may have `unsafe` code.
const UNSAFE_MODULES: &[&str] = &["ipc", "task", "profile::sampler"];

/// Files outside `UNSAFE_MODULES` that may have one unsafe attribute.
const UNSAFE_ATTRIBUTE_FILES: &[&str] = &["start.rs"];

/// Modules, with all that is in them, that may use actors.
const ACTOR_MODULES: &[&str] = &["supervisor", "daemon"];

/// Modules, with all that is in them, that are plain state. They win over `ACTOR_MODULES`.
const PLAIN_MODULES: &[&str] = &["supervisor::core", "supervisor::sim", "scheduler", "graph"];

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
