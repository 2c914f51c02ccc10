//! Signals to a host, to its process group and to its workers, and the processes that tasks start.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, kill, sigaction, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::WaitStatus;
use nix::unistd::{ForkResult, Pid};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use swath::client::WaitFor;
use swath::memory::MemoryLimit;
use swath::{Buffer, Client, Error, Future, delayed};

/// What a terminal, a service manager or a session's end sends to a whole group, and the program is free to handle.
const TO_GROUPS: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

fn inc(x: i64) -> i64 {
    x + 1
}

/// Starts programs: one in the group of the worker, one in a session of its own, and one that left its parent. Notes their
/// numbers, and waits for them.
fn start_programs(file: String) -> i64 {
    let script = "sleep 1000 & echo $! >> $0; \
                  setsid sh -c 'echo $$ >> $0; exec sleep 1000' $0 & \
                  (setsid sh -c 'echo $$ >> $0; exec sleep 1000' $0 &); wait";
    let status = Command::new("sh").args(["-c", script, &file]).stdin(Stdio::null()).status().unwrap();
    i64::from(status.success())
}

fn programs(file: &str) -> Vec<u32> {
    until("the programs run", || notes(file).len() == 3);
    let pids: Vec<u32> = notes(file).iter().map(|line| line.parse().unwrap()).collect();
    assert!(pids.iter().all(|&pid| is_alive(pid)));
    pids
}

fn all_gone(pids: &[u32]) -> bool {
    !pids.iter().any(|&pid| is_alive(pid))
}

/// Notes that it runs, and runs for a while.
fn counted(file: String, x: i64) -> i64 {
    note(&file, x);
    std::thread::sleep(Duration::from_millis(600));
    x
}

/// A role in a process group of its own.
struct Host {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    dir: tempfile::TempDir,
}

impl Host {
    fn start(name: &str) -> Self {
        let dir = directory();
        let mut command = role("roles", name);
        command.env("SWATH_TEST_DIR", dir.path()).env("TMPDIR", dir.path());
        let mut child = command.process_group(0).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, dir }
    }

    fn hear(&mut self) -> String {
        for line in self.lines.by_ref() {
            if let Some(word) = line.unwrap().strip_prefix('@') {
                return word.to_string();
            }
        }
        panic!("the role ended without a word: {:?}", self.child.wait());
    }

    fn hear_pids(&mut self) -> Vec<u32> {
        self.hear().split(' ').map(|pid| pid.parse().unwrap()).collect()
    }

    fn file(&self, name: &str) -> String {
        path(&self.dir, name)
    }

    fn signal_group(&self, signal: Signal) {
        kill(Pid::from_raw(-(self.child.id() as i32)), signal).unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say_pids(client: &Client) {
    say(pids(client).iter().map(u32::to_string).collect::<Vec<_>>().join(" "));
}

extern "C" fn live_on(_: i32) {}

/// What the kernel says of the signals of this thread: blocked, ignored, handled.
fn signals() -> Vec<u64> {
    signals_in(&fs::read_to_string("/proc/thread-self/status").unwrap())
}

fn signals_in(status: &str) -> Vec<u64> {
    // These two are the C library's own.
    let all = !(1 << (32 - 1) | 1 << (33 - 1));
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap() & all
    };
    vec![value("SigBlk:"), value("SigIgn:"), value("SigCgt:")]
}

/// The limits in a list of the kernel's, soft and hard.
fn limits(list: &str) -> BTreeMap<String, [String; 2]> {
    let line = |line: &str| {
        let (name, rest) = (line[..26].trim().to_string(), &line[26..]);
        let mut values = rest.split_whitespace().map(ToString::to_string);
        (name, [values.next().unwrap(), values.next().unwrap()])
    };
    list.lines().skip(1).map(line).collect()
}

