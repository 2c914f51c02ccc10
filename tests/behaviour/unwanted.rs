//! Tasks that go on though nobody wants their results: cancelled ones, those whose futures are gone, those over their time
//! limit. They hold up nobody.

use crate::common::{Clean, LONG, comes_true, directory, note, notes, path, touch, until};
use std::time::{Duration, Instant};
use swath::error::DeathCause;
use swath::status::Mode;
use swath::{Client, Future, delayed};

/// Well under a second, on a machine that does other things, too.
const SOON: Duration = Duration::from_millis(800);

fn inc(x: i64) -> i64 {
    x + 1
}

/// Ends when the file is there, or its directory has gone, whatever it is asked.
fn deaf(began: String, open: String) -> i64 {
    note(&began, std::process::id());
    let open = std::path::Path::new(&open);
    i64::from(comes_true(LONG, || open.exists() || !open.parent().is_some_and(std::path::Path::exists)))
}

fn sleeps_a_second(began: String, x: i64) -> i64 {
    note(&began, std::process::id());
    std::thread::sleep(Duration::from_secs(1));
    x
}

/// One thread for tasks, in the modes that have threads.
fn with_one_thread(mut case: impl FnMut(&Client)) {
    let _clean = Clean::start();
    case(&Client::threads(1));
    case(&Client::builder().workers(1).threads(1).forward_output(false).build().unwrap());
}

fn answers_soon(client: &Client, what: &str) {
    let began = Instant::now();
    assert_eq!(client.submit(&delayed(inc).call(1)).unwrap().result_timeout(LONG).unwrap(), 2);
    assert!(began.elapsed() < SOON, "after {what} the next task had its turn after {:?}: {client}", began.elapsed());
}

/// A deaf task that runs, and what lets it end.
fn runs_deaf(client: &Client, dir: &tempfile::TempDir, number: i32) -> (Future<i64>, String) {
    let [began, open] = ["began", "open"].map(|name| path(dir, &format!("{name}-{number}")));
    let future = client.submit(&delayed(deaf).call(&*began, &*open)).unwrap();
    until("it runs", || !notes(&began).is_empty());
    (future, open)
}

#[test]
fn a_cancelled_task_that_does_not_stop_leaves_its_thread_to_others() {
    with_one_thread(|client| {
        let dir = directory();
        client.wait_for_workers(1, LONG).unwrap();
        let mut open = Vec::new();
        for number in 0..3 {
            let (future, file) = runs_deaf(client, &dir, number);
            let behind = client.submit(&delayed(inc).call(7)).unwrap();
            client.cancel(&future);
            assert!(future.result().unwrap_err().is_cancelled());
            assert_eq!(behind.result_timeout(SOON).unwrap(), 8, "what was behind it goes on: {client}");
            answers_soon(client, "a cancelled task");
            open.push(file);
        }
        open.iter().for_each(|file| touch(file));
        answers_soon(client, "their ends");
    });
}

#[test]
fn a_task_whose_future_is_gone_leaves_its_thread_to_others() {
    with_one_thread(|client| {
        let dir = directory();
        client.wait_for_workers(1, LONG).unwrap();
        let (future, open) = runs_deaf(client, &dir, 0);
        drop(future);
        answers_soon(client, "a dropped future");
        touch(&open);
    });
}

#[test]
fn a_task_over_its_time_limit_leaves_its_thread_to_others() {
    with_one_thread(|client| {
        let dir = directory();
        client.wait_for_workers(1, LONG).unwrap();
        let [began, open] = ["began", "open"].map(|name| path(&dir, name));
        let lazy = delayed(deaf).timeout(Duration::from_millis(200)).call(&*began, &*open);
        let future = client.submit(&lazy).unwrap();
        assert!(future.result_timeout(LONG).is_err());
        answers_soon(client, "an overdue task");
        touch(&open);
    });
}

/// Once they have ended, there are as many threads as there are to be.
#[test]
fn no_more_tasks_run_at_a_time_when_cancelled_ones_have_ended() {
    with_one_thread(|client| {
        let dir = directory();
        client.wait_for_workers(1, LONG).unwrap();
        let running: Vec<_> = (0..4)
            .map(|number| {
                let (future, open) = runs_deaf(client, &dir, number);
                client.cancel(&future);
                open
            })
            .collect();
        running.iter().for_each(|open| touch(open));
        let files: Vec<String> = (0..3).map(|n| path(&dir, &format!("began-later-{n}"))).collect();
        let began = Instant::now();
        let later: Vec<_> =
            files.iter().map(|f| client.submit(&delayed(sleeps_a_second).call(&**f, 1)).unwrap()).collect();
        assert_eq!(client.gather(&later).unwrap(), [1; 3]);
        assert!(
            began.elapsed() >= Duration::from_millis(2500),
            "one at a time, and not {:?}: {client}",
            began.elapsed()
        );
    });
}

#[test]
fn the_neighbours_of_a_cancelled_task_that_does_not_stop_run_once() {
    let _clean = Clean::start();
    let builder = Client::builder().workers(1).threads(4).forward_output(false);
    let client = builder.cancel_grace(Duration::from_secs(4)).build().unwrap();
    let dir = directory();
    let files: Vec<String> = (0..3).map(|n| path(&dir, &format!("neighbour-{n}"))).collect();
    let (future, _open) = runs_deaf(&client, &dir, 0);
    // A result that the worker holds is not lost with it.
    let kept = client.submit(&delayed(|n: u64| vec![n; 5000]).call(7_u64)).unwrap();
    client.wait_timeout(std::slice::from_ref(&kept), swath::client::WaitFor::All, LONG).unwrap();
    let first = crate::common::pids(&client);
    client.cancel(&future);
    // They begin while its time is half over, and are done before that is over.
    std::thread::sleep(Duration::from_millis(1500));
    let neighbours: Vec<_> =
        files.iter().map(|f| client.submit(&delayed(sleeps_a_second).call(&**f, 5)).unwrap()).collect();
    assert_eq!(client.gather(&neighbours).unwrap(), [5; 3]);
    until("its worker is replaced", || client.deaths().unwrap().len() == 1);
    assert_eq!(client.deaths().unwrap()[0].cause, DeathCause::CancelIgnored);
    until("there is another one", || crate::common::pids(&client).first().is_some_and(|pid| !first.contains(pid)));
    files.iter().for_each(|file| assert_eq!(notes(file).len(), 1, "started once"));
    assert_eq!(notes(&path(&dir, "began-0")).len(), 1);
    assert_eq!(kept.result().unwrap(), vec![7; 5000]);
    assert_eq!(client.mode(), Mode::Processes);
}
