//! The local cluster: real processes, real signals. Each test has a cluster, and a runtime directory, of its own.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod fixture;

use common::{LONG, SOON, children_of, comes_true, is_alive, pages_of, until};
use fixture::{Cluster, EXE, text};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::{self, File};
use std::future::Future;
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use swath::error::{Cause, DeathCause, PublishError};
use swath::{Buffer, Client, Error, cancelled, delayed, local, try_delayed};

fn own_exe() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn is_program() -> bool {
    std::env::var_os("SWATH_CLUSTER").is_some()
}

/// The rest of the line that starts with `word`, of what a program prints.
fn line_of(out: &mut impl BufRead, word: &str) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "`{word}` was not printed");
        if let Some(at) = line.find(word) {
            return line[at + word.len()..].trim().to_string();
        }
    }
}

fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word}").unwrap();
    out.flush().unwrap();
}

fn workers(status: &Value, program: usize) -> Vec<u32> {
    let workers = status["programs"][program]["workers"].as_array().cloned().unwrap_or_default();
    workers.iter().map(|w| w["pid"].as_u64().unwrap() as u32).collect()
}

fn add_one(x: u64) -> u64 {
    x + 1
}

fn until_cancelled(x: u64) -> u64 {
    while !cancelled() {
        std::thread::sleep(Duration::from_millis(2));
    }
    x
}

fn ones(n: u64) -> Buffer<f64> {
    Buffer::from_fn(n as usize, |_| 1.0)
}

fn sum(values: Buffer<f64>) -> f64 {
    values.as_slice().iter().sum()
}

#[test]
fn it_starts_scales_restarts_and_stops() {
    let cluster = Cluster::start_behind(&["--workers", "2", "--threads", "2", "--memory-limit", "1GB"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&cluster.files()), 0o700);
    assert_eq!(mode(&cluster.socket), 0o600);

    let again = cluster.run(&["start"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("already running"), "{again:?}");

    let client = cluster.connect();
    let described = client.to_string();
    let machine = swath::local::machine().unwrap();
    assert_eq!(
        described,
        format!(
            "processes client `swath` on local cluster `default`: \
             2 workers x 2 threads, memory limit 1.0 GB each, on {machine}, running"
        )
    );
    assert!(text(&cluster.run(&["status"]).stdout).contains(&format!("  machine       {machine}\n")));
    assert_eq!(client.compute(&delayed(add_one).call(1)).unwrap(), 2);
    assert_eq!(client.progress().counts.done(), 1);
    client.wait_for_workers(2, LONG).unwrap();

    let status = cluster.status();
    assert_eq!((&status["workers"], &status["threads"]), (&2.into(), &2.into()));
    assert_eq!(status["memory_limit"], 1_000_000_000);
    assert_eq!(status["programs"][0]["sessions"], 1);
    assert_eq!(workers(&status, 0).len(), 2);
    let shown = text(&cluster.run(&["status"]).stdout);
    assert!(shown.contains("worker-1") && shown.contains("of 1.00 GB"), "{shown}");

    assert!(cluster.run(&["scale", "3"]).status.success());
    client.wait_for_workers(3, LONG).unwrap();
    assert_eq!(client.workers().unwrap().len(), 3);

    let before = workers(&cluster.status(), 0);
    assert!(cluster.run(&["restart"]).status.success());
    until("new workers", || {
        let now = workers(&cluster.status(), 0);
        now.len() == 3 && now.iter().all(|pid| !before.contains(pid))
    });
    assert_eq!(client.compute(&delayed(add_one).call(2)).unwrap(), 3);

    client.compute(&delayed(|| say("a word of a task")).call()).unwrap();
    until("the word is in the log", || {
        let logs: Value = serde_json::from_slice(&cluster.run(&["logs", "--json"]).stdout).unwrap();
        let logs = logs.as_array().unwrap();
        assert!(logs[0]["source"] == "cluster" && logs[0]["text"].as_str().unwrap().contains("waits at"), "{logs:?}");
        logs.iter().any(|log| log["text"].as_str().unwrap().contains("a word of a task"))
    });
    assert!(text(&cluster.run(&["logs"]).stdout).contains("a word of a task"));

    let last = workers(&cluster.status(), 0);
    let stopped = cluster.run(&["stop"]);
    assert!(stopped.status.success(), "{stopped:?}");
    assert!(!is_alive(cluster.pid));
    assert!(last.iter().all(|&pid| !is_alive(pid)));
    assert_eq!(fs::read_dir(cluster.files()).unwrap().count(), 0);
    assert_eq!(pages_of(cluster.pid), [""; 0]);
    until("the client knows", || client.to_string().contains("the local cluster `default` is gone"));
    assert!(matches!(client.compute(&delayed(add_one).call(1)), Err(Error::Closed { .. })));
    for command in ["status", "stop", "restart", "logs"] {
        let output = cluster.run(&[command]);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(text(&output.stderr).contains("local-cluster start --name default"), "{output:?}");
    }
    let error = Client::connect(&cluster.socket).unwrap_err();
    assert!(matches!(&error, Error::Connect { .. }) && error.to_string().contains("local-cluster start"), "{error}");
}

#[test]
fn wrong_usage_is_told_and_help_is_given() {
    let run = |args: &[&str]| Command::new(EXE).args(args).output().unwrap();
    for args in [
        &[][..],
        &["frobnicate"],
        &["start", "--workers", "0"],
        &["start", "--workers", "many"],
        &["start", "--memory-limit", "2 apples"],
        &["start", "--size", "enormous"],
        &["start", "--nonsense"],
        &["start", "--tag", "gpu"],
        &["start", "--tag", "first=gpu"],
        &["start", "--tag", "0="],
        &["start", "--resource", "gpu:1"],
        &["start", "--resource", "first=gpu:1"],
        &["start", "--resource", "-1=gpu:1"],
        &["start", "--resource", "0=gpu"],
        &["start", "--resource", "0=:1"],
        &["start", "--resource", "0=gpu:"],
        &["start", "--resource", "0=gpu:many"],
        &["start", "--resource", "0=gpu:-1"],
        &["start", "--resource", "0=gpu:nan"],
        &["start", "--resource", "0=gpu:inf"],
        &["start", "--env", "VARIABLE"],
        &["status", "--tag", "0=gpu"],
        &["status", "--resource", "0=gpu:1"],
        &["status", "--workers", "2"],
        &["stop", "--json"],
        &["scale"],
        &["scale", "0"],
        &["scale", "1", "2"],
        &["explain"],
        &["why", "run.swath", "--graph", "0", "--label", "a"],
        &["trace", "run.swath"],
        &["report", "run.swath"],
        &["graph", "one", "run.swath"],
        &["why", "0", "run.swath", "more"],
        &["dump"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(text(&output.stderr).contains("--help"), "{output:?}");
        assert!(output.stdout.is_empty());
    }
    for args in [&["--help"][..], &["help"], &["start", "-h"]] {
        let output = run(args);
        assert!(output.status.success() && text(&output.stdout).contains("--memory-limit"), "{output:?}");
    }
    assert_eq!(text(&run(&["--version"]).stdout), format!("local-cluster {}\n", local::version()));
    let sizes: Value = serde_json::from_slice(&run(&["sizes", "--json"]).stdout).unwrap();
    let names: Vec<_> = sizes.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["small", "medium", "large", "xlarge"]);
    assert!(text(&run(&["sizes"]).stdout).contains("medium"));
    let machine = swath::local::machine().unwrap();
    assert!(text(&run(&["sizes"]).stdout).ends_with(&format!("of {machine}\n")));
    let bad = run(&["status", "--name", "no such name"]);
    assert!(text(&bad.stderr).contains("letters, digits"), "{bad:?}");
}

#[test]
fn saved_logs_are_described_and_become_traces() {
    let directory = tempfile::tempdir().unwrap();
    let [log, trace] = ["run.swath", "t.json"].map(|name| directory.path().join(name));
    let client = Client::threads(1);
    client.compute(&delayed(add_one).map(0..5)).unwrap();
    client.save_events(&log).unwrap();
    let run = |args: &[&str]| Command::new(EXE).args(args).current_dir(&directory).output().unwrap();
    let output = run(&["events", "run.swath", "--json"]);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["format"], &summary["complete"]), (&2.into(), &true.into()), "{output:?}");
    assert_eq!((&summary["runs"], &summary["folded"]), (&5.into(), &0.into()));
    let group = &summary["groups"][0];
    assert_eq!(
        (&group["name"], &group["graph"], &group["counts"]["released"]),
        (&"add_one".into(), &0.into(), &5.into())
    );
    let said = text(&run(&["events", "run.swath"]).stdout);
    assert!(said.contains("5 runs") && said.contains("add_one"), "{said}");
    let why = text(&run(&["why", "run.swath"]).stdout);
    assert!(why.starts_with("1 thread computed") && why.contains("add_one"), "{why}");
    let why: Value = serde_json::from_slice(&run(&["why", "--graph", "0", "run.swath", "--json"]).stdout).unwrap();
    assert_eq!((&why["threads"], &why["names"][0]["runs"]), (&1.into(), &5.into()));
    assert_eq!(text(&run(&["why", "--graph", "7", "run.swath"]).stdout), "nothing has run\n");
    let several = run(&["explain", "add_one", "run.swath"]);
    assert!(
        several.status.code() == Some(1) && text(&several.stderr).contains("say more of it: add_one-"),
        "{several:?}"
    );
    let key = text(&several.stderr).rsplit_once(": ").unwrap().1.split(',').next().unwrap().to_string();
    let told = text(&run(&["explain", &key, "run.swath"]).stdout);
    assert!(told.starts_with(&format!("add_one ({key}) has run")) && told.contains("It has run once"), "{told}");
    let told: Value = serde_json::from_slice(&run(&["explain", &key, "run.swath", "--json"]).stdout).unwrap();
    assert_eq!((&told["why"], &told["cost"]["runs"]), (&"released".into(), &1.into()));
    assert!(run(&["trace", "run.swath", "-o", "t.json"]).status.success());
    let read: Value = serde_json::from_slice(&fs::read(&trace).unwrap()).unwrap();
    assert_eq!(read["traceEvents"].as_array().unwrap().iter().filter(|e| e["name"] == "add_one").count(), 5);
    assert!(run(&["report", "run.swath", "-o", "r.html"]).status.success());
    let report = fs::read_to_string(trace.with_file_name("r.html")).unwrap();
    assert!(report.contains("<td class=\"name\">add_one</td>"));
    for (args, wanted) in [
        (&["events", "t.json"][..], "t.json, line 1"),
        (&["events", "."], "no regular file"),
        (&["events", "none"], "cannot open none"),
        (&["why", "t.json"], "t.json, line 1"),
        (&["explain", "nope", "run.swath"], "no task is known"),
        (&["explain", "nope", "none"], "cannot open none"),
        (&["trace", "run.swath", "-o", "."], "no regular file"),
        (&["report", "run.swath", "-o", "."], "is a directory"),
        (&["report", "run.swath", "-o", "r.txt"], "has to end in .html"),
        (&["report", "t.json", "-o", "r.html"], "t.json, line 1"),
        (&["trace", "run.swath", "-o", "none/t.json"], "cannot create none/t.json"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        assert!(text(&output.stderr).contains(wanted), "{args:?}: {output:?}");
    }
    let whole = fs::read(&log).unwrap();
    fs::write(&log, &whole[..whole.len() - 10]).unwrap();
    let said = text(&run(&["events", "run.swath"]).stdout);
    assert!(said.contains("incomplete"), "{said}");
}

