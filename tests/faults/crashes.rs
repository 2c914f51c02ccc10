//! Tasks that end their workers: while they run, or when they have ended. Others go on, at once, and the client lives.

use crate::common::*;
use nix::sys::signal::{Signal, raise};
use std::time::{Duration, Instant};
use swath::client::WaitFor;
use swath::error::{Cause, DeathCause, DeathRecord};
use swath::{Client, Error, Future, delayed};

fn inc(x: i64) -> i64 {
    x + 1
}

fn records(error: &Error) -> &[DeathRecord] {
    match error.task().map(swath::error::TaskError::cause) {
        Some(Cause::WorkerDied(records) | Cause::MemoryLimit { records, .. }) => records,
        _ => panic!("no death: {error}"),
    }
}

/// Closes these descriptors, as programs do that become daemons. Some of them may not be open.
fn close(which: impl IntoIterator<Item = i32>) {
    which.into_iter().for_each(|fd| {
        let _ = nix::unistd::close(fd);
    });
}

fn closes(what: String) -> i64 {
    match &*what {
        "3 to 255" => close(3..256),
        "0 to 2" => close(0..3),
        "all" => close(0..70_000),
        "its socket" => {
            let is_socket = |fd: &i32| {
                let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
                link.is_ok_and(|link| link.to_str().is_some_and(|link| link.starts_with("socket:")))
            };
            let sockets: Vec<i32> = (0..70_000).filter(is_socket).collect();
            assert_eq!(sockets.len(), 1, "a worker has one socket");
            close(sockets);
        }
        other => panic!("{other}"),
    }
    7
}

/// One worker, so that others wait behind the task; two, so that others run beside it.
fn a_task_closes(what: &str) -> Vec<Result<i64, Error>> {
    let mut ends = Vec::new();
    for (workers, threads) in [(1, 1), (2, 1), (1, 2)] {
        let builder = Client::builder().workers(workers).threads(threads).forward_output(false);
        // As patient as the program in which this was found.
        let client = builder.start_timeout(Duration::from_secs(5)).build().unwrap();
        let before = client.submit_all(&delayed(inc).map(0..50)).unwrap();
        assert_eq!(client.gather(&before).unwrap(), (1..51).collect::<Vec<_>>());
        let bad = client.submit(&delayed(closes).call(what)).unwrap();
        let behind = client.submit_all(&delayed(inc).map(50..100)).unwrap();
        ends.push(bad.result_timeout(LONG));
        // A neighbour in another thread of the same worker may be blamed with it; whoever is alone there is not.
        if threads == 1 {
            assert_eq!(client.gather(&behind).unwrap(), (51..101).collect::<Vec<_>>(), "{what}");
        } else {
            behind.iter().for_each(|future| drop(future.result_timeout(LONG)));
        }
        client.wait_for_workers(workers, LONG).unwrap();
        assert_eq!(client.compute(&delayed(inc).map(0..20)).unwrap(), (1..21).collect::<Vec<_>>(), "{what}");
    }
    ends
}

fn fails_with_its_deaths(ends: Vec<Result<i64, Error>>) {
    for end in ends {
        let error = end.unwrap_err();
        let records = records(&error);
        assert_eq!(records.len(), 3, "{error}");
        for record in records {
            let named = |key: &String| key.starts_with("closes");
            assert!(record.running.iter().chain(&record.ended).any(named), "{record:?}");
            // A build with debug assertions notices a closed file by itself, and aborts.
            let known = record.cause == DeathCause::DescriptorsClosed
                || (cfg!(debug_assertions) && record.cause == DeathCause::Signal(Signal::SIGABRT as i32));
            assert!(known, "{record:?}");
        }
    }
}

#[test]
fn a_task_closes_3_to_255() {
    let _clean = Clean::start();
    fails_with_its_deaths(a_task_closes("3 to 255"));
}

#[test]
fn a_task_closes_its_workers_socket() {
    let _clean = Clean::start();
    fails_with_its_deaths(a_task_closes("its socket"));
}

