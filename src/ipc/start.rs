//! How the executable is started again, and becomes a worker then.
//!
//! A worker is the same executable, started with a private environment variable and a socket as its standard input. An
//! entry in `.init_array`, which [`hook`] is written for, looks for the variable before `main`: so every program that links
//! this crate can be a worker without a line in its `main`. What a process becomes is said by [`Roles`].

use super::page::PageName;
use super::process_tree::{PAGE, adopt_orphans, started_with};
use super::signals;
use super::socket::Socket;
use crate::host::report;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::{c_char, c_int};
use std::io::{PipeWriter, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// Set for worker processes only; its value says how they begin.
pub(crate) const WORKER: &str = "SWATH_WORKER_PROCESS";
/// The worker begins before `main`.
const HOOKED: &str = "hook";
/// The worker begins in [`init`](crate::init).
const CALLED: &str = "init";
/// It is no worker, but waits for the end of its parent, see [`spawn_janitor`].
const CLEANS: &str = "janitor";
/// Tells such a process whose end it is: a process id, and the socket of that process.
const MASTER: (&str, &str) = ("SWATH_JANITOR_OF_PROCESS", "SWATH_JANITOR_OF_SOCKET");

/// The process was started as a worker whose program is to call [`init`](crate::init).
static MUST_CALL_INIT: AtomicBool = AtomicBool::new(false);

/// How a process exits that was started as a worker and has not become one, see [`end_missed`].
pub(crate) const NO_WORKER: i32 = 75;
/// How a process exits that a task has forked and that would act for its worker.
const FORK: i32 = 74;
/// How a process exits that was to become a worker a second time, one without a socket to its supervisor, one that cannot
/// start as a worker, and one that can no more tell its supervisor anything, or understand it.
const TWICE: i32 = 70;
const NO_SOCKET: i32 = 71;
pub(crate) const NO_START: i32 = 72;
pub(crate) const UNHEARD: i32 = 73;

/// What a worker says with a code that it exits with.
pub(crate) fn meaning(code: i32) -> Option<&'static str> {
    Some(match code {
        TWICE => "was to become one twice",
        NO_SOCKET => "has no connection to its supervisor",
        NO_START => "cannot start, and says why on standard error",
        UNHEARD => "can no more tell its supervisor anything, or understand it",
        FORK => "a task had forked, where that came out of the task",
        _ => return None,
    })
}

/// What the loader calls before `main`, with the arguments of `main`.
pub(crate) type Constructor = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// More descriptors than a worker or a local cluster has a use for. What tasks start has the worker's limit, and some programs
/// close all numbers up to that one by one: with a limit of a thousand million, as in some containers, for minutes.
const MOST_DESCRIPTORS: u64 = 1 << 16;

/// Has this process, which is one of ours alone, open more descriptors than the usual soft limit allows, which is meant for
/// programs that `select`: as many as it may, up to [`MOST_DESCRIPTORS`].
pub(crate) fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = hard.min(MOST_DESCRIPTORS).max(soft);
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
    });
    if let Err(e) = raised {
        report!(Debug, "the limit of file descriptors stays: {e}");
    }
}

/// What a process becomes that was started as one of these.
pub(crate) trait Roles {
    /// A worker; its supervisor is at the other end of the socket, and the page is the worker's own.
    fn worker(socket: Socket, page: Option<PageName>) -> !;
    /// Removes what the process of a local cluster, whose socket that was, has left behind.
    fn janitor(process: u32, socket: &Path);
}

unsafe extern "C" {
    static __init_array_start: [Constructor; 0];
    static __init_array_end: [Constructor; 0];
}

