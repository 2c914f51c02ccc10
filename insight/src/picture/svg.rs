//! Pictures as SVG.

use super::Direction;
use super::layout::Point;
use super::sketch::{BAR_ROOM, Edge, LINE, Picture, RING, Shape, Vertex};
use super::text::{push_escaped, push_number};
use crate::{Counts, TaskState};

/// The colours: plain rules for a light ground, which every program that reads SVG knows, and those of a dark one.
pub(super) const CSS: &str = include_str!("picture.css");

/// Around the picture.
const MARGIN: f64 = 16.0;
/// The length of an arrow head.
const HEAD: f64 = 7.0;

/// Its width and height.
pub(super) fn size(picture: &Picture<'_>) -> Point {
    let (width, height) = picture.layout.size;
    (width.max(60.0) + 2.0 * MARGIN, height.max(20.0) + 2.0 * MARGIN)
}

pub(super) fn svg(picture: &Picture<'_>) -> String {
    let mut out = String::with_capacity(4096 + 400 * picture.sketch.vertices.len() + 160 * picture.sketch.edges.len());
    push_svg(&mut out, picture, false);
    out.push('\n');
    out
}

/// Appends the picture. Where boxes `open`, each is a link to `#g` and the number of its group.
pub(super) fn push_svg(out: &mut String, picture: &Picture<'_>, open: bool) {
    let (width, height) = size(picture);
    out.push_str("<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"swath-picture\" role=\"img\"");
    push_attributes(out, &[("width", width), ("height", height)]);
    out.push_str(" viewBox=\"0 0 ");
    push_number(out, width);
    out.push(' ');
    push_number(out, height);
    out.push_str("\">\n<title>");
    push_escaped(out, &title(picture));
    out.push_str("</title>\n<desc>");
    push_escaped(out, &picture.sketch.description());
    out.push_str("</desc>\n");
    if !open {
        out.push_str("<style>");
        out.push_str(CSS);
        out.push_str("</style>\n");
    }
    let bars = picture.sketch.vertices.iter().any(|vertex| vertex.bar.is_some());
    if bars {
        out.push_str(
            "<defs><pattern id=\"swath-hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><path class=\"hatch\" d=\"M0 0V6\"/></pattern></defs>\n",
        );
    }
    out.push_str("<rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n");
    if picture.sketch.vertices.is_empty() {
        out.push_str("<text class=\"m d\"");
        push_attributes(out, &[("x", width / 2.0), ("y", height / 2.0 + 4.0)]);
        out.push_str(">no tasks</text>\n");
    }
    for ((edge, route), ports) in picture.sketch.edges.iter().zip(&picture.layout.routes).zip(ports(picture)) {
        push_edge(out, picture, edge, route, ports);
    }
    for (vertex, &place) in picture.sketch.vertices.iter().zip(&picture.layout.places) {
        push_vertex(out, vertex, (place.0 + MARGIN, place.1 + MARGIN), open);
    }
    out.push_str("</svg>");
}

/// What the picture is called.
pub(super) fn title(picture: &Picture<'_>) -> String {
    let tasks = picture.sketch.graph.len();
    format!("Graph of {}", super::text::many(tasks, "task"))
}

fn push_attributes(out: &mut String, attributes: &[(&str, f64)]) {
    for (name, value) in attributes {
        out.push(' ');
        out.push_str(name);
        out.push_str("=\"");
        push_number(out, *value);
        out.push('"');
    }
}

fn push_points(out: &mut String, command: char, points: &[Point]) {
    out.push(command);
    for (i, point) in points.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        push_number(out, point.0);
        out.push(' ');
        push_number(out, point.1);
    }
}

/// Where an edge leaves what is used and meets what uses it, as distances from the middles of these along their sides.
#[derive(Clone, Copy, Default)]
struct Ports {
    tail: f64,
    head: f64,
}

/// Spreads the edges at each side of each vertex, in the order of where they lead, so that few cross there and their arrow
/// heads lie beside each other.
fn ports(picture: &Picture<'_>) -> Vec<Ports> {
    let places = &picture.layout.places;
    let direction = picture.sketch.style.direction;
    let across = |point: Point| if direction == Direction::Up { point.0 } else { point.1 };
    let mut ports = vec![Ports::default(); picture.sketch.edges.len()];
    // The vertex, whether it is the side to which data flows, where the edge leads, which edge it is, and whether this is its tail.
    let mut ends: Vec<(u32, bool, f64, usize, bool)> = Vec::with_capacity(2 * ports.len());
    for (number, (edge, route)) in picture.sketch.edges.iter().zip(&picture.layout.routes).enumerate() {
        let (from, to) = (places[edge.from as usize], places[edge.to as usize]);
        let (first, last) = (route.first().copied().unwrap_or(to), route.last().copied().unwrap_or(from));
        ends.push((edge.from, !edge.is_back, across(first), number, true));
        ends.push((edge.to, edge.is_back, across(last), number, false));
    }
    ends.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)).then(a.3.cmp(&b.3)));
    for side in ends.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let vertex = &picture.sketch.vertices[side[0].0 as usize];
        let (width, height) = outline(vertex, direction);
        let room = match vertex.shape {
            Shape::Round => (width - height).max(0.0) + height * 0.72,
            Shape::Data | Shape::Group => width * 0.8,
            Shape::Label => 0.0,
        };
        let last = (side.len() - 1) as f64;
        let step = (2.0 * room / last.max(1.0)).min(11.0);
        for (i, &(.., edge, is_tail)) in side.iter().enumerate() {
            let shift = (i as f64 - last / 2.0) * step;
            let port = &mut ports[edge];
            *(if is_tail { &mut port.tail } else { &mut port.head }) = shift;
        }
    }
    ports
}

