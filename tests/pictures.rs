//! Pictures of graphs: the four of the courses, compared with files that were looked at, what a picture says of collections
//! and of runs, and files that cannot be written.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use roxmltree::{Document, Node};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use swath::client::picture::{ColorBy, Direction, Form, Layout, Overview, Picture, PictureError, Visualize};
use swath::collection::{Chunks, CollectionExt, Input, Layer};
use swath::{Bag, Client, Delayed, Error, delayed};

fn inc(x: i64) -> i64 {
    x + 1
}

fn double(x: i64) -> i64 {
    x * 2
}

fn add(a: i64, b: i64, c: i64, d: i64) -> i64 {
    a + b + c + d
}

fn sum(values: Vec<i64>) -> i64 {
    values.iter().sum()
}

/// Five calls, as the second course draws them.
fn inc_add() -> Delayed<i64> {
    let inc = |x: i64| delayed(inc).call(x);
    delayed(add).call(inc(10), inc(20), inc(30), inc(40))
}

fn a_loop() -> Delayed<i64> {
    delayed(sum).call(delayed(inc).map(1..5))
}

fn condition() -> Delayed<i64> {
    let call = |x: i64| if x % 2 == 0 { delayed(double).call(x) } else { delayed(inc).call(x) };
    delayed(sum).call((1..10).map(call).collect::<Vec<_>>())
}

fn nested_sum() -> Delayed<i64> {
    let row = |i: i64| delayed(sum).call(delayed(inc).map(3 * i..3 * i + 3));
    delayed(sum).call((0..3).map(row).collect::<Vec<_>>())
}

/// Hashes of keys differ from run to run.
fn without_hashes(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('-') {
        let (before, behind) = rest.split_at(at + 1);
        out.push_str(before);
        let digits = behind.chars().take_while(char::is_ascii_hexdigit).count();
        rest = if digits == 16 { &behind[16..] } else { behind };
        out.push_str(if digits == 16 { "HASH" } else { "" });
    }
    out + rest
}

#[test]
fn the_pictures_of_the_courses_are_as_they_were_looked_at() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures");
    let graphs = [("inc_add", inc_add()), ("loop", a_loop()), ("condition", condition()), ("nested_sum", nested_sum())];
    for (name, graph) in graphs {
        let file = folder.join(format!("{name}.svg"));
        let drawn = without_hashes(&Picture::of(&graph).unwrap().to_svg().unwrap());
        // What has changed is to be looked at before it is written here.
        if std::env::var_os("SWATH_WRITE_PICTURES").is_some() {
            fs::write(&file, &drawn).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap();
        assert!(drawn == expected, "{name}.svg differs; SWATH_WRITE_PICTURES=1 writes it anew:\n{drawn}");
    }
}

/// The names on the tasks of a picture.
fn names(svg: &str) -> Vec<String> {
    let document = Document::parse(svg).unwrap();
    let is_vertex = |n: &Node<'_, '_>| n.attribute("class").is_some_and(|class| class.starts_with("n "));
    let vertices = document.descendants().filter(is_vertex);
    let name = |n: Node<'_, '_>| n.descendants().find(|n| n.has_tag_name("text"))?.text().map(str::to_string);
    let mut names: Vec<String> = vertices.filter_map(name).collect();
    names.sort();
    names
}

fn arrows(svg: &str) -> usize {
    svg.matches("class=\"a\"").count()
}

#[test]
fn tasks_and_edges_are_as_in_the_courses() {
    let svg = |graph: &Delayed<i64>| Picture::of(graph).unwrap().to_svg().unwrap();
    let (first, third) = (svg(&inc_add()), svg(&condition()));
    assert_eq!((names(&first).join(" ").as_str(), arrows(&first)), ("add inc inc inc inc", 4));
    let expected = "double double double double inc inc inc inc inc sum";
    assert_eq!((names(&third).join(" ").as_str(), arrows(&third)), (expected, 9));
}

#[test]
fn lists_tuples_futures_and_what_is_persisted_are_drawn() {
    let client = Client::threads(1);
    let (a, b) = (delayed(inc).call(1), delayed(double).call(2));
    assert_eq!(names(&Picture::of(&(&a, &b)).unwrap().to_svg().unwrap()).join(" "), "double inc");
    assert!(vec![a.clone(), b].outline().unwrap().starts_with("2 tasks, 0 edges\ninc (inc-"));
    let nothing: Vec<Delayed<i64>> = Vec::new();
    assert_eq!(nothing.outline().unwrap(), "0 tasks, 0 edges\n");
    let kept = client.persist(&a).unwrap();
    let next = delayed(double).call(&kept);
    let outline = next.outline().unwrap();
    assert!(outline.lines().nth(2).is_some_and(|line| line.ends_with("  data  memory")), "{outline}");
    let future = client.submit(&next).unwrap();
    assert_eq!(names(&Picture::of(&future).unwrap().to_svg().unwrap()).join(" "), "double");
}

