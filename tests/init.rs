//! `StartMethod::Init`, where workers begin in `main`: so this test has a `main` of its own. It plays a program that calls
//! `swath::client::init()`, one that forgets to, and workers that say something else than a worker would.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use nix::sys::socket::{MsgFlags, send};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use swath::client::{Builder, StartMethod};
use swath::error::{Cause, DeathCause};
use swath::{Client, delayed, local};

const ROLE: &str = "SWATH_TEST_ROLE";
/// What the first worker says instead of hello, and a file that tells the others that they are not the first.
const WORDS: &str = "SWATH_TEST_WORDS";
const SAID: &str = "SWATH_TEST_SAID";
/// What the library has in the environment of workers.
const WORKER: &str = "SWATH_WORKER_PAGE";
const LONG: Duration = Duration::from_secs(30);

fn main() -> swath::Result<()> {
    let role = std::env::var(ROLE).unwrap_or_default();
    match &*role {
        "calls init" => {
            swath::client::init();
            calls_init()
        }
        "lacks init" => lacks_init(),
        "impostors" => {
            if std::env::var_os(WORKER).is_some() {
                be_an_impostor();
                swath::client::init();
            }
            impostors()
        }
        _ => {
            play_all();
            Ok(())
        }
    }
}

/// Each role in a process of its own, all at once.
fn play_all() {
    let play = |role| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        (
            role,
            command.env(ROLE, role).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(),
        )
    };
    for (role, child) in ["calls init", "lacks init", "impostors"].map(play) {
        let output = child.wait_with_output().unwrap();
        let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert!(output.status.success(), "{role}: {}\n{out}\n{err}", output.status);
        std::io::stdout().write_all(format!("test {role} ... ok\n").as_bytes()).unwrap();
    }
}

fn builder() -> Builder {
    Client::builder().workers(2).threads(1).start_method(StartMethod::Init).forward_output(false)
}

fn inc(x: i64) -> i64 {
    x + 1
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LONG, "{what}: not within {LONG:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[allow(unconditional_recursion, reason = "it is to use up the stack")]
fn deeper(bytes: Vec<u64>) -> u64 {
    let more = std::hint::black_box([bytes[0].wrapping_add(1); 64]);
    deeper(more.to_vec()) + more[7]
}

fn calls_init() -> swath::Result<()> {
    let client = builder().allowed_deaths(1).build()?;
    client.wait_for_workers(2, LONG)?;
    assert_eq!(client.compute(&delayed(inc).map(0..20))?, (1..=20).collect::<Vec<_>>());
    let pids = client.workers()?.iter().map(|worker| worker.pid).collect::<Vec<_>>();
    let there = delayed(std::process::id).call().compute(&client)?;
    assert!(pids.contains(&there) && there != std::process::id());
    // Rust's runtime has been set up by then, and tells why.
    let error = delayed(deeper).call(vec![1]).compute(&client).unwrap_err();
    let Some(Cause::WorkerDied(records)) = error.task().map(|task| task.cause()) else { panic!("{error}") };
    assert!(records[0].last_lines.iter().any(|line| line.text.contains("overflowed its stack")), "{error}");
    client.wait_for_workers(2, LONG)
}

/// In its workers this function runs too, and fails.
fn lacks_init() -> swath::Result<()> {
    let client = builder().start_timeout(Duration::from_secs(2)).build()?;
    let reason = delayed(inc).call(1).compute(&client).unwrap_err().to_string();
    for words in [
        "did not become a worker",
        "call `swath::client::init()` first in `main`",
        "no worker has come to work for 2s",
        "StartMethod::Init",
    ] {
        assert!(reason.contains(words), "{reason}");
    }
    Ok(())
}

/// The first words of a worker: its version as far as a message's integers go, and its build.
fn hello(version: u64, build: &[u8]) -> Vec<u8> {
    // Integers that do not fit into one byte are marked with their size.
    let version = if version < 251 { vec![version as u8] } else { [&[253][..], &version.to_le_bytes()].concat() };
    [&[0], version.as_slice(), &[0, build.len() as u8], build, &[0; 8]].concat()
}

fn frame(kind: u8, len: usize, body: &[u8]) -> Vec<u8> {
    [&[0x57, 0x53, 1, kind, 0, 0, 0, 0][..], &(len as u64).to_le_bytes(), body].concat()
}

fn impostors() -> swath::Result<()> {
    let version = local::version();
    let (_, version) = version.split_once("protocol ").unwrap();
    let version = u64::from_str_radix(version.trim_end_matches(')'), 16).unwrap();
    let message = |body: &[u8]| frame(1, body.len(), body);
    let all = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "no frame of swath"),
        (message(&hello(version ^ 1, &[1, 2, 3])), "it speaks protocol"),
        (message(&hello(version, &[1, 2, 3])), "another build of the program"),
        (message(&[&[1, 0, 0][..], &[0; 8]].concat()), "it did not begin with a hello"),
        (message(&[0xff; 40]), "malformed"),
        (frame(1, usize::MAX, &[]), "longer than"),
        (frame(1, 1000, b"cut off"), "ended inside a frame"),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (n, (words, reason)) in all.into_iter().enumerate() {
        let hex: String = words.iter().map(|byte| format!("{byte:02x}")).collect();
        let said = dir.path().join(n.to_string()).to_str().unwrap().to_string();
        let client = builder().workers(1).worker_env(WORDS, hex).worker_env(SAID, said).build()?;
        assert_eq!(delayed(inc).call(1).compute(&client)?, 2, "{reason}");
        until("its death is known", || client.deaths().unwrap().len() == 1);
        let record = client.deaths()?.remove(0);
        assert!(matches!(&record.cause, DeathCause::Protocol(why) if why.contains(reason)), "{reason}: {record}");
    }
    Ok(())
}

/// Returns in all workers but the first.
fn be_an_impostor() {
    let said = std::env::var(SAID).unwrap();
    if Path::new(&said).exists() {
        return;
    }
    std::fs::write(said, "").unwrap();
    let words = std::env::var(WORDS).unwrap();
    let byte = |at| u8::from_str_radix(&words[at..at + 2], 16).unwrap();
    let words: Vec<u8> = (0..words.len()).step_by(2).map(byte).collect();
    // Its standard input leads to the supervisor.
    assert_eq!(send(0, &words, MsgFlags::MSG_NOSIGNAL).unwrap(), words.len());
    if !words.ends_with(b"cut off") {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    }
    std::process::exit(0);
}
