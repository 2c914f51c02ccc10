//! Tasks that print, in programs whose streams or logger take nothing, or that do not wait for them.

use crate::common::*;
use parking_lot::Mutex;
use std::fs;
use std::io::{Read, Write, stderr, stdout};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use swath::{Client, delayed};

const ENTRY: &str = "faults::printing::roles";
/// A client that goes is gone within this, whatever its program's streams and logger do.
const SOON_GONE: Duration = Duration::from_secs(15);

fn inc(x: i64) -> i64 {
    x + 1
}

#[allow(clippy::print_stdout, clippy::print_stderr)]
fn noisy(x: i64) -> i64 {
    println!("out {x}");
    eprintln!("err {x}");
    x
}

/// Writes blocks of lines to both streams, which count on from `from` and are so wide.
fn counts(from: u64, bytes: usize, width: usize) -> u64 {
    let mut next = from;
    let mut written = 0;
    while written < bytes {
        let mut block = String::new();
        while block.len() < 60 << 10 {
            block += &format!("{next:0width$}\n");
            next += 1;
        }
        stdout().write_all(block.as_bytes()).unwrap();
        stderr().write_all(block.as_bytes()).unwrap();
        written += block.len();
    }
    next
}

fn end(client: Client, how: &str) {
    let began = Instant::now();
    match how {
        "shutdown" => client.shutdown(),
        _ => drop(client),
    }
    assert!(began.elapsed() < SOON_GONE, "it took {:?}", began.elapsed());
}

/// Whoever waits for a client's end waits for what is still to be written, which another client may have left.
fn write_the_rest() {
    drop(processes(1, 1));
}

fn start(role_name: &str, dir: &tempfile::TempDir) -> Command {
    let mut command = role(ENTRY, role_name);
    command.env("SWATH_TEST_DIR", dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Reads a stream to its end, so that the other one does not fill up meanwhile.
fn read(stream: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let (mut stream, mut text) = (stream, Vec::new());
        stream.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    })
}

