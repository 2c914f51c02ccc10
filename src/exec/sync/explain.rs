//! Why a task of the sync mode is where it is: seen from another thread, or from a task.

use super::{HERE, RunningGraph, SyncExecutor};
use crate::exec::find::{Finder, add_runs};
use crate::graph::Graph;
use crate::ids::{JobId, SessionId, TaskId};
use crate::ipc::ring::{Ended, RingRecord};
use crate::job::explained::{Explained, Found};
use crate::submission::Submission;
use crate::submission::explain::{called, of_output};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use swath_insight::TaskState;
use swath_insight::explain::{Explanation, Place, Step, Why};

/// How many steps down to the task that runs are named.
const MOST_STEPS: usize = 8;

impl SyncExecutor {
    /// Why an output of a submission is where it is. None can be seen before all have ended.
    pub(super) fn explain_output(&self, submission: &Submission, index: u32) -> Explained {
        let label = submission.label(index);
        let task = task_id(submission.number, index);
        // One that is retried meanwhile runs, or is about to.
        let (state, why) = of_output(submission, index).unwrap_or_else(|| (TaskState::Running, running(None)));
        let mut explanation = Explanation::new(called(&label), state, why);
        explanation.task.graph = Some(submission.number);
        let mut told = Explained::of(task, explanation);
        add_runs(&mut told, &label, self.records());
        told
    }

    /// Why a task of a graph that runs is where it is.
    pub(super) fn explain_task(&self, task: TaskId) -> Explained {
        let of_number = |graph: &&Arc<RunningGraph>| graph.number == task.job.number;
        let graph = self.running.lock().iter().find(of_number).cloned();
        let Some(running) = graph.filter(|running| (task.index as usize) < running.graph.len()) else {
            return Explained::gone(task);
        };
        let label = running.graph.label(task.index);
        let (state, why) = running.stands(task.index);
        let mut explanation = Explanation::new(called(&label), state, why);
        explanation.task.graph = Some(task.job.number);
        let mut ids = vec![task];
        let mut at = running.first_missing(task.index);
        while let Some(id) = at.filter(|_| explanation.because.len() < MOST_STEPS) {
            let (state, why) = running.stands(id);
            explanation.because.push(Step::new(called(&running.graph.label(id)), state, why));
            ids.push(task_id(task.job.number, id));
            at = running.first_missing(id);
        }
        let mut told = Explained { ids, ..Explained::of(task, explanation) };
        add_runs(&mut told, &label, self.records());
        let last = told.runs.iter().filter(|run| run.record.run.task == task).max_by_key(|run| run.record.start);
        if let (Why::Released | Why::Stored { .. }, Some((_, Ended::Failed))) =
            (&told.explanation.why, last.and_then(|run| run.record.end))
        {
            let error = "what it said is told when its graph has ended".to_string();
            (told.explanation.state, told.explanation.why) = (TaskState::Failed, Why::Failed { error, root: None });
        }
        told
    }

    /// Looks for the tasks of a key: in graphs that run, and in what is recorded.
    pub(super) fn find(&self, prefix: &str) -> Found {
        let mut finder = Finder::new(prefix);
        let running: Vec<_> = self.running.lock().clone();
        running.iter().for_each(|running| finder.graph(&running.graph, running.number));
        finder.runs(HERE, self.recorded.ring().read());
        finder.end()
    }

    fn records(&self) -> impl Iterator<Item = (String, Vec<RingRecord>)> {
        std::iter::once((HERE.to_string(), self.recorded.ring().read()))
    }
}

fn task_id(number: u32, index: u32) -> TaskId {
    TaskId { job: JobId { session: SessionId::CLIENT, number }, index }
}

fn running(progress: Option<f64>) -> Why {
    Why::Running { worker: HERE.to_string(), thread: None, since: None, usual: None, progress }
}

impl RunningGraph {
    /// Where a task stands: those of lower numbers have ended.
    fn stands(&self, id: u32) -> (TaskState, Why) {
        let now = self.task.load(Ordering::Relaxed);
        if id < now {
            return match self.is_used(id, now) {
                true => (TaskState::Memory, Why::Stored { worker: None, bytes: None, place: Place::Program }),
                false => (TaskState::Released, Why::Released),
            };
        }
        if id == now {
            let per_mille = self.per_mille.load(Ordering::Relaxed);
            return (TaskState::Running, running((per_mille > 0).then(|| f64::from(per_mille) / 1000.0)));
        }
        let refs = self.graph.refs(id);
        let missing = refs.iter().filter(|input| **input >= now).count() as u32;
        if missing == 0 {
            let ahead = u64::from(id - now);
            return (TaskState::Ready, Why::Busy { workers: 1, on: None, ahead, about: None, graphs: 0, wants: None });
        }
        let first = self.first_missing(id).map(|first| called(&self.graph.label(first)));
        (TaskState::Waiting, Why::Inputs { missing, all: refs.len() as u32, first })
    }

    fn first_missing(&self, id: u32) -> Option<u32> {
        let now = self.task.load(Ordering::Relaxed);
        self.graph.refs(id).iter().copied().find(|input| *input >= now).filter(|_| id > now)
    }

    /// Whether the result of a task that has ended is still to be used.
    fn is_used(&self, id: u32, now: u32) -> bool {
        const MOST: u32 = 20_000;
        let Graph::Dag(dag) = &*self.graph else { return true };
        let end = (dag.len() as u32).min(now.saturating_add(MOST));
        dag.roots.contains(&id) || (now..end).any(|user| dag.refs(user).contains(&id))
    }
}
