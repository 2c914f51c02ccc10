//! Where tasks spend their time, as it is sampled in each mode, and what sampling must leave alone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use swath::client::profile::{FrameOrigin, Frames, Profile, ProfileOff};
use swath::status::Mode;
use swath::{Client, Error, delayed};

/// CPU time of this thread.
fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn burn(millis: u64) -> u64 {
    let until = cpu() + Duration::from_millis(millis);
    let mut x = 1_u64;
    while cpu() < until {
        for _ in 0..1000 {
            x = black_box(x.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (x >> 7));
        }
    }
    x
}

#[inline(never)]
fn three_quarters(millis: u64) -> u64 {
    black_box(burn(black_box(3 * millis / 4)))
}

#[inline(never)]
fn one_quarter(millis: u64) -> u64 {
    black_box(burn(black_box(millis / 4)))
}

#[inline(never)]
fn divided(millis: u64) -> u64 {
    three_quarters(millis) ^ one_quarter(millis)
}

fn modes() -> [Client; 3] {
    [Client::sync(), Client::threads(2), processes(2, 1)]
}

/// What a client's tasks of this name did.
fn of(profile: &Profile, name: &str) -> swath::client::profile::NameProfile {
    profile.of(name).unwrap_or_else(|| panic!("nothing of {name}: {profile}"))
}

/// Whether a profile of [`divided`] has the shares that the functions had.
fn is_right(profile: &Profile) -> bool {
    let found = of(profile, "divided");
    let (much, little) = (found.share("three_quarters"), found.share("profile::one_quarter"));
    let time = found.on_cpu().as_secs_f64();
    (much - 0.75).abs() < 0.05 && (little - 0.25).abs() < 0.05 && (0.8..1.3).contains(&time)
}

#[test]
fn the_shares_of_functions_are_told() {
    let _clean = Clean::start();
    for client in modes() {
        let task = delayed(divided).call(1000);
        let look = || client.profile_during(|| client.compute(&task).unwrap()).unwrap().1;
        // Where whatever the machine does besides keeps a core from its ticks for a tenth of a second, a sample stands for all
        // of it: then another look is right.
        let profile = (0..2).map(|_| look()).find(is_right).unwrap_or_else(look);
        assert!(is_right(&profile), "{profile:#}");
        // Nothing of who calls the task is shown.
        let found = of(&profile, "divided");
        let roots: Vec<_> = found.with(Frames::All).on.roots().map(|root| root.frame().function.clone()).collect();
        assert_eq!(roots.iter().map(|root| &**root).collect::<Vec<_>>(), ["profile::divided"], "{profile:#}");
        let text = profile.folded_text(Frames::Own);
        assert!(text.contains("divided;profile::divided;profile::three_quarters;"), "{text}");
        assert!(profile.to_string().contains("%  profile::divided\n"), "{profile}");
        assert!(profile.off().is_empty() && profile.lost() == 0);
    }
}

#[test]
fn each_task_has_its_own_name_and_second() {
    let _clean = Clean::start();
    for client in modes() {
        let _sampled = client.start_profile().unwrap();
        let first = delayed(divided).name("first; with a sign").call(200);
        let second = delayed(|millis: u64| divided(millis)).call(200);
        client.compute(&first).unwrap();
        client.compute(&second).unwrap();
        let profile = client.profile().unwrap();
        let names: Vec<_> = profile.names().into_iter().map(|name| name.name.to_string()).collect();
        assert!(names.contains(&"first; with a sign".to_string()), "{names:?}");
        let closure = names.iter().find(|name| name.contains("closure")).unwrap();
        for name in ["first; with a sign", closure] {
            let time = of(&profile, name).on_cpu().as_secs_f64();
            assert!((0.1..0.3).contains(&time), "{name} {time}");
            let seconds: Vec<_> = profile.slices(name).map(|(second, _)| second).collect();
            assert!(!seconds.is_empty() && seconds.len() <= 3 && seconds.iter().all(|s| profile.seconds().contains(s)));
        }
    }
}

