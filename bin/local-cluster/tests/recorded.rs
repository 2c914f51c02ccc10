//! Clusters that record what their programs do, and the commands that tell of it: of the recording, and of what a cluster
//! remembers without one.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod fixture;

use common::{LONG, until};
use fixture::{Cluster, EXE, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use swath::error::LogLine;
use swath::events::saved::{EventKind, SavedLog, Summary};
use swath::{Client, delayed, try_delayed};

fn inc(x: u64) -> u64 {
    x + 1
}

fn refuse(x: u64) -> Result<u64, String> {
    Err(format!("{x} is refused"))
}

#[allow(clippy::print_stdout)]
fn speak(word: String) {
    println!("out {word}");
    log::error!(target: "speakers", "logged {word}");
}

fn die(_: u64) {
    log::error!("last words");
    std::process::abort();
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The file that a cluster records in.
fn recorded(cluster: &Cluster) -> PathBuf {
    cluster.status()["record"].as_str().unwrap().into()
}

fn summary(path: &Path) -> Summary {
    SavedLog::open(path).unwrap().summary()
}

/// What a client has counted is in what a command says, whose groups these are.
fn same_counts(groups: &Value, client: &Client) {
    let progress = client.progress();
    for group in &progress.groups {
        let same = |other: &&Value| other["name"] == group.name && (other["graph"].is_null() || group.graph.is_some());
        let all: Vec<_> = groups.as_array().unwrap().iter().filter(same).collect();
        let sum = |state: &str| all.iter().map(|group| group["counts"][state].as_u64().unwrap()).sum::<u64>();
        let mine: Vec<_> = progress.groups.iter().filter(|other| other.name == group.name).collect();
        let of = |count: fn(&swath::status::Counts) -> u64| mine.iter().map(|group| count(&group.counts)).sum::<u64>();
        let told = (sum("memory"), sum("released"), sum("failed"), sum("cancelled"), sum("waiting") + sum("ready"));
        let counted =
            (of(|c| c.memory), of(|c| c.released), of(|c| c.failed), of(|c| c.cancelled), of(|c| c.waiting + c.ready));
        assert_eq!(told, counted, "{}: {groups}", group.name);
    }
}

/// Some work, of which a part fails.
fn work(client: &Client) -> swath::Future<()> {
    let sum: u64 = client.compute(&delayed(inc).map(0..1000)).unwrap().into_iter().sum();
    assert_eq!(sum, 500_500);
    let chain = (0..4).fold(delayed(inc).call(0), |x, _| x.map(inc));
    assert_eq!(client.compute(&chain).unwrap(), 5);
    client.compute(&try_delayed(refuse).call(7).map(inc)).unwrap_err();
    let spoken = client.submit(&delayed(speak).call("hello")).unwrap();
    spoken.result().unwrap();
    until("its lines are there", || client.logs_of(&spoken).unwrap().len() >= 2);
    spoken
}

/// All commands that tell of what happened tell of `work`: of the running cluster, and of a file.
fn told(cluster: &Cluster, client: &Client, key: &str, file: Option<&Path>) {
    let file = file.map(|file| file.display().to_string());
    let with = |args: &[&str]| {
        let output = cluster.run(&[args, &file.as_deref().into_iter().collect::<Vec<_>>()].concat());
        assert!(output.status.success(), "{args:?} {output:?}");
        output
    };
    let events = json(&with(&["events", "--json"]));
    assert_eq!((&events["format"], events["runs"].as_u64()), (&2.into(), Some(1007)), "{events}");
    same_counts(&events["groups"], client);
    let why = json(&with(&["why", "--json"]));
    assert!(why["names"].as_array().unwrap().iter().any(|name| name["name"] == "inc"), "{why}");
    let drawn = cluster.dir.path().join("g.svg").display().to_string();
    with(&["graph", "-o", &drawn]);
    assert!(fs::read_to_string(&drawn).unwrap().contains("inc"));
    let outline = text(&with(&["graph"]).stdout);
    assert!(outline.contains("inc") && outline.contains("speak"), "{outline}");
    let trace = cluster.dir.path().join("t.json").display().to_string();
    with(&["trace", "-o", &trace]);
    assert!(fs::read_to_string(&trace).unwrap().contains("\"inc\""));
    let report = cluster.dir.path().join("r.html").display().to_string();
    with(&["report", "-o", &report]);
    assert!(fs::read_to_string(&report).unwrap().contains("<td class=\"name\">inc</td>"));
    let lines = text(&with(&["logs", "--task", &key[..key.len() - 8]]).stdout);
    assert!(
        lines.contains("out hello") && lines.contains("ERROR speakers") && lines.contains("logged hello"),
        "{lines}"
    );
    for path in [drawn, trace, report] {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn all_programs_of_a_cluster_are_in_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let into = directory.path().join("logs");
    let mut cluster = Cluster::start(&["--workers", "2", "--threads", "1", "--record", into.to_str().unwrap()]);
    let path = recorded(&cluster);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    assert!(
        path.starts_with(&into)
            && name.starts_with("default-20")
            && name.ends_with(&format!("Z-{}.swath", cluster.pid)),
        "{name}"
    );
    assert!(text(&cluster.run(&["status"]).stdout).contains(&name));

    let client = cluster.connect();
    let spoken = work(&client);
    told(&cluster, &client, &spoken.key(), None);
    told(&cluster, &client, &spoken.key(), Some(&path));
    client.submit(&delayed(die).name("die").call(1)).unwrap().result().unwrap_err();
    // Asking the cluster has it write what has happened.
    assert!(cluster.run(&["events"]).status.success());
    let deaths = json(&cluster.run(&["deaths", "--json"]));
    let saved = json(&cluster.run(&["deaths", "--json", path.to_str().unwrap()]));
    for deaths in [&deaths, &saved] {
        let death = &deaths[0];
        assert!(death["reason"].as_str().unwrap().contains("SIGABRT") && death["pid"].as_u64().unwrap() > 0, "{death}");
        assert!(death["last_lines"].to_string().contains("last words"), "{death}");
    }
    for of in [&[][..], &[path.to_str().unwrap()]] {
        let said = text(&cluster.run(&[&["deaths"], of].concat()).stdout);
        assert!(said.contains("/worker-") && said.contains("last words"), "{said}");
    }
    // Another session of the program counts its graphs from 0, too.
    let other = cluster.connect();
    assert_eq!(other.compute(&delayed(inc).map(0..10)).unwrap().len(), 10);
    let before = (client.progress(), other.progress());
    client.shutdown();
    other.shutdown();
    assert!(cluster.run(&["stop"]).status.success());
    cluster.bury();

    let log = SavedLog::open(&path).unwrap();
    let all = log.summary();
    assert!(all.complete, "{:?}", all.problems);
    assert!(all.runs >= 1018, "{}", all.runs);
    let total: u64 = [&before.0, &before.1].iter().map(|progress| progress.counts.total()).sum();
    assert_eq!(all.groups.iter().map(|group| group.counts.total()).sum::<u64>(), total);
    let events: Vec<_> = log.events().map(|event| event.unwrap().kind).collect();
    let submitted: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            EventKind::GraphSubmitted { graph, tasks, label, .. } => Some((*graph, *tasks, label.clone())),
            _ => None,
        })
        .collect();
    let program = std::env::current_exe().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(submitted.iter().map(|graph| graph.1).collect::<Vec<_>>(), [1000, 5, 2, 1, 1, 10], "{submitted:?}");
    assert!(submitted.iter().all(|graph| graph.2.as_ref() == Some(&program)), "{submitted:?}");
    assert_ne!(submitted[0].0, submitted[5].0, "two sessions");
    let finished = events.iter().filter(|event| matches!(event, EventKind::GraphFinished { .. })).count();
    assert!((4..=6).contains(&finished), "{finished}");
    let runs: Vec<_> = log.runs().map(|run| run.unwrap()).collect();
    assert!(runs.iter().all(|run| run.worker.starts_with(&format!("{program}/worker-"))), "{:?}", runs[0]);
    let count = |name: &str| runs.iter().filter(|run| &*run.name == name).count();
    assert_eq!((count("inc"), count("refuse"), count("speak"), count("task")), (1015, 1, 1, 0));
}

#[test]
fn a_cluster_without_a_recording_tells_what_it_remembers() {
    let cluster = Cluster::start(&["--workers", "1", "--threads", "2"]);
    for args in [&["events", "--json"][..], &["why"], &["deaths"]] {
        assert!(cluster.run(args).status.success(), "{args:?}: nothing has run");
    }
    let nothing = cluster.run(&["graph"]);
    assert!(text(&nothing.stderr).contains("nothing has run"), "{nothing:?}");
    let client = cluster.connect();
    let spoken = work(&client);
    told(&cluster, &client, &spoken.key(), None);
    assert_eq!(text(&cluster.run(&["deaths"]).stdout), "No worker has died.\n");

    let report = cluster.dir.path().join("report.json");
    let output = cluster.run(&["dump", "-o", report.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let log = cluster.dir.path().join("report.swath");
    let dump: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert_eq!(dump["log"], "report.swath");
    assert!(dump["swath"].as_str().unwrap().starts_with("0.") && dump["machine"]["processors"].as_u64().unwrap() > 0);
    assert_eq!(dump["status"]["programs"][0]["workers"].as_array().unwrap().len(), 1);
    assert_eq!(dump["summary"]["runs"], 1007);
    assert_eq!(summary(&log).runs, 1007);
    for path in [&report, &log] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        let bytes = fs::read(path).unwrap();
        // No variable of the environment, no argument, no value.
        let home = std::env::var("PATH").unwrap();
        let args = std::env::args().nth(1);
        for secret in [Some(home), args.filter(|arg| arg.len() > 10)].into_iter().flatten() {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret}");
        }
    }
    let refused = cluster.run(&["dump", "-o", "/nonexistent/report.json"]);
    assert!(refused.status.code() == Some(1) && text(&refused.stderr).contains("/nonexistent/"), "{refused:?}");
    let left: Vec<_> = fs::read_dir(cluster.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".swath")), "{left:?}");
    fs::remove_file(report).unwrap();
    fs::remove_file(log).unwrap();
}

