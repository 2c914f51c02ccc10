//! Writing, cutting, flipping, reading.
#![allow(clippy::unwrap_used)]

use super::head::Head;
use super::*;
use crate::{Counts, GroupProgress};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

fn head() -> Head {
    let mut head = Head::new("0.1.0", UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    head.build = "b".repeat(16);
    head
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn run(name: &str, i: u64, outcome: Outcome) -> Run {
    let mut run = Run::new(name, i.wrapping_mul(0x9e37_79b9_7f4a_7c15), format!("worker-{}", i % 3), ms(i));
    (run.graph, run.task, run.thread) = ((i / 7) as u32, i as u32, (i % 2) as u16);
    if outcome != Outcome::Running {
        run.ended(ms(i + 1 + i % 5), outcome);
    }
    run
}

fn runs_of(log: &SavedLog) -> (Vec<Run>, Vec<String>) {
    let (mut runs, mut errors) = (Vec::new(), Vec::new());
    for run in log.runs() {
        match run {
            Ok(run) => runs.push(run),
            Err(e) => errors.push(e.to_string()),
        }
    }
    (runs, errors)
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.swath");
    (directory, path)
}

/// A log with several chunks of every kind.
fn sample(path: &Path) -> (Vec<Run>, Vec<Event>) {
    let mut writer = Writer::create(path, &head()).unwrap();
    let (mut runs, mut events) = (Vec::new(), Vec::new());
    for part in 0..3_u64 {
        for i in part * 5..part * 5 + 5 {
            let run = run(if i % 2 == 0 { "even" } else { "odd" }, i, Outcome::ALL[(i % 5) as usize]);
            writer.run(&run);
            runs.push(run);
        }
        let event = Event::new(ms(part), EventKind::GraphFinished { graph: part as u32, took: ms(1) });
        writer.event(event.clone());
        events.push(event);
        writer.counts(
            ms(part),
            &[GroupProgress::new("even", Some(0), Counts { memory: part, ..Counts::default() }.into())],
        );
        writer.memory(&MemorySample::new(ms(part), "worker-0", 1000 + part));
        writer.thread_time(&ThreadTime::new(ms(part), "worker-0", 0, TimeByUse::default()));
        writer.input(Input::new(0, ("odd".into(), 1), ("even".into(), part)));
        writer.flush().unwrap();
    }
    writer.finish().unwrap();
    (runs, events)
}

#[test]
fn what_is_written_is_read() {
    let (_directory, path) = file();
    let (runs, events) = sample(&path);
    let log = SavedLog::open(&path).unwrap();
    assert_eq!((log.format(), log.ending(), log.problems()), (2, Ending::Finished, &[][..]));
    assert_eq!(log.head(), &head());
    assert_eq!(runs_of(&log), (runs, Vec::new()));
    assert_eq!(log.events().collect::<Result<Vec<_>, _>>().unwrap(), events);
    assert_eq!(log.memory().map(|m| m.unwrap().used).collect::<Vec<_>>(), [1000, 1001, 1002]);
    assert_eq!(log.thread_times().map(|t| t.unwrap().at).collect::<Vec<_>>(), [ms(0), ms(1), ms(2)]);
    assert_eq!(log.inputs().map(|i| i.unwrap().from_hash).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(log.counts().unwrap()[0].counts.memory, 2);
    assert!(log.check().is_empty() && log.summary().complete);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_log_cut_at_any_byte_opens_up_to_its_last_whole_chunk_and_says_so() {
    let (directory, path) = file();
    let (runs, _) = sample(&path);
    let bytes = std::fs::read(&path).unwrap();
    let chunks = SavedLog::open(&path).unwrap().chunks();
    let head_ends = chunks[0].offset;
    let cut = directory.path().join("cut.swath");
    for length in 0..bytes.len() {
        std::fs::write(&cut, &bytes[..length]).unwrap();
        let opened = SavedLog::open(&cut);
        if (length as u64) < head_ends {
            assert!(matches!(opened, Err(LogError::NotALog { .. })), "{length}: {opened:?}");
            continue;
        }
        let log = opened.unwrap();
        let whole: Vec<_> = chunks.iter().filter(|c| c.offset + c.bytes <= length as u64).copied().collect();
        assert_eq!(log.chunks(), whole, "{length}");
        let kept: u32 = whole.iter().filter(|c| c.kind == ChunkKind::Runs).map(|c| c.count).sum();
        assert_eq!(runs_of(&log), (runs[..kept as usize].to_vec(), Vec::new()));
        assert_ne!(log.ending(), Ending::Finished);
        let summary = log.summary();
        assert!(!summary.complete && summary.problems.len() == 1, "{summary:?}");
        if let Ending::Cut { offset } = log.ending() {
            assert!(summary.problems[0].contains(&format!("byte {offset}")), "{summary:?}");
        }
    }
}

#[test]
fn a_flipped_bit_costs_one_chunk_which_is_named() {
    let (directory, path) = file();
    let (runs, events) = sample(&path);
    let bytes = std::fs::read(&path).unwrap();
    let whole = SavedLog::open(&path).unwrap();
    let flipped = directory.path().join("flipped.swath");
    // A bit of each byte.
    for bit in (0..bytes.len()).map(|byte| byte * 8 + byte % 8) {
        let mut other = bytes.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&flipped, &other).unwrap();
        let log = match SavedLog::open(&flipped) {
            Ok(log) => log,
            Err(LogError::NotALog { .. }) if bit < 64 => continue,
            Err(e) => panic!("bit {bit}: {e}"),
        };
        let place = (bit / 8) as u64;
        let hit = whole.chunks().into_iter().find(|c| (c.offset..c.offset + c.bytes).contains(&place));
        let (found, _) = runs_of(&log);
        let lost = runs.len() - found.len();
        match hit {
            Some(chunk) if chunk.kind == ChunkKind::Runs => assert_eq!(lost, chunk.count as usize, "bit {bit}"),
            _ => assert_eq!(lost, 0, "bit {bit}"),
        }
        let there: HashSet<_> = runs.iter().collect();
        assert!(found.iter().all(|run| there.contains(run)), "bit {bit}");
        let found: Vec<_> = log.events().filter_map(Result::ok).collect();
        assert!(found.len() + 1 >= events.len() && found.iter().all(|event| events.contains(event)), "bit {bit}");
        let summary = log.summary();
        assert!(!summary.complete, "bit {bit}");
        let named = hit.map_or(0, |chunk| chunk.offset);
        let told = summary.problems.iter().any(|p| p.contains(&format!("byte {named}")));
        assert!(told, "bit {bit}, byte {named}: {:?}", summary.problems);
    }
}

#[test]
fn other_files_are_refused_with_their_reason() {
    let (directory, path) = file();
    let told = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        SavedLog::open(&path).unwrap_err()
    };
    assert!(matches!(told(b""), LogError::NotALog { reason, .. } if reason.contains("empty")));
    assert!(matches!(told(b"\x7fELF\x02\x01"), LogError::NotALog { .. }));
    assert!(matches!(told(b"{\"no\": \"log\"}\n"), LogError::Line { line: 1, .. }));
    assert!(
        matches!(told(b"{\"swath_events\": 9, \"started\": {\"secs_since_epoch\": 1, \"nanos_since_epoch\": 0}}"), LogError::Line { line: 1, reason, .. } if reason.contains('9'))
    );

    let mut newer = head().encode();
    newer[8] = 3;
    let end = newer.len() - 8;
    let check = xxhash_rust::xxh3::xxh3_64(&newer[..end]);
    newer[end..].copy_from_slice(&check.to_le_bytes());
    let error = told(&newer);
    assert!(matches!(&error, LogError::Newer { format: 3, version, .. } if version == "0.1.0"), "{error:?}");
    assert!(error.to_string().contains("formats 1 to 2: open it with swath 0.1.0 or newer"), "{error}");

    assert!(matches!(SavedLog::open(directory.path()), Err(LogError::NotAFile { .. })));
    assert!(matches!(SavedLog::open("/dev/null"), Err(LogError::NotAFile { .. })));
    assert!(matches!(SavedLog::open(directory.path().join("none")), Err(LogError::Io { action: "open", .. })));
    assert!(matches!(Writer::create(directory.path(), &head()), Err(LogError::NotAFile { .. })));
    assert!(matches!(Writer::create("/dev/full", &head()), Err(LogError::NotAFile { .. })));
    let nowhere = directory.path().join("none").join("run.swath");
    assert!(matches!(Writer::create(nowhere, &head()), Err(LogError::Io { action: "create", .. })));
    let _first = Writer::create(&path, &head()).unwrap();
    assert!(matches!(Writer::create(&path, &head()), Err(LogError::InUse { .. })));
}

#[test]
fn a_log_of_format_1_opens_and_one_that_is_cut_off_says_so() {
    let (_directory, path) = file();
    let task =
        |key: &str| serde_json::json!({ "key": key, "name": "inc", "graph": 2, "worker": "worker-0", "thread": 1 });
    let at = |ms: u64| serde_json::json!({ "secs": 0, "nanos": ms * 1_000_000 });
    let lines = [
        serde_json::json!({ "swath_events": 1, "started": { "secs_since_epoch": 5, "nanos_since_epoch": 7 } }),
        serde_json::json!({ "at": at(1), "kind": { "GraphSubmitted": { "graph": 2, "tasks": 2 } } }),
        serde_json::json!({ "at": at(2), "kind": { "TaskStarted": { "task": task("inc-00000000000000ff") } } }),
        serde_json::json!({ "at": at(3), "kind": { "TaskStarted": { "task": task("inc-0000000000000001") } } }),
        serde_json::json!({ "at": at(4), "kind": { "TaskFailed": { "task": task("inc-00000000000000ff"), "took": at(2) } } }),
        // Its start was overwritten.
        serde_json::json!({ "at": at(5), "kind": { "TaskFinished": { "task": task("inc-0000000000000002"), "took": at(4) } } }),
        serde_json::json!({ "at": at(6), "kind": { "WorkerLost": { "worker": "worker-0", "pid": 3, "cause": { "Signal": 9 } } } }),
    ];
    let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    std::fs::write(&path, &text).unwrap();
    let log = SavedLog::open(&path).unwrap();
    assert_eq!((log.format(), log.ending()), (1, Ending::Finished));
    assert_eq!(log.head().started, UNIX_EPOCH + Duration::new(5, 7));
    let (runs, _) = runs_of(&log);
    let told: Vec<_> = runs.iter().map(|run| (run.hash, run.start, run.end, run.outcome)).collect();
    assert_eq!(
        told,
        [
            (255, ms(2), Some(ms(4)), Outcome::Failed),
            (1, ms(3), None, Outcome::Running),
            (2, ms(1), Some(ms(5)), Outcome::Finished),
        ]
    );
    assert_eq!((runs[0].graph, runs[0].thread, runs[0].key()), (2, 1, "inc-00000000000000ff".to_string()));
    let lost = log.events().last().unwrap().unwrap();
    assert!(matches!(lost.kind, EventKind::WorkerLost { cause, .. } if cause["Signal"] == 9));
    let summary = log.summary();
    assert!(summary.complete && (summary.runs, summary.events) == (3, 2), "{summary:?}");
    assert_eq!(summary.groups[0].counts, Counts { running: 1, released: 1, failed: 1, ..Counts::default() });

    std::fs::write(&path, &text[..text.len() - 10]).unwrap();
    let log = SavedLog::open(&path).unwrap();
    assert!(matches!(log.ending(), Ending::Cut { .. }) && !log.summary().complete);
    std::fs::write(&path, text.replace("TaskFailed", "TaskBored")).unwrap();
    assert!(matches!(SavedLog::open(&path), Err(LogError::Line { line: 5, .. })));
}

#[test]
fn a_file_that_vanishes_or_shrinks_is_no_panic() {
    let (_directory, path) = file();
    sample(&path);
    let log = SavedLog::open(&path).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(200).unwrap();
    let (runs, errors) = runs_of(&log);
    assert!(runs.is_empty() && errors.iter().all(|e| e.contains("shorter")), "{errors:?}");

    let mut writer = Writer::create(&path, &head()).unwrap();
    std::fs::remove_file(&path).unwrap();
    writer.run(&run("parse", 1, Outcome::Finished));
    writer.finish().unwrap();
}

#[test]
fn kinds_that_are_not_known_are_stepped_over() {
    let (_directory, path) = file();
    let (runs, _) = sample(&path);
    let mut bytes = std::fs::read(&path).unwrap();
    let payload = b"of a later version";
    let header = chunk::Header::new(ChunkKind::Unknown(999), 1, (0, 0), payload);
    let offset = bytes.len() as u64;
    bytes.extend(header.encode(offset));
    bytes.extend(payload);
    // An event of a kind, and a use of time, that are not known either.
    let mut packer = columns::Packer::new();
    let mut lines = rows::ObjectRows::default();
    lines.push(ms(1), &serde_json::json!({ "at_ns": 1, "event": "dreamed", "of": "sheep" }));
    lines.push(ms(1), &serde_json::json!({ "at_ns": 1, "event": "graph_cancelled", "graph": 77, "sadly": true }));
    let (payload, span) = lines.take(&mut packer);
    let header = chunk::Header::new(ChunkKind::Events, 2, span.times(), &payload);
    let offset = bytes.len() as u64;
    bytes.extend(header.encode(offset));
    bytes.extend(payload);
    std::fs::write(&path, bytes).unwrap();
    let log = SavedLog::open(&path).unwrap();
    assert_eq!(runs_of(&log), (runs, Vec::new()));
    let last = log.events().last().unwrap().unwrap();
    assert_eq!(last.kind, EventKind::GraphCancelled { graph: 77 });
    assert!(log.check().is_empty());
}

#[test]
fn hostile_names_come_back_and_very_long_ones_are_cut() {
    let (_directory, path) = file();
    let long = "ä".repeat(1 << 19);
    let names = [
        "",
        "\"quoted\", 'twice'",
        "two\nlines\r\n",
        "<script>alert(1)</script>",
        "\u{202e}right",
        "\0\u{1b}[2J",
        &long,
    ];
    let mut writer = Writer::create(&path, &head()).unwrap();
    for (i, name) in (0..).zip(names) {
        writer.run(&run(name, i, Outcome::Finished));
        let value = serde_json::Value::String(name.to_string());
        writer.event(Event::new(ms(1), EventKind::Note { key: None, topic: name.to_string(), value }));
    }
    writer.finish().unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < 10_000);
    let log = SavedLog::open(&path).unwrap();
    let (runs, errors) = runs_of(&log);
    assert!(errors.is_empty());
    for (run, name) in runs.iter().zip(names) {
        let kept = run.name.strip_suffix('…').unwrap_or(&run.name);
        assert!(*run.name == *name || (kept.len() == 4096 && name.starts_with(kept)), "{}", run.name.len());
    }
    let notes: Vec<_> = log.events().map(Result::unwrap).collect();
    assert_eq!(notes.len(), names.len());
    assert!(matches!(&notes[2].kind, EventKind::Note { value, .. } if value == names[2]));
}

/// A disk with room for so many bytes.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

impl Target for Disk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (there, room) = &mut *self.0.lock().unwrap();
        let fitting = bytes.len().min(*room - there.len().min(*room));
        there.extend(&bytes[..fitting]);
        if fitting < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn take_back_to(&mut self, length: u64) -> io::Result<()> {
        self.0.lock().unwrap().0.truncate(length as usize);
        Ok(())
    }
}

