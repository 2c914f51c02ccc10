//! Pictures of graphs: of lazy values, lists and tuples of them, and collections.
//!
//! [`Visualize::visualize`] draws what would be computed into a file, and needs no other program for it. [`Picture`] has the
//! options.
//!
//! ```
//! use swath::delayed;
//! fn inc(x: i64) -> i64 {
//!     x + 1
//! }
//! fn add(a: i64, b: i64) -> i64 {
//!     a + b
//! }
//!
//! let total = delayed(add).call(delayed(inc).call(1), delayed(inc).call(2));
//! let folder = std::env::temp_dir().join(format!("swath-picture-{}", std::process::id()));
//! std::fs::create_dir_all(&folder)?;
//! total.visualize(folder.join("total.svg"))?;
//! assert!(total.outline()?.starts_with("3 tasks, 2 edges\nadd (add-"));
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod graphviz;
pub(crate) mod rules;

pub use swath_insight::picture::{ColorBy, Direction, Overview, PictureError};

use super::lowering::PictureRoots;
use super::{Computable, Lowering};
use crate::delayed::Delayed;
use crate::error::{Error, Result};
use crate::events::saved::SavedLog;
use crate::events::{EventLog, Outcome, Run};
use crate::files::write_whole;
use crate::graph::node::Node;
use crate::graph::{Dag, picture};
use rules::{LayerRule, Rules};
use rustc_hash::FxHashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use swath_insight::TaskState;
use swath_insight::picture::{self as insight, Sketch, Style, TaskGraph, TaskId};

/// Who finds the places in a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// This process.
    #[default]
    Own,
    /// The program `dot` of Graphviz, which has to be installed.
    Graphviz,
}

/// Which tasks a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Form {
    /// Each call, and each step of a collection.
    AsWritten,
    /// What runs: steps of a collection that are made in one pass are one task.
    AsRun,
}

/// What is known of how a task ran.
#[derive(Clone)]
struct Ran {
    state: TaskState,
    time: Option<Duration>,
    worker: String,
}

/// A picture of the graph that computes something, with options.
///
/// It holds the graph, so it can be drawn in several ways, at any time. More than 200 tasks are drawn as an overview, with a box
/// for all tasks of a name; layers that are held as a rule are counted and never written out, so that a picture of
/// a million tasks takes no longer.
///
/// ```
/// use swath::client::picture::{ColorBy, Direction, Picture};
/// use swath::{Client, delayed};
/// let squares = delayed(|x: u64| x * x).name("square").map(0..4_u64);
/// let total = delayed(|squares: Vec<u64>| squares.iter().sum::<u64>()).name("sum").call(squares);
///
/// let client = Client::threads(2);
/// client.compute(&total)?;
/// let picture = Picture::of(&total)?.direction(Direction::Right).color_by(ColorBy::Time).events(&client.events()?);
/// let svg = picture.to_svg()?;
/// assert!(svg.starts_with("<svg ") && svg.contains(">square</text>"));
/// # Ok::<(), swath::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "it is drawn by one of its methods"]
pub struct Picture {
    tasks: Vec<Arc<Node>>,
    rules: Vec<Arc<dyn LayerRule>>,
    style: Style,
    layout: Layout,
    form: Option<Form>,
    /// By the hashes of tasks; none: nothing is known of runs.
    runs: Option<Arc<FxHashMap<u64, Ran>>>,
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Picture");
        shown.field("results", &self.tasks.len()).field("style", &self.style).finish_non_exhaustive()
    }
}

impl Picture {
    /// Of the graph that computes `what`. Nothing runs.
    ///
    /// # Errors
    /// Where a collection among it cannot be computed.
    pub fn of<C: Computable + ?Sized>(what: &C) -> Result<Self> {
        let PictureRoots { tasks, rules } = Lowering::for_picture(what)?;
        Ok(Self { tasks, rules, style: Style::default(), layout: Layout::Own, form: None, runs: None })
    }

