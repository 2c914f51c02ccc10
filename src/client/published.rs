//! Results that are kept under a name, for whoever asks for them by it.

use super::{Client, Future, WaitFor};
use crate::coordinator::check_name;
use crate::error::{Error, PublishError, Result};
use crate::graph::label::TaskLabel;
use crate::graph::node::serial_hash;
use crate::ids::TaskId;
use crate::message::question::{ListPublished, Publish, ReadPublished, Unpublish};
use crate::status::Published;
use crate::submission::handle::{LocalValue, ResultHandle, SHUT_DOWN, cancelled};
use crate::submission::published::PublishedValues;
use crate::task::codec::Codec;
use crate::task::function::{Record, TaskFunction};
use crate::task::wait::{blocking, waiting};
use crate::task::{Data, Value};
use std::any::type_name;
use std::slice::from_ref;
use std::sync::Arc;

/// What a published result is called as a task, in the process that asks for it.
fn label<T: Data>(name: &str) -> TaskLabel {
    fn published<T>(value: T) -> T {
        value
    }
    fn record<T: Data, F: TaskFunction<(T,), T>>(_: F) -> &'static Record {
        F::RECORD
    }
    let record = record::<T, _>(published::<T>);
    TaskLabel::named(record, name.to_string(), serial_hash(record))
}

fn check(name: &str) -> Result<()> {
    check_name(|| "the name of what is published".to_string(), name)
}

/// The values of results that are done, in the modes of this process.
fn values_of<T>(results: &[Future<T>]) -> Result<Vec<(Value, &'static Codec)>> {
    let value = |result: &Future<T>| {
        let output = result.output();
        match output.submission.if_here(output.index) {
            Some(Ok(LocalValue::Value(value))) => Ok((value, output.label().codec())),
            Some(Err(failed)) => Err(failed.into()),
            // There are no others of this process.
            Some(Ok(LocalValue::Payload(_))) | None => Err(cancelled(&output.label()).into()),
        }
    };
    results.iter().map(value).collect()
}

/// The tasks of results that are done.
fn tasks_of<T>(results: &[Future<T>]) -> Result<Vec<TaskId>> {
    let task = |result: &Future<T>| {
        if let Some(failed) = result.failure() {
            return Err(failed.into());
        }
        let output = result.output();
        Ok(output.submission.task_sent(output.index).ok_or_else(|| cancelled(&output.label()))?)
    };
    results.iter().map(task).collect()
}

/// The future of what is one result.
fn only<T>(name: &str, mut futures: Vec<Future<T>>) -> Result<Future<T>> {
    futures.pop().ok_or_else(|| PublishError::Missing { name: name.to_string() }.into())
}

impl Client {
    /// Keeps a result under a name until it is [unpublished](Self::unpublish), whatever handles there are. Waits for the result
    /// first, as [`wait`](Self::wait) does.
    ///
    /// On a local cluster it stays when this program has gone, also if that is killed, and each program of the same build can
    /// [have it](Self::published): of the same executable, whose workers have the same [`worker_init`](crate::Builder::worker_init)
    /// and `worker_exit`. Their workers stay as long as there is something published. In the other modes it lives with the
    /// client, and is there for the tasks, too.
    ///
    /// It is not copied: the worker that has the result goes on having it, in memory or on disk. Should that worker die, the
    /// result is made again, as any other; the graph that makes it stays known for that.
    ///
    /// A name has at most 200 characters, and no slash. To publish a lazy value, [submit](Self::submit) it; of one that has been
    /// [persisted](Self::persist) that gives the future, and runs nothing again.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let client = Client::local(2, 1, "512MB")?;
    /// let squares = client.submit(&delayed(|n: u64| (0..n).map(|x| x * x).collect::<Vec<u64>>()).call(100_u64))?;
    /// client.publish("squares", &squares)?;
    /// drop(squares);
    ///
    /// let squares = client.published::<Vec<u64>>("squares")?;
    /// let sum = delayed(|squares: Vec<u64>| squares.iter().sum::<u64>()).call(&squares);
    /// assert_eq!(client.compute(&sum)?, 328_350);
    /// client.unpublish("squares")?;
    /// assert!(client.list_published()?.is_empty());
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// That of the task where it fails. [`PublishError::Taken`] where something is published
    /// under that name, and [`OtherBuild`](crate::error::PublishError::OtherBuild) where that is of programs of another build;
    /// [`Error::Invalid`] for a bad name, [`Error::OtherClient`] for a future of another client.
    pub fn publish<T: Data>(&self, name: &str, result: &Future<T>) -> Result<()> {
        self.publish_some(name, type_name::<T>(), from_ref(result))
    }

