//! The benchmark program runs all its workloads in small sizes, and what it prints can be read; and what compares it with
//! others says what came out, and what did not.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The folder of the project.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lines(output: &Output) -> Vec<Value> {
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    text(&output.stdout).lines().map(read).collect()
}

#[test]
fn every_workload_runs() {
    let output = bench(&["all", "--quick", "--repeat", "1"]);
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    let lines = lines(&output);
    for line in &lines {
        for name in ["bench", "system", "metric", "unit"] {
            assert!(line[name].is_string(), "{name} in {line}");
        }
        assert!(line["params"].is_object() && line["value"].is_f64() && line.get("error").is_none(), "{line}");
    }
    for workload in text(&bench(&["--list"]).stdout).lines() {
        assert!(lines.iter().any(|line| line["bench"] == workload), "{workload}");
    }
    for system in ["swath-sync", "swath-threads", "swath-processes", "floor-socketpair", "floor-exec"] {
        assert!(lines.iter().any(|line| line["system"] == system), "{system}");
    }
}

#[test]
fn only_what_was_asked_for_is_measured() {
    let output = bench(&["noop", "--systems", "swath-sync,floor-serial", "--n", "50", "--repeat", "2"]);
    let lines = lines(&output);
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|line| line["params"]["n"] == 50 && line["runs"].as_array().unwrap().len() == 2));
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["noop", "--systems", "swath-sync", "--n", "50", "--repeat", "1"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && !text(&output.stderr).contains("panicked"), "{output:?}");
}

#[test]
fn a_wrong_word_is_an_error_that_helps() {
    for (args, word) in [
        (&["no-such-workload"][..], "noop"),
        (&["noop", "--systems", "dask"], "swath-threads"),
        (&["noop", "--size", "3"], "--n N"),
        (&[], "usage"),
    ] {
        let output = bench(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(word), "{args:?}");
        assert!(output.stdout.is_empty());
    }
}

