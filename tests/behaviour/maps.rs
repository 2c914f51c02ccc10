//! Maps of many items: their tasks are sent while the caller goes on, and yet each future is by itself.

use crate::common::{block_on, directory, is_sync, path, touch, wait_for_file};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use swath::client::{Status, WaitFor};
use swath::delayed::value;
use swath::error::Cause;
use swath::status::Mode;
use swath::{Client, Error, Future, delayed};

/// More than are sent at once.
const MANY: u64 = 20_000;

fn inc(x: u64) -> u64 {
    x + 1
}

/// Waits for a file, so that a test decides when it ends.
fn gate((file, x): (String, u64)) -> u64 {
    if wait_for_file(&file) { x } else { u64::MAX }
}

pub fn of_many_items(client: &Client) {
    let futures = client.map(inc, 0..MANY).unwrap();
    let keys: HashSet<String> = futures.iter().map(Future::key).collect();
    assert_eq!(keys.len() as u64, MANY);
    assert!(keys.iter().all(|key| key.starts_with("inc-")));
    // The last first: it may not have been sent yet.
    assert_eq!(futures[MANY as usize - 1].result().unwrap(), MANY);
    assert!(client.gather(&futures).unwrap().into_iter().eq(1..=MANY));
    assert!(futures.iter().all(|f| f.status() == Status::Finished));
    client.wait(&futures, WaitFor::All).unwrap();
    let counts = client.progress().counts;
    assert_eq!((counts.done(), counts.failed, counts.total()), (MANY, 0, MANY));
    // Each result stays as long as it has a handle, however many others go.
    let kept: Vec<_> = futures.iter().step_by(700).cloned().collect();
    drop(futures);
    assert!(client.gather(&kept).unwrap().into_iter().eq((1..=MANY).step_by(700)));
}

pub fn as_they_are_done(client: &Client) {
    let futures = client.map(inc, 0..MANY).unwrap();
    // Some of them, in another order, one twice; and others beside them.
    let mut some: Vec<_> = futures.iter().rev().step_by(3).cloned().collect();
    some.push(futures[0].clone());
    some.push(client.submit(&delayed(inc).call(MANY)).unwrap());
    let mut wanted: Vec<u64> = some.iter().map(|f| f.result().unwrap()).collect();
    let mut seen: Vec<u64> = client.as_completed(some).map(|f| f.result().unwrap()).collect();
    wanted.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, wanted);
    let all = client.map(inc, 0..MANY).unwrap();
    client.wait(&all[..10], WaitFor::Any).unwrap();
    let mut seen: Vec<u64> = client.as_completed(all).map(|f| f.result().unwrap()).collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(1..=MANY));
}

pub fn values_of_all_lengths(client: &Client) {
    // Some lie in the task's body, some beside it, some in shared memory.
    let length = |i: usize| [3, 100, 127, 128, 5_000, 100_000][i % 6];
    let texts = (0..1_500).map(|i| "x".repeat(length(i) + i / 6));
    let lengths = client.gather(&client.map(|s: String| s.len(), texts).unwrap()).unwrap();
    assert!(lengths.into_iter().eq((0..1_500).map(|i| length(i) + i / 6)));
    // Text is taken as it is, and lazy values make the others lazy.
    let words = vec!["a"; 300];
    assert_eq!(client.gather(&client.map(|s: String| s.len(), words).unwrap()).unwrap(), vec![1; 300]);
    let mixed: Vec<_> = (0..300).map(value).collect();
    assert!(client.gather(&client.map(inc, mixed).unwrap()).unwrap().into_iter().eq(1..=300));
    assert!(client.map(inc, Vec::<u64>::new()).unwrap().is_empty());
}

pub fn used_by_others_at_once(client: &Client) {
    let futures = client.map(inc, 0..MANY).unwrap();
    let last = &futures[MANY as usize - 1];
    let sum = delayed(|xs: Vec<u64>| xs.into_iter().sum::<u64>());
    let twice = client.submit(&sum.call(vec![last.clone(), last.clone(), futures[0].clone()])).unwrap();
    assert_eq!(twice.result().unwrap(), 2 * MANY + 1);
    let every = sum.call(&futures);
    drop(futures);
    assert_eq!(client.compute(&every).unwrap(), MANY * (MANY + 1) / 2);
}

