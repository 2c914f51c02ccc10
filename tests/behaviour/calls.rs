//! What a client can be asked for.

use crate::common::{
    LONG, block_on, comes_true, directory, is_sync, note, notes, path, processes, touch, until, wait_for_file,
};
use std::slice::from_ref;
use std::time::Duration;
use swath::client::{ComputeOptions, Status, WaitFor};
use swath::delayed::value;
use swath::error::Cause;
use swath::status::Mode;
use swath::{Client, Delayed, Error, Future, Result, delayed, try_delayed};

fn inc(x: i64) -> i64 {
    x + 1
}

fn add(a: i64, b: i64) -> i64 {
    a + b
}

/// Waits for a file, so that a test decides when it ends.
fn gate(file: String, x: i64) -> i64 {
    if wait_for_file(&file) { x } else { -1 }
}

pub fn loops_and_conditions(client: &Client) {
    let (inc, double) = (delayed(inc), delayed(|x: i64| x * 2));
    let mut total = value(0);
    for i in 0..20 {
        let y = if i % 2 == 0 { inc.call(i) } else { double.call(i) };
        total = total + y;
    }
    let wanted: i64 = (0..20).map(|i| if i % 2 == 0 { i + 1 } else { i * 2 }).sum();
    assert_eq!(total.compute(client).unwrap(), wanted);
    // Control flow on a computed value, as in ordinary code.
    let mut x = value(1_i64);
    let mut rounds = 0;
    while x.compute(client).unwrap() < 100 {
        x = (&x * 3).persist(client).unwrap();
        rounds += 1;
    }
    assert_eq!((x.compute(client).unwrap(), rounds), (243, 5));
}

pub fn course_patterns(client: &Client) {
    let (x, y) = (delayed(inc).call(1), delayed(inc).call(2));
    let z = delayed(add).call(&x, &y);
    assert_eq!(z.compute(client).unwrap(), 5);
    let data: Vec<i64> = (1..=8).collect();
    let results: Vec<_> = data.iter().map(|&v| delayed(inc).call(v)).collect();
    let total = delayed(|v: Vec<i64>| v.iter().sum::<i64>()).call(results);
    assert_eq!(total.compute(client).unwrap(), 44);
}

pub fn diamonds_and_trees(client: &Client) {
    let mut layer: Vec<_> = delayed(inc).map(0..64);
    while layer.len() > 1 {
        layer = layer.chunks(2).map(|p| delayed(add).call(&p[0], &p[1])).collect();
    }
    assert_eq!(layer[0].compute(client).unwrap(), (1..=64).sum::<i64>());
    let mut x = delayed(inc).call(0);
    for _ in 0..30 {
        let (left, right) = (&x + 1, &x - 1);
        x = (left + right) / 2;
    }
    assert_eq!(x.compute(client).unwrap(), 1);
}

pub fn compute_many_at_once(client: &Client) {
    let (a, b) = (delayed(inc).call(1), delayed(|s: String| s).call("x"));
    let f = client.submit(&delayed(inc).call(10)).unwrap();
    assert_eq!(client.compute((&a, &b, &f)).unwrap(), (2, "x".to_string(), 11));
    assert_eq!(client.compute(&vec![a.clone(), a.clone(), &a + 1]).unwrap(), [2, 2, 3]);
    assert_eq!(client.compute([&a, &a]).unwrap(), [2, 2]);
    assert_eq!(
        client.compute((from_ref(&a), &vec![vec![a.clone()], vec![]])).unwrap(),
        (vec![2], vec![vec![2], vec![]])
    );
    let six = client.compute((&a, &a, &a, &a, &a, &(&a + 5))).unwrap();
    assert_eq!(six, (2, 2, 2, 2, 2, 7));
    assert_eq!(client.compute((&a,)).unwrap(), (2,));
    assert_eq!(client.compute_timeout(&a, LONG).unwrap(), 2);
}

pub fn persisted_values(client: &Client) {
    let parts = client.persist(&delayed(inc).map(0..5)).unwrap();
    let sum: Delayed<i64> = parts.iter().sum();
    assert_eq!(client.compute((&sum, &parts[4])).unwrap(), (15, 5));
    let (a, b) = client.persist((&sum, &parts[0])).unwrap();
    assert_eq!((a + b).compute(client).unwrap(), 16);
    // Persisting what is persisted.
    let again = parts[1].persist(client).unwrap();
    drop(parts);
    assert_eq!((&again * 10).compute(client).unwrap(), 20);
    assert_eq!(again.compute(client).unwrap(), 2);
    assert_eq!(again.compute(client).unwrap(), 2);
}