#[test]
fn a_named_size_sets_threads_memory_and_number() {
    let cluster = Cluster::start(&["--size", "medium"]);
    let sizes = swath::local::describe_sizes().unwrap();
    let medium = sizes.iter().find(|s| s.name == "medium").unwrap();
    let status = cluster.status();
    assert_eq!(status["threads"], medium.threads);
    assert_eq!(status["memory_limit"], medium.memory_bytes);
    assert_eq!(status["workers"], medium.fits);
    assert!(swath::Client::builder().size("nothing").build().unwrap_err().to_string().contains("xlarge"));
}

#[test]
fn workers_have_tags_and_variables() {
    fn seen() -> (u32, Option<String>, Option<String>) {
        (std::process::id(), std::env::var("COLOUR").ok(), std::env::var("EMPTY").ok())
    }
    let cluster = Cluster::start(&[
        "--workers",
        "3",
        "--tag",
        "1=gpu",
        "--tag",
        "2=disk",
        "--tag",
        "2=gpu",
        "--env",
        "COLOUR=a=b",
        "--env",
        "EMPTY=",
    ]);
    let client = cluster.connect();
    client.wait_for_workers(3, LONG).unwrap();
    let pids = workers(&cluster.status(), 0);
    let run = |tag: &str| client.compute(&delayed(seen).tag(tag).call()).unwrap();
    assert_eq!(run("disk"), (pids[2], Some("a=b".to_string()), Some(String::new())));
    assert!(pids[1..].contains(&run("gpu").0));
    let error = client.compute(&delayed(seen).tag("printer").call()).unwrap_err();
    assert!(matches!(error.task().unwrap().cause(), Cause::Infeasible { .. }), "{error}");
    let missing = cluster.run(&["start", "--name", "other", "--workers", "1", "--tag", "1=gpu"]);
    assert!(text(&missing.stderr).contains("there is no worker 1"), "{missing:?}");
}