    /// Where data flows. Default: up, so that results are on top.
    pub fn direction(mut self, direction: Direction) -> Self {
        self.style.direction = direction;
        self
    }

    /// What colours say. Default: the names of tasks.
    ///
    /// States, times and workers are those of the [`events`](Self::events).
    pub fn color_by(mut self, color_by: ColorBy) -> Self {
        self.style.color_by = color_by;
        self
    }

    /// Whether all tasks of a name are one box. Default: where there are more than 200 tasks.
    ///
    /// With [`Overview::Never`] more than 2,000 tasks are refused, with [`PictureError::TooLarge`].
    pub fn overview(mut self, overview: Overview) -> Self {
        self.style.overview = overview;
        self
    }

    /// Who finds the places. Default: this process.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Whether it shows each call, or what runs. Default: each call, and what runs where there are [`events`](Self::events).
    pub fn form(mut self, form: Form) -> Self {
        self.form = Some(form);
        self
    }

    /// Shows how tasks ran, as far as the log knows their last runs.
    pub fn events(mut self, log: &EventLog) -> Self {
        self.runs = Some(Arc::new(runs(log)));
        self
    }

    /// The picture as SVG, for light and dark grounds.
    ///
    /// # Errors
    /// [`Error::Picture`]: there are too many tasks to be drawn one by one, or Graphviz was asked for and fails.
    pub fn to_svg(&self) -> Result<String> {
        self.draw(|picture| picture.to_svg())
    }

    /// The picture as a page of HTML in one file, without a script. A box of an overview opens to its first tasks.
    ///
    /// # Errors
    /// As [`to_svg`](Self::to_svg).
    pub fn to_html(&self) -> Result<String> {
        self.draw(|picture| picture.to_html())
    }

    /// The picture in Graphviz's language.
    ///
    /// # Errors
    /// As [`to_svg`](Self::to_svg).
    pub fn to_dot(&self) -> Result<String> {
        Ok(Sketch::of(&self.graph(), self.style)?.to_dot())
    }

    /// The picture as text for terminals and logs: each result with what it uses below it.
    ///
    /// # Errors
    /// As [`to_svg`](Self::to_svg).
    pub fn outline(&self) -> Result<String> {
        Ok(Sketch::of(&self.graph(), self.style)?.outline())
    }

    /// The picture as PNG on a light ground.
    ///
    /// # Errors
    /// As [`to_svg`](Self::to_svg), and [`PictureError::Png`] where it would be too large.
    #[cfg(feature = "picture-png")]
    pub fn to_png(&self) -> Result<Vec<u8>> {
        self.draw(|picture| picture.to_png())?.map_err(Error::from)
    }

    /// Writes it into a file: `.svg`, `.html`, `.dot`, or with the feature `picture-png` also `.png`. All of it is written, or nothing; a file that was there is
    /// replaced.
    ///
    /// # Errors
    /// [`Error::Picture`] where the name has another ending, and as for [`to_svg`](Self::to_svg); [`Error::Resource`] where the
    /// file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = match Ending::of(path)? {
            Ending::Svg => self.to_svg()?.into_bytes(),
            Ending::Html => self.to_html()?.into_bytes(),
            Ending::Dot => self.to_dot()?.into_bytes(),
            #[cfg(feature = "picture-png")]
            Ending::Png => self.to_png()?,
        };
        write(path, &bytes)
    }

    fn draw<R>(&self, draw: impl FnOnce(&insight::Picture<'_>) -> R) -> Result<R> {
        let graph = self.graph();
        let sketch = Sketch::of(&graph, self.style)?;
        let picture = match self.layout {
            Layout::Own => sketch.lay_out(),
            Layout::Graphviz => {
                let plain = graphviz::plain(&sketch.to_graphviz())?;
                sketch.lay_out_by_graphviz(&plain)?
            }
        };
        Ok(draw(&picture))
    }

    /// The graph as it is drawn.
    fn graph(&self) -> TaskGraph {
        let fuse = match self.form {
            Some(form) => form == Form::AsRun,
            None => self.runs.is_some(),
        };
        let rules = Rules::of(&self.rules);
        let roots: Vec<&Arc<Node>> = self.tasks.iter().chain(rules.tasks()).collect();
        let dag = Dag::with(&roots, None, fuse);
        let (mut graph, ids) = picture::task_graph(&dag, self.tasks.len());
        let mut of_rules = dag.roots[self.tasks.len()..].iter().map(|&task| ids[task as usize]);
        rules.add_to(&mut graph, fuse, || of_rules.next());
        if let Some(runs) = &self.runs {
            for (node, id) in dag.nodes.iter().zip(ids) {
                if let Some(ran) = runs.get(&node.key_hash()) {
                    tell(&mut graph, id, ran);
                }
            }
        }
        graph
    }
}

