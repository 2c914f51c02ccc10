//! Why a task of the pool is where it is.

use super::job::{PoolJob, TaskCell};
use super::{PoolThread, ThreadPool};
use crate::exec::find::{Finder, add_runs};
use crate::graph::label::TaskLabel;
use crate::graph::{Dag, Graph};
use crate::ids::{JobId, SessionId, TaskId};
use crate::ipc::ring::Ended;
use crate::job::explained::{Explained, Found, SeenRun};
use crate::submission::Submission;
use crate::submission::explain::{Stands, called, failed, kept, of_output};
use crate::submission::handle::ResultHandle;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use swath_insight::TaskState;
use swath_insight::explain::{Explanation, Step, Why};

/// How many steps down to the task that holds others up are named: the first ones, and the last.
const MOST_STEPS: usize = 8;
/// How many tasks are looked at.
const MOST_LOOKED_AT: usize = 20_000;

/// A task of the pool.
enum Task {
    Of(Arc<PoolJob>, u32),
    /// An output of a submission, whatever runs it.
    Output(ResultHandle),
}

/// What there is to see of one task.
struct Looked {
    label: TaskLabel,
    stands: Stands,
    /// The task that it waits for.
    next: Option<Task>,
    /// How many of its inputs are there, of how many.
    inputs: Option<(u32, u32)>,
}

impl ThreadPool {
    /// Why an output of a submission is where it is.
    pub(super) fn explain_output(&self, submission: &Submission, index: u32) -> Explained {
        let id = self.job(submission.number).and_then(|job| Some((job.task_of(index)?, job)));
        let looked = match &id {
            Some((id, job)) => self.look(job, *id),
            None => Self::done(submission, index),
        };
        let index = id.map_or(index, |(id, _)| id);
        self.follow(submission.number, index, looked)
    }

    /// Why a task of a submission is where it is. One whose graph has ended is gone.
    pub(super) fn explain_task(&self, task: TaskId) -> Explained {
        let job = self.job(task.job.number).filter(|job| (task.index as usize) < job.graph.len());
        match job {
            Some(job) => self.follow(task.job.number, task.index, self.look(&job, task.index)),
            None => Explained::gone(task),
        }
    }

    /// Looks for the tasks of a key: in graphs that run, and in what is recorded.
    pub(super) fn find(&self, prefix: &str) -> Found {
        let mut finder = Finder::new(prefix);
        let jobs: Vec<Weak<PoolJob>> = self.jobs.lock().values().cloned().collect();
        // Not under the lock: it may be the last to have a job, with values of the user's.
        for job in jobs.into_iter().filter_map(|job| job.upgrade()) {
            finder.graph(&job.graph, job.submission.number);
        }
        for thread in self.all_threads() {
            finder.runs(&thread.name, thread.runs.ring().read());
        }
        finder.end()
    }

    fn job(&self, number: u32) -> Option<Arc<PoolJob>> {
        self.jobs.lock().get(&number).and_then(Weak::upgrade)
    }

    fn all_threads(&self) -> Vec<Arc<PoolThread>> {
        self.queue.lock().threads.clone()
    }

    /// An output whose graph has ended.
    fn done(submission: &Submission, index: u32) -> Looked {
        let stands = of_output(submission, index).unwrap_or((TaskState::Released, Why::Released));
        Looked { label: submission.label(index), stands, next: None, inputs: None }
    }

    /// Goes from a task to what it waits for, and so on.
    fn follow(&self, number: u32, index: u32, looked: Looked) -> Explained {
        let Looked { label, stands: (state, why), next, inputs } = looked;
        let mut explanation = Explanation::new(called(&label), state, why);
        (explanation.task.graph, explanation.timeline.inputs) = (Some(number), inputs);
        let task_id = |number, index| TaskId { job: JobId { session: SessionId::CLIENT, number }, index };
        let mut ids = vec![task_id(number, index)];
        let (mut next, mut left) = (next, MOST_LOOKED_AT);
        while let Some(task) = next.take().filter(|_| left > 0) {
            left -= 1;
            let (looked, id) = match &task {
                Task::Of(job, id) => (self.look(job, *id), task_id(job.submission.number, *id)),
                Task::Output(output) => {
                    let (submission, index) = (&output.submission, output.index);
                    let job = self.job(submission.number).and_then(|job| Some((job.task_of(index)?, job)));
                    let looked = match &job {
                        Some((id, job)) => self.look(job, *id),
                        None => Self::done(submission, index),
                    };
                    (looked, task_id(submission.number, job.map_or(index, |(id, _)| id)))
                }
            };
            let Looked { label, stands: (state, why), next: after, .. } = looked;
            let mut step = Step::new(called(&label), state, why);
            if explanation.because.len() == MOST_STEPS {
                let before = explanation.because.pop();
                step.left_out = 1 + before.map_or(0, |step| step.left_out);
                ids.pop();
            }
            explanation.because.push(step);
            ids.push(id);
            next = after;
        }
        let task = ids[0];
        let mut told = Explained { ids, ..Explained::of(task, explanation) };
        let threads = self.all_threads();
        add_runs(&mut told, &label, threads.iter().map(|thread| (thread.name.to_string(), thread.runs.ring().read())));
        let task = told.ids[0];
        let has_run =
            |run: &SeenRun| run.record.run.task == task && matches!(run.record.end, Some((_, Ended::Finished)));
        // When nobody needs a graph any more, its tasks need not run, those that have included.
        if told.explanation.why == Why::NotNeeded && told.runs.iter().any(has_run) {
            (told.explanation.state, told.explanation.why) = (TaskState::Released, Why::Released);
        }
        told
    }