#[test]
fn workers_have_resources() {
    /// Which process it ran in, and how many there were with it at most.
    fn alone(file: String) -> (u32, usize) {
        let began = |mark: &str| writeln!(File::options().append(true).create(true).open(&file).unwrap(), "{mark}");
        began("+").unwrap();
        std::thread::sleep(Duration::from_millis(10));
        let text = fs::read_to_string(&file).unwrap();
        began("-").unwrap();
        (std::process::id(), text.matches('+').count() - text.matches('-').count())
    }
    let two = ["--workers", "2", "--threads", "4"];
    let cluster = Cluster::start(
        &[&two[..], &["--resource", "1=gpu:1", "--resource", "1=a:b=c:0.5", "--resource=0=disk:2.5"]].concat(),
    );
    let client = cluster.connect();
    client.wait_for_workers(2, LONG).unwrap();
    let pids = workers(&cluster.status(), 0);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("runs").display().to_string();
    let ran: Vec<_> = (0..8).map(|_| delayed(alone).resource("gpu", 1.0).call(&*file)).collect();
    assert_eq!(client.compute(&ran).unwrap(), [(pids[1], 1); 8]);
    for (name, amount, worker) in [("a:b=c", 0.5, 1), ("disk", 2.5, 0)] {
        let task = delayed(std::process::id).resource(name, amount).call();
        assert_eq!(client.compute(&task).unwrap(), pids[worker], "{name}");
    }
    let error = client.compute(&delayed(add_one).resource("disk", 3.0).call(1)).unwrap_err().to_string();
    assert!(error.ends_with("3 of `disk` are asked for, and no worker has more than 2.5"), "{error}");
    let wrong = |value: &str| cluster.run(&["start", "--name", "other", "--workers", "1", "--resource", value]);
    let missing = wrong("1=gpu:1");
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    assert!(text(&missing.stderr).contains("there is no worker 1"), "{missing:?}");
    for value in ["0=gpu:-0.5", "0=gpu", "gpu:1"] {
        let error = text(&wrong(value).stderr);
        assert!(error.contains("'--resource <INDEX=NAME:AMOUNT>'") && error.contains("as 0=gpu:2"), "{error}");
    }
}

#[test]
fn it_runs_in_the_foreground_until_a_signal_comes() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(EXE)
        .args(["start", "--foreground", "--name", "fore", "--workers", "1"])
        .env("XDG_RUNTIME_DIR", dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    assert!(line_of(&mut out, "local cluster `fore` is running").contains(&child.id().to_string()));
    let client = Client::connect(dir.path().join("swath/fore.sock")).unwrap();
    assert_eq!(client.compute(&delayed(add_one).call(1)).unwrap(), 2);
    let children = children_of(child.id());
    assert_eq!(children.len(), 2, "a worker and the janitor");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
    until("its children are gone", || children.iter().all(|&pid| !is_alive(pid)));
    assert_eq!(fs::read_dir(dir.path().join("swath")).unwrap().count(), 0);
    assert_eq!(pages_of(child.id()), [""; 0]);
}

#[test]
fn nobody_but_blocking_submitters_waits_for_a_cluster_that_does_not_read() {
    struct Stopped(u32);
    impl Drop for Stopped {
        fn drop(&mut self) {
            common::send_signal(self.0, Signal::SIGCONT);
        }
    }
    fn length(text: String) -> usize {
        text.len()
    }
    // Short enough to go through the socket.
    const LENGTH: usize = 3_500;
    let call = || delayed(length).call("x".repeat(LENGTH));
    let cluster = Cluster::start(&["--workers", "1"]);
    let client = common::block_on(Client::connect_async(&cluster.socket)).unwrap();
    assert_eq!(client.compute(&call()).unwrap(), LENGTH);
    let stopped = Stopped(cluster.pid);
    common::send_signal(cluster.pid, Signal::SIGSTOP);
    until("it has stopped", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", cluster.pid)).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    });
    let (tell, told) = std::sync::mpsc::channel();
    let submitter = client.clone();
    std::thread::spawn(move || {
        let mut futures = Vec::new();
        loop {
            let call = call();
            let mut submitting = pin!(submitter.submit_async(&call));
            match submitting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(future) => futures.push(future.unwrap()),
                Poll::Pending => break,
            }
        }
        let submitted = futures.len();
        futures.truncate(submitted / 2);
        tell.send((submitted, futures)).unwrap();
    });
    let (submitted, futures) = told.recv_timeout(LONG).expect("an async caller, or a drop, waits for the cluster");
    assert!((1000..10_000).contains(&submitted), "{submitted} graphs wait to be sent");
    let blocking: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            std::thread::spawn(move || client.submit(&delayed(add_one).call(1)).unwrap().result().unwrap())
        })
        .collect();
    drop(stopped);
    assert!(client.gather(&futures).unwrap().iter().all(|&n| n == LENGTH));
    assert!(blocking.into_iter().all(|thread| thread.join().unwrap() == 2));
    assert_eq!(common::block_on(client.compute_async(&delayed(add_one).call(2))).unwrap(), 3);
    drop((futures, client));
    until("what nobody wants any more is gone", || cluster.status()["programs"][0]["sessions"] == 0);
}

#[test]
#[ignore = "a program that connects, run by other tests"]
fn program_that_adds() {
    if !is_program() {
        return;
    }
    let mut input = BufReader::new(std::io::stdin());
    let base: u64 = line_of(&mut input, "base").parse().unwrap();
    let client = common::block_on(Client::from_env_async()).unwrap();
    let futures = client.map(add_one, base..base + 200).unwrap();
    let sum: u64 = client.gather(&futures).unwrap().into_iter().sum();
    say(&format!("sum {sum}"));
    line_of(&mut input, "go");
}

