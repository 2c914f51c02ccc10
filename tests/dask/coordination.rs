//! Locks, semaphores, events, queues and variables against those of `distributed`: the same steps, one after the other, by the
//! program and by tasks, and what each gives.

use super::python::{ask, clean};
use crate::common::processes;
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::Duration;
use swath::coordination::{LockGuard, Permit};
use swath::{Client, Error, Result, current_client, try_delayed};

const WAIT: Duration = Duration::from_millis(200);

/// A step: what of which name, with which limit, which call with which value, and by whom.
type Step = (&'static str, &'static str, usize, &'static str, Option<i64>, &'static str);

fn programs() -> Vec<Vec<Step>> {
    let lock = |call| ("lock", "l", 1, call, None, "program");
    let semaphore = |call| ("semaphore", "s", 2, call, None, "program");
    let event = |call, by| ("event", "e", 0, call, None, by);
    let queue = |call, value, by| ("queue", "q", 2, call, value, by);
    let variable = |call, value, by| ("variable", "v", 0, call, value, by);
    vec![
        ["acquire", "try_acquire", "release", "acquire", "release"].map(lock).to_vec(),
        ["acquire", "acquire", "try_acquire", "release", "acquire", "acquire", "release", "release"]
            .map(semaphore)
            .to_vec(),
        vec![
            event("is_set", "task"),
            event("wait", "program"),
            event("set", "task"),
            event("is_set", "program"),
            event("wait", "task"),
            event("clear", "program"),
            event("is_set", "task"),
            event("wait", "task"),
        ],
        vec![
            queue("len", None, "task"),
            queue("get", None, "program"),
            queue("put", Some(1), "task"),
            queue("put", Some(2), "program"),
            queue("put", Some(3), "task"),
            queue("len", None, "program"),
            queue("get", None, "task"),
            queue("put", Some(4), "program"),
            queue("get", None, "program"),
            queue("get", None, "task"),
            queue("get", None, "task"),
            queue("len", None, "program"),
        ],
        vec![
            variable("get", None, "program"),
            variable("set", Some(1), "task"),
            variable("get", None, "program"),
            variable("set", Some(2), "program"),
            variable("get", None, "task"),
            variable("get", None, "task"),
            variable("delete", None, "program"),
            variable("get", None, "task"),
        ],
    ]
}

/// What a time limit makes of it: the same word as there.
fn within<T>(got: Result<T>, value: impl FnOnce(T) -> Value) -> Result<Value> {
    match got {
        Ok(got) => Ok(value(got)),
        Err(Error::Timeout { .. }) => Ok(json!("timeout")),
        Err(e) => Err(e),
    }
}

fn step(client: &Client, number: usize, step: (String, String, usize, String, Option<i64>)) -> Result<Value> {
    let (kind, name, limit, call, value) = step;
    let name = format!("{name}-{number}");
    match (kind.as_str(), call.as_str()) {
        ("event", call) => {
            let event = client.event(&name)?;
            match call {
                "set" => event.set().map(|()| Value::Null),
                "clear" => event.clear().map(|()| Value::Null),
                "is_set" => event.is_set().map(Value::from),
                // Dask says `False` where the time is over.
                _ => Ok(json!(event.wait_timeout(WAIT).is_ok())),
            }
        }
        ("queue", call) => {
            let queue = client.queue::<i64>(&name, limit)?;
            match call {
                "put" => within(queue.put_timeout(value.unwrap(), WAIT), |()| json!(true)),
                "get" => within(queue.get_timeout(WAIT), Value::from),
                _ => queue.len().map(Value::from),
            }
        }
        (_, call) => {
            let variable = client.variable::<i64>(&name)?;
            match call {
                "set" => variable.set(value.unwrap()).map(|()| Value::Null),
                "get" => within(variable.get_timeout(WAIT), Value::from),
                _ => variable.delete().map(Value::from),
            }
        }
    }
}

fn in_a_task(number: usize, of: (String, String, usize, String, Option<i64>)) -> Result<String, String> {
    let client = current_client().ok_or("not in a task")?;
    step(&client, number, of).map(|value| value.to_string()).map_err(|e| e.to_string())
}

/// What the program has acquired, the first first.
enum Had {
    Lock(LockGuard),
    Permit(Permit),
}

