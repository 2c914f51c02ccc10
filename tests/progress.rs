//! Progress bars in a real pseudo-terminal, and time left against real run times.
#![cfg(feature = "progress")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use sizes::set_size;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use swath::client::{AboveBars, Builder};
use swath::status::Mode;
use swath::{Client, Error, delayed, try_delayed};

mod sizes {
    #![allow(missing_docs, reason = "the macro makes a public function")]
    use super::Winsize;
    nix::ioctl_write_ptr_bad!(set_size, nix::libc::TIOCSWINSZ, Winsize);
}

const ROWS: u16 = 30;

fn size(columns: u16) -> Winsize {
    Winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// A terminal with what a program shows on it.
struct Terminal {
    /// None once it is hung up.
    master: Option<OwnedFd>,
    slave: Option<OwnedFd>,
    parser: Arc<Mutex<vt100::Parser>>,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn new(columns: u16) -> Self {
        let pty = openpty(&size(columns), None).unwrap();
        let parser = Arc::new(Mutex::new(vt100::Parser::new(ROWS, columns, 1000)));
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, to, all) =
            (File::from(pty.master.try_clone().unwrap()), Arc::clone(&parser), Arc::clone(&bytes));
        std::thread::spawn(move || {
            let mut some = [0; 4096];
            // It is an error when nobody has the other end any more.
            while let Ok(n) = reader.read(&mut some)
                && n > 0
            {
                to.lock().process(&some[..n]);
                all.lock().extend_from_slice(&some[..n]);
            }
        });
        Self { master: Some(pty.master), slave: Some(pty.slave), parser, bytes }
    }

    fn stream(&self) -> Stdio {
        Stdio::from(self.slave.as_ref().unwrap().try_clone().unwrap())
    }

    fn resize(&self, columns: u16) {
        self.parser.lock().screen_mut().set_size(ROWS, columns);
        // SAFETY: the descriptor is open, and the size is one.
        unsafe { set_size(self.master.as_ref().unwrap().as_raw_fd(), &size(columns)) }.unwrap();
    }

    /// The rows that have been written, also those that have been scrolled away.
    fn rows(&self) -> Vec<String> {
        let mut parser = self.parser.lock();
        let columns = parser.screen().size().1;
        let screen = parser.screen_mut();
        let mut rows = Vec::new();
        screen.set_scrollback(usize::MAX);
        for above in (1..=screen.scrollback()).rev() {
            screen.set_scrollback(above);
            rows.extend(screen.rows(0, columns).next());
        }
        screen.set_scrollback(0);
        rows.extend(screen.rows(0, columns));
        rows.iter_mut().for_each(|row| row.truncate(row.trim_end().len()));
        while rows.last().is_some_and(String::is_empty) {
            rows.pop();
        }
        rows
    }

    fn text(&self) -> String {
        self.rows().join("\n")
    }

    /// Waits until all that has been written has been read: until a title that nobody shows comes behind it.
    fn drain(&self) {
        let Some(slave) = &self.slave else { return };
        let end = b"\x1b]2;end\x07";
        let ends = || self.bytes.lock().windows(end.len()).filter(|bytes| bytes == end).count();
        let before = ends();
        File::from(slave.try_clone().unwrap()).write_all(end).unwrap();
        until("the terminal is read", || ends() > before);
    }

    fn until(&self, what: &str, mut seen: impl FnMut(&[String]) -> bool) {
        assert!(comes_true(LONG, || seen(&self.rows())), "{what}:\n{}", self.text());
    }
}

/// A program on a terminal.
struct Program {
    child: Child,
    dir: tempfile::TempDir,
}

impl Program {
    fn command(name: &str, mode: &str) -> (Command, tempfile::TempDir) {
        let dir = directory();
        let mut command = role("roles", name);
        command
            .env("SWATH_TEST_DIR", dir.path())
            .env("SWATH_SCHEDULER", mode)
            .env("TERM", "xterm-256color")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("SWATH_PROGRESS");
        (command, dir)
    }

