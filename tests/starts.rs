//! Workers that do not come to work, and workers that break the protocol while they do.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, send};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::RawFd;
use std::process::{Child, Stdio};
use std::time::Duration;
use swath::client::{Builder, RestartPolicy};
use swath::error::{Cause, DeathCause};
use swath::memory::MemoryLimit;
use swath::{Client, Error, delayed, local};

fn inc(x: i64) -> i64 {
    x + 1
}

/// A client whose workers say hello and then cannot start their threads.
fn stillborn() -> Builder {
    let builder = Client::builder().workers(2).forward_output(false).start_timeout(Duration::from_secs(2));
    builder.worker_env("RUST_MIN_STACK", (1_u64 << 60).to_string())
}

fn closed(error: &Error) -> String {
    match (error, error.task().map(|task| task.cause())) {
        (Error::Closed { reason }, _) | (_, Some(Cause::Closed { reason })) => reason.clone(),
        _ => panic!("{error:?}"),
    }
}

#[test]
fn workers_that_all_die_at_their_start_end_the_wait() {
    let _clean = Clean::start();
    let client = stillborn().build().unwrap();
    let future = client.submit(&delayed(inc).call(1)).unwrap();
    let reasons = [
        closed(&future.result_timeout(LONG).unwrap_err()),
        closed(&client.wait_for_workers(1, LONG).unwrap_err()),
        closed(&delayed(inc).call(1).compute(&client).unwrap_err()),
    ];
    for reason in reasons {
        let tells = ["no worker has come to work for 2s", "exited with code 72", "no thread to be had"];
        assert!(tells.iter().all(|words| reason.contains(words)), "{reason}");
    }
    assert!(client.to_string().contains("closed: no worker has come to work"), "{client}");
}

#[test]
fn the_last_words_are_told_where_workers_are_not_replaced() {
    let _clean = Clean::start();
    let client = stillborn().restart_policy(RestartPolicy::Never).build().unwrap();
    until("it is known", || client.to_string().contains("closed"));
    let reason = closed(&client.wait_for_workers(2, LONG).unwrap_err());
    assert!(reason.contains("not to be replaced") && reason.contains("no thread to be had"), "{reason}");
}

#[test]
fn workers_that_can_no_longer_be_started_end_the_wait() {
    let _clean = Clean::start();
    let dir = directory();
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    let builder = Client::builder().workers(1).start_timeout(Duration::from_secs(2));
    let client = builder.local_directory(&home).build().unwrap();
    assert_eq!(delayed(inc).call(1).compute(&client).unwrap(), 2);
    fs::remove_dir(&home).unwrap();
    send_signal(pids(&client)[0], Signal::SIGKILL);
    let reason = closed(&client.submit(&delayed(inc).call(1)).unwrap().result_timeout(LONG).unwrap_err());
    assert!(reason.contains("worker-0 cannot be started"), "{reason}");
}

#[test]
fn tasks_that_kill_all_workers_at_once_do_not_end_the_client() {
    fn kills(x: i64) -> i64 {
        nix::sys::signal::raise(Signal::SIGKILL).unwrap();
        x
    }
    let _clean = Clean::start();
    // Each death is one of a worker that has only just begun and has never finished anything. They go on for longer than
    // a client would wait for workers that do not come to work.
    let client = Client::builder().workers(2).start_timeout(Duration::from_secs(2)).allowed_deaths(2);
    let client = client.forward_output(false).build().unwrap();
    let futures = client.map(kills, 0..7_i64).unwrap();
    for future in &futures {
        let error = future.result_timeout(LONG).unwrap_err();
        assert!(matches!(error.task().unwrap().cause(), Cause::WorkerDied(records) if records.len() == 2), "{error}");
    }
    assert!(client.deaths().unwrap().len() >= 14);
    assert_eq!(delayed(inc).call(1).compute(&client).unwrap(), 2);
}

/// Sends bytes to the supervisor, as what the worker says; only the first time, by the file.
fn interrupts(file: String, bytes: Vec<u8>) -> String {
    if !notes(&file).is_empty() {
        return "went well".to_string();
    }
    note(&file, "interrupts");
    let sockets = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        let socket = fs::read_link(entry.path()).ok()?.to_str()?.starts_with("socket:");
        let fd: RawFd = entry.file_name().to_str()?.parse().ok()?;
        socket.then_some(fd)
    });
    // It has others within itself, where nobody minds.
    for fd in sockets {
        let _ = send(fd, &bytes, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT);
    }
    if bytes.ends_with(b"cut off") {
        std::process::exit(0);
    }
    comes_true(LONG, || false);
    "was not noticed".to_string()
}

fn frame(kind: u8, fds: u16, len: u64, body: &[u8]) -> Vec<u8> {
    [&[0x57, 0x53, 1, kind][..], &fds.to_le_bytes(), &[0, 0], &len.to_le_bytes(), body].concat()
}

