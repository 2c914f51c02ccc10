//! What a client may ask a supervisor, and which kind of answer each question has.

use crate::error::{DeathRecord, Error, Result};
use crate::events::EventRecords;
use crate::ids::{JobId, TaskId};
use crate::memory::report::MemoryReport;
use crate::status::{Explanation, LogLine, WorkerInfo};
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
    Progress,
    WaitForWorkers { n: usize, millis: u64 },
    Scale(usize),
    Restart,
}

/// An answer as it is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Workers(Vec<WorkerInfo>),
    Deaths(Vec<DeathRecord>),
    Memory(Box<MemoryReport>),
    Logs(Vec<LogLine>),
    Events(Box<EventRecords>),
    Explanation(Box<Explanation>),
    Progress { done: u64, failed: u64, total: u64 },
    Done,
    TimedOut,
    Refused(String),
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
/// Whether so many workers are ready before the time is over.
pub(crate) struct WaitForWorkers {
    pub(crate) n: usize,
    pub(crate) timeout: Duration,
}
/// Have so many workers.
pub(crate) struct Scale(pub(crate) usize);
/// Replace all workers.
pub(crate) struct Restart;

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
        Answer::Explanation(explanation) => *explanation => Explanation;
    self: WaitForWorkers => Question::WaitForWorkers { n: self.n, millis: millis(self.timeout) },
        Answer::Done => true, Answer::TimedOut => false => bool;
    self: Scale => Question::Scale(self.0), Answer::Done => () => ();
    self: Restart => Question::Restart, Answer::Done => () => ();
}

fn millis(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)
}

fn unexpected(answer: Answer) -> Error {
    match answer {
        Answer::Refused(reason) => Error::invalid("the number of workers", reason),
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
        let refused = Scale::answer(Answer::Refused("it is too many".to_string()));
        assert!(
            matches!(refused, Err(Error::Invalid { what, why }) if what == "the number of workers" && why == "it is too many")
        );
        let beside = Deaths::answer(Answer::Logs(Vec::new()));
        assert!(matches!(beside, Err(Error::Closed { reason }) if reason.contains("beside the point: Logs([])")));
    }
}
