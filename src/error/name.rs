//! What a task is called in an error. Names are put together when somebody reads them: a graph may have thousands of failures
//! of which one is read.

use crate::task::function::{key, short_name};
use std::fmt;
use std::sync::OnceLock;

/// Name and key of a task.
pub(crate) struct TaskName {
    called: Called,
    words: OnceLock<Words>,
}

enum Called {
    /// By the path of its function; and the hash of its key.
    Function(&'static str, u64),
    /// By a name of its own; and the hash of its key.
    Own(String, u64),
    /// Nothing is known but this name and key.
    Words(Words),
}

#[derive(Clone, PartialEq)]
struct Words {
    name: String,
    key: String,
}

impl TaskName {
    /// The name of a task whose function has that path.
    pub(crate) fn of_function(path: &'static str, hash: u64) -> Self {
        Self::called(Called::Function(path, hash))
    }

    /// The name of a task that was given one.
    pub(crate) fn own(name: String, hash: u64) -> Self {
        Self::called(Called::Own(name, hash))
    }

    /// The name of a task of which nothing else is known.
    pub(crate) fn unknown(name: &str, key: String) -> Self {
        Self::called(Called::Words(Words { name: name.to_string(), key }))
    }

    fn called(called: Called) -> Self {
        Self { called, words: OnceLock::new() }
    }

    fn words(&self) -> &Words {
        let words = |name: String, hash| Words { key: key(&name, hash), name };
        match &self.called {
            Called::Function(path, hash) => self.words.get_or_init(|| words(short_name(path), *hash)),
            Called::Own(name, hash) => self.words.get_or_init(|| words(name.clone(), *hash)),
            Called::Words(words) => words,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.words().name
    }

    pub(crate) fn key(&self) -> &str {
        &self.words().key
    }
}

impl fmt::Debug for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_put_together_when_it_is_read() {
        let name = TaskName::of_function("app::load::parse<u8>", 0xab);
        assert!(name.words.get().is_none());
        assert_eq!((name.name(), name.key()), ("parse", "parse-00000000000000ab"));
        let own = TaskName::own("load".to_string(), 1);
        assert_eq!((own.name(), own.key()), ("load", "load-0000000000000001"));
        let unknown = TaskName::unknown("task", "task-3/4".to_string());
        assert_eq!((unknown.name(), unknown.key()), ("task", "task-3/4"));
    }
}
