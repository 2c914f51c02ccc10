//! Users' code that runs inside of the client and asks the client again: drops, `Serialize`, wakers. No lock of the client may
//! be held around it: what asks would wait for itself.

use crate::common::{LONG, directory, is_sync, path, touch, wait_for_file};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::future::Future as _;
use std::io::Write;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use swath::client::Status;
use swath::delayed::value;
use swath::status::Mode;
use swath::{Client, Error, Future, delayed, try_delayed};

/// What is done where a value is dropped or encoded in this process. One case runs at a time.
static ASK: Mutex<Option<Arc<dyn Fn() + Send + Sync>>> = Mutex::new(None);
static ASKED: AtomicUsize = AtomicUsize::new(0);
/// What was wrong there; a panic would end a thread of the client's.
static WRONG: Mutex<Option<String>> = Mutex::new(None);

fn ask() {
    let ask = ASK.lock().clone();
    if let Some(ask) = ask {
        ASKED.fetch_add(1, Ordering::SeqCst);
        ask();
    }
}

/// Runs `case` while users' code asks; ends the program if it hangs, as nothing else can.
fn asking(what: impl Fn() + Send + Sync + 'static, case: impl FnOnce()) -> usize {
    struct Asking;
    impl Drop for Asking {
        fn drop(&mut self) {
            let before = ASK.lock().take();
            drop(before);
        }
    }
    ASKED.store(0, Ordering::SeqCst);
    *ASK.lock() = Some(Arc::new(what));
    let asking = Asking;
    let (over, is_over) = channel::<()>();
    let watch = std::thread::spawn(move || {
        if is_over.recv_timeout(LONG).is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = std::io::stderr().write_all(b"users' code that asks the client waits for itself\n");
            std::process::abort();
        }
    });
    case();
    drop(over);
    watch.join().unwrap();
    drop(asking);
    assert_eq!(WRONG.lock().take(), None);
    ASKED.swap(0, Ordering::SeqCst)
}

/// Asks for what may have to be waited for: it comes, or it is said that nothing can be waited for there.
fn ask_for_results(client: &Client) {
    match client.compute(&value(1)) {
        Ok(1) => {}
        Err(Error::Unsupported { .. }) if client.mode() == Mode::Processes => {}
        other => drop(WRONG.lock().replace(format!("{other:?}"))),
    }
    match client.submit(&value(2)).map(|future| future.result()) {
        Ok(Ok(2) | Err(Error::Unsupported { .. })) => {}
        other => drop(WRONG.lock().replace(format!("{other:?}"))),
    }
    if client.workers().is_err_and(|e| !matches!(e, Error::Unsupported { .. })) {
        WRONG.lock().replace("no workers".to_string());
    }
}

/// Asks when it is dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct AsksAtDrop(i64);

impl Drop for AsksAtDrop {
    fn drop(&mut self) {
        ask();
    }
}

impl std::error::Error for AsksAtDrop {}

impl fmt::Display for AsksAtDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed", self.0)
    }
}

/// Asks when it is encoded.
#[derive(Clone, Debug, PartialEq)]
struct AsksAtSerialize(i64);

impl Serialize for AsksAtSerialize {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        ask();
        to.serialize_i64(self.0)
    }
}

impl<'de> Deserialize<'de> for AsksAtSerialize {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        ask();
        i64::deserialize(from).map(Self)
    }
}

/// A future that others look at while its state changes.
fn watched(client: &Client, file: &str) -> Future<i64> {
    let waits = delayed(|x: AsksAtDrop, file: String, sync: bool| {
        if !sync {
            wait_for_file(&file);
        }
        x.0
    });
    client.submit(&waits.call(AsksAtDrop(7), file, is_sync(client))).unwrap()
}

pub fn drops_of_arguments(client: &Client) {
    let dir = directory();
    let file = path(&dir, "go");
    let future = watched(client, &file);
    let (client, about) = (client.clone(), future.clone());
    asking(
        move || {
            about.is_done();
            about.status();
            let _ = client.progress();
            ask_for_results(&client);
        },
        || {
            // With the result go the graph that made it, and its values.
            touch(&file);
            assert_eq!(future.result().unwrap(), 7);
        },
    );
}

pub fn drops_of_failures(client: &Client) {
    let fails = try_delayed(|x: i64| -> Result<i64, AsksAtDrop> { Err(AsksAtDrop(x)) }).keep_error();
    let future = client.submit(&fails.call(3)).unwrap();
    assert!(future.result().unwrap_err().to_string().ends_with("3 failed"));
    let (client, about) = (client.clone(), future.clone());
    asking(
        {
            let client = client.clone();
            move || {
                about.is_done();
                ask_for_results(&client);
            }
        },
        || {
            // The old failure goes, and a new one comes.
            client.retry(&future).unwrap();
            assert!(future.result().unwrap_err().to_string().ends_with("3 failed"));
            drop(future);
        },
    );
}

pub fn drops_of_results(client: &Client) {
    let make = |x: i64| AsksAtDrop(x);
    let again = client.clone();
    let ask = move || ask_for_results(&again);
    asking(ask, || {
        let futures = client.map(make, 0..50_i64).unwrap();
        let sum = delayed(|xs: Vec<AsksAtDrop>| xs.iter().map(|x| x.0).sum::<i64>());
        assert_eq!(sum.call(&futures).compute(client).unwrap(), 1225);
        assert_eq!(client.gather(&futures).unwrap().len(), 50);
        drop(futures);
        let pure = delayed(make).pure();
        for x in 0..200 {
            // Each is known while it is held, and forgotten afterwards.
            drop(client.submit(&pure.call(x)).unwrap());
            assert_eq!(client.compute(&pure.call(x)).unwrap().0, x);
        }
        drop(client.scatter(AsksAtDrop(1)).unwrap());
    });
}

