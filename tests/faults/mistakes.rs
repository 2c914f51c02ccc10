//! Tasks that change or use up what their worker process has once: they get their own result or an error of their own,
//! what runs after them is right, and their client ends within its usual time.

use crate::AT_ONCE;
use crate::common::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use std::fs::File;
use std::time::{Duration, Instant};
use swath::error::Cause;
use swath::{Bag, Buffer, Client, Delayed, delayed};

/// Shorter than anything waits for what cannot come.
const SHORT: Duration = Duration::from_secs(4);
const WORKERS: [&str; 2] = ["worker-0", "worker-1"];

fn inc(x: i64) -> i64 {
    x + 1
}

fn two_workers() -> Client {
    let client = Client::builder().workers(2).threads(1).forward_output(false).build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    client
}

/// What a task on the first worker gives.
fn there(client: &Client, mistake: &Delayed<i64>) -> Result<i64, swath::Error> {
    client.submit(mistake).unwrap().result_timeout(LONG)
}

/// Small values, on each worker.
fn small_values_are_right(client: &Client) {
    for worker in WORKERS {
        let futures = client.submit_all(&delayed(inc).on_worker(worker).map(0..100)).unwrap();
        for (x, future) in (0..).zip(futures) {
            assert_eq!(future.result_timeout(LONG).unwrap(), x + 1, "{worker}");
        }
    }
}

/// Values in shared memory, into each worker and out of it.
fn large_values_are_right(client: &Client) {
    const N: usize = 1 << 20;
    let more = |given: Buffer<u8>| Buffer::from_fn(N, |i| given[i] + 1);
    for worker in WORKERS {
        for x in 0..5 {
            let lazy = delayed(more).on_worker(worker).call(Buffer::from_slice(&vec![x; N]));
            let got = client.submit(&lazy).unwrap().result_timeout(LONG).unwrap();
            assert_eq!((got.len(), got[N - 1]), (N, x + 1), "{worker}");
        }
    }
}

fn ends_at_once(client: Client) {
    let began = Instant::now();
    client.shutdown();
    drop(client);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

/// The mistake gives 7, no worker ends for it, and nothing else is changed by it.
fn harms_nobody(mistake: &Delayed<i64>) {
    let client = two_workers();
    assert_eq!(there(&client, mistake).unwrap(), 7);
    small_values_are_right(&client);
    large_values_are_right(&client);
    assert_eq!(client.deaths().unwrap(), []);
    ends_at_once(client);
}

fn forks(child_does: String, file: String) -> i64 {
    // SAFETY: what a task may do with it is what this is about; the children do as little as they can.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => {
            note(&file, child);
            if child_does != "goes on" {
                waitpid(child, None).unwrap();
            }
            7
        }
        ForkResult::Child => match &*child_does {
            "exits" => std::process::exit(0),
            "panics" => panic!("in the child"),
            "returns" => 8,
            "asks the client" => swath::current_client().unwrap().compute(&delayed(inc).call(7)).unwrap(),
            _ => loop {
                std::thread::park();
            },
        },
    }
}

fn a_task_forks(child_does: &str) {
    let _clean = Clean::start();
    let dir = directory();
    let file = path(&dir, "children");
    harms_nobody(&delayed(forks).on_worker(WORKERS[0]).call(child_does, &*file));
    for child in notes(&file) {
        let child: u32 = child.parse().unwrap();
        until("it has ended, with its worker at the latest", || !is_alive(child));
    }
}

#[test]
fn a_task_forks_and_the_child_exits() {
    a_task_forks("exits");
}

#[test]
fn a_task_forks_and_the_child_returns_from_the_task_too() {
    a_task_forks("returns");
}

/// Calls in a row run as one task.
#[test]
fn a_task_forks_and_the_child_does_not_go_on_with_the_next_call() {
    let _clean = Clean::start();
    let dir = directory();
    let (file, calls) = (path(&dir, "children"), path(&dir, "calls"));
    let forked = delayed(forks).on_worker(WORKERS[0]).call("returns", &*file);
    let next = |x: i64, file: String| {
        note(&file, std::process::id());
        x
    };
    harms_nobody(&delayed(next).on_worker(WORKERS[0]).call(&forked, &*calls));
    assert_eq!(notes(&calls).len(), 1);
}

#[test]
fn a_task_forks_and_the_child_panics() {
    a_task_forks("panics");
}

#[test]
fn a_task_forks_and_the_child_asks_the_client() {
    a_task_forks("asks the client");
}

#[test]
fn a_task_forks_and_the_child_goes_on_for_ever() {
    a_task_forks("goes on");
}

