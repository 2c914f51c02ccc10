//! Resources that are counted, and options for a whole graph.

use crate::common::{Clean, LONG, block_on, directory, is_sync, note, notes, path, touch, until, wait_for_file};
use std::time::{Duration, Instant};
use swath::client::ComputeOptions;
use swath::coordination::Event;
use swath::status::Mode;
use swath::{Bag, Client, Delayed, Error, Result, current_client, delayed, try_delayed};

/// Notes when it begins and ends.
fn counted(file: String, amount: u64, ms: u64) -> u64 {
    note(&file, format!("+{amount}"));
    std::thread::sleep(Duration::from_millis(ms));
    note(&file, format!("-{amount}"));
    amount
}

/// The most that ran at a time.
fn most(file: &str) -> i64 {
    let mut now = 0;
    let sums = notes(file).into_iter().map(|change| {
        now += change.parse::<i64>().unwrap();
        now
    });
    sums.max().unwrap()
}

/// What there is of resources in one place.
pub const OF_ONE: [(&str, f64); 2] = [("gpu", 2.0), ("disk", 1.0)];

/// A client, and the local cluster that it is connected to, if any.
struct Connected {
    client: Client,
    _cluster: Option<crate::Cluster>,
}

impl std::ops::Deref for Connected {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl std::fmt::Display for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.client.fmt(f)
    }
}

/// A client of each kind in which four tasks may run at a time, with 2 of `gpu` in one place and 1 of `disk`.
fn clients() -> Vec<Connected> {
    let here = |mode: Mode| Client::builder().mode(mode).threads_resources(OF_ONE);
    let processes = Client::builder().workers(2).threads(4).worker_resources(0, OF_ONE);
    let cluster = crate::Cluster::start("cluster with resources");
    let own = [here(Mode::Sync), here(Mode::Threads).threads(4), processes];
    let own = own.map(|builder| Connected { client: builder.build().unwrap(), _cluster: None });
    let connected = Connected { client: Client::connect(cluster.socket()).unwrap(), _cluster: Some(cluster) };
    let clients: Vec<_> = own.into_iter().chain([connected]).collect();
    clients[2..].iter().for_each(|client| client.wait_for_workers(2, LONG).unwrap());
    clients
}

#[test]
fn no_more_run_than_there_is_of_a_resource() {
    let _clean = Clean::start();
    for client in clients() {
        let dir = directory();
        let file = path(&dir, "sources");
        let sources: Vec<_> = (0..12).map(|_| delayed(counted).resource("gpu", 1.0).call(&*file, 1, 20)).collect();
        assert_eq!(client.compute(&sources).unwrap().len(), 12);
        assert_eq!(most(&file), if is_sync(&client) { 1 } else { 2 }, "{client}");
        // With inputs, of different amounts, beside tasks that need none; what needs much is not passed by for ever.
        let file = path(&dir, "mixed");
        let given = delayed(|n: u64| n).map([1_u64, 2, 1, 1, 2, 1, 1, 1, 2, 1]);
        let fifty = |n: u64| delayed(counted).resource("gpu", if n == 2 { 2.0 } else { 0.7 });
        let mixed: Vec<_> =
            (0..10).map(|i| fifty([1, 2, 1, 1, 2, 1, 1, 1, 2, 1][i]).call(&*file, &given[i], 5)).collect();
        let others: Vec<_> = (0..20).map(|i| delayed(|x: u64| x).call(i)).collect();
        client.compute((&mixed, &others)).unwrap();
        assert!(most(&file) <= 2, "{client}: {:?}", notes(&file));
        // Of several resources each is counted.
        let file = path(&dir, "both");
        let both = delayed(counted).resource("disk", 1.0).resource("gpu", 0.5).resource("none of it", 0.0);
        client.compute(&(0..6).map(|_| both.call(&*file, 1, 5)).collect::<Vec<_>>()).unwrap();
        assert_eq!(most(&file), 1);
        // The steps of a bag, and a map of functions that have options.
        let all = client.compute_with(
            &Bag::range(0..8, 8).map_with(
                |x, file: &String| {
                    counted(file.clone(), 1, 2);
                    x
                },
                path(&dir, "bag"),
            ),
            ComputeOptions { resources: vec![("disk".to_string(), 1.0)], ..Default::default() },
        );
        assert_eq!(all.unwrap(), (0..8).collect::<Vec<_>>());
        assert_eq!(most(&path(&dir, "bag")), 1);
    }
}