#[inline(never)]
fn fibonacci(n: u64) -> u64 {
    if n < 2 { black_box(n) } else { black_box(fibonacci(n - 1)) + fibonacci(n - 2) }
}

#[inline(never)]
fn far_down(depth: u64, millis: u64) -> u64 {
    if depth == 0 { one_quarter(4 * millis) } else { black_box(far_down(depth - 1, millis)) + 1 }
}

#[test]
fn recursion_is_shown_and_cut_where_it_is_too_deep() {
    let _clean = Clean::start();
    let client = Client::threads(1);
    let task = delayed(|| {
        let until = cpu() + Duration::from_millis(300);
        while cpu() < until {
            fibonacci(20);
        }
    });
    let (_, profile) = client.profile_during(|| client.compute(&task.name("recursive").call()).unwrap()).unwrap();
    let found = of(&profile, "recursive");
    assert!(found.share("fibonacci") > 0.9, "{profile}");
    let most =
        found.on.stacks().map(|(stack, _)| stack.iter().filter(|f| f.function.contains("fibonacci")).count()).max();
    assert!((3..=21).contains(&most.unwrap()), "{most:?}");
    // Printed, a stack of many functions is as long as it is.
    assert!(profile.to_string().len() < 100_000);

    let deep = delayed(|depth: u64| far_down(depth, 300)).name("deep");
    let (_, profile) = client.profile_during(|| client.compute(&deep.call(3000)).unwrap()).unwrap();
    let found = of(&profile, "deep");
    assert!(found.share("one_quarter") > 0.9, "{profile:#}");
    assert!(found.on.stacks().all(|(stack, _)| stack.len() < 300));
}

#[test]
fn tasks_that_panic_are_sampled_and_fail_as_always() {
    let _clean = Clean::start();
    for client in [Client::threads(2), processes(1, 2)] {
        let panics = delayed(|n: u64| {
            let until = cpu() + Duration::from_micros(300);
            while cpu() < until {
                let caught = std::panic::catch_unwind(|| {
                    if black_box(n) < u64::MAX {
                        std::panic::resume_unwind(Box::new(n));
                    }
                });
                assert!(caught.is_err());
            }
            assert!(n == u64::MAX, "as meant");
            n
        });
        let panics = panics.name("panics");
        let tasks: Vec<_> = (0..600).map(|n| panics.call(n)).collect();
        let work = || {
            let futures = client.submit_all(&tasks).unwrap();
            futures.iter().filter(|future| future.result().unwrap_err().to_string().contains("as meant")).count()
        };
        let (failed, profile) = client.profile_during(work).unwrap();
        assert_eq!(failed, 600);
        assert!(of(&profile, "panics").samples > 5, "{profile}");
        assert!(client.deaths().unwrap().is_empty());
    }
}

#[test]
fn time_off_the_cpu_is_told_by_system_call() {
    let _clean = Clean::start();
    for client in modes() {
        let sleeps = delayed(|millis: u64| std::thread::sleep(Duration::from_millis(millis))).name("sleeps").call(500);
        let reads = delayed(|| {
            let (mut reader, writer) = std::io::pipe().unwrap();
            let wakes = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(400));
                drop(writer);
            });
            let read = std::io::Read::read(&mut reader, &mut [0]).unwrap();
            wakes.join().unwrap();
            read
        });
        let reads = reads.name("reads").call();
        let work = || (client.compute(&sleeps).unwrap(), client.compute(&reads).unwrap());
        let (_, profile) = client.profile_during(work).unwrap();
        for (name, call, time) in [("sleeps", "nanosleep", 0.5), ("reads", "read", 0.4)] {
            let found = of(&profile, name);
            let off = found.off_cpu().as_secs_f64();
            assert!((time - 0.1..time + 0.1).contains(&off), "{name} {off}: {profile}");
            assert!(found.on_cpu().as_secs_f64() < 0.1, "{profile}");
            let longest = found.off.iter().max_by_key(|(_, time)| **time).unwrap().0;
            assert!(longest.contains(call), "{longest}: {profile}");
        }
    }
}

