//! How many tasks there are, what they are called, and what their errors say.

use crate::common::{directory, note, notes, path};
use std::fmt::Debug;
use std::sync::Arc;
use swath::error::Cause;
use swath::status::Mode;
use swath::{Bag, Client, delayed};

/// How many tasks a picture of the graph shows.
fn tasks(dot: &str) -> usize {
    dot.lines().filter(|line| line.contains("[label")).count()
}

pub fn steps_become_one_task(client: &Client) {
    let bag =
        Bag::range(0..100, 4).map(|x| x * 2).filter(|x| x % 3 == 0).flat_map(|x| [x, x + 1]).map_partitions(|e| e);
    let part = &bag.to_delayed()[0];
    assert_eq!(tasks(&part.to_dot()), 1, "{}", part.to_dot());
    let before = client.progress().counts.done();
    let expected: i64 = (0..100).map(|x| x * 2).filter(|x| x % 3 == 0).flat_map(|x| [x, x + 1]).sum();
    assert_eq!(bag.sum().compute(client).unwrap(), expected);
    assert!(client.progress().counts.done() - before <= 5, "{:?}", client.progress());
}

pub fn shared_steps_run_once(client: &Client) {
    let dir = directory();
    let file = path(&dir, "notes");
    let costly = Bag::range(0..10, 2).map_with(
        |x, file: &String| {
            note(file, x);
            x * 2
        },
        file.as_str(),
    );
    let (count, sum) = client.compute((&costly.count(), &costly.sum())).unwrap();
    assert_eq!((count, sum), (10, 90));
    assert_eq!(notes(&file).len(), 10);

    // Described again it is the same; persisted it need not run again.
    let kept = costly.persist(client).unwrap();
    assert_eq!(kept.compute(client).unwrap(), costly.compute(client).unwrap());
    assert_eq!(kept.map(|x| x / 2).sum().compute(client).unwrap(), 45);
    assert_eq!(notes(&file).len(), 20);
    assert_eq!(Bag::range(0..10, 2).sum().key(), Bag::range(0..10, 2).sum().key());
    assert_ne!(Bag::range(0..10, 2).sum().key(), Bag::range(0..10, 3).sum().key());
}

pub fn errors_tell_the_place(client: &Client) {
    let odd = Bag::range(0..10, 2).filter(|x| x % 2 == 1);
    let panicking = odd.map(|x| 10 / (x - 7));
    let error = panicking.count().compute(client).unwrap_err();
    let Cause::Panic { message, location, .. } = error.task().unwrap().cause() else { panic!("{error}") };
    assert_eq!(message, "attempt to divide by zero (at element 2 of partition 1)");
    assert!(location.contains("tasks.rs"), "{location}");

    let failing = odd.try_map(|x| if x == 7 { Err(x.to_string()) } else { Ok(x) }).map(|x| x + 1);
    let error = failing.compute(client).unwrap_err();
    assert!(error.to_string().contains("failed: 7 (at element 2 of partition 1)"), "{error}");
    assert_eq!(error.task().unwrap().downcast::<String>().as_deref(), Some("7"));
    // The others are as they were.
    assert_eq!(client.compute(&failing.to_delayed()[0]).unwrap(), [2, 4]);

    let whole = odd.try_map_partitions(|e| {
        e.sum::<i64>().checked_sub(20).filter(|x| *x > 0).ok_or("little".to_string()).map(Some)
    });
    let error = whole.compute(client).unwrap_err();
    assert!(error.to_string().ends_with("little (in partition 0)"), "{error}");

    // Inside a pass another one may be made.
    let nested = Bag::range(0..4, 2).map(|x| {
        let client = swath::current_client().unwrap();
        let inner = Bag::range(0..4, 1).try_map(|y| if y == 3 { Err("three") } else { Ok(y) });
        assert!(client.compute(&inner).is_err());
        if x == 3 { panic!("three") } else { x }
    });
    let error = nested.compute(client).unwrap_err();
    assert!(error.to_string().ends_with("three (at element 1 of partition 1)"), "{error}");
}

/// Fails at one element.
fn checked(x: i64) -> i64 {
    assert!(x != 7, "seven");
    x
}

fn is_checked(x: &i64) -> bool {
    checked(*x) >= 0
}

fn add(a: i64, b: i64) -> i64 {
    checked(b) + a
}

