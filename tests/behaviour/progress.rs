//! Tasks are counted by state and name: the eight numbers add up to the total at every moment, and the totals of a program are
//! the same in every mode.

use crate::common::{directory, note, notes, path, until, wait_for_file};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use swath::status::{Counts, Mode, Progress};
use swath::{Bag, Client, Delayed, current_client, delayed, try_delayed};

fn inc(x: i64) -> i64 {
    x + 1
}

fn add(a: i64, b: i64) -> i64 {
    a + b
}

fn total(all: Vec<i64>) -> i64 {
    all.iter().sum()
}

fn positive(x: i64) -> Result<i64, String> {
    if x > 0 { Ok(x) } else { Err(format!("{x} is not positive")) }
}

/// What has been counted since.
fn since(client: &Client, before: &Progress) -> Counts {
    let (now, before) = (client.progress().counts, before.counts);
    let difference = |n: u64, m: u64| n.checked_sub(m).unwrap_or_else(|| panic!("{before} and then {now}"));
    Counts {
        unneeded: difference(now.unneeded, before.unneeded),
        released: difference(now.released, before.released),
        memory: difference(now.memory, before.memory),
        failed: difference(now.failed, before.failed),
        cancelled: difference(now.cancelled, before.cancelled),
        waiting: difference(now.waiting, before.waiting),
        ready: difference(now.ready, before.ready),
        running: difference(now.running, before.running),
    }
}

/// Waits until so much has been counted since.
fn counted(client: &Client, before: &Progress, counts: Counts) {
    until(&format!("{counts:?}"), || since(client, before) == counts);
}

fn checked(progress: &Progress) {
    let sum: Counts = progress.groups.iter().map(|group| group.counts).sum();
    assert_eq!(sum, progress.counts, "{progress:?}");
}

pub fn a_chain_counts_each_of_its_calls(client: &Client) {
    let before = client.progress();
    let chain = (0..30).fold(delayed(inc).call(0), |x, _| delayed(inc).call(x));
    let kept = client.persist(&chain).unwrap();
    assert_eq!(client.compute(&kept).unwrap(), 31);
    counted(client, &before, Counts { memory: 1, released: 30, ..Counts::default() });
    let group = client.progress().groups.into_iter().find(|group| group.name == "inc" && group.graph.is_some());
    assert_eq!(group.unwrap().counts.total(), 31);
    drop(kept);
    counted(client, &before, Counts { released: 31, ..Counts::default() });
}

pub fn what_fails_is_counted_with_what_needs_it(client: &Client) {
    let before = client.progress();
    let six: Vec<_> = (0..6).map(|i| try_delayed(positive).name("six").call(i - 2 + i64::from(i > 2))).collect();
    let good = six.iter().skip(4).cloned().collect::<Vec<_>>();
    let sum = delayed(total).call(six);
    let users = [delayed(inc).call(&sum), delayed(add).call(&sum, 1)];
    client.compute(&users).unwrap_err();
    // -2, -1, 0, 2, 3, 4.
    counted(client, &before, Counts { failed: 6, released: 3, ..Counts::default() });
    let progress = client.progress();
    let six = progress.of_name("six");
    assert_eq!((six.failed, six.done()), (3, 3), "{progress:?}");
    drop(good);
}

