//! Tasks that the kernel ends for want of memory in a control group. Needs one whose limit can be set.

use crate::common::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use swath::error::Cause;
use swath::{Client, Error, delayed};

const MIB: usize = 1 << 20;

/// A control group of 600 MiB of memory, gone with its end.
struct Group(PathBuf);

impl Group {
    /// `None` where no group can be made.
    fn new(name: &str) -> Option<Self> {
        let name = format!("swath-test-{}-{name}", std::process::id());
        let limits = [("memory", "memory.limit_in_bytes"), ("", "memory.max")];
        limits.into_iter().find_map(|(controller, limit)| {
            let group = Self(Path::new("/sys/fs/cgroup").join(controller).join(&name));
            fs::create_dir(&group.0).ok()?;
            fs::write(group.0.join(limit), (600 * MIB).to_string()).ok()?;
            // Where memory is swapped out instead, nothing is ended.
            let _ = fs::write(group.0.join("memory.swappiness"), "0");
            let _ = fs::write(group.0.join("memory.swap.max"), "0");
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        comes_true(LONG, || fs::remove_dir(&self.0).is_ok());
    }
}

/// Runs a role in a group of its own; what it said, if there is such.
fn in_group(role_name: &str) -> Option<Vec<String>> {
    let Some(group) = Group::new(role_name) else {
        #[allow(clippy::print_stderr, reason = "for whoever runs the tests")]
        {
            eprintln!("SKIPPED: no control group with a memory limit can be made here");
        }
        return None;
    };
    let mut command = role("faults::out_of_memory::out_of_memory_roles", role_name);
    command.env("SWATH_TEST_GROUP", group.0.join("cgroup.procs"));
    Some(play(command))
}

/// Uses so much memory for a while, and notes that it does.
fn uses(file: String, mib: usize) -> usize {
    note(&file, mib);
    let bytes = std::hint::black_box(vec![1_u8; mib * MIB]);
    std::thread::sleep(Duration::from_millis(300));
    bytes.len() / MIB
}

#[test]
fn out_of_memory_roles() {
    let Some(role) = my_role() else { return };
    fs::write(std::env::var("SWATH_TEST_GROUP").unwrap(), "0").unwrap();
    let client = Client::builder().workers(2).threads(1).forward_output(false).build().unwrap();
    client.wait_for_workers(2, LONG).unwrap();
    let dir = directory();
    let [a, b, c] = ["a", "b", "c"].map(|name| path(&dir, name));
    let submit = |file: &str, mib: usize| client.submit(&delayed(uses).call(file, mib)).unwrap();
    match &*role {
        "two" => {
            let both = [submit(&a, 400), submit(&b, 400)];
            say(format!("{:?}", client.gather(&both).unwrap()));
            say(notes(&a).len() + notes(&b).len());
            say(client.deaths().unwrap().iter().all(|death| death.cause.is_of_memory()));
        }
        "too large" => {
            let error = submit(&c, 900).result_timeout(LONG).unwrap_err();
            let Error::Task(task) = &error else { panic!("{error}") };
            let Cause::MemoryLimit { records, .. } = task.cause() else { panic!("{error}") };
            say(format!("{} {} {}", records.len(), notes(&c).len(), error.to_string().contains("control group")));
            say(submit(&a, 10).result_timeout(LONG).unwrap());
        }
        other => panic!("no role {other}"),
    }
}

#[test]
fn two_tasks_that_fit_only_one_after_the_other_both_have_results() {
    let Some(said) = in_group("two") else { return };
    assert_eq!(said[0], "[400, 400]");
    let starts: usize = said[1].parse().unwrap();
    assert!((2..=4).contains(&starts), "{starts} starts");
    assert_eq!(said[2], "true");
}

#[test]
fn a_task_that_does_not_fit_by_itself_fails_with_the_memory_error() {
    let Some(said) = in_group("too large") else { return };
    assert_eq!(said, ["2 2 true", "10"]);
}
