//! The names of published results on a local cluster, whose programs of one build have a supervisor of their own each.
//!
//! A name is taken for all builds, so that whoever finds it taken can be told by whom.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Default)]
struct Shared {
    taken: Mutex<BTreeMap<String, Owner>>,
    supervisors: AtomicU32,
}

struct Owner {
    supervisor: u32,
    build: Arc<str>,
}

/// The names as one supervisor sees them. Its clones are the same supervisor's.
#[derive(Clone)]
pub(crate) struct PublishedNames {
    shared: Arc<Shared>,
    own: u32,
    build: Arc<str>,
}

impl PublishedNames {
    /// Those of the only supervisor.
    pub(crate) fn new() -> Self {
        Self { shared: Arc::default(), own: 0, build: Arc::from("") }
    }

    /// The same names, as another supervisor sees them, of programs of that build.
    pub(crate) fn for_another(&self, build: &str) -> Self {
        let own = 1 + self.shared.supervisors.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared), own, build: Arc::from(build) }
    }

    /// Takes a name, unless another supervisor has it: the error is the build that it is of.
    pub(crate) fn take(&self, name: &str) -> Result<(), String> {
        let mut taken = self.shared.taken.lock();
        match taken.get(name) {
            Some(owner) if owner.supervisor != self.own => Err(owner.build.to_string()),
            Some(_) => Ok(()),
            None => {
                let owner = Owner { supervisor: self.own, build: Arc::clone(&self.build) };
                taken.insert(name.to_string(), owner);
                Ok(())
            }
        }
    }

    /// The build whose programs have a name, if it is another supervisor's.
    pub(crate) fn elsewhere(&self, name: &str) -> Option<String> {
        let taken = self.shared.taken.lock();
        taken.get(name).filter(|owner| owner.supervisor != self.own).map(|owner| owner.build.to_string())
    }

    /// Gives a name back.
    pub(crate) fn free(&self, name: &str) {
        let mut taken = self.shared.taken.lock();
        if taken.get(name).is_some_and(|owner| owner.supervisor == self.own) {
            taken.remove(name);
        }
    }

    /// Gives all names back.
    pub(crate) fn free_all(&self) {
        self.shared.taken.lock().retain(|_, owner| owner.supervisor != self.own);
    }

    /// Whether this supervisor has no names.
    pub(crate) fn is_empty(&self) -> bool {
        !self.shared.taken.lock().values().any(|owner| owner.supervisor == self.own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_for_all_builds_and_given_back_by_its_own() {
        let all = PublishedNames::new();
        let (one, other) = (all.for_another("one"), all.for_another("other"));
        assert_eq!((one.take("n"), one.take("n")), (Ok(()), Ok(())));
        assert_eq!(other.take("n"), Err("one".to_string()));
        assert_eq!((one.elsewhere("n"), other.elsewhere("n")), (None, Some("one".to_string())));
        other.free("n");
        other.free_all();
        assert!(!one.is_empty() && other.is_empty());
        one.free("n");
        assert_eq!(other.take("n"), Ok(()));
        other.free_all();
        assert!(one.is_empty() && other.is_empty());
    }
}