/// Peers that are no more than what they say.
fn peers(directory: &Path) {
    let install =
        "#!/bin/sh\nmkdir -p \"$SWATH_PEERS/bin\" && ln -sf \"$(command -v python3)\" \"$SWATH_PEERS/bin/python\"\n";
    let noop = r#"
import json, sys
system = sys.argv[sys.argv.index("--systems") + 1]
n = int(sys.argv[sys.argv.index("--n") + 1])
line = {"bench": "noop", "system": system}
if system == "ray":
    sys.exit("it is not its day")
if system == "joblib-loky":
    line["error"] = "AssertionError: wrong answer"
else:
    line.update(params={"n": n, "workers": 2}, metric="throughput", value=50.0, unit="tasks/s", runs=[50.0])
print(json.dumps(line))
"#;
    let bags = r#"
import json, pathlib, sys
data = pathlib.Path(sys.argv[sys.argv.index("--data") + 1])
assert (data / "text/part0.txt").read_text() == "a b a\n"
line = {"bench": "bags", "system": "futures-processes", "params": {"part": "words", "mb": 0}, "metric": "time"}
print(json.dumps({**line, "value": 1000.0, "unit": "s"}))
"#;
    let make_data = r#"
import json, pathlib, sys
root = pathlib.Path(sys.argv[1])
(root / "text").mkdir()
(root / "text/part0.txt").write_text("a b a\n")
(root / "text/expected.json").write_text(json.dumps({"top10": [["a", 2], ["b", 1]]}))
(root / "json").mkdir()
person = {"id": 1, "name": "n", "age": 40, "occupation": "o", "address": {"city": "c", "zip": "z"}, "amount": 3}
(root / "json/part0.jsonl").write_text(json.dumps(person) + "\n")
(root / "json/expected.json").write_text(json.dumps({"amount_by_occupation": {"o": 3}, "count_by_occupation": {"o": 1}}))
"#;
    let files = [("install", install), ("noop.py", noop), ("bags.py", bags), ("make_data", make_data)];
    for (name, text) in files.into_iter().chain([("common.py", ""), ("frames.py", ""), ("tides.py", "")]) {
        std::fs::write(directory.join(name), text).unwrap();
    }
    std::fs::set_permissions(directory.join("install"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn script(name: &str) -> Command {
    Command::new(format!("{ROOT}/benches/{name}"))
}

fn compare(peers: Option<&Path>, out: &Path) -> Output {
    let mut command = script("compare");
    command.args(["--bench", env!("CARGO_BIN_EXE_bench"), "--workloads", "noop,bags", "--rounds", "2"]);
    command.args(["--systems", "futures-threads,ray,joblib-loky,futures-processes", "--out"]).arg(out);
    command.arg("--data").arg(out.join("data"));
    command.env_remove("SWATH_PEERS_DIR").env_remove("SWATH_CPU_LOCK").env("SWATH_PEERS", out.join("installed"));
    if let Some(peers) = peers {
        command.env("SWATH_PEERS_DIR", peers);
    }
    command.output().unwrap()
}

#[test]
fn a_comparison_tells_ratios_and_what_is_missing() {
    let (there, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    peers(there.path());
    let output = compare(Some(there.path()), out.path());
    assert!(output.status.success(), "{}", text(&output.stderr));

    let json = std::fs::read_to_string(out.path().join("compare.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let [row, _, bags] = &json["results"].as_array().unwrap()[..] else { panic!("{json:#}") };
    assert_eq!((&row["peer_system"], &row["swath_system"]), (&"futures-threads".into(), &"swath-threads".into()));
    assert_eq!(row["swath_params"]["via"], "submit", "a future for each task, as the peer has");
    let runs =
        |side: &str| row[side]["runs"].as_array().unwrap().iter().map(|r| r.as_f64().unwrap()).collect::<Vec<_>>();
    assert_eq!(runs("peer"), [50.0, 50.0]);
    let ratios: Vec<f64> = runs("swath").iter().map(|rate| rate / 50.0).collect();
    let told = runs("ratio");
    assert_eq!(told.len(), ratios.len());
    assert!(told.iter().zip(&ratios).all(|(told, ratio)| (told / ratio - 1.0).abs() < 1e-9), "{told:?} {ratios:?}");
    assert_eq!((&bags["swath_params"]["part"], &bags["peer_system"]), (&"words".into(), &"futures-processes".into()));
    assert!(bags["ratio"]["min"].as_f64().unwrap() > 1.0, "less time is better: {bags}");
    for fact in ["cpu", "cores", "memory", "kernel", "governor"] {
        assert!(!json["machine"][fact].is_null(), "{fact}");
    }
    let reason = |bench: &str, system: &str| {
        let missing = json["missing"].as_array().unwrap().iter();
        let mut found = missing.filter(|m| m["bench"] == bench && m["system"] == system);
        found.next().unwrap_or_else(|| panic!("{bench} {system} in {json:#}"))["reason"].as_str().unwrap().to_string()
    };
    assert_eq!(reason("noop", "ray"), "exit code 1: it is not its day");
    assert_eq!(reason("noop", "joblib-loky"), "AssertionError: wrong answer");
    assert_eq!(reason("frames", "all peers"), "swath has no data frames yet");
    assert_eq!(reason("tides", "all peers"), "not compared by this script");

    let table = std::fs::read_to_string(out.path().join("compare.md")).unwrap();
    assert!(table.contains("| futures-threads | throughput (tasks/s) | threads, submit |"), "{table}");
    assert!(table.contains("- noop ray: exit code 1: it is not its day"), "{table}");

    // What was measured goes into the page, with what `bench` says by itself.
    let (page, own) = (out.path().join("page.md"), out.path().join("own.jsonl"));
    std::fs::copy(format!("{ROOT}/docs/PERFORMANCE.md"), &page).unwrap();
    std::fs::write(&own, bench(&["roundtrip", "--systems", "swath-sync", "--n", "20", "--repeat", "1"]).stdout)
        .unwrap();
    let mut texts = (0..2).map(|_| {
        let mut command = script("page");
        command.arg("--page").arg(&page).arg(out.path().join("compare.json")).arg(&own);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        std::fs::read_to_string(&page).unwrap()
    });
    let first = texts.next().unwrap();
    for part in [
        "| futures-threads | throughput, tasks/s | threads, submit |",
        "- noop, ray: exit code 1",
        "| round trip, median",
    ] {
        assert!(first.contains(part), "{part} in {first}");
    }
    assert!(first.contains("## Where swath loses"), "what people wrote is still there");
    assert_eq!(texts.next().unwrap(), first, "once more changes nothing");
}

#[test]
fn a_comparison_with_nobody_is_an_error() {
    let (empty, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = compare(None, out.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("SWATH_PEERS_DIR"));
    let output = compare(Some(empty.path()), out.path());
    assert_eq!(output.status.code(), Some(1));
    let table = std::fs::read_to_string(out.path().join("compare.md")).unwrap();
    assert!(table.contains("- all ray: `install` cannot be run"), "{table}");
}
