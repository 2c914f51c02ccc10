//! The pool as the mode that a client has.

use super::{PoolThread, ThreadPool};
use crate::coordinator;
use crate::error::{Error, Result};
use crate::events::journal::Step;
use crate::events::sources::RunSources;
use crate::events::{EventKind, EventRecords, WorkerRuns};
use crate::exec::queries::{answer_in_process, in_process};
use crate::exec::{on_machine, scattered};
use crate::graph::label::TaskLabel;
use crate::graph::map::MapTasks;
use crate::graph::{Dag, Graph};
use crate::ids::TaskId;
use crate::ipc::fork::Origin;
use crate::message::{Answer, Question};
use crate::resources::Resources;
use crate::status::{Mode, Progress, RunningTask};
use crate::submission::Again;
use crate::submission::backend::{Backend, NoPlaces, Shown, Want};
use crate::submission::callbacks::Callbacks;
use crate::submission::calls::{Given, OpenCalls};
use crate::submission::counts::TaskCounts;
use crate::submission::handle::{ResultState, SHUT_DOWN, Submission, Waiter, cancelled, closed};
use crate::submission::kept::KeptResults;
use crate::submission::published::PublishedValues;
use crate::submission::reply::Reply;
use crate::task::Value;
use crate::task::codec::Codec;
use parking_lot::Mutex;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

impl ThreadPool {
    /// Each thread with what it runs; spare ones only while they run something.
    fn workers(&self) -> Vec<(String, Vec<RunningTask>)> {
        let threads = self.queue.lock().threads.clone();
        let running = |thread: &PoolThread| {
            let (number, id) = thread.running.now()?;
            let job = self.jobs.lock().get(&number).and_then(Weak::upgrade)?;
            Some(RunningTask { key: job.label(id).key(), progress: f64::from(thread.running.progress()) / 1000.0 })
        };
        let workers = threads.iter().enumerate().filter_map(|(at, thread)| {
            let running: Vec<RunningTask> = running(thread).into_iter().collect();
            (at < self.threads || !running.is_empty()).then(|| (thread.name.to_string(), running))
        });
        let mut workers: Vec<_> = workers.collect();
        // The system may have given fewer.
        workers.extend((workers.len()..self.threads).map(|i| (format!("swath-thread-{i}"), Vec::new())));
        workers
    }
}

impl Backend for ThreadPool {
    fn mode(&self) -> Mode {
        Mode::Threads
    }

    fn describe(&self) -> String {
        let state = if self.is_closed() { "closed" } else { "running" };
        let s = if self.threads == 1 { "" } else { "s" };
        format!("threads client: {} thread{s} in this process{}, {state}", self.threads, on_machine())
    }

    fn submit(self: Arc<Self>, dag: Dag, want: Want) -> Result<Arc<Submission>> {
        self.run(Graph::Dag(dag), want, &mut |_| ())
    }

    fn submit_map(self: Arc<Self>, map: Arc<MapTasks>, shown: Shown<'_>) -> Result<Arc<Submission>> {
        self.run(Graph::Map(map), Want::Handles, shown)
    }

