//! Locks, semaphores, events, queues and variables by name.

use crate::common::{
    Clean, LONG, block_on, directory, is_sync, note, notes, path, processes, send_signal, touch, until, wait_for_file,
};
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use std::future::Future as _;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use swath::coordination::{Event, Lock, LockGuard, Queue, Semaphore, Variable};
use swath::error::{Cause, CoordinationError};
use swath::task::current_task;
use swath::{Buffer, Client, Delayed, Error, Result, current_client, delayed, try_delayed};

/// A wait that is not to bring anything.
const IN_VAIN: Duration = Duration::from_millis(20);

/// Adds one to the number in a variable, as nobody may who has no lock.
fn count_up(lock: Lock, count: Variable<u64>) -> Result<()> {
    let _guard = lock.acquire()?;
    let before = count.try_get()?.unwrap_or(0);
    std::thread::yield_now();
    count.set(before + 1)
}

pub fn a_lock_is_had_by_one_at_a_time(client: &Client) {
    let (lock, count) = (client.lock("count").unwrap(), client.variable::<u64>("count").unwrap());
    let calls: Vec<_> = (0..30).map(|_| try_delayed(count_up).call(lock.clone(), count.clone())).collect();
    let futures = client.submit_all(&calls).unwrap();
    // The program is one of those who want it.
    (0..10).for_each(|_| count_up(lock.clone(), count.clone()).unwrap());
    client.gather(&futures).unwrap();
    assert_eq!(count.get().unwrap(), 40);
    let guard = lock.acquire().unwrap();
    assert!(lock.try_acquire().unwrap().is_none());
    assert!(client.lock("other").unwrap().try_acquire().unwrap().is_some(), "another name is another lock");
    guard.release().unwrap();
    assert!(client.lock("count").unwrap().try_acquire().unwrap().is_some());
    assert_eq!((lock.name(), format!("{lock:?}")), ("count", "lock `count`".to_string()));
}

pub fn a_semaphore_is_had_by_so_many(client: &Client) {
    fn enter(semaphore: Semaphore, inside: Queue<u64>, n: u64) -> Result<usize> {
        let permit = semaphore.acquire()?;
        inside.put(n)?;
        let now = inside.len()?;
        inside.get()?;
        drop(permit);
        Ok(now)
    }
    let (semaphore, inside) = (client.semaphore("two", 2).unwrap(), client.queue("inside", 100).unwrap());
    let calls: Vec<_> = (0..30).map(|n| try_delayed(enter).call(semaphore.clone(), inside.clone(), n)).collect();
    let most = client.compute(&calls).unwrap().into_iter().max().unwrap();
    assert!((1..=2).contains(&most), "{most} were inside");
    let permits = [semaphore.acquire().unwrap(), semaphore.try_acquire().unwrap().unwrap()];
    assert!(semaphore.try_acquire().unwrap().is_none());
    drop(permits);
    assert!(semaphore.try_acquire().unwrap().is_some());
}

pub fn an_event_wakes_all(client: &Client) {
    let event = client.event("go").unwrap();
    assert!(!event.is_set().unwrap() && !event.try_wait().unwrap());
    let wait = |event: Event, n: u64| event.wait().map(|()| n);
    let calls: Vec<_> = (0..6).map(|n| try_delayed(wait).call(event.clone(), n)).collect();
    if is_sync(client) {
        event.set().unwrap();
    }
    let futures = client.submit_all(&calls).unwrap();
    event.set().unwrap();
    assert_eq!(client.gather(&futures).unwrap(), [0, 1, 2, 3, 4, 5]);
    assert!(event.is_set().unwrap());
    event.wait().unwrap();
    event.clear().unwrap();
    assert!(!event.is_set().unwrap());
    assert!(matches!(event.wait_timeout(IN_VAIN), Err(Error::Timeout { waited }) if waited == IN_VAIN));
}

