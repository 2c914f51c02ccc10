//! The one handle of a program: it runs lazy work in one of the three modes.

mod blocking;
pub(crate) mod buffered;
mod builder;
mod computable;
mod durable;
mod future;
mod in_async;
mod lowering;
mod map;
mod replay;
mod wait;

use crate::MemoryLimit;
use crate::Mode;
use crate::Progress;
use crate::WorkerInfo;
use crate::submission::reply::Asked;
pub use builder::Builder;
pub use computable::{Computable, Handles, Results};
pub use future::{Awaited, Future, Status};
pub use lowering::{Lowered, Lowering, Plan, PlanContext};
pub use wait::{AsCompleted, WaitFor};

use crate::delayed::Delayed;
use crate::error::{DeathRecord, Error, Result};
use crate::events::{ClientLog, DEFAULT_CAPACITY, EventLog};
use crate::exec::sync::SyncExecutor;
use crate::exec::threads::ThreadPool;
use crate::graph::Graph;
use crate::graph::label::TaskLabel;
use crate::graph::node::{Node, serial_hash};
use crate::ipc::clock::ticks;
use crate::memory::report::MemoryReport;
use crate::message::{Ask, question};
use crate::status::{Explanation, LogLine};
use crate::submission::backend::{Backend, Want};
use crate::submission::context::current_backend;
use crate::submission::handle::{AllResults, ResultHandle, Submission, WeakHandle};
use crate::submission::limit::{Permit, SubmissionLimit};
use crate::task::codec::CodecOf;
use crate::task::function::{Record, TaskFunction};
use crate::task::{Data, Value};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many graphs a client has under way at most, if nothing else is said.
pub(crate) const MOST_GRAPHS: usize = 1 << 14;

/// Runs lazy work: in worker processes, on threads, or in the calling thread.
///
/// Cheap to clone, and every method may be called from any thread. A method that may wait, be it for results, workers or
/// room, blocks the calling thread, and has a form for async code, `…_async`, that works under any runtime or none and
/// does not block. Those without one, as [`cancel`](Self::cancel) and [`progress`](Self::progress), never wait. (In sync
/// mode tasks run in the thread that submits them, also from async code.)
///
/// Printing a client tells its mode, workers, limits and state. When the last clone is dropped the client shuts down: what
/// still runs is cancelled, and its workers are stopped, which is waited for; async code calls
/// [`shutdown_async`](Self::shutdown_async) before.
///
/// ```
/// use swath::{Client, delayed};
/// let client = Client::threads(4);
/// let squares = delayed(|x: u64| x * x).map(0..100_u64);
/// let total = delayed(|xs: Vec<u64>| xs.into_iter().sum::<u64>()).call(squares);
/// assert_eq!(client.compute(&total)?, 328_350);
/// # Ok::<(), swath::Error>(())
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

/// A graph that has been submitted for a [`Computable`].
struct Started {
    run: Arc<Submission>,
    /// For each root, its slot.
    slots: Vec<u32>,
    /// How many roots each collection has.
    counts: Vec<usize>,
}

struct Inner {
    backend: Arc<dyn Backend>,
    /// Whether the end of this handle is the end of the workers; not so for a client inside a task.
    owner: bool,
    gate: Arc<SubmissionLimit>,
    log: Arc<ClientLog>,
    /// Results of pure tasks that are still held.
    pure: Mutex<FxHashMap<u128, WeakHandle>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.owner {
            self.backend.shutdown();
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.backend.describe())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({self})")
    }
}

impl Client {
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Self {
        Self::with_limit(backend, MOST_GRAPHS)
    }

    /// A client that has so many graphs under way at most.
    pub(crate) fn with_limit(backend: Arc<dyn Backend>, graphs: usize) -> Self {
        Self::with(backend, true, graphs)
    }

    pub(crate) fn inside(backend: Arc<dyn Backend>) -> Self {
        Self::with(backend, false, MOST_GRAPHS)
    }

    fn with(backend: Arc<dyn Backend>, owner: bool, graphs: usize) -> Self {
        let (gate, log) = (SubmissionLimit::new(graphs, Arc::clone(&backend)), Arc::new(ClientLog::new()));
        Self(Arc::new(Inner { backend, owner, gate, log, pure: Mutex::default() }))
    }

