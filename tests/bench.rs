//! The benchmark program runs all its workloads in small sizes, and what it prints can be read.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::process::{Command, Output};

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
