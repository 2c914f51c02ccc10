//! What only clients with worker processes have, and how clients are made.

use crate::common::{
    Clean, LONG, directory, is_alive, my_role, note, notes, path, pids, play, processes, role, say, send_signal, touch,
    until, wait_for_file,
};
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};
use swath::client::RestartPolicy;
use swath::delayed::value;
use swath::error::{Cause, LogLine, OutputStream};
use swath::memory::MemoryLimit;
use swath::status::explain::Why;
use swath::status::{Mode, WorkerState};
use swath::{Buffer, Client, Error, delayed, try_delayed};

fn me() -> String {
    swath::task::current_task().unwrap().worker
}

fn gate(file: String, x: i64) -> i64 {
    if wait_for_file(&file) { x } else { -1 }
}

#[test]
fn a_task_that_a_worker_has_waits_for_more_urgent_ones() {
    fn begun_gate(file: String, open: String) {
        note(&file, "begun");
        wait_for_file(&open);
    }
    fn run(file: String, x: i64) {
        note(&file, x);
    }
    let _clean = Clean::start();
    for client in [Client::threads(1), processes(1, 1)] {
        let dir = directory();
        let (file, open) = (path(&dir, "order"), path(&dir, "gate"));
        let blocker = client.submit(&delayed(begun_gate).call(&*file, &*open)).unwrap();
        until("it runs", || !notes(&file).is_empty());
        let submit = |priority: i64| {
            let call = delayed(run).priority(priority as i32).call(&*file, priority);
            client.submit(&call).unwrap()
        };
        let futures: Vec<_> = [0, 2, -1, 1, 3].into_iter().map(submit).collect();
        // The first one went to the worker at once; the fourth one finds no room there.
        until("it is taken back", || matches!(&client.explain(&futures[0]).unwrap().why, Why::Busy { on: None, .. }));
        touch(&open);
        client.gather(&futures).unwrap();
        blocker.result().unwrap();
        assert_eq!(notes(&file), ["begun", "3", "2", "1", "0", "-1"], "{:?}", client.mode());
    }
}

#[test]
fn high_priorities_run_first() {
    fn run(file: String, x: i64) {
        note(&file, x);
    }
    let _clean = Clean::start();
    for client in [Client::threads(1), processes(1, 1)] {
        let dir = directory();
        let (file, open) = (path(&dir, "order"), path(&dir, "gate"));
        let blocker = client.submit(&delayed(gate).call(&*open, 1)).unwrap();
        // In one graph, and in graphs that come later.
        let first: Vec<_> = [0, 5, -3].iter().map(|&p| delayed(run).priority(p).call(&*file, i64::from(p))).collect();
        let mut futures = client.submit_all(&first).unwrap();
        futures.push(client.submit(&delayed(run).priority(9).call(&*file, 9)).unwrap());
        futures.push(client.submit(&delayed(run).priority(1).call(&*file, 1)).unwrap());
        futures.push(client.submit(&delayed(run).call(&*file, 100)).unwrap());
        touch(&open);
        client.gather(&futures).unwrap();
        assert_eq!(blocker.result().unwrap(), 1);
        let order: Vec<i64> = notes(&file).iter().map(|l| l.parse().unwrap()).collect();
        // A worker whose task has just ended may begin one before it hears of what came later.
        let within: Vec<i64> = order.iter().copied().filter(|x| [0, 5, -3].contains(x)).collect();
        assert_eq!(within, [5, 0, -3], "{order:?} with {client}");
        assert_eq!(order.len(), 6);
    }
}

/// A list that takes as long to encode as a file is not there.
#[derive(Clone, serde::Deserialize)]
struct SlowToEncode {
    file: String,
    numbers: Vec<u64>,
}

impl serde::Serialize for SlowToEncode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = serializer.serialize_struct("SlowToEncode", 2)?;
        fields.serialize_field("file", &self.file)?;
        // What is too long for a small result, or is only sized, ends before.
        fields.serialize_field("numbers", &self.numbers)?;
        if !std::any::type_name::<S>().contains("Sizer") {
            wait_for_file(&self.file);
        }
        fields.end()
    }
}

