//! Pictures as lines of text.

use super::graph::TaskId;
use super::groups::Groups;
use super::sketch::Sketch;
use super::text::{LONGEST, bytes, columns, cut, cut_to_columns, grouped, many, time};
use crate::{Counts, TaskState};
use std::fmt::Write;

/// The most lines for tasks.
const MOST_LINES: usize = 200;
/// So deep a task stands below its result, at most.
const DEEPEST: usize = 24;
/// So many tasks that use nothing and have one name are one line.
const ALIKE: usize = 7;

pub(super) fn outline(sketch: &Sketch<'_>) -> String {
    let (tasks, edges) = (many(sketch.graph.len(), "task"), many(sketch.graph.edges(), "edge"));
    match &sketch.groups {
        Some(groups) => {
            of_groups(sketch, groups, format!("{tasks} in {}, {edges}\n", many(groups.groups.len() as u64, "group")))
        }
        None => of_tasks(sketch, format!("{tasks}, {edges}\n")),
    }
}

/// What is still to be written: a task, or several that are alike.
struct Line {
    task: u32,
    alike: usize,
    /// What the lines below it begin with.
    prefix: String,
    /// What its own begins with.
    branch: &'static str,
    depth: usize,
}

fn of_tasks(sketch: &Sketch<'_>, mut out: String) -> String {
    let graph = sketch.graph;
    let mut written = vec![false; graph.tasks.len()];
    let mut lines = 0;
    let results = (0..).zip(&graph.tasks).filter(|(_, task)| task.is_result).map(|(number, _)| number);
    let mut roots: Vec<u32> = results.collect();
    if roots.is_empty() {
        roots.extend((graph.tasks.len() as u32).checked_sub(1));
    }
    let root = |task| Line { task, alike: 1, prefix: String::new(), branch: "", depth: 0 };
    let mut stack: Vec<Line> = roots.into_iter().rev().map(root).collect();
    while let Some(line) = stack.pop() {
        if lines == MOST_LINES {
            let left = written.iter().filter(|written| !**written).count();
            let _ = writeln!(out, "\u{2026} {} more", many(left as u64, "task"));
            break;
        }
        lines += 1;
        let Line { task, alike, prefix, branch, depth } = line;
        let inner = match branch {
            "" => String::new(),
            "\u{251c}\u{2500} " => format!("{prefix}\u{2502}  "),
            _ => format!("{prefix}   "),
        };
        out.push_str(&prefix);
        out.push_str(branch);
        if alike > 1 {
            let _ = writeln!(
                out,
                "{} \u{d7} {}",
                grouped(alike as u64),
                cut(graph.shown(graph.tasks[task as usize].name), 60)
            );
            continue;
        }
        push_task(&mut out, sketch, task);
        if written[task as usize] {
            out.push_str(if graph.inputs(task).is_empty() { "  (the same)\n" } else { "  (the same as above)\n" });
            continue;
        }
        out.push('\n');
        written[task as usize] = true;
        let inputs = graph.inputs(task);
        if depth == DEEPEST && !inputs.is_empty() {
            let _ = writeln!(out, "{inner}\u{2514}\u{2500} \u{2026} {} below", many(inputs.len() as u64, "task"));
            continue;
        }
        let mut below: Vec<Line> = Vec::new();
        let mut next = 0;
        while let Some(&input) = inputs.get(next) {
            let plain = |i: u32| graph.inputs(i).is_empty() && !graph.tasks[i as usize].is_result;
            let name = graph.tasks[input as usize].name;
            let same = |i: &&u32| plain(**i) && graph.tasks[**i as usize].name == name;
            let run = inputs[next..].iter().take_while(same).count();
            let alike = if run >= ALIKE { run } else { 1 };
            if alike > 1 {
                inputs[next..next + alike].iter().for_each(|&i| written[i as usize] = true);
            }
            below.push(Line {
                task: input,
                alike,
                prefix: inner.clone(),
                branch: "\u{251c}\u{2500} ",
                depth: depth + 1,
            });
            next += alike;
        }
        if let Some(last) = below.last_mut() {
            last.branch = "\u{2514}\u{2500} ";
        }
        stack.extend(below.into_iter().rev());
    }
    out
}

fn push_task(out: &mut String, sketch: &Sketch<'_>, number: u32) {
    let task = &sketch.graph.tasks[number as usize];
    let name = cut(sketch.graph.shown(task.name), 60);
    let _ = write!(out, "{name} ({})", cut(&sketch.graph.key(TaskId(number)), LONGEST));
    let marks = [(task.kind == super::NodeKind::Data).then_some("data"), task.is_result.then_some("result")];
    for fact in marks.into_iter().flatten().map(str::to_string).chain(sketch.facts(task)) {
        out.push_str("  ");
        out.push_str(&fact);
    }
}

/// Where tasks stand, in words.
fn states(counts: &Counts) -> String {
    let done = (counts.done() > 0).then(|| format!("{} done", grouped(counts.done())));
    let others = TaskState::ALL.into_iter().filter(|state| !matches!(state, TaskState::Memory | TaskState::Released));
    let others = others.filter(|state| counts[*state] > 0).map(|state| format!("{} {state}", grouped(counts[state])));
    done.into_iter().chain(others).collect::<Vec<_>>().join(", ")
}

fn of_groups(sketch: &Sketch<'_>, groups: &Groups, mut out: String) -> String {
    let names: Vec<String> = groups.groups.iter().map(|group| cut_to_columns(&sketch.group_name(group), 40)).collect();
    let width = names.iter().map(|name| columns(name)).max().unwrap_or_default();
    // Results are on top, as in a picture.
    for (number, group) in groups.groups.iter().enumerate().rev() {
        let what = if group.kind == super::NodeKind::Data { "value" } else { "task" };
        out.push_str(&names[number]);
        out.extend(std::iter::repeat_n(' ', width - columns(&names[number]) + 2));
        out.push_str(&many(group.len, what));
        let results = (group.results > 0).then(|| many(group.results, "result"));
        let counts = group.is_counted().then(|| states(&group.counts));
        let costs = [group.time.map(|t| format!("ran {}", time(t))), group.bytes.map(bytes)];
        for fact in [results, counts].into_iter().chain(costs).flatten() {
            out.push_str(", ");
            out.push_str(&fact);
        }
        out.push('\n');
        let to = groups.edges.iter().filter(|edge| edge.to == number).map(|edge| (edge.from, edge.edges, edge.link));
        let within = group.within.map(|(edges, link)| (number, edges, link));
        for (from, edges, link) in to.chain(within) {
            let _ = writeln!(out, "  uses {}: {}, {}", names[from], link.words(), many(edges, "edge"));
        }
    }
    out
}
