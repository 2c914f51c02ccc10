//! How the modes of this process answer questions about workers: their only workers are themselves.

use crate::error::Error;
use crate::memory::process::Statm;
use crate::memory::report::{MemoryReport, WorkerMemory};
use crate::message::{Answer, Question};
use crate::status::{Mode, RunningTask, WorkerInfo};
use crate::submission::reply::Reply;

/// Answers a question about workers, of which each has a name and what it runs.
pub(crate) fn answer_in_process(mode: Mode, workers: Vec<(String, Vec<RunningTask>)>, question: Question) -> Reply {
    let unsupported = |operation| Reply::ready(Err(Error::Unsupported { operation, mode: mode.name() }));
    let n = workers.len();
    match question {
        Question::Workers => {
            let workers = workers.into_iter().map(|(name, running)| WorkerInfo {
                tasks: running.len(),
                running,
                ..WorkerInfo::in_process(&name)
            });
            Reply::ready(Ok(Answer::Workers(workers.collect())))
        }
        Question::Deaths => Reply::ready(Ok(Answer::Deaths(Vec::new()))),
        Question::Memory => Reply::ready(Ok(Answer::Memory(Box::new(in_process(mode, 0, None))))),
        Question::WaitForWorkers { n: wanted, .. } if wanted <= n => Reply::ready(Ok(Answer::Done)),
        Question::WaitForWorkers { .. } => {
            Reply::ready(Err(Error::invalid("n", format!("a client in {mode} mode has {n} worker(s), its threads"))))
        }
        Question::Scale(_) => unsupported("scale"),
        Question::Restart => unsupported("restart"),
        Question::Retire { .. } => unsupported("retire"),
        Question::RestartWorker { .. } => unsupported("restart_worker"),
        Question::Held(_) => unsupported("has_what"),
        Question::RunOn { .. } => unsupported("run_on_workers"),
        Question::Adapt { .. } | Question::StopAdapting(_) => unsupported("adapt"),
        Question::Publish { .. } | Question::Published { .. } => unsupported("publish"),
        Question::Unpublish(_) | Question::ListPublished => unsupported("publish"),
        Question::Explain(..)
        | Question::Find { .. }
        | Question::Groups(_)
        | Question::Events
        | Question::Logs
        | Question::Profile(_) => unsupported("this question"),
    }
}

/// How this process uses its memory; results take `managed` bytes of it, if they are counted.
pub(crate) fn in_process(mode: Mode, managed: u64, limit: Option<u64>) -> MemoryReport {
    let process = WorkerMemory {
        name: mode.to_string(),
        pid: std::process::id(),
        private: Statm::of_self().private().unwrap_or(0),
        managed,
        limit,
        ..WorkerMemory::default()
    };
    MemoryReport { workers: vec![process], ..MemoryReport::default() }
}