#[test]
fn a_worker_that_sends_a_large_result_runs_tasks_meanwhile() {
    let _clean = Clean::start();
    let client = processes(1, 1);
    let dir = directory();
    let open = path(&dir, "gate");
    let make = |file: String| SlowToEncode { file, numbers: vec![u64::MAX; 400_000] };
    let held = client.submit(&delayed(make).call(&*open)).unwrap();
    until("it is held", || held.is_done());
    std::thread::scope(|scope| {
        let fetched = scope.spawn(|| held.result_timeout(LONG).map(|value| value.numbers.len()));
        for x in 0..10 {
            let task = client.submit(&delayed(|x: i64| x + 1).call(x)).unwrap();
            assert_eq!(task.result_timeout(LONG).unwrap(), x + 1);
            std::thread::sleep(Duration::from_millis(5));
        }
        // Only now can it have been encoded.
        touch(&open);
        assert_eq!(fetched.join().unwrap().unwrap(), 400_000);
    });
}

#[test]
fn tasks_go_where_they_are_pinned() {
    let _clean = Clean::start();
    let client = Client::builder()
        .workers(3)
        .threads(1)
        .worker_tags(1, ["gpu", "large"])
        .worker_tags(2, ["large"])
        .build()
        .unwrap();
    client.wait_for_workers(3, LONG).unwrap();
    for name in ["worker-2", "worker-0", "worker-1"] {
        let all = vec![delayed(me).on_worker(name).call(), delayed(me).on_worker(name).call()];
        assert_eq!(client.compute(&all).unwrap(), [name, name]);
    }
    let tagged: Vec<_> = (0..10).map(|_| delayed(me).tag("gpu").call()).collect();
    assert!(client.compute(&tagged).unwrap().iter().all(|w| w == "worker-1"));
    let large: Vec<_> = (0..10).map(|_| delayed(me).tag("large").call()).collect();
    assert!(client.compute(&large).unwrap().iter().all(|w| w != "worker-0"));
}

#[test]
fn what_can_never_run_fails_at_once() {
    let _clean = Clean::start();
    let client = Client::local(2, 1, "256MB").unwrap();
    let infeasible = [
        delayed(|| 1_i64).on_worker("worker-7").call(),
        delayed(|| 1_i64).tag("gpu").call(),
        delayed(|| 1_i64).memory(10 << 30).call(),
    ];
    for lazy in infeasible {
        let error = (&lazy + 1).compute(&client).unwrap_err();
        let task = error.task().unwrap();
        assert!(matches!(task.cause(), Cause::Infeasible { .. }), "{error}");
        assert_eq!(task.key(), lazy.key());
        assert_eq!(client.submit(&lazy).unwrap().result().unwrap_err().task().unwrap().key(), lazy.key());
    }
    assert_eq!(delayed(|| 1_i64).memory(100 << 20).call().compute(&client).unwrap(), 1);
}

#[test]
fn memory_estimates_keep_tasks_apart() {
    fn alone(file: String) -> usize {
        note(&file, "in");
        let inside = notes(&file).iter().map(|l| if l == "in" { 1_isize } else { -1 }).sum::<isize>();
        std::thread::yield_now();
        note(&file, "out");
        inside as usize
    }
    let _clean = Clean::start();
    let client = Client::local(1, 4, "400MB").unwrap();
    let dir = directory();
    let all: Vec<_> = (0..30).map(|_| delayed(alone).memory(300 << 20).call(path(&dir, "f"))).collect();
    assert_eq!(client.compute(&all).unwrap(), [1; 30]);
}

#[test]
fn the_number_of_workers_changes() {
    let _clean = Clean::start();
    let client = processes(1, 1);
    let kept = client.persist(&delayed(|x: i64| x * x).map(0..20)).unwrap();
    client.scale(3).unwrap();
    client.wait_for_workers(3, LONG).unwrap();
    assert_eq!(client.workers().unwrap().len(), 3);
    let more = client.persist(&delayed(|x: i64| x + 1).map(&kept)).unwrap();
    let before = pids(&client);
    client.scale(1).unwrap();
    until("two workers are gone", || client.workers().unwrap().len() == 1);
    assert_eq!(before.iter().filter(|&&pid| is_alive(pid)).count(), 1);
    assert_eq!(client.compute(&more).unwrap(), (0..20).map(|x| x * x + 1).collect::<Vec<_>>());
    client.scale(2).unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    assert_eq!(client.compute(&kept).unwrap(), (0..20).map(|x| x * x).collect::<Vec<_>>());
    assert!(matches!(client.scale(0).unwrap_err(), Error::Invalid { .. }));
    assert!(client.deaths().unwrap().is_empty(), "{:?}", client.deaths());
}