pub fn a_queue_keeps_order_and_pushes_back(client: &Client) {
    fn produce(queue: Queue<u64>, n: u64) -> Result<()> {
        (0..n).try_for_each(|item| queue.put(item))
    }
    let queue = client.queue::<u64>("items", 3).unwrap();
    let n = if is_sync(client) { 3 } else { 40 };
    let future = client.submit(&try_delayed(produce).call(queue.clone(), n)).unwrap();
    let got: Vec<u64> = (0..n).map(|_| queue.get().unwrap()).collect();
    assert_eq!(got, (0..n).collect::<Vec<_>>());
    future.result().unwrap();
    assert_eq!(queue.try_get().unwrap(), None);
    (0..3).for_each(|item| assert!(queue.try_put(item).unwrap()));
    assert!(!queue.try_put(3).unwrap());
    assert!(matches!(queue.put_timeout(3, IN_VAIN), Err(Error::Timeout { .. })));
    assert_eq!((queue.len().unwrap(), queue.is_empty().unwrap()), (3, false));
    assert_eq!([queue.get_timeout(LONG).unwrap(), queue.get().unwrap(), queue.get().unwrap()], [0, 1, 2]);
    assert!(matches!(queue.get_timeout(IN_VAIN), Err(Error::Timeout { .. })));
    assert!(queue.is_empty().unwrap());
}

pub fn a_variable_has_one_value(client: &Client) {
    let best = client.variable::<String>("best").unwrap();
    assert_eq!(best.try_get().unwrap(), None);
    assert!(matches!(best.get_timeout(IN_VAIN), Err(Error::Timeout { .. })));
    let set = |to: Variable<String>, text: String| to.set(text);
    client.compute(&try_delayed(set).call(best.clone(), "first")).unwrap();
    assert_eq!(best.get().unwrap(), "first");
    client.compute(&try_delayed(set).call(best.clone(), "second")).unwrap();
    assert_eq!(client.variable::<String>("best").unwrap().get().unwrap(), "second");
    assert!(best.delete().unwrap() && !best.delete().unwrap());
    assert_eq!(best.try_get().unwrap(), None);
    let get = client.submit(&try_delayed(|v: Variable<String>| v.get_timeout(LONG)).call(best.clone()));
    if !is_sync(client) {
        best.set("third".to_string()).unwrap();
        assert_eq!(get.unwrap().result().unwrap(), "third");
    }
}

pub fn large_values_and_values_with_handles(client: &Client) {
    let queue = client.queue::<Buffer<f64>>("arrays", 4).unwrap();
    let put = |queue: Queue<Buffer<f64>>, n: usize| queue.put(Buffer::from(vec![n as f64; 100_000]));
    let calls: Vec<_> = (1..4_usize).map(|n| try_delayed(put).call(queue.clone(), n)).collect();
    client.compute(&calls).unwrap();
    let add = |queue: Queue<Buffer<f64>>| queue.get().map(|array| array.iter().sum::<f64>());
    let here: f64 = queue.get().unwrap().iter().sum();
    let there = client.compute(&[try_delayed(add).call(queue.clone()), try_delayed(add).call(queue.clone())]).unwrap();
    assert_eq!(here + there.iter().sum::<f64>(), 600_000.0);
    // A variable with the handle of a queue in which a list is.
    let words = client.queue::<Vec<String>>("words", 1).unwrap();
    let told = client.variable::<(u8, Queue<Vec<String>>)>("told").unwrap();
    told.set((7, words.clone())).unwrap();
    let say = |told: Variable<(u8, Queue<Vec<String>>)>| {
        let (n, words) = told.get()?;
        words.put(vec!["word".to_string(); n.into()])
    };
    client.compute(&try_delayed(say).call(told)).unwrap();
    assert_eq!(words.get().unwrap().len(), 7);
}

pub fn tasks_find_them_by_name(client: &Client) {
    fn find(n: u64) -> Result<()> {
        let client = current_client().expect("in a task");
        let _guard = client.lock("lock")?.acquire()?;
        client.queue("numbers", 50)?.put(n)?;
        // In a task of a task, too.
        match n {
            0..10 => Ok(()),
            n => client.compute(
                &try_delayed(|n: u64| current_client().expect("in a task").queue("numbers", 50)?.put(n)).call(n - 10),
            ),
        }
    }
    client.compute(&try_delayed(find).map(0..20_u64)).unwrap();
    let queue = client.queue::<u64>("numbers", 50).unwrap();
    let mut all: Vec<u64> = (0..30).map(|_| queue.get().unwrap()).collect();
    all.sort_unstable();
    let mut wanted: Vec<u64> = (0..20).chain(0..10).collect();
    wanted.sort_unstable();
    assert_eq!(all, wanted);
}

fn invalid<T>(made: Result<T>, words: &str) {
    match made.map(|_| ()) {
        Err(error @ Error::Invalid { .. }) => assert_eq!(error.to_string(), format!("bad value for {words}")),
        other => panic!("{other:?} instead of {words}"),
    }
}

