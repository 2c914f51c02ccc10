//! Pictures as a page of HTML.
//!
//! The page has no script: a box of an overview is a link to a section that the style sheet shows while it is the target, and
//! more tasks are behind `details`. So its policy allows its two style sheets, by their hashes, and nothing else.

use super::graph::TaskId;
use super::groups::{Group, Groups};
use super::sketch::{Picture, Sketch};
use super::svg::{CSS, push_svg, title};
use super::text::{LONGEST, cut, grouped, many, push_escaped};
use std::fmt::Write;

const PAGE_CSS: &str = include_str!("page.css");
/// The SHA-256 of the style sheets in base64; a test compares.
const CSS_HASH: &str = "Etb0TEsfGpee7eP4S9SobeHaVTfZfdAwNqfAxJdcBiA=";
const PAGE_CSS_HASH: &str = "Q2pBlb4U47Rw2CpNzoiIkc6encA5SU4gRiomoGdy5+8=";

/// So many tasks of a box are shown at a time.
const STEP: usize = 50;
/// All lists of tasks together take no more than this.
const MOST_BYTES: usize = 110_000;

pub(super) fn html(picture: &Picture<'_>) -> String {
    let sketch = &picture.sketch;
    let mut out = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    let _ = write!(
        out,
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{CSS_HASH}' \
         'sha256-{PAGE_CSS_HASH}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>"
    );
    push_escaped(&mut out, &title(picture));
    let _ =
        write!(out, "</title>\n<style>{CSS}</style>\n<style>{PAGE_CSS}</style>\n</head>\n<body>\n<h1 id=\"picture\">");
    push_escaped(&mut out, &title(picture));
    out.push_str("</h1>\n<p class=\"d\">");
    push_escaped(&mut out, &sketch.description());
    if sketch.is_overview() {
        out.push_str(" Click a box for its tasks.");
    }
    out.push_str("</p>\n<figure>");
    push_svg(&mut out, picture, true);
    out.push_str("</figure>\n<details><summary>The same as text</summary><pre>");
    push_escaped(&mut out, &sketch.outline());
    out.push_str("</pre></details>\n");
    if let Some(groups) = &sketch.groups {
        push_sections(&mut out, sketch, groups);
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn push_sections(out: &mut String, sketch: &Sketch<'_>, groups: &Groups) {
    let most = MOST_BYTES / groups.groups.len().max(1);
    for ((number, group), vertex) in groups.groups.iter().enumerate().zip(&sketch.vertices) {
        let _ = write!(out, "<section id=\"g{number}\"><a class=\"x\" href=\"#picture\">close</a><h2>");
        let (name, facts) = vertex.title.split_once('\n').unwrap_or((&vertex.title, ""));
        push_escaped(out, name);
        out.push_str("</h2><pre class=\"d\">");
        push_escaped(out, facts);
        out.push_str("</pre>");
        push_list(out, sketch, group, most);
        out.push_str("</section>\n");
    }
}

/// The first tasks of a group, 50 at a time.
fn push_list(out: &mut String, sketch: &Sketch<'_>, group: &Group, most: usize) {
    let before = out.len();
    let (mut listed, mut open) = (0, 0);
    for steps in group.first.chunks(STEP) {
        if listed > 0 {
            let _ = write!(out, "<details><summary>{} more</summary>", steps.len());
            open += 1;
        }
        let _ = write!(out, "<ol start=\"{}\">", listed + 1);
        for &task in steps {
            // The first ones are always there.
            if listed >= STEP && out.len() - before > most {
                break;
            }
            push_row(out, sketch, task);
            listed += 1;
        }
        out.push_str("</ol>");
        if listed >= STEP && out.len() - before > most {
            break;
        }
    }
    let left = group.len - listed as u64;
    if left > 0 && listed > 0 {
        let _ = write!(out, "<p class=\"d\">{} of {} are listed.</p>", grouped(listed as u64), many(group.len, "task"));
    } else if left > 0 {
        out.push_str("<p class=\"d\">They are held as a rule, by which they are made when they run.</p>");
    }
    out.extend(std::iter::repeat_n("</details>", open));
    out.push('\n');
}

fn push_row(out: &mut String, sketch: &Sketch<'_>, number: u32) {
    let graph = sketch.graph;
    out.push_str("<li><code>");
    push_escaped(out, &cut(&graph.key(TaskId(number)), LONGEST));
    out.push_str("</code>");
    let mut facts: Vec<String> = sketch.facts(&graph.tasks[number as usize]).collect();
    let inputs = graph.inputs(number);
    if let Some(&first) = inputs.first() {
        let more = inputs.len() - 1;
        let more = if more > 0 { format!(" and {} more", grouped(more as u64)) } else { String::new() };
        facts.push(format!("uses {}{more}", cut(&graph.key(TaskId(first)), 60)));
    }
    if !facts.is_empty() {
        out.push_str("<br><span class=\"d\">");
        push_escaped(out, &facts.join(" \u{b7} "));
        out.push_str("</span>");
    }
    out.push_str("</li>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_policy_names_the_style_sheets() {
        for (sheet, hash) in [(CSS, CSS_HASH), (PAGE_CSS, PAGE_CSS_HASH)] {
            let digest = Sha256::digest(sheet.as_bytes());
            assert_eq!(base64::engine::general_purpose::STANDARD.encode(digest), hash);
        }
    }
}
