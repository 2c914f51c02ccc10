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
}

pub(crate) type Outcome = Result<(), Failure>;

impl From<swath::Error> for Failure {
    fn from(e: swath::Error) -> Self {
        match &e {
            swath::Error::Timeout { waited } => Self::TimedOut(format!("not within {waited:?}")),
            swath::Error::Connect { path, .. } if nobody_listens(path) => Self::NoCluster(e.to_string()),
            _ => Self::Failed(e.to_string()),
        }
    }
}

fn nobody_listens(socket: &std::path::Path) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    UnixStream::connect(socket).is_err_and(|e| matches!(e.kind(), NotFound | ConnectionRefused))
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Self::Failed(e.to_string())
    }
}

impl Failure {
    /// Tells why. Where standard error is closed there is nobody to tell; the exit code remains.
    pub(crate) fn tell(self) -> ExitCode {
        let (code, reason) = match self {
            Self::Failed(reason) => (1, reason),
            Self::Usage(reason) => (2, format!("{reason}\nTry `local-cluster --help`.")),
            Self::NoCluster(reason) => (3, reason),
            Self::TimedOut(reason) => (4, reason),
            Self::Code(code) => return ExitCode::from(code),
            Self::Told => return ExitCode::from(1),
        };
        let _ = writeln!(std::io::stderr(), "local-cluster: {reason}");
        ExitCode::from(code)
    }
}