#[test]
fn a_worker_that_breaks_the_protocol_is_replaced_and_its_task_done_again() {
    let _clean = Clean::start();
    let client = Client::builder().workers(2).forward_output(false).build().unwrap();
    let beside = client.submit(&delayed(inc).call(1)).unwrap();
    let hello = [&[0, 99, 0, 3][..], &[1, 2, 3], &[0; 8]].concat();
    let hostile = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "no frame of swath"),
        (frame(1, 0, u64::MAX, &[]), "longer than"),
        (frame(1, 0, 8, &[0xff; 8]), "malformed"),
        (frame(7, 0, 2, &[0, 0]), "a frame of kind 7"),
        (frame(1, 3, 2, &[0, 0]), "descriptors"),
        (frame(1, 0, 25, &[[0; 21].as_slice(), &[1, 0, 0, 0]].concat()), "1 memory files with 0 descriptors"),
        (frame(1, 0, hello.len() as u64, &hello), "a second hello"),
        (frame(1, 0, 1000, b"cut off"), "ended inside a frame"),
    ];
    let dir = directory();
    for (n, (bytes, reason)) in hostile.into_iter().enumerate() {
        let file = path(&dir, &n.to_string());
        assert_eq!(delayed(interrupts).call(file, bytes).compute(&client).unwrap(), "went well", "{reason}");
        until("its death is known", || client.deaths().unwrap().len() > n);
        let record = client.deaths().unwrap().pop().unwrap();
        assert!(matches!(&record.cause, DeathCause::Protocol(why) if why.contains(reason)), "{reason}: {record}");
        assert_eq!(record.running.len(), 1, "{record}");
    }
    assert_eq!(beside.result().unwrap(), 2);
    client.wait_for_workers(2, LONG).unwrap();
}

/// Played by processes of their own.
#[test]
fn roles() {
    match my_role().as_deref() {
        None => {}
        Some("few processes") => few_processes(),
        Some("cluster") => cluster(),
        Some(other) => panic!("no role {other}"),
    }
}

fn cluster() {
    let home = std::env::var("SWATH_TEST_DIR").unwrap();
    let options = Client::builder().workers(1).start_timeout(Duration::from_secs(2)).local_directory(home);
    local::serve(options, |status| say(status.socket.display())).unwrap();
}

#[test]
fn a_cluster_that_has_given_up_tries_again_for_who_comes_next() {
    let _clean = Clean::start();
    let dir = directory();
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    let mut command = role("roles", "cluster");
    command.env("XDG_RUNTIME_DIR", dir.path()).env("SWATH_TEST_DIR", &home).stderr(Stdio::null());
    let mut cluster = Ended(command.spawn().unwrap());
    let mut lines = BufReader::new(cluster.0.stdout.take().unwrap()).lines();
    let socket = lines.find_map(|line| said(&line.unwrap()).pop()).unwrap();
    let first = Client::connect(&socket).unwrap();
    assert_eq!(delayed(inc).call(1).compute(&first).unwrap(), 2);
    fs::remove_dir(&home).unwrap();
    send_signal(pids(&first)[0], Signal::SIGKILL);
    let reason = closed(&first.submit(&delayed(inc).call(1)).unwrap().result_timeout(LONG).unwrap_err());
    assert!(reason.contains("worker-0 cannot be started"), "{reason}");
    fs::create_dir(&home).unwrap();
    let second = Client::connect(&socket).unwrap();
    assert_eq!(second.submit(&delayed(inc).call(2)).unwrap().result_timeout(LONG).unwrap(), 3);
    assert!(delayed(inc).call(1).compute(&first).is_err());
    drop((first, second));
    local::stop(&socket).unwrap();
    assert!(cluster.0.wait().unwrap().success());
}

/// A process that does not outlive its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn few_processes() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NPROC).unwrap();
    let threads = fs::read_dir("/proc/self/task").unwrap().count() as u64;
    // Room for the supervisor's thread and some workers.
    for room in [0, 4] {
        setrlimit(Resource::RLIMIT_NPROC, threads + room, hard).unwrap();
        match Client::local(16, 1, MemoryLimit::None) {
            Ok(client) => say(format!("started {client}")),
            Err(e @ Error::Resource { .. }) => say(format!("Resource: {e}")),
            Err(e) => say(e.to_string()),
        }
    }
    setrlimit(Resource::RLIMIT_NPROC, hard, hard).unwrap();
    let client = processes(2, 1);
    setrlimit(Resource::RLIMIT_NPROC, 1, hard).unwrap();
    let kept = client.persist(&delayed(inc).map(0..10)).unwrap();
    client.compute(&kept).unwrap();
    send_signal(pids(&client)[0], Signal::SIGKILL);
    until("it is gone", || pids(&client).len() == 1);
    assert_eq!(client.compute(&kept).unwrap(), (1..=10).collect::<Vec<_>>(), "the other one goes on");
    setrlimit(Resource::RLIMIT_NPROC, hard, hard).unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    say("recovered");
}

#[test]
fn processes_that_may_not_be_started_are_an_error() {
    let _clean = Clean::start();
    // The limit does not hold for root, and counts all that a user runs.
    let dir = directory();
    let Some(command) = permitted::role_as_another_user(&dir, "roles", "few processes") else {
        return permitted::skip("no process can be started as another user");
    };
    let words = play(command);
    assert!(words[0].contains("threads") && words[1].contains("processes"), "{words:?}");
    assert!(words[..2].iter().all(|w| w.starts_with("Resource") && w.contains("ulimit -u")), "{words:?}");
    assert_eq!(words[2], "recovered");
}
