// The stream of tasks: a row a thread, what it ran from left to right.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { html } from "swath/html";
import { Canvas, Empty, Tip, many, useWidth } from "swath/parts";
import { useColours } from "swath/colours";
import { against, bytes, clock, grouped, key, percent, seconds, thread, time } from "swath/format";

const OUTCOMES = ["finished", "running", "cancelled", "lost with its worker", "failed"];
const FAILED = 4;
const LOST = 3;
const RUNNING = 1;
const AXIS = 20;

/** Cells with times from the start of the log, and where each row is. */
function unpack(stream) {
  return stream.rows.map((row) => {
    const { cells } = row;
    const n = cells.start.length;
    const start = new Float64Array(n);
    let at = stream.from_ns;
    for (let i = 0; i < n; i += 1) {
      at += cells.start[i];
      start[i] = at;
    }
    return { ...row, start, label: thread(row.worker, row.thread) };
  });
}

function ticks(from, to, width) {
  const wanted = Math.max(2, Math.floor(width / 110));
  const raw = (to - from) / wanted;
  const power = 10 ** Math.floor(Math.log10(Math.max(raw, 1)));
  const step = [1, 2, 5, 10].map((n) => n * power).find((s) => s >= raw) ?? raw;
  const all = [];
  for (let at = Math.ceil(from / step) * step; at <= to && all.length < 50; at += step) all.push(at);
  return all;
}

