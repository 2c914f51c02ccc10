import { html } from "swath/html";
import { Answered, Facts, Listing, Name, Num, StateBar, UseBar, Empty, Words } from "swath/parts";
import { Stream } from "swath/stream";
import { date, grouped, many, percent, time } from "swath/format";

const TOP = 8;

export function StatusPage({ source, status }) {
  return html`<div class="grid">
    <section class="wide"><h2>Task stream <span class="dim">a row a thread · drag: zoom</span></h2>
      <${Answered} ask=${() => source.stream({ from: status.from_ns, to: status.until_ns, width: 1600 })}>${(stream) =>
        html`<${Stream} stream=${stream} startedMs=${status.started_ms} most=${16} />`}<//>
    </section>
    <section><h2>Top names <span class="dim">by time of their runs</span></h2>
      <${Answered} ask=${() => source.names({ limit: TOP })}>${(names) => html`<${TopNames} names=${names} />`}<//>
    </section>
    <section><h2>Where the threads’ time went</h2>
      <${Answered} ask=${() => source.diagnosis()}>${(diagnosis) =>
        diagnosis.threads
          ? html`<${UseBar} time=${diagnosis.use} /><${Change} findings=${diagnosis.findings} />`
          : html`<${Empty} title="No thread has run a task.">Here is what threads did with their time, once tasks have run.<//>`}<//>
    </section>
    <section class="wide progress"><h2>Progress <span class="dim">tasks by state</span></h2><${Progress} source=${source} /></section>
    <section class="wide"><h2>Facts</h2><${StatusFacts} status=${status} /></section>
  </div>`;
}

function Change({ findings }) {
  const some = findings.filter((finding) => finding.problem !== "nothing_to_improve").slice(0, 3);
  if (some.length === 0) return null;
  return html`<h3 class="after">What to change</h3><ul class="change">
    ${some.map((finding) => html`<li><b class="n">${time(finding.lost_ns)}</b> <span><${Words} text=${finding.advice} /></span></li>`)}
  </ul>`;
}

function TopNames({ names }) {
  if (names.total === 0)
    return html`<${Empty} title="Nothing has run.">Names of functions come here, those that took the most time first.<//>`;
  const more = names.total + names.missing - names.rows.length;
  return html`<ol class="top">
    ${names.rows.map((row) => html`<li>
      <${Name} name=${row.name} rank=${row.rank} />
      <span class="share"><i class="c${row.rank < 6 ? row.rank : "o"}" style=${{ width: `${100 * row.share}%` }}></i></span>
      <b class="n"><${Num} value=${row.took_ns} text=${percent(row.share)} title=${`Part of the time of all runs; ${time(row.took_ns)}`} /></b>
      <span class="n dim"><${Num} value=${row.runs} text=${many(row.runs, "run")} title="Runs of this name, all attempts" /></span>
    </li>`)}
    ${more > 0 && html`<li class="dim">${many(more, "other name")}</li>`}
  </ol>`;
}

export function Progress({ source, search = "" }) {
  const columns = [
    { title: "name", is: "wide", cell: (row) => html`<${Name} name=${row.layer ?? row.name} rank=${row.rank} title=${row.name} />` },
    { title: "graph", is: "n", cell: (row) => (row.graph === null ? "several" : (row.label ?? row.graph)), help: "Graphs are numbered as they were submitted" },
    { title: "", is: "fill", cell: (row) => html`<${StateBar} counts=${row.counts} rank=${row.rank} />` },
    {
      title: "done",
      is: "n",
      help: "In memory and released, of all tasks",
      cell: (row) => {
        const done = row.counts.memory + row.counts.released;
        const all = Object.values(row.counts).reduce((sum, n) => sum + n, 0);
        return html`<${Num} value=${done} text=${`${grouped(done)}/${grouped(all)}`} title=${`${done} of ${all} tasks done`} />`;
      },
    },
    { title: "time", is: "n", help: "Sum of the times of runs", cell: (row) => html`<${Num} value=${row.took_ns} text=${time(row.took_ns)} />` },
    {
      title: "not done",
      is: "n",
      help: "Failed and cancelled tasks, and those that nobody needed",
      cell: (row) => {
        const words = ["failed", "cancelled", "unneeded"].filter((state) => row.counts[state] > 0);
        return words.map((state) => html`<span class=${state === "failed" ? "bad" : "dim"}>${grouped(row.counts[state])} ${state} </span>`);
      },
    },
  ];
  return html`<${Listing} ask=${(page) => source.groups(page)} columns=${columns} search=${search} more="groups" label="Progress by group"
    empty=${html`<${Empty} title="No task is known.">Here is a bar for each name of each graph: <code>compute</code>, <code>persist</code>, <code>submit</code> and <code>map</code> make them.<//>`} />`;
}

function StatusFacts({ status }) {
  return html`<${Facts} facts=${[
    ["began", date(status.started_ms)],
    ["took", time(status.wall_ns), "From the first submission, or start of a task, to the last end"],
    ["workers", grouped(status.workers)],
    ["threads", grouped(status.threads)],
    ["tasks", grouped(Object.values(status.counts).reduce((sum, n) => sum + n, 0))],
    ["runs", html`<${Num} value=${status.runs} text=${grouped(status.runs)} title="Attempts: a task that is retried has several" />`],
    ["in sums only", status.folded ? grouped(status.folded) : null],
    ["failed runs", html`<${Num} value=${status.failed_runs} text=${grouped(status.failed_runs)} />`],
    ["deaths of workers", grouped(status.deaths)],
    ["events", grouped(status.events)],
    ["complete", status.complete ? "yes" : "no"],
  ]} />
  ${status.problems.length > 0 && html`<ul class="problems">${status.problems.map((problem) => html`<li>${problem}</li>`)}</ul>`}`;
}
