//! What a supervisor's answers mean to the caller.

use crate::error::{DeathRecord, Error, Result};
use crate::events::Raw;
use crate::memory::report::MemoryReport;
use crate::message::{Answer, Question};
use crate::status::LogLine;
use crate::status::WorkerInfo;
use std::time::Duration;

pub(super) fn waiting_for(n: usize, timeout: Duration) -> Question {
    Question::WaitForWorkers { n, millis: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX) }
}

fn unexpected(answer: Answer) -> Error {
    match answer {
        Answer::Refused(reason) => Error::invalid("request", reason),
        other => Error::Closed { reason: format!("the supervisor answered beside the point: {other:?}") },
    }
}

/// Each takes the one kind of answer that its question has.
macro_rules! answers {
    ($($name:ident: $kind:ident($value:ty)),*) => {$(
        pub(super) fn $name(answer: Answer) -> Result<$value> {
            match answer {
                Answer::$kind(value) => Ok(value),
                other => Err(unexpected(other)),
            }
        }
    )*};
}

answers!(
    text: Text(String),
    deaths: Deaths(Vec<DeathRecord>),
    events: Events(Box<Raw>),
    logs: Logs(Vec<LogLine>),
    workers: Workers(Vec<WorkerInfo>)
);

pub(super) fn memory(answer: Answer) -> Result<MemoryReport> {
    match answer {
        Answer::Memory(report) => Ok(*report),
        other => Err(unexpected(other)),
    }
}

pub(super) fn done(answer: Answer, waited: Duration) -> Result<()> {
    match answer {
        Answer::Done => Ok(()),
        Answer::TimedOut => Err(Error::Timeout { waited }),
        other => Err(unexpected(other)),
    }
}
