//! Why a task is where it is: for each reason a run that provokes it, in every mode that has it. No text names a task by
//! anything but its name and key.

use crate::common::{
    Clean, LONG, block_on, directory, is_sync, note, notes, path, pids, processes, say, send_signal, touch, until,
    wait_for_file,
};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use swath::error::KeyError;
use swath::events::saved::SavedLog;
use swath::status::explain::{Isolated, Place, Why};
use swath::status::{Explanation, Mode, TaskState, WorkerState};
use swath::{Client, Delayed, Error, Future, delayed, set_progress, try_delayed};

fn inc(x: i64) -> i64 {
    x + 1
}

fn add(a: i64, b: i64) -> i64 {
    a + b
}

fn total(all: Vec<i64>) -> i64 {
    all.iter().sum()
}

fn tenth(x: i64) -> i64 {
    10 / x
}

/// Notes that it runs, and does so until a file is there.
fn held(begun: String, open: String) -> i64 {
    note(&begun, "begun");
    if wait_for_file(&open) { 7 } else { -1 }
}

/// The same, which stops for nobody.
fn stubborn(begun: String, open: String) -> i64 {
    note(&begun, "begun");
    let began = Instant::now();
    while began.elapsed() < LONG && !std::path::Path::new(&open).exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    7
}

fn quarter_done(begun: String, open: String) -> i64 {
    set_progress(0.25);
    held(begun, open)
}

/// Whether a text has three numbers with dots between them, as the supervisor calls a task.
fn has_internal_number(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_');
    words
        .map(|word| word.trim_matches('.').split('.').collect::<Vec<_>>())
        .any(|parts| parts.len() == 3 && parts.into_iter().all(is_part))
}

#[track_caller]
fn checked(told: Explanation) -> Explanation {
    let text = told.to_string();
    assert!(!has_internal_number(&text), "{text}");
    assert!(text.starts_with(&format!("{} ({}) ", told.task.name, told.task.key)), "{text}");
    let json = serde_json::to_string(&told).unwrap();
    assert!(!has_internal_number(&json), "{json}");
    assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), told);
    told
}

#[track_caller]
fn explain<T>(client: &Client, future: &Future<T>) -> Explanation {
    let told = checked(client.explain(future).unwrap());
    assert_eq!(told.task.key, future.key());
    told
}

/// Waits until a future stands somewhere for some reason.
#[track_caller]
fn until_why<T>(client: &Client, future: &Future<T>, what: &str, is_so: impl Fn(&Explanation) -> bool) -> Explanation {
    let mut told = explain(client, future);
    let began = Instant::now();
    while !is_so(&told) {
        assert!(began.elapsed() < LONG, "{what}: {told}");
        std::thread::sleep(Duration::from_millis(1));
        told = explain(client, future);
    }
    told
}

