//! Pictures are parsed, and what is drawn is measured.

use super::*;
use crate::TaskState;
use std::time::Duration;

/// A part of a picture: left, top, right and bottom.
type Area = (f64, f64, f64, f64);

fn style(direction: Direction, color_by: ColorBy, overview: Overview) -> Style {
    Style { direction, color_by, overview }
}

fn add(graph: &mut TaskGraph, name: &str, inputs: &[TaskId]) -> TaskId {
    let (name, hash) = (graph.name(name), graph.len().wrapping_mul(0x9e37_79b9_7f4a_7c15));
    graph.push(Task::new(name, hash), inputs.iter().copied())
}

fn number(node: roxmltree::Node<'_, '_>, name: &str) -> f64 {
    node.attribute(name).and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {node:?}"))
}

fn overlap(a: Area, b: Area) -> bool {
    a.0 < b.2 - 0.2 && b.0 < a.2 - 0.2 && a.1 < b.3 - 0.2 && b.1 < a.3 - 0.2
}

/// The outer area of each vertex. Nothing overlaps, all is inside of the picture, texts are inside of what they are on, and no
/// text is below 11 pixels.
fn check(svg: &str) -> Vec<Area> {
    let document = roxmltree::Document::parse(svg).unwrap_or_else(|e| panic!("{e}: {svg}"));
    let root = document.root_element();
    let (width, height) = (number(root, "width"), number(root, "height"));
    let is_vertex = |n: &roxmltree::Node<'_, '_>| n.attribute("class").is_some_and(|c| c.starts_with("n "));
    let mut areas: Vec<Area> = Vec::new();
    for vertex in root.descendants().filter(is_vertex) {
        let rects = vertex.descendants().filter(|n| n.has_tag_name("rect") && !is_bar(*n));
        let area = |n: roxmltree::Node<'_, '_>| {
            let (x, y) = (number(n, "x"), number(n, "y"));
            (x, y, x + number(n, "width"), y + number(n, "height"))
        };
        let all = rects.map(area).reduce(|a, b| (a.0.min(b.0), a.1.min(b.1), a.2.max(b.2), a.3.max(b.3)));
        let all = all.expect("a shape");
        assert!(all.0 >= 0.0 && all.1 >= 0.0 && all.2 <= width && all.3 <= height, "{all:?} in {width} x {height}");
        for text in vertex.descendants().filter(|n| n.has_tag_name("text")) {
            let small = text.attribute("class").is_some_and(|class| class.starts_with('m'));
            let half = text::columns(text.text().unwrap_or_default()) as f64 * if small { 6.62 } else { 7.83 } / 2.0;
            let (x, y) = (number(text, "x"), number(text, "y"));
            let inside = x - half >= all.0 && x + half <= all.2 && y - 9.0 >= all.1 && y + 3.0 <= all.3;
            assert!(inside, "{text:?} in {all:?}");
        }
        assert!(vertex.children().any(|n| n.has_tag_name("title")), "each has a title");
        if let Some(other) = areas.iter().find(|other| overlap(all, **other)) {
            panic!("{all:?} and {other:?} overlap");
        }
        areas.push(all);
    }
    let sizes = svg::CSS.split("font-size:").skip(1).map(|rest| rest.split("px").next().unwrap_or_default());
    assert!(sizes.map(|size| size.parse::<f64>().expect("pixels")).all(|size| size >= 11.0));
    areas
}

fn is_bar(node: roxmltree::Node<'_, '_>) -> bool {
    node.attribute("fill").is_some()
        || node.attribute("class").is_some_and(|class| class == "z" || class.starts_with("p "))
}

fn svg_of(graph: &TaskGraph, style: Style) -> String {
    Sketch::of(graph, style).expect("small enough").lay_out().to_svg()
}