#[test]
fn a_collection_is_drawn_as_it_is_written_and_as_it_runs() {
    let bag = Bag::range(0..100, 4).map(|x| x * 2).name("twice").filter(|x| x % 3 == 0).name("thirds");
    let picture = Picture::of(&bag).unwrap();
    let written = names(&picture.to_svg().unwrap());
    assert_eq!(written.len(), 12, "{written:?}");
    let run = picture.form(Form::AsRun).to_svg().unwrap();
    assert_eq!(names(&run), ["thirds"; 4]);
    assert!(run.contains("steps: ") && run.contains(" \u{2192} thirds"), "{run}");
    assert_eq!(bag.to_delayed()[0].to_dot().matches("[label").count(), 1);
}

/// A million tasks in four layers that are rules.
fn rules() -> Chunks<Vec<u64>> {
    let ramp = |number: std::sync::Arc<u64>| vec![*number];
    let numbers: Chunks<Vec<u64>> = Layer::over((Input::each(0..250_000_u64),)).as_rule().chunks(ramp);
    let step = |chunks: &Chunks<Vec<u64>>, name: &str| {
        let next = Layer::over((Input::chunk(chunks),)).as_rule().chunks(|x: std::sync::Arc<Vec<u64>>| x.to_vec());
        next.name(name)
    };
    step(&step(&step(&numbers.name("ramp"), "clean"), "scale"), "total")
}

#[test]
fn a_million_tasks_of_rules_are_counted_and_never_made() {
    let chunks = rules();
    let began = Instant::now();
    let picture = Picture::of(&chunks).unwrap();
    let (svg, html) = (picture.to_svg().unwrap(), picture.to_html().unwrap());
    let took = began.elapsed();
    assert_eq!(names(&svg).iter().filter(|name| !name.contains(' ')).count(), 4, "{svg}");
    assert!(svg.contains("Graph of 1,000,000 tasks") && svg.contains("one to one \u{b7} 250 k"));
    assert!(took.as_secs_f64() < 1.0 && svg.len().max(html.len()) < 200_000, "{took:?}, {} bytes", html.len());
    let error = picture.overview(Overview::Never).to_svg().unwrap_err();
    assert!(matches!(error, Error::Picture(PictureError::TooLarge { tasks: 1_000_000, edges: 750_000 })), "{error}");
    // What is small is drawn task by task, rule or not.
    let few: Chunks<u64> = Layer::over((Input::each(0..5_u64),)).as_rule().chunks(|x: std::sync::Arc<u64>| *x);
    assert_eq!(names(&Picture::of(&few.name("few")).unwrap().to_svg().unwrap()), ["few"; 5]);
}

#[test]
fn steps_of_rules_that_run_in_one_pass_are_one_layer() {
    use std::sync::Arc;
    let source: Chunks<Vec<u64>> = Layer::over((Input::each(0..3000_u64),)).as_rule().elements(|n: Arc<u64>| 0..*n);
    let step = Layer::over((Input::elements(&source),)).as_rule();
    let twice = step.elements(|x: swath::collection::Elements<u64>| x.map(|x| 2 * x)).name("twice");
    let picture = Picture::of(&twice).unwrap();
    assert!(picture.to_svg().unwrap().contains("Graph of 6,000 tasks"));
    let run = picture.form(Form::AsRun);
    assert!(run.to_svg().unwrap().contains("Graph of 3,000 tasks"), "{}", run.outline().unwrap());
    assert!(run.to_svg().unwrap().contains("steps of each: "));
}

#[test]
fn how_tasks_ran_is_shown() {
    for client in [Client::sync(), Client::threads(2), Client::local(2, 1, "256MB").unwrap()] {
        let graph = inc_add();
        assert_eq!(client.compute(&graph).unwrap(), 104);
        let picture = Picture::of(&graph).unwrap().events(&client.events().unwrap());
        let states = picture.clone().color_by(ColorBy::State).to_svg().unwrap();
        assert_eq!((states.matches("s-released\"").count(), states.matches("s-memory\"").count()), (4, 1), "{states}");
        for color_by in [ColorBy::Time, ColorBy::Worker, ColorBy::Bytes] {
            let picture = picture.clone().color_by(color_by).direction(Direction::Right);
            assert_eq!(names(&picture.to_svg().unwrap()).len(), 5);
        }
        assert!(picture.outline().unwrap().contains("  ran "));
        let overview = picture.overview(Overview::Always);
        assert!(overview.to_svg().unwrap().contains(">4 tasks done</text>"));
    }
    let failing = delayed(|x: i64| 1 / x).name("fails").call(0);
    let client = Client::threads(1);
    client.compute(&failing).unwrap_err();
    let picture = Picture::of(&failing).unwrap().events(&client.events().unwrap()).color_by(ColorBy::State);
    assert!(picture.to_svg().unwrap().contains("s-failed\""));
}

