//! Workers, clients and machines that fail: real processes, real signals, real limits.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod faults {
    mod crashes;
    pub(crate) mod descriptors;
    mod mistakes;
    mod out_of_memory;
    mod printing;
}

use common::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use swath::client::{RestartPolicy, WaitFor};
use swath::delayed::value;
use swath::error::{Cause, DeathCause, DeathRecord};
use swath::memory::MemoryLimit;
use swath::status::WorkerState;
use swath::{Bag, Buffer, Client, Delayed, Error, Future, delayed, try_delayed};

/// A client that goes is gone within this; one that waited for what it should not would take ten seconds and more.
const AT_ONCE: Duration = Duration::from_secs(9);

fn inc(x: i64) -> i64 {
    x + 1
}

fn gate(file: String, x: i64) -> i64 {
    if wait_for_file(&file) { x } else { -1 }
}

/// Says that it runs, and then does not end for a long time, whatever it is asked.
fn stubborn(file: String) -> i64 {
    note(&file, std::process::id());
    let began = Instant::now();
    while began.elapsed() < LONG {
        std::thread::sleep(Duration::from_millis(5));
    }
    0
}

/// Dies in the given way the first `times` times, by the lines of the file.
fn dies(file: String, times: usize, how: String) -> i64 {
    if notes(&file).len() >= times {
        return 42;
    }
    note(&file, &how);
    let signal = match &*how {
        "exit" => std::process::exit(3),
        "exit well" => std::process::exit(0),
        "abort" => std::process::abort(),
        "overflow" => return deeper(&[1; 64]),
        "SIGKILL" => Signal::SIGKILL,
        "SIGSEGV" => Signal::SIGSEGV,
        _ => Signal::SIGHUP,
    };
    nix::sys::signal::raise(signal).unwrap();
    comes_true(LONG, || false);
    0
}

#[allow(unconditional_recursion, reason = "it is to use up the stack")]
fn deeper(bytes: &[u8; 64]) -> i64 {
    let more = std::hint::black_box([bytes[0].wrapping_add(1); 64]);
    deeper(&more) + i64::from(more[7])
}

fn task_error(error: &Error) -> &swath::error::TaskError {
    error.task().unwrap_or_else(|| panic!("not a task's: {error}"))
}

fn works(client: &Client) {
    assert_eq!(client.compute(&delayed(inc).map(0..20)).unwrap(), (1..=20).collect::<Vec<_>>());
}

fn deaths(client: &Client, n: usize) -> Vec<DeathRecord> {
    until("the deaths are recorded", || client.deaths().unwrap().len() >= n);
    client.deaths().unwrap()
}

#[test]
fn a_worker_that_a_task_ends_is_replaced() {
    let _clean = Clean::start();
    let client = processes(2, 1);
    let dir = directory();
    for how in ["exit", "exit well", "abort", "overflow", "SIGKILL", "SIGSEGV", "SIGHUP"] {
        let before = client.deaths().unwrap().len();
        let lazy = delayed(dies).call(path(&dir, how), 1, how);
        let beside = delayed(inc).map(0..50);
        let (value, others) = client.compute((&(&lazy + 1), &beside)).unwrap();
        assert_eq!((value, others.len()), (43, 50), "{how}");
        let record = deaths(&client, before + 1).pop().unwrap();
        let right = matches!(
            (how, &record.cause),
            ("exit", DeathCause::Exited(3))
                | ("exit well", DeathCause::Exited(0))
                | ("abort", DeathCause::Signal(6))
                | ("overflow", DeathCause::Signal(6 | 11))
                | ("SIGKILL", DeathCause::Signal(9))
                | ("SIGSEGV", DeathCause::Signal(11))
                | ("SIGHUP", DeathCause::Signal(1))
        );
        assert!(right, "{how}: {record:?}");
        // Tasks in a row run as one.
        assert_eq!(record.running.len(), 1, "{how}: {record:?}");
        assert!(record.worker.starts_with("worker-") && !is_alive(record.pid));
    }
    client.wait_for_workers(2, LONG).unwrap();
    works(&client);
}

