//! A graph of tasks as pictures see it.

use crate::TaskState;
use std::collections::HashMap;
use std::time::Duration;

/// A name of tasks in a [`TaskGraph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameId(pub(super) u32);

/// A task in a [`TaskGraph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub(super) u32);

/// A layer in a [`TaskGraph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId(pub(super) u32);

/// A worker in a [`TaskGraph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub(super) u32);

/// What a node of a graph is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeKind {
    /// A call of a function.
    #[default]
    Task,
    /// A value that is there already, or a part of another task's result.
    Data,
}

/// One node of a graph.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Task {
    /// Its name.
    pub name: NameId,
    /// Its hash: the name and the hash are its key.
    pub hash: u64,
    /// What it is.
    pub kind: NodeKind,
    /// Whether its result is asked for.
    pub is_result: bool,
    /// Where it stands, if that is known.
    pub state: Option<TaskState>,
    /// How long it ran, if that is known.
    pub time: Option<Duration>,
    /// The size of its result, if that is known.
    pub bytes: Option<u64>,
    /// Where it ran, if that is known.
    pub worker: Option<WorkerId>,
}

impl Task {
    /// A call of which no more is known.
    #[must_use]
    pub fn new(name: NameId, hash: u64) -> Self {
        let (kind, is_result) = (NodeKind::Task, false);
        Self { name, hash, kind, is_result, state: None, time: None, bytes: None, worker: None }
    }
}

/// How the tasks of one name use those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Link {
    /// Each uses one, and each of these is used by one.
    OneToOne,
    /// One is used by several.
    OneToMany,
    /// Each uses several, of which each is used by one.
    ManyToOne,
    /// Each uses all.
    AllToAll,
    /// Each uses some, which others use as well.
    Neighbours,
}

impl Link {
    /// The words for it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::OneToOne => "one to one",
            Self::OneToMany => "one to n",
            Self::ManyToOne => "n to one",
            Self::AllToAll => "all to all",
            Self::Neighbours => "neighbours",
        }
    }
}

/// What the tasks of a layer use.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum LayerInput {
    /// Those of another layer.
    Layer {
        /// Which.
        layer: LayerId,
        /// In which way.
        link: Link,
        /// How many uses there are in all.
        edges: u64,
    },
    /// Tasks that are written out.
    Tasks {
        /// Which, each once.
        tasks: Vec<TaskId>,
        /// In which way.
        link: Link,
        /// How many uses there are in all.
        edges: u64,
    },
}

/// Tasks that are held as a rule: their number, and what they use.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Layer {
    /// The name of its tasks.
    pub name: NameId,
    /// How many there are.
    pub len: u64,
    /// What they use.
    pub inputs: Vec<LayerInput>,
    /// Whether their results are asked for.
    pub is_result: bool,
    /// Steps that each of them takes in, from the first to the last; none where it is one call.
    pub steps: Vec<NameId>,
}

impl Layer {
    /// A layer of calls that use nothing.
    #[must_use]
    pub fn new(name: NameId, len: u64) -> Self {
        Self { name, len, inputs: Vec::new(), is_result: false, steps: Vec::new() }
    }
}

/// A graph of tasks: what a [`Sketch`](super::Sketch) is made of.
///
/// Tasks are added after all that they use, in the order in which they run. Many tasks of a kind can be one
/// [`Layer`], which takes no memory for each of them.
///
/// ```
/// use swath_insight::picture::{Task, TaskGraph};
/// let mut graph = TaskGraph::new();
/// let (inc, add) = (graph.name("inc"), graph.name("add"));
/// let one = graph.push(Task::new(inc, 1), []);
/// let two = graph.push(Task::new(inc, 2), []);
/// let sum = graph.push(Task::new(add, 3), [one, two]);
/// graph.task_mut(sum).is_result = true;
/// assert_eq!((graph.len(), graph.key(sum).as_str()), (3, "add-0000000000000003"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct TaskGraph {
    names: Names,
    workers: Names,
    pub(super) tasks: Vec<Task>,
    inputs: Vec<u32>,
    ends: Vec<usize>,
    /// The last task that uses each: by that an input that comes twice is found.
    last_users: Vec<u32>,
    pub(super) layers: Vec<Layer>,
    steps: HashMap<u32, Vec<NameId>>,
}

/// Texts, each once.
#[derive(Clone, Debug, Default)]
struct Names {
    texts: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Names {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = self.texts.len() as u32;
        self.texts.push(text.to_string());
        self.numbers.insert(text.to_string(), number);
        number
    }
}