    fn on(terminal: &Terminal, name: &str, mode: &str) -> Self {
        let (mut command, dir) = Self::command(name, mode);
        let child = command.stderr(terminal.stream()).spawn().unwrap();
        Self { child, dir }
    }

    fn go(&self, name: &str) {
        note(&path(&self.dir, name), "go");
    }

    /// Its end, and what it said.
    fn end(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        if let Some(mut out) = self.child.stdout.take() {
            out.read_to_string(&mut said).unwrap();
        }
        (self.child.wait().unwrap(), said)
    }

    fn succeeds(self, terminal: &Terminal) -> String {
        let (status, said) = self.end();
        terminal.drain();
        assert!(status.success(), "{status}\n{said}\n{}", terminal.text());
        said
    }
}

// ---- What the programs do -----------------------------------------------------------------------------------------

/// Gives a number, once the file is there.
fn parse(file: String, x: u64) -> u64 {
    if !file.is_empty() {
        wait_for_file(&file);
    }
    x
}

fn positive(x: u64) -> Result<u64, String> {
    if x > 0 { Ok(x) } else { Err("it is 0".to_string()) }
}

fn total(all: Vec<u64>) -> u64 {
    all.iter().sum()
}

#[allow(clippy::print_stderr, reason = "that is what it is for")]
fn chatty(file: String, x: u64) -> u64 {
    // At once, since lines of other workers may come between its parts.
    std::io::stderr().write_all(format!("task line {x}\n").as_bytes()).unwrap();
    wait_for_file(&file);
    if x == 5 {
        eprint!("half a line, ");
        note(&format!("{file}-half"), "now");
        wait_for_file(&format!("{file}-end"));
        eprintln!("and its other half");
    }
    x
}

fn in_steps(file: String, x: u64) -> u64 {
    swath::task::progress(x, 4);
    wait_for_file(&file);
    x
}

