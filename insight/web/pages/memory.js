import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { html } from "swath/html";
import { Answered, Empty, useWidth } from "swath/parts";
import { useColours } from "swath/colours";
import { bytes, seconds } from "swath/format";

const ALL = "";

export function MemoryPage({ source, status }) {
  return html`<section class="wide"><h2>Memory over time <span class="dim">what is compared with the limit: private memory and segments of its own</span></h2>
    <${Answered} ask=${() => source.memory({ from: status.from_ns, to: status.until_ns, width: 1000 })}>${(memory) =>
      memory.all === null
        ? html`<${Empty} title="No memory was recorded.">Here are the results in memory, shared segments, everything else and what is on disk, worker by
            worker. It is recorded in processes mode, with <code>Builder::record</code> or while a report is written.<//>`
        : html`<${MemoryCharts} memory=${memory} />`}<//>
  </section>`;
}

function MemoryCharts({ memory }) {
  const [worker, setWorker] = useState(ALL);
  const shown = memory.workers.find((one) => one.worker === worker) ?? memory.all;
  const peak = (column) => column.reduce((most, n) => Math.max(most, n ?? 0), 0);
  return html`<p class="tools">
      <label>of <select value=${worker} onChange=${(event) => setWorker(event.target.value)}>
        <option value=${ALL}>all workers</option>
        ${memory.workers.map((one) => html`<option value=${one.worker}>${one.worker}</option>`)}
      </select></label>
      <span>at most <b>${bytes(peak(shown.used))}</b>${shown.limit ? ` of ${bytes(shown.limit)}` : ""}${peak(shown.spilled) ? `, ${bytes(peak(shown.spilled))} on disk` : ""}</span>
    </p>
    <${Chart} at=${memory.at_ns} of=${shown} />
    ${memory.hidden > 0 && html`<p class="dim">${memory.hidden} more workers are in “all workers” only.</p>`}
    <div class="scroll" tabindex="0" role="region" aria-label="Memory by worker"><table>
      <thead><tr><th scope="col">worker</th><th scope="col" class="n">most used</th><th scope="col" class="n">limit</th>
        <th scope="col" class="n">results</th><th scope="col" class="n">shared</th><th scope="col" class="n">on disk</th></tr></thead>
      <tbody>${memory.workers.map((one) => html`<tr><td>${one.worker}</td><td class="n">${bytes(peak(one.used))}</td><td class="n">${bytes(one.limit)}</td>
        <td class="n">${bytes(peak(one.managed))}</td><td class="n">${bytes(peak(one.shared))}</td><td class="n">${bytes(peak(one.spilled))}</td></tr>`)}</tbody>
    </table></div>`;
}

function Chart({ at, of }) {
  const [ref, width] = useWidth();
  const plot = useRef(null);
  const colours = useColours();
  const lines = [
    { label: "used", data: of.used, stroke: colours.ink, width: 2 },
    { label: "results", data: of.managed, stroke: colours.names[0], fill: `${colours.names[0]}33` },
    { label: "shared", data: of.shared, stroke: colours.names[4], dash: [2, 3] },
    { label: "on disk", data: of.spilled, stroke: colours.names[1], dash: [8, 4] },
  ].filter((line) => line.label === "used" || line.data.some((n) => n > 0));
  if (of.limit) lines.push({ label: "limit", data: at.map(() => of.limit), stroke: colours.error, dash: [1, 3] });
  useEffect(() => {
    if (!plot.current || width < 50) return undefined;
    const axis = { stroke: colours.dim, grid: { stroke: colours.line, width: 1 }, ticks: { stroke: colours.line, width: 1 }, font: "11px system-ui, sans-serif" };
    const span = at[at.length - 1] - at[0];
    const chart = new uPlot(
      {
        width,
        height: 280,
        legend: { show: false },
        cursor: { points: { show: true } },
        scales: { x: { time: false }, y: { range: (_, __, most) => [0, (most || 1) * 1.05] } },
        axes: [
          { ...axis, values: (_, splits) => splits.map((ns) => seconds(ns, span)), space: 90 },
          { ...axis, values: (_, splits) => splits.map((n) => bytes(Math.round(n))), size: 72, incrs: increments() },
        ],
        series: [{}, ...lines.map(({ label, stroke, fill, dash, width: wide = 1.5 }) => ({ label, stroke, fill, dash, width: wide, points: { show: false } }))],
      },
      [at, ...lines.map((line) => line.data)],
      plot.current,
    );
    return () => chart.destroy();
  }, [of, width, colours]);
  return html`<div ref=${ref}>
    <div ref=${plot} role="img" aria-label=${`Memory of ${of.worker} over time; the table below has its peaks.`}></div>
    <ul class="legend">${lines.map((line) => html`<li><i class="line" style=${{ borderTopColor: line.stroke, borderTopStyle: line.dash ? "dashed" : "solid" }}></i>${line.label}</li>`)}</ul>
  </div>`;
}

/** Steps that are round in bytes. */
function increments() {
  const all = [];
  for (let power = 1; power < 1e16; power *= 10) all.push(power, 2 * power, 5 * power);
  return all;
}
