//! Why the command ends without having done what it was told, and the exit code for that.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// Each has its exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    Failed(String),
    Usage(String),
    NoCluster(String),
    TimedOut(String),
    /// A program that was run has ended so.
    Code(u8),
    /// It failed, and somebody else tells why.
    Told,
    /// Nobody reads what it prints.
    Unread,
}

pub(crate) type Outcome = Result<(), Failure>;

impl From<swath::Error> for Failure {
    fn from(e: swath::Error) -> Self {
        match &e {
            swath::Error::Timeout { waited } => Self::TimedOut(format!("not done within {waited:?}")),
            swath::Error::Invalid { .. } => Self::Usage(e.to_string()),
            swath::Error::Connect { path, .. } if nobody_listens(path) => Self::NoCluster(e.to_string()),
            _ => Self::Failed(e.to_string()),
        }
    }
}

fn nobody_listens(socket: &std::path::Path) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    UnixStream::connect(socket).is_err_and(|e| matches!(e.kind(), NotFound | ConnectionRefused))
}

fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Self::Failed(e.to_string())
    }
}

impl Failure {
    /// The same with what is wrong with the cluster, where it has not answered because it is stopped.
    pub(crate) fn of_cluster(self, name: &str) -> Self {
        let Self::TimedOut(reason) = self else { return self };
        match swath::local::process(name).ok().flatten().filter(|pid| is_stopped(*pid)) {
            Some(pid) => Self::TimedOut(format!(
                "{reason}: process {pid} of local cluster `{name}` has been stopped by a signal; `kill -CONT {pid}` has it go on"
            )),
            None => Self::TimedOut(reason),
        }
    }

    /// Tells why. Where standard error is closed there is nobody to tell; the exit code remains.
    pub(crate) fn tell(self) -> ExitCode {
        let (code, reason) = match self {
            Self::Failed(reason) => (1, reason),
            Self::Usage(reason) => (2, format!("{reason}\nTry `local-cluster --help`.")),
            Self::NoCluster(reason) => (3, reason),
            Self::TimedOut(reason) => (4, reason),
            Self::Code(code) => return ExitCode::from(code),
            Self::Told => return ExitCode::from(1),
            // As of a program that SIGPIPE has ended.
            Self::Unread => return ExitCode::from(128 + 13),
        };
        let _ = writeln!(std::io::stderr(), "local-cluster: {reason}");
        ExitCode::from(code)
    }
}