#[test]
fn scaling_while_work_runs() {
    let _clean = Clean::start();
    let client = processes(2, 1);
    let lazies = delayed(|x: u64| (0..2000).fold(x, |a: u64, b| a ^ (a.wrapping_mul(b) + 1))).map(0..3000);
    let wanted = Client::sync().compute(&lazies).unwrap();
    let futures = client.submit_all(&lazies).unwrap();
    for n in [4, 1, 3, 2] {
        client.scale(n).unwrap();
        futures[n * 100].result().unwrap();
    }
    assert_eq!(client.gather(&futures).unwrap(), wanted);
}

#[test]
fn restarted_workers_go_on() {
    let _clean = Clean::start();
    let client = processes(2, 1);
    let kept = client.persist(&delayed(|x: i64| x * x).map(0..10)).unwrap();
    assert_eq!(client.compute(&kept).unwrap().len(), 10);
    let before = pids(&client);
    client.restart().unwrap();
    until("the old ones are gone", || before.iter().all(|&pid| !is_alive(pid)));
    client.wait_for_workers(2, LONG).unwrap();
    until("new ones are there", || {
        let now = pids(&client);
        now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
    });
    assert_eq!(client.compute(&kept).unwrap(), (0..10).map(|x| x * x).collect::<Vec<_>>());
    assert_eq!(delayed(|x: i64| x).call(4).compute(&client).unwrap(), 4);
}

#[test]
fn what_is_restarted_on_command_is_replaced_also_where_the_dead_are_not() {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).restart_policy(RestartPolicy::Never).build().unwrap();
    client.wait_for_workers(1, LONG).unwrap();
    let first = pids(&client);
    client.restart_worker("worker-0", LONG).unwrap();
    let second = pids(&client);
    assert!(second.len() == 1 && second != first);
    client.restart().unwrap();
    until("there is a new one", || pids(&client).len() == 1 && pids(&client) != second);
    assert_eq!(delayed(|x: i64| x).call(4).compute(&client).unwrap(), 4);
    assert!(client.deaths().unwrap().is_empty());
}

#[test]
fn workers_are_described() {
    let _clean = Clean::start();
    let client = Client::builder().workers(2).threads(3).memory_limit("512MiB").name("reports").build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    let workers = client.workers().unwrap();
    assert_eq!(workers.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["worker-0", "worker-1"]);
    for worker in workers {
        assert_eq!((worker.threads, worker.limit, worker.tasks), (3, Some(512 << 20), 0));
        assert_eq!(worker.state, WorkerState::Running);
        assert!(is_alive(worker.pid) && worker.memory > 0 && worker.memory < 100 << 20, "{worker:?}");
    }
    let text = client.to_string();
    for part in ["reports", "processes", "2 workers", "3 threads", "536.9 MB", "running"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(matches!(client.wait_for_workers(3, Duration::from_millis(50)), Err(Error::Invalid { .. })));
}

#[test]
fn in_process_modes_have_no_workers_to_change() {
    let _clean = Clean::start();
    for client in [Client::sync(), Client::threads(2)] {
        assert!(matches!(client.scale(2), Err(Error::Unsupported { .. })));
        assert!(matches!(client.restart(), Err(Error::Unsupported { .. })));
    }
}

#[allow(clippy::print_stdout, clippy::print_stderr)]
fn speak(x: i64) -> i64 {
    println!("out {x}");
    eprintln!("err {x}");
    log::error!("logged {x}");
    x
}

fn texts(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|l| l.text.as_str()).collect()
}

#[test]
fn output_is_kept_with_the_task_it_is_from() {
    let _clean = Clean::start();
    let client = Client::builder().workers(2).threads(1).forward_output(false).build().unwrap();
    for round in 0..20 {
        let quiet = client.map(|x: i64| x + 1, 0..50_i64).unwrap();
        let futures: Vec<_> = (0..4)
            .map(|i| {
                let x = 10 * round + i;
                let task = delayed(speak).on_worker(format!("worker-{}", i % 2)).call(x);
                (x, client.submit(&task).unwrap())
            })
            .collect();
        client.gather(&quiet).unwrap();
        for (x, future) in &futures {
            future.result().unwrap();
            let mine = |l: &LogLine| l.text.ends_with(&format!(" {x}"));
            until(&format!("the lines of {} are there", future.key()), || {
                client.logs_of(future).unwrap().iter().filter(|l| mine(l)).count() == 3
            });
            let mut lines = client.logs_of(future).unwrap();
            lines.retain(mine);
            assert!(lines.iter().all(|l| l.worker == format!("worker-{}", x % 2)), "{lines:?}");
            let (out, err): (Vec<_>, Vec<_>) = lines.into_iter().partition(|l| l.stream == OutputStream::Stdout);
            assert_eq!(texts(&out), [format!("out {x}")]);
            assert_eq!(err[0].text, format!("err {x}"));
            assert!(err[1].text.ends_with(&format!("logged {x}")), "{err:?}");
        }
    }
    // By now it is known that tasks print here, so no two of them are mixed up.
    let logs = client.logs().unwrap();
    let last = logs.last().unwrap();
    let speakers = last.tasks.iter().filter(|t| t.starts_with("speak")).count();
    assert_eq!(speakers, 1, "{last:?}");
}

