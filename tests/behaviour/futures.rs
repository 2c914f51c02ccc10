//! What is done with futures: waited for as they come, with their failures, and told of.

use crate::common::{
    Clean, LONG, block_on, directory, is_sync, note, notes, path, processes, touch, until, wait_for_file,
};
use std::collections::BTreeSet;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use swath::client::{ComputeOptions, Failing, Status};
use swath::error::Cause;
use swath::status::Mode;
use swath::{Client, Error, Future, current_client, delayed, try_delayed};

fn inc(x: i64) -> i64 {
    x + 1
}

fn half(x: i64) -> Result<i64, String> {
    if x % 2 == 0 { Ok(x / 2) } else { Err(format!("{x} is odd")) }
}

/// Waits for a file, so that a test decides when it ends.
fn gate(file: String, x: i64) -> i64 {
    if wait_for_file(&file) { x } else { -1 }
}

const SHORT: Duration = Duration::from_millis(5);

/// A future that is not done until its file is there; in sync mode there is none.
fn pending(client: &Client, file: &str) -> Option<Future<i64>> {
    (!is_sync(client)).then(|| client.submit(&delayed(gate).call(file, 7)).unwrap())
}

/// How a failure reads without the names of task and worker.
fn said(error: &Error) -> String {
    error.task().unwrap().downcast::<String>().unwrap()
}

pub fn futures_join_those_that_are_waited_for(client: &Client) {
    // A walk of a graph: what is found is submitted while others are waited for.
    let next = |n: i64| client.submit(&delayed(|n: i64| vec![2 * n, 2 * n + 1]).call(n)).unwrap();
    let mut completed = client.as_completed(vec![next(1)]);
    let mut seen = BTreeSet::new();
    while let Some(done) = completed.next() {
        for n in done.result().unwrap() {
            if n < 64 && seen.insert(n) {
                completed.add(next(n));
            }
        }
    }
    assert!(seen.into_iter().eq(2..64));
    assert_eq!((completed.is_empty(), completed.len()), (true, 0));
    // It goes on after its end; the same may be there twice, and be done before.
    let one = client.submit(&delayed(inc).call(0)).unwrap();
    let mut completed = client.as_completed(Vec::new());
    assert!(completed.next().is_none());
    completed.add(one.clone());
    completed.add(one.clone());
    one.result().unwrap();
    completed.add(one);
    assert_eq!(completed.len(), 3);
    assert_eq!(completed.by_ref().map(|f| f.result().unwrap()).collect::<Vec<_>>(), [1, 1, 1]);
    // Many at once, of several submissions, beside some that are there.
    completed.extend(client.map(inc, 0..50_i64).unwrap());
    let first = completed.next().unwrap();
    completed.extend(client.map(inc, 50..100_i64).unwrap().into_iter().chain([first]));
    let mut sum = 0;
    while let Some(future) = block_on(completed.next_async()) {
        sum += future.result().unwrap();
    }
    assert_eq!(sum, (1..=100).sum::<i64>());
    // What fails is done, too.
    completed.add(client.submit(&try_delayed(half).call(1)).unwrap());
    assert_eq!(completed.next().unwrap().status(), Status::Failed);
}

pub fn batches_are_all_that_are_done(client: &Client) {
    let futures = client.map(inc, 0..40_i64).unwrap();
    assert_eq!(client.gather(&futures).unwrap().len(), 40);
    let mut completed = client.as_completed(futures);
    assert_eq!(completed.next_batch().unwrap().len(), 40);
    assert!(completed.next_batch().is_none());
    let dir = directory();
    let ready = client.submit_all(&[delayed(inc).call(1), delayed(inc).call(2)]).unwrap();
    client.gather(&ready).unwrap();
    completed.extend(ready);
    if let Some(last) = pending(client, &path(&dir, "go")) {
        completed.add(last);
        assert_eq!(block_on(completed.next_batch_async()).unwrap().len(), 2);
        assert_eq!(completed.len(), 1);
        touch(&path(&dir, "go"));
    }
    assert_eq!(completed.batches().map(|batch| batch.len()).sum::<usize>(), if is_sync(client) { 2 } else { 1 });
    assert!(block_on(completed.next_batch_async()).is_none());
}

