import assert from "node:assert/strict";
import { test } from "node:test";

import { Engine, gpuPrecision, webGPURefuses } from "../../web_demo/src/engine.js";
import { verifyCases } from "../../web_demo/src/verification.js";
import { readManifest } from "../../web_demo/src/manifest.js";
import { readReference } from "../../web_demo/src/safetensors.js";
import { MANIFEST, reference } from "./files.js";

/** LiteRT.js as far as the engine uses it; it counts the tensors that live. */
function library({ fails = null } = {}) {
  const living = new Set();
  class Tensor {
    constructor(values, shape) {
      Object.assign(this, { values, shape });
      living.add(this);
    }
    async moveTo(place) {
      if (fails === `move to ${place}`) throw new Error("device lost");
      this.delete(); // as LiteRT.js does
      return new Tensor(this.values, this.shape);
    }
    toTypedArray() {
      if (fails === "read") throw new Error("cannot map");
      return this.values;
    }
    delete() {
      living.delete(this);
    }
  }
  const model = {
    async run() {
      if (fails === "run") throw new Error("out of\nmemory");
      return [new Tensor(Float32Array.of(1, 2, 3))];
    },
  };
  return { living, model, library: { api: { Tensor }, version: "2.5.3", threads: true } };
}

for (const accelerator of ["wasm", "webgpu"]) {
  test(`every tensor is deleted after a run on ${accelerator}`, async () => {
    const fake = library();
    const engine = new Engine(fake.library, fake.model, accelerator, null, [{ name: null, shape: [1, 1, 1, 3] }]);
    const { output, ms } = await engine.run(Float32Array.of(0, 0, 0));
    assert.deepEqual(output, Float32Array.of(1, 2, 3));
    assert.ok(ms >= 0);
    assert.equal(fake.living.size, 0);
  });
}

for (const fails of ["move to webgpu", "run", "move to wasm", "read"]) {
  test(`every tensor is deleted where it fails: ${fails}`, async () => {
    const fake = library({ fails });
    const engine = new Engine(fake.library, fake.model, "webgpu", null, [{ name: null, shape: [1, 1, 1, 3] }]);
    await assert.rejects(engine.run(Float32Array.of(0, 0, 0)), /^Error: webgpu fails while it computes: [^\n]+$/);
    assert.equal(fake.living.size, 0);
  });
}

test("float16 is asked of a GPU for files of float16 alone, where it has it", () => {
  assert.equal(gpuPrecision("fp16", new Set(["shader-f16"])), "fp16");
  assert.equal(gpuPrecision("fp16", new Set()), "fp32");
  assert.equal(gpuPrecision("fp32", new Set(["shader-f16"])), "fp32");
});

test("WebGPU is not for integers", () => {
  assert.match(webGPURefuses("int4-weight"), /^not for int4-weight: /);
  for (const precision of ["fp32", "fp16", "int8-dynamic", "toString", undefined]) assert.equal(webGPURefuses(precision), null);
});

const artifact = {
  manifest: readManifest(JSON.stringify({
    ...MANIFEST,
    app_input: { ...MANIFEST.app_input, shape: [1, 2, 1, 3], resizing: { ...MANIFEST.app_input.resizing, size: [2], center_crop: [2, 1] } },
  })),
  reference: readReference(reference(), { sizes: [{ height: 2, width: 1 }], heads: [{ name: "logits", size: 3 }], integers: false }),
};

test("verification runs all cases in order, warms up, and times", async () => {
  const asked = [];
  const answers = [Float32Array.of(1, 2, 3), Float32Array.of(-1, 0, 1)];
  const engine = { run: async (values) => (asked.push(values), { output: answers[Math.min(asked.length - 1, 1)], ms: asked.length }) };
  const steps = [];
  const result = await verifyCases(engine, artifact, (done, all) => steps.push(done / all));
  assert.deepEqual(result.answers.map(({ name }) => name), ["china", "zeros"]);
  assert.deepEqual(result.found, { worstDb: 200, same: 2, cases: 2 });
  assert.deepEqual(asked[0], Float32Array.from([0, 2, 4, 1, 3, 5], (byte) => byte / 255)); // planes became pixels
  const { inference_ms: times } = result.latency;
  assert.deepEqual([result.latency.warm_up, times.samples[0]], [5, 8]); // after two cases and five runs
  assert.ok(times.samples.length >= 3 && times.samples.length <= 50);
  assert.equal(steps.at(-1), 1);
});

test("of several outputs each is compared, and the worst one is said", async () => {
  const heads = [{ name: "logits", start: 0, size: 2, kind: "scores" }, { name: "pets", start: 2, size: 3, kind: "scores" }];
  const [first, second] = [Float32Array.of(3, 1, 5, 0, 2), Float32Array.of(0, 4, 1, 7, 2)];
  const reference = { cases: [{ name: "a", counted: true, place: 0 }, { name: "b", counted: true, place: 0 }], first: () => 0, image: () => new Uint8Array(6), answer: (index) => [first, second][index] };
  const answers = [first, Float32Array.of(0, 4, 7, 1, 2)]; // of the second case, the wrong pet
  const engine = { run: async () => ({ output: answers.shift() ?? first, ms: 1 }) };
  const { found } = await verifyCases(engine, { manifest: { ...artifact.manifest, heads, scores: 5 }, reference }, () => {});
  assert.deepEqual(found.outputs.map(({ name, same }) => [name, same]), [["logits", 2], ["pets", 1]]);
  assert.deepEqual([found.same, found.worstDb, found.outputs[0].worstDb], [1, found.outputs[1].worstDb, 200]);
});

test("a file with another number of scores is no answer", async () => {
  const engine = { run: async () => ({ output: Float32Array.of(1), ms: 1 }) };
  await assert.rejects(verifyCases(engine, artifact, () => {}), /answers 1 scores, not 3/);
});
