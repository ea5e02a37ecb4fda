/** The page: which model, on which accelerator, on which screen. */

import { cameraScreen } from "./camera_screen.js";
import { Chosen } from "./chosen.js";
import { LEAST_SHARE } from "./detection.js";
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

const chosen = new Chosen(loadArtifact);
let failed = false; // no model is loaded, and the reason stands on the screen
let noWebGPU = "WebGPU is not asked yet"; // the reason; null where there is one

const app = {
  session: new Session(),
  config: { reports: null, version: "0.1.0" },
  least: LEAST_SHARE, // of what a detector finds
  artifact: () => chosen.artifact,
  /** The chosen model once it is loaded; null where it did not load. */
  settled: () => chosen.settled(),
  /** Why an accelerator does not run an artifact here; null where it does. */
  missing: (accelerator, artifact) => (accelerator === "webgpu" ? noWebGPU ?? webGPURefuses(artifact?.manifest.precision) : null),
  /** Show one line of what is wrong; a model that did not load is the reason for whatever follows. */
  fail(error) {
    if (!failed) tell(error);
  },
  /** Take away what is wrong no longer: a model that did not load still is. */
  clear() {
    find("error").hidden = !failed;
  },
  /** Use the chosen model, once it is loaded, on the chosen accelerator. */
  async run(use) {
    const artifact = await chosen.settled();
    if (!artifact) throw new Error("No model is loaded.");
    if (artifact.manifest.heads.every(({ kind }) => kind === "features")) throw new Error("This model returns features, not classes: verify it instead.");
    const accelerator = radios.find((radio) => radio.checked).value;
    return app.session.with(artifact, accelerator, (engine) => use(engine, artifact.manifest));
  },
};

function tell(error, again = null) {
  const line = typeof error === "string" ? error : oneLine(error);
  find("error").replaceChildren(make("span", {}, line), ...(again ? [button("Try again", again)] : []));
  find("error").hidden = false;
  find("error").scrollIntoView({ block: "nearest" });
}

/** No model is loaded: `again` for what may work at another time. */
function notLoaded(error, again) {
  failed = true;
  find("facts").textContent = "Not loaded";
  tell(error, error instanceof NetworkError ? again : null);
}

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
  failed = false;
  app.clear();
  find("facts").textContent = "Loading…";
  delete document.body.dataset.ready;
  try {
    const mine = await chosen.choose(name, (share) => {
      find("facts").textContent = `Loading… ${Math.floor(100 * share)}%`;
    });
    if (!mine) return;
  } catch (error) {
    notLoaded(error, () => choose(name));
    return;
  }
  const { manifest } = chosen.artifact;
  const megabytes = (manifest.bytes / 1e6).toFixed(1);
  const { detector } = manifest;
  const sizes = manifest.entries.map(({ width, height }) => `${width}×${height}`).join(", ");
  const answers = detector ? `detects ${detector.classes - 1} classes` : `${manifest.heads.map(({ size }) => size).join(" + ")} scores`;
  find("facts").textContent = `${manifest.precision} · ${megabytes} MB · ${sizes} pixels · ${answers}`;
  document.body.dataset.ready = name;
  showAccelerators();
  for (const screen of Object.values(screens)) screen.shown();
  await changed();
}

/** Grey what is missing, with the reason; what was chosen and is missing gives way to WASM. */
function showAccelerators() {
  const why = app.missing("webgpu", chosen.artifact);
  const [wasm, webgpu] = radios;
  webgpu.disabled = why !== null;
  if (webgpu.checked && why) wasm.checked = true;
  find("accelerator-note").hidden = why === null;
  find("accelerator-note").textContent = why ? `No WebGPU: ${why}.` : "";
}

async function begin() {
  failed = false;
  app.clear();
  try {
    noWebGPU = await missingWebGPU();
    showAccelerators();
    app.config = readConfig(await getText("config.json"));
    const names = readIndex(await getText("artifacts/index.json"));
    select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
    select.disabled = names.length < 2;
    await choose(names[0]);
  } catch (error) {
    notLoaded(error, begin);
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
