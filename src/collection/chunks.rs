//! The lazy chunks of a collection, and what can be said of their tasks.

use super::chunk_id::Places;
use super::rule::Rule;
use crate::client::Lowering;
use crate::delayed::{Delayed, try_delayed};
use crate::error::{Error, Result};
use crate::graph::options::Options;
use crate::task::Data;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How many values are put together at once, if nobody says.
pub(crate) const SPLIT_EVERY: usize = 8;

/// The lazy chunks of a collection: what [`Layer`](super::Layer)s make and take.
///
/// They are tasks, or a rule by which tasks are made when they are wanted ([`Layer::as_rule`](super::Layer::as_rule)), or the
/// error that keeps them from being made. An error shows when something is computed, before any task runs, or when it is
/// asked for with [`check`](Self::check): so operators of a collection need not return `Result`.
///
/// Cheap to clone.
#[must_use = "it is lazy: nothing runs until it is computed"]
pub struct Chunks<C> {
    pub(super) source: Held<C>,
    pub(super) places: Places,
    /// How many values are put together at once when they are reduced.
    split_every: usize,
}

/// What there is of the chunks.
pub(super) enum Held<C> {
    Tasks(Arc<[Delayed<C>]>),
    Rule(Arc<Rule>),
    Failed(Arc<Failed>),
}

/// Chunks that cannot be made.
pub(super) struct Failed {
    pub(super) error: Error,
}

impl<C> Clone for Chunks<C> {
    fn clone(&self) -> Self {
        let source = match &self.source {
            Held::Tasks(tasks) => Held::Tasks(Arc::clone(tasks)),
            Held::Rule(rule) => Held::Rule(Arc::clone(rule)),
            Held::Failed(failed) => Held::Failed(Arc::clone(failed)),
        };
        Self { source, places: self.places.clone(), split_every: self.split_every }
    }
}

impl<C> fmt::Debug for Chunks<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Held::Failed(failed) => write!(f, "Chunks({})", failed.error),
            _ => write!(f, "Chunks({}, {} chunks)", self.task_name(), self.len()),
        }
    }
}

impl<C> FromIterator<Delayed<C>> for Chunks<C> {
    fn from_iter<I: IntoIterator<Item = Delayed<C>>>(tasks: I) -> Self {
        Self::of(Held::Tasks(tasks.into_iter().collect()))
    }
}

impl<C> From<Vec<Delayed<C>>> for Chunks<C> {
    fn from(tasks: Vec<Delayed<C>>) -> Self {
        Self::of(Held::Tasks(tasks.into()))
    }
}

impl<C> Chunks<C> {
    fn of(source: Held<C>) -> Self {
        Self { source, places: Places::default(), split_every: SPLIT_EVERY }
    }

    /// Chunks that cannot be made, and why: computing them gives this error.
    pub fn failed(error: Error) -> Self {
        Self::of(Held::Failed(Arc::new(Failed { error })))
    }

    pub(super) fn of_rule(rule: Arc<Rule>, places: Places) -> Self {
        Self::of(Held::Rule(rule)).with_places(places)
    }

    pub(super) fn with_places(self, places: Places) -> Self {
        Self { places, ..self }
    }

    /// With the places of other ones, and their [`split_every`](Self::split_every).
    pub(super) fn like(self, other: &Self) -> Self {
        Self { source: self.source, places: other.places.clone(), split_every: other.split_every }
    }

    /// How many chunks there are; 0 where they cannot be made.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.source {
            Held::Tasks(tasks) => tasks.len(),
            Held::Rule(rule) => rule.len,
            Held::Failed(_) => 0,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The error that keeps the chunks from being made, if there is one.
    ///
    /// # Errors
    /// That one.
    pub fn check(&self) -> Result<()> {
        match &self.source {
            Held::Failed(failed) => Err(failed.error.clone()),
            _ => Ok(()),
        }
    }

    /// What the tasks of the chunks are called.
    pub fn task_name(&self) -> String {
        match &self.source {
            Held::Tasks(tasks) => tasks.first().map_or_else(String::new, |task| task.node().name()),
            Held::Rule(rule) => rule.name(),
            Held::Failed(_) => String::new(),
        }
    }

