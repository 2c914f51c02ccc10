//! A layer as a rule: its function, where its inputs come from, and how many chunks it makes. Tasks are made of it when
//! they are wanted.

use super::chunk_id::Places;
use super::chunks::Chunks;
use crate::delayed::{Delayed, IntoArg};
use crate::error::{Error, Result};
use crate::graph::node::{Arg, Node};
use crate::graph::options::Options;
use crate::task::function::{Record, short_name};
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::fmt;
use std::sync::{Arc, Weak};

/// The tasks of a layer, made for as long as somebody holds them.
pub(crate) type Tasks = Arc<Vec<Arc<Node>>>;

/// See the head of this module.
pub(crate) struct Rule {
    pub(super) function: &'static Record,
    pub(super) inputs: SmallVec<[Source; 2]>,
    pub(super) places: Places,
    /// The number of the first chunk.
    pub(super) first: u64,
    pub(super) len: usize,
    pub(super) options: Arc<Options>,
    /// Those who want them at the same time share the tasks.
    pub(super) tasks: Mutex<Weak<Vec<Arc<Node>>>>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.name(), self.len)
    }
}

impl Rule {
    /// What its tasks are called.
    pub(super) fn name(&self) -> String {
        self.options.name.clone().unwrap_or_else(|| short_name(self.function.path()))
    }

    /// The same tasks with other options.
    pub(super) fn with_options(&self, set: impl FnOnce(&mut Options)) -> Self {
        let mut options = (*self.options).clone();
        set(&mut options);
        let (function, inputs, places) = (self.function, self.inputs.clone(), self.places.clone());
        let (first, len) = (self.first, self.len);
        Self { function, inputs, places, first, len, options: Arc::new(options), tasks: Mutex::default() }
    }

    /// All its tasks. What they need of other rules is made with them, and kept in `kept` for whoever needs it next.
    pub(super) fn expand(self: &Arc<Self>, kept: &mut Vec<Tasks>) -> Tasks {
        // A chain of rules may be long, so those that a rule needs are made before it and not from within.
        let mut stack = vec![Arc::clone(self)];
        loop {
            let Some(rule) = stack.last().cloned() else { unreachable!("the first rule is answered with") };
            let known = rule.tasks.lock().upgrade();
            let tasks = match known {
                Some(tasks) => tasks,
                None => {
                    let before = stack.len();
                    stack.extend(rule.inputs.iter().filter_map(Source::unmade));
                    if stack.len() > before {
                        continue;
                    }
                    let tasks: Tasks = Arc::new(rule.make());
                    *rule.tasks.lock() = Arc::downgrade(&tasks);
                    tasks
                }
            };
            stack.pop();
            if stack.is_empty() {
                return tasks;
            }
            kept.push(tasks);
        }
    }

    /// Makes the tasks, of inputs that have been made.
    fn make(&self) -> Vec<Arc<Node>> {
        let made: SmallVec<[Made<'_>; 2]> = self.inputs.iter().map(Source::made).collect();
        let task = |i: usize| {
            let chunk = IntoArg::into_arg(self.places.id(self.first + i as u64));
            let args = made.iter().map(|input| input.arg(i)).chain([chunk]).collect();
            Arc::new(Node::call(self.function, args, Some(Arc::clone(&self.options))))
        };
        (0..self.len).map(task).collect()
    }
}

/// Where a layer's tasks get an argument from.
#[doc(hidden)]
#[derive(Clone)]
pub enum Source {
    /// It is the same for all.
    Same(Arg),
    /// It is the same for all, of which there are so many.
    Times(Arg, usize),
    Each(Arc<[Arg]>),
    Chunks(FromChunks),
    /// It cannot be had.
    Failed(Error),
}

/// Chunks as an argument.
#[doc(hidden)]
#[derive(Clone)]
pub struct FromChunks {
    pub(super) list: List,
    /// For each task the number of its chunk; none: its own number.
    pub(super) numbers: Option<Arc<[usize]>>,
    /// Whether the elements are read one by one.
    pub(super) elements: bool,
}

#[derive(Clone)]
pub(super) enum List {
    Tasks(Arc<dyn Nodes>),
    Rule(Arc<Rule>),
}

/// Lazy values whose type does not matter.
pub(super) trait Nodes: Send + Sync {
    fn len(&self) -> usize;
    fn node(&self, i: usize) -> &Arc<Node>;
}

impl<C> Nodes for Arc<[Delayed<C>]> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn node(&self, i: usize) -> &Arc<Node> {
        self[i].node()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(_) | Self::Times(..) => f.write_str("the same for all"),
            Self::Each(args) => write!(f, "{} arguments", args.len()),
            Self::Chunks(chunks) => write!(f, "{} chunks", chunks.len()),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

impl fmt::Debug for FromChunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} chunks", self.len())
    }
}

