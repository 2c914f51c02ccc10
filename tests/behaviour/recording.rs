//! Clients that are recorded in a file.

use crate::common::{Clean, LONG, comes_true, my_role, play, role, say, touch, until};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use swath::client::Builder;
use swath::events::diagnosis::Extent;
use swath::events::saved::{Ending, EventKind, Outcome, Run, SavedLog, Summary};
use swath::status::Mode;
use swath::{Client, Error, delayed, try_delayed};

fn add_one(x: u64) -> u64 {
    x + 1
}

fn refuse(x: u64) -> Result<u64, String> {
    Err(format!("{x} is refused"))
}

fn die_once(file: String) -> bool {
    if Path::new(&file).exists() {
        return true;
    }
    touch(&file);
    std::process::abort()
}

fn builders() -> [Builder; 4] {
    [
        Client::builder().mode(Mode::Sync),
        Client::builder().mode(Mode::Threads).threads(2),
        Client::builder().workers(2).threads(1),
        Client::builder().workers(1).threads(2),
    ]
}

fn read(path: &Path) -> (Vec<Run>, Summary) {
    let log = SavedLog::open(path).unwrap();
    (log.runs().map(Result::unwrap).collect(), log.summary())
}

#[test]
fn every_run_is_in_the_file_in_every_mode() {
    const TASKS: u64 = 50_000;
    let _clean = Clean::start();
    let directory = tempfile::tempdir().unwrap();
    for (i, builder) in builders().into_iter().enumerate() {
        let path = directory.path().join(format!("{i}.swath"));
        let client = builder.record(&path).build().unwrap();
        let sum: u64 = client.compute(&delayed(add_one).map(0..TASKS)).unwrap().into_iter().sum();
        assert_eq!(sum, TASKS * (TASKS + 1) / 2);
        let chain = (0..10).fold(delayed(add_one).name("first").call(0), |x, _| x.map(add_one));
        assert_eq!(client.compute(&chain).unwrap(), 11);
        client.compute(&try_delayed(refuse).call(1)).unwrap_err();
        client.shutdown();

        let (runs, summary) = read(&path);
        assert!(summary.complete, "{i}: {:?}", summary.problems);
        assert_eq!((summary.runs, summary.folded), (TASKS + 12, 0), "{i}");
        let of = |graph: Option<u32>, name: &str| {
            let group = summary.groups.iter().find(|group| group.name == name && group.graph == graph).unwrap();
            (group.counts.done(), group.counts.failed)
        };
        assert_eq!(
            [of(Some(0), "add_one"), of(Some(1), "first"), of(Some(1), "add_one"), of(None, "refuse")],
            [(TASKS, 0), (1, 0), (10, 0), (0, 1)]
        );
        assert!(runs.iter().all(|run| run.end >= Some(run.start) && run.outcome != Outcome::Running), "{i}");
        let log = SavedLog::open(&path).unwrap();
        // The chain is that of what it takes, whatever was fused.
        let inputs: Vec<_> = log.inputs().map(Result::unwrap).collect();
        assert_eq!(inputs.len(), 10, "{inputs:?}");
        assert!(inputs.iter().all(|input| input.graph == 1 && &*input.name == "add_one"));
        let path_of_chain = log.diagnose(&Extent::of_graph(1)).critical_path.unwrap();
        assert_eq!((path_of_chain.tasks.len(), path_of_chain.tasks.last()), (11, Some(&chain.key())));
        let events: Vec<_> = log.events().map(|event| event.unwrap().kind).collect();
        for graph in 0..3 {
            let submitted = |e: &&EventKind| matches!(e, EventKind::GraphSubmitted { graph: g, .. } if *g == graph);
            let finished = |e: &&EventKind| matches!(e, EventKind::GraphFinished { graph: g, .. } if *g == graph);
            assert_eq!((events.iter().filter(submitted).count(), events.iter().filter(finished).count()), (1, 1));
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn what_memory_workers_use_is_recorded_while_they_work() {
    let _clean = Clean::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("memory.swath");
    let client = Client::builder().workers(1).memory_limit("512MB").record(&path).build().unwrap();
    let held = client.persist(&delayed(|n: usize| vec![7_u8; n]).call(50_000_000)).unwrap();
    let samples = || SavedLog::open(&path).unwrap().memory().map(Result::unwrap).collect::<Vec<_>>();
    until("the result is seen", || {
        client.compute(&delayed(add_one).call(1)).unwrap();
        samples().iter().any(|sample| sample.managed >= 50_000_000)
    });
    let last = samples().pop().unwrap();
    assert_eq!((&*last.worker, last.limit), ("worker-0", Some(512_000_000)));
    assert!(last.used >= last.managed, "{last:?}");
    drop(held);
}

#[test]
fn the_run_of_a_worker_that_died_is_lost_and_the_next_one_is_there() {
    let _clean = Clean::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.swath");
    let client = Client::builder().workers(1).record(&path).build().unwrap();
    let file = directory.path().join("died").display().to_string();
    assert!(client.compute(&delayed(die_once).call(file)).unwrap());
    client.shutdown();
    let (runs, summary) = read(&path);
    let outcomes: Vec<_> = runs.iter().filter(|run| &*run.name == "die_once").map(|run| run.outcome).collect();
    assert_eq!(outcomes, [Outcome::Lost, Outcome::Finished], "{runs:?}");
    assert!(summary.complete && summary.groups[0].counts.done() == 1, "{summary:?}");
    let log = SavedLog::open(&path).unwrap();
    let count = |wanted: fn(&EventKind) -> bool| log.events().filter(|e| wanted(&e.as_ref().unwrap().kind)).count();
    assert_eq!(count(|e| matches!(e, EventKind::WorkerStarted { .. })), 2);
    assert_eq!(count(|e| matches!(e, EventKind::WorkerLost { cause, .. } if !cause.is_null())), 1);
}

#[test]
fn a_file_keeps_to_its_limit_and_adds_up() {
    // No more at once than a ring has room for, however slowly they are taken.
    const TASKS: u64 = 60_000;
    const ROUNDS: u64 = 3;
    let _clean = Clean::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.swath");
    let builder = Client::builder().mode(Mode::Threads).threads(2);
    let client = builder.record(&path).record_limit("1MB").build().unwrap();
    for round in 1..=ROUNDS {
        client.compute(&delayed(add_one).map(0..TASKS)).unwrap();
        let written = || SavedLog::open(&path).unwrap().summary().runs;
        assert!(comes_true(LONG, || written() == round * TASKS), "{} of {}", written(), round * TASKS);
    }
    client.compute(&try_delayed(refuse).call(1)).unwrap_err();
    client.shutdown();
    let (runs, summary) = read(&path);
    assert!(std::fs::metadata(&path).unwrap().len() <= 1_000_000);
    assert!(summary.complete && summary.folded > TASKS, "{summary:?}");
    assert_eq!(summary.runs, ROUNDS * TASKS + 1);
    assert_eq!(runs.iter().filter(|run| run.outcome == Outcome::Failed).count(), 1, "failures keep their detail");
}

#[test]
fn files_that_cannot_be_recorded_in_are_refused() {
    let _clean = Clean::start();
    let directory = tempfile::tempdir().unwrap();
    let sync = || Client::builder().mode(Mode::Sync);
    let told = |builder: Builder| builder.build().unwrap_err();
    assert!(
        matches!(told(sync().record(directory.path())), Error::Invalid { why, .. } if why.contains("no regular file"))
    );
    let small = sync().record(directory.path().join("small.swath")).record_limit("1kB");
    assert!(matches!(told(small), Error::Invalid { what, .. } if what == "record_limit"));
    let nowhere = directory.path().join("none/run.swath");
    assert!(
        matches!(told(sync().record(&nowhere)), Error::Resource { resource, .. } if resource.contains("none/run.swath"))
    );
    let path = directory.path().join("run.swath");
    let first = sync().record(&path).build().unwrap();
    let second = told(sync().record(&path));
    assert!(matches!(&second, Error::Invalid { why, .. } if why.contains("name another file")), "{second}");
    drop(first);
    assert!(sync().record(&path).build().is_ok());
}

#[test]
fn recorded_program() {
    if my_role().is_none() {
        return;
    }
    let client = Client::from_env().unwrap();
    client.compute(&delayed(add_one).map(0..1000)).unwrap();
    say(client.mode().name());
    if client.mode() == Mode::Threads {
        return;
    }
    // Until it is killed.
    std::thread::sleep(LONG);
}

#[test]
fn a_program_that_is_killed_leaves_what_it_has_done() {
    let _clean = Clean::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.swath");
    let mut command = role("behaviour::recording::recorded_program", "recorded");
    command.env("SWATH_RECORD", &path).env("SWATH_SCHEDULER", "processes").env("SWATH_WORKERS", "2");
    let mut program = command.spawn().unwrap();
    let runs = || SavedLog::open(&path).map_or(0, |log| log.runs().filter_map(Result::ok).count());
    // It can be read while it is written.
    let is_there = comes_true(LONG, || runs() == 1000);
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(is_there, "{} runs", runs());
    let log = SavedLog::open(&path).unwrap();
    assert_eq!((log.ending(), runs()), (Ending::Unfinished, 1000));
    let summary = log.summary();
    assert!(!summary.complete && summary.problems.len() == 1, "{summary:?}");
}

#[test]
fn a_variable_has_a_program_recorded() {
    let _clean = Clean::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.swath");
    let mut command = role("behaviour::recording::recorded_program", "recorded");
    command.env("SWATH_RECORD", &path).env("SWATH_SCHEDULER", "threads");
    assert_eq!(play(command), ["threads"]);
    let (runs, summary) = read(&path);
    assert!(summary.complete && runs.len() == 1000, "{summary:?}");
}
