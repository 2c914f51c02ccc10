//! What an operator does to a cluster with the command, and what the command answers.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod fixture;

use common::{LONG, is_alive, note, notes, path, touch, until, wait_for_file};
use fixture::{Cluster, EXE, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
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
        let mut command = cluster.command(EXE);
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
    ] {
        assert_eq!(code(&cluster.run(args)), Some(2), "{args:?}");
    }
    let output = cluster.run(&["start", "--workers", "4", "--memory-limit", "1GB", "--total-memory-limit", "2GB"]);
    assert!(code(&output) == Some(1) && text(&output.stderr).contains("take 4.0 GB"), "{output:?}");
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
    let page = run(&["man"]);
    assert!(page.contains(".TH local-cluster") && page.contains("4 timed out"), "{page}");
    for command in commands {
        assert!(page.contains(&format!(".SH \"COMMAND {}\"", command.to_uppercase())), "{command}: {page}");
    }
    assert!(!page.contains("__serve"));
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
    let greedy =
        swath::AdaptOptions { interval: Duration::from_millis(10), wait: 1000, target: Duration::from_millis(1) };
    let _adaptive = client.adapt(1..=8, greedy).unwrap();
    let squares = delayed(|x: u64| {
        std::thread::sleep(Duration::from_millis(20));
        x * x
    });
    client.compute(&squares.map(0..30_u64)).unwrap();
    assert!(client.workers().unwrap().len() <= 3);
}
