import { html } from "swath/html";
import { Answered, Empty, many } from "swath/parts";
import { bytes, clock, grouped, seconds, time } from "swath/format";

export function DeathsPage({ source, status }) {
  return html`<section class="wide"><h2>Deaths of workers</h2>
    <${Answered} ask=${() => source.deaths({ limit: 200 })}>${(deaths) =>
      deaths.total === 0
        ? html`<${Empty} title="No worker has died.">Here is why, what it ran then, and what it said last, if one does.<//>`
        : html`${deaths.rows.map((death) => html`<${Death} death=${death} status=${status} />`)}
            ${deaths.total > deaths.rows.length && html`<p class="dim">and ${grouped(deaths.total - deaths.rows.length)} more</p>`}`}<//>
  </section>`;
}

function Death({ death, status }) {
  return html`<article class="death">
    <h3>† ${death.worker} <span class="dim">process ${death.pid} · ${clock(status.started_ms, death.at_ns)} · ${seconds(death.at_ns)}</span></h3>
    <p><bdi>${death.reason}</bdi></p>
    ${death.running.length > 0 && html`<p>It ran:</p><ul>${death.running.map((task) => html`<li><code>${task.key}</code> for ${time(task.ran_ns)} on thread ${task.thread}${
      task.bytes_in !== null ? `, ${bytes(task.bytes_in)} of inputs` : ""}${task.peak !== null ? `, ${bytes(task.peak)} at most` : ""}</li>`)}</ul>`}
    ${death.last_lines.length > 0 && html`<p>Last words:</p><pre>${death.last_lines.map((line) => `${line.text}\n`)}</pre>`}
    ${death.lost_runs > 0 && html`<p class="dim">${many(death.lost_runs, "run")} lost with it, ${time(death.lost_ns)} in all.</p>`}
  </article>`;
}