pub fn what_runs_again_is_not_counted_anew(client: &Client) {
    fn when_there(file: String, x: i64) -> Result<i64, String> {
        if std::fs::exists(&file).unwrap() { Ok(x) } else { Err("not there".into()) }
    }
    let dir = directory();
    let file = path(&dir, "there");
    let before = client.progress();
    let root = try_delayed(when_there).retries(2).call(&*file, 7);
    let sum = delayed(add).call(delayed(inc).call(1), &root);
    let future = client.submit(&delayed(inc).call(&sum)).unwrap();
    future.result().unwrap_err();
    counted(client, &before, Counts { failed: 3, released: 1, ..Counts::default() });
    client.retry(&future).unwrap();
    future.result().unwrap_err();
    counted(client, &before, Counts { failed: 3, released: 1, ..Counts::default() });
    note(&file, "now it is");
    client.retry(&future).unwrap();
    assert_eq!(future.result().unwrap(), 10);
    counted(client, &before, Counts { memory: 1, released: 3, ..Counts::default() });
    // A graph of one call.
    let before = client.progress();
    let one = client.submit(&try_delayed(when_there).call(path(&dir, "one"), 1)).unwrap();
    one.result().unwrap_err();
    counted(client, &before, Counts { failed: 1, ..Counts::default() });
    note(&path(&dir, "one"), "there");
    client.retry(&one).unwrap();
    assert_eq!(one.result().unwrap(), 1);
    counted(client, &before, Counts { memory: 1, ..Counts::default() });
}

pub fn what_is_cancelled_or_released_is_counted_so(client: &Client) {
    fn waits(file: String) -> i64 {
        note(&file, "began");
        until("it is cancelled", swath::cancelled);
        0
    }
    if client.mode() == Mode::Sync {
        return;
    }
    let dir = directory();
    let file = path(&dir, "runs");
    let before = client.progress();
    let first = delayed(waits).call(&*file);
    let future = client.submit(&delayed(inc).call(delayed(inc).call(&first))).unwrap();
    until("it runs", || notes(&file).len() == 1);
    until("it is seen to run", || since(client, &before).running >= 1);
    assert_eq!(since(client, &before).total(), 3);
    client.cancel(&future);
    until("all have ended", || since(client, &before).unfinished() == 0);
    let counts = since(client, &before);
    assert_eq!((counts.total(), counts.done(), counts.failed), (3, 0, 0), "{counts}");
    assert!(counts.cancelled >= 1, "{counts:?}");
}

pub fn nobody_is_counted_twice_or_lost(client: &Client) {
    fn nested(n: i64) -> i64 {
        let client = current_client().unwrap();
        let three = [n, n + 1, n + 2].map(|x| delayed(inc).call(x));
        client.compute(&delayed(total).call(three.to_vec())).unwrap()
    }
    let before = client.progress();
    let nested: Vec<_> = (0..4).map(|n| delayed(nested).call(n)).collect();
    assert_eq!(client.compute(&nested).unwrap(), [6, 9, 12, 15]);
    // Four, and four of each.
    counted(client, &before, Counts { released: 4 + 16, ..Counts::default() });
    let before = client.progress();
    let bag = Bag::range(0..1000_i64, 10).map(|x| x + 1).filter(|x| x % 3 == 0);
    let sum = bag.count().compute(client).unwrap();
    assert_eq!(sum, 333);
    let counts = since(client, &before);
    assert_eq!(counts.done(), counts.total(), "{counts}");
    let kept = client.persist(&bag).unwrap();
    kept.count().compute(client).unwrap();
    let (q, r) = delayed(|a: i64, b: i64| (a / b, a % b)).call(17, 5).unpack();
    let before = client.progress();
    assert_eq!(client.compute((&q, &r)).unwrap(), (3, 2));
    counted(client, &before, Counts { released: 1, ..Counts::default() });
    drop(kept);
    let before = client.progress();
    let given = [1_i64, 2].map(|x| client.scatter(x).unwrap());
    let used: Vec<_> = given.iter().map(|x| delayed(inc).call(x)).collect();
    assert_eq!(client.compute(&used).unwrap(), [2, 3]);
    counted(client, &before, Counts { released: 2, ..Counts::default() });
    let long = delayed(|text: String| text.len()).call("x".repeat(100_000));
    assert_eq!(client.compute(&long).unwrap(), 100_000);
    counted(client, &before, Counts { released: 3, ..Counts::default() });
}

/// Ends the watching, also when a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

