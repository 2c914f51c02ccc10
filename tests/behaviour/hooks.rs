//! What each worker does before its first task and when it ends in order.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the last words of a set-up are read")]

use crate::common::*;
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use swath::client::Builder;
use swath::error::DeathCause;
use swath::status::Mode;
use swath::{Client, Error, delayed};

/// Where the functions below note what they do, if that is in this process; workers do so beside their directory for
/// temporary files.
static HERE: Mutex<Option<PathBuf>> = Mutex::new(None);
/// How often this process has been set up.
static SET_UP: AtomicU32 = AtomicU32::new(0);

fn file() -> String {
    let beside = || std::env::temp_dir().parent().unwrap().to_path_buf();
    HERE.lock().clone().unwrap_or_else(beside).join("hooks").to_str().unwrap().to_string()
}

fn set_up() -> Result<(), std::io::Error> {
    std::thread::sleep(Duration::from_millis(50));
    SET_UP.fetch_add(1, Ordering::SeqCst);
    assert!(swath::task::current_task().is_none() && swath::current_client().is_none());
    note(&file(), format!("init {}", std::process::id()));
    writeln!(std::io::stdout(), "is set up")?;
    Ok(())
}

fn wind_up() -> Result<(), String> {
    assert!(swath::task::current_task().is_none() && swath::current_client().is_none());
    note(&file(), format!("exit {}", std::process::id()));
    Err("nobody minds".to_string())
}

/// The process, and how often it has been set up.
fn seen(_: u64) -> (u32, u32) {
    (std::process::id(), SET_UP.load(Ordering::SeqCst))
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Sync,
    Threads,
    Processes,
    Cluster,
}

/// Runs a part of a test for each kind of client, given options for it and the file with the notes.
fn in_each_kind(part: fn(Kind, Builder, &str)) {
    let _clean = Clean::start();
    for kind in [Kind::Sync, Kind::Threads, Kind::Processes] {
        let dir = directory();
        let here = matches!(kind, Kind::Sync | Kind::Threads);
        *HERE.lock() = here.then(|| dir.path().to_path_buf());
        SET_UP.store(0, Ordering::SeqCst);
        let builder = match kind {
            Kind::Sync => Client::builder().mode(Mode::Sync),
            Kind::Threads => Client::builder().mode(Mode::Threads).threads(2),
            _ => noting_in(&dir).workers(2),
        };
        part(kind, builder, &path(&dir, "hooks"));
    }
    crate::with_cluster(|socket| {
        let file = socket.parent().unwrap().parent().unwrap().join("hooks");
        part(Kind::Cluster, Client::builder().cluster(socket), file.to_str().unwrap());
    });
}

/// Options of a client whose workers note what they do in a file there.
fn noting_in(dir: &tempfile::TempDir) -> Builder {
    let temporary = dir.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    Client::builder().worker_env("TMPDIR", temporary.to_str().unwrap()).forward_output(false)
}

fn count(file: &str, what: &str) -> usize {
    notes(file).iter().filter(|line| line.starts_with(what)).count()
}

fn sees_one_set_up(client: &Client) {
    let futures = client.map(seen, 0..40).unwrap();
    for (process, times) in client.gather(&futures).unwrap() {
        assert_eq!(times, 1, "process {process}");
    }
}

#[test]
fn each_worker_is_set_up_before_its_first_task_also_one_that_replaces_another() {
    in_each_kind(|kind, builder, file| {
        let client = builder.worker_init(set_up).build().unwrap();
        // A task's own time does not begin before.
        let quick = delayed(seen).timeout(Duration::from_millis(1000)).call(0);
        assert_eq!(client.compute(&quick).unwrap().1, 1);
        sees_one_set_up(&client);
        if matches!(kind, Kind::Sync | Kind::Threads) {
            return assert_eq!(notes(file), [format!("init {}", std::process::id())]);
        }
        client.wait_for_workers(2, LONG).unwrap();
        assert_eq!(count(file, "init"), 2);
        send_signal(pids(&client)[0], Signal::SIGKILL);
        until("a third one is set up", || count(file, "init") == 3);
        sees_one_set_up(&client);
        until("what it prints is there", || {
            client.logs().unwrap().iter().filter(|line| line.text == "is set up").count() == 3
        });
    });
}

