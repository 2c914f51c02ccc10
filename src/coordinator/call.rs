//! What callers ask for, and what they are told.

use crate::error::{Error, Result};
use crate::ids::{SessionId, TaskId};
use crate::units::Shown;
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Kind {
    Lock,
    Semaphore,
    Event,
    Queue,
    Variable,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Semaphore => "semaphore",
            Self::Event => "event",
            Self::Queue => "queue",
            Self::Variable => "variable",
        }
    }

    /// Whether somebody has it for a time.
    pub(crate) fn has_holders(self) -> bool {
        matches!(self, Self::Lock | Self::Semaphore)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose names they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// A program's: its own, and those of its tasks.
    Program(SessionId),
    /// Those of all programs that the supervisor has.
    Shared,
}

/// The most characters of a name.
const LONGEST: usize = 200;

/// Refuses a name that nothing is called. `what` says whose name it is.
pub(crate) fn check_name(what: impl Fn() -> String, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid(what(), "it is empty"));
    }
    let long = name.chars().count();
    if long > LONGEST {
        return Err(Error::invalid(what(), format!("it has {long} characters; {LONGEST} are the most")));
    }
    match name.chars().find(|c| *c == '/' || c.is_control()) {
        Some(bad) => Err(Error::invalid(what(), format!("`{}` has a {bad:?}", Shown(name)))),
        None => Ok(()),
    }
}

/// How many hold a semaphore at most, or lie in a queue.
pub(crate) type Limit = u64;

/// No limit.
pub(crate) const UNBOUNDED: Limit = u64::MAX;

/// What is meant, as the caller takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) limit: Limit,
    /// Of what lies in a queue or variable.
    pub(crate) type_name: String,
    /// Whether the name is that of all programs of the cluster.
    pub(crate) shared: bool,
}

/// Who calls, within its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct By {
    /// The task that runs on the caller's thread.
    pub(crate) task: Option<TaskId>,
    /// That run of it, by a number that no other of the session has.
    pub(crate) run: Option<u64>,
    /// Its thread, where that is all that ever runs there.
    pub(crate) thread: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) session: SessionId,
    pub(crate) by: By,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Operation<V> {
    /// Of locks and semaphores.
    Acquire,
    /// Of events.
    Set,
    Clear,
    IsSet,
    Wait,
    /// Of queues.
    Put(V),
    Get,
    Len,
    /// Of variables.
    Store(V),
    Load,
    Delete,
}

impl<V> Operation<V> {
    pub(super) fn into_value(self) -> Option<V> {
        match self {
            Self::Put(value) | Self::Store(value) => Some(value),
            _ => None,
        }
    }

    /// The same with another value.
    pub(crate) fn try_map<W, E>(self, f: impl FnOnce(V) -> Result<W, E>) -> Result<Operation<W>, E> {
        Ok(match self {
            Self::Acquire => Operation::Acquire,
            Self::Set => Operation::Set,
            Self::Clear => Operation::Clear,
            Self::IsSet => Operation::IsSet,
            Self::Wait => Operation::Wait,
            Self::Put(value) => Operation::Put(f(value)?),
            Self::Get => Operation::Get,
            Self::Len => Operation::Len,
            Self::Store(value) => Operation::Store(f(value)?),
            Self::Load => Operation::Load,
            Self::Delete => Operation::Delete,
        })
    }
}

/// What becomes of a call that cannot be answered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Patience {
    /// It is answered that nothing is to be had.
    None,
    /// Its thread waits for it, for as long as it takes.
    Blocking,
    /// Its thread waits for it for some time.
    Limited,
    /// It waits, and its thread does something else.
    Async,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Call<V> {
    pub(crate) target: Target,
    pub(crate) operation: Operation<V>,
    pub(crate) patience: Patience,
    pub(crate) by: By,
}

/// What a session asks for or says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Request<V> {
    Call {
        ticket: u64,
        call: Call<V>,
    },
    /// A lease ends. Under the ticket, if there is one, it is answered whether there was one.
    Release {
        lease: u64,
        ticket: Option<u64>,
    },
    /// Nobody waits for the answer to that call any more.
    Forget {
        ticket: u64,
    },
    /// An item came when nobody waited for it any more.
    PutBack {
        target: Target,
        value: V,
        place: u64,
        by: By,
    },
    /// A run ends that may still have something.
    RunEnded {
        run: u64,
    },
}

impl<V> Request<V> {
    /// What it names, and who.
    pub(crate) fn names(&self) -> Option<(&Target, &By)> {
        match self {
            Self::Call { call, .. } => Some((&call.target, &call.by)),
            Self::PutBack { target, by, .. } => Some((target, by)),
            Self::Release { .. } | Self::Forget { .. } | Self::RunEnded { .. } => None,
        }
    }

    /// What is handed over with it.
    pub(crate) fn value(&self) -> Option<&V> {
        match self {
            Self::Call { call, .. } => match &call.operation {
                Operation::Put(value) | Operation::Store(value) => Some(value),
                _ => None,
            },
            Self::PutBack { value, .. } => Some(value),
            Self::Release { .. } | Self::Forget { .. } | Self::RunEnded { .. } => None,
        }
    }

    /// The ticket under which an answer is awaited.
    pub(crate) fn ticket(&self) -> Option<u64> {
        match self {
            Self::Call { ticket, .. } => Some(*ticket),
            Self::Release { ticket, .. } => *ticket,
            Self::Forget { .. } | Self::PutBack { .. } | Self::RunEnded { .. } => None,
        }
    }

    /// The same with another value.
    pub(crate) fn try_map<W, E>(self, f: impl FnOnce(V) -> Result<W, E>) -> Result<Request<W>, E> {
        Ok(match self {
            Self::Call { ticket, call: Call { target, operation, patience, by } } => {
                Request::Call { ticket, call: Call { target, operation: operation.try_map(f)?, patience, by } }
            }
            Self::Release { lease, ticket } => Request::Release { lease, ticket },
            Self::Forget { ticket } => Request::Forget { ticket },
            Self::PutBack { target, value, place, by } => Request::PutBack { target, value: f(value)?, place, by },
            Self::RunEnded { run } => Request::RunEnded { run },
        })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer<V> {
    /// It is done; what was to be acquired is the caller's.
    Done,
    /// Of a variable.
    Value(V),
    /// Of a queue, and its place there: those of items before it are less.
    Item(V, u64),
    /// Whether the event is set, or the variable had a value.
    Is(bool),
    Len(u64),
    /// It is not to be had at once, or nobody waits any more.
    Unavailable,
    Refused(Refusal),
}

impl<V> Answer<V> {
    /// The same with another value.
    pub(crate) fn map<W>(self, f: impl FnOnce(V) -> W) -> Answer<W> {
        match self {
            Self::Done => Answer::Done,
            Self::Value(value) => Answer::Value(f(value)),
            Self::Item(value, place) => Answer::Item(f(value), place),
            Self::Is(so) => Answer::Is(so),
            Self::Len(len) => Answer::Len(len),
            Self::Unavailable => Answer::Unavailable,
            Self::Refused(why) => Answer::Refused(why),
        }
    }
}

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// It has values of another type.
    OtherType { there: String },
    /// It was made with another limit.
    OtherLimit { there: Limit },
    /// There is no such lease, or no more.
    NotHeld,
    /// It would wait for ever.
    Deadlock(String),
    /// The program whose names they are has left.
    Gone,
    /// It has no such operation.
    NoSuchOperation,
}