/// It holds its worker's socket and pipes open.
#[test]
fn a_worker_whose_fork_goes_on_is_killed_and_replaced() {
    let _clean = Clean::start();
    let dir = directory();
    let file = path(&dir, "children");
    let client = two_workers();
    let forked = delayed(forks).on_worker(WORKERS[0]).call("goes on", &*file);
    assert_eq!(there(&client, &forked).unwrap(), 7);
    for pid in pids(&client) {
        send_signal(pid, Signal::SIGKILL);
    }
    until("they are dead", || client.deaths().unwrap().len() == 2);
    client.wait_for_workers(2, LONG).unwrap();
    small_values_are_right(&client);
    large_values_are_right(&client);
    ends_at_once(client);
    let child = notes(&file)[0].parse().unwrap();
    until("it has ended with its worker", || !is_alive(child));
}

#[test]
fn a_task_blocks_all_signals() {
    fn blocks() -> i64 {
        SigSet::all().thread_block().unwrap();
        7
    }
    let _clean = Clean::start();
    harms_nobody(&delayed(blocks).on_worker(WORKERS[0]).call());
}

extern "C" fn ignores(_: nix::libc::c_int) {}

fn sets_handlers() -> i64 {
    let action = SigAction::new(SigHandler::Handler(ignores), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGSEGV] {
        // SAFETY: the handler does nothing.
        unsafe { sigaction(signal, &action) }.unwrap();
        raise(signal).unwrap();
    }
    7
}

#[test]
fn a_task_handles_sigterm_sigint_and_sigsegv() {
    let _clean = Clean::start();
    harms_nobody(&delayed(sets_handlers).on_worker(WORKERS[0]).call());
}

#[test]
fn a_worker_that_handles_signals_is_ended_all_the_same() {
    let _clean = Clean::start();
    let client = Client::builder().workers(2).threads(1).cancel_grace(Duration::from_millis(100)).build().unwrap();
    fn deaf(file: String) -> i64 {
        sets_handlers();
        SigSet::all().thread_block().unwrap();
        note(&file, "runs");
        comes_true(LONG, || false);
        7
    }
    let dir = directory();
    let file = path(&dir, "runs");
    let future = client.submit(&delayed(deaf).on_worker(WORKERS[0]).call(&*file)).unwrap();
    until("it runs", || !notes(&file).is_empty());
    client.cancel(&future);
    until("it is ended", || client.deaths().unwrap().len() == 1);
    client.wait_for_workers(2, LONG).unwrap();
    small_values_are_right(&client);
    let _again = client.submit(&delayed(deaf).on_worker(WORKERS[0]).call(&*file)).unwrap();
    until("it runs again", || notes(&file).len() == 2);
    ends_at_once(client);
}

fn limits(what: String, to: u64) -> i64 {
    let resource = match &*what {
        "descriptors" => Resource::RLIMIT_NOFILE,
        "file size" => Resource::RLIMIT_FSIZE,
        other => panic!("{other}"),
    };
    setrlimit(resource, to, to).unwrap();
    7
}

/// The same, but what has been lowered may be raised again.
fn limits_softly(what: String, to: u64) -> i64 {
    let resource = if what == "descriptors" { Resource::RLIMIT_NOFILE } else { Resource::RLIMIT_FSIZE };
    let (_, hard) = getrlimit(resource).unwrap();
    setrlimit(resource, to, hard).unwrap();
    7
}

/// A large value on the first worker, in which shared memory takes a descriptor and a file.
fn large_value(client: &Client) -> Result<(), swath::Error> {
    let lazy = delayed(|n: usize| Buffer::from_slice(&vec![5_u8; n])).on_worker(WORKERS[0]).call(1_usize << 20);
    let got = client.submit(&lazy).unwrap().result_timeout(LONG)?;
    assert_eq!((got.len(), got[1000]), (1 << 20, 5));
    Ok(())
}

/// What needs a descriptor there ends the worker, which is replaced; nobody waits long for that, and no task fails.
fn has_no_descriptors(mistake: &Delayed<i64>) {
    let client = two_workers();
    assert_eq!(there(&client, mistake).unwrap(), 7);
    small_values_are_right(&client);
    assert_eq!(client.deaths().unwrap(), []);
    let began = Instant::now();
    large_values_are_right(&client);
    assert!(began.elapsed() < SHORT, "{:?}", began.elapsed());
    let deaths = client.deaths().unwrap();
    assert!(deaths.len() == 1 && deaths[0].to_string().contains("ulimit -n"), "{deaths:?}");
    small_values_are_right(&client);
    ends_at_once(client);
}

