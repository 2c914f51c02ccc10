//! What a report shows without JavaScript: summary, diagnosis, names and deaths.

use crate::diagnosis::Problem;
use crate::log::Use;
use crate::picture::text::{bytes, grouped, push_escaped, time};
use crate::source::{Answer, Death, DiagnosisAnswer, NameRow, Page, Rows, RunState, Source, Status};
use std::fmt::Write;
use std::time::Duration;

pub(super) fn push_page(out: &mut String, source: &dyn Source, status: &Status) -> Answer<()> {
    let class = if status.state == RunState::Failed { " class=\"bad\"" } else { "" };
    let _ = write!(out, "<main id=\"plain\">\n<h1{class}>");
    push_escaped(out, &status.first_line);
    out.push_str("</h1>\n<p>");
    push_escaped(out, &status.second_line);
    out.push_str("</p>\n<noscript><p class=\"note\">With JavaScript this page shows more: what each thread ran, memory, the profile, logs. Nothing is loaded from elsewhere.</p></noscript>\n");
    push_summary(out, source, status)?;
    push_diagnosis(out, &source.diagnosis()?);
    push_names(out, &source.names(&Page::default())?);
    push_deaths(out, &source.deaths(&Page::default())?);
    out.push_str("</main>\n");
    Ok(())
}

fn ns(ns: u64) -> String {
    time(Duration::from_nanos(ns))
}

/// A number with what it is in a unit that a script can read.
fn push_data(out: &mut String, value: u64, text: &str) {
    let _ = write!(out, "<data value=\"{value}\">");
    push_escaped(out, text);
    out.push_str("</data>");
}

fn push_fact(out: &mut String, name: &str, text: &str) {
    let _ = write!(out, "<tr><th scope=\"row\">{name}</th><td>");
    push_escaped(out, text);
    out.push_str("</td></tr>\n");
}

fn push_summary(out: &mut String, source: &dyn Source, status: &Status) -> Answer<()> {
    let system = source.system()?;
    out.push_str("<h2>Summary</h2>\n<table><tbody>\n");
    push_fact(out, "What", &status.title);
    push_fact(out, "Tasks", &status.counts.to_string());
    let mut runs = grouped(status.runs);
    if status.folded > 0 {
        let _ = write!(runs, ", {} of them in sums only", grouped(status.folded));
    }
    if status.lost > 0 {
        let _ = write!(runs, ", {} more are missing", grouped(status.lost));
    }
    push_fact(out, "Runs", &runs);
    push_fact(out, "Failed runs", &grouped(status.failed_runs));
    push_fact(out, "Took", &ns(status.wall_ns));
    push_fact(
        out,
        "Workers, threads",
        &format!("{}, {}", grouped(status.workers as u64), grouped(status.threads as u64)),
    );
    let machine = &system.machine;
    let of = format!("{} processors, {}, {}", machine.processors, bytes(machine.memory), machine.system);
    push_fact(out, "Machine", &of);
    push_fact(out, "Written by", &format!("swath {}, report by swath-insight {}", system.swath, system.insight));
    for problem in &status.problems {
        push_fact(out, "Missing", problem);
    }
    out.push_str("</tbody></table>\n");
    Ok(())
}

