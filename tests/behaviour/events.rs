//! The log of events.

use crate::common::LONG;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use swath::client::{Happened, WaitFor};
use swath::error::DeathCause;
use swath::events::diagnosis::Extent;
use swath::events::saved::{SavedLog, Use};
use swath::events::{Event, EventFilter, EventKind, EventLog, Outcome, death_cause};
use swath::{Client, cancelled, delayed, try_delayed};

fn spin(ms: u64) -> u64 {
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(ms) {
        std::hint::spin_loop();
    }
    ms
}

/// The end of a graph is noted as soon as its last result is told, which may be a moment later.
fn log_with_end(client: &Client, graph: u32) -> EventLog {
    let began = Instant::now();
    loop {
        let log = client.events().unwrap();
        if log.events().iter().any(|e| matches!(e.kind, EventKind::GraphFinished { graph: g, .. } if g == graph)) {
            return log;
        }
        assert!(began.elapsed() < LONG, "graph {graph} does not end: {log:?}");
        std::thread::yield_now();
    }
}

pub fn of_graphs_and_tasks(client: &Client) {
    let chain = delayed(spin).name("first").call(5).map(spin).map(spin);
    let key = chain.key();
    assert_eq!(client.compute(&chain).unwrap(), 5);
    let log = log_with_end(client, 0);
    assert!(log.events().is_sorted_by_key(|e| e.at));
    let at = |wanted: &dyn Fn(&EventKind) -> bool| {
        let found: Vec<_> = log.events().iter().filter(|e| wanted(&e.kind)).map(|e| e.at).collect();
        assert_eq!(found.len(), 1, "{log:?}");
        found[0]
    };
    let submitted = at(&|k| matches!(k, EventKind::GraphSubmitted { graph: 0, tasks: 3, .. }));
    let done = at(&|k| matches!(k, EventKind::GraphFinished { graph: 0, took } if *took >= Duration::from_millis(15)));
    assert!(done - submitted >= Duration::from_millis(15));
    let names: Vec<_> = log.runs().iter().map(|run| &*run.name).collect();
    assert_eq!(names, ["first", "spin", "spin"]);
    assert_eq!(log.runs()[2].key(), key);
    let workers: Vec<_> = client.workers().unwrap().into_iter().map(|w| w.name).collect();
    for run in log.runs() {
        assert_eq!(run.outcome, Outcome::Finished);
        let took = run.took().unwrap();
        assert!(took >= Duration::from_millis(5) && took <= done - submitted, "{took:?}");
        assert!(run.start >= submitted && run.end.unwrap() <= done, "{log:?}");
        // It has spun for all of its time, as far as it had a processor.
        let cpu = run.cpu.unwrap();
        assert!(cpu <= took + Duration::from_millis(1) && !cpu.is_zero(), "{cpu:?} of {took:?}");
        assert!(workers.contains(&run.worker.to_string()), "{} is none of {workers:?}", run.worker);
    }
}

fn sized(n: usize) -> Vec<u8> {
    vec![1; n]
}

