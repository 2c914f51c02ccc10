//! Results that are published under names.

use crate::common::{Clean, LONG, block_on, directory, note, notes, path, pids, processes, send_signal, touch, until};
use nix::sys::signal::Signal;
use swath::client::WaitFor;
use swath::error::PublishError;
use swath::{Bag, Buffer, Client, Error, Future, Result, current_client, delayed, try_delayed};

fn squares(n: u64) -> Vec<u64> {
    (0..n).map(|x| x * x).collect()
}

fn total(values: Vec<u64>) -> u64 {
    values.iter().sum()
}

fn invalid<T>(result: Result<T>, text: &str) {
    match result {
        Err(error @ Error::Invalid { .. }) => assert_eq!(error.to_string(), format!("bad value for {text}")),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("`{text}` is not told"),
    }
}

fn refused<T>(result: Result<T>, expected: PublishError) {
    match result {
        Err(Error::Publish(error)) => assert_eq!(error, expected),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it is not told that {expected}"),
    }
}

fn missing(name: &str) -> PublishError {
    PublishError::Missing { name: name.to_string() }
}

fn names(client: &Client) -> Vec<String> {
    client.list_published().unwrap().into_iter().map(|published| published.name).collect()
}

pub fn a_result_is_there_by_its_name_until_it_is_unpublished(client: &Client) {
    let call = delayed(squares).call(1000_u64);
    let future = client.submit(&call).unwrap();
    client.publish("squares", &future).unwrap();
    let small = client.scatter("twelve".to_string()).unwrap();
    client.publish("a word", &small).unwrap();
    drop((future, small));
    let all = client.list_published().unwrap();
    let told: Vec<_> = all.iter().map(|p| (p.name.as_str(), p.type_name.as_str())).collect();
    assert_eq!(told, [("a word", "alloc::string::String"), ("squares", "alloc::vec::Vec<u64>")]);
    assert!(all[1].nbytes.is_some_and(|n| (1000..10_000).contains(&n)), "{all:?}");

    let again = client.published::<Vec<u64>>("squares").unwrap();
    assert_eq!(client.compute(&delayed(total).call(&again)).unwrap(), total(squares(1000)));
    assert_eq!(client.published::<String>("a word").unwrap().result().unwrap(), "twelve");
    assert_eq!(client.published::<Vec<u64>>("squares").unwrap().result().unwrap(), squares(1000));
    // Both it and what it was made of are arguments of one call.
    let plus = delayed(|a: Vec<u64>, b: Vec<u64>| a.len() + b.len());
    let other = client.published::<Vec<u64>>("squares").unwrap();
    assert_eq!(client.compute(&plus.call(&again, &other)).unwrap(), 2000);
    client.wait(&[other], WaitFor::All).unwrap();

    client.unpublish("squares").unwrap();
    assert_eq!(names(client), ["a word"]);
    refused(client.published::<Vec<u64>>("squares"), missing("squares"));
    // Who has it keeps it, and may publish it anew.
    client.publish("more squares", &again).unwrap();
    drop(again);
    assert_eq!(client.published::<Vec<u64>>("more squares").unwrap().result().unwrap(), squares(1000));
    client.unpublish("more squares").unwrap();
    client.unpublish("a word").unwrap();
    assert_eq!(names(client), [""; 0]);
}

pub fn kept_results_are_published_as_they_are(client: &Client) {
    let dir = directory();
    let file = path(&dir, "runs");
    let run = |file: String, n: u64| {
        note(&file, n);
        squares(n)
    };
    let kept = client.persist(&delayed(run).call(file.clone(), 500_u64)).unwrap();
    client.publish("kept", &client.submit(&kept).unwrap()).unwrap();
    drop(kept);
    let (first, second) = delayed(|n: u64| (squares(n), n)).call(300_u64).unpack();
    let (first, second) = (client.submit(&first).unwrap(), client.submit(&second).unwrap());
    client.publish("part", &first).unwrap();
    drop((first, second));
    for _ in 0..3 {
        assert_eq!(client.published::<Vec<u64>>("kept").unwrap().result().unwrap().len(), 500);
        assert_eq!(client.published::<Vec<u64>>("part").unwrap().result().unwrap().len(), 300);
    }
    assert_eq!(notes(&file), ["500"]);
}