/// The stack that is left to this thread.
fn stack_left() -> usize {
    let (mut low, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the attributes are those of this thread, read once they are there, and destroyed once.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        assert_eq!(libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes), 0);
        assert_eq!(libc::pthread_attr_getstack(&raw const attributes, &raw mut low, &raw mut size), 0);
        libc::pthread_attr_destroy(&raw mut attributes);
    }
    let here = 0_u8;
    &raw const here as usize - low as usize
}

/// Burns CPU time where so little of the stack is left.
#[inline(never)]
fn near_the_end(left: usize, frame: &[u8]) -> u64 {
    let mut room = [1_u8; 1024];
    room[frame.len() % 1024] = 2;
    if stack_left() > left { black_box(near_the_end(left, black_box(&room))) + 1 } else { burn(60) }
}

#[test]
fn a_task_that_has_almost_used_up_its_stack_survives() {
    let _clean = Clean::start();
    for client in [Client::threads(1), processes(1, 1)] {
        let task = delayed(|left: usize| near_the_end(left, &[]) > 0).name("near the end");
        let work = || {
            // From a few signal frames up to more than is needed.
            for left in (0..12).map(|n| (16 << 10) + n * (24 << 10)) {
                assert!(client.compute(&task.call(left)).unwrap());
            }
        };
        let ((), profile) = client.profile_during(work).unwrap();
        assert!(of(&profile, "near the end").samples > 20, "{profile}");
        assert!(client.deaths().unwrap().is_empty());
    }
}

#[inline(never)]
#[expect(unconditional_recursion, reason = "it is to overflow its stack")]
fn endless(frame: &[u8]) -> u64 {
    let room = [frame[0]; 512];
    black_box(endless(black_box(&room))) + 1
}

#[test]
fn a_stack_that_overflows_is_told_as_always() {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(1).profile(true).allowed_deaths(3).build().unwrap();
    let error = client.compute(&delayed(|| endless(&[1])).name("endless").call()).unwrap_err();
    let deaths = client.deaths().unwrap();
    assert_eq!(deaths.len(), 3, "{error}");
    let is_told = |death: &swath::DeathRecord| matches!(death.cause, swath::DeathCause::Signal(6 | 11));
    assert!(deaths.iter().all(is_told), "{deaths:?}");
    assert!(client.compute(&delayed(|| burn(1) != 1).call()).unwrap());
}

#[test]
fn it_may_be_started_and_stopped_at_any_time() {
    let _clean = Clean::start();
    for client in modes() {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let mut n = 0;
                while !is_over.load(Ordering::Relaxed) {
                    client.compute(&delayed(divided).call(4)).unwrap();
                    n += 1;
                }
                n
            });
            for round in 0..100 {
                let sampled = client.start_profile().unwrap();
                let second = client.start_profile().unwrap();
                if round % 3 == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
                drop(sampled);
                client.profile().unwrap();
                drop(second);
            }
            is_over.store(true, Ordering::Relaxed);
            assert!(worker.join().unwrap() > 0);
        });
        assert!(client.deaths().unwrap().is_empty());
    }
}

/// What is there while threads are sampled: timers of this process, threads, handlers.
fn traces() -> (usize, usize, bool) {
    let timers = std::fs::read_to_string("/proc/self/timers")
        .map_or(0, |text| text.lines().filter(|line| line.starts_with("ID:")).count());
    let names = std::fs::read_dir("/proc/self/task").unwrap();
    let names = names.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
    let is_handled = caught >> (Signal::SIGPROF as i32 - 1) & 1 == 1;
    (timers, names.filter(|name| name.starts_with("swath-profile")).count(), is_handled)
}

