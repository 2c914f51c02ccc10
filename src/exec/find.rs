//! Looks for the tasks of a key in a mode of this process: in the graphs whose tasks run, and in what is recorded.

use crate::graph::Graph;
use crate::graph::label::TaskLabel;
use crate::graph::node::{Kind, Node};
use crate::ids::{JobId, SessionId, TaskId};
use crate::ipc::ring::{Ended, RingRecord};
use crate::job::explained::{Explained, Found, FoundTask, SeenRun, middle};
use crate::job::{CallName, FailedCall};
use crate::task::function::{Record, short_name};
use rustc_hash::FxHashMap;
use std::ops::RangeInclusive;
use std::ptr;
use swath_insight::explain::KeyPrefix;

/// How many tasks are named. Where there are more, the key says too little anyway.
const MOST: usize = 64;
/// How many runs of a task are told.
const RUNS: usize = 16;

/// What has been found.
pub(super) struct Finder {
    prefix: KeyPrefix,
    /// The numbers of keys that are meant, by the address of their function.
    functions: FxHashMap<usize, Option<RangeInclusive<u64>>>,
    found: Vec<FoundTask>,
}

impl Finder {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: KeyPrefix::new(prefix), functions: FxHashMap::default(), found: Vec::new() }
    }

    /// Looks at the tasks of a graph, which has that number.
    pub(super) fn graph(&mut self, graph: &Graph, number: u32) {
        match graph {
            Graph::Map(map) => {
                let Some(numbers) = self.numbers(map.function(), None) else { return };
                for id in 0..map.len() as u32 {
                    let key = (map.hash(id) >> 64) as u64;
                    if numbers.contains(&key) {
                        self.add(short_name(map.function().path()), key, number, id);
                    }
                }
            }
            Graph::Dag(dag) => (0..).zip(&dag.nodes).for_each(|(id, node)| self.node(node, number, id)),
        }
    }

    fn node(&mut self, node: &Node, number: u32, id: u32) {
        let fits = match &node.kind {
            Kind::Call { function, options, .. } => {
                let given = options.as_deref().and_then(|options| options.name.as_deref());
                // What takes a result apart is a part of the task that makes it.
                let numbers = if node.has_parts() { None } else { self.numbers(function, given) };
                numbers.is_some_and(|numbers| numbers.contains(&node.key_hash()))
            }
            Kind::Part(_) => {
                self.prefix.any_numbers().contains(&node.key_hash()) && self.prefix.fits(&node.name(), node.key_hash())
            }
            // It is another graph's.
            Kind::Held(_) => false,
        };
        if fits {
            self.add(node.name(), node.key_hash(), number, id);
        }
    }

    fn numbers(&mut self, function: &'static Record, given: Option<&str>) -> Option<RangeInclusive<u64>> {
        match given {
            Some(name) => self.prefix.numbers(name),
            None => {
                let prefix = &self.prefix;
                let numbers = || prefix.numbers(&short_name(function.path()));
                self.functions.entry(ptr::from_ref(function).addr()).or_insert_with(numbers).clone()
            }
        }
    }

    fn add(&mut self, name: String, key: u64, number: u32, index: u32) {
        let call = FailedCall { name: CallName::Given(name), key };
        let task = TaskId { job: JobId { session: SessionId::CLIENT, number }, index };
        let seq = Some(u64::from(number));
        let has_room = self.found.len() < MOST;
        match self.found.iter_mut().find(|known| known.call == call) {
            Some(known) if known.seq < seq => (known.task, known.seq) = (task, seq),
            Some(_) => {}
            None if has_room => {
                let runs = Vec::new();
                self.found.push(FoundTask { task, call, name: None, inner: false, seq, runs, usual: None });
            }
            None => {}
        }
    }

    /// Looks at the runs that a thread has recorded.
    pub(super) fn runs(&mut self, worker: &str, records: Vec<RingRecord>) {
        let mut times: FxHashMap<String, Vec<u64>> = FxHashMap::default();
        for record in records {
            let name = match &record.run.name {
                Some(name) => name.clone(),
                None => match Record::at(record.run.log_id) {
                    Some(function) => short_name(function.path()),
                    None => continue,
                },
            };
            let Some(numbers) = self.prefix.numbers(&name) else { continue };
            if let Some((end, Ended::Finished)) = record.end {
                times.entry(name.clone()).or_default().push(end.saturating_sub(record.start));
            }
            if numbers.contains(&record.run.key) {
                let (task, key) = (record.run.task, record.run.key);
                let call = FailedCall { name: CallName::Given(name), key };
                let run = SeenRun { worker: worker.to_string(), record, gone: false };
                let has_room = self.found.len() < MOST;
                match self.found.iter_mut().find(|known| known.task == task && known.call == call) {
                    Some(known) if known.runs.len() < RUNS => known.runs.push(run),
                    Some(_) => {}
                    None if has_room => {
                        let runs = vec![run];
                        self.found.push(FoundTask {
                            task,
                            call,
                            name: None,
                            inner: false,
                            seq: None,
                            runs,
                            usual: None,
                        });
                    }
                    None => {}
                }
            }
        }
        for task in self.found.iter_mut().filter(|task| task.usual.is_none()) {
            if let CallName::Given(name) = &task.call.name {
                task.usual = times.get(name).and_then(|times| middle(times.clone()));
            }
        }
    }

    pub(super) fn end(self) -> Found {
        Found { tasks: self.found, next: None }
    }
}

/// Adds the runs of the tasks of an explanation that threads have recorded: of the first by its key, of the last by its
/// number; and how long tasks of their names took.
pub(super) fn add_runs(
    told: &mut Explained,
    label: &TaskLabel,
    threads: impl Iterator<Item = (String, Vec<RingRecord>)>,
) {
    let (Some(&task), Some(&last)) = (told.ids.first(), told.ids.last()) else { return };
    let explanation = &told.explanation;
    let names =
        [&explanation.task.name, explanation.because.last().map_or(&explanation.task.name, |step| &step.task.name)];
    let key = (label.hash() >> 64) as u64;
    let mut known: FxHashMap<u64, [bool; 2]> = FxHashMap::default();
    let mut times = [Vec::new(), Vec::new()];
    let mut runs: Vec<SeenRun> = Vec::new();
    let mut first = task;
    for (worker, records) in threads {
        for record in records {
            let is_named = match &record.run.name {
                Some(own) => names.map(|name| name == own),
                None => *known.entry(record.run.log_id).or_insert_with(|| {
                    let function = Record::at(record.run.log_id).map(|function| short_name(function.path()));
                    names.map(|name| function.as_ref() == Some(name))
                }),
            };
            if let Some((end, Ended::Finished)) = record.end {
                let took = end.saturating_sub(record.start);
                times.iter_mut().zip(is_named).filter(|(_, is)| *is).for_each(|(times, _)| times.push(took));
            }
            let is_its = record.run.task.job == task.job && record.run.key == key;
            let is_last = last != task && record.run.task == last;
            if is_its {
                // The number of an output is not that of its task.
                first = record.run.task;
            }
            if is_its || is_last {
                runs.push(SeenRun { worker: worker.clone(), record, gone: false });
            }
        }
    }
    runs.sort_by_key(|run| run.record.start);
    let kept = runs.len().saturating_sub(RUNS);
    told.runs = runs.split_off(kept);
    told.ids[0] = first;
    let [of_first, of_last] = times.map(middle);
    told.usual = of_last.filter(|_| last != task).map(|usual| (last, usual)).into_iter().collect();
    told.usual.extend(of_first.map(|usual| (first, usual)));
}