/// Played by processes of their own.
#[test]
fn roles() {
    let Some(role) = my_role() else { return };
    let dir = std::env::var("SWATH_TEST_DIR").unwrap_or_default();
    let file = |name: &str| format!("{dir}/{name}");
    match &*role {
        "busy" => {
            for signal in TO_GROUPS {
                // Whoever started the tests may have them ignored.
                // SAFETY: this installs no code that could run at a bad moment.
                unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }.unwrap();
            }
            let client = processes(2, 2);
            let _started = client.submit(&delayed(start_programs).call(file("programs"))).unwrap();
            let _runs = client
                .submit_all(&delayed(|x: i64| std::thread::sleep(LONG + Duration::from_secs(x as u64))).map(0..10));
            until("the programs run", || notes(&file("programs")).len() == 3);
            say_pids(&client);
            std::thread::sleep(LONG);
        }
        "lives on" => {
            let action = SigAction::new(SigHandler::Handler(live_on), SaFlags::SA_RESTART, SigSet::empty());
            for signal in TO_GROUPS {
                // SAFETY: the handler does nothing.
                unsafe { sigaction(signal, &action) }.unwrap();
            }
            let before = signals();
            let client = processes(2, 1);
            let runs = client.submit_all(&(0..4).map(|x| delayed(counted).call(file("runs"), x)).collect::<Vec<_>>());
            say("runs");
            assert_eq!(client.gather(&runs.unwrap()).unwrap(), [0, 1, 2, 3]);
            say(client.deaths().unwrap().len());
            client.shutdown();
            assert_eq!(signals(), before, "nobody has changed the handlers and the mask of the host");
        }
        "is paused" => {
            let limit = Duration::from_millis(1500);
            let client =
                Client::builder().workers(2).threads(1).worker_timeout(limit).start_timeout(limit).build().unwrap();
            client.wait_for_workers(2, LONG).unwrap();
            let limited = delayed(counted).timeout(Duration::from_secs(2));
            let runs = client.submit_all(&(0..2).map(|x| limited.call(file("runs"), x)).collect::<Vec<_>>());
            say_pids(&client);
            assert_eq!(client.gather(&runs.unwrap()).unwrap(), [0, 1]);
            assert_eq!(notes(&file("runs")).len(), 2, "nothing has run twice");
            // A worker that is stopped alone is replaced still.
            let victim = pids(&client)[0];
            send_signal(victim, Signal::SIGSTOP);
            let all = client.submit_all(&(0..4).map(|x| delayed(counted).call(file("more"), x)).collect::<Vec<_>>());
            assert_eq!(client.gather(&all.unwrap()).unwrap(), [0, 1, 2, 3]);
            let deaths = client.deaths().unwrap();
            assert!(deaths.len() == 1 && deaths[0].pid == victim, "{deaths:?}");
            say("and goes on");
        }
        "blocks and ignores" => {
            let blocked: SigSet = TO_GROUPS.into_iter().collect();
            sigprocmask(SigmaskHow::SIG_BLOCK, Some(&blocked), None).unwrap();
            for signal in [Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGCHLD, Signal::SIGXFSZ] {
                // SAFETY: this installs no code that could run at a bad moment.
                unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }.unwrap();
            }
            let client = processes(1, 1);
            let inside = client.compute(&delayed(signals).call()).unwrap();
            assert_eq!(inside[..2], [0, 0], "blocked, ignored: {inside:x?}");
            let program = || {
                let output = Command::new("cat").arg("/proc/self/status").output().unwrap();
                signals_in(&String::from_utf8(output.stdout).unwrap())
            };
            assert_eq!(client.compute(&delayed(program).call()).unwrap(), [0, 0, 0]);
            let terminated = || Command::new("sh").args(["-c", "kill -TERM $$; sleep 60"]).status().unwrap().signal();
            assert_eq!(client.compute(&delayed(terminated).call()).unwrap(), Some(15));
            say("so it is");
        }
        "has limits of its own" => {
            setrlimit(Resource::RLIMIT_CORE, 4096, 8192).unwrap();
            setrlimit(Resource::RLIMIT_FSIZE, 64 << 20, 128 << 20).unwrap();
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, 256, hard).unwrap();
            umask(Mode::from_bits(0o027).unwrap());
            let own = limits(&fs::read_to_string("/proc/self/limits").unwrap());
            let program = || {
                let output = Command::new("cat").arg("/proc/self/limits").output().unwrap();
                limits(&String::from_utf8(output.stdout).unwrap())
            };
            let mask = || {
                let output = Command::new("sh").args(["-c", "umask"]).output().unwrap();
                String::from_utf8(output.stdout).unwrap().trim().to_string()
            };
            let client = processes(1, 1);
            let inside = client.compute(&delayed(program).call()).unwrap();
            let expected = own.iter().map(|(name, limit)| match name.as_str() {
                "Max open files" => (name.clone(), [hard.min(1 << 16).to_string(), hard.to_string()]),
                _ => (name.clone(), limit.clone()),
            });
            assert_eq!(inside, expected.collect::<BTreeMap<_, _>>());
            assert_eq!(client.compute(&delayed(mask).call()).unwrap(), "0027");
            // What a worker survives ends a program, as it does elsewhere.
            let too_long = |file: String| {
                let write = "ulimit -c 0; ulimit -f 1; exec head -c 1000000 /dev/zero > \"$0\"";
                Command::new("sh").args(["-c", write, &file]).status().unwrap().signal()
            };
            let long = client.compute(&delayed(too_long).call(file("long"))).unwrap();
            assert_eq!(long, Some(Signal::SIGXFSZ as i32));
            drop(client);
            let client = Client::local(1, 1, "256MiB").unwrap();
            let inside = client.compute(&delayed(program).call()).unwrap();
            let data: u64 = inside["Max data size"][0].parse().unwrap();
            assert!(data > 256 << 20, "each program has a limit of its own, a little above the worker's: {data}");
            say("so it is");
        }
        "forks" => forks(),
        "forks at work" => forks_at_work(),
        other => panic!("no role {other}"),
    }
}

