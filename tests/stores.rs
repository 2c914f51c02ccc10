//! Files in object stores and on web servers: against an S3 server and web servers on this machine.
#![cfg(feature = "object-store")]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod s3;
mod stores {
    pub mod web;
}

use common::{my_role, play, role, say};
use s3::{BUCKET, Server};
use std::fmt::Debug;
use std::net::TcpListener;
use std::process::Command;
use std::sync::LazyLock;
use swath::bag::Csv;
use swath::files::{FileError, FileProblem, Files, Output};
use swath::memory::MemoryLimit;
use swath::{Bag, Client, Error};

/// One for all tests: it ends with this process.
static S3: LazyLock<Server> = LazyLock::new(Server::start);

fn files(key: &str) -> Files {
    let files = Files::new(format!("s3://{BUCKET}/{key}"));
    S3.options().into_iter().fold(files, |files, (key, value)| files.option(key, value))
}

fn output(key: &str) -> Output {
    let output = Output::new(format!("s3://{BUCKET}/{key}"));
    S3.options().into_iter().fold(output, |output, (key, value)| output.option(key, value))
}

/// Writes one object.
fn put(key: &str, text: &str) {
    let file = &output(key.replacen('.', "*.", 1).as_str()).names(|_| String::new()).files(1).unwrap()[0];
    file.write(|to| std::io::Write::write_all(to, text.as_bytes())).unwrap();
}

fn clients() -> [Client; 3] {
    [Client::sync(), Client::threads(3), Client::local(2, 1, MemoryLimit::None).unwrap()]
}

fn failure<T: Debug>(result: Result<T, Error>) -> FileError {
    let error = result.unwrap_err();
    error.task().and_then(|task| task.downcast()).unwrap_or_else(|| panic!("not a file's: {error}"))
}

