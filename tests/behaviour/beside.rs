//! Functions that run once in each worker process, beside the tasks; and which worker has what.

use crate::common::{Clean, LONG, block_on, directory, is_sync, path, processes, say, touch, until, wait_for_file};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use swath::client::WaitFor;
use swath::error::Cause;
use swath::status::Mode;
use swath::{Client, Error, Result, current_client, delayed};

static HERE: AtomicU64 = AtomicU64::new(0);

fn is_here(client: &Client) -> bool {
    client.mode() != Mode::Processes
}

pub fn once_in_each_process(client: &Client) {
    let pids = client.run_on_workers(std::process::id).unwrap();
    let found: BTreeSet<u32> = pids.iter().map(|(_, pid)| *pid.as_ref().unwrap()).collect();
    if is_here(client) {
        assert_eq!(pids.len(), 1);
        assert_eq!((pids[0].0.as_str(), found), (client.mode().to_string().as_str(), [std::process::id()].into()));
    } else {
        let workers = client.workers().unwrap();
        assert_eq!(found, workers.iter().map(|worker| worker.pid).collect());
        assert!(pids.iter().map(|(name, _)| name).eq(workers.iter().map(|worker| &worker.name)), "{pids:?}");
    }
    // What it leaves behind is what tasks find.
    for (_, result) in block_on(client.run_on_workers_async(|| HERE.store(7, Ordering::Relaxed))).unwrap() {
        result.unwrap();
    }
    let found = client.compute(&delayed(|_: u64| HERE.load(Ordering::Relaxed)).map(0..8_u64)).unwrap();
    assert_eq!(found, [7; 8]);
    // A larger result, and buffers in it.
    let large = || (vec![1.5_f64; 100_000], swath::Buffer::from_slice(&[7_u8; 100_000]), "x".repeat(1000));
    for (_, result) in client.run_on_workers(large).unwrap() {
        let (numbers, buffer, text) = result.unwrap();
        assert_eq!((numbers.len(), &buffer[99_999..], text.len()), (100_000, &[7_u8][..], 1000));
    }
}

pub fn on_those_that_are_named(client: &Client) {
    let one = |names: &[&str]| client.run_on(names, || 6 * 7);
    let first = one(&["worker-0"]).unwrap();
    assert_eq!((first.len(), first[0].1.as_ref().ok()), (1, Some(&42)));
    assert_eq!(block_on(client.run_on_async(&["worker-0", "worker-0"], || 1)).unwrap().len(), 1);
    if !is_here(client) {
        assert_eq!(first[0].0, "worker-0");
    }
    assert_eq!(one(&[&first[0].0]).unwrap().len(), 1);
    let refused = one(&["worker-0", "nobody"]).unwrap_err();
    assert!(refused.to_string().contains("there is no worker `nobody`"), "{refused}");
    assert!(matches!(refused, Error::Invalid { .. }));
    assert!(one(&[]).unwrap().is_empty());
}