pub fn the_next_one_is_waited_for_no_longer_than_told(client: &Client) {
    let dir = directory();
    let mut completed = client.as_completed(vec![client.submit(&delayed(inc).call(1)).unwrap()]);
    assert_eq!(completed.next_timeout(LONG).unwrap().unwrap().result().unwrap(), 2);
    assert!(completed.next_timeout(SHORT).unwrap().is_none());
    assert!(block_on(completed.next_timeout_async(SHORT)).unwrap().is_none());
    if let Some(future) = pending(client, &path(&dir, "go")) {
        completed.add(future);
        assert!(matches!(completed.next_timeout(SHORT), Err(Error::Timeout { waited: SHORT })));
        assert!(matches!(block_on(completed.next_timeout_async(SHORT)), Err(Error::Timeout { waited: SHORT })));
        assert_eq!(completed.len(), 1);
        touch(&path(&dir, "go"));
        assert_eq!(block_on(completed.next_timeout_async(LONG)).unwrap().unwrap().result().unwrap(), 7);
    }
    assert!(completed.is_empty());
}

pub fn each_comes_with_its_result(client: &Client) {
    let futures = client.try_map(half, 0..10_i64).unwrap();
    let mut completed = client.as_completed(futures).with_results();
    completed.add(client.submit(&try_delayed(half).call(100)).unwrap());
    completed.extend(client.try_map(half, [11, 12]).unwrap());
    assert_eq!(completed.len(), 13);
    let (first, result) = completed.next().unwrap();
    assert_eq!(first.result().ok(), result.ok());
    let (_, second) = block_on(completed.next_async()).unwrap();
    let (_, third) = completed.next_timeout(LONG).unwrap().unwrap();
    let (_, fourth) = block_on(completed.next_timeout_async(LONG)).unwrap().unwrap();
    let left = completed.by_ref().map(|(_, result)| result);
    let all: Vec<_> = [first.result(), second, third, fourth].into_iter().chain(left).collect();
    let (mut good, mut bad) = (BTreeSet::new(), BTreeSet::new());
    for result in all {
        match result {
            Ok(x) => drop(good.insert(x)),
            Err(e) => drop(bad.insert(said(&e))),
        }
    }
    assert_eq!(good, BTreeSet::from([0, 1, 2, 3, 4, 50, 6]));
    assert_eq!(bad, [1, 3, 5, 7, 9, 11].map(|x| format!("{x} is odd")).into());
    assert!(completed.is_empty() && completed.next_timeout(SHORT).unwrap().is_none());
}

