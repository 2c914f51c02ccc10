//! Chains of futures, each of which is described with the one before.

use crate::common::{LONG, comes_true, directory, is_sync, path, touch};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use swath::client::WaitFor;
use swath::status::Mode;
use swath::{Client, Delayed, Future, delayed, try_delayed};

/// What a thread's stack holds while it drops a chain. It is not enough for one call in another for each future.
const STACK: usize = 256 << 10;

fn inc(x: i64) -> i64 {
    x + 1
}

fn fails(_: i64) -> Result<i64, String> {
    Err("no".to_string())
}

/// Waits for a file, or until it is cancelled: longer than the longest chain takes to be described.
fn waits(file: String) -> i64 {
    let there = || Path::new(&file).exists();
    i64::from(comes_true(Duration::from_secs(3600), || there() || swath::cancelled()) && there())
}

/// So many futures, each with the one before as its argument; the last one.
fn chain(client: &Client, first: &Future<i64>, n: usize) -> Future<i64> {
    (0..n).fold(first.clone(), |last, _| client.submit(&delayed(inc).call(&last)).unwrap())
}

/// Drops the last handle of a chain in a thread with a small stack.
fn dropped(last: Future<i64>) {
    let thread = std::thread::Builder::new().stack_size(STACK);
    thread.spawn(move || drop(last)).unwrap().join().unwrap();
}

/// Chains that fail, that are pending, that are cancelled, and that succeed.
fn of(client: &Client, n: usize) {
    let failed = client.submit(&try_delayed(fails).call(1)).unwrap();
    let last = chain(client, &failed, n);
    let error = last.result().unwrap_err();
    assert_eq!(error.task().unwrap().key(), failed.key());
    drop(failed);
    dropped(last);
    let last = chain(client, &client.submit(&delayed(inc).call(0)).unwrap(), n);
    assert_eq!(last.result().unwrap(), n as i64 + 1);
    dropped(last);
    if is_sync(client) {
        return;
    }
    let dir = directory();
    let file = path(&dir, "go");
    let first = client.submit(&delayed(waits).call(&*file)).unwrap();
    dropped(chain(client, &first, n));
    let last = chain(client, &first, n);
    client.cancel(&first);
    assert!(last.result().unwrap_err().is_cancelled());
    dropped(last);
    drop(first);
    touch(&file);
    assert_eq!(delayed(inc).call(1).compute(client).unwrap(), 2);
}

pub fn long_chains_of_futures(client: &Client) {
    of(client, 5_000);
}

/// Results that are persisted again and again.
pub fn long_chains_of_persisted_results(client: &Client) {
    let first = client.persist(&delayed(inc).call(1)).unwrap();
    let last: Delayed<i64> = (0..3_000).fold(first, |last, _| client.persist(&last).unwrap());
    assert_eq!(client.compute(&last).unwrap(), 2);
    let thread = std::thread::Builder::new().stack_size(STACK);
    thread.spawn(move || drop(last)).unwrap().join().unwrap();
}

/// A value of which it can be told how many copies there are in this process.
#[derive(Clone)]
struct Watched(#[expect(dead_code, reason = "its count is looked at elsewhere")] Arc<()>);

impl Serialize for Watched {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_unit()
    }
}

impl<'a> Deserialize<'a> for Watched {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        <()>::deserialize(from)?;
        Ok(Self(Arc::new(())))
    }
}

fn accepts(_: Watched, x: i64) -> i64 {
    x
}

fn refuses(_: Watched, x: i64) -> Result<i64, String> {
    Err(format!("not {x}"))
}

fn waits_with(_: Watched, file: String) -> i64 {
    waits(file)
}

fn one(_: Watched) -> i64 {
    1
}

/// The arguments of what was submitted are let go once it has been sent, or has run.
pub fn arguments_are_let_go(client: &Client) {
    let token = Arc::new(());
    let watched = || Watched(Arc::clone(&token));
    let none_left = || comes_true(LONG, || Arc::strong_count(&token) == 1);
    let finished = client.submit(&delayed(accepts).call(watched(), 3_i64)).unwrap();
    assert_eq!(finished.result().unwrap(), 3);
    assert!(none_left(), "finished");
    let failed = client.submit(&try_delayed(refuses).call(watched(), 4_i64)).unwrap();
    let refusal = || failed.result().unwrap_err().task().unwrap().downcast::<String>().unwrap();
    assert_eq!(refusal(), "not 4");
    if client.mode() != Mode::Processes {
        // It is run again from here, as long as somebody can ask for that.
        client.retry(&failed).unwrap();
        assert_eq!(refusal(), "not 4");
        drop(failed);
        assert!(none_left(), "failed, and released");
    } else {
        assert!(none_left(), "failed");
        client.retry(&failed).unwrap();
        client.wait(&[failed], WaitFor::All).unwrap();
    }
    let ones = client.map(one, (0..1000).map(|_| watched()).collect::<Vec<_>>()).unwrap();
    assert_eq!(client.gather(&ones).unwrap(), [1; 1000]);
    assert!(none_left(), "a map");
    if client.mode() == Mode::Processes {
        let dir = directory();
        let file = path(&dir, "go");
        let pending = client.submit(&delayed(waits_with).call(watched(), &*file)).unwrap();
        assert!(none_left(), "sent");
        assert!(!pending.is_done());
        touch(&file);
        assert_eq!(pending.result().unwrap(), 1);
    }
}

/// What failed is called by its name, though nobody holds it any more.
pub fn failures_are_named_when_they_are_gone(client: &Client) {
    let last_of = |first: &Future<i64>| {
        let second = client.submit(&delayed(inc).call(first)).unwrap();
        client.submit(&delayed(inc).name("third").call(&second)).unwrap()
    };
    let first = client.submit(&try_delayed(fails).call(1)).unwrap();
    let key = first.key();
    let last = last_of(&first);
    drop(first);
    let error = last.result().unwrap_err();
    let task = error.task().unwrap();
    assert_eq!((task.key(), task.name(), task.needed_by()), (&*key, "fails", Some(&*last.key())));
    if is_sync(client) {
        return;
    }
    for name in [None, Some("pause")] {
        let dir = directory();
        let wait = name.map_or(delayed(waits), |name| delayed(waits).name(name));
        let first = client.submit(&wait.call(path(&dir, "go"))).unwrap();
        let key = first.key();
        let last = last_of(&first);
        client.cancel(&first);
        drop(first);
        let error = last.result().unwrap_err();
        let task = error.task().unwrap();
        assert!(error.is_cancelled(), "{error}");
        assert_eq!((task.key(), task.name(), task.needed_by()), (&*key, name.unwrap_or("waits"), Some(&*last.key())));
    }
}

/// A result that is there is as good for a file as the call that gave it.
pub fn finished_results_are_kept_in_files(client: &Client) {
    let dir = directory();
    let first = client.persist(&delayed(inc).pure().call(1)).unwrap();
    assert_eq!(client.compute(&first).unwrap(), 2);
    let second = delayed(inc).pure().call(&first);
    let kept = client.persist_to(dir.path(), &[first, second]).unwrap();
    assert_eq!(client.compute(&kept).unwrap(), [2, 3]);
    let other = client.persist(&delayed(inc).call(1)).unwrap();
    let error = client.persist_to(dir.path(), &[delayed(inc).pure().call(&other)]).unwrap_err();
    assert!(error.to_string().contains(&client.submit(&other).unwrap().key()), "{error}");
}

/// Takes minutes.
pub fn chains_of_a_million_futures(client: &Client) {
    of(client, 1_000_000);
}