/// A worker that cannot send says so where its supervisor finds it, and not by its exit code.
#[test]
fn a_worker_that_cannot_send_is_told_in_words() {
    fn takes_the_socket_away() -> i64 {
        let is_socket = |fd: &i32| {
            let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
            link.is_ok_and(|link| link.to_str().is_some_and(|link| link.starts_with("socket:")))
        };
        let sockets: Vec<i32> = (3..4096).filter(is_socket).collect();
        let other = std::os::unix::net::UnixDatagram::unbound().unwrap();
        for fd in sockets {
            // SAFETY: that is the fault to be tested: it is open, and leads nowhere.
            unsafe { nix::libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&other), fd) };
        }
        7
    }
    let _clean = Clean::start();
    let client = Client::builder().workers(1).forward_output(false).build().unwrap();
    let error = client.submit(&delayed(takes_the_socket_away).call()).unwrap().result_timeout(LONG).unwrap_err();
    for record in records(&error) {
        assert!(
            matches!(&record.cause, DeathCause::GaveUp(reason) if reason.contains("a message to the supervisor cannot be sent")),
            "{record:?}"
        );
    }
    let text = error.to_string();
    assert!(text.contains("ended itself: a message to the supervisor cannot be sent: "), "{text}");
    assert!(!text.contains("code 7"), "{text}");
    assert_eq!(client.compute(&delayed(inc).call(1)).unwrap(), 2);
}

#[test]
fn a_task_closes_all_descriptors() {
    let _clean = Clean::start();
    fails_with_its_deaths(a_task_closes("all"));
}

#[test]
fn a_task_closes_standard_input_output_and_error() {
    let _clean = Clean::start();
    for end in a_task_closes("0 to 2") {
        assert_eq!(end.unwrap(), 7);
    }
    #[allow(clippy::print_stdout)]
    fn prints(x: i64) -> i64 {
        println!("it is {x}");
        x
    }
    let client = Client::builder().workers(1).threads(1).forward_output(false).build().unwrap();
    assert_eq!(client.compute(&delayed(closes).call("0 to 2")).unwrap(), 7);
    let pid = pids(&client);
    assert_eq!(client.compute(&delayed(prints).call(5)).unwrap(), 5);
    until("what others print is told", || client.logs().unwrap().iter().any(|line| line.text == "it is 5"));
    assert_eq!((pids(&client), client.deaths().unwrap()), (pid, Vec::new()), "nothing had to end for it");
}

/// What ends the worker a moment after the task that is to blame.
#[test]
fn a_task_starts_a_thread_that_aborts_a_millisecond_after_its_end() {
    fn leaves_a_bomb(x: i64) -> i64 {
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(1));
            std::process::abort();
        });
        x
    }
    let _clean = Clean::start();
    let client = Client::builder()
        .workers(2)
        .threads(1)
        .forward_output(false)
        .start_timeout(Duration::from_secs(5))
        .build()
        .unwrap();
    let began = Instant::now();
    let mut bombs: Vec<Future<i64>> = Vec::new();
    let mut others = Vec::new();
    for i in 0..10 {
        bombs.push(client.submit(&delayed(leaves_a_bomb).call(i)).unwrap());
        others.extend(client.submit_all(&delayed(inc).map(i * 10..(i + 1) * 10)).unwrap());
    }
    // Which of them are done before a worker ends is up to the machine. All of them end, one way or the other.
    for (i, future) in (0..).zip(bombs) {
        match future.result_timeout(LONG) {
            Ok(value) => assert_eq!(value, i),
            Err(error) => assert_eq!(records(&error).len(), 3),
        }
    }
    for (i, future) in (0..).zip(others) {
        match future.result_timeout(LONG) {
            Ok(value) => assert_eq!(value, i + 1),
            Err(error) => assert_eq!(records(&error).len(), 3),
        }
    }
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
    until("it works as before", || client.compute(&delayed(inc).map(0..20)).is_ok());
    assert!(!client.deaths().unwrap().is_empty());
}