#[test]
fn what_ends_in_whatever_way_gives_its_resources_back() {
    let _clean = Clean::start();
    for client in clients() {
        let dir = directory();
        let all = |n: u64| delayed(counted).resource("gpu", 2.0).call(path(&dir, "after"), n, 1);
        let gone =
            |x: u64| try_delayed(|x: u64| if x > 0 { Err("no") } else { panic!("no") }).resource("gpu", 2.0).call(x);
        for x in [0_u64, 1] {
            client.compute::<&swath::Delayed<u64>>(&gone(x)).unwrap_err();
        }
        let late = delayed(|| std::thread::sleep(Duration::from_millis(60))).resource("gpu", 2.0);
        client.compute(&late.timeout(Duration::from_millis(20)).call()).unwrap_err();
        if !is_sync(&client) {
            let go = path(&dir, "go");
            let waits = |go: String| u64::from(wait_for_file(&go));
            let held = client.submit(&delayed(waits).resource("gpu", 2.0).call(&*go)).unwrap();
            let behind = client.submit(&all(1)).unwrap();
            let dropped = client.submit(&all(1)).unwrap();
            assert!(behind.result_timeout(Duration::from_millis(20)).is_err());
            client.cancel(&dropped);
            client.cancel(&held);
            assert_eq!(behind.result().unwrap(), 1);
            // One that needs none goes on beside them.
            let held = client.submit(&delayed(waits).resource("gpu", 2.0).call(&*go)).unwrap();
            assert_eq!(client.compute(&delayed(|x: u64| x).call(3)).unwrap(), 3);
            touch(&go);
            held.result().unwrap();
        }
        assert_eq!(client.compute(&all(2)).unwrap(), 2);
    }
}

#[test]
fn a_worker_that_dies_gives_its_resources_back() {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).allowed_deaths(1).worker_resources(0, [("gpu", 1.0)]).build().unwrap();
    let dies = delayed(|| -> u64 { std::process::abort() }).resource("gpu", 1.0).call();
    client.compute(&dies).unwrap_err();
    assert_eq!(client.compute(&delayed(|| 1).resource("gpu", 1.0).call()).unwrap(), 1);
}

/// Who waits for tasks of its own lends them what it has: nobody waits for himself.
#[test]
fn what_a_task_submits_may_use_what_the_task_has() {
    let _clean = Clean::start();
    for client in clients() {
        let outer = delayed(|| {
            let inner = delayed(|| {
                let last = delayed(|x: u64| x + 1).resource("gpu", 2.0).call(1);
                current_client().unwrap().compute(&last).unwrap()
            });
            current_client().unwrap().compute(&inner.resource("gpu", 1.0).call()).unwrap()
        });
        let outer = outer.resource("gpu", 2.0).call();
        assert_eq!(client.compute_timeout(&outer, LONG).unwrap(), 2, "{client}");
        assert_eq!(client.compute(&delayed(|| 1).resource("gpu", 2.0).call()).unwrap(), 1);
    }
}

#[test]
fn what_a_task_has_serves_over_a_level_that_asks_for_none() {
    fn top(file: String) -> Result<u64> {
        let between = try_delayed(|file: String| {
            let last = delayed(counted).resource("gpu", 2.0).call(file, 2, 5);
            current_client().expect("in a task").compute(&last)
        });
        current_client().expect("in a task").compute(&between.call(file))
    }
    let _clean = Clean::start();
    for client in clients() {
        let dir = directory();
        let tops: Vec<_> = (0..4).map(|_| try_delayed(top).resource("gpu", 2.0).call(path(&dir, "last"))).collect();
        assert_eq!(client.compute_timeout(&tops, LONG).unwrap(), [2; 4], "{client}");
        assert_eq!(most(&path(&dir, "last")), 2, "{client}");
        assert_eq!(client.compute(&delayed(|| 1).resource("gpu", 2.0).call()).unwrap(), 1);
    }
}