pub fn encoding_values(client: &Client) {
    let read = |x: AsksAtSerialize| x.0;
    let kept = client.submit(&delayed(|x: i64| x).call(4)).unwrap();
    let again = client.clone();
    let ask = move || {
        assert_eq!(kept.result().unwrap(), 4);
        assert_eq!(again.compute(&delayed(|x: i64| x).pure().call(1)).unwrap(), 1);
    };
    asking(ask, || {
        assert_eq!(delayed(read).call(AsksAtSerialize(1)).compute(client).unwrap(), 1);
        assert_eq!(delayed(read).pure().call(AsksAtSerialize(2)).compute(client).unwrap(), 2);
        let many = client.map(read, (0..600).map(AsksAtSerialize)).unwrap();
        assert_eq!(client.gather(&many).unwrap(), (0..600).collect::<Vec<_>>());
        let there = client.scatter(AsksAtSerialize(3)).unwrap();
        assert_eq!(delayed(read).call(&there).compute(client).unwrap(), 3);
        assert_eq!(delayed(AsksAtSerialize).call(5).compute(client).unwrap(), AsksAtSerialize(5));
    });
}

/// A waker that asks whenever it is cloned or dropped, as those of some runtimes take locks of theirs.
fn asking_waker(inner: Waker) -> Waker {
    const VTABLE: RawWakerVTable = RawWakerVTable::new(
        |inner| {
            ask();
            // SAFETY: the pointer is that of a box of this type, which lives as long as the waker.
            let inner = unsafe { &*inner.cast::<Waker>() };
            RawWaker::new(Box::into_raw(Box::new(inner.clone())).cast_const().cast(), &VTABLE)
        },
        // SAFETY: whoever wakes or drops gives the box away.
        |inner| unsafe { Box::from_raw(inner.cast_mut().cast::<Waker>()) }.wake(),
        // SAFETY: as in clone.
        |inner| unsafe { &*inner.cast::<Waker>() }.wake_by_ref(),
        |inner| {
            ask();
            // SAFETY: whoever wakes or drops gives the box away.
            drop(unsafe { Box::from_raw(inner.cast_mut().cast::<Waker>()) });
        },
    );
    let inner = Box::into_raw(Box::new(inner)).cast_const().cast();
    // SAFETY: the table's functions treat the pointer as what it is, and wakers may cross threads.
    unsafe { Waker::from_raw(RawWaker::new(inner, &VTABLE)) }
}

/// Wakes a thread.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future with wakers that ask, a new one each time.
fn drive<T>(future: impl std::future::Future<Output = T>) -> T {
    let mut future = pin!(future);
    let unpark = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        let waker = asking_waker(unpark.clone());
        let mut poll = |waker: &Waker| future.as_mut().poll(&mut Context::from_waker(waker));
        // Twice with the same: it is known already the second time.
        for _ in 0..2 {
            if let Poll::Ready(value) = poll(&waker) {
                return value;
            }
        }
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
}

pub fn wakers(client: &Client) {
    let dir = directory();
    let sync = is_sync(client);
    let slow =
        |file: &str| delayed(|file: String, sync: bool| sync || wait_for_file(&file)).call(path(&dir, file), sync);
    let futures: Vec<_> = ["a", "b", "c"].iter().map(|file| client.submit(&slow(file)).unwrap()).collect();
    let (again, about) = (client.clone(), futures.clone());
    let ask = move || {
        assert!(about.iter().all(|future| !future.key().is_empty() && future.status() != Status::Failed));
        let _ = again.progress();
        // This is told to whoever waits for any of them.
        again.cancel(&about[2]);
    };
    let asked = asking(ask, || {
        let open = |file: &str| {
            let file = path(&dir, file);
            std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(20));
                touch(&file);
            })
        };
        let opened = open("a");
        assert!(drive(async { (&futures[0]).await }).unwrap());
        opened.join().unwrap();
        let opened = open("b");
        drive(client.wait_async(&futures, swath::client::WaitFor::All)).unwrap();
        opened.join().unwrap();
        let mut completed = client.as_completed(futures.clone());
        while drive(completed.next_async()).is_some() {}
        let opened = open("d");
        assert!(drive(client.compute_async(&slow("d"))).unwrap());
        opened.join().unwrap();
        assert!(!drive(client.workers_async()).unwrap().is_empty());
        assert_eq!(drive(client.submit_async(&value(1))).map(|future| future.result().unwrap()).unwrap(), 1);
    });
    assert!(asked > 0);
}

/// A waker whose last clone is that in the client cancels what it waits for, when another takes its place.
pub fn a_waker_that_is_replaced(client: &Client) {
    struct Cancels(Client, Future<bool>);
    impl Wake for Cancels {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Cancels {
        fn drop(&mut self) {
            self.0.cancel(&self.1);
        }
    }
    if is_sync(client) {
        return;
    }
    let dir = directory();
    let future = client.submit(&delayed(|file: String| wait_for_file(&file)).call(path(&dir, "never"))).unwrap();
    asking(
        || (),
        || {
            let mut completed = client.as_completed(vec![future.clone()]);
            {
                let waker = Waker::from(Arc::new(Cancels(client.clone(), future.clone())));
                let mut next = pin!(completed.next_async());
                assert!(Pin::as_mut(&mut next).poll(&mut Context::from_waker(&waker)).is_pending());
            }
            let done = crate::common::block_on(completed.next_async()).unwrap();
            assert!(done.result().unwrap_err().is_cancelled());
        },
    );
}