#[test]
fn a_task_that_prints_much_or_long_is_heard_while_it_runs() {
    #[allow(clippy::print_stdout)]
    fn chatter(file: String) {
        for i in 0..20_000 {
            println!("line {i} of many, more than a pipe can hold at a time");
        }
        println!("waiting");
        while !std::path::Path::new(&file).exists() {
            std::thread::yield_now();
        }
    }
    let _clean = Clean::start();
    let dir = directory();
    let file = dir.path().join("go on");
    let client = Client::builder().workers(1).threads(1).forward_output(false).build().unwrap();
    let future = client.submit(&delayed(chatter).call(file.to_str().unwrap())).unwrap();
    until("its last line is there", || {
        let lines = client.logs_of(&future).unwrap();
        lines.last().is_some_and(|l| l.text == "waiting" && l.tasks == [future.key()])
    });
    let lines = client.logs().unwrap();
    let numbers: Vec<usize> =
        lines.iter().filter_map(|l| l.text.strip_prefix("line ")?.split(' ').next()?.parse().ok()).collect();
    assert!(numbers.len() > 100 && numbers.windows(2).all(|w| w[1] == w[0] + 1), "{numbers:?}");
    std::fs::write(&file, "").unwrap();
    future.result().unwrap();
}

#[test]
fn last_words_of_a_killed_worker_are_kept() {
    #[allow(clippy::print_stderr)]
    fn dies() {
        eprintln!("last words");
        std::process::abort();
    }
    let _clean = Clean::start();
    let client = Client::builder().workers(1).allowed_deaths(1).forward_output(false).build().unwrap();
    let future = client.submit(&delayed(dies).call()).unwrap();
    future.result().unwrap_err();
    let lines = client.logs_of(&future).unwrap();
    assert!(texts(&lines).contains(&"last words"), "{lines:?}: {:?}", client.logs());
    assert!(client.deaths().unwrap()[0].last_lines.iter().any(|l| l.text == "last words"));
}

#[test]
fn the_record_of_a_death_says_which_stream_its_last_line_is_from() {
    #[allow(clippy::print_stdout, clippy::print_stderr)]
    fn dies(to_stdout: bool) {
        match to_stdout {
            true => println!("to stdout"),
            false => eprintln!("to stderr"),
        }
        std::process::abort();
    }
    let _clean = Clean::start();
    let client = Client::builder().workers(1).allowed_deaths(1).forward_output(false).build().unwrap();
    for (to_stdout, stream) in [(true, OutputStream::Stdout), (false, OutputStream::Stderr)] {
        let future = client.submit(&delayed(dies).call(to_stdout)).unwrap();
        let error = future.result().unwrap_err().to_string();
        assert!(error.contains(&format!("last line on {stream}: to {stream}")), "{error}");
        let record = client.deaths().unwrap().pop().unwrap();
        let last = record.last_lines.last().unwrap();
        assert_eq!((last.stream, &last.text, &last.tasks), (stream, &format!("to {stream}"), &vec![future.key()]));
    }
}

#[test]
fn panics_have_a_backtrace_where_it_is_asked_for() {
    fn deep_down(x: i64) -> i64 {
        panic!("at {x}")
    }
    let _clean = Clean::start();
    for (asked, there) in [("1", true), ("0", false)] {
        let client = Client::builder().workers(1).threads(1).worker_env("RUST_BACKTRACE", asked).build().unwrap();
        let error = delayed(deep_down).call(3).compute(&client).unwrap_err();
        let Cause::Panic { backtrace, .. } = error.task().unwrap().cause() else { panic!("{error}") };
        assert_eq!(backtrace.contains("deep_down"), there, "{backtrace}");
        assert_eq!(backtrace.is_empty(), !there);
    }
}