#[test]
fn programs_of_one_build_share_workers_and_get_their_own_results() {
    let cluster = Cluster::start(&["--workers", "2"]);
    let mut programs: Vec<_> = (0..2).map(|_| cluster.program(&own_exe(), "program_that_adds")).collect();
    let clients = [cluster.connect(), cluster.connect()];
    for (i, program) in programs.iter_mut().enumerate() {
        writeln!(program.stdin.as_mut().unwrap(), "base {}", (i + 2) * 1000).unwrap();
    }
    let expected = |base: u64| (base..base + 200).map(|x| x + 1).sum::<u64>();
    std::thread::scope(|scope| {
        for (i, client) in clients.iter().enumerate() {
            scope.spawn(move || {
                let base = i as u64 * 1000;
                for _ in 0..20 {
                    let futures = client.map(add_one, base..base + 200).unwrap();
                    assert_eq!(client.gather(&futures).unwrap().into_iter().sum::<u64>(), expected(base));
                }
            });
        }
    });
    for (i, program) in programs.iter_mut().enumerate() {
        let sum = line_of(&mut BufReader::new(program.stdout.as_mut().unwrap()), "sum");
        assert_eq!(sum, expected((i as u64 + 2) * 1000).to_string());
    }
    let status = cluster.status();
    assert_eq!(status["programs"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!(status["programs"][0]["sessions"], 4);
    assert_eq!(workers(&status, 0).len(), 2);
    for mut program in programs {
        writeln!(program.stdin.take().unwrap(), "go").unwrap();
        assert!(program.wait().unwrap().success());
    }
    until("two have left", || cluster.status()["programs"][0]["sessions"] == 2);
    assert_eq!(clients[0].compute(&delayed(add_one).call(5)).unwrap(), 6);
}

#[test]
fn errors_are_those_of_every_mode() {
    fn fails(x: u64) -> Result<u64, String> {
        Err(format!("no {x}"))
    }
    fn panics(x: u64) -> u64 {
        panic!("oh {x}")
    }
    let cluster = Cluster::start(&["--workers", "1"]);
    let texts = |client: Client| {
        let returned = client.compute(&try_delayed(fails).call(1)).unwrap_err();
        assert_eq!(returned.task().unwrap().downcast::<String>().unwrap(), "no 1");
        let panicked = client.compute(&delayed(add_one).call(delayed(panics).call(7))).unwrap_err();
        assert!(matches!(panicked.task().unwrap().cause(), Cause::Panic { .. }));
        // Keys of calls that are not pure are new each time.
        let strip = |e: Error| {
            let task = e.task().unwrap();
            let text = e.to_string().replace(task.key(), task.name());
            task.needed_by().map_or(text.clone(), |by| text.replace(by, "it"))
        };
        [strip(returned), strip(panicked)]
    };
    assert_eq!(texts(cluster.connect()), texts(Client::local(1, 1, "1GB").unwrap()));
}

#[test]
#[ignore = "a program that connects and is killed, run by another test"]
fn program_to_be_killed() {
    if !is_program() {
        return;
    }
    let client = Client::from_env().unwrap();
    let held = client.scatter(ones(4 << 20)).unwrap();
    let summed = client.compute(&delayed(sum).call(&held)).unwrap();
    let _busy = client.map(until_cancelled, 0..2_u64).unwrap();
    say(&format!("busy {summed}"));
    // For ever: it is killed.
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_killed_program_leaves_nothing_and_others_go_on() {
    let cluster = Cluster::start(&["--workers", "2"]);
    let client = cluster.connect();
    let mut program = cluster.program(&own_exe(), "program_to_be_killed");
    let sum = line_of(&mut BufReader::new(program.stdout.as_mut().unwrap()), "busy");
    assert_eq!(sum, (4 << 20).to_string());
    let in_flight = || {
        let status = cluster.status();
        let workers = status["programs"][0]["workers"].as_array().unwrap().clone();
        workers.iter().map(|w| w["tasks"].as_u64().unwrap()).sum::<u64>()
    };
    until("its tasks run", || in_flight() == 2);
    assert!(cluster.status()["shared_memory_used"].as_u64().unwrap() >= 32 << 20);
    let pages = pages_of(cluster.pid).len();
    // Behind its tasks: it only runs when they have been cancelled.
    let waits = client.submit(&delayed(add_one).call(1)).unwrap();
    program.kill().unwrap();
    program.wait().unwrap();
    assert_eq!(waits.result_timeout(LONG).unwrap(), 2);
    until("it is forgotten", || {
        let status = cluster.status();
        status["programs"][0]["sessions"] == 1 && status["shared_memory_used"] == 0 && in_flight() == 0
    });
    assert_eq!(pages_of(cluster.pid).len(), pages - 1);
    assert_eq!(cluster.status()["programs"][0]["deaths"].as_array().unwrap().len(), 0);
}

#[test]
fn a_dead_worker_is_told_with_the_names_of_what_it_ran() {
    let cluster = Cluster::start(&["--workers", "1"]);
    let client = cluster.connect();
    let first = delayed(until_cancelled).call(7);
    let named = delayed(until_cancelled).name("patience").call(8);
    for (waits, then) in [(&first, delayed(add_one).call(&first)), (&named, delayed(add_one).call(&named))] {
        let future = client.submit(&then).unwrap();
        let running = || cluster.status()["programs"][0]["workers"][0]["running"][0]["key"].clone();
        until("the first call of the chain runs, and is named", || running() == waits.key().as_str());
        let before = client.deaths().unwrap().len();
        kill(Pid::from_raw(workers(&cluster.status(), 0)[0] as i32), Signal::SIGKILL).unwrap();
        until("its death is known", || client.deaths().unwrap().len() > before);
        let record = client.deaths().unwrap().pop().unwrap();
        assert_eq!((record.running, record.cause), (vec![waits.key()], DeathCause::Signal(Signal::SIGKILL as i32)));
        let told = &cluster.status()["programs"][0]["deaths"][before]["running"];
        assert_eq!(told, &serde_json::json!([waits.key()]));
        client.cancel(&future);
    }
}

#[test]
fn a_killed_cluster_leaves_nothing_and_can_be_started_again() {
    let mut cluster = Cluster::start(&["--workers", "2"]);
    let client = cluster.connect();
    client.wait_for_workers(2, LONG).unwrap();
    let busy = client.map(until_cancelled, 0..2_u64).unwrap();
    let orphans = workers(&cluster.status(), 0);
    let dead = cluster.pid;
    assert!(orphans.len() == 2 && !pages_of(dead).is_empty());
    kill(Pid::from_raw(dead as i32), Signal::SIGKILL).unwrap();
    let killed = Instant::now();
    let error = busy[0].result().unwrap_err();
    assert!(killed.elapsed() < 5 * SOON, "{:?}", killed.elapsed());
    assert!(error.to_string().contains("the local cluster `default` is gone"), "{error}");
    assert!(comes_true(5 * SOON, || orphans.iter().all(|&pid| !is_alive(pid))), "workers outlive the cluster");
    assert!(matches!(client.submit(&delayed(add_one).call(1)), Err(Error::Closed { .. })));
    drop(client);
    cluster.is_gone_but_for_its_log();

    let status = cluster.run(&["status"]);
    assert_eq!(status.status.code(), Some(3));
    assert!(text(&status.stderr).contains("default.log"), "{status:?}");
    cluster.start_again(&["--workers", "1"]);
    assert_ne!(cluster.pid, dead);
    assert_eq!(cluster.connect().compute(&delayed(add_one).call(1)).unwrap(), 2);
}

#[test]
fn a_cluster_killed_without_programs_leaves_nothing() {
    let mut quickest = LONG;
    for _ in 0..3 {
        let cluster = Cluster::start(&["--workers", "1"]);
        let janitors = children_of(cluster.pid);
        assert_eq!(janitors.len(), 1);
        kill(Pid::from_raw(cluster.pid as i32), Signal::SIGKILL).unwrap();
        let killed = Instant::now();
        cluster.is_gone_but_for_its_log();
        until("the janitor is gone", || !is_alive(janitors[0]));
        quickest = quickest.min(killed.elapsed());
    }
    assert!(quickest < SOON, "{quickest:?}");
}

#[test]
fn what_a_janitor_finds_of_another_cluster_it_leaves() {
    let mut cluster = Cluster::start(&["--workers", "1"]);
    let janitor = Pid::from_raw(children_of(cluster.pid)[0] as i32);
    kill(janitor, Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(cluster.pid as i32), Signal::SIGKILL).unwrap();
    until("it is dead", || !is_alive(cluster.pid));
    cluster.start_again(&["--workers", "1"]);
    kill(janitor, Signal::SIGCONT).unwrap();
    until("the janitor is gone", || !is_alive(janitor.as_raw() as u32));
    assert_eq!(cluster.status()["pid"], cluster.pid);
    assert_eq!(cluster.connect().compute(&delayed(add_one).call(1)).unwrap(), 2);
}

#[test]
#[ignore = "a program that leaves its cluster's socket open in another process, run by another test"]
#[allow(clippy::zombie_processes, reason = "the process is to be left; the other test ends it")]
fn program_that_leaves_a_socket_open() {
    if !is_program() {
        return;
    }
    let socket = Path::new(&std::env::var_os("XDG_RUNTIME_DIR").unwrap()).join("swath/default.sock");
    let listener = UnixListener::bind(socket).unwrap();
    let holder =
        Command::new("sleep").arg("1000").stdin(OwnedFd::from(listener)).stdout(Stdio::null()).spawn().unwrap();
    say(&format!("holder {}", holder.id()));
}

/// As when a cluster is killed at the moment in which it starts a worker.
#[test]
fn a_socket_that_is_open_after_the_end_of_its_cluster_is_replaced() {
    let mut cluster = Cluster::start(&["--workers", "1"]);
    kill(Pid::from_raw(cluster.pid as i32), Signal::SIGKILL).unwrap();
    cluster.is_gone_but_for_its_log();
    let mut program = cluster.program(&own_exe(), "program_that_leaves_a_socket_open");
    let holder: i32 = line_of(&mut BufReader::new(program.stdout.as_mut().unwrap()), "holder").parse().unwrap();
    assert!(program.wait().unwrap().success());
    UnixStream::connect(&cluster.socket).unwrap();
    cluster.start_again(&["--workers", "1"]);
    assert_eq!(cluster.connect().compute(&delayed(add_one).call(1)).unwrap(), 2);
    kill(Pid::from_raw(holder), Signal::SIGKILL).unwrap();
}

#[test]
fn a_start_removes_what_another_dead_cluster_left() {
    let cluster = Cluster::start(&["--workers", "1"]);
    let other = cluster.run(&["start", "--json", "--name", "other"]);
    let other: Value = serde_json::from_slice(&other.stdout).unwrap();
    let pid = other["pid"].as_u64().unwrap() as u32;
    // The janitor first: it would clean up.
    for pid in [children_of(pid)[0], pid] {
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
        until("it is dead", || !is_alive(pid));
    }
    assert!(cluster.files().join("other.sock").exists() && !pages_of(pid).is_empty());
    assert!(cluster.run(&["start", "--name", "third"]).status.success());
    for file in ["other.sock", "other.pid"] {
        assert!(!cluster.files().join(file).exists(), "{file}");
    }
    assert!(cluster.files().join("other.log").exists(), "it may say what happened");
    assert_eq!(pages_of(pid), [""; 0]);
    assert!(cluster.run(&["stop", "--name", "third"]).status.success());
    assert_eq!(cluster.connect().compute(&delayed(add_one).call(1)).unwrap(), 2);
}

#[test]
fn of_many_starts_at_once_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        Command::new(EXE)
            .arg("start")
            .env("XDG_RUNTIME_DIR", dir.path())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let starts: Vec<_> = (0..5).map(|_| start()).collect();
    let outputs: Vec<_> = starts.into_iter().map(|s| s.wait_with_output().unwrap()).collect();
    assert_eq!(outputs.iter().filter(|o| o.status.success()).count(), 1, "{outputs:?}");
    for loser in outputs.iter().filter(|o| !o.status.success()) {
        assert!(text(&loser.stderr).contains("already running"), "{loser:?}");
    }
    let stopped = Command::new(EXE).arg("stop").env("XDG_RUNTIME_DIR", dir.path()).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
}

/// Kinds of frames: the first word of a connection, its refusal, and all others.
const FIRST: u8 = 2;
const REFUSED: u8 = 3;
const MESSAGE: u8 = 1;

/// A frame as the protocol has it: header and body.
fn frame(kind: u8, fds: u16, len: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x57, 0x53, 1, kind];
    frame.extend(fds.to_le_bytes());
    frame.extend([0, 0]);
    frame.extend(len.to_le_bytes());
    frame.extend(body);
    frame
}

/// The version of the protocol.
fn protocol() -> u64 {
    let version = local::version();
    let (_, version) = version.split_once("protocol ").unwrap();
    u64::from_str_radix(version.trim_end_matches(')'), 16).unwrap()
}

/// The first word of a program: `Attach::Program { build: Note(build), name: "evil", hooks: none }`.
fn attach(version: u64, build: &[u8]) -> Vec<u8> {
    [&version.to_le_bytes()[..], &[0, 0, build.len() as u8], build, &[4], b"evil", &[0, 0], &[0; 8]].concat()
}

/// What the cluster answers until it closes.
fn answer(socket: &Path, bytes: &[u8], fds: &[RawFd]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
    let sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(bytes)], rights, MsgFlags::MSG_NOSIGNAL, None);
    assert_eq!(sent.unwrap(), bytes.len());
    rest_of(&mut stream)
}

