//! Something costly, built once in each process that runs tasks.

use parking_lot::Mutex;
use std::fmt;
use std::sync::OnceLock;

/// A value that each worker process builds once, at its first use there, and that its tasks share: a model, a
/// connection, a large table.
///
/// It is a `static`; a task function reaches it by name, so nothing is captured and nothing is sent. Threads that need
/// it at once build it once. If building fails, the error goes to the task that asked, and the next one tries again. In
/// threads and sync mode there is one for the program.
///
/// ```
/// use swath::{Client, WorkerLocal};
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
    building: Mutex<()>,
}

impl<T, E> WorkerLocal<T, E> {
    /// To be built by `build`.
    pub const fn new(build: fn() -> Result<T, E>) -> Self {
        Self { build, value: OnceLock::new(), building: Mutex::new(()) }
    }

    /// The value of this process; builds it first if there is none.
    ///
    /// # Errors
    /// That of `build`.
    pub fn get(&self) -> Result<&T, E> {
        if let Some(value) = self.value.get() {
            return Ok(value);
        }
        let _building = self.building.lock();
        if let Some(value) = self.value.get() {
            return Ok(value);
        }
        let built = (self.build)()?;
        Ok(self.value.get_or_init(|| built))
    }

    /// The value of this process, if it has been built.
    pub fn get_if_built(&self) -> Option<&T> {
        self.value.get()
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
}