fn push_diagnosis(out: &mut String, diagnosis: &DiagnosisAnswer) {
    out.push_str("<h2>Diagnosis</h2>\n");
    if diagnosis.threads == 0 {
        out.push_str("<p>Nothing has run.</p>\n");
        return;
    }
    let _ = write!(out, "<p>{} threads for ", diagnosis.threads);
    push_data(out, diagnosis.wall_ns, &ns(diagnosis.wall_ns));
    out.push_str("; their work takes ");
    push_data(out, diagnosis.ideal_ns, &ns(diagnosis.ideal_ns));
    out.push_str(" at least");
    if let Some(path) = &diagnosis.critical_path {
        let _ = write!(out, ", the longest chain of {} tasks that need each other ", grouped(path.tasks as u64));
        push_data(out, path.took_ns, &ns(path.took_ns));
    }
    out.push_str(".</p>\n<table><thead><tr><th>lost</th><th>to what</th><th>what to change</th></tr></thead><tbody>\n");
    for finding in &diagnosis.findings {
        out.push_str("<tr><td class=\"n\">");
        let lost = crate::log::nanos::of(finding.lost);
        push_data(out, lost, &if finding.problem == Problem::NothingToImprove { "–".to_string() } else { ns(lost) });
        out.push_str("</td><td>");
        push_escaped(out, &finding.what);
        out.push_str("</td><td>");
        push_escaped(out, &finding.advice);
        out.push_str("</td></tr>\n");
    }
    out.push_str(
        "</tbody></table>\n<table><thead><tr><th>time of threads</th><th>share</th><th>time</th></tr></thead><tbody>\n",
    );
    for (of, time) in diagnosis.time.ranked() {
        let of: Use = of;
        let share = 100.0 * diagnosis.time.share(of);
        let _ = write!(out, "<tr><td>{of}</td><td class=\"n\">{share:.1} %</td><td class=\"n\">");
        push_data(out, crate::log::nanos::of(time), &crate::picture::text::time(time));
        out.push_str("</td></tr>\n");
    }
    out.push_str("</tbody></table>\n");
}

fn push_names(out: &mut String, names: &Rows<NameRow>) {
    out.push_str("<h2>Names</h2>\n");
    if names.rows.is_empty() {
        out.push_str("<p>Nothing has run.</p>\n");
        return;
    }
    out.push_str("<table><thead><tr><th>name</th><th>share</th><th>time</th><th>runs</th><th>failed</th><th>usual</th><th>longest</th></tr></thead><tbody>\n");
    for name in &names.rows {
        out.push_str("<tr><td class=\"name\">");
        push_escaped(out, &name.name);
        let _ = write!(out, "</td><td class=\"n\">{:.1} %</td><td class=\"n\">", 100.0 * name.share);
        let took = crate::log::nanos::of(name.cost.took);
        push_data(out, took, &ns(took));
        out.push_str("</td><td class=\"n\">");
        push_data(out, name.cost.runs, &grouped(name.cost.runs));
        let _ = write!(out, "</td><td class=\"n\">{}</td><td class=\"n\">", grouped(name.cost.failed));
        out.push_str(&name.usual_ns.map_or_else(|| "–".to_string(), ns));
        let _ = write!(out, "</td><td class=\"n\">{}</td></tr>", time(name.cost.longest));
        out.push('\n');
    }
    out.push_str("</tbody></table>\n");
    push_more(out, names.total - names.rows.len().min(names.total), "names");
}

fn push_deaths(out: &mut String, deaths: &Rows<Death>) {
    out.push_str("<h2>Deaths</h2>\n");
    if deaths.rows.is_empty() {
        out.push_str("<p>No worker has died.</p>\n");
        return;
    }
    out.push_str(
        "<table><thead><tr><th>at</th><th>worker</th><th>why</th><th>ran</th><th>last words</th></tr></thead><tbody>\n",
    );
    for death in &deaths.rows {
        let _ = write!(out, "<tr><td class=\"n\">{}</td><td>", ns(death.at_ns));
        push_escaped(out, &death.worker);
        let _ = write!(out, " (pid {})</td><td>", death.pid);
        push_escaped(out, &death.reason);
        out.push_str("</td><td>");
        for task in death.running.iter().take(4) {
            push_escaped(out, &format!("{} for {} ", task.key, ns(task.ran_ns)));
        }
        out.push_str("</td><td>");
        for line in &death.last_lines {
            push_escaped(out, &line.text);
            out.push_str("<br>");
        }
        out.push_str("</td></tr>\n");
    }
    out.push_str("</tbody></table>\n");
    push_more(out, deaths.total - deaths.rows.len().min(deaths.total), "deaths");
}

fn push_more(out: &mut String, more: usize, what: &str) {
    if more > 0 {
        let _ = writeln!(out, "<p>and {} more {what}</p>", grouped(more as u64));
    }
}
