//! What the runtime takes for the machine: what the control groups, the affinity and the machine leave this program, whichever
//! is least.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::control_group::Group;
use common::permitted::skip;
use common::*;
use std::process::{Command, Stdio};
use std::time::Instant;
use swath::buffer::BufferMut;
use swath::local::describe_sizes;
use swath::local::{self, Bound};
use swath::memory::MemoryLimit;
use swath::status::Mode;
use swath::{Client, delayed};

const MIB: u64 = 1 << 20;
/// What the control group of these tests has.
const GROUP: u64 = 600 * MIB;

#[test]
fn roles() {
    let Some(role) = my_role() else { return };
    match role.as_str() {
        "machine" => say(local::machine().unwrap()),
        "derived" => derived(),
        "large results" => large_results(),
        "too much" => drop(Client::local(2, 1, "50%").unwrap()),
        "clients" => clients(),
        "pools" => pools(),
        "cluster" => {
            let options = Client::builder().workers(1).threads(1).memory_limit("50%");
            local::serve(options, |status| say(status)).unwrap();
        }
        other => panic!("{other}"),
    }
}

/// A group of 600 MiB, or None with a word that there can be none.
fn small_group() -> Option<Group> {
    let group = Group::with_memory(GROUP);
    if group.is_none() {
        skip("no control group can be made here");
    }
    group
}

fn in_group(group: &Group, part: &str) -> Vec<String> {
    play(group.holding(role("roles", part)))
}

fn of_group(group: &Group) -> String {
    format!("629.1 MB (control group {})", group.directory().display())
}

#[test]
fn memory_is_that_of_the_control_group() {
    let Some(group) = small_group() else { return };
    let words = in_group(&group, "machine");
    assert!(words[0].ends_with(&of_group(&group)), "{words:?}");
}

/// Fractions, sizes, defaults: each is of the group.
fn derived() {
    let all = local::machine().unwrap().memory_bytes;
    assert_eq!(all, GROUP);
    assert_eq!(MemoryLimit::from("50%").bytes().unwrap(), Some(GROUP / 2));
    for size in describe_sizes().unwrap() {
        assert!(size.memory_bytes * size.fits as u64 <= GROUP / 10 * 9, "{size}");
        let client = Client::builder().size(&size.name).build().unwrap();
        let memory = client.memory().unwrap();
        let limits: u64 = memory.workers.iter().map(|worker| worker.limit.unwrap()).sum();
        assert!(limits + memory.shared_limit <= GROUP && memory.shared_limit >= GROUP / 20, "{memory}");
        assert_eq!(delayed(|x: u64| x + 1).call(1).compute(&client).unwrap(), 2);
    }
    let client = Client::builder().workers(1).build().unwrap();
    let shared = client.memory().unwrap().shared_limit;
    assert!((GROUP / 4..=GROUP / 2).contains(&shared), "{shared}");
    say("done");
}

#[test]
fn fractions_sizes_and_defaults_are_of_the_control_group() {
    let Some(group) = small_group() else { return };
    let inner = group.holding(role("roles", "derived"));
    let (words, log) = play_with_log(inner);
    assert_eq!(words, ["done"]);
    assert!(!log.contains("lower `memory_limit`"), "nothing that is derived is too much: {log}");
}

/// More results than the group has memory, of workers that are told a share of it.
fn large_results() {
    fn block(seed: u64) -> swath::Buffer<u64> {
        let mut values = BufferMut::zeroed(25 * MIB as usize / 8).unwrap();
        values.iter_mut().enumerate().for_each(|(i, value)| *value = seed + i as u64);
        values.freeze()
    }
    let client = Client::local(2, 1, "30%").unwrap();
    let blocks = client.map(block, 0..40).unwrap();
    let sum = delayed(|block: swath::Buffer<u64>| block[1000]).map(blocks);
    let sum = delayed(|all: Vec<u64>| all.into_iter().sum::<u64>()).call(sum);
    assert_eq!(client.compute(&sum).unwrap(), 40 * 1000 + (0..40).sum::<u64>());
    say(client.deaths().unwrap().len());
}