    fn scatter(
        self: Arc<Self>,
        values: Vec<(Value, &'static Codec, TaskLabel)>,
        _broadcast: bool,
    ) -> Result<Arc<Submission>> {
        self.check_open()?;
        let (values, labels): (Vec<_>, Vec<_>) = scattered(values, self.encodes)?.into_iter().unzip();
        let submission = Submission::of_values(self.submissions.fetch_add(1, Ordering::Relaxed), self.clone(), labels);
        submission.settle(values.into_iter().enumerate().map(|(i, v)| (i as u32, ResultState::Value(v))));
        Ok(submission)
    }

    fn fetch(&self, _submission: &Submission, _indices: &[u32]) {}

    fn release(&self, submission: &Submission, indices: &[u32]) {
        if self.origin.is_elsewhere() {
            return;
        }
        let job = self.jobs.lock().get(&submission.number).and_then(Weak::upgrade);
        if let Some(job) = job {
            job.drop_outputs(indices);
            self.make_way(&job);
            self.finish_unneeded(&job);
        }
        submission.released(indices);
        submission.forget_calls(indices);
    }

    fn cancel(&self, submission: &Arc<Submission>, indices: &[u32]) {
        if self.origin.is_elsewhere() {
            return;
        }
        let job = self.jobs.lock().get(&submission.number).and_then(Weak::upgrade);
        if let Some(job) = &job {
            job.cancelled.get_or_init(Mutex::default).lock().extend(indices);
        }
        // Before the tasks are told: one that stops leaves its thread to other work, and what waits for its failure must
        // be in the queue by then, or a thread of a small pool takes what comes behind it.
        submission.settle(indices.iter().map(|&s| (s, ResultState::Failed(cancelled(&submission.label(s))))));
        if let Some(job) = job {
            job.drop_outputs(indices);
            self.make_way(&job);
            self.finish_unneeded(&job);
        }
    }

    fn retry(self: Arc<Self>, submission: &Arc<Submission>, index: u32) -> Result<()> {
        self.check_open()?;
        let Some(dag) = submission.failed_call(index) else { return Ok(()) };
        if submission.reopen(index) {
            let graph = Graph::Dag(dag);
            let number = self.submissions.fetch_add(1, Ordering::Relaxed);
            // A failure of it is one of the first submission, which has the call.
            let again = Submission::new(number, self.clone(), &graph, Want::Handles, Again::Elsewhere);
            let counts = match submission.counts() {
                Some(counts) => TaskCounts::again(counts, index, &graph),
                None => TaskCounts::new(&self.groups, number, &graph, true, Want::Handles),
            };
            self.start(graph, Arc::clone(&again), counts);
            let (from, to) = (Arc::clone(&again), Arc::clone(submission));
            again.when_done(
                0,
                Waiter::Call(Box::new(move || {
                    let result = from.with_state(0, |s| match s {
                        ResultState::Value(v) => ResultState::Value(v.clone()),
                        ResultState::Failed(e) => ResultState::Failed(e.clone()),
                        _ => ResultState::Failed(cancelled(&from.label(0))),
                    });
                    to.settle([(index, result)]);
                })),
            );
        }
        Ok(())
    }

    fn sources(&self) -> Option<Arc<RunSources>> {
        Some(Arc::clone(&self.sources))
    }

    fn note(&self, _task: Option<TaskId>, kind: EventKind) {
        self.sources.note(Step { session: None, kind });
    }

    fn progress(&self) -> Progress {
        self.groups.progress(self.is_closed())
    }

    fn coordinate(&self, request: coordinator::Request<Given>) -> Result<()> {
        self.check_open()?;
        self.coordination.request(request)
    }

    fn open_calls(&self) -> &OpenCalls {
        &self.coordination.calls
    }

    fn ask(&self, question: Question) -> Reply {
        if let Some(reason) = self.origin.reason() {
            return Reply::ready(Err(Error::Closed { reason }));
        }
        if let Question::Events = question {
            let threads = self.queue.lock().threads.clone();
            let runs = threads
                .iter()
                .map(|s| WorkerRuns { worker: s.name.to_string(), records: s.runs.ring().read() })
                .collect();
            return Reply::ready(Ok(Answer::Events(Box::new(EventRecords { runs, steps: self.sources.steps() }))));
        }
        if let Question::Logs = question {
            return Reply::ready(Ok(Answer::Logs(self.logs.lines())));
        }
        if let Question::Explain(job, index) = question {
            return Reply::ready(Ok(Answer::Explained(Box::new(self.explain_task(TaskId { job, index })))));
        }
        if let Question::Find { prefix, .. } = &question {
            return Reply::ready(Ok(Answer::Found(Box::new(self.find(prefix)))));
        }
        if let Question::Profile(command) = question {
            return Reply::ready(Ok(Answer::Profile(vec![(Mode::Threads.to_string(), self.sampled.answer(command))])));
        }
        if let (Question::Memory, Some(budget)) = (&question, &self.budget) {
            let (managed, limit) = budget.used();
            return Reply::ready(Ok(Answer::Memory(Box::new(in_process(Mode::Threads, managed, Some(limit))))));
        }
        answer_in_process(Mode::Threads, self.workers(), question)
    }

    fn explain(&self, submission: &Submission, index: u32) -> Reply {
        if let Some(reason) = self.origin.reason() {
            return Reply::ready(Err(Error::Closed { reason }));
        }
        Reply::ready(Ok(Answer::Explained(Box::new(self.explain_output(submission, index)))))
    }

    fn shutdown(&self) {
        if self.origin.is_elsewhere() {
            return;
        }
        let jobs: Vec<_> = {
            let mut jobs = self.jobs.lock();
            if self.is_closed() {
                return;
            }
            // Before anybody sees the flag: threads and the queue let go of jobs then, which must be failed all the same.
            let left = jobs.drain().filter_map(|(_, job)| job.upgrade()).collect();
            self.closed.store(true, Ordering::Release);
            left
        };
        let waiting = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            (std::mem::take(&mut queue.graphs), std::mem::take(&mut queue.tally))
        };
        self.work.notify_all();
        self.end_watch();
        self.coordination.close(SHUT_DOWN);
        self.published.clear();
        for job in jobs {
            job.submission.fail_rest(|label| closed(label, SHUT_DOWN));
        }
        // With jobs go values of the user's.
        drop(waiting);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn resources(&self) -> Option<Vec<Resources>> {
        Some(vec![self.resources.clone()])
    }

    fn kept(&self) -> Option<&KeptResults> {
        Some(&self.kept)
    }

    fn published(&self) -> Option<&PublishedValues> {
        Some(&self.published)
    }

    fn no_places(&self) -> Option<&NoPlaces> {
        Some(&self.no_places)
    }

    fn callbacks(&self) -> &Arc<Callbacks> {
        &self.callbacks
    }

    fn origin(&self) -> Origin {
        self.origin
    }
}
