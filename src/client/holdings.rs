//! Where results are, and how much memory they take.

use super::Client;
use super::future::{Future, Status};
use crate::error::{Error, Result};
use crate::graph::label::TaskLabel;
use crate::job::HeldResult;
use crate::message::question::{Held, Workers};
use crate::submission::handle::SHUT_DOWN;
use crate::submission::kept::KeptResults;
use crate::task::Value;
use crate::task::call::guarded_serde;
use crate::task::wait::{blocking, waiting};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;

/// What a held result is called: its name and its key.
fn called(held: &HeldResult) -> (String, String) {
    match held.call.as_ref().and_then(|call| call.task_name()) {
        Some(task) => (task.name().to_string(), task.key().to_string()),
        // It was given, or is a part of the result of another.
        None => ("given".to_string(), held.task.to_string()),
    }
}

fn by_worker(workers: impl IntoIterator<Item = String>, held: &[HeldResult]) -> Vec<(String, Vec<String>)> {
    let mut all: Vec<(String, Vec<String>)> = workers.into_iter().map(|name| (name, Vec::new())).collect();
    for result in held {
        if let Some((_, keys)) = all.iter_mut().find(|(name, _)| Some(name) == result.worker.as_ref()) {
            keys.push(called(result).1);
        }
    }
    all
}

fn by_name(sizes: impl Iterator<Item = (String, u64)>) -> Vec<(String, u64)> {
    let mut sums: FxHashMap<String, u64> = FxHashMap::default();
    for (name, nbytes) in sizes {
        *sums.entry(name).or_default() += nbytes;
    }
    let mut sums: Vec<(String, u64)> = sums.into_iter().collect();
    sums.sort_unstable_by(|a, b| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0)));
    sums
}

fn sizes_of_held(held: Vec<HeldResult>) -> Vec<(String, u64)> {
    by_name(held.iter().map(|result| (called(result).0, result.nbytes)))
}

fn sizes_of_kept(kept: Vec<(TaskLabel, Value)>) -> Vec<(String, u64)> {
    by_name(kept.iter().map(|(label, value)| {
        // A value whose own code panics when it is walked counts for nothing.
        (label.name(), guarded_serde("Serialize", || label.codec().size(value)).unwrap_or(0))
    }))
}

impl Client {
    /// For each future, the names of the workers that have its result. None: it is not there, or so small that the supervisor
    /// keeps it (1 KiB), or was given by this program.
    ///
    /// In threads and sync mode each result is with the one process there is, which is called as the mode.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// let client = Client::local(2, 1, "512MB")?;
    /// let list = client.submit(&delayed(|n: usize| vec![1.5_f64; n]).on_worker("worker-1").call(1000))?;
    /// client.wait(std::slice::from_ref(&list), swath::client::WaitFor::All)?;
    /// assert_eq!(client.who_has(&[list])?, [["worker-1"]]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OtherClient`] for a future of another client; where the client is closed.
    pub fn who_has<T>(&self, futures: &[Future<T>]) -> Result<Vec<Vec<String>>> {
        match self.held_here(futures)? {
            Some(here) => Ok(here),
            None => blocking(|| self.ask(Self::held(futures)).wait()).map(|held| Self::owners(futures, &held)),
        }
    }