/// Large results on that worker are errors that say why, at once. It is as ever when it has been replaced.
fn has_no_files(mistake: &Delayed<i64>) {
    let client = two_workers();
    assert_eq!(there(&client, mistake).unwrap(), 7);
    small_values_are_right(&client);
    let began = Instant::now();
    let error = large_value(&client).unwrap_err();
    assert!(began.elapsed() < SHORT, "{:?}", began.elapsed());
    let cause = error.task().unwrap().cause();
    assert!(matches!(cause, Cause::Resource { reason } if reason.contains("ulimit -f")), "{error}");
    small_values_are_right(&client);
    assert_eq!(client.deaths().unwrap(), []);
    client.restart().unwrap();
    large_value(&client).unwrap();
    large_values_are_right(&client);
    ends_at_once(client);
}

#[test]
fn a_task_lowers_the_limit_of_descriptors_to_10() {
    let _clean = Clean::start();
    has_no_descriptors(&delayed(limits).on_worker(WORKERS[0]).call("descriptors", 10_u64));
}

#[test]
fn a_task_lowers_the_limit_of_file_sizes_to_0() {
    let _clean = Clean::start();
    has_no_files(&delayed(limits).on_worker(WORKERS[0]).call("file size", 0_u64));
}

#[test]
fn a_task_lowers_the_limit_of_file_sizes_to_4096() {
    let _clean = Clean::start();
    has_no_files(&delayed(limits).on_worker(WORKERS[0]).call("file size", 4096_u64));
}

#[test]
fn a_task_lowers_limits_that_may_be_raised_again() {
    let _clean = Clean::start();
    for (what, to) in [("descriptors", 10_u64), ("file size", 0), ("file size", 4096)] {
        let client = two_workers();
        assert_eq!(there(&client, &delayed(limits_softly).on_worker(WORKERS[0]).call(what, to)).unwrap(), 7);
        small_values_are_right(&client);
        large_value(&client).unwrap();
        large_values_are_right(&client);
        assert_eq!(client.deaths().unwrap(), [], "{what}");
        ends_at_once(client);
    }
}

#[test]
fn a_task_limits_the_address_space_of_its_worker() {
    fn limits_memory() -> i64 {
        let pages: u64 =
            std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').next().unwrap().parse().unwrap();
        let most = pages * 4096 + (64 << 20);
        setrlimit(Resource::RLIMIT_AS, most, most).unwrap();
        7
    }
    let _clean = Clean::start();
    let client = two_workers();
    assert_eq!(there(&client, &delayed(limits_memory).on_worker(WORKERS[0]).call()).unwrap(), 7);
    small_values_are_right(&client);
    // More than is left there: the worker ends, and the next one has no such limit.
    let heavy = delayed(|n: usize| std::hint::black_box(vec![1_u8; n]).len() as i64).on_worker(WORKERS[0]);
    assert_eq!(there(&client, &heavy.call(200_usize << 20)).unwrap(), 200 << 20);
    assert_eq!(client.deaths().unwrap().len(), 1);
    small_values_are_right(&client);
    large_values_are_right(&client);
    ends_at_once(client);
}

/// What moves through files of the worker's own.
fn files_are_right(client: &Client) {
    let kept = client.persist(&delayed(|x: i64| vec![x; 500_000]).map(0..40)).unwrap();
    let sums: Vec<_> = kept.iter().map(|kept| kept.map(|xs: Vec<i64>| xs.iter().sum::<i64>())).collect();
    assert_eq!(client.compute(&sums).unwrap(), (0..40).map(|x| x * 500_000).collect::<Vec<_>>());
    let groups = Bag::range(0..10_000_i64, 4).groupby(|x| x % 7, 4).map(|(_, group)| group.len() as i64);
    assert_eq!(client.compute(&groups.sum()).unwrap(), 10_000);
    assert!(client.memory().unwrap().workers.iter().map(|worker| worker.moved).sum::<u64>() > 0);
}

/// A client whose values go to disk.
fn with_a_disk(directory: impl Into<std::path::PathBuf>) -> Client {
    let builder = Client::builder().workers(2).threads(1).memory_limit("100MB").spill_directory(directory);
    let client = builder.forward_output(false).build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    client
}

