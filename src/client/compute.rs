//! What a client does with lazy values: compute, persist, submit, scatter; wait for results, cancel and repeat tasks.

use super::PureResults;
use super::blocking::spawn_blocking;
use super::computable::{Handles, ResultRef, Results, Successor};
use super::recorded_inputs::inputs_of;
use super::{
    AsCompleted, Client, Computable, ComputeOptions, Failing, Future, Lowering, Status, WaitFor, blocking, wait,
};
use crate::delayed::Delayed;
use crate::error::{Error, Result};
use crate::events::EventKind;
use crate::events::journal::ClientStep;
use crate::graph::label::TaskLabel;
use crate::graph::node::{Node, serial_hash};
use crate::graph::{Dag, picture};
use crate::host::footer;
use crate::ipc::clock::ticks;
use crate::resources::Resources;
use crate::status::Mode;
use crate::submission::backend::Want;
use crate::submission::handle::{AllResults, ResultHandle, ResultState, Submission, Waiter};
use crate::submission::limit::Permit;
use crate::submission::waiter::waited_in_vain;
use crate::task::codec::CodecOf;
use crate::task::function::{Record, TaskFunction};
use crate::task::wait::poll_waiting;
use crate::task::{Data, Value};
use parking_lot::MutexGuard;
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// A graph that has been submitted for a [`Computable`].
struct Started {
    submission: Arc<Submission>,
    /// For each root, its index.
    indices: Vec<u32>,
    /// How many roots each collection has.
    counts: Vec<usize>,
}

impl Client {
    pub(super) fn graph(&self, roots: &[&Arc<Node>]) -> Result<Dag> {
        self.graph_with(roots, &FxHashMap::default())
    }

    /// The graph of what `roots` need, without the results that are `held`, by their hashes.
    pub(super) fn graph_with(&self, roots: &[&Arc<Node>], held: &FxHashMap<u128, ResultHandle>) -> Result<Dag> {
        self.graph_fused(roots, held, true)
    }

    /// The same. Unless it `fuses`, each task stays one.
    fn graph_fused(&self, roots: &[&Arc<Node>], held: &FxHashMap<u128, ResultHandle>, fuses: bool) -> Result<Dag> {
        self.check_origin()?;
        let pure = self.0.pure.lock();
        if pure.results.is_empty() && held.is_empty() {
            // A large graph takes its time, in which other threads submit theirs.
            drop(pure);
            return self.checked(Dag::with(roots, None, fuses));
        }
        // The drop of the last handle of a result, or of its submission, runs other code, so it must not happen under the lock.
        let unused = RefCell::new(Vec::new());
        let known = |node: &Arc<Node>| {
            if let Some(output) = held.get(&node.hash()) {
                return Some(output.held());
            }
            let known = node.is_pure().then(|| pure.results.get(&node.hash())).flatten()?;
            let submission = known.submission()?;
            let output = known.handle(&submission);
            let held = output.as_ref().filter(|output| output.answers(node)).map(ResultHandle::held);
            unused.borrow_mut().push((submission, output));
            held
        };
        let graph = Dag::with(roots, Some(&known), fuses);
        drop(pure);
        drop(unused);
        self.checked(graph)
    }

    /// Refuses a graph that uses results of another client.
    fn checked(&self, graph: Dag) -> Result<Dag> {
        let foreign = |handle: &ResultHandle| !Arc::ptr_eq(handle.submission.backend(), &self.0.backend);
        if let Some(handle) = graph.all_held().filter_map(ResultHandle::of).find(foreign) {
            return Err(Error::OtherClient { key: handle.key() });
        }
        Ok(graph)
    }

    /// The picture of the graph that computes `what`.
    pub(crate) fn dot<C: Computable + ?Sized>(what: &C) -> Result<String> {
        Ok(Lowering::of(what, None, false)?.with(picture::dot))
    }

    /// Submits what `what` needs.
    fn start<C: Computable + ?Sized>(&self, what: &C, want: Want, permit: Permit) -> Result<Started> {
        self.start_with(what, want, permit, &ComputeOptions::default(), None)
    }

