//! Several results of one call: each part of a tuple or list is a value of its own.

use crate::common::{Clean, LONG, directory, note, notes, path, pids, processes, send_signal, until};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use swath::client::WaitFor;
use swath::error::{Cause, TaskError};
use swath::events::Outcome;
use swath::status::Mode;
use swath::{Buffer, Client, Delayed, Error, delayed, try_delayed};

fn task_error<T: std::fmt::Debug>(result: swath::Result<T>) -> TaskError {
    match result {
        Err(Error::Task(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Leaves a line for each run.
fn cut(file: String, n: usize, len: usize) -> Vec<Vec<u64>> {
    note(&file, n);
    (0..n as u64).map(|i| vec![i; len]).collect()
}

fn sum(numbers: Vec<u64>) -> u64 {
    numbers.iter().sum()
}

pub fn of_tuples_and_lists(client: &Client) {
    let (q, r) = delayed(|a: i64, b: i64| (a / b, a % b)).call(17, 5).unpack();
    assert_eq!(client.compute((&q, &r)).unwrap(), (3, 2));
    assert_eq!(client.compute(&q).unwrap(), 3);
    let eight = delayed(|| (1_u8, 2_u16, 3_u32, 4_u64, "5".to_string(), 6.0, vec![7], Some(8))).call().unpack();
    let (a, b, c, d, e, f, g, h) = &eight;
    assert_eq!(client.compute((a, b, c, d)).unwrap(), (1, 2, 3, 4));
    assert_eq!(client.compute((e, f, g, h)).unwrap(), ("5".to_string(), 6.0, vec![7], Some(8)));
    let dir = directory();
    let file = path(&dir, "runs");
    let parts = delayed(cut).call(&*file, 7, 3).unpack_list(7);
    let sums: Vec<_> = parts.iter().map(|part| part.map(sum)).collect();
    assert_eq!(client.compute(&sums).unwrap(), (0..7).map(|i| 3 * i).collect::<Vec<_>>());
    assert_eq!(notes(&file), ["7"], "one task has made all of them");
    // As arguments in lists, next to each other, and of parts of parts.
    let total = delayed(|lists: Vec<Vec<u64>>| lists.len()).call(parts);
    assert_eq!(client.compute(&total).unwrap(), 7);
    let ((a, b), c) = {
        let (ab, c) = delayed(|| ((1_i64, 2_i64), 3_i64)).call().unpack();
        (ab.unpack(), c)
    };
    assert_eq!(client.compute((&(&a + &b), &c)).unwrap(), (3, 3));
    let none: Vec<Delayed<u64>> = delayed(Vec::<u64>::new).call().unpack_list(0);
    assert!(client.compute(&none).unwrap().is_empty());
}

pub fn the_whole_and_its_parts(client: &Client) {
    let dir = directory();
    let file = path(&dir, "runs");
    let whole = delayed(cut).call(&*file, 3, 2);
    let [first, second] = whole.unpack();
    let again = whole.unpack_list(3);
    let all = client.compute((&whole, &first, &second, &again)).unwrap();
    let list = vec![vec![0, 0], vec![1, 1], vec![2, 2]];
    assert_eq!(all, (list.clone(), vec![0, 0], vec![1, 1], list));
    assert_eq!(notes(&file), ["3"]);
    // Of results that are held.
    let held = whole.persist(client).unwrap();
    assert_eq!(client.compute(&held.unpack_list(3)[2]).unwrap(), [2, 2]);
    assert_eq!(notes(&file).len(), 2);
}

pub fn persisted_and_submitted(client: &Client) {
    let dir = directory();
    let file = path(&dir, "runs");
    let parts = delayed(cut).call(&*file, 4, 1000).unpack_list(4);
    let held = client.persist(&parts).unwrap();
    assert_eq!(client.compute(&held[3].map(sum)).unwrap(), 3000);
    assert_eq!(client.compute((&held[1], &held[2].map(sum))).unwrap(), (vec![1; 1000], 2000));
    assert_eq!(notes(&file), ["4"], "they are made once");
    let parts = delayed(cut).call(&*file, 4, 10).unpack_list(4);
    let future = client.submit(&parts[2]).unwrap();
    assert_eq!(future.result().unwrap(), vec![2; 10]);
    let futures = client.submit_all(&parts).unwrap();
    assert_eq!(client.gather(&futures).unwrap().len(), 4);
    assert_eq!(client.compute(&futures[1].delayed().map(sum)).unwrap(), 10);
    assert_eq!(notes(&file), ["4", "4", "4"]);
}

pub fn equal_pure_calls_have_the_same_parts(client: &Client) {
    let dir = directory();
    let file = path(&dir, "runs");
    let pure = || delayed(cut).pure().call(&*file, 3, 50).unpack_list(3);
    let (ours, theirs) = (pure(), pure());
    assert_eq!(ours[1].key(), theirs[1].key());
    assert_ne!(ours[1].key(), ours[2].key());
    assert!(ours[1].key().starts_with("cut[1]-"), "{}", ours[1].key());
    assert_eq!(client.compute((&ours[1], &theirs[1], &theirs[2])).unwrap(), (vec![1; 50], vec![1; 50], vec![2; 50]));
    assert_eq!(notes(&file), ["3"]);
    // What is held answers a later call, and only what it is.
    let held = client.submit(&ours[1]).unwrap();
    held.result().unwrap();
    assert_eq!(client.compute(&theirs[1].map(sum)).unwrap(), 50);
    assert_eq!(notes(&file).len(), 2);
    assert_eq!(client.compute(&theirs[2].map(sum)).unwrap(), 100);
    assert_eq!(notes(&file).len(), 3);
    // Calls with other options are other calls.
    let named = delayed(cut).pure().name("named").call(&*file, 3, 50).unpack_list(3);
    assert!(named[0].key().starts_with("named[0]-"), "{}", named[0].key());
    client.compute((&named[0], &ours[0])).unwrap();
    assert_eq!(notes(&file).len(), 5);
    drop(held);
    // What is not pure is not shared.
    let twice = [delayed(cut).call(&*file, 3, 1).unpack_list(3), delayed(cut).call(&*file, 3, 1).unpack_list(3)];
    client.compute((&twice[0][0], &twice[1][0])).unwrap();
    assert_eq!(notes(&file).len(), 7);
}

pub fn a_list_of_another_length_is_an_error(client: &Client) {
    let dir = directory();
    let file = path(&dir, "runs");
    for (made, wanted) in [(3_usize, 4_usize), (4, 3)] {
        let parts = delayed(cut).call(&*file, made, 1).unpack_list(wanted);
        let error = task_error(client.compute(&parts));
        let Cause::WrongLength { expected, found } = error.cause() else { panic!("{error}") };
        assert_eq!((*expected, *found), (wanted as u64, made as u64), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&format!("a list of {made} items")) && text.contains(&format!("into {wanted}")),
            "{text}"
        );
        assert!(text.contains("needed by cut[0]-"), "{text}");
    }
    // The first of them may be unpacked from a longer list, but not from a shorter one.
    let [first, _] = delayed(cut).call(&*file, 3, 1).unpack();
    assert_eq!(client.compute(&first).unwrap(), [0]);
    let [first, _] = delayed(cut).call(&*file, 1, 1).unpack();
    assert!(matches!(task_error(client.compute(&first)).cause(), Cause::WrongLength { expected: 2, found: 1 }));
}

pub fn what_fails_fails_all_parts(client: &Client) {
    fn breaks(why: String) -> Result<(u64, u64), String> {
        Err(why)
    }
    let (a, b) = try_delayed(breaks).call("no luck").unpack();
    let sum = &a + &b;
    for failing in [&a, &b, &sum] {
        let error = task_error(client.compute(failing));
        assert_eq!((error.name(), error.downcast::<String>().unwrap().as_str()), ("breaks", "no luck"));
        assert!(error.key().starts_with("breaks-"), "{error}");
    }
    let futures = client.submit_all(&[a, b]).unwrap();
    assert!(futures.iter().all(|future| task_error(future.result()).name() == "breaks"));
    let (c, _) = delayed(|x: u64| -> (u64, u64) { panic!("at {x}") }).call(7).unpack();
    assert!(task_error(client.compute(&c)).to_string().contains("at 7"));
}

pub fn retries_and_time_limits_hold(client: &Client) {
    fn works_later(file: String, after: usize) -> Result<(String, u64), String> {
        note(&file, "try");
        let tries = notes(&file).len();
        if tries > after { Ok(("done".to_string(), tries as u64)) } else { Err(format!("try {tries}")) }
    }
    let dir = directory();
    let file = path(&dir, "tries");
    let (text, tries) = try_delayed(works_later).retries(3).call(&*file, 2).unpack();
    assert_eq!(client.compute((&text, &tries)).unwrap(), ("done".to_string(), 3));
    let future = client.submit(&try_delayed(works_later).retries(1).call(&*file, 9).unpack().0).unwrap();
    let error = task_error(future.result());
    assert_eq!((error.downcast::<String>().as_deref(), error.name()), (Some("try 5"), "works_later"));
}

pub fn a_part_that_failed_runs_again(client: &Client) {
    fn works_later(file: String) -> Result<Vec<u64>, String> {
        note(&file, "try");
        let tries = notes(&file).len();
        if tries > 1 { Ok(vec![5, 6]) } else { Err(format!("try {tries}")) }
    }
    let dir = directory();
    let file = path(&dir, "tries");
    let parts = try_delayed(works_later).call(&*file).unpack_list(2);
    let futures = client.submit_all(&parts).unwrap();
    assert!(futures.iter().all(|future| future.result().is_err()));
    client.retry(&futures[1]).unwrap();
    assert_eq!(futures[1].result().unwrap(), 6);
    assert!(futures[0].result().is_err(), "only one was asked for");
    assert_eq!(notes(&file).len(), 2);
}

pub fn a_part_that_is_dropped_leaves_others(client: &Client) {
    let parts = delayed(|| vec![vec![1_u64; 100_000], vec![2; 200_000], vec![3; 300_000]]).call().unpack_list(3);
    let mut futures = client.submit_all(&parts).unwrap();
    client.wait(&futures, WaitFor::All).unwrap();
    let middle = futures.remove(1);
    drop(middle);
    assert_eq!(client.compute(&futures[1].delayed().map(sum)).unwrap(), 900_000);
    assert_eq!(client.compute(&futures[0].delayed().map(sum)).unwrap(), 100_000);
    drop(futures);
    // A part that nobody waits for does not keep the others from coming.
    let parts = delayed(|| (vec![1_u64; 1000], vec![2_u64; 1000])).call().unpack();
    let (a, b) = (client.submit(&parts.0).unwrap(), client.submit(&parts.1).unwrap());
    client.cancel(&a);
    assert_eq!(b.result().unwrap(), vec![2; 1000]);
}

pub fn ten_thousand_parts(client: &Client) {
    let n = 10_000_usize;
    let began = Instant::now();
    let parts = delayed(|n: u64| (0..n).collect::<Vec<_>>()).call(n as u64).unpack_list(n);
    let all = client.compute(&parts).unwrap();
    assert!(all.iter().zip(0..).all(|(a, b)| *a == b) && all.len() == n);
    let held = client.persist(&parts).unwrap();
    let more: Vec<_> = held.iter().step_by(100).map(|part| part + 1).collect();
    assert_eq!(client.compute(&more).unwrap().iter().sum::<u64>(), (0..100).map(|i| i * 100 + 1).sum::<u64>());
    drop(held);
    let total: Delayed<u64> = parts.into_iter().sum();
    assert_eq!(client.compute(&total).unwrap(), (n as u64) * (n as u64 - 1) / 2);
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
}

pub fn parts_may_be_kept_in_files(client: &Client) {
    let (dir, kept) = (directory(), directory());
    let file = path(&dir, "runs");
    let parts = || delayed(cut).pure().call(&*file, 3, 5).unpack_list(3);
    let first = client.persist_to(kept.path(), &parts()).unwrap();
    assert_eq!(client.compute(&first).unwrap()[2], [2; 5]);
    drop(first);
    let again = client.persist_to(kept.path(), &parts()).unwrap();
    assert_eq!(client.compute(&again).unwrap()[1], [1; 5]);
    assert_eq!(notes(&file), ["3"]);
    let other = delayed(cut).call(&*file, 3, 5).unpack_list(3);
    assert!(client.persist_to(kept.path(), &other).unwrap_err().to_string().contains("pure"));
}

pub fn they_are_shown(client: &Client) {
    let (a, b) = delayed(|| (1_i64, 2_i64)).name("both").call().unpack();
    let picture = (&a + &b).to_dot();
    assert!(["both[0]", "both[1]", "unpack", "\"both\""].iter().all(|name| picture.contains(name)), "{picture}");
    let future = client.submit(&a).unwrap();
    future.result().unwrap();
    assert!(future.key().starts_with("both[0]-"), "{}", future.key());
    assert!(!client.explain(&future).unwrap().to_string().is_empty());
    // What runs is the call, and taking it apart; its parts do not.
    let mut runs = Vec::new();
    until("word of all runs is there", || {
        let log = client.events().unwrap();
        let finished = log.runs().iter().filter(|run| run.outcome == Outcome::Finished);
        runs = finished.map(|run| run.name.to_string()).collect();
        runs.len() >= 2
    });
    assert_eq!(runs, ["both", "unpack"]);
    assert_eq!(
        (client.progress().counts.failed, client.progress().counts.done() <= client.progress().counts.total()),
        (0, true)
    );
}

pub fn a_time_limit_is_that_of_the_call(client: &Client) {
    fn slow(ms: u64) -> (u64, Vec<u64>) {
        std::thread::sleep(Duration::from_millis(ms));
        (ms, vec![ms; 1000])
    }
    let limited = delayed(slow).timeout(Duration::from_millis(20));
    let error = task_error(client.compute(&limited.call(60).unpack().0));
    assert!(matches!(error.cause(), Cause::TimedOut { .. }) && error.name() == "slow", "{error}");
    let (number, list) = delayed(slow).timeout(LONG).call(1).unpack();
    assert_eq!(client.compute((&number, &list.map(|list: Vec<u64>| list.len()))).unwrap(), (1, 1000));
}

/// Leaves a line when it is cloned and when it is dropped, but not where it has been sent.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    file: String,
    number: u64,
}

impl Clone for Noted {
    fn clone(&self) -> Self {
        note(&self.file, format!("cloned {}", self.number));
        Self { file: self.file.clone(), number: self.number }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        note(&self.file, format!("dropped {}", self.number));
    }
}

pub fn they_are_moved_and_dropped_one_by_one(client: &Client) {
    let dir = directory();
    let file = path(&dir, "notes");
    let make = |file: String| (0..4).map(|number| Noted { file: file.clone(), number }).collect::<Vec<_>>();
    let dropped = |number: u64| notes(&file).contains(&format!("dropped {number}"));
    let parts = delayed(make).call(&*file).unpack_list(4);
    let first = client.submit_all(&parts[..3]).unwrap();
    client.wait(&first, WaitFor::All).unwrap();
    until("what nobody asked for is gone", || dropped(3));
    if client.mode() != Mode::Processes {
        // Here they are, as they were made.
        assert!(!dropped(0) && !dropped(1) && !dropped(2), "{:?}", notes(&file));
        let [zero, one, two] = first.try_into().unwrap();
        drop(one);
        until("the one that was dropped is gone", || dropped(1));
        assert!(!dropped(0) && !dropped(2), "{:?}", notes(&file));
        drop((zero, two));
        until("so are the others", || dropped(0) && dropped(2));
    }
    assert!(!notes(&file).iter().any(|line| line.starts_with("cloned")), "{:?}", notes(&file));
}

const MIB: usize = 1 << 20;

/// `n` blocks of eight MiB.
fn blocks(file: String, n: u64) -> Vec<Vec<u64>> {
    note(&file, n);
    (0..n).map(|i| vec![i; MIB]).collect()
}

fn first(block: Vec<u64>) -> u64 {
    block[0]
}

fn managed(client: &Client) -> u64 {
    client.memory().unwrap().workers.iter().map(|worker| worker.managed).sum()
}

#[test]
fn memory_goes_down_with_each_part_that_is_dropped() {
    let _clean = Clean::start();
    let dir = directory();
    let file = path(&dir, "runs");
    let threads = Client::builder().mode(Mode::Threads).threads(2).memory_limit("512MiB").build().unwrap();
    for client in [processes(1, 1), threads] {
        let parts = delayed(blocks).call(&*file, 4).unpack_list(4);
        // Only three of them are asked for.
        let mut held = client.persist(&parts[..3]).unwrap();
        for left in (0..=3).rev() {
            let bytes = (left * 8 * MIB) as u64;
            // In threads mode the budget counts what others are to use, not what is held.
            if client.mode() == Mode::Processes {
                until("so much is kept", || {
                    let managed = managed(&client);
                    managed >= bytes && managed < bytes + MIB as u64
                });
            }
            if let Some(last) = held.last() {
                assert_eq!(client.compute(&last.map(first)).unwrap(), left as u64 - 1);
            }
            held.pop();
        }
    }
    assert_eq!(notes(&file), ["4", "4"]);
}

#[test]
fn the_budget_of_threads_counts_each_part() {
    /// What counts while it runs.
    fn counted(_: Vec<u64>) -> u64 {
        managed(&swath::current_client().unwrap())
    }
    let _clean = Clean::start();
    let dir = directory();
    let client = Client::builder().mode(Mode::Threads).threads(1).memory_limit("512MiB").build().unwrap();
    let parts = delayed(blocks).call(path(&dir, "runs"), 4).unpack_list(4);
    // The first is moved into its user while the second and third wait. The fourth is nobody's.
    let during = parts[0].map(counted);
    let others =
        delayed(|during: u64, a: Vec<u64>, b: Vec<u64>| (during, a[0], b[0])).call(during, &parts[1], &parts[2]);
    let (during, a, b) = client.compute(&others).unwrap();
    assert_eq!((during / MIB as u64, a, b), (16, 1, 2));
    assert_eq!(managed(&client), 0);
}

#[test]
fn parts_that_do_not_fit_into_memory_are_moved_to_disk() {
    let _clean = Clean::start();
    let dir = directory();
    let file = path(&dir, "runs");
    let client = Client::builder().workers(1).threads(1).memory_limit("256MiB").build().unwrap();
    let all: Vec<_> = (0..8).map(|_| delayed(blocks).call(&*file, 5).unpack_list(5)).collect();
    let held: Vec<Vec<_>> = all.iter().map(|parts| client.persist(parts).unwrap()).collect();
    until("some are on disk", || client.memory().unwrap().spilled() > (64 * MIB) as u64);
    for parts in held {
        let firsts: Vec<_> = parts.iter().map(|part| part.map(first)).collect();
        assert_eq!(client.compute(&firsts).unwrap(), [0, 1, 2, 3, 4]);
    }
    assert_eq!(notes(&file).len(), 8, "none is made twice");
    until("the disk is given back", || client.memory().unwrap().spilled() == 0);
}

#[test]
fn parts_lost_with_their_worker_are_made_again() {
    let _clean = Clean::start();
    let dir = directory();
    let file = path(&dir, "runs");
    let client = processes(2, 1);
    let parts = delayed(blocks).on_worker("worker-0").call(&*file, 3).unpack_list(3);
    let futures = client.submit_all(&parts).unwrap();
    // This one is here, too.
    assert_eq!(futures[0].result().unwrap()[7], 0);
    client.wait(&futures, WaitFor::All).unwrap();
    let worker = client.workers().unwrap().into_iter().find(|worker| worker.name == "worker-0").unwrap();
    send_signal(worker.pid, Signal::SIGKILL);
    until("it is gone", || !pids(&client).contains(&worker.pid));
    let firsts: Vec<_> = futures.iter().map(|future| future.delayed().map(first)).collect();
    assert_eq!(client.compute(&firsts).unwrap(), [0, 1, 2]);
    assert_eq!(notes(&file), ["3", "3"]);
    // What is lost and needed by nobody is not made again.
    drop((firsts, futures));
    let worker = client.workers().unwrap().into_iter().find(|worker| worker.name == "worker-0").unwrap();
    send_signal(worker.pid, Signal::SIGKILL);
    until("it is gone", || !pids(&client).contains(&worker.pid));
    assert_eq!(delayed(|x: u64| x).call(1).compute(&client).unwrap(), 1);
    assert_eq!(notes(&file).len(), 2);
}

#[test]
fn parts_that_are_slices_of_one_buffer_are_right_everywhere() {
    let _clean = Clean::start();
    let client = processes(2, 1);
    let halves = |n: u64| {
        let whole = Buffer::from((0..n).collect::<Vec<u64>>());
        let (low, high) = (whole.slice(..(n / 2) as usize), whole.slice((n / 2) as usize..));
        (low, high)
    };
    let (low, high) = delayed(halves).on_worker("worker-0").call(2 * MIB as u64).unpack();
    let held = client.persist((&low, &high)).unwrap();
    let last = |half: Buffer<u64>| (half.len(), half[half.len() - 1]);
    let there = (delayed(last).on_worker("worker-1").call(&held.0), delayed(last).on_worker("worker-1").call(&held.1));
    let n = MIB as u64;
    assert_eq!(client.compute((&there.0, &there.1)).unwrap(), ((MIB, n - 1), (MIB, 2 * n - 1)));
    let low = held.0.compute(&client).unwrap();
    assert_eq!((low.len(), low[5]), (MIB, 5));
}

#[test]
fn parts_that_are_copied_buffers_have_memory_of_their_own() {
    let _clean = Clean::start();
    let client = processes(1, 1);
    let copied = |n: u64| {
        let half = |from: u64| Buffer::from_slice(&(from..from + n).collect::<Vec<u64>>());
        (half(0), half(n))
    };
    let (low, high) = delayed(copied).call(MIB as u64).unpack();
    let (low, high) = client.persist((&low, &high)).unwrap();
    let last = |half: Buffer<u64>| half[half.len() - 1];
    assert_eq!(client.compute((&low.map(last), &high.map(last))).unwrap(), (MIB as u64 - 1, 2 * MIB as u64 - 1));
    let segments = || client.memory().unwrap().workers[0].segments;
    until("both are there", || segments() >= 16 * MIB as u64);
    drop(low);
    until("one of them has gone", || segments() < 12 * MIB as u64);
    assert_eq!(client.compute(&high.map(last)).unwrap(), 2 * MIB as u64 - 1);
}
