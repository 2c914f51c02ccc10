//! The two lines that everything begins with: how far it is, and why it is not faster.

use super::answers::RunState;
use crate::Counts;
use crate::diagnosis::{Diagnosis, Problem};
use crate::log::{Ending, Use};
use crate::picture::text::{grouped, many, time};

pub(super) fn state(counts: &Counts, runs: u64) -> RunState {
    match () {
        () if counts.total() == 0 && runs == 0 => RunState::Empty,
        () if counts.unfinished() > 0 => RunState::Running,
        () if counts.failed > 0 => RunState::Failed,
        () => RunState::Finished,
    }
}

pub(super) fn first_line(
    state: RunState,
    counts: &Counts,
    diagnosis: &Diagnosis,
    ending: Ending,
    first_failed: Option<&str>,
) -> String {
    let wall = time(diagnosis.wall);
    let mut line = match state {
        RunState::Empty => "Nothing has run".to_string(),
        RunState::Running => {
            let percent = (100.0 * counts.done() as f64 / counts.total().max(1) as f64).floor();
            format!("{percent:.0} % done after {wall}")
        }
        RunState::Failed | RunState::Finished => format!("Finished in {wall}"),
    };
    if counts.failed > 0 {
        line += &format!(" · {} failed", grouped(counts.failed));
        if let Some(key) = first_failed {
            line += &format!(", first {key}");
        }
    }
    if counts.cancelled > 0 {
        line += &format!(" · {} cancelled", grouped(counts.cancelled));
    }
    match ending {
        Ending::Finished => {}
        Ending::Unfinished => line += " · incomplete",
        Ending::Cut { .. } => line += " · incomplete: the log ends early",
    }
    line
}

pub(super) fn second_line(state: RunState, diagnosis: &Diagnosis) -> String {
    if state == RunState::Empty || diagnosis.threads == 0 {
        return "This log has no run of a task: `compute`, `persist`, `submit` or `map` starts some.".to_string();
    }
    let share = |of: Use| 100.0 * diagnosis.time.share(of);
    let mut line = format!("{} computed {:.0} % of the time", threads(diagnosis.threads), share(Use::Computing));
    let Some(finding) = diagnosis.findings.first() else { return line + "." };
    if finding.problem == Problem::NothingToImprove {
        line += &format!("; what is left is the work itself, most of it in `{}`.", finding.culprit);
        return line;
    }
    let rest = diagnosis.time.ranked().into_iter().find(|(of, _)| *of != Use::Computing);
    if let Some((of, _)) = rest.filter(|(of, _)| share(*of) >= 0.5) {
        line += &format!("; most of the rest ({:.0} %) is {of}", share(of));
    }
    format!("{line}: {}", finding.what)
}

fn threads(n: usize) -> String {
    match n {
        1 => "One thread".to_string(),
        n => many(n as u64, "thread"),
    }
}
