//! The examples run, in every mode they have, and their checks of their own results hold.

#![allow(clippy::unwrap_used)]

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Cargo builds the examples for a test run and puts them beside the tests.
fn example(name: &str) -> Command {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(name);
    assert!(
        path.exists(),
        "{} is missing: `cargo test` builds it, `cargo test --test examples` does not",
        path.display()
    );
    let mut command = Command::new(path);
    for variable in ["SWATH_SCHEDULER", "SWATH_WORKERS", "SWATH_THREADS", "SWATH_MEMORY_LIMIT", "SWATH_CLUSTER"] {
        command.env_remove(variable);
    }
    command
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

#[test]
fn quickstart_debug_inference_and_mowers_run_in_every_mode() {
    for mode in ["sync", "threads", "processes"] {
        for name in ["quickstart", "debug", "inference", "mowers"] {
            succeed(example(name).env("SWATH_SCHEDULER", mode).env("SWATH_WORKERS", "2"));
        }
    }
}

#[test]
fn wordcount_and_records_give_the_known_answers_in_every_mode() {
    for mode in ["sync", "threads", "processes"] {
        let output = succeed(example("wordcount").env("SWATH_SCHEDULER", mode).env("SWATH_WORKERS", "2"));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.lines().nth(2).is_some_and(|line| line.ends_with("  the")), "{text}");

        let output = succeed(example("records").env("SWATH_SCHEDULER", mode).env("SWATH_WORKERS", "2"));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("12 files of JSON lines"), "{text}");
        assert!(text.contains("27059 of 328521 flights left an hour late or more"), "{text}");
        assert!(text.ends_with("365 days\n"), "{text}");
    }
}

#[test]
fn every_example_is_recorded_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: String| folder.path().join(name);
    let examples = [
        ("quickstart", &[][..], &["sum", "inc"][..]),
        ("debug", &[], &["spread"]),
        ("inference", &[], &["classify"]),
        ("mowers", &["--workers", "2", "--items", "100000", "--chunk", "10000"], &["mow"]),
        ("coordination", &[], &["work"]),
        ("memory", &[], &["block"]),
        ("wordcount", &[], &["frequencies"]),
        ("records", &[], &["summary"]),
        ("service", &["--self-test"], &["add_up"]),
        ("flights", &["--json"], &["group_by_origin"]),
    ];
    for (name, args, words) in examples {
        let (log, picture) = (file(format!("{name}.swath")), file(format!("{name}.svg")));
        let mut command = example(name);
        command.args(args).args(["--progress", "--record"]).arg(&log);
        let report = file(format!("{name}.html"));
        command.arg("--report").arg(&report).arg(format!("--graph={}", picture.display())).env("SWATH_WORKERS", "2");
        succeed(&mut command);
        let (log, report) = match name {
            "mowers" => (file("mowers.2.swath".to_string()), file("mowers.2.html".to_string())),
            _ => (log, report),
        };
        assert!(std::fs::read_to_string(&report).unwrap().contains("<html"), "{name}");
        let summary = swath::events::saved::SavedLog::open(&log).unwrap().summary();
        assert!(summary.complete && summary.runs > 0, "{name}: {summary}");
        let picture = std::fs::read_to_string(picture).unwrap();
        assert!(words.iter().any(|word| picture.contains(word)), "{name}: none of {words:?}");
    }
    for (name, arg) in [("debug", "--nonsense"), ("quickstart", "--record")] {
        let output = example(name).arg(arg).output().unwrap();
        assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains(arg), "{output:?}");
    }
}

#[test]
fn coordination_counts_right_though_workers_are_killed() {
    let output = succeed(&mut example("coordination"));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("200 seen, 200 counted, "), "{text}");
    assert!(!text.contains(" 0 workers killed"), "{text}");
}

#[test]
fn flights_gives_the_known_answers_in_every_mode() {
    for mode in ["sync", "threads", "processes"] {
        let output = succeed(example("flights").args(["--mode", mode, "--json"]));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["mode"], mode);
        assert_eq!(answer["rows"], 336_776);
        for (origin, mean) in [("EWR", 15.107_954), ("JFK", 12.112_159), ("LGA", 10.346_876)] {
            let found = answer["mean_dep_delay_by_origin"][origin].as_f64().unwrap();
            assert!((found - mean).abs() < 1e-6, "{mode}, {origin}: {found}");
        }
    }
}

#[test]
fn flights_says_what_is_wrong_with_its_input() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.csv");
    std::fs::write(&file, "month,day,dep_delay,carrier,origin,dest\n1,1,late,UA,EWR,IAH\n").unwrap();
    let output = example("flights").arg("--mode").arg("processes").arg(&file).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("bad.csv:2") && message.contains("late"), "{message}");
    assert!(!message.contains("panicked"), "{message}");
}

#[test]
fn the_service_passes_its_own_test() {
    succeed(example("service").arg("--self-test"));
}

/// As a service manager does that signals every process of the service's group.
#[test]
fn the_service_answers_what_it_has_accepted_when_it_is_told_to_stop() {
    let mut child = example("service").process_group(0).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.by_ref().find_map(|line| Some(line.strip_prefix("listening on http://")?.to_string())).unwrap();
    let get = |path: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| get("/slow?ms=1000&deadline_ms=60000"));
        while !get("/health").contains("1 graph(s) in flight") {
            assert!(!slow.is_finished(), "the request was never seen");
        }
        killpg(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        let answer = slow.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("1000\n"), "{answer}");
    });
    assert_eq!(lines.last().as_deref(), Some("stopped"));
    assert!(child.wait().unwrap().success());
}

#[test]
fn memory_holds_its_limits() {
    let output = String::from_utf8(succeed(&mut example("memory")).stdout).unwrap();
    assert!(output.contains("needs more memory than a worker has"), "{output}");
    assert!(output.contains("the sum is still"), "{output}");
}
