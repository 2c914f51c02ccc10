import { useState } from "preact/hooks";
import { html } from "swath/html";
import { Answered, Empty, Listing, Name } from "swath/parts";
import { Stream } from "swath/stream";
import { against, bytes, key, seconds, shortKey, thread, time } from "swath/format";

export function TasksPage({ source, status, params, isAlone }) {
  const [search, setSearch] = useState(params.get("search") ?? "");
  return html`<div class="grid">
    <section class="wide"><h2>Task stream <span class="dim">drag or pinch: zoom · ←→ move · +− 0 zoom · t table</span></h2>
      <${Answered} ask=${() => source.stream({ from: status.from_ns, to: status.until_ns, width: 1600 })}>${(stream) =>
        html`<${Stream} stream=${stream} startedMs=${status.started_ms} keys=${isAlone} />`}<//>
    </section>
    <section class="wide"><h2>Runs that failed, were lost or have not ended; then the slowest</h2>
      <${Listing} ask=${(page) => source.tasks(page)} columns=${COLUMNS} search=${search} onSearch=${setSearch} hint="name, key, worker, failed"
        more="runs" label="Runs worth a look" empty=${html`<${Empty} title="Nothing has run.">Here are runs that failed, and the slowest ones.<//>`} />
    </section>
  </div>`;
}

const COLUMNS = [
  { title: "name", is: "wide", cell: (row) => html`<${Name} name=${row.name} rank=${row.rank} />` },
  { title: "key", cell: (row) => html`<code title=${key(row.name, row.hash)}>${shortKey("…", row.hash)}</code>` },
  {
    title: "outcome",
    cell: (row) =>
      html`<span class=${/failed|lost/.test(row.outcome) ? "bad" : ""}>${row.outcome === "failed" ? "× " : row.outcome === "lost" ? "† " : ""}${row.outcome}</span>`,
  },
  { title: "where", is: "n", cell: (row) => html`<span title=${`${row.worker}, thread ${row.thread}`}>${thread(row.worker, row.thread)}</span>` },
  { title: "start", is: "n", cell: (row) => seconds(row.start_ns) },
  { title: "ran", is: "n", cell: (row) => time(row.took_ns) },
  { title: "usual", is: "n", help: "Against the median of its name", cell: (row) => against(row.took_ns, row.usual_ns).replace(" usual", "") },
  { title: "waited", is: "n", help: "For a thread, after its last input was there", cell: (row) => time(row.waited_ns) },
  { title: "CPU", is: "n", cell: (row) => time(row.cpu_ns) },
  { title: "in / out", is: "n", help: "Size of inputs and result", cell: (row) => `${bytes(row.bytes_in)} / ${bytes(row.bytes_out)}` },
  { title: "try", is: "n", help: "Which attempt of the task", cell: (row) => row.attempt + 1 },
];
