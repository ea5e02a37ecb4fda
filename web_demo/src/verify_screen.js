/** All reference cases on each accelerator, and the report of it to the waiting command. */

import { describeDevice } from "./device.js";
import { button, drawing, make, numbers } from "./dom.js";
import { ACCELERATORS, loadLibrary } from "./engine.js";
import { NetworkError, oneLine } from "./errors.js";
import { milliseconds } from "./latency.js";
import { sendReport } from "./network.js";
import { failedRun, finishedRun, reportName, sealReport } from "./report.js";
import { verifyCases } from "./verification.js";

const TITLES = { wasm: "WASM, XNNPACK", webgpu: "WebGPU" };

export function verifyScreen(panel, app) {
  const cards = make("div", { className: "card", hidden: true });
  const outcome = make("section", { className: "card", "aria-label": "Report", hidden: true });
  const start = button("Verify", verify, { main: true });
  const intro = make(
    "section",
    { className: "card", "aria-label": "Verify" },
    make("p", {}, "Runs every reference case here and compares the answers with PyTorch's, on each accelerator of this browser."),
    start,
  );
  panel.append(intro, cards, outcome);
  let pending = null; // the last report: {bytes, name, delivered}
  let earlier = []; // of other models, which did not arrive: they go along with the next
  globalThis.addEventListener("beforeunload", (event) => {
    const waiting = earlier.length || (pending && !pending.delivered);
    if (waiting && app.config.reports) event.preventDefault(); // the browser asks
  });

  async function verify() {
    app.clear();
    outcome.hidden = true;
    const artifact = app.artifact();
    if (!artifact) return;
    const rows = ACCELERATORS.map((accelerator) => new Row(accelerator));
    cards.replaceChildren(...rows.map((row) => row.element));
    cards.hidden = false;
    cards.scrollIntoView({ block: "nearest" });
    const runs = []; // of what this browser has: what is missing is shown, and is no fault of the file
    const missing = ACCELERATORS.map((accelerator) => app.missing(accelerator)); // for this model: another may be chosen
    for (const [place, row] of rows.entries()) {
      if (missing[place]) row.missing(missing[place]);
      else runs.push(await runOn(row, artifact));
    }
    const { manifest, referenceSha256 } = artifact;
    const device = await describeDevice(navigator);
    const bytes = await sealReport({
      app: { name: "mobilevit-web", version: app.config.version },
      device,
      artifact: { name: artifact.name, file: manifest.file, sha256: manifest.sha256, reference_sha256: referenceSha256 },
      created: new Date(),
      runs,
    });
    if (pending && !pending.delivered) earlier.push(pending);
    pending = { bytes, name: reportName(artifact.name, device.model), delivered: false };
    earlier = earlier.filter(({ name }) => name !== pending.name);
    await deliver();
  }

  async function runOn(row, artifact) {
    let version = null;
    try {
      row.progress(0, 1);
      ({ version } = await loadLibrary("litert/"));
      return await app.session.with(artifact, row.accelerator, async (engine) => {
        const { answers, found, latency } = await verifyCases(engine, artifact, (done, all) => row.progress(done, all));
        row.finished(found, latency, engine);
        return finishedRun(engine, artifact.reference.output, answers, latency);
      });
    } catch (error) {
      row.failed(oneLine(error));
      return failedRun(row.accelerator, version, error);
    }
  }

  async function deliver() {
    const report = pending;
    const { bytes, name } = report;
    if (!app.config.reports) {
      tell("wait", "The report is ready", `Judge it with mobilevit verify ARTIFACT --device-report ${name}`);
      return;
    }
    tell("wait", "Sending the report…", "");
    try {
      const { passed, verdicts } = await sendReport(app.config.reports, bytes);
      report.delivered = true;
      await deliverEarlier();
      const rows = verdicts.map(({ runtime, status, reason }) => `${runtime}: ${status}${reason ? ` (${reason})` : ""}`);
      const waiting = earlier.length ? " An earlier report is still kept here; it goes along with the next." : "";
      tell(passed ? "yes" : "no", passed ? "Passed" : "Not passed", `The command's verdict. ${rows.join("; ")}${waiting}`);
    } catch (error) {
      const retry = error instanceof NetworkError;
      report.delivered = !retry; // what the command refuses it has
      tell("no", "The report is not delivered", `${oneLine(error)}. ${retry ? "It is kept here." : ""}`, retry);
      if (retry) globalThis.addEventListener("online", () => pending?.bytes === bytes && deliver(), { once: true });
    }
  }

  /** Those that do not arrive now either wait for the next; what the command refuses it has. */
  async function deliverEarlier() {
    const left = [];
    for (const each of earlier) {
      await sendReport(app.config.reports, each.bytes).catch((error) => error instanceof NetworkError && left.push(each));
    }
    earlier = left;
  }

  /** Show where the report stands; it can always be saved or shared. */
  function tell(sign, title, text, retry = false) {
    const { bytes, name } = pending;
    const file = new File([bytes], name, { type: "application/json" });
    const link = make("a", { className: "button", href: URL.createObjectURL(file), download: name }, "Save report");
    const kind = { yes: "good", no: "bad", wait: "" }[sign];
    outcome.replaceChildren(
      make("div", { className: "run-title", role: "status" }, make("h2", {}, "Device report"), make("span", { className: `state ${kind}` }, drawing(sign), title)),
      make("p", { className: "note" }, text),
      make(
        "div",
        { className: "buttons" },
        retry ? button("Send again", deliver, { main: true }) : null,
        link,
        navigator.canShare?.({ files: [file] }) ? button("Share", () => navigator.share({ files: [file] }).catch(() => {})) : null,
      ),
    );
    outcome.hidden = false;
    outcome.scrollIntoView({ block: "nearest" });
  }

  return {
    changed() {
      cards.hidden = true;
    },
    shown() {
      const cases = app.artifact()?.reference.cases.length;
      start.textContent = cases ? `Verify ${cases} cases` : "Verify";
    },
    left() {},
  };
}

