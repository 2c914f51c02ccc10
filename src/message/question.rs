//! What a client may ask a supervisor, and which kind of answer each question has.

use crate::bytes::Bytes;
use crate::error::LogLine;
use crate::error::{Cause, DeathRecord, Error, PublishError, Result};
use crate::events::EventRecords;
use crate::ids::{JobId, TaskId};
use crate::job::explained::{Explained, FindFrom, Found};
use crate::job::{GroupCounts, HeldResult};
use crate::memory::report::MemoryReport;
use crate::profile::{ProfileCommand, ProfileOff, RawProfile};
use crate::settings::AdaptOptions;
use crate::status::{Published, WorkerInfo};
use crate::task::{codec, context};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A question as it is sent; it is answered under its ticket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Question {
    Workers,
    Deaths,
    Memory,
    Logs,
    Events,
    Explain(JobId, u32),
    /// Look for tasks of the session whose keys begin so: at some of them, from there on. Where a task asks, by that number:
    /// those of the session that the task is of.
    Find {
        prefix: String,
        from: FindFrom,
        by: Option<TaskId>,
    },
    /// The session's tasks, counted by name and state. Where a task asks, by that number: those of the session that the task is
    /// of.
    Groups(Option<TaskId>),
    WaitForWorkers {
        n: usize,
        millis: u64,
    },
    Scale(usize),
    Restart,
    Retire {
        names: Vec<String>,
        millis: Option<u64>,
        by: Option<TaskId>,
    },
    RestartWorker {
        name: String,
        millis: u64,
        by: Option<TaskId>,
    },
    Adapt {
        min: usize,
        max: usize,
        options: AdaptOptions,
    },
    StopAdapting(u64),
    /// Where the session's results are: all, or those of these tasks.
    Held(Option<Vec<TaskId>>),
    /// Have workers, all or those of these names, run the function at this offset, beside their tasks.
    RunOn {
        names: Option<Vec<String>>,
        function: u64,
    },
    /// Keep these results of the session's under a name.
    Publish {
        name: String,
        type_name: String,
        tasks: Vec<TaskId>,
    },
    /// Have the only tasks of the session's jobs of these numbers be what is published under a name.
    Published {
        name: String,
        type_name: String,
        numbers: Vec<u32>,
    },
    Unpublish(String),
    ListPublished,
    /// Begin or end to sample the threads that run tasks, or say what has been sampled.
    Profile(ProfileCommand),
}

/// What became of a function that a worker was to run beside its tasks: its encoded result.
pub(crate) type RanBeside = std::result::Result<Bytes, Cause>;

/// An answer as it is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Workers(Vec<WorkerInfo>),
    Deaths(Vec<DeathRecord>),
    Memory(Box<MemoryReport>),
    Logs(Vec<LogLine>),
    Events(Box<EventRecords>),
    Explained(Box<Explained>),
    Found(Box<Found>),
    /// With the number of threads that run tasks.
    Groups(Vec<GroupCounts>, u32),
    Done,
    TimedOut,
    /// Workers have retired; so many there are to be.
    Retired {
        left: usize,
    },
    /// The number of workers is adapted, under this number.
    Adapting(u64),
    Refused {
        what: String,
        why: String,
    },
    /// What is waited for cannot be, since something of it waits for the one who waits.
    Deadlock(String),
    /// The worker that was to come has not come to work.
    NotStarted(String),
    Held(Vec<HeldResult>),
    /// What became of a function on each worker.
    Ran(Vec<(String, RanBeside)>),
    NotPublished(PublishError),
    /// What is published under that name are so many results, and not as many as were asked for.
    OtherCount(usize),
    Published(Vec<Published>),
    /// What has been sampled, by worker.
    Profile(Vec<(String, RawProfile)>),
}

/// A question whose kind of answer follows from its type.
pub(crate) trait Ask {
    type Answer;

    fn question(self) -> Question;

    /// What an answer to this question says.
    ///
    /// # Errors
    /// Where it is refused, or the answer is one to another question.
    fn answer(answer: Answer) -> Result<Self::Answer>;
}

