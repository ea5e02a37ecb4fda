/** Reports on their way to the waiting command: each is kept until the command has it. */

import { button, drawing, make } from "./dom.js";
import { NetworkError, oneLine } from "./errors.js";
import { sendReport } from "./network.js";

export class Delivery {
  element = make("section", { className: "card", "aria-label": "Reports", hidden: true });
  #reports = new Map(); // by the name of their file, the latest last
  #sending = null;
  #app;

  constructor(app) {
    this.#app = app;
    globalThis.addEventListener("beforeunload", (event) => this.#waiting().length && event.preventDefault()); // the browser asks
    const again = () => this.#waiting().length && this.send();
    globalThis.addEventListener("online", again);
    document.addEventListener("visibilitychange", () => !document.hidden && again()); // phones that slept may tell no more
  }

  /** Take away what the command has; what is to be saved stays. */
  tidy() {
    for (const report of this.#reports.values()) if (report.settled && this.#app.config.reports) this.#remove(report);
    this.#draw();
  }

  /** Send a report, or offer it where no command waits; it replaces an earlier one of the same file and device. */
  add(name, artifact, bytes) {
    if (this.#reports.has(name)) this.#remove(this.#reports.get(name));
    const file = new File([bytes], name, { type: "application/json" });
    this.#reports.set(name, { name, artifact, file, url: URL.createObjectURL(file), settled: false });
    return this.send();
  }

  /** Send all that the command does not have, one after the other, those too that are added meanwhile. */
  send() {
    this.#sending ??= this.#sendAll().finally(() => (this.#sending = null));
    return this.#sending;
  }

  async #sendAll() {
    for (const report of this.#reports.values()) if (!report.settled) await this.#sendOne(report);
  }

  async #sendOne(report) {
    const { reports: path } = this.#app.config;
    if (!path) {
      report.settled = true;
      this.#tell(report, "wait", "The report is ready", `Judge it with mobilevit verify ${report.artifact} --device-report ${report.name}`);
      return;
    }
    this.#tell(report, "wait", "Sending the report…", "");
    try {
      const { passed, verdicts } = await sendReport(path, report.file);
      report.settled = true;
      const rows = verdicts.map(({ runtime, status, reason }) => `${runtime}: ${status}${reason ? ` (${reason})` : ""}`);
      this.#tell(report, passed ? "yes" : "no", passed ? "Passed" : "Not passed", `The command's verdict. ${rows.join("; ")}`);
    } catch (error) {
      const kept = error instanceof NetworkError; // what the command refuses it has
      report.settled = !kept;
      this.#tell(report, "no", "The report is not delivered", `${oneLine(error)}. ${kept ? "It is kept here." : ""}`);
    }
  }

  #waiting() {
    return [...this.#reports.values()].filter(({ settled }) => !settled);
  }

  #remove({ name, url }) {
    this.#reports.delete(name);
    URL.revokeObjectURL(url);
  }

  #tell(report, sign, title, text) {
    Object.assign(report, { sign, title, text });
    this.#draw();
    this.element.scrollIntoView({ block: "nearest" });
  }

  #draw() {
    const told = [...this.#reports.values()].filter(({ title }) => title);
    this.element.replaceChildren(...told.map((report) => this.#block(report, told.length > 1)));
    this.element.hidden = !told.length;
  }

  #block({ artifact, file, url, settled, sign, title, text }, several) {
    const kind = { yes: "good", no: "bad", wait: "" }[sign];
    const state = make("span", { className: `state ${kind}` }, drawing(sign), title);
    const note = make("p", { className: "note" }, text);
    return make(
      "section",
      { className: "run" },
      make("div", { className: "run-title", role: "status" }, make("h2", {}, "Device report"), state),
      several ? make("p", { className: "note" }, artifact) : null,
      note,
      make(
        "div",
        { className: "buttons" },
        sign === "no" && !settled ? button("Send again", () => this.send(), { main: true }) : null,
        make("a", { className: "button", href: url, download: file.name }, "Save report"),
        navigator.canShare?.({ files: [file] }) ? button("Share", () => share(file, note)) : null,
      ),
    );
  }
}

/** Chrome says that it can share such a file, and then may refuse its type. */
async function share(file, note) {
  try {
    await navigator.share({ files: [file] });
  } catch (error) {
    if (error.name !== "AbortError") note.textContent = "This browser does not share reports; save it instead.";
  }
}
