//! What is exported is read back.
#![allow(clippy::unwrap_used)]

use crate::log::{Event, EventKind, Head, Input, LogError, MemorySample, Outcome, Run, SavedLog, Writer};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

const HOSTILE: &str = "\"<script>\",\n;\u{202e}=1+1\u{0}";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Two runs that make and take a value, one that failed, one that had not ended; events and samples.
fn log(path: &std::path::Path) -> SavedLog {
    let mut writer = Writer::create(path, &Head::new("0.1.0", SystemTime::now())).unwrap();
    let mut made = Run::new("read", 1, "worker-0", ms(1));
    made.ended(ms(3), Outcome::Finished);
    let mut taken = Run::new(HOSTILE, 2, "worker-1", Duration::from_nanos(4_000_001));
    (taken.thread, taken.bytes_in, taken.ready, taken.attempt) = (1, Some(8), Some(ms(3)), 1);
    taken.ended(ms(6), Outcome::Failed);
    let runs = [made, taken, Run::new("last", 3, "worker-0", ms(7))];
    runs.iter().for_each(|run| writer.run(run));
    writer.input(Input::new(0, (HOSTILE.into(), 2), ("read".into(), 1)));
    writer.input(Input::new(0, ("never ran".into(), 9), ("read".into(), 1)));
    for kind in [
        EventKind::GraphFinished { graph: 0, took: ms(9) },
        EventKind::WorkerResumed { worker: "worker-2".into() },
        EventKind::Transfer { key: "k".into(), from: "worker-0".into(), to: "worker-1".into(), bytes: 8, took: ms(1) },
        EventKind::Note { key: None, topic: HOSTILE.into(), value: HOSTILE.into() },
    ] {
        writer.event(Event::new(ms(9), kind));
    }
    writer.memory(&MemorySample { managed: 10, spilled: 5, ..MemorySample::new(ms(2), "worker-0", 30) });
    writer.finish().unwrap();
    SavedLog::open(path).unwrap()
}

#[test]
fn a_trace_has_what_its_format_asks_for() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory.path().join("run.swath"));
    let path = directory.path().join("t.json");
    log.trace(&path).unwrap();
    let trace: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |phase: &str| events.iter().filter(|e| e["ph"] == phase).collect::<Vec<_>>();
    for event in events {
        assert!(event["name"].is_string() && event["pid"].is_u64(), "{event}");
        match event["ph"].as_str().unwrap() {
            "M" => assert!(event["args"].is_object(), "{event}"),
            "X" => assert!(event["ts"].is_number() && event["dur"].is_number() && event["tid"].is_u64(), "{event}"),
            "C" => assert!(event["args"].as_object().unwrap().values().all(Value::is_number), "{event}"),
            "s" | "f" => assert!(event["id"].is_u64() && event["cat"] == "input" && event["tid"].is_u64(), "{event}"),
            "i" => assert!(event["s"] == "p", "{event}"),
            other => panic!("{other}"),
        }
    }
    let named: HashMap<_, _> = of("M")
        .iter()
        .filter(|e| e["name"] == "process_name")
        .map(|e| (e["pid"].as_u64().unwrap(), e["args"]["name"].as_str().unwrap()))
        .collect();
    let used: HashSet<_> = events.iter().map(|e| e["pid"].as_u64().unwrap()).collect();
    assert!(used.iter().all(|process| named.contains_key(process)), "{named:?}");
    let runs: Vec<_> = of("X").into_iter().filter(|e| e["args"]["key"].is_string() && e["cat"] != "bytes").collect();
    assert_eq!(runs.len(), 3);
    assert_eq!(runs[1]["name"], HOSTILE);
    assert_eq!((runs[1]["ts"].as_f64(), runs[1]["args"]["outcome"].as_str()), (Some(4000.001), Some("failed")));
    assert_eq!(runs[1]["args"]["waited_ns"], 1_000_001);
    // It lasts until the end of the log.
    assert_eq!(runs[2]["dur"], 2000);
    assert_eq!((of("s").len(), of("f").len()), (1, 1));
    let (from, to) = (of("s")[0], of("f")[0]);
    assert!(from["ts"].as_f64() < to["ts"].as_f64() && from["pid"] == runs[0]["pid"] && to["pid"] == runs[1]["pid"]);
    let running: Vec<_> = of("C").into_iter().filter(|e| e["name"] == "running").collect();
    assert_eq!(running.last().unwrap()["args"]["tasks"], 0);
}

#[test]
fn json_lines_and_csv_have_every_run() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory.path().join("run.swath"));
    let path = directory.path().join("out");
    log.json_lines(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["kind"], &lines[0]["format"]), (&"head".into(), &2.into()));
    let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!((of("run"), of("event"), of("memory"), of("input")), (3, 4, 1, 2));
    assert!(lines.iter().any(|line| line["name"] == HOSTILE && line["outcome"] == "failed" && line["bytes_in"] == 8));
    assert!(lines.iter().any(|line| line["event"] == "note" && line["topic"] == HOSTILE));

    log.csv(&path).unwrap();
    let mut read = ::csv::Reader::from_path(&path).unwrap();
    let headers = read.headers().unwrap().clone();
    let [name, start, outcome] = ["name", "start", "outcome"].map(|n| headers.iter().position(|h| h == n).unwrap());
    let rows: Vec<_> = read.records().map(Result::unwrap).collect();
    assert_eq!((rows.len(), &rows[1][name], &rows[1][start], &rows[1][outcome]), (3, HOSTILE, "0.004000001", "failed"));
}

#[test]
fn paths_that_cannot_be_written_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory.path().join("run.swath"));
    let nowhere = directory.path().join("none").join("t");
    type Export = fn(&SavedLog, &std::path::Path) -> Result<(), LogError>;
    let exports: [Export; 3] =
        [|log, path| log.trace(path), |log, path| log.json_lines(path), |log, path| log.csv(path)];
    for export in exports {
        assert!(matches!(export(&log, directory.path()), Err(LogError::NotAFile { .. })));
        assert!(matches!(export(&log, &nowhere), Err(LogError::Io { action: "create", .. })));
        assert!(matches!(export(&log, std::path::Path::new("/dev/full")), Err(LogError::Io { action: "write", .. })));
    }
}
