//! What makes no sense in any mode.

use super::Builder;
use crate::error::{Error, Result};
use crate::events;
use crate::fairness::WEIGHTS;
use std::path::Path;
use std::time::Duration;

/// Starting a process takes some milliseconds, and more on a busy machine.
const LEAST_START: Duration = Duration::from_millis(50);
/// Workers give a sign of life every tenth of a second.
const LEAST_SILENCE: Duration = Duration::from_millis(200);

impl Builder {
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

    /// Refuses what makes no sense in any mode.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the option, and says what is permitted.
    pub(super) fn check(&self) -> Result<()> {
        for (what, n, least) in [
            ("workers", self.workers.map(|n| n as u64), "at least one worker is needed"),
            ("threads", self.threads.map(|n| n as u64), "at least one thread is needed"),
            ("allowed_deaths", Some(self.allowed_deaths.into()), "a task fails with the first death if it is 1"),
            ("recycle_after", self.recycle_after, "a worker does one task at least. Leave it out for never"),
            ("max_graphs", Some(self.max_graphs as u64), "no graph could be submitted"),
        ] {
            if n == Some(0) {
                return Err(Error::invalid(what, format!("0; {least}")));
            }
        }
        for (what, time, least, why) in [
            ("start_timeout", self.start_timeout, LEAST_START, "no worker can answer sooner"),
            ("worker_timeout", self.worker_timeout, LEAST_SILENCE, "each worker would be taken for dead"),
        ] {
            if time < least {
                let time = if time.is_zero() { "0".to_string() } else { format!("{time:?}") };
                return Err(Error::invalid(what, format!("{time}; it must be {least:?} at least: {why}")));
            }
        }
        if !WEIGHTS.contains(&self.weight) {
            let (least, most) = (WEIGHTS.start(), WEIGHTS.end());
            return Err(Error::invalid("weight", format!("{}; it must be {least} to {most}", self.weight)));
        }
        if self.events > events::MOST {
            return Err(Error::invalid("events", format!("{}; it must be 0 to {}", self.events, events::MOST)));
        }
        self.thresholds.check()?;
        if let Some(share) = self.recycle_unmanaged.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
            return Err(Error::invalid("recycle_unmanaged", format!("{share}; it is a share of the limit up to 1")));
        }
        self.check_texts()
    }

    fn check_texts(&self) -> Result<()> {
        let is_name = |name: &str| !name.is_empty() && !name.contains(char::is_control);
        if let Some(name) = self.name.as_deref().filter(|name| !is_name(name)) {
            return Err(Error::invalid(
                "name",
                format!("{name:?}; it must have one character at least, and none of control"),
            ));
        }
        if let Some(tag) = self.worker_tags.iter().flat_map(|(_, tags)| tags).find(|tag| !is_name(tag)) {
            return Err(Error::invalid(
                "worker_tags",
                format!("{tag:?} cannot be a tag; it must have one character at least"),
            ));
        }
        let of_workers = self.worker_resources.iter().flat_map(|(_, resources)| resources);
        let resources = of_workers.map(|resource| ("worker_resources", resource));
        for (what, (name, amount)) in resources.chain(self.threads_resources.iter().map(|r| ("threads_resources", r))) {
            if !is_name(name) {
                let why = format!("{name:?} cannot be a resource; it must have one character at least");
                return Err(Error::invalid(what, why));
            }
            if let Some(fault) = amount.fault() {
                return Err(Error::invalid(what, format!("`{name}` is {fault}")));
            }
        }
        if self.cluster.as_deref() == Some(Path::new("")) {
            return Err(Error::invalid(
                "cluster",
                "an empty text; it is the name of a local cluster, or the path of its socket",
            ));
        }
        let is_wrong =
            |(name, value): &&(String, String)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0');
        match self.worker_env.iter().find(is_wrong) {
            Some((name, _)) => Err(Error::invalid(
                "worker_env",
                format!("{name:?} cannot be a variable: its name is not empty and has no `=`, and neither has a NUL"),
            )),
            None => Ok(()),
        }
    }
}
