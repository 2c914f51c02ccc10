//! Published results against Dask's published datasets: the same steps, one after the other, and what each gives.

use super::python::ask;
use crate::common::{Clean, processes};
use serde_json::{Value, json};
use swath::client::WaitFor;
use swath::{Client, Result, delayed};

/// A call, the name, a value, and whether it gives something else here on purpose.
type Step = (&'static str, &'static str, i64, bool);

const PROGRAMS: &[&[Step]] = &[
    &[
        ("list", "", 0, false),
        ("publish", "a", 1, false),
        ("publish", "b", 2, false),
        ("list", "", 0, false),
        ("published", "a", 0, false),
        ("publish", "a", 3, false),
        ("published", "a", 0, false),
        ("unpublish", "a", 0, false),
        ("published", "a", 0, false),
        ("list", "", 0, false),
        // What is not there is unpublished without a word there.
        ("unpublish", "a", 0, true),
        ("publish", "a", 4, false),
        ("published", "a", 0, false),
        ("list", "", 0, false),
    ],
    &[
        ("published", "n", 0, false),
        // What has failed is published there, and fails whoever uses it.
        ("publish_failed", "n", 1, true),
        ("published", "n", 0, false),
        ("publish", "", 1, false),
        ("publish", "a/b", 1, true),
    ],
];

fn step(client: &Client, call: &str, name: &str, value: i64) -> Result<Value> {
    match call {
        "publish" => {
            let future = client.submit(&delayed(|x: i64| x).call(value))?;
            client.publish(name, &future).map(|()| json!(true))
        }
        "publish_failed" => {
            let future = client.submit(&delayed(|x: i64| x / i64::from(x < 0)).call(value))?;
            client.wait(std::slice::from_ref(&future), WaitFor::All)?;
            client.publish(name, &future).map(|()| json!(true))
        }
        "published" => Ok(json!(client.published::<i64>(name)?.result()?)),
        "unpublish" => client.unpublish(name).map(|()| json!(true)),
        _ => Ok(json!(client.list_published()?.into_iter().map(|published| published.name).collect::<Vec<_>>())),
    }
}

#[test]
fn published_results_are_as_published_datasets() {
    let _clean = Clean::start();
    let plain: Vec<Vec<_>> =
        PROGRAMS.iter().map(|steps| steps.iter().map(|(call, name, value, _)| (call, name, value)).collect()).collect();
    let theirs = ask("published.py", &json!({ "programs": plain }));
    let make: [fn() -> Client; 3] = [Client::sync, || Client::threads(2), || processes(2, 1)];
    for make in make {
        for (number, steps) in PROGRAMS.iter().enumerate() {
            let client = make();
            for (at, &(call, name, value, differs)) in steps.iter().enumerate() {
                let ours = step(&client, call, name, value).unwrap_or_else(|_| json!("error"));
                let same = ours == theirs[number][at];
                assert_eq!(same, !differs, "{call} `{name}`: {ours} and {} with {client}", theirs[number][at]);
            }
        }
    }
}