    fn start_with<C: Computable + ?Sized>(
        &self,
        what: &C,
        want: Want,
        permit: Permit,
        options: &ComputeOptions,
        deadline: Option<Instant>,
    ) -> Result<Started> {
        let roots = Lowering::of(what, Some(self), matches!(want, Want::Handles))?;
        let mut graph = roots.with(|roots| self.graph_fused(roots, &FxHashMap::default(), options.optimize))?;
        options.apply(&mut graph);
        graph.priority = options.priority;
        graph.deadline = deadline;
        let counts = roots.counts;
        let outputs = graph.outputs();
        let indices = match outputs == graph.roots {
            true => (0..outputs.len() as u32).collect(),
            false => graph.roots.iter().map(|r| outputs.binary_search(r).map_or(0, |s| s as u32)).collect(),
        };
        Ok(Started { submission: self.run(graph, want, permit)?, indices, counts })
    }

    /// Submits a graph.
    pub(super) fn run(&self, mut graph: Dag, want: Want, permit: Permit) -> Result<Arc<Submission>> {
        self.check_places(&graph)?;
        self.check_resources(&graph)?;
        graph.priority = graph.priority.saturating_add(self.1);
        let inputs = self.0.log.is_recorded().then(|| inputs_of(&graph));
        let submission = self.noted(permit, graph.tasks(), || self.backend().submit(graph, want))?;
        if let Some((inputs, more)) = inputs {
            self.0.log.add_inputs(submission.number, inputs, more);
        }
        Ok(submission)
    }

    /// Warns of tasks that are to run on certain workers where there are none; refuses them, if the client is strict.
    fn check_places(&self, graph: &Dag) -> Result<()> {
        let Some(no_places) = self.0.backend.no_places().filter(|no_places| !no_places.is_settled()) else {
            return Ok(());
        };
        let placed = |node: &Arc<Node>| {
            node.options().is_some_and(|o| o.worker.is_some() || o.tag.is_some() || !o.among.is_empty())
        };
        let Some(node) = graph.nodes.iter().find(|node| placed(node)) else { return Ok(()) };
        let mode = self.mode();
        if no_places.is_strict() {
            return Err(Error::Unsupported { operation: "`on_worker` or `tag`", mode: mode.name() });
        }
        if no_places.warns() {
            log::warn!("`on_worker` or `tag` of {}, and perhaps of others: no meaning in {mode} mode", node.key());
        }
        Ok(())
    }

    /// Refuses tasks that take amounts of resources that make no sense, or more than any worker has.
    fn check_resources(&self, graph: &Dag) -> Result<()> {
        if graph.counted.is_empty() {
            return Ok(());
        }
        let workers = self.0.backend.resources();
        let refused = |id: u32, name: &str, why: String| {
            Error::invalid(format!("resource `{name}` of {}", graph.nodes[id as usize].key()), why)
        };
        for &id in &graph.counted {
            let Some(options) = graph.options(id) else { continue };
            let fault = options.resources.iter().find_map(|(name, amount)| Some((name, amount.fault()?)));
            if let Some((name, fault)) = fault {
                return Err(refused(id, name, fault));
            }
            let wanted = options.resources();
            let Some(workers) = workers.as_ref().filter(|workers| !workers.iter().any(|w| w.cover(&wanted))) else {
                continue;
            };
            let most = workers.iter().fold(Resources::default(), |most, worker| most.max(worker));
            let short = wanted.iter().map(|(name, _)| name).find(|name| most.amount(name) < wanted.amount(name));
            let name = short.or_else(|| wanted.iter().map(|(name, _)| name).next()).unwrap_or_default();
            let why = match (short, most.of_one(name)) {
                (None, _) => format!("{wanted} are asked for, and no worker has all of that"),
                (Some(_), has) if has.is_empty() => {
                    format!("{} are asked for, and no worker has any", wanted.of_one(name))
                }
                (Some(_), has) => {
                    let (wanted, has) = (wanted.of_one(name), has.number(name));
                    format!("{wanted} are asked for, and no worker has more than {has}")
                }
            };
            return Err(refused(id, name, why));
        }
        Ok(())
    }

    /// Submits some tasks, and notes when that began and, later, when they were done.
    pub(super) fn noted(
        &self,
        permit: Permit,
        tasks: usize,
        submit: impl FnOnce() -> Result<Arc<Submission>>,
    ) -> Result<Arc<Submission>> {
        let began = ticks();
        self.0.looks.begins();
        let submission = submit()?;
        submission.keep_until_done(permit.submitted(&self.0.log, submission.number, tasks, began));
        Ok(submission)
    }

