//! What a picture shows: its vertices with their texts, sizes and colours, and its edges. Where they stand comes later.

use super::graph::{NodeKind, Task, TaskGraph, TaskId};
use super::groups::{Group, Groups, ranks_of_names, ranks_of_workers};
use super::layout::{Layout, Point, layout};
use super::text::{LONGEST, bytes, columns, count, cut, cut_to_columns, grouped, many, time};
use super::{
    ColorBy, Direction, MOST_EDGES, MOST_EDGES_AUTO, MOST_TASKS, MOST_TASKS_AUTO, Overview, PictureError, Style, dot,
    html, outline, plain, svg,
};
use crate::palette::NAMES;
use crate::{Counts, TaskState};
use std::fmt::Write;

/// The width of a character of names, in pixels: a font of fixed width of 13 pixels.
const COLUMN: f64 = 7.9;
/// That of a character of the smaller lines, of 11 pixels.
const SMALL_COLUMN: f64 = 6.7;
/// The height of a task.
pub(super) const HEIGHT: f64 = 44.0;
/// Between the two outlines of a result.
pub(super) const RING: f64 = 4.0;
/// The most characters on a task.
const MOST_COLUMNS: usize = 24;
/// The most characters in a line of a box.
const MOST_BOX_COLUMNS: usize = 34;
/// The most edges of an overview that have words on them, unless they are few for its boxes.
const MOST_LABELS: usize = 40;

/// What a vertex looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A circle, or longer than that where the name is.
    Round,
    /// A box: data.
    Data,
    /// A box for all tasks of a name.
    Group,
    /// Words on an edge.
    Label,
}

/// A vertex of a picture.
#[derive(Clone, Debug)]
pub(super) struct Vertex {
    pub(super) shape: Shape,
    pub(super) size: Point,
    /// Whether it is a result.
    pub(super) ring: bool,
    /// The class of its colour in the style sheet.
    pub(super) class: String,
    /// Its lines of text: the name first.
    pub(super) lines: Vec<String>,
    /// What is told about it on hovering.
    pub(super) title: String,
    /// The group that it stands for.
    pub(super) group: Option<usize>,
    /// Where its tasks stand, of how many.
    pub(super) bar: Option<(Counts, u64)>,
}

/// An edge of a picture, from what is used to what uses it.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    pub(super) from: u32,
    pub(super) to: u32,
    /// Whether it leads against the direction in which data flows.
    pub(super) is_back: bool,
    /// Whether it ends at what uses it, and not at words on the way.
    pub(super) arrow: bool,
    /// What is told about it on hovering.
    pub(super) title: Option<String>,
}

impl Vertex {
    /// Its size with the second outline of a result.
    pub(super) fn outline(&self) -> Point {
        let ring = if self.ring { 2.0 * RING } else { 0.0 };
        (self.size.0 + ring, self.size.1 + ring)
    }
}

impl Edge {
    /// From where to where it is laid out: what leads against the flow of data as if it led with it.
    pub(super) fn ends(&self) -> (u32, u32) {
        if self.is_back { (self.to, self.from) } else { (self.from, self.to) }
    }
}

/// What a picture of a graph shows, before it has been laid out.
#[derive(Debug)]
pub struct Sketch<'g> {
    pub(super) graph: &'g TaskGraph,
    pub(super) style: Style,
    pub(super) vertices: Vec<Vertex>,
    pub(super) edges: Vec<Edge>,
    /// Where it is an overview.
    pub(super) groups: Option<Groups>,
}

/// A picture of a graph.
#[derive(Debug)]
pub struct Picture<'g> {
    pub(super) sketch: Sketch<'g>,
    pub(super) layout: Layout,
}

