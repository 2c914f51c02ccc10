//! The async forms of what blocks: they work under any runtime or none, and none of them blocks the executor.

use super::blocking::{self, spawn_blocking};
use super::{Builder, Client, Computable, Future, WaitFor, wait};
use crate::delayed::Delayed;
use crate::error::{Error, Result};
use crate::memory::limit::MemoryLimit;
use crate::task::Data;
use std::path::Path;
use std::time::Duration;

impl Builder {
    /// [`build`](Self::build) for async code: a thread of its own starts or reaches the workers.
    ///
    /// # Errors
    /// As [`build`](Self::build); [`Error::Resource`] where there can be no thread.
    pub async fn build_async(self) -> Result<Client> {
        spawn_blocking(|| self.build()).await?
    }
}

impl Client {
    /// [`local`](Self::local) for async code.
    ///
    /// # Errors
    /// As [`local`](Self::local).
    pub async fn local_async(n_workers: usize, threads: usize, mem_limit: impl Into<MemoryLimit>) -> Result<Self> {
        Self::builder().workers(n_workers).threads(threads).memory_limit(mem_limit).build_async().await
    }

    /// [`from_env`](Self::from_env) for async code.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub async fn from_env_async() -> Result<Self> {
        Builder::from_env()?.build_async().await
    }

    /// [`connect`](Self::connect) for async code.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_async(name_or_path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().cluster(name_or_path.as_ref()).build_async().await
    }

    /// [`compute_timeout`](Self::compute_timeout) for async code. It needs no runtime's timer: a thread of its own keeps
    /// the time. Where there is a timer, one around [`compute_async`](Self::compute_async) does the same, without the
    /// thread.
    ///
    /// # Errors
    /// As [`compute_timeout`](Self::compute_timeout).
    pub async fn compute_timeout_async<C: Computable>(&self, what: C, timeout: Duration) -> Result<C::Output> {
        let computed = blocking::timeout(timeout, self.compute_async(what)).await?;
        computed.unwrap_or(Err(Error::Timeout { waited: timeout }))
    }

    /// [`wait`](Self::wait) with a time limit for async code; a thread of its own keeps the time.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub async fn wait_timeout_async<T>(&self, futures: &[Future<T>], how: WaitFor, timeout: Duration) -> Result<()> {
        blocking::timeout(timeout, wait::wait_async(futures, how)).await?.ok_or(Error::Timeout { waited: timeout })
    }

    /// [`persist_to`](Self::persist_to) for async code: a thread of its own looks at the files that are there.
    ///
    /// # Errors
    /// As [`persist_to`](Self::persist_to).
    pub async fn persist_to_async<T: Data>(
        &self,
        directory: impl AsRef<Path>,
        what: &[Delayed<T>],
    ) -> Result<Vec<Delayed<T>>> {
        let (client, directory, what) = (self.clone(), directory.as_ref().to_path_buf(), what.to_vec());
        spawn_blocking(move || client.persist_to(directory, &what)).await?
    }

    /// [`scatter`](Self::scatter) for async code: a thread of its own encodes and copies the value.
    ///
    /// # Errors
    /// As [`scatter`](Self::scatter).
    pub async fn scatter_async<T: Data>(&self, value: T) -> Result<Future<T>> {
        let client = self.clone();
        spawn_blocking(move || client.scatter(value)).await?
    }

    /// [`scatter_all`](Self::scatter_all) for async code.
    ///
    /// # Errors
    /// As [`scatter`](Self::scatter).
    pub async fn scatter_all_async<T: Data>(&self, values: Vec<T>) -> Result<Vec<Future<T>>> {
        let client = self.clone();
        spawn_blocking(move || client.scatter_all(values)).await?
    }

    /// [`broadcast`](Self::broadcast) for async code.
    ///
    /// # Errors
    /// As [`scatter`](Self::scatter).
    pub async fn broadcast_async<T: Data>(&self, value: T) -> Result<Future<T>> {
        let client = self.clone();
        spawn_blocking(move || client.broadcast(value)).await?
    }

    /// [`retry`](Self::retry) for async code. In sync mode the task runs in a thread of its own.
    ///
    /// # Errors
    /// As [`retry`](Self::retry).
    pub async fn retry_async<T>(&self, future: &Future<T>) -> Result<()> {
        let (backend, output) = (self.backend(), future.output().clone());
        spawn_blocking(move || backend.retry(&output.submission, output.index)).await?
    }

    /// [`replay`](Self::replay) for async code: the task is repeated in a thread of its own.
    ///
    /// # Errors
    /// As [`replay`](Self::replay).
    ///
    /// # Panics
    /// As the task does.
    pub async fn replay_async<T: Data>(&self, what: &Delayed<T>) -> Result<T> {
        let (client, what) = (self.clone(), what.clone());
        spawn_blocking(move || client.replay(&what)).await?
    }

    /// [`shutdown`](Self::shutdown) for async code: a thread of its own waits for the workers.
    pub async fn shutdown_async(&self) {
        let backend = self.backend();
        if let Err(e) = spawn_blocking(move || backend.shutdown()).await {
            log::warn!("{e}; this thread waits for the workers");
            self.shutdown();
        }
    }
}

impl<T: Data> Delayed<T> {
    /// [`persist`](Self::persist) for async code: if too much is under way, it waits for room without blocking.
    ///
    /// # Errors
    /// As [`persist`](Self::persist).
    pub async fn persist_async(&self, client: &Client) -> Result<Delayed<T>> {
        client.persist_async(self).await
    }

    /// [`submit`](Self::submit) for async code: if too much is under way, it waits for room without blocking.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_async(&self, client: &Client) -> Result<Future<T>> {
        client.submit_async(self).await
    }
}

impl<T: Data> Future<T> {
    /// [`result_timeout`](Self::result_timeout) for async code. It needs no runtime's timer: a thread of its own keeps the
    /// time. Where there is a timer, one around the awaited future does the same, without the thread.
    ///
    /// # Errors
    /// As [`result_timeout`](Self::result_timeout).
    pub async fn result_timeout_async(&self, timeout: Duration) -> Result<T> {
        let awaited = std::future::IntoFuture::into_future(self);
        blocking::timeout(timeout, awaited).await?.unwrap_or(Err(Error::Timeout { waited: timeout }))
    }
}