/// Who waits lends what it has once, not to each of those that it waits for.
#[test]
fn the_tasks_of_a_task_use_together_no_more_than_there_is() {
    fn waits(file: String) -> Result<usize> {
        let inner = delayed(counted).resource("gpu", 1.0);
        Ok(current_client()
            .expect("in a task")
            .compute(&(0..6).map(|_| inner.call(&*file, 1, 10)).collect::<Vec<_>>())?
            .len())
    }
    fn goes_on(file: String) -> Result<u64> {
        let inner =
            current_client().expect("in a task").submit(&delayed(counted).resource("gpu", 1.0).call(&*file, 1, 1))?;
        note(&file, "+2");
        std::thread::sleep(Duration::from_millis(30));
        note(&file, "-2");
        inner.result()
    }
    let _clean = Clean::start();
    for client in clients() {
        let dir = directory();
        let tops: Vec<_> = (0..3).map(|_| try_delayed(waits).resource("gpu", 2.0).call(path(&dir, "waits"))).collect();
        assert_eq!(client.compute_timeout(&tops, LONG).unwrap(), [6; 3], "{client}");
        assert_eq!(most(&path(&dir, "waits")), if is_sync(&client) { 1 } else { 2 }, "{client}");
        // While it runs itself, nothing of what it has is there for them.
        if !is_sync(&client) {
            let top = try_delayed(goes_on).resource("gpu", 2.0).call(path(&dir, "goes on"));
            assert_eq!(client.compute_timeout(&top, LONG).unwrap(), 1, "{client}");
            assert_eq!(most(&path(&dir, "goes on")), 2, "{client}");
        }
    }
}

/// Has 1 of `gpu`, begins when so many others have, and needs a task that takes 2.
fn parent(began: String, file: String, others: u64) -> Result<u64> {
    note(&began, "began");
    until("all have begun", || notes(&began).len() as u64 >= others);
    current_client().expect("in a task").compute(&delayed(counted).resource("gpu", 2.0).call(file, 2, 5))
}

#[test]
fn tasks_that_need_what_others_have_which_wait_in_the_same_way_all_end() {
    let _clean = Clean::start();
    for client in clients() {
        let dir = directory();
        let (began, file, go) = (path(&dir, "began"), path(&dir, "children"), path(&dir, "go"));
        // Something runs all the time that has to do with none of it.
        let long = (!is_sync(&client)).then(|| {
            let long = delayed(|go: String| u64::from(wait_for_file(&go)));
            client.submit(&long.call(&*go)).unwrap()
        });
        let others = if is_sync(&client) { 1 } else { 2 };
        let parents: Vec<_> =
            (0..6).map(|_| try_delayed(parent).resource("gpu", 1.0).call(&*began, &*file, others)).collect();
        assert_eq!(client.compute_timeout(&parents, LONG).unwrap(), [2; 6], "{client}");
        assert_eq!(most(&file), 2, "one of them at a time: {client}");
        assert_eq!(notes(&file).len(), 12, "nothing has run twice: {client}");
        touch(&go);
        if let Some(long) = long {
            long.result().unwrap();
        }
        // All of it is free again.
        let all = delayed(|| 1).resource("gpu", 2.0).call();
        assert_eq!(client.compute_timeout(&all, LONG).unwrap(), 1);
    }
}

#[test]
fn nobody_else_is_let_in_while_who_has_a_resource_waits_for_what_may_come() {
    fn holder(event: Event, file: String, began: String) -> Result<()> {
        note(&began, "holder");
        event.wait()?;
        note(&file, "+1");
        std::thread::sleep(Duration::from_millis(30));
        note(&file, "-1");
        Ok(())
    }
    fn other(file: String, began: String) -> Result<u64> {
        note(&began, "other");
        current_client().expect("in a task").compute(&delayed(counted).resource("gpu", 2.0).call(file, 1, 30))
    }
    let _clean = Clean::start();
    for client in clients().into_iter().filter(|client| !is_sync(client)) {
        let dir = directory();
        let [file, began] = ["file", "began"].map(|name| path(&dir, name));
        let event = client.event("event").unwrap();
        let holder = try_delayed(holder).resource("gpu", 2.0).call(event.clone(), &*file, &*began);
        let holder = client.submit(&holder).unwrap();
        until("it waits", || notes(&began).len() == 1);
        let other = client.submit(&try_delayed(other).call(&*file, &*began)).unwrap();
        until("the other waits", || notes(&began).len() == 2);
        // Long enough for one that would be let in.
        assert!(other.result_timeout(Duration::from_millis(100)).is_err());
        event.set().unwrap();
        holder.result().unwrap();
        assert_eq!(other.result().unwrap(), 1);
        assert_eq!((most(&file), notes(&file).len()), (1, 4), "{client}");
    }
}

#[test]
fn a_task_that_waits_behind_one_that_waits_for_much_goes_on_for_who_waits_for_it() {
    fn waits(go: String) -> Result<u64> {
        let child = delayed(|| 3_u64).resource("gpu", 1.5).priority(-5).call();
        wait_for_file(&go);
        current_client().expect("in a task").compute(&child)
    }
    let _clean = Clean::start();
    for client in clients().into_iter().filter(|client| !is_sync(client)) {
        let dir = directory();
        let go = path(&dir, "go");
        let first = client.submit(&try_delayed(waits).resource("gpu", 1.0).call(&*go)).unwrap();
        let behind: Vec<Delayed<u64>> = (0..3).map(|_| delayed(|| 1).resource("gpu", 2.0).priority(3).call()).collect();
        let behind = client.submit(&behind[0]).unwrap();
        touch(&go);
        assert_eq!(first.result_timeout(LONG).unwrap(), 3, "{client}");
        assert_eq!(behind.result_timeout(LONG).unwrap(), 1, "{client}");
    }
}