pub fn submitted_and_gathered(client: &Client) {
    let f = delayed(inc).call(1).submit(client).unwrap();
    assert_eq!(f.result().unwrap(), 2);
    assert_eq!(f.result().unwrap(), 2);
    let g = f.clone();
    drop(f);
    assert_eq!(g.result().unwrap(), 2);
    let fs = client.submit_all(&delayed(inc).map(0..300)).unwrap();
    assert_eq!(client.gather(&fs).unwrap(), (1..=300).collect::<Vec<_>>());
    let error = client.gather(&[g, client.submit(&delayed(|x: i64| 1 / x).call(0)).unwrap()]).unwrap_err();
    assert!(error.to_string().contains("divide by zero"), "{error}");
}

pub fn mapped(client: &Client) {
    let fs = client.map(|s: String| s.len(), ["a", "bb", ""]).unwrap();
    assert_eq!(client.gather(&fs).unwrap(), [1, 2, 0]);
    let next = client.map(|n: usize| n * 10, &fs).unwrap();
    assert_eq!(client.gather(&next).unwrap(), [10, 20, 0]);
    let parsed = client.try_map(|s: String| s.parse::<u8>().map_err(|e| e.to_string()), ["1", "300"]).unwrap();
    assert_eq!(parsed[0].result().unwrap(), 1);
    assert_eq!(
        parsed[1].result().unwrap_err().task().unwrap().downcast::<String>().unwrap(),
        "number too large to fit in target type"
    );
}

pub fn scattered_and_broadcast(client: &Client) {
    let words = client.scatter(vec!["a".to_string(), "b".to_string()]).unwrap();
    let n = delayed(|ws: Vec<String>, n: usize| ws[n].clone());
    assert_eq!(client.compute((&n.call(&words, 0), &n.call(&words, 1))).unwrap(), ("a".into(), "b".into()));
    assert_eq!(words.result().unwrap().len(), 2);
    assert_eq!(words.status(), Status::Finished);
    let all = client.scatter_all(vec![1_i64, 2, 3]).unwrap();
    assert_eq!(all.iter().map(|f| f.delayed()).sum::<Delayed<i64>>().compute(client).unwrap(), 6);
    assert_eq!(client.gather(&all).unwrap(), [1, 2, 3]);
    let everywhere = client.broadcast(10_i64).unwrap();
    let sums = client.map(|x: i64| x + 1, vec![&everywhere; 5]).unwrap();
    assert_eq!(client.gather(&sums).unwrap(), [11; 5]);
}

pub fn as_completed_gives_all(client: &Client) {
    let fs = client.map(|x: i64| x * x, 0..50_i64).unwrap();
    let mut seen: Vec<i64> = client.as_completed(fs).map(|f| f.result().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..50).map(|x| x * x).collect::<Vec<_>>());
    if is_sync(client) {
        return;
    }
    // The order is that in which they are done: the gate opens after the other has come.
    let dir = directory();
    let file = path(&dir, "gate");
    let slow = client.submit(&delayed(gate).call(&*file, 1)).unwrap();
    if client.workers().unwrap().iter().map(|w| w.threads).sum::<usize>() > 1 {
        let fast = client.submit(&delayed(inc).call(1)).unwrap();
        let mut both = client.as_completed(vec![slow, fast]);
        assert_eq!(both.size_hint(), (2, Some(2)));
        assert_eq!(both.next().unwrap().result().unwrap(), 2);
        touch(&file);
        assert_eq!(both.next().unwrap().result().unwrap(), 1);
        assert!(both.next().is_none());
    } else {
        touch(&file);
        assert_eq!(slow.result().unwrap(), 1);
    }
}

pub fn wait_for_all_and_any(client: &Client) {
    let mut fs = client.map(inc, 0..20_i64).unwrap();
    client.wait_timeout(&fs, WaitFor::All, LONG).unwrap();
    assert!(fs.iter().all(Future::is_done));
    client.wait(&fs, WaitFor::Any).unwrap();
    // A failed one is done, too.
    fs.push(client.submit(&delayed(|x: i64| 1 / x).call(0)).unwrap());
    client.wait_timeout(&fs, WaitFor::All, LONG).unwrap();
    assert_eq!(fs[20].status(), Status::Failed);
}