fn print(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Played by processes of their own.
#[test]
fn roles() {
    if std::env::var_os("SWATH_TEST_LOG").is_some() {
        let logger = env_logger::Builder::new().filter_level(log::LevelFilter::Warn).build();
        log::set_boxed_logger(Box::new(AboveBars(logger))).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    }
    let Some(role) = my_role() else { return };
    let dir = std::env::var("SWATH_TEST_DIR").unwrap_or_default();
    let file = |name: &str| format!("{dir}/{name}");
    match &*role {
        // Half of its tasks are done at once, and the others later.
        "half" => {
            let client = Client::from_env().unwrap();
            let _bars = client.progress_bars();
            note(&file("began"), "now");
            let parsed: Vec<_> =
                (0..40).map(|i| delayed(parse).call(if i < 20 { String::new() } else { file("go") }, i)).collect();
            let sum = client.compute(&delayed(total).call(parsed)).unwrap();
            print(format_args!("the result is {sum}"));
            drop(client);
            print("bye");
            say(sum);
        }
        "failing" => {
            let client = Client::from_env().unwrap();
            let one = client.submit(&delayed(parse).call(file("go"), 1)).unwrap();
            let all: Vec<_> =
                (0..4).map(|i| try_delayed(positive).call(delayed(parse).call(file("go"), i % 2))).collect();
            let futures = client.submit_all(&all).unwrap();
            let _bars = client.progress_of(&futures).bar();
            say("shown");
            wait_for_file(&file("go"));
            futures.iter().for_each(|future| drop(future.result()));
            one.result().unwrap();
            print("bye");
        }
        "quick" => {
            let client = Client::from_env().unwrap();
            let _bars = client.progress_bars();
            assert_eq!(client.compute(&delayed(total).call(vec![1, 2])).unwrap(), 3);
        }
        "chatty" => {
            let client = Client::from_env().unwrap();
            let _bars = client.progress_bars();
            let tasks: Vec<_> = (0..6).map(|i| delayed(chatty).call(file(&format!("go-{i}")), i)).collect();
            let futures = client.submit_all(&tasks).unwrap();
            for (i, future) in futures.iter().enumerate() {
                assert_eq!(future.result().unwrap(), i as u64);
                log::warn!("logged {i}");
            }
            print("bye");
        }
        "steps" => {
            let client = Client::from_env().unwrap();
            let _bars = client.progress_bars();
            client.compute(&delayed(in_steps).call(file("go"), 2)).unwrap();
        }
        "built" => {
            let client = Builder::from_env().unwrap().progress(true).build().unwrap();
            client.compute(&delayed(parse).call(file("go"), 1)).unwrap();
            client.shutdown();
            print("bye");
        }
        "asked" => match Client::from_env() {
            Ok(client) => drop(client.compute(&delayed(parse).call(file("go"), 1)).unwrap()),
            Err(Error::Invalid { what, .. }) => say(what),
            Err(e) => panic!("{e}"),
        },
        "endless" => {
            // Whoever runs the tests in the background may ignore it, and what it starts would, too.
            // SAFETY: the default action runs no handler.
            unsafe { nix::sys::signal::signal(Signal::SIGINT, nix::sys::signal::SigHandler::SigDfl) }.unwrap();
            let client = Client::from_env().unwrap();
            let _bars = client.progress_bars();
            client.compute(&delayed(parse).call(file("go"), 1)).unwrap();
        }
        other => panic!("no role {other}"),
    }
}

// ---- Tests --------------------------------------------------------------------------------------------------------

#[test]
fn bars_are_drawn_and_leave_one_line() {
    for mode in ["threads", "processes"] {
        let terminal = Terminal::new(90);
        let program = Program::on(&terminal, "half", mode);
        terminal.until("half of it is done", |rows| {
            rows.iter().any(|row| row.starts_with("parse") && row.contains("20/40  50 %"))
                && rows.iter().any(|row| row.starts_with("total") && row.contains("0/1"))
                && rows.iter().any(|row| row.starts_with("all") && row.contains("20/41  48 %  ") && row.contains('█'))
        });
        program.go("go");
        assert_eq!(said(&program.succeeds(&terminal)), ["780"]);
        let rows = terminal.rows();
        assert_eq!(rows.len(), 3, "{rows:#?}");
        assert!(rows[0].starts_with("all  41 done in ") && rows[0].ends_with(" s"), "{rows:#?}");
        assert_eq!(rows[1..], ["the result is 780", "bye"]);
    }
}

#[test]
fn bars_follow_the_size_of_the_terminal() {
    let terminal = Terminal::new(90);
    let program = Program::on(&terminal, "half", "threads");
    terminal.until("it is drawn", |rows| rows.iter().any(|row| row.starts_with("all") && row.contains("20/41")));
    for columns in [40, 20, 120] {
        terminal.resize(columns);
        let drawn = terminal.bytes.lock().len();
        // Twice, since one drawing may have been under way.
        until("it is drawn again", || terminal.bytes.lock().len() > drawn + 2 * usize::from(columns) * 3);
        terminal.until("it fits", |rows| {
            let last: Vec<_> = rows.iter().rev().take(3).collect();
            last[0].starts_with("all")
                && last[0].contains("48 %")
                && last[1].starts_with("total")
                && last[2].starts_with("parse")
        });
    }
    program.go("go");
    program.succeeds(&terminal);
    assert_eq!(terminal.rows().iter().filter(|row| row.contains("done in")).count(), 1, "{}", terminal.text());
}

#[test]
fn what_tasks_print_and_programs_log_goes_above() {
    let terminal = Terminal::new(90);
    let (mut command, dir) = Program::command("chatty", "processes");
    command.env("SWATH_TEST_LOG", "1").env("SWATH_WORKERS", "6");
    let child = command.stderr(terminal.stream()).spawn().unwrap();
    let program = Program { child, dir };
    for i in 0..6 {
        terminal.until("all run, and are drawn", |rows| {
            let printed = rows.iter().filter(|row| row.starts_with("task line")).count();
            printed == 6 && rows.last().is_some_and(|row| row.starts_with("all") && row.contains(&format!("{i}/6")))
        });
        program.go(&format!("go-{i}"));
    }
    until("half a line is printed", || notes(&path(&program.dir, "go-5-half")).len() == 1);
    let drawn = terminal.bytes.lock().len();
    until("it is drawn again", || terminal.bytes.lock().len() > drawn + 1000);
    program.go("go-5-end");
    program.succeeds(&terminal);
    let rows = terminal.rows();
    for i in 0..6 {
        assert_eq!(rows.iter().filter(|row| **row == format!("task line {i}")).count(), 1, "{i}: {rows:#?}");
        assert_eq!(rows.iter().filter(|row| row.ends_with(&format!("logged {i}"))).count(), 1, "{i}: {rows:#?}");
    }
    assert!(rows.contains(&"half a line, and its other half".to_string()), "{rows:#?}");
    assert!(rows.iter().all(|row| !row.contains('░') && !row.contains('█')), "{rows:#?}");
    assert_eq!(rows.iter().filter(|row| row.starts_with("all  6 done in")).count(), 1, "{rows:#?}");
    // What a task has printed may come a moment after its result.
    assert_eq!(rows.iter().filter(|row| *row == "bye").count(), 1, "{rows:#?}");
}

#[test]
fn bars_of_some_results_count_what_fails() {
    let terminal = Terminal::new(90);
    let program = Program::on(&terminal, "failing", "threads");
    terminal.until("it is drawn", |rows| rows.iter().any(|row| row.starts_with("all") && row.contains("0/8")));
    program.go("go");
    program.succeeds(&terminal);
    let rows = terminal.rows();
    assert!(rows[0].starts_with("all  6 done in ") && rows[0].contains(", 2 failed: first "), "{rows:#?}");
    assert_eq!(rows[1..], ["bye"]);
}

#[test]
fn what_a_task_says_moves_its_bar() {
    for mode in ["sync", "threads", "processes"] {
        let terminal = Terminal::new(90);
        let program = Program::on(&terminal, "steps", mode);
        terminal.until("it is half done", |rows| {
            rows.iter().any(|row| row.starts_with("in_steps") && row.contains("0/1  50 %"))
        });
        program.go("go");
        program.succeeds(&terminal);
    }
}

#[test]
fn what_is_done_at_once_shows_nothing() {
    let terminal = Terminal::new(90);
    for mode in ["sync", "threads"] {
        Program::on(&terminal, "quick", mode).succeeds(&terminal);
    }
    assert_eq!(terminal.text(), "");
}

#[test]
fn builders_and_the_environment_ask_for_bars() {
    let terminal = Terminal::new(90);
    let program = Program::on(&terminal, "built", "threads");
    terminal.until("it is drawn", |rows| rows.iter().any(|row| row.starts_with("all") && row.contains("0/1")));
    program.go("go");
    program.succeeds(&terminal);
    assert!(terminal.rows()[0].starts_with("all  1 done in "), "{}", terminal.text());
    let start = |role, value, terminal: &Terminal| {
        let (mut command, dir) = Program::command(role, "threads");
        let child = command.env("SWATH_PROGRESS", value).stderr(terminal.stream()).spawn().unwrap();
        Program { child, dir }
    };
    let terminal = Terminal::new(90);
    let program = start("asked", "1", &terminal);
    terminal.until("it is drawn", |rows| rows.iter().any(|row| row.starts_with("all")));
    program.go("go");
    program.succeeds(&terminal);
    // 0 wins.
    let terminal = Terminal::new(90);
    let program = start("built", "0", &terminal);
    std::thread::sleep(Duration::from_millis(500));
    program.go("go");
    program.succeeds(&terminal);
    assert_eq!(terminal.text(), "bye");
    assert_eq!(said(&start("asked", "many", &terminal).succeeds(&terminal)), ["SWATH_PROGRESS"]);
}

#[test]
fn a_pipe_gets_nothing_or_plain_lines() {
    let run = |value: &str| {
        let (mut command, dir) = Program::command("half", "threads");
        let child = command.env("SWATH_PROGRESS", value).stderr(Stdio::piped()).spawn().unwrap();
        let mut program = Program { child, dir };
        until("it has begun", || notes(&path(&program.dir, "began")).len() == 1);
        std::thread::sleep(Duration::from_millis(600));
        program.go("go");
        let mut err = program.child.stderr.take().unwrap();
        let mut printed = String::new();
        err.read_to_string(&mut printed).unwrap();
        assert!(program.end().0.success());
        printed
    };
    assert_eq!(run("1"), "the result is 780\nbye\n");
    let plain = run("plain");
    let lines: Vec<_> = plain.lines().collect();
    // The client's own, and those of the program.
    assert_eq!(lines.len(), 4, "{plain}");
    assert!(lines[..2].iter().all(|line| line.starts_with("all  41 done in ")), "{plain}");
}

#[test]
fn a_terminal_that_goes_is_no_error() {
    let mut terminal = Terminal::new(90);
    let program = Program::on(&terminal, "half", "threads");
    terminal.until("it is drawn", |rows| rows.iter().any(|row| row.starts_with("all")));
    // The reader has it, too, until it reads that nobody writes.
    terminal.slave = None;
    let master = terminal.master.take().unwrap();
    // SAFETY: as above.
    unsafe { set_size(master.as_raw_fd(), &size(1)) }.unwrap();
    drop(master);
    program.go("go");
    let (status, said_there) = program.end();
    assert!(status.success(), "{status}: {said_there}");
    assert_eq!(said(&said_there), ["780"]);
}

#[test]
fn an_interrupt_leaves_a_clean_line() {
    let terminal = Terminal::new(60);
    let program = Program::on(&terminal, "endless", "threads");
    terminal.until("it is drawn", |rows| rows.iter().any(|row| row.starts_with("all")));
    send_signal(program.child.id(), Signal::SIGINT);
    assert!(!program.end().0.success());
    // What a shell does then.
    File::from(terminal.slave.as_ref().unwrap().try_clone().unwrap()).write_all(b"prompt$ ").unwrap();
    terminal.until("there is a prompt", |rows| rows.iter().any(|row| row == "prompt$"));
}

/// What is told of the time left, from half-way on, is right within 30 % of it, and what a busy machine adds.
#[test]
fn time_left_is_that_of_a_real_run() {
    fn sleeps(x: u64) -> u64 {
        std::thread::sleep(Duration::from_millis(8 + x % 5));
        x
    }
    let client = Client::threads(4);
    let slept: Vec<_> = (0..600).map(|i| delayed(sleeps).call(i)).collect();
    let began = Instant::now();
    let _sum = client.submit(&delayed(total).call(slept)).unwrap();
    let mut told = Vec::new();
    for progress in client.watch_progress() {
        told.push((began.elapsed().as_secs_f64(), progress.counts.unfinished(), progress.left, progress.rate));
    }
    let took = began.elapsed().as_secs_f64();
    let late: Vec<_> = told.iter().filter(|(at, unfinished, ..)| *at > took / 2.0 && *unfinished > 0).collect();
    assert!(late.len() >= 3, "{told:?}");
    for (at, _, left, rate) in late {
        let (left, real) = (left.unwrap().as_secs_f64(), took - at);
        assert!((left - real).abs() <= 0.3 * real + 0.15, "{real} s left, told {left}: {told:?}");
        let really = 600.0 / took;
        assert!((rate.unwrap() - really).abs() < 0.4 * really, "{really} a second: {told:?}");
    }
    assert_eq!(client.progress().threads, 4);
    assert_eq!(client.mode(), Mode::Threads);
}