pub fn the_numbers_add_up_at_every_moment(client: &Client) {
    let over = AtomicBool::new(false);
    let (futures, kept, counts) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let (mut last, mut seen) = (0, 0_u64);
            while !over.load(Ordering::Acquire) {
                let progress = client.progress();
                checked(&progress);
                let total = progress.counts.total();
                assert!(total >= last, "{total} after {last}: {progress:?}");
                // Graphs of several calls keep their totals from the first time they are seen.
                for group in progress.groups.iter().filter(|group| group.name == "total" && group.graph.is_some()) {
                    assert_eq!(group.counts.total(), 1, "{progress:?}");
                }
                for group in progress.groups.iter().filter(|group| group.name == "positive") {
                    assert!(group.graph.is_none() || group.counts.total() == 50, "{progress:?}");
                }
                last = total;
                seen += 1;
            }
            seen
        });
        let _over = Over(&over);
        let before = client.progress();
        let mut kept = Vec::new();
        let mut futures = Vec::new();
        for round in 0..10_i64 {
            let fifty: Vec<Delayed<i64>> =
                (0..50).map(|i| try_delayed(positive).call(i + i64::from(round % 5 != 3))).collect();
            let sum = delayed(total).call(fifty);
            let future = client.submit(&sum).unwrap();
            match round % 5 {
                0 => drop(future),
                1 => {
                    client.cancel(&future);
                    futures.push(future);
                }
                2 => assert_eq!(future.result().unwrap(), 1275),
                3 => {
                    future.result().unwrap_err();
                    client.retry(&future).unwrap();
                    future.result().unwrap_err();
                    futures.push(future);
                }
                _ => kept.push(client.persist(&sum).unwrap()),
            }
            let mut map = client.map(inc, 0..1000_i64).unwrap();
            map.truncate(500);
            map[400..].iter().for_each(|future| client.cancel(future));
        }
        until("all have ended", || client.progress().counts.unfinished() == 0);
        let counts = since(client, &before);
        over.store(true, Ordering::Release);
        assert!(watcher.join().unwrap() > 0);
        (futures, kept, counts)
    });
    // What is persisted runs once more.
    assert_eq!(counts.total(), 10 * (50 + 1 + 1000) + 2 * (50 + 1), "{counts}");
    drop((futures, kept));
    until("no result is kept", || client.progress().counts.memory == 0);
    checked(&client.progress());
}

pub fn a_closed_client_has_nothing_unfinished(client: &Client) {
    let kept = client.submit(&delayed(inc).call(1)).unwrap();
    kept.result().unwrap();
    let total = client.progress().counts.total();
    client.shutdown();
    let counts = client.progress().counts;
    assert_eq!((counts.total(), counts.unfinished()), (total, 0), "{counts}");
}

pub fn watching_ends_with_the_last_state(client: &Client) {
    until("nothing runs", || client.progress().counts.unfinished() == 0);
    assert_eq!(client.watch_progress().count(), 1, "nothing is to be done");
    let before = client.progress();
    let futures = client.map(inc, 0..2000_i64).unwrap();
    let began = Instant::now();
    let mut watch = client.watch_progress();
    let seen: Vec<Progress> = watch.by_ref().collect();
    let most = 2 + began.elapsed().as_millis() / 100;
    assert!(!seen.is_empty() && seen.len() as u128 <= most, "{} times", seen.len());
    seen.iter().for_each(checked);
    let last = seen.last().unwrap();
    assert_eq!((last.counts.unfinished(), last.left), (0, Some(Duration::ZERO)), "{last:?}");
    assert_eq!(last.counts.total(), before.counts.total() + 2000);
    assert!(last.threads >= 1, "{last:?}");
    assert!(watch.next().is_none());
    drop(futures);
    // A closed client has nothing more to say.
    let watch = client.watch_progress();
    client.shutdown();
    assert!(watch.count() <= 1);
}