pub fn time_limits_of_waits(client: &Client) {
    if is_sync(client) {
        return;
    }
    let dir = directory();
    let file = path(&dir, "gate");
    let f = client.submit(&delayed(gate).call(&*file, 7)).unwrap();
    let short = Duration::from_millis(20);
    assert!(matches!(f.result_timeout(short), Err(Error::Timeout { waited }) if waited == short));
    assert!(matches!(f.result_timeout(Duration::ZERO), Err(Error::Timeout { .. })));
    assert!(matches!(client.wait_timeout(from_ref(&f), WaitFor::Any, short), Err(Error::Timeout { .. })));
    assert_eq!(f.status(), Status::Pending);
    assert!(!f.is_done());
    let other = path(&dir, "never");
    let lazy = delayed(gate).call(&*other, 8);
    assert!(matches!(client.compute_timeout(&lazy, short), Err(Error::Timeout { .. })));
    touch(&file);
    assert_eq!(f.result_timeout(LONG).unwrap(), 7);
    client.wait_timeout(from_ref(&f), WaitFor::All, Duration::ZERO).unwrap();
}

pub fn a_time_limit_for_a_whole_graph(client: &Client) {
    fn until_cancelled(n: u64) -> u64 {
        while !swath::cancelled() {
            std::thread::yield_now();
        }
        n
    }
    fn leave_word(_: u64, file: String) {
        touch(&file);
    }
    let dir = directory();
    let short = Duration::from_millis(20);
    let options = ComputeOptions { timeout: Some(short), ..Default::default() };
    let first = delayed(until_cancelled).call(1);
    let late =
        |done: Result<()>| assert!(matches!(done, Err(Error::Timeout { waited }) if waited == short), "{done:?}");
    let files: Vec<_> = (0..4).map(|n| path(&dir, &n.to_string())).collect();
    let second = |n: usize| delayed(leave_word).call(&first, files[n].clone());
    // Both are asked for, so that they are two tasks in each mode.
    let both = |n: usize| (&first + 0, second(n));
    late(client.compute_timeout(both(0), short).map(drop));
    late(client.compute_with(both(1), options.clone()).map(drop));
    late(block_on(client.compute_timeout_async(both(2), short)).map(drop));
    late(block_on(client.compute_with_async(both(3), options)).map(drop));
    assert_eq!(client.compute_timeout(&delayed(inc).call(1), LONG).unwrap(), 2);
    assert!(!files.iter().any(|file| std::path::Path::new(file).exists()), "no task begins after that");
}

pub fn the_longest_time_limits(client: &Client) {
    let f = client.submit(&delayed(inc).timeout(Duration::MAX).call(1)).unwrap();
    client.wait_timeout(from_ref(&f), WaitFor::All, Duration::MAX).unwrap();
    client.wait_for_workers(1, Duration::MAX).unwrap();
    assert_eq!(f.result_timeout(Duration::MAX).unwrap(), 2);
    assert_eq!(client.compute_timeout(f.delayed() + 1, Duration::MAX).unwrap(), 3);
}

pub fn cancelling(client: &Client) {
    let dir = directory();
    let file = path(&dir, "gate");
    if is_sync(client) {
        touch(&file);
        let f = client.submit(&delayed(gate).call(&*file, 7)).unwrap();
        client.cancel(&f);
        // It ran when it was submitted.
        assert_eq!(f.result().unwrap(), 7);
        return;
    }
    let running = client.submit(&delayed(gate).call(&*file, 7)).unwrap();
    let after = client.submit(&(running.delayed() + 1)).unwrap();
    let beside: Vec<_> = (0..10).map(|i| client.submit(&delayed(gate).call(&*file, i)).unwrap()).collect();
    client.cancel(&running);
    assert!(running.result().unwrap_err().is_cancelled());
    let error = after.result().unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    assert_eq!(error.task().unwrap().key(), running.key());
    assert_eq!(running.status(), Status::Cancelled);
    client.cancel(&beside[9]);
    client.cancel(&beside[9]);
    touch(&file);
    assert_eq!(client.gather(&beside[..9]).unwrap(), (0..9).collect::<Vec<_>>());
    assert!(beside[9].result().unwrap_err().is_cancelled());
    // What is done stays done.
    client.cancel(&beside[0]);
    assert_eq!(delayed(inc).call(1).compute(client).unwrap(), 2);
}

