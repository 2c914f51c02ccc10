//! What tasks print and log, as it is told of them: typed, with the task, bounded, in every mode and in saved logs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use log::Level;
use parking_lot::Mutex;
use std::io::Write;
use std::path::Path;
use std::sync::Once;
use std::time::{Duration, SystemTime};
use swath::client::{Builder, TaskLog};
use swath::error::{LogLine, OutputStream};
use swath::events::saved::{EventKind, SavedLog};
use swath::status::Mode;
use swath::{Client, delayed, try_delayed};

fn speak(x: u64) -> u64 {
    log::warn!(target: "tests of ] logs", "about {x}\nand more");
    log::info!("in a word: {x}");
    log::debug!("not heard");
    x
}

#[allow(clippy::print_stdout)]
fn print(x: u64) -> u64 {
    println!("out {x}");
    x
}

fn now() -> u64 {
    u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap()
}

fn texts(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

fn processes(workers: usize, threads: usize) -> Builder {
    let builder = Client::builder().workers(workers).threads(threads).forward_output(false);
    builder.worker_env("RUST_LOG", "info")
}

/// What the logger of this process has got.
static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Ear;

impl log::Log for Ear {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        HEARD.lock().push(record.args().to_string());
    }

    fn flush(&self) {}
}

fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_boxed_logger(Box::new(TaskLog(Ear))).unwrap();
        log::set_max_level(log::LevelFilter::Debug);
    });
}

/// Before anybody else sets a logger.
fn start() -> Clean {
    listen();
    Clean::start()
}

fn builders() -> [Builder; 4] {
    [
        Client::builder().mode(Mode::Sync),
        Client::builder().mode(Mode::Threads).threads(2),
        processes(2, 1),
        processes(1, 2),
    ]
}

/// The lines of `speak` and of none else.
fn check(lines: &[LogLine], key: &str, x: u64, times: std::ops::RangeInclusive<u64>) {
    assert_eq!(texts(lines), [format!("about {x}"), "and more".to_string(), format!("in a word: {x}")]);
    for line in lines {
        assert_eq!((line.key(), line.name(), line.stream), (Some(key), Some("speak"), OutputStream::Stderr));
        assert!(times.contains(&line.time) && line.ended && !line.cut && !line.worker.is_empty(), "{line:?}");
    }
    let of: Vec<_> = lines.iter().map(|line| (line.level, line.target.as_deref())).collect();
    let (odd, own) = ((Some(Level::Warn), Some("tests of ] logs")), (Some(Level::Info), Some("logs")));
    assert_eq!(of, [odd, odd, own]);
    assert_eq!(lines[0].time, lines[1].time, "of one record");
}

#[test]
fn records_have_level_target_time_and_the_very_task_in_every_mode() {
    let _clean = start();
    for builder in builders() {
        let client = builder.build().unwrap();
        let before = now();
        // Two run at a time, and each is told apart.
        let futures: Vec<_> = (0..40).map(|x| client.submit(&delayed(speak).call(x)).unwrap()).collect();
        client.gather(&futures).unwrap();
        let after = now();
        for (x, future) in futures.iter().enumerate() {
            until("its lines are there", || {
                client.logs_of(future).unwrap().iter().filter(|l| l.level.is_some()).count() >= 3
            });
            // What is printed in a worker with two threads may be of each of its tasks; a record is not.
            let lines = client.logs_of(future).unwrap();
            check(&lines, &future.key(), x as u64, before..=after);
        }
        let numbers: Vec<_> = client.logs().unwrap().iter().map(|line| (line.worker.clone(), line.number)).collect();
        assert_eq!(numbers.len(), 120);
    }
    let heard = HEARD.lock();
    let in_process = heard.iter().filter(|text| text.starts_with("in a word")).count();
    assert!(in_process >= 80, "the logger that is wrapped has them, too: {in_process}");
}

#[test]
fn a_task_that_prints_much_takes_no_room_of_others_and_is_told_to_have() {
    #[allow(clippy::print_stdout)]
    fn chatter(lines: u64) {
        for i in 0..lines {
            println!("line {i:060}");
        }
    }
    fn loud(lines: u64) {
        for i in 0..lines {
            log::info!("line {i:060}");
        }
    }
    const LINES: u64 = 20_000;
    let _clean = start();
    for (i, builder) in builders().into_iter().enumerate() {
        let client = builder.build().unwrap();
        let quiet = client.submit(&delayed(speak).call(7)).unwrap();
        quiet.result().unwrap();
        until("it is told", || client.logs_of(&quiet).unwrap().len() == 3);
        for prints in [false, true] {
            if i < 2 && prints {
                continue;
            }
            let task = if prints { delayed(chatter).call(LINES) } else { delayed(loud).call(LINES) };
            let future = client.submit(&task).unwrap();
            future.result().unwrap();
            let last = format!("line {:060}", LINES - 1);
            until("its last line is told", || client.logs_of(&future).unwrap().last().is_some_and(|l| l.text == last));
            let lines = client.logs_of(&future).unwrap();
            let dropped: u64 = lines.iter().map(|line| line.dropped).sum();
            assert!(lines.len() > 200, "{i}: {}", lines.len());
            // Another line may be between.
            assert!(dropped + lines.len() as u64 >= LINES, "{i}: {dropped} and {} of {LINES}", lines.len());
            assert!(lines[0].to_string().contains(&format!("… {} lines dropped", lines[0].dropped)), "{}", lines[0]);
        }
        assert_eq!(client.logs_of(&quiet).unwrap().len(), 3, "{i}: the quiet one is heard");
    }
}