#[test]
fn hostile_names_are_harmless() {
    let name = "<script>\"'&\n\u{202e}]]>";
    let graph = delayed(inc).name(name).call(delayed(inc).name("x".repeat(1 << 20)).call(1));
    let picture = Picture::of(&graph).unwrap();
    let svg = picture.to_svg().unwrap();
    assert_eq!(names(&svg)[0], "<script>\"'&\u{240a}\u{fffd}]]>");
    assert!(svg.len() + picture.to_html().unwrap().len() < 50_000);
    assert!(picture.to_dot().unwrap().contains("label=\"<script>\\\"'&amp;\u{240a}\u{fffd}]]>\""));
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("swath-pictures-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn the_ending_says_what_is_written() {
    let (graph, folder) = (inc_add(), folder("endings"));
    for (name, start) in [("a.svg", "<svg "), ("a.html", "<!doctype html>"), ("a.dot", "digraph {"), ("A.SVG", "<svg ")]
    {
        let file = folder.join(name);
        fs::write(&file, "old").unwrap();
        graph.visualize(&file).unwrap();
        assert!(fs::read_to_string(&file).unwrap().starts_with(start), "{name}");
    }
    Bag::range(0..4, 2).visualize(folder.join("bag.svg")).unwrap();
    for name in ["a", "a.jpg", "svg", ".svg", "a.svg.gz", "a."] {
        let error = graph.visualize(folder.join(name)).unwrap_err();
        assert!(matches!(error, Error::Picture(PictureError::Ending { .. })), "{name}: {error}");
        assert!(!folder.join(name).exists());
    }
    let image = graph.visualize(folder.join("a.png"));
    if cfg!(feature = "picture-png") {
        assert!(fs::read(folder.join("a.png")).unwrap().starts_with(b"\x89PNG\r\n"));
        fs::remove_file(folder.join("a.png")).unwrap();
    } else {
        let error = image.unwrap_err();
        assert!(matches!(error, Error::Picture(PictureError::Feature { feature: "picture-png", .. })), "{error}");
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 5, "nothing else is left behind");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_and_stays_as_it_is() {
    let (graph, folder) = (inc_add(), folder("unwritable"));
    fs::create_dir(folder.join("directory.svg")).unwrap();
    let long = format!("{}.svg", "x".repeat(300));
    let paths =
        [folder.join("directory.svg"), folder.join("none/there.svg"), folder.join(long), "/proc/version.svg".into()];
    for path in paths {
        let error = graph.visualize(&path).unwrap_err();
        assert!(matches!(&error, Error::Resource { resource, .. } if resource.ends_with(".svg")), "{error}");
    }
    fs::remove_dir_all(folder).unwrap();
}

fn has_graphviz() -> bool {
    Command::new("dot").arg("-V").stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[test]
fn graphviz_takes_ours_and_its_layout_is_drawn_where_it_is_installed() {
    let graphs = [inc_add(), condition(), delayed(inc).name("<script>\"\\N\n\u{202e}&amp;{|}").call(1)];
    if !has_graphviz() {
        let error = Picture::of(&graphs[0]).unwrap().layout(Layout::Graphviz).to_svg().unwrap_err();
        assert!(matches!(error, Error::Picture(PictureError::Graphviz { .. })), "{error}");
        return;
    }
    for graph in graphs {
        for overview in [Overview::Never, Overview::Always] {
            let picture = Picture::of(&graph).unwrap().overview(overview);
            let dot = picture.to_dot().unwrap();
            let file = folder("graphviz").join("graph.dot");
            fs::write(&file, &dot).unwrap();
            let output = Command::new("dot").arg("-Tsvg").arg(&file).output().unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{dot}\n{output:?}");
            for direction in [Direction::Up, Direction::Right] {
                let laid_out = picture.clone().direction(direction).layout(Layout::Graphviz).to_svg().unwrap();
                assert_eq!(names(&laid_out), names(&picture.to_svg().unwrap()));
            }
        }
    }
    fs::remove_dir_all(folder("graphviz")).unwrap();
}
