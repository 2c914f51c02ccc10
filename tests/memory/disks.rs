//! Spill directories that are full, read-only, gone or stuck, for real: file systems of their own, where that is permitted.

use crate::common::*;
use crate::{MIB, block, limited, sum};
use std::path::Path;
use std::process::{Command, Stdio};
use swath::error::Cause;
use swath::{Buffer, Client, Future, delayed};

/// A role in a mount namespace of its own, in which `setup` has prepared the directory that `SWATH_TEST_DIR` names. None
/// where that is not permitted. When the role has ended, `after` is run.
pub fn with_directory(dir: &Path, setup: &str, after: &str, (entry, name): (&str, &str)) -> Option<Command> {
    let inner = role(entry, name);
    let command = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script]).arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.env("SWATH_TEST_DIR", dir).stdin(Stdio::null());
        command
    };
    let tried = command(&format!("{setup}; status=$?; {after}; exit $status")).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        crate::common::permitted::skip("no file system can be mounted here");
        return None;
    }
    Some(command(&format!("{setup} && \"$0\" \"$@\"; status=$?; {after}; exit $status")))
}

fn blocks(client: &Client, seeds: std::ops::Range<u64>) -> Vec<Future<Buffer<u64>>> {
    client.submit_all(&seeds.map(|i| delayed(block).call(8, i)).collect::<Vec<_>>()).unwrap()
}

/// How many of the blocks are there, all of them right, and what is said of the first other one.
fn right(client: &Client, futures: &[Future<Buffer<u64>>]) -> (usize, Option<swath::Error>) {
    let sums: Vec<_> = futures.iter().map(|f| client.compute(&delayed(sum).call(f))).collect();
    for (i, there) in (0..).zip(&sums) {
        assert!(there.as_ref().map_or(true, |there| *there == sum(block(8, i))), "{i}");
    }
    (sums.iter().filter(|s| s.is_ok()).count(), sums.into_iter().find_map(Result::err))
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A frozen file system: whoever writes there waits until it is thawed.
struct Frozen<'a>(&'a str);

impl<'a> Frozen<'a> {
    fn new(dir: &'a str) -> Self {
        run("fsfreeze", &["-f", dir]);
        Self(dir)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        run("fsfreeze", &["-u", self.0]);
    }
}

#[test]
fn roles() {
    let Some(role) = my_role() else { return };
    let dir = std::env::var("SWATH_TEST_DIR").unwrap();
    let client = limited(1, "128MiB").spill_directory(&dir).build().unwrap();
    client.wait_for_workers(1, LONG).unwrap();
    match &*role {
        "refused" => {
            let futures = blocks(&client, 0..40);
            let (there, error) = right(&client, &futures);
            let error = error.unwrap();
            assert!(matches!(error.task().unwrap().cause(), Cause::Resource { .. }), "{error}");
            assert!(client.logs().unwrap().iter().any(|line| line.text.contains("cannot be moved to disk")));
            say(there);
            say(error);
            // There is room again, and that is found out.
            run("sh", &["-c", &std::env::var("SWATH_TEST_MEND").unwrap()]);
            until("it works again", || {
                client.compute(&delayed(sum).call(delayed(block).call(8, 99))).is_ok()
                    && !client.memory().unwrap().to_string().contains("the disk takes none")
                    && client.memory().unwrap().workers[0].managed <= 77 * MIB as u64
            });
            assert_eq!(right(&client, &futures).0, there, "what was there still is");
            let more = blocks(&client, 0..40);
            assert_eq!(right(&client, &more).0, 40);
        }
        "frozen" => frozen(&client, &dir),
        other => panic!("{other}"),
    }
    assert_eq!(client.deaths().unwrap(), []);
    say("well");
}

