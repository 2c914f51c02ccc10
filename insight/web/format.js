// Numbers as people read them. The same rules as in Rust (`picture/text.rs`), so that no number looks different elsewhere.

function threeDigits(value, unit) {
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  let text = value.toFixed(digits);
  if (text.includes(".")) text = text.replace(/\.?0+$/, "");
  return text + unit;
}

function scaled(value, units) {
  let unit = 0;
  while (value >= 999.5 && unit + 1 < units.length) {
    value /= 1000;
    unit += 1;
  }
  return threeDigits(value, units[unit]);
}

/** All digits, in groups of three. */
export function grouped(n) {
  return String(n).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

/** `1 task`, `2,000 tasks`. */
export function many(n, what) {
  return `${grouped(n)} ${what}${n === 1 ? "" : "s"}`;
}

export function bytes(n) {
  if (n === null || n === undefined) return "–";
  return n < 1000 ? `${n} B` : scaled(n, [" B", " kB", " MB", " GB", " TB", " PB", " EB"]);
}

/** A time in nanoseconds, to three digits. */
export function time(ns) {
  if (ns === null || ns === undefined) return "–";
  const s = ns / 1e9;
  const two = (n) => String(n).padStart(2, "0");
  if (s >= 3600) return `${Math.floor(s / 3600)} h ${two(Math.floor(s / 60) % 60)} min`;
  if (s >= 100) return `${Math.floor(s / 60)} min ${two(Math.floor(s) % 60)} s`;
  if (ns < 1000) return `${Math.round(ns)} ns`;
  if (ns < 1e6) return threeDigits(s * 1e6, " µs");
  if (ns < 1e9) return threeDigits(s * 1e3, " ms");
  return threeDigits(s, " s");
}

/** A part of a whole, from 0 to 1. */
export function percent(share) {
  const n = 100 * share;
  return `${n > 0 && n < 9.95 ? n.toFixed(1) : n.toFixed(0)} %`;
}

/** Seconds since the start, with as many digits as the span of an axis asks for. */
export function seconds(ns, span = 1e9) {
  const digits = span >= 1e11 ? 0 : span >= 1e10 ? 1 : span >= 1e9 ? 2 : span >= 1e7 ? 4 : 6;
  return `${(ns / 1e9).toFixed(digits)} s`;
}

/** The time of day, in the reader's zone. */
export function clock(startedMs, ns) {
  if (startedMs === null || startedMs === undefined) return seconds(ns);
  const at = new Date(startedMs + ns / 1e6);
  const pad = (n, width) => String(n).padStart(width, "0");
  return `${pad(at.getHours(), 2)}:${pad(at.getMinutes(), 2)}:${pad(at.getSeconds(), 2)}.${pad(at.getMilliseconds(), 3)}`;
}

/** A date and a time of day. */
export function date(startedMs) {
  if (startedMs === null || startedMs === undefined) return "not known";
  return new Date(startedMs).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
}

/** The key of a task: its name, and the number in it. */
export const key = (name, hash) => (hash ? `${name}-${hash}` : name);
/** The same with as many digits as are needed to tell tasks apart by eye. */
export const shortKey = (name, hash) => (hash ? `${name}-${hash.slice(-6)}` : name);
/** `w3.1`: the second thread of worker-3. */
export function thread(worker, number) {
  const short = worker.replace(/^worker-(?=\d)/, "w");
  return `${short}.${number}`;
}

/** How long something took against what is usual for its name. */
export function against(took, usual) {
  if (!took || !usual) return "";
  const times = took / usual;
  return `${times >= 10 ? times.toFixed(0) : times.toFixed(1)} × usual`;
}

/** The uses of a thread's time, in words. */
export const USES = {
  computing: "computing",
  reading_inputs: "reading inputs",
  writing_results: "writing results",
  spilling: "spilling",
  waiting_for_inputs: "waiting for inputs",
  waiting_for_memory: "waiting for memory",
  waiting_for_placement: "waiting for placement",
  waiting_for_hand_out: "waiting for hand-out",
  waiting_for_client: "waiting for the client",
  starting: "starting",
  stopped: "stopped",
  suspended: "suspended in a task of its own",
};
