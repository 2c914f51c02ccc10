// The frame around the pages: where one is, keys, and what is shown where a page fails.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "swath/html";
import { Boundary, Words } from "swath/parts";
import { EmbeddedSource } from "swath/source";
import { clock, date, many } from "swath/format";
import { StatusPage } from "swath/pages/status";
import { DiagnosisPage } from "swath/pages/diagnosis";
import { TasksPage } from "swath/pages/tasks";
import { WorkersPage } from "swath/pages/workers";
import { MemoryPage } from "swath/pages/memory";
import { ProfilePage } from "swath/pages/profile";
import { LogsPage } from "swath/pages/logs";
import { DeathsPage } from "swath/pages/deaths";
import { SystemPage } from "swath/pages/system";

const PAGES = [
  ["status", "Status", StatusPage],
  ["diagnosis", "Diagnosis", DiagnosisPage],
  ["tasks", "Tasks", TasksPage],
  ["workers", "Workers", WorkersPage],
  ["memory", "Memory", MemoryPage],
  ["profile", "Profile", ProfilePage],
  ["logs", "Logs", LogsPage],
  ["deaths", "Deaths", DeathsPage],
  ["system", "System", SystemPage],
];
/** All pages, one below the other: for printing. */
const ALL = "all";

function route() {
  const [page, query] = location.hash.replace(/^#/, "").split("?");
  const isKnown = page === ALL || PAGES.some(([id]) => id === page);
  return { page: isKnown ? page : "status", params: new URLSearchParams(query ?? "") };
}

function App({ source, status }) {
  const [at, setAt] = useState(route);
  const help = useRef(null);
  useEffect(() => {
    const moved = () => {
      setAt(route());
      scrollTo(0, 0);
    };
    const pressed = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Escape") {
        event.target.blur?.();
        return;
      }
      if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
      const page = PAGES[Number(event.key) - 1];
      if (page) location.hash = page[0];
      else if (event.key === "?") help.current?.showModal();
      else if (event.key === "/") document.querySelector("input[type=search]")?.focus();
      else return;
      event.preventDefault();
    };
    addEventListener("hashchange", moved);
    addEventListener("keydown", pressed);
    return () => {
      removeEventListener("hashchange", moved);
      removeEventListener("keydown", pressed);
    };
  }, []);
  useEffect(() => {
    document.querySelector("nav a[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [at.page]);
  const shown = at.page === ALL ? PAGES : PAGES.filter(([id]) => id === at.page);
  return html`<header>
      <b class="brand">swath</b>
      <span class="run"><bdi>${status.title}</bdi><span class="dim"> · ${many(status.workers, "worker")}, ${many(status.threads, "thread")}</span></span>
      <nav aria-label="Pages">${PAGES.map(([id, title], i) => html`<a href=${`#${id}`} title=${`${title} (${i + 1})`} aria-current=${id === at.page ? "page" : undefined}>${title}</a>`)}</nav>
      <span class="when dim" title="This is a report of a run: nothing in it changes">report · ${date(status.started_ms)}</span>
      <button type="button" class="help" title="Keys (?)" aria-label="Keys" onClick=${() => help.current?.showModal()}>?</button>
    </header>
    <main>
      <div class="first" role="status">
        <h1 class=${status.state === "failed" ? "bad" : ""}>${status.state === "failed" ? "× " : ""}${status.first_line}</h1>
        <p><${Words} text=${status.second_line} />${" "}${at.page !== "diagnosis" && status.runs > 0 && html`<a href="#diagnosis">Why?</a>`}</p>
        ${!status.complete && html`<p class="note">This is not everything: ${status.problems[0] ?? "the log was not ended in order"} ${status.problems.length > 1 ? html`<a href="#status">(${status.problems.length} problems)</a>` : ""}</p>`}
      </div>
      ${shown.map(([id, title, Page]) => html`<div class="page" id=${`page-${id}`} key=${`${id}?${at.params}`} aria-label=${title}>
        ${at.page === ALL && html`<h2 class="title">${title}</h2>`}
        <${Boundary}><${Page} source=${source} status=${status} params=${at.params} isAlone=${at.page !== ALL} /><//>
      </div>`)}
    </main>
    <dialog ref=${help} aria-label="Keys"><h2>Keys</h2><dl class="facts">
      ${[["1–9", "pages"], ["/", "search"], ["← →", "move the stream (Tasks)"], ["+ − 0", "zoom it"], ["t", "the stream as a table"], ["?", "this list"], ["Esc", "back"]].map(
        ([key, what]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}
      <div><dt>print</dt><dd><a href="#all" onClick=${() => help.current?.close()}>all pages, one below the other</a></dd></div></dl>
      <form method="dialog"><button>close</button></form></dialog>`;
}

async function start() {
  const plain = document.getElementById("plain");
  try {
    const source = await EmbeddedSource.of(document.getElementById("data"));
    const status = await source.status();
    render(html`<${App} source=${source} status=${status} />`, document.getElementById("app"));
    plain.remove();
    document.documentElement.dataset.ready = "yes";
  } catch (error) {
    const note = document.createElement("p");
    note.className = "note bad";
    note.textContent = `The pages cannot be shown (${error.message}). Below is what needs no script.`;
    plain.prepend(note);
  }
}

start();
