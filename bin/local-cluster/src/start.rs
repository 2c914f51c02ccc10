//! Clusters are started: here, behind, or for one program.

use crate::failure::{Failure, Outcome};
use crate::options::{Served, StartOptions};
use crate::show::{json, say, started};
use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::low_level::siginfo::Cause;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
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
    /// What it was told makes no sense.
    Misused(String),
}

/// Starts the cluster as a process of its own and waits until it is ready.
pub(crate) fn start(name: &str, options: &StartOptions) -> Result<ClusterStatus, Failure> {
    spawn(&Served { name: name.to_string(), for_run: false, start: options.clone() }).map(|(status, _)| status)
}

/// The cluster, and the line to it.
fn spawn(served: &Served) -> Result<(ClusterStatus, UnixStream), Failure> {
    local::make_directory(&served.name)?;
    let log = local::log_file(&served.name)?;
    let (mut ours, theirs) = UnixStream::pair()?;
    let is_new = !log.exists();
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&log)?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("local-cluster")
        .args(served.arguments())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()?;
    ours.set_read_timeout(Some(START))?;
    let mut word = String::new();
    let heard = ours.read_to_string(&mut word);
    let refused = match serde_json::from_str(&word) {
        Ok(Word::Ready(status)) => return Ok((*status, ours)),
        Ok(Word::Failed(reason)) => Failure::Failed(reason),
        Ok(Word::Misused(reason)) => Failure::Usage(reason),
        Err(_) if heard.is_err() => {
            let waited = START.as_secs();
            child.kill()?;
            child.wait()?;
            return Err(Failure::Failed(format!("it was not ready within {waited} s; its log is {}", log.display())));
        }
        Err(_) => {
            let status = child.wait()?;
            let log = log.display();
            return Err(Failure::Failed(format!("it ended while it started ({status}); its log is {log}")));
        }
    };
    child.wait()?;
    // A log that stays tells of a cluster that was killed.
    if is_new && log.metadata().is_ok_and(|log| log.len() == 0) {
        std::fs::remove_file(&log)?;
    }
    Err(refused)
}

/// The cluster in the background: standard input is the line to the process that waits for it to be ready. Until it is, it
/// writes nothing into the log, which may be that of another one of its name.
pub(crate) fn serve_behind(served: &Served) -> Outcome {
    let mut line = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let null = File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&null).map_err(std::io::Error::from)?;
    // Away from the terminal, whose end is not to be the cluster's.
    nix::unistd::setsid().map_err(std::io::Error::from)?;
    log_to_stderr();
    let tell = |line: &mut UnixStream, word: &Word| {
        let told = serde_json::to_vec(word).map_err(std::io::Error::from).and_then(|text| line.write_all(&text));
        told.and_then(|()| line.shutdown(Shutdown::Write))
    };
    let mut waiting = line.try_clone()?;
    let mut ready = false;
    let outcome = local::serve(served.start.builder().name(&served.name), |status| {
        ready = true;
        match tell(&mut waiting, &Word::Ready(Box::new(status.clone()))) {
            Ok(()) if served.for_run => end_with_other_side(waiting),
            Ok(()) => {}
            Err(e) => {
                log::info!("stopping: whoever started this cluster has not waited for it: {e}");
                end_in_order();
            }
        }
    });
    let word = match &outcome {
        Ok(()) => return Ok(()),
        Err(e @ swath::Error::Invalid { .. }) => Word::Misused(e.to_string()),
        Err(e) => Word::Failed(e.to_string()),
    };
    if let Err(e) = outcome
        && (ready || tell(&mut line, &word).is_err())
    {
        log::error!("{e}");
    }
    Err(Failure::Told)
}