#[test]
fn closures_are_told_as_functions_are() {
    let client = Client::builder().workers(1).worker_init(|| {
        SET_UP.store(7, Ordering::SeqCst);
        Ok::<(), std::fmt::Error>(())
    });
    assert_eq!(client.build().unwrap().compute(&delayed(seen).call(0)).unwrap().1, 7);
}

fn fails() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    #[derive(Debug, thiserror::Error)]
    #[error("the model is missing")]
    struct Missing(#[source] std::num::ParseIntError);
    Err(Box::new(Missing("x".parse::<u8>().unwrap_err())))
}

fn panics() -> Result<(), String> {
    panic!("no {} here", "licence")
}

#[test]
fn a_set_up_that_fails_is_told_to_whoever_waits() {
    in_each_kind(|kind, builder, _| {
        // A cluster has a time-out of its own, which is longer.
        if kind == Kind::Cluster {
            return;
        }
        let builder = builder.start_timeout(Duration::from_millis(700));
        for (builder, words) in [
            (
                builder.clone().worker_init(fails),
                "`worker_init` failed: the model is missing: invalid digit found in string",
            ),
            (builder.worker_init(panics), "`worker_init` panicked at tests/behaviour/hooks.rs"),
        ] {
            let error = match builder.build() {
                Err(error) => error,
                Ok(client) => {
                    let future = client.submit(&delayed(seen).call(1)).unwrap();
                    let error = future.result_timeout(LONG).unwrap_err();
                    let deaths = client.deaths().unwrap_err();
                    assert!(matches!(&deaths, Error::Spawn { reason } if reason.contains(words)), "{deaths}");
                    assert!(matches!(client.submit(&delayed(seen).call(1)).unwrap_err(), Error::Spawn { .. }));
                    error
                }
            };
            assert!(matches!(&error, Error::Spawn { reason } if reason.contains(words)), "{error}");
        }
    });
}

#[test]
fn a_worker_that_was_not_set_up_is_a_death_with_its_words() {
    static FAILED: &str = "failed-once";
    fn fails_once() -> Result<(), String> {
        let file = std::env::temp_dir().join(FAILED);
        match std::fs::exists(&file) {
            Ok(true) => Ok(()),
            _ => {
                std::fs::write(file, "").map_err(|e| e.to_string())?;
                Err("not this time".to_string())
            }
        }
    }
    let _clean = Clean::start();
    let dir = directory();
    let builder = noting_in(&dir).workers(1);
    let client = builder.worker_init(fails_once).build().unwrap();
    assert_eq!(client.compute(&delayed(|x: u64| x + 1).call(1)).unwrap(), 2);
    let deaths = client.deaths().unwrap();
    assert_eq!(deaths.len(), 1);
    assert_eq!(deaths[0].cause, DeathCause::Init("failed: not this time".to_string()), "{}", deaths[0]);
    assert!(deaths[0].to_string().contains("was not set up: its `worker_init` failed: not this time"), "{}", deaths[0]);
}

#[test]
fn a_set_up_that_takes_too_long_is_a_death() {
    fn hangs() -> Result<(), String> {
        comes_true(LONG, || false);
        Ok(())
    }
    let _clean = Clean::start();
    let client =
        Client::builder().workers(1).start_timeout(Duration::from_millis(300)).worker_init(hangs).build().unwrap();
    let error = client.compute(&delayed(seen).call(1)).unwrap_err();
    assert!(matches!(&error, Error::Spawn { reason } if reason.contains("took more than 300ms")), "{error}");
}

#[test]
fn a_set_up_that_hangs_is_told_the_first_time() {
    fn hangs() -> Result<(), String> {
        note(&file(), "hangs");
        comes_true(LONG, || false);
        Ok(())
    }
    let _clean = Clean::start();
    let dir = directory();
    let builder = noting_in(&dir).workers(1).start_timeout(Duration::from_millis(500));
    let client = builder.worker_init(hangs).build().unwrap();
    let error = client.compute(&delayed(seen).call(1)).unwrap_err();
    assert!(matches!(&error, Error::Spawn { reason } if reason.contains("took more than 500ms")), "{error}");
    assert_eq!(count(&path(&dir, "hooks"), "hangs"), 1, "whoever waits has waited for one start");
}