    /// Starts `n_workers` worker processes with `threads` executor threads each, under a supervisor in this process.
    ///
    /// `mem_limit` is each worker's: `"2GB"`, `"512MiB"`, a number of bytes, a fraction of the machine's memory, or
    /// [`MemoryLimit::None`]. Returns when the workers have been started; tasks wait until one has answered.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad size, [`Error::Spawn`] or [`Error::Resource`] where the system refuses.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let client = Client::local(2, 1, "512MB")?;
    /// assert_eq!(delayed(|x: i64| x + 1).call(41).compute(&client)?, 42);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn local(n_workers: usize, threads: usize, mem_limit: impl Into<MemoryLimit>) -> Result<Self> {
        Self::builder().workers(n_workers).threads(threads).memory_limit(mem_limit).build()
    }

    /// Runs tasks on `n` threads of this process. With `n` = 0 on one.
    pub fn threads(n: usize) -> Self {
        Self::new(ThreadPool::new(n, DEFAULT_CAPACITY, None))
    }

    /// Runs each task in the calling thread, in the same order every time: for debugging.
    pub fn sync() -> Self {
        Self::new(SyncExecutor::new(DEFAULT_CAPACITY))
    }

    /// All options of a client.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Takes mode and sizes from the environment, so that a program can be debugged without a change.
    ///
    /// | variable | meaning | default |
    /// |---|---|---|
    /// | `SWATH_CLUSTER` | name or path of a running local cluster to connect to; the others are ignored then | |
    /// | `SWATH_SCHEDULER` | `sync`, `threads` or `processes` | `processes` |
    /// | `SWATH_WORKERS` | worker processes | one for each core |
    /// | `SWATH_THREADS` | threads of each worker, or of the threads mode | 1, or one for each core |
    /// | `SWATH_MEMORY_LIMIT` | memory limit of each worker | none |
    ///
    /// # Errors
    /// [`Error::Invalid`] names a variable whose value makes no sense; otherwise as [`local`](Self::local).
    pub fn from_env() -> Result<Self> {
        Builder::from_env()?.build()
    }

    /// Connects to a running local cluster, by its name or the path of its socket.
    ///
    /// # Errors
    /// [`Error::Connect`] where none answers there, or it refuses: another user's, or another version.
    pub fn connect(name_or_path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().cluster(name_or_path.as_ref()).build()
    }

    fn backend(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.0.backend)
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.0.backend.mode()
    }

    fn graph(&self, roots: &[&Arc<Node>]) -> Result<Graph> {
        self.graph_with(roots, &FxHashMap::default())
    }

    /// The graph of what `roots` need, without the results that are `held`, by their hashes.
    fn graph_with(&self, roots: &[&Arc<Node>], held: &FxHashMap<u128, ResultHandle>) -> Result<Graph> {
        let pure = self.0.pure.lock();
        let known = |node: &Arc<Node>| match held.get(&node.hash) {
            Some(output) => Some(output.clone()),
            None => node.is_pure().then(|| pure.get(&node.hash)?.upgrade())?,
        };
        let any = !(pure.is_empty() && held.is_empty());
        let graph = Graph::with_known(roots, any.then_some(&known));
        drop(pure);
        for node in &graph.nodes {
            if let crate::graph::node::Kind::Held(output) = &node.kind
                && !Arc::ptr_eq(output.submission.backend(), &self.0.backend)
            {
                return Err(Error::OtherClient { key: output.key() });
            }
        }
        Ok(graph)
    }

    /// The picture of the graph that computes `what`.
    pub(crate) fn dot<C: Computable + ?Sized>(what: &C) -> Result<String> {
        Ok(Lowering::of(what, None, false)?.with(crate::graph::dot::dot))
    }

    /// Submits what `what` needs.
    fn start<C: Computable + ?Sized>(&self, what: &C, want: Want, permit: Permit) -> Result<Started> {
        let roots = Lowering::of(what, Some(self), matches!(want, Want::Handles))?;
        let graph = roots.with(|roots| self.graph(roots))?;
        let counts = roots.counts;
        let outputs = graph.outputs();
        let slots = match outputs == graph.roots {
            true => (0..outputs.len() as u32).collect(),
            false => graph.roots.iter().map(|r| outputs.binary_search(r).map_or(0, |s| s as u32)).collect(),
        };
        Ok(Started { run: self.run(graph, want, permit)?, slots, counts })
    }

    /// Submits a graph.
    fn run(&self, graph: Graph, want: Want, permit: Permit) -> Result<Arc<Submission>> {
        self.noted(permit, graph.tasks(), || self.backend().submit(graph, want))
    }

    /// Submits some tasks, and notes when that began and, later, when they were done.
    fn noted(
        &self,
        permit: Permit,
        tasks: usize,
        submit: impl FnOnce() -> Result<Arc<Submission>>,
    ) -> Result<Arc<Submission>> {
        let began = ticks();
        let run = submit()?;
        run.keep_until_done(permit.submitted(&self.0.log, run.number, tasks, began));
        Ok(run)
    }

    fn finish<C: Computable + ?Sized>(
        what: &C,
        run: &AllResults,
        slots: Vec<u32>,
        counts: Vec<usize>,
    ) -> Result<C::Output> {
        let mut left = vec![0_u32; run.0.len()];
        slots.iter().for_each(|&s| left[s as usize] += 1);
        let mut slots = slots.into_iter();
        let next = || {
            let slot = slots.next().unwrap_or_default();
            left[slot as usize] -= 1;
            let here = if left[slot as usize] == 0 {
                run.0.take(slot)
            } else {
                // All outputs are here by now, so nobody is ever told.
                run.0
                    .poll_here(slot, || crate::submission::handle::Waiter::Call(Box::new(|| ())))
                    .unwrap_or_else(|| run.0.take(slot))
            };
            (here, computable::ResultRef { run: &run.0, slot })
        };
        what.output(&mut Results { next: Box::new(next), counts: counts.into_iter() })
    }

    /// Computes lazy values and waits for them. Parts that several of them share run once.
    ///
    /// # Errors
    /// Where a task fails: the failure of the first of `what` that has one. All of the graph has ended by then.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let x = delayed(|x: i64| x + 1).call(1);
    /// let (a, b) = (&x * 10, &x + 5);
    /// assert_eq!(Client::sync().compute((&a, &b))?, (20, 7));
    /// assert_eq!(Client::sync().compute(&vec![a, b])?, [20, 7]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn compute<C: Computable>(&self, what: C) -> Result<C::Output> {
        let Started { run, slots, counts } = self.start(&what, Want::Values, self.0.gate.acquire())?;
        let run = AllResults(run);
        run.0.wait_all(None);
        Self::finish(&what, &run, slots, counts)
    }

    /// [`compute`](Self::compute), but waits no longer than `timeout`; then the work is cancelled.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the time is over; otherwise as [`compute`](Self::compute).
    pub fn compute_timeout<C: Computable>(&self, what: C, timeout: Duration) -> Result<C::Output> {
        let deadline = Instant::now().checked_add(timeout);
        let late = Error::Timeout { waited: timeout };
        let Some(permit) = self.0.gate.enter_until(deadline) else { return Err(late) };
        let Started { run, slots, counts } = self.start(&what, Want::Values, permit)?;
        let run = AllResults(run);
        if !run.0.wait_all(deadline) {
            return Err(late);
        }
        Self::finish(&what, &run, slots, counts)
    }

    /// [`compute`](Self::compute) for async code. Dropping the future cancels the work.
    ///
    /// # Errors
    /// As [`compute`](Self::compute).
    pub async fn compute_async<C: Computable>(&self, what: C) -> Result<C::Output> {
        let Started { run, slots, counts } = self.start(&what, Want::Values, self.0.gate.enter_async().await)?;
        let run = AllResults(run);
        std::future::poll_fn(|cx| match run.0.poll_all(cx.waker()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        })
        .await;
        Self::finish(&what, &run, slots, counts)
    }

    /// The first handle of an output of a run.
    fn output(run: &Arc<Submission>, slot: u32) -> ResultHandle {
        match run.alias(slot) {
            Some(earlier) => earlier.clone(),
            None => ResultHandle::new(run, slot),
        }
    }

    /// The first handles of a run's outputs.
    fn outputs(&self, run: &Arc<Submission>) -> Vec<ResultHandle> {
        let outputs: Vec<_> = (0..run.len() as u32).map(|slot| Self::output(run, slot)).collect();
        self.remember(&outputs);
        outputs
    }

    /// Has later graphs use the results of pure tasks.
    fn remember(&self, outputs: &[ResultHandle]) {
        let mut pure: Option<parking_lot::MutexGuard<'_, FxHashMap<u128, WeakHandle>>> = None;
        for output in outputs.iter().filter(|output| output.submission.may_be_pure(output.index)) {
            let known = pure.get_or_insert_with(|| {
                let mut known = self.0.pure.lock();
                known.retain(|_, output| !output.is_gone());
                known
            });
            known.insert(output.hash(), output.downgrade());
        }
    }

    /// A handle for each root, of the output in its slot.
    fn handles<T>(&self, run: &Arc<Submission>, slots: &[u32]) -> Vec<Future<T>> {
        let outputs = self.outputs(run);
        match slots.iter().copied().eq(0..outputs.len() as u32) {
            true => outputs.into_iter().map(Future::new).collect(),
            false => slots.iter().map(|&slot| Future::new(outputs[slot as usize].clone())).collect(),
        }
    }

    /// Submits what one value needs.
    fn submit_one<T>(&self, what: &Delayed<T>, permit: Permit) -> Result<Future<T>> {
        let run = self.run(self.graph(&[what.node()])?, Want::Handles, permit)?;
        let output = Self::output(&run, 0);
        self.remember(std::slice::from_ref(&output));
        Ok(Future::new(output))
    }

    /// Starts computing lazy values and keeps the results where the tasks run. Does not wait.
    ///
    /// The handles are lazy values again, to describe more work with; a graph that uses them does not run those tasks
    /// again. When the last handle goes, the result is released.
    ///
    /// # Errors
    /// Where the graph cannot be submitted. A task that fails shows when its result is used.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let client = Client::threads(2);
    /// let parsed = delayed(|s: String| s.len()).call("costly").persist(&client)?;
    /// assert_eq!(client.compute((&(&parsed * 2), &(&parsed + 1)))?, (12, 7));
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn persist<C: Computable>(&self, what: C) -> Result<C::Persisted> {
        let Started { run, slots, counts } = self.start(&what, Want::Handles, self.0.gate.acquire())?;
        let outputs = self.outputs(&run);
        let next = &mut slots.into_iter().map(|s| outputs[s as usize].clone());
        Ok(what.persisted(&mut Handles { next, counts: counts.into_iter() }))
    }

    /// [`persist`](Self::persist) for async code: if too much is under way, it waits for room without blocking.
    ///
    /// # Errors
    /// As [`persist`](Self::persist).
    pub async fn persist_async<C: Computable>(&self, what: C) -> Result<C::Persisted> {
        let Started { run, slots, counts } = self.start(&what, Want::Handles, self.0.gate.enter_async().await)?;
        let outputs = self.outputs(&run);
        let next = &mut slots.into_iter().map(|s| outputs[s as usize].clone());
        Ok(what.persisted(&mut Handles { next, counts: counts.into_iter() }))
    }

    /// Starts computing a lazy value. Does not wait for it.
    ///
    /// When very much is under way already (see [`Builder::max_graphs`]), it waits for room first: that slows down whoever
    /// submits faster than the workers can work.
    ///
    /// # Errors
    /// Where the graph cannot be submitted: a closed client, an argument that cannot be encoded.
    pub fn submit<T: Data>(&self, what: &Delayed<T>) -> Result<Future<T>> {
        self.submit_one(what, self.0.gate.acquire())
    }

    /// [`submit`](Self::submit) for async code: if too much is under way, it waits for room without blocking.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_async<T: Data>(&self, what: &Delayed<T>) -> Result<Future<T>> {
        self.submit_one(what, self.0.gate.enter_async().await)
    }

    /// Starts computing many lazy values. Does not wait.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_all<T: Data>(&self, what: &[Delayed<T>]) -> Result<Vec<Future<T>>> {
        let Started { run, slots, .. } = self.start(what, Want::Handles, self.0.gate.acquire())?;
        Ok(self.handles(&run, &slots))
    }

    /// [`submit_all`](Self::submit_all) for async code: if too much is under way, it waits for room without blocking.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_all_async<T: Data>(&self, what: &[Delayed<T>]) -> Result<Vec<Future<T>>> {
        let Started { run, slots, .. } = self.start(what, Want::Handles, self.0.gate.enter_async().await)?;
        Ok(self.handles(&run, &slots))
    }

    fn scatter_values<T: Data>(&self, values: Vec<T>, broadcast: bool) -> Result<Vec<Future<T>>> {
        fn scattered<T>(value: T) -> T {
            value
        }
        fn record<T: Data, F: TaskFunction<(T,), T>>(_: F) -> &'static Record {
            F::RECORD
        }
        let record = record::<T, _>(scattered::<T>);
        let values = values
            .into_iter()
            .map(|v| (Arc::new(v) as Value, CodecOf::<T>::CODEC, TaskLabel::new(record, None, serial_hash(record))))
            .collect();
        let backend = self.backend();
        if let Some(room) = backend.room() {
            room.wait()?;
        }
        let run = backend.scatter(values, broadcast)?;
        Ok(self.outputs(&run).into_iter().map(Future::new).collect())
    }

    /// Gives a value to the workers, to be an argument of many tasks: it is sent once, not with each task.
    ///
    /// In processes mode its large buffers are copied once, into shared memory, which all workers then read.
    ///
    /// # Errors
    /// Where the value cannot be encoded, or there is no room for it.
    pub fn scatter<T: Data>(&self, value: T) -> Result<Future<T>> {
        self.scatter_one(value, false)
    }

    fn scatter_one<T: Data>(&self, value: T, broadcast: bool) -> Result<Future<T>> {
        let mut futures = self.scatter_values(vec![value], broadcast)?;
        futures.pop().ok_or_else(|| Error::Closed { reason: "nothing was scattered".to_string() })
    }

    /// Gives several values to the workers, each with its own handle.
    ///
    /// # Errors
    /// As [`scatter`](Self::scatter).
    pub fn scatter_all<T: Data>(&self, values: Vec<T>) -> Result<Vec<Future<T>>> {
        self.scatter_values(values, false)
    }

    /// Gives a value to all workers at once: each has it in reach before its first task asks for it, also those that start
    /// later.
    ///
    /// Large buffers are copied once, into shared memory, however many workers there are; each maps them now, and keeps
    /// them mapped until the last handle of the value goes. [`scatter`](Self::scatter) leaves that to the first
    /// task that uses the value on a worker.
    ///
    /// # Errors
    /// As [`scatter`](Self::scatter).
    pub fn broadcast<T: Data>(&self, value: T) -> Result<Future<T>> {
        self.scatter_one(value, true)
    }

    /// Waits until all, or any, of the futures are done (finished, failed or cancelled).
    ///
    /// # Errors
    /// [`Error::Timeout`] when `timeout` is over before.
    pub fn wait<T>(&self, futures: &[Future<T>], how: WaitFor, timeout: Option<Duration>) -> Result<()> {
        match wait::wait(futures, how, timeout.and_then(|t| Instant::now().checked_add(t))) {
            true => Ok(()),
            false => Err(Error::Timeout { waited: timeout.unwrap_or_default() }),
        }
    }

    /// [`wait`](Self::wait) for async code, without a time limit: that is up to a runtime's timer, or to
    /// [`wait_timeout_async`](Self::wait_timeout_async).
    pub async fn wait_async<T>(&self, futures: &[Future<T>], how: WaitFor) {
        wait::wait_async(futures, how).await;
    }

    /// The futures, each as soon as it is done.
    ///
    /// ```
    /// use swath::Client;
    /// let client = Client::threads(2);
    /// let futures = client.map(|x: u64| x * x, 0..5_u64)?;
    /// let mut squares: Vec<u64> = client.as_completed(futures).map(|f| f.result()).collect::<Result<_, _>>()?;
    /// squares.sort();
    /// assert_eq!(squares, [0, 1, 4, 9, 16]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn as_completed<T>(&self, futures: Vec<Future<T>>) -> AsCompleted<T> {
        AsCompleted::new(futures)
    }

    /// Cancels a task: it fails as cancelled at once, with all that need it. What is needed only by it does not run; if
    /// it runs already, it is asked to stop (see [`cancelled`](crate::cancelled)).
    pub fn cancel<T>(&self, future: &Future<T>) {
        let output = future.output();
        self.0.backend.cancel(&output.submission, &[output.index]);
    }

    /// Runs a failed or cancelled task again, with the failed ones it needs.
    ///
    /// # Errors
    /// Where the client is closed.
    pub fn retry<T>(&self, future: &Future<T>) -> Result<()> {
        let output = future.output();
        self.backend().retry(&output.submission, output.index)
    }

    /// How many tasks are done, of all that were submitted through this client.
    pub fn progress(&self) -> Progress {
        self.0.backend.progress()
    }

    /// Why a task has no result yet: which inputs are missing, where it runs, what it waits for.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// let client = Client::threads(1);
    /// let future = client.submit(&delayed(|x: i64| x + 1).call(1))?;
    /// println!("{}", client.explain(&future)?);
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where the client is closed.
    pub fn explain<T>(&self, future: &Future<T>) -> Result<Explanation> {
        self.explanation_of(future).wait()
    }

    /// [`explain`](Self::explain) for async code.
    ///
    /// # Errors
    /// As [`explain`](Self::explain).
    pub async fn explain_async<T>(&self, future: &Future<T>) -> Result<Explanation> {
        self.explanation_of(future).await
    }

    fn explanation_of<T>(&self, future: &Future<T>) -> Asked<question::Explain> {
        let output = future.output();
        Asked::new(self.0.backend.explain(&output.submission, output.index))
    }

    fn ask<A: Ask>(&self, question: A) -> Asked<A> {
        Asked::new(self.0.backend.ask_supervisor(question.question()))
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

    /// Replaces all workers by new ones. What they ran or held is computed again where it is still wanted.
    ///
    /// # Errors
    /// [`Error::Unsupported`] in the in-process modes.
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
    /// or thread are kept, if [`Builder::events`] does not say otherwise.
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

    /// The last lines that workers wrote to their standard output and error, each with the task it is from. About 64 KiB
    /// of each worker's are kept. In the in-process modes tasks write to the program's own streams, and there are none.
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

    /// Those of the lines of [`logs`](Self::logs) that a task wrote, or may have written.
    ///
    /// # Errors
    /// As [`logs`](Self::logs).
    pub fn logs_of<T>(&self, future: &Future<T>) -> Result<Vec<LogLine>> {
        let key = future.key();
        Ok(self.logs()?.into_iter().filter(|line| line.tasks.contains(&key)).collect())
    }

    /// [`logs_of`](Self::logs_of) for async code.
    ///
    /// # Errors
    /// As [`logs`](Self::logs).
    pub async fn logs_of_async<T>(&self, future: &Future<T>) -> Result<Vec<LogLine>> {
        let key = future.key();
        Ok(self.logs_async().await?.into_iter().filter(|line| line.tasks.contains(&key)).collect())
    }

    /// Cancels what runs, stops the workers, and closes the client and its clones. Futures that are not done fail.
    pub fn shutdown(&self) {
        self.0.backend.shutdown();
    }
}

/// Inside a task: a client of whatever runs it, to submit more work and wait for it. `None` elsewhere.
///
/// While a task waits for tasks of its own, its place is given to another one, so this cannot deadlock, even with one
/// worker of one thread.
///
/// ```
/// use swath::{Client, current_client, delayed};
/// fn fib(n: u64) -> u64 {
///     if n < 2 {
///         return n;
///     }
///     let client = current_client().expect("inside a task");
///     let (a, b) = (delayed(fib).call(n - 1), delayed(fib).call(n - 2));
///     client.compute(&(a + b)).expect("no task fails")
/// }
/// assert_eq!(Client::threads(1).compute(&delayed(fib).call(10))?, 55);
/// # Ok::<(), swath::Error>(())
/// ```
pub fn current_client() -> Option<Client> {
    current_backend().map(Client::inside)
}