#[test]
fn a_task_changes_the_directory() {
    fn goes(to: String) -> i64 {
        std::env::set_current_dir(to).unwrap();
        7
    }
    let here = || std::env::current_dir().unwrap().to_str().unwrap().to_string();
    let _clean = Clean::start();
    let dir = directory();
    let spilled = tempfile::Builder::new().prefix("swath-test-").tempdir_in(".").unwrap();
    let own = here();
    // A relative one is the program's.
    let client = with_a_disk(spilled.path().strip_prefix(std::env::current_dir().unwrap()).unwrap());
    for worker in WORKERS {
        assert_eq!(there(&client, &delayed(goes).on_worker(worker).call(dir.path().to_str().unwrap())).unwrap(), 7);
    }
    let seen = client.compute(&delayed(here).on_worker(WORKERS[0]).call()).unwrap();
    assert_eq!(
        (&*seen, here()),
        (dir.path().to_str().unwrap(), own),
        "tasks after it are there, too; the program is not"
    );
    files_are_right(&client);
    ends_at_once(client);
}

#[test]
fn a_task_takes_all_permissions_from_new_files() {
    fn masks() -> i64 {
        umask(Mode::from_bits(0o777).unwrap());
        7
    }
    let _clean = Clean::start();
    let dir = directory();
    let client = with_a_disk(dir.path());
    for worker in WORKERS {
        assert_eq!(there(&client, &delayed(masks).on_worker(worker).call()).unwrap(), 7);
    }
    files_are_right(&client);
    ends_at_once(client);
    harms_nobody(&delayed(masks).on_worker(WORKERS[0]).call());
}

#[test]
fn a_task_sets_variables() {
    fn sets() -> i64 {
        // SAFETY: nothing else of this worker reads the environment meanwhile.
        unsafe {
            std::env::set_var("SWATH_TEST_SET", "yes");
            std::env::remove_var("PATH");
        }
        7
    }
    let _clean = Clean::start();
    let client = two_workers();
    assert_eq!(there(&client, &delayed(sets).on_worker(WORKERS[0]).call()).unwrap(), 7);
    let is_set = delayed(|| std::env::var_os("SWATH_TEST_SET").is_some());
    let seen = WORKERS.map(|worker| client.compute(&is_set.clone().on_worker(worker).call()).unwrap());
    assert_eq!(seen, [true, false]);
    assert!(std::env::var_os("SWATH_TEST_SET").is_none() && std::env::var_os("PATH").is_some());
    client.restart().unwrap();
    small_values_are_right(&client);
    assert!(!client.compute(&is_set.on_worker(WORKERS[0]).call()).unwrap(), "a new worker begins anew");
    ends_at_once(client);
}

#[test]
fn a_task_leaves_a_thread_that_spins() {
    fn leaves() -> i64 {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
        7
    }
    let _clean = Clean::start();
    harms_nobody(&delayed(leaves).on_worker(WORKERS[0]).call());
}

#[test]
fn a_task_uses_up_all_descriptors_of_its_worker() {
    fn takes() -> i64 {
        std::iter::from_fn(|| File::open("/dev/null").ok()).for_each(std::mem::forget);
        7
    }
    let _clean = Clean::start();
    has_no_descriptors(&delayed(takes).on_worker(WORKERS[0]).call());
}

#[test]
fn a_large_result_of_a_worker_that_has_no_descriptors_is_an_error_that_says_so() {
    let _clean = Clean::start();
    let client = two_workers();
    let limits = delayed(limits).on_worker(WORKERS[0]);
    assert_eq!(there(&client, &limits.call("descriptors", 10_u64)).unwrap(), 7);
    let error = large_value(&client).unwrap_err();
    let cause = error.task().unwrap().cause();
    assert!(matches!(cause, Cause::Resource { reason } if reason.contains("ulimit -n")), "{error}");
    client.restart().unwrap();
    large_value(&client).unwrap();
    ends_at_once(client);
}

#[test]
fn a_task_prints_for_ever() {
    #[allow(clippy::print_stdout, clippy::print_stderr)]
    fn prints() -> i64 {
        loop {
            println!("still here");
            eprint!("and here");
        }
    }
    let _clean = Clean::start();
    let builder = Client::builder().workers(2).threads(1).forward_output(false);
    let client = builder.cancel_grace(Duration::from_millis(100)).build().unwrap();
    let endless = delayed(prints).on_worker(WORKERS[0]).timeout(Duration::from_millis(500)).call();
    let error = there(&client, &endless).unwrap_err();
    assert!(matches!(error.task().unwrap().cause(), Cause::TimedOut { .. }), "{error}");
    small_values_are_right(&client);
    large_values_are_right(&client);
    let _again = client.submit(&delayed(prints).call()).unwrap();
    until("it prints", || client.workers().unwrap().iter().any(|worker| worker.tasks > 0));
    ends_at_once(client);
}