/// Called by the loader before `main`: a process that was started as a worker or a janitor is one from here on.
///
/// # Safety
/// Only the loader may call it, as an entry of `.init_array`.
pub(crate) unsafe extern "C" fn hook<R: Roles>(argc: c_int, argv: *const *const c_char, envp: *const *const c_char) {
    let Some(how) = std::env::var_os(WORKER) else { return };
    // SAFETY: before `main` there is one thread, so nobody reads the environment meanwhile. Nobody else has that variable: a
    // program that loads this as a library, with threads of its own, comes no further than this.
    unsafe { std::env::remove_var(WORKER) };
    if how != HOOKED && how != CLEANS {
        return MUST_CALL_INIT.store(how == CALLED, Ordering::Relaxed);
    }
    if how == HOOKED {
        signals::reset();
    }
    // SAFETY: the linker puts these around the array of constructors that the loader is just walking through. Ours is
    // one of them; those behind it have not run yet, and this process never returns to the loader to have them run.
    // Each gets what the loader would give it.
    unsafe {
        let mut at = (&raw const __init_array_start).cast::<Constructor>();
        let end = (&raw const __init_array_end).cast::<Constructor>();
        let mut behind = false;
        while at < end {
            let constructor = at.read();
            if behind {
                constructor(argc, argv, envp);
            }
            behind |= std::ptr::fn_addr_eq(constructor, hook::<R> as Constructor);
            at = at.add(1);
        }
    }
    if how == CLEANS { clean_up_when_it_ends::<R>() } else { become_worker::<R>() }
}

/// Turns this process into a worker if it was started as one; to be called while it has one thread.
pub(crate) fn become_worker_if_started_as_one<R: Roles>() {
    if missed_init() {
        signals::reset();
        become_worker::<R>();
    }
}

/// Whether this process was started as a worker and has not become one: its `main` lacks the call of
/// [`init`](crate::init).
pub(crate) fn missed_init() -> bool {
    MUST_CALL_INIT.load(Ordering::Relaxed)
}

/// Ends a process that was started as a worker and would start workers of its own: going on, it would be the program a
/// second time, unseen.
pub(crate) fn end_missed() -> ! {
    let words = b"this process was started as a worker and has come as far as to build a client, so it ends: call `swath::client::init()` first in `main`\n";
    let _ = nix::unistd::write(std::io::stderr(), words);
    exit_now(NO_WORKER)
}

fn become_worker<R: Roles>() -> ! {
    static ONCE: AtomicBool = AtomicBool::new(false);
    if ONCE.swap(true, Ordering::AcqRel) {
        exit_now(TWICE);
    }
    let page = std::env::var(PAGE).ok().and_then(|name| name.parse().ok());
    signals::survive_writes();
    signals::die_with_parent();
    adopt_orphans();
    match take_stdin() {
        Ok(socket) => R::worker(socket, page),
        Err(_) => exit_now(NO_SOCKET),
    }
}

/// Starts a process that does nothing until this one has ended and then cleans up: `socket` is that of the local cluster
/// which this process is. Written to, the pipe tells it that there is nothing to clean up.
pub(crate) fn spawn_janitor(socket: &Path) -> std::io::Result<(Child, PipeWriter)> {
    let (theirs, ours) = std::io::pipe()?;
    let child = Command::new("/proc/self/exe")
        .arg0("swath-janitor")
        .env(WORKER, CLEANS)
        .env(MASTER.0, std::process::id().to_string())
        .env(MASTER.1, socket)
        .current_dir("/")
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Out of reach of what ends a whole group, as the terminal does.
        .process_group(0)
        .spawn()?;
    Ok((child, ours))
}

fn clean_up_when_it_ends<R: Roles>() -> ! {
    let process = std::env::var(MASTER.0).ok().and_then(|pid| pid.parse().ok());
    let socket = std::env::var_os(MASTER.1);
    let mut end = std::io::stdin();
    let heard = loop {
        match end.read(&mut [0]) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            heard => break heard,
        }
    };
    if let (Ok(0), Some(process), Some(socket)) = (heard, process, socket) {
        R::janitor(process, Path::new(&socket));
    }
    exit_now(0)
}

/// The socket of a worker has a number near the limit, but none that makes the kernel's table of descriptors large.
const HIGHEST: u64 = 4096;
/// How far below the limit it is looked for.
const BELOW: u64 = 16;

/// Moves the socket away from standard input, so that tasks which read that find nothing: to a high number, which tasks
/// that close a range of numbers, as programs do that become daemons, leave alone.
fn take_stdin() -> nix::Result<Socket> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
    use nix::sys::resource::{Resource, getrlimit};
    let stdin = std::io::stdin();
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    let high = limit.min(HIGHEST).saturating_sub(BELOW).max(3) as c_int;
    let moved =
        fcntl(&stdin, FcntlArg::F_DUPFD_CLOEXEC(high)).or_else(|_| fcntl(&stdin, FcntlArg::F_DUPFD_CLOEXEC(3)))?;
    // SAFETY: the descriptor was made just now, and nobody else knows of it.
    let socket = unsafe { OwnedFd::from_raw_fd(moved) };
    let null = open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())?;
    nix::unistd::dup2_stdin(&null)?;
    Ok(Socket::from(socket))
}

