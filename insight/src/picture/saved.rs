//! The graph of what a saved log has.

use super::{Layer, NameId, NodeKind, Task, TaskGraph, TaskId};
use crate::TaskState;
use crate::log::{LogError, Outcome, Run, SavedLog};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// The most tasks that are told one by one.
const MOST: usize = 200_000;

/// A task by its name and the number in its key.
type Key = (Arc<str>, u64);

/// Of a task's last run: when it began, and where it was, how it ended, how long it took, how large its result is.
type LastRun = (Duration, Arc<str>, Outcome, Option<Duration>, Option<u64>);

/// What is known of a task.
#[derive(Default)]
struct Known {
    ran: Option<LastRun>,
    inputs: Vec<u32>,
    is_used: bool,
}

impl TaskGraph {
    /// The tasks of one graph of a log, or of all, with what is known of their runs and inputs. What nothing uses counts as a
    /// result. Tasks that are only counted, and those of more than 200,000, are told by name, as layers.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use swath_insight::log::{Head, Run, SavedLog};
    /// use swath_insight::picture::{Sketch, Style, TaskGraph};
    /// let runs: Vec<Run> = (0..3).map(|i| Run::new("parse", i, "worker-0", Duration::from_secs(i))).collect();
    /// let log = SavedLog::of(Head::new("0.1.0", SystemTime::now()), runs, [], Vec::new());
    /// let graph = TaskGraph::of_log(&log, None)?;
    /// assert_eq!(graph.len(), 3);
    /// assert!(Sketch::of(&graph, Style::default())?.lay_out().to_svg().contains("parse"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`LogError`] where a part of the log cannot be read.
    pub fn of_log(log: &SavedLog, graph: Option<u32>) -> Result<Self, LogError> {
        let mut tasks = Tasks::default();
        for run in log.runs() {
            let run = run?;
            if graph.is_none_or(|graph| run.graph == graph) {
                tasks.ran(&run);
            }
        }
        for input in log.inputs() {
            let input = input?;
            if graph.is_none_or(|graph| input.graph == graph) {
                tasks.uses((input.name, input.hash), (input.from_name, input.from_hash));
            }
        }
        for sum in log.folded() {
            let sum = sum?;
            if graph.is_none_or(|graph| sum.graph == Some(graph)) {
                *tasks.counted.entry(sum.name.clone()).or_default() += sum.runs();
            }
        }
        Ok(tasks.graph())
    }
}

#[derive(Default)]
struct Tasks {
    numbers: HashMap<Key, u32>,
    known: Vec<(Key, Known)>,
    /// Those that are not told one by one.
    counted: BTreeMap<Arc<str>, u64>,
}

impl Tasks {
    fn number(&mut self, key: Key) -> Option<usize> {
        if let Some(number) = self.numbers.get(&key) {
            return Some(*number as usize);
        }
        if self.known.len() >= MOST {
            return None;
        }
        let number = self.known.len();
        self.numbers.insert(key.clone(), number as u32);
        self.known.push((key, Known::default()));
        Some(number)
    }

    fn ran(&mut self, run: &Run) {
        let Some(number) = self.number((run.name.clone(), run.hash)) else {
            *self.counted.entry(run.name.clone()).or_default() += 1;
            return;
        };
        let ran = &mut self.known[number].1.ran;
        if ran.as_ref().is_none_or(|(start, ..)| *start <= run.start) {
            *ran = Some((run.start, run.worker.clone(), run.outcome, run.took(), run.bytes_out));
        }
    }

    fn uses(&mut self, task: Key, from: Key) {
        let (Some(from), Some(task)) = (self.number(from), self.number(task)) else { return };
        self.known[from].1.is_used = true;
        self.known[task].1.inputs.push(from as u32);
    }

    fn graph(self) -> TaskGraph {
        let mut graph = TaskGraph::new();
        let mut ids: Vec<Option<TaskId>> = vec![None; self.known.len()];
        // Whoever is used comes first. A log may say anything, also that there is a circle: that ends where it began.
        let mut began = vec![false; self.known.len()];
        let mut open = Vec::new();
        for first in 0..self.known.len() {
            open.push((first, 0));
            while let Some((number, next)) = open.pop() {
                began[number] = true;
                let (key, known) = &self.known[number];
                match known.inputs.get(next) {
                    Some(&input) => {
                        open.push((number, next + 1));
                        if !began[input as usize] {
                            open.push((input as usize, 0));
                        }
                    }
                    None if ids[number].is_none() => {
                        let task = known.task(key, &mut graph);
                        let inputs: Vec<_> = known.inputs.iter().filter_map(|input| ids[*input as usize]).collect();
                        ids[number] = Some(graph.push(task, inputs));
                    }
                    None => {}
                }
            }
        }
        for (name, count) in self.counted {
            let name: NameId = graph.name(&name);
            graph.push_layer(Layer::new(name, count));
        }
        graph
    }
}

impl Known {
    fn task(&self, (name, hash): &Key, graph: &mut TaskGraph) -> Task {
        let mut task = Task::new(graph.name(name), *hash);
        (task.kind, task.is_result) = (NodeKind::Task, !self.is_used);
        let Some((_, worker, outcome, took, bytes)) = &self.ran else {
            task.state = Some(TaskState::Waiting);
            return task;
        };
        (task.worker, task.time, task.bytes) = (Some(graph.worker(worker)), *took, *bytes);
        task.state = Some(match outcome {
            Outcome::Running => TaskState::Running,
            Outcome::Finished if task.is_result => TaskState::Memory,
            Outcome::Finished => TaskState::Released,
            Outcome::Failed => TaskState::Failed,
            Outcome::Cancelled => TaskState::Cancelled,
            Outcome::Lost => TaskState::Waiting,
        });
        task
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::log::{Head, Input, Writer};
    use crate::picture::{Sketch, Style};
    use std::time::SystemTime;

    #[test]
    fn what_uses_what_is_drawn_and_circles_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.swath");
        let mut writer = Writer::create(&path, &Head::new("0.1.0", SystemTime::now())).unwrap();
        for (graph, name, hash) in [(0, "read", 1), (0, "read", 2), (0, "sum", 3), (1, "other", 4)] {
            let mut run = Run::new(name, hash, "worker-0", Duration::from_secs(hash));
            run.graph = graph;
            run.ended(Duration::from_secs(hash + 1), if hash == 2 { Outcome::Failed } else { Outcome::Finished });
            writer.run(&run);
        }
        let key = |name: &str, hash| (Arc::from(name), hash);
        for (task, from) in [(key("sum", 3), key("read", 1)), (key("sum", 3), key("read", 2))] {
            writer.input(Input::new(0, task, from));
        }
        writer.input(Input::new(0, key("report", 9), key("sum", 3)));
        // What makes no sense.
        writer.input(Input::new(1, key("other", 4), key("odd", 5)));
        writer.input(Input::new(1, key("odd", 5), key("other", 4)));
        writer.finish().unwrap();
        let log = SavedLog::open(&path).unwrap();
        let graph = TaskGraph::of_log(&log, Some(0)).unwrap();
        assert_eq!((graph.len(), graph.edges()), (4, 3));
        let outline = Sketch::of(&graph, Style::default()).unwrap().outline();
        assert!(outline.contains("4 tasks, 3 edges") && outline.contains("\nreport (report-"), "{outline}");
        assert_eq!(TaskGraph::of_log(&log, None).unwrap().len(), 6);
        assert!(TaskGraph::of_log(&log, Some(7)).unwrap().is_empty());
    }
}