pub fn every_function_of_elements_tells_the_place(client: &Client) {
    fn of<T: Debug>(result: swath::Result<T>) -> String {
        result.unwrap_err().to_string()
    }
    let (bag, c) = (Bag::range(0..10, 2), client);
    let errors = [
        ("map", of(bag.map(checked).compute(c))),
        ("map_with", of(bag.map_with(|x, y: &i64| checked(x) + y, 1).compute(c))),
        ("try_map", of(bag.try_map(|x| Ok::<_, String>(checked(x))).compute(c))),
        ("filter", of(bag.filter(is_checked).compute(c))),
        ("filter_with", of(bag.filter_with(|x, _: &i64| is_checked(x), 1).compute(c))),
        ("remove", of(bag.remove(is_checked).compute(c))),
        ("filter_map", of(bag.filter_map(|x| Some(checked(x))).compute(c))),
        ("flat_map", of(bag.flat_map(|x| [checked(x)]).compute(c))),
        ("flat_map_with", of(bag.flat_map_with(|x, _: &i64| [checked(x)], 1).compute(c))),
        ("map_partitions", of(bag.map_partitions(|part| part.map(checked)).compute(c))),
        ("starmap", of(bag.map(|x| (x, x)).starmap(|x, _| checked(x)).compute(c))),
        ("generate", of(Bag::generate(|n: i64| (n..n + 5).map(checked), [0_i64, 5]).compute(c))),
        ("accumulate", of(bag.accumulate(|a, x| add(*a, x)).compute(c))),
        ("accumulate_from", of(bag.accumulate_from(0, |a, x| add(*a, x)).compute(c))),
        ("join", of(bag.join(vec![1], |x| checked(*x), |y: &i64| *y).compute(c))),
        ("fold", of(bag.fold(0, add, |a, b| a + b).compute(c))),
        ("reduce", of(bag.reduce(add).compute(c))),
        ("reduction", of(bag.reduction(|part| part.map(checked).sum::<i64>(), |all| all.iter().sum()).compute(c))),
        ("any", of(bag.any(|x| !is_checked(x)).compute(c))),
        ("all", of(bag.all(is_checked).compute(c))),
        ("max_by_key", of(bag.max_by_key(|x| checked(*x)).compute(c))),
        ("min_by", of(bag.min_by(|a, b| checked(*a).cmp(&checked(*b))).compute(c))),
        ("topk_by_key", of(bag.topk_by_key(3, |x| checked(*x)).compute(c))),
        ("distinct_by_key", of(bag.distinct_by_key(|x| checked(*x)).compute(c))),
        ("foldby", of(bag.foldby(|x| checked(*x), 0, |a, b| a + b, |a, b| a + b).compute(c))),
        ("foldby_ref", of(bag.foldby_ref(|x| if is_checked(x) { x } else { &0 }, 0, |a, _| a, |a, _| a).compute(c))),
        ("groupby", of(bag.groupby(|x| checked(*x), None).compute(c))),
    ];
    for (operation, error) in errors {
        assert!(error.contains("seven (at element 2 of partition 1)"), "{operation}: {error}");
    }
}

pub fn a_failed_pass_reads_no_further(client: &Client) {
    let dir = directory();
    let file = path(&dir, "notes");
    let noted = |x: i64, file: &String| {
        note(file, x);
        x
    };
    let failing = |x: i64| if x < 5 { Ok(x) } else { Err("five".to_string()) };
    let bag = Bag::range(0..1000, 1).map_with(noted, file.as_str()).try_map(failing);
    let endless = Bag::range(0..3, 1).flat_map(|_| 0_i64..).map_with(noted, file.as_str()).try_map(failing);
    let endless_partition = Bag::range(0..3, 1)
        .map_partitions(|part| part.flat_map(|_| 0_i64..))
        .map_with(noted, file.as_str())
        .try_map(failing);
    for (i, bag) in [bag, endless, endless_partition].into_iter().enumerate() {
        let errors = [bag.count().compute(client).unwrap_err(), bag.compute(client).unwrap_err()];
        assert!(errors.iter().all(|e| e.to_string().contains("five (at element")), "{errors:?}");
        // The element that fails is the last one.
        assert_eq!(notes(&file).len(), 12 * (i + 1));
    }
}

pub fn options_are_kept(client: &Client) {
    let dir = directory();
    let file = path(&dir, "notes");
    fn flaky(x: i64, file: &Arc<str>) -> i64 {
        note(file, x);
        assert!(notes(file).len() > 2, "not yet");
        x
    }
    let bag =
        Bag::range(0..1, 1).map_with(flaky, Arc::<str>::from(file.as_str())).name("flaky").retries(5).map(|x| x + 1);
    assert_eq!(bag.sum().compute(client).unwrap(), 1);
    assert_eq!(notes(&file).len(), 3);

    let bag = Bag::range(0..1, 1).map(|x| x / 0_i64.max(x)).name("ratio");
    let error = bag.compute(client).unwrap_err();
    assert_eq!(error.task().unwrap().name(), "ratio");
    if client.mode() == Mode::Processes {
        let placed = Bag::range(0..9, 3).map(|_| swath::task::current_task().unwrap().worker).tag("nowhere");
        assert!(matches!(placed.compute(client).unwrap_err().task().unwrap().cause(), Cause::Infeasible { .. }));
    }
    assert_eq!(delayed(|x: Vec<i64>| x.len()).call(&Bag::range(0..9, 1).to_delayed()[0]).compute(client).unwrap(), 9);
}

pub fn long_chains(client: &Client) {
    let mut bag = Bag::range(0..10, 2);
    for _ in 0..1000 {
        bag = bag.map(|x| x + 1);
    }
    assert_eq!(bag.sum().compute(client).unwrap(), 45 + 10_000);
}

#[test]
fn iterating_needs_one_graph_at_a_time() {
    let _clean = crate::common::Clean::start();
    let client = Client::builder().mode(swath::status::Mode::Threads).threads(2).max_graphs(1).build().unwrap();
    let bag = Bag::range(0..100, 10);
    // All partitions need the total.
    let total = bag.sum();
    let numbers: Result<Vec<i64>, _> = bag.map_with(|x, total: &i64| total - x, total).iter(&client).unwrap().collect();
    assert_eq!(numbers.unwrap(), (0..100).map(|x| 4950 - x).collect::<Vec<_>>());
}
