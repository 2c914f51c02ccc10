//! Control groups of version 1 or 2 to run parts of tests in, where this process may make some.

use super::{SOON, comes_true};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A control group below the one of this process. Removed when dropped.
pub struct Group(PathBuf);

impl Group {
    /// One with so much memory and no swap. None where it cannot be made.
    pub fn with_memory(bytes: u64) -> Option<Self> {
        let group = Self::below_ours("memory", ["memory.limit_in_bytes", "memory.max"], bytes)?;
        // Where there is no swap there is nothing to limit.
        let _ = fs::write(group.0.join("memory.swap.max"), "0");
        let _ = fs::write(group.0.join("memory.memsw.limit_in_bytes"), bytes.to_string());
        Some(group)
    }

    /// One that may use so many thousandths of a processor. None where it cannot be made.
    pub fn with_quota(thousandths: u64) -> Option<Self> {
        Self::below_ours("cpu", ["cpu.cfs_quota_us", "cpu.max"], thousandths * 100)
    }

    /// With a value for the file of that name in version 1 or 2.
    fn below_ours(controller: &str, files: [&str; 2], value: u64) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (cgroups, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mounts"));
        mounts.lines().find_map(|mount| {
            let fields: Vec<&str> = mount.split(' ').collect();
            let (root, kind, options) = (*fields.get(1)?, *fields.get(2)?, *fields.get(3)?);
            let (controller, file) = match kind {
                "cgroup2" => ("", files[1]),
                "cgroup" => (controller, files[0]),
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
            let name = format!("swath-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
            let group = Self(Path::new(root).join(mine).join(name));
            fs::create_dir(&group.0).ok()?;
            fs::write(group.0.join(file), value.to_string()).ok()?;
            Some(group)
        })
    }

    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// A command, to be run in this group.
    pub fn holding(&self, inner: Command) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", self.0.display())]);
        command.arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null()).stdout(Stdio::piped());
        for (name, value) in inner.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        comes_true(SOON, || fs::remove_dir(&self.0).is_ok() || !self.0.exists());
    }
}
