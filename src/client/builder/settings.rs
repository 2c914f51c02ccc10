//! The options of worker processes, checked.

use super::{Builder, at_most};
use crate::error::{Error, Result};
use crate::ipc::page::MOST_THREADS;
use crate::machine::{Machine, available_memory, cores};
use crate::memory::limit::untold;
use crate::resources::Resources;
use crate::settings::{MOST_WORKERS, Settings};
use crate::units::{HumanBytes, counted};
use std::path::PathBuf;

/// How much shared memory there may be, if nothing is said: a half of what is available, no more than the limits of all
/// workers, and no more than these leave of the machine, but for a tenth of it.
fn shared_by_default(machine: &Machine, available: u64, limits: Option<u64>) -> u64 {
    let half = available / 2;
    let Some(limits) = limits else { return half };
    let left = machine.memory_bytes.saturating_sub(limits).max(machine.memory_bytes / 10);
    half.min(limits).min(left)
}

/// Warns where the limits of all workers and the shared memory are more than there is: then they protect nobody.
fn warn_of_excess(machine: &Machine, workers: usize, limit: Option<u64>, shared: u64) {
    let all = limit.unwrap_or(0).saturating_mul(workers as u64).saturating_add(shared);
    if all <= machine.memory_bytes {
        return;
    }
    let limits = limit.map_or(String::new(), |limit| {
        format!("{} with a memory limit of {} each and ", counted(workers as u64, "worker"), HumanBytes(limit))
    });
    log::warn!(
        "{limits}{} of shared memory are {}, and there are {} ({}): lower `memory_limit`, `shared_memory_limit` or the number \
         of workers",
        HumanBytes(shared),
        HumanBytes(all),
        HumanBytes(machine.memory_bytes),
        machine.memory_bound
    );
}

/// Checks that so many workers do not take more than all of them may have.
fn check_total(total: Option<u64>, each: Option<u64>, workers: usize) -> Result<()> {
    let why = match (total, each) {
        (None, _) => return Ok(()),
        (Some(_), None) => "it needs a memory limit of each worker, or a size".to_string(),
        (Some(total), Some(each)) if each.saturating_mul(workers as u64) <= total => return Ok(()),
        (Some(total), Some(each)) => {
            let (all, total) = (HumanBytes(each.saturating_mul(workers as u64)), HumanBytes(total));
            format!("{total}; {} of {} each take {all}", counted(workers as u64, "worker"), HumanBytes(each))
        }
    };
    Err(Error::invalid("total_memory_limit", why))
}

/// By convention `/var/tmp` is on a disk, while `/tmp` is often memory.
fn spill_directory() -> PathBuf {
    let disk = PathBuf::from("/var/tmp");
    if disk.is_dir() { disk } else { std::env::temp_dir() }
}

impl Builder {
    /// The options of worker processes, checked.
    pub(crate) fn settings(&self) -> Result<Settings> {
        self.check()?;
        let size = self.size.as_deref().map(crate::settings::sizes::size).transpose()?;
        let workers = self.workers.unwrap_or_else(|| size.as_ref().map_or_else(cores, |s| s.fits));
        let threads = self.threads.unwrap_or(size.as_ref().map_or(1, |s| s.threads));
        at_most("workers", workers, MOST_WORKERS)?;
        at_most("threads", threads, MOST_THREADS)?;
        if let Some(dir) = self.local_directory.as_deref().filter(|d| !d.is_dir()) {
            return Err(Error::invalid("local_directory", format!("{} is not a directory", dir.display())));
        }
        if let Some(dir) = self.spill_directory.as_deref().filter(|d| !d.is_dir()) {
            return Err(Error::invalid("spill_directory", format!("{} is not a directory", dir.display())));
        }
        // Workers may run in another directory, and tasks may change it.
        let absolute = |what: &str, dir: &Option<PathBuf>| {
            let dir = dir.as_deref().map(std::path::absolute).transpose();
            dir.map_err(|e| Error::invalid(what, format!("its absolute path is not known: {e}")))
        };
        let spill = absolute("spill_directory", &self.spill_directory)?;
        let spills = self.thresholds.target.or(self.thresholds.spill).is_some();
        let memory_limit = self.memory_limit.of_worker()?.or(size.map(|s| s.memory_bytes));
        let all = memory_limit.map(|m| m.saturating_mul(workers as u64));
        let total_memory = self.total_memory_limit.of_all().map_err(|e| e.about("total_memory_limit"))?;
        check_total(total_memory, memory_limit, workers)?;
        let (machine, available) = (Machine::read().map_err(untold)?, available_memory().map_err(untold)?.bytes);
        let shared_memory = self.shared_memory_limit.of_all().map_err(|e| e.about("shared_memory_limit"))?;
        let shared_memory = shared_memory.unwrap_or_else(|| shared_by_default(&machine, available, all));
        warn_of_excess(&machine, workers, memory_limit, shared_memory);
        let mut tags = vec![Vec::new(); workers];
        for (index, more) in &self.worker_tags {
            match tags.get_mut(*index) {
                Some(tags) => tags.extend(more.iter().cloned()),
                None => return Err(Error::invalid("worker_tags", format!("there is no worker {index}"))),
            }
        }
        let mut resources = vec![Vec::new(); workers];
        for (index, more) in &self.worker_resources {
            match resources.get_mut(*index) {
                Some(resources) => resources.extend(more.iter().map(|(name, amount)| (name.as_str(), *amount))),
                None => return Err(Error::invalid("worker_resources", format!("there is no worker {index}"))),
            }
        }
        Ok(Settings {
            machine,
            workers,
            threads,
            memory_limit,
            total_memory,
            thresholds: self.thresholds,
            spill_directory: (spills && memory_limit.is_some()).then(|| spill.clone().unwrap_or_else(spill_directory)),
            spill_limit: self.spill_limit.of_all().map_err(|e| e.about("spill_limit"))?,
            shuffle_directory: spill,
            hooks: self.hooks()?,
            recycle_after: self.recycle_after,
            recycle_unmanaged: self.recycle_unmanaged,
            shared_memory,
            name: self.name.clone().unwrap_or_else(|| "swath".to_string()),
            env: self.worker_env.clone(),
            tags,
            resources: resources.into_iter().map(Resources::of).collect(),
            directory: absolute("local_directory", &self.local_directory)?,
            start_timeout: self.start_timeout,
            worker_timeout: self.worker_timeout,
            cancel_grace: self.cancel_grace,
            allowed_deaths: self.allowed_deaths,
            restart: self.restart,
            start_method: self.start_method,
            forward_output: self.forward_output,
            events: self.recorded_runs(),
        })
    }
}
