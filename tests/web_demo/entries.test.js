import assert from "node:assert/strict";
import { test } from "node:test";

import "./page.js";
import { objectsOf } from "../../web_demo/src/detection.js";
import { Engine } from "../../web_demo/src/engine.js";
import { answeredBy, nearestEntry } from "../../web_demo/src/entries.js";
import { ArtifactError } from "../../web_demo/src/errors.js";
import { readManifest } from "../../web_demo/src/manifest.js";
import { finishedRun } from "../../web_demo/src/report.js";
import { Results } from "../../web_demo/src/results.js";
import { readReference } from "../../web_demo/src/safetensors.js";
import { classify } from "../../web_demo/src/session.js";
import { verifyCases } from "../../web_demo/src/verification.js";
import { golden, MANIFEST, safetensors } from "./files.js";

const SIZES = [[2, 2], [2, 4], [4, 2]]; // height and width

function input([height, width], change = {}) {
  const resizing = { mode: "shorter side", size: [2], filter: "bilinear", antialias: true, center_crop: [height, width] };
  return { ...MANIFEST.app_input, shape: [1, height, width, 3], resizing, ...change };
}

function entry(place, change = {}) {
  const [height, width] = SIZES[place];
  const name = place ? `image_${height}x${width}` : "serving_default";
  return { name, image_size: [height, width], app_input: input([height, width]), inputs: [], outputs: MANIFEST.outputs, operators: {}, ...change };
}

const document = (change = {}) => ({
  ...MANIFEST,
  schema: 2,
  spec: { ...MANIFEST.spec, image_sizes: SIZES },
  app_input: input(SIZES[0]),
  entries: SIZES.map((_, place) => entry(place)),
  ...change,
});
const read = (change) => readManifest(JSON.stringify(document(change)));
const changed = (place, change) => ({ entries: SIZES.map((_, each) => entry(each, each === place ? change : {})) });

for (const { sizes, pictures } of JSON.parse(new TextDecoder().decode(golden("entries.json")))) {
  test(`a picture takes the nearest aspect ratio of ${sizes.join(" ")}`, () => {
    const entries = sizes.map(([height, width]) => ({ height, width }));
    for (const { entry, ...picture } of pictures) assert.equal(nearestEntry(entries, picture), entry, JSON.stringify(picture));
  });
}

test("the entries of a manifest are read, the first as the file's own", () => {
  const { entries, input: own } = read();
  assert.deepEqual(entries.map(({ name, height, width }) => [name, height, width]), [["serving_default", 2, 2], ["image_2x4", 2, 4], ["image_4x2", 4, 2]]);
  assert.deepEqual(own, entries[0].input);
});

const others = [...MANIFEST.outputs, { name: "pets", shape: [1, 2], dtype: "float32" }];
const refused = {
  "schema 1": [{ schema: 1 }, /schema 1 with entries/],
  "no entries": [{ entries: undefined }, /schema 2 without entries/],
  "a single entry": [{ entries: [entry(0)] }, /it has 1 entries, not 2 to 16/],
  "more than 16": [{ entries: Array(17).fill(entry(0)) }, /it has 17 entries/],
  "no list": [{ entries: {} }, /entries is missing or wrong/],
  "sizes that are not the spec's": [{ spec: { ...MANIFEST.spec, image_sizes: SIZES.slice(0, 2) } }, /spec\.image_sizes are not those of the entries, 2x2, 2x4, 4x2/],
  "sizes that the spec lacks": [{ spec: MANIFEST.spec }, /spec\.image_sizes are not/],
  "another name": [changed(1, { name: "image_4x2" }), /the entry for 2x4 is called image_4x2, not image_2x4/],
  "a first entry of another name": [changed(0, { name: "image_2x2" }), /is called image_2x2, not serving_default/],
  "no name": [changed(1, { name: undefined }), /entries is missing or wrong/],
  "the input of another size": [changed(2, { app_input: input([2, 4]) }), /image_4x2 takes 2x4, and is for 4x2/],
  "a crop of another size": [changed(2, { app_input: input([4, 2], { resizing: input([2, 4]).resizing }) }), /its input is not float32/],
  "channels first": [changed(1, { app_input: input([2, 4], { layout: "NCHW", shape: [1, 3, 2, 4] }) }), /its input is not float32/],
  "no input": [changed(1, { app_input: null }), /entries is missing or wrong/],
  "another range": [changed(1, { app_input: input([2, 4], { range: [0, 255] }) }), /image_2x4 does not take and answer what the file does/],
  "an input of another name": [changed(1, { app_input: input([2, 4], { name: "x" }) }), /image_2x4 does not take and answer/],
  "other outputs": [changed(2, { outputs: others }), /image_4x2 does not take and answer/],
  "a first entry that is not the file's": [{ app_input: input([2, 4]) }, /serving_default does not take and answer what the file does at 2x4/],
};
for (const [what, [change, message]] of Object.entries(refused)) {
  test(`a manifest of several sizes with ${what} is refused with the reason`, () => {
    assert.throws(() => read(change), (error) => {
      assert.ok(error instanceof ArtifactError);
      assert.match(error.message, message);
      return true;
    });
  });
}

