//! What can be wrong with a lock, semaphore, event, queue or variable.

use crate::units::Shown;

/// A lock, semaphore, event, queue or variable of that name is not what the caller takes it for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoordinationError {
    /// It has values of another type. Nothing has been put or taken.
    #[error("the {kind} `{}` has values of type `{there}`, and not `{wanted}`", Shown(name))]
    WrongType {
        /// `queue` or `variable`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The type that the caller takes it for.
        wanted: String,
        /// The type of what was put there first.
        there: String,
    },
    /// It was made with another number: of permits, or of items at most.
    #[error("the {kind} `{}` was made for {}, and not for {}", Shown(name), number(*there), number(*wanted))]
    OtherLimit {
        /// `semaphore` or `queue`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The number that the caller takes it for.
        wanted: usize,
        /// The number that it was made with.
        there: usize,
    },
    /// What is to be released was not held any more: it went with the run of the task that had acquired it.
    #[error(
        "the {kind} `{}` is not held any more: what a task acquires it has for its run at the longest",
        Shown(name)
    )]
    NotHeld {
        /// `lock` or `semaphore`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// So many tasks of one process wait already, each of which has a thread.
    #[error(
        "{most} tasks of this process wait for the {kind} `{}` or other things, and no more can: have tasks wait for their \
         inputs instead, or use `resource` to limit how many run",
        Shown(name)
    )]
    TooManyWait {
        /// `event`, `queue` or `variable`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// How many tasks of a process wait so at most.
        most: usize,
    },
    /// It is of another client than the one whose task uses it, and so another thing than that one's of the same name. Nothing
    /// has been done.
    #[error(
        "the {kind} `{}` is another client's than the one that runs the task: make it with the client that the task is \
         given to, or have the task ask `current_client()` for it",
        Shown(name)
    )]
    OtherClient {
        /// `lock`, `semaphore`, `event`, `queue` or `variable`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
}

/// A number of permits, or of items at most.
fn number(limit: usize) -> String {
    if limit == usize::MAX { "any number".to_string() } else { limit.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_with_what_cannot_be_seen() {
        let name = || "di\u{202e}sk\u{200b}".to_string();
        let not_held = CoordinationError::NotHeld { kind: "lock", name: name() };
        let too_many = CoordinationError::TooManyWait { kind: "event", name: name(), most: 2 };
        let other_client = CoordinationError::OtherClient { kind: "queue", name: name() };
        let other_limit = CoordinationError::OtherLimit { kind: "queue", name: name(), wanted: 1, there: 2 };
        let (wanted, there) = ("u8".to_string(), "u16".to_string());
        let wrong_type = CoordinationError::WrongType { kind: "queue", name: name(), wanted, there };
        for error in [not_held, too_many, other_client, other_limit, wrong_type] {
            let text = error.to_string();
            assert!(text.contains(r"`di\u{202e}sk\u{200b}`") && !text.contains(&name()), "{text}");
        }
    }
}