pub fn bad_names_and_numbers_are_refused(client: &Client) {
    invalid(client.lock(""), "the lock's name: it is empty");
    invalid(client.event("a/b"), "the event's name: `a/b` has a '/'");
    invalid(client.variable::<u8>("a\nb"), "the variable's name: `a\\nb` has a '\\n'");
    let long = "x".repeat(10_000);
    invalid(client.queue::<u8>(&long, 1), "the queue's name: it has 10000 characters; 200 are the most");
    invalid(client.semaphore("s", 0), "the permits of a semaphore: there are 0, and so nobody would ever have one");
    invalid(client.queue::<u8>("q", 0), "the size of a queue: it is 0, and so nothing would ever lie in it");
    client.lock(&"ö".repeat(200)).unwrap().acquire().unwrap().release().unwrap();
}

pub fn of_another_type_or_number_is_an_error(client: &Client) {
    let number = client.variable::<u64>("v").unwrap();
    number.set(1).unwrap();
    let text = client.variable::<String>("v").unwrap();
    let words = "the variable `v` has values of type `u64`, and not `alloc::string::String`";
    for refused in [text.get().unwrap_err(), text.set("one".to_string()).unwrap_err(), text.delete().unwrap_err()] {
        assert!(matches!(refused, Error::Coordination(CoordinationError::WrongType { .. })), "{refused:?}");
        assert_eq!(refused.to_string(), words);
    }
    let in_a_task = client.compute(&try_delayed(|v: Variable<String>| v.get()).call(text.clone())).unwrap_err();
    assert!(in_a_task.to_string().contains(words), "{in_a_task}");
    assert_eq!(number.get().unwrap(), 1);
    number.delete().unwrap();
    text.set("one".to_string()).unwrap();

    client.queue::<u64>("q", 2).unwrap().put(1).unwrap();
    let refused = client.queue::<i64>("q", 2).unwrap().get().unwrap_err();
    assert_eq!(refused.to_string(), "the queue `q` has values of type `u64`, and not `i64`");
    let refused = client.queue::<u64>("q", 3).unwrap().get().unwrap_err();
    assert_eq!(refused.to_string(), "the queue `q` was made for 2, and not for 3");
    drop(client.semaphore("s", 2).unwrap().acquire().unwrap());
    let refused = client.semaphore("s", 4).unwrap().try_acquire().unwrap_err();
    assert!(matches!(refused, Error::Coordination(CoordinationError::OtherLimit { wanted: 4, there: 2, .. })));
}