#[test]
fn a_full_disk_is_told_once_and_in_the_log_and_no_run_is_lost() {
    let (_directory, path) = file();
    for room in (300..4000).step_by(37) {
        let disk = Disk::default();
        disk.0.lock().unwrap().1 = room;
        let Ok(mut writer) = Writer::begin(disk.clone(), &path, &head()) else { continue };
        let mut told = 0;
        for second in 0..20 {
            (second * 10..second * 10 + 10).for_each(|i| writer.run(&run("parse", i, Outcome::Finished)));
            told += u32::from(writer.flush().is_err());
        }
        assert_eq!(told, 1, "room for {room}");
        let WriterState::Stopped { since, reason } = writer.state().clone() else { panic!("{:?}", writer.state()) };
        assert!(since > Duration::ZERO && !reason.is_empty());
        std::fs::write(&path, &disk.0.lock().unwrap().0).unwrap();
        let log = SavedLog::open(&path).unwrap();
        assert!(!log.summary().complete && log.ending() == Ending::Unfinished);

        // Somebody makes room.
        disk.0.lock().unwrap().1 = usize::MAX;
        writer.flush().unwrap();
        assert_eq!(writer.state(), &WriterState::Whole);
        writer.run(&run("parse", 1000, Outcome::Finished));
        writer.finish().unwrap();
        std::fs::write(&path, &disk.0.lock().unwrap().0).unwrap();
        let summary = SavedLog::open(&path).unwrap().summary();
        assert_eq!(summary.runs, 201, "room for {room}: {summary:?}");
        assert!(!summary.complete && summary.problems.iter().any(|p| p.contains("missing since")), "{summary:?}");
    }
}