/// Says in a graph how a task ran.
fn tell(graph: &mut TaskGraph, id: TaskId, ran: &Ran) {
    let worker = graph.worker(&ran.worker);
    let task = graph.task_mut(id);
    (task.time, task.worker) = (ran.time, Some(worker));
    task.state = Some(match ran.state {
        // What is asked for is kept, and the rest is not.
        TaskState::Released if task.is_result => TaskState::Memory,
        state => task.state.unwrap_or(state),
    });
}

/// The last run of each task, by its hash.
fn runs(log: &EventLog) -> FxHashMap<u64, Ran> {
    let ran = |run: &Run| {
        let state = match run.outcome {
            Outcome::Finished => TaskState::Released,
            Outcome::Failed | Outcome::Lost => TaskState::Failed,
            Outcome::Cancelled => TaskState::Cancelled,
            _ => TaskState::Running,
        };
        (run.hash, Ran { state, time: run.took(), worker: run.worker.to_string() })
    };
    log.runs().iter().map(ran).collect()
}

/// Draws what a saved log has of one graph, or of all, into a file, as [`Picture::save`] does: each task with where and how long it ran, and
/// what it used, as far as that was recorded.
///
/// ```
/// use swath::client::picture;
/// use swath::events::saved::SavedLog;
/// use swath::{Client, delayed};
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let path = |name: &str| directory.path().join(name);
/// let client = Client::threads(2);
/// client.compute(&delayed(|x: i64| x + 1).name("inc").map(0..10))?;
/// client.save_events(path("run.swath"))?;
/// let log = SavedLog::open(path("run.swath")).expect("a log");
/// picture::save_log(&log, None, path("run.svg"))?;
/// assert!(picture::outline_log(&log, None)?.starts_with("10 tasks"));
/// # Ok::<(), swath::Error>(())
/// ```
///
/// # Errors
/// As [`Picture::save`]; [`Error::Invalid`] where the log has nothing of that graph, or a part of it cannot be read.
pub fn save_log(log: &SavedLog, graph: Option<u32>, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let ending = Ending::of(path)?;
    let graph = graph_of(log, graph)?;
    let sketch = Sketch::of(&graph, Style::default())?;
    let bytes = match ending {
        Ending::Svg => sketch.lay_out().to_svg().into_bytes(),
        Ending::Html => sketch.lay_out().to_html().into_bytes(),
        Ending::Dot => sketch.to_dot().into_bytes(),
        #[cfg(feature = "picture-png")]
        Ending::Png => sketch.lay_out().to_png()?,
    };
    write(path, &bytes)
}

/// The same as lines of text.
///
/// # Errors
/// As [`save_log`].
pub fn outline_log(log: &SavedLog, graph: Option<u32>) -> Result<String> {
    let graph = graph_of(log, graph)?;
    Ok(Sketch::of(&graph, Style::default())?.outline())
}

