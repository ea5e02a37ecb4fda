/** A photograph from the camera or the gallery, and what the model says to it. */

import { breathe, drawing, make } from "./dom.js";
import { fitFrame } from "./objects.js";
import { decodePhoto, draw } from "./photo.js";
import { Results } from "./results.js";
import { classify } from "./session.js";

const RUNS = 20; // of one photograph, for percentiles
const BUDGET = 2000; // milliseconds

/** @param {{run: (use: Function) => Promise, fail: (message: string) => void, clear: () => void}} app */
export function photoScreen(panel, app) {
  const results = new Results(app);
  const picture = make("div", { className: "picture empty" }, drawing("photo"), make("p", {}, "Nothing leaves this device: the photo stays in this page."));
  const say = make("p", { className: "note", role: "status" });
  let photo = null;
  let turn = 0;

  async function show(file) {
    const mine = ++turn;
    app.clear();
    results.hide();
    say.textContent = "Reading the photo…";
    await breathe();
    try {
      const decoded = await decodePhoto(file);
      if (mine !== turn) return;
      URL.revokeObjectURL(photo?.url);
      photo = { decoded, url: URL.createObjectURL(file) };
      await answer(mine);
    } catch (error) {
      if (mine === turn) app.fail(error);
    } finally {
      if (mine === turn) say.textContent = "";
    }
  }

  async function answer(mine) {
    say.textContent = "Looking…";
    const seen = make("canvas", { role: "img", "aria-label": "What the model sees" });
    picture.className = "picture";
    picture.replaceChildren(make("img", { src: photo.url, alt: "Your photo" }), seen, results.overlay);
    const [ms, wholeMs] = [[], []];
    await app.run(async (engine, manifest) => {
      fitFrame(picture, manifest, photo.decoded);
      const end = performance.now() + BUDGET;
      while (ms.length < RUNS && (!ms.length || performance.now() < end) && mine === turn) {
        const answered = await classify(engine, manifest, photo.decoded);
        ms.push(answered.ms);
        wholeMs.push(answered.wholeMs);
        if (ms.length === 1) draw(seen, answered.seen);
        if (mine === turn) results.show({ ...answered, ms, wholeMs }, manifest);
        if (ms.length === 1) results.element.scrollIntoView({ block: "nearest" });
        await breathe();
      }
    });
  }

  const chooser = (label, drawn, properties) => {
    const input = make("input", { type: "file", accept: "image/*", ...properties });
    input.addEventListener("change", () => {
      if (input.files[0]) show(input.files[0]);
      input.value = ""; // the same photo may be chosen again
    });
    return make("label", { className: properties.capture ? "button main" : "button" }, drawing(drawn), label, input);
  };
  const choosers = make("div", { className: "buttons" }, chooser("Take photo", "camera", { capture: "environment" }), chooser("Choose photo", "photo", {}));
  panel.append(make("section", { className: "card", "aria-label": "Photo" }, picture, choosers, say), results.element);
  return {
    /** Another model or accelerator: the photo is classified again. */
    async changed() {
      results.hide();
      if (!photo) return;
      const mine = ++turn;
      try {
        await answer(mine);
      } catch (error) {
        if (mine === turn) app.fail(error);
      } finally {
        if (mine === turn) say.textContent = "";
      }
    },
    shown: () => results.refresh(),
    left() {},
  };
}
