//! Memory limits that hold: what does not fit goes to disk and comes back, what takes too much is ended and said to be so.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod memory {
    pub mod admission;
    pub mod disks;
    pub mod kernel;
    pub mod room;
    pub mod shuffles;
}

use common::*;
use std::process::{Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};
use swath::client::Builder;
use swath::error::{Cause, DeathCause, DeathRecord};
use swath::{Buffer, Client, Delayed, delayed};

const MIB: usize = 1 << 20;

fn take(mib: usize) -> usize {
    let mut held = Vec::new();
    for _ in 0..mib {
        held.push(vec![1_u8; MIB]);
    }
    held.iter().map(Vec::len).sum::<usize>() / MIB
}

fn take_at_once(mib: usize) -> usize {
    vec![1_u8; mib * MIB].len() / MIB
}

/// Takes a little every millisecond until it is stopped.
fn leak(mib: usize) -> usize {
    let mut held = Vec::new();
    while held.len() < mib {
        held.push(vec![1_u8; MIB]);
        // Slower once it is over what it may have, so that the supervisor looks before the kernel refuses more.
        std::thread::sleep(Duration::from_millis(if held.len() < 215 { 1 } else { 20 }));
    }
    held.len()
}

/// Takes a part of the memory, has other processes take another, and waits for them.
fn fork(file: String, mib: usize) -> usize {
    let held = vec![1_u8; mib * MIB];
    note(&file, "runs");
    // The second keeps everything, since it has not seen the end of a line, and the sleeper keeps it waiting.
    let script = format!("(head -c {} /dev/zero; sleep 60) | tail -n 1", mib * MIB);
    let status = Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).status().unwrap();
    held.len() + usize::from(status.success())
}

/// The same with processes that leave their parents and their session, as daemons do.
fn daemonise(file: String, mib: usize) -> usize {
    let held = vec![1_u8; mib * MIB];
    note(&file, "runs");
    let script = format!("(head -c {} /dev/zero; sleep 60) | tail -n 1", mib * MIB);
    let status = Command::new("setsid").args(["-f", "sh", "-c", &script]).stdout(Stdio::null()).status().unwrap();
    std::thread::sleep(LONG);
    held.len() + usize::from(status.success())
}

/// Every page is written to, and different from every other one.
fn block(mib: usize, seed: u64) -> Buffer<u64> {
    let mut values = swath::buffer::BufferMut::zeroed(mib * MIB / 8).unwrap();
    for (i, page) in values.chunks_mut(512).enumerate() {
        page[i % 512] = seed.wrapping_mul(0x9e37_79b9).wrapping_add(i as u64) | 1;
    }
    values.freeze()
}

/// A checksum of all pages.
fn sum(values: Buffer<u64>) -> u64 {
    values.chunks(512).enumerate().fold(0, |sum, (i, page)| (sum ^ page[i % 512]).wrapping_mul(0x0100_0000_01b3))
}

fn limited(workers: usize, limit: &str) -> Builder {
    Client::builder().workers(workers).threads(1).memory_limit(limit).forward_output(false)
}

fn records_of(error: &swath::Error, key: &str) -> Vec<DeathRecord> {
    let task = error.task().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(task.key(), key);
    let Cause::MemoryLimit { limit, peak, records } = task.cause() else { panic!("{error}") };
    assert_eq!(records.len(), 2, "once beside others and once alone");
    for record in records {
        assert_eq!((record.memory_limit, *limit), (Some(200_000_000), 200_000_000));
        assert_eq!(record.running, [key]);
        assert_eq!((record.input_bytes.len(), record.peak_bytes.len()), (1, 1));
        assert!(record.cause.is_of_memory() && record.peak() <= *peak, "{record}");
    }
    let text = error.to_string();
    assert!(text.contains("needs more memory than a worker has") && text.contains("200.0 MB"), "{text}");
    assert!(text.contains("memory_limit"), "{text}");
    records.clone()
}

