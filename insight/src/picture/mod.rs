//! Pictures of graphs of tasks: as SVG, as a page of HTML, in Graphviz's language, and as text.
//!
//! A [`TaskGraph`] says what there is, a [`Style`] how it is drawn. A [`Sketch`] of both knows what is drawn but not where:
//! [`Sketch::lay_out`] finds places for everything, or Graphviz does. A graph of more than [`MOST_TASKS_AUTO`] tasks is drawn
//! as an overview, with one box for all tasks of a name, so that a picture of a million tasks is small and quickly made.
//!
//! Nothing here reads or writes files. Names of tasks are taken as hostile: whatever is in them, a picture is well-formed,
//! runs no script and asks for nothing from elsewhere.
//!
//! ```
//! use swath_insight::picture::{Sketch, Style, Task, TaskGraph};
//! let mut graph = TaskGraph::new();
//! let (inc, add) = (graph.name("inc"), graph.name("add"));
//! let inputs: Vec<_> = (1..4).map(|hash| graph.push(Task::new(inc, hash), [])).collect();
//! let sum = graph.push(Task::new(add, 9), inputs);
//! graph.task_mut(sum).is_result = true;
//!
//! let sketch = Sketch::of(&graph, Style::default())?;
//! assert!(sketch.to_dot().starts_with("digraph"));
//! assert_eq!(sketch.outline().lines().nth(1), Some("add (add-0000000000000009)  result"));
//! assert!(sketch.lay_out().to_svg().starts_with("<svg "));
//! # Ok::<(), swath_insight::picture::PictureError>(())
//! ```

mod dot;
mod error;
mod graph;
mod groups;
mod html;
mod layout;
mod outline;
mod plain;
#[cfg(feature = "png")]
mod png;
mod saved;
mod sketch;
mod svg;
#[cfg(test)]
mod tests;
pub(crate) mod text;

pub use error::PictureError;
pub use graph::{Layer, LayerId, LayerInput, Link, NameId, NodeKind, Task, TaskGraph, TaskId, WorkerId};
pub use sketch::{Picture, Sketch};

/// A picture of more tasks is an overview, if nothing else is said.
pub const MOST_TASKS_AUTO: u64 = 200;
/// A picture in which tasks use others more often is an overview, if nothing else is said.
pub const MOST_EDGES_AUTO: u64 = 1000;
/// The most tasks that are drawn one by one.
pub const MOST_TASKS: u64 = 2000;
/// The most uses of one task by another that are drawn one by one.
pub const MOST_EDGES: u64 = 10_000;

/// Where data flows in a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Direction {
    /// From the bottom up: results are on top.
    #[default]
    Up,
    /// From left to right.
    Right,
}

/// What the colours of tasks say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ColorBy {
    /// The name: the first six names have a colour each, by what they cost if that is known, else by how many tasks have them.
    #[default]
    Name,
    /// Where the task stands.
    State,
    /// How long it ran.
    Time,
    /// The size of its result.
    Bytes,
    /// Where it ran.
    Worker,
}

/// Whether tasks are drawn one by one, or all of a name as one box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overview {
    /// As boxes where there are more than [`MOST_TASKS_AUTO`] tasks or [`MOST_EDGES_AUTO`] edges.
    #[default]
    Auto,
    /// One by one. More than [`MOST_TASKS`] tasks or [`MOST_EDGES`] edges are refused.
    Never,
    /// As boxes.
    Always,
}

/// How a picture is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Style {
    /// Where data flows.
    pub direction: Direction,
    /// What the colours say.
    pub color_by: ColorBy,
    /// Whether tasks are drawn one by one.
    pub overview: Overview,
}
