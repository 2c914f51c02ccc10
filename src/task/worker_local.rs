//! Something costly, built once in each process that runs tasks.

use super::building::Building;
use super::image;
use super::wait::blocking;
use parking_lot::{Condvar, Mutex};
use std::any::type_name;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

/// For so long a task that is a part of another building waits for a state that somebody else builds.
const PATIENCE: Duration = Duration::from_secs(1);

/// A value that each worker process builds once, at its first use there, and that its tasks share: a model, a
/// connection, a large table.
///
/// It is a `static`; a task function reaches it by name, so nothing is captured and nothing is sent. Threads that need
/// it at once build it once. If building fails, the error goes to the task that asked, and the next one tries again. In
/// threads and sync mode there is one for the program.
///
/// `build` may compute with [`current_client`](crate::current_client). A task that needs the value while another one builds
/// it gives its place in the worker to others until it is there, as one that waits for tasks of its own does. What takes part
/// in the building, in whichever worker it runs, must not ask for the value: that panics, which is the error of that task.
/// A task that takes part in the building of one value, and has waited a second for another that somebody else builds, builds
/// that one, too, and the first of both is kept: so two that need each other, in different workers, do not wait without end.
///
/// ```
/// use swath::task::WorkerLocal;
/// use swath::Client;
///
/// struct Model(Vec<f64>);
///
/// fn load() -> Result<Model, String> {
///     Ok(Model(vec![0.5, 2.0])) // reads files, for example
/// }
///
/// static MODEL: WorkerLocal<Model> = WorkerLocal::new(load);
///
/// fn predict(x: f64) -> Result<f64, String> {
///     let model = MODEL.get()?;
///     Ok(model.0[0] + model.0[1] * x)
/// }
///
/// let client = Client::local(2, 1, None::<u64>)?;
/// let answers = client.try_map(predict, [0.0, 1.0, 2.0])?;
/// assert_eq!(client.gather(&answers)?, [0.5, 2.5, 4.5]);
/// # Ok::<(), swath::Error>(())
/// ```
pub struct WorkerLocal<T, E = String> {
    build: fn() -> Result<T, E>,
    value: OnceLock<T>,
    /// Whether a thread builds it now.
    building: Mutex<bool>,
    built: Condvar,
}

impl<T, E> WorkerLocal<T, E> {
    /// To be built by `build`.
    pub const fn new(build: fn() -> Result<T, E>) -> Self {
        Self { build, value: OnceLock::new(), building: Mutex::new(false), built: Condvar::new() }
    }

    /// The value of this process; builds it first if there is none.
    ///
    /// # Errors
    /// That of `build`.
    ///
    /// # Panics
    /// Where the value is asked for by its own `build`, or by a task that takes part in it: it can never be there.
    pub fn get(&self) -> Result<&T, E> {
        match self.value.get() {
            Some(value) => Ok(value),
            None => self.build_or_wait(),
        }
    }

    #[cold]
    fn build_or_wait(&self) -> Result<&T, E> {
        let (state, around) = (image::place_of(self), Building::current());
        // What is a part of another building waits only for a while: across processes nobody sees two that wait for each
        // other. Then it builds one itself, and finds out where that comes back to what it is a part of.
        let patience = if around.is_outside() { None } else { Some(PATIENCE) };
        let turn = loop {
            {
                let mut building = self.building.lock();
                if let Some(value) = self.value.get() {
                    return Ok(value);
                }
                if around.includes(state) {
                    drop(building);
                    self.needs_itself();
                }
                if !std::mem::replace(&mut *building, true) {
                    break Some(Turn(self));
                }
            }
            let Some(waiting) = around.wait_for(state) else { self.needs_itself() };
            let in_vain = blocking(|| {
                let mut building = self.building.lock();
                match patience {
                    Some(limit) => self.built.wait_while_for(&mut building, |building| *building, limit).timed_out(),
                    None => {
                        self.built.wait_while(&mut building, |building| *building);
                        false
                    }
                }
            });
            drop(waiting);
            if in_vain {
                break None;
            }
        };
        // No lock is held while the user's code runs.
        let built = {
            let _inside = around.and(state).enter();
            (self.build)()?
        };
        let value = self.value.get_or_init(|| built);
        drop(turn);
        Ok(value)
    }

    #[allow(
        clippy::panic,
        reason = "there is no error of the user's type that this could be; a task's panic is its error"
    )]
    fn needs_itself(&self) -> ! {
        panic!(
            "worker-local state of type {} needs itself: it is asked for by its own builder, or by a task that the builder \
             waits for; build it from something else, or give that task what it needs as an argument",
            type_name::<T>()
        )
    }

    /// The value of this process, if it has been built.
    pub fn get_if_built(&self) -> Option<&T> {
        self.value.get()
    }
}

/// A thread's turn to build it; the next one may when it ends, however it does.
struct Turn<'a, T, E>(&'a WorkerLocal<T, E>);

impl<T, E> Drop for Turn<'_, T, E> {
    fn drop(&mut self) {
        *self.0.building.lock() = false;
        self.0.built.notify_all();
    }
}

impl<T: fmt::Debug, E> fmt::Debug for WorkerLocal<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WorkerLocal").field(&self.value.get()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_failure_is_not_kept() {
        static TRIES: AtomicU32 = AtomicU32::new(0);
        static LOCAL: WorkerLocal<u32> = WorkerLocal::new(|| match TRIES.fetch_add(1, Ordering::Relaxed) {
            0 => Err("not yet".to_string()),
            n => Ok(n),
        });
        assert_eq!(LOCAL.get(), Err("not yet".to_string()));
        assert_eq!(LOCAL.get(), Ok(&1));
        assert_eq!(LOCAL.get(), Ok(&1), "built once");
    }

    #[test]
    fn threads_that_need_it_at_once_build_it_once() {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        static WAITING: AtomicU32 = AtomicU32::new(0);
        static LOCAL: WorkerLocal<u32> = WorkerLocal::new(|| {
            while WAITING.load(Ordering::Relaxed) < 4 {
                std::thread::yield_now();
            }
            Ok(BUILT.fetch_add(1, Ordering::Relaxed))
        });
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    WAITING.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(LOCAL.get(), Ok(&0));
                });
            }
        });
    }

    #[test]
    fn one_that_asks_for_itself_panics_and_can_be_built_afterwards() {
        static TRIES: AtomicU32 = AtomicU32::new(0);
        static OTHER: WorkerLocal<u32> = WorkerLocal::new(|| LOCAL.get().copied());
        static LOCAL: WorkerLocal<u32> = WorkerLocal::new(|| match TRIES.fetch_add(1, Ordering::Relaxed) {
            0 => OTHER.get().copied(),
            n => Ok(n),
        });
        let panic = std::panic::catch_unwind(|| LOCAL.get().copied()).expect_err("it needs itself");
        assert!(panic.downcast_ref::<String>().is_some_and(|text| text.contains("needs itself")));
        assert_eq!(LOCAL.get(), Ok(&1), "nothing is left locked");
        assert_eq!(OTHER.get(), Ok(&1));
    }

    #[test]
    fn a_builder_that_panics_leaves_nobody_waiting() {
        static TRIES: AtomicU32 = AtomicU32::new(0);
        static LOCAL: WorkerLocal<u32> = WorkerLocal::new(|| match TRIES.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("the first time"),
            n => Ok(n),
        });
        assert!(std::panic::catch_unwind(|| LOCAL.get().copied()).is_err());
        assert_eq!(LOCAL.get(), Ok(&1));
    }
}
