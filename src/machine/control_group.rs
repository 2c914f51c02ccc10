//! Which control groups a process is in, and what their files say; versions 1 and 2, also beside each other.

use std::path::{Component, Path, PathBuf};

/// A file's text, if it is there.
pub(super) type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// Reads a file of this machine.
pub(super) fn read_file(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// What the kernel says for "no limit" in version 1 is near 2^63, rounded down to pages.
const NO_LIMIT: u64 = 1 << 62;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// A control group, by the directory where it can be seen. Its files need not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    version: Version,
    directory: PathBuf,
}

impl Group {
    fn file(&self, name: &str, read: Read) -> Option<String> {
        read(&self.directory.join(name))
    }

    /// What is used of its memory, which has this limit.
    fn usage(&self, limit: u64, read: Read) -> Usage {
        let (usage, inactive) = match self.version {
            Version::One => ("memory.usage_in_bytes", "total_inactive_file"),
            Version::Two => ("memory.current", "inactive_file"),
        };
        let usage = self.file(usage, read).and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
        let stat = self.file("memory.stat", read).unwrap_or_default();
        let reclaimable = value_of(&stat, inactive).unwrap_or(0);
        Usage { limit, used: usage.saturating_sub(reclaimable), group: self.directory.clone() }
    }

    /// The file with the number of processes that the kernel has killed for want of memory.
    pub(crate) fn kills(&self) -> PathBuf {
        self.directory.join(match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        })
    }
}

/// The groups of one controller that a process is in, given its `/proc/self/cgroup` and `/proc/self/mountinfo`: for each
/// hierarchy its own group first, and then each one around that, up to the outermost that can be seen.
pub(crate) fn enclosing(cgroups: &str, mountinfo: &str, controller: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for version in [Version::One, Version::Two] {
        let Some(own) = own_path(cgroups, version, controller) else { continue };
        let mounts: Vec<_> = mountinfo.lines().filter_map(|line| Mount::read(line, version, controller)).collect();
        let below: Vec<_> = mounts.iter().filter_map(|mount| Some((mount, mount.below(own)?))).collect();
        for (mount, below) in &below {
            let seen = below.ancestors().map(|part| mount.point.join(part));
            groups.extend(seen.map(|directory| Group { version, directory: without_slash(&directory) }));
        }
        // In a container the path may be that of the host, and what is mounted the group of the container.
        if below.is_empty() {
            groups.extend(mounts.into_iter().map(|mount| Group { version, directory: mount.point }));
        }
    }
    groups
}

/// Joining an empty path leaves a slash at the end.
fn without_slash(path: &Path) -> PathBuf {
    path.components().collect()
}

/// The path of a process's group in the hierarchy of a controller.
fn own_path<'a>(cgroups: &'a str, version: Version, controller: &str) -> Option<&'a str> {
    cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let is_it = match version {
            Version::One => controllers.split(',').any(|c| c == controller),
            Version::Two => controllers.is_empty(),
        };
        (is_it && path.starts_with('/')).then_some(path)
    })
}

/// A hierarchy of control groups, or a part of one, and where it is mounted.
struct Mount {
    /// The path in the hierarchy of what is mounted.
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// Of a line of mountinfo, if it is that of the hierarchy of this controller.
    fn read(line: &str, version: Version, controller: &str) -> Option<Self> {
        let (mount, kind) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (unescaped(mount.next()?), unescaped(mount.next()?));
        let mut kind = kind.split(' ');
        let (name, options) = (kind.next()?, kind.nth(1)?);
        let is_it = match version {
            Version::One => name == "cgroup" && options.split(',').any(|option| option == controller),
            Version::Two => name == "cgroup2",
        };
        is_it.then_some(Self { root, point })
    }

    /// The part of a group's path that lies below this mount. None: the group cannot be seen there.
    fn below<'a>(&self, group: &'a str) -> Option<&'a Path> {
        let below = Path::new(group).strip_prefix(&self.root).ok()?;
        below.components().all(|part| matches!(part, Component::Normal(_))).then_some(below)
    }
}