fn rest_of(stream: &mut UnixStream) -> String {
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        // It had not read all that was sent.
        Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}"),
    }
    text(&answer)
}

#[test]
fn hostile_connections_are_refused_and_nobody_else_notices() {
    let cluster = Cluster::start(&["--workers", "2"]);
    let client = cluster.connect();
    let busy = client.submit(&delayed(until_cancelled).call(1)).unwrap();
    let program = attach(protocol(), &[1, 2, 3]);
    let whole = |body: &[u8], fds| frame(FIRST, fds, body.len() as u64, body);
    let mut newer = frame(FIRST, 0, 0, &[]);
    newer[2] = 9;
    let null = File::open("/dev/null").unwrap();
    let own = File::open("/proc/self/exe").unwrap();
    let silent = UnixStream::connect(&cluster.socket).unwrap();
    let other = protocol() ^ 1;
    let stranger =
        format!("another swath (protocol {other:016x}) than the cluster, which is of {}: stop", local::version());
    let hostile: [(Vec<u8>, Vec<RawFd>, &str); 13] = [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), vec![], "no frame of swath"),
        (newer, vec![], "version 9"),
        (frame(FIRST, 0, u64::MAX, &[0; 100]), vec![], "longer than"),
        (frame(FIRST, 0, 2 << 20, &[0; 100]), vec![], "longer than"),
        (frame(MESSAGE, 0, program.len() as u64, &program), vec![], "malformed"),
        (whole(&[1, 2, 3], 0), vec![], "malformed"),
        (whole(&[&program[..8], &[0xff; 64]].concat(), 0), vec![], "malformed"),
        (whole(&program, 0), vec![], "did not send its executable"),
        (whole(&attach(other, &[1, 2, 3]), 0), vec![], &stranger),
        (whole(&program, 1), vec![null.as_raw_fd()], "no executable"),
        (whole(&program, 1), vec![own.as_raw_fd()], "another build"),
        (whole(&program, 2), vec![own.as_raw_fd(); 2], "more than its executable"),
        ([whole(&program, 0), whole(&program, 0)].concat(), vec![], "before it was answered"),
    ];
    for (bytes, fds, reason) in &hostile {
        let answer = answer(&cluster.socket, bytes, fds);
        assert!(answer.contains(reason), "{reason}: {answer}");
    }
    // Cut off in the middle, at every place.
    let bytes = whole(&program, 0);
    for end in 0..bytes.len() {
        answer(&cluster.socket, &bytes[..end], &[]);
    }
    assert_eq!(client.compute(&delayed(add_one).call(1)).unwrap(), 2);
    assert_eq!(busy.status(), swath::client::Status::Pending);
    client.cancel(&busy);
    let log = fs::read_to_string(cluster.files().join("default.log")).unwrap();
    assert!(log.contains("a connection was refused") && log.contains("no frame of swath"), "{log}");
    assert_eq!(cluster.status()["programs"][0]["sessions"], 1);
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", cluster.pid)).unwrap().count();
    let before = descriptors();
    for (bytes, fds, _) in &hostile {
        answer(&cluster.socket, bytes, fds);
    }
    drop(silent);
    until("no descriptor is kept", || descriptors() <= before);
    assert_eq!(client.compute(&delayed(add_one).call(1)).unwrap(), 2);
}