/// Ends this cluster when the other side of the line is closed, as by the end of its process.
fn end_with_other_side(mut line: UnixStream) {
    let waiting = std::thread::Builder::new().name("line".to_string()).spawn(move || {
        // Nothing is ever said there.
        let _ = line.read(&mut [0]);
        log::info!("stopping: the command that started this cluster has ended");
        end_in_order();
    });
    if let Err(e) = waiting {
        log::error!("stopping: there can be no thread that waits for the end of its command: {e}");
        end_in_order();
    }
}

/// As anybody else ends it.
fn end_in_order() {
    if let Err(e) = kill(Pid::this(), Signal::SIGTERM) {
        log::error!("this cluster cannot be ended: {e}");
    }
}

/// Runs a program that finds the cluster of that name; it takes the place of this process.
pub(crate) fn run(name: &str, program: &[OsString]) -> Outcome {
    local::status(name)?;
    Err(cannot_run(&program[0], &command(name, program).exec()))
}

/// Starts a cluster for one program, runs that, and stops the cluster. However this process ends, the cluster does, too.
pub(crate) fn run_with_cluster(name: &str, options: &StartOptions, program: &[OsString]) -> Outcome {
    // They are caught and not blocked, since a program would begin with them blocked, too. What this process was started to
    // ignore, as under `nohup`, its program ignores.
    let ignored = ignored_signals();
    let heeded = [SIGINT, SIGQUIT, SIGTERM, SIGHUP].into_iter().filter(|n| ignored & (1 << (n - 1)) == 0);
    let mut signals = SignalsInfo::<WithOrigin>::new(heeded)?;
    let served = Served { name: name.to_string(), for_run: true, start: options.clone() };
    let (status, line) = spawn(&served)?;
    let ended = match signals.pending().next() {
        // Before there was a program to pass it on to.
        Some(origin) => Ok(128 + origin.signal),
        None => run_and_wait(command(name, program), signals),
    };
    // What the program gave is told in any case. The cluster may have been stopped meanwhile, and another be there.
    if local::process(name).ok().flatten() == Some(status.pid)
        && let Err(e) = local::stop(name)
    {
        match Failure::from(e).of_cluster(name) {
            Failure::NoCluster(_) => {}
            failure => drop(failure.tell()),
        }
    }
    drop(line);
    match ended? {
        0 => Ok(()),
        code => Err(Failure::Code(u8::try_from(code).unwrap_or(1))),
    }
}

/// Runs a program, passes signals on to it, and answers how it has ended, as shells tell that.
fn run_and_wait(mut program: Command, mut signals: SignalsInfo<WithOrigin>) -> Result<i32, Failure> {
    let mut child = program.spawn().map_err(|e| cannot_run(program.get_program(), &e))?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let pass_on = move |signal| {
        if let Ok(signal) = Signal::try_from(signal) {
            let _ = kill(pid, signal);
        }
    };
    // Those that came while it was started may not have reached it.
    signals.pending().for_each(|origin| pass_on(origin.signal));
    // The thread ends with this process; the number is the child's until that has been waited for, which is the last thing.
    std::thread::spawn(move || {
        // What the terminal sends to all in the foreground reaches the program by itself.
        signals.forever().filter(|origin| origin.cause != Cause::Kernel).for_each(|origin| pass_on(origin.signal));
    });
    let status = child.wait()?;
    Ok(status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1))
}

/// The signals that this process ignores: signal n is bit n - 1.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn command(name: &str, program: &[OsString]) -> Command {
    let mut command = Command::new(&program[0]);
    // The program may go on in another directory.
    let path = name.contains('/').then(|| std::path::absolute(name).ok()).flatten();
    command.args(&program[1..]).env("SWATH_CLUSTER", path.unwrap_or_else(|| name.into()));
    command
}

/// As shells tell it.
fn cannot_run(program: &OsStr, e: &std::io::Error) -> Failure {
    let _ = writeln!(std::io::stderr(), "local-cluster: {} cannot be run: {e}", program.display());
    Failure::Code(if e.kind() == ErrorKind::NotFound { 127 } else { 126 })
}
