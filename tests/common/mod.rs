//! What the suites share: the check that a client leaves nothing behind, files that tasks can count in, and a way to
//! run a function of the test program in a process of its own.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each suite uses a part of it, in tests")]

pub mod cluster;
pub mod control_group;
pub mod permitted;
pub mod suite;

use parking_lot::{Mutex, MutexGuard};
use std::fs;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::{Arc, Once};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};
use swath::Client;
use swath::memory::MemoryLimit;
use swath::status::Mode;

/// No wait of a test is longer; what takes so long has failed.
pub const LONG: Duration = Duration::from_secs(30);
/// What a client leaves behind is gone within this, if the machine is not too busy to look.
pub const SOON: Duration = Duration::from_secs(1);
/// Nothing is left behind for longer, however busy the machine is. Shorter than what would end a stuck worker otherwise.
pub const GONE: Duration = Duration::from_secs(15);

/// Waits until something is so.
pub fn until(what: &str, done: impl FnMut() -> bool) {
    assert!(comes_true(LONG, done), "{what}: not within {LONG:?}");
}

/// Whether something becomes so in time.
pub fn comes_true(within: Duration, mut done: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if done() {
            return true;
        }
        if began.elapsed() > within {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What this process has that a client must give back. Sockets are descriptors. Temporary files are not here: those of
/// other processes cannot be told from ours, so tests that can have a TMPDIR of their own look there.
#[derive(Debug, PartialEq)]
struct Holdings {
    children: Vec<u32>,
    descriptors: usize,
    pages: Vec<String>,
    threads: Vec<String>,
    /// Shared segments that are mapped.
    segments: usize,
}

impl Holdings {
    fn now() -> Self {
        Self {
            children: children_of(std::process::id()),
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
            pages: pages_of(std::process::id()),
            threads: threads(),
            segments: fs::read_to_string("/proc/self/maps").unwrap().matches("/memfd:swath").count(),
        }
    }
}

/// The live and unburied children of a process.
pub fn children_of(pid: u32) -> Vec<u32> {
    let mut children: Vec<u32> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&child| {
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            let parent = stat.rsplit(") ").next().and_then(|s| s.split(' ').nth(1)?.parse().ok());
            parent == Some(pid)
        })
        .collect();
    children.sort_unstable();
    children
}

/// The control pages that a process has made.
pub fn pages_of(pid: u32) -> Vec<String> {
    let prefix = format!("swath-{pid}-");
    let Ok(entries) = fs::read_dir("/dev/shm") else { return Vec::new() };
    let mut pages: Vec<_> = entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect();
    pages.sort();
    pages
}

/// The threads that belong to the library.
fn threads() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|e| fs::read_to_string(e.ok()?.path().join("comm")).ok())
        .map(|name| name.trim().to_string())
        .filter(|name| name.starts_with("swath") || name.starts_with("actix"))
        .collect();
    names.sort();
    names
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Held by a test: no other one runs meanwhile, and when it ends, nothing may be left of its clients.
pub struct Clean {
    before: Holdings,
    _alone: MutexGuard<'static, ()>,
}

impl Clean {
    pub fn start() -> Self {
        let alone = ONE_AT_A_TIME.lock();
        log_if_asked();
        heed_interrupts();
        // Actix and tokio keep two descriptors for signals in each process, from their first use on.
        static FIRST: Once = Once::new();
        FIRST.call_once(|| drop(std::thread::spawn(|| drop(actix_rt::System::new())).join()));
        Self { before: Holdings::now(), _alone: alone }
    }
}

/// Has SIGINT end this process, and what it starts: shells have it ignored by what a script runs in the background.
fn heed_interrupts() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: this installs no code that could run at a bad moment.
    unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }.unwrap();
}

impl Drop for Clean {
    fn drop(&mut self) {
        let mut now = Holdings::now();
        let clean = comes_true(GONE, || {
            now = Holdings::now();
            // What was on its way out before may be gone by now.
            now.descriptors <= self.before.descriptors
                && now.children.iter().all(|c| self.before.children.contains(c))
                && now.pages.iter().all(|p| self.before.pages.contains(p))
                && now.threads.iter().all(|t| self.before.threads.contains(t))
                && now.segments <= self.before.segments
        });
        if !clean && !std::thread::panicking() {
            panic!("left behind after {GONE:?}: {now:?}, before there was {:?}", self.before);
        }
    }
}

/// Whether the process runs. One that has ended and has not been waited for does not.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|s| !s.is_empty() && !s.starts_with('Z') && !s.starts_with('X'))
}

pub fn send_signal(pid: u32, signal: nix::sys::signal::Signal) {
    // It may be gone already.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal);
}

pub fn pids(client: &Client) -> Vec<u32> {
    client.workers().unwrap().iter().map(|w| w.pid).collect()
}

/// A client with worker processes and no memory limit, all of them ready.
pub fn processes(workers: usize, threads: usize) -> Client {
    let client = Client::local(workers, threads, MemoryLimit::None).unwrap();
    client.wait_for_workers(workers, LONG).unwrap();
    client
}

pub fn is_sync(client: &Client) -> bool {
    client.mode() == Mode::Sync
}

/// An empty directory for the files of one test.
pub fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("swath-test-").tempdir().unwrap()
}

pub fn path(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_string()
}

/// Adds a line to a file: in one write, so that several processes may do it at once.
pub fn note(file: &str, line: impl std::fmt::Display) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

pub fn notes(file: &str) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(String::from).collect()
}

/// For tasks: waits until a file is there or the task is cancelled.
pub fn wait_for_file(file: &str) -> bool {
    comes_true(LONG, || Path::new(file).exists() || swath::cancelled()) && !swath::cancelled()
}

pub fn touch(file: &str) {
    fs::write(file, "").unwrap();
}

/// Awaits without any runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

const ROLE: &str = "SWATH_TEST_ROLE";

/// The part that this process is to play, if [`role`] started it.
pub fn my_role() -> Option<String> {
    let role = std::env::var(ROLE).ok()?;
    log_if_asked();
    Some(role)
}

/// Shows the library's log where `RUST_LOG` says so.
fn log_if_asked() {
    let _ = env_logger::builder().is_test(true).filter_level(log::LevelFilter::Off).parse_default_env().try_init();
}

/// A process that runs the test `entry` of this program, which looks at [`my_role`]. It has its own process group.
pub fn role(entry: &str, role: &str) -> Command {
    role_of(&std::env::current_exe().unwrap(), entry, role)
}

pub fn role_of(program: &Path, entry: &str, role: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args([entry, "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// What a role says to the test that started it.
pub fn say(word: impl std::fmt::Display) {
    // Not `println!`, which a test's captured output would swallow.
    let mut out = std::io::stdout();
    out.write_all(format!("\n@{word}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// What a role said.
pub fn said(output: &str) -> Vec<String> {
    output.lines().filter_map(|l| l.strip_prefix('@')).map(String::from).collect()
}

/// Runs a role to its end and answers with what it said.
pub fn play(mut command: Command) -> Vec<String> {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    said(&out)
}

pub fn executable() -> PathBuf {
    std::env::current_exe().unwrap()
}