    /// The tasks; those of a rule are made for it. None where they cannot be made.
    pub(crate) fn tasks(&self) -> Cow<'_, [Delayed<C>]> {
        match &self.source {
            Held::Tasks(tasks) => Cow::Borrowed(tasks),
            Held::Rule(rule) => {
                let nodes = rule.expand(&mut Vec::new());
                Cow::Owned(nodes.iter().map(|node| Delayed::from_arc(Arc::clone(node))).collect())
            }
            Held::Failed(_) => Cow::Owned(Vec::new()),
        }
    }

    /// The tasks as a list that can be shared.
    pub(crate) fn task_list(&self) -> Arc<[Delayed<C>]> {
        match &self.source {
            Held::Tasks(tasks) => Arc::clone(tasks),
            _ => self.tasks().into(),
        }
    }

    /// The chunks as lazy values; none where they cannot be made.
    #[must_use]
    pub fn to_delayed(&self) -> Vec<Delayed<C>> {
        self.tasks().into_owned()
    }

    /// Some of the chunks, by their numbers, in the order given.
    ///
    /// # Panics
    /// Where there is no chunk of that number.
    #[track_caller]
    pub fn select(&self, numbers: impl IntoIterator<Item = usize>) -> Self {
        if self.check().is_err() {
            return self.clone();
        }
        let tasks = self.tasks();
        let places = if matches!(self.places, Places::Grid(_)) { Places::default() } else { self.places.clone() };
        let mut some = Vec::new();
        for i in numbers {
            let Some(task) = tasks.get(i) else { panic!("number {i} is selected of {} chunks", tasks.len()) };
            some.push(task.clone());
        }
        Self::of(Held::Tasks(some.into())).with_places(places)
    }

    /// The chunks of all lists, one list after the other.
    pub fn concat(lists: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Vec::new();
        for chunks in lists {
            if chunks.check().is_err() {
                return chunks;
            }
            all.extend_from_slice(&chunks.tasks());
        }
        Self::from(all)
    }

    /// The chunks lie in a grid, of which `shape` is the number of chunks along each axis: errors of layers over them name
    /// positions.
    pub fn in_grid(self, shape: &[usize]) -> Self {
        let (places, len) = (Places::grid(shape), self.len());
        if self.check().is_ok() && places.len() != Some(len as u64) {
            let why = format!("{shape:?} has {} places, and there are {len}", places.len().unwrap_or_default());
            return Self::failed(Error::invalid("the grid of chunks", why));
        }
        self.with_places(places)
    }

    /// Errors of layers over them speak of partitions, not of chunks.
    pub fn in_partitions(self) -> Self {
        self.with_places(Places::Partitions)
    }

    /// At most so many values are put together in one task of a [tree](Self::tree) over these chunks; default 8, and at least
    /// 2. It holds for these chunks, not for those that are made of them.
    pub fn split_every(self, values: usize) -> Self {
        Self { split_every: values.max(2), ..self }
    }

    /// How many values are put together in one task, see [`split_every`](Self::split_every).
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.split_every
    }

    /// Says which tasks make the chunks: for [`Collection::lower`](super::Collection::lower).
    ///
    /// # Errors
    /// The error that keeps them from being made.
    pub fn lower<'a>(&'a self, lowering: &mut Lowering<'a>) -> Result<()> {
        match &self.source {
            Held::Tasks(tasks) => tasks.iter().for_each(|task| lowering.task(task)),
            Held::Rule(rule) if lowering.keep_rule(rule) => {}
            Held::Rule(rule) => {
                let tasks = rule.expand(lowering.kept());
                lowering.made(&tasks);
            }
            Held::Failed(failed) => return Err(failed.error.clone()),
        }
        Ok(())
    }

    /// The same chunks, made by tasks with other options.
    pub(crate) fn with_options(&self, set: impl Fn(&mut Options)) -> Self {
        let source = match &self.source {
            Held::Tasks(tasks) => {
                let task =
                    |task: &Delayed<C>| task.node().with_options(&set).map_or_else(|| task.clone(), Delayed::from_node);
                Held::Tasks(tasks.iter().map(task).collect())
            }
            Held::Rule(rule) => Held::Rule(Arc::new(rule.with_options(set))),
            Held::Failed(failed) => Held::Failed(Arc::clone(failed)),
        };
        Self { source, places: self.places.clone(), split_every: self.split_every }
    }

    /// Changes an option of the tasks.
    pub fn set(&self, option: &TaskOption) -> Self {
        self.with_options(|options| option.apply(options))
    }
}

impl<C: Data> Chunks<C> {
    /// The only chunk, of a layer that is [`at`](super::Layer::at) one place. Where it cannot be made, a task that says why.
    pub fn into_delayed(self) -> Delayed<C> {
        if let Some(task) = self.tasks().first() {
            return task.clone();
        }
        let why = self.check().map_or_else(|error| error.to_string(), |()| "there are no chunks".to_string());
        never(why)
    }
}

/// A task that fails.
pub(super) fn never<C: Data>(why: String) -> Delayed<C> {
    fn failed_collection<C>(why: String) -> Result<C, String> {
        Err(why)
    }
    try_delayed(failed_collection::<C>).pure().call(why)
}

/// An option of the tasks that make a collection's chunks: those of [`delayed`](fn@crate::delayed) functions.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TaskOption {
    /// Their name. Default: the name of the last function.
    Name(String),
    /// They run before ready tasks of lower priority.
    Priority(i32),
    /// How often they are repeated when they fail.
    Retries(u32),
    /// They fail when they take longer.
    Timeout(Duration),
    /// Bytes that one is expected to need.
    Memory(u64),
    /// They run only on workers that carry the tag.
    Tag(String),
}

impl TaskOption {
    fn apply(&self, options: &mut Options) {
        match self.clone() {
            Self::Name(name) => options.name = Some(name),
            Self::Priority(priority) => options.priority = priority,
            Self::Retries(retries) => options.retries = retries,
            Self::Timeout(timeout) => options.set_timeout(timeout),
            Self::Memory(bytes) => options.memory = Some(bytes),
            Self::Tag(tag) => options.tag = Some(tag),
        }
    }
}