#[test]
fn words_of_killed_workers_are_told_whole_and_once() {
    /// Counts on standard error until it is killed, a line with each write.
    fn counts(to: u64) -> u64 {
        for n in 1..=to {
            std::io::stderr().write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        to
    }
    let _clean = Clean::start();
    let kills = 4;
    let client = Client::builder().workers(1).threads(1).forward_output(false).allowed_deaths(kills).build().unwrap();
    let future = client.submit(&delayed(counts).call(u64::MAX)).unwrap();
    let told = || -> Vec<u64> { client.logs().unwrap().iter().map(|line| line.text.parse().unwrap()).collect() };
    let mut before = None;
    for n in 1..=kills as usize {
        let counting = || Some(client.workers().unwrap().iter().find(|w| !w.running.is_empty())?.pid);
        until("it counts", || counting().is_some());
        let victim = counting().unwrap();
        until("it is heard", || told().last().is_some_and(|&last| last > 1 && Some(last) != before));
        send_signal(victim, Signal::SIGKILL);
        let record = deaths(&client, n).pop().unwrap();
        let last: Vec<u64> = record.last_lines.iter().map(|line| line.text.parse().unwrap()).collect();
        assert!(last.len() > 1 && last.windows(2).all(|w| w[1] == w[0] + 1), "{record:?}");
        let broken: Vec<_> = told().windows(2).filter(|w| w[1] != w[0] + 1 && w[1] != 1).map(<[u64]>::to_vec).collect();
        assert!(broken.is_empty(), "{broken:?}");
        before = told().last().copied();
    }
    assert!(matches!(task_error(&future.result().unwrap_err()).cause(), Cause::WorkerDied(_)));
}

#[test]
fn a_task_that_always_kills_its_worker_fails() {
    let _clean = Clean::start();
    let client = Client::builder().workers(2).threads(1).memory_limit("1GB").forward_output(false).build().unwrap();
    let dir = directory();
    #[allow(clippy::print_stderr)]
    fn last_words(file: String) -> i64 {
        eprintln!("so long");
        dies(file, 1000, "abort".to_string())
    }
    let lazy = delayed(last_words).name("the killer").call(path(&dir, "runs"));
    let others = client.submit_all(&delayed(inc).map(0..200)).unwrap();
    let error = (&lazy + 1).compute(&client).unwrap_err();
    let task = task_error(&error);
    assert_eq!((task.key(), task.name()), (&*lazy.key(), "the killer"));
    let Cause::WorkerDied(records) = task.cause() else { panic!("{error}") };
    assert_eq!(records.len(), 3);
    assert_eq!(notes(&path(&dir, "runs")).len(), 3);
    for record in records {
        assert_eq!((&record.cause, record.memory_limit), (&DeathCause::Signal(6), Some(1_000_000_000)));
        assert!(record.running.contains(&lazy.key()), "{record:?}");
        assert!(record.last_lines.iter().any(|l| l.text.contains("so long")), "{record:?}");
    }
    let text = error.to_string();
    assert!(text.contains("3 time") && text.contains("SIGABRT") && text.contains("so long"), "{text}");
    assert_eq!(client.gather(&others).unwrap(), (1..=200).collect::<Vec<_>>());
    works(&client);
}

#[test]
fn the_number_of_deaths_can_be_chosen() {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).allowed_deaths(1).build().unwrap();
    let dir = directory();
    let error = delayed(dies).call(path(&dir, "runs"), 5, "exit").compute(&client).unwrap_err();
    assert!(matches!(task_error(&error).cause(), Cause::WorkerDied(r) if r.len() == 1), "{error}");
    works(&client);
}

#[test]
fn tasks_beside_a_killer_are_not_lost() {
    let _clean = Clean::start();
    // The killer's thread has neighbours, whose tasks die with it three times.
    let client = processes(1, 3);
    let dir = directory();
    let killer = client.submit(&delayed(dies).call(path(&dir, "runs"), 2, "SIGKILL")).unwrap();
    let others = client.submit_all(&delayed(|x: i64| x * x).map(0..500)).unwrap();
    assert_eq!(client.gather(&others).unwrap(), (0..500).map(|x| x * x).collect::<Vec<_>>());
    assert_eq!(killer.result().unwrap(), 42);
}

/// Sleeps for a second, and notes each start.
fn sleeps_a_second(file: String, x: i64) -> i64 {
    note(&file, "starts");
    std::thread::sleep(Duration::from_secs(1));
    x + 1
}

/// A worker of four threads, one task that ends the process, and three that do not.
fn its_neighbours_have_their_results(how: &str, cause: impl Fn(&DeathCause) -> bool) {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(4).forward_output(false).build().unwrap();
    let dir = directory();
    let innocent: Vec<_> = (0..3)
        .map(|i| client.submit(&delayed(sleeps_a_second).call(path(&dir, &format!("innocent-{i}")), i)).unwrap())
        .collect();
    until("they run", || (0..3).all(|i| !notes(&path(&dir, &format!("innocent-{i}"))).is_empty()));
    let runs = path(&dir, "guilty");
    let guilty = client.submit(&delayed(dies).call(&*runs, 1000, how)).unwrap();
    assert_eq!(client.gather(&innocent).unwrap(), [1, 2, 3], "{how}");
    let error = guilty.result_timeout(LONG).unwrap_err();
    let Cause::WorkerDied(records) = task_error(&error).cause() else { panic!("{how}: {error}") };
    assert_eq!(records.len(), 3, "{how}: {error}");
    assert!(error.to_string().contains("lost its worker 3 time(s)"), "{error}");
    for record in records {
        assert!(cause(&record.cause), "{how}: {record}");
        assert_eq!(record.running, [guilty.key()], "{how}: it was the only suspect");
    }
    assert_eq!(notes(&runs).len(), 4, "{how}: once beside others, and three times by itself");
    (0..3).for_each(|i| assert_eq!(notes(&path(&dir, &format!("innocent-{i}"))).len(), 2, "{how}"));
    works(&client);
}

#[test]
fn a_task_that_exits_costs_its_neighbours_no_result() {
    its_neighbours_have_their_results("exit", |cause| *cause == DeathCause::Exited(3));
}

#[test]
fn a_task_that_aborts_costs_its_neighbours_no_result() {
    its_neighbours_have_their_results("abort", |cause| *cause == DeathCause::Signal(Signal::SIGABRT as i32));
}

#[test]
fn a_task_that_segfaults_costs_its_neighbours_no_result() {
    its_neighbours_have_their_results("SIGSEGV", |cause| *cause == DeathCause::Signal(Signal::SIGSEGV as i32));
}

#[test]
fn a_task_that_overflows_its_stack_costs_its_neighbours_no_result() {
    let killed = |cause: &DeathCause| matches!(cause, DeathCause::Signal(_));
    its_neighbours_have_their_results("overflow", killed);
}

