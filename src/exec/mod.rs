//! Runs graphs in this process: the modes sync and threads.

mod attempt;
mod budget;
mod queries;
pub(crate) mod sync;
pub(crate) mod threads;

use crate::machine::Machine;

/// What this process may use, to be shown with a client.
fn on_machine() -> String {
    Machine::read().map_or(String::new(), |machine| format!(", on {machine}"))
}