pub fn lists_are_published_as_a_whole(client: &Client) {
    let futures = client.map(squares, 0..20_u64).unwrap();
    client.publish_all("lists", &futures).unwrap();
    client.publish_all::<u8>("nothing", &[]).unwrap();
    drop(futures);
    let all = client.list_published().unwrap();
    assert_eq!((all[0].type_name.as_str(), all[1].nbytes), ("[alloc::vec::Vec<u64>]", Some(0)));
    let lists = client.published_all::<Vec<u64>>("lists").unwrap();
    assert_eq!(client.gather(&lists).unwrap(), (0..20).map(squares).collect::<Vec<_>>());
    let bag = Bag::from_delayed(lists.iter().map(Future::delayed));
    assert_eq!(client.compute(&bag.count()).unwrap(), 190);
    assert!(client.published_all::<u8>("nothing").unwrap().is_empty());
    let (list, one) = ("[alloc::vec::Vec<u64>]".to_string(), "alloc::vec::Vec<u64>".to_string());
    let name = "lists".to_string();
    refused(
        client.published::<Vec<u64>>("lists"),
        PublishError::WrongType { name, wanted: one.clone(), there: list.clone() },
    );
    client.publish("one", &lists[3]).unwrap();
    let name = "one".to_string();
    refused(client.published_all::<Vec<u64>>("one"), PublishError::WrongType { name, wanted: list, there: one });
    block_on(async {
        client.publish_all_async("more", &lists[..2]).await.unwrap();
        assert_eq!(client.published_all_async::<Vec<u64>>("more").await.unwrap().len(), 2);
    });
    let mut some = client.map(|x: u64| 10 / x, [1_u64, 0, 2]).unwrap();
    assert!(client.publish_all("failed", &some).unwrap_err().task().is_some());
    drop(some.remove(1));
    client.publish_all("failed", &some).unwrap();
    for name in ["lists", "nothing", "one", "more", "failed"] {
        client.unpublish(name).unwrap();
    }
    assert_eq!(names(client), [""; 0]);
}

pub fn publishing_waits_for_the_result(client: &Client) {
    let dir = directory();
    let open = path(&dir, "open");
    let gate = |open: String| {
        until("it is open", || std::path::Path::new(&open).exists());
        7_u64
    };
    std::thread::scope(|scope| {
        scope.spawn(|| touch(&open));
        let future = client.submit(&delayed(gate).call(open.clone())).unwrap();
        client.publish("late", &future).unwrap();
    });
    assert_eq!(client.published::<u64>("late").unwrap().result().unwrap(), 7);
}

pub fn async_code_publishes_too(client: &Client) {
    block_on(async {
        let future = client.submit_async(&delayed(squares).call(10_u64)).await.unwrap();
        client.publish_async("squares", &future).await.unwrap();
        refused(client.publish_async("squares", &future).await, PublishError::Taken { name: "squares".to_string() });
        drop(future);
        assert_eq!(client.list_published_async().await.unwrap().len(), 1);
        let future = client.published_async::<Vec<u64>>("squares").await.unwrap();
        assert_eq!(future.await.unwrap(), squares(10));
        client.unpublish_async("squares").await.unwrap();
        refused(client.unpublish_async("squares").await, missing("squares"));
        refused(client.published_async::<u8>("squares").await, missing("squares"));
    });
}

pub fn tasks_find_what_is_published_and_publish(client: &Client) {
    fn find(n: u64) -> Result<u64> {
        let client = current_client().expect("in a task");
        let base: u64 = client.published::<Vec<u64>>("base")?.result()?.iter().sum();
        let own = client.submit(&delayed(squares).call(n))?;
        client.publish(&format!("of {n}"), &own)?;
        Ok(base + n)
    }
    client.publish("base", &client.submit(&delayed(squares).call(5_u64)).unwrap()).unwrap();
    assert_eq!(client.compute(&try_delayed(find).map(0..4_u64)).unwrap(), [30, 31, 32, 33]);
    assert_eq!(names(client), ["base", "of 0", "of 1", "of 2", "of 3"]);
    for n in 0..4 {
        let name = format!("of {n}");
        assert_eq!(client.published::<Vec<u64>>(&name).unwrap().result().unwrap(), squares(n));
        client.unpublish(&name).unwrap();
    }
    client.unpublish("base").unwrap();
}