#[test]
fn a_set_up_that_ends_its_process_is_told_with_its_last_words() {
    fn exits() -> Result<(), String> {
        println!("looking for the model");
        eprintln!("no model at /models/a");
        std::process::exit(4)
    }
    fn aborts() -> Result<(), String> {
        eprintln!("no model at /models/a");
        std::process::abort()
    }
    let _clean = Clean::start();
    let builder = || Client::builder().workers(2).start_timeout(Duration::from_millis(500)).forward_output(false);
    for (builder, words) in [
        (builder().worker_init(exits), "`worker_init` had not ended when its process exited with code 4"),
        (builder().worker_init(aborts), "`worker_init` had not ended when its process was killed by SIGABRT"),
    ] {
        let client = builder.build().unwrap();
        let future = client.submit(&delayed(seen).call(1)).unwrap();
        let error = future.result_timeout(LONG).unwrap_err();
        for words in [words, "no model at /models/a"] {
            assert!(matches!(&error, Error::Spawn { reason } if reason.contains(words)), "{error}");
        }
    }
}

#[test]
fn a_worker_that_is_sent_sigterm_as_soon_as_it_is_born_retires() {
    let _clean = Clean::start();
    let dir = directory();
    for builder in [Client::builder(), noting_in(&dir).worker_init(set_up)] {
        let client = builder.workers(1).forward_output(false).build().unwrap();
        let mut before = Vec::new();
        for delay in [0, 0, 1, 2, 3, 5, 8, 13, 20, 30, 40, 60] {
            until("there is another one", || {
                let now = pids(&client);
                !now.is_empty() && now != before
            });
            before = pids(&client);
            std::thread::sleep(Duration::from_millis(delay));
            send_signal(before[0], Signal::SIGTERM);
        }
        assert_eq!(client.compute(&delayed(|x: u64| x + 1).call(1)).unwrap(), 2);
        assert!(client.deaths().unwrap().is_empty(), "{:?}", client.deaths());
    }
}

#[test]
fn who_restarts_a_worker_whose_replacement_fails_is_told() {
    fn fails_while_asked() -> Result<(), String> {
        let wrong = std::env::temp_dir().join("wrong");
        let text = std::fs::read_to_string(wrong).unwrap_or_default();
        match text.as_str() {
            "" => Ok(()),
            "hang" => {
                comes_true(LONG, || false);
                Ok(())
            }
            "exit" | "abort" => {
                eprintln!("the licence has expired");
                if text == "exit" {
                    std::process::exit(3)
                }
                std::process::abort()
            }
            text => Err(text.to_string()),
        }
    }
    let _clean = Clean::start();
    let dir = directory();
    let builder = noting_in(&dir).workers(2).start_timeout(Duration::from_millis(600));
    let client = builder.worker_init(fails_while_asked).build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    for (how, words) in [
        ("no model", "no model"),
        ("hang", "took more than 600ms"),
        ("exit", "exited with code 3"),
        ("abort", "killed by SIGABRT"),
    ] {
        std::fs::write(dir.path().join("tmp/wrong"), how).unwrap();
        let began = std::time::Instant::now();
        let error = client.restart_worker("worker-0", Duration::from_millis(200)).unwrap_err();
        assert!(matches!(&error, Error::Spawn { reason } if reason.contains(words)), "{how}: {error}");
        assert!(error.to_string().contains("`worker_init`"), "{how}: {error}");
        let is_last = error.to_string().contains("the licence has expired");
        assert_eq!(is_last, ["exit", "abort"].contains(&how), "{how}: {error}");
        // Nothing but this ends the wait.
        assert!(began.elapsed() < LONG, "{how}");
        std::fs::remove_file(dir.path().join("tmp/wrong")).unwrap();
        client.wait_for_workers(2, LONG).unwrap();
    }
}

#[test]
fn workers_wind_up_when_they_end_in_order() {
    in_each_kind(|kind, builder, file| {
        let client = builder.worker_init(set_up).worker_exit(wind_up).build().unwrap();
        sees_one_set_up(&client);
        if matches!(kind, Kind::Processes | Kind::Cluster) {
            client.wait_for_workers(2, LONG).unwrap();
            // One that is killed does not; one that is sent SIGTERM does.
            let two = pids(&client);
            send_signal(two[0], Signal::SIGKILL);
            until("it is replaced", || count(file, "init") == 3);
            client.wait_for_workers(2, LONG).unwrap();
            assert_eq!(count(file, "exit"), 0);
            send_signal(two[1], Signal::SIGTERM);
            until("it has wound up", || notes(file).contains(&format!("exit {}", two[1])));
            until("it is replaced", || count(file, "init") == 4);
            client.wait_for_workers(2, LONG).unwrap();
        }
        assert_eq!(count(file, "exit"), usize::from(matches!(kind, Kind::Processes | Kind::Cluster)));
        client.shutdown();
        drop(client);
        match kind {
            Kind::Sync | Kind::Threads => assert_eq!(count(file, "exit"), 1),
            Kind::Processes => assert_eq!(count(file, "exit"), 3),
            // They stay for a while, for the next program.
            Kind::Cluster => {}
        }
    });
}

