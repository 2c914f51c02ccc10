//! Options that a mode cannot honour.

use super::Builder;
use crate::error::{Error, Result};
use crate::memory::limit::MemoryLimit;
use crate::status::Mode;

impl Builder {
    /// Warns of options that have no meaning for this client; refuses them, if it is to be strict.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the first of them.
    pub(super) fn check_heeded(&self) -> Result<()> {
        let unheeded = self.unheeded();
        let Some(first) = unheeded.first() else { return Ok(()) };
        let why = match &self.cluster {
            Some(_) => "for a client of a local cluster, which has its own".to_string(),
            None => format!("in {} mode", self.mode),
        };
        if self.strict {
            return Err(Error::invalid(*first, format!("it has no meaning {why}")));
        }
        log::warn!("`{}` of the builder: no meaning {why}", unheeded.join("`, `"));
        Ok(())
    }

    /// The names of the options that say something which has no meaning for this client.
    fn unheeded(&self) -> Vec<&'static str> {
        let plain = Self::default();
        let cluster = self.cluster.is_some();
        if self.mode == Mode::Processes && !cluster {
            // Its workers have one program.
            return [
                ("weight", self.weight != plain.weight),
                ("threads_resources", !self.threads_resources.is_empty()),
            ]
            .into_iter()
            .filter_map(|(name, says)| says.then_some(name))
            .collect();
        }
        let in_threads = self.mode == Mode::Threads && !cluster;
        [
            ("workers", self.workers.is_some()),
            ("threads", self.threads.is_some() && !in_threads),
            ("memory_limit", self.memory_limit != MemoryLimit::None && !in_threads),
            ("total_memory_limit", self.total_memory_limit != MemoryLimit::None),
            ("size", self.size.is_some()),
            ("shared_memory_limit", self.shared_memory_limit != MemoryLimit::None),
            ("memory_target, memory_spill, memory_pause or memory_terminate", self.thresholds != plain.thresholds),
            ("spill_directory", self.spill_directory.is_some()),
            ("spill_limit", self.spill_limit != MemoryLimit::None),
            ("recycle_after", self.recycle_after.is_some()),
            ("recycle_unmanaged", self.recycle_unmanaged.is_some()),
            ("worker_env", !self.worker_env.is_empty()),
            ("worker_tags", !self.worker_tags.is_empty()),
            ("worker_resources", !self.worker_resources.is_empty()),
            ("threads_resources", !self.threads_resources.is_empty() && cluster),
            ("local_directory", self.local_directory.is_some()),
            ("start_timeout", self.start_timeout != plain.start_timeout),
            ("worker_timeout", self.worker_timeout != plain.worker_timeout),
            ("cancel_grace", self.cancel_grace != plain.cancel_grace),
            ("allowed_deaths", self.allowed_deaths != plain.allowed_deaths),
            ("restart_policy", self.restart != plain.restart),
            ("start_method", self.start_method != plain.start_method),
            ("forward_output", self.forward_output != plain.forward_output),
            ("events", self.events != plain.events && cluster),
            ("weight", self.weight != plain.weight && !cluster),
        ]
        .into_iter()
        .filter_map(|(name, says)| says.then_some(name))
        .collect()
    }
}
