//! Workers that the kernel ends because memory runs out, in a control group of their own where one can be made.

use crate::common::*;
use crate::take;
use nix::sys::signal::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use swath::{Cause, DeathCause, MemoryLimit, delayed};

/// A control group below the one of this process, with so much memory. Removed when dropped.
struct Group(PathBuf);

impl Group {
    /// None where it cannot be made.
    fn new(bytes: u64) -> Option<Self> {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (cgroups, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mounts"));
        mounts.lines().find_map(|mount| {
            let fields: Vec<&str> = mount.split(' ').collect();
            let (root, kind, options) = (*fields.get(1)?, *fields.get(2)?, *fields.get(3)?);
            let (controller, limits) = match kind {
                "cgroup2" => ("", ["memory.max", "memory.swap.max"]),
                "cgroup" => ("memory", ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]),
                _ => return None,
            };
            if kind == "cgroup" && !options.split(',').any(|o| o == controller) {
                return None;
            }
            let of = |line: &'_ str| {
                let (_, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                controllers.split(',').any(|c| c == controller).then(|| path.trim_matches('/').to_string())
            };
            let mine = cgroups.lines().find_map(of)?;
            let group = Self(Path::new(root).join(mine).join(format!("swath-test-{}", std::process::id())));
            fs::create_dir(&group.0).ok()?;
            fs::write(group.0.join(limits[0]), bytes.to_string()).ok()?;
            // Where there is no swap there is nothing to limit.
            let swap = if kind == "cgroup2" { 0 } else { bytes };
            let _ = fs::write(group.0.join(limits[1]), swap.to_string());
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        comes_true(SOON, || fs::remove_dir(&self.0).is_ok() || !self.0.exists());
    }
}

#[test]
fn roles() {
    let Some(role) = my_role() else { return };
    assert_eq!(role, "grouped");
    let client = swath::Client::local(1, 1, MemoryLimit::None).unwrap();
    client.wait_for_workers(1, LONG).unwrap();
    // Killed by somebody: the kernel has counted nothing.
    let dir = directory();
    fn wait(file: String) -> bool {
        note(&file, "runs");
        wait_for_file(&format!("{file}.go"))
    }
    let file = path(&dir, "waits");
    let future = client.submit(&delayed(wait).call(&*file)).unwrap();
    until("it runs", || !notes(&file).is_empty());
    send_signal(pids(&client)[0], Signal::SIGKILL);
    touch(&format!("{file}.go"));
    assert!(future.result().unwrap());
    let death = client.deaths().unwrap().pop().unwrap();
    assert_eq!((death.cause.clone(), death.machine_available), (DeathCause::Signal(9), None));
    assert!(!death.to_string().contains("memory"), "{death}");
    // Killed by the kernel: once beside others, and then with the worker for itself.
    let error = client.compute(&delayed(take).call(400)).unwrap_err();
    let Cause::WorkerDied(records) = error.task().unwrap().cause() else { panic!("{error}") };
    assert_eq!(records.len(), 3);
    for death in records {
        assert_eq!(death.cause, DeathCause::OutOfMemory, "{death}");
        assert!(death.machine_available.unwrap() > 0 && death.cause.is_of_memory());
    }
    say(error);
    assert_eq!(client.compute(&delayed(take).call(20)).unwrap(), 20);
    assert_eq!(client.deaths().unwrap().len(), 4);
}

#[test]
fn what_the_kernel_ends_for_want_of_memory_is_said_to_be() {
    let _clean = Clean::start();
    let Some(group) = Group::new(200 << 20) else {
        crate::common::permitted::skip("no control group can be made here");
        return;
    };
    let inner = role("memory::kernel::roles", "grouped");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", group.0.display())]);
    command.arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let words = play(command);
    assert!(words[0].contains("was killed by the kernel, which had run out of memory"), "{words:?}");
    assert!(words[0].contains("the machine had"), "{words:?}");
}
