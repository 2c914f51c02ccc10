//! The same lazy values in all modes: equal results, errors, keys and names.

use crate::common::{Clean, processes};
use std::time::Duration;
use swath::delayed::value;
use swath::error::Cause;
use swath::events::EventKind;
use swath::{Client, Delayed, Error, delayed, try_delayed};

fn half(x: i64) -> Result<i64, String> {
    if x % 2 == 0 { Ok(x / 2) } else { Err(format!("{x} is odd")) }
}

/// What a user can see of an error, but for the worker.
pub fn told(error: &Error) -> String {
    let Error::Task(e) = error else { return error.to_string() };
    let cause = match e.cause() {
        Cause::Panic { message, location, .. } => format!("panic {message} at {location}"),
        Cause::Returned(r) => format!("returned {} {} {:?}", r.message(), r.type_name(), r.downcast::<String>()),
        other => other.to_string(),
    };
    let text = error.to_string();
    let text = e.worker().map_or(text.clone(), |worker| text.replacen(&format!(" on {worker} "), " on its worker ", 1));
    format!("{} {} {:?} {cause}: {text}", e.key(), e.name(), e.needed_by())
}

fn seen(result: Result<i64, Error>) -> String {
    result.map_or_else(|error| told(&error), |x| x.to_string())
}

fn lazies() -> Vec<Delayed<i64>> {
    let (a, b) = (try_delayed(half).call(10), try_delayed(half).name("odd").call(7));
    let chain = (0..20).fold(b.clone(), |x, i| x + i);
    let fan: Delayed<i64> = (0..10).map(|i| try_delayed(half).call(2 * i)).sum();
    let exploding = delayed(|x: i64| -> i64 { panic!("with {x}") }).call(&a);
    let list = delayed(|xs: Vec<i64>| xs[5]).call(vec![a.clone(), value(1)]);
    let pure = delayed(|x: i64| 10 / x).pure();
    vec![
        &a + 1,
        chain,
        fan,
        exploding.clone(),
        exploding.map(|x: i64| x).map(|x: i64| x + 1),
        list,
        pure.call(5),
        pure.call(0),
        pure.call(value(0)),
        b.clone(),
        &a / 0,
        a.map(|x: i64| x).map(|x: i64| x - 5).map(|x: i64| 1 / x).map(|x: i64| x + 1),
        delayed(|xs: Vec<i64>, _: i64| xs.len() as i64).call(vec![a.clone(), b.clone(), value(3)], 1),
    ]
}

#[test]
fn outcomes_are_equal_in_all_modes() {
    let _clean = Clean::start();
    let lazies = lazies();
    let outcomes = |client: Client| -> Vec<String> {
        let each = lazies.iter().map(|l| seen(l.compute(&client)));
        let futures = client.submit_all(&lazies).unwrap();
        each.chain(futures.iter().map(|f| seen(f.result()))).collect()
    };
    let wanted = outcomes(Client::sync());
    let others = [Client::threads(1), Client::threads(4), processes(2, 1), processes(1, 1), processes(1, 3)];
    for client in others {
        let name = client.to_string();
        for (i, (got, wanted)) in outcomes(client).iter().zip(&wanted).enumerate() {
            assert_eq!(got, wanted, "{i} in {name}");
        }
    }
}

/// Where several inputs of a task fail, the first of them is told of, whichever was faster.
#[test]
fn the_first_of_several_failures_is_told() {
    let _clean = Clean::start();
    /// The first takes longest to fail.
    fn slow_half(x: i64) -> Result<i64, String> {
        std::thread::sleep(Duration::from_millis(if x == 1 { 30 } else { 0 }));
        half(x)
    }
    let parts: Vec<_> = (0..10).map(|i| try_delayed(slow_half).call(i)).collect();
    let total: Delayed<i64> = parts.iter().sum();
    for client in [Client::sync(), Client::threads(4), processes(2, 1), processes(1, 3)] {
        let error = (&total + 1).compute(&client).unwrap_err();
        let task = error.task().unwrap();
        assert_eq!(task.key(), parts[1].key(), "{client}");
        assert_eq!(task.downcast::<String>(), Some("1 is odd".to_string()));
    }
}

#[test]
fn events_of_tasks_are_equal_in_all_modes() {
    let _clean = Clean::start();
    let lazies = lazies();
    let events = |client: Client| -> Vec<String> {
        lazies.iter().for_each(|l| drop(l.compute(&client)));
        let log = client.events().unwrap();
        let seen = log.events().iter().filter_map(|e| match &e.kind {
            EventKind::GraphSubmitted { graph, tasks, .. } => Some(format!("graph {graph} of {tasks}")),
            EventKind::Retried { key, attempt } => Some(format!("{key} again, {attempt}")),
            _ => None,
        });
        let mut seen: Vec<_> = seen.collect();
        seen.extend(log.runs().iter().map(|r| format!("{} {} {}", r.outcome, r.graph, r.key())));
        seen.sort();
        seen
    };
    let wanted = events(Client::sync());
    assert!(wanted.len() > 40, "{wanted:?}");
    for client in [Client::threads(1), Client::threads(4), processes(1, 1), processes(2, 1), processes(1, 3)] {
        let name = client.to_string();
        assert_eq!(events(client), wanted, "{name}");
    }
}