#[test]
fn long_lines_and_bytes_that_are_no_text_are_told() {
    fn odd(_: u64) {
        let mut out = std::io::stdout();
        out.write_all(b"\xff\xfe bytes \0 \x1b[31m\n").unwrap();
        out.write_all(&vec![b'x'; 1 << 20]).unwrap();
        out.write_all(b"\n").unwrap();
        log::error!("{}", "y".repeat(1 << 20));
        std::io::stderr().write_all(b"end\n").unwrap();
    }
    let _clean = start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.swath");
    let client = processes(1, 1).record(&path).build().unwrap();
    let future = client.submit(&delayed(odd).call(1)).unwrap();
    future.result().unwrap();
    until("its last line is told", || texts(&client.logs_of(&future).unwrap()).contains(&"end"));
    let lines = client.logs_of(&future).unwrap();
    assert!(lines.iter().map(|line| line.text.len()).sum::<usize>() <= 64 << 10);
    assert!(lines.iter().map(|line| line.dropped).sum::<u64>() >= 2, "{:?}", lines.last());
    client.shutdown();
    let saved = saved(&path);
    let found: Vec<_> = saved.iter().filter(|line| line.1.as_deref() == Some(&*future.key())).collect();
    assert_eq!(found[0].3, "\u{fffd}\u{fffd} bytes \0 \u{1b}[31m");
    assert!(found.iter().any(|line| line.3.starts_with("xxx") && line.3.ends_with(" bytes more)")));
    let error = found.iter().find(|line| line.2 == "ERROR").unwrap();
    assert!(error.3.starts_with("yyy") && error.3.len() < 20 << 10);
    assert!(found.iter().any(|line| line.3 == "end"));
}

#[test]
fn what_a_killed_worker_said_without_an_end_is_in_the_record_of_its_death() {
    fn dies(_: u64) {
        log::error!(target: "doom", "it comes");
        let mut err = std::io::stderr();
        err.write_all(b"half a li").unwrap();
        std::process::abort();
    }
    let _clean = start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.swath");
    let client = processes(1, 1).allowed_deaths(1).record(&path).build().unwrap();
    let future = client.submit(&delayed(dies).call(1)).unwrap();
    future.result().unwrap_err();
    let record = client.deaths().unwrap().pop().unwrap();
    let [.., doom, half] = &record.last_lines[..] else { panic!("{record:?}") };
    assert_eq!(
        (doom.level, doom.target.as_deref(), doom.key()),
        (Some(Level::Error), Some("doom"), Some(&*future.key()))
    );
    assert_eq!((&*half.text, half.ended, &half.tasks), ("half a li", false, &vec![future.key()]));
    client.shutdown();
    let saved = saved(&path);
    let of: Vec<_> = saved.iter().map(|line| (line.2.as_str(), line.3.as_str())).collect();
    assert!(of.contains(&("ERROR", "it comes")) && of.contains(&("stderr", "half a li")), "{of:?}");
}

type Saved = (Duration, Option<String>, String, String);

/// Time, key, level and text of each line.
fn saved(path: &Path) -> Vec<Saved> {
    let events = SavedLog::open(path).unwrap();
    let line = |event: swath::events::saved::Event| match event.kind {
        EventKind::Line { key, level, text, .. } => Some((event.at, key, level, text)),
        _ => None,
    };
    events.events().filter_map(|event| line(event.unwrap())).collect()
}

#[test]
fn saved_logs_have_the_lines_and_the_counts_in_every_mode() {
    fn refuse(x: u64) -> Result<u64, String> {
        Err(format!("{x} is refused"))
    }
    let _clean = start();
    let directory = tempfile::tempdir().unwrap();
    for (i, builder) in builders().into_iter().enumerate() {
        let (recorded, once) =
            (directory.path().join(format!("{i}.swath")), directory.path().join(format!("{i}.once")));
        let client = builder.record(&recorded).build().unwrap();
        let futures: Vec<_> = (0..10).map(|x| client.submit(&delayed(speak).call(x)).unwrap()).collect();
        client.gather(&futures).unwrap();
        client.compute(&delayed(print).call(3)).unwrap();
        client.compute(&try_delayed(refuse).call(3).map(|x: u64| x)).unwrap_err();
        until("all lines are there", || client.logs().unwrap().iter().filter(|l| l.level.is_some()).count() == 30);
        client.save_events(&once).unwrap();
        client.shutdown();
        let progress = client.progress();
        for path in [&recorded, &once] {
            let lines = saved(path);
            let spoken: Vec<_> = lines.iter().filter(|line| line.3.starts_with("in a word")).collect();
            assert_eq!(spoken.len(), 10, "{i}: {lines:?}");
            for future in &futures {
                assert!(spoken.iter().any(|line| line.1.as_ref() == Some(&future.key()) && line.2 == "INFO"));
            }
            assert!(spoken.iter().all(|line| line.0 < LONG), "{spoken:?}");
            if i >= 2 {
                assert!(lines.iter().any(|line| line.2 == "stdout" && line.3 == "out 3"), "{lines:?}");
            }
        }
        let summary = SavedLog::open(&recorded).unwrap().summary();
        assert!(summary.complete, "{:?}", summary.problems);
        assert_eq!(summary.groups.len(), progress.groups.len(), "{i}: {:?} {:?}", summary.groups, progress.groups);
        for group in &progress.groups {
            let same =
                |other: &&swath::events::saved::GroupSummary| other.name == group.name && other.graph == group.graph;
            assert_eq!(summary.groups.iter().find(same).unwrap().counts, group.counts, "{i}: {}", group.name);
        }
    }
}