#[test]
fn a_program_that_talks_nonsense_loses_its_connection_alone() {
    let cluster = Cluster::start(&["--workers", "1"]);
    let client = cluster.connect();
    assert_eq!(client.compute(&delayed(add_one).call(1)).unwrap(), 2);
    let own = File::open("/proc/self/exe").unwrap();
    let (bytes, at) = build_id();
    let program = attach(protocol(), &bytes[at..at + 20]);
    let hello = frame(FIRST, 1, program.len() as u64, &program);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    for round in 0..60 {
        let mut stream = UnixStream::connect(&cluster.socket).unwrap();
        let (fds, slices) = ([own.as_raw_fd()], [IoSlice::new(&hello)]);
        let rights = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(stream.as_raw_fd(), &slices, &rights, MsgFlags::MSG_NOSIGNAL, None).unwrap();
        let mut header = [0; 16];
        stream.read_exact(&mut header).unwrap();
        let mut welcome = vec![0; u64::from_le_bytes(header[8..].try_into().unwrap()) as usize];
        stream.read_exact(&mut welcome).unwrap();
        assert_eq!(welcome[0], 0, "{}", text(&welcome));
        let mut nonsense: Vec<u8> = (0..round).map(|_| random() % 16).collect();
        nonsense.extend([0; 8]);
        // Some of it are frames, some are cut off, some are not even that.
        let nonsense = match round % 3 {
            0 => frame(MESSAGE, 0, nonsense.len() as u64, &nonsense),
            1 => frame(MESSAGE, 0, nonsense.len() as u64 + 1, &nonsense),
            _ => nonsense,
        };
        stream.write_all(&nonsense).unwrap();
        rest_of(&mut stream);
    }
    until("all have been thrown out", || cluster.status()["programs"][0]["sessions"] == 1);
    assert_eq!(client.compute(&delayed(add_one).call(1)).unwrap(), 2);
    assert_eq!(pages_of(cluster.pid).len(), 3, "the account, one session, one worker");
}

#[test]
fn a_cluster_of_another_version_is_understood_when_it_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("other.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let reason = "the program is built with another swath";
    let cluster = std::thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            // What any version can read of it: the kind, and the version of all that follows.
            let mut first = [0; 24];
            stream.read_exact(&mut first).unwrap();
            assert_eq!((first[3], &first[16..]), (FIRST, &protocol().to_le_bytes()[..]));
            stream.write_all(&frame(REFUSED, 0, reason.len() as u64, reason.as_bytes())).unwrap();
        }
    });
    let error = Client::connect(&socket).unwrap_err();
    assert!(matches!(&error, Error::Connect { .. }) && error.to_string().contains(reason), "{error}");
    let error = local::status(&socket).unwrap_err();
    assert!(matches!(&error, Error::Cluster { .. }) && error.to_string().contains(reason), "{error}");
    cluster.join().unwrap();
}

#[test]
fn another_user_is_kept_out() {
    let Some(wrapper) = common::permitted::as_another_user() else {
        return common::permitted::skip("no process can be started as another user");
    };
    let cluster = Cluster::start(&["--workers", "1"]);
    // Where the test was built may be closed to others.
    let public = tempfile::tempdir().unwrap();
    let copy = public.path().join("local-cluster");
    copy_program(Path::new(EXE), &copy);
    let open = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    open(public.path(), 0o755);
    open(&copy, 0o755);
    let as_nobody = || {
        let output = Command::new(wrapper[0])
            .args(&wrapper[1..])
            .arg(&copy)
            .args(["status", "--name"])
            .arg(&cluster.socket)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        text(&output.stderr)
    };
    let refusal = as_nobody();
    assert!(refusal.contains("another user"), "{refusal}");
    // Also when the directory and the socket have been opened to all.
    open(cluster.dir.path(), 0o755);
    open(&cluster.files(), 0o755);
    open(&cluster.socket, 0o666);
    let refusal = as_nobody();
    assert!(refusal.contains("another user (0)"), "{refusal}");
    let log = || fs::read_to_string(cluster.files().join("default.log")).unwrap();
    until("the cluster has noticed", || log().contains("a process of user 54321 tried to connect"));
    // A start refuses such a directory.
    let start = cluster.run(&["start", "--name", "second"]);
    assert!(text(&start.stderr).contains("chmod 700"), "{start:?}");
    open(&cluster.files(), 0o700);
}

/// This program, and where its build id is.
fn build_id() -> (Vec<u8>, usize) {
    let bytes = fs::read(own_exe()).unwrap();
    // Length of the name, length of the id, type, name.
    let note = [4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0, b'G', b'N', b'U', 0];
    let at = bytes.windows(note.len()).position(|w| w == note).expect("a build id") + note.len();
    (bytes, at)
}