pub fn cancelling_before_others_use_it(client: &Client) {
    if is_sync(client) {
        return;
    }
    let dir = directory();
    let file = path(&dir, "gate");
    let f = client.submit(&delayed(gate).call(&*file, 7)).unwrap();
    client.cancel(&f);
    let error = (f.delayed() + 1).compute(client).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    assert_eq!(error.task().unwrap().key(), f.key());
    // The failure keeps its name for those that come later, also when the handle itself is gone.
    let g = client.submit(&delayed(gate).name("held up").call(path(&dir, "never"), 7)).unwrap();
    let (key, later) = (g.key(), client.submit(&(g.delayed() + 1)).unwrap());
    client.cancel(&g);
    drop(g);
    let error = later.result().unwrap_err();
    assert_eq!((error.task().unwrap().key(), error.task().unwrap().name()), (&*key, "held up"));
    touch(&file);
}

pub fn what_is_detached_runs_to_its_end(client: &Client) {
    fn waits(file: String, gate: String, x: u32) -> u32 {
        note(&file, format!("begins {x}"));
        wait_for_file(&gate);
        note(&file, format!("ends {x}"));
        x
    }
    fn passes_on(file: String, gate: String) -> u32 {
        let inner = delayed(waits).call(file, gate, 4);
        swath::current_client().unwrap().submit(&inner).unwrap().detach();
        5
    }
    let dir = directory();
    let (file, gate) = (path(&dir, "runs"), path(&dir, "gate"));
    if is_sync(client) {
        touch(&gate);
    }
    let first = client.submit(&delayed(waits).call(&*file, &*gate, 1)).unwrap();
    // What only a detached one needs goes on, too.
    client.submit(&delayed(|x: u32| x + 1).call(&first)).unwrap().detach();
    drop(first);
    let second = client.submit(&delayed(waits).call(&*file, &*gate, 2)).unwrap();
    let other = second.clone();
    second.detach();
    block_on(async {
        client.submit_async(&delayed(waits).call(&*file, &*gate, 3)).await.unwrap().detach();
    });
    client.submit(&delayed(|x: u32| 1 / x).call(0)).unwrap().detach();
    client.scatter(7_u32).unwrap().detach();
    touch(&gate);
    assert_eq!(client.compute(&delayed(passes_on).call(&*file, &*gate)).unwrap(), 5);
    assert_eq!(other.result().unwrap(), 2);
    until("all have ended", || notes(&file).iter().filter(|line| line.starts_with("ends")).count() == 4);
    // Who still has a handle may cancel it.
    let kept = client.submit(&delayed(|x: u32| x).call(6)).unwrap();
    kept.clone().detach();
    client.cancel(&kept);
    drop(kept);
    // And nothing is left of those that have ended.
    until("their results are gone", || client.memory().unwrap().workers.iter().all(|worker| worker.managed == 0));
}

pub fn retrying(client: &Client) {
    fn needs(file: String) -> Result<i64, String> {
        match std::path::Path::new(&file).exists() {
            true => Ok(3),
            false => Err("no file yet".to_string()),
        }
    }
    let dir = directory();
    let file = path(&dir, "file");
    let first = try_delayed(needs).call(&*file);
    let f = client.submit(&(&first + 1)).unwrap();
    let error = f.result().unwrap_err();
    assert_eq!(error.task().unwrap().downcast::<String>().unwrap(), "no file yet");
    client.retry(&f).unwrap();
    assert!(f.result().is_err());
    touch(&file);
    client.retry(&f).unwrap();
    assert_eq!(f.result().unwrap(), 4);
    // Of what is done nothing is to be done.
    client.retry(&f).unwrap();
    assert_eq!(f.result().unwrap(), 4);
    // Where nothing runs any more, nothing is waited for.
    let failed = client.submit(&try_delayed(needs).call("no such file")).unwrap();
    assert!(failed.result().is_err());
    client.shutdown();
    assert!(client.retry(&failed).is_err() && failed.result().is_err());
}

