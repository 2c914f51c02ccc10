//! What a client does with futures against `distributed`, and order without data against `dask.graph_manipulation`.

use super::python::{ask, clean};
use crate::common::{LONG, directory, note, notes, path, processes, touch, until, wait_for_file};
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::sync::mpsc::channel;
use std::time::Duration;
use swath::client::{Computable, Failing, Status, WaitFor};
use swath::collection::{bind, checkpoint, clone_graph, wait_on};
use swath::{Bag, Client, Delayed, Error, Future, Result, delayed};

const NUMBERS: &[&[i64]] = &[&[], &[1, 2, 3], &[5, 0, 2], &[0], &[0, 0, 10, 1, 0, 4, 3]];

static DASK: LazyLock<Value> = LazyLock::new(|| ask("client.py", &json!({ "numbers": NUMBERS })));

const SHORT: Duration = Duration::from_millis(50);

fn tenth(x: i64) -> i64 {
    10 / x
}

fn futures(client: &Client, numbers: &[i64]) -> Vec<Future<i64>> {
    client.map(tenth, numbers.iter().copied()).unwrap()
}

/// In Dask's form; of an error only that there is one.
fn outcome<T: serde::Serialize>(result: Result<T>) -> Value {
    result.map_or_else(|_| json!("error"), |value| json!({ "value": value }))
}

fn on_client(client: &Client, numbers: &[i64]) -> Value {
    let futures = || futures(client, numbers);
    let batches = || {
        let done = futures();
        client.wait(&done, WaitFor::All)?;
        let mut completed = client.as_completed(done);
        let before = completed.len();
        let given: usize = completed.batches().map(|batch| batch.len()).sum();
        Ok([before, given, completed.len()])
    };
    let with_results = || {
        let results = client.as_completed(futures()).with_results();
        let mut results: Vec<i64> = results.filter_map(|(_, result)| result.ok()).collect();
        results.sort_unstable();
        results
    };
    let called = || {
        let (tell, told) = channel();
        for future in futures() {
            let tell = tell.clone();
            future.on_done(move |future| {
                let status = if future.status() == Status::Finished { "finished" } else { "error" };
                tell.send(status).unwrap();
            });
        }
        let mut calls: Vec<_> = numbers.iter().map(|_| told.recv_timeout(LONG).unwrap()).collect();
        calls.sort_unstable();
        calls
    };
    let walk = || {
        let collatz = delayed(|n: i64| if n % 2 == 0 { n / 2 } else { 3 * n + 1 });
        let mut completed = client.as_completed(vec![client.submit(&collatz.call(6))?]);
        let mut steps = Vec::new();
        while let Some(future) = completed.next() {
            steps.push(future.result()?);
            if steps.last() != Some(&1) {
                completed.add(client.submit(&collatz.call(&future))?);
            }
        }
        Ok(steps)
    };
    json!({
        "gather": outcome(client.gather(&futures())),
        "gather skip": outcome(client.gather_with(&futures(), Failing::Skip).map(|gathered| gathered.values)),
        "failed": outcome(Ok(futures().iter().map(|future| future.error().is_some()).collect::<Vec<_>>())),
        "failed in time": outcome(
            futures().iter().map(|future| Ok(future.error_timeout(LONG)?.is_some())).collect::<Result<Vec<_>>>()
        ),
        "batches": outcome(batches()),
        "with_results": outcome(Ok(with_results())),
        "called": outcome(Ok(called())),
        "walk": outcome(walk()),
    })
}

/// Whether the function is named where it failed; nothing of those that did not.
fn tracebacks(client: &Client, numbers: &[i64]) -> Value {
    let trace = |future: &Future<i64>| future.traceback().map(|trace| trace.contains("tenth"));
    futures(client, numbers).iter().map(trace).collect()
}

/// A task that ends when that file is there.
fn blocked(client: &Client, go: &str) -> Future<bool> {
    client.submit(&delayed(|go: String| wait_for_file(&go)).call(go)).unwrap()
}

/// What waits with a time limit for a task that takes longer.
fn late(client: &Client) -> Value {
    let dir = directory();
    let go = path(&dir, "go");
    let future = blocked(client, &go);
    let mut completed = client.as_completed(vec![future.clone()]);
    fn outcome<T>(result: Result<T>, value: impl FnOnce(T) -> Value) -> Value {
        match result {
            Ok(result) => json!({ "value": value(result) }),
            Err(Error::Timeout { .. }) => json!({ "error": "TimeoutError" }),
            Err(other) => panic!("{other}"),
        }
    }
    let error = |limit| outcome(future.error_timeout(limit), |error| json!(error.map(|error| error.to_string())));
    let mut answers = json!({
        "exception": error(SHORT),
        "next": outcome(completed.next_timeout(SHORT), |_| json!("a future")),
        "left": completed.len(),
    });
    touch(&go);
    answers["exception later"] = error(LONG);
    answers["next later"] = json!(completed.next_timeout(LONG).unwrap().unwrap().result().unwrap());
    answers
}