    fn finish<C: Computable + ?Sized>(
        what: &C,
        submission: &AllResults,
        indices: Vec<u32>,
        counts: Vec<usize>,
    ) -> Result<C::Output> {
        let failure = submission.0.early_failure(&indices);
        let mut left = vec![0_u32; submission.0.len()];
        indices.iter().for_each(|&s| left[s as usize] += 1);
        let mut indices = indices.into_iter();
        let next = || {
            let index = indices.next().unwrap_or_default();
            left[index as usize] -= 1;
            let here = if let Some(failure) = &failure
                && !submission.0.with_state(index, ResultState::is_here)
            {
                Err(failure.clone())
            } else if left[index as usize] == 0 {
                submission.0.take(index)
            } else {
                // All outputs are here by now, so nobody is ever told.
                submission
                    .0
                    .poll_here(index, || Waiter::Call(Box::new(|| ())))
                    .unwrap_or_else(|| submission.0.take(index))
            };
            (here, ResultRef { submission: &submission.0, index })
        };
        what.output(&mut Results { next: Box::new(next), counts: counts.into_iter() })
    }

    /// Computes lazy values and waits for them. Parts that several of them share run once.
    ///
    /// # Errors
    /// Where a task fails: the failure of the first of `what` that has one. All of the graph has ended by then, unless the
    /// client [fails fast](crate::Builder::fail_fast).
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
        self.compute_with(what, ComputeOptions::default())
    }

    /// [`compute`](Self::compute) with options.
    ///
    /// # Errors
    /// As [`compute`](Self::compute); with [`Failing::Fast`] the first failure, at once.
    ///
    /// ```
    /// use swath::client::{ComputeOptions, Failing};
    /// use swath::{Client, delayed};
    /// let client = Client::threads(2);
    /// let parts: Vec<_> = (0..100).map(|i: u64| delayed(|i: u64| 10 / i).call(i)).collect();
    /// let fast = ComputeOptions { failing: Failing::Fast, ..Default::default() };
    /// assert!(client.compute_with(&parts, fast).unwrap_err().task().is_some());
    /// ```
    pub fn compute_with<C: Computable>(&self, what: C, options: ComputeOptions) -> Result<C::Output> {
        let want = self.want(&options)?;
        let deadline = options.deadline();
        let late = || waited_in_vain(options.timeout);
        let permit = match deadline {
            None => self.0.limit.acquire(),
            Some(_) => self.0.limit.acquire_until(deadline).ok_or_else(late)?,
        };
        let Started { submission, indices, counts } = self.start_with(&what, want, permit, &options, deadline)?;
        let submission = AllResults(submission);
        if !submission.0.wait_all(deadline) || self.is_late(deadline) {
            return Err(late());
        }
        Self::finish(&what, &submission, indices, counts)
    }

    /// Whether what ran in this thread has taken longer.
    fn is_late(&self, deadline: Option<Instant>) -> bool {
        deadline.is_some_and(|at| self.mode() == Mode::Sync && at <= Instant::now())
    }

    fn want(&self, options: &ComputeOptions) -> Result<Want> {
        if options.failing == Failing::Skip {
            let why = "what is computed has a place for each value; `submit_all` and `gather_with` skip what fails";
            return Err(Error::invalid("`failing`", why));
        }
        Ok(if self.is_fast(options.failing) { Want::ValuesOrFailure } else { Want::Values })
    }

    /// Whether the first failure is to be told at once.
    pub(super) fn is_fast(&self, failing: Failing) -> bool {
        match failing {
            Failing::AsBuilt => self.0.fail_fast,
            Failing::Wait | Failing::Skip => false,
            Failing::Fast => true,
        }
    }

    /// [`compute`](Self::compute), but waits no longer than `timeout`; then the work is cancelled.
    ///
    /// In sync mode the tasks run in the calling thread, so the one that runs then goes on to its end (for it,
    /// [`cancelled`](crate::cancelled) is true), and no other begins.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the time is over; otherwise as [`compute`](Self::compute).
    pub fn compute_timeout<C: Computable>(&self, what: C, timeout: Duration) -> Result<C::Output> {
        self.compute_with(what, ComputeOptions { timeout: Some(timeout), ..ComputeOptions::default() })
    }

    /// [`compute`](Self::compute) for async code. Dropping the future cancels the work.
    ///
    /// # Errors
    /// As [`compute`](Self::compute).
    pub async fn compute_async<C: Computable>(&self, what: C) -> Result<C::Output> {
        self.compute_with_async(what, ComputeOptions::default()).await
    }

    /// [`compute_with`](Self::compute_with) for async code. Dropping the future cancels the work.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// use swath::client::ComputeOptions;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let client = Client::threads(2);
    /// let options = ComputeOptions { retries: 2, ..Default::default() };
    /// let squares = delayed(|x: u64| x * x).map(1..=3_u64);
    /// assert_eq!(client.compute_with_async(&squares, options).await?, [1, 4, 9]);
    /// # Ok::<(), swath::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`compute_with`](Self::compute_with).
    pub async fn compute_with_async<C: Computable>(&self, what: C, options: ComputeOptions) -> Result<C::Output> {
        match options.timeout {
            None => self.computed(what, &options).await,
            Some(timeout) => blocking::timeout(timeout, self.computed(what, &options))
                .await?
                .unwrap_or(Err(Error::Timeout { waited: timeout })),
        }
    }

    async fn computed<C: Computable>(&self, what: C, options: &ComputeOptions) -> Result<C::Output> {
        let (want, deadline) = (self.want(options)?, options.deadline());
        let Started { submission, indices, counts } =
            self.start_with(&what, want, self.0.limit.acquire_async().await, options, deadline)?;
        let submission = AllResults(submission);
        poll_waiting(|cx| match submission.0.poll_all(cx.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await?;
        footer::settle();
        if self.is_late(deadline) {
            return Err(Error::Timeout { waited: options.timeout.unwrap_or_default() });
        }
        Self::finish(&what, &submission, indices, counts)
    }

    /// [`compute_timeout`](Self::compute_timeout) for async code. It needs no runtime's timer: a thread of its own keeps
    /// the time. Where there is a timer, one around [`compute_async`](Self::compute_async) does the same, without the
    /// thread.
    ///
    /// # Errors
    /// As [`compute_timeout`](Self::compute_timeout).
    pub async fn compute_timeout_async<C: Computable>(&self, what: C, timeout: Duration) -> Result<C::Output> {
        self.compute_with_async(what, ComputeOptions { timeout: Some(timeout), ..ComputeOptions::default() }).await
    }

    /// The first handle of an output of a submission.
    pub(super) fn output(submission: &Arc<Submission>, index: u32) -> ResultHandle {
        match submission.alias(index) {
            Some(earlier) => earlier.clone(),
            None => ResultHandle::new(submission, index),
        }
    }

    /// The first handles of a submission's outputs.
    pub(super) fn outputs(&self, submission: &Arc<Submission>) -> Vec<ResultHandle> {
        let outputs: Vec<_> = (0..submission.len() as u32).map(|index| Self::output(submission, index)).collect();
        self.remember(&outputs);
        outputs
    }

    /// Has later graphs use the results of pure tasks.
    fn remember(&self, outputs: &[ResultHandle]) {
        let mut unused = Vec::new();
        let mut pure: Option<MutexGuard<'_, PureResults>> = None;
        for output in outputs.iter().filter(|output| output.submission.may_be_pure(output.index)) {
            pure.get_or_insert_with(|| self.0.pure.lock()).insert(output, &mut unused);
        }
        drop(pure);
        drop(unused);
    }

    /// A handle for each root, of the output with its index.
    fn handles<T>(&self, submission: &Arc<Submission>, indices: &[u32]) -> Vec<Future<T>> {
        let outputs = self.outputs(submission);
        match indices.iter().copied().eq(0..outputs.len() as u32) {
            true => outputs.into_iter().map(Future::new).collect(),
            false => indices.iter().map(|&index| Future::new(outputs[index as usize].clone())).collect(),
        }
    }

    /// Waits until one more graph may be under way.
    pub(super) fn permit(&self) -> Permit {
        self.0.limit.acquire()
    }

    /// The same for async code.
    pub(super) async fn permit_async(&self) -> Permit {
        self.0.limit.acquire_async().await
    }

    /// Submits what one value needs.
    pub(super) fn submit_one<T>(&self, what: &Delayed<T>, permit: Permit) -> Result<Future<T>> {
        let submission = self.run(self.graph(&[what.node()])?, Want::Handles, permit)?;
        let output = Self::output(&submission, 0);
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
        let Started { submission, indices, counts } = self.start(&what, Want::Handles, self.0.limit.acquire())?;
        let outputs = self.outputs(&submission);
        let next = &mut indices.into_iter().map(|s| Successor::held(&outputs[s as usize]));
        Ok(what.persisted(&mut Handles::of(next, counts)))
    }

    /// [`persist`](Self::persist) for async code: if too much is under way, it waits for room without blocking.
    ///
    /// # Errors
    /// As [`persist`](Self::persist).
    pub async fn persist_async<C: Computable>(&self, what: C) -> Result<C::Persisted> {
        let Started { submission, indices, counts } =
            self.start(&what, Want::Handles, self.0.limit.acquire_async().await)?;
        let outputs = self.outputs(&submission);
        let next = &mut indices.into_iter().map(|s| Successor::held(&outputs[s as usize]));
        Ok(what.persisted(&mut Handles::of(next, counts)))
    }

    /// Starts computing a lazy value. Does not wait for it.
    ///
    /// When very much is under way already (see [`Builder::max_graphs`](crate::Builder::max_graphs)), it waits for room first: that slows down whoever
    /// submits faster than the workers can work.
    ///
    /// # Errors
    /// Where the graph cannot be submitted: a closed client, an argument that cannot be encoded.
    pub fn submit<T: Data>(&self, what: &Delayed<T>) -> Result<Future<T>> {
        self.submit_one(what, self.0.limit.acquire())
    }

    /// [`submit`](Self::submit) for async code: if too much is under way, it waits for room without blocking.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_async<T: Data>(&self, what: &Delayed<T>) -> Result<Future<T>> {
        self.submit_one(what, self.0.limit.acquire_async().await)
    }

    /// Starts computing many lazy values. Does not wait.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_all<T: Data>(&self, what: &[Delayed<T>]) -> Result<Vec<Future<T>>> {
        let Started { submission, indices, .. } = self.start(what, Want::Handles, self.0.limit.acquire())?;
        Ok(self.handles(&submission, &indices))
    }

    /// [`submit_all`](Self::submit_all) for async code: if too much is under way, it waits for room without blocking.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_all_async<T: Data>(&self, what: &[Delayed<T>]) -> Result<Vec<Future<T>>> {
        let Started { submission, indices, .. } =
            self.start(what, Want::Handles, self.0.limit.acquire_async().await)?;
        Ok(self.handles(&submission, &indices))
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
            .map(|v| (Value::new(v), CodecOf::<T>::CODEC, TaskLabel::plain(record, serial_hash(record))))
            .collect();
        self.check_origin()?;
        let backend = self.backend();
        if let Some(room) = backend.room() {
            room.wait()?;
        }
        let submission = backend.scatter(values, broadcast)?;
        Ok(self.outputs(&submission).into_iter().map(Future::new).collect())
    }

    /// Gives a value to the workers, to be an argument of many tasks: it is sent once, not with each task.
    ///
    /// In processes mode its large buffers are copied once, into shared memory, which all workers then read. What else is in it
    /// is decoded once by each worker whose tasks read it, and kept there; a task that takes an `Arc<T>` shares that, one that
    /// takes a `T` clones it. A value of at most 4 KiB, or of buffers and at most 64 bytes beside them, is sent with each task
    /// and decoded for it.
    ///
    /// ```
    /// use std::{collections::BTreeMap, sync::Arc};
    /// use swath::{Client, delayed};
    ///
    /// fn price(prices: Arc<BTreeMap<String, u64>>, name: String) -> u64 {
    ///     prices[&name]
    /// }
    /// let client = Client::sync();
    /// let prices = client.scatter(Arc::new(BTreeMap::from([("tea".to_string(), 3), ("milk".to_string(), 1)])))?;
    /// let calls: Vec<_> = ["tea", "milk", "tea"].iter().map(|&name| delayed(price).call(&prices, name)).collect();
    /// assert_eq!(client.compute(&calls)?, [3, 1, 3]);
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where the value cannot be encoded, or there is no room for it.
    pub fn scatter<T: Data>(&self, value: T) -> Result<Future<T>> {
        self.scatter_one(value, false)
    }

    /// [`scatter`](Self::scatter) for async code: a thread of its own encodes and copies the value.
    ///
    /// # Errors
    /// As [`scatter`](Self::scatter).
    pub async fn scatter_async<T: Data>(&self, value: T) -> Result<Future<T>> {
        let client = self.clone();
        spawn_blocking(move || client.scatter(value)).await?
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

    /// [`scatter_all`](Self::scatter_all) for async code.
    ///
    /// # Errors
    /// As [`scatter`](Self::scatter).
    pub async fn scatter_all_async<T: Data>(&self, values: Vec<T>) -> Result<Vec<Future<T>>> {
        let client = self.clone();
        spawn_blocking(move || client.scatter_all(values)).await?
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

    /// [`broadcast`](Self::broadcast) for async code.
    ///
    /// # Errors
    /// As [`scatter`](Self::scatter).
    pub async fn broadcast_async<T: Data>(&self, value: T) -> Result<Future<T>> {
        let client = self.clone();
        spawn_blocking(move || client.broadcast(value)).await?
    }

    /// Waits until all, or any, of the futures are done (finished, failed or cancelled).
    ///
    /// # Errors
    /// [`Error::Unsupported`] where it would wait for itself: in a waker, or in the drop of a value, of worker processes.
    pub fn wait<T>(&self, futures: &[Future<T>], how: WaitFor) -> Result<()> {
        match wait::wait(futures, how, None) {
            true => Ok(()),
            false => Err(waited_in_vain(None)),
        }
    }

    /// [`wait`](Self::wait) with a time limit.
    ///
    /// # Errors
    /// [`Error::Timeout`] when `timeout` is over before; others as [`wait`](Self::wait).
    pub fn wait_timeout<T>(&self, futures: &[Future<T>], how: WaitFor, timeout: Duration) -> Result<()> {
        match wait::wait(futures, how, Instant::now().checked_add(timeout)) {
            true => Ok(()),
            false => Err(waited_in_vain(Some(timeout))),
        }
    }

    /// [`wait`](Self::wait) for async code.
    ///
    /// # Errors
    /// In a task that was cancelled, or is over its time limit, that of a cancelled task.
    pub async fn wait_async<T>(&self, futures: &[Future<T>], how: WaitFor) -> Result<()> {
        wait::wait_async(futures, how).await
    }

    /// [`wait_timeout`](Self::wait_timeout) for async code; a thread of its own keeps the time.
    ///
    /// # Errors
    /// As [`wait_timeout`](Self::wait_timeout).
    pub async fn wait_timeout_async<T>(&self, futures: &[Future<T>], how: WaitFor, timeout: Duration) -> Result<()> {
        blocking::timeout(timeout, wait::wait_async(futures, how)).await?.ok_or(Error::Timeout { waited: timeout })?
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
    /// it runs already, it is asked to stop (see [`cancelled`](crate::cancelled)). A future of another client is
    /// cancelled there.
    pub fn cancel<T>(&self, future: &Future<T>) {
        if future.status() == Status::Pending {
            self.0.log.steps.note(ClientStep::Event(EventKind::Cancelled { key: future.key() }));
        }
        future.output().cancel();
    }

    /// Runs a failed or cancelled task again, with the failed ones it needs. It runs at the client that the future is of,
    /// whichever client is asked.
    ///
    /// # Errors
    /// Where the future's client is closed.
    pub fn retry<T>(&self, future: &Future<T>) -> Result<()> {
        self.0.looks.begins();
        future.output().retry()
    }

    /// [`retry`](Self::retry) for async code. In sync mode the task runs in a thread of its own.
    ///
    /// # Errors
    /// As [`retry`](Self::retry).
    pub async fn retry_async<T>(&self, future: &Future<T>) -> Result<()> {
        let output = future.output().clone();
        self.0.looks.begins();
        spawn_blocking(move || output.retry()).await?
    }
}