impl TaskGraph {
    /// A graph without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The id of a name; equal names have one.
    pub fn name(&mut self, name: &str) -> NameId {
        NameId(self.names.number(name))
    }

    /// The id of a worker; equal names have one.
    pub fn worker(&mut self, name: &str) -> WorkerId {
        WorkerId(self.workers.number(name))
    }

    /// Adds a task that uses others. One that is used twice counts once; one that is not there does not count.
    pub fn push(&mut self, task: Task, inputs: impl IntoIterator<Item = TaskId>) -> TaskId {
        let id = self.tasks.len() as u32;
        for TaskId(input) in inputs {
            if let Some(user) = self.last_users.get_mut(input as usize)
                && *user != id
            {
                *user = id;
                self.inputs.push(input);
            }
        }
        self.last_users.push(u32::MAX);
        self.ends.push(self.inputs.len());
        self.tasks.push(task);
        TaskId(id)
    }

    /// Adds a layer.
    pub fn push_layer(&mut self, layer: Layer) -> LayerId {
        self.layers.push(layer);
        LayerId(self.layers.len() as u32 - 1)
    }

    /// A task, to say more about it.
    ///
    /// # Panics
    /// Where the id is another graph's.
    pub fn task_mut(&mut self, id: TaskId) -> &mut Task {
        &mut self.tasks[id.0 as usize]
    }

    /// A layer, to say more about it.
    ///
    /// # Panics
    /// Where the id is another graph's.
    pub fn layer_mut(&mut self, id: LayerId) -> &mut Layer {
        &mut self.layers[id.0 as usize]
    }

    /// Says that a task takes in several steps, from the first to the last.
    pub fn set_steps(&mut self, id: TaskId, steps: Vec<NameId>) {
        self.steps.insert(id.0, steps);
    }

    /// How many tasks there are, those of layers included.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.tasks.len() as u64 + self.layers.iter().map(|layer| layer.len).sum::<u64>()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often tasks use others.
    #[must_use]
    pub fn edges(&self) -> u64 {
        let of_layers = self.layers.iter().flat_map(|layer| &layer.inputs).map(|input| match input {
            LayerInput::Layer { edges, .. } | LayerInput::Tasks { edges, .. } => *edges,
        });
        self.inputs.len() as u64 + of_layers.sum::<u64>()
    }

    /// The key of a task: its name and its hash.
    ///
    /// # Panics
    /// Where the id is another graph's.
    #[must_use]
    pub fn key(&self, id: TaskId) -> String {
        let task = &self.tasks[id.0 as usize];
        format!("{}-{:016x}", self.text(task.name), task.hash)
    }

    pub(super) fn text(&self, name: NameId) -> &str {
        self.names.texts.get(name.0 as usize).map_or("task", String::as_str)
    }

    /// What is written for a name.
    pub(super) fn shown(&self, name: NameId) -> &str {
        Some(self.text(name)).filter(|name| !name.trim().is_empty()).unwrap_or("(no name)")
    }

    pub(super) fn worker_text(&self, worker: WorkerId) -> &str {
        self.workers.texts.get(worker.0 as usize).map_or("", String::as_str)
    }

    pub(super) fn names(&self) -> usize {
        self.names.texts.len()
    }

    pub(super) fn workers(&self) -> usize {
        self.workers.texts.len()
    }

    /// What a task uses, each once, in the order of its arguments.
    pub(super) fn inputs(&self, task: u32) -> &[u32] {
        let task = task as usize;
        let first = if task == 0 { 0 } else { self.ends[task - 1] };
        &self.inputs[first..self.ends[task]]
    }

    pub(super) fn steps(&self, task: u32) -> &[NameId] {
        self.steps.get(&task).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_counts_once_and_only_if_it_is_there() {
        let mut graph = TaskGraph::new();
        let name = graph.name("f");
        assert_eq!(graph.name("f"), name);
        let a = graph.push(Task::new(name, 1), [TaskId(0), TaskId(7)]);
        let b = graph.push(Task::new(name, 2), [a, a]);
        assert_eq!((graph.inputs(a.0), graph.inputs(b.0)), (&[][..], &[0][..]));
        let layer = graph.push_layer(Layer::new(name, 1_000_000));
        graph.layer_mut(layer).inputs.push(LayerInput::Tasks {
            tasks: vec![a],
            link: Link::OneToMany,
            edges: 1_000_000,
        });
        assert_eq!((graph.len(), graph.edges()), (1_000_002, 1_000_001));
    }
}