/// What is known of all workers.
pub(crate) struct Workers;
/// The records of the last deaths of workers.
pub(crate) struct Deaths;
/// How the workers use memory.
pub(crate) struct Memory;
/// The last lines that workers wrote.
pub(crate) struct Logs;
/// What has happened to tasks and workers.
pub(crate) struct Events;
/// Why a task is where it is.
pub(crate) struct Explain(pub(crate) TaskId);
/// The tasks whose keys begin so: some of them.
pub(crate) struct Find {
    pub(crate) prefix: String,
    pub(crate) from: FindFrom,
}
/// Tasks counted by name and state.
pub(crate) struct Groups;
/// Whether so many workers are ready before the time is over.
pub(crate) struct WaitForWorkers {
    pub(crate) n: usize,
    pub(crate) timeout: Duration,
}
/// Have so many workers.
pub(crate) struct Scale(pub(crate) usize);
/// Replace all workers.
pub(crate) struct Restart;
/// Have these workers no more, and wait so long for their end; whether that has come.
pub(crate) struct Retire {
    names: Vec<String>,
    timeout: Option<Duration>,
    /// The task that asks.
    by: Option<TaskId>,
}
/// Replace a worker: in order, or after that time by force.
pub(crate) struct RestartWorker {
    name: String,
    within: Duration,
    by: Option<TaskId>,
}
/// Have as many workers as the load needs.
pub(crate) struct Adapt {
    pub(crate) min: usize,
    pub(crate) max: usize,
    pub(crate) options: AdaptOptions,
}
/// Where results are.
pub(crate) struct Held {
    pub(crate) tasks: Option<Vec<TaskId>>,
}
/// Run a function on workers.
pub(crate) struct RunOn {
    pub(crate) names: Option<Vec<String>>,
    pub(crate) function: u64,
}
/// Keep results under a name.
pub(crate) struct Publish {
    pub(crate) name: String,
    pub(crate) type_name: &'static str,
    pub(crate) tasks: Vec<TaskId>,
}
/// Let jobs that are to come have what is published under a name. Some: there are so many results, and none is had.
pub(crate) struct ReadPublished {
    pub(crate) name: String,
    pub(crate) type_name: &'static str,
    pub(crate) numbers: Vec<u32>,
}
/// Keep it no longer.
pub(crate) struct Unpublish(pub(crate) String);
/// What is published.
pub(crate) struct ListPublished;
/// Sample threads, or say what has been sampled in each worker.
pub(crate) struct Profile(pub(crate) ProfileCommand);
/// Do so no more, if it is still done under that number.
pub(crate) struct StopAdapting(pub(crate) u64);

/// Each of these takes the one kind of answer that it has.
macro_rules! questions {
    ($($self:ident: $ask:ident => $question:expr, $($kind:pat => $value:expr),+ => $answer:ty;)+) => {$(
        impl Ask for $ask {
            type Answer = $answer;

            fn question($self) -> Question {
                $question
            }

            fn answer(answer: Answer) -> Result<$answer> {
                match answer {
                    $($kind => Ok($value),)+
                    other => Err(unexpected(other)),
                }
            }
        }
    )+};
}

