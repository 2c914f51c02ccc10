//! Back-pressure: only so many graphs are under way at a time, and whoever submits one more waits.

use super::backend::Backend;
use super::waiter::drive;
use crate::events::ClientLog;
use crate::events::journal::ClientStep;
use crate::events::label;
use crate::task::call::tolerated;
use crate::task::context::current_task;
use crate::task::wait::waiting;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counts graphs under way. Those who wait get in as they came, whether they block or are async.
pub(crate) struct SubmissionLimit {
    permits: Arc<Semaphore>,
    most: usize,
    backend: Arc<dyn Backend>,
}

/// The right to have one graph under way; given back when dropped.
pub(crate) struct Permit {
    /// There but for those who got in without room.
    permit: Option<OwnedSemaphorePermit>,
    /// Where the end of the graph is to be noted: its number, and when it was submitted.
    note: Option<(Arc<ClientLog>, u32, u64)>,
}

impl Permit {
    /// The graph was submitted: notes that, and its end when it comes.
    pub(crate) fn submitted(mut self, log: &Arc<ClientLog>, graph: u32, tasks: usize, began: u64) -> Self {
        let (label, parent) = (label::current(), current_task().map(|task| task.key));
        log.steps.note_at(began, ClientStep::Submitted { graph, tasks: tasks as u32, label, parent });
        self.note = Some((Arc::clone(log), graph, began));
        self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((log, graph, began)) = self.note.take() {
            log.steps.note(ClientStep::Finished { graph, began });
        }
        // Wakes who waits for room: users' code, in a thread that others depend on.
        if let Some(permit) = self.permit.take() {
            tolerated("a waker panicked", || drop(permit));
        }
    }
}