pub fn dropped_and_cancelled(client: &Client) {
    let dir = directory();
    let file = path(&dir, "gate");
    if is_sync(client) {
        touch(&file);
    }
    let items = || (0..MANY).map(|x| (file.clone(), x));
    let mut futures = client.map(gate, items()).unwrap();
    let (last, next) = (futures.pop().unwrap(), futures.pop().unwrap());
    client.cancel(&next);
    // Nobody wants the others, so they do not run: with them this would take too long.
    drop(futures);
    if is_sync(client) {
        assert_eq!((next.result().unwrap(), last.result().unwrap()), (MANY - 2, MANY - 1));
        return;
    }
    assert!(next.result().unwrap_err().is_cancelled());
    assert_eq!((next.status(), last.status()), (Status::Cancelled, Status::Pending));
    touch(&file);
    assert_eq!(last.result().unwrap(), MANY - 1);
    let error = (next.delayed() + 1).compute(client).unwrap_err();
    assert!(error.is_cancelled() && error.task().unwrap().key() == next.key(), "{error}");
    client.retry(&next).unwrap();
    assert_eq!(next.result().unwrap(), MANY - 2);
    assert_eq!(client.compute(&delayed(inc).call(1)).unwrap(), 2);
}

#[derive(Clone, Debug, PartialEq)]
struct Picky(u64);

impl Serialize for Picky {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            1_500 => Err(serde::ser::Error::custom("too round")),
            1_666 => panic!("too bad"),
            x => x.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self)
    }
}

pub fn some_that_cannot_be_sent(client: &Client) {
    let read = |x: Picky| x.0;
    let futures = client.map(read, (0..3_000).map(Picky)).unwrap();
    for (i, future) in (0..).zip(&futures) {
        match future.result() {
            Ok(x) => assert_eq!(x, i),
            Err(error) => {
                assert!(client.mode() == Mode::Processes && (i == 1_500 || i == 1_666), "{i}: {error}");
                let Cause::Encode { type_name, reason } = error.task().unwrap().cause() else { panic!("{error}") };
                assert!(type_name.ends_with("Picky"));
                assert!(reason.contains(if i == 1_500 { "too round" } else { "too bad" }), "{reason}");
                assert_eq!(error.task().unwrap().key(), future.key());
                // It is no better the second time.
                if i == 1_500 {
                    assert!(matches!(client.retry(future).unwrap_err(), Error::Encode { .. }));
                }
            }
        }
    }
    // What is sent by the caller itself is an error of the call.
    let round = client.map(read, [Picky(1_500)]);
    match client.mode() {
        Mode::Processes => assert!(matches!(round.unwrap_err(), Error::Encode { .. })),
        _ => assert_eq!(round.unwrap()[0].result().unwrap(), 1_500),
    }
}

pub fn retried_as_they_are_done(client: &Client) {
    /// Fails for every third as long as there is no file; the last waits for the other one.
    fn needs((file, x): (String, u64)) -> Result<u64, String> {
        match x {
            29 => wait_for_file(&format!("{file}-last")).then_some(x).ok_or_else(|| "nothing came".to_string()),
            _ if x % 3 == 0 && !std::path::Path::new(&file).exists() => Err("no file yet".to_string()),
            _ => Ok(x),
        }
    }
    let dir = directory();
    let file = path(&dir, "file");
    let last = format!("{file}-last");
    if is_sync(client) {
        touch(&last);
    }
    let futures = client.try_map(needs, (0..30).map(|x| (file.clone(), x))).unwrap();
    futures[..29].iter().for_each(|f| drop(f.result()));
    let (mut seen, mut again) = (Vec::new(), Vec::new());
    for future in client.as_completed(futures) {
        match future.result() {
            Ok(x) => seen.push(x),
            Err(_) => {
                touch(&file);
                client.retry(&future).unwrap();
                // Whether or not others wait behind the last one.
                touch(&last);
                again.push(future);
            }
        }
    }
    assert_eq!((seen.len(), again.len()), (20, 10));
    client.wait(&again, WaitFor::All).unwrap();
    seen.extend(again.iter().map(|f| f.result().unwrap()));
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..30));
}

pub fn cancelled_and_retried_at_once(client: &Client) {
    if is_sync(client) {
        return;
    }
    let dir = directory();
    let file = path(&dir, "gate");
    let gates: Vec<_> = client.map(gate, (0..8).map(|x| (file.clone(), x))).unwrap();
    let futures = client.map(inc, 0..MANY).unwrap();
    for future in [&futures[0], &futures[300], &futures[MANY as usize - 1]] {
        client.cancel(future);
        client.retry(future).unwrap();
    }
    touch(&file);
    assert_eq!(client.gather(&gates).unwrap(), (0..8).collect::<Vec<_>>());
    assert!(client.gather(&futures).unwrap().into_iter().eq(1..=MANY));
    // One that was never sent is an input like any other.
    let last = &futures[MANY as usize - 1];
    assert_eq!(delayed(inc).call(last).compute(client).unwrap(), MANY + 1);
}

