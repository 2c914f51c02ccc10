import { html } from "swath/html";
import { Answered, Facts } from "swath/parts";
import { bytes, date, grouped } from "swath/format";

export function SystemPage({ source, status }) {
  return html`<${Answered} ask=${() => source.system()}>${(system) => html`<div class="grid">
    <section><h2>Versions</h2><${Facts} facts=${[
      ["swath", system.swath || "not known"],
      ["report by swath-insight", system.insight],
      ["build", system.build ? html`<code>${system.build}</code>` : "not known"],
      ["format of the log", system.format],
      ["read from", system.file ?? "memory"],
    ]} /></section>
    <section><h2>Machine</h2><${Facts} facts=${[
      ["processors", system.machine.processors ? grouped(system.machine.processors) : "not known"],
      ["memory", system.machine.memory ? bytes(system.machine.memory) : "not known"],
      ["system", system.machine.system || "not known"],
      ["architecture", system.machine.architecture || "not known"],
    ]} /></section>
    <section class="wide"><h2>This log</h2><${Facts} facts=${[
      ["began", date(status.started_ms)],
      ["runs", grouped(status.runs)],
      ["events", grouped(status.events)],
      ["complete", status.complete ? "yes" : "no"],
    ]} />
    <p class="dim">There are no values of arguments or results, no environment and no command line in it. What tasks print is.</p></section>
  </div>`}<//>`;
}
