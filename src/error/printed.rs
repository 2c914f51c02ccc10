//! Lines that workers print and log: records of deaths have the last of them.

use super::logged::Logged;
use super::words::words;
use log::Level;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error. Log records go there too.
    Stderr,
}

words!(OutputStream, "stream": Stdout "stdout", Stderr "stderr");

/// A line that a task or its worker printed, or a log record of theirs; of a record with several lines each is one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogLine {
    /// The worker's name; in the modes sync and threads, the thread's.
    pub worker: String,
    /// Where it was written to. Log records of workers go to standard error.
    pub stream: OutputStream,
    /// The level of a log record; none, where it was printed.
    pub level: Option<Level>,
    /// The target of a log record: the module that logged it, if nothing else was said.
    pub target: Option<String>,
    /// The keys of the tasks that may have written it: one, but for what is printed in workers that run several at a time and
    /// by tasks of a few microseconds, which cannot be told apart; none, where it was written between tasks. Of a log record it
    /// is always known.
    pub tasks: Vec<String>,
    /// The line, without its end. What is no UTF-8 is replaced by U+FFFD.
    pub text: String,
    /// When a record was logged, or the end of a line came, or what there is of it: in nanoseconds since 1970.
    pub time: u64,
    /// Greater than that of each line of the same worker and its predecessors that ended before it.
    pub number: u64,
    /// Whether it has an end: more of it may come otherwise.
    pub ended: bool,
    /// Whether a part of it is no longer kept.
    pub cut: bool,
    /// How many lines of the same worker before this one are no longer kept: since the line before it, or since the
    /// worker's first.
    pub dropped: u64,
}

impl LogLine {
    /// A line of a worker's log, which goes to its standard error.
    pub(crate) fn logged(worker: &str, line: &str, time: u64) -> Self {
        let text = line.to_string();
        let plain = Self {
            worker: worker.to_string(),
            stream: OutputStream::Stderr,
            level: None,
            target: None,
            tasks: Vec::new(),
            text,
            time,
            number: 0,
            ended: true,
            cut: false,
            dropped: 0,
        };
        match Logged::read(line).filter(|logged| logged.worker == worker) {
            Some(logged) => plain.with(logged),
            None => plain,
        }
    }

    /// The same, as a record that is written in it.
    pub(crate) fn with(self, logged: Logged<'_>) -> Self {
        let Logged { time, worker, key, level, target, text } = logged;
        Self {
            worker: worker.into_owned(),
            level: Some(level),
            target: Some(target.into_owned()),
            tasks: key.map(|key| key.into_owned()).into_iter().collect(),
            text: text.to_string(),
            time,
            ..self
        }
    }

    /// The key of the task that wrote it, where that is one task and no other.
    ///
    /// ```
    /// # use swath::{Client, delayed};
    /// let client = Client::local(1, 1, "512MB")?;
    /// let hello = client.submit(&delayed(|| println!("hello")).name("greet").call())?;
    /// hello.result()?;
    /// # let mut lines = client.logs_of(&hello)?;
    /// # while lines.is_empty() { std::thread::yield_now(); lines = client.logs_of(&hello)?; }
    /// # let line = &lines[0];
    /// assert_eq!((line.key(), line.name()), (Some(hello.key().as_str()), Some("greet")));
    /// # Ok::<(), swath::Error>(())
    /// ```
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match &self.tasks[..] {
            [key] => Some(key),
            _ => None,
        }
    }

    /// The name of that task: its key without the hash.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let key = self.key()?;
        let is_hash = |hash: &&str| hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (name, _) = key.rsplit_once('-').filter(|(_, hash)| is_hash(hash)).unwrap_or((key, ""));
        Some(name)
    }

    /// The line as it reads where it is clear who wrote it: its text, of a log record behind level and target.
    #[must_use]
    pub fn plain(&self) -> String {
        let Self { text, cut, dropped, .. } = self;
        let more = if *cut { " …" } else { "" };
        let before = if *dropped > 0 { format!("… {dropped} lines dropped\n") } else { String::new() };
        match (self.level, &self.target) {
            (Some(level), Some(target)) => format!("{before}{level} {target}: {text}{more}"),
            _ => format!("{before}{text}{more}"),
        }
    }

    /// Those that a task wrote, or may have written. Lines that are no longer kept are counted before the next of these.
    pub(crate) fn of_task(lines: Vec<Self>, key: &str) -> Vec<Self> {
        let mut dropped: Vec<(String, u64)> = Vec::new();
        let mut kept = Vec::new();
        for mut line in lines {
            let at = dropped.iter().position(|(worker, _)| *worker == line.worker).unwrap_or_else(|| {
                dropped.push((line.worker.clone(), 0));
                dropped.len() - 1
            });
            let before = &mut dropped[at].1;
            *before += line.dropped;
            if line.tasks.iter().any(|task| task == key) {
                line.dropped = std::mem::take(before);
                kept.push(line);
            }
        }
        kept
    }

    /// `stdout`, `stderr`, or the level of a log record.
    pub(crate) fn kind(&self) -> String {
        self.level.map_or_else(|| self.stream.to_string(), |level| level.to_string())
    }
}

/// `worker-0 stderr [parse-90c1e3f2d1b86e55]: no such file`, or of a log record `worker-0 WARN my_program [parse-90c1e3f2d1b86e55]: no
/// such file`. Where lines before it are missing, a line before it says how many.
impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dropped > 0 {
            writeln!(f, "{} … {} lines dropped", self.worker, self.dropped)?;
        }
        write!(f, "{} {}", self.worker, self.kind())?;
        if let Some(target) = &self.target {
            write!(f, " {target}")?;
        }
        if !self.tasks.is_empty() {
            write!(f, " [{}]", self.tasks.join(", "))?;
        }
        write!(f, ": {}{}", self.text, if self.cut { " …" } else { "" })
    }
}