fn problem<T: Debug>(result: Result<T, Error>) -> FileProblem {
    match result {
        Err(Error::File(e)) => e.problem().clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_comes_back() {
    let all: Vec<_> = (0..20_000).map(|i| format!("line {i} {}", i * i)).collect();
    for client in clients() {
        let mode = client.mode();
        let bag = Bag::from_sequence(all.clone(), 12);
        for extension in ["txt", "gz", "zst"] {
            let key = format!("back-{mode}/part-*.{extension}");
            let paths = bag.write_text(output(&key)).unwrap().compute(&client).unwrap();
            assert_eq!(paths[3], format!("s3://{BUCKET}/back-{mode}/part-03.{extension}"));
            let read = Bag::read_text(files(&key)).unwrap();
            assert_eq!(read.npartitions(), 12);
            assert_eq!(read.compute(&client).unwrap(), all, "{mode}, {extension}");
        }
        // Blocks: each reads a range, and a bit behind it.
        let one = bag.repartitioned();
        let paths = one.write_text(output(&format!("whole-{mode}/*.txt"))).unwrap().compute(&client).unwrap();
        assert_eq!(paths.len(), 1);
        let blocks = Bag::read_text(files(&format!("whole-{mode}/0.txt")).blocksize(50_000)).unwrap();
        assert!(blocks.npartitions() > 5);
        assert_eq!(blocks.compute(&client).unwrap(), all, "{mode}");
    }
}

/// All elements in one partition.
trait Repartitioned {
    fn repartitioned(&self) -> Bag<String>;
}

impl Repartitioned for Bag<String> {
    fn repartitioned(&self) -> Bag<String> {
        let parts = self.to_delayed();
        Bag::from_delayed([swath::delayed(|parts: Vec<Vec<String>>| parts.concat()).call(parts)])
    }
}

#[test]
fn patterns() {
    for key in ["p/a/1.txt", "p/a/2.txt", "p/b/1.txt", "p/b/deep/1.txt", "p/c.csv", "p/with space/x#1?.txt"] {
        put(key, "x\n");
    }
    let names = |pattern: &str| -> Vec<String> {
        let prefix = format!("s3://{BUCKET}/p/");
        let blocks = files(pattern).blocks().unwrap();
        blocks.iter().map(|b| b.path().strip_prefix(&prefix).unwrap().to_string()).collect()
    };
    assert_eq!(names("p/a/*.txt"), ["a/1.txt", "a/2.txt"]);
    assert_eq!(names("p/*/1.txt"), ["a/1.txt", "b/1.txt"]);
    assert_eq!(names("p/[bc]/*/?.txt"), ["b/deep/1.txt"]);
    assert_eq!(names("p/**/1.txt"), ["a/1.txt", "b/1.txt", "b/deep/1.txt"]);
    assert_eq!(names("p/*"), ["c.csv"]);
    assert_eq!(names("p/with space/*"), ["with space/x#1?.txt"]);
    for nothing in ["p/*.json", "q/*", "p/missing.txt", "p/a"] {
        assert_eq!(problem(files(nothing).blocks()), FileProblem::NotFound, "{nothing}");
    }
    assert_eq!(problem(files("").blocks()), FileProblem::Directory);
    assert_eq!(problem(files("p/a/").blocks()), FileProblem::Directory);
}

#[test]
fn objects_that_change_or_go() {
    put("changing/a.txt", "one\ntwo\nthree\n");
    let whole = Bag::read_text(files("changing/a.txt")).unwrap();
    let split = Bag::read_text(files("changing/a.txt").blocksize(5)).unwrap();
    let client = Client::threads(2);
    assert_eq!(client.compute((&whole, &split)).unwrap().0, ["one", "two", "three"]);
    for (text, found) in [("shorter\n", 8), ("ONE\nTWO\nTHREE\n", 14)] {
        put("changing/a.txt", text);
        for lines in [&whole, &split] {
            assert_eq!(failure(lines.compute(&client)).problem(), &FileProblem::Changed { listed: 14, found });
        }
    }
}

#[test]
fn records_and_their_places() {
    put("records/a.jsonl", "1\n2\nthree\n4\n");
    put("records/a.csv", "n,m\n1,2\n3,4\n5,x\n");
    let client = Client::threads(2);
    let (good, bad) = Bag::<i64>::read_json_with_bad_records(files("records/a.jsonl").blocksize(3)).unwrap();
    let (sum, bad) = client.compute((&good.sum(), &bad)).unwrap();
    assert_eq!((sum, bad.len(), bad[0].text.as_str()), (7, 1, "three"));
    // Nobody has counted the lines before the block; that would be another download.
    assert_eq!((bad[0].error.place().line, bad[0].error.place().offset), (None, Some(4)));
    let rows = Bag::<(i64, i64)>::read_csv(files("records/a.csv").blocksize(4), Csv::new()).unwrap();
    let error = failure(rows.compute(&client));
    assert_eq!(error.place().offset, Some(12));
    assert!(error.to_string().contains("column `m` is \"x\""), "{error}");
}

fn mebibyte(i: i64) -> String {
    format!("{i:07}").repeat((1 << 20) / 7)
}

/// Uploads that have been begun and not ended.
fn unfinished() -> bool {
    let answer = S3.get(&format!("/{BUCKET}?uploads"));
    assert!(answer.contains("ListMultipartUploadsResult"), "{answer}");
    answer.contains("<Upload>")
}

/// In one test, as it looks at all uploads of the server.
#[test]
fn large_objects_go_in_parts_and_failed_ones_leave_none() {
    for client in clients() {
        let mode = client.mode();
        let lines = Bag::range(0..20, 1).map(mebibyte);
        let paths = lines.write_text(output(&format!("large-{mode}/*.txt"))).unwrap().compute(&client).unwrap();
        assert!(S3.get(&format!("/{BUCKET}?prefix=large-{mode}")).contains("-2\"</ETag>"), "not in two parts");
        let read = Bag::read_text(files(paths[0].split_once("swath/").unwrap().1)).unwrap();
        let right = read.map_partitions(|lines| [lines.zip(0..).filter(|(line, i)| *line == mebibyte(*i)).count()]);
        assert_eq!(right.compute(&client).unwrap(), [20], "{mode}");

        let failing =
            Bag::range(0..20, 1).try_map(|i| if i < 18 { Ok(mebibyte(i)) } else { Err("too much".to_string()) });
        let panicking = Bag::range(0..20, 1).map(|i| if i < 17 { mebibyte(i) } else { panic!("too much") });
        for bag in [failing, panicking] {
            let error = bag.write_text(output(&format!("failed-{mode}/*.txt"))).unwrap().compute(&client).unwrap_err();
            assert!(error.to_string().contains("too much"), "{error}");
            assert_eq!(problem(files(&format!("failed-{mode}/*")).blocks()), FileProblem::NotFound);
            assert!(!unfinished(), "{mode}");
        }
    }
}

#[test]
fn only_new_objects() {
    let client = Client::sync();
    let one = Bag::from_sequence(["x".to_string()], 1);
    let describe = || one.write_text(output("only-new/*.txt").only_new());
    describe().unwrap().compute(&client).unwrap();
    assert_eq!(problem(describe()), FileProblem::Exists);
}

#[test]
fn credentials_from_the_environment() {
    if my_role().is_some() {
        for client in clients() {
            let target = format!("s3://{BUCKET}/environment-{}/*.txt", client.mode());
            let words = Bag::from_sequence(["a", "b", "c"].map(String::from), 3);
            words.write_text(&*target).unwrap().compute(&client).unwrap();
            assert_eq!(Bag::read_text(&*target).unwrap().compute(&client).unwrap(), ["a", "b", "c"]);
        }
        return say("done");
    }
    let mut program = role("credentials_from_the_environment", "program");
    program.envs(S3.environment());
    assert_eq!(play(program), ["done"]);
}

#[test]
fn options_that_are_wrong() {
    let unknown = Files::new("s3://bucket/key").option("colour", "red").blocks();
    assert!(unknown.unwrap_err().to_string().contains("`colour` is not an option"));
    // Nobody listens there any more.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = files("a.txt").option("endpoint", format!("http://{address}"));
    let FileProblem::Io { reason } = problem(nowhere.blocks()) else { panic!() };
    assert!(reason.to_lowercase().contains("refused"), "{reason}");
}

#[test]
fn from_within_an_async_runtime() {
    put("async/a.txt", "one\ntwo\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let lines = Bag::read_text(files("async/*.txt")).unwrap();
        assert_eq!(lines.compute(&Client::sync()).unwrap(), ["one", "two"]);
        assert_eq!(lines.compute_async(&Client::threads(1)).await.unwrap(), ["one", "two"]);
    });
}

/// Cargo builds the examples for a test run and puts them beside the tests.
#[test]
fn the_s3_example_gives_the_known_answers() {
    let program = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/s3");
    assert!(program.exists(), "{} is missing: `cargo test` builds it", program.display());
    for mode in ["sync", "threads", "processes"] {
        let mut command = Command::new(&program);
        // A part of the data: what is not optimised takes its time.
        let quarter = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/flights/2013-0[1-3].csv");
        command.arg(format!("s3://{BUCKET}/example-{mode}")).arg(quarter).envs(S3.environment());
        command.env("SWATH_SCHEDULER", mode);
        let output = command.env("SWATH_WORKERS", "2").output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{mode}: {err}");
        assert!(out.contains(&format!("3 objects, from s3://{BUCKET}/example-{mode}/month-01.jsonl.gz")), "{out}");
        // Counted by other means.
        assert!(out.contains("78146 flights left on 90 days"), "{out}");
        assert!(out.contains("   3/08    83.54 minutes late"), "{out}");
    }
    // What is wrong is said, not shown as a panic.
    let output = Command::new(&program).arg("s3:///flights").output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains("bucket") && !message.contains("panicked"), "{message}");
}