#[test]
fn workers_have_their_own_environment_and_directory() {
    let _clean = Clean::start();
    let dir = directory();
    let client = Client::builder()
        .workers(1)
        .worker_env("SWATH_TEST_COLOUR", "blue")
        .local_directory(dir.path())
        .build()
        .unwrap();
    let colour = delayed(|name: String| std::env::var(name).ok());
    assert_eq!(colour.call("SWATH_TEST_COLOUR").compute(&client).unwrap().as_deref(), Some("blue"));
    assert!(std::env::var("SWATH_TEST_COLOUR").is_err());
    // Processes that tasks start are no workers.
    assert_eq!(colour.call("SWATH_WORKER_PROCESS").compute(&client).unwrap(), None);
    let cwd = delayed(|| std::env::current_dir().unwrap()).call().compute(&client).unwrap();
    assert_eq!(cwd, dir.path().canonicalize().unwrap());
}

#[test]
fn bad_options_are_named() {
    let _clean = Clean::start();
    let what = |result: swath::Result<Client>| match result {
        Err(Error::Invalid { what, why }) => format!("{what}: {why}"),
        other => panic!("{other:?}"),
    };
    let build = Client::builder;
    assert!(what(build().workers(0).build()).contains("workers: 0"));
    assert!(what(build().workers(100_000).build()).contains("workers"));
    assert!(what(build().threads(0).build()).contains("threads: 0"));
    assert!(what(build().mode(Mode::Threads).threads(0).build()).contains("threads: 0"));
    assert!(what(build().mode(Mode::Threads).threads(1_000_000).build()).contains("threads: 1000000"));
    assert!(what(build().threads(100_000).build()).contains("threads"));
    assert!(what(Client::local(1, 1, "2 apples")).contains("apples"));
    assert!(what(Client::local(1, 1, 0_u64)).contains("memory limit"));
    assert!(what(Client::local(1, 1, 1.5)).contains("1.5"));
    // Megabytes were meant.
    for few in
        [what(Client::local(1, 1, 512)), what(Client::local(1, 1, "512")), what(build().memory_limit(2e-9).build())]
    {
        assert!(few.contains("bytes are too few") && few.contains("`512MB`"), "{few}");
    }
    assert!(what(Client::local(1, 1, -0.5)).contains("-0.5"));
    assert!(what(build().local_directory("/nowhere/at/all").build()).contains("/nowhere/at/all"));
    assert!(what(build().workers(1).worker_tags(1, ["x"]).build()).contains("worker 1"));
    assert!(what(build().worker_env("A\0B", "x").build()).contains("worker_env"));
    assert!(what(build().worker_env("", "x").build()).contains("worker_env"));
    assert!(what(build().worker_env("A=B", "x").build()).contains("worker_env"));
    assert!(matches!(Client::connect("/nowhere/at/all"), Err(Error::Connect { .. })));
}

#[test]
fn limits_are_understood() {
    let _clean = Clean::start();
    let limit = |m: MemoryLimit| Client::local(1, 1, m).unwrap().workers().unwrap()[0].limit;
    assert_eq!(limit("2GB".into()), Some(2_000_000_000));
    assert_eq!(limit("512 MiB".into()), Some(512 << 20));
    assert_eq!(limit("none".into()), None);
    assert_eq!(limit(123_456_789_u64.into()), Some(123_456_789));
    let (half, percent) = (limit(0.5.into()).unwrap(), limit("50%".into()).unwrap());
    assert_eq!(half, percent);
}

#[test]
fn tasks_are_replayed_here() {
    fn check(x: i64, y: Vec<i64>) -> Result<i64, String> {
        if std::env::var("SWATH_TEST_REPLAY").is_ok() { Err(format!("{x} {y:?}")) } else { Ok(x + y[0] + y[1]) }
    }
    let _clean = Clean::start();
    let client = Client::builder().workers(1).worker_env("SWATH_TEST_REPLAY", "1").build().unwrap();
    let inc = delayed(|x: i64| x + 1);
    let bad = try_delayed(check).call(inc.call(1), vec![inc.call(2), value(10)]);
    let last = (&bad * 10).map(|x: i64| x + 1);
    assert!(last.compute(&client).is_err());
    // Here it works: the rest is computed from its result.
    assert_eq!(client.replay(&bad).unwrap(), 15);
    assert_eq!(client.replay(&last).unwrap(), 151);
    assert_eq!(client.replay(&inc.call(5)).unwrap(), 6);
    let panics = delayed(|x: i64| -> i64 { panic!("again {x}") }).call(inc.call(1));
    for client in [&client, &Client::sync(), &Client::threads(1)] {
        let caught = std::panic::catch_unwind(AssertUnwindSafe(|| client.replay(&panics))).unwrap_err();
        assert_eq!(caught.downcast_ref::<String>().unwrap(), "again 2");
        let error = client.replay(&try_delayed(|x: i64| Err::<i64, _>(x.to_string())).call(4)).unwrap_err();
        assert_eq!(error.task().unwrap().downcast::<String>().unwrap(), "4");
    }
}

