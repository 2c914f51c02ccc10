//! Functions that run once in each worker process, beside the tasks.

use super::Client;
use crate::error::name::TaskName;
use crate::error::{Cause, Error, Result, TaskError};
use crate::graph::node::serial_hash;
use crate::ipc::batch::MOST_BYTES;
use crate::message::RanBeside;
use crate::message::question::RunOn;
use crate::status::Mode;
use crate::submission::handle::SHUT_DOWN;
use crate::task::Data;
use crate::task::call::call;
use crate::task::codec;
use crate::task::function::{Record, TaskFunction};
use crate::task::wait::{blocking, waiting};
use std::any::type_name;
use std::sync::Arc;

/// What became of a function on each worker, by its name.
type Ran<R> = Vec<(String, Result<R>)>;

// What `run_on_workers` says.
const _: () = assert!(MOST_BYTES == 1 << 20);

/// The name of the first worker, where there are some.
const FIRST: &str = "worker-0";

/// Where a function is to run.
enum Place {
    Workers(RunOn),
    /// In the calling thread.
    Here,
    Nowhere,
}

fn error(record: &'static Record, worker: &str, cause: Cause) -> Error {
    let name = TaskName::of_function(record.path(), (serial_hash(record) >> 64) as u64);
    TaskError::new(name, Some(Arc::from(worker)), cause).into()
}

fn typed<R: Data>(record: &'static Record, ran: Vec<(String, RanBeside)>) -> Ran<R> {
    let typed = |name: &str, result: RanBeside| {
        let decoded = |bytes: &[u8]| {
            let cause = |reason| Cause::Decode { type_name: type_name::<R>().to_string(), reason };
            codec::decode::<R>(bytes).map_err(cause)
        };
        result.and_then(|bytes| decoded(&bytes)).map_err(|cause| error(record, name, cause))
    };
    ran.into_iter()
        .map(|(name, result)| {
            let result = typed(&name, result);
            (name, result)
        })
        .collect()
}

impl Client {
    /// Runs a function once in each worker process, now and beside the tasks: to look at something there, or to change it.
    /// In the modes threads and sync it runs once, in the calling thread. Gives the workers' names with the results.
    ///
    /// It has a thread of its own there, so it waits for no task, and what a task has ([`current_task`](crate::task::current_task),
    /// [`current_client`](crate::current_client)) it has not. A result that comes from another process may take 1 MiB
    /// (1,048,576 B), encoded; a larger one is [`Cause::Encode`] in its place. In the modes threads and sync nothing is encoded,
    /// and any size will do. What is large is for tasks.
    ///
    /// Asked are all workers that there are to be when it is called: it waits for those that start. Who comes later has no part
    /// in it, as [`worker_init`](crate::Builder::worker_init) is for those; nor has one that retires. One whose start fails, or
    /// that ends before it has answered, is an error in its place, with the record of its death if it was one. A function that
    /// ends its process ends a worker, with what ran there.
    ///
    /// ```
    /// use swath::Client;
    /// let client = Client::local(2, 1, "512MB")?;
    /// let pids = client.run_on_workers(std::process::id)?;
    /// assert_eq!((pids.len(), pids[0].0.as_str()), (2, "worker-0"));
    /// assert_ne!(pids[0].1.as_ref().ok(), Some(&std::process::id()));
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where the client is closed. What the function does is in the places of the workers.
    pub fn run_on_workers<F, R>(&self, function: F) -> Result<Vec<(String, Result<R>)>>
    where
        F: TaskFunction<(), R> + Fn() -> R,
        R: Data,
    {
        let _ = function;
        self.run_on_some(F::RECORD, None)
    }