pub fn explaining_and_progress(client: &Client) {
    let done = client.submit(&delayed(inc).call(1)).unwrap();
    done.result().unwrap();
    assert!(!client.explain(&done).unwrap().to_string().is_empty());
    let before = client.progress().counts;
    let fs = client.map(inc, 0..10_i64).unwrap();
    client.gather(&fs).unwrap();
    let failed = client.submit(&delayed(|x: i64| 1 / x).call(0)).unwrap();
    failed.result().unwrap_err();
    let after = client.progress().counts;
    assert_eq!((after.total() - before.total(), after.failed - before.failed), (11, 1));
    assert_eq!(after.done() - before.done(), 10);
    if is_sync(client) {
        return;
    }
    let dir = directory();
    let file = path(&dir, "gate");
    let running = client.submit(&delayed(gate).call(&*file, 7)).unwrap();
    let waiting = client.submit(&delayed(add).call(&running, 1)).unwrap();
    let why = client.explain(&waiting).unwrap();
    assert!(!why.to_string().is_empty());
    touch(&file);
    assert_eq!(waiting.result().unwrap(), 8);
}

pub fn futures_in_later_graphs(client: &Client) {
    let mut f = client.submit(&value(0)).unwrap();
    for _ in 0..100 {
        f = client.submit(&delayed(inc).call(&f)).unwrap();
    }
    assert_eq!(f.result().unwrap(), 100);
    let fs = client.map(inc, 0..10_i64).unwrap();
    let total = client.submit(&fs.iter().map(Future::delayed).sum::<Delayed<i64>>()).unwrap();
    drop(fs);
    assert_eq!(total.result().unwrap(), 55);
    assert_eq!(client.compute((&total, &(total.delayed() * 2))).unwrap(), (55, 110));
}

pub fn foreign_and_closed_clients(client: &Client) {
    let f = client.submit(&value(1_i64)).unwrap();
    let other = Client::sync();
    let error = (f.delayed() + 1).compute(&other).unwrap_err();
    assert!(matches!(error, Error::OtherClient { .. }), "{error}");
    let theirs = other.submit(&value(1_i64)).unwrap();
    let error = (theirs.delayed() + 1).compute(client).unwrap_err();
    assert!(matches!(error, Error::OtherClient { .. }), "{error}");
    client.shutdown();
    client.shutdown();
    let error = delayed(inc).call(1).compute(client).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    assert!(matches!(client.scatter(1).unwrap_err(), Error::Closed { .. }));
    assert!(client.to_string().contains("closed"), "{client}");
}

/// A client of the same mode.
fn another(client: &Client) -> Client {
    match client.mode() {
        Mode::Sync => Client::sync(),
        Mode::Threads => Client::threads(1),
        _ => processes(1, 1),
    }
}

pub fn what_another_client_does_with_a_future_is_done_at_its_own(client: &Client) {
    fn needs(file: String) -> Result<i64, String> {
        if std::path::Path::new(&file).exists() { Ok(3) } else { Err("no file yet".to_string()) }
    }
    let other = another(client);
    let dir = directory();
    let (gate_file, needed) = (path(&dir, "gate"), path(&dir, "needed"));
    // Both are the first of their clients.
    let theirs = if is_sync(client) { None } else { Some(other.submit(&delayed(gate).call(&*gate_file, 1)).unwrap()) };
    let failed = client.submit(&try_delayed(needs).call(&*needed)).unwrap();
    failed.result().unwrap_err();
    let [here, there] = [client, &other].map(|client| client.explain(&failed).unwrap());
    assert_eq!((here.task, here.state, here.why), (there.task, there.state, there.why));
    assert!(other.logs_of(&failed).is_ok());
    touch(&needed);
    other.retry(&failed).unwrap();
    assert_eq!(failed.result().unwrap(), 3);
    if let Some(theirs) = theirs {
        // Again the same numbers: the first of a third client, cancelled by one whose first is under way.
        let third = another(client);
        let ours = third.submit(&delayed(gate).call(&*gate_file, 2)).unwrap();
        other.cancel(&ours);
        assert_eq!(ours.status(), Status::Cancelled);
        touch(&gate_file);
        assert_eq!(theirs.result_timeout(LONG).unwrap(), 1);
        assert_eq!(third.compute(&delayed(inc).call(1)).unwrap(), 2);
    }
    let left = other.submit(&try_delayed(needs).call("no such file")).unwrap();
    left.result().unwrap_err();
    other.shutdown();
    let error = client.retry(&left).unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    assert_eq!(left.status(), Status::Failed);
}

