//! What runs on workers, what they hold, and what options of a whole graph come to, against `distributed`.

use super::python::{ask, clean};
use crate::common::{LONG, directory, note, notes, path, processes, touch, until, wait_for_file};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;
use swath::client::{ComputeOptions, WaitFor};
use swath::status::Mode;
use swath::task::current_task;
use swath::{Bag, Client, Result, delayed, try_delayed};

/// Results: of which name, how many bytes, on which worker, and whether there is an error instead.
const PLACED: &[(&str, usize, usize, bool)] = &[
    ("lists", 20_000, 0, false),
    ("lists", 10_000, 1, false),
    ("words", 50_000, 0, false),
    ("words", 5_000, 1, false),
    ("none", 10, 1, true),
];

/// How much there is, and how much each task takes of it.
const RESOURCES: &[(f64, f64)] = &[(1.0, 1.0), (2.0, 1.0), (3.0, 2.0), (1.0, 0.5)];

/// How often a task fails, and how often it may.
const RETRIES: &[(usize, u32)] = &[(0, 0), (1, 0), (1, 1), (2, 1), (2, 3)];

/// Which of two workers may run a graph.
const PLACES: &[&[usize]] = &[&[0], &[1], &[0, 1]];

const PRIORITIES: &[i32] = &[0, 2, -1, 1, 3];

static DASK: LazyLock<Value> = LazyLock::new(|| {
    let asked = json!({
        "placed": PLACED, "resources": RESOURCES, "retries": RETRIES, "priorities": [PRIORITIES, &batch()],
        "places": PLACES,
    });
    ask("workers.py", &asked)
});

/// In which worker this is, and what it has been left.
static PLACE: AtomicI64 = AtomicI64::new(0);
static LEFT: AtomicI64 = AtomicI64::new(0);
static RUNNING: AtomicUsize = AtomicUsize::new(0);

fn names(client: &Client) -> Vec<String> {
    match client.mode() {
        Mode::Processes => client.workers().unwrap().into_iter().map(|worker| worker.name).collect(),
        mode => vec![mode.to_string()],
    }
}

/// In Dask's form; of an error only that there is one.
fn each(results: Result<Vec<(String, Result<i64>)>>) -> Value {
    results.unwrap().into_iter().map(|(_, result)| result.map_or_else(|_| json!("error"), Value::from)).collect()
}

fn on_workers(client: &Client, names: &[String]) -> Value {
    for (place, name) in (0_i64..).zip(names) {
        let here = delayed(|place| PLACE.store(place, Ordering::Relaxed)).on_worker(name.as_str());
        client.compute(&here.call(place)).unwrap();
    }
    client.run_on_workers(|| LEFT.store(7, Ordering::Relaxed)).unwrap();
    let find = || LEFT.load(Ordering::Relaxed);
    let last = &names[names.len() - 1];
    json!({
        "all": each(client.run_on_workers(|| 42)),
        "some fail": each(client.run_on_workers(|| 10 / PLACE.load(Ordering::Relaxed))),
        "left": each(client.run_on_workers(find)),
        "named": names.iter().map(|name| each(client.run_on(&[name], find))).collect::<Vec<_>>(),
        "twice": each(client.run_on(&[last, last], find)),
        "afterwards": client.compute(&delayed(|| 1).call()).unwrap(),
    })
}

fn named(client: &Client, names: &[String]) -> Value {
    let unknown = client.run_on(&[names[0].as_str(), "nobody"], || 1);
    json!({
        "none": client.run_on::<_, i64>(&[] as &[&str], || 1).unwrap().len(),
        "unknown": if unknown.is_err() { "error" } else { "none" },
    })
}

fn make(n: usize, fails: bool) -> Result<Vec<u8>, String> {
    if fails { Err("it fails".to_string()) } else { Ok(vec![7; n]) }
}

