/** The page: which model, on which accelerator, on which screen. */

import { cameraScreen } from "./camera_screen.js";
import { button, make } from "./dom.js";
import { missingWebGPU, webGPURefuses } from "./engine.js";
import { NetworkError, oneLine } from "./errors.js";
import { readConfig, readIndex } from "./manifest.js";
import { getText, loadArtifact } from "./network.js";
import { photoScreen } from "./photo_screen.js";
import { Session } from "./session.js";
import { verifyScreen } from "./verify_screen.js";

const find = (id) => document.getElementById(id);
const select = find("artifact");
const radios = [...document.querySelectorAll("[name=accelerator]")];
const tabs = [...document.querySelectorAll("[role=tab]")];

let artifact = null;
let loading = 0;
let noWebGPU = "WebGPU is not asked yet"; // the reason; null where there is one

const app = {
  session: new Session(),
  config: { reports: null, version: "0.1.0" },
  artifact: () => artifact,
  /** Why an accelerator does not run the chosen model here; null where it does. */
  missing: (accelerator) => (accelerator === "webgpu" ? noWebGPU ?? webGPURefuses(artifact?.manifest.precision) : null),
  /** Show one line of what is wrong; `again` is for what may work at another time. */
  fail(error, again = null) {
    const line = typeof error === "string" ? error : oneLine(error);
    find("error").replaceChildren(make("span", {}, line), ...(again ? [button("Try again", again)] : []));
    find("error").hidden = false;
    find("error").scrollIntoView({ block: "nearest" });
  },
  /** Take away what is wrong no longer: a model that did not load still is. */
  clear() {
    if (artifact) find("error").hidden = true;
  },
  /** Use the chosen model on the chosen accelerator. */
  run(use) {
    if (!artifact) return Promise.reject(new Error("No model is loaded."));
    if (artifact.reference.output === "features") return Promise.reject(new Error("This model returns features, not classes: verify it instead."));
    const [chosen, accelerator] = [artifact, radios.find((radio) => radio.checked).value];
    return app.session.with(chosen, accelerator, (engine) => use(engine, chosen.manifest));
  },
};

const screens = {
  photo: photoScreen(find("panel-photo"), app),
  camera: cameraScreen(find("panel-camera"), app),
  verify: verifyScreen(find("panel-verify"), app),
};

function show(name) {
  for (const tab of tabs) {
    const own = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", own);
    tab.tabIndex = own ? 0 : -1;
    find(tab.getAttribute("aria-controls")).hidden = !own;
  }
  for (const [other, screen] of Object.entries(screens)) if (other !== name) screen.left();
  app.clear();
  screens[name].shown();
  globalThis.scrollTo(0, 0);
}

function changed() {
  app.clear();
  return Promise.all(Object.values(screens).map((screen) => screen.changed()));
}

async function choose(name) {
  const mine = ++loading;
  artifact = null;
  find("error").hidden = true;
  find("facts").textContent = "Loading…";
  try {
    const loaded = await loadArtifact(name, (share) => {
      if (mine === loading) find("facts").textContent = `Loading… ${Math.floor(100 * share)}%`;
    });
    if (mine !== loading) return;
    artifact = loaded;
    const { manifest } = loaded;
    const megabytes = (manifest.bytes / 1e6).toFixed(1);
    find("facts").textContent = `${manifest.precision} · ${megabytes} MB · ${manifest.width}×${manifest.height} pixels · ${manifest.scores} scores`;
    document.body.dataset.ready = name;
    showAccelerators();
    for (const screen of Object.values(screens)) screen.shown();
    await changed();
  } catch (error) {
    if (mine !== loading) return;
    find("facts").textContent = "Not loaded";
    delete document.body.dataset.ready;
    app.fail(error, error instanceof NetworkError ? () => choose(name) : null);
  }
}

/** Grey what is missing, with the reason; what was chosen and is missing gives way to WASM. */
function showAccelerators() {
  const why = app.missing("webgpu");
  const [wasm, webgpu] = radios;
  webgpu.disabled = why !== null;
  if (webgpu.checked && why) wasm.checked = true;
  find("accelerator-note").hidden = why === null;
  find("accelerator-note").textContent = why ? `No WebGPU: ${why}.` : "";
}

async function begin() {
  find("error").hidden = true;
  try {
    noWebGPU = await missingWebGPU();
    showAccelerators();
    app.config = readConfig(await getText("config.json"));
    const names = readIndex(await getText("artifacts/index.json"));
    select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
    select.disabled = names.length < 2;
    await choose(names[0]);
  } catch (error) {
    find("facts").textContent = "Not loaded";
    app.fail(error, error instanceof NetworkError ? begin : null);
  }
}

select.addEventListener("change", () => choose(select.value));
for (const radio of radios) radio.addEventListener("change", changed);
for (const [place, tab] of tabs.entries()) {
  tab.addEventListener("click", () => show(tab.id.slice(4)));
  tab.addEventListener("keydown", ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (!step) return;
    const next = tabs[(place + step + tabs.length) % tabs.length];
    next.focus();
    show(next.id.slice(4));
  });
}
find("name").textContent = document.title;
begin();