/// Copies a program in a process of its own. A file that this one has open for writing is so in each process that
/// another test starts meanwhile, and cannot be run for as long.
fn copy_program(from: &Path, to: &Path) {
    let status = Command::new("install").args(["-m", "755"]).args([from, to]).status().unwrap();
    assert!(status.success());
}

/// The same program with another build id.
fn foreign_build(dir: &Path) -> PathBuf {
    let path = dir.join("foreign");
    let (mut bytes, at) = build_id();
    bytes[at] ^= 0xff;
    let patched = dir.join("patched");
    fs::write(&patched, bytes).unwrap();
    copy_program(&patched, &path);
    path
}

#[test]
fn another_build_has_workers_of_its_own_until_it_has_left() {
    let cluster = Cluster::start(&["--workers", "1"]);
    let client = cluster.connect();
    assert_eq!(client.compute(&delayed(add_one).call(1)).unwrap(), 2);
    let exe = foreign_build(cluster.dir.path());
    let mut program = cluster.program(&exe, "program_that_adds");
    // Its file may go away; the cluster has it open.
    writeln!(program.stdin.as_mut().unwrap(), "base 0").unwrap();
    assert_eq!(line_of(&mut BufReader::new(program.stdout.as_mut().unwrap()), "sum"), "20100");
    fs::remove_file(&exe).unwrap();
    let status = cluster.status();
    let (ours, theirs) = (workers(&status, 0), workers(&status, 1));
    assert!(ours.len() == 1 && theirs.len() == 1 && ours != theirs, "{status}");
    assert_eq!(status["programs"][1]["program"], "foreign");
    kill(Pid::from_raw(theirs[0] as i32), Signal::SIGKILL).unwrap();
    until("it is replaced, though the file is gone", || {
        let now = workers(&cluster.status(), 1);
        now.len() == 1 && now != theirs
    });
    let last = workers(&cluster.status(), 1);
    writeln!(program.stdin.take().unwrap(), "go").unwrap();
    assert!(program.wait().unwrap().success());
    until("its workers are stopped", || {
        cluster.status()["programs"].as_array().unwrap().len() == 1 && !is_alive(last[0])
    });
    assert_eq!(workers(&cluster.status(), 0), ours);
    assert_eq!(client.compute(&delayed(add_one).call(2)).unwrap(), 3);
}

#[test]
fn another_build_gets_the_workers_that_the_budget_has_room_for_or_is_told_why() {
    let limits = ["--memory-limit", "100MB", "--total-memory-limit", "350MB"];
    let cluster = Cluster::start(&[&["--workers", "2"], &limits[..]].concat());
    let client = cluster.connect();
    client.wait_for_workers(2, LONG).unwrap();
    let exe = foreign_build(cluster.dir.path());
    let mut program = cluster.program(&exe, "program_that_adds");
    writeln!(program.stdin.as_mut().unwrap(), "base 0").unwrap();
    assert_eq!(line_of(&mut BufReader::new(program.stdout.as_mut().unwrap()), "sum"), "20100");
    assert_eq!(workers(&cluster.status(), 1).len(), 1, "one more fits");
    assert!(client.scale(3).unwrap_err().to_string().contains("so 2 may be here"));
    writeln!(program.stdin.take().unwrap(), "go").unwrap();
    assert!(program.wait().unwrap().success());
    // What it had is given back when its workers have been stopped.
    until("there is room again", || client.scale(3).is_ok());
    client.wait_for_workers(3, LONG).unwrap();
    let mut refused = cluster.program(&exe, "program_that_adds");
    let _ = writeln!(refused.stdin.as_mut().unwrap(), "base 0");
    let mut told = String::new();
    refused.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(!refused.wait().unwrap().success());
    assert!(cluster.run(&["logs"]).stdout.windows(10).any(|w| w == b"do not fit"), "{told}");
}

#[test]
fn shared_memory_is_given_back() {
    const N: u64 = 1 << 20;
    let cluster = Cluster::start(&["--workers", "2", "--shared-memory-limit", "256MiB"]);
    let used = || cluster.status()["shared_memory_used"].as_u64().unwrap();
    let client = cluster.connect();
    // Forty times 8 MiB in each direction are more than the limit, so each must have come back.
    for _ in 0..20 {
        let there = client.scatter(ones(N)).unwrap();
        let back =
            client.compute(&delayed(|b: Buffer<f64>| Buffer::from_fn(b.len(), |i| b.as_slice()[i] + 1.0)).call(&there));
        assert_eq!(sum(back.unwrap()), 2.0 * N as f64);
    }
    let kept = client.scatter(ones(N)).unwrap();
    let more = client.persist(&delayed(ones).call(N)).unwrap();
    assert_eq!(client.compute(&delayed(sum).call(&more)).unwrap(), N as f64);
    assert!(used() >= 8 * N, "{}", used());
    drop((kept, more));
    let other = cluster.connect();
    drop(client);
    until("the session has ended", || cluster.status()["programs"][0]["sessions"] == 1);
    // What is left are unused segments that the workers keep for the next value.
    let spare = used();
    assert!(
        other.compute(&delayed(sum).call(delayed(ones).call(N))).unwrap() == N as f64 && used() <= spare.max(16 * N)
    );
    let error = other.scatter(ones(64 * N)).map(drop).unwrap_err();
    assert!(error.to_string().contains("shared memory"), "{error}");
    drop(other);
    until("all is given back", || used() == 0 && cluster.status()["programs"].as_array().unwrap().is_empty());
}

#[test]
fn what_a_program_has_read_stays_as_it_is_when_it_has_left() {
    fn filled(x: u64) -> Buffer<u64> {
        Buffer::from_fn(1 << 20, |_| x)
    }
    let cluster = Cluster::start(&["--workers", "1"]);
    let (leaves, stays) = (cluster.connect(), cluster.connect());
    let made = leaves.compute(&delayed(filled).call(1)).unwrap();
    let scattered = leaves.scatter(filled(2)).unwrap();
    let passed_on = leaves.compute(&delayed(|b: Buffer<u64>| b).call(&scattered)).unwrap();
    drop(scattered);
    leaves.shutdown();
    drop(leaves);
    until("it is forgotten", || cluster.status()["programs"][0]["sessions"] == 1);
    for x in 3..20 {
        assert_eq!(stays.compute(&delayed(filled).call(x)).unwrap()[7], x);
    }
    assert!(made.iter().all(|x| *x == 1) && passed_on.iter().all(|x| *x == 2));
}

