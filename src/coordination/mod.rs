//! Locks, semaphores, events, queues and variables that a program and its tasks share by their names.
//!
//! ```
//! use swath::coordination::{Lock, Queue};
//! use swath::{Client, try_delayed};
//!
//! fn work(n: u64, found: Queue<u64>, disk: Lock) -> swath::Result<()> {
//!     let _one_at_a_time = disk.acquire()?; // released when it is dropped
//!     found.put(n * n)
//! }
//!
//! let client = Client::local(2, 1, "512MB")?;
//! let (found, disk) = (client.queue::<u64>("found", 100)?, client.lock("disk")?);
//! let calls: Vec<_> = (0..4).map(|n| try_delayed(work).call(n, found.clone(), disk.clone())).collect();
//! client.compute(&calls)?;
//! let sum = (0..4).map(|_| found.get()).sum::<swath::Result<u64>>()?;
//! assert_eq!(sum, 0 + 1 + 4 + 9);
//! # Ok::<(), swath::Error>(())
//! ```
//!
//! A handle costs nothing: it is a name. It can be an argument of a task, and a task gets one of
//! [`current_client`](crate::current_client), too; the same name is the same thing. Each kind has names of its own, and so has
//! each client of a program, and each program on a local cluster: a task of one client that uses a handle of another one is
//! told so ([`CoordinationError::OtherClient`]). What is there is there until the program ends; locks and events that nobody
//! uses cost nothing, anything else some hundred bytes beside its values.
//!
//! # Waiting
//! First come, first served. What waits has four forms: `x()` waits for as long as it takes, `try_x()` not at all,
//! `x_timeout(d)` until the time is over, and `x_async()` costs no thread and may be dropped at any time, as time limits of async
//! runtimes do: what was on its way then goes back. A task that waits gives its place in the pool to another one, as one that
//! waits for tasks of its own. That costs its process a thread, so it keeps its place for half a millisecond at first, for up to
//! 1 ms more the more do so already for an event or variable, 20 ms for anything else, and for longer while others are served. At
//! most 4096 tasks of a process give theirs away: then whoever waits for a lock or semaphore keeps its place until 30 s
//! have passed in which nobody got it, and all others are refused ([`CoordinationError::TooManyWait`]). To have one part of many tasks run at a time, give them a
//! [resource](crate::delayed::DelayedFn::resource): those do not start before. One that is cancelled,
//! or over its time limit, waits no more: it is told so with an error,
//! for which [`is_cancelled`](crate::Error::is_cancelled) is true.
//!
//! Waiting for oneself is [`Error::Deadlock`], and nobody waits: a lock that the same run of a task has
//! already; locks that tasks have and wait for in a circle. In sync mode, where nothing runs beside the caller, that is all that
//! would wait, but for what another thread of the program has acquired: a task that takes items which a task submitted
//! after it puts, or that puts more than there is room for, is an error there. Put before you take, with room for all; where
//! other threads of the program do the rest, use the forms with a time limit, or async ones. What is not
//! noticed is a task that holds a lock while it computes others that want it, or while it waits for a
//! [resource](crate::delayed::DelayedFn::resource) of one that waits for the lock.
//!
//! # What dies
//! What a task acquires it has for its run at the longest, also where the guard is kept elsewhere or forgotten. So a lock is free
//! again when its holder panics, when its worker dies, when its program leaves: always after that, and never before, also where
//! the task was cancelled and goes on for a moment. Calls of the dead do not wait any more.
//!
//! An item of a queue is given to one caller, and goes with it: if the worker of that task dies then, the item is gone. A task
//! that runs again, since its worker died or it is retried, does again what it does, so it may put an item twice. To lose
//! and repeat nothing, have tasks return what they make.
//!
//! # Cost
//! A call is a message to the supervisor and its answer, less than a task takes: some microseconds for the program, some tens for
//! a task of a worker. Values go as arguments do: large ones lie in shared memory. In threads and sync mode a call is a
//! lock in this process and values are not copied.
//!
//! What lies in a queue or variable between processes is never moved to disk, as results are, and takes of the budget of
//! [shared memory](crate::Builder::shared_memory_limit). Where that is full of items, tasks with large results fail
//! (`found no room`), as does a `put` of a large one. So they are for what is small: keys, paths, numbers.

mod event;
mod lock;
mod queue;
mod variable;

pub use crate::error::CoordinationError;
pub use event::Event;
pub use lock::{Lock, LockGuard, Permit, Semaphore};
pub use queue::Queue;
pub use variable::Variable;