/// Uses clients of each mode in a fork, and then in the parent.
fn forks() {
    let parent = std::process::id();
    for client in [Client::sync(), Client::threads(2), processes(2, 1)] {
        let make = delayed(|x: u8| Buffer::from(vec![x; 1 << 20]));
        let held = client.submit(&make.call(7)).unwrap();
        let here = held.result().unwrap();
        let there = client.submit(&make.call(8)).unwrap();
        let is_sync = is_sync(&client);
        // Many are under way, so that some thread is at work when the process forks.
        let sleeps = |x: u64| std::thread::sleep(Duration::from_millis(x));
        let slow = if is_sync { Vec::new() } else { client.map(sleeps, vec![2; 200]).unwrap() };
        // SAFETY: the child goes on in this thread alone, as a program does that becomes a daemon.
        match unsafe { nix::unistd::fork() }.unwrap() {
            ForkResult::Child => {
                let began = Instant::now();
                let is_told = |result: Result<(), swath::Error>| {
                    let text = result.err().map_or_else(|| "it works".to_string(), |e| e.to_string());
                    let words = format!("made in process {parent}, used in its fork {}", std::process::id());
                    assert!(text.contains(&words), "{text}");
                };
                is_told(client.compute(&delayed(inc).call(1)).map(drop));
                is_told(client.submit(&delayed(inc).call(1)).map(drop));
                is_told(client.map(inc, 0..3_i64).map(drop));
                is_told(client.scatter(vec![1, 2, 3]).map(drop));
                is_told(client.workers().map(drop));
                if !is_sync {
                    is_told(client.gather(&slow).map(drop));
                    is_told(slow[199].result().map(drop));
                    assert_eq!(client.as_completed(slow).count(), 200);
                }
                assert_eq!(here[77], 7);
                client.shutdown();
                drop((held, here, there, client));
                assert_eq!(Client::threads(1).compute(&delayed(inc).call(1)).unwrap(), 2);
                assert_eq!(processes(1, 1).compute(&delayed(inc).call(1)).unwrap(), 2);
                assert!(began.elapsed() < LONG / 2);
                // SAFETY: it ends the process, and nothing of its parent's.
                unsafe { nix::libc::_exit(42) };
            }
            ForkResult::Parent { child } => {
                let status = nix::sys::wait::waitpid(child, None).unwrap();
                assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 42));
                assert!(here.iter().all(|x| *x == 7), "nobody has given its memory back");
                assert_eq!(there.result().unwrap()[5], 8);
                assert_eq!(client.gather(&slow).unwrap().len(), slow.len());
                assert_eq!(client.compute(&make.call(9)).unwrap()[3], 9);
                assert!(client.deaths().unwrap().is_empty());
            }
        }
    }
    say("both go on");
}

