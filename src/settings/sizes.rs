//! Named worker sizes, fitted to the machine, or to the control group where that has less.

use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::memory::limit::untold;
use crate::units::{HumanBytes, counted};
use serde::Serialize;
use std::fmt;

/// A named size of worker, as large as it is on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WorkerSize {
    /// Its name: `small`, `medium`, `large` or `xlarge`.
    pub name: String,
    /// Executor threads of one worker, one for each core it is meant to use.
    pub threads: usize,
    /// Memory limit of one worker, in bytes.
    pub memory_bytes: u64,
    /// How many such workers fit this machine: the number that is started where none is given.
    pub fits: usize,
}

/// `medium: 2 threads and 8.0 GB each, of which 4 fit this machine`
impl fmt::Display for WorkerSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (threads, memory) = (counted(self.threads as u64, "thread"), HumanBytes(self.memory_bytes));
        write!(f, "{}: {threads} and {memory} each, of which {} fit this machine", self.name, self.fits)
    }
}

/// The sizes, each with the part of the machine that it is.
const PARTS: [(&str, usize); 4] = [("small", 8), ("medium", 4), ("large", 2), ("xlarge", 1)];

fn fit(cores: usize, memory: u64) -> Vec<WorkerSize> {
    // The operating system and the programs that use the workers need some as well.
    let usable = memory / 10 * 9;
    let size = |(name, parts): (&str, usize)| {
        let threads = (cores / parts).max(1);
        let memory_bytes = (usable / parts as u64) >> 20 << 20;
        WorkerSize { name: name.to_string(), threads, memory_bytes, fits: (cores / threads).clamp(1, parts) }
    };
    PARTS.into_iter().map(size).collect()
}

/// The named worker sizes, with what they are on this machine: `xlarge` is all of it, `large` a half, `medium` a
/// quarter and `small` an eighth, of the cores and of nine tenths of the memory. Each has at least one thread. The machine is
/// what this process may use of it, see [`local::machine`](crate::local::machine).
///
/// # Errors
/// [`Error::Resource`] where the system does not tell its memory.
///
/// ```
/// let sizes = swath::local::describe_sizes()?;
/// assert_eq!(sizes.last().unwrap().name, "xlarge");
/// assert!(sizes.iter().all(|size| size.fits >= 1));
/// # Ok::<(), swath::Error>(())
/// ```
pub fn describe_sizes() -> Result<Vec<WorkerSize>> {
    let machine = Machine::read().map_err(untold)?;
    Ok(fit(machine.cores, machine.memory_bytes))
}

/// The size of that name.
pub(crate) fn size(name: &str) -> Result<WorkerSize> {
    let sizes = describe_sizes()?;
    let names: Vec<_> = sizes.iter().map(|s| s.name.as_str()).collect();
    let unknown = || Error::invalid("size", format!("`{name}`; it is one of {}", names.join(", ")));
    sizes.iter().find(|s| s.name == name).cloned().ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn all_workers_that_fit_together_are_no_more_than_the_machine() {
        for cores in [1, 2, 3, 4, 6, 8, 12, 64, 100] {
            let memory = 10 << 30;
            for size in fit(cores, memory) {
                assert!(size.threads >= 1 && size.fits >= 1, "{size:?}");
                assert!(size.threads * size.fits <= cores, "{size:?} on {cores} cores");
                assert!(size.memory_bytes * size.fits as u64 <= memory, "{size:?}");
            }
        }
        let sizes = fit(16, 10 << 30);
        assert_eq!(sizes.iter().map(|s| s.threads).collect::<Vec<_>>(), [2, 4, 8, 16]);
        assert_eq!(sizes.iter().map(|s| s.fits).collect::<Vec<_>>(), [8, 4, 2, 1]);
    }

    #[test]
    fn an_unknown_size_is_told_the_known_ones() {
        assert_eq!(size("large").unwrap().name, "large");
        assert!(size("huge").unwrap_err().to_string().contains("small, medium, large, xlarge"));
    }
}