impl FromChunks {
    fn len(&self) -> usize {
        match (&self.numbers, &self.list) {
            (Some(numbers), _) => numbers.len(),
            (None, List::Tasks(tasks)) => tasks.len(),
            (None, List::Rule(rule)) => rule.len,
        }
    }
}

impl Source {
    /// Chunks, as a whole or element by element.
    pub(super) fn chunks<C: 'static>(chunks: &Chunks<C>, numbers: Option<Arc<[usize]>>, elements: bool) -> Self {
        let (list, have) = match &chunks.source {
            super::chunks::Held::Tasks(tasks) => (List::Tasks(Arc::new(Arc::clone(tasks))), tasks.len()),
            super::chunks::Held::Rule(rule) => (List::Rule(Arc::clone(rule)), rule.len),
            super::chunks::Held::Failed(failed) => return Self::Failed(failed.error.clone()),
        };
        if let Some(wrong) = numbers.iter().flat_map(|n| n.iter()).find(|n| **n >= have) {
            return Self::Failed(Error::invalid("the number of a chunk", format!("{wrong} of {have} chunks")));
        }
        Self::Chunks(FromChunks { list, numbers, elements })
    }

    /// The elements of one list, for all.
    pub(super) fn elements_of<C>(list: &Delayed<C>) -> Self {
        Self::Same(Arg::Elements(Arc::clone(list.node())))
    }

    /// How many tasks it has an argument for; none: for any number.
    pub(super) fn len(&self) -> Option<usize> {
        match self {
            Self::Same(_) | Self::Failed(_) => None,
            Self::Times(_, n) => Some(*n),
            Self::Each(args) => Some(args.len()),
            Self::Chunks(chunks) => Some(chunks.len()),
        }
    }

    /// Why it cannot be had.
    pub(super) fn error(&self) -> Result<()> {
        match self {
            Self::Failed(error) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// The rule that it comes from, if no tasks have been made of that.
    fn unmade(&self) -> Option<Arc<Rule>> {
        match self {
            Self::Chunks(FromChunks { list: List::Rule(rule), .. }) if rule.tasks.lock().strong_count() == 0 => {
                Some(Arc::clone(rule))
            }
            _ => None,
        }
    }

    fn made(&self) -> Made<'_> {
        match self {
            Self::Chunks(FromChunks { list: List::Rule(rule), .. }) => {
                // Others that held them may have let them go meanwhile.
                let known = rule.tasks.lock().upgrade();
                let tasks = known.unwrap_or_else(|| rule.expand(&mut Vec::new()));
                Made { source: self, tasks: Some(tasks) }
            }
            _ => Made { source: self, tasks: None },
        }
    }
}

/// An argument of a layer's tasks, with the tasks that it comes from.
struct Made<'a> {
    source: &'a Source,
    tasks: Option<Tasks>,
}

impl Made<'_> {
    fn arg(&self, i: usize) -> Arg {
        let chunks = match self.source {
            Source::Same(arg) | Source::Times(arg, _) => return arg.clone(),
            Source::Each(args) => return args[i].clone(),
            Source::Failed(_) => unreachable!("a layer with such an input has failed"),
            Source::Chunks(chunks) => chunks,
        };
        let number = chunks.numbers.as_ref().map_or(i, |numbers| numbers[i]);
        let node = match (&chunks.list, &self.tasks) {
            (List::Tasks(nodes), _) => nodes.node(number),
            (List::Rule(_), Some(tasks)) => &tasks[number],
            (List::Rule(_), None) => unreachable!("a rule's tasks are made before"),
        };
        let node = Arc::clone(node);
        if chunks.elements { Arg::Elements(node) } else { Arg::Task(node) }
    }
}

impl Drop for Rule {
    /// A chain of rules may be long, so a rule's drop must not run inside its successor's.
    fn drop(&mut self) {
        fn take(rule: &mut Rule, into: &mut Vec<Arc<Rule>>) {
            for input in rule.inputs.drain(..) {
                if let Source::Chunks(FromChunks { list: List::Rule(rule), .. }) = input {
                    into.push(rule);
                }
            }
        }
        let mut left = Vec::new();
        take(self, &mut left);
        while let Some(rule) = left.pop() {
            if let Some(mut rule) = Arc::into_inner(rule) {
                take(&mut rule, &mut left);
            }
        }
    }
}