/// Which tasks run without a handle, by a client of so many threads.
fn detached(client: &Client, threads: usize) -> Vec<String> {
    let dir = directory();
    let (go, file) = (path(&dir, "go"), path(&dir, "notes"));
    let before: Vec<_> = (0..threads).map(|_| blocked(client, &go)).collect();
    let noted = |what: &str| client.submit(&delayed(noted).call(&*file, what)).unwrap();
    drop(noted("dropped"));
    // Who is asked after that has heard of it.
    client.run_on_workers(|| 1).unwrap();
    noted("detached").detach();
    touch(&go);
    client.gather(&before).unwrap();
    until("the detached one has run", || !notes(&file).is_empty());
    client.gather(&futures(client, &[1])).unwrap();
    notes(&file)
}

/// Dask's answers, whose errors have names.
fn unnamed(mut answers: Value) -> Value {
    for answer in answers.as_object_mut().unwrap().values_mut() {
        if answer.get("error").is_some() {
            *answer = json!("error");
        }
    }
    answers
}

fn noted(file: String, name: String) -> String {
    note(&file, &name);
    name
}

fn order(client: &Client) -> Value {
    let dir = directory();
    let file = path(&dir, "notes");
    let step = |name: &str| delayed(noted).call(&*file, name);
    let (a, b) = (step("a"), step("b"));
    let bag = Bag::range(0..4, 2).map_with(
        |x, file: &String| {
            note(file, x);
            x
        },
        file.clone(),
    );
    let longer = a.map(|text: String| text + "!");
    fn ran<C: Computable<Output: serde::Serialize>>(client: &Client, file: &str, what: C) -> Value {
        let _ = std::fs::remove_file(file);
        let value = client.compute(what).unwrap();
        json!({ "value": value, "notes": notes(file) })
    }
    let ran_text = |what: Delayed<String>| ran(client, &file, &what);
    let mut both = ran(client, &file, (&clone_graph(&a).unwrap(), &a));
    both["value"] = both["value"][0].clone();
    json!({
        "bind": ran_text(bind(&a, &b).unwrap()),
        "bind to itself": ran_text(bind(&a, &longer).unwrap()),
        "bind bag": ran(client, &file, bind(&bag, &b).unwrap()),
        "checkpoint": ran(client, &file, checkpoint((&bag, &a)).unwrap()),
        "wait_on": ran(client, &file, wait_on(&bag).unwrap()),
        "clone": both,
    })
}

/// What was noted, with numbers as words.
fn sorted(mut answers: Value) -> Value {
    for (what, answer) in answers.as_object_mut().unwrap() {
        let notes = answer["notes"].as_array_mut().unwrap();
        notes.iter_mut().filter(|note| note.is_number()).for_each(|note| *note = json!(note.to_string()));
        // What is bound comes behind, in this order; the elements of a bag in any.
        let ordered = match what.as_str() {
            "bind" => notes.len(),
            "bind bag" => 1,
            _ => 0,
        };
        notes[ordered..].sort_by_key(Value::to_string);
    }
    answers
}

/// With a client of so many threads, or none but this one.
fn is_like_dask(threads: usize, client: impl FnOnce() -> Client) {
    let _clean = clean();
    let dask = &*DASK;
    let client = client();
    for (numbers, answers) in NUMBERS.iter().zip(dask["futures"].as_array().unwrap()) {
        assert_eq!(on_client(&client, numbers), unnamed(answers.clone()), "{numbers:?}");
    }
    assert_eq!(sorted(order(&client)), sorted(dask["order"].clone()));
    // Where nothing runs beside this thread, what is submitted has run then.
    if threads > 0 {
        assert_eq!(late(&client), dask["late"]);
        assert_eq!(json!(detached(&client, threads)), dask["detached"]);
    }
}

#[test]
fn futures_and_order_are_like_dasks_in_this_thread() {
    is_like_dask(0, Client::sync);
}

#[test]
fn futures_and_order_are_like_dasks_on_threads() {
    is_like_dask(3, || Client::threads(3));
}

#[test]
fn futures_and_order_are_like_dasks_in_processes() {
    is_like_dask(2, || processes(2, 1));
}

#[test]
fn tracebacks_are_like_dasks_where_they_are_asked_for() {
    let _clean = clean();
    let dask = &*DASK;
    let client = Client::builder().workers(2).threads(1).worker_env("RUST_BACKTRACE", "1").build().unwrap();
    for (numbers, answers) in NUMBERS.iter().zip(dask["tracebacks"].as_array().unwrap()) {
        assert_eq!(tracebacks(&client, numbers), *answers, "{numbers:?}");
    }
}