#[test]
fn tasks_that_need_what_the_other_worker_has_all_end() {
    fn top(began: String, there: String) -> Result<u64> {
        note(&began, "began");
        until("both have begun", || notes(&began).len() >= 2);
        let child = delayed(|| 1).on_worker(there).resource("gpu", 1.0).call();
        current_client().expect("in a task").compute(&child)
    }
    let _clean = Clean::start();
    let builder = Client::builder().workers(2).threads(2);
    let client = builder.worker_resources(0, [("gpu", 1.0)]).worker_resources(1, [("gpu", 1.0)]).build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    let dir = directory();
    let tops = [("worker-0", "worker-1"), ("worker-1", "worker-0")]
        .map(|(here, there)| try_delayed(top).on_worker(here).resource("gpu", 1.0).call(path(&dir, "began"), there));
    assert_eq!(client.compute_timeout(&tops, LONG).unwrap(), [1, 1]);
}

#[test]
fn a_task_that_waits_for_a_resource_is_explained_in_the_same_words() {
    let _clean = Clean::start();
    for client in clients().into_iter().filter(|client| !is_sync(client)) {
        let dir = directory();
        let go = path(&dir, "go");
        let holds = delayed(|go: String| u64::from(wait_for_file(&go))).resource("gpu", 1.5);
        let holds = client.submit(&holds.call(&*go)).unwrap();
        let waits = client.submit(&delayed(|| 1).resource("gpu", 1.0).call()).unwrap();
        let words = "waits for the 1 of `gpu` that it asks for, which other tasks have on every worker that may run it";
        until("it waits", || client.explain(&waits).unwrap().to_string().contains(words));
        touch(&go);
        assert_eq!((holds.result().unwrap(), waits.result().unwrap()), (1, 1));
    }
}

#[test]
fn a_task_that_asks_for_more_than_any_worker_has_for_a_task_of_its_own_is_told_in_the_same_words() {
    fn greedy(amount: f64) -> String {
        let wants = delayed(|| 1).name("wants").resource("gpu", amount).call();
        let errors = [
            current_client().expect("in a task").submit(&wants).map(|_| ()).unwrap_err(),
            current_client().expect("in a task").compute(&wants).map(|_| ()).unwrap_err(),
        ];
        assert!(errors.iter().all(|error| matches!(error, Error::Invalid { .. })), "{errors:?}");
        let [first, second] = errors.map(|error| error.to_string());
        assert_eq!(first, second);
        first
    }
    let _clean = Clean::start();
    for client in clients() {
        for (amount, why) in
            [(3.0, "3 of `gpu` are asked for, and no worker has more than 2"), (-1.0, "-1; it is 0 or more")]
        {
            let error = client.compute(&delayed(greedy).call(amount)).unwrap();
            assert!(error.starts_with("bad value for resource `gpu` of wants-") && error.ends_with(why), "{error}");
        }
        assert_eq!(client.compute(&delayed(|x: u64| x).resource("gpu", 0.0).call(1)).unwrap(), 1);
    }
}

pub fn what_no_worker_has_is_refused_when_it_is_submitted(client: &Client) {
    let wants = |amount: f64| delayed(|x: u64| x).name("task").resource("gpu", amount).call(1);
    let refused = |amount: f64| {
        let task = wants(amount);
        let errors = [
            client.submit(&task).unwrap_err(),
            client.compute((&delayed(|| 1).call(), &task)).unwrap_err(),
            block_on(client.compute_async(&task)).unwrap_err(),
            client.persist(&task).unwrap_err(),
        ];
        let said = |error: &Error| match error {
            Error::Invalid { what, why } => {
                assert_eq!(*what, format!("resource `gpu` of {}", task.key()));
                why.clone()
            }
            other => panic!("{other}"),
        };
        let first = said(&errors[0]);
        assert!(errors.iter().all(|error| said(error) == first));
        first
    };
    assert_eq!(refused(1.5), "1.5 of `gpu` are asked for, and no worker has any");
    assert_eq!(refused(-1.0), "-1; it is 0 or more");
    assert_eq!(refused(f64::NAN), "NaN; it is 0 or more");
    assert_eq!(refused(f64::INFINITY), "inf; nothing has so much");
    assert_eq!(wants(0.0).compute(client).unwrap(), 1);
}