#[test]
fn nothing_is_there_while_nobody_looks() {
    let _clean = Clean::start();
    let client = Client::threads(2);
    client.compute(&delayed(divided).call(1)).unwrap();
    assert_eq!(traces(), (0, 0, false));
    let sampled = client.start_profile().unwrap();
    // Its second thread may have begun just now.
    let timers = if std::fs::exists("/proc/self/timers").unwrap() { 2 } else { 0 };
    until("both threads are sampled", || traces() == (timers, 1, true));
    // The threads of a pool that begins, and of one that ends, too.
    let other = Client::threads(3);
    let also = other.start_profile().unwrap();
    drop(other);
    drop(sampled);
    drop(also);
    until("all is gone", || traces() == (0, 0, false));
    let workers = processes(1, 1);
    let inside = delayed(traces).call();
    assert_eq!(workers.compute(&inside).unwrap(), (0, 0, false));
    let sampled = workers.start_profile().unwrap();
    until("they are sampled", || workers.compute(&inside).unwrap().1 == 1);
    assert_eq!(traces(), (0, 0, false), "the host's own threads run no tasks");
    drop(sampled);
    until("all is gone", || workers.compute(&inside).unwrap() == (0, 0, false));
}

#[test]
fn no_call_of_a_task_is_cut_short() {
    let _clean = Clean::start();
    for client in [Client::threads(1), processes(1, 1)] {
        let task = delayed(|| {
            let (reader, writer) = std::io::pipe().unwrap();
            let is_over = AtomicBool::new(false);
            let mut interrupted = 0;
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        nix::unistd::write(&writer, &[1]).unwrap();
                        std::thread::sleep(Duration::from_millis(1));
                    }
                });
                let mut count = |result: Result<usize, Errno>| interrupted += usize::from(result == Err(Errno::EINTR));
                let until = Instant::now() + Duration::from_millis(700);
                while Instant::now() < until {
                    burn(3);
                    count(nix::unistd::read(&reader, &mut [0]));
                    count(nix::unistd::read(&reader, &mut [0]));
                    let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
                    count(poll(&mut fds, PollTimeout::from(20_u8)).map(|n| n as usize));
                    let nap = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
                    // SAFETY: the time is read, and nothing is written.
                    count(Errno::result(unsafe { libc::nanosleep(&raw const nap, std::ptr::null_mut()) }).map(|_| 0));
                }
                assert!(reader.as_raw_fd() >= 0);
                is_over.store(true, Ordering::Relaxed);
            });
            interrupted
        });
        let (interrupted, profile) =
            client.profile_during(|| client.compute(&task.name("calls").call()).unwrap()).unwrap();
        assert!(of(&profile, "calls").samples > 5, "{profile}");
        assert_eq!(interrupted, 0);
    }
}

#[test]
fn a_new_worker_is_sampled_as_the_others() {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(1).profile(true).build().unwrap();
    client.compute(&delayed(divided).name("before").call(200)).unwrap();
    assert!(of(&client.profile().unwrap(), "before").samples > 5);
    client.restart_worker("worker-0", LONG).unwrap();
    client.compute(&delayed(divided).name("after").call(300)).unwrap();
    assert!(of(&client.profile().unwrap(), "after").samples > 5);
    // A task's client sees the same.
    let inside = delayed(|| swath::current_client().unwrap().profile().unwrap().of("after").is_some());
    assert!(client.compute(&inside.call()).unwrap());
}

#[test]
fn async_code_has_it_too() {
    let _clean = Clean::start();
    for client in modes() {
        block_on(async {
            let sampled = client.start_profile_async().await.unwrap();
            client.compute_async(&delayed(divided).call(100)).await.unwrap();
            assert!(client.profile_async().await.unwrap().of("divided").is_some());
            drop(sampled);
        });
        client.shutdown();
        assert!(client.start_profile().is_err() || client.mode() != Mode::Processes);
    }
}

