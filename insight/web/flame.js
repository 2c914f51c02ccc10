// A flame graph: functions by the time that they were on a CPU, each below the one that called it.
import { useMemo, useState } from "preact/hooks";
import { html } from "swath/html";
import { Canvas, Tip, useWidth } from "swath/parts";
import { inkOn, useColours } from "swath/colours";
import { percent, time } from "swath/format";

const ROW = 20;
const MOST_DEPTH = 80;

/** The last parts of a path: `parse::number` of `app::parse::number`. */
export const shortName = (path) => path.replace(/<[^<>]*>/g, "<…>").split("::").slice(-2).join("::");

function layout(nodes, other) {
  const children = nodes.map(() => []);
  const roots = [];
  nodes.forEach((node, i) => (node.parent === null ? roots : children[node.parent]).push(i));
  const total = roots.reduce((sum, i) => sum + nodes[i].total_ns, 0) + other;
  const boxes = new Array(nodes.length);
  const open = [];
  let from = 0;
  for (const root of roots) {
    open.push([root, 0, from]);
    from += nodes[root].total_ns;
  }
  while (open.length > 0) {
    const [i, depth, left] = open.pop();
    boxes[i] = { depth, from: left, to: left + nodes[i].total_ns };
    let next = left;
    for (const child of children[i]) {
      open.push([child, depth + 1, next]);
      next += nodes[child].total_ns;
    }
  }
  return { boxes, total, depth: boxes.reduce((most, box) => Math.max(most, box.depth), 0) + 1 };
}

export function Flame({ profile, search = "" }) {
  const { nodes } = profile;
  const [ref, width] = useWidth();
  const colours = useColours();
  const { boxes, total, depth } = useMemo(() => layout(nodes, profile.other_ns), [profile]);
  const [chosen, choose] = useState(null);
  const [tip, setTip] = useState(null);
  const focus = chosen !== null && chosen < boxes.length ? boxes[chosen] : { depth: -1, from: 0, to: Math.max(total, 1) };
  const height = Math.min(depth, MOST_DEPTH) * ROW;
  const x = (ns) => ((ns - focus.from) / (focus.to - focus.from)) * width;
  const wanted = search.trim().toLowerCase();
  const isFound = (node) => wanted && node.function.toLowerCase().includes(wanted);

  const draw = (context) => {
    context.clearRect(0, 0, width, height);
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    nodes.forEach((node, i) => {
      const box = boxes[i];
      const from = Math.max(0, x(box.from));
      const wide = Math.min(width, x(box.to)) - from;
      if (wide < 0.5 || box.depth >= MOST_DEPTH) return;
      const top = box.depth * ROW;
      const colour = node.origin === "program" ? colours.names[0] : colours.others;
      const fill = isFound(node) ? colours.names[1] : colour;
      context.globalAlpha = wanted && !isFound(node) ? 0.35 : box.depth < focus.depth ? 0.5 : 0.78 + 0.22 * (box.depth % 2);
      context.fillStyle = fill;
      context.fillRect(from, top, Math.max(wide - 0.5, 0.5), ROW - 1);
      if (wide > 30) {
        context.globalAlpha = 1;
        context.fillStyle = wanted && !isFound(node) ? colours.ink : inkOn(fill);
        context.save();
        context.beginPath();
        context.rect(from, top, wide - 3, ROW);
        context.clip();
        context.fillText(`${shortName(node.function)} ${percent(node.total_ns / total)}`, from + 4, top + ROW / 2);
        context.restore();
      }
    });
    context.globalAlpha = 1;
  };

  const find = (event) => {
    const area = event.currentTarget.getBoundingClientRect();
    const at = { x: event.clientX - area.left, y: event.clientY - area.top, width };
    const depthAt = Math.floor(at.y / ROW);
    const ns = focus.from + (at.x / width) * (focus.to - focus.from);
    const i = boxes.findIndex((box) => box.depth === depthAt && box.from <= ns && ns < box.to);
    return i < 0 ? null : { i, at };
  };
  const widest = nodes.filter((node) => node.parent === null)[0];
  const label = `Functions on a CPU for ${time(total)}${widest ? `, ${shortName(widest.function)} ${percent(widest.total_ns / total)}` : ""}. The table below has the same.`;
  return html`<div class="plot" ref=${ref}>
    <${Canvas} width=${width} height=${height} draw=${draw} label=${label}
      onPointerMove=${(event) => setTip(find(event))} onPointerLeave=${() => setTip(null)}
      onClick=${(event) => {
        const found = find(event);
        choose(found && found.i !== chosen ? found.i : null);
      }} />
    ${tip && html`<${Tip} at=${tip.at}>
      <b><bdi>${nodes[tip.i].function}</bdi></b>
      <br />${time(nodes[tip.i].total_ns)}, ${percent(nodes[tip.i].total_ns / total)} of the time on a CPU
      <br />${time(nodes[tip.i].own_ns)} in itself · click: only this
    <//>`}
  </div>`;
}