fn summed(bytes: Vec<u8>) -> u64 {
    // Long enough that its time on a processor is measured.
    spin(2);
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

/// What is measured of a run between processes, where values have sizes.
pub fn of_what_runs_take(client: &Client) {
    if client.mode() != swath::status::Mode::Processes {
        return;
    }
    let made = client.persist(&delayed(sized).call(100_000)).unwrap();
    assert_eq!(client.compute(&delayed(summed).call(&made)).unwrap(), 100_000);
    let log = log_with_end(client, 1);
    let run = |name: &str| log.runs().iter().find(|run| *run.name == *name).unwrap().clone();
    let (sized, summed) = (run("sized"), run("summed"));
    let about = |bytes: Option<u64>| bytes.is_some_and(|bytes| (100_000..101_000).contains(&bytes));
    assert!(about(sized.bytes_out) && sized.bytes_in.is_none(), "{sized:?}");
    assert!(about(summed.bytes_in) && summed.bytes_out.is_some_and(|bytes| bytes <= 64), "{summed:?}");
    assert!(summed.assigned.unwrap() <= summed.start, "{summed:?}");
}

fn waits_for_another(x: u64) -> u64 {
    swath::current_client().unwrap().submit(&delayed(spin).call(x)).unwrap().result().unwrap()
}

/// A task that waits for tasks of its own does not compute.
pub fn of_waits_in_tasks(client: &Client) {
    if client.mode() == swath::status::Mode::Sync {
        return;
    }
    assert_eq!(client.compute(&delayed(waits_for_another).call(20)).unwrap(), 20);
    let log = log_with_end(client, 0);
    let run = log.runs().iter().find(|run| &*run.name == "waits_for_another").unwrap();
    let suspended = run.suspended.unwrap();
    // Who waits looks for a moment before it lets others use its thread.
    assert!(suspended >= Duration::from_millis(10) && suspended <= run.took().unwrap(), "{run:?}");
    let time = log.diagnose(&Extent::default()).time;
    assert!(time[Use::Suspended] >= suspended - Duration::from_micros(1), "{time:?}");
}

pub fn of_notes_and_labels(client: &Client) {
    fn noting(x: u64) -> bool {
        swath::note("loss", &serde_json::json!({ "x": x })).is_ok()
    }
    let mut watch = client.watch_events(EventFilter::default().topic("loss").topic("here")).unwrap();
    client.note("here", &"\u{202e}<script>").unwrap();
    let labelled = delayed(noting).call(4);
    {
        let _label = swath::label("load");
        assert!(client.compute(&labelled).unwrap());
    }
    assert!(swath::note("loss", &1).unwrap_err().to_string().contains("no task"));
    assert!(client.note(&"x".repeat(300), &1).is_err() && client.note("x", &"y".repeat(70_000)).is_err());
    let is_loss = |e: &&Event| matches!(&e.kind, EventKind::Note { topic, .. } if topic == "loss");
    let log = log_with_end(client, 0);
    // A task's word may come after its result.
    let began = Instant::now();
    while !client.events().unwrap().events().iter().any(|e| is_loss(&e)) {
        assert!(began.elapsed() < LONG, "{:?}", client.events());
        std::thread::yield_now();
    }
    let all = client.events().unwrap();
    let expected =
        EventKind::Note { key: Some(labelled.key()), topic: "loss".to_string(), value: serde_json::json!({ "x": 4 }) };
    assert_eq!(all.events().iter().find(is_loss).unwrap().kind, expected);
    let label = log.events().iter().find_map(|event| match &event.kind {
        EventKind::GraphSubmitted { label, .. } => Some(label.clone()),
        _ => None,
    });
    assert_eq!(label, Some(Some("load".to_string())));
    let topics = watch.by_ref().take(2).map(|happened| match happened {
        Happened::Event(Event { kind: EventKind::Note { topic, .. }, .. }) => topic,
        other => panic!("{other:?}"),
    });
    let mut topics: Vec<_> = topics.collect();
    topics.sort();
    assert_eq!(topics, ["here", "loss"]);
}

pub fn watched(client: &Client) {
    let mut runs = client.watch_events(EventFilter::default().runs()).unwrap();
    let mut failed = client.watch_events(EventFilter::default().failed()).unwrap();
    client.compute(&delayed(spin).map([0_u64, 1, 2])).unwrap();
    client.compute(&try_delayed(odd_fails).retries(1).call(1)).unwrap_err();
    let names = runs.by_ref().take(5).map(|happened| match happened {
        // One that was taken back before it began counts as an attempt.
        Happened::Run(run) if &*run.name == "spin" => format!("spin {}", run.outcome),
        Happened::Run(run) => format!("{} {} {}", run.name, run.outcome, run.attempt),
        other => panic!("{other:?}"),
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["odd_fails failed 0", "odd_fails failed 1", "spin finished", "spin finished", "spin finished"]);
    assert_eq!(runs.try_next(), None);
    let kinds = failed.by_ref().take(3).map(|happened| match happened {
        Happened::Run(_) => "run",
        Happened::Event(event) if matches!(event.kind, EventKind::Retried { attempt: 1, .. }) => "retried",
        other => panic!("{other:?}"),
    });
    let kinds: Vec<_> = kinds.collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "run").count(), 2, "{kinds:?}");
    client.shutdown();
    assert!(failed.next().is_none() && runs.next().is_none(), "the client is closed");
}

fn odd_fails(x: i64) -> Result<i64, String> {
    if x % 2 == 0 { Ok(x) } else { Err("odd".to_string()) }
}

pub fn of_failures(client: &Client) {
    let failing = try_delayed(odd_fails).retries(2).call(1).map(|x: i64| x + 1);
    client.compute(&failing).unwrap_err();
    let log = log_with_end(client, 0);
    // Three attempts, and nothing of what depends on them.
    let runs: Vec<_> = log.runs().iter().map(|run| (&*run.name, run.outcome, run.attempt)).collect();
    assert_eq!(runs, [0, 1, 2].map(|attempt| ("odd_fails", Outcome::Failed, attempt)));
    let again = log.events().iter().filter_map(|event| match &event.kind {
        EventKind::Retried { key, attempt } => Some((key.starts_with("odd_fails-"), *attempt)),
        _ => None,
    });
    assert_eq!(again.collect::<Vec<_>>(), [(true, 1), (true, 2)]);
}

