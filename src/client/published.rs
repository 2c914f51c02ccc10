//! Results that are kept under a name, for whoever asks for them by it.

use super::{Client, Future, WaitFor};
use crate::coordinator::check_name;
use crate::error::{Error, Result};
use crate::graph::label::TaskLabel;
use crate::graph::node::serial_hash;
use crate::message::question::{ListPublished, Publish, ReadPublished, Unpublish};
use crate::status::Published;
use crate::submission::handle::{LocalValue, ResultHandle, SHUT_DOWN, cancelled};
use crate::submission::published::PublishedValues;
use crate::task::Data;
use crate::task::function::{Record, TaskFunction};
use crate::task::wait::{blocking, waiting};
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
    /// That of the task where it fails. [`PublishError::Taken`](crate::error::PublishError::Taken) where something is published
    /// under that name, and [`OtherBuild`](crate::error::PublishError::OtherBuild) where that is of programs of another build;
    /// [`Error::Invalid`] for a bad name, [`Error::OtherClient`] for a future of another client.
    pub fn publish<T: Data>(&self, name: &str, result: &Future<T>) -> Result<()> {
        self.check_publishable(name, result)?;
        self.wait(from_ref(result), WaitFor::All)?;
        match self.published_here()? {
            Some(here) => Self::publish_here(here, name, result),
            None => {
                let question = Self::publication(name, result)?;
                blocking(|| self.ask(question).wait())
            }
        }
    }

    /// [`publish`](Self::publish) for async code.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_async<T: Data>(&self, name: &str, result: &Future<T>) -> Result<()> {
        self.check_publishable(name, result)?;
        self.wait_async(from_ref(result), WaitFor::All).await?;
        match self.published_here()? {
            Some(here) => Self::publish_here(here, name, result),
            None => waiting(self.ask(Self::publication(name, result)?)).await?,
        }
    }

    fn check_publishable<T>(&self, name: &str, result: &Future<T>) -> Result<()> {
        check(name)?;
        self.check_origin()?;
        match Arc::ptr_eq(result.output().submission.backend(), &self.0.backend) {
            true => Ok(()),
            false => Err(Error::OtherClient { key: result.key() }),
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

    fn publish_here<T>(here: &PublishedValues, name: &str, result: &Future<T>) -> Result<()> {
        let output = result.output();
        match output.submission.if_here(output.index) {
            Some(Ok(LocalValue::Value(value))) => {
                Ok(here.publish(name, type_name::<T>(), value, output.label().codec())?)
            }
            Some(Err(failed)) => Err(failed.into()),
            // There are no others of this process.
            Some(Ok(LocalValue::Payload(_))) | None => Err(cancelled(&output.label()).into()),
        }
    }

    fn publication<T>(name: &str, result: &Future<T>) -> Result<Publish> {
        if let Some(failed) = result.failure() {
            return Err(failed.into());
        }
        let output = result.output();
        let task = output.submission.task_sent(output.index).ok_or_else(|| cancelled(&output.label()))?;
        Ok(Publish { name: name.to_string(), type_name: type_name::<T>(), task })
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
    /// [`PublishError`](crate::error::PublishError): [`Missing`](crate::error::PublishError::Missing) where nothing is published
    /// under that name, [`WrongType`](crate::error::PublishError::WrongType) where it is of another type than `T`, which names
    /// both, and [`OtherBuild`](crate::error::PublishError::OtherBuild) where programs of another build have published it. Where
    /// a lost result cannot be made again, the future fails with what its task failed with then.
    pub fn published<T: Data>(&self, name: &str) -> Result<Future<T>> {
        check(name)?;
        if let Some(here) = self.published_here()? {
            return self.read_here(here, name);
        }
        let (output, question) = self.reading::<T>(name)?;
        blocking(|| self.ask(question).wait())?;
        Ok(Future::new(output))
    }

    /// [`published`](Self::published) for async code.
    ///
    /// # Errors
    /// As [`published`](Self::published).
    pub async fn published_async<T: Data>(&self, name: &str) -> Result<Future<T>> {
        check(name)?;
        if let Some(here) = self.published_here()? {
            return self.read_here(here, name);
        }
        let (output, question) = self.reading::<T>(name)?;
        waiting(self.ask(question)).await??;
        Ok(Future::new(output))
    }

    fn read_here<T: Data>(&self, here: &PublishedValues, name: &str) -> Result<Future<T>> {
        let (value, codec) = here.read(name, type_name::<T>())?;
        let submission = self.backend().scatter(vec![(value, codec, label::<T>(name))], false)?;
        Ok(Future::new(ResultHandle::new(&submission, 0)))
    }

    /// The handle, which hears what the supervisor tells before it has answered; and what to ask.
    fn reading<T: Data>(&self, name: &str) -> Result<(ResultHandle, ReadPublished)> {
        let submission = self.backend().expect(label::<T>(name))?;
        let question = ReadPublished { name: name.to_string(), type_name: type_name::<T>(), number: submission.number };
        Ok((ResultHandle::new(&submission, 0), question))
    }

    /// Keeps what is published under a name no longer. Who has a future of it keeps it; without one it is dropped.
    ///
    /// # Errors
    /// [`PublishError::Missing`](crate::error::PublishError::Missing) where nothing is published under that name, so also the
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
