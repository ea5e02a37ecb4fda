import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { later, page, settle } from "./page.js";
import { cameraScreen } from "../../web_demo/src/camera_screen.js";
import { MANIFEST } from "./files.js";

const heads = [{ name: "logits", start: 0, size: 3, kind: "scores", labels: ["cat", "dog", "ship"] }];
const input = { ...MANIFEST.app_input, resizing: { mode: "squash", size: [2, 2], filter: "bilinear" } };
const manifest = { ...MANIFEST, heads, detector: null, input, entries: [{ name: null, input, height: 2, width: 2 }] };

function camera() {
  const track = Object.assign(new EventTarget(), { stopped: false, stop: () => (track.stopped = true) });
  return { track, getTracks: () => [track], getVideoTracks: () => [track] };
}

let app;
let panel;
let screen;
let asked; // for a camera; each is answered by the test
let frames; // in the engine; each is answered by the test
beforeEach(() => {
  [asked, frames] = [[], []];
  document.hidden = false;
  navigator.mediaDevices.getUserMedia = () => (asked.push(later()), asked.at(-1).promise);
  const engine = { run: () => (frames.push(later()), frames.at(-1).promise) };
  app = { failures: [], clear() {}, fail: (error) => app.failures.push(String(error)), run: (use) => use(engine, manifest) };
  panel = page.element();
  screen = cameraScreen(panel, app);
});
afterEach(() => screen.left());

const answer = (ms) => ({ output: Float32Array.of(1, 2, 3), ms });

async function running() {
  const opened = camera();
  panel.press("Start");
  asked.at(-1).resolve(opened);
  await settle();
  return opened;
}

test("frames are classified until the camera is stopped", async () => {
  const opened = await running();
  frames.shift().resolve(answer(7));
  await settle();
  assert.match(panel.textContent, /7\.00 ms/);
  panel.press("Stop");
  assert.equal(opened.track.stopped, true);
  frames.shift().resolve(answer(7));
  await settle();
  assert.deepEqual([frames.length, app.failures], [0, []]);
});

for (const [how, leave] of [
  ["another screen is shown", () => screen.left()],
  ["it is stopped", () => panel.press("Stop")],
]) {
  test(`a camera that opens after ${how} is closed at once`, async () => {
    panel.press("Start");
    leave();
    const opened = camera();
    asked[0].resolve(opened);
    await settle();
    assert.deepEqual([opened.track.stopped, frames.length, app.failures], [true, 0, []]);
  });
}

test("a camera that opens when the page is hidden is closed at once", async () => {
  panel.press("Start");
  document.hidden = true;
  const opened = camera();
  asked[0].resolve(opened);
  await settle();
  assert.deepEqual([opened.track.stopped, frames.length], [true, 0]);
  panel.press("Start"); // and may be started again
});

test("a second start leaves no first camera on", async () => {
  panel.press("Start");
  const first = camera();
  panel.press("Stop");
  panel.press("Start");
  const second = camera();
  asked[1].resolve(second);
  asked[0].resolve(first);
  await settle();
  assert.deepEqual([first.track.stopped, second.track.stopped], [true, false]);
});

test("a refusal that comes after the screen was left is not told", async () => {
  panel.press("Start");
  screen.left();
  asked[0].reject(new DOMException("no", "NotAllowedError"));
  await settle();
  assert.deepEqual(app.failures, []);
  panel.press("Start");
  asked[1].reject(new DOMException("no", "NotAllowedError"));
  await settle();
  assert.match(app.failures[0], /The camera is not allowed/);
});

test("a frame of the model before counts for none of the next one's latencies", async () => {
  await running();
  screen.changed();
  frames.shift().resolve(answer(900));
  await settle();
  assert.doesNotMatch(panel.textContent, /ms/);
  frames.shift().resolve(answer(3));
  await settle();
  assert.match(panel.textContent, /3\.00 ms/);
  assert.doesNotMatch(panel.textContent, /900/);
});

test("the last frame of a camera that a call took is not classified again", async () => {
  const { track } = await running();
  track.muted = true;
  frames.shift().resolve(answer(1));
  await settle();
  assert.equal(frames.length, 0);
  track.muted = false;
  await settle();
  assert.equal(frames.length, 1);
});

test("a page that is put aside closes its camera", async () => {
  const opened = await running();
  document.hidden = true;
  document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(opened.track.stopped, true);
});

test("the screen stays on for as long as the camera", async () => {
  const lock = { held: true, release: async () => (lock.held = false) };
  navigator.wakeLock = { request: async () => lock };
  await running();
  assert.equal(lock.held, true);
  panel.press("Stop");
  frames.shift().resolve(answer(1));
  await settle();
  assert.equal(lock.held, false);
  navigator.wakeLock = { request: () => Promise.reject(new Error("low battery")) };
  await running();
  assert.equal(frames.length, 1); // without it just the same
  delete navigator.wakeLock;
});

test("many frames need no more canvases than one", async () => {
  await running();
  const before = page.canvases.length;
  for (let i = 0; i < 10; i++) {
    frames.shift().resolve(answer(1));
    await settle();
  }
  assert.equal(page.canvases.length, before);
});
