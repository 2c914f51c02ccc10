// What several pages use.
import { Component } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "swath/html";
import { grouped, many, percent, time, USES } from "swath/format";
import { rankClass } from "swath/colours";

/** The answer to a question: `{ value }` or `{ error }`, and neither before it is there. */
export function useAnswer(ask, inputs) {
  const [answer, set] = useState({});
  useEffect(() => {
    let isWanted = true;
    ask().then(
      (value) => isWanted && set({ value }),
      (error) => isWanted && set({ error }),
    );
    return () => {
      isWanted = false;
    };
  }, inputs);
  return answer;
}

/** Shows what a question is answered with, or why there is no answer; the rest of the page lives on. */
export function Answered({ ask, inputs = [], children }) {
  const { value, error } = useAnswer(ask, inputs);
  if (error) return html`<${Failed} error=${error} />`;
  return value === undefined ? null : children(value);
}

export function Failed({ error }) {
  return html`<p class="note bad" role="alert">This cannot be shown: ${String(error?.message ?? error)}</p>`;
}

/** Keeps what fails in one part away from the others. */
export class Boundary extends Component {
  constructor(props) {
    super(props);
    this.state = { error: null };
  }

  componentDidCatch(error) {
    this.setState({ error });
  }

  render({ children }, { error }) {
    return error ? html`<${Failed} error=${error} />` : children;
  }
}

/** What will be here, and how to get it. */
export function Empty({ title, children }) {
  return html`<div class="empty"><p class="large">${title}</p><p>${children}</p></div>`;
}

/** A number with its exact value and what it counts. */
export function Num({ value, text, title }) {
  return html`<data value=${value ?? ""} title=${title}>${text}</data>`;
}

export const Time = ({ ns, title }) =>
  html`<${Num} value=${ns} text=${time(ns)} title=${title ? `${title}: ${time(ns)}` : undefined} />`;

/** A name with its colour; cut in the middle where there is no room, whole in the title. */
export function Name({ name, rank, title }) {
  const tail = name.length > 12 ? name.slice(-6) : "";
  const head = tail ? name.slice(0, -6) : name;
  return html`<span class="name" title=${title ?? name}>
    ${rank !== undefined && html`<i class="swatch ${rankClass(rank)}" aria-hidden="true"></i>`}<bdi class="head"
      >${head}</bdi
    ><bdi>${tail}</bdi>
  </span>`;
}

/** A sentence whose names stand between backticks. */
export function Words({ text }) {
  return text.split("`").map((part, i) => (i % 2 === 1 ? html`<code><bdi>${part}</bdi></code>` : part));
}

/** The tasks of a group by state, from left to right: released, in memory, running, ready, waiting. */
export function StateBar({ counts, rank }) {
  const total = Object.values(counts).reduce((sum, n) => sum + n, 0) || 1;
  const states = ["released", "memory", "running", "ready", "waiting", "unneeded", "cancelled", "failed"];
  const text = states.filter((state) => counts[state]).map((state) => `${grouped(counts[state])} ${state}`);
  return html`<span class="bar ${rankClass(rank)}" role="img" aria-label=${text.join(", ")} title=${text.join(", ")}>
    ${states.map(
      (state) =>
        counts[state] > 0 && html`<i class="s-${state}" style=${{ width: `${(100 * counts[state]) / total}%` }}></i>`,
    )}
  </span>`;
}

/** The time of threads by use, as one bar with its words below. */
export function UseBar({ time: uses, isShort }) {
  const all = Object.entries(uses).sort((a, b) => b[1] - a[1]);
  const total = all.reduce((sum, [, ns]) => sum + ns, 0) || 1;
  const words = all.map(([use, ns]) => `${USES[use] ?? use} ${percent(ns / total)}`);
  const bar = html`<span class="bar uses" role="img" aria-label=${words.join(", ")} title=${words.join(", ")}>
    ${all.map(([use, ns]) => html`<i class="u-${use}" style=${{ width: `${(100 * ns) / total}%` }}></i>`)}
  </span>`;
  if (isShort) return bar;
  return html`<div>
    ${bar}
    <ul class="legend">
      ${all.map(
        ([use, ns]) => html`<li>
          <i class="swatch u-${use}" aria-hidden="true"></i>${USES[use] ?? use}${" "}
          <b>${percent(ns / total)}</b> <span class="dim"><${Time} ns=${ns} title=${`Time of threads ${USES[use] ?? use}`} /></span>
        </li>`,
      )}
    </ul>
  </div>`;
}