#[test]
fn a_client_that_is_dropped_with_work_in_flight_does_not_hang() {
    let cluster = Cluster::start(&["--workers", "1"]);
    let client = cluster.connect();
    let busy = client.map(until_cancelled, 0..4_u64).unwrap();
    client.wait_for_workers(1, LONG).unwrap();
    drop((busy, client));
    until("its work is cancelled", || {
        let status = cluster.status();
        status["programs"][0]["sessions"] == 0 && status["programs"][0]["workers"][0]["tasks"] == 0
    });
    let again = cluster.connect();
    assert_eq!(again.compute(&delayed(add_one).call(1)).unwrap(), 2);
    again.shutdown();
    assert!(again.to_string().ends_with("closed: it was shut down"), "{again}");
    assert!(local::status(&cluster.socket).unwrap().pid == cluster.pid);
}

#[test]
fn many_large_values_at_once() {
    const N: u64 = 10_000;
    fn add_all(all: Vec<Buffer<f64>>) -> f64 {
        all.iter().map(|b| b.as_slice().iter().sum::<f64>()).sum()
    }
    let cluster = Cluster::start(&["--workers", "2"]);
    for client in [Client::local(2, 1, "1GB").unwrap(), cluster.connect()] {
        client.wait_for_workers(2, LONG).unwrap();
        let there = client.scatter_all((0..600).map(|_| ones(N)).collect()).unwrap();
        assert_eq!(client.compute(&delayed(add_all).call(there)).unwrap(), 600.0 * N as f64, "{client}");
        let made = delayed(ones).map((0..600).map(|_| N));
        let made = client.submit_all(&made).unwrap();
        assert_eq!(client.compute(&delayed(add_all).call(made)).unwrap(), 600.0 * N as f64, "{client}");
        assert_eq!(client.deaths().unwrap(), []);
    }
}

#[test]
#[ignore = "a program that connects, run by another test"]
fn program_that_publishes() {
    if !is_program() {
        return;
    }
    let client = Client::from_env().unwrap();
    let made = client.submit(&delayed(ones).call(1_u64 << 20)).unwrap();
    client.publish("made", &made).unwrap();
    client.publish("given", &client.scatter(ones(1 << 16)).unwrap()).unwrap();
    client.publish("small", &client.submit(&delayed(add_one).call(41)).unwrap()).unwrap();
    say("published 3");
    // For ever: it is killed.
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
#[ignore = "a program that connects, run by another test"]
fn program_that_finds_names_taken() {
    if !is_program() {
        return;
    }
    let client = Client::from_env().unwrap();
    let future = client.scatter(1_u8).unwrap();
    let errors = [
        client.published::<Buffer<f64>>("made").map(drop).unwrap_err(),
        client.publish("made", &future).unwrap_err(),
        client.unpublish("made").unwrap_err(),
    ];
    for error in errors {
        let Error::Publish(PublishError::OtherBuild { name, here, there }) = error else { panic!("{error}") };
        say(&format!("refused {name} {here} {there}"));
    }
    assert!(matches!(client.published::<u8>("none"), Err(Error::Publish(PublishError::Missing { .. }))));
    assert!(client.list_published().unwrap().is_empty());
    // What it publishes itself does not keep its workers, when it has unpublished it.
    client.publish("own", &future).unwrap();
    client.unpublish("own").unwrap();
}

#[test]
fn what_a_killed_program_has_published_is_there_for_others_of_its_build() {
    let cluster = Cluster::start(&["--workers", "2"]);
    let mut program = cluster.program(&own_exe(), "program_that_publishes");
    assert_eq!(line_of(&mut BufReader::new(program.stdout.as_mut().unwrap()), "published"), "3");
    let ours = workers(&cluster.status(), 0);
    program.kill().unwrap();
    program.wait().unwrap();
    until("it is forgotten", || cluster.status()["programs"][0]["sessions"] == 0);

    let exe = foreign_build(cluster.dir.path());
    let mut foreign = cluster.program(&exe, "program_that_finds_names_taken");
    let mut told = String::new();
    foreign.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(foreign.wait().unwrap().success(), "{told}");
    let build = cluster.status()["programs"][0]["build"].as_str().unwrap().to_string();
    let refused: Vec<&str> =
        told.lines().filter_map(|line| line.split_once("refused ")).map(|(_, rest)| rest).collect();
    assert_eq!(refused.len(), 3, "{told}");
    for line in refused {
        let [name, here, there] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert_eq!((name, there), ("made", build.as_str()));
        assert_ne!(here, there);
    }
    // By then the workers here would have been stopped, too.
    until("its workers are stopped", || cluster.status()["programs"].as_array().unwrap().len() == 1);
    let status = cluster.status();
    assert_eq!((workers(&status, 0), &status["programs"][0]["unfinished"]), (ours, &0.into()));

    let shared = status["programs"][0]["shared"].as_array().unwrap().clone();
    let of = |name: &str| shared.iter().find(|object| object["name"] == name).unwrap();
    let (made, given, small) = (of("made"), of("given"), of("small"));
    assert!(shared.iter().all(|object| object["kind"] == "published" && object["connection"] == 0), "{shared:?}");
    assert!(made["size"].as_u64().unwrap() >= 8 << 20 && given["size"].as_u64().unwrap() >= 8 << 16, "{shared:?}");
    assert!(made["holders"][0].as_str().unwrap().starts_with("worker-"), "{made}");
    assert_eq!((&given["holders"][0], &small["holders"][0]), (&"supervisor".into(), &"supervisor".into()));
    let shown = text(&cluster.run(&["status"]).stdout);
    let holder = made["holders"][0].as_str().unwrap();
    assert!(shown.contains(&format!("  published `made`: 8.4 MB on {holder}\n")), "{shown}");

    let client = cluster.connect();
    let listed = client.list_published().unwrap();
    assert_eq!(listed.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["given", "made", "small"]);
    assert!(matches!(
        client.published::<Buffer<f32>>("made"),
        Err(Error::Publish(PublishError::WrongType { wanted, there, .. })) if wanted.contains("f32") && there.contains("f64")
    ));
    let look = |client: &Client| {
        let made = client.published::<Buffer<f64>>("made").unwrap();
        let given = client.published::<Buffer<f64>>("given").unwrap();
        assert_eq!(client.compute(&delayed(sum).call(&made)).unwrap(), f64::from(1 << 20));
        assert_eq!(client.compute(&delayed(sum).call(&given)).unwrap(), f64::from(1 << 16));
        assert_eq!(sum(given.result().unwrap()), f64::from(1 << 16));
        assert_eq!(client.published::<u64>("small").unwrap().result_timeout(LONG).unwrap(), 42);
    };
    look(&client);
    // The worker that has it ends: it is made again.
    client.restart().unwrap();
    look(&client);
    look(&cluster.connect());
    for name in ["made", "given", "small"] {
        client.unpublish(name).unwrap();
    }
    assert!(cluster.status()["programs"][0]["shared"].as_array().unwrap().is_empty());
    drop(client);
    until("nobody needs the workers", || cluster.status()["programs"].as_array().unwrap().is_empty());
    assert_eq!(cluster.status()["shared_memory_used"], 0);
}
