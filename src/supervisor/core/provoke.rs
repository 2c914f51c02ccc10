//! Panics in the core on demand, for tests: in which step, and in whose thread.

use super::Core;
use crate::ids::TaskId;
use crate::job::{CallName, FailedCall, JobSpec};

/// The name of a task that makes the core panic.
pub(crate) fn panic_at(step: &str, thread: &str) -> String {
    format!("panic at {step} in {thread}")
}

/// Panics if a task of the job has the name of this step and this thread.
pub(super) fn submission(spec: &JobSpec) {
    spec.options.iter().filter_map(|(_, options)| options.name.as_deref()).for_each(|name| check("submission", name));
}

/// The same for a task that has been done.
pub(super) fn completion(core: &Core, id: TaskId) {
    if let Some(FailedCall { name: CallName::Given(name), .. }) = core.scheduler.call(id) {
        check("completion", &name);
    }
}

fn check(step: &str, name: &str) {
    let actor = std::thread::current().name() == Some("swath-supervisor");
    let thread = if actor { "the actor's thread" } else { "another thread" };
    assert!(name != panic_at(step, thread) && name != panic_at(step, "any thread"), "provoked: {name}");
}