/// What a fork does with a client of its parent and what came of it. Gives what went wrong.
fn use_elsewhere(
    client: Client,
    futures: Vec<Future<Vec<u64>>>,
    mut arriving: swath::client::AsCompleted<Vec<u64>>,
) -> Option<String> {
    let is_told = |result: Result<(), Error>| match result {
        Err(Error::Closed { reason }) => !reason.contains("used in its fork"),
        Err(error) => !error.to_string().contains("used in its fork"),
        Ok(()) => true,
    };
    let what = [
        ("compute", is_told(client.compute(&delayed(inc).call(1)).map(drop))),
        ("submit", is_told(client.submit(&delayed(inc).call(1)).map(drop))),
        ("map", is_told(client.map(inc, 0..3_i64).map(drop))),
        ("scatter", is_told(client.scatter(vec![1; 100_000]).map(drop))),
        ("workers", is_told(client.workers().map(drop))),
        ("events", is_told(client.events().map(drop))),
        ("gather", is_told(client.gather(&futures).map(drop))),
        ("retry", is_told(client.retry(&futures[0]).map(drop))),
        ("explain", is_told(client.explain(&futures[0]).map(drop))),
        ("result", is_told(futures[1].result().map(drop))),
        ("wait", !futures[1].is_done()),
        ("another client", Client::sync().compute(&delayed(|v: Vec<u64>| v.len()).call(&futures[2])).is_ok()),
    ];
    client.cancel(&futures[0]);
    let _ = (client.progress(), client.to_string(), format!("{futures:?}"));
    if arriving.by_ref().count() > futures.len() {
        return Some("more arrive than there are".to_string());
    }
    client.shutdown();
    drop((futures, arriving, client));
    what.into_iter().find(|(_, wrong)| *wrong).map(|(what, _)| what.to_string())
}

/// Forks many times while other threads use the client as much as they can.
fn forks_at_work() {
    for client in [Client::sync(), Client::threads(2), processes(2, 1)] {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        let many = client.map(|x: u64| vec![x; 600], 0..20_u64).unwrap();
                        let held = client.scatter(vec![1_u64; 2000]).unwrap();
                        assert_eq!(client.gather(&many).unwrap().len(), 20);
                        assert_eq!(client.as_completed(many).count(), 20);
                        drop(held);
                    }
                });
            }
            for round in 0..60 {
                let futures = client.map(|x: u64| vec![x; 600], 0..5_u64).unwrap();
                let arriving = client.as_completed(futures.clone());
                // SAFETY: the child goes on in this thread alone, as a program does that becomes a daemon.
                match unsafe { nix::unistd::fork() }.unwrap() {
                    ForkResult::Child => {
                        let wrong = use_elsewhere(client.clone(), futures, arriving);
                        if let Some(wrong) = &wrong {
                            say(format!("in a fork: {wrong}"));
                        }
                        // SAFETY: it ends the process, and nothing of its parent's.
                        unsafe { nix::libc::_exit(if wrong.is_none() { 42 } else { 1 }) };
                    }
                    ForkResult::Parent { child } => {
                        let mut status = WaitStatus::StillAlive;
                        let ended = comes_true(Duration::from_secs(5), || {
                            status =
                                nix::sys::wait::waitpid(child, Some(nix::sys::wait::WaitPidFlag::WNOHANG)).unwrap();
                            status != WaitStatus::StillAlive
                        });
                        if !ended || status != WaitStatus::Exited(child, 42) {
                            say(format!("round {round} of {client}: {status:?}"));
                            let _ = kill(child, Signal::SIGKILL);
                            std::process::exit(1);
                        }
                        assert_eq!(client.gather(&futures).unwrap()[4], vec![4; 600]);
                    }
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        assert!(client.deaths().unwrap().is_empty());
    }
    say("all have ended");
}

#[test]
fn forks_that_are_made_while_other_threads_use_the_client_end_at_once() {
    let _clean = Clean::start();
    let mut host = Host::start("forks at work");
    assert_eq!(host.hear(), "all have ended");
}

#[test]
fn a_client_is_closed_in_a_fork_of_its_process_and_goes_on_in_that() {
    let _clean = Clean::start();
    for _ in 0..5 {
        let mut host = Host::start("forks");
        assert_eq!(host.hear(), "both go on");
    }
}