test("a size that is there twice is refused", () => {
  const spec = { ...MANIFEST.spec, image_sizes: [[2, 2], [2, 4], [2, 4]] };
  assert.throws(() => read({ spec, entries: [entry(0), entry(1), entry(1)] }), /2x4 has two entries/);
});

test("a file of one size whose spec has several is refused", () => {
  const one = { ...MANIFEST, spec: { ...MANIFEST.spec, image_sizes: SIZES } };
  assert.throws(() => readManifest(JSON.stringify(one)), /spec has image_sizes, and there are no entries/);
});

const ramp = (length) => Uint8Array.from({ length }, (_, i) => i);
const CASES = ["noise", "zeros", "noise at 2x4", "noise at 4x2"].map((name) => ({ name, role: "view" }));
function vectors(change = {}) {
  const tensors = {
    images: { dtype: "U8", shape: [2, 3, 2, 2], data: ramp(24) },
    images_2x4: { dtype: "U8", shape: [1, 3, 2, 4], data: ramp(24) },
    images_4x2: { dtype: "U8", shape: [1, 3, 4, 2], data: ramp(24).reverse() },
    logits: { dtype: "F32", shape: [4, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 2) },
    ...change,
  };
  const kept = Object.fromEntries(Object.entries(tensors).filter(([, tensor]) => tensor));
  return readReference(safetensors(kept, { cases: JSON.stringify(CASES) }), { sizes: read().entries, heads: read().heads, integers: false });
}

test("reference vectors hold the cases of all sizes in order", () => {
  const { cases, image, first, answer } = vectors();
  assert.deepEqual(cases.map(({ name, place }) => [name, place]), [["noise", 0], ["zeros", 0], ["noise at 2x4", 1], ["noise at 4x2", 2]]);
  assert.deepEqual([0, 1, 2].map(first), [0, 2, 3]);
  assert.deepEqual(image(1), Uint8Array.from({ length: 12 }, (_, i) => 12 + i));
  assert.deepEqual([image(2)[0], image(3)[0]], [0, 23]);
  assert.deepEqual(answer(3), Float32Array.of(1, 0, 2));
});