pub fn large_buffers_and_handles_of_each_other(client: &Client) {
    let ones = |n: usize| Buffer::from_fn(n, |_| 1.0_f64);
    let large = client.submit(&delayed(ones).call(1_000_000_usize)).unwrap();
    client.publish("large", &large).unwrap();
    let given = client.scatter(Buffer::from_fn(100_000, |_| 2.0_f64)).unwrap();
    client.publish("given", &given).unwrap();
    drop((large, given));
    let sum = delayed(|a: Buffer<f64>, b: Buffer<f64>| a.as_slice().iter().chain(b.as_slice()).sum::<f64>());
    for _ in 0..3 {
        let (large, given) = (client.published("large").unwrap(), client.published("given").unwrap());
        assert!((client.compute(&sum.call(&large, &given)).unwrap() - 1_200_000.0).abs() < 0.5);
    }
    client.unpublish("large").unwrap();
    client.unpublish("given").unwrap();
}

pub fn bad_names_are_refused(client: &Client) {
    let future = client.scatter(1_u8).unwrap();
    let what = "the name of what is published";
    let cases = [
        (String::new(), format!("{what}: it is empty")),
        ("a/b".to_string(), format!("{what}: `a/b` has a '/'")),
        ("a\nb".to_string(), format!("{what}: `a\\nb` has a '\\n'")),
        ("x".repeat(10_000), format!("{what}: it has 10000 characters; 200 are the most")),
    ];
    for (name, text) in cases {
        invalid(client.publish(&name, &future), &text);
        invalid(client.published::<u8>(&name), &text);
        invalid(client.unpublish(&name), &text);
    }
    client.publish(&"ö".repeat(200), &future).unwrap();
    assert_eq!(client.published::<u8>(&"ö".repeat(200)).unwrap().result().unwrap(), 1);
}

pub fn what_is_not_there_or_otherwise_is_told(client: &Client) {
    let future = client.submit(&delayed(squares).call(3_u64)).unwrap();
    refused(client.published::<u8>("n"), missing("n"));
    refused(client.unpublish("n"), missing("n"));
    client.publish("n", &future).unwrap();
    refused(client.publish("n", &client.scatter(1_u8).unwrap()), PublishError::Taken { name: "n".to_string() });
    let wrong = PublishError::WrongType {
        name: "n".to_string(),
        wanted: "alloc::vec::Vec<u32>".to_string(),
        there: "alloc::vec::Vec<u64>".to_string(),
    };
    assert_eq!(
        wrong.to_string(),
        "what is published as `n` is of type `alloc::vec::Vec<u64>`, and not `alloc::vec::Vec<u32>`"
    );
    refused(client.published::<Vec<u32>>("n"), wrong);
    // It is as it was.
    assert_eq!(client.published::<Vec<u64>>("n").unwrap().result().unwrap(), [0, 1, 4]);
    client.unpublish("n").unwrap();
    let twice = client.unpublish("n").unwrap_err();
    assert_eq!(twice.to_string(), "nothing is published as `n`");
}

pub fn what_has_failed_is_not_published(client: &Client) {
    let failed = client.submit(&delayed(|x: u64| 10 / x).call(0)).unwrap();
    let error = client.publish("n", &failed).unwrap_err();
    assert!(error.task().is_some() && error.to_string().contains("divide by zero"), "{error}");
    assert_eq!(names(client), [""; 0]);
    let other = Client::threads(1);
    let foreign = other.submit(&delayed(squares).call(3_u64)).unwrap();
    assert!(matches!(client.publish("n", &foreign), Err(Error::OtherClient { key }) if key == foreign.key()));
    refused(other.published::<Vec<u64>>("n"), missing("n"));
}