#[test]
fn those_that_start_are_waited_for() {
    let _clean = Clean::start();
    let build = || Client::builder().mode(Mode::Processes).workers(3).threads(1).memory_limit("256MB");
    let names = |ran: Vec<(String, Result<u32>)>| {
        let pids: BTreeSet<u32> = ran.iter().map(|(_, pid)| *pid.as_ref().unwrap()).collect();
        assert_eq!(pids.len(), ran.len());
        ran.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    let client = build().build().unwrap();
    assert_eq!(names(client.run_on_workers(std::process::id).unwrap()), ["worker-0", "worker-1", "worker-2"]);
    // Those that are added, and one in the place of another.
    client.scale(4).unwrap();
    assert_eq!(names(client.run_on(&["worker-3"], std::process::id).unwrap()), ["worker-3"]);
    client.run_on(&["worker-1"], || -> u32 { std::process::exit(0) }).unwrap();
    assert_eq!(names(client.run_on_workers(std::process::id).unwrap()).len(), 4);
    let client = build().build().unwrap();
    assert_eq!(names(block_on(client.run_on_workers_async(std::process::id)).unwrap()).len(), 3);
}

#[test]
fn one_that_does_not_come_to_work_is_an_error_in_its_place() {
    fn once() -> std::io::Result<()> {
        std::fs::File::create_new(std::env::var("ONCE").unwrap_or_default()).map(drop)
    }
    let _clean = Clean::start();
    let dir = directory();
    let builder = Client::builder().mode(Mode::Processes).workers(2).threads(1).memory_limit("256MB");
    let client = builder.worker_env("ONCE", path(&dir, "once")).worker_init(once).build().unwrap();
    let ran = client.run_on_workers(|| 1).unwrap();
    assert_eq!(ran.iter().filter(|(_, result)| matches!(result, Ok(1))).count(), 1);
    let (name, error) = ran.into_iter().find_map(|(name, result)| Some((name, result.err()?))).unwrap();
    assert!(matches!(error.task().unwrap().cause(), Cause::Closed { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("{name} has not come to work")) && text.contains("File exists"), "{text}");
}

pub fn beside_what_runs(client: &Client) {
    let dir = directory();
    let go = path(&dir, "go");
    let gate = delayed(|go: String, _: u64| wait_for_file(&go));
    let futures: Vec<_> = match is_sync(client) {
        true => Vec::new(),
        false => (0..16).map(|i| client.submit(&gate.call(&*go, i)).unwrap()).collect(),
    };
    assert!(client.run_on_workers(|| 1).unwrap().iter().all(|(_, result)| matches!(result, Ok(1))));
    touch(&go);
    assert!(client.gather(&futures).unwrap().into_iter().all(|went| went));
    // A task may have it done, too; what runs is no task.
    let ask = delayed(|| {
        let all: Vec<(String, Result<bool>)> =
            current_client().unwrap().run_on_workers(|| swath::task::current_task().is_some()).unwrap();
        (all.len(), all.into_iter().any(|(_, is_task)| is_task.unwrap()))
    });
    let (n, is_task) = client.compute(&ask.call()).unwrap();
    assert_eq!(n, client.run_on_workers(|| ()).unwrap().len());
    assert!(!is_task || is_here(client));
}

/// Cannot be encoded.
#[derive(Clone, Deserialize)]
struct Stubborn;

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not me"))
    }
}

pub fn what_goes_wrong_there_is_told(client: &Client) {
    for (name, result) in client.run_on_workers(|| -> u64 { panic!("as it is") }).unwrap() {
        let error = result.unwrap_err();
        let task = error.task().unwrap();
        assert_eq!(task.worker(), Some(name.as_str()));
        assert!(matches!(task.cause(), Cause::Panic { message, .. } if message == "as it is"), "{error}");
        assert!(error.to_string().contains("what_goes_wrong_there_is_told-closure"), "{error}");
    }
    let results: Vec<(_, Result<std::result::Result<u8, String>>)> =
        client.run_on_workers(|| Err("a value".to_string())).unwrap();
    assert!(results.into_iter().all(|(_, result)| result.unwrap() == Err("a value".to_string())));
    if !is_here(client) {
        for (_, result) in client.run_on_workers(|| Stubborn).unwrap() {
            let error = result.err().unwrap();
            assert!(matches!(error.task().unwrap().cause(), Cause::Encode { .. }), "{error}");
        }
        for (_, result) in client.run_on_workers(|| vec![1.5_f64; 40 << 20]).unwrap() {
            assert!(matches!(result.unwrap_err().task().unwrap().cause(), Cause::Encode { .. }));
        }
    }
    assert_eq!(client.compute(&delayed(|| 1).call()).unwrap(), 1);
}

#[test]
fn a_worker_that_ends_meanwhile_is_an_error_in_its_place() {
    let _clean = Clean::start();
    let client = processes(2, 1);
    let ended = client.run_on(&["worker-1"], || -> u64 { std::process::abort() }).unwrap();
    let error = ended.into_iter().next().unwrap().1.unwrap_err();
    match error.task().unwrap().cause() {
        Cause::WorkerDied(records) => assert_eq!((records.len(), records[0].worker.as_str()), (1, "worker-1")),
        other => panic!("{other}"),
    }
    // Who comes to work again takes part again.
    until("both are there", || {
        let all = client.run_on_workers(|| 1).unwrap();
        all.len() == 2 && all.iter().all(|(_, result)| result.is_ok())
    });
    // One that retires meanwhile: it waits for its tasks, not for this.
    let asked = client.clone();
    let slow = std::thread::spawn(move || {
        asked.run_on(&["worker-1"], || {
            say("it runs");
            std::thread::sleep(LONG);
        })
    });
    until("it runs", || client.logs().unwrap().iter().any(|line| line.text.contains("it runs")));
    client.retire(&["worker-1"]).unwrap();
    let error = slow.join().unwrap().unwrap().into_iter().next().unwrap().1.unwrap_err();
    assert!(error.to_string().contains("worker-1 has ended"), "{error}");
    client.shutdown();
    assert!(matches!(client.run_on_workers(|| 1), Err(Error::Closed { .. })));
    let here = Client::sync();
    here.shutdown();
    assert!(matches!(here.run_on_workers(|| 1), Err(Error::Closed { .. })));
}