#[test]
fn idle_workers_that_are_killed_are_replaced() {
    let _clean = Clean::start();
    let client = processes(2, 1);
    for signal in [Signal::SIGKILL, Signal::SIGSEGV, Signal::SIGHUP, Signal::SIGINT] {
        let victim = pids(&client)[1];
        send_signal(victim, signal);
        until("it is replaced", || {
            let workers = client.workers().unwrap();
            workers.len() == 2 && workers.iter().all(|w| w.pid != victim && w.state == WorkerState::Running)
        });
        works(&client);
        let record = client.deaths().unwrap().pop().unwrap();
        assert_eq!((record.pid, record.cause), (victim, DeathCause::Signal(signal as i32)));
        assert!(record.running.is_empty());
    }
}

/// Started from a shell in the background, for one.
#[test]
fn a_client_may_be_started_where_signals_are_ignored() {
    let _clean = Clean::start();
    let dir = directory();
    let role = role("roles", "idle");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' INT QUIT ALRM; exec \"$0\" \"$@\""]).arg(role.get_program()).args(role.get_args());
    command.envs(role.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("SWATH_TEST_DIR", dir.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    for worker in Player::start(command).pids() {
        let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
        let ignored = u64::from_str_radix(ignored, 16).unwrap();
        let ignores = |signal: Signal| ignored & (1 << (signal as i32 - 1)) != 0;
        assert!(!ignores(Signal::SIGALRM), "it ends a worker whose client has gone");
        assert!(!ignores(Signal::SIGINT), "whoever interrupts others does not reach it: it has a group of its own");
    }
}

#[test]
fn busy_workers_that_are_killed_are_replaced() {
    let _clean = Clean::start();
    let client = processes(2, 2);
    let dir = directory();
    for (i, signal) in [Signal::SIGKILL, Signal::SIGSEGV, Signal::SIGHUP].into_iter().enumerate() {
        let (began, open) = (path(&dir, &format!("began{i}")), path(&dir, &format!("gate{i}")));
        fn hold(began: String, open: String, x: i64) -> i64 {
            note(&began, std::process::id());
            if wait_for_file(&open) { x } else { -1 }
        }
        let kept = client.persist(&delayed(inc).map(0..20)).unwrap();
        let held: Vec<_> = (0..4).map(|x| delayed(hold).call(&*began, &*open, x)).collect();
        let futures = client.submit_all(&held).unwrap();
        until("all four run", || notes(&began).len() == 4);
        let victim: u32 = notes(&began)[0].parse().unwrap();
        send_signal(victim, signal);
        // Each of the two that it ran may be to blame: the second one begins again where the first is not.
        if !comes_true(LONG, || notes(&began).len() == 5) {
            let why: Vec<_> = futures.iter().map(|f| client.explain(f).unwrap()).collect();
            panic!("stuck: {:?} {why:?} {:?} {:?}", notes(&began), client.workers(), client.deaths());
        }
        touch(&open);
        assert_eq!(client.gather(&futures).unwrap(), [0, 1, 2, 3]);
        assert_eq!(notes(&began).len(), 6);
        assert_eq!(client.compute(&kept).unwrap(), (1..=20).collect::<Vec<_>>());
        let record = client.deaths().unwrap().pop().unwrap();
        assert_eq!((record.pid, record.running.len()), (victim, 2));
    }
}

#[test]
fn what_a_dead_worker_had_is_made_again_from_results_whose_handles_have_gone() {
    fn large(x: i64, len: u64) -> Vec<i64> {
        vec![x; len as usize]
    }
    fn sum(all: Vec<i64>) -> i64 {
        all.iter().sum()
    }
    let _clean = Clean::start();
    let client = processes(2, 1);
    for len in [1, 1 << 20] {
        let first = client.submit(&delayed(inc).call(0)).unwrap();
        assert!(first.error().is_none());
        let second = client.submit(&delayed(large).call(&first, len)).unwrap();
        assert!(second.error().is_none());
        drop(first);
        for worker in pids(&client) {
            send_signal(worker, Signal::SIGKILL);
        }
        assert_eq!(client.compute(&delayed(sum).call(&second)).unwrap(), len as i64);
    }
    works(&client);
}

#[test]
fn results_are_right_however_often_workers_die() {
    let _clean = Clean::start();
    let client = Client::builder().workers(3).threads(2).allowed_deaths(1000).build().unwrap();
    client.wait_for_workers(3, LONG).unwrap();
    fn work(x: u64) -> Buffer<u64> {
        std::thread::sleep(Duration::from_millis(1));
        Buffer::from_fn(10_000, |i| x.wrapping_mul(i as u64))
    }
    fn sum(bs: Vec<Buffer<u64>>) -> u64 {
        bs.iter().flat_map(|b| b.iter()).fold(0, |a, b| a.wrapping_add(*b))
    }
    let leaves = delayed(work).map(0..300);
    let sums: Vec<_> = leaves.chunks(10).map(|c| delayed(sum).call(c)).collect();
    let total = delayed(|xs: Vec<u64>| xs.iter().fold(0_u64, |a, b| a.wrapping_add(*b))).call(&sums);
    let wanted = Client::threads(2).compute((&sums, &total)).unwrap();
    let mut killed = HashSet::new();
    for round in 0..3 {
        let all = client.submit_all(&sums).unwrap();
        let future = client.submit(&total).unwrap();
        for i in 0..3 {
            // Something has been done since the last time.
            all[i * 9].result().unwrap();
            let pids = pids(&client);
            if let Some(&victim) = pids.get((round + i) % pids.len().max(1)) {
                send_signal(victim, if i == 1 { Signal::SIGSEGV } else { Signal::SIGKILL });
                // One that is dying may be listed still, and be hit again.
                killed.insert(victim);
            }
        }
        assert_eq!(client.gather(&all).unwrap(), wanted.0);
        assert_eq!(future.result().unwrap(), wanted.1);
    }
    deaths(&client, killed.len());
    client.wait_for_workers(3, LONG).unwrap();
    works(&client);
}

#[test]
fn all_workers_at_once() {
    let _clean = Clean::start();
    let client = processes(3, 1);
    let kept = client.persist(&delayed(|x: i64| vec![x; 20_000]).map(0..10)).unwrap();
    client.compute(&kept).unwrap();
    for _ in 0..3 {
        pids(&client).into_iter().for_each(|pid| send_signal(pid, Signal::SIGKILL));
        let sums: Vec<_> = kept.iter().map(|v| v.map(|v: Vec<i64>| v.iter().sum::<i64>())).collect();
        assert_eq!(client.compute(&sums).unwrap(), (0..10).map(|x| x * 20_000).collect::<Vec<_>>());
    }
}

#[test]
fn a_stopped_worker_is_replaced() {
    let _clean = Clean::start();
    let client = Client::builder().workers(2).worker_timeout(Duration::from_secs(3)).build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    let victim = pids(&client)[0];
    send_signal(victim, Signal::SIGSTOP);
    until("it is seen", || client.workers().unwrap().iter().any(|w| w.state == WorkerState::Stopped));
    let futures: Vec<Future<i64>> = client.map(inc, 0..100_i64).unwrap();
    assert_eq!(client.gather(&futures).unwrap(), (1..=100).collect::<Vec<_>>());
    let record = deaths(&client, 1).remove(0);
    assert_eq!(record.pid, victim);
    assert!(matches!(record.cause, DeathCause::Unresponsive(ms) if ms >= 3000), "{record:?}");
    works(&client);
    // One whose task takes long gives signs of life all the same.
    let dir = directory();
    let file = path(&dir, "gate");
    let slow = client.submit(&delayed(gate).call(&*file, 5)).unwrap();
    assert!(slow.result_timeout(Duration::from_secs(4)).is_err());
    touch(&file);
    assert_eq!(slow.result().unwrap(), 5);
    assert_eq!(client.deaths().unwrap().len(), 1);
}

/// It runs nothing, but owes what is asked for.
#[test]
fn a_stopped_worker_that_holds_a_result_is_replaced() {
    let _clean = Clean::start();
    let client = Client::builder().workers(2).worker_timeout(Duration::from_millis(300)).build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    let make = delayed(|x: i64| vec![x; 100_000]).on_worker("worker-0");
    let held = client.submit(&make.call(7)).unwrap();
    client.wait_timeout(std::slice::from_ref(&held), WaitFor::All, LONG).unwrap();
    let pid_of = |name: &str| client.workers().unwrap().into_iter().find(|w| w.name == name).unwrap().pid;
    let holder = pid_of("worker-0");
    send_signal(holder, Signal::SIGSTOP);
    let sum = delayed(|v: Vec<i64>| v.iter().sum::<i64>()).on_worker("worker-1").call(&held);
    assert_eq!(client.submit(&sum).unwrap().result_timeout(LONG).unwrap(), 700_000);
    let is_it = |d: &DeathRecord| d.pid == holder && matches!(d.cause, DeathCause::Unresponsive(_));
    until("its death is recorded", || client.deaths().unwrap().iter().any(is_it));

    // And one that is to go owes its end.
    client.wait_for_workers(2, LONG).unwrap();
    let last = pid_of("worker-1");
    send_signal(last, Signal::SIGSTOP);
    client.scale(1).unwrap();
    until("it is gone", || !is_alive(last));
}

#[test]
fn a_stopped_worker_does_not_stop_the_end() {
    let _clean = Clean::start();
    let client = processes(2, 1);
    send_signal(pids(&client)[0], Signal::SIGSTOP);
    let began = Instant::now();
    drop(client);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

#[test]
fn a_task_that_ignores_its_cancellation_loses_its_worker() {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(2).cancel_grace(Duration::from_millis(100)).build().unwrap();
    let dir = directory();
    let file = path(&dir, "runs");
    let future = client.submit(&delayed(stubborn).call(&*file)).unwrap();
    until("it runs", || !notes(&file).is_empty());
    client.cancel(&future);
    assert!(future.result().unwrap_err().is_cancelled());
    let record = deaths(&client, 1).remove(0);
    assert_eq!(record.cause, DeathCause::CancelIgnored);
    works(&client);
    assert_eq!(notes(&file).len(), 1);
}

#[test]
fn a_task_that_ignores_its_time_limit_loses_its_worker() {
    let _clean = Clean::start();
    let client = Client::builder().workers(2).threads(1).cancel_grace(Duration::from_millis(100)).build().unwrap();
    let dir = directory();
    let file = path(&dir, "runs");
    client.wait_for_workers(2, LONG).unwrap();
    // It counts from when the task is sent; the task is to have begun by then.
    let limit = Duration::from_secs(1);
    let lazy = delayed(stubborn).timeout(limit).call(&*file);
    let began = Instant::now();
    let error = (&lazy + 1).compute(&client).unwrap_err();
    assert!(began.elapsed() < LONG);
    let task = task_error(&error);
    assert!(matches!(task.cause(), Cause::TimedOut { limit: l } if *l == limit), "{error}");
    assert_eq!(task.key(), lazy.key());
    assert_eq!(deaths(&client, 1)[0].cause, DeathCause::CancelIgnored);
    works(&client);
    // With a retry each attempt has its time.
    let lazy = delayed(stubborn).timeout(limit).retries(1).call(path(&dir, "again"));
    let error = lazy.compute(&client).unwrap_err();
    assert!(matches!(task_error(&error).cause(), Cause::TimedOut { .. }), "{error}");
    assert_eq!(notes(&path(&dir, "again")).len(), 2);
}

#[test]
fn a_client_that_goes_with_work_in_flight_goes_at_once() {
    let _clean = Clean::start();
    let dir = directory();
    let client = processes(2, 2);
    let lazies: Vec<_> = (0..50).map(|i| delayed(stubborn).call(path(&dir, &format!("f{}", i % 2)))).collect();
    let futures = client.submit_all(&lazies).unwrap();
    until("some run", || !notes(&path(&dir, "f0")).is_empty());
    let waiting = {
        let future = futures[0].clone();
        std::thread::spawn(move || future.result())
    };
    let began = Instant::now();
    client.shutdown();
    drop(client);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    let error = waiting.join().unwrap().unwrap_err();
    assert!(matches!(task_error(&error).cause(), Cause::Closed { .. }), "{error}");
    assert!(futures.iter().all(|f| f.result().is_err()));
    // Clients that go while their workers start.
    for _ in 0..10 {
        drop(Client::local(2, 1, MemoryLimit::None).unwrap());
    }
}

#[test]
fn dropped_futures_cancel_their_work() {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(1).cancel_grace(LONG).build().unwrap();
    let dir = directory();
    fn listening(file: String) -> i64 {
        note(&file, "runs");
        comes_true(LONG, swath::cancelled);
        0
    }
    let file = path(&dir, "runs");
    let futures: Vec<_> = (0..10).map(|_| client.submit(&delayed(listening).call(&*file)).unwrap()).collect();
    let dependent = client.submit(&(futures[5].delayed() + 1)).unwrap();
    until("the first runs", || !notes(&file).is_empty());
    drop(futures);
    drop(dependent);
    // All of them would take ten times as long.
    let next = client.submit(&delayed(inc).call(1)).unwrap();
    assert_eq!(next.result_timeout(LONG).unwrap(), 2);
    assert!(notes(&file).len() <= 2, "{:?}", notes(&file));
    assert!(client.deaths().unwrap().is_empty());
}

#[test]
fn workers_that_are_not_replaced() {
    let _clean = Clean::start();
    let client = Client::builder().workers(2).restart_policy(RestartPolicy::Never).build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    let first = pids(&client);
    send_signal(first[0], Signal::SIGKILL);
    deaths(&client, 1);
    works(&client);
    assert_eq!(pids(&client), first[1..]);
    let dir = directory();
    let file = path(&dir, "runs");
    let future = client.submit(&delayed(stubborn).call(&*file)).unwrap();
    until("it runs", || !notes(&file).is_empty());
    send_signal(first[1], Signal::SIGKILL);
    let error = future.result_timeout(LONG).unwrap_err();
    assert!(matches!(task_error(&error).cause(), Cause::Closed { .. } | Cause::Infeasible { .. }), "{error}");
    assert!(delayed(inc).call(1).compute(&client).is_err());
}

#[test]
fn shared_memory_has_a_limit() {
    let _clean = Clean::start();
    let client = Client::builder().workers(2).shared_memory_limit("16MiB").build().unwrap();
    let make = delayed(|mib: usize| Buffer::from_slice(&vec![7_u8; mib << 20]));
    assert_eq!(make.call(4).compute(&client).unwrap().len(), 4 << 20);
    let large = make.call(40);
    let error = large.compute(&client).unwrap_err();
    let task = task_error(&error);
    assert!(matches!(task.cause(), Cause::Resource { reason } if reason.contains("shared_memory_limit")), "{error}");
    assert_eq!(task.key(), large.key());
    // Within a worker there is room.
    assert_eq!(large.map(|b: Buffer| b.len()).compute(&client).unwrap(), 40 << 20);
    match client.scatter(Buffer::from_slice(&vec![1_u8; 40 << 20])).unwrap_err() {
        Error::Resource { reason, .. } => assert!(reason.contains("shared_memory_limit"), "{reason}"),
        other => panic!("{other}"),
    }
    let call = delayed(|b: Buffer| b.len()).call(Buffer::from_slice(&vec![1_u8; 40 << 20]));
    let error = call.compute(&client).unwrap_err();
    assert!(error.to_string().contains("shared_memory_limit"), "{error}");
    // Used up bit by bit, and given back.
    let mut kept = Vec::new();
    let error = loop {
        match make.call(3).compute(&client) {
            Ok(buffer) => kept.push(buffer),
            Err(e) => break e,
        }
        assert!(kept.len() < 10);
    };
    assert!(error.to_string().contains("shared_memory_limit"), "{error}");
    assert!(kept.len() >= 3);
    works(&client);
    drop(kept);
    until("it is given back", || make.call(3).compute(&client).is_ok());
}

#[test]
fn what_a_dead_worker_held_of_shared_memory_is_given_back() {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).shared_memory_limit("32MiB").allowed_deaths(100).build().unwrap();
    fn make(i: u8) -> Buffer {
        Buffer::from_fn(12 << 20, |_| i)
    }
    for i in 0..6 {
        let kept = delayed(make).call(i).persist(&client).unwrap();
        assert_eq!(kept.map(|b: Buffer| b[5]).compute(&client).unwrap(), i);
        send_signal(pids(&client)[0], Signal::SIGKILL);
        deaths(&client, usize::from(i) + 1);
        assert_eq!(kept.compute(&client).unwrap()[6], i);
    }
}

#[test]
fn processes_that_tasks_leave_behind_hold_nothing_up() {
    let _clean = Clean::start();
    let client = processes(1, 1);
    #[allow(clippy::zombie_processes, reason = "that it is left behind is the point")]
    fn leave() -> u32 {
        let child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        child.id()
    }
    let start = delayed(leave);
    let orphan = start.call().compute(&client).unwrap();
    assert!(is_alive(orphan));
    send_signal(pids(&client)[0], Signal::SIGKILL);
    works(&client);
    let second = start.call().compute(&client).unwrap();
    let began = Instant::now();
    drop(client);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    until("they have ended with their workers", || ![orphan, second].into_iter().any(is_alive));
}

/// A role that runs, and what it says.
struct Player {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Player {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn hear(&mut self) -> String {
        for line in self.lines.by_ref() {
            if let Some(word) = line.unwrap().strip_prefix('@') {
                return word.to_string();
            }
        }
        panic!("the role ended without a word: {:?}", self.child.wait());
    }

    fn pids(&mut self) -> Vec<u32> {
        self.hear().split(' ').map(|pid| pid.parse().unwrap()).collect()
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say_pids(client: &Client) {
    say(pids(client).iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
}

fn forever() -> ! {
    loop {
        std::thread::park();
    }
}

/// Played by processes of their own.
#[test]
fn roles() {
    let Some(role) = my_role() else { return };
    if let Some(role) = role.strip_prefix("few descriptors: ") {
        return faults::descriptors::play_role(role);
    }
    let dir = std::env::var("SWATH_TEST_DIR").unwrap_or_default();
    let file = |name: &str| format!("{dir}/{name}");
    match &*role {
        "starting" => {
            let client = Client::local(4, 2, MemoryLimit::None).unwrap();
            say_pids(&client);
            forever();
        }
        "idle" => {
            let client = processes(2, 2);
            say_pids(&client);
            forever();
        }
        "busy" => {
            let client = processes(2, 2);
            let lazies: Vec<_> = (0..100).map(|_| delayed(stubborn).call(file("runs"))).collect();
            let _futures = client.submit_all(&lazies).unwrap();
            until("they run", || notes(&file("runs")).len() == 4);
            say_pids(&client);
            forever();
        }
        "spinning" => {
            let client = processes(2, 1);
            fn spin(file: String) -> u64 {
                note(&file, "runs");
                let mut x = 0_u64;
                loop {
                    x = std::hint::black_box(x.wrapping_add(1));
                }
            }
            let _futures: Vec<_> = (0..2).map(|_| client.submit(&delayed(spin).call(file("runs"))).unwrap()).collect();
            until("they run", || notes(&file("runs")).len() == 2);
            say_pids(&client);
            forever();
        }
        "holding" => {
            let client = processes(2, 1);
            let kept = client.persist(&delayed(|i: u64| Buffer::from_fn(1 << 18, |_| i)).map(0..8)).unwrap();
            let here = client.compute(&kept).unwrap();
            let _given = client.scatter(Buffer::from_slice(&[1_u8; 1 << 20])).unwrap();
            say_pids(&client);
            drop(here);
            forever();
        }
        "nested" => {
            let client = processes(1, 1);
            fn outer(n: u64, file: String) -> i64 {
                let client = swath::current_client().unwrap();
                match n {
                    0 => delayed(stubborn).call(file).compute(&client).unwrap(),
                    n => delayed(outer).call(n - 1, file).compute(&client).unwrap(),
                }
            }
            let _future = client.submit(&delayed(outer).call(5, file("runs"))).unwrap();
            until("it runs", || !notes(&file("runs")).is_empty());
            say_pids(&client);
            forever();
        }
        "submitting" => {
            let client = processes(2, 1);
            say_pids(&client);
            loop {
                client.compute(&delayed(inc).map(0..1000)).unwrap();
            }
        }
        "exits" => {
            let client = processes(2, 1);
            let _future = client.submit(&delayed(stubborn).call(file("runs"))).unwrap();
            until("it runs", || !notes(&file("runs")).is_empty());
            say_pids(&client);
            std::process::exit(0);
        }
        "full" => match Client::local(2, 1, MemoryLimit::None) {
            Ok(client) => say(format!("started {client}")),
            Err(e @ Error::Resource { .. }) => say(format!("Resource {e}")),
            Err(e) => say(e.to_string()),
        },
        "fills up" => {
            let client = processes(2, 1);
            let filler = "/dev/shm/filler";
            let mut bytes = vec![0_u8; 1 << 20];
            while !bytes.is_empty() && fs::write(filler, &bytes).is_err() {
                bytes.truncate(bytes.len() - 4096);
            }
            send_signal(pids(&client)[0], Signal::SIGKILL);
            deaths(&client, 1);
            works(&client);
            say(pids(&client).len());
            fs::remove_file(filler).unwrap();
            client.wait_for_workers(2, LONG).unwrap();
            works(&client);
            say("recovered");
        }
        "spills" => {
            fn block(x: u8) -> Buffer<u8> {
                vec![x; 4 << 20].into()
            }
            fn last(values: Buffer<u8>) -> u8 {
                values[(4 << 20) - 1]
            }
            let client = Client::builder()
                .workers(1)
                .memory_limit("64MiB")
                .spill_directory("/dev/shm")
                .forward_output(false)
                .build()
                .unwrap();
            let futures = client.submit_all(&delayed(block).map(0..60_u8)).unwrap();
            let results: Vec<_> = futures.iter().map(|f| client.compute(&delayed(last).call(f))).collect();
            let right = |(i, r): (usize, &Result<u8, Error>)| r.as_ref().is_ok_and(|x| usize::from(*x) == i);
            say(results.iter().enumerate().filter(|(i, r)| right((*i, *r))).count());
            say(results.iter().find_map(|r| r.as_ref().err()).unwrap());
            drop((futures, results));
            let sums = (0..60_u8).map(|x| delayed(last).call(delayed(block).call(x))).collect::<Vec<_>>();
            assert_eq!(client.compute(&sums).unwrap().len(), 60, "there is room again");
            say(format!("{:?}", client.deaths().unwrap()));
        }
        "short files" => {
            setrlimit(Resource::RLIMIT_FSIZE, 10 << 10, 10 << 10).unwrap();
            say(Client::local(1, 1, MemoryLimit::None).unwrap_err());
            let grouped = Bag::range(0..100_000, 4).groupby(|x| x % 1000, None).count();
            say(grouped.compute(&Client::threads(2)).unwrap_err());
        }
        "descriptors" => {
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            let open = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
            setrlimit(Resource::RLIMIT_NOFILE, open + 20, hard).unwrap();
            match Client::local(16, 1, MemoryLimit::None) {
                Ok(client) => say(format!("started {client}")),
                Err(e @ Error::Resource { .. }) => say(format!("Resource {e}")),
                Err(e) => say(e.to_string()),
            }
            // Two are those that actix keeps for signals.
            say(comes_true(GONE, || fs::read_dir("/proc/self/fd").unwrap().count() as u64 <= open + 2));
            setrlimit(Resource::RLIMIT_NOFILE, hard.min(1024), hard).unwrap();
            works(&processes(16, 1));
            say("recovered");
        }
        "descriptors of values" => {
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            let client = processes(2, 1);
            let open = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
            setrlimit(Resource::RLIMIT_NOFILE, open + 30, hard).unwrap();
            let make = delayed(|i: u64| Buffer::from_fn(1 << 14, |_| i));
            let mut kept = Vec::new();
            let mut failure = None;
            for i in 0..200 {
                let call = make.call(i);
                match call.submit(&client).and_then(|f| f.result_timeout(LONG / 3)) {
                    Ok(buffer) => kept.push(buffer),
                    Err(e) => {
                        if let Some(task) = e.task() {
                            assert_eq!((task.key(), task.needed_by()), (&*call.key(), None), "{e}");
                        }
                        failure = Some(e);
                        break;
                    }
                }
            }
            match failure {
                Some(e @ Error::Resource { .. }) => say(format!("Resource {e}")),
                Some(e) => say(e.to_string()),
                None => say(format!("none in {}", kept.len())),
            }
            assert!(kept.iter().enumerate().all(|(i, b)| b[7] == i as u64));
            drop(kept);
            until("it works again", || make.call(1).compute(&client).is_ok_and(|b| b[3] == 1));
            client.wait_for_workers(2, LONG).unwrap();
            works(&client);
            say("recovered");
        }
        "replaced" => {
            let client = processes(2, 1);
            let kept = client.persist(&delayed(inc).map(0..10)).unwrap();
            client.compute(&kept).unwrap();
            say("ready");
            until("the file is another one", || Path::new(&file("replaced")).exists());
            let before = pids(&client);
            client.restart().unwrap();
            until("they are new", || {
                let now = pids(&client);
                now.len() == 2 && now.iter().all(|p| !before.contains(p))
            });
            client.wait_for_workers(2, LONG).unwrap();
            let total: Delayed<i64> = kept.iter().sum();
            say(total.compute(&client).unwrap());
        }
        other => panic!("no role {other}"),
    }
}

fn leaves_nothing(role_name: &str) -> Duration {
    leaves_nothing_after(role_name, |_| ())
}

/// How long it took until nothing was left.
fn leaves_nothing_after(role_name: &str, before: impl FnOnce(&[u32])) -> Duration {
    let dir = directory();
    let mut command = role("roles", role_name);
    // Whatever it or its workers put there for themselves must be gone.
    let own = path(&dir, "tmp");
    fs::create_dir(&own).unwrap();
    command.env("SWATH_TEST_DIR", dir.path()).env("TMPDIR", &own);
    let mut player = Player::start(command);
    let workers = player.pids();
    let pid = player.child.id();
    before(&workers);
    if role_name != "exits" {
        send_signal(pid, Signal::SIGKILL);
    }
    player.child.wait().unwrap();
    let killed = Instant::now();
    let gone = comes_true(GONE, || {
        workers.iter().all(|&w| !is_alive(w)) && pages_of(pid).is_empty() && fs::read_dir(&own).unwrap().count() == 0
    });
    let alive: Vec<_> = workers.iter().filter(|&&w| is_alive(w)).collect();
    assert!(gone, "{role_name}: {alive:?} of {workers:?} live, and there are {:?}", pages_of(pid));
    killed.elapsed()
}

#[test]
fn a_client_killed_while_it_starts_leaves_nothing() {
    let _clean = Clean::start();
    let quickest = (0..5).map(|_| leaves_nothing("starting")).min().unwrap();
    assert!(quickest < SOON, "{quickest:?}");
}

#[test]
fn an_idle_client_killed_leaves_nothing() {
    let _clean = Clean::start();
    leaves_nothing("idle");
}

#[test]
fn a_client_killed_while_workers_are_stopped_leaves_nothing() {
    let _clean = Clean::start();
    leaves_nothing_after("idle", |workers| send_signal(workers[0], Signal::SIGSTOP));
    leaves_nothing_after("busy", |workers| workers.iter().for_each(|&w| send_signal(w, Signal::SIGSTOP)));
}

#[test]
fn a_busy_client_killed_leaves_nothing() {
    let _clean = Clean::start();
    let quickest = ["busy", "spinning", "nested"].map(leaves_nothing).into_iter().min().unwrap();
    assert!(quickest < SOON, "{quickest:?}");
}

#[test]
fn a_client_killed_while_it_submits_leaves_nothing() {
    let _clean = Clean::start();
    for _ in 0..3 {
        leaves_nothing("submitting");
    }
}

#[test]
fn a_client_killed_with_large_values_leaves_nothing() {
    let _clean = Clean::start();
    leaves_nothing("holding");
}

#[test]
fn a_client_that_exits_without_a_word_leaves_nothing() {
    let _clean = Clean::start();
    leaves_nothing("exits");
}

/// A role in a mount namespace of its own, with a small /dev/shm. None where that is not permitted.
fn with_small_shm(size: &str, role_name: &str) -> Option<Command> {
    let Some(how) = permitted::mount_namespace() else {
        permitted::skip("no mount namespace can be had");
        return None;
    };
    let inner = role("roles", role_name);
    let mut command = Command::new("unshare");
    command.args([how, "sh", "-c"]);
    command.arg(format!("mount -t tmpfs -o size={size} tmpfs /dev/shm && exec \"$0\" \"$@\""));
    command.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.stdin(Stdio::null());
    Some(command)
}

#[test]
fn a_full_dev_shm_is_an_error() {
    let _clean = Clean::start();
    for size in ["4k", "8k"] {
        let Some(command) = with_small_shm(size, "full") else { return };
        let words = play(command);
        assert!(words[0].starts_with("Resource") && words[0].contains("/dev/shm"), "{size}: {words:?}");
    }
    assert!(play(with_small_shm("1m", "full").unwrap())[0].starts_with("started"));
}

#[test]
fn a_dev_shm_that_fills_up_is_survived() {
    let _clean = Clean::start();
    let Some(command) = with_small_shm("64k", "fills up") else { return };
    assert_eq!(play(command), ["1", "recovered"]);
}

#[test]
fn a_spill_directory_that_is_full_fails_what_does_not_fit_and_nothing_else() {
    let _clean = Clean::start();
    let Some(command) = with_small_shm("66m", "spills") else { return };
    let words = play(command);
    let right: usize = words[0].parse().unwrap();
    // Of 4 MiB each: 64 MiB less the control pages on disk, and up to 80 % of as much in memory.
    assert!((20..40).contains(&right), "{words:?}");
    assert!(words[1].contains("is full") && words[1].contains("does not fit"), "{words:?}");
    assert_eq!(words[2], "[]", "deaths");
}

#[test]
fn files_over_the_size_limit_are_errors_and_end_no_program() {
    let _clean = Clean::start();
    let words = play(role("roles", "short files"));
    assert_eq!(words.len(), 2, "{words:?}");
    assert!(words.iter().all(|error| error.contains("ulimit -f")), "{words:?}");
    assert!(!words[1].contains("TMPDIR"), "{words:?}");
}

#[test]
fn too_few_descriptors_for_workers_are_an_error() {
    let _clean = Clean::start();
    let words = play(role("roles", "descriptors"));
    assert!(words[0].starts_with("Resource") && words[0].contains("ulimit -n"), "{words:?}");
    assert_eq!(words[1], "true", "descriptors are left open");
    assert_eq!(words[2], "recovered");
}

#[test]
fn too_few_descriptors_for_values_are_an_error() {
    let _clean = Clean::start();
    let words = play(role("roles", "descriptors of values"));
    assert!(words[0].starts_with("none") || words[0].contains("descriptor"), "{words:?}");
    assert_eq!(words[1], "recovered");
}

#[test]
fn workers_start_again_when_the_program_has_been_replaced() {
    let _clean = Clean::start();
    for replaced in [true, false] {
        let dir = directory();
        let copy = dir.path().join("program");
        fs::copy(executable(), &copy).unwrap();
        let mut command = role_of(&copy, "roles", "replaced");
        command.env("SWATH_TEST_DIR", dir.path());
        let mut player = Player::start(command);
        assert_eq!(player.hear(), "ready");
        fs::remove_file(&copy).unwrap();
        if replaced {
            fs::copy("/bin/true", &copy).unwrap();
        }
        touch(&path(&dir, "replaced"));
        assert_eq!(player.hear(), "55");
        assert!(player.child.wait().unwrap().success());
    }
}

#[test]
fn errors_and_panics_leave_the_worker_alone() {
    let _clean = Clean::start();
    let client = processes(1, 2);
    let before = pids(&client);
    let lazies: Vec<_> = (0..200)
        .map(|i| {
            try_delayed(|x: i64| match x % 3 {
                0 => Ok(x),
                1 => Err(format!("no {x}")),
                _ => panic!("at {x}"),
            })
            .call(i)
        })
        .collect();
    let futures = client.submit_all(&lazies).unwrap();
    for (i, future) in (0..).zip(&futures) {
        match (i % 3, future.result()) {
            (0, Ok(x)) => assert_eq!(x, i),
            (1, Err(e)) => assert_eq!(task_error(&e).downcast::<String>(), Some(format!("no {i}"))),
            (_, Err(e)) => {
                assert!(matches!(task_error(&e).cause(), Cause::Panic { message, .. } if *message == format!("at {i}")))
            }
            (_, Ok(x)) => panic!("{i}: {x}"),
        }
    }
    assert_eq!(pids(&client), before);
    assert_eq!(value(1).compute(&client).unwrap(), 1);
}