use crate::client::Client;
use crate::coordinator::{Kind, Operation, Patience, Target, check_name};
use crate::error::{Error, Result};
use crate::submission::backend::Backend;
use crate::submission::calls::{Given, Got, Waiting};
use crate::submission::context::{ClientId, asked_here, client_here, current_backend, decoding_for};
use crate::submission::handle::LocalValue;
use crate::task::codec::CodecOf;
use crate::task::{Data, Value};
use crate::units::Shown;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::any::type_name;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A name at a client.
#[derive(Clone)]
struct Named {
    /// None, where it has been decoded where no task runs: then it is that of the task that uses it.
    backend: Option<Arc<dyn Backend>>,
    target: Arc<Target>,
    /// The client in whose task it was made.
    made_in: Option<ClientId>,
    /// It was sent to the tasks of another client than its own.
    is_foreign: bool,
}

impl Named {
    fn new(client: &Client, kind: Kind, name: &str, limit: usize, type_name: &str) -> Result<Self> {
        check_name(|| format!("the {kind}'s name"), name)?;
        let (name, type_name, limit) = (name.to_string(), type_name.to_string(), limit as u64);
        let target = Arc::new(Target { kind, name, limit, type_name, shared: false });
        Ok(Self { backend: Some(client.backend()), target, made_in: client_here(), is_foreign: false })
    }

    /// Whether it is another client's than the one that runs the task that the caller is, or is to run those that it is encoded
    /// for. A client that a task has made is the task's own.
    fn is_foreign(&self) -> bool {
        let others = |backend: &Arc<dyn Backend>| {
            client_here().is_some_and(|here| here != ClientId::of(&**backend) && self.made_in != Some(here))
        };
        self.is_foreign || self.backend.as_ref().is_some_and(others)
    }

    fn name(&self) -> &str {
        &self.target.name
    }

    /// What it is, for an error.
    fn shown(&self) -> String {
        format!("the {self:?}")
    }

    fn start(&self, operation: Operation<Given>, patience: Patience) -> Result<Waiting> {
        let (kind, name) = (self.target.kind, self.name());
        if self.is_foreign() {
            return Err(CoordinationError::OtherClient { kind: kind.name(), name: name.to_string() }.into());
        }
        let Some(backend) = self.backend.clone().or_else(current_backend) else {
            let why = "it has come from another process to where no task runs; ask the client for it by its name";
            return Err(Error::invalid(self.shown(), why));
        };
        Waiting::start(&backend, Target::clone(&self.target), operation, patience)
    }

    /// Asks for what does not wait for others, or is not had then.
    fn now(&self, operation: Operation<Given>) -> Result<Got> {
        self.start(operation, Patience::None)?.wait()
    }

    async fn now_async(&self, operation: Operation<Given>) -> Result<Got> {
        self.start(operation, Patience::None)?.await
    }

    /// Waits for as long as it takes.
    fn wait(&self, operation: Operation<Given>) -> Result<Got> {
        self.start(operation, Patience::Blocking)?.wait()
    }

    fn wait_timeout(&self, operation: Operation<Given>, timeout: Duration) -> Result<Got> {
        self.start(operation, Patience::Limited)?.wait_timeout(timeout)
    }

    async fn wait_async(&self, operation: Operation<Given>) -> Result<Got> {
        self.start(operation, Patience::Async)?.await
    }

    /// A value as the type that is meant here.
    fn value<T: Data>(&self, value: LocalValue) -> Result<T> {
        let decode = || value.into_data();
        let decoded = match &self.backend {
            Some(backend) => decoding_for(backend, decode),
            None => decode(),
        };
        decoded.map_err(|reason| Error::WrongType { key: self.shown(), wanted: type_name::<T>(), reason })
    }

    /// The answer is one to something else.
    fn beside<T>(&self) -> Result<T> {
        Err(Error::Closed { reason: format!("{} was answered beside the point", self.shown()) })
    }

    fn done(&self, got: Result<Got>) -> Result<()> {
        match got? {
            Got::Done => Ok(()),
            _ => self.beside(),
        }
    }

    /// Whether it could be done at once.
    fn was_done(&self, got: Result<Got>) -> Result<bool> {
        match got? {
            Got::Done => Ok(true),
            Got::Nothing => Ok(false),
            _ => self.beside(),
        }
    }

    fn is(&self, got: Result<Got>) -> Result<bool> {
        match got? {
            Got::Is(so) => Ok(so),
            _ => self.beside(),
        }
    }

    fn taken<T: Data>(&self, got: Result<Got>) -> Result<T> {
        self.taken_if_any(got)?.map_or_else(|| self.beside(), Ok)
    }

