import assert from "node:assert/strict";
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, test } from "node:test";
import { pathToFileURL } from "node:url";

import { Engine } from "../../web_demo/src/engine.js";

/** A LiteRT.js that compiles as `globalThis.compiles` says: {accelerator, isFullyAccelerated, inputs, outputs}. */
const LIBRARY = `
export class Tensor { delete() {} }
export const supportsFeature = async () => false;
let device;
export const loadLiteRt = async () => {
  device = { features: new Set() };
  device.lost = new Promise((lose) => (device.lose = lose));
};
export const unloadLiteRt = () => (device = null);
export const getWebGpuDevice = () => device;
export async function loadAndCompile(file, options) {
  globalThis.compiles.device = device;
  const { accelerator = options.accelerator, isFullyAccelerated = true, inputs, outputs } = globalThis.compiles;
  return {
    options: { accelerator },
    isFullyAccelerated,
    signatures: globalThis.compiles.signatures,
    getInputDetails: () => inputs,
    getOutputDetails: () => outputs,
    run: globalThis.compiles.run,
    delete: () => (globalThis.compiles.deleted = true),
  };
}`;

const folder = mkdtempSync(join(tmpdir(), "litert-"));
mkdirSync(join(folder, "core"));
writeFileSync(join(folder, "core", "index.js"), LIBRARY);
writeFileSync(join(folder, "core", "package.json"), JSON.stringify({ type: "module", version: "2.5.3" }));
after(() => rmSync(folder, { recursive: true }));

const page = {
  document: { baseURI: pathToFileURL(folder + "/").href },
  isSecureContext: true,
  navigator: { gpu: { requestAdapter: async () => ({}) } },
  fetch: async () => ({ ok: true, json: async () => ({ version: "2.5.3" }) }),
};
for (const [name, value] of Object.entries(page)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });

const INPUT = { dtype: "float32", shape: [1, 2, 2, 3] };
const OUTPUT = { dtype: "float32", shape: [1, 3] };
beforeEach(() => {
  globalThis.compiles = { inputs: [INPUT], outputs: [OUTPUT] };
});

const open = (accelerator) => Engine.open(new Uint8Array(1), { base: "./", accelerator, precision: "fp32", entries: [{ name: null, shape: [1, 2, 2, 3] }], outputs: ["logits"] });

test("an engine says what was asked of it, and runs there", async () => {
  const [wasm, webgpu] = [await open("wasm"), await open("webgpu")];
  assert.deepEqual([wasm.accelerator, wasm.precision, wasm.fullyAccelerated, wasm.version], ["wasm", null, null, "2.5.3"]);
  assert.deepEqual([webgpu.accelerator, webgpu.precision, webgpu.fullyAccelerated], ["webgpu", "fp32", true]);
});

for (const [name, compiles] of [
  ["compiled for WASM instead", { accelerator: "wasm" }],
  ["taken by WebGPU in part", { isFullyAccelerated: false }],
]) {
  test(`a file ${name} is refused, and closed`, async () => {
    Object.assign(globalThis.compiles, compiles);
    await assert.rejects(open("webgpu"), /does not run wholly on webgpu/);
    assert.equal(globalThis.compiles.deleted, true);
  });
}

test("a GPU that was taken away is asked for again", async () => {
  await open("webgpu");
  const { device } = globalThis.compiles;
  await open("webgpu");
  assert.equal(globalThis.compiles.device, device);
  device.lose({ reason: "unknown" });
  await device.lost;
  await open("wasm"); // which needs none
  assert.equal(globalThis.compiles.device, device);
  await open("webgpu");
  assert.notEqual(globalThis.compiles.device, device);
});

test("on WASM nothing need be accelerated", async () => {
  globalThis.compiles.isFullyAccelerated = false;
  assert.equal((await open("wasm")).fullyAccelerated, null);
});

for (const [name, compiles, words] of [
  ["input of another shape", { inputs: [{ ...INPUT, shape: [1, 3, 2, 2] }] }, /takes float32 \[1, 3, 2, 2\], not float32 \[1, 2, 2, 3\]/],
  ["input of integers", { inputs: [{ ...INPUT, dtype: "int8" }] }, /takes int8 /],
  ["second input", { inputs: [INPUT, INPUT] }, /not float32 \[1, 2, 2, 3\]$/],
  ["second output", { outputs: [OUTPUT, OUTPUT] }, /has 2 outputs of float32, float32, not 1 of float32/],
  ["output of integers", { outputs: [{ ...OUTPUT, dtype: "int32" }] }, /has 1 outputs of int32, not 1 of float32/],
]) {
  test(`a file is refused, and closed, for its ${name}`, async () => {
    Object.assign(globalThis.compiles, compiles);
    await assert.rejects(open("wasm"), words);
    assert.equal(globalThis.compiles.deleted, true);
  });
}

test("outputs are answered by name, in whatever order the file has them", async () => {
  const pets = { ...OUTPUT, name: "pets" };
  const both = { base: "./", accelerator: "wasm", precision: "fp32", entries: [{ name: null, shape: [1, 2, 2, 3] }], outputs: ["logits", "pets"] };
  Object.assign(globalThis.compiles, { inputs: [INPUT], outputs: [pets, { ...OUTPUT, name: "logits" }] });
  const answers = [Float32Array.of(3), Float32Array.of(1, 2)];
  globalThis.compiles.run = async () => answers.map((values) => ({ toTypedArray: () => values, delete() {} }));
  const engine = await Engine.open(new Uint8Array(1), both);
  assert.deepEqual((await engine.run(new Float32Array(12))).output, Float32Array.of(1, 2, 3));
  globalThis.compiles.outputs = [pets, { ...OUTPUT, name: "food" }];
  await assert.rejects(Engine.open(new Uint8Array(1), both), /has the outputs pets, food, not logits, pets/);
});

test("every entry is a signature that takes its shape and answers by name", async () => {
  const entries = [{ name: "serving_default", shape: [1, 2, 2, 3] }, { name: "image_2x4", shape: [1, 2, 4, 3] }];
  const several = (shape, outputs = [OUTPUT]) => ({ getInputDetails: () => [{ ...INPUT, shape }], getOutputDetails: () => outputs });
  const open = () => Engine.open(new Uint8Array(1), { base: "./", accelerator: "wasm", precision: "fp32", entries, outputs: ["logits"] });
  const signatures = { serving_default: several([1, 2, 2, 3]), image_2x4: several([1, 2, 4, 3]) };
  globalThis.compiles.signatures = signatures;
  await open();
  for (const [changed, words] of [
    [{ serving_default: signatures.serving_default }, /has no signature image_2x4/],
    [{ ...signatures, image_2x4: several([1, 4, 2, 3]) }, /takes float32 \[1, 4, 2, 3\], not float32 \[1, 2, 4, 3\]/],
    [{ ...signatures, image_2x4: several([1, 2, 4, 3], [OUTPUT, OUTPUT]) }, /has 2 outputs/],
  ]) {
    globalThis.compiles.signatures = changed;
    await assert.rejects(open(), words);
  }
});