    fn look(&self, job: &Arc<PoolJob>, id: u32) -> Looked {
        let label = job.label(id);
        let on =
            self.all_threads().into_iter().find(|thread| thread.running.now() == Some((job.submission.number, id)));
        let output = job.output_index(id);
        let done = output.and_then(|index| of_output(&job.submission, index));
        let mut looked = Looked { label, stands: (TaskState::Released, Why::Released), next: None, inputs: None };
        looked.stands = match (on, done) {
            (Some(thread), Some((TaskState::Cancelled, _))) => {
                let worker = Some(thread.name.to_string());
                (TaskState::Cancelled, Why::CancelledRunEnding { worker, again: false })
            }
            (_, Some(done)) => done,
            (Some(thread), None) if job.skipped(id) => {
                let worker = Some(thread.name.to_string());
                (TaskState::Cancelled, Why::CancelledRunEnding { worker, again: false })
            }
            (Some(thread), None) => {
                let per_mille = thread.running.progress();
                let progress = (per_mille > 0).then(|| f64::from(per_mille) / 1000.0);
                let worker = thread.name.to_string();
                (TaskState::Running, Why::Running { worker, thread: None, since: None, usual: None, progress })
            }
            (None, None) => self.not_begun_or_used(job, id, &mut looked),
        };
        looked
    }

    /// Of a task that does not run, and is no output with a result.
    fn not_begun_or_used(&self, job: &Arc<PoolJob>, id: u32, looked: &mut Looked) -> Stands {
        if job.skipped(id) {
            return (TaskState::Unneeded, Why::NotNeeded);
        }
        let Graph::Dag(dag) = &job.graph else { return self.ready(job, id) };
        let found = match &*job.cells[id as usize].lock() {
            TaskCell::Value(value) => Some(Ok(value.clone())),
            TaskCell::Failed(e) => Some(Err(e.clone())),
            TaskCell::Empty => None,
        };
        match found {
            // The value's own code runs here, and not under the lock.
            Some(Ok(value)) => return kept(&value, &looked.label),
            Some(Err(e)) => return failed(&e, &looked.label),
            None => {}
        }
        if let Some(handle) = dag.held(id).and_then(ResultHandle::of) {
            looked.next = Some(Task::Output(handle));
            let first = Some(called(&looked.label));
            return (TaskState::Waiting, Why::Inputs { missing: 1, all: 1, first });
        }
        let refs = dag.refs(id);
        let missing = job.missing[id as usize].load(Ordering::Acquire);
        if missing > 0 {
            let is_missing = |input: &&u32| matches!(&*job.cells[**input as usize].lock(), TaskCell::Empty);
            let first = refs.iter().take(MOST_LOOKED_AT).find(is_missing).copied();
            // What stands for a result of another graph is that result, and a part waits for the task that makes it.
            let first = first.map(|first| match dag.held(first).and_then(ResultHandle::of) {
                Some(handle) => (handle.label(), Task::Output(handle)),
                None => {
                    let first = maker(dag, first);
                    (job.label(first), Task::Of(Arc::clone(job), first))
                }
            });
            let name = first.as_ref().map(|(label, _)| called(label));
            looked.next = first.map(|(_, task)| task);
            let all = refs.len() as u32;
            looked.inputs = Some((all.saturating_sub(missing), all));
            return (TaskState::Waiting, Why::Inputs { missing, all, first: name });
        }
        if job.uses[id as usize].load(Ordering::Acquire) == 0 {
            return (TaskState::Released, Why::Released);
        }
        self.ready(job, id)
    }

    /// Of a task that waits for a thread.
    fn ready(&self, job: &Arc<PoolJob>, id: u32) -> Stands {
        let declared = job.graph.options(id).and_then(|options| options.memory).unwrap_or(0);
        let queue = self.queue.lock();
        let priority = job.priority(id);
        let graphs = queue.graphs.before(job, priority) as u64;
        let (workers, on) = (self.threads as u32, None);
        if let Some(wanted) = queue.tally.awaited_by(job, id) {
            let wants = Some(format!("the {wanted}"));
            return (TaskState::Ready, Why::Busy { workers, on, ahead: 0, about: None, graphs, wants });
        }
        let is_source = job.graph.refs(id).is_empty();
        if let Some(budget) = self.budget.as_ref().filter(|_| is_source)
            && budget.admit(1, queue.busy, declared) == 0
        {
            let (bytes, _) = budget.used();
            let waits = |missing: &&std::sync::atomic::AtomicU32| missing.load(Ordering::Relaxed) > 0;
            let consumers = job.missing.iter().take(MOST_LOOKED_AT).filter(waits).count() as u64;
            return (TaskState::Ready, Why::HeldBack { bytes, consumers });
        }
        let ahead = queue.graphs.tasks_before(job, priority, id) + queue.busy as u64;
        drop(queue);
        let time = ahead.saturating_mul(job.cost.load(Ordering::Relaxed)) / u64::from(workers.max(1));
        let about = (time > 0).then(|| Duration::from_nanos(time));
        (TaskState::Ready, Why::Busy { workers, on, ahead, about, graphs, wants: None })
    }
}

/// The task that makes a result: the call, where that is a part of what it gives, or takes that apart.
fn maker(dag: &Dag, id: u32) -> u32 {
    let mut id = id;
    while dag.place(id).is_some() || dag.has_parts(id) {
        let Some(first) = dag.refs(id).first() else { break };
        id = *first;
    }
    id
}

impl PoolJob {
    /// The task that makes an output.
    fn task_of(&self, index: u32) -> Option<u32> {
        match &self.graph {
            Graph::Map(map) => ((index as usize) < map.len()).then_some(index),
            Graph::Dag(_) => self.outputs.get(index as usize).copied(),
        }
    }
}