fn holdings(client: &Client, names: &[String]) -> Value {
    let place = |worker: usize| names[worker % names.len()].as_str();
    let futures = PLACED.iter().map(|&(name, n, worker, fails)| {
        client.submit(&try_delayed(make).name(name).on_worker(place(worker)).call(n, fails)).unwrap()
    });
    let mut futures: Vec<_> = futures.collect();
    client.wait(&futures, WaitFor::All).unwrap();
    let keys: Vec<String> = futures.iter().map(|future| future.key()).collect();
    let number = |key: &String| keys.iter().position(|other| other == key).unwrap();
    let held = |futures: &[_]| {
        let places = client.who_has(futures).unwrap().into_iter().map(|workers| {
            workers.iter().map(|worker| names.iter().position(|name| name == worker)).collect::<Vec<_>>()
        });
        let has = client.has_what().unwrap().into_iter().map(|(_, keys)| {
            let mut numbers: Vec<usize> = keys.iter().map(number).collect();
            numbers.sort_unstable();
            numbers
        });
        let nbytes = client.nbytes().unwrap().into_iter().map(|(name, nbytes)| (name, json!(nbytes / 1000)));
        json!({
            "who_has": places.collect::<Vec<_>>(),
            "has_what": has.collect::<Vec<_>>(),
            "nbytes": nbytes.collect::<serde_json::Map<_, _>>(),
        })
    };
    let before = held(&futures);
    drop(futures.remove(0));
    until("the first is gone", || !client.has_what().unwrap().iter().any(|(_, all)| all.contains(&keys[0])));
    json!({ "before": before, "after": held(&futures) })
}

fn retried(client: &Client, fails: usize, retries: u32) -> Value {
    let dir = directory();
    let file = path(&dir, "runs");
    let sometimes = try_delayed(|file: String, fails: usize| {
        note(&file, "run");
        if notes(&file).len() <= fails { Err("not yet".to_string()) } else { Ok(fails) }
    });
    let options = ComputeOptions { retries, ..Default::default() };
    let outcome = client.compute_with(&sometimes.call(&*file, fails), options);
    json!({
        "outcome": outcome.map_or_else(|_| json!("error"), |value| json!({ "value": value })),
        "runs": notes(&file).len(),
    })
}

/// On which workers the tasks of a graph run that these may run.
fn places(client: &Client, names: &[String], allowed: &[usize]) -> Vec<Option<usize>> {
    let place = delayed(|_: usize| {
        sleep(Duration::from_millis(10));
        current_task().unwrap().worker
    });
    let workers = allowed.iter().map(|place| names[*place].clone()).collect();
    let options = ComputeOptions { workers, ..Default::default() };
    let places = client.compute_with(&place.map(0..8_usize), options).unwrap();
    let places = places.iter().map(|place| names.iter().position(|name| name == place));
    places.collect::<BTreeSet<_>>().into_iter().collect()
}

/// What a graph comes to with optimisation and without, and whether it is more tasks then.
fn steps(client: &Client) -> Value {
    let run = |first: i64, optimize| {
        let before = client.progress().counts.total();
        let bag = Bag::range(first..first + 4, 2).map(|x| x + 1).map(|x| x + 1);
        let value = client.compute_with(&bag, ComputeOptions { optimize, ..Default::default() }).unwrap();
        (value, client.progress().counts.total() - before)
    };
    let ((together, few), (apart, many)) = (run(0, true), run(10, false));
    json!({ "together": together, "apart": apart, "more tasks apart": many > few })
}

fn most_at_once(client: &Client, need: f64) -> Value {
    let gpu = delayed(|_: usize| {
        let now = RUNNING.fetch_add(1, Ordering::SeqCst) + 1;
        sleep(Duration::from_millis(50));
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        now
    });
    let results = client.compute(&gpu.resource("gpu", need).map(0..8_usize)).unwrap();
    json!({ "most": results.iter().max(), "runs": results.len() })
}

