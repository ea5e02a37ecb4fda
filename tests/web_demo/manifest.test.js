import assert from "node:assert/strict";
import { test } from "node:test";

import { ArtifactError } from "../../web_demo/src/errors.js";
import { readConfig, readIndex, readManifest, valuesOf } from "../../web_demo/src/manifest.js";
import { MANIFEST } from "./files.js";

const read = (change) => readManifest(JSON.stringify({ ...MANIFEST, ...change }));
const input = (change) => ({ app_input: { ...MANIFEST.app_input, ...change } });
const resizing = (change) => input({ resizing: { ...MANIFEST.app_input.resizing, ...change } });

test("what the app uses is read", () => {
  const manifest = read({});
  assert.equal(manifest.model, "mobilevit_xxs");
  assert.deepEqual(manifest.entries, [{ name: null, input: MANIFEST.app_input, height: 64, width: 48 }]);
  assert.equal(manifest.scores, 3);
  assert.deepEqual(manifest.heads, [{ name: "logits", size: 3, start: 0, kind: "scores", labels: ["cat", "dog", "ship"], shape: [1, 3] }]);
});

test("labels may be missing", () => {
  assert.equal(read({ spec: { model: "m", labels: null } }).heads[0].labels, null);
  assert.equal(read({ spec: { model: "m" } }).heads[0].labels, null);
});

test("every task has its own labels, and a place in the answer", () => {
  const outputs = [...MANIFEST.outputs, { name: "pets", shape: [1, 2], dtype: "float32" }];
  const spec = { ...MANIFEST.spec, tasks: [{ name: "pets", num_classes: 2, cells: 5, labels: ["dog", "fish"] }] };
  const manifest = read({ outputs, spec });
  assert.equal(manifest.scores, 5);
  assert.deepEqual(manifest.heads.map(({ name, start, labels }) => [name, start, labels.length]), [["logits", 0, 3], ["pets", 3, 2]]);
  assert.deepEqual(valuesOf(Float32Array.of(1, 2, 3, 4, 5), manifest.heads[1]), Float32Array.of(4, 5));
  const wrong = { ...spec, tasks: [{ name: "pets", labels: ["dog"] }] };
  assert.throws(() => read({ outputs, spec: wrong }), /has 1 labels for 2 scores/);
  assert.throws(() => read({ outputs }), /answers pets, which this app does not know/);
});

test("a single output may have any name in the file", () => {
  const outputs = [{ ...MANIFEST.outputs[0], name: "Identity" }];
  assert.equal(read({ outputs }).heads[0].name, "logits");
  assert.equal(read({ outputs, spec: { model: "m", features: "pooled" } }).heads[0].name, "features");
});

const refused = {
  "another schema": [{ schema: 3 }, /schema is missing or wrong/],
  "a file in another folder": [{ file: "../secret.tflite" }, /file is missing or wrong/],
  "a hidden file": [{ file: ".tflite" }, /file is missing or wrong/],
  "an address": [{ file: "https://example.org/x.tflite" }, /file is missing or wrong/],
  "no hash": [{ sha256: undefined }, /sha256 is missing or wrong/],
  "a hash that is none": [{ sha256: "0".repeat(63) }, /sha256 is missing or wrong/],
  "wrong labels": [{ spec: { model: "m", labels: ["cat", 1] } }, /spec is missing or wrong/],
  "too few labels": [{ spec: { model: "m", labels: ["cat", "dog"] } }, /has 2 labels for 3 scores/],
  "a Core ML file": [{ format: "coreml", file: "m.mlpackage" }, /m\.mlpackage is for coreml; in a browser run files for tflite/],
  "an ExecuTorch file": [{ format: "executorch", file: "m.pte" }, /m\.pte is for executorch; in a browser run files for tflite/],
  "an input that is no picture": [{ app_input: null }, /does not take one picture/],
  "an unknown filter": [resizing({ filter: "lanczos" }), /app_input is missing or wrong/],
  "no antialiasing": [resizing({ antialias: false }), /app_input is missing or wrong/],
  "a crop of another size": [resizing({ center_crop: [64, 64] }), /contradicts itself/],
  "channels first": [input({ layout: "NCHW", shape: [1, 3, 64, 48] }), /contradicts itself/],
  "an input of bytes": [input({ dtype: "uint8" }), /contradicts itself/],
  "a range that is none": [input({ range: [1, 0] }), /app_input is missing or wrong/],
  "two outputs": [{ outputs: [MANIFEST.outputs[0], MANIFEST.outputs[0]] }, /answers logits, which this app does not know/],
};
for (const [what, [change, message]] of Object.entries(refused)) {
  test(`${what} is refused with the reason`, () => {
    assert.throws(() => read(change), (error) => {
      assert.ok(error instanceof ArtifactError);
      assert.match(error.message, message);
      return true;
    });
  });
}

for (const json of ["", "{", "null", "[]", '"text"', "<html>", "0"]) {
  test(`what is no manifest is refused: ${json || "nothing"}`, () => {
    assert.throws(() => readManifest(json), ArtifactError);
  });
}

test("squashing names height and width", () => {
  const squash = { mode: "squash", size: [64, 48], center_crop: null };
  assert.equal(read(resizing(squash)).entries[0].width, 48);
  assert.throws(() => read(resizing({ ...squash, size: [64] })), /contradicts itself/);
});

test("the index names folders, not paths", () => {
  assert.deepEqual(readIndex('{"artifacts": [{"name": "a-tflite-fp32"}, {"name": "b"}]}'), ["a-tflite-fp32", "b"]);
  for (const json of ['{"artifacts": []}', '{"artifacts": [{"name": ".."}]}', '{"artifacts": [{"name": "a/b"}]}', "{}", "["]) {
    assert.throws(() => readIndex(json), ArtifactError);
  }
});

test("reports go to this server or nowhere", () => {
  assert.deepEqual(readConfig('{"reports": "reports", "app_version": "0.1.0"}'), { reports: "reports", version: "0.1.0" });
  assert.equal(readConfig('{"reports": null, "app_version": "0.1.0"}').reports, null);
  assert.throws(() => readConfig('{"reports": "https://example.org", "app_version": "0.1.0"}'), ArtifactError);
});