#[test]
fn a_program_that_is_attached_is_recorded_by_itself() {
    let cluster = Cluster::start(&["--workers", "2", "--threads", "1"]);
    let other = cluster.connect();
    assert_eq!(other.compute(&delayed(inc).map(0..50)).unwrap().len(), 50);
    let path = cluster.dir.path().join("run.swath");
    let client = Client::builder().cluster(&cluster.socket).record(&path).build().unwrap();
    let spoken = work(&client);
    assert_eq!(other.compute(&delayed(inc).map(0..50)).unwrap().len(), 50);
    client.submit(&delayed(die).name("die").call(1)).unwrap().result().unwrap_err();
    let last: u64 = client.compute(&delayed(inc).map(0..100)).unwrap().into_iter().sum();
    assert_eq!(last, 5050);
    client.shutdown();
    let log = SavedLog::open(&path).unwrap();
    let summary = log.summary();
    assert!(summary.complete, "{:?}", summary.problems);
    // Those of the other one are none of its; a run of the task that kills its workers is lost, and runs again.
    let counted: Vec<_> = summary.names.iter().map(|name| (&*name.name, name.cost.runs)).collect();
    for wanted in [("inc", 1105), ("refuse", 1), ("speak", 1)] {
        assert!(counted.contains(&wanted), "{wanted:?}: {counted:?}");
    }
    let json = serde_json::to_value(&summary).unwrap();
    same_counts(&json["groups"], &client);
    let events: Vec<_> = log.events().map(|event| event.unwrap().kind).collect();
    let count = |wanted: fn(&EventKind) -> bool| events.iter().filter(|event| wanted(event)).count();
    assert_eq!(count(|e| matches!(e, EventKind::GraphSubmitted { .. })), 6);
    assert!(count(|e| matches!(e, EventKind::WorkerLost { .. })) >= 1, "{events:?}");
    let lines =
        events.iter().filter(|event| matches!(event, EventKind::Line { key: Some(key), .. } if *key == spoken.key()));
    assert_eq!(lines.count(), 2, "{events:?}");
    fs::remove_file(path).unwrap();
}