#[track_caller]
fn until_key(client: &Client, key: &str, what: &str, is_so: impl Fn(&Explanation) -> bool) -> Explanation {
    let began = Instant::now();
    loop {
        let told = client.explain_key(key);
        match told {
            Ok(told) if is_so(&told) => return checked(told),
            told => assert!(began.elapsed() < LONG, "{what}: {told:?}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn ended<T>(future: &Future<T>) {
    until("it ends", || future.is_done());
}

/// What runs until a file is there, and that file.
struct Gate {
    _dir: tempfile::TempDir,
    begun: String,
    open: String,
}

impl Gate {
    fn new() -> Self {
        let dir = directory();
        Self { begun: path(&dir, "begun"), open: path(&dir, "open"), _dir: dir }
    }

    fn call(&self) -> Delayed<i64> {
        delayed(held).call(&*self.begun, &*self.open)
    }

    /// From now on values wait for it when they are encoded, which they are also to see how large they are.
    fn arm(&self) {
        touch(&format!("{}.armed", self.open));
    }

    fn begins(&self) {
        until("it runs", || !notes(&self.begun).is_empty());
    }

    fn open(&self) {
        touch(&self.open);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // A test that fails is not to wait for what it holds.
        self.open();
    }
}

pub fn what_is_done_says_where_its_result_is(client: &Client) {
    let done = client.submit(&delayed(inc).name("add one").call(1)).unwrap();
    assert_eq!(done.result().unwrap(), 2);
    let told = until_why(client, &done, "its run is on record", |told| told.cost.runs == 1 && told.cost.took.is_some());
    assert_eq!((told.state, told.task.name.as_str(), told.task.graph), (TaskState::Memory, "add one", Some(0)));
    assert!(matches!(told.why, Why::Stored { bytes: Some(1..), .. }), "{told}");
    let time = &told.timeline;
    assert!(time.submitted.unwrap() <= time.started.unwrap() && time.started <= time.ended, "{told:?}");
    assert!(told.to_string().contains("So far: submitted ") && told.to_string().contains("It has run once"), "{told}");
    let labelled = {
        let _label = swath::label("load");
        client.submit(&delayed(inc).call(2)).unwrap()
    };
    ended(&labelled);
    let told = explain(client, &labelled);
    assert_eq!(told.task.label.as_deref(), Some("load"), "{told}");
    assert!(told.to_string().contains(" of \"load\" "), "{told}");
    let given = client.scatter(3_i64).unwrap();
    let told = explain(client, &given);
    assert_eq!((told.state, &told.why), (TaskState::Memory, &Why::Given));
}

pub fn what_failed_names_the_first_that_did(client: &Client) {
    let first = client.submit(&delayed(tenth).call(0)).unwrap();
    let chain = client.submit(&delayed(inc).call(delayed(tenth).name("a tenth").call(0))).unwrap();
    let both = client.submit(&delayed(add).call(&first, delayed(inc).call(1))).unwrap();
    [&first, &chain, &both].into_iter().for_each(ended);
    let told = explain(client, &first);
    let Why::Failed { error, root: None } = &told.why else { panic!("{told}") };
    assert!(error.contains("divide by zero"), "{told}");
    assert!(told.to_string().contains("client.replay") && told.state == TaskState::Failed, "{told}");
    for (future, root) in [(&chain, "a tenth"), (&both, "tenth")] {
        let told = explain(client, future);
        let Why::Failed { error, root: Some(found) } = &told.why else { panic!("{told}") };
        assert!(error.contains("divide by zero") && found.name == root, "{told}");
        assert!(found.key.starts_with(&format!("{root}-")) && told.to_string().contains(&found.key), "{told}");
    }
    let returned =
        client.submit(&try_delayed(|x: i64| if x > 0 { Ok(x) } else { Err(format!("{x} is too little")) }).call(0));
    let returned = returned.unwrap();
    ended(&returned);
    let told = explain(client, &returned);
    assert!(told.to_string().contains(" failed itself: 0 is too little.\n"), "{told}");
}

pub fn what_waits_is_followed_to_what_holds_it_up(client: &Client) {
    if is_sync(client) {
        return;
    }
    let gate = Gate::new();
    let running = client.submit(&gate.call()).unwrap();
    gate.begins();
    let there = client.submit(&delayed(inc).call(1)).unwrap();
    if client.mode() == Mode::Processes && client.workers().unwrap().len() > 1 {
        there.result().unwrap();
    }
    let middle = client.submit(&delayed(add).name("middle").call(&running, 1)).unwrap();
    let last = client.submit(&delayed(total).call(vec![middle.delayed(), there.delayed()])).unwrap();
    let told = explain(client, &last);
    let Why::Inputs { missing, first: Some(first), .. } = &told.why else { panic!("{told}") };
    assert!((1..=2).contains(missing) && first.name == "middle" && told.state == TaskState::Waiting, "{told}");
    let steps: Vec<_> = told.because.iter().map(|step| step.task.name.as_str()).collect();
    assert_eq!(steps, ["middle", "held"], "{told}");
    let culprit = told.because.last().unwrap();
    assert_eq!((culprit.state, &*culprit.task.key), (TaskState::Running, &*running.key()), "{told}");
    assert!(matches!(culprit.why, Why::Running { since: Some(_), .. }), "{told}");
    let text = told.to_string();
    assert!(text.contains("ready never") && text.contains("Inputs so far "), "{text}");
    gate.open();
    assert_eq!(last.result().unwrap(), 10);
}

pub fn what_runs_says_where_for_how_long_and_how_far(client: &Client) {
    let gate = Gate::new();
    let call = |gate: &Gate| delayed(quarter_done).call(&*gate.begun, &*gate.open);
    for _ in 0..3 {
        let opened = Gate::new();
        opened.open();
        client.compute(&call(&opened)).unwrap();
    }
    let running = call(&gate);
    let key = running.key();
    std::thread::scope(|scope| {
        let ends = scope.spawn(|| client.compute(&running).unwrap());
        let told =
            until_key(client, &key, "it runs", |told| matches!(told.why, Why::Running { progress: Some(_), .. }));
        let Why::Running { worker, since: Some(_), usual, progress: Some(progress), .. } = &told.why else {
            panic!("{told}")
        };
        assert!(client.workers().unwrap().iter().any(|info| info.name == *worker), "{told}");
        assert!((*progress - 0.25).abs() < 1e-9 && told.state == TaskState::Running, "{told}");
        // The three before may have run elsewhere.
        let all_here = client.workers().unwrap().len() == 1;
        assert!(usual.is_some() || !all_here, "{told}");
        assert!(told.to_string().contains("25 % done as it says"), "{told}");
        gate.open();
        assert_eq!(ends.join().unwrap(), 7);
    });
}

pub fn what_was_cancelled_says_so(client: &Client) {
    if is_sync(client) {
        return;
    }
    let gate = Gate::new();
    let running = client.submit(&delayed(stubborn).call(&*gate.begun, &*gate.open)).unwrap();
    gate.begins();
    let waits = client.submit(&delayed(inc).call(&running)).unwrap();
    client.cancel(&waits);
    until_why(client, &waits, "it is cancelled", |told| {
        told.why == (Why::Cancelled { by: None }) && told.state == TaskState::Cancelled
    });
    let needs = client.submit(&delayed(inc).call(&running)).unwrap();
    client.cancel(&running);
    let told = until_why(client, &running, "its run has not ended", |told| {
        matches!(told.why, Why::CancelledRunEnding { worker: Some(_), again: false })
    });
    assert_eq!(told.state, TaskState::Cancelled, "{told}");
    let key = running.key();
    until_why(
        client,
        &needs,
        "it is cancelled with that",
        |told| matches!(&told.why, Why::Cancelled { by: Some(by) } if by.key == key),
    );
    gate.open();
    until_why(client, &running, "its run has ended", |told| told.why == (Why::Cancelled { by: None }));
}

pub fn tasks_are_found_by_their_keys(client: &Client) {
    // In the middle of a graph that is computed, without a handle anywhere.
    let inner = delayed(add).name("inner").call(1, 2);
    let inner_key = inner.key();
    assert_eq!(client.compute(&delayed(inc).name("outer").call(&inner)).unwrap(), 4);
    let told = until_key(client, &inner_key, "it has run", |told| told.cost.took.is_some());
    assert_eq!((told.state, told.cost.runs, told.task.key.as_str()), (TaskState::Released, 1, inner_key.as_str()));
    assert_eq!(told.why, Why::Released, "{told}");
    let by_name = checked(client.explain_key("inner").unwrap());
    assert_eq!(by_name.task.key, inner_key);
    let shortened = format!("{}…", &inner_key[..inner_key.len() - 6]);
    assert_eq!(block_on(client.explain_key_async(&shortened)).unwrap().task.key, inner_key);
    // Two of one name.
    let two: Vec<_> = (0..2).map(|x| client.submit(&delayed(inc).name("twin").call(x)).unwrap()).collect();
    client.gather(&two).unwrap();
    let Err(Error::Key(KeyError::Ambiguous { candidates, more: false, .. })) = client.explain_key("twin") else {
        panic!()
    };
    let mut keys: Vec<_> = two.iter().map(Future::key).collect();
    keys.sort();
    assert_eq!(candidates, keys);
    assert_eq!(checked(client.explain_key(&keys[0]).unwrap()).task.key, keys[0]);
    for unknown in ["nope", "nope-0123456789abcdef", "inner-zz", &format!("{inner_key}0"), "\u{1b}[2J"] {
        let error = client.explain_key(unknown).unwrap_err();
        assert!(matches!(error, Error::Key(KeyError::Unknown { .. })), "{error}");
        assert!(!error.to_string().contains('\u{1b}'), "{error:?}");
    }
    // Of a result that is let go, what is recorded is left.
    let gone = two[0].key();
    drop(two);
    until_key(client, &gone, "it is released", |told| told.why == Why::Released && told.cost.runs == 1);
}

pub fn parts_of_a_result_are_told(client: &Client) {
    let gate = Gate::new();
    let both = delayed(|begun: String, open: String| (held(begun, open), 2_i64)).name("both");
    let (one, _) = both.call(&*gate.begun, &*gate.open).unpack();
    if is_sync(client) {
        gate.open();
    }
    let future = client.submit(&one).unwrap();
    if !is_sync(client) {
        gate.begins();
        let told = until_why(client, &future, "it waits for its call", |told| !told.because.is_empty());
        assert_eq!(told.because[0].task.name, "both", "{told}");
        gate.open();
    }
    assert_eq!(future.result().unwrap(), 7);
    let told = explain(client, &future);
    assert!(matches!(told.why, Why::Stored { .. }) && told.task.name == "both[0]", "{told}");
}

/// The reasons that a task of one graph has which nobody needs.
pub fn what_nobody_needs_says_so(client: &Client) {
    if is_sync(client) {
        return;
    }
    let gate = Gate::new();
    let first = gate.call();
    let other = delayed(add).name("unneeded").call(&first, 1);
    let key = other.key();
    let futures = client.submit_all(&[first, other]).unwrap();
    gate.begins();
    let mut futures = futures.into_iter();
    let (first, other) = (futures.next().unwrap(), futures.next().unwrap());
    drop(other);
    until_key(client, &key, "nobody needs it", |told| told.why == Why::NotNeeded && told.state == TaskState::Unneeded);
    gate.open();
    assert_eq!(first.result().unwrap(), 7);
}

/// A chain whose steps are graphs of their own.
pub fn of_a_long_chain_the_first_steps_and_the_last_are_told(client: &Client) {
    if is_sync(client) {
        return;
    }
    let gate = Gate::new();
    let mut last = client.submit(&gate.call()).unwrap();
    gate.begins();
    for _ in 0..100 {
        last = client.submit(&delayed(inc).call(&last)).unwrap();
    }
    let told = explain(client, &last);
    let steps = &told.because;
    assert!((2..20).contains(&steps.len()), "{told}");
    assert_eq!(steps.iter().map(|step| 1 + step.left_out).sum::<u64>(), 100, "{told}");
    assert!(matches!(&steps.last().unwrap().why, Why::Running { .. }), "{told}");
    gate.open();
    assert_eq!(last.result().unwrap(), 107);
}

/// Clients of all modes with room for the records of one run.
fn forgetful() -> Vec<Client> {
    let builder = || Client::builder().events(1);
    vec![
        builder().mode(Mode::Sync).build().unwrap(),
        builder().mode(Mode::Threads).threads(1).build().unwrap(),
        builder().workers(1).threads(1).build().unwrap(),
    ]
}

#[test]
fn of_what_ended_long_ago_the_totals_of_its_name_are_left() {
    let _clean = Clean::start();
    for client in forgetful() {
        let old = delayed(inc).name("old").call(1);
        let key = old.key();
        client.compute(&old).unwrap();
        client.compute(&delayed(inc).name("old").call(2)).unwrap();
        for x in 0..5 {
            client.compute(&delayed(inc).call(x)).unwrap();
        }
        let told = until_key(&client, &key, "it is forgotten", |told| matches!(told.why, Why::Forgotten { .. }));
        let Why::Forgotten { totals } = told.why else { panic!("{told}") };
        assert_eq!((totals.runs, totals.counts.done()), (2, 2), "{:?}: {told}", client.mode());
        assert!(told.to_string().contains("its details are no longer kept"), "{told}");
        assert!(matches!(client.explain_key("old-"), Err(Error::Key(KeyError::Unknown { .. }))));
    }
}

#[test]
fn a_task_behind_others_says_how_many() {
    let _clean = Clean::start();
    for client in [Client::threads(1), processes(1, 1)] {
        let gate = Gate::new();
        let running = client.submit(&gate.call()).unwrap();
        gate.begins();
        let others: Vec<_> = (0..20).map(|x| delayed(inc).call(x)).collect();
        let others = client.submit_all(&others).unwrap();
        let last = client.with_priority(-1).submit(&delayed(inc).call(1)).unwrap();
        let told = until_why(&client, &last, "it waits", |told| matches!(told.why, Why::Busy { .. }));
        let Why::Busy { workers: 1, ahead, .. } = told.why else { panic!("{told}") };
        assert!((2..=21).contains(&ahead) && told.state == TaskState::Ready, "{told}");
        assert!(told.to_string().contains("ahead of it"), "{told}");
        let first = explain(&client, &others[0]);
        assert!(matches!(first.why, Why::Busy { .. }), "{first}");
        gate.open();
        client.gather(&others).unwrap();
        assert_eq!((running.result().unwrap(), last.result().unwrap()), (7, 2));
    }
}

/// Waits, where the environment says so, until a file is there; who comes first does not.
fn waits_at_the_gate() -> Result<(), String> {
    let dir = std::env::var("SWATH_TEST_INIT").map_err(|e| e.to_string())?;
    let is_first = std::fs::OpenOptions::new().write(true).create_new(true).open(format!("{dir}/first")).is_ok();
    if !is_first {
        wait_for_file(&format!("{dir}/open"));
    }
    Ok(())
}

#[test]
fn a_task_that_waits_for_a_worker_says_whether_one_comes_and_which() {
    let _clean = Clean::start();
    let dir = directory();
    let builder = || Client::builder().worker_init(waits_at_the_gate);
    // Nobody comes yet.
    touch(&path(&dir, "first"));
    let client = builder().workers(1).worker_env("SWATH_TEST_INIT", dir.path().to_str().unwrap()).build().unwrap();
    let waits = client.submit(&delayed(inc).call(1)).unwrap();
    let told =
        until_why(&client, &waits, "a worker starts", |told| matches!(told.why, Why::NoWorker { starting: 1, .. }));
    assert!(told.to_string().contains("1 is starting"), "{told}");
    touch(&path(&dir, "open"));
    assert_eq!(waits.result().unwrap(), 2);
    drop(client);
    // One of two has come.
    let dir = directory();
    let client = builder().workers(2).worker_env("SWATH_TEST_INIT", dir.path().to_str().unwrap()).build().unwrap();
    client.wait_for_workers(1, LONG).unwrap();
    let workers = client.workers().unwrap();
    let absent = workers.iter().find(|worker| worker.state == WorkerState::Starting).unwrap().name.clone();
    let present = workers.iter().find(|worker| worker.state == WorkerState::Running).unwrap().name.clone();
    let waits = client.submit(&delayed(inc).on_worker(&absent).call(1)).unwrap();
    let told = explain(&client, &waits);
    let Why::Placement { asked, present: found } = &told.why else { panic!("{told}") };
    assert!(asked.contains(&absent) && found.len() == 1 && found[0].contains(&present), "{told}");
    touch(&path(&dir, "open"));
    assert_eq!(waits.result().unwrap(), 2);
}

#[test]
fn a_task_that_may_have_ended_a_worker_says_that_it_waits_to_be_alone() {
    let _clean = Clean::start();
    let client = processes(1, 2);
    let gates = [Gate::new(), Gate::new()];
    let futures: Vec<_> = gates.iter().map(|gate| client.submit(&gate.call()).unwrap()).collect();
    gates.iter().for_each(Gate::begins);
    send_signal(pids(&client)[0], Signal::SIGKILL);
    // Both are suspects, and run again one after the other.
    until("one of them runs again", || gates.iter().any(|gate| notes(&gate.begun).len() == 2));
    let second = usize::from(notes(&gates[0].begun).len() == 2);
    let told = until_why(
        &client,
        &futures[second],
        "the other one waits",
        |told| matches!(&told.why, Why::Lost { again: Some(again), .. } if matches!(**again, Why::Alone { reason: Isolated::Suspect, .. })),
    );
    assert!(told.to_string().contains("was lost with worker-0, which died, and is done again"), "{told}");
    let first = explain(&client, &futures[1 - second]);
    let Why::Lost { worker, again: Some(again) } = &first.why else { panic!("{first}") };
    assert!(worker == "worker-0" && matches!(**again, Why::Running { .. }), "{first}");
    assert_eq!((first.cost.runs, first.cost.lost), (2, 1), "{first}");
    gates.iter().for_each(Gate::open);
    assert_eq!(client.gather(&futures).unwrap(), [7, 7]);
}

#[test]
fn a_result_that_is_lost_and_made_again_says_so() {
    fn once_at_once(ran: String, open: String) -> Vec<u8> {
        note(&ran, "ran");
        if notes(&ran).len() > 1 {
            wait_for_file(&open);
        }
        vec![1; 100_000]
    }
    let _clean = Clean::start();
    let client = processes(1, 1);
    let gate = Gate::new();
    let kept = client.submit(&delayed(once_at_once).call(&*gate.begun, &*gate.open)).unwrap();
    ended(&kept);
    let told = explain(&client, &kept);
    let stored = Why::Stored { worker: Some("worker-0".into()), bytes: Some(100_024), place: Place::Memory };
    assert!(
        told.why == stored || matches!(told.why, Why::Stored { worker: Some(_), place: Place::Memory, .. }),
        "{told}"
    );
    send_signal(pids(&client)[0], Signal::SIGKILL);
    let told = until_why(
        &client,
        &kept,
        "it is made again",
        |told| matches!(&told.why, Why::Lost { again: Some(again), .. } if matches!(**again, Why::Running { .. })),
    );
    assert!(told.cost.runs >= 2, "{told}");
    gate.open();
    until_why(&client, &kept, "it is there again", |told| matches!(told.why, Why::Stored { .. }));
}

/// Takes until a file is there to encode.
#[derive(Clone, Debug, Deserialize)]
struct Slow {
    begun: String,
    open: String,
    rest: Vec<u8>,
}

impl Serialize for Slow {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.open.is_empty() && std::path::Path::new(&format!("{}.armed", self.open)).exists() {
            note(&self.begun, "encodes");
            wait_for_file(&self.open);
        }
        (&self.begun, &self.open, &self.rest).serialize(serializer)
    }
}

#[test]
fn inputs_on_their_way_are_named_with_where_they_come_from() {
    fn make(begun: String, open: String) -> Slow {
        Slow { begun, open, rest: vec![1; 100_000] }
    }
    let _clean = Clean::start();
    let client = processes(2, 1);
    let gate = Gate::new();
    let slow = client.submit(&delayed(make).on_worker("worker-0").call(&*gate.begun, &*gate.open)).unwrap();
    ended(&slow);
    gate.arm();
    let length = delayed(|slow: Slow| slow.begun.len() as i64).on_worker("worker-1");
    let needs = client.submit(&length.call(&slow)).unwrap();
    let told = until_why(&client, &needs, "it is moved", |told| matches!(told.why, Why::Moving { .. }));
    let Why::Moving { from, bytes } = &told.why else { panic!("{told}") };
    assert!(from.len() == 1 && from[0] == "worker-0" && *bytes > 100_000, "{told}");
    assert_eq!(told.state, TaskState::Waiting, "{told}");
    gate.open();
    assert_eq!(needs.result().unwrap() as usize, gate.begun.len());
}

#[test]
fn a_call_that_has_not_been_sent_says_how_many_are_before_it() {
    let _clean = Clean::start();
    let client = processes(1, 1);
    let gate = Gate::new();
    let slow = |open: &str| Slow { begun: gate.begun.clone(), open: open.to_string(), rest: Vec::new() };
    gate.arm();
    // The calls after the thousandth are not sent before that can be encoded.
    let values: Vec<_> = (0..5000).map(|i| slow(if i == 1000 { &gate.open } else { "" })).collect();
    let futures = client.map(|slow: Slow| slow.begun.len() as i64, values).unwrap();
    gate.begins();
    let last = futures.last().unwrap();
    let told = explain(&client, last);
    let Why::NotSent { ahead } = told.why else { panic!("{told}") };
    assert!((1000..5000).contains(&ahead), "{told}");
    assert_eq!(checked(client.explain_key(&last.key()).unwrap()).why, Why::NotSent { ahead });
    gate.open();
    assert_eq!(last.result().unwrap() as usize, gate.begun.len());
}

#[test]
fn a_source_that_is_held_back_says_for_what() {
    fn block(x: u64) -> Vec<u64> {
        vec![x; 1 << 20]
    }
    let _clean = Clean::start();
    let client = Client::builder().mode(Mode::Threads).threads(2).memory_limit("20MB").build().unwrap();
    let gate = Gate::new();
    let running = client.submit(&gate.call()).unwrap();
    gate.begins();
    let blocks: Vec<_> = (0..6).map(|x| delayed(block).name(format!("block {x}")).call(x)).collect();
    let count = client.submit(&delayed(|blocks: Vec<Vec<u64>>| blocks.len() as i64).call(blocks)).unwrap();
    let told = until_key(&client, "block 5", "it is held back", |told| matches!(told.why, Why::HeldBack { .. }));
    let Why::HeldBack { bytes, consumers } = told.why else { panic!("{told}") };
    assert!(bytes >= 8 << 20 && consumers == 1 && told.state == TaskState::Ready, "{told}");
    gate.open();
    assert_eq!((running.result().unwrap(), count.result().unwrap()), (7, 6));
}

#[test]
fn a_result_on_disk_says_so() {
    let _clean = Clean::start();
    let spill = directory();
    let builder = Client::builder().workers(1).threads(1).memory_limit("256MB").spill_directory(spill.path());
    let client = builder.build().unwrap();
    client.wait_for_workers(1, LONG).unwrap();
    let large = |n: usize| swath::Buffer::<u8>::from_fn(n, |i| i as u8);
    let kept: Vec<_> = [80, 80, 80].map(|mb| client.submit(&delayed(large).call(mb * 1_000_000_usize)).unwrap()).into();
    kept.iter().for_each(ended);
    let told = until_why(&client, &kept[0], "some is on disk", |told| {
        matches!(told.why, Why::Stored { place: Place::Disk | Place::MemoryOrDisk, .. })
    });
    assert!(told.to_string().contains("disk"), "{told}");
}

/// Takes so many megabytes until a file is there.
fn hog(begun: String, open: String, mb: usize) -> usize {
    let all = vec![1_u8; mb * 1_000_000];
    note(&begun, "begun");
    wait_for_file(&open);
    all.len()
}

#[test]
fn a_task_that_waits_for_memory_names_the_workers_that_lack_it() {
    let _clean = Clean::start();
    let client = Client::builder().workers(1).threads(2).memory_limit("1GB").build().unwrap();
    client.wait_for_workers(1, LONG).unwrap();
    let gate = Gate::new();
    // Over the level at which a worker starts nothing else, and under that at which it is ended.
    let hog = client.submit(&delayed(hog).call(&*gate.begun, &*gate.open, 830_usize)).unwrap();
    gate.begins();
    let waits = client.submit(&delayed(inc).call(1)).unwrap();
    let told = until_why(&client, &waits, "it waits for memory", |told| matches!(told.why, Why::Memory { .. }));
    let Why::Memory { workers } = &told.why else { panic!("{told}") };
    assert_eq!(
        (workers.len(), workers[0].name.as_str(), workers[0].limit),
        (1, "worker-0", Some(1_000_000_000)),
        "{told}"
    );
    assert!(workers[0].used > 800_000_000 && !workers[0].reason.is_empty(), "{told}");
    assert!(told.to_string().contains("make room in its memory"), "{told}");
    gate.open();
    assert_eq!((hog.result().unwrap(), waits.result().unwrap()), (830_000_000, 2));
}

#[test]
fn a_saved_log_explains_its_tasks() {
    let _clean = Clean::start();
    let dir = directory();
    for (at, client) in [Client::sync(), Client::threads(2), processes(1, 1)].into_iter().enumerate() {
        let good = delayed(inc).name("good").call(1);
        let bad = delayed(tenth).name("bad").call(0);
        client.compute(&good).unwrap();
        client.compute(&bad).unwrap_err();
        let file = path(&dir, &format!("{at}.swath"));
        until("both are on record", || {
            client.save_events(&file).unwrap();
            SavedLog::open(&file).unwrap().runs().flatten().filter(|run| run.end.is_some()).count() == 2
        });
        let log = SavedLog::open(&file).unwrap();
        let told = checked(log.explain(&good.key()).unwrap());
        assert_eq!((told.state, told.cost.runs, told.task.graph), (TaskState::Released, 1, Some(0)), "{told}");
        assert!(told.timeline.submitted.is_some() && told.cost.took.is_some(), "{told}");
        let told = checked(client.events().unwrap().explain("bad").unwrap());
        assert!(matches!(told.why, Why::Failed { .. }) && told.cost.failed == 1, "{told}");
        assert!(matches!(log.explain("nope"), Err(KeyError::Unknown { .. })));
    }
}

#[test]
fn a_local_cluster_explains_the_tasks_of_all_programs() {
    let _clean = Clean::start();
    crate::with_cluster(|socket| {
        let explain = |key: &str| swath::local::explain(socket, key);
        assert!(matches!(explain("held"), Err(Error::Key(KeyError::Unknown { .. }))));
        let (one, other) = (Client::connect(socket).unwrap(), Client::connect(socket).unwrap());
        let gate = Gate::new();
        let running = one.submit(&gate.call()).unwrap();
        gate.begins();
        let waits = other.submit(&delayed(inc).name("waits").on_worker("worker-0").call(1)).unwrap();
        let told = checked(explain(&running.key()).unwrap());
        assert!(matches!(told.why, Why::Running { since: Some(_), .. }) && told.task.key == running.key(), "{told}");
        let key = waits.key();
        let told = checked(explain(&format!("{}…", &key[..key.len() - 4])).unwrap());
        assert_eq!(told.task.key, key);
        gate.open();
        assert_eq!((running.result().unwrap(), waits.result().unwrap()), (7, 2));
        let key = running.key();
        drop(running);
        until("it is released", || {
            let told = checked(explain(&key).unwrap());
            told.why == Why::Released && told.cost.runs == 1 && told.task.name == "held"
        });
    });
}

#[test]
#[ignore = "full runtime: a million tasks"]
fn a_million_tasks_hold_nobody_up() {
    let _clean = Clean::start();
    let client = processes(1, 1);
    let gate = Gate::new();
    let running = client.submit(&gate.call()).unwrap();
    gate.begins();
    let futures = client.map(|x: u64| x, 0..1_000_000_u64).unwrap();
    until("all have been sent", || !matches!(client.explain(&futures[999_999]).unwrap().why, Why::NotSent { .. }));
    let mut times: Vec<Duration> = (0..50)
        .map(|_| {
            let began = Instant::now();
            explain(&client, &futures[999_999]);
            began.elapsed()
        })
        .collect();
    times.sort();
    say(format_args!("explain: {:?} .. {:?} .. {:?}", times[0], times[25], times[49]));
    assert!(times[25] < Duration::from_millis(1), "{times:?}");
    let key = futures[999_999].key();
    let began = Instant::now();
    let told = client.explain_key(&key).unwrap();
    say(format_args!("explain_key: {:?}: {told}", began.elapsed()));
    // Meanwhile another thread asks something else.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let longest = std::thread::scope(|scope| {
        let asks = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let began = Instant::now();
                client.explain(&running).unwrap();
                longest = longest.max(began.elapsed());
            }
            longest
        });
        for _ in 0..20 {
            client.explain_key(&key).unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        asks.join().unwrap()
    });
    say(format_args!("another question waits {longest:?} at most"));
    gate.open();
    drop(futures);
    assert_eq!(running.result().unwrap(), 7);
}
