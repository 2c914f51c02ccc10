//! Lazy values computed one after the other, a few ahead of whoever takes them.
//!
//! Each is a graph of its own, so that no more values than those few are anywhere. What several of them need is computed
//! with the first that needs it, and held until the last one has been taken.

use super::Client;
use crate::delayed::Delayed;
use crate::error::Result;
use crate::graph::Dag;
use crate::graph::node::Node;
use crate::status::Mode;
use crate::submission::backend::Want;
use crate::submission::handle::{AllResults, ResultHandle};
use crate::submission::limit::Permit;
use crate::task::Data;
use crate::task::wait::poll_waiting;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;

/// What several values need: it comes with value number `first`, and goes when number `last` has been taken.
struct SharedInput {
    node: Arc<Node>,
    first: usize,
    last: usize,
}

/// Finds what several of the graph's roots need.
fn shared(graph: &Dag) -> Vec<SharedInput> {
    const NOBODY: usize = usize::MAX;
    let (mut first, mut last) = (vec![NOBODY; graph.len()], vec![NOBODY; graph.len()]);
    let mut stack = Vec::new();
    for (i, &root) in graph.roots.iter().enumerate() {
        stack.push(root);
        while let Some(id) = stack.pop() {
            let at = id as usize;
            if first[at] == NOBODY {
                first[at] = i;
                stack.extend(graph.refs(id));
            } else if first[at] < i {
                // What is under it has been computed with it.
                last[at] = i;
            }
        }
    }
    let found = (0..graph.len()).filter(|&at| last[at] != NOBODY && !graph.is_held(at as u32));
    found.map(|at| SharedInput { node: Arc::clone(&graph.nodes[at]), first: first[at], last: last[at] }).collect()
}

/// See the head of this module.
pub(crate) struct Buffered<T> {
    client: Client,
    values: Arc<[Delayed<T>]>,
    shared: Vec<SharedInput>,
    /// Results of `shared` that are needed now, by their hashes.
    held: FxHashMap<u128, ResultHandle>,
    under_way: VecDeque<Result<AllResults>>,
    /// How many have been started, and taken.
    started: usize,
    taken: usize,
    /// How many may be under way.
    ahead: usize,
}

impl Client {
    pub(crate) fn buffered<T: Data>(&self, values: Arc<[Delayed<T>]>) -> Result<Buffered<T>> {
        let roots: Vec<_> = values.iter().map(Delayed::node).collect();
        let shared = shared(&self.graph(&roots)?);
        let threads: usize = self.workers()?.iter().map(|w| w.threads).sum();
        let ahead = if self.mode() == Mode::Sync { 1 } else { threads + 1 };
        let under_way = VecDeque::with_capacity(ahead);
        let held = FxHashMap::default();
        Ok(Buffered { client: self.clone(), values, shared, held, under_way, started: 0, taken: 0, ahead })
    }
}

impl<T: Data> Buffered<T> {
    /// How many have not been taken.
    pub(crate) fn left(&self) -> usize {
        self.values.len() - self.taken
    }

    fn wants_more(&self) -> bool {
        self.under_way.len() < self.ahead && self.started < self.values.len()
    }

    /// Whether the next one needs what later ones need too, and nothing has started that.
    fn shares(&self) -> bool {
        self.shared.iter().any(|s| s.first == self.started)
    }

    /// Starts the next one.
    fn start(&mut self, shared: Result<()>, permit: Permit) {
        let i = self.started;
        self.started += 1;
        let started = shared.and_then(|()| {
            let graph = self.client.graph_with(&[self.values[i].node()], &self.held)?;
            Ok(AllResults(self.client.run(graph, Want::Values, permit)?))
        });
        self.under_way.push_back(started);
    }

    /// Starts what the next value needs and later ones need too.
    fn share(&mut self, permit: Permit) -> Result<()> {
        let nodes: Vec<_> = self.shared.iter().filter(|s| s.first == self.started).map(|s| &s.node).collect();
        let graph = self.client.graph_with(&nodes, &self.held)?;
        let submission = self.client.run(graph, Want::Handles, permit)?;
        self.held.extend(self.client.outputs(&submission).into_iter().map(|output| (output.hash(), output)));
        Ok(())
    }

    /// What a finished submission has made; lets go of what no later one needs.
    fn take(&mut self, submission: Result<AllResults>) -> Result<T> {
        let i = self.taken;
        self.taken += 1;
        let value = submission.and_then(|submission| submission.0.take(0)?.into_typed(&submission.0, 0));
        for shared in self.shared.iter().filter(|s| s.last == i) {
            self.held.remove(&shared.node.hash());
        }
        value
    }

    pub(crate) fn next(&mut self) -> Option<Result<T>> {
        while self.wants_more() {
            let limit = Arc::clone(&self.client.0.limit);
            // One permit at a time: whoever holds one while waiting for another could wait for itself.
            let shared = if self.shares() { self.share(limit.acquire()) } else { Ok(()) };
            self.start(shared, limit.acquire());
        }
        let submission = self.under_way.pop_front()?;
        if let Ok(submission) = &submission {
            submission.0.wait_all(None);
        }
        Some(self.take(submission))
    }

    pub(crate) async fn next_async(&mut self) -> Option<Result<T>> {
        while self.wants_more() {
            let limit = Arc::clone(&self.client.0.limit);
            let shared = if self.shares() { self.share(limit.acquire_async().await) } else { Ok(()) };
            let permit = limit.acquire_async().await;
            self.start(shared, permit);
        }
        // It stays in the queue while it is waited for: this future may be dropped.
        poll_waiting(|cx| match self.under_way.front() {
            Some(Ok(submission)) if !submission.0.poll_all(cx.waker()) => Poll::Pending,
            _ => Poll::Ready(()),
        })
        .await
        // What is not there says so when it is taken.
        .unwrap_or_default();
        let submission = self.under_way.pop_front()?;
        Some(self.take(submission))
    }
}
