import { html } from "swath/html";
import { Answered, Empty, Listing, Name, Num, Time, UseBar, Words } from "swath/parts";
import { grouped, many, percent, time } from "swath/format";

const WORDS = {
  tasks_too_small: "Tasks too small",
  too_few_tasks: "Too few tasks at once",
  straggler: "One straggler",
  slow_client: "The program was the bottleneck",
  memory: "Waits for memory",
  bytes_moved: "Bytes moved",
  spilling: "Spilling",
  recomputed: "Recomputed work",
  failed_runs: "Failed runs",
  workers_lost: "Workers lost",
  starting: "Workers started late",
  nothing_to_improve: "Nothing to improve",
};

/** `waits_for_memory` of a later version as words. */
const words = (problem) => WORDS[problem] ?? problem.replaceAll("_", " ").replace(/^./, (c) => c.toUpperCase());
const sentence = (text) => text.replace(/^[a-z]/, (c) => c.toUpperCase());

export function DiagnosisPage({ source }) {
  return html`<${Answered} ask=${() => source.diagnosis()}>${(of) =>
    of.threads === 0
      ? html`<${Empty} title="Nothing has run.">Here is what became of the time of threads, and what to change, once tasks have run.<//>`
      : html`<div class="grid">
          <section class="wide"><h2>Bounds</h2><${Bounds} of=${of} /></section>
          <section class="wide"><h2>Findings <span class="dim">what time of threads was lost to</span></h2><${Findings} of=${of} /></section>
          <section class="wide"><h2>Where the threads’ time went</h2><${UseBar} time=${of.use} /></section>
          <section class="wide"><h2>Names</h2><${Names} source=${source} /></section>
        </div>`}<//>`;
}

function Bounds({ of }) {
  const path = of.critical_path;
  const most = Math.max(of.wall_ns, of.ideal_ns, path?.took_ns ?? 0, 1);
  const bars = [
    ["took", of.wall_ns, "From the first submission, or start of a task, to the last end", "co"],
    ["work ÷ threads", of.ideal_ns, `The sum of all runs, ${time(of.work_ns)}, on ${many(of.threads, "thread")}`, "c0"],
    path && ["longest chain", path.took_ns, `${many(path.tasks, "task")} that need each other`, "c1"],
  ].filter(Boolean);
  const over = of.wall_ns / Math.max(1, of.ideal_ns, path?.took_ns ?? 0);
  const bound = path && path.took_ns > of.ideal_ns ? "the longest chain of tasks" : "the work itself";
  return html`<div>
    <ul class="bounds">${bars.map(([name, ns, title, colour]) => html`<li title=${title}>
      <span>${name}</span><span class="share"><i class=${colour} style=${{ width: `${(100 * ns) / most}%` }}></i></span>
      <b class="n"><${Time} ns=${ns} title=${title} /></b>
    </li>`)}</ul>
    <p>It took ${over >= 10 ? over.toFixed(0) : over.toFixed(1)} times as long as ${bound} on ${many(of.threads, "thread")}.
    ${!path && html` <span class="dim">The longest chain of tasks that need each other is not known: the log has no inputs of tasks.</span>`}</p>
    ${path && html`<details><summary>the longest chain</summary><ol class="keys">${path.keys.map((key) => html`<li><code>${key}</code></li>`)}</ol></details>`}
    ${of.missing > 0 && html`<p class="note">${many(of.missing, "run")} are in none of these numbers: the log has their sums at most.</p>`}
  </div>`;
}

function Findings({ of }) {
  return html`<ol class="findings">${of.findings.map((finding) => html`<li>
    <h3>${words(finding.problem)}
      ${finding.problem !== "nothing_to_improve" && html`<span class="lost"><${Num} value=${finding.lost_ns} text=${`${time(finding.lost_ns)} lost`}
        title=${`Time of threads, ${percent(finding.lost_ns / Math.max(1, of.threads * of.wall_ns))} of all`} /></span>`}</h3>
    <p><${Words} text=${sentence(finding.what)} /> <span class="advice"><${Words} text=${finding.advice} /></span></p>
  </li>`)}</ol>`;
}

function Names({ source }) {
  const columns = [
    { title: "name", is: "wide", cell: (row) => html`<${Name} name=${row.name} rank=${row.rank} />` },
    { title: "share", is: "n", help: "Of the time of all runs", cell: (row) => percent(row.share) },
    { title: "time", is: "n", help: "Sum of the times of runs", cell: (row) => html`<${Num} value=${row.took_ns} text=${time(row.took_ns)} />` },
    { title: "CPU", is: "n", help: "On a processor, as far as it was measured", cell: (row) => (row.cpu_ns ? time(row.cpu_ns) : "–") },
    { title: "runs", is: "n", help: "All attempts", cell: (row) => html`<${Num} value=${row.runs} text=${grouped(row.runs)} />` },
    { title: "failed", is: "n", cell: (row) => (row.failed ? html`<b class="bad">${grouped(row.failed)}</b>` : "0") },
    { title: "usual", is: "n", help: "Median of the times of runs", cell: (row) => time(row.usual_ns) },
    { title: "longest", is: "n", cell: (row) => time(row.longest_ns) },
  ];
  return html`<${Listing} ask=${(page) => source.names(page)} columns=${columns} more="names" label="Names by time" />`;
}