fn deadlock<T>(got: Result<T>) -> String {
    match got.map(|_| ()) {
        Err(Error::Deadlock { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

pub fn waiting_for_oneself_is_an_error(client: &Client) {
    fn twice(lock: Lock) -> Result<String> {
        let _guard = lock.acquire()?;
        let reason = deadlock(lock.acquire());
        assert!(matches!(lock.acquire_timeout(IN_VAIN), Err(Error::Timeout { .. })));
        assert!(lock.try_acquire()?.is_none());
        Ok(reason)
    }
    let lock = client.lock("mine").unwrap();
    let reason = client.compute(&try_delayed(twice).call(lock.clone())).unwrap();
    assert_eq!(reason, "whoever asks for the lock `mine` has it already");
    assert!(lock.try_acquire().unwrap().is_some(), "it was released");
    if is_sync(client) {
        let _guard = lock.acquire().unwrap();
        assert_eq!(deadlock(lock.acquire()), reason);
        // A task runs in the thread that has it.
        let locks = |lock: Lock| deadlock(lock.acquire());
        assert_eq!(client.compute(&delayed(locks).call(lock.clone())).unwrap(), reason);
        // Another thread waits for this one, and not for ever.
        std::thread::scope(|scope| {
            let other = scope.spawn(|| lock.acquire_timeout(LONG).unwrap().release());
            drop(_guard);
            other.join().unwrap().unwrap();
        });
        let words = "nobody could put an item into the queue `q` while the only thread waits for that";
        assert_eq!(deadlock(client.queue::<u8>("q", 1).unwrap().get()), words);
        let words = "nobody could set the event `e` while the only thread waits for that";
        assert_eq!(deadlock(client.event("e").unwrap().wait()), words);
    }
}

pub fn waiting_in_a_circle_is_an_error(client: &Client) {
    fn both(first: Lock, second: Lock, here: Event, there: Event) -> Result<Option<String>> {
        let _first = first.acquire()?;
        here.set()?;
        there.wait()?;
        match second.acquire() {
            Ok(_second) => Ok(None),
            Err(Error::Deadlock { reason }) => Ok(Some(reason)),
            Err(e) => Err(e),
        }
    }
    if is_sync(client) {
        return;
    }
    let [a, b] = ["a", "b"].map(|name| client.lock(name).unwrap());
    let [at_a, at_b] = ["a", "b"].map(|name| client.event(name).unwrap());
    let one = try_delayed(both).call(a.clone(), b.clone(), at_a.clone(), at_b.clone());
    let other = try_delayed(both).call(b, a, at_b, at_a);
    let told: Vec<_> = client.compute(&[one, other]).unwrap().into_iter().flatten().collect();
    assert_eq!(told.len(), 1, "one is told, and the other goes on: {told:?}");
    assert!(told[0].contains("is held by a task that waits for the lock"), "{told:?}");
}

/// Counts how often it is woken.
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// How many threads of this process are the library's.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("swath")).count()
}

pub fn a_thousand_async_waiters_cost_no_thread(client: &Client) {
    let event = client.event("go").unwrap();
    event.is_set().unwrap();
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let before = threads();
    let mut waiting: Vec<_> = (0..1000).map(|_| Box::pin(event.wait_async())).collect();
    for wait in &mut waiting {
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    // Threads that are there have their names a little later.
    assert!(threads() < before + 10, "{before} threads before, {} now", threads());
    // What is dropped is not waited for.
    waiting.truncate(900);
    event.set().unwrap();
    until("all are woken", || woken.0.load(Ordering::SeqCst) >= 900);
    waiting.into_iter().for_each(|wait| block_on(wait).unwrap());
    assert!(woken.0.load(Ordering::SeqCst) <= 1000, "each is woken once, those that were dropped at the most");
}

pub fn what_is_on_its_way_to_a_dropped_future_goes_back(client: &Client) {
    let (lock, queue) = (client.lock("lock").unwrap(), client.queue::<u64>("queue", 10).unwrap());
    let nobody = &mut Context::from_waker(Waker::noop());
    let guard = lock.acquire().unwrap();
    for n in 0..20 {
        let mut left = Box::pin(lock.acquire_async());
        assert!(left.as_mut().poll(nobody).is_pending());
        let mut get = Box::pin(queue.get_async());
        assert!(get.as_mut().poll(nobody).is_pending());
        // One is dropped before anything comes, the next when it has come.
        if n % 2 == 0 {
            drop(get);
            queue.put(n).unwrap();
        } else {
            queue.put(n).unwrap();
            drop(get);
        }
        assert_eq!(queue.get_timeout(LONG).unwrap(), n);
        drop(left);
    }
    let mut left = Box::pin(lock.acquire_async());
    assert!(left.as_mut().poll(nobody).is_pending());
    drop(guard);
    drop(left);
    lock.acquire_timeout(LONG).unwrap().release().unwrap();
    // In async code all the way.
    block_on(async {
        let guard = lock.acquire_async().await.unwrap();
        assert!(lock.try_acquire_async().await.unwrap().is_none());
        guard.release_async().await.unwrap();
        queue.put_async(1).await.unwrap();
        assert!(queue.try_put_async(2).await.unwrap());
        assert_eq!((queue.len_async().await.unwrap(), queue.get_async().await.unwrap()), (2, 1));
        assert_eq!(queue.try_get_async().await.unwrap(), Some(2));
        let event = client.event("event").unwrap();
        event.set_async().await.unwrap();
        event.wait_async().await.unwrap();
        event.clear_async().await.unwrap();
        assert!(!event.is_set_async().await.unwrap());
        let variable = client.variable::<u8>("variable").unwrap();
        assert_eq!(variable.try_get_async().await.unwrap(), None);
        variable.set_async(3).await.unwrap();
        assert_eq!(variable.get_async().await.unwrap(), 3);
        assert!(variable.delete_async().await.unwrap());
    });
}

pub fn several_items_on_their_way_to_dropped_futures_keep_their_order(client: &Client) {
    let queue = client.queue::<u64>("queue", usize::MAX).unwrap();
    let nobody = &mut Context::from_waker(Waker::noop());
    let mut gets: Vec<_> = (0..4).map(|_| Box::pin(queue.get_async())).collect();
    gets.iter_mut().for_each(|get| assert!(get.as_mut().poll(nobody).is_pending()));
    (0..6).for_each(|n| queue.put(n).unwrap());
    for at in [1, 0, 1, 0] {
        drop(gets.remove(at));
    }
    assert_eq!((0..6).map(|_| queue.get_timeout(LONG).unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
}

pub fn a_handle_of_another_client_is_an_error(client: &Client) {
    fn try_it(lock: Lock) -> Result<bool> {
        Ok(lock.try_acquire()?.is_some())
    }
    fn others(error: &Error, name: &str) {
        let text = error.to_string();
        assert!(text.contains(&format!("the lock `{name}` is another client's")), "{text}");
    }
    let other = Client::threads(1);
    let (own, foreign) = (client.lock("own").unwrap(), other.lock("foreign").unwrap());
    assert!(client.compute(&try_delayed(try_it).call(own.clone())).unwrap());
    others(&client.compute(&try_delayed(try_it).call(foreign.clone())).unwrap_err(), "foreign");
    let told = client.map(|lock: Lock| try_it(lock).map_err(|e| e.to_string()), [foreign.clone()]).unwrap();
    assert!(told[0].result().unwrap().unwrap_err().contains("is another client's"));
    others(&other.compute(&try_delayed(try_it).call(own.clone())).unwrap_err(), "own");
    // The program has both, and so has a task that makes a client of its own.
    assert!(try_it(foreign).unwrap() && try_it(own).unwrap());
    let inner = |_: u64| -> Result<bool> {
        let client = Client::sync();
        let lock = client.lock("inner")?;
        Ok(lock.try_acquire()?.is_some() && client.compute(&try_delayed(try_it).call(lock.clone()))?)
    };
    assert!(client.compute(&try_delayed(inner).call(1)).unwrap());
}

pub fn who_fails_lets_go(client: &Client) {
    fn fails(lock: Lock, how: u8) -> Result<u8, String> {
        let guard = lock.acquire().map_err(|e| e.to_string())?;
        match how {
            0 => Err("failed".to_string()),
            1 => panic!("at the disco"),
            2 => {
                // It was the run's, whatever becomes of the guard.
                std::mem::forget(guard);
                Ok(how)
            }
            _ => Ok(how),
        }
    }
    let lock = client.lock("lock").unwrap();
    for how in [0, 1, 2, 3] {
        let call = try_delayed(fails).retries(1).call(lock.clone(), how);
        assert_eq!(client.compute(&call).is_ok(), how > 1);
        lock.acquire_timeout(LONG).unwrap().release().unwrap();
    }
    // A task that runs again does not find what its first run forgot.
    fn forgets(lock: Lock) -> Result<(), String> {
        std::mem::forget(lock.acquire().map_err(|e| e.to_string())?);
        Err("again".to_string())
    }
    let error = client.compute(&try_delayed(forgets).retries(2).call(lock.clone())).unwrap_err();
    assert!(error.to_string().contains("again"), "{error}");
    lock.acquire_timeout(LONG).unwrap().release().unwrap();
}

/// A guard that a task has left behind, in its process.
static LEFT: Mutex<Option<LockGuard>> = Mutex::new(None);

pub fn what_a_run_has_ends_with_it(client: &Client) {
    fn leave(lock: Lock) -> Result<()> {
        *LEFT.lock() = Some(lock.acquire()?);
        Ok(())
    }
    fn release() -> Option<String> {
        let left = LEFT.lock().take()?;
        Some(left.release().unwrap_err().to_string())
    }
    let lock = client.lock("lock").unwrap();
    client.compute(&try_delayed(leave).call(lock.clone())).unwrap();
    let guard = lock.acquire_timeout(LONG).unwrap();
    let told: Vec<String> = client.compute(&vec![delayed(release).call(); 20]).unwrap().into_iter().flatten().collect();
    // Where there are several processes, the one that has it may be busy elsewhere.
    let words = "the lock `lock` is not held any more: what a task acquires it has for its run at the longest";
    assert!(told.iter().all(|told| told == words), "{told:?}");
    guard.release().unwrap();
}

pub fn who_is_cancelled_waits_no_more(client: &Client) {
    fn wait(lock: Lock, file: String) -> Result<()> {
        note(&file, "begun");
        let ended = lock.acquire().map(drop);
        note(&file, ended.as_ref().is_err_and(Error::is_cancelled));
        ended
    }
    if is_sync(client) {
        return;
    }
    let (dir, lock) = (directory(), client.lock("lock").unwrap());
    let guard = lock.acquire().unwrap();
    for how in ["cancelled", "dropped", "limited"] {
        let file = path(&dir, how);
        let limit = if how == "limited" { Duration::from_millis(200) } else { LONG };
        let future = client.submit(&try_delayed(wait).timeout(limit).call(lock.clone(), &*file)).unwrap();
        until("it waits", || !notes(&file).is_empty());
        match how {
            "cancelled" => client.cancel(&future),
            "dropped" => drop(future),
            _ => assert!(future.result().is_err()),
        }
        until("it is told", || notes(&file).len() == 2);
        assert_eq!(notes(&file)[1], "true", "{how}");
    }
    // The next one has its turn.
    let next = client.submit(&try_delayed(|lock: Lock| lock.acquire().map(drop)).call(lock.clone())).unwrap();
    guard.release().unwrap();
    next.result_timeout(LONG).unwrap();
}

pub fn who_waits_gives_its_place_away(client: &Client) {
    if is_sync(client) {
        return;
    }
    let (event, queue) = (client.event("go").unwrap(), client.queue::<u64>("done", 20).unwrap());
    let wait = |event: Event, queue: Queue<u64>, n: u64| event.wait().and_then(|()| queue.put(n));
    let calls: Vec<_> = (0..12).map(|n| try_delayed(wait).call(event.clone(), queue.clone(), n)).collect();
    let waiting = client.submit_all(&calls).unwrap();
    // More tasks wait than there are threads, and those behind them run; in async code, too.
    let set = |event: Event| block_on(event.set_async());
    client.compute(&try_delayed(set).call(event)).unwrap();
    client.gather(&waiting).unwrap();
    assert_eq!(queue.len().unwrap(), 12);
}

/// So many tasks that wait, each for itself, for what one submitted after them does.
fn wait_for_the_last(client: &Client, waiting: usize, wait: impl Fn() -> Delayed<u64>, last: Delayed<()>) {
    let waiting: Vec<_> = (0..waiting).map(|_| wait()).collect();
    let futures = client.submit_all(&waiting).unwrap();
    client.submit(&last).unwrap().result_timeout(LONG).unwrap();
    assert_eq!(client.gather(&futures).unwrap().len(), waiting.len());
}

fn wait_for_an_event_set_by_the_last(client: &Client, waiting: usize) {
    let event = client.event("late").unwrap();
    let wait = || try_delayed(|event: Event| event.wait().map(|()| 1)).call(event.clone());
    wait_for_the_last(client, waiting, wait, try_delayed(|event: Event| event.set()).call(event.clone()));
}

pub fn two_hundred_tasks_wait_for_what_one_after_them_does(client: &Client) {
    if is_sync(client) {
        return;
    }
    let began = Instant::now();
    wait_for_an_event_set_by_the_last(client, 200);
    let queue = client.queue::<u64>("late", 10).unwrap();
    let get = || try_delayed(|queue: Queue<u64>| queue.get()).call(queue.clone());
    let put = try_delayed(|queue: Queue<u64>| (0..200).try_for_each(|item| queue.put(item))).call(queue.clone());
    wait_for_the_last(client, 200, get, put);
    let lock = client.lock("late").unwrap();
    let guard = lock.acquire().unwrap();
    let acquire = |_| try_delayed(|lock: Lock| lock.acquire().map(drop)).call(lock.clone());
    let futures = client.submit_all(&(0..200).map(acquire).collect::<Vec<_>>()).unwrap();
    assert_eq!(client.compute(&delayed(|| 7).call()).unwrap(), 7);
    guard.release().unwrap();
    client.gather(&futures).unwrap();
    assert!(began.elapsed() < LONG / 3, "it took {:?}", began.elapsed());
}

pub fn two_thousand_tasks_wait_for_an_event(client: &Client) {
    if !is_sync(client) {
        wait_for_an_event_set_by_the_last(client, 2000);
    }
}

pub fn a_closed_client_is_told(client: &Client) {
    let (lock, queue) = (client.lock("lock").unwrap(), client.queue::<u8>("queue", 1).unwrap());
    let guard = lock.acquire().unwrap();
    let nobody = &mut Context::from_waker(Waker::noop());
    let mut get = pin!(queue.get_async());
    assert!(get.as_mut().poll(nobody).is_pending());
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| queue.get_timeout(LONG));
        client.shutdown();
        assert!(matches!(waits.join().unwrap(), Err(Error::Closed { .. })));
    });
    assert!(matches!(get.as_mut().poll(nobody), Poll::Ready(Err(Error::Closed { .. }))));
    assert!(matches!(lock.acquire(), Err(Error::Closed { .. })));
    assert!(matches!(queue.len(), Err(Error::Closed { .. })));
    assert!(matches!(guard.release(), Err(Error::Closed { .. })));
}

pub fn a_time_limit_holds(client: &Client) {
    let lock = client.lock("lock").unwrap();
    let _guard = lock.acquire().unwrap();
    let began = Instant::now();
    assert!(matches!(lock.acquire_timeout(Duration::from_millis(50)), Err(Error::Timeout { .. })));
    assert!(began.elapsed() >= Duration::from_millis(50) && began.elapsed() < LONG, "{:?}", began.elapsed());
    assert!(matches!(lock.acquire_timeout(Duration::ZERO), Err(Error::Timeout { .. })));
    let free = client.lock("free").unwrap();
    free.acquire_timeout(Duration::ZERO).map_or_else(|e| assert!(matches!(e, Error::Timeout { .. })), drop);
    free.acquire_timeout(Duration::MAX).unwrap().release().unwrap();
}

/// Notes its process, has the lock, and keeps it until the file is there; a second run goes on at once.
fn hold(lock: Lock, began: String, open: String) -> Result<usize> {
    let guard = lock.acquire()?;
    note(&began, std::process::id());
    let runs = notes(&began).len();
    if runs == 1 {
        wait_for_file(&open);
    }
    drop(guard);
    Ok(runs)
}

fn first_pid(began: &str) -> u32 {
    until("it runs", || !notes(began).is_empty());
    notes(began)[0].parse().unwrap()
}

#[test]
fn what_a_killed_worker_has_is_free_again() {
    let _clean = Clean::start();
    let (client, dir) = (processes(2, 1), directory());
    let lock = client.lock("lock").unwrap();
    let [began, open] = ["began", "open"].map(|name| path(&dir, name));
    let holder = client.submit(&try_delayed(hold).call(lock.clone(), &*began, &*open)).unwrap();
    let pid = first_pid(&began);
    let waits = client.submit(&try_delayed(|lock: Lock| lock.acquire().map(drop)).call(lock.clone())).unwrap();
    assert!(matches!(lock.acquire_timeout(IN_VAIN), Err(Error::Timeout { .. })));
    send_signal(pid, Signal::SIGKILL);
    waits.result_timeout(LONG).unwrap();
    assert_eq!(holder.result_timeout(LONG).unwrap(), 2, "it ran again, and had the lock again");
    lock.acquire_timeout(LONG).unwrap().release().unwrap();
}

#[test]
fn who_waits_in_a_worker_that_is_killed_is_forgotten_and_not_blamed() {
    fn take(queue: Queue<u64>, began: String) -> Result<u64> {
        note(&began, std::process::id());
        queue.get()
    }
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(2).allowed_deaths(1).forward_output(false).build().unwrap();
    let (dir, queue) = (directory(), client.queue::<u64>("queue", 10).unwrap());
    let [takes, began, open] = ["takes", "began", "open"].map(|name| path(&dir, name));
    let taken = client.submit(&try_delayed(take).call(queue.clone(), &*takes)).unwrap();
    until("it waits", || !notes(&takes).is_empty());
    let lock = client.lock("lock").unwrap();
    let runs = client.submit(&try_delayed(hold).retries(1).call(lock.clone(), &*began, &*open)).unwrap();
    let pid = first_pid(&began);
    send_signal(pid, Signal::SIGKILL);
    // One ran alone there as far as can be seen, and the other did nothing.
    assert!(matches!(runs.result_timeout(LONG).unwrap_err().task().unwrap().cause(), Cause::WorkerDied(_)));
    until("it waits again", || notes(&takes).len() == 2);
    queue.put(7).unwrap();
    queue.put(8).unwrap();
    assert_eq!(taken.result_timeout(LONG).unwrap(), 7);
    assert_eq!((queue.get().unwrap(), queue.len().unwrap()), (8, 0));
    lock.acquire_timeout(LONG).unwrap().release().unwrap();
}

#[test]
fn those_that_wait_for_each_other_when_their_worker_is_killed_go_on() {
    // All are suspects, since all waited: none of them runs beside another, but they wait for one another.
    fn meet(here: Event, there: Event, began: String) -> Result<()> {
        note(&began, std::process::id());
        let again = notes(&began).len() > 2;
        if again {
            here.set()?;
        }
        there.wait()
    }
    let _clean = Clean::start();
    let (client, dir) = (processes(1, 2), directory());
    let began = path(&dir, "began");
    let [a, b] = ["a", "b"].map(|name| client.event(name).unwrap());
    let calls = [(&a, &b), (&b, &a)].map(|(here, there)| try_delayed(meet).call(here.clone(), there.clone(), &*began));
    let futures = client.submit_all(&calls).unwrap();
    until("both wait", || notes(&began).len() == 2);
    send_signal(first_pid(&began), Signal::SIGKILL);
    for future in futures {
        future.result_timeout(LONG).unwrap();
    }
}

#[test]
fn programs_of_a_cluster_have_names_of_their_own_and_take_them_along() {
    fn count() -> Result<usize> {
        current_client().expect("in a task").queue::<u64>("queue", 5)?.len()
    }
    fn shared(socket: &Path) -> Vec<String> {
        let status = swath::local::status(socket).unwrap();
        let all = status.programs.iter().flat_map(|program| &program.shared);
        all.map(ToString::to_string).collect()
    }
    let _clean = Clean::start();
    crate::with_cluster(|socket| {
        let [one, other] = [(); 2].map(|()| Client::connect(socket).unwrap());
        let guard = one.lock("lock").unwrap().acquire().unwrap();
        let others = other.lock("lock").unwrap().acquire().unwrap();
        one.queue::<u64>("queue", 5).unwrap().put(1).unwrap();
        // Of the same name and another type: it is another program's.
        other.variable::<u8>("variable").unwrap().set(1).unwrap();
        one.variable::<String>("variable").unwrap().set("text".to_string()).unwrap();
        assert_eq!(one.compute(&try_delayed(count).call()).unwrap(), 1);
        assert_eq!(other.compute(&try_delayed(count).call()).unwrap(), 0);
        drop(others);
        let dir = directory();
        let [began, open] = ["began", "open"].map(|name| path(&dir, name));
        let holds = other.submit(&try_delayed(hold).call(other.lock("lock").unwrap(), &*began, &*open)).unwrap();
        first_pid(&began);
        let there = shared(socket);
        let is_there =
            |kind: &str, state: &str| there.iter().any(|line| line.starts_with(kind) && line.contains(state));
        assert!(is_there("lock `lock` of connection ", ": held by program"), "{there:?}");
        assert!(is_there("queue `queue` of connection ", ": 1 item, 5 at most"), "{there:?}");
        assert!(is_there("lock `lock` of connection ", ": held by hold-"), "{there:?}");
        let held = there.iter().find(|line| line.contains("held by hold-"));
        assert!(held.is_some_and(|line| line.contains(" on worker-")), "{there:?}");
        // It leaves with a lock, without a word of that.
        drop(one);
        drop(guard);
        until("it has gone", || shared(socket).iter().all(|line| !line.contains(": 1 item")));
        touch(&open);
        assert_eq!(holds.result_timeout(LONG).unwrap(), 1);
        drop(other);
        until("all have gone", || shared(socket).is_empty());
    });
}

#[test]
fn a_task_that_retires_the_worker_of_who_waits_for_its_lock_is_told() {
    fn retire(lock: Lock, began: String) -> Result<String> {
        let _guard = lock.acquire()?;
        note(&began, current_task().expect("in a task").worker);
        until("the other waits", || notes(&began).len() == 2);
        let other = notes(&began)[1].clone();
        // By then it may not wait yet.
        match current_client().expect("in a task").retire(&[other]) {
            Err(Error::Deadlock { reason }) => Ok(reason),
            other => Ok(format!("{other:?}")),
        }
    }
    fn want(lock: Lock, began: String) -> Result<()> {
        until("the other has it", || !notes(&began).is_empty());
        note(&began, current_task().expect("in a task").worker);
        lock.acquire().map(drop)
    }
    let _clean = Clean::start();
    let (client, dir) = (processes(2, 1), directory());
    let (lock, began) = (client.lock("lock").unwrap(), path(&dir, "began"));
    let retires = client.submit(&try_delayed(retire).call(lock.clone(), &*began)).unwrap();
    let wants = client.submit(&try_delayed(want).call(lock, &*began)).unwrap();
    let reason = retires.result_timeout(LONG).unwrap();
    assert!(reason.contains("which waits for the lock `lock`, which this task on worker-"), "{reason}");
    wants.result_timeout(LONG).unwrap();
}