/// Set in processes that were forked from a worker, and nowhere else.
static FORKED: AtomicBool = AtomicBool::new(false);

/// Has the processes that tasks fork from this one know that they are no workers.
pub(crate) fn mark_forks() {
    // SAFETY: the function may be called at any time; what it registers only stores a flag.
    let marked = unsafe { libc::pthread_atfork(None, None, Some(mark_fork)) };
    if marked != 0 {
        report!(Debug, "forks of this process cannot be marked: {}", std::io::Error::from_raw_os_error(marked));
    }
}

unsafe extern "C" fn mark_fork() {
    FORKED.store(true, Ordering::Relaxed);
}

/// Ends a process that a task has forked: it has its worker's socket, pages and segments, and must not act for it. To be
/// called where it comes out of the task's function, or asks the client.
pub(crate) fn end_fork() {
    if FORKED.load(Ordering::Relaxed) {
        // Another thread may have held any lock when it was forked, so there is no log.
        let words =
            b"a process that a task had forked has returned from it, or asked the client, and ends: the worker alone goes on\n";
        let _ = nix::unistd::write(std::io::stderr(), words);
        exit_now(FORK)
    }
}

/// Ends the process without running anything else of it.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` may be called at any time; it does not return.
    unsafe { libc::_exit(code) }
}

/// Starts `command`, which is to be this executable or one with the same hook, as a worker. The answers are the process
/// and the supervisor's end of its socket.
pub(crate) fn spawn(command: &mut Command, page: &PageName, before_main: bool) -> std::io::Result<(Child, Socket)> {
    let (ours, theirs) = Socket::pair()?;
    let child = command
        .env(WORKER, if before_main { HOOKED } else { CALLED })
        .env(PAGE, page.to_string())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // No signal to this group is meant for it.
        .process_group(0)
        .spawn()?;
    Ok((child, ours))
}

/// A descriptor that becomes readable when the process ends. The process must not have been waited for.
pub(crate) fn pidfd(child: &Child) -> std::io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id() as libc::pid_t, 0) };
    let fd = nix::errno::Errno::result(fd)?;
    // SAFETY: the kernel made the descriptor just now (close-on-exec), and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Has the workers of dead supervisors, which these pages were of, go on if they are stopped: they see then that it has ended.
///
/// [`die_with_parent`](signals::die_with_parent) does so for each, but not for one that was stopped in the moments before it was called.
pub(crate) fn wake_orphans(pages: &[PageName]) {
    if pages.is_empty() {
        return;
    }
    for pid in started_with(|page| pages.iter().any(|dead| dead.has_owner_of(page))) {
        if let Err(e) = kill(Pid::from_raw(pid as i32), Signal::SIGCONT) {
            report!(Debug, "process {pid} of a dead supervisor cannot be woken: {e}");
        }
    }
}

/// Makes a pipe's end fit for an event loop.
pub(crate) fn set_nonblocking(fd: &impl std::os::fd::AsFd) -> std::io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The number of a descriptor, for a path in `/proc/self/fd`.
pub(crate) fn number(fd: &OwnedFd) -> i32 {
    fd.as_raw_fd()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ipc::testing::until;

    fn state(pid: u32) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    #[test]
    fn stopped_workers_of_a_dead_supervisor_are_woken_and_no_others() {
        let (dead, alive) = ("swath-4-88-00000000000000ab", PageName::new().unwrap());
        let start = |page: String| Command::new("sleep").arg("1000").env(PAGE, page).spawn().unwrap();
        let mut orphan = start(format!("{dead}-3"));
        let mut other = start(alive.to_string());
        for child in [&orphan, &other] {
            kill(Pid::from_raw(child.id() as i32), Signal::SIGSTOP).unwrap();
            until(|| state(child.id()) == Some('T'));
        }
        wake_orphans(&[format!("{dead}-0").parse().unwrap()]);
        until(|| state(orphan.id()) != Some('T'));
        assert_eq!(state(other.id()), Some('T'));
        for child in [&mut orphan, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
