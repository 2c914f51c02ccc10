import { useState } from "preact/hooks";
import { html } from "swath/html";
import { Empty, Listing } from "swath/parts";
import { clock, seconds } from "swath/format";

export function LogsPage({ source, status, params }) {
  const [search, setSearch] = useState(params.get("search") ?? "");
  const time = { title: "time", is: "n", cell: (row) => html`<span title=${seconds(row.at_ns)}>${clock(status.started_ms, row.at_ns)}</span>` };
  const columns = [
    time,
    { title: "worker", cell: (row) => row.worker },
    { title: "level", cell: (row) => html`<span class="level ${/error|stderr/i.test(row.level) ? "bad" : ""}">${row.level}</span>` },
    { title: "task", cell: (row) => (row.key ? html`<code title=${row.key}>${row.key.length > 28 ? `${row.key.slice(0, 18)}…${row.key.slice(-6)}` : row.key}</code>` : "–") },
    { title: "text", is: "text", cell: (row) => html`${row.target && html`<span class="dim">${row.target} </span>`}<bdi>${row.text}</bdi>` },
  ];
  const happened = [time, { title: "what", is: "text", cell: (row) => html`<bdi>${row.text}</bdi>` }];
  return html`<div class="grid">
    <section class="wide"><h2>Lines of tasks and workers</h2>
      <${Listing} ask=${(page) => source.logs(page)} columns=${columns} search=${search} onSearch=${setSearch} hint="text, worker, key, level" more="lines" label="Lines"
        empty=${html`<${Empty} title="No line is in this log.">Here is what tasks print and log, with task and worker, as far as the log has it. While the
          program runs, <code>client.logs()</code> and <code>local-cluster logs</code> show it.<//>`} />
    </section>
    <section class="wide"><h2>What else happened</h2>
      <${Listing} ask=${(page) => source.events(page)} columns=${happened} more="events" label="Events"
        empty=${html`<${Empty} title="Nothing else happened.">Here are graphs, workers, retries, transfers and notes.<//>`} />
    </section>
  </div>`;
}