/// In which order graphs of these priorities run that are submitted one after the other and all wait for one thread.
fn order(client: &Client, priorities: &[i32]) -> Vec<i32> {
    let dir = directory();
    let (began, go, file) = (path(&dir, "began"), path(&dir, "go"), path(&dir, "notes"));
    let block = delayed(|began: String, go: String| {
        touch(&began);
        wait_for_file(&go)
    });
    let first = client.submit(&block.call(&*began, &*go)).unwrap();
    assert!(wait_for_file(&began));
    scope(|scope| {
        for (before, &priority) in (1..).zip(priorities) {
            until("those before wait", || client.progress().counts.total() == before);
            let noted = delayed(|file: String, priority: i32| note(&file, priority)).call(&*file, priority);
            let options = ComputeOptions { priority, ..Default::default() };
            scope.spawn(move || client.compute_with(&noted, options).unwrap());
        }
        until("all wait", || client.progress().counts.total() == 1 + priorities.len() as u64);
        touch(&go);
    });
    assert!(first.result_timeout(LONG).unwrap());
    notes(&file).iter().map(|priority| priority.parse().unwrap()).collect()
}

/// Whether what is more urgent than a batch goes before nearly all of it, the most urgent first. A worker process has some
/// milliseconds of work ahead, which may go before what comes later.
fn urgent_first(order: &[i32]) -> bool {
    let at = |priority| order.iter().position(|other| *other == priority).unwrap();
    at(3) < at(0) && at(0) < 5
}

/// A batch, and then what is more urgent.
fn batch() -> Vec<i32> {
    [vec![-1; 20], vec![3, 0]].concat()
}

/// With a client of one worker.
fn one_is_like_dask(client: &Client) {
    let (dask, names) = (&DASK["one"], names(client));
    assert_eq!(on_workers(client, &names), dask["on workers"]);
    assert_eq!(holdings(client, &names), dask["holdings"]);
    let retries: Value = RETRIES.iter().map(|&(fails, retries)| retried(client, fails, retries)).collect();
    assert_eq!(retries, dask["retries"]);
    assert_eq!(steps(client), dask["steps"]);
}

fn resources_are_like_dasks(client: impl Fn(f64) -> Client) {
    let most: Value = RESOURCES.iter().map(|&(amount, need)| most_at_once(&client(amount), need)).collect();
    assert_eq!(most, DASK["resources"]);
}

#[test]
fn workers_are_like_dasks_in_this_thread() {
    let _clean = clean();
    one_is_like_dask(&Client::sync());
}

#[test]
fn workers_are_like_dasks_on_threads() {
    let _clean = clean();
    one_is_like_dask(&Client::threads(1));
    assert_eq!(json!(order(&Client::threads(1), PRIORITIES)), DASK["priorities"][0]);
    assert!(urgent_first(&order(&Client::threads(1), &batch())));
    resources_are_like_dasks(|amount| {
        let builder = Client::builder().mode(Mode::Threads).threads(4);
        builder.threads_resources([("gpu", amount)]).build().unwrap()
    });
}

#[test]
fn workers_are_like_dasks_in_processes() {
    let _clean = clean();
    one_is_like_dask(&processes(1, 1));
    let there: Vec<i32> = serde_json::from_value(DASK["priorities"][1].clone()).unwrap();
    assert!(urgent_first(&there) && urgent_first(&order(&processes(1, 1), &batch())));
    resources_are_like_dasks(|amount| {
        let builder = Client::builder().workers(1).threads(4).memory_limit("512MB");
        builder.worker_resources(0, [("gpu", amount)]).build().unwrap()
    });
    let two = processes(2, 1);
    let (dask, names) = (&DASK["two"], names(&two));
    assert_eq!(on_workers(&two, &names), dask["on workers"]);
    assert_eq!(holdings(&two, &names), dask["holdings"]);
    assert_eq!(named(&two, &names), dask["named"]);
    let allowed: Vec<_> = PLACES.iter().map(|allowed| places(&two, &names, allowed)).collect();
    assert_eq!(json!(allowed), dask["places"]);
    assert_eq!(steps(&two), dask["steps"]);
}