    /// [`run_on_workers`](Self::run_on_workers) for async code.
    ///
    /// ```
    /// # use swath::Client;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let pids = client.run_on_workers_async(std::process::id).await?;
    /// assert_eq!(pids[0].1.as_ref().ok(), Some(&std::process::id())); // in threads mode here
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`run_on_workers`](Self::run_on_workers).
    pub async fn run_on_workers_async<F, R>(&self, function: F) -> Result<Vec<(String, Result<R>)>>
    where
        F: TaskFunction<(), R> + Fn() -> R,
        R: Data,
    {
        let _ = function;
        self.run_on_some_async(F::RECORD, None).await
    }

    /// [`run_on_workers`](Self::run_on_workers), but only on those of these names. One that retires is an error in its place. In
    /// the modes threads and sync there is one place, the calling thread, which `worker-0` means and the name of the mode.
    ///
    /// ```
    /// # use swath::Client;
    /// let client = Client::threads(2);
    /// assert_eq!(client.run_on(&["worker-0"], || 6 * 7)?[0].1.as_ref().ok(), Some(&42));
    /// assert!(client.run_on(&["worker-7"], || 6 * 7).is_err());
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is none of such a name, and then it runs on none; otherwise as
    /// [`run_on_workers`](Self::run_on_workers).
    pub fn run_on<F, R>(&self, names: &[impl AsRef<str>], function: F) -> Result<Vec<(String, Result<R>)>>
    where
        F: TaskFunction<(), R> + Fn() -> R,
        R: Data,
    {
        let _ = function;
        self.run_on_some(F::RECORD, Some(texts(names)))
    }

    /// [`run_on`](Self::run_on) for async code.
    ///
    /// ```
    /// # use swath::Client;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// assert_eq!(client.run_on_async(&["worker-0"], || 6 * 7).await?[0].1.as_ref().ok(), Some(&42));
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`run_on`](Self::run_on).
    pub async fn run_on_async<F, R>(&self, names: &[impl AsRef<str>], function: F) -> Result<Vec<(String, Result<R>)>>
    where
        F: TaskFunction<(), R> + Fn() -> R,
        R: Data,
    {
        let _ = function;
        let names = Some(texts(names));
        self.run_on_some_async(F::RECORD, names).await
    }

    fn run_on_some<R: Data>(&self, record: &'static Record, names: Option<Vec<String>>) -> Result<Ran<R>> {
        match self.where_to_run(record, names)? {
            Place::Workers(question) => blocking(|| self.ask(question).wait()).map(|ran| typed(record, ran)),
            Place::Here => self.run_here(record),
            Place::Nowhere => Ok(Vec::new()),
        }
    }

    async fn run_on_some_async<R: Data>(&self, record: &'static Record, names: Option<Vec<String>>) -> Result<Ran<R>> {
        match self.where_to_run(record, names)? {
            Place::Workers(question) => waiting(self.ask(question)).await?.map(|ran| typed(record, ran)),
            Place::Here => self.run_here(record),
            Place::Nowhere => Ok(Vec::new()),
        }
    }

    fn where_to_run(&self, record: &'static Record, names: Option<Vec<String>>) -> Result<Place> {
        self.check_origin()?;
        if self.mode() == Mode::Processes {
            let unknown = || Error::FunctionNotInExecutable { function: record.path().to_string() };
            let function = record.offset().ok_or_else(unknown)?;
            return Ok(Place::Workers(RunOn { names, function }));
        }
        let here = self.mode().name();
        match names.as_deref() {
            Some([]) => return Ok(Place::Nowhere),
            Some(names) => {
                if let Some(name) = names.iter().find(|name| *name != FIRST && *name != here) {
                    let why = format!("there is no worker `{name}`; in {here} mode there is `{here}`, or `{FIRST}`");
                    return Err(Error::invalid("the workers to run it on", why));
                }
            }
            None => {}
        }
        Ok(Place::Here)
    }

    /// Runs it in this thread.
    fn run_here<R: Data>(&self, record: &'static Record) -> Result<Ran<R>> {
        if self.0.backend.is_closed() {
            return Err(Error::Closed { reason: SHUT_DOWN.to_string() });
        }
        let here = self.mode().to_string();
        let wrong = || Cause::Decode { type_name: type_name::<R>().to_string(), reason: "it made another".to_string() };
        let result = call(record, &mut []).map_err(Cause::from).and_then(|value| value.take::<R>().ok_or_else(wrong));
        Ok(vec![(here.clone(), result.map_err(|cause| error(record, &here, cause)))])
    }
}

fn texts(names: &[impl AsRef<str>]) -> Vec<String> {
    names.iter().map(|name| name.as_ref().to_string()).collect()
}
