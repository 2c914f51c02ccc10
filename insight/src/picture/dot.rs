//! Pictures in Graphviz's language.

use super::Direction;
use super::graph::{NodeKind, TaskGraph, TaskId};
use super::sketch::{Shape, Sketch};
use super::text::{LONGEST, cut};
use std::fmt::Write;

impl TaskGraph {
    /// The graph in Graphviz's language: each task that is written out, however many there are. Data flows from the bottom up.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut out = String::from("digraph {\n  rankdir=BT;\n  node [fontname=\"sans-serif\"];\n");
        for (task, number) in self.tasks.iter().zip(0..) {
            let shape = if task.kind == NodeKind::Data { "box" } else { "ellipse" };
            let _ = write!(out, "  t{number} [label=\"");
            push_quoted(&mut out, &cut(self.text(task.name), LONGEST));
            out.push_str("\", tooltip=\"");
            push_quoted(&mut out, &cut(&self.key(TaskId(number)), LONGEST));
            let _ = writeln!(out, "\", shape={shape}{}];", if task.is_result { ", peripheries=2" } else { "" });
            for input in self.inputs(number) {
                let _ = writeln!(out, "  t{input} -> t{number};");
            }
        }
        out.push_str("}\n");
        out
    }
}

/// What a sketch shows.
pub(super) fn dot(sketch: &Sketch<'_>) -> String {
    let direction = if sketch.style.direction == Direction::Up { "BT" } else { "LR" };
    let mut out = format!("digraph {{\n  rankdir={direction};\n  node [fontname=\"sans-serif\"];\n");
    for (vertex, number) in sketch.vertices.iter().zip(0..) {
        let shape = match vertex.shape {
            Shape::Round => "ellipse",
            Shape::Data | Shape::Group => "box",
            Shape::Label => "plaintext",
        };
        let _ = write!(out, "  t{number} [label=\"");
        for (i, line) in vertex.lines.iter().enumerate() {
            out.push_str(if i > 0 { "\\n" } else { "" });
            push_quoted(&mut out, line);
        }
        out.push_str("\", tooltip=\"");
        push_quoted(&mut out, &vertex.title);
        let _ = writeln!(out, "\", shape={shape}{}];", if vertex.ring { ", peripheries=2" } else { "" });
    }
    for edge in &sketch.edges {
        let arrow = if edge.arrow { "" } else { " [dir=none]" };
        let _ = match edge.is_back {
            true => writeln!(out, "  t{} -> t{} [constraint=false, style=dashed];", edge.from, edge.to),
            false => writeln!(out, "  t{} -> t{}{arrow};", edge.from, edge.to),
        };
    }
    out.push_str("}\n");
    out
}

/// Appends the inside of a quoted text. Graphviz reads escapes of its own there, and entities of HTML.
fn push_quoted(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '&' => out.push_str("&amp;"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}