#[test]
fn a_stream_that_fails_is_an_error_at_the_end() {
    struct Full(usize);
    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fitting = bytes.len().min(self.0);
            self.0 -= fitting;
            if fitting == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(fitting) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    assert!(matches!(Writer::begin(Stream::new(Full(10)), "x", &head()), Err(LogError::Io { .. })));
    let mut writer = Writer::begin(Stream::new(Full(500)), "x", &head()).unwrap();
    (0..1000).for_each(|i| writer.run(&run("parse", i, Outcome::Finished)));
    assert!(matches!(writer.finish(), Err(LogError::Io { action: "write", .. })));
}

#[test]
fn a_killed_writer_loses_only_what_was_not_flushed() {
    let (_directory, path) = file();
    let mut writer = Writer::create(&path, &head()).unwrap();
    (0..10).for_each(|i| writer.run(&run("parse", i, Outcome::Finished)));
    writer.flush().unwrap();
    (10..20).for_each(|i| writer.run(&run("parse", i, Outcome::Finished)));
    // Nothing of it runs any more, as after SIGKILL.
    std::mem::forget(writer);
    let log = SavedLog::open(&path).unwrap();
    assert_eq!((log.ending(), runs_of(&log).0.len()), (Ending::Unfinished, 10));
    assert!(!log.summary().complete);
}