#[test]
fn a_signal_to_the_group_that_ends_the_host_leaves_nothing() {
    let _clean = Clean::start();
    for signal in TO_GROUPS.into_iter().chain([Signal::SIGKILL]) {
        let before = end_of_a_bare_tree();
        let mut host = Host::start("busy");
        let mut left = host.hear_pids();
        left.extend(programs(&host.file("programs")));
        let pid = host.child.id();
        let began = Instant::now();
        host.signal_group(signal);
        let status = host.child.wait().unwrap();
        assert_eq!(status.signal(), Some(signal as i32));
        assert!(comes_true(GONE, || all_gone(&left) && pages_of(pid).is_empty()), "{signal}: {left:?}");
        // A second, and on a busy machine as much longer as processes take there to end.
        let (took, bare) = (began.elapsed(), before.max(end_of_a_bare_tree()));
        assert!(took < SOON + 20 * bare, "{signal}: {took:?}, where a process and its child take {bare:?}");
    }
}

/// How long a process and its child, which do nothing, take to end after a signal to their group.
fn end_of_a_bare_tree() -> Duration {
    let mut shell = Command::new("sh");
    let mut shell =
        shell.args(["-c", "sleep 60 & echo $!; wait"]).process_group(0).stdout(Stdio::piped()).spawn().unwrap();
    let mut child = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut child).unwrap();
    let began = Instant::now();
    kill(Pid::from_raw(-(shell.id() as i32)), Signal::SIGKILL).unwrap();
    shell.wait().unwrap();
    assert!(comes_true(GONE, || all_gone(&[child.trim().parse().unwrap()])));
    began.elapsed()
}

#[test]
fn a_signal_to_the_group_of_a_host_that_lives_on_costs_no_run() {
    let _clean = Clean::start();
    for signal in TO_GROUPS {
        let mut host = Host::start("lives on");
        assert_eq!(host.hear(), "runs");
        let runs = host.file("runs");
        until("two run", || notes(&runs).len() == 2);
        host.signal_group(signal);
        assert_eq!(host.hear(), "0", "{signal}: a worker has died");
        assert!(host.child.wait().unwrap().success(), "{signal}");
        assert_eq!(notes(&runs).len(), 4, "{signal}");
    }
}

