//! CSV of runs.

use crate::log::SavedLog;
use std::io::{self, Write};
use std::time::Duration;

const COLUMNS: [&str; 20] = [
    "key",
    "name",
    "graph",
    "task",
    "attempt",
    "worker",
    "thread",
    "submitted",
    "ready",
    "assigned",
    "start",
    "end",
    "cpu",
    "reading",
    "writing",
    "suspended",
    "bytes_in",
    "bytes_out",
    "peak",
    "outcome",
];

impl SavedLog {
    /// As [`csv`](Self::csv), to any stream.
    ///
    /// # Errors
    /// What the stream says.
    pub fn write_csv(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut out = ::csv::Writer::from_writer(out);
        out.write_record(COLUMNS)?;
        let time =
            |time: Option<Duration>| time.map_or(String::new(), |t| format!("{}.{:09}", t.as_secs(), t.subsec_nanos()));
        let number = |number: Option<u64>| number.map_or(String::new(), |n| n.to_string());
        for run in self.runs().filter_map(Result::ok) {
            let (key, numbers) =
                (run.key(), [u64::from(run.graph), run.task.into(), run.attempt.into()].map(|n| n.to_string()));
            out.write_field(&key)?;
            out.write_field(&*run.name)?;
            numbers.iter().try_for_each(|n| out.write_field(n))?;
            out.write_field(&*run.worker)?;
            out.write_field(run.thread.to_string())?;
            for at in [
                run.submitted,
                run.ready,
                run.assigned,
                Some(run.start),
                run.end,
                run.cpu,
                run.reading,
                run.writing,
                run.suspended,
            ] {
                out.write_field(time(at))?;
            }
            for n in [run.bytes_in, run.bytes_out, run.peak] {
                out.write_field(number(n))?;
            }
            out.write_field(run.outcome.name())?;
            out.write_record(None::<&[u8]>)?;
        }
        out.flush()
    }
}