const PAGE = 100;

/**
 * A table of rows that come in pages. A column is `{ title, cell(row), is: "n" | "wide", help }`.
 */
export function Listing({ ask, columns, search = "", empty, more = "rows", label, onSearch, hint }) {
  const [offset, setOffset] = useState(0);
  const box = useRef(null);
  useEffect(() => setOffset(0), [search]);
  const { value, error } = useAnswer(() => ask({ offset, limit: PAGE, search }), [offset, search]);
  if (error) return html`<${Failed} error=${error} />`;
  if (!value) return null;
  const find =
    onSearch &&
    html`<label class="search"
      ><span class="dim">/</span>
      <input ref=${box} type="search" value=${search} placeholder=${hint} aria-label=${`Search ${more}`}
        onInput=${(event) => onSearch(event.target.value)} />
      <span class="dim">${grouped(value.total)} ${more}</span></label
    >`;
  if (value.total === 0) return html`${search && find}${search ? html`<p class="dim">Nothing has “${search}” in it.</p>` : empty}`;
  const last = Math.max(0, Math.ceil(value.total / PAGE) - 1);
  const at = Math.floor(offset / PAGE);
  const step = (to) => html`<button type="button" disabled=${to < 0 || to > last} onClick=${() => setOffset(to * PAGE)}
    aria-label=${to < at ? "Page before" : "Next page"}>${to < at ? "‹" : "›"}</button>`;
  return html`${find}
    <div class="scroll" tabindex="0" role="region" aria-label=${label}>
      <table>
        <thead>
          <tr>
            ${columns.map((column) => html`<th scope="col" class=${column.is} title=${column.help}>${column.title}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${value.rows.map((row) => html`<tr>${columns.map((column) => html`<td class=${column.is}>${column.cell(row)}</td>`)}</tr>`)}
        </tbody>
      </table>
    </div>
    ${last > 0 &&
    html`<p class="pager">
      ${step(at - 1)} ${grouped(offset + 1)}–${grouped(offset + value.rows.length)} of ${grouped(value.total)} ${step(at + 1)}
    </p>`}
    ${value.missing > 0 && html`<p class="dim">${grouped(value.missing)} more are only in the log.</p>`}
    ${value.dropped > 0 && html`<p class="dim">${grouped(value.dropped)} more were not kept.</p>`}`;
}

/** Facts, a line each. */
export function Facts({ facts }) {
  return html`<dl class="facts">
    ${facts.filter(([, value]) => value !== undefined && value !== null && value !== "").map(
      ([name, value, title]) => html`<div title=${title}><dt>${name}</dt><dd>${value}</dd></div>`,
    )}
  </dl>`;
}

/** How wide an element is, also after it has changed. */
export function useWidth() {
  const ref = useRef(null);
  const [width, set] = useState(0);
  useEffect(() => {
    if (!ref.current) return undefined;
    const observer = new ResizeObserver(([entry]) => set(Math.floor(entry.contentRect.width)));
    observer.observe(ref.current);
    set(Math.floor(ref.current.clientWidth));
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}

/** A canvas that is sharp on every screen. `draw` gets its context and size in pixels of the page. */
export function Canvas({ width, height, draw, label, ...rest }) {
  const ref = useRef(null);
  useEffect(() => {
    const canvas = ref.current;
    if (!canvas || width <= 0) return;
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    draw(context, width, height);
  });
  return html`<canvas ref=${ref} role="img" aria-label=${label} style=${{ width: `${width}px`, height: `${height}px` }} ...${rest} />`;
}

/** A box with what is under the pointer, kept within its parent. */
export function Tip({ at, children }) {
  const left = at.x > at.width / 2;
  const style = left
    ? { right: `${Math.max(0, at.width - at.x + 12)}px`, top: `${at.y + 12}px` }
    : { left: `${at.x + 12}px`, top: `${at.y + 12}px` };
  return html`<div class="tip" role="status" style=${style}>${children}</div>`;
}

export { many };