pub fn gathered_without_what_fails(client: &Client) {
    let mut futures = client.try_map(half, [4, 3, 8, 1, 2]).unwrap();
    futures.push(futures[1].clone());
    for gathered in [
        client.gather_with(&futures, Failing::Skip).unwrap(),
        block_on(client.gather_with_async(&futures, Failing::Skip)).unwrap(),
    ] {
        assert_eq!(gathered.values, [2, 4, 1]);
        let failed: Vec<_> =
            gathered.failed.iter().map(|(place, e)| (*place, e.downcast::<String>().unwrap())).collect();
        assert_eq!(failed, [(1, "3 is odd".into()), (3, "1 is odd".into()), (5, "3 is odd".into())]);
    }
    for failing in [Failing::Wait, Failing::Fast, Failing::AsBuilt] {
        for error in [
            client.gather_with(&futures, failing).unwrap_err(),
            block_on(client.gather_with_async(&futures, failing)).unwrap_err(),
        ] {
            assert_eq!(said(&error), "3 is odd", "{failing:?}");
        }
    }
    let good = client.try_map(half, [4, 8]).unwrap();
    for failing in [Failing::Wait, Failing::Fast, Failing::AsBuilt, Failing::Skip] {
        let gathered = client.gather_with(&good, failing).unwrap();
        assert_eq!((gathered.values, gathered.failed.len()), (vec![2, 4], 0));
        assert!(client.gather_with::<i64>(&[], failing).unwrap().values.is_empty());
    }
    // Cancelled ones are failures as others.
    let dir = directory();
    if let Some(cancelled) = pending(client, &path(&dir, "never")) {
        client.cancel(&cancelled);
        let gathered = client.gather_with(&[good[0].clone(), cancelled], Failing::Skip).unwrap();
        assert!(matches!(gathered.failed[0].1.cause(), Cause::Cancelled));
    }
    // The first failure is told while others still run, and does not end them.
    if let Some(slow) = pending(client, &path(&dir, "go")) {
        let mut list = vec![slow, futures[3].clone()];
        assert_eq!(said(&client.gather_with(&list, Failing::Fast).unwrap_err()), "1 is odd");
        assert_eq!(said(&block_on(client.gather_with_async(&list, Failing::Fast)).unwrap_err()), "1 is odd");
        assert_eq!(list[0].status(), Status::Pending);
        touch(&path(&dir, "go"));
        list.pop();
        assert_eq!(client.gather_with(&list, Failing::Fast).unwrap().values, [7]);
    }
    // What is computed has a place for each value.
    let skip = ComputeOptions { failing: Failing::Skip, ..Default::default() };
    let refused = client.compute_with(&delayed(inc).call(1), skip).unwrap_err();
    assert!(matches!(&refused, Error::Invalid { what, .. } if what == "`failing`"), "{refused}");
}

pub fn the_failure_is_waited_for(client: &Client) {
    let dir = directory();
    let good = client.submit(&delayed(inc).call(1)).unwrap();
    assert!(good.error().is_none() && good.traceback().is_none());
    assert!(block_on(good.error_async()).is_none() && good.error_timeout(LONG).unwrap().is_none());
    assert_eq!(good.result().unwrap(), 2);
    let bad = client.submit(&try_delayed(half).call(3)).unwrap();
    let errors = [
        bad.error().unwrap(),
        bad.error_timeout(LONG).unwrap().unwrap(),
        block_on(bad.error_async()).unwrap(),
        block_on(bad.error_timeout_async(LONG)).unwrap().unwrap(),
    ];
    for error in errors {
        assert_eq!(error.downcast::<String>().unwrap(), "3 is odd");
        assert_eq!(error.key(), bad.key());
    }
    assert!(bad.traceback().is_none());
    // Of a dependent it is that of the task it needs.
    let needs = bad.then(inc).unwrap();
    let error = needs.error().unwrap();
    assert_eq!((error.key(), error.needed_by()), (bad.key().as_str(), Some(needs.key().as_str())));
    let panics = client.submit(&delayed(|x: i64| 1 / x).call(0)).unwrap();
    assert!(matches!(panics.error().unwrap().cause(), Cause::Panic { .. }));
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|set| set != "0") {
        assert!(panics.traceback().unwrap().contains("the_failure_is_waited_for"));
        assert!(block_on(panics.traceback_async()).is_some());
    }
    if let Some(future) = pending(client, &path(&dir, "go")) {
        assert!(matches!(future.error_timeout(SHORT), Err(Error::Timeout { waited: SHORT })));
        assert!(matches!(block_on(future.error_timeout_async(SHORT)), Err(Error::Timeout { waited: SHORT })));
        client.cancel(&future);
        assert!(matches!(future.error().unwrap().cause(), Cause::Cancelled));
    }
}

