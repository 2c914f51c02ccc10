//! Whether this process has its descriptors still, or tasks have closed some that are not theirs.
//!
//! Programs that become daemons, for one, close all numbers up to some limit. After a task that was long enough for that, a
//! look at one number tells, before word of its end goes out; the others are looked at by the way, when the pipes of
//! standard output and error are polled. Standard input, output and error are opened again,
//! before a file takes such a number and gets what tasks print. Of any other number nobody knows what is behind it now, so
//! the process must end.

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags};
use nix::sys::stat::Mode;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use smallvec::SmallVec;
use std::io::{self, Stderr, Stdin, Stdout};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};

pub(super) struct Descriptors {
    standard: (Stdin, Stdout, Stderr),
    /// It has one of the lowest numbers, which whoever closes a range closes, too.
    sentinel: Option<OwnedFd>,
    /// Standard output and error once more. While these are open, whoever reads the pipes does not see their end.
    spare: [Option<OwnedFd>; 2],
}

impl Descriptors {
    pub(super) fn new() -> Self {
        let sentinel = open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok();
        let spare = [io::stdout().as_fd().try_clone_to_owned().ok(), io::stderr().as_fd().try_clone_to_owned().ok()];
        Self { standard: (io::stdin(), io::stdout(), io::stderr()), sentinel, spare }
    }

    /// Whether nobody has closed a range of numbers.
    pub(super) fn is_intact(&self) -> bool {
        self.sentinel.as_ref().is_none_or(|sentinel| fcntl(sentinel, FcntlArg::F_GETFD).is_ok())
    }

    /// What is to be polled: nothing is asked of these but whether they are open.
    pub(super) fn polled(&self) -> impl Iterator<Item = PollFd<'_>> {
        let (stdin, stdout, stderr) = &self.standard;
        let all =
            [Some(stdin.as_fd()), Some(stdout.as_fd()), Some(stderr.as_fd()), self.sentinel.as_ref().map(AsFd::as_fd)];
        all.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::empty()))
    }

    /// Opens these again, where that is possible: output goes where it went before.
    pub(super) fn reopen(&self, closed: &[i32]) -> Closed {
        let reopened = closed.iter().all(|number| match (number, &self.spare) {
            (0, _) => reopen_input().is_ok(),
            (1, [Some(spare), _]) => dup2_stdout(spare).is_ok(),
            (2, [_, Some(spare)]) => dup2_stderr(spare).is_ok(),
            _ => false,
        });
        match (reopened, closed.is_empty()) {
            (false, _) => Closed::ForGood,
            (true, true) => Closed::Nothing,
            (true, false) => Closed::OpenAgain,
        }
    }
}

fn reopen_input() -> nix::Result<()> {
    let null = open("/dev/null", OFlag::O_RDONLY, Mode::empty())?;
    if null.as_raw_fd() == 0 {
        // It has got that number by itself, the lowest that was free, and is to stay open.
        let _ = null.into_raw_fd();
        return Ok(());
    }
    dup2_stdin(&null)
}

/// The numbers among these that are closed.
pub(super) fn closed(polled: &[PollFd<'_>]) -> SmallVec<[i32; 4]> {
    let is_closed = |fd: &&PollFd<'_>| fd.revents().is_some_and(|events| events.contains(PollFlags::POLLNVAL));
    polled.iter().filter(is_closed).map(|fd| fd.as_fd().as_raw_fd()).collect()
}

/// What tasks have closed that is not theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    Nothing,
    /// What could be opened again, and has been.
    OpenAgain,
    /// Something of which nobody knows what it was.
    ForGood,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nix::poll::{PollTimeout, poll};

    #[test]
    fn what_is_open_is_not_told_to_be_closed() {
        let descriptors = Descriptors::new();
        let mut polled: Vec<_> = descriptors.polled().collect();
        poll(&mut polled, PollTimeout::ZERO).unwrap();
        assert_eq!(polled.len(), 4);
        assert!(closed(&polled).is_empty() && descriptors.is_intact());
        assert_eq!(descriptors.reopen(&[]), Closed::Nothing);
        assert_eq!(descriptors.reopen(&[5]), Closed::ForGood);
    }
}