fn ends(child: &mut Child) {
    let mut status = None;
    until("the role ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success(), "{status:?}");
}

/// What a role writes to its streams until it ends.
fn plays(role_name: &str, dir: &tempfile::TempDir) -> (String, String) {
    let mut child = start(role_name, dir).spawn().unwrap();
    let (out, err) = (read(child.stdout.take().unwrap()), read(child.stderr.take().unwrap()));
    child.wait().map(|status| assert!(status.success() || status.code() == Some(0), "{status}")).unwrap();
    (out.join().unwrap(), err.join().unwrap())
}

fn numbers(text: &str) -> Vec<u64> {
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn count_up(numbers: &[u64]) -> bool {
    numbers.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

#[test]
fn a_program_computes_while_it_has_its_streams_locked() {
    let _clean = Clean::start();
    for how in ["drop", "shutdown"] {
        let dir = directory();
        let (out, err) = plays(&format!("locked, {how}"), &dir);
        assert_eq!(notes(&path(&dir, "notes")), ["computed", "gone"], "{out}\n{err}");
        for x in 0..20 {
            assert!(out.lines().any(|line| line == format!("out {x}")), "{x}: {out}");
            assert!(err.lines().any(|line| line == format!("err {x}")), "{x}: {err}");
        }
    }
}

#[test]
fn a_program_whose_streams_are_full_pipes_computes_and_ends() {
    let _clean = Clean::start();
    for how in ["drop", "shutdown"] {
        let dir = directory();
        let mut child = start(&format!("unread, {how}"), &dir).spawn().unwrap();
        ends(&mut child);
        assert_eq!(notes(&path(&dir, "notes")), ["computed", "gone"]);
        for text in [read(child.stdout.take().unwrap()), read(child.stderr.take().unwrap())] {
            let text = text.join().unwrap();
            let mut lines = numbers(&text);
            // The last one may be cut.
            lines.pop();
            assert!(lines[0] == 0 && lines.len() > 1000 && count_up(&lines), "{lines:?}");
        }
    }
}

#[test]
fn lines_that_a_locked_stream_does_not_take_are_counted_and_the_others_come() {
    let _clean = Clean::start();
    let dir = directory();
    let (out, err) = plays("much", &dir);
    let total: u64 = notes(&path(&dir, "notes"))[0].parse().unwrap();
    for text in [&out, &err] {
        let mut told = text.lines().filter_map(|line| line.strip_prefix("… "));
        let dropped: u64 = told.next().unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(told.next().is_none() && dropped > 0);
        let (before, after) = text.split_once("\n…").unwrap();
        let before = numbers(before);
        // The line in which they begin to be dropped is cut, and the one in which that ends.
        assert!(before.len() > 10_000 && count_up(&before[..before.len() - 1]));
        assert!(numbers(after).last() == Some(&(total + 9)), "what comes later is told");
        let missing = total as i64 - before.len() as i64 - numbers(after).len() as i64 + 10;
        assert!((missing - dropped as i64).abs() <= 2, "{missing} {dropped}");
    }
}

#[test]
fn a_program_that_drops_its_client_and_exits_has_written_all_that_its_tasks_printed() {
    let _clean = Clean::start();
    let dir = directory();
    let (out, err) = plays("exits", &dir);
    let total: u64 = notes(&path(&dir, "notes"))[0].parse().unwrap();
    for text in [out, err] {
        let lines = numbers(&text);
        assert!(lines.len() as u64 == total && count_up(&lines), "{} of {total} lines", lines.len());
    }
}

#[test]
fn text_without_line_ends_comes_whole() {
    let _clean = Clean::start();
    let dir = directory();
    let (out, err) = plays("unended", &dir);
    for text in [out, err] {
        assert_eq!(text.matches("abcdefghij").count(), 1_000_000);
    }
}

#[test]
fn tasks_that_print_a_dot_each_share_a_line() {
    let _clean = Clean::start();
    let dir = directory();
    let (out, _) = plays("dots", &dir);
    assert_eq!(notes(&path(&dir, "notes")), ["1 line, 16 tasks, the last among them"]);
    assert!(out.contains(&".".repeat(5000)), "{out}");
}

#[test]
fn two_million_empty_lines_leave_nothing_behind() {
    let _clean = Clean::start();
    let dir = directory();
    let (out, _) = plays("empty lines", &dir);
    let grown: u64 = notes(&path(&dir, "notes"))[0].parse().unwrap();
    assert!(out.matches('\n').count() >= 2_000_000);
    assert!(grown < 32 << 20, "the client has grown by {grown} bytes");
}

#[test]
fn a_logger_may_ask_the_client() {
    let _clean = Clean::start();
    for how in ["drop", "shutdown", "drop in the logger"] {
        let dir = directory();
        plays(&format!("logger asks, {how}"), &dir);
        let notes = notes(&path(&dir, "notes"));
        assert!(notes.iter().any(|note| note == "the logger has been answered"), "{how}: {notes:?}");
        assert!(notes.iter().any(|note| note == "gone"), "{how}: {notes:?}");
    }
}

#[test]
fn a_logger_that_blocks_blocks_nothing_else() {
    let _clean = Clean::start();
    for how in ["drop", "shutdown"] {
        let dir = directory();
        plays(&format!("logger blocks, {how}"), &dir);
        let notes = notes(&path(&dir, "notes"));
        assert_eq!(notes, ["computed", "gone", "logged a death"], "{how}");
    }
}

/// The client that the logger asks, and the lock that it waits for.
static CLIENT: Mutex<Option<Client>> = Mutex::new(None);
static GATE: Mutex<()> = Mutex::new(());

struct Logger {
    role: String,
    notes: String,
}

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() > log::Level::Warn || !record.target().starts_with("swath") {
            return;
        }
        if self.role.starts_with("logger blocks") {
            drop(GATE.lock());
            note(&self.notes, "logged a death");
            return;
        }
        let client = CLIENT.lock().clone();
        let Some(client) = client else { return };
        client.workers().unwrap();
        assert_eq!(client.compute(&delayed(inc).call(1)).unwrap(), 2);
        note(&self.notes, "the logger has been answered");
        if self.role.ends_with("in the logger") {
            CLIENT.lock().take();
            end(client, "drop");
            note(&self.notes, "gone");
        }
    }

    fn flush(&self) {}
}

fn dies(file: String) -> i64 {
    if fs::exists(&file).unwrap() {
        return 7;
    }
    touch(&file);
    std::process::abort()
}

/// Played by processes of their own.
#[test]
fn roles() {
    let Ok(dir) = std::env::var("SWATH_TEST_DIR") else { return };
    let file = |name: &str| format!("{dir}/{name}");
    let Ok(whole) = std::env::var("SWATH_TEST_ROLE") else { return };
    if whole.starts_with("logger") {
        log::set_boxed_logger(Box::new(Logger { role: whole.clone(), notes: file("notes") })).unwrap();
        log::set_max_level(log::LevelFilter::Debug);
    }
    let (role, how) = whole.split_once(", ").unwrap_or((&whole, "drop"));
    // The test's own words are on a line of their own.
    stdout().write_all(b"\n").unwrap();
    let said = |word: &str| note(&file("notes"), word);
    match role {
        "locked" => {
            let locks = (stdout().lock(), stderr().lock());
            let client = processes(2, 1);
            for x in 0..20 {
                assert_eq!(client.compute_timeout(&delayed(noisy).call(x), LONG).unwrap(), x);
            }
            assert_eq!(client.compute_timeout(&delayed(inc).map(0..100), LONG).unwrap().len(), 100);
            until("it is known what they printed", || client.logs().unwrap().len() == 40);
            said("computed");
            end(client, how);
            said("gone");
            drop(locks);
            write_the_rest();
        }
        "unread" => {
            let client = processes(2, 1);
            assert!(client.compute_timeout(&delayed(counts).call(0, 1_usize << 20, 1_usize), LONG).unwrap() > 0);
            assert_eq!(client.compute_timeout(&delayed(inc).map(0..100), LONG).unwrap().len(), 100);
            said("computed");
            end(client, how);
            said("gone");
        }
        "much" => {
            let locks = (stdout().lock(), stderr().lock());
            let client = processes(1, 1);
            let total = client.compute(&delayed(counts).call(0, 30_usize << 20, 1000_usize)).unwrap();
            let last = format!("{:01000}", total - 1);
            until("the last line has come", || client.logs().unwrap().iter().any(|line| line.text == last));
            said(&total.to_string());
            drop(locks);
            drop(client);
            let client = processes(1, 1);
            let more = |x: u64| {
                stdout().write_all(format!("{x}\n").as_bytes()).unwrap();
                stderr().write_all(format!("{x}\n").as_bytes()).unwrap();
            };
            (0..10).for_each(|i| client.compute(&delayed(more).call(total + i)).unwrap());
        }
        "exits" => {
            let client = processes(1, 1);
            let total = (0..20)
                .fold(0, |next, _| client.compute(&delayed(counts).call(next, 1_usize << 20, 100_usize)).unwrap());
            said(&total.to_string());
            drop(client);
        }
        "unended" => {
            let client = processes(1, 1);
            let print = |times: usize| {
                for _ in 0..times {
                    stdout().write_all("abcdefghij".repeat(1000).as_bytes()).unwrap();
                    stderr().write_all("abcdefghij".repeat(1000).as_bytes()).unwrap();
                }
            };
            client.compute(&delayed(print).call(1000_usize)).unwrap();
        }
        "dots" => {
            let client = processes(1, 1);
            #[allow(clippy::print_stdout)]
            fn dot(x: u64) -> u64 {
                print!(".");
                x
            }
            let futures = client.map(dot, 0..5000_u64).unwrap();
            client.gather(&futures).unwrap();
            let last = futures[4999].key();
            until("all dots have come", || {
                client.logs().unwrap().last().is_some_and(|line| line.tasks.last() == Some(&last))
            });
            let lines = client.logs().unwrap();
            said(&format!("{} line, {} tasks, the last among them", lines.len(), lines[0].tasks.len()));
        }
        "empty lines" => {
            let client = processes(1, 1);
            let print = |times: usize| {
                for _ in 0..times {
                    stdout().write_all(&[b'\n'; 4000]).unwrap();
                }
            };
            client.compute(&delayed(print).call(1_usize)).unwrap();
            let before = resident();
            client.compute(&delayed(print).call(500_usize)).unwrap();
            until("the last have come", || client.logs().unwrap().len() > 4000);
            said(&resident().saturating_sub(before).to_string());
        }
        "logger asks" | "logger blocks" => {
            let gate = (role == "logger blocks").then(|| GATE.lock());
            let client = processes(2, 1);
            *CLIENT.lock() = Some(client.clone());
            assert_eq!(client.compute_timeout(&delayed(dies).call(file("died")), LONG).unwrap(), 7);
            if gate.is_some() {
                assert_eq!(client.compute_timeout(&delayed(inc).map(0..100), LONG).unwrap().len(), 100);
                said("computed");
            } else {
                until("the logger has been answered", || !notes(&file("notes")).is_empty());
            }
            if how == "drop in the logger" {
                drop(client);
                return until("the logger has dropped the client", || notes(&file("notes")).len() == 2);
            }
            CLIENT.lock().take();
            end(client, how);
            said("gone");
            drop(gate);
            write_the_rest();
        }
        other => panic!("{other}"),
    }
    // Not by way of the test's own words, for which there may be no room.
    std::process::exit(0)
}

fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