questions! {
    self: Workers => Question::Workers, Answer::Workers(workers) => workers => Vec<WorkerInfo>;
    self: Deaths => Question::Deaths, Answer::Deaths(deaths) => deaths => Vec<DeathRecord>;
    self: Memory => Question::Memory, Answer::Memory(report) => *report => MemoryReport;
    self: Logs => Question::Logs, Answer::Logs(lines) => lines => Vec<LogLine>;
    self: Events => Question::Events, Answer::Events(records) => *records => EventRecords;
    self: Explain => Question::Explain(self.0.job, self.0.index),
        Answer::Explained(explained) => *explained => Explained;
    self: Find => Question::Find { prefix: self.prefix, from: self.from, by: context::id() },
        Answer::Found(found) => *found => Found;
    self: Groups => Question::Groups(context::id()), Answer::Groups(groups, threads) => (groups, threads) => (Vec<GroupCounts>, u32);
    self: WaitForWorkers => Question::WaitForWorkers { n: self.n, millis: millis(self.timeout) },
        Answer::Done => true, Answer::TimedOut => false => bool;
    self: Scale => Question::Scale(self.0), Answer::Done => () => ();
    self: Restart => Question::Restart, Answer::Done => () => ();
    self: Retire => Question::Retire { names: self.names, millis: self.timeout.map(millis), by: self.by },
        Answer::Retired { .. } => true, Answer::TimedOut => false => bool;
    self: RestartWorker => Question::RestartWorker { name: self.name, millis: millis(self.within), by: self.by },
        Answer::Done => () => ();
    self: Adapt => Question::Adapt { min: self.min, max: self.max, options: self.options },
        Answer::Adapting(serial) => serial => u64;
    self: Held => Question::Held(self.tasks), Answer::Held(results) => results => Vec<HeldResult>;
    self: RunOn => Question::RunOn { names: self.names, function: self.function },
        Answer::Ran(results) => results => Vec<(String, RanBeside)>;
    self: Publish => Question::Publish { name: self.name, type_name: self.type_name.to_string(), tasks: self.tasks },
        Answer::Done => () => ();
    self: ReadPublished =>
        Question::Published { name: self.name, type_name: self.type_name.to_string(), numbers: self.numbers },
        Answer::Done => None, Answer::OtherCount(count) => Some(count) => Option<usize>;
    self: Unpublish => Question::Unpublish(self.0), Answer::Done => () => ();
    self: ListPublished => Question::ListPublished, Answer::Published(results) => results => Vec<Published>;
    self: Profile => Question::Profile(self.0),
        Answer::Profile(workers) => workers, Answer::Ran(workers) => sampled(workers) => Vec<(String, RawProfile)>;
    self: StopAdapting => Question::StopAdapting(self.0), Answer::Done => () => ();
}

impl Retire {
    /// What the calling task or program asks for.
    pub(crate) fn named(names: &[impl AsRef<str>], timeout: Option<Duration>) -> Self {
        let names = names.iter().map(|name| name.as_ref().to_string()).collect();
        Self { names, timeout, by: context::id() }
    }
}

impl RestartWorker {
    /// What the calling task or program asks for.
    pub(crate) fn named(name: &str, within: Duration) -> Self {
        Self { name: name.to_string(), within, by: context::id() }
    }
}

/// What workers say that has been sampled in them.
fn sampled(workers: Vec<(String, RanBeside)>) -> Vec<(String, RawProfile)> {
    let decoded = |result: RanBeside| {
        let reason = match result {
            Ok(bytes) => match codec::decode(&bytes) {
                Ok(profile) => return profile,
                Err(reason) => reason,
            },
            Err(cause) => cause.to_string(),
        };
        RawProfile::off(ProfileOff::Unanswered { reason })
    };
    workers.into_iter().map(|(name, result)| (name, decoded(result))).collect()
}

fn millis(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)
}

fn unexpected(answer: Answer) -> Error {
    match answer {
        Answer::Refused { what, why } => Error::invalid(what, why),
        Answer::Deadlock(reason) => Error::Deadlock { reason },
        Answer::NotPublished(error) => error.into(),
        Answer::NotStarted(reason) => Error::Spawn { reason },
        other => Error::Closed { reason: format!("the supervisor answered beside the point: {other:?}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_of_its_question_or_an_error() {
        assert!(matches!(Workers::answer(Answer::Workers(Vec::new())), Ok(workers) if workers.is_empty()));
        assert!(matches!(WaitForWorkers::answer(Answer::Done), Ok(true)));
        assert!(matches!(WaitForWorkers::answer(Answer::TimedOut), Ok(false)));
        let refused =
            Scale::answer(Answer::Refused { what: "the number of workers".into(), why: "it is too many".into() });
        assert!(
            matches!(refused, Err(Error::Invalid { what, why }) if what == "the number of workers" && why == "it is too many")
        );
        let beside = Deaths::answer(Answer::Logs(Vec::new()));
        assert!(matches!(beside, Err(Error::Closed { reason }) if reason.contains("beside the point: Logs([])")));
    }
}
