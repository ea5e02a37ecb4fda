/** The live camera, frame by frame: its classes, or boxes over what a detector finds. */

import { awake } from "./awake.js";
import { button, drawing, make } from "./dom.js";
import { oneLine } from "./errors.js";
import { fitFrame } from "./objects.js";
import { draw, pixelsOf } from "./photo.js";
import { Results } from "./results.js";
import { classify } from "./session.js";

const KEPT = 100; // latencies, of the last frames

/** Why there is no live camera, in one line; null where one may be asked for. */
export function missingCamera() {
  if (!globalThis.isSecureContext) return "The live camera needs https or localhost; take a photo instead.";
  if (!navigator.mediaDevices?.getUserMedia) return "This browser has no live camera; take a photo instead.";
  return null;
}

/** What a refusal of `getUserMedia` means. */
export function cameraError(error) {
  const known = {
    NotAllowedError: "The camera is not allowed; allow it in this page's settings, or take a photo instead.",
    NotFoundError: "This device has no camera; choose a photo instead.",
    NotReadableError: "Another app is using the camera; close it and try again.",
    OverconstrainedError: "No camera of this device fits; take a photo instead.",
  };
  return known[error?.name] ?? `The camera fails: ${oneLine(error)}`;
}

export function cameraScreen(panel, app) {
  const results = new Results(app);
  const video = make("video", { muted: true, playsInline: true, autoplay: true, "aria-label": "Live camera" });
  const seen = make("canvas", { role: "img", "aria-label": "What the model sees" });
  const empty = make("div", { className: "picture empty" }, drawing("camera"), make("p", {}, missingCamera() ?? "No frame leaves this device."));
  const live = make("div", { className: "picture", hidden: true }, video, seen, results.overlay);
  let turn = 0; // of starts and stops: what belongs to another one is over
  let stream = null;
  let samples = null; // latencies since the camera, the model or the accelerator changed
  forget();

  async function start() {
    stop();
    const mine = turn;
    app.clear();
    toggle(true);
    try {
      const opened = await navigator.mediaDevices.getUserMedia({ audio: false, video: { facingMode: "environment", width: { ideal: 1280 } } });
      if (mine !== turn) return end(opened); // stopped, or left, while the browser asked the person
      stream = opened;
      if (document.hidden) return stop();
    } catch (error) {
      if (mine !== turn) return;
      stop();
      app.fail(cameraError(error));
      return;
    }
    stream.getVideoTracks()[0]?.addEventListener("ended", () => mine === turn && stop());
    video.srcObject = stream;
    try {
      await awake(async () => {
        if (mine === turn) await video.play();
        while (mine === turn) await frame();
      });
    } catch (error) {
      if (mine !== turn) return;
      stop();
      app.fail(error);
    }
  }

  async function frame() {
    const still = stream.getVideoTracks()[0]?.muted; // by a call, say: the last frame stands, and is no answer
    if (still || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA || !video.videoWidth) return nextFrame();
    const own = samples;
    const picture = pixelsOf(video, video.videoWidth, video.videoHeight);
    await app.run(async (engine, manifest) => {
      const answer = await classify(engine, manifest, picture);
      if (own !== samples) return; // of a camera, a model or an accelerator that is not in use any more
      for (const name of ["ms", "wholeMs"]) samples[name] = [...samples[name], answer[name]].slice(-KEPT);
      fitFrame(live, manifest, picture);
      if (!manifest.detector) draw(seen, answer.seen);
      results.show({ ...answer, ...samples }, manifest);
    });
    await nextFrame();
  }

  function stop() {
    turn++;
    end(stream);
    stream = video.srcObject = null;
    toggle(false);
  }

  function toggle(on) {
    live.hidden = !on;
    empty.hidden = on;
    startButton.hidden = on;
    stopButton.hidden = !on;
    if (!on) results.hide();
    forget();
  }

  function forget() {
    samples = { ms: [], wholeMs: [] };
  }

  const startButton = button("Start the camera", start, { main: true });
  const stopButton = button("Stop", async () => stop());
  startButton.addEventListener("click", () => (startButton.disabled = false)); // `start` lasts as long as the camera
  stopButton.hidden = true;
  if (missingCamera()) startButton.disabled = true;
  panel.append(make("section", { className: "card", "aria-label": "Camera" }, empty, live, startButton, stopButton), results.element);
  document.addEventListener("visibilitychange", () => document.hidden && stream && stop());
  return {
    changed: forget,
    shown: () => results.refresh(),
    left: stop,
  };
}

function nextFrame() {
  return new Promise(requestAnimationFrame);
}

function end(stream) {
  stream?.getTracks().forEach((track) => track.stop());
}