/// Half of what a vertex takes across the flow of data, and along it.
fn outline(vertex: &Vertex, direction: Direction) -> Point {
    let (width, height) = vertex.outline();
    match direction {
        Direction::Up => (width / 2.0, height / 2.0),
        Direction::Right => (height / 2.0, width / 2.0),
    }
}

fn push_edge(out: &mut String, picture: &Picture<'_>, edge: &Edge, route: &[Point], ports: Ports) {
    let places = &picture.layout.places;
    let (tail, head) = (&picture.sketch.vertices[edge.from as usize], &picture.sketch.vertices[edge.to as usize]);
    let (from, to) = (places[edge.from as usize], places[edge.to as usize]);
    let direction = picture.sketch.style.direction;
    // Data flows along the sign, but on an edge that leads back.
    let sign = if edge.is_back { -1.0 } else { 1.0 };
    let start = port(tail, from, ports.tail, direction, sign, 0.0);
    let clear = if edge.arrow { HEAD } else { 0.0 };
    let end = port(head, to, ports.head, direction, -sign, clear);
    let points: Vec<Point> = [start].into_iter().chain(route.iter().copied()).chain([end]).collect();
    let points: Vec<Point> = points.into_iter().map(|p| (p.0 + MARGIN, p.1 + MARGIN)).collect();
    if let Some(title) = &edge.title {
        out.push_str("<g><title>");
        push_escaped(out, title);
        out.push_str("</title>");
    }
    out.push_str(if edge.is_back { "<path class=\"e k\" d=\"" } else { "<path class=\"e\" d=\"" });
    push_points(out, 'M', &points[..1]);
    for pair in points.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        // Each piece leaves and arrives along the flow of data.
        let (c, d) = match direction {
            Direction::Up => ((a.0, (a.1 + b.1) / 2.0), (b.0, (a.1 + b.1) / 2.0)),
            Direction::Right => (((a.0 + b.0) / 2.0, a.1), ((a.0 + b.0) / 2.0, b.1)),
        };
        match (a.0 - b.0).abs() < 0.05 || (a.1 - b.1).abs() < 0.05 {
            true => push_points(out, 'L', &[b]),
            false => push_points(out, 'C', &[c, d, b]),
        }
    }
    out.push_str("\"/>");
    if edge.arrow
        && let Some(&end) = points.last()
    {
        let along = match direction {
            Direction::Up => (0.0, -sign),
            Direction::Right => (sign, 0.0),
        };
        let tip = (end.0 + along.0 * HEAD, end.1 + along.1 * HEAD);
        let side = (along.1 * 3.6, along.0 * 3.6);
        out.push_str("<path class=\"a\" d=\"");
        push_points(out, 'M', &[tip]);
        push_points(out, 'L', &[(end.0 + side.0, end.1 + side.1), (end.0 - side.0, end.1 - side.1)]);
        out.push_str("Z\"/>");
    }
    out.push_str(if edge.title.is_some() { "</g>\n" } else { "\n" });
}

/// A point on the outline of a vertex, or so far before it: on the side that the sign says, and aside from its middle.
fn port(vertex: &Vertex, place: Point, shift: f64, direction: Direction, sign: f64, clear: f64) -> Point {
    let (across, along) = outline(vertex, direction);
    let radius = if vertex.shape == Shape::Round { across.min(along) } else { 0.0 };
    let beyond = (shift.abs() - (across - radius)).max(0.0);
    let depth = along - radius + (radius * radius - beyond * beyond).max(0.0).sqrt();
    let distance = sign * (depth + clear);
    match direction {
        Direction::Up => (place.0 + shift, place.1 - distance),
        Direction::Right => (place.0 + distance, place.1 + shift),
    }
}