pub fn of_cancelled_tasks(client: &Client) {
    fn until_cancelled(_: u64) -> u64 {
        let began = Instant::now();
        while !cancelled() && began.elapsed() < LONG {
            std::thread::yield_now();
        }
        0
    }
    if client.mode() == swath::status::Mode::Sync {
        return;
    }
    let future = client.submit(&delayed(until_cancelled).call(1)).unwrap();
    let began = Instant::now();
    while client.events().unwrap().runs().is_empty() {
        assert!(began.elapsed() < LONG, "it does not start");
        std::thread::yield_now();
    }
    client.cancel(&future);
    let key = future.key();
    client.wait_timeout(&[future], WaitFor::All, LONG).unwrap();
    while !client.events().unwrap().runs().iter().any(|run| run.outcome == Outcome::Cancelled) {
        assert!(began.elapsed() < LONG, "{:?}", client.events());
        std::thread::yield_now();
    }
    let cancelled = EventKind::Cancelled { key };
    assert_eq!(client.events().unwrap().events().iter().filter(|e| e.kind == cancelled).count(), 1);
}

/// A log as earlier versions have saved it.
const FORMAT_1: &str = r#"{"swath_events":1,"started":{"secs_since_epoch":1700000000,"nanos_since_epoch":5}}
{"at":{"secs":0,"nanos":1000},"kind":{"GraphSubmitted":{"graph":0,"tasks":1}}}
{"at":{"secs":0,"nanos":2000},"kind":{"TaskStarted":{"task":{"key":"spin-00000000000000ff","name":"spin","graph":0,"worker":"worker-0","thread":1}}}}
{"at":{"secs":0,"nanos":5000},"kind":{"TaskFailed":{"task":{"key":"spin-00000000000000ff","name":"spin","graph":0,"worker":"worker-0","thread":1},"took":{"secs":0,"nanos":3000}}}}
{"at":{"secs":0,"nanos":6000},"kind":{"WorkerLost":{"worker":"worker-0","pid":7,"cause":{"Signal":9}}}}
"#;

pub fn saved_and_opened(client: &Client) {
    client.compute(&delayed(spin).map([0_u64, 0, 0])).unwrap();
    let log = log_with_end(client, 0);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("run.swath");
    log.save(&file).unwrap();
    let opened = EventLog::open(&file).unwrap();
    assert_eq!(opened, log);
    assert_eq!((opened.runs(), opened.problems()), (log.runs(), &[][..]));
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its owner may read it");
    client.save_events(&file).unwrap();
    let summary = SavedLog::open(&file).unwrap().summary();
    assert!(summary.complete && summary.format == 2, "{summary:?}");
    let group = summary.groups.iter().find(|group| group.name == "spin").unwrap();
    assert_eq!((summary.runs, group.graph, group.counts.done(), group.cost.runs), (3, Some(0), 3, 3));

    let trace = directory.path().join("t.json");
    log.trace(&trace).unwrap();
    let read: serde_json::Value = serde_json::from_slice(&std::fs::read(&trace).unwrap()).unwrap();
    assert_eq!(read["traceEvents"].as_array().unwrap().iter().filter(|e| e["name"] == "spin").count(), 3);
    log.json_lines(&trace).unwrap();
    let lines = std::fs::read_to_string(&trace).unwrap();
    assert_eq!(lines.lines().filter(|line| line.contains("\"kind\":\"run\"")).count(), 3, "{lines}");
    log.csv(&trace).unwrap();
    assert_eq!(std::fs::read_to_string(&trace).unwrap().lines().count(), 4);
    assert!(log.trace(directory.path()).is_err() && log.csv(directory.path().join("none").join("x")).is_err());

    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let cut = EventLog::open(&file).unwrap();
    assert_eq!((cut.runs().len(), cut.problems().len()), (3, 1), "{:?}", cut.problems());
    std::fs::write(&file, FORMAT_1).unwrap();
    let first = EventLog::open(&file).unwrap();
    let told: Vec<_> = first.events().iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    let run = &first.runs()[0];
    assert_eq!((run.key().as_str(), &*run.worker, run.thread), ("spin-00000000000000ff", "worker-0", 1));
    assert_eq!((run.outcome, run.took()), (Outcome::Failed, Some(Duration::from_nanos(3000))));
    assert_eq!(death_cause(&first.events()[1].kind), Some(DeathCause::Signal(9)), "{told:?}");
    std::fs::write(&file, "{\"no\": \"log\"}\n").unwrap();
    let error = EventLog::open(&file).unwrap_err().to_string();
    assert!(error.contains("line 1"), "{error}");
    assert!(log.save(directory.path()).is_err());
}
