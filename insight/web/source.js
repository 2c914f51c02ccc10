// Where the pages' data comes from. A source answers each question with a promise:
//
//   status() diagnosis() system() profile()             one object
//   groups names workers tasks logs events deaths (page)  { total, dropped, offset, rows }, page = { offset, limit, search }
//   stream({ from, to, width }) memory({ from, to, width })   cells and points between two times in nanoseconds
//
// The answers are those of the trait `Source` in Rust. Here they are in the page itself; a live source asks a server.

const MOST_ROWS = 200;

/** A saved run, whose answers are in the document. */
export class EmbeddedSource {
  constructor(answers) {
    this.answers = answers;
    this.isLive = false;
  }

  static async of(element) {
    const packed = Uint8Array.from(atob(element.textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new EmbeddedSource(JSON.parse(await new Response(stream).text()));
  }

  async status() {
    return this.answers.status;
  }

  async diagnosis() {
    return this.answers.diagnosis;
  }

  async system() {
    return this.answers.system;
  }

  async profile() {
    return this.answers.profile;
  }

  async stream() {
    return this.answers.stream;
  }

  async memory() {
    return this.answers.memory;
  }

  groups(page) {
    return this.#page("groups", page, (row) => [row.name, row.layer, row.label]);
  }

  names(page) {
    return this.#page("names", page, (row) => [row.name]);
  }

  workers(page) {
    return this.#page("workers", page, (row) => [row.name, row.state]);
  }

  tasks(page) {
    return this.#page("tasks", page, (row) => [`${row.name}-${row.hash}`, row.worker, row.outcome]);
  }

  logs(page) {
    return this.#page("logs", page, (row) => [row.text, row.worker, row.level, row.key]);
  }

  events(page) {
    return this.#page("events", page, (row) => [row.text]);
  }

  deaths(page) {
    return this.#page("deaths", page, (row) => [row.worker, row.reason]);
  }

  async #page(list, { offset = 0, limit = MOST_ROWS, search = "" } = {}, texts) {
    const all = this.answers[list];
    const wanted = search.trim().toLowerCase();
    const found = wanted
      ? all.rows.filter((row) => texts(row).some((text) => text && text.toLowerCase().includes(wanted)))
      : all.rows;
    // Rows that exist and are not in the document are told, not forgotten.
    const missing = wanted ? 0 : Math.max(0, all.total - all.rows.length);
    const rows = found.slice(offset, offset + Math.min(limit, MOST_ROWS));
    return { total: found.length, missing, dropped: all.dropped, offset, rows };
  }
}
