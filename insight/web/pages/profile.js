import { useState } from "preact/hooks";
import { html } from "swath/html";
import { Answered, Empty, many } from "swath/parts";
import { Flame } from "swath/flame";
import { percent, time } from "swath/format";

export function ProfilePage({ source }) {
  return html`<section class="wide"><h2>Profile <span class="dim">which functions, which system calls</span></h2>
    <${Answered} ask=${() => source.profile()}>${(profile) => html`<${Profiles} profile=${profile} />`}<//>
  </section>`;
}

function Profiles({ profile }) {
  const [chosen, choose] = useState(0);
  const [search, setSearch] = useState("");
  const off = Object.entries(profile.off);
  const reasons = off.length > 0 && html`<ul class="problems">${off.map(([worker, why]) => html`<li>${worker} was not sampled: ${why}</li>`)}</ul>`;
  if (profile.names.length === 0) {
    const title = profile.is_on ? "No samples: tasks have run for too short a time." : "No profile was taken.";
    return html`<${Empty} title=${title}>Here is a flame graph for each name. <code>client.performance_report(…)</code> has threads sampled;
      so do <code>client.start_profile()</code> and <code>Builder::profile</code>. A saved log has no samples in it.<//>${reasons}`;
  }
  const of = profile.names[Math.min(chosen, profile.names.length - 1)];
  const all = Math.max(1, of.on_ns + of.off_ns);
  return html`<p class="tools">
      <label>of <select value=${chosen} onChange=${(event) => choose(Number(event.target.value))}>
        ${profile.names.map((name, i) => html`<option value=${i}>${name.name} (${time(name.on_ns + name.off_ns)})</option>`)}
      </select></label>
      <label class="search"><span class="dim">/</span> <input type="search" value=${search} placeholder="function" aria-label="Search functions" onInput=${(event) => setSearch(event.target.value)} /></label>
      <span>on a CPU <b>${percent(of.on_ns / all)}</b>, off it <b>${percent(of.off_ns / all)}</b> of ${time(all)}; ${many(of.samples, "sample")}</span>
    </p>
    ${of.nodes.length > 0 ? html`<${Flame} key=${chosen} profile=${of} search=${search} />` : html`<p class="dim">Nothing was on a CPU when it was looked at.</p>`}
    <div class="grid">
      <section><h3>Functions by their own time</h3><${Functions} of=${of} /></section>
      <section><h3>Off the CPU</h3>
        ${of.waits.length === 0 ? html`<p class="dim">It did not wait.</p>` : html`<ol class="top">${of.waits.slice(0, 12).map((wait) => html`<li>
          <code>${wait.call}</code><span class="share"><i class="c1" style=${{ width: `${(100 * wait.ns) / all}%` }}></i></span><b class="n">${percent(wait.ns / all)}</b><span class="n dim">${time(wait.ns)}</span></li>`)}</ol>`}
      </section>
    </div>
    ${profile.hidden > 0 && html`<p class="dim">${many(profile.hidden, "more name")} are not in the report.</p>`}
    ${profile.lost > 0 && html`<p class="dim">There was no room for ${many(profile.lost, "sample")}.</p>`}
    ${reasons}`;
}

function Functions({ of }) {
  const own = new Map();
  for (const node of of.nodes) own.set(node.function, (own.get(node.function) ?? 0) + node.own_ns);
  const ranked = [...own].filter(([, ns]) => ns > 0).sort((a, b) => b[1] - a[1]).slice(0, 12);
  const total = Math.max(1, of.on_ns);
  return html`<ol class="top">${ranked.map(([name, ns]) => html`<li title=${name}>
    <code class="path"><bdi>${name}</bdi></code><span class="share"><i class="c0" style=${{ width: `${(100 * ns) / total}%` }}></i></span><b class="n">${percent(ns / total)}</b><span class="n dim">${time(ns)}</span>
  </li>`)}</ol>`;
}