impl<'g> Sketch<'g> {
    /// What there is to draw.
    ///
    /// # Errors
    /// [`PictureError::TooLarge`] where tasks are to be drawn one by one that are too many.
    pub fn of(graph: &'g TaskGraph, style: Style) -> Result<Self, PictureError> {
        let (tasks, edges) = (graph.len(), graph.edges());
        let is_overview = match style.overview {
            Overview::Always => true,
            Overview::Auto => tasks > MOST_TASKS_AUTO || edges > MOST_EDGES_AUTO || !graph.layers.is_empty(),
            // A layer is a rule, and there is nothing of it to be drawn one by one.
            Overview::Never if tasks > MOST_TASKS || edges > MOST_EDGES || !graph.layers.is_empty() => {
                return Err(PictureError::TooLarge { tasks, edges });
            }
            Overview::Never => false,
        };
        let mut sketch = Self { graph, style, vertices: Vec::new(), edges: Vec::new(), groups: None };
        match is_overview {
            true => sketch.draw_groups(),
            false => sketch.draw_tasks(),
        }
        Ok(sketch)
    }

    /// Whether it has a box for all tasks of a name.
    #[must_use]
    pub fn is_overview(&self) -> bool {
        self.groups.is_some()
    }

    /// Finds places for everything.
    #[must_use]
    pub fn lay_out(self) -> Picture<'g> {
        let sizes: Vec<Point> = self.vertices.iter().map(Vertex::outline).collect();
        let edges: Vec<(u32, u32)> = self.edges.iter().map(Edge::ends).collect();
        let mut layout = layout(&sizes, &edges, self.style.direction);
        for (edge, route) in self.edges.iter().zip(&mut layout.routes) {
            if edge.is_back {
                route.reverse();
            }
        }
        Picture { sketch: self, layout }
    }

    /// What Graphviz's `dot -Tplain` is to be given so that it finds the places.
    #[must_use]
    pub fn to_graphviz(&self) -> String {
        plain::input(self)
    }

    /// With the places that `dot -Tplain` found for [`to_graphviz`](Self::to_graphviz).
    ///
    /// # Errors
    /// [`PictureError::Graphviz`] where that is not what it prints.
    pub fn lay_out_by_graphviz(self, plain: &str) -> Result<Picture<'g>, PictureError> {
        let layout = plain::layout(&self, plain)?;
        Ok(Picture { sketch: self, layout })
    }

    /// The picture in Graphviz's language.
    #[must_use]
    pub fn to_dot(&self) -> String {
        dot::dot(self)
    }

    /// The picture as lines of text, for terminals and logs: each result with what it uses below it.
    #[must_use]
    pub fn outline(&self) -> String {
        outline::outline(self)
    }

    fn draw_tasks(&mut self) {
        let (names, workers) = (ranks_of_names(self.graph), ranks_of_workers(self.graph));
        let most = Most::of(self.graph.tasks.iter().map(|task| (task.time, task.bytes)));
        for (task, number) in self.graph.tasks.iter().zip(0..) {
            let mut lines = vec![cut_to_columns(self.graph.shown(task.name), MOST_COLUMNS)];
            lines.extend(self.value_line(task));
            let class = match self.style.color_by {
                ColorBy::Name => name_class(names[task.name.0 as usize]),
                ColorBy::State => task.state.map_or_else(|| "cx".to_string(), |state| format!("s-{state}")),
                ColorBy::Time => heat_class(task.time.map(|t| t.as_secs_f64()), most.time),
                ColorBy::Bytes => heat_class(task.bytes.map(|b| b as f64), most.bytes),
                ColorBy::Worker => {
                    task.worker.map_or_else(|| "cx".to_string(), |worker| name_class(workers[worker.0 as usize]))
                }
            };
            let shape = if task.kind == NodeKind::Data { Shape::Data } else { Shape::Round };
            self.vertices.push(Vertex {
                shape,
                size: size_of(shape, &lines),
                ring: task.is_result,
                class,
                lines,
                title: self.title(number),
                group: None,
                bar: None,
            });
            for &input in self.graph.inputs(number) {
                let edge = Edge { from: input, to: number, is_back: false, arrow: true, title: None };
                self.edges.push(edge);
            }
        }
    }

    /// What the colour says, in words.
    fn value_line(&self, task: &Task) -> Option<String> {
        let unknown = || "\u{2013}".to_string();
        Some(match self.style.color_by {
            ColorBy::Name => return None,
            ColorBy::State => task.state.map_or_else(unknown, |state| state.to_string()),
            ColorBy::Time => task.time.map_or_else(unknown, time),
            ColorBy::Bytes => task.bytes.map_or_else(unknown, bytes),
            ColorBy::Worker => {
                task.worker.map_or_else(unknown, |worker| cut_to_columns(self.graph.worker_text(worker), MOST_COLUMNS))
            }
        })
    }

    /// All that is known of a task.
    pub(super) fn title(&self, number: u32) -> String {
        let task = &self.graph.tasks[number as usize];
        let mut title = cut(&self.graph.key(TaskId(number)), LONGEST);
        let steps = self.graph.steps(number);
        if !steps.is_empty() {
            let steps: Vec<String> = steps.iter().map(|step| cut(self.graph.text(*step), 40)).collect();
            let _ = write!(title, "\nsteps: {}", steps.join(" \u{2192} "));
        }
        let kind = match (task.kind, task.is_result) {
            (NodeKind::Task, false) => None,
            (NodeKind::Task, true) => Some("result"),
            (NodeKind::Data, false) => Some("data"),
            (NodeKind::Data, true) => Some("data, result"),
        };
        let facts = kind.map(str::to_string).into_iter().chain(self.facts(task));
        facts.for_each(|fact| {
            title.push('\n');
            title.push_str(&fact);
        });
        title
    }

    /// What is known of how a task ran.
    pub(super) fn facts(&self, task: &Task) -> impl Iterator<Item = String> {
        let worker = task.worker.map(|worker| format!("on {}", cut(self.graph.worker_text(worker), LONGEST)));
        let state = task.state.map(|state| state.to_string());
        let ran = task.time.map(|t| format!("ran {}", time(t)));
        [state, worker, ran, task.bytes.map(bytes)].into_iter().flatten()
    }

    fn draw_groups(&mut self) {
        let groups = Groups::of(self.graph);
        let names = ranks_of_names(self.graph);
        let most = Most::of(groups.groups.iter().map(|group| (group.time, group.bytes)));
        for (number, group) in groups.groups.iter().enumerate() {
            let class = match self.style.color_by {
                ColorBy::Name => group.name.map_or_else(|| "cx".to_string(), |name| name_class(names[name.0 as usize])),
                ColorBy::Time => heat_class(group.time.map(|t| t.as_secs_f64()), most.time),
                ColorBy::Bytes => heat_class(group.bytes.map(|b| b as f64), most.bytes),
                ColorBy::State | ColorBy::Worker => "cx".to_string(),
            };
            let lines = self.group_lines(group);
            let bar = (group.is_counted() && group.kind == NodeKind::Task).then_some((group.counts, group.len));
            let mut size = size_of(Shape::Group, &lines);
            size.1 += if bar.is_some() { BAR_ROOM } else { 0.0 };
            let (title, ring, group) = (self.group_title(group), group.results > 0, Some(number));
            self.vertices.push(Vertex { shape: Shape::Group, size, ring, class, lines, title, group, bar });
        }
        let with_words = groups.edges.len() <= MOST_LABELS.max(groups.groups.len() * 3 / 2);
        for edge in &groups.edges {
            let title = format!(
                "{} \u{2192} {}: {}, {}",
                cut(&self.group_name(&groups.groups[edge.from]), 60),
                cut(&self.group_name(&groups.groups[edge.to]), 60),
                edge.link.words(),
                many(edge.edges, "edge")
            );
            let (from, to, is_back) = (edge.from as u32, edge.to as u32, edge.is_back);
            if !with_words {
                self.edges.push(Edge { from, to, is_back, arrow: true, title: Some(title) });
                continue;
            }
            let words = self.vertices.len() as u32;
            let lines = vec![format!("{} \u{b7} {}", edge.link.words(), count(edge.edges))];
            self.vertices.push(Vertex {
                shape: Shape::Label,
                size: size_of(Shape::Label, &lines),
                ring: false,
                class: String::new(),
                lines,
                title: title.clone(),
                group: None,
                bar: None,
            });
            self.edges.push(Edge { from, to: words, is_back, arrow: false, title: Some(title.clone()) });
            self.edges.push(Edge { from: words, to, is_back, arrow: true, title: Some(title) });
        }
        self.groups = Some(groups);
    }

    /// What a group is called.
    pub(super) fn group_name(&self, group: &Group) -> String {
        match group.name {
            Some(name) => self.graph.shown(name).to_string(),
            None => format!("{} other names", grouped(group.names)),
        }
    }

    fn group_lines(&self, group: &Group) -> Vec<String> {
        let mut lines = vec![cut_to_columns(&self.group_name(group), MOST_BOX_COLUMNS)];
        let what = if group.kind == NodeKind::Data { "value" } else { "task" };
        let ending = if group.len == 1 { "" } else { "s" };
        let mut numbers = format!("{} {what}{ending}", count(group.len));
        if group.is_counted() && group.kind == NodeKind::Task {
            let (done, total) = (group.counts.done(), group.len);
            numbers = match done == total {
                true => format!("{numbers} done"),
                false => format!("{} of {numbers} done", count(done)),
            };
        }
        lines.push(numbers);
        let costs: Vec<String> = [group.time.map(time), group.bytes.map(bytes)].into_iter().flatten().collect();
        if !costs.is_empty() {
            lines.push(costs.join(" \u{b7} "));
        }
        if let Some((edges, link)) = group.within {
            lines.push(format!("\u{21bb} {} \u{b7} {}", link.words(), count(edges)));
        }
        lines
    }

    fn group_title(&self, group: &Group) -> String {
        let what = if group.kind == NodeKind::Data { "value" } else { "task" };
        let mut title = format!("{}\n{}", cut(&self.group_name(group), LONGEST), many(group.len, what));
        if group.of_rules > 0 {
            let _ = write!(title, "\n{} held as a rule", grouped(group.of_rules));
        }
        if !group.steps.is_empty() {
            let steps: Vec<String> = group.steps.iter().map(|step| cut(self.graph.text(*step), 40)).collect();
            let _ = write!(title, "\nsteps of each: {}", steps.join(" \u{2192} "));
        }
        if group.results > 0 {
            let _ = write!(title, "\n{}", many(group.results, "result"));
        }
        for state in TaskState::ALL.into_iter().filter(|state| group.counts[*state] > 0) {
            let _ = write!(title, "\n{state}: {}", grouped(group.counts[state]));
        }
        if let Some(t) = group.time {
            let _ = write!(title, "\nran {} in all", time(t));
        }
        if let Some(size) = group.bytes {
            let _ = write!(title, "\nresults of {}", bytes(size));
        }
        if let Some((edges, link)) = group.within {
            let _ = write!(title, "\nthey use each other: {}, {}", link.words(), many(edges, "edge"));
        }
        title
    }

    /// The picture in a sentence or two.
    #[must_use]
    pub fn description(&self) -> String {
        let (tasks, edges) = (self.graph.len(), self.graph.edges());
        if tasks == 0 {
            return "A graph without tasks.".to_string();
        }
        let own;
        let groups = match &self.groups {
            Some(groups) => groups,
            None => {
                own = Groups::of(self.graph);
                &own
            }
        };
        let mut sizes: Vec<&Group> = groups.groups.iter().collect();
        sizes.sort_by_key(|group| std::cmp::Reverse(group.len));
        let named = |group: &&Group| format!("{} \u{d7} {}", grouped(group.len), cut(&self.group_name(group), 60));
        let mut names: Vec<String> = sizes.iter().take(8).map(named).collect();
        if sizes.len() > names.len() {
            names.push(format!("{} more names", sizes.len() - names.len()));
        }
        let results: u64 = groups.groups.iter().map(|group| group.results).sum();
        let drawn = if self.is_overview() { " All tasks of a name are one box." } else { "" };
        let flow = match self.style.direction {
            Direction::Up => "from the bottom up",
            Direction::Right => "from left to right",
        };
        let color = match self.style.color_by {
            ColorBy::Name => "names",
            ColorBy::State => "states",
            ColorBy::Time => "times",
            ColorBy::Bytes => "sizes of results",
            ColorBy::Worker => "workers",
        };
        format!(
            "A graph of {} with {} and {}: {}.{drawn} Data flows {flow}, results have a double outline, colours say {color}.",
            many(tasks, "task"),
            many(edges, "edge"),
            many(results, "result"),
            names.join(", ")
        )
    }
}