for (const [what, change, message] of [
  ["no images of a size", { images_4x2: undefined }, /has no images_4x2/],
  ["images of another size", { images_4x2: { dtype: "U8", shape: [1, 3, 2, 4], data: ramp(24) } }, /images_4x2 are \[1, 3, 2, 4\], expected \[1, 3, 4, 2\]/],
  ["an empty size", { images_4x2: { dtype: "U8", shape: [0, 3, 4, 2], data: ramp(0) } }, /images_4x2 are \[0, 3, 4, 2\], expected \[1, /],
  ["an image without a case", { images_4x2: { dtype: "U8", shape: [2, 3, 4, 2], data: ramp(48) } }, /has 5 images and names 4 cases/],
  ["fewer answers", { logits: { dtype: "F32", shape: [3, 3], data: new Float32Array(9) } }, /logits are \[3, 3\], expected 4 cases of 3/],
  ["one image of no dimensions", { images_4x2: { dtype: "U8", shape: [], data: ramp(1) } }, /images_4x2 are \[\]/],
]) {
  test(`reference vectors of several sizes with ${what} are refused`, () => assert.throws(() => vectors(change), { name: "Error", message }));
}

/** A compiled file whose signatures answer with their place. */
function model() {
  const living = new Set();
  class Tensor {
    constructor(values, shape) {
      Object.assign(this, { values, shape });
      living.add(this);
    }
    toTypedArray() {
      return this.values;
    }
    delete() {
      living.delete(this);
    }
  }
  const asked = [];
  const run = (name, place) => async ({ shape }) => (asked.push([name, shape.join()]), [new Tensor(Float32Array.of(place, place, 9))]);
  const names = read().entries.map(({ name }) => name);
  const signatures = Object.fromEntries(names.map((name, place) => [name, { run: run(name, place) }]));
  const library = { api: { Tensor }, version: "2.5.3", threads: false };
  const entries = read().entries.map(({ name, input: { shape } }) => ({ name, shape }));
  return { engine: new Engine(library, { signatures, run: run("default", 7) }, "wasm", null, entries), asked, living };
}

const picture = (width, height) => ({ width, height, data: new Uint8Array(width * height * 3) });

test("a picture runs in the entry that it takes, with that entry's resizing", async () => {
  const { engine, asked, living } = model();
  for (const [width, height, place, shape] of [[9, 4, 1, "1,2,4,3"], [4, 9, 2, "1,4,2,3"], [5, 5, 0, "1,2,2,3"]]) {
    const { scores, seen } = await classify(engine, read(), picture(width, height));
    assert.equal(scores[0], place);
    assert.deepEqual([seen.height, seen.width], SIZES[place]);
    assert.deepEqual(asked.pop(), [read().entries[place].name, shape]);
  }
  assert.equal(living.size, 0);
});

test("verification runs each case in its entry, and times every entry", async () => {
  const { engine, asked } = model();
  const { answers, found, latency } = await verifyCases(engine, { manifest: read(), reference: vectors() }, () => {});
  assert.deepEqual(answers.map(({ name, output }) => [name, output[0]]), [["noise", 0], ["zeros", 0], ["noise at 2x4", 1], ["noise at 4x2", 2]]);
  assert.deepEqual(asked.slice(0, 4).map(([name]) => name), ["serving_default", "serving_default", "image_2x4", "image_4x2"]);
  assert.equal(found.same, 3); // the third case has another best class
  assert.deepEqual(latency.entries.map(({ name }) => name), read().entries.map(({ name }) => name));
  assert.deepEqual(latency.inference_ms, latency.entries[0].inference_ms);
  for (const { inference_ms: run, with_preprocessing_ms: whole } of latency.entries) assert.ok(run.samples.length >= 3 && whole.samples.length >= 3);
  const { cases } = finishedRun(engine, read().heads, answers, latency);
  assert.equal(cases.length, 4);
});

test("a screen says which entry answered, and nothing where there is one", () => {
  const manifest = read();
  assert.equal(answeredBy(manifest, { width: 640, height: 300 }), "Answered by image_2x4: 4×2 pixels");
  assert.equal(answeredBy(readManifest(JSON.stringify(MANIFEST)), { width: 640, height: 300 }), "");
  const results = new Results({});
  results.show({ scores: Float32Array.of(3, 1, 2), picture: { width: 3, height: 9 }, ms: [1], wholeMs: [1] }, manifest);
  assert.match(results.element.textContent, /Answered by image_4x2: 2×4 pixels/);
});

test("boxes go back through the resizing of the entry that answered", () => {
  const outputs = [{ name: "logits", shape: [1, 1, 2], dtype: "float32" }, { name: "boxes", shape: [1, 1, 4], dtype: "float32" }];
  const spec = { model: "d", config: { num_queries: 1 }, image_sizes: SIZES };
  const manifest = read({ spec, outputs, entries: SIZES.map((_, place) => entry(place, { outputs })) });
  const [found] = objectsOf(Float32Array.of(9, 0, 0.5, 0.5, 1, 1), manifest, { width: 400, height: 200 }, 0.5);
  assert.deepEqual([found.left, found.right], [0, 1]); // the square entry would show the middle half
  const [square] = objectsOf(Float32Array.of(9, 0, 0.5, 0.5, 1, 1), manifest, { width: 200, height: 200 }, 0.5);
  assert.deepEqual([square.left, square.right], [0, 1]);
});