pub fn progress_of_some_results(client: &Client) {
    let others = client.persist(&delayed(total).call(delayed(inc).map([7_i64]))).unwrap();
    let parts: Vec<_> = (0..20).map(|i| delayed(inc).call(i)).collect();
    let sum = client.persist(&delayed(total).call(parts)).unwrap();
    let list = client.persist(&Bag::range(0..100_i64, 5).map(|x| x + 1)).unwrap();
    let one = client.submit(&delayed(inc).name("one").call(1)).unwrap();
    let wrong = client.submit(&try_delayed(positive).name("wrong").call(-1)).unwrap();
    let counts = |progress: Progress| {
        checked(&progress);
        (progress.counts.done(), progress.counts.failed, progress.counts.total())
    };
    let of_sum = client.progress_of(&sum);
    assert_eq!(of_sum.watch().last().map(counts), Some((21, 0, 21)));
    // What uses a result is not submitted, and the result is.
    assert_eq!(client.progress_of(&delayed(inc).call(&sum)).watch().last().map(counts), Some((21, 0, 21)));
    assert_eq!(client.progress_of(&[&sum, &others]).watch().last().map(counts), Some((23, 0, 23)));
    let all = client.progress_of(&(&sum, &list, &one, &wrong));
    assert_eq!(all.watch().last().map(counts), Some((27, 1, 28)));
    let names: Vec<_> = all.progress().groups.into_iter().map(|group| group.name).collect();
    assert!(names.contains(&"one".to_string()) && names.contains(&"wrong".to_string()), "{names:?}");
    assert_eq!(counts(client.progress_of(&delayed(inc).call(1)).progress()), (0, 0, 0));
    let mapped = client.map(inc, 0..100_i64).unwrap();
    assert_eq!(client.progress_of(&mapped).watch().last().map(counts), Some((100, 0, 100)));
    // They are known when they have gone, and nothing is kept for that.
    drop((sum, others));
    until("they are released", || of_sum.progress().counts.released == 21);
    drop((list, one, wrong, mapped));
    until("no result is kept", || client.progress().counts.memory == 0);
}

pub fn what_a_task_says_of_itself_moves_its_group(client: &Client) {
    fn says(file: String, x: i64) -> i64 {
        for nothing in [f64::NAN, -1.0, f64::NEG_INFINITY, 0.25] {
            swath::task::set_progress(nothing);
        }
        swath::task::set_progress(f64::NAN);
        swath::task::progress(1, 0);
        note(&format!("{file}-quarter"), "now");
        wait_for_file(&format!("{file}-on"));
        swath::task::progress(7, 3);
        note(&format!("{file}-all"), "now");
        wait_for_file(&format!("{file}-end"));
        x
    }
    let dir = directory();
    let file = path(&dir, "it");
    let before = client.progress().of_name("says").total();
    let call = delayed(says).call(&*file, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| client.compute(&call).unwrap());
        let group = || client.progress().groups.into_iter().find(|group| group.name == "says");
        let running = || client.workers().unwrap().into_iter().flat_map(|worker| worker.running).next();
        for (said, fraction, next) in [("quarter", 0.25, "on"), ("all", 1.0, "end")] {
            until("it has said so", || notes(&format!("{file}-{said}")).len() == 1);
            let seen = || {
                group().is_some_and(|group| group.partial == (1000.0 * fraction) as u64 && group.counts.running == 1)
            };
            until("it is seen", seen);
            let task = running().unwrap();
            assert_eq!((task.key, task.progress), (call.key(), fraction));
            note(&format!("{file}-{next}"), "go");
        }
    });
    until("it is done", || running_of(client) == 0);
    let group = client.progress().groups.into_iter().find(|group| group.name == "says").unwrap();
    assert_eq!((group.counts.total(), group.counts.running, group.partial), (before + 1, 0, 0), "{group:?}");
    assert!(client.workers().unwrap().iter().all(|worker| worker.running.is_empty()));
}

fn running_of(client: &Client) -> u64 {
    client.progress().counts.unfinished()
}