pub fn a_call_follows_a_future(client: &Client) {
    let first = client.submit(&delayed(inc).call(1)).unwrap();
    let second = first.then(|x: i64| format!("<{x}>")).unwrap();
    let third = block_on(second.then_async(|text: String| text.len())).unwrap();
    drop((first, second));
    assert_eq!(third.result().unwrap(), 3);
    let four = client.scatter(4_i64).unwrap();
    assert_eq!(four.try_then(half).unwrap().try_then(half).unwrap().result().unwrap(), 1);
    let odd = block_on(four.then(|x: i64| x + 1).unwrap().try_then_async(half)).unwrap();
    assert_eq!(said(&odd.result().unwrap_err()), "5 is odd");
    // Within a task it is a task of whatever runs that.
    let inner = delayed(|x: i64| {
        let client = current_client().unwrap();
        client.submit(&delayed(inc).call(x)).unwrap().then(inc).unwrap().result().unwrap()
    });
    assert_eq!(client.compute(&inner.call(1)).unwrap(), 3);
}

pub fn callbacks_are_called_once_each(client: &Client) {
    let dir = directory();
    let (tell, told) = channel();
    let mut wanted = BTreeSet::new();
    for (i, future) in client.try_map(half, 0..40_i64).unwrap().into_iter().enumerate() {
        let tell = tell.clone();
        wanted.insert((i, i % 2 == 0));
        future.on_done(move |future| {
            let result = future.result();
            let here = std::thread::current();
            tell.send((i, result.is_ok(), here.name().map(String::from), here.id())).unwrap();
        });
        // The callback's handle keeps the task.
    }
    let calls: Vec<_> = (0..40).map(|_| told.recv_timeout(LONG).unwrap()).collect();
    assert_eq!(calls.iter().map(|call| (call.0, call.1)).collect::<BTreeSet<_>>(), wanted);
    assert!(calls.iter().all(|call| call.2.as_deref() == Some("swath-callbacks")), "{calls:?}");
    // Before and after the end; several of one future, in their order.
    let future = pending(client, &path(&dir, "go")).unwrap_or_else(|| client.submit(&delayed(inc).call(6)).unwrap());
    let order = |name: &'static str| {
        let tell = tell.clone();
        move |future: Future<i64>| {
            let name = future.result().map_or_else(|e| e.to_string(), |x| format!("{name}{x}"));
            tell.send((0, true, Some(name), std::thread::current().id())).unwrap();
        }
    };
    future.on_done(order("a"));
    future.on_done(order("b"));
    if !is_sync(client) {
        assert_eq!(told.recv_timeout(SHORT).unwrap_err(), RecvTimeoutError::Timeout);
    }
    touch(&path(&dir, "go"));
    future.result().unwrap();
    future.on_done(order("c"));
    let names: Vec<_> = (0..3).map(|_| told.recv_timeout(LONG).unwrap().2.unwrap()).collect();
    assert_eq!(names, ["a7", "b7", "c7"]);
    // A cancelled one is done.
    if let Some(future) = pending(client, &path(&dir, "never")) {
        let tell = tell.clone();
        future.on_done(move |f| tell.send((1, f.error().is_none(), None, std::thread::current().id())).unwrap());
        client.cancel(&future);
        assert!(!told.recv_timeout(LONG).unwrap().1);
    }
    drop(tell);
    assert_eq!(told.recv_timeout(SHORT).unwrap_err(), RecvTimeoutError::Disconnected);
}