impl SubmissionLimit {
    pub(crate) fn new(limit: usize, backend: Arc<dyn Backend>) -> Arc<Self> {
        let most = limit.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self { permits: Arc::new(Semaphore::new(most)), most, backend })
    }

    /// Whether no graph is under way.
    #[cfg_attr(not(feature = "progress"), allow(dead_code, reason = "only bars ask"))]
    pub(crate) fn is_unused(&self) -> bool {
        self.permits.available_permits() == self.most
    }

    /// Waits for room. What must not wait gets in without, as does a task that is not wanted any more.
    pub(crate) fn acquire(&self) -> Permit {
        self.acquire_until(None).unwrap_or(Permit { permit: None, note: None })
    }

    /// Waits for room. `None`: the time was over before.
    pub(crate) fn acquire_until(&self, deadline: Option<Instant>) -> Option<Permit> {
        drive(deadline, self.acquire_async())
    }

    /// Waits for room. Who is dropped while it waits leaves no gap.
    pub(crate) async fn acquire_async(&self) -> Permit {
        if self.backend.origin().is_elsewhere() {
            // Submitting says that the client is closed.
            return Permit { permit: None, note: None };
        }
        let permit = waiting(Arc::clone(&self.permits).acquire_owned()).await;
        if let Some(room) = self.backend.room() {
            // If it says that the client is closed, submitting says so, too.
            drop(waiting(room).await);
        }
        Permit { permit: permit.ok().and_then(Result::ok), note: None }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::exec::sync::SyncExecutor;
    use proptest::prelude::*;
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    fn limit_of(graphs: usize) -> Arc<SubmissionLimit> {
        SubmissionLimit::new(graphs, SyncExecutor::new(0))
    }

    /// Somebody who waits, or may go in and has not noticed.
    struct Waiting(Pin<Box<dyn Future<Output = Permit>>>);

    impl Waiting {
        fn at(limit: &Arc<SubmissionLimit>) -> Self {
            let limit = Arc::clone(limit);
            Self(Box::pin(async move { limit.acquire_async().await }))
        }

        fn poll(&mut self) -> Option<Permit> {
            match self.0.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(permit) => Some(permit),
                Poll::Pending => None,
            }
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Come,
        Poll(usize),
        GiveUp(usize),
        Leave(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            2 => Just(Step::Come),
            2 => any::<usize>().prop_map(Step::Poll),
            1 => any::<usize>().prop_map(Step::GiveUp),
            2 => any::<usize>().prop_map(Step::Leave),
        ];
        prop::collection::vec(step, 0..60)
    }

    /// A place that has become free is the first one's of those who have none.
    fn hand_on(waiting: &mut [(Waiting, bool)]) {
        if let Some((_, may)) = waiting.iter_mut().find(|(_, may)| !may) {
            *may = true;
        }
    }

    proptest! {
        #[test]
        fn first_come_first_served(limit in 1_usize..4, steps in steps()) {
            let limiter = limit_of(limit);
            let mut inside = Vec::new();
            let mut waiting: Vec<(Waiting, bool)> = Vec::new();
            for step in steps {
                let taken = inside.len() + waiting.iter().filter(|(_, may)| *may).count();
                match step {
                    Step::Come => {
                        let mut one = Waiting::at(&limiter);
                        let permit = one.poll();
                        prop_assert_eq!(permit.is_some(), taken < limit);
                        match permit {
                            Some(permit) => inside.push(permit),
                            None => waiting.push((one, false)),
                        }
                    }
                    Step::Poll(i) if !waiting.is_empty() => {
                        let at = i % waiting.len();
                        let (one, may) = &mut waiting[at];
                        let permit = one.poll();
                        prop_assert_eq!(permit.is_some(), *may);
                        if let Some(permit) = permit {
                            inside.push(permit);
                            drop(waiting.remove(at));
                        }
                    }
                    Step::GiveUp(i) if !waiting.is_empty() => {
                        let (_, may) = waiting.remove(i % waiting.len());
                        if may {
                            hand_on(&mut waiting);
                        }
                    }
                    Step::Leave(i) if !inside.is_empty() => {
                        drop(inside.swap_remove(i % inside.len()));
                        hand_on(&mut waiting);
                    }
                    _ => {}
                }
            }
            drop((inside, waiting));
            prop_assert_eq!(limiter.permits.available_permits(), limit);
        }
    }

    #[test]
    fn threads_and_async_callers_share_the_permits() {
        let (limit, inside, passed) = (limit_of(3), AtomicUsize::new(0), AtomicUsize::new(0));
        let pass = |permit: Permit| {
            assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
            std::thread::yield_now();
            inside.fetch_sub(1, Ordering::SeqCst);
            passed.fetch_add(1, Ordering::SeqCst);
            drop(permit);
        };
        std::thread::scope(|scope| {
            for t in 0..8 {
                let (limit, pass) = (&limit, &pass);
                scope.spawn(move || {
                    for _ in 0..200 {
                        match t % 2 {
                            0 => pass(limit.acquire()),
                            _ => drive(None, async { pass(limit.acquire_async().await) }).unwrap(),
                        }
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 8 * 200);
        assert_eq!(limit.permits.available_permits(), 3);
    }

    #[test]
    fn who_waits_too_long_leaves_no_gap() {
        let limit = limit_of(1);
        let first = limit.acquire();
        assert!(limit.acquire_until(Some(Instant::now() + Duration::from_millis(1))).is_none());
        drop(first);
        limit.acquire();
        assert_eq!(limit.permits.available_permits(), 1);
    }

    #[test]
    fn blocking_callers_get_in_inside_a_runtime_whose_budget_is_spent() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let limit = limit_of(1);
        let other = Arc::clone(&limit);
        runtime.block_on(async move {
            // More than a task of tokio's may do before it lets others run.
            for _ in 0..300 {
                let held = limit.acquire();
                let (there, limit) = (std::sync::Barrier::new(2), &limit);
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        there.wait();
                        drop(held);
                    });
                    there.wait();
                    drop(limit.acquire());
                });
            }
        });
        assert_eq!(other.permits.available_permits(), 1);
    }
}