#[test]
fn a_pause_of_host_and_workers_is_no_death_and_costs_no_time_limit() {
    let _clean = Clean::start();
    // Whoever is continued first must not matter.
    for host_first in [true, false] {
        let mut host = Host::start("is paused");
        let mut all = host.hear_pids();
        until("both run", || notes(&host.file("runs")).len() == 2);
        all.insert(if host_first { 0 } else { all.len() }, host.child.id());
        all.iter().for_each(|&pid| send_signal(pid, Signal::SIGSTOP));
        std::thread::sleep(Duration::from_secs(4));
        for &pid in &all {
            send_signal(pid, Signal::SIGCONT);
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(host.hear(), "and goes on");
        assert!(host.child.wait().unwrap().success());
    }
}

#[test]
fn a_worker_has_no_signal_blocked_or_ignored_nor_have_the_programs_that_its_tasks_start() {
    let _clean = Clean::start();
    let mut host = Host::start("blocks and ignores");
    assert_eq!(host.hear(), "so it is");
}

#[test]
fn programs_that_tasks_start_have_the_limits_of_the_host() {
    let _clean = Clean::start();
    let mut host = Host::start("has limits of its own");
    assert_eq!(host.hear(), "so it is");
}

#[test]
fn what_tasks_have_started_ends_with_their_worker() {
    let _clean = Clean::start();
    let dir = directory();
    let client =
        Client::builder().workers(1).allowed_deaths(1).cancel_grace(Duration::from_millis(50)).build().unwrap();

    let killed = client.submit(&delayed(start_programs).call(path(&dir, "killed"))).unwrap();
    let left = programs(&path(&dir, "killed"));
    send_signal(pids(&client)[0], Signal::SIGKILL);
    until("they end with a worker that is killed", || all_gone(&left));
    drop(killed);

    let cancelled = client.submit(&delayed(start_programs).call(path(&dir, "cancelled"))).unwrap();
    let left = programs(&path(&dir, "cancelled"));
    client.cancel(&cancelled);
    until("they end with a worker that is replaced", || all_gone(&left));

    let exits = |file: String| -> i64 {
        std::thread::spawn({
            let file = file.clone();
            move || start_programs(file)
        });
        programs(&file);
        std::process::exit(0)
    };
    let exited = client.submit(&delayed(exits).call(path(&dir, "exited"))).unwrap();
    until("they have run", || notes(&path(&dir, "exited")).len() == 3);
    let left: Vec<u32> = notes(&path(&dir, "exited")).iter().map(|line| line.parse().unwrap()).collect();
    until("they end with a worker that exits", || all_gone(&left));
    drop(exited);

    let running = client.submit(&delayed(start_programs).call(path(&dir, "running"))).unwrap();
    let left = programs(&path(&dir, "running"));
    drop((running, client));
    until("they end with the client", || all_gone(&left));
}

#[test]
fn nothing_unreaped_stays_with_a_worker_and_what_a_task_waits_for_is_its_own() {
    let _clean = Clean::start();
    let client = processes(1, 1);
    let worker = pids(&client)[0];
    let leaves = |dir: String, i: i64| {
        let script = format!("(sh -c 'sleep 0.05; touch {dir}/{i}' &)");
        Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).status().unwrap().success()
    };
    let dir = directory();
    let place = dir.path().to_str().unwrap();
    let lazies: Vec<_> = (0..20).map(|i| delayed(leaves).call(place, i)).collect();
    assert_eq!(client.compute(&lazies).unwrap(), [true; 20]);
    until("all have run", || (0..20).all(|i| Path::new(&path(&dir, &i.to_string())).exists()));
    until("none is left", || children_of(worker).is_empty());

    // Its thread has ended when somebody waits for it.
    let waits = || {
        let start = || Command::new("sh").args(["-c", "exit 7"]).stdin(Stdio::null()).spawn().unwrap();
        let mut child = std::thread::spawn(start).join().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        child.wait().unwrap().code()
    };
    assert_eq!(client.compute(&delayed(waits).call()).unwrap(), Some(7));
    assert_eq!(client.compute(&delayed(inc).call(1)).unwrap(), 2);
    let limit = MemoryLimit::None;
    assert_eq!(Client::local(1, 1, limit).unwrap().compute(&delayed(inc).call(2)).unwrap(), 3);
}

#[test]
fn sigterm_retires_a_worker_and_costs_no_run() {
    let _clean = Clean::start();
    let dir = directory();
    for threads in [1, 2] {
        let client = processes(2, threads);
        let file = path(&dir, &format!("runs of {threads}"));
        let make = delayed(|x: i64| vec![x; 100_000]);
        // A result that only one of the workers has moves when that goes.
        let kept = client.submit_all(&make.map(0..4)).unwrap();
        client.wait_timeout(&kept, WaitFor::All, LONG).unwrap();
        let runs = client.submit_all(&(0..8).map(|x| delayed(counted).call(&*file, x)).collect::<Vec<_>>()).unwrap();
        until("some run", || notes(&file).len() >= 2);
        let before = pids(&client);
        send_signal(before[0], Signal::SIGTERM);
        // A second one changes nothing.
        send_signal(before[0], Signal::SIGTERM);
        assert_eq!(client.gather(&runs).unwrap(), (0..8).collect::<Vec<_>>());
        assert_eq!(notes(&file).len(), 8, "nothing has run twice");
        until("it is replaced", || {
            let now = pids(&client);
            now.len() == 2 && !now.contains(&before[0]) && !is_alive(before[0])
        });
        let sums = kept.iter().map(|f| delayed(|v: Vec<i64>| v.iter().sum::<i64>()).call(f)).collect::<Vec<_>>();
        assert_eq!(client.compute(&sums).unwrap(), [0, 100_000, 200_000, 300_000]);
        // An idle one, too.
        client.wait_for_workers(2, LONG).unwrap();
        let idle = pids(&client)[1];
        send_signal(idle, Signal::SIGTERM);
        until("it is replaced", || !is_alive(idle) && pids(&client).len() == 2);
        assert_eq!(client.deaths().unwrap().len(), 0, "nobody is blamed");
    }
}
