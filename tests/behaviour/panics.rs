//! Users' code that panics where the runtime calls it: drops of panics' payloads and of values, wakers. Whoever that thread
//! works for besides suffers nothing.

use crate::common::{LONG, block_on, is_sync, until};
use serde::{Deserialize, Serialize};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;
use swath::delayed::value;
use swath::error::Cause;
use swath::{Client, Future, delayed};

fn inc(x: u64) -> u64 {
    x + 1
}

/// All threads and links of the client work.
fn is_well(client: &Client) {
    for x in 0..8 {
        assert_eq!(client.compute_timeout(&delayed(inc).call(x), LONG).unwrap(), x + 1);
    }
}

struct Payload;

impl Drop for Payload {
    fn drop(&mut self) {
        panic!("the payload was dropped")
    }
}

pub fn payloads_that_panic_when_they_are_dropped(client: &Client) {
    let task = delayed(|_: u64| -> u64 { std::panic::panic_any(Payload) });
    for _ in 0..3 {
        let error = client.compute_timeout(&task.call(1), LONG).unwrap_err();
        let Cause::Panic { message, location, .. } = error.task().unwrap().cause() else { panic!("{error}") };
        assert!(message.contains("not text") && location.contains("panics.rs"), "{error}");
        is_well(client);
    }
    let resumed = delayed(|_: u64| -> u64 { std::panic::resume_unwind(Box::new("resumed")) });
    let error = client.compute_timeout(&resumed.call(1), LONG).unwrap_err().to_string();
    assert!(error.contains("panicked at a place that is not known: resumed"), "{error}");
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Breaks(u64);

impl Drop for Breaks {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("a value was dropped")
        }
    }
}

impl Breaks {
    /// What a test has is no business of the runtime's.
    fn look(self) -> u64 {
        let number = self.0;
        std::mem::forget(self);
        number
    }
}

pub fn values_that_panic_when_they_are_dropped(client: &Client) {
    // As arguments: owned, shared, of a map.
    assert_eq!(client.compute_timeout(&delayed(Breaks::look).call(Breaks(1)), LONG).unwrap(), 1);
    let shared = delayed(|b: Arc<Breaks>| {
        let number = b.0;
        std::mem::forget(b);
        number
    });
    assert_eq!(client.compute_timeout(&shared.call(Arc::new(Breaks(2))), LONG).unwrap(), 2);
    let mapped = client.map(Breaks::look, (0..20).map(Breaks)).unwrap();
    assert_eq!(client.gather(&mapped).unwrap().into_iter().sum::<u64>(), 190);
    drop(mapped);
    is_well(client);
    // As given values.
    let given = client.scatter(Breaks(3)).unwrap();
    assert_eq!(client.compute_timeout(&delayed(Breaks::look).call(&given), LONG).unwrap(), 3);
    assert_eq!(given.result().unwrap().look(), 3);
    drop(given);
    is_well(client);
    // As results: of this client, held and let go, of use to others, of nobody's.
    let make = delayed(|x: u64| Breaks(inc(x)));
    assert_eq!(client.compute_timeout(&make.call(3), LONG).unwrap().look(), 4);
    let held = client.submit(&make.call(4)).unwrap();
    assert_eq!(client.compute_timeout(&delayed(Breaks::look).call(&held), LONG).unwrap(), 5);
    let many: Vec<Future<Breaks>> = (0..10).map(|x| client.submit(&make.call(x)).unwrap()).collect();
    until("they are done", || many.iter().all(Future::is_done));
    drop((held, many));
    is_well(client);
    // Where a task that has one fails, the failure is its own.
    let fails = delayed(|x: u64| -> Breaks { panic!("{x} is wrong") });
    let error = client.compute_timeout(&fails.call(5), LONG).unwrap_err().to_string();
    assert!(error.contains("5 is wrong"), "{error}");
    is_well(client);
}

/// Panics when it is to wake, and when it goes.
struct BadWaker;

impl Wake for BadWaker {
    fn wake(self: Arc<Self>) {
        std::mem::forget(self);
        panic!("a waker is called")
    }
}

impl Drop for BadWaker {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("a waker is dropped")
        }
    }
}

pub fn wakers_that_panic(client: &Client) {
    let slow = delayed(|x: u64| {
        std::thread::sleep(Duration::from_millis(50));
        x
    });
    for _ in 0..3 {
        let waker = std::mem::ManuallyDrop::new(Waker::from(Arc::new(BadWaker)));
        let mut context = Context::from_waker(&waker);
        let future = client.submit(&slow.call(1)).unwrap();
        let mut waits = pin!(std::future::IntoFuture::into_future(future.clone()));
        let (second, third) = (slow.call(2), value(3_u64));
        let mut all = pin!(client.compute_async((&second, &third)));
        let are_waited_for = !is_sync(client);
        assert_eq!(are_waited_for, std::future::Future::poll(waits.as_mut(), &mut context).is_pending());
        assert_eq!(are_waited_for, std::future::Future::poll(all.as_mut(), &mut context).is_pending());
        assert_eq!(future.result_timeout(LONG).unwrap(), 1);
        is_well(client);
        if are_waited_for {
            assert_eq!(block_on(all).unwrap(), (2, 3));
            assert_eq!(block_on(waits).unwrap(), 1);
        }
    }
}