/// A value whose end ends the process.
#[test]
fn the_drop_of_a_tasks_result_aborts() {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Bomb(Vec<u64>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.0.len() == 4000 && std::env::args().next().is_some_and(|name| name == "swath-worker") {
                std::process::abort();
            }
        }
    }
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(1).forward_output(false).build().unwrap();
    let lazy = delayed(|n: usize| Bomb(vec![1; n])).call(4000_usize).map(|bomb: Bomb| bomb.0.len());
    let error = client.submit(&lazy).unwrap().result_timeout(LONG).unwrap_err();
    assert_eq!(records(&error).len(), 3, "{error}");
    assert_eq!(client.compute(&delayed(inc).call(1)).unwrap(), 2);
}

/// A value that ends the worker when it is sent.
#[derive(Clone, serde::Deserialize)]
struct EndsItsSender(Vec<u64>);

impl serde::Serialize for EndsItsSender {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // When its size is taken, and up to the limit of small results, it does well.
        let is_sized = std::any::type_name::<S>().contains("Sizer");
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (at, item) in self.0.iter().enumerate() {
            if at == 3000 && !is_sized {
                std::process::abort();
            }
            serde::ser::SerializeSeq::serialize_element(&mut list, item)?;
        }
        serde::ser::SerializeSeq::end(list)
    }
}

/// One that a worker holds.
fn ends_its_sender(client: &Client) -> Future<EndsItsSender> {
    let held = client.submit(&delayed(|n: usize| EndsItsSender(vec![u64::MAX; n])).call(4000_usize)).unwrap();
    client.wait_timeout(std::slice::from_ref(&held), WaitFor::All, LONG).unwrap();
    held
}

#[test]
fn a_large_result_aborts_when_it_is_fetched_from_a_worker_that_idles() {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(1).forward_output(false).build().unwrap();
    let held = ends_its_sender(&client);
    let error = held.result_timeout(LONG).map(drop).unwrap_err();
    let deaths = records(&error);
    assert_eq!(deaths.len(), 3, "{error}");
    assert!(deaths[0].running.is_empty() && deaths[0].ended == [held.key()], "{deaths:?}");
    assert_eq!(client.deaths().unwrap(), deaths, "each counts");
    assert_eq!(client.compute(&delayed(inc).call(1)).unwrap(), 2);
}

#[test]
fn a_large_result_aborts_when_another_worker_needs_it() {
    let _clean = Clean::start();
    let client = Client::builder().workers(2).threads(1).forward_output(false).build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    let made = delayed(|n: usize| EndsItsSender(vec![u64::MAX; n])).on_worker("worker-0").call(4000_usize);
    let length = delayed(|value: EndsItsSender| value.0.len()).on_worker("worker-1").call(made);
    let error = client.submit(&length).unwrap().result_timeout(LONG).unwrap_err();
    let deaths = records(&error);
    assert_eq!(
        (deaths.len(), error.task().map(swath::error::TaskError::worker)),
        (3, Some(Some("worker-0"))),
        "{error}"
    );
    assert!(deaths.iter().all(|death| death.running.is_empty() && death.ended.len() == 1), "{deaths:?}");
    assert_eq!(client.compute(&delayed(inc).call(1)).unwrap(), 2);
}

/// Others that the worker holds, and what runs beside, go on.
#[test]
fn a_large_result_that_aborts_takes_no_others_with_it() {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(1).forward_output(false).build().unwrap();
    let many = client.submit_all(&delayed(|n: u64| vec![n; 3000]).map(0..20)).unwrap();
    let bad = ends_its_sender(&client);
    let more = client.submit_all(&delayed(|n: u64| vec![n; 3000]).map(20..40)).unwrap();
    client.wait_timeout(&more, WaitFor::All, LONG).unwrap();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| bad.result_timeout(LONG).map(drop));
        for (n, future) in (0..).zip(many.iter().chain(&more)) {
            assert_eq!(future.result_timeout(LONG).unwrap(), vec![n; 3000]);
        }
        let error = asked.join().unwrap().unwrap_err();
        assert_eq!(records(&error).len(), 3, "{error}");
    });
}

