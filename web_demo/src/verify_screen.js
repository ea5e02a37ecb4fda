/** All reference cases on each accelerator, and the report of it to the waiting command. */

import { awake } from "./awake.js";
import { Delivery } from "./delivery.js";
import { describeDevice } from "./device.js";
import { button, drawing, make, numbers } from "./dom.js";
import { ACCELERATORS, loadLibrary } from "./engine.js";
import { oneLine } from "./errors.js";
import { milliseconds } from "./latency.js";
import { failedRun, finishedRun, reportName, sealReport } from "./report.js";
import { verifyCases } from "./verification.js";

const TITLES = { wasm: "WASM, XNNPACK", webgpu: "WebGPU" };

export function verifyScreen(panel, app) {
  const cards = make("div", { className: "card", hidden: true });
  const delivery = new Delivery(app);
  const start = button("Verify", verify, { main: true });
  const intro = make(
    "section",
    { className: "card", "aria-label": "Verify" },
    make("p", {}, "Runs every reference case here and compares the answers with PyTorch's, on each accelerator of this browser."),
    start,
  );
  panel.append(intro, cards, delivery.element);

  async function verify() {
    app.clear();
    const artifact = await app.settled();
    if (!artifact) return; // why stands on the screen
    delivery.tidy();
    const rows = ACCELERATORS.map((accelerator) => new Row(accelerator));
    cards.replaceChildren(...rows.map((row) => row.element));
    cards.hidden = false;
    cards.scrollIntoView({ block: "nearest" });
    const runs = []; // of what this browser has: what is missing is shown, and is no fault of the file
    await awake(async () => {
      for (const row of rows) {
        const missing = app.missing(row.accelerator, artifact); // another model may be chosen meanwhile
        if (missing) row.missing(missing);
        else runs.push(await runOn(row, artifact));
      }
    });
    const { manifest, referenceSha256 } = artifact;
    const device = await describeDevice(navigator);
    const bytes = await sealReport({
      app: { name: "mobilevit-web", version: app.config.version },
      device,
      artifact: { name: artifact.name, file: manifest.file, sha256: manifest.sha256, reference_sha256: referenceSha256 },
      created: new Date(),
      runs,
    });
    await delivery.add(reportName(artifact.name, device.model), artifact.name, bytes);
  }

  async function runOn(row, artifact) {
    let version = null;
    try {
      row.progress(0, 1);
      ({ version } = await loadLibrary("litert/"));
      return await app.session.with(artifact, row.accelerator, async (engine) => {
        const { answers, found, latency } = await verifyCases(engine, artifact, (done, all) => row.progress(done, all));
        row.finished(found, latency, engine);
        return finishedRun(engine, artifact.manifest.heads, answers, latency);
      });
    } catch (error) {
      row.failed(oneLine(error));
      return failedRun(row.accelerator, version, error);
    }
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

  finished({ worstDb, same, cases, objects, outputs = [] }, { inference_ms: times, entries = [] }, engine) {
    const total = objects ?? cases;
    const all = same === null || same === total;
    this.#say(all ? "good" : "bad", all ? "computed" : "differs", all ? "yes" : "no");
    const pairs = [["worst SQNR", `${worstDb.toFixed(1)} dB`]];
    if (same !== null) pairs.push(["same best class", `${same} of ${total}`]);
    pairs.push(["p50", milliseconds(times.p50)], ["p90", milliseconds(times.p90)]);
    const how = [`LiteRT.js ${engine.version}`, engine.precision, engine.threads ? "threads" : null].filter(Boolean).join(", ");
    const each = outputs.map((one) => `${one.name} ${one.worstDb.toFixed(1)} dB${one.same === null ? "" : `, ${one.same} of ${one.objects ?? cases}`}`);
    const timed = entries.map(({ name, inference_ms: { p50, p90 } }) => `${name} p50 ${milliseconds(p50)}, p90 ${milliseconds(p90)}`);
    this.#body.replaceChildren(numbers(pairs), ...[...each, ...timed, how].map((line) => make("p", { className: "note" }, line)));
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