#[test]
fn functions_of_the_standard_library_are_folded() {
    let _clean = Clean::start();
    let client = Client::threads(1);
    let sorts = delayed(|| {
        let until = cpu() + Duration::from_millis(300);
        let mut sum = 0;
        while cpu() < until {
            let mut list: Vec<u64> = (0..20_000_u64).map(|x| x.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
            list.sort();
            sum ^= black_box(list)[7];
        }
        sum
    });
    let (_, profile) = client.profile_during(|| client.compute(&sorts.name("sorts").call()).unwrap()).unwrap();
    let found = of(&profile, "sorts");
    let is_std = |origin| move |f: &&swath::client::profile::Frame| f.origin == origin;
    let run = |frames: Frames| {
        let shown = found.with(frames);
        let longest =
            shown.on.stacks().map(|(stack, _)| stack.into_iter().filter(is_std(FrameOrigin::Std)).count()).max();
        longest.unwrap()
    };
    assert!(run(Frames::All) > run(Frames::Own) && run(Frames::Own) >= 1, "{profile:#}");
    assert_eq!(found.with(Frames::Own).on.total(), found.on.total());
}

static SEEN: AtomicU32 = AtomicU32::new(0);

extern "C" fn own_handler(_: i32) {
    SEEN.fetch_add(1, Ordering::Relaxed);
}

fn set_own_handler() {
    let action = SigAction::new(SigHandler::Handler(own_handler), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler counts, and does nothing else.
    unsafe { sigaction(Signal::SIGPROF, &action) }.unwrap();
}

/// Has the process's CPU time send SIGPROF each millisecond, or no more.
fn set_own_timer(micros: i64) {
    let every = libc::timeval { tv_sec: 0, tv_usec: micros };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: the timer is read, and nothing is written.
    let set = unsafe { libc::syscall(libc::SYS_setitimer, libc::ITIMER_PROF, &raw const timer, 0) };
    assert_eq!(set, 0);
}

fn off(client: &Client) -> Option<ProfileOff> {
    match client.start_profile() {
        Ok(_) => None,
        Err(Error::NotSampled { why, .. }) => Some(why),
        Err(other) => panic!("{other}"),
    }
}

/// Played by processes of their own, since a process has one handler for a signal.
#[test]
fn roles() {
    let Some(role) = my_role() else { return };
    match &*role {
        "has a handler" => {
            set_own_handler();
            for client in [Client::threads(1), Client::sync()] {
                assert_eq!(off(&client), Some(ProfileOff::HandlerInUse));
                let (_, why) =
                    client.profile().unwrap().off().iter().next().map(|(w, o)| (w.clone(), o.clone())).unwrap();
                assert_eq!(why, ProfileOff::HandlerInUse);
                assert!(client.profile().unwrap().to_string().contains("a handler of its own for the signal SIGPROF"));
            }
            set_own_timer(1000);
            until("its timer and its handler work", || burn(10) != 1 && SEEN.load(Ordering::Relaxed) > 5);
            set_own_timer(0);
            // Its workers are processes of their own, in which it has set nothing.
            let client = processes(1, 1);
            let (_, profile) = client.profile_during(|| client.compute(&delayed(divided).call(200))).unwrap();
            assert!(of(&profile, "divided").samples > 5);
            say("so it is");
        }
        "has a timer" => {
            // Long enough not to end the process, which has no handler.
            set_own_timer(999_999);
            assert_eq!(off(&Client::threads(1)), Some(ProfileOff::TimerInUse));
            set_own_timer(0);
            let client = Client::threads(1);
            assert_eq!(off(&client), None);
            let (_, profile) = client.profile_during(|| client.compute(&delayed(divided).call(200))).unwrap();
            assert!(profile.off().is_empty() && of(&profile, "divided").samples > 5);
            say("so it is");
        }
        "has it blocked" => {
            let blocked = SigSet::from(Signal::SIGPROF);
            blocked.thread_block().unwrap();
            let client = Client::threads(1);
            assert!(client.compute(&delayed(|| burn(50) != 1).call()).unwrap());
            assert_eq!(off(&client), Some(ProfileOff::Blocked));
            drop(client);
            blocked.thread_unblock().unwrap();
            assert_eq!(off(&Client::threads(1)), None);
            say("so it is");
        }
        "sets a handler meanwhile" => {
            let client = Client::threads(1);
            let sampled = client.start_profile().unwrap();
            let done = client.submit(&delayed(divided).call(400)).unwrap();
            until("it is sampled", || client.profile().unwrap().of("divided").is_some());
            set_own_handler();
            until("it is off", || client.profile().unwrap().off().values().any(|why| *why == ProfileOff::HandlerInUse));
            let seen = SEEN.load(Ordering::Relaxed);
            done.result().unwrap();
            assert_eq!(SEEN.load(Ordering::Relaxed), seen, "no signal comes any more");
            drop(sampled);
            assert_eq!(off(&client), Some(ProfileOff::HandlerInUse), "it is left alone");
            nix::sys::signal::raise(Signal::SIGPROF).unwrap();
            assert_eq!(SEEN.load(Ordering::Relaxed), seen + 1);
            say("so it is");
        }
        "is signalled by others" => {
            let client = Client::threads(2);
            let _sampled = client.start_profile().unwrap();
            let done = client.submit(&delayed(divided).call(300)).unwrap();
            while !done.is_done() {
                nix::sys::signal::raise(Signal::SIGPROF).unwrap();
                nix::sys::signal::kill(nix::unistd::getpid(), Signal::SIGPROF).unwrap();
                let value = libc::sigval { sival_ptr: usize::MAX as *mut libc::c_void };
                // SAFETY: the value is a number to whoever gets it.
                assert_eq!(unsafe { libc::sigqueue(libc::getpid(), libc::SIGPROF, value) }, 0);
            }
            let found = of(&client.profile().unwrap(), "divided");
            assert!((10..60).contains(&found.samples), "{}", found.samples);
            say("so it is");
        }
        "forks" => {
            let client = Client::threads(1);
            let _sampled = client.start_profile().unwrap();
            // SAFETY: the child goes on in this thread alone.
            match unsafe { nix::unistd::fork() }.unwrap() {
                nix::unistd::ForkResult::Child => {
                    assert!(client.profile().is_err());
                    // None of threads: a lock that wakes threads may have been held when the process was forked.
                    let own = Client::sync();
                    assert_eq!(off(&own), Some(ProfileOff::Forked));
                    own.compute(&delayed(divided).call(10)).unwrap();
                    assert!(own.profile().unwrap().is_empty());
                    drop(own);
                    // SAFETY: it ends the process, and nothing of its parent's.
                    unsafe { libc::_exit(42) };
                }
                nix::unistd::ForkResult::Parent { child } => {
                    let status = nix::sys::wait::waitpid(child, None).unwrap();
                    assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 42));
                }
            }
            client.compute(&delayed(divided).call(100)).unwrap();
            assert!(of(&client.profile().unwrap(), "divided").samples > 2);
            say("so it is");
        }
        other => panic!("no role {other}"),
    }
}

#[test]
fn a_programs_own_use_of_the_signal_is_left_alone() {
    let _clean = Clean::start();
    for name in ["has a handler", "has a timer", "has it blocked", "sets a handler meanwhile", "is signalled by others"]
    {
        assert_eq!(play(role("roles", name)), ["so it is"], "{name}");
    }
}

#[test]
fn a_fork_of_a_sampled_program_is_told_that_it_is_not() {
    let _clean = Clean::start();
    assert_eq!(play(role("roles", "forks")), ["so it is"]);
}