/// Played by processes of their own.
#[test]
fn roles() {
    let Some(role) = my_role() else { return };
    match &*role {
        "from_env" => match Client::from_env() {
            Ok(client) => say(format!("{} {}", client.mode(), client)),
            Err(e) => say(format!("error {e}")),
        },
        "keys" => {
            let pure = delayed(|x: i64| x + 1).pure().call(1);
            let plain = delayed(|x: i64| x + 1).call(&pure);
            let list = delayed(|xs: Vec<i64>| xs.len()).pure().call(vec![pure.clone(), value(3)]);
            say(format!("{} {} {}", pure.key(), plain.key(), list.key()));
        }
        other => panic!("no role {other}"),
    }
}

#[test]
fn mode_and_sizes_come_from_the_environment() {
    let _clean = Clean::start();
    let from = |vars: &[(&str, &str)]| {
        let mut command = role("behaviour::processes::roles", "from_env");
        for name in ["SWATH_CLUSTER", "SWATH_SCHEDULER", "SWATH_WORKERS", "SWATH_THREADS", "SWATH_MEMORY_LIMIT"] {
            command.env_remove(name);
        }
        play({
            command.envs(vars.iter().copied());
            command
        })
        .remove(0)
    };
    assert!(from(&[("SWATH_SCHEDULER", "sync")]).starts_with("sync "));
    let threads = from(&[("SWATH_SCHEDULER", "threads"), ("SWATH_THREADS", "3")]);
    assert!(threads.starts_with("threads ") && threads.contains('3'), "{threads}");
    let default = from(&[("SWATH_WORKERS", "2"), ("SWATH_THREADS", "3"), ("SWATH_MEMORY_LIMIT", "300MB")]);
    assert!(default.starts_with("processes ") && default.contains("2 workers x 3 threads"), "{default}");
    assert!(from(&[]).starts_with("processes "));
    assert!(from(&[("SWATH_SCHEDULER", "fibres")]).contains("SWATH_SCHEDULER"));
    assert!(from(&[("SWATH_WORKERS", "many")]).contains("SWATH_WORKERS"));
    assert!(from(&[("SWATH_THREADS", "-1")]).contains("SWATH_THREADS"));
    assert!(from(&[("SWATH_MEMORY_LIMIT", "much")]).contains("SWATH_MEMORY_LIMIT"));
    for (name, value) in [("SWATH_WORKERS", "0"), ("SWATH_WORKERS", "99999"), ("SWATH_THREADS", "0")] {
        assert!(from(&[(name, value)]).contains(&format!("bad value for {name}: {value}")));
    }
    for limit in ["1", "150%"] {
        let error = from(&[("SWATH_MEMORY_LIMIT", limit)]);
        assert!(error.contains("bad value for SWATH_MEMORY_LIMIT: "), "{error}");
    }
    assert!(from(&[("SWATH_CLUSTER", "/nowhere/at/all")]).contains("/nowhere/at/all"));
}

