//! Samples of the threads that run tasks: which functions on a CPU, which system calls off it. What users see of it is in
//! [`client::profile`](crate::client::profile).

// `threads` knows what each thread runs, `sampler` takes samples in a signal handler, `collect` says when and puts samples into
// `raw` trees of addresses, and `symbols` makes names of these where somebody reads them.

mod calls;
mod collect;
mod raw;
#[cfg(all(target_pointer_width = "64", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod sampler;
mod symbols;
#[cfg_attr(
    not(all(target_pointer_width = "64", any(target_arch = "x86_64", target_arch = "aarch64"))),
    expect(dead_code, reason = "the sampler alone reads it")
)]
mod threads;
#[cfg(not(all(target_pointer_width = "64", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod unsupported;

pub(crate) use raw::RawProfile;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use swath_insight::profile::Profile;
pub(crate) use swath_insight::profile::ProfileOff;
use threads::Owner;
pub(crate) use threads::{Borrowed, Registered, RunningTask, begin};
#[cfg(not(all(target_pointer_width = "64", any(target_arch = "x86_64", target_arch = "aarch64"))))]
use unsupported as sampler;

/// For tests of what a process has once.
#[cfg(test)]
static ALONE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

/// What is asked of those who run tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ProfileCommand {
    /// Have threads sampled; what was sampled before is forgotten, if they were not.
    Start,
    /// The opposite of one start.
    Stop,
    /// Say what has been sampled.
    Read,
}

/// The threads that run tasks of one client of this process, or of this worker.
#[derive(Debug)]
pub(crate) struct SampledThreads(u64);

impl SampledThreads {
    /// Those of another owner than any before.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    fn owner(&self) -> Owner {
        Owner(self.0)
    }

    /// The calling thread is one of them until the answer is dropped.
    pub(crate) fn register(&self) -> Registered {
        threads::register(self.owner())
    }

    /// The calling thread, which is the program's, is one of them until the answer is dropped.
    pub(crate) fn borrow(&self) -> Borrowed {
        threads::borrow(self.owner())
    }

    /// Does what is asked. What has been sampled is told in any case.
    pub(crate) fn answer(&self, command: ProfileCommand) -> RawProfile {
        match command {
            ProfileCommand::Start => {
                if let Err(why) = collect::start(self.owner()) {
                    return RawProfile::off(why);
                }
            }
            ProfileCommand::Stop => collect::stop(self.owner()),
            ProfileCommand::Read => {}
        }
        collect::read(self.owner())
    }
}

impl Drop for SampledThreads {
    fn drop(&mut self) {
        collect::forget(self.owner());
    }
}

/// With names, what has been sampled in workers.
pub(crate) fn named<'a>(workers: impl IntoIterator<Item = (&'a str, &'a RawProfile)>) -> Profile {
    let mut profile = Profile::default();
    workers.into_iter().for_each(|(worker, raw)| symbols::add(&mut profile, worker, raw));
    profile
}