fn crashes(how: String, _number: i64) -> i64 {
    match &*how {
        "abort" => std::process::abort(),
        "exit" => std::process::exit(3),
        "SIGSEGV" => raise(Signal::SIGSEGV).unwrap(),
        "stack overflow" => return crate::deeper(&[1; 64]),
        // More than the limit, and never touched: the allocation fails.
        "limit" => return Vec::<u8>::with_capacity(std::hint::black_box(2 << 30)).capacity() as i64,
        other => panic!("{other}"),
    }
    comes_true(LONG, || false);
    0
}

/// How long it takes from nothing to the first result.
fn one_start() -> Duration {
    let began = Instant::now();
    let client = Client::builder().workers(1).threads(1).build().unwrap();
    assert_eq!(client.compute(&delayed(inc).call(1)).unwrap(), 2);
    began.elapsed()
}

fn thirty_tasks(how: &str) {
    const CRASHES: u32 = 30;
    let _clean = Clean::start();
    // A machine that is busy with other tests starts slowly, and unevenly. A pause was 5 s, and there was one for each.
    let start = one_start().max(Duration::from_millis(100));
    let client = Client::builder()
        .workers(2)
        .threads(1)
        .memory_limit("256MiB")
        .forward_output(false)
        .allowed_deaths(1)
        // To look up a backtrace takes longer than a start.
        .worker_env("RUST_BACKTRACE", "0")
        .build()
        .unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    let began = Instant::now();
    let mut latest = Duration::ZERO;
    for i in 0..i64::from(CRASHES) {
        let error = client.submit(&delayed(crashes).call(how, i)).unwrap().result_timeout(LONG).unwrap_err();
        // One that ran out of memory is tried alone before it fails.
        assert!((1..=2).contains(&records(&error).len()), "{error}");
        let asked = Instant::now();
        assert_eq!(client.compute(&delayed(inc).map(i..i + 5)).unwrap(), (i + 1..i + 6).collect::<Vec<_>>());
        latest = latest.max(asked.elapsed());
    }
    let took = began.elapsed();
    assert!(took < CRASHES * 3 * start, "{how}: {took:?}, where one start takes {start:?}");
    assert!(latest < 10 * start, "{how}: a good task took {latest:?}, where one start takes {start:?}");
    // All at once, and good ones between them.
    let mut bad = Vec::new();
    let mut good = Vec::new();
    for i in 0..i64::from(CRASHES) {
        bad.push(client.submit(&delayed(crashes).call(how, 100 + i)).unwrap());
        good.extend(client.submit_all(&delayed(inc).map(i * 10..(i + 1) * 10)).unwrap());
    }
    let began = Instant::now();
    assert_eq!(client.gather(&good).unwrap(), (1..=i64::from(CRASHES) * 10).collect::<Vec<_>>(), "{how}");
    bad.iter().for_each(|future| assert!(!records(&future.result_timeout(LONG).unwrap_err()).is_empty()));
    assert!(began.elapsed() < CRASHES * 3 * start, "{how}: {:?}, where one start takes {start:?}", began.elapsed());
}

#[test]
fn thirty_tasks_abort_and_delay_nothing_else() {
    thirty_tasks("abort");
}

#[test]
fn thirty_tasks_exit_and_delay_nothing_else() {
    thirty_tasks("exit");
}

#[test]
fn thirty_tasks_segfault_and_delay_nothing_else() {
    thirty_tasks("SIGSEGV");
}

#[test]
fn thirty_tasks_overflow_their_stack_and_delay_nothing_else() {
    thirty_tasks("stack overflow");
}

#[test]
fn thirty_tasks_exceed_their_memory_limit_and_delay_nothing_else() {
    thirty_tasks("limit");
}

/// Without a log of events there is no ring of runs; what ran last is known all the same.
#[test]
fn a_task_closes_its_workers_socket_where_no_events_are_recorded() {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(1).events(0).forward_output(false).build().unwrap();
    let error = client.submit(&delayed(closes).call("its socket")).unwrap().result_timeout(LONG).unwrap_err();
    assert_eq!(records(&error).len(), 3, "{error}");
    assert_eq!(client.compute(&delayed(inc).call(1)).unwrap(), 2);
}