fn graph_of(log: &SavedLog, graph: Option<u32>) -> Result<TaskGraph> {
    let tasks = TaskGraph::of_log(log, graph).map_err(|e| Error::invalid("event log", e.to_string()))?;
    match (tasks.is_empty(), graph) {
        (false, _) => Ok(tasks),
        (true, Some(graph)) => Err(Error::invalid("graph", format!("nothing is known of a graph {graph}"))),
        (true, None) => Err(Error::invalid("graph", "nothing has run")),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole(path, false, |out| out.write_all(bytes))
        .map_err(|e| Error::Resource { resource: path.display().to_string(), reason: e.to_string() })
}

/// The kinds of files.
enum Ending {
    Svg,
    Html,
    Dot,
    #[cfg(feature = "picture-png")]
    Png,
}

impl Ending {
    fn of(path: &Path) -> Result<Self, PictureError> {
        let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
        match ending.as_deref().and_then(|ending| ending.to_str()) {
            Some("svg") => Ok(Self::Svg),
            Some("html" | "htm") => Ok(Self::Html),
            Some("dot" | "gv") => Ok(Self::Dot),
            #[cfg(feature = "picture-png")]
            Some("png") => Ok(Self::Png),
            #[cfg(not(feature = "picture-png"))]
            Some("png") => Err(PictureError::Feature { path: path.to_path_buf(), feature: "picture-png" }),
            _ => Err(PictureError::Ending { path: path.to_path_buf() }),
        }
    }
}

/// Pictures of everything that can be computed: lists and tuples of lazy values, futures, and collections.
///
/// [`Delayed`] and [`Bag`](crate::Bag) have these methods without the trait, and collections have them of
/// [`CollectionExt`](crate::collection::CollectionExt): a module that imports that does without this one.
///
/// ```
/// use swath::client::picture::Visualize;
/// use swath::delayed;
/// let (a, b) = (delayed(|x: i64| x + 1).name("inc").call(1), delayed(|x: i64| x * 2).name("double").call(2));
/// assert!((&a, &b).outline()?.starts_with("2 tasks, 0 edges\ninc (inc-"));
/// # Ok::<(), swath::Error>(())
/// ```
pub trait Visualize: Computable {
    /// Draws the graph that computes it into a file: `.svg`, `.html`, `.dot` or `.png`. [`Picture`] has options.
    ///
    /// # Errors
    /// As [`Picture::of`] and [`Picture::save`].
    fn visualize(&self, path: impl AsRef<Path>) -> Result<()> {
        Picture::of(self)?.save(path)
    }

    /// The graph that computes it as lines of text: see [`Picture::outline`].
    ///
    /// # Errors
    /// As [`Picture::of`].
    fn outline(&self) -> Result<String> {
        Picture::of(self)?.outline()
    }
}

impl<C: Computable + ?Sized> Visualize for C {}

impl<T: crate::task::Data> Delayed<T> {
    /// Draws the graph that computes the value into a file: `.svg`, `.html`, `.dot`, or `.png` with the feature `picture-png`. Data flows from the bottom up, and
    /// more than 200 tasks are drawn as an overview; [`Picture`] has options.
    ///
    /// # Errors
    /// As [`Picture::save`].
    ///
    /// ```
    /// # use swath::delayed;
    /// let x = delayed(|x: i64| x + 1).call(1);
    /// let file = std::env::temp_dir().join(format!("swath-visualize-{}.svg", std::process::id()));
    /// (&x * &x).visualize(&file)?;
    /// # std::fs::remove_file(file).ok();
    /// # Ok::<(), swath::Error>(())
    /// ```
    pub fn visualize(&self, path: impl AsRef<Path>) -> Result<()> {
        Picture::of(self)?.save(path)
    }

    /// The graph that computes the value as lines of text, for terminals and logs: see [`Picture::outline`].
    ///
    /// # Errors
    /// As [`Picture::outline`].
    pub fn outline(&self) -> Result<String> {
        Picture::of(self)?.outline()
    }
}
