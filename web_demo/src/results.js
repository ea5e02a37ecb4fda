/** The five best classes with bars, or what a detector finds, and latencies. */

import { make, numbers } from "./dom.js";
import { answeredBy } from "./entries.js";
import { milliseconds, nearestRank } from "./latency.js";
import { valuesOf } from "./manifest.js";
import { Objects } from "./objects.js";
import { best } from "./scores.js";

const SHOWN = 5;
const SHOWN_OF_EACH = 3; // where there are several outputs

/** Lists that are drawn again for each answer, in place, so that bars move instead of blinking: one for each output.
 * A detector has one of objects, and boxes for the screen to lay over its picture: `overlay`. */
export class Results {
  #box = make("div");
  #lists = [];
  #names = null; // of the outputs that they are for
  #latency = make("div");
  #entry = make("p", { className: "note", hidden: true });
  #objects;

  constructor(app) {
    this.#objects = new Objects(app);
    this.overlay = this.#objects.overlay;
    this.element = make("section", { className: "card", "aria-label": "Answer", hidden: true }, this.#box, this.#latency, this.#entry);
  }

  /**
   * @param {{scores: Float32Array, picture: object, ms: number[], wholeMs: number[]}} answer of `classify`, and latencies
   * @param {object} manifest
   */
  show({ scores, picture, ms, wholeMs }, manifest) {
    const first = manifest.detector ? this.#objects.element : this.#box;
    if (this.element.firstChild !== first) this.element.replaceChildren(first, this.#latency, this.#entry);
    if (manifest.detector) {
      this.#objects.show(scores, manifest, picture);
    } else {
      this.#objects.hide();
      this.#showClasses(scores, manifest.heads);
    }
    this.#latency.replaceChildren(
      numbers([
        ["p50", milliseconds(nearestRank(ms, 50))],
        ["p90", milliseconds(nearestRank(ms, 90))],
        ["with resizing", milliseconds(nearestRank(wholeMs, 50))],
      ]),
    );
    this.#entry.textContent = answeredBy(manifest, picture);
    this.#entry.hidden = manifest.entries.length === 1;
    this.element.hidden = false;
  }

  #showClasses(scores, heads) {
    const shown = heads.filter(({ kind }) => kind === "scores");
    const names = shown.map(({ name }) => name).join();
    if (this.#names !== names) {
      this.#names = names;
      this.#lists = shown.map(({ name }) => make("ol", { className: "classes", "aria-label": shown.length > 1 ? `Best classes: ${name}` : "Best classes" }));
      const titled = (list, place) => (shown.length > 1 ? [make("h2", {}, shown[place].name), list] : [list]);
      this.#box.replaceChildren(...this.#lists.flatMap(titled));
    }
    shown.forEach((head, place) => {
      const rows = rowsOf(valuesOf(scores, head), head.labels, shown.length > 1 ? SHOWN_OF_EACH : SHOWN);
      fill(this.#lists[place], rows);
    });
  }

  /** What another screen's slider said goes for this one. */
  refresh() {
    this.#objects.refresh();
  }

  hide() {
    this.#objects.hide();
    this.element.hidden = true;
  }
}

/** The best classes; of one score, how sure it is. */
function rowsOf(scores, labels, count) {
  if (scores.length === 1) return [{ name: labels?.[0] ?? "yes", share: 1 / (1 + Math.exp(-scores[0])) }];
  return best(scores, count).map(({ index, share }) => ({ name: labels?.[index] ?? `class ${index}`, share }));
}

function fill(list, rows) {
  while (list.children.length > rows.length) list.lastChild.remove();
  rows.forEach(({ name, share }, place) => {
    const row = list.children[place] ?? list.appendChild(newRow());
    const [label, percent, track] = row.children;
    label.textContent = name;
    percent.textContent = `${(100 * share).toFixed(1)}%`;
    track.firstChild.style.setProperty("--share", `${100 * share}%`);
  });
}

function newRow() {
  return make("li", {}, make("span"), make("b"), make("div", { className: "track" }, make("i")));
}