#[test]
fn a_worker_that_is_recycled_winds_up() {
    let _clean = Clean::start();
    let dir = directory();
    let file = path(&dir, "hooks");
    let builder = noting_in(&dir).workers(1).recycle_after(1);
    let client = builder.worker_exit(wind_up).build().unwrap();
    assert_eq!(client.compute(&delayed(|x: u64| x + 1).call(1)).unwrap(), 2);
    until("it has wound up", || count(&file, "exit") == 1);
    assert!(client.deaths().unwrap().is_empty());
}

#[test]
fn what_workers_do_at_their_end_may_take_a_while() {
    fn slowly() -> Result<(), String> {
        std::thread::sleep(Duration::from_millis(900));
        wind_up()
    }
    let _clean = Clean::start();
    let dir = directory();
    let client = noting_in(&dir).workers(1).worker_exit(slowly);
    let client = client.build().unwrap();
    client.wait_for_workers(1, LONG).unwrap();
    client.shutdown();
    assert_eq!(count(&path(&dir, "hooks"), "exit"), 1);
}

#[test]
fn programs_of_a_cluster_that_set_up_otherwise_have_other_workers() {
    static OTHER: AtomicBool = AtomicBool::new(false);
    fn otherwise() -> Result<(), String> {
        OTHER.store(true, Ordering::SeqCst);
        Ok(())
    }
    fn is_other() -> bool {
        OTHER.load(Ordering::SeqCst)
    }
    let _clean = Clean::start();
    crate::with_cluster(|socket| {
        let plain = Client::connect(socket).unwrap();
        let other = Client::builder().cluster(socket).worker_init(otherwise).build().unwrap();
        let again = Client::builder().cluster(socket).worker_init(otherwise).build().unwrap();
        let failing = Client::builder().cluster(socket).worker_init(fails).build().unwrap();
        let waiting = failing.submit(&delayed(is_other).call()).unwrap();
        for (client, is) in [(&plain, false), (&other, true), (&again, true)] {
            assert_eq!(client.compute(&delayed(is_other).call()).unwrap(), is);
            client.wait_for_workers(2, LONG).unwrap();
        }
        assert_eq!(pids(&other), pids(&again));
        assert!(pids(&plain).iter().all(|pid| !pids(&other).contains(pid)));
        until("its workers die", || !failing.deaths().unwrap().is_empty());
        assert!(failing.deaths().unwrap()[0].to_string().contains("the model is missing"));
        assert!(plain.deaths().unwrap().is_empty());
        drop(waiting);
    });
}

#[test]
fn a_cluster_takes_no_functions_for_other_programs() {
    let refused = swath::local::serve(Client::builder().worker_init(set_up), |_| unreachable!()).unwrap_err();
    assert!(refused.to_string().contains("each program names its own"), "{refused}");
}

#[test]
fn a_worker_that_retires_before_it_is_set_up_goes_though_the_user_scales_up_again() {
    fn set_up_at_the_gate() -> Result<(), String> {
        wait_for_file(&format!("{}-gate", file()));
        Ok(())
    }
    let _clean = Clean::start();
    let dir = directory();
    let client = noting_in(&dir).workers(2).worker_init(set_up_at_the_gate).build().unwrap();
    until("both have been started", || pids(&client).len() == 2);
    let before = pids(&client);
    let late = client.retire_timeout(&["worker-1"], Duration::from_millis(1));
    assert!(matches!(late, Err(Error::Timeout { .. })), "{late:?}");
    client.scale(2).unwrap();
    touch(&path(&dir, "hooks-gate"));
    until("it is gone, and another one is there", || {
        let now = pids(&client);
        now.len() == 2 && now.contains(&before[0]) && !now.contains(&before[1])
    });
    client.wait_for_workers(2, LONG).unwrap();
    assert!(client.deaths().unwrap().is_empty());
}
