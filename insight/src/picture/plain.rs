//! The layout of Graphviz, in the plain format that `dot -Tplain` prints.

use super::layout::{Layout, Point};
use super::sketch::Sketch;
use super::{Direction, PictureError};
use std::collections::HashMap;
use std::fmt::Write;

/// Points, which are pixels here, in an inch.
const INCH: f64 = 72.0;

/// What `dot` is given: sizes and edges, and no text.
pub(super) fn input(sketch: &Sketch<'_>) -> String {
    let direction = if sketch.style.direction == Direction::Up { "BT" } else { "LR" };
    let mut out = format!("digraph {{\n  rankdir={direction}; nodesep=0.25; ranksep=0.5;\n");
    out.push_str("  node [shape=box, fixedsize=true, label=\"\"]; edge [dir=none];\n");
    for (vertex, number) in sketch.vertices.iter().zip(0..) {
        let (width, height) = vertex.outline();
        let _ = writeln!(out, "  {number} [width={:.4}, height={:.4}];", width / INCH, height / INCH);
    }
    for edge in &sketch.edges {
        let (tail, head) = edge.ends();
        let _ = writeln!(out, "  {tail} -> {head};");
    }
    out.push_str("}\n");
    out
}

/// Reads what `dot` prints.
pub(super) fn layout(sketch: &Sketch<'_>, plain: &str) -> Result<Layout, PictureError> {
    let wrong = |line: &str| {
        let line: String = super::text::cut(line, 60);
        PictureError::Graphviz { reason: format!("it printed a line that is not understood: {line}") }
    };
    let mut places: Vec<Option<Point>> = vec![None; sketch.vertices.len()];
    let mut found: HashMap<(u32, u32), Vec<Point>> = HashMap::new();
    let mut size = (0.0, 0.0);
    for line in plain.lines() {
        let mut words = line.split_ascii_whitespace();
        let read = match words.next() {
            Some("graph") => words.next().and_then(|_| point(&mut words)).map(|point| size = point),
            Some("node") => words.next().and_then(|name| name.parse::<usize>().ok()).zip(point(&mut words)).and_then(
                |(number, (x, y))| {
                    *places.get_mut(number)? = Some((x, size.1 - y));
                    Some(())
                },
            ),
            Some("edge") => edge(&mut words, size.1).map(|(ends, points)| drop(found.insert(ends, points))),
            Some("stop") | None => Some(()),
            Some(_) => None,
        };
        read.ok_or_else(|| wrong(line))?;
    }
    let places: Option<Vec<Point>> = places.into_iter().collect();
    let Some(places) = places else {
        return Err(PictureError::Graphviz { reason: "it has left out vertices".to_string() });
    };
    let route = |edge: &super::sketch::Edge| {
        let mut route = found.remove(&edge.ends()).unwrap_or_default();
        if edge.is_back {
            route.reverse();
        }
        route
    };
    let routes = sketch.edges.iter().map(route).collect();
    Ok(Layout { places, routes, size })
}

fn point<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Point> {
    let mut number = || words.next()?.parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| n * INCH);
    Some((number()?, number()?))
}

/// The ends of an edge, and the points that it runs through between them.
fn edge<'a>(words: &mut impl Iterator<Item = &'a str>, height: f64) -> Option<((u32, u32), Vec<Point>)> {
    let ends = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let count: usize = words.next()?.parse().ok()?;
    let mut points = Vec::new();
    for i in 0..count {
        let (x, y) = point(words)?;
        // Of a Bézier curve each third point lies on the curve; first and last are at the vertices.
        if i % 3 == 0 && i > 0 && i + 1 < count {
            points.push((x, height - y));
        }
    }
    Some((ends, points))
}

#[cfg(test)]
mod tests {
    use super::super::{Style, Task, TaskGraph};
    use super::*;

    fn graph() -> TaskGraph {
        let mut graph = TaskGraph::new();
        let name = graph.name("f");
        let a = graph.push(Task::new(name, 1), []);
        graph.push(Task::new(name, 2), [a]);
        graph
    }

    #[test]
    fn what_dot_prints_is_a_layout() {
        let graph = graph();
        let sketch = Sketch::of(&graph, Style::default()).expect("small");
        assert!(sketch.to_graphviz().contains("0 -> 1"));
        let plain = "graph 1 0.61 1.72\nnode 0 0.31 0.31 0.61 0.61 \"\" solid box black lightgrey\n\
                     node 1 0.31 1.42 0.61 0.61 \"\" solid box black lightgrey\n\
                     edge 0 1 7 0 0 0 0 0 0 0.31 0.7 0 0 0 0 0.31 1.1 solid black\nstop\n";
        let picture = sketch.lay_out_by_graphviz(plain).expect("a layout");
        assert!(picture.to_svg().contains("<path class=\"a\""));
        assert!(picture.layout.places[1].1 < picture.layout.places[0].1);
    }

    #[test]
    fn anything_else_is_an_error() {
        let graph = graph();
        for plain in ["", "graph 1 1 1\nnode 0 1 1 1 1\nstop", "node x 1 1", "what?", "edge 0 1 9 1", "node 0 NaN 1"] {
            let sketch = Sketch::of(&graph, Style::default()).expect("small");
            let error = sketch.lay_out_by_graphviz(plain).expect_err("no layout");
            assert!(matches!(error, PictureError::Graphviz { .. }), "{plain}: {error}");
        }
    }
}
