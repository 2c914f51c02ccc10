//! What real runs lose time to, and who is said to be to blame.

use crate::common::{Clean, LONG, directory, note, path, pids, processes, send_signal, touch, until, wait_for_file};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use swath::events::diagnosis::{Diagnosis, Finding, Problem};
use swath::events::saved::Use;
use swath::events::{Event, EventKind};
use swath::status::Mode;
use swath::{Client, Delayed, delayed, try_delayed};

fn spin(ms: u64) -> u64 {
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(ms) {
        std::hint::spin_loop();
    }
    ms
}

fn add_one(x: u64) -> u64 {
    x + 1
}

/// The diagnosis of all that a client has run, once the ends of so many graphs are on record. Its sums add up, and are those
/// of its runs.
fn diagnosed(client: &Client, graphs: usize) -> Diagnosis {
    until("the graphs have ended", || {
        let log = client.events().unwrap();
        log.events().iter().filter(|e| matches!(e.kind, EventKind::GraphFinished { .. })).count() >= graphs
    });
    let diagnosis = client.diagnose().unwrap();
    let all = diagnosis.wall * u32::try_from(diagnosis.threads).unwrap();
    let apart = diagnosis.time.total().abs_diff(all);
    assert!(apart <= all / 100, "{:?} of {all:?}: {diagnosis}", diagnosis.time.total());
    let work: Duration = client.events().unwrap().runs().iter().filter_map(|run| run.took()).sum();
    // Each reading of the log knows the length of a tick a little better.
    assert!(diagnosis.work.abs_diff(work) <= work / 1000 + Duration::from_micros(1), "{work:?}: {diagnosis}");
    let text = diagnosis.to_string();
    assert!(!text.contains("TaskId") && !text.contains("{"), "{text}");
    diagnosis
}

fn finding(diagnosis: &Diagnosis, problem: Problem) -> &Finding {
    let found = diagnosis.findings.iter().find(|finding| finding.problem == problem);
    found.unwrap_or_else(|| panic!("{problem:?} is not found: {diagnosis}"))
}

/// What is found first.
fn first(diagnosis: &Diagnosis, problem: Problem) -> &Finding {
    assert_eq!(diagnosis.findings[0].problem, problem, "{diagnosis}");
    &diagnosis.findings[0]
}

fn threads(n: usize) -> Client {
    Client::builder().mode(Mode::Threads).threads(n).build().unwrap()
}

#[test]
fn tasks_that_do_nothing_are_too_small() {
    let _clean = Clean::start();
    let client = processes(1, 1);
    client.compute(&delayed(add_one).map(0..2000_u64)).unwrap();
    let diagnosis = diagnosed(&client, 1);
    assert_eq!(finding(&diagnosis, Problem::TasksTooSmall).culprit, "add_one", "{diagnosis}");
}

#[test]
fn a_straggler_is_named() {
    let _clean = Clean::start();
    let client = threads(2);
    let slow = delayed(spin).name("slow").call(300);
    let mut all: Vec<Delayed<u64>> = vec![slow.clone()];
    all.extend((0..4).map(|i| delayed(spin).name(format!("quick {i}")).call(10)));
    client.compute(&all).unwrap();
    let diagnosis = diagnosed(&client, 1);
    let found = first(&diagnosis, Problem::Straggler);
    assert_eq!(found.culprit, slow.key());
    assert!(found.lost >= Duration::from_millis(200), "{diagnosis}");
}

#[test]
fn a_chain_has_too_few_tasks_for_two_threads() {
    let _clean = Clean::start();
    let client = threads(2);
    client.compute(&(0..6).fold(delayed(spin).call(20), |x, _| x.map(spin))).unwrap();
    let diagnosis = diagnosed(&client, 1);
    assert_eq!(first(&diagnosis, Problem::TooFewTasks).culprit, "spin");
}

#[test]
fn a_program_that_waits_between_graphs_is_slow() {
    let _clean = Clean::start();
    let client = threads(2);
    client.compute(&delayed(spin).map([5_u64, 6, 7, 8])).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    client.compute(&delayed(spin).map([5_u64, 6, 7, 8])).unwrap();
    let diagnosis = diagnosed(&client, 2);
    let found = first(&diagnosis, Problem::SlowClient);
    assert!(found.lost >= Duration::from_millis(590), "two threads for 0.3 s: {diagnosis}");
}

#[test]
fn work_without_losses_is_said_to_have_none() {
    let _clean = Clean::start();
    let client = threads(1);
    client.compute(&delayed(spin).map((0..5).map(|i| 40 + i))).unwrap();
    let diagnosis = diagnosed(&client, 1);
    assert_eq!(first(&diagnosis, Problem::NothingToImprove).culprit, "spin");
    assert!(diagnosis.time.share(Use::Computing) >= 0.9, "{diagnosis}");
}

#[test]
fn runs_that_fail_are_lost_time() {
    fn fails(ms: u64) -> Result<u64, String> {
        Err(format!("after {} ms", spin(ms)))
    }
    let _clean = Clean::start();
    let client = threads(1);
    client.compute(&try_delayed(fails).retries(2).call(40)).unwrap_err();
    let diagnosis = diagnosed(&client, 1);
    let found = first(&diagnosis, Problem::FailedRuns);
    assert!(found.culprit == "fails" && found.lost >= Duration::from_millis(120), "{diagnosis}");
}