#[test]
fn the_file_of_a_killed_cluster_has_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(&["--workers", "1", "--record", directory.path().to_str().unwrap()]);
    let client = cluster.connect();
    client.compute(&delayed(inc).map(0..1000)).unwrap();
    let path = recorded(&cluster);
    until("it has been written", || {
        summary(&path).runs == 1000 && summary(&path).groups.iter().any(|g| g.counts.released == 1000)
    });
    kill(Pid::from_raw(cluster.pid as i32), Signal::SIGKILL).unwrap();
    cluster.bury();
    drop(client);
    let left = summary(&path);
    assert!(!left.complete && left.runs == 1000, "{left:?}");
    assert_eq!(left.groups[0].counts.released, 1000);
    cluster.is_gone_but_for_its_log();
}

#[test]
fn where_nothing_can_be_recorded_no_cluster_is_started() {
    let cluster = Cluster::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for bad in ["/proc/nothing", file.to_str().unwrap(), "/dev/null/x"] {
        let output = cluster.run(&["start", "--record", bad]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains(bad), "{output:?}");
        assert_eq!(cluster.run(&["status"]).status.code(), Some(3), "none runs");
    }
    for args in [&["start", "--record-limit", "1MB"][..], &["start", "--record", "/tmp", "--record-limit", "soon"]] {
        assert_eq!(cluster.run(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_full_disk_while_recording_leaves_the_work_alone() {
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().to_str().unwrap();
    let mut cluster = Cluster::new();
    let start = format!("trap '' XFSZ; exec {EXE} start --workers 1 --record {name}");
    let output = cluster.command("bash").args(["-c", &start]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let status = cluster.status();
    cluster.is(&status);
    let client = cluster.connect();
    client.wait_for_workers(1, LONG).unwrap();
    // From now on no file may become larger for the cluster's process: as if the disk were full.
    let limit = Command::new("prlimit").args(["--fsize=24576", "--pid", &cluster.pid.to_string()]).status().unwrap();
    assert!(limit.success());
    for _ in 0..20 {
        let tasks = delayed(|x: u64| (0..x % 100).sum::<u64>()).map(0..20_000);
        assert_eq!(client.compute(&tasks).unwrap().len(), 20_000);
    }
    let log = || fs::read_to_string(cluster.files().join("default.log")).unwrap();
    until("it is told", || log().contains("recording has stopped"));
    assert_eq!(client.compute(&delayed(inc).call(1)).unwrap(), 2);
    assert_eq!(log().matches("recording has stopped").count(), 1);
    let path = recorded(&cluster);
    drop(client);
    assert!(cluster.run(&["stop"]).status.success());
    let left = summary(&path);
    assert!(!left.complete && left.problems.iter().any(|problem| problem.contains("missing since")), "{left:?}");
}

#[test]
fn lines_of_logs_are_data_too() {
    let cluster = Cluster::start_behind(&["--workers", "1"]);
    let client = cluster.connect();
    let spoken = client.submit(&delayed(speak).call("word")).unwrap();
    spoken.result().unwrap();
    until("its lines are there", || client.logs_of(&spoken).unwrap().len() >= 2);
    let logs = json(&cluster.run(&["logs", "--json", "--task", &spoken.key()]));
    let lines: Vec<LogLine> = serde_json::from_value(logs[0]["lines"].clone()).unwrap();
    let record = lines.iter().find(|line| line.level.is_some()).unwrap();
    assert_eq!(
        (record.level, record.target.as_deref(), &*record.text),
        (Some(log::Level::Error), Some("speakers"), "logged word")
    );
    assert_eq!((record.key(), record.name()), (Some(&*spoken.key()), Some("speak")));
    let path = cluster.dir.path().join("run.swath");
    client.save_events(&path).unwrap();
    let saved = cluster.run(&["logs", "--json", "--task", "speak", path.to_str().unwrap()]);
    let saved: Vec<Value> = text(&saved.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(saved.len(), lines.len());
    let line = saved.iter().find(|line| !line["level"].is_null()).unwrap();
    assert_eq!(
        (&line["level"], &line["target"], &line["text"]),
        (&"ERROR".into(), &"speakers".into(), &"logged word".into())
    );
    assert!(line["time"].as_u64().unwrap().abs_diff(record.time) < 1_000_000_000, "{line} {record:?}");
    let only = |args: &[&str]| text(&cluster.run(&[&["logs"], args, &[path.to_str().unwrap()]].concat()).stdout);
    assert!(only(&["--stream", "stdout"]).lines().all(|line| line.contains("out word")));
    assert_eq!(only(&["--since", "0"]), "");
    assert_eq!(only(&["--worker", "worker-7"]), "");
    assert_eq!(cluster.run(&["logs", "-f", "file"]).status.code(), Some(2));
    fs::remove_file(path).unwrap();
    // No file: it says so.
    let none = Command::new(EXE).args(["logs", "none.swath"]).output().unwrap();
    assert!(none.status.code() == Some(1) && text(&none.stderr).contains("none.swath"), "{none:?}");
}