    /// [`who_has`](Self::who_has) for async code.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let list = client.submit(&delayed(|n: usize| vec![1.5_f64; n]).call(1000))?;
    /// client.wait(std::slice::from_ref(&list), swath::client::WaitFor::All)?;
    /// assert_eq!(client.who_has_async(&[list]).await?, [["threads"]]);
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`who_has`](Self::who_has).
    pub async fn who_has_async<T>(&self, futures: &[Future<T>]) -> Result<Vec<Vec<String>>> {
        match self.held_here(futures)? {
            Some(here) => Ok(here),
            None => waiting(self.ask(Self::held(futures))).await?.map(|held| Self::owners(futures, &held)),
        }
    }

    /// Where the results of this process are, if it has no workers.
    fn held_here<T>(&self, futures: &[Future<T>]) -> Result<Option<Vec<Vec<String>>>> {
        let kept = self.kept_here()?;
        let foreign =
            |future: &&Future<T>| !std::sync::Arc::ptr_eq(future.output().submission.backend(), &self.0.backend);
        if let Some(future) = futures.iter().find(foreign) {
            return Err(Error::OtherClient { key: future.key() });
        }
        if kept.is_none() {
            return Ok(None);
        }
        let mode = self.mode();
        let owner = |future: &Future<T>| match future.status() {
            Status::Finished => vec![mode.to_string()],
            _ => Vec::new(),
        };
        Ok(Some(futures.iter().map(owner).collect()))
    }

    /// The results that this process keeps, if it has no workers.
    fn kept_here(&self) -> Result<Option<&KeptResults>> {
        self.check_origin()?;
        match self.0.backend.kept() {
            Some(_) if self.0.backend.is_closed() => Err(Error::Closed { reason: SHUT_DOWN.to_string() }),
            kept => Ok(kept),
        }
    }

    fn has_here(&self, kept: &KeptResults) -> Vec<(String, Vec<String>)> {
        vec![(self.mode().to_string(), kept.results().iter().map(|(label, _)| label.key()).collect())]
    }

    fn held<T>(futures: &[Future<T>]) -> Held {
        let tasks = futures.iter().filter_map(|future| future.output().submission.task(future.output().index));
        Held { tasks: Some(tasks.collect()) }
    }

    fn owners<T>(futures: &[Future<T>], held: &[HeldResult]) -> Vec<Vec<String>> {
        let known: FxHashMap<_, _> = held.iter().map(|result| (result.task, &result.worker)).collect();
        let owner = |future: &Future<T>| {
            let task = future.output().submission.task(future.output().index)?;
            (*known.get(&task)?).clone()
        };
        futures.iter().map(|future| owner(future).into_iter().collect()).collect()
    }

    /// For each worker the keys of this client's results that it has, in the order in which they were submitted. What was
    /// [scattered](Self::scatter) is with this program, and so is what is not larger than 1 KiB with the supervisor.
    ///
    /// In threads and sync mode the one process there is, which is called as the mode, has all results that have handles. It
    /// takes time with the number of graphs whose results are kept.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// let client = Client::local(1, 1, "512MB")?;
    /// let list = client.submit(&delayed(|n: usize| vec![1.5_f64; n]).call(1000))?;
    /// client.wait(std::slice::from_ref(&list), swath::client::WaitFor::All)?;
    /// assert_eq!(client.has_what()?, [("worker-0".to_string(), vec![list.key()])]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where the client is closed.
    pub fn has_what(&self) -> Result<Vec<(String, Vec<String>)>> {
        if let Some(kept) = self.kept_here()? {
            return Ok(self.has_here(kept));
        }
        let held = blocking(|| self.ask(Held { tasks: None }).wait())?;
        let workers = blocking(|| self.ask(Workers).wait())?;
        Ok(by_worker(workers.into_iter().map(|worker| worker.name), &held))
    }

    /// [`has_what`](Self::has_what) for async code.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let list = client.submit(&delayed(|n: usize| vec![1.5_f64; n]).call(1000))?;
    /// client.wait(std::slice::from_ref(&list), swath::client::WaitFor::All)?;
    /// assert_eq!(client.has_what_async().await?, [("threads".to_string(), vec![list.key()])]);
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`has_what`](Self::has_what).
    pub async fn has_what_async(&self) -> Result<Vec<(String, Vec<String>)>> {
        if let Some(kept) = self.kept_here()? {
            return Ok(self.has_here(kept));
        }
        let held = waiting(self.ask(Held { tasks: None })).await??;
        let workers = waiting(self.ask(Workers)).await??;
        Ok(by_worker(workers.into_iter().map(|worker| worker.name), &held))
    }

    /// How many bytes the workers keep for this client, by the names of the tasks that made them, the most first. Sizes are
    /// those of [`Future::nbytes`]; in threads and sync mode, where nothing is encoded, those of
    /// [`size_of_value`](crate::memory::size_of_value), which each result is walked for.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// let client = Client::local(1, 1, "512MB")?;
    /// let lists = client.submit_all(&delayed(|n: usize| vec![1.5_f64; n]).name("lists").map([1000, 2000]))?;
    /// client.wait(&lists, swath::client::WaitFor::All)?;
    /// let sizes = client.nbytes()?;
    /// assert!(sizes[0].0 == "lists" && sizes[0].1 >= 3000 * 8);
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`has_what`](Self::has_what).
    pub fn nbytes(&self) -> Result<Vec<(String, u64)>> {
        match self.kept_here()? {
            Some(kept) => Ok(sizes_of_kept(kept.results())),
            None => blocking(|| self.ask(Held { tasks: None }).wait()).map(sizes_of_held),
        }
    }

    /// [`nbytes`](Self::nbytes) for async code.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let list = client.submit(&delayed(|n: usize| vec![1.5_f64; n]).name("list").call(1000))?;
    /// client.wait(std::slice::from_ref(&list), swath::client::WaitFor::All)?;
    /// let sizes = client.nbytes_async().await?;
    /// assert!(sizes[0].0 == "list" && sizes[0].1 >= 8000);
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`has_what`](Self::has_what).
    pub async fn nbytes_async(&self) -> Result<Vec<(String, u64)>> {
        match self.kept_here()? {
            Some(kept) => Ok(sizes_of_kept(kept.results())),
            None => waiting(self.ask(Held { tasks: None })).await?.map(sizes_of_held),
        }
    }
}
