import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { page } from "./page.js";
import { LEAST_SHARE, objectsOf } from "../../web_demo/src/detection.js";
import { ArtifactError } from "../../web_demo/src/errors.js";
import { readManifest } from "../../web_demo/src/manifest.js";
import { Results } from "../../web_demo/src/results.js";
import { golden, MANIFEST } from "./files.js";

/** The manifest of a detector; `labels` are those of its classes without "no object". */
function detector({ queries, classes, labels, resizing }, change = {}) {
  const [height, width] = resizing.center_crop ?? resizing.size;
  return JSON.stringify({
    ...MANIFEST,
    spec: { model: "detr_resnet50", labels, config: { num_queries: queries, num_classes: classes - 1 } },
    app_input: { ...MANIFEST.app_input, shape: [1, height, width, 3], resizing },
    outputs: [
      { name: "logits", shape: [1, queries, classes], dtype: "float32" },
      { name: "boxes", shape: [1, queries, 4], dtype: "float32" },
    ],
    ...change,
  });
}

const squash = { mode: "squash", size: [96, 128], filter: "bilinear", antialias: true, center_crop: null };
const SMALL = { queries: 2, classes: 3, labels: ["cat", "dog"], resizing: squash };

const cases = JSON.parse(new TextDecoder().decode(golden("detections.json")));
for (const { name, resizing, picture, classes, least, logits, boxes, found } of cases) {
  test(`objects are found: ${name}`, () => {
    const manifest = readManifest(detector({ queries: logits.length, classes, labels: null, resizing }));
    const answer = Float32Array.from([...logits, ...boxes].flat());
    const objects = objectsOf(answer, manifest, { width: picture[0], height: picture[1] }, least);
    assert.equal(objects.length, found.length);
    for (const [place, wanted] of found.entries()) {
      for (const [key, value] of Object.entries(wanted)) {
        assert.ok(Math.abs(objects[place][key] - value) < 1e-6, `${place} ${key}: ${objects[place][key]} is not ${value}`);
      }
    }
  });
}

test("an artifact tells that it detects", () => {
  const manifest = readManifest(detector(SMALL));
  assert.equal(manifest.detector.classes, 3);
  assert.deepEqual(manifest.heads.map(({ name, kind, start, size }) => [name, kind, start, size]), [
    ["logits", "query-scores", 0, 6],
    ["boxes", "boxes", 6, 8],
  ]);
  assert.equal(manifest.scores, 14);
  assert.equal(readManifest(JSON.stringify(MANIFEST)).detector, null);
});

const logits = { name: "logits", shape: [1, 2, 3], dtype: "float32" };
const boxes = { name: "boxes", shape: [1, 2, 4], dtype: "float32" };
const refused = {
  "no boxes": [{ outputs: [logits] }, /answers no boxes/],
  "no scores": [{ outputs: [boxes, { ...logits, name: "scores" }] }, /answers scores, which this app does not know/],
  "boxes of fewer queries": [{ outputs: [logits, { ...boxes, shape: [1, 1, 4] }] }, /contradicts itself: 2 queries/],
  "boxes of five numbers": [{ outputs: [logits, { ...boxes, shape: [1, 2, 5] }] }, /contradicts itself/],
  "scores of no query": [{ outputs: [{ ...logits, shape: [6] }, boxes] }, /labels for 5 scores|contradicts itself/],
  "a label too many": [{ spec: { model: "m", labels: ["a", "b", "c"], config: { num_queries: 2 } } }, /has 3 labels for 2 scores/],
  "boxes and no queries": [{ spec: { model: "m", labels: null } }, /answers boxes, which this app does not know/],
  "half a query": [{ spec: { model: "m", labels: null, config: { num_queries: 0.5 } } }, /spec is missing or wrong/],
};
for (const [what, [change, message]] of Object.entries(refused)) {
  test(`a detector with ${what} is refused with the reason`, () => {
    assert.throws(() => readManifest(detector(SMALL, change)), (error) => error instanceof ArtifactError && message.test(error.message));
  });
}

test("an answer that is not a number is a line", () => {
  for (const place of [0, 13]) {
    const answer = new Float32Array(14).fill(0.5);
    answer[place] = NaN;
    assert.throws(() => objectsOf(answer, readManifest(detector(SMALL)), { width: 4, height: 4 }, 0.5), ArtifactError);
  }
});

let app;
let results;
const show = (values) => results.show({ scores: Float32Array.from(values), picture: { width: 4, height: 2 }, ms: [1], wholeMs: [2] }, readManifest(detector(SMALL)));
const FOUND = [9, 0, 0, 0, 1, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.2, 0.2]; // a cat at 99.98%, a dog at 58%
beforeEach(() => {
  app = { least: LEAST_SHARE };
  results = new Results(app);
  page.element().append(results.element, results.overlay);
});

test("boxes lie over the picture and stand in a list", () => {
  show(FOUND);
  assert.equal(results.overlay.hidden, false);
  assert.match(results.overlay.textContent, /^cat 100%$/);
  assert.match(results.element.textContent, /70%.*cat 100\.0%/);
  assert.doesNotMatch(results.element.textContent, /dog/);
  results.hide();
  assert.equal(results.overlay.hidden, true);
});

test("the slider shows more or fewer, here and on the other screens", () => {
  show(FOUND);
  const slider = [...results.element.shown()].find(({ type }) => type === "range");
  slider.value = "50";
  slider.dispatchEvent(new Event("input"));
  assert.match(results.overlay.textContent, /dog 58% cat 100%/); // the surest on top
  assert.equal(app.least, 0.5);
  app.least = 0.95;
  results.refresh();
  assert.match(results.overlay.textContent, /^cat 100%$/);
  assert.equal(slider.value, 95);
});

test("nothing found is said", () => {
  show([0, 0, 9, 0, 0, 9, ...new Array(8).fill(0.5)]);
  assert.match(results.element.textContent, /Nothing is as sure as 70%/);
  assert.equal(results.overlay.children.length, 0);
});

test("a classifier after a detector leaves no boxes", () => {
  show(FOUND);
  results.show({ scores: Float32Array.of(3, 1, 2), picture: {}, ms: [1], wholeMs: [1] }, readManifest(JSON.stringify(MANIFEST)));
  assert.equal(results.overlay.hidden, true);
  assert.match([...results.element.shown()].map(({ textContent }) => textContent).join(" "), /cat.*ship.*dog/);
});