/// All ways to draw a graph, checked.
fn check_all(graph: &TaskGraph) {
    for direction in [Direction::Up, Direction::Right] {
        for color_by in [ColorBy::Name, ColorBy::State, ColorBy::Time, ColorBy::Bytes, ColorBy::Worker] {
            for overview in [Overview::Auto, Overview::Never, Overview::Always] {
                let Ok(sketch) = Sketch::of(graph, style(direction, color_by, overview)) else { continue };
                let (dot, outline) = (sketch.to_dot(), sketch.outline());
                assert!(dot.starts_with("digraph {") && dot.ends_with("}\n"));
                assert!(outline.lines().count() < 400 && outline.ends_with('\n'));
                let picture = sketch.lay_out();
                check(&picture.to_svg());
                let html = picture.to_html();
                assert!(!html.contains("<script") && !html.contains(" style=") && !html.contains("http://e"), "{html}");
                let svg = html.find("<svg").zip(html.find("</svg>")).map(|(from, to)| &html[from..to + 6]);
                check(svg.expect("a picture"));
            }
        }
    }
}

/// Tasks in every state, of which more or less is known.
fn mixed() -> TaskGraph {
    let mut graph = TaskGraph::new();
    let list = graph.name("features");
    let mut data = Task::new(list, 77);
    (data.kind, data.state, data.bytes) = (NodeKind::Data, Some(TaskState::Memory), Some(5_000_000));
    let data = graph.push(data, []);
    let mut last = Vec::new();
    let workers = ["worker-0", "worker-1"].map(|name| graph.worker(name));
    for (i, state) in TaskState::ALL.into_iter().enumerate() {
        let read = add(&mut graph, "read_partition", &[]);
        let parse = add(&mut graph, "parse", &[read, data]);
        let task = graph.task_mut(parse);
        (task.state, task.worker) = (Some(state), Some(workers[i % 2]));
        task.time = (i % 3 > 0).then(|| Duration::from_micros(1 << (2 * i)));
        task.bytes = (i % 3 > 1).then(|| 1 << (4 * i));
        last.push(parse);
    }
    let merge = add(&mut graph, "merge_all_of_the_partitions_together", &last);
    let fit = add(&mut graph, "fit", &[merge, data]);
    graph.task_mut(fit).is_result = true;
    let steps = ["read", "split"].map(|step| graph.name(step));
    graph.set_steps(fit, steps.to_vec());
    graph
}

#[test]
fn graphs_of_all_kinds_are_drawn_without_overlap() {
    check_all(&TaskGraph::new());
    check_all(&mixed());
    let mut one = TaskGraph::new();
    add(&mut one, "f", &[]);
    check_all(&one);
    let mut tree = TaskGraph::new();
    let mut level: Vec<TaskId> = (0..64).map(|_| add(&mut tree, "load", &[])).collect();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| add(&mut tree, "add", pair)).collect();
    }
    check_all(&tree);
    let mut shuffle = TaskGraph::new();
    let split: Vec<TaskId> = (0..12).map(|_| add(&mut shuffle, "split", &[])).collect();
    let join: Vec<TaskId> = (0..12).map(|_| add(&mut shuffle, "join", &split)).collect();
    join.iter().for_each(|task| _ = add(&mut shuffle, "split", &[*task]));
    check_all(&shuffle);
}

#[test]
fn all_is_told_of_a_task() {
    let svg = svg_of(&mixed(), Style::default());
    let document = roxmltree::Document::parse(&svg).expect("well-formed");
    let titles: Vec<&str> =
        document.descendants().filter(|n| n.has_tag_name("title")).filter_map(|n| n.text()).collect();
    let running = |t: &&str| t.starts_with("parse-") && t.ends_with("\nrunning\non worker-1");
    assert!(titles.iter().any(running), "{titles:?}");
    assert!(
        titles.iter().any(|t| t.starts_with("fit-") && t.contains("\nsteps: read \u{2192} split\nresult")),
        "{titles:?}"
    );
    let desc = document.descendants().find(|n| n.has_tag_name("desc")).and_then(|n| n.text()).unwrap_or_default();
    let start =
        "A graph of 19 tasks with 26 edges and 1 result: 8 \u{d7} read_partition, 8 \u{d7} parse, 1 \u{d7} features";
    assert!(desc.starts_with(start), "{desc}");
}