/// Cannot be copied if it is 3.
#[derive(Debug, Serialize, Deserialize)]
struct Touchy(u64);

impl Clone for Touchy {
    fn clone(&self) -> Self {
        assert_ne!(self.0, 3, "not to be copied");
        Self(self.0)
    }
}

pub fn values_that_cannot_be_copied(client: &Client) {
    let futures = client.map(|x: Touchy| x.0, (0..100).map(Touchy)).unwrap();
    for (x, future) in (0..).zip(&futures) {
        match future.result() {
            Ok(y) => assert_eq!(y, x),
            // Where values need not be encoded, each call is given a copy.
            Err(e) => assert!(x == 3 && matches!(e.task().unwrap().cause(), Cause::Panic { .. }), "{e}"),
        }
    }
    client.cancel(&futures[3]);
    assert_eq!(delayed(inc).call(1).compute(client).unwrap(), 2);
}

pub fn ahead_in_order(client: &Client) {
    let squares = client.map_ahead(|x: u64| x * x, 0..500, 7).unwrap();
    let squares: Vec<u64> = squares.collect::<Result<_, _>>().unwrap();
    assert!(squares.into_iter().eq((0..500).map(|x| x * x)));
    // Failures stand in their places; delayed values are items as well.
    let items = [value(4_u64), value(0), delayed(|x: u64| x + 1).call(4)];
    let halves: Vec<_> = client.map_ahead(|x: u64| 20 / x, items, 2).unwrap().collect();
    assert!(matches!(halves[..], [Ok(5), Err(_), Ok(4)]), "{halves:?}");
    let parsed: Vec<_> = client.try_map_ahead(|s: String| s.parse::<u8>(), ["1", "x"], 9).unwrap().collect();
    assert!(parsed[0].as_ref().is_ok_and(|x| *x == 1) && parsed[1].is_err() && parsed.len() == 2);
    let asked = client.map_ahead(|x: u64| x, 0..3_u64, 0).map(drop).unwrap_err();
    assert!(asked.to_string().contains("at least one call"), "{asked}");
    let awaited = block_on(async {
        let (mut ahead, mut all) = (client.map_ahead(|x: u64| x + 1, 0..20_u64, 3).unwrap(), Vec::new());
        while let Some(next) = ahead.next_async().await {
            all.push(next.unwrap());
        }
        all
    });
    assert!(awaited.into_iter().eq(1..=20));
}

pub fn ahead_as_they_are_done(client: &Client) {
    let each = client.map_ahead(|x: u64| 100 / x, (0..50_u64).rev(), 5).unwrap().as_completed();
    let mut seen: Vec<_> = each.map(|(place, result)| (place, result.ok())).collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq((0..50).map(|place| (place as usize, 100_u64.checked_div(49 - place)))));
    let awaited = block_on(async {
        let (mut ahead, mut sum) = (client.map_ahead(|x: u64| x, 0..20_u64, 3).unwrap().as_completed(), 0);
        while let Some((place, next)) = ahead.next_async().await {
            assert_eq!(next.unwrap(), place as u64);
            sum += place;
        }
        sum
    });
    assert_eq!(awaited, 190);
    if client.mode() == Mode::Sync || client.workers().unwrap().iter().map(|w| w.threads).sum::<usize>() < 2 {
        return;
    }
    // A slow one holds up no others.
    let dir = directory();
    let wait = |(file, waits): (String, bool)| !waits || wait_for_file(&file);
    let file = path(&dir, "go");
    let items = [(file.clone(), true), (file.clone(), false)];
    let mut done = client.map_ahead(wait, items, 2).unwrap().as_completed();
    assert_eq!(done.next().unwrap().0, 1);
    touch(&file);
    assert_eq!(done.next().unwrap().0, 0);
    assert!(done.next().is_none());
}

pub fn ahead_of_endless_items(client: &Client) {
    let pulled = std::cell::Cell::new(0_u64);
    let items = std::iter::repeat_with(|| pulled.replace(pulled.get() + 1));
    let mut ahead = client.map_ahead(|x: u64| x + 1, items, 4).unwrap();
    for at in 1..=100 {
        assert_eq!(ahead.next().unwrap().unwrap(), at);
        assert!(pulled.get() <= at + 4, "{} items were read for {at} results", pulled.get());
    }
    drop(ahead);
    // The client is as free as before.
    assert_eq!(client.compute(&delayed(|x: u64| x + 1).call(1)).unwrap(), 2);
}