export function Stream({ stream, startedMs, rowHeight = 16, most = 256, keys = false }) {
  const [ref, width] = useWidth();
  const colours = useColours();
  const rows = useMemo(() => unpack(stream).slice(0, most), [stream, most]);
  const whole = { from: stream.from_ns, to: Math.max(stream.to_ns, stream.from_ns + 1) };
  const [view, setView] = useState(whole);
  const [tip, setTip] = useState(null);
  const [isTable, setTable] = useState(false);
  const drag = useRef(null);
  const pinch = useRef(new Map());
  const margin = Math.min(110, Math.max(44, 8 + 7 * Math.max(0, ...rows.map((row) => row.label.length))));
  const plot = Math.max(1, width - margin);
  const height = rows.length * rowHeight + AXIS;
  const x = (ns) => margin + ((ns - view.from) / (view.to - view.from)) * plot;
  const at = (px) => view.from + ((px - margin) / plot) * (view.to - view.from);

  const look = (from, to) => {
    const least = 100;
    const span = Math.min(Math.max(to - from, least), whole.to - whole.from);
    const begin = Math.min(Math.max(from, whole.from), whole.to - span);
    setView({ from: begin, to: begin + span });
    setTip(null);
  };
  const zoom = (factor, around = (view.from + view.to) / 2) =>
    look(around - (around - view.from) * factor, around + (view.to - around) * factor);
  const move = (part) => look(view.from + part * (view.to - view.from), view.to + part * (view.to - view.from));

  useEffect(() => {
    if (!keys) return undefined;
    const onKey = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
      const act = {
        ArrowLeft: () => move(-0.2),
        ArrowRight: () => move(0.2),
        "+": () => zoom(0.5),
        "=": () => zoom(0.5),
        "-": () => zoom(2),
        0: () => look(whole.from, whole.to),
        t: () => setTable(!isTable),
      }[event.key];
      if (act) {
        act();
        event.preventDefault();
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });

  if (stream.runs === 0)
    return html`<${Empty} title="No run of a task is known.">Here is a row for each thread, with what it ran, once tasks have run.<//>`;

  const draw = (context) => {
    context.clearRect(0, 0, width, height);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "start";
    context.save();
    context.beginPath();
    context.rect(margin, 0, plot, height);
    context.clip();
    rows.forEach((row, number) => {
      const top = number * rowHeight;
      context.fillStyle = colours.line;
      context.globalAlpha = 0.35;
      context.fillRect(margin, top + rowHeight - 1, plot, 1);
      drawCells(context, row, top);
      drawMarks(context, row, top);
      context.globalAlpha = 1;
    });
    context.restore();
    context.fillStyle = colours.dim;
    rows.forEach((row, number) => {
      const dead = row.marks.some((mark) => mark.kind === "death");
      context.fillText(`${row.label}${dead ? " †" : ""}`, 0, number * rowHeight + rowHeight / 2, margin - 4);
    });
    const span = view.to - view.from;
    for (const tick of ticks(view.from, view.to, plot)) {
      const left = x(tick);
      context.fillRect(left, height - AXIS, 1, 4);
      const text = seconds(tick, span);
      const wide = context.measureText(text).width;
      context.fillText(text, Math.min(Math.max(left - wide / 2, margin), width - wide), height - 8);
    }
  };

  const drawCells = (context, row, top) => {
    const { cells } = row;
    const pad = rowHeight > 8 ? 1 : 0;
    for (let i = 0; i < row.start.length; i += 1) {
      const from = x(row.start[i]);
      const to = x(row.start[i] + cells.took[i]);
      if (to < margin || from > width) continue;
      const wide = Math.max(to - from, 1);
      const outcome = cells.outcome ? cells.outcome[i] : 0;
      const runs = cells.runs ? cells.runs[i] : 1;
      const rank = stream.names[cells.name[i]]?.rank ?? Infinity;
      // Runs that are together are as dense as the thread was busy with them.
      context.globalAlpha = runs > 1 ? 0.3 + 0.7 * Math.min(1, cells.busy[i] / Math.max(1, cells.took[i])) : 1;
      context.fillStyle = outcome === FAILED && runs === 1 ? colours.error : colours.of(rank);
      context.fillRect(from, top + pad, wide > 3 ? wide - 0.5 : wide, rowHeight - 1 - pad);
      context.globalAlpha = 1;
      if (runs > 1) {
        // One of many: a notch at the top, not the whole cell.
        if (outcome === FAILED || outcome === LOST) {
          context.fillStyle = colours.error;
          context.fillRect(from, top, Math.max(wide, 1), 4);
        }
      } else if (outcome === FAILED || outcome === LOST) cross(context, from, top, Math.max(wide, 3), outcome === FAILED);
      if (outcome === RUNNING) hatch(context, Math.max(from, margin), top + pad, Math.min(to, width) - Math.max(from, margin));
    }
  };

  const cross = (context, left, top, wide, isFailure) => {
    context.fillStyle = colours.error;
    context.fillRect(left, top, Math.min(2, wide), rowHeight);
    if (wide >= 10) {
      context.fillStyle = isFailure ? colours.ground : colours.error;
      context.fillText(isFailure ? "×" : "†", left + 3, top + rowHeight / 2);
    }
  };

  const hatch = (context, left, top, wide) => {
    context.strokeStyle = colours.ground;
    context.lineWidth = 1.5;
    context.save();
    context.beginPath();
    context.rect(left, top, wide, rowHeight - 1);
    context.clip();
    context.beginPath();
    for (let from = left - rowHeight; from < left + wide; from += 6) {
      context.moveTo(from, top + rowHeight);
      context.lineTo(from + rowHeight, top);
    }
    context.stroke();
    context.restore();
  };

  const drawMarks = (context, row, top) => {
    for (const mark of row.marks) {
      const from = x(mark.from_ns);
      const wide = Math.max(x(mark.to_ns) - from, 2);
      if (from + wide < margin || from > width) continue;
      if (mark.kind === "death") {
        context.fillStyle = colours.error;
        context.fillRect(from, top, 2, rowHeight);
        context.fillText("†", from + 4, top + rowHeight / 2);
      } else if (mark.kind === "paused") {
        context.fillStyle = colours.names[1];
        context.globalAlpha = 0.25;
        context.fillRect(from, top, wide, rowHeight - 1);
        context.globalAlpha = 1;
      } else {
        context.fillStyle = mark.kind === "transfer" ? colours.ink : colours.names[1];
        context.fillRect(from, top + rowHeight - 3, wide, 2);
      }
    }
  };

  const cellAt = (px, py) => {
    const row = rows[Math.floor(py / rowHeight)];
    if (!row || px < margin) return null;
    let best = null;
    const reach = (2 / plot) * (view.to - view.from);
    const ns = at(px);
    for (let i = 0; i < row.start.length && row.start[i] <= ns + reach; i += 1) {
      if (row.start[i] + row.cells.took[i] + reach < ns) continue;
      const isWorse = best === null || (row.cells.outcome?.[i] ?? 0) >= (row.cells.outcome?.[best] ?? 0);
      if (isWorse) best = i;
    }
    return best === null ? null : { row, i: best };
  };

  const point = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const hover = (event) => {
    const p = point(event);
    const fingers = pinch.current;
    if (fingers.has(event.pointerId)) {
      const before = [...fingers.values()];
      fingers.set(event.pointerId, p);
      const now = [...fingers.values()];
      if (now.length === 2) {
        const gap = (two) => Math.max(10, Math.abs(two[0].x - two[1].x));
        zoom(gap(before) / gap(now), at((now[0].x + now[1].x) / 2));
        return;
      }
    }
    if (drag.current !== null && event.buttons === 1) {
      setTip(null);
      setView({ ...view, select: [drag.current, p.x] });
      return;
    }
    const found = cellAt(p.x, p.y);
    setTip(found && { ...found, at: { x: p.x, y: p.y, width } });
  };
  const down = (event) => {
    const p = point(event);
    pinch.current.set(event.pointerId, p);
    drag.current = event.pointerType === "mouse" ? p.x : null;
    hover(event);
  };
  const up = (event) => {
    pinch.current.delete(event.pointerId);
    const from = drag.current;
    drag.current = null;
    const to = point(event).x;
    if (from !== null && Math.abs(to - from) > 4) look(at(Math.min(from, to)), at(Math.max(from, to)));
    else if (view.select) setView({ from: view.from, to: view.to });
  };

  const busy = rows.reduce((sum, row) => sum + row.busy_ns, 0) / (rows.length * (whole.to - whole.from));
  const label = `${many(rows.length, "thread")}, ${percent(busy)} busy, ${many(stream.runs, "run")} in ${time(whole.to - whole.from)}. Press t for a table.`;
  const isZoomed = view.from > whole.from || view.to < whole.to;
  return html`<div class="stream">
    <p class="tools">
      <span class="dim">${
        stream.exact ? "every run is drawn" : "short runs are drawn together: the fuller the colour, the busier the thread; a red notch: one of them failed"
      }</span>
      <span class="buttons">
        <button type="button" title="Zoom in (+)" aria-label="Zoom in" onClick=${() => zoom(0.5)}>+</button>
        <button type="button" title="Zoom out (−)" aria-label="Zoom out" onClick=${() => zoom(2)}>−</button>
        <button type="button" title="All of it (0)" disabled=${!isZoomed} onClick=${() => look(whole.from, whole.to)}>all</button>
        <button type="button" title="The same as a table (t)" aria-pressed=${isTable} onClick=${() => setTable(!isTable)}>table</button>
      </span>
    </p>
    <div class="plot" ref=${ref}>
      ${
        isTable
          ? html`<${StreamTable} rows=${rows} whole=${whole} />`
          : html`<${Canvas} width=${width} height=${height} draw=${draw} label=${label}
              onPointerMove=${hover} onPointerDown=${down} onPointerUp=${up} onPointerCancel=${up}
              onPointerLeave=${() => setTip(null)} onDblClick=${() => look(whole.from, whole.to)} />`
      }
      ${!isTable && view.select && html`<i class="selection" style=${{
        left: `${Math.min(...view.select)}px`,
        width: `${Math.abs(view.select[1] - view.select[0])}px`,
        height: `${height - AXIS}px`,
      }}></i>`}
      ${!isTable && tip && html`<${CellTip} ...${tip} stream=${stream} startedMs=${startedMs} />`}
    </div>
    ${signs(rows).length > 0 && html`<p class="dim signs">${signs(rows).join(" · ")}</p>`}
    ${stream.hidden_rows + stream.rows.length - rows.length > 0 &&
    html`<p class="dim">${many(stream.hidden_rows + stream.rows.length - rows.length, "more thread")} not drawn.</p>`}
  </div>`;
}

/** What the marks that are there mean. */
function signs(rows) {
  const outcomes = new Set(rows.flatMap((row) => [...new Set(row.cells.outcome ?? [])]));
  const kinds = new Set(rows.flatMap((row) => row.marks.map((mark) => mark.kind)));
  return [
    outcomes.has(FAILED) && "× red: failed",
    (outcomes.has(LOST) || kinds.has("death")) && "†: its worker died",
    outcomes.has(RUNNING) && "hatched: had not ended",
    kinds.has("transfer") && "thin line below: a value came from another worker",
    (kinds.has("spill") || kinds.has("load")) && "orange line below: to or from disk",
    kinds.has("paused") && "orange ground: the worker started no tasks",
  ].filter(Boolean);
}

function StreamTable({ rows, whole }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="What each thread ran"><table>
    <thead><tr><th scope="col">thread</th><th scope="col" class="n">runs</th><th scope="col" class="n">busy</th><th scope="col" class="n">of all time</th></tr></thead>
    <tbody>${rows.map((row) => html`<tr>
      <td>${row.worker}, thread ${row.thread}</td>
      <td class="n">${grouped(row.cells.runs ? row.cells.runs.reduce((a, b) => a + b, 0) : row.start.length)}</td>
      <td class="n">${time(row.busy_ns)}</td>
      <td class="n">${percent(row.busy_ns / (whole.to - whole.from))}</td>
    </tr>`)}</tbody>
  </table></div>`;
}

function CellTip({ row, i, at, stream, startedMs }) {
  const { cells } = row;
  const name = stream.names[cells.name[i]];
  const runs = cells.runs ? cells.runs[i] : 1;
  const outcome = cells.outcome ? cells.outcome[i] : 0;
  const where = `${row.worker}, thread ${row.thread}`;
  if (runs > 1) {
    return html`<${Tip} at=${at}>
      <b>${grouped(runs)} runs</b>, most of their time <b><bdi>${name.name}</bdi></b>
      <br />${where} · from ${seconds(row.start[i])} for ${time(cells.took[i])}
      <br />${percent(cells.busy[i] / Math.max(1, cells.took[i]))} busy, ${time(cells.busy[i] / runs)} a run
      ${outcome > 0 && html`<br /><b class="bad">one or more ${OUTCOMES[outcome]}</b>`}
    <//>`;
  }
  const took = cells.took[i];
  const known = (column) => column && column[i] !== null && column[i] !== undefined;
  return html`<${Tip} at=${at}>
    <b><bdi>${name.name}</bdi></b> <span class="dim"><bdi>${key(name.name, cells.hash[i])}</bdi></span>
    <br />${where} · ${clock(startedMs, row.start[i])} · ${seconds(row.start[i])}
    <br /><b>${time(took)}</b>${name.usual_ns && took ? ` · ${against(took, name.usual_ns)} (${time(name.usual_ns)})` : ""}
    ${known(cells.waited) && html`<br />waited ${time(cells.waited[i])} before`}
    ${(known(cells.bytes_in) || known(cells.bytes_out)) &&
    html`<br />${bytes(cells.bytes_in?.[i])} in, ${bytes(cells.bytes_out?.[i])} out`}
    ${outcome > 0 && html`<br /><b class="bad">${OUTCOMES[outcome]}</b>`}
  <//>`;
}