#[test]
fn at_its_limit_a_log_keeps_its_sums_failures_deaths_and_slowest_runs() {
    const LIMIT: u64 = 256 << 10;
    const RUNS: u64 = 200_000;
    let (_directory, path) = file();
    let mut writer = Writer::create(&path, &head()).unwrap().limit(LIMIT);
    let (mut took, mut states) = (Duration::ZERO, Vec::new());
    for i in 0..RUNS {
        let mut run = Run::new(if i % 3 == 0 { "a" } else { "b" }, i, "worker-0", Duration::from_micros(10 * i));
        (run.task, run.bytes_in) = (i as u32, Some(i % 100));
        let length = Duration::from_nanos(if i % 1000 == 999 { 5_000_000 } else { 9_000 + i * 7919 % 97 });
        run.ended(run.start + length, if i % 20_000 == 7 { Outcome::Failed } else { Outcome::Finished });
        took += length;
        writer.run(&run);
        if i % 2_000 == 0 {
            writer.event(Event::new(run.start, EventKind::WorkerResumed { worker: "worker-0".into() }));
            writer.flush().unwrap();
        }
        if states.last() != Some(writer.state()) {
            states.push(writer.state().clone());
        }
    }
    writer.finish().unwrap();
    assert!(matches!(states[..2], [WriterState::Whole, WriterState::Folding { .. }]), "{states:?}");
    let length = std::fs::metadata(&path).unwrap().len();
    assert!((LIMIT / 4 * 3..LIMIT).contains(&length), "{length}");
    let log = SavedLog::open(&path).unwrap();
    let summary = log.summary();
    assert_eq!((summary.runs, summary.lost), (RUNS, 0));
    assert!(summary.folded > RUNS / 2 && summary.complete, "{summary:?}");
    let all = summary.names.iter().fold(Duration::ZERO, |sum, name| sum + name.cost.took);
    assert_eq!(all, took);
    assert_eq!(summary.names.iter().map(|name| name.cost.failed).sum::<u64>(), RUNS / 20_000);
    assert_eq!(summary.groups.iter().map(|g| g.counts.released + g.counts.failed).sum::<u64>(), RUNS);
    let runs = runs_of(&log).0;
    assert_eq!(runs.iter().filter(|run| run.outcome == Outcome::Failed).count() as u64, RUNS / 20_000);
    let slow = runs.iter().filter(|run| run.took() > Some(ms(1))).count() as u64;
    assert!(slow > RUNS / 1000 * 8 / 10, "{slow} of {}", RUNS / 1000);
    let limits = log.events().filter(|e| matches!(e.as_ref().unwrap().kind, EventKind::LimitReached { .. })).count();
    assert_eq!(limits, states.len() - 1);

    // With nothing but failures there is no room for all of them.
    let mut writer = Writer::create(&path, &head()).unwrap().limit(0);
    for i in 0..100_000_u64 {
        writer.run(&run(&format!("name {}", i % 10), i * 0x9e37_79b9, Outcome::Failed));
        writer.event(Event::new(ms(i), EventKind::Cancelled { key: format!("k{i}") }));
        if i % 100 == 0 {
            writer.flush().unwrap();
        }
    }
    assert!(matches!(writer.state(), WriterState::TotalsOnly { .. }));
    writer.finish().unwrap();
    let log = SavedLog::open(&path).unwrap();
    let summary = log.summary();
    assert_eq!((summary.runs, log.ending()), (100_000, Ending::Finished));
    assert!(!summary.complete && summary.problems.iter().any(|p| p.contains("the limit")), "{:?}", summary.problems);
}

