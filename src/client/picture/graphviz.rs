//! Graphviz, where it is wanted: the program `dot` finds the places, and the picture is drawn here.

use crate::error::PictureError;
use std::io::Write;
use std::process::{Command, Stdio};

fn failed(reason: String) -> PictureError {
    PictureError::Graphviz { reason }
}

/// What `dot -Tplain` makes of a graph.
pub(super) fn plain(graph: &str) -> Result<String, PictureError> {
    let mut dot = Command::new("dot");
    dot.arg("-Tplain").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = dot.spawn().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => failed("there is no program `dot`".to_string()),
        _ => failed(format!("`dot` does not start: {e}")),
    })?;
    // It reads all before it writes anything; what it does not read shows in how it ends.
    let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(graph.as_bytes()));
    let output = child.wait_with_output().map_err(|e| failed(format!("`dot` has been lost: {e}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!(
            "`dot` ended with {}: {}",
            output.status,
            said.lines().next().unwrap_or("no word")
        )));
    }
    written.map_err(|e| failed(format!("`dot` did not read its input: {e}")))?;
    String::from_utf8(output.stdout).map_err(|_| failed("`dot` printed what is no text".to_string()))
}