    fn taken_if_any<T: Data>(&self, got: Result<Got>) -> Result<Option<T>> {
        match got? {
            Got::Value(value) => self.value(value).map(Some),
            Got::Nothing => Ok(None),
            _ => self.beside(),
        }
    }
}

fn given<T: Data>(value: T) -> Given {
    Given::New(Value::new(value), CodecOf::<T>::CODEC)
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.target.kind, Shown(self.name()))
    }
}

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        (&*self.target, self.is_foreign()).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let (target, is_foreign) = <(Target, bool)>::deserialize(from)?;
        Ok(Self { target: Arc::new(target), backend: asked_here(), made_in: client_here(), is_foreign })
    }
}

impl Client {
    /// The lock of that name: one at a time has it. See [`coordination`](crate::coordination).
    ///
    /// ```
    /// # use swath::Client;
    /// let client = Client::threads(2);
    /// let lock = client.lock("licence")?;
    /// let guard = lock.acquire()?;
    /// assert!(client.lock("licence")?.try_acquire()?.is_none());
    /// drop(guard);
    /// assert!(lock.try_acquire()?.is_some());
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] where the name is empty, has a slash or a control character, or more than 200 characters.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        Named::new(self, Kind::Lock, name, 1, "").map(Lock)
    }

    /// The semaphore of that name: `permits` at a time have it. The number is that of its first use. See
    /// [`coordination`](crate::coordination).
    ///
    /// ```
    /// # use swath::Client;
    /// let client = Client::threads(2);
    /// let connections = client.semaphore("connections", 2)?;
    /// let (one, two) = (connections.acquire()?, connections.acquire()?);
    /// assert!(connections.try_acquire()?.is_none());
    /// drop((one, two));
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and [`Error::Invalid`] for 0 permits.
    pub fn semaphore(&self, name: &str, permits: usize) -> Result<Semaphore> {
        if permits == 0 {
            return Err(Error::invalid("the permits of a semaphore", "there are 0, and so nobody would ever have one"));
        }
        Named::new(self, Kind::Semaphore, name, permits, "").map(Semaphore)
    }

    /// The event of that name: what is waited for until it is set. See [`coordination`](crate::coordination).
    ///
    /// ```
    /// # use swath::Client;
    /// let client = Client::threads(2);
    /// let ready = client.event("ready")?;
    /// assert!(!ready.is_set()?);
    /// ready.set()?;
    /// ready.wait()?;
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn event(&self, name: &str) -> Result<Event> {
        Named::new(self, Kind::Event, name, 0, "").map(Event)
    }

    /// The queue of that name, in which `most` items lie at most. The number and the type are those of its first use. See
    /// [`coordination`](crate::coordination).
    ///
    /// The bound is one of items, not of bytes. Between processes what lies there is encoded, large items in the
    /// [shared memory](crate::Builder::shared_memory_limit) that results are sent in, and is never moved to disk: choose a
    /// number of which all fit. Rather than data, put what says where the data is (a key, a path, a number), and have tasks
    /// return the data itself.
    ///
    /// ```
    /// # use swath::Client;
    /// let client = Client::threads(2);
    /// let lines = client.queue::<String>("lines", 10)?;
    /// lines.put("first".to_string())?;
    /// assert_eq!(lines.len()?, 1);
    /// assert_eq!(lines.get()?, "first");
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and [`Error::Invalid`] for a queue of 0 items.
    pub fn queue<T: Data>(&self, name: &str, most: usize) -> Result<Queue<T>> {
        if most == 0 {
            return Err(Error::invalid("the size of a queue", "it is 0, and so nothing would ever lie in it"));
        }
        Named::new(self, Kind::Queue, name, most, type_name::<T>()).map(Queue::of)
    }

    /// The variable of that name: a value, or none. See [`coordination`](crate::coordination).
    ///
    /// Between processes a large value takes of the [shared memory](crate::Builder::shared_memory_limit) that results are sent
    /// in, until it is replaced or [deleted](Variable::delete), and is never moved to disk. What is large is better
    /// [scattered](Self::scatter), or the result of a task.
    ///
    /// ```
    /// # use swath::Client;
    /// let client = Client::threads(2);
    /// let best = client.variable::<f64>("best")?;
    /// assert_eq!(best.try_get()?, None);
    /// best.set(0.25)?;
    /// assert_eq!(best.get()?, 0.25);
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn variable<T: Data>(&self, name: &str) -> Result<Variable<T>> {
        Named::new(self, Kind::Variable, name, 0, type_name::<T>()).map(Variable::of)
    }
}