pub fn who_cancels_or_shuts_down_is_told(client: &Client) {
    let future = client.submit(&delayed(squares).call(1000_u64)).unwrap();
    client.publish("n", &future).unwrap();
    let mine = client.published::<Vec<u64>>("n").unwrap();
    client.cancel(&mine);
    drop((mine, future));
    assert_eq!(client.published::<Vec<u64>>("n").unwrap().result_timeout(LONG).unwrap().len(), 1000);
    let future = client.submit(&delayed(squares).call(3_u64)).unwrap();
    client.wait(std::slice::from_ref(&future), WaitFor::All).unwrap();
    client.shutdown();
    assert!(matches!(client.publish("m", &future), Err(Error::Closed { .. } | Error::Task(_))));
    assert!(matches!(client.published::<Vec<u64>>("n"), Err(Error::Closed { .. })));
    assert!(matches!(client.unpublish("n"), Err(Error::Closed { .. })));
    assert!(matches!(client.list_published(), Err(Error::Closed { .. })));
}

/// A result is remembered in a file each time it is made.
fn noted(file: String, n: u64) -> Vec<u64> {
    note(&file, n);
    squares(n)
}

#[test]
fn what_a_killed_worker_had_is_made_again() {
    let _clean = Clean::start();
    let dir = directory();
    let file = path(&dir, "runs");
    let client = processes(2, 1);
    let call = delayed(|values: Vec<u64>| values).call(delayed(noted).call(file.clone(), 2000_u64));
    let future = client.submit(&call).unwrap();
    client.publish("squares", &future).unwrap();
    let owner = client.who_has(&[future]).unwrap()[0][0].clone();
    let pid = client.workers().unwrap().iter().find(|worker| worker.name == owner).unwrap().pid;
    let mine = client.published::<Vec<u64>>("squares").unwrap();
    assert_eq!(client.who_has(std::slice::from_ref(&mine)).unwrap(), [[owner]]);
    send_signal(pid, Signal::SIGKILL);
    until("it is gone", || !pids(&client).contains(&pid));
    assert_eq!(mine.result_timeout(LONG).unwrap(), squares(2000));
    assert_eq!(client.published::<Vec<u64>>("squares").unwrap().result_timeout(LONG).unwrap(), squares(2000));
    assert_eq!(notes(&file), ["2000", "2000"]);
    client.unpublish("squares").unwrap();
}

#[test]
fn what_cannot_be_made_again_is_told_and_tried_by_the_next() {
    fn once(file: String, open: String, n: u64) -> Vec<u64> {
        assert!(notes(&file).is_empty() || std::path::Path::new(&open).exists(), "the source is gone");
        noted(file, n)
    }
    let _clean = Clean::start();
    let dir = directory();
    let (file, open) = (path(&dir, "runs"), path(&dir, "open"));
    let client = processes(1, 1);
    let future = client.submit(&delayed(once).call(file.clone(), open.clone(), 2000_u64)).unwrap();
    client.publish("squares", &future).unwrap();
    drop(future);
    let pid = pids(&client)[0];
    send_signal(pid, Signal::SIGKILL);
    until("it is gone", || !pids(&client).contains(&pid));
    let error = client.published::<Vec<u64>>("squares").unwrap().result_timeout(LONG).unwrap_err();
    assert!(error.to_string().contains("the source is gone"), "{error}");
    assert_eq!(error.task().unwrap().name(), "once");
    touch(&open);
    let again = client.published::<Vec<u64>>("squares").unwrap();
    assert_eq!(again.result_timeout(LONG).unwrap(), squares(2000));
}

/// A published result keeps its place in a worker that retires.
#[test]
fn it_moves_when_its_worker_retires() {
    let _clean = Clean::start();
    let dir = directory();
    let file = path(&dir, "runs");
    let client = processes(2, 1);
    let future = client.submit(&delayed(noted).call(file.clone(), 2000_u64)).unwrap();
    client.publish("squares", &future).unwrap();
    let owner = client.who_has(&[future]).unwrap()[0][0].clone();
    client.retire(&[owner]).unwrap();
    assert_eq!(client.published::<Vec<u64>>("squares").unwrap().result_timeout(LONG).unwrap(), squares(2000));
    assert_eq!(notes(&file), ["2000"]);
}