/// Blanks and the like are written as `\040` in mountinfo.
fn unescaped(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_string();
    for part in parts {
        match part.get(..3).and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(code) if code.is_ascii() => plain.extend([char::from(code)].iter().copied().chain(part[3..].chars())),
            _ => plain.extend(['\\'].into_iter().chain(part.chars())),
        }
    }
    plain.into()
}

/// The memory of a group that has a limit, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) limit: u64,
    /// Without what the kernel can take back at once.
    pub(super) used: u64,
    pub(super) group: PathBuf,
}

/// The groups that have a limit on memory, of those that [`enclosing`] gave.
pub(super) fn memory(groups: &[Group], read: Read) -> Vec<Usage> {
    let of = |group: &Group, limit| group.usage(limit, read);
    let number = |group: &Group, name: &str| group.file(name, read)?.trim().parse::<u64>().ok();
    let two = groups.iter().filter(|group| group.version == Version::Two);
    let mut limited: Vec<_> = two
        .filter_map(|group| {
            let limits = ["memory.max", "memory.high"].map(|name| number(group, name));
            limits.into_iter().flatten().min().map(|limit| of(group, limit))
        })
        .collect();
    let mut one = groups.iter().filter(|group| group.version == Version::One).peekable();
    let Some(&own) = one.peek() else { return limited };
    // What the groups around it leave the first one, also those that cannot be seen.
    let stat = own.file("memory.stat", read).unwrap_or_default();
    let inherited = value_of(&stat, "hierarchical_memory_limit").filter(|limit| *limit < NO_LIMIT);
    // A group whose limit does not hold for those in it has one below what they inherit.
    let holds = |limit: &u64| *limit < NO_LIMIT && *limit >= inherited.unwrap_or(0);
    let visible =
        one.filter_map(|group| number(group, "memory.limit_in_bytes").filter(holds).map(|limit| of(group, limit)));
    limited.extend(visible);
    if let Some(inherited) = inherited.filter(|limit| limited.iter().all(|usage| usage.limit != *limit)) {
        limited.push(of(own, inherited));
    }
    limited
}

