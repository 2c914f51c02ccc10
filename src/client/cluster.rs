//! What a client asks of its workers and about them.

use super::{Client, Future};
use crate::error::LogLine;
use crate::error::{DeathRecord, Error, Result};
use crate::events::EventLog;
use crate::events::diagnosis::{Diagnosis, Extent};
use crate::memory::report::MemoryReport;
use crate::message::{Ask, question};
use crate::status::WorkerInfo;
use crate::submission::reply::Asked;
use crate::task::wait::{blocking, waiting};
use std::path::Path;
use std::time::Duration;

impl Client {
    /// Why what has run took as long as it did: what the threads did with their time, which names cost the most, and what time
    /// was lost to, the most first, with what to change. It is made of the [`events`](Self::events), so of the last runs of
    /// each worker; of all of them where they are recorded ([`Builder::record`](crate::client::Builder::record)) and the
    /// file is read ([`SavedLog::diagnose`](crate::events::saved::SavedLog::diagnose), `local-cluster why FILE`).
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// let client = Client::threads(2);
    /// let tasks: Vec<_> = (0..100).map(|n| delayed(|n: u64| (0..n).sum::<u64>()).call(n)).collect();
    /// client.compute(&tasks)?;
    /// let diagnosis = client.diagnose()?;
    /// assert!(!diagnosis.findings.is_empty());
    /// println!("{diagnosis}");
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where the client is closed.
    pub fn diagnose(&self) -> Result<Diagnosis> {
        self.diagnose_part(Extent::default())
    }

    /// The same of one graph, by its number, or of the graphs of one label.
    ///
    /// # Errors
    /// As [`diagnose`](Self::diagnose).
    pub fn diagnose_part(&self, extent: Extent) -> Result<Diagnosis> {
        let threads = self.workers()?.iter().map(|worker| worker.threads).sum();
        Ok(self.events()?.diagnose(&extent.threads(threads)))
    }

    /// [`diagnose_part`](Self::diagnose_part) for async code.
    ///
    /// # Errors
    /// As [`diagnose`](Self::diagnose).
    pub async fn diagnose_part_async(&self, extent: Extent) -> Result<Diagnosis> {
        let threads = self.workers_async().await?.iter().map(|worker| worker.threads).sum();
        Ok(self.events_async().await?.diagnose(&extent.threads(threads)))
    }

    pub(super) fn ask<A: Ask>(&self, question: A) -> Asked<A> {
        Asked::new(self.0.backend.ask(question.question()))
    }

    /// The workers. In the in-process modes, the threads that run tasks.
    ///
    /// # Errors
    /// Where the client is closed.
    pub fn workers(&self) -> Result<Vec<WorkerInfo>> {
        self.ask(question::Workers).wait()
    }

    /// [`workers`](Self::workers) for async code.
    ///
    /// # Errors
    /// As [`workers`](Self::workers).
    pub async fn workers_async(&self) -> Result<Vec<WorkerInfo>> {
        self.ask(question::Workers).await
    }

    /// Waits until `n` workers have answered.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the time is over before, [`Error::Invalid`] where there are never to be so many.
    pub fn wait_for_workers(&self, n: usize, timeout: Duration) -> Result<()> {
        let ready = self.ask(question::WaitForWorkers { n, timeout }).wait()?;
        if ready { Ok(()) } else { Err(Error::Timeout { waited: timeout }) }
    }

    /// [`wait_for_workers`](Self::wait_for_workers) for async code.
    ///
    /// # Errors
    /// As [`wait_for_workers`](Self::wait_for_workers).
    pub async fn wait_for_workers_async(&self, n: usize, timeout: Duration) -> Result<()> {
        let ready = self.ask(question::WaitForWorkers { n, timeout }).await?;
        if ready { Ok(()) } else { Err(Error::Timeout { waited: timeout }) }
    }

    /// Has `n` workers from now on: starts new ones, or retires some once their work and results have moved.
    ///
    /// # Errors
    /// [`Error::Unsupported`] in the in-process modes.
    pub fn scale(&self, n: usize) -> Result<()> {
        self.ask(question::Scale(n)).wait()
    }

    /// [`scale`](Self::scale) for async code.
    ///
    /// # Errors
    /// As [`scale`](Self::scale).
    pub async fn scale_async(&self, n: usize) -> Result<()> {
        self.ask(question::Scale(n)).await
    }

    /// Replaces all workers by new ones, at once. What they ran or held is computed again where it is still wanted; none of
    /// it counts against a task, and no death is recorded. [`restart_worker`](Self::restart_worker) replaces one in order.
    ///
    /// # Errors
    /// [`Error::Deadlock`] in a task, which would run again and restart them again; [`Error::Unsupported`] in the in-process
    /// modes.
    pub fn restart(&self) -> Result<()> {
        self.ask(question::Restart).wait()
    }