pub fn describing(client: &Client) {
    let text = client.to_string();
    assert!(text.contains(client.mode().name()), "{text}");
    assert!(text.contains("running"), "{text}");
    assert!(format!("{client:?}").starts_with("Client("));
    let workers = client.workers().unwrap();
    assert!(!workers.is_empty());
    if client.mode() == Mode::Processes {
        assert!(text.contains("no memory limit"), "{text}");
    }
    assert!(client.deaths().unwrap().is_empty());
    client.logs().unwrap();
    client.wait_for_workers(1, LONG).unwrap();
    assert!(matches!(client.wait_for_workers(1000, LONG).unwrap_err(), Error::Invalid { .. }));
}

pub fn task_context(client: &Client) {
    fn about() -> (String, String, String) {
        let info = swath::task::current_task().unwrap();
        assert!(!swath::cancelled());
        swath::task::set_progress(0.5);
        assert!(swath::current_client().is_some());
        (info.key, info.name, info.worker)
    }
    assert!(swath::task::current_task().is_none() && swath::current_client().is_none() && !swath::cancelled());
    swath::task::set_progress(0.1);
    let named = delayed(about).name("who").call();
    let plain = delayed(about).call();
    let ((key, name, worker), (plain_key, plain_name, _)) = client.compute((&named, &plain)).unwrap();
    assert_eq!((key, name), (named.key(), "who".to_string()));
    assert_eq!((plain_key, plain_name), (plain.key(), "about".to_string()));
    let workers = client.workers().unwrap();
    assert!(workers.iter().any(|w| w.name == worker), "{worker} is none of {workers:?}");
    assert!(swath::task::current_task().is_none());
}

pub fn status_and_debug(client: &Client) {
    let x = delayed(inc).call(1);
    let f = client.submit(&x).unwrap();
    assert_eq!(f.key(), x.key());
    assert_eq!(f.delayed().key(), x.key());
    f.result().unwrap();
    assert_eq!((f.status(), f.is_done()), (Status::Finished, true));
    assert_eq!(format!("{f:?}"), format!("Future({}, Finished)", x.key()));
    assert_eq!(format!("{x:?}"), format!("Delayed({})", x.key()));
}

pub fn a_mix_of_ready_and_failed(client: &Client) {
    let good = client.submit(&value(1)).unwrap();
    let bad = client.submit(&delayed(|x: i64| 1 / x).call(0)).unwrap();
    client.wait_timeout(&[good.clone(), bad.clone()], WaitFor::All, LONG).unwrap();
    let error = delayed(add).call(&good, &bad).compute(client).unwrap_err();
    let task = error.task().unwrap();
    assert_eq!(task.key(), bad.key());
    assert!(matches!(task.cause(), Cause::Panic { .. }), "{error}");
    assert_eq!(delayed(add).call(&good, &good).compute(client).unwrap(), 2);
    let persisted = (bad.delayed() + 1).persist(client).unwrap();
    assert_eq!((persisted + 1).compute(client).unwrap_err().task().unwrap().key(), bad.key());
}

/// A graph that is nothing but a result that is on its way keeps that no longer than somebody waits for it.
pub fn what_is_given_up_lets_go_of_earlier_results(client: &Client) {
    if client.mode() == Mode::Sync {
        return;
    }
    fn until_cancelled(file: String) -> bool {
        note(&file, "runs");
        let told = comes_true(LONG, swath::cancelled);
        note(&file, told);
        told
    }
    let dir = directory();
    type GiveUp = fn(&Client, &Delayed<bool>) -> Result<()>;
    let given_up: [(&str, GiveUp); 3] = [
        ("alone", |client, kept| client.compute_timeout(kept, Duration::from_millis(20)).map(drop)),
        ("twice", |client, kept| client.compute_timeout((kept, kept), Duration::from_millis(20)).map(drop)),
        ("used", |client, kept| {
            let used = kept.map(|told: bool| !told);
            client.compute_timeout(&used, Duration::from_millis(20)).map(drop)
        }),
    ];
    for (name, give_up) in given_up {
        let file = path(&dir, name);
        let kept = client.persist(&delayed(until_cancelled).call(&*file)).unwrap();
        until("it runs", || !notes(&file).is_empty());
        assert!(matches!(give_up(client, &kept), Err(Error::Timeout { .. })), "{name}");
        drop(kept);
        until("it is told that nobody wants it", || notes(&file).len() > 1);
        assert_eq!(notes(&file), ["runs", "true"], "{name}");
    }
}