fn ours(client: &Client, number: usize, steps: &[Step]) -> Vec<Value> {
    let mut had = Vec::new();
    let run = |&(kind, name, limit, call, value, by): &Step| {
        if call == "release" {
            return match had.remove(0) {
                Had::Lock(guard) => json!(guard.release().is_ok()),
                Had::Permit(permit) => json!(permit.release().is_ok()),
            };
        }
        let own = format!("{name}-{number}");
        match kind {
            "lock" => {
                let guard = client.lock(&own).unwrap().acquire_timeout(WAIT);
                let got = guard.is_ok();
                had.extend(guard.map(Had::Lock));
                json!(got)
            }
            "semaphore" => {
                let permit = client.semaphore(&own, limit).unwrap().acquire_timeout(WAIT);
                let got = permit.is_ok();
                had.extend(permit.map(Had::Permit));
                json!(got)
            }
            _ => {
                let of = (kind.to_string(), name.to_string(), limit, call.to_string(), value);
                match by {
                    "task" => {
                        let told = client.compute(&try_delayed(in_a_task).call(number, of)).unwrap();
                        serde_json::from_str(&told).unwrap()
                    }
                    _ => step(client, number, of).unwrap(),
                }
            }
        }
    };
    steps.iter().map(run).collect()
}

/// What many tasks have for a time: of which kind, how many at a time, and how many tasks.
const TOGETHER: &[(&str, usize, usize)] = &[("lock", 1, 20), ("semaphore", 1, 20)];

static DASK: LazyLock<Value> =
    LazyLock::new(|| ask("coordination.py", &json!({ "programs": programs(), "together": TOGETHER })));

/// What must not be done by two at a time: reads a number, and writes what is one more.
fn count(_: usize, kind: String, name: String, limit: usize) -> Result<()> {
    let client = current_client().unwrap();
    let _had = match kind.as_str() {
        "lock" => Had::Lock(client.lock(&name)?.acquire()?),
        _ => Had::Permit(client.semaphore(&name, limit)?.acquire()?),
    };
    let number = client.variable::<u64>(&format!("{name} counted"))?;
    let before = number.get()?;
    sleep(Duration::from_millis(5));
    number.set(before + 1)
}

/// What tasks count that have it for a time, and whether it is to be had afterwards.
fn together(client: &Client, &(kind, limit, tasks): &(&str, usize, usize)) -> Value {
    let name = format!("{kind} of tasks");
    let number = client.variable::<u64>(&format!("{name} counted")).unwrap();
    number.set(0).unwrap();
    let calls: Vec<_> = (0..tasks).map(|n| try_delayed(count).call(n, kind, &*name, limit)).collect();
    client.compute(&calls).unwrap();
    let free = match kind {
        "lock" => client.lock(&name).unwrap().acquire_timeout(WAIT).is_ok(),
        _ => client.semaphore(&name, limit).unwrap().acquire_timeout(WAIT).is_ok(),
    };
    json!({ "counted": number.get().unwrap(), "free": free })
}

fn leave(name: String) -> Result<bool> {
    std::mem::forget(current_client().unwrap().lock(&name)?.acquire()?);
    Ok(true)
}

#[test]
fn tasks_share_them_as_they_do_there() {
    let _clean = clean();
    let dask = &*DASK;
    for client in [Client::sync(), Client::threads(2), processes(2, 1)] {
        let together: Value = TOGETHER.iter().map(|each| together(&client, each)).collect();
        assert_eq!(together, dask["together"], "{client}");
        // A difference on purpose: there a lock is its task's for ever.
        let left = client.compute(&try_delayed(leave).call("left")).unwrap();
        let lock = client.lock("left").unwrap();
        assert_eq!(json!([left, lock.acquire_timeout(WAIT).is_ok()]), json!([true, true]), "{client}");
        assert_eq!(dask["left by a task"], json!([true, false]));
    }
}

#[test]
fn steps_give_what_they_give_there() {
    let _clean = clean();
    let theirs = &DASK["programs"];
    for client in [Client::sync(), Client::threads(2), processes(2, 1)] {
        for (number, program) in programs().iter().enumerate() {
            let ours = ours(&client, number, program);
            assert_eq!(json!(ours), theirs[number], "{program:?} with {client}");
        }
    }
}