/// The number behind a name in a file of such lines.
pub(crate) fn value_of(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The group whose quota of processor time is the least, of those that [`enclosing`] gave.
pub(super) fn least_quota(groups: &[Group], read: Read) -> Option<PathBuf> {
    let quota = |group: &Group| {
        let file = |name: &str| group.file(name, read);
        let (quota, period) = match group.version {
            Version::One => (file("cpu.cfs_quota_us")?, file("cpu.cfs_period_us")?),
            Version::Two => {
                let text = file("cpu.max")?;
                let (quota, period) = text.split_once(' ')?;
                (quota.to_string(), period.to_string())
            }
        };
        // Where there is no quota it is `-1`, or `max`.
        let (quota, period) = (quota.trim().parse::<u64>().ok()?, period.trim().parse::<u64>().ok()?);
        (period > 0).then(|| quota as f64 / period as f64)
    };
    let quotas = groups.iter().filter_map(|group| Some((quota(group)?, group)));
    quotas.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, group)| group.directory.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::HashMap;

    const GIB: u64 = 1 << 30;

    /// The files of a machine, as `path = text`.
    fn files(all: &[(&str, &str)]) -> impl Fn(&Path) -> Option<String> + use<> {
        let all: HashMap<PathBuf, String> = all.iter().map(|(path, text)| (path.into(), (*text).to_string())).collect();
        move |path| all.get(path).cloned()
    }

    fn directories(groups: &[Group]) -> Vec<&str> {
        groups.iter().map(|group| group.directory.to_str().unwrap()).collect()
    }

    fn told(groups: &[Group], read: Read) -> Vec<(u64, u64, String)> {
        let tell = |usage: Usage| (usage.limit, usage.used, usage.group.to_str().unwrap().to_string());
        memory(groups, read).into_iter().map(tell).collect()
    }

    /// A desktop with systemd: version 2 alone.
    const TWO: &str = "\
        22 28 0:20 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw\n\
        31 24 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";

    #[test]
    fn version_two_is_read_from_the_group_up() {
        let groups = enclosing("0::/user.slice/user-1000.slice/app.service\n", TWO, "memory");
        let root = "/sys/fs/cgroup";
        let own = format!("{root}/user.slice/user-1000.slice/app.service");
        let (user, slice) = (format!("{root}/user.slice/user-1000.slice"), format!("{root}/user.slice"));
        assert_eq!(directories(&groups), [&own, &user, &slice, root]);
        let read = files(&[
            (&format!("{own}/memory.max"), "max\n"),
            (&format!("{own}/memory.high"), "max\n"),
            (&format!("{user}/memory.max"), "4294967296\n"),
            (&format!("{user}/memory.high"), "3221225472\n"),
            (&format!("{user}/memory.current"), "1073741824\n"),
            (&format!("{user}/memory.stat"), "anon 17\ninactive_anon 5\ninactive_file 73741824\n"),
            (&format!("{slice}/memory.max"), "8589934592\n"),
        ]);
        assert_eq!(told(&groups, &read), [(3 * GIB, 1_000_000_000, user), (8 * GIB, 0, slice)]);
        assert_eq!(groups[0].kills(), Path::new(&own).join("memory.events"));
    }

    #[test]
    fn a_container_with_a_namespace_sees_its_group_as_the_root() {
        let mount = "1450 1440 0:27 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n";
        let groups = enclosing("0::/\n", mount, "memory");
        assert_eq!(directories(&groups), ["/sys/fs/cgroup"]);
        let read = files(&[("/sys/fs/cgroup/memory.max", "629145600\n"), ("/sys/fs/cgroup/memory.current", "1\n")]);
        assert_eq!(told(&groups, &read), [(600 << 20, 1, "/sys/fs/cgroup".to_string())]);
        // What lies outside of the namespace has no name in it.
        assert_eq!(directories(&enclosing("0::/../other\n", mount, "memory")), ["/sys/fs/cgroup"]);
    }

    /// A container of an older Docker: version 1, the paths are those of the host.
    const DOCKER: &str = "\
        700 690 0:30 /docker/0af3 /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:15 - cgroup cgroup rw,cpu,cpuacct\n\
        701 690 0:31 /docker/0af3 /sys/fs/cgroup/memory ro,nosuid master:16 - cgroup cgroup rw,memory\n\
        702 690 0:32 /docker/0af3 /sys/fs/cgroup/systemd ro,nosuid master:11 - cgroup cgroup rw,xattr,name=systemd\n";
    const IN_DOCKER: &str = "11:memory:/docker/0af3\n5:cpu,cpuacct:/docker/0af3\n1:name=systemd:/docker/0af3\n";

    #[test]
    fn a_container_of_version_one_has_the_path_of_its_host() {
        let groups = enclosing(IN_DOCKER, DOCKER, "memory");
        assert_eq!(directories(&groups), ["/sys/fs/cgroup/memory"]);
        // A group around it, which is not to be seen, has less.
        let read = files(&[
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "300\n"),
            (
                "/sys/fs/cgroup/memory/memory.stat",
                "inactive_file 7\nhierarchical_memory_limit 1073741824\ntotal_inactive_file 100\n",
            ),
        ]);
        let here = "/sys/fs/cgroup/memory".to_string();
        assert_eq!(told(&groups, &read), [(2 * GIB, 200, here.clone()), (GIB, 200, here)]);
        assert_eq!(groups[0].kills(), Path::new("/sys/fs/cgroup/memory/memory.oom_control"));
        // A process that was moved to another group than the one that is mounted.
        assert_eq!(directories(&enclosing("4:memory:/elsewhere\n", DOCKER, "memory")), ["/sys/fs/cgroup/memory"]);
        assert_eq!(
            directories(&enclosing("4:memory:/docker/0af3/a\n", DOCKER, "memory"))[0],
            "/sys/fs/cgroup/memory/a"
        );
    }

    /// Version 1 with version 2 beside it, which has no controllers.
    const HYBRID: &str = "\
        31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn hybrids_are_read_where_the_controller_is() {
        let groups = enclosing("4:memory:/box/inner\n1:cpu:/\n0::/\n", HYBRID, "memory");
        let memory = "/sys/fs/cgroup/memory";
        let (inner, outer) = (format!("{memory}/box/inner"), format!("{memory}/box"));
        assert_eq!(directories(&groups), [&inner, &outer, memory, "/sys/fs/cgroup/unified"]);
        let (none, stat) = ("9223372036854771712\n", "hierarchical_memory_limit 629145600\n");
        let inner_limit = format!("{inner}/memory.limit_in_bytes");
        let all = [
            (&*inner_limit, none),
            (&*format!("{inner}/memory.stat"), stat),
            (&*format!("{outer}/memory.limit_in_bytes"), "629145600\n"),
            (&*format!("{outer}/memory.usage_in_bytes"), "77\n"),
            (&*format!("{memory}/memory.limit_in_bytes"), none),
        ]
        .map(|(path, text)| (path.to_string(), text));
        let all = all.each_ref().map(|(path, text)| (path.as_str(), *text));
        assert_eq!(told(&groups, &files(&all)), [(600 << 20, 77, outer.clone())]);
        // Without a hierarchy the limit of the outer group does not hold for the inner one.
        let mut without = all;
        without[1].1 = "hierarchical_memory_limit 9223372036854771712\n";
        assert_eq!(told(&groups, &files(&without)), [(600 << 20, 77, outer)], "nothing says that it does not hold");
        without[0].1 = "1073741824\n";
        without[1].1 = "hierarchical_memory_limit 1073741824\n";
        assert_eq!(told(&groups, &files(&without)), [(GIB, 0, inner)]);
    }

    #[test]
    fn quotas_of_both_versions_are_compared() {
        let groups = enclosing(IN_DOCKER, DOCKER, "cpu");
        assert_eq!(directories(&groups), ["/sys/fs/cgroup/cpu,cpuacct"]);
        let read = |quota: &str| {
            let directory = "/sys/fs/cgroup/cpu,cpuacct";
            let (of, period) = (format!("{directory}/cpu.cfs_quota_us"), format!("{directory}/cpu.cfs_period_us"));
            files(&[(&of, quota), (&period, "100000\n")])
        };
        assert_eq!(least_quota(&groups, &read("50000\n")), Some("/sys/fs/cgroup/cpu,cpuacct".into()));
        assert_eq!(least_quota(&groups, &read("-1\n")), None);
        let groups = enclosing("0::/a/b\n", TWO, "cpu");
        let read =
            files(&[("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n"), ("/sys/fs/cgroup/a/cpu.max", "150000 100000\n")]);
        assert_eq!(least_quota(&groups, &read), Some("/sys/fs/cgroup/a".into()));
    }

    #[test]
    fn blanks_in_paths_are_read() {
        let mount = "31 24 0:27 / /mnt/my\\040groups\\134x rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            directories(&enclosing("0::/a b\n", mount, "memory")),
            ["/mnt/my groups\\x/a b", "/mnt/my groups\\x"]
        );
    }

    #[test]
    fn what_cannot_be_read_bounds_nothing() {
        for (cgroups, mounts) in [
            ("", ""),
            ("nonsense\n\n:::\n4:memory\n", HYBRID),
            ("4:memory:/box\n0::/\n", "nonsense\n - \n1 2 3 - cgroup2 x rw\n35 31 0:32 / - cgroup cgroup rw,memory\n"),
        ] {
            assert_eq!(enclosing(cgroups, mounts, "memory"), [], "{cgroups:?} {mounts:?}");
        }
        let groups = enclosing("4:memory:/box\n0::/\n", HYBRID, "memory");
        assert_eq!(told(&groups, &|_| None), []);
        for text in ["", "max", "-1", "12 apples", "99999999999999999999999"] {
            assert_eq!(told(&groups, &|_| Some(text.to_string())), [], "{text}");
            assert_eq!(least_quota(&groups, &|_| Some(text.to_string())), None, "{text}");
        }
    }

    #[test]
    fn names_are_whole_words() {
        let text = "inactive_file_x 1\ninactive_file 2\noom_kill 3\noom_kill_disable 0\n";
        assert_eq!(value_of(text, "inactive_file"), Some(2));
        assert_eq!(value_of(text, "oom_kill"), Some(3));
        assert_eq!(value_of("oom_kill\n", "oom_kill"), None);
    }
}
