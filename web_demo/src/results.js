/** The five best classes with bars, and latencies. */

import { make, numbers } from "./dom.js";
import { milliseconds, nearestRank } from "./latency.js";
import { best } from "./scores.js";

const SHOWN = 5;

/** A list that is drawn again for each answer, in place, so that bars move instead of blinking. */
export class Results {
  #list = make("ol", { className: "classes", "aria-label": "Best classes" });
  #latency = make("div");
  element = make("section", { className: "card", "aria-label": "Answer", hidden: true }, this.#list, this.#latency);

  /** @param {{scores: Float32Array, labels: string[] | null, ms: number[], wholeMs: number[]}} answer */
  show({ scores, labels, ms, wholeMs }) {
    const top = scores.length === 1 ? [] : best(scores, SHOWN);
    const rows = top.map(({ index, share }) => ({ name: labels?.[index] ?? `class ${index}`, share }));
    if (scores.length === 1) rows.push({ name: labels?.[0] ?? "yes", share: 1 / (1 + Math.exp(-scores[0])) });
    while (this.#list.children.length > rows.length) this.#list.lastChild.remove();
    rows.forEach(({ name, share }, place) => {
      const row = this.#list.children[place] ?? this.#list.appendChild(newRow());
      const [label, percent, track] = row.children;
      label.textContent = name;
      percent.textContent = `${(100 * share).toFixed(1)}%`;
      track.firstChild.style.setProperty("--share", `${100 * share}%`);
    });
    this.#latency.replaceChildren(
      numbers([
        ["p50", milliseconds(nearestRank(ms, 50))],
        ["p90", milliseconds(nearestRank(ms, 90))],
        ["with resizing", milliseconds(nearestRank(wholeMs, 50))],
      ]),
    );
    this.element.hidden = false;
  }

  hide() {
    this.element.hidden = true;
  }
}

function newRow() {
  return make("li", {}, make("span"), make("b"), make("div", { className: "track" }, make("i")));
}
