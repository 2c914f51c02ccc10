//! The options that the environment asks for.

use super::{Builder, at_most};
use crate::error::{Error, Result};
use crate::exec::threads::MOST_POOL_THREADS;
use crate::ipc::page::MOST_THREADS;
use crate::memory::limit::MemoryLimit;
use crate::settings::MOST_WORKERS;
use crate::status::Mode;
use std::env::VarError;

fn variable(name: &str) -> Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value.trim().to_string()).filter(|v| !v.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(value)) => Err(Error::invalid(name, format!("{value:?} is not UTF-8 text"))),
    }
}

fn number(name: &str, most: usize) -> Result<Option<usize>> {
    let Some(text) = variable(name)? else { return Ok(None) };
    let number = text.parse().map_err(|_| Error::invalid(name, format!("`{text}` is not a whole number")))?;
    at_most(name, number, most).map(|()| Some(number))
}

impl Builder {
    /// The options that the environment asks for, see [`Client::from_env`](crate::Client::from_env).
    ///
    /// # Errors
    /// [`Error::Invalid`] names a variable whose value makes no sense.
    pub fn from_env() -> Result<Self> {
        let mut builder = Self::default();
        if let Some(cluster) = variable("SWATH_CLUSTER")? {
            return Ok(builder.cluster(cluster));
        }
        if let Some(mode) = variable("SWATH_SCHEDULER")? {
            builder.mode = mode.parse().map_err(|_| {
                Error::invalid("SWATH_SCHEDULER", format!("`{mode}`; it is `sync`, `threads` or `processes`"))
            })?;
        }
        // The variables may stay as they are where another mode is to show what goes wrong.
        builder.workers = number("SWATH_WORKERS", MOST_WORKERS)?.filter(|_| builder.mode == Mode::Processes);
        let most = if builder.mode == Mode::Processes { MOST_THREADS } else { MOST_POOL_THREADS };
        builder.threads = number("SWATH_THREADS", most)?;
        if let Some(limit) = variable("SWATH_MEMORY_LIMIT")? {
            let of_processes = builder.mode == Mode::Processes;
            let checked = limit.parse().and_then(|limit: MemoryLimit| {
                if of_processes { limit.of_worker() } else { limit.bytes() }.map(|_| limit)
            });
            builder.memory_limit = checked.map_err(|e| e.about("SWATH_MEMORY_LIMIT"))?;
        }
        if let Some(path) = variable("SWATH_RECORD")? {
            builder = builder.record(path);
        }
        #[cfg(feature = "progress")]
        crate::client::progress::Wish::from_env()?;
        Ok(builder)
    }
}