#[test]
fn workers_that_die_lose_runs_and_have_results_made_again() {
    fn dies_once(begun: String) -> u64 {
        if std::path::Path::new(&begun).exists() {
            return 1;
        }
        touch(&begun);
        spin(100);
        std::process::abort()
    }
    fn made(ms: u64) -> Vec<u8> {
        spin(ms);
        vec![1; 100_000]
    }
    let _clean = Clean::start();
    let dir = directory();
    let client = Client::builder().workers(1).threads(1).record(path(&dir, "run.swath")).build().unwrap();
    client.wait_for_workers(1, LONG).unwrap();
    let kept = client.persist(&delayed(made).call(100)).unwrap();
    until("it is there", || client.progress().counts.memory == 1);
    send_signal(pids(&client)[0], Signal::SIGKILL);
    assert_eq!(client.compute(&delayed(|x: Vec<u8>| x.len()).call(&kept)).unwrap(), 100_000);
    client.compute(&delayed(dies_once).call(path(&dir, "begun"))).unwrap();
    client.shutdown();
    let log = swath::events::EventLog::open(path(&dir, "run.swath")).unwrap();
    let diagnosis = log.diagnose(&Default::default());
    let again = finding(&diagnosis, Problem::Recomputed);
    assert!(again.culprit == "made" && again.lost >= Duration::from_millis(100), "{diagnosis}");
    let lost = finding(&diagnosis, Problem::WorkersLost);
    assert!(lost.culprit == "worker-0" && lost.lost >= Duration::from_millis(90), "{diagnosis}");
}

#[test]
fn tasks_that_come_before_their_workers_wait_for_these() {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(1).build().unwrap();
    client.compute(&delayed(add_one).call(1)).unwrap();
    let diagnosis = diagnosed(&client, 1);
    assert_eq!(finding(&diagnosis, Problem::Starting).culprit, "worker-0");
}

#[test]
fn values_that_are_encoded_element_by_element_are_named() {
    fn words(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("word {i}")).collect()
    }
    fn letters(words: Vec<String>) -> usize {
        words.iter().map(String::len).sum()
    }
    let _clean = Clean::start();
    let client = processes(2, 1);
    // They have to be encoded, since they are read elsewhere.
    let words = delayed(words).on_worker("worker-0").call(300_000_usize);
    assert!(client.compute(&delayed(letters).on_worker("worker-1").call(&words)).unwrap() > 1_000_000);
    let diagnosis = diagnosed(&client, 1);
    let found = finding(&diagnosis, Problem::Encoding);
    assert!(found.culprit == "letters" && diagnosis.time[Use::ReadingInputs] > Duration::ZERO, "{diagnosis}");
    // How long whoever asked for them waited.
    let moved = finding(&diagnosis, Problem::BytesMoved);
    assert_eq!(moved.culprit, words.key(), "{diagnosis}");
}

#[test]
fn tasks_that_wait_for_memory_name_the_worker() {
    fn hog(begun: String, open: String) -> usize {
        let all = vec![1_u8; 830_000_000];
        note(&begun, "begun");
        wait_for_file(&open);
        all.len()
    }
    let _clean = Clean::start();
    let dir = directory();
    let client = Client::builder().workers(1).threads(2).memory_limit("1GB").build().unwrap();
    client.wait_for_workers(1, LONG).unwrap();
    let (begun, open) = (path(&dir, "begun"), path(&dir, "open"));
    let hog = client.submit(&delayed(hog).call(&*begun, &*open)).unwrap();
    assert!(wait_for_file(&begun));
    let waits = client.submit(&delayed(add_one).call(1)).unwrap();
    let is_paused = |event: &Event| matches!(event.kind, EventKind::WorkerPaused { .. });
    until("the worker says that it waits", || client.events().unwrap().events().iter().any(is_paused));
    let since = Instant::now();
    until("that has taken a while", || since.elapsed() > Duration::from_millis(200));
    touch(&open);
    assert_eq!((hog.result().unwrap(), waits.result().unwrap()), (830_000_000, 2));
    let diagnosis = diagnosed(&client, 2);
    let found = finding(&diagnosis, Problem::Memory);
    assert!(found.culprit == "worker-0" && found.lost >= Duration::from_millis(200), "{diagnosis}");
}

#[test]
fn results_that_go_to_disk_name_the_worker() {
    fn large(n: usize) -> swath::Buffer<u8> {
        swath::Buffer::from_fn(n, |i| i as u8)
    }
    let _clean = Clean::start();
    let dir = directory();
    let builder = Client::builder().workers(1).threads(1).memory_limit("256MB").spill_directory(dir.path());
    let client = builder.build().unwrap();
    client.wait_for_workers(1, LONG).unwrap();
    let kept: Vec<_> = (0..3).map(|_| client.submit(&delayed(large).call(80_000_000_usize)).unwrap()).collect();
    let is_moved = |event: &Event| matches!(event.kind, EventKind::Spilled { .. });
    until("some is on disk", || client.events().unwrap().events().iter().any(is_moved));
    drop(kept);
    let event = client.events().unwrap().events().iter().find(|event| is_moved(event)).cloned().unwrap();
    let EventKind::Spilled { key, worker, bytes, .. } = event.kind else { unreachable!() };
    assert!(key.starts_with("large-") && worker == "worker-0" && bytes >= 80_000_000, "{key} {worker} {bytes}");
}
