/** Small files for the tests, made here. */

import { readFileSync } from "node:fs";

/** A .safetensors file. @param {Object<string, {dtype: string, shape: number[], data: ArrayBufferView}>} tensors */
export function safetensors(tensors, metadata = undefined, change = (header) => header) {
  const header = metadata ? { __metadata__: metadata } : {};
  let end = 0;
  const parts = [];
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [end, end + data.byteLength] };
    end += data.byteLength;
    parts.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return withHeader(JSON.stringify(change(header)), ...parts);
}

export function withHeader(json, ...parts) {
  const header = new TextEncoder().encode(json);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(header.length), true);
  return join(length, header, ...parts);
}

export function join(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole.buffer;
}

/** Two cases of a 2x1 picture with three classes. */
export function reference(change = {}) {
  const cases = [
    { name: "china", contiguous: true, role: "view" },
    { name: "zeros", contiguous: true, role: "edge" },
  ];
  return safetensors(
    {
      images: { dtype: "U8", shape: [2, 3, 2, 1], data: Uint8Array.from({ length: 12 }, (_, i) => i) },
      logits: { dtype: "F32", shape: [2, 3], data: Float32Array.of(1, 2, 3, -1, 0, 1) },
      ...change.tensors,
    },
    { cases: JSON.stringify(change.cases ?? cases), ...change.metadata },
  );
}

export const MANIFEST = {
  schema: 1,
  file: "mobilevit_xxs.tflite",
  format: "tflite",
  precision: "fp32",
  bytes: 3661325,
  sha256: "4b598343a066d10aeda8f89fff7eccc38b0fde27c3c6b7e329876f21a7ca3568",
  spec: { model: "mobilevit_xxs", labels: ["cat", "dog", "ship"] },
  app_input: {
    name: "image",
    layout: "NHWC",
    shape: [1, 64, 48, 3],
    dtype: "float32",
    channel_order: "RGB",
    range: [0, 1],
    mean_and_std: "in the graph",
    resizing: { mode: "shorter side", size: [72], filter: "bicubic", antialias: true, center_crop: [64, 48] },
  },
  outputs: [{ name: "logits", shape: [1, 3], dtype: "float32" }],
};

export function golden(name) {
  const bytes = readFileSync(new URL(`../golden/${name}`, import.meta.url));
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
}
