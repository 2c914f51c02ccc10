//! Functions of the program's that its workers run first and last.

use super::Builder;
use crate::error::{Error, Result};
use crate::settings::WorkerHooks;
use crate::task::call::run_hook;
use crate::task::function::Record;

impl Builder {
    /// Runs in this process what each worker is to do first.
    pub(super) fn init_here(&self) -> Result<()> {
        let Some(init) = self.worker_init else { return Ok(()) };
        run_hook(init).map_err(|why| Error::Spawn { reason: format!("`worker_init` {why}") })
    }

    /// What workers do first and last, for other processes.
    pub(super) fn hooks(&self) -> Result<WorkerHooks> {
        let offset = |record: Option<&'static Record>| {
            let missing = |record: &Record| Error::FunctionNotInExecutable { function: record.path().to_string() };
            record.map(|record| record.offset().ok_or_else(|| missing(record))).transpose()
        };
        Ok(WorkerHooks { init: offset(self.worker_init)?, exit: offset(self.worker_exit)? })
    }

    /// Refuses what programs have to say themselves.
    pub(crate) fn for_any_program(self) -> Result<Self> {
        match self.worker_init.or(self.worker_exit) {
            None => Ok(self),
            Some(_) => Err(Error::invalid(
                "worker_init and worker_exit",
                "a cluster that serves other programs does not have their functions; each program names its own when it connects",
            )),
        }
    }
}
