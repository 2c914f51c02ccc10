import { html } from "swath/html";
import { Answered, Empty, Listing, Name, Num, UseBar } from "swath/parts";
import { bytes, grouped, percent, time, USES } from "swath/format";

const STATES = { seen: "ran tasks", lost: "† died", paused: "paused", stalled: "! no answer", retired: "retired", ready: "ready", starting: "starting" };

export function WorkersPage({ source }) {
  return html`<section class="wide"><h2>Workers</h2>
    <${Listing} ask=${(page) => source.workers(page)} columns=${COLUMNS} more="workers" label="Workers"
      empty=${html`<${Empty} title="No worker is known.">Here is a row for each worker, with what it ran and what its threads waited for.<//>`} />
    <${Answered} ask=${() => source.workers({ limit: 200 })}>${(workers) => html`<${UseLegend} rows=${workers.rows} />`}<//>
  </section>`;
}

/** What the colours of the last column are. */
function UseLegend({ rows }) {
  const found = Object.keys(USES).filter((use) => rows.some((row) => row.use?.[use]));
  if (found.length === 0) return null;
  return html`<ul class="legend">${found.map((use) => html`<li><i class="swatch u-${use}" aria-hidden="true"></i>${USES[use]}</li>`)}</ul>`;
}

const COLUMNS = [
  { title: "name", is: "wide", cell: (row) => html`<${Name} name=${row.name} title=${row.pid ? `${row.name}, process ${row.pid}` : row.name} />` },
  { title: "state", cell: (row) => html`<span class=${row.state === "lost" || row.state === "stalled" ? "bad" : ""} title=${row.reason ?? undefined}>${STATES[row.state] ?? row.state}</span>` },
  {
    title: "busy",
    is: "n",
    help: "Part of the time of its threads in which they ran tasks",
    cell: (row) => html`<span class="share small"><i class="c0" style=${{ width: `${100 * row.busy}%` }}></i></span> <${Num} value=${row.busy_ns} text=${percent(row.busy)} title=${time(row.busy_ns)} />`,
  },
  { title: "threads", is: "n", cell: (row) => grouped(row.threads) },
  { title: "runs", is: "n", cell: (row) => html`<${Num} value=${row.runs} text=${grouped(row.runs)} />` },
  { title: "failed", is: "n", cell: (row) => (row.failed ? html`<b class="bad">${grouped(row.failed)}</b>` : "0") },
  { title: "CPU", is: "n", help: "Time on a processor, as far as it was measured", cell: (row) => (row.cpu_ns ? time(row.cpu_ns) : "–") },
  { title: "memory", is: "n", help: "The most that it used, of its limit", cell: (row) => (row.memory === null ? "–" : `${bytes(row.memory)}${row.limit ? ` of ${bytes(row.limit)}` : ""}`) },
  { title: "on disk", is: "n", help: "The most that it had on disk", cell: (row) => (row.spilled ? bytes(row.spilled) : "–") },
  { title: "moved in / out", is: "n", help: "From and to other workers", cell: (row) => (row.received || row.sent ? `${bytes(row.received)} / ${bytes(row.sent)}` : "–") },
  { title: "deaths", is: "n", cell: (row) => (row.deaths ? html`<a class="bad" href="#deaths">${grouped(row.deaths)}</a>` : "0") },
  { title: "time by use", is: "fill", cell: (row) => (row.use ? html`<${UseBar} time=${row.use} isShort />` : html`<span class="dim">not recorded</span>`) },
];