#[test]
fn a_task_that_takes_far_more_than_the_limit_is_tried_alone_and_fails() {
    let _clean = Clean::start();
    let client = limited(1, "200MB").build().unwrap();
    assert_eq!(client.compute(&delayed(take).call(100)).unwrap(), 100, "what fits is no problem");
    for task in [delayed(take).call(2000), delayed(take_at_once).call(2000), delayed(leak).call(2000)] {
        let records = records_of(&client.compute(&task).unwrap_err(), &task.key());
        for record in &records {
            match record.cause {
                DeathCause::MemoryLimit { used, .. } => assert!((190_000_000..500_000_000).contains(&used), "{record}"),
                DeathCause::AllocationFailed { wanted, .. } => {
                    assert!(wanted > 0);
                    let said = &record.last_lines;
                    assert!(said.iter().any(|l| l.text.contains("memory allocation")), "{said:?}");
                }
                _ => panic!("{record}"),
            }
        }
        assert_eq!(client.deaths().unwrap()[client.deaths().unwrap().len() - 2..], records);
    }
    // One that grows slowly is caught by the supervisor, and the samples show how it grew.
    let record = client.deaths().unwrap().pop().unwrap();
    assert!(matches!(record.cause, DeathCause::MemoryLimit { .. }), "{record}");
    let samples = &record.memory_samples;
    assert!(samples.len() > 1 && samples[0] < *samples.last().unwrap(), "{samples:?}");
    assert!(record.to_string().contains("of its memory limit of 200.0 MB"), "{record}");
    assert_eq!(client.compute(&delayed(take).call(50)).unwrap(), 50, "the next task finds a new worker");
}