    /// [`publish`](Self::publish) for async code.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_async<T: Data>(&self, name: &str, result: &Future<T>) -> Result<()> {
        self.publish_some_async(name, type_name::<T>(), from_ref(result)).await
    }

    /// [`publish`](Self::publish) for a list of results, which are had as a list again
    /// ([`published_all`](Self::published_all)): the parts of a persisted bag, for example.
    ///
    /// ```
    /// use swath::{Bag, Client};
    /// let client = Client::threads(2);
    /// let bag = Bag::from_sequence(0..1000_u64, 10).map(|x| x * x).persist(&client)?;
    /// client.publish_all("squares", &client.submit_all(&bag.to_delayed())?)?;
    ///
    /// let parts = client.published_all::<Vec<u64>>("squares")?;
    /// assert_eq!(parts.len(), 10);
    /// let bag = Bag::from_delayed(parts.iter().map(swath::Future::delayed));
    /// assert_eq!(client.compute(&bag.sum())?, 332_833_500);
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`publish`](Self::publish); nothing is published where one of them has failed.
    pub fn publish_all<T: Data>(&self, name: &str, results: &[Future<T>]) -> Result<()> {
        self.publish_some(name, type_name::<[T]>(), results)
    }

    /// [`publish_all`](Self::publish_all) for async code.
    ///
    /// # Errors
    /// As [`publish_all`](Self::publish_all).
    pub async fn publish_all_async<T: Data>(&self, name: &str, results: &[Future<T>]) -> Result<()> {
        self.publish_some_async(name, type_name::<[T]>(), results).await
    }

    fn publish_some<T>(&self, name: &str, type_name: &'static str, results: &[Future<T>]) -> Result<()> {
        self.check_publishable(name, results)?;
        self.wait(results, WaitFor::All)?;
        match self.published_here()? {
            Some(here) => Ok(here.publish(name, type_name, values_of(results)?)?),
            None => {
                let question = Publish { name: name.to_string(), type_name, tasks: tasks_of(results)? };
                blocking(|| self.ask(question).wait())
            }
        }
    }

    async fn publish_some_async<T>(&self, name: &str, type_name: &'static str, results: &[Future<T>]) -> Result<()> {
        self.check_publishable(name, results)?;
        self.wait_async(results, WaitFor::All).await?;
        match self.published_here()? {
            Some(here) => Ok(here.publish(name, type_name, values_of(results)?)?),
            None => {
                let question = Publish { name: name.to_string(), type_name, tasks: tasks_of(results)? };
                waiting(self.ask(question)).await?
            }
        }
    }

    fn check_publishable<T>(&self, name: &str, results: &[Future<T>]) -> Result<()> {
        check(name)?;
        self.check_origin()?;
        let foreign = |result: &&Future<T>| !Arc::ptr_eq(result.output().submission.backend(), &self.0.backend);
        match results.iter().find(foreign) {
            None => Ok(()),
            Some(result) => Err(Error::OtherClient { key: result.key() }),
        }
    }

    /// What this process has published, if it has no workers.
    fn published_here(&self) -> Result<Option<&PublishedValues>> {
        self.check_origin()?;
        match self.0.backend.published() {
            Some(_) if self.0.backend.is_closed() => Err(Error::Closed { reason: SHUT_DOWN.to_string() }),
            here => Ok(here),
        }
    }

    /// A future of what is published under a name. It keeps the result as any other handle does, also when that is not published
    /// any more. It costs a message, whatever the size: the result stays where it is until somebody needs it.
    ///
    /// ```
    /// use swath::{Client, Error};
    /// use swath::error::PublishError;
    /// let client = Client::threads(2);
    /// client.publish("answer", &client.scatter(42_u64)?)?;
    /// assert_eq!(client.published::<u64>("answer")?.result()?, 42);
    /// let wrong = client.published::<String>("answer").unwrap_err();
    /// assert!(matches!(wrong, Error::Publish(PublishError::WrongType { there, .. }) if there == "u64"));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`PublishError`]: [`Missing`](crate::error::PublishError::Missing) where nothing is published
    /// under that name, [`WrongType`](crate::error::PublishError::WrongType) where it is of another type than `T`, which names
    /// both, and [`OtherBuild`](crate::error::PublishError::OtherBuild) where programs of another build have published it. Where
    /// a lost result cannot be made again, the future fails with what its task failed with then.
    pub fn published<T: Data>(&self, name: &str) -> Result<Future<T>> {
        self.read_some(name, type_name::<T>(), 1).and_then(|futures| only(name, futures))
    }

    /// [`published`](Self::published) for async code.
    ///
    /// # Errors
    /// As [`published`](Self::published).
    pub async fn published_async<T: Data>(&self, name: &str) -> Result<Future<T>> {
        self.read_some_async(name, type_name::<T>(), 1).await.and_then(|futures| only(name, futures))
    }

    /// The futures of a list that is [published](Self::publish_all) under a name, in its order. Of which type it is says that
    /// of its elements: a list and a single result are not had as each other.
    ///
    /// # Errors
    /// As [`published`](Self::published).
    pub fn published_all<T: Data>(&self, name: &str) -> Result<Vec<Future<T>>> {
        self.read_some(name, type_name::<[T]>(), 0)
    }

    /// [`published_all`](Self::published_all) for async code.
    ///
    /// # Errors
    /// As [`published`](Self::published).
    pub async fn published_all_async<T: Data>(&self, name: &str) -> Result<Vec<Future<T>>> {
        self.read_some_async(name, type_name::<[T]>(), 0).await
    }

    /// What is published, which may be so many results.
    fn read_some<T: Data>(&self, name: &str, type_name: &'static str, mut count: usize) -> Result<Vec<Future<T>>> {
        check(name)?;
        if let Some(here) = self.published_here()? {
            return self.read_here(here, name, type_name);
        }
        loop {
            let (outputs, question) = self.reading::<T>(name, type_name, count)?;
            match blocking(|| self.ask(question).wait())? {
                None => return Ok(outputs.into_iter().map(Future::new).collect()),
                Some(there) => count = there,
            }
        }
    }

    async fn read_some_async<T: Data>(
        &self,
        name: &str,
        type_name: &'static str,
        mut count: usize,
    ) -> Result<Vec<Future<T>>> {
        check(name)?;
        if let Some(here) = self.published_here()? {
            return self.read_here(here, name, type_name);
        }
        loop {
            let (outputs, question) = self.reading::<T>(name, type_name, count)?;
            match waiting(self.ask(question)).await?? {
                None => return Ok(outputs.into_iter().map(Future::new).collect()),
                Some(there) => count = there,
            }
        }
    }

    fn read_here<T: Data>(
        &self,
        here: &PublishedValues,
        name: &str,
        type_name: &'static str,
    ) -> Result<Vec<Future<T>>> {
        let values = here.read(name, type_name)?.into_iter();
        let values: Vec<_> = values.map(|(value, codec)| (value, codec, label::<T>(name))).collect();
        let count = values.len() as u32;
        let submission = self.backend().scatter(values, false)?;
        Ok((0..count).map(|index| Future::new(ResultHandle::new(&submission, index))).collect())
    }

    /// The handles, which hear what the supervisor tells before it has answered; and what to ask.
    fn reading<T: Data>(
        &self,
        name: &str,
        type_name: &'static str,
        count: usize,
    ) -> Result<(Vec<ResultHandle>, ReadPublished)> {
        let expect = |_| self.backend().expect(label::<T>(name)).map(|submission| ResultHandle::new(&submission, 0));
        let outputs = (0..count).map(expect).collect::<Result<Vec<_>>>()?;
        let numbers = outputs.iter().map(|output| output.submission.number).collect();
        Ok((outputs, ReadPublished { name: name.to_string(), type_name, numbers }))
    }

    /// Keeps what is published under a name no longer. Who has a future of it keeps it; without one it is dropped.
    ///
    /// # Errors
    /// [`PublishError::Missing`] where nothing is published under that name, so also the
    /// second time, and [`OtherBuild`](crate::error::PublishError::OtherBuild) where it is of programs of another build.
    pub fn unpublish(&self, name: &str) -> Result<()> {
        check(name)?;
        match self.published_here()? {
            Some(here) => Ok(here.unpublish(name)?),
            None => blocking(|| self.ask(Unpublish(name.to_string())).wait()),
        }
    }

    /// [`unpublish`](Self::unpublish) for async code.
    ///
    /// # Errors
    /// As [`unpublish`](Self::unpublish).
    pub async fn unpublish_async(&self, name: &str) -> Result<()> {
        check(name)?;
        match self.published_here()? {
            Some(here) => Ok(here.unpublish(name)?),
            None => waiting(self.ask(Unpublish(name.to_string()))).await?,
        }
    }

    /// What is published: on a local cluster all that programs of this build have published, otherwise what this client and
    /// its tasks have; in the order of the names.
    ///
    /// ```
    /// # use swath::Client;
    /// let client = Client::sync();
    /// client.publish("answer", &client.scatter(42_u64)?)?;
    /// let all = client.list_published()?;
    /// assert_eq!((all[0].name.as_str(), all[0].type_name.as_str()), ("answer", "u64"));
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where the client is closed.
    pub fn list_published(&self) -> Result<Vec<Published>> {
        match self.published_here()? {
            Some(here) => Ok(here.list()),
            None => blocking(|| self.ask(ListPublished).wait()),
        }
    }

    /// [`list_published`](Self::list_published) for async code.
    ///
    /// # Errors
    /// As [`list_published`](Self::list_published).
    pub async fn list_published_async(&self) -> Result<Vec<Published>> {
        match self.published_here()? {
            Some(here) => Ok(here.list()),
            None => waiting(self.ask(ListPublished)).await?,
        }
    }
}