pub fn where_results_are(client: &Client) {
    let large = delayed(|n: usize| vec![1.5_f64; n]).name("lists");
    let lists = client.submit_all(&large.map([1000, 2000])).unwrap();
    let small = client.submit(&delayed(|| 1).call()).unwrap();
    let failed = client.submit(&delayed(|x: i64| 1 / x).call(0)).unwrap();
    client.wait(&lists, WaitFor::All).unwrap();
    assert!(small.error().is_none() && failed.error().is_some());
    let places = client.who_has(&lists).unwrap();
    assert_eq!(places, block_on(client.who_has_async(&lists)).unwrap());
    assert!(client.who_has(&[failed]).unwrap()[0].is_empty());
    assert!(client.who_has::<i64>(&[]).unwrap().is_empty());
    let other = Client::threads(1);
    let foreign = other.submit(&delayed(|| 1_i64).call()).unwrap();
    assert!(matches!(client.who_has(&[foreign]), Err(Error::OtherClient { .. })));
    if is_here(client) {
        assert_eq!(places, vec![vec![client.mode().to_string()]; 2]);
        assert!(!client.who_has(&[small]).unwrap()[0].is_empty());
    } else {
        assert!(client.who_has(&[small]).unwrap()[0].is_empty());
    }
    let held = client.has_what().unwrap();
    assert_eq!(held.len(), if is_here(client) { 1 } else { client.workers().unwrap().len() });
    for (list, place) in lists.iter().zip(&places) {
        let there = held.iter().find(|(name, _)| *name == place[0]).unwrap();
        assert!(there.1.contains(&list.key()), "{held:?}");
    }
    assert_eq!(held, block_on(client.has_what_async()).unwrap());
    let sizes = client.nbytes().unwrap();
    assert_eq!(sizes[0].0, "lists");
    assert!((24_000..30_000).contains(&sizes[0].1), "{sizes:?}");
    assert_eq!(sizes, block_on(client.nbytes_async()).unwrap());
    drop(lists);
    until("what was released is gone", || client.has_what().unwrap().iter().all(|(_, keys)| keys.is_empty()));
    assert!(client.nbytes().unwrap().is_empty());
    // What is only computed is kept for nobody; of what is persisted, one may be let go before the other.
    assert_eq!(client.compute(&large.call(1000)).unwrap().len(), 1000);
    let (first, second) = client.persist((&large.call(3000), &large.call(4000))).unwrap();
    let key = second.key();
    client.compute((&first, &second)).unwrap();
    let all = || client.has_what().unwrap().into_iter().flat_map(|(_, keys)| keys).collect::<Vec<_>>();
    assert_eq!(all().len(), 2);
    drop(first);
    until("the first is gone", || all() == [&*key]);
    let sizes = client.nbytes().unwrap();
    assert!(sizes.len() == 1 && (32_000..34_000).contains(&sizes[0].1), "{sizes:?}");
    // One result, though two hold it.
    let again = client.persist(&second).unwrap();
    drop(second);
    assert_eq!(all(), [&*again.key()]);
    assert_eq!(client.nbytes().unwrap(), sizes);
}

pub fn a_closed_client_does_not_say_where_results_are(client: &Client) {
    let list = client.submit(&delayed(|| vec![1.5_f64; 1000]).call()).unwrap();
    client.wait(std::slice::from_ref(&list), WaitFor::All).unwrap();
    client.shutdown();
    for closed in [client.has_what().map(drop), client.nbytes().map(drop), client.who_has(&[list]).map(drop)] {
        assert!(matches!(closed, Err(Error::Closed { .. })), "{closed:?}");
    }
}