#[test]
fn what_a_tasks_children_use_counts_and_they_go_with_it() {
    let _clean = Clean::start();
    let client = limited(1, "200MB").build().unwrap();
    let dir = directory();
    let small = delayed(|| {
        let output = Command::new("sh").args(["-c", "echo $((6 * 7))"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    });
    assert_eq!(client.compute(&small.call()).unwrap(), "42");
    // Each by itself is well below the limit, so that it is the sum that counts.
    for (task, runs) in [
        (delayed(fork).call(path(&dir, "children"), 110_usize), "children"),
        (delayed(daemonise).call(path(&dir, "daemons"), 110_usize), "daemons"),
    ] {
        let error = client.compute(&task).unwrap_err();
        for record in records_of(&error, &task.key()) {
            assert!(matches!(record.cause, DeathCause::MemoryLimit { .. }), "{record}");
        }
        assert_eq!(notes(&path(&dir, runs)).len(), 2);
    }
    assert_eq!(client.compute(&delayed(take).call(50)).unwrap(), 50);
}

#[test]
fn what_shares_a_worker_with_a_glutton_is_not_lost() {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(2).memory_limit("200MB").forward_output(false).build().unwrap();
    let kept = client.persist(&delayed(|x: u64| vec![x; 50_000]).map(0..20_u64)).unwrap();
    client.compute(&kept.iter().map(|v| v.map(|v: Vec<u64>| v.len())).collect::<Vec<_>>()).unwrap();
    let glutton = client.submit(&delayed(leak).call(2000)).unwrap();
    let others = client.submit_all(&delayed(leak).map(vec![20_usize; 10])).unwrap();
    assert_eq!(client.gather(&others).unwrap(), [20; 10]);
    let error = glutton.result().unwrap_err();
    assert!(matches!(error.task().unwrap().cause(), Cause::MemoryLimit { .. }), "{error}");
    let firsts: Vec<_> = kept.iter().map(|v| v.map(|v: Vec<u64>| v[0])).collect();
    assert_eq!(client.compute(&firsts).unwrap(), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_task_that_fits_alone_but_not_beside_others_succeeds() {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(2).memory_limit("200MB").forward_output(false).build().unwrap();
    let dir = directory();
    // Two at a time are too much for the worker; one is not.
    fn hold(file: String, mib: usize) -> usize {
        note(&file, "began");
        let held = vec![1_u8; mib * MIB];
        comes_true(Duration::from_millis(300), || notes(&file).len() > 3);
        held.iter().map(|x| usize::from(*x)).sum::<usize>() / MIB
    }
    let file = path(&dir, "runs");
    let tasks: Vec<_> = (0..2).map(|_| delayed(hold).call(&*file, 120)).collect();
    assert_eq!(client.compute(&tasks).unwrap(), [120, 120]);
    let deaths = client.deaths().unwrap();
    assert_eq!(deaths.len(), 1, "{deaths:?}");
    assert_eq!(deaths[0].running.len(), 2);
}

#[test]
fn shared_segments_have_a_budget_of_their_own() {
    let _clean = Clean::start();
    let client = limited(1, "200MB").shared_memory_limit("64MiB").build().unwrap();
    let small = delayed(|n: usize| Buffer::<u8>::from_fn(n, |i| i as u8)).call(16_usize << 20);
    assert_eq!(client.compute(&small).unwrap().len(), 16 << 20);
    let large = delayed(|n: usize| Buffer::<u8>::from_fn(n, |i| i as u8)).call(100_usize << 20);
    let error = client.compute(&large).unwrap_err();
    assert!(matches!(error.task().unwrap().cause(), Cause::Resource { .. }), "{error}");
    assert!(error.to_string().contains("shared_memory_limit"), "{error}");
    assert_eq!(client.compute(&small).unwrap().len(), 16 << 20, "nothing is lost");
}

/// The most that any worker used while `work` ran, in its process and in segments.
fn watched<R>(client: &Client, work: impl FnOnce() -> R) -> (R, u64) {
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|s| {
        let watcher = s.spawn(move || {
            let mut most = 0;
            // It ends with its sender, also where `work` panics.
            while is_done.recv_timeout(Duration::from_millis(5)) == Err(RecvTimeoutError::Timeout) {
                let memory = client.memory().unwrap();
                most = memory.workers.iter().map(swath::memory::WorkerMemory::process).fold(most, u64::max);
            }
            most
        });
        let result = {
            let _done = done;
            work()
        };
        (result, watcher.join().unwrap())
    })
}

#[test]
fn results_larger_than_memory_persist_and_compute() {
    let _clean = Clean::start();
    let dir = directory();
    let client = limited(2, "128MiB").spill_directory(dir.path()).build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    // Six times what the workers may have.
    let n = 192_u64;
    let (sums, most) = watched(&client, || {
        let blocks: Vec<_> = (0..n).map(|i| delayed(block).call(8, i)).collect();
        let kept = client.persist(&blocks).unwrap();
        let sums: Vec<_> = kept.iter().map(|b| delayed(sum).call(b)).collect();
        let first = client.compute(&sums).unwrap();
        let memory = client.memory().unwrap();
        assert!(memory.spilled() > (n - 32) * 8 * MIB as u64, "{memory}");
        assert!(memory.workers.iter().all(|w| w.managed < 96 * MIB as u64), "{memory}");
        // Again, so that all of it is read from disk once more.
        let again: Vec<_> = kept.iter().rev().map(|b| delayed(sum).call(b)).collect();
        let mut again = client.compute(&again).unwrap();
        again.reverse();
        assert_eq!(first, again);
        first
    });
    let wanted =
        Client::threads(2).compute(&(0..n).map(|i| delayed(sum).call(delayed(block).call(8, i))).collect::<Vec<_>>());
    assert_eq!(sums, wanted.unwrap());
    assert!(most < 128 * MIB as u64, "{most}");
    assert_eq!(client.deaths().unwrap(), []);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing there has a name");
    until("the disk is given back", || client.memory().unwrap().spilled() == 0);
}

#[test]
fn values_of_any_type_go_to_disk_and_move_between_workers() {
    let _clean = Clean::start();
    let client = limited(2, "40MB").build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    fn words(n: usize, seed: usize) -> Vec<String> {
        (0..n).map(|i| format!("{:0100}", i * seed)).collect()
    }
    fn joined(parts: Vec<Vec<String>>) -> usize {
        parts.iter().flatten().map(|word| word.trim_start_matches('0').len()).sum()
    }
    let parts: Vec<Delayed<Vec<String>>> = (0..24).map(|i| delayed(words).call(20_000, i)).collect();
    let kept = client.persist(&parts).unwrap();
    // Each needs parts of both workers.
    let pairs: Vec<_> = (0..12).map(|i| delayed(joined).call(vec![kept[i].clone(), kept[23 - i].clone()])).collect();
    let values = client.compute(&pairs).unwrap();
    assert_eq!(
        values,
        Client::sync()
            .compute(
                &(0..12)
                    .map(|i| delayed(joined).call(vec![parts[i].clone(), parts[23 - i].clone()]))
                    .collect::<Vec<_>>()
            )
            .unwrap()
    );
    let memory = client.memory().unwrap();
    assert!(memory.spilled() > 0, "{memory}");
}

#[test]
fn a_disk_that_is_not_to_be_used_fails_what_does_not_fit_and_nothing_else() {
    let _clean = Clean::start();
    let client = limited(1, "128MiB").spill_limit("16MiB").build().unwrap();
    let blocks: Vec<_> = (0..40_u64).map(|i| delayed(block).call(8, i)).collect();
    let began = Instant::now();
    let futures = client.submit_all(&blocks).unwrap();
    let results: Vec<_> = futures.iter().map(|f| client.compute(&delayed(sum).call(f))).collect();
    assert!(began.elapsed() < LONG / 2, "it does not hang");
    let good = results.iter().filter(|r| r.is_ok()).count();
    assert!((8..24).contains(&good), "{good}");
    let error = results.into_iter().find_map(Result::err).unwrap();
    assert!(matches!(error.task().unwrap().cause(), Cause::Resource { .. }), "{error}");
    assert!(error.to_string().contains("spill_limit") && error.to_string().contains("does not fit"), "{error}");
    // What was there stays, and when it is released there is room again.
    drop(futures);
    until("there is room", || client.compute(&delayed(sum).call(&blocks[0])).is_ok());
    assert_eq!(client.deaths().unwrap(), []);
}

#[test]
fn a_spill_directory_that_vanishes_is_said_and_used_again_when_it_is_back() {
    let _clean = Clean::start();
    let dir = directory();
    let spill = dir.path().join("spill");
    std::fs::create_dir(&spill).unwrap();
    let client = limited(1, "128MiB").spill_directory(&spill).build().unwrap();
    client.wait_for_workers(1, LONG).unwrap();
    std::fs::remove_dir(&spill).unwrap();
    let futures = client.submit_all(&(0..20_u64).map(|i| delayed(block).call(8, i)).collect::<Vec<_>>()).unwrap();
    let results: Vec<_> = futures.iter().map(|f| client.compute(&delayed(sum).call(f))).collect();
    let fit = results.iter().filter(|r| r.is_ok()).count();
    assert!((9..16).contains(&fit), "{fit}");
    let error = results.iter().find_map(|r| r.as_ref().err()).unwrap();
    assert!(error.to_string().contains("does not exist") && error.to_string().contains("spill_directory"), "{error}");
    assert!(client.logs().unwrap().iter().any(|line| line.text.contains("cannot be moved to disk")));
    std::fs::create_dir(&spill).unwrap();
    until("it is used again", || {
        client.compute(&delayed(sum).call(delayed(block).call(8, 99))).is_ok() && client.memory().unwrap().spilled() > 0
    });
    for (i, (future, result)) in futures.iter().zip(&results).enumerate() {
        match result {
            Ok(_) => assert_eq!(client.compute(&delayed(sum).call(future)).unwrap(), sum(block(8, i as u64))),
            Err(_) => assert!(future.result().is_err()),
        }
    }
}

#[test]
fn a_report_says_what_is_used_for_what() {
    let _clean = Clean::start();
    let client = limited(2, "512MB").build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    let kept = client.persist(&vec![delayed(block).call(32, 1); 1]).unwrap();
    client.compute(&delayed(sum).call(&kept[0])).unwrap();
    let memory = client.memory().unwrap();
    let managed: u64 = memory.workers.iter().map(|w| w.managed).sum();
    assert!((32 * MIB as u64..33 * MIB as u64).contains(&managed), "{memory}");
    let holder = memory.workers.iter().find(|w| w.managed > 0).unwrap();
    assert!(holder.segments + 1000 >= holder.managed && holder.private < 100 * MIB as u64, "{memory}");
    assert_eq!((holder.limit, holder.spilled, holder.paused.clone()), (Some(512_000_000), 0, None));
    assert!(holder.unmanaged() < 100 * MIB as u64 && memory.shared_used >= 32 * MIB as u64, "{memory}");
    let info = client.workers().unwrap().into_iter().find(|w| w.name == holder.name).unwrap();
    assert_eq!((info.managed, info.spilled), (holder.managed, 0));
    let text = memory.to_string();
    assert!(text.contains(&holder.name) && text.contains("shared segments") && text.contains("on disk 0 B"), "{text}");
    drop(kept);
    until("it is gone", || client.memory().unwrap().workers.iter().all(|w| w.managed == 0 && w.segments < MIB as u64));
    // What a task uses while it runs is seen.
    let dir = directory();
    fn held(file: String, mib: usize) -> usize {
        let held = vec![1_u8; mib * MIB];
        note(&file, "runs");
        wait_for_file(&format!("{file}.go"));
        held.len()
    }
    let file = path(&dir, "held");
    let future = client.submit(&delayed(held).call(&*file, 64)).unwrap();
    until("it runs", || {
        client.memory().unwrap().workers.iter().flat_map(|w| &w.peaks).any(|(_, peak)| *peak > 64 << 20)
    });
    touch(&format!("{file}.go"));
    assert_eq!(future.result().unwrap(), 64 * MIB);
    for client in [Client::sync(), Client::threads(2)] {
        let memory = client.memory().unwrap();
        assert_eq!((memory.workers.len(), memory.workers[0].pid), (1, std::process::id()));
        assert!(memory.workers[0].private > MIB as u64);
    }
}

#[test]
fn thresholds_are_checked() {
    for (builder, what) in [
        (limited(1, "200MB").memory_pause(0.5), "memory_pause"),
        (limited(1, "200MB").memory_terminate(2.0), "memory_terminate"),
        (limited(1, "200MB").memory_target(-0.1), "memory_target"),
        (limited(1, "200MB").spill_directory("/nonexistent"), "spill_directory"),
        (limited(1, "200MB").spill_limit("some"), "spill_limit"),
    ] {
        let error = builder.build().err().unwrap();
        assert!(matches!(error, swath::Error::Invalid { .. }) && error.to_string().contains(what), "{error}");
    }
}

#[test]
fn workers_are_recycled_and_nothing_is_lost() {
    let _clean = Clean::start();
    let client = Client::builder().workers(2).threads(1).memory_limit("300MB").recycle_after(50).build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    let first = pids(&client);
    let kept = client.persist(&delayed(|x: u64| vec![x; 10_000]).map(0..20_u64)).unwrap();
    let dir = directory();
    fn noted(file: String, x: i64) -> i64 {
        note(&file, std::process::id());
        x + 1
    }
    let file = path(&dir, "runs");
    // In waves: one process has done less than fifty tasks before each, and cannot do all of them.
    for wave in 0..8 {
        let xs = 50 * wave..50 * (wave + 1);
        let futures: Vec<_> = xs.clone().map(|x| client.submit(&delayed(noted).call(&*file, x)).unwrap()).collect();
        assert!(client.gather(&futures).unwrap().into_iter().eq(xs.map(|x: i64| x + 1)));
    }
    let runs = notes(&file);
    assert_eq!(runs.len(), 400, "nothing is done twice");
    let processes: std::collections::BTreeSet<_> = runs.iter().collect();
    assert!(processes.len() >= 4, "{}", processes.len());
    let firsts: Vec<_> = kept.iter().map(|v| v.map(|v: Vec<u64>| v[0])).collect();
    assert_eq!(client.compute(&firsts).unwrap(), (0..20).collect::<Vec<_>>());
    assert_eq!(client.deaths().unwrap(), [], "it is no death");
    until("all are replaced", || pids(&client).iter().all(|pid| !first.contains(pid)));
    // A task that waits for others keeps the only worker that could run them.
    let client = Client::builder().workers(1).threads(1).recycle_after(1).build().unwrap();
    fn outer(n: i64) -> i64 {
        let client = swath::current_client().unwrap();
        let one_by_one: i64 = (0..n).map(|x| client.compute(&delayed(|x: i64| x * 2).call(x)).unwrap()).sum();
        assert_eq!(one_by_one, client.compute(&delayed(|x: i64| x * 2).map(0..n)).unwrap().iter().sum::<i64>());
        one_by_one
    }
    assert_eq!(client.compute(&delayed(outer).call(5)).unwrap(), 20);
    assert_eq!(client.compute(&delayed(outer).call(6)).unwrap(), 30);
}

#[test]
fn a_worker_that_leaks_is_recycled() {
    let _clean = Clean::start();
    let client = limited(1, "300MB").recycle_unmanaged(0.3).build().unwrap();
    client.wait_for_workers(1, LONG).unwrap();
    let first = pids(&client);
    fn leaks(mib: usize) -> usize {
        std::mem::forget(vec![1_u8; mib * MIB]);
        std::thread::sleep(Duration::from_millis(2));
        mib
    }
    let mut taken = 0;
    until("it is replaced", || {
        // As much as it may have before it is to go, and then nothing more, but it goes on working.
        let mib = if taken < 100 { 10 } else { 0 };
        taken += client.compute(&delayed(leaks).call(mib)).unwrap();
        let now = pids(&client);
        now.len() == 1 && now != first
    });
    assert_eq!(client.deaths().unwrap(), []);
}

#[test]
fn threads_keep_to_a_budget() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Part(Buffer<u8>);
    fn read(i: u8) -> Part {
        MOST.fetch_max(ALIVE.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Part(vec![i; MIB].into())
    }
    fn merge(parts: Vec<Part>) -> u64 {
        ALIVE.fetch_sub(parts.len(), Ordering::SeqCst);
        // Reading is faster than this, so that readers would run far ahead.
        std::thread::sleep(Duration::from_millis(2));
        parts.iter().map(|p| u64::from(p.0[7])).sum()
    }
    let graph: Vec<_> = (0..40_u8).map(|i| delayed(merge).call(delayed(read).map([i, i, i]))).collect();
    let client = Client::builder().mode(swath::status::Mode::Threads).threads(4).memory_limit("8MiB").build().unwrap();
    assert_eq!(client.compute(&graph).unwrap(), (0..40).map(|i| 3 * i).collect::<Vec<u64>>());
    let most = MOST.load(Ordering::SeqCst);
    assert!(most <= 14, "{most} alive at once");
    let memory = client.memory().unwrap();
    assert_eq!((memory.workers[0].limit, memory.workers[0].managed), (Some(8 << 20), 0), "{memory}");
    // Results that are there to stay do not stop it.
    let kept = client.persist(&delayed(|i: u8| vec![i; MIB]).map(0..20_u8)).unwrap();
    assert_eq!(client.compute(&kept).unwrap().len(), 20);
}

#[test]
fn durable_results_are_computed_once() {
    let _clean = Clean::start();
    let dir = directory();
    let runs = path(&dir, "runs");
    let store = dir.path().join("made/for/it");
    fn costly(runs: String, x: u64) -> (u64, Buffer<u64>, Vec<String>) {
        note(&runs, x);
        (x, Buffer::from_fn(20_000, |i| i as u64 * x), vec![x.to_string(); 3])
    }
    let lazies = |n: u64| (0..n).map(|x| delayed(costly).pure().call(&*runs, x)).collect::<Vec<_>>();
    let client = limited(2, "300MB").build().unwrap();
    let wanted = client.compute(&lazies(6)).unwrap();
    let before = notes(&runs).len();
    for client in [client, Client::threads(2), Client::sync()] {
        let kept = client.persist_to(&store, &lazies(6)).unwrap();
        assert_eq!(client.compute(&kept).unwrap(), wanted);
        assert_eq!(notes(&runs).len(), before + 6, "the first computes them, the others read them");
    }
    // What is damaged, cut short or missing is computed again, and so is what is new; drafts of a crash do not matter.
    let mut files: Vec<_> = std::fs::read_dir(&store).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 6);
    let mut bytes = std::fs::read(&files[0]).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(&files[0], &bytes).unwrap();
    std::fs::write(&files[1], &std::fs::read(&files[1]).unwrap()[..100_000]).unwrap();
    std::fs::remove_file(&files[2]).unwrap();
    std::fs::write(&files[3], "").unwrap();
    std::fs::write(store.join("x.1-2.draft"), "half").unwrap();
    let client = Client::threads(2);
    let kept = client.persist_to(&store, &lazies(8)).unwrap();
    assert_eq!(client.compute(&kept).unwrap()[..6], wanted);
    assert_eq!(notes(&runs).len(), before + 6 + 4 + 2);
    client.persist_to(&store, &lazies(8)).unwrap();
    assert_eq!(notes(&runs).len(), before + 12);
    // What may be different each time is not kept.
    let error = client.persist_to(&store, &[delayed(costly).call(&*runs, 1_u64)]).unwrap_err();
    assert!(error.to_string().contains("pure"), "{error}");
    let inner = delayed(|x: u64| x).call(1_u64);
    let error = client.persist_to(&store, &[delayed(costly).pure().call(&*runs, inner)]).unwrap_err();
    assert!(error.to_string().contains("pure"), "{error}");
    let error = client.persist_to("/proc/nothing", &lazies(1)).unwrap_err();
    assert!(matches!(error, swath::Error::Invalid { .. }), "{error}");
}