#[test]
fn workers_with_a_share_of_a_small_group_keep_to_it() {
    let Some(group) = small_group() else { return };
    assert_eq!(in_group(&group, "large results"), ["0"]);
}

/// What a role said, and what it logged.
fn play_with_log(mut command: Command) -> (Vec<String>, String) {
    let output = command.env("RUST_LOG", "swath=warn").stderr(Stdio::piped()).output().unwrap();
    let (out, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{log}", output.status);
    (said(&out), log.into_owned())
}

#[test]
fn limits_that_are_more_than_there_is_are_warned_of() {
    let Some(group) = small_group() else { return };
    let (_, log) = play_with_log(group.holding(role("roles", "too much")));
    let limits = "2 workers with a memory limit of 314.6 MB each and 62.9 MB of shared memory are 692.1 MB";
    assert!(log.contains(&format!("{limits}, and there are {}", of_group(&group))), "{log}");
}

/// Each kind of client says what it runs on.
fn clients() {
    let threads = Client::builder().mode(Mode::Threads).memory_limit("50%").build().unwrap();
    for client in [Client::sync(), threads, Client::local(1, 1, "25%").unwrap()] {
        say(&client);
    }
}

#[test]
fn clients_say_what_they_run_on() {
    let Some(group) = small_group() else { return };
    let words = in_group(&group, "clients");
    assert_eq!(words.len(), 3);
    for word in words {
        assert!(word.contains(&format!(", {}, running", of_group(&group))), "{word}");
    }
}

#[test]
fn a_local_cluster_says_what_it_runs_on() {
    let Some(group) = small_group() else { return };
    let runtime = directory();
    let (mut daemon, _) = cluster::start(runtime.path(), &group.holding(role("roles", "cluster")), '@');
    let socket = runtime.path().join("swath/default.sock");
    let status = local::status(&socket).unwrap();
    assert_eq!((status.machine.memory_bytes, status.memory_limit), (GROUP, Some(GROUP / 2)));
    assert_eq!(status.machine.memory_bound, Bound::ControlGroup(group.directory().into()));
    assert!(status.to_string().contains(&of_group(&group)), "{status}");
    local::stop(&socket).unwrap();
    assert!(daemon.wait().unwrap().success());
}

#[test]
fn processors_are_those_of_quota_and_affinity() {
    if local::machine().unwrap().cores < 2 {
        return skip("this machine has one processor");
    }
    match Group::with_quota(500) {
        Some(group) => {
            let began = Instant::now();
            let words = in_group(&group, "machine");
            let bound = format!("1 core (control group {})", group.directory().display());
            assert!(words[0].starts_with(&bound), "{words:?} after {:?}", began.elapsed());
        }
        None => skip("no control group can be made here"),
    }
    let inner = role("roles", "machine");
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", "0"]).arg(inner.get_program()).args(inner.get_args());
    pinned.envs(inner.get_envs().map(|(name, value)| (name, value.unwrap_or_default())));
    match pinned.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).output() {
        Ok(output) => {
            let words = said(&String::from_utf8_lossy(&output.stdout));
            assert!(words[0].starts_with("1 core (affinity)"), "{words:?}");
        }
        Err(e) => skip(format!("taskset: {e}")),
    }
}

/// What libraries with threads of their own look at.
const POOLS: [&str; 5] =
    ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"];

fn threads_of_pools() -> Vec<Option<String>> {
    POOLS.map(|name| std::env::var(name).ok()).to_vec()
}

fn pools() {
    for workers in [1, 2, 5] {
        let client = Client::builder().workers(workers).worker_env("MKL_NUM_THREADS", "7").build().unwrap();
        let seen = delayed(threads_of_pools).call().compute(&client).unwrap();
        let share = Some((local::machine().unwrap().cores / workers).max(1).to_string());
        assert_eq!(
            seen,
            [share.clone(), Some("9".into()), share.clone(), Some("7".into()), share],
            "{workers} workers"
        );
    }
    say("done");
}

#[test]
fn pools_of_libraries_get_their_share_unless_the_user_has_said_more() {
    let mut inner = role("roles", "pools");
    for name in POOLS {
        inner.env_remove(name);
    }
    inner.env("OMP_NUM_THREADS", "9");
    assert_eq!(play(inner), ["done"]);
}