impl Picture<'_> {
    /// The picture as SVG, for light and dark grounds.
    #[must_use]
    pub fn to_svg(&self) -> String {
        svg::svg(self)
    }

    /// The picture as a page of HTML that needs no other file, runs no script and asks for nothing from elsewhere. A box of an
    /// overview opens to its first tasks.
    #[must_use]
    pub fn to_html(&self) -> String {
        html::html(self)
    }

    /// The picture as PNG on a light ground, with two pixels for each of the picture if that is not too many.
    ///
    /// # Errors
    /// [`PictureError::Png`] where it would have more pixels than fit into memory, or than other programs open.
    #[cfg(feature = "png")]
    pub fn to_png(&self) -> Result<Vec<u8>, PictureError> {
        super::png::png(self)
    }

    /// Its width and height in pixels.
    #[must_use]
    pub fn size(&self) -> (f64, f64) {
        svg::size(self)
    }
}

/// The room that the bar of states takes.
pub(super) const BAR_ROOM: f64 = 16.0;
/// The height of a line.
pub(super) const LINE: f64 = 16.0;

fn size_of(shape: Shape, lines: &[String]) -> Point {
    let mut width = 0.0_f64;
    for (i, line) in lines.iter().enumerate() {
        let column = if i == 0 && shape != Shape::Label { COLUMN } else { SMALL_COLUMN };
        width = width.max(columns(line) as f64 * column);
    }
    match shape {
        Shape::Round => ((width + 20.0).max(HEIGHT), HEIGHT),
        Shape::Data => ((width + 16.0).max(HEIGHT), 34.0),
        Shape::Group => ((width + 28.0).max(120.0), LINE * lines.len() as f64 + 20.0),
        Shape::Label => (width + 8.0, LINE + 2.0),
    }
}

/// The largest of what is known.
struct Most {
    time: f64,
    bytes: f64,
}

impl Most {
    fn of(values: impl Iterator<Item = (Option<std::time::Duration>, Option<u64>)>) -> Self {
        values.fold(Self { time: 0.0, bytes: 0.0 }, |most, (time, bytes)| Self {
            time: most.time.max(time.map_or(0.0, |t| t.as_secs_f64())),
            bytes: most.bytes.max(bytes.map_or(0.0, |b| b as f64)),
        })
    }
}

fn name_class(rank: usize) -> String {
    if rank < NAMES { format!("c{rank}") } else { "cx".to_string() }
}

/// One of five, by the share of the largest.
fn heat_class(value: Option<f64>, most: f64) -> String {
    match value {
        None => "cx".to_string(),
        Some(value) if most > 0.0 => format!("h{}", ((value / most * 5.0) as usize).min(4)),
        Some(_) => "h0".to_string(),
    }
}
