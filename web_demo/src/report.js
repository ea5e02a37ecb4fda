/** The device report: one JSON document that ends with the SHA-256 of all bytes before its digits. */

import { oneLine } from "./errors.js";
import { valuesOf } from "./manifest.js";
import { sha256 } from "./sha256.js";

/**
 * @param {{app: object, device: object, artifact: object, created: Date, runs: object[]}} content as the schema has it
 * @returns {Promise<Uint8Array>} the document
 */
export async function sealReport({ app, device, artifact, created, runs }) {
  const whole = JSON.stringify({ schema: 1, app, device, artifact, created: created.toISOString(), runs, digest: "" });
  const before = whole.slice(0, -2); // up to the digest's digits
  const encoder = new TextEncoder();
  return encoder.encode(`${before}${await sha256(encoder.encode(before))}"}`);
}

/**
 * A run with the answers to all cases, of each output.
 * @param {{name: string, start: number, size: number}[]} heads
 * @param {{name: string, output: Float32Array}[]} answers in their order
 */
export function finishedRun(engine, heads, answers, latency) {
  const outputs = (answer) => Object.fromEntries(heads.map((head) => [head.name, toBase64(valuesOf(answer, head))]));
  const cases = answers.map((each) => ({ name: each.name, outputs: outputs(each.output) }));
  return {
    ...runOn(engine.accelerator, engine.version),
    precision: engine.precision,
    fully_accelerated: engine.fullyAccelerated,
    cases,
    latency,
  };
}

/** A run that could not be: why, in one line. */
export function failedRun(accelerator, version, error) {
  return { ...runOn(accelerator, version), error: printable(oneLine(error), 2000) };
}

function runOn(accelerator, version) {
  return {
    runtime: "litert",
    runtime_version: version,
    accelerator,
    precision: null,
    fully_accelerated: null,
    cases: [],
    error: null,
    latency: null,
    peak_memory_bytes: null, // no browser tells it
    thermal_state: null,
  };
}

/** float32, little-endian, in base64 */
export function toBase64(values) {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, index) => view.setFloat32(4 * index, value, true));
  let text = "";
  for (const byte of new Uint8Array(view.buffer)) text += String.fromCharCode(byte);
  return btoa(text);
}

/** Text that a report takes: not empty, without control characters, of limited length. */
export function printable(text, longest = 200) {
  const clean = String(text).replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+|\p{Surrogate}/gu, " ").trim();
  return [...clean].slice(0, longest).join("") || "unknown"; // whole characters: half of one is no JSON
}

/** `mobilevit_xxs-tflite-fp32.Pixel-8.device-report.json` */
export function reportName(artifact, model) {
  const safe = (text) => text.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[-.]+|[-.]+$/g, "") || "device";
  return `${safe(artifact)}.${safe(model)}.device-report.json`;
}