fn times() -> impl Strategy<Value = Option<Duration>> {
    proptest::option::of(prop_oneof![0..10_000_000_u64, any::<u64>()].prop_map(Duration::from_nanos))
}

fn any_run() -> impl Strategy<Value = Run> {
    let who = (0..3_u32, any::<u32>(), any::<u16>(), "[ab]{0,2}", any::<u64>(), "w[0-2]", any::<u16>());
    let when = (times(), times(), times(), any::<u64>(), times(), times());
    let what =
        (proptest::option::of(any::<u64>()), proptest::option::of(any::<u64>()), proptest::option::of(any::<u64>()));
    (who, when, what, 0..5_usize).prop_map(|(who, when, what, outcome)| {
        let mut run = Run::new(who.3, who.4, who.5, Duration::from_nanos(when.3));
        (run.graph, run.task, run.attempt, run.thread) = (who.0, who.1, who.2, who.6);
        (run.submitted, run.ready, run.assigned, run.end, run.cpu) = (when.0, when.1, when.2, when.4, when.5);
        (run.reading, run.writing, run.suspended) = (when.5, when.1, when.4);
        (run.bytes_in, run.bytes_out, run.peak) = what;
        run.outcome = Outcome::ALL[outcome];
        run
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_runs_come_back(parts in proptest::collection::vec(proptest::collection::vec(any_run(), 0..40), 0..5)) {
        let (_directory, path) = file();
        let mut writer = Writer::create(&path, &head()).unwrap();
        for part in &parts {
            part.iter().for_each(|run| writer.run(run));
            writer.flush().unwrap();
        }
        writer.finish().unwrap();
        prop_assert_eq!(runs_of(&SavedLog::open(&path).unwrap()), (parts.concat(), Vec::new()));
    }

    #[test]
    fn the_summary_is_what_a_plain_recount_gives(runs in proptest::collection::vec(any_run(), 0..60), limit in any::<bool>()) {
        let (_directory, path) = file();
        let mut writer = Writer::create(&path, &head()).unwrap();
        if limit {
            writer = writer.limit(0);
            // So much that what follows is only summed up.
            for i in 0..6_000 {
                writer.run(&run("fill", i * 0x9e37_79b9_7f4a, Outcome::Failed));
            }
        }
        runs.iter().for_each(|run| writer.run(run));
        writer.finish().unwrap();
        let summary = SavedLog::open(&path).unwrap().summary();
        prop_assert_eq!(summary.runs, runs.len() as u64 + if limit { 6_000 } else { 0 });
        let mut wanted: BTreeMap<(u32, String), (u64, u64, Duration, u64)> = BTreeMap::new();
        for run in &runs {
            let group = wanted.entry((run.graph, run.name.to_string())).or_default();
            group.0 += 1;
            group.1 += u64::from(run.outcome == Outcome::Failed);
            // The sums are of 64 bits of nanoseconds.
            group.2 = Duration::from_nanos(u64::try_from((group.2 + run.took().unwrap_or_default()).as_nanos()).unwrap_or(u64::MAX));
            group.3 = group.3.saturating_add(run.bytes_in.unwrap_or(0));
        }
        let mut found = BTreeMap::new();
        for group in summary.groups.iter().filter(|group| group.name != "fill") {
            let took = Duration::from_nanos(u64::try_from(group.cost.took.as_nanos()).unwrap_or(u64::MAX));
            found.insert((group.graph.unwrap(), group.name.clone()), (group.cost.runs, group.cost.failed, took, group.cost.bytes_in));
            prop_assert!(group.counts.total() <= group.cost.runs);
        }
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn cut_and_flipped_logs_of_any_runs_give_no_wrong_run(
        runs in proptest::collection::vec(any_run(), 1..100),
        parts in 1..20_usize,
        cut in any::<proptest::sample::Index>(),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let (_directory, path) = file();
        let mut writer = Writer::create(&path, &head()).unwrap();
        for part in runs.chunks(parts) {
            part.iter().for_each(|run| writer.run(run));
            writer.flush().unwrap();
        }
        writer.finish().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for (place, change) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= change;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(log) = SavedLog::open(&path) {
            let there: HashSet<_> = runs.iter().collect();
            prop_assert!(runs_of(&log).0.iter().all(|run| there.contains(run)));
            let _ = log.summary().to_string();
        }
    }

    #[test]
    fn any_bytes_are_a_log_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), whole in any::<bool>()) {
        let (_directory, path) = file();
        if whole {
            bytes.splice(0..0, head().encode());
        }
        std::fs::write(&path, bytes).unwrap();
        if let Ok(log) = SavedLog::open(&path) {
            let _ = log.summary();
        }
    }

    #[test]
    fn rows_that_make_no_sense_are_no_panic(payload in proptest::collection::vec(0..30_u8, 0..200), count in 0..50_u32) {
        let _ = run_rows::read_runs(&payload, count);
        let _ = rows::read_folded(&payload, count);
        let _ = rows::read_inputs(&payload, count);
        let _ = rows::read_objects::<Event>(&payload, count);
    }
}
