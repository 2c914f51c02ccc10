//! What cancelling a task and closing the pool tell the tasks that run, and when.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::delayed;
use crate::error::Cause;
use crate::submission::backend::Want;
use crate::submission::waiter::Waiter;

/// One thread, a task that it runs until it is told to stop, and the job of that task.
struct Running {
    pool: Arc<ThreadPool>,
    submission: Arc<Submission>,
    job: Arc<PoolJob>,
}

/// Runs until it is told to stop, and answers all the same.
fn gives_up(number: u64) -> u64 {
    while !context::cancelled() {
        std::thread::yield_now();
    }
    number
}

fn submit(pool: &Arc<ThreadPool>, number: u64) -> Arc<Submission> {
    pool.clone().submit(Dag::of(&[delayed(gives_up).call(number).node()]), Want::Handles).unwrap()
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed().as_secs() < 60, "it does not come true that {what}");
        std::thread::yield_now();
    }
}

fn is_cancelled(submission: &Submission) -> bool {
    submission.with_state(0, |s| matches!(s, ResultState::Failed(e) if matches!(e.cause(), Cause::Cancelled)))
}

fn is_closed(submission: &Submission) -> bool {
    submission.with_state(0, |s| matches!(s, ResultState::Failed(e) if matches!(e.cause(), Cause::Closed { .. })))
}

impl Running {
    fn new() -> Self {
        let pool = ThreadPool::new(1, 0, None);
        let submission = submit(&pool, 7);
        let job = pool.jobs.lock().get(&submission.number).and_then(Weak::upgrade).unwrap();
        until("the task runs", || pool.queue.lock().busy == 1);
        Self { pool, submission, job }
    }
}

#[test]
fn what_waits_for_a_cancelled_task_hears_of_it_before_the_task_is_told() {
    let Running { pool, submission, job } = Running::new();
    let told = Arc::new(AtomicBool::new(true));
    let (job_, told_) = (Arc::clone(&job), Arc::clone(&told));
    submission.when_done(0, Waiter::Call(Box::new(move || told_.store(job_.skipped(0), Ordering::Relaxed))));
    pool.cancel(&submission, &[0]);
    assert!(!told.load(Ordering::Relaxed), "the task may have left its thread to other work before");
    until("the task stops", || job.left.load(Ordering::Acquire) == 0);
    assert!(is_cancelled(&submission));
    pool.shutdown();
}

#[test]
fn what_a_task_answers_that_saw_the_pool_closed_is_no_result() {
    let Running { pool, submission, job } = Running::new();
    std::thread::scope(|scope| {
        // Here closing the pool is held up, after its flag has been set.
        let queue = pool.queue.lock();
        scope.spawn(|| pool.shutdown());
        until("the task has ended", || job.left.load(Ordering::Acquire) == 0);
        assert!(is_closed(&submission));
        drop(queue);
    });
    assert!(is_closed(&submission));
}

#[test]
fn a_job_that_has_not_begun_fails_when_the_pool_is_closed() {
    let Running { pool, submission, .. } = Running::new();
    let behind = submit(&pool, 8);
    pool.shutdown();
    assert!(is_closed(&behind) && is_closed(&submission));
}