#[test]
fn edges_have_arrow_heads_and_results_a_second_outline() {
    let mut graph = TaskGraph::new();
    let inputs: Vec<TaskId> = (0..4).map(|_| add(&mut graph, "inc", &[])).collect();
    let sum = add(&mut graph, "add", &inputs);
    graph.task_mut(sum).is_result = true;
    let svg = svg_of(&graph, Style::default());
    assert_eq!(svg.matches("class=\"a\"").count(), 4);
    assert_eq!(svg.matches("class=\"r\"").count(), 1);
    let areas = check(&svg);
    assert!(areas[..4].iter().all(|input| input.1 > areas[4].3), "data flows up");
    let right = check(&svg_of(&graph, style(Direction::Right, ColorBy::Name, Overview::Auto)));
    assert!(right[..4].iter().all(|input| input.2 < right[4].0), "data flows to the right");
}

#[test]
fn hostile_names_stay_text() {
    let long = "x\"<".repeat(400_000);
    let names = [
        "<script>alert(1)</script>",
        "]]></title><style>",
        "--><!--",
        "a\"b'c&d;&lt;",
        "new\nline\r\t\0\u{1b}[31m",
        "\u{202e}evil\u{2066}\u{200f}\u{feff}\u{ffff}",
        "\u{6f22}\u{5b57}",
        "\u{1f980}",
        "\\N\\\"",
        "",
        &long,
    ];
    let mut graph = TaskGraph::new();
    let tasks: Vec<TaskId> = names.iter().map(|name| add(&mut graph, name, &[])).collect();
    for (name, task) in names.iter().zip(&tasks) {
        let worker = graph.worker(name);
        graph.task_mut(*task).worker = Some(worker);
    }
    let last = add(&mut graph, names[0], &tasks);
    graph.task_mut(last).is_result = true;
    check_all(&graph);
    let picture = Sketch::of(&graph, Style::default()).expect("small").lay_out();
    let (svg, html, dot) = (picture.to_svg(), picture.to_html(), picture.sketch.to_dot());
    for text in [&svg, &html, &dot, &picture.sketch.outline()] {
        assert!(text.len() < 100_000, "{} bytes", text.len());
        assert!(!text.chars().any(|c| (c.is_control() && c != '\n')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}')));
    }
    assert!(!svg.contains("<script") && !svg.contains("]]>"));
    assert!(!html.contains("<script") && !html.contains("<!--"));
    let lines = dot.lines().filter(|line| line.contains("[label=\"")).count();
    assert_eq!(lines, names.len() + 1, "a line for each: {dot}");
}

#[test]
fn what_is_too_large_is_an_overview_or_refused() {
    let mut graph = TaskGraph::new();
    (0..200).for_each(|_| _ = add(&mut graph, "f", &[]));
    assert!(!Sketch::of(&graph, Style::default()).expect("small").is_overview());
    add(&mut graph, "f", &[]);
    assert!(Sketch::of(&graph, Style::default()).expect("an overview").is_overview());
    let never = style(Direction::Up, ColorBy::Name, Overview::Never);
    (201..2000).for_each(|_| _ = add(&mut graph, "f", &[]));
    assert_eq!(check(&svg_of(&graph, never)).len(), 2000);
    add(&mut graph, "f", &[]);
    let error = Sketch::of(&graph, never).expect_err("too many");
    assert_eq!(error, PictureError::TooLarge { tasks: 2001, edges: 0 });
    assert!(error.to_string().starts_with("a picture of 2,001 tasks with 0 edges one by one could not be read"));
    let mut rule = TaskGraph::new();
    let name = rule.name("f");
    rule.push_layer(Layer::new(name, 1_000_000));
    assert!(matches!(Sketch::of(&rule, never), Err(PictureError::TooLarge { tasks: 1_000_000, edges: 0 })));
    check_all(&rule);
}

#[test]
fn a_million_edges_are_one() {
    let mut graph = TaskGraph::new();
    let inputs: Vec<TaskId> = (0..1000).map(|_| add(&mut graph, "a", &[])).collect();
    (0..1000).for_each(|_| _ = add(&mut graph, "b", &inputs));
    let svg = svg_of(&graph, Style::default());
    assert!(svg.contains(">all to all \u{b7} 1 M</text>"), "{svg}");
    assert!(matches!(
        Sketch::of(&graph, style(Direction::Up, ColorBy::Name, Overview::Never)),
        Err(PictureError::TooLarge { edges: 1_000_000, .. })
    ));
}

#[test]
fn a_box_opens_to_its_first_tasks_and_a_page_stays_small() {
    let mut graph = TaskGraph::new();
    let read: Vec<TaskId> = (0..20_000).map(|_| add(&mut graph, "read", &[])).collect();
    read.iter().for_each(|task| _ = add(&mut graph, "parse", &[*task]));
    let html = Sketch::of(&graph, Style::default()).expect("an overview").lay_out().to_html();
    assert!(html.len() < 200_000, "{} bytes", html.len());
    assert!(html.contains("<a href=\"#g1\">") && html.contains("<section id=\"g1\">"));
    assert!(html.contains("<summary>50 more</summary>"));
    assert!(html.contains("of 20,000 tasks are listed."));
    assert_eq!(html.matches("<details>").count(), html.matches("</details>").count());
}

#[test]
fn names_without_end_stay_readable() {
    let mut graph = TaskGraph::new();
    let mut last = Vec::new();
    for i in 0..5000 {
        last = vec![add(&mut graph, &format!("name-{i}"), &last)];
    }
    let picture = Sketch::of(&graph, Style::default()).expect("an overview").lay_out();
    let (svg, html) = (picture.to_svg(), picture.to_html());
    assert!(check(&svg).len() < 300 && svg.contains("other names"));
    assert!(svg.len() + html.len() < 300_000);
}

#[test]
fn outlines_show_what_uses_what() {
    let mut graph = TaskGraph::new();
    let shared = add(&mut graph, "load", &[]);
    let parts: Vec<TaskId> = (0..2).map(|_| add(&mut graph, "part", &[shared])).collect();
    let many: Vec<TaskId> = (0..9).map(|_| add(&mut graph, "inc", &[])).collect();
    let sum = add(&mut graph, "sum", &[&parts[..], &many[..]].concat());
    graph.task_mut(sum).is_result = true;
    let text = Sketch::of(&graph, Style::default()).expect("small").outline();
    let short: Vec<String> = text.lines().map(|l| l.split(" (").next().unwrap_or_default().to_string()).collect();
    let expected = [
        "13 tasks, 13 edges",
        "sum",
        "\u{251c}\u{2500} part",
        "\u{2502}  \u{2514}\u{2500} load",
        "\u{251c}\u{2500} part",
        "\u{2502}  \u{2514}\u{2500} load",
        "\u{2514}\u{2500} 9 \u{d7} inc",
    ];
    assert_eq!(short, expected, "{text}");
    assert_eq!(text.matches("(the same)").count(), 1);
    let overview = style(Direction::Up, ColorBy::Name, Overview::Always);
    let text = Sketch::of(&graph, overview).expect("small").outline();
    assert_eq!(
        text,
        "13 tasks in 4 groups, 13 edges\nsum   1 task, 1 result\n  uses part: n to one, 2 edges\n  uses inc: n to one, 9 edges\n\
         inc   9 tasks\npart  2 tasks\n  uses load: one to n, 2 edges\nload  1 task\n"
    );
    let mut chain = TaskGraph::new();
    let mut last = Vec::new();
    (0..2000).for_each(|_| last = vec![add(&mut chain, "f", &last)]);
    let text = Sketch::of(&chain, style(Direction::Up, ColorBy::Name, Overview::Never)).expect("a chain").outline();
    assert!(text.lines().count() < 40, "{text}");
}

#[test]
fn names_are_coloured_by_rank_and_others_are_grey() {
    let mut graph = TaskGraph::new();
    for i in 0..8 {
        (0..=i).for_each(|_| _ = add(&mut graph, &format!("name-{i}"), &[]));
    }
    let svg = svg_of(&graph, Style::default());
    assert_eq!(svg.matches("class=\"n c0\"").count(), 8);
    assert_eq!(svg.matches("class=\"n c5\"").count(), 3);
    assert_eq!(svg.matches("class=\"n cx\"").count(), 1 + 2);
}