    /// [`restart`](Self::restart) for async code.
    ///
    /// # Errors
    /// As [`restart`](Self::restart).
    pub async fn restart_async(&self) -> Result<()> {
        self.ask(question::Restart).await
    }

    /// Retires the workers of these names, and waits until they are gone: what they run is finished, their results move to
    /// the others, and there are so many fewer workers from now on. Nothing runs twice, and no death is recorded.
    ///
    /// It takes as long as what they run; [`retire_timeout`](Self::retire_timeout) waits no longer than it is told. A signal
    /// TERM to a worker does the same, but has it replaced. A task may retire other workers than its own; its place is given
    /// to another one while it waits.
    ///
    /// ```
    /// # use swath::Client;
    /// let client = Client::local(2, 1, "512MB")?;
    /// client.retire(&["worker-1"])?;
    /// assert_eq!(client.workers()?.len(), 1);
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is none of such a name, or none would be left; [`Error::Deadlock`] where a task asks that
    /// would wait for itself, since it runs on one of them, or a task there waits for its end; [`Error::Unsupported`] in the
    /// in-process modes.
    pub fn retire(&self, names: &[impl AsRef<str>]) -> Result<()> {
        blocking(|| self.ask(question::Retire::named(names, None)).wait()).map(drop)
    }

    /// [`retire`](Self::retire) for async code. Dropped, it retires them all the same.
    ///
    /// ```
    /// # use swath::Client;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::local(2, 1, "512MB")?;
    /// client.retire_async(&["worker-1"]).await?;
    /// assert_eq!(client.workers_async().await?.len(), 1);
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`retire`](Self::retire).
    pub async fn retire_async(&self, names: &[impl AsRef<str>]) -> Result<()> {
        waiting(self.ask(question::Retire::named(names, None))).await?.map(drop)
    }

    /// [`retire`](Self::retire), which waits no longer than that. Workers that are not gone by then retire all the same.
    ///
    /// ```
    /// # use swath::Client;
    /// use std::time::Duration;
    /// let client = Client::local(2, 1, "512MB")?;
    /// client.retire_timeout(&["worker-1"], Duration::from_secs(60))?;
    /// assert_eq!(client.workers()?.len(), 1);
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Timeout`] when the time is over before they are gone; otherwise as [`retire`](Self::retire).
    pub fn retire_timeout(&self, names: &[impl AsRef<str>], timeout: Duration) -> Result<()> {
        let gone = blocking(|| self.ask(question::Retire::named(names, Some(timeout))).wait())?;
        if gone { Ok(()) } else { Err(Error::Timeout { waited: timeout }) }
    }

    /// [`retire_timeout`](Self::retire_timeout) for async code. Dropped, it retires them all the same.
    ///
    /// ```
    /// # use swath::Client;
    /// use std::time::Duration;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::local(2, 1, "512MB")?;
    /// client.retire_timeout_async(&["worker-1"], Duration::from_secs(60)).await?;
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`retire_timeout`](Self::retire_timeout).
    pub async fn retire_timeout_async(&self, names: &[impl AsRef<str>], timeout: Duration) -> Result<()> {
        let gone = waiting(self.ask(question::Retire::named(names, Some(timeout)))).await??;
        if gone { Ok(()) } else { Err(Error::Timeout { waited: timeout }) }
    }

    /// Replaces a worker by a new one of the same name, and waits until that is ready. What it runs is finished, and its
    /// results move, as far as `timeout` allows; then it is ended, and what is left is computed again. None of it counts
    /// against a task, and no death is recorded.
    ///
    /// A new worker that fails is replaced as any other. It is waited for until `timeout` is over and a start has failed: no
    /// longer than `timeout` and [`start_timeout`](crate::Builder::start_timeout) together.
    ///
    /// ```
    /// # use swath::Client;
    /// # use std::time::Duration;
    /// let client = Client::local(1, 1, "512MB")?;
    /// let before = client.workers()?[0].pid;
    /// client.restart_worker("worker-0", Duration::from_secs(10))?;
    /// assert_ne!(client.workers()?[0].pid, before);
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Spawn`] where no new one has come to work by then, with the reason; it is still tried. Otherwise as
    /// [`retire`](Self::retire).
    pub fn restart_worker(&self, name: &str, timeout: Duration) -> Result<()> {
        blocking(|| self.ask(question::RestartWorker::named(name, timeout)).wait())
    }

    /// [`restart_worker`](Self::restart_worker) for async code. Dropped, it replaces the worker all the same.
    ///
    /// ```
    /// # use swath::Client;
    /// use std::time::Duration;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::local(1, 1, "512MB")?;
    /// client.restart_worker_async("worker-0", Duration::from_secs(10)).await?;
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`restart_worker`](Self::restart_worker).
    pub async fn restart_worker_async(&self, name: &str, timeout: Duration) -> Result<()> {
        waiting(self.ask(question::RestartWorker::named(name, timeout))).await?
    }

    /// What is known about workers that died, oldest first. The last hundred are kept.
    ///
    /// # Errors
    /// Where the client is closed.
    pub fn deaths(&self) -> Result<Vec<DeathRecord>> {
        self.ask(question::Deaths).wait()
    }

    /// [`deaths`](Self::deaths) for async code.
    ///
    /// # Errors
    /// As [`deaths`](Self::deaths).
    pub async fn deaths_async(&self) -> Result<Vec<DeathRecord>> {
        self.ask(question::Deaths).await
    }

    /// What has happened since this client was opened: graphs, runs of tasks, workers. The last 4096 runs of each worker
    /// or thread are kept, if [`Builder::events`](crate::Builder::events) does not say otherwise.
    ///
    /// The same program has the same events of graphs and tasks in every mode; their times and order differ.
    ///
    /// # Errors
    /// Where the client is closed.
    pub fn events(&self) -> Result<EventLog> {
        self.ask(question::Events).wait().map(|records| self.0.log.log(records))
    }

    /// [`events`](Self::events) for async code.
    ///
    /// # Errors
    /// As [`events`](Self::events).
    pub async fn events_async(&self) -> Result<EventLog> {
        self.ask(question::Events).await.map(|records| self.0.log.log(records))
    }

    /// Writes what [`events`](Self::events) gives to a file, which [`EventLog::open`] and `local-cluster events` read, with the
    /// lines of [`logs`](Self::logs) and the counts of [`progress`](Self::progress).
    ///
    /// ```
    /// use swath::events::EventLog;
    /// use swath::{Client, delayed};
    /// # let directory = tempfile::tempdir().expect("a directory");
    /// # let path = directory.path().join("run.swath");
    /// let client = Client::threads(2);
    /// client.compute(&delayed(|x: i64| x + 1).map(0..10))?;
    /// client.save_events(&path)?;
    /// assert_eq!(EventLog::open(&path)?.runs().len(), 10);
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where the client is closed, or the file cannot be written.
    pub fn save_events(&self, path: impl AsRef<Path>) -> Result<()> {
        self.events()?.with(self.logs()?, self.progress()).save(path)
    }

    /// How the workers use memory and disk: what is compared with their limits, and of what it consists.
    ///
    /// In the in-process modes there is one entry, this process.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// let client = Client::local(2, 1, "512MB")?;
    /// let kept = client.persist(&delayed(|n: usize| vec![1_u8; n]).call(1_000_000_usize))?;
    /// client.compute(&kept.map(|bytes: Vec<u8>| bytes.len()))?;
    /// let memory = client.memory()?;
    /// assert!(memory.workers.iter().map(|w| w.managed).sum::<u64>() > 1_000_000);
    /// println!("{memory}");
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where the client is closed.
    pub fn memory(&self) -> Result<MemoryReport> {
        self.ask(question::Memory).wait()
    }

    /// [`memory`](Self::memory) for async code.
    ///
    /// # Errors
    /// As [`memory`](Self::memory).
    pub async fn memory_async(&self) -> Result<MemoryReport> {
        self.ask(question::Memory).await
    }

    /// The last lines that workers wrote to their standard output and error, and their log records with level, target and time;
    /// each with the task it is from. About 64 KiB of each worker's are kept, of which those who write much lose theirs first; how many [are not](LogLine::dropped) is told. In the in-process modes tasks print to the program's own
    /// streams, and there are the records that they log, where the program's logger is wrapped in
    /// [`TaskLog`](crate::client::TaskLog).
    ///
    /// # Errors
    /// Where the client is closed.
    pub fn logs(&self) -> Result<Vec<LogLine>> {
        self.ask(question::Logs).wait()
    }

    /// [`logs`](Self::logs) for async code.
    ///
    /// # Errors
    /// As [`logs`](Self::logs).
    pub async fn logs_async(&self) -> Result<Vec<LogLine>> {
        self.ask(question::Logs).await
    }

    /// Those of the lines of [`logs`](Self::logs) that a task wrote, or may have written. They are asked of the client that
    /// the future is of.
    ///
    /// # Errors
    /// As [`logs`](Self::logs).
    pub fn logs_of<T>(&self, future: &Future<T>) -> Result<Vec<LogLine>> {
        let key = future.key();
        Ok(LogLine::of_task(Self::logs_at(future).wait()?, &key))
    }

    /// [`logs_of`](Self::logs_of) for async code.
    ///
    /// # Errors
    /// As [`logs`](Self::logs).
    pub async fn logs_of_async<T>(&self, future: &Future<T>) -> Result<Vec<LogLine>> {
        let key = future.key();
        Ok(LogLine::of_task(Self::logs_at(future).await?, &key))
    }

    /// The lines of the workers of the future's client.
    fn logs_at<T>(future: &Future<T>) -> Asked<question::Logs> {
        Asked::new(future.output().submission.backend().ask(question::Logs.question()))
    }
}