fn frozen(client: &Client, dir: &str) {
    let small = |x: i64| client.compute(&delayed(|x: i64| x + 1).call(x)).unwrap();
    // The target is 76.8 MiB, the level at which starts wait 89.6 MiB.
    let on_disk = blocks(client, 0..20);
    on_disk.iter().for_each(|block| until("it is there", || block.is_done()));
    until("most are on disk", || client.memory().unwrap().workers[0].managed < 77 * MIB as u64);
    let spilled = client.memory().unwrap().spilled();
    assert!(spilled > 80 * MIB as u64, "{}", client.memory().unwrap());
    let frozen = Frozen::new(dir);
    // One more is one that should be moved; the thread that moves it waits for the disk, and nobody else does.
    let mut more = blocks(client, 20..21);
    assert_eq!(client.compute(&delayed(sum).call(&more[0])).unwrap(), sum(block(8, 20)));
    for x in 0..20 {
        assert_eq!(small(x), x + 1);
    }
    assert!(client.memory().unwrap().workers[0].managed > 77 * MIB as u64, "{}", client.memory().unwrap());
    // What is on disk is read, by tasks and for the client, and dropped.
    assert_eq!(client.compute(&delayed(sum).call(&on_disk[0])).unwrap(), sum(block(8, 0)));
    assert_eq!(sum(on_disk[1].result().unwrap()), sum(block(8, 1)));
    drop(on_disk);
    until("it is dropped", || client.memory().unwrap().spilled() < spilled / 2);
    assert_eq!(small(1), 2);
    // When there is no room, the others wait, and say why.
    more.extend(blocks(client, 21..40));
    until("there is no room", || client.memory().unwrap().workers[0].paused.is_some());
    let last = client.submit(&delayed(|x: i64| x + 1).call(41)).unwrap();
    until("it says why it waits", || client.explain(&last).unwrap().to_string().contains("make room in its memory"));
    let paused = client.memory().unwrap().workers[0].paused.clone().unwrap();
    assert!(paused.contains("moving results to disk"), "{paused}");
    assert!(!last.is_done());
    drop(frozen);
    assert_eq!(last.result().unwrap(), 42);
    for (i, future) in (20..).zip(&more) {
        assert_eq!(client.compute(&delayed(sum).call(future)).unwrap(), sum(block(8, i)));
    }
}

#[test]
fn a_full_directory_is_said_and_used_again_when_there_is_room() {
    let _clean = Clean::start();
    let dir = directory();
    let mount = "mount -t tmpfs -o size=70m tmpfs \"$SWATH_TEST_DIR\"";
    let Some(mut command) = with_directory(dir.path(), mount, "true", ("memory::disks::roles", "refused")) else {
        return;
    };
    command.env("SWATH_TEST_MEND", "mount -o remount,size=1g \"$SWATH_TEST_DIR\"");
    let words = play(command);
    // 8 on disk, and up to 80 % of the limit in memory.
    assert!((16..=22).contains(&words[0].parse::<usize>().unwrap()), "{words:?}");
    assert!(words[1].contains("is full") && words[1].contains("does not fit"), "{words:?}");
    assert_eq!(words[2], "well");
}

#[test]
fn a_read_only_directory_is_said_and_used_again_when_it_can_be_written_to() {
    let _clean = Clean::start();
    let dir = directory();
    let mount = "mount --bind \"$SWATH_TEST_DIR\" \"$SWATH_TEST_DIR\" && mount -o remount,bind,ro \"$SWATH_TEST_DIR\"";
    let Some(mut command) = with_directory(dir.path(), mount, "true", ("memory::disks::roles", "refused")) else {
        return;
    };
    command.env("SWATH_TEST_MEND", "mount -o remount,bind,rw \"$SWATH_TEST_DIR\"");
    let words = play(command);
    assert!((9..=14).contains(&words[0].parse::<usize>().unwrap()), "{words:?}");
    assert!(words[1].contains("cannot be written to") && words[1].contains("spill_directory"), "{words:?}");
    assert_eq!(words[2], "well");
}

#[test]
fn a_directory_that_vanishes_while_it_is_in_use_does_no_harm() {
    let _clean = Clean::start();
    let dir = directory();
    let spill = dir.path().join("spill");
    std::fs::create_dir(&spill).unwrap();
    let client = limited(1, "128MiB").spill_directory(&spill).build().unwrap();
    let first = blocks(&client, 0..20);
    until("some are on disk", || client.memory().unwrap().spilled() > 0);
    std::fs::remove_dir(&spill).unwrap();
    // The file has no name, so it goes on without the directory.
    let all = blocks(&client, 0..40);
    assert_eq!((right(&client, &first).0, right(&client, &all).0), (20, 40));
    assert!(client.memory().unwrap().spilled() > 0);
    assert_eq!(client.deaths().unwrap(), []);
}

#[test]
fn a_disk_that_is_stuck_keeps_nobody_waiting_who_needs_no_room() {
    let _clean = Clean::start();
    let dir = directory();
    let (image, there) = (path(&dir, "image"), dir.path().join("there"));
    std::fs::create_dir(&there).unwrap();
    std::fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
    let mount = format!("mkfs.ext4 -q -F {image} && mount -o loop {image} \"$SWATH_TEST_DIR\"");
    // Whatever happens, nothing may stay frozen: who writes there could not even be killed.
    let after = "fsfreeze -u \"$SWATH_TEST_DIR\" 2>/dev/null; umount -l \"$SWATH_TEST_DIR\"";
    let try_out = "fsfreeze -f \"$SWATH_TEST_DIR\" && fsfreeze -u \"$SWATH_TEST_DIR\"";
    let Some(command) =
        with_directory(&there, &format!("{mount} && {try_out}"), after, ("memory::disks::roles", "frozen"))
    else {
        return;
    };
    assert_eq!(play(command), ["well"]);
}