class Row {
  #state = make("span", { className: "state" }, "waiting");
  #body = make("div", { className: "run" });

  constructor(accelerator) {
    this.accelerator = accelerator;
    this.element = make("section", { className: "run", "aria-label": TITLES[accelerator] }, make("div", { className: "run-title" }, make("h2", {}, TITLES[accelerator]), this.#state), this.#body);
  }

  progress(done, all) {
    this.#say("", `${Math.floor((100 * done) / all)}%`, null);
    const bar = this.#body.querySelector("progress") ?? make("progress", { "aria-label": `${TITLES[this.accelerator]}: progress` });
    bar.max = all;
    bar.value = done;
    this.#body.replaceChildren(bar);
  }

  finished({ worstDb, same, cases }, { inference_ms: times }, engine) {
    const all = same === null || same === cases;
    this.#say(all ? "good" : "bad", all ? "computed" : "differs", all ? "yes" : "no");
    const pairs = [["worst SQNR", `${worstDb.toFixed(1)} dB`]];
    if (same !== null) pairs.push(["same best class", `${same} of ${cases}`]);
    pairs.push(["p50", milliseconds(times.p50)], ["p90", milliseconds(times.p90)]);
    const how = [`LiteRT.js ${engine.version}`, engine.precision, engine.threads ? "threads" : null].filter(Boolean).join(", ");
    this.#body.replaceChildren(numbers(pairs), make("p", { className: "note" }, how));
  }

  missing(why) {
    this.#say("", "not here", null);
    this.#body.replaceChildren(make("p", { className: "note" }, why));
  }

  failed(why) {
    this.#say("bad", "failed", "no");
    this.#body.replaceChildren(make("p", { className: "why" }, why));
  }

  #say(kind, text, sign) {
    this.#state.className = `state ${kind}`;
    this.#state.replaceChildren(...(sign ? [drawing(sign)] : []), text);
  }
}
