//! Local clusters that do not outlive the test run, also when it is killed.

use std::fs::{self, DirBuilder, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What a cluster and its workers have left of files: nothing, if it has stopped in order.
pub fn left_in(runtime: &Path) -> Vec<PathBuf> {
    let entries = |dir: &str| fs::read_dir(runtime.join(dir)).into_iter().flatten();
    entries("swath").chain(entries("tmp")).map(|entry| entry.unwrap().path()).collect()
}

/// Starts `cluster`, a command that serves one, with `runtime` as its runtime directory. The answer is its process and the
/// line that it prints when programs can connect: the first that begins with `mark`.
///
/// It gets SIGTERM when the thread ends that called this, in whatever way.
pub fn start(runtime: &Path, cluster: &Command, mark: char) -> (Child, String) {
    let files = runtime.join("swath");
    for directory in [&files, &runtime.join("tmp")] {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).unwrap();
    }
    let log = files.join("default.log");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]).arg(cluster.get_program()).args(cluster.get_args());
    for (name, value) in cluster.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let mut child = command
        .env("XDG_RUNTIME_DIR", runtime)
        .env("TMPDIR", runtime.join("tmp"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::options().create(true).append(true).open(&log).unwrap())
        .spawn()
        .unwrap_or_else(|e| panic!("setpriv, of util-linux: {e}"));
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with(mark) {
        line.clear();
        if out.read_line(&mut line).unwrap() == 0 {
            let status = child.wait().unwrap();
            panic!("no cluster ({status}): {}", fs::read_to_string(&log).unwrap_or_default());
        }
    }
    // It may print more at its end, which must not fail.
    child.stdout = Some(out.into_inner());
    (child, line)
}
