//! Runs graphs in this process: the modes sync and threads.

mod attempt;
mod budget;
mod coordination;
mod find;
mod logs;
mod queries;
pub(crate) mod sync;
pub(crate) mod threads;

use crate::error::{Error, Result};
use crate::events::sources::RunSources;
use crate::graph::label::TaskLabel;
use crate::machine::Machine;
use crate::resources::Resources;
use crate::task::Value;
use crate::task::call::Fault;
use crate::task::codec::Codec;
use crate::task::encode::across;
use crate::task::function::CallError;
use std::sync::Arc;

/// What a mode of this process checks, so that a program fails here as it would elsewhere.
#[derive(Clone, Default)]
pub(crate) struct Checks {
    /// Values are encoded and decoded again, as between processes.
    pub(crate) encodes: bool,
    /// What the mode cannot honour is refused.
    pub(crate) strict: bool,
    /// What there is of resources.
    pub(crate) resources: Resources,
    /// Where those who record or watch take runs and steps from.
    pub(crate) sources: Arc<RunSources>,
}

/// Values that are given to a client of this process, as another process would have them if it `encodes`.
fn scattered(values: Vec<(Value, &'static Codec, TaskLabel)>, encodes: bool) -> Result<Vec<(Value, TaskLabel)>> {
    let each = |(value, codec, label): (Value, &'static Codec, TaskLabel)| match encodes {
        false => Ok((value, label)),
        true => match across(&value, codec) {
            Ok(value) => Ok((value, label)),
            Err(CallError::Encode { type_name, reason }) => Err(Error::Encode { key: label.key(), type_name, reason }),
            Err(e) => {
                Err(Error::WrongType { key: label.key(), wanted: codec.name(), reason: Fault::Call(e).to_string() })
            }
        },
    };
    values.into_iter().map(each).collect()
}

/// What this process may use, to be shown with a client.
fn on_machine() -> String {
    Machine::read().map_or(String::new(), |machine| format!(", on {machine}"))
}
