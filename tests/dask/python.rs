//! Programs in the Python that has Dask: `tests/run` installs it.

use super::bag::keep_logs;
use crate::common::Clean;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// For a test that compares. Whoever asks has it: to another test what is asked would be something that is left behind.
pub fn clean() -> Clean {
    keep_logs();
    Clean::start()
}

/// Gives a program of this folder a JSON value, and takes the one it prints.
pub fn ask(program: &str, input: &Value) -> Value {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dask");
    let python = folder.join("bin/python");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dask");
    assert!(
        python.exists(),
        "there is no Dask to compare with: run tests/run, or\n    python3 -m venv {0} && {0}/bin/pip install -r {1}",
        folder.display(),
        source.join("requirements.txt").display(),
    );
    let mut command = Command::new(python);
    command.arg(source.join(program)).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}