#[test]
fn nothing_at_all_is_refused_in_every_mode() {
    for mode in [Mode::Sync, Mode::Threads, Mode::Processes] {
        let builder = || Client::builder().mode(mode);
        for (builder, name) in [
            (builder().workers(0), "workers"),
            (builder().threads(0), "threads"),
            (builder().allowed_deaths(0), "allowed_deaths"),
            (builder().recycle_after(0), "recycle_after"),
            (builder().max_graphs(0), "max_graphs"),
            (builder().start_timeout(Duration::ZERO), "start_timeout"),
            (builder().worker_timeout(Duration::ZERO), "worker_timeout"),
        ] {
            match builder.build() {
                Err(Error::Invalid { what, why }) => assert!(what == name && why.starts_with("0; "), "{what}: {why}"),
                other => panic!("{name} in {mode}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_name_that_cannot_be_shown_is_refused_in_every_mode() {
    for mode in [Mode::Sync, Mode::Threads, Mode::Processes] {
        for name in ["", "a/b\n", "\x1b[2J"] {
            let error = Client::builder().mode(mode).name(name).build().unwrap_err();
            assert!(error.to_string().starts_with("bad value for name: "), "{name:?}: {error}");
        }
        for cluster in ["", "a b", "a/b\n"] {
            let error = Client::builder().mode(mode).cluster(cluster).build().unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{cluster:?}: {error}");
        }
    }
}

#[test]
fn bad_settings_are_told_under_their_names() {
    let text = |builder: swath::client::Builder| builder.workers(1).build().unwrap_err().to_string();
    assert!(text(Client::builder().spill_limit(0_u64)).starts_with("bad value for spill_limit: 0 bytes"));
    assert!(
        text(Client::builder().shared_memory_limit(0_u64)).starts_with("bad value for shared_memory_limit: 0 bytes")
    );
    for (builder, name) in [
        (Client::builder().shared_memory_limit(512), "shared_memory_limit"),
        (Client::builder().spill_limit(512), "spill_limit"),
    ] {
        let text = text(builder);
        assert!(text.starts_with(&format!("bad value for {name}: 512 bytes are too few")), "{text}");
        assert!(text.contains("need 1.0 MB at least; a number without a unit is in bytes"), "{text}");
    }
    let dir = directory();
    let error = Client::sync().events().unwrap().save(dir.path()).unwrap_err().to_string();
    assert!(error.contains(&dir.path().display().to_string()) && !error.contains("used up"), "{error}");
}

#[test]
fn what_keeps_a_type_from_crossing_says_what_to_do() {
    #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
    struct Sparse {
        #[serde(skip_serializing_if = "Option::is_none")]
        maybe: Option<u8>,
        rest: String,
    }
    #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
    struct Flat {
        #[serde(flatten)]
        rest: std::collections::BTreeMap<String, u8>,
    }
    let _clean = Clean::start();
    let client = crate::common::processes(1, 1);
    let sparse = delayed(|s: Sparse| s.rest.len()).call(Sparse { maybe: None, rest: "a longer text".to_string() });
    let error = client.compute(&sparse).unwrap_err().to_string();
    assert!(error.contains("skip_serializing_if") && error.contains("swath::bag::Json"), "{error}");
    let flat = delayed(|f: Flat| f.rest.len()).call(Flat { rest: [("a".to_string(), 1)].into() });
    let error = client.compute(&flat).unwrap_err().to_string();
    assert!(error.contains("flatten") && error.contains("swath::bag::Json"), "{error}");
}

#[test]
fn keys_are_the_same_each_time() {
    let _clean = Clean::start();
    let keys = || play(role("behaviour::processes::roles", "keys"));
    let first = keys();
    assert_eq!(first.len(), 1);
    assert_eq!(first, keys());
}

#[test]
fn shared_memory_is_given_back() {
    let _clean = Clean::start();
    // Far less than what passes through: each round must give back what it took.
    let client = Client::builder().workers(2).shared_memory_limit("16MiB").build().unwrap();
    for i in 0..60_u8 {
        let made = delayed(|i: u8| swath::Buffer::from_fn(2 << 20, |_| i)).call(i).persist(&client).unwrap();
        let reads: Vec<_> = (0..4).map(|_| delayed(|b: swath::Buffer| b[77]).call(&made)).collect();
        assert_eq!(client.compute(&reads).unwrap(), [i; 4]);
        let given = client.scatter(swath::Buffer::from_slice(&vec![i; 2 << 20])).unwrap();
        assert_eq!(delayed(|b: swath::Buffer| b[78]).call(&given).compute(&client).unwrap(), i);
        assert_eq!(made.compute(&client).unwrap()[5], i);
    }
}

/// Whether a process has a segment of at least 8 MiB mapped.
fn mapped(pid: u32) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let lengths = maps.lines().filter(|l| l.contains("memfd:swath")).filter_map(|l| {
        let (from, to) = l.split(' ').next()?.split_once('-')?;
        Some(u64::from_str_radix(to, 16).ok()? - u64::from_str_radix(from, 16).ok()?)
    });
    lengths.max().is_some_and(|n| n >= 8 << 20)
}

#[test]
fn what_a_worker_made_stays_mapped_elsewhere_until_it_ends() {
    let _clean = Clean::start();
    let client = processes(2, 1);
    let pid_of = |worker: &str| delayed(std::process::id).on_worker(worker).call().compute(&client).unwrap();
    let (maker, reader) = (pid_of("worker-0"), pid_of("worker-1"));
    let make = delayed(|x: f64| Buffer::from_fn(1 << 20, |_| x)).on_worker("worker-0");
    let sum = delayed(|b: Buffer<f64>| b.iter().sum::<f64>()).on_worker("worker-1");
    for x in [1.0, 2.0, 3.0] {
        // Mostly the same memory each time, with other contents.
        let made = make.call(x).persist(&client).unwrap();
        assert_eq!(client.compute(&sum.call(&made)).unwrap(), x * f64::from(1 << 20));
    }
    assert!(mapped(reader));
    send_signal(maker, nix::sys::signal::Signal::SIGKILL);
    until("the reader has let go", || !mapped(reader));
    assert_eq!(client.compute(&sum.call(make.call(4.0))).unwrap(), 4.0 * f64::from(1 << 20));
}

#[test]
fn a_broadcast_value_is_mapped_by_every_worker_and_its_memory_given_back() {
    let _clean = Clean::start();
    let client = Client::builder().workers(2).threads(1).shared_memory_limit("24MiB").build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    let pids = |client: &Client| -> Vec<u32> { client.workers().unwrap().iter().map(|w| w.pid).collect() };
    let values: Vec<f64> = (0..1 << 20).map(f64::from).collect();
    let total: f64 = values.iter().sum();
    let scattered = client.scatter(Buffer::from_slice(&values)).unwrap();
    assert!(!pids(&client).into_iter().any(mapped), "nobody has asked for it");
    let everywhere = client.broadcast(Buffer::from_slice(&values)).unwrap();
    until("both workers have it", || pids(&client).into_iter().all(mapped));
    client.scale(3).unwrap();
    client.wait_for_workers(3, LONG).unwrap();
    until("the new one has it too", || pids(&client).into_iter().all(mapped));
    let sum = delayed(|b: Buffer<f64>| b.iter().sum::<f64>());
    let sums: Vec<_> = (0..3).map(|i| sum.clone().on_worker(format!("worker-{i}")).call(&everywhere)).collect();
    assert_eq!(client.compute(&sums).unwrap(), [total; 3]);
    assert_eq!(client.compute(&sum.call(&scattered)).unwrap(), total);
    drop((everywhere, scattered, sums));
    // Mappings may stay, but not what was in them: there is no room for this beside it.
    until("all have let go", || client.scatter(Buffer::from_slice(&vec![1_u8; 20 << 20])).is_ok());
}

#[test]
fn tasks_that_fill_the_pipe_and_are_followed_do_not_block_their_worker() {
    #[allow(clippy::print_stdout)]
    fn shout(x: i64) -> i64 {
        // No newline: the rest is written when the task has ended, to a pipe that is full after one of these counts.
        for _ in 0..60 + x / 10 % 10 {
            print!("{}", "x".repeat(1000));
        }
        x + 1
    }
    fn quiet(x: i64) -> i64 {
        x + 1
    }
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(2).forward_output(false).build().unwrap();
    let mut links = vec![delayed(quiet).call(0)];
    for i in 1..200 {
        let last = links.last().unwrap();
        links.push(if i % 10 == 0 { delayed(shout).call(last) } else { delayed(quiet).call(last) });
    }
    let kept = client.persist(&links).unwrap();
    assert_eq!(client.compute_timeout(kept.last().unwrap(), LONG).unwrap(), 200);
}

/// How often the threads of a process have gone to sleep.
fn sleeps_of(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let sleeps = threads.flatten().map(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.map_or(0, |count| count.trim().parse::<u64>().unwrap())
    });
    sleeps.sum()
}

#[test]
fn a_worker_sleeps_while_its_task_does_and_hears_at_once_all_the_same() {
    fn naps(seconds: u64) -> bool {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) && !swath::cancelled() {
            std::thread::sleep(Duration::from_millis(100));
        }
        swath::cancelled()
    }
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(1).build().unwrap();
    let future = client.submit(&delayed(naps).call(30)).unwrap();
    let running = || client.workers().unwrap().iter().any(|w| !w.running.is_empty());
    until("the task runs", running);
    let pid = client.workers().unwrap()[0].pid;
    // It looks more often for a moment after a task has begun.
    std::thread::sleep(Duration::from_millis(200));
    let (before, began) = (sleeps_of(pid), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let a_second = (sleeps_of(pid) - before) as f64 / began.elapsed().as_secs_f64();
    // Ten of them are the task's own.
    assert!(a_second < 60.0, "{a_second}");
    client.cancel(&future);
    let began = Instant::now();
    until("the task has ended", || !running());
    assert!(began.elapsed() < Duration::from_secs(5), "the cancellation has arrived, and the task listens");
}
