//! Where tasks spend their time: which functions on a CPU, which system calls off it.
//!
//! [`Client::start_profile`] has the threads that run tasks sampled, a hundred times in each second that they are on a CPU, and
//! [`Client::profile`] gives what has been seen.
//!
//! The signal SIGPROF is used for that, in the processes where tasks run: a handler is set while threads are sampled, and what was
//! there before is put back. A program that has a handler of its own for it, or a timer that sends it (`ITIMER_PROF`), keeps
//! them, and is told that nothing is sampled: [`ProfileOff`].

use super::Client;
use crate::error::{Error, Result};
use crate::message::Ask;
use crate::message::question;
use crate::profile::{ProfileCommand, RawProfile, named};
use crate::submission::backend::Backend;
use crate::submission::reply::Asked;
use std::fmt;
use std::sync::{Arc, Weak};
pub use swath_insight::profile::{
    Frame, FrameOrigin, Frames, NameProfile, NameTime, NodeRef, Profile, ProfileOff, StackTree,
};

/// Threads that run tasks are sampled until this is dropped, see [`Client::start_profile`].
#[must_use = "nothing is sampled any more when this is dropped"]
pub struct Profiling {
    backend: Weak<dyn Backend>,
}

impl Profiling {
    fn of(backend: &Arc<dyn Backend>) -> Self {
        Self { backend: Arc::downgrade(backend) }
    }
}

impl fmt::Debug for Profiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profiling").finish_non_exhaustive()
    }
}

impl Drop for Profiling {
    fn drop(&mut self) {
        if let Some(backend) = self.backend.upgrade().filter(|backend| !backend.is_closed()) {
            // Nobody waits for the answer.
            drop(backend.ask(question::Profile(ProfileCommand::Stop).question()));
        }
    }
}

/// An error, where no worker can be sampled.
fn check(workers: Vec<(String, RawProfile)>) -> Result<()> {
    let all = workers.len();
    let off: Vec<_> = workers.into_iter().filter_map(|(worker, raw)| Some((worker, raw.off?))).collect();
    match off.len() == all {
        true => off.into_iter().next().map_or(Ok(()), |(worker, why)| Err(Error::NotSampled { worker, why })),
        false => Ok(()),
    }
}

fn in_words(workers: &[(String, RawProfile)]) -> Profile {
    named(workers.iter().map(|(worker, raw)| (worker.as_str(), raw)))
}

impl Client {
    /// Has the threads that run tasks sampled until the answer is dropped: a hundred times in each second that a thread is on a
    /// CPU, which costs less than a hundredth of that second. What was sampled before is forgotten, if nothing was being
    /// sampled when this was called. [`Builder::profile`](super::Builder::profile) does so from the start.
    ///
    /// See [`client::profile`](crate::client::profile) for the signal that is used for it.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let client = Client::threads(2);
    /// let sampled = client.start_profile()?;
    /// let total = delayed(|n: u64| (0..n).fold(0_u64, |sum, x| sum ^ x.wrapping_mul(sum | 1))).call(1_000_000);
    /// client.compute(&total)?;
    /// println!("{}", client.profile()?);
    /// drop(sampled);
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotSampled`] where no thread can be sampled; where only some workers' cannot, [`Profile::off`] names them.
    pub fn start_profile(&self) -> Result<Profiling> {
        self.check_origin()?;
        let profiling = Profiling::of(&self.0.backend);
        self.ask(question::Profile(ProfileCommand::Start)).wait().and_then(check).map(|()| profiling)
    }

    /// [`start_profile`](Self::start_profile) for async code.
    ///
    /// # Errors
    /// As [`start_profile`](Self::start_profile).
    pub async fn start_profile_async(&self) -> Result<Profiling> {
        self.check_origin()?;
        let profiling = Profiling::of(&self.0.backend);
        self.ask(question::Profile(ProfileCommand::Start)).await.and_then(check).map(|()| profiling)
    }

    /// Where tasks have spent their time since [`start_profile`](Self::start_profile) was called: by name and second, on a CPU
    /// by function, off it by system call. Empty where nothing has been sampled.
    ///
    /// Functions have names where this executable has symbols, and those that the compiler has put into others where it has
    /// line tables (`debug = "line-tables-only"` in the profile of Cargo). The first call reads these, which takes a tenth of a
    /// second. What a worker that has died had sampled is lost.
    ///
    /// # Errors
    /// Where the client is closed.
    pub fn profile(&self) -> Result<Profile> {
        self.read_profile().wait().map(|workers| in_words(&workers))
    }

    /// [`profile`](Self::profile) for async code. The names are looked up where it is awaited.
    ///
    /// # Errors
    /// As [`profile`](Self::profile).
    pub async fn profile_async(&self) -> Result<Profile> {
        self.read_profile().await.map(|workers| in_words(&workers))
    }

    fn read_profile(&self) -> Asked<question::Profile> {
        self.ask(question::Profile(ProfileCommand::Read))
    }

    /// Calls a function, and tells where tasks spent their time meanwhile.
    ///
    /// ```
    /// use swath::{Client, delayed};
    /// let client = Client::threads(2);
    /// let nap = delayed(|| std::thread::sleep(std::time::Duration::from_millis(200))).name("nap").call();
    /// let ((), profile) = client.profile_during(|| client.compute(&nap).expect("it does not fail"))?;
    /// let off = profile.of("nap").map_or(0.0, |nap| nap.off_cpu().as_secs_f64());
    /// assert!(off > 0.05, "{profile}");
    /// # Ok::<(), swath::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`start_profile`](Self::start_profile) and [`profile`](Self::profile).
    pub fn profile_during<R>(&self, work: impl FnOnce() -> R) -> Result<(R, Profile)> {
        let sampled = self.start_profile()?;
        let result = work();
        let profile = self.profile()?;
        drop(sampled);
        Ok((result, profile))
    }

    /// The same client, whose threads are sampled as long as it lives, if `yes`.
    pub(super) fn profiled(self, yes: bool) -> Self {
        if yes {
            // Workers may not have come to work yet, so nobody waits for them.
            let asked = self.0.backend.ask(question::Profile(ProfileCommand::Start).question());
            if self.mode() != crate::status::Mode::Processes
                && let Err(e) = Asked::<question::Profile>::new(asked).wait().and_then(check)
            {
                log::warn!("{e}");
            }
        }
        self
    }
}
