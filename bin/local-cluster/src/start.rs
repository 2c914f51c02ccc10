//! Clusters are started: here, behind, or for one program.

use crate::failure::{Failure, Outcome};
use crate::options::{SERVE, StartOptions};
use crate::show::{json, say, started};
use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::Duration;
use swath::local::{self, ClusterStatus};

/// How long the parent waits for the cluster to be ready.
const START: Duration = Duration::from_secs(60);

fn log_to_stderr() {
    let filter = env_logger::Env::default().default_filter_or("info");
    // There is only one place where it is set, so it cannot be set already.
    let _ = env_logger::Builder::from_env(filter)
        .format(|out, record| writeln!(out, "{:.3} {:<5} {}", Timestamp::now(), record.level(), record.args()))
        .try_init();
}

/// Runs a cluster in this process.
pub(crate) fn serve_here(name: &str, options: &StartOptions, as_json: bool) -> Outcome {
    log_to_stderr();
    let told = |status: &ClusterStatus| {
        let text = if as_json { json(status) } else { say(&started(status)) };
        if text.is_err() {
            log::warn!("standard output is closed");
        }
    };
    Ok(local::serve(options.builder().name(name), told)?)
}

/// What the cluster in the background tells the process that started it.
#[derive(serde::Deserialize, serde::Serialize)]
enum Word {
    Ready(Box<ClusterStatus>),
    Failed(String),
}

/// Starts the cluster as a process of its own and waits until it is ready.
pub(crate) fn start(name: &str, options: &StartOptions) -> Result<ClusterStatus, Failure> {
    let log = local::log_file(name)?;
    let (mut ours, theirs) = UnixStream::pair()?;
    let is_new = !log.exists();
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&log)?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("local-cluster")
        .args([SERVE, &format!("--name={name}")])
        .args(options.arguments())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()?;
    ours.set_read_timeout(Some(START))?;
    let mut word = String::new();
    let heard = ours.read_to_string(&mut word);
    match serde_json::from_str(&word) {
        Ok(Word::Ready(status)) => Ok(*status),
        Ok(Word::Failed(reason)) => {
            child.wait()?;
            // A log that stays tells of a cluster that was killed.
            if is_new && log.metadata().is_ok_and(|log| log.len() == 0) {
                std::fs::remove_file(&log)?;
            }
            Err(Failure::Failed(reason))
        }
        Err(_) if heard.is_err() => {
            let waited = START.as_secs();
            child.kill()?;
            child.wait()?;
            Err(Failure::Failed(format!("it was not ready within {waited} s; its log is {}", log.display())))
        }
        Err(_) => {
            let status = child.wait()?;
            Err(Failure::Failed(format!("it ended while it started ({status}); its log is {}", log.display())))
        }
    }
}

/// The cluster in the background: standard input leads to the process that waits for it to be ready. Until it is, it writes
/// nothing into the log, which may be that of another one of its name.
pub(crate) fn serve_behind(name: &str, options: &StartOptions) -> Outcome {
    let mut parent = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let null = File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&null).map_err(std::io::Error::from)?;
    // Away from the terminal, whose end is not to be the cluster's.
    nix::unistd::setsid().map_err(std::io::Error::from)?;
    log_to_stderr();
    let tell = |parent: &mut UnixStream, word: &Word| {
        let told = serde_json::to_vec(word).map_err(std::io::Error::from).and_then(|text| parent.write_all(&text));
        told.and_then(|()| parent.shutdown(std::net::Shutdown::Both))
    };
    let mut waiting = parent.try_clone()?;
    let mut ready = false;
    let outcome = local::serve(options.builder().name(name), |status| {
        ready = true;
        if let Err(e) = tell(&mut waiting, &Word::Ready(Box::new(status.clone()))) {
            log::warn!("whoever started this cluster does not listen: {e}");
        }
    });
    match outcome {
        Ok(()) => Ok(()),
        Err(e) if !ready && tell(&mut parent, &Word::Failed(e.to_string())).is_ok() => Err(Failure::Told),
        Err(e) => {
            log::error!("{e}");
            Err(Failure::Told)
        }
    }
}

/// Runs a program that finds the cluster of that name; it takes the place of this process.
pub(crate) fn run(name: &str, program: &[OsString]) -> Outcome {
    local::status(name)?;
    Err(cannot_run(&program[0], &command(name, program).exec()))
}

/// Starts a cluster for one program, runs that, and stops the cluster.
pub(crate) fn run_with_cluster(name: &str, options: &StartOptions, program: &[OsString]) -> Outcome {
    // A terminal's signals reach the program by themselves, and others are passed on. They are caught and not blocked, since a
    // program would begin with them blocked, too.
    let mut signals = Signals::new([SIGINT, SIGQUIT, SIGTERM, SIGHUP])?;
    start(name, options)?;
    let ended = match command(name, program).spawn() {
        Ok(mut child) => {
            let pid = Pid::from_raw(child.id().cast_signed());
            // It ends with this process; the number is the child's until that has been waited for, which is the last thing.
            std::thread::spawn(move || {
                for signal in signals.forever().filter(|signal| [SIGTERM, SIGHUP].contains(signal)) {
                    if let Ok(signal) = Signal::try_from(signal) {
                        let _ = kill(pid, signal);
                    }
                }
            });
            child.wait().map_err(Failure::from)
        }
        Err(e) => Err(cannot_run(&program[0], &e)),
    };
    let stopped = local::stop(name);
    let status = ended?;
    stopped?;
    match status.code().or_else(|| Some(128 + status.signal()?)) {
        Some(0) => Ok(()),
        code => Err(Failure::Code(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))),
    }
}

fn command(name: &str, program: &[OsString]) -> Command {
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]).env("SWATH_CLUSTER", name);
    command
}

/// As shells tell it.
fn cannot_run(program: &OsString, e: &std::io::Error) -> Failure {
    let _ = writeln!(std::io::stderr(), "local-cluster: {} cannot be run: {e}", program.display());
    Failure::Code(if e.kind() == ErrorKind::NotFound { 127 } else { 126 })
}
