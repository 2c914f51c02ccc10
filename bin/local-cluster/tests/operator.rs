//! What an operator does to a cluster with the command, and what the command answers.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod fixture;

use common::{LONG, is_alive, note, notes, path, touch, until, wait_for_file};
use fixture::{Cluster, EXE, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use swath::{Client, Error, delayed};

fn add_one(x: u64) -> u64 {
    x + 1
}

fn gate(begun: String, open: String, x: i64) -> i64 {
    note(&begun, x);
    if wait_for_file(&open) { x } else { -1 }
}

#[allow(clippy::print_stdout, clippy::print_stderr)]
fn speak(word: String) {
    println!("out {word}");
    eprintln!("err {word}");
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

/// A process that is ended with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(cluster: &Cluster, args: &[&str]) -> Self {
        // Whatever the tests were started to ignore, by `nohup` or in the background of a shell.
        let mut command = cluster.command("env");
        command.args(["--default-signal=HUP,INT,QUIT,TERM", EXE]);
        Self(command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn lines(&mut self) -> impl Iterator<Item = String> + use<> {
        BufReader::new(self.0.stdout.take().unwrap()).lines().map(Result::unwrap)
    }
}

fn log(cluster: &Cluster) -> String {
    fs::read_to_string(cluster.files().join("default.log")).unwrap()
}

fn names_and_pids(client: &Client) -> Vec<(String, u32)> {
    client.workers().unwrap().into_iter().map(|worker| (worker.name, worker.pid)).collect()
}

#[test]
fn what_happens_to_workers_on_command_is_no_death() {
    let cluster = Cluster::start_behind(&["--workers", "3", "--threads", "1"]);
    let client = cluster.connect();
    client.wait_for_workers(3, LONG).unwrap();
    assert_eq!(code(&cluster.run(&["wait", "--workers", "3", "--timeout", "60"])), Some(0));
    let kept = client.persist(&delayed(add_one).map(0..20)).unwrap();

    let before = names_and_pids(&client);
    let output = cluster.run(&["restart", "worker-1"]);
    assert!(output.status.success(), "{output:?}");
    let now = names_and_pids(&client);
    assert_eq!((&now[0], &now[2]), (&before[0], &before[2]), "the others stay");
    assert!(now[1].0 == "worker-1" && now[1].1 != before[1].1, "{now:?}");

    let output = cluster.run(&["restart", "--rolling"]);
    assert!(output.status.success() && text(&output.stdout).contains("replaced 3"), "{output:?}");
    let rolled = names_and_pids(&client);
    assert!(rolled.iter().zip(&now).all(|(new, old)| new.0 == old.0 && new.1 != old.1), "{rolled:?}");

    let output = cluster.run(&["retire", "worker-0", "worker-2"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(names_and_pids(&client), [rolled[1].clone()]);
    let output = cluster.run(&["retire", "worker-1"]);
    assert!(code(&output) == Some(1) && text(&output.stderr).contains("has to stay"), "{output:?}");
    for command in ["retire", "restart"] {
        let output = cluster.run(&[command, "worker-9"]);
        assert!(code(&output) == Some(1) && text(&output.stderr).contains("/worker-1"), "{output:?}");
    }

    assert!(cluster.run(&["restart"]).status.success());
    until("it is a new one", || {
        let now = names_and_pids(&client);
        now.len() == 1 && now[0].1 != rolled[1].1
    });
    assert_eq!(client.compute(&kept).unwrap(), (1..21).collect::<Vec<_>>());
    let status = cluster.status();
    assert_eq!(status["programs"][0]["deaths"].as_array().unwrap().len(), 0, "{status}");
    assert!(!text(&cluster.run(&["status"]).stdout).contains("died"));
    let log = log(&cluster);
    assert!(!log.contains("WARN") && !log.contains("ERROR") && !log.contains("unknown reason"), "{log}");
}

#[test]
fn a_drained_cluster_lets_nobody_in_and_ends_when_its_graphs_have() {
    let mut cluster = Cluster::start(&["--workers", "2", "--threads", "1"]);
    let dir = common::directory();
    let (begun, open) = (path(&dir, "begun"), path(&dir, "open"));
    let client = cluster.connect();
    let lazies: Vec<_> = (0..4).map(|x| delayed(gate).call(&*begun, &*open, x)).collect();
    let futures = client.submit_all(&lazies).unwrap();
    until("they run", || notes(&begun).len() == 2);
    let mut stop = Running::start(&cluster, &["stop", "--drain", "--timeout", "2m"]);
    until("it drains", || cluster.status()["draining"] == true);
    assert_eq!(cluster.status()["programs"][0]["unfinished"], 4);
    let refused = Client::connect(&cluster.socket).unwrap_err();
    assert!(refused.to_string().contains("lets nobody in"), "{refused}");
    let refused = client.compute(&delayed(add_one).call(1)).unwrap_err();
    assert!(refused.to_string().contains("takes no more graphs"), "{refused}");
    touch(&open);
    assert_eq!(client.gather(&futures).unwrap(), [0, 1, 2, 3]);
    assert!(stop.0.wait().unwrap().success());
    assert!(!is_alive(cluster.pid));
    cluster.bury();
    assert_eq!(code(&cluster.run(&["status"])), Some(3));
}

#[test]
fn a_drain_cuts_off_what_takes_too_long_and_says_so() {
    let mut cluster = Cluster::start(&["--workers", "1", "--threads", "1"]);
    let dir = common::directory();
    let begun = path(&dir, "begun");
    let client = cluster.connect();
    let future = client.submit(&delayed(gate).call(&*begun, &*path(&dir, "never"), 1)).unwrap();
    until("it runs", || !notes(&begun).is_empty());
    let output = cluster.run(&["stop", "--drain", "--timeout", "0.2"]);
    assert_eq!(code(&output), Some(4), "{output:?}");
    assert!(text(&output.stderr).contains("1 task(s) were cut off"), "{output:?}");
    assert!(!is_alive(cluster.pid));
    cluster.bury();
    future.result().unwrap_err();
    assert!(matches!(client.workers(), Err(Error::Closed { .. })));
    // An idle one, and without a limit.
    cluster.start_again(&["--workers", "1"]);
    let output = cluster.run(&["stop", "--drain"]);
    assert!(output.status.success(), "{output:?}");
    cluster.bury();
}

#[test]
fn a_task_of_any_program_is_explained() {
    let cluster = Cluster::start(&["--workers", "1"]);
    let client = cluster.connect();
    let (begun, open) = (path(&cluster.dir, "begun"), path(&cluster.dir, "open"));
    let running = client.submit(&delayed(gate).call(&*begun, &*open, 1)).unwrap();
    until("it runs", || !notes(&begun).is_empty());
    let waits = client.submit(&delayed(|x: i64| x as u64).name("waits").call(&running)).unwrap();
    let told = text(&cluster.run(&["explain", "waits"]).stdout);
    let key = running.key();
    assert!(
        told.starts_with(&format!("waits ({}) waits for its only input.\n  {key} runs on worker-0", waits.key())),
        "{told}"
    );
    let output = cluster.run(&["explain", &key, "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["state"], &told["task"]["key"]), (&"running".into(), &key.into()), "{told}");
    let output = cluster.run(&["explain", "nope"]);
    assert!(code(&output) == Some(1) && text(&output.stderr).contains("no task is known"), "{output:?}");
    touch(&open);
    assert_eq!(waits.result().unwrap(), 1);
}

#[test]
fn each_reason_to_fail_has_its_exit_code() {
    let mut cluster = Cluster::new();
    for args in [
        &["status"][..],
        &["status", "--watch", "--json"],
        &["stop"],
        &["stop", "--drain"],
        &["restart"],
        &["restart", "--rolling"],
        &["restart", "worker-0"],
        &["retire", "worker-0"],
        &["scale", "2"],
        &["logs"],
        &["logs", "-f"],
        &["explain", "parse-3f2a"],
        &["wait", "--workers", "1"],
        &["run", "--", "true"],
    ] {
        let output = cluster.run(args);
        assert_eq!(code(&output), Some(3), "{args:?}: {output:?}");
        assert!(text(&output.stderr).contains("local-cluster start"), "{output:?}");
    }
    for args in [
        &["retire"][..],
        &["wait"],
        &["wait", "--workers", "0"],
        &["run"],
        &["run", "--workers", "2", "--", "true"],
        &["restart", "worker-0", "--rolling"],
        &["stop", "--timeout", "2"],
        &["stop", "--drain", "--timeout", "soon"],
        &["logs", "--since", "yesterday"],
        &["logs", "--stream", "both"],
        &["completions", "tcsh"],
        &["start", "--total-memory-limit", "plenty"],
        &["status", "--watch", "0"],
        &["status", "--watch", "1e-9"],
        &["scale", "5000"],
        &["wait", "--workers", "5000"],
        &["status", "--name", ""],
        &["stop", "--name", "a b"],
        &["logs", "--name", "a/b\n"],
        &["run", "--name", "", "--", "true"],
        &["--json", "sizes"],
        &["retire", "worker-0", "--json"],
        &["__serve"],
    ] {
        assert_eq!(code(&cluster.run(args)), Some(2), "{args:?}");
    }
    let output = cluster.run(&["start", "--workers", "4", "--memory-limit", "1GB", "--total-memory-limit", "2GB"]);
    assert!(code(&output) == Some(2) && text(&output.stderr).contains("take 4.0 GB"), "{output:?}");
    let gone = path(&cluster.dir, "no-such-directory");
    for args in [
        &["--workers", "5000"][..],
        &["--threads", "65"],
        &["--memory-limit", "512"],
        &["--memory-limit", "99999999TB"],
        &["--memory-limit", "0"],
        &["--shared-memory-limit", "1"],
        &["--total-memory-limit", "1GB"],
        &["--workers", "2", "--tag", "2=gpu"],
        &["--env", "=x"],
        &["--spill-directory", &gone],
        &["--name", ""],
        &["--name", "a b"],
        &["--name", "./a.pid"],
    ] {
        for start in [&["start"][..], &["start", "--foreground"], &["run", "--start"]] {
            let program = if start[0] == "run" { &["--", "true"][..] } else { &[] };
            let output = cluster.run(&[start, args, program].concat());
            assert_eq!(code(&output), Some(2), "{start:?} {args:?}: {output:?}");
        }
    }
    assert!(!cluster.files().exists() || fs::read_dir(cluster.files()).unwrap().count() == 0, "nothing is left");
    cluster.start_again(&["--workers", "1"]);
    let output = cluster.run(&["wait", "--workers", "1", "--timeout", "0.1"]);
    assert_eq!(code(&output), Some(4), "no program is there: {output:?}");
    let output = cluster.run(&["stop"]);
    assert_eq!(code(&output), Some(0), "{output:?}");
}

#[test]
fn a_program_is_run_with_the_cluster_and_its_exit_code_given() {
    let mut cluster = Cluster::new();
    let run = |cluster: &Cluster, args: &[&str], script: &str| {
        cluster.run(&[&["run"], args, &["--", "sh", "-c", script]].concat())
    };
    // One of its own.
    let script = format!("echo $SWATH_CLUSTER; '{EXE}' status --name $SWATH_CLUSTER --json; exit 7");
    let output = run(&cluster, &["--start", "--name", "own", "--workers", "3"], &script);
    assert_eq!(code(&output), Some(7), "{output:?}");
    let (name, status) = text(&output.stdout).split_once('\n').map(|(a, b)| (a.to_string(), b.to_string())).unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert!(name == "own" && status["workers"] == 3, "{output:?}");
    assert!(!is_alive(status["pid"].as_u64().unwrap() as u32), "it is stopped afterwards");
    assert_eq!(code(&run(&cluster, &["--start"], "exit 0")), Some(0));
    assert_eq!(code(&run(&cluster, &["--start"], "kill -KILL $$")), Some(128 + 9));
    assert_eq!(code(&cluster.run(&["run", "--start", "--", "/no such program"])), Some(127));
    assert_eq!(code(&cluster.run(&["run", "--start", "--", "/"])), Some(126));
    // A signal to the command reaches the program, and the cluster is stopped.
    let mut running = Running::start(&cluster, &["run", "--start", "--", "sh", "-c", "echo begun; exec sleep 1000"]);
    assert_eq!(running.lines().next().unwrap(), "begun");
    let daemon = cluster.status()["pid"].as_u64().unwrap() as u32;
    kill(Pid::from_raw(running.0.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(running.0.wait().unwrap().code(), Some(128 + 15));
    assert!(!is_alive(daemon));
    assert_eq!(fs::read_dir(cluster.files()).unwrap().count(), 0);
    // One that is there.
    cluster.start_again(&["--workers", "1"]);
    let output = run(&cluster, &[], "echo $SWATH_CLUSTER; exit 3");
    assert!(code(&output) == Some(3) && text(&output.stdout) == "default\n", "{output:?}");
    let output = run(&cluster, &["--start"], "exit 0");
    assert!(code(&output) == Some(1) && text(&output.stderr).contains("already running"), "{output:?}");
    assert_eq!(cluster.status()["pid"], cluster.pid);
}

/// A run with a cluster of its own for a program that prints a line; its process, that line, and the cluster's process.
fn run_of(cluster: &Cluster, script: &str) -> (Running, String, u32) {
    let mut running = Running::start(cluster, &["run", "--start", "--workers", "1", "--", "sh", "-c", script]);
    let line = running.lines().next().unwrap();
    (running, line, cluster.status()["pid"].as_u64().unwrap() as u32)
}

#[test]
fn a_run_that_is_killed_takes_its_cluster_along() {
    let cluster = Cluster::new();
    let (mut running, program, daemon) = run_of(&cluster, "echo $$; exec sleep 1000");
    let program: u32 = program.parse().unwrap();
    common::send_signal(running.0.id(), Signal::SIGKILL);
    running.0.wait().unwrap();
    until("its cluster has ended", || !is_alive(daemon));
    assert_eq!(fs::read_dir(cluster.files()).unwrap().count(), 0, "in order");
    assert!(is_alive(program), "what becomes of the program is not the command's business");
    common::send_signal(program, Signal::SIGKILL);
}

#[test]
fn signals_to_a_run_reach_its_program_which_says_how_it_ends() {
    let cluster = Cluster::new();
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP] {
        let (mut running, _, daemon) = run_of(&cluster, "ulimit -c 0; echo begun; exec sleep 1000");
        common::send_signal(running.0.id(), signal);
        assert_eq!(running.0.wait().unwrap().code(), Some(128 + signal as i32));
        assert!(!is_alive(daemon));
    }
    let script = "trap 'exit 5' INT; echo begun; while :; do sleep 0.01; done";
    let (mut running, _, daemon) = run_of(&cluster, script);
    common::send_signal(running.0.id(), Signal::SIGINT);
    assert_eq!(running.0.wait().unwrap().code(), Some(5));
    assert!(!is_alive(daemon));
    // What the command was started to ignore is ignored by both.
    let program = "kill -HUP $PPID; kill -HUP $$; exit 6";
    let script = format!("trap '' HUP; exec '{EXE}' run --start --workers 1 -- sh -c '{program}'");
    let output = cluster.command("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(code(&output), Some(6), "{output:?}");
    // One that comes before there is a program.
    let mut running = Running::start(&cluster, &["run", "--start", "--workers", "1", "--", "sleep", "1000"]);
    until("it catches signals", || {
        let status = fs::read_to_string(format!("/proc/{}/status", running.0.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (Signal::SIGHUP as i32 - 1)) != 0
    });
    common::send_signal(running.0.id(), Signal::SIGHUP);
    assert_eq!(running.0.wait().unwrap().code(), Some(128 + 1));
    assert_eq!(fs::read_dir(cluster.files()).unwrap().count(), 0);
}

#[test]
fn an_interrupt_at_the_terminal_comes_to_the_program_of_a_run_once() {
    let cluster = Cluster::new();
    let program = path(&cluster.dir, "program");
    let counts =
        "n=0; trap 'n=$((n+1))' INT; echo begun; while [ $n = 0 ]; do sleep 0.02; done; sleep 0.3; exit $((40+n))";
    fs::write(&program, counts).unwrap();
    // A terminal of its own, as `script` makes one; its shell gives way to the command, or the interrupt would end the shell.
    let mut command = cluster.command("script");
    let run = format!("exec '{EXE}' run --start --workers 1 -- sh '{program}'");
    command.args(["-qefc", &run, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = Running(command.spawn().unwrap_or_else(|e| panic!("script, of util-linux: {e}")));
    let mut lines = running.lines();
    assert!(lines.next().unwrap().contains("begun"));
    let mut keyboard = running.0.stdin.take().unwrap();
    keyboard.write_all(b"\x03").unwrap();
    lines.for_each(drop);
    assert_eq!(running.0.wait().unwrap().code(), Some(41));
}

#[test]
fn a_program_that_stops_its_own_cluster_has_its_exit_code_given() {
    let cluster = Cluster::new();
    let script = format!("'{EXE}' stop && exit 9");
    let output = cluster.run(&["run", "--start", "--workers", "1", "--", "sh", "-c", &script]);
    assert!(code(&output) == Some(9) && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_run_stops_no_cluster_but_its_own() {
    let cluster = Cluster::new();
    let pid = cluster.files().join("default.pid");
    let script = format!("kill -9 $(cat {}); '{EXE}' start --workers 1 >&2; exit 7", pid.display());
    let output = cluster.run(&["run", "--start", "--workers", "1", "--", "sh", "-c", &script]);
    assert_eq!(code(&output), Some(7), "{output:?}");
    assert!(cluster.run(&["stop"]).status.success(), "the other one is there");
}

#[test]
fn a_run_names_its_cluster_wherever_its_program_goes() {
    let cluster = Cluster::new();
    let own = path(&cluster.dir, "own");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
    let program = "cd / && test -S \"$SWATH_CLUSTER\"";
    let args = ["run", "--start", "--workers", "1", "--name", "./here.sock", "--", "sh", "-c", program];
    let output = cluster.command(EXE).current_dir(&own).args(args).output().unwrap();
    assert_eq!(code(&output), Some(0), "{output:?}");
}

#[test]
fn commands_with_a_time_out_keep_to_it_where_the_cluster_is_stopped() {
    let cluster = Cluster::start_behind(&["--workers", "1"]);
    let client = cluster.connect();
    client.wait_for_workers(1, LONG).unwrap();
    common::send_signal(cluster.pid, Signal::SIGSTOP);
    for args in [
        &["wait", "--workers", "1", "--timeout", "0.5"][..],
        &["retire", "worker-0", "--timeout", "0.5"],
        &["restart", "worker-0", "--timeout", "0.5"],
        &["restart", "--rolling", "--timeout", "0.5"],
        &["stop", "--drain", "--timeout", "0.5"],
    ] {
        let began = Instant::now();
        let output = cluster.run(args);
        let took = began.elapsed();
        assert_eq!(code(&output), Some(4), "{args:?}: {output:?}");
        assert!((Duration::from_millis(500)..Duration::from_secs(10)).contains(&took), "{args:?}: {took:?}");
        let told = text(&output.stderr);
        assert!(told.contains("within 500ms") && told.contains(&format!("kill -CONT {}", cluster.pid)), "{told}");
    }
    common::send_signal(cluster.pid, Signal::SIGCONT);
    assert_eq!(client.compute(&delayed(add_one).call(1)).unwrap(), 2, "it goes on, as if nothing had been asked");
    assert_eq!(client.workers().unwrap().len(), 1);
}

#[test]
fn what_nobody_reads_ends_quietly() {
    let cluster = Cluster::start_behind(&["--workers", "1"]);
    for args in [&["status", "--watch", "0.02"][..], &["status", "--watch", "0.02", "--json"], &["logs", "-f"]] {
        let mut running = Running::start(&cluster, args);
        drop(running.lines().next().unwrap());
        if args[0] == "logs" {
            let client = cluster.connect();
            client.compute(&delayed(speak).call("more")).unwrap();
        }
        let status = running.0.wait().unwrap();
        let mut told = String::new();
        running.0.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!((status.code(), told.as_str()), (Some(128 + 13), ""), "{args:?}");
    }
}

#[test]
fn a_cluster_is_named_by_the_path_of_its_socket() {
    let mut cluster = Cluster::start_behind(&["--workers", "1"]);
    let by_path = cluster.socket.to_str().unwrap().to_string();
    let mut following = Running::start(&cluster, &["logs", "-f", "--name", &by_path]);
    assert!(following.lines().next().unwrap().contains("waits at"), "the cluster's own words, too");
    assert!(cluster.run(&["stop", "--name", &by_path]).status.success());
    assert_eq!(following.0.wait().unwrap().code(), Some(3));
    // It is started so, too: what belongs to it lies there.
    let elsewhere = cluster.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("other.pid"), "not a cluster's").unwrap();
    let start = ["start", "--name", "elsewhere/mine.sock", "--workers", "1", "--json"];
    let run = |args: &[&str]| cluster.command(EXE).args(args).current_dir(cluster.dir.path()).output().unwrap();
    let refused = run(&start);
    assert!(text(&refused.stderr).contains("chmod 700"), "{refused:?}");
    fs::set_permissions(&elsewhere, PermissionsExt::from_mode(0o700)).unwrap();
    let output = run(&start);
    assert!(output.status.success(), "{output:?}");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let socket = elsewhere.join("mine.sock");
    assert_eq!((status["name"].as_str(), status["socket"].as_str()), (Some("mine"), socket.to_str()));
    let again = run(&start);
    assert!(text(&again.stderr).contains(&format!("stop --name {}", socket.display())), "{again:?}");
    let client = Client::connect(&socket).unwrap();
    assert_eq!(client.compute(&delayed(add_one).call(1)).unwrap(), 2);
    drop(client);
    common::send_signal(status["pid"].as_u64().unwrap() as u32, Signal::SIGKILL);
    until("its janitor has cleaned up", || !socket.exists() && !elsewhere.join("mine.pid").exists());
    assert!(elsewhere.join("mine.log").exists());
    fs::remove_file(elsewhere.join("mine.log")).unwrap();
    let output = run(&["run", "--start", "--name", "elsewhere/mine.sock", "--", "sh", "-c", "echo $SWATH_CLUSTER"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1, "what is not a cluster's stays");
    cluster.start_again(&["--workers", "1"]);
}

#[test]
fn a_start_that_finds_something_in_its_way_leaves_that_and_nothing_else() {
    let cluster = Cluster::new();
    assert_eq!(code(&cluster.run(&["run", "--start", "--", "true"])), Some(0), "so the directory is there");
    let file = cluster.files().join("default.sock");
    fs::write(&file, "a file").unwrap();
    for start in [&["start"][..], &["start", "--foreground"]] {
        let output = cluster.run(start);
        assert!(code(&output) == Some(1) && text(&output.stderr).contains("in the way"), "{output:?}");
        assert_eq!(fs::read_dir(cluster.files()).unwrap().count(), 1);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "a file");
    fs::remove_file(file).unwrap();
    // Where no socket can be.
    let long = cluster.dir.path().join("x".repeat(100));
    fs::create_dir(&long).unwrap();
    for command in ["start", "status", "stop"] {
        let output = cluster.command(EXE).arg(command).env("XDG_RUNTIME_DIR", &long).output().unwrap();
        assert!(code(&output) == Some(2) && text(&output.stderr).contains("a shorter"), "{output:?}");
    }
    assert_eq!(fs::read_dir(&long).unwrap().count(), 0);
}

#[test]
fn a_worker_that_is_not_there_has_no_logs() {
    let cluster = Cluster::start_behind(&["--workers", "2"]);
    let logs = |worker: &str| cluster.run(&["logs", "--worker", worker]);
    assert!(text(&logs("worker-0").stderr).contains("none has been started"));
    let client = cluster.connect();
    client.wait_for_workers(2, LONG).unwrap();
    for worker in ["nope", "worker-9", "nope/worker-0", "/worker-0", "worker-"] {
        for more in [&[][..], &["-f"]] {
            let output = cluster.run(&[&["logs", "--worker", worker], more].concat());
            let told = text(&output.stderr);
            assert_eq!(code(&output), Some(1), "{worker} {output:?}");
            assert!(told.contains(&format!("no worker {worker:?}")) && told.contains("/worker-1"), "{told}");
        }
    }
    let status = cluster.status();
    let (program, build) = (&status["programs"][0]["program"], &status["programs"][0]["build"]);
    for of in [program, build].map(|of| of.as_str().unwrap()) {
        let output = logs(&format!("{of}/worker-0"));
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn words_of_a_worker_between_tasks_name_no_task() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Told(u64, Vec<u8>);
    impl Drop for Told {
        fn drop(&mut self) {
            log::error!("{} is dropped", self.0);
        }
    }
    let cluster = Cluster::start_behind(&["--workers", "1"]);
    let client = cluster.connect();
    for x in 0..5 {
        let told = client.persist(&delayed(|x: u64| Told(x, vec![0; 100_000])).call(x)).unwrap();
        client.compute(&delayed(|told: Told| told.0).call(&told)).unwrap();
    }
    let mut logs = String::new();
    until("results that it kept are dropped between tasks", || {
        logs = text(&cluster.run(&["logs", "--stream", "stderr"]).stdout);
        logs.contains("ERROR operator: 4 is dropped") && logs.matches("is dropped").count() >= 10
    });
    assert!(logs.contains("\nERROR operator") && !logs.contains("-0000000000000000"), "{logs}");
}

#[test]
fn logs_are_followed_over_restarts_and_narrowed() {
    let cluster = Cluster::start_behind(&["--workers", "2", "--threads", "1"]);
    let client = cluster.connect();
    let mut following = Running::start(&cluster, &["logs", "-f"]);
    let mut lines = following.lines();
    let mut told = |word: &str| lines.by_ref().find(|line| line.contains(word)).unwrap();
    // It tells of the cluster, too, and of the time of day.
    let own = told("waits at");
    assert!(own.starts_with("20") && own.contains('T') && own.contains("Z INFO"), "{own}");
    let first = client.submit(&delayed(speak).call("first")).unwrap();
    first.result().unwrap();
    let line = told("out first");
    assert!(line.contains("/worker-") && line.contains(" stdout [speak-"), "{line}");
    for round in 0..3 {
        assert!(cluster.run(&["restart", if round == 0 { "--rolling" } else { "worker-0" }]).status.success());
        client.compute(&delayed(speak).call(format!("round {round}"))).unwrap();
        told(&format!("err round {round}"));
    }
    // No line came twice: the next that are told are the next that were written.
    client.compute(&delayed(speak).call("last")).unwrap();
    let line = told("out ");
    assert!(line.ends_with("out last"), "{line}");

    let logs = |args: &[&str]| {
        let output = cluster.run(&[&["logs"], args].concat());
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout)
    };
    let all = logs(&[]);
    assert!(all.contains("out first") && all.contains("err last") && all.contains("--- cluster ---"), "{all}");
    let of_task = logs(&["--task", &first.key()]);
    assert!(of_task.contains("out first") && of_task.contains("err first") && !of_task.contains("last"), "{of_task}");
    let errors = logs(&["--stream", "stderr", "--task", "speak"]);
    assert!(errors.contains("err first") && !errors.contains("out"), "{errors}");
    let (zero, one) = (logs(&["--worker", "worker-0"]), logs(&["--worker", "worker-1"]));
    assert_eq!(zero.matches("out ").count() + one.matches("out ").count(), 5, "{zero}{one}");
    assert_eq!(logs(&["--since", "2100-01-01T00:00:00Z"]), "");
    assert!(logs(&["--since", "10m", "--json"]).contains("out last"));
    // It ends with the cluster.
    assert!(cluster.run(&["stop"]).status.success());
    assert_eq!(following.0.wait().unwrap().code(), Some(3));
}

#[test]
fn a_refused_start_writes_nothing_into_the_log_of_the_one_that_runs() {
    let cluster = Cluster::start_behind(&["--workers", "1"]);
    let before = log(&cluster);
    assert!(before.lines().all(|line| line.starts_with("20") && line[..40].contains("Z ")), "times of day: {before}");
    for _ in 0..3 {
        let output = cluster.run(&["start"]);
        assert_eq!(code(&output), Some(1));
        assert_eq!(text(&output.stderr).matches("already running").count(), 1, "{output:?}");
    }
    assert_eq!(log(&cluster), before);
}

#[test]
fn the_status_is_watched_until_the_cluster_ends() {
    let cluster = Cluster::start_behind(&["--workers", "1"]);
    let mut as_json = Running::start(&cluster, &["status", "--watch", "0.02", "--json"]);
    let mut for_people = Running::start(&cluster, &["status", "--watch"]);
    for line in as_json.lines().take(3) {
        let status: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(status["pid"], cluster.pid);
    }
    assert!(for_people.lines().next().unwrap().starts_with("local cluster `default`"));
    let mut watching = Running::start(&cluster, &["status", "--watch", "0.02"]);
    let mut lines = watching.lines();
    lines.next().unwrap();
    assert!(cluster.run(&["stop"]).status.success());
    lines.for_each(drop);
    assert_eq!(watching.0.wait().unwrap().code(), Some(3));
}

#[test]
fn completions_and_the_manual_page_are_whole() {
    let run = |args: &[&str]| {
        let output = Command::new(EXE).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout)
    };
    let commands = ["start", "status", "stop", "restart", "retire", "scale", "wait", "logs", "run", "sizes"];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        assert!(commands.iter().all(|command| script.contains(command)), "{shell}");
        assert!(script.contains("total-memory-limit"), "{shell}");
    }
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(run(&["completions", "bash"]).as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
    let complete = |words: &[&str]| {
        let script = r#"COMP_WORDS=("$@"); COMP_CWORD=$(($#-1))
            _local__cluster "$1" "${@: -1}" "${@: -2:1}"; echo "${COMPREPLY[@]}""#;
        let mut bash = Command::new("bash");
        bash.args(["-c", &format!("{}\n{script}", run(&["completions", "bash"])), "bash", "local-cluster"]);
        text(&bash.args(words).output().unwrap().stdout)
    };
    assert_eq!(complete(&["st"]), "start status stop\n");
    assert_eq!(complete(&["--name", "x", "stop", "--d"]), "--drain\n");
    assert_eq!(complete(&["logs", "--stream", ""]), "stdout stderr\n");
    assert_eq!(complete(&["run", "--start", "--w"]), "--workers\n");
    let page = run(&["man"]);
    assert!(page.contains("local\\-cluster stop [OPTIONS]") && !page.contains(".SH EXTRA"), "{page}");
    assert_eq!(page.matches("Print help").count(), 1, "{page}");
    assert!(page.contains(".TH local-cluster") && page.contains("4 timed out"), "{page}");
    for command in commands {
        assert!(page.contains(&format!(".SH \"COMMAND {}\"", command.to_uppercase())), "{command}: {page}");
    }
    assert!(!page.contains("__serve"));
    for shown in ["bash", "zsh", "fish", "elvish", "powershell"].map(|shell| run(&["completions", shell])) {
        assert!(!shown.contains("__serve"), "{shown}");
    }
    assert!(!run(&["help"]).contains("__serve"));
    for command in commands {
        let takes_json = ["start", "status", "logs", "sizes"].contains(&command);
        assert_eq!(run(&["help", command]).contains("--json"), takes_json, "{command}");
    }
}

#[test]
fn the_workers_of_all_programs_keep_to_one_budget() {
    let limits = ["--memory-limit", "100MB", "--total-memory-limit", "350MB"];
    let cluster = Cluster::start(&[&["--workers", "2"], &limits[..]].concat());
    let client = cluster.connect();
    client.wait_for_workers(2, LONG).unwrap();
    assert!(text(&cluster.run(&["status"]).stdout).contains("350.0 MB for all programs together"));
    assert!(cluster.run(&["scale", "3"]).status.success());
    client.wait_for_workers(3, LONG).unwrap();
    let output = cluster.run(&["scale", "4"]);
    assert!(code(&output) == Some(1) && text(&output.stderr).contains("more than 350.0 MB"), "{output:?}");
    // A program may not take more by itself, either.
    let error = client.scale(4).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }) && error.to_string().contains("do not fit"), "{error}");
    assert_eq!(client.workers().unwrap().len(), 3);
    let greedy = swath::client::AdaptOptions {
        interval: Duration::from_millis(10),
        wait: 1000,
        target: Duration::from_millis(1),
    };
    let _adaptive = client.adapt(1..=8, greedy).unwrap();
    let squares = delayed(|x: u64| {
        std::thread::sleep(Duration::from_millis(20));
        x * x
    });
    client.compute(&squares.map(0..30_u64)).unwrap();
    assert!(client.workers().unwrap().len() <= 3);
}
