/** What a detector finds: boxes over the picture, and a list with a slider below it. */

import { LEAST_SHARE, objectsOf } from "./detection.js";
import { make } from "./dom.js";

const LISTED = 10;
const EDGE = 0.08; // of the picture: above a box that begins so high is no room for its label
const GOLDEN = 137.508; // degrees: neighbors among the classes have hues far apart

/** The color of a class, light enough for dark text. */
export function colorOf(index) {
  return `hsl(${((index * GOLDEN) % 360).toFixed(1)} 100% 72%)`;
}

/** Show a picture whole where boxes go over it; else it fills its place. */
export function fitFrame(frame, manifest, { width, height }) {
  frame.className = manifest.detector ? "picture whole" : "picture";
  frame.style.setProperty("--ratio", width / height);
}

export class Objects {
  overlay = make("div", { className: "boxes", role: "img", hidden: true });
  #slider = make("input", { type: "range", min: 5, max: 95, step: 5 });
  #from = make("output");
  #nothing = make("p", { className: "note" });
  #list = make("ol", { className: "classes", "aria-label": "Objects" });
  element = make(
    "div",
    { className: "objects", hidden: true },
    make("label", { className: "slider" }, make("span", {}, "Show from"), this.#from, this.#slider),
    this.#list,
    this.#nothing,
  );
  #app;
  #last = null;

  /** @param {{least: number | undefined}} app what a person chose for one screen goes for the others */
  constructor(app) {
    this.#app = app;
    this.#slider.addEventListener("input", () => {
      app.least = this.#slider.value / 100;
      this.refresh();
    });
  }

  refresh() {
    if (this.#last) this.show(...this.#last);
  }

  /** @param {Float32Array} answer of a file @param {object} manifest @param {{width: number, height: number}} picture */
  show(answer, manifest, picture) {
    this.#last = [answer, manifest, picture];
    const least = this.#app.least ?? LEAST_SHARE;
    const { labels } = manifest.detector.scores;
    const objects = objectsOf(answer, manifest, picture, least).map((each) => ({
      ...each,
      name: labels?.[each.index] ?? `class ${each.index}`,
      color: colorOf(each.index),
    }));
    const percent = `${Math.round(100 * least)}%`;
    this.#slider.value = Math.round(100 * least);
    this.#from.textContent = percent;
    this.overlay.replaceChildren(...objects.map(boxOf).reverse()); // the surest lies on top
    this.overlay.setAttribute("aria-label", objects.length ? `Boxes: ${objects.map(({ name }) => name).join(", ")}` : "No boxes");
    this.#list.replaceChildren(...objects.slice(0, LISTED).map(rowOf));
    const more = objects.length - LISTED;
    this.#nothing.textContent = more > 0 ? `and ${more} more in the picture` : objects.length ? "" : `Nothing is as sure as ${percent}.`;
    this.overlay.hidden = this.element.hidden = false;
    keepInside(this.overlay);
  }

  hide() {
    this.#last = null;
    this.overlay.hidden = this.element.hidden = true;
  }
}

function boxOf({ name, share, color, left, top, right, bottom }) {
  const label = make("span", {}, `${name} ${Math.round(100 * share)}%`);
  const box = make("div", { className: top < EDGE ? "box inward" : "box" }, label);
  const places = { left, top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) };
  for (const [side, value] of Object.entries(places)) box.style.setProperty(side, `${100 * value}%`);
  box.style.setProperty("--color", color);
  return box;
}

/** Labels of boxes near the right edge move to the left as far as they must. */
function keepInside(overlay) {
  const { right } = overlay.getBoundingClientRect();
  const labels = [...overlay.children].map((box) => box.children[0]);
  const beyond = labels.map((label) => label.getBoundingClientRect().right - right);
  labels.forEach((label, place) => beyond[place] > 0 && label.style.setProperty("translate", `${-beyond[place]}px`));
}

function rowOf({ name, share, color }) {
  const row = make("li", {}, make("span", {}, name), make("b", {}, `${(100 * share).toFixed(1)}%`), make("div", { className: "track" }, make("i")));
  row.style.setProperty("--bar", color);
  row.style.setProperty("--share", `${100 * share}%`);
  return row;
}