fn push_rect(out: &mut String, class: &str, middle: Point, size: Point, radius: f64) {
    out.push_str("<rect class=\"");
    out.push_str(class);
    out.push('"');
    let (x, y) = (middle.0 - size.0 / 2.0, middle.1 - size.1 / 2.0);
    push_attributes(out, &[("x", x), ("y", y), ("width", size.0), ("height", size.1), ("rx", radius)]);
    out.push_str("/>");
}

fn push_vertex(out: &mut String, vertex: &Vertex, place: Point, open: bool) {
    let opens = vertex.group.filter(|_| open);
    out.push_str("<g class=\"n ");
    out.push_str(&vertex.class);
    out.push_str("\"><title>");
    push_escaped(out, &vertex.title);
    out.push_str("</title>");
    if let Some(group) = opens {
        out.push_str("<a href=\"#g");
        out.push_str(&group.to_string());
        out.push_str("\">");
    }
    let radius = match vertex.shape {
        Shape::Round => vertex.size.1.min(vertex.size.0) / 2.0,
        Shape::Data => 2.0,
        Shape::Group => 6.0,
        Shape::Label => 0.0,
    };
    push_rect(out, "u", place, vertex.size, radius);
    if vertex.shape != Shape::Label {
        push_rect(out, "f", place, vertex.size, radius);
    }
    if vertex.ring {
        let size = (vertex.size.0 + 2.0 * RING, vertex.size.1 + 2.0 * RING);
        push_rect(out, "r", place, size, radius + RING);
    }
    let lines = vertex.lines.len() as f64 * LINE;
    let room = if vertex.bar.is_some() { BAR_ROOM } else { 0.0 };
    // The middle of the first line; letters stand a third of their size below it.
    let mut y = place.1 - room / 2.0 - lines / 2.0 + LINE / 2.0 + 4.0;
    for (i, line) in vertex.lines.iter().enumerate() {
        out.push_str(match (i, vertex.shape) {
            (0, Shape::Round | Shape::Data) => "<text",
            (0, Shape::Group) => "<text class=\"b\"",
            (_, Shape::Label) => "<text class=\"m d\"",
            _ => "<text class=\"m\"",
        });
        push_attributes(out, &[("x", place.0), ("y", y)]);
        out.push('>');
        push_escaped(out, line);
        out.push_str("</text>");
        y += LINE;
    }
    if let Some((counts, all)) = &vertex.bar {
        let bar = (place.0 - vertex.size.0 / 2.0 + 12.0, place.1 + vertex.size.1 / 2.0 - 10.0 - 8.0);
        push_bar(out, counts, *all, bar, vertex.size.0 - 24.0);
    }
    if opens.is_some() {
        out.push_str("</a>");
    }
    out.push_str("</g>\n");
}

/// Where tasks stand: from what is done to what waits, and what failed at the right end.
fn push_bar(out: &mut String, counts: &Counts, all: u64, corner: Point, width: f64) {
    const ORDER: [TaskState; 8] = [
        TaskState::Released,
        TaskState::Memory,
        TaskState::Running,
        TaskState::Ready,
        TaskState::Waiting,
        TaskState::Unneeded,
        TaskState::Cancelled,
        TaskState::Failed,
    ];
    const HIGH: f64 = 8.0;
    push_rect(out, "z", (corner.0 + width / 2.0, corner.1 + HIGH / 2.0), (width, HIGH), 0.0);
    let total = counts.total().max(all).max(1) as f64;
    let mut x = corner.0;
    for state in ORDER.into_iter().filter(|state| counts[*state] > 0) {
        let part = width * counts[state] as f64 / total;
        let (middle, size) = ((x + part / 2.0, corner.1 + HIGH / 2.0), (part, HIGH));
        push_rect(out, &format!("p p-{state}"), middle, size, 0.0);
        if state == TaskState::Running {
            out.push_str("<rect fill=\"url(#swath-hatch)\"");
            push_attributes(out, &[("x", x), ("y", corner.1), ("width", part), ("height", HIGH)]);
            out.push_str("/>");
        }
        x += part;
    }
}

#[cfg(test)]
mod tests {
    use super::CSS;
    use crate::palette::{DARK, LIGHT};

    #[test]
    fn the_style_sheet_has_the_colours_of_the_palette_and_no_others() {
        let (light, dark) = CSS.split_once("@media (prefers-color-scheme:dark)").expect("both grounds");
        for (sheet, palette) in [(light, LIGHT), (dark, DARK)] {
            let others = [palette.ground, palette.ink, palette.dim, palette.error, palette.others];
            let known: Vec<&str> = palette.names.into_iter().chain(others).collect();
            assert!(known.iter().all(|colour| sheet.contains(colour)), "{palette:?}");
            let used = sheet.split('#').skip(1).map(|rest| format!("#{}", &rest[..6]));
            used.for_each(|colour| assert!(known.contains(&colour.as_str()), "{colour}"));
        }
    }
}