pub fn a_callback_that_panics_harms_nobody(client: &Client) {
    struct Worse;
    impl Drop for Worse {
        fn drop(&mut self) {
            panic!("when it is dropped");
        }
    }
    let (tell, told) = channel();
    let futures = client.map(inc, 0..6_i64).unwrap();
    for (i, future) in (0..).zip(&futures) {
        let tell = tell.clone();
        match i % 3 {
            0 => future.on_done(|_| panic!("as it is")),
            1 => future.on_done(|_| std::panic::panic_any(Worse)),
            _ => future.on_done(move |future| tell.send(future.result().unwrap()).unwrap()),
        }
    }
    let mut calls = [told.recv_timeout(LONG).unwrap(), told.recv_timeout(LONG).unwrap()];
    calls.sort_unstable();
    assert_eq!(calls, [3, 6]);
    assert_eq!(client.gather(&futures).unwrap(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(client.compute(&delayed(inc).call(1)).unwrap(), 2);
}

pub fn a_callback_may_wait_and_submit(client: &Client) {
    let (tell, told) = channel();
    let (outer, last) = (client.clone(), tell.clone());
    client.submit(&delayed(inc).call(1)).unwrap().on_done(move |future| {
        let next = outer.submit(&delayed(inc).call(&future)).unwrap();
        tell.send(next.result().unwrap()).unwrap();
        let sum: i64 = outer.compute(&delayed(inc).map(0..5)).unwrap().into_iter().sum();
        tell.send(sum).unwrap();
        // Called behind this one.
        next.then(inc).unwrap().on_done(move |future| last.send(future.result().unwrap()).unwrap());
    });
    assert_eq!((0..3).map(|_| told.recv_timeout(LONG).unwrap()).collect::<Vec<_>>(), [3, 15, 4]);
}

pub fn callbacks_of_a_tasks_futures(client: &Client) {
    let dir = directory();
    let file = path(&dir, "called");
    let task = delayed(|file: String| {
        let client = current_client().unwrap();
        client.submit(&delayed(inc).call(1)).unwrap().on_done(move |future| note(&file, future.result().unwrap()));
    });
    client.compute(&task.call(&*file)).unwrap();
    until("the callback", || notes(&file) == ["2"]);
}

#[test]
fn the_client_may_be_dropped_in_a_callback() {
    let _clean = Clean::start();
    let make: [fn() -> Client; 3] = [Client::sync, || Client::threads(2), || processes(2, 1)];
    for make in make {
        for shut in [false, true] {
            let client = make();
            let dir = directory();
            let (tell, told) = channel();
            let left = pending(&client, &path(&dir, "never"));
            let first = client.submit(&delayed(inc).call(1)).unwrap();
            if let Some(left) = &left {
                let tell = tell.clone();
                left.on_done(move |future| tell.send(future.error().map(|e| e.to_string())).unwrap());
            }
            first.on_done(move |future| {
                if shut {
                    client.shutdown();
                }
                drop(client);
                tell.send(future.error().map(|e| e.to_string())).unwrap();
            });
            drop(first);
            assert_eq!(told.recv_timeout(LONG).unwrap(), None);
            if left.is_some() {
                assert!(told.recv_timeout(LONG).unwrap().unwrap().contains("it was shut down"));
            }
            assert!(told.recv_timeout(LONG).is_err());
        }
    }
}

/// What is called in a waker cannot wait: it is told so, not stopped.
#[test]
fn a_failure_is_not_waited_for_in_a_waker() {
    use std::sync::Arc;
    use std::task::{Context, Wake};

    struct Asks(parking_lot::Mutex<Option<(Future<i64>, std::sync::mpsc::Sender<String>)>>);

    impl Wake for Asks {
        fn wake(self: Arc<Self>) {
            let Some((future, tell)) = self.0.lock().take() else { return };
            let timed = future.error_timeout(LONG).unwrap_err();
            tell.send(format!("{} | {timed}", future.error().unwrap())).unwrap();
        }
    }

    let _clean = Clean::start();
    let dir = directory();
    let client = processes(2, 1);
    assert_eq!(client.mode(), Mode::Processes);
    let never = pending(&client, &path(&dir, "never")).unwrap();
    let first = pending(&client, &path(&dir, "go")).unwrap();
    let (tell, told) = channel();
    let waker = Arc::new(Asks(parking_lot::Mutex::new(Some((never.clone(), tell))))).into();
    let mut awaited = std::future::IntoFuture::into_future(&first);
    assert!(std::pin::Pin::new(&mut awaited).poll(&mut Context::from_waker(&waker)).is_pending());
    touch(&path(&dir, "go"));
    let said = told.recv_timeout(LONG).unwrap();
    assert!(said.matches("waiting in a waker").count() == 2, "{said}");
    client.cancel(&never);
}