#[test]
fn more_than_any_worker_has_is_refused_in_the_same_words() {
    let _clean = Clean::start();
    for client in clients() {
        let error = client.submit(&delayed(|| 1).resource("gpu", 3.0).call()).unwrap_err().to_string();
        assert!(error.ends_with("3 of `gpu` are asked for, and no worker has more than 2"), "{client}: {error}");
    }
    for (set, why) in [("gpu", f64::NAN), ("gpu", -0.5), ("", 1.0)]
        .map(|(name, amount)| (Client::builder().workers(1).worker_resources(0, [(name, amount)]), (name, amount)))
    {
        let error = set.build().unwrap_err();
        assert!(matches!(&error, Error::Invalid { what, .. } if what == "worker_resources"), "{why:?}: {error}");
    }
    let none = Client::builder().workers(1).worker_resources(1, [("gpu", 1.0)]).build().unwrap_err();
    assert!(none.to_string().contains("there is no worker 1"), "{none}");
}

pub fn options_for_a_whole_graph(client: &Client) {
    let dir = directory();
    // Each task may fail as often as is said, or as it says itself.
    let fails = |file: String, n: usize| {
        note(&file, "run");
        if notes(&file).len() <= n { Err(format!("failed {n}")) } else { Ok(n) }
    };
    let tasks = [
        try_delayed(fails).call(path(&dir, "a"), 2),
        try_delayed(fails).retries(4).call(path(&dir, "b"), 4),
        try_delayed(fails).call(path(&dir, "c"), 0),
    ];
    let twice = ComputeOptions { retries: 2, ..Default::default() };
    assert_eq!(client.compute_with(&tasks, twice.clone()).unwrap(), [2, 4, 0]);
    let thrice = try_delayed(fails).call(path(&dir, "d"), 3);
    assert!(block_on(client.compute_with_async(&thrice, twice)).is_err());
    // A time limit for all of it.
    let gate = delayed(|go: String| wait_for_file(&go)).call(path(&dir, "never"));
    if !is_sync(client) {
        let limit = Duration::from_millis(30);
        let soon = ComputeOptions { timeout: Some(limit), ..Default::default() };
        let began = Instant::now();
        for error in [
            client.compute_with(&gate, soon.clone()).unwrap_err(),
            block_on(client.compute_with_async(&gate, soon.clone())).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Timeout { waited } if waited == limit), "{error}");
        }
        assert!(began.elapsed() < LONG);
    }
    // Without fusing, a chain is as many tasks; the result is the same.
    let chain = (0..20).fold(delayed(|| 0_i64).call(), |x, _| x + 1);
    let before = client.progress().counts.total();
    let apart = ComputeOptions { optimize: false, priority: 3, ..Default::default() };
    assert_eq!(client.compute_with(&chain, apart.clone()).unwrap(), 20);
    assert_eq!(client.progress().counts.total() - before, 21);
    let steps = Bag::range(0..6, 2).map(|x| x + 1).filter(|x| x % 2 == 0);
    let before = client.progress().counts.total();
    assert_eq!(client.compute_with(&steps, apart).unwrap(), [2, 4, 6]);
    assert_eq!(client.progress().counts.total() - before, 6);
    until("what was cancelled has ended", || client.compute(&delayed(|| 1).call()).is_ok());
}

#[test]
fn a_whole_graph_runs_on_some_workers() {
    let _clean = Clean::start();
    let client = Client::builder().workers(3).threads(1).build().unwrap();
    client.wait_for_workers(3, LONG).unwrap();
    let place = |_: u64| swath::task::current_task().unwrap().worker;
    let tasks: Vec<_> = (0..30).map(|i| delayed(place).call(i)).collect();
    let two = ComputeOptions { workers: ["worker-0", "worker-2"].map(String::from).to_vec(), ..Default::default() };
    let places = client.compute_with(&tasks, two.clone()).unwrap();
    assert!(places.iter().all(|place| place == "worker-0" || place == "worker-2"), "{places:?}");
    // What a task says itself goes before.
    assert_eq!(client.compute_with(&delayed(place).on_worker("worker-1").call(1), two).unwrap(), "worker-1");
    let none = ComputeOptions { workers: vec!["worker-9".to_string()], ..Default::default() };
    let error = client.compute_with(&tasks[0], none).unwrap_err().to_string();
    assert!(error.contains("can never run: it wants one of `worker-9`"), "{error}");
}
