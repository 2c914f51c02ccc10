//! Reports of what a client did for a while. What is on their pages is tested in `insight/tests/report.rs`, in a browser.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::Clean;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use swath::client::Builder;
use swath::error::ReportError;
use swath::events::EventLog;
use swath::status::Mode;
use swath::{Client, Error, current_client, delayed, try_delayed};

fn square(x: u64) -> u64 {
    x * x
}

fn refuse(x: u64) -> Result<u64, String> {
    Err(format!("{x} is refused"))
}

fn builders() -> [Builder; 3] {
    [
        Client::builder().mode(Mode::Sync),
        Client::builder().mode(Mode::Threads).threads(2),
        Client::builder().workers(2).threads(1),
    ]
}

/// How many runs of a name the tables of a report tell; none where it is not there.
fn runs_of(path: &Path, name: &str) -> Option<u64> {
    let html = fs::read_to_string(path).unwrap();
    let (_, row) = html.split_once(&format!("<td class=\"name\">{name}</td>"))?;
    let values: Vec<&str> = row.split("<data value=\"").skip(1).take(2).collect();
    // The time, then the runs.
    values.get(1)?.split('"').next()?.parse().ok()
}

#[test]
fn a_report_is_of_what_happens_while_it_is_there_in_every_mode() {
    let _clean = Clean::start();
    let folder = tempfile::tempdir().unwrap();
    for (number, builder) in builders().into_iter().enumerate() {
        let path = folder.path().join(format!("{number}.html"));
        let client = builder.build().unwrap();
        client.compute(&delayed(square).name("before").map(0..10_u64)).unwrap();
        let report = client.performance_report(&path);
        assert_eq!(report.path(), path);
        client.compute(&delayed(square).map(0..100_u64)).unwrap();
        client.compute(&try_delayed(refuse).call(1)).unwrap_err();
        assert!(!path.exists());
        report.finish().unwrap();
        client.compute(&delayed(square).name("after").map(0..10_u64)).unwrap();
        let html = fs::read_to_string(&path).unwrap();
        assert_eq!((runs_of(&path, "square"), runs_of(&path, "refuse")), (Some(100), Some(1)), "{number}");
        assert!(!html.contains(">before<") && !html.contains(">after<"), "{number}");
        let (_, first_line) = html.split_once("<h1").unwrap();
        assert!(html.contains("1 failed, first refuse-"), "{number}: {}", &first_line[..60]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        client.shutdown();
    }
}

#[test]
fn a_report_is_written_when_it_is_dropped_also_of_a_client_that_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.html");
    {
        let client = Client::threads(2);
        let _report = client.performance_report(&path);
        client.compute(&delayed(square).map(0..50_u64)).unwrap();
        client.shutdown();
    }
    assert_eq!(runs_of(&path, "square"), Some(50));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn two_reports_of_a_client_are_each_of_its_own_time() {
    let folder = tempfile::tempdir().unwrap();
    let (outer, inner) = (folder.path().join("outer.html"), folder.path().join("inner.html"));
    let client = Client::threads(2);
    let first = client.performance_report(&outer);
    client.compute(&delayed(square).map(0..10_u64)).unwrap();
    let second = client.performance_report(&inner);
    client.compute(&delayed(square).map(0..20_u64)).unwrap();
    drop(second);
    client.compute(&delayed(square).map(0..40_u64)).unwrap();
    drop(first);
    assert_eq!((runs_of(&outer, "square"), runs_of(&inner, "square")), (Some(70), Some(20)));
}

#[test]
fn where_there_can_be_no_report_is_told_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::threads(1);
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("d.html")).unwrap();
    let error = |path| client.performance_report(path).finish().unwrap_err();
    assert!(matches!(error(at("r.txt")), Error::Report(ReportError::Ending { .. })));
    assert!(matches!(error(at("d.html")), Error::Report(ReportError::Directory { .. })));
    let gone = error(at("gone/r.html"));
    assert!(
        matches!(gone, Error::Report(ReportError::Io { .. })) && gone.to_string().contains("gone/r.html"),
        "{gone}"
    );
    // A folder that vanishes meanwhile.
    fs::create_dir(at("short")).unwrap();
    let report = client.performance_report(at("short/r.html"));
    fs::remove_dir(at("short")).unwrap();
    assert!(matches!(report.finish(), Err(Error::Report(ReportError::Io { .. }))));
    // What was there stays as long as there is nothing better.
    fs::write(at("old.html"), "old").unwrap();
    let report = client.performance_report(at("old.html"));
    assert_eq!(fs::read_to_string(at("old.html")).unwrap(), "old");
    report.finish().unwrap();
    assert!(fs::read_to_string(at("old.html")).unwrap().contains("Nothing has run"));
    // One that is dropped only logs.
    drop(client.performance_report(at("r.txt")));
}

#[test]
fn a_task_cannot_report_its_cluster() {
    let client = Client::threads(2);
    let of_task = delayed(|| {
        let client = current_client().unwrap();
        client.performance_report("never.html").finish().unwrap_err().to_string()
    });
    let told = client.compute(&of_task.call()).unwrap();
    assert!(told.contains("performance_report is not available"), "{told}");
}

#[test]
fn a_log_of_events_has_a_report_also_when_it_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let (saved, first, second) =
        (folder.path().join("e.swath"), folder.path().join("a.html"), folder.path().join("b.html"));
    let client = Client::sync();
    client.compute(&delayed(square).map(0..30_u64)).unwrap();
    let log = client.events().unwrap();
    log.report(&first).unwrap();
    log.save(&saved).unwrap();
    EventLog::open(&saved).unwrap().report(&second).unwrap();
    assert_eq!((runs_of(&first, "square"), runs_of(&second, "square")), (Some(30), Some(30)));
    assert!(matches!(log.report(folder.path().join("r.pdf")), Err(Error::Report(ReportError::Ending { .. }))));
}
